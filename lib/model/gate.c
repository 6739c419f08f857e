/*
 * gate: which experts a row goes to, and with what weight.
 *
 * Scores are sigmoids (V3) or a softmax (V2) of the router's logits; V3 adds a
 * learned bias for choosing only (arXiv 2412.19437, eq. 16).  Experts stand in
 * groups: the best groups are taken first, by the sum of their two best scores
 * (noaux_tc) or by their best (group_limited_greedy).  Ties go to the lower
 * number, so that every rank and every run chooses alike.
 */
#include <math.h>

#include "model/priv.h"

static void
scores(const struct arch *a, const float *logit, float *s)
{
	unsigned i, n = a->experts;
	float max, sum = 0;

	if (a->score == ARCH_SIGMOID) {
		for (i = 0; i < n; i++)
			s[i] = 1 / (1 + kern_expf(-logit[i]));
		return;
	}
	max = kern.max(logit, n);
	for (i = 0; i < n; i++)
		sum += s[i] = kern_expf(logit[i] - max);
	for (i = 0; i < n; i++)
		s[i] /= sum;
}

static unsigned
best(const float *x, unsigned n)
{
	unsigned i, at = 0;

	for (i = 1; i < n; i++)
		if (x[i] > x[at])
			at = i;
	return at;
}

static float
group_score(const struct arch *a, const float *c, unsigned n)
{
	unsigned i, at = best(c, n);
	float second = -INFINITY;

	if (a->topk_method != ARCH_NOAUX_TC)
		return c[at];
	for (i = 0; i < n; i++)
		if (i != at && c[i] > second)
			second = c[i];
	return n > 1 ? c[at] + second : c[at];
}

/* Masks all but the best groups in c [experts]; g has room for groups. */
static void
keep_groups(const struct arch *a, float *c, float *g)
{
	unsigned n = a->experts / a->groups, i, k;

	for (i = 0; i < a->groups; i++)
		g[i] = group_score(a, c + i * n, n);
	for (k = 0; k < a->topk_groups; k++)
		g[best(g, a->groups)] = -INFINITY;
	/* What was chosen is now -inf; a group that scored -inf by itself can
	 * only be chosen when nothing better is left, so it may stay too. */
	for (i = 0; i < a->experts; i++)
		if (g[i / n] != -INFINITY)
			c[i] = -INFINITY;
}

/* logit [experts] -> pick [topk] and w [topk], best first; tmp [3*experts] */
void
gate_pick(const struct arch *a, float *logit, const float *bias,
    int32_t *pick, float *w, float *tmp)
{
	float *s = tmp, *c = tmp + a->experts, sum = 0;
	unsigned i;

	scores(a, logit, s);
	for (i = 0; i < a->experts; i++)
		c[i] = bias ? s[i] + bias[i] : s[i];
	if (a->topk_method != ARCH_GREEDY && a->groups > 1)
		keep_groups(a, c, tmp + 2 * a->experts);
	for (i = 0; i < a->topk; i++) {
		pick[i] = best(c, a->experts);
		w[i] = s[pick[i]];
		c[pick[i]] = -INFINITY;
		sum += w[i];
	}
	for (i = 0; i < a->topk; i++) {
		if (a->norm_topk)
			w[i] /= sum + 1e-20f;
		w[i] *= a->routed_scale;
	}
}
