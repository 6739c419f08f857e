/*
 * source: a checkpoint as a source of weights.
 */
#include <string.h>

#include "shard/shard_priv.h"

static int
from_lin(void *ctx, const struct arch_lin *lin, struct ckpt_lin *l,
    struct err *e)
{
	return ckpt_lin(ctx, lin->name, l, e);
}

static int
from_rows(void *ctx, const struct arch_lin *lin, unsigned r0, unsigned nr,
    void *out, struct err *e)
{
	return ckpt_rows(ctx, lin->name, r0, nr, out, e);
}

static int
from_scale(void *ctx, const struct arch_lin *lin, float *out, struct err *e)
{
	return ckpt_scale(ctx, lin->name, out, e);
}

static int
from_block_scale(void *ctx, const struct arch_lin *lin, float *out,
    struct err *e)
{
	return ckpt_block_scale(ctx, lin->name, out, e);
}

static int
from_fixed(void *ctx, const struct arch_lin *lin, int32_t *bias, float *scale,
    float *offset, struct err *e)
{
	return ckpt_static(ctx, lin->name, bias, scale, offset, e);
}

static const struct tensor *
from_plain(void *ctx, const char *name, struct err *e)
{
	(void)e;
	return ckpt_plain(ctx, name);
}

static int
from_plain_read(void *ctx, const struct tensor *t, uint64_t off, void *p,
    size_t n, struct err *e)
{
	return ckpt_plain_read(ctx, t, off, p, n, e);
}

static int
from_plain_f32(void *ctx, const struct tensor *t, float *out, struct err *e)
{
	return ckpt_plain_f32(ctx, t, out, e);
}

static void
from_close(void *ctx)
{
	struct ckpt *c = ctx;

	ckpt_close(&c);
}

int
source_ckpt(struct source *s, const char *dir, const struct arch *a,
    struct err *e)
{
	struct ckpt *c;

	if (ckpt_open(&c, dir, a, e) == -1)
		return -1;
	*s = (struct source){
		.ctx = c, .layout = ckpt_layout_name(ckpt_layout(c)),
		.mtp = ckpt_mtp(c), .lin = from_lin, .rows = from_rows,
		.scale = from_scale, .block_scale = from_block_scale,
		.fixed = from_fixed, .plain = from_plain,
		.plain_read = from_plain_read, .plain_f32 = from_plain_f32,
		.close = from_close,
	};
	snprintf(s->digest, sizeof(s->digest), "%s", ckpt_digest(c));
	return 0;
}

void
source_close(struct source *s)
{
	if (s->close)
		s->close(s->ctx);
	*s = (struct source){0};
}
