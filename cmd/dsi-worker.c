/*
 * dsi-worker: one rank of a world, or with --headless all ranks of a node.
 *
 * A rank joins the lead, loads its own files, and does what it is told until
 * the lead closes or the world ends.  See dsi-worker(1).
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "batch/batch.h"
#include "launch/launch.h"

static const char synopsis[] =
    "--rank N --join WHERE [options] RANKFILES | --headless [options] MODEL";

enum { JOIN_MS = 600000, END_MS = 5000 };

struct args {
	struct deploy d;
	uint64_t rank, host_ranks;
	const char *join;
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
	struct engine_link link = { .listen_fd = -1 };
	struct engine *g = NULL;
	int rc;

	link.comm.rank = (unsigned)a->rank;
	link.comm.ifname = a->d.ifname[0] ? a->d.ifname : NULL;
	link.comm.waiting = on_waiting;
	if (launch_comm_env(&link.comm, e) == -1)
		return -1;
	link.lead_fd = launch_dial(a->join, JOIN_MS, on_waiting, NULL, e);
	if (link.lead_fd == -1)
		return -1;
	o->dir = dir;
	o->threads = (unsigned)a->d.threads;
	o->host_ranks = (unsigned)a->host_ranks;
	o->link = &link;
	rc = engine_open(&g, o, e);
	if (rc == 0)
		rc = engine_follow(g, e);
	engine_close(&g);
	return rc;
}

/* ---- all ranks of a node ---- */

/* The first rank that ended badly says why for all: the others end because it
 * did. */
struct node {
	struct launch *launch;
	int bad_fd[2];
	volatile bool bad;
};

static void
on_line(void *arg, unsigned rank, const char *text)
{
	(void)arg;
	if (strncmp(text, "dsi-worker: ", 12) != 0)
		say("rank %u: %s", rank, text);
}

static void
on_end(void *arg, unsigned rank, bool good, const char *how)
{
	struct node *n = arg;
	const char *last = strstr(how, "dsi-worker: ");

	if (good || n->bad)
		return;
	n->bad = true;
	say("rank %u: %s", rank, last ? last + 12 : how);
}

static volatile sig_atomic_t stopped;

static void
on_stop(int sig)
{
	stopped = sig;
}

static int
start_node(struct node *n, const struct deploy *d, const char *dir,
    struct err *e)
{
	const struct launch_calls calls = { on_line, on_end, n };
	unsigned world = plan_world(&d->layout), r;
	struct engine_opts o = d->engine;
	char join[300];

	o.threads = (unsigned)d->threads;
	o.host_ranks = deploy_local(d);
	if (launch_open(&n->launch, dir, &o, &calls, e) == -1)
		return -1;
	for (r = 0; r < d->size; r++) {
		if (!deploy_is_local(d, r))
			continue;
		snprintf(join, sizeof join, strchr(d->lead, ':') ?
		    "[%s]:%u" : "%s:%u", d->lead, d->lead_port + r / world);
		if (launch_rank(n->launch, r % world, join, NULL, e) == -1)
			return -1;
	}
	return 0;
}

static void
note(const char *text)
{
	say("%s", text);
}

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
	if (cache_model(&dir, d->model, &(struct cache_as){ d->layout,
		d->quantize, d->dummy, d->hollow }, note, e) == -1)
		goto out;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	if (start_node(&n, d, dir.p, e) == 0) {
		while (!stopped && !n.bad && launch_wait(n.launch, 200) > 0)
			;
		rc = 0;
	}
	if (n.launch && (stopped || rc == -1))
		launch_signal(n.launch, SIGTERM);
	if (n.launch)
		launch_wait(n.launch, END_MS);
	launch_close(&n.launch);
	if (rc == 0 && n.bad)
		rc = 1;
out:
	buf_free(&dir);
	return rc;
}

static int
parse(struct args *a, int *argc, char **argv, struct err *e)
{
	struct opt tab[4 + DEPLOY_LAYOUT_OPTS + DEPLOY_SERVE_OPTS +
	    DEPLOY_ENGINE_OPTS + 1] = {
		{ .name = "rank", .type = OPT_U64, .dst = &a->rank,
		  .max = PLAN_MAX_RANKS - 1, .arg = "N",
		  .help = "which of the world's ranks this is" },
		{ .name = "join", .type = OPT_STR, .dst = &a->join,
		  .arg = "WHERE", .help = "the lead: HOST:PORT, or fd:N" },
		{ .name = "host-ranks", .type = OPT_U64, .arg = "N",
		  .dst = &a->host_ranks, .max = PLAN_MAX_RANKS,
		  .help = "that share this host (the world's here)" },
	};
	struct opt *t = deploy_layout_opts(tab + 3, &a->d);

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
	return rc == 0 ? 0 : ERR_SYSTEM;
}
