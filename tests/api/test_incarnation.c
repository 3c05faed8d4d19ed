/*
 * Goal: what a writer left is read again, nobody's folder reads as 0, and what no writer leaves is
 * refused with the file's name.
 * Method: a folder of its own; files of a writer, absent, damaged and too long; faults.
 * needs: faults
 */
#include "api/incarnation.h"

#include "base/io.h"
#include "tests/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char folder[64];

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/test-incarnation-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void teardown(void)
{
    io_remove_tree(folder, NULL);
}

START_TEST(what_is_written_is_read)
{
    struct err e = {0};
    int64_t n = 7;
    ck_assert_int_eq(incarnation_read(folder, &n, &e), 0);
    ck_assert_int_eq(n, 0);
    ck_assert_int_eq(incarnation_write(folder, 9007199254740991, &e), 0);
    ck_assert_int_eq(incarnation_read(folder, &n, &e), 0);
    ck_assert_int_eq(n, 9007199254740991);
}
END_TEST

START_TEST(what_no_writer_leaves_is_refused)
{
    static const char *const bad[] = {"", "0\n", "-1\n", "x", "7 8", "9007199254740992\n",
        "0000000000000000000000000000000000000000000000000000000000000001\n"};
    char file[LIMIT_PATH_BYTES];
    struct err e = {0};
    ck_assert_int_eq(incarnation_path(folder, file, &e), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t n = 7;
        ck_assert_int_eq(io_write_file(file, bad[i], strlen(bad[i]), 0644, &e), 0);
        ck_assert_int_eq(incarnation_read(folder, &n, &e), -ERR_DATA);
        ck_assert_msg(strstr(e.text, file) && n == 7, "%s", e.text);
    }
    char longest[LIMIT_PATH_BYTES];
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = 0;
    ck_assert_int_eq(incarnation_path(longest, file, &e), -ERR_USER);
    ck_assert_str_eq(e.text, "checkpoint path is too long");
}
END_TEST

static int write_and_read(void *user)
{
    int64_t n = 0;
    struct err e;
    (void)user;
    int rc = incarnation_write(folder, 3, &e);
    if (!rc)
        rc = incarnation_read(folder, &n, &e);
    ck_assert(rc || n == 3);
    return rc;
}

START_TEST(a_failed_call_is_told)
{
    fault_each(FAULT_IO, write_and_read, NULL);
    fault_each(FAULT_MEM, write_and_read, NULL);
}
END_TEST

int main(void)
{
    const struct unit u = {.name = "incarnation", .setup = setup, .done = teardown};
    const TTest *const tests[] = {
        what_is_written_is_read, what_no_writer_leaves_is_refused, a_failed_call_is_told, NULL};
    return unit_run_with(&u, tests);
}
