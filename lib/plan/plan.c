/*
 * plan: the rules of a layout and one rank's part of the model.
 *
 * When a rule is broken, the hint is found by trying: a size is offered only
 * if the whole layout would pass with it.
 */
#include "plan/plan.h"

/* What a broken rule has to say, and which sizes might mend it. */
struct fault {
	const char *what;		/* NULL: no fault */
	unsigned long a, b;
	const char *by;
	char fix[4];			/* of "tdpe", best first */
};

static bool
has_dense(const struct arch *a)
{
	for (unsigned i = 0; i < a->layers + a->mtp; i++)
		if (!arch_is_moe(a, i))
			return true;
	return false;
}

static struct fault
divides(unsigned long a, unsigned long b, const char *what, const char *by,
    const char *fix)
{
	struct fault f = {0};

	if (a % b == 0)
		return f;
	f = (struct fault){ .what = what, .a = a, .b = b, .by = by };
	for (unsigned i = 0; i + 1 < sizeof(f.fix) && fix[i]; i++)
		f.fix[i] = fix[i];
	return f;
}

static struct fault
experts_fault(const struct arch *a, const struct layout *l)
{
	unsigned long g = (unsigned long)l->dp * l->tp;
	struct fault f;

	f = divides(a->experts, l->ep, "n_routed_experts",
	    "expert-parallel-size", "e");
	if (f.what)
		return f;
	f = divides(g, l->ep, "data-parallel-size * tensor-parallel-size",
	    "expert-parallel-size", "etd");
	if (f.what)
		return f;
	f = divides(a->moe_inter, g / l->ep, "moe_intermediate_size",
	    "data-parallel-size * tensor-parallel-size / expert-parallel-size",
	    "etd");
	if (f.what)
		return f;
	return divides((unsigned long)a->moe_inter * a->shared, g,
	    "moe_intermediate_size * n_shared_experts",
	    "data-parallel-size * tensor-parallel-size", "td");
}

/* The first rule that l breaks.  All sizes are >= 1. */
static struct fault
find_fault(const struct arch *a, const struct layout *l)
{
	struct fault f;

	if (a->layers < l->pp)
		return (struct fault){ "num_hidden_layers", a->layers, l->pp,
		    "pipeline-parallel-size", "p" };
	f = divides(a->heads, l->tp, "num_attention_heads",
	    "tensor-parallel-size", "t");
	if (f.what)
		return f;
	if (has_dense(a)) {
		f = divides(a->inter, l->tp, "intermediate_size",
		    "tensor-parallel-size", "t");
		if (f.what)
			return f;
	}
	if (a->experts)
		return experts_fault(a, l);
	return f;
}

static unsigned *
field(struct layout *l, char c)
{
	return c == 't' ? &l->tp : c == 'd' ? &l->dp : c == 'p' ? &l->pp :
	    &l->ep;
}

static const char *
flag(char c)
{
	return c == 't' ? "--tensor-parallel-size" :
	    c == 'd' ? "--data-parallel-size" :
	    c == 'p' ? "--pipeline-parallel-size" : "--expert-parallel-size";
}

/* The product, or more than PLAN_MAX_RANKS when it would be. */
static unsigned
world(const struct layout *l)
{
	uint64_t n = (uint64_t)l->tp * l->dp;

	if (n > PLAN_MAX_RANKS || n * l->pp > PLAN_MAX_RANKS)
		return PLAN_MAX_RANKS + 1;
	return (unsigned)(n * l->pp);
}

static bool
works(const struct arch *a, struct layout l, char c, unsigned x)
{
	*field(&l, c) = x;
	return world(&l) <= PLAN_MAX_RANKS && !find_fault(a, &l).what;
}

/* Puts the nearest sizes below and above into *lo, *hi; 0: there is none. */
static bool
nearest(const struct arch *a, const struct layout *l, char c, unsigned *lo,
    unsigned *hi)
{
	struct layout m = *l;
	unsigned now = *field(&m, c), x;

	*lo = *hi = 0;
	for (x = now < PLAN_MAX_RANKS ? now : PLAN_MAX_RANKS + 1; --x > 0;)
		if (works(a, m, c, x)) {
			*lo = x;
			break;
		}
	for (x = now + 1; x > now && x <= PLAN_MAX_RANKS; x++)
		if (works(a, m, c, x)) {
			*hi = x;
			break;
		}
	return *lo || *hi;
}

static int
report(const struct arch *a, const struct layout *l, const struct fault *f,
    struct err *e)
{
	const char *rel = f->fix[0] == 'p' ? "is fewer than" :
	    "is not divisible by";
	char hint[128] = "no other size of these works either";
	unsigned lo, hi;

	for (const char *c = f->fix; *c; c++) {
		if (!nearest(a, l, *c, &lo, &hi))
			continue;
		if (lo && hi)
			snprintf(hint, sizeof(hint),
			    "%s %u or %u would work", flag(*c), lo, hi);
		else
			snprintf(hint, sizeof(hint), "%s %u would work",
			    flag(*c), lo ? lo : hi);
		break;
	}
	return err_set(e, ERR_CALLER, "%s %lu %s %s %lu; %s", f->what, f->a,
	    rel, f->by, f->b, hint);
}

int
plan_check(const struct arch *a, const struct layout *l, struct err *e)
{
	struct layout m = *l;
	struct fault f;

	for (const char *c = "tdpe"; *c; c++)
		if (*field(&m, *c) == 0)
			return err_set(e, ERR_CALLER, "%s must be at least 1",
			    flag(*c));
	if (world(l) > PLAN_MAX_RANKS)
		return err_set(e, ERR_CALLER, "tensor %u * data %u * pipeline "
		    "%u are more than the %d ranks that a world may have",
		    l->tp, l->dp, l->pp, PLAN_MAX_RANKS);
	if (a->experts == 0 && l->ep != 1)
		return err_set(e, ERR_CALLER, "--expert-parallel-size %u: the "
		    "model has no routed experts; use 1", l->ep);
	f = find_fault(a, l);
	return f.what ? report(a, l, &f, e) : 0;
}

unsigned
plan_world(const struct layout *l)
{
	return l->tp * l->dp * l->pp;
}

/* The first layer of stage s: the earlier stages take the remainder. */
static unsigned
stage_start(const struct arch *a, const struct layout *l, unsigned s)
{
	unsigned rest = a->layers % l->pp;

	return s * (a->layers / l->pp) + (s < rest ? s : rest);
}

unsigned
plan_stage(const struct arch *a, const struct layout *l, unsigned i)
{
	unsigned s = l->pp - 1;

	while (s > 0 && stage_start(a, l, s) > i)
		s--;
	return s;
}

static unsigned
part_up(unsigned whole, unsigned n)
{
	return (whole + n - 1) / n;
}

/* Who has which columns of the residual stream after o or down. */
static void
cut_outputs(struct plan *p, const struct arch *a)
{
	const struct layout *l = &p->layout;
	unsigned w = part_up(a->hidden, l->tp);

	p->out0 = w * p->tp;
	p->out1 = p->out0 + w;
	w = part_up(a->hidden, l->dp * l->tp);
	p->moe_out0 = p->moe_slice * l->ep * w;
	p->moe_out1 = p->moe_out0 + l->ep * w;
	p->own0 = p->moe_out0 + p->ep * w;
	p->own1 = p->own0 + w;
	w = part_up(a->vocab, l->tp);
	p->vocab0 = w * p->tp;
	p->vocab1 = p->vocab0 + w;
}

/* The i-th of n equal parts of [0, whole) */
static void
cut(unsigned whole, unsigned n, unsigned i, unsigned *x0, unsigned *x1)
{
	*x0 = whole / n * i;
	*x1 = *x0 + whole / n;
}

void
plan_rank(struct plan *p, const struct arch *a, const struct layout *l,
    unsigned rank)
{
	unsigned in;

	*p = (struct plan){ .layout = *l, .world = plan_world(l),
	    .rank = rank };
	p->tp = rank % l->tp;
	p->dp = rank / l->tp % l->dp;
	p->pp = rank / l->tp / l->dp;
	in = p->dp * l->tp + p->tp;
	p->moe_tp = l->dp * l->tp / l->ep;
	p->ep = in / p->moe_tp;
	p->moe_slice = in % p->moe_tp;
	p->first = p->pp == 0;
	p->last = p->pp == l->pp - 1;
	p->layer0 = stage_start(a, l, p->pp);
	p->layer1 = stage_start(a, l, p->pp + 1);
	cut(a->heads, l->tp, p->tp, &p->heads0, &p->heads1);
	cut(a->inter, l->tp, p->tp, &p->dense0, &p->dense1);
	cut(a->moe_inter * a->shared, l->dp * l->tp, in, &p->shared0,
	    &p->shared1);
	cut(a->moe_inter, p->moe_tp, p->moe_slice, &p->moe0, &p->moe1);
	cut(a->experts, l->ep, p->ep, &p->expert0, &p->expert1);
	cut_outputs(p, a);
}

static bool
owns(const struct plan *p, const struct arch *a, const struct arch_lin *lin)
{
	if (lin->layer >= a->layers ? !p->last :
	    lin->layer < p->layer0 || lin->layer >= p->layer1)
		return false;
	return lin->expert < 0 || ((unsigned)lin->expert >= p->expert0 &&
	    (unsigned)lin->expert < p->expert1);
}

/* Rows of a feed-forward block: of its inner width for gate and up, of
 * hidden for down. */
static void
ffn_part(const struct plan *p, const struct arch_lin *lin, unsigned *n0,
    unsigned *n1)
{
	bool down = lin->part == ARCH_DOWN;

	if (lin->expert >= 0) {
		*n0 = down ? p->moe_out0 : p->moe0;
		*n1 = down ? p->moe_out1 : p->moe1;
	} else if (lin->expert == -1) {
		*n0 = down ? p->own0 : p->shared0;
		*n1 = down ? p->own1 : p->shared1;
	} else {
		*n0 = down ? p->out0 : p->dense0;
		*n1 = down ? p->out1 : p->dense1;
	}
}

void
plan_slice(const struct plan *p, const struct arch *a,
    const struct arch_lin *lin, unsigned *n0, unsigned *n1)
{
	*n0 = *n1 = 0;
	if (!owns(p, a, lin))
		return;
	switch (lin->part) {
	case ARCH_Q_PROJ:
	case ARCH_Q_B:
		*n0 = p->heads0 * (a->nope + a->rope);
		*n1 = p->heads1 * (a->nope + a->rope);
		break;
	case ARCH_KV_B:
		*n0 = p->heads0 * (a->nope + a->vdim);
		*n1 = p->heads1 * (a->nope + a->vdim);
		break;
	case ARCH_O:
		*n0 = p->out0;
		*n1 = p->out1;
		break;
	case ARCH_GATE:
	case ARCH_UP:
	case ARCH_DOWN:
		ffn_part(p, lin, n0, n1);
		break;
	case ARCH_Q_A:
	case ARCH_KV_A:
	case ARCH_EH:
		*n1 = lin->n;
		break;
	}
}
