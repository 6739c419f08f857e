/*
 * gemm_f32 (reference): float products.  nt sums over 16 lanes, nn serially;
 * fmaf is always one rounding, with or without the instruction.
 */
#include <math.h>

#include "ref/ref.h"

static void
nt_f32(float *y, size_t ldy, const float *a, size_t lda, const float *b,
    size_t ldb, size_t m, size_t n, size_t k)
{
	for (size_t i = 0; i < m; i++)
		for (size_t j = 0; j < n; j++) {
			const float *x = a + i * lda, *w = b + j * ldb;
			float s[LANES] = { 0 };

			for (size_t p = 0; p < k; p++)
				s[p % LANES] = fmaf(x[p], w[p], s[p % LANES]);
			y[i * ldy + j] = fold16(s);
		}
}

static void
nt_bf16(float *y, size_t ldy, const float *a, size_t lda, const uint16_t *b,
    size_t ldb, size_t m, size_t n, size_t k)
{
	for (size_t i = 0; i < m; i++)
		for (size_t j = 0; j < n; j++) {
			const float *x = a + i * lda;
			const uint16_t *w = b + j * ldb;
			float s[LANES] = { 0 };

			for (size_t p = 0; p < k; p++)
				s[p % LANES] = fmaf(x[p], bf16_f32(w[p]),
				    s[p % LANES]);
			y[i * ldy + j] = fold16(s);
		}
}

static void
nn_f32(float *y, size_t ldy, const float *a, size_t lda, const float *b,
    size_t ldb, size_t m, size_t n, size_t k)
{
	for (size_t i = 0; i < m; i++)
		for (size_t j = 0; j < n; j++) {
			float s = y[i * ldy + j];

			for (size_t p = 0; p < k; p++)
				s = fmaf(a[i * lda + p], b[p * ldb + j], s);
			y[i * ldy + j] = s;
		}
}

static void
nn_bf16(float *y, size_t ldy, const float *a, size_t lda, const uint16_t *b,
    size_t ldb, size_t m, size_t n, size_t k)
{
	for (size_t i = 0; i < m; i++)
		for (size_t j = 0; j < n; j++) {
			float s = y[i * ldy + j];

			for (size_t p = 0; p < k; p++)
				s = fmaf(a[i * lda + p],
				    bf16_f32(b[p * ldb + j]), s);
			y[i * ldy + j] = s;
		}
}

void
ref_gemm_f32(struct kern *k)
{
	k->nt_f32 = nt_f32;
	k->nt_bf16 = nt_bf16;
	k->nn_f32 = nn_f32;
	k->nn_bf16 = nn_bf16;
}
