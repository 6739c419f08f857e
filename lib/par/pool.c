/*
 * pool: the threads of par.
 *
 * A decode step has hundreds of parallel sections of some tens of
 * microseconds, so starting one must cost little; but 16 ranks must also run
 * on 2 cores, so nobody may spin while another could work.  Waiters therefore
 * look at a counter for a few microseconds and then sleep on it by futex; and
 * where there are more threads than CPUs they sleep at once.
 */
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "par/par.h"

enum { SPINS = 2000 };

/* A number that only moves on, and those who sleep until it does. */
struct gate {
	_Alignas(64) _Atomic uint32_t value;
	_Atomic uint32_t sleepers;
};

struct par {
	struct gate start;		/* moves when there is work */
	struct gate done;		/* moves when all workers are through */
	struct gate phase;		/* moves when all are at the barrier */
	_Alignas(64) _Atomic uint32_t running;	/* workers not yet through */
	_Atomic uint32_t arrived;	/* threads at the barrier */
	unsigned n, nmade, spins;
	bool stop;			/* read after start moved */
	void (*fn)(void *arg, unsigned thread, unsigned nthreads);
	void *arg;
	struct worker {
		struct par *pool;
		unsigned thread;
		pthread_t id;
	} *worker;			/* [n]; [0] is the caller, unused */
};

static void
futex(_Atomic uint32_t *at, int op, uint32_t val)
{
	syscall(SYS_futex, at, op | FUTEX_PRIVATE_FLAG, val, NULL, NULL, 0);
}

static void
pause_cpu(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Returns once g is no longer at old.  sleepers is raised before the value is
 * looked at again, and gate_move moves the value before it looks at sleepers:
 * one of the two sees the other. */
static void
gate_wait(struct gate *g, uint32_t old, unsigned spins)
{
	for (unsigned i = 0; i < spins; i++) {
		if (atomic_load(&g->value) != old)
			return;
		pause_cpu();
	}
	if (atomic_load(&g->value) != old)
		return;
	atomic_fetch_add(&g->sleepers, 1);
	while (atomic_load(&g->value) == old)
		futex(&g->value, FUTEX_WAIT, old);
	atomic_fetch_sub(&g->sleepers, 1);
}

static void
gate_move(struct gate *g)
{
	atomic_fetch_add(&g->value, 1);
	if (atomic_load(&g->sleepers))
		futex(&g->value, FUTEX_WAKE, INT32_MAX);
}

static void *
work(void *arg)
{
	struct worker *w = arg;
	struct par *p = w->pool;
	uint32_t seen = 0;

	for (;;) {
		gate_wait(&p->start, seen++, p->spins);
		if (p->stop)
			return NULL;
		p->fn(p->arg, w->thread, p->n);
		if (atomic_fetch_sub(&p->running, 1) == 1)
			gate_move(&p->done);
	}
}

/* Starts worker i with all signals blocked: they belong to the main thread. */
static int
start_worker(struct par *p, unsigned i, struct err *e)
{
	struct worker *w = &p->worker[i];
	sigset_t all, old;
	int bad;

	w->pool = p;
	w->thread = i;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	bad = pthread_create(&w->id, NULL, work, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (bad)
		return err_set(e, ERR_SYSTEM, "start thread %u of %u: %s",
		    i, p->n, strerror(bad));
	p->nmade++;
	return 0;
}

int
par_open(struct par **out, unsigned nthreads, struct err *e)
{
	struct par *p;

	*out = NULL;
	if (nthreads < 1 || nthreads > PAR_MAX)
		return err_set(e, ERR_CALLER,
		    "threads must be 1 to %d, not %u", PAR_MAX, nthreads);
	p = mem_map(sizeof(*p), e);	/* the gates want cache lines */
	if (!p)
		return -1;
	p->n = nthreads;
	if (nthreads <= (unsigned)par_default_threads())
		p->spins = SPINS;
	p->worker = mem_new(nthreads, sizeof(*p->worker), e);
	if (!p->worker)
		goto fail;
	for (unsigned i = 1; i < nthreads; i++) {
		if (start_worker(p, i, e) == -1)
			goto fail;
	}
	*out = p;
	return 0;
fail:
	par_close(p);
	return -1;
}

void
par_close(struct par *p)
{
	if (!p)
		return;
	p->stop = true;
	gate_move(&p->start);
	for (unsigned i = 1; i <= p->nmade; i++)
		pthread_join(p->worker[i].id, NULL);
	free(p->worker);
	mem_unmap(p, sizeof(*p));
}

unsigned
par_threads(const struct par *p)
{
	return p->n;
}

void
par_run(struct par *p,
    void (*fn)(void *arg, unsigned thread, unsigned nthreads), void *arg)
{
	uint32_t before;

	if (p->n == 1) {
		fn(arg, 0, 1);
		return;
	}
	before = atomic_load(&p->done.value);
	p->fn = fn;
	p->arg = arg;
	atomic_store(&p->running, p->n - 1);
	gate_move(&p->start);
	fn(arg, 0, p->n);
	gate_wait(&p->done, before, p->spins);
}

void
par_barrier(struct par *p)
{
	uint32_t before = atomic_load(&p->phase.value);

	if (p->n == 1)
		return;
	if (atomic_fetch_add(&p->arrived, 1) + 1 < p->n) {
		gate_wait(&p->phase, before, p->spins);
		return;
	}
	atomic_store(&p->arrived, 0);
	gate_move(&p->phase);
}

void
par_range(size_t n, size_t grain, unsigned thread, unsigned nthreads,
    size_t *lo, size_t *hi)
{
	size_t unit = grain ? grain : 1;
	size_t nunit = n / unit + (n % unit != 0);
	size_t each = nunit / nthreads, more = nunit % nthreads;
	size_t first = thread * each + (thread < more ? thread : more);
	size_t last = first + each + (thread < more);

	*lo = first < nunit ? first * unit : n;
	*hi = last < nunit ? last * unit : n;
}

int
par_default_threads(void)
{
	int n = 0;

	/* the kernel refuses a mask smaller than its own */
	for (size_t ncpu = 1024; ncpu <= 65536 && n == 0; ncpu *= 2) {
		cpu_set_t *set = CPU_ALLOC(ncpu);
		size_t size = CPU_ALLOC_SIZE(ncpu);

		if (!set)
			break;
		if (sched_getaffinity(0, size, set) == 0)
			n = CPU_COUNT_S(size, set);
		CPU_FREE(set);
	}
	if (n < 1)
		n = (int)sysconf(_SC_NPROCESSORS_ONLN);
	if (n < 1)
		n = 1;
	return n < PAR_MAX ? n : PAR_MAX;
}
