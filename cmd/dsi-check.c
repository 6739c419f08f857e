/*
 * dsi-check: will this deployment work, and what will each rank hold?
 *
 * Glue around lib/deploy and, for --hosts, lib/probe; dsi-check(1).
 */
#include <stdlib.h>
#include <unistd.h>

#include "probe/probe.h"

static const char synopsis[] =
    "[--hosts LIST] [serve flags] MODEL_DIR_OR_CONFIG_JSON | --probe";

struct args {
	struct deploy d;
	struct deploy_memory m;
	bool json, probe;
	const char *hosts, *rsh, *program;
};

enum { OWN_OPTS = 8 };

static struct opt *
own_opts(struct opt *t, struct args *a)
{
	*t++ = (struct opt){ .name = "json", .type = OPT_FLAG,
	    .dst = &a->json, .help = "the plan as one JSON object" };
	*t++ = (struct opt){ .name = "strict", .type = OPT_FLAG,
	    .dst = &a->d.strict, .help = "doubts are errors, too" };
	*t++ = (struct opt){ .name = "memory-per-host", .type = OPT_BYTES,
	    .dst = &a->m.per_host, .arg = "SIZE", .min = 1,
	    .help = "not this host's memory, but so much" };
	*t++ = (struct opt){ .name = "memory-per-rank", .type = OPT_BYTES,
	    .dst = &a->m.per_rank, .arg = "SIZE", .min = 1,
	    .help = "the same, for a rank" };
	*t++ = (struct opt){ .name = "hosts", .type = OPT_STR,
	    .dst = &a->hosts, .arg = "LIST", .help = "ask these hosts: a,b "
	    "or user@a,b:RANKS or @FILE" };
	*t++ = (struct opt){ .name = "rsh", .type = OPT_STR, .dst = &a->rsh,
	    .arg = "COMMAND", .help = "reaches a host (DSI_RSH, ssh)" };
	*t++ = (struct opt){ .name = "probe-program", .type = OPT_STR,
	    .dst = &a->program, .arg = "PROGRAM",
	    .help = "what it starts there (dsi-check)" };
	*t++ = (struct opt){ .name = "probe", .type = OPT_FLAG,
	    .dst = &a->probe, .help = "answer another dsi-check, which has "
	    "started this one" };
	return t;
}

static int
parse(struct args *a, int *argc, char **argv, struct err *e)
{
	struct opt tab[OWN_OPTS + DEPLOY_LAYOUT_OPTS + DEPLOY_SERVE_OPTS +
	    DEPLOY_ENGINE_OPTS + 1];
	struct opt *t = own_opts(tab, a);

	t = deploy_layout_opts(t, &a->d);
	t = deploy_serve_opts(t, &a->d);
	t = deploy_engine_opts(t, &a->d.engine, &a->d.threads);
	*t = (struct opt){0};
	return opt_parse(tab, prog, synopsis, argc, argv, e);
}

/* One model, named once. */
static void
take_model(struct args *a, int argc, char **argv)
{
	if (argc > 1 || (argc == 0 && !a->d.model))
		die(ERR_CALLER, "usage: dsi-check %s", synopsis);
	if (argc == 1 && a->d.model)
		die(ERR_CALLER, "--model %s and %s: one of them is enough",
		    a->d.model, argv[0]);
	if (argc == 1)
		a->d.model = argv[0];
	if (a->m.per_host && a->m.per_rank)
		die(ERR_CALLER, "--memory-per-host and --memory-per-rank "
		    "exclude each other");
}

static void
warn(const struct deploy *d, const struct deploy_plan *p)
{
	for (size_t i = 0; i < d->nnotice; i++)
		say("%s", d->notice[i]);
	if (p->fits && p->avail && p->need > p->avail / p->host_ranks)
		say("of this host's memory, only %llu MiB are free now",
		    (unsigned long long)p->avail >> 20);
}

static void
print(struct buf *b)
{
	struct err e;

	if (buf_ok(b, &e) == -1)
		die_err(&e);
	fwrite(b->p, 1, b->n, stdout);
	out_close();
	buf_free(b);
}

/* ---- this host alone ---- */

static int
check_here(struct args *a)
{
	struct deploy_plan p;
	struct err e = {0};
	struct buf b = {0};
	int rc;

	if (deploy_plan(&p, &a->d, &a->m, &e) == -1)
		die_err(&e);
	warn(&a->d, &p);
	if (a->json)
		deploy_put_json(&b, &a->d, &p);
	else
		deploy_put_text(&b, &a->d, &p);
	print(&b);
	rc = p.known && !p.fits ? ERR_NO : 0;
	deploy_plan_free(&p);
	return rc;
}

/* ---- other hosts ---- */

static volatile sig_atomic_t stopped;

static void
on_stop(int sig)
{
	stopped = sig;
}

/* The first signal ends the probes, and then this program. */
static void
catch_signals(void (*handler)(int))
{
	const struct sigaction sa = { .sa_handler = handler };

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
}

/* The flags are those of any node: each host's part is worked out. */
static void
as_lead(struct deploy *d)
{
	d->find_lead = true;
	d->headless = false;
	d->dp_start = d->node_rank = UINT64_MAX;
}

static unsigned
limit_ms(void)
{
	const char *v = getenv("DSI_PROBE_MS");	/* tests are in a hurry */
	uint64_t ms;

	return v && num_u64(v, 60000, &ms) == 0 ? (unsigned)ms : 0;
}

static void
ask(struct probe *p, const struct probe_opts *o)
{
	struct err e = {0};
	int rc;

	catch_signals(on_stop);
	rc = probe_run(p, o, &e);
	catch_signals(SIG_DFL);
	if (stopped)
		raise(stopped);
	if (rc == -1)
		die_err(&e);
}

static int
report(struct probe *p, const struct probe_opts *o, const struct args *a)
{
	struct err e = {0};
	struct buf b = {0};

	if (probe_judge(p, o, &a->m, &e) == -1)
		die_err(&e);
	for (size_t i = 0; i < p->nnotice; i++)
		say("%s", p->notice[i]);
	if (a->json)
		probe_put_json(&b, p, o);
	else
		probe_put_text(&b, p, o);
	print(&b);
	return p->nproblem ? ERR_NO : 0;
}

static int
check_hosts(struct args *a, struct probe_hosts *hosts)
{
	struct deploy_memory m = { .elsewhere = true };
	struct deploy_plan plan;
	struct probe_share *share;
	struct probe_opts o = { .d = &a->d, .plan = &plan, .hosts = hosts,
		.rsh = a->rsh ? a->rsh : getenv("DSI_RSH"), .ms = limit_ms(),
		.program = a->program ? a->program : "dsi-check",
		.stop = &stopped };
	struct probe p;
	struct err e = {0};
	int rc;

	if (o.rsh && !*o.rsh)
		o.rsh = NULL;
	if (probe_deal(&share, &a->d, hosts, &e) == -1 ||
	    deploy_plan(&plan, &a->d, &m, &e) == -1)
		die_err(&e);
	for (size_t i = 0; i < a->d.nnotice; i++)
		say("%s", a->d.notice[i]);
	o.share = share;
	ask(&p, &o);
	rc = report(&p, &o, a);
	probe_free(&p);
	deploy_plan_free(&plan);
	free(share[0].rank);
	free(share);
	return rc;
}

int
main(int argc, char **argv)
{
	struct probe_hosts hosts = {0};
	struct args a = {0};
	struct err e = {0};
	int rc;

	prog = "dsi-check";
	deploy_init(&a.d);
	rc = parse(&a, &argc, argv, &e);
	if (rc == OPT_DONE)
		return 0;
	if (rc == -1)
		die_err(&e);
	if (a.probe || a.hosts)
		signal(SIGPIPE, SIG_IGN);
	if (a.probe) {
		if (probe_serve(STDIN_FILENO, STDOUT_FILENO, &e) == -1)
			die_err(&e);
		return 0;
	}
	take_model(&a, argc, argv);
	if (a.hosts)
		as_lead(&a.d);
	if ((a.hosts && probe_hosts_read(&hosts, a.hosts, &e) == -1) ||
	    deploy_resolve(&a.d, &e) == -1)
		die_err(&e);
	rc = a.hosts ? check_hosts(&a, &hosts) : check_here(&a);
	probe_hosts_free(&hosts);
	deploy_free(&a.d);
	return rc;
}
