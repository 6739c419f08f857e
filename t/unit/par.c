/*
 * par: every thread once, in step at barriers, what is written is seen; more
 * threads than CPUs; thousands of short runs.
 */
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "par/par.h"
#include "tap.h"

enum { THREADS = 13, STEPS = 50, RUNS = 3000 };

struct job {
	struct par *p;
	unsigned times[PAR_MAX];	/* plain memory: par_run orders it */
	uint64_t sum[2][THREADS];
	bool wrong;
	_Atomic unsigned now;
};

static void
count(void *arg, unsigned thread, unsigned nthreads)
{
	struct job *j = arg;

	if (nthreads != par_threads(j->p) || thread >= nthreads)
		j->wrong = true;
	else
		j->times[thread]++;
}

static void
test_count(unsigned nthreads)
{
	struct job *j = mem_new(1, sizeof(*j), NULL);
	struct err e = {0};
	bool ok = true;

	if (!tap_ok(par_open(&j->p, nthreads, &e) == 0, "%u threads %s",
	    nthreads, e.msg)) {
		free(j);
		return;
	}
	for (int i = 0; i < RUNS / (int)nthreads + 1; i++) {
		par_run(j->p, count, j);
		for (unsigned t = 0; t < nthreads; t++)
			ok &= j->times[t] == (unsigned)i + 1;
	}
	tap_ok(ok && !j->wrong, "%u threads: each once a run", nthreads);
	par_close(j->p);
	free(j);
}

/* Each step, every thread reads what all wrote in the step before. */
static void
step(void *arg, unsigned thread, unsigned nthreads)
{
	struct job *j = arg;

	for (unsigned s = 0; s < STEPS; s++) {
		uint64_t *old = j->sum[s % 2], *new = j->sum[(s + 1) % 2];

		new[thread] = 1;
		for (unsigned t = 0; t < nthreads; t++)
			new[thread] += old[t] % 1000003;
		par_barrier(j->p);
	}
}

static uint64_t
steps_alone(unsigned n)
{
	uint64_t x = 0;

	for (unsigned s = 0; s < STEPS; s++)
		x = 1 + n * (x % 1000003);
	return x;
}

static void
test_barrier(unsigned nthreads)
{
	struct job *j = mem_new(1, sizeof(*j), NULL);
	bool ok = true;

	if (par_open(&j->p, nthreads, NULL) == -1)
		die(111, "par_open");
	for (int i = 0; i < 20; i++) {
		memset(j->sum, 0, sizeof(j->sum));
		par_run(j->p, step, j);
		for (unsigned t = 0; t < nthreads; t++)
			ok &= j->sum[STEPS % 2][t] == steps_alone(nthreads);
	}
	tap_ok(ok, "%u threads keep in step", nthreads);
	par_close(j->p);
	free(j);
}

/* Nobody may return from par_run before the slowest is through. */
static void
slow_last(void *arg, unsigned thread, unsigned nthreads)
{
	struct job *j = arg;

	if (thread == nthreads - 1)
		usleep(20000);
	atomic_fetch_add(&j->now, 1);
}

static void
test_slow(void)
{
	struct job *j = mem_new(1, sizeof(*j), NULL);
	unsigned seen;

	if (par_open(&j->p, 3, NULL) == -1)
		die(111, "par_open");
	par_run(j->p, slow_last, j);
	seen = atomic_load(&j->now);
	tap_ok(seen == 3, "par_run waits for the slowest");
	usleep(20000);			/* all asleep now */
	par_run(j->p, count, j);
	tap_ok(j->times[0] && j->times[1] && j->times[2], "and wakes sleepers");
	par_close(j->p);
	free(j);
}

static void
blocked(void *arg, unsigned thread, unsigned nthreads)
{
	struct job *j = arg;
	sigset_t set;

	(void)nthreads;
	pthread_sigmask(SIG_SETMASK, NULL, &set);
	j->times[thread] = (unsigned)sigismember(&set, SIGTERM);
}

static void
test_signals(void)
{
	struct job *j = mem_new(1, sizeof(*j), NULL);

	if (par_open(&j->p, 2, NULL) == -1)
		die(111, "par_open");
	par_run(j->p, blocked, j);
	tap_ok(!j->times[0] && j->times[1], "signals are the main thread's");
	par_close(j->p);
	free(j);
}

static void
test_limits(void)
{
	struct par *p = (struct par *)&p;
	struct err e = {0};

	tap_ok(par_open(&p, 0, &e) == -1 && !p && e.code == ERR_CALLER,
	    "no threads: %s", e.msg);
	tap_ok(par_open(&p, PAR_MAX + 1, &e) == -1 && !p, "too many: %s",
	    e.msg);
	par_close(NULL);
}

/* Parts follow each other, cover all, differ by at most one grain. */
static bool
split_ok(size_t n, size_t grain, unsigned nthreads)
{
	size_t at = 0, most = 0, least = SIZE_MAX, unit = grain ? grain : 1;

	for (unsigned t = 0; t < nthreads; t++) {
		size_t lo, hi, units;

		par_range(n, grain, t, nthreads, &lo, &hi);
		if (lo != at || hi < lo || hi > n ||
		    (lo % unit && lo != n))
			return false;
		units = (hi - lo) / unit + ((hi - lo) % unit != 0);
		most = units > most ? units : most;
		least = units < least ? units : least;
		at = hi;
	}
	return at == n && most - least <= 1;
}

static void
test_range(void)
{
	bool ok = true;

	for (size_t n = 0; n < 70; n++) {
		for (size_t grain = 0; grain < 20; grain++) {
			for (unsigned t = 1; t < 12; t++)
				ok &= split_ok(n, grain, t);
		}
	}
	tap_ok(ok, "par_range splits evenly, small");
	tap_ok(split_ok(SIZE_MAX, 1, 7) && split_ok(SIZE_MAX, 64, 16) &&
	    split_ok(SIZE_MAX - 1, SIZE_MAX, 3) &&
	    split_ok(SIZE_MAX, SIZE_MAX / 2 + 1, 2) &&
	    split_ok(5, SIZE_MAX, 1024), "and at the top");
}

static void
test_default(void)
{
	cpu_set_t old, one;
	int n = par_default_threads(), cpu = 0;

	tap_ok(n >= 1 && n <= PAR_MAX, "default threads %d", n);
	if (sched_getaffinity(0, sizeof(old), &old) == -1) {
		tap_skip("one CPU", "more CPUs than fit a cpu_set_t");
		return;
	}
	while (!CPU_ISSET(cpu, &old))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
	tap_ok(par_default_threads() == 1, "one CPU, one thread");
	test_barrier(3);		/* 3 threads on 1 CPU must not spin */
	sched_setaffinity(0, sizeof(old), &old);
}

int
main(void)
{
	test_limits();
	test_count(1);
	test_count(2);
	test_count(THREADS);
	test_count(200);
	test_barrier(1);
	test_barrier(2);
	test_barrier(THREADS);
	test_slow();
	test_signals();
	test_range();
	test_default();
	return tap_done();
}
