/*
 * opt: every refusal names the flag and what would be right.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "tap.h"

enum { MAX_ARGS = 16 };

static struct values {
	bool flag, on;
	uint64_t count, bytes, small;
	double temp, any;
	const char *text, *short_text;
	int word;
	int calls;
} v;

static int
even(const char *arg, void *dst, struct err *e)
{
	uint64_t x;

	if (num_u64(arg, 100, &x) == -1 || x % 2)
		return err_set(e, ERR_CALLER, "'%s' is not even", arg);
	*(int *)dst += (int)x;
	return 0;
}

static int
tick(const char *arg, void *dst, struct err *e)
{
	(void)e;
	*(int *)dst += arg ? 1000 : 1;
	return 0;
}

static const char *const words[] = { "bf16", "f32", NULL };

static const struct opt table[] = {
	{ .key = 'f', .name = "flag", .type = OPT_FLAG, .dst = &v.flag,
	    .help = "a flag" },
	{ .name = "on-by-default", .type = OPT_FLAG, .dst = &v.on,
	    .help = "a flag that is on" },
	{ .key = 'n', .name = "max-count", .type = OPT_U64, .dst = &v.count,
	    .arg = "N", .min = 1, .max = 65535, .help = "how many" },
	{ .name = "at-least", .type = OPT_U64, .dst = &v.small, .min = 3 },
	{ .name = "bytes", .type = OPT_BYTES, .dst = &v.bytes, .arg = "SIZE",
	    .max = 1ull << 40, .help = "how much" },
	{ .key = 't', .name = "temperature", .type = OPT_F64, .dst = &v.temp,
	    .fmin = 0, .fmax = 2, .help = "how hot" },
	{ .name = "any", .type = OPT_F64, .dst = &v.any },
	{ .key = 'o', .name = "output", .type = OPT_STR, .dst = &v.text,
	    .arg = "FILE", .help = "where to" },
	{ .key = 's', .type = OPT_STR, .dst = &v.short_text, .arg = "TEXT",
	    .help = "short only" },
	{ .name = "dtype", .type = OPT_ENUM, .dst = &v.word,
	    .choices = words, .help = "of the result" },
	{ .name = "even", .type = OPT_CALL, .dst = &v.calls, .call = even,
	    .arg = "N" },
	{ .key = 'q', .name = "tick", .type = OPT_CALL, .dst = &v.calls,
	    .call = tick, .noarg = true },
	{ .name = "old-name", .type = OPT_STR, .dst = &v.text, .hidden = true },
	{0},
};

static char *argv[MAX_ARGS];
static int argc;
static struct err e;

/* Parses the words of line, separated by blanks. */
static int
parse(const char *line)
{
	static char copy[512];
	char *s = copy;

	snprintf(copy, sizeof(copy), "%s", line);
	memset(&v, 0, sizeof(v));
	v.on = true;
	v.word = -1;
	e = (struct err){0};
	argv[0] = copy;			/* never looked at */
	for (argc = 1; *s && argc < MAX_ARGS; argc++) {
		argv[argc] = s;
		s += strcspn(s, " ");
		if (*s)
			*s++ = '\0';
	}
	return opt_parse(table, "dsi-test", "[option]... [file]...", &argc,
	    argv, &e);
}

static void
good(const char *line, bool ok)
{
	int rc = parse(line);

	tap_ok(rc == OPT_RUN && ok, "%s%s%s", line, *e.msg ? ": " : "", e.msg);
}

#define GOOD(line, cond) good(line, parse(line) == OPT_RUN && (cond))

static void
bad(const char *line, const char *want)
{
	int rc = parse(line);

	tap_ok(rc == -1 && e.code == ERR_CALLER && strcmp(e.msg, want) == 0,
	    "%s: %s", line, e.msg);
}

static void
test_good(void)
{
	GOOD("", argc == 0 && v.on && !v.flag);
	GOOD("--flag", v.flag);
	GOOD("--flag --no-flag", !v.flag);
	GOOD("--no-on-by-default", !v.on);
	GOOD("--no_on_by_default", !v.on);
	GOOD("--max_count=7", v.count == 7);
	GOOD("--max-count 7", v.count == 7);
	GOOD("-n7", v.count == 7);
	GOOD("-n 7", v.count == 7);
	GOOD("-fn7", v.flag && v.count == 7);
	GOOD("-fq -q", v.flag && v.calls == 2);
	GOOD("--max-count=65535", v.count == 65535);
	GOOD("--at-least=18446744073709551615", v.small == UINT64_MAX);
	GOOD("--bytes=1T", v.bytes == 1ull << 40);
	GOOD("-t 0 --any=-1e9", v.temp == 0 && v.any == -1e9);
	GOOD("-t2", v.temp == 2);
	GOOD("--output=a=b", strcmp(v.text, "a=b") == 0);
	GOOD("--output=", v.text && !*v.text);
	GOOD("--output --flag", strcmp(v.text, "--flag") == 0 && !v.flag);
	GOOD("-o -", strcmp(v.text, "-") == 0);
	GOOD("-s x", strcmp(v.short_text, "x") == 0);
	GOOD("--dtype f32", v.word == 1);
	GOOD("--even 4 --even=6", v.calls == 10);
	GOOD("--old-name=x", strcmp(v.text, "x") == 0);
}

static void
test_operands(void)
{
	GOOD("a -f b - -n 3 c", argc == 4 && v.flag && v.count == 3 &&
	    strcmp(argv[0], "a") == 0 && strcmp(argv[1], "b") == 0 &&
	    strcmp(argv[2], "-") == 0 && strcmp(argv[3], "c") == 0);
	GOOD("a -- -f --flag", argc == 3 && !v.flag &&
	    strcmp(argv[1], "-f") == 0 && strcmp(argv[2], "--flag") == 0);
	GOOD("-- --", argc == 1 && strcmp(argv[0], "--") == 0);
}

static void
test_bad(void)
{
	bad("--nope", "no option --nope; dsi-test --help lists them");
	bad("--nope=3", "no option --nope; dsi-test --help lists them");
	bad("--fla", "no option --fla; there is --flag, and dsi-test --help "
	    "lists all");
	bad("--max_counts=3", "no option --max_counts; there is --max-count, "
	    "and dsi-test --help lists all");
	bad("--no-max-count",
	    "no option --no-max-count; dsi-test --help lists them");
	bad("-fx", "no option -x; dsi-test --help lists them");
	bad("--=3", "no option --; dsi-test --help lists them");
	bad("--flag=yes", "--flag takes no argument");
	bad("--tick=1", "--tick takes no argument");
	bad("-n", "--max-count needs N");
	bad("--output", "--output needs FILE");
	bad("-s", "-s needs TEXT");
	bad("--any", "--any needs an argument");
	bad("-n 0", "--max-count must be a whole number from 1 to 65535, "
	    "not '0'");
	bad("-n 65536", "--max-count must be a whole number from 1 to 65535, "
	    "not '65536'");
	bad("-n x", "--max-count must be a whole number from 1 to 65535, "
	    "not 'x'");
	bad("-n=3", "--max-count must be a whole number from 1 to 65535, "
	    "not '=3'");
	bad("--at-least=2",
	    "--at-least must be a whole number, at least 3, not '2'");
	bad("--at-least=18446744073709551616", "--at-least must be a whole "
	    "number, at least 3, not '18446744073709551616'");
	bad("--bytes=1Q", "--bytes must be a number of bytes such as 512M or "
	    "16GiB, not '1Q'");
	bad("--bytes=2T", "--bytes must be a whole number from 0 to "
	    "1099511627776, not '2T'");
	bad("-t 2.1", "--temperature must be a number from 0 to 2, not '2.1'");
	bad("-t nan", "--temperature must be a number from 0 to 2, not 'nan'");
	bad("--any=inf", "--any must be a number, not 'inf'");
	bad("--dtype=f16", "--dtype must be one of bf16, f32, not 'f16'");
	bad("--even=3", "--even: '3' is not even");
}

/* What parse prints on stdout. */
static int
capture(const char *line, struct buf *b, const char *path)
{
	int saved = dup(1), fd, rc;

	fflush(stdout);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	dup2(fd, 1);
	close(fd);
	rc = parse(line);
	clearerr(stdout);
	dup2(saved, 1);
	close(saved);
	if (io_slurp(path, 65536, b, NULL) == -1)
		buf_puts(b, "nothing");
	return rc;
}

static void
test_help(void)
{
	char path[] = "/tmp/dsi-opt-XXXXXX", want[64];
	struct buf b = {0};

	close(mkstemp(path));
	tap_ok(capture("-n 3 --help", &b, path) == OPT_DONE &&
	    strncmp(b.p, "usage: dsi-test [option]... [file]...\n", 38) == 0,
	    "--help is done, begins with usage");
	tap_ok(strstr(b.p, "  -n, --max-count=N           how many\n") &&
	    strstr(b.p, "  -s TEXT                     short only\n") &&
	    strstr(b.p, "      --dtype=bf16|f32        of the result\n"),
	    "options with keys, names and arguments");
	tap_ok(strstr(b.p, "--[no-]on-by-default") && strstr(b.p, "--flag "),
	    "a flag that is on can be switched off");
	tap_ok(!strstr(b.p, "old-name") && strstr(b.p, "--version"),
	    "aliases are hidden, --version is there");
	tap_ok(capture("-h", &b, path) == OPT_DONE && b.n > 100, "-h");
	snprintf(want, sizeof(want), "dsi-test %s\n", dsi_version);
	tap_ok(capture("--version", &b, path) == OPT_DONE &&
	    strcmp(b.p, want) == 0, "--version");
	tap_ok(capture("--output --help", &b, path) == OPT_RUN && b.n == 0,
	    "--help as an argument is none");
	tap_ok(capture("--help", &b, "/dev/full") == -1 &&
	    e.code == ERR_SYSTEM, "--help onto a full disk: %s", e.msg);
	buf_free(&b);
	unlink(path);
}

int
main(void)
{
	test_good();
	test_operands();
	test_bad();
	test_help();
	return tap_done();
}
