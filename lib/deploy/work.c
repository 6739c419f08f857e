/*
 * work: what a step takes besides weights and cache: its buffers, and what
 * ranks send each other.
 *
 * The exchanges are those of the engine.  Every layer is cut by its outputs
 * (plan.h), so what leads back to the residual stream is gathered before, and
 * the stream itself after.  With G = DP * TP ranks in a stage, all values
 * float32 but the experts' sums.  That is a small step; in one of many rows the
 * inputs of int8 layers go as int8, a quarter of the bytes, with one exchange
 * more (model's join8.c):
 *
 *	attention	q_lora, kv_lora + rope	among TP, rows of the group
 *			heads * v_head_dim	among TP, rows of the group
 *			hidden			among G, all rows
 *	dense		intermediate		among TP, rows of the group
 *			hidden			among G, all rows
 *	experts		shared width		among G, all rows, and with it
 *			slots of a block * width	among moe_tp, all rows
 *			hidden / G as int64	from each other block, if EP > 1
 *			hidden			among G, all rows
 *	stages		hidden			from one to the next, all rows
 */
#include "deploy/priv.h"
#include "model/model.h"

enum { F32 = 4, I64 = 8, MIN_ROWS = 32 };

int
deploy_work_bytes(const struct deploy *d, const struct plan *p, uint64_t *n,
    struct err *e)
{
	struct model_opts o = {
		.layout = p->layout,
		.rank = p->rank,
		.max_rows = d->engine.max_num_batched_tokens,
		.block_size = d->engine.block_size,
	};
	size_t bytes;

	if (o.max_rows < MIN_ROWS)
		o.max_rows = MIN_ROWS;
	if (model_measure(&d->arch, &o, d->threads ? (unsigned)d->threads : 1,
	    &bytes, e) == -1)
		return -1;
	*n = bytes;
	return 0;
}

/* Of n values that size ranks share evenly, what one gets from the others. */
static uint64_t
others(uint64_t n, unsigned size)
{
	return n - n / size;
}

struct sum {
	unsigned times;
	uint64_t own, other;
};

/* Rows of the own group, among its TP ranks. */
static void
in_group(struct sum *s, const struct plan *p, uint64_t bytes)
{
	s->times += p->layout.tp > 1;
	s->own += others(bytes, p->layout.tp);
}

/* All rows to all ranks of the stage: of another group's, everything comes
 * from there. */
static void
to_stage(struct sum *s, const struct plan *p, uint64_t bytes)
{
	s->times += p->layout.dp * p->layout.tp > 1;
	s->own += others(bytes, p->layout.tp);
	s->other += bytes;
}

/* All rows, each rank with its columns of every row. */
static void
by_columns(struct sum *s, unsigned size, uint64_t bytes)
{
	s->times += size > 1;
	s->own += others(bytes, size);
	s->other += others(bytes, size);
}

/* What all queries and keys of a row are made from. */
static uint64_t
latent(const struct arch *a)
{
	return ((uint64_t)a->q_lora + a->kv_lora + a->rope) * F32;
}

static void
moe_layer(struct sum *s, const struct arch *a, const struct plan *p)
{
	unsigned g = p->layout.dp * p->layout.tp, ep = p->layout.ep;
	uint64_t own = p->own1 - p->own0;

	/* the mean: topk / EP slots of a row are in this rank's block */
	by_columns(s, p->moe_tp, (uint64_t)a->topk * a->moe_inter * F32 / ep);
	by_columns(s, g, (uint64_t)a->shared * a->moe_inter * F32);
	s->times -= p->moe_tp > 1;		/* both in one */
	s->times += ep > 1;
	s->own += (ep - 1) * own * I64;
	s->other += (ep - 1) * own * I64;
	by_columns(s, g, (uint64_t)a->hidden * F32);
}

void
deploy_count_traffic(struct deploy_traffic *t, const struct arch *a,
    const struct plan *p)
{
	uint64_t x = (uint64_t)a->hidden * F32;
	struct sum s = {0};

	for (unsigned i = p->layer0; i < p->layer1; i++) {
		in_group(&s, p, latent(a));
		in_group(&s, p, (uint64_t)a->heads * a->vdim * F32);
		to_stage(&s, p, x);
		if (arch_is_moe(a, i)) {
			moe_layer(&s, a, p);
		} else {
			in_group(&s, p, (uint64_t)a->inter * F32);
			to_stage(&s, p, x);
		}
	}
	if (p->pp > 0) {
		s.times++;
		s.own += x;
		s.other += x;
	}
	*t = (struct deploy_traffic){ .exchanges = s.times, .own_row = s.own,
	    .other_row = p->layout.dp > 1 ? s.other : 0 };
	if (p->last && p->rank != 0)
		t->logits = (uint64_t)(p->vocab1 - p->vocab0) * F32;
}
