/*
 * vec: the vector idioms that the AVX2 files share.
 *
 * A group of 16 lanes is two registers, lanes 0-7 and 8-15.  Ends that are
 * not whole vectors go through masked loads and stores, which touch nothing
 * outside the mask, or through small padded copies.
 */
#ifndef DSI_KERN_AVX2_VEC_H
#define DSI_KERN_AVX2_VEC_H

#include <immintrin.h>
#include <stdint.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum { VEC = 8, LANES = 16 };

/* Keeps a loaded vector in its register: the compiler would rather load it
 * again for each use, and loads are what these loops run out of. */
ALWAYS_INLINE __m256
keep(__m256 v)
{
	__asm__ ("" : "+x"(v));
	return v;
}

/* The first r of 8 lanes set, 0 <= r; 8 or more sets all. */
ALWAYS_INLINE __m256i
mask_first(size_t r)
{
	static const int32_t tab[16] = { -1, -1, -1, -1, -1, -1, -1, -1 };

	return _mm256_loadu_si256((const __m256i *)
	    (const void *)(tab + VEC - (r < VEC ? r : VEC)));
}

ALWAYS_INLINE __m256
load_first(const float *p, __m256i mask)
{
	return _mm256_maskload_ps(p, mask);
}

ALWAYS_INLINE __m256i
loadi(const void *p)
{
	return _mm256_loadu_si256(p);
}

ALWAYS_INLINE __m256
load_bf16(const uint16_t *p)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(
	    _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p)), 16));
}

/* The end of two lanes16 sums at once: [0] and [4] hold them. */
ALWAYS_INLINE __m256
fold16_pair(__m256 a_lo, __m256 a_hi, __m256 b_lo, __m256 b_hi)
{
	__m256 a = _mm256_add_ps(a_lo, a_hi), b = _mm256_add_ps(b_lo, b_hi);
	__m256 s = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20),
	    _mm256_permute2f128_ps(a, b, 0x31));

	s = _mm256_add_ps(s, _mm256_permute_ps(s, 0x0e));
	return _mm256_add_ps(s, _mm256_permute_ps(s, 0x01));
}

ALWAYS_INLINE float
fold16(__m256 lo, __m256 hi)
{
	return _mm256_cvtss_f32(fold16_pair(lo, hi, lo, hi));
}

/* kern_expf of each lane: the same constants, the same order.  The minimum
 * has x second, so that NaN passes. */
ALWAYS_INLINE __m256
exp8(__m256 x)
{
	const __m256 hi = _mm256_set1_ps(88.37626f);
	const __m256 lo = _mm256_set1_ps(-87.33654f);
	const __m256 one = _mm256_set1_ps(1.0f);
	const __m256 zero = _mm256_cmp_ps(x, lo, _CMP_LT_OQ);
	__m256 t, r, p;
	__m256i e;

	x = _mm256_min_ps(hi, x);
	t = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)),
	    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	r = _mm256_fmadd_ps(t, _mm256_set1_ps(-0x1.62e43p-1f), x);
	r = _mm256_fmadd_ps(t, _mm256_set1_ps(0x1.05c61p-29f), r);
	p = _mm256_set1_ps(0x1.6a2434p-10f);
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.1239e2p-7f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.5558f2p-5f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.555492p-3f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.fffffcp-2f));
	p = _mm256_fmadd_ps(p, r, one);
	p = _mm256_fmadd_ps(p, r, one);
	e = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(t),
	    _mm256_set1_epi32(127)), 23);
	return _mm256_andnot_ps(zero,
	    _mm256_mul_ps(p, _mm256_castsi256_ps(e)));
}

#endif
