/*
 * wires: which ranks of a world talk to each other, and how much at most.
 *
 * A pure function of model, layout and options, so that every rank comes to
 * the same list.  Groups of one are left out.  In their order:
 *
 *   TP       [PP][DP]      share latents, and what o and dense down read
 *   stage    [PP]          join the residual stream, share hidden layers
 *   peers    [PP][moe_tp]  add up what the blocks of experts made
 *   world    1             the caller's
 *
 * and the channels: from each rank to its like in the next stage, and from
 * each rank of the last stage to rank 0 (logits).
 */
#include <stdlib.h>
#include <string.h>

#include "model/priv.h"

enum { DEPTH = 2, WORLD_CAP = 64 };

static size_t
max2(size_t a, size_t b)
{
	return a > b ? a : b;
}

static size_t
min2(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* ---- numbers ---- */

struct counts {
	unsigned tp, stage, peers;	/* groups of each kind */
	unsigned hand, logits;		/* channels */
};

static struct counts
count(const struct layout *l)
{
	unsigned g = l->dp * l->tp;

	return (struct counts){
		.tp = l->tp > 1 ? l->pp * l->dp : 0,
		.stage = g > 1 ? l->pp : 0,
		.peers = l->ep > 1 ? l->pp * (g / l->ep) : 0,
		.hand = (l->pp - 1) * g,
		.logits = l->pp > 1 ? g : g - 1,
	};
}

/* Bytes that one rank puts into an exchange, at most; p is any rank's plan. */
struct caps {
	size_t tp, stage, peers, hand, logits;
};

static struct caps
measure(const struct arch *a, const struct plan *p, size_t max_rows)
{
	const struct layout *l = &p->layout;
	size_t all = max_rows * l->dp, g = l->dp * l->tp;
	size_t wave = min2(max_rows, WAVE), mix = min2(all, MLP_ROWS);
	size_t own = p->own1 - p->own0;
	size_t slots = min2(a->topk, p->expert1 - p->expert0);
	size_t heads = (size_t)(p->heads1 - p->heads0) * a->vdim;
	size_t latent = tp_share(a->q_lora, l->tp) +
	    tp_share(a->kv_lora + a->rope, l->tp);
	struct caps c = {
		.tp = wave * max2(latent, max2(heads,
		    p->dense1 - p->dense0)),
		.stage = wave * (p->out1 - p->out0),
		.hand = (all + g - 1) / g * a->hidden,
		.logits = MODEL_LOGIT_ROWS * (size_t)(p->vocab1 - p->vocab0),
	};

	if (a->experts) {
		size_t hidden = p->shared1 - p->shared0 +
		    slots * (p->moe1 - p->moe0);

		c.stage = max2(c.stage, mix * max2(hidden, own));
		c.peers = mix * own * l->ep * sizeof(int64_t);
	}
	if (l->pp > 1)
		c.stage = max2(c.stage, c.hand);
	c.stage = max2(c.stage, a->layers);	/* agree_kinds */
	c.tp *= sizeof(float);
	c.stage *= sizeof(float);
	c.hand *= sizeof(float);
	c.logits *= sizeof(float);
	return c;
}

/* ---- the list ---- */

struct wiring {
	struct comm_group_def *group;
	struct comm_chan_def *chan;
	unsigned *rank;			/* of all groups, one after another */
	size_t ngroup, nchan, nrank;
};

/* n ranks from first on, step apart. */
static void
add_group(struct wiring *w, unsigned first, unsigned step, unsigned n,
    size_t cap)
{
	struct comm_group_def *g = &w->group[w->ngroup++];

	*g = (struct comm_group_def){ .n = n, .rank = w->rank + w->nrank,
		.cap = cap };
	while (n-- > 0) {
		w->rank[w->nrank++] = first;
		first += step;
	}
}

static void
add_chan(struct wiring *w, unsigned from, unsigned to, size_t cap)
{
	w->chan[w->nchan++] = (struct comm_chan_def){ .from = from, .to = to,
		.cap = cap, .depth = DEPTH };
}

static void
list(struct wiring *w, const struct layout *l, const struct caps *c)
{
	struct counts n = count(l);
	unsigned g = l->dp * l->tp, per = g / l->ep, i;

	for (i = 0; i < n.tp; i++)
		add_group(w, i * l->tp, 1, l->tp, c->tp);
	for (i = 0; i < n.stage; i++)
		add_group(w, i * g, 1, g, c->stage);
	for (i = 0; i < n.peers; i++)
		add_group(w, i / per * g + i % per, per, l->ep, c->peers);
	add_group(w, 0, 1, g * l->pp, WORLD_CAP);
	for (i = 0; i < n.hand; i++)
		add_chan(w, i, i + g, c->hand);
	for (i = l->pp > 1 ? (l->pp - 1) * g : 1; i < g * l->pp; i++)
		add_chan(w, i, 0, c->logits);
}

int
model_wire(struct comm_wiring *out, const struct arch *a,
    const struct model_opts *o, struct err *e)
{
	const struct layout *l = &o->layout;
	struct counts n = count(l);
	unsigned world = plan_world(l);
	struct wiring w = { 0 };
	struct plan p;
	struct caps c;

	plan_rank(&p, a, l, 0);
	c = measure(a, &p, o->max_rows);
	w.group = mem_new(n.tp + n.stage + n.peers + 1, sizeof *w.group, e);
	w.chan = mem_new(n.hand + n.logits, sizeof *w.chan, e);
	w.rank = mem_new(4 * (size_t)world, sizeof *w.rank, e);
	*out = (struct comm_wiring){ .world = world, .group = w.group,
		.chan = w.chan };
	if (!w.group || !w.chan || !w.rank) {
		free(w.rank);
		model_unwire(out);
		return -1;
	}
	list(&w, l, &c);
	out->ngroup = w.ngroup;
	out->nchan = w.nchan;
	return 0;
}

void
model_unwire(struct comm_wiring *w)
{
	if (w->ngroup)			/* the first group's ranks lead all */
		free((void *)w->group[0].rank);
	free((void *)w->group);
	free((void *)w->chan);
	*w = (struct comm_wiring){ 0 };
}

/* ---- one rank's ends ---- */

static void
find_logits(struct model *m, size_t first)
{
	const struct plan *p = &m->plan;
	unsigned g = m->stage_size, r = p->layout.pp > 1 ?
	    (p->layout.pp - 1) * g : 1;

	for (; r < p->world; r++, first++)
		if (p->rank == 0 || p->rank == r)
			m->logits[r] = comm_chan(m->comm, first);
}

void
wires_find(struct model *m)
{
	const struct plan *p = &m->plan;
	const struct layout *l = &p->layout;
	struct counts n = count(l);
	unsigned in = p->rank % m->stage_size;

	if (n.tp)
		m->tp = comm_group(m->comm, p->pp * l->dp + p->dp);
	if (n.stage)
		m->stage = comm_group(m->comm, n.tp + p->pp);
	if (n.peers)
		m->peers = comm_group(m->comm, n.tp + n.stage +
		    p->pp * p->moe_tp + p->moe_slice);
	if (!p->first)
		m->from = comm_chan(m->comm, (p->pp - 1) * m->stage_size + in);
	if (!p->last)
		m->to = comm_chan(m->comm, p->pp * m->stage_size + in);
	find_logits(m, n.hand);
}
