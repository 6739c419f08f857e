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
	WAVE = 512,		/* rows of each DP group joined at a time */
	JOIN8_ROWS = 32,	/* from here on they are joined as int8 */
};

/* ---- weights.c ---- */

/* One linear layer, n outputs (this rank's) x k inputs (all).  What is set
 * depends on kind: see dsi-shard(5). */
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
	bool all_i8;		/* all ranks' ways down are LIN_I8 */
	struct lin router;	/* float: [experts][hidden] */
	const float *router_b;	/* [experts] or NULL */
	struct mlp *expert;	/* [experts], this rank's filled */
	char *cache;		/* [nblock][block_size][kv_lora + rope] */
};

/* A rank file in memory. */
struct image {
	struct store *store;
	char *p;
	size_t size;
	bool mapped;		/* the file itself, else a copy */
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
	int64_t *fix;		/* [MLP_ROWS][OUT_BLOCK]: sums of experts */
	float *score;		/* [max(ROW_BLOCK, heads)][KEY_TILE] */
	float *m, *l;		/* [max(max_rows, heads)] */
	float *qlat, *olat;	/* [heads][kv_lora + rope], [heads][kv_lora] */
	float *gate;		/* [3 * experts] */
};

/* What one member of a group puts into a joined matrix. */
struct piece {
	size_t row0, rows;
	size_t col, width;	/* width as it lies in the member's buffer */
};

/* heads: this rank's; all other numbers of a are the model's. */
struct model {
	struct arch a;
	struct model_opts o;
	struct plan plan;
	unsigned heads;
	unsigned stage_size;	/* DP * TP */
	unsigned threads;
	struct image *image;
	size_t nimage;
	size_t weight_bytes, work_bytes, cache_bytes;
	const void *embed;	/* [vocab][hidden] */
	enum dtype embed_type;
	struct lin head;	/* float: [vocab / TP][hidden] */
	const float *norm;	/* [hidden] */
	struct layer *layer;	/* [layers], the stage's filled */
	float *inv_freq;	/* [rope/2] */
	float attn_factor, softmax_scale;
	char *cache;		/* all layers */
	size_t nblock;

	/* the world; NULL: this rank is alone in it */
	struct comm *comm;
	struct comm_group *tp;		/* same stage and DP group */
	struct comm_group *stage;	/* same stage */
	struct comm_group *peers;	/* same slice, all blocks of experts */
	struct comm_chan *from, *to;	/* stages before and behind; or NULL */
	struct comm_chan **logits;	/* [world]: to rank 0, or from each */
	struct comm_span *give, *take;	/* [the largest group] */
	const void **got;		/* likewise: what was taken */
	float *mine;		/* rank 0: its own logits */
	struct piece *piece;

	/* the step under way */
	const struct model_part *part;
	size_t npart;
	size_t rows;		/* of all DP groups */
	size_t *dp_row;		/* [DP + 1]: where each group's rows start */
	size_t own0, nown;	/* rows of this rank's group */
	size_t part0, part1;	/* parts likewise */

	/* step buffers; all: DP * max_rows, own: max_rows */
	char *work;
	float *x;		/* [all][hidden]: the residual stream */
	float *y;		/* [all][hidden]: norm output */
	float *z;		/* [all][hidden]: a block's output */
	float *qa;		/* [own][q_lora] */
	float *qh;		/* [own][heads][nope + rope] */
	float *kv;		/* [own][kv_lora + rope] */
	float *oh;		/* [own][heads][vdim] */
	float *wide;		/* [WAVE][all heads][vdim]: joined oh */
	float *cos, *sin;	/* [own][rope/2] */
	struct row {		/* where a row belongs */
		uint32_t part;
		uint32_t pos;
	} *all_row, *row;	/* [all], and the own ones of them */
	float *logit;		/* [MLP_ROWS][experts]: router */
	struct act act, hact;
	float *h;		/* hidden layers of MLP_ROWS rows */
	int8_t *hq;		/* the same in int8 */
	float *hsx;		/* their scales */
	struct item *item;	/* mlp.h: [experts + 1] */
	uint32_t *count;	/* [experts + 1] */
	uint32_t *slot_row;	/* [slots]: row of each slot */
	float *slot_w;		/* [slots]: weight of each slot */
	int32_t *pick;		/* [MLP_ROWS][topk] */
	float *pick_w;		/* [MLP_ROWS][topk] */
	uint32_t *touch;	/* [EP][MLP_ROWS]: mix.c */
	uint32_t *ntouch;	/* [EP] */
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

/* Fills in what follows from a and o.  forward.c */
void model_place(struct model *m);

/* ---- work.c ---- */

int work_alloc(struct model *m, struct err *e);
void work_free(struct model *m);

/* ---- linear.c ---- */

void act_set(struct act *a, const float *x, size_t ldx, size_t rows, size_t k);
/* a->q already holds what layer l reads (floats always do). */
bool act_fits(const struct act *a, const struct lin *l);
/* The scale of a row whose largest magnitude is max (dynamic schemes). */
float act_scale(float max);
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
/* y [rows][ldy] = outputs [c0, c1), or the whole layer; c0 a multiple of 16.
 * All threads.  lin_run then rounds y with --dtype bfloat16. */
void lin_cols(struct model *m, const struct lin *l, struct act *a, unsigned c0,
    unsigned c1, float *y, size_t ldy);
void lin_whole(struct model *m, const struct lin *l, struct act *a, float *y,
    size_t ldy);
void lin_run(struct model *m, const struct lin *l, struct act *a, float *y);
/* With --dtype bfloat16: rounds y; otherwise nothing.  rows: all threads. */
void round_rows(struct model *m, float *y, size_t rows, size_t n);
void round_span(const struct model *m, float *y, size_t n);

/* Of n outputs that every TP rank has whole, what each makes: whole tiles. */
static inline unsigned
tp_share(unsigned n, unsigned tp)
{
	return (unsigned)(kern_ntile(n) + tp - 1) / tp * KERN_TILE_N;
}

/* ---- wires.c, join.c ---- */

/* This rank's ends, out of comm. */
void wires_find(struct model *m);
/* Shares what this rank wrote into comm_buffer(g): [rows][width] of its piece,
 * floats, and scatters everyone's into out [][ld], cutting columns at limit.
 * piece: [size of g]. */
int join_rows(struct model *m, struct comm_group *g, const struct piece *p,
    float *out, size_t ld, size_t limit, struct err *e);
/* The second half alone: member i's rows lie at m->got[i] + skip floats. */
void join_scatter(struct model *m, unsigned n, const struct piece *p,
    size_t skip, float *out, size_t ld, size_t limit);
/* ---- join8.c ---- */

/* A matrix that members [first, first + members) of a group make together, w
 * columns each, and that layer l reads as int8. */
struct mat8 {
	const struct lin *l;	/* LIN_I8 or LIN_I8_STATIC */
	const float *part;	/* [rows][w]: this rank's columns */
	size_t rows, w, col;	/* col: its first */
	unsigned first, members;
	int8_t *q;		/* [rows][ldq]: the whole, padded with 0 */
	size_t ldq;
	float *sx;		/* [rows][ldsx] */
	size_t ldsx;
};

bool join8_pays(const struct lin *l, size_t rows);
/* Joins them in one or two exchanges.  Of two matrices a member may have only
 * the first. */
int join8(struct model *m, struct comm_group *g, const struct mat8 *mat,
    unsigned nmat, struct err *e);

/* ---- join.c again ---- */

/* A wave: rows [w * WAVE, ...) of each DP group. */
size_t wave_count(const struct model *m);
size_t wave_rows(const struct model *m, unsigned dp, size_t wave);
/* Output columns of this rank's rows in a wave, from lin l over act, joined
 * into z: the end of attention and of dense layers.  act: NULL without rows. */
int wave_out(struct model *m, const struct lin *l, struct act *act,
    size_t wave, struct err *e);

/* ---- forward.c, attn.c, mlp.c, gate.c ---- */

/* y = rmsnorm(x) * w + b, [nrow][n]; y may be x.  All threads. */
void norm_rows(struct model *m, float *y, const float *x, const float *w,
    const float *b, size_t n, size_t nrow);
/* y -> z, all rows; attn_run reads the own ones. */
int attn_run(struct model *m, struct layer *l, struct err *e);
int mlp_run(struct model *m, struct layer *l, struct err *e);
void gate_pick(const struct arch *a, float *logit, const float *bias,
    int32_t *pick, float *w, float *tmp);

#endif
