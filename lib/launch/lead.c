/*
 * lead: the ranks of a world started, joined, and watched.
 *
 * Once the world is complete comm names whoever ends it.  Before that a rank
 * can end without having said who it is: then what its parent heard counts.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch/launch.h"

enum {
	WHY = 1300,
	END_MS = 5000,			/* for ranks that were sent home */
	CAUSE_MS = 300,			/* for a cause to be heard of */
	REFUSED_MS = 5000,		/* ranks of a host that come together */
};

struct lead {
	struct lead_calls calls;
	struct launch *launch;
	struct engine *engine;
	bool bad;			/* it could not be opened, or ended */
	unsigned hosts;
	char refused[64];		/* a host whose rank was, and when */
	uint64_t refused_ns;
	pthread_mutex_t lock;		/* of what follows */
	char (*why)[WHY];		/* [world]: ranks that ended badly */
	unsigned world;
};

/* ---- what launch's thread tells ---- */

static void
on_line(void *arg, unsigned rank, bool own, const char *text)
{
	struct lead *l = arg;

	/* dsi-worker itself only says whom it waits for, as we do. */
	if (!own && l->calls.line)
		l->calls.line(l->calls.arg, rank, text);
}

static void
on_end(void *arg, unsigned rank, int code, const char *why)
{
	struct lead *l = arg;

	pthread_mutex_lock(&l->lock);
	if (code)
		snprintf(l->why[rank], WHY, "%s", why);
	pthread_mutex_unlock(&l->lock);
}

/* The error of a rank that does not only repeat ours. */
static bool
take_cause(struct lead *l, struct err *e)
{
	unsigned r;

	pthread_mutex_lock(&l->lock);
	for (r = 1; r < l->world; r++)
		if (l->why[r][0] && !strstr(l->why[r], e->msg))
			break;
	if (r < l->world)
		err_set(e, ERR_SYSTEM, "%.1000s", l->why[r]);
	pthread_mutex_unlock(&l->lock);
	return r < l->world;
}

/* A rank that ended before the world began is the cause of what went wrong
 * then; its parent may hear of it last. */
static void
find_cause(struct lead *l, struct err *e)
{
	uint64_t end = now_ns() + CAUSE_MS * UINT64_C(1000000);

	unsigned left;

	do
		left = launch_wait(l->launch, CAUSE_MS / 10);
	while (!take_cause(l, e) && left && now_ns() < end);
}

/* ---- what comm tells while ranks join ---- */

static void
on_waiting(void *arg, unsigned seconds, const char *who)
{
	struct lead *l = arg;

	if (l->calls.waiting)
		l->calls.waiting(l->calls.arg, seconds, who);
}

static void
on_refused(void *arg, const char *host, const char *why)
{
	struct lead *l = arg;
	uint64_t now = now_ns();

	if (l->refused_ns && strncmp(l->refused, host,
	    sizeof l->refused - 1) == 0 &&
	    now - l->refused_ns < REFUSED_MS * UINT64_C(1000000))
		return;
	snprintf(l->refused, sizeof l->refused, "%s", host);
	l->refused_ns = now;
	if (l->calls.refused)
		l->calls.refused(l->calls.arg, why);
}

/* ---- opening ---- */

/* Ranks of the world that other nodes have. */
static unsigned
count_others(const struct deploy *d, unsigned w)
{
	unsigned world = plan_world(&d->layout), n = 0, r;

	for (r = 1; r < world; r++)
		n += !deploy_is_local(d, w * world + r);
	return n;
}

static int
start_ranks(struct lead *l, const struct deploy *d, unsigned w,
    struct engine_link *link, int *fd, struct err *e)
{
	unsigned world = plan_world(&d->layout), r;

	for (r = 1; r < world; r++) {
		if (!deploy_is_local(d, w * world + r))
			continue;
		if (launch_rank(l->launch, r, -1, &fd[link->nfd], e) == -1)
			return -1;
		link->nfd++;
	}
	return 0;
}

static void
drop(const struct engine_link *link)
{
	size_t i;

	for (i = 0; i < link->nfd; i++)
		close(link->fd[i]);
	if (link->listen_fd != -1)
		close(link->listen_fd);
}

static void
count_hosts(struct lead *l, const struct comm *c)
{
	unsigned i, k;

	for (i = 0; i < comm_world(c); i++) {
		for (k = 0; k < i && strcmp(comm_host(c, k),
			comm_host(c, i)) != 0; k++)
			;
		l->hosts += k == i;
	}
}

static int
open_world(struct lead *l, const struct deploy *d, unsigned w,
    struct engine_opts *o, struct err *e)
{
	struct engine_link link = { .listen_fd = -1, .lead_fd = -1 };
	int *fd = mem_new(l->world, sizeof *fd, e), rc = -1;

	if (fd == NULL)
		return -1;
	link.fd = fd;
	link.comm.waiting = on_waiting;
	link.comm.refused = on_refused;
	link.comm.arg = l;
	if (launch_comm_opts(&link.comm, d, e) == 0 &&
	    (count_others(d, w) == 0 || (link.listen_fd =
	    launch_listen(d->lead, d->lead_port + w, e)) != -1) &&
	    start_ranks(l, d, w, &link, fd, e) == 0) {
		o->link = &link;
		rc = engine_open(&l->engine, o, e);
		if (rc == -1)
			find_cause(l, e);
	} else {
		drop(&link);
	}
	if (rc == 0)
		count_hosts(l, engine_comm(l->engine));
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
	l->hosts = o->link ? 0 : 1;
	l->world = 1;
	pthread_mutex_init(&l->lock, NULL);
	own.dir = dir;
	if (own.link || plan_world(&d->layout) == 1) {
		rc = engine_open(&l->engine, &own, e);
	} else {
		l->hosts = 0;
		l->world = plan_world(&d->layout);
		l->why = mem_new(l->world, sizeof *l->why, e);
		rc = l->why ? launch_open(&l->launch, d, dir, &own, &lc, e) :
		    -1;
		if (rc == 0)
			rc = open_world(l, d, w, &own, e);
	}
	if (rc == 0 && o->link)
		count_hosts(l, engine_comm(l->engine));
	l->bad = rc == -1;
	if (rc == -1)
		lead_close(lp);
	return rc;
}

struct engine *
lead_engine(const struct lead *l)
{
	return l->engine;
}

unsigned
lead_hosts(const struct lead *l)
{
	return l->hosts;
}

void
lead_close(struct lead **lp)
{
	struct lead *l = *lp;

	if (l == NULL)
		return;
	if (l->engine && engine_check(l->engine, NULL) == -1)
		l->bad = true;
	engine_close(&l->engine);
	/* After a bad end everyone knows why, and one may be stopped. */
	if (l->launch && !l->bad)
		launch_wait(l->launch, END_MS);
	launch_close(&l->launch);
	pthread_mutex_destroy(&l->lock);
	free(l->why);
	free(l);
	*lp = NULL;
}

int
launch_comm_opts(struct comm_opts *o, const struct deploy *d, struct err *e)
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
	o->ifname = d->ifname[0] ? d->ifname : NULL;
	o->join_ms = d->join_s * 1000;
	o->alive_ms = d->alive_s * 1000;
	return 0;
}
