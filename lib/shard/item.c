/*
 * item: what stands in a rank file, in which order and in which form.
 *
 * dsi-shard(5) as code: the list is made once for each file name, and each
 * rank takes its slice of it.
 */
#include <stdlib.h>
#include <string.h>

#include "kern.h"
#include "shard/shard_priv.h"

/* ---- the list ---- */

struct maker {
	struct items *l;
	const struct source *s;
	const struct arch *a;
	enum shard_quant q;
	struct err *e;
};

static struct item *
add(struct maker *m, enum item_type type, const char *name)
{
	struct items *l = m->l;
	struct item *it;

	if (mem_grow(&l->p, &l->cap, l->n + 1, sizeof(*l->p), m->e) == -1)
		return NULL;
	it = &l->p[l->n++];
	*it = (struct item){ .type = type };
	snprintf(it->name, sizeof(it->name), "%s", name);
	return it;
}

/* f16 has no kernels of its own and widens without loss. */
static enum dtype
kept_dtype(enum dtype t)
{
	return t == DT_F16 ? DT_F32 : t;
}

/* Looks the tensor up; 1 when it is there, 0 when it isn't, -1. */
static int
look(struct maker *m, const char *name, const struct tensor **t)
{
	struct err e = {0};

	*t = m->s->plain(m->s->ctx, name, &e);
	if (!*t && e.code)
		return err_set(m->e, e.code, "%s", e.msg);
	return *t != NULL;
}

/* Adds name as a vector or, with a type for matrices, as rows. */
static int
add_plain(struct maker *m, enum item_type type, const char *name,
    const char *from, bool optional)
{
	const struct tensor *t;
	struct item *it;
	int there = look(m, from, &t);

	if (there == -1 || (!there && optional))
		return there;
	if (!there)
		return err_set(m->e, ERR_CALLER, "tensor %s is missing", from);
	if (t->ndim < 1 || t->dim[0] > UINT32_MAX ||
	    (type != ITEM_VEC && (t->ndim != 2 || t->dim[1] > UINT32_MAX)))
		return err_set(m->e, ERR_CALLER, "tensor %s has an unexpected "
		    "shape", from);
	it = add(m, type, name);
	if (!it)
		return -1;
	it->t = t;
	it->kind = LIN_FLOAT;
	it->src = (struct ckpt_lin){ LIN_FLOAT, t->dtype, (unsigned)t->dim[0],
	    type == ITEM_VEC ? 1 : (unsigned)t->dim[1] };
	it->dtype = type == ITEM_VEC ? DT_F32 : kept_dtype(t->dtype);
	return 0;
}

/* Form of a linear layer in the file: see dsi-shard(5). */
static int
choose_form(struct item *it, const struct arch *a, enum shard_quant q,
    struct err *e)
{
	const struct ckpt_lin *src = &it->src;
	bool real = src->kind == LIN_FLOAT || src->kind == LIN_F8;

	it->kind = src->kind;
	it->dtype = kept_dtype(src->dtype);
	if (it->lin.part == ARCH_KV_B) {
		if (src->kind == LIN_I8_STATIC)
			return err_set(e, ERR_CALLER, "%s: kv_b_proj with "
			    "static scales is not supported", it->name);
		it->kind = LIN_FLOAT;
		if (src->kind == LIN_F8)
			it->dtype = q == SHARD_INT8 ? DT_BF16 : DT_F32;
		else if (src->kind != LIN_FLOAT)
			it->dtype = DT_F32;
	} else if (q == SHARD_INT8 && real && it->lin.part != ARCH_EH &&
	    it->lin.layer < a->layers) {
		it->kind = LIN_I8;
		it->dtype = DT_I8;
	}
	if (it->dtype == DT_I8 && src->k > KERN_I8_MAX_K)
		return err_set(e, ERR_CALLER, "%s: %u inputs, an int8 layer "
		    "may have %d", it->name, src->k, KERN_I8_MAX_K);
	return 0;
}

static int
add_lin(void *arg, const struct arch_lin *lin)
{
	struct maker *m = arg;
	struct item *it = add(m, ITEM_LIN, lin->name);

	if (!it)
		return -1;
	it->lin = *lin;
	if (m->s->lin(m->s->ctx, lin, &it->src, m->e) == -1)
		return -1;
	if (it->src.n != lin->n || it->src.k != lin->k)
		return err_set(m->e, ERR_CALLER, "%s is %u x %u, config.json "
		    "asks for %u x %u", lin->name, it->src.n, it->src.k,
		    lin->n, lin->k);
	return choose_form(it, m->a, m->q, m->e);
}

static int
add_head(struct maker *m)
{
	const struct tensor *t;
	int there = look(m, "lm_head.weight", &t);

	if (there == -1 || add_plain(m, ITEM_VEC, "model.norm.weight",
	    "model.norm.weight", false) == -1)
		return -1;
	return add_plain(m, ITEM_HEAD, "lm_head.weight", there ||
	    !m->a->tied ? "lm_head.weight" : "model.embed_tokens.weight",
	    false);
}

/* Everything of one decoder layer but its linear layers. */
static int
add_layer_plain(struct maker *m, unsigned layer, bool mtp)
{
	enum { ALL, LORA, MOE, MTP };
	static const struct {
		const char *name;
		int when;
		enum item_type type;
		bool optional;
	} part[] = {
		{ "enorm.weight", MTP, ITEM_VEC, false },
		{ "hnorm.weight", MTP, ITEM_VEC, false },
		{ "shared_head.norm.weight", MTP, ITEM_VEC, false },
		{ "input_layernorm.weight", ALL, ITEM_VEC, false },
		{ "input_layernorm.bias", ALL, ITEM_VEC, true },
		{ "self_attn.q_a_layernorm.weight", LORA, ITEM_VEC, false },
		{ "self_attn.q_a_layernorm.bias", LORA, ITEM_VEC, true },
		{ "self_attn.kv_a_layernorm.weight", ALL, ITEM_VEC, false },
		{ "post_attention_layernorm.weight", ALL, ITEM_VEC, false },
		{ "mlp.gate.weight", MOE, ITEM_MAT, false },
		{ "mlp.gate.e_score_correction_bias", MOE, ITEM_VEC, true },
	};
	char name[96];

	for (size_t i = 0; i < sizeof(part) / sizeof(*part); i++) {
		if ((part[i].when == LORA && !m->a->q_lora) ||
		    (part[i].when == MOE && !arch_is_moe(m->a, layer)) ||
		    (part[i].when == MTP && !mtp))
			continue;
		snprintf(name, sizeof(name), "model.layers.%u.%s", layer,
		    part[i].name);
		if (add_plain(m, part[i].type, name, name,
		    part[i].optional) == -1)
			return -1;
	}
	return 0;
}

int
items_list(struct items *l, const struct source *s, const struct arch *a,
    const struct unit *u, enum shard_quant q, struct err *e)
{
	static const char embed[] = "model.embed_tokens.weight";
	struct maker m = { l, s, a, q, e };

	l->n = 0;
	switch (u->type) {
	case UNIT_EMBED:
		return add_plain(&m, ITEM_MAT, embed, embed, false);
	case UNIT_HEAD:
		return add_head(&m);
	case UNIT_LAYER:
	case UNIT_MTP:
		break;
	}
	if (add_layer_plain(&m, u->layer, u->type == UNIT_MTP) == -1)
		return -1;
	return arch_each_linear(a, u->layer, add_lin, &m);
}

void
items_free(struct items *l)
{
	free(l->p);
	*l = (struct items){0};
}

/* ---- one rank's slice ---- */

struct slice
item_slice(const struct item *it, const struct arch *a, const struct plan *p)
{
	struct slice s = { 0, it->src.n };

	if (it->type == ITEM_LIN)
		plan_slice(p, a, &it->lin, &s.n0, &s.n1);
	if (it->type == ITEM_HEAD) {
		s.n0 = p->vocab0;
		s.n1 = p->vocab1;
	}
	return s;
}

unsigned
item_blocks(const struct item *it)
{
	return (it->src.k + LIN_BLOCK - 1) / LIN_BLOCK;
}

static int
declare(struct store_writer *w, const struct item *it, const char *suffix,
    enum dtype t, unsigned ndim, const uint64_t *dim, struct err *e)
{
	char name[160];

	snprintf(name, sizeof(name), "%s%s", it->name, suffix);
	return store_declare(w, name, t, ndim, dim, e);
}

/* After ".weight": the order in which unit.c puts them, too. */
static int
declare_scales(const struct item *it, const struct slice *s,
    struct store_writer *w, struct err *e)
{
	uint64_t n = s->n1 - s->n0, k = it->src.k, kb = item_blocks(it);
	uint64_t padded = kern_ntile(n) * KERN_TILE_N;

	switch (it->kind) {
	case LIN_FLOAT:
		return 0;
	case LIN_F8:
		return declare(w, it, ".block_scale", DT_F32, 2,
		    (uint64_t[]){ n, kb }, e);
	case LIN_I8_BLOCK:
		if (declare(w, it, ".colsum", DT_I32, 2,
		    (uint64_t[]){ kb, padded }, e) == -1)
			return -1;
		return declare(w, it, ".block_scale", DT_F32, 2,
		    (uint64_t[]){ kb, n }, e);
	case LIN_I8:
	case LIN_I8_STATIC:
		break;
	}
	if (declare(w, it, ".colsum", DT_I32, 1, &padded, e) == -1 ||
	    declare(w, it, ".scale", DT_F32, 1, &n, e) == -1)
		return -1;
	if (it->kind == LIN_I8)
		return 0;
	if (declare(w, it, ".bias", DT_I32, 1, &n, e) == -1 ||
	    declare(w, it, ".input_scale", DT_F32, 1, &k, e) == -1)
		return -1;
	return declare(w, it, ".input_offset", DT_F32, 1, &k, e);
}

int
item_declare(const struct item *it, const struct slice *s,
    struct store_writer *w, struct err *e)
{
	uint64_t n = s->n1 - s->n0, k = it->src.k;

	if (n == 0)
		return 0;
	if (it->type == ITEM_VEC)
		return declare(w, it, "", DT_F32, 1, &n, e);
	if (it->type != ITEM_LIN)
		return declare(w, it, "", it->dtype, 2, (uint64_t[]){ n, k },
		    e);
	if (it->dtype == DT_I8) {
		if (declare(w, it, ".weight", DT_I8, 4, (uint64_t[]){
		    kern_ntile(n), kern_k4(k), KERN_TILE_N, KERN_TILE_K },
		    e) == -1)
			return -1;
	} else if (declare(w, it, ".weight", it->dtype, 2,
	    (uint64_t[]){ n, k }, e) == -1) {
		return -1;
	}
	return declare_scales(it, s, w, e);
}
