"""Make t/fixtures/even-w8a8-modelslim: a ModelSlim model (static int8 attention, dynamic int8 MLP) that layouts of many ranks can cut.

Usage: python3 t/mk/even.py t/fixtures      (needs nothing but Python)

Random weights and no reference logits: what it shows is that every layout gives the bits of one rank.
"""
import json, os, random, struct, sys

C = dict(model_type="deepseek_v3", architectures=["DeepseekV3ForCausalLM"], vocab_size=67, hidden_size=96, intermediate_size=64,
         moe_intermediate_size=16, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4, n_shared_experts=1, n_routed_experts=8,
         routed_scaling_factor=2.5, kv_lora_rank=20, q_lora_rank=24, qk_rope_head_dim=4, v_head_dim=8, qk_nope_head_dim=8, n_group=4,
         topk_group=2, num_experts_per_tok=3, first_k_dense_replace=1, moe_layer_freq=1, norm_topk_prob=True, hidden_act="silu",
         max_position_embeddings=4096, rms_norm_eps=1e-6, rope_theta=10000.0, attention_bias=False, tie_word_embeddings=False,
         scoring_func="sigmoid", topk_method="noaux_tc", bos_token_id=0, eos_token_id=1, torch_dtype="bfloat16")
rng = random.Random(5)
tensors, kind = {}, {"model_quant_type": "W8A8_DYNAMIC"}


def put(name, dtype, shape, values):
    fmt = dict(F32="f", I32="i", I8="b")
    if dtype == "BF16": data = b"".join(struct.pack("<f", v)[2:] for v in values)
    else: data = struct.pack(f"<{len(values)}{fmt[dtype]}", *values)
    tensors[name] = dtype, shape, data


def floats(name, *shape, sigma=1.0, mean=0.0, dtype="BF16"):
    n = 1
    for s in shape: n *= s
    put(name, dtype, list(shape), [rng.gauss(mean, sigma) for _ in range(n)])
    kind[name] = "FLOAT"


def int8(name, n, k, static):
    w = [max(-128, min(127, round(rng.gauss(0, 40)))) for _ in range(n * k)]
    scale = [(1 + .2 * rng.random()) / 40 / k ** .5 for _ in range(n)]
    put(name + ".weight", "I8", [n, k], w)
    kind[name + ".weight"] = "W8A8" if static else "W8A8_DYNAMIC"
    if not static:
        put(name + ".weight_scale", "F32", [n, 1], scale)
        put(name + ".weight_offset", "F32", [n, 1], [0.0] * n)
        return
    step, zero = 2.0 ** -5, -3
    put(name + ".input_scale", "BF16", [1], [step])
    put(name + ".input_offset", "BF16", [1], [float(zero)])
    put(name + ".deq_scale", "F32", [n], [s * step for s in scale])
    put(name + ".quant_bias", "I32", [n], [-zero * sum(w[r * k:(r + 1) * k]) for r in range(n)])


def mlp(prefix, width):
    int8(prefix + "gate_proj", width, C["hidden_size"], False)
    int8(prefix + "up_proj", width, C["hidden_size"], False)
    int8(prefix + "down_proj", C["hidden_size"], width, False)


def layer(i):
    h, H, q, kv = C["hidden_size"], C["num_attention_heads"], C["q_lora_rank"], C["kv_lora_rank"]
    n, r, v, p = C["qk_nope_head_dim"], C["qk_rope_head_dim"], C["v_head_dim"], f"model.layers.{i}."
    for name, size in (("input_layernorm", h), ("post_attention_layernorm", h), ("self_attn.q_a_layernorm", q), ("self_attn.kv_a_layernorm", kv)):
        floats(p + name + ".weight", size, sigma=.2, mean=1)
    int8(p + "self_attn.q_a_proj", q, h, True)
    int8(p + "self_attn.q_b_proj", H * (n + r), q, True)
    int8(p + "self_attn.kv_a_proj_with_mqa", kv + r, h, True)
    int8(p + "self_attn.o_proj", h, H * v, True)
    floats(p + "self_attn.kv_b_proj.weight", H * (n + v), kv, sigma=kv ** -.5)
    if i < C["first_k_dense_replace"]: return mlp(p + "mlp.", C["intermediate_size"])
    floats(p + "mlp.gate.weight", C["n_routed_experts"], h, sigma=.15)
    floats(p + "mlp.gate.e_score_correction_bias", C["n_routed_experts"], sigma=.1, dtype="F32")
    mlp(p + "mlp.shared_experts.", C["moe_intermediate_size"])
    for e in range(C["n_routed_experts"]): mlp(p + f"mlp.experts.{e}.", C["moe_intermediate_size"])


def main():
    out, base = sys.argv[1] + "/even-w8a8-modelslim", "quant_model_weight_w8a8_dynamic"
    os.makedirs(out, exist_ok=True)
    floats("model.embed_tokens.weight", C["vocab_size"], C["hidden_size"])
    for i in range(C["num_hidden_layers"]): layer(i)
    floats("model.norm.weight", C["hidden_size"], sigma=.2, mean=1)
    floats("lm_head.weight", C["vocab_size"], C["hidden_size"], sigma=1.3 * C["hidden_size"] ** -.5)
    head, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        head[name] = dict(dtype=dtype, shape=shape, data_offsets=[at, at + len(data)])
        at += len(data)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(f"{out}/{base}-00001-of-00001.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(d for _, _, d in tensors.values()))
    json.dump(dict(metadata=dict(total_size=at), weight_map={n: f"{base}-00001-of-00001.safetensors" for n in tensors}),
              open(f"{out}/{base}.safetensors.index.json", "w"), indent=0)
    json.dump(kind, open(out + "/quant_model_description.json", "w"), indent=0)
    json.dump(C, open(out + "/config.json", "w"), indent=1)


main()
