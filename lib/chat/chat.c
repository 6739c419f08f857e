/*
 * chat: a checked conversation to a prompt.
 *
 * V3 and R1 are one template with two differences: R1 drops what an earlier
 * answer thought, and opens <think> for the next.  V3.1 closes the tag in
 * front of every answer that had no thinking, and has its own tool marks.
 */
#include <string.h>

#include "chat/chat_priv.h"

#define BOS "<｜begin▁of▁sentence｜>"
#define EOS "<｜end▁of▁sentence｜>"
#define USER "<｜User｜>"
#define ASSISTANT "<｜Assistant｜>"
#define CALLS "<｜tool▁calls▁begin｜>"
#define CALLS_END "<｜tool▁calls▁end｜>"
#define CALL "<｜tool▁call▁begin｜>"
#define CALL_END "<｜tool▁call▁end｜>"
#define SEP "<｜tool▁sep｜>"
#define OUTPUTS "<｜tool▁outputs▁begin｜>"
#define OUTPUTS_END "<｜tool▁outputs▁end｜>"
#define OUTPUT "<｜tool▁output▁begin｜>"
#define OUTPUT_END "<｜tool▁output▁end｜>"
#define THINK "<think>"
#define THINK_END "</think>"

struct render {
	enum chat_style style;
	const struct talk *talk;
	const struct chat_opts *opts;
	struct buf *out;
};

static const char *
text_of(const struct msg *m)
{
	return m->content.p ? m->content.p : "";
}

static int
put_system(const struct render *r, const struct json *tools, struct err *e)
{
	size_t start;
	bool first = true;

	buf_puts(r->out, BOS);
	start = r->out->n;
	for (size_t i = 0; i < r->talk->n; i++) {
		const struct msg *m = &r->talk->msgs[i];

		if (m->role != ROLE_SYSTEM)
			continue;
		if (!first)
			buf_puts(r->out, "\n\n");
		buf_puts(r->out, text_of(m));
		first = false;
	}
	if (!tools)
		return 0;
	if (r->out->n > start)
		buf_puts(r->out, "\n\n");
	return tools_put(r->style, tools, r->out, e);
}

/* Is this the message that continue_final_message leaves open? */
static bool
stays_open(const struct render *r, const struct msg *m)
{
	return r->opts->continue_final_message &&
	    m == &r->talk->msgs[r->talk->n - 1];
}

/* Without what was thought before it; but an answer to tool outputs is
 * published whole. */
static void
put_answer(const struct render *r, const struct msg *m, bool outputs)
{
	const char *s = text_of(m), *cut;

	if (stays_open(r, m) || outputs) {
		buf_puts(r->out, s);
		return;
	}
	if (r->style == CHAT_R1)
		while ((cut = strstr(s, THINK_END)))
			s = cut + strlen(THINK_END);
	if (r->style == CHAT_V31 && (cut = strstr(s, THINK_END)))
		s = cut + strlen(THINK_END);
	buf_puts(r->out, s);
}

/* The reasoning of an answer that goes on, as the model writes it. */
static bool
put_reasoning(const struct render *r, const struct msg *m)
{
	if (!stays_open(r, m) || !m->reasoning || r->style == CHAT_V3)
		return false;
	buf_puts(r->out, THINK);
	buf_puts(r->out, r->style == CHAT_R1 ? "\n" : "");
	buf_puts(r->out, m->reasoning);
	if (*text_of(m))
		buf_puts(r->out, r->style == CHAT_R1 ?
		    "\n" THINK_END "\n\n" : THINK_END);
	return true;
}

/* ---- V3 and R1 ---- */

static void
put_calls_v3(const struct render *r, const struct msg *m)
{
	buf_puts(r->out, CALLS);
	for (size_t i = 0; i < m->ncalls; i++) {
		const struct call *c = &m->calls[i];

		buf_printf(r->out, "%s" CALL "%s" SEP "%s\n```json\n%s\n```"
		    CALL_END, i ? "\n" : "", c->type, c->name, c->args);
	}
	/* So it is published: one call alone has no end of the list. */
	if (m->ncalls > 1)
		buf_puts(r->out, CALLS_END EOS);
}

static void
put_assistant_v3(const struct render *r, const struct msg *m, bool outputs)
{
	buf_puts(r->out, outputs ? OUTPUTS_END : ASSISTANT);
	put_reasoning(r, m);
	put_answer(r, m, outputs);
	if (m->ncalls)
		put_calls_v3(r, m);
	else if (!stays_open(r, m))
		buf_puts(r->out, EOS);
}

static void
render_v3(const struct render *r)
{
	bool outputs = false;		/* inside a list of tool outputs */

	for (size_t i = 0; i < r->talk->n; i++) {
		const struct msg *m = &r->talk->msgs[i];

		switch (m->role) {
		case ROLE_SYSTEM:
			continue;
		case ROLE_USER:
			buf_puts(r->out, outputs ? OUTPUTS_END : "");
			buf_puts(r->out, USER);
			buf_puts(r->out, text_of(m));
			break;
		case ROLE_ASSISTANT:
			put_assistant_v3(r, m, outputs);
			break;
		case ROLE_TOOL:
			buf_puts(r->out, outputs ? "\n" : OUTPUTS);
			buf_puts(r->out, OUTPUT);
			buf_puts(r->out, text_of(m));
			buf_puts(r->out, OUTPUT_END);
			break;
		}
		outputs = m->role == ROLE_TOOL;
	}
	if (outputs)
		buf_puts(r->out, OUTPUTS_END);
	else if (r->opts->add_generation_prompt)
		buf_puts(r->out, r->style == CHAT_R1 ? ASSISTANT THINK "\n" :
		    ASSISTANT);
}

/* ---- V3.1 ---- */

static void
put_assistant_v31(const struct render *r, const struct msg *m, bool user,
    bool outputs)
{
	if (user)
		buf_puts(r->out, ASSISTANT);
	if (!put_reasoning(r, m) && user)
		buf_puts(r->out, stays_open(r, m) && r->opts->thinking ?
		    THINK : THINK_END);
	put_answer(r, m, outputs || m->ncalls);
	for (size_t i = 0; i < m->ncalls; i++)
		buf_printf(r->out, "%s" CALL "%s" SEP "%s" CALL_END,
		    i ? "" : CALLS, m->calls[i].name, m->calls[i].args);
	if (m->ncalls)
		buf_puts(r->out, CALLS_END);
	if (!stays_open(r, m))
		buf_puts(r->out, EOS);
}

static void
render_v31(const struct render *r)
{
	bool user = false;		/* the last turn was the user's */
	bool outputs = false;		/* tool results wait for an answer */

	for (size_t i = 0; i < r->talk->n; i++) {
		const struct msg *m = &r->talk->msgs[i];

		switch (m->role) {
		case ROLE_SYSTEM:
			continue;
		case ROLE_USER:
			buf_puts(r->out, USER);
			buf_puts(r->out, text_of(m));
			break;
		case ROLE_ASSISTANT:
			put_assistant_v31(r, m, user, outputs);
			break;
		case ROLE_TOOL:
			buf_puts(r->out, OUTPUT);
			buf_puts(r->out, text_of(m));
			buf_puts(r->out, OUTPUT_END);
			break;
		}
		user = m->role == ROLE_USER;
		outputs = m->role == ROLE_TOOL;
	}
	if (r->opts->add_generation_prompt && user)
		buf_puts(r->out, r->opts->thinking ? ASSISTANT THINK :
		    ASSISTANT THINK_END);
}

/* ---- all ---- */

static int
check_opts(const struct talk *t, const struct chat_opts *o, struct err *e)
{
	const struct msg *last = &t->msgs[t->n - 1];

	if (!o->continue_final_message)
		return 0;
	if (o->add_generation_prompt)
		return err_set(e, ERR_CALLER, "add_generation_prompt and "
		    "continue_final_message cannot both be true");
	if (last->role != ROLE_ASSISTANT || last->ncalls)
		return err_set(e, ERR_CALLER, "messages[%zu] must be the "
		    "assistant's, without tool_calls, to be continued",
		    t->n - 1);
	return 0;
}

int
chat_render(enum chat_style style, const struct json *messages,
    const struct json *tools, const struct chat_opts *opts, struct buf *out,
    struct err *e)
{
	struct talk t;
	struct render r = {style, &t, opts, out};
	size_t was = out->n;
	int rc;

	if (talk_load(&t, messages, e) == -1)
		return -1;
	rc = check_opts(&t, opts, e);
	if (rc == 0)
		rc = put_system(&r, tools, e);
	if (rc == 0) {
		(style == CHAT_V31 ? render_v31 : render_v3)(&r);
		rc = buf_ok(out, e);
	}
	talk_free(&t);
	if (rc == -1 && !out->oom && out->p) {
		out->n = was;
		out->p[was] = '\0';
	}
	return rc;
}

/* The place behind the last word in p[0..n), or 0. */
static size_t
behind_last(const char *p, size_t n, const char *word)
{
	size_t len = strlen(word), at = 0;
	const char *q;

	while ((q = memmem(p + at, n - at, word, len)))
		at = (size_t)(q - p) + len;
	return at;
}

bool
chat_opens_think(const char *p, size_t n)
{
	size_t turn = behind_last(p, n, ASSISTANT), open, close;

	/* Without turns only the very end tells. */
	while (!turn && n && p[n - 1] == '\n')
		n--;
	open = behind_last(p + turn, n - turn, THINK);
	close = behind_last(p + turn, n - turn, THINK_END);
	return turn ? open > close : n && open == n;
}
