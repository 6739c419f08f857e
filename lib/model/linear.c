/*
 * linear: y = x W^T for every kind of linear layer that checkpoints have.
 *
 * A block of outputs is computed by one thread over the whole inner dimension,
 * so neither the number of threads nor the number of rows changes a bit.  Rows
 * are quantised once and then shared by all layers that read them in the same
 * way (gate and up; q_a and kv_a).
 */
#include <string.h>

#include "model/priv.h"

/* ---- activations ---- */

static unsigned
nblocks(size_t k)
{
	return (k + LIN_BLOCK - 1) / LIN_BLOCK;
}

void
act_set(struct act *a, const float *x, size_t ldx, size_t rows, size_t k)
{
	a->x = x;
	a->ldx = ldx;
	a->rows = rows;
	a->k = k;
	a->ldq = kern_k4(k) * KERN_TILE_K;
	a->ldsx = nblocks(k);
	a->held = LIN_FLOAT;
	a->by = NULL;
}

/* As every dynamic W8A8 scheme has it, but never 0. */
float
act_scale(float max)
{
	return (max > 1e-12f ? max : 1e-12f) / 127;
}

/* One scale for n values. */
static float
quant_span(int8_t *q, const float *x, size_t n)
{
	float s = act_scale(kern.absmax(x, n));

	kern.quant(q, x, s, n);
	return s;
}

void
act_quant(struct act *a, const struct lin *l, size_t i)
{
	const float *x = a->x + i * a->ldx;
	int8_t *q = a->q + i * a->ldq;
	unsigned kb = nblocks(a->k), b;

	if (l->kind == LIN_I8_STATIC) {
		kern.quant_vec(q, x, l->in_scale, l->in_off, a->k);
	} else if (l->kind == LIN_I8) {
		a->sx[i * a->ldsx] = quant_span(q, x, a->k);
	} else if (l->kind == LIN_I8_BLOCK) {
		for (b = 0; b < kb; b++) {
			size_t at = (size_t)b * LIN_BLOCK, n = a->k - at;

			a->sx[i * a->ldsx + b] = quant_span(q + at, x + at,
			    n < LIN_BLOCK ? n : LIN_BLOCK);
		}
	} else {
		return;			/* floats are read as they are */
	}
	memset(q + a->k, 0, a->ldq - a->k);
}

struct quanting {
	struct act *a;
	const struct lin *l;
};

static void
quant_rows(void *arg, unsigned thread, unsigned nthreads)
{
	struct quanting *p = arg;
	size_t i, i1;

	par_range(p->a->rows, 1, thread, nthreads, &i, &i1);
	for (; i < i1; i++)
		act_quant(p->a, p->l, i);
}

static bool
is_float(const struct lin *l)
{
	return l->kind == LIN_FLOAT || l->kind == LIN_F8;
}

bool
act_fits(const struct act *a, const struct lin *l)
{
	if (is_float(l))
		return true;
	if (a->held != l->kind)
		return false;
	return l->kind != LIN_I8_STATIC || a->by == l ||
	    (memcmp(a->by->in_scale, l->in_scale, a->k * sizeof(float)) == 0 &&
	    memcmp(a->by->in_off, l->in_off, a->k * sizeof(float)) == 0);
}

void
act_ready(struct model *m, struct act *a, const struct lin *l)
{
	struct quanting p = { a, l };

	if (act_fits(a, l))
		return;
	par_run(m->o.par, quant_rows, &p);
	a->held = l->kind;
	a->by = l;
}

/* Rows quantised for one layer only, because another one that reads them was
 * served first: rare, and right for any mix of layers. */
static void
gather_anew(struct act *out, const struct act *a, const uint32_t *idx,
    size_t first, const struct lin *l, struct scratch *s)
{
	size_t i;

	for (i = 0; i < out->rows; i++)
		memcpy(s->gx + i * a->k,
		    a->x + (idx ? idx[first + i] : first + i) * a->ldx,
		    a->k * sizeof(float));
	out->x = s->gx;
	out->ldx = a->k;
	out->q = s->gq;
	out->sx = s->gs;
	out->held = l->kind;
	out->by = l;
	for (i = 0; i < out->rows && !is_float(l); i++)
		act_quant(out, l, i);
}

void
act_gather(struct act *out, const struct act *a, const uint32_t *idx,
    size_t first, size_t n, const struct lin *l, struct scratch *s)
{
	size_t i, r = idx ? idx[first] : first;

	*out = *a;
	out->rows = n;
	if (!act_fits(a, l) || (idx && n > 1 && is_float(l))) {
		gather_anew(out, a, idx, first, l, s);
		return;
	}
	if (idx == NULL || n == 1) {	/* rows stand together: no copy */
		out->x = a->x + r * a->ldx;
		out->q = a->q + r * a->ldq;
		out->sx = a->sx + r * a->ldsx;
		return;
	}
	for (i = 0; i < n; i++) {
		r = idx[first + i];
		memcpy(s->gq + i * a->ldq, a->q + r * a->ldq, a->ldq);
		memcpy(s->gs + i * a->ldsx, a->sx + r * a->ldsx,
		    a->ldsx * sizeof(float));
	}
	out->q = s->gq;
	out->sx = s->gs;
}

/* ---- blocks of outputs ---- */

static void
block_float(const struct lin *l, const struct act *a, unsigned n0,
    unsigned n1, float *y, size_t ldy)
{
	size_t at = (size_t)n0 * l->k;

	if (l->wtype == DT_BF16)
		kern.nt_bf16(y, ldy, a->x, a->ldx, (const uint16_t *)l->w + at,
		    l->k, a->rows, n1 - n0, l->k);
	else
		kern.nt_f32(y, ldy, a->x, a->ldx, (const float *)l->w + at,
		    l->k, a->rows, n1 - n0, l->k);
}

/* Widened here, a block at a time: FP8 halves the bytes that decode streams,
 * and no CPU multiplies it. */
static void
block_f8(const struct lin *l, const struct act *a, unsigned n0, unsigned n1,
    float *y, size_t ldy, struct scratch *s)
{
	unsigned kb = nblocks(l->k), r, b;

	for (r = n0; r < n1; r++) {
		const uint8_t *w = (const uint8_t *)l->w + (size_t)r * l->k;
		float *out = s->wide + (size_t)(r - n0) * l->k;

		for (b = 0; b < kb; b++) {
			size_t at = (size_t)b * LIN_BLOCK, n = l->k - at;

			kern.from_f8(out + at, w + at,
			    l->bscale[(size_t)r * kb + b],
			    n < LIN_BLOCK ? n : LIN_BLOCK);
		}
	}
	kern.nt_f32(y, ldy, a->x, a->ldx, s->wide, l->k, a->rows, n1 - n0,
	    l->k);
}

static void
block_i8(const struct lin *l, const struct act *a, unsigned n0, unsigned n1,
    float *y, size_t ldy, struct scratch *s)
{
	size_t k4 = kern_k4(l->k), ldw = k4 * KERN_TILE_N * KERN_TILE_K, i;
	size_t tile = n0 / KERN_TILE_N;

	kern.gemm_i8(s->acc, OUT_BLOCK, a->q, a->ldq,
	    (const int8_t *)l->w + tile * ldw, ldw, l->colsum + n0, a->rows,
	    kern_ntile(n1 - n0), k4);
	for (i = 0; i < a->rows; i++) {
		const int32_t *acc = s->acc + i * OUT_BLOCK;

		if (l->kind == LIN_I8_STATIC)
			kern.dequant_bias(y + i * ldy, acc, l->bias + n0,
			    l->scale + n0, n1 - n0);
		else
			kern.dequant(y + i * ldy, acc, a->sx[i * a->ldsx],
			    l->scale + n0, n1 - n0);
	}
}

/* Each 128 inputs have scales of their own, so their sums meet as floats, in
 * rising order. */
static void
block_i8_block(const struct lin *l, const struct act *a, unsigned n0,
    unsigned n1, float *y, size_t ldy, struct scratch *s)
{
	size_t k4 = kern_k4(l->k), ldw = k4 * KERN_TILE_N * KERN_TILE_K;
	size_t np = kern_ntile(l->n) * KERN_TILE_N, i;
	size_t tile = n0 / KERN_TILE_N;
	unsigned kb = nblocks(l->k), b;
	float part[OUT_BLOCK];

	for (i = 0; i < a->rows; i++)
		memset(y + i * ldy, 0, (n1 - n0) * sizeof *y);
	for (b = 0; b < kb; b++) {
		size_t at = (size_t)b * LIN_BLOCK, q0 = at / KERN_TILE_K;
		size_t nq = k4 - q0;

		if (nq > LIN_BLOCK / KERN_TILE_K)
			nq = LIN_BLOCK / KERN_TILE_K;
		kern.gemm_i8(s->acc, OUT_BLOCK, a->q + at, a->ldq,
		    (const int8_t *)l->w + tile * ldw +
		    q0 * KERN_TILE_N * KERN_TILE_K, ldw,
		    l->colsum + b * np + n0, a->rows, kern_ntile(n1 - n0), nq);
		for (i = 0; i < a->rows; i++) {
			kern.dequant(part, s->acc + i * OUT_BLOCK,
			    a->sx[i * a->ldsx + b],
			    l->bscale + (size_t)b * l->n + n0, n1 - n0);
			kern.add(y + i * ldy, part, n1 - n0);
		}
	}
}

void
lin_block(const struct lin *l, const struct act *a, unsigned n0, unsigned n1,
    float *y, size_t ldy, struct scratch *s)
{
	switch (l->kind) {
	case LIN_FLOAT:
		block_float(l, a, n0, n1, y, ldy);
		return;
	case LIN_F8:
		block_f8(l, a, n0, n1, y, ldy, s);
		return;
	case LIN_I8:
	case LIN_I8_STATIC:
		block_i8(l, a, n0, n1, y, ldy, s);
		return;
	case LIN_I8_BLOCK:
		block_i8_block(l, a, n0, n1, y, ldy, s);
		return;
	}
}

/* ---- whole layers ---- */

struct running {
	struct model *m;
	const struct lin *l;
	const struct act *a;
	unsigned c0, c1;	/* outputs */
	float *y;		/* from c0 on */
	size_t ldy;
};

static void
run_part(void *arg, unsigned thread, unsigned nthreads)
{
	struct running *r = arg;
	struct scratch *s = &r->m->scratch[thread];
	size_t n0, n1, n, i;

	par_range(r->c1 - r->c0, KERN_TILE_N, thread, nthreads, &n0, &n1);
	n0 += r->c0;
	n1 += r->c0;
	for (; n0 < n1; n0 = n) {
		n = n0 + OUT_BLOCK < n1 ? n0 + OUT_BLOCK : n1;
		for (i = 0; i < r->a->rows; i += ROW_BLOCK) {
			size_t left = r->a->rows - i;
			struct act a;

			act_gather(&a, r->a, NULL, i,
			    left < ROW_BLOCK ? left : ROW_BLOCK, r->l, s);
			lin_block(r->l, &a, n0, n,
			    r->y + i * r->ldy + (n0 - r->c0), r->ldy, s);
		}
	}
}

void
lin_cols(struct model *m, const struct lin *l, struct act *a, unsigned c0,
    unsigned c1, float *y, size_t ldy)
{
	struct running r = { m, l, a, c0, c1, y, ldy };

	act_ready(m, a, l);
	par_run(m->o.par, run_part, &r);
}

void
lin_whole(struct model *m, const struct lin *l, struct act *a, float *y,
    size_t ldy)
{
	lin_cols(m, l, a, 0, l->n, y, ldy);
}

void
lin_run(struct model *m, const struct lin *l, struct act *a, float *y)
{
	lin_whole(m, l, a, y, l->n);
	round_rows(m, y, a->rows, l->n);
}

/* ---- bf16 activations ---- */

void
round_span(const struct model *m, float *y, size_t n)
{
	uint16_t tmp[256];
	size_t i;

	for (i = 0; m->o.bf16 && i < n; i += 256) {
		size_t k = n - i < 256 ? n - i : 256;

		kern.to_bf16(tmp, y + i, k);
		kern.from_bf16(y + i, tmp, k);
	}
}

struct rounding {
	const struct model *m;
	float *y;
	size_t n;
};

static void
round_part(void *arg, unsigned thread, unsigned nthreads)
{
	struct rounding *r = arg;
	size_t i, i1;

	par_range(r->n, 256, thread, nthreads, &i, &i1);
	round_span(r->m, r->y + i, i1 - i);
}

void
round_rows(struct model *m, float *y, size_t rows, size_t n)
{
	struct rounding r = { m, y, rows * n };

	if (m->o.bf16)
		par_run(m->o.par, round_part, &r);
}
