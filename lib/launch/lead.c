/*
 * lead: the ranks of a world started, joined, and watched.
 *
 * Whoever ends it is named by comm, to which launch says how a rank of this
 * node has ended; so nothing is made of that here.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch/launch.h"

enum {
	END_MS = 5000,			/* for ranks that were sent home */
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
		if (launch_rank(l->launch, r, deploy_local_index(d,
			w * world + r), -1, &fd[link->nfd], e) == -1)
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

/* Rank 0 runs in this process: its threads are put in its place, and with them
 * this one, unless it leads other worlds, too. */
static int
open_engine(struct lead *l, const struct deploy *d, unsigned w,
    struct engine_opts *o, struct engine_link *link, struct err *e)
{
	cpu_set_t before;
	struct place at;
	int rc;

	if (place_find(d, deploy_local_index(d, w * plan_world(&d->layout)),
		&at, e) == -1) {
		drop(link);
		return -1;
	}
	link->comm.cpus = at.all;
	if (o->threads == 0)
		o->threads = at.threads;
	if (at.pinned) {
		sched_getaffinity(0, sizeof before, &before);
		sched_setaffinity(0, sizeof at.cpus, &at.cpus);
	}
	rc = engine_open(&l->engine, o, e);
	if (at.pinned && d->worlds > 1)
		sched_setaffinity(0, sizeof before, &before);
	return rc;
}

/* c: NULL in a world of one */
static unsigned
count_hosts(const struct comm *c)
{
	unsigned i, k, n = c == NULL;

	for (i = 0; c && i < comm_world(c); i++) {
		for (k = 0; k < i && strcmp(comm_host(c, k),
			comm_host(c, i)) != 0; k++)
			;
		n += k == i;
	}
	return n;
}

static int
open_world(struct lead *l, const struct deploy *d, unsigned w,
    struct engine_opts *o, struct err *e)
{
	struct engine_link link = { .listen_fd = -1, .lead_fd = -1 };
	int *fd = mem_new(plan_world(&d->layout), sizeof *fd, e), rc = -1;

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
		rc = open_engine(l, d, w, o, &link, e);
	} else {
		drop(&link);
	}
	free(fd);
	return rc;
}

int
lead_open(struct lead **lp, const struct deploy *d, unsigned w,
    const char *dir, const struct engine_opts *o,
    const struct lead_calls *calls, struct err *e)
{
	struct lead *l = mem_new(1, sizeof *l, e);
	struct launch_calls lc = { on_line, NULL, l };
	struct engine_opts own = *o;
	int rc;

	*lp = l;
	if (l == NULL)
		return -1;
	l->calls = *calls;
	own.dir = dir;
	if (own.link || plan_world(&d->layout) == 1)
		rc = engine_open(&l->engine, &own, e);
	else if ((rc = launch_open(&l->launch, d, dir, &own, &lc, e)) == 0)
		rc = open_world(l, d, w, &own, e);
	l->bad = rc == -1;
	if (rc == -1)
		lead_close(lp);
	else
		l->hosts = count_hosts(engine_comm(l->engine));
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
