/*
 * find: every part of the model that config.json describes, found among the
 * files' tensors and checked for shape and dtype.
 *
 * Each linear layer is looked at by itself: what stands beside its weight
 * says how it computes, so a directory may mix kinds at will.
 */
#include <stdlib.h>
#include <string.h>

#include "ckpt/ckpt_priv.h"

enum {
	F_FLOAT = 1 << DT_BF16 | 1 << DT_F16 | 1 << DT_F32,
	F_WEIGHT = F_FLOAT | 1 << DT_F8 | 1 << DT_I8,
	F_OFFSET = F_FLOAT | 1 << DT_I8 | 1 << DT_I32,
	F_DEQ = F_FLOAT | 1 << DT_I64,
};

/* What stands beside a weight: after the layer's name. */
struct suffixes {
	const char *weight, *scale, *block, *deq, *bias, *in_scale,
	    *in_offset;
};

static const struct suffixes hf_suffix = {
	".weight", ".weight_scale", ".weight_scale_inv", ".deq_scale",
	".quant_bias", ".input_scale", ".input_offset"
};
static const struct suffixes ms_suffix = {
	"._layer.weight", "._layer.matmul.weight_scale",
	"._layer.matmul.weight_scale_inv", "._layer.matmul.dequant_scale",
	"._layer.matmul.quant_bias", ".quant_op.input_scale",
	".quant_op.input_zp"
};

/* ---- one tensor ---- */

static const char *
shape_text(const struct tensor *t, char *p, size_t n)
{
	size_t at = (size_t)snprintf(p, n, "[");

	for (unsigned i = 0; i < t->ndim && at < n; i++)
		at += (size_t)snprintf(p + at, n - at, "%s%llu",
		    i ? ", " : "", (unsigned long long)t->dim[i]);
	if (at < n)
		snprintf(p + at, n - at, "]");
	return p;
}

static int
wrong(const struct entry *t, unsigned dtypes, const char *want,
    struct err *e)
{
	char shape[128], types[128] = "";
	size_t at = 0;

	for (unsigned i = 0; i < DT_COUNT && at < sizeof(types); i++) {
		if (dtypes & 1u << i)
			at += (size_t)snprintf(types + at, sizeof(types) - at,
			    "%s%s", at ? "/" : "", dtype_name(i));
	}
	return err_set(e, ERR_CALLER,
	    "%s: tensor %s is %s %s, but should be %s %s",
	    store_path(t->s), t->t.name, dtype_name(t->t.dtype),
	    shape_text(&t->t, shape, sizeof(shape)), types, want);
}

static struct entry *
find(const struct ckpt *c, const char *base, const char *suffix)
{
	char name[CKPT_NAME + 32];

	snprintf(name, sizeof(name), "%s%s", base, suffix);
	return files_find(&c->f, name);
}

/* The tensor base suffix of that shape, claimed; NULL: said in e. */
static struct entry *
claim(const struct ckpt *c, struct entry *t, const char *base,
    const char *suffix, unsigned dtypes, uint64_t d0, uint64_t d1,
    struct err *e)
{
	const uint64_t *dim;
	char want[64];

	if (!t) {
		err_set(e, ERR_CALLER, "%s: tensor %s%s is missing", c->dir,
		    base, suffix);
		return NULL;
	}
	dim = t->t.dim;
	if (!(dtypes & 1u << t->t.dtype) || t->t.ndim != 2 || dim[0] != d0 ||
	    dim[1] != d1) {
		snprintf(want, sizeof(want), "[%llu, %llu]",
		    (unsigned long long)d0, (unsigned long long)d1);
		wrong(t, dtypes, want, e);
		return NULL;
	}
	t->used = true;
	return t;
}

/* The same for [n]; [n, 1] does as well, and so does [1] if one is. */
static struct entry *
claim_vec(const struct ckpt *c, const char *base, const char *suffix,
    unsigned dtypes, uint64_t n, bool one, struct err *e)
{
	struct entry *t = find(c, base, suffix);
	const uint64_t *dim;
	char want[64];
	bool ok;

	if (!t) {
		err_set(e, ERR_CALLER, "%s: tensor %s%s is missing", c->dir,
		    base, suffix);
		return NULL;
	}
	dim = t->t.dim;
	ok = (t->t.ndim == 1 || (t->t.ndim == 2 && dim[1] == 1)) &&
	    dim[0] == n;
	if (one && (t->t.ndim == 0 || (t->t.ndim == 1 && dim[0] == 1)))
		ok = true;
	if (!(dtypes & 1u << t->t.dtype) || !ok) {
		snprintf(want, sizeof(want), "[%llu]%s",
		    (unsigned long long)n, one ? " or [1]" : "");
		wrong(t, dtypes, want, e);
		return NULL;
	}
	t->used = true;
	return t;
}

/* ---- linear layers ---- */

static bool
is_float(const struct entry *t)
{
	return F_FLOAT & 1u << t->t.dtype;
}

/* [n] for a layer, [E, n] for stacked experts. */
static struct entry *
claim_scale(const struct ckpt *c, const struct lin *l, const char *base,
    const char *suffix, unsigned dtypes, struct err *e)
{
	if (l->map != MAP_EXPERT)
		return claim_vec(c, base, suffix, dtypes, l->total, false, e);
	return claim(c, find(c, base, suffix), base, suffix, dtypes,
	    c->a.experts, l->total, e);
}

static int
find_static(struct ckpt *c, struct lin *l, const char *base,
    const struct suffixes *x, struct err *e)
{
	struct entry *t;

	l->kind = LIN_I8_STATIC;
	l->scale = claim_vec(c, base, x->deq, F_DEQ, l->total, false, e);
	if (!l->scale)
		return -1;
	l->bias = claim_vec(c, base, x->bias, 1 << DT_I32, l->total, false, e);
	if (!l->bias)
		return -1;
	l->in_scale = claim_vec(c, base, x->in_scale, F_FLOAT, l->al.k, true,
	    e);
	if (!l->in_scale)
		return -1;
	l->in_offset = claim_vec(c, base, x->in_offset, F_OFFSET, l->al.k,
	    true, e);
	if (!l->in_offset)
		return -1;
	/* deq_scale says it all; these may stand beside it */
	if ((t = find(c, base, ".weight_scale")) != NULL)
		t->used = true;
	if ((t = find(c, base, ".weight_offset")) != NULL)
		t->used = true;
	return 0;
}

/* Offsets of symmetric weights: there, and zero. */
static int
find_zero(struct ckpt *c, struct lin *l, const char *base, struct err *e)
{
	static const char *const name[] = {
		".weight_offset", ".weight_zero_point"
	};
	struct entry *t;

	for (int i = 0; i < 2; i++) {
		if ((t = find(c, base, name[i])) == NULL)
			continue;
		t->used = true;
		l->zero = t;
		/* of the experts one; the others when they are read */
		if (l->al.expert < 1 && ckpt_check_zero(t, e) == -1)
			return -1;
	}
	if ((t = find(c, base, ".weight_shape")) != NULL)
		t->used = true;
	return 0;
}

static int
find_scales(struct ckpt *c, struct lin *l, const char *base,
    const struct suffixes *x, struct err *e)
{
	uint64_t nb = (l->al.n + LIN_BLOCK - 1) / LIN_BLOCK;
	uint64_t kb = (l->al.k + LIN_BLOCK - 1) / LIN_BLOCK;
	struct entry *block = find(c, base, x->block);

	if (is_float(l->w)) {
		l->kind = LIN_FLOAT;
		return 0;
	}
	if (l->w->t.dtype == DT_I8 && find(c, base, x->deq) &&
	    l->map != MAP_EXPERT)
		return find_static(c, l, base, x, e);
	if (l->w->t.dtype == DT_F8 || block) {
		if (l->map != MAP_NONE || l->total != l->al.n)
			return err_set(e, ERR_CALLER, "%s: tensor %s: block "
			    "scales with MindSpore names are not supported",
			    store_path(l->w->s), l->w->t.name);
		l->kind = l->w->t.dtype == DT_F8 ? LIN_F8 : LIN_I8_BLOCK;
		l->scale = claim(c, block, base, x->block, F_FLOAT, nb, kb, e);
		return l->scale ? 0 : -1;
	}
	l->kind = LIN_I8;
	l->scale = claim_scale(c, l, base, x->scale, F_FLOAT, e);
	return l->scale ? find_zero(c, l, base, e) : -1;
}

static int
find_hf(struct ckpt *c, struct lin *l, struct err *e)
{
	const char *base = l->al.name, *x = hf_suffix.weight;

	l->w = claim(c, find(c, base, x), base, x, F_WEIGHT, l->al.n, l->al.k,
	    e);
	return l->w ? find_scales(c, l, base, &hf_suffix, e) : -1;
}

/* kv_b_proj in halves. */
static int
find_ms_kv_b(struct ckpt *c, struct lin *l, struct err *e)
{
	static const char tail[] = ".attention.lkv2kv_v";
	const struct arch *a = &c->a;
	char base[CKPT_NAME];

	l->map = MAP_KV_B;
	l->kind = LIN_FLOAT;
	l->head = a->nope + a->vdim;
	l->plain = a->nope;
	ms_linear(&l->al, false, base);
	l->w = claim(c, find(c, base, ".weight"), base, ".weight", F_FLOAT,
	    a->heads * a->nope, a->kv_lora, e);
	if (!l->w)
		return -1;
	snprintf(base, sizeof(base), "model.layers.%u%s", l->al.layer, tail);
	l->w2 = claim(c, find(c, base, ".weight"), base, ".weight",
	    1u << l->w->t.dtype, a->heads * a->vdim, a->kv_lora, e);
	return l->w2 ? 0 : -1;
}

/* The weight under its own name, or that of the layer it is fused into, each
 * with or without the quantiser's "_layer". */
static struct entry *
find_ms_weight(const struct ckpt *c, const struct lin *l,
    char base[CKPT_NAME], const char **suffix, bool *fused)
{
	for (int i = 0; i < 4; i++) {
		struct entry *t;

		*fused = i >= 2;
		*suffix = i % 2 ? ".weight" : ms_suffix.weight;
		if (ms_linear(&l->al, *fused, base) &&
		    (t = find(c, base, *suffix)) != NULL)
			return t;
	}
	*suffix = ms_suffix.weight;
	ms_linear(&l->al, false, base);
	return NULL;
}

static void
set_fused(const struct arch *a, struct lin *l)
{
	switch (l->al.part) {
	case ARCH_GATE:
	case ARCH_UP:
		l->total = 2 * l->al.n;
		l->row0 = l->al.part == ARCH_UP ? l->al.n : 0;
		break;
	default:
		l->total = a->q_lora + a->kv_lora + a->rope;
		l->row0 = l->al.part == ARCH_KV_A ? a->q_lora : 0;
	}
}

static struct entry *
claim_stack(const struct ckpt *c, const struct lin *l, struct entry *t,
    struct err *e)
{
	const uint64_t *dim = t->t.dim;
	char want[96];

	if (!(t->t.dtype == DT_I8 || is_float(t)) || t->t.ndim != 3 ||
	    dim[0] != c->a.experts || dim[1] != l->al.k ||
	    dim[2] != l->total) {
		snprintf(want, sizeof(want), "[%u, %u, %u]", c->a.experts,
		    l->al.k, l->total);
		wrong(t, F_FLOAT | 1 << DT_I8, want, e);
		return NULL;
	}
	t->used = true;
	return t;
}

static int
find_ms(struct ckpt *c, struct lin *l, struct err *e)
{
	const struct arch *a = &c->a;
	char base[CKPT_NAME];
	const char *suffix;
	struct entry *t;
	bool fused;

	if (l->al.part == ARCH_KV_B)
		return find_ms_kv_b(c, l, e);
	if (l->al.part == ARCH_KV_A || l->al.part == ARCH_Q_B ||
	    l->al.part == ARCH_Q_PROJ) {
		l->map = MAP_ROPE;
		l->plain = l->al.part == ARCH_KV_A ? a->kv_lora : a->nope;
		l->head = l->plain + a->rope;
	}
	t = find_ms_weight(c, l, base, &suffix, &fused);
	if (fused && t)
		set_fused(a, l);
	if (l->al.expert >= 0 && t) {
		l->map = MAP_EXPERT;
		l->w = claim_stack(c, l, t, e);
	} else {
		l->w = claim(c, t, base, suffix, F_WEIGHT, l->total, l->al.k,
		    e);
	}
	return l->w ? find_scales(c, l, base, &ms_suffix, e) : -1;
}

struct finding {
	struct ckpt *c;
	struct err *e;
};

static int
find_lin(void *arg, const struct arch_lin *al)
{
	struct finding *f = arg;
	struct ckpt *c = f->c;
	struct lin *l;

	if (mem_grow(&c->lin, &c->lin_cap, c->nlin + 1, sizeof(*c->lin),
	    f->e) == -1)
		return -1;
	l = &c->lin[c->nlin++];
	*l = (struct lin){ .al = *al, .total = al->n };
	/* the MTP layer keeps its names everywhere */
	return c->ms && al->layer < c->a.layers ? find_ms(c, l, f->e) :
	    find_hf(c, l, f->e);
}

/* ---- plain tensors ---- */

/* hf: its Hugging Face name.  k 0: a vector [n], else [n, k]. */
static int
find_plain(struct ckpt *c, const char *hf, bool ms, unsigned n, unsigned k,
    bool optional, struct err *e)
{
	char name[CKPT_NAME];
	struct plain *p;
	struct entry *t;

	snprintf(name, sizeof(name), "%s", hf);
	if (ms && !ms_plain(hf, name))
		return 0;		/* these have no such bias */
	if (optional && !find(c, name, ""))
		return 0;
	t = k ? claim(c, find(c, name, ""), name, "", F_FLOAT, n, k, e) :
	    claim_vec(c, name, "", F_FLOAT, n, false, e);
	if (!t || mem_grow(&c->plain, &c->plain_cap, c->nplain + 1,
	    sizeof(*c->plain), e) == -1)
		return -1;
	p = &c->plain[c->nplain++];
	snprintf(p->name, sizeof(p->name), "%s", hf);
	p->e = t;
	return 0;
}

/* The shift before kv_a is that before q_a; o_proj has none. */
static int
check_beta(struct ckpt *c, unsigned layer, struct err *e)
{
	char base[CKPT_NAME];
	struct entry *q, *kv, *o;
	float *a, *b;
	int rc = -1;

	snprintf(base, sizeof(base), "model.layers.%u.attention.", layer);
	q = find(c, base, "q2l_proj.quant_op.beta");
	kv = find(c, base, "kv2l.quant_op.beta");
	o = find(c, base, "wo.quant_op.beta");
	if (o) {
		o->used = true;
		if (ckpt_check_zero(o, e) == -1)
			return -1;
	}
	if (!kv)
		return 0;
	if (!q || q->t.nbytes != kv->t.nbytes || q->t.dtype != kv->t.dtype ||
	    !is_float(q))
		return err_set(e, ERR_CALLER, "%s: tensor %s: q2l_proj has no "
		    "such beta", store_path(kv->s), kv->t.name);
	kv->used = true;
	a = mem_new((size_t)q->t.nbytes, 2, e);
	if (!a)
		return -1;
	b = (float *)((char *)a + q->t.nbytes);
	if (store_read(q->s, &q->t, 0, a, (size_t)q->t.nbytes, e) == 0 &&
	    store_read(kv->s, &kv->t, 0, b, (size_t)q->t.nbytes, e) == 0)
		rc = memcmp(a, b, (size_t)q->t.nbytes) == 0 ? 0 :
		    err_set(e, ERR_CALLER, "%s: tensor %s differs from that "
		    "of q2l_proj", store_path(kv->s), kv->t.name);
	free(a);
	return rc;
}

static int
find_layer_plain(struct ckpt *c, unsigned layer, struct err *e)
{
	enum { ALWAYS, LORA, MOE, MTP };
	enum { MUST, MAY, SCORE };
	const struct arch *a = &c->a;
	const struct {
		const char *name;
		int when, need;
		unsigned n, k;
	} part[] = {
		{ "embed_tokens.weight", MTP, MAY, a->vocab, a->hidden },
		{ "enorm.weight", MTP, MUST, a->hidden, 0 },
		{ "hnorm.weight", MTP, MUST, a->hidden, 0 },
		{ "shared_head.norm.weight", MTP, MUST, a->hidden, 0 },
		{ "shared_head.head.weight", MTP, MAY, a->vocab, a->hidden },
		{ "input_layernorm.weight", ALWAYS, MUST, a->hidden, 0 },
		{ "input_layernorm.bias", ALWAYS, MAY, a->hidden, 0 },
		{ "self_attn.q_a_layernorm.weight", LORA, MUST, a->q_lora, 0 },
		{ "self_attn.q_a_layernorm.bias", LORA, MAY, a->q_lora, 0 },
		{ "self_attn.kv_a_layernorm.weight", ALWAYS, MUST, a->kv_lora,
		    0 },
		{ "post_attention_layernorm.weight", ALWAYS, MUST, a->hidden,
		    0 },
		{ "post_attention_layernorm.bias", ALWAYS, MAY, a->hidden, 0 },
		{ "mlp.gate.weight", MOE, MUST, a->experts, a->hidden },
		{ "mlp.gate.e_score_correction_bias", MOE, SCORE, a->experts,
		    0 },
	};
	bool mtp = layer >= a->layers;

	for (size_t i = 0; i < sizeof(part) / sizeof(*part); i++) {
		char name[CKPT_NAME];
		bool may = part[i].need == MAY || (part[i].need == SCORE &&
		    a->topk_method != ARCH_NOAUX_TC);

		if ((part[i].when == LORA && !a->q_lora) ||
		    (part[i].when == MOE && !arch_is_moe(a, layer)) ||
		    (part[i].when == MTP && !mtp))
			continue;
		snprintf(name, sizeof(name), "model.layers.%u.%s", layer,
		    part[i].name);
		if (find_plain(c, name, c->ms && !mtp, part[i].n, part[i].k,
		    may, e) == -1)
			return -1;
	}
	return c->ms && !mtp ? check_beta(c, layer, e) : 0;
}

/* ---- all of it ---- */

static int
by_lin(const void *a, const void *b)
{
	const struct lin *x = a, *y = b;

	return strcmp(x->al.name, y->al.name);
}

static int
by_plain(const void *a, const void *b)
{
	const struct plain *x = a, *y = b;

	return strcmp(x->name, y->name);
}

/* config.json may announce an MTP layer that was not published, or not
 * mention the one that was. */
static void
look_for_mtp(struct ckpt *c)
{
	static const char *const mark[] = { "eh_proj.weight", "enorm.weight" };
	char base[64];
	bool there = false;

	snprintf(base, sizeof(base), "model.layers.%u.", c->a.layers);
	for (int i = 0; i < 2; i++)
		there = there || find(c, base, mark[i]);
	c->mtp = there ? c->a.mtp : 0;
	if (!there || c->mtp)
		return;
	for (size_t i = 0; i < c->f.ne; i++) {
		if (strncmp(c->f.e[i].t.name, base, strlen(base)) == 0)
			c->f.e[i].used = true;
	}
}

int
ckpt_find_all(struct ckpt *c, struct err *e)
{
	const struct arch *a = &c->a;
	struct finding f = { c, e };

	look_for_mtp(c);
	if (find_plain(c, "model.embed_tokens.weight", c->ms, a->vocab,
	    a->hidden, false, e) == -1 ||
	    find_plain(c, "model.norm.weight", c->ms, a->hidden, 0, false,
	    e) == -1 ||
	    find_plain(c, "lm_head.weight", c->ms, a->vocab, a->hidden,
	    a->tied, e) == -1)
		return -1;
	for (unsigned i = 0; i < a->layers + c->mtp; i++) {
		if (find_layer_plain(c, i, e) == -1 ||
		    arch_each_linear(a, i, find_lin, &f) == -1)
			return -1;
	}
	qsort(c->lin, c->nlin, sizeof(*c->lin), by_lin);
	qsort(c->plain, c->nplain, sizeof(*c->plain), by_plain);
	return 0;
}

struct lin *
ckpt_find_lin(const struct ckpt *c, const char *name)
{
	struct lin key;

	snprintf(key.al.name, sizeof(key.al.name), "%s", name);
	return bsearch(&key, c->lin, c->nlin, sizeof(key), by_lin);
}

const struct tensor *
ckpt_plain(const struct ckpt *c, const char *name)
{
	struct plain key, *p;

	snprintf(key.name, sizeof(key.name), "%s", name);
	p = bsearch(&key, c->plain, c->nplain, sizeof(key), by_plain);
	return p ? &p->e->t : NULL;
}

int
ckpt_check_extra(struct ckpt *c, struct err *e)
{
	for (size_t i = 0; i < c->f.ne; i++) {
		const struct entry *t = &c->f.e[i];

		if (!t->used)
			return err_set(e, ERR_CALLER,
			    "%s: tensor %s has no place in the model that "
			    "config.json describes", store_path(t->s),
			    t->t.name);
	}
	return 0;
}
