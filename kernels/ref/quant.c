/*
 * quant (reference): floats to int8 and int32 sums back to floats.
 *
 * The comparisons are written so that NaN takes the same branch as in the
 * x86 min and max instructions: it quantizes to the lowest value, and absmax
 * passes over it.  Clamping goes before rounding, which changes nothing (the
 * limits are whole) and keeps the conversion to int defined.
 */
#include <math.h>

#include "ref/ref.h"

static float
absmax(const float *x, size_t n)
{
	float m = 0;

	for (size_t i = 0; i < n; i++)
		m = fabsf(x[i]) > m ? fabsf(x[i]) : m;
	return m;
}

static int8_t
to_i8(float v, float lo)
{
	v = v > lo ? v : lo;
	v = v < 127 ? v : 127;
	return (int8_t)rintf(v);
}

static void
quant(int8_t *q, const float *x, float scale, size_t n)
{
	for (size_t i = 0; i < n; i++)
		q[i] = to_i8(x[i] / scale, -127);
}

static void
quant_vec(int8_t *q, const float *x, const float *scale, const float *offset,
    size_t n)
{
	for (size_t i = 0; i < n; i++)
		q[i] = to_i8(x[i] / scale[i] + offset[i], -128);
}

static void
dequant(float *y, const int32_t *acc, float sx, const float *sw, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = (float)acc[i] * sx * sw[i];
}

static void
dequant_bias(float *y, const int32_t *acc, const int32_t *bias,
    const float *sw, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = (float)(int32_t)((uint32_t)acc[i] + (uint32_t)bias[i]) *
		    sw[i];
}

void
ref_quant(struct kern *k)
{
	k->absmax = absmax;
	k->quant = quant;
	k->quant_vec = quant_vec;
	k->dequant = dequant;
	k->dequant_bias = dequant_bias;
}
