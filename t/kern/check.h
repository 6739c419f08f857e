/*
 * check: what the kernel tests share.  Each kernel of each rung runs on the
 * same hostile data as the reference, and must give the same bits.
 *
 * Operands end (or begin) at a page that faults, so a kernel that reads past
 * them dies; the bytes on the other side and the gaps between rows hold a
 * pattern that must survive.  Usage of every test: NAME [seed].
 */
#ifndef DSI_T_CHECK_H
#define DSI_T_CHECK_H

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../unit/tap.h"
#include "kern.h"

/* ---- random data ---- */

static uint64_t check_state;

static inline uint64_t
rnd(void)
{
	uint64_t z = check_state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static inline size_t
rnd_below(size_t n)
{
	return n ? (size_t)(rnd() % n) : 0;
}

enum mode {
	M_UNIT,				/* -1..1 */
	M_WIDE,				/* any finite exponent */
	M_HUGE,				/* sums overflow */
	M_TINY,				/* products vanish, some denormal */
	M_ZERO,				/* +0 and -0 */
	M_INT,				/* small integers: many exact ties */
	M_PLUS,				/* with M_MINUS: each product and sum */
	M_MINUS,			/* rounds to -0 */
	M_BITS,				/* any bits: infinities and NaN too */
	NMODE
};

static const char *const mode_name[NMODE] = {
	"unit", "wide", "huge", "tiny", "zero", "int", "plus", "minus",
	"bits"
};

static inline float
rnd_f32(enum mode mode)
{
	const uint32_t u = (uint32_t)rnd();
	const float unit = (float)(int32_t)u * 0x1p-31f;
	uint32_t v = u;
	float f;

	switch (mode) {
	case M_UNIT:
		return unit;
	case M_HUGE:
		return unit * 0x1p127f;
	case M_TINY:
		return unit * (u & 4 ? 0x1p-70f : 0x1p-126f);
	case M_ZERO:
		return u & 1 ? -0.0f : 0.0f;
	case M_INT:
		return (float)((int)(u >> 28) - 8) / 2;
	case M_PLUS:
		return fabsf(unit) * 0x1p-80f;
	case M_MINUS:
		return -fabsf(unit) * 0x1p-80f;
	case M_WIDE:
		if ((v >> 23 & 255) == 255)
			v ^= 1u << 28;
		break;
	default:
		if (rnd_below(4))
			return unit;
		if (u & 1)
			v |= 0x7f800000;
		if ((u & 7) == 3)
			v &= 0xff800000;
	}
	memcpy(&f, &v, sizeof f);
	return f;
}

static inline void
fill_f32(float *p, size_t n, enum mode mode)
{
	for (size_t i = 0; i < n; i++)
		p[i] = rnd_f32(mode);
}

static inline void
fill_bf16(uint16_t *p, size_t n, enum mode mode)
{
	for (size_t i = 0; i < n; i++) {
		const float f = rnd_f32(mode);
		uint32_t u;

		memcpy(&u, &f, sizeof u);
		p[i] = (uint16_t)(u >> 16);
	}
}

/* ---- operands between guards ---- */

enum { GUARD_PAGE = 4096, GUARD_EDGE = 128, GUARD_FILL = 0xa5 };

struct guard {
	char *base;			/* after the first guard page */
	size_t cap;
	char *p;			/* the operand now */
	size_t n;
};

static inline void
check_die(const char *what)
{
	perror(what);
	exit(111);
}

static inline struct guard
guard_open(size_t max)
{
	struct guard g = { 0 };
	char *p;

	g.cap = (max + GUARD_EDGE + GUARD_PAGE - 1) / GUARD_PAGE * GUARD_PAGE;
	p = mmap(NULL, g.cap + 2 * GUARD_PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		check_die("mmap");
	g.base = p + GUARD_PAGE;
	if (mprotect(p, GUARD_PAGE, PROT_NONE) == -1 ||
	    mprotect(g.base + g.cap, GUARD_PAGE, PROT_NONE) == -1)
		check_die("mprotect");
	return g;
}

/* Room for n bytes at one end of g or the other, filled with the pattern. */
static inline void *
guard_put(struct guard *g, size_t n)
{
	const size_t edge = n + GUARD_EDGE;

	if (edge > g->cap) {
		fprintf(stderr, "guard_put: %zu bytes in %zu\n", n, g->cap);
		exit(100);
	}
	g->n = n;
	if (rnd() & 1) {
		g->p = g->base;
		memset(g->p, GUARD_FILL, edge);
	} else {
		g->p = g->base + g->cap - n;
		memset(g->p - GUARD_EDGE, GUARD_FILL, edge);
	}
	return g->p;
}

/* 1 if the bytes beside the operand are as guard_put left them. */
static inline int
guard_ok(const struct guard *g)
{
	const char *p = g->p == g->base ? g->p + g->n : g->p - GUARD_EDGE;

	for (int i = 0; i < GUARD_EDGE; i++)
		if ((unsigned char)p[i] != GUARD_FILL)
			return 0;
	return 1;
}

static inline void
guard_close(struct guard *g)
{
	munmap(g->base - GUARD_PAGE, g->cap + 2 * GUARD_PAGE);
}

/* ---- comparing ---- */

static inline int
same_f32(float a, float b)
{
	return (a != a && b != b) || memcmp(&a, &b, sizeof a) == 0;
}

/* Where n floats first differ; n if nowhere. */
static inline size_t
differ_f32(const float *a, const float *b, size_t n)
{
	size_t i = 0;

	while (i < n && same_f32(a[i], b[i]))
		i++;
	return i;
}

/* ---- rungs ---- */

/* run returns 1 if got agrees with ref, else it has printed why. */
struct check {
	const char *name;
	size_t at;			/* of the pointer in struct kern */
	int (*run)(const struct kern *ref, const struct kern *got);
};

#define CHECK(name, run) { #name, offsetof(struct kern, name), run }

static const struct check_rung {
	const char *name, *lacks;
	unsigned flags;
} check_rungs[] = {
	{ "avx2", "this CPU has no AVX2 with FMA", CPU_AVX2 },
	{ "avx512", "this CPU has no AVX-512", CPU_AVX2 | CPU_AVX512 },
	{ "avx512vnni", "this CPU has no AVX-512 VNNI",
	    CPU_AVX2 | CPU_AVX512 | CPU_AVX512VNNI },
};

static inline int
same_entry(const struct kern *a, const struct kern *b, size_t at)
{
	return memcmp((const char *)a + at, (const char *)b + at,
	    sizeof a->max) == 0;
}

/* What a rung has and the one below has not, against the reference. */
static inline void
check_table(const char *rung, const struct kern *below,
    const struct kern *got, const struct check *c, size_t n)
{
	struct kern ref;

	kern_init(0);
	ref = kern;
	for (size_t i = 0; i < n; i++)
		if (!same_entry(below, got, c[i].at))
			tap_ok(c[i].run(&ref, got), "%s %s", rung, c[i].name);
}

static inline void
check_rungs_all(const struct check *c, size_t n)
{
	const unsigned have = cpu_flags();
	struct kern below, got;

	kern_init(0);
	below = kern;
	for (size_t i = 0; i < sizeof check_rungs / sizeof *check_rungs; i++) {
		const struct check_rung *r = &check_rungs[i];

		if ((have & r->flags) != r->flags) {
			tap_skip(r->name, r->lacks);
			continue;
		}
		kern_init(r->flags);
		got = kern;
		check_table(r->name, &below, &got, c, n);
		below = got;
	}
}

/* A family of kernels/avx512 that was compiled with emu512.h. */
static inline void
check_emulated(void (*init)(struct kern *), const struct check *c, size_t n)
{
	struct kern below, got;

	kern_init(0);
	below = got = kern;
	init(&got);
	check_table("avx512 emulated", &below, &got, c, n);
}

static inline void
check_fault(int sig)
{
	static const char msg[] =
	    "not ok - a kernel touched memory outside its operands\n";

	(void)sig;
	if (write(1, msg, sizeof msg - 1) == -1)
		_exit(111);
	_exit(1);
}

/* The seed from argv, or a fixed one: a test must fail twice the same way. */
static inline void
check_start(int argc, char **argv)
{
	check_state = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	printf("# seed %" PRIu64 "\n", check_state);
	fflush(stdout);
	signal(SIGSEGV, check_fault);
	signal(SIGBUS, check_fault);
}

#endif
