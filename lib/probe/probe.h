/*
 * probe: what a set of hosts is like, before a world is started on it.
 *
 *	probe_hosts_read(&h, "nodea,nodeb", &e);
 *	probe_deal(&s, &d, &h, &e);		which ranks each host gets
 *	probe_run(&p, &o, &e);			asks the hosts
 *	probe_judge(&p, &o, &m, &e);		what is wrong, what fits
 *	probe_put_text(&b, &p, &o);
 *
 * A remote shell starts "dsi-check --probe" on each host, which is
 * probe_serve.  The first host is the lead: its probe listens where the lead
 * of the world would, the others connect to it.  Every wait has a deadline.
 */
#ifndef DSI_PROBE_H
#define DSI_PROBE_H

#include <signal.h>

#include "deploy/deploy.h"
#include "probe/wire.h"

enum { PROBE_MAX_HOSTS = 256, PROBE_MS = 10000 };

/* ---- hosts.c ---- */

struct probe_host {
	char name[256];			/* as the remote shell takes it */
	unsigned slots;			/* ranks; 0: not said */
};

struct probe_hosts {
	struct probe_host *v;
	size_t n, cap;
};

/* "a,user@b,c:8", or "@file" with one a line and # comments.  ERR_CALLER names
 * the item; nothing that a remote shell could take for an option or more than
 * one word is let through.  h is {0} before. */
int probe_hosts_read(struct probe_hosts *h, const char *list, struct err *e);
void probe_hosts_free(struct probe_hosts *h);

/* ---- deal.c: ranks to hosts ---- */

struct probe_share {
	unsigned *rank;			/* [n], rising; in one array with the
					 * other hosts' */
	unsigned n;
};

/* share [h->n]: by the hosts' slots, the flags for nodes, or evenly; with
 * fewer ranks than hosts the last get none.  d is resolved.  Free share[0].rank
 * and share. */
int probe_deal(struct probe_share **share, const struct deploy *d,
    const struct probe_hosts *h, struct err *e);

/* ---- serve.c: the probe itself ---- */

/* Answers the requests that come from in, on out, until in ends, a minute has
 * passed or the caller breaks the rules (ERR_CALLER).  SIGPIPE is to be
 * ignored. */
int probe_serve(int in, int out, struct err *e);

/* ---- run.c ---- */

struct probe_opts {
	const struct deploy *d;		/* resolved */
	struct deploy_plan *plan;	/* of d; its fit becomes the last
					 * host's */
	const struct probe_hosts *hosts;
	const struct probe_share *share;
	/* Words that HOST and the probe's command follow; NULL: ssh, and no
	 * shell for this host itself. */
	const char *rsh;
	const char *program;		/* dsi-check over there */
	unsigned ms;			/* for all of it; 0: PROBE_MS */
	const volatile sig_atomic_t *stop;	/* not 0: give up; or NULL */
};

struct probe_result {
	bool answered;			/* there are facts */
	struct probe_facts facts;	/* interface and address as dialled */
	bool linked, measured;
	bool no_way;			/* it tried, and can't reach the lead */
	struct probe_link link;		/* to the lead; not the lead's own */
	char why[PROBE_WORDS];		/* the first thing that failed; or "" */
	/* probe_judge */
	bool known, fits;		/* fits: of its ranks, if known */
	unsigned worst;			/* rank with the least room */
	uint64_t need, has;		/* bytes: its own */
};

struct probe {
	struct probe_result *v;		/* [hosts->n] */
	size_t n;
	struct probe_model here;	/* this host's own copy */
	char path[4096];		/* of the model, as asked for */
	char address[256];		/* where the lead listened */
	unsigned port;
	bool listened;
	char **problem, **notice;	/* [nproblem], for people */
	size_t nproblem, cap_problem, nnotice, cap_notice;
};

/* -1 only for what is wrong here: no memory, no process, or *stop.  What is
 * wrong with a host is in its result.  Nothing that was started runs on. */
int probe_run(struct probe *p, const struct probe_opts *o, struct err *e);
void probe_free(struct probe *p);

/* ---- judge.c ---- */

/* Compares the hosts and fits their ranks into them; memory: instead of
 * theirs, if given.  Fills the problems; none: the world can start. */
int probe_judge(struct probe *p, const struct probe_opts *o,
    const struct deploy_memory *memory, struct err *e);

/* ---- report.c ---- */

void probe_put_text(struct buf *b, const struct probe *p,
    const struct probe_opts *o);
/* One object; dsi-check(1) has the keys. */
void probe_put_json(struct buf *b, const struct probe *p,
    const struct probe_opts *o);

#endif
