/*
 * ckpt: a published model directory, whatever its layout, seen as one.
 *
 * Six layouts are told apart by their tensor names (never by file names or by
 * config.json); all are shown under Hugging Face names, in Hugging Face row
 * order (rope rows interleaved, experts apart, weights [out][in]).  Opening
 * checks that every tensor that config.json asks for is there once, with its
 * shape and dtype, and that nothing is left over.
 */
#ifndef DSI_CKPT_H
#define DSI_CKPT_H

#include "arch/arch.h"
#include "store/store.h"

enum ckpt_layout {
	CKPT_FLOAT,			/* bf16, f16 or f32 */
	CKPT_FP8_BLOCK,			/* weight F8_E4M3, weight_scale_inv */
	CKPT_INT8_CHANNEL,	/* weight I8, weight_scale [n] or [n,1] */
	CKPT_INT8_BLOCK,		/* weight I8, weight_scale_inv */
	CKPT_MODELSLIM,			/* deq_scale, quant_bias, input_scale */
	CKPT_GOLDENSTICK,		/* MindSpore names, stacked experts */
};

struct ckpt;

struct ckpt_lin {
	enum lin_kind kind;		/* arch.h */
	enum dtype dtype;		/* of weight: BF16 F16 F32 F8 I8 */
	unsigned n, k;			/* outputs, inputs */
};

/* dir: a model directory; a must be what its config.json says. */
int ckpt_open(struct ckpt **c, const char *dir, const struct arch *a,
    struct err *e);
void ckpt_close(struct ckpt **c);
enum ckpt_layout ckpt_layout(const struct ckpt *c);
const char *ckpt_layout_name(enum ckpt_layout l);
/* sha256 over the names and headers of the files and a few KiB of each: tells
 * one source from another without reading all weights. */
const char *ckpt_digest(const struct ckpt *c);
/* MTP layers that the files hold (config.json may announce more). */
unsigned ckpt_mtp(const struct ckpt *c);
uint64_t ckpt_bytes(const struct ckpt *c);	/* all tensors, on disk */

/* The linear layer called name (without ".weight").  -1 if the checkpoint has
 * no such layer; any other fault was found by ckpt_open. */
int ckpt_lin(const struct ckpt *c, const char *name, struct ckpt_lin *l,
    struct err *e);
/* Rows [r0, r0+nr) of its weight into out, [nr][k] of l->dtype.  Each source
 * byte is read once if rows are asked for in rising order. */
int ckpt_rows(struct ckpt *c, const char *name, unsigned r0, unsigned nr,
    void *out, struct err *e);
/* LIN_I8: weight scale; LIN_I8_STATIC: deq_scale.  out [n] */
int ckpt_scale(struct ckpt *c, const char *name, float *out, struct err *e);
/* LIN_F8, LIN_I8_BLOCK: out [ceil(n/128)][ceil(k/128)] */
int ckpt_block_scale(struct ckpt *c, const char *name, float *out,
    struct err *e);
/* LIN_I8_STATIC: bias [n]; scale, offset [k], a single value spread out. */
int ckpt_static(struct ckpt *c, const char *name, int32_t *bias, float *scale,
    float *offset, struct err *e);

/* A plain tensor under its Hugging Face name: norms and their biases, gate
 * weight and e_score_correction_bias, embeddings, lm_head.  NULL when absent
 * (biases are optional; lm_head of tied models). */
const struct tensor *ckpt_plain(const struct ckpt *c, const char *name);
/* Bytes of it as stored. */
int ckpt_plain_read(struct ckpt *c, const struct tensor *t, uint64_t off,
    void *p, size_t n, struct err *e);
/* All of it widened to float, out [elements]. */
int ckpt_plain_f32(struct ckpt *c, const struct tensor *t, float *out,
    struct err *e);

#endif
