/*
 * facts: what this host is like.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kern.h"
#include "probe/priv.h"

enum { MAX_NODES = 1024, MAX_CPUS = 1 << 16 };

/* Has a list such as "0-3,8" one of the CPUs in set? */
static bool
any_of(const char *list, const cpu_set_t *set, size_t size)
{
	while (*list >= '0' && *list <= '9') {
		char *end;
		unsigned long a = strtoul(list, &end, 10), b = a;

		if (*end == '-')
			b = strtoul(end + 1, &end, 10);
		for (; a <= b && a < MAX_CPUS; a++)
			if (CPU_ISSET_S(a, size, set))
				return true;
		list = *end == ',' ? end + 1 : end;
	}
	return false;
}

/* Cores that this process may use, and the NUMA nodes that they are of. */
static void
see_places(struct probe_facts *f)
{
	size_t size = CPU_ALLOC_SIZE(MAX_CPUS);
	cpu_set_t *set = CPU_ALLOC(MAX_CPUS);
	struct buf list = {0};
	char path[64];

	f->cores = 1;
	if (set && sched_getaffinity(0, size, set) == 0)
		f->cores = (unsigned)CPU_COUNT_S(size, set);
	for (unsigned i = 0; set && i < MAX_NODES; i++) {
		buf_clear(&list);
		snprintf(path, sizeof(path),
		    "/sys/devices/system/node/node%u/cpulist", i);
		if (access(path, R_OK) == 0 &&
		    io_slurp(path, MAX_CPUS, &list, NULL) == 0 && list.p)
			f->nodes += any_of(list.p, set, size);
	}
	if (!f->nodes)
		f->nodes = 1;
	if (set)
		CPU_FREE(set);
	buf_free(&list);
}

static void
see_kernels(struct probe_facts *f)
{
	const char *mask = getenv("DSI_CPU");
	unsigned flags = cpu_flags();

	if (cpu_mask(mask, &flags) == -1)
		snprintf(f->wrong, sizeof(f->wrong), "DSI_CPU=%.64s names no "
		    "instruction set", mask);
	kern_init(flags);
	snprintf(f->kernels, sizeof(f->kernels), "%s", kern.name);
}

static void
see_boot(struct probe_facts *f)
{
	struct buf b = {0};

	if (io_slurp("/proc/sys/kernel/random/boot_id", 4096, &b, NULL) == 0 &&
	    b.p) {
		b.p[strcspn(b.p, "\n")] = '\0';
		wire_plain(f->boot, sizeof(f->boot), b.p);
	}
	buf_free(&b);
}

/* What this host's environment says, else what the request says. */
static void
see_environment(struct probe_facts *f, const struct probe_request *r)
{
	static struct deploy d;		/* large */
	struct err e = {0};
	const char *name = r->ifname, *from = r->ifname_from;

	deploy_init(&d);
	if (deploy_node_env(&d, &e) == -1)
		wire_plain(f->wrong, sizeof(f->wrong), e.msg);
	f->places = d.nplace;
	if (d.ifname[0]) {
		name = d.ifname;
		from = d.ifname_from;
	}
	if (name[0])
		wire_plain(f->from, sizeof(f->from), from);
	if (!f->wrong[0])
		iface_choose(f, name, r->address);
	deploy_free(&d);
}

void
facts_gather(struct probe_facts *f, const struct probe_request *r)
{
	char name[256] = "?";
	struct err e = {0};

	*f = (struct probe_facts){ .version = PROBE_VERSION };
	wire_plain(f->build, sizeof(f->build), dsi_version);
	gethostname(name, sizeof(name) - 1);
	wire_plain(f->host, sizeof(f->host), name);
	see_boot(f);
	see_places(f);
	see_kernels(f);
	iface_list(f);
	see_environment(f, r);
	if (deploy_host_memory(&f->memory, &f->available, &e) == -1)
		wire_plain(f->wrong, sizeof(f->wrong), e.msg);
	probe_see_model(&f->model, r->model, r->weights, r->rank, r->nrank);
}
