/*
 * ref: what the reference files share, and how each fills its part of the
 * table.  Written to be read: these loops are the contract in C.
 */
#ifndef DSI_KERN_REF_H
#define DSI_KERN_REF_H

#include <stdint.h>
#include <string.h>

#include "kern.h"

enum { LANES = 16 };

/* The end of a lanes16 sum. */
static inline float
fold16(float *s)
{
	for (int w = LANES / 2; w > 0; w /= 2)
		for (int l = 0; l < w; l++)
			s[l] += s[l + w];
	return s[0];
}

static inline float
f32_bits(uint32_t bits)
{
	float f;

	memcpy(&f, &bits, sizeof f);
	return f;
}

static inline uint32_t
bits_f32(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof bits);
	return bits;
}

static inline float
bf16_f32(uint16_t h)
{
	return f32_bits((uint32_t)h << 16);
}

void ref_gemm_f32(struct kern *k);
void ref_gemm_i8(struct kern *k);
void ref_quant(struct kern *k);
void ref_rows(struct kern *k);
void ref_format(struct kern *k);

#endif
