/*
 * conf: YAML to a flat list.
 *
 * libyaml builds the document, in which an alias is a second way to the same
 * node; walking it copies what the alias stands for.  A few lines of aliases
 * can stand for gigabytes, so the caps count what comes out, not what went in.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "conf/conf.h"

enum kind { NOTHING, PLAIN, QUOTED, LIST, MAPPING };

struct item {
	char *key, *value;		/* value: NULL for lists, mappings */
	unsigned line;
	enum kind kind;
};

struct conf {
	char *name;			/* of the file, for errors */
	struct item *item;		/* [n], in the order of the file */
	size_t n, cap;
	const struct item **sorted;	/* [n], by key */
	size_t *scalar;			/* [nscalar], indices into item */
	size_t nscalar;
	size_t ntext;			/* bytes of keys and values */
};

struct walk {
	struct conf *c;
	yaml_document_t *doc;
	struct buf key;			/* of the node that is being walked */
	struct err *e;
};

static int walk_node(struct walk *w, yaml_node_t *node, unsigned depth);

static unsigned
line_of(const yaml_node_t *node)
{
	return (unsigned)node->start_mark.line + 1;
}

static int
refuse(const struct walk *w, const yaml_node_t *node, const char *why)
{
	return err_set(w->e, ERR_CALLER, "%s:%u: %s%s%s", w->c->name,
	    line_of(node), w->key.n ? w->key.p : "", w->key.n ? ": " : "",
	    why);
}

static const char *
text_of(const yaml_node_t *node)
{
	return (const char *)node->data.scalar.value;
}

static bool
is_null(const char *s)
{
	return !*s || strcmp(s, "~") == 0 || strcmp(s, "None") == 0 ||
	    strcasecmp(s, "null") == 0;
}

static enum kind
kind_of(const yaml_node_t *node)
{
	if (node->type == YAML_MAPPING_NODE)
		return MAPPING;
	if (node->type == YAML_SEQUENCE_NODE)
		return LIST;
	if (node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		return QUOTED;
	return is_null(text_of(node)) ? NOTHING : PLAIN;
}

/* ---- from the document to items ---- */

static int
check_node(const struct walk *w, const yaml_node_t *node)
{
	const char *plain_tag = node->type == YAML_MAPPING_NODE ?
	    YAML_MAP_TAG : node->type == YAML_SEQUENCE_NODE ? YAML_SEQ_TAG :
	    YAML_STR_TAG;

	if (!node->tag || strcmp((const char *)node->tag, plain_tag) != 0)
		return refuse(w, node, "tags such as !!int are not allowed");
	if (node->type == YAML_SCALAR_NODE &&
	    strlen(text_of(node)) != node->data.scalar.length)
		return refuse(w, node, "a NUL in a text");
	return 0;
}

/* Adds the node under the current key. */
static int
add(struct walk *w, const yaml_node_t *node)
{
	struct conf *c = w->c;
	struct item *it;
	const char *value = node->type == YAML_SCALAR_NODE ? text_of(node) :
	    NULL;
	size_t more = w->key.n + (value ? strlen(value) : 0);

	if (c->n == CONF_MAX_ITEMS)
		return refuse(w, node, "too many values");
	if (more > CONF_MAX_TEXT - c->ntext)
		return refuse(w, node, "too much text");
	if (buf_ok(&w->key, w->e) == -1 ||
	    mem_grow(&c->item, &c->cap, c->n + 1, sizeof(*it), w->e) == -1)
		return -1;
	it = &c->item[c->n++];
	*it = (struct item){
		.key = strdup(w->key.p),
		.value = value ? strdup(value) : NULL,
		.line = line_of(node), .kind = kind_of(node),
	};
	if (!it->key || (value && !it->value))
		return err_set(w->e, ERR_SYSTEM, "out of memory");
	c->ntext += more;
	return 0;
}

/* Walks node with ".part" at the end of the key. */
static int
walk_under(struct walk *w, const char *part, yaml_node_t *node,
    unsigned depth)
{
	size_t n = w->key.n;
	int rc;

	if (n)
		buf_putc(&w->key, '.');
	buf_puts(&w->key, part);
	rc = buf_ok(&w->key, w->e);
	if (rc == 0)
		rc = walk_node(w, node, depth);
	w->key.n = n;
	w->key.p[n] = '\0';
	return rc;
}

static int
walk_mapping(struct walk *w, yaml_node_t *node, unsigned depth)
{
	yaml_node_pair_t *pair = node->data.mapping.pairs.start;

	for (; pair < node->data.mapping.pairs.top; pair++) {
		yaml_node_t *k = yaml_document_get_node(w->doc, pair->key);
		yaml_node_t *v = yaml_document_get_node(w->doc, pair->value);

		if (k->type != YAML_SCALAR_NODE)
			return refuse(w, k, "a key must be a plain word");
		if (check_node(w, k) == -1)
			return -1;
		if (!*text_of(k))
			return refuse(w, k, "an empty key");
		if (strcmp(text_of(k), "<<") == 0)
			return refuse(w, k, "merge keys (<<) are not allowed");
		if (walk_under(w, text_of(k), v, depth) == -1)
			return -1;
	}
	return 0;
}

static int
walk_list(struct walk *w, yaml_node_t *node, unsigned depth)
{
	yaml_node_item_t *start = node->data.sequence.items.start;
	yaml_node_item_t *top = node->data.sequence.items.top;

	for (yaml_node_item_t *i = start; i < top; i++) {
		char part[24];

		snprintf(part, sizeof(part), "%zu", (size_t)(i - start));
		if (walk_under(w, part, yaml_document_get_node(w->doc, *i),
		    depth) == -1)
			return -1;
	}
	return 0;
}

static int
walk_node(struct walk *w, yaml_node_t *node, unsigned depth)
{
	if (check_node(w, node) == -1)
		return -1;
	if (depth > CONF_MAX_DEPTH)
		return refuse(w, node, "nested too deep");
	if (w->key.n && add(w, node) == -1)
		return -1;
	if (node->type == YAML_MAPPING_NODE)
		return walk_mapping(w, node, depth + 1);
	if (node->type == YAML_SEQUENCE_NODE)
		return walk_list(w, node, depth + 1);
	return 0;
}

static int
walk_document(struct conf *c, yaml_document_t *doc, struct err *e)
{
	struct walk w = { .c = c, .doc = doc, .e = e };
	yaml_node_t *root = yaml_document_get_root_node(doc);
	int rc = 0;

	if (root && root->type == YAML_MAPPING_NODE)
		rc = walk_node(&w, root, 0);
	else if (root && kind_of(root) != NOTHING)
		rc = refuse(&w, root, "must be a mapping: KEY: VALUE lines");
	buf_free(&w.key);
	return rc;
}

/* ---- sorting, and finding what stands twice ---- */

static int
by_key(const void *a, const void *b)
{
	const struct item *const *s = a, *const *t = b;
	int d = strcmp((*s)->key, (*t)->key);

	return d ? d : ((*s)->line > (*t)->line) - ((*s)->line < (*t)->line);
}

static int
sort(struct conf *c, struct err *e)
{
	c->sorted = mem_new(c->n, sizeof(*c->sorted), e);
	c->scalar = mem_new(c->n, sizeof(*c->scalar), e);
	if (!c->sorted || !c->scalar)
		return -1;
	for (size_t i = 0; i < c->n; i++) {
		c->sorted[i] = &c->item[i];
		if (c->item[i].kind == PLAIN || c->item[i].kind == QUOTED)
			c->scalar[c->nscalar++] = i;
	}
	qsort(c->sorted, c->n, sizeof(*c->sorted), by_key);
	for (size_t i = 1; i < c->n; i++) {
		const struct item *a = c->sorted[i - 1], *b = c->sorted[i];

		if (strcmp(a->key, b->key) == 0)
			return err_set(e, ERR_CALLER,
			    "%s:%u: %s stands twice, first in line %u",
			    c->name, b->line, b->key, a->line);
	}
	return 0;
}

/* ---- reading ---- */

static int
bad_yaml(const yaml_parser_t *p, const char *name, struct err *e)
{
	size_t line = p->problem_mark.line;
	const char *why = p->problem ? p->problem : "not YAML";

	if (p->error == YAML_MEMORY_ERROR)
		return err_set(e, ERR_SYSTEM, "%s: out of memory", name);
	if (p->error == YAML_READER_ERROR)
		return err_set(e, ERR_CALLER, "%s:%zu: byte %zu: %s", name,
		    p->mark.line + 1, p->problem_offset, why);
	if (p->context)
		return err_set(e, ERR_CALLER, "%s:%zu: %s, %s", name,
		    line + 1, p->context, why);
	return err_set(e, ERR_CALLER, "%s:%zu: %s", name, line + 1, why);
}

static int
one_document(struct conf *c, yaml_parser_t *p, struct err *e)
{
	yaml_document_t doc;
	yaml_node_t *root;
	int rc;

	if (!yaml_parser_load(p, &doc))
		return bad_yaml(p, c->name, e);
	rc = walk_document(c, &doc, e);
	yaml_document_delete(&doc);
	if (rc == -1)
		return -1;
	if (!yaml_parser_load(p, &doc))
		return bad_yaml(p, c->name, e);
	root = yaml_document_get_root_node(&doc);
	if (root)
		rc = err_set(e, ERR_CALLER, "%s:%u: a second document",
		    c->name, line_of(root));
	yaml_document_delete(&doc);
	return rc;
}

/* How deep the events have led, and how many anchors they set. */
struct seen {
	unsigned depth, nanchor;
};

static int
check_event(const struct conf *c, const yaml_event_t *ev, struct seen *s,
    struct err *e)
{
	const yaml_char_t *anchor = NULL;

	if (ev->type == YAML_SEQUENCE_START_EVENT) {
		anchor = ev->data.sequence_start.anchor;
		s->depth++;
	} else if (ev->type == YAML_MAPPING_START_EVENT) {
		anchor = ev->data.mapping_start.anchor;
		s->depth++;
	} else if (ev->type == YAML_SCALAR_EVENT) {
		anchor = ev->data.scalar.anchor;
	} else if (ev->type == YAML_SEQUENCE_END_EVENT ||
	    ev->type == YAML_MAPPING_END_EVENT) {
		s->depth--;
	}
	s->nanchor += anchor != NULL;
	if (s->depth > CONF_MAX_DEPTH)
		return err_set(e, ERR_CALLER, "%s:%zu: nested too deep",
		    c->name, ev->start_mark.line + 1);
	if (s->nanchor > CONF_MAX_ANCHORS)
		return err_set(e, ERR_CALLER, "%s:%zu: too many anchors",
		    c->name, ev->start_mark.line + 1);
	return 0;
}

/* libyaml takes time that grows with the square of nesting and of anchors;
 * so a first pass over the events stops early at what has too much of it. */
static int
first_pass(struct conf *c, yaml_parser_t *p, struct err *e)
{
	struct seen s = {0};
	bool more = true;
	int rc = 0;

	while (more && rc == 0) {
		yaml_event_t ev;

		if (!yaml_parser_parse(p, &ev))
			return bad_yaml(p, c->name, e);
		more = ev.type != YAML_STREAM_END_EVENT;
		rc = check_event(c, &ev, &s, e);
		yaml_event_delete(&ev);
	}
	return rc;
}

/* Runs pass over all of text. */
static int
with_parser(struct conf *c, const char *text, size_t n,
    int (*pass)(struct conf *, yaml_parser_t *, struct err *), struct err *e)
{
	yaml_parser_t p;
	int rc;

	if (!yaml_parser_initialize(&p))
		return err_set(e, ERR_SYSTEM, "%s: out of memory", c->name);
	yaml_parser_set_encoding(&p, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&p, (const unsigned char *)text, n);
	rc = pass(c, &p, e);
	yaml_parser_delete(&p);
	return rc;
}

static int
parse(struct conf *c, const char *text, size_t n, struct err *e)
{
	if (with_parser(c, text, n, first_pass, e) == -1)
		return -1;
	return with_parser(c, text, n, one_document, e);
}

int
conf_parse(struct conf **out, const char *name, const char *text, size_t n,
    struct err *e)
{
	struct conf *c;

	*out = NULL;
	if (n > CONF_MAX_BYTES)
		return err_set(e, ERR_CALLER,
		    "%s:1: %zu bytes, more than the %d allowed", name, n,
		    CONF_MAX_BYTES);
	c = mem_new(1, sizeof(*c), e);
	if (!c)
		return -1;
	c->name = strdup(name);
	if (!c->name) {
		err_set(e, ERR_SYSTEM, "out of memory");
	} else if (parse(c, text, n, e) == 0 && sort(c, e) == 0) {
		*out = c;
		return 0;
	}
	conf_free(&c);
	return -1;
}

int
conf_load(struct conf **out, const char *path, struct err *e)
{
	struct buf b = {0};
	int rc;

	*out = NULL;
	rc = io_slurp(path, CONF_MAX_BYTES, &b, e);
	if (rc == 0)
		rc = conf_parse(out, path, b.p, b.n, e);
	buf_free(&b);
	return rc;
}

void
conf_free(struct conf **c)
{
	struct conf *x = *c;

	*c = NULL;
	if (!x)
		return;
	for (size_t i = 0; i < x->n; i++) {
		free(x->item[i].key);
		free(x->item[i].value);
	}
	free(x->item);
	free(x->sorted);
	free(x->scalar);
	free(x->name);
	free(x);
}

/* ---- asking ---- */

static int
key_against(const void *key, const void *item)
{
	const struct item *const *it = item;

	return strcmp(key, (*it)->key);
}

static const struct item *
find(const struct conf *c, const char *key)
{
	const struct item **at = bsearch(key, c->sorted, c->n,
	    sizeof(*c->sorted), key_against);

	return at ? *at : NULL;
}

static int
wrong(const struct conf *c, const struct item *it, const char *want,
    struct err *e)
{
	if (!it->value)
		return err_set(e, ERR_CALLER, "%s:%u: %s must be %s, not %s",
		    c->name, it->line, it->key, want,
		    it->kind == LIST ? "a list" : "a mapping");
	return err_set(e, ERR_CALLER, "%s:%u: %s must be %s, not %s'%s'",
	    c->name, it->line, it->key, want,
	    it->kind == QUOTED ? "the text " : "", it->value);
}

int
conf_str(const struct conf *c, const char *key, const char **out,
    struct err *e)
{
	const struct item *it = find(c, key);

	if (!it || it->kind == NOTHING)
		return 0;
	if (!it->value)
		return wrong(c, it, "a single value", e);
	*out = it->value;
	return 0;
}

int
conf_i64(const struct conf *c, const char *key, int64_t *out, struct err *e)
{
	const struct item *it = find(c, key);

	if (!it || it->kind == NOTHING)
		return 0;
	if (it->kind != PLAIN ||
	    num_i64(it->value, INT64_MIN, INT64_MAX, out) == -1)
		return wrong(c, it, "a whole number", e);
	return 0;
}

int
conf_f64(const struct conf *c, const char *key, double *out, struct err *e)
{
	const struct item *it = find(c, key);

	if (!it || it->kind == NOTHING)
		return 0;
	if (it->kind != PLAIN || num_f64(it->value, out) == -1)
		return wrong(c, it, "a number", e);
	return 0;
}

int
conf_bool(const struct conf *c, const char *key, bool *out, struct err *e)
{
	static const char *const word[] = {
		"false", "true", "no", "yes", "off", "on",
	};
	const struct item *it = find(c, key);

	if (!it || it->kind == NOTHING)
		return 0;
	for (size_t i = 0; it->kind == PLAIN && i < 6; i++) {
		if (strcasecmp(it->value, word[i]) == 0) {
			*out = i % 2;
			return 0;
		}
	}
	return wrong(c, it, "True or False", e);
}

unsigned
conf_line(const struct conf *c, const char *key)
{
	const struct item *it = find(c, key);

	return it ? it->line : 0;
}

int
conf_bad(const struct conf *c, const char *key, struct err *e,
    const char *fmt, ...)
{
	char why[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	return err_set(e, ERR_CALLER, "%s:%u: %s %s", c->name,
	    conf_line(c, key), key, why);
}

size_t
conf_count(const struct conf *c)
{
	return c->nscalar;
}

const char *
conf_key(const struct conf *c, size_t i)
{
	return c->item[c->scalar[i]].key;
}
