/*
 * rows (reference): what happens to one row of floats between the products.
 *
 * max folds like a lanes16 sum, because the sign of a zero depends on the
 * order; it passes over NaN.
 */
#include <math.h>

#include "ref/ref.h"

static void
rmsnorm(float *y, const float *x, const float *w, const float *b, float eps,
    size_t n)
{
	float s[LANES] = { 0 };
	float r;

	for (size_t i = 0; i < n; i++)
		s[i % LANES] = fmaf(x[i], x[i], s[i % LANES]);
	r = 1 / sqrtf(fold16(s) / (float)n + eps);
	for (size_t i = 0; i < n; i++) {
		float v = x[i] * r * w[i];

		y[i] = b ? v + b[i] : v;
	}
}

static void
silu_mul(float *y, const float *g, const float *u, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = g[i] / (1 + kern_expf(-g[i])) * u[i];
}

static float
max(const float *x, size_t n)
{
	float m[LANES];

	for (int l = 0; l < LANES; l++)
		m[l] = -INFINITY;
	for (size_t i = 0; i < n; i++)
		m[i % LANES] = x[i] > m[i % LANES] ? x[i] : m[i % LANES];
	for (int w = LANES / 2; w > 0; w /= 2)
		for (int l = 0; l < w; l++)
			m[l] = m[l + w] > m[l] ? m[l + w] : m[l];
	return m[0];
}

static float
exp_sum(float *x, float sub, size_t n)
{
	float s[LANES] = { 0 };

	for (size_t i = 0; i < n; i++) {
		x[i] = kern_expf(x[i] - sub);
		s[i % LANES] += x[i];
	}
	return fold16(s);
}

static void
fix_axpy(int64_t *z, float a, const float *x, size_t n)
{
	const double most = 0x1p50;

	for (size_t i = 0; i < n; i++) {
		double v = (double)a * (double)x[i] * 0x1p32;

		v = v < most ? v : most;	/* NaN, too */
		v = v > -most ? v : -most;
		z[i] += (int64_t)rint(v);
	}
}

static void
scale(float *y, float a, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] *= a;
}

static void
add(float *y, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] += x[i];
}

void
ref_rows(struct kern *k)
{
	k->rmsnorm = rmsnorm;
	k->silu_mul = silu_mul;
	k->max = max;
	k->exp_sum = exp_sum;
	k->fix_axpy = fix_axpy;
	k->scale = scale;
	k->add = add;
}
