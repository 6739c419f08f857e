/*
 * mlp: SiLU-gated feed-forward layers, dense and mixture of experts, as one.
 *
 * A pass is a list of items, each an MLP with the rows it works on: a dense
 * layer is one item; a mixture is the shared experts (all rows) and then every
 * routed expert of this rank that some row chose, in rising order.  Threads
 * split the outputs, never the items, so each weight is read by one thread
 * once a step.  Of a hidden layer each rank makes some columns; they are
 * joined before the way down.
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
	it->part = m->h + p->hat;
	if (p->part && w->gate.n < w->down.k) {
		it->part = p->part;
		p->part += n * w->gate.n;
	}
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
	p->routed = p->nitem;
	for (e = 0; e < m->plan.expert1; e++) {	/* count[e]: its end now */
		if (e >= m->plan.expert0 && count[e] > at)
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
	size_t ld = it->w->gate.n, r;
	float *h = it->part + i * ld + n0;

	for (r = 0; r < n; r++, h += ld) {
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

/* ---- between up and down ---- */

/* Joined as int8 already? */
static bool
is_joined(const struct mixing *p, const struct item *it)
{
	return p->small && it->w->gate.n < it->w->down.k;
}

static void
quant_slots(void *arg, unsigned thread, unsigned nthreads)
{
	struct mixing *p = arg;
	size_t k, i, i0, i1, at = 0;

	par_range(p->nslot, 1, thread, nthreads, &i0, &i1);
	for (k = 0; k < p->nitem; k++) {
		struct item *it = &p->m->item[k];

		if (is_joined(p, it)) {
			at += it->h.rows;
			continue;
		}
		for (i = 0; i < it->h.rows; i++, at++)
			if (at >= i0 && at < i1)
				act_quant(&it->h, &it->w->down, i);
	}
}

static void
quant_hidden(struct mixing *p)
{
	size_t k;

	par_run(p->m->o.par, quant_slots, p);
	for (k = 0; k < p->nitem; k++) {
		struct item *it = &p->m->item[k];

		it->h.held = it->w->down.kind;
		it->h.by = &it->w->down;
	}
}

static void
run_up(struct mixing *p)
{
	if (p->nitem == 0)
		return;
	act_ready(p->m, &p->m->act, &p->m->item[0].w->gate);
	par_run(p->m->o.par, up, p);
}

/* ---- a mixture ---- */

/* Rows of all routed items. */
static size_t
routed_slots(const struct mixing *p)
{
	return p->nslot - (p->routed ? p->nrow : 0);
}

static unsigned
block_of(const struct model *m, unsigned member)
{
	return member / m->plan.moe_tp;
}

/* Everyone's columns of the shared experts' hidden layer; those of the routed
 * ones lie behind them and go round in a block only. */
static int
share_hidden(struct mixing *p, struct err *e)
{
	struct model *m = p->m;
	size_t shared = p->nrow * (m->plan.shared1 - m->plan.shared0);
	size_t slots = routed_slots(p), all;
	unsigned i;

	if (m->plan.moe_tp == 1)
		slots = 0;
	all = shared + slots * (m->plan.moe1 - m->plan.moe0);
	for (i = 0; i < m->stage_size; i++) {
		bool mine = block_of(m, i) == m->plan.ep;

		m->give[i] = m->take[i] = (struct comm_span){ 0,
			(mine ? all : shared) * sizeof(float) };
	}
	return comm_share(m->stage, m->give, m->take, m->got, e);
}

/* The same in int8, joined. */
static int
join_small(struct mixing *p, struct err *e)
{
	struct model *m = p->m;
	const struct plan *pl = &m->plan;
	unsigned in = pl->ep * pl->moe_tp + pl->moe_slice, n = 0;
	const struct item *s = &m->item[0], *r = &m->item[p->routed];
	size_t sw = pl->shared1 - pl->shared0, w = pl->moe1 - pl->moe0;
	size_t slots = routed_slots(p);
	struct mat8 mat[2];

	if (p->routed)
		mat[n++] = (struct mat8){ &s->w->down, s->part, p->nrow, sw,
			in * sw, 0, m->stage_size, s->h.q, s->h.ldq, s->h.sx,
			s->h.ldsx };
	if (slots && pl->moe_tp > 1)
		mat[n++] = (struct mat8){ &r->w->down, r->part, slots, w,
			pl->moe_slice * w, pl->ep * pl->moe_tp, pl->moe_tp,
			r->h.q, r->h.ldq, r->h.sx, r->h.ldsx };
	return join8(m, m->stage, mat, n, e);
}

/* After share_hidden: the columns in their places in h. */
static void
join_hidden(struct mixing *p)
{
	struct model *m = p->m;
	const struct plan *pl = &m->plan;
	size_t w = pl->shared1 - pl->shared0, k = w * m->stage_size;
	size_t slots = routed_slots(p);
	unsigned b = pl->ep * pl->moe_tp, i;

	for (i = 0; i < m->stage_size; i++)
		m->piece[i] = (struct piece){ .rows = p->nrow, .col = i * w,
			.width = w };
	if (p->routed)
		join_scatter(m, m->stage_size, m->piece, 0, m->h, k, k);
	if (slots == 0 || pl->moe_tp == 1)
		return;
	w = pl->moe1 - pl->moe0;
	for (i = 0; i < m->stage_size; i++)
		m->piece[i] = (struct piece){ .width = w,
			.rows = block_of(m, i) == pl->ep ? slots : 0,
			.col = (i - b) * w };
	join_scatter(m, m->stage_size, m->piece,
	    p->nrow * (pl->shared1 - pl->shared0), m->h + p->nrow * k,
	    m->a.moe_inter, m->a.moe_inter);
}

static int
mixture(struct model *m, struct layer *l, size_t r0, size_t nrow,
    struct err *e)
{
	const struct arch *a = &m->a;
	struct mixing p = { .m = m, .l = l, .nrow = nrow };

	p.small = m->stage && l->all_i8 && nrow >= JOIN8_ROWS;
	if (m->stage)
		p.part = p.small ? m->h : comm_buffer(m->stage);
	act_set(&m->act, m->y + r0 * a->hidden, a->hidden, nrow, a->hidden);
	if (l->has_dense)
		add_item(&p, &l->dense, NULL, NULL, nrow);
	lin_whole(m, &l->router, &m->act, m->logit, a->experts);
	par_run(m->o.par, pick_rows, &p);
	sort_rows(&p);
	run_up(&p);
	if (p.small ? join_small(&p, e) == -1 :
	    m->stage && share_hidden(&p, e) == -1)
		return -1;
	if (m->stage && !p.small)
		join_hidden(&p);
	quant_hidden(&p);
	return mix_down(&p, m->z + r0 * a->hidden, e);
}

/* ---- a dense layer ---- */

/* The hidden layer of n own rows from row r of the step, all columns. */
static int
dense_hidden(struct mixing *p, size_t r, struct err *e)
{
	struct model *m = p->m;
	size_t hidden = m->a.hidden, w = p->l->dense.gate.n;
	size_t k = p->l->dense.down.k;
	unsigned i;

	act_set(&m->act, m->y + r * hidden, hidden, p->nrow, hidden);
	p->small = m->tp && join8_pays(&p->l->dense.down, p->nrow);
	if (m->tp)
		p->part = p->small ? m->h : comm_buffer(m->tp);
	add_item(p, &p->l->dense, NULL, NULL, p->nrow);
	run_up(p);
	if (p->small) {
		struct act *h = &m->item[0].h;

		if (join8(m, m->tp, &(struct mat8){ &p->l->dense.down, m->h,
			p->nrow, w, m->plan.tp * w, 0, m->plan.layout.tp,
			h->q, h->ldq, h->sx, h->ldsx }, 1, e) == -1)
			return -1;
	} else if (m->tp) {
		for (i = 0; i < comm_size(m->tp); i++)
			m->piece[i] = (struct piece){ .rows = p->nrow,
				.col = i * w, .width = w };
		if (join_rows(m, m->tp, m->piece, m->h, k, k, e) == -1)
			return -1;
	}
	quant_hidden(p);
	return 0;
}

static int
dense(struct model *m, struct layer *l, struct err *e)
{
	size_t waves = wave_count(m), i;

	for (i = 0; i < waves; i++) {
		size_t n = wave_rows(m, m->plan.dp, i);
		struct mixing p = { .m = m, .l = l, .nrow = n };

		if (n && dense_hidden(&p, m->own0 + i * WAVE, e) == -1)
			return -1;
		if (wave_out(m, &l->dense.down, n ? &m->item[0].h : NULL, i,
			e) == -1)
			return -1;
	}
	return 0;
}

/* z = mlp(y) for all rows */
int
mlp_run(struct model *m, struct layer *l, struct err *e)
{
	size_t r, n;

	if (!l->moe)
		return dense(m, l, e);
	for (r = 0; r < m->rows; r += n) {
		n = m->rows - r < MLP_ROWS ? m->rows - r : MLP_ROWS;
		if (mixture(m, l, r, n, e) == -1)
			return -1;
	}
	round_rows(m, m->z, m->rows, m->a.hidden);
	return 0;
}
