/*
 * serve: the probe, as a remote shell starts it on each host.
 *
 * One thread, one poll: requests on stdin, callers on the lead's port.  Only
 * dial and measure make it wait elsewhere, and both for a bounded time.  It
 * ends with its input, so nothing stays behind when who asked is gone.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/addr.h"
#include "probe/priv.h"

enum { LIFE_MS = 60000, TICK_MS = 500, CHUNK = 4096 };

struct serve {
	int in, out;
	struct buf input, line;
	struct lead_end lead;
	int peer;			/* connected to the lead, or -1 */
	struct probe_facts facts;
	struct probe_request request;
	struct probe_reply reply;
};

/* ---- requests ---- */

/* This end of fd, as the others see it. */
static void
tell_end(struct serve *s, int fd)
{
	struct probe_link *l = &s->reply.link;

	addr_of(fd, false, l->address, sizeof(l->address));
	wire_plain(l->interface, sizeof(l->interface),
	    iface_of(&s->facts, l->address));
}

static int
listen_as_lead(struct serve *s, struct err *e)
{
	if (lead_listen(&s->lead, &s->request, e) == -1)
		return -1;
	tell_end(s, s->lead.listener);
	return 0;
}

/* From the address of the interface that was asked for, if any was. */
static int
dial(struct serve *s, struct err *e)
{
	if (s->peer != -1)
		close(s->peer);
	s->peer = -1;
	if (peer_dial(&s->peer, &s->request, s->facts.from[0] ?
	    s->facts.address : "", e) == -1)
		return -1;
	tell_end(s, s->peer);
	return 0;
}

static int
handle(struct serve *s, struct err *e)
{
	s->reply = (struct probe_reply){ .re = s->request.what };
	switch (s->request.what) {
	case PROBE_FACTS:
		facts_gather(&s->facts, &s->request);
		s->reply.facts = s->facts;
		return 0;
	case PROBE_LISTEN:
		return listen_as_lead(s, e);
	case PROBE_DIAL:
		return dial(s, e);
	case PROBE_MEASURE:
		return peer_measure(s->peer, s->request.ms, &s->reply.link, e);
	}
	return -1;
}

static int
answer(struct serve *s, struct err *e)
{
	struct err why = {0};
	struct buf b = {0};
	int rc;

	if (wire_get_request(&s->request, s->line.p, s->line.n, e) == -1)
		return err_wrap(e, "request");
	if (handle(s, &why) == -1)
		wire_plain(s->reply.error, sizeof(s->reply.error), why.msg);
	wire_put_reply(&b, &s->reply);
	rc = buf_ok(&b, e);
	if (rc == 0)
		rc = io_write(s->out, b.p, b.n, e);
	buf_free(&b);
	return rc;
}

/* 1: there may be more; 0: the input has ended. */
static int
take_input(struct serve *s, struct err *e)
{
	char p[CHUNK];
	ssize_t n = read(s->in, p, sizeof(p));
	int got;

	if (n == 0)
		return 0;
	if (n == -1)
		return errno == EAGAIN || errno == EINTR ? 1 :
		    err_sys(e, "read requests");
	buf_put(&s->input, p, (size_t)n);
	if (buf_ok(&s->input, e) == -1)
		return -1;
	while ((got = wire_line(&s->input, &s->line, e)) == 1)
		if (answer(s, e) == -1)
			return -1;
	return got == -1 ? err_wrap(e, "request") : 1;
}

static int
serve(struct serve *s, struct err *e)
{
	struct pollfd p[2 + LEAD_CALLERS];
	uint64_t end = now_ns() + LIFE_MS * 1000000ull;
	int rc = 1;

	while (rc == 1 && now_ns() < end) {
		unsigned n = lead_poll(&s->lead, p + 1) + 1;

		p[0] = (struct pollfd){ .fd = s->in, .events = POLLIN };
		if (poll(p, n, TICK_MS) == -1) {
			if (errno != EINTR)
				return err_sys(e, "poll");
			continue;
		}
		lead_work(&s->lead, p + 1);
		if (p[0].revents)
			rc = take_input(s, e);
	}
	return rc == -1 ? -1 : 0;
}

int
probe_serve(int in, int out, struct err *e)
{
	struct serve *s = mem_new(1, sizeof(*s), e);
	int rc;

	if (!s)
		return -1;
	*s = (struct serve){ .in = in, .out = out, .peer = -1,
		.lead = { .listener = -1 } };
	rc = serve(s, e);
	lead_stop(&s->lead);
	if (s->peer != -1)
		close(s->peer);
	buf_free(&s->input);
	buf_free(&s->line);
	free(s);
	return rc;
}
