/*
 * comm_fault: ranks that die, stop, leave, lie or don't belong, and strangers.
 * Every survivor gets the line that names the rank, and soon.
 */
#include <poll.h>
#include <sys/resource.h>

#include "comm/comm_far.h"
#include "world.h"

#define MS ((uint64_t)1000000)

#ifdef __SANITIZE_THREAD__
enum { WAKES = 100 };			/* its own thread wakes as well */
#else
enum { WAKES = 25 };
#endif
enum { N = 5, CAP = 4096, SOON_MS = 1900 };

static const unsigned all[RANKS] = { 0, 1, 2, 3, 4, 5, 6, 7 };
static const struct comm_group_def groups[] = { { N, all, CAP } };
static const struct comm_group_def pair[] = { { 2, all, CAP } };
/* from the victim, rank 2 or the lead, to rank 3; and back */
static const struct comm_chan_def chans[] = {
	{ 2, 3, 64, 1 }, { 0, 3, 64, 1 }, { 1, 2, 64, 1 }, { 1, 0, 64, 1 },
};

static void
wire(struct world *w, unsigned n, enum kind kind)
{
	*w = (struct world){ .n = n, .kind = kind };
	w->o = (struct comm_opts){ .layout = "tp5", .model = "m1",
		.build = "0.1.0", .join_ms = 10000 };
	w->o.wiring.group = n == 2 ? pair : groups;
	w->o.wiring.ngroup = 1;
	w->o.wiring.chan = chans;
	w->o.wiring.nchan = n == N ? 4 : 0;
	w->o.wiring.bcast_cap = 64;
}

/* ---- one rank comes to grief, the others wait in every way there is ---- */

enum fault { KILL, OBITUARY, STOP, FAIL, LEAVE, LATE, TRAFFIC };

static unsigned
victim_of(const struct world *w)
{
	return w->param >= 100 ? 0 : 2;
}

static int
come_to_grief(struct world *w, struct comm *c, struct err *e)
{
	usleep(60000);			/* let the others get stuck */
	w->fault_ns = now_ns();
	switch (w->param % 100) {
	case KILL:
	case OBITUARY:
		raise(SIGKILL);
		break;
	case STOP:
		raise(SIGSTOP);
		break;
	case FAIL:
		comm_fail(c, "out of coal");
		return comm_check(c, e);
	case LATE:
		usleep(500000);
		return comm_check(c, e);
	default:
		break;
	}
	return 0;
}

static int
fill_twice(struct comm *c, size_t id, struct err *e)
{
	struct comm_chan *h = comm_chan(c, id);

	for (int i = 0; i < 3; i++) {	/* depth 1: the second must wait */
		if (!comm_fill(h, e) || comm_send(h, 1, e) == -1)
			return -1;
	}
	return 0;
}

static int
fault_body(struct world *w, struct comm *c, struct err *e)
{
	bool lead_dies = victim_of(w) == 0;
	int32_t x[4] = { 0 };
	const void *v;
	size_t n;

	if (comm_rank(c) == victim_of(w))
		return come_to_grief(w, c, e);
	if (w->param == OBITUARY && comm_rank(c) == 0) {
		usleep(100000);
		comm_obituary(c, 2, "killed by signal 9");
	}
	if (w->param == LATE && comm_rank(c) != 3)
		return comm_share(comm_group(c, 0), NULL, NULL, NULL, e);
	switch (comm_rank(c)) {
	case 1:
		return fill_twice(c, lead_dies ? 3 : 2, e);
	case 2:
		return comm_hear(c, &v, &n, e);
	case 3:
		return comm_recv(comm_chan(c, lead_dies), &v, &n, e);
	case 4:
		return comm_reduce(comm_group(c, 0), COMM_SUM_I32, x, 4, e);
	default:
		return comm_share(comm_group(c, 0), NULL, NULL, NULL, e);
	}
}

/* All but the victim failed with text, in time, and left nothing. */
static bool
all_know(struct world *w, unsigned victim, const char *text, unsigned ms)
{
	bool ok = true;

	for (unsigned i = 0; i < w->n; i++) {
		const struct result *r = &w->r[i];
		uint64_t took = r->end_ns - w->fault_ns;

		if (i == victim || i == w->absent)
			continue;
		if (r->rc == -1 && strstr(r->e.msg, text) && r->closed &&
		    (!w->fault_ns || took < ms * MS) && !r->fds && !r->tasks &&
		    !r->maps)
			continue;
		printf("# rank %u: rc %d after %llu ms: %s%s (%d fds, %d "
		    "threads, %d maps)\n", i, r->rc,
		    (unsigned long long)(took / MS), r->e.msg,
		    r->closed ? "" : ", not closed", r->fds, r->tasks,
		    r->maps);
		ok = false;
	}
	return ok;
}

static void
test_fault(struct world *w, enum kind kind, bool lead, enum fault f,
    const char *text, unsigned ms)
{
	static const char *const what[] = { "is killed", "is killed, and that "
		"is told", "stops", "gives up", "leaves", "is late",
		"is killed amid traffic" };
	char full[256];
	bool dies = f == KILL || f == OBITUARY || f == STOP || f == TRAFFIC;
	int bad;

	wire(w, N, kind);
	w->body = fault_body;
	w->param = (int)f + (lead ? 100 : 0);
	w->o.alive_ms = f == STOP ? 500 : 0;
	w->o.step_ms = f == LATE ? 300 : 0;
	world_start(w, NULL);
	bad = world_wait(w, dies ? victim_of(w) : NO_VICTIM);
	snprintf(full, sizeof(full), "rank %u on %s%s", victim_of(w),
	    world_host(w, victim_of(w)), text);
	tap_ok(!bad && all_know(w, victim_of(w), full, ms),
	    "%s, rank %u %s: \"%s...\"", kind_name[kind], victim_of(w),
	    what[f], full);
}

/* ---- death in the middle of exchanges ---- */

static int
traffic_body(struct world *w, struct comm *c, struct err *e)
{
	struct comm_group *g = comm_group(c, 0);
	struct comm_span give[N], take[N];
	const void *from[N];
	int64_t x[100] = { 0 };

	for (unsigned i = 0; i < N; i++)
		give[i] = take[i] = (struct comm_span){ 0, CAP };
	for (int r = 0; r < 100000; r++) {
		if (r == w->param && comm_rank(c) == 2) {
			w->fault_ns = now_ns();
			raise(SIGKILL);
		}
		if (comm_share(g, give, take, from, e) == -1 ||
		    comm_reduce(g, COMM_SUM_I64, x, 100, e) == -1)
			return -1;
	}
	return 0;
}

static void
test_traffic(struct world *w, enum kind kind, int rounds)
{
	char text[64];
	int bad;

	wire(w, N, kind);
	w->body = traffic_body;
	w->param = rounds;
	world_start(w, NULL);
	bad = world_wait(w, 2);
	snprintf(text, sizeof(text), "rank 2 on %s died", world_host(w, 2));
	tap_ok(!bad && all_know(w, 2, text, SOON_MS), "%s, rank 2 is killed "
	    "in exchange %d", kind_name[kind], rounds);
}

/* ---- who doesn't belong ---- */

static const struct comm_chan_def other_chans[] = { { 0, 1, 1, 1 } };

enum { BUILD = 1, LAYOUT, MODEL, WIRING, WORLD, TWICE };

static void
be_wrong(struct world *w, unsigned rank, struct comm_opts *o)
{
	if (rank != 2)
		return;
	switch (w->param) {
	case BUILD:
		o->build = "0.2.0";
		break;
	case LAYOUT:
		o->layout = "tp6";
		break;
	case MODEL:
		o->model = "m2";
		break;
	case WIRING:
		o->wiring.chan = other_chans;
		o->wiring.nchan = 1;
		break;
	case WORLD:
		o->wiring.world++;
		break;
	case TWICE:
		usleep(150000);
		o->rank = 1;
		break;
	}
}

static int
no_body(struct world *w, struct comm *c, struct err *e)
{
	(void)w;
	(void)c;
	(void)e;
	return 0;
}

static void
test_wrong(struct world *w, enum kind kind, int how, const char *text)
{
	bool ok;

	wire(w, N, kind);
	w->body = no_body;
	w->param = how;
	w->tweak = be_wrong;
	w->o.join_ms = kind == MIXED ? 500 : 10000;
	world_start(w, NULL);
	ok = world_wait(w, NO_VICTIM) == 0;
	ok &= strstr(w->r[2].e.msg, text) && w->r[2].e.code == ERR_CALLER;
	if (!ok)
		printf("# %s\n", w->r[2].e.msg);
	/* a caller is dropped, the world waits on; a peer that the lead
	 * started ends it */
	if (kind == MIXED)
		ok &= all_know(w, 2, "rank 2 did not join within 500 ms", 0);
	else
		ok &= all_know(w, 2, text, 0) &&
		    w->r[0].e.code == ERR_CALLER;
	tap_ok(ok, "%s: \"%s\"", kind_name[kind], w->r[2].e.msg);
}

static void
test_absent(struct world *w, enum kind kind)
{
	bool ok;

	wire(w, N, kind);
	w->body = no_body;
	w->absent = 3;
	w->o.join_ms = 300;
	world_start(w, NULL);
	ok = world_wait(w, NO_VICTIM) == 0 &&
	    all_know(w, 3, "rank 3 did not join within 300 ms", 0);
	tap_ok(ok, "%s: \"%s\"", kind_name[kind], w->r[0].e.msg);
}

/* ---- strangers at the door ---- */

static int stranger[6];

static void
call_with(int i, const struct sockaddr_in *a, const void *p, size_t n)
{
	stranger[i] = tcp_call(a);
	if (n)
		(void)!send(stranger[i], p, n, MSG_NOSIGNAL);
}

static void
strangers_call(const struct sockaddr_in *a)
{
	static const uint8_t huge[] = { 'D', 'S', 'I', 'C', 1, 0, 1, 0,
		0xff, 0xff, 0xff, 0x7f };
	static const uint8_t future[] = { 'D', 'S', 'I', 'C', 9, 0, 1, 0,
		2, 0, 0, 0, 'h', 'i' };
	static const uint8_t lie[] = { 'D', 'S', 'I', 'C', 1, 0, 1, 0,
		8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8 };

	call_with(0, a, "GET / HTTP/1.1\r\n\r\n", 18);
	call_with(1, a, NULL, 0);
	call_with(2, a, huge, 5);
	call_with(3, a, huge, sizeof(huge));
	call_with(4, a, future, sizeof(future));
	call_with(5, a, lie, sizeof(lie));
}

/* What a stranger was told before it was dropped; -1: it was not. */
static ssize_t
answer(int i, char *s, size_t size, int ms)
{
	struct pollfd p = { stranger[i], POLLIN, 0 };
	ssize_t n, all_n = 0;

	while (poll(&p, 1, ms) == 1) {
		n = recv(stranger[i], s + all_n, size - (size_t)all_n, 0);
		if (n <= 0)
			return all_n;
		all_n += n;
	}
	return -1;
}

static void
test_strangers(struct world *w, bool complete)
{
	char s[6][600];
	ssize_t n[6];
	bool ok;

	wire(w, N, MIXED);
	w->body = no_body;
	w->absent = complete ? 0 : 4;
	w->o.join_ms = complete ? 10000 : 1200;
	world_start(w, strangers_call);
	for (int i = 0; i < 6; i++)	/* a quarter of join_ms for the mute */
		n[i] = answer(i, s[i], sizeof(s[i]), 1000);
	ok = world_wait(w, NO_VICTIM) == 0;
	for (unsigned i = 0; i < N && complete; i++)
		ok &= w->r[i].rc == 0;
	for (int i = 0; i < 6; i++) {
		close(stranger[i]);
		ok &= n[i] >= 0;
	}
	ok &= n[4] > 14 && memmem(s[4], (size_t)n[4], "protocol 1 at the lead,"
	    " 9 at", 28);
	ok &= n[5] > 14 && memmem(s[5], (size_t)n[5], "cannot be", 9);
	tap_ok(ok, "strangers are dropped, %s", complete ? "the world opens" :
	    "mute ones before the world is complete");
}

/* ---- a peer that lies ---- */

static int lie_at, lie_byte, nsent;
static uint8_t lie_value;

/* The built-in transport, but one byte of one head is another one. */
static int
lying_send(void *h, unsigned peer, const void *head, const void *body,
    size_t n, struct err *e)
{
	static uint8_t lie[COMM_FAR_HEAD];

	if (++nsent != lie_at)
		return comm_far_tcp.send(h, peer, head, body, n, e);
	memcpy(lie, head, sizeof(lie));
	lie[lie_byte] = lie_value;
	return comm_far_tcp.send(h, peer, lie, body, n, e);
}

static struct comm_far liar;

static void
be_liar(struct world *w, unsigned rank, struct comm_opts *o)
{
	(void)w;
	if (rank != 1)
		return;
	liar = comm_far_tcp;
	liar.send = lying_send;
	o->far = &liar;
}

static int
lie_body(struct world *w, struct comm *c, struct err *e)
{
	struct comm_group *g = comm_group(c, 0);
	struct comm_span part[2] = { { 0, 100 }, { 0, 100 } };
	const void *from[2], *v;
	int32_t x[4] = { 0 };
	size_t n;

	for (int r = 0; r < 10; r++) {
		if (comm_rank(c) == 0 ? comm_tell(c, "x", 1, e) == -1 :
		    comm_hear(c, &v, &n, e) == -1)
			return -1;
		if (comm_share(g, part, part, from, e) == -1 ||
		    comm_reduce(g, COMM_SUM_I32, x, 4, e) == -1)
			return -1;
	}
	w->fault_ns = 1;
	return 0;
}

static void
test_lie(struct world *w, int at, int byte, uint8_t value, const char *text)
{
	bool ok;

	wire(w, 2, APART);
	w->body = lie_body;
	w->tweak = be_liar;
	w->o.step_ms = 1000;
	lie_at = at;
	lie_byte = byte;
	lie_value = value;
	world_start(w, NULL);
	ok = world_wait(w, NO_VICTIM) == 0;
	ok &= w->r[0].rc == -1 && strstr(w->r[0].e.msg, "rank 1 on nodea") &&
	    strstr(w->r[0].e.msg, text) && w->r[1].rc == -1 &&
	    strcmp(w->r[0].e.msg, w->r[1].e.msg) == 0;
	tap_ok(ok, "a lie: %s", w->r[0].e.msg);
	if (!ok)
		printf("# want %s; rank 1 has %s\n", text, w->r[1].e.msg);
}

/* ---- sizes that differ ---- */

static int
differ_body(struct world *w, struct comm *c, struct err *e)
{
	struct comm_group *g = comm_group(c, 0);
	struct comm_span give[2] = { { 0, 100 }, { 0, 100 } };
	struct comm_span take[2] = { { 0, 100 }, { 0, 100 } };
	int32_t x[8] = { 0 };
	const void *from[2];

	if (w->param)
		return comm_reduce(g, COMM_SUM_I32, x, 4 + comm_rank(c), e);
	take[0].len += comm_rank(c);	/* rank 1 expects more */
	if (comm_share(g, give, take, from, e) == -1)
		return -1;
	return comm_share(g, NULL, NULL, NULL, e);
}

static void
test_differ(struct world *w, enum kind kind)
{
	for (int sum = 0; sum < 2; sum++) {
		bool ok;

		wire(w, 2, kind);
		w->body = differ_body;
		w->param = sum;
		world_start(w, NULL);
		ok = world_wait(w, NO_VICTIM) == 0;
		tap_ok(ok && all_know(w, N, sum ? "sum 0 of group 0" :
		    "exchange 0 of group 0", 0), "%s: \"%s\"",
		    kind_name[kind], w->r[0].e.msg);
	}
}

/* ---- hearing has no deadline, and waiting costs nothing ---- */

static int
idle_body(struct world *w, struct comm *c, struct err *e)
{
	struct rusage a, b;
	const void *v;
	size_t n;

	(void)w;
	/* and with patience, an exchange has none either */
	comm_patience(c, UINT64_MAX);
	if (comm_rank(c) == 4)
		usleep(400000);
	if (comm_share(comm_group(c, 0), NULL, NULL, NULL, e) == -1)
		return -1;
	comm_patience(c, 0);
	if (comm_rank(c) == 0) {
		usleep(1100000);
		return comm_tell(c, "x", 1, e);
	}
	getrusage(RUSAGE_SELF, &a);
	if (comm_hear(c, &v, &n, e) == -1)
		return -1;
	getrusage(RUSAGE_SELF, &b);
	if (b.ru_nvcsw - a.ru_nvcsw > WAKES || b.ru_utime.tv_sec -
	    a.ru_utime.tv_sec > 0)
		return err_set(e, 1, "woke %ld times in 1.1 s",
		    b.ru_nvcsw - a.ru_nvcsw);
	return 0;
}

static void
test_idle(struct world *w, enum kind kind)
{
	wire(w, N, kind);
	w->body = idle_body;
	w->o.step_ms = 300;
	tap_ok(world_run(w), "%s: comm_hear has no deadline, costs nothing",
	    kind_name[kind]);
}

static void
test_lies(struct world *w)
{
	/* the liar sends: a tell credit, a share, a sum, a credit... */
	test_lie(w, 2, 0, 'x', "not ours");
	test_lie(w, 2, 4, 99, "no known kind");
	test_lie(w, 2, 8, 7, "a group that we don't share");
	test_lie(w, 2, 12, 5, "not due");
	test_lie(w, 2, 20, 1, "more bytes");
	test_lie(w, 2, 27, 1, "more bytes");
	test_lie(w, 2, 31, 0xff, "more bytes");
	test_lie(w, 3, 24, 12, "sum 0 of group 0");
	test_lie(w, 3, 12, 9, "not due");
	test_lie(w, 1, 12, 9, "more messages heard");
	test_lie(w, 4, 24, 1, "more messages heard");
	test_lie(w, 2, 4, 3, "a channel that we don't share");
	test_lie(w, 2, 4, 4, "lead that is not due");
}

int
main(void)
{
	struct world *w = world_shared(sizeof(*w));

	for (enum kind k = SHARED; k < KINDS; k++) {
		test_fault(w, k, false, KILL, " died", SOON_MS);
		test_fault(w, k, true, KILL, " died", SOON_MS);
		test_fault(w, k, false, OBITUARY, " died: killed by signal 9",
		    SOON_MS);
		test_fault(w, k, false, STOP, ": no sign of life for 500 ms",
		    500 + SOON_MS);
		test_fault(w, k, true, STOP, ": no sign of life for 500 ms",
		    500 + SOON_MS);
		test_fault(w, k, false, FAIL, " gave up: out of coal",
		    SOON_MS);
		test_fault(w, k, true, FAIL, " gave up: out of coal",
		    SOON_MS);
		test_fault(w, k, false, LEAVE, " has left: it has not",
		    SOON_MS);
		test_fault(w, k, true, LEAVE, " has left: it has not",
		    SOON_MS);
		test_fault(w, k, false, LATE, " has not", 300 + SOON_MS);
		test_traffic(w, k, 40);
		test_absent(w, k);
		test_differ(w, k);
		if (k != APART)
			test_idle(w, k);
	}
	test_wrong(w, SHARED, BUILD, "build 0.1.0 at the lead, 0.2.0 at "
	    "rank 2 on nodea");
	test_wrong(w, SHARED, LAYOUT, "layout tp5 at the lead, tp6 at rank 2");
	test_wrong(w, SHARED, MODEL, "model m1 at the lead, m2 at rank 2");
	test_wrong(w, SHARED, WIRING, "wiring ");
	test_wrong(w, SHARED, WORLD, "a world of 5 ranks at the lead, of 6");
	test_wrong(w, SHARED, TWICE, "rank 1 is there twice");
	test_wrong(w, MIXED, BUILD, "build 0.1.0 at the lead, 0.2.0 at");
	test_wrong(w, MIXED, TWICE, "rank 1 is there twice");
	test_strangers(w, true);
	test_strangers(w, false);
	test_lies(w);
	return tap_done();
}
