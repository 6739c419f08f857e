/*
 * gemm_i8 (reference): int8 x int8 -> int32.  Exact, so the order of adding
 * does not show; colsum is for rungs that must shift the sign of x.
 */
#include "ref/ref.h"

enum { STEP = KERN_TILE_N * KERN_TILE_K };

static int32_t
dot(const int8_t *x, const int8_t *w, size_t k4)
{
	int32_t s = 0;

	for (size_t p = 0; p < k4; p++, x += KERN_TILE_K, w += STEP)
		for (int c = 0; c < KERN_TILE_K; c++)
			s += x[c] * w[c];
	return s;
}

static void
gemm_i8(int32_t *acc, size_t ldacc, const int8_t *x, size_t ldx,
    const int8_t *w, size_t ldw, const int32_t *colsum, size_t m,
    size_t ntile, size_t k4)
{
	(void)colsum;
	for (size_t i = 0; i < m; i++)
		for (size_t j = 0; j < ntile * KERN_TILE_N; j++)
			acc[i * ldacc + j] = dot(x + i * ldx,
			    w + j / KERN_TILE_N * ldw +
			    j % KERN_TILE_N * KERN_TILE_K, k4);
}

void
ref_gemm_i8(struct kern *k)
{
	k->gemm_i8 = gemm_i8;
}
