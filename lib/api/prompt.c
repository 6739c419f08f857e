/*
 * prompt: the four shapes of a completion's prompt: a string, a list of
 * strings, a list of token ids, a list of such lists.
 */
#include <stdlib.h>
#include <string.h>

#include "api/api_priv.h"

/* A string or a list of ids as one prompt. */
static int
parse_one(struct parse *p, const struct json *v, const char *name)
{
	struct api_prompt *q = &p->r->prompt[p->r->nprompt];

	if (json_type(v) == JSON_STR) {
		q->text = json_str(v);
		q->n = strlen(q->text);
	} else if (json_type(v) == JSON_ARR) {
		if (parse_id_list(p, v, name, &q->ids, &q->n) == -1)
			return -1;
	} else {
		return api_refuse(p->f, name, "%s must be a string or a list "
		    "of token ids, not %s", name,
		    json_type_name(json_type(v)));
	}
	p->r->nprompt++;		/* from here on freed with r */
	if (q->n == 0)
		return api_refuse(p->f, name, "%s is empty", name);
	return 0;
}

static int
make_room(struct parse *p, size_t n)
{
	p->r->prompt = mem_new(n, sizeof(*p->r->prompt), &p->f->e);
	return p->r->prompt ? 0 : api_failed(p->f, "prompt");
}

int
parse_prompt(struct parse *p)
{
	const struct json *v = parse_get(p, "prompt");
	size_t n, i = 0;
	char at[32];

	if (!v)
		return api_refuse(p->f, "prompt", "prompt is missing");
	if (json_type(v) != JSON_ARR || (json_first(v) &&
	    json_type(json_first(v)) == JSON_NUM))
		return make_room(p, 1) == -1 ? -1 : parse_one(p, v, "prompt");
	n = json_len(v);
	if (n == 0 || n > API_MAX_PROMPTS)
		return api_refuse(p->f, "prompt",
		    "prompt must be 1 to %d prompts, not %zu",
		    API_MAX_PROMPTS, n);
	if (p->r->n * (int64_t)n > API_MAX_N)
		return api_refuse(p->f, "n", "n times the %zu prompts must be "
		    "at most %d", n, API_MAX_N);
	if (make_room(p, n) == -1)
		return -1;
	for (const struct json *c = json_first(v); c; c = json_next(c), i++) {
		snprintf(at, sizeof(at), "prompt.%zu", i);
		if (parse_one(p, c, at) == -1)
			return -1;
	}
	return 0;
}
