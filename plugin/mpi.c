/*
 * mpi: the far transport over MPI, as a plug-in (comm_plug.h).
 *
 * MPI spins inside of its blocking calls, and there are more ranks than cores;
 * so nothing here blocks in MPI.  All waiting is done by looking, and sleeping
 * between looks for an eighth of what was waited already: a wait gets that much
 * longer at most, and one of hours costs next to nothing.
 *
 * The last piece of each message is sent synchronously.  So SENT means that
 * the receiver has it, not that a library has: ranks also sleep on shared
 * memory, where nobody would push on what MPI still holds.
 *
 * A receiver asks for a head first, and learns from it how much follows; both
 * have the world's tag, and MPI keeps their order.  A message of no bytes is
 * goodbye.
 */
#include <mpi.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "comm/comm_plug.h"

#define MS ((uint64_t)1000000)

enum {
	YIELDS = 4,			/* looks before the first sleep */
	NAP_MIN_NS = 10000,
	NAP_MAX_NS = 50000000,
	NAP_SHARE = 8,
	PIECE = 2 << 20,		/* of a body; MPI counts in int */
	LINGER_MS = 1000,		/* for goodbyes */
	END_MS = 10000,			/* for all to come to the end */
};

/* ---- MPI's state in this process ---- */

static MPI_Comm everyone = MPI_COMM_NULL;
static int my_rank, nranks, max_tag = 32767;

static int
failed(int code, struct err *e, const char *what)
{
	char s[MPI_MAX_ERROR_STRING] = "";
	int n = 0;

	MPI_Error_string(code, s, &n);
	return err_set(e, ERR_SYSTEM, "MPI: %s: %.*s", what, n, s);
}

/* How one waits. */
struct nap {
	uint64_t since_ns;		/* 0: has not begun */
	unsigned looks;
	int bell;			/* eventfd that ends it, or -1 */
};

/* Sleeps a little, not beyond deadline_ns.  True: the bell rang. */
static bool
doze(struct nap *n, uint64_t now, uint64_t deadline_ns)
{
	struct pollfd p = { n->bell, POLLIN, 0 };
	uint64_t ns;
	struct timespec t = {0};

	if (!n->since_ns)
		n->since_ns = now;
	if (n->looks++ < YIELDS) {
		sched_yield();
		return false;
	}
	ns = (now - n->since_ns) / NAP_SHARE;
	if (ns < NAP_MIN_NS)
		ns = NAP_MIN_NS;
	if (ns > NAP_MAX_NS)
		ns = NAP_MAX_NS;
	if (ns > deadline_ns - now)
		ns = deadline_ns - now;
	t.tv_nsec = (long)ns;
	return ppoll(&p, 1, &t, NULL) > 0;
}

/* 1: done; 0: not by then; -1: failed. */
static int
await(MPI_Request *r, MPI_Status *s, uint64_t end_ns, struct err *e)
{
	struct nap nap = { .bell = -1 };
	int done = 0, rc;

	for (;;) {
		uint64_t now;

		rc = MPI_Test(r, &done, s);
		if (rc != MPI_SUCCESS)
			return failed(rc, e, "wait");
		now = now_ns();
		if (done || now >= end_ns)
			return done;
		doze(&nap, now, end_ns);
	}
}

/* ---- the launcher's side ---- */

/* "Open MPI v4.1.4, package: ...", "MPICH Version:\t4.0.2\nMPICH ..." */
static const char *
library(void)
{
	static char text[MPI_MAX_LIBRARY_VERSION_STRING];
	int n = 0;

	MPI_Get_library_version(text, &n);
	text[strcspn(text, ",\n")] = '\0';
	for (char *p = text; *p; p++)
		if (*p == '\t')
			*p = ' ';
	return text;
}

/* Open MPI reads these when it starts; who sets them knows better.  Ranks of a
 * host share memory by themselves, so its own way to read another process's
 * memory, which containers forbid with noise, would gain nothing. */
static void
advise(void)
{
	setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
	setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0);
}

static int
plug_start(const char **text, struct err *e)
{
	int have, flag, rc, *ub;

	if (everyone != MPI_COMM_NULL)
		return err_set(e, ERR_CALLER, "MPI was started already");
	advise();
	rc = MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &have);
	if (rc != MPI_SUCCESS)
		return failed(rc, e, "start");
	MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
	everyone = MPI_COMM_WORLD;
	MPI_Comm_rank(everyone, &my_rank);
	MPI_Comm_size(everyone, &nranks);
	MPI_Comm_get_attr(everyone, MPI_TAG_UB, &ub, &flag);
	if (flag)
		max_tag = *ub;
	*text = library();
	if (have < MPI_THREAD_SERIALIZED)
		return err_set(e, ERR_SYSTEM, "%s was built without threads",
		    *text);
	return 0;
}

static unsigned
plug_rank(void)
{
	return (unsigned)my_rank;
}

static unsigned
plug_world(void)
{
	return (unsigned)nranks;
}

static int
plug_gather(const void *mine, size_t n, void *all, struct err *e)
{
	MPI_Request r;
	int rc;

	if (n > INT32_MAX / (size_t)nranks)
		return err_set(e, ERR_CALLER, "MPI: %zu bytes to gather", n);
	rc = MPI_Iallgather(mine, (int)n, MPI_BYTE, all, (int)n, MPI_BYTE,
	    everyone, &r);
	if (rc != MPI_SUCCESS)
		return failed(rc, e, "ask all ranks");
	return await(&r, MPI_STATUS_IGNORE, UINT64_MAX, e) == 1 ? 0 : -1;
}

/* MPI_Finalize waits for all, and may spin: so wait for them before. */
static void
plug_end(void)
{
	MPI_Request r;

	if (MPI_Ibarrier(everyone, &r) == MPI_SUCCESS &&
	    await(&r, MPI_STATUS_IGNORE, now_ns() + END_MS * MS, NULL) == 1)
		MPI_Finalize();
}

/* ---- the transport ---- */

enum { RECV, HEAD, BODY, PER_PEER };	/* requests of each peer */

struct peer {
	unsigned rank;
	bool gone, told;		/* it said goodbye */
	bool receiving, sending;	/* from the call to its event */
	char *in;
	size_t nin, got;
	const char *body;
	size_t nbody, sent;		/* sent: given to MPI */
};

struct mpi {
	const struct comm_far_world *w;	/* NULL: not joined */
	int tag, bell;
	struct peer *peer;		/* [n], as w->peer */
	size_t n, turn;
	struct peer **of;		/* [nranks] */
	MPI_Request *req;		/* [n * PER_PEER] */
	MPI_Status *status;		/* [n * PER_PEER], of those done: */
	int *done;
};

static int
mpi_open(void **out, const struct comm_far_self *self,
    char addr[COMM_FAR_ADDR], struct err *e)
{
	struct mpi *t;

	if (everyone == MPI_COMM_NULL || self->rank != (unsigned)my_rank ||
	    self->world > (unsigned)nranks)
		return err_set(e, ERR_CALLER, "rank %u of %u is not MPI's "
		    "rank %d of %d", self->rank, self->world, my_rank, nranks);
	t = mem_new(1, sizeof(*t), e);
	if (!t)
		return -1;
	t->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (t->bell == -1) {
		free(t);
		return err_sys(e, "eventfd");
	}
	snprintf(addr, COMM_FAR_ADDR, "%d", my_rank);
	*out = t;
	return 0;
}

/* Connections are MPI's own business, when the first message goes. */
static int
mpi_join(void *handle, const struct comm_far_world *w, struct err *e)
{
	struct mpi *t = handle;
	uint32_t secret;

	memcpy(&secret, w->token, sizeof(secret));
	t->tag = (int)(secret % ((uint32_t)max_tag + 1));
	t->n = w->npeer;
	t->peer = mem_new(t->n, sizeof(*t->peer), e);
	t->of = mem_new((size_t)nranks, sizeof(*t->of), e);
	t->req = mem_new(t->n * PER_PEER, sizeof(*t->req), e);
	t->status = mem_new(t->n * PER_PEER, sizeof(*t->status), e);
	t->done = mem_new(t->n * PER_PEER, sizeof(*t->done), e);
	if (!t->peer || !t->of || !t->req || !t->status || !t->done)
		return -1;
	for (size_t i = 0; i < t->n * PER_PEER; i++)
		t->req[i] = MPI_REQUEST_NULL;
	for (size_t i = 0; i < t->n; i++) {
		t->peer[i].rank = w->peer[i];
		t->of[w->peer[i]] = &t->peer[i];
	}
	t->w = w;
	return 0;
}

static MPI_Request *
request(struct mpi *t, const struct peer *p, int which)
{
	return &t->req[(p - t->peer) * PER_PEER + which];
}

static int
lost(struct mpi *t, const struct peer *p, int code, struct err *e)
{
	failed(code, e, "the far connection broke");
	return err_wrap(e, "rank %u on %s", p->rank, t->w->host[p->rank]);
}

/* The next piece of the body. */
static int
push(struct mpi *t, struct peer *p, struct err *e)
{
	size_t left = p->nbody - p->sent, n = left < PIECE ? left : PIECE;
	MPI_Request *r = request(t, p, BODY);
	int rc = n == left ?
	    MPI_Issend(p->body + p->sent, (int)n, MPI_BYTE, (int)p->rank,
	    t->tag, everyone, r) :
	    MPI_Isend(p->body + p->sent, (int)n, MPI_BYTE, (int)p->rank,
	    t->tag, everyone, r);

	p->sent += n;
	return rc == MPI_SUCCESS ? 0 : lost(t, p, rc, e);
}

static int
mpi_send(void *handle, unsigned peer, const void *head, const void *body,
    size_t n, struct err *e)
{
	struct mpi *t = handle;
	struct peer *p = t->of[peer];
	MPI_Request *r = request(t, p, HEAD);
	int rc;

	p->sending = true;
	p->body = body;
	p->nbody = n;
	p->sent = 0;
	if (p->gone) {			/* counts as done */
		p->sent = n;
		return 0;
	}
	rc = n ? MPI_Isend(head, COMM_FAR_HEAD, MPI_BYTE, (int)peer, t->tag,
	    everyone, r) : MPI_Issend(head, COMM_FAR_HEAD, MPI_BYTE,
	    (int)peer, t->tag, everyone, r);
	if (rc != MPI_SUCCESS)
		return lost(t, p, rc, e);
	return n ? push(t, p, e) : 0;
}

static int
pull(struct mpi *t, struct peer *p, struct err *e)
{
	size_t left = p->nin - p->got, n = left < PIECE ? left : PIECE;
	int rc = MPI_Irecv(p->in + p->got, (int)n, MPI_BYTE, (int)p->rank,
	    t->tag, everyone, request(t, p, RECV));

	return rc == MPI_SUCCESS ? 0 : lost(t, p, rc, e);
}

static int
mpi_recv(void *handle, unsigned peer, void *to, size_t n, struct err *e)
{
	struct mpi *t = handle;
	struct peer *p = t->of[peer];

	p->receiving = true;
	p->in = to;
	p->nin = n;
	p->got = 0;
	return p->gone ? 0 : pull(t, p, e);
}

/* ---- events ---- */

static int
on_piece(struct mpi *t, struct peer *p, const MPI_Status *s, struct err *e)
{
	size_t left = p->nin - p->got, want = left < PIECE ? left : PIECE;
	int n = 0;

	MPI_Get_count(s, MPI_BYTE, &n);
	if (n == 0) {
		p->gone = true;
		p->receiving = false;
		return 0;
	}
	if ((size_t)n != want)
		return err_set(e, ERR_SYSTEM, "rank %u on %s sent %d bytes "
		    "where %zu are due", p->rank, t->w->host[p->rank], n,
		    want);
	p->got += want;
	return p->got < p->nin ? pull(t, p, e) : 0;
}

/* Lets MPI work, and takes in what it has done. */
static int
look(struct mpi *t, struct err *e)
{
	int n = 0, rc;

	rc = MPI_Testsome((int)t->n * PER_PEER, t->req, &n, t->done,
	    t->status);
	if (rc != MPI_SUCCESS && rc != MPI_ERR_IN_STATUS)
		return failed(rc, e, "far connections");
	for (int i = 0; n != MPI_UNDEFINED && i < n; i++) {
		struct peer *p = &t->peer[t->done[i] / PER_PEER];
		int which = t->done[i] % PER_PEER;
		const MPI_Status *s = &t->status[i];

		if (rc == MPI_ERR_IN_STATUS && s->MPI_ERROR != MPI_SUCCESS &&
		    s->MPI_ERROR != MPI_ERR_PENDING)
			return lost(t, p, s->MPI_ERROR, e);
		if (which == RECV && on_piece(t, p, s, e) == -1)
			return -1;
		if (which == BODY && p->sent < p->nbody && push(t, p, e) == -1)
			return -1;
	}
	return 0;
}

static bool
all_sent(struct mpi *t, const struct peer *p)
{
	return p->gone || (p->sent == p->nbody &&
	    *request(t, p, HEAD) == MPI_REQUEST_NULL &&
	    *request(t, p, BODY) == MPI_REQUEST_NULL);
}

static bool
ready(struct mpi *t, struct comm_far_event *ev)
{
	for (size_t i = 0; i < t->n; i++) {
		struct peer *p = &t->peer[t->turn++ % t->n];

		ev->peer = p->rank;
		if (p->sending && all_sent(t, p)) {
			p->sending = false;
			ev->what = COMM_FAR_SENT;
			return true;
		}
		if (p->receiving && p->got == p->nin) {
			p->receiving = false;
			ev->what = COMM_FAR_GOT;
			return true;
		}
		if (p->gone && !p->told) {
			p->told = true;
			ev->what = COMM_FAR_GONE;
			return true;
		}
	}
	return false;
}

static int
mpi_next(void *handle, uint64_t deadline_ns, struct comm_far_event *ev,
    struct err *e)
{
	struct mpi *t = handle;
	struct nap nap = { .bell = t->bell };
	uint64_t rings;

	while (!ready(t, ev)) {
		uint64_t now;

		if (look(t, e) == -1)
			return -1;
		if (ready(t, ev))
			return 0;
		ev->what = COMM_FAR_NONE;
		if (deadline_ns == 0 || t->w->stopped(t->w->arg))
			return 0;
		now = now_ns();
		if (now >= deadline_ns)
			return 0;
		if (doze(&nap, now, deadline_ns) &&
		    read(t->bell, &rings, sizeof(rings)) == sizeof(rings))
			return 0;
	}
	return 0;
}

static void
mpi_poke(void *handle)
{
	const struct mpi *t = handle;
	uint64_t one = 1;

	(void)!write(t->bell, &one, sizeof(one));
}

/* ---- closing ---- */

/* Receives that nobody will want.  How many peers have not said goodbye? */
static size_t
stop_receiving(struct mpi *t, uint64_t end_ns)
{
	size_t left = 0;

	for (size_t i = 0; i < t->n; i++) {
		struct peer *p = &t->peer[i];
		MPI_Request *r = request(t, p, RECV);
		MPI_Status s;
		int off = 1, n = 1;

		if (*r != MPI_REQUEST_NULL && MPI_Cancel(r) == MPI_SUCCESS &&
		    await(r, &s, end_ns, NULL) == 1) {
			MPI_Test_cancelled(&s, &off);
			MPI_Get_count(&s, MPI_BYTE, &n);
			p->gone |= !off && n == 0;
		}
		left += !p->gone;
	}
	return left;
}

/* Takes one message that has come, if any, and throws it away.  1: it was
 * goodbye; -1: none has come. */
static int
discard(struct mpi *t, uint64_t end_ns)
{
	MPI_Message m;
	MPI_Request r;
	MPI_Status s;
	int there = 0, n = 0;
	char *trash;

	if (MPI_Improbe(MPI_ANY_SOURCE, t->tag, everyone, &there, &m, &s) !=
	    MPI_SUCCESS || !there)
		return -1;
	MPI_Get_count(&s, MPI_BYTE, &n);
	trash = mem_new((size_t)n, 1, NULL);
	if (trash && MPI_Imrecv(trash, n, MPI_BYTE, &m, &r) == MPI_SUCCESS &&
	    await(&r, MPI_STATUS_IGNORE, end_ns, NULL) == 1)
		free(trash);		/* else MPI still writes there */
	return n == 0;
}

static void
say_goodbye(struct mpi *t)
{
	for (size_t i = 0; i < t->n; i++) {
		MPI_Request *r = request(t, &t->peer[i], HEAD);

		if (*r == MPI_REQUEST_NULL)
			MPI_Isend(NULL, 0, MPI_BYTE, (int)t->peer[i].rank,
			    t->tag, everyone, r);
	}
}

/* Goodbye to all, and from all: of messages that nobody has received some MPIs
 * complain, and others keep them for the next world. */
static void
leave(struct mpi *t)
{
	uint64_t end = now_ns() + LINGER_MS * MS, now;
	struct nap nap = { .bell = -1 };
	size_t left;
	int all = 0, got;

	say_goodbye(t);
	left = stop_receiving(t, end);
	while (now = now_ns(), (left || !all) && now < end) {
		MPI_Testall((int)t->n * PER_PEER, t->req, &all, t->status);
		while (left && (got = discard(t, end)) != -1)
			left -= got == 1;
		doze(&nap, now, end);
	}
}

static void
mpi_close(void *handle)
{
	struct mpi *t = handle;

	if (t->w && t->w->stopped(t->w->arg))
		stop_receiving(t, now_ns() + LINGER_MS * MS);
	else if (t->w)
		leave(t);
	close(t->bell);
	free(t->peer);
	free(t->of);
	free(t->req);
	free(t->status);
	free(t->done);
	free(t);
}

/* ---- what others see ---- */

static const struct comm_far mpi_far = {
	.name = "mpi", .open = mpi_open, .join = mpi_join, .send = mpi_send,
	.recv = mpi_recv, .next = mpi_next, .poke = mpi_poke,
	.close = mpi_close,
};

__attribute__((visibility("default"))) extern const struct comm_plug dsi_plug;

const struct comm_plug dsi_plug = {
	.version = COMM_PLUG_VERSION, .build = DSI_VERSION, .far = &mpi_far,
	.start = plug_start, .rank = plug_rank, .world = plug_world,
	.gather = plug_gather, .end = plug_end,
};
