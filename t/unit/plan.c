/*
 * plan: the published table of R1's slices, that the ranks' slices cover each
 * layer exactly, and what a bad layout is told.
 */
#include <string.h>

#include "plan/plan.h"
#include "tap.h"

static const char r1[] =
    "{\"model_type\":\"deepseek_v3\",\"hidden_size\":7168,"
    "\"vocab_size\":129280,\"num_hidden_layers\":61,"
    "\"num_attention_heads\":128,\"num_key_value_heads\":128,"
    "\"num_nextn_predict_layers\":1,\"q_lora_rank\":1536,"
    "\"kv_lora_rank\":512,\"qk_nope_head_dim\":128,"
    "\"qk_rope_head_dim\":64,\"v_head_dim\":128,"
    "\"intermediate_size\":18432,\"moe_intermediate_size\":2048,"
    "\"n_routed_experts\":256,\"n_shared_experts\":1,"
    "\"num_experts_per_tok\":8,\"n_group\":8,\"topk_group\":4,"
    "\"first_k_dense_replace\":3,\"moe_layer_freq\":1,"
    "\"scoring_func\":\"sigmoid\",\"topk_method\":\"noaux_tc\","
    "\"norm_topk_prob\":true,\"routed_scaling_factor\":2.5,"
    "\"rms_norm_eps\":1e-06,\"rope_theta\":10000,"
    "\"max_position_embeddings\":163840,\"hidden_act\":\"silu\","
    "\"tie_word_embeddings\":false,\"attention_bias\":false,"
    "\"bos_token_id\":0,\"eos_token_id\":1,"
    "\"torch_dtype\":\"bfloat16\"}";

static struct arch arch;

/* ---- numbers of one rank ---- */

static void
test_table(void)
{
	struct layout dp4 = { 4, 4, 1, 4 }, tp16 = { 16, 1, 1, 1 };
	struct plan p;
	struct err e = {0};

	tap_ok(plan_check(&arch, &dp4, &e) == 0, "dp4 tp4 ep4 works: %s",
	    e.msg);
	plan_rank(&p, &arch, &dp4, 6);
	tap_ok(p.dp == 1 && p.tp == 2 && p.pp == 0 && p.world == 16,
	    "rank 6 is dp 1, tp 2");
	tap_ok(p.heads0 == 64 && p.heads1 == 96, "32 heads from 64");
	tap_ok(p.dense1 - p.dense0 == 4608 && p.dense0 == 9216,
	    "4608 of a dense layer");
	tap_ok(p.shared1 - p.shared0 == 128 && p.shared0 == 768,
	    "128 of the shared expert");
	tap_ok(p.ep == 1 && p.expert0 == 64 && p.expert1 == 128,
	    "experts 64 to 128");
	tap_ok(p.moe_tp == 4 && p.moe_slice == 2 && p.moe0 == 1024 &&
	    p.moe1 == 1536, "512 of each, from 1024");
	tap_ok(p.vocab0 == 64640 && p.vocab1 == 96960, "32320 head rows");

	tap_ok(plan_check(&arch, &tp16, &e) == 0, "tp16 works");
	plan_rank(&p, &arch, &tp16, 15);
	tap_ok(p.heads1 - p.heads0 == 8 && p.dense1 - p.dense0 == 1152 &&
	    p.shared1 - p.shared0 == 128 && p.expert1 - p.expert0 == 256 &&
	    p.moe1 - p.moe0 == 128 && p.vocab1 - p.vocab0 == 8080,
	    "tp16: 8 heads, 1152, 128, 256 x 128, 8080");
	tap_ok(p.out1 - p.out0 == 448 && p.out1 == 7168 && p.own0 == p.out0 &&
	    p.moe_out0 == p.out0, "and the last 448 columns");
}

static void
test_stages(void)
{
	struct layout l = { 2, 1, 4, 2 };
	static const unsigned start[] = { 0, 16, 31, 46, 61 };
	struct plan p;
	bool good = true;

	for (unsigned s = 0; s < 4; s++) {
		plan_rank(&p, &arch, &l, 2 * s + 1);
		good &= p.pp == s && p.layer0 == start[s] &&
		    p.layer1 == start[s + 1] && p.first == (s == 0) &&
		    p.last == (s == 3);
		for (unsigned i = p.layer0; i < p.layer1; i++)
			good &= plan_stage(&arch, &l, i) == s;
	}
	tap_ok(good, "61 layers over 4 stages: 16 15 15 15");
	tap_ok(plan_stage(&arch, &l, 61) == 3, "the MTP layer is on the last");
}

/* ---- slices cover every layer ---- */

struct cover {
	struct layout l;
	unsigned world;
	unsigned long bad, seen;
};

/* How many ranks have each row of the layer, or 0 when not all rows have as
 * many. */
static unsigned
copies(const struct cover *c, const struct arch_lin *lin)
{
	static uint16_t have[32768];
	unsigned i;

	memset(have, 0, sizeof(have));
	for (unsigned r = 0; r < c->world; r++) {
		unsigned n0, n1;
		struct plan p;

		plan_rank(&p, &arch, &c->l, r);
		plan_slice(&p, &arch, lin, &n0, &n1);
		for (i = n0; i < n1 && i < lin->n; i++)
			have[i]++;
	}
	for (i = 1; i < lin->n && have[i] == have[0]; i++)
		;
	return i == lin->n ? have[0] : 0;
}

static int
check_lin(void *arg, const struct arch_lin *lin)
{
	struct cover *c = arg;
	unsigned want = c->l.dp * c->l.tp;

	if (lin->expert >= -1)
		want = 1;
	else if (lin->expert == -2 && lin->part >= ARCH_GATE &&
	    lin->part <= ARCH_DOWN)
		want = c->l.dp;
	else if (lin->part == ARCH_Q_B || lin->part == ARCH_Q_PROJ ||
	    lin->part == ARCH_KV_B || lin->part == ARCH_O)
		want = c->l.dp;
	c->bad += copies(c, lin) != want;
	c->seen++;
	return 0;
}

static void
test_cover(void)
{
	static const struct layout all[] = { { 1, 1, 1, 1 }, { 4, 4, 1, 4 },
	    { 4, 4, 1, 16 }, { 16, 1, 1, 1 }, { 2, 4, 2, 8 }, { 4, 1, 3, 2 } };
	/* enough of each kind of layer; every layer would take long */
	static const unsigned layers[] = { 0, 40, 61 };
	struct err e = {0};

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		struct cover c = { .l = all[i], .world = plan_world(&all[i]) };
		bool fits = plan_check(&arch, &all[i], &e) == 0;

		for (int j = 0; j < 3; j++)
			arch_each_linear(&arch, layers[j], check_lin, &c);
		tap_ok(fits && c.seen > 1500 && c.bad == 0,
		    "tp%u dp%u pp%u ep%u: %lu of %lu layers are not covered",
		    c.l.tp, c.l.dp, c.l.pp, c.l.ep, c.bad, c.seen);
	}
}

/* ---- bad layouts ---- */

static void
refused(struct layout l, const char *want)
{
	struct err e = {0};
	int rc = plan_check(&arch, &l, &e);

	tap_ok(rc == -1 && e.code == ERR_CALLER && strstr(e.msg, want),
	    "tp%u dp%u pp%u ep%u: %s", l.tp, l.dp, l.pp, l.ep, e.msg);
}

static void
test_refusals(void)
{
	struct arch dense = arch;
	struct err e = {0};

	refused((struct layout){ 12, 1, 1, 1 }, "num_attention_heads 128 is "
	    "not divisible by tensor-parallel-size 12; "
	    "--tensor-parallel-size 8 or 16 would work");
	refused((struct layout){ 4, 4, 1, 3 }, "n_routed_experts 256 is not "
	    "divisible by expert-parallel-size 3; "
	    "--expert-parallel-size 2 or 4 would work");
	refused((struct layout){ 2, 2, 1, 8 }, "data-parallel-size * "
	    "tensor-parallel-size 4 is not divisible by "
	    "expert-parallel-size 8; --expert-parallel-size 4 would work");
	refused((struct layout){ 1, 1, 62, 1 }, "num_hidden_layers 61 is "
	    "fewer than pipeline-parallel-size 62; "
	    "--pipeline-parallel-size 61 would work");
	refused((struct layout){ 1, 3, 1, 1 }, "moe_intermediate_size 2048 is "
	    "not divisible by");
	refused((struct layout){ 1, 3, 1, 1 }, "--data-parallel-size 2 or 4 "
	    "would work");
	refused((struct layout){ 0, 1, 1, 1 }, "--tensor-parallel-size must "
	    "be at least 1");
	refused((struct layout){ 128, 16, 1, 1 }, "1024 ranks");
	refused((struct layout){ 4294967295u, 4294967295u, 4294967295u, 1 },
	    "1024 ranks");
	dense.experts = dense.shared = 0;
	tap_ok(plan_check(&dense, &(struct layout){ 2, 1, 1, 2 }, &e) == -1 &&
	    strstr(e.msg, "no routed experts"), "no experts: %s", e.msg);
	dense.inter = 18434;
	tap_ok(plan_check(&dense, &(struct layout){ 4, 1, 1, 1 }, &e) == -1 &&
	    strstr(e.msg, "intermediate_size 18434"), "dense: %s", e.msg);
}

static void
test_padding(void)
{
	struct arch a = arch;
	struct plan p;

	a.vocab = a.hidden = 10;
	plan_rank(&p, &a, &(struct layout){ 4, 1, 1, 1 }, 3);
	tap_ok(p.vocab0 == 9 && p.vocab1 == 12, "a vocabulary of 10 over 4");
	tap_ok(p.out0 == 9 && p.out1 == 12, "10 columns over 4");
	plan_rank(&p, &a, &(struct layout){ 2, 2, 1, 2 }, 2);
	tap_ok(p.moe_out0 == 0 && p.moe_out1 == 6 && p.own0 == 3 &&
	    p.own1 == 6, "block 1, slice 0: columns 0-5, 3-5 its own");
}

int
main(void)
{
	struct json *v;
	struct err e = {0};

	if (json_parse(&v, r1, strlen(r1), &e) == -1 ||
	    arch_parse(&arch, v, "R1", &e) == -1) {
		tap_ok(0, "R1's config.json: %s", e.msg);
		return tap_done();
	}
	json_free(&v);
	test_table();
	test_stages();
	test_cover();
	test_refusals();
	test_padding();
	return tap_done();
}
