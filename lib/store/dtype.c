/*
 * dtype: element types as safetensors spells them, and shapes.
 */
#include <string.h>

#include "store/store_priv.h"

static const struct {
	const char *name;
	unsigned size;
} dtypes[DT_COUNT] = {
	[DT_BOOL] = { "BOOL", 1 },
	[DT_U8] = { "U8", 1 },
	[DT_I8] = { "I8", 1 },
	[DT_F8] = { "F8_E4M3", 1 },
	[DT_I16] = { "I16", 2 },
	[DT_U16] = { "U16", 2 },
	[DT_F16] = { "F16", 2 },
	[DT_BF16] = { "BF16", 2 },
	[DT_I32] = { "I32", 4 },
	[DT_U32] = { "U32", 4 },
	[DT_F32] = { "F32", 4 },
	[DT_F64] = { "F64", 8 },
	[DT_I64] = { "I64", 8 },
	[DT_U64] = { "U64", 8 },
};

unsigned
dtype_size(enum dtype t)
{
	return dtypes[t].size;
}

const char *
dtype_name(enum dtype t)
{
	return dtypes[t].name;
}

int
dtype_parse(const char *s, enum dtype *t)
{
	for (unsigned i = 0; i < DT_COUNT; i++) {
		if (strcmp(s, dtypes[i].name) == 0) {
			*t = (enum dtype)i;
			return 0;
		}
	}
	return -1;
}

bool
shape_bytes(enum dtype t, unsigned ndim, const uint64_t *dim, uint64_t *nbytes)
{
	size_t n = dtype_size(t);

	for (unsigned i = 0; i < ndim; i++) {
		if (!mul_ok(n, dim[i], &n))
			return false;
	}
	*nbytes = n;
	return n <= INT64_MAX;
}

const char *
shape_text(unsigned ndim, const uint64_t *dim, char *p, size_t n)
{
	size_t at = 0;

	at += (size_t)snprintf(p, n, "[");
	for (unsigned i = 0; i < ndim && at < n; i++)
		at += (size_t)snprintf(p + at, n - at, "%s%llu",
		    i ? ", " : "", (unsigned long long)dim[i]);
	if (at < n)
		snprintf(p + at, n - at, "]");
	return p;
}
