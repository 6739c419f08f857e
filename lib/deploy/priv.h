/*
 * Inside of module deploy.
 */
#ifndef DSI_DEPLOY_PRIV_H
#define DSI_DEPLOY_PRIV_H

#include "conf/conf.h"
#include "deploy/deploy.h"

/* ---- note.c ---- */

/* Adds a notice.  -1: no memory. */
int deploy_note(struct deploy *d, struct err *e, const char *fmt, ...)
    DSI_PRINTF(3, 4);
/* A notice, or an error with strict. */
int deploy_doubt(struct deploy *d, struct err *e, const char *fmt, ...)
    DSI_PRINTF(3, 4);
/* "4 or 8 would work": the divisors of n that are nearest to x. */
const char *deploy_divisors(uint64_t n, uint64_t x, char out[64]);

/* ---- yaml.c ---- */

/* What the YAML says of the layout; 0: nothing. */
struct yaml {
	struct conf *c;
	int64_t dp, tp, pp, ep;
};

/* d->yaml_path is set.  Every rule that needs no config.json. */
int yaml_open(struct yaml *y, struct deploy *d, struct err *e);
/* Its numbers of the model against d->arch. */
int yaml_compare(const struct yaml *y, struct deploy *d, struct err *e);
void yaml_close(struct yaml *y);

/* ---- env.c ---- */

/* Interface, places, VLLM_PP_LAYER_PARTITION. */
int deploy_env(struct deploy *d, struct err *e);

/* ---- form.c ---- */

/* Fills d->weights, quantize, dummy, weights_are, config; d->arch too. */
int form_find(struct deploy *d, struct err *e);

/* ---- work.c ---- */

/* What the rank's step buffers take. */
int deploy_work_bytes(const struct deploy *d, const struct plan *p,
    uint64_t *n, struct err *e);
void deploy_count_traffic(struct deploy_traffic *t, const struct arch *a,
    const struct plan *p);

#endif
