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

enum { LOGIT_ROWS = 32 };	/* rows of logits held at a time */

/* One sequence, from engine_add until the step after its end. */
struct seq {
	uint64_t id;
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
	size_t out;			/* index into outs */
	const int32_t *ids;
	size_t len;			/* tokens that the sequence has */
	int32_t token;			/* drawn */
	float *logits;
	struct err err;
};

struct engine {
	struct engine_opts o;
	struct arch a;
	struct par *par;
	struct model *m;
	struct kv *kv;
	struct sched *sched;
	size_t max_len;
	uint64_t next_id;
	struct seq *dead;		/* freed at the next step */
	float *logits;			/* [LOGIT_ROWS][vocab] */
	struct sample_scratch **scratch;	/* [threads] */
	struct model_part *part;
	size_t cappart;
	struct engine_out *out;
	size_t nout, capout;
	struct job *job;
	size_t njob, capjob;
	size_t job0;			/* first of the jobs under way */
	struct engine_stats st;
};

void engine_seq_free(struct seq *q);

/* memory.c: bytes that this process may use by now, from what the machine (or
 * its control group) has, the part of it that is to be used, and what is
 * taken. */
int memory_budget(double utilization, uint64_t *bytes, struct err *e);

#endif
