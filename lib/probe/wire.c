/*
 * wire: requests and replies as lines of JSON.
 *
 * One table a message names its members, for both directions: what is written
 * and what is read cannot drift apart.
 */
#include <string.h>

#include "json/json.h"
#include "probe/wire.h"

enum kind { TEXT, NUMBER, SIZE, FLAG };

struct field {
	const char *key;
	enum kind kind;
	size_t off, size;		/* TEXT: bytes with the NUL */
	uint64_t max;
};

#define F_TEXT(s, m) { #m, TEXT, offsetof(struct s, m), \
	sizeof(((struct s *)0)->m), 0 }
#define F_NUM(s, m, max) { #m, NUMBER, offsetof(struct s, m), 0, max }
#define F_SIZE(s, m) { #m, SIZE, offsetof(struct s, m), 0, 1ull << 53 }
#define F_FLAG(s, m) { #m, FLAG, offsetof(struct s, m), 0, 0 }

static const struct field request_fields[] = {
	F_TEXT(probe_request, model), F_FLAG(probe_request, weights),
	F_TEXT(probe_request, ifname), F_TEXT(probe_request, ifname_from),
	F_TEXT(probe_request, address), F_NUM(probe_request, port, 65535),
	F_NUM(probe_request, ports, PLAN_MAX_RANKS),
	F_TEXT(probe_request, token), F_NUM(probe_request, ms, 60000),
	{0},
};

static const struct field facts_fields[] = {
	F_TEXT(probe_facts, build), F_TEXT(probe_facts, host),
	F_TEXT(probe_facts, boot), F_NUM(probe_facts, cores, 1 << 20),
	F_NUM(probe_facts, nodes, 1 << 20),
	F_NUM(probe_facts, places, 1 << 20), F_SIZE(probe_facts, memory),
	F_SIZE(probe_facts, available), F_TEXT(probe_facts, kernels),
	F_TEXT(probe_facts, interface), F_TEXT(probe_facts, address),
	F_TEXT(probe_facts, from), F_TEXT(probe_facts, wrong),
	{0},
};

static const struct field model_fields[] = {
	F_TEXT(probe_model, kind), F_TEXT(probe_model, digest),
	F_TEXT(probe_model, error),
	{0},
};

static const struct field if_fields[] = {
	F_TEXT(probe_if, name), F_TEXT(probe_if, address),
	{0},
};

static const struct field link_fields[] = {
	F_TEXT(probe_link, interface), F_TEXT(probe_link, address),
	F_SIZE(probe_link, rtt_ns), F_SIZE(probe_link, rate),
	{0},
};

static const char *const names[] = { "facts", "listen", "dial", "measure" };

const char *
wire_name(enum probe_do what)
{
	return names[what];
}

/* ---- writing ---- */

static void
put_text(struct buf *b, const char *s)
{
	json_put_str(b, s, strlen(s));
}

/* Members without braces, a comma before each. */
static void
put_fields(struct buf *b, const struct field *f, const void *from)
{
	for (; f->key; f++) {
		const char *p = (const char *)from + f->off;

		buf_printf(b, ",\"%s\":", f->key);
		if (f->kind == TEXT)
			put_text(b, p);
		else if (f->kind == FLAG)
			buf_puts(b, *(const bool *)p ? "true" : "false");
		else if (f->kind == NUMBER)
			buf_printf(b, "%u", *(const unsigned *)p);
		else
			buf_printf(b, "%llu",
			    (unsigned long long)*(const uint64_t *)p);
	}
}

void
wire_put_request(struct buf *b, const struct probe_request *r)
{
	buf_printf(b, "{\"do\":\"%s\"", names[r->what]);
	put_fields(b, request_fields, r);
	buf_puts(b, ",\"ranks\":[");
	for (unsigned i = 0; i < r->nrank; i++)
		buf_printf(b, "%s%u", i ? "," : "", r->rank[i]);
	buf_puts(b, "]}\n");
}

static void
put_facts(struct buf *b, const struct probe_facts *f)
{
	put_fields(b, facts_fields, f);
	buf_puts(b, ",\"interfaces\":[");
	for (unsigned i = 0; i < f->nifs; i++) {
		buf_printf(b, "%s{\"if\":%u", i ? "," : "", i);
		put_fields(b, if_fields, &f->ifs[i]);
		buf_putc(b, '}');
	}
	buf_puts(b, "],\"model\":{\"of\":0");
	put_fields(b, model_fields, &f->model);
	buf_putc(b, '}');
}

void
wire_put_reply(struct buf *b, const struct probe_reply *r)
{
	buf_printf(b, "{\"dsi_probe\":%d,\"re\":\"%s\"", PROBE_VERSION,
	    names[r->re]);
	if (r->error[0]) {
		buf_puts(b, ",\"error\":");
		put_text(b, r->error);
	} else if (r->re == PROBE_FACTS) {
		put_facts(b, &r->facts);
	} else {
		put_fields(b, link_fields, &r->link);
	}
	buf_puts(b, "}\n");
}

/* ---- reading ---- */

void
wire_plain(char *out, size_t size, const char *text)
{
	size_t i;

	for (i = 0; i < size - 1 && text[i]; i++)
		out[i] = text[i] < ' ' || text[i] > '~' ? '?' : text[i];
	out[i] = '\0';
}

/* A path may hold any UTF-8; what would be cut is refused, as is a control
 * character: messages and addresses have none. */
static int
get_text(char *out, const struct field *f, const struct json *v, bool strict,
    struct err *e)
{
	const char *s = NULL;

	out[0] = '\0';
	if (json_opt_str(v, f->key, &s, e) == -1)
		return -1;
	if (!s)
		return 0;
	if (!strict)
		wire_plain(out, f->size, s);
	else if (strlen(s) >= f->size)
		return err_set(e, ERR_CALLER, "%s has more than %zu bytes",
		    f->key, f->size - 1);
	else
		memcpy(out, s, strlen(s) + 1);
	return 0;
}

static int
get_fields(void *to, const struct field *f, const struct json *v, bool strict,
    struct err *e)
{
	for (; f->key; f++) {
		char *p = (char *)to + f->off;
		bool flag = false;
		int64_t n = 0;

		if (f->kind == TEXT && get_text(p, f, v, strict, e) == -1)
			return -1;
		if (f->kind == FLAG && json_opt_bool(v, f->key, &flag, e) == -1)
			return -1;
		if ((f->kind == NUMBER || f->kind == SIZE) && json_opt_i64(v,
		    f->key, 0, (int64_t)f->max, &n, e) == -1)
			return -1;
		if (f->kind == FLAG)
			*(bool *)p = flag;
		else if (f->kind == NUMBER)
			*(unsigned *)p = (unsigned)n;
		else if (f->kind == SIZE)
			*(uint64_t *)p = (uint64_t)n;
	}
	return 0;
}

static int
get_name(enum probe_do *out, const struct json *v, const char *key,
    struct err *e)
{
	const char *s = NULL;

	if (json_type(v) != JSON_OBJ)
		return err_set(e, ERR_CALLER, "is no object");
	if (json_opt_str(v, key, &s, e) == -1)
		return -1;
	for (unsigned i = 0; s && i < sizeof(names) / sizeof(*names); i++) {
		if (strcmp(s, names[i]) == 0) {
			*out = (enum probe_do)i;
			return 0;
		}
	}
	return err_set(e, ERR_CALLER, "%s must be facts, listen, dial or "
	    "measure", key);
}

static int
get_ranks(struct probe_request *r, const struct json *v, struct err *e)
{
	const struct json *c = json_get(v, "ranks");

	if (c && json_type(c) != JSON_ARR)
		return err_set(e, ERR_CALLER, "ranks must be an array");
	for (c = c ? json_first(c) : NULL; c; c = json_next(c)) {
		if (r->nrank == PLAN_MAX_RANKS || json_type(c) != JSON_NUM ||
		    !json_is_int(c) || json_num(c) < 0 ||
		    json_num(c) >= PLAN_MAX_RANKS)
			return err_set(e, ERR_CALLER, "ranks must be at most "
			    "%d numbers below that", PLAN_MAX_RANKS);
		r->rank[r->nrank++] = (unsigned)json_num(c);
	}
	return 0;
}

int
wire_get_request(struct probe_request *r, const char *line, size_t n,
    struct err *e)
{
	struct json *v;
	int rc = -1;

	*r = (struct probe_request){0};
	if (json_parse(&v, line, n, e) == -1)
		return -1;
	if (get_name(&r->what, v, "do", e) == 0 &&
	    get_fields(r, request_fields, v, true, e) == 0)
		rc = get_ranks(r, v, e);
	json_free(&v);
	return rc;
}

static int
get_facts(struct probe_facts *f, const struct json *v, struct err *e)
{
	const struct json *c = json_get(v, "interfaces");
	const struct json *m = json_get(v, "model");

	if (get_fields(f, facts_fields, v, false, e) == -1)
		return -1;
	if (c && json_type(c) != JSON_ARR)
		return err_set(e, ERR_CALLER, "interfaces must be an array");
	c = c ? json_first(c) : NULL;
	for (; c && f->nifs < PROBE_IFS; c = json_next(c))
		if (json_type(c) != JSON_OBJ || get_fields(&f->ifs[f->nifs++],
		    if_fields, c, false, e) == -1)
			return err_set(e, ERR_CALLER, "interfaces is broken");
	if (!m || json_type(m) != JSON_OBJ)
		return err_set(e, ERR_CALLER, "has no model");
	if (!f->host[0] || !f->cores || !f->memory)
		return err_set(e, ERR_CALLER, "has no %s", !f->host[0] ?
		    "host" : !f->cores ? "cores" : "memory");
	return get_fields(&f->model, model_fields, m, false, e);
}

static int
get_reply(struct probe_reply *r, const struct json *v, struct err *e)
{
	const struct field error = F_TEXT(probe_reply, error);
	const struct field build[] = { F_TEXT(probe_facts, build), {0} };
	int64_t version = 0;

	if (get_name(&r->re, v, "re", e) == -1 || json_opt_i64(v, "dsi_probe",
	    1, 1 << 20, &version, e) == -1)
		return -1;
	r->facts.version = (unsigned)version;
	if (version != PROBE_VERSION)
		return get_fields(&r->facts, build, v, false, e);
	if (get_text(r->error, &error, v, false, e) == -1)
		return -1;
	if (r->error[0])
		return 0;
	if (r->re == PROBE_FACTS)
		return get_facts(&r->facts, v, e);
	return get_fields(&r->link, link_fields, v, false, e);
}

int
wire_get_reply(struct probe_reply *r, const char *line, size_t n,
    struct err *e)
{
	struct json *v;
	int rc;

	*r = (struct probe_reply){0};
	if (json_parse(&v, line, n, e) == -1)
		return -1;
	rc = get_reply(r, v, e);
	json_free(&v);
	return rc;
}

int
wire_line(struct buf *in, struct buf *line, struct err *e)
{
	char *end = in->n ? memchr(in->p, '\n', in->n) : NULL;
	size_t n = end ? (size_t)(end - in->p) : in->n;

	if (n > PROBE_LINE)
		return err_set(e, ERR_CALLER, "a line of more than %d bytes",
		    PROBE_LINE);
	if (!end)
		return 0;
	buf_clear(line);
	buf_put(line, in->p, n + 1);
	if (buf_ok(line, e) == -1)
		return -1;
	line->p[--line->n] = '\0';
	memmove(in->p, end + 1, in->n - n);	/* and the NUL */
	in->n -= n + 1;
	return 1;
}
