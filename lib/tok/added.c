/*
 * added: tokens that are looked for in the text before it is cut up.
 *
 * Leftmost and then longest wins, by a walk down a trie from every place
 * where one can start.  Tokens marked "normalized" are looked for in a second
 * round, in what the first left over, as in the reference.
 */
#include <stdlib.h>
#include <string.h>

#include "tok/tok_priv.h"

enum { CONTENT_MAX = 1024 };

/* ---- the trie ---- */

static uint32_t
trie_child(const struct trie *t, uint32_t node, uint8_t byte)
{
	uint32_t c;

	if (node == 0)
		return t->first[byte];
	for (c = t->nodes[node].child; c; c = t->nodes[c].sibling)
		if (t->nodes[c].byte == byte)
			break;
	return c;
}

static int
trie_add(struct trie *t, const char *p, size_t n, uint32_t added,
    struct err *e)
{
	uint32_t at = 0;

	if (mem_grow(&t->nodes, &t->cap, t->n + n + 1, sizeof *t->nodes, e)
	    == -1)
		return -1;
	if (t->n == 0)
		t->nodes[t->n++] = (struct trie_node){0};
	for (size_t i = 0; i < n; i++) {
		uint32_t c = trie_child(t, at, (uint8_t)p[i]);

		if (!c) {
			c = (uint32_t)t->n++;
			t->nodes[c] = (struct trie_node){.byte = (uint8_t)p[i],
			    .sibling = at ? t->nodes[at].child : 0};
			if (at)
				t->nodes[at].child = c;
			else
				t->first[(uint8_t)p[i]] = c;
		}
		at = c;
	}
	if (!t->nodes[at].added)
		t->nodes[at].added = added;
	return 0;
}

/* The longest token at p: index + 1, or 0. */
static uint32_t
trie_longest(const struct trie *t, const char *p, size_t n, size_t *len)
{
	uint32_t at = 0, found = 0;

	for (size_t i = 0; i < n; i++) {
		if (!(at = trie_child(t, at, (uint8_t)p[i])))
			break;
		if (t->nodes[at].added) {
			found = t->nodes[at].added;
			*len = i + 1;
		}
	}
	return found;
}

/* ---- loading ---- */

static int
add_one(struct added_set *a, struct vocab *v, const char *content,
    int64_t id, struct added add, bool normalized, struct err *e)
{
	int32_t have = vocab_find(v, content, strlen(content));

	if (have != -1 && have != id)
		return err_set(e, ERR_CALLER, "id of \"%.60s\" is %lld here "
		    "and %d in model.vocab", content, (long long)id,
		    (int)have);
	if (have == -1 && vocab_add(v, content, (int32_t)id, e) == -1)
		return -1;
	add.id = (int32_t)id;
	if (add.special)
		v->tokens[id].flags |= TOKEN_SPECIAL;
	if (mem_grow(&a->list, &a->cap, a->n + 1, sizeof *a->list, e) == -1)
		return -1;
	a->list[a->n++] = add;
	return trie_add(&a->tries[normalized], content, strlen(content),
	    (uint32_t)a->n, e);
}

static int
load_one(struct added_set *a, struct vocab *v, const struct json *o,
    struct err *e)
{
	const char *content = NULL;
	struct added add = {0};
	bool normalized;
	int64_t id = -1;

	if (json_type(o) != JSON_OBJ)
		return err_set(e, ERR_CALLER, "must be an object");
	if (json_opt_str(o, "content", &content, e) == -1 ||
	    json_opt_i64(o, "id", 0, TOK_ID_MAX, &id, e) == -1 ||
	    json_opt_bool(o, "single_word", &add.single_word, e) == -1 ||
	    json_opt_bool(o, "lstrip", &add.lstrip, e) == -1 ||
	    json_opt_bool(o, "rstrip", &add.rstrip, e) == -1 ||
	    json_opt_bool(o, "special", &add.special, e) == -1)
		return -1;
	normalized = !add.special;
	if (json_opt_bool(o, "normalized", &normalized, e) == -1)
		return -1;
	if (!content || id == -1)
		return err_set(e, ERR_CALLER, "%s is missing",
		    content ? "id" : "content");
	if (!*content || strlen(content) > CONTENT_MAX)
		return err_set(e, ERR_CALLER,
		    "content must be 1 to %d bytes long", CONTENT_MAX);
	if (add.single_word && !a->word && rx_compile(&a->word,
	    "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]", false, e)
	    == -1)
		return -1;
	return add_one(a, v, content, id, add, normalized, e);
}

int
added_load(struct added_set *a, struct vocab *v, const struct json *list,
    struct err *e)
{
	int i = 0;

	if (!list || json_type(list) == JSON_NULL)
		return 0;
	if (json_type(list) != JSON_ARR)
		return err_set(e, ERR_CALLER,
		    "added_tokens must be a list, not %s",
		    json_type_name(json_type(list)));
	for (const struct json *o = json_first(list); o; o = json_next(o), i++)
		if (load_one(a, v, o, e) == -1)
			return err_wrap(e, "added_tokens[%d]", i);
	return 0;
}

void
added_free(struct added_set *a)
{
	free(a->list);
	free(a->tries[0].nodes);
	free(a->tries[1].nodes);
	rx_free(&a->word);
	memset(a, 0, sizeof *a);
}

/* ---- finding ---- */

static bool
is_space(uint32_t c)
{
	return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0 ||
	    c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
	    c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

static size_t
char_before(const char *p, size_t end)
{
	size_t i = end - 1;

	while (i > 0 && ((uint8_t)p[i] & 0xc0) == 0x80)
		i--;
	return i;
}

static size_t
strip_left(const char *p, size_t start)
{
	while (start > 0) {
		size_t i = char_before(p, start);

		if (!is_space(utf8_get(p + i, (int)(start - i))))
			break;
		start = i;
	}
	return start;
}

static size_t
strip_right(const char *p, size_t n, size_t end)
{
	while (end < n) {
		int len = utf8_len(p + end, n - end);

		if (len <= 0 || !is_space(utf8_get(p + end, len)))
			break;
		end += (size_t)len;
	}
	return end;
}

/* 1 if the character at p[i] is part of a word. */
static int
is_word(const struct added_set *a, struct rx_scratch *rs, const char *p,
    size_t n, size_t i, struct err *e)
{
	int len = utf8_len(p + i, n - i);
	size_t s, t;

	return len <= 0 ? 0 :
	    rx_find(a->word, rs, p + i, (size_t)len, 0, &s, &t, e);
}

/* 1 if [start, end) stands alone, 0 if it is part of a word, -1 error. */
static int
alone(const struct added_set *a, struct rx_scratch *rs, const char *p,
    size_t n, size_t start, size_t end, struct err *e)
{
	int w = 0;

	if (start > 0)
		w = is_word(a, rs, p, n, char_before(p, start), e);
	if (w == 0 && end < n)
		w = is_word(a, rs, p, n, end, e);
	return w == -1 ? -1 : !w;
}

/* 1: the token found at [start, end) counts; fills hit. */
static int
accept(const struct added_set *a, const struct added *add,
    const char *text, size_t n, size_t start, size_t end, size_t floor,
    struct rx_scratch *rs, struct added_hit *hit, struct err *e)
{
	if (add->single_word) {
		int ok = alone(a, rs, text, n, start, end, e);

		if (ok != 1)
			return ok;
	}
	*hit = (struct added_hit){start, end, end, add->id};
	if (add->lstrip) {
		hit->start = strip_left(text, start);
		if (hit->start < floor)
			hit->start = floor;
	}
	if (add->rstrip)
		hit->end = strip_right(text, n, end);
	return 1;
}

int
added_next(const struct added_set *a, int which, bool special,
    const char *text, size_t n, size_t from, size_t floor,
    struct rx_scratch *rs, struct added_hit *hit, struct err *e)
{
	const struct trie *t = &a->tries[which];
	size_t len = 0;

	if (t->n == 0)
		return 0;
	for (size_t i = from; i < n; i++) {
		const struct added *add;
		uint32_t found;
		int ok;

		if (!t->first[(uint8_t)text[i]] ||
		    !(found = trie_longest(t, text + i, n - i, &len)))
			continue;
		add = &a->list[found - 1];
		if (special || !add->special) {
			ok = accept(a, add, text, n, i, i + len, floor, rs,
			    hit, e);
			if (ok != 0)
				return ok;
		}
		i += len - 1;		/* not taken, but not searched again */
	}
	return 0;
}
