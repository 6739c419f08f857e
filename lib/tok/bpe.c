/*
 * bpe: merging the bytes of one piece into tokens.
 *
 * The rule: while some neighbours have a merge, join the pair of lowest rank,
 * leftmost first.  Short pieces, nearly all of them, look for it by a scan;
 * long ones (a page of Chinese is one piece) keep a heap, so that a megabyte
 * without a space costs n log n.  Both give the same ids.
 */
#include <stdlib.h>
#include <string.h>

#include "tok/tok_priv.h"

enum { SHORT = 48 };

static uint32_t
rank_of(const struct vocab *v, int32_t left, int32_t right, int32_t *id)
{
	const struct merge *m = merges_get(v, (uint32_t)left, (uint32_t)right);

	*id = m ? m->id : -1;
	return m ? m->rank : UINT32_MAX;
}

/* id[i] and id[i + 1] have rank[i] and become to[i]. */
static size_t
merge_short(const struct vocab *v, int32_t *id, size_t n)
{
	uint32_t rank[SHORT];
	int32_t to[SHORT];

	for (size_t i = 0; i + 1 < n; i++)
		rank[i] = rank_of(v, id[i], id[i + 1], &to[i]);
	while (n > 1) {
		size_t best = 0;

		for (size_t i = 1; i + 1 < n; i++)
			if (rank[i] < rank[best])
				best = i;
		if (rank[best] == UINT32_MAX)
			break;
		id[best] = to[best];
		n--;
		for (size_t i = best + 1; i < n; i++)
			id[i] = id[i + 1];
		for (size_t i = best + 1; i + 1 < n; i++) {
			rank[i] = rank[i + 1];
			to[i] = to[i + 1];
		}
		if (best + 1 < n)
			rank[best] = rank_of(v, id[best], id[best + 1],
			    &to[best]);
		if (best > 0)
			rank[best - 1] = rank_of(v, id[best - 1], id[best],
			    &to[best - 1]);
	}
	return n;
}

static void
sift_down(struct bpe_scratch *s, size_t i)
{
	struct heap_item x = s->heap[i];

	for (;;) {
		size_t c = 2 * i + 1;

		if (c >= s->nheap)
			break;
		if (c + 1 < s->nheap && s->heap[c + 1].key < s->heap[c].key)
			c++;
		if (x.key <= s->heap[c].key)
			break;
		s->heap[i] = s->heap[c];
		i = c;
	}
	s->heap[i] = x;
}

static struct heap_item
heap_pop(struct bpe_scratch *s)
{
	struct heap_item top = s->heap[0];

	s->heap[0] = s->heap[--s->nheap];
	if (s->nheap)
		sift_down(s, 0);
	return top;
}

static int
heap_push(struct bpe_scratch *s, struct heap_item x, struct err *e)
{
	size_t i = s->nheap;

	if (mem_grow(&s->heap, &s->heap_cap, i + 1, sizeof *s->heap, e) == -1)
		return -1;
	for (s->nheap++; i && x.key < s->heap[(i - 1) / 2].key; i = (i - 1) / 2)
		s->heap[i] = s->heap[(i - 1) / 2];
	s->heap[i] = x;
	return 0;
}

/* Looks up what symbol i makes with its right neighbour now. */
static int
pair_up(const struct vocab *v, struct bpe_scratch *s, int32_t i, bool push,
    struct err *e)
{
	struct sym *a = &s->syms[i];
	struct heap_item x;
	uint32_t rank;

	a->merged = -1;
	if (a->next == -1)
		return 0;
	rank = rank_of(v, a->id, s->syms[a->next].id, &a->merged);
	if (a->merged == -1)
		return 0;
	x = (struct heap_item){(uint64_t)rank << 32 | (uint32_t)i, a->merged};
	if (push)
		return heap_push(s, x, e);
	s->heap[s->nheap++] = x;
	return 0;
}

static int
start_long(const struct vocab *v, struct bpe_scratch *s, const char *p,
    size_t n, struct err *e)
{
	if (mem_grow(&s->syms, &s->sym_cap, n, sizeof *s->syms, e) == -1 ||
	    mem_grow(&s->heap, &s->heap_cap, n, sizeof *s->heap, e) == -1)
		return -1;
	s->nheap = 0;
	for (size_t i = 0; i < n; i++)
		s->syms[i] = (struct sym){v->byte_id[(uint8_t)p[i]],
		    (int32_t)i - 1, i + 1 < n ? (int32_t)i + 1 : -1, -1};
	for (size_t i = 0; i < n; i++)
		pair_up(v, s, (int32_t)i, false, NULL);
	for (size_t i = s->nheap / 2; i-- > 0;)
		sift_down(s, i);
	return 0;
}

static int
merge_long(const struct vocab *v, struct bpe_scratch *s, const char *p,
    size_t n, struct ids *out, struct err *e)
{
	if (start_long(v, s, p, n, e) == -1)
		return -1;
	while (s->nheap) {
		struct heap_item top = heap_pop(s);
		int32_t i = (int32_t)(uint32_t)top.key;
		struct sym *a = &s->syms[i], *b;

		if (a->merged != top.id)
			continue;	/* out of date */
		b = &s->syms[a->next];
		a->id = top.id;
		a->next = b->next;
		b->merged = -1;
		if (a->next != -1)
			s->syms[a->next].prev = i;
		if (pair_up(v, s, i, true, e) == -1)
			return -1;
		if (a->prev != -1 && pair_up(v, s, a->prev, true, e) == -1)
			return -1;
	}
	for (int32_t i = 0; i != -1; i = s->syms[i].next)
		if (ids_put(out, s->syms[i].id, e) == -1)
			return -1;
	return 0;
}

/* The token whose bytes are exactly p[0..n), or -1. */
static int32_t
find_raw(const struct vocab *v, const char *p, size_t n)
{
	struct buf name = {0};
	int32_t id = -1;

	for (size_t i = 0; i < n; i++) {
		char c[4];
		int len = utf8_put(bytes_to_char((uint8_t)p[i]), c);

		buf_put(&name, c, (size_t)len);
	}
	if (!name.oom && name.p)
		id = vocab_find(v, name.p, name.n);
	buf_free(&name);
	return id;
}

int
bpe_piece(const struct vocab *v, bool whole, struct bpe_scratch *s,
    const char *p, size_t n, struct ids *out, struct err *e)
{
	int32_t id[SHORT], one;

	if (whole && (one = find_raw(v, p, n)) != -1)
		return ids_put(out, one, e);
	if (n > SHORT)
		return merge_long(v, s, p, n, out, e);
	for (size_t i = 0; i < n; i++)
		id[i] = v->byte_id[(uint8_t)p[i]];
	n = merge_short(v, id, n);
	for (size_t i = 0; i < n; i++)
		if (ids_put(out, id[i], e) == -1)
			return -1;
	return 0;
}

void
bpe_scratch_free(struct bpe_scratch *s)
{
	free(s->syms);
	free(s->heap);
	memset(s, 0, sizeof *s);
}
