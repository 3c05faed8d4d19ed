/*
 * Goal: what is typed after `llmjob checkpoint` is checked here, and asked of llmjob-rank as it
 * understands it; the answer's status is the command's. Method: the command in a child, with echo
 * and false in that program's place, and mistakes; what llmjob-rank answers is tests/runtime's
 * and tests/e2e/test_standalone.sh's.
 */
#include "base/io.h"
#include "cli/command.h"
#include "tests/unit.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

static char said[8192];

/* Its exit status; what it prints, or its error, stands in `said`. */
static int ask(const char *const *args)
{
    char *argv[10] = {(char *)"checkpoint"};
    int argc = 1, ends[2], status = 0;
    for (; args[argc - 1]; argc++)
        argv[argc] = (char *)args[argc - 1];
    ck_assert(!pipe(ends));
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        struct err e = {.text = ""};
        dup2(ends[1], 1);
        int rc = command_checkpoint(argc, argv, &status, &e);
        if (rc)
            printf("%s\n", e.text);
        fflush(stdout);
        _exit(-rc);
    }
    close(ends[1]);
    size_t len = 0;
    for (ssize_t n; (n = read(ends[0], said + len, sizeof said - 1 - len)) > 0;)
        len += (size_t)n;
    said[len] = 0;
    close(ends[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

START_TEST(the_program_is_asked)
{
    ck_assert_int_eq(
        ask((const char *[]){"ls", "/data/ckpt", "--rank-program", "/bin/echo", NULL}), 0);
    ck_assert_str_eq(said, "checkpoint ls /data/ckpt\n");
    ck_assert_int_eq(
        ask((const char *[]){"verify", "--rank-program=/bin/echo", "/data/ckpt", NULL}), 0);
    ck_assert_str_eq(said, "checkpoint verify /data/ckpt\n");
    ck_assert_int_eq(
        ask((const char *[]){"verify", "a b", "--step", "25", "--rank-program", "/bin/echo", NULL}),
        0);
    ck_assert_str_eq(said, "checkpoint verify a b 25\n");
    ck_assert_int_eq(ask((const char *[]){"ls", "x", "--rank-program", "/bin/false", NULL}), 1);
}
END_TEST

START_TEST(mistakes_are_named)
{
    static const struct {
        const char *args[6], *says;
    } rows[] = {
        {{NULL}, "ls or verify is expected"},
        {{"rm", "x"}, "ls or verify is expected, not rm"},
        {{"ls"}, "no folder given"},
        {{"ls", "x", "y"}, "y: one folder is expected"},
        {{"ls", "x", "--step", "3"}, "step"},
        {{"verify", "x", "--step", "three"}, "step"},
        {{"verify", "x", "--step", "-2"}, "--step: -2 is no step"},
        {{"verify", "x", "--step", "9007199254740992"}, "is no step"},
        {{"ls", "x", "--rank-program", "/absent/llmjob-rank"}, "/absent/llmjob-rank: "},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_msg(ask(rows[i].args) == ERR_USER, "row %zu: %s", i, said);
        ck_assert_msg(strstr(said, rows[i].says) != NULL, "row %zu: %s", i, said);
    }
}
END_TEST

START_TEST(help_tells_both)
{
    for (int i = 0; i < 3; i++) {
        static const char *const args[3][3] = {{"--help"}, {"ls", "--help"}, {"verify", "-h"}};
        ck_assert_int_eq(ask(args[i]), 0);
        ck_assert_msg(strstr(said, "llmjob checkpoint ls PATH") &&
                strstr(said, "llmjob checkpoint verify PATH [--step N]"),
            "%s", said);
    }
}
END_TEST

UNIT_MAIN("checkpoint", the_program_is_asked, mistakes_are_named, help_tells_both)
