/*
 * store_priv: what the files of store share.
 */
#ifndef DSI_STORE_PRIV_H
#define DSI_STORE_PRIV_H

#include "store/store.h"

enum { STORE_LEN_SIZE = 8 };		/* the header's length, in front */

/* -1 and ERR_CALLER for a dtype string that dsi doesn't know. */
int dtype_parse(const char *s, enum dtype *t);
/* Bytes of a tensor; false when the product does not fit 63 bits. */
bool shape_bytes(enum dtype t, unsigned ndim, const uint64_t *dim,
    uint64_t *nbytes);
/* "[3, 4]"; for messages, cut to fit. */
const char *shape_text(unsigned ndim, const uint64_t *dim, char *p, size_t n);

#endif
