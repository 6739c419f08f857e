/*
 * join: what several ranks computed becomes one matrix on each of them.
 *
 * Nothing is added here, only moved: every number was computed whole by the
 * rank that it comes from.  Rows of attention and of dense layers go in waves,
 * because DP groups have unequal numbers of rows and all ranks of a stage must
 * come to the same exchanges.
 */
#include <string.h>

#include "model/priv.h"

/* ---- scattering ---- */

struct scatter {
	struct model *m;
	unsigned n;
	const struct piece *p;
	size_t skip;
	float *out;
	size_t ld, limit;
};

static void
scatter_part(void *arg, unsigned thread, unsigned nthreads)
{
	struct scatter *s = arg;
	unsigned i;

	for (i = 0; i < s->n; i++) {
		const struct piece *p = &s->p[i];
		const float *from = (const float *)s->m->got[i] + s->skip;
		size_t r, r1, w = p->width;

		if (p->col >= s->limit)
			continue;
		if (w > s->limit - p->col)
			w = s->limit - p->col;
		par_range(p->rows, 1, thread, nthreads, &r, &r1);
		for (; r < r1; r++)
			memcpy(s->out + (p->row0 + r) * s->ld + p->col,
			    from + r * p->width, w * sizeof *from);
	}
}

void
join_scatter(struct model *m, unsigned n, const struct piece *p, size_t skip,
    float *out, size_t ld, size_t limit)
{
	struct scatter s = { m, n, p, skip, out, ld, limit };

	par_run(m->o.par, scatter_part, &s);
}

int
join_rows(struct model *m, struct comm_group *g, const struct piece *p,
    float *out, size_t ld, size_t limit, struct err *e)
{
	unsigned n = comm_size(g), me = comm_member(g), i;

	for (i = 0; i < n; i++) {
		m->give[i] = (struct comm_span){ 0,
			p[me].rows * p[me].width * sizeof(float) };
		m->take[i] = (struct comm_span){ 0,
			p[i].rows * p[i].width * sizeof(float) };
	}
	if (comm_share(g, m->give, m->take, m->got, e) == -1)
		return -1;
	join_scatter(m, n, p, 0, out, ld, limit);
	return 0;
}

/* ---- waves ---- */

static size_t
group_rows(const struct model *m, unsigned dp)
{
	return m->dp_row[dp + 1] - m->dp_row[dp];
}

size_t
wave_count(const struct model *m)
{
	size_t most = 0;
	unsigned d;

	for (d = 0; d < m->plan.layout.dp; d++)
		if (group_rows(m, d) > most)
			most = group_rows(m, d);
	return (most + WAVE - 1) / WAVE;
}

size_t
wave_rows(const struct model *m, unsigned dp, size_t wave)
{
	size_t n = group_rows(m, dp), at = wave * WAVE;

	if (at >= n)
		return 0;
	return n - at < WAVE ? n - at : WAVE;
}

int
wave_out(struct model *m, const struct lin *l, struct act *act, size_t wave,
    struct err *e)
{
	const struct layout *lay = &m->plan.layout;
	size_t hidden = m->a.hidden, at = wave * WAVE, w = l->n;
	float *y = m->stage ? comm_buffer(m->stage) :
	    m->z + (m->own0 + at) * hidden;
	unsigned i;

	if (act) {
		lin_whole(m, l, act, y, w);
		round_rows(m, y, act->rows, w);
	}
	if (!m->stage)
		return 0;
	for (i = 0; i < m->stage_size; i++) {
		unsigned d = i / lay->tp;

		m->piece[i] = (struct piece){ .row0 = m->dp_row[d] + at,
			.rows = wave_rows(m, d, wave),
			.col = i % lay->tp * w, .width = w };
	}
	return join_rows(m, m->stage, m->piece, m->z, hidden, hidden, e);
}
