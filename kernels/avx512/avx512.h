/*
 * avx512: how each file of these two rungs fills its part of the table.
 */
#ifndef DSI_KERN_AVX512_H
#define DSI_KERN_AVX512_H

#include "kern.h"

void avx512_gemm_f32(struct kern *k);
void avx512_gemm_i8(struct kern *k);
void avx512_quant(struct kern *k);

#endif
