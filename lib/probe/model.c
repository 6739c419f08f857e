/*
 * model: what can be told of a model at once, without reading its weights.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "probe/priv.h"
#include "store/store.h"

enum { CONFIG_MAX = 16 << 20, FILES_MAX = 1 << 16 };

static bool
wants(const unsigned *rank, unsigned n, unsigned r)
{
	for (unsigned i = 0; i < n; i++)
		if (rank[i] == r)
			return true;
	return false;
}

/* Is a file of one of the ranks here, and as long as it should be? */
static int
check_file(const char *dir, const struct shard_file *f, struct err *e)
{
	struct buf b = {0};
	struct stat st;
	int rc = 0;

	io_path(&b, dir, f->path);
	if (buf_ok(&b, e) == -1)
		rc = -1;
	else if (stat(b.p, &st) == -1)
		rc = err_set(e, ERR_CALLER, "%s: %s", b.p, strerror(errno));
	else if ((uint64_t)st.st_size != f->bytes)
		rc = err_set(e, ERR_CALLER, "%s has %llu bytes, its manifest "
		    "says %llu", b.p, (unsigned long long)st.st_size,
		    (unsigned long long)f->bytes);
	buf_free(&b);
	return rc;
}

static int
see_rank_files(struct probe_model *m, const char *dir, const unsigned *rank,
    unsigned nrank, struct err *e)
{
	struct shard_manifest *sm;
	int rc = 0;

	if (shard_open_manifest(&sm, dir, e) == -1)
		return -1;
	snprintf(m->kind, sizeof(m->kind), "rank files");
	wire_plain(m->digest, sizeof(m->digest), sm->conversion);
	for (size_t i = 0; i < sm->nfile && rc == 0; i++) {
		const struct shard_file *f = &sm->file[i];

		if (f->rank >= 0 && wants(rank, nrank, (unsigned)f->rank))
			rc = check_file(dir, f, e);
	}
	shard_close_manifest(&sm);
	return rc;
}

/* ---- published models ---- */

/* Files that a change of the model would change; others, such as a README or
 * what a download leaves, may differ. */
static bool
counts(const char *name)
{
	const char *dot = strrchr(name, '.');

	return name[0] != '.' && dot && (strcmp(dot, ".safetensors") == 0 ||
	    strcmp(dot, ".json") == 0);
}

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct names {
	char **v;
	size_t n, cap;
};

/* "12345 model.safetensors" */
static int
add_file(struct names *l, int dir, const char *name, struct err *e)
{
	struct stat st;
	char *text;

	if (fstatat(dir, name, &st, 0) == -1)
		return err_sys(e, "%s", name);
	if (!S_ISREG(st.st_mode))
		return 0;
	if (l->n == FILES_MAX)
		return err_set(e, ERR_CALLER, "too many files");
	if (mem_grow(&l->v, &l->cap, l->n + 1, sizeof(*l->v), e) == -1)
		return -1;
	if (asprintf(&text, "%s %lld\n", name, (long long)st.st_size) == -1)
		return err_set(e, ERR_SYSTEM, "no memory");
	l->v[l->n++] = text;
	return 0;
}

static int
list_files(struct names *l, const char *path, struct err *e)
{
	DIR *dir = opendir(path);
	const struct dirent *f;
	int rc = 0;

	if (!dir)
		return err_sys(e, "%s", path);
	while (rc == 0 && (f = readdir(dir)))
		if (counts(f->d_name))
			rc = add_file(l, dirfd(dir), f->d_name, e);
	closedir(dir);
	if (rc == 0 && l->n)
		qsort(l->v, l->n, sizeof(*l->v), by_text);
	return rc == -1 ? err_wrap(e, "%s", path) : 0;
}

static int
see_directory(struct probe_model *m, const char *path, bool weights,
    struct err *e)
{
	struct buf config = {0}, name = {0};
	struct names l = {0};
	int rc = -1;

	snprintf(m->kind, sizeof(m->kind), "directory");
	io_path(&name, path, "config.json");
	if (buf_ok(&name, e) == 0 &&
	    io_slurp(name.p, CONFIG_MAX, &config, e) == 0)
		rc = weights ? list_files(&l, path, e) : 0;
	for (size_t i = 0; i < l.n; i++) {
		buf_puts(&config, l.v[i]);
		free(l.v[i]);
	}
	free(l.v);
	if (rc == 0)
		rc = buf_ok(&config, e);
	if (rc == 0)
		rc = sha256_mem(config.p, config.n, m->digest, e);
	buf_free(&name);
	buf_free(&config);
	return rc;
}

static int
see(struct probe_model *m, const char *path, bool weights,
    const unsigned *rank, unsigned nrank, struct err *e)
{
	struct stat st;

	if (stat(path, &st) == -1)
		return err_sys(e, "%s", path);
	if (!S_ISDIR(st.st_mode)) {
		if (!S_ISREG(st.st_mode))
			return err_set(e, ERR_CALLER, "%s is no file", path);
		snprintf(m->kind, sizeof(m->kind), "file");
		return sha256_file(path, m->digest, NULL, e);
	}
	if (shard_peek(path))
		return see_rank_files(m, path, rank, nrank, e);
	return see_directory(m, path, weights, e);
}

void
probe_see_model(struct probe_model *m, const char *path, bool weights,
    const unsigned *rank, unsigned nrank)
{
	struct err e = {0};

	*m = (struct probe_model){0};
	if (see(m, path, weights, rank, nrank, &e) == -1)
		wire_plain(m->error, sizeof(m->error), e.msg);
}
