/*
 * complete: API requests to answers.
 *
 * A request becomes a struct answer: prompts as token ids, one choice for
 * each answer to each prompt.  A choice takes tokens and makes text of them:
 * stop strings, reasoning and content, offsets.  Neither knows where tokens
 * come from; struct complete drives them from an engine in this process.
 */
#ifndef DSI_COMPLETE_H
#define DSI_COMPLETE_H

#include "api/api.h"
#include "chat/chat.h"
#include "engine/engine.h"

/* ---- stop.c ---- */

/* Looks for p's stop strings in text[from..n), of which [0..old) was looked
 * at before.  Returns the index of the one that stops, or -1.  *safe: how
 * much of text may be shown: up to the stop string (behind it, with
 * include_stop), or to where one may have begun. */
int stop_find(const struct sample_params *p, const char *text, size_t from,
    size_t old, size_t n, size_t *safe);

/* ---- served.c: a model as requests see it ---- */

struct served {
	struct tok *tok;		/* NULL: the model has none */
	bool chat;			/* it has a template that we know */
	enum chat_style style;
	struct err no_chat;		/* else why not */
	int32_t think_open, think_close;	/* token ids or -1 */
	bool show_think;		/* leave reasoning in the content, tags
					 * and all; false: split it off */
	bool show_cached;		/* usage says what the prefix cache
					 * had: it depends on what ran before,
					 * so batches leave it out */
	const char *name;		/* borrowed */
	struct api_model api;
	int32_t eos[ARCH_MAX_EOS];
	unsigned neos;
};

/* Reads tokenizer and template, where there are any, from dir. */
int served_open(struct served *s, const char *dir, const char *name,
    const struct arch *a, uint64_t max_len, struct err *e);
void served_close(struct served *s);

/* ---- choice.c: tokens to text ---- */

struct choice {
	const struct served *s;
	const struct api_req *r;
	size_t prompt;			/* index of its prompt */
	uint32_t index;			/* 0..n-1 among that prompt's */
	uint64_t id;			/* the engine's; 0: not under way */

	struct api_tokens tokens;
	struct buf text;		/* raw: with stop strings and tags */
	size_t safe, from;		/* see stop_find */
	size_t nchars;			/* of text, plus those echoed */
	struct tok_stream stream;
	struct think_split split;
	bool splits, thinks;		/* looks for tags; is between them */

	/* What may be shown; grows only.  Completions have content alone. */
	struct buf content, reasoning;
	size_t nthought;		/* tokens between the tags */

	bool begun;			/* the engine has reported on it */
	enum engine_finish finish;	/* ENGINE_RUNNING until it is over */
	const char *stop_str;		/* the request's, or NULL */
	int32_t stop_id;		/* or -1 */
};

/* start: how its prompt ends. */
void choice_init(struct choice *c, const struct served *s,
    const struct api_req *r, enum think_start start);
void choice_free(struct choice *c);
/* Takes a token (-1: none), its logprobs (or NULL) and whether it is the last
 * one; stop_id as in engine_out.  c->finish may say afterwards that a stop
 * string ended it: then no more tokens are wanted. */
int choice_put(struct choice *c, int32_t token,
    const struct sample_logprobs *lp, enum engine_finish finish,
    int32_t stop_id, struct err *e);

/* ---- answer.c: a request and all that comes of it ---- */

struct answer_prompt {
	struct ids ids;
	struct buf text;		/* what chat or echo made of it */
	struct api_tokens tokens;	/* with logprobs as they come */
	size_t ncached;			/* of ids, found in the cache */
};

struct answer {
	const struct served *s;
	struct api_req req;
	struct answer_prompt *prompt;
	size_t nprompt;
	struct choice *choice;		/* [prompt][n] */
	size_t nchoice;
	size_t nlive;			/* choices not over yet */
	bool changed;			/* in the last step's list */
	void *user;			/* for the caller */
};

/* Takes r over, also when it fails; a is freed then.  What is too long, can't
 * be tokenized or needs what the model lacks is refused. */
int answer_open(struct answer **a, struct api_req *r, const struct served *s,
    struct api_fail *f);
void answer_close(struct answer **a);
/* The response object, when nlive is 0.  id and created as in api_meta. */
void answer_put(struct buf *b, const struct answer *a, const char *id,
    int64_t created);

/* ---- complete.c: answers from an engine ---- */

struct complete;

/* g is borrowed. */
int complete_open(struct complete **c, struct engine *g, struct err *e);
void complete_close(struct complete **c);
/* Starts a; a stays the caller's, who closes it after it is over or after
 * complete_cancel. */
int complete_add(struct complete *c, struct answer *a, struct api_fail *f);
void complete_cancel(struct complete *c, struct answer *a);
/* One step of the engine.  list: the *n answers that have news, valid until
 * the next call; those with nlive 0 are over.  Returns as engine_step. */
int complete_step(struct complete *c, struct answer ***list, size_t *n,
    struct err *e);

#endif
