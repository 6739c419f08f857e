/*
 * bytes: the printable alphabet of byte-level BPE.
 *
 * Such a vocabulary writes every byte as one printable character: those that
 * Latin-1 prints stand for themselves, the other 68 follow each other from
 * U+0100 on.
 */
#include "tok/tok_priv.h"

enum { FIRST = 0x100, NCTRL = 33, NHIGH = 34, NOTHER = NCTRL + NHIGH + 1 };

static bool
prints(uint32_t b)
{
	return (b >= 33 && b <= 126) || (b >= 161 && b <= 255 && b != 173);
}

int
bytes_of_char(uint32_t cp)
{
	if (cp < FIRST)
		return prints(cp) ? (int)cp : -1;
	cp -= FIRST;
	if (cp < NCTRL)
		return (int)cp;
	if (cp < NCTRL + NHIGH)
		return (int)(cp - NCTRL + 127);
	return cp < NOTHER ? 173 : -1;
}

uint32_t
bytes_to_char(uint8_t b)
{
	if (prints(b))
		return b;
	if (b < NCTRL)
		return FIRST + b;
	return b == 173 ? FIRST + NOTHER - 1 : FIRST + NCTRL + b - 127u;
}

int
utf8_put(uint32_t cp, char out[4])
{
	if (cp < 0x80) {
		out[0] = (char)cp;
		return 1;
	}
	if (cp < 0x800) {
		out[0] = (char)(0xc0 | cp >> 6);
		out[1] = (char)(0x80 | (cp & 63));
		return 2;
	}
	if (cp < 0x10000) {
		out[0] = (char)(0xe0 | cp >> 12);
		out[1] = (char)(0x80 | (cp >> 6 & 63));
		out[2] = (char)(0x80 | (cp & 63));
		return 3;
	}
	out[0] = (char)(0xf0 | cp >> 18);
	out[1] = (char)(0x80 | (cp >> 12 & 63));
	out[2] = (char)(0x80 | (cp >> 6 & 63));
	out[3] = (char)(0x80 | (cp & 63));
	return 4;
}
