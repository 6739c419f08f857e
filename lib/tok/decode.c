/*
 * decode: ids to text.
 *
 * There is one decoder, the streaming one: tok_decode feeds it a whole list,
 * so both give the same text by construction.  Tokens can end inside a
 * character; its first bytes are held back until the rest comes, or until
 * what comes shows that it never will (U+FFFD).
 */
#include <string.h>

#include "tok/tok_priv.h"

static const char broken[] = "\xef\xbf\xbd";

void
tok_stream_init(struct tok_stream *s, const struct tok *t, unsigned flags)
{
	*s = (struct tok_stream){.t = t, .flags = flags};
}

/* One byte more: held is always a proper prefix of a character. */
static void
put_byte(struct tok_stream *s, char c, struct buf *out)
{
	int len;

	s->held[s->nheld++] = c;
	len = utf8_len(s->held, s->nheld);
	if (len == 0)
		return;
	if (len > 0) {
		buf_put(out, s->held, s->nheld);
		s->nheld = 0;
		return;
	}
	/* The bytes before c are a broken piece; c may begin a new one. */
	buf_puts(out, broken);
	if (s->nheld == 1) {
		s->nheld = 0;
		return;
	}
	s->nheld = 0;
	put_byte(s, c, out);
}

void
tok_stream_put(struct tok_stream *s, int32_t id, struct buf *out)
{
	const char *p;
	size_t n;

	if (tok_bytes(s->t, id, &p, &n) == -1)
		return;
	if ((s->flags & TOK_SKIP_SPECIAL) && tok_is_special(s->t, id))
		return;
	for (size_t i = 0; i < n; i++)
		if (s->nheld == 0 && (uint8_t)p[i] < 0x80)
			buf_putc(out, p[i]);
		else
			put_byte(s, p[i], out);
}

void
tok_stream_end(struct tok_stream *s, struct buf *out)
{
	if (s->nheld)
		buf_puts(out, broken);
	s->nheld = 0;
}

int
tok_decode(const struct tok *t, const int32_t *ids, size_t n, unsigned flags,
    struct buf *out, struct err *e)
{
	struct tok_stream s;

	tok_stream_init(&s, t, flags);
	for (size_t i = 0; i < n; i++)
		tok_stream_put(&s, ids[i], out);
	tok_stream_end(&s, out);
	return buf_ok(out, e);
}
