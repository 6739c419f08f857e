/*
 * complete: answers from an engine in this process.
 *
 * Choices are found by the engine's id in a hash table with linear probing; a
 * removed entry is filled by moving later ones up, so nothing piles up over
 * thousands of requests.
 */
#include <stdlib.h>
#include <string.h>

#include "complete/complete.h"

struct slot {
	uint64_t id;			/* 0: empty */
	struct answer *a;
	size_t choice;
};

struct complete {
	struct engine *g;
	struct slot *slot;		/* [cap], a power of two */
	size_t n, cap;
	struct answer **list;
	size_t nlist, caplist;
};

enum { FIRST_CAP = 64 };

int
complete_open(struct complete **out, struct engine *g, struct err *e)
{
	struct complete *c = mem_new(1, sizeof(*c), e);

	*out = NULL;
	if (!c)
		return -1;
	c->g = g;
	c->cap = FIRST_CAP;
	c->slot = mem_new(c->cap, sizeof(*c->slot), e);
	if (!c->slot) {
		free(c);
		return -1;
	}
	*out = c;
	return 0;
}

void
complete_close(struct complete **out)
{
	if (!*out)
		return;
	free((*out)->slot);
	free((*out)->list);
	free(*out);
	*out = NULL;
}

/* ---- the table ---- */

static size_t
home(const struct complete *c, uint64_t id)
{
	return (size_t)(id * UINT64_C(0x9e3779b97f4a7c15) >> 32) &
	    (c->cap - 1);
}

/* Its slot, or the empty one where it belongs. */
static struct slot *
find(const struct complete *c, uint64_t id)
{
	size_t i = home(c, id);

	while (c->slot[i].id && c->slot[i].id != id)
		i = (i + 1) & (c->cap - 1);
	return &c->slot[i];
}

static int
grow(struct complete *c, struct err *e)
{
	struct slot *old = c->slot;
	size_t cap = c->cap;

	if (c->n < c->cap / 2)
		return 0;
	c->slot = mem_new(cap * 2, sizeof(*c->slot), e);
	if (!c->slot) {
		c->slot = old;
		return -1;
	}
	c->cap = cap * 2;
	for (size_t i = 0; i < cap; i++) {
		if (old[i].id)
			*find(c, old[i].id) = old[i];
	}
	free(old);
	return 0;
}

static void
forget(struct complete *c, uint64_t id)
{
	struct slot *s = find(c, id);
	size_t hole = (size_t)(s - c->slot), i = hole, mask = c->cap - 1;

	if (!s->id)
		return;
	for (;;) {
		i = (i + 1) & mask;
		if (!c->slot[i].id)
			break;
		/* only one whose home is not behind the hole may move up */
		if (((i - home(c, c->slot[i].id)) & mask) >=
		    ((i - hole) & mask)) {
			c->slot[hole] = c->slot[i];
			hole = i;
		}
	}
	c->slot[hole] = (struct slot){0};
	c->n--;
}

/* ---- answers in ---- */

static int
add_choice(struct complete *c, struct answer *a, size_t i, struct err *e)
{
	struct choice *ch = &a->choice[i];
	const struct ids *ids = &a->prompt[ch->prompt].ids;
	struct sample_params p = a->req.params;	/* arrays borrowed */
	struct engine_seq s = {
		.ids = ids->p, .n = ids->n, .nprompt = ids->n, .params = &p,
		.choice = ch->index, .priority = a->req.priority,
		.cache_salt = a->req.cache_salt,
	};

	/* all choices of a prompt share what the first one finds */
	if (ch->index > 0)
		p.prompt_logprobs = SAMPLE_LOGPROBS_OFF;
	if (grow(c, e) == -1 || engine_add(c->g, &s, &ch->id, e) == -1)
		return -1;
	*find(c, ch->id) = (struct slot){ ch->id, a, i };
	c->n++;
	return 0;
}

int
complete_add(struct complete *c, struct answer *a, struct api_fail *f)
{
	*f = (struct api_fail){0};
	for (size_t i = 0; i < a->nchoice; i++) {
		if (add_choice(c, a, i, &f->e) == -1) {
			complete_cancel(c, a);
			return api_failed(f, NULL);
		}
	}
	return 0;
}

static void
drop(struct complete *c, struct choice *ch)
{
	forget(c, ch->id);
	ch->id = 0;
}

void
complete_cancel(struct complete *c, struct answer *a)
{
	for (size_t i = 0; i < a->nchoice; i++) {
		struct choice *ch = &a->choice[i];

		if (!ch->id)
			continue;
		engine_abort(c->g, ch->id);
		drop(c, ch);
		if (ch->finish == ENGINE_RUNNING)
			ch->finish = ENGINE_ABORT;
	}
	a->nlive = 0;
}

/* ---- tokens out ---- */

static int
take_prompt(struct answer *a, const struct choice *ch,
    const struct engine_out *o, struct err *e)
{
	struct answer_prompt *q = &a->prompt[ch->prompt];

	if (ch->index > 0)
		return 0;
	if (!ch->begun)
		q->ncached = o->ncached;
	for (size_t i = 0; i < o->nprompt; i++) {
		size_t at = o->prompt0 + i;
		const struct sample_logprobs *lp = &o->prompt_lp[i];
		struct api_token *k;

		if (at >= q->tokens.n || q->tokens.p[at].has_lp)
			continue;
		k = &q->tokens.p[at];
		k->lp.top = mem_new(lp->ntop, sizeof(*lp->top), e);
		if (!k->lp.top)
			return -1;
		if (lp->ntop)
			memcpy(k->lp.top, lp->top, lp->ntop * sizeof(*lp->top));
		k->lp.ntop = k->lp.captop = lp->ntop;
		k->lp.chosen = lp->chosen;
		k->has_lp = true;
	}
	return 0;
}

static int
take(struct complete *c, const struct engine_out *o, struct err *e)
{
	struct slot *s = find(c, o->id);
	struct answer *a = s->a;
	struct choice *ch;

	if (!s->id)
		return 0;
	ch = &a->choice[s->choice];
	if (take_prompt(a, ch, o, e) == -1 ||
	    choice_put(ch, o->token, o->lp, o->finish, o->stop_id, e) == -1)
		return -1;
	if (ch->finish != ENGINE_RUNNING) {
		if (o->finish == ENGINE_RUNNING)
			engine_abort(c->g, ch->id);
		drop(c, ch);
		a->nlive--;
	}
	if (a->changed)
		return 0;
	if (mem_grow(&c->list, &c->caplist, c->nlist + 1, sizeof(*c->list),
	    e) == -1)
		return -1;
	c->list[c->nlist++] = a;
	a->changed = true;
	return 0;
}

int
complete_step(struct complete *c, struct answer ***list, size_t *n,
    struct err *e)
{
	const struct engine_out *o;
	size_t nout;
	int more, rc = 0;

	*n = c->nlist = 0;
	*list = c->list;
	more = engine_step(c->g, &o, &nout, e);
	if (more == -1)
		return -1;
	for (size_t i = 0; i < nout && rc == 0; i++)
		rc = take(c, &o[i], e);
	for (size_t i = 0; i < c->nlist; i++)
		c->list[i]->changed = false;
	*list = c->list;
	*n = c->nlist;
	/* a stop string may have ended the last one that was running */
	return rc == -1 ? -1 : more && c->n;
}
