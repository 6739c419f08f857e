/*
 * rope: rotary frequencies and the softmax scale.
 *
 * The frequencies are rounded to float at the same places as in the published
 * model code: over a long context one bit of them is a visible angle.
 */
#include <math.h>

#include "arch/arch.h"

static const double two_pi = 6.283185307179586476925286766559;

/* The dimension pair that turns rot times within the original context. */
static double
turns(const struct arch *a, double rot)
{
	return a->rope * log(a->yarn.original / (rot * two_pi)) /
	    (2 * log(a->rope_theta));
}

static double
mscale(const struct arch *a, double m)
{
	return a->yarn.factor <= 1 ? 1 : 0.1 * m * log(a->yarn.factor) + 1;
}

static float
ramp(double lo, double hi, unsigned i)
{
	float span = (float)(hi - lo > 1e-3 ? hi - lo : 1e-3);
	float x = ((float)i - (float)lo) / span;

	return x < 0 ? 0 : x > 1 ? 1 : x;
}

void
arch_rope(const struct arch *a, float *inv, float *attn_factor,
    float *softmax_scale)
{
	double lo = 0, hi = 0, all = 1, scale;

	if (a->yarn.on) {
		lo = fmax(floor(turns(a, a->yarn.beta_fast)), 0);
		hi = fmin(ceil(turns(a, a->yarn.beta_slow)), a->rope - 1.0);
		all = mscale(a, a->yarn.mscale_all_dim);
	}
	for (unsigned i = 0; i < a->rope / 2; i++) {
		float f = (float)pow((float)a->rope_theta,
		    (float)(2 * i) / (float)a->rope);
		float r;

		inv[i] = 1 / f;
		if (!a->yarn.on)
			continue;
		r = ramp(lo, hi, i);
		inv[i] = 1 / ((float)a->yarn.factor * f) * r +
		    inv[i] * (1 - r);
	}
	scale = 1 / sqrt((double)a->nope + a->rope);
	*softmax_scale = (float)(scale * all * all);
	*attn_factor = a->yarn.on ?
	    (float)(mscale(a, a->yarn.mscale) / all) : 1;
}
