/*
 * stop: stop strings in text that is still growing.
 *
 * The first one to be complete wins; of several that one piece of text
 * completes, the one that begins first, so that nothing behind a stop string
 * is ever shown.
 */
#include <string.h>

#include "complete/complete.h"

/* Bytes at the end of text[from..n) that may be the start of s. */
static size_t
may_begin(const char *text, size_t from, size_t n, const char *s, size_t len)
{
	size_t most = n - from < len - 1 ? n - from : len - 1;

	while (most && memcmp(text + n - most, s, most) != 0)
		most--;
	return most;
}

int
stop_find(const struct sample_params *p, const char *text, size_t from,
    size_t old, size_t n, size_t *safe)
{
	size_t best = n, held = 0;
	int found = -1;

	for (size_t i = 0; i < p->nstop && from <= n; i++) {
		size_t len = strlen(p->stop[i]), start, h;
		const char *at;

		/* a match that ends in old would have been found before */
		start = old >= len ? old - len + 1 : 0;
		if (start < from)
			start = from;
		at = n > start ? memmem(text + start, n - start, p->stop[i],
		    len) : NULL;
		if (at && (size_t)(at - text) < best) {
			best = (size_t)(at - text);
			found = (int)i;
		}
		h = may_begin(text, from, n, p->stop[i], len);
		if (h > held)
			held = h;
	}
	if (found == -1)
		*safe = n - held;
	else
		*safe = best + (p->include_stop ? strlen(p->stop[found]) : 0);
	return found;
}
