/*
 * Goal: a number that somebody else wrote is read whole or not at all, never cut, saturated or
 * taken for zero. Method: a table of texts at the bounds and beside the grammar.
 */
#include "base/number.h"

#include "tests/unit.h"

START_TEST(digits_and_nothing_else)
{
    static const struct {
        const char *text;
        int64_t max, want; /* -1: refused */
    } cases[] = {
        {"0", 9, 0},
        {"9", 9, 9},
        {"10", 9, -1},
        {"007", 9, 7},
        {"", 9, -1},
        {"-1", 9, -1},
        {"+1", 9, -1},
        {" 1", 9, -1},
        {"1 ", 9, -1},
        {"1x", 9, -1},
        {"0x1", 9, -1},
        {"1e3", 9999, -1},
        {"9007199254740991", NUMBER_EXACT, NUMBER_EXACT},
        {"9007199254740992", NUMBER_EXACT, -1},
        {"9223372036854775807", INT64_MAX, INT64_MAX},
        {"9223372036854775808", INT64_MAX, -1},
        {"99999999999999999999999999", INT64_MAX, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t v = -5;
        bool ok = number_whole(cases[i].text, strlen(cases[i].text), cases[i].max, &v);
        ck_assert_msg(ok == (cases[i].want >= 0), "\"%s\"", cases[i].text);
        ck_assert_int_eq(v, ok ? cases[i].want : -5);
    }
}
END_TEST

START_TEST(a_file_holds_one_number)
{
    static const char *const bad[] = {
        "", "\n", "0\n", "7\n\n", "7\n8\n", "7 \n", "-7\n", "7.0\n", "\n7", "9007199254740993\n"};
    int64_t v = -5;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!number_file(bad[i], strlen(bad[i]), &v) && v == -5, "\"%s\"", bad[i]);
    ck_assert(!number_file("7\0008", 3, &v));
    ck_assert(number_file("7\n", 2, &v) && v == 7);
    ck_assert(number_file("9007199254740991", 16, &v) && v == NUMBER_EXACT);
}
END_TEST

UNIT_MAIN("number", digits_and_nothing_else, a_file_holds_one_number)
