/*
 * format (AVX2): bf16 and fp8 (e4m3fn) to and from float.
 *
 * The fp8 value is built from integers, because a multiplication by 2^120
 * would take denormal operands, which are slow.
 */
#include <string.h>

#include "avx2/avx2.h"
#include "avx2/vec.h"

static void
from_bf16(float *y, const uint16_t *x, size_t n)
{
	size_t i = 0;

	for (; i + VEC <= n; i += VEC)
		_mm256_storeu_ps(y + i, load_bf16(x + i));
	if (i < n) {
		uint16_t t[VEC] = { 0 };

		memcpy(t, x + i, (n - i) * sizeof *t);
		_mm256_maskstore_ps(y + i, mask_first(n - i), load_bf16(t));
	}
}

ALWAYS_INLINE __m128i
round_bf16(__m256 f)
{
	const __m256i u = _mm256_castps_si256(f);
	const __m256i high = _mm256_srli_epi32(u, 16);
	const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
	const __m256i nan = _mm256_castps_si256(
	    _mm256_cmp_ps(f, f, _CMP_UNORD_Q));
	__m256i r = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(u,
	    _mm256_set1_epi32(0x7fff)), odd), 16);

	r = _mm256_blendv_epi8(r, _mm256_or_si256(high,
	    _mm256_set1_epi32(0x40)), nan);
	return _mm_packus_epi32(_mm256_castsi256_si128(r),
	    _mm256_extracti128_si256(r, 1));
}

static void
to_bf16(uint16_t *y, const float *x, size_t n)
{
	size_t i = 0;

	for (; i + VEC <= n; i += VEC)
		_mm_storeu_si128((__m128i *)(void *)(y + i),
		    round_bf16(_mm256_loadu_ps(x + i)));
	if (i < n) {
		uint16_t t[VEC];

		_mm_storeu_si128((__m128i *)(void *)t, round_bf16(
		    load_first(x + i, mask_first(n - i))));
		memcpy(y + i, t, (n - i) * sizeof *t);
	}
}

/* 8 bytes at p.  Normal: exponent bias 7 becomes 127.  Below 8: m * 2^-9. */
ALWAYS_INLINE __m256
load_f8(const uint8_t *p)
{
	const __m256i v = _mm256_cvtepu8_epi32(
	    _mm_loadl_epi64((const void *)p));
	const __m256i m = _mm256_and_si256(v, _mm256_set1_epi32(0x7f));
	const __m256i sign = _mm256_slli_epi32(_mm256_xor_si256(v, m), 24);
	const __m256i normal = _mm256_add_epi32(_mm256_slli_epi32(m, 20),
	    _mm256_set1_epi32(120 << 23));
	const __m256i small = _mm256_castps_si256(_mm256_mul_ps(
	    _mm256_cvtepi32_ps(m), _mm256_set1_ps(0x1p-9f)));
	const __m256i is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(8), m);
	const __m256i nan = _mm256_and_si256(_mm256_cmpeq_epi32(m,
	    _mm256_set1_epi32(0x7f)), _mm256_set1_epi32(0x7fc00000));
	__m256i r = _mm256_blendv_epi8(normal, small, is_small);

	r = _mm256_or_si256(_mm256_or_si256(r, nan), sign);
	return _mm256_castsi256_ps(r);
}

static void
from_f8(float *y, const uint8_t *x, float scale, size_t n)
{
	const __m256 s = _mm256_set1_ps(scale);
	size_t i = 0;

	for (; i + VEC <= n; i += VEC)
		_mm256_storeu_ps(y + i, _mm256_mul_ps(load_f8(x + i), s));
	if (i < n) {
		uint8_t t[VEC] = { 0 };

		memcpy(t, x + i, n - i);
		_mm256_maskstore_ps(y + i, mask_first(n - i),
		    _mm256_mul_ps(load_f8(t), s));
	}
}

void
avx2_format(struct kern *k)
{
	k->from_bf16 = from_bf16;
	k->to_bf16 = to_bf16;
	k->from_f8 = from_f8;
}
