/*
 * Anything as JSON.  What is accepted, written and read again must give the
 * same text; our scan and cJSON must agree on what JSON is.
 */
#include <stdlib.h>
#include <string.h>

#include "json/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
rewrite(struct buf *b, const char *text, size_t n)
{
	struct json *v;
	struct err e = {0};

	if (json_parse(&v, text, n, &e) == -1)
		abort();
	json_put(b, v);
	json_dup(v, &e);
	json_free(&v);
	if (buf_ok(b, &e) == -1)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct buf once = {0}, twice = {0};
	struct json *v;
	struct err e = {0};

	if (json_parse(&v, text, size, &e) == -1) {
		/* ERR_SYSTEM would mean that only cJSON said no */
		if (v || e.code != ERR_CALLER)
			abort();
		return 0;
	}
	json_free(&v);
	rewrite(&once, text, size);
	rewrite(&twice, once.p, once.n);
	if (once.n != twice.n || memcmp(once.p, twice.p, once.n) != 0)
		abort();
	buf_free(&once);
	buf_free(&twice);
	return 0;
}
