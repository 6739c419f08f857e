/*
 * talk: messages as JSON into checked structs.  All complaints about a
 * request's messages come from here, with the place in front.
 */
#include <stdlib.h>
#include <string.h>

#include "chat/chat_priv.h"

static int
load_role(struct msg *m, const struct json *v, struct err *e)
{
	static const struct {
		const char *name;
		enum role role;
	} roles[] = {{"system", ROLE_SYSTEM}, {"developer", ROLE_SYSTEM},
	    {"user", ROLE_USER}, {"assistant", ROLE_ASSISTANT},
	    {"tool", ROLE_TOOL}};
	const char *s = NULL;

	if (json_opt_str(v, "role", &s, e) == -1)
		return -1;
	for (size_t i = 0; s && i < sizeof roles / sizeof *roles; i++)
		if (!strcmp(s, roles[i].name)) {
			m->role = roles[i].role;
			return 0;
		}
	return err_set(e, ERR_CALLER, "role must be system, user, assistant "
	    "or tool, not %.40s", s ? s : "absent");
}

/* [{type: text, text}, ...] */
static int
load_parts(struct buf *out, const struct json *list, struct err *e)
{
	int i = 0;

	for (const struct json *c = json_first(list); c;
	    c = json_next(c), i++) {
		const char *type = NULL, *text = NULL;

		if (json_opt_str(c, "type", &type, e) == -1 ||
		    json_opt_str(c, "text", &text, e) == -1)
			return err_wrap(e, "content[%d]", i);
		if (!text || (type && strcmp(type, "text")))
			return err_set(e, ERR_CALLER, "content[%d] must be "
			    "{\"type\": \"text\", \"text\": ...}", i);
		if (i)
			buf_putc(out, '\n');
		buf_puts(out, text);
	}
	return 0;
}

static int
load_content(struct msg *m, const struct json *v, struct err *e)
{
	const struct json *c = json_get(v, "content");

	if (!c || json_type(c) == JSON_NULL) {
		if (m->ncalls)
			return 0;
		return err_set(e, ERR_CALLER, "content must be a string or a "
		    "list of text parts, not %s", c ? "null" : "absent");
	}
	buf_puts(&m->content, "");
	if (json_type(c) == JSON_STR)
		buf_puts(&m->content, json_str(c));
	else if (json_type(c) != JSON_ARR)
		return err_set(e, ERR_CALLER, "content must be a string or a "
		    "list of text parts, not %s",
		    json_type_name(json_type(c)));
	else if (load_parts(&m->content, c, e) == -1)
		return -1;
	return buf_ok(&m->content, e);
}

static int
load_call(struct call *call, const struct json *v, struct err *e)
{
	const struct json *f = json_get(v, "function");
	const struct json *args = json_get(f, "arguments");

	call->type = "function";
	call->args = "{}";
	if (json_opt_str(v, "type", &call->type, e) == -1)
		return -1;
	if (!f || json_type(f) != JSON_OBJ)
		return err_set(e, ERR_CALLER, "function must be an object");
	if (json_opt_str(f, "name", &call->name, e) == -1)
		return err_wrap(e, "function");
	if (!call->name)
		return err_set(e, ERR_CALLER, "function.name is missing");
	if (!args || json_type(args) == JSON_NULL)
		return 0;
	if (json_type(args) == JSON_STR) {
		call->args = json_str(args);
		return 0;
	}
	if (json_type(args) != JSON_OBJ)
		return err_set(e, ERR_CALLER,
		    "function.arguments must be a string or an object, not %s",
		    json_type_name(json_type(args)));
	json_put(&call->own, args);
	call->args = call->own.p;
	return buf_ok(&call->own, e);
}

static int
load_calls(struct msg *m, const struct json *v, struct err *e)
{
	const struct json *list = json_get(v, "tool_calls");

	if (!list || json_type(list) == JSON_NULL)
		return 0;
	if (json_type(list) != JSON_ARR)
		return err_set(e, ERR_CALLER,
		    "tool_calls must be a list, not %s",
		    json_type_name(json_type(list)));
	if (m->role != ROLE_ASSISTANT && json_first(list))
		return err_set(e, ERR_CALLER,
		    "tool_calls are for the assistant");
	m->calls = mem_new(json_len(list), sizeof *m->calls, e);
	if (!m->calls)
		return -1;
	for (list = json_first(list); list; list = json_next(list))
		if (load_call(&m->calls[m->ncalls++], list, e) == -1)
			return err_wrap(e, "tool_calls[%zu]", m->ncalls - 1);
	return 0;
}

static int
load_msg(struct msg *m, const struct json *v, struct err *e)
{
	if (json_type(v) != JSON_OBJ)
		return err_set(e, ERR_CALLER, "must be an object, not %s",
		    json_type_name(json_type(v)));
	if (load_role(m, v, e) == -1 || load_calls(m, v, e) == -1 ||
	    load_content(m, v, e) == -1)
		return -1;
	return json_opt_str(v, "reasoning_content", &m->reasoning, e) == -1 ||
	    json_opt_str(v, "reasoning", &m->reasoning, e) == -1 ? -1 : 0;
}

int
talk_load(struct talk *t, const struct json *list, struct err *e)
{
	*t = (struct talk){0};
	if (!list || json_type(list) != JSON_ARR || !json_first(list))
		return err_set(e, ERR_CALLER, "messages must be a list with "
		    "at least one message");
	if (!(t->msgs = mem_new(json_len(list), sizeof *t->msgs, e)))
		return -1;
	for (list = json_first(list); list; list = json_next(list)) {
		if (load_msg(&t->msgs[t->n++], list, e) == -1) {
			/* "messages[2].content must be ..." */
			struct err why = *e;
			size_t i = t->n - 1;

			talk_free(t);
			return err_set(e, why.code, "messages[%zu]%s%s", i,
			    strncmp(why.msg, "must ", 5) ? "." : " ",
			    why.msg);
		}
	}
	return 0;
}

void
talk_free(struct talk *t)
{
	for (size_t i = 0; i < t->n; i++) {
		struct msg *m = &t->msgs[i];

		buf_free(&m->content);
		for (size_t k = 0; k < m->ncalls; k++)
			buf_free(&m->calls[k].own);
		free(m->calls);
	}
	free(t->msgs);
	*t = (struct talk){0};
}
