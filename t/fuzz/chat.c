/*
 * chat: {"messages": ..., "tools": ...} of any bytes into every style, and
 * the same bytes as an answer: in whatever pieces it comes, it must split the
 * same way, and no part may be empty.
 */
#include <stdlib.h>
#include <string.h>

#include "chat/chat.h"
#include "json/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct parts {
	struct buf side[2];
};

static void
must(bool ok)
{
	if (!ok)
		abort();
}

static void
collect(void *arg, enum think_kind kind, const char *p, size_t n)
{
	struct parts *x = arg;

	must(n > 0);
	buf_put(&x->side[kind], p, n);
}

static void
split(struct parts *x, enum think_start start, const char *p, size_t n,
    size_t step)
{
	struct think_split s;

	think_init(&s, start);
	for (size_t i = 0; i < n; i += step)
		think_put(&s, p + i, n - i < step ? n - i : step, collect, x);
	think_end(&s, collect, x);
}

static void
check_split(enum think_start start, const char *p, size_t n)
{
	struct parts one = {0}, all = {0};

	split(&one, start, p, n, 1);
	split(&all, start, p, n, n ? n : 1);
	for (int k = 0; k < 2; k++) {
		must(one.side[k].n == all.side[k].n && (one.side[k].n == 0 ||
		    !memcmp(one.side[k].p, all.side[k].p, one.side[k].n)));
		buf_free(&one.side[k]);
		buf_free(&all.side[k]);
	}
}

static void
render(const struct json *v)
{
	for (unsigned k = 0; k < 24; k++) {
		struct chat_opts o = {k & 1, k & 2, k & 4};
		struct buf out = {0};
		struct err e = {0};

		if (chat_render(k / 8, json_get(v, "messages"),
		    json_get(v, "tools"), &o, &out, &e) == 0)
			chat_opens_think(out.p, out.n);
		else
			must(e.code && e.msg[0]);
		buf_free(&out);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = size ? (const char *)data : "";
	struct json *v = NULL;
	enum chat_style s;
	struct buf text = {0};

	for (int start = THINK_NEVER; start <= THINK_OPEN; start++)
		check_split((enum think_start)start, p, size);
	buf_put(&text, p, size);
	chat_style_of(text.p, &s, NULL);
	if (json_parse(&v, p, size, NULL) == 0)
		render(v);
	json_free(&v);
	buf_free(&text);
	return 0;
}
