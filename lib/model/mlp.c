/*
 * mlp: SiLU-gated feed-forward layers, dense and mixture of experts, as one.
 *
 * A layer is a list of items, each an MLP with the rows it works on: a dense
 * layer is one item; a mixture is the shared experts (all rows, weight 1) and
 * then every routed expert that some row chose, in rising order.  Threads
 * split the outputs, never the items, so each weight is read by one thread
 * once a step, and a row's sum runs over its experts in rising order whatever
 * the batch.
 */
#include <string.h>

#include "model/mlp.h"

/* ---- who works on what ---- */

static void
pick_rows(void *arg, unsigned thread, unsigned nthreads)
{
	struct mixing *p = arg;
	struct model *m = p->m;
	const struct arch *a = &m->a;
	size_t r, r1;

	par_range(p->nrow, 1, thread, nthreads, &r, &r1);
	for (; r < r1; r++)
		gate_pick(a, m->logit + r * a->experts, p->l->router_b,
		    m->pick + r * a->topk, m->pick_w + r * a->topk,
		    m->scratch[thread].gate);
}

/* An item's hidden rows lie behind those of the items before it. */
static void
add_item(struct mixing *p, const struct mlp *w, const uint32_t *row,
    const float *weight, size_t n)
{
	struct model *m = p->m;
	struct item *it = &m->item[p->nitem++];

	it->w = w;
	it->row = row;
	it->weight = weight;
	act_set(&it->h, m->h + p->hat, w->down.k, n, w->down.k);
	it->h.q = m->hq + p->qat;
	it->h.sx = m->hsx + p->sat;
	p->hat += n * w->down.k;
	p->qat += n * it->h.ldq;
	p->sat += n * it->h.ldsx;
	p->nslot += n;
}

/* Counting sort of (row, choice) pairs by expert: an expert's rows stand
 * together, rising. */
static void
sort_rows(struct mixing *p)
{
	struct model *m = p->m;
	const struct arch *a = &m->a;
	size_t n = p->nrow * a->topk, i, at = 0;
	uint32_t *count = m->count;
	unsigned e;

	memset(count, 0, (a->experts + 1) * sizeof *count);
	for (i = 0; i < n; i++)
		count[m->pick[i] + 1]++;
	for (e = 0; e < a->experts; e++)
		count[e + 1] += count[e];
	for (i = 0; i < n; i++) {
		uint32_t to = count[m->pick[i]]++;

		m->slot_row[to] = i / a->topk;
		m->slot_w[to] = m->pick_w[i];
	}
	for (e = 0; e < a->experts; e++) {	/* count[e]: end of e now */
		if (count[e] > at)
			add_item(p, &p->l->expert[e], m->slot_row + at,
			    m->slot_w + at, count[e] - at);
		at = count[e];
	}
}

/* ---- up: h = silu(x Wg) * (x Wu) ---- */

static void
up_store(struct mixing *p, struct item *it, size_t i, size_t n, unsigned n0,
    unsigned width, struct scratch *s)
{
	float *h = (float *)it->h.x + i * it->h.ldx + n0;
	size_t r;

	for (r = 0; r < n; r++, h += it->h.ldx) {
		float *g = s->out + r * OUT_BLOCK, *u = s->out2 + r * OUT_BLOCK;

		round_span(p->m, g, width);
		round_span(p->m, u, width);
		kern.silu_mul(h, g, u, width);
		round_span(p->m, h, width);
	}
}

/* Rows [i, i+n) of one item, outputs [n0, n1) of one thread. */
static void
up_rows(struct mixing *p, struct item *it, size_t i, size_t n, unsigned n0,
    unsigned n1, struct scratch *s)
{
	const struct lin *g = &it->w->gate, *u = &it->w->up;
	const struct act *x = &p->m->act;
	unsigned n2;
	struct act v;
	bool both;

	act_gather(&v, x, it->row, i, n, g, s);
	both = act_fits(&v, u);
	for (; n0 < n1; n0 = n2) {
		n2 = n0 + OUT_BLOCK < n1 ? n0 + OUT_BLOCK : n1;
		lin_block(g, &v, n0, n2, s->out, OUT_BLOCK, s);
		if (!both)
			act_gather(&v, x, it->row, i, n, u, s);
		lin_block(u, &v, n0, n2, s->out2, OUT_BLOCK, s);
		if (!both)
			act_gather(&v, x, it->row, i, n, g, s);
		up_store(p, it, i, n, n0, n2 - n0, s);
	}
}

static void
up(void *arg, unsigned thread, unsigned nthreads)
{
	struct mixing *p = arg;
	size_t k, i, n, n0, n1;

	for (k = 0; k < p->nitem; k++) {
		struct item *it = &p->m->item[k];

		par_range(it->w->gate.n, KERN_TILE_N, thread, nthreads, &n0,
		    &n1);
		for (i = 0; n0 < n1 && i < it->h.rows; i += n) {
			n = it->h.rows - i;
			if (n > ROW_BLOCK)
				n = ROW_BLOCK;
			up_rows(p, it, i, n, n0, n1, &p->m->scratch[thread]);
		}
	}
}

/* ---- down: z += weight * (h Wd) ---- */

static void
quant_slots(void *arg, unsigned thread, unsigned nthreads)
{
	struct mixing *p = arg;
	size_t k, i, i0, i1, at = 0;

	par_range(p->nslot, 1, thread, nthreads, &i0, &i1);
	for (k = 0; k < p->nitem; k++) {
		struct item *it = &p->m->item[k];

		for (i = 0; i < it->h.rows; i++, at++)
			if (at >= i0 && at < i1)
				act_quant(&it->h, &it->w->down, i);
	}
}

static void
down_rows(struct mixing *p, const struct item *it, size_t i, size_t n,
    unsigned n0, unsigned n1, struct scratch *s)
{
	size_t r, hidden = p->m->a.hidden;
	struct act v;

	act_gather(&v, &it->h, NULL, i, n, &it->w->down, s);
	lin_block(&it->w->down, &v, n0, n1, s->out, OUT_BLOCK, s);
	for (r = 0; r < n; r++) {
		size_t row = it->row ? it->row[i + r] : i + r;

		kern.axpy(p->z + row * hidden + n0,
		    it->weight ? it->weight[i + r] : 1,
		    s->out + r * OUT_BLOCK, n1 - n0);
	}
}

static void
down(void *arg, unsigned thread, unsigned nthreads)
{
	struct mixing *p = arg;
	size_t hidden = p->m->a.hidden, n0, n1, n2, k, i, n;

	par_range(hidden, KERN_TILE_N, thread, nthreads, &n0, &n1);
	for (i = 0; n0 < n1 && i < p->nrow; i++)
		memset(p->z + i * hidden + n0, 0, (n1 - n0) * sizeof *p->z);
	for (; n0 < n1; n0 = n2) {
		n2 = n0 + OUT_BLOCK < n1 ? n0 + OUT_BLOCK : n1;
		for (k = 0; k < p->nitem; k++) {
			const struct item *it = &p->m->item[k];

			for (i = 0; i < it->h.rows; i += n) {
				n = it->h.rows - i;
				if (n > ROW_BLOCK)
					n = ROW_BLOCK;
				down_rows(p, it, i, n, n0, n2,
				    &p->m->scratch[thread]);
			}
		}
	}
}

/* ---- the layer ---- */

static void
run(struct model *m, struct layer *l, size_t r0, size_t nrow)
{
	const struct arch *a = &m->a;
	struct mixing p = { .m = m, .l = l, .nrow = nrow,
		.z = m->z + r0 * a->hidden };
	size_t k;

	act_set(&m->act, m->y + r0 * a->hidden, a->hidden, nrow, a->hidden);
	if (l->has_dense)
		add_item(&p, &l->dense, NULL, NULL, nrow);
	if (l->moe) {
		lin_whole(m, &l->router, &m->act, m->logit, a->experts);
		par_run(m->o.par, pick_rows, &p);
		sort_rows(&p);
	}
	act_ready(m, &m->act, &m->item[0].w->gate);
	par_run(m->o.par, up, &p);
	par_run(m->o.par, quant_slots, &p);
	for (k = 0; k < p.nitem; k++) {
		m->item[k].h.held = m->item[k].w->down.kind;
		m->item[k].h.by = &m->item[k].w->down;
	}
	par_run(m->o.par, down, &p);
}

/* z = mlp(y) for all rows */
void
mlp_run(struct model *m, struct layer *l)
{
	size_t r, n;

	for (r = 0; r < m->rows; r += n) {
		n = m->rows - r < MLP_ROWS ? m->rows - r : MLP_ROWS;
		run(m, l, r, n);
	}
	round_rows(m, m->z, m->rows, m->a.hidden);
}
