/*
 * arch: what a config.json of the DeepSeek V2/V3 family says, checked.
 *
 * Every number is validated once, here; later code relies on it without
 * looking again.
 */
#ifndef DSI_ARCH_H
#define DSI_ARCH_H

#include "base/base.h"
#include "json/json.h"

enum arch_score { ARCH_SOFTMAX, ARCH_SIGMOID };
enum arch_topk { ARCH_GREEDY, ARCH_GROUP_GREEDY, ARCH_NOAUX_TC };
enum arch_dtype { ARCH_BF16, ARCH_F16, ARCH_F32 };

enum { ARCH_MAX_EOS = 8, ARCH_MAX_LAYERS = 1024, ARCH_MAX_EXPERTS = 4096 };

struct arch {
	bool v3;			/* deepseek_v3, else deepseek_v2 */
	unsigned hidden;		/* hidden_size */
	unsigned vocab;			/* vocab_size */
	unsigned layers;		/* num_hidden_layers, without MTP */
	unsigned mtp;			/* num_nextn_predict_layers, 0..1 */
	unsigned heads;			/* num_attention_heads */
	unsigned q_lora;		/* q_lora_rank; 0: plain q_proj */
	unsigned kv_lora;		/* kv_lora_rank */
	unsigned nope, rope, vdim;	/* qk_nope_, qk_rope_, v_head_dim */
	unsigned inter;			/* intermediate_size (dense layers) */
	unsigned moe_inter;		/* moe_intermediate_size */
	unsigned experts;		/* n_routed_experts; 0: no MoE at all */
	unsigned shared;		/* n_shared_experts; 0: none */
	unsigned topk;			/* num_experts_per_tok */
	unsigned groups, topk_groups;	/* n_group, topk_group; 1 without */
	unsigned first_dense;		/* first_k_dense_replace */
	unsigned moe_freq;		/* moe_layer_freq, >= 1 */
	enum arch_score score;		/* scoring_func */
	enum arch_topk topk_method;
	bool norm_topk;			/* norm_topk_prob */
	bool tied;			/* tie_word_embeddings */
	float routed_scale;		/* routed_scaling_factor */
	float eps;			/* rms_norm_eps */
	double rope_theta;
	struct {
		bool on;
		double factor, beta_fast, beta_slow, mscale, mscale_all_dim;
		unsigned original;	/* original_max_position_embeddings */
	} yarn;
	unsigned max_pos;		/* max_position_embeddings */
	enum arch_dtype dtype;		/* torch_dtype / dtype */
	int32_t bos;			/* -1: none */
	int32_t eos[ARCH_MAX_EOS];	/* config.json and generation_config */
	unsigned neos;
	struct {			/* generation_config.json */
		bool there;
		double temperature, top_p;	/* 1.0 where absent */
		int64_t top_k;			/* 0 where absent: off */
		double repetition_penalty;	/* 1.0 */
	} gen;
};

/* Reads DIR/config.json and, if there, DIR/generation_config.json; or, when
 * path names a file, that config.json alone.  Errors (ERR_CALLER) name the
 * file, the key, its value and what would be right. */
int arch_load(struct arch *a, const char *path, struct err *e);
/* The same from a parsed config; name goes before messages. */
int arch_parse(struct arch *a, const struct json *config, const char *name,
    struct err *e);

/* Layer i (0..layers) has routed experts; the MTP layer (i == layers) does
 * whenever the model has any. */
bool arch_is_moe(const struct arch *a, unsigned layer);

/* The rotary frequencies with YaRN applied: inv[rope/2], radians a position;
 * *attn_factor scales cos and sin; *softmax_scale is what q.k is multiplied
 * with.  YaRN: arXiv 2309.00071, as DeepSeek uses it. */
void arch_rope(const struct arch *a, float *inv, float *attn_factor,
    float *softmax_scale);

/* ---- linear layers by name ---- */

enum arch_part {
	ARCH_Q_PROJ,			/* only without q_lora */
	ARCH_Q_A, ARCH_Q_B,		/* only with q_lora */
	ARCH_KV_A, ARCH_KV_B, ARCH_O,
	ARCH_GATE, ARCH_UP, ARCH_DOWN,	/* dense MLP, or one expert's */
	ARCH_EH,			/* MTP eh_proj */
};

/* How a linear layer computes.  Checkpoints mix kinds, and rank files keep
 * them: ckpt, shard and model agree on this. */
enum lin_kind {
	LIN_FLOAT,	/* y = x W^T; weight bf16, f16 or f32 */
	LIN_F8,		/* the same; weight F8 times block scale */
	LIN_I8,		/* dynamic: per-token scale, per-output scale */
	LIN_I8_STATIC,	/* input_scale/offset known; deq_scale, quant_bias */
	LIN_I8_BLOCK,	/* per token and 128 inputs; scale 128 x 128 */
};

enum { LIN_BLOCK = 128 };	/* side of a block of LIN_F8, LIN_I8_BLOCK */

/* One linear layer of the model: its Hugging Face name without ".weight" and
 * its outputs x inputs, whole (not rank-local). */
struct arch_lin {
	char name[112];
	enum arch_part part;
	unsigned layer;
	int expert;			/* >= 0 routed; -1 shared; -2 dense */
	unsigned n, k;
};

/* Calls fn for every linear layer of layer i (0..layers+mtp-1), in the order
 * in which rank files hold them: attention, then MLP or shared then expert 0
 * gate, up, down, expert 1 ...  Stops at the first fn that returns -1. */
int arch_each_linear(const struct arch *a, unsigned layer,
    int (*fn)(void *arg, const struct arch_lin *lin), void *arg);

#endif
