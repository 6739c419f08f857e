/*
 * guard: remote shells must not outlive the one who started them.
 *
 * A child that is told to die with its parent does so, but not its own
 * children, such as the ssh that a script started.  They are in a process
 * group; when this process is gone, killed or not, the pipe to the guard ends
 * and the guard ends the groups.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "probe/priv.h"

enum { GRACE_MS = 300 };

struct groups {
	int v[PROBE_MAX_HOSTS];
	unsigned n;
};

static void
take(struct groups *g, int group)
{
	if (group > 0 && g->n < PROBE_MAX_HOSTS)
		g->v[g->n++] = group;
	for (unsigned i = 0; group < 0 && i < g->n; i++)
		if (g->v[i] == -group)
			g->v[i--] = g->v[--g->n];
}

static void
end_groups(const struct groups *g)
{
	const struct timespec nap = { 0, GRACE_MS * 1000000L };

	for (unsigned i = 0; i < g->n; i++)
		kill(-g->v[i], SIGTERM);
	if (g->n)
		nanosleep(&nap, NULL);
	for (unsigned i = 0; i < g->n; i++)
		kill(-g->v[i], SIGKILL);
}

/* Holds nothing open that someone may wait for the end of. */
static void
be_guard(int from)
{
	struct groups g = { .n = 0 };
	int null = open("/dev/null", O_RDWR), group;

	setsid();
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	dup2(from, 3);
	close_range(4, ~0u, 0);
	while (read(3, &group, sizeof(group)) == sizeof(group))
		take(&g, group);
	end_groups(&g);
	_exit(0);
}

int
guard_start(struct guard *g, struct err *e)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) == -1)
		return err_sys(e, "pipe");
	g->pid = fork();
	if (g->pid == 0) {
		close(fd[1]);
		be_guard(fd[0]);
	}
	close(fd[0]);
	g->fd = fd[1];
	if (g->pid > 0)
		return 0;
	err_sys(e, "fork");
	close(fd[1]);
	return -1;
}

static void
tell(const struct guard *g, int group)
{
	/* a guard that is gone guards nothing; that is no reason to stop */
	(void)!write(g->fd, &group, sizeof(group));
}

void
guard_add(const struct guard *g, int group)
{
	tell(g, group);
}

void
guard_forget(const struct guard *g, int group)
{
	tell(g, -group);
}

void
guard_end(struct guard *g)
{
	close(g->fd);
	waitpid(g->pid, NULL, 0);
}
