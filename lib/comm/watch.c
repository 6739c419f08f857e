/*
 * watch: the thread that knows who is alive.
 *
 * It polls the control connections.  The lead greets everyone each second and
 * they greet back, so an idle rank wakes once a second.  The world ends when
 * a connection closes without a goodbye, when nothing was heard for too long,
 * or when a rank says so; the lead tells the others, and each watcher wakes
 * its own rank wherever it waits.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "comm/comm_priv.h"

#define MS ((uint64_t)1000000)

enum {
	BEAT_MS = 1000,
	OBITUARY_MS = 300,		/* how long last words are awaited */
	GOODBYE_MS = 500,		/* for the other side to let go */
	ENDED_MS = 100,			/* the same when the world has ended */
	TELL_MS = 500,			/* comm_fail: for the news to be out */
};

static void
ring(struct comm *c)
{
	uint64_t one = 1;

	(void)!write(c->watch.bell, &one, sizeof(one));
}

int
world_over(struct comm *c, struct err *e)
{
	return err_set(e, c->end_code, "%s", c->end_text);
}

/* Whoever comes first says why. */
static void
end_with(struct comm *c, int code, const char *text)
{
	uint64_t one = 1;

	pthread_mutex_lock(&c->watch.lock);
	if (!atomic_load(&c->ended)) {
		snprintf(c->end_text, sizeof(c->end_text), "%s", text);
		c->end_code = code;
		atomic_store(&c->ended, true);
		(void)!write(c->news_fd, &one, sizeof(one));
	}
	pthread_mutex_unlock(&c->watch.lock);
	ring(c);
}

int
world_end(struct comm *c, int code, struct err *e, const char *fmt, ...)
{
	char text[sizeof(c->end_text)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	end_with(c, code, text);
	return world_over(c, e);
}

static uint64_t
beat_ns(const struct comm *c)
{
	uint64_t often = c->alive_ns / 4;

	return often < BEAT_MS * MS ? often : BEAT_MS * MS;
}

/* ---- what comes in ---- */

static void
left(struct comm *c, unsigned rank)
{
	uint8_t body[4] = { rank & 0xff, rank >> 8 & 0xff };

	if (rank >= c->world || atomic_exchange(&c->left[rank], true))
		return;
	atomic_fetch_add(&c->nleft, 1);
	if (atomic_load(&c->ended))	/* why it left is what others hear */
		return;
	for (unsigned i = 0; c->rank == 0 && i < c->nlink; i++)
		link_put(&c->link[i], FRAME_LEFT, body, sizeof(body));
	news_wake(c);
}

static void
dies(struct comm *c, unsigned rank)
{
	struct watch *w = &c->watch;

	if (atomic_load(&c->ended) || atomic_load(&c->left[rank]))
		return;
	if (w->dying == NO_RANK) {
		w->dying = rank;
		w->dying_ns = now_ns();
	}
}

static void
on_end(struct comm *c, const struct frame *f)
{
	struct reader r = { f->p, f->n, false };
	char text[sizeof(c->end_text)];
	uint32_t code = get_u32(&r);

	get_text(&r, text, sizeof(text));
	/* whoever complains of a rank that is known to be dying is late */
	if (r.bad || c->watch.dying != NO_RANK)
		return;
	end_with(c, code == ERR_CALLER ? ERR_CALLER : ERR_SYSTEM, text);
}

static void
on_frame(struct comm *c, struct link *l, const struct frame *f)
{
	struct reader r = { f->p, f->n, false };

	switch (f->type) {
	case FRAME_ALIVE:
		if (c->rank != 0)
			link_put(l, FRAME_ALIVE, NULL, 0);
		break;
	case FRAME_END:
		on_end(c, f);
		break;
	case FRAME_LEFT:
		left(c, get_u32(&r));
		break;
	case FRAME_BYE:
		left(c, l->rank);
		link_close(l);
		break;
	default:			/* of the time before the welcome */
		break;
	}
}

static void
on_link(struct comm *c, struct link *l)
{
	struct frame f;
	int r;

	while ((r = link_read(l, &f)) == 1) {
		on_frame(c, l, &f);
		if (l->fd == -1)
			return;
	}
	if (r == -1) {
		link_close(l);
		dies(c, l->rank);
	}
}

/* ---- what is due ---- */

static void
look_for_dead(struct comm *c)
{
	struct watch *w = &c->watch;
	char who[COMM_NAME + 32], how[COMM_WORDS] = "";

	if (c->rank == 0) {
		pthread_mutex_lock(&w->lock);
		for (unsigned i = 0; w->dying == NO_RANK && i < c->world; i++) {
			if (!w->obituary[i][0] || c->link[i].fd == -1)
				continue;
			pthread_mutex_unlock(&w->lock);
			on_link(c, &c->link[i]);	/* a goodbye? */
			dies(c, i);
			pthread_mutex_lock(&w->lock);
		}
		if (w->dying != NO_RANK)
			memcpy(how, w->obituary[w->dying], sizeof(how));
		pthread_mutex_unlock(&w->lock);
	}
	if (w->dying == NO_RANK || (c->rank == 0 && !how[0] &&
	    now_ns() - w->dying_ns < OBITUARY_MS * MS))
		return;
	world_end(c, ERR_SYSTEM, NULL, "%s died%s%s",
	    comm_who(c, w->dying, who, sizeof(who)), how[0] ? ": " : "", how);
}

static void
look_for_silent(struct comm *c)
{
	char who[COMM_NAME + 32], span[32];
	uint64_t now = now_ns();

	for (unsigned i = 0; i < c->nlink; i++) {
		struct link *l = &c->link[i];

		if (l->fd == -1 || now - l->heard_ns < c->alive_ns)
			continue;
		span_text(c->alive_ns, span, sizeof(span));
		world_end(c, ERR_SYSTEM, NULL, "%s: no sign of life for %s "
		    "(stopped, or the network is down)",
		    comm_who(c, l->rank, who, sizeof(who)), span);
		return;
	}
}

static void
beat(struct comm *c, uint64_t now)
{
	struct watch *w = &c->watch;

	/* this process itself stood still: others' words lie unread */
	if (now > w->due_ns + c->alive_ns / 4) {
		for (unsigned i = 0; i < c->nlink; i++)
			c->link[i].heard_ns = now;
	}
	if (now < w->beat_ns)
		return;
	w->beat_ns = now + beat_ns(c);
	for (unsigned i = 0; c->rank == 0 && i < c->nlink; i++)
		link_put(&c->link[i], FRAME_ALIVE, NULL, 0);
	if (!atomic_load(&c->ended))
		look_for_silent(c);
}

static void
spread(struct comm *c)
{
	struct buf b = {0};

	c->watch.spread = true;
	put_u32(&b, c->end_code);
	put_text(&b, c->end_text);
	for (unsigned i = 0; i < c->nlink && !b.oom; i++) {
		link_put(&c->link[i], FRAME_END, b.p, b.n);
		link_flush(&c->link[i]);
	}
	buf_free(&b);
	news_wake(c);
	atomic_store(&c->told, true);
}

/* ---- the loop ---- */

static int
poll_links(struct comm *c, struct pollfd *p, int ms)
{
	for (unsigned i = 0; i < c->nlink; i++) {
		p[i].fd = c->link[i].fd;
		p[i].events = POLLIN;
		if (!link_idle(&c->link[i]))
			p[i].events |= POLLOUT;
		p[i].revents = 0;
	}
	p[c->nlink] = (struct pollfd){ c->watch.bell, POLLIN, 0 };
	return poll(p, c->nlink + 1, ms);
}

/* Says goodbye and waits a moment for the other side to close, so that what
 * was said is not lost with the connection. */
static void
goodbye(struct comm *c, struct pollfd *p)
{
	uint64_t end = now_ns() + (atomic_load(&c->ended) ? ENDED_MS :
	    GOODBYE_MS) * MS;
	unsigned open = 1;
	struct frame f;

	for (unsigned i = 0; i < c->nlink; i++)
		link_put(&c->link[i], FRAME_BYE, NULL, 0);
	while (open && now_ns() < end) {
		open = 0;
		for (unsigned i = 0; i < c->nlink; i++) {
			struct link *l = &c->link[i];
			int r = 0;

			if (l->fd == -1)
				continue;
			while ((r = link_read(l, &f)) == 1)
				continue;
			if (r == -1 || link_flush(l) == -1) {
				link_close(l);
				continue;
			}
			if (link_idle(l))
				shutdown(l->fd, SHUT_WR);
			open++;
		}
		if (open) {
			poll_links(c, p, 20);
			p[c->nlink].fd = -1;
		}
	}
}

static int
time_left(struct comm *c)
{
	struct watch *w = &c->watch;
	uint64_t now = now_ns(), due = w->beat_ns;

	if (w->dying != NO_RANK && !atomic_load(&c->ended) &&
	    w->dying_ns + OBITUARY_MS * MS < due)
		due = w->dying_ns + OBITUARY_MS * MS;
	w->due_ns = due;
	return due > now ? (int)((due - now) / MS) + 1 : 0;
}

static void *
watch(void *arg)
{
	struct comm *c = arg;
	struct pollfd *p = mem_new(c->nlink + 1, sizeof(*p), NULL);
	bool closing = false;
	uint64_t n;

	if (!p)
		end_with(c, ERR_SYSTEM, "out of memory");
	while (p && !closing) {
		int k = poll_links(c, p, c->nlink ? time_left(c) : -1);
		uint64_t now = now_ns();

		for (unsigned i = 0; k > 0 && i < c->nlink; i++) {
			if (p[i].revents & ~POLLOUT)
				on_link(c, &c->link[i]);
		}
		if (k > 0 && p[c->nlink].revents)
			(void)!read(c->watch.bell, &n, sizeof(n));
		if (!atomic_load(&c->ended))
			look_for_dead(c);
		if (c->nlink)
			beat(c, now);
		if (atomic_load(&c->ended) && !c->watch.spread)
			spread(c);
		for (unsigned i = 0; i < c->nlink; i++) {
			if (!link_idle(&c->link[i]))
				link_flush(&c->link[i]);
		}
		pthread_mutex_lock(&c->watch.lock);
		closing = c->watch.closing;
		pthread_mutex_unlock(&c->watch.lock);
	}
	if (atomic_load(&c->ended) && !c->watch.spread)
		spread(c);		/* it ended while we looked away */
	if (p)
		goodbye(c, p);
	free(p);
	return NULL;
}

int
watch_start(struct comm *c, struct err *e)
{
	struct watch *w = &c->watch;
	sigset_t all, old;
	int bad;

	w->dying = NO_RANK;
	w->beat_ns = w->due_ns = now_ns();
	for (unsigned i = 0; i < c->nlink; i++)
		c->link[i].heard_ns = w->beat_ns;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	bad = pthread_create(&w->thread, NULL, watch, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (bad)
		return err_set(e, ERR_SYSTEM, "start the watcher: %s",
		    strerror(bad));
	w->started = true;
	return 0;
}

void
watch_stop(struct comm *c)
{
	if (!c->watch.started)
		return;
	pthread_mutex_lock(&c->watch.lock);
	c->watch.closing = true;
	pthread_mutex_unlock(&c->watch.lock);
	ring(c);
	pthread_join(c->watch.thread, NULL);
	c->watch.started = false;
}

void
comm_fail(struct comm *c, const char *why)
{
	struct timespec nap = { 0, 1000000 };
	uint64_t end = now_ns() + TELL_MS * MS;
	char who[COMM_NAME + 32];

	world_end(c, ERR_SYSTEM, NULL, "%s gave up: %s",
	    comm_who(c, c->rank, who, sizeof(who)), why);
	while (!atomic_load(&c->told) && now_ns() < end)
		nanosleep(&nap, NULL);
}

void
comm_obituary(struct comm *c, unsigned rank, const char *how)
{
	struct watch *w = &c->watch;

	if (c->rank != 0 || rank >= c->world || rank == 0)
		return;
	pthread_mutex_lock(&w->lock);
	if (!w->obituary[rank][0])
		snprintf(w->obituary[rank], COMM_WORDS, "%s", how);
	pthread_mutex_unlock(&w->lock);
	ring(c);
}

/* Whoever has the descriptor can speak; a frame is far smaller than what a
 * socket takes at once, so it does not wait, nor cut the rank's own last one
 * but when the peer has not read for long. */
void
comm_epitaph(int fd, unsigned rank, const char *how)
{
	char host[COMM_NAME], text[COMM_WORDS];
	struct link l = { .fd = fd };
	struct buf b = {0};

	comm_here(host, sizeof(host));
	snprintf(text, sizeof(text), "rank %u on %.64s died: %.400s", rank,
	    host, how);
	put_u32(&b, ERR_SYSTEM);
	put_text(&b, text);
	if (!b.oom)
		link_put(&l, FRAME_END, b.p, b.n);
	link_flush(&l);
	buf_free(&b);
	buf_free(&l.out);
}

int
comm_check(struct comm *c, struct err *e)
{
	return atomic_load(&c->ended) ? world_over(c, e) : 0;
}

int
comm_end_fd(const struct comm *c)
{
	return c->news_fd;
}
