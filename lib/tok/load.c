/*
 * load: tokenizer.json and tokenizer_config.json into a struct tok.
 *
 * What a file may ask for and this module doesn't do changes ids, so each
 * such wish is refused by its name.
 */
#include <stdlib.h>
#include <string.h>

#include "tok/tok_priv.h"

static const char *
type_of(const struct json *v)
{
	const struct json *t = json_get(v, "type");

	return t && json_type(t) == JSON_STR ? json_str(t) : "";
}

static bool
absent(const struct json *v)
{
	return !v || json_type(v) == JSON_NULL;
}

/* ---- normalizer, decoder ---- */

static int
check_normalizer(const struct json *v, struct err *e)
{
	const struct json *list;

	if (absent(v))
		return 0;
	list = json_get(v, "normalizers");
	if (!strcmp(type_of(v), "Sequence") && list &&
	    json_type(list) == JSON_ARR) {
		for (list = json_first(list); list; list = json_next(list))
			if (check_normalizer(list, e) == -1)
				return -1;
		return 0;
	}
	return err_set(e, ERR_CALLER, "normalizer must be null or an empty "
	    "Sequence, not %.60s", *type_of(v) ? type_of(v) : "what is there");
}

static int
check_decoder(const struct json *v, struct err *e)
{
	const struct json *list = json_get(v, "decoders");

	if (!strcmp(type_of(v), "ByteLevel"))
		return 0;
	if (!strcmp(type_of(v), "Sequence") && list &&
	    json_type(list) == JSON_ARR && json_len(list) == 1)
		return check_decoder(json_first(list), e);
	return err_set(e, ERR_CALLER, "decoder must be ByteLevel, not %.60s",
	    absent(v) ? "null" : *type_of(v) ? type_of(v) : "what is there");
}

/* ---- model ---- */

static int
load_vocab(struct vocab *v, const struct json *o, struct err *e)
{
	for (const struct json *m = json_first(o); m; m = json_next(m)) {
		if (json_type(m) != JSON_NUM || !json_is_int(m) ||
		    json_num(m) < 0 || json_num(m) > TOK_ID_MAX)
			return err_set(e, ERR_CALLER, "the id of \"%.60s\" "
			    "must be a whole number from 0 to %d",
			    json_key(m), TOK_ID_MAX);
		if (vocab_add(v, json_key(m), (int32_t)json_num(m), e) == -1)
			return -1;
	}
	return 0;
}

/* "a b" or ["a", "b"]. */
static int
load_merge(struct vocab *v, const struct json *m, uint32_t rank,
    struct err *e)
{
	const struct json *a = json_first(m), *b = a ? json_next(a) : NULL;
	const char *s, *gap;

	if (json_type(m) == JSON_STR) {
		s = json_str(m);
		gap = strchr(s, ' ');
		if (!gap || strchr(gap + 1, ' '))
			return err_set(e, ERR_CALLER,
			    "must be two tokens with a space between");
		return merges_add(v, s, (size_t)(gap - s), gap + 1,
		    strlen(gap + 1), rank, e);
	}
	if (json_type(m) != JSON_ARR || !b || json_next(b) ||
	    json_type(a) != JSON_STR || json_type(b) != JSON_STR)
		return err_set(e, ERR_CALLER,
		    "must be \"a b\" or [\"a\", \"b\"]");
	return merges_add(v, json_str(a), strlen(json_str(a)), json_str(b),
	    strlen(json_str(b)), rank, e);
}

static int
load_merges(struct vocab *v, const struct json *list, struct err *e)
{
	uint32_t rank = 0;

	if (!list || json_type(list) != JSON_ARR)
		return err_set(e, ERR_CALLER, "model.merges must be a list");
	if (merges_init(v, json_len(list), e) == -1)
		return -1;
	for (const struct json *m = json_first(list); m; m = json_next(m)) {
		if (load_merge(v, m, rank, e) == -1)
			return err_wrap(e, "model.merges[%u]", rank);
		rank++;
	}
	return 0;
}

/* Members that are harmless only when they are absent, null or empty. */
static int
check_unused(const struct json *model, struct err *e)
{
	static const char *const keys[] = {"unk_token",
	    "continuing_subword_prefix", "end_of_word_suffix"};

	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		const struct json *v = json_get(model, keys[i]);

		if (!absent(v) && (json_type(v) != JSON_STR || *json_str(v)))
			return err_set(e, ERR_CALLER,
			    "%s is set: not supported", keys[i]);
	}
	return 0;
}

static int
load_model(struct tok *t, const struct json *root, struct err *e)
{
	const struct json *m = json_get(root, "model");
	const struct json *vocab = json_get(m, "vocab");
	const struct json *added = json_get(root, "added_tokens");
	double dropout = 0;

	if (!m || (*type_of(m) && strcmp(type_of(m), "BPE")))
		return err_set(e, ERR_CALLER, "model.type must be BPE, not "
		    "%.60s", m ? type_of(m) : "absent");
	if (!vocab || json_type(vocab) != JSON_OBJ)
		return err_set(e, ERR_CALLER, "model.vocab must be an object");
	/* byte_fallback is for characters without a token: every byte has
	 * one here. */
	if (check_unused(m, e) == -1 ||
	    json_opt_bool(m, "ignore_merges", &t->ignore_merges, e) == -1 ||
	    json_opt_f64(m, "dropout", 0, 0, &dropout, e) == -1)
		return err_wrap(e, "model");
	if (vocab_init(&t->vocab, json_len(vocab) +
	    (absent(added) ? 0 : json_len(added)), e) == -1)
		return -1;
	if (load_vocab(&t->vocab, vocab, e) == -1)
		return err_wrap(e, "model.vocab");
	if (vocab_bytes(&t->vocab, e) == -1 ||
	    load_merges(&t->vocab, json_get(m, "merges"), e) == -1)
		return -1;
	return added_load(&t->added, &t->vocab, added, e);
}

/* ---- post_processor ---- */

static int
put_front_ids(struct tok *t, const struct json *ids, struct err *e)
{
	const struct json *id;

	if (!ids || json_type(ids) != JSON_ARR)
		return err_set(e, ERR_CALLER, "ids must be a list");
	t->front = realloc(t->front, (t->nfront + json_len(ids) + 1) *
	    sizeof *t->front);
	if (!t->front) {
		t->nfront = 0;
		return err_set(e, ERR_SYSTEM, "out of memory");
	}
	for (id = json_first(ids); id; id = json_next(id)) {
		if (json_type(id) != JSON_NUM || !json_is_int(id) ||
		    json_num(id) < 0 || json_num(id) >= tok_vocab(t))
			return err_set(e, ERR_CALLER,
			    "ids must be ids of the vocabulary");
		t->front[t->nfront++] = (int32_t)json_num(id);
	}
	return 0;
}

/* What the template has before the text; what it has behind, an end of
 * sentence, never belongs in a prompt. */
static int
load_template(struct tok *t, const struct json *v, struct err *e)
{
	const struct json *single = json_get(v, "single"), *c;

	if (!single || json_type(single) != JSON_ARR)
		return err_set(e, ERR_CALLER, "single must be a list");
	for (c = json_first(single); c; c = json_next(c)) {
		const char *name = NULL;
		const struct json *tok;

		if (json_get(c, "Sequence"))
			break;
		if (json_opt_str(json_get(c, "SpecialToken"), "id", &name, e)
		    == -1)
			return -1;
		tok = name ? json_get(json_get(v, "special_tokens"), name) :
		    NULL;
		if (!tok)
			return err_set(e, ERR_CALLER,
			    "%.60s is not in special_tokens",
			    name ? name : "a token of single");
		if (put_front_ids(t, json_get(tok, "ids"), e) == -1)
			return err_wrap(e, "special_tokens");
	}
	return 0;
}

static int
load_post(struct tok *t, const struct json *v, struct err *e)
{
	const struct json *list = json_get(v, "processors");

	if (absent(v) || !strcmp(type_of(v), "ByteLevel"))
		return 0;
	if (!strcmp(type_of(v), "TemplateProcessing"))
		return load_template(t, v, e);
	if (strcmp(type_of(v), "Sequence") || !list ||
	    json_type(list) != JSON_ARR)
		return err_set(e, ERR_CALLER, "type must be ByteLevel, "
		    "TemplateProcessing or Sequence, not %.60s",
		    *type_of(v) ? type_of(v) : "what is there");
	for (v = json_first(list); v; v = json_next(v))
		if (load_post(t, v, e) == -1)
			return -1;
	return 0;
}

int
load_tokenizer(struct tok *t, const struct json *root, struct err *e)
{
	if (json_type(root) != JSON_OBJ)
		return err_set(e, ERR_CALLER, "must be an object, not %s",
		    json_type_name(json_type(root)));
	if (check_normalizer(json_get(root, "normalizer"), e) == -1 ||
	    load_model(t, root, e) == -1 ||
	    pre_load(&t->pre, json_get(root, "pre_tokenizer"), e) == -1 ||
	    check_decoder(json_get(root, "decoder"), e) == -1)
		return -1;
	if (load_post(t, json_get(root, "post_processor"), e) == -1)
		return err_wrap(e, "post_processor");
	return 0;
}

/* ---- tokenizer_config.json ---- */

/* "text", or an object with content. */
static int
config_token(const struct tok *t, const struct json *root, const char *key,
    int32_t *id, struct err *e)
{
	const struct json *v = json_get(root, key);

	if (absent(v))
		return 0;
	if (json_type(v) == JSON_OBJ)
		v = json_get(v, "content");
	if (!v || json_type(v) != JSON_STR)
		return err_set(e, ERR_CALLER,
		    "%s must be a string or an object with content", key);
	*id = tok_id(t, json_str(v));
	if (*id == -1)
		return err_set(e, ERR_CALLER,
		    "%s: \"%.60s\" is not in the vocabulary", key,
		    json_str(v));
	return 0;
}

int
load_config(struct tok *t, const struct json *root, struct err *e)
{
	const struct json *v = json_get(root, "add_bos_token");
	bool add = false;

	if (config_token(t, root, "bos_token", &t->bos, e) == -1 ||
	    config_token(t, root, "eos_token", &t->eos, e) == -1 ||
	    json_opt_bool(root, "add_bos_token", &add, e) == -1)
		return -1;
	if (absent(v))
		return 0;
	if (add && t->bos == -1)
		return err_set(e, ERR_CALLER,
		    "add_bos_token is true, but bos_token is absent");
	t->add_bos = add;
	return 0;
}
