/*
 * Quantizing and its inverse, each rung against the reference.
 */
#include "check.h"

#ifdef __x86_64__
#include "emu512.h"
#define avx512_quant emu512_quant
#include "../../kernels/avx512/quant.c"
#endif

enum { MOST = 1 << 16 };		/* bytes of an operand */

static struct guard gx, gs, go, gq, gr;

static float
rnd_scale(enum mode mode)
{
	const float s = fabsf(rnd_f32(mode == M_BITS ? M_UNIT : mode));

	return s > 0 ? s : 0x1p-6f;
}

static void
fill_i32(int32_t *p, size_t n)
{
	static const int32_t edge[] = {
		INT32_MIN, INT32_MAX, 0, -1, 16777217, -33554435
	};

	for (size_t i = 0; i < n; i++)
		p[i] = rnd_below(4) ? (int32_t)rnd() >> rnd_below(31) :
		    edge[rnd_below(6)];
}

static int
fail(const char *what, size_t n, enum mode mode, size_t at)
{
	printf("# n %zu data %s: %s at %zu\n", n, mode_name[mode], what, at);
	return 0;
}

static int
bytes_ok(const int8_t *want, const int8_t *got, size_t n, enum mode mode)
{
	for (size_t i = 0; i < n; i++)
		if (want[i] != got[i])
			return fail("differs", n, mode, i);
	return guard_ok(&gq) ? 1 : fail("wrote beside", n, mode, n);
}

static int
floats_ok(const float *want, const float *got, size_t n)
{
	const size_t at = differ_f32(want, got, n);

	if (at < n)
		return fail("differs", n, M_BITS, at);
	return guard_ok(&gq) ? 1 : fail("wrote beside", n, M_BITS, n);
}

static int
one_absmax(const struct kern *ref, const struct kern *got, size_t n,
    enum mode mode)
{
	float *x = guard_put(&gx, n * sizeof *x);

	fill_f32(x, n, mode);
	if (same_f32(ref->absmax(x, n), got->absmax(x, n)))
		return 1;
	return fail("differs", n, mode, 0);
}

static int
one_quant(const struct kern *ref, const struct kern *got, size_t n,
    enum mode mode)
{
	const float scale = rnd_scale(mode);
	float *x = guard_put(&gx, n * sizeof *x);
	int8_t *q = guard_put(&gq, n), *want = guard_put(&gr, n);

	fill_f32(x, n, mode);
	ref->quant(want, x, scale, n);
	got->quant(q, x, scale, n);
	return bytes_ok(want, q, n, mode);
}

static int
one_quant_vec(const struct kern *ref, const struct kern *got, size_t n,
    enum mode mode)
{
	float *x = guard_put(&gx, n * sizeof *x);
	float *scale = guard_put(&gs, n * sizeof *scale);
	float *offset = guard_put(&go, n * sizeof *offset);
	int8_t *q = guard_put(&gq, n), *want = guard_put(&gr, n);

	fill_f32(x, n, mode);
	for (size_t i = 0; i < n; i++) {
		scale[i] = rnd_scale(mode);
		offset[i] = (float)((int)rnd_below(255) - 127);
	}
	ref->quant_vec(want, x, scale, offset, n);
	got->quant_vec(q, x, scale, offset, n);
	return bytes_ok(want, q, n, mode);
}

static int
one_dequant(const struct kern *ref, const struct kern *got, size_t n,
    enum mode mode)
{
	const float sx = rnd_f32(mode);
	int32_t *acc = guard_put(&gx, n * sizeof *acc);
	float *sw = guard_put(&gs, n * sizeof *sw);
	float *y = guard_put(&gq, n * sizeof *y);
	float *want = guard_put(&gr, n * sizeof *want);

	fill_i32(acc, n);
	fill_f32(sw, n, mode);
	ref->dequant(want, acc, sx, sw, n);
	got->dequant(y, acc, sx, sw, n);
	return floats_ok(want, y, n);
}

static int
one_dequant_bias(const struct kern *ref, const struct kern *got, size_t n,
    enum mode mode)
{
	int32_t *acc = guard_put(&gx, n * sizeof *acc);
	int32_t *bias = guard_put(&go, n * sizeof *bias);
	float *sw = guard_put(&gs, n * sizeof *sw);
	float *y = guard_put(&gq, n * sizeof *y);
	float *want = guard_put(&gr, n * sizeof *want);

	fill_i32(acc, n);
	fill_i32(bias, n);
	fill_f32(sw, n, mode);
	ref->dequant_bias(want, acc, bias, sw, n);
	got->dequant_bias(y, acc, bias, sw, n);
	return floats_ok(want, y, n);
}

static int
sizes(const struct kern *ref, const struct kern *got,
    int (*one)(const struct kern *, const struct kern *, size_t, enum mode))
{
	static const size_t big[] = { 127, 300, 1000, 7168, 7169, 7183 };
	int ok = 1;

	for (int mode = 0; mode < NMODE; mode++) {
		for (size_t n = 0; n <= 70; n++)
			for (int rep = 0; rep < 4; rep++)
				ok &= one(ref, got, n, (enum mode)mode);
		for (size_t i = 0; i < sizeof big / sizeof *big; i++)
			ok &= one(ref, got, big[i], (enum mode)mode);
	}
	return ok;
}

static int
check_absmax(const struct kern *ref, const struct kern *got)
{
	return sizes(ref, got, one_absmax);
}

static int
check_quant(const struct kern *ref, const struct kern *got)
{
	return sizes(ref, got, one_quant);
}

static int
check_quant_vec(const struct kern *ref, const struct kern *got)
{
	return sizes(ref, got, one_quant_vec);
}

static int
check_dequant(const struct kern *ref, const struct kern *got)
{
	return sizes(ref, got, one_dequant);
}

static int
check_dequant_bias(const struct kern *ref, const struct kern *got)
{
	return sizes(ref, got, one_dequant_bias);
}

/* The reference on values worked out by hand. */
static int
known(void)
{
	static const float x[] = {
		0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 200, -200, 127.5f, -127.5f,
		NAN, INFINITY, -INFINITY
	};
	static const int8_t want[] = {
		0, 2, 2, 0, -2, 127, -127, 127, -127, -127, 127, -127
	};
	const float one[2] = { 1, 1 }, off[2] = { -100, 100 }, v[2] = { -28,
	    28 };
	const int32_t acc[1] = { INT32_MAX }, bias[1] = { 1 };
	int8_t q[12];
	float y;

	kern_init(0);
	kern.quant(q, x, 1, 12);
	if (memcmp(q, want, sizeof q) != 0)
		return 0;
	kern.quant_vec(q, v, one, off, 2);
	if (q[0] != -128 || q[1] != 127)
		return 0;
	kern.dequant_bias(&y, acc, bias, one, 1);
	return y == -0x1p31f && kern.absmax(x, 0) == 0 &&
	    kern.absmax(x, 9) == 200;
}

static const struct check checks[] = {
	CHECK(absmax, check_absmax),
	CHECK(quant, check_quant),
	CHECK(quant_vec, check_quant_vec),
	CHECK(dequant, check_dequant),
	CHECK(dequant_bias, check_dequant_bias),
};

int
main(int argc, char **argv)
{
	struct guard *const all[] = { &gx, &gs, &go, &gq, &gr };

	check_start(argc, argv);
	for (int i = 0; i < 5; i++)
		*all[i] = guard_open(MOST);
	tap_ok(known(), "the reference rounds and clamps as stated");
	check_rungs_all(checks, sizeof checks / sizeof *checks);
#ifdef __x86_64__
	check_emulated(avx512_quant, checks, sizeof checks / sizeof *checks);
#endif
	for (int i = 0; i < 5; i++)
		guard_close(all[i]);
	return tap_done();
}
