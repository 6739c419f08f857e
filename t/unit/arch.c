/*
 * arch: published configurations, defaults, each rule broken once, and the
 * rotary frequencies against PyTorch's.
 */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "arch/arch.h"
#include "tap.h"

/* DeepSeek-R1's numbers. */
static const char r1[] = "{"
    "\"architectures\":[\"DeepseekV3ForCausalLM\"],"
    "\"model_type\":\"deepseek_v3\",\"attention_bias\":false,"
    "\"bos_token_id\":0,\"eos_token_id\":1,\"first_k_dense_replace\":3,"
    "\"hidden_act\":\"silu\",\"hidden_size\":7168,"
    "\"intermediate_size\":18432,\"kv_lora_rank\":512,"
    "\"max_position_embeddings\":163840,\"moe_intermediate_size\":2048,"
    "\"moe_layer_freq\":1,\"n_group\":8,\"n_routed_experts\":256,"
    "\"n_shared_experts\":1,\"norm_topk_prob\":true,"
    "\"num_attention_heads\":128,\"num_experts_per_tok\":8,"
    "\"num_hidden_layers\":61,\"num_key_value_heads\":128,"
    "\"num_nextn_predict_layers\":1,\"q_lora_rank\":1536,"
    "\"qk_nope_head_dim\":128,\"qk_rope_head_dim\":64,"
    "\"rms_norm_eps\":1e-06,\"rope_scaling\":{\"beta_fast\":32,"
    "\"beta_slow\":1,\"factor\":40,\"mscale\":1.0,\"mscale_all_dim\":1.0,"
    "\"original_max_position_embeddings\":4096,\"type\":\"yarn\"},"
    "\"rope_theta\":10000,\"routed_scaling_factor\":2.5,"
    "\"scoring_func\":\"sigmoid\",\"tie_word_embeddings\":false,"
    "\"topk_group\":4,\"topk_method\":\"noaux_tc\","
    "\"torch_dtype\":\"bfloat16\",\"v_head_dim\":128,"
    "\"vocab_size\":129280}";

/* The least that a V2 model says. */
static const char v2[] = "{\"model_type\":\"deepseek_v2\","
    "\"hidden_size\":48,\"vocab_size\":101,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":3,\"kv_lora_rank\":20,\"qk_nope_head_dim\":12,"
    "\"qk_rope_head_dim\":8,\"v_head_dim\":10,\"intermediate_size\":77}";

/* Frequencies and scales that PyTorch computes in float. */
static const float r1_inv[32] = {
	1.0f, 0.749894202f, 0.562341332f, 0.421696514f, 0.316227764f,
	0.237137362f, 0.177827939f, 0.133352146f, 0.100000001f, 0.0749894157f,
	0.0562341288f, 0.0390069261f, 0.0268793628f, 0.0183781441f,
	0.012447956f, 0.0083345091f, 0.00550000044f, 0.00356199732f,
	0.00224936521f, 0.00137051346f, 0.000790569407f, 0.000414990413f,
	0.00017782794f, 3.3338034e-05f, 2.49999994e-05f, 1.87473543e-05f,
	1.40585325e-05f, 1.05424124e-05f, 7.90569447e-06f, 5.92843435e-06f,
	4.44569832e-06f, 3.33380353e-06f
};
static const float plain_inv[32] = {
	1.0f, 0.713111103f, 0.508527458f, 0.362636536f, 0.258600146f,
	0.184410617f, 0.131505266f, 0.0937778577f, 0.0668740347f,
	0.0476886146f, 0.0340072773f, 0.0242509674f, 0.0172936339f,
	0.0123322811f, 0.00879428629f, 0.00627130363f, 0.00447213603f,
	0.00318912975f, 0.00227420381f, 0.00162175996f, 0.00115649495f,
	0.000824709365f, 0.000588109426f, 0.000419387332f, 0.000299069769f,
	0.000213269959f, 0.000152085166f, 0.00010845362f, 7.73394786e-05f,
	5.51516423e-05f, 3.93292466e-05f, 2.80461209e-05f
};
static const float small_inv[8] = {
	1.0f, 0.213453725f, 0.0349999964f, 0.000790569466f, 0.000250000012f,
	7.90569466e-05f, 2.49999994e-05f, 7.90569447e-06f
};

static int
parse(struct arch *a, const char *text, struct err *e)
{
	struct json *o;
	int rc;

	if (json_parse(&o, text, strlen(text), e) == -1)
		return -1;
	rc = arch_parse(a, o, "config.json", e);
	json_free(&o);
	return rc;
}

/* base with its member key (one that holds no comma) replaced by text, or,
 * where key is "", text added in front. */
static void
edit(char *out, size_t n, const char *base, const char *key, const char *text)
{
	char quoted[64];
	const char *p, *end;

	if (!*key) {
		snprintf(out, n, "{%s,%s", text, base + 1);
		return;
	}
	snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	p = strstr(base, quoted);
	end = p ? p + strcspn(p, ",}") : "";
	if (!p)
		snprintf(out, n, "%s", base);
	else
		snprintf(out, n, "%.*s%s%s", (int)(p - base), base, text, end);
}

static void
refused(const char *base, const char *key, const char *text, const char *word)
{
	char s[4096];
	struct err e = {0};
	struct arch a;

	edit(s, sizeof(s), base, key, text);
	tap_ok(parse(&a, s, &e) == -1 && e.code == ERR_CALLER &&
	    strstr(e.msg, word) && strncmp(e.msg, "config.json", 11) == 0,
	    "%s refused: %s", *text ? text : key, e.msg);
}

static int
accepted(struct arch *a, const char *base, const char *key, const char *text)
{
	char s[4096];
	struct err e = {0};

	edit(s, sizeof(s), base, key, text);
	return tap_ok(parse(a, s, &e) == 0, "%s accepted %s", text, e.msg);
}

static void
test_r1(void)
{
	struct err e = {0};
	struct arch a;

	tap_ok(parse(&a, r1, &e) == 0, "R1 is accepted %s", e.msg);
	tap_ok(a.v3 && a.hidden == 7168 && a.layers == 61 && a.mtp == 1 &&
	    a.heads == 128 && a.q_lora == 1536 && a.kv_lora == 512 &&
	    a.nope == 128 && a.rope == 64 && a.vdim == 128, "its sizes");
	tap_ok(a.experts == 256 && a.shared == 1 && a.topk == 8 &&
	    a.groups == 8 && a.topk_groups == 4 && a.moe_inter == 2048 &&
	    a.score == ARCH_SIGMOID && a.topk_method == ARCH_NOAUX_TC &&
	    a.norm_topk && a.routed_scale == 2.5f, "its experts");
	tap_ok(a.yarn.on && a.yarn.factor == 40 && a.yarn.original == 4096 &&
	    a.max_pos == 163840 && a.eps == 1e-6f, "its YaRN");
	tap_ok(a.bos == 0 && a.neos == 1 && a.eos[0] == 1, "its tokens");
	tap_ok(!arch_is_moe(&a, 2) && arch_is_moe(&a, 3) &&
	    arch_is_moe(&a, 60) && arch_is_moe(&a, 61), "its MoE layers");
}

static void
test_defaults(void)
{
	struct err e = {0};
	struct arch a;

	tap_ok(parse(&a, v2, &e) == 0, "a short V2 is accepted %s", e.msg);
	tap_ok(!a.v3 && a.score == ARCH_SOFTMAX && !a.norm_topk &&
	    a.topk_method == ARCH_GREEDY && a.experts == 0 && !a.q_lora &&
	    !a.mtp && !a.tied && a.bos == -1 && a.neos == 0 &&
	    a.rope_theta == 10000 && !a.yarn.on && a.gen.temperature == 1,
	    "its defaults");
	tap_ok(!arch_is_moe(&a, 0) && !arch_is_moe(&a, 1) &&
	    !arch_is_moe(&a, 2), "dense all through");
	if (accepted(&a, v2, "", "\"n_routed_experts\":8,"
	    "\"num_experts_per_tok\":3,\"moe_intermediate_size\":33,"
	    "\"n_group\":4,\"topk_group\":1,\"moe_layer_freq\":2"))
		tap_ok(a.groups == 1 && a.routed_scale == 1 && !a.shared &&
		    arch_is_moe(&a, 0) && !arch_is_moe(&a, 1),
		    "greedy knows no groups; every other layer");
	if (accepted(&a, r1, "", "\"x\":null,\"dtype\":\"float16\""))
		tap_ok(a.dtype == ARCH_F16, "dtype wins over torch_dtype");
	if (accepted(&a, r1, "model_type", "\"model_type\":\"kimi_k2\""))
		tap_ok(a.v3, "the class is known, the type is not");
	if (accepted(&a, r1, "scoring_func", "\"x\":0"))
		tap_ok(a.score == ARCH_SIGMOID, "V3 scores by sigmoid");
	if (accepted(&a, r1, "n_shared_experts",
	    "\"n_shared_experts\":null"))
		tap_ok(a.shared == 0, "null is none");
	if (accepted(&a, r1, "n_shared_experts", "\"x\":0"))
		tap_ok(a.shared == 1, "absent is V3's one");
	if (accepted(&a, r1, "q_lora_rank", "\"q_lora_rank\":null"))
		tap_ok(a.q_lora == 0, "no q_lora");
	if (accepted(&a, r1, "n_routed_experts",
	    "\"n_routed_experts\":null"))
		tap_ok(!arch_is_moe(&a, 61), "no experts, none in MTP");
	if (accepted(&a, v2, "", "\"eos_token_id\":[7,9,7]"))
		tap_ok(a.neos == 2 && a.eos[1] == 9, "a list of ends");
}

static void
test_rope_forms(void)
{
	static const char p[] = "\"rope_parameters\":{\"rope_theta\":50000.0,";
	struct arch a;
	char s[512];

	snprintf(s, sizeof(s), "%s\"rope_type\":\"default\"}", p);
	if (accepted(&a, v2, "", s))
		tap_ok(a.rope_theta == 50000 && !a.yarn.on, "plain");
	snprintf(s, sizeof(s), "%s\"rope_type\":\"yarn\",\"factor\":8,"
	    "\"original_max_position_embeddings\":512}", p);
	if (accepted(&a, v2, "", s))
		tap_ok(a.yarn.on && a.yarn.mscale == 1 &&
		    a.yarn.mscale_all_dim == 0 && a.yarn.beta_fast == 32,
		    "YaRN with DeepSeek's defaults");
	if (accepted(&a, v2, "", "\"rope_scaling\":{\"type\":"
	    "\"deepseek_yarn\",\"factor\":8,"
	    "\"original_max_position_embeddings\":512}"))
		tap_ok(a.yarn.on, "under its other name");
	if (accepted(&a, v2, "", "\"rope_scaling\":null"))
		tap_ok(!a.yarn.on, "null");
	refused(v2, "", "\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}",
	    "yarn");
	refused(v2, "", "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2}",
	    "original_max_position_embeddings is missing");
	refused(v2, "", "\"rope_scaling\":{\"type\":\"yarn\","
	    "\"original_max_position_embeddings\":9}", "factor is missing");
	refused(v2, "", "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":0.5}",
	    "factor");
	refused(v2, "", "\"rope_scaling\":[1]", "rope_scaling");
	refused(v2, "", "\"rope_scaling\":{\"factor\":2}", "type is missing");
	refused(v2, "", "\"rope_theta\":1", "rope_theta");
	refused(v2, "", "\"rope_interleave\":false", "rope_interleave");
}

static void
test_rules(void)
{
	refused("[1]", "x", "", "object");
	refused(r1, "model_type", "\"model_type\":\"deepseek_v3\","
	    "\"model_type\":\"deepseek_v3\"", "model_type stands twice");
	refused(v2, "model_type", "\"model_type\":\"llama\"", "llama");
	refused(v2, "model_type", "\"x\":1", "model_type is missing");
	refused(v2, "hidden_size", "\"x\":1", "hidden_size is missing");
	refused(v2, "hidden_size", "\"hidden_size\":0", "hidden_size");
	refused(v2, "hidden_size", "\"hidden_size\":1e9", "hidden_size");
	refused(v2, "hidden_size", "\"hidden_size\":\"48\"", "hidden_size");
	refused(v2, "vocab_size", "\"vocab_size\":1.5", "vocab_size");
	refused(v2, "intermediate_size", "\"x\":0", "intermediate_size");
	refused(v2, "qk_rope_head_dim", "\"qk_rope_head_dim\":7", "even");
	refused(v2, "", "\"attention_bias\":true", "attention_bias");
	refused(v2, "", "\"num_key_value_heads\":1", "num_key_value_heads");
	refused(v2, "", "\"hidden_act\":\"gelu\"", "silu");
	refused(v2, "", "\"torch_dtype\":\"int4\"", "bfloat16");
	refused(v2, "", "\"eos_token_id\":101", "outside the vocabulary");
	refused(v2, "", "\"eos_token_id\":\"</s>\"", "eos_token_id");
	refused(v2, "", "\"eos_token_id\":[1,2,3,4,5,6,7,8,9]", "more than");
	refused(v2, "", "\"bos_token_id\":-2", "bos_token_id");
	refused(r1, "n_group", "\"n_group\":7", "multiple of n_group");
	refused(r1, "topk_group", "\"topk_group\":9", "topk_group");
	refused(r1, "num_experts_per_tok", "\"num_experts_per_tok\":129",
	    "hold only 128");
	refused(r1, "num_experts_per_tok", "\"num_experts_per_tok\":257",
	    "num_experts_per_tok");
	refused(v2, "", "\"n_routed_experts\":8,\"n_group\":8,"
	    "\"topk_group\":4,\"num_experts_per_tok\":2,"
	    "\"moe_intermediate_size\":33,\"topk_method\":\"noaux_tc\"",
	    "groups of one");
	refused(r1, "topk_method", "\"topk_method\":\"best\"", "noaux_tc");
	refused(r1, "scoring_func", "\"scoring_func\":\"tanh\"", "sigmoid");
	refused(r1, "moe_intermediate_size", "\"x\":1",
	    "moe_intermediate_size is missing");
	refused(r1, "moe_layer_freq", "\"moe_layer_freq\":0",
	    "moe_layer_freq");
	refused(r1, "num_attention_heads", "\"num_attention_heads\":1024",
	    "v_head_dim");
	refused(r1, "n_shared_experts", "\"n_shared_experts\":1000",
	    "n_shared_experts");
	refused(r1, "num_nextn_predict_layers",
	    "\"num_nextn_predict_layers\":2", "num_nextn_predict_layers");
}

/* Within one unit in the last place. */
static bool
near(float got, float want)
{
	return fabsf(got - want) <= 1.3e-7f * fabsf(want);
}

static void
check_rope(const char *what, const struct arch *a, const float *want,
    double scale, double factor)
{
	float inv[32], f, s;
	bool ok = true;

	arch_rope(a, inv, &f, &s);
	for (unsigned i = 0; i < a->rope / 2; i++)
		ok = ok && near(inv[i], want[i]);
	tap_ok(ok, "%s: frequencies", what);
	tap_ok(near(s, (float)scale), "%s: softmax scale %.9g", what, s);
	tap_ok(near(f, (float)factor), "%s: attention factor %.9g", what, f);
}

static void
test_rope(void)
{
	struct err e = {0};
	struct arch a;

	parse(&a, r1, &e);
	check_rope("R1", &a, r1_inv, 0.1352337788608801, 1);
	a.yarn.mscale_all_dim = 0;
	check_rope("mscale alone", &a, r1_inv, 1 / sqrt(192),
	    0.1 * log(40) + 1);
	a.yarn.mscale_all_dim = a.yarn.mscale = 0.707;
	check_rope("V2-Lite", &a, r1_inv, 0.1147213867929261, 1);
	a.yarn.on = false;
	a.rope_theta = 50000;
	check_rope("no YaRN", &a, plain_inv, 1 / sqrt(192), 1);
	a.yarn.on = true;
	a.rope_theta = 10000;
	a.rope = 16;
	a.nope = 32;
	a.yarn.original = 128;
	check_rope("short", &a, small_inv,
	    pow(0.0707 * log(40) + 1, 2) / sqrt(48), 1);
}

struct seen {
	unsigned n;
	char first[112], last[112];
	unsigned kvb_n, eh_k;
	int stop;
};

static int
see(void *arg, const struct arch_lin *l)
{
	struct seen *s = arg;

	if (!s->n++)
		snprintf(s->first, sizeof(s->first), "%s", l->name);
	snprintf(s->last, sizeof(s->last), "%s", l->name);
	if (l->part == ARCH_KV_B)
		s->kvb_n = l->n;
	if (l->part == ARCH_EH)
		s->eh_k = l->k;
	return s->stop && l->part == ARCH_O ? -1 : 0;
}

static void
test_linear(void)
{
	struct err e = {0};
	struct seen s = {0}, d = {0}, m = {0}, x = { .stop = 1 };
	struct arch a;

	parse(&a, r1, &e);
	tap_ok(arch_each_linear(&a, 5, see, &s) == 0 && s.n == 5 + 257 * 3,
	    "%u linear layers in an MoE layer", s.n);
	tap_ok(!strcmp(s.first, "model.layers.5.self_attn.q_a_proj") &&
	    !strcmp(s.last, "model.layers.5.mlp.experts.255.down_proj") &&
	    s.kvb_n == 32768, "first, last and kv_b");
	tap_ok(arch_each_linear(&a, 0, see, &d) == 0 && d.n == 8 &&
	    !strcmp(d.last, "model.layers.0.mlp.down_proj"), "dense layer");
	tap_ok(arch_each_linear(&a, 61, see, &m) == 0 && m.eh_k == 14336 &&
	    m.n == s.n + 1, "MTP layer");
	tap_ok(arch_each_linear(&a, 5, see, &x) == -1 && x.n == 5, "stops");
}

static void
put(const char *dir, const char *name, const char *text)
{
	struct buf b = {0};
	struct err e = {0};

	if (io_write_file(io_path(&b, dir, name), text, strlen(text),
	    &e) == -1)
		printf("# %s\n", e.msg);
	buf_free(&b);
}

static void
test_files(void)
{
	char dir[] = "/tmp/dsi-arch.XXXXXX", path[64];
	struct err e = {0};
	struct arch a;

	if (!mkdtemp(dir))
		return;
	tap_ok(arch_load(&a, dir, &e) == -1 && strstr(e.msg, "config.json") &&
	    e.code == ERR_CALLER, "no config: %s", e.msg);
	put(dir, "config.json", r1);
	tap_ok(arch_load(&a, dir, &e) == 0 && !a.gen.there, "config alone");
	put(dir, "generation_config.json", "{\"eos_token_id\":[1,7],"
	    "\"temperature\":0.6,\"top_p\":0.95,\"top_k\":null}");
	tap_ok(arch_load(&a, dir, &e) == 0 && a.gen.there && a.neos == 2 &&
	    a.eos[1] == 7 && a.gen.temperature == 0.6 &&
	    a.gen.top_p == 0.95 && a.gen.top_k == 0 &&
	    a.gen.repetition_penalty == 1, "generation_config %s", e.msg);
	snprintf(path, sizeof(path), "%s/config.json", dir);
	tap_ok(arch_load(&a, path, &e) == 0 && !a.gen.there, "a file");
	put(dir, "generation_config.json", "{\"top_p\":7}");
	tap_ok(arch_load(&a, dir, &e) == -1 &&
	    strstr(e.msg, "generation_config.json"), "bad: %s", e.msg);
	put(dir, "config.json", "{");
	tap_ok(arch_load(&a, dir, &e) == -1 && strstr(e.msg, "config.json"),
	    "broken: %s", e.msg);
	unlink(path);
	snprintf(path, sizeof(path), "%s/generation_config.json", dir);
	unlink(path);
	rmdir(dir);
}

int
main(void)
{
	test_r1();
	test_defaults();
	test_rope_forms();
	test_rules();
	test_rope();
	test_linear();
	test_files();
	return tap_done();
}
