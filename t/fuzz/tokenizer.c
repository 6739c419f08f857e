/*
 * tokenizer: a tokenizer.json of any bytes, then some text with it.
 *
 * Input: a file, a NUL, text.  A first byte '+' stands for a whole byte-level
 * model, so that the fuzzer needn't invent 256 tokens: what follows are the
 * other members of the file.  What parses must encode or say why not, and
 * decode the same whole and in a stream.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "tok/tok.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
put_model(struct buf *b)
{
	buf_puts(b, "{\"model\":{\"type\":\"BPE\",\"vocab\":{");
	for (int i = 0, high = 256; i < 256; i++) {
		bool prints = (i >= 33 && i <= 126) || (i >= 161 && i != 173);

		buf_printf(b, "%s\"\\u%04x\":%d", i ? "," : "",
		    prints ? i : high++, i);
	}
	buf_puts(b, ",\"aa\":256,\"aaa\":257,\"\xc4\xa0" "a\":258},"
	    "\"merges\":[\"a a\",\"aa a\",\"\xc4\xa0 a\"]},");
}

static void
must(bool ok)
{
	if (!ok)
		abort();
}

static void
check_stream(const struct tok *t, const struct ids *ids, unsigned flags,
    const struct buf *whole)
{
	struct tok_stream s;
	struct buf out = {0};
	size_t done = 0;

	tok_stream_init(&s, t, flags);
	for (size_t i = 0; i <= ids->n; i++) {
		if (i < ids->n)
			tok_stream_put(&s, ids->p[i], &out);
		else
			tok_stream_end(&s, &out);
		while (done < out.n) {
			int len = utf8_len(out.p + done, out.n - done);

			must(len > 0);
			done += (size_t)len;
		}
	}
	must(out.n == whole->n &&
	    (out.n == 0 || !memcmp(out.p, whole->p, out.n)));
	buf_free(&out);
}

static void
use(const struct tok *t, const char *text, size_t n)
{
	struct ids ids = {0};
	struct buf out = {0};
	struct err e = {0};

	for (unsigned flags = 0; flags < 4; flags++) {
		ids.n = 0;
		if (tok_encode(t, text, n, flags, &ids, &e) == -1) {
			must(e.code && e.msg[0] && ids.n == 0);
			continue;
		}
		buf_clear(&out);
		must(tok_decode(t, ids.p, ids.n, flags & 1, &out, &e) == 0);
		check_stream(t, &ids, flags & 1, &out);
	}
	/* Any bytes as ids. */
	ids.n = 0;
	for (size_t i = 0; i < n; i++)
		ids_put(&ids, (uint8_t)text[i] * 2 - 100, NULL);
	buf_clear(&out);
	must(tok_decode(t, ids.p, ids.n, 0, &out, &e) == 0);
	check_stream(t, &ids, 0, &out);
	buf_free(&out);
	ids_free(&ids);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = size ? memchr(data, 0, size) : NULL;
	size_t nfile = text ? (size_t)(text - (const char *)data) : size;
	struct buf file = {0};
	struct tok *t = NULL;
	struct err e = {0};

	if (nfile && *data == '+') {
		put_model(&file);
		buf_put(&file, data + 1, nfile - 1);
	} else {
		buf_put(&file, data, nfile);
	}
	if (tok_parse(&t, "fuzz", file.p, file.n, &e) == 0)
		use(t, text ? text + 1 : "a aaaa", text ? size - nfile - 1 : 6);
	else
		must(e.code && e.msg[0] && !strchr(e.msg, '\n'));
	tok_close(&t);
	buf_free(&file);
	return 0;
}
