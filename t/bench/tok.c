/*
 * tok: how fast text becomes ids and ids become text, on one thread.
 *
 * tok [MODEL [FILE]...]: the demo's tokenizer on this program's own source
 * unless named.  The text is repeated up to 10 MB.  "cold" is a first
 * encode, "warm" one that finds its words in the table.  Prints lines of
 * "name TAB value TAB unit".
 */
#include <stdlib.h>
#include <string.h>

#include "tok/tok.h"

enum { BYTES = 10 << 20, ROUNDS = 3 };

static void
check(int rc, const struct err *e)
{
	if (rc == -1) {
		fprintf(stderr, "tok: %s\n", e->msg);
		exit(e->code);
	}
}

static void
report(const char *name, size_t nbytes, uint64_t ns)
{
	printf("%s\t%.2f\tMB/s\n", name, (double)nbytes * 1e3 / (double)ns);
}

/* Whole characters only: the files may be cut anywhere. */
static size_t
whole(const struct buf *b, size_t n)
{
	while (n > 0 && n < b->n && ((uint8_t)b->p[n] & 0xc0) == 0x80)
		n--;
	return n < b->n ? n : b->n;
}

static void
bench(const struct tok *t, const char *p, size_t n)
{
	struct ids ids = {0};
	struct buf out = {0};
	struct err e = {0};
	uint64_t start, best = UINT64_MAX;

	for (int i = 0; i < ROUNDS; i++) {
		ids.n = 0;
		start = now_ns();
		check(tok_encode(t, p, n, TOK_SPECIAL, &ids, &e), &e);
		start = now_ns() - start;
		if (i == 0)
			report("encode cold", n, start);
		if (start < best)
			best = start;
	}
	report("encode warm", n, best);
	start = now_ns();
	check(tok_decode(t, ids.p, ids.n, 0, &out, &e), &e);
	report("decode", n, now_ns() - start);
	printf("ids\t%zu\tids\n", ids.n);
	ids_free(&ids);
	buf_free(&out);
}

int
main(int argc, char **argv)
{
	const char *self[] = {"t/bench/tok.c", NULL};
	const char **files = argc > 2 ? (const char **)argv + 2 : self;
	struct buf text = {0}, file = {0};
	struct tok *t = NULL;
	struct err e = {0};
	uint64_t start = now_ns();

	check(tok_open(&t, argc > 1 ? argv[1] : "share/demo/model", &e), &e);
	printf("open\t%.1f\tms\n", (double)(now_ns() - start) / 1e6);
	for (size_t i = 0; text.n < BYTES; i = files[i + 1] ? i + 1 : 0) {
		buf_clear(&file);
		check(io_slurp(files[i], 1 << 30, &file, &e), &e);
		if (file.n == 0)
			break;
		buf_put(&text, file.p, file.n);
	}
	check(buf_ok(&text, &e), &e);
	bench(t, text.p ? text.p : "", whole(&text, BYTES));
	tok_close(&t);
	buf_free(&text);
	buf_free(&file);
	return 0;
}
