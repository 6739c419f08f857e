/*
 * kern: the table, the ladder that fills it, and what every rung shares.
 *
 * The ladder stops at the first rung that the flags lack: a rung may count on
 * all those below it.
 */
#include <math.h>
#include <string.h>

#include "kern.h"

struct kern kern;

static const struct rung {
	const char *name;
	unsigned flag;
	void (*init)(struct kern *);
} rungs[] = {
	{ "ref", 0, kern_init_ref },
#ifdef __x86_64__
	{ "avx2", CPU_AVX2, kern_init_avx2 },
	{ "avx512", CPU_AVX512, kern_init_avx512 },
	{ "avx512vnni", CPU_AVX512VNNI, kern_init_avx512vnni },
#endif
};

void
kern_init(unsigned flags)
{
	for (size_t i = 0; i < sizeof rungs / sizeof *rungs; i++) {
		if ((flags & rungs[i].flag) != rungs[i].flag)
			break;
		rungs[i].init(&kern);
		kern.name = rungs[i].name;
	}
}

/*
 * e^r is 1 + r + r*r*p(r); p has degree 4 and was fitted for the least
 * greatest relative error (3e-9) on |r| <= ln2/2.  The vector forms
 * (avx2/vec.h) repeat these constants and the order of every operation.
 */
float
kern_expf(float x)
{
	const float hi = 88.37626f, lo = -87.33654f;
	uint32_t bits;
	float t, r, p, two_t;

	if (x != x)
		return x;
	if (x < lo)
		return 0;
	x = hi < x ? hi : x;
	t = rintf(x * 0x1.715476p+0f);
	r = fmaf(t, -0x1.62e43p-1f, x);
	r = fmaf(t, 0x1.05c61p-29f, r);
	p = 0x1.6a2434p-10f;
	p = fmaf(p, r, 0x1.1239e2p-7f);
	p = fmaf(p, r, 0x1.5558f2p-5f);
	p = fmaf(p, r, 0x1.555492p-3f);
	p = fmaf(p, r, 0x1.fffffcp-2f);
	p = fmaf(p, r, 1.0f);
	p = fmaf(p, r, 1.0f);
	bits = (uint32_t)((int32_t)t + 127) << 23;
	memcpy(&two_t, &bits, sizeof two_t);
	return p * two_t;
}

void
kern_pack_i8(int8_t *out, int32_t *colsum, const int8_t *w, size_t ldw,
    size_t n, size_t k)
{
	const size_t ntile = kern_ntile(n), k4 = kern_k4(k);
	const size_t tile = (size_t)KERN_TILE_N * KERN_TILE_K * k4;

	if (out)
		memset(out, 0, ntile * tile);
	if (colsum)
		memset(colsum, 0, ntile * KERN_TILE_N * sizeof *colsum);
	for (size_t j = 0; j < n; j++) {
		const int8_t *row = w + j * ldw;
		const size_t at = j / KERN_TILE_N * tile +
		    j % KERN_TILE_N * KERN_TILE_K;
		int32_t sum = 0;

		for (size_t i = 0; i < k; i++) {
			sum += row[i];
			if (out)
				out[at + i / KERN_TILE_K * KERN_TILE_N *
				    KERN_TILE_K + i % KERN_TILE_K] = row[i];
		}
		if (colsum)
			colsum[j] = sum;
	}
}
