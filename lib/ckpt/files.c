/*
 * files: a model directory's safetensors files as one set of tensors.
 *
 * Indexes, where there are any, decide which files count and are held to
 * what they say; several may stand side by side.  Without one it is
 * model.safetensors, and without that every *.safetensors.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/ckpt_priv.h"

enum { MAX_INDEX = 256 << 20, SAMPLE = 4096 };

/* One line of an index. */
struct said {
	const char *name, *file, *index;	/* borrowed from the JSON */
	bool seen;
};

struct listing {
	const char *dir;
	char **name;			/* [n], sorted: entries of dir */
	size_t n, cap;
	struct json **root;		/* [nroot]: the indexes */
	size_t nroot, root_cap;
	struct said *said;		/* [nsaid], by name */
	size_t nsaid, said_cap;
};

static bool
ends(const char *s, const char *tail)
{
	size_t n = strlen(s), m = strlen(tail);

	return n >= m && strcmp(s + n - m, tail) == 0;
}

/* ---- the directory ---- */

static int
by_string(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

static int
list_names(struct listing *l, DIR *d, struct err *e)
{
	struct dirent *ent;

	while ((errno = 0, ent = readdir(d)) != NULL) {
		char *s;

		if (mem_grow(&l->name, &l->cap, l->n + 1, sizeof(*l->name),
		    e) == -1)
			return -1;
		s = strdup(ent->d_name);
		if (!s)
			return err_set(e, ERR_SYSTEM, "out of memory");
		l->name[l->n++] = s;
	}
	if (errno)
		return err_sys(e, "read %s", l->dir);
	if (l->n)
		qsort(l->name, l->n, sizeof(*l->name), by_string);
	return 0;
}

static int
list_dir(struct listing *l, struct err *e)
{
	DIR *d = opendir(l->dir);
	int rc;

	if (!d) {
		err_sys(e, "open %s", l->dir);
		if (e)
			e->code = ERR_CALLER;
		return -1;
	}
	rc = list_names(l, d, e);
	closedir(d);
	return rc;
}

static bool
has_name(const struct listing *l, const char *name)
{
	return l->n && bsearch(&name, l->name, l->n, sizeof(*l->name),
	    by_string) != NULL;
}

/* ---- indexes ---- */

static bool
plain_name(const char *s)
{
	return *s && *s != '.' && !strchr(s, '/');
}

static int
add_said(struct listing *l, const struct json *v, const char *index,
    struct err *e)
{
	const char *file;

	if (json_type(v) != JSON_STR)
		return err_set(e, ERR_CALLER,
		    "%s/%s: %s must name a file, not be %s", l->dir, index,
		    json_key(v), json_type_name(json_type(v)));
	file = json_str(v);
	if (!plain_name(file))
		return err_set(e, ERR_CALLER,
		    "%s/%s: %s: \"%s\" is not the name of a file beside it",
		    l->dir, index, json_key(v), file);
	if (!has_name(l, file))
		return err_set(e, ERR_CALLER,
		    "%s/%s: tensor %s is in %s, which is not there; fetch it",
		    l->dir, index, json_key(v), file);
	if (mem_grow(&l->said, &l->said_cap, l->nsaid + 1, sizeof(*l->said),
	    e) == -1)
		return -1;
	l->said[l->nsaid++] = (struct said){ json_key(v), file, index, false };
	return 0;
}

static int
read_index(struct listing *l, const char *name, struct err *e)
{
	struct buf path = {0};
	const struct json *map, *v;
	const char *dup;
	struct json *root;
	int rc;

	if (mem_grow(&l->root, &l->root_cap, l->nroot + 1, sizeof(*l->root),
	    e) == -1)
		return -1;
	io_path(&path, l->dir, name);
	rc = buf_ok(&path, e);
	if (rc == 0)
		rc = json_load(&root, path.p, MAX_INDEX, e);
	buf_free(&path);
	if (rc == -1)
		return -1;
	l->root[l->nroot++] = root;
	map = json_get(root, "weight_map");
	if (!map)
		map = root;
	if (json_type(map) != JSON_OBJ)
		return err_set(e, ERR_CALLER,
		    "%s/%s: no weight_map of tensor names and files", l->dir,
		    name);
	dup = json_dup(map, e);
	if (dup)
		return err_set(e, ERR_CALLER, "%s/%s: tensor %s stands twice",
		    l->dir, name, dup);
	for (v = json_first(map); v; v = json_next(v)) {
		if (add_said(l, v, name, e) == -1)
			return -1;
	}
	return 0;
}

static int
by_said(const void *a, const void *b)
{
	const struct said *x = a, *y = b;

	return strcmp(x->name, y->name);
}

/* Two indexes may repeat, but not contradict each other. */
static int
merge_said(struct listing *l, struct err *e)
{
	size_t n = 0;

	if (l->nsaid)
		qsort(l->said, l->nsaid, sizeof(*l->said), by_said);
	for (size_t i = 0; i < l->nsaid; i++) {
		const struct said *s = &l->said[i], *p;

		p = n ? &l->said[n - 1] : NULL;
		if (!p || strcmp(p->name, s->name) != 0)
			l->said[n++] = *s;
		else if (strcmp(p->file, s->file) != 0)
			return err_set(e, ERR_CALLER,
			    "%s: tensor %s is in %s by %s, but in %s by %s",
			    l->dir, s->name, p->file, p->index, s->file,
			    s->index);
	}
	l->nsaid = n;
	return 0;
}

static int
read_indexes(struct listing *l, struct err *e)
{
	for (size_t i = 0; i < l->n; i++) {
		if (*l->name[i] == '.' || (!ends(l->name[i], "index.json") &&
		    !ends(l->name[i], "_name_map.json")))
			continue;
		if (read_index(l, l->name[i], e) == -1)
			return -1;
	}
	return merge_said(l, e);
}

static void
listing_free(struct listing *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->name[i]);
	free(l->name);
	for (size_t i = 0; i < l->nroot; i++)
		json_free(&l->root[i]);
	free(l->root);
	free(l->said);
}

/* ---- opening ---- */

/* Old exports hold tables that follow from config.json, and dsi's own files
 * hold fillers. */
static bool
harmless(const char *name)
{
	return ends(name, "rotary_emb.inv_freq") ||
	    strncmp(name, STORE_PAD, strlen(STORE_PAD)) == 0;
}

/* The index must send tensor t to this very file. */
static int
check_said(struct listing *l, const struct store *s, const char *file,
    const struct tensor *t, struct err *e)
{
	struct said key = { .name = t->name }, *said;

	if (!l->nsaid)
		return 0;
	said = bsearch(&key, l->said, l->nsaid, sizeof(key), by_said);
	if (!said) {
		if (harmless(t->name))
			return 0;
		return err_set(e, ERR_CALLER,
		    "%s: tensor %s is not in the index %s", store_path(s),
		    t->name, l->said[0].index);
	}
	if (strcmp(said->file, file) != 0)
		return err_set(e, ERR_CALLER,
		    "%s: tensor %s should be in %s, says %s", store_path(s),
		    t->name, said->file, said->index);
	said->seen = true;
	return 0;
}

static int
open_file(struct files *f, struct listing *l, const char *file,
    struct err *e)
{
	struct buf path = {0};
	struct store *s = NULL;
	size_t n;
	int rc;

	if (mem_grow(&f->s, &f->cap, f->n + 1, sizeof(*f->s), e) == -1)
		return -1;
	io_path(&path, l->dir, file);
	rc = buf_ok(&path, e);
	if (rc == 0)
		rc = store_open(&s, path.p, e);
	buf_free(&path);
	if (rc == -1)
		return -1;
	f->s[f->n++] = s;
	n = store_count(s);
	if (mem_grow(&f->e, &f->ecap, f->ne + n, sizeof(*f->e), e) == -1)
		return -1;
	for (size_t i = 0; i < n; i++) {
		const struct tensor *t = store_at(s, i);

		if (check_said(l, s, file, t, e) == -1)
			return -1;
		f->e[f->ne++] = (struct entry){ *t, s, harmless(t->name) };
	}
	return 0;
}

static int
open_said(struct files *f, struct listing *l, struct err *e)
{
	const char **file = mem_new(l->nsaid, sizeof(*file), e);
	int rc = 0;

	if (!file)
		return -1;
	for (size_t i = 0; i < l->nsaid; i++)
		file[i] = l->said[i].file;
	qsort(file, l->nsaid, sizeof(*file), by_string);
	for (size_t i = 0; i < l->nsaid && rc == 0; i++) {
		if (i == 0 || strcmp(file[i - 1], file[i]) != 0)
			rc = open_file(f, l, file[i], e);
	}
	free(file);
	for (size_t i = 0; i < l->nsaid && rc == 0; i++) {
		if (!l->said[i].seen)
			rc = err_set(e, ERR_CALLER,
			    "%s/%s: tensor %s should be in %s, but is not",
			    l->dir, l->said[i].index, l->said[i].name,
			    l->said[i].file);
	}
	return rc;
}

static int
open_all(struct files *f, struct listing *l, struct err *e)
{
	static const char whole[] = "model.safetensors";

	if (l->nsaid)
		return open_said(f, l, e);
	if (has_name(l, whole))
		return open_file(f, l, whole, e);
	for (size_t i = 0; i < l->n; i++) {
		if (*l->name[i] != '.' && ends(l->name[i], ".safetensors") &&
		    open_file(f, l, l->name[i], e) == -1)
			return -1;
	}
	if (!f->n)
		return err_set(e, ERR_CALLER,
		    "%s holds no *.safetensors files", l->dir);
	return 0;
}

static int
by_name(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return strcmp(x->t.name, y->t.name);
}

int
files_open(struct files *f, const char *dir, struct err *e)
{
	struct listing l = { .dir = dir };
	int rc;

	rc = list_dir(&l, e);
	if (rc == 0)
		rc = read_indexes(&l, e);
	if (rc == 0)
		rc = open_all(f, &l, e);
	listing_free(&l);
	if (rc == -1)
		return -1;
	if (f->ne)
		qsort(f->e, f->ne, sizeof(*f->e), by_name);
	for (size_t i = 1; i < f->ne; i++) {
		const struct entry *a = &f->e[i - 1], *b = &f->e[i];

		if (strcmp(a->t.name, b->t.name) == 0 && !a->used)
			return err_set(e, ERR_CALLER,
			    "tensor %s is both in %s and in %s", a->t.name,
			    store_path(a->s), store_path(b->s));
	}
	return 0;
}

void
files_close(struct files *f)
{
	for (size_t i = 0; i < f->n; i++)
		store_close(&f->s[i]);
	free(f->s);
	free(f->e);
	*f = (struct files){0};
}

struct entry *
files_find(const struct files *f, const char *name)
{
	struct entry key = { .t = { .name = name } };

	return f->ne ? bsearch(&key, f->e, f->ne, sizeof(key), by_name) : NULL;
}

/* ---- digest ---- */

static int
add_tensor(struct sha256 *sha, const struct tensor *t, struct err *e)
{
	uint64_t v[3 + STORE_MAX_DIM] = { t->dtype, t->off, t->nbytes };

	for (unsigned i = 0; i < t->ndim; i++)
		v[3 + i] = t->dim[i];
	if (sha256_add(sha, t->name, strlen(t->name) + 1, e) == -1)
		return -1;
	return sha256_add(sha, v, (3 + t->ndim) * sizeof(*v), e);
}

/* A later release of a model has the same header: look into the bytes. */
static int
add_samples(struct sha256 *sha, const struct store *s, struct err *e)
{
	size_t n = store_count(s);
	unsigned char p[SAMPLE];

	for (size_t i = 0; i < 3 && n; i++) {
		const struct tensor *t = store_at(s, i * (n - 1) / 2);
		size_t len = t->nbytes < SAMPLE ? (size_t)t->nbytes : SAMPLE;

		if (store_read(s, t, 0, p, len, e) == -1 ||
		    sha256_add(sha, p, len, e) == -1)
			return -1;
	}
	return 0;
}

static int
add_store(struct sha256 *sha, const struct store *s, struct err *e)
{
	const char *slash = strrchr(store_path(s), '/');
	const char *name = slash ? slash + 1 : store_path(s);

	if (sha256_add(sha, name, strlen(name) + 1, e) == -1)
		return -1;
	for (size_t i = 0; i < store_count(s); i++) {
		if (add_tensor(sha, store_at(s, i), e) == -1)
			return -1;
	}
	return add_samples(sha, s, e);
}

int
files_digest(const struct files *f, char sha[65], struct err *e)
{
	struct sha256 h;

	if (sha256_start(&h, e) == -1)
		return -1;
	for (size_t i = 0; i < f->n; i++) {
		if (add_store(&h, f->s[i], e) == -1) {
			sha256_free(&h);
			return -1;
		}
	}
	return sha256_end(&h, sha, e);
}
