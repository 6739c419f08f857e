/*
 * probe: lists of hosts, the protocol in both directions, and what liars,
 * strangers and half lines do to it.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe/probe.h"
#include "tap.h"

static struct err e;

/* ---- lists ---- */

static bool
reads(const char *list, size_t n, const char *last, unsigned slots)
{
	struct probe_hosts h = {0};
	bool good = probe_hosts_read(&h, list, &e) == 0 && h.n == n &&
	    strcmp(h.v[n - 1].name, last) == 0 && h.v[n - 1].slots == slots;

	probe_hosts_free(&h);
	return good;
}

static bool
refuses(const char *list)
{
	struct probe_hosts h = {0};
	int rc = probe_hosts_read(&h, list, &e);

	probe_hosts_free(&h);
	return rc == -1 && e.code == ERR_CALLER;
}

static void
test_lists(void)
{
	static const char *const bad[] = { "", ",", "a,", "-a", "u@-a", "@u",
		"a b", "a;b", "a$(b)", "a\nb", "a:0", "a:1025", "a:x", "a:1,b",
		"a,a", "a:", "[]", "[-a]", "[a", "u@", "@/nonexistent" };
	char many[PROBE_MAX_HOSTS * 8] = "";
	size_t n = 0;

	tap_ok(reads("a", 1, "a", 0) && reads(" a , u@b.c ", 2, "u@b.c", 0) &&
	    reads("a:2,b:8", 2, "b", 8), "names, users, slots");
	tap_ok(reads("fe80::1", 1, "fe80::1", 0) &&
	    reads("[fe80::1]:4", 1, "fe80::1", 4), "IPv6 addresses");
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (!refuses(bad[i]))
			tap_ok(0, "'%s' is refused", bad[i]);
	for (unsigned i = 0; i <= PROBE_MAX_HOSTS; i++)
		n += (size_t)snprintf(many + n, sizeof(many) - n, "%sn%u",
		    i ? "," : "", i);
	tap_ok(refuses(many), "too many hosts");
}

/* ---- lines ---- */

static struct probe_request request;
static struct probe_reply reply, got;

static void
fill_reply(void)
{
	struct probe_facts *f = &reply.facts;

	reply = (struct probe_reply){ .re = PROBE_FACTS };
	*f = (struct probe_facts){ .version = PROBE_VERSION, .cores = 64,
		.nodes = 2, .places = 3, .memory = 1ull << 40,
		.available = 1ull << 39, .nifs = 2 };
	snprintf(f->build, sizeof(f->build), "1.2.3");
	snprintf(f->host, sizeof(f->host), "nodea");
	snprintf(f->kernels, sizeof(f->kernels), "avx512vnni");
	snprintf(f->interface, sizeof(f->interface), "eth0");
	snprintf(f->wrong, sizeof(f->wrong), "it says \"no\"");
	snprintf(f->ifs[1].name, sizeof(f->ifs[1].name), "ib0");
	snprintf(f->ifs[1].address, sizeof(f->ifs[1].address), "192.0.2.7");
	snprintf(f->model.digest, sizeof(f->model.digest), "0123abcd");
}

/* A reply that is read and written again is the same line. */
static bool
comes_back(const struct buf *line)
{
	struct buf b = {0};
	bool good = wire_get_reply(&got, line->p, line->n - 1, &e) == 0;

	wire_put_reply(&b, &got);
	good = good && b.n == line->n && memcmp(b.p, line->p, b.n) == 0;
	buf_free(&b);
	return good;
}

static void
test_round_trips(void)
{
	struct probe_request r;
	struct buf b = {0}, again = {0};

	request = (struct probe_request){ .what = PROBE_DIAL, .weights = true,
		.port = 65535, .ports = 4, .ms = 60000, .nrank = 3,
		.rank = { 0, 7, PLAN_MAX_RANKS - 1 } };
	snprintf(request.model, sizeof(request.model), "/a \"b\"/\xc3\xa4");
	snprintf(request.token, sizeof(request.token), "%032d", 7);
	wire_put_request(&b, &request);
	buf_clear(&again);
	if (wire_get_request(&r, b.p, b.n - 1, &e) == 0)
		wire_put_request(&again, &r);
	tap_ok(r.weights && r.rank[1] == 7 && again.n == b.n &&
	    memcmp(again.p, b.p, b.n) == 0, "a request comes back as it was");
	buf_clear(&b);
	fill_reply();
	wire_put_reply(&b, &reply);
	tap_ok(comes_back(&b), "so do facts");
	buf_clear(&b);
	reply = (struct probe_reply){ .re = PROBE_MEASURE,
		.facts.version = PROBE_VERSION, .link = { .rtt_ns = 5,
		.rate = 1ull << 52 } };
	wire_put_reply(&b, &reply);
	tap_ok(comes_back(&b), "and numbers");
	buf_free(&again);
	buf_free(&b);
}

static void
test_bad_lines(void)
{
	static const char *const req[] = { "", "x", "[]", "{}", "7",
		"{\"do\":\"facts\"", "{\"do\":\"reboot\"}", "{\"do\":7}",
		"{\"do\":\"dial\",\"port\":65536}",
		"{\"do\":\"dial\",\"port\":-1}",
		"{\"do\":\"dial\",\"port\":1.5}",
		"{\"do\":\"dial\",\"port\":\"1\"}",
		"{\"do\":\"dial\",\"ms\":60001}",
		"{\"do\":\"facts\",\"ranks\":[1024]}",
		"{\"do\":\"facts\",\"ranks\":{}}",
		"{\"do\":\"facts\",\"ranks\":[null]}",
		"{\"do\":\"facts\",\"ifname\":\"0123456789abcdef\"}" };
	static const char *const rep[] = { "", "x", "[]", "{}",
		"{\"dsi_probe\":1}", "{\"dsi_probe\":1,\"re\":\"facts\"}",
		"{\"dsi_probe\":\"1\",\"re\":\"dial\"}",
		"{\"dsi_probe\":1,\"re\":\"dial\",\"rate\":-1}",
		"{\"dsi_probe\":1,\"re\":\"dial\",\"rate\":1e300}",
		"{\"dsi_probe\":1,\"re\":\"facts\",\"host\":\"a\",\"cores\":1,"
		"\"memory\":1,\"model\":{},\"interfaces\":[7]}",
		"{\"dsi_probe\":1,\"re\":\"facts\",\"host\":\"a\",\"cores\":1,"
		"\"memory\":1,\"model\":7}",
		"{\"dsi_probe\":1,\"re\":\"facts\",\"host\":\"a\",\"cores\":1,"
		"\"memory\":0,\"model\":{}}" };
	bool good = true;

	for (size_t i = 0; i < sizeof(req) / sizeof(*req); i++)
		if (wire_get_request(&request, req[i], strlen(req[i]),
		    &e) == 0)
			good = tap_ok(0, "request %s is refused", req[i]);
	for (size_t i = 0; i < sizeof(rep) / sizeof(*rep); i++)
		if (wire_get_reply(&got, rep[i], strlen(rep[i]), &e) == 0)
			good = tap_ok(0, "reply %s is refused", rep[i]);
	tap_ok(good, "lines that are wrong are refused");
}

static bool
is_plain(const char *s, size_t size)
{
	size_t n = strnlen(s, size);

	for (size_t i = 0; i < n; i++)
		if (s[i] < ' ' || s[i] > '~')
			return false;
	return n < size;
}

static void
test_long_texts(void)
{
	struct buf b = {0};

	buf_puts(&b, "{\"dsi_probe\":1,\"re\":\"dial\",\"error\":\"\\u001b[2J");
	for (int i = 0; i < 5000; i++)
		buf_puts(&b, "\xc3\xa4");
	buf_puts(&b, "\"}");
	tap_ok(wire_get_reply(&got, b.p, b.n, &e) == 0 &&
	    strlen(got.error) == PROBE_WORDS - 1 &&
	    is_plain(got.error, PROBE_WORDS), "texts are cut and made plain");
	buf_clear(&b);
	buf_puts(&b, "{\"dsi_probe\":1,\"re\":\"facts\",\"host\":\"a\","
	    "\"cores\":1,\"memory\":1,\"model\":{},\"interfaces\":[");
	for (int i = 0; i < 1000; i++)
		buf_puts(&b, i ? ",{\"name\":\"x\"}" : "{\"name\":\"y\"}");
	buf_puts(&b, "]}");
	tap_ok(wire_get_reply(&got, b.p, b.n, &e) == 0 &&
	    got.facts.nifs == PROBE_IFS, "a thousand interfaces are too many");
	buf_free(&b);
}

/* Real lines with some bytes changed, and cut anywhere. */
static void
test_mutants(void)
{
	struct buf b = {0};
	uint32_t x = 12345;
	bool good = true;

	fill_reply();
	wire_put_reply(&b, &reply);
	wire_put_request(&b, &request);
	for (int i = 0; i < 20000; i++) {
		size_t at, n;
		char old;

		x = x * 1664525 + 1013904223;
		at = x % b.n;
		n = (x >> 8) % b.n + 1;
		old = b.p[at];
		b.p[at] = (char)(x >> 24);
		wire_get_request(&request, b.p, n, &e);
		if (wire_get_reply(&got, b.p, b.n / 2 + n / 2, &e) == 0)
			good = good && is_plain(got.facts.host,
			    sizeof(got.facts.host)) &&
			    got.facts.nifs <= PROBE_IFS;
		if (i % 16)
			b.p[at] = old;
	}
	tap_ok(good, "mutants do no harm");
	buf_free(&b);
}

static void
test_cutting(void)
{
	struct buf in = {0}, line = {0};
	bool good;

	buf_puts(&in, "ab");
	good = wire_line(&in, &line, &e) == 0;
	buf_puts(&in, "c\n\nd");
	good = good && wire_line(&in, &line, &e) == 1 &&
	    strcmp(line.p, "abc") == 0;
	good = good && wire_line(&in, &line, &e) == 1 && line.n == 0;
	tap_ok(good && wire_line(&in, &line, &e) == 0 && in.n == 1 &&
	    strcmp(in.p, "d") == 0, "lines come whole");
	for (int i = 0; i < PROBE_LINE; i++)
		buf_putc(&in, 'x');
	tap_ok(wire_line(&in, &line, &e) == -1, "or not at all");
	buf_free(&in);
	buf_free(&line);
}

/* ---- a probe, and what it is told ---- */

struct serving {
	pid_t pid;
	int to, from;
};

static void
serve(struct serving *s)
{
	int to[2], from[2];

	if (pipe2(to, O_CLOEXEC) == -1 || pipe2(from, O_CLOEXEC) == -1)
		exit(ERR_SYSTEM);
	fflush(stdout);
	s->pid = fork();
	if (s->pid == 0) {
		for (int fd = 3; fd < 64; fd++)
			if (fd != to[0] && fd != from[1])
				close(fd);
		_exit(probe_serve(to[0], from[1], &e) == 0 ? 0 : e.code);
	}
	close(to[0]);
	close(from[1]);
	s->to = to[1];
	s->from = from[0];
}

static void
tell(const struct serving *s, const char *text)
{
	io_write(s->to, text, strlen(text), NULL);
}

/* Its next reply, within ms. */
static bool
hear(const struct serving *s, int ms)
{
	struct buf b = {0};
	struct pollfd p = { .fd = s->from, .events = POLLIN };
	bool good = false;
	char c;

	while (poll(&p, 1, ms) == 1 && read(s->from, &c, 1) == 1) {
		if (c == '\n') {
			good = wire_get_reply(&got, b.p, b.n, &e) == 0;
			break;
		}
		buf_putc(&b, c);
	}
	buf_free(&b);
	return good;
}

/* Its exit status, within 2 s; -1: it had to be killed. */
static int
end(struct serving *s, bool close_first)
{
	struct pollfd p = { .fd = s->from, .events = POLLIN };
	int status = 0, late;

	if (close_first)
		close(s->to);
	late = poll(&p, 1, 2000) == 0;
	if (late)
		kill(s->pid, SIGKILL);
	waitpid(s->pid, &status, 0);
	if (!close_first)
		close(s->to);
	close(s->from);
	return late || !WIFEXITED(status) ? -1 : WEXITSTATUS(status);
}

static void
test_serving(void)
{
	struct serving s;

	serve(&s);
	tell(&s, "{\"do\":\"facts\",\"mod");
	usleep(20000);
	tell(&s, "el\":\"/nonexistent\"}\n{\"do\":\"measure\"}\n");
	tap_ok(hear(&s, 5000) && got.re == PROBE_FACTS &&
	    got.facts.cores > 0 && got.facts.memory > 0 &&
	    strstr(got.facts.model.error, "/nonexistent: No such file"),
	    "facts, from a request in two halves");
	tap_ok(hear(&s, 1000) && strstr(got.error, "not connected"),
	    "nothing is measured that is not connected");
	tap_ok(end(&s, true) == 0, "the end of the input is its end");
	serve(&s);
	tell(&s, "{\"do\":\"facts\"");
	tap_ok(end(&s, true) == 0, "a half line is nothing");
	serve(&s);
	tell(&s, "hello?\n");
	tap_ok(end(&s, false) == ERR_CALLER, "no guessing at garbage");
	serve(&s);
	for (int i = 0; i < PROBE_LINE / 1024 + 9; i++) {
		char block[1025];

		memset(block, 'x', 1024);
		block[1024] = '\0';
		tell(&s, block);
	}
	tap_ok(end(&s, false) == ERR_CALLER, "no endless lines");
}

/* ---- connections ---- */

static const char token[] = "0123456789abcdef0123456789abcdef";

static int
tcp(unsigned *port, bool listening)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)*port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t n = sizeof(a);

	if (listening ? bind(fd, (void *)&a, n) == -1 || listen(fd, 8) == -1 ||
	    getsockname(fd, (void *)&a, &n) == -1 :
	    connect(fd, (void *)&a, n) == -1) {
		close(fd);
		return -1;
	}
	*port = ntohs(a.sin_port);
	return fd;
}

static void
tell_port(const struct serving *s, const char *what, unsigned port,
    unsigned ms)
{
	char text[256];

	snprintf(text, sizeof(text), "{\"do\":\"%s\",\"address\":\"127.0.0.1\","
	    "\"port\":%u,\"token\":\"%s\",\"ms\":%u}\n", what, port, token,
	    ms);
	tell(s, text);
}

/* Has the other end of fd been closed, within 2 s? */
static bool
is_dropped(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char c[64];

	while (poll(&p, 1, 2000) == 1)
		if (recv(fd, c, sizeof(c), 0) <= 0)
			return true;
	return false;
}

/* Those who call the lead's port and should not. */
static void
test_strangers(unsigned port)
{
	char text[64];
	int fd = tcp(&port, false);

	io_write(fd, "GET / HTTP/1.0\r\n\r\n", 18, NULL);
	tap_ok(is_dropped(fd), "a stranger is dropped at once");
	close(fd);
	fd = tcp(&port, false);
	io_write(fd, token, PROBE_TOKEN - 1, NULL);
	shutdown(fd, SHUT_WR);
	tap_ok(is_dropped(fd), "so is who knows half of the token");
	close(fd);
	fd = tcp(&port, false);
	snprintf(text, sizeof(text), "%sppx", token);
	io_write(fd, text, strlen(text), NULL);
	tap_ok(is_dropped(fd), "and who breaks the rules later");
	close(fd);
}

static void
test_link(void)
{
	struct serving lead, peer;
	unsigned port = 0;
	int fd = tcp(&port, true), quiet[20];

	serve(&lead);
	tell_port(&lead, "listen", port, 0);
	tap_ok(hear(&lead, 1000) && strstr(got.error, "Address already in use"),
	    "a port in use: %s", got.error);
	close(fd);
	tell_port(&lead, "listen", port, 0);
	tap_ok(hear(&lead, 1000) && !got.error[0] &&
	    strcmp(got.link.address, "127.0.0.1") == 0, "the lead listens");
	test_strangers(port);
	for (int i = 0; i < 20; i++)
		quiet[i] = tcp(&port, false);
	serve(&peer);
	tell_port(&peer, "dial", port, 1000);
	tap_ok(hear(&peer, 2000) && !got.error[0], "the peer connects, among "
	    "20 that say nothing");
	tell_port(&peer, "measure", port, 200);
	tap_ok(hear(&peer, 4000) && !got.error[0] && got.link.rtt_ns > 0 &&
	    got.link.rate > 1000000, "round trip and bandwidth");
	tell_port(&peer, "dial", port, 1000);
	hear(&peer, 2000);
	tap_ok(end(&lead, true) == 0, "the lead goes");
	tell_port(&peer, "measure", port, 200);
	tap_ok(hear(&peer, 2000) && got.error[0], "which the peer notices: %s",
	    got.error);
	tell_port(&peer, "dial", port, 1000);
	tap_ok(hear(&peer, 2000) && strstr(got.error, "Connection refused"),
	    "and again: %s", got.error);
	tap_ok(end(&peer, true) == 0, "the peer goes");
	for (int i = 0; i < 20; i++)
		close(quiet[i]);
}

/* Who answers is not the lead's probe. */
static void
test_impostors(void)
{
	struct serving peer;
	unsigned port = 0;
	int fd = tcp(&port, true), got_fd;
	char text[PROBE_TOKEN];

	serve(&peer);
	tell_port(&peer, "dial", port, 200);
	tap_ok(hear(&peer, 2000) && strstr(got.error, "timed out"),
	    "one that says nothing: %s", got.error);
	got_fd = accept(fd, NULL, NULL);
	close(got_fd);
	tell_port(&peer, "dial", port, 1000);
	got_fd = accept(fd, NULL, NULL);
	if (recv(got_fd, text, sizeof(text), MSG_WAITALL) == PROBE_TOKEN)
		io_write(got_fd, text, sizeof(text), NULL);
	tap_ok(hear(&peer, 2000) && strstr(got.error, "somebody else answers"),
	    "an echo: %s", got.error);
	end(&peer, true);
	close(got_fd);
	close(fd);
}

/* ---- hosts that lie ---- */

/* A shell as the remote shell: $0 is the host. */
static const char script[] =
    "facts() { read -r r; echo '{\"dsi_probe\":1,\"re\":\"facts\",'\\\n"
    "'\"host\":\"'$1'\",\"cores\":1,\"memory\":99999999999,'\\\n"
    "'\"build\":\"0\",\"address\":\"127.0.0.1\",\"model\":{}}'; }\n"
    "case $1 in\n"
    "mute) exit 3 ;;\n"
    "words) echo one >&2; echo 'two words' >&2; exit 255 ;;\n"
    "deaf) exec sleep 100 ;;\n"
    "flood) exec yes nonsense ;;\n"
    "endless) exec cat /dev/zero ;;\n"
    "half) printf '{\"dsi_probe\":1,' ;;\n"
    "broken) echo '{\"dsi_probe\":1,'; exec sleep 100 ;;\n"
    "liar) echo '{\"dsi_probe\":1,\"re\":\"measure\"}'; exec sleep 100 ;;\n"
    "new) echo '{\"dsi_probe\":2,\"re\":\"facts\",\"build\":\"9.9\"}'\n"
    "    exec sleep 100 ;;\n"
    "dies) facts dies; exit 4 ;;\n"
    "twice) facts twice; echo '{\"dsi_probe\":1,\"re\":\"dial\"}'\n"
    "    exec sleep 100 ;;\n"
    "esac\n";

static bool
has_problem(const struct probe *p, const char *text)
{
	for (size_t i = 0; i < p->nproblem; i++)
		if (strncmp(p->problem[i], text, strlen(text)) == 0)
			return true;
	return false;
}

static void
test_verdicts(const struct probe *p)
{
	static const char *const want[] = {
		"mute: the probe ended without a word (exit 3)",
		"words: two words (exit 255)",
		"deaf: no answer for ",
		"flood: no answer for ",
		"endless: its probe breaks the protocol: a line of more than "
		"65536 bytes",
		"half: the probe ended without a word (exit 0)",
		"liar: its probe breaks the protocol: it answers measure, "
		"which was not asked",
		"dies: the probe ended without a word (exit 4)",
		"twice: its probe breaks the protocol: it answers dial, which "
		"was not asked",
	};

	for (size_t i = 0; i < sizeof(want) / sizeof(*want); i++)
		tap_ok(has_problem(p, want[i]), "%s", want[i]);
	tap_ok(strstr(p->v[6].why, "breaks the protocol: byte") != NULL,
	    "a line that is broken off: %s", p->v[6].why);
	tap_ok(strstr(p->v[8].why, "its dsi is 9.9, with version 2") != NULL,
	    "another protocol: %s", p->v[8].why);
}

static void
test_liars(void)
{
	static const char list[] = "mute,words,deaf,flood,endless,half,broken,"
	    "liar,new,dies,twice";
	struct deploy_memory here = { .elsewhere = true };
	struct probe_hosts h = {0};
	struct deploy_plan plan;
	struct probe_share *share;
	struct buf out = {0}, model = {0};
	struct deploy d;
	struct probe p;
	struct probe_opts o = { .d = &d, .plan = &plan, .hosts = &h,
		.rsh = "sh ./liars", .program = "dsi-check", .ms = 3000 };
	uint64_t start = now_ns();

	deploy_init(&d);
	io_path(&model, tap_top(), "share/demo/model");
	d.model = model.p;
	if (!tap_ok(io_write_file("liars", script, sizeof(script) - 1,
	    &e) == 0 && deploy_resolve(&d, &e) == 0 &&
	    probe_hosts_read(&h, list, &e) == 0 &&
	    deploy_plan(&plan, &d, &here, &e) == 0 &&
	    probe_deal(&share, &d, &h, &e) == 0, "liars are set up"))
		return;
	o.share = share;
	tap_ok(probe_run(&p, &o, &e) == 0 && now_ns() - start < 5000000000u,
	    "liars are asked, in time");
	tap_ok(probe_judge(&p, &o, &(struct deploy_memory){0}, &e) == 0 &&
	    p.nproblem >= p.n, "each has a problem");
	test_verdicts(&p);
	probe_put_text(&out, &p, &o);
	probe_put_json(&out, &p, &o);
	tap_ok(buf_ok(&out, &e) == 0, "reports can be written");
	buf_free(&out);
	buf_free(&model);
	probe_free(&p);
	probe_hosts_free(&h);
	deploy_plan_free(&plan);
	deploy_free(&d);
	free(share[0].rank);
	free(share);
}

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	unsetenv("DSI_SOCKET_IFNAME");
	test_lists();
	test_round_trips();
	test_bad_lines();
	test_long_texts();
	test_mutants();
	test_cutting();
	test_serving();
	test_link();
	test_impostors();
	test_liars();
	return tap_done();
}
