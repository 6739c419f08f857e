/*
 * cpu: which instruction sets may be used here.
 *
 * A CPU that knows AVX is not enough: the operating system must also save the
 * wide registers when it switches tasks, which XCR0 tells.  A rung is granted
 * only with everything its folder is compiled for, so AVX2 asks for FMA and
 * F16C too.
 */
#include <string.h>

#include "kern.h"

#ifdef __x86_64__
#include <cpuid.h>

enum {
	XCR0_YMM = 0x06,		/* SSE and AVX state */
	XCR0_ZMM = 0xe6,		/* and the three parts of AVX-512 */
};

static unsigned
xcr0(void)
{
	unsigned lo, hi;

	__asm__ volatile ("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return lo;
}

unsigned
cpu_flags(void)
{
	const unsigned want1 = bit_FMA | bit_OSXSAVE | bit_AVX | bit_F16C;
	const unsigned want7 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ |
	    bit_AVX512VL;
	unsigned a, b, c, d, os;

	if (!__get_cpuid(1, &a, &b, &c, &d) || (c & want1) != want1)
		return 0;
	os = xcr0();
	if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2) ||
	    (os & XCR0_YMM) != XCR0_YMM)
		return 0;
	if ((b & want7) != want7 || (os & XCR0_ZMM) != XCR0_ZMM)
		return CPU_AVX2;
	if (!(c & bit_AVX512VNNI))
		return CPU_AVX2 | CPU_AVX512;
	return CPU_AVX2 | CPU_AVX512 | CPU_AVX512VNNI;
}
#else
unsigned
cpu_flags(void)
{
	return 0;
}
#endif

/* flags: what is left when this rung is the highest; below: when it is the
 * first that may not be used. */
static const struct word {
	const char *name;
	unsigned flags, below;
} words[] = {
	{ "ref", 0, 0 },
	{ "avx2", CPU_AVX2, 0 },
	{ "avx512", CPU_AVX2 | CPU_AVX512, CPU_AVX2 },
	{ "avx512vnni", CPU_AVX2 | CPU_AVX512 | CPU_AVX512VNNI,
	    CPU_AVX2 | CPU_AVX512 },
	{ "vnni", CPU_AVX2 | CPU_AVX512 | CPU_AVX512VNNI,
	    CPU_AVX2 | CPU_AVX512 },
};

static const struct word *
word_find(const char *s, size_t n)
{
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strlen(words[i].name) == n &&
		    memcmp(words[i].name, s, n) == 0)
			return &words[i];
	return NULL;
}

int
cpu_mask(const char *word, unsigned *flags)
{
	unsigned left = *flags;
	const struct word *w;
	size_t n;
	int minus;

	while (word) {
		minus = *word == '-';
		word += minus;
		n = strcspn(word, ",");
		if ((w = word_find(word, n)) == NULL ||
		    (minus && w->name == words[0].name))
			return -1;
		left &= minus ? w->below : w->flags;
		word = word[n] ? word + n + 1 : NULL;
	}
	*flags = left;
	return 0;
}
