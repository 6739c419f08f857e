/*
 * wire: what dsi-check says to its probes, and they to it: a JSON object a
 * line, requests on the probe's stdin, replies on its stdout.
 *
 * A probe answers requests in their order.  Neither side trusts the other:
 * every text is bounded and made printable, every number has a range.
 */
#ifndef DSI_PROBE_WIRE_H
#define DSI_PROBE_WIRE_H

#include "plan/plan.h"

enum {
	PROBE_VERSION = 1,
	PROBE_LINE = 64 << 10,		/* bytes in a line, at most */
	PROBE_IFS = 64,			/* addresses that are told of */
	PROBE_IFNAME = 16,
	PROBE_ADDR = 46,		/* INET6_ADDRSTRLEN */
	PROBE_TOKEN = 32,		/* hex digits */
	PROBE_WORDS = 512,
};

/* ---- requests ---- */

enum probe_do {
	PROBE_FACTS,			/* what is this host? */
	PROBE_LISTEN,			/* as the lead of a world would */
	PROBE_DIAL,			/* connect to the probe that listens */
	PROBE_MEASURE,			/* the connection that was made */
};

struct probe_request {
	enum probe_do what;
	/* facts */
	char model[4096];		/* a path */
	bool weights;			/* names and sizes of weights count */
	unsigned rank[PLAN_MAX_RANKS];	/* whose files must be there */
	unsigned nrank;
	char ifname[PROBE_IFNAME];	/* "": none; what this host's own */
	char ifname_from[32];		/* environment says goes before it */
	/* facts, listen, dial; "": not given */
	char address[256];
	unsigned port, ports;		/* listen: port and those after it */
	char token[PROBE_TOKEN + 1];	/* listen, dial: both know it */
	unsigned ms;			/* dial, measure: may take so long */
};

/* ---- replies ---- */

struct probe_if {
	char name[PROBE_IFNAME], address[PROBE_ADDR];
};

struct probe_model {
	char kind[16];			/* "rank files", "directory", "file" */
	char digest[65];		/* hex */
	char error[PROBE_WORDS];	/* "": there are kind and digest */
};

struct probe_facts {
	unsigned version;		/* other than PROBE_VERSION: of the
					 * rest, only build is known */
	char build[32];			/* dsi_version */
	char host[65];			/* its name */
	char boot[40];			/* boot id: one machine, one id */
	unsigned cores, nodes;		/* that may be used; NUMA nodes */
	unsigned places;		/* DSI_VISIBLE_DEVICES; 0: not set */
	uint64_t memory, available;	/* bytes */
	char kernels[16];		/* the highest rung: "avx512vnni" */
	struct probe_if ifs[PROBE_IFS];
	unsigned nifs;
	char interface[PROBE_IFNAME], address[PROBE_ADDR];	/* chosen */
	char from[32];			/* the variable it is from, or "" */
	char wrong[PROBE_WORDS];	/* with the environment, such as an
					 * interface; or "" */
	struct probe_model model;
};

struct probe_link {
	char interface[PROBE_IFNAME], address[PROBE_ADDR];	/* this end */
	uint64_t rtt_ns;		/* median; 0: not measured */
	uint64_t rate;			/* bytes a second */
};

struct probe_reply {
	enum probe_do re;
	char error[PROBE_WORDS];	/* "": it went well */
	struct probe_facts facts;	/* facts */
	struct probe_link link;		/* dial: the end, measure: numbers */
};

/* ---- wire.c ---- */

/* Each puts a line, with its newline. */
void wire_put_request(struct buf *b, const struct probe_request *r);
void wire_put_reply(struct buf *b, const struct probe_reply *r);
/* The line without its newline.  ERR_CALLER: what is wrong with it. */
int wire_get_request(struct probe_request *r, const char *line, size_t n,
    struct err *e);
int wire_get_reply(struct probe_reply *r, const char *line, size_t n,
    struct err *e);
const char *wire_name(enum probe_do what);	/* "facts" */

/* Moves the first whole line of in to line, without its newline: 1; 0: there
 * is none yet; -1: it is longer than PROBE_LINE. */
int wire_line(struct buf *in, struct buf *line, struct err *e);
/* Copies text as printable ASCII, cut to fit. */
void wire_plain(char *out, size_t size, const char *text);

#endif
