/*
 * Anything as a safetensors file.  What is accepted must tile the file and
 * find each of its tensors by name.
 */
#include <stdlib.h>
#include <string.h>

#include "store/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(const struct store *s, uint64_t nfile)
{
	uint64_t at = 0;

	for (size_t i = 0; i < store_count(s); i++) {
		const struct tensor *t = store_at(s, i);
		uint64_t n = dtype_size(t->dtype);

		if (i && t->off != at)
			abort();
		for (unsigned j = 0; j < t->ndim; j++)
			n *= t->dim[j];
		at = t->off + t->nbytes;
		if (n != t->nbytes || at > nfile ||
		    store_find(s, t->name) != t)
			abort();
	}
	if (store_count(s) && at != nfile)
		abort();
	store_find(s, "");
	store_meta(s, "format");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct store *s;
	struct err e = {0};

	if (store_parse(&s, "fuzz", data, size, size, &e) == 0) {
		check(s, size);
		store_close(&s);
	} else if (s || !e.code || !*e.msg) {
		abort();
	}
	return 0;
}
