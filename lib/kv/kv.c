/*
 * kv: block numbers, their reference counts, and the table of keys.
 *
 * A block is in one of three states: held (ref > 0), fresh (free, holds
 * nothing that can be found) or idle (free, keyed).  Fresh blocks form a
 * stack, idle ones a list from the least to the most recently used; both run
 * through the same two links, so everything is O(1) and nothing is allocated
 * after kv_open.  A holder that frees the tail of a sequence first makes the
 * tail the first to be evicted, which is right: a head is useful without its
 * tail, a tail is not without its head.
 */
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "kv/kv.h"

enum { MAX_BLOCKS = 1 << 30 };		/* block numbers and links are 32 bit */

struct slot {
	struct kv_key key;
	uint32_t ref;
	uint32_t prev, next;		/* in the fresh stack or idle list */
	uint32_t chain;			/* next of the same bucket */
	bool keyed;
};

struct kv {
	struct slot *slot;
	uint32_t *bucket;
	size_t nblock, block_size, mask;
	size_t nfree;			/* fresh and idle */
	uint32_t fresh;			/* top of the stack */
	uint32_t oldest, newest;	/* ends of the idle list */
};

/* ---- life ---- */

static void
push_fresh(struct kv *k, uint32_t b)
{
	k->slot[b].next = k->fresh;
	k->fresh = b;
}

int
kv_open(struct kv **out, size_t nblock, size_t block_size, struct err *e)
{
	struct kv *k;
	size_t nbucket = 1;

	*out = NULL;
	if (nblock < 1 || nblock > MAX_BLOCKS)
		return err_set(e, ERR_CALLER, "a KV cache has 1 to %d blocks, "
		    "not %zu", MAX_BLOCKS, nblock);
	if (block_size < 1)
		return err_set(e, ERR_CALLER,
		    "a KV block holds at least 1 token, not %zu", block_size);
	while (nbucket < nblock)
		nbucket *= 2;
	k = mem_new(1, sizeof(*k), e);
	if (!k)
		return -1;
	k->slot = mem_new(nblock, sizeof(*k->slot), e);
	k->bucket = mem_new(nbucket, sizeof(*k->bucket), e);
	if (!k->slot || !k->bucket) {
		kv_close(&k);
		return err_wrap(e, "the table of %zu KV blocks", nblock);
	}
	k->nblock = k->nfree = nblock;
	k->block_size = block_size;
	k->mask = nbucket - 1;
	k->fresh = k->oldest = k->newest = KV_NONE;
	for (size_t i = 0; i < nbucket; i++)
		k->bucket[i] = KV_NONE;
	for (size_t i = nblock; i-- > 0;)
		push_fresh(k, i);
	*out = k;
	return 0;
}

void
kv_close(struct kv **k)
{
	if (!*k)
		return;
	free((*k)->slot);
	free((*k)->bucket);
	free(*k);
	*k = NULL;
}

size_t
kv_blocks(const struct kv *k)
{
	return k->nblock;
}

size_t
kv_block_size(const struct kv *k)
{
	return k->block_size;
}

size_t
kv_free_blocks(const struct kv *k)
{
	return k->nfree;
}

/* ---- the idle list ---- */

static void
idle_append(struct kv *k, uint32_t b)
{
	struct slot *s = &k->slot[b];

	s->prev = k->newest;
	s->next = KV_NONE;
	if (k->newest == KV_NONE)
		k->oldest = b;
	else
		k->slot[k->newest].next = b;
	k->newest = b;
}

static void
idle_take(struct kv *k, uint32_t b)
{
	struct slot *s = &k->slot[b];

	if (s->prev == KV_NONE)
		k->oldest = s->next;
	else
		k->slot[s->prev].next = s->next;
	if (s->next == KV_NONE)
		k->newest = s->prev;
	else
		k->slot[s->next].prev = s->prev;
}

/* ---- the table of keys ---- */

static bool
key_equal(const struct kv_key *a, const struct kv_key *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* All bits 0: kv_key had no memory.  Such a key is never found. */
static bool
key_void(const struct kv_key *key)
{
	return !(key->w[0] | key->w[1] | key->w[2] | key->w[3]);
}

static uint32_t
table_get(const struct kv *k, const struct kv_key *key)
{
	uint32_t b = k->bucket[key->w[0] & k->mask];

	while (b != KV_NONE && !key_equal(&k->slot[b].key, key))
		b = k->slot[b].chain;
	return b;
}

static void
table_drop(struct kv *k, uint32_t b)
{
	uint32_t *p = &k->bucket[k->slot[b].key.w[0] & k->mask];

	while (*p != b)
		p = &k->slot[*p].chain;
	*p = k->slot[b].chain;
	k->slot[b].keyed = false;
}

/* ---- blocks ---- */

uint32_t
kv_alloc(struct kv *k)
{
	uint32_t b = k->fresh;

	if (b != KV_NONE) {
		k->fresh = k->slot[b].next;
	} else if (k->oldest != KV_NONE) {
		b = k->oldest;
		idle_take(k, b);
		table_drop(k, b);
	} else {
		return KV_NONE;
	}
	k->slot[b].ref = 1;
	k->nfree--;
	return b;
}

void
kv_ref(struct kv *k, uint32_t b)
{
	k->slot[b].ref++;
}

void
kv_unref(struct kv *k, uint32_t b)
{
	struct slot *s = &k->slot[b];

	if (--s->ref)
		return;
	k->nfree++;
	if (s->keyed)
		idle_append(k, b);
	else
		push_fresh(k, b);
}

uint32_t
kv_find(struct kv *k, const struct kv_key *key)
{
	uint32_t b = key_void(key) ? KV_NONE : table_get(k, key);

	if (b == KV_NONE)
		return b;
	if (!k->slot[b].ref++) {
		idle_take(k, b);
		k->nfree--;
	}
	return b;
}

void
kv_publish(struct kv *k, uint32_t b, const struct kv_key *key)
{
	struct slot *s = &k->slot[b];
	uint32_t *head = &k->bucket[key->w[0] & k->mask];

	if (s->keyed || key_void(key) || table_get(k, key) != KV_NONE)
		return;
	s->key = *key;
	s->keyed = true;
	s->chain = *head;
	*head = b;
}

/* ---- keys ---- */

/* One digest over everything that decides a block's bits.  Keys live in this
 * process only, so numbers go in as memory has them. */
static bool
digest(EVP_MD_CTX *c, struct kv_key *out, const struct kv_key *parent,
    const uint64_t *head, size_t nhead, const int32_t *ids, size_t n)
{
	const struct kv_key none = {{0}};

	return EVP_DigestInit_ex(c, EVP_sha256(), NULL) == 1 &&
	    EVP_DigestUpdate(c, parent ? parent : &none, sizeof(none)) == 1 &&
	    EVP_DigestUpdate(c, head, nhead * sizeof(*head)) == 1 &&
	    EVP_DigestUpdate(c, ids, n * sizeof(*ids)) == 1 &&
	    EVP_DigestFinal_ex(c, (unsigned char *)out->w, NULL) == 1;
}

void
kv_key(struct kv_key *out, const struct kv_key *parent, uint64_t salt,
    const int32_t *ids, size_t block_size, size_t pos, size_t nprompt)
{
	uint64_t head[5] = { salt, pos, block_size, parent != NULL, 0 };
	EVP_MD_CTX *c = EVP_MD_CTX_new();

	/* Expanded positions come before all absorbed ones, so their number
	 * says which they are. */
	while (head[4] < block_size && kv_expanded(pos + head[4], nprompt))
		head[4]++;
	if (!c || (parent && key_void(parent)) ||
	    !digest(c, out, parent, head, 5, ids, block_size))
		memset(out, 0, sizeof(*out));
	EVP_MD_CTX_free(c);
}
