/*
 * refused: fields that would change the answer and that nothing here honours.
 *
 * Answering as if they were not there gives unconstrained text with a 200, the
 * worst of outcomes; so they are refused, unless they say what happens anyway.
 */
#include <string.h>

#include "api/api_priv.h"

/* What a refused field may hold all the same; null always. */
enum neutral { NONE, OFF, ONE, EMPTY, MINUS_ONE };

static const struct {
	const char *key;
	enum neutral neutral;
} refused[] = {
	{ "suffix", EMPTY },
	{ "best_of", ONE },
	{ "use_beam_search", OFF },
	{ "structured_outputs", NONE },
	{ "grammar", EMPTY },
	{ "json_schema", NONE },
	{ "regex", EMPTY },
	{ "ebnf", EMPTY },
	{ "prompt_embeds", NONE },
	{ "repetition_detection", NONE },
	{ "thinking_token_budget", MINUS_ONE },
	{ "reasoning_budget", MINUS_ONE },
	{ "chat_template", NONE },
	{ "documents", EMPTY },
	{ "functions", EMPTY },
	{ "audio", NONE },
	{ "web_search_options", NONE },
	{ "logits_processors", EMPTY },
};

static bool
is_neutral(const struct json *v, enum neutral what)
{
	enum json_type t = json_type(v);

	switch (what) {
	case NONE:
		return false;
	case OFF:
		return t == JSON_BOOL && !json_bool(v);
	case ONE:
		return t == JSON_NUM && json_num(v) == 1;
	case MINUS_ONE:
		return t == JSON_NUM && json_num(v) == -1;
	case EMPTY:
		return (t == JSON_STR && !*json_str(v)) ||
		    (t == JSON_ARR && !json_first(v));
	}
	return false;
}

static int
refuse(struct parse *p, const char *key)
{
	return api_refuse(p->f, key, "%s is not supported", key);
}

static int
check_response_format(struct parse *p)
{
	const struct json *v = parse_get(p, "response_format");
	const struct json *type;

	if (!v)
		return 0;
	type = json_get(v, "type");
	if (!type || json_type(type) != JSON_STR)
		return api_refuse(p->f, "response_format.type",
		    "response_format must be an object with a type");
	if (strcmp(json_str(type), "text") == 0)
		return 0;
	return api_refuse(p->f, "response_format.type", "response_format.type "
	    "'%s' is not supported, only text is", json_str(type));
}

/* tool_choice none asks for an answer without calls: that we can give. */
static int
check_tools(struct parse *p)
{
	const struct json *tools = parse_get(p, "tools");
	const struct json *choice = parse_get(p, "tool_choice");
	bool none;

	none = choice && json_type(choice) == JSON_STR &&
	    strcmp(json_str(choice), "none") == 0;
	if (tools && (json_type(tools) != JSON_ARR || !json_first(tools)))
		return api_refuse(p->f, "tools",
		    "tools must be a list of at least one tool");
	if (choice && !none && !tools)
		return api_refuse(p->f, "tool_choice",
		    "tool_choice needs tools");
	if (tools && !none)
		return api_refuse(p->f, "tools", "tools are not supported "
		    "unless tool_choice is none");
	return 0;
}

static int
check_modalities(struct parse *p)
{
	const struct json *v = parse_get(p, "modalities");
	const struct json *c = v ? json_first(v) : NULL;

	for (; c; c = json_next(c)) {
		if (json_type(c) != JSON_STR || strcmp(json_str(c), "text"))
			return api_refuse(p->f, "modalities",
			    "modalities other than text are not supported");
	}
	return 0;
}

int
parse_refused(struct parse *p)
{
	const struct json *v;

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		v = parse_get(p, refused[i].key);
		if (v && !is_neutral(v, refused[i].neutral))
			return refuse(p, refused[i].key);
	}
	for (v = json_first(p->body); v; v = json_next(v)) {
		if (strncmp(json_key(v), "guided_", 7) == 0 &&
		    json_type(v) != JSON_NULL)
			return refuse(p, json_key(v));
	}
	if (check_response_format(p) == -1 || check_modalities(p) == -1)
		return -1;
	return p->r->kind == API_CHAT ? check_tools(p) : 0;
}
