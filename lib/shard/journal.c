/*
 * journal: manifest.part, one JSON line for each finished file.
 *
 * A line is written only after its file has been synced and renamed, and is
 * synced itself before the next file begins; so after a crash the journal may
 * know less than the disk holds, never more.  A line cut off at the end is
 * that of a file that will be made again.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json/json.h"
#include "shard/shard_priv.h"

enum { JOURNAL_MAX = 256 << 20 };

/* ---- reading ---- */

static int
by_path(const void *key, const void *member)
{
	const struct target *const *t = member;

	return strcmp(key, (*t)->path);
}

static int
cmp_target(const void *a, const void *b)
{
	const struct target *const *x = a, *const *y = b;

	return strcmp((*x)->path, (*y)->path);
}

/* The targets by path: a big world has some ten thousand. */
static struct target **
index_targets(struct job *j, struct err *e)
{
	struct target **t = mem_new(j->ntarget, sizeof(*t), e);

	for (size_t i = 0; t && i < j->ntarget; i++)
		t[i] = &j->target[i];
	if (t)
		qsort(t, j->ntarget, sizeof(*t), cmp_target);
	return t;
}

/* Believes f if the file is there with that size, and the plan agrees. */
static void
mark(const struct job *j, struct target **index, const struct shard_file *f)
{
	struct target **t = bsearch(f->path, index, j->ntarget,
	    sizeof(*index), by_path);
	struct buf path = {0};
	struct stat st;

	if (!t || (*t)->bytes != f->bytes)
		return;
	io_path(&path, j->o->out, f->path);
	if (!path.oom && stat(path.p, &st) == 0 && S_ISREG(st.st_mode) &&
	    (uint64_t)st.st_size == f->bytes) {
		memcpy((*t)->sha, f->sha, sizeof(f->sha));
		(*t)->done = true;
	}
	buf_free(&path);
}

static int
other(const struct job *j, const struct layout *l, const char *quant,
    const char *source, struct err *e)
{
	return err_set(e, ERR_CALLER, "%s holds another conversion (tp %u dp "
	    "%u pp %u ep %u, quantize %s, of %s); remove it or choose another "
	    "-o", j->o->out, l->tp, l->dp, l->pp, l->ep, quant, source);
}

static bool
extras_there(const struct job *j)
{
	struct buf path = {0};
	struct stat st;
	bool yes = true;

	for (unsigned i = 0; i < j->nextra && yes; i++) {
		io_path(&path, j->o->out, j->extra[i].name);
		yes = !path.oom && stat(path.p, &st) == 0 &&
		    (uint64_t)st.st_size == j->extra[i].text.n;
	}
	buf_free(&path);
	return yes;
}

static int
load_manifest(struct job *j, struct target **index, bool *complete,
    struct err *e)
{
	struct shard_manifest *m;
	int rc = 0;

	if (shard_open_manifest(&m, j->o->out, e) == -1)
		return err_wrap(e, "remove it or choose another -o");
	if (strcmp(m->conversion, j->digest) != 0)
		rc = other(j, &m->layout, quant_name(m->quantize), m->source,
		    e);
	for (size_t i = 0; i < m->nfile && rc == 0; i++)
		mark(j, index, &m->file[i]);
	*complete = rc == 0 && extras_there(j);
	for (size_t i = 0; i < j->ntarget && *complete; i++)
		*complete = j->target[i].done;
	shard_close_manifest(&m);
	return rc;
}

/* The first line: of which conversion is it? */
static int
check_first(const struct job *j, const struct json *v, struct err *e)
{
	const char *digest = "", *quant = "?", *source = "?";
	const struct json *lay = json_get(v, "layout");
	int64_t n[4] = {0};

	json_opt_str(v, "conversion", &digest, NULL);
	json_opt_str(v, "quantize", &quant, NULL);
	json_opt_str(v, "source", &source, NULL);
	json_opt_i64(lay, "tp", 1, PLAN_MAX_RANKS, &n[0], NULL);
	json_opt_i64(lay, "dp", 1, PLAN_MAX_RANKS, &n[1], NULL);
	json_opt_i64(lay, "pp", 1, PLAN_MAX_RANKS, &n[2], NULL);
	json_opt_i64(lay, "ep", 1, PLAN_MAX_RANKS, &n[3], NULL);
	if (strcmp(digest, j->digest) == 0)
		return 0;
	return other(j, &(struct layout){ (unsigned)n[0], (unsigned)n[1],
	    (unsigned)n[2], (unsigned)n[3] }, quant, source, e);
}

/* Every line that is whole; the first one that isn't ends the journal. */
static int
read_lines(struct job *j, struct target **index, const struct buf *b,
    struct err *e)
{
	const char *p = b->p, *end = b->p + b->n, *nl;
	bool first = true;

	for (; (nl = memchr(p, '\n', (size_t)(end - p))); p = nl + 1) {
		struct shard_file f;
		struct json *v;
		int rc = 0;

		if (json_parse(&v, p, (size_t)(nl - p), NULL) == -1)
			break;
		if (first) {
			rc = check_first(j, v, e);
		} else if (file_parse(&f, v, NULL) == 0) {
			mark(j, index, &f);
			free(f.path);
		}
		first = false;
		json_free(&v);
		if (rc == -1)
			return -1;
	}
	return 0;
}

/* What is in OUT without any manifest isn't ours. */
static int
check_empty(const char *dir, struct err *e)
{
	DIR *d = opendir(dir);
	const struct dirent *f;
	int rc = 0;

	if (!d)
		return err_sys(e, "open %s", dir);
	while (rc == 0 && (f = readdir(d)))
		if (strcmp(f->d_name, ".") != 0 &&
		    strcmp(f->d_name, "..") != 0 &&
		    strcmp(f->d_name, "lost+found") != 0 &&
		    strncmp(f->d_name, manifest_part,
		    strlen(manifest_part)) != 0)
			rc = err_set(e, ERR_CALLER, "%s is not empty (%s) and "
			    "holds no rank files; choose another -o", dir,
			    f->d_name);
	closedir(d);
	return rc;
}

static int
load_part(struct job *j, struct target **index, const char *path,
    struct err *e)
{
	struct buf b = {0};
	int rc = io_slurp(path, JOURNAL_MAX, &b, e);

	if (rc == 0)
		rc = memchr(b.p, '\n', b.n) ? read_lines(j, index, &b, e) :
		    check_empty(j->o->out, e);
	buf_free(&b);
	return rc;
}

int
journal_load(struct job *j, bool *complete, struct err *e)
{
	struct target **index = index_targets(j, e);
	struct buf path = {0};
	struct stat st;
	int rc = -1;

	*complete = false;
	io_path(&path, j->o->out, manifest_name);
	if (!index || buf_ok(&path, e) == -1)
		goto out;
	if (stat(path.p, &st) == 0) {
		rc = load_manifest(j, index, complete, e);
		goto out;
	}
	io_path(&path, j->o->out, manifest_part);
	if (buf_ok(&path, e) == -1)
		goto out;
	rc = stat(path.p, &st) == 0 ? load_part(j, index, path.p, e) :
	    check_empty(j->o->out, e);
out:
	free(index);
	buf_free(&path);
	return rc;
}

/* ---- writing ---- */

static void
put_done(struct buf *b, const struct job *j, size_t i0, size_t i1)
{
	for (size_t i = i0; i < i1; i++) {
		const struct target *t = &j->target[i];

		if (!t->done)
			continue;
		file_put(b, t->path, (int)t->rank, t->bytes, t->sha);
		buf_putc(b, '\n');
	}
}

static void
put_first(struct buf *b, const struct job *j)
{
	const struct layout *l = &j->o->layout;

	buf_printf(b, "{\"format\":\"dsi-shard journal\",\"version\":%d,"
	    "\"conversion\":\"%s\",\"layout\":{\"tp\":%u,\"dp\":%u,\"pp\":%u,"
	    "\"ep\":%u},\"quantize\":\"%s\",\"source\":", SHARD_VERSION,
	    j->digest, l->tp, l->dp, l->pp, l->ep,
	    quant_name(j->o->quantize));
	json_put_str(b, j->o->model, strlen(j->o->model));
	buf_puts(b, "}\n");
}

int
journal_open(struct journal *jn, const struct job *j, struct err *e)
{
	struct buf b = {0}, path = {0};
	int rc = -1;

	*jn = (struct journal){ .fd = -1 };
	put_first(&b, j);
	put_done(&b, j, 0, j->ntarget);
	io_path(&path, j->o->out, manifest_part);
	if (buf_ok(&b, e) == 0 && buf_ok(&path, e) == 0)
		rc = io_write_file(path.p, b.p, b.n, e);
	buf_free(&b);
	if (rc == 0) {
		jn->path = path.p;
		jn->fd = open(path.p, O_WRONLY | O_APPEND | O_CLOEXEC);
		if (jn->fd != -1)
			return 0;
		jn->path = NULL;
		rc = err_sys(e, "open %s", path.p);
	}
	buf_free(&path);
	return rc;
}

int
journal_add(struct journal *jn, const struct job *j, size_t i0, size_t i1,
    struct err *e)
{
	struct buf b = {0};
	int rc = -1;

	put_done(&b, j, i0, i1);
	if (buf_ok(&b, e) == 0)
		rc = io_write(jn->fd, b.p, b.n, e);
	buf_free(&b);
	if (rc == -1)
		return err_wrap(e, "%s", jn->path);
	if (fsync(jn->fd) == -1 && errno != EINVAL)
		return err_sys(e, "sync %s", jn->path);
	return 0;
}

void
journal_close(struct journal *jn)
{
	if (jn->fd != -1)
		close(jn->fd);
	free(jn->path);
	*jn = (struct journal){ .fd = -1 };
}
