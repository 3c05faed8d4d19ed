/*
 * tok_normal: decomposition into an array of code points, composed where the form asks for it, and
 * written back as UTF-8 in place by utf8proc.
 */
#include "runtime/text/tok_normal.h"

#include "base/mem.h"

#include <stdbool.h>
#include <stdint.h>
#include <utf8proc.h>

static const int options[] = {
    [TOK_NORMAL_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
    [TOK_NORMAL_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
    [TOK_NORMAL_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
    [TOK_NORMAL_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
};

static bool ascii(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] >= 0x80)
            return false;
    return true;
}

int tok_normal_to(enum tok_normal_form form, const char *text, size_t len, const char **out,
    size_t *out_len, void **owned, struct err *e)
{
    utf8proc_option_t how = (utf8proc_option_t)options[form];
    const uint8_t *in = (const uint8_t *)text;
    utf8proc_ssize_t points, bytes;
    int32_t *work;

    *owned = NULL;
    *out = text;
    *out_len = len;
    if (ascii(text, len))
        return 0;
    points = utf8proc_decompose(in, (utf8proc_ssize_t)len, NULL, 0, how);
    if (points < 0)
        return err_set(e, ERR_DATA, "text cannot be normalised: %s", utf8proc_errmsg(points));
    work = mem_array((size_t)points + 1, sizeof *work); /* and the NUL that reencode adds */
    if (!work)
        return err_set(e, ERR_MEMORY, "no memory to normalise %zu bytes", len);
    utf8proc_decompose(in, (utf8proc_ssize_t)len, work, points, how);
    bytes = utf8proc_reencode(work, points, how);
    if (bytes < 0) {
        mem_free(work);
        return err_set(e, ERR_DATA, "text cannot be normalised: %s", utf8proc_errmsg(bytes));
    }
    *owned = work;
    *out = (const char *)work;
    *out_len = (size_t)bytes;
    return 0;
}

uint32_t tok_normal_char(const char *s, size_t n)
{
    int32_t c = 0xfffd;
    utf8proc_iterate((const uint8_t *)s, (utf8proc_ssize_t)n, &c);
    return (uint32_t)c;
}

bool tok_normal_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 ||
        (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
        c == 0x3000;
}

bool tok_normal_is_word(uint32_t c)
{
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) ||
            (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) ||
            (c >= 0x1f170 && c <= 0x1f189);
    }
}

bool tok_normal_is_mark(uint32_t c)
{
    utf8proc_category_t kind = utf8proc_category((utf8proc_int32_t)c);
    return kind == UTF8PROC_CATEGORY_MN || kind == UTF8PROC_CATEGORY_MC ||
        kind == UTF8PROC_CATEGORY_ME;
}

bool tok_normal_is_nonspacing(uint32_t c)
{
    return utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_MN;
}

bool tok_normal_is_control(uint32_t c)
{
    utf8proc_category_t kind = utf8proc_category((utf8proc_int32_t)c);
    return kind == UTF8PROC_CATEGORY_CC || kind == UTF8PROC_CATEGORY_CF ||
        kind == UTF8PROC_CATEGORY_CO;
}

bool tok_normal_breaks(uint32_t before, uint32_t c, int32_t *state)
{
    return utf8proc_grapheme_break_stateful((utf8proc_int32_t)before, (utf8proc_int32_t)c, state);
}

uint32_t tok_normal_upper(uint32_t c)
{
    return (uint32_t)utf8proc_toupper((utf8proc_int32_t)c);
}

uint32_t tok_normal_lower(uint32_t c)
{
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
}

uint32_t tok_normal_title(uint32_t c)
{
    return (uint32_t)utf8proc_totitle((utf8proc_int32_t)c);
}

enum tok_normal_class tok_normal_class(uint32_t c)
{
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return TOK_NORMAL_LETTER;
    case UTF8PROC_CATEGORY_ND:
        return TOK_NORMAL_DIGIT;
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return TOK_NORMAL_INVISIBLE;
    default:
        return TOK_NORMAL_OTHER;
    }
}

bool tok_normal_printable(uint32_t c)
{
    return c == ' ' || tok_normal_class(c) != TOK_NORMAL_INVISIBLE;
}
