/*
 * forward: one step of the model, top to bottom in paper order.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/priv.h"

/* ---- rows over threads ---- */

struct rows {
	struct model *m;
	float *y;
	const float *x;
	const float *w, *b;
	size_t n, nrow;
};

static void
norm_part(void *arg, unsigned thread, unsigned nthreads)
{
	struct rows *p = arg;
	size_t r, r1;

	par_range(p->nrow, 1, thread, nthreads, &r, &r1);
	for (; r < r1; r++) {
		kern.rmsnorm(p->y + r * p->n, p->x + r * p->n, p->w, p->b,
		    p->m->a.eps, p->n);
		round_span(p->m, p->y + r * p->n, p->n);
	}
}

void
norm_rows(struct model *m, float *y, const float *x, const float *w,
    const float *b, size_t n, size_t nrow)
{
	struct rows p = { m, y, x, w, b, n, nrow };

	par_run(m->o.par, norm_part, &p);
}

static void
add_part(void *arg, unsigned thread, unsigned nthreads)
{
	struct rows *p = arg;
	size_t r, r1;

	par_range(p->nrow, 1, thread, nthreads, &r, &r1);
	for (; r < r1; r++) {
		kern.add(p->y + r * p->n, p->x + r * p->n, p->n);
		round_span(p->m, p->y + r * p->n, p->n);
	}
}

/* x += z, all rows */
static void
residual(struct model *m)
{
	struct rows p = { .m = m, .y = m->x, .x = m->z, .n = m->a.hidden,
		.nrow = m->rows };

	par_run(m->o.par, add_part, &p);
}

/* ---- embedding and positions ---- */

static void
embed(const struct model *m, int32_t id, float *x)
{
	size_t at = (size_t)id * m->a.hidden;

	if (m->embed_type == DT_BF16)
		kern.from_bf16(x, (const uint16_t *)m->embed + at,
		    m->a.hidden);
	else
		memcpy(x, (const float *)m->embed + at,
		    m->a.hidden * sizeof *x);
}

/* cos and sin of pos * frequency, the product in float as in the published
 * code.  r: among the rank's own rows. */
static void
angles(struct model *m, size_t r)
{
	unsigned half = m->a.rope / 2, i;

	for (i = 0; i < half; i++) {
		float t = (float)m->row[r].pos * m->inv_freq[i];

		m->cos[r * half + i] = (float)cos(t) * m->attn_factor;
		m->sin[r * half + i] = (float)sin(t) * m->attn_factor;
	}
}

static void
angle_rows(void *arg, unsigned thread, unsigned nthreads)
{
	struct model *m = arg;
	size_t r, r1;

	par_range(m->nown, 1, thread, nthreads, &r, &r1);
	for (; r < r1; r++)
		angles(m, r);
}

static void
embed_rows(void *arg, unsigned thread, unsigned nthreads)
{
	struct model *m = arg;
	size_t r, r1;

	par_range(m->rows, 1, thread, nthreads, &r, &r1);
	for (; r < r1; r++) {
		const struct model_part *p = &m->part[m->all_row[r].part];

		embed(m, p->ids[m->all_row[r].pos - p->pos],
		    m->x + r * m->a.hidden);
	}
}

static void
lay_out(struct model *m, const struct model_part *part, size_t npart)
{
	unsigned d, dp = m->plan.dp;
	size_t i, j;

	m->part = part;
	m->npart = npart;
	m->rows = m->part0 = m->part1 = 0;
	for (i = 0, d = 0; d < m->plan.layout.dp; d++) {
		m->dp_row[d] = m->rows;
		if (d == dp)
			m->part0 = i;
		for (; i < npart && part[i].dp == d; i++)
			for (j = 0; j < part[i].n; j++, m->rows++) {
				m->all_row[m->rows].part = i;
				m->all_row[m->rows].pos = part[i].pos + j;
			}
		if (d == dp)
			m->part1 = i;
	}
	m->dp_row[d] = m->rows;
	m->own0 = m->dp_row[dp];
	m->nown = m->dp_row[dp + 1] - m->own0;
	m->row = m->all_row + m->own0;
}

/* ---- from stage to stage ---- */

/* A rank hands over the rows of its like, not all; the next stage joins. */
static void
hand_pieces(struct model *m)
{
	unsigned i;

	for (i = 0; i < m->stage_size; i++) {
		size_t r0, r1;

		par_range(m->rows, 1, i, m->stage_size, &r0, &r1);
		m->piece[i] = (struct piece){ .row0 = r0, .rows = r1 - r0,
			.col = 0, .width = m->a.hidden };
	}
}

static int
hand_in(struct model *m, struct err *e)
{
	const struct piece *p = &m->piece[m->plan.rank % m->stage_size];
	size_t hidden = m->a.hidden, want, n;
	const void *got;

	hand_pieces(m);
	want = p->rows * hidden * sizeof(float);
	if (comm_recv(m->from, &got, &n, e) == -1)
		return -1;
	if (n != want)
		return err_set(e, ERR_SYSTEM, "the stage before rank %u sent "
		    "%zu bytes for %zu", m->plan.rank, n, want);
	if (!m->stage) {
		memcpy(m->x, got, n);
		return 0;
	}
	memcpy(comm_buffer(m->stage), got, n);
	return join_rows(m, m->stage, m->piece, m->x, hidden, hidden, e);
}

static int
hand_on(struct model *m, struct err *e)
{
	const struct piece *p = &m->piece[m->plan.rank % m->stage_size];
	size_t hidden = m->a.hidden, n;
	void *to = comm_fill(m->to, e);

	if (to == NULL)
		return -1;
	hand_pieces(m);
	n = p->rows * hidden * sizeof(float);
	memcpy(to, m->x + p->row0 * hidden, n);
	return comm_send(m->to, n, e);
}

/* ---- the model ---- */

int
model_step(struct model *m, const struct model_part *part, size_t npart,
    struct err *e)
{
	const struct arch *a = &m->a;
	size_t own;
	unsigned i;

	lay_out(m, part, npart);
	par_run(m->o.par, angle_rows, m);
	if (m->plan.first)
		par_run(m->o.par, embed_rows, m);
	else if (hand_in(m, e) == -1)
		return -1;
	own = m->own0 * a->hidden;
	for (i = m->plan.layer0; i < m->plan.layer1; i++) {
		struct layer *l = &m->layer[i];

		norm_rows(m, m->y + own, m->x + own, l->attn_norm,
		    l->attn_norm_b, a->hidden, m->nown);
		if (attn_run(m, l, e) == -1)
			return -1;
		residual(m);

		norm_rows(m, m->y, m->x, l->ffn_norm, NULL, a->hidden,
		    m->rows);
		if (mlp_run(m, l, e) == -1)
			return -1;
		residual(m);
	}
	return m->plan.last ? 0 : hand_on(m, e);
}

/* ---- logits ---- */

/* This rank's rows of those asked for, [n][vocab / TP] into y. */
static void
own_logits(struct model *m, const uint32_t *row, size_t n, float *y, size_t ld)
{
	size_t hidden = m->a.hidden, i;

	for (i = 0; i < n; i++)
		memcpy(m->z + i * hidden, m->x + row[i] * hidden,
		    hidden * sizeof *m->z);
	norm_rows(m, m->y, m->z, m->norm, NULL, hidden, n);
	act_set(&m->act, m->y, hidden, n, hidden);
	lin_whole(m, &m->head, &m->act, y, ld);
}

/* Rank 0: rows [at, at+n) of out from rank r. */
static int
take_logits(struct model *m, unsigned r, size_t at, size_t n, float *out,
    struct err *e)
{
	const struct layout *l = &m->plan.layout;
	size_t vocab = m->a.vocab, w = (vocab + l->tp - 1) / l->tp;
	struct piece p = { at, n, r % l->tp * w, w };
	size_t size;

	if (comm_recv(m->logits[r], &m->got[0], &size, e) == -1)
		return -1;
	if (size != n * w * sizeof(float))
		return err_set(e, ERR_SYSTEM, "rank %u sent %zu bytes of "
		    "logits for %zu", r, size, n * w * sizeof(float));
	join_scatter(m, 1, &p, 0, out, vocab, vocab);
	return 0;
}

/* Rank 0 of a world of more: all rows of DP group d, which are [at, at+n). */
static int
group_logits(struct model *m, unsigned d, const uint32_t *row, size_t at,
    size_t n, float *out, struct err *e)
{
	const struct layout *l = &m->plan.layout;
	unsigned r = (l->pp - 1) * m->stage_size + d * l->tp, end = r + l->tp;

	if (r == 0) {
		struct piece p = { at, n, 0, m->head.n };

		own_logits(m, row + at, n, m->mine, m->head.n);
		m->got[0] = m->mine;
		join_scatter(m, 1, &p, 0, out, m->a.vocab, m->a.vocab);
		r++;
	}
	for (; r < end; r++)
		if (take_logits(m, r, at, n, out, e) == -1)
			return -1;
	return 0;
}

static int
send_logits(struct model *m, const uint32_t *row, size_t n, struct err *e)
{
	float *y = comm_fill(m->logits[m->plan.rank], e);

	if (y == NULL)
		return -1;
	own_logits(m, row, n, y, m->head.n);
	return comm_send(m->logits[m->plan.rank],
	    n * m->head.n * sizeof *y, e);
}

int
model_logits(struct model *m, const uint32_t *row, const unsigned *dp,
    size_t n, float *out, struct err *e)
{
	size_t i, j;

	if (m->plan.world == 1) {
		own_logits(m, row, n, out, m->a.vocab);
		return 0;
	}
	for (i = 0; i < n; i = j) {
		for (j = i; j < n && dp[j] == dp[i]; j++)
			;
		if (m->plan.rank == 0) {
			if (group_logits(m, dp[i], row, i, j - i, out, e) == -1)
				return -1;
		} else if (m->plan.last && dp[i] == m->plan.dp) {
			if (send_logits(m, row + i, j - i, e) == -1)
				return -1;
		}
	}
	return 0;
}

int
model_linear_shape(const struct model *m, const char *name, unsigned *n,
    unsigned *k, struct err *e)
{
	const struct lin *l = weights_find(m, name);

	if (l == NULL)
		return err_set(e, ERR_CALLER, "no linear layer %s", name);
	*n = l->n;
	*k = l->k;
	return 0;
}

int
model_linear(struct model *m, const char *name, const float *x, size_t rows,
    float *y, struct err *e)
{
	const struct lin *l = weights_find(m, name);

	if (l == NULL)
		return err_set(e, ERR_CALLER, "no linear layer %s", name);
	if (rows > m->o.max_rows)
		return err_set(e, ERR_CALLER, "%zu rows; at most %zu", rows,
		    m->o.max_rows);
	act_set(&m->act, x, l->k, rows, l->k);
	lin_whole(m, l, &m->act, y, l->n);
	return 0;
}

/* ---- opening ---- */

void
model_place(struct model *m)
{
	plan_rank(&m->plan, &m->a, &m->o.layout, m->o.rank);
	m->heads = m->plan.heads1 - m->plan.heads0;
	m->stage_size = m->o.layout.dp * m->o.layout.tp;
}

int
model_open(struct model **mp, const char *dir, const struct arch *a,
    const struct model_opts *o, struct bar *bar, struct err *e)
{
	struct model *m = mem_new(1, sizeof *m, e);

	*mp = m;
	if (m == NULL)
		return -1;
	m->a = *a;
	m->o = *o;
	m->threads = par_threads(o->par);
	model_place(m);
	if ((m->inv_freq = mem_new(a->rope / 2, sizeof(float), e)) == NULL ||
	    weights_load(m, dir, bar, e) == -1 || work_alloc(m, e) == -1) {
		model_close(mp);
		return -1;
	}
	arch_rope(a, m->inv_freq, &m->attn_factor, &m->softmax_scale);
	return 0;
}

void
model_close(struct model **mp)
{
	struct model *m = *mp;

	if (m == NULL)
		return;
	if (m->cache)
		mem_unmap(m->cache, m->cache_bytes);
	work_free(m);
	weights_free(m);
	free(m->inv_freq);
	free(m);
	*mp = NULL;
}

size_t
model_weight_bytes(const struct model *m)
{
	return m->weight_bytes;
}

size_t
model_work_bytes(const struct model *m)
{
	return m->work_bytes;
}

static unsigned
layers_here(const struct model *m)
{
	return m->plan.layer1 - m->plan.layer0;
}

size_t
model_block_bytes(const struct model *m)
{
	return layers_here(m) * m->o.block_size *
	    (size_t)(m->a.kv_lora + m->a.rope) * (m->o.kv_f32 ? 4 : 2);
}

int
model_cache(struct model *m, size_t nblock, struct err *e)
{
	size_t each = model_block_bytes(m) / layers_here(m), i;

	if (!mul_ok(nblock, model_block_bytes(m), &m->cache_bytes) ||
	    (m->cache = mem_map(m->cache_bytes, e)) == NULL)
		return err_wrap(e, "KV cache of %zu blocks", nblock);
	m->nblock = nblock;
	for (i = 0; i < layers_here(m); i++)
		m->layer[m->plan.layer0 + i].cache = m->cache +
		    i * each * nblock;
	return 0;
}

/* This rank's own ways down, and those of the shared experts. */
static bool
own_i8(const struct model *m, const struct layer *l)
{
	unsigned i;

	if (l->has_dense && l->dense.down.kind != LIN_I8)
		return false;
	for (i = m->plan.expert0; l->moe && i < m->plan.expert1; i++)
		if (l->expert[i].down.kind != LIN_I8)
			return false;
	return true;
}

/* Layers whose ways down are int8 everywhere may be joined so: the ranks of a
 * stage must be of one mind. */
static int
agree_kinds(struct model *m, struct err *e)
{
	unsigned first = m->plan.layer0, n = layers_here(m), i, k;
	char *mine;

	if (!m->stage)
		return 0;
	mine = comm_buffer(m->stage);
	for (i = 0; i < n; i++)
		mine[i] = own_i8(m, &m->layer[first + i]);
	for (k = 0; k < m->stage_size; k++)
		m->give[k] = m->take[k] = (struct comm_span){ 0, n };
	if (comm_share(m->stage, m->give, m->take, m->got, e) == -1)
		return -1;
	for (i = 0; i < n; i++) {
		m->layer[first + i].all_i8 = true;
		for (k = 0; k < m->stage_size; k++)
			m->layer[first + i].all_i8 &=
			    ((const char *)m->got[k])[i];
	}
	return 0;
}

int
model_join(struct model *m, struct comm *c, struct err *e)
{
	m->comm = c;
	wires_find(m);
	return agree_kinds(m, e);
}
