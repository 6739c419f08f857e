/*
 * opt: one table gives parsing, --help and what the man page must name.
 *
 * Not getopt_long: that guesses abbreviations, so adding an option could
 * change what an old script means, and it prints by itself.
 */
#include <string.h>

#include "base/base.h"

struct parse {
	const struct opt *tab;
	const char *prog, *synopsis;
	char **argv;
	int argc, i;			/* i: the next word */
	int noperand;
	struct err *e;
};

enum { NAME_MAX_LEN = 64, HELP_COL = 30 };

/* '_' may be typed for '-'; n bytes of s against all of name. */
static bool
same_name(const char *s, size_t n, const char *name)
{
	if (!name || strlen(name) != n)
		return false;
	for (size_t i = 0; i < n; i++) {
		if ((s[i] == '_' ? '-' : s[i]) != name[i])
			return false;
	}
	return true;
}

static bool
is_end(const struct opt *o)
{
	return !o->key && !o->name;
}

static const struct opt *
find_long(const struct opt *tab, const char *s, size_t n, bool *negated)
{
	*negated = false;
	for (const struct opt *o = tab; !is_end(o); o++) {
		if (same_name(s, n, o->name))
			return o;
	}
	if (n < 4 || !same_name(s, 3, "no-"))
		return NULL;
	*negated = true;
	for (const struct opt *o = tab; !is_end(o); o++) {
		if (o->type == OPT_FLAG && same_name(s + 3, n - 3, o->name))
			return o;
	}
	return NULL;
}

static const struct opt *
find_short(const struct opt *tab, char key)
{
	for (const struct opt *o = tab; !is_end(o); o++) {
		if (o->key == key)
			return o;
	}
	return NULL;
}

static bool
takes_arg(const struct opt *o)
{
	return o->type != OPT_FLAG && !(o->type == OPT_CALL && o->noarg);
}

/* "--name", or "-k" for an option without a long name */
static const char *
label(const struct opt *o, char *out)
{
	if (o->name)
		snprintf(out, NAME_MAX_LEN, "--%s", o->name);
	else
		snprintf(out, NAME_MAX_LEN, "-%c", o->key);
	return out;
}

static int
bad_u64(const struct opt *o, const char *arg, struct err *e)
{
	char name[NAME_MAX_LEN];

	if (o->max)
		return err_set(e, ERR_CALLER,
		    "%s must be a whole number from %llu to %llu, not '%s'",
		    label(o, name), (unsigned long long)o->min,
		    (unsigned long long)o->max, arg);
	return err_set(e, ERR_CALLER,
	    "%s must be a whole number, at least %llu, not '%s'",
	    label(o, name), (unsigned long long)o->min, arg);
}

static int
set_u64(const struct opt *o, const char *arg, struct err *e)
{
	uint64_t v;

	if (num_u64(arg, o->max ? o->max : UINT64_MAX, &v) == -1 || v < o->min)
		return bad_u64(o, arg, e);
	*(uint64_t *)o->dst = v;
	return 0;
}

static int
set_bytes(const struct opt *o, const char *arg, struct err *e)
{
	char name[NAME_MAX_LEN];
	uint64_t v;

	if (num_bytes(arg, &v) == -1)
		return err_set(e, ERR_CALLER, "%s must be a number of bytes "
		    "such as 512M or 16GiB, not '%s'", label(o, name), arg);
	if (v < o->min || (o->max && v > o->max))
		return bad_u64(o, arg, e);
	*(uint64_t *)o->dst = v;
	return 0;
}

static int
set_f64(const struct opt *o, const char *arg, struct err *e)
{
	bool limits = o->fmin != 0 || o->fmax != 0;
	char name[NAME_MAX_LEN];
	double v;

	if (num_f64(arg, &v) == -1 || (limits && !(v >= o->fmin &&
	    v <= o->fmax))) {
		if (!limits)
			return err_set(e, ERR_CALLER,
			    "%s must be a number, not '%s'", label(o, name),
			    arg);
		return err_set(e, ERR_CALLER,
		    "%s must be a number from %g to %g, not '%s'",
		    label(o, name), o->fmin, o->fmax, arg);
	}
	*(double *)o->dst = v;
	return 0;
}

static void
put_choices(struct buf *b, const struct opt *o, const char *between)
{
	for (size_t i = 0; o->choices && o->choices[i]; i++)
		buf_printf(b, "%s%s", i ? between : "", o->choices[i]);
}

static int
set_enum(const struct opt *o, const char *arg, struct err *e)
{
	char name[NAME_MAX_LEN];
	struct buf b = {0};

	for (int i = 0; o->choices[i]; i++) {
		if (strcmp(o->choices[i], arg) == 0) {
			*(int *)o->dst = i;
			return 0;
		}
	}
	put_choices(&b, o, ", ");
	if (buf_ok(&b, e) == 0)
		err_set(e, ERR_CALLER, "%s must be one of %s, not '%s'",
		    label(o, name), b.p ? b.p : "nothing", arg);
	buf_free(&b);
	return -1;
}

static int
set(const struct opt *o, const char *arg, bool negated, struct err *e)
{
	char name[NAME_MAX_LEN];

	switch (o->type) {
	case OPT_FLAG:
		*(bool *)o->dst = !negated;
		return 0;
	case OPT_U64:
		return set_u64(o, arg, e);
	case OPT_BYTES:
		return set_bytes(o, arg, e);
	case OPT_F64:
		return set_f64(o, arg, e);
	case OPT_STR:
		*(const char **)o->dst = arg;
		return 0;
	case OPT_ENUM:
		return set_enum(o, arg, e);
	case OPT_CALL:
		if (o->call(arg, o->dst, e) == -1)
			return err_wrap(e, "%s", label(o, name));
		return 0;
	}
	return err_set(e, ERR_CALLER, "%s: unknown type", label(o, name));
}

/* ---- --help ---- */

static void
put_arg(struct buf *b, const struct opt *o)
{
	if (!takes_arg(o))
		return;
	buf_putc(b, o->name ? '=' : ' ');
	if (o->arg)
		buf_puts(b, o->arg);
	else if (o->type == OPT_ENUM)
		put_choices(b, o, "|");
	else
		buf_puts(b, o->type == OPT_STR ? "TEXT" : "N");
}

static void
put_opt(struct buf *b, const struct opt *o)
{
	size_t start = b->n;

	if (o->key)
		buf_printf(b, "  -%c%s", o->key, o->name ? ", " : "");
	else
		buf_puts(b, "      ");
	/* a flag that is on by default is there to be switched off */
	if (o->name)
		buf_printf(b, "--%s%s", o->type == OPT_FLAG && o->dst &&
		    *(bool *)o->dst ? "[no-]" : "", o->name);
	put_arg(b, o);
	if (b->n - start >= HELP_COL - 1) {
		buf_putc(b, '\n');
		start = b->n;
	}
	buf_printf(b, "%*s%s\n", (int)(HELP_COL - (b->n - start)), "",
	    o->help ? o->help : "");
}

static int
print(const struct buf *b, struct err *e)
{
	if (buf_ok(b, e) == -1)
		return -1;
	if (fwrite(b->p, 1, b->n, stdout) != b->n || fflush(stdout) == EOF)
		return err_sys(e, "write stdout");
	return OPT_DONE;
}

static int
help(const struct parse *p)
{
	static const struct opt own[] = {
		{ .name = "help", .help = "print this and exit",
		    .type = OPT_FLAG },
		{ .name = "version", .help = "print the version and exit",
		    .type = OPT_FLAG },
	};
	struct buf b = {0};
	int rc;

	buf_printf(&b, "usage: %s%s%s\n\n", p->prog,
	    p->synopsis && *p->synopsis ? " " : "",
	    p->synopsis ? p->synopsis : "");
	for (const struct opt *o = p->tab; !is_end(o); o++) {
		if (!o->hidden)
			put_opt(&b, o);
	}
	put_opt(&b, &own[0]);
	put_opt(&b, &own[1]);
	rc = print(&b, p->e);
	buf_free(&b);
	return rc;
}

static int
version(const struct parse *p)
{
	struct buf b = {0};
	int rc;

	buf_printf(&b, "%s %s\n", p->prog, dsi_version);
	rc = print(&b, p->e);
	buf_free(&b);
	return rc;
}

/* ---- parsing ---- */

/* The long name nearest to s[0..n), or NULL. */
static const char *
nearest(const struct opt *tab, const char *s, size_t n)
{
	const char *best = NULL;
	char typed[NAME_MAX_LEN];
	unsigned least = UINT32_MAX;

	if (n >= sizeof(typed))
		return NULL;
	for (size_t i = 0; i < n; i++)
		typed[i] = s[i] == '_' ? '-' : s[i];
	for (const struct opt *o = tab; !is_end(o); o++) {
		size_t m = o->name ? strlen(o->name) : 0;
		unsigned d = near_edits(typed, n, o->name ? o->name : "", m);

		if (m && !o->hidden && d < least &&
		    near_enough(typed, n, o->name, m)) {
			best = o->name;
			least = d;
		}
	}
	return best;
}

static int
unknown(const struct parse *p, const char *word, size_t n)
{
	const char *near = n > 2 ? nearest(p->tab, word + 2, n - 2) : NULL;

	if (near)
		return err_set(p->e, ERR_CALLER, "no option %.*s; there is "
		    "--%s, and %s --help lists all", (int)n, word, near,
		    p->prog);
	return err_set(p->e, ERR_CALLER,
	    "no option %.*s; %s --help lists them", (int)n, word, p->prog);
}

static int
missing(const struct parse *p, const struct opt *o)
{
	char name[NAME_MAX_LEN];

	return err_set(p->e, ERR_CALLER, "%s needs %s", label(o, name),
	    o->arg ? o->arg : "an argument");
}

static int
parse_long(struct parse *p, const char *word)
{
	const char *s = word + 2, *eq = strchr(s, '='), *arg = NULL;
	size_t n = eq ? (size_t)(eq - s) : strlen(s);
	char name[NAME_MAX_LEN];
	const struct opt *o;
	bool negated;

	o = find_long(p->tab, s, n, &negated);
	if (!o && !eq && same_name(s, n, "help"))
		return help(p);
	if (!o && !eq && same_name(s, n, "version"))
		return version(p);
	if (!o)
		return unknown(p, word, n + 2);
	if (!takes_arg(o) && eq)
		return err_set(p->e, ERR_CALLER, "%s takes no argument",
		    label(o, name));
	if (eq)
		arg = eq + 1;
	else if (takes_arg(o)) {
		if (p->i == p->argc)
			return missing(p, o);
		arg = p->argv[p->i++];
	}
	return set(o, arg, negated, p->e);
}

/* A word of short options: "-v", "-vq", "-n5", "-n 5". */
static int
parse_short(struct parse *p, const char *word)
{
	for (const char *s = word + 1; *s; s++) {
		const struct opt *o = find_short(p->tab, *s);
		char name[] = { '-', *s, '\0' };

		if (!o && *s == 'h')
			return help(p);
		if (!o)
			return unknown(p, name, 2);
		if (!takes_arg(o)) {
			if (set(o, NULL, false, p->e) == -1)
				return -1;
			continue;
		}
		if (s[1])
			return set(o, s + 1, false, p->e);
		if (p->i == p->argc)
			return missing(p, o);
		return set(o, p->argv[p->i++], false, p->e);
	}
	return OPT_RUN;
}

int
opt_parse(const struct opt *tab, const char *name, const char *synopsis,
    int *argc, char **argv, struct err *e)
{
	struct parse p = {
		.tab = tab, .prog = name, .synopsis = synopsis,
		.argv = argv, .argc = *argc, .i = 1, .e = e,
	};
	bool ended = false;

	while (p.i < p.argc) {
		char *word = argv[p.i++];
		int rc = OPT_RUN;

		if (ended || word[0] != '-' || !word[1])
			argv[p.noperand++] = word;
		else if (strcmp(word, "--") == 0)
			ended = true;
		else if (word[1] == '-')
			rc = parse_long(&p, word);
		else
			rc = parse_short(&p, word);
		if (rc != OPT_RUN)
			return rc;
	}
	*argc = p.noperand;
	return OPT_RUN;
}
