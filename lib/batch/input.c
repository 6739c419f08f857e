/*
 * input: records from a pipe, a terminal or a file, without ever waiting for
 * one while there is other work.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "batch/batch.h"

enum { CHUNK = 1 << 16 };

/* 1: fd can be read; 0: not yet, or it is time to stop, or to end. */
static int
ready(struct input *in, bool wait, struct err *e)
{
	struct pollfd p[3] = {
		{ .fd = in->fd, .events = POLLIN },
		{ .fd = in->stop_fd, .events = POLLIN },
		{ .fd = wait ? in->end_fd : -1, .events = POLLIN },
	};

	while (poll(p, 3, wait ? -1 : 0) == -1) {
		if (errno != EINTR)
			return err_sys(e, "wait for input");
	}
	if (in->stop_fd >= 0 && p[1].revents) {
		in->stopped = in->eof = true;
		return 0;
	}
	return p[0].revents != 0;
}

static int
fill(struct input *in, struct err *e)
{
	char chunk[CHUNK];
	ssize_t r;

	if (in->start) {
		memmove(in->b.p, in->b.p + in->start, in->b.n - in->start);
		in->b.n -= in->start;
		in->looked -= in->start;
		in->start = 0;
	}
	while ((r = read(in->fd, chunk, sizeof(chunk))) == -1 &&
	    errno == EINTR)
		;
	if (r == -1)
		return err_sys(e, "read input");
	in->eof = r == 0;
	buf_put(&in->b, chunk, (size_t)r);
	return buf_ok(&in->b, e);
}

static bool
take(struct input *in, const char **p, size_t *n)
{
	const char *end = NULL;
	int sep = in->sep == INPUT_NUL ? '\0' : '\n';

	if (in->b.n > in->looked && in->sep != INPUT_ALL)
		end = memchr(in->b.p + in->looked, sep, in->b.n - in->looked);
	in->looked = in->b.n;
	if (!end && (!in->eof || in->stopped))
		return false;
	/* an empty input as a whole is one empty record, not none */
	if (!end && in->start == in->b.n &&
	    !(in->sep == INPUT_ALL && in->n == 0))
		return false;
	*p = in->b.p ? in->b.p + in->start : "";
	*n = end ? (size_t)(end - *p) : in->b.n - in->start;
	in->start += *n + (end != NULL);
	in->looked = in->start;
	in->n++;
	return true;
}

int
input_next(struct input *in, bool wait, const char **p, size_t *n,
    struct err *e)
{
	for (;;) {
		int rc;

		if (take(in, p, n))
			break;
		if (in->eof)
			return INPUT_END;
		if (in->b.n - in->start > in->max)
			goto long_one;
		rc = ready(in, wait, e);
		if (rc == -1 || (rc == 1 && fill(in, e) == -1))
			return -1;
		if (rc == 0 && !in->eof)
			return INPUT_NONE;
	}
	if (*n <= in->max)
		return INPUT_RECORD;
long_one:
	return err_set(e, ERR_CALLER, "input %llu is longer than %zu bytes",
	    (unsigned long long)in->n + 1, in->max);
}

void
input_free(struct input *in)
{
	buf_free(&in->b);
}
