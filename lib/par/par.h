/*
 * par: a pool of threads that runs one function on all of them at a time.
 *
 * The caller of par_run is thread 0.  What it wrote before par_run, every
 * thread sees; what they wrote, it sees after.  Work is split by par_range or
 * by thread number, never by who comes first, so results don't depend on
 * timing.  One thread at a time may use a pool, and fn may not call par_run.
 */
#ifndef DSI_PAR_H
#define DSI_PAR_H

#include "base/base.h"

struct par;

enum { PAR_MAX = 1024 };		/* threads in one pool */

/* nthreads 1..PAR_MAX, the caller's own included; end with par_close.  On
 * failure *out is NULL.  Workers block all signals. */
int par_open(struct par **out, unsigned nthreads, struct err *e);
void par_close(struct par *p);		/* NULL is fine */
unsigned par_threads(const struct par *p);

/* Runs fn(arg, thread, nthreads) once on each thread and returns when all
 * have returned.  Allocates nothing. */
void par_run(struct par *p,
    void (*fn)(void *arg, unsigned thread, unsigned nthreads), void *arg);

/* Inside fn: returns when every thread has called it; all of them must.  What
 * one wrote before, the others see after. */
void par_barrier(struct par *p);

/* This thread's part [*lo, *hi) of 0..n: the parts follow each other, cover
 * all, start at multiples of grain (0 means 1) and differ by at most one
 * grain.  Empty parts have lo == hi. */
void par_range(size_t n, size_t grain, unsigned thread, unsigned nthreads,
    size_t *lo, size_t *hi);

/* How many CPUs this process may run on, 1..PAR_MAX. */
int par_default_threads(void);

#endif
