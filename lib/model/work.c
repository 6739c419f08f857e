/*
 * work: every buffer that a step needs, allocated once, so that no step
 * allocates.  One table says what there is; it is walked twice, to add up the
 * sizes and to hand out the places.
 */
#include <stdlib.h>
#include <string.h>

#include "model/mlp.h"

enum { ALIGN = 64 };

struct carving {
	char *base;		/* NULL while sizes are added up */
	size_t at;
	bool ok;
};

static void *
carve(struct carving *c, size_t n, size_t size)
{
	size_t bytes, at = c->at;

	if (!mul_ok(n, size, &bytes) || !add_ok(bytes, ALIGN - 1, &bytes) ||
	    !add_ok(c->at, bytes / ALIGN * ALIGN, &c->at))
		c->ok = false;
	return c->base && c->ok ? c->base + at : NULL;
}

#define CARVE(p, n) ((p) = carve(c, (n), sizeof *(p)))

static size_t
max2(size_t a, size_t b)
{
	return a > b ? a : b;
}

/* The widest input of any linear layer. */
static size_t
max_k(const struct arch *a)
{
	size_t k = max2(a->hidden, a->inter);

	k = max2(k, (size_t)a->heads * a->vdim);
	k = max2(k, max2(a->q_lora, a->kv_lora));
	return max2(k, (size_t)a->moe_inter * max2(a->shared, 1));
}

static size_t
blocks_of(size_t k)
{
	return (k + LIN_BLOCK - 1) / LIN_BLOCK;
}

/* Rows of all DP groups, and those that a mixture takes at a time. */
static size_t
all_rows(const struct model *m)
{
	return m->o.max_rows * m->plan.layout.dp;
}

static size_t
mix_rows(const struct model *m)
{
	return all_rows(m) < MLP_ROWS ? all_rows(m) : MLP_ROWS;
}

static void
carve_thread(const struct model *m, struct scratch *s, struct carving *c)
{
	const struct arch *a = &m->a;
	size_t k = max_k(a) + KERN_TILE_K, w = a->kv_lora + a->rope;
	size_t heads = m->heads;

	CARVE(s->acc, ROW_BLOCK * OUT_BLOCK);
	CARVE(s->out, ROW_BLOCK * OUT_BLOCK);
	CARVE(s->out2, ROW_BLOCK * OUT_BLOCK);
	CARVE(s->wide, OUT_BLOCK * k);
	CARVE(s->gx, ROW_BLOCK * k);
	CARVE(s->gq, ROW_BLOCK * k);
	CARVE(s->gs, ROW_BLOCK * blocks_of(k));
	CARVE(s->ctx, KEY_TILE * w);
	CARVE(s->key, KEY_TILE * (a->nope + a->rope));
	CARVE(s->val, KEY_TILE * a->vdim);
	CARVE(s->fix, mix_rows(m) * OUT_BLOCK);
	CARVE(s->score, max2(ROW_BLOCK, heads) * KEY_TILE);
	CARVE(s->m, max2(m->o.max_rows, heads));
	CARVE(s->l, max2(m->o.max_rows, heads));
	CARVE(s->qlat, heads * w);
	CARVE(s->olat, heads * a->kv_lora);
	CARVE(s->gate, 3 * (size_t)a->experts);
}

/* Hidden layers of the MLPs: a row has one dense one, or its shared and its
 * routed experts'. */
static void
carve_hidden(struct model *m, struct carving *c)
{
	const struct arch *a = &m->a;
	size_t rows = mix_rows(m), ep = m->plan.layout.ep;
	size_t shared = (size_t)a->shared * a->moe_inter;
	size_t wide = max2(a->inter, shared + (size_t)a->topk * a->moe_inter);
	size_t pad = KERN_TILE_K * ((size_t)a->topk + 1);
	size_t kb = max2(blocks_of(a->inter),
	    blocks_of(shared) + a->topk * blocks_of(a->moe_inter));

	CARVE(m->h, rows * wide);
	CARVE(m->hq, rows * (wide + pad));
	CARVE(m->hsx, rows * kb);
	CARVE(m->item, (size_t)a->experts + 1);
	CARVE(m->count, (size_t)a->experts + 1);
	CARVE(m->slot_row, rows * a->topk);
	CARVE(m->slot_w, rows * a->topk);
	CARVE(m->pick, rows * a->topk);
	CARVE(m->pick_w, rows * a->topk);
	CARVE(m->logit, rows * a->experts);
	CARVE(m->touch, ep > 1 ? ep * MLP_ROWS : 0);
	CARVE(m->ntouch, ep);
}

/* What the exchanges need, in a world of more than one. */
static void
carve_world(struct model *m, struct carving *c)
{
	const struct plan *p = &m->plan;
	size_t n = max2(m->stage_size, p->layout.ep);

	CARVE(m->dp_row, (size_t)p->layout.dp + 1);
	CARVE(m->give, n);
	CARVE(m->take, n);
	CARVE(m->got, n);
	CARVE(m->piece, n);
	CARVE(m->logits, p->world);
	if (p->layout.tp > 1)
		CARVE(m->wide, WAVE * (size_t)m->a.heads * m->a.vdim);
	if (p->world > 1 && p->rank == 0 && p->last)
		CARVE(m->mine, MODEL_LOGIT_ROWS *
		    (size_t)(p->vocab1 - p->vocab0));
}

static void
carve_all(struct model *m, struct carving *c)
{
	const struct arch *a = &m->a;
	size_t rows = m->o.max_rows, all = all_rows(m);
	size_t k = max_k(a) + KERN_TILE_K, i;

	CARVE(m->all_row, all);
	CARVE(m->x, all * a->hidden);
	CARVE(m->y, all * a->hidden);
	CARVE(m->z, all * a->hidden);
	CARVE(m->qa, rows * a->q_lora);
	CARVE(m->qh, rows * m->heads * (a->nope + a->rope));
	CARVE(m->kv, rows * (a->kv_lora + a->rope));
	CARVE(m->oh, rows * m->heads * a->vdim);
	CARVE(m->cos, rows * (a->rope / 2));
	CARVE(m->sin, rows * (a->rope / 2));
	CARVE(m->act.q, max2(rows, mix_rows(m)) * k);
	CARVE(m->act.sx, max2(rows, mix_rows(m)) * blocks_of(k));
	CARVE(m->hact.q, rows * k);
	CARVE(m->hact.sx, rows * blocks_of(k));
	carve_hidden(m, c);
	carve_world(m, c);
	for (i = 0; i < m->threads; i++)
		carve_thread(m, &m->scratch[i], c);
}

int
work_alloc(struct model *m, struct err *e)
{
	struct carving c = { .ok = true };

	m->scratch = mem_new(m->threads, sizeof *m->scratch, e);
	if (m->scratch == NULL)
		return -1;
	carve_all(m, &c);
	if (!c.ok)
		return err_set(e, ERR_CALLER,
		    "%zu rows a step need more memory than there can be",
		    m->o.max_rows);
	m->work_bytes = c.at;
	if ((m->work = mem_map(m->work_bytes, e)) == NULL)
		return err_wrap(e, "buffers for %zu rows a step",
		    m->o.max_rows);
	c = (struct carving){ .base = m->work, .ok = true };
	carve_all(m, &c);
	return 0;
}

int
model_measure(const struct arch *a, const struct model_opts *o,
    unsigned threads, size_t *bytes, struct err *e)
{
	struct model m = { .a = *a, .o = *o, .threads = threads };
	struct carving c = { .ok = true };

	model_place(&m);
	if ((m.scratch = mem_new(threads, sizeof *m.scratch, e)) == NULL)
		return -1;
	carve_all(&m, &c);
	free(m.scratch);
	*bytes = c.at;
	return c.ok ? 0 : err_set(e, ERR_CALLER, "%zu rows a step need more "
	    "memory than there can be", o->max_rows);
}

void
work_free(struct model *m)
{
	if (m->work)
		mem_unmap(m->work, m->work_bytes);
	free(m->scratch);
}
