/*
 * gemm_i8 (AVX2): int8 x int8 -> int32, exact over the full range.
 *
 * vpmaddubsw would be twice as wide, but it saturates, and -128 has no
 * absolute value; so both sides widen to int16 and vpmaddwd adds pairs.  One
 * or two rows read each weight once, straight from memory.  More rows widen a
 * block of weights into the first cache and share it.
 */
#include "avx2/avx2.h"
#include "avx2/vec.h"

enum {
	STEP = KERN_TILE_N * KERN_TILE_K,	/* bytes per k/4 in a tile */
	FEW = 2,			/* rows that read weights directly */
	ROWS = 66,			/* in a panel of widened x */
	BLOCK = 128,			/* k/4 in a block of widened weights */
	PANEL = ROWS * BLOCK * KERN_TILE_K,
};

/* Bytes to int16; n is a multiple of 4. */
static void
widen(int16_t *out, const int8_t *in, size_t n)
{
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		_mm256_storeu_si256((__m256i *)(void *)(out + i),
		    _mm256_cvtepi8_epi16(_mm_loadu_si128(
		    (const void *)(in + i))));
	for (; i < n; i++)
		out[i] = in[i];
}

/* Each output has two partial sums side by side: add them, in order. */
ALWAYS_INLINE void
put(int32_t *acc, const __m256i *s, int first)
{
#pragma GCC unroll 2
	for (int h = 0; h < 2; h++) {
		__m256i *to = (__m256i *)(void *)(acc + h * VEC);
		__m256i v = _mm256_permute4x64_epi64(
		    _mm256_hadd_epi32(s[2 * h], s[2 * h + 1]), 0xd8);

		if (!first)
			v = _mm256_add_epi32(v, _mm256_loadu_si256(to));
		_mm256_storeu_si256(to, v);
	}
}

/* One tile for mr rows of widened x.  w: widened, or bytes. */
ALWAYS_INLINE void
tile(int32_t *acc, size_t ldacc, const int16_t *x, size_t ldx, const void *w,
    size_t k4, int first, int mr, int wide)
{
	__m256i s[2][4], vx[2];

#pragma GCC unroll 2
	for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
		for (int q = 0; q < 4; q++)
			s[i][q] = _mm256_setzero_si256();
	for (size_t p = 0; p < k4; p++) {
#pragma GCC unroll 2
		for (int i = 0; i < mr; i++)
			vx[i] = _mm256_broadcastq_epi64(_mm_loadl_epi64(
			    (const void *)(x + (size_t)i * ldx +
			    p * KERN_TILE_K)));
#pragma GCC unroll 4
		for (int q = 0; q < 4; q++) {
			const size_t at = p * STEP + (size_t)q * 16;
			__m256i vw;

			if (wide)
				vw = loadi((const int16_t *)w + at);
			else
				vw = _mm256_cvtepi8_epi16(_mm_loadu_si128(
				    (const void *)((const int8_t *)w + at)));
#pragma GCC unroll 2
			for (int i = 0; i < mr; i++)
				s[i][q] = _mm256_add_epi32(s[i][q],
				    _mm256_madd_epi16(vw, vx[i]));
		}
	}
#pragma GCC unroll 2
	for (int i = 0; i < mr; i++)
		put(acc + (size_t)i * ldacc, s[i], first);
}

static void
tile_few(int32_t *acc, size_t ldacc, const int16_t *x, size_t ldx,
    const int8_t *w, size_t m, size_t k4, int first)
{
	if (m == 2)
		tile(acc, ldacc, x, ldx, w, k4, first, 2, 0);
	else
		tile(acc, ldacc, x, ldx, w, k4, first, 1, 0);
}

static void
tile_many(int32_t *acc, size_t ldacc, const int16_t *x, size_t ldx,
    const int8_t *w, size_t m, size_t k4, int first)
{
	_Alignas(64) int16_t ws[BLOCK * STEP];
	size_t i = 0;

	widen(ws, w, k4 * STEP);
	for (; i + 2 <= m; i += 2)
		tile(acc + i * ldacc, ldacc, x + i * ldx, ldx, ws, k4, first,
		    2, 1);
	if (i < m)
		tile(acc + i * ldacc, ldacc, x + i * ldx, ldx, ws, k4, first,
		    1, 1);
}

/* Up to ROWS rows, in blocks of k whose widened x fits the panel. */
static void
panel(int32_t *acc, size_t ldacc, const int8_t *x, size_t ldx,
    const int8_t *w, size_t ldw, size_t m, size_t ntile, size_t k4)
{
	_Alignas(64) int16_t xs[PANEL];
	const size_t most = m <= FEW ? PANEL / FEW / KERN_TILE_K : BLOCK;
	size_t k0 = 0;

	do {
		const size_t kb = k4 - k0 < most ? k4 - k0 : most;
		const size_t ldxs = kb * KERN_TILE_K;

		for (size_t i = 0; i < m; i++)
			widen(xs + i * ldxs, x + i * ldx + k0 * KERN_TILE_K,
			    ldxs);
		for (size_t t = 0; t < ntile; t++) {
			int32_t *to = acc + t * KERN_TILE_N;
			const int8_t *wt = w + t * ldw + k0 * STEP;

			if (m <= FEW)
				tile_few(to, ldacc, xs, ldxs, wt, m, kb,
				    k0 == 0);
			else
				tile_many(to, ldacc, xs, ldxs, wt, m, kb,
				    k0 == 0);
		}
		k0 += kb;
	} while (k0 < k4);
}

static void
gemm_i8(int32_t *acc, size_t ldacc, const int8_t *x, size_t ldx,
    const int8_t *w, size_t ldw, const int32_t *colsum, size_t m,
    size_t ntile, size_t k4)
{
	(void)colsum;
	for (size_t i = 0; i < m; i += ROWS)
		panel(acc + i * ldacc, ldacc, x + i * ldx, ldx, w, ldw,
		    m - i < ROWS ? m - i : ROWS, ntile, k4);
}

void
avx2_gemm_i8(struct kern *k)
{
	k->gemm_i8 = gemm_i8;
}
