/*
 * model: one rank's weights, its latent KV cache, and its part of the forward
 * pass.
 *
 * The forward pass is DeepSeek-V2/V3's (arXiv 2405.04434 §2.1, 2412.19437
 * §2.1): multi-head latent attention and a mixture of experts.  A row is one
 * token of one sequence.  Whatever rows share a step, each row's numbers come
 * out the same, bit for bit (design: same request, same bits); the rules that
 * make it so stand where they act: kern.h (order of sums), kv.h (kv_expanded),
 * attn.c (tiles of the context), mix.c (the sum of experts), plan.h (cuts).
 *
 * A world of many ranks runs the same steps in lockstep: all ranks of a stage
 * hold the residual stream of all rows, of every DP group, and each computes
 * what its plan says.  wires.c says who talks to whom.
 */
#ifndef DSI_MODEL_H
#define DSI_MODEL_H

#include "comm/comm.h"
#include "par/par.h"
#include "plan/plan.h"

struct model_opts {
	struct par *par;		/* borrowed */
	struct layout layout;
	unsigned rank;
	size_t max_rows;		/* rows of one step and DP group */
	size_t block_size;		/* tokens of a KV block: 16 32 64 128 */
	bool kv_f32;			/* latent cache in f32, else bf16 */
	bool bf16;			/* round activations to bf16 */
	bool map;			/* map the files, don't read them: a
					 * start at once, slower pages */
};

struct model;

enum { MODEL_LOGIT_ROWS = 32 };		/* of one model_logits */

/* The groups and channels of a world whose ranks all have these options (rank
 * apart).  The last group has all ranks and room for 64 bytes; it and
 * bcast_cap are the caller's.  Give it back with model_unwire. */
int model_wire(struct comm_wiring *w, const struct arch *a,
    const struct model_opts *o, struct err *e);
void model_unwire(struct comm_wiring *w);

/* Bytes of a rank's step buffers, without making any; o->par is not used. */
int model_measure(const struct arch *a, const struct model_opts *o,
    unsigned threads, size_t *bytes, struct err *e);

/* Loads the rank's files in DIR (dsi-shard(5)), made for this layout; bar may
 * be NULL and counts bytes.  a is copied.  kern_init must have been called. */
int model_open(struct model **m, const char *dir, const struct arch *a,
    const struct model_opts *o, struct bar *bar, struct err *e);
void model_close(struct model **m);

size_t model_weight_bytes(const struct model *m);
size_t model_work_bytes(const struct model *m);		/* step buffers */
size_t model_block_bytes(const struct model *m);	/* one KV block */
/* Makes the cache: nblock blocks, all layers.  Once, before any step. */
int model_cache(struct model *m, size_t nblock, struct err *e);
/* Joins a world that was opened with model_wire's wiring; c is borrowed.
 * Before the first step; a world of one needs none.  Waits for the others of
 * the stage. */
int model_join(struct model *m, struct comm *c, struct err *e);

/* Consecutive rows of one sequence. */
struct model_part {
	unsigned dp;			/* whose group of ranks it belongs to */
	const int32_t *ids;		/* [n] tokens, each < vocab */
	size_t n;
	size_t pos;			/* position of ids[0] */
	size_t nprompt;			/* length of its prompt (kv_expanded) */
	const uint32_t *block;		/* KV blocks of the sequence, covering
					 * positions 0..pos+n-1 */
};

/* Runs the rank's layers over the rows of all parts, which stand in rising
 * order of dp; at most max_rows of each.  Every rank of the world is given the
 * same parts (block is read for the rank's own dp only).  Positions before a
 * part's must be in the cache; the rows' own go into it.  Afterwards the rows'
 * states stay for model_logits.  -1: the world has ended. */
int model_step(struct model *m, const struct model_part *part, size_t npart,
    struct err *e);
/* Final norm and head for n <= MODEL_LOGIT_ROWS of the last step's rows, given
 * rising.  All ranks of the last stage and rank 0 call it alike, with the dp
 * group of each row; on rank 0 out [n][vocab] gets all, elsewhere it may be
 * NULL. */
int model_logits(struct model *m, const uint32_t *row, const unsigned *dp,
    size_t n, float *out, struct err *e);

/* One linear layer by its Hugging Face name, for checks against a reference:
 * x [rows][k] -> y [rows][n], rows <= max_rows.  -1: no such layer. */
int model_linear(struct model *m, const char *name, const float *x,
    size_t rows, float *y, struct err *e);
int model_linear_shape(const struct model *m, const char *name, unsigned *n,
    unsigned *k, struct err *e);

#endif
