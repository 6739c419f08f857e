/*
 * far: frames between ranks of different hosts.
 *
 * From each peer one receive is always posted: a head, or the body that the
 * last head announced, straight to where it belongs.  What a head says is
 * checked by the group or channel it names before a byte of the body is let
 * in; a peer whose head cannot be true ends the world with a line that names
 * it.  To each peer frames go out one after the other, in the order of posts.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "comm/far.h"

#define MS ((uint64_t)1000000)

enum {
	MAGIC = 0x46495344,		/* "DSIF" */
	NEWS_MS = 1500,			/* after a connection broke, for the
					 * watcher to learn why */
	FLUSH_MS = 2000,		/* for what is under way at close */
};

struct peer {
	bool on, gone, in_body;
	uint64_t gone_ns;
	struct far_out *first, *last;
	struct far_note note;
	uint8_t head[COMM_FAR_HEAD];
};

struct far_state {
	const struct comm_far *t;
	void *h;
	struct peer *peer;		/* [world] */
	const char **addr, **host;
	unsigned *list;			/* ranks with peer.on */
	size_t nlist, nbusy, ngone;
	struct comm_far_world world;
};

static bool
stopped(void *arg)
{
	struct comm *c = arg;

	return atomic_load(&c->ended);
}

/* ---- heads ---- */

static void
head_put(uint8_t head[COMM_FAR_HEAD], const struct far_note *n)
{
	uint64_t v[4] = { MAGIC | (uint64_t)n->kind << 32,
		n->id | (uint64_t)n->seq << 32, n->off, n->n };

	for (unsigned i = 0; i < COMM_FAR_HEAD; i++)
		head[i] = v[i / 8] >> (i % 8 * 8) & 0xff;
}

static bool
head_get(const uint8_t head[COMM_FAR_HEAD], struct far_note *n)
{
	uint64_t v[4] = {0};

	for (unsigned i = 0; i < COMM_FAR_HEAD; i++)
		v[i / 8] |= (uint64_t)head[i] << (i % 8 * 8);
	n->kind = v[0] >> 32 & 0xff;
	n->id = (uint32_t)v[1];
	n->seq = v[1] >> 32;
	n->off = v[2];
	n->n = v[3];
	return v[0] >> 40 == 0 && (uint32_t)v[0] == MAGIC;
}

/* ---- going out ---- */

/* peer's first frame goes to the transport. */
static int
start(struct comm *c, unsigned rank, struct err *e)
{
	struct far_state *f = c->far;
	struct far_out *o = f->peer[rank].first;

	if (f->t->send(f->h, rank, o->head, o->body, o->n, e) == -1)
		return world_end(c, ERR_SYSTEM, e, "%s", e ? e->msg :
		    "the far transport broke");
	return 0;
}

static void
out_done(struct far_state *f, struct peer *p)
{
	struct far_out *o = p->first;

	p->first = o->next;
	if (!p->first)
		p->last = NULL;
	o->next = NULL;
	o->busy = false;
	f->nbusy--;
}

int
far_post(struct comm *c, unsigned rank, struct far_out *o,
    const struct far_note *note, const void *body, struct err *e)
{
	struct far_state *f = c->far;
	struct peer *p = &f->peer[rank];

	if (p->gone)
		return 0;
	head_put(o->head, note);
	o->body = body;
	o->n = note->n;
	o->next = NULL;
	o->busy = true;
	f->nbusy++;
	if (p->last)
		p->last->next = o;
	else
		p->first = o;
	p->last = o;
	return p->first == o ? start(c, rank, e) : 0;
}

bool
far_sending(const struct comm *c)
{
	const struct far_state *f = c->far;

	return f->nbusy > 0;
}

/* ---- coming in ---- */

static int
want(struct comm *c, unsigned rank, void *p, size_t n, struct err *e)
{
	struct far_state *f = c->far;

	if (f->t->recv(f->h, rank, p, n, e) == -1)
		return world_end(c, ERR_SYSTEM, e, "%s", e ? e->msg :
		    "the far transport broke");
	return 0;
}

static void *
begin(struct comm *c, unsigned rank, const struct far_note *n,
    const char **why)
{
	switch (n->kind) {
	case FAR_SHARE:
	case FAR_REDUCE:
		return group_begin(c, rank, n, why);
	case FAR_CHAN:
	case FAR_CREDIT:
		return chan_begin(c, rank, n, why);
	case FAR_TELL:
	case FAR_TELL_CREDIT:
		return tell_begin(c, rank, n, why);
	}
	*why = "a frame of no known kind";
	return NULL;
}

static void
end(struct comm *c, unsigned rank, const struct far_note *n)
{
	if (n->kind == FAR_SHARE || n->kind == FAR_REDUCE)
		group_end(c, rank, n);
	else if (n->kind == FAR_CHAN || n->kind == FAR_CREDIT)
		chan_end(c, rank, n);
	else
		tell_end(c, rank, n);
}

static int
on_head(struct comm *c, unsigned rank, struct err *e)
{
	struct far_state *f = c->far;
	struct peer *p = &f->peer[rank];
	const char *why = "a frame that is not ours";
	char who[COMM_NAME + 32];
	void *at = NULL;

	if (head_get(p->head, &p->note))
		at = begin(c, rank, &p->note, &why);
	if (!at)
		return world_end(c, ERR_SYSTEM, e, "%s sent nonsense: %s (kind "
		    "%d, id %u, number %u, %llu bytes at %llu)",
		    comm_who(c, rank, who, sizeof(who)), why,
		    (int)p->note.kind, p->note.id, p->note.seq,
		    (unsigned long long)p->note.n,
		    (unsigned long long)p->note.off);
	if (p->note.n) {
		p->in_body = true;
		return want(c, rank, at, p->note.n, e);
	}
	end(c, rank, &p->note);
	return want(c, rank, p->head, COMM_FAR_HEAD, e);
}

static int
on_event(struct comm *c, const struct comm_far_event *ev, struct err *e)
{
	struct far_state *f = c->far;
	struct peer *p = &f->peer[ev->peer];

	switch (ev->what) {
	case COMM_FAR_GOT:
		if (!p->in_body)
			return on_head(c, ev->peer, e);
		p->in_body = false;
		end(c, ev->peer, &p->note);
		return want(c, ev->peer, p->head, COMM_FAR_HEAD, e);
	case COMM_FAR_SENT:
		out_done(f, p);
		return p->first ? start(c, ev->peer, e) : 0;
	case COMM_FAR_GONE:
		p->gone = true;
		f->ngone++;
		p->gone_ns = now_ns();
		while (p->first)
			out_done(f, p);
		return 0;
	case COMM_FAR_NONE:
		break;
	}
	return 0;
}

int
far_step(struct comm *c, uint64_t deadline_ns, struct err *e)
{
	struct far_state *f = c->far;
	struct comm_far_event ev;

	for (;; deadline_ns = 0) {
		if (atomic_load(&c->ended))
			return world_over(c, e);
		if (f->t->next(f->h, deadline_ns, &ev, e) == -1)
			return world_end(c, ERR_SYSTEM, e, "%s", e ? e->msg :
			    "the far transport broke");
		if (ev.what == COMM_FAR_NONE)
			return atomic_load(&c->ended) ? world_over(c, e) : 0;
		if (on_event(c, &ev, e) == -1)
			return -1;
	}
}

/* Has the connection to a rank broken that is waited for?  The watcher learns
 * why before long, or nobody does: until then 0, and *until is no later. */
static int
look_for_gone(struct comm *c, const struct lack *lack, uint64_t now,
    uint64_t *until, struct err *e)
{
	struct far_state *f = c->far;
	char who[COMM_NAME + 32], what[COMM_WORDS / 2];

	for (size_t i = 0; f->ngone && i < f->nlist; i++) {
		unsigned rank = f->list[i];
		struct peer *p = &f->peer[rank];

		if (!p->gone || !lack->rank(lack->arg, rank))
			continue;
		if (atomic_load(&c->left[rank]))
			return lack_left(c, lack, rank, e);
		if (now >= p->gone_ns + NEWS_MS * MS) {
			lack->what(lack->arg, what, sizeof(what));
			return world_end(c, ERR_SYSTEM, e, "%s: the far "
			    "connection broke: it %s", comm_who(c, rank, who,
			    sizeof(who)), what);
		}
		if (p->gone_ns + NEWS_MS * MS < *until)
			*until = p->gone_ns + NEWS_MS * MS;
	}
	return 0;
}

int
far_wait(struct comm *c, bool (*done)(const void *arg), uint64_t deadline_ns,
    const struct lack *lack, struct err *e)
{
	while (!done(lack->arg)) {
		uint64_t now = now_ns(), until = deadline_ns;

		if (look_for_gone(c, lack, now, &until, e) == -1)
			return -1;
		if (now >= deadline_ns)
			return lack_late(c, lack, e);
		if (far_step(c, until, e) == -1)
			return -1;
	}
	return 0;
}

/* ---- opening, closing ---- */

static int
fill_world(struct comm *c, struct far_state *f, struct err *e)
{
	bool on[COMM_MAX_RANKS] = {0};

	f->peer = mem_new(c->world, sizeof(*f->peer), e);
	f->list = mem_new(c->world, sizeof(*f->list), e);
	f->addr = mem_new(c->world, sizeof(*f->addr), e);
	f->host = mem_new(c->world, sizeof(*f->host), e);
	if (!f->peer || !f->list || !f->addr || !f->host)
		return -1;
	groups_peers(c, on);
	chans_peers(c, on);
	tell_peers(c, on);
	for (unsigned i = 0; i < c->world; i++) {
		f->addr[i] = c->info[i].addr;
		f->host[i] = c->info[i].name;
		f->peer[i].on = on[i];
		if (on[i])
			f->list[f->nlist++] = i;
	}
	f->world = (struct comm_far_world){ f->addr, f->host, f->list,
		f->nlist, {0}, c->join_end_ns, stopped, c };
	memcpy(f->world.token, c->token, sizeof(c->token));
	return 0;
}

static void
far_free(struct far_state *f)
{
	if (!f)
		return;
	f->t->close(f->h);
	free(f->peer);
	free(f->list);
	free(f->addr);
	free(f->host);
	free(f);
}

/* A peer that can't be reached has often died, and the watcher will know. */
static void
await_news(struct comm *c)
{
	struct pollfd p = { c->news_fd, POLLIN, 0 };

	poll(&p, 1, NEWS_MS);
}

int
far_open(struct comm *c, void *h, struct err *e)
{
	struct far_state *f = mem_new(1, sizeof(*f), e);
	struct err why = {0};

	if (!f) {
		c->o.far->close(h);
		return world_end(c, ERR_SYSTEM, e, "out of memory");
	}
	f->t = c->o.far;
	f->h = h;
	if (fill_world(c, f, &why) == -1 ||
	    f->t->join(h, &f->world, &why) == -1) {
		far_free(f);
		await_news(c);
		if (atomic_load(&c->ended))
			return world_over(c, e);
		return world_end(c, why.code, e, "%s", why.msg);
	}
	atomic_store(&c->far, f);
	for (size_t i = 0; i < f->nlist; i++) {
		if (want(c, f->list[i], f->peer[f->list[i]].head,
		    COMM_FAR_HEAD, e) == -1)
			return -1;
	}
	return 0;
}

void
far_poke(struct comm *c)
{
	struct far_state *f = atomic_load(&c->far);

	if (f)
		f->t->poke(f->h);
}

void
far_flush(struct comm *c)
{
	uint64_t until = now_ns() + FLUSH_MS * MS;

	while (c->far && far_sending(c) && now_ns() < until) {
		if (far_step(c, until, NULL) == -1)
			break;
	}
}

void
far_close(struct comm *c)
{
	far_free(c->far);
	c->far = NULL;
}
