/*
 * resume: what an earlier run has written.
 *
 * A line counts as done when it has its newline: runs write a line with one
 * call, so only the last one can be cut.  Each is held against its request
 * before anything is added: the output of another input must not be
 * continued.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "batch/batch.h"

enum { BACK = 1 << 16, LINE_MAX_BYTES = 1 << 30 };

/* Cuts fd behind its last newline. */
static int
cut_partial(int fd, struct err *e)
{
	char part[BACK];
	struct stat st;
	uint64_t end;

	if (fstat(fd, &st) == -1)
		return err_sys(e, "stat");
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_CALLER, "must be a plain file");
	for (end = (uint64_t)st.st_size; end > 0;) {
		size_t n = end < BACK ? (size_t)end : BACK;
		const char *nl;

		if (io_pread(fd, part, n, end - n, e) == -1)
			return -1;
		nl = memrchr(part, '\n', n);
		end = nl ? end - n + (size_t)(nl - part) + 1 : end - n;
		if (nl)
			break;
	}
	if (end < (uint64_t)st.st_size && ftruncate(fd, (off_t)end) == -1)
		return err_sys(e, "cut");
	return 0;
}

int
resume_open(struct resume *r, const char *path, struct err *e)
{
	int bad;

	*r = (struct resume){ .path = path };
	r->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	bad = errno;
	if (r->fd == -1) {
		err_sys(e, "open %s", path);
		if (bad == ENOENT || bad == EISDIR || bad == EACCES ||
		    bad == ENOTDIR)
			e->code = ERR_CALLER;
		return -1;
	}
	if (flock(r->fd, LOCK_EX | LOCK_NB) == -1) {
		err_set(e, ERR_SYSTEM, "another run is writing to it");
		goto bad;
	}
	if (cut_partial(r->fd, e) == -1)
		goto bad;
	r->in = (struct input){
		.fd = r->fd, .stop_fd = -1, .end_fd = -1, .max = LINE_MAX_BYTES,
	};
	return 0;
bad:
	close(r->fd);
	r->fd = -1;
	return err_wrap(e, "%s", path);
}

void
resume_close(struct resume *r)
{
	input_free(&r->in);
	if (r->fd != -1)
		close(r->fd);
	r->fd = -1;
}

int
resume_next(struct resume *r, struct json **line, struct err *e)
{
	const char *p;
	size_t n;
	int got = input_next(&r->in, true, &p, &n, e);

	*line = NULL;
	if (got == -1)
		return err_wrap(e, "%s", r->path);
	if (got == INPUT_END)
		return 0;
	if (json_parse(line, p, n, e) == -1)
		return err_wrap(e, "%s: line %llu", r->path,
		    (unsigned long long)r->in.n);
	return 1;
}

static const char *
get_str(const struct json *o, const char *key)
{
	const struct json *v = json_get(o, key);

	return v && json_type(v) == JSON_STR ? json_str(v) : NULL;
}

static bool
is_bad(const struct json *line)
{
	const struct json *code =
	    json_get(json_get(line, "response"), "status_code");

	if (code)
		return json_type(code) != JSON_NUM || json_num(code) != 200;
	return json_get(line, "error");
}

/* The response names the request: by its own id, else by its line. */
static bool
same_id(const struct json *line, const struct json *request, uint64_t lineno)
{
	const char *id = get_str(line, "id"), *want;
	char number[32];

	snprintf(number, sizeof(number), "%llu", (unsigned long long)lineno);
	want = get_str(request, "request_id");
	if (!want)
		want = number;
	id = id ? strchr(id, '-') : NULL;
	return id && strcmp(id + 1, want) == 0;
}

static int
match(const struct json *line, const struct json *request, uint64_t lineno,
    struct err *e)
{
	const char *is = get_str(line, "custom_id");
	const char *want = request && api_is_batch(request) ?
	    get_str(request, "custom_id") : NULL;

	if (!is != !want)
		return err_set(e, ERR_CALLER, "line %llu %s custom_id, its "
		    "request %s", (unsigned long long)lineno,
		    is ? "has a" : "has no", want ? "one" : "none");
	if (is && strcmp(is, want) != 0)
		return err_set(e, ERR_CALLER, "line %llu has custom_id '%s', "
		    "its request '%s'", (unsigned long long)lineno, is, want);
	if (!is && !json_get(line, "error") &&
	    !same_id(line, request, lineno))
		return err_set(e, ERR_CALLER, "line %llu has not the id of "
		    "its request", (unsigned long long)lineno);
	return 0;
}

int
resume_match(const struct resume *r, const struct json *line,
    const char *request, size_t n, uint64_t lineno, bool *bad, struct err *e)
{
	struct json *req = NULL;
	int rc;

	*bad = is_bad(line);
	json_parse(&req, request, n, NULL);	/* bad JSON was answered too */
	rc = match(line, req, lineno, e);
	json_free(&req);
	return rc == 0 ? 0 : err_wrap(e, "%s is not the output of this input",
	    r->path);
}
