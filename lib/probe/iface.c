/*
 * iface: the network interfaces of this host, and the one that is used.
 */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "probe/priv.h"

/* "" for what others can't use: no address, or a link-local one. */
static void
numeric(const struct sockaddr *a, char out[PROBE_ADDR])
{
	int f = a ? a->sa_family : AF_UNSPEC;

	out[0] = '\0';
	if (f != AF_INET && f != AF_INET6)
		return;
	if (getnameinfo(a, f == AF_INET ? sizeof(struct sockaddr_in) :
	    sizeof(struct sockaddr_in6), out, PROBE_ADDR, NULL, 0,
	    NI_NUMERICHOST) != 0 || strchr(out, '%'))
		out[0] = '\0';
}

void
iface_list(struct probe_facts *f)
{
	struct ifaddrs *all, *a;

	if (getifaddrs(&all) == -1)
		return;
	for (a = all; a && f->nifs < PROBE_IFS; a = a->ifa_next) {
		struct probe_if *p = &f->ifs[f->nifs];

		numeric(a->ifa_addr, p->address);
		if (!p->address[0] || !(a->ifa_flags & IFF_UP))
			continue;
		wire_plain(p->name, sizeof(p->name), a->ifa_name);
		f->nifs++;
	}
	freeifaddrs(all);
}

const char *
iface_of(const struct probe_facts *f, const char *address)
{
	for (unsigned i = 0; i < f->nifs; i++)
		if (strcmp(f->ifs[i].address, address) == 0)
			return f->ifs[i].name;
	return "";
}

/* No other host can reach it there. */
static bool
is_loopback(const struct probe_if *p)
{
	return strncmp(p->address, "127.", 4) == 0 ||
	    strcmp(p->address, "::1") == 0;
}

void
iface_words(char *out, size_t size, const struct probe_facts *f)
{
	size_t n = 0;

	snprintf(out, size, "no address but its own");
	for (unsigned i = 0; i < f->nifs && n < size; i++)
		if (!is_loopback(&f->ifs[i]))
			n += (size_t)snprintf(out + n, size - n, "%s%s %s",
			    n ? ", " : "", f->ifs[i].name,
			    f->ifs[i].address);
}

/* The address from which packets would go out into the world.  Connecting a
 * datagram socket asks the routes and sends nothing. */
static void
way_out(char address[PROBE_ADDR])
{
	struct sockaddr_in to = { .sin_family = AF_INET,
		.sin_port = htons(9) }, from;
	socklen_t n = sizeof(from);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	address[0] = '\0';
	inet_pton(AF_INET, "192.0.2.1", &to.sin_addr);	/* documentation's */
	if (fd != -1 && connect(fd, (void *)&to, sizeof(to)) == 0 &&
	    getsockname(fd, (void *)&from, &n) == 0)
		numeric((void *)&from, address);
	if (fd != -1)
		close(fd);
}

static void
take(struct probe_facts *f, const struct probe_if *p)
{
	snprintf(f->interface, sizeof(f->interface), "%s", p->name);
	snprintf(f->address, sizeof(f->address), "%s", p->address);
}

static void
choose_named(struct probe_facts *f, const char *name)
{
	char there[PROBE_WORDS / 2];
	bool known = if_nametoindex(name) != 0;

	for (unsigned i = 0; i < f->nifs; i++) {
		if (strcmp(f->ifs[i].name, name) == 0) {
			take(f, &f->ifs[i]);
			return;
		}
	}
	iface_words(there, sizeof(there), f);
	snprintf(f->wrong, sizeof(f->wrong), "%s=%s: %s; there is: %s",
	    f->from, name, known ? "this network interface is down or has no "
	    "address" : "there is no such network interface", there);
}

void
iface_choose(struct probe_facts *f, const char *name, const char *want)
{
	char out[PROBE_ADDR];
	const struct probe_if *best = NULL;

	if (name[0]) {
		choose_named(f, name);
		return;
	}
	way_out(out);
	for (unsigned i = 0; i < f->nifs; i++) {
		const struct probe_if *p = &f->ifs[i];

		if (strcmp(p->address, want) == 0) {
			take(f, p);
			return;
		}
		if (!best || strcmp(p->address, out) == 0 ||
		    (is_loopback(best) && strcmp(best->address, out) != 0))
			best = p;
	}
	if (best)
		take(f, best);
	else
		snprintf(f->wrong, sizeof(f->wrong),
		    "no network interface is up and has an address");
}
