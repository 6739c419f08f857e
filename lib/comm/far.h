/*
 * far: frames between ranks of different hosts, over a far transport.
 */
#ifndef DSI_COMM_FARSTATE_H
#define DSI_COMM_FARSTATE_H

#include "comm/comm_priv.h"

/* What a frame carries: kind, id of the group or channel, the number of the
 * exchange or message, and the part [off, off + n) of the sender's buffer. */
enum far_kind { FAR_SHARE = 1, FAR_REDUCE, FAR_CHAN, FAR_TELL, FAR_CREDIT,
	FAR_TELL_CREDIT };

struct far_note {
	enum far_kind kind;
	uint32_t id, seq;
	uint64_t off, n;
};

/* One outgoing frame: its owner keeps it and the body until it is not busy. */
struct far_out {
	struct far_out *next;
	uint8_t head[COMM_FAR_HEAD];
	const void *body;
	size_t n;
	bool busy;
};

int far_open(struct comm *c, void *h, struct err *e);
void far_flush(struct comm *c);		/* waits until all is sent */
void far_close(struct comm *c);
void far_poke(struct comm *c);
bool far_sending(const struct comm *c);
/* Queues o to rank; what goes at once, goes. */
int far_post(struct comm *c, unsigned rank, struct far_out *o,
    const struct far_note *note, const void *body, struct err *e);
/* Handles events until there is none; waits for the first until the deadline
 * (0: not at all).  -1: the world has ended. */
int far_step(struct comm *c, uint64_t deadline_ns, struct err *e);
/* Steps until done(arg). */
int far_wait(struct comm *c, bool (*done)(const void *arg),
    uint64_t deadline_ns, const struct lack *lack, struct err *e);

/* For whom a frame is.  begin: may it come, and where does its body go?  NULL
 * with why set: it lies.  end: the body is there. */
void *group_begin(struct comm *c, unsigned from, const struct far_note *n,
    const char **why);
void group_end(struct comm *c, unsigned from, const struct far_note *n);
void *chan_begin(struct comm *c, unsigned from, const struct far_note *n,
    const char **why);
void chan_end(struct comm *c, unsigned from, const struct far_note *n);
void *tell_begin(struct comm *c, unsigned from, const struct far_note *n,
    const char **why);
void tell_end(struct comm *c, unsigned from, const struct far_note *n);

/* Marks those that this rank talks to over the far transport. */
void groups_peers(const struct comm *c, bool *peer);
void chans_peers(const struct comm *c, bool *peer);
void tell_peers(const struct comm *c, bool *peer);

#endif
