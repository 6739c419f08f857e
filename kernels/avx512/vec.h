/*
 * vec: the vector idioms that the AVX-512 files share.  One register is the
 * 16 lanes of a sum; ends that are not whole vectors go through masks, which
 * touch nothing outside.
 *
 * t/kern runs these files on CPUs that lack AVX-512, by spelling out in C
 * each intrinsic that they use (t/kern/emu512.h): an intrinsic that is new
 * here must be added there.
 */
#ifndef DSI_KERN_AVX512_VEC_H
#define DSI_KERN_AVX512_VEC_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum { LANES = 16 };

/* The first r of 16 lanes; 16 or more gives all. */
ALWAYS_INLINE __mmask16
mask_first(size_t r)
{
	return r < LANES ? (__mmask16)((1u << r) - 1) : (__mmask16)0xffff;
}

#endif
