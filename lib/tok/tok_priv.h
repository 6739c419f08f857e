/*
 * tok_priv: what the files of lib/tok share.
 */
#ifndef DSI_TOK_PRIV_H
#define DSI_TOK_PRIV_H

#include <stdatomic.h>

#include "base/base.h"
#include "json/json.h"
#include "tok/tok.h"

uint64_t tok_hash(const char *p, size_t n);

/* ---- vocab.c: names, bytes, merges ---- */

enum { TOKEN_USED = 1, TOKEN_SPECIAL = 2 };

struct token {
	uint32_t name, nname;		/* in vocab.names, as the file has it */
	uint32_t raw, nraw;		/* in vocab.raws, decoded */
	uint32_t flags;
};

struct merge {
	uint32_t left, right;		/* left UINT32_MAX: free slot */
	uint32_t rank;
	int32_t id;			/* what the pair becomes */
};

struct vocab {
	struct token *tokens;		/* by id */
	size_t ntokens, cap;
	struct buf names, raws;
	uint32_t *slots;		/* by hash of the name: id + 1 or 0 */
	size_t nslots;			/* power of two */
	struct merge *merges;		/* by hash of the pair */
	size_t nmerges;			/* slots, power of two */
	int32_t byte_id[256];		/* the token of a single byte */
};

/* room: how many names will be added at most. */
int vocab_init(struct vocab *v, size_t room, struct err *e);
void vocab_free(struct vocab *v);
int vocab_add(struct vocab *v, const char *name, int32_t id, struct err *e);
int32_t vocab_find(const struct vocab *v, const char *name, size_t n);
/* Fills byte_id; every byte that UTF-8 can hold must have a token. */
int vocab_bytes(struct vocab *v, struct err *e);
int merges_init(struct vocab *v, size_t room, struct err *e);
/* Later merges of the same pair win, as in the reference. */
int merges_add(struct vocab *v, const char *left, size_t nleft,
    const char *right, size_t nright, uint32_t rank, struct err *e);
const struct merge *merges_get(const struct vocab *v, uint32_t left,
    uint32_t right);

/* ---- added.c: tokens found in the text before anything else ---- */

struct added {
	int32_t id;
	bool single_word, lstrip, rstrip, special;
};

struct trie_node {
	uint32_t child, sibling;	/* 0: none; the root is node 0 */
	uint32_t added;			/* index + 1 of the token ending here */
	uint8_t byte;
};

struct trie {
	struct trie_node *nodes;
	size_t n, cap;
	uint32_t first[256];		/* the root's child for a byte or 0 */
};

struct added_set {
	struct added *list;
	size_t n, cap;
	struct trie tries[2];		/* [normalized] */
	struct rx *word;		/* only when some are single_word */
};

int added_load(struct added_set *a, struct vocab *v, const struct json *list,
    struct err *e);
void added_free(struct added_set *a);

/* The next added token in text[from..n): *start, *end and its id; 0 when
 * there is none, which < 0 is an error.  *at is where the next search goes
 * on; floor is the end of the one before. */
struct added_hit {
	size_t start, end, at;
	int32_t id;
};
struct rx_scratch;
int added_next(const struct added_set *a, int which, bool special,
    const char *text, size_t n, size_t from, size_t floor,
    struct rx_scratch *rs, struct added_hit *hit, struct err *e);

/* ---- rx.c: Oniguruma's patterns by PCRE2 ---- */

struct rx;

int rx_compile(struct rx **out, const char *pattern, bool literal,
    struct err *e);
void rx_free(struct rx **r);

int rx_scratch_new(struct rx_scratch **out, struct err *e);
void rx_scratch_free(struct rx_scratch **s);
/* 1: found, [*start, *end); 0: not; -1: error.  p[0..n) is valid UTF-8. */
int rx_find(const struct rx *r, struct rx_scratch *s, const char *p, size_t n,
    size_t from, size_t *start, size_t *end, struct err *e);

/* ---- pre.c: cutting text into the pieces that BPE sees ---- */

enum split_how {
	SPLIT_ISOLATED, SPLIT_REMOVED, SPLIT_CONTIGUOUS, SPLIT_WITH_PREVIOUS,
	SPLIT_WITH_NEXT,
};

struct step {
	struct rx *rx;			/* NULL: leaves the text whole */
	enum split_how how;
	bool invert;
	bool prefix_space;
};

enum { PRE_MAX = 64 };

struct pre {
	struct step steps[PRE_MAX];
	size_t n;
};

int pre_load(struct pre *p, const struct json *v, struct err *e);
void pre_free(struct pre *p);

/* Calls piece for every piece of text, in order; the pieces lie in text or
 * in a copy that lives until piece returns. */
struct pre_run {
	const struct pre *pre;
	struct rx_scratch *rs;
	int (*piece)(void *arg, const char *p, size_t n, struct err *e);
	void *arg;
};
int pre_run(const struct pre_run *r, const char *text, size_t n,
    struct err *e);

/* ---- bpe.c ---- */

struct heap_item {
	uint64_t key;			/* rank, then place: lowest first */
	int32_t id;
};

struct sym {
	int32_t id;
	int32_t prev, next;		/* -1: none */
	int32_t merged;			/* what it makes with next, or -1 */
};

struct bpe_scratch {
	struct sym *syms;
	size_t sym_cap;
	struct heap_item *heap;
	size_t nheap, heap_cap;
};

/* Appends the ids of one piece to out.  whole: a piece that is a token
 * stays one, whatever the merges say (ignore_merges). */
int bpe_piece(const struct vocab *v, bool whole, struct bpe_scratch *s,
    const char *p, size_t n, struct ids *out, struct err *e);
void bpe_scratch_free(struct bpe_scratch *s);

/* ---- encode.c ---- */

struct scratch;				/* an encode's memory, kept for later */

enum { SPARES = 8 };
struct spares {
	_Atomic(struct scratch *) slot[SPARES];
};
void spares_free(struct spares *s);

struct tok {
	struct vocab vocab;
	struct added_set added;
	struct pre pre;
	bool ignore_merges;
	int32_t *front;			/* what the post_processor puts first */
	size_t nfront;
	int add_bos;			/* -1: the config doesn't say */
	int32_t bos, eos;
	struct spares *spares;
};

/* ---- load.c ---- */

int load_tokenizer(struct tok *t, const struct json *root, struct err *e);
int load_config(struct tok *t, const struct json *root, struct err *e);

/* ---- bytes.c: the printable alphabet of byte-level BPE ---- */

/* The byte that code point cp stands for, or -1. */
int bytes_of_char(uint32_t cp);
uint32_t bytes_to_char(uint8_t byte);
/* UTF-8 of a code point; returns 1..4. */
int utf8_put(uint32_t cp, char out[4]);

#endif
