/*
 * kid: remote shells with probes at their other ends.
 *
 * What they say is a stranger's until the first reply, because login scripts
 * like to print: such lines are skipped, and quoted only when no reply comes.
 * What a shell says on its fd 2 is why it failed, in its own words.
 *
 * None is waited for before the end, so that its number stays its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "probe/priv.h"

enum { WORDS_MS = 300, TICK_MS = 20, GRACE_MS = 500, TERM_MS = 200 };

#define MS 1000000ull

/* ---- starting ---- */

/* In the child, between fork and exec. */
static void
become(char *const *argv, const int in[2], const int out[2],
    const int words[2], pid_t parent)
{
	static const char text[] = ": cannot be run\n";

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)	/* it died before that took effect */
		_exit(ERR_SYSTEM);
	signal(SIGPIPE, SIG_DFL);
	dup2(in[0], STDIN_FILENO);
	dup2(out[1], STDOUT_FILENO);
	dup2(words[1], STDERR_FILENO);
	execvp(argv[0], argv);
	(void)!write(STDERR_FILENO, argv[0], strlen(argv[0]));
	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	_exit(ERR_SYSTEM);
}

static void
shut(int *fd)
{
	if (*fd != -1)
		close(*fd);
	*fd = -1;
}

int
kid_start(struct kid *k, const struct guard *g, char *const *argv,
    struct err *e)
{
	int p[3][2] = { { -1, -1 }, { -1, -1 }, { -1, -1 } };
	pid_t parent = getpid();

	for (int i = 0; i < 3; i++)
		if (pipe2(p[i], O_CLOEXEC) == -1)
			err_sys(e, "pipe");
	if (p[2][1] != -1 && (k->pid = fork()) == 0)
		become(argv, p[0], p[1], p[2], parent);
	if (p[2][1] != -1 && k->pid == -1)
		err_sys(e, "fork");
	shut(&p[0][0]);
	shut(&p[1][1]);
	shut(&p[2][1]);
	k->in = p[0][1];
	k->out = p[1][0];
	k->words = p[2][0];
	if (k->pid > 0) {
		setpgid(k->pid, k->pid);
		guard_add(g, k->pid);
		fcntl(k->in, F_SETFL, O_NONBLOCK);
		return 0;
	}
	k->pid = 0;
	shut(&k->in);
	shut(&k->out);
	shut(&k->words);
	return -1;
}

/* ---- failing ---- */

static void DSI_PRINTF(2, 3)
fail(struct kid *k, const char *fmt, ...)
{
	char text[PROBE_WORDS];
	va_list ap;

	if (!k->why[0]) {
		va_start(ap, fmt);
		vsnprintf(text, sizeof(text), fmt, ap);
		va_end(ap);
		wire_plain(k->why, sizeof(k->why), text);
	}
	k->waiting = false;
	shut(&k->in);
	shut(&k->out);
	shut(&k->words);
}

/* Has it ended, and how?  It stays to be waited for. */
static bool
has_ended(const struct kid *k, siginfo_t *how)
{
	*how = (siginfo_t){ .si_pid = 0 };
	return waitid(P_PID, (id_t)k->pid, how, WEXITED | WNOHANG |
	    WNOWAIT) == -1 || how->si_pid != 0;
}

/* Its output has ended; what has it said, and how did it end? */
static void
fail_ended(struct kid *k)
{
	char status[64] = "";
	const char *said = k->last[0] ? k->last : k->noise;
	siginfo_t how;

	has_ended(k, &how);
	if (how.si_pid && how.si_code == CLD_EXITED)
		snprintf(status, sizeof(status), "exit %d", how.si_status);
	else if (how.si_pid)
		snprintf(status, sizeof(status), "signal %d", how.si_status);
	else
		snprintf(status, sizeof(status), "its output ended");
	if (said[0])
		fail(k, "%.400s (%s)", said, status);
	else
		fail(k, "the probe ended without a word (%s)", status);
}

/* ---- what they say ---- */

static void
take_reply(struct kid *k)
{
	struct err e = {0};

	if (wire_get_reply(&k->reply, k->line.p, k->line.n, &e) == -1) {
		if (k->met || k->line.p[0] == '{')
			fail(k, "its probe breaks the protocol: %.400s",
			    e.msg);
		else if (!k->noise[0])
			wire_plain(k->noise, sizeof(k->noise), k->line.p);
		return;
	}
	k->met = true;
	if (!k->waiting || k->reply.re != k->asked)
		fail(k, "its probe breaks the protocol: it answers %s, which "
		    "was not asked", wire_name(k->reply.re));
	k->waiting = false;
}

static void
read_out(struct kid *k)
{
	char p[16384];
	ssize_t n = read(k->out, p, sizeof(p));
	struct err e = {0};
	int got;

	if (n == -1 && errno == EINTR)
		return;
	if (n <= 0) {
		shut(&k->out);
		k->ended_ns = now_ns();
		return;
	}
	buf_put(&k->from, p, (size_t)n);
	while (k->out != -1 && (got = wire_line(&k->from, &k->line, &e)) != 0) {
		if (got == -1)
			fail(k, "its probe breaks the protocol: %s", e.msg);
		else
			take_reply(k);
	}
	if (k->from.oom)
		fail(k, "no memory");
}

static void
end_said(struct kid *k)
{
	k->said[k->nsaid] = '\0';
	if (k->said[strspn(k->said, " \t\r")])
		wire_plain(k->last, sizeof(k->last), k->said);
	k->nsaid = 0;
}

static void
read_words(struct kid *k)
{
	char p[4096];
	ssize_t n = read(k->words, p, sizeof(p));

	if (n == -1 && errno == EINTR)
		return;
	for (ssize_t i = 0; i < n; i++) {
		if (p[i] == '\n' || p[i] == '\r')
			end_said(k);
		else if (k->nsaid < sizeof(k->said) - 1)
			k->said[k->nsaid++] = p[i];
	}
	if (n <= 0) {
		end_said(k);
		shut(&k->words);
	}
}

/* ---- asking ---- */

static void
write_in(struct kid *k)
{
	ssize_t n = write(k->in, k->to.p, k->to.n);

	if (n > 0) {
		memmove(k->to.p, k->to.p + n, k->to.n - (size_t)n);
		k->to.n -= (size_t)n;
	} else if (n == -1 && errno != EAGAIN && errno != EINTR) {
		shut(&k->in);		/* its last words say why */
	}
}

void
kid_ask(struct kid *k, const struct probe_request *r)
{
	if (k->why[0] || !k->pid)
		return;
	wire_put_request(&k->to, r);
	k->asked = r->what;
	k->waiting = true;
}

/* ---- waiting ---- */

struct watch {
	struct pollfd *p;		/* [3 * n] */
	struct kid *k;
	size_t n;
};

static void
set_poll(const struct watch *w)
{
	for (size_t i = 0; i < w->n; i++) {
		const struct kid *k = &w->k[i];

		w->p[3 * i] = (struct pollfd){ k->to.n ? k->in : -1, POLLOUT,
			0 };
		w->p[3 * i + 1] = (struct pollfd){ k->out, POLLIN, 0 };
		w->p[3 * i + 2] = (struct pollfd){ k->words, POLLIN, 0 };
	}
}

/* false: none of them waits any more. */
static bool
settle(const struct watch *w, int *ms)
{
	bool any = false;
	siginfo_t how;

	for (size_t i = 0; i < w->n; i++) {
		struct kid *k = &w->k[i];

		if (k->ended_ns && !k->why[0] && ((k->words == -1 &&
		    has_ended(k, &how)) ||
		    now_ns() - k->ended_ns > WORDS_MS * MS))
			fail_ended(k);
		if (k->waiting && k->ended_ns)
			*ms = TICK_MS;
		any = any || k->waiting;
	}
	return any;
}

static void
work(const struct watch *w)
{
	for (size_t i = 0; i < w->n; i++) {
		struct kid *k = &w->k[i];

		if (w->p[3 * i].revents && k->in != -1)
			write_in(k);
		if (w->p[3 * i + 2].revents && k->words != -1)
			read_words(k);
		if (w->p[3 * i + 1].revents && k->out != -1)
			read_out(k);
	}
}

static void
late(struct kid *k, uint64_t start_ns)
{
	double s = (double)(now_ns() - start_ns) / 1e9;

	if (!k->waiting)
		return;
	end_said(k);
	fail(k, "no answer for %.1f s%s%.400s", s, k->last[0] ? ": " :
	    k->met ? " from its probe" : " from the remote shell", k->last);
	kill(-k->pid, SIGTERM);
}

void
kid_wait(struct kid *k, size_t n, uint64_t deadline_ns,
    const volatile sig_atomic_t *stop)
{
	struct pollfd *p = mem_new(3 * n, sizeof(*p), NULL);
	const struct watch w = { p, k, n };
	uint64_t start = now_ns(), now;
	int ms = 2 * TICK_MS;

	while (p && settle(&w, &ms) && !(stop && *stop) &&
	    (now = now_ns()) < deadline_ns) {
		if ((deadline_ns - now) / MS < (uint64_t)ms)
			ms = (int)((deadline_ns - now) / MS) + 1;
		set_poll(&w);
		if (poll(p, 3 * n, ms) > 0)
			work(&w);
		ms = 2 * TICK_MS;
	}
	for (size_t i = 0; i < n; i++)
		late(&k[i], start);
	free(p);
}

/* ---- ending ---- */

/* How many still run, after at most so long? */
static size_t
running(const struct kid *k, size_t n, unsigned ms)
{
	const struct timespec nap = { 0, 5 * 1000000L };
	uint64_t until = now_ns() + ms * MS;
	size_t left;

	for (;;) {
		left = 0;
		for (size_t i = 0; i < n; i++) {
			siginfo_t how;

			left += k[i].pid && !has_ended(&k[i], &how);
		}
		if (left == 0 || now_ns() >= until)
			return left;
		nanosleep(&nap, NULL);
	}
}

static void
signal_all(const struct kid *k, size_t n, int sig)
{
	for (size_t i = 0; i < n; i++)
		if (k[i].pid)
			kill(-k[i].pid, sig);
}

void
kid_end(struct kid *k, size_t n, const struct guard *g)
{
	for (size_t i = 0; i < n; i++)
		shut(&k[i].in);
	if (running(k, n, GRACE_MS)) {
		signal_all(k, n, SIGTERM);
		running(k, n, TERM_MS);
	}
	signal_all(k, n, SIGKILL);
	running(k, n, TERM_MS);
	for (size_t i = 0; i < n; i++) {
		if (k[i].pid) {
			guard_forget(g, k[i].pid);
			waitpid(k[i].pid, NULL, WNOHANG);
		}
		shut(&k[i].out);
		shut(&k[i].words);
		buf_free(&k[i].to);
		buf_free(&k[i].from);
		buf_free(&k[i].line);
	}
}
