/*
 * verify: rank files against their manifest.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "shard/shard_priv.h"

struct check {
	const char *dir;
	const struct shard_manifest *m;
	const char **known;		/* [m->nfile] sorted */
	struct bar bar;
	void (*bad)(void *arg, const char *path, const char *why);
	void (*extra)(void *arg, const char *path);
	void *arg;
	size_t *nbad;
};

static void
report(struct check *c, const char *path, const char *why)
{
	bool on = c->bar.on;

	bar_end(&c->bar);		/* the caller will print a line */
	c->bad(c->arg, path, why);
	c->bar.on = on;
	++*c->nbad;
}

static int
check_file(struct check *c, const struct shard_file *f, struct err *e)
{
	struct buf path = {0};
	struct stat st;
	char sha[65], why[96];
	int rc = 0;

	io_path(&path, c->dir, f->path);
	if (buf_ok(&path, e) == -1) {
		rc = -1;
	} else if (stat(path.p, &st) == -1) {
		report(c, f->path, errno == ENOENT ? "missing" :
		    strerror(errno));
	} else if ((uint64_t)st.st_size != f->bytes) {
		snprintf(why, sizeof(why), "%lld bytes, not %llu",
		    (long long)st.st_size, (unsigned long long)f->bytes);
		report(c, f->path, why);
	} else if (sha256_file(path.p, sha, &c->bar, e) == -1) {
		rc = -1;
	} else if (strcmp(sha, f->sha) != 0) {
		report(c, f->path, "its content has changed (sha256)");
	}
	buf_free(&path);
	return rc;
}

static int
by_name(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

static bool
is_dir(const char *dir, const char *name)
{
	struct buf path = {0};
	struct stat st;
	bool yes;

	io_path(&path, dir, name);
	yes = !path.oom && lstat(path.p, &st) == 0 && S_ISDIR(st.st_mode);
	buf_free(&path);
	return yes;
}

/* Entries of dir/sub (sub may be "") that nobody knows; one level deep. */
static int
find_extra(struct check *c, const char *sub, struct err *e)
{
	struct buf path = {0}, rel = {0};
	const struct dirent *f;
	DIR *d;
	int rc = 0;

	d = io_path(&path, c->dir, sub) ? opendir(path.p) : NULL;
	if (!d)
		rc = err_sys(e, "open %s", c->dir);
	while (rc == 0 && (f = readdir(d))) {
		const char *key;

		if (strcmp(f->d_name, ".") == 0 ||
		    strcmp(f->d_name, "..") == 0 ||
		    (!*sub && strcmp(f->d_name, manifest_name) == 0))
			continue;
		key = io_path(&rel, sub, f->d_name);
		rc = buf_ok(&rel, e);
		if (rc == -1 || bsearch(&key, c->known, c->m->nfile,
		    sizeof(*c->known), by_name))
			continue;
		if (!*sub && strncmp(f->d_name, "rank-", 5) == 0 &&
		    is_dir(c->dir, f->d_name))
			rc = find_extra(c, f->d_name, e);
		else
			c->extra(c->arg, rel.p);
	}
	if (d)
		closedir(d);
	buf_free(&path);
	buf_free(&rel);
	return rc;
}

static int
check_all(struct check *c, struct err *e)
{
	uint64_t total = 0;
	int rc = 0;

	for (size_t i = 0; i < c->m->nfile; i++) {
		c->known[i] = c->m->file[i].path;
		total += c->m->file[i].bytes;
	}
	qsort(c->known, c->m->nfile, sizeof(*c->known), by_name);
	bar_start(&c->bar, "verify", "B", total);
	for (size_t i = 0; i < c->m->nfile && rc == 0; i++)
		rc = check_file(c, &c->m->file[i], e);
	bar_end(&c->bar);
	return rc == 0 ? find_extra(c, "", e) : -1;
}

int
shard_verify(const char *dir,
    void (*bad)(void *arg, const char *path, const char *why),
    void (*extra)(void *arg, const char *path), void *arg, size_t *nbad,
    struct err *e)
{
	struct shard_manifest *m;
	struct check c = { .dir = dir, .bad = bad, .extra = extra,
	    .arg = arg, .nbad = nbad };
	int rc = -1;

	*nbad = 0;
	if (shard_open_manifest(&m, dir, e) == -1)
		return -1;
	c.m = m;
	c.known = mem_new(m->nfile, sizeof(*c.known), e);
	if (c.known)
		rc = check_all(&c, e);
	free(c.known);
	shard_close_manifest(&m);
	return rc;
}
