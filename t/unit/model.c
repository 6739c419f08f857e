/*
 * model: the forward pass against reference logits, and against itself.
 *
 * Every fixture (t/fixtures, and those of $DSI_SHARED/fixtures if it is set) is
 * made into rank files; its logprobs must agree with the reference, its single
 * layers with theirs, and cutting, mixing and threading must not change a bit.
 */
#include <dirent.h>
#include <ftw.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "kern.h"
#include "model/model.h"
#include "shard/shard.h"
#include "store/store.h"
#include "tap.h"

enum { NPROMPT = 3, NBLOCK = 96, MAX_ROWS = 4096 };

struct prompt {
	int32_t *ids;
	float *want;			/* [n][vocab] */
	size_t n;
	uint32_t block[NBLOCK];
};

struct fixture {
	const char *name;
	char dir[512];			/* rank files */
	struct arch a;
	struct store *ref;
	struct prompt p[NPROMPT];
};

struct way {				/* of running the prompts */
	size_t chunk, block_size;
	unsigned threads;
	bool kv_f32;
};

static void
must(int ret, const struct err *e)
{
	if (ret == -1) {
		printf("Bail out! %s\n", e->msg);
		exit(1);
	}
}

static void *
read_tensor(const struct store *s, const char *name, size_t *n)
{
	struct err e = { 0 };
	const struct tensor *t = store_find(s, name);
	void *p;

	if (t == NULL)
		return NULL;
	p = mem_new(1, t->nbytes, &e);
	must(p ? store_read(s, t, 0, p, t->nbytes, &e) : -1, &e);
	*n = t->dim[0];
	return p;
}

static struct model *
open_model(const struct fixture *f, const struct way *w, struct par **par)
{
	struct model_opts o = { .layout = { 1, 1, 1, 1 },
		.max_rows = MAX_ROWS,
		.block_size = w->block_size, .kv_f32 = w->kv_f32 };
	struct err e = { 0 };
	struct model *m;

	must(par_open(par, w->threads, &e), &e);
	o.par = *par;
	must(model_open(&m, f->dir, &f->a, &o, NULL, &e), &e);
	must(model_cache(m, NPROMPT * NBLOCK, &e), &e);
	return m;
}

/* Logits of all rows of prompt k from the step that holds rows from row0. */
static void
take(struct model *m, const struct fixture *f, size_t row0, size_t n,
    float *out)
{
	unsigned dp = 0;
	struct err e = { 0 };
	uint32_t r;
	size_t i;

	for (i = 0; i < n; i++) {
		r = (uint32_t)(row0 + i);
		must(model_logits(m, &r, &dp, 1, out + i * f->a.vocab, &e),
		    &e);
	}
}

static struct model_part
part_of(const struct prompt *p, size_t pos, size_t n)
{
	return (struct model_part){ .ids = p->ids + pos, .n = n, .pos = pos,
		.nprompt = p->n, .block = p->block };
}

/* All prompts, each by itself, in chunks; out[k] [n][vocab]. */
static void
run_chunks(const struct fixture *f, const struct way *w, float *out[NPROMPT])
{
	struct par *par;
	struct model *m = open_model(f, w, &par);
	struct err e = { 0 };
	size_t pos, n;

	for (int k = 0; k < NPROMPT; k++) {
		const struct prompt *p = &f->p[k];

		for (pos = 0; pos < p->n; pos += n) {
			struct model_part part;

			n = p->n - pos < w->chunk ? p->n - pos : w->chunk;
			part = part_of(p, pos, n);
			must(model_step(m, &part, 1, &e), &e);
			take(m, f, 0, n, out[k] + pos * f->a.vocab);
		}
	}
	model_close(&m);
	par_close(par);
}

/* All prompts in the same steps, at different places. */
static void
run_mixed(const struct fixture *f, const struct way *w, float *out[NPROMPT])
{
	struct par *par;
	struct model *m = open_model(f, w, &par);
	struct err e = { 0 };
	size_t pos[NPROMPT] = { 0 }, np, row;

	do {
		struct model_part part[NPROMPT];
		int who[NPROMPT];

		np = 0;
		for (int k = NPROMPT - 1; k >= 0; k--) {
			const struct prompt *p = &f->p[k];
			size_t n = w->chunk + (size_t)k;

			if (n > p->n - pos[k])
				n = p->n - pos[k];
			if (n == 0)
				continue;
			who[np] = k;
			part[np++] = part_of(p, pos[k], n);
		}
		must(model_step(m, part, np, &e), &e);
		row = 0;
		for (size_t i = 0; i < np; row += part[i++].n) {
			int k = who[i];

			take(m, f, row, part[i].n,
			    out[k] + pos[k] * f->a.vocab);
			pos[k] += part[i].n;
		}
	} while (np > 0);
	model_close(&m);
	par_close(par);
}

static void
make_out(const struct fixture *f, float *out[NPROMPT])
{
	for (int k = 0; k < NPROMPT; k++)
		out[k] = calloc(f->p[k].n * f->a.vocab, sizeof(float));
}

static void
free_out(float *out[NPROMPT])
{
	for (int k = 0; k < NPROMPT; k++)
		free(out[k]);
}

static bool
same(const struct fixture *f, float *a[NPROMPT], float *b[NPROMPT])
{
	for (int k = 0; k < NPROMPT; k++)
		if (memcmp(a[k], b[k],
			f->p[k].n * f->a.vocab * sizeof(float)) != 0)
			return false;
	return true;
}

/* ---- against the reference ---- */

static double
lse(const float *x, size_t n)
{
	double max = x[0], sum = 0;

	for (size_t i = 1; i < n; i++)
		max = x[i] > max ? x[i] : max;
	for (size_t i = 0; i < n; i++)
		sum += exp(x[i] - max);
	return max + log(sum);
}

static int
cmp(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Differences of the prompts' own tokens' logprobs, sorted. */
static double *
differences(const struct fixture *f, float *out[NPROMPT], size_t *n)
{
	size_t v = f->a.vocab, all = 0;
	double *d;

	for (int k = 0; k < NPROMPT; k++)
		all += f->p[k].n;
	d = calloc(all, sizeof *d);
	*n = 0;
	for (int k = 0; k < NPROMPT; k++)
		for (size_t i = 0; i + 1 < f->p[k].n; i++) {
			const float *have = out[k] + i * v;
			const float *want = f->p[k].want + i * v;
			int32_t id = f->p[k].ids[i + 1];

			d[(*n)++] = fabs((have[id] - lse(have, v)) -
			    (want[id] - lse(want, v)));
		}
	qsort(d, *n, sizeof *d, cmp);
	return d;
}

/* Quantised models with random weights are chaotic: one rounding that flips
 * spreads.  A wrong scale or offset moves them far more than these bounds. */
static void
check_reference(const struct fixture *f, float *out[NPROMPT], bool quantised,
    bool kv_f32)
{
	size_t n;
	double *d = differences(f, out, &n);
	double med = d[n / 2], p95 = d[n * 95 / 100], max = d[n - 1];
	bool ok;

	if (quantised)
		ok = med <= 0.03 && p95 <= 0.25;
	else if (kv_f32)
		ok = max <= 5e-4;
	else
		ok = med <= 0.02 && p95 <= 0.2;
	tap_ok(ok, "%s, %s cache: logprobs differ from the reference by "
	    "median %.2g, p95 %.2g, max %.2g", f->name,
	    kv_f32 ? "f32" : "bf16", med, p95, max);
	free(d);
}

static void
check_ways(const struct fixture *f, float *out[NPROMPT], bool kv_f32)
{
	static const struct way way[] = {
		{ 1, 64, 1, 0 }, { 16, 16, 2, 0 }, { 100, 128, 2, 0 },
		{ 4096, 32, 2, 0 }, { 37, 64, 3, 0 },
	};
	float *other[NPROMPT];

	make_out(f, other);
	for (size_t i = 0; i < sizeof way / sizeof *way; i++) {
		struct way w = way[i];

		w.kv_f32 = kv_f32;
		run_chunks(f, &w, other);
		tap_ok(same(f, out, other), "%s: same bits in chunks of %zu, "
		    "blocks of %zu, on %u threads", f->name, w.chunk,
		    w.block_size, w.threads);
	}
	run_mixed(f, &(struct way){ 29, 64, 2, kv_f32 }, other);
	tap_ok(same(f, out, other), "%s: same bits in a mixed batch", f->name);
	free_out(other);
}

/* ---- single layers ---- */

static void
check_layer(const struct fixture *f, struct model *m, const struct store *s,
    const struct tensor *t)
{
	char name[128];
	struct err e = { 0 };
	size_t rows, n0;
	unsigned n, k;
	float *x, *want, *y;
	double worst = 0;

	x = read_tensor(s, t->name, &rows);
	snprintf(name, sizeof name, "y:%s", t->name + 2);
	want = read_tensor(s, name, &n0);
	snprintf(name, sizeof name, "model.%s", t->name + 2);
	must(model_linear_shape(m, name, &n, &k, &e), &e);
	y = calloc(rows * n, sizeof *y);
	must(model_linear(m, name, x, rows, y, &e), &e);
	for (size_t i = 0; i < rows; i++) {
		double top = 1e-30;

		for (unsigned j = 0; j < n; j++)
			top = fmax(top, fabs(want[i * n + j]));
		for (unsigned j = 0; j < n; j++)
			worst = fmax(worst,
			    fabs(y[i * n + j] - want[i * n + j]) / top);
	}
	tap_ok(worst <= 1e-5, "%s: %s within %.2g of the reference", f->name,
	    name, worst);
	free(x);
	free(want);
	free(y);
}

static void
check_layers(const struct fixture *f, const char *src)
{
	struct way w = { 1, 64, 2, true };
	struct par *par;
	struct model *m;
	struct store *s;
	char path[600];
	struct err e = { 0 };

	snprintf(path, sizeof path, "%s/vectors.safetensors", src);
	if (access(path, R_OK) == -1)
		return;
	must(store_open(&s, path, &e), &e);
	m = open_model(f, &w, &par);
	for (size_t i = 0; i < store_count(s); i++)
		if (strncmp(store_at(s, i)->name, "x:", 2) == 0)
			check_layer(f, m, s, store_at(s, i));
	model_close(&m);
	par_close(par);
	store_close(&s);
}

/* ---- a fixture ---- */

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void
load(struct fixture *f, const char *src)
{
	struct shard_opts so = { .model = src, .out = f->dir,
		.layout = { 1, 1, 1, 1 } };
	char path[600];
	struct err e = { 0 };
	size_t n;

	must(shard_run(&so, &e), &e);
	must(arch_load(&f->a, f->dir, &e), &e);
	snprintf(path, sizeof path, "%s/reference.safetensors", src);
	must(store_open(&f->ref, path, &e), &e);
	for (int k = 0; k < NPROMPT; k++) {
		snprintf(path, sizeof path, "ids.%d", k);
		f->p[k].ids = read_tensor(f->ref, path, &f->p[k].n);
		snprintf(path, sizeof path, "logits.%d", k);
		f->p[k].want = read_tensor(f->ref, path, &n);
		for (unsigned i = 0; i < NBLOCK; i++)	/* scattered */
			f->p[k].block[i] = (i * 7 + 3) % NBLOCK +
			    (unsigned)k * NBLOCK;
	}
}

static void
check_fixture(const char *name, const char *src)
{
	struct fixture f = { .name = name };
	bool quantised = strstr(name, "int8") || strstr(name, "w8a8");
	float *out[NPROMPT];

	snprintf(f.dir, sizeof f.dir, "%s/dsi-model-XXXXXX",
	    getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	if (mkdtemp(f.dir) == NULL)
		exit(1);
	load(&f, src);
	make_out(&f, out);
	run_chunks(&f, &(struct way){ 4096, 64, 1, true }, out);
	check_reference(&f, out, quantised, true);
	check_ways(&f, out, true);
	if (!quantised) {
		run_chunks(&f, &(struct way){ 4096, 128, 1, false }, out);
		check_reference(&f, out, quantised, false);
		check_ways(&f, out, false);
	}
	check_layers(&f, src);
	free_out(out);
	for (int k = 0; k < NPROMPT; k++) {
		free(f.p[k].ids);
		free(f.p[k].want);
	}
	store_close(&f.ref);
	nftw(f.dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* Every folder below dir that has a reference. */
static void
check_all(const char *dir)
{
	struct dirent **d;
	int n = scandir(dir, &d, NULL, alphasort);

	for (int i = 0; i < n; i++) {
		char src[512], ref[600];

		snprintf(src, sizeof src, "%s/%s", dir, d[i]->d_name);
		snprintf(ref, sizeof ref, "%s/reference.safetensors", src);
		if (access(ref, R_OK) == 0)
			check_fixture(d[i]->d_name, src);
		free(d[i]);
	}
	if (n >= 0)
		free(d);
}

int
main(void)
{
	const char *shared = getenv("DSI_SHARED");
	unsigned flags = cpu_flags();
	char dir[512];

	cpu_mask(getenv("DSI_CPU"), &flags);
	kern_init(flags);
	snprintf(dir, sizeof dir, "%s/t/fixtures", tap_top());
	check_all(dir);
	if (shared) {
		snprintf(dir, sizeof dir, "%s/fixtures", shared);
		check_all(dir);
	}
	tap_ok(tap_n > 0, "there are fixtures below %s", dir);
	return tap_done();
}
