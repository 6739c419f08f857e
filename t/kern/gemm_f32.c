/*
 * Float products, each rung against the reference.
 */
#include "check.h"

#ifdef __x86_64__
#include "emu512.h"
#define avx512_gemm_f32 emu512_gemm_f32
#include "../../kernels/avx512/gemm_f32.c"
#endif

enum { MOST = 1 << 20 };		/* bytes of an operand */

struct call {
	size_t m, n, k, lda, ldb, ldy;
	enum mode ma, mb;
	int bf16, nn;
};

static size_t
span(size_t rows, size_t ld, size_t cols)
{
	return rows ? (rows - 1) * ld + cols : 0;
}

static void
run(const struct kern *t, const struct call *c, float *y, const float *a,
    const void *b)
{
	if (c->nn && c->bf16)
		t->nn_bf16(y, c->ldy, a, c->lda, b, c->ldb, c->m, c->n, c->k);
	else if (c->nn)
		t->nn_f32(y, c->ldy, a, c->lda, b, c->ldb, c->m, c->n, c->k);
	else if (c->bf16)
		t->nt_bf16(y, c->ldy, a, c->lda, b, c->ldb, c->m, c->n, c->k);
	else
		t->nt_f32(y, c->ldy, a, c->lda, b, c->ldb, c->m, c->n, c->k);
}

/* Elements that lie between rows are NaN: a kernel that adds them shows. */
static void
fill_rows(float *p, size_t rows, size_t ld, size_t cols, enum mode mode)
{
	for (size_t i = 0; i < span(rows, ld, cols); i++)
		p[i] = i % ld < cols ? rnd_f32(mode) : NAN;
}

static void
fill_rows_bf16(uint16_t *p, size_t rows, size_t ld, size_t cols,
    enum mode mode)
{
	for (size_t i = 0; i < span(rows, ld, cols); i++)
		if (i % ld < cols)
			fill_bf16(p + i, 1, mode);
		else
			p[i] = 0x7fc0;
}

static struct guard ga, gb, gy, gr;

static int
one(const struct kern *ref, const struct kern *got, const struct call *c)
{
	const size_t brows = c->nn ? c->k : c->n, bcols = c->nn ? c->n : c->k;
	const size_t ny = span(c->m, c->ldy, c->n);
	const size_t nb = span(brows, c->ldb, bcols);
	float *a = guard_put(&ga, span(c->m, c->lda, c->k) * sizeof *a);
	void *b = guard_put(&gb, nb * (c->bf16 ? 2 : 4));
	float *y = guard_put(&gy, ny * sizeof *y);
	float *want = guard_put(&gr, ny * sizeof *want);
	size_t at;

	fill_rows(a, c->m, c->lda, c->k, c->ma);
	if (c->bf16)
		fill_rows_bf16(b, brows, c->ldb, bcols, c->mb);
	else
		fill_rows(b, brows, c->ldb, bcols, c->mb);
	for (size_t i = 0; i < ny; i++)
		if (c->nn && i % c->ldy < c->n)
			y[i] = want[i] = rnd_f32(c->ma);
	run(ref, c, want, a, b);
	run(got, c, y, a, b);
	at = differ_f32(want, y, ny);
	if (at == ny && guard_ok(&gy) && guard_ok(&ga) && guard_ok(&gb))
		return 1;
	printf("# m %zu n %zu k %zu lda %zu ldb %zu ldy %zu a %s b %s: ",
	    c->m, c->n, c->k, c->lda, c->ldb, c->ldy, mode_name[c->ma],
	    mode_name[c->mb]);
	if (at == ny)
		printf("wrote beside an operand\n");
	else
		printf("at row %zu column %zu: want %a, got %a\n",
		    at / c->ldy, at % c->ldy, want[at], y[at]);
	return 0;
}

static struct call
pick(size_t m, size_t n, size_t k, int bf16, int nn)
{
	struct call c = { .m = m, .n = n, .k = k, .bf16 = bf16, .nn = nn };

	c.lda = k + 1 + rnd_below(9) * rnd_below(2);
	c.ldb = (nn ? n : k) + 1 + rnd_below(9) * rnd_below(2);
	c.ldy = n + 1 + rnd_below(9) * rnd_below(2);
	c.ma = (enum mode)rnd_below(NMODE);
	c.mb = (enum mode)rnd_below(NMODE);
	if (c.ma == M_HUGE && rnd_below(4))
		c.mb = M_TINY;
	if (c.ma == M_MINUS)
		c.mb = M_PLUS;
	return c;
}

static int
all(const struct kern *ref, const struct kern *got, int bf16, int nn)
{
	static const size_t big[][3] = {
		{ 1, 5, 1000 }, { 7, 9, 1000 }, { 3, 3, 7168 },
		{ 2, 67, 300 }, { 40, 33, 257 }, { 64, 130, 65 },
		{ 13, 70, 513 }, { 1, 300, 100 }, { 7, 200, 31 },
	};
	int ok = 1;

	for (size_t s = 0; s <= 70 && ok; s++)
		for (int rep = 0; rep < 12 && ok; rep++) {
			size_t m = rnd_below(9), n = rnd_below(40);
			size_t k = rnd_below(40);
			struct call c;

			if (rep % 3 == 0)
				m = s;
			else if (rep % 3 == 1)
				n = s;
			else
				k = s;
			c = pick(m, n, k, bf16, nn);
			ok &= one(ref, got, &c);
		}
	for (size_t k = 71; k <= 300 && ok; k++) {
		struct call c = pick(1 + rnd_below(7), 1 + rnd_below(9), k,
		    bf16, nn);

		ok &= one(ref, got, &c);
	}
	for (size_t i = 0; i < sizeof big / sizeof *big && ok; i++) {
		struct call c = pick(big[i][0], big[i][1], big[i][2], bf16,
		    nn);

		ok &= one(ref, got, &c);
	}
	return ok;
}

static int
check_nt_f32(const struct kern *ref, const struct kern *got)
{
	return all(ref, got, 0, 0);
}

static int
check_nt_bf16(const struct kern *ref, const struct kern *got)
{
	return all(ref, got, 1, 0);
}

static int
check_nn_f32(const struct kern *ref, const struct kern *got)
{
	return all(ref, got, 0, 1);
}

static int
check_nn_bf16(const struct kern *ref, const struct kern *got)
{
	return all(ref, got, 1, 1);
}

/* The reference itself: a sum whose lanes16 order is worked out by hand, and
 * would come out otherwise in another order. */
static int
order(void)
{
	float a[35], b[35], y = 0;

	for (int i = 0; i < 35; i++) {
		a[i] = 0;
		b[i] = 1;
	}
	a[0] = 0x1p24f;			/* lane 0: 2^24, + 1 is lost, + 1 */
	a[16] = a[32] = 1;
	a[8] = -0x1p24f;		/* folds first with lane 0: 0 */
	a[1] = 0x1p-10f;
	kern_init(0);
	kern.nt_f32(&y, 1, a, 35, b, 35, 1, 1, 35);
	if (y != 0x1p-10f)
		return 0;
	a[0] = 1;
	a[1] = 0x1p24f;			/* nn: 1 + 2^24 is 2^24, - 2^24 */
	a[2] = -0x1p24f;
	y = 0;
	kern.nn_f32(&y, 1, a, 3, b, 1, 1, 1, 3);
	return y == 0;
}

static const struct check checks[] = {
	CHECK(nt_f32, check_nt_f32),
	CHECK(nt_bf16, check_nt_bf16),
	CHECK(nn_f32, check_nn_f32),
	CHECK(nn_bf16, check_nn_bf16),
};

int
main(int argc, char **argv)
{
	check_start(argc, argv);
	ga = guard_open(MOST);
	gb = guard_open(MOST);
	gy = guard_open(MOST);
	gr = guard_open(MOST);
	tap_ok(order(), "the reference adds in the stated order");
	check_rungs_all(checks, sizeof checks / sizeof *checks);
#ifdef __x86_64__
	check_emulated(avx512_gemm_f32, checks, sizeof checks / sizeof *checks);
#endif
	guard_close(&ga);
	guard_close(&gb);
	guard_close(&gy);
	guard_close(&gr);
	return tap_done();
}
