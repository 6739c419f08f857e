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
	/* A line that rank wrote, without its newline and not its last words.
	 * own: dsi-worker itself said it; its name is left out. */
	void (*line)(void *arg, unsigned rank, bool own, const char *text);
	/* It has ended; code: what it exited with, ERR_SYSTEM after a signal;
	 * 0: in peace.  why is one line: "rank 9 on nodeb died: killed by
	 * signal 9 (Killed)", or its last words as they are if these name the
	 * rank that is at fault. */
	void (*ended)(void *arg, unsigned rank, int code, const char *why);
	void *arg;
};

/* Starts nothing yet.  d: what all ranks are to know of the deployment; dir:
 * rank files; o: engine options that all ranks share.  All are copied. */
int launch_open(struct launch **l, const struct deploy *d, const char *dir,
    const struct engine_opts *o, const struct launch_calls *calls,
    struct err *e);
/* Starts a rank.  lead_fd: connected to the lead and taken over, also on
 * failure; -1: the lead is this process, and gets the other end of a new socket
 * in *fd (yours).  The rank's end stays open here, so that the lead can be told
 * how the rank ended (comm_epitaph). */
int launch_rank(struct launch *l, unsigned rank, int lead_fd, int *fd,
    struct err *e);
/* Returns when all have ended, or after ms: how many still run. */
unsigned launch_wait(struct launch *l, uint64_t ms);
/* Kills what still runs; why: told to its leads, NULL: nothing is. */
void launch_kill(struct launch *l, const char *why);
/* The same with NULL, then waits and frees.  NULL is fine. */
void launch_close(struct launch **l);

/* ---- lead.c: a world as its lead sees it ---- */

struct lead;

struct lead_calls {
	/* What a rank wrote on stderr, but for its last words. */
	void (*line)(void *arg, unsigned rank, const char *text);
	void (*waiting)(void *arg, unsigned seconds, const char *who);
	/* A caller from another host was refused; once for all ranks of a host
	 * that come one after the other. */
	void (*refused)(void *arg, const char *why);
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
/* How many hosts its ranks are on. */
unsigned lead_hosts(const struct lead *l);
void lead_close(struct lead **l);

/* What deployment and environment say about the links of every rank:
 * timeouts, the interface.  DSI_TRANSPORT is "tcp" or "mpi" where shared memory
 * is not to be used; o->far is MPI's, or NULL. */
int launch_comm_opts(struct comm_opts *o, const struct deploy *d,
    struct err *e);

/* ---- rank.c ---- */

/* Any other rank: finds the lead at join, and works for it until it closes (0)
 * or the world ends (1, e: why, as the lead knows too).  -1: it couldn't begin.
 * o: but for link; c: rank, far and what the environment says. */
int launch_follow(const struct engine_opts *o, const struct comm_opts *c,
    const char *join, struct err *e);

/* ---- net.c ---- */

/* A TCP socket that listens on address (NULL: all) and port.  ERR_CALLER: the
 * address is not one of this host's. */
int launch_listen(const char *address, unsigned port, struct err *e);
/* Connects to where, "host:port" or "fd:N", trying again for ms while nobody
 * listens or answers; waiting is called every 5 s, or NULL. */
int launch_dial(const char *where, uint64_t ms,
    void (*waiting)(void *arg, unsigned seconds, const char *who), void *arg,
    struct err *e);

#endif
