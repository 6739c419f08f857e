/*
 * batch: many prompts through one engine, in order.
 *
 * Input is read only as far ahead as the engine can use, so tens of thousands
 * of prompts run in steady memory; answers leave in input order, the first
 * unfinished one while it is being made.
 */
#ifndef DSI_BATCH_H
#define DSI_BATCH_H

#include "api/api.h"
#include "complete/complete.h"
#include "shard/shard.h"

/* ---- input.c: records from a descriptor ---- */

enum input_sep { INPUT_LINES, INPUT_NUL, INPUT_ALL };
enum input_got { INPUT_NONE, INPUT_RECORD, INPUT_END };

enum { INPUT_MAX = 64 << 20 };		/* bytes of a prompt or body */

/* Set fd, stop_fd, end_fd, sep and max; the rest is 0 at first. */
struct input {
	int fd;
	int stop_fd;			/* readable: stop reading; -1: none */
	int end_fd;			/* readable: don't wait; -1: none */
	enum input_sep sep;
	size_t max;			/* bytes of a record */
	struct buf b;
	size_t start, looked;		/* in b: next record, no separator
					 * before */
	bool eof, stopped;
	uint64_t n;			/* records given so far */
};

/* The next record, without its separator; *p is valid until the next call.
 * The last one need not be ended.  INPUT_NONE: nothing has come yet, and wait
 * was false or end_fd readable.  -1: a read failed, or a record is longer than
 * max. */
int input_next(struct input *in, bool wait, const char **p, size_t *n,
    struct err *e);
void input_free(struct input *in);

/* ---- cache.c: rank files of a model directory ---- */

/* How a model is to be sharded. */
struct cache_as {
	struct layout layout;
	enum shard_quant quantize;
	bool dummy;			/* random weights, by config.json */
	bool hollow;			/* with dummy: none */
};

/* The directory of rank files for model, in out (yours).  A directory of rank
 * files is its own and must have that layout; a model directory (for dummy
 * also a config.json) is sharded into $DSI_CACHE (default $XDG_CACHE_HOME/dsi,
 * else ~/.cache/dsi) when it is first seen, or when its files have changed.
 * note tells what takes time. */
int cache_model(struct buf *out, const char *model, const struct cache_as *as,
    void (*note)(const char *text), struct err *e);

/* ---- resume.c: the output of an earlier run ---- */

struct resume {
	int fd;				/* at its end after the last line */
	const char *path;
	struct input in;
};

/* Opens path, made if it isn't there, for this run alone, and cuts off a last
 * line that has no end. */
int resume_open(struct resume *r, const char *path, struct err *e);
/* The next finished line, json_free it: 1, or 0 when none is left. */
int resume_next(struct resume *r, struct json **line, struct err *e);
/* -1 when line can't be the answer to the request on input line lineno.
 * *bad: it is an error. */
int resume_match(const struct resume *r, const struct json *line,
    const char *request, size_t n, uint64_t lineno, bool *bad, struct err *e);
void resume_close(struct resume *r);

/* ---- run.c ---- */

enum batch_think { BATCH_SHOW, BATCH_HIDE, BATCH_SPLIT };

struct batch_opts {
	int in_fd, out_fd;
	int stop_fd;			/* see struct input */
	enum input_sep sep;
	bool jsonl;			/* requests and response objects */
	bool ids;			/* token ids for text, both ways */
	bool chat;			/* text: user messages */
	const char *system;		/* chat: or NULL */
	enum batch_think think;
	struct api_req proto;		/* text: everything but the prompt */
	uint64_t seed;			/* of line 1, for requests without one;
					 * line 2 has the next */
	int64_t created;		/* 0: now */
	const char *resume;		/* instead of out_fd; or NULL */
	size_t window;			/* choices under way or waiting */
	bool progress;			/* on stderr, if that's a terminal */
	/* text: a prompt that could not be run */
	void (*report)(uint64_t lineno, const char *msg);
};

struct batch_count {
	uint64_t done, bad;		/* prompts; bad ones are among done */
	bool stopped;			/* by stop_fd */
};

/* Until the input ends.  -1: something that no single request is at fault
 * for. */
int batch_run(const struct batch_opts *o, struct engine *g,
    const struct served *s, struct batch_count *count, struct err *e);

#endif
