/* A table of words with how often each was seen. */
#ifndef TABLE_H
#define TABLE_H

struct word {
	char *text;
	unsigned long count;
	struct word *next;
};

void table_add(const char *text);
/* table_sorted returns the words, the most frequent first, and their number. */
struct word **table_sorted(unsigned long *n);

#endif
