/*
 * lead: the ranks of a world started, joined, and watched.
 *
 * Three can notice that a rank is gone: its parent (here), the lead's
 * connection to it, and whoever waits for it.  The parent knows how, so what
 * it learns is handed to comm, which tells everyone.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "launch/launch.h"

enum { HOW = 1100, END_MS = 5000, CAUSE_MS = 300 };

static const char prefix[] = "dsi-worker: ";

struct lead {
	struct lead_calls calls;
	struct launch *launch;
	struct engine *engine;
	pthread_mutex_t lock;		/* of comm and how */
	struct comm *comm;		/* NULL: not yet, or no more */
	bool bad;			/* a rank ended badly; the first: */
	unsigned rank;
	char how[HOW];
};

/* ---- what launch's thread tells ---- */

static void
on_line(void *arg, unsigned rank, const char *text)
{
	struct lead *l = arg;

	/* What dsi-worker itself says is its last words: they come with the
	 * news of its end. */
	if (strncmp(text, prefix, sizeof prefix - 1) != 0 && l->calls.line)
		l->calls.line(l->calls.arg, rank, text);
}

/* "exit 111: dsi-worker: cannot ..." without what readers know. */
static const char *
plain(const char *how)
{
	const char *p = strstr(how, prefix);

	return p ? p + sizeof prefix - 1 : how;
}

static void
on_end(void *arg, unsigned rank, bool good, const char *how)
{
	struct lead *l = arg;

	pthread_mutex_lock(&l->lock);
	if (!good && !l->bad) {
		l->bad = true;
		l->rank = rank;
		snprintf(l->how, sizeof l->how, "%s", plain(how));
	}
	if (!good && l->comm)
		comm_obituary(l->comm, rank, plain(how));
	pthread_mutex_unlock(&l->lock);
}

static void
set_comm(struct lead *l, struct comm *c)
{
	pthread_mutex_lock(&l->lock);
	l->comm = c;
	pthread_mutex_unlock(&l->lock);
}

/* A rank that ended before the world began is the cause of what went wrong
 * then; its parent may hear of it last. */
static void
find_cause(struct lead *l, struct err *e)
{
	const struct timespec nap = { 0, CAUSE_MS * 1000000L / 10 };
	int i;

	for (i = 0; i < 10; i++) {
		pthread_mutex_lock(&l->lock);
		if (l->bad)
			err_set(e, ERR_SYSTEM, "rank %u: %.900s", l->rank,
			    l->how);
		pthread_mutex_unlock(&l->lock);
		if (l->bad)
			return;
		nanosleep(&nap, NULL);
	}
}

/* ---- opening ---- */

/* Starts the node's ranks; those of other nodes are counted. */
static int
start_ranks(struct lead *l, const struct deploy *d, unsigned w,
    struct engine_link *link, int *fd, unsigned *others, struct err *e)
{
	unsigned world = plan_world(&d->layout), r;

	*others = 0;
	for (r = 1; r < world; r++) {
		if (!deploy_is_local(d, w * world + r)) {
			++*others;
			continue;
		}
		if (launch_rank(l->launch, r, NULL, &fd[link->nfd], e) == -1)
			return -1;
		link->nfd++;
	}
	link->fd = fd;
	return 0;
}

static int
open_world(struct lead *l, const struct deploy *d, unsigned w,
    struct engine_opts *o, struct err *e)
{
	unsigned world = plan_world(&d->layout), others;
	struct engine_link link = { .listen_fd = -1, .lead_fd = -1 };
	int *fd = mem_new(world, sizeof *fd, e), rc = -1;

	if (fd == NULL)
		return -1;
	link.comm.waiting = l->calls.waiting;
	link.comm.arg = l->calls.arg;
	link.comm.ifname = d->ifname[0] ? d->ifname : NULL;
	if (launch_comm_env(&link.comm, e) == -1 ||
	    start_ranks(l, d, w, &link, fd, &others, e) == -1)
		goto out;
	if (others && (link.listen_fd = launch_listen(d->lead,
		d->lead_port + w, e)) == -1)
		goto out;
	o->link = &link;
	rc = engine_open(&l->engine, o, e);
	if (rc == -1)
		find_cause(l, e);
	else
		set_comm(l, engine_comm(l->engine));
out:
	free(fd);
	return rc;
}

int
lead_open(struct lead **lp, const struct deploy *d, unsigned w,
    const char *dir, const struct engine_opts *o,
    const struct lead_calls *calls, struct err *e)
{
	struct lead *l = mem_new(1, sizeof *l, e);
	struct launch_calls lc = { on_line, on_end, l };
	struct engine_opts own = *o;
	int rc;

	*lp = l;
	if (l == NULL)
		return -1;
	l->calls = *calls;
	pthread_mutex_init(&l->lock, NULL);
	own.dir = dir;
	if (own.link || plan_world(&d->layout) == 1)
		rc = engine_open(&l->engine, &own, e);
	else if ((rc = launch_open(&l->launch, dir, &own, &lc, e)) == 0)
		rc = open_world(l, d, w, &own, e);
	if (rc == -1)
		lead_close(lp);
	return rc;
}

struct engine *
lead_engine(const struct lead *l)
{
	return l->engine;
}

void
lead_close(struct lead **lp)
{
	struct lead *l = *lp;

	if (l == NULL)
		return;
	set_comm(l, NULL);
	engine_close(&l->engine);
	if (l->launch)
		launch_wait(l->launch, END_MS);
	launch_close(&l->launch);
	pthread_mutex_destroy(&l->lock);
	free(l);
	*lp = NULL;
}

int
launch_comm_env(struct comm_opts *o, struct err *e)
{
	const char *word = getenv("DSI_TRANSPORT");
	bool tcp = word && strcmp(word, "tcp") == 0;
	bool mpi = word && strcmp(word, "mpi") == 0;

	if (word && !tcp && !mpi && strcmp(word, "shm") != 0)
		return err_set(e, ERR_CALLER,
		    "DSI_TRANSPORT must be shm, tcp or mpi, not '%s'", word);
	if (mpi && !o->far)
		return err_set(e, ERR_CALLER, "DSI_TRANSPORT=mpi needs "
		    "--distributed-executor-backend=mpi");
	o->apart = tcp || mpi;
	if (tcp)
		o->far = NULL;
	return 0;
}
