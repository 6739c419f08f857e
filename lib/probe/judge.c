/*
 * judge: what is wrong with the hosts, and whether the ranks fit into them.
 *
 * A problem keeps the world from starting; a notice does not.  Each says what
 * would help, where that is known.
 */
#include <stdlib.h>
#include <string.h>

#include "probe/priv.h"

struct judge {
	struct probe *p;
	const struct probe_opts *o;
	struct err *e;
	bool failed;			/* no memory */
};

static const char *
host(const struct judge *j, size_t i)
{
	return j->o->hosts->v[i].name;
}

static void
add(struct judge *j, char ***list, size_t *n, size_t *cap, const char *fmt,
    va_list ap)
{
	char *text;

	if (j->failed || mem_grow(list, cap, *n + 1, sizeof(**list),
	    j->e) == -1) {
		j->failed = true;
	} else if (vasprintf(&text, fmt, ap) == -1) {
		err_set(j->e, ERR_SYSTEM, "no memory");
		j->failed = true;
	} else {
		(*list)[(*n)++] = text;
	}
}

static void DSI_PRINTF(2, 3)
problem(struct judge *j, const char *fmt, ...)
{
	struct probe *p = j->p;
	va_list ap;

	va_start(ap, fmt);
	add(j, &p->problem, &p->nproblem, &p->cap_problem, fmt, ap);
	va_end(ap);
}

static void DSI_PRINTF(2, 3)
notice(struct judge *j, const char *fmt, ...)
{
	struct probe *p = j->p;
	va_list ap;

	va_start(ap, fmt);
	add(j, &p->notice, &p->nnotice, &p->cap_notice, fmt, ap);
	va_end(ap);
}

/* ---- what failed ---- */

/* The lead does not have the address that it was to listen at. */
static void
wrong_lead(struct judge *j)
{
	const struct probe *p = j->p;
	char there[PROBE_WORDS], other[sizeof(p->address) + 128] = "";

	iface_words(there, sizeof(there), &p->v[0].facts);
	for (size_t i = 1; i < p->n && !other[0]; i++)
		if (iface_of(&p->v[i].facts, p->address)[0])
			snprintf(other, sizeof(other), ", and %.100s has that "
			    "address: name it first, or its address", host(j,
			    i));
	problem(j, "%s: %s; it has %s%s", host(j, 0), p->v[0].why, there,
	    other);
}

static void
no_way(struct judge *j, size_t i)
{
	char here[PROBE_WORDS], lead[PROBE_WORDS];

	iface_words(here, sizeof(here), &j->p->v[i].facts);
	iface_words(lead, sizeof(lead), &j->p->v[0].facts);
	problem(j, "%s: %s; it has %s, %s has %s: DSI_SOCKET_IFNAME chooses",
	    host(j, i), j->p->v[i].why, here, host(j, 0), lead);
}

static void
judge_failures(struct judge *j, size_t i)
{
	const struct probe *p = j->p;
	const struct probe_result *v = &p->v[i];

	if (v->why[0] && i == 0 && v->answered && !p->listened &&
	    !iface_of(&v->facts, p->address)[0])
		wrong_lead(j);
	else if (v->no_way)
		no_way(j, i);
	else if (v->why[0])
		problem(j, "%s: %s", host(j, i), v->why);
	else if (v->linked && !v->measured)
		notice(j, "%s: no time was left to measure its connection",
		    host(j, i));
	if (v->facts.wrong[0])
		problem(j, "%s: %s", host(j, i), v->facts.wrong);
}

/* ---- what differs ---- */

static void
judge_names(struct judge *j, size_t i)
{
	const struct probe_result *v = j->p->v;

	for (size_t k = 0; k < i; k++) {
		if (!v[k].answered)
			continue;
		if (strcmp(v[k].facts.host, v[i].facts.host) == 0) {
			problem(j, "%s and %s both have the host name %s: give "
			    "each its own (hostnamectl set-hostname), or, if "
			    "they are one host, name it once", host(j, k),
			    host(j, i), v[i].facts.host);
			return;
		}
		if (v[i].facts.boot[0] && strcmp(v[k].facts.boot,
		    v[i].facts.boot) == 0) {
			notice(j, "%s and %s run on one machine: its memory "
			    "counts for each of them", host(j, k), host(j, i));
			return;
		}
	}
}

static void
judge_model(struct judge *j, size_t i)
{
	const struct probe_model *m = &j->p->v[i].facts.model;
	const struct probe_model *here = &j->p->here;

	if (m->error[0])
		problem(j, "%s: %s", host(j, i), m->error);
	else if (here->error[0])
		return;
	else if (strcmp(m->kind, here->kind) != 0)
		problem(j, "%s: %s is a %s, here it is a %s", host(j, i),
		    j->p->path, m->kind, here->kind);
	else if (strcmp(m->digest, here->digest) != 0)
		problem(j, "%s: %s is another model than here: digest %.12s, "
		    "not %.12s; copy it, or convert both alike", host(j, i),
		    j->p->path, m->digest, here->digest);
}

static void
judge_facts(struct judge *j, size_t i)
{
	const struct probe_facts *f = &j->p->v[i].facts;
	const struct probe_facts *lead = &j->p->v[0].facts;

	judge_names(j, i);
	if (strcmp(f->build, dsi_version) != 0)
		problem(j, "%s has dsi %s, this is %s: all hosts need the "
		    "same", host(j, i), f->build, dsi_version);
	judge_model(j, i);
	if (i && j->p->v[0].answered && strcmp(f->kernels, lead->kernels) != 0)
		notice(j, "%s computes with %s, %s with %s: the results are "
		    "the same, and the slower one sets the pace", host(j, i),
		    f->kernels, host(j, 0), lead->kernels);
}

/* ---- what fits ---- */

static void
judge_fit(struct judge *j, size_t i, const struct deploy_memory *memory)
{
	const struct probe_share *s = &j->o->share[i];
	struct probe_result *v = &j->p->v[i];
	struct deploy_memory m = { memory->per_rank, memory->per_host, false };
	struct deploy_plan *plan = j->o->plan;
	char need[24], has[24];

	if (s->n == 0)
		return;
	if (!m.per_rank && !m.per_host)
		m.per_host = v->facts.memory;
	deploy_fit(plan, j->o->d, &m, s->rank, s->n);
	v->known = true;
	v->fits = plan->fits;
	v->worst = plan->worst;
	v->need = plan->need;
	v->has = plan->budget;
	deploy_size_text(need, v->need);
	deploy_size_text(has, v->has);
	if (!v->fits)
		problem(j, "%s: rank %u needs %s and has %s, its share of the "
		    "memory", host(j, i), v->worst, need, has);
	else if (m.per_host == v->facts.memory &&
	    v->need > v->facts.available / s->n)
		notice(j, "%s: only %llu MiB of its memory are free now",
		    host(j, i), (unsigned long long)v->facts.available >> 20);
}

static void
judge_shares(struct judge *j)
{
	const struct probe *p = j->p;
	const struct deploy *d = j->o->d;

	for (size_t i = 0; i < p->n; i++)
		if (j->o->share[i].n == 0)
			notice(j, "%s gets no rank: the layout has %u",
			    host(j, i), d->size);
	if (p->listened && p->n > 1 && !d->dp_address && !d->master_address)
		notice(j, "on every node, name the lead with "
		    "--data-parallel-address %s", p->address);
}

int
probe_judge(struct probe *p, const struct probe_opts *o,
    const struct deploy_memory *memory, struct err *e)
{
	struct judge j = { p, o, e, false };

	if (p->here.error[0])
		problem(&j, "here: %s", p->here.error);
	for (size_t i = 0; i < p->n; i++) {
		judge_failures(&j, i);
		if (p->v[i].answered) {
			judge_facts(&j, i);
			judge_fit(&j, i, memory);
		}
	}
	judge_shares(&j);
	return j.failed ? -1 : 0;
}
