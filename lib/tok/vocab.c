/*
 * vocab: names, bytes and merges, in open-addressed hash tables.
 *
 * Merges are keyed by the pair of ids, not by text: that one look-up is what
 * encoding spends its time on once a word isn't in the cache.
 */
#include <stdlib.h>
#include <string.h>

#include "tok/tok_priv.h"

enum { NAME_SHOWN = 60 };		/* bytes of a name in an error */

uint64_t
tok_hash(const char *p, size_t n)
{
	const uint64_t k = 0x9e3779b97f4a7c15u;
	uint64_t h = n * k, w;

	for (; n >= 8; p += 8, n -= 8) {
		memcpy(&w, p, 8);
		h = (h ^ w) * k;
		h ^= h >> 29;
	}
	if (n) {
		w = 0;
		memcpy(&w, p, n);
		h = (h ^ w) * k;
	}
	h ^= h >> 32;
	h *= k;
	return h ^ h >> 29;
}

static size_t
table_size(size_t room)
{
	size_t n = 64;

	while (n / 2 < room)
		n *= 2;
	return n;
}

int
vocab_init(struct vocab *v, size_t room, struct err *e)
{
	v->nslots = table_size(room);
	v->slots = mem_new(v->nslots, sizeof *v->slots, e);
	buf_putc(&v->names, '\0');	/* so that p is never NULL */
	return v->slots ? buf_ok(&v->names, e) : -1;
}

void
vocab_free(struct vocab *v)
{
	free(v->tokens);
	free(v->slots);
	free(v->merges);
	buf_free(&v->names);
	buf_free(&v->raws);
	memset(v, 0, sizeof *v);
}

static uint32_t *
slot_of(const struct vocab *v, const char *name, size_t n)
{
	size_t i = tok_hash(name, n) & (v->nslots - 1);

	for (;; i = (i + 1) & (v->nslots - 1)) {
		const struct token *t;

		if (!v->slots[i])
			return &v->slots[i];
		t = &v->tokens[v->slots[i] - 1];
		if (t->nname == n && !memcmp(v->names.p + t->name, name, n))
			return &v->slots[i];
	}
}

int32_t
vocab_find(const struct vocab *v, const char *name, size_t n)
{
	uint32_t s = *slot_of(v, name, n);

	return s ? (int32_t)s - 1 : -1;
}

/* A token with a character outside the alphabet stands for its own text. */
static int
put_raw(struct vocab *v, struct token *t, const char *name, size_t n,
    struct err *e)
{
	size_t i = 0;

	t->raw = (uint32_t)v->raws.n;
	while (i < n) {
		int len = utf8_len(name + i, n - i);
		int b = len > 0 ? bytes_of_char(utf8_get(name + i, len)) : -1;

		if (b == -1)
			break;
		buf_putc(&v->raws, (char)b);
		i += (size_t)len;
	}
	if (i < n) {
		v->raws.n = t->raw;
		buf_put(&v->raws, name, n);
	}
	t->nraw = (uint32_t)v->raws.n - t->raw;
	return buf_ok(&v->raws, e);
}

static int
grow_tokens(struct vocab *v, size_t n, struct err *e)
{
	if (n <= v->ntokens)
		return 0;
	if (mem_grow(&v->tokens, &v->cap, n, sizeof *v->tokens, e) == -1)
		return -1;
	memset(v->tokens + v->ntokens, 0,
	    (n - v->ntokens) * sizeof *v->tokens);
	v->ntokens = n;
	return 0;
}

int
vocab_add(struct vocab *v, const char *name, int32_t id, struct err *e)
{
	size_t n = strlen(name);
	uint32_t *slot = slot_of(v, name, n);
	struct token *t;

	if (*slot)
		return err_set(e, ERR_CALLER, "the token \"%.*s\" stands twice",
		    NAME_SHOWN, name);
	if (grow_tokens(v, (size_t)id + 1, e) == -1)
		return -1;
	t = &v->tokens[id];
	if (t->flags & TOKEN_USED)
		return err_set(e, ERR_CALLER,
		    "id %d belongs to \"%.*s\" and to \"%.*s\"", (int)id,
		    (int)(t->nname < NAME_SHOWN ? t->nname : NAME_SHOWN),
		    v->names.p + t->name, NAME_SHOWN, name);
	t->name = (uint32_t)v->names.n;
	t->nname = (uint32_t)n;
	t->flags = TOKEN_USED;
	buf_put(&v->names, name, n);
	if (buf_ok(&v->names, e) == -1 || put_raw(v, t, name, n, e) == -1)
		return -1;
	*slot = (uint32_t)id + 1;
	return 0;
}

int
vocab_bytes(struct vocab *v, struct err *e)
{
	for (unsigned b = 0; b < 256; b++) {
		char c[4];
		int n = utf8_put(bytes_to_char((uint8_t)b), c);

		v->byte_id[b] = vocab_find(v, c, (size_t)n);
		/* C0, C1 and F5..FF never stand in UTF-8. */
		if (v->byte_id[b] == -1 && b != 0xc0 && b != 0xc1 && b < 0xf5)
			return err_set(e, ERR_CALLER,
			    "model.vocab: no token for the byte 0x%02x: "
			    "not a byte-level vocabulary", b);
	}
	return 0;
}

int
merges_init(struct vocab *v, size_t room, struct err *e)
{
	v->nmerges = table_size(room);
	v->merges = mem_new(v->nmerges, sizeof *v->merges, e);
	if (!v->merges)
		return -1;
	for (size_t i = 0; i < v->nmerges; i++)
		v->merges[i].left = UINT32_MAX;
	return 0;
}

static size_t
merge_slot(const struct vocab *v, uint32_t left, uint32_t right)
{
	uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
	size_t i = (h ^ h >> 32) & (v->nmerges - 1);

	while (v->merges[i].left != UINT32_MAX &&
	    (v->merges[i].left != left || v->merges[i].right != right))
		i = (i + 1) & (v->nmerges - 1);
	return i;
}

const struct merge *
merges_get(const struct vocab *v, uint32_t left, uint32_t right)
{
	const struct merge *m = &v->merges[merge_slot(v, left, right)];

	return m->left == UINT32_MAX ? NULL : m;
}

int
merges_add(struct vocab *v, const char *left, size_t nleft, const char *right,
    size_t nright, uint32_t rank, struct err *e)
{
	int32_t l = vocab_find(v, left, nleft);
	int32_t r = vocab_find(v, right, nright);
	struct buf both = {0};
	struct merge *m;
	int32_t id;

	if (l == -1 || r == -1)
		return err_set(e, ERR_CALLER,
		    "\"%.*s\" is not in model.vocab",
		    (int)((l == -1 ? nleft : nright) < NAME_SHOWN ?
		    (l == -1 ? nleft : nright) : NAME_SHOWN),
		    l == -1 ? left : right);
	buf_put(&both, left, nleft);
	buf_put(&both, right, nright);
	if (buf_ok(&both, e) == -1) {
		buf_free(&both);
		return -1;
	}
	id = vocab_find(v, both.p, both.n);
	if (id == -1)
		err_set(e, ERR_CALLER, "\"%.*s\", what \"%.*s\" and \"%.*s\" "
		    "become, is not in model.vocab",
		    (int)(both.n < NAME_SHOWN ? both.n : NAME_SHOWN), both.p,
		    (int)(nleft < NAME_SHOWN ? nleft : NAME_SHOWN), left,
		    (int)(nright < NAME_SHOWN ? nright : NAME_SHOWN), right);
	buf_free(&both);
	if (id == -1)
		return -1;
	m = &v->merges[merge_slot(v, (uint32_t)l, (uint32_t)r)];
	*m = (struct merge){(uint32_t)l, (uint32_t)r, rank, id};
	return 0;
}
