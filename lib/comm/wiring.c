/*
 * wiring: the list of groups and channels that all ranks agree on.
 */
#include <stdlib.h>
#include <string.h>

#include "comm/comm_priv.h"

static int
group_check(const struct comm_group_def *d, size_t i, unsigned world,
    struct err *e)
{
	if (d->n < 1 || d->n > world || !d->rank)
		return err_set(e, ERR_CALLER, "group %zu: %u members in a "
		    "world of %u", i, d->n, world);
	for (unsigned k = 0; k < d->n; k++) {
		if (d->rank[k] >= world || (k && d->rank[k] <= d->rank[k - 1]))
			return err_set(e, ERR_CALLER, "group %zu: its ranks "
			    "must rise, below %u", i, world);
	}
	if (d->cap > PTRDIFF_MAX / 2)
		return err_set(e, ERR_CALLER, "group %zu: buffers of %zu "
		    "bytes", i, d->cap);
	return 0;
}

int
wiring_check(const struct comm_wiring *w, struct err *e)
{
	if (w->world < 1 || w->world > COMM_MAX_RANKS)
		return err_set(e, ERR_CALLER, "a world has 1 to %d ranks, "
		    "not %u", COMM_MAX_RANKS, w->world);
	for (size_t i = 0; i < w->ngroup; i++) {
		if (group_check(&w->group[i], i, w->world, e) == -1)
			return -1;
	}
	for (size_t i = 0; i < w->nchan; i++) {
		const struct comm_chan_def *d = &w->chan[i];

		if (d->from >= w->world || d->to >= w->world ||
		    d->from == d->to || d->depth < 1 || d->depth > 65536 ||
		    d->cap > PTRDIFF_MAX / 2)
			return err_set(e, ERR_CALLER, "channel %zu: from %u "
			    "to %u, depth %u", i, d->from, d->to, d->depth);
	}
	if (w->ngroup > UINT32_MAX || w->nchan > UINT32_MAX ||
	    w->bcast_cap > PTRDIFF_MAX / 2)
		return err_set(e, ERR_CALLER, "too many groups or channels");
	return 0;
}

int
wiring_copy(struct comm_wiring *to, const struct comm_wiring *w,
    struct err *e)
{
	struct comm_group_def *g = mem_new(w->ngroup, sizeof(*g), e);
	struct comm_chan_def *h = g ? mem_new(w->nchan, sizeof(*h), e) : NULL;

	*to = *w;
	to->group = g;
	to->chan = h;
	if (!g || !h)
		return -1;
	if (w->nchan)
		memcpy(h, w->chan, w->nchan * sizeof(*h));
	for (size_t i = 0; i < w->ngroup; i++) {
		unsigned *rank = mem_new(w->group[i].n, sizeof(*rank), e);

		if (!rank)
			return -1;
		memcpy(rank, w->group[i].rank, w->group[i].n * sizeof(*rank));
		g[i] = w->group[i];
		g[i].rank = rank;
	}
	return 0;
}

void
wiring_free(struct comm_wiring *w)
{
	for (size_t i = 0; w->group && i < w->ngroup; i++)
		free((void *)(uintptr_t)w->group[i].rank);
	free((void *)(uintptr_t)w->group);
	free((void *)(uintptr_t)w->chan);
	*w = (struct comm_wiring){0};
}

/* FNV-1a over the bytes of v */
static uint64_t
mix(uint64_t h, uint64_t v)
{
	for (int i = 0; i < 8; i++) {
		h = (h ^ (v & 0xff)) * 0x100000001b3u;
		v >>= 8;
	}
	return h;
}

uint64_t
wiring_digest(const struct comm_wiring *w)
{
	uint64_t h = mix(0xcbf29ce484222325u, w->world);

	h = mix(mix(mix(h, w->ngroup), w->nchan), w->bcast_cap);
	for (size_t i = 0; i < w->ngroup; i++) {
		h = mix(mix(h, w->group[i].n), w->group[i].cap);
		for (unsigned k = 0; k < w->group[i].n; k++)
			h = mix(h, w->group[i].rank[k]);
	}
	for (size_t i = 0; i < w->nchan; i++) {
		h = mix(mix(h, w->chan[i].from), w->chan[i].to);
		h = mix(mix(h, w->chan[i].cap), w->chan[i].depth);
	}
	return h;
}
