/*
 * sample_priv: what the files of sample share.
 */
#ifndef DSI_SAMPLE_PRIV_H
#define DSI_SAMPLE_PRIV_H

#include "sample/sample.h"

enum { SAMPLE_BLOCK = 1024 };		/* elements of one float sum */

struct seen_entry {
	int32_t id;
	uint32_t nout;			/* times it was generated */
};

struct sample_seen {
	struct seen_entry *ent;
	size_t n, cap;
	uint32_t *table;		/* index of the entry + 1, or 0 */
	size_t ntable;			/* a power of two, or 0 */
};

/* A candidate as a number whose rising order is falling logit, then rising
 * id: the flipped bits of the logit above the id. */
uint64_t sample_key(float logit, int32_t id);

static inline int32_t
sample_key_id(uint64_t key)
{
	return (int32_t)(uint32_t)key;
}

/* Sorts key[0..n), whose ids already rise, by radix; tmp[0..n) is scratch. */
void sample_sort(uint64_t *key, uint64_t *tmp, size_t n);

#endif
