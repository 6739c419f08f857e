/*
 * peer: the end that calls: is the lead there, how far, and how wide is the
 * way?  lead.c has the protocol.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "comm/addr.h"
#include "probe/priv.h"

enum {
	PINGS = 100, CHUNK = 256 << 10, SETTLE_MS = 1000, PING_MS = 500,
};

#define BULK_MAX ((uint64_t)256 << 20)
#define MS 1000000ull

/* ---- waiting ---- */

/* Is fd ready before the deadline? */
static int
ready(int fd, short events, uint64_t until_ns)
{
	struct pollfd p = { .fd = fd, .events = events };
	uint64_t now = now_ns();
	int n, ms = now < until_ns ? (int)((until_ns - now + MS - 1) / MS) : 0;

	do
		n = poll(&p, 1, ms);
	while (n == -1 && errno == EINTR);
	if (n == 0)
		errno = ETIMEDOUT;
	return n == 1 ? 0 : -1;
}

static int
take(int fd, char *p, size_t n, uint64_t until_ns)
{
	while (n) {
		ssize_t got = recv(fd, p, n, 0);

		if (got == 0)
			errno = ECONNRESET;
		if (got == 0 || (got == -1 && errno != EAGAIN &&
		    errno != EINTR))
			return -1;
		if (got == -1 && ready(fd, POLLIN, until_ns) == -1)
			return -1;
		if (got > 0) {
			p += got;
			n -= (size_t)got;
		}
	}
	return 0;
}

static int
give(int fd, const char *p, size_t n, uint64_t until_ns)
{
	while (n) {
		ssize_t put = send(fd, p, n, MSG_NOSIGNAL);

		if (put == -1 && errno != EAGAIN && errno != EINTR)
			return -1;
		if (put == -1 && ready(fd, POLLOUT, until_ns) == -1)
			return -1;
		if (put > 0) {
			p += put;
			n -= (size_t)put;
		}
	}
	return 0;
}

/* ---- connecting ---- */

static int
resolve(const char *host, const char *port, int flags, struct addrinfo **out,
    struct err *e)
{
	struct addrinfo hint = { .ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICSERV | flags };
	int bad = getaddrinfo(host, port, &hint, out);

	return bad ? err_set(e, ERR_SYSTEM, "%s: %s", host,
	    gai_strerror(bad)) : 0;
}

/* from "": any. */
static int
bind_to(int fd, int family, const char *from)
{
	struct addrinfo *a;
	int rc;

	if (!from[0])
		return 0;
	if (resolve(from, "0", AI_NUMERICHOST, &a, NULL) == -1)
		return -1;
	rc = a->ai_family == family ? bind(fd, a->ai_addr, a->ai_addrlen) : 0;
	freeaddrinfo(a);
	return rc;
}

static int
connect_to(const struct addrinfo *a, const char *from, uint64_t until_ns)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC |
	    SOCK_NONBLOCK, 0), on = 1, bad = 0;
	socklen_t n = sizeof(bad);

	if (fd == -1)
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (bind_to(fd, a->ai_family, from) == 0 &&
	    (connect(fd, a->ai_addr, a->ai_addrlen) == 0 ||
	    (errno == EINPROGRESS && ready(fd, POLLOUT, until_ns) == 0 &&
	    getsockopt(fd, SOL_SOCKET, SO_ERROR, &bad, &n) == 0 && !bad)))
		return fd;
	bad = bad ? bad : errno;
	close(fd);
	errno = bad;
	return -1;
}

static int
show_token(int fd, const char *token, uint64_t until_ns, struct err *e)
{
	char back[PROBE_TOKEN];

	if (give(fd, token, PROBE_TOKEN, until_ns) == -1 ||
	    take(fd, back, sizeof(back), until_ns) == -1)
		return err_sys(e, "no answer from the probe");
	for (unsigned i = 0; i < PROBE_TOKEN; i++)
		if (back[i] != token[PROBE_TOKEN - 1 - i])
			return err_set(e, ERR_CALLER, "somebody else answers");
	return 0;
}

int
peer_dial(int *fd, const struct probe_request *r, const char *from,
    struct err *e)
{
	uint64_t until_ns = now_ns() + r->ms * MS;
	struct addrinfo *list, *a;
	char port[16];
	int rc = -1;

	snprintf(port, sizeof(port), "%u", r->port);
	if (strlen(r->token) != PROBE_TOKEN)
		return err_set(e, ERR_CALLER, "no token");
	if (resolve(r->address, port, 0, &list, e) == -1)
		return -1;
	*fd = -1;
	for (a = list; a && *fd == -1; a = a->ai_next)
		*fd = connect_to(a, from, until_ns);
	if (*fd == -1)
		err_sys(e, "connect");
	else
		rc = show_token(*fd, r->token, until_ns, e);
	freeaddrinfo(list);
	if (rc == -1 && *fd != -1)
		close(*fd);
	return rc == 0 ? 0 : err_wrap(e, "cannot reach the lead at %s port %u"
	    "%s%s", r->address, r->port, from[0] ? " from " : "", from);
}

/* ---- measuring ---- */

static int
by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The median of as many pings as half of the time allows. */
static int
ping(int fd, unsigned ms, uint64_t *rtt)
{
	uint64_t t[PINGS], start = now_ns(), now = start;
	unsigned n = 0;
	char c;

	while (n < PINGS && (n == 0 || now - start < ms * MS / 2)) {
		uint64_t before = now_ns();

		if (give(fd, "p", 1, before + PING_MS * MS) == -1 ||
		    take(fd, &c, 1, before + PING_MS * MS) == -1)
			return -1;
		now = now_ns();
		t[n++] = now - before;
	}
	qsort(t, n, sizeof(*t), by_size);
	*rtt = t[n / 2] ? t[n / 2] : 1;
	return 0;
}

/* Sends for so long, then waits until the lead has had all of it.  *sent is
 * what went, also where that takes too long: -1, ETIMEDOUT. */
static int
send_for(int fd, uint64_t until, uint64_t *sent)
{
	static const char block[CHUNK];
	uint64_t settle = until + SETTLE_MS * MS;
	char c;

	*sent = 0;
	if (give(fd, "b", 1, settle) == -1)
		return -1;
	do {
		if (give(fd, block, sizeof(block), settle) == -1)
			return -1;
		*sent += sizeof(block);
	} while (now_ns() < until && *sent < BULK_MAX);
	return shutdown(fd, SHUT_WR) == -1 ? -1 : take(fd, &c, 1, settle);
}

/* A slow way is not a wrong one: what has not arrived is taken off. */
static int
pour(int fd, unsigned ms, uint64_t *rate)
{
	uint64_t start = now_ns(), sent;
	int left = 0;

	if (send_for(fd, start + ms * MS, &sent) == -1) {
		if (errno != ETIMEDOUT || ioctl(fd, SIOCOUTQ, &left) == -1 ||
		    left < 0 || (uint64_t)left >= sent)
			return -1;
		sent -= (uint64_t)left;
	}
	*rate = (uint64_t)((double)sent * 1e9 / (double)(now_ns() - start));
	return 0;
}

int
peer_measure(int fd, unsigned ms, struct probe_link *link, struct err *e)
{
	if (fd == -1)
		return err_set(e, ERR_CALLER, "not connected to the lead");
	if (ping(fd, ms, &link->rtt_ns) == -1)
		return err_sys(e, "ping the lead");
	if (pour(fd, ms, &link->rate) == -1)
		return err_sys(e, "send to the lead");
	return 0;
}
