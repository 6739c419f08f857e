/*
 * avx2: how each file of this rung fills its part of the table.
 */
#ifndef DSI_KERN_AVX2_H
#define DSI_KERN_AVX2_H

#include "kern.h"

void avx2_gemm_f32(struct kern *k);
void avx2_gemm_i8(struct kern *k);
void avx2_quant(struct kern *k);
void avx2_rows(struct kern *k);
void avx2_format(struct kern *k);

#endif
