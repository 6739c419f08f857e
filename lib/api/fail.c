/*
 * fail: a refused request, as the error object that OpenAI's clients know.
 */
#include <stdarg.h>
#include <string.h>

#include "api/api.h"

int
api_refuse(struct api_fail *f, const char *param, const char *fmt, ...)
{
	char msg[sizeof(f->e.msg)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	err_set(&f->e, ERR_CALLER, "%s", msg);
	return api_failed(f, param);
}

int
api_failed(struct api_fail *f, const char *param)
{
	f->status = f->e.code == ERR_SYSTEM ? 500 : 400;
	snprintf(f->param, sizeof(f->param), "%s", param ? param : "");
	return -1;
}

static const char *
type_of(int status)
{
	if (status == 404)
		return "not_found_error";
	if (status == 503)
		return "service_unavailable_error";
	return status >= 500 ? "server_error" : "invalid_request_error";
}

void
api_put_fail(struct buf *b, const struct api_fail *f)
{
	buf_puts(b, "{\"error\":{\"message\":");
	json_put_str(b, f->e.msg, strlen(f->e.msg));
	buf_printf(b, ",\"type\":\"%s\",\"param\":", type_of(f->status));
	if (f->param[0])
		json_put_str(b, f->param, strlen(f->param));
	else
		buf_puts(b, "null");
	buf_puts(b, f->status == 404 ? ",\"code\":\"model_not_found\"}}" :
	    ",\"code\":null}}");
}
