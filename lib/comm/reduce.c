/*
 * reduce: sums and maxima of all members, in place.
 *
 * On one host a partial sum goes from hand to hand.  Whoever comes takes the
 * one that lies in hold, if any, adds its own to it and puts it back; the one
 * whose partial has everything wakes the others, who copy it.  So every member
 * works on its own core while its numbers are in the cache, sleeps once, and
 * nobody ever waits for a lock.  What is long is cut into chunks, and each
 * member begins at another one.  The order of operands varies, the bits don't:
 * integer sums and the maximum below don't depend on it.
 *
 * Between hosts the first members exchange their hosts' sums.
 */
#include <string.h>

#include "comm/group.h"

enum { LEADER_FIRST_NS = 500000000 };

typedef uint32_t v4u __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t v4i __attribute__((vector_size(16), aligned(4), may_alias));
typedef uint64_t v2u __attribute__((vector_size(16), aligned(4), may_alias));

/* ---- y = y op x ---- */

static void
add_i32(void *y, const void *x, size_t n)
{
	uint32_t *a = y;
	const uint32_t *b = x;
	size_t i = 0;

	for (; i + 4 <= n; i += 4)
		*(v4u *)(a + i) += *(const v4u *)(b + i);
	for (; i < n; i++)
		a[i] += b[i];
}

static void
add_i64(void *y, const void *x, size_t n)
{
	uint64_t *a = y;
	const uint64_t *b = x;
	size_t i = 0;

	for (; i + 2 <= n; i += 2)
		*(v2u *)(a + i) += *(const v2u *)(b + i);
	for (; i < n; i++)
		a[i] += b[i];
}

/* Floats as integers that have the same order; -0 is below 0, NaNs are at the
 * ends, so the result depends on no order of the operands. */
static int32_t
key(int32_t v)
{
	return v ^ (v >> 31 & INT32_MAX);
}

static void
max_f32(void *y, const void *x, size_t n)
{
	int32_t *a = y;
	const int32_t *b = x;
	size_t i = 0;

	for (; i + 4 <= n; i += 4) {
		v4i p = *(v4i *)(a + i), q = *(const v4i *)(b + i);
		v4i kp = p ^ (p >> 31 & INT32_MAX);
		v4i kq = q ^ (q >> 31 & INT32_MAX);
		v4i m = kq > kp;

		*(v4i *)(a + i) = (q & m) | (p & ~m);
	}
	for (; i < n; i++) {
		if (key(b[i]) > key(a[i]))
			a[i] = b[i];
	}
}

static void
combine(enum comm_op op, void *y, const void *x, size_t n)
{
	if (op == COMM_SUM_I32)
		add_i32(y, x, n);
	else if (op == COMM_SUM_I64)
		add_i64(y, x, n);
	else
		max_f32(y, x, n);
}

/* ---- on one host ---- */

/* A partial sum in the buffer of local member at - 1, of weight members; 0:
 * there is none.  n and op are along so that a difference is seen. */
struct part {
	uint64_t at, weight, op, n;
};

static uint64_t
pack(struct part p)
{
	return p.at | p.weight << 11 | p.op << 22 | p.n << 24;
}

static struct part
unpack(uint64_t v)
{
	return (struct part){ v & 0x7ff, v >> 11 & 0x7ff, v >> 22 & 3,
		v >> 24 };
}

static char *
sum_of(const struct comm_group *g, unsigned place)
{
	return g->sum + (2 * (size_t)place + g->rround % 2) * g->stride;
}

/* Sums of other hosts lie behind those of this one. */
static char *
sum_away(const struct comm_group *g, unsigned k, uint32_t round)
{
	return g->sum + (2 * ((size_t)g->nlocal + k) + round % 2) * g->stride;
}

/* rank: whose other is, or NO_RANK: a partial sum has no owner. */
static int
unequal(struct comm_group *g, struct part mine, struct part other,
    unsigned rank, struct err *e)
{
	char a[COMM_NAME + 32], b[COMM_NAME + 32] = "elsewhere";

	if (rank != NO_RANK)
		comm_who(g->c, rank, b + snprintf(b, sizeof(b), "at "),
		    sizeof(b) - 3);
	return world_end(g->c, ERR_SYSTEM, e, "sum %u of group %zu: %llu "
	    "elements (kind %d) at %s, %llu (kind %d) %s", g->rround,
	    g->id, (unsigned long long)mine.n, (int)mine.op,
	    comm_who(g->c, g->c->rank, a, sizeof(a)),
	    (unsigned long long)other.n, (int)other.op, b);
}

/* Where chunk k of a local member's sums lies. */
static char *
part_of(const struct comm_group *g, uint64_t at, size_t k)
{
	return sum_of(g, (unsigned)at - 1) + k * CHUNK;
}

/* Adds x, chunk k of mine, size bytes, to what is there.  1: now it has all;
 * 0: others will finish it. */
static int
contribute_chunk(struct comm_group *g, struct part mine, size_t k,
    const char *x, size_t size, struct err *e)
{
	size_t n = size / (mine.op == COMM_SUM_I64 ? 8 : 4);
	_Atomic uint64_t *hold = &g->chunk[k].hold;
	bool mixed = false;

	for (;;) {
		uint64_t none = 0, v = atomic_exchange(hold, 0);
		struct part other = unpack(v);

		if (v && (other.n != mine.n || other.op != mine.op))
			return unequal(g, mine, other, NO_RANK, e);
		if (v) {
			combine((enum comm_op)mine.op, part_of(g, other.at, k),
			    mixed ? part_of(g, mine.at, k) : x, n);
			mine.at = other.at;
			mine.weight += other.weight;
		} else if (!mixed) {
			memcpy(part_of(g, mine.at, k), x, size);
		}
		mixed = true;
		if (mine.weight == g->nlocal) {
			g->chunk[k].holder[g->rround % 2] = (uint32_t)mine.at;
			return 1;
		}
		if (atomic_compare_exchange_strong(hold, &none, pack(mine)))
			return 0;
	}
}

static size_t
chunks(size_t size)
{
	return size ? (size - 1) / CHUNK + 1 : 1;
}

static size_t
chunk_size(size_t size, size_t k)
{
	return size - k * CHUNK < CHUNK ? size - k * CHUNK : CHUNK;
}

/* 1: this host's sum is there; 0: others will finish it. */
static int
contribute(struct comm_group *g, enum comm_op op, const char *x, size_t n,
    size_t size, struct err *e)
{
	struct part mine = { g->local + 1, 1, op, n };
	size_t all = chunks(size), first = g->local * all / g->nlocal;
	uint32_t done = 0;

	for (size_t i = 0; i < all; i++) {
		size_t k = (first + i) % all;
		int r = contribute_chunk(g, mine, k, x + k * CHUNK,
		    chunk_size(size, k), e);

		if (r == -1)
			return -1;
		done += (uint32_t)r;
	}
	if (!done || atomic_fetch_add(&g->meet->done, done) + done != all)
		return 0;
	atomic_store(&g->meet->done, 0);
	return 1;
}

/* What contribute made of it all. */
static void
collect(const struct comm_group *g, char *x, size_t size)
{
	for (size_t k = 0; k < chunks(size) && size; k++)
		memcpy(x + k * CHUNK, part_of(g,
		    g->chunk[k].holder[g->rround % 2], k),
		    chunk_size(size, k));
}

/* ---- between hosts ---- */

void *
reduce_begin(struct comm_group *g, unsigned from, const struct far_note *n,
    const char **why)
{
	uint32_t mine = atomic_load(&g->record[g->me].rcome);

	*why = "a sum that is not due";
	for (unsigned k = 0; g->local == 0 && k < g->naway; k++) {
		if (g->away[k].leader == from && n->off == 0 &&
		    n->seq == g->away[k].got && (int32_t)(n->seq - mine) <= 0)
			return sum_away(g, k, n->seq);
	}
	return NULL;
}

void
reduce_end(struct comm_group *g, unsigned from, const struct far_note *n)
{
	for (unsigned k = 0; k < g->naway; k++) {
		if (g->away[k].leader != from)
			continue;
		g->away[k].got_n[n->seq % 2] = n->n;
		g->away[k].got = n->seq + 1;
	}
}

static bool
far_done(const void *arg)
{
	const struct comm_group *g = arg;

	for (unsigned k = 0; k < g->naway; k++) {
		if (g->away[k].sum.busy ||
		    (int32_t)(g->away[k].got - (g->rround + 1)) < 0)
			return false;
	}
	return true;
}

/* The first member of each host adds the others' sums to its host's. */
static int
exchange(struct comm_group *g, enum comm_op op, void *x, size_t n,
    size_t size, uint64_t deadline, const struct lack *lack, struct err *e)
{
	collect(g, x, size);
	for (unsigned k = 0; k < g->naway; k++) {
		struct far_note note = { FAR_REDUCE, (uint32_t)g->id,
			g->rround, 0, size };

		if (far_post(g->c, g->away[k].leader, &g->away[k].sum, &note,
		    x, e) == -1)
			return -1;
	}
	if (far_wait(g->c, far_done, deadline, lack, e) == -1)
		return -1;
	for (unsigned k = 0; k < g->naway; k++) {
		struct part mine = { 0, 0, op, n };
		struct part other = { 0, 0, op, g->away[k].got_n[
		    g->rround % 2] / (op == COMM_SUM_I64 ? 8 : 4) };

		if (g->away[k].got_n[g->rround % 2] != size)
			return unequal(g, mine, other, g->away[k].leader, e);
		combine(op, x, sum_away(g, k, g->rround), n);
	}
	if (size)
		memcpy(sum_of(g, 0), x, size);
	for (size_t k = 0; k < chunks(size); k++)
		g->chunk[k].holder[g->rround % 2] = 1;
	return 0;
}

/* ---- all of it ---- */

static bool
missing(const void *arg, unsigned rank)
{
	const struct comm_group *g = arg;

	for (unsigned i = 0; i < g->nlocal; i++) {
		unsigned m = g->local_member[i];

		if (g->rank[m] == rank)
			return (int32_t)(atomic_load(&g->record[m].rcome) -
			    (g->rround + 1)) < 0;
	}
	for (unsigned k = 0; g->local == 0 && k < g->naway; k++) {
		if (g->away[k].leader == rank)
			return (int32_t)(g->away[k].got - (g->rround + 1)) < 0;
	}
	return false;
}

static void
missing_what(const void *arg, char *s, size_t size)
{
	const struct comm_group *g = arg;

	snprintf(s, size, "has not come to sum %u of group %zu", g->rround,
	    g->id);
}

/* Waits until the sum of all is where collect finds it. */
static int
finish(struct comm_group *g, enum comm_op op, void *x, size_t n, size_t size,
    int last, const uint32_t old[2], struct err *e)
{
	struct lack lack = { missing, missing_what, g };
	/* only the first member can tell which other host is late */
	uint64_t more = g->naway && g->local ? LEADER_FIRST_NS : 0;
	uint64_t deadline = deadline_in(g->c->step_ns > UINT64_MAX - more ?
	    UINT64_MAX : g->c->step_ns + more);
	struct meet *m = g->meet;

	if (!g->naway && last) {
		gate_move(&m->sum);
		return 0;
	}
	if (last && g->local != 0)
		gate_move(&m->part);
	if (!g->naway || g->local != 0)
		return gate_wait(g->c, &m->sum, old[0], deadline, &lack, e);
	if ((!last && gate_wait(g->c, &m->part, old[1], deadline, &lack, e) ==
	    -1) || exchange(g, op, x, n, size, deadline, &lack, e) == -1)
		return -1;
	gate_move(&m->sum);
	return 0;
}

int
comm_reduce(struct comm_group *g, enum comm_op op, void *x, size_t n,
    struct err *e)
{
	size_t size;
	uint32_t old[2];
	int last;

	if (!mul_ok(n, op == COMM_SUM_I64 ? 8 : 4, &size) || size > g->cap)
		return err_set(e, ERR_CALLER, "sum %u of group %zu: %zu "
		    "elements in buffers of %zu bytes", g->rround, g->id, n,
		    g->cap);
	if (atomic_load(&g->c->ended))
		return world_over(g->c, e);
	if (g->n == 1)
		return 0;
	old[0] = atomic_load(&g->meet->sum.value);
	old[1] = atomic_load(&g->meet->part.value);
	atomic_store(&g->record[g->me].rcome, g->rround + 1);
	last = contribute(g, op, x, n, size, e);
	if (last == -1 || finish(g, op, x, n, size, last, old, e) == -1)
		return -1;
	collect(g, x, size);
	g->rround++;
	return 0;
}
