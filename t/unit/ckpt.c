/*
 * ckpt: the fixtures in every layout, read back against the float model that
 * they were quantised from, and variants of the layouts made here.
 *
 * A weight must be within half a step of what it stands for, which no row or
 * scale out of order would be.
 */
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "set.h"
#include "tap.h"

static struct set set;
static char tmp[] = "/tmp/dsi-ckpt.XXXXXX";

/* ---- values ---- */

static float
f32(uint32_t u)
{
	float f;

	memcpy(&f, &u, sizeof(f));
	return f;
}

static float
from_f8(unsigned char x)
{
	int e = x >> 3 & 15, m = x & 7;
	float f = e ? ldexpf((float)(8 + m), e - 10) : ldexpf((float)m, -9);

	return x & 0x80 ? -f : f;
}

static float
value(const void *p, size_t i, enum dtype t)
{
	const unsigned char *b = p;
	uint16_t h;
	float f;

	switch (t) {
	case DT_I8:
		return (signed char)b[i];
	case DT_F8:
		return from_f8(b[i]);
	case DT_BF16:
		memcpy(&h, b + 2 * i, 2);
		return f32((uint32_t)h << 16);
	default:
		memcpy(&f, b + 4 * i, 4);
		return f;
	}
}

/* ---- one layer against the float model's ---- */

struct scales {
	float *row, *block, *in, *offset;
	int32_t *bias;
};

static void *
must_new(size_t n, size_t size)
{
	struct err e = {0};
	void *p = mem_new(n, size, &e);

	set_must(p != NULL, "memory", &e);
	return p;
}

static int
get_scales(struct ckpt *c, const char *name, const struct ckpt_lin *l,
    struct scales *s, struct err *e)
{
	size_t blocks = (size_t)((l->n + 127) / 128) * ((l->k + 127) / 128);

	s->row = must_new(l->n, 4);
	s->bias = must_new(l->n, 4);
	s->in = must_new(l->k, 4);
	s->offset = must_new(l->k, 4);
	s->block = must_new(blocks, 4);
	if (l->kind == LIN_F8 || l->kind == LIN_I8_BLOCK)
		return ckpt_block_scale(c, name, s->block, e);
	if (l->kind == LIN_FLOAT)
		return 0;
	if (ckpt_scale(c, name, s->row, e) == -1)
		return -1;
	return l->kind == LIN_I8 ? 0 :
	    ckpt_static(c, name, s->bias, s->in, s->offset, e);
}

static void
free_scales(struct scales *s)
{
	free(s->row);
	free(s->bias);
	free(s->in);
	free(s->offset);
	free(s->block);
}

/* What one step of weight [i][j] is worth. */
static float
step(const struct ckpt_lin *l, const struct scales *s, unsigned i, unsigned j)
{
	switch (l->kind) {
	case LIN_FLOAT:
		return 1;
	case LIN_I8:
		return s->row[i];
	case LIN_I8_STATIC:
		return s->row[i] / s->in[j];
	default:
		return s->block[i / 128 * ((l->k + 127) / 128) + j / 128];
	}
}

/* How far a weight may be from the one it stands for. */
static float
slack(const struct ckpt_lin *l, float st, float w)
{
	switch (l->kind) {
	case LIN_FLOAT:
		return 0;
	case LIN_F8:
		return fabsf(w) / 15.9f + st * 0x1p-10f;
	case LIN_I8:
		return 1.02f * st;	/* scale in bf16: 128 * 2^-8 more */
	default:
		return 0.51f * st;
	}
}

static bool
same_weight(const struct ckpt_lin *l, const struct scales *s, const void *w,
    const void *want)
{
	for (unsigned i = 0; i < l->n; i++) {
		for (unsigned j = 0; j < l->k; j++) {
			size_t at = (size_t)i * l->k + j;
			float x = value(want, at, DT_BF16);
			float st = step(l, s, i, j);
			float y = value(w, at, l->dtype) * st;

			if (!(fabsf(x - y) <= slack(l, st, x)))
				return false;
		}
	}
	return true;
}

/* quant_bias undoes the zero point; exactly, where no norm bias is in it. */
static bool
same_bias(const struct ckpt_lin *l, const struct scales *s,
    const signed char *w)
{
	for (unsigned i = 0; i < l->n; i++) {
		double sum = 0;

		for (unsigned j = 0; j < l->k; j++)
			sum += w[(size_t)i * l->k + j] * (double)s->offset[j];
		if ((double)s->bias[i] != -rint(sum))
			return false;
	}
	return true;
}

struct walk {
	struct ckpt *c, *ref;
	bool bias;			/* check all of them */
	unsigned n, kinds;
	char bad[256];			/* first fault */
};

static bool
check_lin(struct walk *w, const struct arch_lin *al, struct err *e)
{
	struct ckpt_lin l, r;
	struct scales s = {0};
	void *p = NULL, *q = NULL;
	bool ok = false;

	if (ckpt_lin(w->c, al->name, &l, e) == -1 ||
	    ckpt_lin(w->ref, al->name, &r, e) == -1)
		return false;
	p = must_new((size_t)l.n * l.k, dtype_size(l.dtype));
	q = must_new((size_t)l.n * l.k, 2);
	if (l.n == al->n && l.k == al->k && r.dtype == DT_BF16 &&
	    get_scales(w->c, al->name, &l, &s, e) == 0 &&
	    ckpt_rows(w->c, al->name, 0, l.n, p, e) == 0 &&
	    ckpt_rows(w->ref, al->name, 0, l.n, q, e) == 0)
		ok = same_weight(&l, &s, p, q);
	if (ok && l.kind == LIN_I8_STATIC &&
	    (w->bias || al->part == ARCH_O))
		ok = same_bias(&l, &s, p);
	w->kinds |= 1u << l.kind;
	free_scales(&s);
	free(p);
	free(q);
	return ok;
}

static int
visit(void *arg, const struct arch_lin *al)
{
	struct walk *w = arg;
	struct err e = {0};

	w->n++;
	if (check_lin(w, al, &e))
		return 0;
	snprintf(w->bad, sizeof(w->bad), "%s %.100s", al->name, e.msg);
	return -1;
}

/* ---- plain tensors ---- */

/* Equal after widening, in both. */
static bool
same_plain(struct ckpt *a, struct ckpt *b, const char *name)
{
	const struct tensor *t = ckpt_plain(a, name), *u = ckpt_plain(b, name);
	size_t n = 1;
	float *x, *y;
	struct err e = {0};
	bool ok;

	if (!t || !u)
		return t == u;
	for (unsigned i = 0; i < t->ndim; i++)
		n *= t->dim[i];
	x = must_new(n, 4);
	y = must_new(n, 4);
	ok = t->ndim == u->ndim && t->dim[0] == u->dim[0] &&
	    ckpt_plain_f32(a, t, x, &e) == 0 &&
	    ckpt_plain_f32(b, u, y, &e) == 0 && memcmp(x, y, n * 4) == 0 &&
	    x[n - 1] != 0;
	free(x);
	free(y);
	return ok;
}

static bool
all_plain(struct ckpt *a, struct ckpt *b, unsigned layers)
{
	static const char *const whole[] = {
		"model.embed_tokens.weight", "model.norm.weight",
		"lm_head.weight"
	};
	static const char *const part[] = {
		"input_layernorm.weight", "post_attention_layernorm.weight",
		"self_attn.q_a_layernorm.weight",
		"self_attn.kv_a_layernorm.weight", "mlp.gate.weight",
		"mlp.gate.e_score_correction_bias"
	};
	bool ok = true;

	for (int i = 0; i < 3; i++)
		ok = ok && same_plain(a, b, whole[i]);
	for (unsigned l = 0; l < layers; l++) {
		for (int i = 0; i < 6; i++) {
			char name[128];

			snprintf(name, sizeof(name), "model.layers.%u.%s", l,
			    part[i]);
			ok = ok && same_plain(a, b, name);
		}
	}
	return ok;
}

/* ---- a fixture ---- */

struct fixture {
	const char *name, *ref;
	enum ckpt_layout layout;
	unsigned kinds;
	bool bias;
};

enum {
	K_FLOAT = 1 << LIN_FLOAT, K_F8 = 1 << LIN_F8, K_I8 = 1 << LIN_I8,
	K_STATIC = 1 << LIN_I8_STATIC, K_BLOCK = 1 << LIN_I8_BLOCK,
};

static const struct fixture fixtures[] = {
	{ "v3-bf16", "v3-bf16", CKPT_FLOAT, K_FLOAT, false },
	{ "v2lite-bf16", "v2lite-bf16", CKPT_FLOAT, K_FLOAT, false },
	{ "v2group-bf16", "v2group-bf16", CKPT_FLOAT, K_FLOAT, false },
	{ "moonlight-bf16", "moonlight-bf16", CKPT_FLOAT, K_FLOAT, false },
	{ "moonlight-int8-channel", "moonlight-bf16", CKPT_INT8_CHANNEL, K_I8,
	    false },
	{ "v3-int8-channel", "v3-bf16", CKPT_INT8_CHANNEL, K_I8, false },
	{ "v3-int8-block", "v3-bf16", CKPT_INT8_BLOCK, K_BLOCK, false },
	{ "v3-fp8-block", "v3-bf16", CKPT_FP8_BLOCK, K_F8, false },
	{ "v3-w8a8-modelslim", "v3-bf16", CKPT_MODELSLIM,
	    K_FLOAT | K_I8 | K_STATIC, false },
	{ "v3-w8a8-goldenstick", "v3-bf16", CKPT_GOLDENSTICK,
	    K_FLOAT | K_I8 | K_STATIC, true },
};

static void
compare(const char *what, struct ckpt *c, struct ckpt *ref,
    const struct arch *a, unsigned kinds, bool bias)
{
	struct walk w = { .c = c, .ref = ref, .bias = bias };

	for (unsigned i = 0; i < a->layers && !*w.bad; i++)
		arch_each_linear(a, i, visit, &w);
	tap_ok(!*w.bad && w.n >= 24, "%s: %u linear layers stand for the "
	    "float ones %s", what, w.n, w.bad);
	tap_ok(w.kinds == kinds, "%s: kinds %#x", what, w.kinds);
	tap_ok(all_plain(c, ref, a->layers), "%s: plain tensors", what);
}

static void
test_fixture(const struct fixture *f, const char *top)
{
	char dir[512], ref[512];
	struct ckpt *c, *r;
	struct err e = {0};
	struct arch a, b;

	snprintf(dir, sizeof(dir), "%s/%s", top, f->name);
	snprintf(ref, sizeof(ref), "%s/%s", top, f->ref);
	if (tap_ok(set_open_dir(dir, &a, &c, &e) == 0 &&
	    set_open_dir(ref, &b, &r, &e) == 0, "%s opens %s", f->name,
	    e.msg)) {
		tap_ok(ckpt_layout(c) == f->layout && ckpt_mtp(c) == 0 &&
		    strlen(ckpt_digest(c)) == 64 && ckpt_bytes(c) > 60000,
		    "%s is %s", f->name, ckpt_layout_name(ckpt_layout(c)));
		compare(f->name, c, r, &a, f->kinds, f->bias);
	}
	ckpt_close(&c);
	ckpt_close(&r);
}

/* ---- rows in pieces ---- */

struct pieces {
	struct ckpt *c;
	unsigned bad;
};

static int
in_pieces(void *arg, const struct arch_lin *al)
{
	struct pieces *p = arg;
	struct ckpt_lin l;
	struct err e = {0};
	unsigned char *whole, *part;
	size_t row;

	ckpt_lin(p->c, al->name, &l, &e);
	row = (size_t)l.k * dtype_size(l.dtype);
	whole = must_new(l.n, row);
	part = must_new(l.n, row);
	p->bad += ckpt_rows(p->c, al->name, 0, l.n, whole, &e) == -1;
	for (unsigned size = 1; size < 16; size += 3) {
		memset(part, 0x55, l.n * row);
		for (unsigned r = 0; r < l.n; r += size)
			p->bad += ckpt_rows(p->c, al->name, r,
			    l.n - r < size ? l.n - r : size, part + r * row,
			    &e) == -1;
		p->bad += memcmp(whole, part, l.n * row) != 0;
	}
	free(whole);
	free(part);
	return 0;
}

static void
test_pieces(const char *dir)
{
	struct pieces p = {0};
	struct err e = {0};
	struct arch a;
	char x[8];

	if (!tap_ok(set_open_dir(dir, &a, &p.c, &e) == 0, "open %s", e.msg))
		return;
	for (unsigned i = 0; i < a.layers; i++)
		arch_each_linear(&a, i, in_pieces, &p);
	tap_ok(p.bad == 0, "rows in pieces are the rows");
	tap_ok(ckpt_rows(p.c, "model.layers.0.self_attn.o_proj", a.hidden - 1,
	    2, x, &e) == -1, "rows past the end: %s", e.msg);
	tap_ok(ckpt_rows(p.c, "model.layers.9.self_attn.o_proj", 0, 1, x,
	    &e) == -1 && strstr(e.msg, "model.layers.9"),
	    "no such layer: %s", e.msg);
	tap_ok(ckpt_block_scale(p.c, "model.layers.0.self_attn.o_proj", NULL,
	    &e) == -1, "no such scale: %s", e.msg);
	ckpt_close(&p.c);
}

/* ---- variants made here ---- */

static void
fixture(const char *name, const char *text)
{
	set_fixture(&set, tmp, name, text);
}

static int
reopen(struct arch *a, struct ckpt **c, struct err *e)
{
	return set_open(&set, tmp, a, c, e);
}

/* The set, changed, must still stand for fixture ref. */
static void
still(const char *what, const char *ref, enum ckpt_layout layout,
    unsigned kinds)
{
	struct ckpt *c = NULL, *r = NULL;
	struct err e = {0};
	struct arch a, b;
	char dir[512];

	snprintf(dir, sizeof(dir), "%s/t/fixtures/%s", tap_top(), ref);
	if (tap_ok(reopen(&a, &c, &e) == 0 &&
	    set_open_dir(dir, &b, &r, &e) == 0, "%s: opens %s", what,
	    e.msg)) {
		tap_ok(ckpt_layout(c) == layout, "%s: is %s", what,
		    ckpt_layout_name(ckpt_layout(c)));
		compare(what, c, r, &a, kinds, false);
	}
	ckpt_close(&c);
	ckpt_close(&r);
}

static bool
ends(const char *s, const char *tail)
{
	size_t n = strlen(s), m = strlen(tail);

	return n >= m && strcmp(s + n - m, tail) == 0;
}

static void
test_modelslim_forms(void)
{
	fixture("v3-w8a8-modelslim", "");
	for (size_t i = set.n; i-- > 0;) {
		struct mem *m = &set.t[i], *x;
		char name[160];

		snprintf(name, sizeof(name), "%s", m->name);
		if (ends(name, ".deq_scale")) {		/* packed into I64 */
			uint64_t n = m->dim[0];
			unsigned char *old = m->p;

			m->p = must_new(n, 8);
			for (size_t j = 0; j < n; j++)
				memcpy(m->p + 8 * j, old + 4 * j, 4);
			free(old);
			m->dtype = DT_I64;
			m->nbytes *= 2;
			name[strlen(name) - 10] = '\0';
			strncat(name, ".weight_scale", 20);
			x = set_add(&set, name, DT_F32, 2, n, 1, 0);
			x->p[3] = 0x7f;			/* ignored */
		} else if (ends(name, ".weight_scale")) {
			m->ndim = 1;			/* [n, 1] to [n] */
		} else if (ends(name, ".weight_offset")) {
			m->p[3] = 0x80;			/* -0.0 */
		} else if (ends(name, "input_layernorm.weight")) {
			name[strlen(name) - 22] = '\0';
			strncat(name, "self_attn.rotary_emb.inv_freq", 40);
			set_add(&set, name, DT_F32, 1, 3, 0, 0);
		}
	}
	still("ModelSlim, other forms", "v3-bf16", CKPT_MODELSLIM,
	    K_FLOAT | K_I8 | K_STATIC);
}

/* a's rows, then b's, of every one of outer parts. */
static void
fuse(const char *a, const char *b, const char *to, unsigned axis)
{
	struct mem *x = set_get(&set, a), *y = set_get(&set, b), *z;
	size_t outer = 1, nx, ny;
	uint64_t dim[3] = { x->dim[0], x->dim[1], x->dim[2] };

	for (unsigned i = 0; i < axis; i++)
		outer *= x->dim[i];
	dim[axis] += y->dim[axis];
	nx = x->nbytes / outer;
	ny = y->nbytes / outer;
	z = set_add(&set, to, x->dtype, x->ndim, dim[0], dim[1], dim[2]);
	for (size_t i = 0; i < outer; i++) {
		memcpy(z->p + i * (nx + ny), x->p + i * nx, nx);
		memcpy(z->p + i * (nx + ny) + nx, y->p + i * ny, ny);
	}
	set_drop(&set, a);
	set_drop(&set, b);
}

static void
fuse_pair(const char *base, const char *a, const char *b, const char *to,
    const char *suffix, unsigned axis)
{
	char x[160], y[160], z[160];

	snprintf(x, sizeof(x), "%s%s%s", base, a, suffix);
	snprintf(y, sizeof(y), "%s%s%s", base, b, suffix);
	snprintf(z, sizeof(z), "%s%s%s", base, to, suffix);
	if (axis < 9) {
		fuse(x, y, z, axis);
		return;
	}
	set_rename(&set, x, z);			/* both have the same */
	set_drop(&set, y);
}

static void
test_fused(void)
{
	static const char *const where[] = {
		"feed_forward.", "feed_forward.shared_experts.",
		"feed_forward.routed_experts.ffn."
	};
	char base[128];

	fixture("v3-w8a8-goldenstick", "");
	for (int i = 0; i < 3; i++) {
		static const char *const v[] = { "_layer.matmul.quant_bias",
		    "_layer.matmul.dequant_scale", "_layer.weight" };
		char suffix[64];

		snprintf(base, sizeof(base), "model.layers.%d.attention.", i);
		for (int j = 0; j < 3; j++) {
			snprintf(suffix, sizeof(suffix), ".%s", v[j]);
			fuse_pair(base, "q2l_proj", "kv2l", "qkv2l", suffix,
			    0);
		}
		fuse_pair(base, "q2l_proj", "kv2l", "qkv2l",
		    ".quant_op.input_zp", 9);
		fuse_pair(base, "q2l_proj", "kv2l", "qkv2l",
		    ".quant_op.input_scale", 9);
		for (int j = i ? 1 : 0; j < (i ? 3 : 1); j++) {
			snprintf(base, sizeof(base), "model.layers.%d.%s", i,
			    where[j]);
			fuse_pair(base, "w1", "w3", "w_gate_hidden",
			    "._layer.weight", j == 2 ? 2 : 0);
			fuse_pair(base, "w1", "w3", "w_gate_hidden",
			    "._layer.matmul.weight_scale", j == 2);
		}
	}
	still("Golden-Stick, fused", "v3-bf16", CKPT_GOLDENSTICK,
	    K_FLOAT | K_I8 | K_STATIC);
}

/* Norm biases under the quantiser's names. */
static void
test_beta(void)
{
	static const char l[] = "model.layers.0.attention.";
	char name[128];
	struct ckpt *c;
	struct err e = {0};
	struct arch a;
	const struct tensor *t;

	fixture("v3-w8a8-goldenstick", "");
	snprintf(name, sizeof(name), "%sq2l_proj.quant_op.beta", l);
	set_add(&set, name, DT_BF16, 1, 132, 0, 0)->p[1] = 0x40;
	snprintf(name, sizeof(name), "%skv2l.quant_op.beta", l);
	set_add(&set, name, DT_BF16, 1, 132, 0, 0)->p[1] = 0x40;
	snprintf(name, sizeof(name), "%swo.quant_op.beta", l);
	set_add(&set, name, DT_BF16, 1, 42, 0, 0);
	tap_ok(reopen(&a, &c, &e) == 0, "beta accepted %s", e.msg);
	t = c ? ckpt_plain(c, "model.layers.0.input_layernorm.bias") : NULL;
	tap_ok(t && t->dim[0] == 132, "as the norm's bias");
	ckpt_close(&c);
	snprintf(name, sizeof(name), "%skv2l.quant_op.beta", l);
	set_get(&set, name)->p[5] = 1;
	tap_ok(reopen(&a, &c, &e) == -1 && strstr(e.msg, name),
	    "two that differ refused: %s", e.msg);
}

static void
test_mtp(void)
{
	static const char mtp[] = ",\"num_nextn_predict_layers\":1";
	struct ckpt *c;
	struct err e = {0};
	struct ckpt_lin l;
	struct arch a;
	size_t n;

	fixture("v3-int8-channel", mtp);
	tap_ok(reopen(&a, &c, &e) == 0 && a.mtp == 1 && ckpt_mtp(c) == 0,
	    "MTP announced, not there %s", e.msg);
	ckpt_close(&c);
	n = set.n;
	for (size_t i = 0; i < n; i++) {	/* layer 3 like layer 2 */
		struct mem *m = &set.t[i], *x;
		char name[200];

		if (strncmp(m->name, "model.layers.2.", 15) != 0)
			continue;
		snprintf(name, sizeof(name), "model.layers.3.%s",
		    m->name + 15);
		x = set_add(&set, name, m->dtype, m->ndim, m->dim[0],
		    m->dim[1], 0);
		memcpy(x->p, m->p, m->nbytes);
	}
	set_add(&set, "model.layers.3.eh_proj.weight", DT_BF16, 2, 132, 264,
	    0);
	set_add(&set, "model.layers.3.enorm.weight", DT_BF16, 1, 132, 0, 0);
	tap_ok(reopen(&a, &c, &e) == -1 &&
	    strstr(e.msg, "model.layers.3.hnorm.weight is missing"),
	    "half of it: %s", e.msg);
	set_add(&set, "model.layers.3.hnorm.weight", DT_BF16, 1, 132, 0, 0);
	set_add(&set, "model.layers.3.shared_head.norm.weight", DT_F32, 1,
	    132, 0, 0);
	tap_ok(reopen(&a, &c, &e) == 0 && ckpt_mtp(c) == 1 &&
	    ckpt_lin(c, "model.layers.3.eh_proj", &l, &e) == 0 &&
	    l.kind == LIN_FLOAT && l.k == 264 &&
	    ckpt_lin(c, "model.layers.3.self_attn.o_proj", &l, &e) == 0 &&
	    l.kind == LIN_I8, "without embeddings of its own %s", e.msg);
	ckpt_close(&c);
	set_add(&set, "model.layers.3.embed_tokens.weight", DT_BF16, 2, 67,
	    132, 0);
	set_add(&set, "model.layers.3.shared_head.head.weight", DT_BF16, 2,
	    67, 132, 0);
	tap_ok(reopen(&a, &c, &e) == 0 && ckpt_mtp(c) == 1 &&
	    ckpt_plain(c, "model.layers.3.embed_tokens.weight"),
	    "with them %s", e.msg);
	ckpt_close(&c);
	fixture("v3-int8-channel", "");
	set_add(&set, "model.layers.3.enorm.weight", DT_BF16, 1, 132, 0, 0);
	tap_ok(reopen(&a, &c, &e) == 0 && ckpt_mtp(c) == 0,
	    "there, not announced %s", e.msg);
	ckpt_close(&c);
}

static void
test_types(void)
{
	struct ckpt *c;
	struct err e = {0};
	struct arch a;
	struct mem *m;
	float x[67 * 132];
	static const uint16_t half[] = { 0x3c00, 0xc000, 0x0001, 0x7bff };

	fixture("v3-bf16", "");
	set_drop(&set, "lm_head.weight");
	tap_ok(reopen(&a, &c, &e) == -1 &&
	    strstr(e.msg, "lm_head.weight is missing"), "%s", e.msg);
	set_config(tmp, "\"tie_word_embeddings\": false",
	    "\"tie_word_embeddings\": true");
	tap_ok(reopen(&a, &c, &e) == 0 && a.tied &&
	    !ckpt_plain(c, "lm_head.weight"), "tied: none needed");
	ckpt_close(&c);
	fixture("moonlight-bf16", "");
	tap_ok(reopen(&a, &c, &e) == 0, "no rope_scaling %s", e.msg);
	ckpt_close(&c);
	m = set_get(&set, "model.norm.weight");
	m->dtype = DT_F16;
	memcpy(m->p, half, sizeof(half));
	tap_ok(reopen(&a, &c, &e) == 0 && ckpt_plain_f32(c, ckpt_plain(c,
	    "model.norm.weight"), x, &e) == 0 && x[0] == 1 && x[1] == -2 &&
	    x[2] == 0x1p-24f && x[3] == 65504, "F16 widened %s", e.msg);
	ckpt_close(&c);
}

static void
test_digest(void)
{
	struct ckpt *c;
	struct err e = {0};
	struct arch a;
	char first[65] = "";

	fixture("v3-bf16", "");
	if (reopen(&a, &c, &e) == 0)
		snprintf(first, sizeof(first), "%s", ckpt_digest(c));
	ckpt_close(&c);
	tap_ok(reopen(&a, &c, &e) == 0 && strcmp(first, ckpt_digest(c)) == 0,
	    "the same files have the same digest");
	ckpt_close(&c);
	set.t[0].p[0] ^= 1;
	tap_ok(reopen(&a, &c, &e) == 0 && strcmp(first, ckpt_digest(c)) != 0,
	    "other weights have another");
	ckpt_close(&c);
}

static void
test_shared(void)
{
	const char *shared = getenv("DSI_SHARED");
	char top[512];
	struct stat st;

	snprintf(top, sizeof(top), "%s%s/fixtures",
	    shared ? shared : tap_top(), shared ? "" : "/../shared");
	for (size_t i = 0; i < sizeof(fixtures) / sizeof(*fixtures); i++) {
		char dir[600];

		snprintf(dir, sizeof(dir), "%s/%s", top, fixtures[i].name);
		if (stat(dir, &st) == 0)
			test_fixture(&fixtures[i], top);
	}
}

int
main(void)
{
	char top[512], path[600];

	if (!mkdtemp(tmp))
		return 111;
	snprintf(top, sizeof(top), "%s/t/fixtures", tap_top());
	for (size_t i = 0; i < sizeof(fixtures) / sizeof(*fixtures); i++)
		test_fixture(&fixtures[i], top);
	snprintf(path, sizeof(path), "%s/v3-w8a8-goldenstick", top);
	test_pieces(path);
	test_modelslim_forms();
	test_fused();
	test_beta();
	test_mtp();
	test_types();
	test_digest();
	test_shared();
	set_free(&set);
	snprintf(path, sizeof(path), "%s/model.safetensors", tmp);
	unlink(path);
	snprintf(path, sizeof(path), "%s/config.json", tmp);
	unlink(path);
	rmdir(tmp);
	return tap_done();
}
