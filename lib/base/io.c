/*
 * io: whole reads and writes.
 *
 * What the caller named wrongly (no such file, a directory, no permission) is
 * ERR_CALLER; what the machine failed at is ERR_SYSTEM.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"

enum { CHUNK = 64 << 10, TMP_TRIES = 100 };

int
io_pread(int fd, void *p, size_t n, uint64_t off, struct err *e)
{
	char *dst = p;
	size_t got = 0;

	if (off > INT64_MAX || n > INT64_MAX - off)
		return err_set(e, ERR_CALLER,
		    "%zu bytes at offset %llu: no file is that long", n,
		    (unsigned long long)off);
	while (got < n) {
		ssize_t r = pread(fd, dst + got, n - got, (off_t)(off + got));

		if (r == -1 && errno == EINTR)
			continue;
		if (r == -1)
			return err_sys(e, "read at offset %llu",
			    (unsigned long long)(off + got));
		if (r == 0)
			return err_set(e, ERR_CALLER,
			    "cut off: ends at byte %llu, wanted up to %llu",
			    (unsigned long long)(off + got),
			    (unsigned long long)(off + n));
		got += (size_t)r;
	}
	return 0;
}

int
io_write(int fd, const void *p, size_t n, struct err *e)
{
	const char *src = p;

	while (n) {
		ssize_t r = write(fd, src, n);

		if (r == -1 && errno == EINTR)
			continue;
		if (r == -1)
			return err_sys(e, "write");
		src += r;
		n -= (size_t)r;
	}
	return 0;
}

int
io_pwrite(int fd, const void *p, size_t n, uint64_t off, struct err *e)
{
	const char *src = p;

	if (off > INT64_MAX || n > INT64_MAX - off)
		return err_set(e, ERR_CALLER,
		    "%zu bytes at offset %llu: no file can be that long", n,
		    (unsigned long long)off);
	while (n) {
		ssize_t r = pwrite(fd, src, n, (off_t)off);

		if (r == -1 && errno == EINTR)
			continue;
		if (r == -1)
			return err_sys(e, "write at offset %llu",
			    (unsigned long long)off);
		src += r;
		n -= (size_t)r;
		off += (uint64_t)r;
	}
	return 0;
}

/* err_sys, but ERR_CALLER where the name itself is at fault. */
static int
err_name(struct err *e, const char *what, const char *path)
{
	int bad = errno;

	err_sys(e, "%s %s", what, path);
	if (e && (bad == ENOENT || bad == ENOTDIR || bad == EISDIR ||
	    bad == EACCES || bad == ELOOP || bad == ENAMETOOLONG))
		e->code = ERR_CALLER;
	return -1;
}

/* Reads to the end; the file may be a pipe, or grow while it is read. */
static int
read_all(int fd, const char *path, size_t max, struct buf *b, struct err *e)
{
	char chunk[CHUNK];

	for (;;) {
		ssize_t r = read(fd, chunk, sizeof(chunk));

		if (r == -1 && errno == EINTR)
			continue;
		if (r == -1)
			return err_name(e, "read", path);
		if (r == 0)
			break;
		if ((size_t)r > max - b->n)
			return err_set(e, ERR_CALLER,
			    "%s: more than the %zu bytes allowed", path, max);
		buf_put(b, chunk, (size_t)r);
		if (b->oom)
			break;
	}
	buf_put(b, "", 0);		/* an empty file is "", not NULL */
	if (buf_ok(b, e) == -1)
		return err_wrap(e, "%s", path);
	return 0;
}

int
io_slurp(const char *path, size_t max, struct buf *b, struct err *e)
{
	struct stat st;
	int fd, rc;

	buf_clear(b);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		return err_name(e, "open", path);
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    (uint64_t)st.st_size > max)
		rc = err_set(e, ERR_CALLER,
		    "%s: %lld bytes, more than the %zu allowed", path,
		    (long long)st.st_size, max);
	else
		rc = read_all(fd, path, max, b, e);
	close(fd);
	return rc;
}

/* The parent of path in dir (cleared first). */
static void
parent(struct buf *dir, const char *path)
{
	const char *slash = strrchr(path, '/');

	buf_clear(dir);
	if (!slash)
		buf_puts(dir, ".");
	else
		buf_put(dir, path, slash == path ? 1 : (size_t)(slash - path));
}

/* Not mkstemp: its 0600 could be widened only by asking for the umask, which
 * other threads would see change. */
static int
open_tmp(struct buf *tmp, const char *path, struct err *e)
{
	for (int i = 0; i < TMP_TRIES; i++) {
		int fd;

		buf_clear(tmp);
		buf_printf(tmp, "%s.%ld.%d.tmp", path, (long)getpid(), i);
		if (buf_ok(tmp, e) == -1)
			return -1;
		fd = open(tmp->p, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
		    0666);
		if (fd != -1)
			return fd;
		if (errno != EEXIST)
			break;
	}
	return err_name(e, "create", tmp->p);
}

static int
fill_tmp(int fd, const char *tmp, const void *p, size_t n, struct err *e)
{
	if (io_write(fd, p, n, e) == -1) {
		close(fd);
		return err_wrap(e, "%s", tmp);
	}
	if (fsync(fd) == -1) {
		err_sys(e, "sync %s", tmp);
		close(fd);
		return -1;
	}
	if (close(fd) == -1)
		return err_sys(e, "close %s", tmp);
	return 0;
}

int
io_write_file(const char *path, const void *p, size_t n, struct err *e)
{
	struct buf tmp = {0}, dir = {0};
	int fd, rc = -1;

	parent(&dir, path);
	if (buf_ok(&dir, e) == -1)
		goto out;
	fd = open_tmp(&tmp, path, e);
	if (fd == -1)
		goto out;
	if (fill_tmp(fd, tmp.p, p, n, e) == -1) {
		unlink(tmp.p);
		goto out;
	}
	if (rename(tmp.p, path) == -1) {
		err_name(e, "rename to", path);
		unlink(tmp.p);
		goto out;
	}
	rc = io_sync_dir(dir.p, e);
out:
	buf_free(&tmp);
	buf_free(&dir);
	return rc;
}

int
io_sync_dir(const char *dir, struct err *e)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd == -1)
		return err_name(e, "open", dir);
	/* some file systems cannot sync a directory and say EINVAL */
	if (fsync(fd) == -1 && errno != EINVAL) {
		err_sys(e, "sync %s", dir);
		close(fd);
		return -1;
	}
	close(fd);
	return 0;
}

const char *
io_path(struct buf *b, const char *dir, const char *name)
{
	size_t n = strlen(dir);

	buf_clear(b);
	buf_put(b, dir, n);
	if (n && dir[n - 1] != '/')
		buf_putc(b, '/');
	buf_puts(b, name);
	return b->p;
}

static int
make_dir(const char *path, struct err *e)
{
	struct stat st;

	if (mkdir(path, 0777) == 0)
		return 0;
	if (errno == EEXIST && stat(path, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			return 0;
		return err_set(e, ERR_CALLER, "%s is not a directory", path);
	}
	return err_name(e, "make directory", path);
}

int
io_mkdirs(const char *dir, struct err *e)
{
	struct buf b = {0};
	int rc = 0;

	buf_puts(&b, dir);
	if (buf_ok(&b, e) == -1) {
		buf_free(&b);
		return -1;
	}
	for (size_t i = 1; i < b.n && rc == 0; i++) {
		if (b.p[i] != '/' || b.p[i - 1] == '/')
			continue;
		b.p[i] = '\0';
		rc = make_dir(b.p, e);
		b.p[i] = '/';
	}
	if (rc == 0)
		rc = make_dir(b.p, e);
	buf_free(&b);
	return rc;
}
