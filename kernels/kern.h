/*
 * kern: the table of compute kernels, and its contract.
 *
 * kern_init fills the table from the portable reference (kernels/ref) and then
 * lets each instruction set that the CPU has overwrite what it does better.
 *
 * Same bits on every rung.  Each float kernel states the order in which it
 * adds, and every family keeps it; so a test compares with the reference for
 * equality, and a cluster of unlike machines still agrees.  Two orders occur:
 *
 *   lanes16   sum over k: lane l (0..15) adds the elements k = l (mod 16) in
 *             rising k, each by one fused multiply-add from +0; then lanes
 *             fold: l += l+8 (8 sums), l += l+4, l += l+2, l += l+1.
 *   serial    one accumulator, rising k, one fused multiply-add for each.
 *
 * Neither depends on how many rows or columns the call has: that is what makes
 * a token's numbers independent of its batch.
 *
 * Common terms: m rows of activations, n outputs, k inner length; ld*: stride
 * between rows in elements.  Any size may be 0.  No kernel reads or writes
 * past the elements named; no alignment is needed unless said; outputs do not
 * overlap inputs unless said.  bf16 is uint16_t, the upper half of a float.
 * NaN and infinity follow IEEE 754; kernels neither trap nor check.
 */
#ifndef DSI_KERN_H
#define DSI_KERN_H

#include <stddef.h>
#include <stdint.h>

enum {
	KERN_TILE_N = 16,	/* outputs in one tile of int8 weights */
	KERN_TILE_K = 4,		/* inputs that stand together in it */
	KERN_I8_MAX_K = 65536,	/* int32 sums can't overflow up to here */
};

struct kern {
	const char *name;	/* of the highest rung in use: "avx512vnni" */

	/* ---- matrix products ---- */

	/* y[i][j] = sum_k a[i][k] * b[j][k], lanes16.  b: f32 [n][ldb] */
	void (*nt_f32)(float *y, size_t ldy, const float *a, size_t lda,
	    const float *b, size_t ldb, size_t m, size_t n, size_t k);
	/* the same with b in bf16 */
	void (*nt_bf16)(float *y, size_t ldy, const float *a, size_t lda,
	    const uint16_t *b, size_t ldb, size_t m, size_t n, size_t k);
	/* y[i][j] += sum_k a[i][k] * b[k][j], serial on top of y.
	 * b: f32 [k][ldb] */
	void (*nn_f32)(float *y, size_t ldy, const float *a, size_t lda,
	    const float *b, size_t ldb, size_t m, size_t n, size_t k);
	/* the same with b in bf16 */
	void (*nn_bf16)(float *y, size_t ldy, const float *a, size_t lda,
	    const uint16_t *b, size_t ldb, size_t m, size_t n, size_t k);

	/* acc[i][16t+o] = sum_k x[i][k] * w[t][k/4][o][k%4], exact.
	 * x: int8 [m][ldx], full range -128..127, 4*k4 bytes a row, whose
	 * padding past the real k is 0.  w: tiles of 64*k4 bytes, ldw bytes
	 * from one tile of 16 outputs to the next, 64-byte aligned, full
	 * range.  colsum: int32 [16*ntile], the sum of each output's weights
	 * over these k.  acc: int32 [m][ldacc], ldacc >= 16*ntile.
	 * 4*k4 <= KERN_I8_MAX_K. */
	void (*gemm_i8)(int32_t *acc, size_t ldacc, const int8_t *x, size_t ldx,
	    const int8_t *w, size_t ldw, const int32_t *colsum,
	    size_t m, size_t ntile, size_t k4);

	/* ---- int8 activations ---- */

	/* max |x|, 0 for n = 0 */
	float (*absmax)(const float *x, size_t n);
	/* q = clamp(rint(x / scale), -127, 127), ties to even, a true
	 * division.  scale > 0 */
	void (*quant)(int8_t *q, const float *x, float scale, size_t n);
	/* q = clamp(rint(x / scale[i] + offset[i]), -128, 127) */
	void (*quant_vec)(int8_t *q, const float *x, const float *scale,
	    const float *offset, size_t n);
	/* y[j] = ((float)acc[j] * sx) * sw[j] */
	void (*dequant)(float *y, const int32_t *acc, float sx,
	    const float *sw, size_t n);
	/* y[j] = (float)(acc[j] + bias[j]) * sw[j], the sum wrapping */
	void (*dequant_bias)(float *y, const int32_t *acc,
	    const int32_t *bias, const float *sw, size_t n);

	/* ---- rows ---- */

	/* y = x * r * w (+ b), r = 1 / sqrtf(lanes16 sum of x*x / n + eps),
	 * products from left to right.  b may be NULL.  y may be x. */
	void (*rmsnorm)(float *y, const float *x, const float *w,
	    const float *b, float eps, size_t n);
	/* y = g / (1 + exp(-g)) * u: exp as below, a true division, then the
	 * product.  y may be g or u. */
	void (*silu_mul)(float *y, const float *g, const float *u, size_t n);
	/* max x; -INFINITY for n = 0 */
	float (*max)(const float *x, size_t n);
	/* x[i] = exp(x[i] - sub); returns their lanes16 sum (plain adds).
	 * exp: see kern_expf */
	float (*exp_sum)(float *x, float sub, size_t n);
	/* z += a * x in units of 2^-32: the product is exact, then limited to
	 * +-2^50 units (NaN counts as +2^50) and rounded, ties to even.
	 * Sums of integers don't depend on their order. */
	void (*fix_axpy)(int64_t *z, float a, const float *x, size_t n);
	/* y *= a */
	void (*scale)(float *y, float a, size_t n);
	/* y += x */
	void (*add)(float *y, const float *x, size_t n);

	/* ---- formats ---- */

	void (*from_bf16)(float *y, const uint16_t *x, size_t n);
	/* ties to even; NaN stays NaN (quiet) */
	void (*to_bf16)(uint16_t *y, const float *x, size_t n);
	/* y = value(x) * scale.  FP8 e4m3fn: no infinity, 0x7f and 0xff NaN */
	void (*from_f8)(float *y, const uint8_t *x, float scale, size_t n);
};

/* The table of this process, valid after kern_init. */
extern struct kern kern;

/* cpu.c: what this CPU and its operating system can do. */
enum {
	CPU_AVX2 = 1 << 0,		/* with FMA and F16C */
	CPU_AVX512 = 1 << 1,		/* F, BW, DQ, VL */
	CPU_AVX512VNNI = 1 << 2,
};

unsigned cpu_flags(void);
/* Removes what mask, a list such as "avx2" or "avx512,-vnni" or "ref", does
 * not allow: each word names the highest rung wanted (ref, avx2, avx512,
 * avx512vnni).  NULL allows all.  -1: no such word. */
int cpu_mask(const char *word, unsigned *flags);

/* Fills kern with everything that flags allow.  Not thread-safe; call once,
 * before threads start (tests call it again with other flags). */
void kern_init(unsigned flags);

/* exp as all kernels compute it: with t = rintf(x * log2(e)),
 * r = fma(t, -ln2_hi, x), r = fma(t, -ln2_lo, r), a polynomial in r by fma,
 * times 2^t.  x > 88.37626 gives exp(88.37626); x < -87.33654 gives 0; NaN
 * gives NaN.  |error| <= 2 ulp. */
float kern_expf(float x);

/* Packs n x k int8 weights (row-major, ldw bytes a row) into tiles as gemm_i8
 * reads them: out [ceil(n/16)][ceil(k/4)][16][4], padding 0; colsum
 * [16*ceil(n/16)], padding 0.  Either may be NULL. */
void kern_pack_i8(int8_t *out, int32_t *colsum, const int8_t *w, size_t ldw,
    size_t n, size_t k);

static inline size_t
kern_ntile(size_t n)
{
	return (n + KERN_TILE_N - 1) / KERN_TILE_N;
}

static inline size_t
kern_k4(size_t k)
{
	return (k + KERN_TILE_K - 1) / KERN_TILE_K;
}

/* Each rung, called by kern_init only. */
void kern_init_ref(struct kern *k);
void kern_init_avx2(struct kern *k);
void kern_init_avx512(struct kern *k);
void kern_init_avx512vnni(struct kern *k);

#endif
