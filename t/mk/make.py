"""Make the small fixtures of t/fixtures: models with random weights in every published layout, and reference logits.

Usage: python3 t/mk/make.py t/fixtures      (needs torch and safetensors)

The shapes are odd on purpose: no powers of two, a vocabulary that nothing divides, blocks of 128 that end in the middle.
ref.py is the arithmetic; it agrees with Hugging Face transformers to 2e-5 on models of this architecture.
"""
import json, os, sys, torch
from safetensors.torch import save_file
import quant, ref

torch.set_num_threads(1)
YARN = lambda f, o, m: dict(type="yarn", factor=f, original_max_position_embeddings=o, beta_fast=32, beta_slow=1, mscale=m, mscale_all_dim=m)
BASE = dict(vocab_size=67, hidden_size=132, intermediate_size=130, moe_intermediate_size=10, num_hidden_layers=3, num_attention_heads=3,
            num_key_value_heads=3, n_shared_experts=1, n_routed_experts=6, routed_scaling_factor=2.5, kv_lora_rank=26, q_lora_rank=30,
            qk_rope_head_dim=6, v_head_dim=14, qk_nope_head_dim=10, n_group=3, topk_group=2, num_experts_per_tok=3, first_k_dense_replace=1,
            moe_layer_freq=1, norm_topk_prob=True, hidden_act="silu", max_position_embeddings=4096, rms_norm_eps=1e-6, rope_theta=10000.0,
            rope_scaling=YARN(8, 512, 1.0), attention_bias=False, tie_word_embeddings=False, bos_token_id=0, eos_token_id=1, torch_dtype="bfloat16")
V3 = dict(BASE, model_type="deepseek_v3", architectures=["DeepseekV3ForCausalLM"], scoring_func="sigmoid", topk_method="noaux_tc")
V2 = dict(BASE, model_type="deepseek_v2", architectures=["DeepseekV2ForCausalLM"], scoring_func="softmax")
FLOAT = {
    "v3-bf16": dict(V3),
    "v2lite-bf16": dict(V2, topk_method="greedy", q_lora_rank=None, n_group=1, topk_group=1, norm_topk_prob=False, routed_scaling_factor=1.0,
                        n_shared_experts=2, num_attention_heads=5, num_key_value_heads=5, hidden_size=60, intermediate_size=70,
                        rope_scaling=YARN(40, 128, 0.707)),
    "v2group-bf16": dict(V2, topk_method="group_limited_greedy", norm_topk_prob=False, routed_scaling_factor=16.0, first_k_dense_replace=2, vocab_size=71,
                         hidden_size=62, intermediate_size=74),
    "moonlight-bf16": dict(V3, q_lora_rank=None, n_group=1, topk_group=1, rope_scaling=None, rope_theta=50000.0, num_hidden_layers=5, first_k_dense_replace=4,
                           n_routed_experts=5, num_experts_per_tok=2, vocab_size=61, hidden_size=66, intermediate_size=58),
}


def linears(c, i):
    """(name, out, in) of every linear layer of layer i."""
    h, H, n, r, v, kv = c["hidden_size"], c["num_attention_heads"], c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"], c["kv_lora_rank"]
    a, m, q = f"model.layers.{i}.self_attn.", f"model.layers.{i}.mlp.", c["q_lora_rank"]
    if q: yield from ((a + "q_a_proj", q, h), (a + "q_b_proj", H * (n + r), q))
    else: yield a + "q_proj", H * (n + r), h
    yield from ((a + "kv_a_proj_with_mqa", kv + r, h), (a + "kv_b_proj", H * (n + v), kv), (a + "o_proj", h, H * v))
    mlp = lambda p, w: ((p + "gate_proj", w, h), (p + "up_proj", w, h), (p + "down_proj", h, w))
    if i < c["first_k_dense_replace"]: yield from mlp(m, c["intermediate_size"]); return
    w = c["moe_intermediate_size"]
    yield from mlp(m + "shared_experts.", w * c["n_shared_experts"])
    for e in range(c["n_routed_experts"]): yield from mlp(m + f"experts.{e}.", w)


def weights(c, seed):
    g = torch.Generator().manual_seed(seed)
    rnd = lambda *s: torch.randn(*s, generator=g)
    h, S = c["hidden_size"], {}
    S["model.embed_tokens.weight"], S["lm_head.weight"], S["model.norm.weight"] = rnd(c["vocab_size"], h), rnd(c["vocab_size"], h) * 1.3 / h ** .5, 1 + .2 * rnd(h)
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        for n, o, k in linears(c, i): S[n + ".weight"] = rnd(o, k) * 1.3 / k ** .5
        S[p + "input_layernorm.weight"], S[p + "post_attention_layernorm.weight"] = 1 + .2 * rnd(h), 1 + .2 * rnd(h)
        S[p + "self_attn.kv_a_layernorm.weight"] = 1 + .2 * rnd(c["kv_lora_rank"])
        if c["q_lora_rank"]: S[p + "self_attn.q_a_layernorm.weight"] = 1 + .2 * rnd(c["q_lora_rank"])
        if i >= c["first_k_dense_replace"]:
            S[p + "mlp.gate.weight"] = .15 * rnd(c["n_routed_experts"], h)
            if c["topk_method"] == "noaux_tc": S[p + "mlp.gate.e_score_correction_bias"] = .1 * rnd(c["n_routed_experts"])
    return {k: v if "e_score" in k else v.to(torch.bfloat16) for k, v in S.items()}


def float_model(c, out, seed):
    os.makedirs(out, exist_ok=True)
    S = weights(c, seed)
    save_file(S, out + "/model.safetensors", metadata={"format": "pt"})
    json.dump(c, open(out + "/config.json", "w"), indent=1)
    g, R, lin = torch.Generator().manual_seed(seed + 99), {}, ref.lin_float(S)
    for k, n in enumerate((5, 37, 150)):
        ids = torch.randint(3, c["vocab_size"], (n,), generator=g); ids[0] = 0
        R[f"ids.{k}"], R[f"logits.{k}"], R[f"greedy.{k}"] = ids.int(), ref.forward(c, S, ids, lin), ref.greedy(c, S, ids, lin, 16).int()
    save_file(R, out + "/reference.safetensors")


def main():
    out = sys.argv[1]
    for i, (name, c) in enumerate(FLOAT.items()): float_model(c, f"{out}/{name}", 40 + i)
    quant.channel_int8(out + "/v3-bf16", out + "/v3-int8-channel")
    quant.channel_int8(out + "/moonlight-bf16", out + "/moonlight-int8-channel")
    quant.block_int8(out + "/v3-bf16", out + "/v3-int8-block")
    quant.fp8_block(out + "/v3-bf16", out + "/v3-fp8-block")
    quant.modelslim(out + "/v3-bf16", out + "/v3-w8a8-modelslim")
    quant.goldenstick(out + "/v3-bf16", out + "/v3-w8a8-goldenstick")


main()
