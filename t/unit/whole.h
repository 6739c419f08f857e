/*
 * whole: a linear layer as the checkpoint has it, and what dsi-shard should
 * make of it, by plain loops.  For t/unit/shard.c.
 */
#ifndef DSI_T_WHOLE_H
#define DSI_T_WHOLE_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/ckpt.h"
#include "shard/shard.h"

/* ---- whole layers ---- */

/* A linear layer as the source has it; codes row-major. */
struct whole {
	enum lin_kind kind;
	enum dtype dtype;
	unsigned n, k;
	unsigned char *w;		/* [n][k] of dtype */
	float *scale;			/* [n] */
	float *bs;			/* [n][kb] */
	int32_t *bias;			/* [n] */
	float *in_scale, *in_off;	/* [k] */
};

static unsigned
nblocks(unsigned x)
{
	return (x + LIN_BLOCK - 1) / LIN_BLOCK;
}

static void *
need(size_t n)
{
	void *p = calloc(n ? n : 1, 1);

	if (!p)
		abort();
	return p;
}

/* Rows of 0 behind the layer's own, which a rank's slice may reach into. */
enum { WHOLE_PAD = 64 };

static void
whole_alloc(struct whole *w)
{
	size_t n = w->n + WHOLE_PAD;

	w->w = need(n * w->k * dtype_size(w->dtype));
	w->scale = need(4 * n);
	w->bs = need(4 * n * nblocks(w->k));
	w->bias = need(4 * n);
	w->in_scale = need(4 * w->k);
	w->in_off = need(4 * w->k);
}

static void
whole_free(struct whole *w)
{
	free(w->w);
	free(w->scale);
	free(w->bs);
	free(w->bias);
	free(w->in_scale);
	free(w->in_off);
	*w = (struct whole){0};
}

static int
whole_ckpt(struct whole *w, struct ckpt *c, const char *name, struct err *e)
{
	struct ckpt_lin l;
	float *b;
	int rc;

	if (ckpt_lin(c, name, &l, e) == -1)
		return -1;
	*w = (struct whole){ .kind = l.kind, .dtype = l.dtype, .n = l.n,
	    .k = l.k };
	whole_alloc(w);
	rc = ckpt_rows(c, name, 0, l.n, w->w, e);
	if (rc == 0 && (l.kind == LIN_I8 || l.kind == LIN_I8_STATIC))
		rc = ckpt_scale(c, name, w->scale, e);
	if (rc == 0 && l.kind == LIN_I8_STATIC)
		rc = ckpt_static(c, name, w->bias, w->in_scale, w->in_off, e);
	if (rc == -1 || (l.kind != LIN_F8 && l.kind != LIN_I8_BLOCK))
		return rc;
	b = need(4 * (size_t)nblocks(l.n) * nblocks(l.k));
	rc = ckpt_block_scale(c, name, b, e);
	for (unsigned r = 0; r < l.n; r++)
		memcpy(w->bs + (size_t)r * nblocks(l.k), b + (size_t)(r /
		    LIN_BLOCK) * nblocks(l.k), 4 * nblocks(l.k));
	free(b);
	return rc;
}

/* ---- what dsi-shard should make of it ---- */

static float
f8(unsigned b)
{
	int ex = b >> 3 & 15, m = b & 7;
	double x = ex ? ldexp(8 + m, ex - 10) : ldexp(m, -9);

	return (float)(b & 128 ? -x : x);
}

static float
value(const struct whole *w, unsigned r, unsigned c)
{
	size_t i = (size_t)r * w->k + c;
	float bs = w->bs[(size_t)r * nblocks(w->k) + c / LIN_BLOCK];
	uint32_t u;
	float x;

	switch (w->kind) {
	case LIN_F8:
		return f8(w->w[i]) * bs;
	case LIN_I8_BLOCK:
		return (float)(int8_t)w->w[i] * bs;
	case LIN_I8:
	case LIN_I8_STATIC:
		return (float)(int8_t)w->w[i] * w->scale[r];
	case LIN_FLOAT:
		break;
	}
	if (w->dtype == DT_F32) {
		memcpy(&x, w->w + 4 * i, 4);
		return x;
	}
	u = (uint32_t)(w->w[2 * i] | w->w[2 * i + 1] << 8) << 16;
	memcpy(&x, &u, 4);
	return x;
}

/* The nearest bf16, by trying both neighbours. */
static uint16_t
near_bf16(float x)
{
	uint32_t u, lo, hi;
	float a, b;

	memcpy(&u, &x, 4);
	lo = u & 0xffff0000;
	hi = lo + 0x10000;
	memcpy(&a, &lo, 4);
	memcpy(&b, &hi, 4);
	if (fabs((double)x - a) != fabs((double)b - x))
		return (uint16_t)((fabs((double)x - a) <
		    fabs((double)b - x) ? lo : hi) >> 16);
	return (uint16_t)((lo >> 16 & 1 ? hi : lo) >> 16);
}

static void
to_float(struct whole *w, enum dtype t)
{
	struct whole o = { .kind = LIN_FLOAT, .dtype = t, .n = w->n,
	    .k = w->k };

	whole_alloc(&o);
	for (unsigned r = 0; r < w->n; r++)
		for (unsigned c = 0; c < w->k; c++) {
			size_t i = (size_t)r * w->k + c;
			float x = value(w, r, c);
			uint16_t h = near_bf16(x);

			memcpy(o.w + i * dtype_size(t), t == DT_F32 ?
			    (void *)&x : (void *)&h, dtype_size(t));
		}
	whole_free(w);
	*w = o;
}

static void
to_int8(struct whole *w)
{
	struct whole o = { .kind = LIN_I8, .dtype = DT_I8, .n = w->n,
	    .k = w->k };

	whole_alloc(&o);
	for (unsigned r = 0; r < w->n; r++) {
		float max = 0;

		for (unsigned c = 0; c < w->k; c++)
			max = fmaxf(max, fabsf(value(w, r, c)));
		o.scale[r] = fmaxf(max / 127, 1e-12f);
		for (unsigned c = 0; c < w->k; c++)
			o.w[(size_t)r * w->k + c] = (unsigned char)(int)
			    nearbyintf(value(w, r, c) / o.scale[r]);
	}
	whole_free(w);
	*w = o;
}

static void
expect(struct whole *w, const struct arch_lin *lin, const struct arch *a,
    enum shard_quant q)
{
	bool real = w->kind == LIN_FLOAT || w->kind == LIN_F8;

	if (lin->part == ARCH_KV_B) {
		if (w->kind != LIN_FLOAT)
			to_float(w, q == SHARD_INT8 && w->kind == LIN_F8 ?
			    DT_BF16 : DT_F32);
	} else if (q == SHARD_INT8 && real && lin->part != ARCH_EH &&
	    lin->layer < a->layers) {
		to_int8(w);
	}
}

#endif
