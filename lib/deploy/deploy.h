/*
 * deploy: from the flags of "vllm-mindspore serve", a MindFormers YAML, the
 * environment and config.json to a layout, and from that to its plan.
 *
 * One struct for every program that takes these flags:
 *
 *	deploy_init(&d);
 *	t = deploy_layout_opts(tab, &d);	... and other tables
 *	opt_parse(tab, ...);
 *	d.model = operand, unless --model gave it
 *	deploy_resolve(&d, &e);			reads no weights
 *	... d.arch, d.layout, d.worlds, d.notice
 *	deploy_free(&d);
 *
 * Who wins: --tensor-parallel-size and --pipeline-parallel-size over the YAML;
 * --data-parallel-size must agree with it; --expert-parallel-size wins over
 * --additional-config and the YAML; config.json wins over the YAML's numbers of
 * the model.  DP without EP is several worlds: see worlds.
 */
#ifndef DSI_DEPLOY_H
#define DSI_DEPLOY_H

#include "base/base.h"
#include "engine/engine.h"
#include "plan/plan.h"
#include "shard/shard.h"

enum deploy_exec { DEPLOY_MP, DEPLOY_MPI, DEPLOY_RAY, DEPLOY_UNI };
enum deploy_format {
	DEPLOY_AUTO, DEPLOY_SAFETENSORS, DEPLOY_DUMMY, DEPLOY_HOLLOW
};

enum {
	DEPLOY_MAX_PLACES = 1024,
	DEPLOY_MAX_NAMES = 16,		/* --served-model-name */
	/* rows that the functions below fill */
	DEPLOY_LAYOUT_OPTS = 7, DEPLOY_ENGINE_OPTS = 13,
	DEPLOY_SERVE_OPTS = 39,
};

/* Where the weights' form is known from. */
enum deploy_weights {
	DEPLOY_RANK_FILES,		/* model is what dsi-shard made */
	DEPLOY_PUBLISHED,		/* model holds published weights */
	DEPLOY_ASSUMED,			/* there are none: flags, YAML or
					 * config.json say what they will be */
};

struct deploy {
	/* ---- what the flags say; 0 and NULL: nothing ---- */
	const char *model;		/* a directory or a config.json */
	uint64_t tp, dp, pp, ep;
	bool enable_ep;
	const char *yaml;		/* else MINDFORMERS_MODEL_CONFIG */
	const char *additional;		/* JSON */
	uint64_t dp_local, dp_start;	/* start UINT64_MAX: not given */
	const char *dp_address;
	uint64_t dp_port;
	bool headless;
	uint64_t nnodes, node_rank;	/* node_rank UINT64_MAX: not given */
	const char *master_address;
	uint64_t master_port;
	uint64_t join_s, alive_s;	/* how long all may take to join, and a
					 * rank may be silent; 600, 10 */
	int exec;			/* enum deploy_exec, as asked for */
	int load_format;		/* enum deploy_format */
	const char *quantization;
	struct engine_opts engine;	/* from deploy_engine_opts; dir and
					 * threads are the caller's */
	uint64_t threads;
	/* For the gateway: only carried along. */
	const char *served_name[DEPLOY_MAX_NAMES];
	unsigned nserved_name;		/* 0: the model as given */
	const char *host;
	uint64_t port;			/* 8000 */
	const char *api_key, *reasoning_parser, *tool_parser;
	bool auto_tools;
	/* Flags that mean nothing here leave their arguments there. */
	bool ignored_flag;
	const char *ignored_text;

	/* Mismatches that are notices otherwise are errors. */
	bool strict;

	/* ---- what deploy_resolve makes of it ---- */
	struct arch arch;
	char *config;			/* path of the config.json */
	struct layout asked;		/* as flags and YAML say; dsi-shard
					 * makes files for that */
	struct layout layout;		/* of one world */
	unsigned worlds;		/* > 1: DP groups without EP, each a
					 * world of its own, all alike (but
					 * rank files of one world stay so) */
	unsigned size;			/* ranks in all worlds together */
	unsigned data;			/* DP groups in all worlds */
	/* This node has the ranks of deploy_is_local; groups are numbered over
	 * all worlds. */
	unsigned group0, group1;	/* its DP groups; or, with cut_ranks, */
	bool cut_ranks;			/* its nodes-th part of the ranks */
	unsigned node, nodes;		/* which of (at least) how many */
	enum deploy_exec runs_on;	/* never DEPLOY_RAY */
	const char *lead;		/* address of the lead: dp_address or
					 * master_address, or 127.0.0.1 */
	unsigned lead_port;		/* 29550 */
	char ifname[16];		/* "": any */
	const char *ifname_from;	/* the variable it is from */
	unsigned place[DEPLOY_MAX_PLACES];	/* this node's places */
	unsigned nplace;		/* 0: all that there is */
	const char *place_from;
	enum deploy_weights weights;
	enum shard_quant quantize;	/* as the weights are to be sharded */
	bool dummy;			/* likewise: random ones */
	bool hollow;			/* with dummy: none, only files */
	char weights_are[96];		/* "int8 (quantization_config of
					 * r1.yaml)" */
	const char *yaml_path;		/* NULL: none */
	bool yaml_int8;			/* its quantization_config says int8 */
	char **notice;			/* [nnotice]: for the command to say */
	size_t nnotice, cap_notice;
};

/* Rank of one world or of all worlds: r / plan_world(&d->layout) is its world,
 * the remainder its rank there. */

void deploy_init(struct deploy *d);
/* Also what deploy_resolve made, so that it may run again. */
void deploy_free(struct deploy *d);

/* Each fills its rows and returns the place after them; the caller ends the
 * table.  Texts for --help are the same in every program. */
struct opt *deploy_layout_opts(struct opt *t, struct deploy *d);
struct opt *deploy_serve_opts(struct opt *t, struct deploy *d);
/* The engine's flags, for programs that have engine_opts of their own too. */
struct opt *deploy_engine_opts(struct opt *t, struct engine_opts *o,
    uint64_t *threads);

/* Checks everything together and fills the second half.  d->model must be set.
 * ERR_CALLER: one line that names flag, key or variable, both numbers, and
 * what would work.  Reads YAML, environment, config.json, and the headers of
 * a manifest; no weights. */
int deploy_resolve(struct deploy *d, struct err *e);

/* Ranks that mpirun or srun started, as they say in the environment; 0: none of
 * them did. */
unsigned deploy_mpi_size(void);

/* Does this node run the rank (0..d->size-1)? */
bool deploy_is_local(const struct deploy *d, unsigned rank);
/* How many it runs. */
unsigned deploy_local(const struct deploy *d);
/* Its part of the model, and its DP group over all worlds. */
void deploy_rank(const struct deploy *d, unsigned rank, struct plan *p,
    unsigned *group);

/* ---- plan.c: what each rank holds, and what fits ---- */

struct deploy_memory {
	uint64_t per_rank, per_host;	/* bytes; at most one is given; both
					 * 0: this host's */
};

/* What a rank gets from others. */
struct deploy_traffic {
	unsigned exchanges;		/* of a step, in which it takes part */
	/* Bytes it receives for a row of its own DP group, and for a row of
	 * another group of its world; slots of experts evenly spread. */
	uint64_t own_row, other_row;
	uint64_t logits;	/* sent to the lead for each sampled row */
};

struct deploy_rank_plan {
	struct plan part;
	unsigned world, group;		/* group: over all worlds */
	unsigned layers;
	uint64_t weight_bytes;		/* of its files, exact */
	uint64_t kv_token;		/* bytes a token of its group */
	uint64_t work_bytes;		/* step buffers */
	/* Memory with one sequence of max_len, and with max_num_seqs. */
	uint64_t need_one, need_all;
	struct deploy_traffic traffic;
};

struct deploy_plan {
	unsigned n;			/* = deploy.size */
	struct deploy_rank_plan *rank;	/* [n] */
	char weights_are[96];
	uint64_t weight_bytes;		/* of all ranks */
	uint64_t max_len;		/* tokens of context asked for, or the
					 * model's */
	unsigned host_ranks;		/* ranks on this node */
	/* false for a config.json alone without a size in deploy_memory: then
	 * the rest is 0. */
	bool known;
	uint64_t per_rank;		/* bytes, before utilization */
	uint64_t budget;		/* after it */
	uint64_t host;			/* bytes of a host; 0: only per_rank
					 * was given */
	uint64_t avail;			/* of this host, now; 0: another's */
	bool fits;
	unsigned worst;			/* the rank with the least room */
	uint64_t need;			/* least that rank worst must have */
	uint64_t blocks;		/* of the KV cache, on every rank */
	uint64_t context;		/* tokens of one sequence, at most
					 * max_len */
	uint64_t sequences;		/* of max_len tokens at a time, a DP
					 * group; at most max_num_seqs */
	unsigned hosts;			/* such hosts as would do; 0: none */
};

/* ERR_CALLER: weights that don't match config.json or --quantization, rank
 * files of this node that are missing or cut off. */
int deploy_plan(struct deploy_plan *p, const struct deploy *d,
    const struct deploy_memory *m, struct err *e);
void deploy_plan_free(struct deploy_plan *p);

/* ---- report.c ---- */

/* For people: some lines, ranks with equal rows together. */
void deploy_put_text(struct buf *b, const struct deploy *d,
    const struct deploy_plan *p);
/* For programs: one object, every rank; dsi-check(1) has the keys. */
void deploy_put_json(struct buf *b, const struct deploy *d,
    const struct deploy_plan *p);

#endif
