/*
 * Goal: an error carries class, errno and one clean line, and reporting one cannot itself go wrong.
 * Method: each function with ordinary, overlong, hostile and absent arguments; names against the
 * enum.
 */
#include "base/err.h"

#include "tests/unit.h"

#include <errno.h>
#include <string.h>

START_TEST(set_fills_and_returns_negative_code)
{
    struct err e = {.sys = 99};
    ck_assert_int_eq(err_set(&e, ERR_DATA, "%s line %d", "a.txt", 7), -ERR_DATA);
    ck_assert_int_eq(e.code, ERR_DATA);
    ck_assert_int_eq(e.sys, 0);
    ck_assert_str_eq(e.text, "a.txt line 7");
    ck_assert_int_eq(err_set(NULL, ERR_USER, "x"), -ERR_USER);
}
END_TEST

START_TEST(sys_appends_the_system_text)
{
    struct err e;
    ck_assert_int_eq(err_sys(&e, ERR_DATA, ENOENT, "model.gguf"), -ERR_DATA);
    ck_assert_str_eq(e.text, "model.gguf: No such file or directory");
    ck_assert_int_eq(e.sys, ENOENT);
    ck_assert_int_eq(err_sys(&e, ERR_DATA, ENOMEM, "x"), -ERR_MEMORY);
    ck_assert_int_eq(e.code, ERR_MEMORY);
    ck_assert_int_eq(err_sys(NULL, ERR_DATA, ENOMEM, "x"), -ERR_MEMORY);
}
END_TEST

START_TEST(wrap_puts_context_first_and_keeps_the_class)
{
    struct err e;
    err_sys(&e, ERR_PEER, EPIPE, "send");
    ck_assert_int_eq(err_wrap(&e, "rank %d", 3), -ERR_PEER);
    ck_assert_str_eq(e.text, "rank 3: send: Broken pipe");
    ck_assert_int_eq(e.sys, EPIPE);
    ck_assert_int_eq(err_wrap(NULL, "x"), -ERR_BUG);
}
END_TEST

START_TEST(text_is_cut_and_stays_one_line)
{
    char big[1000];
    memset(big, 'a', sizeof big - 1);
    big[sizeof big - 1] = 0;
    struct err e;
    err_set(&e, ERR_DATA, "%s", big);
    ck_assert_uint_eq(strlen(e.text), sizeof e.text - 1);
    err_sys(&e, ERR_DATA, ENOENT, "%s", big);
    ck_assert_uint_eq(strlen(e.text), sizeof e.text - 1);
    err_wrap(&e, "%s", big);
    ck_assert_uint_eq(strlen(e.text), sizeof e.text - 1);
    err_set(&e, ERR_DATA, "a\nb\rc\033[2Jd\x7f");
    ck_assert_str_eq(e.text, "a b c [2Jd ");
    /* nor may it turn a line round or begin a sequence: CSI as a character, as a byte, bidi */
    err_set(&e, ERR_DATA,
        "a\xc2\x9b"
        "b\x9b"
        "c\xe2\x80\xae"
        "d\xc3\xa9");
    ck_assert_str_eq(e.text, "a??b?c???d\xc3\xa9");
}
END_TEST

START_TEST(names_read_back)
{
    for (int i = 0; i < ERR_CODES; i++) {
        ck_assert_str_ne(err_code_name((enum err_code)i), "");
        ck_assert_int_eq(err_code_parse(err_code_name((enum err_code)i)), i);
    }
    ck_assert_str_eq(err_code_name(ERR_CODES), "bug");
    ck_assert_int_eq(err_code_parse("nonsense"), ERR_BUG);
    ck_assert_int_eq(err_code_parse(NULL), ERR_BUG);
}
END_TEST

UNIT_MAIN("err", set_fills_and_returns_negative_code, sys_appends_the_system_text,
    wrap_puts_context_first_and_keeps_the_class, text_is_cut_and_stays_one_line, names_read_back)
