/*
 * bf16 and fp8 conversions, each rung against the reference.
 */
#include "check.h"

enum { MOST = 1 << 19 };		/* bytes of an operand */

static struct guard gx, gy, gr;

static int
fail(const char *what, size_t n, size_t at)
{
	printf("# n %zu at %zu: %s\n", n, at, what);
	return 0;
}

static int
floats_ok(const float *want, const float *got, size_t n)
{
	const size_t at = differ_f32(want, got, n);

	if (at < n)
		return fail("differs", n, at);
	return guard_ok(&gy) ? 1 : fail("wrote beside", n, n);
}

/* n values from the one numbered first on: sizes and all values in one. */
static int
one_from_bf16(const struct kern *ref, const struct kern *got, size_t n,
    size_t first)
{
	uint16_t *x = guard_put(&gx, n * sizeof *x);
	float *y = guard_put(&gy, n * sizeof *y);
	float *want = guard_put(&gr, n * sizeof *want);

	for (size_t i = 0; i < n; i++)
		x[i] = (uint16_t)(first + i);
	ref->from_bf16(want, x, n);
	got->from_bf16(y, x, n);
	return floats_ok(want, y, n);
}

static int
one_to_bf16(const struct kern *ref, const struct kern *got, size_t n,
    size_t first)
{
	static const uint32_t low[] = { 0, 1, 0x7fff, 0x8000, 0x8001, 0xffff };
	float *x = guard_put(&gx, n * sizeof *x);
	uint16_t *y = guard_put(&gy, n * sizeof *y);
	uint16_t *want = guard_put(&gr, n * sizeof *want);

	for (size_t i = 0; i < n; i++) {
		const uint32_t u = (uint32_t)(first + i) << 16 |
		    low[rnd_below(6)];

		memcpy(&x[i], &u, sizeof u);
	}
	ref->to_bf16(want, x, n);
	got->to_bf16(y, x, n);
	for (size_t i = 0; i < n; i++)
		if (y[i] != want[i])
			return fail("differs", n, i);
	return guard_ok(&gy) ? 1 : fail("wrote beside", n, n);
}

static int
one_from_f8(const struct kern *ref, const struct kern *got, size_t n,
    size_t first)
{
	const float scale = rnd_f32((enum mode)rnd_below(NMODE));
	uint8_t *x = guard_put(&gx, n);
	float *y = guard_put(&gy, n * sizeof *y);
	float *want = guard_put(&gr, n * sizeof *want);

	for (size_t i = 0; i < n; i++)
		x[i] = (uint8_t)(first + i);
	ref->from_f8(want, x, scale, n);
	got->from_f8(y, x, scale, n);
	return floats_ok(want, y, n);
}

static int
sizes(const struct kern *ref, const struct kern *got,
    int (*one)(const struct kern *, const struct kern *, size_t, size_t))
{
	int ok = 1;

	for (size_t n = 0; n <= 300; n++)
		ok &= one(ref, got, n, rnd_below(65536));
	for (size_t i = 0; i < 65536; i += 8192)
		for (int rep = 0; rep < 8; rep++)
			ok &= one(ref, got, 8192, i);
	return ok;
}

static int
from_bf16(const struct kern *ref, const struct kern *got)
{
	return sizes(ref, got, one_from_bf16);
}

static int
to_bf16(const struct kern *ref, const struct kern *got)
{
	return sizes(ref, got, one_to_bf16);
}

static int
from_f8(const struct kern *ref, const struct kern *got)
{
	return sizes(ref, got, one_from_f8);
}

/* The reference on values worked out by hand. */
static int
known(void)
{
	static const uint8_t f8[] = {
		0x00, 0x01, 0x07, 0x08, 0x38, 0x7e, 0x80, 0xb8, 0x7f, 0xff
	};
	static const float want[] = {
		0, 0x1p-9f, 7 * 0x1p-9f, 0x1p-6f, 1, 448, -0.0f, -1, NAN, NAN
	};
	static const float x[] = { 1, 0x1.01p0f, 0x1.03p0f, 0x1.010002p0f,
	    NAN, 0x1.fffffep127f };
	static const uint16_t bf[] = { 0x3f80, 0x3f80, 0x3f82, 0x3f81, 0x7fc0,
	    0x7f80 };
	float y[10];
	uint16_t h[6];

	kern_init(0);
	kern.from_f8(y, f8, 1, 10);
	kern.to_bf16(h, x, 6);
	return differ_f32(want, y, 10) == 10 &&
	    memcmp(h, bf, sizeof bf) == 0;
}

/* Every bf16 but NaN comes back from its float. */
static int
round_trip(void)
{
	int ok = 1;

	kern_init(cpu_flags());
	for (unsigned u = 0; u < 65536; u++) {
		const uint16_t in = (uint16_t)u;
		uint16_t out;
		float f;

		kern.from_bf16(&f, &in, 1);
		kern.to_bf16(&out, &f, 1);
		ok &= f != f || out == in;
	}
	return ok;
}

static const struct check checks[] = {
	CHECK(from_bf16, from_bf16),
	CHECK(to_bf16, to_bf16),
	CHECK(from_f8, from_f8),
};

int
main(int argc, char **argv)
{
	check_start(argc, argv);
	gx = guard_open(MOST);
	gy = guard_open(MOST);
	gr = guard_open(MOST);
	tap_ok(known(), "the reference on values worked out by hand");
	tap_ok(round_trip(), "bf16 to float and back");
	check_rungs_all(checks, sizeof checks / sizeof *checks);
	guard_close(&gx);
	guard_close(&gy);
	guard_close(&gr);
	return tap_done();
}
