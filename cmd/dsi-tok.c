/*
 * dsi-tok: text to token ids and back, as a filter.
 *
 * Plain mode takes all of stdin as one text; --jsonl takes one text a line
 * and keeps only that line in memory.  A bad line ends the run with its
 * number: ids with a hole in the middle are worse than none.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "json/json.h"
#include "tok/tok.h"

static const char synopsis[] = "encode | decode | count [options] MODEL";

enum op { ENCODE, DECODE, COUNT };

struct run {
	enum op op;
	struct tok *tok;
	bool jsonl, bos, plain, skip;
};

static unsigned
encode_flags(const struct run *r)
{
	return (r->bos ? TOK_BOS : 0) | (r->plain ? 0 : TOK_SPECIAL);
}

static int
check_id(const struct run *r, uint64_t id, struct err *e)
{
	const char *p;
	size_t n;

	if (id > INT32_MAX || tok_bytes(r->tok, (int32_t)id, &p, &n) == -1)
		return err_set(e, ERR_CALLER, "no token has the id %llu: the "
		    "vocabulary ends at %d", (unsigned long long)id,
		    (int)tok_vocab(r->tok) - 1);
	return 0;
}

static void
put_out(const struct buf *b)
{
	if (b->n && fwrite(b->p, 1, b->n, stdout) != b->n)
		out_close();
}

/* ---- one text on stdin ---- */

static int
read_all(struct buf *b, struct err *e)
{
	char part[1 << 16];
	size_t n;

	while ((n = fread(part, 1, sizeof part, stdin)) > 0)
		buf_put(b, part, n);
	if (ferror(stdin))
		return err_sys(e, "read stdin");
	return buf_ok(b, e);
}

static int
encode_all(const struct run *r, struct err *e)
{
	struct buf text = {0};
	struct ids ids = {0};
	int rc = read_all(&text, e);

	if (rc == 0) {
		rc = tok_encode(r->tok, text.p ? text.p : "", text.n,
		    encode_flags(r), &ids, e);
		if (rc == -1)
			err_wrap(e, "stdin");
	}
	if (rc == 0 && r->op == COUNT)
		printf("%zu\n", ids.n);
	if (rc == 0 && r->op == ENCODE) {
		for (size_t i = 0; i < ids.n; i++)
			printf(i ? " %d" : "%d", (int)ids.p[i]);
		putchar('\n');
	}
	ids_free(&ids);
	buf_free(&text);
	return rc;
}

/* The next word of stdin; 0 at the end, -1 when it doesn't fit. */
static int
next_word(char *word, size_t size, unsigned long *line)
{
	size_t n = 0;
	int c;

	while ((c = getc(stdin)) != EOF) {
		if (!strchr(" \t\r\n", c) || c == '\0') {
			if (n + 1 == size)
				return -1;
			word[n++] = (char)c;
			continue;
		}
		if (n) {
			ungetc(c, stdin);	/* its line is this word's */
			break;
		}
		*line += c == '\n';
	}
	word[n] = '\0';
	return n > 0;
}

static int
decode_all(const struct run *r, struct err *e)
{
	struct tok_stream s;
	struct buf out = {0};
	unsigned long line = 1;
	char word[32];
	uint64_t id;
	int got;

	tok_stream_init(&s, r->tok, r->skip ? TOK_SKIP_SPECIAL : 0);
	while ((got = next_word(word, sizeof word, &line)) != 0) {
		if (got == -1 || num_u64(word, UINT64_MAX, &id) == -1) {
			err_set(e, ERR_CALLER, "stdin:%lu: \"%.20s\" is not a "
			    "token id", line, word);
			break;
		}
		if (check_id(r, id, e) == -1) {
			err_wrap(e, "stdin:%lu", line);
			break;
		}
		buf_clear(&out);
		tok_stream_put(&s, (int32_t)id, &out);
		put_out(&out);
	}
	if (got == 0 && ferror(stdin))
		got = err_sys(e, "read stdin");
	if (got == 0) {
		buf_clear(&out);
		tok_stream_end(&s, &out);
		put_out(&out);
	}
	buf_free(&out);
	return got == 0 ? 0 : -1;
}

/* ---- one text a line ---- */

static int
encode_line(const struct run *r, const struct json *v, struct ids *ids,
    struct buf *out, struct err *e)
{
	const char *text = NULL;

	if (json_opt_str(v, "text", &text, e) == -1)
		return -1;
	if (!text)
		return err_set(e, ERR_CALLER,
		    "want an object with \"text\"");
	ids->n = 0;
	if (tok_encode(r->tok, text, strlen(text), encode_flags(r), ids, e)
	    == -1)
		return -1;
	if (r->op == COUNT) {
		buf_printf(out, "{\"count\":%zu}\n", ids->n);
		return 0;
	}
	buf_puts(out, "{\"ids\":[");
	for (size_t i = 0; i < ids->n; i++)
		buf_printf(out, i ? ",%d" : "%d", (int)ids->p[i]);
	buf_puts(out, "]}\n");
	return 0;
}

static int
decode_line(const struct run *r, const struct json *v, struct ids *ids,
    struct buf *out, struct err *e)
{
	const struct json *list = json_get(v, "ids");
	struct buf text = {0};
	int rc;

	if (!list || json_type(list) != JSON_ARR)
		return err_set(e, ERR_CALLER,
		    "want an object with \"ids\", a list");
	ids->n = 0;
	for (list = json_first(list); list; list = json_next(list)) {
		if (json_type(list) != JSON_NUM || !json_is_int(list) ||
		    json_num(list) < 0)
			return err_set(e, ERR_CALLER,
			    "ids[%zu] is not a token id", ids->n);
		if (check_id(r, (uint64_t)json_num(list), e) == -1)
			return err_wrap(e, "ids[%zu]", ids->n);
		if (ids_put(ids, (int32_t)json_num(list), e) == -1)
			return -1;
	}
	rc = tok_decode(r->tok, ids->p, ids->n, r->skip ? TOK_SKIP_SPECIAL : 0,
	    &text, e);
	buf_puts(out, "{\"text\":");
	json_put_str(out, text.p ? text.p : "", text.n);
	buf_puts(out, "}\n");
	buf_free(&text);
	return rc;
}

static int
do_line(const struct run *r, const char *line, size_t n, struct ids *ids,
    struct buf *out, struct err *e)
{
	struct json *v = NULL;
	int rc;

	if (json_parse(&v, line, n, e) == -1)
		return -1;
	buf_clear(out);
	rc = (r->op == DECODE ? decode_line : encode_line)(r, v, ids, out, e);
	json_free(&v);
	if (rc == 0 && (rc = buf_ok(out, e)) == 0)
		put_out(out);
	return rc;
}

static int
do_lines(const struct run *r, struct err *e)
{
	struct buf out = {0};
	struct ids ids = {0};
	unsigned long lineno = 0;
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	int rc = 0;

	while (rc == 0 && (n = getline(&line, &cap, stdin)) != -1) {
		lineno++;
		if (n > 0 && line[n - 1] == '\n')
			n--;
		rc = do_line(r, line, (size_t)n, &ids, &out, e);
		if (rc == -1)
			err_wrap(e, "stdin:%lu", lineno);
	}
	if (rc == 0 && !feof(stdin))
		rc = err_sys(e, "read stdin");
	free(line);
	ids_free(&ids);
	buf_free(&out);
	return rc;
}

/* ---- main ---- */

static int
parse_args(struct run *r, int argc, char **argv, struct err *e)
{
	static const char *const ops[] = {"encode", "decode", "count"};
	const struct opt tab[] = {
		{0, "jsonl", OPT_FLAG, &r->jsonl, .help =
		    "a JSON object a line: {\"text\":...} or {\"ids\":[...]}"},
		{0, "bos", OPT_FLAG, &r->bos, .help =
		    "put the model's begin token in front, if it wants one"},
		{0, "no-special", OPT_FLAG, &r->plain, .help =
		    "special tokens in the text are ordinary text"},
		{0, "skip-special", OPT_FLAG, &r->skip, .help =
		    "decode: leave special tokens out"},
		{0},
	};
	int done = opt_parse(tab, prog, synopsis, &argc, argv, e);

	if (done != OPT_RUN)
		return done;
	if (argc != 2)
		return err_set(e, ERR_CALLER, "want %s (see --help)", synopsis);
	for (r->op = ENCODE; r->op <= COUNT; r->op++)
		if (!strcmp(argv[0], ops[r->op]))
			break;
	if (r->op > COUNT)
		return err_set(e, ERR_CALLER, "\"%.40s\" must be encode, "
		    "decode or count", argv[0]);
	if (r->op == DECODE ? r->bos || r->plain : r->skip)
		return err_set(e, ERR_CALLER, r->op == DECODE ?
		    "--bos and --no-special are for encode and count" :
		    "--skip-special is for decode");
	return tok_open(&r->tok, argv[1], e);
}

int
main(int argc, char **argv)
{
	struct run r = {0};
	struct err e = {0};
	int rc;

	prog = "dsi-tok";
	rc = parse_args(&r, argc, argv, &e);
	if (rc == OPT_DONE)
		return 0;
	if (rc == 0 && r.jsonl) {
		setvbuf(stdout, NULL, _IOLBF, 0);
		rc = do_lines(&r, &e);
	} else if (rc == 0) {
		rc = r.op == DECODE ? decode_all(&r, &e) : encode_all(&r, &e);
	}
	tok_close(&r.tok);
	if (rc == -1) {
		fflush(stdout);
		die_err(&e);
	}
	out_close();
	return 0;
}
