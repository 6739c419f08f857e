/*
 * request: a line of JSON as a completions and as a chat request, and as a
 * line of a batch.
 */
#include <stddef.h>
#include <stdint.h>

#include "api/api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
parse(enum api_kind kind, const struct json *body)
{
	static const struct api_model m = {
		.vocab = 512, .max_len = 4096, .temperature = 0.6,
		.top_p = 0.95, .repetition_penalty = 1,
	};
	struct api_fail f = {0};
	struct buf b = {0};
	struct api_req r;

	if (api_parse(&r, kind, body, &m, &f) == 0)
		api_req_free(&r);
	else
		api_put_fail(&b, &f);
	buf_free(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct api_batch batch;
	struct api_fail f = {0};
	struct json *body;

	if (json_parse(&body, (const char *)data, size, NULL) == -1)
		return 0;
	parse(API_COMPLETION, body);
	parse(API_CHAT, body);
	if (api_is_batch(body) && api_batch_parse(&batch, body, &f) == 0)
		parse(batch.kind, batch.body);
	json_free(&body);
	return 0;
}
