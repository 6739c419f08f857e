/*
 * sched: what the next step computes.  Knows tokens, sequences and KV blocks;
 * knows nothing of tensors.
 *
 * Each step has a budget of max_tokens rows.  Running sequences come first (one
 * row for each that decodes, the next chunk for one that is still in its
 * prompt), then waiting ones by priority and arrival; the first that has no
 * room for all its tokens ends admission.  When blocks run out the running
 * sequence that is last by priority and arrival is preempted: its blocks go
 * back, and it waits with all its tokens, in its old place before those that
 * came after it, to be recomputed.
 *
 * Where a step passes through several stages (pipeline parallelism), as many
 * plans may be under way.  A sequence is in one of them at most, so each takes
 * its share of the sequences, and none is preempted while it is in one.
 */
#ifndef DSI_SCHED_H
#define DSI_SCHED_H

#include "kv/kv.h"

struct sched;
struct sched_seq;			/* opaque to others; see getters */

struct sched_opts {
	size_t max_seqs;		/* running at once */
	size_t max_tokens;		/* rows a step */
	size_t max_len;			/* tokens of one sequence */
	size_t depth;			/* plans under way; 0 means 1 */
	bool prefix_caching;
};

/* One sequence's part of a step: rows for tokens [pos, pos+n) */
struct sched_part {
	uint64_t id;
	void *user;
	const int32_t *ids;		/* of the whole sequence so far */
	size_t len;			/* tokens it has */
	size_t nprompt;			/* of which prompt */
	size_t pos, n;			/* rows to compute */
	const uint32_t *block;	/* KV blocks of the sequence, in order */
	size_t nblock;
	size_t ncached;			/* tokens found in the prefix cache when
					 * it was (re)admitted: where its first
					 * part began */
	bool first;			/* since it was (re)admitted */
	bool sample;			/* pos + n == len: its last row gives a
					 * token */
};

/* kv is borrowed. */
int sched_open(struct sched **s, const struct sched_opts *o, struct kv *kv,
    struct err *e);
void sched_close(struct sched **s);
/* Queues a sequence of n >= 1 tokens, copied; nprompt <= n of them prompt. */
int sched_add(struct sched *s, uint64_t id, const int32_t *ids, size_t n,
    size_t nprompt, int64_t priority, uint64_t salt, bool no_cache_read,
    void *user, struct err *e);
/* Plans a step: *np parts in the order of admission, valid until the next
 * sched_plan; what they point to is the sequences' and lives until a token is
 * added to them or they are removed.  0 parts: nothing to do, or nothing
 * before the plans under way are done.  With a depth of 1 a plan that was not
 * done is forgotten.  -1: one sequence can't have the blocks it needs even
 * alone (its id in *stuck; remove it and plan again), or no memory (*stuck is
 * 0). */
int sched_plan(struct sched *s, const struct sched_part **parts, size_t *np,
    uint64_t *stuck, struct err *e);
/* After a step: the rows of the oldest plan that is not done are in the cache.
 * A sequence that was removed meanwhile is passed over. */
void sched_done(struct sched *s);
/* It is in a plan that is not done. */
bool sched_busy(const struct sched *s, uint64_t id);
/* The token that sequence id got. */
int sched_token(struct sched *s, uint64_t id, int32_t token, struct err *e);
/* It is over (or was aborted): blocks go back. */
void sched_remove(struct sched *s, uint64_t id);
void *sched_user(const struct sched *s, uint64_t id);	/* NULL: unknown */
/* The user pointer of any one sequence; NULL: there is none. */
void *sched_any(const struct sched *s);
/* Its tokens; NULL: unknown. */
const int32_t *sched_ids(const struct sched *s, uint64_t id, size_t *n);
size_t sched_running(const struct sched *s);
size_t sched_waiting(const struct sched *s);
uint64_t sched_preemptions(const struct sched *s);

#endif
