/*
 * frame: what comes in from ranks and strangers: frames on a control
 * connection, the hello, and the table of ranks.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "comm/open.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WORLD = 3 };

static void
hello(const uint8_t *p, size_t n)
{
	struct hello lead = { .world = WORLD }, h;
	char text[COMM_WORDS];
	struct buf b = {0};

	if (hello_get(&h, p, n) == -1)
		return;
	hello_agree(&lead, &h, text);
	hello_put(&b, &h);
	buf_free(&b);
}

static void
table(const uint8_t *p, size_t n)
{
	struct rank_info info[WORLD];
	unsigned local_rank[WORLD];
	struct comm c = { .world = WORLD, .rank = 1, .info = info,
		.local_rank = local_rank };

	memset(info, 0, sizeof(info));
	if (table_get(&c, p, n, NULL) == 0 && (c.nlocal < 1 ||
	    c.nlocal > WORLD || c.nhost < 1 || c.local >= c.nlocal))
		abort();
}

/* All of it over a socket, as it would come. */
static void
frames(const uint8_t *p, size_t n)
{
	struct link l;
	struct frame f;
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == -1)
		abort();
	if (n > 100000)			/* fits a socket's buffer */
		n = 100000;
	if (send(sv[1], p, n, MSG_DONTWAIT) != (ssize_t)n && n)
		abort();
	close(sv[1]);
	if (link_open(&l, sv[0], NULL) == -1)
		abort();
	while (link_read(&l, &f) == 1) {
		if (f.type == FRAME_HELLO)
			hello(f.p, f.n);
		else if (f.type == FRAME_WELCOME)
			table(f.p, f.n);
	}
	link_close(&l);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	frames(data, size);
	hello(data, size);
	table(data, size);
	return 0;
}
