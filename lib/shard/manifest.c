/*
 * manifest: manifest.json, written and read.
 *
 * It is written last and whole, so that a directory with one is complete.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "json/json.h"
#include "shard/shard_priv.h"

enum { MANIFEST_MAX = 256 << 20 };

const char manifest_name[] = "manifest.json";
const char manifest_part[] = "manifest.part";

/* ---- writing ---- */

void
file_put(struct buf *b, const char *path, int rank, uint64_t bytes,
    const char *sha)
{
	buf_puts(b, "{\"path\":");
	json_put_str(b, path, strlen(path));
	if (rank < 0)
		buf_puts(b, ",\"rank\":null");
	else
		buf_printf(b, ",\"rank\":%d", rank);
	buf_printf(b, ",\"bytes\":%llu,\"sha256\":\"%s\"}",
	    (unsigned long long)bytes, sha);
}

static void
put_string(struct buf *b, const char *key, const char *val)
{
	buf_printf(b, "\"%s\":", key);
	json_put_str(b, val, strlen(val));
}

static void
put_head(struct buf *b, const struct job *j)
{
	const struct layout *l = &j->o->layout;

	buf_printf(b, "{\"format\":\"dsi-shard\",\"version\":%d,\n",
	    SHARD_VERSION);
	put_string(b, "dsi", dsi_version);
	buf_printf(b, ",\n\"layout\":{\"tp\":%u,\"dp\":%u,\"pp\":%u,"
	    "\"ep\":%u,\"world\":%u},\n\"quantize\":\"%s\",\n", l->tp, l->dp,
	    l->pp, l->ep, j->world, quant_name(j->o->quantize));
	put_string(b, "conversion", j->digest);
	buf_puts(b, ",\n\"source\":{");
	put_string(b, "dir", j->o->model);
	buf_putc(b, ',');
	put_string(b, "layout", j->src.layout);
	buf_putc(b, ',');
	put_string(b, "digest", j->src.digest);
	buf_puts(b, ",\"revision\":null},\n\"config\":");
	buf_put(b, j->extra[0].text.p, j->extra[0].text.n);
	buf_puts(b, ",\n\"files\":[");
}

static void
put_files(struct buf *b, const struct job *j)
{
	const char *sep = "\n";

	for (unsigned i = 0; i < j->nextra; i++, sep = ",\n") {
		const struct extra *x = &j->extra[i];

		buf_puts(b, sep);
		file_put(b, x->name, -1, x->text.n, x->sha);
	}
	for (unsigned r = 0; r < j->world; r++) {
		for (size_t i = 0; i < j->ntarget; i++) {
			const struct target *t = &j->target[i];

			if (t->rank != r)
				continue;
			buf_puts(b, sep);
			file_put(b, t->path, (int)r, t->bytes, t->sha);
		}
	}
}

int
manifest_write(const struct job *j, struct err *e)
{
	struct buf b = {0}, path = {0};
	int rc = -1;

	put_head(&b, j);
	put_files(&b, j);
	buf_puts(&b, "\n]}\n");
	io_path(&path, j->o->out, manifest_name);
	if (buf_ok(&b, e) == 0 && buf_ok(&path, e) == 0)
		rc = io_write_file(path.p, b.p, b.n, e);
	buf_free(&b);
	buf_free(&path);
	return rc;
}

/* ---- reading ---- */

bool
path_plain(const char *path)
{
	static const char set[] = "abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/";

	return *path && *path != '/' && path[strspn(path, set)] == '\0' &&
	    strcmp(path, "..") != 0 && strncmp(path, "../", 3) != 0 &&
	    !strstr(path, "/../") && !strstr(path, "//") &&
	    (strlen(path) < 3 || strcmp(path + strlen(path) - 3, "/.."));
}

static char *
keep(const char *s, struct err *e)
{
	char *p = strdup(s);

	if (!p)
		err_set(e, ERR_SYSTEM, "out of memory");
	return p;
}

/* A copy of member k, which must be there. */
static char *
need_str(const struct json *o, const char *k, struct err *e)
{
	const char *s = NULL;

	if (json_opt_str(o, k, &s, e) == -1)
		return NULL;
	if (!s) {
		err_set(e, ERR_CALLER, "%s is missing", k);
		return NULL;
	}
	return keep(s, e);
}

static int
need_int(const struct json *o, const char *k, int64_t min, int64_t max,
    int64_t *out, struct err *e)
{
	*out = min - 1;
	if (json_opt_i64(o, k, min, max, out, e) == -1)
		return -1;
	if (*out < min)
		return err_set(e, ERR_CALLER, "%s is missing", k);
	return 0;
}

int
file_parse(struct shard_file *f, const struct json *v, struct err *e)
{
	int64_t rank = -1, bytes;
	const char *sha = "";

	*f = (struct shard_file){0};
	if (need_int(v, "bytes", 0, INT64_C(1) << 53, &bytes, e) == -1 ||
	    json_opt_i64(v, "rank", 0, PLAN_MAX_RANKS - 1, &rank, e) == -1 ||
	    json_opt_str(v, "sha256", &sha, e) == -1)
		return -1;
	if (strlen(sha) != 64 || sha[strspn(sha, "0123456789abcdef")])
		return err_set(e, ERR_CALLER, "sha256 must be 64 hexadecimal "
		    "digits");
	f->path = need_str(v, "path", e);
	if (!f->path)
		return -1;
	if (!path_plain(f->path)) {
		err_set(e, ERR_CALLER, "path \"%s\" is not one that dsi-shard "
		    "writes", f->path);
		free(f->path);
		f->path = NULL;
		return -1;
	}
	f->rank = (int)rank;
	f->bytes = (uint64_t)bytes;
	snprintf(f->sha, sizeof(f->sha), "%s", sha);
	return 0;
}

static int
read_layout(struct layout *l, const struct json *v, struct err *e)
{
	static const char *const key[] = { "tp", "dp", "pp", "ep" };
	unsigned *const to[] = { &l->tp, &l->dp, &l->pp, &l->ep };
	int64_t n;

	for (int i = 0; i < 4; i++) {
		if (need_int(v, key[i], 1, PLAN_MAX_RANKS, &n, e) == -1)
			return err_wrap(e, "layout");
		*to[i] = (unsigned)n;
	}
	return 0;
}

static int
read_files(struct shard_manifest *m, const struct json *v, struct err *e)
{
	const struct json *c;

	if (!v || json_type(v) != JSON_ARR)
		return err_set(e, ERR_CALLER, "files must be an array");
	m->file = mem_new(json_len(v), sizeof(*m->file), e);
	if (!m->file)
		return -1;
	for (c = json_first(v); c; c = json_next(c)) {
		if (file_parse(&m->file[m->nfile], c, e) == -1)
			return err_wrap(e, "files[%zu]", m->nfile);
		m->nfile++;
	}
	return 0;
}

static int
read_head(struct shard_manifest *m, const struct json *v, struct err *e)
{
	const char *format = "", *quant = "none";
	int64_t version;

	if (json_opt_str(v, "format", &format, e) == -1 ||
	    json_opt_str(v, "quantize", &quant, e) == -1)
		return -1;
	if (strcmp(format, "dsi-shard") != 0)
		return err_set(e, ERR_CALLER, "not a manifest of rank files");
	if (need_int(v, "version", 0, INT32_MAX, &version, e) == -1)
		return -1;
	if (version != SHARD_VERSION)
		return err_set(e, ERR_CALLER, "rank files of version %lld, "
		    "this dsi reads version %d: shard the model again",
		    (long long)version, SHARD_VERSION);
	m->quantize = strcmp(quant, "int8") == 0 ? SHARD_INT8 : SHARD_NONE;
	return read_layout(&m->layout, json_get(v, "layout"), e);
}

static int
read_manifest(struct shard_manifest *m, const struct json *v, struct err *e)
{
	const struct json *source = json_get(v, "source");

	if (read_head(m, v, e) == -1 ||
	    !(m->dsi = need_str(v, "dsi", e)) ||
	    !(m->conversion = need_str(v, "conversion", e)) ||
	    !(m->source = need_str(source, "dir", e)) ||
	    !(m->source_layout = need_str(source, "layout", e)) ||
	    !(m->source_digest = need_str(source, "digest", e)))
		return -1;
	return read_files(m, json_get(v, "files"), e);
}

static bool
exists(const char *dir, const char *name)
{
	struct buf path = {0};
	struct stat st;
	bool yes;

	io_path(&path, dir, name);
	yes = !path.oom && stat(path.p, &st) == 0 && S_ISREG(st.st_mode);
	buf_free(&path);
	return yes;
}

/* manifest.json is a common name: look inside before claiming it. */
bool
shard_peek(const char *dir)
{
	struct buf path = {0};
	struct json *v = NULL;
	const char *format = "";
	bool yes = exists(dir, manifest_part);

	io_path(&path, dir, manifest_name);
	if (!yes && !path.oom && exists(dir, manifest_name) &&
	    json_load(&v, path.p, MANIFEST_MAX, NULL) == 0)
		yes = json_opt_str(v, "format", &format, NULL) == 0 &&
		    strcmp(format, "dsi-shard") == 0;
	if (v)
		json_free(&v);
	buf_free(&path);
	return yes;
}

static int
load(struct shard_manifest *m, const char *dir, struct err *e)
{
	struct buf path = {0};
	struct json *v = NULL;
	int rc = -1;

	io_path(&path, dir, manifest_name);
	if (buf_ok(&path, e) == -1)
		goto out;
	if (!exists(dir, manifest_name) && exists(dir, manifest_part)) {
		err_set(e, ERR_CALLER, "%s: dsi-shard did not finish here; run "
		    "it again, and it will go on where it was", dir);
		goto out;
	}
	if (json_load(&v, path.p, MANIFEST_MAX, e) == -1)
		goto out;
	rc = read_manifest(m, v, e);
	if (rc == -1)
		err_wrap(e, "%s", path.p);
	json_free(&v);
	io_path(&path, dir, "config.json");
	if (rc == 0 && ((rc = buf_ok(&path, e)) == 0))
		rc = (m->config = keep(path.p, e)) ? 0 : -1;
out:
	buf_free(&path);
	return rc;
}

int
shard_open_manifest(struct shard_manifest **out, const char *dir,
    struct err *e)
{
	*out = mem_new(1, sizeof(**out), e);
	if (!*out)
		return -1;
	if (load(*out, dir, e) == -1) {
		shard_close_manifest(out);
		return -1;
	}
	return 0;
}

void
shard_close_manifest(struct shard_manifest **mp)
{
	struct shard_manifest *m = *mp;

	if (!m)
		return;
	for (size_t i = 0; i < m->nfile; i++)
		free(m->file[i].path);
	free(m->file);
	free(m->dsi);
	free(m->conversion);
	free(m->source);
	free(m->source_layout);
	free(m->source_digest);
	free(m->config);
	free(m);
	*mp = NULL;
}
