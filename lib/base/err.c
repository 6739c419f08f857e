/*
 * err: one error, its text and its exit code.
 *
 * The text always stays one printable line: file names and JSON keys come
 * from outside and may hold newlines or terminal escapes.  Arguments may point
 * into e->msg itself; everything is formatted beside it first.
 */
#include <errno.h>
#include <string.h>

#include "base/base.h"

enum { MSG_MAX = sizeof(((struct err *)0)->msg) };

/* A cut must not leave half a UTF-8 sequence at the end. */
static void
trim_tail(char *s)
{
	size_t n = strlen(s), i = n;

	while (i > 0 && n - i < 4) {
		i--;
		if (((unsigned char)s[i] & 0xc0) != 0x80) {
			if (utf8_len(s + i, n - i) == 0)
				s[i] = '\0';
			return;
		}
	}
}

static void
store(struct err *e, const char *msg)
{
	size_t i;

	for (i = 0; i < MSG_MAX - 1 && msg[i]; i++) {
		unsigned char c = msg[i];

		e->msg[i] = c < 0x20 || c == 0x7f ? '?' : msg[i];
	}
	e->msg[i] = '\0';
	trim_tail(e->msg);
}

int
err_set(struct err *e, int code, const char *fmt, ...)
{
	char msg[MSG_MAX];
	va_list ap;

	if (!e)
		return -1;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	store(e, msg);
	e->code = code;
	return -1;
}

int
err_sys(struct err *e, const char *fmt, ...)
{
	int saved = errno;
	char what[MSG_MAX], msg[MSG_MAX + 128], why[128];
	va_list ap;

	if (!e)
		return -1;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	snprintf(msg, sizeof(msg), "%s: %s", what,
	    strerror_r(saved, why, sizeof(why)));
	store(e, msg);
	e->code = ERR_SYSTEM;
	errno = saved;
	return -1;
}

int
err_wrap(struct err *e, const char *fmt, ...)
{
	char context[MSG_MAX], msg[2 * MSG_MAX + 2];
	va_list ap;

	if (!e)
		return -1;
	va_start(ap, fmt);
	vsnprintf(context, sizeof(context), fmt, ap);
	va_end(ap);
	snprintf(msg, sizeof(msg), "%s: %s", context, e->msg);
	store(e, msg);
	return -1;
}
