/*
 * think: an answer into reasoning and content.
 *
 * One byte at a time through a small machine.  Both tags begin with "<" and
 * have it nowhere else, so when a possible tag breaks off, only its last byte
 * can begin another.
 */
#include <string.h>

#include "chat/chat.h"

static const char tag_open[] = "<think>";
static const char tag_close[] = "</think>";

enum {
	ST_PLAIN,			/* content, no tag is looked for */
	ST_START,			/* <think> may still come first */
	ST_OPENED,			/* as START, but it is open already */
	ST_GAP,				/* behind <think>: newlines go */
	ST_REASON,			/* </think> may come */
	ST_ANSWER,			/* behind </think>: newlines go */
};

/* Bytes that leave together: as long as possible, never of two kinds. */
struct run {
	think_emit *emit;
	void *arg;
	const char *p;
	size_t n;
	enum think_kind kind;
};

static void
send(struct run *r)
{
	if (r->n)
		r->emit(r->arg, r->kind, r->p, r->n);
	r->n = 0;
}

/* p[0..n) follows what the run has, or it starts a new one. */
static void
extend(struct run *r, enum think_kind kind, const char *p, size_t n)
{
	if (r->n && (r->kind != kind || r->p + r->n != p))
		send(r);
	if (!r->n) {
		r->p = p;
		r->kind = kind;
	}
	r->n += n;
}

void
think_init(struct think_split *s, enum think_start start)
{
	static const int states[] = {ST_PLAIN, ST_START, ST_OPENED};

	*s = (struct think_split){.state = states[start]};
}

bool
think_is_reasoning(const struct think_split *s)
{
	return s->state == ST_OPENED || s->state == ST_GAP ||
	    s->state == ST_REASON;
}

/* Text that is no tag moves the machine out of its waiting states. */
static void
text(struct think_split *s, struct run *r, const char *p, size_t n)
{
	if (s->state == ST_START || s->state == ST_ANSWER)
		s->state = ST_PLAIN;
	else if (s->state == ST_OPENED || s->state == ST_GAP)
		s->state = ST_REASON;
	extend(r, s->state == ST_REASON ? THINK_REASONING : THINK_CONTENT,
	    p, n);
}

static bool
may_be(const struct think_split *s, const char *tag)
{
	return strlen(tag) >= s->nheld && !memcmp(s->held, tag, s->nheld);
}

static bool
wants(const struct think_split *s, const char *tag)
{
	if (tag == tag_open)
		return s->state == ST_START || s->state == ST_OPENED;
	return think_is_reasoning(s);
}

static bool
skips(const struct think_split *s, char c)
{
	return s->state != ST_PLAIN && s->state != ST_REASON &&
	    (c == '\n' || c == '\r');
}

/* 1: held is a tag; 0: may become one; -1: neither. */
static int
tag_now(struct think_split *s)
{
	static const char *const tags[] = {tag_open, tag_close};
	int found = -1;

	for (int i = 0; i < 2; i++) {
		if (!wants(s, tags[i]) || !may_be(s, tags[i]))
			continue;
		if (s->nheld < strlen(tags[i])) {
			found = 0;
			continue;
		}
		s->state = i ? ST_ANSWER : ST_GAP;
		s->nheld = 0;
		return 1;
	}
	return found;
}

/* Held bytes turned out to be text; the last one, which broke the tag, is
 * tried again by the caller. */
static void
let_go(struct think_split *s, struct run *r)
{
	char was[sizeof s->held];
	unsigned n = s->nheld;

	memcpy(was, s->held, n);
	s->nheld = 0;
	send(r);
	text(s, r, was, n);
	send(r);			/* was[] ends here */
}

void
think_put(struct think_split *s, const char *p, size_t n, think_emit *emit,
    void *arg)
{
	struct run r = {.emit = emit, .arg = arg};

	for (size_t i = 0; i < n; i++) {
		if (s->nheld == 0 && p[i] != '<') {
			if (!skips(s, p[i]))
				text(s, &r, p + i, 1);
			continue;
		}
		s->held[s->nheld++] = p[i];
		if (tag_now(s) != -1)
			continue;
		if (s->nheld == 1) {
			s->nheld = 0;
			text(s, &r, p + i, 1);
			continue;
		}
		s->nheld--;
		let_go(s, &r);
		i--;
	}
	send(&r);
}

void
think_mark(struct think_split *s, bool open, think_emit *emit, void *arg)
{
	const char *tag = open ? tag_open : tag_close;
	struct run r = {.emit = emit, .arg = arg};

	if (s->nheld)
		let_go(s, &r);
	if (wants(s, tag))
		s->state = open ? ST_GAP : ST_ANSWER;
	else
		text(s, &r, tag, strlen(tag));
	send(&r);
}

void
think_end(struct think_split *s, think_emit *emit, void *arg)
{
	struct run r = {.emit = emit, .arg = arg};

	if (s->nheld)
		let_go(s, &r);
}
