/*
 * sample: one draw from a row of logits.
 *
 * With no filter set the vocabulary is never sorted: the draw walks it in id
 * order, by the sums of fixed blocks.  With top_k, top_p or min_p only what
 * can survive is sorted: a histogram over the distance from the greatest logit
 * tells where to cut.  Either way the order of all sums is fixed, so the
 * token depends on nothing but the arguments.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kern.h"
#include "sample/sample_priv.h"

/* Logit distances up to 87.33, where kern_expf ends in 0, in 1/16. */
enum { BIN_SCALE = 16, NBIN = 88 * BIN_SCALE };

#define GREEDY_BELOW 1e-5
#define MAX_BIAS 100.0f
#define MAX_LOGIT 1e30f			/* so far a penalty may drive one */
#define MAX_REPETITION 1e30

struct sample_scratch {
	float *x;			/* the logits after all changes */
	float *e;			/* exp(x - max); 0: filtered out */
	uint64_t *key, *tmp;
	float *sum;			/* of each block */
	size_t cap;			/* vocabulary that fits */
	double mass[NBIN];
	uint32_t count[NBIN];
};

void
sample_scratch_free(struct sample_scratch **s)
{
	if (!*s)
		return;
	free((*s)->x);
	free((*s)->e);
	free((*s)->key);
	free((*s)->sum);
	free(*s);
	*s = NULL;
}

static int
scratch_for(struct sample_scratch **out, size_t vocab, struct err *e)
{
	struct sample_scratch *s = *out;

	if (s && s->cap >= vocab)
		return 0;
	sample_scratch_free(out);
	s = *out = mem_new(1, sizeof(*s), e);
	if (!s)
		return -1;
	s->x = mem_new(vocab, sizeof(*s->x), e);
	s->e = mem_new(vocab, sizeof(*s->e), e);
	s->key = mem_new(vocab, 2 * sizeof(*s->key), e);
	s->sum = mem_new(vocab / SAMPLE_BLOCK + 1, sizeof(*s->sum), e);
	if (!s->x || !s->e || !s->key || !s->sum) {
		sample_scratch_free(out);
		return -1;
	}
	s->tmp = s->key + vocab;
	s->cap = vocab;
	return 0;
}

/* ---- what changes single logits ---- */

static bool
inside(int32_t id, size_t vocab)
{
	return id >= 0 && (size_t)id < vocab;
}

static void
mask_ids(float *x, size_t vocab, const int32_t *id, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (inside(id[i], vocab))
			x[id[i]] = -INFINITY;
	}
}

/* A copy of the logits, without those that aren't allowed. */
static void
copy_allowed(float *x, const float *logits, size_t vocab,
    const struct sample_params *p)
{
	if (!p->allowed) {
		memcpy(x, logits, vocab * sizeof(*x));
		return;
	}
	for (size_t i = 0; i < vocab; i++)
		x[i] = -INFINITY;
	for (size_t i = 0; i < p->nallowed; i++) {
		int32_t id = p->allowed[i];

		if (inside(id, vocab))
			x[id] = logits[id];
	}
}

/* The last token of a bad word is out once the ones before it are there. */
static void
apply_bad(float *x, size_t vocab, const struct sample_params *p,
    const struct sample_ctx *c)
{
	for (size_t i = 0; i < p->nbad; i++) {
		const struct sample_words *w = &p->bad[i];
		size_t head = w->n - 1;

		if (!w->n || head > c->nout)
			continue;
		if (head && memcmp(c->out + c->nout - head, w->id,
		    head * sizeof(*w->id)) != 0)
			continue;
		mask_ids(x, vocab, &w->id[head], 1);
	}
}

static void
apply_bias(float *x, size_t vocab, const struct sample_params *p)
{
	for (size_t i = 0; i < p->nbias; i++) {
		float b = p->bias[i].bias;

		b = b > MAX_BIAS ? MAX_BIAS : b < -MAX_BIAS ? -MAX_BIAS : b;
		if (inside(p->bias[i].id, vocab))
			x[p->bias[i].id] += b;
	}
}

static float
penalized(float x, uint32_t nout, const struct sample_params *p)
{
	double big = p->repetition_penalty;
	float r = big > MAX_REPETITION ? MAX_REPETITION : big;

	/* r may round to 0, but never to infinity: 0 * r has to stay 0. */
	x = x > 0 ? x / r : x * r;
	x -= (float)p->frequency_penalty * (float)nout;
	if (nout)
		x -= (float)p->presence_penalty;
	return x > MAX_LOGIT ? MAX_LOGIT : x < -MAX_LOGIT ? -MAX_LOGIT : x;
}

static void
apply_penalties(float *x, size_t vocab, const struct sample_params *p,
    const struct sample_seen *seen)
{
	for (size_t i = 0; i < seen->n; i++) {
		const struct seen_entry *s = &seen->ent[i];

		if (inside(s->id, vocab) && !isinf(x[s->id]))
			x[s->id] = penalized(x[s->id], s->nout, p);
	}
}

static void
apply_all(float *x, const float *logits, size_t vocab,
    const struct sample_params *p, const struct sample_ctx *c)
{
	copy_allowed(x, logits, vocab, p);
	apply_bad(x, vocab, p, c);
	apply_bias(x, vocab, p);
	if (p->min_tokens > 0 && c->nout < (uint64_t)p->min_tokens) {
		mask_ids(x, vocab, p->stop_id, p->nstop_id);
		mask_ids(x, vocab, c->eos, c->neos);
	}
	if (c->seen)
		apply_penalties(x, vocab, p, c->seen);
}

/* ---- the choice ---- */

/* For a row that has nothing left. */
static int32_t
last_resort(size_t vocab, const struct sample_params *p)
{
	int32_t id = -1;

	for (size_t i = 0; p->allowed && i < p->nallowed; i++) {
		if (inside(p->allowed[i], vocab) &&
		    (id < 0 || p->allowed[i] < id))
			id = p->allowed[i];
	}
	return id < 0 ? 0 : id;
}

static int
not_numbers(struct err *e)
{
	return err_set(e, ERR_SYSTEM, "the logits hold NaN or infinity: "
	    "the model's weights or scales are damaged");
}

/* -1 when a NaN or +infinity is there, else the best (vocab: none). */
static int
argmax(size_t *best, const float *x, size_t vocab, struct err *e)
{
	float max = -INFINITY;

	*best = vocab;
	for (size_t i = 0; i < vocab; i++) {
		if (x[i] <= max)
			continue;
		if (!(x[i] < INFINITY))
			return not_numbers(e);
		max = x[i];
		*best = i;
	}
	return 0;
}

/* e[0..n) = exp(x - max), and the sum of each block; returns all of it. */
static double
exp_blocks(struct sample_scratch *s, size_t n, float max)
{
	double total = 0;

	memcpy(s->e, s->x, n * sizeof(*s->e));
	for (size_t i = 0, b = 0; i < n; i += SAMPLE_BLOCK, b++) {
		size_t len = n - i < SAMPLE_BLOCK ? n - i : SAMPLE_BLOCK;

		s->sum[b] = kern.exp_sum(s->e + i, max, len);
		total += (double)s->sum[b];
	}
	return total;
}

/* Inverse CDF in id order: first the block, then the token in it.  The
 * block's sum and that of its walk may differ in the last bits: then it is the
 * last token that has any chance. */
static int32_t
draw_open(const struct sample_scratch *s, size_t n, double target)
{
	double cum = 0, last = 0;
	size_t b = 0, pick = 0;

	for (size_t i = 0; i * SAMPLE_BLOCK < n; i++) {
		if (!(s->sum[i] > 0))
			continue;
		b = i;
		last = cum;
		cum += (double)s->sum[i];
		if (cum > target)
			break;
	}
	cum = last;
	for (size_t i = b * SAMPLE_BLOCK; i < n && i < (b + 1) * SAMPLE_BLOCK;
	    i++) {
		if (!(s->e[i] > 0))
			continue;
		pick = i;
		cum += (double)s->e[i];
		if (cum > target)
			break;
	}
	return (int32_t)pick;
}

static size_t
bin_of(float x, float max)
{
	size_t b = (size_t)((max - x) * BIN_SCALE);

	return b < NBIN ? b : NBIN - 1;
}

/* min_p, then the histogram of what it leaves; returns its mass. */
static double
fill_bins(struct sample_scratch *s, size_t n, float max, double min_p)
{
	double mass = 0;

	memset(s->mass, 0, sizeof(s->mass));
	memset(s->count, 0, sizeof(s->count));
	for (size_t i = 0; i < n; i++) {
		size_t b;

		if (!(s->e[i] > 0) || (double)s->e[i] < min_p) {
			s->e[i] = 0;
			continue;
		}
		b = bin_of(s->x[i], max);
		s->mass[b] += (double)s->e[i];
		s->count[b]++;
	}
	for (size_t b = 0; b < NBIN; b++)
		mass += s->mass[b];
	return mass;
}

/* The bins [0, *) that hold the k best, or else a mass of goal. */
static size_t
cut_bins(const struct sample_scratch *s, size_t k, double goal)
{
	size_t count = 0, b = 0;
	double mass = 0;

	/* The first bin holds the greatest logit: it is always needed. */
	for (; b < NBIN && (b == 0 || (k ? count < k : mass < goal)); b++) {
		count += s->count[b];
		mass += s->mass[b];
	}
	return b;
}

/* The candidates in s->key, sorted; returns how many. */
static size_t
gather(struct sample_scratch *s, size_t n, float max, size_t nbin)
{
	size_t m = 0;

	for (size_t i = 0; i < n; i++) {
		if (s->e[i] > 0 && bin_of(s->x[i], max) < nbin)
			s->key[m++] = sample_key(s->x[i], i);
	}
	sample_sort(s->key, s->tmp, m);
	return m;
}

/* The k best of m, and all that tie with the last of them. */
static size_t
keep_k(const uint64_t *key, size_t m, size_t k)
{
	if (k >= m)
		return m;
	while (k < m && key[k] >> 32 == key[k - 1] >> 32)
		k++;
	return k;
}

/* Sum of the m first candidates, ending early once it reaches goal; *m gets
 * how many that took (at least 1). */
static double
sum_until(const struct sample_scratch *s, size_t *m, double goal)
{
	double cum = 0;
	size_t i = 0;

	while (i < *m && (i == 0 || cum < goal))
		cum += (double)s->e[sample_key_id(s->key[i++])];
	*m = i;
	return cum;
}

static int32_t
draw_filtered(struct sample_scratch *s, size_t n, float max,
    const struct sample_params *p, double u)
{
	size_t k = p->top_k > 0 && (uint64_t)p->top_k < n ? p->top_k : 0, m;
	double mass = fill_bins(s, n, max, p->min_p), cum = 0, target;
	int32_t id = 0;

	m = gather(s, n, max, k || p->top_p < 1 ?
	    cut_bins(s, k, p->top_p * mass) : NBIN);
	if (k) {
		m = keep_k(s->key, m, k);
		mass = sum_until(s, &m, INFINITY);
	}
	target = u * sum_until(s, &m, p->top_p < 1 ? p->top_p * mass :
	    INFINITY);
	for (size_t i = 0; i < m; i++) {
		id = sample_key_id(s->key[i]);
		cum += (double)s->e[id];
		if (cum > target)
			break;
	}
	return id;
}

/* Not greedy: x[best] is the greatest logit. */
static int
draw(int32_t *id, struct sample_scratch *s, size_t vocab, size_t best,
    const struct sample_params *p, const struct sample_ctx *c, struct err *e)
{
	double total, u = sample_uniform(c->seed, c->choice, c->nout);
	float max;

	if (p->temperature != 1)
		kern.scale(s->x, (float)(1 / p->temperature), vocab);
	max = s->x[best];
	total = exp_blocks(s, vocab, max);
	if (!(total > 0) || isinf(total))
		return not_numbers(e);
	if (p->min_p <= 0 && p->top_p >= 1 &&
	    (p->top_k <= 0 || (uint64_t)p->top_k >= vocab))
		*id = draw_open(s, vocab, u * total);
	else
		*id = draw_filtered(s, vocab, max, p, u);
	return 0;
}

int
sample_draw(int32_t *id, const float *logits, size_t vocab,
    const struct sample_params *p, const struct sample_ctx *c,
    struct sample_scratch **s, struct err *e)
{
	size_t best;

	if (scratch_for(s, vocab, e) == -1)
		return -1;
	apply_all((*s)->x, logits, vocab, p, c);
	if (argmax(&best, (*s)->x, vocab, e) == -1)
		return -1;
	if (best != vocab && p->temperature >= GREEDY_BELOW)
		return draw(id, *s, vocab, best, p, c, e);
	*id = best == vocab ? last_resort(vocab, p) : (int32_t)best;
	return 0;
}
