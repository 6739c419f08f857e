/*
 * open: what lead.c and join.c share while a world comes together.
 */
#ifndef DSI_COMM_OPEN_H
#define DSI_COMM_OPEN_H

#include "comm/comm_priv.h"

enum { WAITING_MS = 5000 };		/* how often o->waiting is called */

/* A rank that is not in its world yet. */
struct entry {
	struct comm *c;
	struct hello me;
	void *far;			/* handle of c->o.far */
	int unix_fd;			/* -1: shares no memory */
	uint64_t start_ns, waiting_ns;
};

/* After this, entry_fail or entry_done ends it. */
int entry_open(struct entry *n, const struct comm_opts *o,
    const char *my_addr, const char *lead_addr, struct err *e);
/* Frees everything, c too.  -1. */
int entry_fail(struct entry *n);
/* The world is known (body of a welcome, nbody bytes): starts it. */
int entry_done(struct entry *n, const void *body, size_t nbody,
    struct comm **out, struct err *e);
/* Takes the table of ranks from the body of a welcome. */
int table_get(struct comm *c, const void *body, size_t n, struct err *e);
/* Milliseconds until the deadline or the next call of waiting. */
int entry_poll_ms(const struct entry *n);
void entry_waiting(struct entry *n, const char *who);

#endif
