/*
 * join: any rank but the lead says hello and waits for the world.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "comm/addr.h"
#include "comm/open.h"

#define MS ((uint64_t)1000000)

enum { LEAD_FIRST_MS = 1000 };		/* it knows who is missing */

static int
refused(const struct frame *f, struct err *e)
{
	struct reader r = { f->p, f->n, false };
	unsigned code = get_u16(&r);
	char text[COMM_WORDS];

	get_text(&r, text, sizeof(text));
	if (r.bad)
		return err_set(e, ERR_SYSTEM, "the lead refused without a "
		    "reason");
	return err_set(e, code == ERR_CALLER ? ERR_CALLER : ERR_SYSTEM, "%s",
	    text);
}

static int
late(const struct entry *n, const char *who, struct err *e)
{
	char span[32];

	span_text(n->c->join_end_ns - n->start_ns, span, sizeof(span));
	return err_set(e, ERR_SYSTEM, "the world was not complete within %s: "
	    "%s%s", span, *who ? "it lacks " : "no answer from the lead", who);
}

/* Waits for the next frame. */
static int
next(struct entry *n, struct link *l, struct frame *f, const char *who,
    struct err *e)
{
	for (;;) {
		struct pollfd p = { l->fd, POLLIN, 0 };
		int r;

		if (link_flush(l) == -1)
			p.events = POLLIN;	/* it may have said why */
		else if (!link_idle(l))
			p.events |= POLLOUT;
		r = link_read(l, f);
		if (r == 1)
			return 0;
		if (r == -1)
			return err_set(e, ERR_SYSTEM, "the lead closed the "
			    "connection before the world was complete");
		if (now_ns() >= n->c->join_end_ns + LEAD_FIRST_MS * MS)
			return late(n, who, e);
		if (now_ns() >= n->waiting_ns)
			entry_waiting(n, *who ? who : "rank 0");
		if (poll(&p, 1, entry_poll_ms(n) + 1) == -1 && errno != EINTR)
			return err_sys(e, "poll");
	}
}

static int
welcome(struct entry *n, struct link *l, struct comm **c, struct err *e)
{
	char who[COMM_WORDS] = "";
	struct frame f;

	for (;;) {
		if (next(n, l, &f, who, e) == -1)
			return -1;
		if (f.type == FRAME_REFUSE)
			return refused(&f, e);
		if (f.version != COMM_VERSION)
			return err_set(e, ERR_CALLER, "protocol %u at the "
			    "lead, %d here: another build", f.version,
			    COMM_VERSION);
		if (f.type == FRAME_WELCOME)
			break;
		if (f.type == FRAME_WAIT)
			snprintf(who, sizeof(who), "%.*s", (int)f.n,
			    (const char *)f.p);
	}
	return entry_done(n, f.p, f.n, c, e);
}

static int
say_hello(struct entry *n, struct link *l, struct err *e)
{
	struct buf b = {0};
	int r;

	hello_put(&b, &n->me);
	link_put(l, FRAME_HELLO, b.p, b.n);
	r = buf_ok(&b, e);
	buf_free(&b);
	return r;
}

int
comm_join(struct comm **c, const struct comm_opts *o, int fd, struct err *e)
{
	char mine[COMM_FAR_ADDR], lead[COMM_FAR_ADDR];
	struct entry n = { .unix_fd = -1 };
	struct link *l;
	int one = 1;

	*c = NULL;
	addr_of(fd, false, mine, sizeof(mine));
	addr_of(fd, true, lead, sizeof(lead));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (o->rank == 0)
		err_set(e, ERR_CALLER, "rank 0 is the lead: it can't join");
	if (o->rank == 0 || entry_open(&n, o, mine, lead, e) == -1) {
		close(fd);
		return -1;
	}
	l = &n.c->link[0];
	if (link_open(l, fd, e) == -1)
		return entry_fail(&n);
	l->rank = 0;
	if (say_hello(&n, l, e) == -1 || welcome(&n, l, c, e) == -1)
		return entry_fail(&n);
	return 0;
}
