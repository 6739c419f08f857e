/*
 * chan: messages from one rank to another, in a ring of slots.
 *
 * The ring has one slot more than its depth: the one that the receiver is
 * reading.  Between hosts each side has a ring of its own; the receiver says
 * what it has taken, so a sender never runs ahead of the other's ring.
 */
#include <stdlib.h>
#include <string.h>

#include "comm/far.h"

struct ring {
	struct gate sent, taken;	/* messages, counted from 0 */
};

struct comm_chan {
	struct comm *c;			/* NULL: neither end is here */
	size_t id, cap, stride, nprivate;
	unsigned depth, peer;
	bool sends, far;
	uint32_t next;			/* mine: messages sent, or taken */
	struct ring *ring;
	uint64_t *len;			/* [depth + 1] */
	char *slot;			/* [depth + 1][stride] */
	char *private;			/* far: where the three above lie */
	struct far_out *out;		/* [depth + 1]: messages, or credit */
};

static size_t
slot_of(const struct comm_chan *h, uint32_t k)
{
	return k % (h->depth + 1);
}

/* Places of a ring from *at on, relative to base. */
static void
ring_take(struct comm_chan *h, char *base, size_t *at)
{
	size_t ring = region_take(at, 1, sizeof(*h->ring));
	size_t len = region_take(at, (size_t)h->depth + 1, sizeof(*h->len));
	size_t slot = region_take(at, (size_t)h->depth + 1, h->stride);

	if (!base)
		return;
	h->ring = (void *)(base + ring);
	h->len = (void *)(base + len);
	h->slot = base + slot;
}

static int
chan_open(struct comm *c, size_t id, size_t *at, struct err *e)
{
	const struct comm_chan_def *d = &c->w.chan[id];
	unsigned here = c->info[c->rank].host;
	bool from = c->info[d->from].host == here;
	bool to = c->info[d->to].host == here;
	struct comm_chan h = { .id = id, .cap = d->cap, .depth = d->depth };

	h.stride = (d->cap + 63) / 64 * 64;
	h.sends = d->from == c->rank;
	h.peer = h.sends ? d->to : d->from;
	if (from && to)
		ring_take(&h, c->base, at);
	if (!c->base || (d->from != c->rank && d->to != c->rank))
		return 0;
	h.far = !(from && to);
	h.c = c;
	if (h.far) {
		ring_take(&h, NULL, &h.nprivate);
		h.private = h.nprivate == SIZE_MAX ? NULL :
		    mem_map(h.nprivate, e);
		h.out = mem_new((size_t)h.depth + 1, sizeof(*h.out), e);
		h.nprivate = h.private ? h.nprivate : 0;
		c->chan[id] = h;
		if (!h.private || !h.out)
			return -1;
		ring_take(&h, h.private, &(size_t){0});
	}
	c->chan[id] = h;
	return 0;
}

int
chans_open(struct comm *c, size_t *at, struct err *e)
{
	if (c->base) {
		c->chan = mem_new(c->w.nchan, sizeof(*c->chan), e);
		if (!c->chan)
			return -1;
	}
	for (size_t i = 0; i < c->w.nchan; i++) {
		if (chan_open(c, i, at, e) == -1)
			return -1;
	}
	return 0;
}

void
chans_close(struct comm *c)
{
	for (size_t i = 0; c->chan && i < c->w.nchan; i++) {
		mem_unmap(c->chan[i].private, c->chan[i].nprivate);
		free(c->chan[i].out);
	}
	free(c->chan);
}

void
chans_peers(const struct comm *c, bool *peer)
{
	for (size_t i = 0; i < c->w.nchan; i++) {
		if (c->chan[i].c && c->chan[i].far)
			peer[c->chan[i].peer] = true;
	}
}

/* ---- frames from other hosts ---- */

void *
chan_begin(struct comm *c, unsigned from, const struct far_note *n,
    const char **why)
{
	struct comm_chan *h = n->id < c->w.nchan ? &c->chan[n->id] : NULL;

	*why = "a channel that we don't share";
	if (!h || !h->c || !h->far || h->peer != from ||
	    h->sends != (n->kind == FAR_CREDIT))
		return NULL;
	if (n->kind == FAR_CREDIT) {
		uint32_t more = n->seq - atomic_load(&h->ring->taken.value);

		*why = "more messages taken than were sent";
		if (n->n || more > h->next -
		    atomic_load(&h->ring->taken.value))
			return NULL;
		return h->slot;
	}
	*why = "more bytes than the channel holds";
	if (n->n > h->cap || n->off)
		return NULL;
	*why = "a message that is not due";
	if (n->seq != atomic_load(&h->ring->sent.value) ||
	    n->seq - h->next >= h->depth)
		return NULL;
	return h->slot + slot_of(h, n->seq) * h->stride;
}

void
chan_end(struct comm *c, unsigned from, const struct far_note *n)
{
	struct comm_chan *h = &c->chan[n->id];

	(void)from;
	if (n->kind == FAR_CREDIT) {
		atomic_store(&h->ring->taken.value, n->seq);
		return;
	}
	h->len[slot_of(h, n->seq)] = n->n;
	atomic_store(&h->ring->sent.value, n->seq + 1);
}

/* ---- both ends ---- */

struct comm_chan *
comm_chan(struct comm *c, size_t i)
{
	return i < c->w.nchan && c->chan[i].c ? &c->chan[i] : NULL;
}

static bool
other_end(const void *arg, unsigned rank)
{
	const struct comm_chan *h = arg;

	if (rank != h->peer)
		return false;
	if (h->sends)
		return h->next - atomic_load(&h->ring->taken.value) >=
		    h->depth;
	return atomic_load(&h->ring->sent.value) == h->next;
}

static void
other_what(const void *arg, char *s, size_t size)
{
	const struct comm_chan *h = arg;

	snprintf(s, size, "has not %s message %u of channel %zu",
	    h->sends ? "taken" : "sent", h->sends ? h->next - h->depth :
	    h->next, h->id);
}

static bool
has_room(const void *arg)
{
	const struct comm_chan *h = arg;

	return h->next - atomic_load(&h->ring->taken.value) < h->depth &&
	    (!h->far || !h->out[slot_of(h, h->next)].busy);
}

static bool
has_message(const void *arg)
{
	const struct comm_chan *h = arg;

	return atomic_load(&h->ring->sent.value) != h->next;
}

void *
comm_fill(struct comm_chan *h, struct err *e)
{
	struct lack lack = { other_end, other_what, h };
	uint64_t deadline = 0;
	uint32_t taken;

	if (!h->sends) {
		err_set(e, ERR_CALLER, "channel %zu: this rank is its "
		    "receiver", h->id);
		return NULL;
	}
	if (atomic_load(&h->c->ended)) {
		world_over(h->c, e);
		return NULL;
	}
	while (!has_room(h)) {
		if (!deadline)
			deadline = deadline_in(h->c->step_ns);
		taken = atomic_load(&h->ring->taken.value);
		if (h->far) {
			if (far_wait(h->c, has_room, deadline, &lack, e) == -1)
				return NULL;
		} else if (h->next - taken >= h->depth &&
		    gate_wait(h->c, &h->ring->taken, taken, deadline, &lack,
		    e) == -1) {
			return NULL;
		}
	}
	return h->slot + slot_of(h, h->next) * h->stride;
}

int
comm_send(struct comm_chan *h, size_t n, struct err *e)
{
	size_t k = slot_of(h, h->next);

	if (n > h->cap)
		return err_set(e, ERR_CALLER, "channel %zu: a message of %zu "
		    "bytes, at most %zu fit", h->id, n, h->cap);
	if (!comm_fill(h, e))		/* at once, after a comm_fill */
		return -1;
	h->len[k] = n;
	if (h->far) {
		struct far_note note = { FAR_CHAN, (uint32_t)h->id, h->next,
			0, n };

		h->next++;
		return far_post(h->c, h->peer, &h->out[k], &note,
		    h->slot + k * h->stride, e);
	}
	h->next++;
	gate_move(&h->ring->sent);
	return 0;
}

static bool
credit_free(const void *arg)
{
	const struct comm_chan *h = arg;

	return !h->out[slot_of(h, h->next)].busy;
}

/* Tells the sender that one more was taken. */
static int
credit(struct comm_chan *h, uint64_t deadline, const struct lack *lack,
    struct err *e)
{
	struct far_note note = { FAR_CREDIT, (uint32_t)h->id, h->next + 1, 0,
		0 };

	if (!h->far) {
		gate_move(&h->ring->taken);
		return 0;
	}
	if (far_wait(h->c, credit_free, deadline, lack, e) == -1)
		return -1;
	return far_post(h->c, h->peer, &h->out[slot_of(h, h->next)], &note,
	    NULL, e);
}

int
comm_recv(struct comm_chan *h, const void **p, size_t *n, struct err *e)
{
	struct lack lack = { other_end, other_what, h };
	uint64_t deadline = deadline_in(h->c->step_ns);
	size_t k = slot_of(h, h->next);

	if (h->sends)
		return err_set(e, ERR_CALLER, "channel %zu: this rank is its "
		    "sender", h->id);
	if (atomic_load(&h->c->ended) && !has_message(h))
		return world_over(h->c, e);
	if (h->far) {
		if (far_wait(h->c, has_message, deadline, &lack, e) == -1)
			return -1;
	} else if (!has_message(h) && gate_wait(h->c, &h->ring->sent, h->next,
	    deadline, &lack, e) == -1) {
		return -1;
	}
	if (credit(h, deadline, &lack, e) == -1)
		return -1;
	*p = h->slot + k * h->stride;
	*n = h->len[k];
	if (*n > h->cap)
		return world_end(h->c, ERR_SYSTEM, e, "channel %zu: the shared "
		    "memory was overwritten", h->id);
	h->next++;
	return 0;
}
