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
 * code. */
static void
angles(struct model *m, size_t r, size_t pos)
{
	unsigned half = m->a.rope / 2, i;

	for (i = 0; i < half; i++) {
		float t = (float)pos * m->inv_freq[i];

		m->cos[r * half + i] = (float)cos(t) * m->attn_factor;
		m->sin[r * half + i] = (float)sin(t) * m->attn_factor;
	}
}

static void
embed_rows(void *arg, unsigned thread, unsigned nthreads)
{
	struct model *m = arg;
	size_t r, r1;

	par_range(m->rows, 1, thread, nthreads, &r, &r1);
	for (; r < r1; r++) {
		const struct model_part *p = &m->part[m->row[r].part];

		embed(m, p->ids[m->row[r].pos - p->pos],
		    m->x + r * m->a.hidden);
		angles(m, r, m->row[r].pos);
	}
}

static void
lay_out(struct model *m, const struct model_part *part, size_t npart)
{
	size_t i, j;

	m->part = part;
	m->npart = npart;
	m->rows = 0;
	for (i = 0; i < npart; i++)
		for (j = 0; j < part[i].n; j++, m->rows++) {
			m->row[m->rows].part = i;
			m->row[m->rows].pos = part[i].pos + j;
		}
}

/* ---- the model ---- */

void
model_step(struct model *m, const struct model_part *part, size_t npart)
{
	const struct arch *a = &m->a;
	unsigned i;

	lay_out(m, part, npart);
	par_run(m->o.par, embed_rows, m);
	for (i = 0; i < a->layers; i++) {
		struct layer *l = &m->layer[i];

		norm_rows(m, m->y, m->x, l->attn_norm, l->attn_norm_b,
		    a->hidden, m->rows);
		attn_run(m, l);
		residual(m);

		norm_rows(m, m->y, m->x, l->ffn_norm, NULL, a->hidden,
		    m->rows);
		mlp_run(m, l);
		residual(m);
	}
}

void
model_logits(struct model *m, const uint32_t *row, size_t n, float *out)
{
	size_t hidden = m->a.hidden, i;

	for (i = 0; i < n; i++)
		memcpy(m->z + i * hidden, m->x + row[i] * hidden,
		    hidden * sizeof *m->z);
	norm_rows(m, m->y, m->z, m->norm, NULL, hidden, n);
	act_set(&m->act, m->y, hidden, n, hidden);
	lin_whole(m, &m->head, &m->act, out, m->a.vocab);
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

size_t
model_block_bytes(const struct model *m)
{
	return m->a.layers * m->o.block_size *
	    (size_t)(m->a.kv_lora + m->a.rope) * (m->o.kv_f32 ? 4 : 2);
}

int
model_cache(struct model *m, size_t nblock, struct err *e)
{
	size_t each = model_block_bytes(m) / m->a.layers, i;

	if (!mul_ok(nblock, model_block_bytes(m), &m->cache_bytes) ||
	    (m->cache = mem_map(m->cache_bytes, e)) == NULL)
		return err_wrap(e, "KV cache of %zu blocks", nblock);
	m->nblock = nblock;
	for (i = 0; i < m->a.layers; i++)
		m->layer[i].cache = m->cache + i * each * nblock;
	return 0;
}
