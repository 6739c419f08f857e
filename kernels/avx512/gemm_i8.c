/*
 * gemm_i8 (AVX-512 VNNI): int8 x int8 -> int32, exact over the full range.
 *
 * vpdpbusd multiplies unsigned by signed bytes, so x enters as x + 128 (its
 * top bit flipped), and every sum starts at -128 times the sum of its
 * weights.  Sums may wrap on the way; modulo 2^32 they end right.
 *
 * A tile of 6 rows x 4 tiles of weights keeps 24 registers of sums.  With
 * more than 6 rows, k goes in blocks whose weights stay in L2.
 */
#include <string.h>

#include "avx512/avx512.h"
#include "avx512/vec.h"

enum {
	STEP = KERN_TILE_N * KERN_TILE_K,	/* bytes per k/4 in a tile */
	ROWS = 6,
	TILES = 4,
	BLOCK = 512,			/* k/4: 4 tiles are 128 KiB */
};

/* Four bytes of x in every lane, as unsigned x + 128. */
ALWAYS_INLINE __m512i
load_x(const int8_t *x)
{
	int32_t v;

	memcpy(&v, x, sizeof v);
	return _mm512_xor_si512(_mm512_set1_epi32(v),
	    _mm512_set1_epi32((int32_t)0x80808080));
}

/* mr rows by nt tiles, k4 steps; first: start from colsum, else from acc. */
ALWAYS_INLINE void
tile(int32_t *acc, size_t ldacc, const int8_t *x, size_t ldx,
    const int8_t *w, size_t ldw, const int32_t *colsum, size_t k4, int first,
    int mr, int nt)
{
	__m512i s[ROWS][TILES], vw[TILES];

#pragma GCC unroll 4
	for (int t = 0; t < nt; t++) {
		__m512i c = _mm512_sub_epi32(_mm512_setzero_si512(),
		    _mm512_slli_epi32(_mm512_loadu_si512(colsum +
		    t * KERN_TILE_N), 7));

#pragma GCC unroll 6
		for (int i = 0; i < mr; i++)
			s[i][t] = first ? c : _mm512_loadu_si512(acc +
			    (size_t)i * ldacc + t * KERN_TILE_N);
	}
	for (size_t p = 0; p < k4; p++) {
#pragma GCC unroll 4
		for (int t = 0; t < nt; t++)
			vw[t] = _mm512_loadu_si512(w + (size_t)t * ldw +
			    p * STEP);
#pragma GCC unroll 6
		for (int i = 0; i < mr; i++) {
			__m512i vx = load_x(x + (size_t)i * ldx +
			    p * KERN_TILE_K);

#pragma GCC unroll 4
			for (int t = 0; t < nt; t++)
				s[i][t] = _mm512_dpbusd_epi32(s[i][t], vx,
				    vw[t]);
		}
	}
#pragma GCC unroll 6
	for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
		for (int t = 0; t < nt; t++)
			_mm512_storeu_si512(acc + (size_t)i * ldacc +
			    t * KERN_TILE_N, s[i][t]);
}

/* All m rows for nt tiles of weights and one block of k. */
ALWAYS_INLINE void
tiles(int32_t *acc, size_t ldacc, const int8_t *x, size_t ldx,
    const int8_t *w, size_t ldw, const int32_t *colsum, size_t m, size_t k4,
    int first, int nt)
{
	size_t i = 0;

	for (; i + 6 <= m; i += 6)
		tile(acc + i * ldacc, ldacc, x + i * ldx, ldx, w, ldw, colsum,
		    k4, first, 6, nt);
	for (; i + 2 <= m; i += 2)
		tile(acc + i * ldacc, ldacc, x + i * ldx, ldx, w, ldw, colsum,
		    k4, first, 2, nt);
	if (i < m)
		tile(acc + i * ldacc, ldacc, x + i * ldx, ldx, w, ldw, colsum,
		    k4, first, 1, nt);
}

static void
gemm_i8(int32_t *acc, size_t ldacc, const int8_t *x, size_t ldx,
    const int8_t *w, size_t ldw, const int32_t *colsum, size_t m,
    size_t ntile, size_t k4)
{
	const size_t most = m <= ROWS ? k4 : BLOCK;
	size_t k0 = 0;

	do {
		const size_t kb = k4 - k0 < most ? k4 - k0 : most;
		const int8_t *xk = x + k0 * KERN_TILE_K;
		const int8_t *wk = w + k0 * STEP;
		size_t t = 0;

		for (; t + TILES <= ntile; t += TILES)
			tiles(acc + t * KERN_TILE_N, ldacc, xk, ldx,
			    wk + t * ldw, ldw, colsum + t * KERN_TILE_N, m, kb,
			    k0 == 0, TILES);
		for (; t < ntile; t++)
			tiles(acc + t * KERN_TILE_N, ldacc, xk, ldx,
			    wk + t * ldw, ldw, colsum + t * KERN_TILE_N, m, kb,
			    k0 == 0, 1);
		k0 += kb;
	} while (k0 < k4);
}

void
avx512_gemm_i8(struct kern *k)
{
	k->gemm_i8 = gemm_i8;
}
