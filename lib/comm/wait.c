/*
 * wait: how a rank sleeps until another one moves a gate.
 *
 * The watcher of a process wakes its own sleeper only: it moves news, then
 * wakes the place where the sleeper says it sleeps, until the sleeper has seen
 * the news.  So nobody has to know where other processes sleep.
 */
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "comm/comm_priv.h"
#include "comm/far.h"

enum {
	POLL_NS = 200000,		/* while far sends are under way */
	NAP_NS = 100000, NAP_MAX_NS = 10000000,
	YIELDS = 4, CALM_YIELDS = 8,
};

static long
futex(_Atomic uint32_t *at, int op, uint32_t val, const struct timespec *t)
{
	return syscall(SYS_futex, at, op, val, t, NULL, 0);
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

uint64_t
deadline_in(uint64_t ns)
{
	uint64_t now = now_ns();

	return ns > UINT64_MAX - now ? UINT64_MAX : now + ns;
}

/* A sleeper counts itself before it looks at the value again, and the value
 * moves before sleepers is read: one of the two sees the other. */
void
gate_move(struct gate *g)
{
	atomic_fetch_add(&g->value, 1);
	if (atomic_load(&g->sleepers))
		futex(&g->value, FUTEX_WAKE, INT32_MAX, NULL);
}

void
news_wake(struct comm *c)
{
	struct timespec nap = { 0, NAP_NS };
	_Atomic uint32_t *at;

	atomic_fetch_add(&c->news, 1);
	while ((at = atomic_load(&c->asleep)) &&
	    atomic_load(&c->news_seen) != atomic_load(&c->news)) {
		futex(at, FUTEX_WAKE, INT32_MAX, NULL);
		nanosleep(&nap, NULL);
		if (nap.tv_nsec < NAP_MAX_NS)	/* it needs a core first */
			nap.tv_nsec *= 2;
	}
	far_poke(c);
}

int
lack_late(struct comm *c, const struct lack *lack, struct err *e)
{
	char who[COMM_NAME + 32] = "a rank", what[COMM_WORDS / 2], span[32];

	for (unsigned i = 0; i < c->world; i++) {
		if (lack->rank(lack->arg, i)) {
			comm_who(c, i, who, sizeof(who));
			break;
		}
	}
	lack->what(lack->arg, what, sizeof(what));
	span_text(c->step_ns, span, sizeof(span));
	return world_end(c, ERR_SYSTEM, e, "%s %s within %s", who, what, span);
}

int
lack_left(struct comm *c, const struct lack *lack, unsigned rank,
    struct err *e)
{
	char who[COMM_NAME + 32], what[COMM_WORDS / 2];

	lack->what(lack->arg, what, sizeof(what));
	return world_end(c, ERR_SYSTEM, e, "%s has left: it %s",
	    comm_who(c, rank, who, sizeof(who)), what);
}

/* Has one left that we wait for?  Only a rank of this host: what others sent
 * before they left may still be under way. */
static int
look_for_left(struct comm *c, const struct lack *lack, struct err *e)
{
	for (unsigned i = 0; i < c->nlocal; i++) {
		unsigned rank = c->local_rank[i];

		if (atomic_load(&c->left[rank]) && lack->rank(lack->arg, rank))
			return lack_left(c, lack, rank, e);
	}
	return 0;
}

static void
sleep_on(struct comm *c, struct gate *g, uint32_t old, uint32_t news,
    uint64_t deadline_ns)
{
	uint64_t now = deadline_ns == UINT64_MAX ? 0 : now_ns();
	uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
	struct timespec t = { (time_t)(left / 1000000000),
		(long)(left % 1000000000) };

	atomic_fetch_add(&g->sleepers, 1);
	atomic_store(&c->news_seen, news);
	atomic_store(&c->asleep, &g->value);
	if (atomic_load(&g->value) == old && atomic_load(&c->news) == news)
		futex(&g->value, FUTEX_WAIT, old,
		    deadline_ns == UINT64_MAX ? NULL : &t);
	atomic_store(&c->asleep, NULL);
	atomic_fetch_sub(&g->sleepers, 1);
}

/* What costs less than a sleep and a wake: some pauses, where ranks don't
 * outnumber cores; and yields.  Those who are still to come run during a yield
 * (4 ranks on 2 cores: 4 microseconds a barrier instead of 30), also when the
 * kernel has put them on this core although another one is free. */
static bool
look_a_while(const struct comm *c, struct gate *g, uint32_t old)
{
	for (unsigned i = 0; i < (c->spins ? CALM_YIELDS : YIELDS); i++) {
		for (unsigned k = 0; k <= c->spins; k++) {
			if (atomic_load_explicit(&g->value,
			    memory_order_acquire) != old)
				return true;
			if (k < c->spins)
				pause_cpu();
		}
		sched_yield();
	}
	return false;
}

int
gate_wait(struct comm *c, struct gate *g, uint32_t old, uint64_t deadline_ns,
    const struct lack *lack, struct err *e)
{
	if (look_a_while(c, g, old))
		return 0;
	for (bool slept = false;; slept = true) {
		uint32_t news = atomic_load(&c->news);

		if (atomic_load(&g->value) != old)
			return 0;
		if (atomic_load(&c->ended))
			return world_over(c, e);
		if (atomic_load(&c->nleft) && look_for_left(c, lack, e) == -1)
			return -1;
		if (slept && now_ns() >= deadline_ns)
			return lack_late(c, lack, e);
		if (!c->far || !far_sending(c)) {
			sleep_on(c, g, old, news, deadline_ns);
			continue;
		}
		/* what others wait for must go out meanwhile */
		if (far_step(c, now_ns() + POLL_NS, e) == -1)
			return -1;
	}
}
