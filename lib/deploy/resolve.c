/*
 * resolve: everything that was said, checked together.
 *
 * The order is that of the messages' use: first the YAML by itself, then the
 * model, then the layout of both, then this node's part of it.
 */
#include <stdlib.h>
#include <string.h>

#include "deploy/priv.h"

enum { DP_PORT = 29550 };		/* vLLM's default */

void
deploy_free(struct deploy *d)
{
	for (size_t i = 0; i < d->nnotice; i++)
		free(d->notice[i]);
	free(d->notice);
	free(d->config);
	d->notice = NULL;
	d->config = NULL;
	d->nnotice = d->cap_notice = 0;
	d->weights_are[0] = '\0';
	d->quantize = SHARD_NONE;
	d->yaml_int8 = false;
}

/* ---- sizes ---- */

/* The number of EP that --additional-config gives; 0: none. */
static int
read_additional(struct deploy *d, int64_t *ep, struct err *e)
{
	static const char flag[] = "--additional-config", key[] =
	    "expert_parallel";
	const struct json *c;
	struct json *v;
	int rc = 0;

	if (!d->additional)
		return 0;
	if (json_parse(&v, d->additional, strlen(d->additional), e) == -1)
		return err_wrap(e, flag);
	if (json_type(v) != JSON_OBJ)
		rc = err_set(e, ERR_CALLER, "%s must be an object such as "
		    "{\"expert_parallel\":4}, not %s", flag,
		    json_type_name(json_type(v)));
	for (c = json_first(v); c && rc == 0; c = json_next(c)) {
		const char *k = json_key(c);

		if (strcmp(k, key) == 0)
			continue;
		if (near_enough(k, strlen(k), key, strlen(key)))
			rc = err_set(e, ERR_CALLER, "%s: no key %.64s; there "
			    "is %s", flag, k, key);
		else
			rc = deploy_doubt(d, e, "%s: %.64s is not heeded",
			    flag, k);
	}
	if (rc == 0 && json_opt_i64(v, key, 1, PLAN_MAX_RANKS, ep, e) == -1)
		rc = err_wrap(e, flag);
	json_free(&v);
	return rc;
}

static int
disagree(const struct deploy *d, const struct yaml *y, struct err *e)
{
	return conf_bad(y->c, conf_line(y->c, "parallel_config."
	    "data_parallel") ? "parallel_config.data_parallel" :
	    "parallel.data_parallel", e, "is %lld, --data-parallel-size is "
	    "%llu; they must be equal", (long long)y->dp,
	    (unsigned long long)d->dp);
}

/* TP, DP and PP from the flags, else from the YAML. */
static int
choose_sizes(struct deploy *d, const struct yaml *y, struct layout *l,
    struct err *e)
{
	if (d->dp && y->dp && d->dp != (uint64_t)y->dp)
		return disagree(d, y, e);
	l->tp = d->tp ? (unsigned)d->tp : y->tp ? (unsigned)y->tp : 1;
	l->dp = d->dp ? (unsigned)d->dp : y->dp ? (unsigned)y->dp : 1;
	l->pp = d->pp ? (unsigned)d->pp : y->pp ? (unsigned)y->pp : 1;
	if (d->pp && y->pp > 1 && d->pp != (uint64_t)y->pp)
		return deploy_note(d, e, "--pipeline-parallel-size %llu is "
		    "used, not pipeline_stage %lld of %s",
		    (unsigned long long)d->pp, (long long)y->pp,
		    d->yaml_path);
	return 0;
}

/* Its own flag; --additional-config, if EP is enabled; the YAML; or, enabled
 * and nothing else, as many as there are. */
static int
choose_ep(struct deploy *d, const struct yaml *y, struct layout *l,
    struct err *e)
{
	int64_t more = 0;

	l->ep = 1;
	if (read_additional(d, &more, e) == -1)
		return -1;
	if (d->ep) {
		l->ep = (unsigned)d->ep;
		return 0;
	}
	if (more && y->ep && more != y->ep)
		return err_set(e, ERR_CALLER, "--additional-config says "
		    "expert_parallel %lld, %s says %lld; they must be equal",
		    (long long)more, d->yaml_path, (long long)y->ep);
	if (more > 1 && !y->ep && !d->enable_ep)
		return deploy_note(d, e, "expert_parallel %lld of "
		    "--additional-config is off without "
		    "--enable-expert-parallel", (long long)more);
	if (d->enable_ep && d->arch.experts == 0)
		return deploy_note(d, e, "--enable-expert-parallel has no "
		    "effect: the model has no routed experts");
	if (y->ep == 1 && d->enable_ep && l->dp * l->tp > 1)
		if (deploy_note(d, e, "--enable-expert-parallel has no "
		    "effect: expert_parallel in %s is 1", d->yaml_path) == -1)
			return -1;
	if (more || y->ep)
		l->ep = (unsigned)(more ? more : y->ep);
	else if (d->enable_ep)
		l->ep = l->dp * l->tp;
	return 0;
}

/* ---- worlds ---- */

/* Will ranks be on nodes that this one does not lead alone? */
static bool
spans_nodes(const struct deploy *d, unsigned data)
{
	return d->headless || d->nnodes > 1 || d->exec == DEPLOY_MPI ||
	    (d->exec == DEPLOY_RAY && deploy_mpi_size() > 1) ||
	    (d->dp_local && d->dp_local < data);
}

/* Checks l as the user thinks of it, and cuts it into worlds: DP groups that
 * share no experts have nothing to tell each other.  Each world's lead must be
 * where requests come in, so over several nodes they are one world after all,
 * which cuts the experts over all its ranks. */
static int
cut_worlds(struct deploy *d, struct layout l, struct err *e)
{
	unsigned data = l.dp;

	if (l.ep == 1 && data > 1 && spans_nodes(d, data)) {
		if (deploy_note(d, e, "--data-parallel-size %u without expert "
		    "parallelism, over several nodes: one world in lockstep, "
		    "each expert cut over %u ranks", data, data * l.tp) == -1)
			return -1;
	} else if (l.ep == 1) {
		l.dp = 1;
	}
	if (plan_check(&d->arch, &l, e) == -1)
		return -1;
	d->layout = l;
	d->data = data;
	d->worlds = data / l.dp;
	d->size = d->worlds * plan_world(&l);
	if (d->size > PLAN_MAX_RANKS)
		return err_set(e, ERR_CALLER, "data %u * tensor %u * pipeline "
		    "%u are %u ranks, more than %d", data, l.tp, l.pp,
		    d->size, PLAN_MAX_RANKS);
	return 0;
}

static bool
same_layout(const struct layout *a, const struct layout *b)
{
	return a->tp == b->tp && a->dp == b->dp && a->pp == b->pp &&
	    a->ep == b->ep;
}

/* Rank files have a layout already.  DP without EP may have been sharded as one
 * world, whose groups share the experts by slices. */
static int
match_manifest(struct deploy *d, const struct layout *asked, bool any,
    struct err *e)
{
	struct shard_manifest *m;
	const struct layout *l;
	int rc = 0;

	if (shard_open_manifest(&m, d->model, e) == -1)
		return -1;
	l = &m->layout;
	if (!any || same_layout(l, asked)) {
		rc = plan_check(&d->arch, l, e);
		d->layout = *l;
		d->data = l->dp;
		d->worlds = 1;
		d->size = plan_world(l);
	} else if (cut_worlds(d, *asked, e) == -1) {
		rc = -1;
	} else if (!same_layout(l, &d->layout)) {
		rc = err_set(e, ERR_CALLER, "%s was made for tensor %u, data "
		    "%u, pipeline %u, expert %u, not for tensor %u, data %u, "
		    "pipeline %u, expert %u; dsi-shard makes others from %s",
		    d->model, l->tp, l->dp, l->pp, l->ep, d->layout.tp,
		    d->layout.dp, d->layout.pp, d->layout.ep, m->source);
	}
	snprintf(d->weights_are, sizeof(d->weights_are), "%.32s%s (the rank "
	    "files)", m->source_layout, m->quantize == SHARD_INT8 ?
	    " made int8" : "");
	shard_close_manifest(&m);
	return rc;
}

static int
find_layout(struct deploy *d, const struct yaml *y, struct err *e)
{
	struct layout l = {0};
	bool any = d->tp || d->dp || d->pp || d->ep || d->enable_ep ||
	    y->tp || y->dp || y->pp || y->ep;

	if (choose_sizes(d, y, &l, e) == -1 || choose_ep(d, y, &l, e) == -1)
		return -1;
	d->asked = l;
	if (d->weights == DEPLOY_RANK_FILES)
		return match_manifest(d, &l, any, e);
	return cut_worlds(d, l, e);
}

/* ---- this node ---- */

/* node of nodes that share all evenly */
static int
share_evenly(struct deploy *d, struct err *e)
{
	char hint[64];

	d->cut_ranks = false;
	if (d->data % d->nodes == 0) {
		d->group0 = d->data / d->nodes * d->node;
		d->group1 = d->group0 + d->data / d->nodes;
		return 0;
	}
	if (d->size % d->nodes)
		return err_set(e, ERR_CALLER, "%u ranks cannot be shared "
		    "evenly by %s %u; %s", d->size, d->nnodes ? "--nnodes" :
		    "hosts, which are", d->nodes,
		    deploy_divisors(d->size, d->nodes, hint));
	d->cut_ranks = true;
	d->group0 = 0;
	d->group1 = d->data;
	return 0;
}

static int
split_nodes(struct deploy *d, struct err *e)
{
	d->nodes = (unsigned)d->nnodes;
	d->node = d->node_rank == UINT64_MAX ? 0 : (unsigned)d->node_rank;
	if (d->node >= d->nodes)
		return err_set(e, ERR_CALLER, "--node-rank %u must be less "
		    "than --nnodes %u", d->node, d->nodes);
	return share_evenly(d, e);
}

static int
split_groups(struct deploy *d, struct err *e)
{
	unsigned long long start = d->dp_start == UINT64_MAX ? 0 : d->dp_start;
	unsigned long long local = d->dp_local;

	if (start >= d->data)
		return err_set(e, ERR_CALLER, "--data-parallel-start-rank "
		    "%llu must be less than --data-parallel-size %u", start,
		    d->data);
	if (!local)
		local = d->data - start;
	if (start + local > d->data)
		return err_set(e, ERR_CALLER, "--data-parallel-start-rank "
		    "%llu + --data-parallel-size-local %llu are more than "
		    "--data-parallel-size %u; --data-parallel-size-local %llu "
		    "would work", start, local, d->data, d->data - start);
	d->group0 = (unsigned)start;
	d->group1 = (unsigned)(start + local);
	d->nodes = (unsigned)((d->data + local - 1) / local);
	d->node = (unsigned)(start / local);
	return 0;
}

int
deploy_set_node(struct deploy *d, unsigned node, unsigned nodes,
    struct err *e)
{
	unsigned local = (unsigned)d->dp_local, want;

	want = d->nnodes ? (unsigned)d->nnodes : local ?
	    (d->data + local - 1) / local : nodes;
	if (nodes != want)
		return err_set(e, ERR_CALLER, "%u hosts, but %s %u makes %u "
		    "nodes", nodes, d->nnodes ? "--nnodes" :
		    "--data-parallel-size-local", d->nnodes ? want : local,
		    want);
	d->node = node;
	d->nodes = nodes;
	if (!local)
		return share_evenly(d, e);
	d->cut_ranks = false;
	d->group0 = node * local;
	d->group1 = d->group0 + local < d->data ? d->group0 + local : d->data;
	return 0;
}

/* Who is the lead, and is this node the one that has it? */
static int
check_lead(struct deploy *d, struct err *e)
{
	bool leads = d->cut_ranks ? d->node == 0 : d->group0 == 0;

	if (d->dp_address && d->master_address &&
	    strcmp(d->dp_address, d->master_address) != 0)
		return err_set(e, ERR_CALLER, "--data-parallel-address %s and "
		    "--master-addr %s must be the same", d->dp_address,
		    d->master_address);
	d->lead = d->dp_address ? d->dp_address : d->master_address;
	d->lead_port = d->dp_port ? (unsigned)d->dp_port : d->master_port ?
	    (unsigned)d->master_port : DP_PORT;
	if (d->lead && (!*d->lead || strpbrk(d->lead, " \t/")))
		return err_set(e, ERR_CALLER, "--data-parallel-address must "
		    "be an address or a host's name, not '%s'", d->lead);
	if (d->headless && (leads || !d->lead))
		return err_set(e, ERR_CALLER, "--headless is for nodes that "
		    "do not lead: it needs %s", leads ?
		    "--data-parallel-start-rank or --node-rank above 0" :
		    "--data-parallel-address");
	if (!d->headless && !leads)
		return err_set(e, ERR_CALLER, "a node without group 0 does "
		    "not lead and needs --headless");
	if (!d->lead && !d->find_lead && d->nodes > 1 &&
	    d->runs_on == DEPLOY_MP && deploy_note(d, e, "other nodes can't "
	    "reach 127.0.0.1: name the address of this one with "
	    "--data-parallel-address") == -1)
		return -1;
	if (!d->lead)
		d->lead = "127.0.0.1";
	return 0;
}

static int
find_node(struct deploy *d, struct err *e)
{
	d->cut_ranks = false;
	if (d->nnodes && (d->dp_local || d->dp_start != UINT64_MAX))
		return err_set(e, ERR_CALLER, "--nnodes and --%s exclude each "
		    "other", d->dp_local ? "data-parallel-size-local" :
		    "data-parallel-start-rank");
	if (!d->nnodes && d->node_rank != UINT64_MAX)
		return err_set(e, ERR_CALLER, "--node-rank needs --nnodes");
	if ((d->nnodes ? split_nodes(d, e) : split_groups(d, e)) == -1)
		return -1;
	return check_lead(d, e);
}

static int
find_executor(struct deploy *d, struct err *e)
{
	unsigned mpi = deploy_mpi_size();

	d->runs_on = (enum deploy_exec)d->exec;
	if (d->exec == DEPLOY_RAY) {
		d->runs_on = mpi ? DEPLOY_MPI : DEPLOY_MP;
		if (deploy_note(d, e, "--distributed-executor-backend ray: "
		    "there is no Ray here; %s is used: %s",
		    mpi ? "mpi" : "mp",
		    mpi ? "its launcher has started the ranks" :
		    "each node starts its own ranks") == -1)
			return -1;
	}
	if (d->runs_on == DEPLOY_UNI && d->size > 1)
		return err_set(e, ERR_CALLER, "--distributed-executor-backend "
		    "uni runs 1 rank, the layout has %u; mp would work",
		    d->size);
	if (d->runs_on == DEPLOY_MP && mpi > 1 && d->size > 1)
		return err_set(e, ERR_CALLER, "the MPI launcher has started "
		    "%u processes, and each would start %u ranks; with "
		    "--distributed-executor-backend mpi they are the ranks",
		    mpi, d->size);
	if (d->runs_on == DEPLOY_MPI && d->headless)
		return err_set(e, ERR_CALLER, "--headless is not for "
		    "--distributed-executor-backend mpi: the MPI launcher "
		    "starts the ranks of all nodes");
	if (d->runs_on == DEPLOY_MPI && mpi && mpi != d->size)
		return err_set(e, ERR_CALLER, "data %u * tensor %u * pipeline "
		    "%u are %u ranks, the MPI launcher has started %u",
		    d->data, d->layout.tp, d->layout.pp, d->size, mpi);
	return 0;
}

/* ---- the engine's numbers ---- */

static int
check_engine(const struct deploy *d, struct err *e)
{
	const struct engine_opts *o = &d->engine;

	if (o->block_size != 16 && o->block_size != 32 &&
	    o->block_size != 64 && o->block_size != 128)
		return err_set(e, ERR_CALLER,
		    "--block-size must be 16, 32, 64 or 128, not %llu",
		    (unsigned long long)o->block_size);
	if (!(o->memory_utilization > 0 && o->memory_utilization <= 1))
		return err_set(e, ERR_CALLER,
		    "--gpu-memory-utilization must be in (0, 1], not %g",
		    o->memory_utilization);
	if (o->max_model_len > d->arch.max_pos)
		return err_set(e, ERR_CALLER,
		    "--max-model-len %llu is more than the model's "
		    "max_position_embeddings, %u",
		    (unsigned long long)o->max_model_len, d->arch.max_pos);
	return 0;
}

static int
resolve(struct deploy *d, struct yaml *y, struct err *e)
{
	if (d->yaml_path && yaml_open(y, d, e) == -1)
		return -1;
	if (form_find(d, e) == -1 ||
	    (y->c && yaml_compare(y, d, e) == -1) ||
	    find_layout(d, y, e) == -1 || find_executor(d, e) == -1 ||
	    find_node(d, e) == -1 || check_engine(d, e) == -1)
		return -1;
	return deploy_env(d, e);
}

int
deploy_resolve(struct deploy *d, struct err *e)
{
	const char *yaml = getenv("MINDFORMERS_MODEL_CONFIG");
	struct yaml y = {0};
	int rc;

	deploy_free(d);
	d->yaml_path = d->yaml ? d->yaml : yaml && *yaml ? yaml : NULL;
	rc = resolve(d, &y, e);
	yaml_close(&y);
	return rc;
}

/* ---- ranks of all worlds ---- */

void
deploy_rank(const struct deploy *d, unsigned rank, struct plan *p,
    unsigned *group)
{
	unsigned world = plan_world(&d->layout);

	plan_rank(p, &d->arch, &d->layout, rank % world);
	*group = rank / world * d->layout.dp + p->dp;
}

bool
deploy_is_local(const struct deploy *d, unsigned rank)
{
	struct plan p;
	unsigned group;

	if (d->cut_ranks)
		return rank / (d->size / d->nodes) == d->node;
	deploy_rank(d, rank, &p, &group);
	return group >= d->group0 && group < d->group1;
}

unsigned
deploy_local_index(const struct deploy *d, unsigned rank)
{
	unsigned n = 0;

	for (unsigned r = 0; r < rank; r++)
		n += deploy_is_local(d, r);
	return n;
}

unsigned
deploy_local(const struct deploy *d)
{
	return deploy_local_index(d, d->size);
}
