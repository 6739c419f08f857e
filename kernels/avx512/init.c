/*
 * avx512: 512-bit vectors; and VNNI, whose byte products are a rung of their
 * own because the first CPUs with AVX-512 lack them.
 */
#include "avx512/avx512.h"

void
kern_init_avx512(struct kern *k)
{
	avx512_gemm_f32(k);
	avx512_quant(k);
}

void
kern_init_avx512vnni(struct kern *k)
{
	avx512_gemm_i8(k);
}
