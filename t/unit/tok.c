/*
 * tok: ids against the reference implementation on the demo tokenizer and on
 * variants of it (t/tok), properties of decoding, and files to refuse.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "json/json.h"
#include "tap.h"
#include "tok/tok.h"

enum { BIG = 1 << 20, THREADS = 4 };

static const char *
under_top(struct buf *b, const char *name)
{
	return io_path(b, tap_top(), name);
}

static struct json *
load(const char *name)
{
	struct buf path = {0};
	struct json *v = NULL;
	struct err e = {0};

	if (json_load(&v, under_top(&path, name), TOK_FILE_MAX, &e) == -1)
		tap_ok(0, "%s", e.msg);
	buf_free(&path);
	return v;
}

static struct tok *
open_demo(void)
{
	struct buf path = {0};
	struct tok *t = NULL;
	struct err e = {0};

	if (tok_open(&t, under_top(&path, "share/demo/model"), &e) == -1) {
		tap_ok(0, "%s", e.msg);
		exit(tap_done());
	}
	buf_free(&path);
	return t;
}

/* ---- against the reference ---- */

static bool
same_ids(const struct ids *got, const struct json *want)
{
	size_t i = 0;

	for (want = json_first(want); want; want = json_next(want), i++)
		if (i >= got->n || got->p[i] != (int32_t)json_num(want))
			return false;
	return i == got->n;
}

static bool
encodes(const struct tok *t, const char *text, unsigned flags,
    const struct json *want)
{
	struct ids ids = {0};
	struct err e = {0};
	bool ok = tok_encode(t, text, strlen(text), flags, &ids, &e) == 0 &&
	    same_ids(&ids, want);

	if (!ok)
		printf("# \"%s\" %s\n", text, e.msg);
	ids_free(&ids);
	return ok;
}

/* The demo's tokenizer.json with a variant's parts. */
static void
compose(struct buf *b, const struct json *base, const struct json *variant)
{
	const struct json *m, *a;
	bool first = true;

	buf_puts(b, "{\"decoder\":{\"type\":\"ByteLevel\"},\"pre_tokenizer\":");
	json_put(b, json_get(variant, "pre_tokenizer"));
	buf_printf(b, ",\"model\":{\"ignore_merges\":%s",
	    json_bool(json_get(variant, "ignore_merges")) ? "true" : "false");
	for (m = json_first(json_get(base, "model")); m; m = json_next(m)) {
		if (!strcmp(json_key(m), "ignore_merges"))
			continue;
		buf_printf(b, ",\"%s\":", json_key(m));
		json_put(b, m);
	}
	buf_puts(b, "},\"added_tokens\":[");
	for (int k = 0; k < 2; k++) {
		a = json_get(k ? variant : base, k ? "added" : "added_tokens");
		for (a = json_first(a); a; a = json_next(a)) {
			buf_puts(b, first ? "" : ",");
			json_put(b, a);
			first = false;
		}
	}
	buf_puts(b, "]}");
}

static void
test_variant(const struct json *base, const struct json *texts,
    const struct json *v)
{
	const char *name = json_str(json_get(v, "name"));
	const struct json *c = json_first(json_get(v, "cases"));
	struct buf file = {0};
	struct tok *t = NULL;
	struct err e = {0};
	bool ok = true;

	compose(&file, base, v);
	if (tok_parse(&t, name, file.p, file.n, &e) == -1) {
		tap_ok(0, "%s", e.msg);
		buf_free(&file);
		return;
	}
	for (texts = json_first(texts); texts; texts = json_next(texts)) {
		const struct json *plain = json_get(c, "plain");
		const struct json *ids = json_get(c, "ids");

		ok &= encodes(t, json_str(texts), TOK_SPECIAL, ids);
		ok &= encodes(t, json_str(texts), 0, plain ? plain : ids);
		c = json_next(c);
	}
	tap_ok(ok, "same ids as the reference: %s", name);
	tok_close(&t);
	buf_free(&file);
}

static void
test_reference(void)
{
	struct json *base = load("share/demo/model/tokenizer.json");
	struct json *all = load("t/tok/variants.json");
	const struct json *v = json_first(json_get(all, "variants"));

	for (; base && v; v = json_next(v))
		test_variant(base, json_get(all, "texts"), v);
	json_free(&base);
	json_free(&all);
}

/* ---- decoding ---- */

static void
stream(const struct tok *t, const struct ids *ids, unsigned flags,
    struct buf *out, bool *whole)
{
	struct tok_stream s;
	size_t done = 0;

	tok_stream_init(&s, t, flags);
	for (size_t i = 0; i <= ids->n; i++) {
		if (i < ids->n)
			tok_stream_put(&s, ids->p[i], out);
		else
			tok_stream_end(&s, out);
		while (done < out->n) {
			int len = utf8_len(out->p + done, out->n - done);

			*whole &= len > 0;
			done += len > 0 ? (size_t)len : 1;
		}
	}
}

static void
test_decode(const struct tok *t)
{
	struct json *all = load("t/tok/decode.json");
	const struct json *c, *v;
	bool same = true, streamed = true, whole = true;
	struct buf out = {0}, part = {0};
	struct ids ids = {0};
	int n = 0;

	for (c = json_first(all); c; c = json_next(c), n++) {
		ids.n = 0;
		for (v = json_first(json_get(c, "ids")); v; v = json_next(v))
			ids_put(&ids, (int32_t)json_num(v), NULL);
		for (unsigned skip = 0; skip < 2; skip++) {
			buf_clear(&out);
			buf_clear(&part);
			buf_puts(&out, "");
			buf_puts(&part, "");
			tok_decode(t, ids.p, ids.n, skip, &out, NULL);
			same &= !strcmp(out.p, json_str(json_get(c,
			    skip ? "skipped" : "text")));
			stream(t, &ids, skip, &part, &whole);
			streamed &= !strcmp(out.p, part.p);
		}
	}
	tap_ok(n > 20 && same, "%d lists decode as in the reference", n);
	tap_ok(streamed, "a stream adds up to the whole");
	tap_ok(whole, "a stream never splits a character");
	buf_free(&out);
	buf_free(&part);
	ids_free(&ids);
	json_free(&all);
}

static void
put_char(struct buf *b, uint32_t c)
{
	if (c < 0x80) {
		buf_putc(b, (char)c);
		return;
	}
	if (c < 0x800) {
		buf_putc(b, (char)(0xc0 | c >> 6));
	} else {
		if (c < 0x10000) {
			buf_putc(b, (char)(0xe0 | c >> 12));
		} else {
			buf_putc(b, (char)(0xf0 | c >> 18));
			buf_putc(b, (char)(0x80 | (c >> 12 & 63)));
		}
		buf_putc(b, (char)(0x80 | (c >> 6 & 63)));
	}
	buf_putc(b, (char)(0x80 | (c & 63)));
}

static void
test_round_trip(const struct tok *t)
{
	struct ids ids = {0};
	struct buf out = {0}, text = {0};
	bool ok = true;

	for (uint32_t block = 0; block < 0x110; block += 3) {
		buf_clear(&text);
		for (uint32_t c = block << 12; c < (block + 1) << 12; c++)
			if (c < 0xd800 || c >= 0xe000)
				put_char(&text, c);
		if (text.n == 0)
			continue;	/* surrogates only */
		ids.n = 0;
		buf_clear(&out);
		ok &= tok_encode(t, text.p, text.n, 0, &ids, NULL) == 0 &&
		    tok_decode(t, ids.p, ids.n, 0, &out, NULL) == 0 &&
		    out.n == text.n && !memcmp(out.p, text.p, out.n);
	}
	tap_ok(ok, "every kind of character comes back");
	buf_free(&text);
	buf_free(&out);
	ids_free(&ids);
}

/* ---- the rest of the interface ---- */

static void
test_lookup(const struct tok *t)
{
	const char *p = NULL;
	size_t n = 0;

	tap_ok(tok_vocab(t) == 512, "vocabulary of 512");
	tap_ok(tok_id(t, "<think>") == 5 && tok_id(t, "nosuch") == -1,
	    "tok_id");
	tap_ok(tok_is_special(t, 5) && !tok_is_special(t, 46) &&
	    !tok_is_special(t, -1) && !tok_is_special(t, 512),
	    "tok_is_special");
	tap_ok(tok_bytes(t, 227, &p, &n) == 0 && n == 1 && *p == ' ',
	    "tok_bytes gives bytes, not the alphabet's characters");
	tap_ok(tok_bytes(t, 512, &p, &n) == -1 &&
	    tok_bytes(t, -1, &p, &n) == -1, "no bytes for no token");
	tap_ok(tok_bos(t) == 0 && tok_eos(t) == 1, "bos and eos");
}

static void
test_flags(const struct tok *t)
{
	struct ids ids = {0};
	struct err e = {0};

	ids_put(&ids, 77, &e);
	tap_ok(tok_encode(t, "Hi", 2, TOK_BOS, &ids, &e) == 0 && ids.n == 4 &&
	    ids.p[0] == 77 && ids.p[1] == 0, "TOK_BOS, and ids are appended");
	tap_ok(tok_encode(t, "Hi\xc3", 3, 0, &ids, &e) == -1 &&
	    e.code == ERR_CALLER && strstr(e.msg, "byte 2"),
	    "a broken character is named: %s", e.msg);
	tap_ok(ids.n == 4, "and leaves the ids alone");
	tap_ok(tok_encode(t, "a\0b", 3, 0, &ids, &e) == 0 && ids.n == 7,
	    "NUL is a character");
	ids_free(&ids);
}

/* Quadratic code would take hours here. */
static void
test_long_piece(const struct tok *t)
{
	static const char *const units[] = {"a", "中", " ", "<｜", "the"};

	for (size_t k = 0; k < sizeof units / sizeof *units; k++) {
		struct buf text = {0}, out = {0};
		struct ids ids = {0};
		struct err e = {0};

		while (text.n < BIG)
			buf_puts(&text, units[k]);
		tap_ok(tok_encode(t, text.p, text.n, TOK_SPECIAL, &ids, &e)
		    == 0 && tok_decode(t, ids.p, ids.n, 0, &out, &e) == 0 &&
		    out.n == text.n && !memcmp(out.p, text.p, out.n),
		    "a megabyte of \"%s\" there and back", units[k]);
		buf_free(&text);
		buf_free(&out);
		ids_free(&ids);
	}
}

struct thread {
	pthread_t id;
	const struct tok *t;
	bool ok;
};

static void *
encode_often(void *arg)
{
	struct thread *th = arg;
	char text[64];

	th->ok = true;
	for (int i = 0; i < 2000; i++) {
		struct ids ids = {0};
		struct buf out = {0};
		int n = snprintf(text, sizeof text, "word%d the <think> %d",
		    i % 97, i);

		th->ok &= tok_encode(th->t, text, (size_t)n, TOK_SPECIAL,
		    &ids, NULL) == 0 &&
		    tok_decode(th->t, ids.p, ids.n, 0, &out, NULL) == 0 &&
		    !strcmp(out.p, text);
		ids_free(&ids);
		buf_free(&out);
	}
	return NULL;
}

static void
test_threads(const struct tok *t)
{
	struct thread th[THREADS];
	bool ok = true;

	for (int i = 0; i < THREADS; i++) {
		th[i] = (struct thread){.t = t};
		pthread_create(&th[i].id, NULL, encode_often, &th[i]);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(th[i].id, NULL);
		ok &= th[i].ok;
	}
	tap_ok(ok, "%d threads share a tokenizer", THREADS);
}

/* ---- what must be refused ---- */

/* A whole byte-level file in which parts can be replaced. */
static void
tiny(struct buf *b, const char *vocab, const char *merges, const char *rest)
{
	buf_puts(b, "{\"model\":{\"type\":\"BPE\",\"vocab\":{");
	for (int i = 0, high = 256; i < 256; i++) {
		bool prints = (i >= 33 && i <= 126) || (i >= 161 && i != 173);
		int c = prints ? i : high++;

		buf_puts(b, i ? ",\"" : "\"");
		if (c == '"' || c == '\\')
			buf_putc(b, '\\');
		put_char(b, (uint32_t)c);
		buf_printf(b, "\":%d", i);
	}
	buf_printf(b, "%s},\"merges\":[%s]},%s}", vocab, merges, rest);
}

#define REST "\"pre_tokenizer\":{\"type\":\"ByteLevel\"}," \
    "\"decoder\":{\"type\":\"ByteLevel\"}"
#define SPLIT(rx) "\"pre_tokenizer\":{\"type\":\"Sequence\"," \
    "\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" rx \
    "\"},\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\"}]}," \
    "\"decoder\":{\"type\":\"ByteLevel\"}"
#define ADDED(x) REST ",\"added_tokens\":[" x "]"

static const struct {
	const char *vocab, *merges, *rest, *want;
} refused[] = {
	{"", "\"a b\"", REST, "t.json: model.merges[0]: \"ab\", what"},
	{"", "\"a  b\"", REST, "model.merges[0]: must be two tokens"},
	{"", "\"zz b\"", REST, "model.merges[0]: \"zz\" is not in"},
	{"", "[\"a\"]", REST, "model.merges[0]: must be"},
	{"", "7", REST, "model.merges[0]: must be"},
	{",\"xy\":7", "", REST, "id 7 belongs to"},
	{",\"a\":300", "", REST, "\"a\" stands twice"},
	{",\"xy\":1e9", "", REST, "the id of \"xy\""},
	{",\"xy\":-1", "", REST, "the id of \"xy\""},
	{",\"xy\":1.5", "", REST, "the id of \"xy\""},
	{",\"xy\":\"q\"", "", REST, "the id of \"xy\""},
	{"", "", "\"pre_tokenizer\":null", "no ByteLevel"},
	{"", "", "\"pre_tokenizer\":{\"type\":\"Metaspace\"}", "Metaspace"},
	{"", "", "\"pre_tokenizer\":{\"type\":\"ByteLevel\"}",
	    "decoder must be ByteLevel, not null"},
	{"", "", REST ",\"normalizer\":{\"type\":\"NFC\"}",
	    "normalizer must be null or an empty Sequence, not NFC"},
	{"", "", REST ",\"post_processor\":{\"type\":\"BertProcessing\"}",
	    "post_processor: type must be"},
	{"", "", SPLIT("("), "pretokenizers[0]: pattern: cannot compile"},
	{"", "", SPLIT("[a&&b]"), "&& inside [ ]"},
	{"", "", SPLIT("[a[b]]"), "[ inside [ ]"},
	{"", "", SPLIT("a{1,2}+"), "{n,m}+"},
	{"", "", SPLIT("[\\\\W]"), "inside [ ]"},
	{"", "", ADDED("{\"id\":1,\"content\":\"zz\"}"), "id 1 belongs to"},
	{"", "", ADDED("{\"id\":900,\"content\":\"a\"}"),
	    "added_tokens[0]: id of \"a\" is 900 here and"},
	{"", "", ADDED("{\"id\":900}"), "content is missing"},
	{"", "", ADDED("{\"content\":\"zz\"}"), "id is missing"},
	{"", "", ADDED("{\"id\":9000000,\"content\":\"zz\"}"),
	    "added_tokens[0]: id must be"},
	{"", "", ADDED("{\"id\":900,\"content\":\"\"}"), "content must be"},
	{"", "", ADDED("3"), "added_tokens[0]: must be an object"},
};

static void
test_refused(void)
{
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		struct buf b = {0};
		struct tok *t = NULL;
		struct err e = {0};
		int rc;

		tiny(&b, refused[i].vocab, refused[i].merges,
		    refused[i].rest);
		rc = tok_parse(&t, "t.json", b.p, b.n, &e);
		tap_ok(rc == -1 && e.code == ERR_CALLER &&
		    strstr(e.msg, refused[i].want), "refused: %s",
		    rc == -1 ? e.msg : refused[i].want);
		tok_close(&t);
		buf_free(&b);
	}
}

static void
test_tiny(void)
{
	struct buf b = {0};
	struct tok *t = NULL;
	struct ids ids = {0};
	struct err e = {0};

	/* Of two merges of a pair the later counts, as in the reference;
	 * the post_processor's token comes first. */
	tiny(&b, ",\"ab\":256,\"bc\":257", "\"a b\",[\"b\",\"c\"],\"a b\"",
	    REST ",\"post_processor\":{\"type\":\"TemplateProcessing\","
	    "\"single\":[{\"SpecialToken\":{\"id\":\"!\"}},{\"Sequence\":{}},"
	    "{\"SpecialToken\":{\"id\":\"?\"}}],"
	    "\"special_tokens\":{\"!\":{\"ids\":[33]},\"?\":{\"ids\":[63]}}}");
	if (!tap_ok(tok_parse(&t, "t", b.p, b.n, &e) == 0, "a tiny file: %s",
	    e.msg))
		return;
	tap_ok(tok_encode(t, "abc", 3, TOK_BOS, &ids, &e) == 0 && ids.n == 4 &&
	    ids.p[0] == 33 && ids.p[2] == 'a' && ids.p[3] == 257,
	    "rank decides, and a template's front");
	ids_free(&ids);
	tok_close(&t);
	buf_free(&b);
}

/* A pattern that backtracks for ever is stopped. */
static void
test_runaway(void)
{
	struct buf b = {0}, text = {0};
	struct tok *t = NULL;
	struct ids ids = {0};
	struct err e = {0};

	tiny(&b, "", "", SPLIT("(a|aa)+c"));
	while (text.n < 200)
		buf_puts(&text, "a");
	buf_puts(&text, "bc");
	tap_ok(tok_parse(&t, "t", b.p, b.n, &e) == 0 &&
	    tok_encode(t, text.p, text.n, 0, &ids, &e) == -1 && ids.n == 0,
	    "a runaway pattern ends: %s", e.msg);
	ids_free(&ids);
	tok_close(&t);
	buf_free(&b);
	buf_free(&text);
}

int
main(void)
{
	struct tok *t = open_demo();

	test_lookup(t);
	test_flags(t);
	test_decode(t);
	test_round_trip(t);
	test_long_piece(t);
	test_threads(t);
	tok_close(&t);
	test_reference();
	test_tiny();
	test_refused();
	test_runaway();
	return tap_done();
}
