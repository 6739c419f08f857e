/*
 * hello: what a rank says of itself, and whether it belongs.
 *
 * Two ranks share memory when they run under one kernel (its boot id), in one
 * network namespace (the region is passed over an abstract socket) and under
 * one host name.  DSI_HOST_ID in the environment stands in for all three and
 * for the name: it makes several hosts of one machine.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "comm/comm_priv.h"

void
hello_put(struct buf *b, const struct hello *h)
{
	put_u32(b, h->rank);
	put_u32(b, h->world);
	put_u32(b, h->pid);
	put_u64(b, h->wiring);
	put_u16(b, h->apart);
	put_text(b, h->layout);
	put_text(b, h->model);
	put_text(b, h->build);
	put_text(b, h->host);
	put_text(b, h->id);
	put_text(b, h->far);
	put_text(b, h->addr);
	put_text(b, h->unix_name);
}

/* Names end up in error lines and terminals. */
static void
clean(char *s)
{
	for (; *s; s++) {
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = '?';
	}
}

int
hello_get(struct hello *h, const void *p, size_t n)
{
	struct reader r = { p, n, false };

	h->rank = get_u32(&r);
	h->world = get_u32(&r);
	h->pid = get_u32(&r);
	h->wiring = get_u64(&r);
	h->apart = get_u16(&r) != 0;
	get_text(&r, h->layout, sizeof(h->layout));
	get_text(&r, h->model, sizeof(h->model));
	get_text(&r, h->build, sizeof(h->build));
	get_text(&r, h->host, sizeof(h->host));
	get_text(&r, h->id, sizeof(h->id));
	get_text(&r, h->far, sizeof(h->far));
	get_text(&r, h->addr, sizeof(h->addr));
	get_text(&r, h->unix_name, sizeof(h->unix_name));
	clean(h->layout);
	clean(h->model);
	clean(h->build);
	clean(h->host);
	clean(h->far);
	return r.bad || r.n ? -1 : 0;
}

/* The machine: "boot id/network namespace/host name" */
static void
identity(struct hello *h)
{
	const char *set = getenv("DSI_HOST_ID");
	char boot[64] = "";
	struct buf b = {0};
	struct stat st = {0};

	if (set && *set) {
		snprintf(h->host, sizeof(h->host), "%.200s", set);
		snprintf(h->id, sizeof(h->id), "=%.200s", set);
	} else {
		if (gethostname(h->host, sizeof(h->host) - 1) == -1)
			snprintf(h->host, sizeof(h->host), "unknown");
		if (io_slurp("/proc/sys/kernel/random/boot_id", sizeof(boot),
		    &b, NULL) == 0 && b.p)
			snprintf(boot, sizeof(boot), "%.36s", b.p);
		buf_free(&b);
		stat("/proc/self/ns/net", &st);
		snprintf(h->id, sizeof(h->id), "%s/%llu/%.100s", boot,
		    (unsigned long long)st.st_ino, h->host);
	}
	clean(h->host);
}

void
comm_here(char *s, size_t size)
{
	struct hello h = {0};

	identity(&h);
	snprintf(s, size, "%s", h.host);
}

int
hello_self(struct hello *h, const struct comm_opts *o, struct err *e)
{
	*h = (struct hello){ .rank = o->rank, .world = o->wiring.world };
	h->pid = getpid();
	h->wiring = wiring_digest(&o->wiring);
	h->apart = o->apart;
	if (snprintf(h->layout, COMM_NAME, "%s", o->layout ? o->layout : "") >=
	    COMM_NAME || snprintf(h->model, COMM_NAME, "%s", o->model ?
	    o->model : "") >= COMM_NAME || snprintf(h->build, COMM_NAME, "%s",
	    o->build ? o->build : "") >= COMM_NAME)
		return err_set(e, ERR_CALLER, "layout, model and build must "
		    "be shorter than %d bytes", COMM_NAME);
	identity(h);
	return 0;
}

static bool
words_agree(const char *what, const char *a, const char *b,
    const struct hello *peer, char text[COMM_WORDS])
{
	if (strcmp(a, b) == 0)
		return true;
	snprintf(text, COMM_WORDS, "%s %.100s at the lead, %.100s at rank %u "
	    "on %.64s", what, *a ? a : "(none)", *b ? b : "(none)",
	    peer->rank, peer->host);
	return false;
}

bool
hello_agree(const struct hello *lead, const struct hello *peer,
    char text[COMM_WORDS])
{
	if (!words_agree("build", lead->build, peer->build, peer, text))
		return false;
	if (lead->world != peer->world) {
		snprintf(text, COMM_WORDS, "a world of %u ranks at the lead, "
		    "of %u at rank %u on %.64s", lead->world, peer->world,
		    peer->rank, peer->host);
		return false;
	}
	if (peer->rank >= lead->world) {
		snprintf(text, COMM_WORDS, "rank %u on %.64s does not fit a "
		    "world of %u", peer->rank, peer->host, lead->world);
		return false;
	}
	if (!words_agree("layout", lead->layout, peer->layout, peer, text) ||
	    !words_agree("model", lead->model, peer->model, peer, text) ||
	    !words_agree("transport", lead->far, peer->far, peer, text))
		return false;
	if (lead->wiring != peer->wiring) {
		snprintf(text, COMM_WORDS, "wiring %016llx at the lead, "
		    "%016llx at rank %u on %.64s: not the same program or "
		    "flags", (unsigned long long)lead->wiring,
		    (unsigned long long)peer->wiring, peer->rank, peer->host);
		return false;
	}
	return true;
}

void
ranks_text(const bool *seen, unsigned world, char *s, size_t size)
{
	size_t n = 0;

	s[0] = '\0';
	for (unsigned i = 0, last; i < world && n < size; i = last + 1) {
		last = i;
		if (seen[i])
			continue;
		while (last + 1 < world && !seen[last + 1])
			last++;
		n += snprintf(s + n, size - n, last > i ? "%sranks %u-%u" :
		    "%srank %u", n ? ", " : "", i, last);
	}
	if (n >= size && size > 4)	/* too many to name */
		memcpy(s + size - 4, "...", 4);
}
