/*
 * Goal: a terminal is redrawn in place and left as it was found; anything else gets plain lines.
 * Method: a pseudo terminal and a pipe stand for the two; what is written is compared.
 */
#include "base/io.h"
#include "cli/terminal.h"

#include <check.h>
#include <fcntl.h>
#include <pty.h>
#include <unistd.h>

static struct screen picture(void)
{
    struct screen s = {.name = "a",
        .namespace_ = "",
        .task = "Run",
        .state = "Running",
        .why = "",
        .layout = "",
        .hint = "",
        .ready = 1,
        .replicas = 1,
        .now_ms = 1790000000000};
    report_init(&s.report);
    return s;
}

static const char *drain(int fd)
{
    static char text[65536];
    size_t n = 0;
    ssize_t got;
    while ((got = read(fd, text + n, sizeof text - n - 1)) > 0)
        n += (size_t)got;
    text[n] = 0;
    return text;
}

START_TEST(test_terminal)
{
    struct terminal t;
    struct err e;
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    int ours, theirs;
    ck_assert_int_eq(openpty(&ours, &theirs, NULL, NULL, &size), 0);
    fcntl(ours, F_SETFL, O_NONBLOCK);
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
    struct screen s = picture();
    terminal_init(&t, theirs, false);
    ck_assert(t.live && t.style.colour);
    ck_assert_int_eq(t.style.width, 80);
    ck_assert_int_eq(t.style.height, 24);
    ck_assert_int_eq(terminal_show(&t, &s, &e), 0);
    const char *first = drain(ours);
    ck_assert_int_eq(strncmp(first, "\033[?1049h\033[?25l\033[H", 17), 0);
    ck_assert_ptr_nonnull(strstr(first, "Running"));
    ck_assert_ptr_nonnull(strstr(first, "\033[K"));
    ck_assert_int_eq(terminal_show(&t, &s, &e), 0);
    ck_assert_int_eq(strncmp(drain(ours), "\033[H", 3), 0); /* entered once */
    size.ws_col = 50;
    ioctl(theirs, TIOCSWINSZ, &size);
    terminal_resize(&t);
    ck_assert_int_eq(t.style.width, 50);
    terminal_leave(&t, &s);
    const char *last = drain(ours);
    ck_assert_int_eq(strncmp(last, "\033[?25h\033[?1049l", 14), 0);
    ck_assert_ptr_nonnull(strstr(last, "Running"));
    terminal_leave(&t, &s); /* once only */
    ck_assert_str_eq(drain(ours), "");
    setenv("NO_COLOR", "1", 1);
    terminal_init(&t, theirs, false);
    ck_assert(t.live && !t.style.colour);
    setenv("TERM", "dumb", 1);
    terminal_init(&t, theirs, false);
    ck_assert(!t.live);
    setenv("TERM", "xterm", 1);
    terminal_init(&t, theirs, true);
    ck_assert(!t.live);
    close(ours);
    close(theirs);
}
END_TEST

START_TEST(test_pipe)
{
    struct terminal t;
    struct err e;
    int fds[2];
    ck_assert_int_eq(pipe2(fds, O_NONBLOCK), 0);
    struct screen s = picture();
    terminal_init(&t, fds[1], false);
    ck_assert(!t.live);
    ck_assert_int_eq(terminal_show(&t, &s, &e), 0);
    ck_assert_str_eq(drain(fds[0]), "14:13:20  Run a: Running, 1/1 ready\n");
    ck_assert_int_eq(terminal_show(&t, &s, &e), 0);
    terminal_leave(&t, &s);
    ck_assert_str_eq(drain(fds[0]), "");
    close(fds[0]);
    close(fds[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("terminal");
    TCase *t = tcase_create("terminal");
    tcase_add_test(t, test_terminal);
    tcase_add_test(t, test_pipe);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
