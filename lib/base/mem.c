/*
 * mem: memory whose size was checked before it was multiplied.
 *
 * Weights and caches are read at the speed of memory, and 4 KiB pages halve
 * that; so mem_map aligns to 2 MiB and asks for transparent huge pages.  Under
 * AddressSanitizer smaller maps come from the heap, where overruns are seen.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/base.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HEAP_MAX (64 << 20)
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define HEAP_MAX (64 << 20)
#endif
#ifndef HEAP_MAX
#define HEAP_MAX 0			/* mem_map: up to here from the heap */
#endif

enum {
	HUGE_PAGE = 2 << 20,
	MIN_CAP = 16,			/* first growth, in elements */
};

bool
mul_ok(size_t a, size_t b, size_t *out)
{
	return !__builtin_mul_overflow(a, b, out);
}

bool
add_ok(size_t a, size_t b, size_t *out)
{
	return !__builtin_add_overflow(a, b, out);
}

static int
no_memory(struct err *e, size_t n, size_t size)
{
	return err_set(e, ERR_SYSTEM, "out of memory: %zu x %zu bytes", n,
	    size);
}

void *
mem_new(size_t n, size_t size, struct err *e)
{
	size_t total;
	void *p = NULL;

	if (mul_ok(n, size, &total) && total <= PTRDIFF_MAX)
		p = calloc(total ? total : 1, 1);
	if (!p)
		no_memory(e, n, size);
	return p;
}

int
mem_grow(void *p, size_t *cap, size_t n, size_t size, struct err *e)
{
	size_t want = *cap < MIN_CAP ? MIN_CAP : *cap, total;
	void *old, *new;

	memcpy(&old, p, sizeof(old));
	if (n <= *cap && old)
		return 0;
	if (want <= *cap && !mul_ok(want, 2, &want))
		want = n;
	if (want < n)
		want = n;
	if (!mul_ok(want, size, &total) || total > PTRDIFF_MAX)
		return no_memory(e, n, size);
	new = realloc(old, total ? total : 1);
	if (!new)
		return no_memory(e, n, size);
	memcpy(p, &new, sizeof(new));
	*cap = want;
	return 0;
}

/* Whole pages; 0 when size is beyond reason. */
static size_t
map_size(size_t size)
{
	size_t page = sysconf(_SC_PAGESIZE);

	if (size > PTRDIFF_MAX - 2 * (size_t)HUGE_PAGE)
		return 0;
	return size ? (size + page - 1) / page * page : page;
}

static void *
map_pages(size_t size)
{
	size_t slack = size >= HUGE_PAGE ? HUGE_PAGE : 0;
	char *p = mmap(NULL, size + slack, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t head;

	if (p == MAP_FAILED)
		return NULL;
	if (!slack)
		return p;
	head = -(uintptr_t)p & (HUGE_PAGE - 1);
	if (head)
		munmap(p, head);
	if (slack - head)
		munmap(p + head + size, slack - head);
	madvise(p + head, size, MADV_HUGEPAGE);
	return p + head;
}

void *
mem_map(size_t size, struct err *e)
{
	void *p = NULL;
	size_t whole = map_size(size);

	if (size <= HEAP_MAX) {
		if (posix_memalign(&p, 64, size ? size : 1) != 0)
			p = NULL;
		else
			memset(p, 0, size);
	} else if (whole) {
		p = map_pages(whole);
	}
	if (!p)
		no_memory(e, 1, size);
	return p;
}

void
mem_unmap(void *p, size_t size)
{
	if (!p)
		return;
	if (size <= HEAP_MAX)
		free(p);
	else
		munmap(p, map_size(size));
}
