/*
 * choice: from tokens to the text of one answer.
 *
 * Text passes three stages: raw (c->text), safe (no stop string can still take
 * it back), shown (content or reasoning).  Think tags are always in the raw
 * text of a chat, also where the tokenizer calls them special: the split works
 * on text, and takes them out again.
 */
#include <string.h>

#include "complete/complete.h"

void
choice_init(struct choice *c, const struct served *s, const struct api_req *r,
    enum think_start start)
{
	*c = (struct choice){
		.s = s, .r = r, .stop_id = -1,
		.splits = start != THINK_NEVER && !s->show_think,
		.thinks = start == THINK_OPEN,
	};
	if (s->tok)
		tok_stream_init(&c->stream, s->tok,
		    r->skip_special_tokens ? TOK_SKIP_SPECIAL : 0);
	think_init(&c->split, c->splits ? start : THINK_NEVER);
}

void
choice_free(struct choice *c)
{
	api_tokens_free(&c->tokens);
	buf_free(&c->text);
	buf_free(&c->content);
	buf_free(&c->reasoning);
}

static void
show(void *arg, enum think_kind kind, const char *p, size_t n)
{
	struct choice *c = arg;

	buf_put(kind == THINK_REASONING ? &c->reasoning : &c->content, p, n);
}

/* ---- the raw text ---- */

static size_t
count_chars(const char *p, size_t n)
{
	size_t chars = 0;

	for (size_t i = 0; i < n; i++)
		chars += ((unsigned char)p[i] & 0xc0) != 0x80;
	return chars;
}

static bool
is_think(const struct choice *c, int32_t id)
{
	return id >= 0 && (id == c->s->think_open || id == c->s->think_close);
}

static void
add_text(struct choice *c, int32_t id)
{
	const char *p;
	size_t n;

	if (!c->s->tok)
		return;
	if (c->r->kind == API_CHAT && c->r->skip_special_tokens &&
	    is_think(c, id) && tok_is_special(c->s->tok, id) &&
	    tok_bytes(c->s->tok, id, &p, &n) == 0) {
		tok_stream_end(&c->stream, &c->text);
		buf_put(&c->text, p, n);
		return;
	}
	tok_stream_put(&c->stream, id, &c->text);
}

/* ---- logprobs ---- */

static bool
is_wanted(const struct api_req *r, size_t place, int32_t id)
{
	if (r->logprobs < 0 || place < (size_t)r->logprobs)
		return true;
	for (size_t i = 0; i < r->params.nlogprob_id; i++) {
		if (r->params.logprob_id[i] == id)
			return true;
	}
	return false;
}

/* With logprob_token_ids the engine gave all; what was not asked for goes. */
static void
pick_wanted(const struct api_req *r, struct sample_logprobs *lp)
{
	size_t n = 0;

	for (size_t i = 0; i < lp->ntop; i++) {
		if (is_wanted(r, i, lp->top[i].id))
			lp->top[n++] = lp->top[i];
	}
	lp->ntop = n;
}

static int
add_token(struct choice *c, int32_t id, const struct sample_logprobs *lp,
    struct err *e)
{
	if (api_tokens_put(&c->tokens, id, c->nchars,
	    c->r->logprobs == SAMPLE_LOGPROBS_OFF ? NULL : lp, e) == -1)
		return -1;
	if (lp && c->r->params.nlogprob_id)
		pick_wanted(c->r, &c->tokens.p[c->tokens.n - 1].lp);
	if (id == c->s->think_open)
		c->thinks = c->splits;
	else if (id == c->s->think_close)
		c->thinks = false;
	else
		c->nthought += c->thinks;
	return 0;
}

/* ---- stages ---- */

/* The token that ended it is not part of the text, unless asked for. */
static bool
has_text(const struct choice *c, enum engine_finish finish, int32_t stop_id)
{
	return finish != ENGINE_STOP ||
	    (stop_id >= 0 && c->r->params.include_stop);
}

static void
look_for_stop(struct choice *c, size_t old)
{
	const struct sample_params *p = &c->r->params;
	size_t safe;
	int i;

	i = stop_find(p, c->text.p ? c->text.p : "", c->from, old, c->text.n,
	    &safe);
	/* text that min_tokens protects stops nothing */
	if (c->tokens.n < (size_t)p->min_tokens) {
		c->from = c->text.n;
		c->safe = c->text.n;
		return;
	}
	c->safe = safe;
	if (i == -1)
		return;
	c->finish = ENGINE_STOP;
	c->stop_str = p->stop[i];
	c->stop_id = -1;
}

static bool
is_eos(const struct served *s, int32_t id)
{
	for (unsigned i = 0; i < s->neos; i++) {
		if (s->eos[i] == id)
			return true;
	}
	return false;
}

int
choice_put(struct choice *c, int32_t token, const struct sample_logprobs *lp,
    enum engine_finish finish, int32_t stop_id, struct err *e)
{
	size_t old = c->text.n, shown = c->safe;

	c->begun = true;
	c->finish = finish;
	if (stop_id >= 0 && (c->r->params.ignore_eos || !is_eos(c->s, stop_id)))
		c->stop_id = stop_id;
	if (token >= 0 && add_token(c, token, lp, e) == -1)
		return -1;
	if (token >= 0 && has_text(c, finish, stop_id))
		add_text(c, token);
	if (finish != ENGINE_RUNNING && c->s->tok)
		tok_stream_end(&c->stream, &c->text);
	if (buf_ok(&c->text, e) == -1)
		return -1;
	if (c->text.n > old)
		c->nchars += count_chars(c->text.p + old, c->text.n - old);
	look_for_stop(c, old);
	if (finish != ENGINE_RUNNING && !c->stop_str)
		c->safe = c->text.n;	/* no stop string comes any more */
	if (c->safe > shown)
		think_put(&c->split, c->text.p + shown, c->safe - shown, show,
		    c);
	if (c->finish != ENGINE_RUNNING)
		think_end(&c->split, show, c);
	if (buf_ok(&c->content, e) == -1 || buf_ok(&c->reasoning, e) == -1)
		return -1;
	return 0;
}
