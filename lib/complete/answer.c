/*
 * answer: a request made ready to run, and its response.
 *
 * What needs the tokenizer or the template is refused by name when the model
 * has none; everything else about a request was checked when it was parsed.
 */
#include <stdlib.h>
#include <string.h>

#include "complete/complete.h"

/* ---- what the model lacks ---- */

static int
check_ability(const struct answer *a, struct api_fail *f)
{
	const struct api_req *r = &a->req;

	if (r->kind == API_CHAT && !a->s->chat)
		return api_refuse(f, "messages", "this model can't chat: %s",
		    a->s->no_chat.msg);
	if (a->s->tok)
		return 0;
	for (size_t i = 0; i < r->nprompt; i++) {
		if (r->prompt[i].text)
			return api_refuse(f, "prompt", "prompt must be token "
			    "ids: the model has no tokenizer.json");
	}
	if (r->params.nstop)
		return api_refuse(f, "stop", "stop needs a tokenizer, and the "
		    "model has no tokenizer.json: use stop_token_ids");
	if (r->bad_words)
		return api_refuse(f, "bad_words", "bad_words needs a "
		    "tokenizer, and the model has no tokenizer.json");
	return 0;
}

/* ---- bad words ---- */

static int
add_word(struct answer *a, const char *text, size_t n, struct ids *ids,
    struct err *e)
{
	ids->n = 0;
	return tok_encode(a->s->tok, text, n, 0, ids, e);
}

/* Hands ids over. */
static void
keep_word(struct sample_params *p, struct ids *ids)
{
	p->bad[p->nbad++] = (struct sample_words){ ids->p, ids->n };
	*ids = (struct ids){0};
}

/* A word is barred as it stands at the start of a text, and as it stands
 * after a blank, when that gives other tokens of the same number. */
static int
bar_word(struct answer *a, const char *word, struct err *e)
{
	struct sample_params *p = &a->req.params;
	struct ids bare = {0}, spaced = {0};
	struct buf b = {0};
	int rc = -1;

	word += strspn(word, " ");
	buf_printf(&b, " %s", word);
	if (buf_ok(&b, e) == -1 ||
	    add_word(a, word, strlen(word), &bare, e) == -1 ||
	    add_word(a, b.p, b.n, &spaced, e) == -1)
		goto out;
	if (spaced.n && spaced.n == bare.n && spaced.p[0] != bare.p[0])
		keep_word(p, &spaced);
	if (bare.n)
		keep_word(p, &bare);
	rc = 0;
out:
	ids_free(&bare);
	ids_free(&spaced);
	buf_free(&b);
	return rc;
}

static int
bar_words(struct answer *a, struct api_fail *f)
{
	struct sample_params *p = &a->req.params;
	const struct json *v = a->req.bad_words;

	if (!v)
		return 0;
	p->bad = mem_new(2 * json_len(v), sizeof(*p->bad), &f->e);
	if (!p->bad)
		return api_failed(f, "bad_words");
	for (v = json_first(v); v; v = json_next(v)) {
		if (bar_word(a, json_str(v), &f->e) == -1)
			return api_failed(f, "bad_words");
	}
	return 0;
}

/* ---- prompts to ids ---- */

static int
encode(struct answer *a, struct answer_prompt *q, const char *text, size_t n,
    const char *param, struct api_fail *f)
{
	unsigned flags = TOK_SPECIAL |
	    (a->req.add_special_tokens ? TOK_BOS : 0);

	if (tok_encode(a->s->tok, text, n, flags, &q->ids, &f->e) == 0)
		return 0;
	err_wrap(&f->e, "%s", param);
	return api_failed(f, param);
}

static int
render(struct answer *a, struct answer_prompt *q, struct api_fail *f)
{
	const struct api_req *r = &a->req;
	struct chat_opts o = {
		.add_generation_prompt = r->add_generation_prompt,
		.continue_final_message = r->continue_final_message,
		.thinking = r->thinking == 1,
	};

	if (chat_render(a->s->style, r->messages, NULL, &o, &q->text,
	    &f->e) == -1)
		return api_failed(f, "messages");
	return encode(a, q, q->text.p, q->text.n, "messages", f);
}

static int
copy_ids(struct answer_prompt *q, const struct api_prompt *p,
    struct api_fail *f)
{
	for (size_t i = 0; i < p->n; i++) {
		if (ids_put(&q->ids, p->ids[i], &f->e) == -1)
			return api_failed(f, "prompt");
	}
	return 0;
}

static int
make_ids(struct answer *a, size_t i, struct api_fail *f)
{
	struct answer_prompt *q = &a->prompt[i];
	const struct api_prompt *p;

	if (a->req.kind == API_CHAT)
		return render(a, q, f);
	p = &a->req.prompt[i];
	return p->text ? encode(a, q, p->text, p->n, "prompt", f) :
	    copy_ids(q, p, f);
}

/* ---- lengths ---- */

static void
truncate_ids(const struct answer *a, struct answer_prompt *q)
{
	const struct api_req *r = &a->req;
	uint64_t most = (uint64_t)r->truncate, room = a->s->api.max_len;
	size_t cut;

	if (r->truncate == 0)
		return;
	if (r->truncate == -1) {
		uint64_t want = r->params.max_tokens > 0 ?
		    (uint64_t)r->params.max_tokens : 1;

		most = want < room ? room - want : 1;
	}
	if (q->ids.n <= most)
		return;
	cut = q->ids.n - most;
	if (!r->truncate_right)
		memmove(q->ids.p, q->ids.p + cut, most * sizeof(*q->ids.p));
	q->ids.n = most;
}

static int
check_length(const struct answer *a, const struct answer_prompt *q,
    struct api_fail *f)
{
	const char *param = a->req.kind == API_CHAT ? "messages" : "prompt";
	uint64_t room = a->s->api.max_len;

	if (q->ids.n == 0)
		return api_refuse(f, param, "the prompt is empty");
	if (q->ids.n > room ||
	    (q->ids.n == room && a->req.params.max_tokens != 0))
		return api_refuse(f, param, "the prompt has %zu tokens; the "
		    "context holds %llu, of which the answer needs at least "
		    "one", q->ids.n, (unsigned long long)room);
	return 0;
}

/* A chat that names no max_tokens gets what is left. */
static void
fill_max_tokens(struct answer *a)
{
	struct sample_params *p = &a->req.params;

	if (p->max_tokens != API_UNSET)
		return;
	p->max_tokens = (int64_t)(a->s->api.max_len - a->prompt[0].ids.n);
	if (p->min_tokens > p->max_tokens)
		p->min_tokens = p->max_tokens;
}

/* ---- the prompt's own tokens ---- */

static size_t
count_chars(const char *p, size_t n)
{
	size_t chars = 0;

	for (size_t i = 0; i < n; i++)
		chars += ((unsigned char)p[i] & 0xc0) != 0x80;
	return chars;
}

/* Where each token of the prompt stands in its text, for echo. */
static int
list_tokens(const struct answer *a, struct answer_prompt *q, struct buf *text,
    struct err *e)
{
	struct tok_stream s;
	size_t chars = 0, old;

	if (a->s->tok)
		tok_stream_init(&s, a->s->tok, TOK_SKIP_SPECIAL);
	for (size_t i = 0; i < q->ids.n; i++) {
		if (api_tokens_put(&q->tokens, q->ids.p[i], chars, NULL,
		    e) == -1)
			return -1;
		old = text->n;
		if (a->s->tok)
			tok_stream_put(&s, q->ids.p[i], text);
		if (text->n > old)
			chars += count_chars(text->p + old, text->n - old);
	}
	if (a->s->tok)
		tok_stream_end(&s, text);
	return buf_ok(text, e);
}

/* Chat echoes the last message, where the assistant wrote it. */
static void
echo_message(const struct answer *a, struct buf *out)
{
	const struct json *last = NULL, *role, *text;

	for (const struct json *c = json_first(a->req.messages); c;
	    c = json_next(c))
		last = c;
	role = json_get(last, "role");
	text = json_get(last, "content");
	if (role && text && json_type(text) == JSON_STR &&
	    strcmp(json_str(role), "assistant") == 0)
		buf_puts(out, json_str(text));
}

/* q->text is the prompt that a chat shows, or what echo puts in front. */
static int
make_echo(struct answer *a, size_t i, struct buf *echo, struct err *e)
{
	struct answer_prompt *q = &a->prompt[i];
	const struct api_req *r = &a->req;
	struct buf decoded = {0};
	int rc = list_tokens(a, q, &decoded, e);

	if (rc == 0 && r->echo && r->kind == API_CHAT)
		echo_message(a, echo);
	else if (rc == 0 && r->echo && r->prompt[i].text && !r->truncate)
		buf_put(echo, r->prompt[i].text, r->prompt[i].n);
	else if (rc == 0 && r->echo)
		buf_put(echo, decoded.p ? decoded.p : "", decoded.n);
	buf_free(&decoded);
	return rc == 0 ? buf_ok(echo, e) : -1;
}

/* ---- choices ---- */

static enum think_start
think_start(const struct answer *a, const struct answer_prompt *q)
{
	if (a->req.kind != API_CHAT)
		return THINK_NEVER;
	if (chat_opens_think(q->text.p, q->text.n))
		return THINK_OPEN;
	return a->s->style == CHAT_R1 ? THINK_MAYBE : THINK_NEVER;
}

static int
start_choices(struct answer *a, size_t i, struct err *e)
{
	struct answer_prompt *q = &a->prompt[i];
	enum think_start start = think_start(a, q);
	struct buf echo = {0};
	int rc = make_echo(a, i, &echo, e);

	if (a->s->show_think && start == THINK_OPEN)
		buf_puts(&echo, "<think>\n");
	for (size_t k = 0; rc == 0 && k < (size_t)a->req.n; k++) {
		struct choice *c = &a->choice[a->nchoice++];

		choice_init(c, a->s, &a->req, start);
		c->prompt = i;
		c->index = (uint32_t)k;
		if (echo.n) {
			buf_put(&c->content, echo.p, echo.n);
			c->nchars = count_chars(echo.p, echo.n);
		}
		rc = buf_ok(&c->content, e);
	}
	buf_free(&echo);
	return rc;
}

/* ---- the whole ---- */

static int
prepare(struct answer *a, struct api_fail *f)
{
	size_t n = a->req.kind == API_CHAT ? 1 : a->req.nprompt;

	if (check_ability(a, f) == -1 || bar_words(a, f) == -1)
		return -1;
	a->prompt = mem_new(n, sizeof(*a->prompt), &f->e);
	a->choice = mem_new(n * (size_t)a->req.n, sizeof(*a->choice), &f->e);
	if (!a->prompt || !a->choice)
		return api_failed(f, NULL);
	for (size_t i = 0; i < n; i++) {
		struct answer_prompt *q = &a->prompt[a->nprompt++];

		if (make_ids(a, i, f) == -1)
			return -1;
		truncate_ids(a, q);
		if (check_length(a, q, f) == -1)
			return -1;
		if (i == 0)
			fill_max_tokens(a);
		if (start_choices(a, i, &f->e) == -1)
			return api_failed(f, NULL);
	}
	a->nlive = a->nchoice;
	return 0;
}

int
answer_open(struct answer **out, struct api_req *r, const struct served *s,
    struct api_fail *f)
{
	struct answer *a;

	*f = (struct api_fail){0};
	*out = NULL;
	a = mem_new(1, sizeof(*a), &f->e);
	if (!a) {
		api_req_free(r);
		return api_failed(f, NULL);
	}
	a->s = s;
	a->req = *r;
	if (prepare(a, f) == -1) {
		answer_close(&a);
		return -1;
	}
	*out = a;
	return 0;
}

void
answer_close(struct answer **out)
{
	struct answer *a = *out;

	if (!a)
		return;
	for (size_t i = 0; i < a->nchoice; i++)
		choice_free(&a->choice[i]);
	for (size_t i = 0; i < a->nprompt; i++) {
		ids_free(&a->prompt[i].ids);
		buf_free(&a->prompt[i].text);
		api_tokens_free(&a->prompt[i].tokens);
	}
	free(a->choice);
	free(a->prompt);
	api_req_free(&a->req);
	free(a);
	*out = NULL;
}

/* ---- the response ---- */

static void
fill_choice(struct api_choice *v, const struct answer *a, size_t i)
{
	static const char *const finish[] = { "", "stop", "length", "abort" };
	const struct choice *c = &a->choice[i];

	*v = (struct api_choice){
		.index = i, .text = c->content.p, .ntext = c->content.n,
		.finish = finish[c->finish], .stop_str = c->stop_str,
		.stop_id = c->stop_id, .tokens = &c->tokens,
		.prompt = &a->prompt[c->prompt].tokens,
	};
	if (c->reasoning.n) {
		v->reasoning = c->reasoning.p;
		v->nreasoning = c->reasoning.n;
	}
	/* content is null only where all of the answer was reasoning */
	if (!v->text && !c->reasoning.n)
		v->text = "";
}

void
answer_put(struct buf *b, const struct answer *a, const char *id,
    int64_t created)
{
	struct api_choice *v = mem_new(a->nchoice, sizeof(*v), NULL);
	struct api_usage u = {0};
	struct api_meta m = {
		.id = id, .created = created, .model = a->s->name,
		.tok = a->s->tok, .prompt_text = a->prompt[0].text.p,
	};

	if (!v) {
		b->oom = true;
		return;
	}
	for (size_t i = 0; i < a->nprompt; i++) {
		u.prompt += a->prompt[i].ids.n;
		u.cached += (int64_t)a->prompt[i].ncached;
	}
	if (!a->s->show_cached)
		u.cached = API_UNSET;
	for (size_t i = 0; i < a->nchoice; i++) {
		fill_choice(&v[i], a, i);
		u.completion += a->choice[i].tokens.n;
		u.reasoning += a->choice[i].nthought;
	}
	api_put_reply(b, &a->req, &m, v, a->nchoice, &u);
	free(v);
}
