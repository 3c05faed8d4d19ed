/*
 * utf8: validity by the table of well-formed byte sequences (Unicode Standard, table 3-7): the
 * range of the second byte depends on the first, all later bytes are 80..BF.
 */
#include "base/utf8.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

size_t utf8_sequence(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    if (!n)
        return 0;
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    size_t len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (n < len)
        return 0;
    unsigned char low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

size_t utf8_valid_prefix(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n) {
        size_t len = utf8_sequence(s + i, n - i);
        if (!len)
            break;
        i += len;
    }
    return i;
}

size_t utf8_whole(const char *s, size_t n)
{
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char c = (unsigned char)s[n - back];
        if ((c & 0xc0) == 0x80)
            continue;
        size_t need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
        return need > back ? n - back : n;
    }
    return n;
}

size_t utf8_count(const char *s)
{
    size_t n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

uint32_t utf8_decode(const char *s, size_t n)
{
    static const unsigned char mask[] = {0, 0xff, 0x1f, 0x0f, 0x07};
    uint32_t c = (unsigned char)*s & mask[n];
    for (size_t i = 1; i < n; i++)
        c = c << 6 | ((unsigned char)s[i] & 0x3f);
    return c;
}

size_t utf8_encode(uint32_t c, char out[4])
{
    static const unsigned char mark[] = {0, 0, 0xc0, 0xe0, 0xf0};
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(mark[n] | c);
    return n;
}

static bool acts(uint32_t c)
{
    static const uint32_t ranges[][2] = {
        {0, 0x1f},
        {0x7f, 0x9f},
        {0x61c, 0x61c},
        {0x200e, 0x200f},
        {0x2028, 0x202e},
        {0x2066, 0x2069},
        {0xfeff, 0xfeff},
    };
    if (c >= ' ' && c < 0x7f)
        return false;
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (c >= ranges[i][0] && c <= ranges[i][1])
            return true;
    return false;
}

size_t utf8_show(const char *s, size_t n, char out[UTF8_SHOWN_BYTES])
{
    size_t len = utf8_sequence(s, n);
    uint32_t c = utf8_decode(s, len ? len : 1);
    if (len && !acts(c)) {
        memcpy(out, s, len);
        out[len] = 0;
    } else if (len) {
        snprintf(out, UTF8_SHOWN_BYTES, "\\u%04x", c & 0xffff);
    } else {
        memcpy(out, "\xef\xbf\xbd", 4);
    }
    return len ? len : 1;
}

void utf8_print(FILE *to, const char *s)
{
    for (size_t left = strlen(s); left;) {
        char shown[UTF8_SHOWN_BYTES];
        size_t n = utf8_show(s, left, shown);
        fputs(shown, to);
        s += n;
        left -= n;
    }
}
