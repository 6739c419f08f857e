/*
 * convert: rows of weights from one dtype to another.
 *
 * Written out in plain C, not through the kernel table: converting a model
 * happens once, and its bytes must not depend on which kernels are on.
 */
#include <math.h>
#include <string.h>

#include "shard/shard_priv.h"

static inline float
from_bits(uint32_t u)
{
	float x;

	memcpy(&x, &u, 4);
	return x;
}

static float
f16_to_f32(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16;
	uint32_t ex = h >> 10 & 31, m = h & 1023;

	if (ex == 31)
		return from_bits(sign | 0x7f800000 | m << 13);
	if (ex == 0) {
		float x = (float)m * 0x1p-24f;

		return sign ? -x : x;
	}
	return from_bits(sign | (ex + 112) << 23 | m << 13);
}

/* e4m3fn: no infinity, 0x7f and 0xff are NaN */
static float
f8_to_f32(unsigned char b)
{
	unsigned ex = b >> 3 & 15, m = b & 7;
	float x;

	if ((b & 0x7f) == 0x7f)
		x = NAN;
	else if (ex == 0)
		x = (float)m * 0x1p-9f;
	else
		x = from_bits((ex + 120) << 23 | m << 20);
	return b & 0x80 ? -x : x;
}

static void
row_float(float *out, const unsigned char *in, enum dtype t, size_t k)
{
	uint16_t h;

	if (t == DT_F32) {
		memcpy(out, in, 4 * k);
		return;
	}
	for (size_t i = 0; i < k; i++) {
		memcpy(&h, in + 2 * i, 2);
		out[i] = t == DT_BF16 ? from_bits((uint32_t)h << 16) :
		    f16_to_f32(h);
	}
}

static void
row_f8(float *out, const unsigned char *in, const float *table, float scale,
    size_t k)
{
	for (size_t i = 0; i < k; i++)
		out[i] = table[in[i]] * scale;
}

static void
row_i8(float *out, const unsigned char *in, float scale, size_t k)
{
	for (size_t i = 0; i < k; i++)
		out[i] = (float)(int8_t)in[i] * scale;
}

/* Row r of a block-scaled layer: fp8 with table, else int8. */
static void
row_blocks(float *out, const unsigned char *in, const struct ckpt_lin *l,
    const struct scales *s, const float *table, unsigned r)
{
	size_t nb = (l->k + LIN_BLOCK - 1) / LIN_BLOCK;
	const float *scale = s->block + r / LIN_BLOCK * nb;

	for (size_t b = 0; b < nb; b++) {
		size_t at = b * LIN_BLOCK, k = l->k - at;

		if (k > LIN_BLOCK)
			k = LIN_BLOCK;
		if (table)
			row_f8(out + at, in + at, table, scale[b], k);
		else
			row_i8(out + at, in + at, scale[b], k);
	}
}

void
rows_to_f32(float *out, const void *in, const struct ckpt_lin *l,
    const struct scales *s, unsigned r0, unsigned nr)
{
	const unsigned char *p = in;
	float table[256];

	if (l->kind == LIN_F8)
		for (int b = 0; b < 256; b++)
			table[b] = f8_to_f32((unsigned char)b);
	for (unsigned r = r0; r < r0 + nr; r++) {
		if (l->kind == LIN_FLOAT)
			row_float(out, p, l->dtype, l->k);
		else if (l->kind == LIN_F8)
			row_blocks(out, p, l, s, table, r);
		else if (l->kind == LIN_I8_BLOCK)
			row_blocks(out, p, l, s, NULL, r);
		else
			row_i8(out, p, s->row[r], l->k);
		out += l->k;
		p += (size_t)l->k * dtype_size(l->dtype);
	}
}

/* Ties to even; a NaN stays one. */
void
f32_to_bf16(uint16_t *out, const float *in, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t u, r;

		memcpy(&u, in + i, 4);
		r = (u + 0x7fff + (u >> 16 & 1)) >> 16;
		if ((u & 0x7fffffff) > 0x7f800000)
			r = u >> 16 | 0x40;
		out[i] = (uint16_t)r;
	}
}

/* Bits of the largest |x|: as integers they sort like the numbers, with
 * infinity and NaN above all finite ones. */
static uint32_t
max_bits(const float *x, size_t n)
{
	uint32_t max = 0;

	for (size_t i = 0; i < n; i++) {
		uint32_t u;

		memcpy(&u, x + i, 4);
		u &= 0x7fffffff;
		max = u > max ? u : max;
	}
	return max;
}

int
rows_quantize(int8_t *out, float *scale, const float *in, unsigned nr,
    unsigned k, unsigned *bad)
{
	const float magic = 0x1.8p23f;	/* adding it rounds to integers */

	for (unsigned r = 0; r < nr; r++, in += k, out += k) {
		uint32_t max = max_bits(in, k);
		float s = from_bits(max) / 127.0f;

		*bad = r;
		if (max >= 0x7f800000)
			return -1;
		s = s > 1e-12f ? s : 1e-12f;
		scale[r] = s;
		for (unsigned i = 0; i < k; i++) {
			float q = in[i] / s;

			q = q > 127.0f ? 127.0f : q;
			q = q < -127.0f ? -127.0f : q;
			out[i] = (int8_t)(int)((q + magic) - magic);
		}
	}
	return 0;
}
