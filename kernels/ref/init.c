/*
 * ref: the rung that every machine has; it fills the whole table.
 */
#include "ref/ref.h"

void
kern_init_ref(struct kern *k)
{
	ref_gemm_f32(k);
	ref_gemm_i8(k);
	ref_quant(k);
	ref_rows(k);
	ref_format(k);
}
