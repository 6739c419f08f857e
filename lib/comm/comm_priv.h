/*
 * comm_priv: what the files of comm share.
 */
#ifndef DSI_COMM_PRIV_H
#define DSI_COMM_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "comm/comm.h"
#include "comm/comm_far.h"

enum {
	COMM_WORDS = 512,		/* a reason, with its NUL */
	COMM_NAME = 256,		/* host name, layout, build..., NUL */
	COMM_UNIX = 32,			/* name of an abstract socket, NUL */
	COMM_TELL_DEPTH = 8,		/* messages of comm_tell unread */
	NO_RANK = COMM_MAX_RANKS,
};

/* ---- link.c: frames over a control connection ---- */

enum frame_type {
	FRAME_HELLO = 1, FRAME_REFUSE, FRAME_WAIT, FRAME_WELCOME, FRAME_ALIVE,
	FRAME_END, FRAME_LEFT, FRAME_BYE,
};

struct frame {
	unsigned type, version;
	const uint8_t *p;		/* valid until the next link_read */
	size_t n;
};

struct link {
	int fd;				/* -1: closed */
	unsigned rank;			/* NO_RANK: has not said */
	bool inherited, drop;		/* drop: close it when all is sent */
	uint64_t heard_ns;
	struct buf in, out;
	size_t need, sent;
};

/* Takes fd over: it won't block, nor outlive exec. */
int link_open(struct link *l, int fd, struct err *e);
void link_close(struct link *l);
/* 1: a frame; 0: nothing yet; -1: closed by the other side, or broken, or not
 * our protocol. */
int link_read(struct link *l, struct frame *f);
void link_put(struct link *l, enum frame_type t, const void *p, size_t n);
int link_flush(struct link *l);		/* -1: broken */
bool link_idle(const struct link *l);	/* all is sent */

/* Numbers are little-endian; a text is its length in two bytes, then bytes. */
void put_u16(struct buf *b, unsigned v);
void put_u32(struct buf *b, uint32_t v);
void put_u64(struct buf *b, uint64_t v);
void put_text(struct buf *b, const char *s);
/* Readers: bad stays set once something was missing or too long. */
struct reader {
	const uint8_t *p;
	size_t n;
	bool bad;
};
unsigned get_u16(struct reader *r);
uint32_t get_u32(struct reader *r);
uint64_t get_u64(struct reader *r);
void get_bytes(struct reader *r, void *p, size_t n);
void get_text(struct reader *r, char *s, size_t size);

/* ---- wiring.c ---- */

int wiring_check(const struct comm_wiring *w, struct err *e);
int wiring_copy(struct comm_wiring *to, const struct comm_wiring *w,
    struct err *e);
void wiring_free(struct comm_wiring *w);
uint64_t wiring_digest(const struct comm_wiring *w);

/* ---- hello.c: who is there ---- */

struct hello {
	uint32_t rank, world, pid;
	uint64_t wiring;
	bool apart;
	char layout[COMM_NAME], model[COMM_NAME], build[COMM_NAME];
	char host[COMM_NAME];		/* for people */
	char id[COMM_NAME];		/* equal: they share memory */
	char far[COMM_UNIX], addr[COMM_FAR_ADDR];
	char unix_name[COMM_UNIX];	/* where it would pass the region */
};

void hello_put(struct buf *b, const struct hello *h);
int hello_get(struct hello *h, const void *p, size_t n);
/* Fills what is known of this host. */
int hello_self(struct hello *h, const struct comm_opts *o, struct err *e);
/* Do they belong to one world?  text: what is not equal. */
bool hello_agree(const struct hello *lead, const struct hello *peer,
    char text[COMM_WORDS]);
/* "rank 3, ranks 8-15": those without seen */
void ranks_text(const bool *seen, unsigned world, char *s, size_t size);

/* ---- the world ---- */

/* A number in shared memory that only moves on, and those who sleep on it. */
struct gate {
	_Alignas(64) _Atomic uint32_t value;
	_Atomic uint32_t sleepers;
};

struct rank_info {
	unsigned host;			/* index; hosts are in rank order */
	unsigned local;			/* index among the ranks of its host */
	char name[COMM_NAME];
	char addr[COMM_FAR_ADDR];
	char unix_name[COMM_UNIX];
};

struct watch {
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;		/* the fields below */
	int bell;			/* eventfd: look at them */
	bool closing;
	char (*obituary)[COMM_WORDS];	/* [world] on the lead */
	/* the watcher's own */
	unsigned dying;			/* whose obituary is awaited */
	uint64_t dying_ns, beat_ns, due_ns;
	bool spread;			/* the end was told */
};

struct far_state;
struct tell;

struct comm {
	struct comm_opts o;		/* strings only while opening */
	struct comm_wiring w;
	unsigned rank, world;
	struct rank_info *info;		/* [world] */
	uint8_t token[COMM_TOKEN];
	uint64_t join_end_ns;		/* later: the end of setting up */
	uint64_t step_ns, alive_ns;
	unsigned nlocal, local, nhost;
	unsigned *local_rank;		/* [nlocal], rising */
	unsigned spins;

	struct link *link;		/* lead: [world]; others: [1] */
	unsigned nlink;
	struct watch watch;

	/* How the world ended: text is written once, under watch.lock, before
	 * ended is set. */
	atomic_bool ended;
	int end_code;
	char end_text[COMM_WORDS + 128];
	atomic_bool told;		/* the watcher has passed it on */
	/* Any change that a sleeper should know of moves news. */
	_Atomic uint32_t news;
	_Atomic uint32_t news_seen;	/* by the sleeper, before it slept */
	_Atomic(_Atomic uint32_t *) asleep;	/* where this rank sleeps */
	_Atomic uint32_t nleft;
	atomic_bool *left;		/* [world]: said goodbye */
	int news_fd;			/* eventfd: readable after an end */

	char *base;			/* the region of this host */
	size_t size;
	struct comm_group *group;	/* [ngroup]; n == 0: not a member */
	struct comm_chan *chan;		/* [nchan]; c == NULL: neither end */
	struct tell *tell;
	_Atomic(struct far_state *) far;	/* NULL: no rank is far */
};

/* "rank 3 on nodea" */
const char *comm_who(const struct comm *c, unsigned rank, char *s,
    size_t size);
void span_text(uint64_t ns, char *s, size_t size);	/* "10 s" */

/* ---- watch.c ---- */

int watch_start(struct comm *c, struct err *e);
void watch_stop(struct comm *c);
/* The world ends for this reason, unless it has already; fills e with the
 * reason that counts.  Returns -1. */
int world_end(struct comm *c, int code, struct err *e, const char *fmt, ...)
    DSI_PRINTF(4, 5);
int world_over(struct comm *c, struct err *e);	/* e: why; -1 */

/* ---- wait.c ---- */

/* Does a waiting rank wait for this one?  Asked when something is wrong. */
struct lack {
	bool (*rank)(const void *arg, unsigned rank);
	void (*what)(const void *arg, char *s, size_t size);
	const void *arg;			/* "has not ..." */
};

void gate_move(struct gate *g);
/* 0 once g is no longer at old.  -1: the world has ended, or does so now as
 * the deadline passed or the missing rank has left. */
int gate_wait(struct comm *c, struct gate *g, uint32_t old,
    uint64_t deadline_ns, const struct lack *lack, struct err *e);
/* -1 with the right words when the deadline has passed. */
int lack_late(struct comm *c, const struct lack *lack, struct err *e);
/* -1 and the right words: rank, which is lacked, has left. */
int lack_left(struct comm *c, const struct lack *lack, unsigned rank,
    struct err *e);
void news_wake(struct comm *c);		/* the watcher's: wake the sleeper */
uint64_t deadline_in(uint64_t ns);

/* ---- region.c ---- */

/* Makes or fetches the memory of this host, base and size. */
int region_open(struct comm *c, int unix_fd, size_t size, struct err *e);
int unix_listen(char name[COMM_UNIX], struct err *e);
/* Hands out offsets, 64-byte aligned (page-aligned from 4096 bytes on).
 * *at becomes SIZE_MAX on overflow. */
size_t region_take(size_t *at, size_t n, size_t size);

/* ---- group.c, chan.c, tell.c ---- */

/* Each takes its places from *at, in the order of the wiring, which is the same
 * on all ranks of a host.  While c->base is NULL that is all. */
int groups_open(struct comm *c, size_t *at, struct err *e);
int chans_open(struct comm *c, size_t *at, struct err *e);
int tell_open(struct comm *c, size_t *at, struct err *e);
void groups_close(struct comm *c);
void chans_close(struct comm *c);
void tell_close(struct comm *c);

#endif
