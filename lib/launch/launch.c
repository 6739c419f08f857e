/*
 * launch: children, their last words, and how they ended.
 *
 * One thread reads what they write on fd 2.  When that pipe ends its child is
 * gone or about to be, so that is when it is waited for: no signal handler,
 * and no other child of the process is touched.  A line is held back for a
 * moment, because it may turn out to have been the last one.
 *
 * Children are killed when the thread that started them dies: they have
 * nothing to clean up, and one that is stopped could do nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launch/launch.h"

enum { JOIN_FD = 3, MAX_LINE = 1000, MAX_ARGS = 24, HOLD_MS = 300 };

static const char own_name[] = "dsi-worker: ";

struct child {
	unsigned rank;
	pid_t pid;
	int out;			/* its fd 2; -1: it has ended */
	int lead_fd;			/* its connection to the lead */
	char line[MAX_LINE];		/* the line that is coming in */
	size_t n;
	char last[MAX_LINE];		/* the last whole one */
	uint64_t held_ns;		/* when it came; 0: it was passed on */
};

struct launch {
	struct launch_calls calls;
	char *program;
	char *arg[MAX_ARGS];		/* what all ranks are started with */
	size_t narg;
	pthread_mutex_t lock;		/* of child, nchild, running */
	pthread_cond_t ended;
	struct child **child;
	size_t nchild, cap;
	unsigned running;
	bool silent;			/* we end them: leads aren't told */
	pthread_t thread;
	bool threaded;
	int wake[2];			/* a byte: look at the list again */
};

/* ---- arguments ---- */

/* dsi-worker stands beside this program, or somewhere in PATH. */
static char *
find_program(struct err *e)
{
	static const char name[] = "dsi-worker";
	char self[4096];
	struct buf b = { 0 };
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	char *slash;

	if (n > 0) {
		self[n] = '\0';
		slash = strrchr(self, '/');
		if (slash)
			*slash = '\0';
		io_path(&b, self, name);
		if (b.p && access(b.p, X_OK) == -1)
			buf_clear(&b);
	}
	if (b.n == 0)
		buf_puts(&b, name);
	if (buf_ok(&b, e) == -1)
		return NULL;
	return b.p;
}

static void DSI_PRINTF(2, 3)
add_arg(struct launch *l, const char *fmt, ...)
{
	struct buf b = { 0 };
	char text[4200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	buf_puts(&b, text);
	l->arg[l->narg++] = b.p;	/* NULL: seen by have_args */
}

static int
have_args(const struct launch *l, struct err *e)
{
	size_t i;

	for (i = 0; i < l->narg; i++)
		if (l->arg[i] == NULL)
			return err_set(e, ERR_SYSTEM, "no memory");
	return 0;
}

static const char *
dtype_word(int t)
{
	return t == ENGINE_BF16 ? "bfloat16" : t == ENGINE_F32 ? "float32" :
	    "auto";
}

static int
make_args(struct launch *l, const struct deploy *d, const char *dir,
    const struct engine_opts *o, struct err *e)
{
	add_arg(l, "--join-timeout=%llu", (unsigned long long)d->join_s);
	add_arg(l, "--alive-timeout=%llu", (unsigned long long)d->alive_s);
	add_arg(l, "--block-size=%llu", (unsigned long long)o->block_size);
	add_arg(l, "--kv-cache-dtype=%s", dtype_word(o->kv_dtype));
	add_arg(l, "--dtype=%s", dtype_word(o->dtype));
	add_arg(l, "--max-num-seqs=%llu", (unsigned long long)o->max_num_seqs);
	add_arg(l, "--max-num-batched-tokens=%llu",
	    (unsigned long long)o->max_num_batched_tokens);
	if (o->max_model_len)
		add_arg(l, "--max-model-len=%llu",
		    (unsigned long long)o->max_model_len);
	add_arg(l, "--gpu-memory-utilization=%.17g", o->memory_utilization);
	add_arg(l, "--num-blocks=%llu", (unsigned long long)o->num_blocks);
	add_arg(l, "--safetensors-load-strategy=%s",
	    o->load == ENGINE_LAZY ? "lazy" : "eager");
	add_arg(l, "--threads=%u", o->threads);
	add_arg(l, "--host-ranks=%u", o->host_ranks);
	if (d->ifname[0])
		add_arg(l, "--socket-ifname=%s", d->ifname);
	add_arg(l, "%s", dir);
	return have_args(l, e);
}

/* ---- what children say ---- */

static bool
is_own(const char *line)
{
	return strncmp(line, own_name, sizeof own_name - 1) == 0;
}

static const char *
without_name(const char *line)
{
	return is_own(line) ? line + sizeof own_name - 1 : line;
}

static void
pass_on(struct launch *l, struct child *c)
{
	if (c->held_ns && l->calls.line)
		l->calls.line(l->calls.arg, c->rank, is_own(c->last),
		    without_name(c->last));
	c->held_ns = 0;
}

static void
take_line(struct launch *l, struct child *c)
{
	if (c->n == 0)
		return;
	pass_on(l, c);
	c->line[c->n] = '\0';
	memcpy(c->last, c->line, c->n + 1);
	c->held_ns = now_ns();
	c->n = 0;
}

static void
take_bytes(struct launch *l, struct child *c, const char *p, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (p[i] == '\n' || c->n == MAX_LINE - 1)
			take_line(l, c);
		else
			c->line[c->n++] = p[i];
}

/* ---- how they ended ---- */

/* "rank 9 on nodeb ...": an error that says itself whose it is. */
static bool
names_rank(const char *s)
{
	if (strncmp(s, "rank ", 5) != 0)
		return false;
	s += 5;
	return *s >= '0' && *s <= '9' &&
	    strncmp(s + strspn(s, "0123456789"), " on ", 4) == 0;
}

static void
tell_how(const struct child *c, int status, char *how, size_t n)
{
	const char *last = without_name(c->last);

	if (WIFSIGNALED(status))
		snprintf(how, n, "killed by signal %d (%s)%s%s",
		    WTERMSIG(status), strsignal(WTERMSIG(status)),
		    c->held_ns ? ": " : "", c->held_ns ? last : "");
	else if (!*last)
		snprintf(how, n, "exit %d without a word",
		    WEXITSTATUS(status));
	else
		snprintf(how, n, "%s", last);
}

static void
tell_why(const struct child *c, bool own, const char *how, char *why, size_t n)
{
	char host[256];

	if (own && names_rank(how)) {
		snprintf(why, n, "%s", how);
		return;
	}
	comm_here(host, sizeof host);
	snprintf(why, n, "rank %u on %.64s %s: %s", c->rank, host,
	    own ? "gave up" : "died", how);
}

static void
tell_lead(struct launch *l, struct child *c, const char *how)
{
	pthread_mutex_lock(&l->lock);
	if (how && !l->silent)
		comm_epitaph(c->lead_fd, c->rank, how);
	close(c->lead_fd);
	c->lead_fd = -1;
	pthread_mutex_unlock(&l->lock);
}

/* Its number is another process's as soon as it is waited for: launch_kill must
 * not have it then. */
static int
reap(struct launch *l, struct child *c)
{
	siginfo_t info;
	int status = 0;

	while (waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOWAIT) == -1 &&
	    errno == EINTR)
		;
	pthread_mutex_lock(&l->lock);
	waitpid(c->pid, &status, 0);
	c->pid = 0;
	pthread_mutex_unlock(&l->lock);
	return status;
}

static void
bury(struct launch *l, struct child *c)
{
	char how[MAX_LINE + 64], why[MAX_LINE + 256];
	int status, code;

	take_line(l, c);
	close(c->out);
	status = reap(l, c);
	code = WIFEXITED(status) ? WEXITSTATUS(status) : ERR_SYSTEM;
	tell_how(c, status, how, sizeof how);
	tell_why(c, WIFEXITED(status) && is_own(c->last), how, why,
	    sizeof why);
	tell_lead(l, c, code ? how : NULL);
	if (code == 0)
		pass_on(l, c);
	if (l->calls.ended)
		l->calls.ended(l->calls.arg, c->rank, code, why);
	pthread_mutex_lock(&l->lock);
	c->out = -1;
	l->running--;
	pthread_cond_broadcast(&l->ended);
	pthread_mutex_unlock(&l->lock);
}

static void
read_child(struct launch *l, struct child *c)
{
	char p[4096];
	ssize_t n = read(c->out, p, sizeof p);

	if (n > 0)
		take_bytes(l, c, p, (size_t)n);
	else if (n == 0 || errno != EINTR)
		bury(l, c);
}

/* The pipes that are open now; [0] is the wake pipe. */
static size_t
list_pipes(struct launch *l, struct pollfd **pf, struct child ***who,
    size_t *cap)
{
	size_t n = 1, i;

	pthread_mutex_lock(&l->lock);
	if (l->nchild + 1 > *cap) {
		free(*pf);
		free(*who);
		*cap = 2 * (l->nchild + 1);
		*pf = mem_new(*cap, sizeof **pf, NULL);
		*who = mem_new(*cap, sizeof **who, NULL);
	}
	for (i = 0; i < l->nchild && *pf && *who; i++) {
		if (l->child[i]->out == -1)
			continue;
		(*pf)[n] = (struct pollfd){ l->child[i]->out, POLLIN, 0 };
		(*who)[n++] = l->child[i];
	}
	pthread_mutex_unlock(&l->lock);
	if (!*pf || !*who)
		return 0;
	(*pf)[0] = (struct pollfd){ l->wake[0], POLLIN, 0 };
	return n;
}

/* Passes on what was held long enough; milliseconds to the next, or -1. */
static int
let_go(struct launch *l, struct child **who, size_t n)
{
	uint64_t now = now_ns(), hold = HOLD_MS * UINT64_C(1000000);
	int ms = -1;
	size_t i;

	for (i = 1; i < n; i++) {
		struct child *c = who[i];

		if (c->held_ns && now - c->held_ns >= hold)
			pass_on(l, c);
		if (c->held_ns && (ms == -1 ||
		    c->held_ns + hold - now < (uint64_t)ms * 1000000))
			ms = (int)((c->held_ns + hold - now) / 1000000) + 1;
	}
	return ms;
}

static void *
watch(void *arg)
{
	struct launch *l = arg;
	struct pollfd *pf = NULL;
	struct child **who = NULL;
	size_t cap = 0, n, i;
	char c = 0;

	while (c != 'q' && (n = list_pipes(l, &pf, &who, &cap)) > 0) {
		if (poll(pf, n, let_go(l, who, n)) == -1)
			continue;
		for (i = 1; i < n; i++)
			if (pf[i].revents)
				read_child(l, who[i]);
		if (pf[0].revents && read(l->wake[0], &c, 1) != 1)
			break;
	}
	free(pf);
	free(who);
	return NULL;
}

/* ---- starting ---- */

int
launch_open(struct launch **lp, const struct deploy *d, const char *dir,
    const struct engine_opts *o, const struct launch_calls *calls,
    struct err *e)
{
	struct launch *l = mem_new(1, sizeof *l, e);

	*lp = l;
	if (l == NULL)
		return -1;
	l->calls = *calls;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->ended, NULL);
	l->wake[0] = l->wake[1] = -1;
	if ((l->program = find_program(e)) == NULL ||
	    make_args(l, d, dir, o, e) == -1)
		goto bad;
	if (pipe2(l->wake, O_CLOEXEC) == -1) {
		err_sys(e, "pipe");
		goto bad;
	}
	return 0;
bad:
	launch_close(lp);
	return -1;
}

/* In the child, between fork and exec: async-signal-safe calls only. */
static void
become(const struct launch *l, char *const *argv, int join, int err_fd,
    pid_t parent)
{
	int null = open("/dev/null", O_RDWR);
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)	/* it died before that took effect */
		_exit(ERR_SYSTEM);
	signal(SIGINT, SIG_IGN);	/* the lead hears it, and ends us */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(err_fd, STDERR_FILENO);
	if (join != -1 && join != JOIN_FD)
		dup2(join, JOIN_FD);
	else if (join == JOIN_FD)
		fcntl(join, F_SETFD, 0);
	execvp(l->program, argv);
	(void)!write(STDERR_FILENO, "cannot run dsi-worker\n", 22);
	_exit(ERR_SYSTEM);
}

static int
spawn(struct launch *l, struct child *c, int join, struct err *e)
{
	char rank[32], target[32], *argv[MAX_ARGS + 6];
	pid_t parent = getpid();
	int err_fd[2];
	size_t n = 0, i;

	snprintf(rank, sizeof rank, "--rank=%u", c->rank);
	snprintf(target, sizeof target, "--join=fd:%d", JOIN_FD);
	argv[n++] = l->program;
	argv[n++] = rank;
	argv[n++] = target;
	for (i = 0; i < l->narg; i++)
		argv[n++] = l->arg[i];
	argv[n] = NULL;
	if (pipe2(err_fd, O_CLOEXEC) == -1)
		return err_sys(e, "pipe");
	c->pid = fork();
	if (c->pid == 0)
		become(l, argv, join, err_fd[1], parent);
	close(err_fd[1]);
	if (c->pid == -1) {
		close(err_fd[0]);
		return err_sys(e, "fork");
	}
	c->out = err_fd[0];
	return 0;
}

static int
add_child(struct launch *l, struct child *c, struct err *e)
{
	int rc;

	pthread_mutex_lock(&l->lock);
	rc = mem_grow(&l->child, &l->cap, l->nchild + 1, sizeof *l->child, e);
	if (rc == 0) {
		l->child[l->nchild++] = c;
		l->running++;
	}
	pthread_mutex_unlock(&l->lock);
	if (rc == -1)
		return -1;
	if (!l->threaded) {
		sigset_t all, old;

		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		l->threaded = pthread_create(&l->thread, NULL, watch, l) == 0;
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		if (!l->threaded)
			return err_set(e, ERR_SYSTEM, "cannot start a thread");
	}
	if (write(l->wake[1], "n", 1) != 1)
		return err_sys(e, "pipe");
	return 0;
}

int
launch_rank(struct launch *l, unsigned rank, int lead_fd, int *fd,
    struct err *e)
{
	struct child *c = mem_new(1, sizeof *c, e);
	int pair[2] = { -1, -1 }, rc = -1;

	if (c && lead_fd == -1 && socketpair(AF_UNIX, SOCK_STREAM |
	    SOCK_CLOEXEC, 0, pair) == -1) {
		err_sys(e, "socketpair");
	} else if (c) {
		c->rank = rank;
		c->lead_fd = lead_fd == -1 ? pair[1] : lead_fd;
		rc = spawn(l, c, c->lead_fd, e);
	}
	if (rc == -1) {
		close(pair[0] == -1 ? lead_fd : pair[0]);
		if (pair[1] != -1)
			close(pair[1]);
		free(c);
		return -1;
	}
	if (lead_fd == -1)
		*fd = pair[0];
	return add_child(l, c, e);
}

/* ---- ending ---- */

void
launch_kill(struct launch *l, const char *why)
{
	struct child *c;
	size_t i;

	pthread_mutex_lock(&l->lock);
	for (i = 0; i < l->nchild && why && !l->silent; i++) {
		c = l->child[i];
		if (c->pid)
			comm_epitaph(c->lead_fd, c->rank, why);
	}
	l->silent = true;
	for (i = 0; i < l->nchild; i++)
		if (l->child[i]->pid)
			kill(l->child[i]->pid, SIGKILL);
	pthread_mutex_unlock(&l->lock);
}

unsigned
launch_wait(struct launch *l, uint64_t ms)
{
	struct timespec until;
	unsigned n;
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += (time_t)(ms / 1000);
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&l->lock);
	while (l->running && rc == 0)
		rc = pthread_cond_timedwait(&l->ended, &l->lock, &until);
	n = l->running;
	pthread_mutex_unlock(&l->lock);
	return n;
}

void
launch_close(struct launch **lp)
{
	struct launch *l = *lp;
	size_t i;

	if (l == NULL)
		return;
	if (l->threaded) {
		launch_kill(l, NULL);
		launch_wait(l, 10000);
		if (write(l->wake[1], "q", 1) == 1)
			pthread_join(l->thread, NULL);
	}
	for (i = 0; i < l->nchild; i++)
		free(l->child[i]);
	free(l->child);
	for (i = 0; i < l->narg; i++)
		free(l->arg[i]);
	for (i = 0; i < 2; i++)
		if (l->wake[i] != -1)
			close(l->wake[i]);
	free(l->program);
	pthread_cond_destroy(&l->ended);
	pthread_mutex_destroy(&l->lock);
	free(l);
	*lp = NULL;
}
