/*
 * base: limits, overflow, hostile text, disks that are full.
 */
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "tap.h"

/* ---- err ---- */

static void
test_err(void)
{
	struct err e = {0};
	char big[3000];

	tap_ok(err_set(&e, ERR_CALLER, "%s: bad %d", "f", 7) == -1 &&
	    e.code == 100 && strcmp(e.msg, "f: bad 7") == 0, "err_set");
	err_wrap(&e, "shard %u", 3);
	tap_ok(strcmp(e.msg, "shard 3: f: bad 7") == 0 && e.code == 100,
	    "err_wrap puts context before and keeps the code");
	err_set(&e, ERR_NO, "again: %s", e.msg);
	tap_ok(strcmp(e.msg, "again: shard 3: f: bad 7") == 0,
	    "the message may be its own argument");
	err_wrap(&e, "%s", e.msg);
	tap_ok(strcmp(e.msg, "again: shard 3: f: bad 7: "
	    "again: shard 3: f: bad 7") == 0, "err_wrap with itself");
	err_set(&e, ERR_CALLER, "a\nb\033[2Jc\x7f");
	tap_ok(strcmp(e.msg, "a?b?[2Jc?") == 0,
	    "newlines and escapes stay off the terminal");
	errno = ENOSPC;
	tap_ok(err_sys(&e, "write %s", "x") == -1 && e.code == 111 &&
	    strcmp(e.msg, "write x: No space left on device") == 0 &&
	    errno == ENOSPC, "err_sys names the cause, keeps errno");
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	err_set(&e, ERR_CALLER, "%s", big);
	tap_ok(strlen(e.msg) == sizeof(e.msg) - 1, "a long text is cut");
	err_wrap(&e, "%s", big);
	tap_ok(strlen(e.msg) == sizeof(e.msg) - 1, "and with more context");
	memcpy(big + sizeof(e.msg) - 3, "\xe2\x82\xac", 3);
	err_set(&e, ERR_CALLER, "%s", big);
	tap_ok(e.msg[strlen(e.msg) - 1] == 'x',
	    "a cut leaves no half character");
	tap_ok(err_set(NULL, 100, "x") == -1 && err_sys(NULL, "x") == -1 &&
	    err_wrap(NULL, "x") == -1, "no struct err is fine");
}

/* ---- mem ---- */

static void
test_mem(void)
{
	struct err e = {0};
	size_t v = 5, cap = 0;
	char *p = NULL, *q;

	tap_ok(mul_ok(SIZE_MAX, 1, &v) && v == SIZE_MAX, "mul_ok at the top");
	tap_ok(!mul_ok(SIZE_MAX / 2 + 1, 2, &v), "mul_ok past it");
	tap_ok(add_ok(SIZE_MAX - 1, 1, &v) && v == SIZE_MAX &&
	    !add_ok(SIZE_MAX, 1, &v), "add_ok");
	q = mem_new(0, 8, &e);
	tap_ok(q != NULL, "mem_new of nothing can be freed");
	free(q);
	tap_ok(!mem_new(SIZE_MAX / 8 + 1, 8, &e) && e.code == ERR_SYSTEM,
	    "mem_new refuses a product that wraps: %s", e.msg);
	tap_ok(!mem_new(SIZE_MAX, 1, &e), "mem_new refuses the impossible");
	tap_ok(mem_grow(&p, &cap, 1, 4, &e) == 0 && cap >= 1, "mem_grow");
	v = cap;
	tap_ok(mem_grow(&p, &cap, v + 1, 4, &e) == 0 && cap >= 2 * v,
	    "mem_grow doubles");
	v = cap;
	q = p;
	tap_ok(mem_grow(&p, &cap, SIZE_MAX / 2, 4, &e) == -1 && p == q &&
	    cap == v, "mem_grow that fails leaves all as it was");
	free(p);
}

static void
test_map(size_t size)
{
	struct err e = {0};
	unsigned char *p = mem_map(size, &e);
	size_t sum = 0;

	if (!tap_ok(p && (uintptr_t)p % 64 == 0, "mem_map(%zu): %s", size,
	    e.msg))
		return;
	for (size_t i = 0; i < size; i++)
		sum += p[i];
	memset(p, 0xff, size);
	tap_ok(sum == 0, "mem_map(%zu) is zeroed and writable", size);
	mem_unmap(p, size);
}

static void
test_maps(void)
{
	struct err e = {0};

	test_map(0);
	test_map(1);
	test_map(4097);
	test_map((2 << 20) - 1);
	test_map((2 << 20) + 1);
	test_map((5 << 20) + 123);
	tap_ok(!mem_map(SIZE_MAX, &e) && !mem_map(PTRDIFF_MAX, &e) &&
	    e.code == ERR_SYSTEM, "mem_map refuses the impossible");
	mem_unmap(NULL, 5);
}

/* ---- buf ---- */

static void
test_buf(void)
{
	struct buf b = {0};
	struct err e = {0};

	buf_put(&b, NULL, 0);
	tap_ok(b.p && !*b.p && b.n == 0, "an empty put gives an empty text");
	for (int i = 0; i < 10000; i++)
		buf_printf(&b, "%d,", i % 10);
	tap_ok(b.n == 20000 && b.p[b.n] == '\0' &&
	    memcmp(b.p + 19998, "9,", 2) == 0, "buf_printf appends");
	buf_clear(&b);
	tap_ok(b.n == 0 && b.p[0] == '\0', "buf_clear");
	buf_put(&b, "a\0b", 3);
	buf_putc(&b, 'c');
	tap_ok(b.n == 4 && memcmp(b.p, "a\0bc", 5) == 0, "NULs are bytes");
	buf_put(&b, "x", SIZE_MAX - 2);
	tap_ok(b.oom && buf_ok(&b, &e) == -1 && e.code == ERR_SYSTEM,
	    "a length that wraps is out of memory");
	buf_puts(&b, "more");
	tap_ok(b.n == 4, "and nothing is put after that");
	buf_free(&b);
	tap_ok(!b.p && !b.oom && !b.cap, "buf_free resets");
}

/* ---- num ---- */

static void
test_u64(void)
{
	static const char *const bad[] = {
		"", " 1", "1 ", "+1", "-1", "0x10", "1.0", "1e3",
		"18446744073709551616", "99999999999999999999", "1\n",
		"\xd9\xa1",
	};
	uint64_t v = 7;
	bool none = true;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		none &= num_u64(bad[i], UINT64_MAX, &v) == -1;
	tap_ok(none && v == 7, "num_u64 refuses what is no number");
	tap_ok(num_u64("18446744073709551615", UINT64_MAX, &v) == 0 &&
	    v == UINT64_MAX, "num_u64 of the largest");
	tap_ok(num_u64("00", 0, &v) == 0 && v == 0, "leading zeros");
	tap_ok(num_u64("11", 10, &v) == -1 && num_u64("10", 10, &v) == 0,
	    "max is allowed, more is not");
}

static void
test_signed(void)
{
	int64_t v;
	double x;

	tap_ok(num_i64("-9223372036854775808", INT64_MIN, 0, &v) == 0 &&
	    v == INT64_MIN, "num_i64 of the smallest");
	tap_ok(num_i64("-9223372036854775809", INT64_MIN, 0, &v) == -1 &&
	    num_i64("9223372036854775808", INT64_MIN, INT64_MAX, &v) == -1,
	    "num_i64 past both ends");
	tap_ok(num_i64("-", -1, 1, &v) == -1 && num_i64("--1", -9, 9, &v) == -1
	    && num_i64("-0", -1, 1, &v) == 0 && v == 0, "signs");
	tap_ok(num_i64("-3", -2, 2, &v) == -1 && num_i64("3", -2, 2, &v) == -1,
	    "num_i64 keeps to its range");
	tap_ok(num_f64("-1.5e-3", &x) == 0 && x == -1.5e-3 &&
	    num_f64(".5", &x) == 0 && x == 0.5, "num_f64");
	tap_ok(num_f64("inf", &x) == -1 && num_f64("nan", &x) == -1 &&
	    num_f64("0x1p3", &x) == -1 && num_f64(" 1", &x) == -1 &&
	    num_f64("+1", &x) == -1 && num_f64("1e999", &x) == -1 &&
	    num_f64("1e", &x) == -1 && num_f64("", &x) == -1 &&
	    num_f64("1.2.3", &x) == -1 && num_f64("-", &x) == -1 &&
	    num_f64("1,5", &x) == -1, "num_f64 refuses the rest");
}

static void
test_bytes(void)
{
	uint64_t v;

	tap_ok(num_bytes("0", &v) == 0 && v == 0, "num_bytes of nothing");
	tap_ok(num_bytes("16G", &v) == 0 && v == 16ull << 30 &&
	    num_bytes("16GiB", &v) == 0 && v == 16ull << 30 &&
	    num_bytes("61GB", &v) == 0 && v == 61ull << 30 &&
	    num_bytes("2T", &v) == 0 && v == 2ull << 40, "units");
	tap_ok(num_bytes("16777215T", &v) == 0 && v == 16777215ull << 40 &&
	    num_bytes("16777216T", &v) == -1 &&
	    num_bytes("18446744073709551615K", &v) == -1, "overflow");
	tap_ok(num_bytes("", &v) == -1 && num_bytes("G", &v) == -1 &&
	    num_bytes("1g", &v) == -1 && num_bytes("1Gi", &v) == -1 &&
	    num_bytes("1 G", &v) == -1 && num_bytes("-1", &v) == -1 &&
	    num_bytes("1GBB", &v) == -1 && num_bytes("1.5G", &v) == -1,
	    "num_bytes refuses the rest");
}

/* ---- utf8 ---- */

/* Encodes any value, valid or not, in len bytes. */
static void
encode(char *s, uint32_t c, int len)
{
	static const unsigned char lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };

	for (int i = len - 1; i > 0; i--, c >>= 6)
		s[i] = (char)(0x80 | (c & 0x3f));
	s[0] = (char)(lead[len] | c);
}

static void
test_utf8_all(void)
{
	bool ok = true, prefix = true, overlong = true;
	char s[4];

	for (uint32_t c = 0; c < 0x110000; c++) {
		int len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
		bool surrogate = c >= 0xd800 && c <= 0xdfff;

		encode(s, c, len);
		if (surrogate)
			ok &= utf8_len(s, 3) == -1 && utf8_len(s, 2) == -1;
		else
			ok &= utf8_len(s, (size_t)len) == len &&
			    utf8_get(s, len) == c;
		for (int n = 1; n < len && !surrogate; n++)
			prefix &= utf8_len(s, (size_t)n) == 0;
		if (len < 4 && c < 0x10000) {
			encode(s, c, len + 1);
			overlong &= utf8_len(s, (size_t)len + 1) == -1;
		}
	}
	tap_ok(ok, "every character of Unicode, and no surrogate");
	tap_ok(prefix, "a proper prefix is 0");
	tap_ok(overlong, "overlong forms are refused");
}

static void
test_utf8_bad(void)
{
	tap_ok(utf8_len("\x80", 1) == -1 && utf8_len("\xbf", 1) == -1 &&
	    utf8_len("\xc0\x80", 2) == -1 && utf8_len("\xc1\xbf", 2) == -1 &&
	    utf8_len("\xff", 1) == -1 && utf8_len("\xfe", 1) == -1 &&
	    utf8_len("\xf5\x80\x80\x80", 4) == -1, "bytes that start nothing");
	tap_ok(utf8_len("\xf4\x90", 2) == -1 && utf8_len("\xf4\x8f", 2) == 0,
	    "past U+10FFFF is known at the second byte");
	tap_ok(utf8_len("\xe2\x82" "a", 3) == -1 &&
	    utf8_len("\xe2" "aa", 3) == -1, "broken off in the middle");
}

/* ---- io ---- */

static void
test_slurp(void)
{
	struct buf b = {0};
	struct err e = {0};

	tap_ok(io_write_file("f", "hello", 5, &e) == 0, "io_write_file %s",
	    e.msg);
	tap_ok(io_slurp("f", 5, &b, &e) == 0 && b.n == 5 &&
	    strcmp(b.p, "hello") == 0, "io_slurp");
	tap_ok(io_slurp("f", 4, &b, &e) == -1 && e.code == ERR_CALLER &&
	    strstr(e.msg, "f: 5 bytes, more than the 4"), "too large: %s",
	    e.msg);
	tap_ok(io_slurp("/dev/zero", 100000, &b, &e) == -1 &&
	    e.code == ERR_CALLER, "endless: %s", e.msg);
	tap_ok(io_write_file("f", "", 0, &e) == 0 &&
	    io_slurp("f", 0, &b, &e) == 0 && b.n == 0 && b.p, "empty file");
	tap_ok(io_slurp("none/x", 9, &b, &e) == -1 && e.code == ERR_CALLER &&
	    strstr(e.msg, "none/x"), "no file: %s", e.msg);
	tap_ok(io_slurp(".", 9, &b, &e) == -1 && e.code == ERR_CALLER,
	    "a directory: %s", e.msg);
	buf_free(&b);
}

static void
test_pread(void)
{
	struct err e = {0};
	char s[8] = "";
	int fd;

	io_write_file("f", "0123456789", 10, &e);
	fd = open("f", O_RDWR);
	tap_ok(io_pread(fd, s, 3, 7, &e) == 0 && memcmp(s, "789", 3) == 0,
	    "io_pread to the last byte");
	tap_ok(io_pread(fd, s, 3, 8, &e) == -1 && e.code == ERR_CALLER &&
	    strstr(e.msg, "cut off"), "one past it: %s", e.msg);
	tap_ok(io_pread(fd, s, 3, UINT64_MAX - 1, &e) == -1 &&
	    e.code == ERR_CALLER, "an absurd offset: %s", e.msg);
	tap_ok(io_pread(fd, s, 0, 10, &e) == 0, "nothing at the end");
	tap_ok(io_pwrite(fd, "ab", 2, 9, &e) == 0 &&
	    io_pread(fd, s, 3, 8, &e) == 0 && memcmp(s, "8ab", 3) == 0,
	    "io_pwrite grows the file");
	tap_ok(io_pwrite(fd, "ab", 2, UINT64_MAX, &e) == -1,
	    "io_pwrite at an absurd offset");
	close(fd);
	tap_ok(io_pread(fd, s, 1, 0, &e) == -1 && e.code == ERR_SYSTEM,
	    "a closed file is the system's fault: %s", e.msg);
	fd = open("/dev/full", O_WRONLY);
	tap_ok(io_write(fd, "x", 1, &e) == -1 && e.code == ERR_SYSTEM,
	    "/dev/full: %s", e.msg);
	close(fd);
}

/* A pipe takes and gives parts: io_write must go on. */
static void
test_pipe(void)
{
	size_t n = 1 << 20;
	char *big = mem_new(n, 1, NULL);
	struct buf b = {0};
	struct err e = {0};
	char path[32];
	int fd[2];
	pid_t pid;

	if (!big || pipe(fd) == -1)
		die(111, "no pipe");
	for (size_t i = 0; i < n; i++)
		big[i] = (char)(i * 2654435761u >> 13);
	pid = fork();
	if (pid == 0)
		_exit(io_write(fd[1], big, n, NULL) == -1);
	close(fd[1]);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd[0]);
	tap_ok(io_slurp(path, n, &b, &e) == 0 && b.n == n &&
	    memcmp(b.p, big, n) == 0, "a megabyte through a pipe %s", e.msg);
	close(fd[0]);
	waitpid(pid, NULL, 0);
	buf_free(&b);
	free(big);
}

static size_t
count_files(void)
{
	FILE *fp = popen("ls -A | wc -l", "r");
	size_t n = 0;
	int c;

	while ((c = getc(fp)) != EOF) {
		if (c >= '0' && c <= '9')
			n = n * 10 + (size_t)(c - '0');
	}
	pclose(fp);
	return n;
}

static void
test_write_file(void)
{
	struct buf b = {0};
	struct err e = {0};
	struct stat st;
	size_t before;

	umask(027);
	tap_ok(io_write_file("new", "1", 1, &e) == 0 && stat("new", &st) == 0 &&
	    (st.st_mode & 0777) == 0640, "the umask is honoured");
	before = count_files();
	tap_ok(io_write_file("new", "22", 2, &e) == 0 &&
	    count_files() == before, "replaced, no temporary left");
	mkdir("dir", 0777);
	before = count_files();
	tap_ok(io_write_file("dir", "x", 1, &e) == -1 &&
	    count_files() == before, "onto a directory: %s", e.msg);
	tap_ok(io_write_file("no/such/f", "x", 1, &e) == -1 &&
	    e.code == ERR_CALLER, "no directory: %s", e.msg);
	tap_ok(io_sync_dir("nowhere", &e) == -1, "io_sync_dir: %s", e.msg);
	tap_ok(io_mkdirs("a//b/c/", &e) == 0 && stat("a/b/c", &st) == 0,
	    "io_mkdirs");
	tap_ok(io_mkdirs("a/b", &e) == 0, "io_mkdirs again");
	tap_ok(io_mkdirs("new/x", &e) == -1 && e.code == ERR_CALLER,
	    "io_mkdirs through a file: %s", e.msg);
	tap_ok(io_mkdirs("new", &e) == -1 && strstr(e.msg, "not a directory"),
	    "io_mkdirs onto a file: %s", e.msg);
	tap_ok(strcmp(io_path(&b, "a", "b"), "a/b") == 0 &&
	    strcmp(io_path(&b, "a/", "b"), "a/b") == 0 &&
	    strcmp(io_path(&b, "/", "b"), "/b") == 0 &&
	    strcmp(io_path(&b, "", "b"), "b") == 0, "io_path");
	buf_free(&b);
}

/* ---- say ---- */

/* The exit status of fn in a child whose stdout is path; its stderr is in
 * the file "stderr". */
static int
exits(void (*fn)(void), const char *path)
{
	int status = -1;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		int out = open(path, O_WRONLY | O_CREAT, 0666);
		int err = open("stderr", O_WRONLY | O_CREAT | O_TRUNC, 0666);

		dup2(out, 1);
		dup2(err, 2);
		fn();
		exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool
said(const char *want)
{
	struct buf b = {0};
	bool is = io_slurp("stderr", 1 << 20, &b, NULL) == 0 &&
	    strcmp(b.p, want) == 0;

	if (!is)
		printf("# stderr: %s\n", b.p);
	buf_free(&b);
	return is;
}

static void
print_one(void)
{
	printf("x");
	out_close();
}

static void
print_much(void)
{
	for (int i = 0; i < 100000; i++)
		printf("%d\n", i);
	out_close();
}

static void
die_with_err(void)
{
	struct err e = {0};

	err_set(&e, ERR_CALLER, "f: no\nsuch %%s thing");
	die_err(&e);
}

static void
say_much(void)
{
	char s[5000];

	memset(s, 'y', sizeof(s) - 1);
	s[sizeof(s) - 1] = '\0';
	say("%s", s);
}

static void
test_say(void)
{
	struct stat st;

	prog = "dsi-test";
	tap_ok(exits(print_one, "out") == 0, "out_close");
	tap_ok(exits(print_one, "/dev/full") == 111 &&
	    said("dsi-test: write stdout: No space left on device\n"),
	    "a full disk is not success");
	tap_ok(exits(print_much, "/dev/full") == 111,
	    "not even when it was full earlier");
	tap_ok(exits(die_with_err, "out") == 100 &&
	    said("dsi-test: f: no?such %s thing\n"), "die_err");
	tap_ok(exits(say_much, "out") == 0 && stat("stderr", &st) == 0 &&
	    st.st_size > 1000 && st.st_size < 5000, "a long line is cut");
}

/* What a bar draws on a terminal. */
static void
test_bar(void)
{
	char seen[1024] = "";
	size_t n = 0;
	ssize_t r;
	int fd;
	pid_t pid = forkpty(&fd, NULL, NULL, NULL);

	if (pid == -1) {
		tap_skip("bar on a terminal", "no pseudo terminal");
		return;
	}
	if (pid == 0) {
		struct bar bar;

		setenv("TERM", "xterm", 1);
		bar_start(&bar, "shard", "B", 4096);
		usleep(120000);
		bar_add(&bar, 1024);
		bar_add(&bar, 1024);	/* too soon to be drawn */
		bar_end(&bar);
		_exit(0);
	}
	while (n < sizeof(seen) - 1 &&
	    (r = read(fd, seen + n, sizeof(seen) - 1 - n)) > 0)
		n += (size_t)r;
	seen[n] = '\0';
	close(fd);
	waitpid(pid, NULL, 0);
	tap_ok(strcmp(seen, "\rshard: 1.0 KiB of 4.0 KiB,  25%\033[K"
	    "\r\033[K") == 0, "a bar on a terminal");
}

static void
test_rest(void)
{
	struct bar bar;
	uint64_t t = now_ns();

	tap_ok(t > 0 && now_ns() >= t, "now_ns does not go back");
	bar_start(&bar, "test", "B", 0);
	bar_add(&bar, 5);
	bar_end(&bar);
	tap_ok(bar.done == 5 && !bar.drawn, "no bar where no terminal is");
	tap_ok(dsi_version[0] >= '0' && dsi_version[0] <= '9',
	    "version %s", dsi_version);
}

int
main(void)
{
	char dir[] = "/tmp/dsi-base-XXXXXX", cmd[64];

	if (!mkdtemp(dir) || chdir(dir) == -1)
		die(111, "no scratch directory");
	test_err();
	test_mem();
	test_maps();
	test_buf();
	test_u64();
	test_signed();
	test_bytes();
	test_utf8_all();
	test_utf8_bad();
	test_slurp();
	test_pread();
	test_pipe();
	test_write_file();
	test_say();
	test_bar();
	test_rest();
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	tap_ok(system(cmd) == 0, "clean up");
	return tap_done();
}
