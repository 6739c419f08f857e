/*
 * run: a conversion from start to end.
 *
 * OUT passes through: locked; journal started; rank files, each written as
 * NAME.part, synced and renamed; manifest.json; journal removed.  Killed at
 * any point, the next run finds out from the journal where it was.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "shard/shard_priv.h"

enum {
	BATCH = 512,			/* files that are open at a time */
	BLOCK = 4096,			/* files fill whole blocks of a disk */
};

struct work {
	struct job *j;
	struct journal jn;
	struct items items;
	struct scratch scratch;
	struct bar bar;
};

/* ---- before ---- */

static int
lock(const char *out, int *fd, struct err *e)
{
	*fd = open(out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*fd == -1)
		return err_sys(e, "open %s", out);
	if (flock(*fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno == EWOULDBLOCK)
		return err_set(e, ERR_SYSTEM, "%s: another run is writing "
		    "there", out);
	return err_sys(e, "lock %s", out);
}

/* path + suffix below OUT */
static int
out_path(struct buf *b, const struct job *j, const char *path,
    const char *suffix, struct err *e)
{
	io_path(b, j->o->out, path);
	buf_puts(b, suffix);
	return buf_ok(b, e);
}

static void
out_unlink(const struct job *j, const char *path, const char *suffix)
{
	struct buf b = {0};

	if (out_path(&b, j, path, suffix, NULL) == 0)
		unlink(b.p);
	buf_free(&b);
}

/* "manifest.part.123.0.tmp" and the like, from io_write_file */
static bool
is_left_over(const struct job *j, const char *name)
{
	size_t n = strlen(name);

	if (n < 4 || strcmp(name + n - 4, ".tmp") != 0)
		return false;
	if (strncmp(name, "manifest.", strlen("manifest.")) == 0)
		return true;
	for (unsigned i = 0; i < j->nextra; i++) {
		size_t m = strlen(j->extra[i].name);

		if (strncmp(name, j->extra[i].name, m) == 0 && name[m] == '.')
			return true;
	}
	return false;
}

/* Removes what a killed run left half done, so that its room counts. */
static int
clean(const struct job *j, struct err *e)
{
	DIR *d = opendir(j->o->out);
	const struct dirent *f;

	if (!d)
		return err_sys(e, "open %s", j->o->out);
	while ((f = readdir(d)))
		if (is_left_over(j, f->d_name))
			out_unlink(j, f->d_name, "");
	closedir(d);
	for (size_t i = 0; i < j->ntarget; i++) {
		if (j->target[i].done)
			continue;
		out_unlink(j, j->target[i].path, ".part");
		out_unlink(j, j->target[i].path, "");
	}
	return 0;
}

static uint64_t
blocks(uint64_t bytes)
{
	return (bytes + BLOCK - 1) / BLOCK * BLOCK;
}

static int
check_space(const struct job *j, struct err *e)
{
	struct statvfs vfs;
	uint64_t need = BLOCK, have;

	if (j->o->hollow)
		return 0;
	for (size_t i = 0; i < j->ntarget; i++)
		if (!j->target[i].done)
			need += blocks(j->target[i].bytes);
	for (unsigned i = 0; i < j->nextra; i++)
		need += blocks(j->extra[i].text.n);
	if (statvfs(j->o->out, &vfs) == -1)
		return err_sys(e, "free space of %s", j->o->out);
	have = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	if (need <= have)
		return 0;
	return err_set(e, ERR_SYSTEM, "%s: %llu bytes are to be written and "
	    "%llu are free: %llu more are needed", j->o->out,
	    (unsigned long long)need, (unsigned long long)have,
	    (unsigned long long)(need - have));
}

/* A copy keeps its time: that is what answers are dated with, whatever the
 * layout. */
static int
write_extras(const struct job *j, struct err *e)
{
	struct buf path = {0};
	int rc = 0;

	for (unsigned i = 0; i < j->nextra && rc == 0; i++) {
		const struct extra *x = &j->extra[i];
		const struct timespec at[2] = { x->when, x->when };

		rc = out_path(&path, j, x->name, "", e);
		if (rc == 0)
			rc = io_write_file(path.p, x->text.p, x->text.n, e);
		if (rc == 0)
			utimensat(AT_FDCWD, path.p, at, 0);
	}
	buf_free(&path);
	return rc;
}

static int
each_rank_dir(const struct job *j, size_t i0, size_t i1,
    int (*fn)(const char *dir, struct err *e), struct err *e)
{
	struct buf path = {0};
	char name[32];
	int rc = 0;

	for (size_t i = i0; i < i1 && rc == 0; i++) {
		snprintf(name, sizeof(name), "rank-%05u", j->target[i].rank);
		rc = out_path(&path, j, name, "", e);
		if (rc == 0)
			rc = fn(path.p, e);
	}
	buf_free(&path);
	return rc;
}

/* ---- rank files ---- */

static int
start_file(struct work *w, const struct target *t, struct part *p,
    struct err *e)
{
	struct buf path = {0};
	uint64_t bytes;
	int rc = out_path(&path, w->j, t->path, ".part", e);

	p->plan = &w->j->plan[t->rank];
	if (rc == 0)
		rc = store_create(&p->w, path.p, e);
	if (rc == 0 && w->j->o->hollow)
		store_hollow(p->w);
	if (rc == 0)
		rc = job_declare(w->j, &w->items, t->rank, p->w, &bytes, e);
	buf_free(&path);
	return rc;
}

static int
finish_file(struct work *w, struct target *t, struct part *p, struct err *e)
{
	struct buf from = {0}, to = {0};
	int rc = store_finish(&p->w, t->sha, e);

	if (rc == 0)
		rc = out_path(&from, w->j, t->path, ".part", e);
	if (rc == 0)
		rc = out_path(&to, w->j, t->path, "", e);
	if (rc == 0 && rename(from.p, to.p) == -1)
		rc = err_sys(e, "rename to %s", to.p);
	buf_free(&from);
	buf_free(&to);
	return rc;
}

static int
write_files(struct work *w, size_t i0, size_t i1, struct part *p,
    struct err *e)
{
	struct job *j = w->j;
	unsigned n = 0;

	for (size_t i = i0; i < i1; i++)
		if (!j->target[i].done &&
		    start_file(w, &j->target[i], &p[n++], e) == -1)
			return -1;
	if (!j->o->hollow && items_stream(&w->items, &j->src, &j->arch, p, n,
	    &w->scratch, &w->bar, e) == -1)
		return -1;
	n = 0;
	for (size_t i = i0; i < i1; i++)
		if (!j->target[i].done &&
		    finish_file(w, &j->target[i], &p[n++], e) == -1)
			return -1;
	return each_rank_dir(j, i0, i1, io_sync_dir, e);
}

/* Targets [i0, i1), all of one unit. */
static int
write_batch(struct work *w, size_t i0, size_t i1, struct err *e)
{
	struct part *p = mem_new(i1 - i0, sizeof(*p), e);
	int rc;

	if (!p)
		return -1;
	rc = write_files(w, i0, i1, p, e);
	for (size_t i = i0; i < i1; i++) {
		struct target *t = &w->j->target[i];

		store_abandon(&p[i - i0].w);
		if (rc == -1 && !t->done)
			out_unlink(w->j, t->path, ".part");
		else
			t->done = true;
	}
	free(p);
	return rc == -1 ? -1 : journal_add(&w->jn, w->j, i0, i1, e);
}

static int
write_units(struct work *w, struct err *e)
{
	struct job *j = w->j;
	size_t i0, i1;

	for (i0 = 0; i0 < j->ntarget; i0 = i1) {
		unsigned u = j->target[i0].unit;
		bool open = false;

		for (i1 = i0; i1 < j->ntarget && i1 - i0 < BATCH &&
		    j->target[i1].unit == u; i1++)
			open |= !j->target[i1].done;
		if (!open)
			continue;
		if (items_list(&w->items, &j->src, &j->arch, &j->unit[u],
		    j->o->quantize, e) == -1 ||
		    write_batch(w, i0, i1, e) == -1)
			return -1;
	}
	return 0;
}

/* ---- the whole ---- */

static int
write_all(struct work *w, struct err *e)
{
	struct job *j = w->j;
	uint64_t left = 0;
	int rc;

	for (size_t i = 0; i < j->ntarget; i++)
		left += j->target[i].done ? 0 : j->target[i].bytes;
	if (clean(j, e) == -1 || check_space(j, e) == -1 ||
	    journal_open(&w->jn, j, e) == -1)
		return -1;
	out_unlink(j, manifest_name, "");
	if (write_extras(j, e) == -1 ||
	    each_rank_dir(j, 0, j->ntarget, io_mkdirs, e) == -1)
		return -1;
	bar_start(&w->bar, "shard", "B", left);
	rc = write_units(w, e);
	bar_end(&w->bar);
	if (rc == -1)
		return err_wrap(e, "stopped; the files that are finished stay, "
		    "and the same command goes on from there");
	if (manifest_write(j, e) == -1)
		return -1;
	out_unlink(j, manifest_part, "");
	return io_sync_dir(j->o->out, e);
}

static void
count_up(const struct job *j, struct shard_done *d)
{
	*d = (struct shard_done){0};
	for (size_t i = 0; i < j->ntarget; i++) {
		d->files++;
		d->kept += j->target[i].done;
		d->bytes += j->target[i].bytes;
	}
}

static int
run_locked(struct job *j, struct shard_done *d, struct err *e)
{
	struct work w = { .j = j, .jn = { .fd = -1 } };
	bool complete;
	int rc = 0;

	if (journal_load(j, &complete, e) == -1)
		return -1;
	count_up(j, d);
	d->already = complete;
	if (complete)
		out_unlink(j, manifest_part, "");
	else
		rc = write_all(&w, e);
	journal_close(&w.jn);
	items_free(&w.items);
	scratch_free(&w.scratch);
	return rc;
}

int
shard_run(const struct shard_opts *o, struct err *e)
{
	struct shard_done d = {0};
	struct job j;
	int fd = -1, rc = -1;

	if (job_open(&j, o, e) == -1)
		return -1;
	if (io_mkdirs(o->out, e) == 0 && lock(o->out, &fd, e) == 0)
		rc = run_locked(&j, &d, e);
	if (fd != -1)
		close(fd);
	job_close(&j);
	if (rc == 0 && o->done)
		*o->done = d;
	return rc;
}

int
shard_plan(const struct shard_opts *o,
    int (*fn)(void *arg, unsigned rank, uint64_t bytes, const char *path),
    void *arg, struct err *e)
{
	struct job j;
	int rc = 0;

	if (job_open(&j, o, e) == -1)
		return -1;
	for (unsigned r = 0; r < j.world && rc == 0; r++)
		for (size_t i = 0; i < j.ntarget && rc == 0; i++)
			if (j.target[i].rank == r)
				rc = fn(arg, r, j.target[i].bytes,
				    j.target[i].path);
	job_close(&j);
	return 0;
}

int
shard_sizes(struct shard_sizes *s, const struct shard_opts *o, struct err *e)
{
	struct job j;
	int rc = -1;

	*s = (struct shard_sizes){0};
	if (job_open(&j, o, e) == -1)
		return -1;
	s->world = j.world;
	s->rank = mem_new(j.world, sizeof(*s->rank), e);
	if (s->rank) {
		for (size_t i = 0; i < j.ntarget; i++)
			s->rank[j.target[i].rank] += j.target[i].bytes;
		snprintf(s->layout, sizeof(s->layout), "%s", j.src.layout);
		rc = 0;
	}
	job_close(&j);
	return rc;
}

void
shard_sizes_free(struct shard_sizes *s)
{
	free(s->rank);
	*s = (struct shard_sizes){0};
}
