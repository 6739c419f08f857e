/*
 * gemm_f32 (AVX-512): float products.
 *
 * As in AVX2, but the 16 lanes of a sum are one register, tiles are 6x4, and
 * the ends of k and n are masked: a lane outside the mask keeps its sum.
 */
#include "avx512/avx512.h"
#include "avx512/vec.h"

enum {
	NT_CACHE = 384 << 10,		/* bytes of b that rows share in L2 */
	NT_COLS = 32,			/* and not more rows than this */
	NT_K = 512,			/* of k in L1, whole lanes16 */
	NN_COLS = 64,
	NN_K = 64,			/* of k in a panel: 16 KiB */
	NN_K_FEW = 32,			/* without a panel, so that b is read */
	NN_K_WIDE = 8,			/* in lines, not in columns */
	NN_PACK = 12,			/* rows from which a panel pays */
};

/* b is f32 or bf16; is_bf16 is a constant wherever these are inlined. */
ALWAYS_INLINE __m512
load16(const void *b, size_t at, __mmask16 mask, int is_bf16)
{
	if (is_bf16)
		return _mm512_castsi512_ps(_mm512_slli_epi32(
		    _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask,
		    (const uint16_t *)b + at)), 16));
	return _mm512_maskz_loadu_ps(mask, (const float *)b + at);
}

ALWAYS_INLINE const void *
skip(const void *b, size_t at, int is_bf16)
{
	return (const char *)b +
	    at * (is_bf16 ? sizeof(uint16_t) : sizeof(float));
}

/* ---- nt ---- */

/* The lanes in mask of 16 elements of k, for mr rows of a and nr of b. */
ALWAYS_INLINE void
nt_step(__m512 s[6][8], const float *a, size_t lda, const void *b,
    size_t ldb, __mmask16 mask, int mr, int nr, int is_bf16)
{
	__m512 vb[8];

#pragma GCC unroll 8
	for (int j = 0; j < nr; j++)
		vb[j] = load16(b, (size_t)j * ldb, mask, is_bf16);
#pragma GCC unroll 6
	for (int i = 0; i < mr; i++) {
		__m512 va = _mm512_maskz_loadu_ps(mask, a + (size_t)i * lda);

#pragma GCC unroll 8
		for (int j = 0; j < nr; j++)
			s[i][j] = _mm512_mask3_fmadd_ps(va, vb[j], s[i][j],
			    mask);
	}
}

/* Folds four lanes16 sums at once and stores them side by side. */
ALWAYS_INLINE void
fold4(float *y, __m512 a, __m512 b, __m512 c, __m512 d)
{
	const __m512i first = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0,
	    0, 0, 0, 0, 0, 0);
	__m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44),
	    _mm512_shuffle_f32x4(a, b, 0xee));
	__m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44),
	    _mm512_shuffle_f32x4(c, d, 0xee));
	__m512 s = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88),
	    _mm512_shuffle_f32x4(ab, cd, 0xdd));

	s = _mm512_add_ps(s, _mm512_permute_ps(s, 0x4e));
	s = _mm512_add_ps(s, _mm512_permute_ps(s, 0xb1));
	_mm512_mask_storeu_ps(y, 0x000f, _mm512_permutexvar_ps(first, s));
}

ALWAYS_INLINE void
fold1(float *y, __m512 s)
{
	s = _mm512_add_ps(s, _mm512_shuffle_f32x4(s, s, 0x4e));
	s = _mm512_add_ps(s, _mm512_shuffle_f32x4(s, s, 0xb1));
	s = _mm512_add_ps(s, _mm512_permute_ps(s, 0x4e));
	s = _mm512_add_ps(s, _mm512_permute_ps(s, 0xb1));
	_mm512_mask_storeu_ps(y, 0x0001, s);
}

/* The sums of an output of each row between two chunks of k. */
struct nt_part {
	__m512 s[6];
};

/* One chunk of k: from part unless it is the first, to y if it is the last,
 * else back to part. */
ALWAYS_INLINE void
nt_tile(float *y, size_t ldy, const float *a, size_t lda, const void *b,
    size_t ldb, size_t k, struct nt_part *part, int first, int last, int mr,
    int nr, int is_bf16)
{
	__m512 s[6][8];
	size_t p;

#pragma GCC unroll 6
	for (int i = 0; i < mr; i++)
#pragma GCC unroll 8
		for (int j = 0; j < nr; j++)
			s[i][j] = first ? _mm512_setzero_ps() : part[j].s[i];
	for (p = 0; p + LANES <= k; p += LANES)
		nt_step(s, a + p, lda, skip(b, p, is_bf16), ldb, 0xffff, mr,
		    nr, is_bf16);
	if (p < k)
		nt_step(s, a + p, lda, skip(b, p, is_bf16), ldb,
		    mask_first(k - p), mr, nr, is_bf16);
#pragma GCC unroll 6
	for (int i = 0; i < mr; i++) {
		float *out = y + (size_t)i * ldy;

		if (last && nr == 1)
			fold1(out, s[i][0]);
		if (last)
#pragma GCC unroll 2
			for (int j = 0; j + 4 <= nr; j += 4)
				fold4(out + j, s[i][j], s[i][j + 1],
				    s[i][j + 2], s[i][j + 3]);
		else
#pragma GCC unroll 8
			for (int j = 0; j < nr; j++)
				part[j].s[i] = s[i][j];
	}
}

/* mr rows of y and n <= NT_COLS columns, nr at a time, kc of k at a time. */
ALWAYS_INLINE void
nt_rows(float *y, size_t ldy, const float *a, size_t lda, const void *b,
    size_t ldb, size_t n, size_t k, size_t kc, int mr, int nr, int is_bf16)
{
	struct nt_part part[NT_COLS];
	size_t p = 0;

	do {
		const size_t kn = k - p < kc ? k - p : kc;
		const void *bp = skip(b, p, is_bf16);
		const int first = p == 0, last = k - p <= kc;
		size_t j = 0;

		for (; j + (size_t)nr <= n; j += (size_t)nr)
			nt_tile(y + j, ldy, a + p, lda, skip(bp, j * ldb,
			    is_bf16), ldb, kn, &part[j], first, last, mr, nr,
			    is_bf16);
		for (; j < n; j++)
			nt_tile(y + j, ldy, a + p, lda, skip(bp, j * ldb,
			    is_bf16), ldb, kn, &part[j], first, last, mr, 1,
			    is_bf16);
		p += kn;
	} while (p < k);
}

/* See avx2/gemm_f32.c for the blocks. */
ALWAYS_INLINE void
nt(float *y, size_t ldy, const float *a, size_t lda, const void *b,
    size_t ldb, size_t m, size_t n, size_t k, int is_bf16)
{
	const size_t row = (k + 1) * (is_bf16 ? sizeof(uint16_t) :
	    sizeof(float));
	const size_t fit = NT_CACHE / row & ~(size_t)7;
	const size_t nc = fit < 8 ? 8 : fit < NT_COLS ? fit : NT_COLS;
	const size_t kc = m < 12 || k < NT_K + NT_K / 2 ? k : NT_K;

	for (size_t j = 0; j < n; j += nc) {
		const size_t cols = n - j < nc ? n - j : nc;
		const void *bj = skip(b, j * ldb, is_bf16);
		float *yj = y + j;
		size_t i = 0;

		for (; i + 6 <= m; i += 6)
			nt_rows(yj + i * ldy, ldy, a + i * lda, lda, bj, ldb,
			    cols, k, kc, 6, 4, is_bf16);
		for (; i + 2 <= m; i += 2)
			nt_rows(yj + i * ldy, ldy, a + i * lda, lda, bj, ldb,
			    cols, k, kc, 2, 4, is_bf16);
		if (i < m)
			nt_rows(yj + i * ldy, ldy, a + i * lda, lda, bj, ldb,
			    cols, k, kc, 1, 8, is_bf16);
	}
}

static void
nt_f32(float *y, size_t ldy, const float *a, size_t lda, const float *b,
    size_t ldb, size_t m, size_t n, size_t k)
{
	nt(y, ldy, a, lda, b, ldb, m, n, k, 0);
}

static void
nt_bf16(float *y, size_t ldy, const float *a, size_t lda, const uint16_t *b,
    size_t ldb, size_t m, size_t n, size_t k)
{
	nt(y, ldy, a, lda, b, ldb, m, n, k, 1);
}

/* ---- nn ---- */

/* mr rows by nv vectors of columns, k multiply-adds on top of y.  mask: the
 * columns of each vector that exist. */
ALWAYS_INLINE void
nn_tile(float *y, size_t ldy, const float *a, size_t lda, const void *b,
    size_t ldb, size_t k, __mmask16 mask, int mr, int nv, int is_bf16)
{
	__m512 s[6][4];

#pragma GCC unroll 6
	for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
		for (int v = 0; v < nv; v++)
			s[i][v] = _mm512_maskz_loadu_ps(mask,
			    y + (size_t)i * ldy + v * LANES);
	for (size_t p = 0; p < k; p++) {
		__m512 vb[4];

#pragma GCC unroll 4
		for (int v = 0; v < nv; v++)
			vb[v] = load16(b, p * ldb + (size_t)v * LANES, mask,
			    is_bf16);
#pragma GCC unroll 6
		for (int i = 0; i < mr; i++) {
			__m512 va = _mm512_set1_ps(a[(size_t)i * lda + p]);

#pragma GCC unroll 4
			for (int v = 0; v < nv; v++)
				s[i][v] = _mm512_fmadd_ps(va, vb[v], s[i][v]);
		}
	}
#pragma GCC unroll 6
	for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
		for (int v = 0; v < nv; v++)
			_mm512_mask_storeu_ps(y + (size_t)i * ldy + v * LANES,
			    mask, s[i][v]);
}

/* All m rows for nv vectors of columns. */
ALWAYS_INLINE void
nn_cols(float *y, size_t ldy, const float *a, size_t lda, const void *b,
    size_t ldb, size_t m, size_t k, __mmask16 mask, int nv, int is_bf16)
{
	size_t i = 0;

	for (; i + 6 <= m; i += 6)
		nn_tile(y + i * ldy, ldy, a + i * lda, lda, b, ldb, k, mask,
		    6, nv, is_bf16);
	for (; i + 2 <= m; i += 2)
		nn_tile(y + i * ldy, ldy, a + i * lda, lda, b, ldb, k, mask,
		    2, nv, is_bf16);
	if (i < m)
		nn_tile(y + i * ldy, ldy, a + i * lda, lda, b, ldb, k, mask,
		    1, nv, is_bf16);
}

/* 64 columns of b, as floats. */
ALWAYS_INLINE void
nn_pack(float *out, const void *b, size_t ldb, size_t k, int is_bf16)
{
	for (size_t p = 0; p < k; p++)
		for (size_t v = 0; v < NN_COLS; v += LANES)
			_mm512_storeu_ps(out + p * NN_COLS + v,
			    load16(b, p * ldb + v, 0xffff, is_bf16));
}

ALWAYS_INLINE void
nn(float *y, size_t ldy, const float *a, size_t lda, const void *b,
    size_t ldb, size_t m, size_t n, size_t k, int is_bf16)
{
	_Alignas(64) float panel[NN_K * NN_COLS];
	const size_t step = m < 4 ? NN_K_WIDE : m < NN_PACK ? NN_K_FEW : NN_K;

	for (size_t p = 0; p < k; p += step) {
		const size_t kb = k - p < step ? k - p : step;
		const void *bp = skip(b, p * ldb, is_bf16);
		size_t j = 0;

		for (; j + NN_COLS <= n; j += NN_COLS) {
			const void *bj = skip(bp, j, is_bf16);

			if (m < NN_PACK) {
				nn_cols(y + j, ldy, a + p, lda, bj, ldb, m, kb,
				    0xffff, 4, is_bf16);
				continue;
			}
			nn_pack(panel, bj, ldb, kb, is_bf16);
			nn_cols(y + j, ldy, a + p, lda, panel, NN_COLS, m, kb,
			    0xffff, 4, 0);
		}
		for (; j < n; j += LANES)
			nn_cols(y + j, ldy, a + p, lda, skip(bp, j, is_bf16),
			    ldb, m, kb, mask_first(n - j), 1, is_bf16);
	}
}

static void
nn_f32(float *y, size_t ldy, const float *a, size_t lda, const float *b,
    size_t ldb, size_t m, size_t n, size_t k)
{
	nn(y, ldy, a, lda, b, ldb, m, n, k, 0);
}

static void
nn_bf16(float *y, size_t ldy, const float *a, size_t lda, const uint16_t *b,
    size_t ldb, size_t m, size_t n, size_t k)
{
	nn(y, ldy, a, lda, b, ldb, m, n, k, 1);
}

void
avx512_gemm_f32(struct kern *k)
{
	k->nt_f32 = nt_f32;
	k->nt_bf16 = nt_bf16;
	k->nn_f32 = nn_f32;
	k->nn_bf16 = nn_bf16;
}
