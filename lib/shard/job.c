/*
 * job: everything that a run knows before it writes a byte.
 *
 * Sizes come from the writer itself, let loose on /dev/null with the tensors
 * declared: so they are exact and the format is known in one place only.  It is
 * asked once for each file that differs from all others in more than its name.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "json/json.h"
#include "shard/shard_priv.h"

enum { EXTRA_MAX = 256 << 20 };

/* ---- the small files ---- */

static const char *const extra_name[] = {
	"config.json", "generation_config.json", "tokenizer.json",
	"tokenizer_config.json", "chat_template.jinja",
};

enum { NEXTRA = sizeof(extra_name) / sizeof(*extra_name) };

static int
load_extra(struct job *j, const char *path, const char *name, struct err *e)
{
	struct extra *x = &j->extra[j->nextra];
	struct stat st;

	snprintf(x->name, sizeof(x->name), "%s", name);
	j->nextra++;
	if (io_slurp(path, EXTRA_MAX, &x->text, e) == -1)
		return -1;
	if (stat(path, &st) == 0)
		x->when = st.st_mtim;
	return sha256_mem(x->text.p, x->text.n, x->sha, e);
}

static int
load_extras(struct job *j, struct err *e)
{
	const char *model = j->o->model;
	struct buf path = {0};
	struct stat st;
	int rc = 0;

	j->extra = mem_new(NEXTRA, sizeof(*j->extra), e);
	if (!j->extra)
		return -1;
	if (stat(model, &st) == -1) {
		err_sys(e, "%s", model);
		e->code = errno == ENOENT || errno == ENOTDIR ? ERR_CALLER :
		    ERR_SYSTEM;
		return -1;
	}
	if (!S_ISDIR(st.st_mode)) {
		if (j->o->dummy)
			return load_extra(j, model, extra_name[0], e);
		return err_set(e, ERR_CALLER, "%s is not a directory", model);
	}
	for (unsigned i = 0; i < NEXTRA && rc == 0; i++) {
		io_path(&path, model, extra_name[i]);
		rc = buf_ok(&path, e);
		if (rc == 0 && (i == 0 || stat(path.p, &st) == 0))
			rc = load_extra(j, path.p, extra_name[i], e);
	}
	buf_free(&path);
	return rc;
}

/* ---- the source ---- */

static int
open_source(struct job *j, struct err *e)
{
	const struct extra *x = &j->extra[0];
	struct json *config;
	int rc;

	if (!j->o->dummy)
		return source_ckpt(&j->src, j->o->model, &j->arch, e);
	if (json_parse(&config, x->text.p, x->text.n, e) == -1)
		return err_wrap(e, "%s", j->o->model);
	rc = source_dummy(&j->src, &j->arch, config, j->o->seed,
	    j->o->quantize == SHARD_INT8, e);
	json_free(&config);
	return rc == -1 ? err_wrap(e, "%s", j->o->model) : 0;
}

/* ---- units and targets ---- */

static void
add_unit(struct job *j, enum unit_type type, unsigned layer, unsigned stage)
{
	struct unit *u = &j->unit[j->nunit++];

	*u = (struct unit){ .type = type, .layer = layer, .stage = stage };
	if (type == UNIT_LAYER)
		snprintf(u->file, sizeof(u->file), "layer-%03u.safetensors",
		    layer);
	else if (type == UNIT_MTP)
		snprintf(u->file, sizeof(u->file), "mtp-%u.safetensors",
		    layer - j->arch.layers);
	else
		snprintf(u->file, sizeof(u->file), "%s.safetensors",
		    type == UNIT_EMBED ? "embed" : "head");
}

static int
list_units(struct job *j, struct err *e)
{
	const struct layout *l = &j->o->layout;
	unsigned last = l->pp - 1;

	j->unit = mem_new((size_t)j->arch.layers + j->src.mtp + 2,
	    sizeof(*j->unit), e);
	if (!j->unit)
		return -1;
	add_unit(j, UNIT_EMBED, 0, 0);
	for (unsigned i = 0; i < j->arch.layers; i++)
		add_unit(j, UNIT_LAYER, i, plan_stage(&j->arch, l, i));
	add_unit(j, UNIT_HEAD, 0, last);
	for (unsigned i = 0; i < j->src.mtp; i++)
		add_unit(j, UNIT_MTP, j->arch.layers + i, last);
	return 0;
}

static int
list_targets(struct job *j, struct err *e)
{
	unsigned height = j->o->layout.dp * j->o->layout.tp;

	j->target = mem_new((size_t)j->nunit * height, sizeof(*j->target), e);
	if (!j->target)
		return -1;
	for (unsigned u = 0; u < j->nunit; u++) {
		for (unsigned i = 0; i < height; i++) {
			struct target *t = &j->target[j->ntarget++];

			t->unit = u;
			t->rank = j->unit[u].stage * height + i;
			snprintf(t->path, sizeof(t->path), "rank-%05u/%s",
			    t->rank, j->unit[u].file);
		}
	}
	return 0;
}

int
job_declare(const struct job *j, const struct items *l, unsigned rank,
    struct store_writer *w, uint64_t *bytes, struct err *e)
{
	char num[16];

	snprintf(num, sizeof(num), "%u", rank);
	if (store_meta_put(w, "format", "dsi-shard 1", e) == -1 ||
	    store_meta_put(w, "packing", "i8 [n/16][k/4][16][4]", e) == -1 ||
	    store_meta_put(w, "rank", num, e) == -1)
		return -1;
	for (size_t i = 0; i < l->n; i++) {
		struct slice s = item_slice(&l->p[i], &j->arch,
		    &j->plan[rank]);

		if (item_declare(&l->p[i], &s, w, e) == -1)
			return -1;
	}
	return store_begin(w, bytes, e);
}

/* ---- sizes ---- */

/* Files that were measured, by what their sizes follow from. */
struct known {
	struct {
		uint64_t shape, bytes;
	} *p;
	size_t n, cap;
};

/* splitmix64's finisher over what came before and x */
static uint64_t
stir(uint64_t h, uint64_t x)
{
	h += x + 0x9e3779b97f4a7c15u;
	h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
	h = (h ^ h >> 27) * 0x94d049bb133111ebu;
	return h ^ h >> 31;
}

/* What the size of rank's file follows from: the forms and sizes of its
 * tensors and, for the header, how long their names are.  Files with the same
 * answer have the same size. */
static uint64_t
shape_of(const struct job *j, const struct items *l, unsigned rank)
{
	uint64_t h = (uint64_t)snprintf(NULL, 0, "%u", rank);

	for (size_t i = 0; i < l->n; i++) {
		const struct item *it = &l->p[i];
		struct slice s = item_slice(it, &j->arch, &j->plan[rank]);

		if (s.n0 == s.n1)
			continue;
		h = stir(h, (uint64_t)(s.n1 - s.n0) << 32 | it->src.k);
		h = stir(h, (uint64_t)strlen(it->name) << 24 |
		    (uint64_t)it->type << 16 | (uint64_t)it->kind << 8 |
		    it->dtype);
	}
	return h;
}

static int
measure_one(const struct job *j, const struct items *l, struct target *t,
    struct err *e)
{
	struct store_writer *w;
	int rc;

	if (store_create(&w, "/dev/null", e) == -1)
		return -1;
	rc = job_declare(j, l, t->rank, w, &t->bytes, e);
	store_abandon(&w);
	return rc;
}

/* A model has some hundred thousand tensors, but few files that differ. */
static int
measure_known(const struct job *j, const struct items *l, struct target *t,
    struct known *k, struct err *e)
{
	uint64_t shape = shape_of(j, l, t->rank);
	size_t i = 0;

	while (i < k->n && k->p[i].shape != shape)
		i++;
	if (i == k->n) {
		if (mem_grow(&k->p, &k->cap, k->n + 1, sizeof(*k->p),
		    e) == -1 || measure_one(j, l, t, e) == -1)
			return -1;
		k->p[i].shape = shape;
		k->p[i].bytes = t->bytes;
		k->n++;
	}
	t->bytes = k->p[i].bytes;
	return 0;
}

static int
measure(struct job *j, struct err *e)
{
	struct items l = {0};
	struct known k = {0};
	unsigned listed = UINT32_MAX;
	int rc = 0;

	for (size_t i = 0; i < j->ntarget && rc == 0; i++) {
		struct target *t = &j->target[i];

		if (t->unit != listed)
			rc = items_list(&l, &j->src, &j->arch,
			    &j->unit[t->unit], j->o->quantize, e);
		listed = t->unit;
		if (rc == 0)
			rc = measure_known(j, &l, t, &k, e);
	}
	items_free(&l);
	free(k.p);
	return rc;
}

/* ---- the digest ---- */

const char *
quant_name(enum shard_quant q)
{
	return q == SHARD_INT8 ? "int8" : "none";
}

static int
digest(struct job *j, struct err *e)
{
	const struct layout *l = &j->o->layout;
	struct buf b = {0};
	int rc = -1;

	buf_printf(&b, "dsi-shard %d\nsource %s %s\n", SHARD_VERSION,
	    j->src.layout, j->src.digest);
	buf_printf(&b, "tp %u dp %u pp %u ep %u\nquantize %s\n", l->tp, l->dp,
	    l->pp, l->ep, quant_name(j->o->quantize));
	if (j->o->hollow)
		buf_puts(&b, "hollow\n");
	if (j->world > 1)	/* 0.1.0 cut o and down by their inputs */
		buf_puts(&b, "all layers cut by outputs\n");
	for (unsigned i = 0; i < j->nextra; i++)
		buf_printf(&b, "%s %s\n", j->extra[i].name, j->extra[i].sha);
	if (buf_ok(&b, e) == 0)
		rc = sha256_mem(b.p, b.n, j->digest, e);
	buf_free(&b);
	return rc;
}

static int
job_fill(struct job *j, struct err *e)
{
	if (shard_peek(j->o->model))
		return err_set(e, ERR_CALLER, "%s holds rank files already; "
		    "name the model that they were made from", j->o->model);
	if (load_extras(j, e) == -1 ||
	    arch_load(&j->arch, j->o->model, e) == -1 ||
	    plan_check(&j->arch, &j->o->layout, e) == -1 ||
	    open_source(j, e) == -1)
		return -1;
	j->world = plan_world(&j->o->layout);
	j->plan = mem_new(j->world, sizeof(*j->plan), e);
	if (!j->plan)
		return -1;
	for (unsigned r = 0; r < j->world; r++)
		plan_rank(&j->plan[r], &j->arch, &j->o->layout, r);
	if (list_units(j, e) == -1 || list_targets(j, e) == -1)
		return -1;
	return digest(j, e);
}

int
job_open(struct job *j, const struct shard_opts *o, struct err *e)
{
	*j = (struct job){ .o = o };
	if (job_fill(j, e) == -1 || measure(j, e) == -1) {
		job_close(j);
		return -1;
	}
	return 0;
}

void
job_close(struct job *j)
{
	source_close(&j->src);
	for (unsigned i = 0; i < j->nextra; i++)
		buf_free(&j->extra[i].text);
	free(j->extra);
	free(j->plan);
	free(j->unit);
	free(j->target);
	*j = (struct job){0};
}
