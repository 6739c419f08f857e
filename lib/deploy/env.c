/*
 * env: what environment variables say of this node.
 *
 * dsi-check(1) lists all of the tutorial's; those that only Ascend cards heed
 * are not looked at.
 */
#include <stdlib.h>
#include <string.h>

#include "deploy/priv.h"

static const char *
first_set(const char *const *name, const char **from)
{
	for (; *name; name++) {
		const char *v = getenv(*name);

		if (v && *v) {
			*from = *name;
			return v;
		}
	}
	return NULL;
}

/* ---- the interface ---- */

/* HCCL and GLOO take lists and patterns ("eth,enp", "^docker"), which are no
 * names. */
static bool
is_name(const char *s, size_t room)
{
	return strlen(s) < room && !strpbrk(s, ",^=/ \t") &&
	    strcmp(s, ".") != 0 && strcmp(s, "..") != 0;
}

static int
read_ifname(struct deploy *d, struct err *e)
{
	static const char *const name[] = { "DSI_SOCKET_IFNAME",
	    "TP_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "HCCL_SOCKET_IFNAME" };

	d->ifname[0] = '\0';
	d->ifname_from = NULL;
	for (int i = 0; i < 4; i++) {
		const char *v = getenv(name[i]);

		if (!v || !*v)
			continue;
		if (is_name(v, sizeof(d->ifname))) {
			snprintf(d->ifname, sizeof(d->ifname), "%s", v);
			d->ifname_from = name[i];
			return 0;
		}
		if (i == 0)
			return err_set(e, ERR_CALLER, "%s must be the name of "
			    "one network interface, such as eth0, not '%s'",
			    name[i], v);
		if (deploy_doubt(d, e, "%s='%s' is not the name of one network "
		    "interface; it is not heeded", name[i], v) == -1)
			return -1;
	}
	return 0;
}

/* ---- places ---- */

static int
bad_places(const struct deploy *d, const char *v, struct err *e)
{
	return err_set(e, ERR_CALLER, "%s must be a list such as 0,1,4-7, "
	    "numbers from 0 to %d, each once, not '%s'", d->place_from,
	    DEPLOY_MAX_PLACES - 1, v);
}

/* At most four digits from *s; -1: none, or too large. */
static int
take_number(const char **s, unsigned *out)
{
	unsigned v = 0, n = 0;

	for (; **s >= '0' && **s <= '9' && n < 5; n++, (*s)++)
		v = 10 * v + (unsigned)(**s - '0');
	*out = v;
	return n && v < DEPLOY_MAX_PLACES ? 0 : -1;
}

static int
add_places(struct deploy *d, unsigned a, unsigned b, bool *seen)
{
	for (; a <= b; a++) {
		if (seen[a])
			return -1;
		seen[a] = true;
		d->place[d->nplace++] = a;
	}
	return 0;
}

static int
read_places(struct deploy *d, struct err *e)
{
	static const char *const name[] = { "DSI_VISIBLE_DEVICES",
	    "ASCEND_RT_VISIBLE_DEVICES", NULL };
	const char *v = first_set(name, &d->place_from), *s = v;
	bool seen[DEPLOY_MAX_PLACES] = { false };
	unsigned a, b;

	d->nplace = 0;
	while (s) {
		while (*s == ' ')
			s++;
		if (take_number(&s, &a) == -1)
			return bad_places(d, v, e);
		b = a;
		if (*s == '-' && (s++, take_number(&s, &b) == -1 || b < a))
			return bad_places(d, v, e);
		if (add_places(d, a, b, seen) == -1)
			return bad_places(d, v, e);
		while (*s == ' ')
			s++;
		if (!*s)
			break;
		if (*s++ != ',')
			return bad_places(d, v, e);
	}
	return 0;
}

/* ---- stages ---- */

static unsigned
stage_layers(const struct deploy *d, unsigned stage)
{
	struct plan p;

	plan_rank(&p, &d->arch, &d->layout, stage * d->layout.dp *
	    d->layout.tp);
	return p.layer1 - p.layer0;
}

/* A partition of the user's own can only be the one that there is. */
static int
check_partition(struct deploy *d, struct err *e)
{
	static const char name[] = "VLLM_PP_LAYER_PARTITION";
	const char *v = getenv(name), *s = v;
	unsigned n = 0, sum = 0, x;
	bool same = true;

	if (!v || !*v)
		return 0;
	do {
		if (take_number(&s, &x) == -1 || (*s && *s != ','))
			return err_set(e, ERR_CALLER, "%s must be numbers of "
			    "layers with commas between, not '%s'", name, v);
		same = same && n < d->layout.pp && stage_layers(d, n) == x;
		sum += x;
		n++;
	} while (*s++);
	if (n != d->layout.pp)
		return err_set(e, ERR_CALLER, "%s has %u numbers, "
		    "pipeline-parallel-size is %u", name, n, d->layout.pp);
	if (sum != d->arch.layers)
		return err_set(e, ERR_CALLER, "%s sums up to %u layers, "
		    "num_hidden_layers is %u", name, sum, d->arch.layers);
	return same ? 0 : deploy_doubt(d, e, "%s=%s is not heeded: stages "
	    "share the layers evenly", name, v);
}

int
deploy_node_env(struct deploy *d, struct err *e)
{
	return read_ifname(d, e) == -1 || read_places(d, e) == -1 ? -1 : 0;
}

int
deploy_env(struct deploy *d, struct err *e)
{
	return deploy_node_env(d, e) == -1 ? -1 : check_partition(d, e);
}

unsigned
deploy_mpi_size(void)
{
	const char *ompi = getenv("OMPI_COMM_WORLD_SIZE");
	const char *pmi = getenv("PMI_SIZE");
	/* of srun only: a batch script has SLURM_NTASKS too */
	const char *step = getenv("SLURM_STEP_NUM_TASKS");
	const char *v = ompi ? ompi : pmi ? pmi : step;
	uint64_t n;

	return v && num_u64(v, UINT32_MAX, &n) == 0 ? (unsigned)n : 0;
}
