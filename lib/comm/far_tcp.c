/*
 * far_tcp: the far transport that is built in.
 *
 * Each rank listens before it says hello, so that nobody has to wait for
 * another one's listener; then the higher rank of a pair that talks calls the
 * lower.  A call begins with the world's token, which only its ranks know;
 * who has another one, or says nothing, is dropped.
 *
 * The listener is bound to the address that leads to the lead, or to ifname's.
 * A rank with a socketpair to the lead knows neither and listens on all, until
 * the world is complete; others look for it where the lead is.
 */
#include <errno.h>
#include <ifaddrs.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "comm/comm_far.h"

#define MS ((uint64_t)1000000)

enum {
	MAGIC = 0x54495344,		/* "DSIT" */
	CALL = 4 + COMM_TOKEN + 8,	/* magic, token, from, to */
	STAGE = 8192,			/* read ahead */
	CALLERS = 64,			/* that have not said who they are */
	CALLER_MS = 5000,
	LOOKS = 8,			/* at the sockets, before sleeping */
	SLICE_MS = 50,			/* between looks at stopped */
	LINGER_MS = 1000,		/* for peers to get what was sent */
};

struct conn {
	int fd;				/* -1: gone */
	unsigned rank;
	bool gone, told;
	char *in;			/* the posted receive, or NULL */
	size_t nin, got;
	const char *head, *body;	/* the send under way, or NULL */
	size_t nbody, sent;		/* of COMM_FAR_HEAD + nbody */
	size_t from, to;		/* what is in stage */
	char stage[STAGE];
};

struct tcp {
	struct comm_far_self self;
	char lead_addr[COMM_FAR_ADDR];
	int listener, bell;
	const struct comm_far_world *w;
	struct conn *conn;		/* [w->npeer], as w->peer */
	size_t n, turn;
	struct conn **of;		/* [world] */
	struct pollfd *p;		/* [npeer + 1 + CALLERS] */
};

struct caller {
	int fd;
	uint8_t call[CALL];
	size_t got;
	uint64_t since_ns;
};

/* ---- addresses: "10.0.0.7 41234", "* 41234": where the lead is ---- */

/* The first address of an interface. */
static int
interface_addr(const char *name, char *s, size_t size, struct err *e)
{
	struct ifaddrs *all, *a;
	bool known = false;

	if (getifaddrs(&all) == -1)
		return err_sys(e, "interfaces");
	s[0] = '\0';
	for (a = all; a && !s[0]; a = a->ifa_next) {
		int f = a->ifa_addr ? a->ifa_addr->sa_family : AF_UNSPEC;

		if (strcmp(a->ifa_name, name) != 0)
			continue;
		known = true;
		if ((f == AF_INET || f == AF_INET6) &&
		    getnameinfo(a->ifa_addr, f == AF_INET ?
		    sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6),
		    s, (socklen_t)size, NULL, 0, NI_NUMERICHOST) != 0)
			s[0] = '\0';
		if (strchr(s, '%'))	/* link-local: others can't use it */
			s[0] = '\0';
	}
	freeifaddrs(all);
	if (!known)
		return err_set(e, ERR_CALLER, "there is no network interface "
		    "%s", name);
	if (!s[0])
		return err_set(e, ERR_CALLER, "network interface %s has no "
		    "address", name);
	return 0;
}

static int
resolve(const char *addr, const char *port, int flags, struct addrinfo **out,
    struct err *e)
{
	struct addrinfo hint = { .ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | flags };
	int bad = getaddrinfo(addr, port, &hint, out);

	if (bad)
		return err_set(e, ERR_SYSTEM, "address %s port %s: %s",
		    addr ? addr : "*", port, gai_strerror(bad));
	return 0;
}

static int
bound(const struct addrinfo *a)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC |
	    SOCK_NONBLOCK, 0), zero = 0;

	if (fd == -1)
		return -1;
	if (a->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 &&
	    listen(fd, SOMAXCONN) == 0)
		return fd;
	close(fd);
	return -1;
}

/* addr "": all addresses, IPv6 and IPv4 where the machine has both. */
static int
listen_at(const char *addr, struct err *e)
{
	struct addrinfo *list = NULL;
	int fd = -1;

	if (!addr[0]) {
		if (resolve("::", "0", AI_PASSIVE, &list, NULL) == 0)
			fd = bound(list);
		if (list)
			freeaddrinfo(list);
		list = NULL;
		if (fd != -1)
			return fd;
		addr = "0.0.0.0";
	}
	if (resolve(addr, "0", AI_PASSIVE, &list, e) == -1)
		return -1;
	fd = bound(list);
	if (fd == -1)
		err_sys(e, "listen at %s", addr);
	freeaddrinfo(list);
	return fd;
}

static void
tcp_close(void *handle);

static int
tcp_open(void **out, const struct comm_far_self *self,
    char addr[COMM_FAR_ADDR], struct err *e)
{
	struct tcp *t = mem_new(1, sizeof(*t), e);
	char mine[COMM_FAR_ADDR], port[16];
	struct sockaddr_storage a = {0};
	socklen_t n = sizeof(a);

	if (!t)
		return -1;
	t->self = *self;
	snprintf(t->lead_addr, sizeof(t->lead_addr), "%s", self->lead_addr);
	snprintf(mine, sizeof(mine), "%s", self->my_addr);
	t->listener = -1;
	t->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (t->bell == -1) {
		err_sys(e, "eventfd");
		goto fail;
	}
	if (self->ifname && interface_addr(self->ifname, mine, sizeof(mine),
	    e) == -1)
		goto fail;
	t->listener = listen_at(mine, e);
	if (t->listener == -1)
		goto fail;
	if (getsockname(t->listener, (void *)&a, &n) == -1 ||
	    getnameinfo((void *)&a, n, NULL, 0, port, sizeof(port),
	    NI_NUMERICSERV) != 0) {
		err_sys(e, "port of a socket");
		goto fail;
	}
	snprintf(addr, COMM_FAR_ADDR, "%.100s %.15s", mine[0] ? mine : "*",
	    port);
	*out = t;
	return 0;
fail:
	tcp_close(t);
	return -1;
}

/* ---- joining ---- */

static void
call_put(uint8_t call[CALL], const uint8_t *token, unsigned from, unsigned to)
{
	uint32_t v[3] = { MAGIC, from, to };

	for (unsigned i = 0; i < 4; i++) {
		call[i] = v[0] >> 8 * i & 0xff;
		call[4 + COMM_TOKEN + i] = v[1] >> 8 * i & 0xff;
		call[8 + COMM_TOKEN + i] = v[2] >> 8 * i & 0xff;
	}
	memcpy(call + 4, token, COMM_TOKEN);
}

/* 0: ready; -1 with e: too late, or stopped. */
static int
wait_for(struct tcp *t, struct pollfd *p, size_t n, struct err *e)
{
	for (;;) {
		if (t->w->stopped(t->w->arg))
			return err_set(e, ERR_SYSTEM, "the world has ended");
		if (now_ns() >= t->w->deadline_ns)
			return err_set(e, ERR_SYSTEM, "too late");
		if (poll(p, n, SLICE_MS) > 0)
			return 0;
	}
}

/* Connects to a->ai_addr and says who calls. */
static int
connect_to(struct tcp *t, const struct addrinfo *a, const uint8_t *call,
    struct err *e)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC |
	    SOCK_NONBLOCK, 0), bad = 0;
	socklen_t n = sizeof(bad);
	struct pollfd p = { fd, POLLOUT, 0 };

	if (fd == -1)
		return err_sys(e, "socket");
	if (connect(fd, a->ai_addr, a->ai_addrlen) == -1 &&
	    errno != EINPROGRESS) {
		err_sys(e, "connect");
		goto fail;
	}
	if (wait_for(t, &p, 1, e) == -1)
		goto fail;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &bad, &n);
	errno = bad;
	if (bad || send(fd, call, CALL, MSG_NOSIGNAL) != CALL) {
		err_sys(e, "connect");
		goto fail;
	}
	return fd;
fail:
	close(fd);
	return -1;
}

static int
dial(struct tcp *t, struct conn *c, struct err *e)
{
	const char *addr = t->w->addr[c->rank], *port = strchr(addr, ' ');
	char name[COMM_FAR_ADDR];
	struct addrinfo *list;
	uint8_t call[CALL];

	if (!port)
		return err_set(e, ERR_SYSTEM, "rank %u on %s: no address",
		    c->rank, t->w->host[c->rank]);
	snprintf(name, sizeof(name), "%.*s", (int)(port - addr), addr);
	if (strcmp(name, "*") == 0)
		snprintf(name, sizeof(name), "%s", t->lead_addr[0] ?
		    t->lead_addr : "127.0.0.1");
	call_put(call, t->w->token, t->self.rank, c->rank);
	if (resolve(name, port + 1, 0, &list, e) == -1)
		return -1;
	c->fd = connect_to(t, list, call, e);
	freeaddrinfo(list);
	if (c->fd == -1)
		return err_wrap(e, "rank %u on %s at %s port %s", c->rank,
		    t->w->host[c->rank], name, port + 1);
	return 0;
}

/* A caller has said who it is: one of those that we wait for? */
static bool
claim(struct tcp *t, const struct caller *k)
{
	uint8_t want[CALL];

	for (size_t i = 0; i < t->n; i++) {
		struct conn *c = &t->conn[i];

		call_put(want, t->w->token, c->rank, t->self.rank);
		if (c->rank > t->self.rank && c->fd == -1 &&
		    memcmp(want, k->call, CALL) == 0) {
			c->fd = k->fd;
			return true;
		}
	}
	return false;
}

/* 1: done with it (claimed or closed); 0: it has more to say. */
static int
hear_caller(struct tcp *t, struct caller *k, size_t *missing)
{
	ssize_t n = recv(k->fd, k->call + k->got, CALL - k->got, 0);

	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n > 0) {
		k->got += n;
		if (k->got < CALL)
			return 0;
		if (claim(t, k)) {
			--*missing;
			return 1;
		}
	}
	close(k->fd);
	return 1;
}

static void
answer(struct tcp *t, struct caller *k, size_t *nk)
{
	int fd;

	while ((fd = accept4(t->listener, NULL, NULL,
	    SOCK_CLOEXEC | SOCK_NONBLOCK)) != -1) {
		if (*nk == CALLERS) {	/* the oldest makes room */
			close(k[0].fd);
			memmove(k, k + 1, --*nk * sizeof(*k));
		}
		k[(*nk)++] = (struct caller){ .fd = fd,
			.since_ns = now_ns() };
	}
}

static int
await_callers(struct tcp *t, size_t missing, struct err *e)
{
	struct caller k[CALLERS];
	size_t nk = 0;
	int r = 0;

	while (missing && r == 0) {
		struct pollfd p[1 + CALLERS] = { { t->listener, POLLIN, 0 } };
		size_t n = nk, kept = 0;

		for (size_t i = 0; i < n; i++)
			p[1 + i] = (struct pollfd){ k[i].fd, POLLIN, 0 };
		r = wait_for(t, p, 1 + n, e);
		for (size_t i = 0; i < n; i++) {
			if (p[1 + i].revents && hear_caller(t, &k[i],
			    &missing))
				continue;
			if (now_ns() - k[i].since_ns > CALLER_MS * MS)
				close(k[i].fd);
			else
				k[kept++] = k[i];
		}
		nk = kept;
		if (p[0].revents)
			answer(t, k, &nk);
	}
	while (nk)
		close(k[--nk].fd);
	return r;
}

static int
tcp_join(void *handle, const struct comm_far_world *w, struct err *e)
{
	struct tcp *t = handle;
	size_t missing = 0;
	int one = 1;

	t->w = w;
	t->n = w->npeer;
	t->conn = mem_new(t->n, sizeof(*t->conn), e);
	t->of = mem_new(t->self.world, sizeof(*t->of), e);
	t->p = mem_new(t->n + 1, sizeof(*t->p), e);
	for (size_t i = 0; t->conn && i < t->n; i++) {
		t->conn[i].fd = -1;
		t->conn[i].rank = w->peer[i];
	}
	if (!t->conn || !t->of || !t->p)
		return -1;
	for (size_t i = 0; i < t->n; i++) {
		t->of[w->peer[i]] = &t->conn[i];
		if (w->peer[i] > t->self.rank)
			missing++;
		else if (dial(t, &t->conn[i], e) == -1)
			return -1;
	}
	if (await_callers(t, missing, e) == -1) {
		for (size_t i = 0; i < t->n; i++) {
			if (t->conn[i].fd == -1)
				return err_wrap(e, "rank %u on %s: no far "
				    "connection", w->peer[i],
				    w->host[w->peer[i]]);
		}
		return -1;
	}
	for (size_t i = 0; i < t->n; i++)
		setsockopt(t->conn[i].fd, IPPROTO_TCP, TCP_NODELAY, &one,
		    sizeof(one));
	close(t->listener);
	t->listener = -1;
	return 0;
}

/* ---- bytes ---- */

static void
lost(struct conn *c)
{
	if (c->fd != -1)
		close(c->fd);
	c->fd = -1;
	c->gone = true;
}

static bool
got_all(const struct conn *c)
{
	return c->in && c->got == c->nin;
}

static bool
sent_all(const struct conn *c)
{
	return c->head && c->sent == COMM_FAR_HEAD + c->nbody;
}

static void
from_stage(struct conn *c)
{
	size_t n = c->to - c->from, want = c->nin - c->got;

	if (n > want)
		n = want;
	memcpy(c->in + c->got, c->stage + c->from, n);
	c->got += n;
	c->from += n;
}

/* Reads what is there into the posted receive, and ahead. */
static void
read_some(struct conn *c)
{
	while (c->fd != -1 && c->in && c->got < c->nin) {
		struct iovec v[2] = {
			{ c->in + c->got, c->nin - c->got },
			{ c->stage, STAGE },
		};
		ssize_t n = readv(c->fd, v, 2);

		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1 && errno == EAGAIN)
			return;
		if (n <= 0) {
			lost(c);
			return;
		}
		c->from = c->to = 0;
		if ((size_t)n > v[0].iov_len) {
			c->to = (size_t)n - v[0].iov_len;
			n = (ssize_t)v[0].iov_len;
		}
		c->got += n;
	}
}

static void
write_some(struct conn *c)
{
	size_t all = COMM_FAR_HEAD + c->nbody;

	while (c->fd != -1 && c->sent < all) {
		struct iovec v[2];
		struct msghdr m = { .msg_iov = v };
		ssize_t n;

		if (c->sent < COMM_FAR_HEAD)
			v[m.msg_iovlen++] = (struct iovec){
				(char *)(uintptr_t)c->head + c->sent,
				COMM_FAR_HEAD - c->sent };
		n = c->sent < COMM_FAR_HEAD ? 0 : c->sent - COMM_FAR_HEAD;
		if (c->nbody)
			v[m.msg_iovlen++] = (struct iovec){
				(char *)(uintptr_t)c->body + n,
				c->nbody - (size_t)n };
		n = sendmsg(c->fd, &m, MSG_NOSIGNAL);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1 && errno == EAGAIN)
			return;
		if (n == -1)
			c->sent = all;	/* reading tells that it is gone */
		else
			c->sent += n;
	}
}

static int
tcp_send(void *handle, unsigned peer, const void *head, const void *body,
    size_t n, struct err *e)
{
	struct conn *c = ((struct tcp *)handle)->of[peer];

	(void)e;
	c->head = head;
	c->body = body;
	c->nbody = n;
	c->sent = c->fd == -1 ? COMM_FAR_HEAD + n : 0;
	write_some(c);
	return 0;
}

static int
tcp_recv(void *handle, unsigned peer, void *p, size_t n, struct err *e)
{
	struct conn *c = ((struct tcp *)handle)->of[peer];

	(void)e;
	c->in = p;
	c->nin = n;
	c->got = 0;
	from_stage(c);
	if (c->nin - c->got > STAGE)
		read_some(c);
	return 0;
}

/* ---- events ---- */

static bool
ready(struct tcp *t, struct comm_far_event *ev)
{
	for (size_t i = 0; i < t->n; i++) {
		struct conn *c = &t->conn[t->turn++ % t->n];

		ev->peer = c->rank;
		if (sent_all(c)) {
			c->head = NULL;
			ev->what = COMM_FAR_SENT;
			return true;
		}
		if (got_all(c)) {
			c->in = NULL;
			ev->what = COMM_FAR_GOT;
			return true;
		}
		if (c->gone && !c->told) {
			c->told = true;
			ev->what = COMM_FAR_GONE;
			return true;
		}
	}
	return false;
}

/* Waits for sockets; true when poked. */
static bool
poll_conns(struct tcp *t, int ms)
{
	uint64_t n;

	for (size_t i = 0; i < t->n; i++) {
		struct conn *c = &t->conn[i];

		t->p[i] = (struct pollfd){ c->fd, 0, 0 };
		if (c->in)
			t->p[i].events |= POLLIN;
		if (c->head)
			t->p[i].events |= POLLOUT;
	}
	t->p[t->n] = (struct pollfd){ t->bell, POLLIN, 0 };
	if (poll(t->p, t->n + 1, ms) <= 0)
		return false;
	for (size_t i = 0; i < t->n; i++) {
		struct conn *c = &t->conn[i];

		if (t->p[i].revents & ~POLLOUT)
			read_some(c);
		if (c->head && t->p[i].revents & POLLOUT)
			write_some(c);
	}
	return t->p[t->n].revents &&
	    read(t->bell, &n, sizeof(n)) == sizeof(n);
}

static int
tcp_next(void *handle, uint64_t deadline_ns, struct comm_far_event *ev,
    struct err *e)
{
	struct tcp *t = handle;
	unsigned looks = 0;
	bool poked = false;

	(void)e;
	while (!ready(t, ev)) {
		uint64_t now = deadline_ns ? now_ns() : 0, ms = 0;

		ev->what = COMM_FAR_NONE;
		if (poked || t->w->stopped(t->w->arg))
			return 0;
		if (now < deadline_ns && looks++ >= LOOKS)
			ms = (deadline_ns - now) / MS + 1;
		else if (looks > 1)
			sched_yield();
		poked = poll_conns(t, ms > 3600000 ? 3600000 : (int)ms);
		if (now >= deadline_ns)	/* after one look at the sockets */
			poked = true;
	}
	return 0;
}

static void
tcp_poke(void *handle)
{
	struct tcp *t = handle;
	uint64_t one = 1;

	(void)!write(t->bell, &one, sizeof(one));
}

/* Bytes that the other side's kernel has not acknowledged, and still may. */
static int
unsent(int fd)
{
	struct pollfd p = { fd, 0, 0 };
	int n = 0;

	if (fd == -1 || poll(&p, 1, 0) != 0)	/* POLLERR, POLLHUP */
		return 0;
	ioctl(fd, SIOCOUTQ, &n);
	return n;
}

/* A socket that is closed with unread bytes resets the connection; so what was
 * sent must have arrived first. */
static void
linger(struct tcp *t)
{
	uint64_t end = now_ns() + LINGER_MS * MS;
	struct timespec nap = { 0, 1000000 };
	int left = 1;

	while (left && now_ns() < end && !t->w->stopped(t->w->arg)) {
		left = 0;
		for (size_t i = 0; i < t->n && !left; i++)
			left = unsent(t->conn[i].fd);
		if (left)
			nanosleep(&nap, NULL);
	}
}

static void
tcp_close(void *handle)
{
	struct tcp *t = handle;

	if (t->w && t->conn)
		linger(t);
	for (size_t i = 0; t->conn && i < t->n; i++) {
		if (t->conn[i].fd != -1)
			close(t->conn[i].fd);
	}
	if (t->listener != -1)
		close(t->listener);
	if (t->bell != -1)
		close(t->bell);
	free(t->conn);
	free(t->of);
	free(t->p);
	free(t);
}

const struct comm_far comm_far_tcp = {
	.name = "tcp", .open = tcp_open, .join = tcp_join, .send = tcp_send,
	.recv = tcp_recv, .next = tcp_next, .poke = tcp_poke,
	.close = tcp_close,
};
