/*
 * conf: MindFormers YAML files as a flat list, dotted key -> scalar.
 *
 *	parallel_config:
 *	  model_parallel: 32		parallel_config.model_parallel = 32
 *	layers: [3, 61]			layers.0 = 3, layers.1 = 61
 *
 * The only module that uses libyaml.  Refused, always as "FILE:LINE: ...":
 * bad YAML or UTF-8, more than one document, a key that stands twice, merge
 * keys, tags, keys that are no scalars, and what passes the caps below (an
 * alias counts as what it stands for).  None, null, ~ and nothing are absent.
 */
#ifndef DSI_CONF_H
#define DSI_CONF_H

#include "base/base.h"

enum {
	CONF_MAX_BYTES = 256 << 10,	/* of the file */
	CONF_MAX_TEXT = 4 << 20,	/* of all keys and values, expanded */
	CONF_MAX_ITEMS = 20000,		/* scalars, lists and mappings */
	CONF_MAX_DEPTH = 32,
	CONF_MAX_ANCHORS = 1000,
};

struct conf;

/* Free it with conf_free.  On failure *out is NULL (ERR_CALLER, or ERR_SYSTEM
 * for memory and disk).  name stands for FILE in errors. */
int conf_load(struct conf **out, const char *path, struct err *e);
int conf_parse(struct conf **out, const char *name, const char *text,
    size_t n, struct err *e);
void conf_free(struct conf **c);

/* An absent key leaves *out alone and is 0.  A value of another kind is -1:
 * "FILE:LINE: KEY must be ..., not ...".  Strings are borrowed from c; every
 * scalar has one.  Numbers and booleans must not be quoted; booleans are True
 * or False, yes or no, on or off. */
int conf_str(const struct conf *c, const char *key, const char **out,
    struct err *e);
int conf_i64(const struct conf *c, const char *key, int64_t *out,
    struct err *e);
int conf_f64(const struct conf *c, const char *key, double *out,
    struct err *e);
int conf_bool(const struct conf *c, const char *key, bool *out,
    struct err *e);

/* Anything that stands in the file, lists and mappings too; 0 if not there. */
unsigned conf_line(const struct conf *c, const char *key);
/* For values that are well formed but wrong: "FILE:LINE: KEY " and the text,
 * ERR_CALLER, -1. */
int conf_bad(const struct conf *c, const char *key, struct err *e,
    const char *fmt, ...) DSI_PRINTF(4, 5);

/* The scalars that are not absent, in the order of the file. */
size_t conf_count(const struct conf *c);
const char *conf_key(const struct conf *c, size_t i);	/* i < conf_count */

#endif
