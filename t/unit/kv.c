/*
 * kv: states of blocks, the order of eviction, and what a key depends on.
 */
#include <string.h>

#include "kv/kv.h"
#include "tap.h"

static uint64_t rng = 7;

static uint32_t
rnd(uint32_t n)
{
	rng ^= rng << 13;		/* Marsaglia's xorshift64 */
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)(rng >> 33) % n;
}

static struct kv_key
key_of(uint64_t n)
{
	return (struct kv_key){{ n % 3, n, 9, 1 }};	/* they share buckets */
}

static void
test_open(void)
{
	struct kv *k;
	struct err e = {0};

	tap_ok(kv_open(&k, 0, 16, &e) == -1 && e.code == ERR_CALLER, "%s",
	    e.msg);
	tap_ok(kv_open(&k, 4, 0, &e) == -1 && e.code == ERR_CALLER, "%s",
	    e.msg);
	tap_ok(kv_open(&k, SIZE_MAX / 2, 16, &e) == -1 && !k, "%s", e.msg);
	tap_ok(kv_open(&k, 5, 16, &e) == 0 && kv_blocks(k) == 5 &&
	    kv_block_size(k) == 16 && kv_free_blocks(k) == 5,
	    "a new cache is all free");
	kv_close(&k);
	kv_close(&k);
	tap_ok(!k, "closed twice");
}

static void
test_refs(void)
{
	struct kv *k;
	uint32_t b[4];
	unsigned seen = 0;

	if (kv_open(&k, 3, 16, NULL) == -1)
		return;
	for (int i = 0; i < 4; i++) {
		b[i] = kv_alloc(k);
		if (i < 3)
			seen |= 1u << b[i];
	}
	tap_ok(seen == 7 && b[3] == KV_NONE && kv_free_blocks(k) == 0,
	    "each block once, then none");
	kv_ref(k, b[1]);
	kv_unref(k, b[1]);
	tap_ok(kv_free_blocks(k) == 0, "two references, one dropped: held");
	kv_unref(k, b[1]);
	tap_ok(kv_free_blocks(k) == 1 && kv_alloc(k) == b[1],
	    "none left: free again");
	kv_close(&k);
}

static void
test_eviction(void)
{
	struct kv *k;
	uint32_t b[4], c;
	struct kv_key key[5];

	if (kv_open(&k, 4, 16, NULL) == -1)
		return;
	for (int i = 0; i < 5; i++)
		key[i] = key_of(i);
	for (int i = 0; i < 4; i++)
		b[i] = kv_alloc(k);
	for (int i = 0; i < 3; i++)
		kv_publish(k, b[i], &key[i]);
	for (int i = 4; i-- > 0;)	/* tail first */
		kv_unref(k, b[i]);
	tap_ok(kv_free_blocks(k) == 4, "keyed blocks count as free");
	tap_ok((c = kv_alloc(k)) == b[3], "what was never keyed goes first");
	tap_ok(kv_find(k, &key[2]) == b[2] && kv_free_blocks(k) == 2,
	    "found, and held again");
	kv_unref(k, b[2]);
	tap_ok(kv_alloc(k) == b[1] && kv_find(k, &key[1]) == KV_NONE,
	    "then the least recently used, which can't be found any more");
	tap_ok(kv_alloc(k) == b[0] && kv_alloc(k) == b[2] &&
	    kv_alloc(k) == KV_NONE, "then the others by their last use");
	kv_publish(k, b[0], &key[4]);
	kv_publish(k, b[1], &key[4]);
	tap_ok(kv_find(k, &key[4]) == b[0], "the same key twice: the older "
	    "block stays");
	kv_publish(k, b[0], &key[3]);
	tap_ok(kv_find(k, &key[3]) == KV_NONE, "a block keeps its first key");
	kv_unref(k, b[1]);
	kv_unref(k, c);
	tap_ok(kv_alloc(k) == c && kv_alloc(k) == b[1],
	    "the newer one has no key: fresh when freed");
	kv_close(&k);
}

/* A naive model: for each block its references, key and time of last use. */
enum { NB = 13, NK = 40 };

struct model {
	unsigned ref[NB];
	int key[NB];			/* -1: none */
	uint64_t freed[NB];
};

static int
model_find(const struct model *m, int key)
{
	for (int i = 0; i < NB; i++) {
		if (m->key[i] == key)
			return i;
	}
	return -1;
}

/* Whether the model would hand out b, given that some block is free. */
static bool
model_may_give(const struct model *m, uint32_t b)
{
	if (b >= NB || m->ref[b])
		return false;
	for (int i = 0; i < NB; i++) {
		if (m->ref[i] || m->key[b] == -1)
			continue;
		if (m->key[i] == -1 || m->freed[i] < m->freed[b])
			return false;
	}
	return true;
}

static int
random_op(struct kv *k, struct model *m, uint64_t now)
{
	int key = rnd(NK), at = model_find(m, key);
	struct kv_key kk = key_of(key);
	size_t nfree = 0;
	uint32_t b;

	for (int i = 0; i < NB; i++)
		nfree += !m->ref[i];
	if (nfree != kv_free_blocks(k))
		return 1;
	switch (rnd(4)) {
	case 0:
		b = kv_alloc(k);
		if (b == KV_NONE)
			return nfree != 0;
		if (!model_may_give(m, b))
			return 1;
		m->ref[b] = 1;
		m->key[b] = -1;
		return 0;
	case 1:
		b = kv_find(k, &kk);
		if (b != (at < 0 ? (uint32_t)KV_NONE : (uint32_t)at))
			return 1;
		if (at >= 0)
			m->ref[at]++;
		return 0;
	case 2:
		b = rnd(NB);
		if (!m->ref[b])
			return 0;
		kv_publish(k, b, &kk);
		if (m->key[b] == -1 && at < 0)
			m->key[b] = key;
		return 0;
	default:
		b = rnd(NB);
		if (!m->ref[b])
			return 0;
		kv_unref(k, b);
		m->ref[b]--;
		m->freed[b] = now;
		return 0;
	}
}

static void
test_random(void)
{
	struct model m = {0};
	struct kv *k;
	int bad = 0, i;

	if (kv_open(&k, NB, 16, NULL) == -1)
		return;
	memset(m.key, -1, sizeof(m.key));
	for (i = 0; i < 200000 && !bad; i++)
		bad = random_op(k, &m, i);
	tap_ok(!bad, "%d random operations as the model has it", i);
	kv_close(&k);
}

static bool
same(const struct kv_key *a, const struct kv_key *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static void
test_key(void)
{
	enum { BS = 128 };
	int32_t ids[BS];
	struct kv_key a, b, c;

	for (int i = 0; i < BS; i++)
		ids[i] = i * 3;
	kv_key(&a, NULL, 1, ids, BS, 0, 300);
	kv_key(&b, NULL, 1, ids, BS, 0, 300);
	tap_ok(same(&a, &b) && (a.w[0] | a.w[1]), "equal blocks, equal keys");
	kv_key(&b, NULL, 1, ids, BS, 0, 129);
	tap_ok(same(&a, &b), "other prompt lengths too, while the rows are "
	    "computed alike");
	kv_key(&b, NULL, 1, ids, BS, 0, 127);
	tap_ok(!same(&a, &b), "absorbed and expanded rows are told apart");
	kv_key(&b, NULL, 2, ids, BS, 0, 300);
	tap_ok(!same(&a, &b), "so are salts");
	kv_key(&b, &a, 1, ids, BS, 128, 300);
	kv_key(&c, NULL, 1, ids, BS, 128, 300);
	tap_ok(!same(&a, &b) && !same(&b, &c), "parents");
	ids[BS - 1]++;
	kv_key(&b, NULL, 1, ids, BS, 0, 300);
	tap_ok(!same(&a, &b), "and tokens");
	ids[BS - 1]--;
	kv_key(&a, &a, 1, ids, BS, 128, 300);
	tap_ok(!same(&a, &b), "out may be the parent itself");
	kv_key(&c, NULL, 1, ids, BS, 0, 300);
	kv_key(&b, &c, 1, ids, BS, 128, 300);
	tap_ok(same(&a, &b), "with the same result");
}

int
main(void)
{
	test_open();
	test_refs();
	test_eviction();
	test_random();
	test_key();
	return tap_done();
}
