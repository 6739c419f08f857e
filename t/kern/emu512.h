/*
 * emu512: the AVX-512 intrinsics that kernels/avx512 uses, spelled out in C,
 * so that its sources are tested on CPUs that lack it.
 *
 * Include this, name the init functions apart, then include the kernel's .c
 * file: the one place where a test compiles a source of its own, because the
 * object in the library cannot run here.  Masked-off lanes touch no memory,
 * as the instructions promise, so the guards check the kernels' masks.
 */
#ifndef DSI_T_EMU512_H
#define DSI_T_EMU512_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

union emu {
	float f[16];
	int32_t i[16];
	uint32_t u[16];
	uint16_t h[32];
	int8_t b[64];
	uint8_t ub[64];
};

/* Not inlined, or the kernels' unrolled loops take a minute to compile. */
#define EMU static __attribute__((noinline, unused)) union emu
#define EMU_VOID static __attribute__((noinline, unused)) void

/* ---- memory ---- */

EMU
emu_loadu_si512(const void *p)
{
	union emu r;

	memcpy(&r, p, sizeof r);
	return r;
}

EMU_VOID
emu_storeu_512(void *p, union emu v)
{
	memcpy(p, &v, sizeof v);
}

EMU
emu_maskz_load32(unsigned mask, const void *p)
{
	union emu r = { { 0 } };

	for (int l = 0; l < 16; l++)
		if (mask >> l & 1)
			memcpy(&r.i[l], (const char *)p + 4 * l, 4);
	return r;
}

EMU
emu_maskz_load16(unsigned mask, const void *p)
{
	union emu r = { { 0 } };

	for (int l = 0; l < 16; l++)
		if (mask >> l & 1)
			memcpy(&r.h[l], (const char *)p + 2 * l, 2);
	return r;
}

EMU_VOID
emu_mask_store32(void *p, unsigned mask, union emu v)
{
	for (int l = 0; l < 16; l++)
		if (mask >> l & 1)
			memcpy((char *)p + 4 * l, &v.i[l], 4);
}

EMU_VOID
emu_mask_store8(void *p, unsigned mask, union emu v)
{
	for (int l = 0; l < 16; l++)
		if (mask >> l & 1)
			((int8_t *)p)[l] = v.b[l];
}

/* ---- lane by lane ---- */

#define EMU_OP2(name, out, expr) \
EMU \
name(union emu a, union emu b) \
{ \
	union emu r; \
\
	for (int l = 0; l < 16; l++) \
		r.out[l] = (expr); \
	return r; \
}

EMU_OP2(emu_add_ps, f, a.f[l] + b.f[l])
EMU_OP2(emu_mul_ps, f, a.f[l] * b.f[l])
EMU_OP2(emu_div_ps, f, a.f[l] / b.f[l])
EMU_OP2(emu_max_ps, f, a.f[l] > b.f[l] ? a.f[l] : b.f[l])
EMU_OP2(emu_min_ps, f, a.f[l] < b.f[l] ? a.f[l] : b.f[l])
EMU_OP2(emu_add_epi32, u, a.u[l] + b.u[l])
EMU_OP2(emu_sub_epi32, u, a.u[l] - b.u[l])
EMU_OP2(emu_xor, u, a.u[l] ^ b.u[l])

EMU
emu_set1_ps(float f)
{
	union emu r;

	for (int l = 0; l < 16; l++)
		r.f[l] = f;
	return r;
}

EMU
emu_set1_epi32(int32_t i)
{
	union emu r;

	for (int l = 0; l < 16; l++)
		r.i[l] = i;
	return r;
}

EMU
emu_abs_ps(union emu a)
{
	for (int l = 0; l < 16; l++)
		a.u[l] &= 0x7fffffff;
	return a;
}

EMU
emu_slli_epi32(union emu a, unsigned n)
{
	for (int l = 0; l < 16; l++)
		a.u[l] <<= n;
	return a;
}

EMU
emu_same(union emu a)
{
	return a;
}

/* fma where the mask is set, c elsewhere */
EMU
emu_mask3_fmadd_ps(union emu a, union emu b, union emu c, unsigned mask)
{
	for (int l = 0; l < 16; l++)
		if (mask >> l & 1)
			c.f[l] = fmaf(a.f[l], b.f[l], c.f[l]);
	return c;
}

EMU
emu_fmadd_ps(union emu a, union emu b, union emu c)
{
	return emu_mask3_fmadd_ps(a, b, c, 0xffff);
}

/* Four products of unsigned a and signed b on top of s, wrapping. */
EMU
emu_dpbusd(union emu s, union emu a, union emu b)
{
	for (int l = 0; l < 64; l++)
		s.u[l / 4] += (uint32_t)(a.ub[l] * b.b[l]);
	return s;
}

/* ---- conversions ---- */

EMU
emu_cvtepu16_epi32(union emu a)
{
	union emu r;

	for (int l = 0; l < 16; l++)
		r.u[l] = a.h[l];
	return r;
}

EMU
emu_cvtepi32_ps(union emu a)
{
	for (int l = 0; l < 16; l++)
		a.f[l] = (float)a.i[l];
	return a;
}

/* Out of range and NaN give the least integer. */
EMU
emu_cvtps_epi32(union emu a)
{
	for (int l = 0; l < 16; l++) {
		const float f = rintf(a.f[l]);

		a.i[l] = f >= -0x1p31f && f < 0x1p31f ? (int32_t)f : INT32_MIN;
	}
	return a;
}

EMU
emu_cvtsepi32_epi8(union emu a)
{
	union emu r = { { 0 } };

	for (int l = 0; l < 16; l++)
		r.b[l] = (int8_t)(a.i[l] < -128 ? -128 :
		    a.i[l] > 127 ? 127 : a.i[l]);
	return r;
}

/* ---- moving lanes ---- */

/* Groups of four lanes: two of a, then two of b. */
EMU
emu_shuffle_f32x4(union emu a, union emu b, unsigned how)
{
	union emu r;

	for (int l = 0; l < 16; l++) {
		const unsigned from = how >> l / 4 * 2 & 3;

		r.u[l] = (l < 8 ? a : b).u[4 * from + (unsigned)l % 4];
	}
	return r;
}

/* The same choice inside each group of four lanes. */
EMU
emu_permute_ps(union emu a, unsigned how)
{
	union emu r;

	for (int l = 0; l < 16; l++)
		r.u[l] = a.u[(l & ~3) | (int)(how >> l % 4 * 2 & 3)];
	return r;
}

EMU
emu_permutexvar_ps(union emu idx, union emu a)
{
	union emu r;

	for (int l = 0; l < 16; l++)
		r.u[l] = a.u[idx.u[l] & 15];
	return r;
}

#define __m512 union emu
#define __m512i union emu
#define __m256i union emu
#define __m128i union emu

#define _mm512_loadu_si512 emu_loadu_si512
#define _mm512_storeu_si512 emu_storeu_512
#define _mm512_storeu_ps emu_storeu_512
#undef _mm512_maskz_loadu_ps
#define _mm512_maskz_loadu_ps emu_maskz_load32
#define _mm512_maskz_loadu_epi32 emu_maskz_load32
#define _mm256_maskz_loadu_epi16 emu_maskz_load16
#define _mm512_mask_storeu_ps emu_mask_store32
#define _mm_mask_storeu_epi8 emu_mask_store8
#define _mm512_setzero_ps() emu_set1_ps(0)
#define _mm512_setzero_si512() emu_set1_epi32(0)
#define _mm512_set1_ps emu_set1_ps
#define _mm512_set1_epi32 emu_set1_epi32
#undef _mm512_setr_epi32
#define _mm512_setr_epi32(...) (union emu){ .i = { __VA_ARGS__ } }
#define _mm512_add_ps emu_add_ps
#define _mm512_mul_ps emu_mul_ps
#define _mm512_div_ps emu_div_ps
#define _mm512_max_ps emu_max_ps
#define _mm512_min_ps emu_min_ps
#define _mm512_abs_ps emu_abs_ps
#define _mm512_add_epi32 emu_add_epi32
#define _mm512_sub_epi32 emu_sub_epi32
#define _mm512_xor_si512 emu_xor
#undef _mm512_slli_epi32
#define _mm512_slli_epi32 emu_slli_epi32
#define _mm512_castsi512_ps emu_same
#define _mm512_fmadd_ps emu_fmadd_ps
#define _mm512_mask3_fmadd_ps emu_mask3_fmadd_ps
#define _mm512_dpbusd_epi32 emu_dpbusd
#define _mm512_cvtepu16_epi32 emu_cvtepu16_epi32
#define _mm512_cvtepi32_ps emu_cvtepi32_ps
#define _mm512_cvtps_epi32 emu_cvtps_epi32
#define _mm512_cvtsepi32_epi8 emu_cvtsepi32_epi8
#undef _mm512_shuffle_f32x4
#define _mm512_shuffle_f32x4 emu_shuffle_f32x4
#undef _mm512_permute_ps
#define _mm512_permute_ps emu_permute_ps
#define _mm512_permutexvar_ps emu_permutexvar_ps

#endif
