/*
 * ckpt_priv: what the files of ckpt share.
 */
#ifndef DSI_CKPT_PRIV_H
#define DSI_CKPT_PRIV_H

#include "ckpt/ckpt.h"

enum { CKPT_NAME = 160 };		/* room for a tensor's name */

/* ---- files.c: the directory as one set of tensors ---- */

struct entry {
	struct tensor t;		/* first: ckpt_plain hands it out */
	const struct store *s;
	bool used;			/* the model has a place for it */
};

struct files {
	struct store **s;		/* [n], by name */
	size_t n, cap;
	struct entry *e;		/* [ne], by name */
	size_t ne, ecap;
};

int files_open(struct files *f, const char *dir, struct err *e);
void files_close(struct files *f);
struct entry *files_find(const struct files *f, const char *name);
/* sha256 of names, headers and samples. */
int files_digest(const struct files *f, char sha[65], struct err *e);

/* ---- the model's parts, each with where it comes from ---- */

/* How rows of a layer, as Hugging Face orders them, lie in the file. */
enum map {
	MAP_NONE,
	MAP_ROPE,		/* of each head's rows the last are permuted */
	MAP_KV_B,		/* two tensors: all heads' keys, all values */
	MAP_EXPERT,		/* one expert of [E][k][total], transposed */
};

struct lin {
	struct arch_lin al;
	enum lin_kind kind;
	enum map map;
	unsigned head, plain;		/* rows of a head; those in front that
					 * are not rotated (or are keys) */
	unsigned row0, total;		/* part of a fused layer: its first
					 * row there, and all rows there */
	struct entry *w, *w2;		/* w2: MAP_KV_B, values */
	struct entry *scale;		/* weight_scale, deq_scale, block */
	struct entry *zero;		/* weight_offset: must hold only 0 */
	struct entry *bias, *in_scale, *in_offset;
};

struct plain {
	char name[96];			/* Hugging Face */
	struct entry *e;
};

struct ckpt {
	char *dir;
	struct arch a;
	struct files f;
	enum ckpt_layout layout;
	bool ms;			/* MindSpore names */
	unsigned mtp;
	uint64_t bytes;
	char digest[65];
	struct lin *lin;		/* [nlin], by name */
	size_t nlin, lin_cap;
	struct plain *plain;		/* [nplain], by name */
	size_t nplain, plain_cap;
	struct {			/* the piece read last */
		const struct entry *e;
		uint64_t off;
		void *p;
		size_t n, cap;
	} piece;
};

/* ---- names.c: MindSpore names ---- */

/* The base name of a linear layer; fused: of the layer that it is a part of.
 * false: there is none. */
bool ms_linear(const struct arch_lin *l, bool fused, char out[CKPT_NAME]);
/* The name of a plain tensor. */
bool ms_plain(const char *hf, char out[CKPT_NAME]);

/* ---- find.c: every part of the model found and checked ---- */

int ckpt_find_all(struct ckpt *c, struct err *e);
struct lin *ckpt_find_lin(const struct ckpt *c, const char *name);
/* The first tensor that nothing claimed is an error. */
int ckpt_check_extra(struct ckpt *c, struct err *e);

/* ---- read.c ---- */

/* Elements as float; I64 holds a float in its low half. */
void ckpt_widen(float *out, const void *in, enum dtype t, size_t n);
/* -1 when an element of t is not 0. */
int ckpt_check_zero(const struct entry *t, struct err *e);

#endif
