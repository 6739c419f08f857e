/*
 * run: all hosts asked at once, then each connection measured by itself.
 *
 * The time is shared out: 60 % of it for the shells to connect and the hosts
 * to tell about themselves (ssh gives up by itself after 5 of 10 seconds, and
 * says why), 15 % to connect to the lead, 15 % to measure, the rest to end.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "probe/priv.h"

enum {
	MAX_WORDS = 64, FACTS_PART = 60, DIAL_PART = 72, LATE_PART = 75,
	CALL_PART = 30, MEASURE_PART = 85, END_PART = 90, MEASURE_MS = 500,
	LEAST_MS = 4, SETTLE_MS = 1500,
};

#define MS 1000000ull

struct run {
	struct probe *p;
	const struct probe_opts *o;
	struct guard guard;
	struct kid *kid;
	size_t n;
	struct probe_request request;
	uint64_t start_ns;
	unsigned ms;
	char here[256], self[4096];	/* this host, this program */
};

static uint64_t
at_part(const struct run *r, unsigned percent)
{
	return r->start_ns + r->ms * MS / 100 * percent;
}

/* ---- starting ---- */

static bool
is_here(const struct run *r, const char *host)
{
	return !r->o->rsh && (strcmp(host, "localhost") == 0 ||
	    strcmp(host, r->here) == 0);
}

/* rsh is cut at its blanks, in place. */
static int
make_words(char **argv, const struct run *r, char *rsh, char *host,
    struct err *e)
{
	char *s = rsh;
	size_t n = 0;

	while (!is_here(r, host) && *(s += strspn(s, " \t"))) {
		if (n == MAX_WORDS)
			return err_set(e, ERR_CALLER, "--rsh has more than %d "
			    "words", MAX_WORDS);
		argv[n++] = s;
		s += strcspn(s, " \t");
		if (*s)
			*s++ = '\0';
	}
	if (n)
		argv[n++] = host;
	argv[n++] = (char *)(is_here(r, host) ? r->self : r->o->program);
	argv[n++] = (char *)"--probe";
	argv[n] = NULL;
	return 0;
}

static int
start_one(struct run *r, size_t i, struct err *e)
{
	static const char ssh[] = "ssh -o BatchMode=yes -o ConnectTimeout=5";
	const char *words = r->o->rsh ? r->o->rsh : ssh;
	char *argv[MAX_WORDS + 4], *rsh = strdup(words);
	char host[sizeof(r->o->hosts->v[i].name)];
	int rc = -1;

	snprintf(host, sizeof(host), "%s", r->o->hosts->v[i].name);
	if (!rsh)
		return err_set(e, ERR_SYSTEM, "no memory");
	if (make_words(argv, r, rsh, host, e) == 0)
		rc = kid_start(&r->kid[i], &r->guard, argv, e);
	free(rsh);
	return rc;
}

static int
start_all(struct run *r, struct err *e)
{
	ssize_t n = readlink("/proc/self/exe", r->self, sizeof(r->self) - 1);

	snprintf(r->self + (n > 0 ? n : 0), 16, n > 0 ? "" : "dsi-check");
	gethostname(r->here, sizeof(r->here) - 1);
	for (size_t i = 0; i < r->n; i++)
		if (start_one(r, i, e) == -1)
			return -1;
	return 0;
}

/* ---- asking ---- */

static void
blame(struct probe_result *v, const char *why)
{
	if (!v->why[0])
		snprintf(v->why, sizeof(v->why), "%s", why);
}

/* The answer of kid i to the last question, or NULL and the reason noted. */
static const struct probe_reply *
reply_of(struct run *r, size_t i)
{
	struct kid *k = &r->kid[i];

	if (k->why[0] || k->reply.error[0]) {
		blame(&r->p->v[i], k->why[0] ? k->why : k->reply.error);
		return NULL;
	}
	return &k->reply;
}

static void
ask_facts(struct run *r, size_t i)
{
	const struct deploy *d = r->o->d;
	const struct probe_share *s = &r->o->share[i];
	struct probe_request *q = &r->request;
	const char *lead = d->dp_address ? d->dp_address : d->master_address;

	*q = (struct probe_request){ .what = PROBE_FACTS,
		.weights = !d->dummy, .nrank = s->n };
	snprintf(q->model, sizeof(q->model), "%s", r->p->path);
	for (unsigned j = 0; j < s->n; j++)
		q->rank[j] = s->rank[j] % plan_world(&d->layout);
	snprintf(q->ifname, sizeof(q->ifname), "%s", d->ifname);
	if (d->ifname_from)
		snprintf(q->ifname_from, sizeof(q->ifname_from), "%s",
		    d->ifname_from);
	if (i == 0 && lead)
		snprintf(q->address, sizeof(q->address), "%s", lead);
	kid_ask(&r->kid[i], q);
}

static void
take_facts(struct run *r, size_t i)
{
	const struct probe_reply *y = reply_of(r, i);
	struct probe_result *v = &r->p->v[i];
	char why[PROBE_WORDS];

	if (!y)
		return;
	v->facts = y->facts;
	v->answered = y->facts.version == PROBE_VERSION;
	if (v->answered)
		return;
	snprintf(why, sizeof(why), "its dsi is %.31s, with version %u of the "
	    "probe; this one is %s, with version %d: all hosts need the same",
	    y->facts.build[0] ? y->facts.build : "another", y->facts.version,
	    dsi_version, PROBE_VERSION);
	blame(v, why);
}

static void
gather(struct run *r)
{
	for (size_t i = 0; i < r->n; i++)
		ask_facts(r, i);
	kid_wait(r->kid, r->n, at_part(r, FACTS_PART), r->o->stop);
	for (size_t i = 0; i < r->n; i++)
		take_facts(r, i);
}

/* ---- connecting ---- */

static void
make_token(char token[PROBE_TOKEN + 1])
{
	unsigned char raw[PROBE_TOKEN / 2] = {0};

	if (getrandom(raw, sizeof(raw), 0) != (ssize_t)sizeof(raw))
		raw[0] = (unsigned char)now_ns();
	for (size_t i = 0; i < sizeof(raw); i++)
		snprintf(token + 2 * i, 3, "%02x", raw[i]);
}

/* The address that the connection really has. */
static void
take_end(struct probe_result *v, const struct probe_reply *y)
{
	if (!y->link.interface[0])
		return;
	snprintf(v->facts.interface, sizeof(v->facts.interface), "%s",
	    y->link.interface);
	snprintf(v->facts.address, sizeof(v->facts.address), "%s",
	    y->link.address);
}

/* As the lead of the world would: at the address that was given, else at that
 * of its interface. */
static bool
lead_up(struct run *r)
{
	const struct deploy *d = r->o->d;
	struct probe *p = r->p;
	struct probe_request *q = &r->request;
	const char *given = d->dp_address ? d->dp_address : d->master_address;
	const struct probe_reply *y;

	p->port = d->lead_port;
	snprintf(p->address, sizeof(p->address), "%s", given ? given :
	    p->v[0].facts.address);
	if (!p->v[0].answered || !p->address[0])
		return false;
	*q = (struct probe_request){ .what = PROBE_LISTEN, .port = p->port,
		.ports = d->worlds };
	snprintf(q->address, sizeof(q->address), "%s", p->address);
	make_token(q->token);
	kid_ask(&r->kid[0], q);
	kid_wait(r->kid, 1, at_part(r, DIAL_PART), r->o->stop);
	y = reply_of(r, 0);
	p->listened = y != NULL;
	if (y)
		take_end(&p->v[0], y);
	return p->listened;
}

static void
take_link(struct run *r, size_t i)
{
	const struct probe_reply *y = reply_of(r, i);
	struct probe_result *v = &r->p->v[i];

	v->no_way = !y && !r->kid[i].why[0];
	if (!y)
		return;
	v->linked = true;
	v->link = y->link;
	take_end(v, y);
}

static bool
may_dial(const struct run *r, size_t i)
{
	const struct probe_result *v = &r->p->v[i];

	return v->answered && !v->why[0] && !v->facts.wrong[0];
}

/* All at once: a way that leads nowhere takes its time. */
static void
dial_all(struct run *r)
{
	uint64_t until = at_part(r, DIAL_PART), now = now_ns();
	uint64_t ms = now < until ? (until - now) / MS : 1;
	uint64_t most = (uint64_t)r->ms * CALL_PART / 100;

	r->request.what = PROBE_DIAL;
	r->request.ms = (unsigned)(ms < most ? ms : most);
	for (size_t i = 1; i < r->n; i++)
		if (may_dial(r, i))
			kid_ask(&r->kid[i], &r->request);
	until = now + (r->request.ms + r->ms / 100 * (LATE_PART - DIAL_PART)) *
	    MS;
	kid_wait(r->kid, r->n, until, r->o->stop);
	for (size_t i = 1; i < r->n; i++)
		if (may_dial(r, i))
			take_link(r, i);
}

/* ---- measuring ---- */

/* One that hangs must not take the time of those after it. */
static void
measure(struct run *r, size_t i, unsigned ms)
{
	const struct probe_reply *y;
	struct probe_result *v = &r->p->v[i];
	uint64_t until = now_ns() + (ms + SETTLE_MS) * MS;

	if (until > at_part(r, END_PART))
		until = at_part(r, END_PART);
	r->request = (struct probe_request){ .what = PROBE_MEASURE, .ms = ms };
	kid_ask(&r->kid[i], &r->request);
	kid_wait(&r->kid[i], 1, until, r->o->stop);
	y = reply_of(r, i);
	if (!y)
		return;
	v->measured = true;
	v->link.rtt_ns = y->link.rtt_ns;
	v->link.rate = y->link.rate;
}

/* One after the other, or they would measure each other. */
static void
measure_all(struct run *r)
{
	uint64_t until = at_part(r, MEASURE_PART), now;
	size_t left = 0;

	for (size_t i = 1; i < r->n; i++)
		left += r->p->v[i].linked;
	for (size_t i = 1; i < r->n; i++) {
		unsigned ms;

		now = now_ns();
		if (!r->p->v[i].linked || now >= until ||
		    (r->o->stop && *r->o->stop))
			continue;
		ms = (unsigned)((until - now) / MS / left);
		ms = ms > MEASURE_MS ? MEASURE_MS : ms;
		measure(r, i, ms > LEAST_MS ? ms : LEAST_MS);
		left--;
	}
}

/* ---- all of it ---- */

/* Over there, the working directory is another. */
static int
find_path(struct probe *p, const char *model, struct err *e)
{
	char here[sizeof(p->path)] = "";
	struct buf b = {0};
	int rc;

	if (model[0] != '/' && !getcwd(here, sizeof(here)))
		return err_sys(e, "working directory");
	if (model[0] == '/')
		buf_puts(&b, model);
	else
		io_path(&b, here, model);
	rc = buf_ok(&b, e);
	if (rc == 0 && b.n >= sizeof(p->path))
		rc = err_set(e, ERR_CALLER, "%.100s...: too long", model);
	if (rc == 0)
		memcpy(p->path, b.p, b.n + 1);
	buf_free(&b);
	return rc;
}

static int
run(struct run *r, struct err *e)
{
	int rc;

	if (guard_start(&r->guard, e) == -1)
		return -1;
	rc = start_all(r, e);
	if (rc == 0) {
		gather(r);
		if (lead_up(r)) {
			dial_all(r);
			measure_all(r);
		}
	}
	kid_end(r->kid, r->n, &r->guard);
	guard_end(&r->guard);
	if (rc == 0 && r->o->stop && *r->o->stop)
		return err_set(e, ERR_SYSTEM, "stopped by signal %d",
		    (int)*r->o->stop);
	return rc;
}

int
probe_run(struct probe *p, const struct probe_opts *o, struct err *e)
{
	struct run *r = mem_new(1, sizeof(*r), e);
	int rc = -1;

	*p = (struct probe){ .n = o->hosts->n };
	if (!r)
		return -1;
	*r = (struct run){ .p = p, .o = o, .n = p->n, .start_ns = now_ns(),
		.ms = o->ms ? o->ms : PROBE_MS };
	p->v = mem_new(p->n, sizeof(*p->v), e);
	r->kid = p->v ? mem_new(p->n, sizeof(*r->kid), e) : NULL;
	for (size_t i = 0; r->kid && i < r->n; i++)
		r->kid[i].in = r->kid[i].out = r->kid[i].words = -1;
	if (r->kid && find_path(p, o->d->model, e) == 0) {
		probe_see_model(&p->here, p->path, !o->d->dummy, NULL, 0);
		rc = run(r, e);
	}
	free(r->kid);
	free(r);
	if (rc == -1)
		probe_free(p);
	return rc;
}

void
probe_free(struct probe *p)
{
	for (size_t i = 0; i < p->nproblem; i++)
		free(p->problem[i]);
	for (size_t i = 0; i < p->nnotice; i++)
		free(p->notice[i]);
	free(p->problem);
	free(p->notice);
	free(p->v);
	*p = (struct probe){0};
}
