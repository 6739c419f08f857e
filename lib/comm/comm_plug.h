/*
 * comm_plug: what a message-passing library's plug-in gives: a far transport,
 * and what its launcher knows of the ranks that it started.
 *
 * A plug-in is a shared object with one symbol for others, the table dsi_plug.
 * Its struct err and struct comm_far must be those of the program that loads
 * it, so both must be of one build.  Nothing here needs the library to be
 * there when the programs are built or run.
 */
#ifndef DSI_COMM_PLUG_H
#define DSI_COMM_PLUG_H

#include "comm/comm_far.h"

#define COMM_PLUG_SYMBOL "dsi_plug"

enum { COMM_PLUG_VERSION = 1 };

struct comm_plug {
	uint32_t version;		/* stays first */
	const char *build;		/* dsi_version */
	const struct comm_far *far;
	/* Once in a process, before all that follows.  text: the library's
	 * name and version, for people. */
	int (*start)(const char **text, struct err *e);
	unsigned (*rank)(void);		/* in all that were started */
	unsigned (*world)(void);
	/* Every rank gives n bytes, and gets those of all, in their order.
	 * Waits for all, without spinning. */
	int (*gather)(const void *mine, size_t n, void *all, struct err *e);
	/* Leaves in peace, when all ranks do; a rank of a world that failed
	 * ends its process without it. */
	void (*end)(void);
};

#endif
