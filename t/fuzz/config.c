/*
 * Anything as config.json.  What is accepted must keep the promises of
 * arch.h.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "arch/arch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
see(void *arg, const struct arch_lin *l)
{
	unsigned *n = arg;

	if (!l->n || !l->k || !l->name[0] ||
	    strlen(l->name) + 1 >= sizeof(l->name))
		abort();
	return ++*n < 1000 ? 0 : -1;
}

static void
check(const struct arch *a)
{
	float *inv = malloc(a->rope / 2 * sizeof(*inv)), attn, scale;
	unsigned n = 0;

	if (!inv || a->rope % 2 || a->neos > ARCH_MAX_EOS || !a->moe_freq)
		abort();
	if (a->experts && (!a->topk || a->experts % a->groups ||
	    a->topk_groups > a->groups ||
	    a->topk > a->experts / a->groups * a->topk_groups))
		abort();
	for (unsigned i = 0; i < a->neos; i++) {
		if (a->eos[i] < 0 || (unsigned)a->eos[i] >= a->vocab)
			abort();
	}
	arch_rope(a, inv, &attn, &scale);
	for (unsigned i = 0; i < a->rope / 2; i++) {
		if (!isfinite(inv[i]))
			abort();
	}
	if (!isfinite(attn) || !isfinite(scale))
		abort();
	free(inv);
	for (unsigned i = 0; i < a->layers + a->mtp && n < 1000; i++)
		arch_each_linear(a, i, see, &n);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct json *o;
	struct err e = {0};
	struct arch a;

	if (json_parse(&o, (const char *)data, size, &e) == -1)
		return 0;
	if (arch_parse(&a, o, "fuzz", &e) == 0)
		check(&a);
	else if (!e.code || !*e.msg)
		abort();
	json_free(&o);
	return 0;
}
