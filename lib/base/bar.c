/*
 * bar: progress on a terminal, and nothing at all elsewhere, so that logs and
 * pipes stay clean.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/base.h"

enum {
	DRAW_NS = 100 * 1000 * 1000,
	WIDE = 64,			/* columns that text and bar need */
	BAR = 24,
	LINE = 256,
};

void
bar_start(struct bar *b, const char *what, const char *unit, uint64_t total)
{
	const char *term = getenv("TERM");

	*b = (struct bar){
		.what = what, .unit = unit, .total = total,
		.start_ns = now_ns(),
	};
	b->on = isatty(STDERR_FILENO) && term && *term &&
	    strcmp(term, "dumb") != 0;
}

/* "1.5 GiB" or "12" */
static void
amount(char *s, size_t size, const struct bar *b, uint64_t n)
{
	static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double x = (double)n;
	int i = 0;

	if (strcmp(b->unit, "B") != 0) {
		snprintf(s, size, "%llu", (unsigned long long)n);
		return;
	}
	for (; x >= 1024 && i < 4; i++)
		x /= 1024;
	snprintf(s, size, "%.*f %s", i > 0, x, unit[i]);
}

static int
columns(void)
{
	struct winsize w;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == -1 || w.ws_col == 0)
		return 80;
	return w.ws_col;
}

static void
draw_total(const struct bar *b, struct buf *line, int cols)
{
	double part = b->done < b->total ?
	    (double)b->done / (double)b->total : 1;
	double spent = (double)(b->drawn_ns - b->start_ns) / 1e9;
	char sum[32];

	amount(sum, sizeof(sum), b, b->total);
	buf_printf(line, " of %s, %3.0f%%", sum, 100 * part);
	if (cols > WIDE + BAR) {
		buf_puts(line, " [");
		for (int i = 0; i < BAR; i++)
			buf_putc(line, i < part * BAR ? '#' : ' ');
		buf_putc(line, ']');
	}
	if (part > 0 && spent >= 1)
		buf_printf(line, " %.0f s left", spent / part - spent);
}

static void
draw(struct bar *b, uint64_t now)
{
	struct buf line = {0};
	int cols = columns();
	char sum[32];

	b->drawn_ns = now;
	b->drawn = true;
	amount(sum, sizeof(sum), b, b->done);
	buf_printf(&line, "%s: %s", b->what, sum);
	if (strcmp(b->unit, "B") != 0)
		buf_printf(&line, " %s", b->unit);
	if (b->total)
		draw_total(b, &line, cols);
	if (!line.oom) {
		char out[LINE];
		int n = snprintf(out, sizeof(out), "\r%.*s\033[K", cols - 1,
		    line.p);

		if (n > 0 && n < LINE)
			io_write(STDERR_FILENO, out, (size_t)n, NULL);
	}
	buf_free(&line);
}

void
bar_add(struct bar *b, uint64_t n)
{
	uint64_t now;

	b->done += n;
	if (!b->on)
		return;
	now = now_ns();
	if (now - (b->drawn ? b->drawn_ns : b->start_ns) >= DRAW_NS)
		draw(b, now);
}

void
bar_end(struct bar *b)
{
	if (b->on && b->drawn)
		io_write(STDERR_FILENO, "\r\033[K", 4, NULL);
	b->on = b->drawn = false;
}
