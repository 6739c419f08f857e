/*
 * chat_priv: a conversation, checked, between reading and rendering.
 */
#ifndef DSI_CHAT_PRIV_H
#define DSI_CHAT_PRIV_H

#include "chat/chat.h"

enum role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL };

struct call {
	const char *type, *name;	/* borrowed from the JSON */
	const char *args;		/* borrowed, or */
	struct buf own;			/* an object, written out */
};

struct msg {
	enum role role;
	struct buf content;		/* p NULL: the message had null */
	const char *reasoning;		/* or NULL */
	struct call *calls;
	size_t ncalls;
};

struct talk {
	struct msg *msgs;
	size_t n;
};

int talk_load(struct talk *t, const struct json *messages, struct err *e);
void talk_free(struct talk *t);

/* tools.c: what tools there are, for the system text. */
int tools_put(enum chat_style style, const struct json *tools,
    struct buf *out, struct err *e);

#endif
