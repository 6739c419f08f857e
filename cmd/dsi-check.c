/*
 * dsi-check: will this deployment work, and what will each rank hold?
 *
 * Glue around lib/deploy; dsi-check(1).
 */
#include "deploy/deploy.h"

static const char synopsis[] =
    "[serve flags] MODEL_DIR_OR_CONFIG_JSON";

struct args {
	struct deploy d;
	struct deploy_memory m;
	bool json;
};

enum { OWN_OPTS = 4 };

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

int
main(int argc, char **argv)
{
	struct deploy_plan p;
	struct args a = {0};
	struct err e = {0};
	struct buf b = {0};
	int rc;

	prog = "dsi-check";
	deploy_init(&a.d);
	rc = parse(&a, &argc, argv, &e);
	if (rc == OPT_DONE)
		return 0;
	if (rc == -1)
		die_err(&e);
	take_model(&a, argc, argv);
	if (deploy_resolve(&a.d, &e) == -1 ||
	    deploy_plan(&p, &a.d, &a.m, &e) == -1)
		die_err(&e);
	warn(&a.d, &p);
	if (a.json)
		deploy_put_json(&b, &a.d, &p);
	else
		deploy_put_text(&b, &a.d, &p);
	if (buf_ok(&b, &e) == -1)
		die_err(&e);
	fwrite(b.p, 1, b.n, stdout);
	out_close();
	rc = p.known && !p.fits ? ERR_NO : 0;
	buf_free(&b);
	deploy_plan_free(&p);
	deploy_free(&a.d);
	return rc;
}
