/*
 * sample: from a row of logits to a token and its logprobs.
 *
 * Semantics are vLLM's (V1): logprobs are those of the raw logits, before any
 * penalty or temperature; then, in this order: allowed ids, bad words, logit
 * bias, min_tokens (stop ids are masked), repetition, frequency and presence
 * penalty, temperature, min_p, top_k, top_p, draw.
 *
 * The draw depends on the row, the parameters, the seed and the number of
 * tokens generated so far, and on nothing else: no state is carried from one
 * draw to the next, so a sequence that is continued elsewhere goes on with the
 * very same tokens.
 *
 * As in vLLM, top_k keeps all that tie with the k-th, and bad words look at
 * generated tokens only.  When every token is masked (allowed ids that are all
 * stop ids, say) the lowest allowed id is taken: a request can't make a draw
 * fail.
 */
#ifndef DSI_SAMPLE_H
#define DSI_SAMPLE_H

#include "base/base.h"

enum {
	SAMPLE_MAX_LOGPROBS = 20,
	SAMPLE_MAX_STOP = 16,		/* stop strings */
	SAMPLE_LOGPROBS_OFF = -2,	/* -1: the whole vocabulary */
};

struct sample_bias {
	int32_t id;
	float bias;
};

struct sample_words {			/* one bad word as token ids */
	int32_t *id;
	size_t n;
};

/* All of one request's sampling fields.  sample_init sets the defaults;
 * arrays are owned by the struct and freed by sample_free. */
struct sample_params {
	double temperature;		/* 0..2; 0: greedy; 1 */
	double top_p;			/* (0,1]; 1 */
	double min_p;			/* [0,1]; 0 */
	int64_t top_k;			/* <= 0: off */
	double repetition_penalty;	/* > 0; 1 */
	double presence_penalty, frequency_penalty;	/* [-2,2]; 0 */
	bool has_seed;
	int64_t seed;
	int64_t max_tokens;		/* >= 0; 16 */
	int64_t min_tokens;		/* 0..max_tokens */
	bool ignore_eos;
	int32_t *stop_id;		/* besides the model's eos */
	size_t nstop_id;
	char *stop[SAMPLE_MAX_STOP];	/* UTF-8, none empty */
	size_t nstop;
	bool include_stop;		/* include_stop_str_in_output */
	struct sample_bias *bias;	/* clamped to +-100 in the draw */
	size_t nbias;
	int32_t *allowed;		/* NULL: all */
	size_t nallowed;
	struct sample_words *bad;
	size_t nbad;
	int logprobs;			/* SAMPLE_LOGPROBS_OFF, -1, 0..20 */
	int prompt_logprobs;		/* the same */
	int32_t *logprob_id;		/* logprob_token_ids */
	size_t nlogprob_id;
};

void sample_init(struct sample_params *p);
void sample_free(struct sample_params *p);
int sample_copy(struct sample_params *to, const struct sample_params *from,
    struct err *e);
/* Ranges, and ids against vocab; "temperature must be in [0, 2], not 3". */
int sample_check(const struct sample_params *p, unsigned vocab, struct err *e);

/* What a sequence has seen: ids and how often, for the penalties.  {0} is
 * empty. */
struct sample_seen;
int sample_seen_new(struct sample_seen **s, struct err *e);
int sample_seen_add(struct sample_seen *s, int32_t id, bool output,
    struct err *e);
void sample_seen_free(struct sample_seen **s);

struct sample_lp {
	int32_t id;
	float lp;			/* natural log */
	int32_t rank;			/* 1 = most likely; of chosen: 1 + the
					 * number of greater logits */
};

/* The logprobs of one position. */
struct sample_logprobs {
	struct sample_lp chosen;
	struct sample_lp *top;		/* n best, falling; ties: lower id */
	size_t ntop, captop;		/* memory is reused */
};

/* log-sum-exp of x[0..n): blocks of 1024 in rising order, so that no split
 * of the work changes a bit.  Uses the kernel table. */
float sample_lse(const float *x, size_t n);

/* Fills out for token id from raw logits[vocab]; ntop as in params.logprobs
 * (-1: all of them). */
int sample_logprobs(struct sample_logprobs *out, const float *logits,
    size_t vocab, int32_t id, int ntop, struct err *e);

/* What sample_draw needs besides the parameters. */
struct sample_ctx {
	uint64_t seed;		/* resolved: params.seed or the engine's */
	uint32_t choice;		/* 0..n-1 of the request */
	size_t nout;			/* tokens generated so far */
	const int32_t *out;		/* they, for bad words */
	const struct sample_seen *seen;	/* NULL: no penalties set */
	const int32_t *eos;		/* masked while nout < min_tokens, */
	size_t neos;			/* together with stop_id */
};

/* Draws one token; logits[vocab] stay as they are (their logprobs are wanted
 * afterwards).  -infinity is a masked token; NaN or +infinity is ERR_SYSTEM.
 * Scratch lives in *s (NULL at first), made on first use and freed by
 * sample_scratch_free. */
struct sample_scratch;
int sample_draw(int32_t *id, const float *logits, size_t vocab,
    const struct sample_params *p, const struct sample_ctx *c,
    struct sample_scratch **s, struct err *e);
void sample_scratch_free(struct sample_scratch **s);

/* The one random number of a draw, in [0, 1). */
double sample_uniform(uint64_t seed, uint32_t choice, uint64_t nout);
/* Philox4x32-10, for sample_uniform and its test. */
void sample_philox(uint32_t out[4], const uint32_t ctr[4],
    const uint32_t key[2]);

#endif
