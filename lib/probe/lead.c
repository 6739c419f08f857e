/*
 * lead: the end that listens, as the lead of a world would.
 *
 * A caller shows the token and gets it back reversed, so that an echo service
 * is not taken for a probe.  Then each 'p' comes back at once, until a 'b':
 * after it everything is thrown away, and the end of it answered with a 'k'.
 * Strangers may call: they are dropped, and can't slow the others down.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "launch/launch.h"
#include "probe/priv.h"

enum { TOKEN_MS = 5000, CHUNK = 256 << 10, TURNS = 16 };

int
lead_listen(struct lead_end *l, const struct probe_request *r, struct err *e)
{
	const char *at = r->address[0] ? r->address : NULL;

	lead_stop(l);
	/* Worlds beside the first have the ports after its own. */
	for (unsigned i = r->ports; i-- > 1;) {
		int fd = r->port + i > 65535 ? err_set(e, ERR_CALLER, "port %u "
		    "+ %u is more than 65535", r->port, i) :
		    launch_listen(at, r->port + i, e);

		if (fd == -1)
			return -1;
		close(fd);
	}
	l->listener = launch_listen(at, r->port, e);
	memcpy(l->token, r->token, sizeof(l->token));
	return l->listener == -1 ? -1 : 0;
}

void
lead_stop(struct lead_end *l)
{
	if (l->listener != -1)
		close(l->listener);
	l->listener = -1;
	while (l->n)
		close(l->caller[--l->n].fd);
}

unsigned
lead_poll(const struct lead_end *l, struct pollfd *p)
{
	p[0] = (struct pollfd){ .fd = l->n < LEAD_CALLERS ? l->listener : -1,
		.events = POLLIN };
	for (unsigned i = 0; i < l->n; i++)
		p[i + 1] = (struct pollfd){ .fd = l->caller[i].fd,
			.events = POLLIN };
	return l->n + 1;
}

static void
take_call(struct lead_end *l)
{
	int fd = accept4(l->listener, NULL, NULL, SOCK_CLOEXEC |
	    SOCK_NONBLOCK), on = 1;

	if (fd == -1)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	l->caller[l->n++] = (struct lead_caller){ .fd = fd,
		.since_ns = now_ns() };
}

/* Each returns false to drop the caller.  Answers are some bytes: a socket
 * without room for them has a caller who doesn't read. */
static bool
answer(const struct lead_caller *c, const char *p, size_t n)
{
	return send(c->fd, p, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static bool
take_token(const struct lead_end *l, struct lead_caller *c)
{
	ssize_t n = recv(c->fd, c->token + c->got, PROBE_TOKEN - c->got, 0);
	char back[PROBE_TOKEN];

	if (n <= 0)
		return n == -1 && errno == EAGAIN;
	c->got += (unsigned)n;
	if (memcmp(c->token, l->token, c->got) != 0)
		return false;
	if (c->got < PROBE_TOKEN)
		return true;
	for (unsigned i = 0; i < PROBE_TOKEN; i++)
		back[i] = l->token[PROBE_TOKEN - 1 - i];
	c->state = CALL_ECHO;
	return answer(c, back, sizeof(back));
}

static bool
take_pings(struct lead_caller *c)
{
	char p[256];
	ssize_t n = recv(c->fd, p, sizeof(p), 0);

	if (n <= 0)
		return n == -1 && errno == EAGAIN;
	for (ssize_t i = 0; i < n; i++) {
		if (p[i] == 'b') {
			c->state = CALL_BULK;
			return true;
		}
		if (p[i] != 'p')
			return false;
	}
	return answer(c, p, (size_t)n);
}

static bool
take_bulk(struct lead_caller *c)
{
	static char p[CHUNK];
	ssize_t n = 1;

	for (int i = 0; i < TURNS && n > 0; i++)
		n = recv(c->fd, p, sizeof(p), 0);
	if (n == 0)
		answer(c, "k", 1);
	return n > 0 || (n == -1 && errno == EAGAIN);
}

static bool
work_on(const struct lead_end *l, struct lead_caller *c, bool ready)
{
	if (!ready)
		return c->state != CALL_TOKEN ||
		    now_ns() - c->since_ns < TOKEN_MS * 1000000ull;
	return c->state == CALL_TOKEN ? take_token(l, c) :
	    c->state == CALL_ECHO ? take_pings(c) : take_bulk(c);
}

void
lead_work(struct lead_end *l, const struct pollfd *p)
{
	for (unsigned i = l->n; i-- > 0;) {
		if (work_on(l, &l->caller[i], p[i + 1].revents != 0))
			continue;
		close(l->caller[i].fd);
		l->caller[i] = l->caller[--l->n];
	}
	if (p[0].revents)
		take_call(l);
}
