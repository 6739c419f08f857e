/*
 * Inside of module engine: a sequence's state, and the engine's.
 */
#ifndef DSI_ENGINE_PRIV_H
#define DSI_ENGINE_PRIV_H

#include "engine/engine.h"
#include "kv/kv.h"
#include "model/model.h"
#include "par/par.h"
#include "sched/sched.h"

enum { LOGIT_ROWS = MODEL_LOGIT_ROWS };

/* One sequence, from engine_add until the step after its end. */
struct seq {
	uint64_t id;
	unsigned dp;			/* its group */
	bool aborted;			/* while a step with it was under way */
	struct sample_params params;
	uint64_t seed;			/* resolved */
	uint32_t choice;
	size_t nprompt;
	struct sample_seen *seen;	/* NULL without penalties */
	struct sample_logprobs lp;	/* of the last token */
	struct sample_logprobs *plp;	/* [nprompt], when asked for */
	size_t plp_next;		/* the next prompt place to report */
	struct seq *next_dead;
};

/* A row of logits and what to do with it. */
struct job {
	struct seq *q;
	uint32_t row;			/* of the step */
	size_t place;			/* prompt token whose logprob it gives;
					 * 0: draw the next token */
	size_t out;			/* index into the flight's outs */
	const int32_t *ids;
	size_t len;			/* tokens that the sequence has */
	int32_t token;			/* drawn */
	float *logits;
	struct err err;
};

/* A step that was planned and sent off, until its tokens are there. */
struct flight {
	struct engine_out *out;
	size_t nout, capout;
	struct job *job;
	size_t njob, capjob;
	bool *has;			/* [DP]: parts of that group */
};

/* The requests of one DP group; on rank 0 only. */
struct group {
	struct kv *kv;
	struct sched *sched;
};

struct engine {
	struct engine_opts o;
	struct arch a;
	struct layout layout;
	char *conversion;		/* the manifest's, told to the world */
	struct par *par;
	struct comm *comm;		/* NULL: a world of one */
	struct comm_group *all;		/* of all ranks */
	struct model *m;
	struct group *group;		/* [DP] */
	size_t max_len;
	uint64_t nblock;
	uint64_t next_id;
	struct seq *dead;		/* freed at the next step */
	float *logits;			/* [LOGIT_ROWS][vocab] */
	struct sample_scratch **scratch;	/* [threads] */
	struct model_part *part;	/* of the step that is sent off */
	size_t npart, cappart;
	struct flight *flight;		/* [PP], a ring */
	size_t nflight, oldest;
	struct flight *landing;		/* whose jobs are under way, */
	size_t job0;			/* from this one on */
	struct engine_out *quit;	/* of sequences that can't go on */
	size_t nquit, capquit;
	struct engine_out *outs;	/* what the last step gave */
	size_t capouts;
	uint32_t *msg;			/* the plan as it is told */
	size_t capmsg;
	struct engine_stats st;
	struct many *many;		/* engine_join: the parts; then most of
					 * the above is unused */
};

/* many.c */
int many_add(struct many *m, const struct engine_seq *s, uint64_t *id,
    struct err *e);
void many_abort(struct many *m, uint64_t id);
int many_step(struct many *m, const struct engine_out **outs, size_t *n,
    struct err *e);
void many_stats(struct many *m, struct engine_stats *st);
int many_end_fd(const struct many *m);
int many_check(const struct many *m, struct err *e);
void many_close(struct many *m);

void engine_seq_free(struct seq *q);

/* world.c */

/* Joins the world that the link leads to; before the weights are read. */
int world_open(struct engine *g, const struct model_opts *mo, struct err *e);
/* *n becomes the least of all ranks' *n; waits for all as long as it takes. */
int world_least(struct engine *g, uint64_t *n, struct err *e);
/* Rank 0: the step in g->part and the rows that f has jobs for. */
int world_tell(struct engine *g, const struct flight *f, struct err *e);
void world_close(struct engine *g);

/* memory.c: bytes that this process may use by now, from what the machine (or
 * its control group) has, the part of it that is to be used, and what is
 * taken; one of ranks that share it evenly. */
int memory_budget(double utilization, unsigned ranks, uint64_t *bytes,
    struct err *e);

#endif
