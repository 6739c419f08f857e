/*
 * note: what a command should tell, besides errors.
 */
#include <stdlib.h>
#include <string.h>

#include "deploy/priv.h"

static int
add(struct deploy *d, struct err *e, const char *fmt, va_list ap)
{
	char *text;

	if (mem_grow(&d->notice, &d->cap_notice, d->nnotice + 1,
	    sizeof(*d->notice), e) == -1)
		return -1;
	if (vasprintf(&text, fmt, ap) == -1)
		return err_set(e, ERR_SYSTEM, "no memory");
	d->notice[d->nnotice++] = text;
	return 0;
}

int
deploy_note(struct deploy *d, struct err *e, const char *fmt, ...)
{
	va_list ap;
	int rc;

	va_start(ap, fmt);
	rc = add(d, e, fmt, ap);
	va_end(ap);
	return rc;
}

int
deploy_doubt(struct deploy *d, struct err *e, const char *fmt, ...)
{
	char text[sizeof(e->msg)];
	va_list ap;
	int rc = 0;

	va_start(ap, fmt);
	if (d->strict)
		vsnprintf(text, sizeof(text), fmt, ap);
	else
		rc = add(d, e, fmt, ap);
	va_end(ap);
	return d->strict ? err_set(e, ERR_CALLER, "%s", text) : rc;
}

const char *
deploy_divisors(uint64_t n, uint64_t x, char out[64])
{
	uint64_t lo = x < n ? x : n, hi = x;

	while (lo > 0 && n % lo)
		lo--;
	while (hi <= n && (hi == 0 || n % hi))
		hi++;
	if (hi > n || hi == lo)
		snprintf(out, 64, "%llu would work", (unsigned long long)lo);
	else
		snprintf(out, 64, "%llu or %llu would work",
		    (unsigned long long)lo, (unsigned long long)hi);
	return out;
}
