/*
 * mpi: the plug-in found and loaded, and what ranks must know of each other
 * before their world begins.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "comm/comm_plug.h"
#include "launch/mpi.h"

enum { HOST = 64, TEXT = 600, TURN_MS = 3000, NEXT_MS = 20 };

struct mpi {
	const struct comm_plug *plug;
	const char *library;		/* its name and version */
	bool first;
};

/* What all ranks tell each other. */
struct word {
	int32_t code;			/* 0: all is well */
	char host[HOST];
	char text[TEXT];
};

/* ---- before MPI is up ---- */

bool
mpi_wanted(const struct deploy *d)
{
	return d->exec == DEPLOY_MPI ||
	    (d->exec == DEPLOY_RAY && deploy_mpi_size() > 0);
}

/* As Open MPI's mpirun, MPICH's, or Slurm says; 0: none of them. */
static unsigned
rank_said(void)
{
	static const char *const name[] = { "OMPI_COMM_WORLD_RANK", "PMI_RANK",
	    "SLURM_PROCID" };
	uint64_t n;
	size_t i;

	for (i = 0; i < 3; i++) {
		const char *v = getenv(name[i]);

		if (v && num_u64(v, UINT32_MAX, &n) == 0)
			return (unsigned)n;
	}
	return 0;
}

void
mpi_take_turn(const struct mpi *m)
{
	unsigned rank = m ? mpi_rank(m) : rank_said();
	uint64_t ms = rank ? TURN_MS + (uint64_t)rank * NEXT_MS : 0;
	struct timespec t = { (time_t)(ms / 1000),
		(long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

/* ---- the plug-in ---- */

/* RTLD_GLOBAL: Open MPI loads components that want its symbols.  It is never
 * unloaded: MPI leaves handlers behind. */
static int
load(struct mpi *m, const char *path, struct err *e)
{
	void *so = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
	const struct comm_plug *p;

	if (!so)
		return err_set(e, ERR_CALLER, "the MPI plug-in: %s",
		    dlerror());
	p = dlsym(so, COMM_PLUG_SYMBOL);
	if (!p || p->version != COMM_PLUG_VERSION ||
	    strcmp(p->build, dsi_version) != 0)
		return err_set(e, ERR_CALLER, "the MPI plug-in %s is not of "
		    "this build, dsi %s", path, dsi_version);
	m->plug = p;
	return 0;
}

static int
find_plug(struct mpi *m, struct err *e)
{
	static const char name[] = "../lib/dsi/dsi-mpi.so";
	const char *own = getenv("DSI_MPI_PLUGIN");
	char self[4096];
	struct buf b = { 0 };
	ssize_t n;
	int rc;

	if (own && *own)
		return load(m, own, e);
	n = readlink("/proc/self/exe", self, sizeof self - 1);
	self[n > 0 ? n : 0] = '\0';
	if (strrchr(self, '/'))
		*strrchr(self, '/') = '\0';
	io_path(&b, self, name);
	if (buf_ok(&b, e) == -1)
		return -1;
	if (access(b.p, R_OK) == -1)
		rc = err_set(e, ERR_CALLER, "there is no MPI plug-in %s: it "
		    "is made where mpicc is; DSI_MPI_PLUGIN names another",
		    b.p);
	else
		rc = load(m, b.p, e);
	buf_free(&b);
	return rc;
}

/* The launcher and the library must be of one make: each process is alone in
 * its world otherwise. */
static int
check_launcher(const struct mpi *m, struct err *e)
{
	unsigned said = deploy_mpi_size(), n = m->plug->world();

	if (said > 1 && n == 1)
		return err_set(e, ERR_CALLER, "the launcher has started %u "
		    "ranks, but the plug-in's MPI, %s, sees 1: they are of "
		    "different makes (DSI_MPI_PLUGIN names another plug-in)",
		    said, m->library);
	if (n > PLAN_MAX_RANKS)
		return err_set(e, ERR_CALLER, "%u ranks were started, more "
		    "than %d", n, PLAN_MAX_RANKS);
	return 0;
}

/* ---- all ranks ---- */

static void
my_word(struct word *w, int code, const char *text)
{
	memset(w, 0, sizeof *w);
	w->code = code;
	if (gethostname(w->host, sizeof w->host - 1) == -1)
		snprintf(w->host, sizeof w->host, "?");
	snprintf(w->text, sizeof w->text, "%s", text);
}

/* Everyone's word, to be freed; NULL: failed. */
static struct word *
hear_all(struct mpi *m, int code, const char *text, struct err *e)
{
	struct word mine, *all = mem_new(m->plug->world(), sizeof *all, e);

	my_word(&mine, code, text);
	if (all && m->plug->gather(&mine, sizeof mine, all, e) == -1) {
		free(all);
		return NULL;
	}
	return all;
}

static int
find_first(struct mpi *m, struct err *e)
{
	struct word *all = hear_all(m, 0, "", e);
	unsigned i, me = m->plug->rank();

	if (!all)
		return -1;
	for (i = 0; i < me && strcmp(all[i].host, all[me].host) != 0; i++)
		;
	m->first = i == me;
	free(all);
	return 0;
}

int
mpi_open(struct mpi **out, struct err *e)
{
	struct mpi *m = mem_new(1, sizeof *m, e);

	*out = m;
	if (m && find_plug(m, e) == 0 && m->plug->start(&m->library, e) == 0 &&
	    check_launcher(m, e) == 0 && find_first(m, e) == 0)
		return 0;
	free(m);
	*out = NULL;
	return -1;
}

void
mpi_close(struct mpi **mp, bool good)
{
	if (*mp && good)
		(*mp)->plug->end();
	free(*mp);
	*mp = NULL;
}

unsigned
mpi_rank(const struct mpi *m)
{
	return m->plug->rank();
}

bool
mpi_first(const struct mpi *m)
{
	return m->first;
}

const struct comm_far *
mpi_far(const struct mpi *m)
{
	return m->plug->far;
}

int
mpi_agree(struct mpi *m, int rc, struct err *e)
{
	struct word *all = hear_all(m, rc == -1 ? e->code : 0, e->msg, e);
	unsigned i, n = m->plug->world();

	if (!all)
		return -1;
	for (i = 0; i < n && all[i].code == 0; i++)
		;
	if (i == 0)
		err_set(e, all[0].code, "%s", all[0].text);
	else if (i < n)
		err_set(e, all[i].code, "rank %u on %s: %s", i, all[i].host,
		    all[i].text);
	free(all);
	return i < n ? -1 : 0;
}

int
mpi_check(const struct mpi *m, const struct deploy *d, struct err *e)
{
	unsigned n = m->plug->world();

	if (n != d->size)
		return err_set(e, ERR_CALLER, "data %u * tensor %u * pipeline "
		    "%u are %u ranks, MPI has started %u", d->data,
		    d->layout.tp, d->layout.pp, d->size, n);
	return 0;
}

/* ---- where the lead is ---- */

/* The first address of interface name, or, if that is NULL, of any that
 * others can reach; IPv4 before IPv6.  "": there is none. */
static void
own_address(const char *name, char *s, size_t size)
{
	struct ifaddrs *all, *a;
	int want, rc;

	s[0] = '\0';
	if (getifaddrs(&all) == -1)
		return;
	for (want = AF_INET; !s[0]; want = AF_INET6) {
		for (a = all; a && !s[0]; a = a->ifa_next) {
			if (!a->ifa_addr || a->ifa_addr->sa_family != want ||
			    !(a->ifa_flags & IFF_RUNNING) || (name ?
			    strcmp(name, a->ifa_name) != 0 :
			    (a->ifa_flags & IFF_LOOPBACK) != 0))
				continue;
			rc = getnameinfo(a->ifa_addr, want == AF_INET ?
			    sizeof(struct sockaddr_in) :
			    sizeof(struct sockaddr_in6), s, (socklen_t)size,
			    NULL, 0, NI_NUMERICHOST);
			if (rc != 0 || strchr(s, '%'))	/* link-local */
				s[0] = '\0';
		}
		if (want == AF_INET6)
			break;
	}
	freeifaddrs(all);
}

static int
port_of(int fd, unsigned *port, struct err *e)
{
	struct sockaddr_storage a = { 0 };
	socklen_t n = sizeof a;

	if (getsockname(fd, (void *)&a, &n) == -1)
		return err_sys(e, "port of a socket");
	*port = ntohs(a.ss_family == AF_INET6 ?
	    ((struct sockaddr_in6 *)&a)->sin6_port :
	    ((struct sockaddr_in *)&a)->sin_port);
	return 0;
}

/* Any free port, at the interface or address that was asked for. */
static int
listen_here(const struct deploy *d, int *fd, char where[MPI_WHERE],
    struct err *e)
{
	bool named = strcmp(d->lead, "127.0.0.1") != 0;
	char addr[128];
	unsigned port = 0;

	own_address(d->ifname[0] ? d->ifname : NULL, addr, sizeof addr);
	if (d->ifname[0] && !addr[0])
		return err_set(e, ERR_CALLER, "network interface %s (%s) is "
		    "not there or has no address", d->ifname, d->ifname_from);
	if (named && !d->ifname[0])
		snprintf(addr, sizeof addr, "%s", d->lead);
	if (!addr[0])
		snprintf(addr, sizeof addr, "127.0.0.1");
	*fd = launch_listen(addr, 0, e);
	if (*fd == -1 || port_of(*fd, &port, e) == -1)
		return -1;
	snprintf(where, MPI_WHERE, strchr(addr, ':') ? "[%s]:%u" : "%s:%u",
	    addr, port);
	return 0;
}

int
mpi_find_lead(struct mpi *m, const struct deploy *d, struct engine_link *link,
    char where[MPI_WHERE], struct err *e)
{
	struct word *all;
	int rc = 0;

	link->lead_fd = link->listen_fd = -1;
	link->comm.rank = mpi_rank(m);
	where[0] = '\0';
	if (mpi_rank(m) == 0)
		rc = listen_here(d, &link->listen_fd, where, e);
	all = hear_all(m, rc == -1 ? e->code : 0, rc == -1 ? e->msg : where,
	    e);
	if (!all)
		return -1;
	if (all[0].code)
		rc = err_set(e, all[0].code, "%s", all[0].text);
	else
		snprintf(where, MPI_WHERE, "%.*s", MPI_WHERE - 1,
		    all[0].text);
	free(all);
	return rc;
}
