/*
 * Inside of module probe.
 */
#ifndef DSI_PROBE_PRIV_H
#define DSI_PROBE_PRIV_H

#include "probe/probe.h"

/* ---- model.c ---- */

/* What path is: by the digest of its conversion for rank files, whose files of
 * the ranks must be there; else of config.json and, with weights, the names
 * and sizes of what lies beside it. */
void probe_see_model(struct probe_model *m, const char *path, bool weights,
    const unsigned *rank, unsigned nrank);

/* ---- facts.c ---- */

void facts_gather(struct probe_facts *f, const struct probe_request *r);

/* ---- iface.c ---- */

/* Addresses that others may reach, of interfaces that are up. */
void iface_list(struct probe_facts *f);
/* The interface named, or the one with address want, or the one that leads
 * out; fills interface, address, or wrong. */
void iface_choose(struct probe_facts *f, const char *name, const char *want);
/* The interface with the address; "": none. */
const char *iface_of(const struct probe_facts *f, const char *address);
/* "eth0 192.0.2.1, ib0 198.51.100.1" */
void iface_words(char *out, size_t size, const struct probe_facts *f);

/* ---- lead.c: the end that listens ---- */

enum { LEAD_CALLERS = PROBE_MAX_HOSTS + 16 };

struct lead_caller {
	int fd;
	enum { CALL_TOKEN, CALL_ECHO, CALL_BULK } state;
	unsigned got;			/* bytes of the token */
	char token[PROBE_TOKEN];
	uint64_t since_ns;
};

struct lead_end {
	int listener;			/* -1: none */
	char token[PROBE_TOKEN + 1];
	struct lead_caller caller[LEAD_CALLERS];
	unsigned n;
};

int lead_listen(struct lead_end *l, const struct probe_request *r,
    struct err *e);
void lead_stop(struct lead_end *l);

struct pollfd;
/* Fills p [1 + LEAD_CALLERS]; returns how many. */
unsigned lead_poll(const struct lead_end *l, struct pollfd *p);
/* What poll said of them. */
void lead_work(struct lead_end *l, const struct pollfd *p);

/* ---- peer.c: the end that calls ---- */

/* Connects from address from ("": any) and sees whether it is the lead that
 * answers.  *fd: yours. */
int peer_dial(int *fd, const struct probe_request *r, const char *from,
    struct err *e);
int peer_measure(int fd, unsigned ms, struct probe_link *link, struct err *e);

/* ---- guard.c ---- */

/* A process that ends the process groups it was told of once this process is
 * gone, however that comes. */
struct guard {
	int fd, pid;
};

int guard_start(struct guard *g, struct err *e);
void guard_add(const struct guard *g, int group);
void guard_forget(const struct guard *g, int group);
void guard_end(struct guard *g);

/* ---- kid.c: a probe as its starter sees it ---- */

struct kid {
	int pid;			/* its process group, too; 0: none */
	int in, out, words;		/* its stdin, stdout, stderr; or -1 */
	struct buf to, from, line;	/* not yet written, not yet read */
	char said[PROBE_WORDS];		/* the line of stderr coming in */
	size_t nsaid;
	char last[PROBE_WORDS];		/* the last one that was not empty */
	char noise[PROBE_WORDS];	/* the first line that was no reply */
	bool met;			/* there was a reply */
	uint64_t ended_ns;		/* when its stdout ended; 0: not yet */
	bool waiting;			/* for the reply to asked */
	enum probe_do asked;
	struct probe_reply reply;	/* the last one */
	char why[PROBE_WORDS];		/* it failed; "": not so far */
};

/* Starts it in a process group of its own.  argv ends with NULL. */
int kid_start(struct kid *k, const struct guard *g, char *const *argv,
    struct err *e);
/* Does nothing for one that has failed. */
void kid_ask(struct kid *k, const struct probe_request *r);
/* Waits until none of them waits for a reply, or until then, or for *stop.
 * Those that still wait then have failed; text says how long that was. */
void kid_wait(struct kid *k, size_t n, uint64_t deadline_ns,
    const volatile sig_atomic_t *stop);
/* Ends all: by the end of their input, then by signals to their groups. */
void kid_end(struct kid *k, size_t n, const struct guard *g);

#endif
