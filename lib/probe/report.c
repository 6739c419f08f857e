/*
 * report: the table of hosts, as text and as JSON.
 */
#include <stdlib.h>
#include <string.h>

#include "json/json.h"
#include "probe/priv.h"

typedef unsigned long long ull;

enum { CELL = 48 };

enum column {
	HOST, NAME, CORES, NODES, MEMORY, FREE, KERNELS, INTERFACE, ADDRESS,
	TRIP, WIDTH, BUILD, MODEL, RANKS, COLUMNS,
};

static const char *const titles[COLUMNS] = {
	"host", "name", "cores", "NUMA", "memory", "free", "kernels",
	"interface", "address", "trip", "to lead", "dsi", "model", "ranks",
};

static const bool to_right[COLUMNS] = {
	[CORES] = true, [NODES] = true, [MEMORY] = true, [FREE] = true,
	[TRIP] = true, [WIDTH] = true,
};

/* ---- ranks as a list: "0-3,8" ---- */

static void
put_ranks(struct buf *b, const struct probe_share *s)
{
	for (unsigned i = 0, k; i < s->n; i = k) {
		for (k = i + 1; k < s->n && s->rank[k] == s->rank[k - 1] + 1;)
			k++;
		buf_printf(b, "%s%u", i ? "," : "", s->rank[i]);
		if (k > i + 1)
			buf_printf(b, "-%u", s->rank[k - 1]);
	}
}

/* ---- the table ---- */

typedef char row[COLUMNS][CELL];

static void
time_text(char out[CELL], uint64_t ns)
{
	if (ns < 10000000)
		snprintf(out, CELL, "%.0f us", (double)ns / 1e3);
	else
		snprintf(out, CELL, "%.0f ms", (double)ns / 1e6);
}

static void
fill_facts(row r, const struct probe_result *v)
{
	const struct probe_facts *f = &v->facts;

	snprintf(r[NAME], CELL, "%.47s", f->host);
	snprintf(r[CORES], CELL, "%u", f->cores);
	snprintf(r[NODES], CELL, "%u", f->nodes);
	deploy_size_text(r[MEMORY], f->memory);
	deploy_size_text(r[FREE], f->available);
	snprintf(r[KERNELS], CELL, "%s", f->kernels);
	if (f->interface[0])
		snprintf(r[INTERFACE], CELL, "%s", f->interface);
	if (f->address[0])
		snprintf(r[ADDRESS], CELL, "%s", f->address);
	if (!f->model.error[0])
		snprintf(r[MODEL], CELL, "%.12s", f->model.digest);
	if (!v->measured)
		return;
	time_text(r[TRIP], v->link.rtt_ns);
	deploy_size_text(r[WIDTH], v->link.rate);
	snprintf(r[WIDTH] + strlen(r[WIDTH]), 4, "/s");
}

static void
fill_row(row r, const struct probe *p, const struct probe_opts *o, size_t i)
{
	const struct probe_result *v = &p->v[i];
	struct buf ranks = {0};

	for (int c = 0; c < COLUMNS; c++)
		snprintf(r[c], CELL, "-");
	snprintf(r[HOST], CELL, "%.47s", o->hosts->v[i].name);
	if (v->facts.build[0])
		snprintf(r[BUILD], CELL, "%s", v->facts.build);
	if (v->answered)
		fill_facts(r, v);
	put_ranks(&ranks, &o->share[i]);
	if (ranks.p)
		snprintf(r[RANKS], CELL, "%.47s", ranks.p);
	buf_free(&ranks);
}

static void
put_row(struct buf *b, row r, const size_t *width)
{
	for (int c = 0; c < COLUMNS; c++) {
		int w = (int)width[c];

		if (c == COLUMNS - 1)
			buf_printf(b, "%s\n", r[c]);
		else
			buf_printf(b, "%*s  ", to_right[c] ? w : -w, r[c]);
	}
}

static void
put_table(struct buf *b, const struct probe *p, const struct probe_opts *o)
{
	row *r = mem_new(p->n + 1, sizeof(*r), NULL);
	size_t width[COLUMNS] = {0};

	if (!r) {
		b->oom = true;
		return;
	}
	for (int c = 0; c < COLUMNS; c++)
		snprintf(r[0][c], CELL, "%s", titles[c]);
	for (size_t i = 0; i < p->n; i++)
		fill_row(r[i + 1], p, o, i);
	for (size_t i = 0; i <= p->n; i++)
		for (int c = 0; c < COLUMNS; c++)
			if (strlen(r[i][c]) > width[c])
				width[c] = strlen(r[i][c]);
	for (size_t i = 0; i <= p->n; i++)
		put_row(b, r[i], width);
	free(r);
}

/* ---- below it ---- */

static void
put_fit(struct buf *b, const struct probe_result *v, const char *name,
    const struct probe_share *s)
{
	char need[24], has[24];

	if (!v->known)
		return;
	deploy_size_text(need, v->need);
	deploy_size_text(has, v->has);
	buf_printf(b, "memory   %s: %u rank%s %s: rank %u needs %s at least, "
	    "and has %s\n", name, s->n, s->n > 1 ? "s" : "", v->fits ?
	    s->n > 1 ? "fit" : "fits" : s->n > 1 ? "do not fit" :
	    "does not fit", v->worst, need, has);
}

void
probe_put_text(struct buf *b, const struct probe *p,
    const struct probe_opts *o)
{
	const struct deploy *d = o->d;

	put_table(b, p, o);
	buf_printf(b, "\nmodel    %s%s%s\n", p->path, p->here.error[0] ? "" :
	    ", ", p->here.error[0] ? "" : p->here.kind);
	buf_printf(b, "layout   %u rank%s: tensor %u, data %u, pipeline %u, "
	    "expert %u\n", d->size, d->size > 1 ? "s" : "", d->layout.tp,
	    d->data, d->layout.pp, d->layout.ep);
	if (p->listened)
		buf_printf(b, "lead     %s at %s port %u\n",
		    o->hosts->v[0].name, p->address, p->port);
	for (size_t i = 0; i < p->n; i++)
		put_fit(b, &p->v[i], o->hosts->v[i].name, &o->share[i]);
	for (size_t i = 0; i < p->nproblem; i++)
		buf_printf(b, "problem  %s\n", p->problem[i]);
	if (p->nproblem)
		buf_printf(b, "verdict  this cannot start: %zu problem%s\n",
		    p->nproblem, p->nproblem > 1 ? "s" : "");
	else
		buf_puts(b, "verdict  this can start\n");
}

/* ---- JSON ---- */

static void
put_str(struct buf *b, const char *key, const char *v)
{
	buf_printf(b, ",\"%s\":", key);
	if (v && v[0])
		json_put_str(b, v, strlen(v));
	else
		buf_puts(b, "null");
}

static void
json_facts(struct buf *b, const struct probe_facts *f)
{
	buf_printf(b, ",\"cores\":%u,\"numa_nodes\":%u,\"places\":%u,"
	    "\"memory_bytes\":%llu,\"available_bytes\":%llu", f->cores,
	    f->nodes, f->places, (ull)f->memory, (ull)f->available);
	put_str(b, "name", f->host);
	put_str(b, "kernels", f->kernels);
	put_str(b, "interface", f->interface);
	put_str(b, "interface_from", f->from);
	put_str(b, "address", f->address);
	put_str(b, "model_kind", f->model.error[0] ? NULL : f->model.kind);
	put_str(b, "model_digest", f->model.digest);
	buf_puts(b, ",\"interfaces\":[");
	for (unsigned i = 0; i < f->nifs; i++) {
		buf_puts(b, i ? ",{\"name\":" : "{\"name\":");
		json_put_str(b, f->ifs[i].name, strlen(f->ifs[i].name));
		put_str(b, "address", f->ifs[i].address);
		buf_putc(b, '}');
	}
	buf_putc(b, ']');
}

static void
json_host(struct buf *b, const struct probe_result *v, const char *name,
    const struct probe_share *s)
{
	buf_puts(b, "\n{\"host\":");
	json_put_str(b, name, strlen(name));
	buf_printf(b, ",\"answered\":%s", v->answered ? "true" : "false");
	put_str(b, "build", v->facts.build);
	if (v->answered)
		json_facts(b, &v->facts);
	if (v->measured)
		buf_printf(b, ",\"rtt_ns\":%llu,\"bytes_per_s\":%llu",
		    (ull)v->link.rtt_ns, (ull)v->link.rate);
	else
		buf_puts(b, ",\"rtt_ns\":null,\"bytes_per_s\":null");
	buf_puts(b, ",\"ranks\":[");
	for (unsigned i = 0; i < s->n; i++)
		buf_printf(b, "%s%u", i ? "," : "", s->rank[i]);
	buf_printf(b, "],\"fits\":%s", !v->known ? "null" : v->fits ? "true" :
	    "false");
	if (v->known)
		buf_printf(b, ",\"worst_rank\":%u,\"need_bytes\":%llu,"
		    "\"has_bytes\":%llu", v->worst, (ull)v->need,
		    (ull)v->has);
	buf_putc(b, '}');
}

static void
json_list(struct buf *b, const char *key, char *const *v, size_t n)
{
	buf_printf(b, ",\"%s\":[", key);
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_putc(b, ',');
		json_put_str(b, v[i], strlen(v[i]));
	}
	buf_putc(b, ']');
}

void
probe_put_json(struct buf *b, const struct probe *p,
    const struct probe_opts *o)
{
	buf_printf(b, "{\"ok\":%s,\"world_size\":%u", p->nproblem ? "false" :
	    "true", o->d->size);
	put_str(b, "model", p->path);
	put_str(b, "build", dsi_version);
	buf_puts(b, ",\"lead\":{\"host\":");
	json_put_str(b, o->hosts->v[0].name, strlen(o->hosts->v[0].name));
	put_str(b, "address", p->address);
	buf_printf(b, ",\"port\":%u,\"listened\":%s}", p->port, p->listened ?
	    "true" : "false");
	json_list(b, "problems", p->problem, p->nproblem);
	json_list(b, "notices", p->notice, p->nnotice);
	buf_puts(b, ",\"hosts\":[");
	for (size_t i = 0; i < p->n; i++) {
		if (i)
			buf_putc(b, ',');
		json_host(b, &p->v[i], o->hosts->v[i].name, &o->share[i]);
	}
	buf_puts(b, "]}\n");
}
