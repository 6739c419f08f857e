/*
 * near: the word that was probably meant.
 */
#include <string.h>

#include "base/base.h"

enum { NEAR_MAX = 96 };			/* longer words are near nothing */

static unsigned
least(unsigned a, unsigned b, unsigned c)
{
	if (b < a)
		a = b;
	return c < a ? c : a;
}

/* Levenshtein's distance, one row at a time. */
unsigned
near_edits(const char *a, size_t na, const char *b, size_t nb)
{
	unsigned row[NEAR_MAX + 1];

	if (na > NEAR_MAX || nb > NEAR_MAX)
		return UINT32_MAX;
	for (unsigned j = 0; j <= nb; j++)
		row[j] = j;
	for (unsigned i = 1; i <= na; i++) {
		unsigned diag = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= nb; j++) {
			unsigned up = row[j];

			row[j] = least(up + 1, row[j - 1] + 1,
			    diag + (a[i - 1] != b[j - 1]));
			diag = up;
		}
	}
	return row[nb];
}

bool
near_enough(const char *a, size_t na, const char *b, size_t nb)
{
	size_t most = na / 10 + 1;

	if (na >= 4 && nb > na && memcmp(a, b, na) == 0)
		return true;
	return na > 2 && near_edits(a, na, b, nb) <= most;
}
