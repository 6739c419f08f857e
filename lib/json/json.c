/*
 * json: a checked layer on cJSON.
 *
 * cJSON takes more than RFC 8259 does: it stops at a NUL, lets raw control
 * characters and bad UTF-8 through, and reads numbers with strtod.  So a scan
 * of our own walks the text first and holds it to the grammar; it also knows
 * the byte at which things went wrong.  cJSON then only builds the tree.
 */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "json/json.h"

enum { NUM_MAX = 63 };			/* cJSON cuts longer numbers */

static const double whole_max = 9007199254740992.0;	/* 2^53 */

static const cJSON *
peek(const struct json *v)
{
	return (const cJSON *)v;
}

/* ---- the scan ---- */

struct scan {
	const char *p;
	size_t n, i;			/* i: the next byte */
	unsigned depth;
	struct err *e;
};

static int scan_value(struct scan *s);

static int
fail(const struct scan *s, const char *want)
{
	unsigned char c;

	if (s->i >= s->n)
		return err_set(s->e, ERR_CALLER,
		    "byte %zu: the text ends, expected %s", s->i, want);
	c = s->p[s->i];
	if (c > 0x20 && c < 0x7f)
		return err_set(s->e, ERR_CALLER,
		    "byte %zu: expected %s, found '%c'", s->i, want, c);
	return err_set(s->e, ERR_CALLER,
	    "byte %zu: expected %s, found byte 0x%02x", s->i, want, c);
}

static void
skip_blanks(struct scan *s)
{
	while (s->i < s->n && (s->p[s->i] == ' ' || s->p[s->i] == '\t' ||
	    s->p[s->i] == '\n' || s->p[s->i] == '\r'))
		s->i++;
}

static bool
next_is(const struct scan *s, char c)
{
	return s->i < s->n && s->p[s->i] == c;
}

static bool
take(struct scan *s, char c)
{
	if (!next_is(s, c))
		return false;
	s->i++;
	return true;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Four hex digits; s->i stands on the first. */
static int
scan_hex4(struct scan *s, unsigned *out)
{
	*out = 0;
	for (int k = 0; k < 4; k++, s->i++) {
		int d = s->i < s->n ? hex_digit(s->p[s->i]) : -1;

		if (d == -1)
			return fail(s, "four hex digits after \\u");
		*out = *out << 4 | (unsigned)d;
	}
	return 0;
}

/* What follows "\u". */
static int
scan_unicode(struct scan *s)
{
	size_t start = s->i - 2;
	unsigned hi, lo;

	if (scan_hex4(s, &hi) == -1)
		return -1;
	if (hi == 0)
		return err_set(s->e, ERR_CALLER,
		    "byte %zu: \\u0000 in a string is not allowed", start);
	if (hi < 0xd800 || hi > 0xdfff)
		return 0;
	lo = 0;
	if (hi < 0xdc00 && take(s, '\\') && take(s, 'u') &&
	    scan_hex4(s, &lo) == -1)
		return -1;
	if (lo < 0xdc00 || lo > 0xdfff)
		return err_set(s->e, ERR_CALLER,
		    "byte %zu: half of a surrogate pair", start);
	return 0;
}

static int
scan_escape(struct scan *s)
{
	if (s->i < s->n && s->p[s->i] && strchr("\"\\/bfnrt", s->p[s->i])) {
		s->i++;
		return 0;
	}
	if (!take(s, 'u'))
		return fail(s, "one of \"\\/bfnrtu after \\");
	return scan_unicode(s);
}

static int
scan_string(struct scan *s)
{
	if (!take(s, '"'))
		return fail(s, "a string");
	while (s->i < s->n && s->p[s->i] != '"') {
		int len;

		if (take(s, '\\')) {
			if (scan_escape(s) == -1)
				return -1;
			continue;
		}
		if ((unsigned char)s->p[s->i] < 0x20)
			return fail(s, "no control character in a string");
		len = utf8_len(s->p + s->i, s->n - s->i);
		if (len <= 0)
			return err_set(s->e, ERR_CALLER,
			    "byte %zu: not valid UTF-8", s->i);
		s->i += (size_t)len;
	}
	return take(s, '"') ? 0 : fail(s, "the end of a string");
}

static size_t
scan_digits(struct scan *s)
{
	size_t start = s->i;

	while (s->i < s->n && s->p[s->i] >= '0' && s->p[s->i] <= '9')
		s->i++;
	return s->i - start;
}

static int
scan_exponent(struct scan *s)
{
	if (!take(s, 'e') && !take(s, 'E'))
		return 0;
	if (!take(s, '+'))
		take(s, '-');
	return scan_digits(s) ? 0 : fail(s, "a digit in the exponent");
}

static int
scan_number(struct scan *s)
{
	size_t start = s->i;
	char text[NUM_MAX + 1];
	double x;

	take(s, '-');
	if (!take(s, '0') && !scan_digits(s))
		return fail(s, "a digit");
	if (take(s, '.') && !scan_digits(s))
		return fail(s, "a digit after the point");
	if (scan_exponent(s) == -1)
		return -1;
	if (s->i - start > NUM_MAX)
		return err_set(s->e, ERR_CALLER,
		    "byte %zu: a number of %zu characters, at most %d are "
		    "allowed", start, s->i - start, NUM_MAX);
	memcpy(text, s->p + start, s->i - start);
	text[s->i - start] = '\0';
	if (num_f64(text, &x) == -1)
		return err_set(s->e, ERR_CALLER,
		    "byte %zu: number %s is too large", start, text);
	return 0;
}

static int
scan_word(struct scan *s, const char *word)
{
	size_t n = strlen(word);

	if (s->n - s->i < n || memcmp(s->p + s->i, word, n) != 0)
		return fail(s, "a value");
	s->i += n;
	return 0;
}

static int
scan_member(struct scan *s)
{
	if (scan_string(s) == -1)
		return -1;
	skip_blanks(s);
	if (!take(s, ':'))
		return fail(s, "':'");
	skip_blanks(s);
	return scan_value(s);
}

/* An array or object, s->i behind its bracket. */
static int
scan_list(struct scan *s, char close, int (*item)(struct scan *))
{
	if (++s->depth > JSON_MAX_DEPTH)
		return err_set(s->e, ERR_CALLER,
		    "byte %zu: nested more than %d deep", s->i - 1,
		    JSON_MAX_DEPTH);
	skip_blanks(s);
	if (take(s, close)) {
		s->depth--;
		return 0;
	}
	for (;;) {
		skip_blanks(s);
		if (item(s) == -1)
			return -1;
		skip_blanks(s);
		if (take(s, ','))
			continue;
		if (!take(s, close))
			return fail(s, close == ']' ? "',' or ']'" :
			    "',' or '}'");
		s->depth--;
		return 0;
	}
}

static int
scan_value(struct scan *s)
{
	if (take(s, '{'))
		return scan_list(s, '}', scan_member);
	if (take(s, '['))
		return scan_list(s, ']', scan_value);
	if (next_is(s, '"'))
		return scan_string(s);
	if (next_is(s, 't'))
		return scan_word(s, "true");
	if (next_is(s, 'f'))
		return scan_word(s, "false");
	if (next_is(s, 'n'))
		return scan_word(s, "null");
	if (next_is(s, '-') || (s->i < s->n && s->p[s->i] >= '0' &&
	    s->p[s->i] <= '9'))
		return scan_number(s);
	return fail(s, "a value");
}

static int
scan_all(const char *text, size_t n, struct err *e)
{
	struct scan s = { .p = text, .n = n, .e = e };

	skip_blanks(&s);
	if (scan_value(&s) == -1)
		return -1;
	skip_blanks(&s);
	return s.i == n ? 0 : fail(&s, "nothing after the value");
}

/* ---- trees ---- */

int
json_parse(struct json **out, const char *text, size_t n, struct err *e)
{
	*out = NULL;
	if (scan_all(text, n, e) == -1)
		return -1;
	*out = (struct json *)cJSON_ParseWithLength(text, n);
	if (!*out)
		return err_set(e, ERR_SYSTEM,
		    "out of memory for %zu bytes of JSON", n);
	return 0;
}

int
json_load(struct json **out, const char *path, size_t max, struct err *e)
{
	struct buf b = {0};
	int rc;

	*out = NULL;
	rc = io_slurp(path, max, &b, e);
	if (rc == 0 && (rc = json_parse(out, b.p, b.n, e)) == -1)
		err_wrap(e, "%s", path);
	buf_free(&b);
	return rc;
}

void
json_free(struct json **root)
{
	cJSON_Delete((cJSON *)*root);
	*root = NULL;
}

enum json_type
json_type(const struct json *v)
{
	switch (peek(v)->type & 0xff) {
	case cJSON_False:
	case cJSON_True:
		return JSON_BOOL;
	case cJSON_Number:
		return JSON_NUM;
	case cJSON_String:
		return JSON_STR;
	case cJSON_Array:
		return JSON_ARR;
	case cJSON_Object:
		return JSON_OBJ;
	default:
		return JSON_NULL;
	}
}

const char *
json_type_name(enum json_type t)
{
	static const char *const names[] = {
		[JSON_NULL] = "null",
		[JSON_BOOL] = "a boolean",
		[JSON_NUM] = "a number",
		[JSON_STR] = "a string",
		[JSON_ARR] = "an array",
		[JSON_OBJ] = "an object",
	};

	return names[t];
}

size_t
json_len(const struct json *v)
{
	size_t n = 0;

	for (const struct json *c = json_first(v); c; c = json_next(c))
		n++;
	return n;
}

const struct json *
json_first(const struct json *v)
{
	return v ? (const struct json *)peek(v)->child : NULL;
}

const struct json *
json_next(const struct json *v)
{
	return (const struct json *)peek(v)->next;
}

const char *
json_key(const struct json *member)
{
	return peek(member)->string;
}

const struct json *
json_get(const struct json *v, const char *key)
{
	if (!v || json_type(v) != JSON_OBJ)
		return NULL;
	for (const struct json *c = json_first(v); c; c = json_next(c)) {
		if (strcmp(json_key(c), key) == 0)
			return c;
	}
	return NULL;
}

static int
by_name(const void *a, const void *b)
{
	const char *const *s = a, *const *t = b;

	return strcmp(*s, *t);
}

const char *
json_dup(const struct json *v, struct err *e)
{
	size_t n = 0, len;
	const char **key, *dup = NULL;

	if (!v || json_type(v) != JSON_OBJ || (len = json_len(v)) < 2)
		return NULL;
	key = mem_new(len, sizeof(*key), e);
	if (!key)
		return NULL;
	for (const struct json *c = json_first(v); c; c = json_next(c))
		key[n++] = json_key(c);
	qsort(key, n, sizeof(*key), by_name);
	for (size_t i = 1; i < n && !dup; i++) {
		if (strcmp(key[i - 1], key[i]) == 0)
			dup = key[i];
	}
	free(key);
	return dup;
}

bool
json_bool(const struct json *v)
{
	return cJSON_IsTrue(peek(v));
}

double
json_num(const struct json *v)
{
	return peek(v)->valuedouble;
}

const char *
json_str(const struct json *v)
{
	return json_type(v) == JSON_STR ? peek(v)->valuestring : NULL;
}

bool
json_is_int(const struct json *v)
{
	double x;

	if (json_type(v) != JSON_NUM)
		return false;
	x = json_num(v);
	return fabs(x) <= whole_max && x == floor(x);
}

/* ---- members with a default ---- */

/* The member, or NULL when it is absent or null. */
static const struct json *
present(const struct json *o, const char *k)
{
	const struct json *v = json_get(o, k);

	return v && json_type(v) != JSON_NULL ? v : NULL;
}

static int
wrong_type(const struct json *v, const char *k, const char *want,
    struct err *e)
{
	return err_set(e, ERR_CALLER, "%s must be %s, not %s", k, want,
	    json_type_name(json_type(v)));
}

int
json_opt_bool(const struct json *o, const char *k, bool *out, struct err *e)
{
	const struct json *v = present(o, k);

	if (!v)
		return 0;
	if (json_type(v) != JSON_BOOL)
		return wrong_type(v, k, "true or false", e);
	*out = json_bool(v);
	return 0;
}

int
json_opt_i64(const struct json *o, const char *k, int64_t min, int64_t max,
    int64_t *out, struct err *e)
{
	const struct json *v = present(o, k);
	int64_t x = 0;
	bool ok;

	if (!v)
		return 0;
	if (json_type(v) != JSON_NUM)
		return wrong_type(v, k, "a whole number", e);
	ok = json_is_int(v);
	if (ok)
		x = (int64_t)json_num(v);
	if (!ok || x < min || x > max)
		return err_set(e, ERR_CALLER,
		    "%s must be a whole number from %lld to %lld, not %.17g",
		    k, (long long)min, (long long)max, json_num(v));
	*out = x;
	return 0;
}

int
json_opt_f64(const struct json *o, const char *k, double min, double max,
    double *out, struct err *e)
{
	const struct json *v = present(o, k);

	if (!v)
		return 0;
	if (json_type(v) != JSON_NUM)
		return wrong_type(v, k, "a number", e);
	if (!(json_num(v) >= min && json_num(v) <= max))
		return err_set(e, ERR_CALLER,
		    "%s must be a number from %g to %g, not %g", k, min, max,
		    json_num(v));
	*out = json_num(v);
	return 0;
}

int
json_opt_str(const struct json *o, const char *k, const char **out,
    struct err *e)
{
	const struct json *v = present(o, k);

	if (!v)
		return 0;
	if (json_type(v) != JSON_STR)
		return wrong_type(v, k, "a string", e);
	*out = json_str(v);
	return 0;
}

/* ---- writing ---- */

/* How many bytes at p one U+FFFD stands for: the longest start of a sequence
 * that was still possible, at least one. */
static size_t
bad_len(const char *p, size_t n)
{
	size_t m = 1;

	if (utf8_len(p, 1) != 0)
		return 1;
	while (m < n && utf8_len(p, m + 1) == 0)
		m++;
	return m;
}

/* A character that can't stand for itself in a string. */
static void
put_escaped(struct buf *b, unsigned char c)
{
	static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
	const char *at = strchr(from, c);

	if (c && at)
		buf_printf(b, "\\%c", to[at - from]);
	else
		buf_printf(b, "\\u%04x", c);
}

void
json_put_str(struct buf *b, const char *s, size_t n)
{
	size_t start = 0, i = 0;	/* start: of what is not yet put */

	buf_putc(b, '"');
	while (i < n) {
		unsigned char c = s[i];
		int len = utf8_len(s + i, n - i);

		if (len > 0 && c >= 0x20 && c != '"' && c != '\\') {
			i += (size_t)len;
			continue;
		}
		buf_put(b, s + start, i - start);
		if (len > 0) {
			put_escaped(b, c);
			i++;
		} else {
			buf_puts(b, "\xef\xbf\xbd");
			i += bad_len(s + i, n - i);
		}
		start = i;
	}
	buf_put(b, s + start, n - start);
	buf_putc(b, '"');
}

void
json_put_f64(struct buf *b, double x)
{
	char text[32];

	if (!isfinite(x)) {
		buf_puts(b, "null");
		return;
	}
	if (fabs(x) < whole_max && x == floor(x)) {
		buf_printf(b, "%.0f", x);
		return;
	}
	for (int digits = 15; digits <= 17; digits++) {
		double back;

		snprintf(text, sizeof(text), "%.*g", digits, x);
		if (num_f64(text, &back) == 0 && back == x)
			break;
	}
	buf_puts(b, text);
}

static void
put_list(struct buf *b, const struct json *v, bool keys)
{
	buf_putc(b, keys ? '{' : '[');
	for (const struct json *c = json_first(v); c; c = json_next(c)) {
		if (keys) {
			json_put_str(b, json_key(c), strlen(json_key(c)));
			buf_putc(b, ':');
		}
		json_put(b, c);
		if (json_next(c))
			buf_putc(b, ',');
	}
	buf_putc(b, keys ? '}' : ']');
}

void
json_put(struct buf *b, const struct json *v)
{
	switch (json_type(v)) {
	case JSON_NULL:
		buf_puts(b, "null");
		break;
	case JSON_BOOL:
		buf_puts(b, json_bool(v) ? "true" : "false");
		break;
	case JSON_NUM:
		json_put_f64(b, json_num(v));
		break;
	case JSON_STR:
		json_put_str(b, json_str(v), strlen(json_str(v)));
		break;
	case JSON_ARR:
		put_list(b, v, false);
		break;
	case JSON_OBJ:
		put_list(b, v, true);
		break;
	}
}
