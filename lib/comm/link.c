/*
 * link: frames over a control connection.
 *
 * A frame is 12 bytes, little-endian (magic, version, type, length), and a
 * body.  The length is held against what the type may have before a byte of
 * the body is read or room is made for it.  Nothing here waits: a link that is
 * slow or silent costs the others nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "comm/comm_priv.h"

enum {
	MAGIC = 0x43495344,		/* "DSIC" */
	HEAD = 12,
	TABLE_MAX = COMM_MAX_RANKS * (2 * COMM_NAME),
};

static const size_t longest[] = {
	[FRAME_HELLO] = 4096, [FRAME_REFUSE] = COMM_WORDS + 8,
	[FRAME_WAIT] = COMM_WORDS, [FRAME_WELCOME] = TABLE_MAX,
	[FRAME_ALIVE] = 0, [FRAME_END] = 8 + COMM_WORDS + 128,
	[FRAME_LEFT] = 4, [FRAME_BYE] = 0,
};

void
put_u16(struct buf *b, unsigned v)
{
	uint8_t s[2] = { v & 0xff, v >> 8 & 0xff };

	buf_put(b, s, sizeof(s));
}

void
put_u32(struct buf *b, uint32_t v)
{
	put_u16(b, v & 0xffff);
	put_u16(b, v >> 16);
}

void
put_u64(struct buf *b, uint64_t v)
{
	put_u32(b, (uint32_t)v);
	put_u32(b, v >> 32);
}

void
put_text(struct buf *b, const char *s)
{
	size_t n = strlen(s);

	put_u16(b, (unsigned)n);
	buf_put(b, s, n);
}

void
get_bytes(struct reader *r, void *p, size_t n)
{
	memset(p, 0, n);
	if (r->bad || r->n < n) {
		r->bad = true;
		return;
	}
	memcpy(p, r->p, n);
	r->p += n;
	r->n -= n;
}

unsigned
get_u16(struct reader *r)
{
	uint8_t s[2];

	get_bytes(r, s, sizeof(s));
	return s[0] | (unsigned)s[1] << 8;
}

uint32_t
get_u32(struct reader *r)
{
	uint32_t low = get_u16(r);

	return low | (uint32_t)get_u16(r) << 16;
}

uint64_t
get_u64(struct reader *r)
{
	uint64_t low = get_u32(r);

	return low | (uint64_t)get_u32(r) << 32;
}

void
get_text(struct reader *r, char *s, size_t size)
{
	size_t n = get_u16(r);

	s[0] = '\0';
	if (n >= size) {
		r->bad = true;
		return;
	}
	get_bytes(r, s, n);
	s[n] = '\0';
	if (memchr(s, '\0', n))
		r->bad = true;
}

int
link_open(struct link *l, int fd, struct err *e)
{
	int flags = fcntl(fd, F_GETFL);

	*l = (struct link){ .fd = fd, .rank = NO_RANK, .need = HEAD };
	l->heard_ns = now_ns();
	if (flags == -1 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) == -1)
		return err_sys(e, "control socket %d", fd);
	return 0;
}

void
link_close(struct link *l)
{
	if (l->fd != -1)
		close(l->fd);
	l->fd = -1;
	buf_free(&l->in);
	buf_free(&l->out);
	l->sent = 0;
}

/* What does the head that is in l->in ask for?  -1: not ours. */
static int
head_read(struct link *l, struct frame *f)
{
	struct reader r = { (const uint8_t *)l->in.p, HEAD, false };
	uint32_t magic = get_u32(&r);
	size_t n;

	f->version = get_u16(&r);
	f->type = get_u16(&r);
	n = get_u32(&r);
	if (magic != MAGIC || f->type < FRAME_HELLO || f->type > FRAME_BYE ||
	    n > longest[f->type])
		return -1;
	l->need = HEAD + n;
	return 0;
}

int
link_read(struct link *l, struct frame *f)
{
	char part[4096];

	if (l->fd == -1)
		return -1;
	if (l->in.n == l->need) {	/* the frame of the last call */
		buf_clear(&l->in);
		l->need = HEAD;
	}
	for (;;) {
		size_t n = l->need - l->in.n;
		ssize_t k;

		if (l->in.n >= HEAD && head_read(l, f) == -1)
			return -1;
		if (l->in.n >= HEAD && l->in.n == l->need)
			break;
		n = l->need - l->in.n;
		k = recv(l->fd, part, n < sizeof(part) ? n : sizeof(part), 0);
		if (k == -1 && errno == EINTR)
			continue;
		if (k == -1 && errno == EAGAIN)
			return 0;
		if (k <= 0)
			return -1;
		buf_put(&l->in, part, k);
		if (l->in.oom)
			return -1;
	}
	l->heard_ns = now_ns();
	f->p = (const uint8_t *)l->in.p + HEAD;
	f->n = l->need - HEAD;
	return 1;
}

void
link_put(struct link *l, enum frame_type t, const void *p, size_t n)
{
	if (l->fd == -1)
		return;
	if (l->sent == l->out.n) {
		buf_clear(&l->out);
		l->sent = 0;
	}
	put_u32(&l->out, MAGIC);
	put_u16(&l->out, COMM_VERSION);
	put_u16(&l->out, t);
	put_u32(&l->out, (uint32_t)n);
	if (n)
		buf_put(&l->out, p, n);
}

int
link_flush(struct link *l)
{
	if (l->fd == -1 || l->out.oom)
		return -1;
	while (l->sent < l->out.n) {
		ssize_t k = send(l->fd, l->out.p + l->sent,
		    l->out.n - l->sent, MSG_NOSIGNAL);

		if (k == -1 && errno == EINTR)
			continue;
		if (k == -1 && errno == EAGAIN)
			return 0;
		if (k == -1)
			return -1;
		l->sent += k;
	}
	return 0;
}

bool
link_idle(const struct link *l)
{
	return l->fd == -1 || l->sent == l->out.n;
}
