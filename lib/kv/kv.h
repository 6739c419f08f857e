/*
 * kv: who owns which block of the KV cache, and the prefix cache over them.
 *
 * A block holds block_size consecutive tokens of one sequence, for all layers;
 * this module hands out block numbers and never touches their contents.  Full
 * blocks can be found again by what they hold: a key chained over the tokens
 * from the sequence's start.  A block that nobody uses keeps its contents
 * until its place is needed (least recently used first).
 *
 * Rows are computed in one of two ways, and the bits differ (see kv_expanded);
 * the way is part of the key, so a hit gives the very bits that computing
 * would have given.
 */
#ifndef DSI_KV_H
#define DSI_KV_H

#include "base/base.h"

enum { KV_TILE = 128 };			/* positions; see kv_expanded */

/* The attention of the token at pos runs over expanded keys and values, else
 * over the latent ones (absorbed).  Whole tiles of the prompt are expanded:
 * there the expansion is shared by enough queries to pay.  The rest of the
 * prompt and every generated token are absorbed.  It depends on the request
 * alone, never on batch, chunk or cache. */
static inline bool
kv_expanded(size_t pos, size_t nprompt)
{
	return pos / KV_TILE < nprompt / KV_TILE;
}

struct kv;

enum { KV_NONE = 0xffffffff };

int kv_open(struct kv **k, size_t nblock, size_t block_size, struct err *e);
void kv_close(struct kv **k);
size_t kv_blocks(const struct kv *k);
size_t kv_block_size(const struct kv *k);
size_t kv_free_blocks(const struct kv *k);	/* unused, cached or not */

/* A block of its own for the caller (reference 1), or KV_NONE. */
uint32_t kv_alloc(struct kv *k);
void kv_ref(struct kv *k, uint32_t block);
/* Drops a reference; a keyed block stays findable until reused. */
void kv_unref(struct kv *k, uint32_t block);

struct kv_key {
	uint64_t w[4];			/* a SHA-256: a wrong hit can't occur */
};

/* The key of the block that follows parent (NULL: the first) and holds
 * ids[0..block_size) at positions from pos, of a prompt of nprompt tokens;
 * salt separates tenants.  Should libcrypto have no
 * memory, out is all 0: a key that is never found nor published. */
void kv_key(struct kv_key *out, const struct kv_key *parent, uint64_t salt,
    const int32_t *ids, size_t block_size, size_t pos, size_t nprompt);
/* Finds a block by key and takes a reference, or KV_NONE. */
uint32_t kv_find(struct kv *k, const struct kv_key *key);
/* block (which the caller holds, full and computed) can be found by key from
 * now on; keeps the older one if the key is there already. */
void kv_publish(struct kv *k, uint32_t block, const struct kv_key *key);

#endif
