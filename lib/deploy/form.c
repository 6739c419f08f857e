/*
 * form: what the operand is, and which form its weights have or will have.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "deploy/priv.h"

enum { CONFIG_MAX = 16 << 20 };

/* ---- the operand ---- */

static int
find_config(struct deploy *d, bool is_dir, struct err *e)
{
	struct buf b = {0};

	if (is_dir)
		io_path(&b, d->model, "config.json");
	else
		buf_puts(&b, d->model);
	d->config = buf_ok(&b, e) == 0 ? strdup(b.p) : NULL;
	buf_free(&b);
	if (!d->config)
		return err_set(e, ERR_SYSTEM, "no memory");
	return arch_load(&d->arch, d->model, e);
}

/* Any safetensors file: whether they are whole is for others to say. */
static bool
has_weights(const char *dir)
{
	static const char suffix[] = ".safetensors";
	DIR *p = opendir(dir);
	const struct dirent *f;
	bool found = false;

	while (p && !found && (f = readdir(p))) {
		size_t n = strlen(f->d_name), m = strlen(suffix);

		found = n > m && strcmp(f->d_name + n - m, suffix) == 0;
	}
	if (p)
		closedir(p);
	return found;
}

/* ---- what config.json says of its weights ---- */

/* The word for people, and whether it means int8. */
static int
config_form(const struct deploy *d, char form[32], bool *int8, struct err *e)
{
	static const char *const ints[] = { "compressed-tensors",
	    "w8a8_int8", "int8", "blockwise_int8" };
	static const char *const types[] = { [ARCH_BF16] = "bfloat16",
	    [ARCH_F16] = "float16", [ARCH_F32] = "float32" };
	const struct json *q;
	const char *m = NULL;
	struct json *v;
	int rc = 0;

	*int8 = false;
	snprintf(form, 32, "%s", types[d->arch.dtype]);
	if (json_load(&v, d->config, CONFIG_MAX, e) == -1)
		return -1;
	q = json_get(v, "quantization_config");
	if (q && json_type(q) == JSON_OBJ)
		rc = json_opt_str(q, "quant_method", &m, e);
	if (rc == -1)
		err_wrap(e, "%s: quantization_config", d->config);
	for (size_t i = 0; m && i < sizeof(ints) / sizeof(*ints); i++)
		*int8 = *int8 || strcmp(m, ints[i]) == 0;
	if (m)
		snprintf(form, 32, "%.24s", *int8 ? "int8" : m);
	json_free(&v);
	return rc;
}

/* ---- --quantization ---- */

/* Published as int8, by whichever tool. */
static bool
means_int8(const char *q)
{
	static const char *const word[] = { "ascend", "golden-stick",
	    "compressed-tensors", "w8a8_int8", "blockwise_int8",
	    "smoothquant", "int8" };

	for (size_t i = 0; q && i < sizeof(word) / sizeof(*word); i++)
		if (strcmp(word[i], q) == 0)
			return true;
	return false;
}

static int
check_quantization(const struct deploy *d, struct err *e)
{
	if (!d->quantization || means_int8(d->quantization) ||
	    strcmp(d->quantization, "fp8") == 0)
		return 0;
	return err_set(e, ERR_CALLER, "--quantization must be ascend, "
	    "golden-stick, int8, fp8, compressed-tensors, w8a8_int8, "
	    "blockwise_int8 or smoothquant, not '%s'", d->quantization);
}

/* Nothing to look at: flags, then the YAML, then config.json. */
static int
assume(struct deploy *d, struct err *e)
{
	char form[32];
	bool int8, asked = means_int8(d->quantization);

	if (config_form(d, form, &int8, e) == -1)
		return -1;
	if (d->quantization && !asked && strcmp(form, "fp8") != 0)
		return err_set(e, ERR_CALLER, "--quantization %s: %s says %s",
		    d->quantization, d->config, form);
	if (!int8 && (asked || (!d->quantization && d->yaml_int8)))
		d->quantize = SHARD_INT8;
	if (d->quantize && asked)
		snprintf(d->weights_are, sizeof(d->weights_are),
		    "int8 (--quantization %s)", d->quantization);
	else
		snprintf(d->weights_are, sizeof(d->weights_are), "%s (%s)",
		    d->quantize ? "int8" : form, d->quantize ?
		    "quantization_config of the YAML" : "config.json");
	return 0;
}

int
form_find(struct deploy *d, struct err *e)
{
	struct stat st;
	bool is_dir = stat(d->model, &st) == 0 && S_ISDIR(st.st_mode);

	d->hollow = d->load_format == DEPLOY_HOLLOW;
	d->dummy = d->load_format == DEPLOY_DUMMY || d->hollow;
	if (check_quantization(d, e) == -1 || find_config(d, is_dir, e) == -1)
		return -1;
	if (shard_peek(d->model)) {
		d->weights = DEPLOY_RANK_FILES;
		d->dummy = false;
		return 0;
	}
	if (!d->dummy && is_dir && has_weights(d->model)) {
		d->weights = DEPLOY_PUBLISHED;
		if (d->quantization && strcmp(d->quantization, "int8") == 0)
			d->quantize = SHARD_INT8;
		return 0;
	}
	d->weights = DEPLOY_ASSUMED;
	return assume(d, e);
}
