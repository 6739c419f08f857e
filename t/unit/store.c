/*
 * store: files written and read back, and every lie a header can tell.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/store.h"
#include "tap.h"

static char dir[] = "/tmp/dsi-store.XXXXXX";
static char path[64];

static int
write_two(char sha[65], uint64_t *nfile, struct err *e)
{
	static const uint64_t d0[] = { 3, 5 }, d1[] = { 7 }, d3[] = { 0, 9 };
	struct store_writer *w;
	unsigned char byte[15];
	float f[7];

	for (int i = 0; i < 15; i++)
		byte[i] = (unsigned char)(i + 1);
	for (int i = 0; i < 7; i++)
		f[i] = (float)i + 0.5f;
	if (store_create(&w, path, e) == -1)
		return -1;
	if (store_meta_put(w, "packing", "none \"quoted\"", e) == -1 ||
	    store_declare(w, "a.weight", DT_I8, 2, d0, e) == -1 ||
	    store_declare(w, "b", DT_F32, 1, d1, e) == -1 ||
	    store_declare(w, "scalar", DT_U8, 0, NULL, e) == -1 ||
	    store_declare(w, "empty", DT_F16, 2, d3, e) == -1 ||
	    store_begin(w, nfile, e) == -1 ||
	    store_next(w, "a.weight", e) == -1 ||
	    store_put(w, byte, 10, e) == -1 ||
	    store_put(w, byte + 10, 5, e) == -1 ||
	    store_next(w, "b", e) == -1 ||
	    store_put(w, f, sizeof(f), e) == -1 ||
	    store_next(w, "scalar", e) == -1 ||
	    store_put(w, "*", 1, e) == -1 ||
	    store_next(w, "empty", e) == -1) {
		store_abandon(&w);
		return -1;
	}
	return store_finish(&w, sha, e);
}

static void
test_round_trip(void)
{
	struct err e = {0};
	struct store *s;
	const struct tensor *t;
	char sha[65] = "", again[65] = "";
	unsigned char byte[15];
	uint64_t nfile = 0;
	struct stat st;
	float f[7];

	tap_ok(write_two(sha, &nfile, &e) == 0, "writing works %s", e.msg);
	stat(path, &st);
	tap_ok((uint64_t)st.st_size == nfile, "the file is as long as said");
	tap_ok(sha256_file(path, again, NULL, &e) == 0 &&
	    strcmp(sha, again) == 0, "sha256 is that of the file");
	if (!tap_ok(store_open(&s, path, &e) == 0, "it opens %s", e.msg))
		return;
	tap_ok(store_count(s) == 7, "4 tensors and 3 fillers: %zu",
	    store_count(s));
	t = store_find(s, "a.weight");
	tap_ok(t && t->ndim == 2 && t->dim[0] == 3 && t->dim[1] == 5 &&
	    t->dtype == DT_I8 && t->off % 64 == 0, "a.weight is described");
	tap_ok(t && store_read(s, t, 4, byte, 11, &e) == 0 && byte[0] == 5 &&
	    byte[10] == 15, "and read from the middle");
	tap_ok(t && store_read(s, t, 5, byte, 11, &e) == -1 &&
	    strstr(e.msg, "a.weight"), "not past its end: %s", e.msg);
	t = store_find(s, "b");
	tap_ok(t && t->off % 64 == 0 && store_read(s, t, 0, f, sizeof(f),
	    &e) == 0 && f[6] == 6.5f, "b is aligned and right");
	t = store_find(s, "empty");
	tap_ok(t && t->nbytes == 0, "an empty tensor is there");
	tap_ok(!store_find(s, "nothing"), "an unknown name is not");
	tap_ok(store_meta(s, "packing") && strcmp(store_meta(s, "packing"),
	    "none \"quoted\"") == 0 && !store_meta(s, "x"), "metadata");
	store_close(&s);
	tap_ok(s == NULL, "closing forgets");
}

static void
test_python(void)
{
	char cmd[512];

	if (system("${PYTHON:-python3} -c 'import safetensors.numpy' "
	    "2>/dev/null") != 0) {
		tap_skip("Python reads our files", "no safetensors there");
		return;
	}
	snprintf(cmd, sizeof(cmd), "${PYTHON:-python3} -c \"from "
	    "safetensors.numpy import load_file as l; d=l('%s'); import sys; "
	    "sys.exit(int(d['b'][6]!=6.5 or d['a.weight'].shape!=(3,5) or "
	    "d['a.weight'][2,4]!=15))\"", path);
	tap_ok(system(cmd) == 0, "Python reads our files");
}

static void
test_misuse(void)
{
	static const uint64_t d[] = { 4 };
	struct err e = {0};
	struct store_writer *w;
	uint64_t n;
	char sha[65];

	if (!tap_ok(store_create(&w, path, &e) == 0, "create"))
		return;
	tap_ok(store_declare(w, "__pad.1", DT_U8, 1, d, &e) == -1,
	    "a filler's name is refused");
	tap_ok(store_declare(w, "x", DT_U8, 1, d, &e) == 0 &&
	    store_declare(w, "x", DT_U8, 1, d, &e) == 0 &&
	    store_begin(w, &n, &e) == -1 && strstr(e.msg, "tensor x"),
	    "a name declared twice: %s", e.msg);
	store_abandon(&w);
	store_create(&w, path, &e);
	store_declare(w, "x", DT_U8, 1, d, &e);
	store_declare(w, "y", DT_U8, 1, d, &e);
	store_begin(w, &n, &e);
	tap_ok(store_put(w, "abcd", 4, &e) == -1, "bytes before a tensor");
	tap_ok(store_next(w, "y", &e) == -1 && strstr(e.msg, "x"),
	    "the wrong tensor: %s", e.msg);
	store_next(w, "x", &e);
	tap_ok(store_put(w, "abcde", 5, &e) == -1, "too much: %s", e.msg);
	store_put(w, "abc", 3, &e);
	tap_ok(store_next(w, "y", &e) == -1 && strstr(e.msg, "lacks 1"),
	    "too little: %s", e.msg);
	store_put(w, "d", 1, &e);
	tap_ok(store_finish(&w, sha, &e) == -1 && strstr(e.msg, "before y") &&
	    !w, "a tensor forgotten: %s", e.msg);
	tap_ok(store_create(&w, "/no/such/dir/x", &e) == -1 &&
	    e.code == ERR_SYSTEM && !w, "a file that can't be made");
}

/* One header and what is wrong with it. */
struct lie {
	const char *what, *header;
	uint64_t data;			/* bytes after the header */
	const char *word[3];		/* in the message */
};

#define T(name, dt, shape, off) "\"" name "\":{\"dtype\":\"" dt \
	"\",\"shape\":" shape ",\"data_offsets\":" off "}"

static const struct lie lies[] = {
	{ "duplicate name", "{" T("a", "U8", "[2]", "[0,2]") ","
	    T("a", "U8", "[2]", "[2,4]") "}", 4, { "tensor a", "twice" } },
	{ "overlap", "{" T("a", "U8", "[4]", "[0,4]") ","
	    T("b", "U8", "[4]", "[2,6]") "}", 6, { "tensor b", "overlap" } },
	{ "same bytes", "{" T("a", "U8", "[4]", "[0,4]") ","
	    T("b", "U8", "[4]", "[0,4]") "}", 4, { "tensor b", "overlap" } },
	{ "hole", "{" T("a", "U8", "[4]", "[0,4]") ","
	    T("b", "U8", "[4]", "[5,9]") "}", 9, { "tensor b", "hole" } },
	{ "hole in front", "{" T("b", "U8", "[4]", "[5,9]") "}", 9,
	    { "tensor b", "hole" } },
	{ "out of the file", "{" T("a", "U8", "[4]", "[0,4]") "}", 3,
	    { "cut off", "fetch it again", "tensor a" } },
	{ "trailing bytes", "{" T("a", "U8", "[4]", "[0,4]") "}", 7,
	    { "3 bytes follow the end of a" } },
	{ "size against shape", "{" T("a", "F32", "[2,3]", "[0,23]") "}", 23,
	    { "tensor a", "[2, 3] takes 24 bytes" } },
	{ "offsets backwards", "{" T("a", "U8", "[1]", "[4,3]") "}", 4,
	    { "tensor a", "data_offsets" } },
	{ "negative offset", "{" T("a", "U8", "[1]", "[-1,0]") "}", 4,
	    { "tensor a", "data_offsets" } },
	{ "fractional size", "{" T("a", "U8", "[1.5]", "[0,1]") "}", 1,
	    { "tensor a", "shape" } },
	{ "huge shape", "{" T("a", "F64", "[4294967296,4294967296]", "[0,0]")
	    "}", 0, { "tensor a", "larger" } },
	{ "nine dimensions", "{" T("a", "U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]")
	    "}", 1, { "tensor a", "at most 8" } },
	{ "unknown dtype", "{" T("a", "F8_E5M2", "[1]", "[0,1]") "}", 1,
	    { "tensor a", "F8_E5M2" } },
	{ "no shape", "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1,
	    { "tensor a", "shape" } },
	{ "dtype twice", "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\","
	    "\"data_offsets\":[0,1]}}", 1, { "tensor a", "shape" } },
	{ "not an object", "{\"a\":7}", 1, { "tensor a" } },
	{ "metadata of numbers", "{\"__metadata__\":{\"x\":1}}", 0,
	    { "__metadata__", "x" } },
	{ "an array", "[1]", 0, { "not a safetensors file" } },
	{ "broken JSON", "{\"a\":", 0, { "header" } },
	{ "empty name", "{" T("", "U8", "[1]", "[0,1]") "}", 1, { "name" } },
};

static size_t
build(unsigned char *p, const char *header)
{
	size_t n = strlen(header);

	for (int i = 0; i < 8; i++)
		p[i] = (unsigned char)((uint64_t)n >> 8 * i);
	memcpy(p + 8, header, n);
	return n + 8;
}

static void
test_lies(void)
{
	for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
		const struct lie *l = &lies[i];
		unsigned char p[1024];
		size_t n = build(p, l->header);
		struct err e = {0};
		struct store *s = NULL;
		int ok = store_parse(&s, "F.safetensors", p, n, n + l->data,
		    &e) == -1 && e.code == ERR_CALLER &&
		    strstr(e.msg, "F.safetensors");

		for (int j = 0; j < 3 && l->word[j]; j++)
			ok = ok && strstr(e.msg, l->word[j]);
		tap_ok(ok, "%s: %s", l->what, e.msg);
		store_close(&s);
	}
}

static void
expect(const char *what, const void *p, size_t n, uint64_t nfile,
    const char *word)
{
	struct err e = {0};
	struct store *s = NULL;

	tap_ok(store_parse(&s, "F", p, n, nfile, &e) == -1 &&
	    strstr(e.msg, word), "%s: %s", what, e.msg);
	store_close(&s);
}

static void
test_lengths(void)
{
	unsigned char p[1024] = {0};
	struct err e = {0};
	struct store *s = NULL;
	size_t n;

	expect("three bytes", "abc", 3, 3, "cut off");
	memset(p, 0xff, 8);
	expect("header length of all ones", p, 8, 1 << 20, "at most");
	memset(p, 0, 8);
	expect("no header", p, 8, 8, "not a safetensors");
	p[0] = 200;
	expect("header longer than the file", p, 8, 100,
	    "promises 208 bytes, file has 100");
	expect("Git LFS pointer", "version https://git-lfs.github.com/spec/v1",
	    42, 42, "LFS pointer");
	n = build(p, "{" T("big", "U8", "[17592186044416]",
	    "[0,17592186044416]") "}   ");
	tap_ok(store_parse(&s, "F", p, n, n + ((uint64_t)1 << 44), &e) == 0 &&
	    store_find(s, "big")->nbytes == (uint64_t)1 << 44,
	    "a file of 16 TB %s", e.msg);
	store_close(&s);
	n = build(p, "{}");
	tap_ok(store_parse(&s, "F", p, n, n, &e) == 0 && store_count(s) == 0 &&
	    !store_find(s, "x"), "no tensors at all");
	store_close(&s);
	tap_ok(store_open(&s, "/no/such/file", &e) == -1 &&
	    e.code == ERR_CALLER && strstr(e.msg, "/no/such/file"),
	    "no such file: %s", e.msg);
	tap_ok(store_open(&s, dir, &e) == -1 && strstr(e.msg, "regular"),
	    "a directory: %s", e.msg);
}

static void
test_cut_file(void)
{
	struct err e = {0};
	struct store *s = NULL;
	char sha[65], want[64];
	uint64_t nfile = 0;

	write_two(sha, &nfile, &e);
	snprintf(want, sizeof(want), "promises %llu bytes, file has %llu",
	    (unsigned long long)nfile, (unsigned long long)nfile - 1);
	if (truncate(path, (off_t)nfile - 1) == -1)
		perror(path);
	tap_ok(store_open(&s, path, &e) == -1 && strstr(e.msg, want),
	    "a cut file on disk: %s", e.msg);
}

static void
test_many(void)
{
	struct err e = {0};
	struct store_writer *w;
	struct store *s;
	uint64_t d[] = { 3 }, nfile;
	char name[32], sha[65];
	int ok = 1;

	store_create(&w, path, &e);
	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "layer.%d.w", i);
		ok &= store_declare(w, name, DT_U8, 1, d, &e) == 0;
	}
	ok &= store_begin(w, &nfile, &e) == 0;
	for (int i = 0; i < 5000; i++) {
		unsigned char v[3] = { i & 255, i >> 8, 7 };

		snprintf(name, sizeof(name), "layer.%d.w", i);
		ok &= store_next(w, name, &e) == 0 &&
		    store_put(w, v, 3, &e) == 0;
	}
	ok &= store_finish(&w, sha, &e) == 0;
	tap_ok(ok && store_open(&s, path, &e) == 0, "5000 tensors %s", e.msg);
	for (int i = 0; i < 5000 && ok; i++) {
		unsigned char v[3] = {0};
		const struct tensor *t;

		snprintf(name, sizeof(name), "layer.%d.w", i);
		t = store_find(s, name);
		ok = t && store_read(s, t, 0, v, 3, &e) == 0 &&
		    v[0] == (i & 255) && v[1] == i >> 8;
	}
	tap_ok(ok, "each found and right");
	store_close(&s);
}

static void
test_sha(void)
{
	struct err e = {0};
	char sha[65];

	tap_ok(sha256_mem("abc", 3, sha, &e) == 0 && strcmp(sha, "ba7816bf"
	    "8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") == 0,
	    "sha256 of abc (FIPS 180-2)");
	tap_ok(sha256_file("/no/such", sha, NULL, &e) == -1 &&
	    e.code == ERR_CALLER, "of no file");
}

int
main(void)
{
	if (!mkdtemp(dir))
		return 111;
	snprintf(path, sizeof(path), "%s/x.safetensors", dir);
	test_round_trip();
	test_python();
	test_misuse();
	test_lies();
	test_lengths();
	test_cut_file();
	test_many();
	test_sha();
	unlink(path);
	rmdir(dir);
	return tap_done();
}
