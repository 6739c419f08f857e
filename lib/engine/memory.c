/*
 * memory: how much there is for the KV cache.
 *
 * The limit is the machine's memory or the control group's, whichever is less.
 * What others use already is not ours, so the share asked for is also capped
 * by what is available right now.
 */
#include "engine/priv.h"

int
memory_budget(double utilization, unsigned ranks, uint64_t *bytes,
    struct err *e)
{
	uint64_t total, avail, want;

	if (host_memory(&total, &avail, e) == -1)
		return -1;
	if (total == 0 || avail == 0)
		return err_set(e, ERR_SYSTEM,
		    "/proc/meminfo: no MemTotal or MemAvailable; give "
		    "--num-blocks");
	want = (uint64_t)((double)total * utilization);
	*bytes = (want < avail ? want : avail) / ranks;
	return 0;
}
