/*
 * shard: every number in the rank files is the one that the model has, in
 * every kind of weight and a mix of layouts; random models are the same model
 * in every layout; memory stays bounded.
 *
 * Expectations are computed here from the checkpoint by plain loops, or, for
 * random models, from the rank file of one rank.
 */
#include <ftw.h>
#include <math.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ckpt/ckpt.h"
#include "shard/shard.h"
#include "tap.h"
#include "whole.h"

static char tmp[128];			/* a directory of our own */
static unsigned nout;

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st, (void)type, (void)f;
	return remove(path);
}

static int
remove_tree(const char *dir)
{
	return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Syncing hundreds of small files takes long on a disk. */
static int
make_tmp(const char *base)
{
	const char *env = getenv("TMPDIR");

	snprintf(tmp, sizeof(tmp), "%s/dsi-shard-XXXXXX",
	    env && strlen(env) < 80 ? env : access(base, W_OK) == 0 ? base :
	    "/tmp");
	return mkdtemp(tmp) ? 0 : tap_ok(0, "temporary directory %s", tmp) - 1;
}

/* ---- rank files ---- */

static void *
read_tensor(const struct store *s, const char *name, const char *suffix,
    enum dtype t, size_t count)
{
	char full[200];
	const struct tensor *x;
	struct err e = {0};
	void *p;

	snprintf(full, sizeof(full), "%s%s", name, suffix);
	x = store_find(s, full);
	if (!x || x->dtype != t || x->nbytes != count * dtype_size(t) ||
	    x->off % 64)
		return NULL;
	p = need(x->nbytes);
	if (store_read(s, x, 0, p, x->nbytes, &e) == 0)
		return p;
	free(p);
	return NULL;
}

/* Rows of the rank, from the whole layer; rows past it are 0. */
struct cut {
	unsigned n0, n1;
};

/* Compares count numbers; frees got. */
static unsigned
differs(void *got, const void *want, size_t count)
{
	unsigned bad = !got || memcmp(got, want, 4 * count) != 0;

	free(got);
	return bad;
}

static unsigned
check_packed(const struct store *s, const char *name, const struct whole *w,
    const struct cut *c)
{
	unsigned n = c->n1 - c->n0, k = w->k, bad = 0;
	size_t tiles = (n + 15) / 16, k4 = (k + 3) / 4;
	int8_t *p = read_tensor(s, name, ".weight", DT_I8, tiles * k4 * 64);

	for (size_t i = 0; p && i < tiles * k4 * 64; i++) {
		size_t r = i / 64 / k4 * 16 + i / 4 % 16;
		size_t x = i / 64 % k4 * 4 + i % 4;
		int8_t want = 0;

		if (r < n && x < k)
			want = (int8_t)w->w[(c->n0 + r) * k + x];
		bad += p[i] != want;
	}
	free(p);
	return p ? bad : 1;
}

/* Sums of inputs [x0, x1) of the whole layer. */
static void
sums(int32_t *out, const struct whole *w, const struct cut *c, unsigned x0,
    unsigned x1)
{
	for (unsigned r = c->n0; r < c->n1; r++)
		for (unsigned x = x0; x < x1; x++)
			out[r - c->n0] += (int8_t)w->w[(size_t)r * w->k + x];
}

static unsigned
check_channel(const struct store *s, const char *name, const struct whole *w,
    const struct cut *c)
{
	unsigned n = c->n1 - c->n0, k = w->k, pad = (n + 15) / 16 * 16;
	unsigned bad = check_packed(s, name, w, c);
	int32_t *sum = need(4 * pad);

	sums(sum, w, c, 0, k);
	bad += differs(read_tensor(s, name, ".colsum", DT_I32, pad), sum, pad);
	bad += differs(read_tensor(s, name, ".scale", DT_F32, n),
	    w->scale + c->n0, n);
	free(sum);
	if (w->kind != LIN_I8_STATIC)
		return bad;
	bad += differs(read_tensor(s, name, ".bias", DT_I32, n),
	    w->bias + c->n0, n);
	bad += differs(read_tensor(s, name, ".input_scale", DT_F32, k),
	    w->in_scale, k);
	bad += differs(read_tensor(s, name, ".input_offset", DT_F32, k),
	    w->in_off, k);
	return bad;
}

static unsigned
check_blocks(const struct store *s, const char *name, const struct whole *w,
    const struct cut *c)
{
	unsigned n = c->n1 - c->n0, nb = nblocks(w->k), bad = 0;
	unsigned pad = (n + 15) / 16 * 16;
	int32_t *sum = need(4 * (size_t)pad * nb);
	float *bs = need(4 * (size_t)n * nb);
	bool f8_rows = w->kind == LIN_F8;

	for (unsigned b = 0; b < nb; b++) {
		unsigned x0 = b * LIN_BLOCK, x1 = x0 + LIN_BLOCK;

		if (!f8_rows)
			sums(sum + (size_t)b * pad, w, c, x0,
			    x1 > w->k ? w->k : x1);
		for (unsigned r = 0; r < n; r++)
			bs[f8_rows ? r * nb + b : b * n + r] =
			    w->bs[(size_t)(c->n0 + r) * nb + b];
	}
	bad += differs(read_tensor(s, name, ".block_scale", DT_F32,
	    (size_t)n * nb), bs, (size_t)n * nb);
	if (!f8_rows) {
		bad += check_packed(s, name, w, c);
		bad += differs(read_tensor(s, name, ".colsum", DT_I32,
		    (size_t)nb * pad), sum, (size_t)nb * pad);
	}
	free(sum);
	free(bs);
	return bad;
}

/* A row-major weight; rows past the whole are 0. */
static unsigned
check_rows(const struct store *s, const char *name, const char *suffix,
    const struct whole *w, const struct cut *c)
{
	size_t size = dtype_size(w->dtype), n = c->n1 - c->n0;
	size_t row = w->k * size;
	unsigned char *p = read_tensor(s, name, suffix, w->dtype, n * w->k);
	unsigned char *zero = need(row);
	unsigned bad = 0;

	for (size_t r = 0; p && r < n; r++)
		bad += memcmp(p + r * row, c->n0 + r >= w->n ? zero : w->w +
		    (c->n0 + r) * row, row) != 0;
	free(zero);
	free(p);
	return p ? bad : 1;
}

static unsigned
check_layer(const struct store *s, const char *name, const struct whole *w,
    const struct cut *c)
{
	switch (w->kind) {
	case LIN_FLOAT:
		return check_rows(s, name, ".weight", w, c);
	case LIN_F8:
		return check_rows(s, name, ".weight", w, c) +
		    check_blocks(s, name, w, c);
	case LIN_I8_BLOCK:
		return check_blocks(s, name, w, c);
	default:
		return check_channel(s, name, w, c);
	}
}

/* ---- one conversion ---- */

struct conv {
	struct shard_opts o;
	struct arch a;
	char out[160];
	unsigned nlin, bad;		/* layers compared, differences */
	/* where expectations come from: a checkpoint, or one rank's files */
	struct ckpt *ckpt;
	const char *one;
	/* while one rank's file is open */
	struct plan plan;
	struct store *s, *ref;
};

static int
open_file(struct store **s, const char *out, unsigned rank, const char *file)
{
	char path[256];
	struct err e = {0};

	snprintf(path, sizeof(path), "%s/rank-%05u/%s.safetensors", out, rank,
	    file);
	return store_open(s, path, &e);
}

/* Back from tiles to rows. */
static void
unpack(struct whole *w, const int8_t *p)
{
	size_t k4 = (w->k + 3) / 4;

	for (size_t r = 0; r < w->n; r++)
		for (size_t c = 0; c < w->k; c++)
			w->w[r * w->k + c] = (unsigned char)p[((r / 16 * k4 +
			    c / 4) * 16 + r % 16) * 4 + c % 4];
}

/* The layer as a file of one rank holds it. */
static int
whole_one(struct whole *w, const struct store *s, const struct arch_lin *lin)
{
	char name[160];
	const struct tensor *t, *bs, *sc;
	float *f;
	void *p;
	bool i8;

	snprintf(name, sizeof(name), "%s.weight", lin->name);
	t = store_find(s, name);
	snprintf(name, sizeof(name), "%s.block_scale", lin->name);
	bs = store_find(s, name);
	snprintf(name, sizeof(name), "%s.scale", lin->name);
	sc = store_find(s, name);
	if (!t)
		return -1;
	i8 = t->dtype == DT_I8;
	*w = (struct whole){ .kind = t->dtype == DT_F8 ? LIN_F8 : !i8 ?
	    LIN_FLOAT : bs ? LIN_I8_BLOCK : LIN_I8, .dtype = t->dtype,
	    .n = lin->n, .k = lin->k };
	whole_alloc(w);
	p = read_tensor(s, lin->name, ".weight", t->dtype, t->nbytes /
	    dtype_size(t->dtype));
	if (i8)
		unpack(w, p);
	else
		memcpy(w->w, p, t->nbytes);
	free(p);
	f = sc ? read_tensor(s, lin->name, ".scale", DT_F32, w->n) : NULL;
	if (f)
		memcpy(w->scale, f, 4 * w->n);
	free(f);
	f = bs ? read_tensor(s, lin->name, ".block_scale", DT_F32,
	    (size_t)w->n * nblocks(w->k)) : NULL;
	for (unsigned r = 0; f && r < w->n; r++)
		for (unsigned b = 0; b < nblocks(w->k); b++)
			w->bs[(size_t)r * nblocks(w->k) + b] = i8 ?
			    f[(size_t)b * w->n + r] :
			    f[(size_t)r * nblocks(w->k) + b];
	free(f);
	return 0;
}

static int
compare_lin(void *arg, const struct arch_lin *lin)
{
	struct conv *v = arg;
	struct err e = {0};
	struct whole w;
	struct cut c;
	char name[160];
	int rc;

	plan_slice(&v->plan, &v->a, lin, &c.n0, &c.n1);
	if (c.n0 == c.n1) {
		snprintf(name, sizeof(name), "%s.weight", lin->name);
		v->bad += store_find(v->s, name) != NULL;
		return 0;
	}
	rc = v->ckpt ? whole_ckpt(&w, v->ckpt, lin->name, &e) :
	    whole_one(&w, v->ref, lin);
	if (rc == -1) {
		printf("# %s: %s\n", lin->name, e.msg);
		v->bad++;
		return 0;
	}
	if (v->ckpt)
		expect(&w, lin, &v->a, v->o.quantize);
	rc = (int)check_layer(v->s, lin->name, &w, &c);
	if (rc)
		printf("# rank %u: %s\n", v->plan.rank, lin->name);
	v->bad += (unsigned)rc;
	v->nlin++;
	whole_free(&w);
	return 0;
}

/* A norm, bias, router or embedding; absent on both sides is right, too. */
static void
compare_plain(struct conv *v, const char *name, const struct cut *rows)
{
	const struct tensor *got = store_find(v->s, name), *t;
	struct whole w = { .kind = LIN_FLOAT };
	struct cut c;
	struct err e = {0};

	t = v->ckpt ? ckpt_plain(v->ckpt, name) : store_find(v->ref, name);
	if (!t || !got) {
		v->bad += t || got;
		return;
	}
	w.n = (unsigned)t->dim[0];
	w.k = t->ndim == 2 ? (unsigned)t->dim[1] : 1;
	w.dtype = t->ndim == 2 && t->dtype == DT_BF16 ? DT_BF16 : DT_F32;
	whole_alloc(&w);
	if (!v->ckpt)
		v->bad += store_read(v->ref, t, 0, w.w, t->nbytes, &e) == -1;
	else if (w.dtype == DT_BF16)
		v->bad += ckpt_plain_read(v->ckpt, t, 0, w.w, t->nbytes,
		    &e) == -1;
	else
		v->bad += ckpt_plain_f32(v->ckpt, t, (float *)(void *)w.w,
		    &e) == -1;
	c = rows ? *rows : (struct cut){ 0, w.n };
	v->bad += got->ndim != t->ndim;
	if (check_rows(v->s, name, "", &w, &c)) {
		printf("# rank %u: %s\n", v->plan.rank, name);
		v->bad++;
	}
	v->nlin++;
	whole_free(&w);
}

static void
compare_layer(struct conv *v, unsigned layer, const char *file)
{
	static const char *const part[] = { "enorm.weight", "hnorm.weight",
	    "shared_head.norm.weight", "input_layernorm.weight",
	    "input_layernorm.bias", "self_attn.q_a_layernorm.weight",
	    "self_attn.q_a_layernorm.bias", "self_attn.kv_a_layernorm.weight",
	    "post_attention_layernorm.weight", "mlp.gate.weight",
	    "mlp.gate.e_score_correction_bias" };
	char name[128];

	if (open_file(&v->s, v->out, v->plan.rank, file) == -1 ||
	    (v->one && open_file(&v->ref, v->one, 0, file) == -1)) {
		v->bad++;
		return;
	}
	for (size_t i = 0; i < sizeof(part) / sizeof(*part); i++) {
		snprintf(name, sizeof(name), "model.layers.%u.%s", layer,
		    part[i]);
		compare_plain(v, name, NULL);
	}
	arch_each_linear(&v->a, layer, compare_lin, v);
	store_close(&v->s);
	if (v->ref)
		store_close(&v->ref);
}

static void
compare_ends(struct conv *v, const char *file)
{
	struct cut rows = { v->plan.vocab0, v->plan.vocab1 };

	if (open_file(&v->s, v->out, v->plan.rank, file) == -1 ||
	    (v->one && open_file(&v->ref, v->one, 0, file) == -1)) {
		v->bad++;
		return;
	}
	if (strcmp(file, "embed") == 0) {
		compare_plain(v, "model.embed_tokens.weight", NULL);
	} else {
		compare_plain(v, "model.norm.weight", NULL);
		if (!v->a.tied)
			compare_plain(v, "lm_head.weight", &rows);
	}
	store_close(&v->s);
	if (v->ref)
		store_close(&v->ref);
}

static void
compare_rank(struct conv *v, unsigned rank, unsigned mtp)
{
	char file[32];

	plan_rank(&v->plan, &v->a, &v->o.layout, rank);
	for (unsigned i = v->plan.layer0; i < v->plan.layer1; i++) {
		snprintf(file, sizeof(file), "layer-%03u", i);
		compare_layer(v, i, file);
	}
	if (v->plan.first)
		compare_ends(v, "embed");
	if (v->plan.last)
		compare_ends(v, "head");
	if (v->plan.last && mtp)
		compare_layer(v, v->a.layers, "mtp-0");
}

static void
fresh(struct conv *v)
{
	snprintf(v->out, sizeof(v->out), "%s/out%u", tmp, nout++);
	v->o.out = v->out;
}

static void
compare(struct conv *v, unsigned mtp)
{
	struct shard_manifest *m;
	struct err e = {0};
	size_t nrank = 0;

	if (shard_open_manifest(&m, v->out, &e) == -1) {
		tap_ok(0, "manifest: %s", e.msg);
		return;
	}
	for (size_t i = 0; i < m->nfile; i++)
		nrank += m->file[i].rank >= 0;
	tap_ok(memcmp(&m->layout, &v->o.layout, sizeof(m->layout)) == 0 &&
	    m->quantize == v->o.quantize && nrank >= 4 &&
	    access(m->config, R_OK) == 0, "the manifest says so");
	shard_close_manifest(&m);
	for (unsigned r = 0; r < plan_world(&v->o.layout); r++)
		compare_rank(v, r, mtp);
	tap_ok(v->bad == 0 && v->nlin > 20, "tp%u dp%u pp%u ep%u %s: %u "
	    "tensors, %u differ", v->o.layout.tp, v->o.layout.dp,
	    v->o.layout.pp, v->o.layout.ep,
	    v->o.quantize ? "int8" : "as is", v->nlin, v->bad);
	remove_tree(v->out);
}

/* ---- published models ---- */

static const struct layout mixes[] = { { 1, 1, 1, 1 }, { 2, 1, 1, 1 },
    { 2, 2, 1, 2 }, { 1, 2, 2, 2 }, { 2, 2, 1, 4 } };

static void
test_model(const char *dir, struct layout l, enum shard_quant q)
{
	struct conv v = { .o = { .model = dir, .layout = l, .quantize = q } };
	struct err e = {0};

	fresh(&v);
	if (arch_load(&v.a, dir, &e) == -1 ||
	    ckpt_open(&v.ckpt, dir, &v.a, &e) == -1) {
		tap_ok(0, "%s: %s", dir, e.msg);
		return;
	}
	if (shard_run(&v.o, &e) == 0)
		compare(&v, ckpt_mtp(v.ckpt));
	else
		tap_ok(0, "%s: %s", dir, e.msg);
	ckpt_close(&v.ckpt);
}

/* Layouts of up to max ranks a stage that the model can be cut to. */
static unsigned
test_layouts(const char *dir, enum shard_quant q, unsigned max)
{
	struct layout l;
	struct arch a;
	struct err e = {0};
	unsigned done = 0;

	if (arch_load(&a, dir, &e) == -1) {
		tap_ok(0, "%s", e.msg);
		return 0;
	}
	for (l.tp = 1; l.tp <= max; l.tp++)
		for (l.dp = 1; l.dp * l.tp <= max; l.dp++)
			for (l.pp = 1; l.pp <= 2 && l.pp * l.dp <= 5; l.pp++)
				for (l.ep = 1; l.ep <= l.dp * l.tp; l.ep++) {
					if (plan_check(&a, &l, &e) == -1)
						continue;
					test_model(dir, l, q);
					done++;
				}
	return done;
}

static void
test_models(void)
{
	static const char *const name[] = { "v2lite-bf16", "v2group-bf16",
	    "moonlight-bf16", "moonlight-int8-channel", "v3-bf16",
	    "v3-fp8-block", "v3-int8-block", "v3-int8-channel",
	    "v3-w8a8-modelslim", "v3-w8a8-goldenstick" };
	char dir[256];

	for (size_t i = 0; i < sizeof(name) / sizeof(*name); i++) {
		snprintf(dir, sizeof(dir), "%s/t/fixtures/%s", tap_top(),
		    name[i]);
		printf("# %s\n", name[i]);
		tap_ok(test_layouts(dir, SHARD_NONE, 5) >= 3,
		    "3 or more layouts");
		if (strstr(name[i], "v3-bf16") || strstr(name[i], "fp8"))
			test_layouts(dir, SHARD_INT8, 2);
	}
	snprintf(dir, sizeof(dir), "%s/share/demo/model", tap_top());
	test_model(dir, mixes[1], SHARD_NONE);
	test_model(dir, mixes[2], SHARD_INT8);
}

/* ---- random models ---- */

static const char config[] =
    "{\"model_type\":\"deepseek_v3\",\"hidden_size\":160,"
    "\"vocab_size\":323,\"num_hidden_layers\":3,"
    "\"num_attention_heads\":4,\"num_nextn_predict_layers\":1,"
    "\"q_lora_rank\":72,\"kv_lora_rank\":40,\"qk_nope_head_dim\":20,"
    "\"qk_rope_head_dim\":8,\"v_head_dim\":24,"
    "\"intermediate_size\":528,\"moe_intermediate_size\":48,"
    "\"n_routed_experts\":8,\"n_shared_experts\":2,"
    "\"num_experts_per_tok\":2,\"n_group\":2,\"topk_group\":1,"
    "\"first_k_dense_replace\":1,\"moe_layer_freq\":1,"
    "\"scoring_func\":\"sigmoid\",\"topk_method\":\"noaux_tc\","
    "\"norm_topk_prob\":true,\"routed_scaling_factor\":2.5,"
    "\"rms_norm_eps\":1e-06,\"rope_theta\":10000,"
    "\"max_position_embeddings\":512,\"hidden_act\":\"silu\","
    "\"bos_token_id\":0,\"eos_token_id\":1,%s"
    "\"torch_dtype\":\"%s\"}";

static int
write_config(char path[160], const char *quant, const char *dtype)
{
	char text[2048];
	struct err e = {0};
	int n = snprintf(text, sizeof(text), config, quant, dtype);

	snprintf(path, 160, "%s/config%u.json", tmp, nout++);
	return io_write_file(path, text, (size_t)n, &e);
}

static void
test_dummy(const char *what, const char *quant, const char *dtype,
    enum shard_quant q)
{
	struct conv one = { .o = { .dummy = true, .seed = 7, .quantize = q,
	    .layout = mixes[0] } };
	char path[160];
	struct err e = {0};

	printf("# random %s\n", what);
	one.o.model = path;
	fresh(&one);
	if (write_config(path, quant, dtype) == -1 ||
	    shard_run(&one.o, &e) == -1) {
		tap_ok(0, "%s: %s", what, e.msg);
		return;
	}
	for (size_t j = 1; j < sizeof(mixes) / sizeof(*mixes); j++) {
		struct conv v = { .o = one.o, .one = one.out };

		v.o.layout = mixes[j];
		fresh(&v);
		if (arch_load(&v.a, path, &e) == -1 ||
		    shard_run(&v.o, &e) == -1)
			tap_ok(0, "%s: %s", what, e.msg);
		else
			compare(&v, 1);
	}
}

static void
test_dummies(void)
{
	static const char fp8[] = "\"quantization_config\":{\"quant_method\":"
	    "\"fp8\",\"weight_block_size\":[128,128]},";
	static const char channel[] = "\"quantization_config\":{"
	    "\"quant_method\":\"compressed-tensors\",\"format\":"
	    "\"int-quantized\"},";
	static const char block[] = "\"quantization_config\":{"
	    "\"quant_method\":\"blockwise_int8\"},";

	test_dummy("bf16", "", "bfloat16", SHARD_NONE);
	test_dummy("f16", "", "float16", SHARD_NONE);
	test_dummy("f32", "", "float32", SHARD_NONE);
	test_dummy("bf16, quantized", "", "bfloat16", SHARD_INT8);
	test_dummy("fp8", fp8, "bfloat16", SHARD_NONE);
	test_dummy("fp8, quantized", fp8, "bfloat16", SHARD_INT8);
	test_dummy("int8", channel, "bfloat16", SHARD_NONE);
	test_dummy("int8 blocks", block, "bfloat16", SHARD_NONE);
}

/* The bf16, f32, fp8 and int8 models of a seed are one model: element by
 * element, but for rounding. */
static void
test_same_model(void)
{
	static const char fp8[] = "\"quantization_config\":{\"quant_method\":"
	    "\"fp8\",\"weight_block_size\":[128,128]},";
	static const char lin_name[] = "model.layers.1.mlp.experts.3.up_proj";
	struct arch_lin lin = { .n = 48, .k = 160 };
	struct whole w[3];
	struct err e = {0};
	double sum = 0, off = 0;
	unsigned ok = 0;

	snprintf(lin.name, sizeof(lin.name), "%s", lin_name);
	for (int i = 0; i < 3; i++) {
		struct conv v = { .o = { .dummy = true, .layout = mixes[0],
		    .quantize = i == 1 ? SHARD_INT8 : SHARD_NONE } };
		char path[160];

		v.o.model = path;
		fresh(&v);
		ok += write_config(path, i == 2 ? fp8 : "", i ? "bfloat16" :
		    "float32") == 0 && shard_run(&v.o, &e) == 0 &&
		    open_file(&v.s, v.out, 0, "layer-001") == 0 &&
		    whole_one(&w[i], v.s, &lin) == 0;
		if (v.s)
			store_close(&v.s);
	}
	for (unsigned r = 0; r < lin.n && ok == 3; r++)
		for (unsigned c = 0; c < lin.k; c++) {
			double x = value(&w[0], r, c);

			sum += x * x;
			ok += value(&w[1], r, c) != (float)x;
			off = fmax(off, fabs(value(&w[2], r, c) - x) /
			    fabs(x + 1e-9));
		}
	sum = sqrt(sum / lin.n);	/* length of a row: gain */
	tap_ok(ok == 3 && off < 0.07, "f32, int8 and fp8 agree within %.3f",
	    off);
	tap_ok(sum > 0.8 && sum < 1.4, "a row's length is %.3f", sum);
	for (int i = 0; i < 3; i++)
		whole_free(&w[i]);
}

/* ---- refusals ---- */

static void
test_refusals(void)
{
	struct shard_done d = {0};
	struct shard_opts o = { .dummy = true, .layout = mixes[0],
	    .done = &d };
	struct conv v = {0};
	struct err e = {0};
	char path[160], bad[160], inside[200];

	fresh(&v);
	o.model = path;
	o.out = v.out;
	tap_ok(write_config(path, "", "bfloat16") == 0 && !shard_peek(v.out) &&
	    shard_run(&o, &e) == 0 && !d.already && d.files == 6 &&
	    shard_peek(v.out), "a first run makes 6 files %s", e.msg);
	tap_ok(shard_run(&o, &e) == 0 && d.already, "a second makes none");
	o.seed = 1;
	tap_ok(shard_run(&o, &e) == -1 && e.code == ERR_CALLER &&
	    strstr(e.msg, "another conversion"), "another seed: %s", e.msg);
	o.model = v.out;
	tap_ok(shard_run(&o, &e) == -1 && strstr(e.msg, "rank files already"),
	    "rank files as the model: %s", e.msg);
	o.model = path;
	o.out = tmp;
	tap_ok(shard_run(&o, &e) == -1 && strstr(e.msg, "not empty"),
	    "a full directory: %s", e.msg);
	o.model = bad;
	tap_ok(write_config(bad, "\"quantization_config\":{\"quant_method\":"
	    "\"awq\"},", "bfloat16") == 0 && shard_run(&o, &e) == -1 &&
	    strstr(e.msg, "\"awq\""), "unknown quantization: %s", e.msg);
	snprintf(inside, sizeof(inside), "%s/none", tmp);
	o.model = inside;
	tap_ok(shard_run(&o, &e) == -1 && e.code == ERR_CALLER,
	    "no model: %s", e.msg);
}

/* ---- memory ---- */

static long
peak_kib(const struct shard_opts *o)
{
	struct rusage ru;
	struct err e = {0};
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(shard_run(o, &e) == 0 ? 0 : 1);
	if (pid == -1 || wait4(pid, &status, 0, &ru) == -1 || status != 0)
		return -1;
	return ru.ru_maxrss;
}

/* A key of config that is given anew. */
static void
blank(char *text, const char *key)
{
	char *p = strstr(text, key);

	if (p)
		memset(p, ' ', strlen(key));
}

static void
test_memory(void)
{
	struct conv v = {0};
	struct shard_done d = {0};
	struct err e = {0};
	struct shard_opts o = { .dummy = true, .quantize = SHARD_INT8,
	    .layout = mixes[0], .done = &d };
	char path[160], text[2048];
	long kib;
	int n;

	/* More than four times the bound is written. */
	n = snprintf(text, sizeof(text), config, "\"quantization_config\":{"
	    "\"quant_method\":\"fp8\"},\"hidden_size\":1024,"
	    "\"vocab_size\":32000,\"intermediate_size\":40000,",
	    "bfloat16");
	snprintf(path, sizeof(path), "%s/big.json", tmp);
	blank(text, "\"hidden_size\":160,\"vocab_size\":323,");
	blank(text, "\"intermediate_size\":528,");
	fresh(&v);
	o.model = path;
	o.out = v.out;
	tap_ok(io_write_file(path, text, (size_t)n, &e) == 0, "config");
	kib = peak_kib(&o);
	tap_ok(kib > 0 && shard_run(&o, &e) == 0 && d.already, "made %s",
	    e.msg);
	tap_ok(d.bytes > 240 << 20 && kib < 64 << 10,
	    "%llu MiB within %ld MiB of memory",
	    (unsigned long long)d.bytes >> 20, kib >> 10);
}

int
main(void)
{
	if (make_tmp("/dev/shm") == -1)
		return tap_done();
	test_models();
	test_dummies();
	test_same_model();
	test_refusals();
	remove_tree(tmp);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	tap_skip("memory", "a sanitizer uses it");
	(void)test_memory;
#else
	if (make_tmp("/tmp") == -1)
		return tap_done();
	test_memory();
	remove_tree(tmp);
#endif
	return tap_done();
}
