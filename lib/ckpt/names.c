/*
 * names: how MindSpore checkpoints call what Hugging Face calls otherwise.
 */
#include <string.h>

#include "ckpt/ckpt_priv.h"

bool
ms_linear(const struct arch_lin *l, bool fused, char out[CKPT_NAME])
{
	static const char *const name[] = {
		[ARCH_Q_PROJ] = "attention.q_proj",
		[ARCH_Q_A] = "attention.q2l_proj",
		[ARCH_Q_B] = "attention.l2q_proj",
		[ARCH_KV_A] = "attention.kv2l",
		[ARCH_KV_B] = "attention.lkv2kv_k_nope",
		[ARCH_O] = "attention.wo",
		[ARCH_GATE] = "w1", [ARCH_DOWN] = "w2", [ARCH_UP] = "w3",
		[ARCH_EH] = "eh_proj",
	};
	const char *prefix = "", *s = name[l->part];

	if (l->part == ARCH_GATE || l->part == ARCH_UP ||
	    l->part == ARCH_DOWN)
		prefix = l->expert >= 0 ? "feed_forward.routed_experts.ffn." :
		    l->expert == -1 ? "feed_forward.shared_experts." :
		    "feed_forward.";
	if (fused) {
		if (l->part == ARCH_GATE || l->part == ARCH_UP)
			s = "w_gate_hidden";
		else if (l->part == ARCH_Q_A || l->part == ARCH_KV_A)
			s = "attention.qkv2l";
		else
			return false;
	}
	snprintf(out, CKPT_NAME, "model.layers.%u.%s%s", l->layer, prefix, s);
	return true;
}

bool
ms_plain(const char *hf, char out[CKPT_NAME])
{
	static const char *const whole[][2] = {
		{ "model.embed_tokens.weight",
		    "model.tok_embeddings.embedding_weight" },
		{ "model.norm.weight", "model.norm_out.weight" },
		{ "lm_head.weight", "lm_head.weight" },
	};
	static const char *const part[][2] = {
		{ "input_layernorm.weight", "attention_norm.weight" },
		{ "input_layernorm.bias",
		    "attention.q2l_proj.quant_op.beta" },
		{ "post_attention_layernorm.weight", "ffn_norm.weight" },
		{ "self_attn.q_a_layernorm.weight",
		    "attention.lq_norm.weight" },
		{ "self_attn.q_a_layernorm.bias",
		    "attention.l2q_proj.quant_op.beta" },
		{ "self_attn.kv_a_layernorm.weight",
		    "attention.lkv_norm.weight" },
		{ "mlp.gate.weight",
		    "feed_forward.routed_experts.router.dense.weight" },
		{ "mlp.gate.e_score_correction_bias", "feed_forward."
		    "routed_experts.router.e_score_correction_bias" },
	};
	static const char layers[] = "model.layers.";
	size_t at = strlen(layers);

	for (size_t i = 0; i < sizeof(whole) / sizeof(*whole); i++) {
		if (strcmp(hf, whole[i][0]) == 0) {
			snprintf(out, CKPT_NAME, "%s", whole[i][1]);
			return true;
		}
	}
	if (strncmp(hf, layers, at) != 0)
		return false;
	at += strspn(hf + at, "0123456789");
	if (hf[at++] != '.')
		return false;
	for (size_t i = 0; i < sizeof(part) / sizeof(*part); i++) {
		if (strcmp(hf + at, part[i][0]) == 0) {
			snprintf(out, CKPT_NAME, "%.*s%s", (int)at, hf,
			    part[i][1]);
			return true;
		}
	}
	return false;
}
