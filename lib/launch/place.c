/*
 * place: which CPUs a rank of this host runs on.
 *
 * A place is a NUMA node where the host has as many nodes as places are named,
 * else one of so many equal runs of the CPUs in node order.  Ranks that are
 * pinned before they load their weights have them in their own node's memory,
 * since a page lands where it is first touched.
 */
#include <dirent.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "launch/launch.h"

enum { MAX_LIST = 4096 };

/* ---- what there is ---- */

/* "0-3,8" -> a set; false: not such a list. */
bool
place_parse(const char *s, cpu_set_t *set)
{
	CPU_ZERO(set);
	while (*s && *s != '\n') {
		char *end;
		unsigned long a = strtoul(s, &end, 10), b = a;

		if (end == s)
			return false;
		if (*end == '-') {
			s = end + 1;
			b = strtoul(s, &end, 10);
			if (end == s)
				return false;
		}
		if (b < a || b >= CPU_SETSIZE)
			return false;
		for (; a <= b; a++)
			CPU_SET(a, set);
		if (*end == ',')
			end++;
		else if (*end && *end != '\n')
			return false;
		s = end;
	}
	return true;
}

static void
add_node(struct place_cpus *c, const cpu_set_t *node, cpu_set_t *left)
{
	unsigned from = c->n, i;

	for (i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, node) && CPU_ISSET(i, left)) {
			c->cpu[c->n++] = i;
			CPU_CLR(i, left);
		}
	if (c->n > from && c->nnode < PLACE_MAX_NODES)
		c->node0[c->nnode++] = from;
	c->node0[c->nnode] = c->n;
}

int
place_cpus(struct place_cpus *c, struct err *e)
{
	cpu_set_t left, node;
	unsigned i;

	memset(c, 0, sizeof *c);
	if (sched_getaffinity(0, sizeof left, &left) == -1)
		return err_sys(e, "sched_getaffinity");
	for (i = 0; i < PLACE_MAX_NODES; i++) {
		struct buf b = { 0 };
		char path[64];

		snprintf(path, sizeof path,
		    "/sys/devices/system/node/node%u/cpulist", i);
		if (io_slurp(path, MAX_LIST, &b, NULL) == 0 && b.p &&
		    place_parse(b.p, &node))
			add_node(c, &node, &left);
		buf_free(&b);
	}
	node = left;			/* of no node that is known */
	add_node(c, &node, &left);
	return 0;
}

/* ---- who gets what ---- */

/* CPUs [lo, hi) of c for rank i of the n that share [a, b): all of them where
 * there are more ranks than CPUs. */
static void
share(unsigned a, unsigned b, unsigned i, unsigned n, unsigned *lo,
    unsigned *hi)
{
	unsigned w = b - a;

	*lo = n > w ? a : a + w * i / n;
	*hi = n > w ? b : a + w * (i + 1) / n;
}

/* Of n things dealt to k holders in order: how many holder h has before its
 * own, and of its own. */
static void
deal(unsigned n, unsigned k, unsigned h, unsigned *first, unsigned *own)
{
	*first = (h * n + k - 1) / k;
	*own = ((h + 1) * n + k - 1) / k - *first;
}

/* What place k of those up to most is: CPUs [*a, *b) of c; false: there is
 * no such place. */
static bool
find(const struct place_cpus *c, unsigned k, unsigned most, unsigned *a,
    unsigned *b)
{
	if (most < c->nnode) {
		*a = c->node0[k];
		*b = c->node0[k + 1];
		return true;
	}
	if (most >= c->n)
		return false;
	share(0, c->n, k, most + 1, a, b);
	return true;
}

static void
take(const struct place_cpus *c, unsigned lo, unsigned hi, struct place *out)
{
	for (; lo < hi; lo++)
		CPU_SET(c->cpu[lo], &out->cpus);
	out->threads = (unsigned)CPU_COUNT(&out->cpus);
	out->pinned = out->threads < c->n;
}

/* Several ranks to a place h of np: they divide its CPUs. */
static void
divide(const struct place_cpus *c, unsigned a, unsigned b, unsigned i,
    unsigned n, struct place *out)
{
	unsigned lo, hi;

	share(a, b, i, n, &lo, &hi);
	take(c, lo, hi, out);
	if (n > b - a)
		out->threads = 1;
}

void
place_rank(const struct place_cpus *c, const unsigned *place, unsigned nplace,
    unsigned index, unsigned n, struct place *out)
{
	unsigned np = nplace ? nplace : c->nnode, most = np - 1;
	unsigned h, first, own, a, b, i;

	for (i = 0; i < nplace; i++)
		most = i == 0 || place[i] > most ? place[i] : most;
	CPU_ZERO(&out->cpus);
	out->all = c->n;
	if (!find(c, most, most, &a, &b)) {
		divide(c, 0, c->n, index, n, out);
	} else if (np >= n) {		/* several places to a rank */
		for (i = index * np / n; i < (index + 1) * np / n; i++) {
			find(c, nplace ? place[i] : i, most, &a, &b);
			take(c, a, b, out);
		}
	} else {
		h = index * np / n;
		deal(n, np, h, &first, &own);
		find(c, nplace ? place[h] : h, most, &a, &b);
		divide(c, a, b, index - first, own, out);
	}
}

int
place_find(const struct deploy *d, unsigned index, struct place *out,
    struct err *e)
{
	struct place_cpus *c = mem_new(1, sizeof *c, e);

	if (!c || place_cpus(c, e) == -1) {
		free(c);
		return -1;
	}
	place_rank(c, d->place, d->nplace, index, deploy_local(d), out);
	if (d->nplace == 0 && c->nnode == 1)
		out->pinned = false;
	free(c);
	return 0;
}
