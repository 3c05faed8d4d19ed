/*
 * Goal: every error code has one exit class and comes back from it; no other status is taken for
 * one. Method: all codes there and back, all 256 statuses back and there.
 */
#include "api/exitcode.h"

#include "tests/unit.h"

START_TEST(codes_read_back)
{
    for (int code = 0; code < ERR_CODES; code++)
        ck_assert_int_eq(exit_class_code((int)exit_class_of((enum err_code)code)), code);
    ck_assert_int_eq(exit_class_of(ERR_NONE), 0);
    ck_assert_int_eq(exit_class_of(ERR_CODES), EXIT_CLASS_BUG);
}
END_TEST

START_TEST(other_statuses_are_bugs)
{
    int classes = 0;
    for (int status = 0; status < 256; status++) {
        enum err_code code = exit_class_code(status);
        if (exit_class_of(code) == (enum exit_class)status)
            classes++;
        else
            ck_assert_int_eq(code, ERR_BUG);
    }
    ck_assert_int_eq(classes, ERR_CODES);
    ck_assert_int_eq(exit_class_code(1), ERR_BUG);
    ck_assert_int_eq(exit_class_code(137), ERR_BUG);
}
END_TEST

UNIT_MAIN("exitcode", codes_read_back, other_statuses_are_bugs)
