/*
 * join8: rows that several ranks made, joined as the int8 that the next layer
 * reads: a quarter of the bytes.
 *
 * A row has one scale whatever the layout, so first the ranks' maxima go
 * round, then the rows.  Few rows take one exchange of floats instead
 * (join.c): there an exchange costs more than its bytes.  Static scales are
 * known, and need no maxima.  The bits are the same by each way.
 */
#include <string.h>

#include "model/priv.h"

bool
join8_pays(const struct lin *l, size_t rows)
{
	return l->kind == LIN_I8_STATIC ||
	    (l->kind == LIN_I8 && rows >= JOIN8_ROWS);
}

struct joining {
	struct model *m;
	const struct mat8 *mat;
	unsigned nmat, size;
	float *max;		/* the maxima of all rows, one after another */
	int8_t *q;		/* the rows, likewise */
};

static bool
is_static(const struct mat8 *t)
{
	return t->l->kind == LIN_I8_STATIC;
}

static size_t
first_max(const struct joining *j, unsigned k)
{
	size_t n = 0;

	while (k-- > 0)
		n += is_static(&j->mat[k]) ? 0 : j->mat[k].rows;
	return n;
}

static size_t
first_byte(const struct joining *j, unsigned k)
{
	size_t n = 0;

	while (k-- > 0)
		n += j->mat[k].rows * j->mat[k].w;
	return n;
}

/* Matrices that members a and b both have are first in the list: a prefix. */
static unsigned
common(const struct joining *j, unsigned a, unsigned b)
{
	unsigned k = 0;

	while (k < j->nmat && a - j->mat[k].first < j->mat[k].members &&
	    b - j->mat[k].first < j->mat[k].members)
		k++;
	return k;
}

static int
exchange(const struct joining *j, struct comm_group *g,
    size_t (*first)(const struct joining *, unsigned), size_t unit,
    struct err *e)
{
	struct model *m = j->m;
	unsigned me = comm_member(g), i;

	for (i = 0; i < j->size; i++)
		m->give[i] = m->take[i] = (struct comm_span){ 0,
			first(j, common(j, me, i)) * unit };
	return comm_share(g, m->give, m->take, m->got, e);
}

/* ---- scales ---- */

static void
find_maxima(void *arg, unsigned thread, unsigned nthreads)
{
	struct joining *j = arg;
	unsigned k;

	for (k = 0; k < j->nmat; k++) {
		const struct mat8 *t = &j->mat[k];
		float *to = j->max + first_max(j, k);
		size_t r, r1;

		if (is_static(t))
			continue;
		par_range(t->rows, 1, thread, nthreads, &r, &r1);
		for (; r < r1; r++)
			to[r] = kern.absmax(t->part + r * t->w, t->w);
	}
}

static void
set_scales(const struct joining *j)
{
	const void *const *got = j->m->got;
	unsigned k, i;
	size_t r;

	for (k = 0; k < j->nmat; k++) {
		const struct mat8 *t = &j->mat[k];
		size_t at = first_max(j, k);

		for (r = 0; !is_static(t) && r < t->rows; r++) {
			float max = 0;

			for (i = t->first; i < t->first + t->members; i++) {
				float x = ((const float *)got[i])[at + r];

				max = x > max ? x : max;
			}
			t->sx[r * t->ldsx] = act_scale(max);
		}
	}
}

/* ---- rows ---- */

static void
quantise(void *arg, unsigned thread, unsigned nthreads)
{
	struct joining *j = arg;
	unsigned k;

	for (k = 0; k < j->nmat; k++) {
		const struct mat8 *t = &j->mat[k];
		int8_t *to = j->q + first_byte(j, k);
		size_t r, r1;

		par_range(t->rows, 1, thread, nthreads, &r, &r1);
		for (; r < r1; r++)
			if (is_static(t))
				kern.quant_vec(to + r * t->w,
				    t->part + r * t->w, t->l->in_scale +
				    t->col, t->l->in_off + t->col, t->w);
			else
				kern.quant(to + r * t->w, t->part + r * t->w,
				    t->sx[r * t->ldsx], t->w);
	}
}

static void
scatter(void *arg, unsigned thread, unsigned nthreads)
{
	struct joining *j = arg;
	unsigned k, i;

	for (k = 0; k < j->nmat; k++) {
		const struct mat8 *t = &j->mat[k];
		size_t at = first_byte(j, k), n = t->w * t->members, r, r1;

		par_range(t->rows, 1, thread, nthreads, &r, &r1);
		for (; r < r1; r++) {
			int8_t *q = t->q + r * t->ldq;

			for (i = 0; i < t->members; i++)
				memcpy(q + i * t->w, (const int8_t *)
				    j->m->got[t->first + i] + at + r * t->w,
				    t->w);
			memset(q + n, 0, t->ldq - n);
		}
	}
}

int
join8(struct model *m, struct comm_group *g, const struct mat8 *mat,
    unsigned nmat, struct err *e)
{
	struct joining j = { .m = m, .mat = mat, .nmat = nmat,
		.size = comm_size(g) };

	/* A member may have none of it, but comes to each exchange. */
	if (nmat == 0 || !is_static(&mat[0])) {
		j.max = comm_buffer(g);
		par_run(m->o.par, find_maxima, &j);
		if (exchange(&j, g, first_max, sizeof *j.max, e) == -1)
			return -1;
		set_scales(&j);
	}
	j.q = comm_buffer(g);
	par_run(m->o.par, quantise, &j);
	if (exchange(&j, g, first_byte, 1, e) == -1)
		return -1;
	par_run(m->o.par, scatter, &j);
	return 0;
}
