/*
 * parse: config.json and generation_config.json to struct arch.
 *
 * What a key means when it is absent differs between V2 and V3; the defaults
 * are those of the models' own configuration classes.  A key that is there
 * and null is "none", which is not the same.
 */
#include <string.h>
#include <sys/stat.h>

#include "arch/arch.h"

enum {
	MAX_FILE = 16 << 20,
	MAX_INNER = 65536,		/* int8 sums of more may overflow */
	MAX_VOCAB = 1 << 24,
	MAX_HEADS = 4096,
	MAX_HEAD_DIM = 4096,
	MAX_POS = 1 << 30,
};

static const double max_f64 = 1e18;

/* A config being read. */
struct in {
	const struct json *o;
	const char *name;
	struct err *e;
};

static int
bad(const struct in *in, const char *fmt, ...) DSI_PRINTF(2, 3);

static int
bad(const struct in *in, const char *fmt, ...)
{
	char msg[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	return err_set(in->e, ERR_CALLER, "%s: %s", in->name, msg);
}

static bool
is_null(const struct json *v)
{
	return !v || json_type(v) == JSON_NULL;
}

/* ---- one key ---- */

/* Absent: def; null: 0.  def < 0: the key must be there. */
static int
get_size(const struct in *in, const char *key, int64_t min, int64_t max,
    int64_t def, unsigned *out)
{
	const struct json *v = json_get(in->o, key);
	int64_t x = v ? 0 : def;

	if (json_opt_i64(in->o, key, min, max, &x, in->e) == -1)
		return err_wrap(in->e, "%s", in->name);
	if (is_null(v) && x < min)
		return bad(in, "%s is missing", key);
	*out = (unsigned)x;
	return 0;
}

static int
get_f64(const struct in *in, const char *key, double min, double max,
    double *out)
{
	if (json_opt_f64(in->o, key, min, max, out, in->e) == -1)
		return err_wrap(in->e, "%s", in->name);
	return 0;
}

static int
get_bool(const struct in *in, const char *key, bool *out)
{
	if (json_opt_bool(in->o, key, out, in->e) == -1)
		return err_wrap(in->e, "%s", in->name);
	return 0;
}

/* One of a NULL-terminated list; absent or null leaves *out alone. */
static int
get_word(const struct in *in, const char *key, const char *const *word,
    int *out)
{
	const char *s = NULL;
	char list[128];
	size_t at = 0;

	if (json_opt_str(in->o, key, &s, in->e) == -1)
		return err_wrap(in->e, "%s", in->name);
	if (!s)
		return 0;
	for (int i = 0; word[i]; i++) {
		if (strcmp(s, word[i]) == 0) {
			*out = i;
			return 0;
		}
	}
	for (int i = 0; word[i] && at < sizeof(list); i++)
		at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%s",
		    i ? ", " : "", word[i]);
	return bad(in, "%s is \"%s\", but must be one of: %s", key, s, list);
}

/* ---- groups of keys ---- */

static int
parse_type(struct arch *a, const struct in *in)
{
	const struct json *v = json_get(in->o, "architectures");
	const char *type = NULL, *cls = NULL;

	if (json_opt_str(in->o, "model_type", &type, in->e) == -1)
		return err_wrap(in->e, "%s", in->name);
	if (v && json_type(v) == JSON_ARR && json_first(v))
		cls = json_str(json_first(v));
	if (type && (strcmp(type, "deepseek_v3") == 0 ||
	    strcmp(type, "deepseek_v2") == 0)) {
		a->v3 = strcmp(type, "deepseek_v3") == 0;
		return 0;
	}
	/* others publish the same model under a type of their own */
	if (cls && (strcmp(cls, "DeepseekV3ForCausalLM") == 0 ||
	    strcmp(cls, "DeepseekV2ForCausalLM") == 0)) {
		a->v3 = strcmp(cls, "DeepseekV3ForCausalLM") == 0;
		return 0;
	}
	if (!type && !cls)
		return bad(in, "model_type is missing; it should be "
		    "deepseek_v2 or deepseek_v3");
	return bad(in, "%s is \"%s\", but only deepseek_v2 and deepseek_v3 "
	    "are supported", type ? "model_type" : "architectures",
	    type ? type : cls);
}

static int
parse_sizes(struct arch *a, const struct in *in)
{
	bool v3 = a->v3;

	if (get_size(in, "hidden_size", 1, MAX_INNER, -1, &a->hidden) == -1 ||
	    get_size(in, "vocab_size", 1, MAX_VOCAB, -1, &a->vocab) == -1 ||
	    get_size(in, "num_hidden_layers", 1, ARCH_MAX_LAYERS, -1,
	    &a->layers) == -1 ||
	    get_size(in, "num_nextn_predict_layers", 0, 1, 0,
	    &a->mtp) == -1 ||
	    get_size(in, "num_attention_heads", 1, MAX_HEADS, -1,
	    &a->heads) == -1 ||
	    get_size(in, "q_lora_rank", 0, MAX_INNER, 0, &a->q_lora) == -1 ||
	    get_size(in, "kv_lora_rank", 1, MAX_INNER, -1,
	    &a->kv_lora) == -1 ||
	    get_size(in, "qk_nope_head_dim", 1, MAX_HEAD_DIM, -1,
	    &a->nope) == -1 ||
	    get_size(in, "qk_rope_head_dim", 2, MAX_HEAD_DIM, -1,
	    &a->rope) == -1 ||
	    get_size(in, "v_head_dim", 1, MAX_HEAD_DIM, -1, &a->vdim) == -1 ||
	    get_size(in, "max_position_embeddings", 1, MAX_POS,
	    v3 ? 4096 : 2048, &a->max_pos) == -1)
		return -1;
	if (a->rope % 2)
		return bad(in, "qk_rope_head_dim is %u, but must be even",
		    a->rope);
	if ((uint64_t)a->heads * a->vdim > MAX_INNER)
		return bad(in, "num_attention_heads x v_head_dim is %u x %u, "
		    "more than %d", a->heads, a->vdim, MAX_INNER);
	return 0;
}

static int
parse_experts(struct arch *a, const struct in *in)
{
	bool v3 = a->v3;

	if (get_size(in, "n_routed_experts", 0, ARCH_MAX_EXPERTS, 0,
	    &a->experts) == -1)
		return -1;
	a->moe_freq = a->groups = a->topk_groups = 1;
	if (!a->experts) {
		a->first_dense = a->layers + a->mtp;
		return 0;
	}
	if (get_size(in, "moe_intermediate_size", 1, MAX_INNER, -1,
	    &a->moe_inter) == -1 ||
	    get_size(in, "n_shared_experts", 0, 1024, v3 ? 1 : 0,
	    &a->shared) == -1 ||
	    get_size(in, "num_experts_per_tok", 1, a->experts, -1,
	    &a->topk) == -1 ||
	    get_size(in, "n_group", 0, a->experts, v3 ? 8 : 1,
	    &a->groups) == -1 ||
	    get_size(in, "topk_group", 0, a->experts, v3 ? 4 : 1,
	    &a->topk_groups) == -1 ||
	    get_size(in, "first_k_dense_replace", 0, ARCH_MAX_LAYERS,
	    v3 ? 3 : 0, &a->first_dense) == -1 ||
	    get_size(in, "moe_layer_freq", 1, ARCH_MAX_LAYERS, 1,
	    &a->moe_freq) == -1)
		return -1;
	if ((uint64_t)a->shared * a->moe_inter > MAX_INNER)
		return bad(in, "n_shared_experts x moe_intermediate_size is "
		    "%u x %u, more than %d", a->shared, a->moe_inter,
		    MAX_INNER);
	return 0;
}

/* After topk_method is known. */
static int
check_groups(struct arch *a, const struct in *in)
{
	unsigned each;

	if (!a->groups)
		a->groups = 1;		/* null */
	if (!a->topk_groups)
		a->topk_groups = 1;
	if (!a->experts || a->topk_method == ARCH_GREEDY || a->groups == 1) {
		a->groups = a->topk_groups = 1;
		return 0;
	}
	if (a->experts % a->groups)
		return bad(in, "n_routed_experts %u is not a multiple of "
		    "n_group %u", a->experts, a->groups);
	if (a->topk_groups > a->groups)
		return bad(in, "topk_group is %u, but n_group only %u",
		    a->topk_groups, a->groups);
	each = a->experts / a->groups;
	if (a->topk > a->topk_groups * each)
		return bad(in, "num_experts_per_tok is %u, but topk_group %u "
		    "groups hold only %u experts", a->topk, a->topk_groups,
		    a->topk_groups * each);
	if (a->topk_method == ARCH_NOAUX_TC && each < 2)
		return bad(in, "n_group %u leaves groups of one expert, "
		    "noaux_tc needs two", a->groups);
	return 0;
}

static int
parse_router(struct arch *a, const struct in *in)
{
	static const char *const score[] = { "softmax", "sigmoid", NULL };
	static const char *const topk[] = { "greedy", "group_limited_greedy",
		"noaux_tc", NULL };
	int s = a->v3 ? ARCH_SIGMOID : ARCH_SOFTMAX;
	int t = a->v3 ? ARCH_NOAUX_TC : ARCH_GREEDY;
	double scale = a->v3 ? 2.5 : 1.0;

	a->norm_topk = a->v3;
	if (get_word(in, "scoring_func", score, &s) == -1 ||
	    get_word(in, "topk_method", topk, &t) == -1 ||
	    get_bool(in, "norm_topk_prob", &a->norm_topk) == -1 ||
	    get_f64(in, "routed_scaling_factor", -1e6, 1e6, &scale) == -1)
		return -1;
	a->score = (enum arch_score)s;
	a->topk_method = (enum arch_topk)t;
	a->routed_scale = (float)scale;
	return check_groups(a, in);
}

static bool
has_dense(const struct arch *a)
{
	return a->experts == 0 || a->first_dense > 0 || a->moe_freq > 1;
}

static int
parse_rest(struct arch *a, const struct in *in)
{
	static const char *const act[] = { "silu", NULL };
	static const char *const types[] = { "bfloat16", "float16", "float32",
		NULL };
	int dummy = 0, type = ARCH_BF16;
	bool bias = false, interleave = true;
	unsigned kv_heads;
	double eps = 1e-6;

	if (get_size(in, "intermediate_size", has_dense(a), MAX_INNER, 0,
	    &a->inter) == -1 ||
	    get_size(in, "num_key_value_heads", 0, MAX_HEADS, a->heads,
	    &kv_heads) == -1 ||
	    get_word(in, "hidden_act", act, &dummy) == -1 ||
	    get_word(in, "torch_dtype", types, &type) == -1 ||
	    get_word(in, "dtype", types, &type) == -1 ||
	    get_f64(in, "rms_norm_eps", 0, 1, &eps) == -1 ||
	    get_bool(in, "tie_word_embeddings", &a->tied) == -1 ||
	    get_bool(in, "attention_bias", &bias) == -1 ||
	    get_bool(in, "rope_interleave", &interleave) == -1)
		return -1;
	a->eps = (float)eps;
	a->dtype = (enum arch_dtype)type;
	if (kv_heads && kv_heads != a->heads)
		return bad(in, "num_key_value_heads is %u, but must be "
		    "num_attention_heads, %u", kv_heads, a->heads);
	if (bias)
		return bad(in, "attention_bias true is not supported");
	if (!interleave)
		return bad(in, "rope_interleave false is not supported");
	return 0;
}

/* ---- rotary embedding ---- */

static int
parse_yarn(struct arch *a, const struct in *in)
{
	int64_t original = 0;
	bool truncated = true;

	a->yarn.beta_fast = 32;
	a->yarn.beta_slow = 1;
	a->yarn.mscale = 1;
	a->yarn.mscale_all_dim = 0;
	if (get_f64(in, "factor", 1, 1e6, &a->yarn.factor) == -1 ||
	    get_f64(in, "beta_fast", 1e-6, 1e9, &a->yarn.beta_fast) == -1 ||
	    get_f64(in, "beta_slow", 1e-6, 1e9, &a->yarn.beta_slow) == -1 ||
	    get_f64(in, "mscale", 0, 1e3, &a->yarn.mscale) == -1 ||
	    get_f64(in, "mscale_all_dim", 0, 1e3,
	    &a->yarn.mscale_all_dim) == -1 ||
	    get_bool(in, "truncate", &truncated) == -1)
		return -1;
	if (json_opt_i64(in->o, "original_max_position_embeddings", 1,
	    MAX_POS, &original, in->e) == -1)
		return err_wrap(in->e, "%s", in->name);
	if (a->yarn.factor == 0)
		return bad(in, "factor is missing");
	if (original == 0)
		return bad(in, "original_max_position_embeddings is missing");
	if (!truncated || !is_null(json_get(in->o, "attention_factor")))
		return bad(in, "%s is not supported",
		    truncated ? "attention_factor" : "truncate false");
	a->yarn.original = (unsigned)original;
	a->yarn.on = true;
	return 0;
}

static int
parse_rope_object(struct arch *a, const struct in *in, const char *key)
{
	static const char *const types[] = { "default", "yarn",
		"deepseek_yarn", NULL };
	const struct json *o = json_get(in->o, key);
	struct in sub = { o, NULL, in->e };
	char name[512];
	int type = -1;

	if (is_null(o))
		return 0;
	snprintf(name, sizeof(name), "%s: %s", in->name, key);
	sub.name = name;
	if (json_type(o) != JSON_OBJ)
		return bad(in, "%s must be an object or null", key);
	if (get_word(&sub, "type", types, &type) == -1 ||
	    get_word(&sub, "rope_type", types, &type) == -1 ||
	    get_f64(&sub, "rope_theta", 1 + 1e-6, max_f64,
	    &a->rope_theta) == -1)
		return -1;
	if (type == -1)
		return bad(&sub, "type is missing; it should be yarn");
	return type == 0 ? 0 : parse_yarn(a, &sub);
}

static int
parse_rope(struct arch *a, const struct in *in)
{
	const char *key = "rope_scaling";

	a->rope_theta = 10000;
	if (get_f64(in, "rope_theta", 1 + 1e-6, max_f64, &a->rope_theta) == -1)
		return -1;
	if (is_null(json_get(in->o, key)))
		key = "rope_parameters";	/* Transformers 5 */
	return parse_rope_object(a, in, key);
}

/* ---- token ids ---- */

static int
add_eos(struct arch *a, const struct in *in, const struct json *v)
{
	int32_t id;

	if (json_type(v) != JSON_NUM || !json_is_int(v))
		return bad(in, "eos_token_id must be a whole number or a list "
		    "of them");
	if (json_num(v) < 0 || json_num(v) >= a->vocab)
		return bad(in, "eos_token_id %.0f is outside the vocabulary "
		    "of %u", json_num(v), a->vocab);
	id = (int32_t)json_num(v);
	for (unsigned i = 0; i < a->neos; i++) {
		if (a->eos[i] == id)
			return 0;
	}
	if (a->neos == ARCH_MAX_EOS)
		return bad(in, "eos_token_id: more than %d", ARCH_MAX_EOS);
	a->eos[a->neos++] = id;
	return 0;
}

static int
parse_eos(struct arch *a, const struct in *in)
{
	const struct json *v = json_get(in->o, "eos_token_id");

	if (is_null(v))
		return 0;
	if (json_type(v) != JSON_ARR)
		return add_eos(a, in, v);
	for (v = json_first(v); v; v = json_next(v)) {
		if (add_eos(a, in, v) == -1)
			return -1;
	}
	return 0;
}

static int
parse_bos(struct arch *a, const struct in *in)
{
	int64_t bos = -1;

	if (json_opt_i64(in->o, "bos_token_id", 0, (int64_t)a->vocab - 1, &bos,
	    in->e) == -1)
		return err_wrap(in->e, "%s", in->name);
	a->bos = (int32_t)bos;
	return 0;
}

static int
check_object(const struct in *in)
{
	struct err oom = {0};
	const char *dup;

	if (json_type(in->o) != JSON_OBJ)
		return bad(in, "must hold a JSON object");
	dup = json_dup(in->o, &oom);
	if (dup)
		return bad(in, "%s stands twice", dup);
	if (oom.code)
		return err_set(in->e, oom.code, "%s", oom.msg);
	return 0;
}

int
arch_parse(struct arch *a, const struct json *config, const char *name,
    struct err *e)
{
	struct in in = { config, name, e };

	*a = (struct arch){ .bos = -1 };
	a->gen.temperature = a->gen.top_p = a->gen.repetition_penalty = 1;
	if (check_object(&in) == -1 || parse_type(a, &in) == -1 ||
	    parse_sizes(a, &in) == -1 || parse_experts(a, &in) == -1 ||
	    parse_router(a, &in) == -1 || parse_rest(a, &in) == -1 ||
	    parse_rope(a, &in) == -1 || parse_bos(a, &in) == -1)
		return -1;
	return parse_eos(a, &in);
}

/* ---- files ---- */

static int
parse_generation(struct arch *a, const struct json *o, const char *name,
    struct err *e)
{
	struct in in = { o, name, e };
	int64_t top_k = 0;

	if (check_object(&in) == -1 || parse_eos(a, &in) == -1 ||
	    get_f64(&in, "temperature", 0, 1e6, &a->gen.temperature) == -1 ||
	    get_f64(&in, "top_p", 0, 1, &a->gen.top_p) == -1 ||
	    get_f64(&in, "repetition_penalty", 1e-6, 1e6,
	    &a->gen.repetition_penalty) == -1)
		return -1;
	if (json_opt_i64(o, "top_k", -1, INT32_MAX, &top_k, e) == -1)
		return err_wrap(e, "%s", name);
	a->gen.top_k = top_k > 0 ? top_k : 0;
	a->gen.there = true;
	return 0;
}

static int
load_file(struct arch *a, const char *path,
    int (*parse)(struct arch *, const struct json *, const char *,
    struct err *), struct err *e)
{
	struct json *o;
	int rc;

	if (json_load(&o, path, MAX_FILE, e) == -1)
		return -1;
	rc = parse(a, o, path, e);
	json_free(&o);
	return rc;
}

int
arch_load(struct arch *a, const char *path, struct err *e)
{
	struct buf b = {0};
	struct stat st;
	int rc = -1;

	if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
		return load_file(a, path, arch_parse, e);
	io_path(&b, path, "config.json");
	if (buf_ok(&b, e) == -1 || load_file(a, b.p, arch_parse, e) == -1)
		goto out;
	io_path(&b, path, "generation_config.json");
	if (buf_ok(&b, e) == -1)
		goto out;
	rc = stat(b.p, &st) == -1 ? 0 : load_file(a, b.p, parse_generation, e);
out:
	buf_free(&b);
	return rc;
}
