/*
 * Goal: flags and the one operand are read in either order, and mistakes are named.
 * Method: a small table of flags and argument lists.
 */
#include "cli/command.h"

#include "base/mem.h"

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conf {
    int64_t n;
    bool flag;
};

static const struct conf_item items[] = {
    {"n", CONF_INT, offsetof(struct conf, n), NULL, "3", "a number"},
    {"flag", CONF_BOOL, offsetof(struct conf, flag), NULL, NULL, "a flag"},
    {0},
};

static const struct {
    const char *args[5];
    int code;
    int64_t n;
    const char *expect; /* operand, or part of the error */
} cases[] = {
    {{"x"}, 1, 3, "x"},
    {{"x", "--n", "4"}, 1, 4, "x"},
    {{"--n=4", "x"}, 1, 4, "x"},
    {{"--flag", "x"}, 1, 3, "x"},
    {{NULL}, -ERR_USER, 0, "no file given"},
    {{"--flag"}, -ERR_USER, 0, "no file given"},
    {{"x", "y"}, -ERR_USER, 0, "y: one file is expected"},
    {{"x", "--n", "z"}, -ERR_USER, 0, "n: \"z\""},
    {{"x", "--odd"}, -ERR_USER, 0, "--odd"},
    {{"--help"}, 0, 0, NULL},
};

START_TEST(test_flags)
{
    char *argv[8] = {(char *)"cmd"};
    int argc = 1;
    while (argc < 6 && cases[_i].args[argc - 1]) {
        argv[argc] = (char *)cases[_i].args[argc - 1];
        argc++;
    }
    struct conf c = {0};
    struct err e = {.text = ""};
    const char *operand = NULL;
    int r = command_flags(items, "cmd FILE", "file", argc, argv, &c, &operand, &e);
    ck_assert_int_eq(r, cases[_i].code);
    if (r == 1) {
        ck_assert_str_eq(operand, cases[_i].expect);
        ck_assert_int_eq(c.n, cases[_i].n);
    } else if (r) {
        ck_assert_msg(strstr(e.text, cases[_i].expect), "%s", e.text);
    }
}
END_TEST

/* Names, paths and messages of others. */
START_TEST(test_print_shows_what_would_act)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    command_print(to, "%s: %s \xc3\xa9", "a\033]0;x\x07", "b\xe2\x80\xae\xc2\x9b");
    fclose(to);
    ck_assert_str_eq(text, "a\\u001b]0;x\\u0007: b\\u202e\\u009b \xc3\xa9\n");
    mem_free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("command");
    TCase *t = tcase_create("command");
    tcase_add_loop_test(t, test_flags, 0, (int)(sizeof cases / sizeof *cases));
    tcase_add_test(t, test_print_shows_what_would_act);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
