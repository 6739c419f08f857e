/*
 * world: forks the ranks of a world and collects how each one fared.
 *
 * Or, with DSI_TRANSPORT=mpi, mpirun has started them: then each process runs
 * the same tests, is one rank in those that have as many, and the far
 * transport is MPI's.
 */
#ifndef DSI_TEST_WORLD_H
#define DSI_TEST_WORLD_H

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "comm/comm.h"
#include "launch/mpi.h"
#include "tap.h"

enum { RANKS = 16, FDS = 512 };

/* One host; every rank a host of its own, over inherited sockets; some hosts
 * with some ranks each, over a listening TCP socket. */
enum kind { SHARED, APART, MIXED, KINDS };

static const char *const kind_name[] = { "shared", "apart", "mixed" };

struct result {
	bool opened, closed;
	int rc;				/* of the body, or of opening */
	struct err e;
	uint64_t end_ns;		/* when the body returned */
	int fds, tasks, maps;		/* more than before opening */
};

/* Lives in shared memory. */
struct world {
	unsigned n;
	enum kind kind;
	struct comm_opts o;		/* wiring.world and rank: set here */
	/* Changes o for one rank, before it opens; may be NULL. */
	void (*tweak)(struct world *w, unsigned rank, struct comm_opts *o);
	int (*body)(struct world *w, struct comm *c, struct err *e);
	int param;
	unsigned absent;		/* a rank that isn't started; 0: none */
	uint64_t fault_ns;		/* when the victim struck */
	pid_t pid[RANKS];
	struct result r[RANKS];
};

static inline void *
world_shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		exit(111);
	return p;
}

static inline int
count_dir(const char *path)
{
	DIR *d = opendir(path);
	int n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static inline int
count_maps(void)
{
	struct buf b = {0};
	int n = 0;

	io_slurp("/proc/self/maps", 1 << 24, &b, NULL);
	for (char *p = b.p; p && (p = strstr(p, "memfd:dsi")); p++)
		n++;
	buf_free(&b);
	return n;
}

static inline void *
no_work(void *arg)
{
	return arg;
}

/* A joined thread may be seen for a moment longer. */
static inline int
tasks_beyond(int n)
{
	int now = 0;

	for (int i = 0; i < 200; i++) {
		now = count_dir("/proc/self/task");
		if (now <= n)
			break;
		usleep(1000);
	}
	return now - n;
}

/* ThreadSanitizer starts a thread of its own beside a process's first. */
static inline int
count_tasks(void)
{
	pthread_t t;

	if (pthread_create(&t, NULL, no_work, NULL) == 0)
		pthread_join(t, NULL);
	usleep(2000);
	return count_dir("/proc/self/task");
}

static inline int
tcp_listener(struct sockaddr_in *a)
{
	socklen_t n = sizeof(*a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*a = (struct sockaddr_in){ .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	if (fd == -1 || bind(fd, (void *)a, sizeof(*a)) == -1 ||
	    listen(fd, 64) == -1 || getsockname(fd, (void *)a, &n) == -1)
		exit(111);
	return fd;
}

static inline int
tcp_call(const struct sockaddr_in *a)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd == -1 || connect(fd, (const void *)a, sizeof(*a)) == -1)
		exit(111);
	return fd;
}

static inline const char *
world_host(const struct world *w, unsigned rank)
{
	static const char *const name[] = { "nodea", "nodeb", "nodec" };

	if (w->kind == MIXED)
		return name[rank % (w->n > 5 ? 3 : 2)];
	return "nodea";
}

static inline void
world_opts(struct world *w, unsigned rank, struct comm_opts *o)
{
	*o = w->o;
	o->rank = rank;
	o->wiring.world = w->n;
	o->apart = w->kind == APART;
	setenv("DSI_HOST_ID", world_host(w, rank), 1);
	if (w->tweak)
		w->tweak(w, rank, o);
}

static inline void
world_live(struct world *w, struct result *r, struct comm *c)
{
	if (r->rc == 0) {
		r->opened = true;
		r->rc = w->body(w, c, &r->e);
	}
	r->end_ns = now_ns();
	comm_close(&c);
	r->closed = true;
}

static inline void
world_child(struct world *w, unsigned rank, const int *fd, size_t nfd,
    int listener, const struct sockaddr_in *a)
{
	struct comm_opts o;
	struct result *r = &w->r[rank];
	struct comm *c = NULL;
	int fds, tasks = count_tasks(), maps = count_maps();

	alarm(60);
	world_opts(w, rank, &o);
	fds = count_dir("/proc/self/fd") - (int)nfd - (listener != -1);
	if (rank == 0)
		r->rc = comm_lead(&c, &o, fd, nfd, listener, &r->e);
	else
		r->rc = comm_join(&c, &o, w->kind == MIXED ? tcp_call(a) :
		    fd[0], &r->e);
	world_live(w, r, c);
	r->fds = count_dir("/proc/self/fd") - fds;
	r->tasks = tasks_beyond(tasks);
	r->maps = count_maps() - maps;
	exit(0);			/* sanitizers look for leaks here */
}

static inline void
world_fork(struct world *w, unsigned rank, int sv[][2], int listener,
    const struct sockaddr_in *a)
{
	int fd[RANKS];
	size_t nfd = 0;

	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid != 0) {
		w->pid[rank] = pid;
		return;
	}
	for (unsigned k = 1; k < w->n && w->kind != MIXED; k++) {
		if (rank == 0)
			fd[nfd++] = sv[k][0];
		else if (k == rank)
			fd[nfd++] = sv[k][1];
		if (rank != 0)
			close(sv[k][0]);
		if (rank != k)
			close(sv[k][1]);
	}
	if (rank != 0 && listener != -1)
		close(listener);
	world_child(w, rank, fd, nfd, rank == 0 ? listener : -1, a);
}

/* Starts all ranks; before the peers, call(arg, address) may meddle with the
 * listener of a MIXED world. */
static inline void
world_start(struct world *w, void (*call)(const struct sockaddr_in *a))
{
	struct sockaddr_in a;
	int sv[RANKS][2], listener = -1;

	memset(w->r, 0, sizeof(w->r));
	memset(w->pid, 0, sizeof(w->pid));
	if (w->kind == MIXED)
		listener = tcp_listener(&a);
	for (unsigned i = 1; i < w->n && w->kind != MIXED; i++) {
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv[i]) == -1)
			exit(111);
	}
	world_fork(w, 0, sv, listener, &a);
	if (call)
		call(&a);
	for (unsigned i = 1; i < w->n; i++) {
		if (i != w->absent)
			world_fork(w, i, sv, listener, &a);
	}
	for (unsigned i = 1; i < w->n && w->kind != MIXED; i++) {
		close(sv[i][0]);
		/* an absent rank: its socket stays open and says nothing */
		if (i != w->absent)
			close(sv[i][1]);
	}
	if (listener != -1)
		close(listener);
}

/* Waits for all but victim, which is killed then (NO_VICTIM: for all).
 * Returns how many ended otherwise than by exit(0). */
enum { NO_VICTIM = RANKS };

static inline int
world_wait(struct world *w, unsigned victim)
{
	int bad = 0, st;

	for (unsigned i = 0; i < w->n; i++) {
		if (i == victim || w->pid[i] <= 0)
			continue;
		if (waitpid(w->pid[i], &st, 0) != w->pid[i] || st != 0) {
			printf("# rank %u: wait status %#x\n", i, st);
			bad++;
		}
	}
	if (victim != NO_VICTIM) {
		kill(w->pid[victim], SIGKILL);
		waitpid(w->pid[victim], &st, 0);
	}
	return bad;
}

/* ---- under mpirun ---- */

static struct mpi *world_mpi;		/* NULL: not so */

/* Rank 0 speaks. */
static inline void
world_mpi_open(void)
{
	const char *t = getenv("DSI_TRANSPORT");
	struct err e = {0};

	if (!t || strcmp(t, "mpi") != 0)
		return;
	if (mpi_open(&world_mpi, &e) == -1) {
		printf("Bail out! %s\n", e.msg);
		exit(111);
	}
	if (mpi_rank(world_mpi) != 0 && !freopen("/dev/null", "w", stdout))
		exit(111);
}

static inline bool
world_run_mpi(struct world *w)
{
	const struct deploy d = { .lead = "127.0.0.1" };
	struct engine_link link = {0};
	unsigned rank = mpi_rank(world_mpi);
	struct result r = {0};
	struct comm_opts o;
	struct comm *c = NULL;
	char where[MPI_WHERE];

	alarm(60);
	r.rc = mpi_find_lead(world_mpi, &d, &link, where, &r.e);
	if (r.rc == 0 && rank < w->n) {
		world_opts(w, rank, &o);
		o.far = mpi_far(world_mpi);
		r.rc = rank == 0 ?
		    comm_lead(&c, &o, NULL, 0, link.listen_fd, &r.e) :
		    comm_join(&c, &o, launch_dial(where, 10000, NULL, NULL,
		    &r.e), &r.e);
		world_live(w, &r, c);
	} else if (link.listen_fd != -1) {
		close(link.listen_fd);
	}
	if (mpi_agree(world_mpi, r.rc, &r.e) == 0)
		return true;
	printf("# %s\n", r.e.msg);
	return false;
}

/* Runs a world in which nothing goes wrong; true if nothing did. */
static inline bool
world_run(struct world *w)
{
	bool ok = true;

	if (world_mpi)
		return world_run_mpi(w);
	world_start(w, NULL);
	ok = world_wait(w, NO_VICTIM) == 0;
	for (unsigned i = 0; i < w->n; i++) {
		const struct result *r = &w->r[i];

		if (r->rc != 0 || !r->closed)
			printf("# rank %u: %s\n", i, r->e.msg);
		if (r->fds || r->tasks || r->maps)
			printf("# rank %u leaves %d fds, %d threads, %d maps\n",
			    i, r->fds, r->tasks, r->maps);
		ok &= r->rc == 0 && r->closed && !r->fds && !r->tasks &&
		    !r->maps;
	}
	return ok;
}

/* A hash, for sizes, contents and delays that all ranks know. */
static inline uint32_t
mixed(uint32_t a, uint32_t b, uint32_t c)
{
	uint32_t h = a * 0x9e3779b1u ^ b * 0x85ebca77u ^ c * 0xc2b2ae3du;

	h = (h ^ h >> 15) * 0x2c1b3c6du;
	h = (h ^ h >> 12) * 0x297a2d39u;
	return h ^ h >> 15;
}

#endif
