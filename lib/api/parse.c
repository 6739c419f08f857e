/*
 * parse: the body of a request, all but its prompt and its sampling fields.
 *
 * Every failure names the field both in the message and in param, dotted, so
 * that a client can point at it.
 */
#include <stdlib.h>
#include <string.h>

#include "api/api_priv.h"

enum { INT_MAX_SAFE = 53 };		/* bits of a JSON integer */

static const int64_t whole_max = (int64_t)1 << INT_MAX_SAFE;

const struct json *
parse_get(const struct parse *p, const char *key)
{
	const struct json *v = json_get(p->body, key);

	return v && json_type(v) != JSON_NULL ? v : NULL;
}

int
parse_bool(struct parse *p, const char *key, bool *out)
{
	if (json_opt_bool(p->body, key, out, &p->f->e) == -1)
		return api_failed(p->f, key);
	return 0;
}

int
parse_i64(struct parse *p, const char *key, int64_t min, int64_t max,
    int64_t *out)
{
	if (json_opt_i64(p->body, key, min, max, out, &p->f->e) == -1)
		return api_failed(p->f, key);
	return 0;
}

int
parse_f64(struct parse *p, const char *key, double min, double max,
    double *out)
{
	if (json_opt_f64(p->body, key, min, max, out, &p->f->e) == -1)
		return api_failed(p->f, key);
	return 0;
}

int
parse_str(struct parse *p, const char *key, const char **out)
{
	if (json_opt_str(p->body, key, out, &p->f->e) == -1)
		return api_failed(p->f, key);
	return 0;
}

int
parse_id_list(struct parse *p, const struct json *v, const char *name,
    int32_t **ids, size_t *n)
{
	char at[128];
	size_t i = 0;

	*ids = NULL;
	*n = 0;
	if (json_type(v) != JSON_ARR)
		return api_refuse(p->f, name,
		    "%s must be a list of token ids, not %s", name,
		    json_type_name(json_type(v)));
	*ids = mem_new(json_len(v), sizeof(**ids), &p->f->e);
	if (!*ids)
		return api_failed(p->f, name);
	for (const struct json *c = json_first(v); c; c = json_next(c), i++) {
		if (json_is_int(c) && json_num(c) >= 0 &&
		    json_num(c) < p->m->vocab) {
			(*ids)[i] = (int32_t)json_num(c);
			continue;
		}
		free(*ids);
		*ids = NULL;
		snprintf(at, sizeof(at), "%s.%zu", name, i);
		if (json_type(c) == JSON_NUM)
			return api_refuse(p->f, at,
			    "%s must be a token id from 0 to %u, not %.17g",
			    at, p->m->vocab - 1, json_num(c));
		return api_refuse(p->f, at, "%s must be a token id, not %s",
		    at, json_type_name(json_type(c)));
	}
	*n = i;
	return 0;
}

int
parse_ids(struct parse *p, const char *key, int32_t **ids, size_t *n)
{
	const struct json *v = parse_get(p, key);

	return v ? parse_id_list(p, v, key, ids, n) : 0;
}

/* ---- the fields ---- */

static int
parse_model(struct parse *p)
{
	struct buf b = {0};

	if (parse_str(p, "model", &p->r->model) == -1)
		return -1;
	if (!p->r->model || !p->m->names)
		return 0;
	for (size_t i = 0; i < p->m->nnames; i++) {
		if (strcmp(p->m->names[i], p->r->model) == 0)
			return 0;
	}
	for (size_t i = 0; i < p->m->nnames; i++)
		buf_printf(&b, "%s%s", i ? ", " : "", p->m->names[i]);
	api_refuse(p->f, "model", "model '%s' is not served here; there is %s",
	    p->r->model, b.p ? b.p : "none");
	p->f->status = 404;
	buf_free(&b);
	return -1;
}

static int
parse_stream(struct parse *p)
{
	const struct json *o = parse_get(p, "stream_options");
	struct parse in = *p;
	static const char name[] = "stream_options";

	if (parse_bool(p, "stream", &p->r->stream) == -1 ||
	    parse_i64(p, "stream_interval", 1, whole_max,
	    &p->r->stream_interval) == -1)
		return -1;
	if (!o)
		return 0;
	if (json_type(o) != JSON_OBJ)
		return api_refuse(p->f, name, "%s must be an object, not %s",
		    name, json_type_name(json_type(o)));
	if (!p->r->stream)
		return api_refuse(p->f, name,
		    "%s needs stream to be true", name);
	in.body = o;
	if (parse_bool(&in, "include_usage", &p->r->include_usage) == 0 &&
	    parse_bool(&in, "continuous_usage_stats",
	    &p->r->continuous_usage) == 0)
		return 0;
	err_wrap(&p->f->e, "%s", name);
	memmove(p->f->param + sizeof(name), p->f->param,
	    sizeof(p->f->param) - sizeof(name));
	memcpy(p->f->param, name, sizeof(name) - 1);
	p->f->param[sizeof(name) - 1] = '.';
	p->f->param[sizeof(p->f->param) - 1] = '\0';
	return -1;
}

static int
parse_salt(struct parse *p)
{
	const char *s;

	if (parse_str(p, "cache_salt", &p->r->cache_salt) == -1)
		return -1;
	s = p->r->cache_salt;
	if (!s)
		return 0;
	if (!*s || strlen(s) > API_MAX_SALT || strpbrk(s, "@/\\"))
		return api_refuse(p->f, "cache_salt", "cache_salt must be "
		    "1 to %d bytes without @, / and \\", API_MAX_SALT);
	return 0;
}

static int
parse_truncate(struct parse *p)
{
	const char *side = "left";

	if (parse_i64(p, "truncate_prompt_tokens", -1, whole_max,
	    &p->r->truncate) == -1 ||
	    parse_str(p, "truncation_side", &side) == -1)
		return -1;
	if (parse_get(p, "truncate_prompt_tokens") && p->r->truncate == 0)
		return api_refuse(p->f, "truncate_prompt_tokens",
		    "truncate_prompt_tokens must be -1 or at least 1, not 0");
	if (strcmp(side, "left") != 0 && strcmp(side, "right") != 0)
		return api_refuse(p->f, "truncation_side",
		    "truncation_side must be left or right, not '%s'", side);
	p->r->truncate_right = *side == 'r';
	return 0;
}

static int
parse_common(struct parse *p)
{
	struct api_req *r = p->r;
	bool ignored = true;

	if (parse_model(p) == -1 || parse_stream(p) == -1 ||
	    parse_salt(p) == -1 || parse_truncate(p) == -1)
		return -1;
	if (parse_i64(p, "n", 1, API_MAX_N, &r->n) == -1 ||
	    parse_bool(p, "echo", &r->echo) == -1 ||
	    parse_bool(p, "add_special_tokens", &r->add_special_tokens) == -1 ||
	    parse_bool(p, "skip_special_tokens",
	    &r->skip_special_tokens) == -1 ||
	    parse_bool(p, "spaces_between_special_tokens", &ignored) == -1 ||
	    parse_bool(p, "return_token_ids", &r->return_token_ids) == -1 ||
	    parse_bool(p, "return_tokens_as_token_ids",
	    &r->tokens_as_ids) == -1)
		return -1;
	if (parse_i64(p, "priority", -whole_max, whole_max,
	    &r->priority) == -1 ||
	    parse_str(p, "request_id", &r->request_id) == -1 ||
	    parse_str(p, "session_id", &r->session_id) == -1 ||
	    parse_str(p, "user", &r->user) == -1)
		return -1;
	if (r->request_id && strlen(r->request_id) > API_MAX_ID)
		return api_refuse(p->f, "request_id",
		    "request_id must be at most %d bytes", API_MAX_ID);
	return 0;
}

/* ---- chat ---- */

static int
parse_thinking(struct parse *p)
{
	const struct json *o = parse_get(p, "chat_template_kwargs");
	static const char *const names[] = { "thinking", "enable_thinking" };
	static const char *const efforts[] = {
		"none", "minimal", "low", "medium", "high", "xhigh", "max",
	};
	const char *effort = NULL;
	size_t i, n = sizeof(efforts) / sizeof(efforts[0]);

	if (parse_str(p, "reasoning_effort", &effort) == -1)
		return -1;
	if (effort) {
		for (i = 0; i < n && strcmp(efforts[i], effort) != 0; i++)
			;
		if (i == n)
			return api_refuse(p->f, "reasoning_effort",
			    "reasoning_effort must be none, minimal, low, "
			    "medium, high, xhigh or max, not '%s'", effort);
		p->r->thinking = i > 0;
	}
	if (!o)
		return 0;
	if (json_type(o) != JSON_OBJ)
		return api_refuse(p->f, "chat_template_kwargs",
		    "chat_template_kwargs must be an object, not %s",
		    json_type_name(json_type(o)));
	for (i = 0; i < 2; i++) {
		const struct json *v = json_get(o, names[i]);
		char at[64];

		snprintf(at, sizeof(at), "chat_template_kwargs.%s", names[i]);
		if (v && json_type(v) == JSON_BOOL)
			p->r->thinking = json_bool(v);
		else if (v && json_type(v) != JSON_NULL)
			return api_refuse(p->f, at,
			    "%s must be true or false, not %s", at,
			    json_type_name(json_type(v)));
	}
	return 0;
}

static int
parse_messages(struct parse *p)
{
	const struct json *v = parse_get(p, "messages");
	size_t i = 0;
	char at[64];

	if (!v)
		return api_refuse(p->f, "messages", "messages is missing");
	if (json_type(v) != JSON_ARR || !json_first(v))
		return api_refuse(p->f, "messages",
		    "messages must be a list of at least one message, not %s",
		    json_type(v) == JSON_ARR ? "an empty one" :
		    json_type_name(json_type(v)));
	for (const struct json *c = json_first(v); c; c = json_next(c), i++) {
		const struct json *role = json_get(c, "role");

		if (role && json_type(role) == JSON_STR)
			continue;
		snprintf(at, sizeof(at), "messages.%zu%s", i,
		    json_type(c) == JSON_OBJ ? ".role" : "");
		return api_refuse(p->f, at, json_type(c) == JSON_OBJ ?
		    "%s must be a string" : "%s must be an object", at);
	}
	p->r->messages = v;
	return 0;
}

static int
parse_chat(struct parse *p)
{
	struct api_req *r = p->r;

	if (parse_messages(p) == -1 || parse_thinking(p) == -1 ||
	    parse_bool(p, "include_reasoning", &r->include_reasoning) == -1 ||
	    parse_bool(p, "return_prompt_text", &r->return_prompt_text) == -1 ||
	    parse_bool(p, "continue_final_message",
	    &r->continue_final_message) == -1)
		return -1;
	if (r->continue_final_message)
		r->add_generation_prompt = false;
	if (parse_bool(p, "add_generation_prompt",
	    &r->add_generation_prompt) == -1)
		return -1;
	if (r->continue_final_message && r->add_generation_prompt)
		return api_refuse(p->f, "continue_final_message",
		    "continue_final_message and add_generation_prompt can't "
		    "both be true");
	return 0;
}

/* ---- the whole ---- */

void
api_req_init(struct api_req *r, enum api_kind kind, const struct api_model *m)
{
	*r = (struct api_req){
		.kind = kind, .n = 1,
		.logprobs = SAMPLE_LOGPROBS_OFF,
		.prompt_logprobs = SAMPLE_LOGPROBS_OFF,
		.add_special_tokens = kind == API_COMPLETION,
		.skip_special_tokens = true,
		.add_generation_prompt = true,
		.include_reasoning = true,
		.thinking = API_UNSET,
		.stream_interval = 1,
	};
	sample_init(&r->params);
	r->params.temperature = m->temperature;
	r->params.top_p = m->top_p;
	r->params.top_k = m->top_k;
	r->params.repetition_penalty = m->repetition_penalty;
	r->params.max_tokens = kind == API_CHAT ? API_UNSET :
	    API_TEXT_MAX_TOKENS;
}

void
api_req_free(struct api_req *r)
{
	for (size_t i = 0; i < r->nprompt; i++)
		free(r->prompt[i].ids);
	free(r->prompt);
	r->prompt = NULL;
	r->nprompt = 0;
	sample_free(&r->params);
}

static int
parse_all(struct parse *p)
{
	const char *dup;

	if (json_type(p->body) != JSON_OBJ)
		return api_refuse(p->f, NULL,
		    "a request must be an object, not %s",
		    json_type_name(json_type(p->body)));
	dup = json_dup(p->body, &p->f->e);
	if (dup)
		return api_refuse(p->f, dup, "%s stands twice", dup);
	if (parse_refused(p) == -1 || parse_common(p) == -1)
		return -1;
	if (p->r->kind == API_CHAT && parse_chat(p) == -1)
		return -1;
	if (p->r->kind == API_COMPLETION && parse_prompt(p) == -1)
		return -1;
	return parse_sampling(p);
}

int
api_parse(struct api_req *r, enum api_kind kind, const struct json *body,
    const struct api_model *m, struct api_fail *f)
{
	struct parse p = { .body = body, .m = m, .r = r, .f = f };

	*f = (struct api_fail){0};
	api_req_init(r, kind, m);
	if (parse_all(&p) == -1) {
		api_req_free(r);
		return -1;
	}
	return 0;
}
