/*
 * api: OpenAI's completions and chat API as C structs: a request body parsed
 * and checked, response objects built.
 *
 * Fields, ranges and defaults are vLLM's where it goes beyond OpenAI.  A field
 * that would change the answer and that is not supported is refused by name;
 * what is unknown otherwise is ignored, as clients expect.
 *
 * Nothing here runs a model: complete/ does, and fills the api_choice that the
 * builders turn into JSON.
 */
#ifndef DSI_API_H
#define DSI_API_H

#include "base/base.h"
#include "json/json.h"
#include "sample/sample.h"
#include "tok/tok.h"

enum api_kind { API_COMPLETION, API_CHAT };

enum {
	API_MAX_PROMPTS = 1024,		/* in one request */
	API_MAX_N = 16384,		/* choices in one request */
	API_MAX_STOP = 4,		/* stop strings */
	API_MAX_SALT = 128,		/* bytes of cache_salt */
	API_MAX_ID = 128,		/* bytes of request_id */
	API_TEXT_MAX_TOKENS = 16,	/* of a completion that names none */
};

/* ---- fail.c: what was wrong with a request ---- */

struct api_fail {
	int status;			/* HTTP: 400, 404, 500, ... */
	char param[128];		/* dotted field, or "" */
	struct err e;			/* the message and exit code */
};

/* Each returns -1.  f is never NULL; param may be. */
int api_refuse(struct api_fail *f, const char *param, const char *fmt, ...)
    DSI_PRINTF(3, 4);			/* 400 */
/* Takes f->e as it is and gives it the status that its code asks for. */
int api_failed(struct api_fail *f, const char *param);
/* {"error":{"message","type","param","code"}} */
void api_put_fail(struct buf *b, const struct api_fail *f);

/* ---- parse.c: a request ---- */

/* The model that a request is for. */
struct api_model {
	const char *const *names;	/* served under; NULL: any name */
	size_t nnames;
	unsigned vocab;
	uint64_t max_len;		/* context, tokens */
	/* where the request says nothing: generation_config.json's */
	double temperature, top_p, repetition_penalty;
	int64_t top_k;
};

/* text (n bytes) or ids (n of them, owned). */
struct api_prompt {
	const char *text;
	int32_t *ids;
	size_t n;
};

enum { API_UNSET = -1 };

/* A request.  Strings and JSON are borrowed from the body, which has to
 * outlive it; the rest is freed by api_req_free. */
struct api_req {
	enum api_kind kind;
	const char *model;		/* NULL: not named */
	struct api_prompt *prompt;	/* completions */
	size_t nprompt;
	const struct json *messages;	/* chat: a non-empty array */
	int64_t n;			/* choices for each prompt */
	bool echo;			/* the prompt (chat: last message,
					 * if the assistant's) comes too */

	/* What has to be computed.  max_tokens is API_UNSET in a chat that
	 * names none: all that is left of the context. */
	struct sample_params params;
	const struct json *bad_words;	/* array of strings, or NULL */
	/* What has to be shown; params asks for more where echo needs it. */
	int logprobs, prompt_logprobs;	/* SAMPLE_LOGPROBS_OFF, -1, 0..20 */

	bool add_special_tokens;	/* the tokenizer's, in front */
	bool skip_special_tokens;
	bool return_token_ids;
	bool tokens_as_ids;		/* "token_id:7" in logprobs */
	int64_t truncate;		/* tokens; 0: no; -1: what fits */
	bool truncate_right;		/* cuts the end, not the start */

	bool add_generation_prompt;	/* chat */
	bool continue_final_message;
	bool include_reasoning;
	bool return_prompt_text;
	int thinking;			/* API_UNSET: as the template has it */

	bool stream, include_usage, continuous_usage;
	int64_t stream_interval;	/* tokens in a chunk, >= 1 */
	int64_t priority;		/* lower runs first */
	const char *request_id, *session_id, *cache_salt, *user; /* or NULL */
};

/* The defaults of a kind, under model m. */
void api_req_init(struct api_req *r, enum api_kind kind,
    const struct api_model *m);
void api_req_free(struct api_req *r);
/* Parses a body; r is initialised here and, on failure, freed. */
int api_parse(struct api_req *r, enum api_kind kind, const struct json *body,
    const struct api_model *m, struct api_fail *f);

/* ---- batch.c: lines of an OpenAI batch file ---- */

struct api_batch {
	const char *custom_id;
	enum api_kind kind;
	const struct json *body;
};

/* It has a url or a body: a batch line, good or bad. */
bool api_is_batch(const struct json *line);
/* custom_id is set whenever the line has one, even when it fails. */
int api_batch_parse(struct api_batch *b, const struct json *line,
    struct api_fail *f);
/* {id, custom_id, response:{status_code, request_id, body}, error:null};
 * body[0..n) is JSON. */
void api_put_batch(struct buf *b, const char *id, const char *custom_id,
    int status, const char *body, size_t n);

/* ---- reply.c: responses ---- */

/* A token and where it stands. */
struct api_token {
	int32_t id;
	size_t offset;			/* characters of the choice's text
					 * before it, echoed prompt included */
	bool has_lp;
	struct sample_logprobs lp;	/* owned, if has_lp */
};

/* {0} is empty. */
struct api_tokens {
	struct api_token *p;
	size_t n, cap;
};

/* lp may be NULL; it is copied. */
int api_tokens_put(struct api_tokens *t, int32_t id, size_t offset,
    const struct sample_logprobs *lp, struct err *e);
void api_tokens_free(struct api_tokens *t);

/* One answer, all of it borrowed. */
struct api_choice {
	size_t index;
	const char *text;		/* completion: text; chat: content,
					 * NULL there is null */
	size_t ntext;
	const char *reasoning;		/* chat; NULL: none */
	size_t nreasoning;
	const char *finish;		/* "stop", "length", "abort" */
	const char *stop_str;		/* that ended it; or NULL */
	int32_t stop_id;		/* that ended it; or -1 */
	const struct api_tokens *prompt;	/* lp of all but the first
						 * when asked for */
	const struct api_tokens *tokens;
};

struct api_usage {
	size_t prompt, completion, reasoning;	/* tokens */
	int64_t cached;			/* of prompt; API_UNSET: not shown */
};

struct api_meta {
	const char *id;			/* without "cmpl-" or "chatcmpl-" */
	int64_t created;		/* Unix seconds */
	const char *model;		/* where the request names none */
	const struct tok *tok;		/* NULL: the model has none; then token
					 * ids are always shown */
	const char *prompt_text;	/* for return_prompt_text; or NULL */
};

/* A completion or chat.completion object, one line without newline. */
void api_put_reply(struct buf *b, const struct api_req *r,
    const struct api_meta *m, const struct api_choice *c, size_t n,
    const struct api_usage *u);

/* ---- logprobs.c: their three shapes ---- */

/* Completions: {text_offset, token_logprobs, tokens, top_logprobs}; prompt is
 * NULL unless echoed. */
void api_put_text_logprobs(struct buf *b, const struct api_req *r,
    const struct tok *t, const struct api_tokens *prompt,
    const struct api_tokens *tokens);
/* Chat: {content:[{token, logprob, bytes, top_logprobs}]} */
void api_put_chat_logprobs(struct buf *b, const struct api_req *r,
    const struct tok *t, const struct api_tokens *tokens);
/* [null, {"id":{logprob, rank, decoded_token}}, ...] */
void api_put_prompt_logprobs(struct buf *b, const struct api_req *r,
    const struct tok *t, const struct api_tokens *prompt);
void api_put_ids(struct buf *b, const struct api_tokens *t);	/* [1,2] */

#endif
