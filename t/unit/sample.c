/*
 * sample: each field against a reference that sorts everything, and the
 * statistics of the draw.  All seeds are fixed, so a failure is a change.
 */
#include <math.h>
#include <string.h>

#include "kern.h"
#include "sample/sample.h"
#include "tap.h"

enum { MAXV = 6000, MAXTOK = 400 };

static uint64_t rng = 1;

static uint32_t
rnd(uint32_t n)
{
	rng ^= rng << 13;		/* Marsaglia's xorshift64 */
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)(rng >> 33) % n;
}

static double
rnd01(void)
{
	return rnd(1 << 24) * 0x1p-24;
}

/* ---- the reference ---- */

struct ref_cand {
	float x;
	double p;
	int32_t id;
};

static int
cand_cmp(const void *a, const void *b)
{
	const struct ref_cand *x = a, *y = b;

	if (x->x != y->x)
		return x->x < y->x ? 1 : -1;
	return x->id < y->id ? -1 : x->id > y->id;
}

struct ref_in {
	const struct sample_params *p;
	const int32_t *prompt, *out;
	size_t nprompt, nout, vocab;
	const int32_t *eos;
	size_t neos;
};

static bool
ref_has(const int32_t *a, size_t n, int32_t id)
{
	for (size_t i = 0; i < n; i++) {
		if (a[i] == id)
			return true;
	}
	return false;
}

static bool
ref_is_bad(const struct ref_in *in, int32_t id)
{
	for (size_t i = 0; i < in->p->nbad; i++) {
		const struct sample_words *w = &in->p->bad[i];
		bool all = w->id[w->n - 1] == id && w->n - 1 <= in->nout;

		for (size_t j = 0; all && j + 1 < w->n; j++)
			all = in->out[in->nout - (w->n - 1) + j] == w->id[j];
		if (all)
			return true;
	}
	return false;
}

static float
ref_logit(const struct ref_in *in, float x, int32_t id)
{
	const struct sample_params *p = in->p;
	size_t times = 0;

	if (p->allowed && !ref_has(p->allowed, p->nallowed, id))
		x = -INFINITY;
	if (ref_is_bad(in, id))
		x = -INFINITY;
	for (size_t i = 0; i < p->nbias; i++) {
		if (p->bias[i].id == id)
			x += fmaxf(-100, fminf(100, p->bias[i].bias));
	}
	if ((int64_t)in->nout < p->min_tokens &&
	    (ref_has(p->stop_id, p->nstop_id, id) ||
	    ref_has(in->eos, in->neos, id)))
		x = -INFINITY;
	for (size_t i = 0; i < in->nout; i++)
		times += in->out[i] == id;
	if (times || ref_has(in->prompt, in->nprompt, id))
		x = x > 0 ? x / (float)p->repetition_penalty :
		    x * (float)p->repetition_penalty;
	x -= (float)p->frequency_penalty * (float)times;
	return times ? x - (float)p->presence_penalty : x;
}

static int32_t
ref_pick(const struct ref_cand *c, size_t n, double u)
{
	double sum = 0, cum = 0;
	int32_t id = -1;

	for (size_t i = 0; i < n; i++)
		sum += c[i].p;
	for (size_t i = 0; i < n; i++) {
		if (c[i].p > 0)
			id = c[i].id;
		cum += c[i].p;
		if (cum > u * sum)
			break;
	}
	return id;
}

static int32_t
ref_draw(const struct ref_in *in, const float *logits, double u)
{
	static struct ref_cand c[MAXV], s[MAXV];
	const struct sample_params *p = in->p;
	size_t n = in->vocab, k, keep;
	int64_t top_k = (uint64_t)p->top_k < n ? p->top_k : 0;
	double sum = 0, cum = 0;

	for (size_t i = 0; i < n; i++) {
		float x = ref_logit(in, logits[i], i);

		if (p->temperature >= 1e-5)
			x *= (float)(1 / p->temperature);
		c[i] = (struct ref_cand){ x, 0, i };
	}
	memcpy(s, c, n * sizeof(*s));
	qsort(s, n, sizeof(*s), cand_cmp);
	if (p->temperature < 1e-5)
		return s[0].id;
	for (size_t i = 0; i < n; i++) {
		c[i].p = exp((double)c[i].x - (double)s[0].x);
		c[i].p = c[i].p < 1e-37 ? 0 : c[i].p;
	}
	if (p->min_p <= 0 && top_k <= 0 && p->top_p >= 1)
		return ref_pick(c, n, u);
	for (keep = 0; keep < n && c[s[keep].id].p > 0 &&
	    c[s[keep].id].p >= p->min_p; keep++)
		s[keep].p = c[s[keep].id].p;
	k = top_k > 0 ? (size_t)top_k : keep;
	while (k < keep && s[k].x == s[k - 1].x)
		k++;
	keep = k < keep ? k : keep;
	for (size_t i = 0; i < keep; i++)
		sum += s[i].p;
	for (k = 0; k < keep && (k == 0 || cum < p->top_p * sum); k++)
		cum += s[k].p;
	return ref_pick(s, p->top_p < 1 ? k : keep, u);
}

/* ---- one draw by both ---- */

static struct sample_scratch *scratch;

static int32_t
lib_draw(const struct ref_in *in, const float *logits,
    const struct sample_ctx *base)
{
	struct sample_ctx c = *base;
	struct sample_seen *seen = NULL;
	struct err e = {0};
	int32_t id = -1;

	sample_seen_new(&seen, &e);
	for (size_t i = 0; i < in->nprompt; i++)
		sample_seen_add(seen, in->prompt[i], false, &e);
	for (size_t i = 0; i < in->nout; i++)
		sample_seen_add(seen, in->out[i], true, &e);
	c.nout = in->nout;
	c.out = in->out;
	c.seen = seen;
	c.eos = in->eos;
	c.neos = in->neos;
	if (sample_draw(&id, logits, in->vocab, in->p, &c, &scratch, &e) == -1)
		printf("# %s\n", e.msg);
	sample_seen_free(&seen);
	return id;
}

static void
random_row(float *x, size_t n)
{
	static const float width[] = { 0.01f, 1, 5, 30, 200 };
	float w = width[rnd(5)];
	bool coarse = rnd(4) == 0;	/* many ties */

	for (size_t i = 0; i < n; i++) {
		x[i] = (float)(rnd01() + rnd01() + rnd01() - 1.5) * w;
		if (coarse)
			x[i] = rintf(x[i]);
		if (rnd(50) == 0)
			x[i] = -INFINITY;
	}
	x[rnd(n)] = 1;			/* not all masked */
}

enum { F_TEMP = 1, F_TOPP = 2, F_TOPK = 4, F_MINP = 8, F_REP = 16, F_PRES = 32,
	F_FREQ = 64, F_BIAS = 128, F_BAD = 256, F_MIN = 512, F_ALLOW = 1024,
	F_GREEDY = 2048 };

static void
random_lists(struct sample_params *p, const struct ref_in *in, unsigned f)
{
	size_t v = in->vocab;

	if (f & F_BIAS) {
		p->nbias = 1 + rnd(20);
		p->bias = mem_new(p->nbias, sizeof(*p->bias), NULL);
		for (size_t i = 0; i < p->nbias; i++)
			p->bias[i] = (struct sample_bias){ rnd(v),
			    (float)(rnd01() - 0.5) * 300 };
	}
	if (f & F_ALLOW) {
		p->nallowed = 1 + rnd(40);
		p->allowed = mem_new(p->nallowed, sizeof(int32_t), NULL);
		for (size_t i = 0; i < p->nallowed; i++)
			p->allowed[i] = rnd(v);
	}
	if (f & F_MIN) {
		p->min_tokens = rnd(MAXTOK);
		p->nstop_id = 1 + rnd(v);
		p->stop_id = mem_new(p->nstop_id, sizeof(int32_t), NULL);
		for (size_t i = 0; i < p->nstop_id; i++)
			p->stop_id[i] = rnd(v);
	}
	if (!(f & F_BAD))
		return;
	p->nbad = 1 + rnd(30);
	p->bad = mem_new(p->nbad, sizeof(*p->bad), NULL);
	for (size_t i = 0; i < p->nbad; i++) {
		struct sample_words *w = &p->bad[i];

		w->n = 1 + rnd(3);
		w->id = mem_new(w->n, sizeof(int32_t), NULL);
		for (size_t j = 0; j < w->n; j++) {
			size_t back = w->n - 1 - j;

			w->id[j] = back && in->nout >= back && rnd(8) ?
			    in->out[in->nout - back] : (int32_t)rnd(v);
		}
	}
}

static void
random_params(struct sample_params *p, const struct ref_in *in, unsigned f)
{
	static const double top_p[] = { 1e-9, 0.05, 0.3, 0.9, 0.999 };

	sample_init(p);
	p->max_tokens = MAXTOK;
	if (f & F_TEMP)
		p->temperature = 0.05 + rnd01() * 1.95;
	if (f & F_TOPP)
		p->top_p = top_p[rnd(5)];
	if (f & F_TOPK)
		p->top_k = 1 + rnd(rnd(2) ? 10 : 2 * in->vocab);
	if (f & F_MINP)
		p->min_p = rnd(3) ? rnd01() * 0.2 : 1;
	if (f & F_REP)
		p->repetition_penalty = 0.5 + 2 * rnd01();
	if (f & F_PRES)
		p->presence_penalty = 4 * rnd01() - 2;
	if (f & F_FREQ)
		p->frequency_penalty = 4 * rnd01() - 2;
	if (f & F_GREEDY)
		p->temperature = rnd(2) ? 0 : 9e-6;
	random_lists(p, in, f);
}

/* Counts draws that differ from the reference; *plain: those that would be no
 * different without the fields. */
static int
compare(unsigned fields, int rounds, int *plain)
{
	static float x[MAXV];
	static int32_t prompt[MAXTOK], out[MAXTOK];
	static const int32_t eos[] = { 3, 1 };
	int bad = 0;

	for (int i = 0; i < rounds; i++) {
		struct sample_params p, none;
		struct sample_ctx c = { .seed = 77, .choice = i };
		struct ref_in in = { &p, prompt, out, rnd(MAXTOK),
		    rnd(i % 2 ? 4 : MAXTOK), 0, eos, 2 };
		double u;
		int32_t want;

		in.vocab = 4 + rnd(i % 6 ? 40 : MAXV - 4);
		random_row(x, in.vocab);
		for (size_t j = 0; j < MAXTOK; j++) {
			prompt[j] = rnd(in.vocab);
			out[j] = rnd(in.vocab);
		}
		random_params(&p, &in, fields);
		x[p.allowed ? p.allowed[0] : 2] = 0.5f;
		u = sample_uniform(77, i, in.nout);
		want = ref_draw(&in, x, u);
		if (want < 0 || !isfinite(ref_logit(&in, x[want], want)))
			want = -1;	/* all masked: see test_edges */
		else
			bad += lib_draw(&in, x, &c) != want;
		sample_init(&none);
		in.p = &none;
		*plain += want == -1 || ref_draw(&in, x, u) == want;
		sample_free(&p);
	}
	return bad;
}

static void
test_fields(void)
{
	static const struct {
		const char *name;
		unsigned f;
	} t[] = {
		{ "no field at all", 0 },
		{ "temperature", F_TEMP }, { "top_p", F_TOPP },
		{ "top_k", F_TOPK }, { "min_p", F_MINP },
		{ "repetition_penalty", F_REP },
		{ "presence_penalty", F_PRES },
		{ "frequency_penalty", F_FREQ }, { "logit_bias", F_BIAS },
		{ "bad_words", F_BAD }, { "min_tokens", F_MIN },
		{ "allowed_token_ids", F_ALLOW }, { "greedy", F_GREEDY },
		{ "top_k and top_p", F_TOPK | F_TOPP },
		{ "all filters", F_TEMP | F_TOPK | F_TOPP | F_MINP },
		{ "greedy and all lists", F_GREEDY | F_REP | F_PRES | F_FREQ |
		    F_BIAS | F_BAD | F_MIN | F_ALLOW },
		{ "everything", (F_GREEDY - 1) },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		enum { N = 300 };
		int plain = 0, bad = compare(t[i].f, N, &plain);

		tap_ok(bad == 0, "%s: as the sorting reference (%d of %d "
		    "differ)", t[i].name, bad, N);
		if (t[i].f)
			tap_ok(plain < N, "%s: has an effect (%d of %d draws)",
			    t[i].name, N - plain, N);
	}
}

/* ---- statistics ---- */

enum { NCAT = 24, NDRAW = 20000 };

/* chi-square of NDRAW draws at temperature t against that of temperature
 * expect; axis: which argument counts the draws. */
static double
chi_square(int axis, double t, double expect, double min_p)
{
	double p[NCAT], sum = 0, chi = 0;
	float x[NCAT];
	int seen[NCAT] = {0};
	struct sample_params q;
	struct err e = {0};

	sample_init(&q);
	q.temperature = t;
	q.min_p = min_p;		/* small: another path, all tokens */
	for (int i = 0; i < NCAT; i++) {
		x[i] = (float)((i * 7) % NCAT) / 10;
		sum += p[i] = exp((double)x[i] / expect);
	}
	for (int i = 0; i < NDRAW; i++) {
		struct sample_ctx c = { .seed = axis == 0 ? i : 5,
		    .choice = axis == 1 ? i : 2, .nout = axis == 2 ? i : 9 };
		int32_t id = 0;

		sample_draw(&id, x, NCAT, &q, &c, &scratch, &e);
		seen[id]++;
	}
	for (int i = 0; i < NCAT; i++) {
		double want = NDRAW * p[i] / sum;

		chi += (seen[i] - want) * (seen[i] - want) / want;
	}
	return chi;
}

static void
test_chi_square(void)
{
	static const char *const axis[] = { "seed", "choice", "nout" };
	/* 23 degrees of freedom: 49.73 is passed by one in a thousand */
	const double limit = 49.73;

	for (int i = 0; i < 3; i++) {
		double open = chi_square(i, 0.8, 0.8, 0);
		double filtered = chi_square(i, 0.8, 0.8, 1e-6);
		double wrong = chi_square(i, 0.8, 0.9, 0);

		tap_ok(open < limit, "over %s: chi-square %.1f", axis[i], open);
		tap_ok(filtered < limit, "over %s, filtered: chi-square %.1f",
		    axis[i], filtered);
		tap_ok(wrong > limit, "over %s, another temperature is told "
		    "apart: chi-square %.1f", axis[i], wrong);
	}
}

static void
test_uniform(void)
{
	static const struct {
		uint32_t ctr[4], key[2], out[4];
	} kat[] = {			/* those of Random123 */
		{ {0, 0, 0, 0}, {0, 0},
		    {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8} },
		{ {~0u, ~0u, ~0u, ~0u}, {~0u, ~0u},
		    {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd} },
		{ {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
		    {0xa4093822, 0x299f31d0},
		    {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1} },
	};
	double lo = 1, hi = 0;

	for (int i = 0; i < 3; i++) {
		uint32_t r[4];

		sample_philox(r, kat[i].ctr, kat[i].key);
		tap_ok(memcmp(r, kat[i].out, sizeof(r)) == 0,
		    "philox: known answer %d", i);
	}
	tap_ok(sample_uniform(0, 0, 0) == 0xe169c58d6627e8d5 / 2048 * 0x1p-53,
	    "the uniform number is the first 53 bits");
	for (uint64_t i = 0; i < 100000; i++) {
		double u = sample_uniform(i << 40, 3, i << 32);

		lo = u < lo ? u : lo;
		hi = u > hi ? u : hi;
	}
	tap_ok(lo >= 0 && lo < 1e-3 && hi < 1 && hi > 0.999,
	    "uniform numbers fill [0, 1): %g %g", lo, hi);
	tap_ok(sample_uniform(1, 0, 0) != sample_uniform((uint64_t)1 << 32, 0,
	    0) && sample_uniform(0, 1, 0) != sample_uniform(0, 0, 1),
	    "seed halves, choice and place are told apart");
}

/* Two orders of calls, one with other work between; the logits stay. */
static void
test_order(void)
{
	enum { N = 200, V = 3000 };
	static float x[V], y[V], other[MAXV];
	int32_t a[N], b[N], ignored;
	struct sample_params p, q;
	struct sample_scratch *s2 = NULL;

	sample_init(&p);
	sample_init(&q);
	q.top_p = 0.7;
	random_row(x, V);
	random_row(other, MAXV);
	memcpy(y, x, sizeof(x));
	for (int i = 0; i < N; i++) {
		struct sample_ctx c = { .seed = 4, .nout = i };

		sample_draw(&a[i], x, V, i % 2 ? &p : &q, &c, &scratch, NULL);
	}
	for (int i = N; i-- > 0;) {
		struct sample_ctx c = { .seed = 4, .nout = i };

		if (i % 3 == 0)
			sample_draw(&ignored, other, 100 + i * 29, &q, &c, &s2,
			    NULL);
		sample_draw(&b[i], x, V, i % 2 ? &p : &q, &c, &s2, NULL);
	}
	tap_ok(memcmp(a, b, sizeof(a)) == 0, "draws don't depend on the order "
	    "of calls");
	tap_ok(memcmp(x, y, sizeof(x)) == 0, "the logits stay as they are");
	sample_scratch_free(&s2);
	sample_scratch_free(&s2);
}

/* ---- log-sum-exp and logprobs ---- */

static uint64_t
rung_digest(unsigned flags)
{
	static float x[MAXV];
	uint64_t h = 14695981039346656037u;
	struct sample_params p;

	kern_init(flags);
	rng = 99;
	sample_init(&p);
	for (int i = 0; i < 300; i++) {
		struct sample_ctx c = { .seed = i };
		size_t n = 1 + rnd(MAXV);
		int32_t id;
		float l;
		uint32_t bits;

		random_row(x, n);
		p.temperature = 0.3 + i % 5;
		p.top_p = i % 2 ? 0.95 : 1;
		sample_draw(&id, x, n, &p, &c, &scratch, NULL);
		l = sample_lse(x, n);
		memcpy(&bits, &l, sizeof(bits));
		h = ((h ^ (uint32_t)id) * 1099511628211u ^ bits) *
		    1099511628211u;
	}
	return h;
}

static void
test_lse(void)
{
	static float x[MAXV];
	double worst = 0;
	float inf2[2] = { -INFINITY, -INFINITY };

	for (int i = 0; i < 200; i++) {
		size_t n = 1 + rnd(MAXV);
		long double sum = 0;

		random_row(x, n);
		for (size_t j = 0; j < n; j++)
			sum += expl(x[j]);
		worst = fmax(worst, fabs((double)(logl(sum) -
		    (long double)sample_lse(x, n))) /
		    fmax(1, fabs((double)logl(sum))));
	}
	tap_ok(worst < 2e-7, "log-sum-exp: relative error %.2g", worst);
	tap_ok(sample_lse(inf2, 2) == -INFINITY && sample_lse(NULL, 0) ==
	    -INFINITY, "log-sum-exp of nothing is -infinity");
	x[0] = 3.25f;
	tap_ok(sample_lse(x, 1) == 3.25f, "log-sum-exp of one is itself");
	tap_ok(rung_digest(0) == rung_digest(cpu_flags()),
	    "the same bits on %s as on the reference", kern.name);
}

static void
test_logprobs(void)
{
	static const float x[8] = { 1, 3, 3, -INFINITY, 0, 2, 3, -5 };
	static const int32_t order[8] = { 1, 2, 6, 5, 0, 4, 7, 3 };
	struct sample_logprobs l = {0};
	float lse = sample_lse(x, 8);
	double sum = 0;
	int right = 0;

	tap_ok(sample_logprobs(&l, x, 8, 5, 4, NULL) == 0 && l.ntop == 4 &&
	    l.chosen.id == 5 && l.chosen.rank == 4 &&
	    l.chosen.lp == x[5] - lse, "the chosen one's rank and logprob");
	for (int i = 0; i < 4; i++)
		right += l.top[i].id == order[i] && l.top[i].rank == i + 1 &&
		    l.top[i].lp == x[order[i]] - lse;
	tap_ok(right == 4, "the 4 best fall; ties: lower id first");
	sample_logprobs(&l, x, 8, 6, 0, NULL);
	tap_ok(l.ntop == 0 && l.chosen.rank == 1, "0: the chosen one only; "
	    "ties share the best rank");
	sample_logprobs(&l, x, 8, 3, -1, NULL);
	right = 0;
	for (size_t i = 0; i < l.ntop; i++) {
		right += l.top[i].id == order[i];
		sum += exp((double)l.top[i].lp);
	}
	tap_ok(l.ntop == 8 && right == 8 && fabs(sum - 1) < 1e-6,
	    "-1: the whole vocabulary, falling; it sums to %g", sum);
	tap_ok(l.chosen.lp == -INFINITY && l.chosen.rank == 8 &&
	    l.top[7].lp == -INFINITY, "a masked token has logprob -infinity");
	sample_logprobs(&l, x, 8, 0, 20, NULL);
	tap_ok(l.ntop == 8, "no more than there are");
	tap_ok(sample_logprobs(&l, x, 8, 8, 1, NULL) == -1, "id 8 of 8 is "
	    "refused");
	free(l.top);
}

/* Few and all agree, on rows with ties. */
static void
test_top_random(void)
{
	static float x[MAXV];
	struct sample_logprobs few = {0}, all = {0};
	int bad = 0;

	for (int i = 0; i < 100; i++) {
		size_t n = 20 + rnd(MAXV - 20);
		int32_t id = rnd(n), above = 0;

		random_row(x, n);
		sample_logprobs(&few, x, n, id, 20, NULL);
		sample_logprobs(&all, x, n, id, -1, NULL);
		for (int j = 0; j < 20; j++)
			bad += few.top[j].id != all.top[j].id ||
			    few.top[j].lp != all.top[j].lp;
		for (size_t j = 0; j < n; j++)
			above += x[j] > x[id];
		bad += few.chosen.rank != above + 1;
		for (size_t j = 1; j < n; j++)
			bad += x[all.top[j].id] > x[all.top[j - 1].id];
	}
	tap_ok(bad == 0, "20 best and all agree on random rows");
	free(few.top);
	free(all.top);
}

/* ---- edges ---- */

static void
test_edges(void)
{
	float x[4] = { 0, 5, 5, 1 }, nan4[4] = { 0, NAN, 1, 2 };
	float inf4[4] = { 0, INFINITY, 1, 2 };
	int32_t allowed[2] = { 3, 2 }, id = -1;
	struct sample_params p;
	struct sample_ctx c = { .eos = allowed, .neos = 2 };
	struct err e = {0};
	struct sample_seen *seen = NULL;

	sample_init(&p);
	p.temperature = 0;
	sample_draw(&id, x, 4, &p, &c, &scratch, &e);
	tap_ok(id == 1, "greedy: ties go to the lowest id");
	p.allowed = allowed;
	p.nallowed = 2;
	p.min_tokens = 1;
	for (int t = 0; t < 2; t++) {
		p.temperature = t;
		tap_ok(sample_draw(&id, x, 4, &p, &c, &scratch, &e) == 0 &&
		    id == 2, "all masked: the lowest allowed id");
	}
	p.allowed = NULL;
	for (int t = 0; t < 2; t++) {
		p.temperature = t;
		tap_ok(sample_draw(&id, nan4, 4, &p, &c, &scratch, &e) == -1 &&
		    e.code == ERR_SYSTEM, "NaN is an error: %s", e.msg);
		tap_ok(sample_draw(&id, inf4, 4, &p, &c, &scratch, &e) == -1,
		    "so is infinity");
	}
	sample_seen_new(&seen, &e);
	for (int i = 0; i < 4; i++)
		sample_seen_add(seen, i, i & 1, &e);
	c.seen = seen;
	for (int i = 0; i < 2; i++) {
		p.repetition_penalty = i ? 1e300 : 1e-300;
		p.temperature = 1e-5;
		tap_ok(sample_draw(&id, x, 4, &p, &c, &scratch, &e) == 0,
		    "a repetition penalty of %g does no harm",
		    p.repetition_penalty);
	}
	sample_seen_free(&seen);
}

/* ---- parameters ---- */

static void
fill_params(struct sample_params *p)
{
	static const int32_t two[2] = { 7, 8 };

	sample_init(p);
	p->stop_id = mem_new(2, 4, NULL);
	p->logprob_id = mem_new(2, 4, NULL);
	p->allowed = mem_new(2, 4, NULL);
	p->bias = mem_new(1, sizeof(*p->bias), NULL);
	p->bad = mem_new(2, sizeof(*p->bad), NULL);
	p->nstop_id = p->nlogprob_id = p->nallowed = p->nbad = 2;
	p->nbias = 1;
	p->bias[0] = (struct sample_bias){ 7, -3 };
	memcpy(p->stop_id, two, 8);
	memcpy(p->logprob_id, two, 8);
	memcpy(p->allowed, two, 8);
	for (int i = 0; i < 2; i++) {
		p->bad[i].id = mem_new(2, 4, NULL);
		memcpy(p->bad[i].id, two, 8);
		p->bad[i].n = 2 - i;
	}
	p->stop[0] = strdup("END");
	p->stop[1] = strdup("\n");
	p->nstop = 2;
	p->seed = -4;
}

static void
test_copy(void)
{
	struct sample_params a, b;
	struct err e = {0};

	fill_params(&a);
	tap_ok(sample_check(&a, 9, &e) == 0, "full parameters pass: %s", e.msg);
	tap_ok(sample_copy(&b, &a, &e) == 0, "they can be copied");
	tap_ok(b.stop[0] != a.stop[0] && b.bad[0].id != a.bad[0].id &&
	    b.allowed != a.allowed, "the copy has arrays of its own");
	sample_free(&a);
	tap_ok(strcmp(b.stop[0], "END") == 0 && strcmp(b.stop[1], "\n") == 0 &&
	    b.nstop == 2 && b.nbad == 2 && b.bad[1].n == 1 &&
	    b.bad[0].id[1] == 8 && b.bias[0].bias == -3 && b.allowed[1] == 8 &&
	    b.logprob_id[0] == 7 && b.stop_id[1] == 8 && b.seed == -4,
	    "and all that the first had");
	sample_free(&b);
	tap_ok(!b.allowed && b.temperature == 1 && b.top_p == 1 &&
	    b.logprobs == SAMPLE_LOGPROBS_OFF, "freed: back to defaults");
	sample_copy(&a, &b, &e);
	tap_ok(!a.allowed && !a.bad && sample_check(&a, 1, &e) == 0,
	    "a copy of the defaults allows all ids");
	sample_free(&a);
}

static void
refuse(struct sample_params *p, const char *want)
{
	struct err e = {0};
	int r = sample_check(p, 9, &e);

	tap_ok(r == -1 && e.code == ERR_CALLER && strcmp(e.msg, want) == 0,
	    "%s", r == -1 ? e.msg : want);
	sample_free(p);
	fill_params(p);
}

static void
test_ranges(void)
{
	struct sample_params p;

	fill_params(&p);
	p.temperature = 3;
	refuse(&p, "temperature must be in [0, 2], not 3");
	p.temperature = NAN;
	refuse(&p, "temperature must be in [0, 2], not nan");
	p.top_p = 0;
	refuse(&p, "top_p must be in (0, 1], not 0");
	p.min_p = 1.5;
	refuse(&p, "min_p must be in [0, 1], not 1.5");
	p.repetition_penalty = 0;
	refuse(&p, "repetition_penalty must be greater than 0, not 0");
	p.repetition_penalty = INFINITY;
	refuse(&p, "repetition_penalty must be finite");
	p.presence_penalty = -2.5;
	refuse(&p, "presence_penalty must be in [-2, 2], not -2.5");
	p.frequency_penalty = 2.5;
	refuse(&p, "frequency_penalty must be in [-2, 2], not 2.5");
	p.max_tokens = -1;
	refuse(&p, "max_tokens must be at least 0, not -1");
	p.min_tokens = 17;
	refuse(&p, "min_tokens must be in [0, max_tokens], which is [0, 16], "
	    "not 17");
	p.logprobs = 21;
	refuse(&p, "logprobs must be in [0, 20], or -1 for the whole "
	    "vocabulary, not 21");
	p.prompt_logprobs = -3;
	refuse(&p, "prompt_logprobs must be in [0, 20], or -1 for the whole "
	    "vocabulary, not -3");
	p.stop_id[1] = 9;
	refuse(&p, "stop_token_ids: token id 9 is not in the vocabulary, "
	    "whose ids are 0 to 8");
	p.logprob_id[0] = -1;
	refuse(&p, "logprob_token_ids: token id -1 is not in the vocabulary, "
	    "whose ids are 0 to 8");
	p.allowed[0] = 10;
	refuse(&p, "allowed_token_ids: token id 10 is not in the vocabulary, "
	    "whose ids are 0 to 8");
	p.nallowed = 0;
	refuse(&p, "allowed_token_ids must not be empty");
	p.bias[0].id = 9;
	refuse(&p, "logit_bias: token id 9 is not in the vocabulary, "
	    "whose ids are 0 to 8");
	p.bias[0].bias = NAN;
	refuse(&p, "logit_bias: the bias of token id 7 must be a number");
	p.bad[1].n = 0;
	refuse(&p, "bad_words: entry 1 has no tokens");
	p.bad[0].id[1] = 9;
	refuse(&p, "bad_words: token id 9 is not in the vocabulary, "
	    "whose ids are 0 to 8");
	p.stop[1][0] = '\0';
	refuse(&p, "stop must not hold an empty string");
	p.nstop = SAMPLE_MAX_STOP + 1;
	refuse(&p, "stop must have at most 16 strings, not 17");
	sample_free(&p);
}

int
main(void)
{
	kern_init(cpu_flags());
	test_uniform();
	test_fields();
	test_chi_square();
	test_order();
	test_lse();
	test_logprobs();
	test_top_random();
	test_edges();
	test_copy();
	test_ranges();
	sample_scratch_free(&scratch);
	return tap_done();
}
