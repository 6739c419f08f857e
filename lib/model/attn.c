/*
 * attn: multi-head latent attention (arXiv 2405.04434, §2.1) over the paged
 * latent cache.
 *
 * A cache row is the normed latent c (kv_lora) and the rotated shared key
 * (rope).  Two ways lead to the same numbers but not to the same bits:
 *
 *   absorbed   q_nope W_k gives a query over the latent itself; what comes
 *              out goes through W_v.  No key is ever expanded: for decode.
 *   expanded   c W_k and c W_v give keys and values a head, and every query
 *              of the chunk shares them: for prefill.
 *
 * Which one a row takes is fixed by its request (kv_expanded).  Either way
 * the context is combined in tiles of KEY_TILE positions that start at
 * position 0, in rising order, with a running maximum and sum.  Keys are read
 * from the cache even within a step, so chunks of any size see the same.
 */
#include <math.h>
#include <string.h>

#include "kv/kv.h"
#include "model/priv.h"

/* ---- cache rows ---- */

static size_t
row_width(const struct model *m)
{
	return m->a.kv_lora + m->a.rope;
}

static char *
cache_row(const struct model *m, const struct layer *l, const uint32_t *block,
    size_t pos)
{
	size_t bs = m->o.block_size;
	size_t at = block[pos / bs] * bs + pos % bs;

	return l->cache + at * row_width(m) * (m->o.kv_f32 ? 4 : 2);
}

/* Positions from pos that stand together in one block, at most n. */
static size_t
cache_run(const struct model *m, size_t pos, size_t n)
{
	size_t left = m->o.block_size - pos % m->o.block_size;

	return n < left ? n : left;
}

static void
rotate(float *x, const float *cos, const float *sin, unsigned half)
{
	unsigned i;

	for (i = 0; i < half; i++) {
		float a = x[2 * i], b = x[2 * i + 1];

		x[2 * i] = a * cos[i] - b * sin[i];
		x[2 * i + 1] = b * cos[i] + a * sin[i];
	}
}

/* ---- one row's way into the cache, and its queries ---- */

static void
put_row(struct model *m, struct layer *l, size_t r)
{
	const struct arch *a = &m->a;
	float *kv = m->kv + r * row_width(m);
	size_t half = a->rope / 2;
	char *to = cache_row(m, l, m->part[m->row[r].part].block,
	    m->row[r].pos);
	unsigned h;

	kern.rmsnorm(kv, kv, l->kv_norm, NULL, a->eps, a->kv_lora);
	rotate(kv + a->kv_lora, m->cos + r * half, m->sin + r * half, half);
	if (m->o.kv_f32)
		memcpy(to, kv, row_width(m) * sizeof *kv);
	else
		kern.to_bf16((uint16_t *)to, kv, row_width(m));
	for (h = 0; h < m->heads; h++)
		rotate(m->qh + (r * m->heads + h) * (a->nope + a->rope) +
		    a->nope, m->cos + r * half, m->sin + r * half, half);
}

struct pass {
	struct model *m;
	struct layer *l;
	unsigned split;		/* absorbed: groups of heads */
};

static void
put_rows(void *arg, unsigned thread, unsigned nthreads)
{
	struct pass *p = arg;
	size_t r, r1;

	par_range(p->m->nown, 1, thread, nthreads, &r, &r1);
	for (; r < r1; r++)
		put_row(p->m, p->l, r);
}

/* ---- running softmax ---- */

/* A tile's scores s[0..n) of one query: scaled, turned into weights; o (width
 * w) is rescaled to the new maximum. */
static void
soften(float *s, size_t n, float scale, float *max, float *sum, float *o,
    size_t w)
{
	float top, fade;

	kern.scale(s, scale, n);
	top = kern.max(s, n);
	if (top > *max) {
		fade = kern_expf(*max - top);
		*max = top;
		*sum *= fade;
		kern.scale(o, fade, w);
	}
	*sum += kern.exp_sum(s, *max, n);
}

/* ---- absorbed ---- */

/* y [n][ld] += / = products with head h's part of kv_b, as floats of either
 * width: rows from row0, nrow of them, kv_lora wide. */
static void
kvb_nt(const struct model *m, const struct layer *l, unsigned h,
    unsigned row0, unsigned nrow, const float *x, size_t ldx, size_t n,
    float *y, size_t ldy)
{
	const struct arch *a = &m->a;
	size_t at = ((size_t)h * (a->nope + a->vdim) + row0) * a->kv_lora;

	if (l->kv_b.wtype == DT_BF16)
		kern.nt_bf16(y, ldy, x, ldx, (const uint16_t *)l->kv_b.w + at,
		    a->kv_lora, n, nrow, a->kv_lora);
	else
		kern.nt_f32(y, ldy, x, ldx, (const float *)l->kv_b.w + at,
		    a->kv_lora, n, nrow, a->kv_lora);
}

static void
absorb_query(const struct model *m, const struct layer *l, unsigned h,
    const float *q, float *qlat)
{
	const struct arch *a = &m->a;
	size_t at = (size_t)h * (a->nope + a->vdim) * a->kv_lora;

	memset(qlat, 0, a->kv_lora * sizeof *qlat);
	if (l->kv_b.wtype == DT_BF16)
		kern.nn_bf16(qlat, a->kv_lora, q, a->nope,
		    (const uint16_t *)l->kv_b.w + at, a->kv_lora, 1,
		    a->kv_lora, a->nope);
	else
		kern.nn_f32(qlat, a->kv_lora, q, a->nope,
		    (const float *)l->kv_b.w + at, a->kv_lora, 1, a->kv_lora,
		    a->nope);
	memcpy(qlat + a->kv_lora, q + a->nope, a->rope * sizeof *q);
}

/* nh heads of one row against positions [j, j+n), which stand in one tile. */
static void
absorbed_tile(const struct model *m, const struct layer *l,
    const uint32_t *block, size_t j, size_t n, unsigned nh, struct scratch *s)
{
	size_t w = row_width(m), i, run, h, c = m->a.kv_lora;

	for (i = 0; i < n; i += run) {
		const void *k = cache_row(m, l, block, j + i);

		run = cache_run(m, j + i, n - i);
		if (m->o.kv_f32)
			kern.nt_f32(s->score + i, KEY_TILE, s->qlat, w, k, w,
			    nh, run, w);
		else
			kern.nt_bf16(s->score + i, KEY_TILE, s->qlat, w, k, w,
			    nh, run, w);
	}
	for (h = 0; h < nh; h++)
		soften(s->score + h * KEY_TILE, n, m->softmax_scale, &s->m[h],
		    &s->l[h], s->olat + h * c, c);
	for (i = 0; i < n; i += run) {
		const void *k = cache_row(m, l, block, j + i);

		run = cache_run(m, j + i, n - i);
		if (m->o.kv_f32)
			kern.nn_f32(s->olat, c, s->score + i, KEY_TILE, k, w,
			    nh, c, run);
		else
			kern.nn_bf16(s->olat, c, s->score + i, KEY_TILE, k, w,
			    nh, c, run);
	}
}

/* Heads [h0, h1) of row r. */
static void
absorbed_row(struct model *m, const struct layer *l, size_t r, unsigned h0,
    unsigned h1, struct scratch *s)
{
	const struct arch *a = &m->a;
	size_t qd = a->nope + a->rope, ctx = m->row[r].pos + 1, j;
	const uint32_t *block = m->part[m->row[r].part].block;
	unsigned h, nh = h1 - h0;

	for (h = 0; h < nh; h++) {
		absorb_query(m, l, h0 + h,
		    m->qh + (r * m->heads + h0 + h) * qd,
		    s->qlat + h * row_width(m));
		s->m[h] = -INFINITY;
		s->l[h] = 0;
	}
	memset(s->olat, 0, (size_t)nh * a->kv_lora * sizeof *s->olat);
	for (j = 0; j < ctx; j += KEY_TILE)
		absorbed_tile(m, l, block, j,
		    ctx - j < KEY_TILE ? ctx - j : KEY_TILE, nh, s);
	for (h = 0; h < nh; h++) {
		float *o = s->olat + (size_t)h * a->kv_lora;

		kern.scale(o, 1 / s->l[h], a->kv_lora);
		kvb_nt(m, l, h0 + h, a->nope, a->vdim, o, a->kv_lora, 1,
		    m->oh + (r * m->heads + h0 + h) * a->vdim, a->vdim);
	}
}

static bool
row_expanded(const struct model *m, size_t r)
{
	return kv_expanded(m->row[r].pos, m->part[m->row[r].part].nprompt);
}

static void
absorbed(void *arg, unsigned thread, unsigned nthreads)
{
	struct pass *p = arg;
	struct model *m = p->m;
	size_t t, t1;

	par_range(m->nown * p->split, 1, thread, nthreads, &t, &t1);
	for (; t < t1; t++) {
		size_t r = t / p->split, g = t % p->split;

		if (!row_expanded(m, r))
			absorbed_row(m, p->l, r, m->heads * g / p->split,
			    m->heads * (g + 1) / p->split,
			    &m->scratch[thread]);
	}
}

/* ---- expanded ---- */

/* Keys and values of head h for positions [j, j+n) of a tile. */
static void
expand_tile(const struct model *m, const struct layer *l,
    const uint32_t *block, unsigned h, size_t j, size_t n, struct scratch *s)
{
	const struct arch *a = &m->a;
	size_t w = row_width(m), qd = a->nope + a->rope, i, run;

	for (i = 0; i < n; i += run) {
		const void *k = cache_row(m, l, block, j + i);

		run = cache_run(m, j + i, n - i);
		if (m->o.kv_f32)
			memcpy(s->ctx + i * w, k, run * w * sizeof *s->ctx);
		else
			kern.from_bf16(s->ctx + i * w, k, run * w);
	}
	kvb_nt(m, l, h, 0, a->nope, s->ctx, w, n, s->key, qd);
	for (i = 0; i < n; i++)
		memcpy(s->key + i * qd + a->nope, s->ctx + i * w + a->kv_lora,
		    a->rope * sizeof *s->key);
	kvb_nt(m, l, h, a->nope, a->vdim, s->ctx, w, n, s->val, a->vdim);
}

/* Rows [r, r+nr) of one part, head h, against an expanded tile of n keys that
 * starts at position j.  Row i sees the keys up to its own position. */
static void
expanded_tile(struct model *m, size_t r, size_t nr, unsigned h, size_t j,
    size_t n, size_t state, struct scratch *s)
{
	const struct arch *a = &m->a;
	size_t qd = a->nope + a->rope, ldq = m->heads * qd, i;
	size_t ldo = (size_t)m->heads * a->vdim, full = nr;
	float *o = m->oh + (r * m->heads + h) * a->vdim;

	kern.nt_f32(s->score, KEY_TILE, m->qh + (r * m->heads + h) * qd, ldq,
	    s->key, qd, nr, n, qd);
	for (i = nr; i-- > 0;) {	/* the last rows see whole tiles */
		size_t sees = m->row[r + i].pos + 1 - j;

		if (sees < n)
			break;
		full = i;
	}
	for (i = 0; i < nr; i++) {
		size_t sees = m->row[r + i].pos + 1 - j;

		if (sees > n)
			sees = n;
		soften(s->score + i * KEY_TILE, sees, m->softmax_scale,
		    &s->m[state + i], &s->l[state + i], o + i * ldo, a->vdim);
		if (i < full)
			kern.nn_f32(o + i * ldo, ldo, s->score + i * KEY_TILE,
			    KEY_TILE, s->val, a->vdim, 1, a->vdim, sees);
	}
	kern.nn_f32(o + full * ldo, ldo, s->score + full * KEY_TILE, KEY_TILE,
	    s->val, a->vdim, nr - full, a->vdim, n);
}

/* Rows [r, r+nr) of one part, all expanded, and one head. */
static void
expanded_head(struct model *m, const struct layer *l, size_t r, size_t nr,
    unsigned h, struct scratch *s)
{
	const struct arch *a = &m->a;
	size_t p0 = m->row[r].pos, ctx = p0 + nr, i, j;
	const uint32_t *block = m->part[m->row[r].part].block;

	for (i = 0; i < nr; i++) {
		s->m[i] = -INFINITY;
		s->l[i] = 0;
		memset(m->oh + ((r + i) * m->heads + h) * a->vdim, 0,
		    a->vdim * sizeof *m->oh);
	}
	for (j = 0; j < ctx; j += KEY_TILE) {
		size_t n = ctx - j < KEY_TILE ? ctx - j : KEY_TILE;

		expand_tile(m, l, block, h, j, n, s);
		for (i = j > p0 ? j - p0 : 0; i < nr; i += ROW_BLOCK)
			expanded_tile(m, r + i,
			    nr - i < ROW_BLOCK ? nr - i : ROW_BLOCK, h, j, n,
			    i, s);
	}
	for (i = 0; i < nr; i++)
		kern.scale(m->oh + ((r + i) * m->heads + h) * a->vdim,
		    1 / s->l[i], a->vdim);
}

/* The heads of every expanded run of rows, dealt out over the threads. */
static void
expanded(void *arg, unsigned thread, unsigned nthreads)
{
	struct pass *p = arg;
	struct model *m = p->m;
	size_t r = 0, job = 0, i, n;
	unsigned h;

	for (i = m->part0; i < m->part1; r += m->part[i++].n) {
		for (n = 0; n < m->part[i].n && row_expanded(m, r + n); n++)
			;
		for (h = 0; n && h < m->heads; h++)
			if (job++ % nthreads == thread)
				expanded_head(m, p->l, r, n, h,
				    &m->scratch[thread]);
	}
}

/* ---- the block ---- */

/* This rank's share of l's outputs for a into y [rows][w]; where it goes, for
 * join_scatter. */
static void
my_share(struct model *m, const struct lin *l, struct act *a, float *y,
    unsigned w)
{
	unsigned c0 = m->plan.tp * w, c1 = c0 + w < l->n ? c0 + w : l->n;

	if (c0 < l->n) {
		lin_cols(m, l, a, c0, c1, y, w);
		round_rows(m, y, a->rows, w);
	}
}

static void
place_share(struct model *m, size_t row0, size_t rows, unsigned w,
    size_t skip, float *out, unsigned n)
{
	unsigned i;

	for (i = 0; i < m->plan.layout.tp; i++)
		m->piece[i] = (struct piece){ .row0 = row0, .rows = rows,
			.col = (size_t)i * w, .width = w };
	join_scatter(m, m->plan.layout.tp, m->piece, skip, out, n, n);
}

/* Every rank has q_a and kv_a whole, but n own rows from row r on take only a
 * TP-th of them from each. */
static int
split_latent(struct model *m, struct layer *l, size_t r, size_t n,
    struct err *e)
{
	const struct arch *a = &m->a;
	unsigned tp = m->plan.layout.tp, wq = tp_share(a->q_lora, tp), i;
	unsigned wkv = tp_share(a->kv_lora + a->rope, tp);
	float *y = comm_buffer(m->tp);
	size_t bytes = n * (wq + wkv) * sizeof *y;

	act_set(&m->act, m->y + (m->own0 + r) * a->hidden, a->hidden, n,
	    a->hidden);
	if (a->q_lora)
		my_share(m, &l->q_a, &m->act, y, wq);
	my_share(m, &l->kv_a, &m->act, y + n * wq, wkv);
	for (i = 0; i < tp; i++)
		m->give[i] = m->take[i] = (struct comm_span){ 0, bytes };
	if (comm_share(m->tp, m->give, m->take, m->got, e) == -1)
		return -1;
	if (a->q_lora)
		place_share(m, r, n, wq, 0, m->qa, a->q_lora);
	place_share(m, r, n, wkv, n * wq, m->kv, a->kv_lora + a->rope);
	return 0;
}

/* qa, kv = what queries and keys are made of, for the rank's own rows */
static int
latent(struct model *m, struct layer *l, struct err *e)
{
	const struct arch *a = &m->a;
	size_t r, n;

	for (r = 0; m->tp && r < m->nown; r += n) {
		n = m->nown - r < WAVE ? m->nown - r : WAVE;
		if (split_latent(m, l, r, n, e) == -1)
			return -1;
	}
	act_set(&m->act, m->y + m->own0 * a->hidden, a->hidden, m->nown,
	    a->hidden);
	if (m->tp)
		return 0;
	if (a->q_lora)
		lin_run(m, &l->q_a, &m->act, m->qa);
	lin_run(m, &l->kv_a, &m->act, m->kv);
	return 0;
}

/* qh = this rank's heads' queries for its own rows */
static void
queries(struct model *m, struct layer *l)
{
	const struct arch *a = &m->a;

	if (!a->q_lora) {
		lin_run(m, &l->q, &m->act, m->qh);
		return;
	}
	norm_rows(m, m->qa, m->qa, l->q_norm, l->q_norm_b, a->q_lora,
	    m->nown);
	act_set(&m->hact, m->qa, a->q_lora, m->nown, a->q_lora);
	lin_run(m, &l->q_b, &m->hact, m->qh);
}

/* oh = the heads' outputs for the rank's own rows and heads */
static int
heads(struct model *m, struct layer *l, struct err *e)
{
	unsigned threads = par_threads(m->o.par);
	struct pass p = { m, l, 1 };

	if (latent(m, l, e) == -1)
		return -1;
	queries(m, l);
	par_run(m->o.par, put_rows, &p);
	/* Few rows: their heads are split, so that no thread is idle. */
	if (m->nown < 4 * threads)
		p.split = threads < m->heads ? threads : m->heads;
	par_run(m->o.par, absorbed, &p);
	par_run(m->o.par, expanded, &p);
	round_rows(m, m->oh, m->nown, (size_t)m->heads * m->a.vdim);
	return 0;
}

/* hact = all heads of n own rows from row r, as o reads them */
static int
all_heads(struct model *m, const struct lin *o, size_t r, size_t n,
    struct err *e)
{
	size_t w = (size_t)m->heads * m->a.vdim;
	size_t whole = (size_t)m->a.heads * m->a.vdim;
	const float *mine = m->oh + r * w;
	struct act *a = &m->hact;
	unsigned i;

	act_set(a, m->tp ? m->wide : mine, whole, n, whole);
	if (!m->tp)
		return 0;
	if (join8_pays(o, n)) {
		a->held = o->kind;
		a->by = o;
		return join8(m, m->tp, &(struct mat8){ o, mine, n, w,
		    m->plan.tp * w, 0, m->plan.layout.tp, a->q, a->ldq,
		    a->sx, a->ldsx }, 1, e);
	}
	memcpy(comm_buffer(m->tp), mine, n * w * sizeof *mine);
	for (i = 0; i < comm_size(m->tp); i++)
		m->piece[i] = (struct piece){ .rows = n, .col = i * w,
			.width = w };
	return join_rows(m, m->tp, m->piece, m->wide, whole, whole, e);
}

int
attn_run(struct model *m, struct layer *l, struct err *e)
{
	size_t waves = wave_count(m), i;

	if (m->nown && heads(m, l, e) == -1)
		return -1;
	for (i = 0; i < waves; i++) {
		size_t n = wave_rows(m, m->plan.dp, i);

		if (n && all_heads(m, &l->o, i * WAVE, n, e) == -1)
			return -1;
		if (wave_out(m, &l->o, n ? &m->hact : NULL, i, e) == -1)
			return -1;
	}
	return 0;
}
