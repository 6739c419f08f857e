/*
 * item: one input record: to a request, and to its piece of output.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "batch/batch_priv.h"

/* ---- in: JSON ---- */

static void
use_seed(struct api_req *r, const struct batch_opts *o, uint64_t lineno)
{
	if (r->params.has_seed)
		return;
	/* by place, not by time: a resumed batch goes on as it would have */
	r->params.has_seed = true;
	r->params.seed = (int64_t)(o->seed + lineno - 1);
}

static int
parse_body(struct item *it, const struct batch_opts *o,
    const struct served *s, struct api_req *r)
{
	const struct json *body = it->json;
	struct api_batch b;
	enum api_kind kind;

	if (api_is_batch(it->json)) {
		int rc = api_batch_parse(&b, it->json, &it->fail);

		it->custom_id = b.custom_id;
		if (rc == -1)
			return -1;
		body = b.body;
		kind = b.kind;
	} else {
		kind = json_get(body, "messages") ? API_CHAT : API_COMPLETION;
	}
	if (api_parse(r, kind, body, &s->api, &it->fail) == -1)
		return -1;
	if (o->think == BATCH_HIDE)
		r->include_reasoning = false;
	return 0;
}

static int
from_json(struct item *it, const struct batch_opts *o, const struct served *s,
    const char *p, size_t n, struct api_req *r)
{
	if (json_parse(&it->json, p, n, &it->fail.e) == -1) {
		err_wrap(&it->fail.e, "not JSON");
		return api_failed(&it->fail, NULL);
	}
	return parse_body(it, o, s, r);
}

/* ---- in: text ---- */

static void
put_message(struct buf *b, const char *role, const char *text, size_t n)
{
	buf_printf(b, "{\"role\":\"%s\",\"content\":", role);
	json_put_str(b, text, n);
	buf_putc(b, '}');
}

static bool
is_utf8(const char *p, size_t n)
{
	for (size_t i = 0; i < n;) {
		int len = utf8_len(p + i, n - i);

		if (len <= 0)
			return false;
		i += (size_t)len;
	}
	return true;
}

static int
make_chat(struct item *it, const struct batch_opts *o, const char *p, size_t n,
    struct api_req *r)
{
	struct buf b = {0};
	int rc;

	if (!is_utf8(p, n))
		return api_refuse(&it->fail, NULL, "not valid UTF-8");
	buf_putc(&b, '[');
	if (o->system) {
		put_message(&b, "system", o->system, strlen(o->system));
		buf_putc(&b, ',');
	}
	put_message(&b, "user", p, n);
	buf_putc(&b, ']');
	rc = buf_ok(&b, &it->fail.e);
	if (rc == 0)
		rc = json_parse(&it->json, b.p, b.n, &it->fail.e);
	buf_free(&b);
	r->messages = it->json;
	return rc == 0 ? 0 : api_failed(&it->fail, NULL);
}

static int
make_prompt(struct item *it, const char *p, size_t n, struct api_req *r)
{
	r->prompt = mem_new(1, sizeof(*r->prompt), &it->fail.e);
	it->text = mem_new(n + 1, 1, &it->fail.e);
	if (!r->prompt || !it->text)
		return api_failed(&it->fail, NULL);
	memcpy(it->text, p, n);
	r->prompt[0].text = it->text;
	r->prompt[0].n = n;
	r->nprompt = 1;
	return 0;
}

static int
add_id(struct item *it, const struct served *s, struct ids *v, char *word)
{
	uint64_t id;

	if (num_u64(word, s->api.vocab - 1, &id) == -1)
		return api_refuse(&it->fail, NULL, "'%.40s' is not a token id "
		    "from 0 to %u", word, s->api.vocab - 1);
	return ids_put(v, (int32_t)id, &it->fail.e) == 0 ? 0 :
	    api_failed(&it->fail, NULL);
}

static int
make_ids(struct item *it, const struct served *s, struct api_req *r)
{
	struct ids v = {0};
	char *p = it->text;

	while (*(p += strspn(p, " \t\r\n"))) {
		size_t n = strcspn(p, " \t\r\n");
		bool last = !p[n];

		p[n] = '\0';
		if (add_id(it, s, &v, p) == -1) {
			ids_free(&v);
			return -1;
		}
		p += last ? n : n + 1;
	}
	r->prompt[0] = (struct api_prompt){ .ids = v.p, .n = v.n };
	return 0;
}

static int
from_text(struct item *it, const struct batch_opts *o,
    const struct served *s, const char *p, size_t n, struct api_req *r)
{
	*r = o->proto;
	if (sample_copy(&r->params, &o->proto.params, &it->fail.e) == -1)
		return api_failed(&it->fail, NULL);
	if (o->chat)
		return make_chat(it, o, p, n, r);
	if (make_prompt(it, p, n, r) == -1)
		return -1;
	if (o->ids)
		return make_ids(it, s, r);
	return n ? 0 : api_refuse(&it->fail, NULL, "the prompt is empty");
}

/* ---- in ---- */

static int
make(struct item *it, const struct batch_opts *o, const struct served *s,
    const char *p, size_t n)
{
	struct api_req r;
	int rc;

	if (o->jsonl)
		rc = from_json(it, o, s, p, n, &r);
	else if ((rc = from_text(it, o, s, p, n, &r)) == -1)
		api_req_free(&r);
	if (rc == -1)
		return -1;
	use_seed(&r, o, it->lineno);
	if (answer_open(&it->a, &r, s, &it->fail) == -1)
		return -1;
	it->nchoice = it->a->nchoice;
	return 0;
}

int
item_open(struct item **out, const struct batch_opts *o,
    const struct served *s, const char *p, size_t n, uint64_t lineno,
    struct err *e)
{
	struct item *it = mem_new(1, sizeof(*it), e);

	*out = NULL;
	if (!it)
		return -1;
	it->lineno = lineno;
	it->nchoice = o->jsonl ? 1 : (size_t)o->proto.n;
	snprintf(it->id, sizeof(it->id), "%llu", (unsigned long long)lineno);
	if (make(it, o, s, p, n) == -1) {
		it->over = true;
		if (it->fail.e.code == ERR_SYSTEM) {
			err_set(e, ERR_SYSTEM, "input %llu: %s",
			    (unsigned long long)lineno, it->fail.e.msg);
			item_close(&it);
			return -1;
		}
	}
	*out = it;
	return 0;
}

void
item_close(struct item **out)
{
	struct item *it = *out;

	if (!it)
		return;
	answer_close(&it->a);
	json_free(&it->json);
	free(it->text);
	buf_free(&it->line);
	free(it);
	*out = NULL;
}

/* ---- out: JSON ---- */

int
item_line(struct item *it, const struct batch_opts *o, struct err *e)
{
	const char *id = it->a && it->a->req.request_id ?
	    it->a->req.request_id : it->id;
	int status = it->fail.status ? it->fail.status : 200;
	struct buf body = {0};
	int rc;

	if (it->fail.status)
		api_put_fail(&body, &it->fail);
	else
		answer_put(&body, it->a, id, o->created ? o->created :
		    (int64_t)time(NULL));
	rc = buf_ok(&body, e);
	if (rc == 0 && it->custom_id)
		api_put_batch(&it->line, it->id, it->custom_id, status, body.p,
		    body.n);
	else if (rc == 0)
		buf_put(&it->line, body.p, body.n);
	buf_free(&body);
	answer_close(&it->a);
	return rc == 0 ? buf_ok(&it->line, e) : -1;
}

/* ---- out: text ---- */

static void
put_new(struct buf *out, const struct buf *from, size_t *shown)
{
	if (from->n > *shown)
		buf_put(out, from->p + *shown, from->n - *shown);
	*shown = from->n;
}

static void
put_ids(struct buf *out, const struct api_tokens *t, size_t *shown)
{
	for (; *shown < t->n; ++*shown)
		buf_printf(out, "%s%d", *shown ? " " : "",
		    (int)t->p[*shown].id);
}

void
item_text(struct item *it, const struct batch_opts *o, struct buf *out,
    struct buf *reasoning)
{
	char end = o->sep == INPUT_NUL ? '\0' : '\n';

	for (; it->at < it->nchoice; it->at++) {
		const struct choice *c = it->a ? &it->a->choice[it->at] : NULL;

		if (c && o->ids)
			put_ids(out, &c->tokens, &it->shown);
		if (c && !o->ids)
			put_new(out, &c->content, &it->shown);
		if (c && o->think == BATCH_SPLIT)
			put_new(reasoning, &c->reasoning, &it->thought);
		if (c && c->finish == ENGINE_RUNNING)
			break;
		if (it->thought)
			buf_putc(reasoning, end);
		buf_putc(out, end);
		it->shown = it->thought = 0;
	}
}
