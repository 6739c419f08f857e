/*
 * tools: telling the model what it may call, and how.
 *
 * The published V3 and R1 templates ignore tools altogether; a model that
 * isn't told of them can't use them, so all styles get this section.
 */
#include <string.h>

#include "chat/chat_priv.h"

static int
put_tool(const struct json *tool, struct buf *out, struct err *e)
{
	const struct json *f = json_get(tool, "function"), *params;
	const char *type = "function", *name = NULL, *about = "";

	if (json_opt_str(tool, "type", &type, e) == -1)
		return -1;
	if (strcmp(type, "function") || !f || json_type(f) != JSON_OBJ)
		return err_set(e, ERR_CALLER,
		    "type must be function, and function an object");
	if (json_opt_str(f, "name", &name, e) == -1 ||
	    json_opt_str(f, "description", &about, e) == -1)
		return err_wrap(e, "function");
	if (!name || !*name)
		return err_set(e, ERR_CALLER, "function.name is missing");
	params = json_get(f, "parameters");
	buf_printf(out, "### %s\nDescription: %s\n\nParameters: ", name,
	    about);
	if (params && json_type(params) != JSON_NULL)
		json_put(out, params);
	else
		buf_puts(out, "{}");
	buf_puts(out, "\n\n");
	return 0;
}

int
tools_put(enum chat_style style, const struct json *tools, struct buf *out,
    struct err *e)
{
	int i = 0;

	if (json_type(tools) != JSON_ARR || !json_first(tools))
		return err_set(e, ERR_CALLER,
		    "tools must be a list with at least one tool");
	buf_puts(out, "## Tools\nThese functions can be called:\n\n");
	for (const struct json *t = json_first(tools); t;
	    t = json_next(t), i++)
		if (put_tool(t, out, e) == -1)
			return err_wrap(e, "tools[%d]", i);
	buf_puts(out, "To call functions, write exactly this, with one inner "
	    "block for each call:\n");
	if (style == CHAT_V31)
		buf_puts(out, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>NAME"
		    "<｜tool▁sep｜>ARGUMENTS<｜tool▁call▁end｜>"
		    "<｜tool▁calls▁end｜>\n");
	else
		buf_puts(out, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"
		    "function<｜tool▁sep｜>NAME\n```json\nARGUMENTS\n```"
		    "<｜tool▁call▁end｜><｜tool▁calls▁end｜>\n");
	buf_puts(out, "NAME is one of the names above; ARGUMENTS is a JSON "
	    "object that fits its parameters.\n\n");
	return buf_ok(out, e);
}
