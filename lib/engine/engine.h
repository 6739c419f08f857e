/*
 * engine: sequences in, tokens out; one world, continuous batching.
 *
 * engine_add queues a sequence; each engine_step plans one batch (sched), runs
 * the model over it and samples.  Not thread-safe: one thread calls it, and it
 * runs its own pool inside a step.
 *
 * In a world of many ranks rank 0 leads: it plans each step for all DP groups,
 * tells all ranks, and samples.  The others open an engine likewise and then
 * follow (engine_follow); they know nothing of requests.
 */
#ifndef DSI_ENGINE_H
#define DSI_ENGINE_H

#include "arch/arch.h"
#include "comm/comm.h"
#include "sample/sample.h"

enum engine_dtype { ENGINE_AUTO, ENGINE_BF16, ENGINE_F32 };
enum engine_load { ENGINE_EAGER, ENGINE_LAZY };	/* read; or map */

/* How a rank reaches the others of its world. */
struct engine_link {
	const int *fd;			/* rank 0: peers' sockets (comm_lead) */
	size_t nfd;
	int listen_fd;			/* rank 0: for all others, or -1 */
	int lead_fd;			/* other ranks: connected to rank 0 */
	struct comm_opts comm;		/* rank, times, transport, waiting; the
					 * engine fills in the rest */
};

struct engine_opts {
	const char *dir;		/* rank files (dsi-shard(5)) */
	const struct engine_link *link;	/* NULL: a world of one */
	int load;			/* enum engine_load: of weights */
	unsigned threads;		/* 0: cores of the affinity mask */
	uint64_t block_size;		/* tokens in a KV block: 16 32 64 128 */
	int kv_dtype;			/* auto: bf16 */
	int dtype;			/* activations; auto: f32 */
	uint64_t max_num_seqs;		/* of each DP group */
	uint64_t max_num_batched_tokens;	/* likewise */
	uint64_t max_model_len;		/* 0: the model's */
	double memory_utilization;	/* of this machine's memory */
	uint64_t num_blocks;		/* 0: from memory_utilization */
	bool prefix_caching;
	unsigned host_ranks;		/* that share this host's memory and
					 * cores, of all worlds; 0: this
					 * world's */
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

/* Loads the weights and, with a link, waits for the whole world.  The sockets
 * of the link are taken over, also on failure. */
int engine_open(struct engine **g, const struct engine_opts *o, struct err *e);
/* One engine over n >= 1 worlds that serve the same model alike: a request
 * runs in one of them.  The parts stay the caller's, to be closed after it,
 * but only this one may be used meanwhile. */
int engine_join(struct engine **g, struct engine *const *part, unsigned n,
    struct err *e);
/* Rank 0 sends the others home. */
void engine_close(struct engine **g);
/* Every rank but 0: works until rank 0 closes (0) or the world ends (-1). */
int engine_follow(struct engine *g, struct err *e);
/* NULL: a world of one. */
struct comm *engine_comm(const struct engine *g);
/* For rank 0 while it has nothing to step: a descriptor that is readable once
 * a world has ended (-1: there is none to wait for), and why (-1), or 0 while
 * all live. */
int engine_end_fd(const struct engine *g);
int engine_check(const struct engine *g, struct err *e);
const struct arch *engine_arch(const struct engine *g);
uint64_t engine_max_len(const struct engine *g);	/* tokens */
uint64_t engine_blocks(const struct engine *g);
const struct engine_opts *engine_options(const struct engine *g);

/* ERR_CALLER when it could never run: an id outside the vocabulary, an empty
 * or too long prompt (names both lengths).  *id is never 0. */
int engine_add(struct engine *g, const struct engine_seq *s, uint64_t *id,
    struct err *e);
/* Frees its blocks, at once or when the step that it is in is done; no further
 * output for it.  Unknown ids are ignored. */
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
