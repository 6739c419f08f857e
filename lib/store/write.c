/*
 * write: a safetensors file in one pass, its sha256 along the way.
 *
 * The format allows no holes, so the space that aligns a tensor to 64 bytes
 * is itself a tensor, __pad.N, of bytes that are 0; the header is aligned by
 * the blanks that the format does allow after it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json/json.h"
#include "store/store_priv.h"

enum { CHUNK = 256 << 10 };

struct entry {
	char *name;
	enum dtype dtype;
	unsigned ndim;
	uint64_t dim[STORE_MAX_DIM];
	uint64_t nbytes;
	unsigned pad;			/* bytes of padding before it */
};

struct pair {
	char *key, *val;
};

struct store_writer {
	char *path;
	int fd;
	struct sha256 sha;
	struct entry *t;
	size_t n, cap;
	struct pair *meta;
	size_t nmeta, meta_cap;
	bool begun, hollow;
	uint64_t nfile;
	size_t cur;			/* tensor being put */
	size_t next;			/* tensor that store_next must name */
	uint64_t left;			/* bytes of it not yet put */
	unsigned char *chunk;		/* [CHUNK], not yet written */
	size_t nchunk;
};

static char *
copy(const char *s, struct err *e)
{
	char *p = strdup(s);

	if (!p)
		err_set(e, ERR_SYSTEM, "out of memory");
	return p;
}

int
store_create(struct store_writer **out, const char *path, struct err *e)
{
	struct store_writer *w = mem_new(1, sizeof(*w), e);

	*out = NULL;
	if (!w)
		return -1;
	w->fd = -1;
	w->path = copy(path, e);
	w->chunk = mem_new(CHUNK, 1, e);
	if (!w->path || !w->chunk || sha256_start(&w->sha, e) == -1)
		goto fail;
	w->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (w->fd == -1) {
		err_sys(e, "create %s", path);
		goto fail;
	}
	*out = w;
	return 0;
fail:
	store_abandon(&w);
	return -1;
}

static int
check_name(const struct store_writer *w, const char *name, struct err *e)
{
	if (w->begun)
		return err_set(e, ERR_CALLER,
		    "%s: %s is declared after store_begin", w->path, name);
	if (!*name || strcmp(name, "__metadata__") == 0 ||
	    strncmp(name, STORE_PAD, strlen(STORE_PAD)) == 0)
		return err_set(e, ERR_CALLER,
		    "%s: no tensor may be called \"%s\"", w->path, name);
	return 0;
}

int
store_declare(struct store_writer *w, const char *name, enum dtype dtype,
    unsigned ndim, const uint64_t *dim, struct err *e)
{
	struct entry *t;

	if (check_name(w, name, e) == -1 ||
	    mem_grow(&w->t, &w->cap, w->n + 1, sizeof(*w->t), e) == -1)
		return -1;
	t = &w->t[w->n];
	*t = (struct entry){ .dtype = dtype, .ndim = ndim };
	if (ndim > STORE_MAX_DIM ||
	    !shape_bytes(dtype, ndim, dim, &t->nbytes))
		return err_set(e, ERR_CALLER, "%s: tensor %s: too large",
		    w->path, name);
	for (unsigned i = 0; i < ndim; i++)
		t->dim[i] = dim[i];
	t->name = copy(name, e);
	if (!t->name)
		return -1;
	w->n++;
	return 0;
}

int
store_meta_put(struct store_writer *w, const char *key, const char *val,
    struct err *e)
{
	struct pair p;

	if (w->begun)
		return err_set(e, ERR_CALLER,
		    "%s: metadata %s comes after store_begin", w->path, key);
	if (mem_grow(&w->meta, &w->meta_cap, w->nmeta + 1, sizeof(*w->meta),
	    e) == -1)
		return -1;
	p.key = copy(key, e);
	p.val = copy(val, e);
	if (!p.key || !p.val) {
		free(p.key);
		free(p.val);
		return -1;
	}
	w->meta[w->nmeta++] = p;
	return 0;
}

static int
by_name(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

static int
check_unique(const struct store_writer *w, struct err *e)
{
	const char **name = mem_new(w->n, sizeof(*name), e);
	int rc = 0;

	if (!name)
		return -1;
	for (size_t i = 0; i < w->n; i++)
		name[i] = w->t[i].name;
	qsort(name, w->n, sizeof(*name), by_name);
	for (size_t i = 1; i < w->n && rc == 0; i++) {
		if (strcmp(name[i - 1], name[i]) == 0)
			rc = err_set(e, ERR_CALLER,
			    "%s: tensor %s is declared twice", w->path,
			    name[i]);
	}
	free(name);
	return rc;
}

static void
put_entry(struct buf *b, const char *name, enum dtype dtype, unsigned ndim,
    const uint64_t *dim, uint64_t from, uint64_t to)
{
	if (b->n > 1)
		buf_putc(b, ',');
	json_put_str(b, name, strlen(name));
	buf_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", dtype_name(dtype));
	for (unsigned i = 0; i < ndim; i++)
		buf_printf(b, "%s%llu", i ? "," : "",
		    (unsigned long long)dim[i]);
	buf_printf(b, "],\"data_offsets\":[%llu,%llu]}",
	    (unsigned long long)from, (unsigned long long)to);
}

static void
put_meta(struct buf *b, const struct store_writer *w)
{
	if (!w->nmeta)
		return;
	buf_puts(b, "\"__metadata__\":{");
	for (size_t i = 0; i < w->nmeta; i++) {
		if (i)
			buf_putc(b, ',');
		json_put_str(b, w->meta[i].key, strlen(w->meta[i].key));
		buf_putc(b, ':');
		json_put_str(b, w->meta[i].val, strlen(w->meta[i].val));
	}
	buf_putc(b, '}');
}

/* Lays the tensors out and writes the header's text; *data: their bytes. */
static int
put_header(struct store_writer *w, struct buf *b, uint64_t *data,
    struct err *e)
{
	uint64_t at = 0;
	unsigned npad = 0;

	buf_putc(b, '{');
	put_meta(b, w);
	for (size_t i = 0; i < w->n; i++) {
		struct entry *t = &w->t[i];
		uint64_t pad = -at & (STORE_ALIGN - 1);

		if (t->nbytes > INT64_MAX / 2 - at - pad)
			return err_set(e, ERR_CALLER,
			    "%s: too large at tensor %s", w->path, t->name);
		if (pad) {
			char name[32];

			snprintf(name, sizeof(name), STORE_PAD "%u", npad++);
			put_entry(b, name, DT_U8, 1, &pad, at, at + pad);
			at += pad;
		}
		t->pad = (unsigned)pad;
		put_entry(b, t->name, t->dtype, t->ndim, t->dim, at,
		    at + t->nbytes);
		at += t->nbytes;
	}
	buf_putc(b, '}');
	while ((b->n + STORE_LEN_SIZE) % STORE_ALIGN && !b->oom)
		buf_putc(b, ' ');
	*data = at;
	return 0;
}

static int
flush(struct store_writer *w, struct err *e)
{
	if (sha256_add(&w->sha, w->chunk, w->nchunk, e) == -1 ||
	    io_write(w->fd, w->chunk, w->nchunk, e) == -1)
		return err_wrap(e, "%s", w->path);
	w->nchunk = 0;
	return 0;
}

static int
put_bytes(struct store_writer *w, const void *p, size_t n, struct err *e)
{
	const unsigned char *src = p;

	while (n) {
		size_t part = CHUNK - w->nchunk;

		if (part > n)
			part = n;
		memcpy(w->chunk + w->nchunk, src, part);
		w->nchunk += part;
		src += part;
		n -= part;
		if (w->nchunk == CHUNK && flush(w, e) == -1)
			return -1;
	}
	return 0;
}

/* Finds out now, not an hour later, that the disk is too small.  The file's
 * length stays honest, so that a writer that dies leaves a cut-off file. */
static int
reserve(const struct store_writer *w, uint64_t nfile, struct err *e)
{
	struct stat st;

	if (fstat(w->fd, &st) == -1 || !S_ISREG(st.st_mode))
		return 0;
	if (fallocate(w->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)nfile) == -1 &&
	    (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
		return err_sys(e, "%s: room for %llu bytes", w->path,
		    (unsigned long long)nfile);
	return 0;
}

int
store_begin(struct store_writer *w, uint64_t *nfile, struct err *e)
{
	struct buf b = {0};
	unsigned char len[STORE_LEN_SIZE];
	uint64_t data = 0;
	int rc = -1;

	if (check_unique(w, e) == -1 || put_header(w, &b, &data, e) == -1 ||
	    buf_ok(&b, e) == -1)
		goto out;
	if (b.n > STORE_MAX_HEADER) {
		err_set(e, ERR_CALLER,
		    "%s: header of %zu bytes, at most %d are allowed", w->path,
		    b.n, STORE_MAX_HEADER);
		goto out;
	}
	*nfile = STORE_LEN_SIZE + b.n + data;
	for (int i = 0; i < STORE_LEN_SIZE; i++)
		len[i] = (unsigned char)((uint64_t)b.n >> 8 * i);
	w->nfile = *nfile;
	if ((!w->hollow && reserve(w, *nfile, e) == -1) ||
	    put_bytes(w, len, sizeof(len), e) == -1 ||
	    put_bytes(w, b.p, b.n, e) == -1)
		goto out;
	w->begun = true;
	rc = 0;
out:
	buf_free(&b);
	return rc;
}

void
store_hollow(struct store_writer *w)
{
	w->hollow = true;
}

static int
check_full(const struct store_writer *w, struct err *e)
{
	if (!w->left)
		return 0;
	return err_set(e, ERR_CALLER, "%s: tensor %s lacks %llu bytes",
	    w->path, w->t[w->cur].name, (unsigned long long)w->left);
}

int
store_next(struct store_writer *w, const char *name, struct err *e)
{
	static const unsigned char zero[STORE_ALIGN];
	const struct entry *t;

	if (check_full(w, e) == -1)
		return -1;
	if (!w->begun || w->next >= w->n ||
	    strcmp(w->t[w->next].name, name) != 0)
		return err_set(e, ERR_CALLER,
		    "%s: %s comes next, not tensor %s", w->path,
		    !w->begun ? "store_begin" : w->next >= w->n ? "the end" :
		    w->t[w->next].name, name);
	t = &w->t[w->next];
	if (put_bytes(w, zero, t->pad, e) == -1)
		return -1;
	w->cur = w->next++;
	w->left = t->nbytes;
	return 0;
}

int
store_put(struct store_writer *w, const void *p, size_t n, struct err *e)
{
	if (n > w->left)
		return err_set(e, ERR_CALLER,
		    "%s: tensor %s has room for %llu more bytes, not %zu",
		    w->path, w->next ? w->t[w->cur].name : "(none)",
		    (unsigned long long)w->left, n);
	if (put_bytes(w, p, n, e) == -1)
		return -1;
	w->left -= n;
	return 0;
}

static int
finish(struct store_writer *w, char sha[65], struct err *e)
{
	int fd = w->fd;

	if (check_full(w, e) == -1)
		return -1;
	if (!w->begun || (w->next < w->n && !w->hollow))
		return err_set(e, ERR_CALLER, "%s: ends before %s", w->path,
		    w->begun ? w->t[w->next].name : "it begins");
	if (flush(w, e) == -1 || sha256_end(&w->sha, sha, e) == -1)
		return -1;
	if (w->hollow && ftruncate(fd, (off_t)w->nfile) == -1)
		return err_sys(e, "extend %s", w->path);
	if (fsync(fd) == -1 && errno != EINVAL)
		return err_sys(e, "sync %s", w->path);
	w->fd = -1;
	if (close(fd) == -1)
		return err_sys(e, "close %s", w->path);
	return 0;
}

int
store_finish(struct store_writer **w, char sha[65], struct err *e)
{
	int rc = finish(*w, sha, e);

	store_abandon(w);
	return rc;
}

void
store_abandon(struct store_writer **wp)
{
	struct store_writer *w = *wp;

	if (!w)
		return;
	if (w->fd != -1)
		close(w->fd);
	sha256_free(&w->sha);
	for (size_t i = 0; i < w->n; i++)
		free(w->t[i].name);
	free(w->t);
	for (size_t i = 0; i < w->nmeta; i++) {
		free(w->meta[i].key);
		free(w->meta[i].val);
	}
	free(w->meta);
	free(w->chunk);
	free(w->path);
	free(w);
	*wp = NULL;
}
