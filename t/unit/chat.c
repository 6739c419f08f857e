/*
 * chat: prompts against the published templates (t/tok), places in errors,
 * and answers split the same way however they arrive.
 */
#include <stdlib.h>
#include <string.h>

#include "chat/chat.h"
#include "json/json.h"
#include "tap.h"

static struct json *
parse(const char *text)
{
	struct json *v = NULL;
	struct err e = {0};

	if (json_parse(&v, text, strlen(text), &e) == -1)
		tap_ok(0, "%s: %s", e.msg, text);
	return v;
}

/* ---- prompts ---- */

static bool
renders(enum chat_style s, const struct json *c, const char *key,
    bool thinking)
{
	const char *want = json_str(json_get(c, key));
	struct chat_opts o = {.add_generation_prompt = true,
	    .thinking = thinking};
	struct buf out = {0};
	struct err e = {0};
	bool ok = chat_render(s, json_get(c, "messages"), NULL, &o, &out, &e)
	    == 0 && !strcmp(out.p, want);

	if (!ok)
		printf("# want %s\n# got  %s %s\n", want,
		    out.p ? out.p : "", e.msg);
	buf_free(&out);
	return ok;
}

static void
test_vectors(const char *name)
{
	struct buf path = {0};
	struct json *all = NULL;
	struct err e = {0};
	int i = 0;

	io_path(&path, tap_top(), name);
	if (json_load(&all, path.p, 1 << 20, &e) == -1)
		tap_ok(0, "%s", e.msg);
	for (const struct json *c = json_first(all); c; c = json_next(c), i++) {
		if (json_get(c, "v3"))
			tap_ok(renders(CHAT_V3, c, "v3", false) &&
			    renders(CHAT_R1, c, "r1", false),
			    "V3 and R1, conversation %d", i);
		else
			tap_ok(renders(CHAT_V31, c, "v31", false) &&
			    renders(CHAT_V31, c, "v31_thinking", true),
			    "V3.1, conversation %d", i);
	}
	tap_ok(i > 5, "%s is whole", name);
	json_free(&all);
	buf_free(&path);
}

static const struct prompt_case {
	enum chat_style style;
	struct chat_opts opts;
	const char *messages, *want;
} prompts[] = {
	{CHAT_R1, {.add_generation_prompt = true},
	    "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
	    "\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}]",
	    "<｜begin▁of▁sentence｜><｜User｜>a\nb<｜Assistant｜><think>\n"},
	{CHAT_R1, {.continue_final_message = true},
	    "[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\","
	    "\"content\":\"so\",\"reasoning\":\"hm\"}]",
	    "<｜begin▁of▁sentence｜><｜User｜>q<｜Assistant｜><think>\nhm\n"
	    "</think>\n\nso"},
	{CHAT_R1, {.continue_final_message = true},
	    "[{\"role\":\"assistant\",\"content\":\"<think>a</think>b\"}]",
	    "<｜begin▁of▁sentence｜><｜Assistant｜><think>a</think>b"},
	{CHAT_V31, {.continue_final_message = true},
	    "[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\","
	    "\"content\":\"so\"}]",
	    "<｜begin▁of▁sentence｜><｜User｜>q<｜Assistant｜></think>so"},
	{CHAT_V3, {0}, "[{\"role\":\"developer\",\"content\":\"S\"},"
	    "{\"role\":\"user\",\"content\":\"q\"}]",
	    "<｜begin▁of▁sentence｜>S<｜User｜>q"},
	/* A second round of calls has all its marks. */
	{CHAT_V3, {0}, "[{\"role\":\"assistant\",\"content\":\"\","
	    "\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":"
	    "{\"x\":1}}}]},{\"role\":\"tool\",\"content\":\"1\"},"
	    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":"
	    "[{\"function\":{\"name\":\"g\"}}]},"
	    "{\"role\":\"tool\",\"content\":\"2\"}]",
	    "<｜begin▁of▁sentence｜><｜Assistant｜><｜tool▁calls▁begin｜>"
	    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"x\":1}\n"
	    "```<｜tool▁call▁end｜><｜tool▁outputs▁begin｜>"
	    "<｜tool▁output▁begin｜>1<｜tool▁output▁end｜>"
	    "<｜tool▁outputs▁end｜><｜tool▁calls▁begin｜>"
	    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```"
	    "<｜tool▁call▁end｜><｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>"
	    "2<｜tool▁output▁end｜><｜tool▁outputs▁end｜>"},
};

static void
test_prompts(void)
{
	for (size_t i = 0; i < sizeof prompts / sizeof *prompts; i++) {
		const struct prompt_case *c = &prompts[i];
		struct json *m = parse(c->messages);
		struct buf out = {0};
		struct err e = {0};

		tap_ok(chat_render(c->style, m, NULL, &c->opts, &out, &e) == 0
		    && !strcmp(out.p, c->want), "prompt %zu %s", i,
		    out.p && !strcmp(out.p, c->want) ? "" : out.p ? out.p :
		    e.msg);
		json_free(&m);
		buf_free(&out);
	}
}

static void
test_tools(void)
{
	struct json *m = parse("[{\"role\":\"system\",\"content\":\"S\"},"
	    "{\"role\":\"user\",\"content\":\"q\"}]");
	struct json *t = parse("[{\"type\":\"function\",\"function\":{"
	    "\"name\":\"sum\",\"description\":\"adds\",\"parameters\":"
	    "{\"type\":\"object\"}}}]");
	struct chat_opts o = {0};
	struct buf out = {0};
	struct err e = {0};

	tap_ok(chat_render(CHAT_V31, m, t, &o, &out, &e) == 0 &&
	    strstr(out.p, "S\n\n## Tools") && strstr(out.p, "### sum\n") &&
	    strstr(out.p, "{\"type\":\"object\"}"),
	    "tools follow the system text");
	json_free(&m);
	json_free(&t);
	buf_free(&out);
}

static const struct {
	const char *messages, *want;
} refused[] = {
	{"[]", "messages must be a list"},
	{"{}", "messages must be a list"},
	{"[{\"role\":\"user\",\"content\":\"a\"},3]",
	    "messages[1] must be an object, not a number"},
	{"[{\"role\":\"user\"}]", "messages[0].content must be a string"},
	{"[{\"role\":\"user\",\"content\":null}]",
	    "messages[0].content must be a string"},
	{"[{\"role\":\"user\",\"content\":7}]", "not a number"},
	{"[{\"role\":\"bob\",\"content\":\"\"}]",
	    "messages[0].role must be system, user, assistant or tool"},
	{"[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]",
	    "messages[0].content[0] must be"},
	{"[{\"role\":\"user\",\"content\":\"\",\"tool_calls\":[{}]}]",
	    "messages[0].tool_calls are for the assistant"},
	{"[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{}}]}]",
	    "messages[0].tool_calls[0]: function.name is missing"},
	{"[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[]}]",
	    "messages[0].content must be a string"},
};

static void
test_refused(void)
{
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		struct json *m = parse(refused[i].messages);
		struct chat_opts o = {0};
		struct buf out = {0};
		struct err e = {0};

		buf_puts(&out, "before");
		tap_ok(chat_render(CHAT_R1, m, NULL, &o, &out, &e) == -1 &&
		    e.code == ERR_CALLER && strstr(e.msg, refused[i].want) &&
		    !strcmp(out.p, "before"), "refused: %s", e.msg);
		json_free(&m);
		buf_free(&out);
	}
}

static void
test_options(void)
{
	struct json *m = parse("[{\"role\":\"user\",\"content\":\"q\"}]");
	struct chat_opts both = {true, true, false}, cont = {.
	    continue_final_message = true};
	struct buf out = {0};
	struct err e = {0};

	tap_ok(chat_render(CHAT_R1, m, NULL, &both, &out, &e) == -1 &&
	    strstr(e.msg, "cannot both"), "%s", e.msg);
	tap_ok(chat_render(CHAT_R1, m, NULL, &cont, &out, &e) == -1 &&
	    strstr(e.msg, "messages[0] must be the assistant's"), "%s",
	    e.msg);
	json_free(&m);
	buf_free(&out);
}

static void
test_style(void)
{
#define TURNS "'<｜User｜>' + m + '<｜Assistant｜>'"
	struct buf path = {0};
	enum chat_style s = CHAT_V3;
	struct err e = {0};

	tap_ok(chat_style_of(TURNS, &s, &e) == 0 && s == CHAT_V3, "V3");
	tap_ok(chat_style_of(TURNS "<think>\\n", &s, &e) == 0 && s == CHAT_R1,
	    "R1");
	tap_ok(chat_style_of(TURNS "{% if thinking %}<think>", &s, &e) == 0 &&
	    s == CHAT_V31, "V3.1");
	tap_ok(chat_style_of("[INST]", &s, &e) == -1, "%s", e.msg);
	tap_ok(chat_style_named("v3.1", &s, &e) == 0 && s == CHAT_V31 &&
	    chat_style_named("v4", &s, &e) == -1, "%s", e.msg);
	io_path(&path, tap_top(), "share/demo/model");
	tap_ok(chat_style_open(path.p, &s, &e) == 0 && s == CHAT_R1,
	    "the demo is R1 %s", e.msg);
	buf_free(&path);
}

static void
test_opens(void)
{
#define OPENS(p) chat_opens_think(p, strlen(p))
	tap_ok(OPENS("q<｜Assistant｜><think>\n") &&
	    OPENS("<｜Assistant｜><think>hm, ") && OPENS("1+1?<think>\n\n"),
	    "prompts that open think");
	tap_ok(!OPENS("") && !OPENS("<think>\nx") &&
	    !OPENS("<｜User｜>what is <think><｜Assistant｜>") &&
	    !OPENS("<｜Assistant｜></think>") &&
	    !OPENS("<｜Assistant｜><think>a</think>b"), "and that do not");
}

/* ---- answers ---- */

struct parts {
	struct buf reasoning, content;
	bool empty;			/* a part without text came */
};

static void
collect(void *arg, enum think_kind kind, const char *p, size_t n)
{
	struct parts *x = arg;

	x->empty |= n == 0;
	buf_put(kind == THINK_REASONING ? &x->reasoning : &x->content, p, n);
}

static const struct answer {
	enum think_start start;
	const char *text, *reasoning, *content;
} answers[] = {
	{THINK_OPEN, "hm\n</think>\n\nyes", "hm\n", "yes"},
	{THINK_OPEN, "<think>\nhm</think>yes", "hm", "yes"},
	{THINK_OPEN, "\n\n</think>\n\nyes\n\nno", "", "yes\n\nno"},
	{THINK_OPEN, "no end", "no end", ""},
	{THINK_OPEN, "a<b <thin </thin </</think>c<d", "a<b <thin </thin </",
	    "c<d"},
	{THINK_OPEN, "a</thi", "a</thi", ""},
	{THINK_OPEN, "a</think>b</think>c<think>d", "a",
	    "b</think>c<think>d"},
	{THINK_OPEN, "a<think>b</think>", "a<think>b", ""},
	{THINK_OPEN, "<<think></think>x", "<<think>", "x"},
	{THINK_OPEN, "</think>  x", "", "  x"},
	{THINK_MAYBE, "<think>\nhm</think>\n\nyes", "hm", "yes"},
	{THINK_MAYBE, "yes <think>no</think>", "", "yes <think>no</think>"},
	{THINK_MAYBE, "<thing>", "", "<thing>"},
	{THINK_MAYBE, "<", "", "<"},
	{THINK_NEVER, "\n<think>a</think>", "", "\n<think>a</think>"},
	{THINK_OPEN, "思考</think>\n答え", "思考", "答え"},
};

static bool
splits(const struct answer *a, size_t step)
{
	struct parts x = {0};
	struct think_split s;
	size_t n = strlen(a->text);
	bool ok;

	buf_puts(&x.reasoning, "");
	buf_puts(&x.content, "");
	think_init(&s, a->start);
	for (size_t i = 0; i < n; i += step)
		think_put(&s, a->text + i, n - i < step ? n - i : step,
		    collect, &x);
	think_end(&s, collect, &x);
	ok = !x.empty && !strcmp(x.reasoning.p, a->reasoning) &&
	    !strcmp(x.content.p, a->content);
	if (!ok)
		printf("# step %zu: \"%s\" and \"%s\"\n", step,
		    x.reasoning.p, x.content.p);
	buf_free(&x.reasoning);
	buf_free(&x.content);
	return ok;
}

static void
test_answers(void)
{
	struct think_split s;
	struct parts x = {0};

	for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
		bool ok = true;

		for (size_t step = 1; step < 30; step++)
			ok &= splits(&answers[i], step);
		tap_ok(ok, "answer %zu, in pieces of any size", i);
	}
	think_init(&s, THINK_OPEN);
	think_put(&s, "hm<", 3, collect, &x);
	tap_ok(think_is_reasoning(&s) && x.reasoning.n == 2,
	    "what may be a tag is held back");
	think_mark(&s, false, collect, &x);
	think_put(&s, "\n\nyes", 5, collect, &x);
	think_end(&s, collect, &x);
	tap_ok(!think_is_reasoning(&s) && !strcmp(x.reasoning.p, "hm<") &&
	    !strcmp(x.content.p, "yes"), "a tag that comes as an id");
	buf_free(&x.reasoning);
	buf_free(&x.content);
}

int
main(void)
{
	test_vectors("t/tok/chat.json");
	test_vectors("t/tok/chat31.json");
	test_prompts();
	test_tools();
	test_refused();
	test_options();
	test_style();
	test_opens();
	test_answers();
	return tap_done();
}
