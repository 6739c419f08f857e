/*
 * deal: which host gets which ranks.
 */
#include <stdlib.h>

#include "probe/probe.h"

static int
deal_slots(struct probe_share *s, const struct deploy *d,
    const struct probe_hosts *h, struct err *e)
{
	unsigned sum = 0, from = 0;

	for (size_t i = 0; i < h->n; i++)
		sum += h->v[i].slots;
	if (sum != d->size)
		return err_set(e, ERR_CALLER, "--hosts gives places to %u "
		    "ranks, the layout has %u", sum, d->size);
	for (size_t i = 0; i < h->n; i++)
		for (unsigned j = 0; j < h->v[i].slots; j++)
			s[i].rank[s[i].n++] = from++;
	return 0;
}

/* Room for all ranks, in one array; how many of them each gets is found out
 * by the way. */
static void
give(struct probe_share *s, const struct deploy *d, size_t i)
{
	for (unsigned r = 0; r < d->size; r++)
		if (deploy_is_local(d, r))
			s[i].rank[s[i].n++] = r;
}

static int
deal_nodes(struct probe_share *s, const struct deploy *d, unsigned n,
    struct err *e)
{
	struct deploy node = *d;	/* shares what it points to */

	for (unsigned i = 0; i < n; i++) {
		if (i)
			s[i].rank = s[i - 1].rank + s[i - 1].n;
		if (deploy_set_node(&node, i, n, e) == -1)
			return err_wrap(e, "--hosts");
		give(s, &node, i);
	}
	return 0;
}

static int
deal(struct probe_share *s, const struct deploy *d,
    const struct probe_hosts *h, struct err *e)
{
	unsigned n = (unsigned)h->n;

	if (h->v[0].slots) {
		for (unsigned i = 1; i < n; i++)
			s[i].rank = s[i - 1].rank + h->v[i - 1].slots;
		return deal_slots(s, d, h, e);
	}
	if (d->size < n && !d->nnodes && !d->dp_local)
		n = d->size;
	return deal_nodes(s, d, n, e);
}

int
probe_deal(struct probe_share **share, const struct deploy *d,
    const struct probe_hosts *h, struct err *e)
{
	struct probe_share *s = mem_new(h->n, sizeof(*s), e);
	size_t slots = 0;

	for (size_t i = 0; i < h->n; i++)
		slots += h->v[i].slots;
	if (s)
		s[0].rank = mem_new(slots > d->size ? slots : d->size,
		    sizeof(*s[0].rank), e);
	if (s && s[0].rank && deal(s, d, h, e) == 0) {
		*share = s;
		return 0;
	}
	if (s)
		free(s[0].rank);
	free(s);
	return -1;
}
