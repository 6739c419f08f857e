/*
 * model: one rank's weights, its latent KV cache, and the forward pass.
 *
 * The forward pass is DeepSeek-V2/V3's (arXiv 2405.04434 §2.1, 2412.19437
 * §2.1): multi-head latent attention and a mixture of experts.  A row is one
 * token of one sequence.  Whatever rows share a step, each row's numbers come
 * out the same, bit for bit (design: same request, same bits); the rules that
 * make it so stand where they act: kern.h (order of sums), kv.h (kv_expanded),
 * attn.c (tiles of the context), mlp.c (order of experts).
 */
#ifndef DSI_MODEL_H
#define DSI_MODEL_H

#include "arch/arch.h"
#include "par/par.h"

struct model_opts {
	struct par *par;		/* borrowed */
	size_t max_rows;		/* rows of one step */
	size_t block_size;		/* tokens of a KV block: 16 32 64 128 */
	bool kv_f32;			/* latent cache in f32, else bf16 */
	bool bf16;			/* round activations to bf16 */
};

struct model;

/* Loads DIR/rank-00000 (dsi-shard(5)) as the only rank of its world; bar may
 * be NULL and counts bytes.  a is copied.  kern_init must have been called. */
int model_open(struct model **m, const char *dir, const struct arch *a,
    const struct model_opts *o, struct bar *bar, struct err *e);
void model_close(struct model **m);

size_t model_weight_bytes(const struct model *m);
size_t model_work_bytes(const struct model *m);		/* step buffers */
size_t model_block_bytes(const struct model *m);	/* one KV block */
/* Makes the cache: nblock blocks, all layers.  Once, before any step. */
int model_cache(struct model *m, size_t nblock, struct err *e);

/* Consecutive rows of one sequence. */
struct model_part {
	const int32_t *ids;		/* [n] tokens, each < vocab */
	size_t n;
	size_t pos;			/* position of ids[0] */
	size_t nprompt;			/* length of its prompt (kv_expanded) */
	const uint32_t *block;		/* KV blocks of the sequence, covering
					 * positions 0..pos+n-1 */
};

/* Runs all layers over the rows of all parts, in their order; together at
 * most max_rows.  Positions before a part's must be in the cache; the rows'
 * own go into it.  Afterwards the rows' states stay for model_logits. */
void model_step(struct model *m, const struct model_part *part, size_t npart);
/* Final norm and head for n of the last step's rows: out [n][vocab] f32. */
void model_logits(struct model *m, const uint32_t *row, size_t n, float *out);

/* One linear layer by its Hugging Face name, for checks against a reference:
 * x [rows][k] -> y [rows][n], rows <= max_rows.  -1: no such layer. */
int model_linear(struct model *m, const char *name, const float *x,
    size_t rows, float *y, struct err *e);
int model_linear_shape(const struct model *m, const char *name, unsigned *n,
    unsigned *k, struct err *e);

#endif
