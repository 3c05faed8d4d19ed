/*
 * Goal: the answer of NCCL's RAS threads becomes one line of what is wrong, whatever they send, and
 * never takes longer than it may. Method: a server of this program's answers on a free port, for
 * each row of a table.
 */
#include "kernels/cuda/ras.h"

#include "base/clock.h"
#include "base/io.h"
#include "tests/fakeras.h"

#include <check.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_MS 3000

static const struct {
    const char *answer; /* NULL: nothing, and the connection stays open */
    const char *line;
} answers[] = {
    {FAKERAS_HEAD
        "Errors\n======\n\n#0-0 (a0f5) INCOMPLETE\n  Missing communicator data from 1 job "
        "process\n"
        "  Process 3487984 on node 10.0.0.7 managing GPU 5\n\nWarnings\n========\n\n#0-0 x\n",
        "#0-0 (a0f5) INCOMPLETE Missing communicator data from 1 job process Process 3487984 on "
        "node "
        "10.0.0.7 managing GPU 5"},
    {FAKERAS_HEAD "Errors\n======\n\nWarnings\n========\n\n  rank 3 is\n\tbehind \n\n",
        "rank 3 is behind"},
    {FAKERAS_HEAD "Errors\n======\n\nWarnings\n========\n\n", ""},
    {FAKERAS_HEAD "Errors\n======\n\nthe end is missing", "the end is missing"},
    {FAKERAS_HEAD "Errors\n======", ""},
    {FAKERAS_HEAD, ""},
    {"Errors\n======\nnot a heading: no line before it\n", ""},
    {"\nErrors\n=\n\n\n", ""},
    {"", ""},
    {NULL, ""},
};

START_TEST(test_answers)
{
    struct err e = {0};
    uint16_t port = 0;
    char address[32], line[160] = "before";
    int status = 0, listener = io_listen("127.0.0.1", 0, &port, &e);
    ck_assert_msg(listener >= 0, "%s", e.text);
    snprintf(address, sizeof address, _i % 2 ? "127.0.0.1:%u" : "localhost:%u", port);
    setenv("NCCL_RAS_ADDR", address, 1);
    pid_t child = fork();
    if (!child)
        _exit(fakeras_answer(listener, LIMIT_MS / 2000, answers[_i].answer));
    int64_t start_ms = clock_ms();
    ras_query(line, sizeof line, LIMIT_MS);
    ck_assert_str_eq(line, answers[_i].line);
    ck_assert_int_lt(clock_ms() - start_ms, FAKERAS_LATE_MS);
    if (!answers[_i].answer)
        kill(child, SIGKILL);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    if (answers[_i].answer)
        ck_assert_int_eq(status, 0);
    io_close(listener);
}
END_TEST

START_TEST(test_nobody_there)
{
    char line[6] = "stale";
    setenv("NCCL_RAS_ADDR", "127.0.0.1:1", 1);
    ras_query(line, sizeof line, 1000);
    ck_assert_str_eq(line, "");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ras");
    TCase *t = tcase_create("ras");
    tcase_add_loop_test(t, test_answers, 0, sizeof answers / sizeof *answers);
    tcase_add_test(t, test_nobody_there);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_FORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
