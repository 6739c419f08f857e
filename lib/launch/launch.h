/*
 * launch: the ranks of this host, as child processes, and the sockets by which
 * a world finds together.
 *
 * A child runs dsi-worker(1).  What it writes on stderr is read line by line:
 * the last line is its last words, should it die.
 */
#ifndef DSI_LAUNCH_H
#define DSI_LAUNCH_H

#include "deploy/deploy.h"

/* ---- launch.c ---- */

struct launch;

/* Both are called from a thread of launch's own, one at a time. */
struct launch_calls {
	/* A line that rank wrote, without its newline. */
	void (*line)(void *arg, unsigned rank, const char *text);
	/* It has ended; how: "exit 111: last words", "killed by signal 9".
	 * good: it exited with 0. */
	void (*ended)(void *arg, unsigned rank, bool good, const char *how);
	void *arg;
};

/* Starts nothing yet.  dir: rank files; o: engine options that all ranks
 * share.  Both are copied. */
int launch_open(struct launch **l, const char *dir, const struct engine_opts *o,
    const struct launch_calls *calls, struct err *e);
/* Starts a rank.  join: where it finds the lead ("host:port"), or NULL: by a
 * socket whose other end is put into *fd (yours). */
int launch_rank(struct launch *l, unsigned rank, const char *join, int *fd,
    struct err *e);
/* Sends a signal to all that still run. */
void launch_signal(struct launch *l, int sig);
/* Returns when all have ended, or after ms: how many still run. */
unsigned launch_wait(struct launch *l, uint64_t ms);
/* Kills what still runs.  NULL is fine. */
void launch_close(struct launch **l);

/* ---- lead.c: a world as its lead sees it ---- */

struct lead;

struct lead_calls {
	/* What a rank wrote on stderr, but for its last words. */
	void (*line)(void *arg, unsigned rank, const char *text);
	void (*waiting)(void *arg, unsigned seconds, const char *who);
	void *arg;
};

/* Starts this node's ranks of world number w of d (resolved, this node has
 * rank 0), waits for the other nodes', and opens the engine over all of them.
 * dir: rank files for d's layout.  A rank that dies ends the world: the
 * engine's error then has its last words.  End with lead_close, which closes
 * the engine too.  o: but for dir; with a link, others have started the ranks,
 * and it says how they are met. */
int lead_open(struct lead **l, const struct deploy *d, unsigned w,
    const char *dir, const struct engine_opts *o,
    const struct lead_calls *calls, struct err *e);
struct engine *lead_engine(const struct lead *l);
void lead_close(struct lead **l);

/* What the environment says about the links of every rank.  DSI_TRANSPORT is
 * "tcp" or "mpi" where shared memory is not to be used; o->far is MPI's, or
 * NULL. */
int launch_comm_env(struct comm_opts *o, struct err *e);

/* ---- rank.c ---- */

/* Any other rank: finds the lead at join, and works for it until it closes (0)
 * or the world ends (1, e: why, as the lead knows too).  -1: it couldn't begin.
 * o: but for link; c: rank, far and what the environment says. */
int launch_follow(const struct engine_opts *o, const struct comm_opts *c,
    const char *join, struct err *e);

/* ---- net.c ---- */

/* A TCP socket that listens on address (NULL: all) and port. */
int launch_listen(const char *address, unsigned port, struct err *e);
/* Connects to where, "host:port" or "fd:N", trying again for ms while nobody
 * listens; waiting is called every 5 s, or NULL. */
int launch_dial(const char *where, uint64_t ms,
    void (*waiting)(void *arg, unsigned seconds, const char *who), void *arg,
    struct err *e);

#endif
