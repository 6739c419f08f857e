/*
 * gemm_f32 (AVX2): float products.
 *
 * nt: a tile of 3x2 outputs keeps 12 registers of sums, two for the 16 lanes
 * of each; one row alone takes 4 outputs at a time, which hides the latency
 * of the multiply-add.  The end of k goes through copies padded with +0 and
 * -0: their product -0 leaves every sum as it is, even a sum of -0.
 *
 * nn: sums stay in registers over a block of k and go back to y in between,
 * which the serial order allows.  With many rows, b is first copied (and
 * converted) into a panel of 16 columns that stays in the first cache.
 */
#include <string.h>

#include "avx2/avx2.h"
#include "avx2/vec.h"

enum {
	NT_CACHE = 192 << 10,		/* bytes of b that rows share in L2 */
	NT_COLS = 64,			/* and not more rows than this */
	NT_K = 768,			/* of k in L1, whole lanes16 */
	NN_COLS = 16,
	NN_K = 256,			/* of k in a panel: 16 KiB */
	NN_K_FEW = 32,			/* without a panel, so that b is read */
	NN_K_WIDE = 8,			/* in lines, not in columns */
	NN_PACK = 12,			/* rows from which a panel pays */
};

/* b is f32 or bf16; is_bf16 is a constant wherever these are inlined. */
ALWAYS_INLINE __m256
load8(const void *b, size_t at, int is_bf16)
{
	if (is_bf16)
		return load_bf16((const uint16_t *)b + at);
	return _mm256_loadu_ps((const float *)b + at);
}

ALWAYS_INLINE const void *
skip(const void *b, size_t at, int is_bf16)
{
	return (const char *)b +
	    at * (is_bf16 ? sizeof(uint16_t) : sizeof(float));
}

/* ---- nt ---- */

/* 16 elements of k for mr rows of a and nr of b. */
ALWAYS_INLINE void
nt_step(__m256 s[3][4][2], const float *a, size_t lda, const void *b,
    size_t ldb, int mr, int nr, int is_bf16)
{
#pragma GCC unroll 2
	for (int h = 0; h < 2; h++) {
		__m256 va[3];

#pragma GCC unroll 3
		for (int i = 0; i < mr; i++)
			va[i] = keep(_mm256_loadu_ps(a +
			    (size_t)i * lda + h * VEC));
#pragma GCC unroll 4
		for (int j = 0; j < nr; j++) {
			__m256 vb = keep(load8(b, (size_t)j * ldb +
			    (size_t)h * VEC, is_bf16));

#pragma GCC unroll 3
			for (int i = 0; i < mr; i++)
				s[i][j][h] = _mm256_fmadd_ps(va[i], vb,
				    s[i][j][h]);
		}
	}
}

/* The last r < 16 elements of k. */
ALWAYS_INLINE void
nt_tail(__m256 s[3][4][2], const float *a, size_t lda, const void *b,
    size_t ldb, size_t r, int mr, int nr, int is_bf16)
{
	float ta[3][LANES] = { { 0 } }, tb[4][LANES];

	for (int i = 0; i < mr; i++)
		memcpy(ta[i], a + (size_t)i * lda, r * sizeof **ta);
	for (int j = 0; j < nr; j++)
		for (size_t p = 0; p < LANES; p++) {
			const size_t at = (size_t)j * ldb + p;
			uint32_t bits = 0x80000000;

			if (p < r && is_bf16)
				bits = (uint32_t)((const uint16_t *)b)[at] <<
				    16;
			else if (p < r)
				memcpy(&bits, (const float *)b + at,
				    sizeof bits);
			memcpy(&tb[j][p], &bits, sizeof bits);
		}
	nt_step(s, *ta, LANES, tb, LANES, mr, nr, 0);
}

/* The sums of a tile between two chunks of k. */
struct nt_part {
	__m256 s[3][4][2];
};

ALWAYS_INLINE void
nt_fold(float *y, size_t ldy, __m256 s[3][4][2], int mr, int nr)
{
#pragma GCC unroll 3
	for (int i = 0; i < mr; i++) {
		float *out = y + (size_t)i * ldy;

		if (nr == 1)
			*out = fold16(s[i][0][0], s[i][0][1]);
#pragma GCC unroll 2
		for (int j = 0; j + 2 <= nr; j += 2) {
			__m256 f = fold16_pair(s[i][j][0], s[i][j][1],
			    s[i][j + 1][0], s[i][j + 1][1]);

			out[j] = _mm256_cvtss_f32(f);
			out[j + 1] = _mm_cvtss_f32(
			    _mm256_extractf128_ps(f, 1));
		}
	}
}

/* One chunk of k: from part unless it is the first, to y if it is the last,
 * else back to part. */
ALWAYS_INLINE void
nt_tile(float *y, size_t ldy, const float *a, size_t lda, const void *b,
    size_t ldb, size_t k, struct nt_part *part, int first, int last, int mr,
    int nr, int is_bf16)
{
	__m256 s[3][4][2];
	size_t p;

#pragma GCC unroll 3
	for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
		for (int j = 0; j < nr; j++)
#pragma GCC unroll 2
			for (int h = 0; h < 2; h++)
				s[i][j][h] = first ? _mm256_setzero_ps() :
				    part->s[i][j][h];
	for (p = 0; p + LANES <= k; p += LANES)
		nt_step(s, a + p, lda, skip(b, p, is_bf16), ldb, mr, nr,
		    is_bf16);
	if (p < k)
		nt_tail(s, a + p, lda, skip(b, p, is_bf16), ldb, k - p, mr,
		    nr, is_bf16);
	if (last) {
		nt_fold(y, ldy, s, mr, nr);
		return;
	}
#pragma GCC unroll 3
	for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
		for (int j = 0; j < nr; j++)
#pragma GCC unroll 2
			for (int h = 0; h < 2; h++)
				part->s[i][j][h] = s[i][j][h];
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

/* Rows of a pass over as many rows of b as L2 holds, before the next ones
 * are fetched.  Three rows and a long k would push each other out of L1, so
 * then k comes in chunks; one row alone only streams. */
ALWAYS_INLINE void
nt(float *y, size_t ldy, const float *a, size_t lda, const void *b,
    size_t ldb, size_t m, size_t n, size_t k, int is_bf16)
{
	const size_t row = (k + 1) * (is_bf16 ? sizeof(uint16_t) :
	    sizeof(float));
	const size_t fit = NT_CACHE / row & ~(size_t)3;
	const size_t nc = fit < 4 ? 4 : fit < NT_COLS ? fit : NT_COLS;
	const size_t kc = m < 6 || k < NT_K + NT_K / 2 ? k : NT_K;

	for (size_t j = 0; j < n; j += nc) {
		const size_t cols = n - j < nc ? n - j : nc;
		const void *bj = skip(b, j * ldb, is_bf16);
		float *yj = y + j;
		size_t i = 0;

		for (; i + 3 <= m; i += 3)
			nt_rows(yj + i * ldy, ldy, a + i * lda, lda, bj, ldb,
			    cols, k, kc, 3, 2, is_bf16);
		if (m - i == 2)
			nt_rows(yj + i * ldy, ldy, a + i * lda, lda, bj, ldb,
			    cols, k, kc, 2, 2, is_bf16);
		else if (m - i == 1)
			nt_rows(yj + i * ldy, ldy, a + i * lda, lda, bj, ldb,
			    cols, k, kc, 1, 4, is_bf16);
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

/* mr rows by nv vectors of columns, k multiply-adds on top of y. */
ALWAYS_INLINE void
nn_tile(float *y, size_t ldy, const float *a, size_t lda, const void *b,
    size_t ldb, size_t k, int mr, int nv, int is_bf16)
{
	__m256 s[6][8];

#pragma GCC unroll 6
	for (int i = 0; i < mr; i++)
#pragma GCC unroll 8
		for (int v = 0; v < nv; v++)
			s[i][v] = _mm256_loadu_ps(y + (size_t)i * ldy +
			    v * VEC);
	for (size_t p = 0; p < k; p++) {
		__m256 vb[8];

#pragma GCC unroll 8
		for (int v = 0; v < nv; v++)
			vb[v] = load8(b, p * ldb + (size_t)v * VEC, is_bf16);
#pragma GCC unroll 6
		for (int i = 0; i < mr; i++) {
			__m256 va = _mm256_broadcast_ss(a + (size_t)i * lda +
			    p);

#pragma GCC unroll 8
			for (int v = 0; v < nv; v++)
				s[i][v] = _mm256_fmadd_ps(va, vb[v], s[i][v]);
		}
	}
#pragma GCC unroll 6
	for (int i = 0; i < mr; i++)
#pragma GCC unroll 8
		for (int v = 0; v < nv; v++)
			_mm256_storeu_ps(y + (size_t)i * ldy + v * VEC,
			    s[i][v]);
}

/* All m rows for 16 columns. */
ALWAYS_INLINE void
nn_cols16(float *y, size_t ldy, const float *a, size_t lda, const void *b,
    size_t ldb, size_t m, size_t k, int is_bf16)
{
	size_t i = 0;

	for (; i + 6 <= m; i += 6)
		nn_tile(y + i * ldy, ldy, a + i * lda, lda, b, ldb, k, 6, 2,
		    is_bf16);
	if (i + 4 <= m) {
		nn_tile(y + i * ldy, ldy, a + i * lda, lda, b, ldb, k, 4, 2,
		    is_bf16);
		i += 4;
	}
	if (i + 2 <= m) {
		nn_tile(y + i * ldy, ldy, a + i * lda, lda, b, ldb, k, 2, 2,
		    is_bf16);
		i += 2;
	}
	if (i < m)
		nn_tile(y + i * ldy, ldy, a + i * lda, lda, b, ldb, k, 1, 2,
		    is_bf16);
}

/* Up to 16 columns of b, as floats, padded with 0. */
ALWAYS_INLINE void
nn_pack(float *out, const void *b, size_t ldb, size_t cols, size_t k,
    int is_bf16)
{
	if (cols == NN_COLS) {
		for (size_t p = 0; p < k; p++, out += NN_COLS) {
			_mm256_store_ps(out, load8(b, p * ldb, is_bf16));
			_mm256_store_ps(out + VEC, load8(b, p * ldb + VEC,
			    is_bf16));
		}
		return;
	}
	memset(out, 0, k * NN_COLS * sizeof *out);
	for (size_t p = 0; p < k; p++, out += NN_COLS)
		for (size_t j = 0; j < cols; j++) {
			uint32_t bits;

			if (is_bf16) {
				bits = (uint32_t)((const uint16_t *)
				    b)[p * ldb + j] << 16;
				memcpy(&out[j], &bits, sizeof bits);
			} else {
				out[j] = ((const float *)b)[p * ldb + j];
			}
		}
}

/* Fewer than 16 columns: b comes from a padded panel, and y goes through a
 * padded copy. */
static void
nn_narrow(float *y, size_t ldy, const float *a, size_t lda,
    const float *panel, size_t cols, size_t m, size_t k)
{
	float t[6 * NN_COLS];

	for (size_t i = 0; i < m; i += 6) {
		const size_t rows = m - i < 6 ? m - i : 6;

		memset(t, 0, sizeof t);
		for (size_t r = 0; r < rows; r++)
			memcpy(t + r * NN_COLS, y + (i + r) * ldy,
			    cols * sizeof *t);
		nn_cols16(t, NN_COLS, a + i * lda, lda, panel, NN_COLS, rows,
		    k, 0);
		for (size_t r = 0; r < rows; r++)
			memcpy(y + (i + r) * ldy, t + r * NN_COLS,
			    cols * sizeof *t);
	}
}

/* One to three rows would wait for their own sums in 16 columns: they take
 * more.  Returns how many columns are done. */
ALWAYS_INLINE size_t
nn_wide(float *y, size_t ldy, const float *a, size_t lda, const void *b,
    size_t ldb, size_t m, size_t n, size_t k, int is_bf16)
{
	size_t j = 0;

	if (m == 1)
		for (; j + 64 <= n; j += 64)
			nn_tile(y + j, ldy, a, lda, skip(b, j, is_bf16), ldb,
			    k, 1, 8, is_bf16);
	if (m == 2 || m == 3)
		for (; j + 32 <= n; j += 32) {
			const void *bj = skip(b, j, is_bf16);

			nn_tile(y + j, ldy, a, lda, bj, ldb, k, 2, 4, is_bf16);
			if (m == 3)
				nn_tile(y + 2 * ldy + j, ldy, a + 2 * lda,
				    lda, bj, ldb, k, 1, 4, is_bf16);
		}
	return j;
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
		size_t j = nn_wide(y, ldy, a + p, lda, bp, ldb, m, n, kb,
		    is_bf16);

		for (; j < n; j += NN_COLS) {
			const size_t cols = n - j < NN_COLS ? n - j : NN_COLS;
			const void *bj = skip(bp, j, is_bf16);

			if (cols == NN_COLS && m < NN_PACK) {
				nn_cols16(y + j, ldy, a + p, lda, bj, ldb, m,
				    kb, is_bf16);
				continue;
			}
			nn_pack(panel, bj, ldb, cols, kb, is_bf16);
			if (cols == NN_COLS)
				nn_cols16(y + j, ldy, a + p, lda, panel,
				    NN_COLS, m, kb, 0);
			else
				nn_narrow(y + j, ldy, a + p, lda, panel, cols,
				    m, kb);
		}
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
avx2_gemm_f32(struct kern *k)
{
	k->nt_f32 = nt_f32;
	k->nt_bf16 = nt_bf16;
	k->nn_f32 = nn_f32;
	k->nn_bf16 = nn_bf16;
}
