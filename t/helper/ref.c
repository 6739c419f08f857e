/*
 * ref: reference logits of a fixture against what dsi-gen --jsonl says.
 *
 *   ref requests REFERENCE.safetensors      request bodies, a line a prompt
 *   ref compare REFERENCE.safetensors       responses on stdin, in that order
 *
 * compare prints "max M median D p95 P greedy K/N": differences of the prompt
 * tokens' logprobs (natural logs), and how many of the first greedy tokens
 * agree up to the first that does not.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "json/json.h"
#include "store/store.h"

enum { NPROMPT = 3 };

struct ref {
	size_t n, ngreedy, vocab;
	int32_t *ids, *greedy;
	float *logits;			/* [n][vocab] */
};

static void *
get(const struct store *s, const char *stem, int k, size_t *dim0, size_t *dim1)
{
	char name[32];
	const struct tensor *t;
	struct err e = { 0 };
	void *p;

	snprintf(name, sizeof name, "%s.%d", stem, k);
	if ((t = store_find(s, name)) == NULL)
		die(100, "%s: no tensor %s", store_path(s), name);
	if ((p = mem_new(1, t->nbytes, &e)) == NULL ||
	    store_read(s, t, 0, p, t->nbytes, &e) == -1)
		die_err(&e);
	*dim0 = t->dim[0];
	if (dim1)
		*dim1 = t->dim[1];
	return p;
}

static void
load(const char *path, struct ref *r)
{
	struct store *s;
	struct err e = { 0 };
	int k;

	if (store_open(&s, path, &e) == -1)
		die_err(&e);
	for (k = 0; k < NPROMPT; k++) {
		r[k].ids = get(s, "ids", k, &r[k].n, NULL);
		r[k].greedy = get(s, "greedy", k, &r[k].ngreedy, NULL);
		r[k].logits = get(s, "logits", k, &r[k].n, &r[k].vocab);
	}
	store_close(&s);
}

static void
requests(const struct ref *r)
{
	size_t i;
	int k;

	for (k = 0; k < NPROMPT; k++) {
		printf("{\"prompt\":[");
		for (i = 0; i < r[k].n; i++)
			printf("%s%d", i ? "," : "", r[k].ids[i]);
		printf("],\"max_tokens\":%zu,\"temperature\":0,\"echo\":true,"
		    "\"logprobs\":0,\"ignore_eos\":true,"
		    "\"return_tokens_as_token_ids\":true}\n", r[k].ngreedy);
	}
}

static double
logprob(const struct ref *r, size_t row, int32_t id)
{
	const float *x = r->logits + row * r->vocab;
	double max = x[0], sum = 0;
	size_t i;

	for (i = 1; i < r->vocab; i++)
		max = x[i] > max ? x[i] : max;
	for (i = 0; i < r->vocab; i++)
		sum += exp(x[i] - max);
	return x[id] - max - log(sum);
}

static const struct json *
at(const struct json *v, size_t i)
{
	for (v = json_first(v); v && i; i--)
		v = json_next(v);
	return v;
}

/* One response: differences go to d, agreeing greedy tokens are counted. */
static size_t
compare(const struct ref *r, const char *line, size_t len, double *d,
    size_t *same)
{
	struct json *root;
	const struct json *lp, *tok, *val, *t, *v;
	struct err e = { 0 };
	bool agree = true;
	size_t i, n = 0;

	if (json_parse(&root, line, len, &e) == -1)
		die_err(&e);
	lp = json_get(at(json_get(root, "choices"), 0), "logprobs");
	tok = json_get(lp, "tokens");
	val = json_get(lp, "token_logprobs");
	if (!tok || !val || json_len(val) != json_len(tok) ||
	    json_len(tok) != r->n + r->ngreedy)
		die(100, "not the response that was asked for: %.300s", line);
	t = json_first(tok);
	v = json_first(val);
	for (i = 0; t; i++, t = json_next(t), v = json_next(v)) {
		int32_t want = i < r->n ? r->ids[i] : r->greedy[i - r->n];
		int64_t have;

		if (num_i64(json_str(t) + strlen("token_id:"), 0, INT32_MAX,
			&have) == -1)
			die(100, "no token id: %s", json_str(t));

		if (i < r->n && want != have)
			die(1, "token %zu of the prompt is %lld, not %d", i,
			    (long long)have, want);
		if (i > 0 && i < r->n)
			d[n++] = fabs(json_num(v) - logprob(r, i - 1, want));
		if (i >= r->n && agree && (agree = want == have))
			++*same;
	}
	json_free(&root);
	return n;
}

static int
cmp(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

int
main(int argc, char **argv)
{
	struct ref r[NPROMPT];
	size_t n = 0, same = 0, want = 0, cap = 0;
	char *line = NULL;
	double *d;
	ssize_t len;
	int k;

	prog = "ref";
	if (argc != 3)
		die(100, "usage: ref requests|compare REFERENCE.safetensors");
	load(argv[2], r);
	if (strcmp(argv[1], "requests") == 0) {
		requests(r);
		out_close();
		return 0;
	}
	d = calloc(r[0].n + r[1].n + r[2].n, sizeof *d);
	for (k = 0; k < NPROMPT; k++) {
		if ((len = getline(&line, &cap, stdin)) < 0)
			die(100, "%d responses, not %d", k, NPROMPT);
		n += compare(&r[k], line, len, d + n, &same);
		want += r[k].ngreedy;
	}
	qsort(d, n, sizeof *d, cmp);
	printf("max %.3g median %.3g p95 %.3g greedy %zu/%zu\n", d[n - 1],
	    d[n / 2], d[n * 95 / 100], same, want);
	out_close();
	return 0;
}
