/*
 * logprobs: log-sum-exp over the vocabulary, ranks, and the best tokens.
 *
 * The logarithm is computed here by +, *, / alone: libm's last bit differs
 * between versions and CPUs, and logprobs are promised to be the same bits
 * everywhere.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kern.h"
#include "sample/sample_priv.h"

enum { LOG_TERMS = 11 };		/* 0.0295^11 / 23 < 2^-53 */

/* log x for normal x > 0: x = m * 2^k with m in [sqrt(1/2), sqrt 2), and
 * log m = 2 atanh z = 2 (z + z^3/3 + z^5/5 ...), z = (m-1)/(m+1), |z| < 0.172
 */
static double
log_exactly(double x)
{
	int k;
	double m = frexp(x, &k), z, z2, s = 0;

	if (m < M_SQRT1_2) {
		m *= 2;
		k--;
	}
	z = (m - 1) / (m + 1);
	z2 = z * z;
	for (int i = LOG_TERMS; i >= 0; i--)
		s = s * z2 + 1.0 / (2 * i + 1);
	return 2 * z * s + k * M_LN2;
}

float
sample_lse(const float *x, size_t n)
{
	float buf[SAMPLE_BLOCK], max = kern.max(x, n);
	double sum = 0;

	if (max == -INFINITY)
		return max;
	for (size_t i = 0, len; i < n; i += len) {
		len = n - i < SAMPLE_BLOCK ? n - i : SAMPLE_BLOCK;
		memcpy(buf, x + i, len * sizeof(*buf));
		sum += (double)kern.exp_sum(buf, max, len);
	}
	if (!(sum > 0) || isinf(sum))	/* a NaN or +infinity among x */
		return NAN;
	return (float)((double)max + log_exactly(sum));
}

uint64_t
sample_key(float logit, int32_t id)
{
	uint32_t u;

	logit += 0.0f;			/* -0 ties with +0 */
	memcpy(&u, &logit, sizeof(u));
	/* Positive floats rise with their bits, negative ones fall. */
	u = u & UINT32_C(0x80000000) ? u : ~u & UINT32_C(0x7fffffff);
	return (uint64_t)u << 32 | (uint32_t)id;
}

void
sample_sort(uint64_t *key, uint64_t *tmp, size_t n)
{
	uint64_t *from = key, *to = tmp, *t;

	/* Stable, and the ids rise at the start: only the logit's four bytes
	 * need a pass.  After four passes the result is back in key. */
	for (int shift = 32; shift < 64; shift += 8) {
		uint32_t at[256] = {0}, sum = 0;

		for (size_t i = 0; i < n; i++)
			at[from[i] >> shift & 0xff]++;
		for (int i = 0; i < 256; i++) {
			uint32_t c = at[i];

			at[i] = sum;
			sum += c;
		}
		for (size_t i = 0; i < n; i++)
			to[at[from[i] >> shift & 0xff]++] = from[i];
		t = from;
		from = to;
		to = t;
	}
}

static int
top_all(struct sample_logprobs *out, const float *logits, size_t vocab,
    float lse, struct err *e)
{
	uint64_t *key = mem_new(vocab, 2 * sizeof(*key), e);

	if (!key)
		return -1;
	for (size_t i = 0; i < vocab; i++)
		key[i] = sample_key(logits[i], i);
	sample_sort(key, key + vocab, vocab);
	for (size_t i = 0; i < vocab; i++) {
		int32_t id = sample_key_id(key[i]);

		out->top[i] = (struct sample_lp){ id, logits[id] - lse,
		    (int32_t)i + 1 };
	}
	free(key);
	return 0;
}

/* n is small: insertion, and nearly all tokens fail the first comparison.
 * Ids rise, so only a greater logit goes before an equal one's place. */
static void
top_few(struct sample_lp *top, size_t n, const float *x, size_t vocab,
    float lse)
{
	size_t have = 0;

	for (size_t i = 0; i < vocab; i++) {
		size_t j;

		if (have == n && !(x[i] > x[top[n - 1].id]))
			continue;
		j = have < n ? have++ : n - 1;
		for (; j > 0 && x[i] > x[top[j - 1].id]; j--)
			top[j] = top[j - 1];
		top[j].id = i;
	}
	for (size_t i = 0; i < have; i++) {
		top[i].lp = x[top[i].id] - lse;
		top[i].rank = i + 1;
	}
}

int
sample_logprobs(struct sample_logprobs *out, const float *logits,
    size_t vocab, int32_t id, int ntop, struct err *e)
{
	float lse = sample_lse(logits, vocab), chosen;
	size_t n = ntop < 0 || (size_t)ntop > vocab ? vocab : (size_t)ntop;
	int32_t above = 0;

	if (id < 0 || (size_t)id >= vocab)
		return err_set(e, ERR_CALLER, "logprobs: token id %d is not "
		    "one of %zu", id, vocab);
	out->ntop = 0;
	if (n && mem_grow(&out->top, &out->captop, n, sizeof(*out->top),
	    e) == -1)
		return -1;
	chosen = logits[id];
	for (size_t i = 0; i < vocab; i++)
		above += logits[i] > chosen;
	out->chosen = (struct sample_lp){ id, chosen - lse, above + 1 };
	if (ntop < 0) {
		if (top_all(out, logits, vocab, lse, e) == -1)
			return -1;
	} else if (n) {
		top_few(out->top, n, logits, vocab, lse);
	}
	out->ntop = n;
	return 0;
}
