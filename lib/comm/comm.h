/*
 * comm: how the ranks of one world talk.
 *
 * A world is wired once, when it opens: every rank passes the same list of
 * groups and channels, so that each can work out where everything lies without
 * asking.  Ranks of one host share memory and sleep on futexes; ranks of
 * different hosts use a far transport (TCP here, MPI as a plug-in).  Which of
 * them carries a byte never changes what arrives, or in which order it is
 * added up: sums are the callers', over pointers in the order of the members.
 * A host is a kernel, a network namespace and a host name.  DSI_HOST_ID in the
 * environment stands in for them and for the name: tests make several hosts of
 * one machine with it.
 *
 * Every rank keeps one connection to the lead (rank 0).  Over it goes the
 * hello, a sign of life each second, and the word of a death: whoever waits
 * anywhere then returns -1 at once, with a line that names the rank, its host
 * and its last words.  Waiting never spins for longer than some microseconds,
 * and not at all where ranks outnumber cores.
 *
 * One thread of a rank uses its comm; a second, inside, watches.
 */
#ifndef DSI_COMM_H
#define DSI_COMM_H

#include "base/base.h"

enum { COMM_VERSION = 1, COMM_MAX_RANKS = 1024 };

/* ---- what a world is wired with ---- */

/* Members exchange buffers of up to cap bytes each. */
struct comm_group_def {
	unsigned n;
	const unsigned *rank;		/* [n], rising */
	size_t cap;
};

/* Messages of up to cap bytes one way; up to depth of them wait unread. */
struct comm_chan_def {
	unsigned from, to;
	size_t cap;
	unsigned depth;			/* >= 1 */
};

/* The same on every rank.  Copied by comm_lead and comm_join. */
struct comm_wiring {
	unsigned world;
	const struct comm_group_def *group;
	size_t ngroup;
	const struct comm_chan_def *chan;
	size_t nchan;
	size_t bcast_cap;		/* largest message of comm_tell */
};

/* ---- opening ---- */

struct comm;
struct comm_far;			/* comm_far.h: a far transport */

struct comm_opts {
	struct comm_wiring wiring;
	unsigned rank;
	/* What must be equal on all ranks, besides world and wiring: words for
	 * people, compared as strings.  A difference is refused with a line
	 * that has both, on both sides. */
	const char *layout;		/* "tp4 dp4 pp1 ep4" */
	const char *model;		/* digest of the manifest */
	const char *build;		/* dsi_version */
	uint64_t join_ms;		/* for all to join; 0: 600,000 */
	uint64_t step_ms;		/* for one exchange; 0: 60,000 */
	uint64_t alive_ms;		/* silence that is death; 0: 10,000 */
	bool apart;			/* no shared memory: each rank is a host
					 * of its own (tests) */
	const char *ifname;		/* interface of the far sockets; NULL:
					 * the one that leads to the lead */
	const struct comm_far *far;	/* NULL: TCP */
	/* Called every 5 s while comm_lead or comm_join waits for others; who
	 * is a text such as "rank 3, ranks 8-15".  May be NULL. */
	void (*waiting)(void *arg, unsigned seconds, const char *who);
	/* The lead has said no to a caller that may have been a rank, on the
	 * host of that name ("": it did not come to say).  May be NULL. */
	void (*refused)(void *arg, const char *host, const char *why);
	void *arg;
};

/* The lead, rank 0.  fd [nfd]: sockets connected to peers that were started
 * with the other end; listen_fd: a listening socket (TCP or Unix) for all
 * others, or -1.  All are taken over.  Returns when the whole world has
 * joined.  A caller with no hello or a wrong one (a stranger, an old build, a
 * rank that is there already) is answered and dropped; the world goes on
 * waiting, except when a peer of fd is wrong: that ends it.
 * ERR_CALLER: a mismatch; ERR_SYSTEM: a deadline passed (names who is missing),
 * a socket failed. */
int comm_lead(struct comm **c, const struct comm_opts *o, const int *fd,
    size_t nfd, int listen_fd, struct err *e);
/* Any other rank; fd is connected to the lead and taken over. */
int comm_join(struct comm **c, const struct comm_opts *o, int fd,
    struct err *e);
/* Leaves in peace: others don't take it for a death.  NULL is fine. */
void comm_close(struct comm **c);
/* Leaves for a reason: the world ends, and everyone's error quotes why.
 * comm_close is still to be called. */
void comm_fail(struct comm *c, const char *why);
/* The lead's process knows how a peer that it started ended: the text stands
 * in for last words.  From any thread; the watcher waits 300 ms for it before
 * it spreads the word of a death.  Ignored for a rank that left in peace. */
void comm_obituary(struct comm *c, unsigned rank, const char *how);
/* The same from another host, whose processes have no comm to say it with: a
 * parent that kept the descriptor of a rank's connection to the lead says in
 * the rank's place how it ended.  Nothing happens when the rank has taken its
 * leave.  fd stays the caller's. */
void comm_epitaph(int fd, unsigned rank, const char *how);
/* The name of this host, as ranks say it in their hello. */
void comm_here(char *s, size_t size);

unsigned comm_rank(const struct comm *c);
unsigned comm_world(const struct comm *c);
unsigned comm_local(const struct comm *c);	/* ranks on this host */
unsigned comm_local_index(const struct comm *c);	/* mine among them */
/* Host name of a rank, as it said hello. */
const char *comm_host(const struct comm *c, unsigned rank);
/* How long an exchange waits for the others, from now on; 0: step_ms again,
 * UINT64_MAX: for as long as the world lives. */
void comm_patience(struct comm *c, uint64_t ms);
/* -1 and the reason once the world has ended; 0 while it lives. */
int comm_check(struct comm *c, struct err *e);
/* Readable once the world has ended, for a rank that waits for other things
 * too.  Stays comm's. */
int comm_end_fd(const struct comm *c);

/* ---- groups: everyone gives, everyone takes ---- */

struct comm_group;

struct comm_span {
	size_t off, len;
};

/* Group i of the wiring; this rank is a member of it. */
struct comm_group *comm_group(struct comm *c, size_t i);
unsigned comm_size(const struct comm_group *g);
unsigned comm_member(const struct comm_group *g);	/* mine, 0..size-1 */

/* Where this rank builds its next contribution: cap bytes, 64-byte aligned,
 * its own until comm_share. */
void *comm_buffer(struct comm_group *g);
/* Exchanges.  give[j]: the part of my buffer that member j is going to read
 * (my own place is ignored); take[i]: the part of i's buffer that I read, which
 * is i's give for me.  from[i] then points at the first byte of take[i]
 * (from[mine]: of my own buffer, at take[mine].off), valid until the next
 * comm_share on g: a buffer is written again only when every member has come
 * to the exchange after it.  Every member calls it, in the same order; NULL
 * for give and take means nothing but waiting for each other.
 * -1: the world has ended, a deadline passed, or a peer's sizes differ. */
int comm_share(struct comm_group *g, const struct comm_span *give,
    const struct comm_span *take, const void **from, struct err *e);

/* Sum of int32, int64, or maximum of float, in place, all members, n elements
 * of at most cap bytes; in the order of members. */
enum comm_op { COMM_SUM_I32, COMM_SUM_I64, COMM_MAX_F32 };
int comm_reduce(struct comm_group *g, enum comm_op op, void *x, size_t n,
    struct err *e);

/* ---- channels: one rank to another ---- */

struct comm_chan;

/* Channel i of the wiring; this rank is one of its ends. */
struct comm_chan *comm_chan(struct comm *c, size_t i);
/* The sender's next message: cap bytes to fill; waits while depth messages are
 * unread.  NULL: failed. */
void *comm_fill(struct comm_chan *h, struct err *e);
int comm_send(struct comm_chan *h, size_t n, struct err *e);
/* The receiver's next message, valid until the next comm_recv on h. */
int comm_recv(struct comm_chan *h, const void **p, size_t *n, struct err *e);

/* ---- from the lead to all ---- */

/* The lead; does not wait for slow readers until some messages are unread. */
int comm_tell(struct comm *c, const void *p, size_t n, struct err *e);
/* Everyone else: the next message, valid until the next call.  Waits for as
 * long as the world lives. */
int comm_hear(struct comm *c, const void **p, size_t *n, struct err *e);

#endif
