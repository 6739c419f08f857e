/*
 * mlp: what mlp.c and mix.c share, and work.c must know the size of.
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
	float *part;		/* [rows][gate.n]: this rank's columns of it;
				 * they are h itself where it has all */
};

/* One pass over a span of rows: first the shared experts, if there are any,
 * then the routed ones. */
struct mixing {
	struct model *m;
	struct layer *l;
	size_t nrow;
	size_t nitem, nslot;	/* slots: rows of all items */
	size_t routed;		/* the first routed item */
	size_t hat, qat, sat;	/* used of m->h, m->hq, m->hsx */
	float *part;		/* where the next item's columns go, or NULL */
	bool small;		/* hidden layers are joined as int8 */
};

/* mix.c: the rest of a mixture, once all hidden layers are there, quantised:
 * z [nrow][hidden]. */
int mix_down(struct mixing *p, float *z, struct err *e);

#endif
