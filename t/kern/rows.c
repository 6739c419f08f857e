/*
 * Row kernels, each rung against the reference; and exp against libm.
 */
#include "check.h"

enum { MOST = 1 << 16 };		/* bytes of an operand */

static struct guard ga, gb, gc, gy, gr;

/* What one row kernel gets, and what it left behind. */
struct row {
	size_t n;
	enum mode mode;
	float s;
	const float *a, *b, *c;		/* c may be NULL */
	float *y;			/* in and out */
};

static int
agree(const struct row *r, const float *want, float ret_want, float ret_got)
{
	const size_t at = differ_f32(want, r->y, r->n);

	if (at == r->n && same_f32(ret_want, ret_got) && guard_ok(&gy))
		return 1;
	printf("# n %zu data %s s %a: ", r->n, mode_name[r->mode], r->s);
	if (at < r->n)
		printf("at %zu: want %a, got %a\n", at, want[at], r->y[at]);
	else
		printf("returned %a, want %a (or wrote beside y)\n", ret_got,
		    ret_want);
	return 0;
}

static float
do_rmsnorm(const struct kern *k, const struct row *r, float *y)
{
	k->rmsnorm(y, r->a, r->b, r->c, fabsf(r->s), r->n);
	return 0;
}

static float
do_rmsnorm_place(const struct kern *k, const struct row *r, float *y)
{
	k->rmsnorm(y, y, r->b, r->c, 1e-6f, r->n);
	return 0;
}

static float
do_silu(const struct kern *k, const struct row *r, float *y)
{
	k->silu_mul(y, r->a, r->b, r->n);
	return 0;
}

static float
do_silu_place(const struct kern *k, const struct row *r, float *y)
{
	if (r->c)
		k->silu_mul(y, y, r->b, r->n);
	else
		k->silu_mul(y, r->a, y, r->n);
	return 0;
}

static float
do_max(const struct kern *k, const struct row *r, float *y)
{
	(void)y;
	return k->max(r->a, r->n);
}

static float
do_exp_sum(const struct kern *k, const struct row *r, float *y)
{
	return k->exp_sum(y, r->s, r->n);
}

static float
do_scale(const struct kern *k, const struct row *r, float *y)
{
	k->scale(y, r->s, r->n);
	return 0;
}

static float
do_add(const struct kern *k, const struct row *r, float *y)
{
	k->add(y, r->a, r->n);
	return 0;
}

static int
one(const struct kern *ref, const struct kern *got, size_t n, enum mode mode,
    float stretch, float (*run)(const struct kern *, const struct row *,
    float *))
{
	const size_t size = n * sizeof(float);
	float *a = guard_put(&ga, size), *b = guard_put(&gb, size);
	float *c = guard_put(&gc, size);
	float *y = guard_put(&gy, size), *want = guard_put(&gr, size);
	struct row r = { n, mode, rnd_f32(mode), a, b, NULL, y };

	fill_f32(a, n, mode);
	fill_f32(b, n, mode);
	fill_f32(c, n, mode);
	fill_f32(y, n, mode);
	for (size_t i = 0; i < n; i++) {
		a[i] *= stretch;
		y[i] *= stretch;
		want[i] = y[i];
	}
	if (rnd_below(2))
		r.c = c;
	return agree(&r, want, run(ref, &r, want), run(got, &r, y));
}

static int
sizes(const struct kern *ref, const struct kern *got,
    float (*run)(const struct kern *, const struct row *, float *))
{
	static const size_t big[] = { 127, 300, 1000, 1536, 7168, 7169 };
	int ok = 1;

	for (int mode = 0; mode < NMODE; mode++) {
		for (size_t n = 0; n <= 70; n++)
			for (int rep = 0; rep < 4 && ok; rep++)
				ok &= one(ref, got, n, (enum mode)mode,
				    rep & 1 ? 100 : 1, run);
		for (size_t i = 0; i < sizeof big / sizeof *big && ok; i++)
			ok &= one(ref, got, big[i], (enum mode)mode, 1, run);
	}
	return ok;
}

static int
rmsnorm(const struct kern *ref, const struct kern *got)
{
	return sizes(ref, got, do_rmsnorm) & sizes(ref, got, do_rmsnorm_place);
}

static int
silu_mul(const struct kern *ref, const struct kern *got)
{
	return sizes(ref, got, do_silu) & sizes(ref, got, do_silu_place);
}

static int
max(const struct kern *ref, const struct kern *got)
{
	return sizes(ref, got, do_max);
}

static int
exp_sum(const struct kern *ref, const struct kern *got)
{
	return sizes(ref, got, do_exp_sum);
}

static int
one_fix(const struct kern *ref, const struct kern *got, size_t n,
    enum mode mode, float a)
{
	float *x = guard_put(&ga, n * sizeof *x);
	int64_t *z = guard_put(&gy, n * sizeof *z);
	int64_t *want = guard_put(&gr, n * sizeof *want);

	fill_f32(x, n, mode);
	for (size_t i = 0; i < n; i++)
		want[i] = z[i] = (int64_t)(rnd() >> 2);
	ref->fix_axpy(want, a, x, n);
	got->fix_axpy(z, a, x, n);
	for (size_t i = 0; i < n; i++)
		if (z[i] != want[i]) {
			printf("# n %zu data %s a %a x %a: want %lld, got "
			    "%lld\n", n, mode_name[mode], a, x[i],
			    (long long)want[i], (long long)z[i]);
			return 0;
		}
	return guard_ok(&gy);
}

static int
fix_axpy(const struct kern *ref, const struct kern *got)
{
	int ok = 1;

	for (int m = 0; m < NMODE; m++)
		for (size_t n = 0; n <= 300 && ok; n += n < 20 ? 1 : 31) {
			const enum mode mode = (enum mode)m;

			ok &= one_fix(ref, got, n, mode, rnd_f32(mode)) &
			    one_fix(ref, got, n, mode, 1) &
			    one_fix(ref, got, n, mode, 0x1p-33f);
		}
	return ok;
}

static int
scale(const struct kern *ref, const struct kern *got)
{
	return sizes(ref, got, do_scale);
}

static int
add(const struct kern *ref, const struct kern *got)
{
	return sizes(ref, got, do_add);
}

/* Every 997th float between the limits: how far from libm's double, in the
 * unit of the last place. */
static double
worst_ulp(float *where)
{
	double worst = 0;

	for (uint64_t u = 0; u <= UINT32_MAX; u += 997) {
		const uint32_t bits = (uint32_t)u;
		double want, err;
		float x;

		memcpy(&x, &bits, sizeof x);
		if (!(x >= -87.33654f && x <= 88.37626f))
			continue;
		want = exp((double)x);
		err = fabs((double)kern_expf(x) - want) /
		    ldexp(1, ilogb(want) - 23);
		if (err > worst) {
			worst = err;
			*where = x;
		}
	}
	return worst;
}

static void
exp_known(void)
{
	const float hi = kern_expf(88.37626f);
	float where = 0;
	double worst = worst_ulp(&where);

	tap_ok(worst <= 2, "kern_expf is within 2 ulp: %.3f at %a", worst,
	    where);
	tap_ok(kern_expf(0) == 1 && kern_expf(-0.0f) == 1 &&
	    kern_expf(-87.4f) == 0 && kern_expf(-INFINITY) == 0 &&
	    kern_expf(-87.33654f) > 0 && hi > 2.4e38f && hi < INFINITY &&
	    kern_expf(89) == hi && kern_expf(INFINITY) == hi &&
	    isnan(kern_expf(NAN)), "kern_expf at its limits");
}

/* The reference on rows worked out by hand. */
static int
known(void)
{
	const float x[4] = { 1, -1, 1, -1 }, w[4] = { 1, 2, 3, 4 };
	const float b[4] = { 0, 0, 0, 1 };
	float y[4], e[3] = { 5, 5, 5 };
	int64_t z[5] = { 10 };

	kern_init(0);
	kern.rmsnorm(y, x, w, b, 0, 4);
	if (y[0] != 1 || y[1] != -2 || y[2] != 3 || y[3] != -3)
		return 0;
	kern.silu_mul(y, (const float[]){ 0, 1 }, (const float[]){ 7, 1 }, 2);
	if (y[0] != 0 || fabsf(y[1] - 0.7310586f) > 1e-6f)
		return 0;
	kern.fix_axpy(z, 0.5f, (const float[]){ 1, 0x1p-32f, 0x1.8p-31f, 1e30f,
	    NAN }, 5);
	if (z[0] != (1ll << 31) + 10 || z[1] != 0 || z[2] != 2 ||
	    z[3] != 1ll << 50 || z[4] != 1ll << 50)
		return 0;
	return kern.max(x, 0) == -INFINITY && kern.max(w, 4) == 4 &&
	    kern.exp_sum(e, 5, 3) == 3 && e[2] == 1;
}

static const struct check checks[] = {
	CHECK(rmsnorm, rmsnorm),
	CHECK(silu_mul, silu_mul),
	CHECK(max, max),
	CHECK(exp_sum, exp_sum),
	CHECK(fix_axpy, fix_axpy),
	CHECK(scale, scale),
	CHECK(add, add),
};

int
main(int argc, char **argv)
{
	struct guard *const all[] = { &ga, &gb, &gc, &gy, &gr };

	check_start(argc, argv);
	for (int i = 0; i < 5; i++)
		*all[i] = guard_open(MOST);
	exp_known();
	tap_ok(known(), "the reference on rows worked out by hand");
	check_rungs_all(checks, sizeof checks / sizeof *checks);
	for (int i = 0; i < 5; i++)
		guard_close(all[i]);
	return tap_done();
}
