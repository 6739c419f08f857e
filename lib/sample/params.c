/*
 * params: a request's sampling fields: defaults, copies, ranges.
 *
 * The ranges are checked here and nowhere else, so that every front end
 * refuses the same values with the same words.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sample/sample.h"

enum { DEFAULT_MAX_TOKENS = 16 };	/* as vLLM's SamplingParams */

void
sample_init(struct sample_params *p)
{
	memset(p, 0, sizeof(*p));
	p->temperature = 1;
	p->top_p = 1;
	p->repetition_penalty = 1;
	p->max_tokens = DEFAULT_MAX_TOKENS;
	p->logprobs = p->prompt_logprobs = SAMPLE_LOGPROBS_OFF;
}

void
sample_free(struct sample_params *p)
{
	for (size_t i = 0; i < p->nstop && i < SAMPLE_MAX_STOP; i++)
		free(p->stop[i]);
	for (size_t i = 0; p->bad && i < p->nbad; i++)
		free(p->bad[i].id);
	free(p->stop_id);
	free(p->bias);
	free(p->allowed);
	free(p->bad);
	free(p->logprob_id);
	sample_init(p);
}

/* ---- copies ---- */

/* NULL stays NULL: "allowed" tells none from all by it. */
static int
copy_array(void *to, const void *from, size_t n, size_t size, struct err *e)
{
	void *p = NULL;

	if (from) {
		p = mem_new(n, size, e);
		if (!p)
			return -1;
		if (n)
			memcpy(p, from, n * size);
	}
	memcpy(to, &p, sizeof(p));
	return 0;
}

static int
copy_strings(struct sample_params *to, const struct sample_params *from,
    struct err *e)
{
	for (size_t i = 0; i < from->nstop && i < SAMPLE_MAX_STOP; i++) {
		if (copy_array(&to->stop[i], from->stop[i],
		    from->stop[i] ? strlen(from->stop[i]) + 1 : 0, 1, e) == -1)
			return -1;
		to->nstop = i + 1;
	}
	return 0;
}

static int
copy_bad(struct sample_params *to, const struct sample_params *from,
    struct err *e)
{
	if (!from->nbad)
		return 0;
	to->bad = mem_new(from->nbad, sizeof(*to->bad), e);
	if (!to->bad)
		return -1;
	for (size_t i = 0; i < from->nbad; i++) {
		const struct sample_words *w = &from->bad[i];

		if (copy_array(&to->bad[i].id, w->id, w->n, sizeof(*w->id),
		    e) == -1)
			return -1;
		to->bad[i].n = w->n;
		to->nbad = i + 1;
	}
	return 0;
}

int
sample_copy(struct sample_params *to, const struct sample_params *from,
    struct err *e)
{
	const struct sample_params *f = from;

	*to = *f;
	memset(to->stop, 0, sizeof(to->stop));
	to->nstop = to->nbad = 0;
	to->stop_id = to->allowed = to->logprob_id = NULL;
	to->bias = NULL;
	to->bad = NULL;
	if (copy_array(&to->stop_id, f->stop_id, f->nstop_id,
	        sizeof(*f->stop_id), e) == -1 ||
	    copy_array(&to->bias, f->bias, f->nbias, sizeof(*f->bias),
	        e) == -1 ||
	    copy_array(&to->allowed, f->allowed, f->nallowed,
	        sizeof(*f->allowed), e) == -1 ||
	    copy_array(&to->logprob_id, f->logprob_id, f->nlogprob_id,
	        sizeof(*f->logprob_id), e) == -1 ||
	    copy_strings(to, f, e) == -1 || copy_bad(to, f, e) == -1) {
		sample_free(to);
		return -1;
	}
	return 0;
}

/* ---- ranges ---- */

static int
check_range(const char *name, double v, double min, double max,
    struct err *e)
{
	if (v >= min && v <= max)	/* false for NaN */
		return 0;
	return err_set(e, ERR_CALLER, "%s must be in [%g, %g], not %g", name,
	    min, max, v);
}

static int
check_above0(const char *name, double v, double max, struct err *e)
{
	if (v > 0 && v <= max)
		return 0;
	if (!isfinite(max))
		return err_set(e, ERR_CALLER,
		    "%s must be greater than 0, not %g", name, v);
	return err_set(e, ERR_CALLER, "%s must be in (0, %g], not %g", name,
	    max, v);
}

static int
check_numbers(const struct sample_params *p, struct err *e)
{
	if (check_range("temperature", p->temperature, 0, 2, e) == -1 ||
	    check_above0("top_p", p->top_p, 1, e) == -1 ||
	    check_range("min_p", p->min_p, 0, 1, e) == -1 ||
	    check_above0("repetition_penalty", p->repetition_penalty,
	        INFINITY, e) == -1 ||
	    check_range("presence_penalty", p->presence_penalty, -2, 2,
	        e) == -1 ||
	    check_range("frequency_penalty", p->frequency_penalty, -2, 2,
	        e) == -1)
		return -1;
	if (isinf(p->repetition_penalty))
		return err_set(e, ERR_CALLER,
		    "repetition_penalty must be finite");
	if (p->max_tokens < 0)
		return err_set(e, ERR_CALLER,
		    "max_tokens must be at least 0, not %lld",
		    (long long)p->max_tokens);
	if (p->min_tokens < 0 || p->min_tokens > p->max_tokens)
		return err_set(e, ERR_CALLER, "min_tokens must be in [0, "
		    "max_tokens], which is [0, %lld], not %lld",
		    (long long)p->max_tokens, (long long)p->min_tokens);
	return 0;
}

static int
check_logprobs(const char *name, int n, struct err *e)
{
	if (n >= SAMPLE_LOGPROBS_OFF && n <= SAMPLE_MAX_LOGPROBS)
		return 0;
	return err_set(e, ERR_CALLER, "%s must be in [0, %d], or -1 for the "
	    "whole vocabulary, not %d", name, SAMPLE_MAX_LOGPROBS, n);
}

static int
check_id(const char *name, int32_t id, unsigned vocab, struct err *e)
{
	if (id >= 0 && (uint32_t)id < vocab)
		return 0;
	return err_set(e, ERR_CALLER, "%s: token id %d is not in the "
	    "vocabulary, whose ids are 0 to %lld", name, id,
	    (long long)vocab - 1);
}

static int
check_ids(const char *name, const int32_t *id, size_t n, unsigned vocab,
    struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		if (check_id(name, id[i], vocab, e) == -1)
			return -1;
	}
	return 0;
}

static int
check_bias(const struct sample_params *p, unsigned vocab, struct err *e)
{
	for (size_t i = 0; i < p->nbias; i++) {
		if (check_id("logit_bias", p->bias[i].id, vocab, e) == -1)
			return -1;
		if (isnan(p->bias[i].bias))
			return err_set(e, ERR_CALLER, "logit_bias: the bias of "
			    "token id %d must be a number", p->bias[i].id);
	}
	return 0;
}

static int
check_bad(const struct sample_params *p, unsigned vocab, struct err *e)
{
	for (size_t i = 0; i < p->nbad; i++) {
		if (!p->bad[i].n)
			return err_set(e, ERR_CALLER,
			    "bad_words: entry %zu has no tokens", i);
		if (check_ids("bad_words", p->bad[i].id, p->bad[i].n, vocab,
		    e) == -1)
			return -1;
	}
	return 0;
}

static int
check_stop(const struct sample_params *p, struct err *e)
{
	if (p->nstop > SAMPLE_MAX_STOP)
		return err_set(e, ERR_CALLER, "stop must have at most %d "
		    "strings, not %zu", SAMPLE_MAX_STOP, p->nstop);
	for (size_t i = 0; i < p->nstop; i++) {
		if (!p->stop[i] || !*p->stop[i])
			return err_set(e, ERR_CALLER,
			    "stop must not hold an empty string");
	}
	return 0;
}

int
sample_check(const struct sample_params *p, unsigned vocab, struct err *e)
{
	if (check_numbers(p, e) == -1 || check_stop(p, e) == -1 ||
	    check_logprobs("logprobs", p->logprobs, e) == -1 ||
	    check_logprobs("prompt_logprobs", p->prompt_logprobs, e) == -1 ||
	    check_ids("stop_token_ids", p->stop_id, p->nstop_id, vocab,
	        e) == -1 ||
	    check_ids("logprob_token_ids", p->logprob_id, p->nlogprob_id,
	        vocab, e) == -1 ||
	    check_bias(p, vocab, e) == -1 || check_bad(p, vocab, e) == -1)
		return -1;
	if (p->allowed && !p->nallowed)
		return err_set(e, ERR_CALLER,
		    "allowed_token_ids must not be empty");
	return check_ids("allowed_token_ids", p->allowed,
	    p->allowed ? p->nallowed : 0, vocab, e);
}
