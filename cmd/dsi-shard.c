/*
 * dsi-shard: cut a published model into one directory of files a rank.
 *
 * Glue around lib/shard; dsi-shard(1), and dsi-shard(5) for the files.
 */
#include <stdio.h>
#include <string.h>

#include "deploy/deploy.h"

static const char synopsis[] =
    "[options] -o OUT MODEL | --verify OUT";

static int
print_line(void *arg, unsigned rank, uint64_t bytes, const char *path)
{
	(void)arg;
	return printf("%u\t%llu\t%s\n", rank, (unsigned long long)bytes,
	    path) < 0 ? -1 : 0;
}

static void
print_bad(void *arg, const char *path, const char *why)
{
	(void)arg;
	say("%s: %s", path, why);
}

static void
print_extra(void *arg, const char *path)
{
	(void)arg;
	say("%s: not in the manifest; ignored", path);
}

static int
verify(const char *dir)
{
	struct err e = {0};
	size_t nbad;

	if (shard_verify(dir, print_bad, print_extra, NULL, &nbad, &e) == -1)
		die_err(&e);
	if (nbad)
		die(ERR_NO, "%s: %zu bad or missing; remove what is bad, and "
		    "the command that made them makes them again", dir, nbad);
	return 0;
}

static int
convert(const struct shard_opts *o)
{
	struct err e = {0};

	if (shard_run(o, &e) == -1)
		die_err(&e);
	if (o->done->already)
		say("%s is complete already: %u rank files, nothing to do",
		    o->out, o->done->files);
	else if (o->done->kept)
		say("%u of %u rank files were there from an earlier run",
		    o->done->kept, o->done->files);
	return 0;
}

struct args {
	struct deploy d;
	uint64_t seed;
	bool plan;
	const char *out, *verify;
	int quant, format;
};

enum { OWN_OPTS = 5 };

static int
parse(struct args *a, int *argc, char **argv, struct err *e)
{
	static const char *const quants[] = { "none", "int8", NULL };
	static const char *const formats[] = { "auto", "dummy", "hollow",
	    NULL };
	const struct opt own[OWN_OPTS] = {
		{ .name = "quantize", .type = OPT_ENUM, .dst = &a->quant,
		  .choices = quants, .arg = "HOW",
		  .help = "none: as published (default); int8" },
		{ .name = "load-format", .type = OPT_ENUM, .dst = &a->format,
		  .choices = formats, .arg = "HOW", .help = "auto: from MODEL "
		  "(default); dummy: random weights; hollow: none" },
		{ .name = "seed", .type = OPT_U64, .dst = &a->seed,
		  .arg = "N", .help = "of the random weights (0)" },
		{ .key = 'n', .name = "plan", .type = OPT_FLAG,
		  .dst = &a->plan,
		  .help = "only print rank, bytes and path of each file" },
		{ .name = "verify", .type = OPT_STR, .dst = &a->verify,
		  .arg = "OUT", .help = "compare OUT with its manifest" },
	};
	struct opt tab[1 + DEPLOY_LAYOUT_OPTS + OWN_OPTS + 1] = {
		{ .key = 'o', .name = "output", .type = OPT_STR,
		  .dst = &a->out, .arg = "OUT",
		  .help = "directory for the rank files" },
	};
	struct opt *t = deploy_layout_opts(tab + 1, &a->d);

	memcpy(t, own, sizeof(own));
	return opt_parse(tab, prog, synopsis, argc, argv, e);
}

/* The layout that the flags and the YAML ask for. */
static struct layout
layout(struct args *a, const char *model)
{
	struct err e = {0};

	if (shard_peek(model))
		return (struct layout){ 1, 1, 1, 1 };	/* refused later */
	a->d.model = model;
	a->d.load_format = a->format ? DEPLOY_DUMMY : DEPLOY_AUTO;
	if (deploy_resolve(&a->d, &e) == -1)
		die_err(&e);
	for (size_t i = 0; i < a->d.nnotice; i++)
		say("%s", a->d.notice[i]);
	return a->d.asked;
}

static int
plan(const struct shard_opts *o)
{
	struct err e = {0};

	if (shard_plan(o, print_line, NULL, &e) == -1)
		die_err(&e);
	out_close();
	return 0;
}

int
main(int argc, char **argv)
{
	struct args a = {0};
	struct shard_done done;
	struct shard_opts o;
	struct err e = {0};
	int rc;

	prog = "dsi-shard";
	deploy_init(&a.d);
	rc = parse(&a, &argc, argv, &e);
	if (rc == -1)
		die_err(&e);
	if (rc == OPT_DONE)
		return 0;
	if (a.verify && argc == 0)
		return verify(a.verify);
	if (argc != 1 || a.verify || (!a.out && !a.plan))
		die(ERR_CALLER, "usage: dsi-shard %s", synopsis);
	o = (struct shard_opts){ .model = argv[0], .out = a.out,
	    .layout = layout(&a, argv[0]),
	    .quantize = a.quant ? SHARD_INT8 : SHARD_NONE,
	    .dummy = a.format != 0, .hollow = a.format == 2, .seed = a.seed,
	    .done = &done };
	rc = a.plan ? plan(&o) : convert(&o);
	deploy_free(&a.d);
	return rc;
}
