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

static int
check_world(const char *dir, struct bar *bar, struct err *e)
{
	struct shard_manifest *mf;
	size_t i;
	int ret = 0;

	if (shard_open_manifest(&mf, dir, e) == -1)
		return -1;
	if (mf->layout.tp * mf->layout.dp * mf->layout.pp != 1)
		ret = err_set(e, ERR_CALLER, "%s: made for %u ranks; this "
		    "command runs one: shard the model again without layout "
		    "flags", dir,
		    mf->layout.tp * mf->layout.dp * mf->layout.pp);
	for (i = 0; bar && i < mf->nfile; i++)
		if (mf->file[i].rank == 0)
			bar->total += mf->file[i].bytes;
	shard_close_manifest(&mf);
	return ret;
}

static int
load_model(struct engine *g, struct err *e)
{
	struct model_opts mo = {
		.par = g->par,
		.max_rows = g->o.max_num_batched_tokens,
		.block_size = g->o.block_size,
		.kv_f32 = g->o.kv_dtype == ENGINE_F32,
		.bf16 = g->o.dtype == ENGINE_BF16,
	};

	/* Fewer rows than sequences would starve decodes; fewer than a block
	 * of logits would have no room for their norms. */
	if (mo.max_rows < LOGIT_ROWS)
		mo.max_rows = LOGIT_ROWS;
	return model_open(&g->m, g->o.dir, &g->a, &mo, g->o.bar, e);
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
	if (memory_budget(g->o.memory_utilization, &bytes, e) == -1)
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
make_cache(struct engine *g, struct err *e)
{
	struct sched_opts so = {
		.max_seqs = g->o.max_num_seqs,
		.max_tokens = g->o.max_num_batched_tokens,
		.prefix_caching = g->o.prefix_caching,
	};
	uint64_t blocks;

	g->max_len = g->o.max_model_len ? g->o.max_model_len : g->a.max_pos;
	if (g->max_len > g->a.max_pos)
		return err_set(e, ERR_CALLER,
		    "--max-model-len %zu is more than the model's "
		    "max_position_embeddings, %u", g->max_len, g->a.max_pos);
	if (count_blocks(g, &blocks, e) == -1 ||
	    fit_length(g, blocks, e) == -1 ||
	    model_cache(g->m, blocks, e) == -1 ||
	    kv_open(&g->kv, blocks, g->o.block_size, e) == -1)
		return -1;
	so.max_len = g->max_len;
	return sched_open(&g->sched, &so, g->kv, e);
}

static int
make_scratch(struct engine *g, struct err *e)
{
	size_t n;

	if (!mul_ok(LOGIT_ROWS, g->a.vocab, &n))
		return err_set(e, ERR_SYSTEM, "no memory");
	g->logits = mem_new(n, sizeof *g->logits, e);
	g->scratch = mem_new(par_threads(g->par), sizeof *g->scratch, e);
	return g->logits && g->scratch ? 0 : -1;
}

int
engine_open(struct engine **gp, const struct engine_opts *o, struct err *e)
{
	struct engine *g = mem_new(1, sizeof *g, e);
	unsigned threads = o->threads ? o->threads :
	    (unsigned)par_default_threads();

	*gp = g;
	if (g == NULL)
		return -1;
	g->o = *o;
	g->next_id = 1;
	if (check_opts(o, e) == -1 || pick_kernels(e) == -1 ||
	    check_world(o->dir, o->bar, e) == -1 ||
	    arch_load(&g->a, o->dir, e) == -1 ||
	    par_open(&g->par, threads, e) == -1 ||
	    load_model(g, e) == -1 || make_cache(g, e) == -1 ||
	    make_scratch(g, e) == -1) {
		engine_close(gp);
		return -1;
	}
	return 0;
}

static void
close_sched(struct engine *g)
{
	struct seq *q;

	while ((q = sched_any(g->sched)) != NULL) {
		sched_remove(g->sched, q->id);
		engine_seq_free(q);
	}
	sched_close(&g->sched);
}

void
engine_close(struct engine **gp)
{
	struct engine *g = *gp;
	struct seq *q;
	unsigned i;

	if (g == NULL)
		return;
	if (g->sched)
		close_sched(g);
	while ((q = g->dead) != NULL) {
		g->dead = q->next_dead;
		engine_seq_free(q);
	}
	kv_close(&g->kv);
	model_close(&g->m);
	for (i = 0; g->scratch && i < par_threads(g->par); i++)
		sample_scratch_free(&g->scratch[i]);
	par_close(g->par);
	free(g->scratch);
	free(g->logits);
	free(g->part);
	free(g->out);
	free(g->job);
	free(g);
	*gp = NULL;
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
	return kv_blocks(g->kv);
}

const struct engine_opts *
engine_options(const struct engine *g)
{
	return &g->o;
}

void
engine_stats(const struct engine *g, struct engine_stats *st)
{
	*st = g->st;
	st->running = sched_running(g->sched);
	st->waiting = sched_waiting(g->sched);
	st->blocks = kv_blocks(g->kv);
	st->blocks_used = st->blocks - kv_free_blocks(g->kv);
	st->preemptions = sched_preemptions(g->sched);
}
