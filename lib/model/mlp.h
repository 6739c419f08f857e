/*
 * mlp: the types of mlp.c that the step buffers (work.c) must know.
 */
#ifndef DSI_MODEL_MLP_H
#define DSI_MODEL_MLP_H

#include "model/priv.h"

/* One MLP and the rows it works on. */
struct item {
	const struct mlp *w;
	const uint32_t *row;	/* [h.rows] NULL: all rows in order */
	const float *weight;	/* [h.rows] NULL: 1 */
	struct act h;		/* hidden layer, [rows][down.k] */
};

/* One pass of mlp.c over a span of rows. */
struct mixing {
	struct model *m;
	struct layer *l;
	size_t nrow;
	size_t nitem, nslot;
	size_t hat, qat, sat;	/* used of m->h, m->hq, m->hsx */
	float *z;		/* [nrow][hidden] */
};

#endif
