/*
 * plan: who owns what.  From the model and the sizes of the parallel groups to
 * each rank's heads, rows, inputs, experts and layers.  Pure: no I/O, no
 * memory, the same answer on every rank.
 *
 * rank = (pp * DP + dp) * TP + tp.  An expert belongs to a block of
 * moe_tp = DP * TP / EP neighbouring ranks of one stage, which split it.
 *
 * Every linear layer is cut by its outputs.  The layers that lead back to the
 * residual stream (o, down) read inputs that other ranks made, so those are
 * gathered first; in exchange each output is one rank's sum over the whole
 * inner dimension, with the same bits in every layout, and a row of
 * activations has one scale.
 */
#ifndef DSI_PLAN_H
#define DSI_PLAN_H

#include "arch/arch.h"

enum { PLAN_MAX_RANKS = 1024 };

/* Sizes of the groups; all >= 1.  World: tp * dp * pp. */
struct layout {
	unsigned tp, dp, pp, ep;
};

/* One rank's part; every range is half open. */
struct plan {
	struct layout layout;
	unsigned world, rank;
	unsigned pp, dp, tp;		/* its place in each group */
	unsigned ep;			/* expert block: 0..EP-1 */
	unsigned moe_tp, moe_slice;	/* ranks to an expert; which of them */
	unsigned layer0, layer1;	/* of the main model */
	bool first, last;		/* stage with embedding; head and MTP */
	unsigned heads0, heads1;
	unsigned dense0, dense1;	/* of intermediate_size */
	unsigned shared0, shared1;	/* of moe_inter * shared */
	unsigned moe0, moe1;		/* of moe_inter, in each own expert */
	unsigned expert0, expert1;	/* empty without routed experts */
	/* Parts that are rounded up: rows past the model's are padding of 0. */
	unsigned vocab0, vocab1;	/* head: ceil(vocab / TP) */
	unsigned out0, out1;		/* o, dense down: ceil(hidden / TP) */
	unsigned own0, own1;		/* shared down: ceil(hidden / DP*TP) */
	unsigned moe_out0, moe_out1;	/* experts' down: what the EP ranks
					 * with this moe_slice own together */
};

/* Can the model be cut like that?  ERR_CALLER names the key of config.json,
 * both numbers, and the nearest sizes that would work. */
int plan_check(const struct arch *a, const struct layout *l, struct err *e);
unsigned plan_world(const struct layout *l);

/* rank < plan_world(l); a and l have passed plan_check. */
void plan_rank(struct plan *p, const struct arch *a, const struct layout *l,
    unsigned rank);

/* The stage that computes layer i; the MTP layers are on the last. */
unsigned plan_stage(const struct arch *a, const struct layout *l, unsigned i);

/* The rank's rows [n0,n1) of a linear layer; rows past lin->n are padding.
 * n0 == n1: it has none of it. */
void plan_slice(const struct plan *p, const struct arch *a,
    const struct arch_lin *lin, unsigned *n0, unsigned *n1);

#endif
