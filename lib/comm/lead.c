/*
 * lead: rank 0 gathers its world.
 *
 * One poll loop over the sockets of peers that were started with the other
 * end, the listening socket and whoever called there.  A stranger costs a
 * place in a list and some seconds; he is never waited for.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "comm/addr.h"
#include "comm/open.h"

#define MS ((uint64_t)1000000)

enum {
	TIDY_MS = 100,			/* between looks at mute callers */
	HELLO_MS = 5000,		/* for a caller to say who it is */
	STRANGERS = 64,			/* callers beyond the ranks we lack */
};

struct gather {
	struct entry n;
	struct link *link;		/* [cap]; nlink in use */
	size_t nlink, cap;
	struct pollfd *p;		/* [1 + cap]: the listener first */
	size_t pcap;
	int listen_fd;
	uint64_t patience_ns;		/* with a caller that is mute */
	struct hello *hello;		/* [world] */
	bool *here;			/* [world] */
	unsigned nhere;
};

/* "no" to one caller */
static void
refuse(struct link *l, int code, const char *text)
{
	struct buf b = {0};

	put_u16(&b, (unsigned)code);
	put_text(&b, text);
	if (!b.oom)
		link_put(l, FRAME_REFUSE, b.p, b.n);
	buf_free(&b);
	l->drop = true;
	link_flush(l);
}

/* The world will not be: tells all who are connected.  -1. */
static int
give_up(struct gather *g, struct err *e)
{
	char text[COMM_WORDS];

	snprintf(text, sizeof(text), "%.500s", e->msg);
	for (size_t i = 0; i < g->nlink; i++) {
		if (g->link[i].fd != -1 && !g->link[i].drop)
			refuse(&g->link[i], e->code, text);
	}
	return -1;
}

/* A caller is wrong: this ends the world if we started it. */
static int
wrong(struct gather *g, struct link *l, const char *host, int code,
    const char *text, struct err *e)
{
	const struct comm_opts *o = &g->n.c->o;

	refuse(l, code, text);
	if (!l->inherited) {
		if (o->refused)
			o->refused(o->arg, host, text);
		return 0;
	}
	err_set(e, code, "%s", text);
	return give_up(g, e);
}

static int
on_hello(struct gather *g, struct link *l, const struct frame *f,
    struct err *e)
{
	char text[COMM_WORDS];
	struct hello h;

	if (f->version != COMM_VERSION) {
		snprintf(text, sizeof(text), "protocol %d at the lead, %u at "
		    "a caller: another build", COMM_VERSION, f->version);
		return wrong(g, l, "", ERR_CALLER, text, e);
	}
	if (hello_get(&h, f->p, f->n) == -1)
		return wrong(g, l, "", ERR_CALLER, "a hello that cannot be",
		    e);
	if (!hello_agree(&g->n.me, &h, text))
		return wrong(g, l, h.host, ERR_CALLER, text, e);
	if (g->here[h.rank]) {
		const struct hello *o = &g->hello[h.rank];

		snprintf(text, sizeof(text), "rank %u is there twice: process "
		    "%u on %.64s, process %u on %.64s", h.rank, o->pid,
		    o->host, h.pid, h.host);
		return wrong(g, l, h.host, ERR_CALLER, text, e);
	}
	l->rank = h.rank;
	g->hello[h.rank] = h;
	g->here[h.rank] = true;
	g->nhere++;
	return 0;
}

static int
on_gone(struct gather *g, struct link *l, struct err *e)
{
	unsigned rank = l->rank;
	bool matters = l->inherited && !l->drop;

	link_close(l);
	l->rank = NO_RANK;
	if (rank != NO_RANK) {
		g->here[rank] = false;
		g->nhere--;
	}
	if (!matters)
		return 0;
	if (rank == NO_RANK)
		err_set(e, ERR_SYSTEM, "a rank that was started here ended "
		    "before it said hello");
	else
		err_set(e, ERR_SYSTEM, "rank %u on %s died before the world "
		    "was complete", rank, g->hello[rank].host);
	return give_up(g, e);
}

/* A rank that was started here is dead, as its parent says in its place. */
static int
on_epitaph(struct gather *g, const struct frame *f, struct err *e)
{
	struct reader r = { f->p, f->n, false };
	char text[COMM_WORDS + 128];

	get_u32(&r);
	get_text(&r, text, sizeof(text));
	err_set(e, ERR_SYSTEM, "%s", r.bad ? "a rank that was started here "
	    "ended" : text);
	return give_up(g, e);
}

static int
on_caller(struct gather *g, struct link *l, struct err *e)
{
	struct frame f;
	int r;

	while ((r = link_read(l, &f)) == 1) {
		if (l->drop)
			continue;
		if (f.type == FRAME_END && l->inherited)
			return on_epitaph(g, &f, e);
		if (l->rank != NO_RANK || f.type != FRAME_HELLO)
			return on_gone(g, l, e);
		if (on_hello(g, l, &f, e) == -1)
			return -1;
	}
	return r == -1 ? on_gone(g, l, e) : 0;
}

static struct link *
new_link(struct gather *g, struct err *e)
{
	struct link *oldest = NULL;
	size_t nstrange = 0;

	for (size_t i = 0; i < g->nlink; i++) {
		struct link *l = &g->link[i];

		if (l->fd == -1)
			return l;
		if (l->inherited || (l->rank != NO_RANK && !l->drop))
			continue;
		nstrange++;
		if (!oldest || l->heard_ns < oldest->heard_ns)
			oldest = l;
	}
	if (oldest && nstrange >= STRANGERS + g->n.c->world) {
		link_close(oldest);
		return oldest;
	}
	if (mem_grow(&g->link, &g->cap, g->nlink + 1, sizeof(*g->link), e) ==
	    -1)
		return NULL;
	return &g->link[g->nlink++];
}

static int
take_in(struct gather *g, int fd, bool inherited, struct err *e)
{
	struct link *l = new_link(g, e);
	int one = 1;

	if (!l || link_open(l, fd, e) == -1) {
		close(fd);
		if (l)
			l->fd = -1;
		return inherited ? -1 : 0;
	}
	/* fails on a Unix socket, which needs none */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	l->inherited = inherited;
	return 0;
}

static int
on_listener(struct gather *g, struct err *e)
{
	int fd;

	while ((fd = accept4(g->listen_fd, NULL, NULL, SOCK_CLOEXEC)) != -1) {
		if (take_in(g, fd, false, e) == -1)
			return -1;
	}
	if (errno == EBADF || errno == EINVAL || errno == ENOTSOCK)
		return err_sys(e, "accept");
	if (errno == EMFILE || errno == ENFILE)
		usleep(10000);		/* strangers run into their deadline */
	return 0;
}

static int
late(struct gather *g, const char *who, struct err *e)
{
	char span[32];

	span_text(now_ns() - g->n.start_ns, span, sizeof(span));
	if (g->n.c->o.join_ms)
		span_text(g->n.c->o.join_ms * MS, span, sizeof(span));
	err_set(e, ERR_SYSTEM, "%s did not join within %s", who, span);
	return give_up(g, e);
}

/* Drops who is silent or refused, tells the others who is missing. */
static int
tidy(struct gather *g, struct err *e)
{
	uint64_t now = now_ns();
	bool tell = now >= g->n.waiting_ns;
	char who[COMM_WORDS / 2];

	ranks_text(g->here, g->n.c->world, who, sizeof(who));
	if (now >= g->n.c->join_end_ns)
		return late(g, who, e);
	for (size_t i = 0; i < g->nlink; i++) {
		struct link *l = &g->link[i];

		if (l->fd == -1)
			continue;
		if ((l->drop && link_idle(l)) || (!l->inherited &&
		    (l->drop || l->rank == NO_RANK) &&
		    now - l->heard_ns > g->patience_ns))
			link_close(l);
		else if (tell && l->rank != NO_RANK)
			link_put(l, FRAME_WAIT, who, strlen(who));
		link_flush(l);
	}
	if (tell)
		entry_waiting(&g->n, who);
	return 0;
}

static int
poll_all(struct gather *g, struct err *e)
{
	int ms = entry_poll_ms(&g->n);

	if (mem_grow(&g->p, &g->pcap, g->nlink + 1, sizeof(*g->p), e) == -1)
		return -1;
	g->p[0] = (struct pollfd){ g->listen_fd, POLLIN, 0 };
	for (size_t i = 0; i < g->nlink; i++) {
		struct link *l = &g->link[i];

		g->p[1 + i] = (struct pollfd){ l->fd, POLLIN, 0 };
		if (!link_idle(l))
			g->p[1 + i].events |= POLLOUT;
		if (l->fd != -1 && !l->inherited && l->rank == NO_RANK &&
		    ms > TIDY_MS)
			ms = TIDY_MS;	/* a caller that may be silent */
	}
	if (poll(g->p, g->nlink + 1, ms) == -1 && errno != EINTR)
		return err_sys(e, "poll");
	return 0;
}

static int
gather(struct gather *g, struct err *e)
{
	while (g->nhere < g->n.c->world) {
		size_t n = g->nlink;	/* those that were polled */

		if (poll_all(g, e) == -1)
			return -1;
		for (size_t i = 0; i < n; i++) {
			if (g->p[1 + i].revents &&
			    on_caller(g, &g->link[i], e) == -1)
				return -1;
		}
		if (g->p[0].revents && on_listener(g, e) == -1)
			return -1;
		if (g->nhere < g->n.c->world && tidy(g, e) == -1)
			return -1;
	}
	return 0;
}

static bool
same_host(const struct hello *a, const struct hello *b)
{
	return a == b || (!a->apart && !b->apart && strcmp(a->id, b->id) == 0);
}

static int
table_put(struct gather *g, struct buf *b, struct err *e)
{
	struct comm *c = g->n.c;
	unsigned nhost = 0;

	if (getrandom(c->token, sizeof(c->token), 0) != sizeof(c->token))
		return err_sys(e, "random bytes");
	buf_put(b, c->token, sizeof(c->token));
	put_u32(b, c->world);
	for (unsigned i = 0, k; i < c->world; i++) {
		struct hello *h = &g->hello[i];

		for (k = 0; !same_host(&g->hello[k], h);)
			k++;
		c->info[i].host = k == i ? nhost++ : c->info[k].host;
		put_u32(b, c->info[i].host);
		put_text(b, h->host);
		put_text(b, h->addr);
		put_text(b, h->unix_name);
	}
	return buf_ok(b, e);
}

/* Everyone is here: the table goes out, links find their ranks. */
static int
welcome(struct gather *g, struct comm **out, struct err *e)
{
	struct comm *c = g->n.c;
	struct link *to;
	struct buf b = {0};
	int r;

	if (table_put(g, &b, e) == -1) {
		buf_free(&b);
		return give_up(g, e);
	}
	for (size_t i = 0; i < g->nlink; i++) {
		struct link *l = &g->link[i];

		if (l->fd == -1)
			continue;
		if (l->rank == NO_RANK || l->drop) {
			link_close(l);
			continue;
		}
		to = &c->link[l->rank];
		*to = *l;
		*l = (struct link){ .fd = -1 };
		link_put(to, FRAME_WELCOME, b.p, b.n);
		link_flush(to);		/* the watcher sends the rest */
	}
	r = entry_done(&g->n, b.p, b.n, out, e);
	buf_free(&b);
	return r;
}

static int
gather_open(struct gather *g, const struct comm_opts *o, const int *fd,
    size_t nfd, struct err *e)
{
	char addr[COMM_FAR_ADDR] = "127.0.0.1";
	unsigned world = o->wiring.world;
	bool bad = false;

	if (g->listen_fd != -1)
		addr_of(g->listen_fd, false, addr, sizeof(addr));
	for (size_t i = 0; i < nfd; i++) {
		if (take_in(g, fd[i], true, e) == -1)
			bad = true;
		else if (addr_is_net(fd[i]))
			addr[0] = '\0';
	}
	if (bad)
		return -1;
	if (g->listen_fd != -1 && (fcntl(g->listen_fd, F_SETFL, O_NONBLOCK |
	    fcntl(g->listen_fd, F_GETFL)) == -1 ||
	    fcntl(g->listen_fd, F_SETFD, FD_CLOEXEC) == -1))
		return err_sys(e, "listening socket");
	if (o->rank != 0)
		return err_set(e, ERR_CALLER, "the lead is rank 0, not %u",
		    o->rank);
	if (entry_open(&g->n, o, addr, "", e) == -1)
		return -1;
	g->hello = mem_new(world, sizeof(*g->hello), e);
	g->here = mem_new(world, sizeof(*g->here), e);
	if (!g->hello || !g->here)
		return -1;
	g->patience_ns = (g->n.c->join_end_ns - g->n.start_ns) / 4;
	if (g->patience_ns > HELLO_MS * MS)
		g->patience_ns = HELLO_MS * MS;
	g->hello[0] = g->n.me;
	g->here[0] = true;
	g->nhere = 1;
	return 0;
}

int
comm_lead(struct comm **c, const struct comm_opts *o, const int *fd,
    size_t nfd, int listen_fd, struct err *e)
{
	struct gather g = { .listen_fd = listen_fd, .n.unix_fd = -1 };
	int r = -1;

	*c = NULL;
	if (gather_open(&g, o, fd, nfd, e) == 0 && gather(&g, e) == 0)
		r = welcome(&g, c, e);
	if (r == -1)
		entry_fail(&g.n);
	for (size_t i = 0; i < g.nlink; i++)
		link_close(&g.link[i]);
	if (listen_fd != -1)
		close(listen_fd);
	free(g.link);
	free(g.p);
	free(g.hello);
	free(g.here);
	return r;
}
