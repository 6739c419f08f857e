/*
 * comm: median latency of collectives between ranks of this machine.
 *
 *	comm RANKS [shared|apart] [ROUNDS]
 *
 * Prints "ours TAB what TAB ranks TAB bytes TAB microseconds" for a sum of 14
 * KiB, an exchange of 14 KiB / RANKS each, and a barrier.  The time of a round
 * is the lead's, so a rank that runs ahead is paid for in the next round.
 */
#include <string.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "comm/comm.h"

enum { MAX = 64, BYTES = 14336, WARM = 200 };

static unsigned world, rounds = 4000;

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int
sum(struct comm_group *g, struct err *e)
{
	static int32_t x[BYTES / 4];

	return comm_reduce(g, COMM_SUM_I32, x, BYTES / 4, e);
}

static int
share(struct comm_group *g, struct err *e)
{
	struct comm_span part[MAX];
	const void *from[MAX];
	static char all[BYTES];
	size_t n = BYTES / world;

	memset(comm_buffer(g), 1, n);
	for (unsigned i = 0; i < world; i++)
		part[i] = (struct comm_span){ 0, n };
	if (comm_share(g, part, part, from, e) == -1)
		return -1;
	for (unsigned i = 0; i < world; i++)
		memcpy(all + i * n, from[i], n);
	return 0;
}

static int
barrier(struct comm_group *g, struct err *e)
{
	return comm_share(g, NULL, NULL, NULL, e);
}

static void
measure(struct comm *c, const char *what, size_t bytes,
    int (*round)(struct comm_group *g, struct err *e))
{
	struct comm_group *g = comm_group(c, 0);
	double *us = mem_new(rounds, sizeof(*us), NULL);
	struct err e = {0};

	for (unsigned r = 0; us && r < rounds + WARM; r++) {
		uint64_t t = now_ns();

		if (round(g, &e) == -1)
			die_err(&e);
		if (r >= WARM)
			us[r - WARM] = (double)(now_ns() - t) / 1000;
	}
	if (us && comm_rank(c) == 0) {
		qsort(us, rounds, sizeof(*us), by_value);
		printf("ours\t%s\t%u\t%zu\t%.1f\n", what, world, bytes,
		    us[rounds / 2]);
	}
	free(us);
}

static void
run(struct comm *c)
{
	measure(c, "sum", BYTES, sum);
	measure(c, "share", BYTES, share);
	measure(c, "barrier", 0, barrier);
	comm_close(&c);
	out_close();
}

int
main(int argc, char **argv)
{
	unsigned rank[MAX];
	struct comm_group_def g = { 0, rank, BYTES };
	struct comm_opts o = { .wiring = { .group = &g, .ngroup = 1 } };
	struct comm *c;
	struct err e = {0};
	uint64_t v = 0;
	int fd[MAX], sv[2];

	prog = "comm";
	if (argc < 2 || num_u64(argv[1], MAX, &v) == -1 || v < 1)
		die(ERR_CALLER, "usage: comm RANKS [shared|apart] [ROUNDS]");
	o.wiring.world = g.n = world = (unsigned)v;
	o.apart = argc > 2 && strcmp(argv[2], "apart") == 0;
	if (argc > 3 && num_u64(argv[3], 10000000, &v) == 0 && v)
		rounds = (unsigned)v;
	for (unsigned i = 0; i < world; i++)
		rank[i] = i;
	for (unsigned i = 1; i < world; i++) {
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == -1)
			die(ERR_SYSTEM, "socketpair");
		fd[i - 1] = sv[0];
		o.rank = i;
		if (fork() == 0) {
			for (unsigned k = 1; k <= i; k++)
				close(fd[k - 1]);
			if (comm_join(&c, &o, sv[1], &e) == -1)
				die_err(&e);
			run(c);
			return 0;
		}
		close(sv[1]);
	}
	o.rank = 0;
	if (comm_lead(&c, &o, fd, world - 1, -1, &e) == -1)
		die_err(&e);
	run(c);
	while (wait(NULL) > 0)
		continue;
	return 0;
}
