/*
 * reply: response objects.
 *
 * What somebody thought is given under both names in use, reasoning_content
 * (DeepSeek, llama.cpp, older clients) and reasoning (vLLM).
 */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"

/* ---- token lists ---- */

int
api_tokens_put(struct api_tokens *t, int32_t id, size_t offset,
    const struct sample_logprobs *lp, struct err *e)
{
	struct api_token k = { .id = id, .offset = offset };

	if (mem_grow(&t->p, &t->cap, t->n + 1, sizeof(*t->p), e) == -1)
		return -1;
	if (lp) {
		k.has_lp = true;
		k.lp.chosen = lp->chosen;
		k.lp.top = mem_new(lp->ntop, sizeof(*lp->top), e);
		if (!k.lp.top)
			return -1;
		if (lp->ntop)
			memcpy(k.lp.top, lp->top, lp->ntop * sizeof(*lp->top));
		k.lp.ntop = k.lp.captop = lp->ntop;
	}
	t->p[t->n++] = k;
	return 0;
}

void
api_tokens_free(struct api_tokens *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->p[i].lp.top);
	free(t->p);
	*t = (struct api_tokens){0};
}

/* ---- parts of a choice ---- */

static void
put_text(struct buf *b, const char *s, size_t n)
{
	if (s)
		json_put_str(b, s, n);
	else
		buf_puts(b, "null");
}

static void
put_finish(struct buf *b, const struct api_choice *c)
{
	buf_printf(b, ",\"finish_reason\":\"%s\",\"stop_reason\":", c->finish);
	if (c->stop_str)
		json_put_str(b, c->stop_str, strlen(c->stop_str));
	else if (c->stop_id >= 0)
		buf_printf(b, "%d", (int)c->stop_id);
	else
		buf_puts(b, "null");
}

static bool
show_ids(const struct api_req *r, const struct api_meta *m)
{
	return r->return_token_ids || !m->tok;
}

static void
put_text_choice(struct buf *b, const struct api_req *r,
    const struct api_meta *m, const struct api_choice *c)
{
	buf_printf(b, "{\"index\":%zu,\"text\":", c->index);
	json_put_str(b, c->text ? c->text : "", c->text ? c->ntext : 0);
	buf_puts(b, ",\"logprobs\":");
	if (r->logprobs == SAMPLE_LOGPROBS_OFF)
		buf_puts(b, "null");
	else
		api_put_text_logprobs(b, r, m->tok, r->echo ? c->prompt : NULL,
		    c->tokens);
	put_finish(b, c);
	if (r->prompt_logprobs != SAMPLE_LOGPROBS_OFF) {
		buf_puts(b, ",\"prompt_logprobs\":");
		api_put_prompt_logprobs(b, r, m->tok, c->prompt);
	}
	if (show_ids(r, m)) {
		buf_puts(b, ",\"prompt_token_ids\":");
		api_put_ids(b, c->prompt);
		buf_puts(b, ",\"token_ids\":");
		api_put_ids(b, c->tokens);
	}
	buf_putc(b, '}');
}

static void
put_message(struct buf *b, const struct api_req *r, const struct api_choice *c)
{
	buf_puts(b, "{\"role\":\"assistant\",\"content\":");
	put_text(b, c->text, c->ntext);
	if (r->include_reasoning) {
		buf_puts(b, ",\"reasoning_content\":");
		put_text(b, c->reasoning, c->nreasoning);
		buf_puts(b, ",\"reasoning\":");
		put_text(b, c->reasoning, c->nreasoning);
	}
	buf_putc(b, '}');
}

static void
put_chat_choice(struct buf *b, const struct api_req *r,
    const struct api_meta *m, const struct api_choice *c)
{
	buf_printf(b, "{\"index\":%zu,\"message\":", c->index);
	put_message(b, r, c);
	buf_puts(b, ",\"logprobs\":");
	if (r->logprobs == SAMPLE_LOGPROBS_OFF)
		buf_puts(b, "null");
	else
		api_put_chat_logprobs(b, r, m->tok, c->tokens);
	put_finish(b, c);
	if (show_ids(r, m)) {
		buf_puts(b, ",\"token_ids\":");
		api_put_ids(b, c->tokens);
	}
	buf_putc(b, '}');
}

/* ---- the whole ---- */

static void
put_usage(struct buf *b, const struct api_req *r, const struct api_usage *u)
{
	buf_printf(b, "{\"prompt_tokens\":%zu,\"completion_tokens\":%zu,"
	    "\"total_tokens\":%zu", u->prompt, u->completion,
	    u->prompt + u->completion);
	if (u->cached != API_UNSET)
		buf_printf(b, ",\"prompt_tokens_details\":"
		    "{\"cached_tokens\":%lld}", (long long)u->cached);
	if (r->kind == API_CHAT)
		buf_printf(b, ",\"completion_tokens_details\":"
		    "{\"reasoning_tokens\":%zu}", u->reasoning);
	buf_putc(b, '}');
}

static void
put_head(struct buf *b, const struct api_req *r, const struct api_meta *m)
{
	const char *model = r->model ? r->model : m->model;
	char id[API_MAX_ID + 16];

	snprintf(id, sizeof(id), "%s-%s",
	    r->kind == API_CHAT ? "chatcmpl" : "cmpl", m->id);
	buf_puts(b, "{\"id\":");
	json_put_str(b, id, strlen(id));
	buf_printf(b, ",\"object\":\"%s\",\"created\":%lld,\"model\":",
	    r->kind == API_CHAT ? "chat.completion" : "text_completion",
	    (long long)m->created);
	json_put_str(b, model, strlen(model));
}

/* What chat.completion has beside its choices, all of which share it. */
static void
put_chat_prompt(struct buf *b, const struct api_req *r,
    const struct api_meta *m, const struct api_choice *c)
{
	if (r->prompt_logprobs != SAMPLE_LOGPROBS_OFF) {
		buf_puts(b, ",\"prompt_logprobs\":");
		api_put_prompt_logprobs(b, r, m->tok, c->prompt);
	}
	if (show_ids(r, m)) {
		buf_puts(b, ",\"prompt_token_ids\":");
		api_put_ids(b, c->prompt);
	}
	if (r->return_prompt_text && m->prompt_text) {
		buf_puts(b, ",\"prompt_text\":");
		json_put_str(b, m->prompt_text, strlen(m->prompt_text));
	}
}

void
api_put_reply(struct buf *b, const struct api_req *r,
    const struct api_meta *m, const struct api_choice *c, size_t n,
    const struct api_usage *u)
{
	put_head(b, r, m);
	buf_puts(b, ",\"choices\":[");
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_putc(b, ',');
		if (r->kind == API_CHAT)
			put_chat_choice(b, r, m, &c[i]);
		else
			put_text_choice(b, r, m, &c[i]);
	}
	buf_puts(b, "],\"usage\":");
	put_usage(b, r, u);
	if (r->kind == API_CHAT && n)
		put_chat_prompt(b, r, m, &c[0]);
	buf_putc(b, '}');
}
