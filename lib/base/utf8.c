/*
 * utf8: RFC 3629 to the letter, and one thing more than usual: it tells "not
 * yet" from "never", because tokens end in the middle of characters.
 */
#include "base/base.h"

/* Bounds of the second byte keep out overlong forms (e0, f0), surrogates (ed)
 * and values past U+10FFFF (f4). */
static bool
second_ok(unsigned char first, unsigned char c)
{
	switch (first) {
	case 0xe0:
		return c >= 0xa0 && c <= 0xbf;
	case 0xed:
		return c >= 0x80 && c <= 0x9f;
	case 0xf0:
		return c >= 0x90 && c <= 0xbf;
	case 0xf4:
		return c >= 0x80 && c <= 0x8f;
	default:
		return c >= 0x80 && c <= 0xbf;
	}
}

int
utf8_len(const char *p, size_t n)
{
	const unsigned char *s = (const unsigned char *)p;
	int len;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return -1;
	len = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	for (int i = 1; i < len; i++) {
		if ((size_t)i == n)
			return 0;
		if (i == 1 ? !second_ok(s[0], s[1]) : (s[i] & 0xc0) != 0x80)
			return -1;
	}
	return len;
}

uint32_t
utf8_get(const char *p, int len)
{
	const unsigned char *s = (const unsigned char *)p;

	switch (len) {
	case 2:
		return (s[0] & 0x1fu) << 6 | (s[1] & 0x3fu);
	case 3:
		return (s[0] & 0xfu) << 12 | (s[1] & 0x3fu) << 6 |
		    (s[2] & 0x3fu);
	case 4:
		return (s[0] & 7u) << 18 | (s[1] & 0x3fu) << 12 |
		    (s[2] & 0x3fu) << 6 | (s[3] & 0x3fu);
	default:
		return s[0];
	}
}
