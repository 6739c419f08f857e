/*
 * rank: one that follows a lead, in this process.
 */
#include "launch/launch.h"

enum { JOIN_MS = 600000 };		/* where c has no time */

int
launch_follow(const struct engine_opts *o, const struct comm_opts *c,
    const char *join, struct err *e)
{
	struct engine_link link = { .listen_fd = -1, .comm = *c };
	struct engine_opts own = *o;
	struct engine *g = NULL;
	int rc;

	link.lead_fd = launch_dial(join, c->join_ms ? c->join_ms : JOIN_MS,
	    c->waiting, c->arg, e);
	if (link.lead_fd == -1)
		return -1;
	own.link = &link;
	rc = engine_open(&g, &own, e);
	if (rc == 0 && engine_follow(g, e) == -1)
		rc = 1;
	engine_close(&g);
	return rc;
}
