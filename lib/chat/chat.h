/*
 * chat: conversations to prompts for DeepSeek V3, R1 and V3.1, and answers
 * to reasoning and content.
 *
 * The published chat templates are programs in a language of their own; here
 * are the three that matter, written out.  The prompt is the template's, byte
 * for byte (so a single tool call of V3 and R1 has no mark at the end of its
 * list), but for what the published V3 and R1 templates lose: the marks of
 * further rounds of tool calls, calls beside content, and the tools.
 */
#ifndef DSI_CHAT_H
#define DSI_CHAT_H

#include "base/base.h"
#include "json/json.h"

/* ---- prompts ---- */

enum chat_style { CHAT_V3, CHAT_R1, CHAT_V31 };

/* "v3", "r1", "v3.1"; -1 with a line that lists them. */
int chat_style_named(const char *name, enum chat_style *out, struct err *e);
const char *chat_style_name(enum chat_style s);
/* By what a chat_template says.  -1: none of the three. */
int chat_style_of(const char *chat_template, enum chat_style *out,
    struct err *e);
/* The same for a model folder: chat_template.jinja, or chat_template in
 * tokenizer_config.json (a string, or a list of which "default" counts). */
int chat_style_open(const char *model_dir, enum chat_style *out,
    struct err *e);

struct chat_opts {
	bool add_generation_prompt;	/* end with the assistant's turn */
	bool continue_final_message;	/* leave the last message, which must
					 * be the assistant's, open */
	bool thinking;			/* V3.1: answer with reasoning */
};

/* Appends the prompt to out.
 * messages: a list of {role, content, ...}.  role: system (or developer),
 * user, assistant, tool.  content: a string, a list of {type: text, text}
 * parts (joined by a newline), or null for an assistant with tool_calls.
 * tool_calls: [{function: {name, arguments: a string or an object}}].
 * An assistant's reasoning (or reasoning_content) counts only with
 * continue_final_message; what it thought before isn't shown again.
 * tools: NULL, or a list of {type: function, function: {name, description,
 * parameters}}; they are described after the system text.
 * ERR_CALLER names the place ("messages[2].content must be ..."); out is then
 * as before. */
int chat_render(enum chat_style style, const struct json *messages,
    const struct json *tools, const struct chat_opts *opts, struct buf *out,
    struct err *e);

/* Whether a prompt ends inside an open <think>: its answer then starts with
 * reasoning. */
bool chat_opens_think(const char *prompt, size_t n);

/* ---- answers ---- */

enum think_kind { THINK_REASONING, THINK_CONTENT };

enum think_start {
	THINK_NEVER,			/* all is content, tags and all */
	THINK_MAYBE,			/* reasoning if <think> comes first */
	THINK_OPEN,			/* the prompt has opened <think> */
};

/* Parts an answer while it comes, in any pieces, also inside a tag.
 * Reasoning ends at </think>; without one everything is reasoning.  The
 * tags are taken out, and so are newlines right after <think> and the blank
 * lines before the answer.  Text that may yet become a tag is held back. */
struct think_split {
	int state;
	char held[8];			/* the start of a tag */
	unsigned nheld;
};

/* Called for each part: one kind at a time, n > 0, p not NUL-terminated. */
typedef void think_emit(void *arg, enum think_kind kind, const char *p,
    size_t n);

void think_init(struct think_split *s, enum think_start start);
void think_put(struct think_split *s, const char *p, size_t n,
    think_emit *emit, void *arg);
/* For callers that see token ids: the id of <think> (open) or </think>, in
 * place of its text. */
void think_mark(struct think_split *s, bool open, think_emit *emit,
    void *arg);
/* The answer is over: what was held back is text. */
void think_end(struct think_split *s, think_emit *emit, void *arg);
/* Tokens that come now count as reasoning. */
bool think_is_reasoning(const struct think_split *s);

#endif
