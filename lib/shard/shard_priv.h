/*
 * shard_priv: what the files of shard share.
 */
#ifndef DSI_SHARD_PRIV_H
#define DSI_SHARD_PRIV_H

#include <time.h>

#include "ckpt/ckpt.h"
#include "shard/shard.h"

enum { SHARD_VERSION = 1 };

/* ---- source.c, dummy.c: where weights come from ---- */

/* Calls as their namesakes in ckpt.h, but a linear layer is named by its
 * arch_lin and plain_read wants whole rows.  The digest tells one source from
 * any other. */
struct source {
	void *ctx;
	const char *layout;
	char digest[65];
	unsigned mtp;
	int (*lin)(void *ctx, const struct arch_lin *lin, struct ckpt_lin *l,
	    struct err *e);
	int (*rows)(void *ctx, const struct arch_lin *lin, unsigned r0,
	    unsigned nr, void *out, struct err *e);
	int (*scale)(void *ctx, const struct arch_lin *lin, float *out,
	    struct err *e);
	int (*block_scale)(void *ctx, const struct arch_lin *lin, float *out,
	    struct err *e);
	int (*fixed)(void *ctx, const struct arch_lin *lin, int32_t *bias,
	    float *scale, float *offset, struct err *e); /* ckpt_static */
	const struct tensor *(*plain)(void *ctx, const char *name,
	    struct err *e);	/* NULL and e->code 0: absent */
	int (*plain_read)(void *ctx, const struct tensor *t, uint64_t off,
	    void *p, size_t n, struct err *e);
	int (*plain_f32)(void *ctx, const struct tensor *t, float *out,
	    struct err *e);
	void (*close)(void *ctx);
};

int source_ckpt(struct source *s, const char *dir, const struct arch *a,
    struct err *e);
/* config: the parsed config.json that a comes from.  int8: linear layers are
 * int8 whatever it says. */
int source_dummy(struct source *s, const struct arch *a,
    const struct json *config, uint64_t seed, bool int8, struct err *e);
void source_close(struct source *s);

/* ---- item.c: what stands in a rank file ---- */

enum unit_type { UNIT_EMBED, UNIT_LAYER, UNIT_HEAD, UNIT_MTP };

/* One file of every rank of a stage. */
struct unit {
	enum unit_type type;
	unsigned layer;			/* UNIT_LAYER, UNIT_MTP */
	unsigned stage;
	char file[32];			/* "layer-003.safetensors" */
};

enum item_type {
	ITEM_VEC,			/* a whole plain tensor as F32 [n] */
	ITEM_MAT,			/* rows of a plain tensor, n x k */
	ITEM_HEAD,			/* the same, by vocabulary over TP */
	ITEM_LIN,			/* a linear layer */
};

struct item {
	enum item_type type;
	char name[128];			/* in the file; ITEM_LIN: no suffix */
	const struct tensor *t;		/* source of VEC, MAT, HEAD */
	struct arch_lin lin;		/* ITEM_LIN */
	struct ckpt_lin src;		/* ITEM_LIN: as the source has it;
					 * MAT, HEAD: its dtype, n and k */
	enum lin_kind kind;		/* as the file will have it */
	enum dtype dtype;		/* of the weight in the file */
};

struct items {
	struct item *p;
	size_t n, cap;
};

/* A rank's rows of an item; those past the item's own are 0. */
struct slice {
	unsigned n0, n1;		/* n0 == n1: none */
};

int items_list(struct items *l, const struct source *s, const struct arch *a,
    const struct unit *u, enum shard_quant q, struct err *e);
void items_free(struct items *l);
struct slice item_slice(const struct item *it, const struct arch *a,
    const struct plan *p);
/* Adds the item's tensors to w. */
int item_declare(const struct item *it, const struct slice *s,
    struct store_writer *w, struct err *e);
/* Its blocks of 128 inputs. */
unsigned item_blocks(const struct item *it);

/* ---- convert.c: one chunk of rows from one dtype to another ---- */

/* Scales of a weight, as far as its kind has them. */
struct scales {
	float *row;			/* [n] */
	float *block;			/* [ceil(n/128)][ceil(k/128)] */
	int32_t *bias;			/* [n] */
	float *in_scale, *in_offset;	/* [k] */
};

/* Rows [r0, r0+nr) of l, in[nr][k] as stored, widened to out[nr][k]. */
void rows_to_f32(float *out, const void *in, const struct ckpt_lin *l,
    const struct scales *s, unsigned r0, unsigned nr);
void f32_to_bf16(uint16_t *out, const float *in, size_t n);
/* Per row: scale[r] = max|w| / 127, q = rint(w / scale).  -1 and the row when
 * one holds a value that is not finite. */
int rows_quantize(int8_t *out, float *scale, const float *in, unsigned nr,
    unsigned k, unsigned *bad);

/* ---- unit.c: the work ---- */

/* A rank file that is being written. */
struct part {
	const struct plan *plan;
	struct store_writer *w;
};

/* Memory that is kept from item to item. */
struct scratch {
	void *in, *f32, *out, *pack, *pad;
	size_t in_cap, f32_cap, out_cap, pack_cap, pad_cap;
};

/* Streams all items to the nparts writers, whose tensors are declared. */
int items_stream(const struct items *l, const struct source *s,
    const struct arch *a, struct part *parts, unsigned nparts,
    struct scratch *m, struct bar *bar, struct err *e);
void scratch_free(struct scratch *m);

/* ---- job.c: everything that a run knows before it writes ---- */

/* A rank file of the run. */
struct target {
	unsigned unit, rank;
	uint64_t bytes;			/* exact */
	bool done;
	char sha[65];			/* when done */
	char path[64];			/* "rank-00003/layer-017.safetensors" */
};

/* A small file that goes along. */
struct extra {
	char name[32];
	struct buf text;
	struct timespec when;		/* it was changed; the copy keeps it */
	char sha[65];
};

struct job {
	const struct shard_opts *o;
	struct arch arch;
	struct source src;
	unsigned world;
	struct plan *plan;		/* [world] */
	struct unit *unit;		/* [nunit] */
	unsigned nunit;
	struct target *target;		/* [ntarget], by unit, then rank */
	size_t ntarget;
	struct extra *extra;		/* [nextra]; [0] is config.json */
	unsigned nextra;
	char digest[65];		/* of all that shapes the bytes */
};

int job_open(struct job *j, const struct shard_opts *o, struct err *e);
void job_close(struct job *j);
/* Declares every tensor of unit u for one rank. */
int job_declare(const struct job *j, const struct items *l, unsigned rank,
    struct store_writer *w, uint64_t *bytes, struct err *e);

/* ---- journal.c: what is finished ---- */

struct journal {
	int fd;
	char *path;
};

/* Reads OUT's manifest.json or manifest.part and marks the targets that are
 * done; ERR_CALLER when it is of another conversion.  *complete: a finished
 * OUT with all its files. */
int journal_load(struct job *j, bool *complete, struct err *e);
/* Starts manifest.part with the targets that are done, instead of whatever
 * was there. */
int journal_open(struct journal *jn, const struct job *j, struct err *e);
/* Adds targets [i0, i1) that are done, then syncs. */
int journal_add(struct journal *jn, const struct job *j, size_t i0, size_t i1,
    struct err *e);
void journal_close(struct journal *jn);

/* ---- manifest.c ---- */

extern const char manifest_name[], manifest_part[];

int manifest_write(const struct job *j, struct err *e);
/* A path that stays below the directory and needs no quoting. */
bool path_plain(const char *path);
/* Reads one {"path","rank","bytes","sha256"}; f is freed with file_free. */
int file_parse(struct shard_file *f, const struct json *v, struct err *e);
void file_put(struct buf *b, const char *path, int rank, uint64_t bytes,
    const char *sha);
const char *quant_name(enum shard_quant q);

#endif
