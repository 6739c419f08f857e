#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "comm/addr.h"

bool
addr_is_net(int fd)
{
	struct sockaddr_storage a = {0};
	socklen_t n = sizeof(a);

	return getsockname(fd, (void *)&a, &n) == 0 &&
	    (a.ss_family == AF_INET || a.ss_family == AF_INET6);
}

static bool
is_any(const struct sockaddr_storage *a)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;

	memcpy(&v4, a, sizeof(v4));
	memcpy(&v6, a, sizeof(v6));
	if (a->ss_family == AF_INET)
		return v4.sin_addr.s_addr == htonl(INADDR_ANY);
	return IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr);
}

void
addr_of(int fd, bool other, char *s, size_t size)
{
	struct sockaddr_storage a = {0};
	socklen_t n = sizeof(a);

	s[0] = '\0';
	if (!addr_is_net(fd) || (other ? getpeername(fd, (void *)&a, &n) :
	    getsockname(fd, (void *)&a, &n)) == -1 || is_any(&a))
		return;
	if (getnameinfo((void *)&a, n, s, (socklen_t)size, NULL, 0,
	    NI_NUMERICHOST) != 0)
		s[0] = '\0';
}
