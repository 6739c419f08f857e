/*
 * plan: what each rank holds and needs, and what fits.
 *
 * Sizes of the weights are dsi-shard's own, from the headers it would write;
 * all worlds are alike.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "deploy/priv.h"

#define NEED_MAX ((uint64_t)1 << 62)

/* ---- weights ---- */

/* A rank file of this node must be there, and whole. */
static int
check_file(const struct deploy *d, const struct shard_file *f, struct err *e)
{
	struct buf b = {0};
	struct stat st;
	int rc = 0;

	io_path(&b, d->model, f->path);
	if (buf_ok(&b, e) == -1)
		rc = -1;
	else if (stat(b.p, &st) == -1)
		rc = err_set(e, ERR_CALLER, "%s: %s; dsi-shard makes it again",
		    b.p, strerror(errno));
	else if ((uint64_t)st.st_size != f->bytes)
		rc = err_set(e, ERR_CALLER, "%s has %llu bytes, manifest.json "
		    "says %llu; dsi-shard makes it again once it is gone",
		    b.p, (unsigned long long)st.st_size,
		    (unsigned long long)f->bytes);
	buf_free(&b);
	return rc;
}

static int
sizes_of_manifest(struct shard_sizes *s, const struct deploy *d,
    bool elsewhere, struct err *e)
{
	struct shard_manifest *m;
	int rc;

	if (shard_open_manifest(&m, d->model, e) == -1)
		return -1;
	s->world = plan_world(&d->layout);
	s->rank = mem_new(s->world, sizeof(*s->rank), e);
	rc = s->rank ? 0 : -1;
	for (size_t i = 0; i < m->nfile && rc == 0; i++) {
		const struct shard_file *f = &m->file[i];

		if (f->rank < 0 || (unsigned)f->rank >= s->world)
			continue;
		s->rank[f->rank] += f->bytes;
		if (!elsewhere && (d->worlds > 1 ||
		    deploy_is_local(d, (unsigned)f->rank)))
			rc = check_file(d, f, e);
	}
	shard_close_manifest(&m);
	return rc;
}

/* Do published weights agree with what was said of them? */
static int
check_published(struct deploy_plan *p, const struct deploy *d,
    const char *layout, struct err *e)
{
	bool int8 = strcmp(layout, "float") != 0 &&
	    strcmp(layout, "fp8-block") != 0;
	const char *q = d->quantization;
	bool odd = d->yaml_int8 && !int8 && !d->quantize;

	if (q && strcmp(q, "int8") != 0 &&
	    int8 != (strcmp(q, "fp8") != 0))
		return err_set(e, ERR_CALLER, "--quantization %s: the weights "
		    "in %s are %s%s", q, d->model, layout, int8 ? "" :
		    "; --quantization int8 makes int8 of them");
	if (odd && d->strict)
		return err_set(e, ERR_CALLER, "%s says int8, the weights in "
		    "%s are %s", d->yaml_path, d->model, layout);
	snprintf(p->weights_are, sizeof(p->weights_are), "%s%s (published)%s",
	    layout, d->quantize && !int8 ? " made int8" : "", odd ?
	    ", not int8 as in the YAML" : "");
	return 0;
}

static int
find_sizes(struct deploy_plan *p, struct shard_sizes *s,
    const struct deploy *d, bool elsewhere, struct err *e)
{
	struct shard_opts o = {
		.model = d->model, .layout = d->layout,
		.quantize = d->quantize,
		.dummy = d->dummy || d->weights == DEPLOY_ASSUMED,
	};

	snprintf(p->weights_are, sizeof(p->weights_are), "%s",
	    d->weights_are);
	if (d->weights == DEPLOY_RANK_FILES)
		return sizes_of_manifest(s, d, elsewhere, e);
	if (shard_sizes(s, &o, e) == -1)
		return -1;
	return d->weights == DEPLOY_PUBLISHED ?
	    check_published(p, d, s->layout, e) : 0;
}

/* ---- one rank ---- */

/* Blocks that one sequence of the longest kind takes */
static uint64_t
blocks_one(const struct deploy *d, const struct deploy_plan *p)
{
	return (p->max_len + d->engine.block_size - 1) / d->engine.block_size;
}

/* No more are ever used, as in the engine. */
static uint64_t
blocks_all(const struct deploy *d, const struct deploy_plan *p)
{
	return (blocks_one(d, p) + 1) * d->engine.max_num_seqs;
}

static uint64_t
block_bytes(const struct deploy *d, const struct deploy_rank_plan *r)
{
	return d->engine.block_size * r->kv_token;
}

/* More than any memory is as good as any more. */
static uint64_t
product(uint64_t a, uint64_t b)
{
	size_t n;

	return mul_ok(a, b, &n) && n < NEED_MAX ? n : NEED_MAX;
}

static int
fill_rank(struct deploy_plan *p, const struct deploy *d,
    const struct shard_sizes *s, unsigned i, struct err *e)
{
	struct deploy_rank_plan *r = &p->rank[i];
	const struct arch *a = &d->arch;
	unsigned value = d->engine.kv_dtype == ENGINE_F32 ? 4 : 2;
	uint64_t fixed, one = blocks_one(d, p), all = blocks_all(d, p);

	deploy_rank(d, i, &r->part, &r->group);
	r->world = i / plan_world(&d->layout);
	r->layers = r->part.layer1 - r->part.layer0;
	r->weight_bytes = s->rank[i % s->world];
	r->kv_token = (uint64_t)r->layers * (a->kv_lora + a->rope) * value;
	if (deploy_work_bytes(d, &r->part, &r->work_bytes, e) == -1)
		return -1;
	if (d->engine.num_blocks)
		one = all = d->engine.num_blocks;
	fixed = r->weight_bytes + r->work_bytes;
	r->need_one = fixed + product(one, block_bytes(d, r));
	r->need_all = fixed + product(all, block_bytes(d, r));
	deploy_count_traffic(&r->traffic, a, &r->part);
	p->weight_bytes += r->weight_bytes;
	return 0;
}

/* ---- memory ---- */

static void
find_budget(struct deploy_plan *p, const struct deploy *d)
{
	if (!p->per_rank)
		p->per_rank = p->host / p->host_ranks;
	p->budget = (uint64_t)((double)p->per_rank *
	    d->engine.memory_utilization);
}

static int
find_memory(struct deploy_plan *p, const struct deploy *d,
    const struct deploy_memory *m, struct err *e)
{
	p->known = !m->elsewhere && (m->per_rank || m->per_host || d->dummy ||
	    d->weights != DEPLOY_ASSUMED);
	if (!p->known)
		return 0;
	p->host = m->per_host;
	p->per_rank = m->per_rank;
	if (!p->per_rank && !p->host && deploy_host_memory(&p->host, &p->avail,
	    e) == -1)
		return -1;
	find_budget(p, d);
	return 0;
}

/* Without a length that was asked for, the engine takes what there is. */
static uint64_t
need_least(const struct deploy *d, const struct deploy_rank_plan *r)
{
	if (d->engine.max_model_len || d->engine.num_blocks)
		return r->need_one;
	return r->weight_bytes + r->work_bytes + block_bytes(d, r);
}

/* The rank with the least room decides for all: blocks have the same numbers
 * everywhere in a world.  rank [n]: those that share the host; NULL: all n. */
static void
find_room(struct deploy_plan *p, const struct deploy *d, const unsigned *rank,
    unsigned n)
{
	uint64_t most = d->engine.num_blocks ? d->engine.num_blocks :
	    blocks_all(d, p);
	int64_t least = INT64_MAX;

	p->blocks = most;
	for (unsigned j = 0; j < n; j++) {
		unsigned i = rank ? rank[j] : j;
		const struct deploy_rank_plan *r = &p->rank[i];
		uint64_t fixed = r->weight_bytes + r->work_bytes;
		int64_t over = (int64_t)p->budget -
		    (int64_t)need_least(d, r);
		uint64_t room = p->budget > fixed && r->kv_token ?
		    (p->budget - fixed) / block_bytes(d, r) : 0;

		if (room < p->blocks)
			p->blocks = room;
		if (over < least) {
			least = over;
			p->worst = i;
			p->need = need_least(d, r);
		}
	}
	p->fits = least >= 0;
	if (d->engine.num_blocks && d->engine.max_model_len &&
	    most < blocks_one(d, p))
		p->fits = false;
	p->context = p->blocks * d->engine.block_size;
	if (p->context > p->max_len)
		p->context = p->max_len;
	p->sequences = p->blocks / blocks_one(d, p);
	if (p->sequences > d->engine.max_num_seqs)
		p->sequences = d->engine.max_num_seqs;
}

/* The fewest hosts like this one that would do, the ranks shared evenly. */
static void
count_hosts(struct deploy_plan *p, const struct deploy *d)
{
	uint64_t host = (uint64_t)((double)p->host *
	    d->engine.memory_utilization);

	for (unsigned h = 1; h <= p->n && p->host; h++) {
		if (p->n % h == 0 && p->n / h <= host / p->need) {
			p->hosts = h;
			return;
		}
	}
}

int
deploy_plan(struct deploy_plan *p, const struct deploy *d,
    const struct deploy_memory *m, struct err *e)
{
	struct shard_sizes s = {0};
	int rc = -1;

	*p = (struct deploy_plan){ .n = d->size, .host_ranks = deploy_local(d),
	    .max_len = d->engine.max_model_len };
	if (!p->max_len)
		p->max_len = d->arch.max_pos;
	p->rank = mem_new(p->n, sizeof(*p->rank), e);
	if (!p->rank || find_sizes(p, &s, d, m->elsewhere, e) == -1 ||
	    find_memory(p, d, m, e) == -1)
		goto out;
	for (unsigned i = 0; i < p->n; i++)
		if (fill_rank(p, d, &s, i, e) == -1)
			goto out;
	if (p->known) {
		find_room(p, d, NULL, p->n);
		count_hosts(p, d);
	}
	rc = 0;
out:
	shard_sizes_free(&s);
	if (rc == -1)
		deploy_plan_free(p);
	return rc;
}

void
deploy_fit(struct deploy_plan *p, const struct deploy *d,
    const struct deploy_memory *m, const unsigned *rank, unsigned n)
{
	p->known = true;
	p->host_ranks = n;
	p->host = m->per_host;
	p->per_rank = m->per_rank;
	p->avail = 0;
	p->hosts = 0;
	find_budget(p, d);
	find_room(p, d, rank, n);
}

void
deploy_plan_free(struct deploy_plan *p)
{
	free(p->rank);
	*p = (struct deploy_plan){0};
}
