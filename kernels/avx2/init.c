/*
 * avx2: 256-bit vectors and FMA; it overrides the whole table.
 */
#include "avx2/avx2.h"

void
kern_init_avx2(struct kern *k)
{
	avx2_gemm_f32(k);
	avx2_gemm_i8(k);
	avx2_quant(k);
	avx2_rows(k);
	avx2_format(k);
}
