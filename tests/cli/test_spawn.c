/*
 * Goal: children are started clean, seen to end, read to the end, and never left behind.
 * Method: small shell programs as children; pids are looked for after the end; the one wait is for
 * a deadline.
 */
#include "base/clock.h"
#include "base/io.h"
#include "cli/spawn.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

static char log_path[] = "/tmp/test_spawn.XXXXXX";

static void setup(void)
{
    io_close(mkstemp(log_path));
}

static void teardown(void)
{
    remove(log_path);
}

static int wait_for(struct child *c)
{
    int status;
    struct pollfd p = {.fd = c->pidfd, .events = POLLIN};
    ck_assert_int_eq(poll(&p, 1, 10000), 1);
    ck_assert(spawn_ended(c, &status));
    ck_assert_int_eq(c->pid, 0);
    return status;
}

START_TEST(test_start_and_status)
{
    struct err e = {.text = ""};
    struct child c;
    buf_auto struct buf b;
    const char *const argv[] = {"sh", "-c", "echo out; echo err >&2; exit 7", NULL};
    ck_assert_msg(!spawn_start(argv, NULL, -1, log_path, &c, &e), "%s", e.text);
    ck_assert_int_eq(wait_for(&c), 7);
    buf_init(&b, 1000);
    ck_assert_int_eq(io_read_file(log_path, 1000, &b, &e), 0);
    ck_assert_str_eq(b.data, "out\nerr\n");
}
END_TEST

START_TEST(test_handed_descriptor)
{
    struct err e = {.text = ""};
    struct child c;
    const char *const argv[] = {"sh", "-c", "echo said >&3", NULL};
    int ends[2];
    char said[5];
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    ck_assert_msg(!spawn_start(argv, NULL, ends[1], log_path, &c, &e), "%s", e.text);
    ck_assert_int_eq(wait_for(&c), 0);
    ck_assert_int_eq(read(ends[0], said, sizeof said), sizeof said);
    ck_assert_mem_eq(said, "said\n", sizeof said);
    const char *const none[] = {"/no/such/program", NULL};
    ck_assert_int_eq(spawn_start(none, NULL, ends[1], log_path, &c, &e), -ERR_USER);
    io_close(ends[0]);
    io_close(ends[1]);
}
END_TEST

START_TEST(test_killed_status)
{
    struct err e;
    struct child c;
    const char *const argv[] = {"sh", "-c", "kill -9 $$", NULL};
    ck_assert_int_eq(spawn_start(argv, NULL, -1, log_path, &c, &e), 0);
    ck_assert_int_eq(wait_for(&c), 128 + 9);
}
END_TEST

/* Signals that we block or ignore are not the child's. */
START_TEST(test_clean_signals)
{
    struct err e;
    struct child c;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    signal(SIGTERM, SIG_IGN);
    const char *const argv[] = {"sh", "-c", "kill -TERM $$; exit 0", NULL};
    ck_assert_int_eq(spawn_start(argv, NULL, -1, log_path, &c, &e), 0);
    ck_assert_int_eq(wait_for(&c), 128 + SIGTERM);
}
END_TEST

START_TEST(test_no_such_program)
{
    struct err e = {.text = ""};
    struct child c;
    const char *const argv[] = {"/no/such/program", NULL};
    ck_assert_int_eq(spawn_start(argv, NULL, -1, log_path, &c, &e), -ERR_USER);
    ck_assert_ptr_nonnull(strstr(e.text, "/no/such/program"));
}
END_TEST

/* One that ignores SIGTERM, with a child of its own: both are gone afterwards. */
START_TEST(test_end_reaches_the_group)
{
    struct err e;
    struct child c;
    buf_auto struct buf b;
    buf_init(&b, 100);
    const char *const argv[] = {"sh", "-c", "trap '' TERM; sleep 1000 & echo $!; wait", NULL};
    ck_assert_int_eq(spawn_start(argv, NULL, -1, log_path, &c, &e), 0);
    pid_t group = c.pid;
    int64_t until = clock_ms() + 10000;
    do {
        struct pollfd p = {.fd = c.pidfd, .events = POLLIN};
        buf_reset(&b);
        ck_assert_int_eq(io_read_file(log_path, 100, &b, &e), 0);
        ck_assert_int_eq(poll(&p, 1, 5), 0);
    } while (!b.len && clock_ms() < until);
    ck_assert_uint_gt(b.len, 0);
    spawn_end(&c, clock_ms() + 50);
    ck_assert_int_eq(c.pid, 0);
    /* The grandchild goes to its new parent, which may take a moment to reap it. */
    while (!kill(-group, 0) && clock_ms() < until)
        poll(NULL, 0, 5);
    ck_assert_int_eq(kill(-group, 0), -1);
    ck_assert_int_eq(errno, ESRCH);
}
END_TEST

/* Kind: processes that outlive those for whom they run. The middle process starts a child and is
 * killed; the child ends. */
START_TEST(test_killed_parent_takes_it_along)
{
    int told[2];
    pid_t child;
    ck_assert_int_eq(pipe(told), 0);
    pid_t middle = fork();
    if (!middle) {
        struct err e;
        struct child c;
        const char *const argv[] = {"sleep", "1000", NULL};
        if (spawn_start(argv, NULL, -1, log_path, &c, &e) ||
            write(told[1], &c.pid, sizeof c.pid) < 0)
            _exit(1);
        pause();
    }
    ck_assert_int_eq(read(told[0], &child, sizeof child), sizeof child);
    struct pollfd p = {.fd = pidfd_open(child, 0), .events = POLLIN};
    ck_assert_int_ge(p.fd, 0);
    ck_assert_int_eq(poll(&p, 1, 0), 0);
    kill(middle, SIGKILL);
    ck_assert_int_eq(waitpid(middle, NULL, 0), middle);
    int ended = poll(&p, 1, 10000);
    if (!ended)
        kill(child, SIGKILL);
    ck_assert_int_eq(ended, 1);
    io_close(p.fd);
    io_close(told[0]);
    io_close(told[1]);
}
END_TEST

/* Standard descriptors that are closed here are the child's own all the same. */
START_TEST(test_closed_standard_descriptors)
{
    struct err e;
    buf_auto struct buf b;
    const char *const argv[] = {"sh", "-c", "cat; echo out; echo err >&2", NULL};
    pid_t middle = fork();
    if (!middle) {
        struct child c;
        int status = 1;
        for (int i = 0; i < 3; i++)
            close(i);
        if (!spawn_start(argv, NULL, -1, log_path, &c, &e))
            while (!spawn_ended(&c, &status))
                poll(&(struct pollfd){.fd = c.pidfd, .events = POLLIN}, 1, 10000);
        _exit(status);
    }
    int status;
    ck_assert_int_eq(waitpid(middle, &status, 0), middle);
    ck_assert_int_eq(status, 0);
    buf_init(&b, 100);
    ck_assert_int_eq(io_read_file(log_path, 100, &b, &e), 0);
    ck_assert_str_eq(b.data, "out\nerr\n");
}
END_TEST

START_TEST(test_capture)
{
    struct err e = {.text = ""};
    buf_auto struct buf out;
    buf_init(&out, 4 << 20);
    const char *const large[] = {
        "sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; echo note >&2", NULL};
    ck_assert_msg(!spawn_capture(large, 10000, &out, &e), "%s", e.text);
    ck_assert_uint_eq(out.len, 300000);
    const char *const failing[] = {
        "sh", "-c", "echo first reason >&2; echo second >&2; exit 3", NULL};
    ck_assert_int_eq(spawn_capture(failing, 10000, &out, &e), -ERR_RETRY);
    ck_assert_str_eq(e.text, "sh: first reason");
    const char *const absent[] = {"no-such-program", NULL};
    ck_assert_int_eq(spawn_capture(absent, 10000, &out, &e), -ERR_USER);
    buf_auto struct buf small;
    buf_init(&small, 10);
    ck_assert_int_eq(spawn_capture(large, 10000, &small, &e), -ERR_MEMORY);
}
END_TEST

START_TEST(test_capture_time_out)
{
    struct err e = {.text = ""};
    buf_auto struct buf out;
    buf_init(&out, 1000);
    int64_t begun = clock_ms();
    const char *const argv[] = {"sh", "-c", "sleep 1000", NULL};
    ck_assert_int_eq(spawn_capture(argv, 100, &out, &e), -ERR_HANG);
    ck_assert_int_lt(clock_ms() - begun, 10000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("spawn");
    TCase *t = tcase_create("spawn");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_start_and_status);
    tcase_add_test(t, test_handed_descriptor);
    tcase_add_test(t, test_killed_status);
    tcase_add_test(t, test_clean_signals);
    tcase_add_test(t, test_no_such_program);
    tcase_add_test(t, test_end_reaches_the_group);
    tcase_add_test(t, test_killed_parent_takes_it_along);
    tcase_add_test(t, test_closed_standard_descriptors);
    tcase_add_test(t, test_capture);
    tcase_add_test(t, test_capture_time_out);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
