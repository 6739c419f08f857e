/*
 * Anything as a YAML file.  What is accepted must answer every question about
 * every key that it lists, inside its caps.
 */
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
ask(const struct conf *c, const char *key)
{
	const char *s = NULL;
	struct err e = {0};
	int64_t i;
	double x;
	bool b;

	if (conf_str(c, key, &s, &e) == -1 || !s || !conf_line(c, key))
		abort();
	conf_i64(c, key, &i, &e);
	conf_f64(c, key, &x, &e);
	conf_bool(c, key, &b, &e);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conf *c;
	struct err e = {0};

	if (conf_parse(&c, "fuzz", (const char *)data, size, &e) == -1) {
		if (c || strncmp(e.msg, "fuzz:", 5) != 0)
			abort();
		return 0;
	}
	if (conf_count(c) > CONF_MAX_ITEMS)
		abort();
	for (size_t i = 0; i < conf_count(c); i++)
		ask(c, conf_key(c, i));
	conf_free(&c);
	return 0;
}
