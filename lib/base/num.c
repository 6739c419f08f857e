/*
 * num: numbers from text, all of it or nothing.  strtoul and friends accept
 * blanks, signs, hex and trailing junk; nothing here does.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

/* Reads digits up to the first other byte; NULL when there is none or the
 * value does not fit. */
static const char *
digits(const char *s, uint64_t *out)
{
	uint64_t v = 0;

	if (*s < '0' || *s > '9')
		return NULL;
	for (; *s >= '0' && *s <= '9'; s++) {
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
			return NULL;
	}
	*out = v;
	return s;
}

int
num_u64(const char *s, uint64_t max, uint64_t *out)
{
	uint64_t v;

	s = digits(s, &v);
	if (!s || *s || v > max)
		return -1;
	*out = v;
	return 0;
}

int
num_i64(const char *s, int64_t min, int64_t max, int64_t *out)
{
	bool neg = *s == '-';
	uint64_t v;
	int64_t x;

	if (num_u64(s + neg, (uint64_t)INT64_MAX + neg, &v) == -1)
		return -1;
	x = neg ? (int64_t)(0 - v) : (int64_t)v;
	if (x < min || x > max)
		return -1;
	*out = x;
	return 0;
}

int
num_f64(const char *s, double *out)
{
	char *end;
	double x;

	/* keeps out blanks, a plus sign, hex, "inf" and "nan" */
	if (!*s || s[strspn(s, "0123456789.eE+-")] || *s == '+')
		return -1;
	x = strtod(s, &end);
	if (*end || end == s || !isfinite(x))
		return -1;
	*out = x;
	return 0;
}

int
num_bytes(const char *s, uint64_t *out)
{
	static const char units[] = "KMGT";
	const char *u;
	uint64_t v;
	unsigned shift = 0;

	s = digits(s, &v);
	if (!s)
		return -1;
	if (*s && (u = strchr(units, *s)) != NULL) {
		shift = 10 * (unsigned)(u - units + 1);
		s++;
		if (strcmp(s, "iB") == 0 || strcmp(s, "B") == 0)
			s += strlen(s);
	}
	if (*s || v > UINT64_MAX >> shift)
		return -1;
	*out = v << shift;
	return 0;
}
