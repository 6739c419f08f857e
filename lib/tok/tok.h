/*
 * tok: text to token ids and back, for byte-level BPE tokenizers in the
 * Hugging Face tokenizer.json format.
 *
 * A struct tok is constant once opened: any number of threads may encode and
 * decode with it at the same time.  Results are those of the reference
 * implementation ("tokenizers"), id for id; a file that asks for something
 * this module doesn't know is refused with one line that names it.
 */
#ifndef DSI_TOK_H
#define DSI_TOK_H

#include "base/base.h"

struct tok;

enum {
	TOK_FILE_MAX = 64 << 20,	/* bytes of a tokenizer.json */
	TOK_ID_MAX = (1 << 21) - 1,	/* ids beyond are refused */
};

/* path is a tokenizer.json, or a folder with one.  In a folder,
 * tokenizer_config.json is read too, if it is there: bos_token, eos_token,
 * add_bos_token.  *out is yours: tok_close. */
int tok_open(struct tok **out, const char *path, struct err *e);
/* The same from memory; name is what errors call it. */
int tok_parse(struct tok **out, const char *name, const char *text, size_t n,
    struct err *e);
void tok_close(struct tok **t);			/* NULL is fine; sets NULL */

/* ---- the vocabulary ---- */

int32_t tok_vocab(const struct tok *t);		/* highest id + 1 */
/* The id of a token by its content as the file writes it ("<think>"), or -1.
 */
int32_t tok_id(const struct tok *t, const char *content);
/* The bytes that id stands for, borrowed, not always whole characters.  -1
 * when no token has this id. */
int tok_bytes(const struct tok *t, int32_t id, const char **p, size_t *n);
bool tok_is_special(const struct tok *t, int32_t id);
/* From tokenizer_config.json; -1 when it names none. */
int32_t tok_bos(const struct tok *t);
int32_t tok_eos(const struct tok *t);

/* ---- text to ids ---- */

/* {0} is an empty list.  p is yours: free it with ids_free. */
struct ids {
	int32_t *p;
	size_t n, cap;
};

void ids_free(struct ids *v);			/* back to {0} */
int ids_put(struct ids *v, int32_t id, struct err *e);

enum {
	/* "<|User|>" inside the text means the special token; without the
	 * flag it is spelled out like any other text.  (Added tokens that the
	 * file doesn't mark special are recognised always.) */
	TOK_SPECIAL = 1 << 0,
	/* Put what the model wants in front: the token of add_bos_token if
	 * tokenizer_config.json has that key, else what the post_processor
	 * says. */
	TOK_BOS = 1 << 1,
};

/* Appends the ids of text[0..n) to out.  text must be UTF-8 (ERR_CALLER
 * names the byte); it may hold NULs.  After an error out is as before. */
int tok_encode(const struct tok *t, const char *text, size_t n, unsigned flags,
    struct ids *out, struct err *e);

/* ---- ids to text ---- */

enum {
	TOK_SKIP_SPECIAL = 1 << 0,	/* leave special tokens out */
};

/* Appends the text; what isn't UTF-8 becomes U+FFFD (one for each maximal
 * broken piece).  An id that no token has stands for nothing: models with a
 * padded vocabulary can produce one. */
int tok_decode(const struct tok *t, const int32_t *ids, size_t n,
    unsigned flags, struct buf *out, struct err *e);

/* The same, token by token.  What all calls append together equals
 * tok_decode of the whole list; no call ends inside a character. */
struct tok_stream {
	const struct tok *t;
	unsigned flags;			/* TOK_SKIP_SPECIAL */
	char held[4];			/* start of a character */
	unsigned nheld;
};

void tok_stream_init(struct tok_stream *s, const struct tok *t,
    unsigned flags);
/* buf_ok tells whether memory ran out. */
void tok_stream_put(struct tok_stream *s, int32_t id, struct buf *out);
void tok_stream_end(struct tok_stream *s, struct buf *out);

#endif
