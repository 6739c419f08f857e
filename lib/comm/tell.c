/*
 * tell: the lead's messages to all others.
 *
 * One ring on the lead's host, where each reader has its own count of what it
 * has taken; readers on other hosts get a copy each, into a ring of their own,
 * so that none depends on another one of its host.
 */
#include <stdlib.h>
#include <string.h>

#include "comm/far.h"

enum { SLOTS = COMM_TELL_DEPTH + 1 };	/* one is being read */

struct reader_far {
	unsigned rank;
	uint32_t taken;
	struct far_out out[SLOTS];
};

struct tell {
	struct comm *c;
	size_t cap, stride, nprivate;
	uint32_t next;			/* mine: messages told, or taken */
	struct gate *told;
	struct gate *taken;		/* [nlocal] on the lead's host */
	uint64_t *len;			/* [SLOTS] */
	char *slot;			/* [SLOTS][stride] */
	char *private;			/* not on the lead's host: the ring */
	struct reader_far *far;		/* the lead: [nfar] */
	unsigned nfar;
	struct far_out *credit;		/* a far reader: [SLOTS] */
	unsigned slow;			/* whom the lead waits for */
};

static bool
at_lead(const struct comm *c)
{
	return c->info[c->rank].host == c->info[0].host;
}

static void
ring_take(struct tell *t, char *base, unsigned nreader, size_t *at)
{
	size_t told = region_take(at, 1, sizeof(*t->told));
	size_t taken = region_take(at, nreader, sizeof(*t->taken));
	size_t len = region_take(at, SLOTS, sizeof(*t->len));
	size_t slot = region_take(at, SLOTS, t->stride);

	if (!base)
		return;
	t->told = (void *)(base + told);
	t->taken = (void *)(base + taken);
	t->len = (void *)(base + len);
	t->slot = base + slot;
}

static int
far_fill(struct tell *t, struct err *e)
{
	struct comm *c = t->c;

	if (c->rank == 0) {
		t->far = mem_new(c->world, sizeof(*t->far), e);
		for (unsigned i = 0; t->far && i < c->world; i++) {
			if (c->info[i].host != c->info[0].host)
				t->far[t->nfar++].rank = i;
		}
		return t->far ? 0 : -1;
	}
	if (at_lead(c))
		return 0;
	ring_take(t, NULL, 1, &t->nprivate);
	if (t->nprivate == SIZE_MAX)
		return err_set(e, ERR_SYSTEM, "messages of %zu bytes", t->cap);
	t->private = mem_map(t->nprivate, e);
	t->credit = mem_new(SLOTS, sizeof(*t->credit), e);
	if (!t->private || !t->credit)
		return -1;
	ring_take(t, t->private, 1, &(size_t){0});
	return 0;
}

int
tell_open(struct comm *c, size_t *at, struct err *e)
{
	struct tell now = { .c = c, .cap = c->w.bcast_cap }, *t = &now;

	now.stride = (now.cap + 63) / 64 * 64;
	if (c->base) {
		t = c->tell = mem_new(1, sizeof(*t), e);
		if (!t)
			return -1;
		*t = now;
	}
	if (at_lead(c))
		ring_take(t, c->base, c->nlocal, at);
	return c->base ? far_fill(t, e) : 0;
}

void
tell_close(struct comm *c)
{
	if (!c->tell)
		return;
	mem_unmap(c->tell->private, c->tell->nprivate);
	free(c->tell->credit);
	free(c->tell->far);
	free(c->tell);
}

void
tell_peers(const struct comm *c, bool *peer)
{
	for (unsigned i = 0; i < c->tell->nfar; i++)
		peer[c->tell->far[i].rank] = true;
	if (!at_lead(c))
		peer[0] = true;
}

/* ---- frames from other hosts ---- */

void *
tell_begin(struct comm *c, unsigned from, const struct far_note *n,
    const char **why)
{
	struct tell *t = c->tell;

	*why = "more messages heard than were told";
	for (unsigned i = 0; n->kind == FAR_TELL_CREDIT && i < t->nfar; i++) {
		if (t->far[i].rank == from && !n->n &&
		    n->seq - t->far[i].taken <= t->next - t->far[i].taken)
			return t->slot;
	}
	if (n->kind == FAR_TELL_CREDIT)
		return NULL;
	*why = "a message of the lead that is not due";
	if (from != 0 || at_lead(c) || n->off || n->n > t->cap ||
	    n->seq != atomic_load(&t->told->value) ||
	    n->seq - t->next >= COMM_TELL_DEPTH)
		return NULL;
	return t->slot + n->seq % SLOTS * t->stride;
}

void
tell_end(struct comm *c, unsigned from, const struct far_note *n)
{
	struct tell *t = c->tell;

	if (n->kind == FAR_TELL) {
		t->len[n->seq % SLOTS] = n->n;
		atomic_store(&t->told->value, n->seq + 1);
		return;
	}
	for (unsigned i = 0; i < t->nfar; i++) {
		if (t->far[i].rank == from)
			t->far[i].taken = n->seq;
	}
}

/* ---- the lead ---- */

static bool
slow_has_room(const void *arg)
{
	const struct tell *t = arg;
	const struct reader_far *f = &t->far[t->slow];

	return t->next - f->taken < COMM_TELL_DEPTH &&
	    !f->out[t->next % SLOTS].busy;
}

static bool
slow_far(const void *arg, unsigned rank)
{
	const struct tell *t = arg;

	return rank == t->far[t->slow].rank && !slow_has_room(t);
}

static bool
slow_local(const void *arg, unsigned rank)
{
	const struct tell *t = arg;
	uint32_t taken = atomic_load(&t->taken[t->slow].value);

	return rank == t->c->local_rank[t->slow] &&
	    t->next - taken >= COMM_TELL_DEPTH;
}

static void
slow_what(const void *arg, char *s, size_t size)
{
	const struct tell *t = arg;

	snprintf(s, size, "has not heard the lead's message %u",
	    t->next - COMM_TELL_DEPTH);
}

/* Waits until every reader has taken what lies in the next slot. */
static int
wait_room(struct tell *t, struct err *e)
{
	uint64_t deadline = deadline_in(t->c->step_ns);
	struct lack lack = { slow_local, slow_what, t };
	uint32_t taken;

	for (unsigned i = 1; i < t->c->nlocal; i++) {
		t->slow = i;
		while (taken = atomic_load(&t->taken[i].value),
		    t->next - taken >= COMM_TELL_DEPTH) {
			if (gate_wait(t->c, &t->taken[i], taken, deadline,
			    &lack, e) == -1)
				return -1;
		}
	}
	lack.rank = slow_far;
	for (t->slow = 0; t->slow < t->nfar; t->slow++) {
		if (far_wait(t->c, slow_has_room, deadline, &lack, e) == -1)
			return -1;
	}
	return 0;
}

int
comm_tell(struct comm *c, const void *p, size_t n, struct err *e)
{
	struct tell *t = c->tell;
	size_t k = t->next % SLOTS;
	struct far_note note = { FAR_TELL, 0, t->next, 0, n };

	if (c->rank != 0 || n > t->cap)
		return err_set(e, ERR_CALLER, "rank %u tells %zu bytes, at "
		    "most %zu from rank 0", c->rank, n, t->cap);
	if (atomic_load(&c->ended))
		return world_over(c, e);
	if (wait_room(t, e) == -1)
		return -1;
	if (n)
		memcpy(t->slot + k * t->stride, p, n);
	t->len[k] = n;
	t->next++;
	gate_move(t->told);
	for (unsigned i = 0; i < t->nfar; i++) {
		if (far_post(c, t->far[i].rank, &t->far[i].out[k], &note,
		    t->slot + k * t->stride, e) == -1)
			return -1;
	}
	return 0;
}

/* ---- everyone else ---- */

static bool
is_told(const void *arg)
{
	const struct tell *t = arg;

	return atomic_load(&t->told->value) != t->next;
}

static bool
the_lead(const void *arg, unsigned rank)
{
	return rank == 0 && !is_told(arg);
}

static void
lead_what(const void *arg, char *s, size_t size)
{
	const struct tell *t = arg;

	snprintf(s, size, "has not told message %u", t->next);
}

static bool
credit_free(const void *arg)
{
	const struct tell *t = arg;

	return !t->credit[t->next % SLOTS].busy;
}

static int
hear_far(struct tell *t, const struct lack *lack, struct err *e)
{
	struct far_note note = { FAR_TELL_CREDIT, 0, t->next + 1, 0, 0 };

	if (far_wait(t->c, is_told, UINT64_MAX, lack, e) == -1 ||
	    far_wait(t->c, credit_free, UINT64_MAX, lack, e) == -1)
		return -1;
	return far_post(t->c, 0, &t->credit[t->next % SLOTS], &note, NULL, e);
}

int
comm_hear(struct comm *c, const void **p, size_t *n, struct err *e)
{
	struct tell *t = c->tell;
	struct lack lack = { the_lead, lead_what, t };
	size_t k = t->next % SLOTS;

	if (c->rank == 0)
		return err_set(e, ERR_CALLER, "the lead hears nobody");
	if (atomic_load(&c->ended) && !is_told(t))
		return world_over(c, e);
	if (t->private) {
		if (hear_far(t, &lack, e) == -1)
			return -1;
	} else {
		if (!is_told(t) && gate_wait(c, t->told, t->next, UINT64_MAX,
		    &lack, e) == -1)
			return -1;
		gate_move(&t->taken[c->local]);
	}
	*p = t->slot + k * t->stride;
	*n = t->len[k];
	if (*n > t->cap)
		return world_end(c, ERR_SYSTEM, e, "the shared memory was "
		    "overwritten");
	t->next++;
	return 0;
}
