/*
 * engine: the same request gives the same bits, whatever runs beside it.
 *
 * Each prompt alone, with nothing shared and one thread, is the standard.  Then
 * all prompts together under every setting that must not matter: chunk sizes,
 * block sizes, threads, prefix cache, too few blocks (preemption), and a
 * continuation from the middle.  Tokens and logprobs are compared as bits.
 */
#include <ftw.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "engine/engine.h"
#include "shard/shard.h"
#include "tap.h"

enum { NPROMPT = 64, MAX_LEN = 640, MAX_OUT = 40, NLP = 3 };

/* One request, and what it gave. */
struct story {
	int32_t ids[MAX_LEN];
	size_t n;
	struct sample_params p;
	uint64_t id;
	int32_t out[MAX_OUT];
	float lp[MAX_OUT][NLP];
	float plp[MAX_LEN];
	size_t nout, nplp;
	enum engine_finish finish;
};

static char dir[512];

static void
must(int ret, const struct err *e)
{
	if (ret == -1) {
		printf("Bail out! %s\n", e->msg);
		exit(1);
	}
}

static uint32_t
roll(uint32_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 17;
	*x ^= *x << 5;
	return *x;
}

/* Prompts of 1 to 560 tokens, many with a beginning in common; greedy, seeded,
 * penalised; a third with prompt logprobs. */
static void
make_stories(struct story *s)
{
	uint32_t x = 2463534242u;

	memset(s, 0, NPROMPT * sizeof *s);
	for (int i = 0; i < NPROMPT; i++) {
		size_t n = 1 + roll(&x) % (i % 4 ? 150 : 560);

		for (size_t j = 0; j < n; j++)
			s[i].ids[j] = 7 + roll(&x) % 500;
		if (i % 2) {		/* starts like the one before */
			size_t k = n < s[i - 1].n ? n : s[i - 1].n;

			memcpy(s[i].ids, s[i - 1].ids, k * sizeof(int32_t));
		}
		s[i].n = n;
		sample_init(&s[i].p);
		s[i].p.max_tokens = 1 + roll(&x) % MAX_OUT;
		s[i].p.ignore_eos = i % 3 != 0;
		s[i].p.logprobs = 1;
		s[i].p.temperature = i % 3 ? 0.9 : 0;
		s[i].p.has_seed = true;
		s[i].p.seed = i;
		s[i].p.top_p = i % 5 ? 1 : 0.8;
		s[i].p.repetition_penalty = i % 7 ? 1 : 1.2;
		s[i].p.prompt_logprobs = i % 3 == 1 ? 0 : SAMPLE_LOGPROBS_OFF;
	}
}

static struct engine *
open_engine(const struct engine_opts *o)
{
	struct err e = { 0 };
	struct engine *g;

	must(engine_open(&g, o, &e), &e);
	return g;
}

static void
add(struct engine *g, struct story *s)
{
	struct engine_seq q = { .ids = s->ids, .n = s->n, .nprompt = s->n,
		.params = &s->p };
	struct err e = { 0 };

	s->nout = 0;
	s->nplp = 0;
	s->finish = ENGINE_RUNNING;
	must(engine_add(g, &q, &s->id, &e), &e);
}

static void
take(struct story *s, const struct engine_out *o)
{
	for (size_t i = 0; i < o->nprompt; i++)
		s->plp[s->nplp++] = o->prompt_lp[i].chosen.lp;
	if (o->token >= 0) {
		s->lp[s->nout][0] = o->lp->chosen.lp;
		s->lp[s->nout][1] = (float)o->lp->chosen.rank;
		s->lp[s->nout][2] = o->lp->top[0].lp;
		s->out[s->nout++] = o->token;
	}
	s->finish = o->finish;
}

static void
run(struct engine *g, struct story *s, int n)
{
	const struct engine_out *o;
	struct err e = { 0 };
	size_t no;
	int more;

	do {
		must(more = engine_step(g, &o, &no, &e), &e);
		for (size_t i = 0; i < no; i++)
			for (int k = 0; k < n; k++)
				if (s[k].id == o[i].id)
					take(&s[k], &o[i]);
	} while (more);
}

static bool
same(const struct story *a, const struct story *b)
{
	return a->nout == b->nout && a->nplp == b->nplp &&
	    a->finish == b->finish &&
	    memcmp(a->out, b->out, a->nout * sizeof *a->out) == 0 &&
	    memcmp(a->lp, b->lp, a->nout * sizeof *a->lp) == 0 &&
	    memcmp(a->plp, b->plp, a->nplp * sizeof *a->plp) == 0;
}

static int
count_same(const struct story *a, const struct story *b)
{
	int n = 0;

	for (int i = 0; i < NPROMPT; i++)
		n += same(&a[i], &b[i]);
	return n;
}

/* ---- the standard: one at a time ---- */

static void
alone(struct engine_opts o, struct story *s)
{
	struct engine *g;

	o.threads = 1;
	o.prefix_caching = false;
	g = open_engine(&o);
	for (int i = 0; i < NPROMPT; i++) {
		add(g, &s[i]);
		run(g, &s[i], 1);
	}
	engine_close(&g);
}

static void
together(const struct engine_opts *o, const struct story *want,
    const char *what, bool preempts)
{
	static struct story s[NPROMPT];
	struct engine *g = open_engine(o);
	struct engine_stats st;

	make_stories(s);
	for (int i = 0; i < NPROMPT; i++)
		add(g, &s[i]);
	run(g, s, NPROMPT);
	engine_stats(g, &st);
	tap_ok(count_same(want, s) == NPROMPT, "%s: %d of %d the same bits",
	    what, count_same(want, s), NPROMPT);
	if (preempts)
		tap_ok(st.preemptions > 0, "%s: %llu preemptions", what,
		    (unsigned long long)st.preemptions);
	tap_ok(st.blocks_used == 0, "%s: all blocks came back", what);
	if (o->prefix_caching) {	/* now everything is in the cache */
		for (int i = 0; i < NPROMPT; i++)
			add(g, &s[i]);
		run(g, s, NPROMPT);
		engine_stats(g, &st);
		tap_ok(count_same(want, s) == NPROMPT,
		    "%s: again, %llu tokens from the cache", what,
		    (unsigned long long)st.cached_tokens);
	}
	engine_close(&g);
}

/* A sequence goes on elsewhere from its prompt and the tokens it had. */
static void
continued(const struct engine_opts *o, const struct story *want)
{
	struct engine *g = open_engine(o);
	int n = 0, tried = 0;

	for (int i = 0; i < NPROMPT; i++) {
		static struct story s;
		struct engine_seq q;
		struct err e = { 0 };
		size_t had = want[i].nout / 2;

		if (want[i].nout < 2 || want[i].n + had > MAX_LEN)
			continue;
		s = want[i];
		memcpy(s.ids + s.n, want[i].out, had * sizeof *s.ids);
		s.p.prompt_logprobs = SAMPLE_LOGPROBS_OFF;
		s.nout = 0;
		q = (struct engine_seq){ .ids = s.ids, .n = s.n + had,
			.nprompt = s.n, .params = &s.p };
		must(engine_add(g, &q, &s.id, &e), &e);
		run(g, &s, 1);
		tried++;
		n += s.nout == want[i].nout - had && s.finish ==
		    want[i].finish && memcmp(s.out, want[i].out + had,
			s.nout * sizeof *s.out) == 0 &&
		    memcmp(s.lp, want[i].lp + had, s.nout * sizeof *s.lp) == 0;
	}
	tap_ok(tried > 40 && n == tried,
	    "continued from the middle: %d of %d the same bits", n, tried);
	engine_close(&g);
}

/* ---- limits and errors ---- */

static void
refused(struct engine *g, const int32_t *ids, size_t n, const char *word)
{
	struct sample_params p;
	struct engine_seq q = { .ids = ids, .n = n, .nprompt = n,
		.params = &p };
	struct err e = { 0 };
	uint64_t id;

	sample_init(&p);
	p.max_tokens = 5;
	tap_ok(engine_add(g, &q, &id, &e) == -1 && e.code == ERR_CALLER &&
	    strstr(e.msg, word), "refused: %s", e.msg);
}

static void
limits(struct engine_opts o)
{
	static int32_t ids[MAX_LEN];
	struct engine *g;
	struct err e = { 0 };
	struct story s;

	o.max_model_len = 100;
	g = open_engine(&o);
	refused(g, ids, 0, "empty");
	refused(g, ids, 100, "100");
	refused(g, (int32_t[]){ 3, 512 }, 2, "512");
	refused(g, (int32_t[]){ -1 }, 1, "-1");
	memset(&s, 0, sizeof s);
	sample_init(&s.p);
	s.p.max_tokens = 1000;
	s.p.ignore_eos = true;
	s.p.logprobs = 1;
	s.n = 90;
	add(g, &s);
	run(g, &s, 1);
	tap_ok(s.nout == 10 && s.finish == ENGINE_LENGTH,
	    "a sequence ends at the context's end: %zu tokens", s.nout);
	s.p.max_tokens = 0;
	s.p.prompt_logprobs = 0;
	add(g, &s);
	run(g, &s, 1);
	tap_ok(s.nout == 0 && s.nplp == 89 && s.finish == ENGINE_LENGTH,
	    "max_tokens 0 scores the prompt: %zu logprobs", s.nplp);
	add(g, &s);
	engine_abort(g, s.id);
	engine_abort(g, s.id);
	s.nplp = 0;
	run(g, &s, 1);
	tap_ok(s.nplp == 0, "an aborted sequence says nothing");
	engine_close(&g);
	o.max_model_len = 40000;
	tap_ok(engine_open(&g, &o, &e) == -1 && e.code == ERR_CALLER &&
	    strstr(e.msg, "32768"), "refused: %s", e.msg);
	o.max_model_len = 4096;
	o.num_blocks = 3;
	tap_ok(engine_open(&g, &o, &e) == -1 && e.code == ERR_CALLER &&
	    strstr(e.msg, "384"), "refused: %s", e.msg);
	o.block_size = 24;
	tap_ok(engine_open(&g, &o, &e) == -1 && strstr(e.msg, "24"),
	    "refused: %s", e.msg);
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void
make_ranks(void)
{
	struct shard_opts so = { .out = dir, .layout = { 1, 1, 1, 1 } };
	struct err e = { 0 };
	char src[512];

	snprintf(src, sizeof src, "%s/share/demo/model", tap_top());
	snprintf(dir, sizeof dir, "%s/dsi-engine-XXXXXX",
	    getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	if (mkdtemp(dir) == NULL)
		exit(1);
	so.model = src;
	must(shard_run(&so, &e), &e);
}

int
main(void)
{
	static struct story want[NPROMPT];
	struct engine_opts o;

	make_ranks();
	engine_defaults(&o);
	o.dir = dir;
	o.threads = 2;
	o.max_model_len = 1024;
	make_stories(want);
	alone(o, want);
	together(&o, want, "the defaults", false);
	for (int i = 0; i < 3; i++) {
		static const uint64_t chunk[] = { 16, 100, 4096 };
		char what[64];

		o.max_num_batched_tokens = chunk[i];
		o.block_size = 16u << i;
		for (int cache = 0; cache < 2; cache++) {
			o.prefix_caching = cache;
			o.threads = 1 + (i + cache) % 2;
			snprintf(what, sizeof what, "chunks of %d, prefix "
			    "cache %s, %u threads", (int)chunk[i],
			    cache ? "on" : "off", o.threads);
			together(&o, want, what, false);
		}
	}
	o.block_size = 16;
	o.num_blocks = 64;		/* 1024 tokens for all 64 */
	o.max_num_batched_tokens = 100;
	together(&o, want, "too few blocks", true);
	o.prefix_caching = false;
	together(&o, want, "too few blocks, no prefix cache", true);
	o.num_blocks = 0;
	continued(&o, want);
	engine_defaults(&o);
	o.dir = dir;
	limits(o);
	nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	return tap_done();
}
