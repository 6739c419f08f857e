/*
 * host: this host's memory.
 */
#include "deploy/priv.h"

int
deploy_host_memory(uint64_t *total, uint64_t *avail, struct err *e)
{
	if (host_memory(total, avail, e) == -1)
		return -1;
	if (*total == 0)
		return err_set(e, ERR_SYSTEM, "/proc/meminfo: no MemTotal; "
		    "give --memory-per-host");
	return 0;
}
