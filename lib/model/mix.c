/*
 * mix: the way down of a mixture of experts, and the sum over them.
 *
 * A rank makes some output columns of each of its experts.  Their weighted sum
 * runs in 64-bit fixed point (kern.h, fix_axpy), so it comes out the same
 * however the experts are dealt out: ranks that have the same columns of other
 * experts, its peers, send their integers for the rows that their experts
 * touched, each to the one that ends up with those columns.  There the shared
 * experts are added, as floats; then all columns are joined.
 */
#include <string.h>

#include "model/mlp.h"

enum { UNTOUCHED = 0xffffffff };

/* ---- sums over this rank's experts ---- */

/* acc [nrow][OUT_BLOCK] = sum of weight * (h Wd), outputs [n0, n1). */
static void
sum_block(const struct mixing *p, unsigned n0, unsigned n1, struct scratch *s)
{
	size_t k, i, n, r;

	memset(s->fix, 0, p->nrow * OUT_BLOCK * sizeof *s->fix);
	for (k = p->routed; k < p->nitem; k++) {
		const struct item *it = &p->m->item[k];

		for (i = 0; i < it->h.rows; i += n) {
			struct act v;

			n = it->h.rows - i;
			n = n < ROW_BLOCK ? n : ROW_BLOCK;
			act_gather(&v, &it->h, NULL, i, n, &it->w->down, s);
			lin_block(&it->w->down, &v, n0, n1, s->out, OUT_BLOCK,
			    s);
			for (r = 0; r < n; r++)
				kern.fix_axpy(s->fix + it->row[i + r] *
				    OUT_BLOCK, it->weight[i + r],
				    s->out + r * OUT_BLOCK, n1 - n0);
		}
	}
}

/* Rows [i, i+n) of the shared experts' outputs [n0, n1), or 0, in s->out. */
static void
shared_block(const struct mixing *p, size_t i, size_t n, unsigned n0,
    unsigned n1, struct scratch *s)
{
	const struct item *it = &p->m->item[0];
	struct act v;

	if (p->routed == 0) {
		memset(s->out, 0, n * OUT_BLOCK * sizeof *s->out);
		return;
	}
	act_gather(&v, &it->h, NULL, i, n, &it->w->down, s);
	lin_block(&it->w->down, &v, n0, n1, s->out, OUT_BLOCK, s);
}

static void
add_fix(float *z, const float *shared, const int64_t *fix, size_t n)
{
	size_t j;

	for (j = 0; j < n; j++)
		z[j] = shared[j] + (float)fix[j] * 0x1p-32f;
}

/* ---- one block of experts: nobody to add up with ---- */

struct down {
	struct mixing *p;
	float *z;		/* [nrow][ld], this rank's columns */
	size_t ld;
	unsigned n;		/* columns */
};

static void
down_alone(void *arg, unsigned thread, unsigned nthreads)
{
	struct down *d = arg;
	struct scratch *s = &d->p->m->scratch[thread];
	size_t n0, n1, n2, i, n, r;

	par_range(d->n, KERN_TILE_N, thread, nthreads, &n0, &n1);
	for (; n0 < n1; n0 = n2) {
		n2 = n0 + OUT_BLOCK < n1 ? n0 + OUT_BLOCK : n1;
		sum_block(d->p, n0, n2, s);
		for (i = 0; i < d->p->nrow; i += n) {
			n = d->p->nrow - i;
			n = n < ROW_BLOCK ? n : ROW_BLOCK;
			shared_block(d->p, i, n, n0, n2, s);
			for (r = 0; r < n; r++)
				add_fix(d->z + (i + r) * d->ld + n0,
				    s->out + r * OUT_BLOCK,
				    s->fix + (i + r) * OUT_BLOCK, n2 - n0);
		}
	}
}

/* ---- several blocks ---- */

/* touch[b][row]: the row's place among those that block b's experts touch.
 * Every rank can tell, since every rank has all rows' choices. */
static void
find_touched(const struct mixing *p)
{
	struct model *m = p->m;
	unsigned per = m->a.experts / m->plan.layout.ep, b, k;
	size_t r;

	for (b = 0; b < m->plan.layout.ep; b++) {
		m->ntouch[b] = 0;
		memset(m->touch + (size_t)b * MLP_ROWS, 0xff,
		    p->nrow * sizeof *m->touch);
	}
	for (r = 0; r < p->nrow; r++)
		for (k = 0; k < m->a.topk; k++) {
			uint32_t *t;

			b = (unsigned)m->pick[r * m->a.topk + k] / per;
			t = &m->touch[(size_t)b * MLP_ROWS + r];
			if (*t == UNTOUCHED)
				*t = m->ntouch[b]++;
		}
}

/* This rank's sums, for each peer its columns: [EP][touched][own]. */
static void
down_part(void *arg, unsigned thread, unsigned nthreads)
{
	struct down *d = arg;
	struct model *m = d->p->m;
	struct scratch *s = &m->scratch[thread];
	size_t own = m->plan.own1 - m->plan.own0, n0, n1, n2, r, c, run;
	const uint32_t *touch = m->touch + (size_t)m->plan.ep * MLP_ROWS;
	int64_t *out = comm_buffer(m->peers);

	par_range(d->n, KERN_TILE_N, thread, nthreads, &n0, &n1);
	for (; n0 < n1; n0 = n2) {
		n2 = n0 + OUT_BLOCK < n1 ? n0 + OUT_BLOCK : n1;
		sum_block(d->p, n0, n2, s);
		for (r = 0; r < d->p->nrow; r++)
			for (c = n0; c < n2 && touch[r] != UNTOUCHED;
			    c += run) {
				run = own - c % own;
				run = run < n2 - c ? run : n2 - c;
				memcpy(out + (c / own * m->ntouch[m->plan.ep] +
				    touch[r]) * own + c % own,
				    s->fix + r * OUT_BLOCK + (c - n0),
				    run * sizeof *out);
			}
	}
}

static int
share_sums(struct model *m, struct err *e)
{
	size_t row = (m->plan.own1 - m->plan.own0) * sizeof(int64_t);
	unsigned b;

	for (b = 0; b < m->plan.layout.ep; b++) {
		size_t mine = m->ntouch[m->plan.ep] * row;
		size_t theirs = m->ntouch[b] * row;

		m->give[b] = (struct comm_span){ b * mine, mine };
		m->take[b] = (struct comm_span){ m->plan.ep * theirs, theirs };
	}
	return comm_share(m->peers, m->give, m->take, m->got, e);
}

/* fix [n] = columns from c on of row r, summed over all blocks. */
static void
sum_peers(const struct model *m, size_t r, size_t c, size_t n, int64_t *fix)
{
	size_t own = m->plan.own1 - m->plan.own0, j;
	unsigned b;

	memset(fix, 0, n * sizeof *fix);
	for (b = 0; b < m->plan.layout.ep; b++) {
		uint32_t t = m->touch[(size_t)b * MLP_ROWS + r];
		const int64_t *from = (const int64_t *)m->got[b] + t * own + c;

		for (j = 0; t != UNTOUCHED && j < n; j++)
			fix[j] += from[j];
	}
}

static void
down_own(void *arg, unsigned thread, unsigned nthreads)
{
	struct down *d = arg;
	struct scratch *s = &d->p->m->scratch[thread];
	size_t n0, n1, n2, i, n, r;

	par_range(d->n, KERN_TILE_N, thread, nthreads, &n0, &n1);
	for (; n0 < n1; n0 = n2) {
		n2 = n0 + OUT_BLOCK < n1 ? n0 + OUT_BLOCK : n1;
		for (i = 0; i < d->p->nrow; i += n) {
			n = d->p->nrow - i;
			n = n < ROW_BLOCK ? n : ROW_BLOCK;
			shared_block(d->p, i, n, n0, n2, s);
			for (r = 0; r < n; r++) {
				sum_peers(d->p->m, i + r, n0, n2 - n0, s->fix);
				add_fix(d->z + (i + r) * d->ld + n0,
				    s->out + r * OUT_BLOCK, s->fix, n2 - n0);
			}
		}
	}
}

/* ---- the layer ---- */

static int
add_blocks(struct down *d, struct err *e)
{
	struct model *m = d->p->m;
	struct down part = { .p = d->p,
		.n = m->plan.moe_out1 - m->plan.moe_out0 };

	find_touched(d->p);
	par_run(m->o.par, down_part, &part);
	if (share_sums(m, e) == -1)
		return -1;
	par_run(m->o.par, down_own, d);
	return 0;
}

int
mix_down(struct mixing *p, float *z, struct err *e)
{
	struct model *m = p->m;
	unsigned per = m->plan.layout.ep, i;
	struct down d = { p, z, m->a.hidden, m->plan.own1 - m->plan.own0 };

	if (m->stage) {
		d.z = comm_buffer(m->stage);
		d.ld = d.n;
	}
	if (!m->peers)
		par_run(m->o.par, down_alone, &d);
	else if (add_blocks(&d, e) == -1)
		return -1;
	if (!m->stage)
		return 0;
	for (i = 0; i < m->stage_size; i++)
		m->piece[i] = (struct piece){ .rows = p->nrow,
			.col = (i % m->plan.moe_tp * per +
			i / m->plan.moe_tp) * d.n, .width = d.n };
	return join_rows(m, m->stage, m->piece, z, m->a.hidden, m->a.hidden,
	    e);
}
