/*
 * Goal: exactly the well-formed sequences of RFC 3629 are accepted.
 * Method: every code point encoded by a plain encoder must pass; every pair of first bytes with the
 * edges of the third and fourth must agree with a decoder written the other way round (decode, then
 * check shortest form and range).
 */
#include "base/utf8.h"

#include "tests/unit.h"

#include <string.h>

static size_t encode(uint32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const int lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 63));
    out[0] = (char)(lead[n] | (int)c);
    return n;
}

START_TEST(every_code_point_passes)
{
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        char s[4];
        size_t n = encode(c, s);
        bool surrogate = c >= 0xd800 && c <= 0xdfff;
        if (utf8_sequence(s, n) != (surrogate ? 0 : n))
            ck_abort_msg("U+%04X", c);
        for (size_t cut = 0; cut < n; cut++)
            if (utf8_sequence(s, cut))
                ck_abort_msg("U+%04X cut to %zu bytes", c, cut);
    }
}
END_TEST

/* The reference: the sequence's length by decoding, 0 when encoding the result again gives other
 * bytes. */
static size_t reference(const unsigned char *s, size_t n)
{
    for (size_t len = 1; len <= n && len <= 4; len++) {
        uint32_t c = len == 1 ? s[0] : s[0] & (0x7fu >> len);
        for (size_t i = 1; i < len; i++)
            c = c << 6 | (s[i] & 63);
        char again[4];
        if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
            continue;
        if (encode(c, again) == len && !memcmp(again, s, len))
            return len;
    }
    return 0;
}

START_TEST(every_short_string_agrees_with_the_reference)
{
    /* Third and fourth bytes have one range each, so its edges are enough. */
    static const unsigned char edge[] = {0x00, 0x41, 0x7f, 0x80, 0x9f, 0xa0, 0xbf, 0xc0, 0xff};
    for (uint32_t v = 0; v < 0x10000 * sizeof edge * sizeof edge; v++) {
        unsigned char s[4] = {
            v & 255, v >> 8 & 255, edge[(v >> 16) / sizeof edge], edge[(v >> 16) % sizeof edge]};
        for (size_t n = 1; n <= 4; n++)
            if (utf8_sequence((char *)s, n) != reference(s, n))
                ck_abort_msg("%02x %02x %02x %02x of %zu", s[0], s[1], s[2], s[3], n);
    }
}
END_TEST

START_TEST(prefix_ends_at_the_first_bad_byte)
{
    ck_assert_uint_eq(utf8_valid_prefix("", 0), 0);
    ck_assert_uint_eq(utf8_valid_prefix("ab\xc3\xa9", 4), 4);
    ck_assert_uint_eq(utf8_valid_prefix("ab\xc3", 3), 2);
    ck_assert_uint_eq(utf8_valid_prefix("ab\xff\x63", 4), 2);
}
END_TEST

START_TEST(a_character_cut_short_waits)
{
    static const struct {
        const char *text;
        size_t whole;
    } cases[] = {
        {"", 0},
        {"ab", 2},
        {"ab\xc3", 2},
        {"ab\xc3\xa9", 4},
        {"\xe2\x82", 0},
        {"\xe2\x82\xac", 3},
        {"a\xf0\x9f\x98", 1},
        {"\xf0\x9f\x98\x80", 4},
        {"a\xff", 1}, /* could begin four bytes: utf8_sequence says later that it does not */
        {"\x80", 1},  /* begins nothing */
        {"\x80\x80\x80\x80", 4},
        {"\xf0\x80\x80\x80\x80", 5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_uint_eq(utf8_whole(cases[i].text, strlen(cases[i].text)), cases[i].whole);
}
END_TEST

START_TEST(code_points_go_and_come)
{
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        char text[4];
        size_t n = utf8_encode(c, text);
        if (c >= 0xd800 && c < 0xe000)
            continue;
        if (utf8_sequence(text, n) != n || utf8_decode(text, n) != c)
            ck_abort_msg("U+%04X", c);
    }
}
END_TEST

START_TEST(what_acts_is_shown_escaped)
{
    static const char *const shown[][2] = {
        {"a", "a"},
        {"\xc3\xa9", "\xc3\xa9"},
        {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
        {"\033", "\\u001b"},
        {"\x7f", "\\u007f"},
        {"\xc2\x9b", "\\u009b"},     /* CSI in one character */
        {"\xe2\x80\xae", "\\u202e"}, /* from right to left */
        {"\xe2\x81\xa6", "\\u2066"},
        {"\x9b", "\xef\xbf\xbd"}, /* CSI in one byte */
        {"\xe2\x80", "\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        char out[UTF8_SHOWN_BYTES];
        size_t n = strlen(shown[i][0]), used = utf8_show(shown[i][0], n, out);
        ck_assert_str_eq(out, shown[i][1]);
        ck_assert_uint_eq(used, out[0] == '\xef' ? 1 : n);
    }
}
END_TEST

UNIT_MAIN("utf8", a_character_cut_short_waits, what_acts_is_shown_escaped, code_points_go_and_come,
    every_code_point_passes, every_short_string_agrees_with_the_reference,
    prefix_ends_at_the_first_bad_byte)
