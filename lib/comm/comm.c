/*
 * comm: a world from its welcome to its end.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "comm/far.h"
#include "comm/open.h"
#include "par/par.h"

#define MS ((uint64_t)1000000)

enum {
	SPINS = 30,			/* pauses: a microsecond */
	SETUP_MS = 60000,		/* from the welcome to the first call */
	JOIN_MS = 600000, STEP_MS = 60000, ALIVE_MS = 10000,
};

const char *
comm_who(const struct comm *c, unsigned rank, char *s, size_t size)
{
	snprintf(s, size, "rank %u on %s", rank, c->info[rank].name);
	return s;
}

void
span_text(uint64_t ns, char *s, size_t size)
{
	unsigned long long ms = ns / MS;

	if (ms % 1000)
		snprintf(s, size, "%llu ms", ms);
	else
		snprintf(s, size, "%llu s", ms / 1000);
}

/* ---- coming in ---- */

static struct comm *
comm_new(const struct comm_opts *o, struct err *e)
{
	struct comm *c = mem_map(sizeof(*c), e);	/* zeroed, aligned */

	if (!c)
		return NULL;
	pthread_mutex_init(&c->watch.lock, NULL);
	c->o = *o;
	if (!c->o.far)
		c->o.far = &comm_far_tcp;
	c->rank = o->rank;
	c->world = o->wiring.world;
	comm_patience(c, 0);
	c->alive_ns = (o->alive_ms ? o->alive_ms : ALIVE_MS) * MS;
	c->join_end_ns = deadline_in((o->join_ms ? o->join_ms : JOIN_MS) * MS);
	c->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->watch.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->nlink = c->rank == 0 ? c->world : 1;
	c->info = mem_new(c->world, sizeof(*c->info), e);
	c->left = mem_new(c->world, sizeof(*c->left), e);
	c->local_rank = mem_new(c->world, sizeof(*c->local_rank), e);
	c->link = mem_new(c->nlink, sizeof(*c->link), e);
	for (unsigned i = 0; c->link && i < c->nlink; i++)
		c->link[i].fd = -1;
	if (c->rank == 0)
		c->watch.obituary = mem_new(c->world,
		    sizeof(*c->watch.obituary), e);
	if (!c->info || !c->left || !c->local_rank || !c->link ||
	    (c->rank == 0 && !c->watch.obituary) ||
	    wiring_copy(&c->w, &o->wiring, e) == -1)
		goto fail;
	if (c->news_fd == -1 || c->watch.bell == -1) {
		err_sys(e, "eventfd");
		goto fail;
	}
	return c;
fail:
	comm_close(&c);
	return NULL;
}

int
entry_open(struct entry *n, const struct comm_opts *o, const char *my_addr,
    const char *lead_addr, struct err *e)
{
	struct comm_far_self self = { o->rank, o->wiring.world, o->ifname,
		my_addr, lead_addr };
	struct comm *c;

	*n = (struct entry){ .unix_fd = -1, .start_ns = now_ns() };
	n->waiting_ns = n->start_ns + WAITING_MS * MS;
	if (wiring_check(&o->wiring, e) == -1)
		return -1;
	if (o->rank >= o->wiring.world)
		return err_set(e, ERR_CALLER, "rank %u in a world of %u",
		    o->rank, o->wiring.world);
	if (hello_self(&n->me, o, e) == -1)
		return -1;
	n->c = c = comm_new(o, e);
	if (!c)
		return -1;
	snprintf(n->me.far, sizeof(n->me.far), "%s", c->o.far->name);
	snprintf(c->info[c->rank].name, COMM_NAME, "%s", n->me.host);
	if (c->world == 1)
		return 0;
	if (c->o.far->open(&n->far, &self, n->me.addr, e) == -1)
		return entry_fail(n);
	if (!o->apart) {
		n->unix_fd = unix_listen(n->me.unix_name, e);
		if (n->unix_fd == -1)
			return entry_fail(n);
	}
	return 0;
}

static void
entry_drop(struct entry *n)
{
	if (n->unix_fd != -1)
		close(n->unix_fd);
	if (n->far)
		n->c->o.far->close(n->far);
	n->unix_fd = -1;
	n->far = NULL;
}

int
entry_fail(struct entry *n)
{
	if (n->c)
		entry_drop(n);
	comm_close(&n->c);
	return -1;
}

int
entry_poll_ms(const struct entry *n)
{
	uint64_t now = now_ns(), end = n->c->join_end_ns;

	if (n->waiting_ns < end || now >= end)
		end = n->waiting_ns;
	return end > now ? (int)((end - now) / MS) + 1 : 0;
}

void
entry_waiting(struct entry *n, const char *who)
{
	const struct comm_opts *o = &n->c->o;

	n->waiting_ns += WAITING_MS * MS;
	if (o->waiting)
		o->waiting(o->arg, (unsigned)((now_ns() - n->start_ns) /
		    (1000 * MS)), who);
}

int
table_get(struct comm *c, const void *body, size_t n, struct err *e)
{
	struct reader r = { body, n, false };
	unsigned nlocal[COMM_MAX_RANKS] = {0};

	get_bytes(&r, c->token, sizeof(c->token));
	if (get_u32(&r) != c->world)
		r.bad = true;
	for (unsigned i = 0; i < c->world && !r.bad; i++) {
		struct rank_info *info = &c->info[i];

		info->host = get_u32(&r);
		get_text(&r, info->name, sizeof(info->name));
		get_text(&r, info->addr, sizeof(info->addr));
		get_text(&r, info->unix_name, sizeof(info->unix_name));
		if (info->host > c->nhost)
			r.bad = true;
		else if (info->host == c->nhost)
			c->nhost++;
		if (!r.bad)
			info->local = nlocal[info->host]++;
	}
	if (r.bad || r.n)
		return err_set(e, ERR_SYSTEM, "the lead sent a table of ranks "
		    "that cannot be");
	for (unsigned i = 0; i < c->world; i++) {
		if (c->info[i].host == c->info[c->rank].host)
			c->local_rank[c->nlocal++] = i;
	}
	c->local = c->info[c->rank].local;
	if (c->nlocal <= (c->o.cpus ? c->o.cpus :
	    (unsigned)par_default_threads()))
		c->spins = SPINS;
	return 0;
}

/* Takes all places; the first time, without a region, it only counts. */
static int
places(struct comm *c, size_t *at, struct err *e)
{
	*at = 0;
	if (groups_open(c, at, e) == -1 || chans_open(c, at, e) == -1 ||
	    tell_open(c, at, e) == -1)
		return world_end(c, ERR_SYSTEM, e, "out of memory for groups "
		    "and channels");
	return 0;
}

static int
start(struct entry *n, struct err *e)
{
	struct comm *c = n->c;
	void *far = n->far;
	size_t size;

	c->join_end_ns = deadline_in(SETUP_MS * MS);
	if (watch_start(c, e) == -1 || places(c, &size, e) == -1 ||
	    region_open(c, n->unix_fd, size, e) == -1 ||
	    places(c, &size, e) == -1)
		return -1;
	if (c->nhost == 1)
		return 0;
	n->far = NULL;			/* far_open's now */
	return far_open(c, far, e);
}

int
entry_done(struct entry *n, const void *body, size_t nbody,
    struct comm **out, struct err *e)
{
	struct comm *c = n->c;

	if (table_get(c, body, nbody, e) == -1 || start(n, e) == -1)
		return entry_fail(n);
	entry_drop(n);
	c->o.layout = c->o.model = c->o.build = c->o.ifname = NULL;
	c->o.wiring = (struct comm_wiring){0};
	*out = c;
	return 0;
}

/* ---- going ---- */

void
comm_close(struct comm **p)
{
	struct comm *c = *p;

	if (!c)
		return;
	*p = NULL;
	far_flush(c);
	watch_stop(c);
	far_close(c);
	for (unsigned i = 0; c->link && i < c->nlink; i++)
		link_close(&c->link[i]);
	groups_close(c);
	chans_close(c);
	tell_close(c);
	if (c->base)
		munmap(c->base, c->size);
	if (c->news_fd != -1)
		close(c->news_fd);
	if (c->watch.bell != -1)
		close(c->watch.bell);
	pthread_mutex_destroy(&c->watch.lock);
	wiring_free(&c->w);
	free(c->watch.obituary);
	free(c->link);
	free(c->left);
	free(c->local_rank);
	free(c->info);
	mem_unmap(c, sizeof(*c));
}

/* ---- what is known ---- */

void
comm_patience(struct comm *c, uint64_t ms)
{
	if (!ms)
		ms = c->o.step_ms ? c->o.step_ms : STEP_MS;
	c->step_ns = ms > UINT64_MAX / MS ? UINT64_MAX : ms * MS;
}

unsigned
comm_rank(const struct comm *c)
{
	return c->rank;
}

unsigned
comm_world(const struct comm *c)
{
	return c->world;
}

unsigned
comm_local(const struct comm *c)
{
	return c->nlocal;
}

unsigned
comm_local_index(const struct comm *c)
{
	return c->local;
}

const char *
comm_host(const struct comm *c, unsigned rank)
{
	return c->info[rank].name;
}
