/*
 * ckpt: opening a model directory.
 */
#include <stdlib.h>
#include <string.h>

#include "ckpt/ckpt_priv.h"

const char *
ckpt_layout_name(enum ckpt_layout l)
{
	static const char *const name[] = {
		[CKPT_FLOAT] = "float",
		[CKPT_FP8_BLOCK] = "fp8-block",
		[CKPT_INT8_CHANNEL] = "int8-channel",
		[CKPT_INT8_BLOCK] = "int8-block",
		[CKPT_MODELSLIM] = "modelslim",
		[CKPT_GOLDENSTICK] = "golden-stick",
	};

	return name[l];
}

/* After everything was found: the name of what is there. */
static enum ckpt_layout
name_layout(const struct ckpt *c)
{
	bool kind[LIN_I8_BLOCK + 1] = { false }, zero = false;

	for (size_t i = 0; i < c->nlin; i++) {
		kind[c->lin[i].kind] = true;
		zero = zero || c->lin[i].zero;
	}
	if (c->ms && (kind[LIN_I8] || kind[LIN_I8_STATIC]))
		return CKPT_GOLDENSTICK;
	if (kind[LIN_I8_STATIC])
		return CKPT_MODELSLIM;
	if (kind[LIN_F8])
		return CKPT_FP8_BLOCK;
	if (kind[LIN_I8_BLOCK])
		return CKPT_INT8_BLOCK;
	if (kind[LIN_I8])
		return zero ? CKPT_MODELSLIM : CKPT_INT8_CHANNEL;
	return CKPT_FLOAT;
}

static int
open_dir(struct ckpt *c, struct err *e)
{
	if (files_open(&c->f, c->dir, e) == -1)
		return -1;
	c->ms = files_find(&c->f, "model.tok_embeddings.embedding_weight");
	for (size_t i = 0; i < c->f.ne; i++)
		c->bytes += c->f.e[i].t.nbytes;
	if (ckpt_find_all(c, e) == -1 || ckpt_check_extra(c, e) == -1 ||
	    files_digest(&c->f, c->digest, e) == -1)
		return -1;
	c->layout = name_layout(c);
	return 0;
}

int
ckpt_open(struct ckpt **out, const char *dir, const struct arch *a,
    struct err *e)
{
	struct ckpt *c = mem_new(1, sizeof(*c), e);

	*out = NULL;
	if (!c)
		return -1;
	c->a = *a;
	c->dir = strdup(dir);
	if (!c->dir)
		err_set(e, ERR_SYSTEM, "out of memory");
	if (!c->dir || open_dir(c, e) == -1) {
		ckpt_close(&c);
		return -1;
	}
	*out = c;
	return 0;
}

void
ckpt_close(struct ckpt **cp)
{
	struct ckpt *c = *cp;

	if (!c)
		return;
	files_close(&c->f);
	free(c->lin);
	free(c->plain);
	free(c->piece.p);
	free(c->dir);
	free(c);
	*cp = NULL;
}

enum ckpt_layout
ckpt_layout(const struct ckpt *c)
{
	return c->layout;
}

const char *
ckpt_digest(const struct ckpt *c)
{
	return c->digest;
}

unsigned
ckpt_mtp(const struct ckpt *c)
{
	return c->mtp;
}

uint64_t
ckpt_bytes(const struct ckpt *c)
{
	return c->bytes;
}
