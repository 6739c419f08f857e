/*
 * pre: the pre_tokenizer, a chain of steps that cut text into pieces.
 *
 * Each step hands its pieces straight to the next, depth first, so nothing
 * is listed in between: a piece goes from the first pattern to BPE while its
 * bytes are in the cache.  ByteLevel, whose mapping of bytes is part of the
 * vocabulary here, must be the last step.
 */
#include <stdlib.h>
#include <string.h>

#include "tok/tok_priv.h"

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+|" \
    " ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* ---- loading ---- */

static int
add_step(struct pre *p, const char *pattern, bool literal, enum split_how how,
    bool invert, struct err *e)
{
	struct step *s = &p->steps[p->n];

	if (p->n == PRE_MAX)
		return err_set(e, ERR_CALLER, "more than %d steps", PRE_MAX);
	*s = (struct step){.how = how, .invert = invert};
	if (pattern && rx_compile(&s->rx, pattern, literal, e) == -1)
		return err_wrap(e, "pattern");
	p->n++;
	return 0;
}

static int
split_how(const struct json *v, enum split_how *how, struct err *e)
{
	static const char *const names[] = {"Isolated", "Removed",
	    "Contiguous", "MergedWithPrevious", "MergedWithNext"};
	const char *s = NULL;

	if (json_opt_str(v, "behavior", &s, e) == -1)
		return -1;
	for (int i = 0; s && i < 5; i++)
		if (!strcmp(s, names[i])) {
			*how = (enum split_how)i;
			return 0;
		}
	return err_set(e, ERR_CALLER, "behavior must be Isolated, Removed, "
	    "Contiguous, MergedWithPrevious or MergedWithNext, not %.60s",
	    s ? s : "absent");
}

static int
load_split(struct pre *p, const struct json *v, struct err *e)
{
	const struct json *pat = json_get(v, "pattern");
	const char *rx = NULL, *str = NULL;
	enum split_how how = SPLIT_ISOLATED;
	bool invert = false;

	if (json_opt_str(pat, "Regex", &rx, e) == -1 ||
	    json_opt_str(pat, "String", &str, e) == -1)
		return err_wrap(e, "pattern");
	if (!rx == !str)
		return err_set(e, ERR_CALLER,
		    "pattern must be an object with Regex or String");
	if (split_how(v, &how, e) == -1 ||
	    json_opt_bool(v, "invert", &invert, e) == -1)
		return -1;
	return add_step(p, rx ? rx : str, str != NULL, how, invert, e);
}

static int
load_digits(struct pre *p, const struct json *v, struct err *e)
{
	bool each = false;

	if (json_opt_bool(v, "individual_digits", &each, e) == -1)
		return -1;
	return add_step(p, "\\p{N}", false,
	    each ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS, false, e);
}

static int
load_bytes(struct pre *p, const struct json *v, bool *last, struct err *e)
{
	bool space = true, rx = true;

	if (json_opt_bool(v, "add_prefix_space", &space, e) == -1 ||
	    json_opt_bool(v, "use_regex", &rx, e) == -1 ||
	    add_step(p, rx ? GPT2 : NULL, false, SPLIT_ISOLATED, false, e)
	    == -1)
		return -1;
	p->steps[p->n - 1].prefix_space = space;
	*last = true;
	return 0;
}

static int load_step(struct pre *, const struct json *, bool *, struct err *);

static int
load_sequence(struct pre *p, const struct json *v, bool *last, struct err *e)
{
	const struct json *list = json_get(v, "pretokenizers");
	int i = 0;

	if (!list || json_type(list) != JSON_ARR)
		return err_set(e, ERR_CALLER, "pretokenizers must be a list");
	for (const struct json *c = json_first(list); c; c = json_next(c), i++)
		if (load_step(p, c, last, e) == -1)
			return err_wrap(e, "pretokenizers[%d]", i);
	return 0;
}

static int
load_step(struct pre *p, const struct json *v, bool *last, struct err *e)
{
	const char *type = NULL;

	if (json_type(v) != JSON_OBJ)
		return err_set(e, ERR_CALLER, "must be an object, not %s",
		    json_type_name(json_type(v)));
	if (json_opt_str(v, "type", &type, e) == -1)
		return -1;
	if (*last)
		return err_set(e, ERR_CALLER, "%.60s comes after ByteLevel, "
		    "which must be the last step", type ? type : "a step");
	if (type && !strcmp(type, "Sequence"))
		return load_sequence(p, v, last, e);
	if (type && !strcmp(type, "Split"))
		return load_split(p, v, e);
	if (type && !strcmp(type, "Digits"))
		return load_digits(p, v, e);
	if (type && !strcmp(type, "ByteLevel"))
		return load_bytes(p, v, last, e);
	return err_set(e, ERR_CALLER, "type must be Split, Digits, ByteLevel "
	    "or Sequence, not %.60s", type ? type : "absent");
}

int
pre_load(struct pre *p, const struct json *v, struct err *e)
{
	bool last = false;

	if (v && json_type(v) != JSON_NULL && load_step(p, v, &last, e) == -1)
		return err_wrap(e, "pre_tokenizer");
	if (!last)
		return err_set(e, ERR_CALLER, "pre_tokenizer: no ByteLevel "
		    "step: only byte-level BPE is supported");
	return 0;
}

void
pre_free(struct pre *p)
{
	while (p->n)
		rx_free(&p->steps[--p->n].rx);
}

/* ---- running ---- */

static int run_step(const struct pre_run *r, size_t k, const char *p,
    size_t n, struct err *e);

/* Joins the stretches of one step as its behaviour asks.  A stretch waits
 * here until it is known that nothing joins it. */
struct joiner {
	const struct pre_run *r;
	size_t k;			/* the step */
	const char *p;
	size_t start, end;		/* the waiting stretch */
	bool waiting, match;		/* it is there; it (still) is a match */
	bool prev;			/* the stretch before was a match */
};

static int
flush(struct joiner *j, struct err *e)
{
	if (!j->waiting)
		return 0;
	j->waiting = false;
	return run_step(j->r, j->k + 1, j->p + j->start, j->end - j->start, e);
}

static int
join(struct joiner *j, size_t start, size_t end, bool match, struct err *e)
{
	const struct step *s = &j->r->pre->steps[j->k];
	bool joins = false;

	match ^= s->invert;
	switch (s->how) {
	case SPLIT_ISOLATED:
		break;
	case SPLIT_REMOVED:
		if (match)
			return 0;
		break;
	case SPLIT_CONTIGUOUS:
		joins = match == j->match;
		break;
	case SPLIT_WITH_PREVIOUS:
		joins = match && !j->prev;
		break;
	case SPLIT_WITH_NEXT:
		joins = j->match && !match;
		break;
	}
	j->prev = match;
	if (j->waiting && joins) {
		j->end = end;
		if (s->how == SPLIT_WITH_NEXT)
			j->match = false;
		return 0;
	}
	if (flush(j, e) == -1)
		return -1;
	j->start = start;
	j->end = end;
	j->match = match;
	j->waiting = true;
	return 0;
}

static size_t
char_len(const char *p, size_t n)
{
	int len = n ? utf8_len(p, n) : 1;

	return len > 0 ? (size_t)len : 1;
}

static int
cut(const struct pre_run *r, size_t k, const char *p, size_t n, struct err *e)
{
	const struct step *st = &r->pre->steps[k];
	struct joiner j = {.r = r, .k = k, .p = p};
	size_t done = 0, at = 0, last = SIZE_MAX, s = 0, t = 0;

	while (at <= n) {
		int got = rx_find(st->rx, r->rs, p, n, at, &s, &t, e);

		if (got == -1)
			return -1;
		if (got == 0)
			break;
		if (s == t && s == last) {
			/* No empty match right behind a match. */
			at += char_len(p + at, n - at);
			continue;
		}
		if (done != s && join(&j, done, s, false, e) == -1)
			return -1;
		if (join(&j, s, t, true, e) == -1)
			return -1;
		done = at = last = t;
	}
	if (done != n && join(&j, done, n, false, e) == -1)
		return -1;
	return flush(&j, e);
}

static int
with_space(const struct pre_run *r, size_t k, const char *p, size_t n,
    struct err *e)
{
	struct buf b = {0};
	int rc;

	buf_putc(&b, ' ');
	buf_put(&b, p, n);
	rc = buf_ok(&b, e);
	if (rc == 0)
		rc = r->pre->steps[k].rx ? cut(r, k, b.p, b.n, e) :
		    run_step(r, k + 1, b.p, b.n, e);
	buf_free(&b);
	return rc;
}

static int
run_step(const struct pre_run *r, size_t k, const char *p, size_t n,
    struct err *e)
{
	const struct step *s = r->pre->steps + k;

	if (n == 0)
		return 0;
	if (k == r->pre->n)
		return r->piece(r->arg, p, n, e);
	if (s->prefix_space && *p != ' ')
		return with_space(r, k, p, n, e);
	return s->rx ? cut(r, k, p, n, e) : run_step(r, k + 1, p, n, e);
}

int
pre_run(const struct pre_run *r, const char *text, size_t n, struct err *e)
{
	return run_step(r, 0, text, n, e);
}
