/*
 * dsi-shard: cut a published model into one directory of files a rank.
 *
 * Glue around lib/shard; dsi-shard(1), and dsi-shard(5) for the files.
 */
#include <stdio.h>

#include "base/base.h"
#include "shard/shard.h"

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
	uint64_t tp, dp, pp, ep, seed;
	bool enable_ep, plan;
	const char *out, *verify;
	int quant, format;
};

static int
parse(struct args *a, int *argc, char **argv, struct err *e)
{
	static const char *const quants[] = { "none", "int8", NULL };
	static const char *const formats[] = { "auto", "dummy", NULL };
	const struct opt tab[] = {
		{ .key = 'o', .name = "output", .type = OPT_STR,
		  .dst = &a->out, .arg = "OUT",
		  .help = "directory for the rank files" },
		{ .name = "tensor-parallel-size", .type = OPT_U64,
		  .dst = &a->tp, .arg = "N", .min = 1, .max = PLAN_MAX_RANKS,
		  .help = "ranks that share heads and dense layers (1)" },
		{ .name = "data-parallel-size", .type = OPT_U64,
		  .dst = &a->dp, .arg = "N", .min = 1, .max = PLAN_MAX_RANKS,
		  .help = "groups with requests of their own (1)" },
		{ .name = "pipeline-parallel-size", .type = OPT_U64,
		  .dst = &a->pp, .arg = "N", .min = 1, .max = PLAN_MAX_RANKS,
		  .help = "stages that share the layers (1)" },
		{ .name = "expert-parallel-size", .type = OPT_U64,
		  .dst = &a->ep, .arg = "N", .min = 1, .max = PLAN_MAX_RANKS,
		  .help = "blocks that share the experts (1)" },
		{ .name = "enable-expert-parallel", .type = OPT_FLAG,
		  .dst = &a->enable_ep, .help = "as many blocks as tensor "
		  "times data ranks, if not given" },
		{ .name = "quantize", .type = OPT_ENUM, .dst = &a->quant,
		  .choices = quants, .arg = "HOW",
		  .help = "none: as published (default); int8" },
		{ .name = "load-format", .type = OPT_ENUM, .dst = &a->format,
		  .choices = formats, .arg = "HOW", .help = "auto: from MODEL "
		  "(default); dummy: random weights from config.json" },
		{ .name = "seed", .type = OPT_U64, .dst = &a->seed,
		  .arg = "N", .help = "of the random weights (0)" },
		{ .key = 'n', .name = "plan", .type = OPT_FLAG,
		  .dst = &a->plan,
		  .help = "only print rank, bytes and path of each file" },
		{ .name = "verify", .type = OPT_STR, .dst = &a->verify,
		  .arg = "OUT", .help = "compare OUT with its manifest" },
		{0}
	};

	return opt_parse(tab, prog, synopsis, argc, argv, e);
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
	struct args a = { .tp = 1, .dp = 1, .pp = 1 };
	struct shard_done done;
	struct shard_opts o;
	struct err e = {0};
	int rc;

	prog = "dsi-shard";
	rc = parse(&a, &argc, argv, &e);
	if (rc == -1)
		die_err(&e);
	if (rc == OPT_DONE)
		return 0;
	if (a.verify && argc == 0)
		return verify(a.verify);
	if (argc != 1 || a.verify || (!a.out && !a.plan))
		die(ERR_CALLER, "usage: dsi-shard %s", synopsis);
	if (!a.ep)
		a.ep = a.enable_ep ? a.tp * a.dp : 1;
	o = (struct shard_opts){ .model = argv[0], .out = a.out,
	    .layout = { (unsigned)a.tp, (unsigned)a.dp, (unsigned)a.pp,
	    (unsigned)a.ep }, .quantize = a.quant ? SHARD_INT8 : SHARD_NONE,
	    .dummy = a.format == 1, .seed = a.seed, .done = &done };
	return a.plan ? plan(&o) : convert(&o);
}
