/*
 * open: from a directory of rank files to an engine that is ready.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/priv.h"
#include "kern.h"
#include "shard/shard.h"

void
engine_defaults(struct engine_opts *o)
{
	memset(o, 0, sizeof *o);
	o->block_size = 128;
	o->max_num_seqs = 256;
	o->max_num_batched_tokens = 2048;
	o->memory_utilization = 0.9;
	o->prefix_caching = true;
}

static int
check_opts(const struct engine_opts *o, struct err *e)
{
	if (o->block_size != 16 && o->block_size != 32 &&
	    o->block_size != 64 && o->block_size != 128)
		return err_set(e, ERR_CALLER,
		    "--block-size must be 16, 32, 64 or 128, not %llu",
		    (unsigned long long)o->block_size);
	if (o->max_num_seqs == 0 || o->max_num_batched_tokens == 0)
		return err_set(e, ERR_CALLER, "--max-num-seqs and "
		    "--max-num-batched-tokens must be at least 1");
	if (!(o->memory_utilization > 0 && o->memory_utilization <= 1))
		return err_set(e, ERR_CALLER,
		    "--gpu-memory-utilization must be in (0, 1], not %g",
		    o->memory_utilization);
	return 0;
}

static int
pick_kernels(struct err *e)
{
	unsigned flags = cpu_flags();
	const char *word = getenv("DSI_CPU");

	if (cpu_mask(word, &flags) == -1)
		return err_set(e, ERR_CALLER, "DSI_CPU must be ref, avx2, "
		    "avx512 or avx512vnni, not '%s'", word);
	kern_init(flags);
	return 0;
}

/* The manifest: the layout, and what there is to load. */
static int
read_manifest(struct engine *g, struct err *e)
{
	const struct engine_link *link = g->o.link;
	unsigned rank = link ? link->comm.rank : 0, world;
	struct shard_manifest *mf;
	int ret = 0;
	size_t i;

	if (shard_open_manifest(&mf, g->o.dir, e) == -1)
		return -1;
	g->layout = mf->layout;
	g->conversion = mf->conversion;
	mf->conversion = NULL;
	world = plan_world(&mf->layout);
	if (world > 1 && link == NULL)
		ret = err_set(e, ERR_CALLER, "%s: made for %u ranks, and this "
		    "is one alone", g->o.dir, world);
	else if (rank >= world)
		ret = err_set(e, ERR_CALLER, "%s: made for ranks 0 to %u; "
		    "there is no rank %u", g->o.dir, world - 1, rank);
	for (i = 0; g->o.bar && i < mf->nfile; i++)
		if (mf->file[i].rank == (int)rank)
			g->o.bar->total += mf->file[i].bytes;
	shard_close_manifest(&mf);
	return ret;
}

static struct model_opts
model_options(const struct engine *g)
{
	struct model_opts mo = {
		.par = g->par,
		.layout = g->layout,
		.rank = g->o.link ? g->o.link->comm.rank : 0,
		.max_rows = g->o.max_num_batched_tokens,
		.block_size = g->o.block_size,
		.kv_f32 = g->o.kv_dtype == ENGINE_F32,
		.bf16 = g->o.dtype == ENGINE_BF16,
		.map = g->o.load == ENGINE_LAZY,
	};

	/* Fewer rows than sequences would starve decodes; fewer than a block
	 * of logits would have no room for their norms. */
	if (mo.max_rows < LOGIT_ROWS)
		mo.max_rows = LOGIT_ROWS;
	return mo;
}

/* Ranks that share this host. */
static unsigned
neighbours(const struct engine *g)
{
	if (g->o.host_ranks)
		return g->o.host_ranks;
	return g->comm ? comm_local(g->comm) : 1;
}

static int
open_pool(struct engine *g, struct err *e)
{
	unsigned n = g->o.threads, cpus = (unsigned)par_default_threads();

	if (n == 0)
		n = cpus / neighbours(g);
	return par_open(&g->par, n ? n : 1, e);
}

static int
load_model(struct engine *g, struct err *e)
{
	struct model_opts mo = model_options(g);

	if (g->o.link && world_open(g, &mo, e) == -1)
		return -1;
	if (open_pool(g, e) == -1)
		return -1;
	mo.par = g->par;
	if (model_open(&g->m, g->o.dir, &g->a, &mo, g->o.bar, e) == -1)
		return -1;
	return 0;
}

/* Once all ranks have loaded. */
static int
join_model(struct engine *g, struct err *e)
{
	uint64_t loaded = 0;

	if (!g->comm)
		return 0;
	if (world_least(g, &loaded, e) == -1)
		return -1;
	return model_join(g->m, g->comm, e);
}

/* The number of KV blocks: what memory gives, but no more than all sequences
 * together can fill. */
static int
count_blocks(struct engine *g, uint64_t *n, struct err *e)
{
	uint64_t each = model_block_bytes(g->m), bytes, used, most;
	uint64_t bs = g->o.block_size;

	if ((*n = g->o.num_blocks) != 0)
		return 0;
	if (memory_budget(g->o.memory_utilization, neighbours(g), &bytes,
		e) == -1)
		return -1;
	used = model_work_bytes(g->m);	/* the weights are there already */
	*n = bytes > used ? (bytes - used) / each : 0;
	most = (g->max_len + bs - 1) / bs + 1;
	most = most > UINT32_MAX / g->o.max_num_seqs ? UINT32_MAX - 1 :
	    most * g->o.max_num_seqs;
	if (*n > most)
		*n = most;
	return 0;
}

/* All ranks have as many. */
static int
agree_blocks(struct engine *g, uint64_t *n, struct err *e)
{
	if (count_blocks(g, n, e) == -1)
		return -1;
	return world_least(g, n, e);
}

/* The longest sequence that the blocks can hold, or the model's maximum. */
static int
fit_length(struct engine *g, uint64_t blocks, struct err *e)
{
	uint64_t hold = blocks * g->o.block_size;

	if (hold >= g->max_len)
		return 0;
	if (g->o.max_model_len || hold == 0)
		return err_set(e, ERR_CALLER, "the KV cache holds %llu "
		    "tokens, too few for --max-model-len %zu: lower that, "
		    "raise --gpu-memory-utilization, or use "
		    "--kv-cache-dtype bfloat16", (unsigned long long)hold,
		    g->max_len);
	g->max_len = hold;
	return 0;
}

static int
make_groups(struct engine *g, uint64_t blocks, struct err *e)
{
	struct sched_opts so = {
		.max_seqs = g->o.max_num_seqs,
		.max_tokens = g->o.max_num_batched_tokens,
		.max_len = g->max_len,
		.depth = g->layout.pp,
		.prefix_caching = g->o.prefix_caching,
	};
	unsigned d;

	g->group = mem_new(g->layout.dp, sizeof *g->group, e);
	if (g->group == NULL)
		return -1;
	for (d = 0; d < g->layout.dp; d++)
		if (kv_open(&g->group[d].kv, blocks, g->o.block_size,
			e) == -1 ||
		    sched_open(&g->group[d].sched, &so, g->group[d].kv,
			e) == -1)
			return -1;
	return 0;
}

static int
set_length(struct engine *g, struct err *e)
{
	g->max_len = g->o.max_model_len ? g->o.max_model_len : g->a.max_pos;
	if (g->max_len > g->a.max_pos)
		return err_set(e, ERR_CALLER,
		    "--max-model-len %zu is more than the model's "
		    "max_position_embeddings, %u", g->max_len, g->a.max_pos);
	return 0;
}

static bool
is_lead(const struct engine *g)
{
	return !g->comm || comm_rank(g->comm) == 0;
}

static int
make_cache(struct engine *g, struct err *e)
{
	if (agree_blocks(g, &g->nblock, e) == -1 ||
	    fit_length(g, g->nblock, e) == -1 ||
	    model_cache(g->m, g->nblock, e) == -1)
		return -1;
	return is_lead(g) ? make_groups(g, g->nblock, e) : 0;
}

static int
make_scratch(struct engine *g, struct err *e)
{
	unsigned i;
	size_t n;

	if (!is_lead(g))
		return 0;
	if (!mul_ok(LOGIT_ROWS, g->a.vocab, &n))
		return err_set(e, ERR_SYSTEM, "no memory");
	g->logits = mem_new(n, sizeof *g->logits, e);
	g->scratch = mem_new(par_threads(g->par), sizeof *g->scratch, e);
	g->flight = mem_new(g->layout.pp, sizeof *g->flight, e);
	if (!g->logits || !g->scratch || !g->flight)
		return -1;
	for (i = 0; i < g->layout.pp; i++) {
		g->flight[i].has = mem_new(g->layout.dp, sizeof(bool), e);
		if (!g->flight[i].has)
			return -1;
	}
	return 0;
}

int
engine_open(struct engine **gp, const struct engine_opts *o, struct err *e)
{
	struct engine *g = mem_new(1, sizeof *g, e);

	*gp = g;
	if (g == NULL)
		return -1;
	g->o = *o;
	g->next_id = 1;
	if (check_opts(o, e) == -1 || pick_kernels(e) == -1 ||
	    read_manifest(g, e) == -1 || arch_load(&g->a, o->dir, e) == -1 ||
	    set_length(g, e) == -1 || load_model(g, e) == -1 ||
	    join_model(g, e) == -1 || make_cache(g, e) == -1 || make_scratch(g, e) == -1) {
		if (g->comm)
			comm_fail(g->comm, e->msg);
		engine_close(gp);
		return -1;
	}
	return 0;
}

static void
close_groups(struct engine *g)
{
	unsigned d;
	struct seq *q;

	for (d = 0; g->group && d < g->layout.dp; d++) {
		struct group *gr = &g->group[d];

		while (gr->sched && (q = sched_any(gr->sched)) != NULL) {
			sched_remove(gr->sched, q->id);
			engine_seq_free(q);
		}
		if (gr->sched)
			sched_close(&gr->sched);
		kv_close(&gr->kv);
	}
	free(g->group);
}

static void
close_flights(struct engine *g)
{
	unsigned i;

	for (i = 0; g->flight && i < g->layout.pp; i++) {
		free(g->flight[i].out);
		free(g->flight[i].job);
		free(g->flight[i].has);
	}
	free(g->flight);
}

void
engine_close(struct engine **gp)
{
	struct engine *g = *gp;
	struct seq *q;
	unsigned i;

	if (g == NULL)
		return;
	if (g->many)
		many_close(g->many);
	world_close(g);
	close_groups(g);
	while ((q = g->dead) != NULL) {
		g->dead = q->next_dead;
		engine_seq_free(q);
	}
	close_flights(g);
	model_close(&g->m);
	for (i = 0; g->scratch && i < par_threads(g->par); i++)
		sample_scratch_free(&g->scratch[i]);
	par_close(g->par);
	free(g->conversion);
	free(g->scratch);
	free(g->logits);
	free(g->part);
	free(g->quit);
	free(g->outs);
	free(g->msg);
	free(g);
	*gp = NULL;
}

int
engine_end_fd(const struct engine *g)
{
	if (g->many)
		return many_end_fd(g->many);
	return g->comm ? comm_end_fd(g->comm) : -1;
}

int
engine_check(const struct engine *g, struct err *e)
{
	if (g->many)
		return many_check(g->many, e);
	return g->comm ? comm_check(g->comm, e) : 0;
}

struct comm *
engine_comm(const struct engine *g)
{
	return g->comm;
}

const struct arch *
engine_arch(const struct engine *g)
{
	return &g->a;
}

uint64_t
engine_max_len(const struct engine *g)
{
	return g->max_len;
}

uint64_t
engine_blocks(const struct engine *g)
{
	return g->nblock;
}

const struct engine_opts *
engine_options(const struct engine *g)
{
	return &g->o;
}

void
engine_stats(const struct engine *g, struct engine_stats *st)
{
	unsigned d;

	if (g->many) {
		many_stats(g->many, st);
		return;
	}
	*st = g->st;
	for (d = 0; d < g->layout.dp; d++) {
		const struct group *gr = &g->group[d];

		st->running += sched_running(gr->sched);
		st->waiting += sched_waiting(gr->sched);
		st->blocks += kv_blocks(gr->kv);
		st->blocks_used += kv_blocks(gr->kv) -
		    kv_free_blocks(gr->kv);
		st->preemptions += sched_preemptions(gr->sched);
	}
}
