/*
 * dsi-gen: prompts on stdin, completions on stdout; one engine for all, over
 * as many ranks as the layout has.
 *
 * Glue around lib/batch; see dsi-gen(1).
 */
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "batch/batch.h"
#include "launch/launch.h"
#include "launch/mpi.h"

static const char synopsis[] = "[options] MODEL <prompts >completions";

/* A signal handler has no other way to know it. */
static volatile int stop_fd = -1;

/* What the command line says; NAN and UINT64_MAX: nothing. */
struct args {
	struct batch_opts b;
	struct deploy d;
	bool nul, whole;
	bool ready;			/* say so when it is */
	uint64_t max_tokens, top_k, n;
	double temperature, top_p, min_p;
	double repetition, presence, frequency;
	bool ignore_eos;
	int think;			/* 0: the mode's own */
	struct sample_params stops;	/* --stop, gathered */
};

static int
add_stop(const char *arg, void *dst, struct err *e)
{
	struct sample_params *p = dst;

	if (!*arg)
		return err_set(e, ERR_CALLER, "must not be empty");
	if (p->nstop == SAMPLE_MAX_STOP)
		return err_set(e, ERR_CALLER, "can be given %d times at most",
		    SAMPLE_MAX_STOP);
	p->stop[p->nstop] = strdup(arg);
	if (!p->stop[p->nstop])
		return err_sys(e, "no memory");
	p->nstop++;
	return 0;
}

/* ---- options ---- */

static const char *const thinks[] = { "auto", "show", "hide", "split", NULL };

enum { SHORT_OPTS = 10, SAMPLE_OPTS = 11 };

static void
mode_opts(struct opt *t, struct args *a)
{
	const struct opt v[SHORT_OPTS] = {
		{ .key = '0', .name = "null", .type = OPT_FLAG, .dst = &a->nul,
		  .help = "prompts and completions end with NUL" },
		{ .key = 'f', .name = "whole", .type = OPT_FLAG,
		  .dst = &a->whole, .help = "all of stdin is one prompt" },
		{ .name = "chat", .type = OPT_FLAG, .dst = &a->b.chat,
		  .help = "prompts are user messages" },
		{ .name = "system", .type = OPT_STR, .dst = &a->b.system,
		  .arg = "TEXT", .help = "with --chat: the system message" },
		{ .name = "reasoning", .type = OPT_ENUM, .dst = &a->think,
		  .choices = thinks, .arg = "HOW",
		  .help = "show, hide or split what a chat thinks" },
		{ .name = "ids", .type = OPT_FLAG, .dst = &a->b.ids,
		  .help = "token ids for text, in and out" },
		{ .name = "jsonl", .type = OPT_FLAG, .dst = &a->b.jsonl,
		  .help = "a line is an API request; out: the response" },
		{ .name = "resume", .type = OPT_STR, .dst = &a->b.resume,
		  .arg = "OUT", .help = "with --jsonl: write to OUT, after "
		  "what is done there" },
		{ .name = "seed", .type = OPT_U64, .dst = &a->b.seed,
		  .arg = "N", .max = INT64_MAX,
		  .help = "of the first prompt; the next has N+1 (0)" },
		{ .name = "ready", .type = OPT_FLAG, .dst = &a->ready,
		  .help = "say on stderr when all ranks are" },
	};

	memcpy(t, v, sizeof(v));
}

static void
sample_opts(struct opt *t, struct args *a)
{
	const struct opt v[SAMPLE_OPTS] = {
		{ .name = "max-tokens", .type = OPT_U64, .dst = &a->max_tokens,
		  .min = 1, .max = INT64_MAX, .arg = "N", .help = "at most so "
		  "many (16; --chat: what the context holds)" },
		{ .name = "temperature", .type = OPT_F64, .fmax = 2,
		  .dst = &a->temperature, .arg = "T",
		  .help = "0: always the likeliest (the model's, or 1)" },
		{ .name = "top-p", .type = OPT_F64, .dst = &a->top_p,
		  .fmax = 1, .arg = "P",
		  .help = "of the likeliest with this sum "
		  "(the model's, or 1)" },
		{ .name = "top-k", .type = OPT_U64, .dst = &a->top_k,
		  .arg = "K", .max = INT64_MAX,
		  .help = "of the K likeliest; 0: of all (the model's, or 0)" },
		{ .name = "min-p", .type = OPT_F64, .dst = &a->min_p,
		  .fmax = 1, .arg = "P",
		  .help = "at least P times as likely as the likeliest (0)" },
		{ .name = "repetition-penalty", .type = OPT_F64,
		  .dst = &a->repetition, .fmax = 1e6, .arg = "X",
		  .help = "above 1: less of what was seen (1)" },
		{ .name = "presence-penalty", .type = OPT_F64,
		  .dst = &a->presence, .fmin = -2, .fmax = 2, .arg = "X",
		  .help = "taken off what was said (0)" },
		{ .name = "frequency-penalty", .type = OPT_F64,
		  .dst = &a->frequency, .fmin = -2, .fmax = 2, .arg = "X",
		  .help = "the same, each time (0)" },
		{ .name = "stop", .type = OPT_CALL, .call = add_stop,
		  .dst = &a->stops, .arg = "TEXT",
		  .help = "end before TEXT; can be repeated" },
		{ .name = "ignore-eos", .type = OPT_FLAG,
		  .dst = &a->ignore_eos,
		  .help = "go on behind the model's end token" },
		{ .name = "n", .key = 'n', .type = OPT_U64, .dst = &a->n,
		  .min = 1, .max = API_MAX_N, .arg = "N",
		  .help = "completions of each prompt (1)" },
	};

	memcpy(t, v, sizeof(v));
}

static int
parse(struct args *a, int *argc, char **argv, struct err *e)
{
	struct opt tab[SHORT_OPTS + SAMPLE_OPTS + DEPLOY_ENGINE_OPTS +
	    DEPLOY_LAYOUT_OPTS + DEPLOY_SERVE_OPTS + 1];
	struct opt *t = tab + SHORT_OPTS + SAMPLE_OPTS;

	mode_opts(tab, a);
	sample_opts(tab + SHORT_OPTS, a);
	t = deploy_engine_opts(t, &a->d.engine, &a->d.threads);
	t = deploy_layout_opts(t, &a->d);
	*deploy_serve_opts(t, &a->d) = (struct opt){0};
	return opt_parse(tab, prog, synopsis, argc, argv, e);
}

/* ---- what goes with what ---- */

static const char *
first_text_flag(const struct args *a)
{
	return a->b.chat ? "--chat" : a->b.system ? "--system" :
	    a->b.ids ? "--ids" : a->nul ? "-0" : a->whole ? "-f" :
	    a->max_tokens != UINT64_MAX ? "--max-tokens" :
	    a->n != 1 ? "--n" : !isnan(a->min_p) ? "--min-p" :
	    !isnan(a->presence) ? "--presence-penalty" :
	    !isnan(a->frequency) ? "--frequency-penalty" :
	    a->stops.nstop ? "--stop" : a->ignore_eos ? "--ignore-eos" : NULL;
}

static int
check(const struct args *a, struct err *e)
{
	const char *flag = first_text_flag(a);

	if (a->b.jsonl && flag)
		return err_set(e, ERR_CALLER, "%s is for text; with --jsonl "
		    "each request says it", flag);
	if (a->b.resume && !a->b.jsonl)
		return err_set(e, ERR_CALLER, "--resume needs --jsonl");
	if (a->nul && a->whole)
		return err_set(e, ERR_CALLER, "-0 and -f exclude each other");
	if (a->b.ids && a->b.chat)
		return err_set(e, ERR_CALLER,
		    "--ids and --chat exclude each other");
	if (a->b.system && !a->b.chat)
		return err_set(e, ERR_CALLER, "--system needs --chat");
	if (a->top_p <= 0)
		return err_set(e, ERR_CALLER, "--top-p must be above 0");
	if (a->repetition <= 0)
		return err_set(e, ERR_CALLER,
		    "--repetition-penalty must be above 0");
	if (a->n > 1 && a->temperature == 0)
		return err_set(e, ERR_CALLER, "--n above 1 needs a "
		    "--temperature above 0");
	return 0;
}

/* What requests get that don't say it themselves. */
static void
set_defaults(const struct args *a, struct api_model *m)
{
	if (!isnan(a->temperature))
		m->temperature = a->temperature;
	if (!isnan(a->top_p))
		m->top_p = a->top_p;
	if (!isnan(a->repetition))
		m->repetition_penalty = a->repetition;
	if (a->top_k != UINT64_MAX)
		m->top_k = (int64_t)a->top_k;
}

static int
make_proto(struct args *a, const struct api_model *m, struct err *e)
{
	struct api_req *r = &a->b.proto;
	struct sample_params *p = &r->params;

	api_req_init(r, a->b.chat ? API_CHAT : API_COMPLETION, m);
	r->n = (int64_t)a->n;
	if (a->n > 1 && p->temperature == 0)
		return err_set(e, ERR_CALLER, "--n above 1 needs a "
		    "--temperature above 0: the model's own is 0");
	if (a->max_tokens != UINT64_MAX)
		p->max_tokens = (int64_t)a->max_tokens;
	if (!isnan(a->min_p))
		p->min_p = a->min_p;
	if (!isnan(a->presence))
		p->presence_penalty = a->presence;
	if (!isnan(a->frequency))
		p->frequency_penalty = a->frequency;
	p->ignore_eos = a->ignore_eos;
	memcpy(p->stop, a->stops.stop, sizeof(p->stop));
	p->nstop = a->stops.nstop;
	a->stops.nstop = 0;		/* handed over */
	return 0;
}

/* ---- the run ---- */

static void
note(const char *text)
{
	say("%s", text);
}

static void
report(uint64_t lineno, const char *msg)
{
	say("prompt %llu: %s", (unsigned long long)lineno, msg);
}

static void
on_stop(int sig)
{
	uint64_t one = 1;
	ssize_t r = write(stop_fd, &one, sizeof(one));

	(void)sig;
	(void)r;
}

/* The first signal stops reading; the second one finds no handler. */
static int
catch_stop(struct err *e)
{
	struct sigaction sa = {
		.sa_handler = on_stop,
		.sa_flags = (int)(SA_RESETHAND | SA_RESTART),
	};

	stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (stop_fd == -1 || sigaction(SIGINT, &sa, NULL) == -1 ||
	    sigaction(SIGTERM, &sa, NULL) == -1)
		return err_sys(e, "set up SIGINT and SIGTERM");
	return stop_fd;
}

/* The last name in path, for responses. */
static char *
model_name(const char *path)
{
	size_t n = strlen(path), i;

	while (n > 1 && path[n - 1] == '/')
		n--;
	for (i = n; i > 0 && path[i - 1] != '/'; i--)
		;
	return strndup(path + i, n - i);
}

/* The "created" of responses: the model's time, not now.  So the same input
 * gives the same output, byte for byte, resumed or not, in any layout. */
static int64_t
made_at(const char *dir)
{
	struct buf b = {0};
	struct stat st;
	int64_t t = 0;

	io_path(&b, dir, "config.json");
	if (b.p && stat(b.p, &st) == 0)
		t = st.st_mtim.tv_sec;
	buf_free(&b);
	return t;
}

static int
finish_opts(struct args *a, struct served *s, const char *dir,
    struct err *e)
{
	const char *epoch = getenv("SOURCE_DATE_EPOCH");

	set_defaults(a, &s->api);
	if (a->b.chat && !s->chat)
		return err_set(e, ERR_CALLER, "--chat: %s", s->no_chat.msg);
	if (!a->b.jsonl && !a->b.ids && !s->tok)
		return err_set(e, ERR_CALLER, "the model has no "
		    "tokenizer.json: use --ids, or --jsonl with token ids");
	a->b.created = made_at(dir);
	if (epoch && num_i64(epoch, 0, INT64_MAX, &a->b.created) == -1)
		return err_set(e, ERR_CALLER, "SOURCE_DATE_EPOCH must be "
		    "seconds, not '%s'", epoch);
	a->b.sep = a->nul ? INPUT_NUL : a->whole ? INPUT_ALL : INPUT_LINES;
	a->b.think = a->think ? (enum batch_think)(a->think - 1) :
	    a->b.jsonl ? BATCH_SPLIT : BATCH_SHOW;
	s->show_think = a->b.think == BATCH_SHOW;
	a->b.window = 2 * a->d.engine.max_num_seqs;
	a->b.in_fd = STDIN_FILENO;
	a->b.out_fd = STDOUT_FILENO;
	a->b.progress = a->b.resume || !isatty(STDOUT_FILENO);
	a->b.report = report;
	return make_proto(a, &s->api, e);
}

static void
rank_line(void *arg, unsigned rank, const char *text)
{
	(void)arg;
	say("rank %u: %s", rank, text);
}

static void
waiting(void *arg, unsigned seconds, const char *who)
{
	(void)arg;
	say("still waiting for %s after %u s", who, seconds);
}

static void
refused(void *arg, const char *why)
{
	(void)arg;
	say("refused: %s", why);
}

/* The worlds of the layout, and one engine over them. */
struct worlds {
	struct lead **lead;		/* [n] */
	unsigned n;
	struct engine *all;		/* NULL with one world */
};

static struct engine *
engine_of(const struct worlds *w)
{
	return w->all ? w->all : lead_engine(w->lead[0]);
}

static void
close_worlds(struct worlds *w)
{
	engine_close(&w->all);
	for (unsigned i = 0; w->lead && i < w->n; i++)
		lead_close(&w->lead[i]);
	free(w->lead);
}

static int
open_worlds(struct worlds *w, const struct deploy *d, const char *dir,
    struct err *e)
{
	const struct lead_calls calls = { rank_line, waiting, refused,
		NULL };
	struct engine **part = mem_new(d->worlds, sizeof(*part), e);
	int rc = 0;

	w->n = d->worlds;
	w->lead = mem_new(d->worlds, sizeof(*w->lead), e);
	if (!part || !w->lead)
		rc = -1;
	for (unsigned i = 0; i < w->n && rc == 0; i++) {
		rc = lead_open(&w->lead[i], d, i, dir, &d->engine, &calls, e);
		if (rc == 0)
			part[i] = lead_engine(w->lead[i]);
	}
	if (rc == 0 && w->n > 1)
		rc = engine_join(&w->all, part, w->n, e);
	free(part);
	return rc;
}

/* What the flags come to, in this process or, with MPI, in all. */
static int
resolve(struct deploy *d, const struct mpi *m, struct err *e)
{
	if (deploy_resolve(d, e) == -1 || (m && mpi_check(m, d, e) == -1))
		return -1;
	for (size_t i = 0; i < d->nnotice && (!m || mpi_rank(m) == 0); i++)
		say("%s", d->notice[i]);
	for (unsigned i = 0; i < d->worlds; i++)
		if (!deploy_is_local(d, i * plan_world(&d->layout)))
			return err_set(e, ERR_CALLER, "rank 0 of world %u is "
			    "not on this node: dsi-gen leads every world", i);
	d->engine.threads = (unsigned)d->threads;
	if (d->size > 1 && !m)
		d->engine.host_ranks = deploy_local(d);
	return 0;
}

static void
say_ready(const struct deploy *d, const struct worlds *w)
{
	const struct layout *l = &d->layout;
	unsigned hosts = lead_hosts(w->lead[0]), n;

	for (unsigned i = 1; i < w->n; i++) {
		n = lead_hosts(w->lead[i]);
		hosts = n > hosts ? n : hosts;
	}
	say("ready: %u rank%s on %u host%s, tp%u dp%u pp%u ep%u, context of "
	    "%llu tokens", d->size, d->size == 1 ? "" : "s", hosts,
	    hosts == 1 ? "" : "s", l->tp, d->data, l->pp, l->ep,
	    (unsigned long long)engine_max_len(engine_of(w)));
}

static int
rank_files(const struct deploy *d, struct buf *dir, struct err *e)
{
	return cache_model(dir, d->model, &(struct cache_as){ d->layout,
	    d->quantize, d->dummy, d->hollow }, note, e);
}

/* The worlds and the run over them. */
static int
lead(struct args *a, const char *dir, struct batch_count *count,
    struct err *e)
{
	struct deploy *d = &a->d;
	struct worlds w = {0};
	struct served s = {0};
	char *name = model_name(d->model);
	struct bar load;
	int rc = -1;

	if (!name) {
		err_sys(e, "no memory");
		goto out;
	}
	bar_start(&load, "load", "B", 0);
	d->engine.bar = &load;
	rc = open_worlds(&w, d, dir, e);
	bar_end(&load);
	if (rc == 0)
		rc = served_open(&s, dir, name, engine_arch(engine_of(&w)),
		    engine_max_len(engine_of(&w)), e);
	if (rc == 0)
		rc = finish_opts(a, &s, dir, e);
	if (rc == 0 && (a->b.stop_fd = catch_stop(e)) == -1)
		rc = -1;
	if (rc == 0 && a->ready)
		say_ready(d, &w);
	if (rc == 0)
		rc = batch_run(&a->b, engine_of(&w), &s, count, e);
out:
	api_req_free(&a->b.proto);
	served_close(&s);
	close_worlds(&w);
	free(name);
	return rc;
}

static int
run(struct args *a, struct batch_count *count, struct err *e)
{
	struct buf dir = {0};
	int rc = -1;

	if (resolve(&a->d, NULL, e) == 0 && rank_files(&a->d, &dir, e) == 0)
		rc = lead(a, dir.p, count, e);
	buf_free(&dir);
	return rc;
}

/* ---- the run, where mpirun or srun started all ranks ---- */

/* rc: how parsing went.  Rank files of each host are made by its first rank. */
static int
prepare(struct args *a, struct mpi *m, struct comm_opts *c, struct buf *dir,
    int rc, struct err *e)
{
	if (rc == 0)
		rc = resolve(&a->d, m, e);
	c->waiting = mpi_rank(m) == 0 ? waiting : NULL;
	c->far = mpi_far(m);
	if (rc == 0)
		rc = launch_comm_opts(c, &a->d, e);
	if (rc == 0 && mpi_first(m))
		rc = rank_files(&a->d, dir, e);
	if (mpi_agree(m, rc, e) == -1)
		return -1;
	if (!mpi_first(m))
		rc = rank_files(&a->d, dir, e);
	return mpi_agree(m, rc, e);
}

/* 1: failed, and the lead says why. */
static int
take_part(struct args *a, struct mpi *m, struct engine_link *link,
    const char *dir, struct batch_count *count, struct err *e)
{
	struct deploy *d = &a->d;
	char where[MPI_WHERE];
	int rc;

	if (d->size == 1)
		return lead(a, dir, count, e);
	if (mpi_find_lead(m, d, link, where, e) == -1)
		return -1;
	d->engine.dir = dir;
	if (mpi_rank(m) == 0) {
		d->engine.link = link;
		return lead(a, dir, count, e);
	}
	signal(SIGPIPE, SIG_IGN);
	rc = launch_follow(&d->engine, &link->comm, where, e);
	return rc == 1 && strncmp(e->msg, "rank 0 ", 7) == 0 ? -1 : rc;
}

/* Says itself why it fails, before the launcher ends it because others have
 * ended. */
static int
run_mpi(struct args *a, int parsed, struct batch_count *count, struct err *e)
{
	struct engine_link link = {0};
	struct mpi *m = NULL;
	struct buf dir = {0};
	bool agreed = false;
	int rc = mpi_open(&m, parsed == -1 ? NULL : e);

	if (rc == 0) {
		rc = prepare(a, m, &link.comm, &dir, parsed, e);
		agreed = rc == -1;
	}
	if (rc == 0)
		rc = take_part(a, m, &link, dir.p, count, e);
	if (rc != 0 && !agreed)
		mpi_take_turn(m);
	if (rc == -1 && (!agreed || mpi_rank(m) == 0))
		say("%s", e->msg);
	mpi_close(&m, rc == 0 || agreed);
	buf_free(&dir);
	return rc == 0 ? 0 : -1;
}

static int
operand(struct args *a, int argc, char **argv, struct err *e)
{
	if (argc == 1 && !a->d.model)
		a->d.model = argv[0];
	else if (argc != 0 || !a->d.model)
		return err_set(e, ERR_CALLER, "usage: dsi-gen %s", synopsis);
	return 0;
}

int
main(int argc, char **argv)
{
	struct args a = {
		.max_tokens = UINT64_MAX, .top_k = UINT64_MAX, .n = 1,
		.temperature = NAN, .top_p = NAN, .min_p = NAN,
		.repetition = NAN, .presence = NAN, .frequency = NAN,
	};
	struct batch_count count = {0};
	struct err e = {0};
	int rc;

	prog = "dsi-gen";
	deploy_init(&a.d);
	rc = parse(&a, &argc, argv, &e);
	if (rc == OPT_DONE)
		return 0;
	if (rc == 0 && (check(&a, &e) == -1 ||
	    operand(&a, argc, argv, &e) == -1))
		rc = -1;
	if (mpi_wanted(&a.d)) {
		if (run_mpi(&a, rc, &count, &e) == -1)
			return e.code;
	} else if (rc == -1 || run(&a, &count, &e) == -1) {
		die_err(&e);
	}
	sample_free(&a.stops);
	deploy_free(&a.d);
	if (a.b.jsonl && count.bad)
		say("%llu of %llu requests failed: see their lines",
		    (unsigned long long)count.bad,
		    (unsigned long long)count.done);
	return count.bad || count.stopped ? ERR_NO : 0;
}
