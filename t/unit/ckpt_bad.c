/*
 * ckpt_bad: model directories that are wrong in one place.  Each must be
 * refused with one line that names the file and the tensor.
 */
#include <unistd.h>

#include "set.h"

static struct set set;
static char tmp[] = "/tmp/dsi-bad.XXXXXX";

static void
put(const char *name, const char *text)
{
	struct buf path = {0};
	struct err e = {0};

	set_must(io_write_file(io_path(&path, tmp, name), text, strlen(text),
	    &e) == 0, name, &e);
	buf_free(&path);
}

static void
drop(const char *name)
{
	struct buf path = {0};

	unlink(io_path(&path, tmp, name));
	buf_free(&path);
}

static void
refused_dir(const char *what, const char *w1, const char *w2)
{
	struct err e = {0};
	struct ckpt *c;
	struct arch a;
	bool ok = set_open_dir(tmp, &a, &c, &e) == -1;

	tap_ok(ok && e.code == ERR_CALLER && !c && strstr(e.msg, w1) &&
	    strstr(e.msg, w2), "%s: %s", what, e.msg);
	ckpt_close(&c);
}

/* Saves set, must be refused, and starts over with the fixture. */
static void
refused(const char *what, const char *w1, const char *w2,
    const char *fixture)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/model.safetensors", tmp);
	set_save(&set, 0, set.n, path);
	refused_dir(what, w1, w2);
	set_fixture(&set, tmp, fixture, "");
}

static void
accepted(const char *what)
{
	struct err e = {0};
	struct ckpt *c;
	struct arch a;

	tap_ok(set_open_dir(tmp, &a, &c, &e) == 0, "%s accepted %s", what,
	    e.msg);
	ckpt_close(&c);
}

static void
test_float(void)
{
	static const char f[] = "v3-bf16", file[] = "model.safetensors";
	static const char o[] = "model.layers.1.self_attn.o_proj.weight";
	static const char up[] = "model.layers.2.mlp.experts.5.up_proj.weight";
	struct mem *m;

	set_fixture(&set, tmp, f, "");
	set_drop(&set, up);
	refused("a tensor is missing", up, "is missing", f);
	set_add(&set, "model.layers.1.mlp.experts.6.up_proj.weight", DT_BF16,
	    2, 10, 132, 0);
	refused("an expert too many", "experts.6.up_proj", file, f);
	set_add(&set, "model.layers.0.self_attn.q_norm.weight", DT_F32, 1, 3,
	    0, 0);
	refused("a tensor of another model", "q_norm.weight", file, f);
	set_add(&set, "model.layers.4.input_layernorm.weight", DT_F32, 1, 132,
	    0, 0);
	refused("a layer too many", "model.layers.4.input_layernorm", file, f);
	m = set_get(&set, o);
	m->dim[0] = 42;
	m->dim[1] = 132;
	refused("transposed", o, "[42, 132], but should be", f);
	m = set_get(&set, o);
	m->ndim = 3;
	m->dim[2] = 1;
	refused("three dimensions", o, "[132, 42, 1]", f);
	set_get(&set, o)->dtype = DT_U16;
	refused("a dtype that is no weight", o, "U16", f);
	set_get(&set, "model.norm.weight")->dtype = DT_I16;
	refused("a norm of integers", "model.norm.weight", "I16", f);
	m = set_get(&set, "lm_head.weight");
	m->dim[0]--;
	m->nbytes -= 2 * m->dim[1];
	refused("vocabulary too small", "lm_head.weight", "[66, 132]", f);
	set_drop(&set, "model.layers.1.mlp.gate.e_score_correction_bias");
	refused("no correction bias", "e_score_correction_bias", "missing", f);
	set_add(&set, "model.layers.0.self_attn.o_proj.weight_scale", DT_F32,
	    1, 132, 0, 0);
	refused("a scale that nothing needs", "o_proj.weight_scale", file, f);
}

static void
test_quantised(void)
{
	static const char ch[] = "v3-int8-channel", f8[] = "v3-fp8-block";
	static const char sc[] = "model.layers.0.self_attn.o_proj"
	    ".weight_scale";
	struct mem *m;

	set_fixture(&set, tmp, ch, "");
	set_drop(&set, sc);
	refused("int8 without scale", sc, "missing", ch);
	set_get(&set, sc)->dim[0]--;
	set_get(&set, sc)->nbytes -= 4;
	refused("scale too short", sc, "[131, 1], but should be", ch);
	set_get(&set, sc)->dtype = DT_I32;
	refused("scale of integers", sc, "I32", ch);
	set_add(&set, "model.layers.0.self_attn.o_proj.weight_zero_point",
	    DT_I8, 2, 132, 1, 0)->p[7] = 3;
	refused("asymmetric", "o_proj.weight_zero_point", "only 0", f8);
	m = set_get(&set, "model.layers.0.self_attn.o_proj.weight_scale_inv");
	m->dim[0] = 1;
	m->dim[1] = 2;
	refused("blocks the wrong way", "o_proj.weight_scale_inv",
	    "should be F16/BF16/F32 [2, 1]", f8);
	set_rename(&set, "model.layers.0.self_attn.o_proj.weight_scale_inv",
	    "model.layers.0.self_attn.o_proj.weight_scale");
	refused("FP8 without blocks", "o_proj.weight_scale_inv", "missing",
	    f8);
}

static void
test_static(void)
{
	static const char ms[] = "v3-w8a8-modelslim";
	static const char gs[] = "v3-w8a8-goldenstick";
	static const char q[] = "model.layers.0.self_attn.q_a_proj";
	static const char w1[] = "model.layers.1.feed_forward.routed_experts."
	    "ffn.w1._layer.weight";
	char name[128];
	struct mem *m;

	set_fixture(&set, tmp, ms, "");
	snprintf(name, sizeof(name), "%s.quant_bias", q);
	set_drop(&set, name);
	refused("no quant_bias", name, "missing", ms);
	snprintf(name, sizeof(name), "%s.input_scale", q);
	set_get(&set, name)->dtype = DT_I16;
	refused("input_scale of integers", name, "I16", ms);
	snprintf(name, sizeof(name), "%s.fa_q.scale", q);
	set_add(&set, name, DT_F32, 1, 1, 0, 0);
	refused("what is not understood", name, "has no place", ms);
	set_get(&set, "model.layers.0.mlp.up_proj.weight_offset")->p[2] = 1;
	refused("weight_offset", "up_proj.weight_offset", "only 0", gs);
	m = set_get(&set, w1);
	m->dim[1] = 10;
	m->dim[2] = 132;
	refused("experts not transposed", w1, "[6, 10, 132]", gs);
	set_drop(&set, w1);
	refused("no stack", w1, "missing", gs);
	set_drop(&set, "model.layers.2.attention.lkv2kv_v.weight");
	refused("half of kv_b", "lkv2kv_v.weight", "missing", gs);
	set_add(&set, "model.layers.0.attention.wo.quant_op.beta", DT_F32, 1,
	    42, 0, 0)->p[4] = 1;
	refused("a shift that nothing undoes", "wo.quant_op.beta", "only 0",
	    gs);
}

/* Values are looked at when they are read. */
static void
test_values(void)
{
	static const char q[] = "model.layers.0.self_attn.q_a_proj";
	static const char up[] = "model.layers.1.mlp.experts.3.up_proj";
	struct err e = {0};
	struct ckpt *c;
	struct arch a;
	char name[128];
	float x[132], y[132];
	int32_t b[132];

	set_fixture(&set, tmp, "v3-w8a8-modelslim", "");
	snprintf(name, sizeof(name), "%s.input_scale", q);
	memset(set_get(&set, name)->p, 0, 2);
	snprintf(name, sizeof(name), "%s.deq_scale", q);
	memset(set_get(&set, name)->p + 4, 0xff, 4);
	snprintf(name, sizeof(name), "%s.weight_offset", up);
	set_get(&set, name)->p[0] = 9;
	if (!tap_ok(set_open(&set, tmp, &a, &c, &e) == 0, "open %s", e.msg))
		return;
	tap_ok(ckpt_static(c, q, b, x, y, &e) == -1 &&
	    strstr(e.msg, "input_scale"), "a step of 0: %s", e.msg);
	tap_ok(ckpt_scale(c, q, x, &e) == -1 && strstr(e.msg, "deq_scale"),
	    "NaN: %s", e.msg);
	tap_ok(ckpt_scale(c, up, x, &e) == -1 &&
	    strstr(e.msg, "weight_offset"), "an expert's offset: %s", e.msg);
	ckpt_close(&c);
}

/* ---- files and indexes ---- */

/* weight_map of set's tensors: the first half in a, the others in b, edited:
 * tensor skip left out, extra put in. */
static void
put_index(const char *file, const char *a, const char *b, const char *skip,
    const char *extra)
{
	struct buf s = {0};

	buf_puts(&s, "{\"metadata\":{},\"weight_map\":{");
	for (size_t i = 0; i < set.n; i++) {
		if (strcmp(set.t[i].name, skip) != 0)
			buf_printf(&s, "\"%s\":\"%s\",\n", set.t[i].name,
			    i < set.n / 2 ? a : b);
	}
	if (*extra)
		buf_puts(&s, extra);
	else
		s.n -= 2;
	buf_puts(&s, "}}");
	put(file, s.p);
	buf_free(&s);
}

static void
test_indexes(void)
{
	static const char ix[] = "model.safetensors.index.json";
	static const char a[] = "a.safetensors", b[] = "b.safetensors";
	static const char n0[] = "lm_head.weight";
	char path[128], text[512];

	set_fixture(&set, tmp, "moonlight-bf16", "");
	drop("model.safetensors");
	snprintf(path, sizeof(path), "%s/%s", tmp, a);
	set_save(&set, 0, set.n / 2, path);
	snprintf(path, sizeof(path), "%s/%s", tmp, b);
	set_save(&set, set.n / 2, set.n, path);
	accepted("no index, two files");
	put_index(ix, a, b, "", "");
	accepted("an index");
	put("model.safetensors", "not looked at");
	accepted("a file beside the index");
	drop("model.safetensors");
	put_index("zz_name_map.json", a, b, "", "");
	accepted("the same said twice");
	snprintf(text, sizeof(text), "{\"%s\":\"%s\"}", n0, set_get(&set, n0)
	    - set.t < (long)set.n / 2 ? b : a);
	put("zz_name_map.json", text);
	refused_dir("two indexes disagree", n0, "zz_name_map.json");
	drop("zz_name_map.json");
	put_index(ix, a, "c.safetensors", "", "");
	refused_dir("a file is not there", "c.safetensors", "fetch it");
	put_index(ix, a, "../b.safetensors", "", "");
	refused_dir("a file elsewhere", "../b.safetensors", ix);
	put_index(ix, b, a, "", "");
	refused_dir("the wrong file", "should be in", a);
	put_index(ix, a, b, n0, "");
	refused_dir("a tensor not in the index", n0, "not in the index");
	put_index(ix, a, b, "", "\"ghost\":\"b.safetensors\"");
	refused_dir("a tensor not in its file", "ghost", b);
	put_index(ix, a, b, "", "\"lm_head.weight\":\"b.safetensors\"");
	refused_dir("a name twice in the index", n0, "twice");
	put_index(ix, a, b, "", "\"x\":7");
	refused_dir("a number for a file", "x must name a file", ix);
	put(ix, "{\"weight_map\":[]}");
	refused_dir("a list for a map", "weight_map", ix);
	put(ix, "{");
	refused_dir("a broken index", ix, "byte");
	drop(ix);
	snprintf(path, sizeof(path), "%s/%s", tmp, "c.safetensors");
	set_save(&set, 3, 4, path);
	refused_dir("a tensor in two files", set.t[3].name, "c.safetensors");
	drop("c.safetensors");
	snprintf(path, sizeof(path), "%s/%s", tmp, b);
	if (truncate(path, 70000) == -1)
		perror(path);
	refused_dir("a file that is cut off", b, "fetch it again");
	drop(a);
	drop(b);
	refused_dir("no files", tmp, "no *.safetensors");
}

int
main(void)
{
	if (!mkdtemp(tmp))
		return 111;
	test_float();
	test_quantised();
	test_static();
	test_values();
	test_indexes();
	set_free(&set);
	drop("config.json");
	rmdir(tmp);
	return tap_done();
}
