/*
 * mpi: ranks that mpirun or srun started, each with the same command.
 *
 *	mpi_open(&m, &e)			... each process
 *	rc = what each does by itself
 *	mpi_agree(m, rc, &e)			all went well, or none goes on
 *	mpi_find_lead(m, d, &link, where, &e)
 *	rank 0: engine_open with link		others: launch_follow to where
 *	mpi_close(&m, world ended well)
 *
 * MPI itself is in a plug-in (comm/comm_plug.h), which is looked for in
 * DSI_MPI_PLUGIN (a file), then in ../lib/dsi beside the program.
 */
#ifndef DSI_LAUNCH_MPI_H
#define DSI_LAUNCH_MPI_H

#include "launch/launch.h"

enum { MPI_WHERE = 300 };

struct mpi;

/* Do the flags ask for MPI?  Before deploy_resolve, too. */
bool mpi_wanted(const struct deploy *d);

int mpi_open(struct mpi **m, struct err *e);
unsigned mpi_rank(const struct mpi *m);		/* 0: the lead */
bool mpi_first(const struct mpi *m);		/* of its host */
const struct comm_far *mpi_far(const struct mpi *m);
/* Every rank says how it fared.  If any did badly it is -1 on all, and e is
 * that rank's error. */
int mpi_agree(struct mpi *m, int rc, struct err *e);
/* Does the layout have as many ranks as were started? */
int mpi_check(const struct mpi *m, const struct deploy *d, struct err *e);
/* Rank 0 listens, all others learn where; waits for all.  Of link->comm it
 * fills in the rank. */
int mpi_find_lead(struct mpi *m, const struct deploy *d,
    struct engine_link *link, char where[MPI_WHERE], struct err *e);
/* A rank whose world ended badly ends its process soon: it leaves without
 * waiting for others. */
void mpi_close(struct mpi **m, bool good);
/* Before a rank says why it fails: rank 0 may at once, others wait for seconds.
 * Most launchers end all ranks with the first, so one line comes out.
 * m: NULL if MPI is not up. */
void mpi_take_turn(const struct mpi *m);

#endif
