/*
 * batch: lines of OpenAI's batch files.
 *
 * A request that fails is an answered request: its status and error object go
 * where the answer would; "error" beside it stays for what never was asked.
 */
#include <string.h>

#include "api/api_priv.h"

bool
api_is_batch(const struct json *line)
{
	return json_get(line, "url") || json_get(line, "body");
}

int
api_batch_parse(struct api_batch *b, const struct json *line,
    struct api_fail *f)
{
	struct parse p = { .body = line, .f = f };
	const char *method = "POST", *url = NULL;

	*b = (struct api_batch){0};
	*f = (struct api_fail){0};
	if (parse_str(&p, "custom_id", &b->custom_id) == -1 ||
	    parse_str(&p, "method", &method) == -1 ||
	    parse_str(&p, "url", &url) == -1)
		return -1;
	b->body = parse_get(&p, "body");
	if (!b->custom_id)
		return api_refuse(f, "custom_id", "custom_id is missing");
	if (strcmp(method, "POST") != 0)
		return api_refuse(f, "method", "method must be POST, not '%s'",
		    method);
	if (url && strcmp(url, "/v1/chat/completions") == 0)
		b->kind = API_CHAT;
	else if (url && strcmp(url, "/v1/completions") == 0)
		b->kind = API_COMPLETION;
	else
		return api_refuse(f, "url", "url must be /v1/completions or "
		    "/v1/chat/completions, not '%s'", url ? url : "");
	if (!b->body)
		return api_refuse(f, "body", "body is missing");
	return 0;
}

void
api_put_batch(struct buf *b, const char *id, const char *custom_id,
    int status, const char *body, size_t n)
{
	buf_printf(b, "{\"id\":\"batch_req_%s\",\"custom_id\":", id);
	if (custom_id)
		json_put_str(b, custom_id, strlen(custom_id));
	else
		buf_puts(b, "null");
	buf_printf(b, ",\"response\":{\"status_code\":%d,\"request_id\":"
	    "\"req_%s\",\"body\":", status, id);
	buf_put(b, body, n);
	buf_puts(b, "},\"error\":null}");
}
