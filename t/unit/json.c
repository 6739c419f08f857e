/*
 * json: what is refused and where, what is kept, what is written.
 */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "json/json.h"
#include "tap.h"

static struct err e;

static struct json *
parse_n(const char *text, size_t n)
{
	struct json *v;

	e = (struct err){0};
	if (json_parse(&v, text, n, &e) == -1 && v)
		e.code = -1;
	return v;
}

static struct json *
parse(const char *text)
{
	return parse_n(text, strlen(text));
}

static void
refused_n(const char *text, size_t n, const char *want)
{
	struct json *v = parse_n(text, n);

	tap_ok(!v && e.code == ERR_CALLER && strstr(e.msg, want),
	    "refused: %s", e.msg);
	json_free(&v);
}

static void
refused(const char *text, const char *want)
{
	refused_n(text, strlen(text), want);
}

static void
test_grammar(void)
{
	refused("", "byte 0: the text ends, expected a value");
	refused("  \n", "byte 3: the text ends");
	refused("{} x", "byte 3: expected nothing after the value");
	refused("1 2", "byte 2");
	refused("[1,]", "byte 3: expected a value, found ']'");
	refused("[1 2]", "byte 3: expected ',' or ']'");
	refused("{\"a\":1,}", "byte 7: expected a string");
	refused("{\"a\" 1}", "byte 5: expected ':'");
	refused("{a:1}", "byte 1: expected a string");
	refused("{'a':1}", "byte 1");
	refused("[", "byte 1: the text ends");
	refused("nul", "byte 0: expected a value");
	refused("True", "byte 0: expected a value, found 'T'");
	refused("trueX", "byte 4");
	refused("\xef\xbb\xbf{}", "byte 0: expected a value, found byte 0xef");
	refused("/* c */ 1", "byte 0");
	refused("NaN", "byte 0");
	refused_n("1\0", 2, "byte 1: expected nothing after the value");
	refused_n("[1]\0[2]", 7, "byte 3");
	refused_n("\f1", 2, "byte 0");
}

static void
test_numbers(void)
{
	char digits[80];
	struct json *v;

	refused("01", "byte 1");
	refused("-", "byte 1");
	refused("+1", "byte 0");
	refused(".5", "byte 0");
	refused("1.", "byte 2: the text ends, expected a digit");
	refused("1e", "byte 2");
	refused("1e+", "byte 3");
	refused("0x10", "byte 1");
	refused("[1e999]", "byte 1: number 1e999 is too large");
	memset(digits, '1', sizeof(digits));
	refused_n(digits, 64, "byte 0: a number of 64 characters");
	v = parse_n(digits, 63);
	tap_ok(v && json_num(v) == 1.1111111111111111e62, "63 digits");
	json_free(&v);
	v = parse("-0.5e-3");
	tap_ok(v && json_num(v) == -0.5e-3, "-0.5e-3");
	json_free(&v);
}

static void
test_strings(void)
{
	struct json *v;

	refused("\"a", "the end of a string");
	refused("\"a\nb\"", "byte 2: expected no control character");
	refused_n("\"a\0b\"", 5, "byte 2");
	refused("\"\\x\"", "byte 2: expected one of");
	refused_n("\"\\\0\"", 4, "byte 2: expected one of");
	refused("\"\\u12g4\"", "byte 5: expected four hex digits");
	refused("\"ab\\u0000\"", "byte 3: \\u0000");
	refused("\"\\ud800\"", "byte 1: half of a surrogate pair");
	refused("\"\\udc00\"", "byte 1: half of a surrogate pair");
	refused("\"\\ud800\\ud800\"", "byte 1: half");
	refused("\"\\ud83dx\"", "byte 1: half");
	refused("\"a\xc0\x80\"", "byte 2: not valid UTF-8");
	refused("\"\xed\xa0\x80\"", "byte 1: not valid UTF-8");
	refused("\"\xe2\x82\"", "byte 1: not valid UTF-8");
	refused("{\"\xff\":1}", "byte 2: not valid UTF-8");
	v = parse("\"\\ud83d\\ude00\\u00e9\\/\\\"\\n\xe2\x82\xac\"");
	tap_ok(v && strcmp(json_str(v),
	    "\xf0\x9f\x98\x80\xc3\xa9/\"\n\xe2\x82\xac") == 0, "escapes");
	json_free(&v);
}

static void
test_depth(void)
{
	char text[400];

	for (size_t n = JSON_MAX_DEPTH; n <= JSON_MAX_DEPTH + 1; n++) {
		struct json *v;

		memset(text, '[', n);
		memset(text + n, ']', n);
		v = parse_n(text, 2 * n);
		tap_ok((n == JSON_MAX_DEPTH) == (v != NULL), "depth %zu %s", n,
		    e.msg);
		json_free(&v);
	}
	/* closed brackets don't count */
	for (size_t i = 0; i < 390; i++)
		text[i] = i % 3 == 0 ? '[' : i % 3 == 1 ? ']' : ',';
	memmove(text + 1, text, 389);
	text[0] = '[';
	text[390] = ']';
	json_free(&(struct json *){ parse_n(text, 391) });
	tap_ok(e.code == 0, "many in a row are not deep %s", e.msg);
}

static void
test_tree(void)
{
	struct json *v = parse("{\"a\":[1,\"x\",null,true,{}],\"b\":2,"
	    "\"c\":9007199254740993,\"d\":1.5,\"\":0}");
	const struct json *a = json_get(v, "a"), *c;
	static const enum json_type want[] = {
		JSON_NUM, JSON_STR, JSON_NULL, JSON_BOOL, JSON_OBJ,
	};
	size_t i = 0;
	bool ok = true;

	for (c = json_first(a); c; c = json_next(c))
		ok &= json_type(c) == want[i++];
	tap_ok(ok && i == 5 && json_len(a) == 5 && json_len(v) == 5,
	    "types and lengths");
	tap_ok(!json_get(v, "A") && !json_get(a, "a") && !json_get(NULL, "a")
	    && json_get(v, ""), "json_get");
	tap_ok(json_is_int(json_get(v, "b")) && !json_is_int(a) &&
	    !json_is_int(json_get(v, "d")), "json_is_int");
	tap_ok(strcmp(json_key(json_first(v)), "a") == 0, "json_key");
	tap_ok(strcmp(json_type_name(JSON_ARR), "an array") == 0, "names");
	tap_ok(!json_str(a) && json_len(json_get(v, "b")) == 0 &&
	    !json_first(json_get(v, "b")), "wrong types are no crash");
	tap_ok(!json_dup(v, &e) && !json_dup(a, &e) && !json_dup(NULL, &e),
	    "no duplicates");
	json_free(&v);
	tap_ok(v == NULL, "json_free clears");
	v = parse("{\"x\":1,\"y\":2,\"z\":{\"x\":1},\"y\":3}");
	tap_ok(json_dup(v, &e) && strcmp(json_dup(v, &e), "y") == 0,
	    "json_dup");
	json_free(&v);
}

static void
test_opt(void)
{
	struct json *v = parse("{\"t\":true,\"n\":null,\"i\":5,\"f\":1.5,"
	    "\"s\":\"x\",\"big\":1e17,\"neg\":-1,\"one\":1}");
	bool b = false;
	int64_t i = 42;
	double x = 4.5;
	const char *s = "def";

	tap_ok(json_opt_bool(v, "t", &b, &e) == 0 && b &&
	    json_opt_bool(v, "n", &b, &e) == 0 &&
	    json_opt_bool(v, "none", &b, &e) == 0 && b, "json_opt_bool");
	tap_ok(json_opt_bool(v, "one", &b, &e) == -1 && strcmp(e.msg,
	    "one must be true or false, not a number") == 0, "%s", e.msg);
	tap_ok(json_opt_i64(v, "none", 0, 9, &i, &e) == 0 && i == 42 &&
	    json_opt_i64(v, "n", 0, 9, &i, &e) == 0 && i == 42 &&
	    json_opt_i64(v, "i", 5, 5, &i, &e) == 0 && i == 5, "json_opt_i64");
	tap_ok(json_opt_i64(v, "i", 6, 9, &i, &e) == -1 && i == 5 && strcmp(
	    e.msg, "i must be a whole number from 6 to 9, not 5") == 0, "%s",
	    e.msg);
	tap_ok(json_opt_i64(v, "f", 0, 9, &i, &e) == -1 && strcmp(e.msg,
	    "f must be a whole number from 0 to 9, not 1.5") == 0, "%s", e.msg);
	tap_ok(json_opt_i64(v, "big", 0, INT64_MAX, &i, &e) == -1, "%s", e.msg);
	tap_ok(json_opt_i64(v, "neg", 0, 9, &i, &e) == -1, "%s", e.msg);
	tap_ok(json_opt_i64(v, "s", 0, 9, &i, &e) == -1 && strcmp(e.msg,
	    "s must be a whole number, not a string") == 0, "%s", e.msg);
	tap_ok(json_opt_f64(v, "f", 0, 2, &x, &e) == 0 && x == 1.5 &&
	    json_opt_f64(v, "none", 0, 2, &x, &e) == 0 && x == 1.5,
	    "json_opt_f64");
	tap_ok(json_opt_f64(v, "i", 0, 2, &x, &e) == -1 && strcmp(e.msg,
	    "i must be a number from 0 to 2, not 5") == 0, "%s", e.msg);
	tap_ok(json_opt_str(v, "s", &s, &e) == 0 && strcmp(s, "x") == 0 &&
	    json_opt_str(v, "n", &s, &e) == 0 && strcmp(s, "x") == 0,
	    "json_opt_str");
	tap_ok(json_opt_str(v, "i", &s, &e) == -1 && strcmp(e.msg,
	    "i must be a string, not a number") == 0, "%s", e.msg);
	json_free(&v);
}

static void
written(const char *s, size_t n, const char *want)
{
	struct buf b = {0};

	json_put_str(&b, s, n);
	tap_ok(strcmp(b.p, want) == 0, "string written as %s", b.p);
	buf_free(&b);
}

static void
test_put_str(void)
{
	written("", 0, "\"\"");
	written("a\"\\\n\t\x01\x1f\x7f/", 9, "\"a\\\"\\\\\\n\\t\\u0001\\u001f"
	    "\x7f/\"");
	written("a\0b", 3, "\"a\\u0000b\"");
	written("\xe2\x82\xac", 3, "\"\xe2\x82\xac\"");
	written("a\xe2\x82", 3, "\"a\xef\xbf\xbd\"");
	written("\xff\xfe", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\"");
	written("\xf0\x9f\x98" "A", 4, "\"\xef\xbf\xbd" "A\"");
	written("\xed\xa0\x80", 3,
	    "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}

static bool
survives(double x)
{
	struct buf b = {0};
	struct json *v;
	bool same;

	json_put_f64(&b, x);
	v = parse_n(b.p, b.n);
	same = v && json_type(v) == JSON_NUM && json_num(v) == x;
	if (!same)
		printf("# %a became %s\n", x, b.p);
	json_free(&v);
	buf_free(&b);
	return same;
}

static void
test_put_f64(void)
{
	static const double some[] = {
		0, 1, -1, 0.1, 1e-7, 1e22, 123456789012345680.0, 5e-324,
		1.7976931348623157e308, 9007199254740991.0, 1.0 / 3, -2.5e-300,
	};
	struct buf b = {0};
	bool ok = true;
	uint64_t r = 1;

	for (size_t i = 0; i < sizeof(some) / sizeof(*some); i++)
		ok &= survives(some[i]);
	for (int i = 0; i < 20000; i++) {
		double x;

		r = r * 6364136223846793005u + 1442695040888963407u;
		memcpy(&x, &r, sizeof(x));
		if (isfinite(x))
			ok &= survives(x);
	}
	tap_ok(ok, "numbers read back the same");
	json_put_f64(&b, NAN);
	buf_putc(&b, ' ');
	json_put_f64(&b, -INFINITY);
	buf_putc(&b, ' ');
	json_put_f64(&b, 3);
	buf_putc(&b, ' ');
	json_put_f64(&b, 0.1);
	tap_ok(strcmp(b.p, "null null 3 0.1") == 0, "written: %s", b.p);
	buf_free(&b);
}

static void
test_put(void)
{
	static const char text[] = "{\"a\":[1,-2.5,\"x\\n\",null,true,false],"
	    "\"b\":{},\"c\":[]}";
	struct json *v = parse(text);
	struct buf b = {0};

	json_put(&b, v);
	tap_ok(strcmp(b.p, text) == 0, "a tree is written as it was");
	buf_free(&b);
	json_free(&v);
}

static void
test_load(void)
{
	char path[] = "/tmp/dsi-json-XXXXXX";
	struct json *v;

	close(mkstemp(path));
	io_write_file(path, "[1,\n2,]", 7, &e);
	tap_ok(json_load(&v, path, 99, &e) == -1 && !v &&
	    strncmp(e.msg, path, strlen(path)) == 0 &&
	    strstr(e.msg, ": byte 6: "), "json_load: %s", e.msg);
	tap_ok(json_load(&v, path, 6, &e) == -1 && e.code == ERR_CALLER &&
	    strstr(e.msg, path), "json_load: %s", e.msg);
	io_write_file(path, "[1]", 3, &e);
	tap_ok(json_load(&v, path, 3, &e) == 0 && json_len(v) == 1, "loaded");
	json_free(&v);
	unlink(path);
	tap_ok(json_load(&v, path, 3, &e) == -1 && !v, "%s", e.msg);
}

int
main(void)
{
	test_grammar();
	test_numbers();
	test_strings();
	test_depth();
	test_tree();
	test_opt();
	test_put_str();
	test_put_f64();
	test_put();
	test_load();
	return tap_done();
}
