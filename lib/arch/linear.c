/*
 * linear: the names and shapes of the model's linear layers, in the order of
 * the rank files.
 */
#include "arch/arch.h"

enum { SHARED = -1, DENSE = -2 };

struct walk {
	const struct arch *a;
	unsigned layer;
	int (*fn)(void *, const struct arch_lin *);
	void *arg;
};

bool
arch_is_moe(const struct arch *a, unsigned layer)
{
	if (!a->experts)
		return false;
	return layer >= a->layers || (layer >= a->first_dense &&
	    layer % a->moe_freq == 0);
}

/* name goes after "model.layers.N." */
static int
emit(const struct walk *w, enum arch_part part, int expert, const char *name,
    unsigned n, unsigned k)
{
	struct arch_lin l = {
		.part = part, .layer = w->layer, .expert = expert,
		.n = n, .k = k
	};

	snprintf(l.name, sizeof(l.name), "model.layers.%u.%s", w->layer, name);
	return w->fn(w->arg, &l);
}

static int
emit_attention(const struct walk *w)
{
	const struct arch *a = w->a;
	unsigned q = a->heads * (a->nope + a->rope);

	if (a->q_lora) {
		if (emit(w, ARCH_Q_A, DENSE, "self_attn.q_a_proj", a->q_lora,
		    a->hidden) == -1 ||
		    emit(w, ARCH_Q_B, DENSE, "self_attn.q_b_proj", q,
		    a->q_lora) == -1)
			return -1;
	} else if (emit(w, ARCH_Q_PROJ, DENSE, "self_attn.q_proj", q,
	    a->hidden) == -1) {
		return -1;
	}
	if (emit(w, ARCH_KV_A, DENSE, "self_attn.kv_a_proj_with_mqa",
	    a->kv_lora + a->rope, a->hidden) == -1 ||
	    emit(w, ARCH_KV_B, DENSE, "self_attn.kv_b_proj",
	    a->heads * (a->nope + a->vdim), a->kv_lora) == -1)
		return -1;
	return emit(w, ARCH_O, DENSE, "self_attn.o_proj", a->hidden,
	    a->heads * a->vdim);
}

/* prefix: "mlp." and what follows it */
static int
emit_mlp(const struct walk *w, int expert, const char *prefix, unsigned inter)
{
	static const struct {
		enum arch_part part;
		const char *name;
	} part[] = {
		{ ARCH_GATE, "gate_proj" },
		{ ARCH_UP, "up_proj" },
		{ ARCH_DOWN, "down_proj" },
	};
	unsigned hidden = w->a->hidden;

	for (int i = 0; i < 3; i++) {
		bool down = part[i].part == ARCH_DOWN;
		char name[64];

		snprintf(name, sizeof(name), "%s%s", prefix, part[i].name);
		if (emit(w, part[i].part, expert, name, down ? hidden : inter,
		    down ? inter : hidden) == -1)
			return -1;
	}
	return 0;
}

int
arch_each_linear(const struct arch *a, unsigned layer,
    int (*fn)(void *arg, const struct arch_lin *lin), void *arg)
{
	struct walk w = { a, layer, fn, arg };

	if (layer >= a->layers && emit(&w, ARCH_EH, DENSE, "eh_proj",
	    a->hidden, 2 * a->hidden) == -1)
		return -1;
	if (emit_attention(&w) == -1)
		return -1;
	if (!arch_is_moe(a, layer))
		return emit_mlp(&w, DENSE, "mlp.", a->inter);
	if (a->shared && emit_mlp(&w, SHARED, "mlp.shared_experts.",
	    a->shared * a->moe_inter) == -1)
		return -1;
	for (unsigned i = 0; i < a->experts; i++) {
		char prefix[32];

		snprintf(prefix, sizeof(prefix), "mlp.experts.%u.", i);
		if (emit_mlp(&w, (int)i, prefix, a->moe_inter) == -1)
			return -1;
	}
	return 0;
}
