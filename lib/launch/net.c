/*
 * net: how a world's first sockets are made.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "launch/launch.h"

enum { BACKLOG = 1024, RETRY_MS = 200, TRY_MS = 2000, TELL_MS = 5000 };

static int
resolve(const char *host, const char *port, int flags, struct addrinfo **out,
    struct err *e)
{
	struct addrinfo hint = { .ai_flags = flags,
		.ai_socktype = SOCK_STREAM };
	int rc = getaddrinfo(host, port, &hint, out);

	if (rc == 0)
		return 0;
	return err_set(e, rc == EAI_NONAME ? ERR_CALLER : ERR_SYSTEM,
	    "%s: %s", host ? host : "(any)", gai_strerror(rc));
}

int
launch_listen(const char *address, unsigned port, struct err *e)
{
	struct addrinfo *list, *a;
	char text[16];
	int fd = -1, on = 1, saved = 0;

	snprintf(text, sizeof text, "%u", port);
	if (resolve(address, text, AI_PASSIVE, &list, e) == -1)
		return -1;
	for (a = list; a; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd == -1)
			continue;
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
		if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 &&
		    listen(fd, BACKLOG) == 0)
			break;
		saved = errno;
		close(fd);
		fd = -1;
	}
	freeaddrinfo(list);
	if (fd != -1)
		return fd;
	errno = saved;
	err_sys(e, "listen on %s port %u", address ? address : "any address",
	    port);
	if (e && (saved == EADDRNOTAVAIL || saved == EACCES))
		e->code = ERR_CALLER;
	return -1;
}

/* ---- dialling ---- */

/* "host:port" or "[v6]:port" into its halves. */
static int
split(const char *where, char *host, size_t nhost, const char **port,
    struct err *e)
{
	const char *colon = strrchr(where, ':');
	size_t n = colon ? (size_t)(colon - where) : 0;
	uint64_t x;

	if (n > 2 && where[0] == '[' && where[n - 1] == ']') {
		where++;
		n -= 2;
	}
	if (n == 0 || n >= nhost || num_u64(colon + 1, 65535, &x) == -1)
		return err_set(e, ERR_CALLER,
		    "'%s' is not an address like 192.0.2.1:29550", where);
	memcpy(host, where, n);
	host[n] = '\0';
	*port = colon + 1;
	return 0;
}

/* An address that does not answer at all is given up after TRY_MS: the caller
 * tries again, and says meanwhile what it waits for. */
static int
connect_in(int fd, const struct addrinfo *a, int ms)
{
	struct pollfd p = { fd, POLLOUT, 0 };
	socklen_t n = sizeof(int);
	int error = 0, rc;

	if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -1;
	rc = poll(&p, 1, ms);
	if (rc == 0)
		error = ETIMEDOUT;
	else if (rc == -1 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error,
	    &n) == -1)
		error = errno;
	errno = error;
	return error ? -1 : 0;
}

static int
try_once(const struct addrinfo *list, int ms)
{
	const struct addrinfo *a;
	int fd, on = 1;

	for (a = list; a; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC |
		    SOCK_NONBLOCK, 0);
		if (fd == -1)
			continue;
		if (connect_in(fd, a, ms) == 0) {
			setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on,
			    sizeof on);
			return fd;
		}
		on = errno;
		close(fd);
		errno = on;
	}
	return -1;
}

static bool
may_come_yet(int error)
{
	return error == ECONNREFUSED || error == EHOSTUNREACH ||
	    error == ENETUNREACH || error == ETIMEDOUT ||
	    error == ECONNRESET || error == EHOSTDOWN || error == EINTR;
}

static int
too_late(const char *where, uint64_t ms, struct err *e)
{
	const char *why = strerror(errno);

	if (!may_come_yet(errno))
		return err_sys(e, "the lead at %s", where);
	return err_set(e, ERR_SYSTEM, "the lead at %s did not answer within "
	    "%llu s: %s", where, (unsigned long long)(ms / 1000), why);
}

/* Tries until ms have passed; -1 and errno. */
static int
try_for(const struct addrinfo *list, const char *where, uint64_t ms,
    void (*waiting)(void *arg, unsigned seconds, const char *who), void *arg)
{
	const struct timespec nap = { 0, RETRY_MS * 1000000L };
	uint64_t start = now_ns(), told = 0, past = 0;
	char who[400];
	int fd, error;

	while ((fd = try_once(list, ms - past < TRY_MS ? (int)(ms - past) :
	    TRY_MS)) == -1 && may_come_yet(errno)) {
		error = errno;
		past = (now_ns() - start) / 1000000;
		if (waiting && past / TELL_MS > told) {
			told = past / TELL_MS;
			snprintf(who, sizeof who, "the lead at %s (%s)", where,
			    strerror(error));
			waiting(arg, (unsigned)(past / 1000), who);
		}
		errno = error;
		if (past + RETRY_MS >= ms)
			break;
		nanosleep(&nap, NULL);
		past = (now_ns() - start) / 1000000;
		if (past >= ms)
			past = ms;
	}
	return fd;
}

int
launch_dial(const char *where, uint64_t ms,
    void (*waiting)(void *arg, unsigned seconds, const char *who), void *arg,
    struct err *e)
{
	struct addrinfo *list;
	char host[256];
	const char *port = "";
	uint64_t n;
	int fd;

	if (strncmp(where, "fd:", 3) == 0) {
		if (num_u64(where + 3, 1 << 20, &n) == -1 ||
		    fcntl((int)n, F_SETFD, FD_CLOEXEC) == -1)
			return err_set(e, ERR_CALLER, "%s is not open", where);
		return (int)n;
	}
	if (split(where, host, sizeof host, &port, e) == -1 ||
	    resolve(host, port, 0, &list, e) == -1)
		return -1;
	fd = try_for(list, where, ms, waiting, arg);
	if (fd == -1)
		too_late(where, ms, e);
	freeaddrinfo(list);
	return fd;
}
