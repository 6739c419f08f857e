/*
 * sha: digests of files and memory, as hex.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "store/store.h"

enum { CHUNK = 1 << 20, SHA_SIZE = 32 };

static void
hex(char out[65], const unsigned char *p)
{
	static const char digit[] = "0123456789abcdef";

	for (int i = 0; i < SHA_SIZE; i++) {
		out[2 * i] = digit[p[i] >> 4];
		out[2 * i + 1] = digit[p[i] & 15];
	}
	out[2 * SHA_SIZE] = '\0';
}

int
sha256_start(struct sha256 *s, struct err *e)
{
	s->ctx = EVP_MD_CTX_new();
	if (!s->ctx || EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL) != 1) {
		sha256_free(s);
		return err_set(e, ERR_SYSTEM, "cannot start sha256");
	}
	return 0;
}

int
sha256_add(struct sha256 *s, const void *p, size_t n, struct err *e)
{
	if (EVP_DigestUpdate(s->ctx, p, n) != 1)
		return err_set(e, ERR_SYSTEM, "sha256 failed");
	return 0;
}

int
sha256_end(struct sha256 *s, char sha[65], struct err *e)
{
	unsigned char md[EVP_MAX_MD_SIZE];

	if (EVP_DigestFinal_ex(s->ctx, md, NULL) != 1) {
		sha256_free(s);
		return err_set(e, ERR_SYSTEM, "sha256 failed");
	}
	hex(sha, md);
	sha256_free(s);
	return 0;
}

void
sha256_free(struct sha256 *s)
{
	EVP_MD_CTX_free(s->ctx);
	s->ctx = NULL;
}

int
sha256_mem(const void *p, size_t n, char sha[65], struct err *e)
{
	struct sha256 s;

	if (sha256_start(&s, e) == -1)
		return -1;
	if (sha256_add(&s, p, n, e) == -1) {
		sha256_free(&s);
		return -1;
	}
	return sha256_end(&s, sha, e);
}

static int
add_file(struct sha256 *s, int fd, unsigned char *p, struct bar *bar,
    struct err *e)
{
	for (;;) {
		ssize_t r = read(fd, p, CHUNK);

		if (r == -1 && errno == EINTR)
			continue;
		if (r == -1)
			return err_sys(e, "read");
		if (r == 0)
			return 0;
		if (sha256_add(s, p, (size_t)r, e) == -1)
			return -1;
		if (bar)
			bar_add(bar, (uint64_t)r);
	}
}

int
sha256_file(const char *path, char sha[65], struct bar *bar, struct err *e)
{
	struct sha256 s = {0};
	unsigned char *p = NULL;
	int fd, rc = -1;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd == -1) {
		bool gone = errno == ENOENT || errno == ENOTDIR;

		err_sys(e, "open %s", path);
		if (gone && e)
			e->code = ERR_CALLER;
		return -1;
	}
	p = mem_new(CHUNK, 1, e);
	if (!p || sha256_start(&s, e) == -1)
		goto out;
	if (add_file(&s, fd, p, bar, e) == -1) {
		err_wrap(e, "%s", path);
		goto out;
	}
	rc = sha256_end(&s, sha, e);
out:
	sha256_free(&s);
	free(p);
	close(fd);
	return rc;
}
