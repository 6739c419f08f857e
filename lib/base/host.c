/*
 * host: this machine's memory.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

enum { MAX_PROC = 1 << 16 };

/* "MemTotal:  123 kB" -> bytes; 0 if it isn't there. */
static uint64_t
field(const char *text, const char *name)
{
	const char *p = strstr(text, name);

	return p ? strtoull(p + strlen(name), NULL, 10) * 1024 : 0;
}

int
host_memory(uint64_t *total, uint64_t *avail, struct err *e)
{
	struct buf b = {0};

	if (io_slurp("/proc/meminfo", MAX_PROC, &b, e) == -1)
		return -1;
	*total = field(b.p, "MemTotal:");
	*avail = field(b.p, "MemAvailable:");
	buf_clear(&b);
	/* a control group may allow less; "max" is no number */
	if (io_slurp("/sys/fs/cgroup/memory.max", MAX_PROC, &b, NULL) == 0 &&
	    b.n && b.p[0] >= '0' && b.p[0] <= '9') {
		uint64_t limit = strtoull(b.p, NULL, 10);

		if (limit < *total)
			*total = limit;
		if (limit < *avail)
			*avail = limit;
	}
	buf_free(&b);
	return 0;
}
