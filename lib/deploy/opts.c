/*
 * opts: the flags, as tables for opt_parse.
 *
 * Names, meanings and defaults are those of "vllm-mindspore serve"; the few of
 * our own say so in dsi-check(1).
 */
#include <string.h>

#include "deploy/priv.h"

enum { MAX_THREADS = 4096, MAX_SEQS = 1 << 16, MAX_ROWS = 1 << 20 };
/* The lead greets every second; a day is as good as forever. */
enum { MIN_ALIVE_S = 2, MAX_S = 86400 };

static const char *const dtypes[] = { "auto", "bfloat16", "float32", NULL };
static const char *const execs[] = { "mp", "mpi", "ray", "uni", NULL };
static const char *const formats[] = { "auto", "safetensors", "dummy",
    "hollow", NULL };
static const char *const loads[] = { "eager", "lazy", NULL };

void
deploy_init(struct deploy *d)
{
	*d = (struct deploy){
		.dp_start = UINT64_MAX, .node_rank = UINT64_MAX, .port = 8000,
		.join_s = 600, .alive_s = 10,
	};
	engine_defaults(&d->engine);
}

struct opt *
deploy_layout_opts(struct opt *t, struct deploy *d)
{
	const struct opt v[DEPLOY_LAYOUT_OPTS] = {
		{ .name = "tensor-parallel-size", .type = OPT_U64,
		  .dst = &d->tp, .arg = "N", .min = 1, .max = PLAN_MAX_RANKS,
		  .help = "ranks that share heads and dense layers (1)" },
		{ .name = "data-parallel-size", .type = OPT_U64,
		  .dst = &d->dp, .arg = "N", .min = 1, .max = PLAN_MAX_RANKS,
		  .help = "groups with requests of their own (1)" },
		{ .name = "pipeline-parallel-size", .type = OPT_U64,
		  .dst = &d->pp, .arg = "N", .min = 1, .max = PLAN_MAX_RANKS,
		  .help = "stages that share the layers (1)" },
		{ .name = "expert-parallel-size", .type = OPT_U64,
		  .dst = &d->ep, .arg = "N", .min = 1, .max = PLAN_MAX_RANKS,
		  .help = "blocks that share the experts (1)" },
		{ .name = "enable-expert-parallel", .type = OPT_FLAG,
		  .dst = &d->enable_ep, .help = "as many blocks as tensor "
		  "times data ranks, if not given" },
		{ .name = "mindformers-config", .type = OPT_STR,
		  .dst = &d->yaml, .arg = "FILE", .help = "YAML with a "
		  "parallel_config (MINDFORMERS_MODEL_CONFIG)" },
		{ .name = "additional-config", .type = OPT_STR,
		  .dst = &d->additional, .arg = "JSON",
		  .help = "{\"expert_parallel\":N}" },
	};

	memcpy(t, v, sizeof(v));
	return t + DEPLOY_LAYOUT_OPTS;
}

struct opt *
deploy_engine_opts(struct opt *t, struct engine_opts *o, uint64_t *threads)
{
	const struct opt v[DEPLOY_ENGINE_OPTS] = {
		{ .name = "max-model-len", .type = OPT_U64,
		  .dst = &o->max_model_len, .arg = "N",
		  .help = "tokens of context (the model's)" },
		{ .name = "max-num-seqs", .type = OPT_U64, .min = 1,
		  .max = MAX_SEQS, .dst = &o->max_num_seqs, .arg = "N",
		  .help = "run at once (256)" },
		{ .name = "max-num-batched-tokens", .type = OPT_U64, .min = 1,
		  .max = MAX_ROWS, .dst = &o->max_num_batched_tokens,
		  .arg = "N", .help = "in one step (2048)" },
		{ .name = "block-size", .type = OPT_U64,
		  .dst = &o->block_size, .arg = "N",
		  .help = "tokens in a cache block: 16, 32, 64, 128 (128)" },
		{ .name = "kv-cache-dtype", .type = OPT_ENUM,
		  .dst = &o->kv_dtype, .choices = dtypes, .arg = "TYPE",
		  .help = "auto (bfloat16), bfloat16, float32" },
		{ .name = "dtype", .type = OPT_ENUM, .dst = &o->dtype,
		  .choices = dtypes, .arg = "TYPE",
		  .help = "of activations: auto (float32), bfloat16, float32" },
		{ .name = "gpu-memory-utilization", .type = OPT_F64,
		  .dst = &o->memory_utilization, .fmax = 1, .arg = "X",
		  .help = "part of this machine's memory to use (0.9)" },
		{ .name = "memory-utilization", .type = OPT_F64, .fmax = 1,
		  .dst = &o->memory_utilization, .hidden = true },
		{ .name = "num-blocks", .type = OPT_U64,
		  .dst = &o->num_blocks, .max = UINT32_MAX - 1, .arg = "N",
		  .help = "cache blocks, instead (from memory)" },
		{ .name = "num-gpu-blocks-override", .type = OPT_U64,
		  .dst = &o->num_blocks, .max = UINT32_MAX - 1,
		  .hidden = true },
		{ .name = "enable-prefix-caching", .type = OPT_FLAG,
		  .dst = &o->prefix_caching,
		  .help = "reuse what prompts have in common (on)" },
		{ .name = "safetensors-load-strategy", .type = OPT_ENUM,
		  .dst = &o->load, .choices = loads, .arg = "HOW",
		  .help = "eager: into huge pages; lazy: mapped (eager)" },
		{ .name = "threads", .type = OPT_U64, .dst = threads,
		  .max = MAX_THREADS, .arg = "N",
		  .help = "0: one for each core (0)" },
	};

	memcpy(t, v, sizeof(v));
	return t + DEPLOY_ENGINE_OPTS;
}

static int
add_name(const char *arg, void *dst, struct err *e)
{
	struct deploy *d = dst;

	if (!*arg)
		return err_set(e, ERR_CALLER, "must not be empty");
	if (d->nserved_name == DEPLOY_MAX_NAMES)
		return err_set(e, ERR_CALLER, "can be given %d times at most",
		    DEPLOY_MAX_NAMES);
	d->served_name[d->nserved_name++] = arg;
	return 0;
}

/* Nodes and how they find each other. */
static struct opt *
node_opts(struct opt *t, struct deploy *d)
{
	const struct opt v[] = {
		{ .name = "data-parallel-size-local", .type = OPT_U64,
		  .dst = &d->dp_local, .arg = "N", .min = 1,
		  .max = PLAN_MAX_RANKS, .help = "groups on this node (all)" },
		{ .name = "data-parallel-start-rank", .type = OPT_U64,
		  .dst = &d->dp_start, .arg = "N", .max = PLAN_MAX_RANKS,
		  .help = "the first group on this node (0)" },
		{ .name = "data-parallel-address", .type = OPT_STR,
		  .dst = &d->dp_address, .arg = "ADDR",
		  .help = "of the node that leads (127.0.0.1)" },
		{ .name = "data-parallel-rpc-port", .type = OPT_U64,
		  .dst = &d->dp_port, .arg = "N", .min = 1, .max = 65535,
		  .help = "of the node that leads (29550)" },
		{ .name = "headless", .type = OPT_FLAG, .dst = &d->headless,
		  .help = "this node does not lead" },
		{ .name = "nnodes", .type = OPT_U64, .dst = &d->nnodes,
		  .arg = "N", .min = 1, .max = PLAN_MAX_RANKS,
		  .help = "nodes that share the ranks evenly (1)" },
		{ .name = "node-rank", .type = OPT_U64, .dst = &d->node_rank,
		  .arg = "N", .max = PLAN_MAX_RANKS,
		  .help = "which of them this node is (0)" },
		{ .name = "master-addr", .type = OPT_STR, .arg = "ADDR",
		  .dst = &d->master_address,
		  .help = "with --nnodes: as --data-parallel-address" },
		{ .name = "master-port", .type = OPT_U64, .arg = "N",
		  .dst = &d->master_port, .min = 1, .max = 65535,
		  .help = "with --nnodes: as --data-parallel-rpc-port" },
		{ .name = "join-timeout", .type = OPT_U64, .arg = "S",
		  .dst = &d->join_s, .min = 1, .max = MAX_S,
		  .help = "seconds for all ranks to join (600)" },
		{ .name = "alive-timeout", .type = OPT_U64, .arg = "S",
		  .dst = &d->alive_s, .min = MIN_ALIVE_S, .max = MAX_S,
		  .help = "seconds of a rank's silence that end all (10)" },
		{ .name = "distributed-executor-backend", .type = OPT_ENUM,
		  .dst = &d->exec, .choices = execs, .arg = "HOW",
		  .help = "how ranks are started: mp, mpi, ray, uni (mp)" },
	};

	memcpy(t, v, sizeof(v));
	return t + sizeof(v) / sizeof(*v);
}

static struct opt *
model_opts(struct opt *t, struct deploy *d)
{
	const struct opt v[] = {
		{ .name = "model", .type = OPT_STR, .dst = &d->model,
		  .arg = "MODEL", .help = "instead of the operand" },
		{ .name = "load-format", .type = OPT_ENUM,
		  .dst = &d->load_format, .choices = formats, .arg = "HOW",
		  .help = "auto, safetensors; dummy: random weights; hollow: "
		  "none (auto)" },
		{ .name = "quantization", .type = OPT_STR,
		  .dst = &d->quantization, .arg = "HOW", .help = "ascend, "
		  "golden-stick: int8 as published; int8: make it" },
	};

	memcpy(t, v, sizeof(v));
	return t + sizeof(v) / sizeof(*v);
}

/* Carried along for the gateway. */
static struct opt *
api_opts(struct opt *t, struct deploy *d)
{
	const struct opt v[] = {
		{ .name = "served-model-name", .type = OPT_CALL,
		  .call = add_name, .dst = d, .arg = "NAME",
		  .help = "in the API; can be repeated (MODEL)" },
		{ .name = "host", .type = OPT_STR, .dst = &d->host,
		  .arg = "ADDR", .help = "where the API listens (any)" },
		{ .name = "port", .type = OPT_U64, .dst = &d->port,
		  .arg = "N", .min = 1, .max = 65535,
		  .help = "of the API (8000)" },
		{ .name = "api-key", .type = OPT_STR, .dst = &d->api_key,
		  .arg = "KEY", .help = "that the API's callers must have" },
		{ .name = "reasoning-parser", .type = OPT_STR, .arg = "NAME",
		  .dst = &d->reasoning_parser, .hidden = true },
		{ .name = "tool-call-parser", .type = OPT_STR, .arg = "NAME",
		  .dst = &d->tool_parser, .hidden = true },
		{ .name = "enable-auto-tool-choice", .type = OPT_FLAG,
		  .dst = &d->auto_tools, .hidden = true },
	};

	memcpy(t, v, sizeof(v));
	return t + sizeof(v) / sizeof(*v);
}

struct opt *
deploy_serve_opts(struct opt *t, struct deploy *d)
{
	/* Right by itself here, or about what isn't here at all. */
	static const char *const flags[] = {
		"trust-remote-code", "enable-chunked-prefill", "enforce-eager",
		"disable-log-requests", "enable-log-requests",
		"disable-log-stats", "disable-custom-all-reduce",
		"async-scheduling", "enable-reasoning",
	};
	static const char *const texts[] = {
		"data-parallel-backend", "tokenizer-mode", "config-format",
		"uvicorn-log-level", "max-seq-len-to-capture", "swap-space",
		"cpu-offload-gb", "device",
	};

	t = model_opts(t, d);
	t = node_opts(t, d);
	t = api_opts(t, d);
	for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++)
		*t++ = (struct opt){ .name = flags[i], .type = OPT_FLAG,
		    .dst = &d->ignored_flag, .hidden = true };
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		*t++ = (struct opt){ .name = texts[i], .type = OPT_STR,
		    .dst = &d->ignored_text, .arg = "X", .hidden = true };
	return t;
}
