/*
 * addr: the numeric addresses at the ends of a socket.
 */
#ifndef DSI_COMM_ADDR_H
#define DSI_COMM_ADDR_H

#include "base/base.h"

bool addr_is_net(int fd);		/* IPv4 or IPv6, not Unix */
/* The address (no port) of this end of fd, or of the other; "" where there is
 * none: a Unix socket, or a listener that is bound to all addresses. */
void addr_of(int fd, bool other, char *s, size_t size);

#endif
