/*
 * rx: the tokenizer's patterns, by PCRE2 with its JIT.
 *
 * tokenizer.json patterns are written for Oniguruma's Ruby syntax.  Where the
 * same text means something else to PCRE2 it is rewritten (\s \w \h \v \b
 * \uXXXX, scripts, option m), and where that can't be done it is refused: a
 * pattern that splits differently gives wrong ids without a word.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "tok/tok_priv.h"

enum {
	PATTERN_MAX = 1 << 16,
	JIT_STACK_MIN = 32 << 10,
	JIT_STACK_MAX = 16 << 20,
	HEAP_MAX_KIB = 256 << 10,
	MATCH_LIMIT = 10000000,
};

#define SPACE "\\p{White_Space}"
#define NOT_SPACE "\\P{White_Space}"
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define HEX "0-9a-fA-F"

struct rx {
	pcre2_code *code;
	bool jit;
};

struct rx_scratch {
	pcre2_match_data *data;
	pcre2_match_context *ctx;
	pcre2_jit_stack *stack;
};

/* ---- translation ---- */

struct xlat {
	const char *p, *end;
	bool in_class;
	struct buf out;
	struct err *e;
};

static int
unknown(struct xlat *x, const char *what)
{
	return err_set(x->e, ERR_CALLER, "%s is not supported in a pattern",
	    what);
}

static bool
is_script(const char *name, size_t n)
{
	char pat[64];
	int code;
	size_t at;
	pcre2_code *c;

	if (n < 3 || n > 40)
		return false;
	snprintf(pat, sizeof pat, "\\p{sc:%.*s}", (int)n, name);
	c = pcre2_compile((PCRE2_SPTR)pat, PCRE2_ZERO_TERMINATED, PCRE2_UTF,
	    &code, &at, NULL);
	pcre2_code_free(c);
	return c != NULL;
}

/* p stands behind \p or \P: {Name}.  A bare script name means Script to
 * Oniguruma, Script_Extensions to PCRE2. */
static void
property(struct xlat *x, char letter)
{
	const char *close, *name = x->p + 1;
	bool not = false;

	buf_printf(&x->out, "\\%c", letter);
	if (x->p == x->end || *x->p != '{' ||
	    !(close = memchr(x->p, '}', (size_t)(x->end - x->p))))
		return;
	if (*name == '^') {
		not = true;
		name++;
	}
	if (is_script(name, (size_t)(close - name)))
		buf_printf(&x->out, "{%ssc:%.*s}", not ? "^" : "",
		    (int)(close - name), name);
	else
		buf_put(&x->out, x->p, (size_t)(close + 1 - x->p));
	x->p = close + 1;
}

static int
code_point(struct xlat *x)
{
	if (x->end - x->p < 4 || strspn(x->p, "0123456789abcdefABCDEF") < 4)
		return unknown(x, "\\u without four hexadecimal digits");
	buf_printf(&x->out, "\\x{%.4s}", x->p);
	x->p += 4;
	return 0;
}

/* p stands behind \x: {HEX} isn't a count. */
static void
braced(struct xlat *x)
{
	const char *close = memchr(x->p, '}', (size_t)(x->end - x->p));

	buf_puts(&x->out, "\\x");
	if (x->p == x->end || *x->p != '{' || !close)
		return;
	buf_put(&x->out, x->p, (size_t)(close + 1 - x->p));
	x->p = close + 1;
}

/* A set of characters that is spelled differently inside [ ]. */
static int
set(struct xlat *x, const char *members, bool not)
{
	if (!x->in_class)
		buf_printf(&x->out, "[%s%s]", not ? "^" : "", members);
	else if (not)
		return unknown(x, "\\W or \\H inside [ ]");
	else
		buf_puts(&x->out, members);
	return 0;
}

static int
escape(struct xlat *x)
{
	char c;

	if (x->p == x->end)
		return unknown(x, "a \\ at the end");
	c = *x->p++;
	switch (c) {
	case 's':
		buf_puts(&x->out, SPACE);
		return 0;
	case 'S':
		buf_puts(&x->out, NOT_SPACE);
		return 0;
	case 'w': case 'W':
		return set(x, WORD, c == 'W');
	case 'h': case 'H':
		return set(x, HEX, c == 'H');
	case 'v':
		buf_puts(&x->out, "\\x0b");
		return 0;
	case 'p': case 'P':
		property(x, c);
		return 0;
	case 'u':
		return code_point(x);
	case 'x':
		braced(x);
		return 0;
	case 'Q': case 'E': case 'C': case 'N': case 'O': case 'y': case 'Y':
		return unknown(x, (char[]){'\\', c, '\0'});
	case 'b': case 'B':
		if (x->in_class)
			break;
		buf_puts(&x->out, c == 'b' ?
		    "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=["
		    WORD "]))" :
		    "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?!["
		    WORD "]))");
		return 0;
	}
	buf_putc(&x->out, '\\');
	buf_putc(&x->out, c);
	return 0;
}

static int
class_char(struct xlat *x, char c)
{
	const char *q;

	if (c == '&' && x->p < x->end && *x->p == '&')
		return unknown(x, "&& inside [ ]");
	if (c == ']')
		x->in_class = false;
	buf_putc(&x->out, c);
	if (c != '[')
		return 0;
	if (x->p == x->end || *x->p != ':')
		return unknown(x, "[ inside [ ]");
	for (q = x->p; q + 1 < x->end; q++)
		if (q[0] == ':' && q[1] == ']' && q != x->p)
			break;
	if (q + 1 >= x->end)
		return unknown(x, "[: without :]");
	buf_put(&x->out, x->p, (size_t)(q + 2 - x->p));
	x->p = q + 2;
	return 0;
}

/* p stands behind "(": in (?m) Ruby's m is what PCRE2 calls s. */
static void
options(struct xlat *x)
{
	size_t n;

	if (x->end - x->p < 2 || *x->p != '?')
		return;
	n = strspn(x->p + 1, "imx-");
	if (!n || !strchr(":)", x->p[1 + n]))
		return;
	buf_putc(&x->out, '?');
	for (size_t i = 1; i <= n; i++)
		buf_putc(&x->out, x->p[i] == 'm' ? 's' : x->p[i]);
	x->p += 1 + n;
}

static int
plain_char(struct xlat *x, char c)
{
	buf_putc(&x->out, c);
	switch (c) {
	case '(':
		options(x);
		break;
	case '}':
		if (x->p < x->end && *x->p == '+')
			return unknown(x, "{n,m}+");
		break;
	case '[':
		x->in_class = true;
		if (x->p < x->end && *x->p == '^')
			buf_putc(&x->out, *x->p++);
		if (x->p < x->end && *x->p == ']')
			buf_putc(&x->out, *x->p++);
		break;
	}
	return 0;
}

static int
translate(struct xlat *x)
{
	while (x->p < x->end) {
		char c = *x->p++;
		int r;

		if (c == '\\')
			r = escape(x);
		else if (x->in_class)
			r = class_char(x, c);
		else
			r = plain_char(x, c);
		if (r == -1)
			return -1;
	}
	return buf_ok(&x->out, x->e);
}

/* ---- matching ---- */

static pcre2_code *
compile(const char *p, size_t n, uint32_t flags, struct err *e)
{
	PCRE2_UCHAR why[160];
	PCRE2_SIZE at;
	int code;
	pcre2_code *c = pcre2_compile((PCRE2_SPTR)p, n, flags, &code, &at,
	    NULL);

	if (!c) {
		pcre2_get_error_message(code, why, sizeof why);
		err_set(e, ERR_CALLER, "cannot compile: %s", (char *)why);
	}
	return c;
}

int
rx_compile(struct rx **out, const char *pattern, bool literal, struct err *e)
{
	size_t n = strlen(pattern);
	struct xlat x = {.p = pattern, .end = pattern + n, .e = e};
	uint32_t flags = PCRE2_UTF | PCRE2_NO_UTF_CHECK;
	struct rx *r;

	if (n > PATTERN_MAX)
		return err_set(e, ERR_CALLER, "longer than %d bytes",
		    PATTERN_MAX);
	if (!(r = mem_new(1, sizeof *r, e)))
		return -1;
	if (literal)
		r->code = compile(pattern, n, flags | PCRE2_LITERAL, e);
	else if (translate(&x) == 0)
		r->code = compile(x.out.p ? x.out.p : "", x.out.n,
		    flags | PCRE2_UCP | PCRE2_MULTILINE, e);
	buf_free(&x.out);
	if (!r->code) {
		free(r);
		return -1;
	}
	r->jit = pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE) == 0;
	*out = r;
	return 0;
}

void
rx_free(struct rx **r)
{
	if (*r)
		pcre2_code_free((*r)->code);
	free(*r);
	*r = NULL;
}

int
rx_scratch_new(struct rx_scratch **out, struct err *e)
{
	struct rx_scratch *s = mem_new(1, sizeof *s, e);

	if (!s)
		return -1;
	s->data = pcre2_match_data_create(1, NULL);
	s->ctx = pcre2_match_context_create(NULL);
	s->stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, NULL);
	if (!s->data || !s->ctx) {
		rx_scratch_free(&s);
		return err_set(e, ERR_SYSTEM, "out of memory");
	}
	pcre2_set_match_limit(s->ctx, MATCH_LIMIT);
	pcre2_set_heap_limit(s->ctx, HEAP_MAX_KIB);
	if (s->stack)
		pcre2_jit_stack_assign(s->ctx, NULL, s->stack);
	*out = s;
	return 0;
}

void
rx_scratch_free(struct rx_scratch **s)
{
	if (*s) {
		pcre2_jit_stack_free((*s)->stack);
		pcre2_match_context_free((*s)->ctx);
		pcre2_match_data_free((*s)->data);
	}
	free(*s);
	*s = NULL;
}

int
rx_find(const struct rx *r, struct rx_scratch *s, const char *p, size_t n,
    size_t from, size_t *start, size_t *end, struct err *e)
{
	PCRE2_UCHAR why[160];
	const PCRE2_SIZE *v;
	int rc;

	if (r->jit)
		rc = pcre2_jit_match(r->code, (PCRE2_SPTR)p, n, from, 0,
		    s->data, s->ctx);
	else
		rc = pcre2_match(r->code, (PCRE2_SPTR)p, n, from,
		    PCRE2_NO_UTF_CHECK, s->data, s->ctx);
	if (rc == PCRE2_ERROR_NOMATCH)
		return 0;
	if (rc < 0) {
		pcre2_get_error_message(rc, why, sizeof why);
		return err_set(e, ERR_CALLER,
		    "a pattern of the tokenizer failed on this text: %s",
		    (char *)why);
	}
	v = pcre2_get_ovector_pointer(s->data);
	if (v[0] < from || v[1] < v[0] || v[1] > n)
		return err_set(e, ERR_CALLER,
		    "a pattern of the tokenizer matched outside its text");
	*start = v[0];
	*end = v[1];
	return 1;
}
