/*
 * batch_priv: one input record on its way through.
 */
#ifndef DSI_BATCH_PRIV_H
#define DSI_BATCH_PRIV_H

#include "batch/batch.h"

struct item {
	uint64_t lineno;		/* of the input, from 1 */
	struct json *json;		/* what the request borrows from */
	char *text;			/* or this */
	const char *custom_id;		/* in json; NULL: no batch line */
	char id[32];			/* where the request has none */
	struct answer *a;		/* NULL: over, or never begun */
	size_t nchoice;
	bool over;
	struct api_fail fail;		/* status 0: none */
	struct buf line;		/* jsonl: finished, without newline */
	size_t at;			/* text: the choice being shown, */
	size_t shown, thought;		/* bytes of it; ids: tokens */
	struct item *next;
};

/* From a record.  A bad one is over at once, with fail set; -1 is for what
 * stops the run. */
int item_open(struct item **out, const struct batch_opts *o,
    const struct served *s, const char *p, size_t n, uint64_t lineno,
    struct err *e);
void item_close(struct item **it);
/* jsonl: its line, when it is over or failed. */
int item_line(struct item *it, const struct batch_opts *o, struct err *e);
/* text: what can be shown by now, and separators; reasoning apart if that is
 * to be split off. */
void item_text(struct item *it, const struct batch_opts *o, struct buf *out,
    struct buf *reasoning);

#endif
