/*
 * say: how a command talks on stderr and ends.  A line goes out in one write,
 * so that lines of several programs on one terminal don't mix.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"

enum { LINE = 2048 };

const char *prog = "dsi";

static void
vsay(const char *fmt, va_list ap)
{
	char line[LINE];
	int n, m;

	n = snprintf(line, sizeof(line), "%s: ", prog);
	if (n < 0 || n >= LINE - 1)
		n = 0;
	m = vsnprintf(line + n, sizeof(line) - (size_t)n, fmt, ap);
	if (m > 0)
		n = m < LINE - 1 - n ? n + m : LINE - 2;
	line[n++] = '\n';
	io_write(STDERR_FILENO, line, (size_t)n, NULL);
}

void
say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsay(fmt, ap);
	va_end(ap);
}

void
die(int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsay(fmt, ap);
	va_end(ap);
	exit(code);
}

void
die_err(const struct err *e)
{
	die(e->code ? e->code : ERR_SYSTEM, "%s",
	    e->msg[0] ? e->msg : "failed without a reason");
}

void
out_close(void)
{
	bool before = ferror(stdout);

	if (fflush(stdout) == EOF)
		die(ERR_SYSTEM, "write stdout: %s", strerror(errno));
	if (before)
		die(ERR_SYSTEM, "write stdout: output was lost");
}
