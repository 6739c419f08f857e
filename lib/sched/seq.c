/*
 * seq: the table of sequences and the queue of those that wait.
 *
 * The queue is a binary heap whose entries know their place, so that one can
 * be taken out of the middle.  It has room for every sequence there is: a
 * preemption, which can't be put off, needs no memory.
 */
#include <stdlib.h>
#include <string.h>

#include "sched/sched_priv.h"

enum { FIRST_TABLE = 64 };		/* a power of two */

/* ---- the table ---- */

static size_t
home(const struct sched *s, uint64_t id)
{
	/* Fibonacci hashing (Knuth, TAOCP 3, 6.4): the upper bits count. */
	return (id * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (s->ntable - 1);
}

static size_t
place(const struct sched *s, uint64_t id)
{
	size_t i = home(s, id);

	while (s->table[i] && s->table[i]->id != id)
		i = (i + 1) & (s->ntable - 1);
	return i;
}

struct sched_seq *
seq_find(const struct sched *s, uint64_t id)
{
	return s->ntable ? s->table[place(s, id)] : NULL;
}

/* Keeps the table at most half full. */
static int
table_room(struct sched *s, struct err *e)
{
	struct sched_seq **old = s->table, **t;
	size_t nold = s->ntable, n = nold ? 2 * nold : FIRST_TABLE;

	if (2 * (s->nseq + 1) <= nold)
		return 0;
	t = mem_new(n, sizeof(struct sched_seq *), e);
	if (!t)
		return -1;
	s->table = t;
	s->ntable = n;
	for (size_t i = 0; i < nold; i++) {
		if (old[i])
			s->table[place(s, old[i]->id)] = old[i];
	}
	free(old);
	return 0;
}

/* Takes place i out and moves up those behind it that would not be found any
 * more. */
static void
table_drop(struct sched *s, size_t i)
{
	size_t mask = s->ntable - 1, j = i;

	for (;;) {
		j = (j + 1) & mask;
		if (!s->table[j])
			break;
		if (((j - home(s, s->table[j]->id)) & mask) <
		    ((j - i) & mask))
			continue;
		s->table[i] = s->table[j];
		i = j;
	}
	s->table[i] = NULL;
}

struct sched_seq *
seq_new(struct sched *s, uint64_t id, const int32_t *ids, size_t n,
    struct err *e)
{
	struct sched_seq *q;

	if (table_room(s, e) == -1 || mem_grow(&s->heap, &s->capheap,
	    s->nseq + 1, sizeof(struct sched_seq *), e) == -1)
		return NULL;
	q = mem_new(1, sizeof(*q), e);
	if (!q)
		return NULL;
	/* One more: the first token that it makes. */
	if (mem_grow(&q->ids, &q->cap, n + 1, sizeof(*ids), e) == -1) {
		free(q);
		return NULL;
	}
	memcpy(q->ids, ids, n * sizeof(*ids));
	q->id = id;
	q->n = n;
	s->table[place(s, id)] = q;
	s->nseq++;
	return q;
}

void
seq_free(struct sched *s, struct sched_seq *q)
{
	table_drop(s, place(s, q->id));
	s->nseq--;
	free(q->ids);
	free(q->block);
	free(q->key);
	free(q);
}

/* ---- the queue ---- */

bool
seq_before(const struct sched_seq *a, const struct sched_seq *b)
{
	if (a->priority != b->priority)
		return a->priority < b->priority;
	return a->arrival < b->arrival;
}

static void
put(struct sched *s, size_t i, struct sched_seq *q)
{
	s->heap[i] = q;
	q->at = i;
}

static void
sift_up(struct sched *s, size_t i)
{
	struct sched_seq *q = s->heap[i];

	for (; i && seq_before(q, s->heap[(i - 1) / 2]); i = (i - 1) / 2)
		put(s, i, s->heap[(i - 1) / 2]);
	put(s, i, q);
}

static void
sift_down(struct sched *s, size_t i)
{
	struct sched_seq *q = s->heap[i];
	size_t kid;

	while ((kid = 2 * i + 1) < s->nwait) {
		if (kid + 1 < s->nwait &&
		    seq_before(s->heap[kid + 1], s->heap[kid]))
			kid++;
		if (!seq_before(s->heap[kid], q))
			break;
		put(s, i, s->heap[kid]);
		i = kid;
	}
	put(s, i, q);
}

void
wait_push(struct sched *s, struct sched_seq *q)
{
	put(s, s->nwait++, q);
	sift_up(s, q->at);
}

void
wait_remove(struct sched *s, struct sched_seq *q)
{
	size_t i = q->at;

	if (i == --s->nwait)
		return;
	put(s, i, s->heap[s->nwait]);
	sift_up(s, i);
	sift_down(s, s->heap[i]->at);
}
