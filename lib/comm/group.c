/*
 * group: exchanges between the members of a group.
 *
 * A member builds in its buffer, meets the others of its host, and then reads
 * straight from theirs.  To each other host it sends once what the members
 * there want, as one part that covers all; a member there, its foster,
 * receives that right into the region, before it meets its own host.
 */
#include <stdlib.h>
#include <string.h>

#include "comm/group.h"

static char *
buffer(const struct comm_group *g, unsigned member, uint32_t round)
{
	return g->buffer + (2 * (size_t)member + round % 2) * g->stride;
}

static struct comm_span *
spans(const struct comm_group *g, unsigned member, uint32_t round)
{
	return g->span + (2 * (size_t)g->place[member] + round % 2) * g->n;
}

static unsigned
host_of(const struct comm_group *g, unsigned member)
{
	return g->c->info[g->rank[member]].host;
}

static bool
is_local(const struct comm_group *g, unsigned member)
{
	return host_of(g, member) == g->c->info[g->c->rank].host;
}

/* ---- opening ---- */

/* How many members are on this host, and on how many others? */
static unsigned
count_local(const struct comm *c, const struct comm_group_def *d,
    unsigned *naway)
{
	bool seen[COMM_MAX_RANKS] = {0};
	unsigned n = 0, nhost = 0;

	for (unsigned i = 0; i < d->n; i++) {
		unsigned host = c->info[d->rank[i]].host;

		n += host == c->info[c->rank].host;
		nhost += !seen[host];
		seen[host] = true;
	}
	*naway = nhost - (n > 0);
	return n;
}

/* The k-th member on host, counted round and round. */
static unsigned
kth_on(const struct comm_group *g, unsigned host, unsigned k)
{
	unsigned n = 0;

	for (unsigned i = 0; i < g->n; i++)
		n += host_of(g, i) == host;
	k %= n;
	for (unsigned i = 0;; i++) {
		if (host_of(g, i) == host && k-- == 0)
			return i;
	}
}

static void
find_away(struct comm_group *g)
{
	unsigned here = g->c->info[g->c->rank].host, n = 0;

	for (unsigned i = 0; i < g->n; i++) {
		unsigned host = host_of(g, i);

		if (host == here)
			continue;
		if (g->place[i] == 0) {		/* the first of its host */
			struct away *a = &g->away[n++];

			a->host = host;
			a->leader = g->rank[i];
			a->foster = g->rank[kth_on(g, host, g->local)];
		}
		g->ward[i] = kth_on(g, here, g->place[i]) == g->me;
	}
	g->naway = n;
}

static int
group_fill(struct comm_group *g, struct comm *c, size_t id, unsigned nlocal,
    unsigned naway, struct err *e)
{
	const struct comm_group_def *d = &c->w.group[id];
	unsigned nth[COMM_MAX_RANKS] = {0};

	g->local_member = mem_new(nlocal, sizeof(*g->local_member), e);
	g->place = mem_new(d->n, sizeof(*g->place), e);
	g->ward = mem_new(d->n, sizeof(*g->ward), e);
	g->away = mem_new(naway, sizeof(*g->away), e);
	if (!g->local_member || !g->place || !g->ward || !g->away)
		return -1;
	g->c = c;
	g->id = id;
	g->cap = d->cap;
	g->n = d->n;
	g->rank = d->rank;
	for (unsigned i = 0; i < g->n; i++) {
		g->place[i] = nth[host_of(g, i)]++;
		if (is_local(g, i))
			g->local_member[g->nlocal++] = i;
		if (g->rank[i] == c->rank) {
			g->me = i;
			g->local = g->place[i];
		}
	}
	find_away(g);
	return 0;
}

static bool
is_member(const struct comm *c, const struct comm_group_def *d)
{
	for (unsigned i = 0; i < d->n; i++) {
		if (d->rank[i] == c->rank)
			return true;
	}
	return false;
}

static int
group_open(struct comm *c, size_t id, size_t *at, struct err *e)
{
	const struct comm_group_def *d = &c->w.group[id];
	struct comm_group *g = &c->group[id];
	unsigned naway, nlocal = count_local(c, d, &naway);
	size_t stride = (d->cap + 63) / 64 * 64;
	size_t meet, chunk, record, span, buffers, sums;

	if (!nlocal)
		return 0;
	meet = region_take(at, 1, sizeof(*g->meet));
	chunk = region_take(at, d->cap / CHUNK + 1, sizeof(*g->chunk));
	record = region_take(at, d->n, sizeof(*g->record));
	span = region_take(at, 2 * (size_t)nlocal * d->n, sizeof(*g->span));
	buffers = region_take(at, 2 * (size_t)d->n, stride);
	sums = region_take(at, 2 * ((size_t)nlocal + naway), stride);
	if (!c->base || !is_member(c, d))
		return 0;
	g->meet = (void *)(c->base + meet);
	g->chunk = (void *)(c->base + chunk);
	g->record = (void *)(c->base + record);
	g->span = (void *)(c->base + span);
	g->buffer = c->base + buffers;
	g->sum = c->base + sums;
	g->stride = stride;
	return group_fill(g, c, id, nlocal, naway, e);
}

int
groups_open(struct comm *c, size_t *at, struct err *e)
{
	if (c->base) {
		c->group = mem_new(c->w.ngroup, sizeof(*c->group), e);
		if (!c->group)
			return -1;
	}
	for (size_t i = 0; i < c->w.ngroup; i++) {
		if (group_open(c, i, at, e) == -1)
			return -1;
	}
	return 0;
}

void
groups_close(struct comm *c)
{
	for (size_t i = 0; c->group && i < c->w.ngroup; i++) {
		struct comm_group *g = &c->group[i];

		free(g->local_member);
		free(g->place);
		free(g->ward);
		free(g->away);
	}
	free(c->group);
}

void
groups_peers(const struct comm *c, bool *peer)
{
	for (size_t i = 0; i < c->w.ngroup; i++) {
		const struct comm_group *g = &c->group[i];

		for (unsigned k = 0; k < g->naway; k++) {
			peer[g->away[k].foster] = true;
			if (g->local == 0)
				peer[g->away[k].leader] = true;
		}
		for (unsigned k = 0; k < g->n; k++) {
			if (g->ward[k])
				peer[g->rank[k]] = true;
		}
	}
}

/* ---- frames from other hosts ---- */

static unsigned
member_of(const struct comm_group *g, unsigned rank)
{
	for (unsigned i = 0; i < g->n; i++) {
		if (g->rank[i] == rank)
			return i;
	}
	return g->n;
}

void *
group_begin(struct comm *c, unsigned from, const struct far_note *n,
    const char **why)
{
	struct comm_group *g = n->id < c->w.ngroup ? &c->group[n->id] : NULL;
	unsigned i;

	*why = "a group that we don't share";
	if (!g || !g->n || (i = member_of(g, from)) == g->n)
		return NULL;
	*why = "more bytes than the group's buffers hold";
	if (n->n > g->cap || n->off > g->cap - n->n)
		return NULL;
	if (n->kind == FAR_REDUCE)
		return reduce_begin(g, from, n, why);
	*why = "an exchange that is not due";
	if (!g->ward[i] || n->seq != atomic_load(&g->record[i].come) ||
	    (int32_t)(n->seq - atomic_load(&g->record[g->me].come)) > 0)
		return NULL;
	return buffer(g, i, n->seq) + n->off;
}

void
group_end(struct comm *c, unsigned from, const struct far_note *n)
{
	struct comm_group *g = &c->group[n->id];
	struct record *r = &g->record[member_of(g, from)];

	if (n->kind == FAR_REDUCE) {
		reduce_end(g, from, n);
		return;
	}
	r->hull[n->seq % 2] = (struct comm_span){ n->off, n->n };
	atomic_store(&r->come, n->seq + 1);
}

/* ---- an exchange ---- */

struct comm_group *
comm_group(struct comm *c, size_t i)
{
	return i < c->w.ngroup && c->group[i].n ? &c->group[i] : NULL;
}

unsigned
comm_size(const struct comm_group *g)
{
	return g->n;
}

unsigned
comm_member(const struct comm_group *g)
{
	return g->me;
}

void *
comm_buffer(struct comm_group *g)
{
	return buffer(g, g->me, g->round);
}

static bool
missing(const void *arg, unsigned rank)
{
	const struct comm_group *g = arg;
	unsigned i = member_of(g, rank);

	return i < g->n && (int32_t)(atomic_load(&g->record[i].come) -
	    (g->round + 1)) < 0;
}

static void
missing_what(const void *arg, char *s, size_t size)
{
	const struct comm_group *g = arg;

	snprintf(s, size, "has not come to exchange %u of group %zu",
	    g->round, g->id);
}

static bool
far_done(const void *arg)
{
	const struct comm_group *g = arg;

	for (unsigned k = 0; k < g->naway; k++) {
		if (g->away[k].share.busy)
			return false;
	}
	for (unsigned i = 0; i < g->n; i++) {
		if (g->ward[i] && (int32_t)(atomic_load(&g->record[i].come) -
		    (g->round + 1)) < 0)
			return false;
	}
	return true;
}

/* The part that covers all that members on a host are to read. */
static struct comm_span
hull(const struct comm_group *g, unsigned host, const struct comm_span *give)
{
	size_t lo = SIZE_MAX, hi = 0;

	for (unsigned i = 0; give && i < g->n; i++) {
		if (host_of(g, i) != host || !give[i].len)
			continue;
		if (give[i].off < lo)
			lo = give[i].off;
		if (give[i].off + give[i].len > hi)
			hi = give[i].off + give[i].len;
	}
	return hi ? (struct comm_span){ lo, hi - lo } : (struct comm_span){0};
}

static int
far_share(struct comm_group *g, const struct comm_span *give,
    uint64_t deadline, const struct lack *lack, struct err *e)
{
	for (unsigned k = 0; k < g->naway; k++) {
		struct away *a = &g->away[k];
		struct comm_span h = hull(g, a->host, give);
		struct far_note note = { FAR_SHARE, (uint32_t)g->id, g->round,
			h.off, h.len };

		if (far_post(g->c, a->foster, &a->share, &note,
		    buffer(g, g->me, g->round) + h.off, e) == -1)
			return -1;
	}
	return far_wait(g->c, far_done, deadline, lack, e);
}

static bool
spans_fit(const struct comm_group *g, const struct comm_span *s)
{
	for (unsigned i = 0; s && i < g->n; i++) {
		if (s[i].len > g->cap || s[i].off > g->cap - s[i].len)
			return false;
	}
	return true;
}

static int
differs(struct comm_group *g, unsigned i, struct comm_span gave,
    struct comm_span want, struct err *e)
{
	char a[COMM_NAME + 32], b[COMM_NAME + 32];

	return world_end(g->c, ERR_SYSTEM, e, "exchange %u of group %zu: %s "
	    "gives %zu bytes at %zu, %s expects %zu at %zu", g->round, g->id,
	    comm_who(g->c, g->rank[i], a, sizeof(a)), gave.len, gave.off,
	    comm_who(g->c, g->c->rank, b, sizeof(b)), want.len, want.off);
}

/* Does what member i gave agree with what I take? */
static int
agrees(struct comm_group *g, unsigned i, struct comm_span want,
    struct err *e)
{
	const struct record *r = &g->record[i];
	struct comm_span gave = {0};

	if (is_local(g, i)) {
		if (!r->none[g->round % 2])
			gave = spans(g, i, g->round)[g->me];
		if (gave.len == want.len && (!want.len ||
		    gave.off == want.off))
			return 0;
	} else {
		gave = r->hull[g->round % 2];
		if (!want.len || (want.off >= gave.off &&
		    want.off + want.len <= gave.off + gave.len))
			return 0;
	}
	return differs(g, i, gave, want, e);
}

static int
hand_out(struct comm_group *g, const struct comm_span *take,
    const void **from, struct err *e)
{
	for (unsigned i = 0; i < g->n; i++) {
		struct comm_span want = {0};

		if (take)
			want = take[i];
		if (i != g->me && agrees(g, i, want, e) == -1)
			return -1;
		if (from)
			from[i] = buffer(g, i, g->round) + want.off;
	}
	return 0;
}

static int
meet(struct comm_group *g, uint64_t deadline, const struct lack *lack,
    struct err *e)
{
	struct meet *m = g->meet;
	uint32_t old = atomic_load(&m->all.value);

	if (g->nlocal == 1)
		return 0;
	if (atomic_fetch_add(&m->count, 1) + 1 < g->nlocal)
		return gate_wait(g->c, &m->all, old, deadline, lack, e);
	atomic_store(&m->count, 0);
	gate_move(&m->all);
	return 0;
}

int
comm_share(struct comm_group *g, const struct comm_span *give,
    const struct comm_span *take, const void **from, struct err *e)
{
	struct record *mine = &g->record[g->me];
	struct lack lack = { missing, missing_what, g };
	uint64_t deadline = deadline_in(g->c->step_ns);

	if (!spans_fit(g, give) || !spans_fit(g, take))
		return err_set(e, ERR_CALLER, "exchange %u of group %zu: parts "
		    "beyond %zu bytes", g->round, g->id, g->cap);
	if (atomic_load(&g->c->ended))
		return world_over(g->c, e);
	mine->none[g->round % 2] = !give;
	if (give)
		memcpy(spans(g, g->me, g->round), give, g->n * sizeof(*give));
	atomic_store(&mine->come, g->round + 1);
	if (g->naway && far_share(g, give, deadline, &lack, e) == -1)
		return -1;
	if (meet(g, deadline, &lack, e) == -1 ||
	    hand_out(g, take, from, e) == -1)
		return -1;
	g->round++;
	return 0;
}
