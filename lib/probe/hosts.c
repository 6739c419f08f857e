/*
 * hosts: the list of them.
 *
 * A name ends up as a word of a command line, and with ssh as a word of a
 * shell's: so it holds nothing but what names and addresses are made of, and
 * starts with no dash.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "probe/probe.h"

enum { FILE_MAX = 1 << 20 };

static bool
is_name(const char *s)
{
	bool start = true;

	for (; *s; s++) {
		if (start && (*s == '-' || *s == '@'))
			return false;
		if (!isalnum((unsigned char)*s) && !strchr("._-@:%", *s))
			return false;
		start = *s == '@';
	}
	return !start;
}

/* "host:8", "[fe80::1]:8"; an address with more colons has no slots. */
static int
cut_slots(struct probe_host *h, struct err *e)
{
	char *colon = strrchr(h->name, ':');
	uint64_t n;

	if (!colon || (strchr(h->name, ':') != colon && colon[-1] != ']'))
		return 0;
	if (num_u64(colon + 1, PLAN_MAX_RANKS, &n) == -1 || n == 0)
		return err_set(e, ERR_CALLER, "'%s': the ranks after the colon "
		    "must be 1 to %d; ports are the remote shell's business, "
		    "such as --rsh 'ssh -p 2222'", h->name, PLAN_MAX_RANKS);
	h->slots = (unsigned)n;
	*colon = '\0';
	return 0;
}

/* "[fe80::1]" is for the slots' sake: ssh wants the address bare. */
static void
cut_brackets(char *name)
{
	char *from = strchr(name, '[');
	size_t n = strlen(name);

	if (!from || name[n - 1] != ']')
		return;
	name[n - 1] = '\0';
	memmove(from, from + 1, strlen(from));
}

static int
add(struct probe_hosts *hs, const char *s, size_t n, struct err *e)
{
	struct probe_host h = {0};

	while (n && isspace((unsigned char)*s)) {
		s++;
		n--;
	}
	while (n && isspace((unsigned char)s[n - 1]))
		n--;
	if (n == 0 || n >= sizeof(h.name))
		return err_set(e, ERR_CALLER, n ? "a host's name is too long" :
		    "an empty host name");
	memcpy(h.name, s, n);
	if (cut_slots(&h, e) == -1)
		return -1;
	cut_brackets(h.name);
	if (!is_name(h.name))
		return err_set(e, ERR_CALLER, "'%s' is not the name of a host, "
		    "such as nodea, user@nodea or nodea:8", h.name);
	if (hs->n == PROBE_MAX_HOSTS)
		return err_set(e, ERR_CALLER, "more than %d hosts",
		    PROBE_MAX_HOSTS);
	if (mem_grow(&hs->v, &hs->cap, hs->n + 1, sizeof(h), e) == -1)
		return -1;
	hs->v[hs->n++] = h;
	return 0;
}

static int
read_list(struct probe_hosts *h, const char *s, struct err *e)
{
	size_t n;

	for (;; s += n + 1) {
		n = strcspn(s, ",");
		if (add(h, s, n, e) == -1)
			return -1;
		if (!s[n])
			return 0;
	}
}

static int
read_file(struct probe_hosts *h, const char *path, struct err *e)
{
	struct buf b = {0};
	unsigned line = 0;
	int rc = io_slurp(path, FILE_MAX, &b, e);
	char *s = b.p, *next;

	for (; rc == 0 && s && *s; s = next) {
		size_t n = strcspn(s, "\n"), text;

		line++;
		next = s + n + (s[n] == '\n');
		s[n] = '\0';
		text = strcspn(s, "#");
		s[text] = '\0';
		if (s[strspn(s, " \t\r")] == '\0')
			continue;
		rc = add(h, s, text, e);
		if (rc == -1)
			err_wrap(e, "%s:%u", path, line);
	}
	buf_free(&b);
	if (rc == 0 && h->n == 0)
		rc = err_set(e, ERR_CALLER, "%s names no host", path);
	return rc;
}

/* Two processes on one machine would share an address and a port. */
static int
check_twice(const struct probe_hosts *h, struct err *e)
{
	size_t slots = 0;

	for (size_t i = 0; i < h->n; i++) {
		slots += h->v[i].slots != 0;
		for (size_t j = 0; j < i; j++)
			if (strcmp(h->v[i].name, h->v[j].name) == 0)
				return err_set(e, ERR_CALLER, "%s is named "
				    "twice", h->v[i].name);
	}
	if (slots && slots != h->n)
		return err_set(e, ERR_CALLER, "%zu of %zu hosts have their "
		    "number of ranks after a colon: all or none must", slots,
		    h->n);
	return 0;
}

int
probe_hosts_read(struct probe_hosts *h, const char *list, struct err *e)
{
	int rc = list[0] == '@' ? read_file(h, list + 1, e) :
	    read_list(h, list, e);

	if (rc == 0)
		rc = check_twice(h, e);
	if (rc == 0)
		return 0;
	probe_hosts_free(h);
	return err_wrap(e, "--hosts");
}

void
probe_hosts_free(struct probe_hosts *h)
{
	free(h->v);
	*h = (struct probe_hosts){0};
}
