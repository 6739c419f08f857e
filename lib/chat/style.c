/*
 * style: which of the templates a model wants.
 *
 * A template is recognised by what only it has: V3.1 asks for a variable
 * "thinking"; R1's speaks of think tags; V3's has neither.  R1's first
 * template, which didn't open the tag itself, counts as R1: it was replaced
 * because the model then often didn't think.
 */
#include <string.h>
#include <sys/stat.h>

#include "chat/chat.h"

enum { TEMPLATE_MAX = 4 << 20 };

static const char *const names[] = {"v3", "r1", "v3.1"};

int
chat_style_named(const char *name, enum chat_style *out, struct err *e)
{
	for (int i = 0; i < 3; i++)
		if (!strcmp(name, names[i])) {
			*out = (enum chat_style)i;
			return 0;
		}
	return err_set(e, ERR_CALLER,
	    "chat style must be v3, r1 or v3.1, not %.40s", name);
}

const char *
chat_style_name(enum chat_style s)
{
	return names[s];
}

int
chat_style_of(const char *t, enum chat_style *out, struct err *e)
{
	if (!strstr(t, "<｜User｜>") || !strstr(t, "<｜Assistant｜>"))
		return err_set(e, ERR_CALLER, "chat_template is not one of "
		    "DeepSeek V3, R1 or V3.1");
	if (strstr(t, "thinking"))
		*out = CHAT_V31;
	else if (strstr(t, "<think>") || strstr(t, "</think>"))
		*out = CHAT_R1;
	else
		*out = CHAT_V3;
	return 0;
}

static const char *
default_template(const struct json *v)
{
	const struct json *c;

	if (!v)
		return NULL;
	if (json_type(v) == JSON_STR)
		return json_str(v);
	for (c = json_first(v); c; c = json_next(c)) {
		const char *name = NULL, *text = NULL;

		if (json_opt_str(c, "name", &name, NULL) == 0 && name &&
		    !strcmp(name, "default") &&
		    json_opt_str(c, "template", &text, NULL) == 0)
			return text;
	}
	return NULL;
}

static int
from_config(const char *path, enum chat_style *out, struct err *e)
{
	struct json *root = NULL;
	const char *t;
	int rc;

	if (json_load(&root, path, TEMPLATE_MAX, e) == -1)
		return -1;
	t = default_template(json_get(root, "chat_template"));
	rc = t ? chat_style_of(t, out, e) :
	    err_set(e, ERR_CALLER, "no chat_template");
	json_free(&root);
	return rc == -1 ? err_wrap(e, "%s", path) : 0;
}

static int
from_jinja(const char *path, enum chat_style *out, struct err *e)
{
	struct buf text = {0};
	int rc = io_slurp(path, TEMPLATE_MAX, &text, e);

	if (rc == 0) {
		rc = chat_style_of(text.p ? text.p : "", out, e);
		if (rc == -1)
			err_wrap(e, "%s", path);
	}
	buf_free(&text);
	return rc;
}

int
chat_style_open(const char *dir, enum chat_style *out, struct err *e)
{
	struct buf path = {0};
	struct stat st;
	int rc;

	io_path(&path, dir, "chat_template.jinja");
	rc = buf_ok(&path, e);
	if (rc == 0 && stat(path.p, &st) == 0) {
		rc = from_jinja(path.p, out, e);
	} else if (rc == 0) {
		io_path(&path, dir, "tokenizer_config.json");
		rc = buf_ok(&path, e);
		if (rc == 0)
			rc = from_config(path.p, out, e);
	}
	buf_free(&path);
	return rc;
}
