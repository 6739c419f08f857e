/*
 * run: the loop: read ahead, step, write in order.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "batch/batch_priv.h"

struct run {
	const struct batch_opts *o;
	const struct served *s;
	struct engine *g;
	struct complete *c;
	struct batch_count *count;
	struct input in;
	struct resume resume;
	int out_fd;
	uint64_t lineno;		/* of the last record */
	struct item *head, **tail;	/* in input order */
	size_t nchoice;			/* of all items in the list */
	struct buf out, reasoning;	/* to be written */
	uint64_t start_ns;
	char rate[32];
	struct bar bar;
};

/* ---- in ---- */

static bool
is_blank(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!strchr(" \t\r", p[i]) || !p[i])
			return false;
	}
	return true;
}

/* The next record that counts: JSON lines may have blank ones between. */
static int
next_record(struct run *r, bool wait, const char **p, size_t *n,
    struct err *e)
{
	for (;;) {
		int got = input_next(&r->in, wait, p, n, e);

		if (got != INPUT_RECORD)
			return got;
		r->lineno++;
		if (!r->o->jsonl || !is_blank(*p, *n))
			return got;
	}
}

/* Bad requests are counted when they are written, in their order. */
static int
take_record(struct run *r, const char *p, size_t n, struct err *e)
{
	struct item *it;

	if (item_open(&it, r->o, r->s, p, n, r->lineno, e) == -1)
		return -1;
	if (it->a)
		it->a->user = it;
	*r->tail = it;
	r->tail = &it->next;
	r->nchoice += it->nchoice;
	if (it->over || complete_add(r->c, it->a, &it->fail) == 0)
		return 0;
	if (it->fail.e.code == ERR_SYSTEM)
		return err_set(e, ERR_SYSTEM, "%s", it->fail.e.msg);
	it->over = true;
	answer_close(&it->a);
	return 0;
}

/* Reads while there is room; waits for input only when nothing is under way.
 * Returns false when no more will come. */
static int
read_ahead(struct run *r, struct err *e)
{
	const char *p;
	size_t n;

	/* bad ones at the head need no engine: out with them first */
	while (r->nchoice < r->o->window) {
		int got = next_record(r, !r->head, &p, &n, e);

		if (got == -1)
			return -1;
		if (got == INPUT_END)
			return 0;
		if (got == INPUT_NONE)
			return engine_check(r->g, e) == -1 ? -1 : 1;
		if (take_record(r, p, n, e) == -1)
			return -1;
		if (r->head && r->head->over)
			return 1;
	}
	return 1;
}

/* ---- out ---- */

static int
finish(struct run *r, struct item *it, struct err *e)
{
	it->over = true;
	return r->o->jsonl ? item_line(it, r->o, e) : 0;
}

static int
show_head(struct run *r, struct err *e)
{
	struct item *it = r->head;

	if (!r->o->jsonl) {
		item_text(it, r->o, &r->out, &r->reasoning);
		return 0;
	}
	if (!it->over)
		return 0;
	if (!it->line.n && item_line(it, r->o, e) == -1)
		return -1;
	buf_put(&r->out, it->line.p, it->line.n);
	buf_putc(&r->out, '\n');
	return 0;
}

static void
leave(struct run *r)
{
	struct item *it = r->head;

	r->head = it->next;
	if (!r->head)
		r->tail = &r->head;
	r->nchoice -= it->nchoice;
	r->count->done++;
	r->count->bad += it->fail.status != 0;
	if (it->fail.status && !r->o->jsonl && r->o->report)
		r->o->report(it->lineno, it->fail.e.msg);
	item_close(&it);
	bar_add(&r->bar, 1);
}

/* A line goes out with one call, so that a killed run leaves at most the last
 * one cut. */
static int
flush(struct run *r, struct err *e)
{
	if (buf_ok(&r->out, e) == -1 || buf_ok(&r->reasoning, e) == -1)
		return -1;
	if ((r->out.n || r->reasoning.n) && r->bar.drawn) {
		bar_end(&r->bar);
		r->bar.on = true;
	}
	if (r->reasoning.n && io_write(STDERR_FILENO, r->reasoning.p,
	    r->reasoning.n, e) == -1)
		return err_wrap(e, "stderr");
	if (r->out.n && io_write(r->out_fd, r->out.p, r->out.n, e) == -1)
		return err_wrap(e, "%s", r->o->resume ? r->o->resume :
		    "stdout");
	buf_clear(&r->out);
	buf_clear(&r->reasoning);
	return 0;
}

static int
write_out(struct run *r, struct err *e)
{
	while (r->head) {
		bool over = r->head->over;

		if (show_head(r, e) == -1)
			return -1;
		if (!over)
			break;
		leave(r);
		if (flush(r, e) == -1)
			return -1;
	}
	return flush(r, e);
}

/* ---- steps ---- */

static void
tell_rate(struct run *r)
{
	struct engine_stats st;
	double s = (double)(now_ns() - r->start_ns) / 1e9;

	engine_stats(r->g, &st);
	if (s > 0)
		snprintf(r->rate, sizeof(r->rate), "%.1f tok/s",
		    (double)st.generated_tokens / s);
	bar_add(&r->bar, 0);
}

static int
step(struct run *r, struct err *e)
{
	struct answer **list;
	size_t n;

	if (complete_step(r->c, &list, &n, e) == -1)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (list[i]->nlive == 0 &&
		    finish(r, list[i]->user, e) == -1)
			return -1;
	}
	tell_rate(r);
	return 0;
}

static int
loop(struct run *r, struct err *e)
{
	int more = 1;

	for (;;) {
		if (more == 1)
			more = read_ahead(r, e);
		if (more == -1)
			return -1;
		if (!r->head && more == 0)
			return 0;
		if (write_out(r, e) == -1)
			return -1;
		if (r->head && (step(r, e) == -1 || write_out(r, e) == -1))
			return -1;
	}
}

/* ---- resume ---- */

static int
skip_done(struct run *r, struct err *e)
{
	struct json *line;
	const char *p;
	size_t n;
	bool bad;
	int rc;

	while ((rc = resume_next(&r->resume, &line, e)) == 1) {
		int got = next_record(r, true, &p, &n, e);

		if (got == INPUT_END && !r->in.stopped)
			rc = err_set(e, ERR_CALLER, "%s has more lines than "
			    "the input", r->o->resume);
		else if (got == INPUT_RECORD)
			rc = resume_match(&r->resume, line, p, n, r->lineno,
			    &bad, e);
		else
			rc = got == -1 ? -1 : 0;
		json_free(&line);
		if (rc == -1 || got != INPUT_RECORD)
			return rc;
		r->count->done++;
		r->count->bad += bad;
		bar_add(&r->bar, 1);
	}
	return rc;
}

int
batch_run(const struct batch_opts *o, struct engine *g,
    const struct served *s, struct batch_count *count, struct err *e)
{
	struct run r = {
		.o = o, .s = s, .g = g, .count = count, .out_fd = o->out_fd,
		.in = {
			.fd = o->in_fd, .stop_fd = o->stop_fd,
			.end_fd = engine_end_fd(g), .sep = o->sep,
			.max = INPUT_MAX,
		},
		.resume = { .fd = -1 },
		.start_ns = now_ns(), .rate = "0 tok/s",
	};
	int rc = -1;

	*count = (struct batch_count){0};
	r.tail = &r.head;
	bar_start(&r.bar, r.rate, "prompts", 0);
	r.bar.on = r.bar.on && o->progress;
	if (complete_open(&r.c, g, e) == -1)
		goto out;
	if (o->resume) {
		if (resume_open(&r.resume, o->resume, e) == -1 ||
		    skip_done(&r, e) == -1)
			goto out;
		r.out_fd = r.resume.fd;
	}
	rc = loop(&r, e);
out:
	bar_end(&r.bar);
	count->stopped = r.in.stopped;
	while (r.head) {
		struct item *it = r.head;

		r.head = it->next;
		if (it->a)
			complete_cancel(r.c, it->a);
		item_close(&it);
	}
	complete_close(&r.c);
	resume_close(&r.resume);
	input_free(&r.in);
	buf_free(&r.out);
	buf_free(&r.reasoning);
	return rc;
}
