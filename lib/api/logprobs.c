/*
 * logprobs: the three shapes in which APIs show them.
 *
 * A token's text may be part of a character: its JSON string then has U+FFFD,
 * and only "bytes" of the chat shape are exact.  Two tokens of one position
 * can so have the same text, but an object must not have the same key twice:
 * the likelier one stays.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"

static const float lowest = -9999.0f;	/* -inf is not JSON */

/* The shortest text that reads back as this float. */
static void
put_lp(struct buf *b, float lp)
{
	char text[32];

	if (!(lp > lowest)) {
		buf_puts(b, "-9999.0");
		return;
	}
	for (int digits = 6; digits <= 9; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, (double)lp);
		if (strtof(text, NULL) == lp)
			break;
	}
	/* -0 would read back as 0 or not, depending on the reader */
	buf_puts(b, lp == 0 ? "0.0" : text);
}

static void
put_token(struct buf *b, const struct tok *t, bool as_id, int32_t id)
{
	const char *p;
	size_t n;

	if (as_id || !t)
		buf_printf(b, "\"token_id:%d\"", (int)id);
	else if (tok_bytes(t, id, &p, &n) == 0)
		json_put_str(b, p, n);
	else
		buf_puts(b, "\"\"");
}

/* ---- completions: four lists, each over the prompt and the answer ---- */

/* The tokens to list: echoed prompt, then answer. */
struct lists {
	const struct tok *t;
	bool as_id;
	const struct api_tokens *part[2];
	size_t most[2];			/* likely tokens to show of each */
	size_t now;			/* that of the part under way */
	struct buf *b;
};

/* More may have been computed than one of the shapes asked for. */
static size_t
most_of(int logprobs)
{
	return logprobs < 0 ? SIZE_MAX : (size_t)logprobs;
}

static void
list(struct lists *l, const char *name,
    void (*put)(struct lists *, const struct api_token *))
{
	bool any = false;

	buf_printf(l->b, "\"%s\":[", name);
	for (int part = 0; part < 2; part++) {
		const struct api_tokens *v = l->part[part];

		l->now = l->most[part];
		for (size_t i = 0; v && i < v->n; i++) {
			if (any)
				buf_putc(l->b, ',');
			put(l, &v->p[i]);
			any = true;
		}
	}
	buf_putc(l->b, ']');
}

static void
list_offset(struct lists *l, const struct api_token *k)
{
	buf_printf(l->b, "%zu", k->offset);
}

static void
list_token(struct lists *l, const struct api_token *k)
{
	put_token(l->b, l->t, l->as_id, k->id);
}

static void
list_lp(struct lists *l, const struct api_token *k)
{
	if (k->has_lp)
		put_lp(l->b, k->lp.chosen.lp);
	else
		buf_puts(l->b, "null");
}

/* One "text":logprob with its rank, to find those of the same text. */
struct entry {
	struct buf key;
	float lp;
	size_t place;
	bool twice;
};

static int
by_key(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int c = strcmp(x->key.p ? x->key.p : "", y->key.p ? y->key.p : "");

	if (c)
		return c;
	return x->place < y->place ? -1 : x->place > y->place;
}

static int
by_place(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return x->place < y->place ? -1 : x->place > y->place;
}

static void
put_entries(struct buf *b, struct entry *v, size_t n)
{
	bool any = false;

	qsort(v, n, sizeof(*v), by_key);
	for (size_t i = 1; i < n; i++)
		v[i].twice = v[i].key.p && v[i - 1].key.p &&
		    strcmp(v[i].key.p, v[i - 1].key.p) == 0;
	qsort(v, n, sizeof(*v), by_place);
	buf_putc(b, '{');
	for (size_t i = 0; i < n; i++) {
		if (v[i].twice)
			continue;
		if (any)
			buf_putc(b, ',');
		if (!v[i].key.p)
			b->oom = true;
		else
			buf_put(b, v[i].key.p, v[i].key.n);
		buf_putc(b, ':');
		put_lp(b, v[i].lp);
		any = true;
	}
	buf_putc(b, '}');
}

/* The chosen token first, as it is the one that can't be left out. */
static void
list_top(struct lists *l, const struct api_token *k)
{
	size_t n = 0, top = k->lp.ntop < l->now ? k->lp.ntop : l->now;
	struct entry *v;

	if (!k->has_lp) {
		buf_puts(l->b, "null");
		return;
	}
	v = mem_new(top + 1, sizeof(*v), NULL);
	if (!v) {
		l->b->oom = true;
		return;
	}
	for (size_t i = 0; i <= top; i++) {
		const struct sample_lp *s = i ? &k->lp.top[i - 1] :
		    &k->lp.chosen;

		if (i && s->id == k->lp.chosen.id)
			continue;
		put_token(&v[n].key, l->t, l->as_id, s->id);
		v[n].lp = s->lp;
		v[n].place = n;
		n++;
	}
	put_entries(l->b, v, n);
	for (size_t i = 0; i < n; i++)
		buf_free(&v[i].key);
	free(v);
}

void
api_put_text_logprobs(struct buf *b, const struct api_req *r,
    const struct tok *t, const struct api_tokens *prompt,
    const struct api_tokens *tokens)
{
	struct lists l = {
		.t = t, .as_id = r->tokens_as_ids,
		.part = { prompt, tokens },
		.most = { most_of(r->logprobs), SIZE_MAX }, .b = b,
	};

	buf_putc(b, '{');
	list(&l, "text_offset", list_offset);
	buf_putc(b, ',');
	list(&l, "token_logprobs", list_lp);
	buf_putc(b, ',');
	list(&l, "tokens", list_token);
	buf_putc(b, ',');
	list(&l, "top_logprobs", list_top);
	buf_putc(b, '}');
}

/* ---- chat ---- */

static void
put_bytes(struct buf *b, const struct tok *t, int32_t id)
{
	const char *p;
	size_t n;

	if (!t || tok_bytes(t, id, &p, &n) == -1) {
		buf_puts(b, "null");
		return;
	}
	buf_putc(b, '[');
	for (size_t i = 0; i < n; i++)
		buf_printf(b, "%s%u", i ? "," : "", (unsigned char)p[i]);
	buf_putc(b, ']');
}

/* {"token":..,"logprob":..,"bytes":.. without the closing brace */
static void
put_chat_lp(struct buf *b, const struct api_req *r, const struct tok *t,
    const struct sample_lp *s)
{
	buf_puts(b, "{\"token\":");
	put_token(b, t, r->tokens_as_ids, s->id);
	buf_puts(b, ",\"logprob\":");
	put_lp(b, s->lp);
	buf_puts(b, ",\"bytes\":");
	put_bytes(b, t, s->id);
}

void
api_put_chat_logprobs(struct buf *b, const struct api_req *r,
    const struct tok *t, const struct api_tokens *tokens)
{
	buf_puts(b, "{\"content\":[");
	for (size_t i = 0; i < tokens->n; i++) {
		const struct api_token *k = &tokens->p[i];
		struct sample_lp none = { .id = k->id, .lp = -HUGE_VALF };

		if (i)
			buf_putc(b, ',');
		put_chat_lp(b, r, t, k->has_lp ? &k->lp.chosen : &none);
		buf_puts(b, ",\"top_logprobs\":[");
		for (size_t j = 0; k->has_lp && j < k->lp.ntop; j++) {
			if (j)
				buf_putc(b, ',');
			put_chat_lp(b, r, t, &k->lp.top[j]);
			buf_putc(b, '}');
		}
		buf_puts(b, "]}");
	}
	buf_puts(b, "]}");
}

/* ---- of the prompt ---- */

static void
put_ranked(struct buf *b, const struct tok *t, const struct sample_lp *s)
{
	buf_printf(b, "\"%d\":{\"logprob\":", (int)s->id);
	put_lp(b, s->lp);
	buf_printf(b, ",\"rank\":%d,\"decoded_token\":", (int)s->rank);
	put_token(b, t, false, s->id);
	buf_putc(b, '}');
}

void
api_put_prompt_logprobs(struct buf *b, const struct api_req *r,
    const struct tok *t, const struct api_tokens *prompt)
{
	size_t most = most_of(r->prompt_logprobs);

	buf_putc(b, '[');
	for (size_t i = 0; i < prompt->n; i++) {
		const struct api_token *k = &prompt->p[i];

		if (i)
			buf_putc(b, ',');
		if (!k->has_lp) {
			buf_puts(b, "null");
			continue;
		}
		buf_putc(b, '{');
		put_ranked(b, t, &k->lp.chosen);
		for (size_t j = 0; j < k->lp.ntop && j < most; j++) {
			if (k->lp.top[j].id == k->lp.chosen.id)
				continue;
			buf_putc(b, ',');
			put_ranked(b, t, &k->lp.top[j]);
		}
		buf_putc(b, '}');
	}
	buf_putc(b, ']');
}

void
api_put_ids(struct buf *b, const struct api_tokens *t)
{
	buf_putc(b, '[');
	for (size_t i = 0; i < t->n; i++)
		buf_printf(b, "%s%d", i ? "," : "", (int)t->p[i].id);
	buf_putc(b, ']');
}
