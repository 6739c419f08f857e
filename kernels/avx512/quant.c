/*
 * quant (AVX-512): floats to int8 and int32 sums back to floats.
 *
 * Each loop runs masked from start to end: a full mask costs nothing.  As in
 * AVX2, the variable operand of min and max comes first, for NaN.
 */
#include "avx512/avx512.h"
#include "avx512/vec.h"

static float
absmax(const float *x, size_t n)
{
	__m512 a = _mm512_setzero_ps(), b = a;
	float t[LANES], m = 0;

	for (size_t i = 0; i < n; i += 2 * (size_t)LANES) {
		const size_t r = n - i;

		a = _mm512_max_ps(_mm512_abs_ps(_mm512_maskz_loadu_ps(
		    mask_first(r), x + i)), a);
		if (r > LANES)
			b = _mm512_max_ps(_mm512_abs_ps(
			    _mm512_maskz_loadu_ps(mask_first(r - LANES),
			    x + i + LANES)), b);
	}
	_mm512_storeu_ps(t, _mm512_max_ps(a, b));
	for (int l = 0; l < LANES; l++)
		m = t[l] > m ? t[l] : m;
	return m;
}

/* Clamps to lo..127, rounds, and writes the bytes in mask. */
ALWAYS_INLINE void
put_i8(int8_t *q, __mmask16 mask, __m512 v, float lo)
{
	v = _mm512_max_ps(v, _mm512_set1_ps(lo));
	v = _mm512_min_ps(v, _mm512_set1_ps(127));
	_mm_mask_storeu_epi8(q, mask,
	    _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v)));
}

static void
quant(int8_t *q, const float *x, float scale, size_t n)
{
	const __m512 s = _mm512_set1_ps(scale);

	for (size_t i = 0; i < n; i += LANES) {
		const __mmask16 mask = mask_first(n - i);

		put_i8(q + i, mask, _mm512_div_ps(
		    _mm512_maskz_loadu_ps(mask, x + i), s), -127);
	}
}

static void
quant_vec(int8_t *q, const float *x, const float *scale, const float *offset,
    size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		const __mmask16 mask = mask_first(n - i);
		__m512 v = _mm512_div_ps(_mm512_maskz_loadu_ps(mask, x + i),
		    _mm512_maskz_loadu_ps(mask, scale + i));

		put_i8(q + i, mask, _mm512_add_ps(v,
		    _mm512_maskz_loadu_ps(mask, offset + i)), -128);
	}
}

static void
dequant(float *y, const int32_t *acc, float sx, const float *sw, size_t n)
{
	const __m512 s = _mm512_set1_ps(sx);

	for (size_t i = 0; i < n; i += LANES) {
		const __mmask16 mask = mask_first(n - i);
		__m512 v = _mm512_cvtepi32_ps(
		    _mm512_maskz_loadu_epi32(mask, acc + i));

		_mm512_mask_storeu_ps(y + i, mask, _mm512_mul_ps(
		    _mm512_mul_ps(v, s),
		    _mm512_maskz_loadu_ps(mask, sw + i)));
	}
}

static void
dequant_bias(float *y, const int32_t *acc, const int32_t *bias,
    const float *sw, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		const __mmask16 mask = mask_first(n - i);
		__m512i v = _mm512_add_epi32(
		    _mm512_maskz_loadu_epi32(mask, acc + i),
		    _mm512_maskz_loadu_epi32(mask, bias + i));

		_mm512_mask_storeu_ps(y + i, mask, _mm512_mul_ps(
		    _mm512_cvtepi32_ps(v),
		    _mm512_maskz_loadu_ps(mask, sw + i)));
	}
}

void
avx512_quant(struct kern *k)
{
	k->absmax = absmax;
	k->quant = quant;
	k->quant_vec = quant_vec;
	k->dequant = dequant;
	k->dequant_bias = dequant_bias;
}
