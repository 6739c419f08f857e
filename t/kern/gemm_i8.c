/*
 * int8 products, each rung against the reference; and the packing.
 */
#include "check.h"

#ifdef __x86_64__
#include "emu512.h"
#define avx512_gemm_i8 emu512_gemm_i8
#include "../../kernels/avx512/gemm_i8.c"
#endif

enum { MOST = 2 << 20 };		/* bytes of an operand */

enum fill { F_ANY, F_MIN, F_MAX, F_ALT, F_EDGE, NFILL };

static const char *const fill_name[NFILL] = {
	"any", "all -128", "all 127", "-128 and 127 in turn", "edges"
};

static void
fill_i8(int8_t *p, size_t n, enum fill f)
{
	static const int8_t edge[] = { -128, -127, -1, 0, 1, 127 };

	for (size_t i = 0; i < n; i++)
		switch (f) {
		case F_MIN:
			p[i] = -128;
			break;
		case F_MAX:
			p[i] = 127;
			break;
		case F_ALT:
			p[i] = i & 1 ? 127 : -128;
			break;
		case F_EDGE:
			p[i] = edge[rnd_below(sizeof edge)];
			break;
		default:
			p[i] = (int8_t)rnd();
		}
}

static struct guard gx, gw, gc, ga, gr;

static void
sums(int32_t *colsum, const int8_t *w, size_t ldw, size_t ntile, size_t k4)
{
	for (size_t j = 0; j < ntile * 16; j++) {
		colsum[j] = 0;
		for (size_t k = 0; k < 4 * k4; k++)
			colsum[j] += w[j / 16 * ldw + k / 4 * 64 +
			    j % 16 * 4 + k % 4];
	}
}

static int
one(const struct kern *ref, const struct kern *got, size_t m, size_t ntile,
    size_t k4)
{
	const size_t ldx = 4 * k4 + rnd_below(2) * rnd_below(40);
	const size_t ldw = 64 * (k4 + rnd_below(2) * rnd_below(5));
	const size_t ldacc = 16 * ntile + rnd_below(2) * rnd_below(9) + 1;
	const size_t nacc = m && ntile ? (m - 1) * ldacc + 16 * ntile : 0;
	const size_t nx = m ? (m - 1) * ldx + 4 * k4 : 0;
	const size_t nw = ntile ? (ntile - 1) * ldw + 64 * k4 : 0;
	const enum fill fx = (enum fill)rnd_below(NFILL);
	const enum fill fw = (enum fill)rnd_below(NFILL);
	int8_t *x = guard_put(&gx, nx), *w = guard_put(&gw, nw);
	int32_t *colsum = guard_put(&gc, ntile * 64);
	int32_t *acc = guard_put(&ga, nacc * sizeof *acc);
	int32_t *want = guard_put(&gr, nacc * sizeof *want);
	size_t at = 0;

	fill_i8(x, nx, fx);
	fill_i8(w, nw, fw);
	sums(colsum, w, ldw, ntile, k4);
	ref->gemm_i8(want, ldacc, x, ldx, w, ldw, colsum, m, ntile, k4);
	got->gemm_i8(acc, ldacc, x, ldx, w, ldw, colsum, m, ntile, k4);
	while (at < nacc && acc[at] == want[at])
		at++;
	if (at == nacc && guard_ok(&ga) && guard_ok(&gx) && guard_ok(&gw))
		return 1;
	printf("# m %zu ntile %zu k4 %zu ldx %zu ldw %zu ldacc %zu x %s "
	    "w %s: ", m, ntile, k4, ldx, ldw, ldacc, fill_name[fx],
	    fill_name[fw]);
	if (at == nacc)
		printf("wrote beside an operand\n");
	else
		printf("at row %zu output %zu: want %d, got %d\n",
		    at / ldacc, at % ldacc, want[at], acc[at]);
	return 0;
}

static int
check_gemm_i8(const struct kern *ref, const struct kern *got)
{
	static const size_t big[][3] = {
		{ 1, 1, 16384 }, { 2, 1, 16384 }, { 3, 1, 16384 },
		{ 1, 5, 1792 }, { 2, 5, 1792 }, { 7, 5, 600 },
		{ 67, 2, 129 }, { 140, 3, 33 }, { 30, 9, 257 },
		{ 1, 2, 9000 }, { 7, 1, 9000 },
	};
	int ok = 1;

	for (size_t k4 = 0; k4 <= 70; k4++)
		for (int rep = 0; rep < 10 && ok; rep++)
			ok &= one(ref, got, rnd_below(10), rnd_below(7), k4);
	for (size_t m = 0; m <= 70; m++)
		for (int rep = 0; rep < 3 && ok; rep++)
			ok &= one(ref, got, m, rnd_below(6), rnd_below(20));
	for (size_t t = 0; t <= 20 && ok; t++)
		ok &= one(ref, got, 1 + rnd_below(9), t, 1 + rnd_below(9));
	for (size_t i = 0; i < sizeof big / sizeof *big; i++)
		for (int rep = 0; rep < 4 && ok; rep++)
			ok &= one(ref, got, big[i][0], big[i][1], big[i][2]);
	return ok;
}

/* Packed and multiplied is what the plain loops give. */
static int
pack(size_t n, size_t k)
{
	const size_t ldw = k + rnd_below(3);
	const size_t ntile = kern_ntile(n), k4 = kern_k4(k);
	int8_t *w = guard_put(&gx, n ? (n - 1) * ldw + k : 0);
	int8_t *out = guard_put(&gw, ntile * 64 * k4);
	int32_t *colsum = guard_put(&gc, ntile * 64);
	int32_t *acc = guard_put(&ga, ntile * 64);
	int8_t *x = guard_put(&gr, 4 * k4);
	int ok = 1;

	fill_i8(w, gx.n, F_ANY);
	fill_i8(x, 4 * k4, F_ANY);
	kern_pack_i8(out, colsum, w, ldw, n, k);
	kern_pack_i8(NULL, NULL, w, ldw, n, k);
	kern_init(0);
	kern.gemm_i8(acc, 16 * ntile, x, 4 * k4, out, 64 * k4, colsum, 1,
	    ntile, k4);
	for (size_t j = 0; j < 16 * ntile; j++) {
		int32_t s = 0, c = 0;

		for (size_t i = 0; j < n && i < k; i++) {
			s += w[j * ldw + i] * x[i];
			c += w[j * ldw + i];
		}
		ok &= acc[j] == s && colsum[j] == c;
	}
	return ok && guard_ok(&gw) && guard_ok(&gc);
}

static const struct check checks[] = {
	CHECK(gemm_i8, check_gemm_i8),
};

int
main(int argc, char **argv)
{
	int ok = 1;

	check_start(argc, argv);
	gx = guard_open(MOST);
	gw = guard_open(2 * MOST);
	gc = guard_open(MOST);
	ga = guard_open(MOST);
	gr = guard_open(MOST);
	for (size_t n = 0; n <= 40; n++)
		for (size_t k = 0; k <= 20; k++)
			ok &= pack(n, k);
	ok &= pack(100, 301);
	tap_ok(ok, "kern_pack_i8, any shape");
	check_rungs_all(checks, sizeof checks / sizeof *checks);
#ifdef __x86_64__
	check_emulated(avx512_gemm_i8, checks, sizeof checks / sizeof *checks);
#endif
	guard_close(&gx);
	guard_close(&gw);
	guard_close(&gc);
	guard_close(&ga);
	guard_close(&gr);
	return tap_done();
}
