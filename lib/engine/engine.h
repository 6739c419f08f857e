/*
 * engine: sequences in, tokens out; one world, continuous batching.
 *
 * engine_add queues a sequence; each engine_step plans one batch (sched), runs
 * the model over it and samples.  Not thread-safe: one thread calls it, and it
 * runs its own pool inside a step.
 */
#ifndef DSI_ENGINE_H
#define DSI_ENGINE_H

#include "arch/arch.h"
#include "sample/sample.h"

enum engine_dtype { ENGINE_AUTO, ENGINE_BF16, ENGINE_F32 };

struct engine_opts {
	const char *dir;		/* rank files (dsi-shard(5)) */
	unsigned threads;		/* 0: cores of the affinity mask */
	uint64_t block_size;		/* tokens in a KV block: 16 32 64 128 */
	int kv_dtype;			/* auto: bf16 */
	int dtype;			/* activations; auto: f32 */
	uint64_t max_num_seqs;
	uint64_t max_num_batched_tokens;
	uint64_t max_model_len;		/* 0: the model's */
	double memory_utilization;	/* of this machine's memory */
	uint64_t num_blocks;		/* 0: from memory_utilization */
	bool prefix_caching;
	uint64_t seed;			/* for requests without one */
	struct bar *bar;		/* started by the caller, shows the
					 * loading of the weights; or NULL */
};

/* The defaults: 128-token blocks, 256 sequences, 2048 tokens a step, 0.9. */
void engine_defaults(struct engine_opts *o);

enum engine_finish {
	ENGINE_RUNNING, ENGINE_STOP, ENGINE_LENGTH, ENGINE_ABORT
};

/* One sequence to run.  The arrays are copied. */
struct engine_seq {
	const int32_t *ids;		/* prompt, then tokens already made */
	size_t n;
	size_t nprompt;			/* of which prompt; = n when new */
	const struct sample_params *params;
	uint32_t choice;		/* 0..n-1 of its request */
	int64_t priority;		/* lower runs first */
	const char *cache_salt;		/* or NULL */
};

struct engine;

/* What one step has for one sequence. */
struct engine_out {
	uint64_t id;
	enum engine_finish finish;
	int32_t token;			/* -1: none in this step */
	int32_t stop_id;		/* that ended it, or -1 */
	const struct sample_logprobs *lp;	/* of token; NULL: not asked */
	/* Logprobs of prompt tokens [prompt0, prompt0+nprompt): of the token
	 * at that place, given those before it; place 0 never occurs. */
	size_t prompt0, nprompt;
	const struct sample_logprobs *prompt_lp;
	size_t ncached;			/* prompt tokens found in the cache */
};

int engine_open(struct engine **g, const struct engine_opts *o, struct err *e);
void engine_close(struct engine **g);
const struct arch *engine_arch(const struct engine *g);
uint64_t engine_max_len(const struct engine *g);	/* tokens */
uint64_t engine_blocks(const struct engine *g);
const struct engine_opts *engine_options(const struct engine *g);

/* ERR_CALLER when it could never run: an id outside the vocabulary, an empty
 * or too long prompt (names both lengths).  *id is never 0. */
int engine_add(struct engine *g, const struct engine_seq *s, uint64_t *id,
    struct err *e);
/* Frees its blocks at once; no further output for it.  Unknown ids are
 * ignored. */
void engine_abort(struct engine *g, uint64_t id);
/* One step.  outs: *n entries, valid until the next call.  Returns 1 while
 * anything is left to do, 0 when idle (*n may still be > 0), -1 on failure. */
int engine_step(struct engine *g, const struct engine_out **outs, size_t *n,
    struct err *e);

struct engine_stats {
	uint64_t steps, prompt_tokens, generated_tokens, cached_tokens;
	uint64_t preemptions;
	uint64_t running, waiting, blocks_used, blocks;
};
void engine_stats(const struct engine *g, struct engine_stats *st);

#endif
