/*
 * set: a checkpoint's tensors in memory, to be changed and saved again.
 *
 * For tests only: memory that runs out ends the program.
 */
#ifndef DSI_SET_H
#define DSI_SET_H

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/ckpt.h"
#include "tap.h"

enum { SET_MAX = 4096 };

struct mem {
	char name[256];
	enum dtype dtype;
	unsigned ndim;
	uint64_t dim[STORE_MAX_DIM];
	size_t nbytes;
	unsigned char *p;
};

struct set {
	struct mem t[SET_MAX];
	size_t n;
};

static inline void
set_must(int ok, const char *what, const struct err *e)
{
	if (ok)
		return;
	printf("Bail out! %s: %s\n", what, e->msg);
	exit(1);
}

static inline struct mem *
set_find(struct set *s, const char *name)
{
	for (size_t i = 0; i < s->n; i++) {
		if (strcmp(s->t[i].name, name) == 0)
			return &s->t[i];
	}
	return NULL;
}

static inline struct mem *
set_get(struct set *s, const char *name)
{
	struct mem *m = set_find(s, name);
	struct err e = {0};

	set_must(m != NULL, name, &e);
	return m;
}

/* A new tensor, all zero. */
static inline struct mem *
set_add(struct set *s, const char *name, enum dtype t, unsigned ndim,
    uint64_t d0, uint64_t d1, uint64_t d2)
{
	struct mem *m = &s->t[s->n++];
	struct err e = {0};

	set_must(s->n < SET_MAX, "set_add", &e);
	*m = (struct mem){ .dtype = t, .ndim = ndim, .dim = { d0, d1, d2 } };
	snprintf(m->name, sizeof(m->name), "%s", name);
	m->nbytes = dtype_size(t);
	for (unsigned i = 0; i < ndim; i++)
		m->nbytes *= m->dim[i];
	m->p = mem_new(m->nbytes, 1, &e);
	set_must(m->p != NULL, name, &e);
	return m;
}

static inline void
set_drop(struct set *s, const char *name)
{
	struct mem *m = set_get(s, name);

	free(m->p);
	memmove(m, m + 1, (size_t)(&s->t[s->n] - m - 1) * sizeof(*m));
	s->n--;
}

static inline void
set_rename(struct set *s, const char *from, const char *to)
{
	snprintf(set_get(s, from)->name, sizeof(s->t[0].name), "%s", to);
}

/* Adds the tensors of one file. */
static inline void
set_load(struct set *s, const char *path)
{
	struct err e = {0};
	struct store *st;

	set_must(store_open(&st, path, &e) == 0, "set_load", &e);
	for (size_t i = 0; i < store_count(st); i++) {
		const struct tensor *t = store_at(st, i);
		struct mem *m = set_add(s, t->name, t->dtype, t->ndim,
		    t->dim[0], t->dim[1], t->dim[2]);

		set_must(store_read(st, t, 0, m->p, m->nbytes, &e) == 0,
		    t->name, &e);
	}
	store_close(&st);
}

/* Tensors [from, to) as a file. */
static inline void
set_save(const struct set *s, size_t from, size_t to, const char *path)
{
	struct err e = {0};
	struct store_writer *w;
	uint64_t nfile;
	char sha[65];

	set_must(store_create(&w, path, &e) == 0, path, &e);
	for (size_t i = from; i < to; i++)
		set_must(store_declare(w, s->t[i].name, s->t[i].dtype,
		    s->t[i].ndim, s->t[i].dim, &e) == 0, path, &e);
	set_must(store_begin(w, &nfile, &e) == 0, path, &e);
	for (size_t i = from; i < to; i++) {
		set_must(store_next(w, s->t[i].name, &e) == 0, path, &e);
		set_must(store_put(w, s->t[i].p, s->t[i].nbytes, &e) == 0,
		    path, &e);
	}
	set_must(store_finish(&w, sha, &e) == 0, path, &e);
}

static inline void
set_free(struct set *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->t[i].p);
	s->n = 0;
}

/* All files of a fixture into s; its config.json into dir, text put before
 * its last brace. */
static inline void
set_fixture(struct set *s, const char *dir, const char *name,
    const char *text)
{
	struct buf path = {0}, conf = {0};
	struct err e = {0};
	char from[512];
	struct dirent *ent;
	DIR *d;

	snprintf(from, sizeof(from), "%s/t/fixtures/%s", tap_top(), name);
	d = opendir(from);
	set_must(d != NULL, from, &e);
	set_free(s);
	while ((ent = readdir(d)) != NULL) {
		if (strstr(ent->d_name, ".safetensors") &&
		    !strstr(ent->d_name, ".json") &&
		    !strstr(ent->d_name, "reference") &&
		    !strstr(ent->d_name, "vectors"))
			set_load(s, io_path(&path, from, ent->d_name));
	}
	closedir(d);
	set_must(io_slurp(io_path(&path, from, "config.json"), 1 << 20, &conf,
	    &e) == 0, from, &e);
	while (conf.n && conf.p[conf.n - 1] != '}')
		conf.n--;
	conf.n--;
	buf_printf(&conf, "%s}", text);
	set_must(io_write_file(io_path(&path, dir, "config.json"), conf.p,
	    conf.n, &e) == 0, dir, &e);
	buf_free(&path);
	buf_free(&conf);
}

/* Replaces text in dir's config.json. */
static inline void
set_config(const char *dir, const char *from, const char *to)
{
	struct buf path = {0}, conf = {0}, out = {0};
	struct err e = {0};
	const char *p;

	io_path(&path, dir, "config.json");
	set_must(io_slurp(path.p, 1 << 20, &conf, &e) == 0, path.p, &e);
	p = strstr(conf.p, from);
	set_must(p != NULL, from, &e);
	buf_put(&out, conf.p, (size_t)(p - conf.p));
	buf_printf(&out, "%s%s", to, p + strlen(from));
	set_must(io_write_file(path.p, out.p, out.n, &e) == 0, path.p, &e);
	buf_free(&path);
	buf_free(&conf);
	buf_free(&out);
}

static inline int
set_open_dir(const char *dir, struct arch *a, struct ckpt **c, struct err *e)
{
	*c = NULL;
	return arch_load(a, dir, e) == -1 ? -1 : ckpt_open(c, dir, a, e);
}

/* Saves s as dir's only file and opens dir. */
static inline int
set_open(const struct set *s, const char *dir, struct arch *a,
    struct ckpt **c, struct err *e)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/model.safetensors", dir);
	set_save(s, 0, s->n, path);
	return set_open_dir(dir, a, c, e);
}

#endif
