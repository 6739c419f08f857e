/*
 * dsi-worker: one rank of a world, or with --headless all ranks of a node.
 *
 * A rank joins the lead, loads its own files, and does what it is told until
 * the lead closes or the world ends.  See dsi-worker(1).
 */
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "batch/batch.h"
#include "launch/launch.h"

static const char synopsis[] =
    "--rank N --join WHERE [options] RANKFILES | --headless [options] MODEL";

enum {
	OWN_OPTS = 5,
	END_MS = 1500,			/* for ranks to end after the first */
	WHY = 1300,
};

struct args {
	struct deploy d;
	uint64_t rank, host_ranks, host_cpus;
	const char *join, *ifname;
};

static void
on_waiting(void *arg, unsigned seconds, const char *who)
{
	(void)arg;
	say("still waiting for %s after %u s", who, seconds);
}

/* ---- one rank ---- */

static int
be_rank(struct args *a, const char *dir, struct err *e)
{
	struct engine_opts *o = &a->d.engine;
	struct comm_opts c = { .rank = (unsigned)a->rank,
		.waiting = on_waiting };

	if (launch_comm_opts(&c, &a->d, e) == -1)
		return -1;
	c.ifname = a->ifname;
	c.cpus = (unsigned)a->host_cpus;
	o->dir = dir;
	o->threads = (unsigned)a->d.threads;
	o->host_ranks = (unsigned)a->host_ranks;
	return launch_follow(o, &c, a->join, e) == 0 ? 0 : -1;
}

/* ---- all ranks of a node ---- */

struct node {
	struct launch *launch;
	unsigned first;			/* rank */
	unsigned started;
	atomic_uint ended;
	atomic_bool bad;		/* one ended badly; the others end
					 * because it did */
	atomic_bool blamed;		/* one with ERR_CALLER */
	char why[WHY];			/* of the first; set before bad */
};

/* What wakes be_node: a signal, or a rank that has ended. */
static volatile sig_atomic_t stopped;
static int wake_fd = -1;

static void
wake(void)
{
	uint64_t one = 1;

	(void)!write(wake_fd, &one, sizeof(one));
}

static void
on_stop(int sig)
{
	stopped = sig;
	wake();
}

static void
on_line(void *arg, unsigned rank, bool own, const char *text)
{
	const struct node *n = arg;

	/* all wait for the same */
	if (!own)
		say("rank %u: %s", rank, text);
	else if (rank == n->first)
		say("%s", text);
}

static void
on_end(void *arg, unsigned rank, int code, const char *why)
{
	struct node *n = arg;

	(void)rank;
	if (code == ERR_CALLER)
		n->blamed = true;
	if (code && !n->bad) {
		snprintf(n->why, sizeof(n->why), "%s", why);
		n->bad = true;
	}
	n->ended++;
	wake();
}

/* A rank is started when its connection to the lead is there: so there is one
 * who waits and says so, and the lead can be told how a rank ended. */
static int
start_node(struct node *n, const struct deploy *d, const char *dir,
    struct err *e)
{
	const struct launch_calls calls = { on_line, on_end, n };
	unsigned world = plan_world(&d->layout), r;
	struct engine_opts o = d->engine;
	char where[300];
	int fd;

	o.threads = (unsigned)d->threads;
	o.host_ranks = deploy_local(d);
	n->first = UINT32_MAX;
	if (launch_open(&n->launch, d, dir, &o, &calls, e) == -1)
		return -1;
	for (r = 0; r < d->size && !n->bad; r++) {
		if (!deploy_is_local(d, r))
			continue;
		snprintf(where, sizeof(where), strchr(d->lead, ':') ?
		    "[%s]:%u" : "%s:%u", d->lead, d->lead_port + r / world);
		fd = launch_dial(where, d->join_s * 1000, on_waiting, NULL, e);
		if (fd == -1)
			return -1;
		if (n->first == UINT32_MAX)
			n->first = r % world;
		if (launch_rank(n->launch, r % world, n->started, fd, NULL,
		    e) == -1)
			return -1;
		n->started++;
	}
	return 0;
}

/* Until all ranks have ended, or one badly, or a signal came. */
static void
watch_node(struct node *n)
{
	struct pollfd p = { wake_fd, POLLIN, 0 };
	uint64_t count;

	while (!stopped && !n->bad && n->ended < n->started) {
		if (poll(&p, 1, -1) == 1)
			(void)!read(wake_fd, &count, sizeof(count));
	}
}

/* Says why, once, and leaves no rank behind. */
static int
end_node(struct node *n)
{
	char why[64];
	bool bad = n->bad;

	if (bad) {
		say("%s", n->why);
		launch_wait(n->launch, END_MS);
	} else if (stopped) {
		snprintf(why, sizeof(why), "stopped by signal %d (%s)",
		    (int)stopped, strsignal(stopped));
		say("%s", why);
		launch_kill(n->launch, why);
	}
	launch_close(&n->launch);
	return !bad ? 0 : n->blamed ? ERR_CALLER : ERR_SYSTEM;
}

static void
note(const char *text)
{
	say("%s", text);
}

/* While the lead is dialled a signal ends this process at once, and that its
 * ranks. */
static int
be_node(struct args *a, struct err *e)
{
	const struct sigaction sa = { .sa_handler = on_stop };
	struct deploy *d = &a->d;
	struct node n = { 0 };
	struct buf dir = { 0 };
	int rc = -1;

	if (deploy_resolve(d, e) == -1)
		return -1;
	for (size_t i = 0; i < d->nnotice; i++)
		say("%s", d->notice[i]);
	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (wake_fd == -1)
		return err_sys(e, "eventfd");
	if (cache_model(&dir, d->model, &(struct cache_as){ d->layout,
		d->quantize, d->dummy, d->hollow }, note, e) == 0)
		rc = start_node(&n, d, dir.p, e);
	if (rc == 0) {
		sigaction(SIGINT, &sa, NULL);
		sigaction(SIGTERM, &sa, NULL);
		watch_node(&n);
		rc = end_node(&n);
	}
	launch_close(&n.launch);
	buf_free(&dir);
	return rc;
}

static int
parse(struct args *a, int *argc, char **argv, struct err *e)
{
	struct opt tab[OWN_OPTS + DEPLOY_LAYOUT_OPTS + DEPLOY_SERVE_OPTS +
	    DEPLOY_ENGINE_OPTS + 1] = {
		{ .name = "rank", .type = OPT_U64, .dst = &a->rank,
		  .max = PLAN_MAX_RANKS - 1, .arg = "N",
		  .help = "which of the world's ranks this is" },
		{ .name = "join", .type = OPT_STR, .dst = &a->join,
		  .arg = "WHERE", .help = "the lead: HOST:PORT, or fd:N" },
		{ .name = "host-ranks", .type = OPT_U64, .arg = "N",
		  .dst = &a->host_ranks, .max = PLAN_MAX_RANKS,
		  .help = "that share this host (the world's here)" },
		{ .name = "host-cpus", .type = OPT_U64, .arg = "N",
		  .dst = &a->host_cpus, .max = 1 << 16,
		  .help = "that they share (those this process may use)" },
		{ .name = "socket-ifname", .type = OPT_STR, .arg = "NAME",
		  .dst = &a->ifname, .help = "interface that other hosts "
		  "reach it by" },
	};
	struct opt *t = deploy_layout_opts(tab + OWN_OPTS, &a->d);

	t = deploy_serve_opts(t, &a->d);
	t = deploy_engine_opts(t, &a->d.engine, &a->d.threads);
	*t = (struct opt){ 0 };
	return opt_parse(tab, prog, synopsis, argc, argv, e);
}

int
main(int argc, char **argv)
{
	struct args a = { .rank = UINT64_MAX };
	struct err e = { 0 };
	int rc;

	prog = "dsi-worker";
	deploy_init(&a.d);
	rc = parse(&a, &argc, argv, &e);
	if (rc == OPT_DONE)
		return 0;
	if (rc == -1)
		die_err(&e);
	if (argc == 1)
		a.d.model = argv[0];
	if (argc > 1 || !a.d.model || (!a.d.headless &&
	    (a.rank == UINT64_MAX || !a.join)))
		die(ERR_CALLER, "usage: dsi-worker %s", synopsis);
	signal(SIGPIPE, SIG_IGN);
	rc = a.d.headless ? be_node(&a, &e) : be_rank(&a, a.d.model, &e);
	if (rc == -1)
		die_err(&e);
	deploy_free(&a.d);
	return rc;
}
