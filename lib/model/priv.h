/*
 * Inside of module model: weights as the forward pass sees them, its step
 * buffers, and what its files call from each other.
 */
#ifndef DSI_MODEL_PRIV_H
#define DSI_MODEL_PRIV_H

#include "kern.h"
#include "model/model.h"
#include "store/store.h"

enum {
	KEY_TILE = 64,		/* context positions combined at a time */
	ROW_BLOCK = 64,		/* rows a thread works on at a time */
	OUT_BLOCK = 128,	/* outputs likewise; a multiple of 16 */
	MLP_ROWS = 2048,	/* rows whose hidden layer is held at a time */
};

/* ---- weights.c ---- */

/* One linear layer, n outputs x k inputs, rank-local.  What is set depends on
 * kind: see dsi-shard(5). */
struct lin {
	enum lin_kind kind;
	unsigned n, k;
	enum dtype wtype;	/* of w: BF16 F32 F8 I8 */
	const void *w;		/* [n][k], or int8 tiles [n/16][k/4][16][4] */
	const float *scale;	/* I8: [n] */
	const int32_t *colsum;	/* I8: [16*tiles]; I8_BLOCK: [kb][16*tiles] */
	const int32_t *bias;	/* I8_STATIC: [n] */
	const float *in_scale, *in_off;	/* I8_STATIC: [k] */
	const float *bscale;	/* F8: [n][kb]; I8_BLOCK: [kb][n] */
};

struct mlp {
	struct lin gate, up, down;
};

struct layer {
	const float *attn_norm, *attn_norm_b;	/* [hidden], b may be NULL */
	const float *ffn_norm;			/* [hidden] */
	const float *q_norm, *q_norm_b;		/* [q_lora], with q_lora */
	const float *kv_norm;			/* [kv_lora] */
	struct lin q_a, q_b;			/* with q_lora */
	struct lin q;				/* without */
	struct lin kv_a, o;
	struct lin kv_b;	/* float: [heads][nope + vdim][kv_lora] */
	struct mlp dense;	/* dense layers: the MLP; MoE: shared */
	bool has_dense;
	bool moe;
	struct lin router;	/* float: [experts][hidden] */
	const float *router_b;	/* [experts] or NULL */
	struct mlp *expert;	/* [experts] */
	char *cache;		/* [nblock][block_size][kv_lora + rope] */
};

/* A rank file in memory. */
struct image {
	struct store *store;
	char *p;
	size_t size;
};

/* Activations that linear layers read: float rows and, once a layer asked for
 * them, the same rows in int8. */
struct act {
	const float *x;		/* [rows][ldx] */
	size_t ldx, rows, k;
	int8_t *q;		/* [rows][ldq], padded with 0 to 4 */
	size_t ldq;
	float *sx;		/* [rows][ldsx]: one scale, or one a block */
	size_t ldsx;
	enum lin_kind held;	/* what q holds; LIN_FLOAT: nothing */
	const struct lin *by;	/* LIN_I8_STATIC: whose scales q follows */
};

/* What one thread needs to itself. */
struct scratch {
	int32_t *acc;		/* [ROW_BLOCK][OUT_BLOCK] */
	float *out;		/* the same shape */
	float *out2;
	float *wide;		/* [OUT_BLOCK][max k]: F8 rows widened */
	float *gx;		/* [ROW_BLOCK][max k]: gathered rows */
	int8_t *gq;
	float *gs;		/* [ROW_BLOCK][max kb] */
	float *ctx;		/* [KEY_TILE][kv_lora + rope]: latent rows */
	float *key;		/* [KEY_TILE][nope + rope] */
	float *val;		/* [KEY_TILE][vdim] */
	float *score;		/* [max(ROW_BLOCK, heads)][KEY_TILE] */
	float *m, *l;		/* [max(max_rows, heads)] */
	float *qlat, *olat;	/* [heads][kv_lora + rope], [heads][kv_lora] */
	float *gate;		/* [3 * experts] */
};

struct model {
	struct arch a;
	struct model_opts o;
	struct image *image;
	size_t nimage;
	size_t weight_bytes, work_bytes, cache_bytes;
	const void *embed;	/* [vocab][hidden] */
	enum dtype embed_type;
	struct lin head;	/* float: [vocab][hidden] */
	const float *norm;	/* [hidden] */
	struct layer *layer;	/* [layers] */
	float *inv_freq;	/* [rope/2] */
	float attn_factor, softmax_scale;
	char *cache;		/* all layers */
	size_t nblock;

	/* step buffers, rows = max_rows */
	char *work;
	size_t rows;		/* of the step under way */
	const struct model_part *part;
	size_t npart;
	float *x;		/* [rows][hidden]: the residual stream */
	float *y;		/* [rows][hidden]: norm output */
	float *z;		/* [rows][hidden]: a block's output */
	float *qa;		/* [rows][q_lora] */
	float *qh;		/* [rows][heads][nope + rope] */
	float *kv;		/* [rows][kv_lora + rope] */
	float *oh;		/* [rows][heads][vdim] */
	float *cos, *sin;	/* [rows][rope/2] */
	struct row {		/* [rows]: where a row belongs */
		uint32_t part;
		uint32_t pos;
	} *row;
	float *logit;		/* [rows][experts]: router */
	struct act act, hact;
	float *h;		/* hidden layers of MLP_ROWS rows */
	int8_t *hq;		/* the same in int8 */
	float *hsx;		/* their scales */
	struct item *item;	/* mlp.h: [experts + 1] */
	uint32_t *count;	/* [experts + 1] */
	uint32_t *slot_row;	/* [slots]: row of each slot */
	float *slot_w;		/* [slots]: weight of each slot */
	int32_t *pick;		/* [rows][topk] */
	float *pick_w;		/* [rows][topk] */
	struct scratch *scratch;	/* [threads] */
};

/* Finds tensors in image im, checking dtype and shape. */
const void *image_get(const struct image *im, const char *name,
    enum dtype want, unsigned ndim, const uint64_t *dim, struct err *e);
int weights_load(struct model *m, const char *dir, struct bar *bar,
    struct err *e);
void weights_free(struct model *m);
/* NULL: no such layer. */
const struct lin *weights_find(const struct model *m, const char *name);

/* ---- work.c ---- */

int work_alloc(struct model *m, struct err *e);
void work_free(struct model *m);

/* ---- linear.c ---- */

void act_set(struct act *a, const float *x, size_t ldx, size_t rows, size_t k);
/* a->q already holds what layer l reads (floats always do). */
bool act_fits(const struct act *a, const struct lin *l);
/* Quantises row i as layer l wants it.  One thread. */
void act_quant(struct act *a, const struct lin *l, size_t i);
/* Makes sure that a->q holds what layer l reads.  All threads. */
void act_ready(struct model *m, struct act *a, const struct lin *l);
/* Rows idx[first..first+n) of a, gathered for one thread to read; with idx
 * NULL rows first..first+n, in place. */
void act_gather(struct act *out, const struct act *a, const uint32_t *idx,
    size_t first, size_t n, const struct lin *l, struct scratch *s);
/* Outputs [n0, n1) for all rows of a into y (y[0] is output n0).  One thread;
 * n0 a multiple of 16 for int8; at most ROW_BLOCK rows and OUT_BLOCK outputs.
 * act_ready has been called. */
void lin_block(const struct lin *l, const struct act *a, unsigned n0,
    unsigned n1, float *y, size_t ldy, struct scratch *s);
/* y [rows][ldy] = the whole layer.  All threads.  lin_run then rounds y with
 * --dtype bfloat16. */
void lin_whole(struct model *m, const struct lin *l, struct act *a, float *y,
    size_t ldy);
void lin_run(struct model *m, const struct lin *l, struct act *a, float *y);
/* With --dtype bfloat16: rounds y; otherwise nothing.  rows: all threads. */
void round_rows(struct model *m, float *y, size_t rows, size_t n);
void round_span(const struct model *m, float *y, size_t n);

/* ---- forward.c, attn.c, mlp.c, gate.c ---- */

/* y = rmsnorm(x) * w + b, [nrow][n]; y may be x.  All threads. */
void norm_rows(struct model *m, float *y, const float *x, const float *w,
    const float *b, size_t n, size_t nrow);
void attn_run(struct model *m, struct layer *l);	/* y -> z */
void mlp_run(struct model *m, struct layer *l);		/* y -> z */
void gate_pick(const struct arch *a, float *logit, const float *bias,
    int32_t *pick, float *w, float *tmp);

#endif
