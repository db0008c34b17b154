#include "table.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096

static struct word *buckets[BUCKETS];
static unsigned long words;

static unsigned hash(const char *s)
{
	unsigned h = 2166136261u;

	while (*s)
		h = (h ^ (unsigned char)*s++) * 16777619u;
	return h % BUCKETS;
}

void table_add(const char *text)
{
	struct word **at = &buckets[hash(text)];

	for (; *at; at = &(*at)->next) {
		if (strcmp((*at)->text, text) == 0) {
			(*at)->count++;
			return;
		}
	}
	*at = calloc(1, sizeof **at);
	if (!*at || !((*at)->text = strdup(text)))
		abort();
	(*at)->count = 1;
	words++;
}

static int order(const void *a, const void *b)
{
	const struct word *x = *(struct word *const *)a, *y = *(struct word *const *)b;

	if (x->count != y->count)
		return x->count < y->count ? 1 : -1;
	return strcmp(x->text, y->text);
}

struct word **table_sorted(unsigned long *n)
{
	struct word **list = malloc((words + 1) * sizeof *list);
	unsigned long i = 0;

	if (!list)
		abort();
	for (unsigned b = 0; b < BUCKETS; b++)
		for (struct word *w = buckets[b]; w; w = w->next)
			list[i++] = w;
	qsort(list, i, sizeof *list, order);
	*n = i;
	return list;
}
