/*
 * comm_far: what carries bytes between ranks of different hosts.
 *
 * A transport moves messages between pairs of ranks, whole and in order; what
 * they mean is comm's business.  One thread at a time calls it, but for poke.
 * It never waits except in open, join, next and close, and never frees or
 * keeps a buffer after its event.  A message is a head of COMM_FAR_HEAD bytes
 * and a body of any length; the receiver asks for the head first, learns from
 * it how long the body is and where it belongs, and asks for that.  (MPI: two
 * messages with one tag.  TCP: bytes after bytes.)
 */
#ifndef DSI_COMM_FAR_H
#define DSI_COMM_FAR_H

#include "base/base.h"

enum { COMM_FAR_HEAD = 32, COMM_FAR_ADDR = 128, COMM_TOKEN = 16 };

/* What a transport is told when it opens, before anybody else is known. */
struct comm_far_self {
	unsigned rank, world;
	const char *ifname;		/* may be NULL */
	/* Numeric addresses of both ends of the connection to the lead; ""
	 * where that is no network socket, and on the lead itself. */
	const char *my_addr, *lead_addr;
};

/* The world, once all have joined.  Borrowed until close. */
struct comm_far_world {
	const char *const *addr;	/* [world], as their open wrote it */
	const char *const *host;	/* [world], for error texts */
	const unsigned *peer;		/* whom this rank will talk to; it is */
	size_t npeer;			/* in their lists as well */
	uint8_t token[COMM_TOKEN];	/* this world's secret */
	uint64_t deadline_ns;		/* for join */
	bool (*stopped)(void *arg);	/* true: return from join, next */
	void *arg;
};

enum comm_far_what {
	COMM_FAR_NONE,			/* deadline, poke or stopped */
	COMM_FAR_GOT,			/* recv from peer is done */
	COMM_FAR_SENT,			/* send to peer is done */
	COMM_FAR_GONE,			/* peer closed or is unreachable: once,
					 * after all that it had sent was asked
					 * for; its sends count as done */
};

struct comm_far_event {
	enum comm_far_what what;
	unsigned peer;
};

struct comm_far {
	const char *name;		/* "tcp": the same on all ranks */
	/* Writes where others find this rank, a text, to addr. */
	int (*open)(void **h, const struct comm_far_self *self,
	    char addr[COMM_FAR_ADDR], struct err *e);
	/* Returns when send and recv may be used with all of w->peer. */
	int (*join)(void *h, const struct comm_far_world *w, struct err *e);
	/* Starts to send head and n bytes of body; both stay as they are until
	 * COMM_FAR_SENT.  One at a time to each peer. */
	int (*send)(void *h, unsigned peer, const void *head, const void *body,
	    size_t n, struct err *e);
	/* Starts to receive the next n > 0 bytes from peer: a head or a body.
	 * One at a time from each peer. */
	int (*recv)(void *h, unsigned peer, void *p, size_t n, struct err *e);
	/* The next event; waits for it until deadline_ns (now_ns; 0: does not
	 * wait, UINT64_MAX: for ever).  -1: the transport itself is broken. */
	int (*next)(void *h, uint64_t deadline_ns, struct comm_far_event *ev,
	    struct err *e);
	/* From another thread: a waiting next returns soon. */
	void (*poke)(void *h);
	/* What was SENT still arrives, if peers are alive. */
	void (*close)(void *h);
};

extern const struct comm_far comm_far_tcp;

#endif
