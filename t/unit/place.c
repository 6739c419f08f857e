/*
 * place: CPUs for ranks, on hosts that this one need not be.
 */
#include <sched.h>
#include <string.h>

#include "launch/launch.h"
#include "tap.h"

/* A host of nnode nodes with per CPUs each, numbered across the nodes as many
 * machines do it: node 0 has 0, nnode, 2*nnode... */
static void
host(struct place_cpus *c, unsigned nnode, unsigned per)
{
	memset(c, 0, sizeof *c);
	for (unsigned i = 0; i < nnode; i++) {
		for (unsigned k = 0; k < per; k++)
			c->cpu[c->n++] = i + k * nnode;
		c->node0[i + 1] = c->n;
	}
	c->nnode = nnode;
}

/* The rank's CPUs as text: "0 2 4 6/4", the number of threads last. */
static const char *
text(const struct place_cpus *c, const unsigned *place, unsigned nplace,
    unsigned index, unsigned n)
{
	static char s[512];
	struct place p;
	size_t at = 0;

	place_rank(c, place, nplace, index, n, &p);
	for (unsigned i = 0; i < 256; i++)
		if (CPU_ISSET(i, &p.cpus))
			at += (size_t)snprintf(s + at, sizeof s - at, "%s%u",
			    at ? " " : "", i);
	snprintf(s + at, sizeof s - at, "/%u%s", p.threads,
	    p.pinned ? "" : " free");
	return s;
}

static void
is(const char *got, const char *want, const char *what)
{
	tap_ok(strcmp(got, want) == 0, "%s: %s", what, got);
}

static void
test_default(void)
{
	struct place_cpus c;

	host(&c, 1, 4);
	is(text(&c, NULL, 0, 0, 1), "0 1 2 3/4 free", "alone");
	is(text(&c, NULL, 0, 1, 2), "2 3/2", "the second of two");
	is(text(&c, NULL, 0, 3, 16), "0 1 2 3/1 free", "16 ranks on 4 CPUs");
	is(text(&c, NULL, 0, 1, 3), "1/1", "three on four");
	is(text(&c, NULL, 0, 2, 3), "2 3/2", "the rest");
	host(&c, 2, 4);
	is(text(&c, NULL, 0, 0, 1), "0 1 2 3 4 5 6 7/8 free",
	    "alone on two nodes");
	is(text(&c, NULL, 0, 0, 2), "0 2 4 6/4", "one a node");
	is(text(&c, NULL, 0, 1, 2), "1 3 5 7/4", "the other node");
	is(text(&c, NULL, 0, 2, 4), "1 3/2", "two a node");
	is(text(&c, NULL, 0, 12, 16), "1 3 5 7/1", "eight a node of four");
}

static void
test_named(void)
{
	static const unsigned both[] = { 1, 0 }, one[] = { 1 };
	static const unsigned eight[] = { 0, 1, 2, 3, 4, 5, 6, 7 };
	static const unsigned high[] = { 6, 7 };
	struct place_cpus c;

	host(&c, 2, 4);
	is(text(&c, both, 2, 0, 2), "1 3 5 7/4", "node 1 first");
	is(text(&c, one, 1, 1, 2), "5 7/2", "two on node 1");
	is(text(&c, eight, 8, 3, 8), "6/1", "eight places on two nodes");
	is(text(&c, high, 2, 0, 2), "5/1", "places 6 and 7 of eight");
	is(text(&c, eight, 8, 1, 2), "1 3 5 7/4",
	    "two ranks, eight places: the middle ones are left over");
	host(&c, 1, 2);
	is(text(&c, eight, 8, 5, 8), "0 1/1 free",
	    "more places than CPUs mean nothing");
}

static void
test_parse(void)
{
	cpu_set_t s;

	tap_ok(place_parse("0-3,8\n", &s) && CPU_COUNT(&s) == 5 &&
	    CPU_ISSET(8, &s), "0-3,8");
	tap_ok(place_parse("\n", &s) && CPU_COUNT(&s) == 0, "none");
	tap_ok(!place_parse("3-1", &s) && !place_parse("a", &s) &&
	    !place_parse("1;2", &s) && !place_parse("99999", &s) &&
	    !place_parse("1-", &s), "nonsense");
}

int
main(void)
{
	struct place_cpus c;
	struct err e = { 0 };

	test_default();
	test_named();
	test_parse();
	tap_ok(place_cpus(&c, &e) == 0 && c.n >= 1 && c.nnode >= 1 &&
	    c.node0[c.nnode] == c.n, "this host has %u CPUs on %u nodes", c.n,
	    c.nnode);
	return tap_done();
}
