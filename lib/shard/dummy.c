/*
 * dummy: a whole model of random weights, from config.json alone.
 *
 * A weight is a signed byte q times c.  The bytes are a function of the seed,
 * the tensor's name, the row and the place in it, so every layout cuts the
 * same model; and each dtype is a table of 256 values q * c, so the bf16, fp8
 * and int8 models of one seed differ by rounding only.  c is 1 / 64 sqrt(k):
 * outputs are about as large as inputs.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shard/shard_priv.h"

struct made {			/* a plain tensor that was asked for */
	struct made *next;
	struct tensor t;
	float c;			/* 0: all elements are fill */
	float fill;
	char name[];
};

struct dummy {
	const struct arch *a;
	uint64_t seed;
	enum lin_kind kind;		/* of config.json */
	bool int8;
	struct made *made;
	unsigned char table[256 * 4];
};

/* splitmix64's finisher (Steele, Lea, Flood 2014) */
static inline uint64_t
mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static uint64_t
name_key(const struct dummy *d, const char *name)
{
	uint64_t h = 0xcbf29ce484222325u;	/* FNV-1a */

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 0x100000001b3u;
	return mix(h ^ mix(d->seed + 1));
}

/* The bytes of one row: n of them, padded up to whole words. */
static void
row_words(uint64_t *out, size_t nwords, uint64_t key, unsigned row)
{
	uint64_t x = mix(key + row * 0x9e3779b97f4a7c15u);

	for (size_t i = 0; i < nwords; i++)
		out[i] = mix(x += 0x9e3779b97f4a7c15u);
}

/* ---- a byte in each dtype ---- */

static uint16_t
f16_bits(float x)
{
	uint16_t sign = x < 0 ? 0x8000 : 0;
	float m;
	int ex;

	x = fabsf(x);
	if (x < 0x1p-14f)
		return sign | (uint16_t)rintf(x * 0x1p24f);
	m = frexpf(x, &ex);		/* x = m * 2^ex, 0.5 <= m < 1 */
	return sign | (uint16_t)((ex + 13) * 1024 +
	    (int)rintf(m * 2048));	/* a carry runs into the exponent */
}

/* The e4m3 code nearest to an integer of at most 128. */
static unsigned char
f8_bits(int q)
{
	int x = abs(q), ex = 0;

	if (x == 0)
		return 0;
	while (x >> (ex + 1))
		ex++;			/* 2^ex <= x */
	x = (int)rint(ldexp(x, 3 - ex));	/* 8..16 eighths */
	return (unsigned char)((q < 0 ? 0x80 : 0) | ((ex + 6) * 8 + x));
}

static void
fill_table(struct dummy *d, enum dtype t, float c)
{
	for (int b = 0; b < 256; b++) {
		int q = b < 128 ? b : b - 256;
		float x = (float)q * c;
		unsigned char *p = d->table + b * dtype_size(t);
		uint16_t h;

		switch (t) {
		case DT_I8:
			*p = (unsigned char)b;
			break;
		case DT_F8:
			*p = f8_bits(q);
			break;
		case DT_BF16:
			f32_to_bf16(&h, &x, 1);
			memcpy(p, &h, 2);
			break;
		case DT_F16:
			h = f16_bits(x);
			memcpy(p, &h, 2);
			break;
		default:
			memcpy(p, &x, 4);
		}
	}
}

enum { WORDS = 512 };

static void
expand(void *out, const uint64_t *words, size_t n, size_t size,
    const unsigned char *table)
{
	const unsigned char *in = (const unsigned char *)words;

	if (size == 1) {
		unsigned char *o = out;

		for (size_t i = 0; i < n; i++)
			o[i] = table[in[i]];
	} else if (size == 2) {
		uint16_t *o = out;

		for (size_t i = 0; i < n; i++)
			memcpy(&o[i], table + 2 * in[i], 2);
	} else {
		uint32_t *o = out;

		for (size_t i = 0; i < n; i++)
			memcpy(&o[i], table + 4 * in[i], 4);
	}
}

/* Rows [r0, r0+nr) of a tensor, [nr][k] of dtype t */
static void
make_rows(struct dummy *d, const char *name, enum dtype t, float c,
    unsigned r0, unsigned nr, size_t k, void *out)
{
	uint64_t words[WORDS], key = name_key(d, name);
	unsigned char *p = out;
	size_t size = dtype_size(t);

	fill_table(d, t, c);
	for (unsigned r = 0; r < nr; r++) {
		for (size_t at = 0; at < k; at += sizeof(words)) {
			size_t n = k - at;

			if (n > sizeof(words))
				n = sizeof(words);
			row_words(words, (n + 7) / 8,
			    key + at * 0xd6e8feb86659fd93u, r0 + r);
			if (t == DT_I8)
				memcpy(p, words, n);
			else
				expand(p, words, n, size, d->table);
			p += n * size;
		}
	}
}

/* ---- linear layers ---- */

static float
lin_c(const struct arch_lin *lin)
{
	return 1.0f / (64.0f * sqrtf((float)lin->k));
}

static enum dtype
float_dtype(const struct arch *a)
{
	return a->dtype == ARCH_BF16 ? DT_BF16 :
	    a->dtype == ARCH_F16 ? DT_F16 : DT_F32;
}

static int
dummy_lin(void *ctx, const struct arch_lin *lin, struct ckpt_lin *l,
    struct err *e)
{
	const struct dummy *d = ctx;
	bool mtp = lin->layer >= d->a->layers;
	enum lin_kind kind = d->kind;

	(void)e;
	if (lin->part == ARCH_EH)
		kind = LIN_FLOAT;
	else if (d->int8 && !mtp && lin->part != ARCH_KV_B)
		kind = LIN_I8;
	else if (kind != LIN_F8 && (mtp || lin->part == ARCH_KV_B))
		kind = LIN_FLOAT;	/* as publishers of int8 models do */
	*l = (struct ckpt_lin){ kind, kind == LIN_FLOAT ? float_dtype(d->a) :
	    kind == LIN_F8 ? DT_F8 : DT_I8, lin->n, lin->k };
	return 0;
}

static int
dummy_rows(void *ctx, const struct arch_lin *lin, unsigned r0, unsigned nr,
    void *out, struct err *e)
{
	struct ckpt_lin l;

	if (dummy_lin(ctx, lin, &l, e) == -1)
		return -1;
	make_rows(ctx, lin->name, l.dtype, lin_c(lin), r0, nr, lin->k, out);
	return 0;
}

static int
dummy_scale(void *ctx, const struct arch_lin *lin, float *out, struct err *e)
{
	(void)ctx, (void)e;
	for (unsigned i = 0; i < lin->n; i++)
		out[i] = lin_c(lin);
	return 0;
}

static int
dummy_block_scale(void *ctx, const struct arch_lin *lin, float *out,
    struct err *e)
{
	size_t n = (size_t)((lin->n + LIN_BLOCK - 1) / LIN_BLOCK) *
	    ((lin->k + LIN_BLOCK - 1) / LIN_BLOCK);

	(void)ctx, (void)e;
	for (size_t i = 0; i < n; i++)
		out[i] = lin_c(lin);
	return 0;
}

static int
dummy_fixed(void *ctx, const struct arch_lin *lin, int32_t *bias,
    float *scale, float *offset, struct err *e)
{
	(void)ctx, (void)bias, (void)scale, (void)offset;
	return err_set(e, ERR_CALLER, "%s: random weights have no static "
	    "scales", lin->name);
}

/* ---- plain tensors ---- */

static bool
ends(const char *s, const char *with)
{
	size_t n = strlen(s), m = strlen(with);

	return n >= m && strcmp(s + n - m, with) == 0;
}

/* Shape and content by name; false: the model has no such tensor. */
static bool
describe(const struct arch *a, const char *name, struct made *m)
{
	struct tensor *t = &m->t;

	*t = (struct tensor){ .dtype = DT_F32, .ndim = 1 };
	t->dim[0] = a->hidden;
	m->c = 0;
	m->fill = 1;
	if (ends(name, ".e_score_correction_bias")) {
		t->dim[0] = a->experts;
		m->fill = 0;
		return a->topk_method == ARCH_NOAUX_TC;
	}
	if (ends(name, ".bias"))
		return false;
	if (ends(name, "norm.weight")) {
		if (ends(name, ".q_a_layernorm.weight"))
			t->dim[0] = a->q_lora;
		if (ends(name, ".kv_a_layernorm.weight"))
			t->dim[0] = a->kv_lora;
		return true;
	}
	if (a->tied && strcmp(name, "lm_head.weight") == 0)
		return false;
	t->dtype = float_dtype(a);
	t->ndim = 2;
	t->dim[0] = ends(name, ".gate.weight") ? a->experts : a->vocab;
	t->dim[1] = a->hidden;
	m->c = 1.0f / 64;
	if (!ends(name, ".embed_tokens.weight"))
		m->c /= sqrtf((float)a->hidden);
	return true;
}

static const struct tensor *
dummy_plain(void *ctx, const char *name, struct err *e)
{
	struct dummy *d = ctx;
	size_t n = strlen(name) + 1;
	struct made *m = mem_new(1, sizeof(*m) + n, e);

	if (!m)
		return NULL;
	if (!describe(d->a, name, m)) {
		free(m);
		return NULL;
	}
	memcpy(m->name, name, n);
	m->t.name = m->name;
	m->t.nbytes = dtype_size(m->t.dtype) * m->t.dim[0] *
	    (m->t.ndim == 2 ? m->t.dim[1] : 1);
	m->next = d->made;
	d->made = m;
	return &m->t;
}

static struct made *
find(const struct dummy *d, const struct tensor *t)
{
	struct made *m = d->made;

	while (m && &m->t != t)
		m = m->next;
	return m;
}

static int
dummy_plain_read(void *ctx, const struct tensor *t, uint64_t off, void *p,
    size_t n, struct err *e)
{
	const struct made *m = find(ctx, t);
	size_t row = t->ndim == 2 ? t->dim[1] * dtype_size(t->dtype) : 0;

	if (!m || !row || off % row || n % row)
		return err_set(e, ERR_CALLER, "%s: not whole rows", t->name);
	make_rows(ctx, t->name, t->dtype, m->c, (unsigned)(off / row),
	    (unsigned)(n / row), t->dim[1], p);
	return 0;
}

static int
dummy_plain_f32(void *ctx, const struct tensor *t, float *out, struct err *e)
{
	const struct made *m = find(ctx, t);

	if (!m || m->t.ndim != 1)
		return err_set(e, ERR_CALLER, "%s: not a vector", t->name);
	for (uint64_t i = 0; i < t->dim[0]; i++)
		out[i] = m->fill;
	return 0;
}

static void
dummy_close(void *ctx)
{
	struct dummy *d = ctx;

	while (d->made) {
		struct made *m = d->made;

		d->made = m->next;
		free(m);
	}
	free(d);
}

/* ---- opening ---- */

static int
pick_kind(enum lin_kind *kind, const struct json *config, struct err *e)
{
	static const struct {
		const char *method;
		enum lin_kind kind;
	} known[] = {
		{ "fp8", LIN_F8 }, { "compressed-tensors", LIN_I8 },
		{ "w8a8_int8", LIN_I8 }, { "int8", LIN_I8 },
		{ "blockwise_int8", LIN_I8_BLOCK },
	};
	const struct json *q = json_get(config, "quantization_config");
	const char *method = "", *format = "int-quantized";

	*kind = LIN_FLOAT;
	if (!q || json_type(q) == JSON_NULL)
		return 0;
	if (json_opt_str(q, "quant_method", &method, e) == -1 ||
	    json_opt_str(q, "format", &format, e) == -1)
		return err_wrap(e, "quantization_config");
	if (strcmp(format, "int-quantized") != 0)
		return err_set(e, ERR_CALLER, "quantization_config.format "
		    "must be int-quantized, not \"%s\"", format);
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (strcmp(method, known[i].method) == 0) {
			*kind = known[i].kind;
			return 0;
		}
	return err_set(e, ERR_CALLER, "quantization_config.quant_method must "
	    "be fp8, compressed-tensors, w8a8_int8 or blockwise_int8, "
	    "not \"%s\"", method);
}

int
source_dummy(struct source *s, const struct arch *a,
    const struct json *config, uint64_t seed, bool int8, struct err *e)
{
	struct dummy *d = mem_new(1, sizeof(*d), e);
	char what[64];
	int n;

	if (!d)
		return -1;
	d->a = a;
	d->seed = seed;
	d->int8 = int8;
	n = snprintf(what, sizeof(what), "dummy 1 seed %llu",
	    (unsigned long long)seed);
	if (pick_kind(&d->kind, config, e) == -1 ||
	    sha256_mem(what, (size_t)n, s->digest, e) == -1) {
		free(d);
		return -1;
	}
	s->ctx = d;
	s->layout = "dummy";
	s->mtp = a->mtp;
	s->lin = dummy_lin;
	s->rows = dummy_rows;
	s->scale = dummy_scale;
	s->block_scale = dummy_block_scale;
	s->fixed = dummy_fixed;
	s->plain = dummy_plain;
	s->plain_read = dummy_plain_read;
	s->plain_f32 = dummy_plain_f32;
	s->close = dummy_close;
	return 0;
}
