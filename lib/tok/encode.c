/*
 * encode: text to ids.
 *
 * Added tokens first, then the pre_tokenizer, then BPE on each piece.  Text
 * repeats its words, so a small table remembers what short pieces became.  A
 * struct tok is constant for its users; what an encode needs besides lives
 * in a scratch, taken from a few spare ones that are handed over atomically.
 */
#include <stdlib.h>
#include <string.h>

#include "tok/tok_priv.h"

enum { WORDS = 1 << 14, WORD_BYTES = 26, WORD_IDS = 8 };

struct word {				/* 64 bytes: one cache line */
	uint32_t hash;
	uint8_t n, nids;		/* n 0: empty */
	char p[WORD_BYTES];
	int32_t ids[WORD_IDS];
};

struct scratch {
	struct rx_scratch *rs;
	struct bpe_scratch bpe;
	struct word *words;
};

struct job {
	const struct tok *t;
	struct scratch *s;
	struct ids *out;
	bool special;
};

/* ---- spare memory ---- */

static void
scratch_free(struct scratch *s)
{
	if (!s)
		return;
	rx_scratch_free(&s->rs);
	bpe_scratch_free(&s->bpe);
	free(s->words);
	free(s);
}

void
spares_free(struct spares *sp)
{
	for (int i = 0; i < SPARES; i++)
		scratch_free(atomic_load(&sp->slot[i]));
	free(sp);
}

static struct scratch *
scratch_take(struct spares *sp, struct err *e)
{
	struct scratch *s;

	for (int i = 0; i < SPARES; i++)
		if ((s = atomic_exchange(&sp->slot[i], NULL)))
			return s;
	if (!(s = mem_new(1, sizeof *s, e)))
		return NULL;
	s->words = mem_new(WORDS, sizeof *s->words, e);
	if (!s->words || rx_scratch_new(&s->rs, e) == -1) {
		scratch_free(s);
		return NULL;
	}
	return s;
}

static void
scratch_give(struct spares *sp, struct scratch *s)
{
	for (int i = 0; i < SPARES; i++) {
		struct scratch *none = NULL;

		if (atomic_compare_exchange_strong(&sp->slot[i], &none, s))
			return;
	}
	scratch_free(s);
}

/* ---- ids ---- */

void
ids_free(struct ids *v)
{
	free(v->p);
	memset(v, 0, sizeof *v);
}

int
ids_put(struct ids *v, int32_t id, struct err *e)
{
	if (v->n == v->cap &&
	    mem_grow(&v->p, &v->cap, v->n + 1, sizeof *v->p, e) == -1)
		return -1;
	v->p[v->n++] = id;
	return 0;
}

/* ---- pieces ---- */

static int
put_word(struct ids *out, const struct word *w, struct err *e)
{
	for (unsigned i = 0; i < w->nids; i++)
		if (ids_put(out, w->ids[i], e) == -1)
			return -1;
	return 0;
}

static int
put_piece(void *arg, const char *p, size_t n, struct err *e)
{
	struct job *j = arg;
	size_t was = j->out->n, made;
	struct word *w = NULL;
	uint32_t h = 0;

	if (n <= WORD_BYTES) {
		h = (uint32_t)tok_hash(p, n);
		w = &j->s->words[h & (WORDS - 1)];
		if (w->hash == h && w->n == n && !memcmp(w->p, p, n))
			return put_word(j->out, w, e);
	}
	if (bpe_piece(&j->t->vocab, j->t->ignore_merges, &j->s->bpe, p, n,
	    j->out, e) == -1)
		return -1;
	made = j->out->n - was;
	if (!w || made > WORD_IDS)
		return 0;
	w->hash = h;
	w->n = (uint8_t)n;
	w->nids = (uint8_t)made;
	memcpy(w->p, p, n);
	memcpy(w->ids, j->out->p + was, made * sizeof *w->ids);
	return 0;
}

/* ---- stretches between added tokens ---- */

static int
put_text(struct job *j, const char *p, size_t n, int round, struct err *e)
{
	struct pre_run run = {&j->t->pre, j->s->rs, put_piece, j};
	struct added_hit hit = {0};
	size_t done = 0;
	int got;

	if (round == 2)
		return pre_run(&run, p, n, e);
	while ((got = added_next(&j->t->added, round, j->special, p, n, hit.at,
	    done, j->s->rs, &hit, e)) == 1) {
		if (done < hit.start && put_text(j, p + done, hit.start - done,
		    round + 1, e) == -1)
			return -1;
		if (ids_put(j->out, hit.id, e) == -1)
			return -1;
		done = hit.end;
	}
	if (got == -1)
		return -1;
	return done < n ? put_text(j, p + done, n - done, round + 1, e) : 0;
}

static int
check_utf8(const char *p, size_t n, struct err *e)
{
	size_t i = 0;
	uint64_t w;

	while (i < n) {
		int len;

		if (n - i >= 8) {
			memcpy(&w, p + i, 8);
			if (!(w & 0x8080808080808080u)) {
				i += 8;
				continue;
			}
		}
		len = utf8_len(p + i, n - i);
		if (len <= 0)
			return err_set(e, ERR_CALLER,
			    "byte %zu of the text is not UTF-8", i);
		i += (size_t)len;
	}
	return 0;
}

static int
put_front(const struct tok *t, struct ids *out, struct err *e)
{
	if (t->add_bos == 1)
		return ids_put(out, t->bos, e);
	if (t->add_bos == 0)
		return 0;
	for (size_t i = 0; i < t->nfront; i++)
		if (ids_put(out, t->front[i], e) == -1)
			return -1;
	return 0;
}

int
tok_encode(const struct tok *t, const char *text, size_t n, unsigned flags,
    struct ids *out, struct err *e)
{
	struct job j = {.t = t, .out = out, .special = flags & TOK_SPECIAL};
	size_t was = out->n;
	int rc = 0;

	if (n > INT32_MAX)
		return err_set(e, ERR_CALLER,
		    "a text of %zu bytes: at most 2 GiB can be encoded", n);
	if (check_utf8(text, n, e) == -1)
		return -1;
	if (!(j.s = scratch_take(t->spares, e)))
		return -1;
	if (flags & TOK_BOS)
		rc = put_front(t, out, e);
	if (rc == 0)
		rc = put_text(&j, text, n, 0, e);
	if (rc == -1)
		out->n = was;
	scratch_give(t->spares, j.s);
	return rc;
}
