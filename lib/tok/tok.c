/*
 * tok: opening, closing and looking things up.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tok/tok_priv.h"

enum { CONFIG_MAX = 4 << 20 };

void
tok_close(struct tok **tp)
{
	struct tok *t = *tp;

	if (!t)
		return;
	vocab_free(&t->vocab);
	added_free(&t->added);
	pre_free(&t->pre);
	free(t->front);
	if (t->spares)
		spares_free(t->spares);
	free(t);
	*tp = NULL;
}

static int
build(struct tok **out, const struct json *root, const char *name,
    struct err *e)
{
	struct tok *t = mem_new(1, sizeof *t, e);

	if (!t)
		return -1;
	t->bos = t->eos = t->add_bos = -1;
	t->spares = mem_new(1, sizeof *t->spares, e);
	if (!t->spares || load_tokenizer(t, root, e) == -1) {
		tok_close(&t);
		return err_wrap(e, "%s", name);
	}
	*out = t;
	return 0;
}

int
tok_parse(struct tok **out, const char *name, const char *text, size_t n,
    struct err *e)
{
	struct json *root = NULL;
	int rc;

	if (json_parse(&root, text, n, e) == -1)
		return err_wrap(e, "%s", name);
	rc = build(out, root, name, e);
	json_free(&root);
	return rc;
}

static int
open_file(struct tok **out, const char *path, struct err *e)
{
	struct json *root = NULL;
	int rc;

	if (json_load(&root, path, TOK_FILE_MAX, e) == -1)
		return -1;
	rc = build(out, root, path, e);
	json_free(&root);
	return rc;
}

static int
open_config(struct tok *t, const char *path, struct err *e)
{
	struct json *root = NULL;
	struct stat st;
	int rc;

	if (stat(path, &st) == -1)
		return 0;
	if (json_load(&root, path, CONFIG_MAX, e) == -1)
		return -1;
	rc = load_config(t, root, e);
	if (rc == -1)
		err_wrap(e, "%s", path);
	json_free(&root);
	return rc;
}

int
tok_open(struct tok **out, const char *path, struct err *e)
{
	struct buf b = {0};
	struct stat st;
	int rc;

	if (stat(path, &st) == -1 || !S_ISDIR(st.st_mode))
		return open_file(out, path, e);
	io_path(&b, path, "tokenizer.json");
	rc = buf_ok(&b, e);
	if (rc == 0)
		rc = open_file(out, b.p, e);
	if (rc == 0) {
		io_path(&b, path, "tokenizer_config.json");
		rc = buf_ok(&b, e);
		if (rc == 0)
			rc = open_config(*out, b.p, e);
		if (rc == -1)
			tok_close(out);
	}
	buf_free(&b);
	return rc;
}

int32_t
tok_vocab(const struct tok *t)
{
	return (int32_t)t->vocab.ntokens;
}

int32_t
tok_id(const struct tok *t, const char *content)
{
	return vocab_find(&t->vocab, content, strlen(content));
}

int
tok_bytes(const struct tok *t, int32_t id, const char **p, size_t *n)
{
	const struct token *k;

	if (id < 0 || id >= tok_vocab(t))
		return -1;
	k = &t->vocab.tokens[id];
	if (!(k->flags & TOKEN_USED))
		return -1;
	*p = t->vocab.raws.p + k->raw;
	*n = k->nraw;
	return 0;
}

bool
tok_is_special(const struct tok *t, int32_t id)
{
	return id >= 0 && id < tok_vocab(t) &&
	    (t->vocab.tokens[id].flags & TOKEN_SPECIAL);
}

int32_t
tok_bos(const struct tok *t)
{
	return t->bos;
}

int32_t
tok_eos(const struct tok *t)
{
	return t->eos;
}
