/*
 * philox: random numbers without a state.
 *
 * Philox4x32-10 of J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random
 * numbers: as easy as 1, 2, 3", SC 2011.  It maps (key, counter) to 128 bits;
 * the counter is the token's place, so token n of a sequence gets its number
 * whether or not the ones before it were drawn here.
 */
#include "sample/sample.h"

enum { ROUNDS = 10 };

void
sample_philox(uint32_t out[4], const uint32_t ctr[4], const uint32_t key[2])
{
	uint32_t c0 = ctr[0], c1 = ctr[1], c2 = ctr[2], c3 = ctr[3];
	uint32_t k0 = key[0], k1 = key[1];

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t p0 = (uint64_t)c0 * UINT32_C(0xd2511f53);
		uint64_t p1 = (uint64_t)c2 * UINT32_C(0xcd9e8d57);

		c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
		c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
		c1 = (uint32_t)p1;
		c3 = (uint32_t)p0;
		k0 += UINT32_C(0x9e3779b9);
		k1 += UINT32_C(0xbb67ae85);
	}
	out[0] = c0;
	out[1] = c1;
	out[2] = c2;
	out[3] = c3;
}

double
sample_uniform(uint64_t seed, uint32_t choice, uint64_t nout)
{
	const uint32_t key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
	const uint32_t ctr[4] = {
		(uint32_t)nout, (uint32_t)(nout >> 32), choice, 0
	};
	uint32_t r[4];

	sample_philox(r, ctr, key);
	return (double)(((uint64_t)r[1] << 32 | r[0]) >> 11) * 0x1p-53;
}
