/*
 * weights: rank files into memory, and every tensor in its place.
 *
 * A file is read whole, by all threads, into huge pages; tensors then point
 * into it.  Reading beats mapping the file because decode streams all weights
 * once a token and 4 KiB pages cost a third of the bandwidth (design,
 * decision 3).
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "model/priv.h"

enum { READ_CHUNK = 8 << 20 };

/* ---- files ---- */

struct reading {
	const struct image *im;
	atomic_size_t next;		/* the next chunk's offset */
	struct err *err;		/* [threads] */
};

/* The whole file as one tensor, so that store_read reads header and all. */
static struct tensor
whole(const struct image *im)
{
	struct tensor t = { .name = "(file)", .nbytes = im->size };

	return t;
}

static void
read_chunks(void *arg, unsigned thread, unsigned nthreads)
{
	struct reading *r = arg;
	struct tensor t = whole(r->im);

	(void)nthreads;
	for (;;) {
		size_t off = atomic_fetch_add(&r->next, READ_CHUNK);
		size_t n = READ_CHUNK;

		if (off >= r->im->size)
			return;
		if (n > r->im->size - off)
			n = r->im->size - off;
		if (store_read(r->im->store, &t, off, r->im->p + off, n,
			&r->err[thread]) == -1)
			return;
	}
}

static size_t
file_size(const struct store *s)
{
	size_t i, n = store_count(s), end = 0;

	for (i = 0; i < n; i++) {
		const struct tensor *t = store_at(s, i);

		if (t->off + t->nbytes > end)
			end = t->off + t->nbytes;
	}
	return end;
}

static int
image_map(struct image *im, const char *path, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd == -1)
		return err_sys(e, "open %s", path);
	im->p = mmap(NULL, im->size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (im->p == MAP_FAILED) {
		im->p = NULL;
		return err_sys(e, "map %s", path);
	}
	im->mapped = true;
	return 0;
}

static void
image_drop(struct image *im)
{
	if (im->mapped)
		munmap(im->p, im->size);
	else
		mem_unmap(im->p, im->size);
	store_close(&im->store);
}

static int
image_load(struct model *m, const char *path, struct bar *bar, struct err *e)
{
	struct image *im = &m->image[m->nimage];
	unsigned i, n = par_threads(m->o.par);
	struct reading r = { .im = im };
	int ret = -1;

	if (store_open(&im->store, path, e) == -1)
		return -1;
	m->nimage++;
	im->size = file_size(im->store);
	if (m->o.map) {
		m->weight_bytes += im->size;
		return image_map(im, path, e);
	}
	if ((im->p = mem_map(im->size, e)) == NULL)
		return err_wrap(e, "%s", path);
	m->weight_bytes += im->size;
	if ((r.err = mem_new(n, sizeof *r.err, e)) == NULL)
		return -1;
	par_run(m->o.par, read_chunks, &r);
	for (i = 0; i < n && !r.err[i].code; i++)
		;
	if (i < n)
		err_set(e, r.err[i].code, "%s", r.err[i].msg);
	else
		ret = 0;
	if (bar)
		bar_add(bar, im->size);
	free(r.err);
	return ret;
}

/* ---- tensors ---- */

static const struct tensor *
find(const struct image *im, const char *name, const char *suffix)
{
	char s[160];

	snprintf(s, sizeof s, "%s%s", name, suffix);
	return store_find(im->store, s);
}

const void *
image_get(const struct image *im, const char *name, enum dtype want,
    unsigned ndim, const uint64_t *dim, struct err *e)
{
	const struct tensor *t = store_find(im->store, name);

	if (t == NULL) {
		err_set(e, ERR_CALLER, "%s: tensor %s is missing",
		    store_path(im->store), name);
		return NULL;
	}
	if (t->dtype != want || t->ndim != ndim ||
	    memcmp(t->dim, dim, ndim * sizeof *dim) != 0) {
		err_set(e, ERR_CALLER,
		    "%s: tensor %s has not the dtype and shape that "
		    "config.json asks for; run dsi-shard again",
		    store_path(im->store), name);
		return NULL;
	}
	return im->p + t->off;
}

static const void *
get1(const struct image *im, const char *name, const char *suffix,
    enum dtype want, uint64_t n, struct err *e)
{
	char s[160];

	snprintf(s, sizeof s, "%s%s", name, suffix);
	return image_get(im, s, want, 1, &n, e);
}

static const void *
get2(const struct image *im, const char *name, const char *suffix,
    enum dtype want, uint64_t n, uint64_t k, struct err *e)
{
	uint64_t dim[2] = { n, k };
	char s[160];

	snprintf(s, sizeof s, "%s%s", name, suffix);
	return image_get(im, s, want, 2, dim, e);
}

/* A norm's weight, and its bias where there is one. */
static int
get_norm(const struct image *im, const char *name, unsigned n,
    const float **w, const float **b, struct err *e)
{
	if ((*w = get1(im, name, ".weight", DT_F32, n, e)) == NULL)
		return -1;
	if (b && find(im, name, ".bias"))
		return (*b = get1(im, name, ".bias", DT_F32, n, e)) ? 0 : -1;
	return 0;
}

/* ---- linear layers ---- */

static int
get_float(const struct image *im, const char *name, struct lin *l,
    struct err *e)
{
	l->kind = LIN_FLOAT;
	l->w = get2(im, name, ".weight", l->wtype, l->n, l->k, e);
	return l->w ? 0 : -1;
}

static int
get_f8(const struct image *im, const char *name, struct lin *l, struct err *e)
{
	unsigned kb = (l->k + LIN_BLOCK - 1) / LIN_BLOCK;

	l->kind = LIN_F8;
	l->w = get2(im, name, ".weight", DT_F8, l->n, l->k, e);
	if (l->w)
		l->bscale = get2(im, name, ".block_scale", DT_F32, l->n, kb, e);
	return l->w && l->bscale ? 0 : -1;
}

static int
get_i8(const struct image *im, const char *name, struct lin *l, struct err *e)
{
	uint64_t nt = kern_ntile(l->n), k4 = kern_k4(l->k);
	uint64_t dim[4] = { nt, k4, KERN_TILE_N, KERN_TILE_K };
	unsigned kb = (l->k + LIN_BLOCK - 1) / LIN_BLOCK;
	char s[160];

	snprintf(s, sizeof s, "%s.weight", name);
	if ((l->w = image_get(im, s, DT_I8, 4, dim, e)) == NULL)
		return -1;
	if (find(im, name, ".block_scale")) {
		l->kind = LIN_I8_BLOCK;
		l->bscale = get2(im, name, ".block_scale", DT_F32, kb, l->n, e);
		l->colsum = get2(im, name, ".colsum", DT_I32, kb,
		    nt * KERN_TILE_N, e);
		return l->bscale && l->colsum ? 0 : -1;
	}
	l->kind = LIN_I8;
	l->scale = get1(im, name, ".scale", DT_F32, l->n, e);
	l->colsum = get1(im, name, ".colsum", DT_I32, nt * KERN_TILE_N, e);
	if (!l->scale || !l->colsum)
		return -1;
	if (!find(im, name, ".input_scale"))
		return 0;
	l->kind = LIN_I8_STATIC;
	l->bias = get1(im, name, ".bias", DT_I32, l->n, e);
	l->in_scale = get1(im, name, ".input_scale", DT_F32, l->k, e);
	l->in_off = get1(im, name, ".input_offset", DT_F32, l->k, e);
	return l->bias && l->in_scale && l->in_off ? 0 : -1;
}

static int
get_lin(const struct image *im, const char *name, unsigned n, unsigned k,
    struct lin *l, struct err *e)
{
	const struct tensor *t = find(im, name, ".weight");

	if (t == NULL)
		return err_set(e, ERR_CALLER, "%s: tensor %s.weight is missing",
		    store_path(im->store), name);
	l->n = n;
	l->k = k;
	l->wtype = t->dtype;
	switch (t->dtype) {
	case DT_BF16:
	case DT_F32:
		return get_float(im, name, l, e);
	case DT_F8:
		return get_f8(im, name, l, e);
	case DT_I8:
		return get_i8(im, name, l, e);
	default:
		return err_set(e, ERR_CALLER,
		    "%s: tensor %s.weight is %s; rank files hold "
		    "BF16, F32, F8_E4M3 or I8", store_path(im->store), name,
		    dtype_name(t->dtype));
	}
}

/* Where a layer of the model keeps one of its linear layers. */
static struct lin *
place(struct layer *l, const struct arch_lin *al)
{
	struct mlp *p = al->expert >= 0 ? &l->expert[al->expert] : &l->dense;

	switch (al->part) {
	case ARCH_Q_PROJ:	return &l->q;
	case ARCH_Q_A:		return &l->q_a;
	case ARCH_Q_B:		return &l->q_b;
	case ARCH_KV_A:		return &l->kv_a;
	case ARCH_KV_B:		return &l->kv_b;
	case ARCH_O:		return &l->o;
	case ARCH_GATE:		return &p->gate;
	case ARCH_UP:		return &p->up;
	case ARCH_DOWN:		return &p->down;
	default:		return NULL;
	}
}

struct filling {
	struct model *m;
	const struct image *im;
	struct err *e;
};

static int
fill_lin(void *arg, const struct arch_lin *al)
{
	struct filling *f = arg;
	struct layer *l = &f->m->layer[al->layer];
	struct lin *at = place(l, al);
	unsigned n0, n1;

	plan_slice(&f->m->plan, &f->m->a, al, &n0, &n1);
	if (at == NULL || n0 == n1)
		return 0;
	if (al->part == ARCH_GATE && al->expert < 0)
		l->has_dense = true;
	return get_lin(f->im, al->name, n1 - n0, al->k, at, f->e);
}

static int
fill_router(struct model *m, const struct image *im, unsigned i,
    struct err *e)
{
	struct layer *l = &m->layer[i];
	char s[112];

	l->moe = true;
	snprintf(s, sizeof s, "model.layers.%u.mlp.gate", i);
	if (get_lin(im, s, m->a.experts, m->a.hidden, &l->router, e) == -1)
		return -1;
	if (!find(im, s, ".e_score_correction_bias"))
		return 0;
	l->router_b = get1(im, s, ".e_score_correction_bias", DT_F32,
	    m->a.experts, e);
	return l->router_b ? 0 : -1;
}

static int
fill_norms(struct model *m, const struct image *im, unsigned i, struct err *e)
{
	const struct arch *a = &m->a;
	struct layer *l = &m->layer[i];
	char s[112];

#define NAME(x) (snprintf(s, sizeof s, "model.layers.%u." x, i), s)
	if (get_norm(im, NAME("input_layernorm"), a->hidden, &l->attn_norm,
		&l->attn_norm_b, e) == -1 ||
	    get_norm(im, NAME("post_attention_layernorm"), a->hidden,
		&l->ffn_norm, NULL, e) == -1 ||
	    get_norm(im, NAME("self_attn.kv_a_layernorm"), a->kv_lora,
		&l->kv_norm, NULL, e) == -1)
		return -1;
	if (a->q_lora && get_norm(im, NAME("self_attn.q_a_layernorm"),
		a->q_lora, &l->q_norm, &l->q_norm_b, e) == -1)
		return -1;
#undef NAME
	return 0;
}

static int
fill_layer(struct model *m, unsigned i, struct err *e)
{
	struct filling f = { m, &m->image[m->nimage - 1], e };

	if (arch_is_moe(&m->a, i)) {
		m->layer[i].expert = mem_new(m->a.experts, sizeof(struct mlp),
		    e);
		if (m->layer[i].expert == NULL ||
		    fill_router(m, f.im, i, e) == -1)
			return -1;
	}
	if (fill_norms(m, f.im, i, e) == -1)
		return -1;
	return arch_each_linear(&m->a, i, fill_lin, &f);
}

static int
fill_embed(struct model *m, struct err *e)
{
	struct lin l = { 0 };

	if (get_lin(&m->image[m->nimage - 1], "model.embed_tokens",
		m->a.vocab, m->a.hidden, &l, e) == -1)
		return -1;
	m->embed = l.w;
	m->embed_type = l.wtype;
	return 0;
}

static int
fill_head(struct model *m, struct err *e)
{
	const struct image *im = &m->image[m->nimage - 1];

	if (get_lin(im, "lm_head", m->plan.vocab1 - m->plan.vocab0,
		m->a.hidden, &m->head, e) == -1)
		return -1;
	return get_norm(im, "model.norm", m->a.hidden, &m->norm, NULL, e);
}

/* One of the rank's files; the last image is then its. */
static int
load_file(struct model *m, const char *dir, const char *name, struct bar *bar,
    struct err *e)
{
	struct buf b = { 0 };
	int ret = -1;

	buf_printf(&b, "%s/rank-%05u/%s.safetensors", dir, m->plan.rank, name);
	if (buf_ok(&b, e) == 0)
		ret = image_load(m, b.p, bar, e);
	buf_free(&b);
	return ret;
}

int
weights_load(struct model *m, const char *dir, struct bar *bar, struct err *e)
{
	char name[32];
	unsigned i;

	m->image = mem_new(m->a.layers + 2, sizeof *m->image, e);
	m->layer = mem_new(m->a.layers, sizeof *m->layer, e);
	if (!m->image || !m->layer)
		return -1;
	if (m->plan.first && (load_file(m, dir, "embed", bar, e) == -1 ||
	    fill_embed(m, e) == -1))
		return -1;
	for (i = m->plan.layer0; i < m->plan.layer1; i++) {
		snprintf(name, sizeof name, "layer-%03u", i);
		if (load_file(m, dir, name, bar, e) == -1 ||
		    fill_layer(m, i, e) == -1)
			return -1;
	}
	if (m->plan.last && (load_file(m, dir, "head", bar, e) == -1 ||
	    fill_head(m, e) == -1))
		return -1;
	return 0;
}

void
weights_free(struct model *m)
{
	size_t i;

	for (i = 0; i < m->nimage; i++)
		image_drop(&m->image[i]);
	for (i = 0; m->layer && i < m->a.layers; i++)
		free(m->layer[i].expert);
	free(m->image);
	free(m->layer);
}

/* ---- by name ---- */

struct search {
	const struct model *m;
	const char *name;
	const struct lin *l;
};

static int
match(void *arg, const struct arch_lin *al)
{
	struct search *s = arg;

	if (strcmp(al->name, s->name) != 0)
		return 0;
	s->l = place(&s->m->layer[al->layer], al);
	return -1;
}

const struct lin *
weights_find(const struct model *m, const char *name)
{
	struct search s = { m, name, NULL };
	unsigned i;

	for (i = 0; i < m->a.layers && !s.l; i++)
		arch_each_linear(&m->a, i, match, &s);
	return s.l;
}
