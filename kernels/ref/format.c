/*
 * format (reference): bf16 and fp8 (e4m3fn) to and from float.
 */
#include <math.h>

#include "ref/ref.h"

static void
from_bf16(float *y, const uint16_t *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = bf16_f32(x[i]);
}

static uint16_t
round_bf16(float f)
{
	const uint32_t u = bits_f32(f);

	if (f != f)
		return (uint16_t)(u >> 16 | 0x40);
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static void
to_bf16(uint16_t *y, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = round_bf16(x[i]);
}

/* Sign, 4 bits of exponent (bias 7), 3 of mantissa. */
static float
f8_f32(uint8_t x)
{
	const int e = x >> 3 & 15, f = x & 7;
	float v;

	if ((x & 0x7f) == 0x7f)
		v = f32_bits(0x7fc00000);
	else if (e == 0)
		v = ldexpf((float)f, -9);
	else
		v = ldexpf((float)(8 + f), e - 10);
	return x & 0x80 ? -v : v;
}

static void
from_f8(float *y, const uint8_t *x, float scale, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = f8_f32(x[i]) * scale;
}

void
ref_format(struct kern *k)
{
	k->from_bf16 = from_bf16;
	k->to_bf16 = to_bf16;
	k->from_f8 = from_f8;
}
