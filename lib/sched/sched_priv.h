/*
 * sched_priv: what the files of sched share: the sequences and where they
 * stand.
 */
#ifndef DSI_SCHED_PRIV_H
#define DSI_SCHED_PRIV_H

#include "sched/sched.h"

struct sched_seq {
	uint64_t id;
	void *user;
	int32_t *ids;
	size_t n, cap, nprompt;
	int64_t priority;		/* lower runs first */
	uint64_t arrival;		/* breaks ties */
	uint64_t salt;
	bool no_cache_read;

	bool running;
	size_t at;			/* in the heap, while waiting */
	size_t done;			/* tokens whose rows are in the cache */
	size_t planned;			/* rows in a plan that is not done */
	uint64_t plan;			/* which */
	size_t ncached;			/* done when it was admitted */
	bool first;			/* no part of it was done since */
	uint32_t *block;
	size_t nblock, capblock;
	size_t npub;			/* blocks published or found */
	struct kv_key *key;		/* of full blocks; tokens stay, so */
	size_t nkey, capkey;		/* they outlive a preemption */
};

struct sched {
	struct sched_opts o;
	struct kv *kv;
	size_t block_size;

	struct sched_seq **table;	/* by id, open addressing */
	size_t ntable, nseq;		/* a power of two; sequences in it */
	struct sched_seq **heap;	/* waiting, the next one on top */
	size_t nwait, capheap;		/* room for all sequences, always */
	struct sched_seq **run;		/* in the order of admission */
	size_t nrun, caprun;

	struct sched_part *part;
	size_t cappart;
	uint64_t arrivals, preemptions;
	uint64_t nplan, ndone;		/* plans made, and done */
	size_t share;			/* sequences that this plan may have */
};

/* seq.c */

/* In the table; NULL: unknown. */
struct sched_seq *seq_find(const struct sched *s, uint64_t id);
/* A new sequence in the table, neither waiting nor running. */
struct sched_seq *seq_new(struct sched *s, uint64_t id, const int32_t *ids,
    size_t n, struct err *e);
/* Out of the table and freed; holds no blocks by now. */
void seq_free(struct sched *s, struct sched_seq *q);
/* a is served before b. */
bool seq_before(const struct sched_seq *a, const struct sched_seq *b);
void wait_push(struct sched *s, struct sched_seq *q);
void wait_remove(struct sched *s, struct sched_seq *q);

#endif
