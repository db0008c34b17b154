/* wordfreq prints the words of its input with how often they are there. */
#include <ctype.h>
#include <stdio.h>

#include "table.h"

int main(void)
{
	char word[256];
	size_t len = 0;
	int c;

	do {
		c = getchar();
		if (c != EOF && isalpha(c) && len < sizeof word - 1) {
			word[len++] = (char)tolower(c);
		} else if (len) {
			word[len] = 0;
			table_add(word);
			len = 0;
		}
	} while (c != EOF);

	unsigned long n;
	struct word **list = table_sorted(&n);
	for (unsigned long i = 0; i < n; i++)
		printf("%lu %s\n", list[i]->count, list[i]->text);
	return 0;
}
