/*
 * json: a checked layer on cJSON, the only module that includes it.
 *
 * A struct json is a value inside a tree; the root owns the tree.  Getters
 * never crash on a wrong type: they say so.
 */
#ifndef DSI_JSON_H
#define DSI_JSON_H

#include "base/base.h"

struct json;				/* = cJSON */

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUM, JSON_STR, JSON_ARR, JSON_OBJ };

enum { JSON_MAX_DEPTH = 64 };

/* The whole of text[0..n) as one value, free it with json_free.  Refused
 * (ERR_CALLER, byte offset in the line): anything but one value, nesting past
 * JSON_MAX_DEPTH, invalid UTF-8, NUL inside a string (\u0000 is refused
 * unless nul_ok, where it is kept as U+FFFD), numbers that are not finite. */
int json_parse(struct json **out, const char *text, size_t n, struct err *e);
/* A file of at most max bytes; errors are prefixed with the path. */
int json_load(struct json **out, const char *path, size_t max, struct err *e);
void json_free(struct json **root);

enum json_type json_type(const struct json *v);
const char *json_type_name(enum json_type t);	/* "a string", "an object" */
size_t json_len(const struct json *v);		/* O(n); arrays, objects */
/* Iterating: for (c = json_first(v); c; c = json_next(c)) */
const struct json *json_first(const struct json *v);
const struct json *json_next(const struct json *v);
const char *json_key(const struct json *member);	/* of a member */
/* NULL when absent, or when v is NULL or no object.  O(n). */
const struct json *json_get(const struct json *v, const char *key);
/* The name of a key that stands twice in object v, or NULL.  O(n log n). */
const char *json_dup(const struct json *v, struct err *e);

bool json_bool(const struct json *v);		/* v must be JSON_BOOL */
double json_num(const struct json *v);		/* v must be JSON_NUM */
const char *json_str(const struct json *v);	/* v must be JSON_STR */
bool json_is_int(const struct json *v);		/* whole, |x| <= 2^53 */

/* Members by key, with default: absent or null leaves *out alone and returns
 * 0; a wrong type or range is -1 with "KEY must be ..., not ...". */
int json_opt_bool(const struct json *o, const char *k, bool *out,
    struct err *e);
int json_opt_i64(const struct json *o, const char *k, int64_t min,
    int64_t max, int64_t *out, struct err *e);
int json_opt_f64(const struct json *o, const char *k, double min, double max,
    double *out, struct err *e);
int json_opt_str(const struct json *o, const char *k, const char **out,
    struct err *e);

/* Writing.  Strings are UTF-8 in and out; invalid bytes become U+FFFD.
 * Doubles are written so that they read back the same. */
void json_put_str(struct buf *b, const char *s, size_t n);
void json_put_f64(struct buf *b, double x);	/* not finite: null */
/* A value of a parsed tree, compact. */
void json_put(struct buf *b, const struct json *v);

#endif
