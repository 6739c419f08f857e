/*
 * quant (AVX2): floats to int8 and int32 sums back to floats.
 *
 * In every min and max the variable operand comes first: then NaN gives the
 * constant, as in the reference.
 */
#include <string.h>

#include "avx2/avx2.h"
#include "avx2/vec.h"

static float
absmax(const float *x, size_t n)
{
	const __m256 sign = _mm256_set1_ps(-0.0f);
	__m256 a = _mm256_setzero_ps(), b = a;
	float t[VEC], m = 0;
	size_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		a = _mm256_max_ps(_mm256_andnot_ps(sign,
		    _mm256_loadu_ps(x + i)), a);
		b = _mm256_max_ps(_mm256_andnot_ps(sign,
		    _mm256_loadu_ps(x + i + VEC)), b);
	}
	for (; i < n; i += VEC)
		a = _mm256_max_ps(_mm256_andnot_ps(sign,
		    load_first(x + i, mask_first(n - i))), a);
	_mm256_storeu_ps(t, _mm256_max_ps(a, b));
	for (int l = 0; l < VEC; l++)
		m = t[l] > m ? t[l] : m;
	return m;
}

/* Clamps to lo..127, rounds, and writes the first r bytes. */
ALWAYS_INLINE void
put_i8(int8_t *q, __m256 v, float lo, size_t r)
{
	__m256i i;
	__m128i p;

	v = _mm256_max_ps(v, _mm256_set1_ps(lo));
	v = _mm256_min_ps(v, _mm256_set1_ps(127));
	i = _mm256_cvtps_epi32(v);
	p = _mm_packs_epi32(_mm256_castsi256_si128(i),
	    _mm256_extracti128_si256(i, 1));
	p = _mm_packs_epi16(p, p);
	if (r >= VEC) {
		_mm_storel_epi64((__m128i *)(void *)q, p);
	} else {
		int8_t t[16];

		_mm_storeu_si128((__m128i *)(void *)t, p);
		memcpy(q, t, r);
	}
}

static void
quant(int8_t *q, const float *x, float scale, size_t n)
{
	const __m256 s = _mm256_set1_ps(scale);
	size_t i = 0;

	for (; i + VEC <= n; i += VEC)
		put_i8(q + i, _mm256_div_ps(_mm256_loadu_ps(x + i), s), -127,
		    VEC);
	if (i < n)
		put_i8(q + i, _mm256_div_ps(load_first(x + i,
		    mask_first(n - i)), s), -127, n - i);
}

static void
quant_vec(int8_t *q, const float *x, const float *scale, const float *offset,
    size_t n)
{
	for (size_t i = 0; i < n; i += VEC) {
		const __m256i mask = mask_first(n - i);
		__m256 v = _mm256_div_ps(load_first(x + i, mask),
		    load_first(scale + i, mask));

		put_i8(q + i, _mm256_add_ps(v, load_first(offset + i, mask)),
		    -128, n - i);
	}
}

static void
dequant(float *y, const int32_t *acc, float sx, const float *sw, size_t n)
{
	const __m256 s = _mm256_set1_ps(sx);
	size_t i = 0;

	for (; i + VEC <= n; i += VEC)
		_mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_mul_ps(
		    _mm256_cvtepi32_ps(loadi(acc + i)), s),
		    _mm256_loadu_ps(sw + i)));
	if (i < n) {
		const __m256i mask = mask_first(n - i);

		_mm256_maskstore_ps(y + i, mask, _mm256_mul_ps(_mm256_mul_ps(
		    _mm256_cvtepi32_ps(_mm256_maskload_epi32(acc + i, mask)),
		    s), load_first(sw + i, mask)));
	}
}

static void
dequant_bias(float *y, const int32_t *acc, const int32_t *bias,
    const float *sw, size_t n)
{
	size_t i = 0;

	for (; i + VEC <= n; i += VEC)
		_mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_cvtepi32_ps(
		    _mm256_add_epi32(loadi(acc + i), loadi(bias + i))),
		    _mm256_loadu_ps(sw + i)));
	if (i < n) {
		const __m256i mask = mask_first(n - i);
		__m256i v = _mm256_add_epi32(
		    _mm256_maskload_epi32(acc + i, mask),
		    _mm256_maskload_epi32(bias + i, mask));

		_mm256_maskstore_ps(y + i, mask, _mm256_mul_ps(
		    _mm256_cvtepi32_ps(v), load_first(sw + i, mask)));
	}
}

void
avx2_quant(struct kern *k)
{
	k->absmax = absmax;
	k->quant = quant;
	k->quant_vec = quant_vec;
	k->dequant = dequant;
	k->dequant_bias = dequant_bias;
}
