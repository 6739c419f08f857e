/*
 * sched: small plans by hand, then random worlds with a fake model.
 *
 * The fake model's cache row for a token is a hash over the whole sequence up
 * to it, the way each row was computed (kv_expanded) and the salt; the next
 * token is a hash of the last row, read back from the cache.  Before a part is
 * computed every row that it builds on is read and compared.  So a block that
 * was handed out too early, shared wrongly, found under a wrong key or never
 * computed is seen at once, and a sequence ends with the tokens of an
 * undisturbed run or not at all.
 */
#include <string.h>

#include "sched/sched.h"
#include "tap.h"

static uint64_t rng = 3;

static uint32_t
rnd(uint32_t n)
{
	rng ^= rng << 13;		/* Marsaglia's xorshift64 */
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)(rng >> 33) % n;
}

static uint64_t
mix(uint64_t h, uint64_t x)
{
	h = (h ^ x) * UINT64_C(0xff51afd7ed558ccd);
	return h ^ h >> 32;
}

static uint64_t
row_of(uint64_t prev, int32_t id, size_t pos, size_t nprompt, uint64_t salt)
{
	return mix(mix(prev, (uint32_t)id), 2 * salt +
	    kv_expanded(pos, nprompt));
}

static int32_t
token_of(uint64_t row)
{
	return (int32_t)(mix(row, 5) % 1000);
}

/* ---- the fake world ---- */

enum { NSEQ = 40, MAXLEN = 400 };

struct sim_seq {
	uint64_t id;
	int32_t want[MAXLEN];		/* the undisturbed run */
	size_t nprompt, n0, n, target;	/* tokens: prompt, given, now, end */
	uint64_t salt;
	int64_t priority;
	bool no_cache_read, alive;
	bool running;			/* in the last plan */
	size_t done;			/* rows computed since admission */
	uint64_t admitted;		/* its number, 0: not */
	int abort_in;			/* steps; < 0: never */
};

struct sim {
	struct sched_opts o;
	struct kv *kv;
	struct sched *s;
	size_t nblock, bs;
	unsigned calm;			/* steps between arrivals */
	uint64_t *row;			/* [nblock][bs] */
	struct sim_seq q[NSEQ];
	size_t nq, nalive;
	uint64_t admissions, preempted;
	int bad;
	bool unsure;			/* the last plan failed half-way */
	char why[1200];
};

struct totals {
	uint64_t steps, preemptions, hits, generated_hits, chunks, stuck,
	    aborts, finished;
};

static void
complain(struct sim *w, const char *why, uint64_t id)
{
	if (!w->bad++)
		snprintf(w->why, sizeof(w->why), "%s (sequence %llu)", why,
		    (unsigned long long)id);
}

static void
must(struct sim *w, bool ok, const char *why, uint64_t id)
{
	if (!ok)
		complain(w, why, id);
}

static size_t
nblocks(const struct sim *w, size_t n)
{
	return (n + w->bs - 1) / w->bs;
}

static void
run_undisturbed(struct sim_seq *q)
{
	uint64_t h = 0;

	for (size_t i = 0; i + 1 < q->target; i++) {
		h = row_of(h, q->want[i], i, q->nprompt, q->salt);
		if (i + 1 >= q->nprompt)
			q->want[i + 1] = token_of(h);
	}
}

/* A prompt of its own, one with a common head, what an earlier sequence
 * said as a prompt, or an earlier sequence continued. */
static void
make_prompt(struct sim *w, struct sim_seq *q)
{
	unsigned kind = rnd(5), family = rnd(3);
	size_t head = rnd(MAXLEN / 2);
	const struct sim_seq *old = w->nq ? &w->q[rnd(w->nq)] : NULL;

	q->salt = rnd(6) == 0;
	q->nprompt = 1 + rnd(rnd(3) ? 20 : 270);
	for (size_t i = 0; i < q->nprompt; i++)
		q->want[i] = kind < 3 && i < head ?
		    (int32_t)(family * 7 + i % 50) : (int32_t)rnd(1000);
	q->target = q->nprompt + 1 + rnd(rnd(4) ? 120 : 5);
	q->n0 = q->nprompt;
	if (kind < 3 || !old)
		return;
	memcpy(q->want, old->want, sizeof(q->want));
	q->salt = old->salt;
	if (kind == 3) {		/* the next turn of a talk */
		q->nprompt = q->n0 = old->target;
		q->target = old->target + 1 + rnd(20);
	} else {			/* moved here from another world */
		q->nprompt = old->nprompt;
		q->target = old->target;
		q->n0 = q->nprompt + rnd(q->target - q->nprompt);
	}
	if (q->target > MAXLEN)
		q->target = MAXLEN;
	if (q->n0 >= q->target)
		q->nprompt = q->n0 = q->target - 1;
}

static void
arrive(struct sim *w)
{
	struct sim_seq *q = &w->q[w->nq];
	struct err e = {0};

	make_prompt(w, q);
	run_undisturbed(q);
	q->id = 1000 + 3 * w->nq;
	q->n = q->n0;
	q->priority = (int64_t)rnd(3) - 1;
	q->no_cache_read = rnd(8) == 0;
	q->abort_in = rnd(6) ? -1 : (int)rnd(60);
	q->alive = true;
	if (sched_add(w->s, q->id, q->want, q->n, q->nprompt, q->priority,
	    q->salt, q->no_cache_read, q, &e) == -1)
		complain(w, e.msg, q->id);
	w->nq++;
	w->nalive++;
}

static void
leave(struct sim *w, struct sim_seq *q)
{
	sched_remove(w->s, q->id);
	q->alive = false;
	w->nalive--;
}

static bool
goes_before(const struct sim_seq *a, const struct sim_seq *b)
{
	return a->priority != b->priority ? a->priority < b->priority :
	    a->id < b->id;
}

/* ---- what must hold for a plan ---- */

static void
check_part(struct sim *w, const struct sched_part *p)
{
	struct sim_seq *q = p->user;

	must(w, q->alive && q->id == p->id, "a part of nobody", p->id);
	must(w, p->len == q->n && p->nprompt == q->nprompt &&
	    memcmp(p->ids, q->want, q->n * sizeof(*p->ids)) == 0,
	    "wrong tokens", p->id);
	must(w, p->n > 0 && p->pos + p->n <= p->len, "wrong rows", p->id);
	must(w, p->sample == (p->pos + p->n == p->len), "wrong sample", p->id);
	must(w, p->nblock >= nblocks(w, p->pos + p->n), "too few blocks",
	    p->id);
	must(w, p->first ? p->pos == p->ncached && p->ncached % w->bs == 0 &&
	    p->ncached < p->len : p->pos == q->done, "wrong position", p->id);
	if (q->no_cache_read || !w->o.prefix_caching)
		must(w, p->ncached == 0, "read the cache unasked", p->id);
}

/* A block that is written belongs to one sequence, once. */
static void
check_writes(struct sim *w, const struct sched_part *p, size_t np)
{
	size_t *users = calloc(w->nblock, sizeof(*users));

	for (size_t i = 0; i < np; i++) {
		for (size_t j = 0; j < p[i].nblock; j++) {
			must(w, p[i].block[j] < w->nblock, "no such block",
			    p[i].id);
			users[p[i].block[j]]++;
		}
	}
	for (size_t i = 0; i < np; i++) {
		for (size_t pos = p[i].pos; pos < p[i].pos + p[i].n; pos++)
			must(w, users[p[i].block[pos / w->bs]] == 1,
			    "writes a shared block", p[i].id);
	}
	free(users);
}

static bool
is_planned(const struct sched_part *p, size_t np, uint64_t id)
{
	for (size_t i = 0; i < np; i++) {
		if (p[i].id == id)
			return true;
	}
	return false;
}

/* Who was admitted, who was preempted, and in what order. */
static void
check_order(struct sim *w, const struct sched_part *p, size_t np)
{
	uint64_t last = 0;

	for (size_t i = 0; i < np; i++) {
		struct sim_seq *q = p[i].user;

		must(w, !is_planned(p + i + 1, np - i - 1, q->id), "twice",
		    q->id);
		if (!q->running || w->unsure)
			q->admitted = ++w->admissions;
		must(w, q->running || p[i].first, "admitted but not first",
		    q->id);
		must(w, q->admitted > last, "not in admission order", q->id);
		last = q->admitted;
	}
	for (size_t i = 0; i < w->nq; i++) {
		struct sim_seq *q = &w->q[i];

		if (!q->alive || is_planned(p, np, q->id))
			continue;
		for (size_t j = 0; j < np; j++) {
			const struct sim_seq *r = p[j].user;

			must(w, !q->running || goes_before(r, q),
			    "the wrong one was preempted", q->id);
			must(w, r->running || w->unsure || goes_before(r, q),
			    "overtaken in the queue", q->id);
		}
	}
	for (size_t i = 0; i < w->nq; i++)
		w->q[i].running = w->q[i].alive &&
		    is_planned(p, np, w->q[i].id);
}

static void
check_plan(struct sim *w, const struct sched_part *p, size_t np)
{
	size_t rows = 0;
	bool preempted = w->unsure ||
	    sched_preemptions(w->s) != w->preempted;

	for (size_t i = 0; i < np; i++) {
		check_part(w, &p[i]);
		rows += p[i].n;
	}
	if (w->bad)
		return;
	must(w, rows <= w->o.max_tokens, "over the budget", rows);
	must(w, np <= w->o.max_seqs, "too many run", np);
	must(w, np > 0 || !w->nalive, "nothing is planned", w->nalive);
	must(w, np == sched_running(w->s), "one runs without a row", np);
	must(w, np + sched_waiting(w->s) == w->nalive, "one is lost", np);
	for (size_t i = 0; i < np; i++)
		must(w, preempted || p[i].sample || rows == w->o.max_tokens,
		    "cut short for nothing", p[i].id);
	check_writes(w, p, np);
	check_order(w, p, np);
	w->preempted = sched_preemptions(w->s);
	w->unsure = false;
}

/* ---- the fake model ---- */

static uint64_t *
slot(struct sim *w, const struct sched_part *p, size_t pos)
{
	return &w->row[p->block[pos / w->bs] * w->bs + pos % w->bs];
}

static void
check_reads(struct sim *w, const struct sched_part *p)
{
	const struct sim_seq *q = p->user;
	uint64_t h = 0;

	for (size_t i = 0; i < p->pos; i++) {
		h = row_of(h, p->ids[i], i, q->nprompt, q->salt);
		if (*slot(w, p, i) != h) {
			complain(w, "builds on a row that isn't there", p->id);
			return;
		}
	}
}

static void
compute(struct sim *w, const struct sched_part *p)
{
	const struct sim_seq *q = p->user;

	for (size_t i = p->pos; i < p->pos + p->n; i++)
		*slot(w, p, i) = row_of(i ? *slot(w, p, i - 1) : 0, p->ids[i],
		    i, q->nprompt, q->salt);
}

static void
give_token(struct sim *w, const struct sched_part *p, struct totals *t)
{
	struct sim_seq *q = p->user;
	int32_t token = token_of(*slot(w, p, p->len - 1));

	must(w, token == q->want[q->n], "another token", q->id);
	if (++q->n < q->target) {
		must(w, sched_token(w->s, q->id, token, NULL) == 0,
		    "token refused", q->id);
		return;
	}
	t->finished++;
	leave(w, q);
}

static void
execute(struct sim *w, const struct sched_part *parts, size_t np,
    struct totals *t)
{
	for (size_t i = 0; i < np; i++)
		check_reads(w, &parts[i]);
	for (size_t i = 0; i < np; i++) {
		const struct sched_part *p = &parts[i];
		struct sim_seq *q = p->user;

		compute(w, p);
		q->done = p->pos + p->n;
		t->chunks += !p->sample;
		t->hits += p->first && p->ncached;
		t->generated_hits += p->first && p->ncached > p->nprompt;
	}
	sched_done(w->s);
	for (size_t i = 0; i < np; i++) {
		if (parts[i].sample)
			give_token(w, &parts[i], t);
	}
}

/* ---- one world ---- */

static void
aborts(struct sim *w, struct totals *t)
{
	for (size_t i = 0; i < w->nq; i++) {
		struct sim_seq *q = &w->q[i];

		if (!q->alive || q->abort_in < 0 || q->abort_in--)
			continue;
		t->aborts++;
		leave(w, q);
	}
}

static void
take_stuck(struct sim *w, uint64_t id, struct totals *t)
{
	struct sim_seq *q = sched_user(w->s, id);

	if (!q) {
		complain(w, "an unknown one is stuck", id);
		return;
	}
	must(w, nblocks(w, q->n) > w->nblock, "stuck without need", id);
	t->stuck++;
	leave(w, q);
}

static void
step(struct sim *w, struct totals *t)
{
	const struct sched_part *p;
	struct err e = {0};
	uint64_t stuck;
	size_t np;

	if (w->nq < NSEQ && rnd(w->calm) == 0)
		arrive(w);
	aborts(w, t);
	if (sched_plan(w->s, &p, &np, &stuck, &e) == -1) {
		take_stuck(w, stuck, t);
		w->unsure = true;
		return;
	}
	t->steps++;
	check_plan(w, p, np);
	if (w->bad || rnd(20) == 0)
		return;			/* this step failed: plan again */
	execute(w, p, np, t);
}

static int
sim_open(struct sim *w)
{
	static const size_t bs[] = { 4, 16, 32, 128 };

	memset(w, 0, sizeof(*w));
	w->bs = bs[rnd(4)];
	w->nblock = 1 + rnd(2 + 600 / w->bs);
	w->o = (struct sched_opts){ .max_seqs = 1 + rnd(16),
	    .max_tokens = 1 + rnd(rnd(3) ? 150 : 12), .max_len = MAXLEN,
	    .prefix_caching = rnd(4) != 0 };
	w->calm = 1 + rnd(20);
	w->row = calloc(w->nblock * w->bs, sizeof(*w->row));
	if (!w->row || kv_open(&w->kv, w->nblock, w->bs, NULL) == -1)
		return -1;
	return sched_open(&w->s, &w->o, w->kv, NULL);
}

static void
sim_run(struct sim *w, struct totals *t)
{
	int left = 60000;

	while ((w->nq < NSEQ || w->nalive) && !w->bad && left--)
		step(w, t);
	must(w, left > 0, "no end", w->nalive);
	if (!w->bad) {
		must(w, kv_free_blocks(w->kv) == w->nblock,
		    "blocks are still held", kv_free_blocks(w->kv));
		must(w, sched_running(w->s) + sched_waiting(w->s) == 0 &&
		    !sched_any(w->s), "sequences are left", 0);
	}
	t->preemptions += sched_preemptions(w->s);
	sched_close(&w->s);
	must(w, w->bad || kv_free_blocks(w->kv) == w->nblock,
	    "blocks leak in close", 0);
	kv_close(&w->kv);
	free(w->row);
}

static void
test_random(int nworld)
{
	static struct sim w;
	struct totals t = {0};
	int bad = 0;

	for (int i = 0; i < nworld && bad < 5; i++) {
		rng = 1000 + i;
		if (sim_open(&w) == -1)
			break;
		sim_run(&w, &t);
		if (w.bad)
			printf("# world %d: %s: %zu blocks of %zu, %zu "
			    "sequences, %zu rows, caching %d\n", i, w.why,
			    w.nblock, w.bs, w.o.max_seqs, w.o.max_tokens,
			    w.o.prefix_caching);
		bad += w.bad != 0;
	}
	tap_ok(bad == 0, "%d random worlds keep all the rules", nworld);
	tap_ok(t.finished > 1000 && t.preemptions > 1000 && t.hits > 1000 &&
	    t.generated_hits > 50 && t.chunks > 1000 && t.stuck > 50 &&
	    t.aborts > 100, "and saw it all: steps %llu, finished %llu, "
	    "preemptions %llu, hits %llu, of generated tokens %llu, chunks "
	    "%llu, stuck %llu, aborts %llu", (unsigned long long)t.steps,
	    (unsigned long long)t.finished, (unsigned long long)t.preemptions,
	    (unsigned long long)t.hits, (unsigned long long)t.generated_hits,
	    (unsigned long long)t.chunks, (unsigned long long)t.stuck,
	    (unsigned long long)t.aborts);
}

/* ---- by hand ---- */

static struct kv *kv;
static struct sched *sc;
static const struct sched_part *part;
static size_t npart;
static uint64_t stuck_id;

static void
begin(size_t nblock, size_t bs, size_t max_seqs, size_t max_tokens)
{
	struct sched_opts o = { .max_seqs = max_seqs,
	    .max_tokens = max_tokens, .max_len = 1000, .prefix_caching = true };

	if (kv_open(&kv, nblock, bs, NULL) == -1 ||
	    sched_open(&sc, &o, kv, NULL) == -1)
		exit(111);
}

static void
end(void)
{
	sched_close(&sc);
	kv_close(&kv);
}

/* n tokens 10, 11, 12 ... */
static void
add(uint64_t id, size_t n, size_t nprompt, int64_t priority, uint64_t salt,
    bool no_read)
{
	int32_t ids[600];

	for (size_t i = 0; i < n; i++)
		ids[i] = 10 + i;
	sched_add(sc, id, ids, n, nprompt, priority, salt, no_read, NULL, NULL);
}

static int
plan(void)
{
	return sched_plan(sc, &part, &npart, &stuck_id, NULL);
}

static bool
is_part(size_t i, uint64_t id, size_t pos, size_t n, bool sample)
{
	return i < npart && part[i].id == id && part[i].pos == pos &&
	    part[i].n == n && part[i].sample == sample;
}

static void
test_chunks(void)
{
	begin(20, 16, 4, 24);
	add(1, 10, 10, 0, 0, false);
	add(2, 40, 40, 0, 0, false);
	add(3, 5, 5, 0, 0, false);
	plan();
	tap_ok(npart == 2 && is_part(0, 1, 0, 10, true) &&
	    is_part(1, 2, 0, 14, false), "a prompt is cut at the budget");
	sched_done(sc);
	sched_token(sc, 1, 99, NULL);
	plan();
	tap_ok(npart == 2 && is_part(0, 1, 10, 1, true) &&
	    is_part(1, 2, 14, 23, false), "who decodes gets one row, the rest "
	    "of the budget goes on with the prompt");
	tap_ok(part[0].ids[10] == 99 && part[0].len == 11 &&
	    part[0].nprompt == 10, "the token is there");
	sched_done(sc);
	sched_token(sc, 1, 98, NULL);
	plan();
	tap_ok(npart == 3 && is_part(1, 2, 37, 3, true) &&
	    is_part(2, 3, 0, 5, true), "then the next is admitted");
	end();
}

/* Admits id, runs it through its prompt, and removes it. */
static size_t
cached(uint64_t id, size_t n, size_t nprompt, uint64_t salt, bool no_read)
{
	size_t hit;

	add(id, n, nprompt, 0, salt, no_read);
	plan();
	hit = npart ? part[0].ncached : 9999;
	sched_done(sc);
	sched_remove(sc, id);
	return hit;
}

static void
test_prefix(void)
{
	begin(100, 16, 4, 600);
	tap_ok(cached(1, 64, 64, 0, false) == 0, "nothing is cached at first");
	tap_ok(cached(2, 64, 64, 0, false) == 48, "the same again: all full "
	    "blocks but that of the last token");
	tap_ok(cached(3, 65, 65, 0, false) == 64, "one more: all four");
	tap_ok(cached(4, 65, 30, 0, false) == 64, "a continued sequence finds "
	    "its generated tokens too");
	tap_ok(cached(5, 65, 65, 7, false) == 0, "not with another salt");
	tap_ok(cached(6, 65, 65, 0, true) == 0, "nor when it must not read");
	tap_ok(cached(7, 300, 100, 0, false) == 64, "rows of a prompt under "
	    "128 tokens are absorbed, as are generated ones");
	tap_ok(cached(8, 300, 300, 0, false) == 0, "those of a longer prompt "
	    "are expanded: no hit");
	tap_ok(cached(9, 300, 257, 0, false) == 288, "256 expanded, the rest "
	    "absorbed: as before");
	tap_ok(cached(10, 300, 200, 0, false) == 128, "128 expanded: up to "
	    "there");
	tap_ok(cached(11, 300, 100, 0, false) == 288, "none expanded");
	tap_ok(kv_free_blocks(kv) == 100, "all blocks went back");
	add(12, 20, 20, 0, 9, false);
	add(13, 20, 20, 0, 9, false);
	plan();
	tap_ok(npart == 2 && part[1].ncached == 0, "what is only planned can't "
	    "be found");
	end();
}

static void
test_preemption(void)
{
	begin(4, 4, 4, 100);
	add(1, 8, 8, 1, 1, false);
	add(2, 4, 4, 0, 2, false);
	add(3, 4, 4, 0, 3, false);
	plan();
	tap_ok(npart == 2 && part[0].id == 2 && part[1].id == 3 &&
	    sched_waiting(sc) == 1, "by priority, then arrival; one block "
	    "stays free while others run");
	sched_done(sc);
	sched_token(sc, 2, 5, NULL);
	sched_token(sc, 3, 5, NULL);
	plan();
	tap_ok(npart == 2 && part[0].nblock == 2 && part[1].nblock == 2,
	    "each takes another block");
	for (int i = 0; i < 4; i++) {
		sched_done(sc);
		sched_token(sc, 2, 5, NULL);
		sched_token(sc, 3, 5, NULL);
		plan();
	}
	tap_ok(npart == 1 && is_part(0, 2, 8, 1, true) &&
	    sched_preemptions(sc) == 1 && sched_waiting(sc) == 2,
	    "none left: the last one is preempted");
	sched_remove(sc, 2);
	plan();
	tap_ok(npart == 1 && part[0].id == 3 && part[0].first &&
	    part[0].len == 9 && part[0].ncached % 4 == 0,
	    "it comes back before one of lower priority");
	for (int i = 0; i < 8; i++) {
		sched_done(sc);
		tap_ok(sched_token(sc, 3, 6, NULL) == 0 && (plan() == 0) ==
		    (i < 7), "alone with %zu tokens", part ? part[0].len : 17);
	}
	tap_ok(stuck_id == 3, "17 tokens don't fit in 4 blocks: stuck");
	sched_remove(sc, 3);
	add(4, 17, 17, 0, 0, false);
	tap_ok(plan() == -1 && stuck_id == 4, "nor does a prompt of 17");
	sched_remove(sc, 4);
	tap_ok(plan() == 0 && npart == 1 && part[0].id == 1,
	    "who waited is served in the end");
	end();
}

static void
test_misc(void)
{
	int32_t ids[3] = { 1, 2, 3 };
	struct sched_opts o = {0};
	struct sched *none;
	struct err e = {0};
	size_t n;

	tap_ok(sched_open(&none, &o, NULL, &e) == -1 && !none, "%s", e.msg);
	begin(4, 4, 4, 100);
	tap_ok(plan() == 0 && npart == 0 && !sched_any(sc), "nothing to do");
	tap_ok(sched_add(sc, 1, ids, 0, 0, 0, 0, false, NULL, &e) == -1, "%s",
	    e.msg);
	tap_ok(sched_add(sc, 1, ids, 2, 3, 0, 0, false, NULL, &e) == -1, "%s",
	    e.msg);
	tap_ok(sched_add(sc, 1, ids, 1001, 3, 0, 0, false, NULL, &e) == -1,
	    "%s", e.msg);
	sched_add(sc, 1, ids, 3, 3, 0, 0, false, &n, &e);
	tap_ok(sched_add(sc, 1, ids, 3, 3, 0, 0, false, &n, &e) == -1, "%s",
	    e.msg);
	tap_ok(sched_token(sc, 2, 5, &e) == -1, "%s", e.msg);
	tap_ok(sched_user(sc, 1) == &n && !sched_user(sc, 2) &&
	    sched_any(sc) == &n, "user pointers");
	ids[0] = 9;
	sched_token(sc, 1, 5, &e);
	tap_ok(sched_ids(sc, 1, &n)[0] == 1 && sched_ids(sc, 1, &n)[3] == 5 &&
	    n == 4 && !sched_ids(sc, 2, &n) && n == 0, "tokens are a copy");
	sched_remove(sc, 2);
	plan();
	sched_remove(sc, 1);
	sched_done(sc);
	tap_ok(plan() == 0 && npart == 0 && kv_free_blocks(kv) == 4,
	    "removed between plan and done");
	end();
}

/* Ids that crowd the table, removed in another order. */
static void
test_table(void)
{
	enum { N = 500 };
	int32_t one = 1;
	int bad = 0;

	begin(4, 4, 4, 100);
	for (uint64_t i = 0; i < N; i++)
		sched_add(sc, i << 40, &one, 1, 1, 0, 0, false, &one, NULL);
	for (uint64_t i = 0; i < N; i += 3)
		sched_remove(sc, i << 40);
	for (uint64_t i = 0; i < N; i++)
		bad += (sched_user(sc, i << 40) != NULL) != (i % 3 != 0);
	tap_ok(bad == 0 && sched_waiting(sc) == N - (N + 2) / 3,
	    "ids are found, removed ones are not");
	end();
}

int
main(void)
{
	test_misc();
	test_table();
	test_chunks();
	test_prefix();
	test_preemption();
	test_random(600);
	return tap_done();
}
