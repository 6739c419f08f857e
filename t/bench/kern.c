/*
 * How fast each kernel is, beside what one core of this machine can do.
 *
 * Three peaks are measured first, in this run: float multiply-adds, int8
 * multiply-adds (by the best instruction of the rung) and a read of memory in
 * huge pages.  Then each kernel runs from one call site, on weights that no
 * cache holds, and the share of the nearer peak is the last column.  Columns
 * are separated by tabs.  Usage: kern [ref | avx2 | avx512 | avx512vnni].
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "kern.h"

enum {
	NRUN = 5,			/* the median of this many */
	PEAK_LOOPS = 20 * 1000 * 1000,
	ROW = 7168,
};

static const size_t POOL = (size_t)256 << 20;	/* of weights */
static const double RUN_S = 0.03;		/* a run takes no less */

static struct peaks {
	double flop, iop, read;			/* per second */
} peak;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *
map(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(111);
	}
	madvise(p, size, MADV_HUGEPAGE);
	return p;
}

/* ---- peaks ---- */

#ifdef __x86_64__
#include <immintrin.h>

/* Twelve independent sums: more than any core has in flight. */
#define TWELVE(s, step) do { \
	step(s[0]); step(s[1]); step(s[2]); step(s[3]); \
	step(s[4]); step(s[5]); step(s[6]); step(s[7]); \
	step(s[8]); step(s[9]); step(s[10]); step(s[11]); \
} while (0)

/* An empty asm keeps the compiler from folding the loop away. */
#define FMA8(v) \
	v = _mm256_fmadd_ps(x, x, v); __asm__ volatile ("" : "+x"(v))
#define MADD8(v) \
	__asm__ volatile ("" : "+x"(x)); \
	v = _mm256_add_epi32(v, _mm256_madd_epi16(x, x)); \
	__asm__ volatile ("" : "+x"(v))
#define FMA16(v) \
	v = _mm512_fmadd_ps(x, x, v); __asm__ volatile ("" : "+v"(v))
#define DP16(v) \
	v = _mm512_dpbusd_epi32(v, x, x); __asm__ volatile ("" : "+v"(v))

__attribute__((target("avx2,fma"))) static double
ops_fma8(void)
{
	__m256 s[12], x = _mm256_set1_ps(1e-9f);

	for (int i = 0; i < 12; i++)
		s[i] = x;
	for (int i = 0; i < PEAK_LOOPS / 4; i++)
		TWELVE(s, FMA8);
	return 2.0 * 8 * 12 * (PEAK_LOOPS / 4);
}

__attribute__((target("avx2"))) static double
ops_madd8(void)
{
	__m256i s[12], x = _mm256_set1_epi16(1);

	for (int i = 0; i < 12; i++)
		s[i] = x;
	for (int i = 0; i < PEAK_LOOPS / 4; i++)
		TWELVE(s, MADD8);
	return 2.0 * 16 * 12 * (PEAK_LOOPS / 4);
}

__attribute__((target("avx512f"))) static double
ops_fma16(void)
{
	__m512 s[12], x = _mm512_set1_ps(1e-9f);

	for (int i = 0; i < 12; i++)
		s[i] = x;
	for (int i = 0; i < PEAK_LOOPS / 4; i++)
		TWELVE(s, FMA16);
	return 2.0 * 16 * 12 * (PEAK_LOOPS / 4);
}

__attribute__((target("avx512f,avx512vnni"))) static double
ops_dp16(void)
{
	__m512i s[12], x = _mm512_set1_epi8(1);

	for (int i = 0; i < 12; i++)
		s[i] = x;
	for (int i = 0; i < PEAK_LOOPS / 4; i++)
		TWELVE(s, DP16);
	return 2.0 * 64 * 12 * (PEAK_LOOPS / 4);
}

__attribute__((target("avx2"))) static void
read_all(const char *p, size_t n)
{
	__m256i s[4] = { _mm256_setzero_si256() };

	for (size_t i = 0; i + 256 <= n; i += 256) {
#pragma GCC unroll 8
		for (int j = 0; j < 8; j++)
			s[j % 4] = _mm256_xor_si256(s[j % 4],
			    _mm256_loadu_si256((const void *)
			    (p + i + 32 * j)));
		__asm__ volatile ("" :: "x"(s[0]), "x"(s[1]), "x"(s[2]),
		    "x"(s[3]));
	}
}

static double
rate(double (*ops)(void))
{
	double best = 0;

	for (int i = 0; i < NRUN; i++) {
		const double t = now(), n = ops();
		const double r = n / (now() - t);

		best = r > best ? r : best;
	}
	return best;
}

static void
measure(unsigned have, const char *pool)
{
	if (!(have & CPU_AVX2))
		return;
	peak.flop = rate(have & CPU_AVX512 ? ops_fma16 : ops_fma8);
	peak.iop = rate(have & CPU_AVX512VNNI ? ops_dp16 : ops_madd8);
	for (int i = 0; i < NRUN; i++) {
		const double t = now();
		double r;

		read_all(pool, POOL);
		r = (double)POOL / (now() - t);
		peak.read = r > peak.read ? r : peak.read;
	}
}
#else
static void
measure(unsigned have, const char *pool)
{
	(void)have;
	(void)pool;
}
#endif

/* ---- the one call site ---- */

struct job {
	const char *name;
	size_t m, n, k;
	double ops, bytes;		/* of one call */
	double peak_ops;
	size_t wbytes;			/* taken from the pool by one call */
	void (*call)(const struct job *, char *w);
};

static float *in, *out;			/* activations, results */
static int64_t *fix;
static int32_t *acc, *sums;
static int8_t *qin;

static int
by_value(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double
seconds(const struct job *j, char *pool)
{
	const size_t room = j->wbytes ? POOL / j->wbytes : 1;
	double t[NRUN];
	size_t at = 0;

	for (int r = -1; r < NRUN; r++) {	/* the first only warms up */
		const double t0 = now();
		double dt = 0;
		size_t calls = 0;

		do {
			j->call(j, pool + at++ % room * j->wbytes);
			calls++;
		} while ((dt = now() - t0) < RUN_S);
		if (r >= 0)
			t[r] = dt / (double)calls;
	}
	qsort(t, NRUN, sizeof *t, by_value);
	return t[NRUN / 2];
}

static void
show(const struct job *j, char *pool)
{
	const double s = seconds(j, pool);
	const double gops = j->ops / s, gbs = j->bytes / s;
	double share = peak.read > 0 ? gbs / peak.read : 0;

	if (j->peak_ops > 0 && gops / j->peak_ops > share)
		share = gops / j->peak_ops;
	printf("%s\t%zu\t%zux%zu\t%.1f\t%.1f\t%.0f%%\n", j->name, j->m, j->n,
	    j->k, gops * 1e-9, gbs * 1e-9, share * 100);
	fflush(stdout);
}

static void
call_nt_f32(const struct job *j, char *w)
{
	kern.nt_f32(out, j->n, in, j->k, (const void *)w, j->k, j->m, j->n,
	    j->k);
}

static void
call_nt_bf16(const struct job *j, char *w)
{
	kern.nt_bf16(out, j->n, in, j->k, (const void *)w, j->k, j->m, j->n,
	    j->k);
}

static void
call_nn_f32(const struct job *j, char *w)
{
	kern.nn_f32(out, j->n, in, j->k, (const void *)w, j->n, j->m, j->n,
	    j->k);
}

static void
call_nn_bf16(const struct job *j, char *w)
{
	kern.nn_bf16(out, j->n, in, j->k, (const void *)w, j->n, j->m, j->n,
	    j->k);
}

static void
call_gemm_i8(const struct job *j, char *w)
{
	kern.gemm_i8(acc, j->n, qin, j->k, (const void *)w, j->k * KERN_TILE_N,
	    sums, j->m, j->n / KERN_TILE_N, j->k / KERN_TILE_K);
}

static void
gemms(char *pool)
{
	static const size_t rows[] = { 1, 8, 64, 512 };
	static const size_t shape[][2] = { { 2048, 2048 }, { 10944, 2048 } };
	static const struct {
		const char *name;
		size_t size;
		void (*call)(const struct job *, char *);
	} kind[] = {
		{ "gemm_i8", 1, call_gemm_i8 },
		{ "nt_f32", 4, call_nt_f32 },
		{ "nt_bf16", 2, call_nt_bf16 },
		{ "nn_f32", 4, call_nn_f32 },
		{ "nn_bf16", 2, call_nn_bf16 },
	};

	for (size_t q = 0; q < sizeof kind / sizeof *kind; q++)
		for (size_t s = 0; s < 2; s++)
			for (size_t r = 0; r < 4; r++) {
				struct job j = { .name = kind[q].name,
				    .call = kind[q].call, .m = rows[r],
				    .n = shape[s][0], .k = shape[s][1] };

				j.wbytes = j.n * j.k * kind[q].size;
				j.ops = 2.0 * (double)(j.m * j.n * j.k);
				j.bytes = (double)j.wbytes;
				j.peak_ops = kind[q].size == 1 ? peak.iop :
				    peak.flop;
				show(&j, pool);
			}
}

/* ---- rows, in the first or second cache: only GB/s says something ---- */

static void
call_quant(const struct job *j, char *w)
{
	(void)w;
	kern.quant(qin, in, 0.01f, j->n);
}

static void
call_absmax(const struct job *j, char *w)
{
	volatile float sink = kern.absmax(in, j->n);

	(void)w;
	(void)sink;
}

static void
call_dequant(const struct job *j, char *w)
{
	(void)w;
	kern.dequant(out, acc, 0.5f, in, j->n);
}

static void
call_rmsnorm(const struct job *j, char *w)
{
	(void)w;
	kern.rmsnorm(out, in, in, NULL, 1e-6f, j->n);
}

static void
call_silu_mul(const struct job *j, char *w)
{
	(void)w;
	kern.silu_mul(out, in, in, j->n);
}

static void
call_exp_sum(const struct job *j, char *w)
{
	(void)w;
	memcpy(out, in, j->n * sizeof *out);
	kern.exp_sum(out, 1, j->n);
}

static void
call_fix_axpy(const struct job *j, char *w)
{
	(void)w;
	kern.fix_axpy(fix, 0.5f, in, j->n);
}

static void
call_to_bf16(const struct job *j, char *w)
{
	(void)w;
	kern.to_bf16((uint16_t *)qin, in, j->n);
}

static void
call_from_f8(const struct job *j, char *w)
{
	(void)w;
	kern.from_f8(out, (const uint8_t *)qin, 0.5f, j->n);
}

static void
rows(char *pool)
{
	static const struct {
		const char *name;
		double bytes;		/* of one element, read and written */
		void (*call)(const struct job *, char *);
	} kind[] = {
		{ "absmax", 4, call_absmax },
		{ "quant", 5, call_quant },
		{ "dequant", 12, call_dequant },
		{ "rmsnorm", 12, call_rmsnorm },
		{ "silu_mul", 12, call_silu_mul },
		{ "exp_sum", 8, call_exp_sum },
		{ "fix_axpy", 20, call_fix_axpy },
		{ "to_bf16", 6, call_to_bf16 },
		{ "from_f8", 5, call_from_f8 },
	};

	for (size_t i = 0; i < sizeof kind / sizeof *kind; i++) {
		const struct job j = { .name = kind[i].name, .m = 1,
		    .n = ROW, .k = 1, .ops = ROW, .bytes = kind[i].bytes * ROW,
		    .call = kind[i].call };

		show(&j, pool);
	}
}

int
main(int argc, char **argv)
{
	const size_t most = (size_t)512 * 10944;
	unsigned have = cpu_flags();
	char *pool = map(POOL);

	if (argc > 2 || (argc == 2 && cpu_mask(argv[1], &have) == -1)) {
		fprintf(stderr,
		    "usage: kern [ref | avx2 | avx512 | avx512vnni]\n");
		return 100;
	}
	memset(pool, 0x3c, POOL);	/* small floats, bf16 and int8 alike */
	in = map(most * sizeof *in);
	out = map(most * sizeof *out);
	fix = map(ROW * sizeof *fix);
	acc = map(most * sizeof *acc);
	sums = map(most * sizeof *sums);
	qin = map(most);
	for (size_t i = 0; i < most; i++) {
		in[i] = (float)(i % 17) * 0.125f - 1;
		qin[i] = (int8_t)(i % 251);
		out[i] = 0;
		acc[i] = 0;
	}
	kern_init(have);
	measure(have, pool);
	printf("# %s, one core: %.1f Gflop/s, %.1f Gop/s int8, "
	    "read %.1f GB/s\n", kern.name, peak.flop * 1e-9, peak.iop * 1e-9,
	    peak.read * 1e-9);
	printf("# kernel\tm\tNxK\tGop/s\tGB/s\tof the nearer peak\n");
	gemms(pool);
	rows(pool);
	return 0;
}
