/*
 * shard: from a published model to one directory of rank files, dsi-shard(5).
 *
 * Streams: whatever the model's size, less than 1 GiB is resident.  Every
 * source byte is read once, for all ranks together.  A run that was killed
 * goes on where it was, and ends with the same bytes.
 */
#ifndef DSI_SHARD_H
#define DSI_SHARD_H

#include "plan/plan.h"

enum shard_quant { SHARD_NONE, SHARD_INT8 };

/* What a run did. */
struct shard_done {
	bool already;			/* OUT was complete: nothing done */
	unsigned files;			/* rank files in OUT */
	unsigned kept;			/* of which an earlier run's */
	uint64_t bytes;			/* of all rank files */
};

struct shard_opts {
	const char *model;		/* directory; or, for dummy, a
					 * config.json */
	const char *out;		/* made if it isn't there */
	struct layout layout;
	enum shard_quant quantize;
	bool dummy;			/* weights from seed and config.json */
	bool hollow;			/* with dummy: none at all, only files
					 * of the right size that are holes */
	uint64_t seed;
	struct shard_done *done;	/* filled on success; or NULL */
};

/* Makes OUT complete, with a progress bar on a terminal.  ERR_CALLER: the
 * model, the layout, or an OUT that holds something else.  ERR_SYSTEM: no
 * room (before anything is written), another run has OUT's lock, I/O. */
int shard_run(const struct shard_opts *o, struct err *e);

/* What shard_run would write, without OUT: fn for each rank file with its
 * exact size, by rank; path is relative to OUT.  Stops when fn gives -1. */
int shard_plan(const struct shard_opts *o,
    int (*fn)(void *arg, unsigned rank, uint64_t bytes, const char *path),
    void *arg, struct err *e);

/* The same, added up. */
struct shard_sizes {
	uint64_t *rank;			/* [world]: bytes of its files */
	unsigned world;
	char layout[32];		/* the source's: "dummy", or as
					 * ckpt_layout_name */
};

int shard_sizes(struct shard_sizes *s, const struct shard_opts *o,
    struct err *e);
void shard_sizes_free(struct shard_sizes *s);	/* back to {0} */

/* ---- manifest.c ---- */

struct shard_file {
	char *path;			/* relative to the directory */
	int rank;			/* -1: of no rank (config.json, ...) */
	uint64_t bytes;
	char sha[65];
};

struct shard_manifest {
	struct layout layout;
	enum shard_quant quantize;
	char *dsi;			/* version that wrote it */
	char *conversion;		/* digest of what shapes the bytes */
	char *source;			/* the model directory, as named */
	char *source_layout;		/* "dummy", or as ckpt_layout_name */
	char *source_digest;
	char *config;			/* path of DIR/config.json */
	struct shard_file *file;	/* [nfile], by rank */
	size_t nfile;
};

/* Is dir a directory of rank files, finished or not? */
bool shard_peek(const char *dir);
/* ERR_CALLER: no manifest, an unfinished one (says so), a damaged one, or one
 * of another version. */
int shard_open_manifest(struct shard_manifest **m, const char *dir,
    struct err *e);
void shard_close_manifest(struct shard_manifest **m);

/* ---- verify.c ---- */

/* Compares size and sha256 of every file with the manifest, with a progress
 * bar; bad is called for each file that is missing or differs, extra for each
 * one that the manifest doesn't name.  *nbad counts the former. */
int shard_verify(const char *dir,
    void (*bad)(void *arg, const char *path, const char *why),
    void (*extra)(void *arg, const char *path), void *arg, size_t *nbad,
    struct err *e);

#endif
