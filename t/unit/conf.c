/*
 * conf: a file of the usual shape, every refusal with its line, and bombs.
 */
#include <string.h>

#include "conf/conf.h"
#include "tap.h"

static struct err e;

static struct conf *
parse_n(const char *text, size_t n)
{
	struct conf *c;

	e = (struct err){0};
	if (conf_parse(&c, "f.yaml", text, n, &e) == -1 && c)
		e.code = -1;
	return c;
}

static struct conf *
parse(const char *text)
{
	return parse_n(text, strlen(text));
}

static void
refused(const char *text, const char *want)
{
	struct conf *c = parse(text);

	tap_ok(!c && e.code == ERR_CALLER && strstr(e.msg, want) == e.msg,
	    "refused: %s", e.msg);
	conf_free(&c);
}

static bool
is(const struct conf *c, const char *key, const char *want)
{
	const char *s = "absent";

	if (conf_str(c, key, &s, &e) == -1)
		return false;
	if (strcmp(s, want) != 0)
		printf("# %s: %s\n", key, s);
	return strcmp(s, want) == 0;
}

static void
test_numbers(const struct conf *c)
{
	int64_t i = 0;
	double x = 0;
	bool b = false;

	tap_ok(conf_i64(c, "parallel_config.model_parallel", &i, &e) == 0 &&
	    i == 16, "model_parallel");
	tap_ok(conf_i64(c, "model.model_config.ignore_token_id", &i, &e) == 0
	    && i == -100, "a negative number");
	tap_ok(conf_i64(c, "moe_config.expert_num", &i, &e) == 0 && i == 256,
	    "a flow mapping");
	tap_ok(conf_i64(c, "model.model_config.offset.1", &i, &e) == 0 &&
	    i == 3, "an item of a list");
	tap_ok(conf_f64(c, "model.model_config.rms_norm_eps", &x, &e) == 0 &&
	    x == 1.0e-6, "1.0e-6");
	tap_ok(conf_f64(c, "model.model_config.scaling_factor.factor", &x,
	    &e) == 0 && x == 40, "factor");
	tap_ok(conf_f64(c, "seed", &x, &e) == 0 && x == 0,
	    "a whole number is a number");
	tap_ok(conf_bool(c, "use_parallel", &b, &e) == 0 && b &&
	    conf_bool(c, "auto_trans_ckpt", &b, &e) == 0 && !b, "booleans");
	i = 77;
	tap_ok(conf_i64(c, "none.such", &i, &e) == 0 &&
	    conf_i64(c, "context.affinity_cpu_list", &i, &e) == 0 && i == 77,
	    "absent and None leave the default");
}

static void
test_file(const char *path)
{
	struct conf *c;
	const char *last;

	e = (struct err){0};
	if (!tap_ok(conf_load(&c, path, &e) == 0, "%s %s", path, e.msg))
		return;
	test_numbers(c);
	tap_ok(is(c, "run_mode", "predict") &&
	    is(c, "load_checkpoint", "/models/r1 w8a8") &&
	    is(c, "context.max_device_memory", "61GB") &&
	    is(c, "model.model_config.checkpoint_name_or_path", "") &&
	    is(c, "seed", "0"), "texts");
	tap_ok(is(c, "processor.tokenizer.bos_token", "<\xef\xbd\x9c"
	    "begin\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"), "UTF-8");
	tap_ok(is(c, "processor.tokenizer.chat_template",
	    "{% if x %}{{ 'a: b' }}\n# no comment{% endif %}"), "a template");
	tap_ok(is(c, "processor.again.type", "DeepseekV3ForCausalLM") &&
	    is(c, "callbacks.1.step", "5"), "an alias, a list of mappings");
	tap_ok(conf_line(c, "seed") == 2 &&
	    conf_line(c, "model.model_config.rms_norm_eps") == 22 &&
	    conf_line(c, "context.affinity_cpu_list") == 16 &&
	    conf_line(c, "nothing") == 0, "lines");
	last = conf_count(c) ? conf_key(c, conf_count(c) - 1) : "";
	tap_ok(conf_count(c) == 30 && strcmp(conf_key(c, 0), "seed") == 0 &&
	    strcmp(last, "callbacks.1.step") == 0, "%zu scalars, in order",
	    conf_count(c));
	conf_free(&c);
	tap_ok(!c, "conf_free clears");
}

static void
test_wrong(void)
{
	struct conf *c = parse("a: x\nb: '3'\nc: [1]\nd: {e: 1}\nf: 1.5\n"
	    "g: 9223372036854775808\nh: 'True'\n");
	const char *s = NULL;
	int64_t i = 4;
	double x = 4;
	bool b = true;

	tap_ok(conf_i64(c, "a", &i, &e) == -1 && e.code == ERR_CALLER &&
	    strcmp(e.msg, "f.yaml:1: a must be a whole number, not 'x'") == 0,
	    "%s", e.msg);
	tap_ok(conf_i64(c, "b", &i, &e) == -1 && strcmp(e.msg,
	    "f.yaml:2: b must be a whole number, not the text '3'") == 0, "%s",
	    e.msg);
	tap_ok(conf_str(c, "c", &s, &e) == -1 && !s && strcmp(e.msg,
	    "f.yaml:3: c must be a single value, not a list") == 0, "%s",
	    e.msg);
	tap_ok(conf_f64(c, "d", &x, &e) == -1 && strcmp(e.msg,
	    "f.yaml:4: d must be a number, not a mapping") == 0, "%s", e.msg);
	tap_ok(conf_i64(c, "f", &i, &e) == -1 && conf_i64(c, "g", &i, &e) == -1
	    && i == 4 && x == 4, "%s", e.msg);
	tap_ok(conf_bool(c, "h", &b, &e) == -1 && strcmp(e.msg,
	    "f.yaml:7: h must be True or False, not the text 'True'") == 0,
	    "%s", e.msg);
	tap_ok(conf_bool(c, "a", &b, &e) == -1 && b, "%s", e.msg);
	tap_ok(conf_bad(c, "d.e", &e, "must be even, not %d", 1) == -1 &&
	    e.code == ERR_CALLER && strcmp(e.msg,
	    "f.yaml:4: d.e must be even, not 1") == 0, "%s", e.msg);
	conf_free(&c);
}

static void
test_words(void)
{
	struct conf *c = parse("a: null\nb: ~\nc:\nd: None\ne: NULL\n"
	    "f: 'None'\ng: ''\nh: yes\ni: OFF\n");
	bool b = false;

	tap_ok(conf_count(c) == 4 && is(c, "a", "absent") &&
	    is(c, "c", "absent") && is(c, "e", "absent"), "absent values");
	tap_ok(is(c, "f", "None") && is(c, "g", ""), "quoted ones are there");
	tap_ok(conf_bool(c, "h", &b, &e) == 0 && b &&
	    conf_bool(c, "i", &b, &e) == 0 && !b, "yes and OFF");
	conf_free(&c);
	c = parse("");
	tap_ok(c && conf_count(c) == 0, "an empty file");
	conf_free(&c);
	c = parse("# only a comment\n");
	tap_ok(c && conf_count(c) == 0, "a file of comments");
	conf_free(&c);
	c = parse("---\na: 1\n...\n");
	tap_ok(c && conf_count(c) == 1, "document marks");
	conf_free(&c);
}

static void
test_refused(void)
{
	refused("a: 1\nb: 2\na: 3\n", "f.yaml:3: a stands twice, first in "
	    "line 1");
	refused("a: {x: 1}\na: {y: 2}\n", "f.yaml:2: a stands twice");
	refused("a: {b: 1}\na.b: 2\n", "f.yaml:2: a.b stands twice");
	refused("a: None\na: 1\n", "f.yaml:2: a stands twice");
	refused("a: 1\n b: 2\n", "f.yaml:2: ");
	refused("a: [1, 2\n", "f.yaml:2: ");
	refused("a: 'x\n", "f.yaml:2: ");
	refused("a: 1\n\tb: 2\n", "f.yaml:2: ");
	refused("a: *nothing\n", "f.yaml:1: ");
	refused("a: 1\n---\nb: 2\n", "f.yaml:3: a second document");
	refused("- a\n- b\n", "f.yaml:1: must be a mapping");
	refused("just text", "f.yaml:1: must be a mapping");
	refused("? [a, b]\n: 1\n", "f.yaml:1: a key must be a plain word");
	refused("a: !!int 3\n", "f.yaml:1: a: tags such as");
	refused("a: !!python/object:os.system x\n", "f.yaml:1: a: tags");
	refused("b: &b {x: 1}\na:\n  <<: *b\n", "f.yaml:3: a: merge keys");
	refused("a: \"x\\0y\"\n", "f.yaml:1: a: a NUL");
	refused("\"\": 1\n", "f.yaml:1: an empty key");
	refused("a: \xff\n", "f.yaml:1: byte 3: ");
	refused("a: \x01\n", "f.yaml:1: ");
}

/* Nine levels of nine aliases each: 387 million values from 400 bytes. */
static void
test_bombs(void)
{
	struct buf b = {0};
	struct conf *c;

	buf_puts(&b, "a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
	for (int i = 1; i < 9; i++) {
		buf_printf(&b, "a%d: &a%d [", i, i);
		for (int k = 0; k < 9; k++)
			buf_printf(&b, "%s*a%d", k ? "," : "", i - 1);
		buf_puts(&b, "]\n");
	}
	refused(b.p, "f.yaml:1: a4.");
	tap_ok(strstr(e.msg, "too many values") != NULL, "billion laughs");
	buf_clear(&b);
	buf_puts(&b, "a: &a ");
	for (int i = 0; i < 100000; i++)
		buf_putc(&b, 'x');
	buf_puts(&b, "\nb: [");
	for (int i = 0; i < 1000; i++)
		buf_puts(&b, "*a,");
	buf_puts(&b, "]\n");
	refused(b.p, "f.yaml:1: b.");
	tap_ok(strstr(e.msg, "too much text") != NULL, "copies of one text");
	refused("a: &a [*a]\n", "f.yaml:1: a.0.0.");
	buf_clear(&b);
	for (int i = 0; i < CONF_MAX_BYTES + 1; i++)
		buf_putc(&b, '#');
	c = parse_n(b.p, b.n);
	tap_ok(!c && e.code == ERR_CALLER, "too large: %s", e.msg);
	c = parse_n(b.p, b.n - 1);
	tap_ok(c != NULL, "as large as can be");
	conf_free(&c);
	buf_free(&b);
}

static void
test_depth(void)
{
	struct buf b = {0};
	struct conf *c;

	for (int n = CONF_MAX_DEPTH; n <= CONF_MAX_DEPTH + 1; n++) {
		buf_clear(&b);
		buf_puts(&b, "a: ");
		for (int i = 1; i < n; i++)
			buf_putc(&b, '[');
		buf_putc(&b, '1');
		for (int i = 1; i < n; i++)
			buf_putc(&b, ']');
		c = parse(b.p);
		tap_ok((n == CONF_MAX_DEPTH) == (c != NULL), "depth %d %s", n,
		    e.msg);
		conf_free(&c);
	}
	buf_clear(&b);
	for (int i = 0; i < 100000; i++)
		buf_putc(&b, '[');
	refused(b.p, "f.yaml:1: nested too deep");
	buf_clear(&b);
	for (int i = 0; i <= CONF_MAX_ANCHORS; i++)
		buf_printf(&b, "k%d: &a%d x\n", i, i);
	refused(b.p, "f.yaml:1001: too many anchors");
	buf_free(&b);
}

int
main(void)
{
	char path[1024];
	struct conf *c;

	snprintf(path, sizeof(path), "%s/t/conf/r1.yaml", tap_top());
	test_file(path);
	test_wrong();
	test_words();
	test_refused();
	test_bombs();
	test_depth();
	tap_ok(conf_load(&c, "/no/such/file.yaml", &e) == -1 && !c &&
	    e.code == ERR_CALLER, "%s", e.msg);
	return tap_done();
}
