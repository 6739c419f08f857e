/*
 * memory: how much there is for the KV cache.
 *
 * The limit is the machine's memory or the control group's, whichever is less.
 * What others use already is not ours, so the share asked for is also capped
 * by what is available right now.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/priv.h"

enum { MAX_PROC = 1 << 16 };

/* "MemTotal:  123 kB" -> bytes; 0 if it isn't there. */
static uint64_t
field(const char *text, const char *name)
{
	const char *p = strstr(text, name);

	return p ? strtoull(p + strlen(name), NULL, 10) * 1024 : 0;
}

/* A control group's file with one number; UINT64_MAX for none or "max". */
static uint64_t
group_limit(const char *path)
{
	struct buf b = { 0 };
	struct err e;
	uint64_t n = UINT64_MAX;

	if (io_slurp(path, MAX_PROC, &b, &e) == 0 && b.n &&
	    b.p[0] >= '0' && b.p[0] <= '9')
		n = strtoull(b.p, NULL, 10);
	buf_free(&b);
	return n;
}

int
memory_budget(double utilization, unsigned ranks, uint64_t *bytes,
    struct err *e)
{
	struct buf b = { 0 };
	uint64_t total, avail, limit, want;

	if (io_slurp("/proc/meminfo", MAX_PROC, &b, e) == -1)
		return -1;
	total = field(b.p, "MemTotal:");
	avail = field(b.p, "MemAvailable:");
	buf_free(&b);
	if (total == 0 || avail == 0)
		return err_set(e, ERR_SYSTEM,
		    "/proc/meminfo: no MemTotal or MemAvailable; give "
		    "--num-blocks");
	limit = group_limit("/sys/fs/cgroup/memory.max");
	if (limit < total)
		total = limit;
	want = (uint64_t)((double)total * utilization);
	*bytes = (want < avail ? want : avail) / ranks;
	return 0;
}
