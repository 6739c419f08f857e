/*
 * report: a plan as text and as JSON.
 */
#include <stdlib.h>
#include <string.h>

#include "deploy/priv.h"

typedef unsigned long long ull;

/* ---- text ---- */

void
deploy_size_text(char out[24], uint64_t n)
{
	static const char unit[] = "KMGT";
	double x = (double)n;
	int i = -1;

	while (x >= 1024 && i < 3) {
		x /= 1024;
		i++;
	}
	if (i == -1)
		snprintf(out, 24, "%u B", (unsigned)n);
	else
		snprintf(out, 24, "%.*f %ciB", x < 100 ? 2 : 1, x, unit[i]);
}

static void
put_size(struct buf *b, uint64_t n)
{
	char text[24];

	deploy_size_text(text, n);
	buf_puts(b, text);
}

static void
put_head(struct buf *b, const struct deploy *d, const struct deploy_plan *p)
{
	const struct layout *l = &d->layout;
	const struct arch *a = &d->arch;

	buf_printf(b, "model    %s: %u layers, hidden %u, %u heads", d->model,
	    a->layers, a->hidden, a->heads);
	if (a->experts)
		buf_printf(b, ", %u experts", a->experts);
	buf_printf(b, "\nweights  %s, ", p->weights_are);
	put_size(b, p->weight_bytes);
	buf_printf(b, "%s\nlayout   %u rank%s: tensor %u, data %u, pipeline "
	    "%u, expert %u\n", p->n > 1 ? " on all ranks" : "", p->n,
	    p->n > 1 ? "s" : "", l->tp, d->data, l->pp, l->ep);
	if (d->worlds > 1)
		buf_printf(b, "         %u worlds of %u ranks, each with all "
		    "experts: data ranks without EP\n", d->worlds,
		    plan_world(l));
	if (d->nodes > 1)
		buf_printf(b, "node     %u of %u runs %u of the ranks; lead "
		    "%s:%u\n", d->node, d->nodes, p->host_ranks, d->lead,
		    d->lead_port);
}

/* A rank's row, all but its number. */
static void
put_row(struct buf *b, const struct deploy_rank_plan *r)
{
	const struct plan *q = &r->part;
	char weight[24], token[24], work[24], in[24], layers[24], moe[24];

	deploy_size_text(weight, r->weight_bytes);
	deploy_size_text(token, r->kv_token);
	deploy_size_text(work, r->work_bytes);
	deploy_size_text(in, r->traffic.own_row);
	snprintf(layers, sizeof(layers), "%u-%u", q->layer0, q->layer1 - 1);
	if (q->expert1 > q->expert0)
		snprintf(moe, sizeof(moe), "%ux%u", q->expert1 - q->expert0,
		    q->moe1 - q->moe0);
	else
		snprintf(moe, sizeof(moe), "-");
	buf_printf(b, " %7s %5u %8s %10s %9s %10s %5u %10s\n", layers,
	    q->heads1 - q->heads0, moe, weight, token, work,
	    r->traffic.exchanges, in);
}

struct row {
	struct buf text, ranks;		/* "0-3,8" */
	unsigned nranges;
	unsigned from, to;		/* the last one, when open */
	bool open;
};

enum { RANGES_MAX = 4 };		/* more are counted */

static void
end_range(struct row *r)
{
	if (r->nranges++ >= RANGES_MAX)
		return;
	buf_printf(&r->ranks, "%s%u", r->ranks.n ? "," : "", r->from);
	if (r->to > r->from)
		buf_printf(&r->ranks, "-%u", r->to);
}

static struct row *
find_row(struct row *row, size_t *n, struct buf *text)
{
	for (size_t i = 0; i < *n; i++)
		if (row[i].text.p && text->p &&
		    strcmp(row[i].text.p, text->p) == 0)
			return &row[i];
	row[*n] = (struct row){ .text = *text };
	*text = (struct buf){0};
	return &row[(*n)++];
}

static void
put_table(struct buf *b, const struct deploy_plan *p)
{
	struct row *row = mem_new(p->n, sizeof(*row), NULL);
	struct buf text = {0};
	size_t n = 0;

	b->oom = b->oom || !row;
	for (unsigned i = 0; row && i < p->n; i++) {
		struct row *r;

		buf_clear(&text);
		put_row(&text, &p->rank[i]);
		r = find_row(row, &n, &text);
		if (r->open && r->to + 1 == i) {
			r->to = i;
			continue;
		}
		if (r->open)
			end_range(r);
		r->open = true;
		r->from = r->to = i;
	}
	buf_printf(b, "\n%-9s  layers heads  experts    weights  KV/token    "
	    "buffers  exch     in/row\n", "ranks");
	for (size_t i = 0; i < n; i++) {
		end_range(&row[i]);
		if (row[i].nranges > RANGES_MAX)
			buf_puts(&row[i].ranks, ",...");
		buf_printf(b, "%-9s %s", row[i].ranks.p ? row[i].ranks.p : "",
		    row[i].text.p ? row[i].text.p : "");
		b->oom = b->oom || row[i].ranks.oom || row[i].text.oom;
		buf_free(&row[i].ranks);
		buf_free(&row[i].text);
	}
	buf_free(&text);
	free(row);
}

static void
put_traffic(struct buf *b, const struct deploy *d,
    const struct deploy_plan *p)
{
	uint64_t own = 0, other = 0, logits = 0;

	if (plan_world(&d->layout) == 1)
		return;
	for (unsigned i = 0; i < p->n; i++) {
		const struct deploy_traffic *t = &p->rank[i].traffic;

		own = t->own_row > own ? t->own_row : own;
		other = t->other_row > other ? t->other_row : other;
		if (p->rank[i].world == 0 && p->rank[i].group == 0)
			logits += t->logits;
	}
	buf_puts(b, "traffic  for a row of its group a rank receives ");
	put_size(b, own);
	if (other) {
		buf_puts(b, ",\n         for a row of another group ");
		put_size(b, other);
	}
	if (logits) {
		buf_puts(b, ",\n         for a row that is sampled the lead ");
		put_size(b, logits);
		buf_puts(b, " of logits");
	}
	buf_putc(b, '\n');
}

static void
put_unknown(struct buf *b, const struct deploy *d,
    const struct deploy_plan *p)
{
	uint64_t one = 0, all = 0;

	for (unsigned i = 0; i < p->n; i++) {
		const struct deploy_rank_plan *r = &p->rank[i];

		one = r->need_one > one ? r->need_one : one;
		all = r->need_all > all ? r->need_all : all;
	}
	buf_puts(b, "memory   a rank needs ");
	put_size(b, one);
	buf_printf(b, " for one sequence of %llu tokens,\n         ",
	    (ull)p->max_len);
	put_size(b, all);
	buf_printf(b, " for %llu; --memory-per-host lets them be compared\n",
	    (ull)d->engine.max_num_seqs);
}

static void
put_share(struct buf *b, const struct deploy *d, const struct deploy_plan *p)
{
	put_size(b, p->budget);
	buf_printf(b, " (%g of ", d->engine.memory_utilization);
	put_size(b, p->host_ranks > 1 && p->host ? p->host : p->per_rank);
	if (p->host && p->host_ranks > 1)
		buf_printf(b, " over %u", p->host_ranks);
	buf_putc(b, ')');
}

/* What would make it fit? */
static void
put_mend(struct buf *b, const struct deploy *d, const struct deploy_plan *p)
{
	double least = (double)p->need / d->engine.memory_utilization;

	buf_puts(b, "         it would fit with ");
	put_size(b, (uint64_t)least);
	buf_puts(b, " for a rank");
	if (p->host && p->host_ranks > 1) {
		buf_puts(b, ", ");
		put_size(b, (uint64_t)(least * p->host_ranks));
		buf_puts(b, " for a host");
	}
	if (p->host && p->hosts > d->nodes)
		buf_printf(b, ",\n         on %u such hosts", p->hosts);
	if (p->context)
		buf_printf(b, ",\n         with --max-model-len %llu",
		    (ull)p->context);
	buf_putc(b, '\n');
}

static void
put_memory(struct buf *b, const struct deploy *d, const struct deploy_plan *p)
{
	if (!p->known) {
		put_unknown(b, d, p);
		return;
	}
	buf_printf(b, "memory   %s: ", p->fits ? "fits" : "does not fit");
	if (!p->fits) {
		buf_printf(b, "rank %u needs ", p->worst);
		put_size(b, p->need);
		buf_puts(b, " and has ");
		put_share(b, d, p);
		buf_putc(b, '\n');
		put_mend(b, d, p);
		return;
	}
	buf_puts(b, "a rank has ");
	put_share(b, d, p);
	buf_printf(b, "\n         %llu blocks of %llu tokens: a sequence of "
	    "%llu tokens, and %llu of %llu\n         at a time%s\n",
	    (ull)p->blocks, (ull)d->engine.block_size, (ull)p->context,
	    (ull)p->sequences, (ull)p->max_len,
	    d->data > 1 ? " in each data group" : "");
}

void
deploy_put_text(struct buf *b, const struct deploy *d,
    const struct deploy_plan *p)
{
	put_head(b, d, p);
	put_table(b, p);
	buf_putc(b, '\n');
	put_traffic(b, d, p);
	put_memory(b, d, p);
}

/* ---- JSON ---- */

static void
put_str(struct buf *b, const char *key, const char *v)
{
	buf_printf(b, ",\"%s\":", key);
	if (v)
		json_put_str(b, v, strlen(v));
	else
		buf_puts(b, "null");
}

static void
json_rank(struct buf *b, const struct deploy *d, const struct deploy_plan *p,
    unsigned i)
{
	const struct deploy_rank_plan *r = &p->rank[i];
	const struct plan *q = &r->part;

	buf_printf(b, "%s\n{\"rank\":%u,\"world\":%u,\"pp\":%u,\"dp\":%u,"
	    "\"tp\":%u,\"ep\":%u,\"local\":%s,", i ? "," : "", i, r->world,
	    q->pp, r->group, q->tp, q->ep,
	    deploy_is_local(d, i) ? "true" : "false");
	buf_printf(b, "\"layers\":%u,\"layer0\":%u,\"heads\":%u,\"head0\":%u,"
	    "\"experts\":%u,\"expert0\":%u,\"expert_width\":%u,"
	    "\"vocab\":%u,", r->layers, q->layer0, q->heads1 - q->heads0,
	    q->heads0, q->expert1 - q->expert0, q->expert0,
	    q->moe1 - q->moe0, q->last ? q->vocab1 - q->vocab0 : 0);
	buf_printf(b, "\"weight_bytes\":%llu,\"kv_bytes_per_token\":%llu,"
	    "\"work_bytes\":%llu,\"need_one_bytes\":%llu,"
	    "\"need_all_bytes\":%llu,", (ull)r->weight_bytes,
	    (ull)r->kv_token, (ull)r->work_bytes, (ull)r->need_one,
	    (ull)r->need_all);
	if (p->known)
		buf_printf(b, "\"max_context\":%llu,\"max_sequences\":%llu,",
		    (ull)p->context, (ull)p->sequences);
	else
		buf_puts(b, "\"max_context\":null,\"max_sequences\":null,");
	buf_printf(b, "\"exchanges\":%u,\"recv_bytes_own_row\":%llu,"
	    "\"recv_bytes_other_row\":%llu,\"logit_bytes\":%llu}",
	    r->traffic.exchanges, (ull)r->traffic.own_row,
	    (ull)r->traffic.other_row, (ull)r->traffic.logits);
}

static void
json_memory(struct buf *b, const struct deploy *d,
    const struct deploy_plan *p)
{
	if (!p->known) {
		buf_puts(b, ",\"fits\":null,\"memory\":null");
		return;
	}
	buf_printf(b, ",\"fits\":%s,\"memory\":{\"per_rank\":%llu,"
	    "\"utilization\":", p->fits ? "true" : "false",
	    (ull)p->per_rank);
	json_put_f64(b, d->engine.memory_utilization);
	buf_printf(b, ",\"budget\":%llu,\"host\":%llu,\"worst_rank\":%u,"
	    "\"need\":%llu,\"blocks\":%llu,\"hosts_needed\":%u}",
	    (ull)p->budget, (ull)p->host, p->worst, (ull)p->need,
	    (ull)p->blocks, p->hosts);
}

static void
json_node(struct buf *b, const struct deploy *d, const struct deploy_plan *p)
{
	static const char *const exec[] = { "mp", "mpi", "ray", "uni" };

	buf_printf(b, ",\"node\":{\"index\":%u,\"of\":%u,\"ranks\":%u",
	    d->node, d->nodes, p->host_ranks);
	put_str(b, "lead", d->lead);
	buf_printf(b, ",\"port\":%u", d->lead_port);
	put_str(b, "interface", *d->ifname ? d->ifname : NULL);
	put_str(b, "executor", exec[d->runs_on]);
	buf_puts(b, ",\"places\":[");
	for (unsigned i = 0; i < d->nplace; i++)
		buf_printf(b, "%s%u", i ? "," : "", d->place[i]);
	buf_puts(b, "]}");
}

void
deploy_put_json(struct buf *b, const struct deploy *d,
    const struct deploy_plan *p)
{
	const struct layout *l = &d->layout;

	buf_printf(b, "{\"world_size\":%u,\"worlds\":%u,\"layout\":{\"tp\":%u,"
	    "\"dp\":%u,\"pp\":%u,\"ep\":%u}", p->n, d->worlds, l->tp, d->data,
	    l->pp, l->ep);
	put_str(b, "model", d->model);
	put_str(b, "weights", p->weights_are);
	put_str(b, "yaml", d->yaml_path);
	buf_printf(b, ",\"weight_bytes\":%llu,\"max_model_len\":%llu,"
	    "\"max_num_seqs\":%llu,\"block_size\":%llu",
	    (ull)p->weight_bytes, (ull)p->max_len,
	    (ull)d->engine.max_num_seqs, (ull)d->engine.block_size);
	json_memory(b, d, p);
	json_node(b, d, p);
	buf_puts(b, ",\"notices\":[");
	for (size_t i = 0; i < d->nnotice; i++) {
		if (i)
			buf_putc(b, ',');
		json_put_str(b, d->notice[i], strlen(d->notice[i]));
	}
	buf_puts(b, "],\"ranks\":[");
	for (unsigned i = 0; i < p->n; i++)
		json_rank(b, d, p, i);
	buf_puts(b, "]}\n");
}
