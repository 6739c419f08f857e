/*
 * yaml: a MindFormers prediction config, as far as it matters here.
 *
 * What it says of the layout is taken; what it says of the model is compared
 * with config.json, which wins, as the weights were made with that; the rest
 * belongs to MindSpore.  A key that is nearly one that matters is named.
 */
#include <math.h>
#include <string.h>

#include "deploy/priv.h"

#define MC "model.model_config."
#define PC "parallel_config."

/* ---- keys ---- */

/* Read here.  Those of parallel_config come first. */
static const char *const used[] = {
	PC "data_parallel", PC "model_parallel", PC "pipeline_stage",
	PC "expert_parallel", "run_mode", "use_parallel", "load_ckpt_format",
	"context.mode", "parallel.parallel_mode",
	MC "hidden_size", MC "num_layers", MC "num_heads",
	MC "max_position_embeddings", MC "intermediate_size",
	MC "kv_lora_rank", MC "q_lora_rank", MC "qk_rope_head_dim",
	MC "v_head_dim", MC "qk_nope_head_dim", MC "vocab_size",
	MC "rms_norm_eps", MC "theta", MC "use_past",
	MC "use_flash_attention", MC "compute_dtype",
	MC "router_dense_type", MC "scaling_factor.factor",
	MC "scaling_factor.beta_fast", MC "scaling_factor.beta_slow",
	MC "scaling_factor.mscale", MC "scaling_factor.mscale_all_dim",
	MC "scaling_factor.original_max_position_embeddings",
	MC "quantization_config.quant_method",
	MC "quantization_config.weight_dtype",
	MC "quantization_config.activation_dtype",
	"moe_config.expert_num", "moe_config.num_experts_chosen",
	"moe_config.shared_expert_num", "moe_config.routed_scaling_factor",
	"moe_config.first_k_dense_replace",
	"moe_config.moe_intermediate_size", "moe_config.topk_group",
	"moe_config.n_group",
};

/* Known to MindFormers, without a meaning here, and near one of those. */
static const char *const known[] = {
	PC "vocab_emb_dp", PC "context_parallel", PC "use_seq_parallel",
	PC "micro_batch_num", PC "micro_batch_interleave_num",
	PC "gradient_aggregation_group", PC "optimizer_shard",
	PC "enable_parallel_optimizer", PC "mem_coeff",
	PC "seq_split_num", PC "op_cost", MC "top_k", MC "top_p",
};

enum {
	NUSED = sizeof(used) / sizeof(*used), NPARALLEL = 4,
	NKNOWN = sizeof(known) / sizeof(*known), MAX_EDITS = 2,
	MAX_NUMBER = 1 << 24,
};

static bool
in_list(const char *const *list, size_t n, const char *key)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], key) == 0)
			return true;
	return false;
}

/* The key that key is a typing error for, or NULL. */
static const char *
meant(const char *key)
{
	const char *best = NULL;
	unsigned least = MAX_EDITS + 1;

	for (size_t i = 0; i < NUSED; i++) {
		unsigned d = near_edits(key, strlen(key), used[i],
		    strlen(used[i]));

		if (d < least) {
			best = used[i];
			least = d;
		}
	}
	return best;
}

/* An unknown key that would have decided the layout is an error. */
static int
check_parallel_key(const struct conf *c, const char *key, const char *near,
    struct err *e)
{
	if (near)
		return conf_bad(c, key, e, "is unknown; there is %s", near);
	return conf_bad(c, key, e, "is unknown; parallel_config has "
	    "data_parallel, model_parallel, pipeline_stage and "
	    "expert_parallel");
}

static int
check_keys(const struct yaml *y, struct deploy *d, struct err *e)
{
	struct buf odd = {0};
	unsigned n = 0;
	int rc = 0;

	for (size_t i = 0; i < conf_count(y->c) && rc == 0; i++) {
		const char *key = conf_key(y->c, i), *near;

		if (in_list(used, NUSED, key) || in_list(known, NKNOWN, key))
			continue;
		near = meant(key);
		if (strncmp(key, PC, strlen(PC)) == 0 ?
		    !strchr(key + strlen(PC), '.') :
		    near && in_list(used, NPARALLEL, near)) {
			rc = check_parallel_key(y->c, key, near, e);
		} else if (near && n++ < 3) {
			buf_printf(&odd, "%s%s (line %u; there is %s)",
			    odd.n ? ", " : "", key, conf_line(y->c, key),
			    near);
		}
	}
	if (n > 3)
		buf_printf(&odd, " and %u more", n - 3);
	if (rc == 0)
		rc = buf_ok(&odd, e);
	if (rc == 0 && n)
		rc = deploy_doubt(d, e, "%s: unknown keys: %s", d->yaml_path,
		    odd.p);
	buf_free(&odd);
	return rc;
}

/* ---- the layout ---- */

/* MindFormers 1.8 also writes "parallel" for "parallel_config". */
static int
read_size(const struct conf *c, const char *name, int64_t *out, struct err *e)
{
	static const char *const in[] = { "parallel_config", "parallel" };
	char key[64];

	for (int i = 0; i < 2 && *out == 0; i++) {
		int64_t v = INT64_MIN;

		snprintf(key, sizeof(key), "%s.%s", in[i], name);
		if (conf_i64(c, key, &v, e) == -1)
			return -1;
		if (v == INT64_MIN)
			continue;
		if (v < 1 || v > PLAN_MAX_RANKS)
			return conf_bad(c, key, e, "must be a whole number "
			    "from 1 to %d, not %lld", PLAN_MAX_RANKS,
			    (long long)v);
		*out = v;
	}
	return 0;
}

static int
read_layout(struct yaml *y, struct err *e)
{
	if (read_size(y->c, "data_parallel", &y->dp, e) == -1 ||
	    read_size(y->c, "model_parallel", &y->tp, e) == -1 ||
	    read_size(y->c, "pipeline_stage", &y->pp, e) == -1)
		return -1;
	return read_size(y->c, "expert_parallel", &y->ep, e);
}

/* ---- words and switches ---- */

struct word {
	const char *key;
	const char *right[8];		/* one of them */
	const char *why;		/* behind the list; or NULL */
};

static int
check_word(const struct conf *c, const struct word *w, struct err *e)
{
	const char *v = NULL;
	struct buf list = {0};
	int rc = 0;

	if (conf_str(c, w->key, &v, e) == -1)
		return -1;
	if (!v)
		return 0;
	for (size_t i = 0; w->right[i]; i++) {
		if (strcmp(w->right[i], v) == 0)
			goto out;
		buf_printf(&list, "%s%s", !i ? "" : w->right[i + 1] ? ", " :
		    " or ", w->right[i]);
	}
	rc = buf_ok(&list, e);
	if (rc == 0)
		rc = conf_bad(c, w->key, e, "must be %s, not %s%s", list.p, v,
		    w->why ? w->why : "");
out:
	buf_free(&list);
	return rc;
}

static int
check_words(const struct conf *c, struct err *e)
{
	static const struct word word[] = {
		{ "run_mode", { "predict" }, NULL },
		{ "load_ckpt_format", { "safetensors" },
		  ": there is no reader for others" },
		{ "context.mode", { "0", "1" }, NULL },
		{ "parallel.parallel_mode", { "STAND_ALONE",
		  "MANUAL_PARALLEL", "DATA_PARALLEL", "HYBRID_PARALLEL",
		  "SEMI_AUTO_PARALLEL", "AUTO_PARALLEL" }, NULL },
		{ MC "compute_dtype", { "bfloat16", "float16", "float32" },
		  NULL },
		{ MC "router_dense_type", { "bfloat16", "float16",
		  "float32" }, NULL },
		{ MC "quantization_config.weight_dtype", { "int8" }, NULL },
		{ MC "quantization_config.activation_dtype", { "int8" },
		  NULL },
	};

	for (size_t i = 0; i < sizeof(word) / sizeof(*word); i++)
		if (check_word(c, &word[i], e) == -1)
			return -1;
	return 0;
}

static int
check_switches(const struct yaml *y, struct deploy *d, struct err *e)
{
	static const char *const on[] = { MC "use_past",
	    MC "use_flash_attention" };
	bool parallel = true;

	for (int i = 0; i < 2; i++) {
		bool v = true;

		if (conf_bool(y->c, on[i], &v, e) == -1)
			return -1;
		if (!v)
			return conf_bad(y->c, on[i], e, "must be True: there "
			    "is no attention without it");
	}
	if (conf_bool(y->c, "use_parallel", &parallel, e) == -1)
		return -1;
	if (!parallel && (y->tp > 1 || y->dp > 1 || y->pp > 1))
		return deploy_doubt(d, e, "%s:%u: use_parallel False is not "
		    "heeded: parallel_config asks for several ranks",
		    d->yaml_path, conf_line(y->c, "use_parallel"));
	return 0;
}

static int
check_quant(const struct yaml *y, struct deploy *d, struct err *e)
{
	static const char *const methods[] = { "ptq", "osl", "smoothquant",
	    "gptq-perchannel", "a8dynw8" };
	static const char key[] = MC "quantization_config.quant_method";
	const char *m = NULL, *w = NULL;

	if (conf_str(y->c, key, &m, e) == -1 ||
	    conf_str(y->c, MC "quantization_config.weight_dtype", &w,
	    e) == -1)
		return -1;
	d->yaml_int8 = w && strcmp(w, "int8") == 0;
	if (!m)
		return 0;
	if (in_list(methods, sizeof(methods) / sizeof(*methods), m)) {
		d->yaml_int8 = true;
		return 0;
	}
	return deploy_doubt(d, e, "%s:%u: quant_method %s is not one of ptq, "
	    "osl, smoothquant, gptq-perchannel, a8dynw8; the weights decide",
	    d->yaml_path, conf_line(y->c, key), m);
}

/* ---- numbers that must agree with each other ---- */

struct numbers {
	int64_t hidden, heads, experts, topk, groups, topk_groups;
};

static int
read_number(const struct conf *c, const char *key, int64_t *out,
    struct err *e)
{
	if (conf_i64(c, key, out, e) == -1)
		return -1;
	if (*out < 0 || *out > MAX_NUMBER)
		return conf_bad(c, key, e, "must be a whole number from 0 to "
		    "%d, not %lld", MAX_NUMBER, (long long)*out);
	return 0;
}

static int
check_experts(const struct conf *c, const struct numbers *n, struct err *e)
{
	char hint[64];

	if (n->experts && n->topk > n->experts)
		return conf_bad(c, "moe_config.num_experts_chosen", e, "%lld "
		    "is more than expert_num %lld; 1 to %lld would work",
		    (long long)n->topk, (long long)n->experts,
		    (long long)n->experts);
	if (n->experts && n->groups && n->experts % n->groups)
		return conf_bad(c, "moe_config.n_group", e, "%lld does not "
		    "divide expert_num %lld; %s", (long long)n->groups,
		    (long long)n->experts, deploy_divisors((uint64_t)n->experts,
		    (uint64_t)n->groups, hint));
	if (n->groups && n->topk_groups > n->groups)
		return conf_bad(c, "moe_config.topk_group", e, "%lld is more "
		    "than n_group %lld; 1 to %lld would work",
		    (long long)n->topk_groups, (long long)n->groups,
		    (long long)n->groups);
	if (n->topk && n->topk_groups && n->topk % n->topk_groups)
		return conf_bad(c, "moe_config.topk_group", e, "%lld does not "
		    "divide num_experts_chosen %lld; %s",
		    (long long)n->topk_groups, (long long)n->topk,
		    deploy_divisors((uint64_t)n->topk, (uint64_t)n->topk_groups,
		    hint));
	return 0;
}

static int
check_numbers(const struct conf *c, struct err *e)
{
	struct numbers n = {0};
	char hint[64];

	if (read_number(c, MC "hidden_size", &n.hidden, e) == -1 ||
	    read_number(c, MC "num_heads", &n.heads, e) == -1 ||
	    read_number(c, "moe_config.expert_num", &n.experts, e) == -1 ||
	    read_number(c, "moe_config.num_experts_chosen", &n.topk,
	    e) == -1 ||
	    read_number(c, "moe_config.n_group", &n.groups, e) == -1 ||
	    read_number(c, "moe_config.topk_group", &n.topk_groups, e) == -1)
		return -1;
	if (n.heads && n.hidden % n.heads)
		return conf_bad(c, MC "num_heads", e, "%lld does not divide "
		    "hidden_size %lld; %s", (long long)n.heads,
		    (long long)n.hidden, deploy_divisors((uint64_t)n.hidden,
		    (uint64_t)n.heads, hint));
	return check_experts(c, &n, e);
}

int
yaml_open(struct yaml *y, struct deploy *d, struct err *e)
{
	*y = (struct yaml){0};
	if (conf_load(&y->c, d->yaml_path, e) == -1)
		return -1;
	if (read_layout(y, e) == -1 || check_keys(y, d, e) == -1 ||
	    check_words(y->c, e) == -1 || check_switches(y, d, e) == -1 ||
	    check_quant(y, d, e) == -1 || check_numbers(y->c, e) == -1) {
		yaml_close(y);
		return -1;
	}
	return 0;
}

void
yaml_close(struct yaml *y)
{
	if (y->c)
		conf_free(&y->c);
}

/* ---- the model: the YAML's numbers and config.json's ---- */

struct pair {
	const char *key, *theirs;	/* in the YAML; in config.json */
	double want;
	bool single;			/* want is a float's value */
};

enum { NPAIR = 26 };

static void
list_pairs(struct pair p[NPAIR], const struct arch *a)
{
	const struct pair v[NPAIR] = {
		{ MC "hidden_size", "hidden_size", a->hidden, false },
		{ MC "num_layers", "num_hidden_layers", a->layers, false },
		{ MC "num_heads", "num_attention_heads", a->heads, false },
		{ MC "vocab_size", "vocab_size", a->vocab, false },
		{ MC "intermediate_size", "intermediate_size", a->inter,
		  false },
		{ MC "kv_lora_rank", "kv_lora_rank", a->kv_lora, false },
		{ MC "q_lora_rank", "q_lora_rank", a->q_lora, false },
		{ MC "qk_rope_head_dim", "qk_rope_head_dim", a->rope, false },
		{ MC "v_head_dim", "v_head_dim", a->vdim, false },
		{ MC "qk_nope_head_dim", "qk_nope_head_dim", a->nope, false },
		{ MC "max_position_embeddings", "max_position_embeddings",
		  a->max_pos, false },
		{ MC "rms_norm_eps", "rms_norm_eps", (double)a->eps, true },
		{ MC "theta", "rope_theta", a->rope_theta, false },
		{ "moe_config.expert_num", "n_routed_experts", a->experts,
		  false },
		{ "moe_config.num_experts_chosen", "num_experts_per_tok",
		  a->topk, false },
		{ "moe_config.shared_expert_num", "n_shared_experts",
		  a->shared, false },
		{ "moe_config.moe_intermediate_size", "moe_intermediate_size",
		  a->moe_inter, false },
		{ "moe_config.first_k_dense_replace", "first_k_dense_replace",
		  a->first_dense, false },
		{ "moe_config.n_group", "n_group", a->groups, false },
		{ "moe_config.topk_group", "topk_group", a->topk_groups,
		  false },
		{ "moe_config.routed_scaling_factor", "routed_scaling_factor",
		  (double)a->routed_scale, true },
		{ MC "scaling_factor.factor", "rope_scaling.factor",
		  a->yarn.factor, false },
		{ MC "scaling_factor.beta_fast", "rope_scaling.beta_fast",
		  a->yarn.beta_fast, false },
		{ MC "scaling_factor.beta_slow", "rope_scaling.beta_slow",
		  a->yarn.beta_slow, false },
		{ MC "scaling_factor.mscale_all_dim",
		  "rope_scaling.mscale_all_dim", a->yarn.mscale_all_dim,
		  false },
		{ MC "scaling_factor.original_max_position_embeddings",
		  "rope_scaling.original_max_position_embeddings",
		  a->yarn.original, false },
	};

	memcpy(p, v, sizeof(v));
}

/* The last name of a dotted key */
static const char *
last(const char *key)
{
	const char *dot = strrchr(key, '.');

	return dot ? dot + 1 : key;
}

int
yaml_compare(const struct yaml *y, struct deploy *d, struct err *e)
{
	struct pair p[NPAIR];
	struct buf odd = {0};
	unsigned n = 0;
	int rc;

	list_pairs(p, &d->arch);
	for (size_t i = 0; i < NPAIR; i++) {
		double v = NAN;

		if (conf_f64(y->c, p[i].key, &v, e) == -1)
			return -1;
		if (isnan(v) || v == p[i].want ||
		    (p[i].single && (double)(float)v == p[i].want))
			continue;
		if (n++ < 3)
			buf_printf(&odd, "%s%s %.7g (line %u) for %s %.7g",
			    odd.n ? ", " : "", last(p[i].key), v,
			    conf_line(y->c, p[i].key), p[i].theirs, p[i].want);
	}
	if (n > 3)
		buf_printf(&odd, " and %u more", n - 3);
	rc = buf_ok(&odd, e);
	if (rc == 0 && n)
		rc = deploy_doubt(d, e, "%s describes another model than %s, "
		    "which is used: %s", d->yaml_path, d->config, odd.p);
	buf_free(&odd);
	return rc;
}
