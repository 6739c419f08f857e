/*
 * comm: the same exchanges over every transport, compared byte for byte.
 */
#include "world.h"

enum {
	CAP = 20000, SUMS = 300000, BIG = 3 << 20,
	MAX_GROUPS = 6, ROUNDS_SHARED = 2500,
};

/* ---- exchanges: everyone knows what everyone gives ---- */

static unsigned all[RANKS], even[RANKS], odd[RANKS], ends[2], low[2];
static struct comm_group_def group[MAX_GROUPS];
static struct comm_chan_def chan[4 * RANKS];

static size_t
wire(struct world *w)
{
	unsigned n = w->n, ne = 0, no = 0;
	size_t k = 0;

	for (unsigned i = 0; i < n; i++) {
		all[i] = i;
		if (i % 2)
			odd[no++] = i;
		else
			even[ne++] = i;
	}
	ends[1] = n - 1;
	low[1] = 1;
	group[k++] = (struct comm_group_def){ n, all, CAP };
	group[k++] = (struct comm_group_def){ ne, even, CAP / 2 };
	if (no)
		group[k++] = (struct comm_group_def){ no, odd, 64 };
	if (n > 1)
		group[k++] = (struct comm_group_def){ 2, ends, CAP };
	if (n > 2)
		group[k++] = (struct comm_group_def){ 2, low, 1 };
	group[k++] = (struct comm_group_def){ n, all, 0 };
	w->o.wiring.group = group;
	w->o.wiring.ngroup = k;
	w->o.wiring.bcast_cap = 5000;
	return k;
}

/* What member i gives to j in round r: gathers, exchanges with holes, nothing
 * but meeting, everything. */
static struct comm_span
span_of(size_t cap, uint32_t r, unsigned i, unsigned j)
{
	uint32_t h = mixed(r, i, r % 4 == 0 ? 0 : j + 1);
	size_t off, len;

	if (r % 4 == 2 || cap == 0 || h % 5 == 0)
		return (struct comm_span){0};
	if (r % 64 == 1)
		return (struct comm_span){ 0, cap };
	off = h / 8 % cap;
	len = h / 64 % (cap - off < 700 ? cap - off + 1 : 700);
	return (struct comm_span){ off, len };
}

static uint8_t
byte_of(uint32_t r, unsigned i, size_t at)
{
	return (uint8_t)(r * 31 + i * 77 + at * 5 + (at >> 8) * 3);
}

static void
dawdle(uint32_t h)
{
	if (h % 97 == 0)
		usleep(h / 97 % 300);
}

static int
one_share(struct comm *c, size_t id, uint32_t r, struct err *e)
{
	struct comm_group *g = comm_group(c, id);
	size_t cap = group[id].cap;
	unsigned n = comm_size(g), me = comm_member(g);
	struct comm_span give[RANKS], take[RANKS];
	const void *from[RANKS];
	uint8_t *b = comm_buffer(g);
	bool none = r % 4 == 2;

	for (unsigned j = 0; j < n; j++) {
		give[j] = span_of(cap, r, me, j);
		take[j] = span_of(cap, r, j, me);
		for (size_t k = 0; k < give[j].len; k++)
			b[give[j].off + k] = byte_of(r, me, give[j].off + k);
	}
	dawdle(mixed(r, me, 12345));
	if (comm_share(g, none ? NULL : give, none ? NULL : take, from, e) ==
	    -1)
		return -1;
	for (unsigned i = 0; i < n; i++) {
		const uint8_t *p = from[i];

		for (size_t k = 0; k < take[i].len; k++) {
			if (p[k] != byte_of(r, i, take[i].off + k))
				return err_set(e, 1, "round %u group %zu: byte "
				    "%zu of member %u", r, id, k, i);
		}
	}
	return 0;
}

static int
one_sum(struct comm *c, size_t id, uint32_t r, struct err *e)
{
	struct comm_group *g = comm_group(c, id);
	unsigned n = comm_size(g), me = comm_member(g);
	static int64_t x64[CAP / 8];
	static int32_t x32[CAP / 4];
	static float f32[CAP / 4];
	size_t k32 = mixed(r, 1, 1) % (group[id].cap / 4 + 1);
	size_t k64 = k32 / 2;
	bool ok = true;

	for (size_t i = 0; i < k32; i++) {
		x32[i] = (int32_t)mixed(r, me, (uint32_t)i);
		f32[i] = (float)x32[i];
	}
	for (size_t i = 0; i < k64; i++)
		x64[i] = (int64_t)x32[i] * 1000000007;
	if (comm_reduce(g, COMM_SUM_I32, x32, k32, e) == -1 ||
	    comm_reduce(g, COMM_SUM_I64, x64, k64, e) == -1 ||
	    comm_reduce(g, COMM_MAX_F32, f32, k32, e) == -1)
		return -1;
	for (size_t i = 0; i < k32; i++) {
		int32_t most = INT32_MIN;
		uint32_t sum = 0;
		uint64_t sum64 = 0;

		for (unsigned m = 0; m < n; m++) {
			int32_t v = (int32_t)mixed(r, m, (uint32_t)i);

			sum += (uint32_t)v;
			sum64 += (uint64_t)((int64_t)v * 1000000007);
			most = v > most ? v : most;
		}
		ok &= x32[i] == (int32_t)sum && f32[i] == (float)most;
		ok &= i >= k64 || x64[i] == (int64_t)sum64;
	}
	return ok ? 0 : err_set(e, 1, "round %u group %zu: wrong sums", r, id);
}

static int
share_body(struct world *w, struct comm *c, struct err *e)
{
	if (comm_rank(c) >= comm_world(c) || comm_world(c) != w->n ||
	    strcmp(comm_host(c, comm_rank(c)), world_host(w, comm_rank(c))))
		return err_set(e, 1, "names");
	for (uint32_t r = 0; r < (uint32_t)w->param; r++) {
		for (size_t g = 0; g < w->o.wiring.ngroup; g++) {
			if (!comm_group(c, g))
				continue;
			if (one_share(c, g, r, e) == -1)
				return -1;
			if (r % 16 == 5 && one_sum(c, g, r, e) == -1)
				return -1;
		}
	}
	return comm_check(c, e);
}

static void
test_share(struct world *w, unsigned n, enum kind kind, int rounds)
{
	*w = (struct world){ .n = n, .kind = kind, .body = share_body,
		.param = rounds };
	wire(w);
	tap_ok(world_run(w), "%s, %u ranks: %d rounds of exchanges and sums",
	    kind_name[kind], n, rounds);
}

/* Long sums are made in chunks; all of these meet in the middle of them. */
static int
long_body(struct world *w, struct comm *c, struct err *e)
{
	struct comm_group *g = comm_group(c, 0);
	static int32_t x[SUMS / 4];
	unsigned n = w->n;

	for (uint32_t r = 0; r < (uint32_t)w->param; r++) {
		size_t k = r == 1 ? SUMS / 4 : mixed(r, 2, 2) % (SUMS / 4 + 1);

		for (size_t i = 0; i < k; i++)
			x[i] = (int32_t)(i * (comm_rank(c) + 1) + r);
		dawdle(mixed(r, comm_rank(c), 6) % 300);
		if (comm_reduce(g, COMM_SUM_I32, x, k, e) == -1)
			return -1;
		for (size_t i = 0; i < k; i++) {
			if (x[i] != (int32_t)(i * (n * (n + 1) / 2) + r * n))
				return err_set(e, 1, "sum %u at %zu", r, i);
		}
	}
	return 0;
}

static void
test_long(struct world *w, unsigned n, enum kind kind, int rounds)
{
	*w = (struct world){ .n = n, .kind = kind, .body = long_body,
		.param = rounds };
	wire(w);
	group[0].cap = SUMS;
	tap_ok(world_run(w), "%s, %u ranks: long sums", kind_name[kind], n);
}

/* ---- channels ---- */

static size_t
wire_chans(struct world *w)
{
	size_t k = 0;

	for (unsigned i = 0; i < w->n; i++) {
		unsigned to = (i + 1) % w->n;

		chan[k++] = (struct comm_chan_def){ i, to, 1000, 1 + i % 4 };
		chan[k++] = (struct comm_chan_def){ to, i, BIG, 1 };
	}
	w->o.wiring.chan = chan;
	w->o.wiring.nchan = k;
	return k;
}

/* Of big messages only some bytes are looked at. */
static size_t
step_of(size_t n)
{
	return n > 4096 ? 511 : 1;
}

static int
put(struct comm_chan *h, uint32_t r, size_t n, struct err *e)
{
	uint8_t *p = comm_fill(h, e);

	if (!p)
		return -1;
	for (size_t i = 0; i < n; i += step_of(n))
		p[i] = byte_of(r, 9, i);
	return comm_send(h, n, e);
}

static int
get(struct comm_chan *h, uint32_t r, size_t want, struct err *e)
{
	const uint8_t *p;
	const void *v;
	size_t n;

	if (comm_recv(h, &v, &n, e) == -1)
		return -1;
	p = v;
	for (size_t i = 0; i < n; i += step_of(n)) {
		if (p[i] != byte_of(r, 9, i))
			return err_set(e, 1, "message %u: byte %zu", r, i);
	}
	return n == want ? 0 : err_set(e, 1, "message %u: %zu bytes", r, n);
}

/* Messages run round the ring both ways; everyone sends as many as may lie
 * unread before it receives any, and big ones cross each other. */
static int
chan_body(struct world *w, struct comm *c, struct err *e)
{
	unsigned me = comm_rank(c), before = (me + w->n - 1) % w->n;
	struct comm_chan *out = comm_chan(c, 2 * me);
	struct comm_chan *in = comm_chan(c, 2 * before);
	struct comm_chan *big_in = comm_chan(c, 2 * me + 1);
	struct comm_chan *big_out = comm_chan(c, 2 * before + 1);
	uint32_t sent = 0, got = 0;

	for (uint32_t r = 0; r < (uint32_t)w->param; r++) {
		for (unsigned k = 0; k < 1 + me % 4; k++, sent++) {
			if (put(out, sent, mixed(sent, 3, 3) % 1001, e) == -1)
				return -1;
		}
		dawdle(mixed(r, me, 77));
		for (unsigned k = 0; k < 1 + before % 4; k++, got++) {
			if (get(in, got, mixed(got, 3, 3) % 1001, e) == -1)
				return -1;
		}
		if (r % 50 == 7 && (put(big_out, r, BIG - r, e) == -1 ||
		    get(big_in, r, BIG - r, e) == -1))
			return -1;
	}
	return 0;
}

static void
test_chan(struct world *w, unsigned n, enum kind kind, int rounds)
{
	*w = (struct world){ .n = n, .kind = kind, .body = chan_body,
		.param = rounds };
	wire_chans(w);
	tap_ok(world_run(w), "%s, %u ranks: channels", kind_name[kind], n);
}

/* ---- tell and hear ---- */

static int
tell_body(struct world *w, struct comm *c, struct err *e)
{
	uint8_t text[5000];

	for (uint32_t r = 0; r < (uint32_t)w->param; r++) {
		size_t want = mixed(r, 8, 8) % (sizeof(text) + 1), n;
		const void *v;

		for (size_t i = 0; i < want; i++)
			text[i] = byte_of(r, 8, i);
		if (comm_rank(c) == 0) {
			if (comm_tell(c, text, want, e) == -1)
				return -1;
			continue;
		}
		dawdle(mixed(r, comm_rank(c), 5));
		if (comm_hear(c, &v, &n, e) == -1)
			return -1;
		if (n != want || (n && memcmp(v, text, n) != 0))
			return err_set(e, 1, "message %u is not as told", r);
	}
	return 0;
}

static void
test_tell(struct world *w, unsigned n, enum kind kind, int rounds)
{
	*w = (struct world){ .n = n, .kind = kind, .body = tell_body,
		.param = rounds };
	wire(w);
	tap_ok(world_run(w), "%s, %u ranks: tell and hear", kind_name[kind],
	    n);
}

/* ---- what callers may get wrong ---- */

static int
misuse_body(struct world *w, struct comm *c, struct err *e)
{
	struct comm_span far[1] = { { CAP, 1 } }, huge[1] = { { 1, SIZE_MAX } };
	struct comm_group *g = comm_group(c, 0);
	bool ok = comm_group(c, w->o.wiring.ngroup) == NULL &&
	    comm_chan(c, 0) == NULL;
	const void *v;
	size_t n;

	ok &= comm_share(g, far, NULL, NULL, e) == -1;
	ok &= comm_share(g, NULL, huge, NULL, e) == -1;
	ok &= comm_reduce(g, COMM_SUM_I32, NULL, SIZE_MAX / 2, e) == -1;
	ok &= comm_reduce(g, COMM_SUM_I64, NULL, CAP / 8 + 1, e) == -1;
	ok &= comm_tell(c, "", 5001, e) == -1 && comm_hear(c, &v, &n, e) == -1;
	ok &= e->code == ERR_CALLER && comm_check(c, e) == 0;
	ok &= comm_local(c) == 1 && comm_local_index(c) == 0;
	return ok ? 0 : -1;
}

static void
test_misuse(struct world *w)
{
	unsigned twice[2] = { 0, 0 };
	struct comm_group_def bad[1] = { { 2, twice, 8 } };
	struct comm_opts o = { .wiring = { .world = 2, .group = bad,
		.ngroup = 1 } };
	struct comm *c = NULL;
	struct err e = {0};

	*w = (struct world){ .n = 1, .kind = SHARED, .body = misuse_body };
	wire(w);
	tap_ok(world_run(w), "misuse is answered, and ends nothing");
	tap_ok(comm_lead(&c, &o, NULL, 0, -1, &e) == -1 && !c &&
	    e.code == ERR_CALLER && strstr(e.msg, "group 0"),
	    "a wiring that cannot be: %s", e.msg);
	o.wiring.world = COMM_MAX_RANKS + 1;
	tap_ok(comm_lead(&c, &o, NULL, 0, -1, &e) == -1, "%s", e.msg);
	comm_close(&c);
}

static void
test_here(struct world *w)
{
	test_misuse(w);
	test_share(w, 1, SHARED, 200);
	test_share(w, 2, SHARED, ROUNDS_SHARED);
	test_share(w, 5, SHARED, ROUNDS_SHARED / 2);
	test_share(w, 16, SHARED, ROUNDS_SHARED / 8);
	test_long(w, 2, SHARED, 200);
	test_long(w, 16, SHARED, 20);
	test_chan(w, 2, SHARED, 200);
	test_chan(w, 5, SHARED, 120);
	test_tell(w, 2, SHARED, 1000);
	test_tell(w, 5, SHARED, 500);
}

int
main(void)
{
	struct world *w = world_shared(sizeof(*w));

	world_mpi_open();
	if (!world_mpi)
		test_here(w);
	test_share(w, 2, APART, 1500);
	test_share(w, 5, APART, 500);
	test_share(w, 16, APART, 48);
	test_share(w, 2, MIXED, 1500);
	test_share(w, 5, MIXED, 500);
	test_share(w, 16, MIXED, 100);
	test_long(w, 5, APART, 20);
	test_long(w, 5, MIXED, 40);
	for (enum kind k = APART; k < KINDS; k++) {
		test_chan(w, 2, k, 200);
		test_chan(w, 5, k, 120);
		test_tell(w, 2, k, 1000);
		test_tell(w, 5, k, 500);
	}
	mpi_close(&world_mpi, true);
	return tap_done();
}
