/*
 * buf: a growing byte string that remembers when memory ran out, so that
 * writers of long output check once instead of at every put.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

/* Room for n more bytes and the NUL. */
static bool
reserve(struct buf *b, size_t n)
{
	size_t want;

	if (b->oom)
		return false;
	if (!add_ok(b->n, n, &want) || !add_ok(want, 1, &want) ||
	    mem_grow(&b->p, &b->cap, want, 1, NULL) == -1) {
		b->oom = true;
		return false;
	}
	return true;
}

void
buf_put(struct buf *b, const void *p, size_t n)
{
	if (!reserve(b, n))
		return;
	if (n)
		memcpy(b->p + b->n, p, n);
	b->n += n;
	b->p[b->n] = '\0';
}

void
buf_puts(struct buf *b, const char *s)
{
	buf_put(b, s, strlen(s));
}

void
buf_putc(struct buf *b, char c)
{
	buf_put(b, &c, 1);
}

void
buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0) {
		b->oom = true;
		return;
	}
	if (!reserve(b, n))
		return;
	va_start(ap, fmt);
	vsnprintf(b->p + b->n, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->n += n;
}

void
buf_clear(struct buf *b)
{
	b->n = 0;
	if (b->p)
		b->p[0] = '\0';
}

void
buf_free(struct buf *b)
{
	free(b->p);
	*b = (struct buf){0};
}

int
buf_ok(const struct buf *b, struct err *e)
{
	if (b->oom)
		return err_set(e, ERR_SYSTEM,
		    "out of memory after %zu bytes of text", b->n);
	return 0;
}
