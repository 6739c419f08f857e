/*
 * group: what group.c and reduce.c share.
 *
 * In the region of a host a group has, for all of its members wherever they
 * are, two buffers each and a record; for its members on this host also the
 * parts that they give, and two more buffers for sums.  Exchange k uses the
 * buffers k % 2, so nobody has to wait twice.
 */
#ifndef DSI_COMM_GROUP_H
#define DSI_COMM_GROUP_H

#include "comm/far.h"

/* One member, as its host and the hosts that receive from it see it. */
struct record {
	_Alignas(64) _Atomic uint32_t come;	/* exchanges it has come to */
	_Atomic uint32_t rcome;			/* the same for sums */
	bool none[2];				/* gave nothing at all */
	struct comm_span hull[2];		/* foreign: what arrived */
};

/* Where the members on one host meet. */
struct meet {
	struct gate all;		/* moves when all have come */
	_Alignas(64) _Atomic uint32_t count;
	struct gate sum;		/* moves when a sum is ready */
	struct gate part;		/* moves when this host's part is */
	_Alignas(64) _Atomic uint32_t done;	/* chunks that have all */
};

/* Sums are made in chunks, so that many members can work at once. */
enum { CHUNK = 65536 };

struct chunk {
	_Alignas(64) _Atomic uint64_t hold;	/* a partial sum: reduce.c */
	uint32_t holder[2];		/* whose buffer has the whole */
};

/* Another host with members. */
struct away {
	unsigned host;
	unsigned foster;		/* rank there that receives from me */
	unsigned leader;		/* rank there that sends its sums */
	struct far_out share, sum;
	uint32_t got;			/* sums that came from there */
	size_t got_n[2];
};

struct comm_group {
	struct comm *c;
	size_t id, cap, stride;		/* stride: cap, rounded up */
	unsigned n, me;
	const unsigned *rank;		/* [n] */
	unsigned nlocal, local;
	unsigned *local_member;		/* [nlocal] member */
	unsigned *place;		/* [n]: index on its host */
	uint32_t round, rround;		/* the next exchange, sum */
	struct away *away;		/* [naway] */
	unsigned naway;
	bool *ward;			/* [n]: this rank receives from it */

	struct meet *meet;
	struct chunk *chunk;		/* [cap / CHUNK, rounded up] */
	struct record *record;		/* [n] */
	struct comm_span *span;		/* [nlocal][2][n] */
	char *buffer;			/* [n][2][stride] */
	char *sum;			/* [nlocal + naway][2][stride] */
};

void *reduce_begin(struct comm_group *g, unsigned from,
    const struct far_note *n, const char **why);
void reduce_end(struct comm_group *g, unsigned from,
    const struct far_note *n);

#endif
