/*
 * unit: streams the tensors of one file name to all ranks at once.
 *
 * A chunk of whole source rows is read, converted once, and cut for each
 * class of ranks that want the same piece; so a source byte is read once
 * whatever the layout.  Chunks begin at multiples of 16 rows of the rank's
 * own rows, because packed tiles hold 16: that is why the rows go by segments
 * of one rank's height.
 */
#include <stdlib.h>
#include <string.h>

#include "kern.h"
#include "shard/shard_priv.h"

enum { CHUNK = 4 << 20, NO_CLASS = -1 };	/* elements; no slice */

struct class {
	struct slice s;
	int32_t *colsum;	/* [16*tiles]; blocks: [kb][16*tiles] */
};

struct stream {
	const struct item *it;
	const struct source *src;
	struct part *part;
	unsigned nparts;
	int *class_of;			/* [nparts] */
	struct class *class;		/* [nclass] */
	unsigned nclass;
	struct scales sc;
	struct scratch *m;
	struct bar *bar;
	struct err *e;
};

/* ---- memory ---- */

static int
grow(void **p, size_t *cap, size_t n, struct err *e)
{
	if (n <= *cap)
		return 0;
	free(*p);
	*cap = 0;
	*p = mem_new(n, 1, e);
	if (!*p)
		return -1;
	*cap = n;
	return 0;
}

void
scratch_free(struct scratch *m)
{
	free(m->in);
	free(m->f32);
	free(m->out);
	free(m->pack);
	free(m->pad);
	*m = (struct scratch){0};
}

static void
class_reset(struct stream *st)
{
	for (unsigned c = 0; c < st->nclass; c++)
		free(st->class[c].colsum);
	st->nclass = 0;
	free(st->sc.row);
	free(st->sc.block);
	free(st->sc.bias);
	free(st->sc.in_scale);
	free(st->sc.in_offset);
	st->sc = (struct scales){0};
}

/* ---- who gets what ---- */

static bool
same(const struct slice *a, const struct slice *b)
{
	return a->n0 == b->n0 && a->n1 == b->n1;
}

static size_t
padded(const struct slice *s)
{
	return kern_ntile(s->n1 - s->n0) * KERN_TILE_N;
}

static int
new_class(struct stream *st, const struct slice *s)
{
	struct class *c = &st->class[st->nclass];
	size_t blocks = st->it->kind == LIN_I8_BLOCK ?
	    item_blocks(st->it) : 1;

	c->s = *s;
	c->colsum = NULL;
	if (st->it->dtype == DT_I8) {
		c->colsum = mem_new(blocks * padded(s), sizeof(int32_t),
		    st->e);
		if (!c->colsum)
			return -1;
	}
	return (int)st->nclass++;
}

static int
classify(struct stream *st, const struct arch *a)
{
	for (unsigned i = 0; i < st->nparts; i++) {
		struct slice s = item_slice(st->it, a, st->part[i].plan);
		int c = (int)st->nclass;

		st->class_of[i] = NO_CLASS;
		if (s.n0 == s.n1)
			continue;
		while (--c >= 0 && !same(&st->class[c].s, &s))
			;
		if (c < 0)
			c = new_class(st, &s);
		if (c < 0)
			return -1;
		st->class_of[i] = c;
	}
	return 0;
}

/* ---- putting ---- */

static int
put(struct stream *st, unsigned class, const void *p, size_t n)
{
	for (unsigned i = 0; i < st->nparts; i++) {
		if (st->class_of[i] != (int)class)
			continue;
		if (store_put(st->part[i].w, p, n, st->e) == -1)
			return -1;
		bar_add(st->bar, n);
	}
	return 0;
}

static int
next(struct stream *st, int class, const char *suffix)
{
	char name[160];

	snprintf(name, sizeof(name), "%s%s", st->it->name, suffix);
	for (unsigned i = 0; i < st->nparts; i++) {
		if (st->class_of[i] != class)
			continue;
		if (store_next(st->part[i].w, name, st->e) == -1)
			return -1;
	}
	return 0;
}

static int
put_whole(struct stream *st, unsigned class, const char *suffix,
    const void *p, size_t n)
{
	if (next(st, (int)class, suffix) == -1)
		return -1;
	return put(st, class, p, n);
}

/* ---- rows ---- */

static int
read_rows(struct stream *st, unsigned r0, unsigned nr)
{
	const struct item *it = st->it;
	size_t row = (size_t)it->src.k * dtype_size(it->src.dtype);

	if (grow(&st->m->in, &st->m->in_cap, nr * row, st->e) == -1)
		return -1;
	if (it->type == ITEM_LIN)
		return st->src->rows(st->src->ctx, &it->lin, r0, nr,
		    st->m->in, st->e);
	return st->src->plain_read(st->src->ctx, it->t, r0 * row, st->m->in,
	    nr * row, st->e);
}

/* The chunk in m->in as the file will have it, at *out. */
static int
convert(struct stream *st, unsigned r0, unsigned nr, const void **out)
{
	const struct item *it = st->it;
	struct scratch *m = st->m;
	size_t n = (size_t)nr * it->src.k;
	unsigned bad;

	*out = m->in;
	if (it->kind == it->src.kind && it->dtype == it->src.dtype)
		return 0;
	if (grow(&m->f32, &m->f32_cap, n * sizeof(float), st->e) == -1)
		return -1;
	rows_to_f32(m->f32, m->in, &it->src, &st->sc, r0, nr);
	*out = m->f32;
	if (it->dtype == DT_F32)
		return 0;
	if (grow(&m->out, &m->out_cap, n * dtype_size(it->dtype),
	    st->e) == -1)
		return -1;
	*out = m->out;
	if (it->dtype == DT_BF16)
		f32_to_bf16(m->out, m->f32, n);
	else if (rows_quantize(m->out, st->sc.row + r0, m->f32, nr,
	    it->src.k, &bad) == -1)
		return err_set(st->e, ERR_CALLER, "%s: row %u holds a weight "
		    "that is not finite", it->name, r0 + bad);
	return 0;
}

/* Column sums of a chunk for each block of 128 inputs. */
static void
block_sums(struct class *c, const int8_t *rows, unsigned at, unsigned nr,
    unsigned k)
{
	size_t ld = padded(&c->s);

	for (unsigned b = 0; b * LIN_BLOCK < k; b++) {
		unsigned x0 = b * LIN_BLOCK, x1 = x0 + LIN_BLOCK;

		x1 = x1 > k ? k : x1;
		kern_pack_i8(NULL, c->colsum + b * ld + at, rows + x0, k, nr,
		    x1 - x0);
	}
}

static int
put_packed(struct stream *st, unsigned class, const int8_t *rows,
    unsigned r0, unsigned nr)
{
	struct class *c = &st->class[class];
	size_t k = st->it->src.k, at = r0 - c->s.n0;
	size_t n = kern_ntile(nr) * kern_k4(k) * KERN_TILE_N * KERN_TILE_K;
	bool blocks = st->it->kind == LIN_I8_BLOCK;

	if (grow(&st->m->pack, &st->m->pack_cap, n, st->e) == -1)
		return -1;
	kern_pack_i8(st->m->pack, blocks ? NULL : c->colsum + at, rows, k, nr,
	    k);
	if (blocks)
		block_sums(c, rows, (unsigned)at, nr, (unsigned)k);
	return put(st, class, st->m->pack, n);
}

/* Rows [r0, r0+nr) in the file's dtype. */
static int
put_rows(struct stream *st, unsigned class, const void *rows, unsigned r0,
    unsigned nr)
{
	if (st->it->dtype == DT_I8)
		return put_packed(st, class, rows, r0, nr);
	return put(st, class, rows,
	    nr * st->it->src.k * dtype_size(st->it->dtype));
}

/* Rows [r0, r0+nr) in the file's dtype; those past the item's own are 0. */
static int
chunk(struct stream *st, unsigned r0, unsigned nr, const void **rows)
{
	size_t row = (size_t)st->it->src.k * dtype_size(st->it->dtype);
	unsigned have = st->it->src.n, real = r0 < have ? have - r0 : 0;

	real = real < nr ? real : nr;
	if (real && (read_rows(st, r0, real) == -1 ||
	    convert(st, r0, real, rows) == -1))
		return -1;
	if (real == nr)
		return 0;
	if (grow(&st->m->pad, &st->m->pad_cap, nr * row, st->e) == -1)
		return -1;
	if (real)
		memcpy(st->m->pad, *rows, real * row);
	memset((char *)st->m->pad + real * row, 0, (nr - real) * row);
	*rows = st->m->pad;
	return 0;
}

/* All rows of the classes that start at row s0; they end at s1. */
static int
stream_segment(struct stream *st, unsigned s0, unsigned s1)
{
	unsigned step = CHUNK / st->it->src.k / KERN_TILE_N * KERN_TILE_N;
	const void *rows = NULL;
	unsigned r, nr;

	step = step ? step : KERN_TILE_N;
	for (r = s0; r < s1; r += nr) {
		nr = s1 - r < step ? s1 - r : step;
		if (chunk(st, r, nr, &rows) == -1)
			return -1;
		for (unsigned c = 0; c < st->nclass; c++)
			if (st->class[c].s.n0 == s0 &&
			    put_rows(st, c, rows, r, nr) == -1)
				return -1;
	}
	return 0;
}

/* Where the last slice ends, its padding included. */
static unsigned
rows_end(const struct stream *st)
{
	unsigned end = st->it->src.n;

	for (unsigned c = 0; c < st->nclass; c++)
		if (st->class[c].s.n1 > end)
			end = st->class[c].s.n1;
	return end;
}

/* All slices of one item have the same height, and start at its multiples. */
static int
stream_rows(struct stream *st)
{
	unsigned height = st->class[0].s.n1 - st->class[0].s.n0;
	unsigned end = rows_end(st);

	for (unsigned s0 = 0; s0 < end; s0 += height) {
		bool wanted = false;

		for (unsigned c = 0; c < st->nclass; c++)
			wanted |= st->class[c].s.n0 == s0;
		if (wanted && stream_segment(st, s0, s0 + height) == -1)
			return -1;
	}
	return 0;
}

/* ---- scales ---- */

static float *
floats(size_t n, struct err *e)
{
	return mem_new(n, sizeof(float), e);
}

static int
load_scales(struct stream *st)
{
	const struct ckpt_lin *l = &st->it->src;
	const struct arch_lin *lin = &st->it->lin;
	const struct source *s = st->src;
	struct scales *sc = &st->sc;

	if (st->it->type != ITEM_LIN)
		return 0;
	sc->row = floats(rows_end(st), st->e);
	if (!sc->row)
		return -1;
	switch (l->kind) {
	case LIN_FLOAT:
		return 0;
	case LIN_F8:
	case LIN_I8_BLOCK:
		sc->block = floats((size_t)((l->n - 1) / LIN_BLOCK + 1) *
		    ((l->k - 1) / LIN_BLOCK + 1), st->e);
		if (!sc->block)
			return -1;
		return s->block_scale(s->ctx, lin, sc->block, st->e);
	case LIN_I8:
		return s->scale(s->ctx, lin, sc->row, st->e);
	case LIN_I8_STATIC:
		break;
	}
	sc->bias = mem_new(rows_end(st), sizeof(int32_t), st->e);
	sc->in_scale = floats(l->k, st->e);
	sc->in_offset = floats(l->k, st->e);
	if (!sc->bias || !sc->in_scale || !sc->in_offset ||
	    s->scale(s->ctx, lin, sc->row, st->e) == -1)
		return -1;
	return s->fixed(s->ctx, lin, sc->bias, sc->in_scale, sc->in_offset,
	    st->e);
}

/* Scales of fp8 rows [n][kb], or of int8 blocks [kb][n]. */
static int
put_block_scale(struct stream *st, unsigned class)
{
	const struct slice *s = &st->class[class].s;
	size_t n = s->n1 - s->n0, nb = item_blocks(st->it);
	size_t size = n * nb * sizeof(float);
	bool by_row = st->it->kind == LIN_F8;
	float *out;

	if (grow(&st->m->pack, &st->m->pack_cap, size, st->e) == -1)
		return -1;
	out = st->m->pack;
	memset(out, 0, size);
	for (size_t r = 0; r < n && s->n0 + r < st->it->src.n; r++)
		for (size_t b = 0; b < nb; b++)
			out[by_row ? r * nb + b : b * n + r] = st->sc.block[
			    (s->n0 + r) / LIN_BLOCK * nb + b];
	return put_whole(st, class, ".block_scale", out, size);
}

/* What follows the weight, in the order of item_declare. */
static int
put_scales(struct stream *st, unsigned class)
{
	const struct class *c = &st->class[class];
	const struct slice *s = &c->s;
	size_t n = s->n1 - s->n0, k = st->it->src.k;
	size_t sums = padded(s) * sizeof(int32_t);

	switch (st->it->kind) {
	case LIN_FLOAT:
		return 0;
	case LIN_F8:
		return put_block_scale(st, class);
	case LIN_I8_BLOCK:
		if (put_whole(st, class, ".colsum", c->colsum,
		    item_blocks(st->it) * sums) == -1)
			return -1;
		return put_block_scale(st, class);
	case LIN_I8:
	case LIN_I8_STATIC:
		break;
	}
	if (put_whole(st, class, ".colsum", c->colsum, sums) == -1 ||
	    put_whole(st, class, ".scale", st->sc.row + s->n0, 4 * n) == -1)
		return -1;
	if (st->it->kind == LIN_I8)
		return 0;
	if (put_whole(st, class, ".bias", st->sc.bias + s->n0, 4 * n) == -1 ||
	    put_whole(st, class, ".input_scale", st->sc.in_scale,
	    4 * k) == -1)
		return -1;
	return put_whole(st, class, ".input_offset", st->sc.in_offset,
	    4 * k);
}

/* ---- items ---- */

static int
stream_vector(struct stream *st)
{
	size_t n = st->it->src.n;

	if (grow(&st->m->f32, &st->m->f32_cap, 4 * n, st->e) == -1 ||
	    st->src->plain_f32(st->src->ctx, st->it->t, st->m->f32,
	    st->e) == -1)
		return -1;
	return put_whole(st, 0, "", st->m->f32, 4 * n);
}

static int
stream_item(struct stream *st, const struct arch *a)
{
	if (classify(st, a) == -1)
		return -1;
	if (st->nclass == 0)
		return 0;
	if (st->it->type == ITEM_VEC)
		return stream_vector(st);
	if (load_scales(st) == -1)
		return -1;
	for (unsigned c = 0; c < st->nclass; c++)
		if (next(st, (int)c, st->it->type == ITEM_LIN ? ".weight" :
		    "") == -1)
			return -1;
	if (stream_rows(st) == -1)
		return -1;
	for (unsigned c = 0; c < st->nclass; c++)
		if (put_scales(st, c) == -1)
			return -1;
	return 0;
}

int
items_stream(const struct items *l, const struct source *s,
    const struct arch *a, struct part *parts, unsigned nparts,
    struct scratch *m, struct bar *bar, struct err *e)
{
	struct stream st = { .src = s, .part = parts, .nparts = nparts,
	    .m = m, .bar = bar, .e = e };
	int rc = -1;

	st.class_of = mem_new(nparts, sizeof(*st.class_of), e);
	st.class = mem_new(nparts, sizeof(*st.class), e);
	if (st.class_of && st.class)
		rc = 0;
	for (size_t i = 0; i < l->n && rc == 0; i++) {
		st.it = &l->p[i];
		rc = stream_item(&st, a);
		class_reset(&st);
	}
	free(st.class_of);
	free(st.class);
	return rc;
}
