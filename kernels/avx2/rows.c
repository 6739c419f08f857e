/*
 * rows (AVX2): what happens to one row of floats between the products.
 */
#include <math.h>
#include <string.h>

#include "avx2/avx2.h"
#include "avx2/vec.h"

static float
sum_squares(const float *x, size_t n)
{
	__m256 lo = _mm256_setzero_ps(), hi = lo, v;
	size_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		v = _mm256_loadu_ps(x + i);
		lo = _mm256_fmadd_ps(v, v, lo);
		v = _mm256_loadu_ps(x + i + VEC);
		hi = _mm256_fmadd_ps(v, v, hi);
	}
	if (i < n) {
		v = load_first(x + i, mask_first(n - i));
		lo = _mm256_fmadd_ps(v, v, lo);
	}
	if (i + VEC < n) {
		v = load_first(x + i + VEC, mask_first(n - i - VEC));
		hi = _mm256_fmadd_ps(v, v, hi);
	}
	return fold16(lo, hi);
}

static void
rmsnorm(float *y, const float *x, const float *w, const float *b, float eps,
    size_t n)
{
	const float r = 1 / sqrtf(sum_squares(x, n) / (float)n + eps);
	const __m256 vr = _mm256_set1_ps(r);
	size_t i = 0;
	__m256 v;

	for (; i + VEC <= n; i += VEC) {
		v = _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + i), vr),
		    _mm256_loadu_ps(w + i));
		if (b)
			v = _mm256_add_ps(v, _mm256_loadu_ps(b + i));
		_mm256_storeu_ps(y + i, v);
	}
	if (i < n) {
		const __m256i mask = mask_first(n - i);

		v = _mm256_mul_ps(_mm256_mul_ps(load_first(x + i, mask), vr),
		    load_first(w + i, mask));
		if (b)
			v = _mm256_add_ps(v, load_first(b + i, mask));
		_mm256_maskstore_ps(y + i, mask, v);
	}
}

ALWAYS_INLINE __m256
silu8(__m256 g, __m256 u)
{
	const __m256 e = exp8(_mm256_xor_ps(g, _mm256_set1_ps(-0.0f)));

	return _mm256_mul_ps(_mm256_div_ps(g,
	    _mm256_add_ps(_mm256_set1_ps(1.0f), e)), u);
}

static void
silu_mul(float *y, const float *g, const float *u, size_t n)
{
	size_t i = 0;

	for (; i + VEC <= n; i += VEC)
		_mm256_storeu_ps(y + i, silu8(_mm256_loadu_ps(g + i),
		    _mm256_loadu_ps(u + i)));
	if (i < n) {
		const __m256i mask = mask_first(n - i);

		_mm256_maskstore_ps(y + i, mask, silu8(
		    load_first(g + i, mask), load_first(u + i, mask)));
	}
}

/* A lane changes only if x is greater, so lanes past the end get -inf. */
ALWAYS_INLINE __m256
max_first(const float *x, size_t r, __m256 m)
{
	const __m256i mask = mask_first(r);

	return _mm256_max_ps(_mm256_blendv_ps(_mm256_set1_ps(-INFINITY),
	    load_first(x, mask), _mm256_castsi256_ps(mask)), m);
}

static float
max(const float *x, size_t n)
{
	__m256 lo = _mm256_set1_ps(-INFINITY), hi = lo;
	float t[VEC];
	size_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		lo = _mm256_max_ps(_mm256_loadu_ps(x + i), lo);
		hi = _mm256_max_ps(_mm256_loadu_ps(x + i + VEC), hi);
	}
	if (i < n)
		lo = max_first(x + i, n - i, lo);
	if (i + VEC < n)
		hi = max_first(x + i + VEC, n - i - VEC, hi);
	_mm256_storeu_ps(t, _mm256_max_ps(hi, lo));
	for (int w = VEC / 2; w > 0; w /= 2)
		for (int l = 0; l < w; l++)
			t[l] = t[l + w] > t[l] ? t[l + w] : t[l];
	return t[0];
}

/* Lanes past the end add +0, which changes no sum of exponentials. */
ALWAYS_INLINE __m256
exp_first(float *x, __m256 sub, size_t r, __m256 sum)
{
	const __m256i mask = mask_first(r);
	const __m256 v = exp8(_mm256_sub_ps(load_first(x, mask), sub));

	_mm256_maskstore_ps(x, mask, v);
	return _mm256_add_ps(sum, _mm256_and_ps(v,
	    _mm256_castsi256_ps(mask)));
}

static float
exp_sum(float *x, float sub, size_t n)
{
	const __m256 vsub = _mm256_set1_ps(sub);
	__m256 lo = _mm256_setzero_ps(), hi = lo;
	size_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		__m256 a = exp8(_mm256_sub_ps(_mm256_loadu_ps(x + i), vsub));
		__m256 b = exp8(_mm256_sub_ps(_mm256_loadu_ps(x + i + VEC),
		    vsub));

		_mm256_storeu_ps(x + i, a);
		_mm256_storeu_ps(x + i + VEC, b);
		lo = _mm256_add_ps(lo, a);
		hi = _mm256_add_ps(hi, b);
	}
	if (i < n)
		lo = exp_first(x + i, vsub, n - i, lo);
	if (i + VEC < n)
		hi = exp_first(x + i + VEC, vsub, n - i - VEC, hi);
	return fold16(lo, hi);
}

/* Adding 1.5 * 2^52 to a double below 2^51 leaves its rounded value in the
 * lower bits: the conversion that AVX2 does not have. */
static __m256i
fix4(__m256d va, const float *x)
{
	const __m256d most = _mm256_set1_pd(0x1p50);
	const __m256d magic = _mm256_set1_pd(0x1.8p52);
	__m256d v = _mm256_mul_pd(_mm256_mul_pd(va,
	    _mm256_cvtps_pd(_mm_loadu_ps(x))), _mm256_set1_pd(0x1p32));

	v = _mm256_min_pd(v, most);		/* NaN gives the second */
	v = _mm256_max_pd(v, _mm256_set1_pd(-0x1p50));
	return _mm256_sub_epi64(_mm256_castpd_si256(_mm256_add_pd(v, magic)),
	    _mm256_castpd_si256(magic));
}

static void
fix_axpy(int64_t *z, float a, const float *x, size_t n)
{
	const __m256d va = _mm256_set1_pd((double)a);
	float last[4] = { 0 };
	int64_t sum[4];
	size_t i = 0;

	for (; i + 4 <= n; i += 4) {
		__m256i *at = (__m256i *)(void *)(z + i);

		_mm256_storeu_si256(at, _mm256_add_epi64(
		    _mm256_loadu_si256(at), fix4(va, x + i)));
	}
	if (i == n)
		return;
	memcpy(last, x + i, (n - i) * sizeof *x);
	_mm256_storeu_si256((__m256i *)(void *)sum, fix4(va, last));
	for (size_t j = 0; i + j < n; j++)
		z[i + j] += sum[j];
}

static void
scale(float *y, float a, size_t n)
{
	for (size_t i = 0; i < n; i++)	/* the compiler's own vectors do */
		y[i] *= a;
}

static void
add(float *y, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] += x[i];
}

void
avx2_rows(struct kern *k)
{
	k->rmsnorm = rmsnorm;
	k->silu_mul = silu_mul;
	k->max = max;
	k->exp_sum = exp_sum;
	k->fix_axpy = fix_axpy;
	k->scale = scale;
	k->add = add;
}
