/*
 * api_priv: what the files that parse a request share.
 */
#ifndef DSI_API_PRIV_H
#define DSI_API_PRIV_H

#include "api/api.h"

/* A request while it is parsed. */
struct parse {
	const struct json *body;
	const struct api_model *m;
	struct api_req *r;
	struct api_fail *f;
};

/* The member, or NULL when it is absent or null. */
const struct json *parse_get(const struct parse *p, const char *key);
/* Typed members: absent or null leaves *out alone; -1 names the key. */
int parse_bool(struct parse *p, const char *key, bool *out);
int parse_i64(struct parse *p, const char *key, int64_t min, int64_t max,
    int64_t *out);
int parse_f64(struct parse *p, const char *key, double min, double max,
    double *out);
int parse_str(struct parse *p, const char *key, const char **out);
/* An array of token ids below the vocabulary's size; *ids is yours, NULL when
 * the key is absent. */
int parse_ids(struct parse *p, const char *key, int32_t **ids, size_t *n);
/* The same of array v, which errors call name. */
int parse_id_list(struct parse *p, const struct json *v, const char *name,
    int32_t **ids, size_t *n);

int parse_prompt(struct parse *p);	/* prompt.c */
int parse_sampling(struct parse *p);	/* sampling.c */
int parse_refused(struct parse *p);	/* refused.c */

#endif
