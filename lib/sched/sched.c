/*
 * sched: the plan of a step.
 *
 * Why it always gets on: of the running sequences the one that comes first by
 * (priority, arrival) is never preempted, gets at least one row in every step
 * (no more are admitted than the budget has rows) and may take the blocks of
 * all others; so it ends.  A waiting one is admitted when all its tokens so
 * far have room, which is so at the latest when nobody runs, or it is
 * reported as stuck.
 *
 * Asking for room for all tokens, not for the next chunk only, keeps a long
 * prompt from being admitted, thrown out half-way and admitted again while
 * others decode.  Only the last admitted sequence can be inside its prompt: it
 * stays so by using up the budget, and then nobody is admitted after it.
 */
#include <stdlib.h>
#include <string.h>

#include "sched/sched_priv.h"

enum { WATERMARK = 100 };		/* one block in so many stays free */

/* ---- life ---- */

int
sched_open(struct sched **out, const struct sched_opts *o, struct kv *kv,
    struct err *e)
{
	struct sched *s;

	*out = NULL;
	if (!o->max_seqs || !o->max_tokens || !o->max_len)
		return err_set(e, ERR_CALLER, "sequences, tokens a step and "
		    "length must be at least 1, not %zu, %zu and %zu",
		    o->max_seqs, o->max_tokens, o->max_len);
	s = mem_new(1, sizeof(*s), e);
	if (!s)
		return -1;
	s->o = *o;
	s->kv = kv;
	s->block_size = kv_block_size(kv);
	*out = s;
	return 0;
}

void
sched_close(struct sched **s)
{
	if (!*s)
		return;
	for (size_t i = 0; i < (*s)->ntable; i++) {
		while ((*s)->table[i])
			sched_remove(*s, (*s)->table[i]->id);
	}
	free((*s)->table);
	free((*s)->heap);
	free((*s)->run);
	free((*s)->part);
	free(*s);
	*s = NULL;
}

int
sched_add(struct sched *s, uint64_t id, const int32_t *ids, size_t n,
    size_t nprompt, int64_t priority, uint64_t salt, bool no_cache_read,
    void *user, struct err *e)
{
	struct sched_seq *q;

	if (!n || nprompt > n)
		return err_set(e, ERR_CALLER, "a sequence has at least 1 token "
		    "and no more prompt than tokens, not %zu of %zu", nprompt,
		    n);
	if (n > s->o.max_len)
		return err_set(e, ERR_CALLER, "a sequence of %zu tokens is "
		    "longer than the limit of %zu", n, s->o.max_len);
	if (seq_find(s, id))
		return err_set(e, ERR_CALLER,
		    "sequence %llu is there already", (unsigned long long)id);
	q = seq_new(s, id, ids, n, e);
	if (!q)
		return err_wrap(e, "sequence %llu", (unsigned long long)id);
	q->nprompt = nprompt;
	q->priority = priority;
	q->arrival = s->arrivals++;
	q->salt = salt;
	q->no_cache_read = no_cache_read;
	q->user = user;
	wait_push(s, q);
	return 0;
}

/* ---- blocks ---- */

static size_t
blocks_for(const struct sched *s, size_t ntoken)
{
	return ntoken / s->block_size + (ntoken % s->block_size != 0);
}

/* Tail first, so that it is also evicted first. */
static void
drop_blocks(struct sched *s, struct sched_seq *q)
{
	while (q->nblock)
		kv_unref(s->kv, q->block[--q->nblock]);
	q->npub = q->done = q->planned = q->ncached = 0;
}

/* Up to n blocks in all; they must be free. */
static int
take_blocks(struct sched *s, struct sched_seq *q, size_t n, struct err *e)
{
	if (mem_grow(&q->block, &q->capblock, n, sizeof(*q->block), e) == -1)
		return -1;
	while (q->nblock < n)
		q->block[q->nblock++] = kv_alloc(s->kv);
	return 0;
}

/* The keys of its first n blocks, which are full. */
static int
make_keys(struct sched *s, struct sched_seq *q, size_t n, struct err *e)
{
	if (n && mem_grow(&q->key, &q->capkey, n, sizeof(*q->key), e) == -1)
		return -1;
	for (; q->nkey < n; q->nkey++) {
		size_t pos = q->nkey * s->block_size;

		kv_key(&q->key[q->nkey], q->nkey ? &q->key[q->nkey - 1] : NULL,
		    q->salt, q->ids + pos, s->block_size, pos, q->nprompt);
	}
	return 0;
}

/* Holds what the prefix cache has of q.  The last token is always computed:
 * its row gives the next one. */
static int
find_prefix(struct sched *s, struct sched_seq *q, struct err *e)
{
	size_t n = (q->n - 1) / s->block_size;

	if (!s->o.prefix_caching || q->no_cache_read)
		return 0;
	if (make_keys(s, q, n, e) == -1 || (n && mem_grow(&q->block,
	    &q->capblock, n, sizeof(*q->block), e) == -1))
		return -1;
	while (q->nblock < n) {
		uint32_t b = kv_find(s->kv, &q->key[q->nblock]);

		if (b == KV_NONE)
			break;
		q->block[q->nblock++] = b;
	}
	q->npub = q->nblock;
	q->done = q->ncached = q->nblock * s->block_size;
	return 0;
}

/* Publishes the blocks that are full and computed.  No memory for a key only
 * means that nobody will find it. */
static void
publish(struct sched *s, struct sched_seq *q)
{
	size_t n = q->done / s->block_size;

	if (!s->o.prefix_caching || q->npub == n ||
	    make_keys(s, q, n, NULL) == -1)
		return;
	for (; q->npub < n; q->npub++)
		kv_publish(s->kv, q->block[q->npub], &q->key[q->npub]);
}

/* ---- running ---- */

static void
run_remove(struct sched *s, size_t i)
{
	memmove(s->run + i, s->run + i + 1,
	    (s->nrun - i - 1) * sizeof(struct sched_seq *));
	s->nrun--;
}

static size_t
run_index(const struct sched *s, const struct sched_seq *q)
{
	size_t i = 0;

	while (s->run[i] != q)
		i++;
	return i;
}

/* In an earlier plan that is not done. */
static bool
busy(const struct sched *s, const struct sched_seq *q)
{
	return q->planned && q->plan <= s->nplan;
}

/* The one to preempt first; nrun: all are in earlier plans. */
static size_t
run_last(const struct sched *s)
{
	size_t last = s->nrun;

	for (size_t i = 0; i < s->nrun; i++) {
		if (!busy(s, s->run[i]) && (last == s->nrun ||
		    seq_before(s->run[last], s->run[i])))
			last = i;
	}
	return last;
}

/* Returns the rows that it had in the plan. */
static size_t
preempt(struct sched *s, size_t i)
{
	struct sched_seq *q = s->run[i];
	size_t rows = q->planned;

	s->share += rows > 0;
	drop_blocks(s, q);
	run_remove(s, i);
	q->running = false;
	wait_push(s, q);
	s->preemptions++;
	return rows;
}

static void
plan_seq(struct sched *s, struct sched_seq *q, size_t rows, size_t *budget)
{
	q->planned = rows;
	q->plan = s->nplan + 1;
	*budget -= rows;
	s->share--;
}

static size_t
next_rows(const struct sched_seq *q, size_t budget)
{
	size_t left = q->n - q->done;

	return left < budget ? left : budget;
}

static int
set_stuck(const struct sched *s, const struct sched_seq *q, uint64_t *stuck,
    struct err *e)
{
	*stuck = q->id;
	return err_set(e, ERR_CALLER, "sequence %llu: %zu tokens need %zu KV "
	    "blocks, and there are %zu", (unsigned long long)q->id, q->n,
	    blocks_for(s, q->n), kv_blocks(s->kv));
}

static size_t
nbusy(const struct sched *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->nrun; i++)
		n += busy(s, s->run[i]);
	return n;
}

/* Frees blocks until run[*i], which is not busy, can have need more.  1: it
 * can; 0: it was preempted itself; -1: it is alone and can't. */
static int
make_space(struct sched *s, size_t *i, size_t need, size_t *budget,
    uint64_t *stuck, struct err *e)
{
	while (kv_free_blocks(s->kv) < need) {
		size_t last = run_last(s);

		if (last == *i && nbusy(s))
			return 2;
		if (s->nrun == 1)
			return set_stuck(s, s->run[*i], stuck, e);
		*budget += preempt(s, last);
		if (last == *i)
			return 0;
		*i -= last < *i;
	}
	return 1;
}

static int
plan_running(struct sched *s, size_t *budget, uint64_t *stuck, struct err *e)
{
	for (size_t i = 0; i < s->nrun && s->share;) {
		struct sched_seq *q = s->run[i];
		size_t rows = next_rows(q, *budget);
		size_t want = blocks_for(s, q->done + rows);
		int r = 1;

		if (busy(s, q) || !rows) {
			i++;
			continue;
		}
		if (want > q->nblock)
			r = make_space(s, &i, want - q->nblock, budget, stuck,
			    e);
		if (r == -1)
			return -1;
		if (r != 1) {
			i += r == 2;	/* after 0, i is the next one now */
			continue;
		}
		if (want > q->nblock && take_blocks(s, q, want, e) == -1)
			return -1;
		plan_seq(s, q, rows, budget);
		i++;
	}
	return 0;
}

/* ---- admission ---- */

/* Whether all of q's tokens have room.  It holds what was found of it. */
static bool
has_room(const struct sched *s, const struct sched_seq *q)
{
	size_t need = blocks_for(s, q->n) - q->nblock;

	if (s->nrun)
		need += kv_blocks(s->kv) / WATERMARK + 1;
	return need <= kv_free_blocks(s->kv);
}

/* The first of the queue.  1: admitted, 0: it has to wait. */
static int
admit(struct sched *s, size_t *budget, uint64_t *stuck, struct err *e)
{
	struct sched_seq *q = s->heap[0];
	size_t rows;

	if (blocks_for(s, q->n) > kv_blocks(s->kv))
		return set_stuck(s, q, stuck, e);
	if (mem_grow(&s->run, &s->caprun, s->nrun + 1,
	    sizeof(struct sched_seq *), e) == -1)
		return -1;
	if (find_prefix(s, q, e) == -1)
		return -1;
	if (!has_room(s, q)) {
		drop_blocks(s, q);
		return 0;
	}
	rows = next_rows(q, *budget);
	if (take_blocks(s, q, blocks_for(s, q->done + rows), e) == -1) {
		drop_blocks(s, q);
		return -1;
	}
	plan_seq(s, q, rows, budget);
	q->running = q->first = true;
	wait_remove(s, q);
	s->run[s->nrun++] = q;
	return 1;
}

static int
plan_waiting(struct sched *s, size_t *budget, uint64_t *stuck, struct err *e)
{
	int r = 1;

	while (r == 1 && s->nwait && *budget && s->share &&
	    s->nrun < s->o.max_seqs)
		r = admit(s, budget, stuck, e);
	return r == -1 ? -1 : 0;
}

/* ---- the plan ---- */

static void
fill_part(struct sched_part *p, const struct sched_seq *q)
{
	*p = (struct sched_part){
		.id = q->id,
		.user = q->user,
		.ids = q->ids,
		.len = q->n,
		.nprompt = q->nprompt,
		.pos = q->done,
		.n = q->planned,
		.block = q->block,
		.nblock = q->nblock,
		.ncached = q->ncached,
		.first = q->first,
		.sample = q->done + q->planned == q->n,
	};
}

/* Forgets what a failed call planned, and with a depth of 1 the last plan. */
static void
start_plan(struct sched *s)
{
	size_t depth = s->o.depth ? s->o.depth : 1;
	size_t all = s->nrun + s->nwait;

	if (depth == 1)
		s->ndone = s->nplan;
	for (size_t i = 0; i < s->nrun; i++) {
		if (depth == 1 || s->run[i]->plan > s->nplan)
			s->run[i]->planned = 0;
	}
	s->share = depth == 1 ? SIZE_MAX : (all + depth - 1) / depth;
}

int
sched_plan(struct sched *s, const struct sched_part **parts, size_t *np,
    uint64_t *stuck, struct err *e)
{
	size_t budget = s->o.max_tokens;
	uint64_t before = s->preemptions;

	*np = 0;
	*parts = NULL;
	*stuck = 0;
	start_plan(s);
	if (plan_running(s, &budget, stuck, e) == -1)
		return -1;
	/* Who was just thrown out would come straight back. */
	if (s->preemptions == before &&
	    plan_waiting(s, &budget, stuck, e) == -1)
		return -1;
	if (s->nrun && mem_grow(&s->part, &s->cappart, s->nrun,
	    sizeof(*s->part), e) == -1)
		return -1;
	for (size_t i = 0; i < s->nrun; i++) {
		if (s->run[i]->planned && !busy(s, s->run[i]))
			fill_part(&s->part[(*np)++], s->run[i]);
	}
	s->nplan += *np > 0;
	*parts = s->part;
	return 0;
}

void
sched_done(struct sched *s)
{
	if (s->ndone == s->nplan)
		return;
	s->ndone++;
	for (size_t i = 0; i < s->nrun; i++) {
		struct sched_seq *q = s->run[i];

		if (!q->planned || q->plan != s->ndone)
			continue;
		q->done += q->planned;
		q->planned = 0;
		q->first = false;
		publish(s, q);
	}
}

bool
sched_busy(const struct sched *s, uint64_t id)
{
	const struct sched_seq *q = seq_find(s, id);

	return q && busy(s, q);
}

int
sched_token(struct sched *s, uint64_t id, int32_t token, struct err *e)
{
	struct sched_seq *q = seq_find(s, id);

	if (!q)
		return err_set(e, ERR_CALLER, "there is no sequence %llu",
		    (unsigned long long)id);
	if (mem_grow(&q->ids, &q->cap, q->n + 1, sizeof(*q->ids), e) == -1)
		return -1;
	q->ids[q->n++] = token;
	return 0;
}

void
sched_remove(struct sched *s, uint64_t id)
{
	struct sched_seq *q = seq_find(s, id);

	if (!q)
		return;
	drop_blocks(s, q);
	if (q->running)
		run_remove(s, run_index(s, q));
	else
		wait_remove(s, q);
	seq_free(s, q);
}

/* ---- getters ---- */

void *
sched_user(const struct sched *s, uint64_t id)
{
	const struct sched_seq *q = seq_find(s, id);

	return q ? q->user : NULL;
}

void *
sched_any(const struct sched *s)
{
	if (s->nrun)
		return s->run[0]->user;
	return s->nwait ? s->heap[0]->user : NULL;
}

const int32_t *
sched_ids(const struct sched *s, uint64_t id, size_t *n)
{
	const struct sched_seq *q = seq_find(s, id);

	*n = q ? q->n : 0;
	return q ? q->ids : NULL;
}

size_t
sched_running(const struct sched *s)
{
	return s->nrun;
}

size_t
sched_waiting(const struct sched *s)
{
	return s->nwait;
}

uint64_t
sched_preemptions(const struct sched *s)
{
	return s->preemptions;
}
