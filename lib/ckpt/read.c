/*
 * read: weights and scales in Hugging Face order, whatever the file's.
 *
 * Rows that are permuted or transposed in the file are cut out of a piece of
 * it (a head's rotary rows, or one expert) that is kept until another is
 * wanted: asking in rising order reads each byte once.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/ckpt_priv.h"

enum { CHUNK = 64 << 10, TILE = 64 };

/* ---- conversions ---- */

static float
from_bits(uint32_t u)
{
	float f;

	memcpy(&f, &u, sizeof(f));
	return f;
}

static float
from_f16(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, m = h & 0x3ff;
	uint32_t x = h >> 10 & 31;

	if (x == 0)			/* subnormal: m * 2^-24 */
		return from_bits(sign | 0x3f800000) * (float)m * 0x1p-24f;
	if (x == 31)
		return from_bits(sign | 0x7f800000 | m << 13);
	return from_bits(sign | (x + 112) << 23 | m << 13);
}

void
ckpt_widen(float *out, const void *in, enum dtype t, size_t n)
{
	const unsigned char *p = in;
	size_t size = dtype_size(t);

	for (size_t i = 0; i < n; i++, p += size) {
		uint64_t u = 0;

		for (size_t j = size; j-- > 0;)
			u = u << 8 | p[j];
		switch (t) {
		case DT_BF16:
			out[i] = from_bits((uint32_t)u << 16);
			break;
		case DT_F16:
			out[i] = from_f16((uint16_t)u);
			break;
		case DT_I8:
			out[i] = (int8_t)u;
			break;
		case DT_I32:
			out[i] = (float)(int32_t)u;
			break;
		default:		/* F32, and F32 packed into I64 */
			out[i] = from_bits((uint32_t)u);
		}
	}
}

int
ckpt_check_zero(const struct entry *t, struct err *e)
{
	enum dtype d = t->t.dtype;
	bool is_real = d == DT_F16 || d == DT_BF16 || d == DT_F32;
	size_t size = dtype_size(d);
	unsigned char p[CHUNK];

	for (uint64_t at = 0; at < t->t.nbytes;) {
		size_t n = t->t.nbytes - at < CHUNK ?
		    (size_t)(t->t.nbytes - at) : CHUNK;

		if (store_read(t->s, &t->t, at, p, n, e) == -1)
			return -1;
		for (size_t i = 0; i < n; i++) {
			/* the sign of -0.0 is in an element's last byte */
			bool sign = is_real && (i + 1) % size == 0;

			if (p[i] && !(sign && p[i] == 0x80))
				return err_set(e, ERR_CALLER, "%s: tensor %s "
				    "should hold only 0: asymmetric weights "
				    "are not supported", store_path(t->s),
				    t->t.name);
		}
		at += n;
	}
	return 0;
}

/* ---- pieces of files ---- */

/* Bytes [off, off+n) of t, kept until the next call. */
static const void *
get_piece(struct ckpt *c, const struct entry *t, uint64_t off, size_t n,
    struct err *e)
{
	if (c->piece.e == t && c->piece.off == off && c->piece.n == n)
		return c->piece.p;
	c->piece.e = NULL;
	if (mem_grow(&c->piece.p, &c->piece.cap, n, 1, e) == -1 ||
	    store_read(t->s, &t->t, off, c->piece.p, n, e) == -1)
		return NULL;
	c->piece.e = t;
	c->piece.off = off;
	c->piece.n = n;
	return c->piece.p;
}

/* ---- rows ---- */

static size_t
row_bytes(const struct lin *l)
{
	return (size_t)l->al.k * dtype_size(l->w->t.dtype);
}

static int
rows_straight(const struct lin *l, const struct entry *w, unsigned row,
    unsigned nr, void *out, struct err *e)
{
	size_t n = row_bytes(l);

	return store_read(w->s, &w->t, (uint64_t)row * n, out, nr * n, e);
}

/* Where row i of r rotary rows lies: even ones first, then odd ones. */
static unsigned
half_split(unsigned i, unsigned r)
{
	return i / 2 + (i % 2 ? r / 2 : 0);
}

/* Rows [i, i+nr) of the rotary rows that begin at base. */
static int
rows_rope(struct ckpt *c, const struct lin *l, unsigned base, unsigned i,
    unsigned nr, void *out, struct err *e)
{
	unsigned r = l->head - l->plain;
	size_t n = row_bytes(l);
	const char *p;
	char *dst = out;

	p = get_piece(c, l->w, (uint64_t)(l->row0 + base) * n, r * n, e);
	if (!p)
		return -1;
	for (; nr; nr--, i++, dst += n)
		memcpy(dst, p + half_split(i, r) * n, n);
	return 0;
}

/* As many rows from r0 as lie together; 0 on failure. */
static unsigned
rows_some(struct ckpt *c, const struct lin *l, unsigned r0, unsigned nr,
    void *out, struct err *e)
{
	unsigned h = l->head ? r0 / l->head : 0, i = r0 - h * l->head;
	unsigned room = i < l->plain ? l->plain - i : l->head - i;
	unsigned tail = l->head - l->plain;
	int rc;

	if (l->map == MAP_NONE)
		return rows_straight(l, l->w, l->row0 + r0, nr, out,
		    e) == -1 ? 0 : nr;
	if (nr > room)
		nr = room;
	if (l->map == MAP_KV_B)
		rc = i < l->plain ?
		    rows_straight(l, l->w, h * l->plain + i, nr, out, e) :
		    rows_straight(l, l->w2, h * tail + i - l->plain, nr, out,
		    e);
	else if (i < l->plain)
		rc = rows_straight(l, l->w, l->row0 + r0, nr, out, e);
	else
		rc = rows_rope(c, l, h * l->head + l->plain, i - l->plain, nr,
		    out, e);
	return rc == -1 ? 0 : nr;
}

/* out[r][j] = in[j][r], elements of size bytes; in has stride elements a
 * row. */
static inline void
transpose(char *out, const char *in, size_t stride, unsigned nr, unsigned k,
    size_t size)
{
	for (unsigned r0 = 0; r0 < nr; r0 += TILE) {
		unsigned r1 = nr - r0 < TILE ? nr : r0 + TILE;

		for (unsigned j0 = 0; j0 < k; j0 += TILE) {
			unsigned j1 = k - j0 < TILE ? k : j0 + TILE;

			for (unsigned j = j0; j < j1; j++) {
				for (unsigned r = r0; r < r1; r++)
					memcpy(out + ((size_t)r * k + j) * size,
					    in + (j * stride + r) * size,
					    size);
			}
		}
	}
}

static int
rows_expert(struct ckpt *c, const struct lin *l, unsigned r0, unsigned nr,
    void *out, struct err *e)
{
	size_t size = dtype_size(l->w->t.dtype);
	size_t n = row_bytes(l) * l->total;
	const char *p;

	p = get_piece(c, l->w, (uint64_t)l->al.expert * n, n, e);
	if (!p)
		return -1;
	p += (l->row0 + r0) * size;
	if (size == 1)
		transpose(out, p, l->total, nr, l->al.k, 1);
	else if (size == 2)
		transpose(out, p, l->total, nr, l->al.k, 2);
	else
		transpose(out, p, l->total, nr, l->al.k, 4);
	return 0;
}

static struct lin *
must_find(const struct ckpt *c, const char *name, struct err *e)
{
	struct lin *l = ckpt_find_lin(c, name);

	if (!l)
		err_set(e, ERR_CALLER, "%s: no linear layer %s", c->dir, name);
	return l;
}

int
ckpt_lin(const struct ckpt *c, const char *name, struct ckpt_lin *out,
    struct err *e)
{
	const struct lin *l = must_find(c, name, e);

	if (!l)
		return -1;
	*out = (struct ckpt_lin){ l->kind, l->w->t.dtype, l->al.n, l->al.k };
	return 0;
}

int
ckpt_rows(struct ckpt *c, const char *name, unsigned r0, unsigned nr,
    void *out, struct err *e)
{
	const struct lin *l = must_find(c, name, e);
	char *dst = out;

	if (!l)
		return -1;
	if (r0 > l->al.n || nr > l->al.n - r0)
		return err_set(e, ERR_CALLER, "%s: rows %u to %u of %u", name,
		    r0, r0 + nr, l->al.n);
	if (l->map == MAP_EXPERT)
		return rows_expert(c, l, r0, nr, out, e);
	while (nr) {
		unsigned n = rows_some(c, l, r0, nr, dst, e);

		if (!n)
			return -1;
		r0 += n;
		nr -= n;
		dst += n * row_bytes(l);
	}
	return 0;
}

/* ---- vectors ---- */

/* n elements of t from element i on, as they are; free() them. */
static void *
get_raw(const struct entry *t, uint64_t i, size_t n, struct err *e)
{
	size_t size = dtype_size(t->t.dtype);
	void *p = mem_new(n, size, e);

	if (p && store_read(t->s, &t->t, i * size, p, n * size, e) == -1) {
		free(p);
		p = NULL;
	}
	return p;
}

static int
get_floats(const struct entry *t, uint64_t i, size_t n, float *out,
    struct err *e)
{
	void *p = get_raw(t, i, n, e);

	if (!p)
		return -1;
	ckpt_widen(out, p, t->t.dtype, n);
	free(p);
	for (i = 0; i < n; i++) {
		if (!isfinite(out[i]))
			return err_set(e, ERR_CALLER,
			    "%s: tensor %s: element %llu is not finite",
			    store_path(t->s), t->t.name,
			    (unsigned long long)i);
	}
	return 0;
}

/* One 4-byte value for each output, into Hugging Face order; in place. */
static int
order_rows(const struct lin *l, void *v, struct err *e)
{
	unsigned r = l->head - l->plain;
	uint32_t *p = v, *tmp;

	if (l->map != MAP_ROPE)
		return 0;
	tmp = mem_new(r, sizeof(*tmp), e);
	if (!tmp)
		return -1;
	for (unsigned at = l->plain; at < l->al.n; at += l->head) {
		memcpy(tmp, p + at, r * sizeof(*tmp));
		for (unsigned i = 0; i < r; i++)
			p[at + i] = tmp[half_split(i, r)];
	}
	free(tmp);
	return 0;
}

static int
wrong_kind(const char *name, const char *what, struct err *e)
{
	return err_set(e, ERR_CALLER, "%s has no %s", name, what);
}

int
ckpt_scale(struct ckpt *c, const char *name, float *out, struct err *e)
{
	const struct lin *l = must_find(c, name, e);
	uint64_t first;

	if (!l)
		return -1;
	if (l->kind != LIN_I8 && l->kind != LIN_I8_STATIC)
		return wrong_kind(name, "scale of its outputs", e);
	if (l->zero && ckpt_check_zero(l->zero, e) == -1)
		return -1;
	first = l->row0;
	if (l->map == MAP_EXPERT)
		first += (uint64_t)l->al.expert * l->total;
	if (get_floats(l->scale, first, l->al.n, out, e) == -1)
		return -1;
	return order_rows(l, out, e);
}

int
ckpt_block_scale(struct ckpt *c, const char *name, float *out,
    struct err *e)
{
	const struct lin *l = must_find(c, name, e);

	if (!l)
		return -1;
	if (l->kind != LIN_F8 && l->kind != LIN_I8_BLOCK)
		return wrong_kind(name, "scale of its blocks", e);
	return get_floats(l->scale, 0,
	    (size_t)(l->scale->t.dim[0] * l->scale->t.dim[1]), out, e);
}

/* A vector of the inputs; one value is spread. */
static int
get_inputs(const struct lin *l, const struct entry *t, float *out,
    struct err *e)
{
	bool one = t->t.nbytes == dtype_size(t->t.dtype);

	if (get_floats(t, 0, one ? 1 : l->al.k, out, e) == -1)
		return -1;
	for (unsigned i = 1; one && i < l->al.k; i++)
		out[i] = out[0];
	return 0;
}

int
ckpt_static(struct ckpt *c, const char *name, int32_t *bias, float *scale,
    float *offset, struct err *e)
{
	const struct lin *l = must_find(c, name, e);
	void *p;

	if (!l)
		return -1;
	if (l->kind != LIN_I8_STATIC)
		return wrong_kind(name, "static scale", e);
	p = get_raw(l->bias, l->row0, l->al.n, e);
	if (!p)
		return -1;
	memcpy(bias, p, l->al.n * sizeof(*bias));
	free(p);
	if (order_rows(l, bias, e) == -1 ||
	    get_inputs(l, l->in_scale, scale, e) == -1 ||
	    get_inputs(l, l->in_offset, offset, e) == -1)
		return -1;
	for (unsigned i = 0; i < l->al.k; i++) {
		if (!(scale[i] > 0))
			return err_set(e, ERR_CALLER,
			    "%s: tensor %s: element %u should be above 0",
			    store_path(l->in_scale->s), l->in_scale->t.name,
			    i);
	}
	return 0;
}

/* ---- plain tensors ---- */

int
ckpt_plain_read(struct ckpt *c, const struct tensor *t, uint64_t off,
    void *p, size_t n, struct err *e)
{
	const struct entry *t1 = (const struct entry *)t;

	(void)c;
	return store_read(t1->s, t, off, p, n, e);
}

int
ckpt_plain_f32(struct ckpt *c, const struct tensor *t, float *out,
    struct err *e)
{
	unsigned char p[CHUNK];
	size_t size = dtype_size(t->dtype);

	for (uint64_t at = 0; at < t->nbytes;) {
		size_t n = t->nbytes - at < CHUNK ? (size_t)(t->nbytes - at) :
		    CHUNK;

		if (ckpt_plain_read(c, t, at, p, n, e) == -1)
			return -1;
		ckpt_widen(out + at / size, p, t->dtype, n / size);
		at += n;
	}
	return 0;
}
