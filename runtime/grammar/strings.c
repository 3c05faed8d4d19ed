/*
 * strings: see strings.h. Control characters have their short escape, or \u00XX.
 */
#include "runtime/grammar/strings.h"

#include <stdio.h>
#include <string.h>

static size_t escape(uint32_t c, char out[8])
{
    static const char shorts[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    for (const char *p = shorts; *p; p += 2)
        if ((uint32_t)(unsigned char)*p == c)
            return (size_t)snprintf(out, 8, "\\%c", p[1]);
    return c < 0x20 ? (size_t)snprintf(out, 8, "\\u%04x", c) : 0;
}

static bool is_plain(uint32_t c)
{
    char text[8];
    return !escape(c, text);
}

int32_t strings_point(struct automaton *a, uint32_t low, uint32_t high, int32_t next)
{
    int32_t node = AUTOMATON_NEVER;
    if (!low)
        low = 1;
    for (uint32_t c = low; c <= high && c < 0x80;) {
        char text[8];
        uint32_t end = c;
        size_t n = escape(c, text);
        if (n) {
            node = automaton_fork(a, node, automaton_text(a, text, n, next));
        } else {
            while (end < high && end < 0x7f && is_plain(end + 1))
                end++;
            node = automaton_fork(a, node, automaton_point(a, c, end, next));
        }
        c = end + 1;
    }
    if (high >= 0x80)
        node = automaton_fork(a, node, automaton_point(a, low > 0x80 ? low : 0x80, high, next));
    return node;
}

/* -- any character -- */

static int32_t hex(struct automaton *a, int low, int high, int32_t next)
{
    int32_t node = AUTOMATON_NEVER;
    if (low < 10)
        node = automaton_byte(a, '0' + low, '0' + (high < 10 ? high : 9), next);
    if (high < 10)
        return node;
    int from = (low < 10 ? 10 : low) - 10, to = high - 10;
    node = automaton_fork(a, node, automaton_byte(a, 'a' + from, 'a' + to, next));
    return automaton_fork(a, node, automaton_byte(a, 'A' + from, 'A' + to, next));
}

/* Four digits, the first two of low..high, which differ in one of them alone. */
static int32_t unit(struct automaton *a, int low, int high, int32_t next)
{
    int32_t node = hex(a, 0, 15, hex(a, 0, 15, next));
    return hex(a, low >> 4, high >> 4, hex(a, low & 15, high & 15, node));
}

/* What follows \u. */
static int32_t escaped(struct automaton *a, int32_t next)
{
    int32_t low = automaton_text(a, "\\u", 2, unit(a, 0xdc, 0xdf, next));
    int32_t node = unit(a, 0xd8, 0xdb, low);
    node = automaton_fork(a, node, unit(a, 0x10, 0xcf, next));
    node = automaton_fork(a, node, unit(a, 0xd0, 0xd7, next));
    node = automaton_fork(a, node, unit(a, 0xe0, 0xff, next));
    /* 00XX and 0XXX, but for 0000 */
    int32_t rest = hex(a, 1, 15, hex(a, 0, 15, hex(a, 0, 15, next)));
    rest = automaton_fork(a, rest,
        hex(a, 0, 0,
            automaton_fork(
                a, hex(a, 1, 15, hex(a, 0, 15, next)), hex(a, 0, 0, hex(a, 1, 15, next)))));
    return automaton_fork(a, node, hex(a, 0, 0, rest));
}

int32_t strings_any(struct automaton *a)
{
    int32_t rule = automaton_rule(a), end = automaton_return(a);
    int32_t node = AUTOMATON_NEVER;
    for (const char *p = "\"\\/bfnrt"; *p; p++)
        node = automaton_fork(a, node, automaton_byte(a, *p, *p, end));
    node = automaton_fork(a, node, automaton_byte(a, 'u', 'u', escaped(a, end)));
    node = automaton_byte(a, '\\', '\\', node);
    node = automaton_fork(a, node, automaton_byte(a, 0x20, 0x21, end));
    node = automaton_fork(a, node, automaton_byte(a, 0x23, 0x5b, end));
    node = automaton_fork(a, node, automaton_byte(a, 0x5d, 0x7f, end));
    node = automaton_fork(a, node, automaton_point(a, 0x80, STRINGS_LAST, end));
    automaton_begin(a, rule, node);
    return rule;
}

int32_t strings_quoted(struct automaton *a, const char *text, int32_t next)
{
    next = automaton_byte(a, '"', '"', next);
    for (size_t i = strlen(text); i--;) {
        char out[8];
        size_t n = escape((unsigned char)text[i], out);
        next = n ? automaton_text(a, out, n, next) : automaton_text(a, text + i, 1, next);
    }
    return automaton_byte(a, '"', '"', next);
}
