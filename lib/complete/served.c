/*
 * served: a model as requests see it: tokenizer, template, defaults.
 *
 * A model without a tokenizer is a model: it takes and gives token ids.
 */
#include <string.h>
#include <unistd.h>

#include "complete/complete.h"

static int
open_tok(struct served *s, const char *dir, struct err *e)
{
	struct buf path = {0};
	int rc = 0;

	io_path(&path, dir, "tokenizer.json");
	if (buf_ok(&path, e) == -1)
		return -1;
	if (access(path.p, F_OK) == 0)
		rc = tok_open(&s->tok, dir, e);
	buf_free(&path);
	return rc;
}

int
served_open(struct served *s, const char *dir, const char *name,
    const struct arch *a, uint64_t max_len, struct err *e)
{
	*s = (struct served){
		.name = name, .think_open = -1, .think_close = -1,
		.neos = a->neos,
		.api = {
			.vocab = a->vocab, .max_len = max_len,
			.temperature = a->gen.temperature,
			.top_p = a->gen.top_p,
			.top_k = a->gen.top_k,
			.repetition_penalty = a->gen.repetition_penalty,
		},
	};
	memcpy(s->eos, a->eos, sizeof(s->eos));
	if (open_tok(s, dir, e) == -1)
		return -1;
	if (!s->tok) {
		err_set(&s->no_chat, ERR_CALLER, "the model has no "
		    "tokenizer.json: it takes token ids only");
		return 0;
	}
	s->think_open = tok_id(s->tok, "<think>");
	s->think_close = tok_id(s->tok, "</think>");
	s->chat = chat_style_open(dir, &s->style, &s->no_chat) == 0;
	return 0;
}

void
served_close(struct served *s)
{
	tok_close(&s->tok);
}
