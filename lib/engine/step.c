/*
 * step: sequences in, a step, tokens out.
 *
 * A step is planned and sent off as a flight: every row whose logits someone
 * wants becomes a job, a prompt token's logprob or the draw of the next token.
 * When its logits are there the flight lands.  Jobs are independent of each
 * other and of their order, so threads share them freely.  With pipeline
 * stages as many flights are under way, and the oldest lands.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/priv.h"

/* ---- sequences ---- */

void
engine_seq_free(struct seq *q)
{
	size_t i;

	sample_free(&q->params);
	sample_seen_free(&q->seen);
	free(q->lp.top);
	for (i = 0; q->plp && i < q->nprompt; i++)
		free(q->plp[i].top);
	free(q->plp);
	free(q);
}

static bool
wants_plp(const struct seq *q)
{
	return q->params.prompt_logprobs != SAMPLE_LOGPROBS_OFF;
}

static bool
wants_seen(const struct sample_params *p)
{
	return p->repetition_penalty != 1 || p->presence_penalty != 0 ||
	    p->frequency_penalty != 0;
}

static int
check_seq(const struct engine *g, const struct engine_seq *s, struct err *e)
{
	size_t i;

	if (s->n == 0 || s->nprompt == 0 || s->nprompt > s->n)
		return err_set(e, ERR_CALLER, "the prompt is empty");
	if (s->n > g->max_len || (s->n == g->max_len &&
	    s->params->max_tokens > 0))
		return err_set(e, ERR_CALLER, "the prompt has %zu tokens; "
		    "this model's context holds %zu, of which the answer "
		    "needs at least one", s->n, g->max_len);
	for (i = 0; i < s->n; i++)
		if (s->ids[i] < 0 || (unsigned)s->ids[i] >= g->a.vocab)
			return err_set(e, ERR_CALLER, "token id %d is outside "
			    "the vocabulary, 0 to %u", (int)s->ids[i],
			    g->a.vocab - 1);
	return sample_check(s->params, g->a.vocab, e);
}

static int
fill_seen(struct seq *q, const struct engine_seq *s, struct err *e)
{
	size_t i;

	if (!wants_seen(&q->params))
		return 0;
	if (sample_seen_new(&q->seen, e) == -1)
		return -1;
	for (i = 0; i < s->n; i++)
		if (sample_seen_add(q->seen, s->ids[i], i >= s->nprompt,
			e) == -1)
			return -1;
	return 0;
}

static struct seq *
seq_new(struct engine *g, const struct engine_seq *s, struct err *e)
{
	struct seq *q = mem_new(1, sizeof *q, e);

	if (q == NULL)
		return NULL;
	q->id = g->next_id;
	q->choice = s->choice;
	q->nprompt = s->nprompt;
	q->plp_next = 1;
	if (sample_copy(&q->params, s->params, e) == -1 ||
	    fill_seen(q, s, e) == -1)
		goto bad;
	/* Unseeded requests differ from each other, and a run of the same
	 * requests in the same order repeats itself. */
	q->seed = q->params.has_seed ? (uint64_t)q->params.seed :
	    g->o.seed + q->id * 0x9e3779b97f4a7c15u;
	if (wants_plp(q)) {
		q->plp = mem_new(q->nprompt, sizeof *q->plp, e);
		if (q->plp == NULL)
			goto bad;
	}
	return q;
bad:
	engine_seq_free(q);
	return NULL;
}

/* FNV-1a: tenants are told apart, not protected from each other's guesses
 * (keys are SHA-256 over this). */
static uint64_t
salt_of(const char *s)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (; s && *s; s++)
		h = (h ^ (unsigned char)*s) * 0x100000001b3u;
	return s ? h : 0;
}

static struct sched *
sched_of(const struct engine *g, const struct seq *q)
{
	return g->group[q->dp].sched;
}

static struct seq *
find_seq(const struct engine *g, uint64_t id)
{
	struct seq *q = NULL;
	unsigned d;

	for (d = 0; d < g->layout.dp && !q; d++)
		q = sched_user(g->group[d].sched, id);
	return q;
}

/* The DP group with the fewest sequences, the first of them. */
static unsigned
idlest(const struct engine *g)
{
	size_t least = SIZE_MAX;
	unsigned d, best = 0;

	for (d = 0; d < g->layout.dp; d++) {
		const struct sched *s = g->group[d].sched;
		size_t n = sched_running(s) + sched_waiting(s);

		if (n < least) {
			least = n;
			best = d;
		}
	}
	return best;
}

int
engine_add(struct engine *g, const struct engine_seq *s, uint64_t *id,
    struct err *e)
{
	struct seq *q;

	if (g->many)
		return many_add(g->many, s, id, e);
	if (check_seq(g, s, e) == -1 || (q = seq_new(g, s, e)) == NULL)
		return -1;
	q->dp = idlest(g);
	if (sched_add(sched_of(g, q), q->id, s->ids, s->n, s->nprompt,
		s->priority, salt_of(s->cache_salt), wants_plp(q),
		q, e) == -1) {
		engine_seq_free(q);
		return -1;
	}
	*id = q->id;
	g->next_id++;
	return 0;
}

/* Outputs may still point into it: freed by the next step. */
static void
bury(struct engine *g, struct seq *q)
{
	sched_remove(sched_of(g, q), q->id);
	q->next_dead = g->dead;
	g->dead = q;
}

static void
free_dead(struct engine *g)
{
	struct seq *q;

	while ((q = g->dead) != NULL) {
		g->dead = q->next_dead;
		engine_seq_free(q);
	}
}

void
engine_abort(struct engine *g, uint64_t id)
{
	struct seq *q = g->many ? NULL : find_seq(g, id);

	if (g->many)
		many_abort(g->many, id);
	if (q && sched_busy(sched_of(g, q), id))
		q->aborted = true;	/* buried when it lands */
	else if (q)
		bury(g, q);
}

/* ---- jobs ---- */

static int
add_job(struct flight *f, const struct sched_part *p, uint32_t row,
    size_t place, struct err *e)
{
	struct job *j;

	if (mem_grow(&f->job, &f->capjob, f->njob + 1, sizeof *j, e) == -1)
		return -1;
	j = &f->job[f->njob++];
	memset(j, 0, sizeof *j);
	j->q = p->user;
	j->row = row;
	j->place = place;
	j->out = f->nout - 1;
	j->ids = p->ids;
	j->len = p->len;
	return 0;
}

/* The output of one part, and its jobs; row0 is its first row. */
static int
part_jobs(struct flight *f, const struct sched_part *p, uint32_t row0,
    struct err *e)
{
	struct seq *q = p->user;
	struct engine_out *o;
	size_t i;

	if (mem_grow(&f->out, &f->capout, f->nout + 1, sizeof *o, e) == -1)
		return -1;
	o = &f->out[f->nout++];
	*o = (struct engine_out){ .id = p->id, .token = -1, .stop_id = -1,
		.ncached = p->ncached };
	if (wants_plp(q)) {
		o->prompt0 = q->plp_next;
		for (i = p->pos; i < p->pos + p->n && i + 1 < q->nprompt; i++)
			if (i + 1 == q->plp_next) {
				if (add_job(f, p, row0 + (i - p->pos), i + 1,
					e) == -1)
					return -1;
				q->plp_next++;
			}
		o->nprompt = q->plp_next - o->prompt0;
		o->prompt_lp = q->plp + o->prompt0;
	}
	if (p->sample && q->params.max_tokens == 0)
		o->finish = ENGINE_LENGTH;
	else if (p->sample)
		return add_job(f, p, row0 + p->n - 1, 0, e);
	return 0;
}

static void
draw(struct engine *g, struct job *j, struct sample_scratch **s)
{
	struct seq *q = j->q;
	const struct sample_params *p = &q->params;
	struct sample_ctx c = {
		.seed = q->seed,
		.choice = q->choice,
		.nout = j->len - q->nprompt,
		.out = j->ids + q->nprompt,
		.seen = q->seen,
		.eos = g->a.eos,
		.neos = g->a.neos,
	};

	if (sample_draw(&j->token, j->logits, g->a.vocab, p, &c, s,
		&j->err) == -1)
		return;
	if (p->logprobs != SAMPLE_LOGPROBS_OFF)
		sample_logprobs(&q->lp, j->logits, g->a.vocab, j->token,
		    p->logprobs, &j->err);
}

static size_t
jobs_now(const struct engine *g)
{
	size_t n = g->landing->njob - g->job0;

	return n < LOGIT_ROWS ? n : LOGIT_ROWS;
}

static void
run_jobs(void *arg, unsigned thread, unsigned nthreads)
{
	struct engine *g = arg;
	size_t n = jobs_now(g), i;

	for (i = thread; i < n; i += nthreads) {
		struct job *j = &g->landing->job[g->job0 + i];

		j->logits = g->logits + i * g->a.vocab;
		if (j->place)
			sample_logprobs(&j->q->plp[j->place], j->logits,
			    g->a.vocab, j->ids[j->place],
			    j->q->params.prompt_logprobs, &j->err);
		else
			draw(g, j, &g->scratch[thread]);
	}
}

static int
all_jobs(struct engine *g, struct flight *f, struct err *e)
{
	uint32_t row[LOGIT_ROWS];
	unsigned dp[LOGIT_ROWS];
	size_t n, i;

	g->landing = f;
	for (g->job0 = 0; g->job0 < f->njob; g->job0 += n) {
		n = jobs_now(g);
		for (i = 0; i < n; i++) {
			row[i] = f->job[g->job0 + i].row;
			dp[i] = f->job[g->job0 + i].q->dp;
		}
		if (model_logits(g->m, row, dp, n, g->logits, e) == -1)
			return -1;
		par_run(g->par, run_jobs, g);
		for (i = 0; i < n; i++) {
			const struct err *je = &f->job[g->job0 + i].err;

			if (je->code)
				return err_set(e, je->code, "%s", je->msg);
		}
	}
	return 0;
}

/* ---- after the step ---- */

static bool
has_id(const int32_t *set, size_t n, int32_t id)
{
	size_t i;

	for (i = 0; i < n && set[i] != id; i++)
		;
	return i < n;
}

static enum engine_finish
finish_of(const struct engine *g, const struct seq *q, size_t nout,
    size_t len, int32_t token, int32_t *stop_id)
{
	const struct sample_params *p = &q->params;

	if ((int64_t)nout >= p->min_tokens) {
		if (!p->ignore_eos && has_id(g->a.eos, g->a.neos, token))
			return ENGINE_STOP;
		if (has_id(p->stop_id, p->nstop_id, token)) {
			*stop_id = token;
			return ENGINE_STOP;
		}
	}
	if ((int64_t)nout >= p->max_tokens || len >= g->max_len)
		return ENGINE_LENGTH;
	return ENGINE_RUNNING;
}

static int
take_token(struct engine *g, struct flight *f, const struct job *j,
    struct err *e)
{
	struct engine_out *o = &f->out[j->out];
	struct seq *q = j->q;
	size_t len = j->len + 1;

	o->token = j->token;
	o->lp = q->params.logprobs != SAMPLE_LOGPROBS_OFF ? &q->lp : NULL;
	o->finish = finish_of(g, q, len - q->nprompt, len, j->token,
	    &o->stop_id);
	g->st.generated_tokens++;
	if (o->finish != ENGINE_RUNNING)
		return 0;
	if (q->seen && sample_seen_add(q->seen, j->token, true, e) == -1)
		return -1;
	return sched_token(sched_of(g, q), q->id, j->token, e);
}

static int
give_out(struct engine *g, size_t *n, const struct engine_out *o,
    struct err *e)
{
	if (mem_grow(&g->outs, &g->capouts, *n + 1, sizeof *o, e) == -1)
		return -1;
	g->outs[(*n)++] = *o;
	return 0;
}

static int
take_all(struct engine *g, struct flight *f, size_t *n, struct err *e)
{
	unsigned d;
	size_t i;

	for (d = 0; d < g->layout.dp; d++)
		if (f->has[d])
			sched_done(g->group[d].sched);
	for (i = 0; i < f->njob; i++)
		if (f->job[i].place == 0 && !f->job[i].q->aborted &&
		    take_token(g, f, &f->job[i], e) == -1)
			return -1;
	for (i = 0; i < f->nout; i++) {
		struct seq *q = find_seq(g, f->out[i].id);

		if (!q->aborted && give_out(g, n, &f->out[i], e) == -1)
			return -1;
		if (q->aborted || f->out[i].finish != ENGINE_RUNNING)
			bury(g, q);
	}
	return 0;
}

/* ---- sending off ---- */

/* The parts of one DP group, rows from *row on. */
static int
lay_out(struct engine *g, struct flight *f, unsigned dp,
    const struct sched_part *p, size_t np, uint32_t *row, struct err *e)
{
	size_t i;

	if (mem_grow(&g->part, &g->cappart, g->npart + np, sizeof *g->part,
		e) == -1)
		return -1;
	for (i = 0; i < np; i++) {
		g->part[g->npart++] = (struct model_part){
			.dp = dp,
			.ids = p[i].ids + p[i].pos,
			.n = p[i].n,
			.pos = p[i].pos,
			.nprompt = p[i].nprompt,
			.block = p[i].block,
		};
		if (part_jobs(f, &p[i], *row, e) == -1)
			return -1;
		*row += p[i].n;
		if (p[i].first)
			g->st.cached_tokens += p[i].ncached;
		if (p[i].pos < p[i].nprompt)
			g->st.prompt_tokens += p[i].n;
	}
	return 0;
}

/* A sequence that can't go on by itself ends here, and says so. */
static int
give_up(struct engine *g, uint64_t id, struct err *e)
{
	struct seq *q = find_seq(g, id);

	if (q == NULL || mem_grow(&g->quit, &g->capquit, g->nquit + 1,
		sizeof *g->quit, e) == -1)
		return -1;
	g->quit[g->nquit++] = (struct engine_out){ .id = id, .token = -1,
		.stop_id = -1, .finish = ENGINE_LENGTH };
	bury(g, q);
	return 0;
}

static int
plan_group(struct engine *g, struct flight *f, unsigned dp, uint32_t *row,
    struct err *e)
{
	const struct sched_part *p;
	uint64_t stuck;
	size_t np;

	while (sched_plan(g->group[dp].sched, &p, &np, &stuck, e) == -1)
		if (stuck == 0 || give_up(g, stuck, e) == -1)
			return -1;
	f->has[dp] = np > 0;
	return lay_out(g, f, dp, p, np, row, e);
}

/* 1: a step is under way in f; 0: there is nothing that could be. */
static int
send_off(struct engine *g, struct flight *f, struct err *e)
{
	uint32_t row = 0;
	unsigned d;

	f->nout = f->njob = g->npart = 0;
	for (d = 0; d < g->layout.dp; d++)
		if (plan_group(g, f, d, &row, e) == -1)
			return -1;
	if (row == 0)
		return 0;
	if (world_tell(g, f, e) == -1 ||
	    model_step(g->m, g->part, g->npart, e) == -1)
		return -1;
	g->st.steps++;
	return 1;
}

/* ---- one step ---- */

static int
land(struct engine *g, size_t *n, struct err *e)
{
	struct flight *f = &g->flight[g->oldest];

	if (all_jobs(g, f, e) == -1 || take_all(g, f, n, e) == -1)
		return -1;
	g->oldest = (g->oldest + 1) % g->layout.pp;
	g->nflight--;
	return 0;
}

static bool
has_work(const struct engine *g)
{
	unsigned d;

	for (d = 0; d < g->layout.dp; d++)
		if (sched_running(g->group[d].sched) +
		    sched_waiting(g->group[d].sched) > 0)
			return true;
	return false;
}

int
engine_step(struct engine *g, const struct engine_out **outs, size_t *n,
    struct err *e)
{
	size_t i;
	int r = 1;

	if (g->many)
		return many_step(g->many, outs, n, e);
	*n = g->nquit = 0;
	free_dead(g);
	while (g->nflight < g->layout.pp && r == 1) {
		r = send_off(g, &g->flight[(g->oldest + g->nflight) %
		    g->layout.pp], e);
		if (r == -1)
			return -1;
		g->nflight += r;
	}
	if (g->nflight && land(g, n, e) == -1)
		return -1;
	for (i = 0; i < g->nquit; i++)
		if (give_out(g, n, &g->quit[i], e) == -1)
			return -1;
	*outs = g->outs;
	return has_work(g);
}
