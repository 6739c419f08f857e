"""Quantised variants of the reference models, each in the layout that its publisher uses, with reference logits.

Used by make.py.
"""
import json, os, sys, math, torch
from safetensors.torch import save_file, load_file
import ref
torch.set_num_threads(1)

LIN = ("_proj", "_proj_with_mqa")
is_lin = lambda k: k.endswith(".weight") and k[:-7].endswith(LIN)

def finish(out, c, disk, W, lin, src, files, extra=None):
    os.makedirs(out, exist_ok=True)
    for f, sd in files.items(): save_file({k: v.contiguous() for k, v in sd.items()}, f"{out}/{f}", metadata={"format": "pt"})
    json.dump(disk, open(out + "/config.json", "w"), indent=1)
    for k, v in (extra or {}).items(): json.dump(v, open(f"{out}/{k}", "w"), indent=1)
    r = load_file(src + "/reference.safetensors"); new = {}
    for k in range(3):
        ids = r[f"ids.{k}"]
        lo = ref.forward(c, W, ids, lin)
        new[f"ids.{k}"], new[f"logits.{k}"], new[f"greedy.{k}"] = ids, lo, ref.greedy(c, W, ids, lin, 16).int()
        kl = (torch.softmax(r[f"logits.{k}"], -1) * (torch.log_softmax(r[f"logits.{k}"], -1) - torch.log_softmax(lo, -1))).sum(-1).mean()
        print(out, k, "KL vs float", round(kl.item(), 5), "argmax agree", (lo.argmax(-1) == r[f"logits.{k}"].argmax(-1)).float().mean().item())
    save_file(new, out + "/reference.safetensors")
    vec, g = {}, torch.Generator().manual_seed(12)
    for n in ("layers.0.self_attn.q_a_proj", "layers.0.self_attn.kv_a_proj_with_mqa", "layers.1.self_attn.q_b_proj", "layers.1.self_attn.o_proj",
              "layers.0.mlp.down_proj", "layers.1.mlp.experts.3.gate_proj", "layers.1.mlp.shared_experts.down_proj"):
        w = W.get(f"model.{n}.weight")
        if w is None: continue
        x = torch.randn(9, w.shape[1], generator=g) * torch.tensor([.01, .1, .5, 1, 1, 1, 2, 8, 100]).view(-1, 1); x[4, 5:] = 0
        vec["x:" + n], vec["y:" + n] = x, lin("model." + n, x)
    save_file(vec, out + "/vectors.safetensors")

def q_channel(w, div=127):
    s = (w.abs().amax(1, keepdim=True) / div).clamp(min=1e-12)
    return torch.round(w / s).clamp(-128, 127).to(torch.int8), s

def shards(sd, n, stem):
    ks, per = sorted(sd), math.ceil(len(sd) / n)
    files, wm = {}, {}
    for i in range(n):
        f = f"{stem}-{i+1:05d}-of-{n:05d}.safetensors"
        files[f] = {k: sd[k] for k in ks[i * per:(i + 1) * per]}
        wm.update({k: f for k in files[f]})
    return files, {"metadata": {"total_size": sum(v.numel() * v.element_size() for v in sd.values())}, "weight_map": wm}

def channel_int8(src, out):
    c = json.load(open(src + "/config.json")); S = load_file(src + "/model.safetensors"); W = {}
    for k, v in S.items():
        if is_lin(k): W[k], s = q_channel(v.float()); W[k + "_scale"] = s
        else: W[k] = v
    files, idx = shards(W, 3, "model")
    disk = dict(c, quantization_config=dict(quant_method="compressed-tensors", format="int-quantized", ignore=["lm_head"], config_groups=dict(group_0=dict(
        targets=["Linear"], weights=dict(num_bits=8, type="int", symmetric=True, strategy="channel", dynamic=False),
        input_activations=dict(num_bits=8, type="int", symmetric=True, strategy="token", dynamic=True)))))
    finish(out, c, disk, W, ref.lin_dynamic(W), src, files, {"model.safetensors.index.json": idx})

def fp8_block(src, out, bs=128):
    c = json.load(open(src + "/config.json")); S = load_file(src + "/model.safetensors"); W, D = {}, {}
    for k, v in S.items():
        if not is_lin(k): W[k] = D[k] = v; continue
        w = v.float(); O, I = w.shape; ob, ib = math.ceil(O / bs), math.ceil(I / bs)
        p = torch.zeros(ob * bs, ib * bs); p[:O, :I] = w
        b = p.view(ob, bs, ib, bs)
        s = (b.abs().amax((1, 3)) / 448).clamp(min=1e-12)
        q = (b / s[:, None, :, None]).view(ob * bs, ib * bs)[:O, :I].to(torch.float8_e4m3fn)
        W[k], W[k + "_scale_inv"] = q, s
        D[k] = (q.float() * s.repeat_interleave(bs, 0).repeat_interleave(bs, 1)[:O, :I])
    files, idx = shards(W, 2, "model")
    disk = dict(c, quantization_config=dict(quant_method="fp8", fmt="e4m3", activation_scheme="dynamic", weight_block_size=[bs, bs]))
    finish(out, c, disk, D, ref.lin_float(D), src, files, {"model.safetensors.index.json": idx})

def lin_block(W, bs=128):
    """int8 blocks: activations quantised per token and group of 128 inputs, one weight scale per block; kv_b_proj dequantised."""
    def f(name, x):
        w, s = W[name + ".weight"], W.get(name + ".weight_scale_inv")
        if s is None: return x @ w.float().T
        O, I = w.shape
        s = s.repeat_interleave(bs, 0)[:O]
        if name.endswith("kv_b_proj"): return x @ (w.float() * s.repeat_interleave(bs, 1)[:, :I]).T
        y = torch.zeros(len(x), O)
        for b in range(s.shape[1]):
            q, sx = ref.dyn_quant(x[:, b * bs:(b + 1) * bs])
            y = y + (q.double() @ w[:, b * bs:(b + 1) * bs].double().T).float() * sx * s[:, b]
        return y
    return f

def block_int8(src, out, bs=128):
    c = json.load(open(src + "/config.json")); S = load_file(src + "/model.safetensors"); W = {}
    for k, v in S.items():
        W[k] = v
        if not is_lin(k): continue
        w = v.float(); O, I = w.shape; ob, ib = math.ceil(O / bs), math.ceil(I / bs)
        p = torch.zeros(ob * bs, ib * bs); p[:O, :I] = w
        b = p.view(ob, bs, ib, bs)
        s = (b.abs().amax((1, 3)) / 127).clamp(min=1e-12)
        W[k] = torch.round(b / s[:, None, :, None]).clamp(-127, 127).view(ob * bs, ib * bs)[:O, :I].to(torch.int8)
        W[k + "_scale_inv"] = s
    files, idx = shards(W, 2, "model")
    disk = dict(c, quantization_config=dict(quant_method="blockwise_int8", activation_scheme="dynamic", weight_block_size=[bs, bs]))
    finish(out, c, disk, W, lin_block(W), src, files, {"model.safetensors.index.json": idx})

STATIC = ("q_a_proj", "kv_a_proj_with_mqa", "q_b_proj", "o_proj")
def observe(c, S, names):
    seen = {}
    base = ref.lin_float(S)
    def f(n, x):
        if n.endswith(names): seen.setdefault(n, []).append(x)
        return base(n, x)
    g = torch.Generator().manual_seed(4)
    for _ in range(4): ref.forward(c, S, torch.randint(0, c["vocab_size"], (96,), generator=g), f)
    return {k: torch.cat(v) for k, v in seen.items()}

def modelslim(src, out):
    """Static per-tensor W8A8 on attention, dynamic per-token on MLPs; norm biases carry the outlier shift."""
    c = json.load(open(src + "/config.json")); S = {k: v.float() for k, v in load_file(src + "/model.safetensors").items()}
    g = torch.Generator().manual_seed(21); W, desc = {}, {"model_quant_type": "W8A8_DYNAMIC"}
    for k, v in S.items(): W[k] = v if "e_score" in k else v.to(torch.bfloat16)
    # a norm bias b shifts the input of the following layers; their float bias -W.b, folded into quant_bias, cancels it
    shift = {}
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        for nm, outs in ((p + "input_layernorm", ("q_a_proj", "kv_a_proj_with_mqa")), (p + "self_attn.q_a_layernorm", ("q_b_proj",))):
            b = (.2 * torch.randn(S[nm + ".weight"].shape, generator=g)).to(torch.bfloat16)
            W[nm + ".bias"] = b
            for o in outs: shift[p + "self_attn." + o] = b.float()
    obs = observe(c, S, STATIC)
    rng = {}
    for n, x in obs.items():
        x = x + shift.get(n, 0)
        lo, hi = x.min().item(), x.max().item()
        rng[n] = (lo * .98, hi * .98)
    for n in list(rng):
        if n.endswith("kv_a_proj_with_mqa"): rng[n] = rng[n.replace("kv_a_proj_with_mqa", "q_a_proj")]
    for k in [k for k in W if is_lin(k)]:
        n = k[:-7]; desc[k] = "FLOAT"
        if n.endswith("kv_b_proj"): continue
        q, s = q_channel(S[k], 127.5)             # as these tools do: -128 is used
        W[k] = q
        if n in rng:
            lo, hi = rng[n]; isc = torch.tensor([(hi - lo) / 255]).to(torch.bfloat16)
            zp = round(-128 - lo / isc.item())
            W[n + ".input_scale"], W[n + ".input_offset"] = isc, torch.tensor([float(zp)]).to(torch.bfloat16) if abs(zp) < 256 else torch.tensor([float(zp)])
            zp = W[n + ".input_offset"].item()
            d = isc.float() * s.view(-1)
            qb = -(q.double().sum(1) * zp)
            if n in shift: qb = qb - (S[k] @ shift[n]).double() / d.double()
            W[n + ".deq_scale"], W[n + ".quant_bias"] = d, torch.round(qb).to(torch.int32)
            desc[k] = "W8A8"
            for sfx in (".input_scale", ".input_offset", ".deq_scale", ".quant_bias"): desc[n + sfx] = "W8A8"
        else:
            W[n + ".weight_scale"], W[n + ".weight_offset"] = s, torch.zeros_like(s)
            desc[k] = desc[n + ".weight_scale"] = desc[n + ".weight_offset"] = "W8A8_DYNAMIC"
    files, idx = shards(W, 3, "quant_model_weight_w8a8_dynamic")
    finish(out, c, dict(c), W, ref.lin_static(W), src, files, {"quant_model_weight_w8a8_dynamic.safetensors.index.json": idx, "quant_model_description.json": desc})
    return W

def goldenstick(src, out):
    """MindSpore names, stacked transposed experts, half-split rope rows, per-input-channel static scales on attention."""
    c = json.load(open(src + "/config.json")); S = {k: v.float() for k, v in load_file(src + "/model.safetensors").items()}
    g = torch.Generator().manual_seed(31); bf = torch.bfloat16
    obs = observe(c, S, STATIC); W = {}; D = {}
    H, n, r, v, E = c["num_attention_heads"], c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"], c["n_routed_experts"]
    perm = torch.cat((torch.arange(0, r, 2), torch.arange(1, r, 2)))
    def rows_kv(t): return torch.cat((t[:-r], t[-r:][perm]))
    def rows_q(t): u = t.reshape(H, n + r, *t.shape[1:]); return torch.cat((u[:, :n], u[:, n:][:, perm]), 1).reshape(t.shape)
    ident = lambda t: t
    D["model.tok_embeddings.embedding_weight"], D["lm_head.weight"], D["model.norm_out.weight"] = (S[k].to(bf) for k in ("model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"))
    W.update({k: t.to(bf) if "e_score" not in k else t for k, t in S.items()})
    desc = {}
    for i in range(c["num_hidden_layers"]):
        p, m = f"model.layers.{i}.", f"model.layers.{i}."
        D[m + "attention_norm.weight"], D[m + "ffn_norm.weight"] = W[p + "input_layernorm.weight"], W[p + "post_attention_layernorm.weight"]
        D[m + "attention.lq_norm.weight"], D[m + "attention.lkv_norm.weight"] = W[p + "self_attn.q_a_layernorm.weight"], W[p + "self_attn.kv_a_layernorm.weight"]
        kvb = W[p + "self_attn.kv_b_proj.weight"].view(H, n + v, -1)
        D[m + "attention.lkv2kv_k_nope.weight"], D[m + "attention.lkv2kv_v.weight"] = kvb[:, :n].reshape(H * n, -1), kvb[:, n:].reshape(H * v, -1)
        for hf, ms, pr in (("q_a_proj", "q2l_proj", ident), ("kv_a_proj_with_mqa", "kv2l", rows_kv), ("q_b_proj", "l2q_proj", rows_q), ("o_proj", "wo", ident)):
            nm = p + "self_attn." + hf; x = obs[p + "self_attn.q_a_proj"] if hf.startswith("kv_a") else obs[nm]; w = S[nm + ".weight"]
            sm = (x.abs().amax(0) ** .5 / w.abs().amax(0).clamp(min=1e-5) ** .5).clamp(min=1e-5)
            if hf.startswith("kv_a"): sm = keep
            if hf == "q_a_proj": keep = sm
            xs = x / sm; lo, hi = xs.min().item() * .98, xs.max().item() * .98
            isc = ((hi - lo) / 255 * sm).to(bf)
            zp = torch.full_like(sm, max(-128, min(127, round(-128 - lo / ((hi - lo) / 255))))).to(torch.int8)
            eff = isc.float()                      # what one activation step is worth, per input channel
            wq = w * eff                           # weight with the smoothing and the step folded in
            s = (wq.abs().amax(1) / 127.5).clamp(min=1e-12); q = torch.round(wq / s[:, None]).clamp(-128, 127).to(torch.int8)
            qb = (-(q.int() * zp.int()).sum(1)).to(torch.int32)
            W.update({nm + ".weight": q, nm + ".input_scale": isc, nm + ".input_offset": zp, nm + ".deq_scale": s, nm + ".quant_bias": qb})
            b = m + f"attention.{ms}."
            D[b + "_layer.weight"], D[b + "_layer.matmul.quant_bias"], D[b + "_layer.matmul.dequant_scale"] = pr(q), pr(qb), pr(s)
            D[b + "quant_op.input_scale"], D[b + "quant_op.input_zp"] = isc, zp
        def put(hf, ms):
            q, s = q_channel(S[hf + ".weight"], 127.5); s = s.to(bf)
            W[hf + ".weight"], W[hf + ".weight_scale"] = q, s
            return q, s.view(-1)
        f = m + "feed_forward."
        W123 = (("gate_proj", "w1"), ("down_proj", "w2"), ("up_proj", "w3"))
        if i < c["first_k_dense_replace"]:
            for hf, ms in W123: D[f + ms + "._layer.weight"], D[f + ms + "._layer.matmul.weight_scale"] = put(p + "mlp." + hf, ms)
            continue
        for hf, ms in W123:
            D[f + f"shared_experts.{ms}._layer.weight"], D[f + f"shared_experts.{ms}._layer.matmul.weight_scale"] = put(p + "mlp.shared_experts." + hf, ms)
            qs = [put(p + f"mlp.experts.{e}." + hf, ms) for e in range(E)]
            D[f + f"routed_experts.ffn.{ms}._layer.weight"] = torch.stack([q.T for q, _ in qs]).contiguous()
            D[f + f"routed_experts.ffn.{ms}._layer.matmul.weight_scale"] = torch.stack([s for _, s in qs])
        D[f + "routed_experts.router.dense.weight"], D[f + "routed_experts.router.e_score_correction_bias"] = W[p + "mlp.gate.weight"], W[p + "mlp.gate.e_score_correction_bias"]
    for k in D: desc[k] = "W8A8" if ".attention." in k and ("_layer" in k or "quant_op" in k) else "W8A8_DYNAMIC" if "_layer" in k else "FLOAT"
    files, idx = shards(D, 2, "quant")
    finish(out, c, dict(c), W, ref.lin_static(W), src, files, {"param_name_map.json": idx["weight_map"], "quantization_description.json": desc})
