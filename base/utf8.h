/*
 * utf8: is this text? Strict UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing beyond
 * U+10FFFF. Pure, but for utf8_print.
 */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Bytes (1 to 4) of the valid sequence that s begins with; 0 when it is invalid or cut short, or n
 * is 0. */
size_t utf8_sequence(const char *s, size_t n);

/* Bytes of the longest valid prefix: n when all is valid, else the offset of the first bad byte. */
size_t utf8_valid_prefix(const char *s, size_t n);

/*
 * Bytes of the longest prefix of s[0..n) that ends on a whole character: fewer than n when the last
 * character is cut short. Bytes that are no text end one each: there is nothing to wait for.
 */
size_t utf8_whole(const char *s, size_t n);

/* Characters of a text that is UTF-8. */
size_t utf8_count(const char *s);

/* The code point of the valid sequence of n bytes at s; of one other byte: that byte. */
uint32_t utf8_decode(const char *s, size_t n);

/* Bytes (1 to 4) of a code point up to U+10FFFF. */
size_t utf8_encode(uint32_t c, char out[4]);

/*
 * The character that s[0..n) begins with (n > 0) as it may be shown, with a NUL: itself; "\u001b"
 * for one that would act on a terminal, turn the line's direction or break it (C0, DEL, C1, bidi
 * controls, line separators); U+FFFD for a byte that is no text. Returns the bytes it stands for.
 */
#define UTF8_SHOWN_BYTES 8
size_t utf8_show(const char *s, size_t n, char out[UTF8_SHOWN_BYTES]);
/* Prints a text so; what comes from outside goes to a terminal in no other way. */
void utf8_print(FILE *to, const char *s);

#endif
