/*
 * Which kernels are chosen: masks, the ladder, and that no entry is missing.
 */
#include "check.h"

enum {
	ALL = CPU_AVX2 | CPU_AVX512 | CPU_AVX512VNNI,
	UP_TO_512 = CPU_AVX2 | CPU_AVX512,
};

static const struct {
	const char *word;
	int ret;
	unsigned flags;
} masks[] = {
	{ NULL, 0, ALL },
	{ "ref", 0, 0 },
	{ "avx2", 0, CPU_AVX2 },
	{ "avx512", 0, UP_TO_512 },
	{ "avx512vnni", 0, ALL },
	{ "avx512,avx2", 0, CPU_AVX2 },
	{ "avx2,avx512vnni", 0, CPU_AVX2 },
	{ "avx512vnni,-vnni", 0, UP_TO_512 },
	{ "-avx512vnni", 0, UP_TO_512 },
	{ "-avx512", 0, CPU_AVX2 },
	{ "-avx2", 0, 0 },
	{ "", -1, ALL },
	{ "avx", -1, ALL },
	{ "AVX2", -1, ALL },
	{ "avx2,", -1, ALL },
	{ "avx2,sse9", -1, ALL },
	{ "avx2 ", -1, ALL },
	{ "-ref", -1, ALL },
	{ "--avx2", -1, ALL },
};

static void
check_masks(void)
{
	for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
		unsigned flags = ALL;
		int ret = cpu_mask(masks[i].word, &flags);

		tap_ok(ret == masks[i].ret && flags == masks[i].flags,
		    "cpu_mask \"%s\": %d, flags %#x",
		    masks[i].word ? masks[i].word : "(null)", ret, flags);
	}
}

static int
is_full(const struct kern *k)
{
	static const char null[sizeof k->max];

	for (size_t at = offsetof(struct kern, nt_f32); at < sizeof *k;
	    at += sizeof k->max)
		if (memcmp((const char *)k + at, null, sizeof null) == 0)
			return 0;
	return 1;
}

int
main(int argc, char **argv)
{
	const unsigned have = cpu_flags();
	unsigned flags = 0;

	check_start(argc, argv);
	check_masks();
	tap_ok(cpu_mask("avx512vnni", &flags) == 0 && flags == 0,
	    "a mask grants nothing that the CPU lacks");
	tap_ok((!(have & CPU_AVX512VNNI) || have & CPU_AVX512) &&
	    (!(have & CPU_AVX512) || have & CPU_AVX2),
	    "the flags of this CPU are a ladder: %#x", have);
	kern_init(0);
	tap_ok(strcmp(kern.name, "ref") == 0 && is_full(&kern),
	    "ref fills the table");
	for (size_t i = 0; i < sizeof check_rungs / sizeof *check_rungs; i++) {
		const struct check_rung *r = &check_rungs[i];

		if ((have & r->flags) != r->flags) {
			tap_skip(r->name, r->lacks);
			continue;
		}
		kern_init(r->flags);
		tap_ok(strcmp(kern.name, r->name) == 0 && is_full(&kern),
		    "flags %#x give %s", r->flags, kern.name);
	}
	kern_init(CPU_AVX512VNNI);
	tap_ok(strcmp(kern.name, "ref") == 0,
	    "a rung without the ones below it is not taken");
	kern_init(have);
	kern_init(0);
	tap_ok(strcmp(kern.name, "ref") == 0, "kern_init can go down again");
	return tap_done();
}
