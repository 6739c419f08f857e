/*
 * base: what every other module stands on.  libc only.
 *
 * Errors.  A function that can fail returns 0 or -1 (or NULL) and fills the
 * struct err that its caller passed.  The lowest layer writes the cause, upper
 * layers put their context before it with err_wrap, and only cmd/ prints it
 * and exits.  err.code is the exit code that the command should end with.
 */
#ifndef DSI_BASE_H
#define DSI_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define DSI_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* ---- err.c: one error, its text, and the exit code it asks for ---- */

enum {
	ERR_NO = 1,			/* an honest no: the check failed */
	ERR_CALLER = 100,		/* bad input; trying again won't help */
	ERR_SYSTEM = 111,		/* disk, memory, network; may help */
};

struct err {
	int code;			/* ERR_*; 0 while nothing went wrong */
	char msg[1024];			/* one line, no newline; may be cut */
};

/* Each returns -1, so that a failing path is one statement.  e may be NULL. */
int err_set(struct err *e, int code, const char *fmt, ...) DSI_PRINTF(3, 4);
int err_sys(struct err *e, const char *fmt, ...) DSI_PRINTF(2, 3);
					/* ERR_SYSTEM, ": strerror(errno)" */
int err_wrap(struct err *e, const char *fmt, ...) DSI_PRINTF(2, 3);
					/* puts "context: " before msg */

/* ---- mem.c: sizes that are checked before they are multiplied ---- */

/* n * size bytes, zeroed, free() it; NULL and ERR_SYSTEM when there is none.
 * n == 0 gives a pointer that may be freed. */
void *mem_new(size_t n, size_t size, struct err *e);
/* Grows *p (n elements of size bytes are wanted, *cap are there) by doubling;
 * new elements are not zeroed. */
int mem_grow(void *p, size_t *cap, size_t n, size_t size, struct err *e);
bool mul_ok(size_t a, size_t b, size_t *out);	/* false on overflow */
bool add_ok(size_t a, size_t b, size_t *out);
/* 64-byte aligned, zeroed, in transparent huge pages where that pays; give it
 * back with mem_unmap and the same size. */
void *mem_map(size_t size, struct err *e);
void mem_unmap(void *p, size_t size);

/* ---- buf.c: a growing byte string ---- */

/* {0} is an empty buf.  p is NUL-terminated whenever it is not NULL.  When
 * memory runs out, oom stays set and further puts do nothing: check it once,
 * at the end, with buf_ok. */
struct buf {
	char *p;
	size_t n, cap;
	bool oom;
};

void buf_put(struct buf *b, const void *p, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) DSI_PRINTF(2, 3);
void buf_clear(struct buf *b);			/* n = 0, memory kept */
void buf_free(struct buf *b);			/* back to {0} */
int buf_ok(const struct buf *b, struct err *e);	/* -1 if oom */

/* ---- num.c: numbers, strictly ---- */

/* All of s, decimal, no sign, no blanks, <= max. */
int num_u64(const char *s, uint64_t max, uint64_t *out);
int num_i64(const char *s, int64_t min, int64_t max, int64_t *out);
int num_f64(const char *s, double *out);	/* finite; all of s */
/* Bytes: digits, then optional K M G T (1024) with optional iB or B. */
int num_bytes(const char *s, uint64_t *out);

/* ---- near.c: the word that was probably meant ---- */

/* Letters to add, drop or change between a and b. */
unsigned near_edits(const char *a, size_t na, const char *b, size_t nb);
/* So few that a is a typing error for b, or a begins b. */
bool near_enough(const char *a, size_t na, const char *b, size_t nb);

/* ---- utf8.c ---- */

/* Length 1..4 of the valid sequence at p (RFC 3629: no overlong forms, no
 * surrogates); 0 if p is a proper prefix of one, -1 if it can't be one.
 * n >= 1. */
int utf8_len(const char *p, size_t n);
/* Decodes what utf8_len accepted. */
uint32_t utf8_get(const char *p, int len);

/* ---- io.c: whole reads and writes ---- */

int io_pread(int fd, void *p, size_t n, uint64_t off, struct err *e);
					/* ERR_CALLER "cut off" at EOF */
int io_write(int fd, const void *p, size_t n, struct err *e);
int io_pwrite(int fd, const void *p, size_t n, uint64_t off, struct err *e);
/* The whole file into b, refusing more than max bytes by name.  A file that
 * is not there is ERR_CALLER. */
int io_slurp(const char *path, size_t max, struct buf *b, struct err *e);
/* path appears whole or not at all: temporary beside it, fsync, rename. */
int io_write_file(const char *path, const void *p, size_t n, struct err *e);
int io_sync_dir(const char *dir, struct err *e);
/* dir/name in b (cleared first); always NUL-terminated unless b is oom. */
const char *io_path(struct buf *b, const char *dir, const char *name);
int io_mkdirs(const char *dir, struct err *e);	/* as mkdir -p, mode 0777 */

/* ---- now.c ---- */

uint64_t now_ns(void);				/* CLOCK_MONOTONIC */

/* ---- host.c ---- */

/* Memory of this host, or of its control group, and what is free of it, in
 * bytes; 0: the kernel does not say. */
int host_memory(uint64_t *total, uint64_t *avail, struct err *e);

/* ---- opt.c: one table gives parsing, --help and the man page's test ---- */

enum opt_type {
	OPT_FLAG,		/* bool *: --name sets, --no-name clears */
	OPT_U64,		/* uint64_t *: min..max */
	OPT_BYTES,		/* uint64_t *: num_bytes */
	OPT_F64,		/* double *: fmin..fmax */
	OPT_STR,		/* const char **: borrowed from argv */
	OPT_ENUM,		/* int *: index of the word in choices */
	OPT_CALL,		/* call(arg, dst, e): anything else */
};

/* A table ends with {0}.  Long names may be typed with _ for -, and with =.
 * --help and --version are added by opt_parse. */
struct opt {
	char key;			/* short letter or 0 */
	const char *name;		/* long name or NULL */
	enum opt_type type;
	void *dst;
	const char *arg;		/* word for the argument in --help */
	const char *help;		/* one line, lower case, no full stop */
	uint64_t min, max;		/* OPT_U64; max 0: no limit */
	double fmin, fmax;		/* OPT_F64; both 0: no limit */
	const char *const *choices;	/* OPT_ENUM: NULL-terminated */
	int (*call)(const char *arg, void *dst, struct err *e);
	bool hidden;			/* alias: parsed, not shown */
	bool noarg;			/* OPT_CALL without an argument */
};

enum { OPT_RUN = 0, OPT_DONE = 1 };

/* Parses argv[1..]; operands are moved to argv[0..*argc) in their order
 * ("--" ends options; "-" is an operand).  After --help or --version, which
 * print to stdout, it returns OPT_DONE: the command exits 0.  -1: e says
 * which flag and what would be right (ERR_CALLER). */
int opt_parse(const struct opt *tab, const char *prog, const char *synopsis,
    int *argc, char **argv, struct err *e);

/* ---- bar.c: progress on a terminal ---- */

/* Draws on fd 2 when that is a terminal, at most ten times a second; else
 * does nothing.  total 0: unknown, no bar and no time left. */
struct bar {
	const char *what;		/* borrowed: "shard", "prompts" */
	const char *unit;		/* "B" scales by 1024; else counted */
	uint64_t total, done, start_ns, drawn_ns;
	bool on, drawn;
};

void bar_start(struct bar *b, const char *what, const char *unit,
    uint64_t total);
void bar_add(struct bar *b, uint64_t n);
void bar_end(struct bar *b);			/* clears the line */

/* ---- say.c: for commands only; libraries never call these ---- */

extern const char *prog;			/* set first thing in main */

void say(const char *fmt, ...) DSI_PRINTF(1, 2);	/* "prog: ..." */
void die(int code, const char *fmt, ...) DSI_PRINTF(2, 3)
    __attribute__((noreturn));
void die_err(const struct err *e) __attribute__((noreturn));
/* Flushes stdout; a full disk is not success: dies with 111. */
void out_close(void);

extern const char dsi_version[];

#endif
