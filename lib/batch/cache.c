/*
 * cache: a model directory's rank files, made once.
 *
 * The key is the directory's real path and what tells that a file in it has
 * changed (name, size, time), not the bytes: hashing hundreds of gigabytes at
 * every start would be no cache.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "batch/batch.h"
#include "shard/shard.h"
#include "store/store.h"

enum { KEY = 16 };			/* hex digits in a name */

static int
cache_root(struct buf *b, struct err *e)
{
	const char *own = getenv("DSI_CACHE"), *xdg = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");

	if (own && *own)
		buf_puts(b, own);
	else if (xdg && *xdg == '/')
		buf_printf(b, "%s/dsi", xdg);
	else if (home && *home)
		buf_printf(b, "%s/.cache/dsi", home);
	else
		return err_set(e, ERR_CALLER, "DSI_CACHE, XDG_CACHE_HOME and "
		    "HOME are unset: nowhere to keep rank files");
	return buf_ok(b, e);
}

/* One line for each plain file, in no order: the caller sorts. */
static int
list_file(int dir, const char *name, struct buf *b)
{
	struct stat st;

	if (fstatat(dir, name, &st, 0) == -1 || !S_ISREG(st.st_mode))
		return 0;
	buf_printf(b, "%s %lld %lld.%09ld", name, (long long)st.st_size,
	    (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	return 1;
}

static int
by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void
put_as(struct buf *b, const struct cache_as *as)
{
	const struct layout *l = &as->layout;

	buf_printf(b, "tp%u dp%u pp%u ep%u quantize %d dummy %d %d\n", l->tp,
	    l->dp, l->pp, l->ep, (int)as->quantize, as->dummy,
	    as->hollow);
}

/* A config.json alone. */
static int
file_key(const char *real, const struct cache_as *as, char key[65],
    struct err *e)
{
	struct buf b = {0};
	int rc = -1;

	buf_printf(&b, "%s %s\n", dsi_version, real);
	put_as(&b, as);
	if (list_file(AT_FDCWD, real, &b) && buf_ok(&b, e) == 0)
		rc = sha256_mem(b.p, b.n, key, e);
	buf_free(&b);
	return rc;
}

static int
make_key(const char *real, const struct cache_as *as, char key[65],
    struct err *e)
{
	struct dirent **d = NULL;
	struct buf b = {0};
	int n, fd, rc = -1;

	fd = open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	n = fd == -1 ? -1 : scandir(real, &d, NULL, by_name);
	if (n == -1) {
		err_sys(e, "read %s", real);
		goto out;
	}
	buf_printf(&b, "%s %s\n", dsi_version, real);
	put_as(&b, as);
	for (int i = 0; i < n; i++) {
		if (d[i]->d_name[0] != '.' && list_file(fd, d[i]->d_name, &b))
			buf_putc(&b, '\n');
		free(d[i]);
	}
	free(d);
	if (buf_ok(&b, e) == 0)
		rc = sha256_mem(b.p, b.n, key, e);
out:
	if (fd != -1)
		close(fd);
	buf_free(&b);
	return rc;
}

/* Waits for another run that makes the same files. */
static int
lock(const char *dir, void (*note)(const char *), struct err *e)
{
	struct buf b = {0};
	int fd = -1;

	buf_printf(&b, "%s.lock", dir);
	if (buf_ok(&b, e) == -1)
		goto out;
	fd = open(b.p, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (fd == -1) {
		err_sys(e, "open %s", b.p);
		goto out;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		goto out;
	note("waiting for another run that shards this model");
	while (flock(fd, LOCK_EX) == -1) {
		if (errno == EINTR)
			continue;
		err_sys(e, "lock %s", b.p);
		close(fd);
		fd = -1;
		break;
	}
out:
	buf_free(&b);
	return fd;
}

static bool
is_complete(const char *dir)
{
	struct shard_manifest *m;

	if (shard_open_manifest(&m, dir, NULL) == -1)
		return false;
	shard_close_manifest(&m);
	return true;
}

static int
fill(const char *model, const char *dir, const struct cache_as *as,
    void (*note)(const char *), struct err *e)
{
	struct shard_opts o = {
		.model = model, .out = dir, .layout = as->layout,
		.quantize = as->quantize, .dummy = as->dummy,
		.hollow = as->hollow,
	};
	struct buf text = {0};
	int fd, rc = 0;

	fd = lock(dir, note, e);
	if (fd == -1)
		return -1;
	if (!is_complete(dir)) {
		buf_printf(&text, "sharding %s into %s, once", model, dir);
		if (text.p)
			note(text.p);
		buf_free(&text);
		rc = shard_run(&o, e);
	}
	close(fd);
	return rc;
}

static bool
is_file(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static int
from_model(struct buf *out, const char *model, const char *real,
    const struct cache_as *as, void (*note)(const char *), struct err *e)
{
	const char *base = strrchr(real, '/');
	char key[65];

	if ((is_file(real) ? file_key(real, as, key, e) :
	    make_key(real, as, key, e)) == -1 || cache_root(out, e) == -1 ||
	    io_mkdirs(out->p, e) == -1)
		return -1;
	buf_printf(out, "/%.80s-%.*s", base && base[1] ? base + 1 : "model",
	    KEY, key);
	if (buf_ok(out, e) == -1)
		return -1;
	return is_complete(out->p) ? 0 : fill(model, out->p, as, note, e);
}

static int
ready_made(struct buf *out, const char *dir, const struct cache_as *as,
    struct err *e)
{
	const struct layout *w = &as->layout;
	struct shard_manifest *m;
	struct layout l;

	if (shard_open_manifest(&m, dir, e) == -1)
		return -1;
	l = m->layout;
	shard_close_manifest(&m);
	if (memcmp(&l, w, sizeof(l)) != 0)
		return err_set(e, ERR_CALLER, "%s: made for tensor %u, data "
		    "%u, pipeline %u, expert %u; asked for %u, %u, %u, %u",
		    dir, l.tp, l.dp, l.pp, l.ep, w->tp, w->dp, w->pp, w->ep);
	buf_puts(out, dir);
	return buf_ok(out, e);
}

int
cache_model(struct buf *out, const char *model, const struct cache_as *as,
    void (*note)(const char *), struct err *e)
{
	struct buf config = {0};
	char *real = NULL;
	int rc = -1;

	buf_clear(out);
	if (shard_peek(model))
		return ready_made(out, model, as, e);
	io_path(&config, model, "config.json");
	if (buf_ok(&config, e) == -1)
		goto out;
	real = realpath(model, NULL);
	if (!real) {
		err_sys(e, "%s", model);
		if (e && (errno == ENOENT || errno == ENOTDIR))
			e->code = ERR_CALLER;
		goto out;
	}
	if (access(config.p, F_OK) == -1 && !(as->dummy && is_file(real))) {
		err_set(e, ERR_CALLER, "%s has neither a config.json (a "
		    "model) nor a manifest.json (rank files)", model);
		goto out;
	}
	rc = from_model(out, model, real, as, note, e);
out:
	free(real);
	buf_free(&config);
	return rc;
}
