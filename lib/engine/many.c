/*
 * many: several worlds behind one engine.
 *
 * Data parallelism without expert parallelism shares nothing, so each group is
 * a world of its own, with its own lead.  Each has a thread that makes its
 * steps; between two of them it stands still, and only then is it touched from
 * here.  A world's id n is n * worlds + its number outside.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "engine/priv.h"

enum state { STILL, STEPPING, STEPPED };

struct world {
	struct many *many;
	struct engine *g;		/* borrowed */
	pthread_t thread;
	bool started;
	enum state state;
	bool more;			/* after its last step */
	const struct engine_out *out;	/* of its last step */
	size_t nout;
	struct err err;			/* code 0: all is well */
	uint64_t *abort;		/* asked for while it was stepping */
	size_t nabort, capabort;
};

struct many {
	struct world *world;		/* [n] */
	unsigned n;
	bool quit;
	pthread_mutex_t lock;		/* of all states */
	pthread_cond_t step, stepped;
	struct engine_out *out;
	size_t capout;
	int end_fd;			/* an epoll over the worlds' */
};

/* ---- a world's thread ---- */

static void
make_step(struct world *w)
{
	int r = engine_step(w->g, &w->out, &w->nout, &w->err);

	w->more = r == 1;
	if (r == -1 && !w->err.code)
		err_set(&w->err, ERR_SYSTEM, "a world ended");
}

static void *
run_world(void *arg)
{
	struct world *w = arg;
	struct many *m = w->many;

	pthread_mutex_lock(&m->lock);
	for (;;) {
		while (w->state != STEPPING && !m->quit)
			pthread_cond_wait(&m->step, &m->lock);
		if (m->quit)
			break;
		pthread_mutex_unlock(&m->lock);
		make_step(w);
		pthread_mutex_lock(&m->lock);
		w->state = STEPPED;
		pthread_cond_signal(&m->stepped);
	}
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

static int
start(struct world *w, struct err *e)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&w->thread, NULL, run_world, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	w->started = rc == 0;
	return rc == 0 ? 0 : err_set(e, ERR_SYSTEM, "cannot start a thread");
}

/* ---- opening ---- */

/* Worlds of one rank end with this process. */
static int
watch_ends(struct many *m, struct err *e)
{
	unsigned i;

	m->end_fd = epoll_create1(EPOLL_CLOEXEC);
	if (m->end_fd == -1)
		return err_sys(e, "epoll");
	for (i = 0; i < m->n; i++) {
		struct epoll_event ev = { .events = EPOLLIN };
		int fd = engine_end_fd(m->world[i].g);

		if (fd != -1 && epoll_ctl(m->end_fd, EPOLL_CTL_ADD, fd,
			&ev) == -1)
			return err_sys(e, "epoll");
	}
	return 0;
}

int
many_end_fd(const struct many *m)
{
	return m->end_fd;
}

int
many_check(const struct many *m, struct err *e)
{
	unsigned i;

	for (i = 0; i < m->n; i++)
		if (engine_check(m->world[i].g, e) == -1)
			return -1;
	return 0;
}

int
engine_join(struct engine **gp, struct engine *const *part, unsigned n,
    struct err *e)
{
	struct engine *g = mem_new(1, sizeof *g, e);
	struct many *m = mem_new(1, sizeof *m, e);
	unsigned i;

	*gp = g;
	if (m)
		m->world = mem_new(n, sizeof *m->world, e);
	if (!g || !m || !m->world) {
		if (m)
			free(m->world);
		free(m);
		free(g);
		*gp = NULL;
		return -1;
	}
	g->many = m;
	g->o = part[0]->o;
	g->a = part[0]->a;
	g->max_len = part[0]->max_len;
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->step, NULL);
	pthread_cond_init(&m->stepped, NULL);
	m->n = n;
	for (i = 0; i < n; i++) {
		m->world[i] = (struct world){ .many = m, .g = part[i] };
		g->nblock += part[i]->nblock;
		if (part[i]->max_len < g->max_len)
			g->max_len = part[i]->max_len;
	}
	if (watch_ends(m, e) == -1)
		goto fail;
	for (i = 0; i < n; i++)
		if (start(&m->world[i], e) == -1)
			goto fail;
	return 0;
fail:
	many_close(m);
	free(g);
	*gp = NULL;
	return -1;
}

void
many_close(struct many *m)
{
	unsigned i;

	pthread_mutex_lock(&m->lock);
	m->quit = true;
	pthread_cond_broadcast(&m->step);
	pthread_mutex_unlock(&m->lock);
	for (i = 0; i < m->n; i++) {
		if (m->world[i].started)
			pthread_join(m->world[i].thread, NULL);
		free(m->world[i].abort);
	}
	if (m->end_fd != -1)
		close(m->end_fd);
	pthread_cond_destroy(&m->step);
	pthread_cond_destroy(&m->stepped);
	pthread_mutex_destroy(&m->lock);
	free(m->world);
	free(m->out);
	free(m);
}

/* ---- requests ---- */

static size_t
load(const struct engine *g)
{
	struct engine_stats st = { 0 };

	engine_stats(g, &st);
	return st.running + st.waiting;
}

/* The idlest of those that stand still; there is one after every step. */
int
many_add(struct many *m, const struct engine_seq *s, uint64_t *id,
    struct err *e)
{
	struct world *best = NULL;
	unsigned i;

	pthread_mutex_lock(&m->lock);
	for (i = 0; i < m->n; i++) {
		struct world *w = &m->world[i];

		if (w->state != STEPPING && (!best ||
		    load(w->g) < load(best->g)))
			best = w;
	}
	pthread_mutex_unlock(&m->lock);
	if (!best)
		return err_set(e, ERR_SYSTEM, "no world stands still");
	if (engine_add(best->g, s, id, e) == -1)
		return -1;
	best->more = true;
	*id = *id * m->n + (uint64_t)(best - m->world);
	return 0;
}

void
many_abort(struct many *m, uint64_t id)
{
	struct world *w = &m->world[id % m->n];

	pthread_mutex_lock(&m->lock);
	if (w->state != STEPPING)
		engine_abort(w->g, id / m->n);
	else if (mem_grow(&w->abort, &w->capabort, w->nabort + 1,
		sizeof *w->abort, NULL) == 0)
		w->abort[w->nabort++] = id / m->n;
	pthread_mutex_unlock(&m->lock);
}

/* ---- one step: of whichever world is through first ---- */

static bool
was_aborted(const struct world *w, uint64_t id)
{
	size_t i;

	for (i = 0; i < w->nabort && w->abort[i] != id; i++)
		;
	return i < w->nabort;
}

static int
collect(struct many *m, struct world *w, size_t *n, struct err *e)
{
	size_t i;

	for (i = 0; i < w->nout; i++) {
		struct engine_out *o;

		if (was_aborted(w, w->out[i].id))
			continue;
		if (mem_grow(&m->out, &m->capout, *n + 1, sizeof *o, e) == -1)
			return -1;
		o = &m->out[(*n)++];
		*o = w->out[i];
		o->id = o->id * m->n + (uint64_t)(w - m->world);
	}
	for (i = 0; i < w->nabort; i++)
		engine_abort(w->g, w->abort[i]);
	w->nabort = 0;
	w->state = STILL;
	if (w->err.code)
		return err_set(e, w->err.code, "%s", w->err.msg);
	return 0;
}

/* Under the lock: everyone who has work steps.  How many do, or have. */
static unsigned
set_off(struct many *m)
{
	unsigned i, n = 0;

	for (i = 0; i < m->n; i++) {
		struct world *w = &m->world[i];

		if (w->state == STILL && w->more)
			w->state = STEPPING;
		n += w->state != STILL;
	}
	pthread_cond_broadcast(&m->step);
	return n;
}

int
many_step(struct many *m, const struct engine_out **outs, size_t *n,
    struct err *e)
{
	unsigned stepping, i, got = 0;
	bool more = false;
	int rc = 0;

	*n = 0;
	pthread_mutex_lock(&m->lock);
	stepping = set_off(m);
	while (stepping && !got) {
		for (i = 0; i < m->n && rc == 0; i++)
			if (m->world[i].state == STEPPED) {
				rc = collect(m, &m->world[i], n, e);
				got++;
			}
		if (!got)
			pthread_cond_wait(&m->stepped, &m->lock);
	}
	for (i = 0; i < m->n; i++)
		more |= m->world[i].state != STILL || m->world[i].more;
	pthread_mutex_unlock(&m->lock);
	*outs = m->out;
	return rc == -1 ? -1 : more;
}

void
many_stats(struct many *m, struct engine_stats *st)
{
	unsigned i;

	memset(st, 0, sizeof *st);
	for (i = 0; i < m->n; i++) {
		struct engine_stats one = { 0 };

		/* A world that is stepping is counted next time. */
		pthread_mutex_lock(&m->lock);
		if (m->world[i].state != STEPPING)
			engine_stats(m->world[i].g, &one);
		pthread_mutex_unlock(&m->lock);
		st->steps += one.steps;
		st->prompt_tokens += one.prompt_tokens;
		st->generated_tokens += one.generated_tokens;
		st->cached_tokens += one.cached_tokens;
		st->preemptions += one.preemptions;
		st->running += one.running;
		st->waiting += one.waiting;
		st->blocks_used += one.blocks_used;
		st->blocks += one.blocks;
	}
}
