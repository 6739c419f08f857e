/*
 * sampling: the fields that become struct sample_params.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_priv.h"

static const int64_t whole_max = (int64_t)1 << 53;

/* ---- numbers ---- */

static int
parse_numbers(struct parse *p)
{
	struct sample_params *s = &p->r->params;

	if (parse_f64(p, "temperature", 0, 2, &s->temperature) == -1 ||
	    parse_f64(p, "top_p", 0, 1, &s->top_p) == -1 ||
	    parse_f64(p, "min_p", 0, 1, &s->min_p) == -1 ||
	    parse_i64(p, "top_k", -1, whole_max, &s->top_k) == -1 ||
	    parse_f64(p, "presence_penalty", -2, 2,
	    &s->presence_penalty) == -1 ||
	    parse_f64(p, "frequency_penalty", -2, 2,
	    &s->frequency_penalty) == -1 ||
	    parse_f64(p, "repetition_penalty", -HUGE_VAL, HUGE_VAL,
	    &s->repetition_penalty) == -1 ||
	    parse_i64(p, "seed", -whole_max, whole_max, &s->seed) == -1)
		return -1;
	s->has_seed = parse_get(p, "seed");
	if (s->top_p <= 0)
		return api_refuse(p->f, "top_p",
		    "top_p must be above 0 and at most 1, not 0");
	if (s->repetition_penalty <= 0)
		return api_refuse(p->f, "repetition_penalty",
		    "repetition_penalty must be above 0, not %g",
		    s->repetition_penalty);
	if (p->r->n > 1 && s->temperature == 0)
		return api_refuse(p->f, "n",
		    "n must be 1 with temperature 0, not %lld",
		    (long long)p->r->n);
	return 0;
}

static int
parse_lengths(struct parse *p)
{
	struct sample_params *s = &p->r->params;
	const char *key = "max_tokens";
	/* nothing to say is of use only when the prompt is said again */
	int64_t least = p->r->echo ? 0 : 1;

	if (p->r->kind == API_CHAT && parse_get(p, "max_completion_tokens"))
		key = "max_completion_tokens";
	if (parse_i64(p, key, least, whole_max, &s->max_tokens) == -1) {
		if (least && parse_get(p, key) &&
		    json_is_int(parse_get(p, key)) &&
		    json_num(parse_get(p, key)) == 0)
			api_refuse(p->f, key, "%s can be 0 only with echo",
			    key);
		return -1;
	}
	if (parse_i64(p, "min_tokens", 0, whole_max, &s->min_tokens) == -1)
		return -1;
	if (s->max_tokens != API_UNSET && s->min_tokens > s->max_tokens)
		return api_refuse(p->f, "min_tokens", "min_tokens must be at "
		    "most max_tokens, %lld, not %lld",
		    (long long)s->max_tokens, (long long)s->min_tokens);
	return 0;
}

/* ---- where to stop ---- */

static int
add_stop(struct parse *p, const struct json *v)
{
	struct sample_params *s = &p->r->params;

	if (json_type(v) != JSON_STR || !*json_str(v))
		return api_refuse(p->f, "stop", "stop must be a string or a "
		    "list of strings, none of them empty");
	if (s->nstop == API_MAX_STOP)
		return api_refuse(p->f, "stop",
		    "stop must be at most %d strings", API_MAX_STOP);
	s->stop[s->nstop] = strdup(json_str(v));
	if (!s->stop[s->nstop]) {
		err_sys(&p->f->e, "stop");
		return api_failed(p->f, "stop");
	}
	s->nstop++;
	return 0;
}

static int
parse_stops(struct parse *p)
{
	struct sample_params *s = &p->r->params;
	const struct json *v = parse_get(p, "stop");

	if (v && json_type(v) == JSON_ARR) {
		for (v = json_first(v); v; v = json_next(v)) {
			if (add_stop(p, v) == -1)
				return -1;
		}
	} else if (v && add_stop(p, v) == -1) {
		return -1;
	}
	if (parse_ids(p, "stop_token_ids", &s->stop_id, &s->nstop_id) == -1 ||
	    parse_bool(p, "include_stop_str_in_output",
	    &s->include_stop) == -1 ||
	    parse_bool(p, "ignore_eos", &s->ignore_eos) == -1)
		return -1;
	return 0;
}

/* ---- which tokens ---- */

static int
parse_bias_one(struct parse *p, const struct json *v, struct sample_bias *b)
{
	char at[64];
	uint64_t id;

	if (!p->m->vocab || num_u64(json_key(v), p->m->vocab - 1, &id) == -1)
		return api_refuse(p->f, "logit_bias", "logit_bias: a key must "
		    "be a token id from 0 to %u, not '%.40s'",
		    p->m->vocab - 1, json_key(v));
	snprintf(at, sizeof(at), "logit_bias.%llu", (unsigned long long)id);
	if (json_type(v) != JSON_NUM)
		return api_refuse(p->f, at, "%s must be a number, not %s", at,
		    json_type_name(json_type(v)));
	b->id = (int32_t)id;
	b->bias = (float)fmax(-100, fmin(100, json_num(v)));
	return 0;
}

static int
parse_bias(struct parse *p)
{
	struct sample_params *s = &p->r->params;
	const struct json *v = parse_get(p, "logit_bias");

	if (!v)
		return 0;
	if (json_type(v) != JSON_OBJ)
		return api_refuse(p->f, "logit_bias", "logit_bias must be an "
		    "object, not %s", json_type_name(json_type(v)));
	if (!json_first(v))
		return 0;
	s->bias = mem_new(json_len(v), sizeof(*s->bias), &p->f->e);
	if (!s->bias)
		return api_failed(p->f, "logit_bias");
	for (v = json_first(v); v; v = json_next(v)) {
		if (parse_bias_one(p, v, &s->bias[s->nbias]) == -1)
			return -1;
		s->nbias++;
	}
	return 0;
}

static int
parse_bad_words(struct parse *p)
{
	const struct json *v = parse_get(p, "bad_words");

	if (!v)
		return 0;
	if (json_type(v) != JSON_ARR)
		return api_refuse(p->f, "bad_words", "bad_words must be a "
		    "list of strings, not %s", json_type_name(json_type(v)));
	for (const struct json *c = json_first(v); c; c = json_next(c)) {
		if (json_type(c) != JSON_STR || !*json_str(c))
			return api_refuse(p->f, "bad_words", "bad_words must "
			    "be a list of strings, none of them empty");
	}
	p->r->bad_words = json_first(v) ? v : NULL;
	return 0;
}

static int
parse_allowed(struct parse *p)
{
	struct sample_params *s = &p->r->params;

	if (parse_ids(p, "allowed_token_ids", &s->allowed, &s->nallowed) == -1)
		return -1;
	if (s->allowed && s->nallowed == 0)
		return api_refuse(p->f, "allowed_token_ids",
		    "allowed_token_ids is empty: no token would be allowed");
	return 0;
}

/* ---- logprobs ---- */

static int
parse_count(struct parse *p, const char *key, int *out)
{
	int64_t k = *out;

	if (parse_i64(p, key, -1, SAMPLE_MAX_LOGPROBS, &k) == -1)
		return -1;
	*out = (int)k;
	return 0;
}

static int
parse_chat_logprobs(struct parse *p)
{
	bool on = false;
	int top = 0;

	if (parse_bool(p, "logprobs", &on) == -1 ||
	    parse_count(p, "top_logprobs", &top) == -1)
		return -1;
	if (top != 0 && !on)
		return api_refuse(p->f, "top_logprobs",
		    "top_logprobs needs logprobs to be true");
	if (on)
		p->r->logprobs = top;
	return 0;
}

/* More of a and b: all, then the larger; OFF is the least. */
static int
more(int a, int b)
{
	if (a == -1 || b == -1)
		return -1;
	return a > b ? a : b;
}

static int
parse_logprobs(struct parse *p)
{
	struct api_req *r = p->r;

	if ((r->kind == API_CHAT ? parse_chat_logprobs(p) :
	    parse_count(p, "logprobs", &r->logprobs)) == -1 ||
	    parse_count(p, "prompt_logprobs", &r->prompt_logprobs) == -1 ||
	    parse_ids(p, "logprob_token_ids", &r->params.logprob_id,
	    &r->params.nlogprob_id) == -1)
		return -1;
	if (r->params.nlogprob_id && r->logprobs == SAMPLE_LOGPROBS_OFF)
		return api_refuse(p->f, "logprob_token_ids",
		    "logprob_token_ids needs logprobs");
	if (r->stream && r->prompt_logprobs != SAMPLE_LOGPROBS_OFF)
		return api_refuse(p->f, "prompt_logprobs",
		    "prompt_logprobs can't be streamed");
	/* the engine knows the likeliest or all; complete/ picks from all */
	r->params.logprobs = r->params.nlogprob_id ? -1 : r->logprobs;
	r->params.prompt_logprobs = r->prompt_logprobs;
	if (r->kind == API_COMPLETION && r->echo)
		r->params.prompt_logprobs =
		    more(r->prompt_logprobs, r->logprobs);
	return 0;
}

int
parse_sampling(struct parse *p)
{
	if (parse_numbers(p) == -1 || parse_lengths(p) == -1 ||
	    parse_stops(p) == -1 || parse_bias(p) == -1 ||
	    parse_bad_words(p) == -1 || parse_allowed(p) == -1)
		return -1;
	return parse_logprobs(p);
}
