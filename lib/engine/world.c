/*
 * world: one engine over many ranks.
 *
 * Rank 0 tells everyone each step as a message of 32-bit words: the kind; the
 * number of parts and of rows whose logits are wanted; for each part its DP
 * group, rows, position, prompt length and number of blocks, then its tokens
 * and its blocks; for each wanted row the row and its group.  The others check
 * it as they would any input, since another build may have written it.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/priv.h"

enum { TELL_STEP = 0x50455453, TELL_END = 0x21444e45 };
enum { STEP_MS = 600000 };		/* a stage may compute for minutes */
enum { HEAD_WORDS = 3, PART_WORDS = 5, WANT_WORDS = 2 };

/* ---- joining ---- */

static void
drop_sockets(const struct engine_link *l)
{
	size_t i;

	for (i = 0; i < l->nfd; i++)
		close(l->fd[i]);
	if (l->listen_fd != -1)
		close(l->listen_fd);
	if (l->lead_fd != -1)
		close(l->lead_fd);
}

/* The largest message: every group has all its rows and sequences, and each
 * sequence all its blocks. */
static size_t
tell_cap(const struct engine *g, const struct model_opts *mo)
{
	size_t blocks = (g->max_len + mo->block_size - 1) / mo->block_size;
	size_t seq = PART_WORDS + blocks + 1;
	size_t words = g->o.max_num_seqs * seq + (1 + WANT_WORDS) *
	    mo->max_rows;

	return (HEAD_WORDS + g->layout.dp * words) * sizeof(uint32_t);
}

/* All that the ranks must have in common, for people to read. */
static void
describe(const struct engine *g, const struct model_opts *mo, char *s,
    size_t n)
{
	const struct layout *l = &g->layout;

	snprintf(s, n, "tp%u dp%u pp%u ep%u, %llu sequences of %zu, steps of "
	    "%zu, %s, blocks of %zu in %s", l->tp, l->dp, l->pp, l->ep,
	    (unsigned long long)g->o.max_num_seqs, g->max_len, mo->max_rows,
	    mo->bf16 ? "bfloat16" : "float32", mo->block_size,
	    mo->kv_f32 ? "float32" : "bfloat16");
}

int
world_open(struct engine *g, const struct model_opts *mo, struct err *e)
{
	const struct engine_link *l = g->o.link;
	struct comm_opts o = l->comm;
	char layout[160];
	int ret;

	if (model_wire(&o.wiring, &g->a, mo, e) == -1) {
		drop_sockets(l);
		return -1;
	}
	o.wiring.bcast_cap = tell_cap(g, mo);
	describe(g, mo, layout, sizeof layout);
	o.layout = layout;
	o.model = g->conversion;
	o.build = dsi_version;
	if (o.step_ms == 0)
		o.step_ms = STEP_MS;
	if (o.rank == 0)
		ret = comm_lead(&g->comm, &o, l->fd, l->nfd, l->listen_fd, e);
	else
		ret = comm_join(&g->comm, &o, l->lead_fd, e);
	if (ret == 0)
		g->all = comm_group(g->comm, o.wiring.ngroup - 1);
	model_unwire(&o.wiring);
	return ret;
}

int
world_least(struct engine *g, uint64_t *n, struct err *e)
{
	const void **got;
	struct comm_span *span;
	unsigned i, size;
	int ret = -1;

	if (g->comm == NULL)
		return 0;
	size = comm_size(g->all);
	got = mem_new(size, sizeof *got, e);
	span = mem_new(size, sizeof *span, e);
	if (!got || !span)
		goto out;
	for (i = 0; i < size; i++)
		span[i].len = sizeof *n;
	memcpy(comm_buffer(g->all), n, sizeof *n);
	comm_patience(g->comm, UINT64_MAX);
	ret = comm_share(g->all, span, span, got, e);
	comm_patience(g->comm, 0);
	for (i = 0; ret == 0 && i < size; i++) {
		uint64_t x;

		memcpy(&x, got[i], sizeof x);
		if (x < *n)
			*n = x;
	}
out:
	free(got);
	free(span);
	return ret;
}

void
world_close(struct engine *g)
{
	uint32_t end = TELL_END;

	if (g->comm && comm_rank(g->comm) == 0)
		comm_tell(g->comm, &end, sizeof end, NULL);
	comm_close(&g->comm);
}

/* ---- telling ---- */

static size_t
blocks_of(const struct engine *g, const struct model_part *p)
{
	return (p->pos + p->n + g->o.block_size - 1) / g->o.block_size;
}

static uint32_t *
put_part(const struct engine *g, const struct model_part *p, uint32_t *w)
{
	size_t blocks = blocks_of(g, p);

	*w++ = p->dp;
	*w++ = (uint32_t)p->n;
	*w++ = (uint32_t)p->pos;
	*w++ = (uint32_t)p->nprompt;
	*w++ = (uint32_t)blocks;
	memcpy(w, p->ids, p->n * sizeof *w);
	w += p->n;
	memcpy(w, p->block, blocks * sizeof *w);
	return w + blocks;
}

int
world_tell(struct engine *g, const struct flight *f, struct err *e)
{
	size_t n = HEAD_WORDS + f->njob * WANT_WORDS, i;
	uint32_t *w;

	if (g->comm == NULL)
		return 0;
	for (i = 0; i < g->npart; i++)
		n += PART_WORDS + g->part[i].n + blocks_of(g, &g->part[i]);
	if (mem_grow(&g->msg, &g->capmsg, n, sizeof *w, e) == -1)
		return -1;
	w = g->msg;
	*w++ = TELL_STEP;
	*w++ = (uint32_t)g->npart;
	*w++ = (uint32_t)f->njob;
	for (i = 0; i < g->npart; i++)
		w = put_part(g, &g->part[i], w);
	for (i = 0; i < f->njob; i++) {
		*w++ = f->job[i].row;
		*w++ = f->job[i].q->dp;
	}
	return comm_tell(g->comm, g->msg, n * sizeof *w, e);
}

/* ---- following ---- */

/* Words that are left of a message. */
struct words {
	const uint32_t *p;
	size_t n;
};

static const uint32_t *
take(struct words *w, size_t n)
{
	const uint32_t *p = w->p;

	if (n > w->n)
		return NULL;
	w->p += n;
	w->n -= n;
	return p;
}

static bool
all_below(const uint32_t *p, size_t n, uint64_t limit)
{
	size_t i;

	for (i = 0; i < n && p[i] < limit; i++)
		;
	return i == n;
}

/* Rows in *left are what the groups may still have in this step. */
static bool
take_part(const struct engine *g, struct words *w, struct model_part *p,
    size_t *left)
{
	const uint32_t *h = take(w, PART_WORDS), *ids, *block;

	if (!h || h[0] < p[0].dp || h[0] >= g->layout.dp || h[1] == 0)
		return false;
	if (h[0] > p[0].dp)
		*left = g->o.max_num_batched_tokens;
	*p = (struct model_part){ .dp = h[0], .n = h[1], .pos = h[2],
		.nprompt = h[3] };
	if (p->n > *left || p->pos + p->n > g->max_len ||
	    h[4] != blocks_of(g, p))
		return false;
	*left -= p->n;
	ids = take(w, p->n);
	block = take(w, h[4]);
	if (!ids || !block || !all_below(ids, p->n, g->a.vocab) ||
	    !all_below(block, h[4], g->nblock))
		return false;
	p->ids = (const int32_t *)(const void *)ids;
	p->block = block;
	return true;
}

static int
bad_plan(struct err *e)
{
	return err_set(e, ERR_SYSTEM, "the lead sent a plan that makes no "
	    "sense; is every rank of the same build?");
}

static int
read_parts(struct engine *g, struct words *w, size_t n, struct err *e)
{
	size_t left = g->o.max_num_batched_tokens, i;

	if (n > w->n || mem_grow(&g->part, &g->cappart, n + 1,
		sizeof *g->part, e) == -1)
		return bad_plan(e);
	g->npart = n;
	g->part[0].dp = 0;
	for (i = 0; i < n; i++) {
		if (i)
			g->part[i].dp = g->part[i - 1].dp;
		if (!take_part(g, w, &g->part[i], &left))
			return bad_plan(e);
	}
	return 0;
}

/* Logits of the rows that the lead wants: it counts them off alike. */
static int
answer(struct engine *g, struct words *w, size_t n, struct err *e)
{
	uint32_t row[LOGIT_ROWS];
	unsigned dp[LOGIT_ROWS];
	size_t rows = 0, i, k;

	for (i = 0; i < g->npart; i++)
		rows += g->part[i].n;
	for (; n > 0; n -= k) {
		k = n < LOGIT_ROWS ? n : LOGIT_ROWS;
		for (i = 0; i < k; i++) {
			const uint32_t *h = take(w, WANT_WORDS);

			if (!h || h[0] >= rows || h[1] >= g->layout.dp)
				return bad_plan(e);
			row[i] = h[0];
			dp[i] = h[1];
		}
		if (model_logits(g->m, row, dp, k, NULL, e) == -1)
			return -1;
	}
	return 0;
}

static int
one_step(struct engine *g, struct words *w, struct err *e)
{
	const uint32_t *head = take(w, HEAD_WORDS);

	if (!head || read_parts(g, w, head[1], e) == -1)
		return head ? -1 : bad_plan(e);
	if (model_step(g->m, g->part, g->npart, e) == -1)
		return -1;
	return answer(g, w, head[2], e);
}

int
engine_follow(struct engine *g, struct err *e)
{
	const void *p;
	size_t n;

	for (;;) {
		struct words w;

		if (comm_hear(g->comm, &p, &n, e) == -1)
			return -1;
		w = (struct words){ p, n / sizeof(uint32_t) };
		if (w.n && w.p[0] == TELL_END)
			return 0;
		if (w.n == 0 || w.p[0] != TELL_STEP)
			return bad_plan(e);
		if (one_step(g, &w, e) == -1) {
			comm_fail(g->comm, e->msg);
			return -1;
		}
	}
}
