/*
 * store: safetensors files, read and written.
 *
 * Reading checks everything that a file can lie about: header length, JSON,
 * duplicate names, dtype, shape, offsets that overlap, leave holes or leave
 * the file.  Errors name the file and the tensor.  Format: 8 bytes little-
 * endian length of a JSON header, the header, then the tensors' bytes.
 */
#ifndef DSI_STORE_H
#define DSI_STORE_H

#include "base/base.h"

enum dtype {
	DT_BOOL, DT_U8, DT_I8, DT_F8, DT_I16, DT_U16, DT_F16, DT_BF16, DT_I32,
	DT_U32, DT_F32, DT_F64, DT_I64, DT_U64, DT_COUNT
};					/* DT_F8: F8_E4M3 */

unsigned dtype_size(enum dtype t);	/* bytes */
const char *dtype_name(enum dtype t);	/* as safetensors spells it */

enum { STORE_MAX_DIM = 8, STORE_MAX_HEADER = 100 << 20, STORE_ALIGN = 64 };
/* Filler tensors that the writer puts in are called __pad.0, __pad.1 ... */
#define STORE_PAD "__pad."

struct tensor {
	const char *name;		/* lives as long as its store */
	enum dtype dtype;
	unsigned ndim;
	uint64_t dim[STORE_MAX_DIM];
	uint64_t off, nbytes;		/* in the file; off is absolute */
};

struct store;				/* one open file */

/* Reads and checks the header.  Errors that the file is to blame for are
 * ERR_CALLER. */
int store_open(struct store **s, const char *path, struct err *e);
/* The same from memory, for fuzzing: p[0..n) is how the file begins (length
 * and header at least), nfile the length that it would have.  Nothing can be
 * read from such a store. */
int store_parse(struct store **s, const char *name, const void *p, size_t n,
    uint64_t nfile, struct err *e);
void store_close(struct store **s);
const char *store_path(const struct store *s);
size_t store_count(const struct store *s);
const struct tensor *store_at(const struct store *s, size_t i);
					/* in order of offsets */
const struct tensor *store_find(const struct store *s, const char *name);
const char *store_meta(const struct store *s, const char *key); /* or NULL */
/* Bytes [off, off+n) of tensor t; thread-safe (pread). */
int store_read(const struct store *s, const struct tensor *t, uint64_t off,
    void *p, size_t n, struct err *e);

/* ---- writing: the list of tensors first, then their bytes in order ---- */

struct store_writer;

/* Creates path (truncating).  sha256 of the whole file runs along. */
int store_create(struct store_writer **w, const char *path, struct err *e);
/* Declares the next tensor; every tensor starts 64-byte aligned in the file
 * (the header is padded, and so is the space between tensors by a filler
 * tensor where sizes demand it: see dsi-shard(5)). */
int store_declare(struct store_writer *w, const char *name, enum dtype dtype,
    unsigned ndim, const uint64_t *dim, struct err *e);
int store_meta_put(struct store_writer *w, const char *key, const char *val,
    struct err *e);
/* Total bytes that the file will have; ends the declarations. */
int store_begin(struct store_writer *w, uint64_t *nfile, struct err *e);
/* Before store_begin: the file gets its header and its size, and is a hole
 * otherwise.  No tensor is put; the digest is the header's. */
void store_hollow(struct store_writer *w);
/* The next n bytes of the tensors, in the order of declaration; padding is
 * put in by the writer.  store_next must be called before each tensor's
 * bytes, as a check that name is the one expected. */
int store_next(struct store_writer *w, const char *name, struct err *e);
int store_put(struct store_writer *w, const void *p, size_t n, struct err *e);
/* fsync, close; sha256 as 64 hex digits and NUL.  Every declared byte must
 * have been put.  *w is freed and NULL afterwards, also on failure. */
int store_finish(struct store_writer **w, char sha[65], struct err *e);
void store_abandon(struct store_writer **w);	/* closes; leaves the file */

/* ---- sha.c ---- */

/* A digest that grows.  {0} may be freed; sha256_end and a failed start free
 * by themselves. */
struct sha256 {
	void *ctx;
};

int sha256_start(struct sha256 *s, struct err *e);
int sha256_add(struct sha256 *s, const void *p, size_t n, struct err *e);
int sha256_end(struct sha256 *s, char sha[65], struct err *e);
void sha256_free(struct sha256 *s);

/* sha256 of a whole file, 64 hex digits; adds to bar as it reads if given. */
int sha256_file(const char *path, char sha[65], struct bar *bar,
    struct err *e);
int sha256_mem(const void *p, size_t n, char sha[65], struct err *e);

#endif
