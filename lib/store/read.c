/*
 * read: a safetensors file opened and its header checked.
 *
 * The tensors must fill the file without hole or overlap, as the format
 * demands; so one walk in order of offsets finds every lie, and a file whose
 * download stopped is told from one that is wrong inside.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json/json.h"
#include "store/store_priv.h"

struct store {
	char *path;
	int fd;				/* -1: from memory */
	char *text;			/* all names, metadata keys, values */
	size_t ntext;
	const char **meta;		/* [2 * nmeta]: key, value, key ... */
	size_t nmeta;
	bool has_meta;
	struct tensor *t;		/* [n], in order of offsets */
	size_t n;
	uint32_t *slot;			/* [mask + 1]: index + 1; 0 is free */
	size_t mask;
	uint64_t seed;
};

static unsigned long long
ull(uint64_t x)
{
	return x;
}

/* FNV-1a from a random start: files can't be built to collide. */
static size_t
hash(const struct store *s, const char *name)
{
	uint64_t h = s->seed;

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 0x100000001b3u;
	h ^= h >> 32;
	h *= 0x9e3779b97f4a7c15u;
	return (size_t)(h >> 20);
}

/* The slot of name, or the free one where it would go. */
static uint32_t *
find_slot(const struct store *s, const char *name)
{
	size_t i = hash(s, name) & s->mask;

	while (s->slot[i] && strcmp(s->t[s->slot[i] - 1].name, name) != 0)
		i = (i + 1) & s->mask;
	return &s->slot[i];
}

static int
build_index(struct store *s, struct err *e)
{
	size_t cap = 16;

	while (cap < 2 * s->n)
		cap *= 2;
	if (getrandom(&s->seed, sizeof(s->seed), 0) != sizeof(s->seed))
		s->seed = now_ns();
	s->slot = mem_new(cap, sizeof(*s->slot), e);
	if (!s->slot)
		return -1;
	s->mask = cap - 1;
	for (size_t i = 0; i < s->n; i++) {
		uint32_t *at = find_slot(s, s->t[i].name);

		if (*at)
			return err_set(e, ERR_CALLER,
			    "%s: tensor %s is described twice", s->path,
			    s->t[i].name);
		*at = (uint32_t)i + 1;
	}
	return 0;
}

static int
bad(const struct store *s, const char *name, struct err *e, const char *what)
{
	return err_set(e, ERR_CALLER, "%s: tensor %s: %s", s->path, name,
	    what);
}

static bool
get_u53(const struct json *v, uint64_t *out)
{
	if (json_type(v) != JSON_NUM || !json_is_int(v) || json_num(v) < 0)
		return false;
	*out = (uint64_t)json_num(v);
	return true;
}

static int
parse_shape(const struct store *s, struct tensor *t, const struct json *v,
    struct err *e)
{
	if (json_type(v) != JSON_ARR || json_len(v) > STORE_MAX_DIM)
		return bad(s, t->name, e,
		    "shape must be a list of at most 8 sizes");
	t->ndim = 0;
	for (v = json_first(v); v; v = json_next(v)) {
		if (!get_u53(v, &t->dim[t->ndim++]))
			return bad(s, t->name, e,
			    "shape must hold whole numbers from 0 up");
	}
	return 0;
}

static int
parse_dtype(const struct store *s, struct tensor *t, const struct json *v,
    struct err *e)
{
	if (json_type(v) != JSON_STR)
		return bad(s, t->name, e, "dtype must be a string");
	if (dtype_parse(json_str(v), &t->dtype) == -1)
		return err_set(e, ERR_CALLER,
		    "%s: tensor %s: dtype %s is not supported", s->path,
		    t->name, json_str(v));
	return 0;
}

/* Leaves off relative to the data; place_all makes it absolute. */
static int
parse_offsets(const struct store *s, struct tensor *t, const struct json *v,
    struct err *e)
{
	const struct json *b = NULL, *end = NULL;
	uint64_t stop;

	if (json_type(v) == JSON_ARR && json_len(v) == 2) {
		b = json_first(v);
		end = json_next(b);
	}
	if (!b || !get_u53(b, &t->off) || !get_u53(end, &stop) ||
	    stop < t->off)
		return bad(s, t->name, e,
		    "data_offsets must be [begin, end], begin <= end");
	t->nbytes = stop - t->off;
	return 0;
}

static int
parse_tensor(const struct store *s, struct tensor *t, const struct json *v,
    struct err *e)
{
	static const char *const key[] = { "dtype", "shape", "data_offsets" };
	static int (*const parse[])(const struct store *, struct tensor *,
	    const struct json *, struct err *) = {
		parse_dtype, parse_shape, parse_offsets
	};
	char shape[128];
	uint64_t want;

	if (json_type(v) != JSON_OBJ || json_len(v) != 3)
		return bad(s, t->name, e,
		    "must have dtype, shape and data_offsets, nothing else");
	for (int i = 0; i < 3; i++) {
		const struct json *m = json_get(v, key[i]);

		if (!m)
			return err_set(e, ERR_CALLER,
			    "%s: tensor %s: has no %s", s->path, t->name,
			    key[i]);
		if (parse[i](s, t, m, e) == -1)
			return -1;
	}
	shape_text(t->ndim, t->dim, shape, sizeof(shape));
	if (!shape_bytes(t->dtype, t->ndim, t->dim, &want))
		return err_set(e, ERR_CALLER,
		    "%s: tensor %s: shape %s is larger than any file",
		    s->path, t->name, shape);
	if (want != t->nbytes)
		return err_set(e, ERR_CALLER,
		    "%s: tensor %s: %s %s takes %llu bytes, data_offsets "
		    "give it %llu", s->path, t->name, dtype_name(t->dtype),
		    shape, ull(want), ull(t->nbytes));
	return 0;
}

/* Keeps a string of the JSON tree, which does not outlive the parsing. */
static const char *
keep(struct store *s, const char *str)
{
	size_t n = strlen(str) + 1;
	char *p = s->text + s->ntext;

	memcpy(p, str, n);
	s->ntext += n;
	return p;
}

static int
parse_meta(struct store *s, const struct json *v, struct err *e)
{
	const char *dup;

	if (s->has_meta)
		return err_set(e, ERR_CALLER,
		    "%s: __metadata__ stands twice", s->path);
	s->has_meta = true;
	if (json_type(v) != JSON_OBJ)
		return err_set(e, ERR_CALLER,
		    "%s: __metadata__ must be an object", s->path);
	e->code = 0;
	dup = json_dup(v, e);
	if (dup)
		return err_set(e, ERR_CALLER,
		    "%s: __metadata__: %s stands twice", s->path, dup);
	if (e->code)
		return -1;
	s->meta = mem_new(json_len(v), 2 * sizeof(*s->meta), e);
	if (!s->meta)
		return -1;
	for (v = json_first(v); v; v = json_next(v)) {
		if (json_type(v) != JSON_STR)
			return err_set(e, ERR_CALLER,
			    "%s: __metadata__: %s must be a string", s->path,
			    json_key(v));
		s->meta[2 * s->nmeta] = keep(s, json_key(v));
		s->meta[2 * s->nmeta++ + 1] = keep(s, json_str(v));
	}
	return 0;
}

static int
by_offset(const void *pa, const void *pb)
{
	const struct tensor *a = pa, *b = pb;

	if (a->off != b->off)
		return a->off < b->off ? -1 : 1;
	if (a->nbytes != b->nbytes)
		return a->nbytes < b->nbytes ? -1 : 1;
	return strcmp(a->name, b->name);
}

/* Sorted tensors: each begins where the one before it ends, and the last ends
 * with the file. */
static int
place_all(struct store *s, uint64_t data, uint64_t nfile, struct err *e)
{
	uint64_t at = 0;
	const char *before = "the header";

	for (size_t i = 0; i < s->n; i++) {
		struct tensor *t = &s->t[i];

		if (t->off != at)
			return err_set(e, ERR_CALLER,
			    "%s: tensor %s: begins at byte %llu, but %s ends "
			    "at %llu: %s", s->path, t->name, ull(t->off),
			    before, ull(at),
			    t->off < at ? "they overlap" : "a hole");
		if (t->nbytes > INT64_MAX - data - at)
			return bad(s, t->name, e, "no file is that long");
		at += t->nbytes;
		t->off += data;
		before = t->name;
	}
	if (data + at > nfile) {
		size_t i = 0;

		while (s->t[i].off + s->t[i].nbytes <= nfile)
			i++;
		return err_set(e, ERR_CALLER,
		    "%s is cut off: header promises %llu bytes, file has %llu "
		    "(it ends inside tensor %s); fetch it again", s->path,
		    ull(data + at), ull(nfile), s->t[i].name);
	}
	if (data + at < nfile)
		return err_set(e, ERR_CALLER,
		    "%s: %llu bytes follow the end of %s, which should be the "
		    "last", s->path, ull(nfile - data - at), before);
	return 0;
}

/* Bytes that keep() will need at most. */
static size_t
text_size(const struct json *root)
{
	size_t n = 0;

	for (const struct json *v = json_first(root); v; v = json_next(v)) {
		n += strlen(json_key(v)) + 1;
		if (json_type(v) != JSON_OBJ ||
		    strcmp(json_key(v), "__metadata__") != 0)
			continue;
		for (const struct json *m = json_first(v); m; m = json_next(m))
			n += strlen(json_key(m)) + 1 +
			    (json_type(m) == JSON_STR ?
			    strlen(json_str(m)) + 1 : 0);
	}
	return n;
}

static int
parse_root(struct store *s, const struct json *root, struct err *e)
{
	const struct json *v;
	size_t n = json_len(root);

	if (n > UINT32_MAX / 4)
		return err_set(e, ERR_CALLER, "%s: too many tensors", s->path);
	s->t = mem_new(n, sizeof(*s->t), e);
	s->text = mem_new(text_size(root), 1, e);
	if (!s->t || !s->text)
		return -1;
	for (v = json_first(root); v; v = json_next(v)) {
		struct tensor *t = &s->t[s->n];

		if (strcmp(json_key(v), "__metadata__") == 0) {
			if (parse_meta(s, v, e) == -1)
				return -1;
			continue;
		}
		t->name = keep(s, json_key(v));
		if (!*t->name)
			return err_set(e, ERR_CALLER,
			    "%s: a tensor has an empty name", s->path);
		if (parse_tensor(s, t, v, e) == -1)
			return -1;
		s->n++;
	}
	return 0;
}

static int
parse_header(struct store *s, const char *text, size_t n, uint64_t nfile,
    struct err *e)
{
	struct json *root = NULL;
	int rc;

	if (n == 0 || text[0] != '{')
		return err_set(e, ERR_CALLER,
		    "%s is not a safetensors file: its header should begin "
		    "with {", s->path);
	if (json_parse(&root, text, n, e) == -1)
		return err_wrap(e, "%s: header", s->path);
	rc = parse_root(s, root, e);
	json_free(&root);
	if (rc == -1)
		return -1;
	qsort(s->t, s->n, sizeof(*s->t), by_offset);
	if (build_index(s, e) == -1)
		return -1;
	return place_all(s, STORE_LEN_SIZE + n, nfile, e);
}

/* The header's length from the first bytes of the file. */
static int
header_length(const struct store *s, const unsigned char *p, size_t n,
    uint64_t nfile, uint64_t *len, struct err *e)
{
	static const char lfs[] = "version ";

	if (n < STORE_LEN_SIZE)
		return err_set(e, ERR_CALLER,
		    "%s is cut off: %llu bytes are no safetensors file; "
		    "fetch it again", s->path, ull(nfile));
	if (memcmp(p, lfs, STORE_LEN_SIZE) == 0)
		return err_set(e, ERR_CALLER,
		    "%s is a Git LFS pointer, not the file itself; fetch it",
		    s->path);
	*len = 0;
	for (int i = STORE_LEN_SIZE - 1; i >= 0; i--)
		*len = *len << 8 | p[i];
	if (*len > STORE_MAX_HEADER)
		return err_set(e, ERR_CALLER,
		    "%s: header of %llu bytes, at most %d are allowed: not a "
		    "safetensors file?", s->path, ull(*len), STORE_MAX_HEADER);
	if (*len > nfile - STORE_LEN_SIZE)
		return err_set(e, ERR_CALLER,
		    "%s is cut off: header promises %llu bytes, file has "
		    "%llu; fetch it again", s->path,
		    ull(*len + STORE_LEN_SIZE), ull(nfile));
	return 0;
}

static struct store *
new_store(const char *path, struct err *e)
{
	struct store *s = mem_new(1, sizeof(*s), e);

	if (!s)
		return NULL;
	s->fd = -1;
	s->path = strdup(path);
	if (!s->path) {
		free(s);
		err_set(e, ERR_SYSTEM, "out of memory");
		return NULL;
	}
	return s;
}

int
store_parse(struct store **out, const char *name, const void *p, size_t n,
    uint64_t nfile, struct err *e)
{
	struct err sink;
	struct store *s;
	uint64_t len;

	if (!e)
		e = &sink;
	*out = NULL;
	s = new_store(name, e);
	if (!s)
		return -1;
	if (nfile < n)
		nfile = n;
	if (header_length(s, p, n, nfile, &len, e) == -1)
		goto fail;
	if (len > n - STORE_LEN_SIZE) {
		err_set(e, ERR_CALLER, "%s: only part of the header", name);
		goto fail;
	}
	if (parse_header(s, (const char *)p + STORE_LEN_SIZE, (size_t)len,
	    nfile, e) == -1)
		goto fail;
	*out = s;
	return 0;
fail:
	store_close(&s);
	return -1;
}

static int
open_file(struct store *s, uint64_t *nfile, struct err *e)
{
	struct stat st;

	s->fd = open(s->path, O_RDONLY | O_CLOEXEC);
	if (s->fd == -1 || fstat(s->fd, &st) == -1) {
		bool caller = errno == ENOENT || errno == ENOTDIR ||
		    errno == EACCES || errno == ELOOP;

		err_sys(e, "open %s", s->path);
		if (caller)
			e->code = ERR_CALLER;
		return -1;
	}
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_CALLER, "%s is not a regular file",
		    s->path);
	*nfile = (uint64_t)st.st_size;
	return 0;
}

static int
read_header(struct store *s, struct err *e)
{
	unsigned char first[STORE_LEN_SIZE];
	uint64_t nfile = 0, len;
	char *text;
	size_t n;
	int rc = -1;

	if (open_file(s, &nfile, e) == -1)
		return -1;
	n = nfile < STORE_LEN_SIZE ? (size_t)nfile : STORE_LEN_SIZE;
	if (io_pread(s->fd, first, n, 0, e) == -1)
		return err_wrap(e, "%s", s->path);
	if (header_length(s, first, n, nfile, &len, e) == -1)
		return -1;
	text = mem_new((size_t)len, 1, e);
	if (!text)
		return -1;
	if (io_pread(s->fd, text, (size_t)len, STORE_LEN_SIZE, e) == -1)
		err_wrap(e, "%s", s->path);
	else
		rc = parse_header(s, text, (size_t)len, nfile, e);
	free(text);
	return rc;
}

int
store_open(struct store **out, const char *path, struct err *e)
{
	struct err sink;
	struct store *s;

	if (!e)
		e = &sink;
	*out = NULL;
	s = new_store(path, e);
	if (!s)
		return -1;
	if (read_header(s, e) == -1) {
		store_close(&s);
		return -1;
	}
	*out = s;
	return 0;
}

void
store_close(struct store **sp)
{
	struct store *s = *sp;

	if (!s)
		return;
	if (s->fd != -1)
		close(s->fd);
	free(s->text);
	free(s->meta);
	free(s->t);
	free(s->slot);
	free(s->path);
	free(s);
	*sp = NULL;
}

const char *
store_path(const struct store *s)
{
	return s->path;
}

size_t
store_count(const struct store *s)
{
	return s->n;
}

const struct tensor *
store_at(const struct store *s, size_t i)
{
	return &s->t[i];
}

const struct tensor *
store_find(const struct store *s, const char *name)
{
	uint32_t i = *find_slot(s, name);

	return i ? &s->t[i - 1] : NULL;
}

const char *
store_meta(const struct store *s, const char *key)
{
	for (size_t i = 0; i < s->nmeta; i++) {
		if (strcmp(s->meta[2 * i], key) == 0)
			return s->meta[2 * i + 1];
	}
	return NULL;
}

int
store_read(const struct store *s, const struct tensor *t, uint64_t off,
    void *p, size_t n, struct err *e)
{
	if (off > t->nbytes || n > t->nbytes - off)
		return err_set(e, ERR_CALLER,
		    "%s: tensor %s: has %llu bytes, wanted %zu from %llu",
		    s->path, t->name, ull(t->nbytes), n, ull(off));
	if (io_pread(s->fd, p, n, t->off + off, e) == -1)
		return err_wrap(e, "%s: tensor %s", s->path, t->name);
	return 0;
}
