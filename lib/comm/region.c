/*
 * region: the memory that the ranks of one host share.
 *
 * It has no name in any file system, so nothing is left of it whatever dies:
 * the lowest rank of the host makes a memfd and hands its descriptor to the
 * others over an abstract socket, to processes of its own user that know the
 * world's token.  Pages appear when they are touched; every rank works out
 * from the wiring where everything lies.
 */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <fcntl.h>
#include <unistd.h>

#include "comm/comm_priv.h"

enum { SLICE_MS = 2000 };		/* for one caller to say who it is */

struct claim {				/* what a local rank shows for the fd */
	uint8_t token[COMM_TOKEN];
	uint32_t rank;
};

size_t
region_take(size_t *at, size_t n, size_t size)
{
	size_t total, end, from, align;

	if (*at == SIZE_MAX || !mul_ok(n, size, &total) ||
	    total > PTRDIFF_MAX / 4)
		goto over;
	align = total >= 4096 ? 4096 : 64;
	if (!add_ok(*at, align - 1, &from))
		goto over;
	from -= from % align;
	if (!add_ok(from, total, &end) || end > PTRDIFF_MAX / 2)
		goto over;
	*at = end;
	return from;
over:
	*at = SIZE_MAX;
	return 0;
}

int
unix_listen(char name[COMM_UNIX], struct err *e)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	socklen_t n = sizeof(a);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
	    0);

	/* without a name the kernel finds a free abstract one */
	if (fd == -1 || bind(fd, (void *)&a, sizeof(a.sun_family)) == -1 ||
	    listen(fd, COMM_MAX_RANKS) == -1 ||
	    getsockname(fd, (void *)&a, &n) == -1) {
		err_sys(e, "socket for the shared memory");
		if (fd != -1)
			close(fd);
		return -1;
	}
	n -= offsetof(struct sockaddr_un, sun_path) + 1;
	snprintf(name, COMM_UNIX, "%.*s", (int)n, a.sun_path + 1);
	return fd;
}

static bool
same_user(int fd)
{
	struct ucred u;
	socklen_t n = sizeof(u);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &n) == 0 &&
	    u.uid == geteuid();
}

/* Waits for fd, but not beyond the world's end or the deadline. */
static int
ready(struct comm *c, int fd, uint64_t deadline_ns, struct err *e)
{
	struct pollfd p[2] = {
		{ .fd = fd, .events = POLLIN },
		{ .fd = c->news_fd, .events = POLLIN },
	};
	uint64_t now = now_ns();
	int ms = deadline_ns > now ? (int)((deadline_ns - now) / 1000000) : 0;

	if (poll(p, 2, ms) == -1 && errno != EINTR)
		return world_end(c, ERR_SYSTEM, e, "poll: %m");
	if (atomic_load(&c->ended))
		return world_over(c, e);
	if (now_ns() >= deadline_ns)
		return 1;
	return 0;
}

static void
pass_fd(int to, int memfd)
{
	char byte = 0;
	struct iovec v = { &byte, 1 };
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u = {0};
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1,
		.msg_control = u.space, .msg_controllen = sizeof(u.space) };
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);

	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &memfd, sizeof(int));
	(void)!sendmsg(to, &m, MSG_NOSIGNAL);
}

static int
take_fd(int from)
{
	char byte;
	struct iovec v = { &byte, 1 };
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u = {0};
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1,
		.msg_control = u.space, .msg_controllen = sizeof(u.space) };
	struct cmsghdr *h;
	int fd = -1;

	if (recvmsg(from, &m, MSG_CMSG_CLOEXEC) != 1)
		return -1;
	h = CMSG_FIRSTHDR(&m);
	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS &&
	    h->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(h), sizeof(int));
	return fd;
}

/* One caller: a rank of this host that has not been served yet, or nobody. */
static int
serve(struct comm *c, int fd, int memfd, bool *served, unsigned *nserved,
    struct err *e)
{
	struct claim q;
	uint64_t end = deadline_in((uint64_t)SLICE_MS * 1000000);

	if (!same_user(fd))
		return 0;
	if (ready(c, fd, end, e) == -1)
		return -1;
	if (recv(fd, &q, sizeof(q), MSG_DONTWAIT) != sizeof(q) ||
	    memcmp(q.token, c->token, sizeof(q.token)) != 0 ||
	    q.rank >= c->world || c->info[q.rank].host !=
	    c->info[c->rank].host || served[c->info[q.rank].local])
		return 0;
	pass_fd(fd, memfd);
	served[c->info[q.rank].local] = true;
	++*nserved;
	return 0;
}

static int
serve_all(struct comm *c, int unix_fd, int memfd, struct err *e)
{
	bool served[COMM_MAX_RANKS] = { true };
	unsigned n = 1;

	while (n < c->nlocal) {
		int fd, r = ready(c, unix_fd, c->join_end_ns, e);

		if (r == -1)
			return -1;
		if (r == 1) {
			char who[COMM_WORDS / 2];

			ranks_text(served, c->nlocal, who, sizeof(who));
			return world_end(c, ERR_SYSTEM, e, "the shared memory "
			    "of %s: not asked for by %s of it in time",
			    c->info[c->rank].name, who);
		}
		fd = accept4(unix_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd == -1)
			continue;
		r = serve(c, fd, memfd, served, &n, e);
		close(fd);
		if (r == -1)
			return -1;
	}
	return 0;
}

static int
make(struct comm *c, int unix_fd, struct err *e)
{
	int fd = memfd_create("dsi", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd == -1 || ftruncate(fd, (off_t)c->size) == -1 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == -1) {
		world_end(c, ERR_SYSTEM, e, "shared memory of %zu bytes: %m",
		    c->size);
		goto fail;
	}
	if (serve_all(c, unix_fd, fd, e) == 0)
		return fd;
fail:
	if (fd != -1)
		close(fd);
	return -1;
}

static int
fetch(struct comm *c, struct err *e)
{
	const char *name = c->info[c->local_rank[0]].unix_name;
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	size_t n = strnlen(name, sizeof(a.sun_path) - 1);
	struct claim q = { .rank = c->rank };
	char who[COMM_NAME + 32];
	int memfd = -1, s, r;

	memcpy(a.sun_path + 1, name, n);
	memcpy(q.token, c->token, sizeof(q.token));
	s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (s != -1 && connect(s, (void *)&a, (socklen_t)(offsetof(
	    struct sockaddr_un, sun_path) + 1 + n)) == 0 && same_user(s) &&
	    send(s, &q, sizeof(q), MSG_NOSIGNAL) == sizeof(q)) {
		while ((r = ready(c, s, c->join_end_ns, e)) == 0 &&
		    (memfd = take_fd(s)) == -1 && errno == EINTR)
			continue;
		if (r == -1)
			goto out;
	}
	if (memfd == -1)
		world_end(c, ERR_SYSTEM, e, "%s gave no shared memory%s",
		    comm_who(c, c->local_rank[0], who, sizeof(who)),
		    s != -1 && !same_user(s) ? ": it is another user's" : "");
out:
	if (s != -1)
		close(s);
	return memfd;
}

int
region_open(struct comm *c, int unix_fd, size_t size, struct err *e)
{
	struct stat st;
	bool lacks;			/* touching it would be fatal */
	int fd;

	if (size == SIZE_MAX)
		return world_end(c, ERR_CALLER, e, "buffers of all groups and "
		    "channels together: beyond what can be mapped");
	c->size = size ? (size + 4095) / 4096 * 4096 : 4096;
	fd = c->local == 0 ? make(c, unix_fd, e) : fetch(c, e);
	if (fd == -1)
		return -1;
	lacks = fstat(fd, &st) == -1 || (uint64_t)st.st_size < c->size;
	c->base = mmap(NULL, c->size, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_NORESERVE, fd, 0);
	close(fd);
	if (c->base != MAP_FAILED && lacks)
		munmap(c->base, c->size);
	if (c->base == MAP_FAILED || lacks) {
		c->base = NULL;
		return world_end(c, ERR_SYSTEM, e, "map %zu bytes of shared "
		    "memory: %m", c->size);
	}
	return 0;
}
