/*
 * Goal: what the programs of a run task print is shown once, in order, by whole lines, each with
 * its replica, without the agent's own lines, however it is cut by reads and whatever its length.
 * Method: logs as agents leave them, written in parts, with calls between the parts.
 */
#include "base/io.h"
#include "cli/echo.h"
#include "tests/unit.h"

#include <sys/mman.h>
#include <unistd.h>

#define STAMP "2026-11-30T22:32:15.065Z "

static char folder[] = "/tmp/test_echo.XXXXXX";
static struct crew crew;
static struct echo echo;
static int shown_fd;

static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(folder));
    crew_init(&crew, &(struct crew_conf){.folder = folder});
    crew.count = 2;
    echo = (struct echo){{0}};
    shown_fd = memfd_create("shown", MFD_CLOEXEC);
    ck_assert_int_ge(shown_fd, 0);
}

static void teardown(void)
{
    struct err e;
    io_close(shown_fd);
    io_remove_tree(folder, &e);
}

static void write_log(int replica, const char *text, size_t n)
{
    char path[128];
    struct err e;
    io_auto_fd int fd = io_append(crew_log(&crew, replica, path, sizeof path), 0600, &e);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(io_write_full(fd, text, n, &e), 0);
}

static void print(int replica, const char *text)
{
    write_log(replica, text, strlen(text));
}

/* What one more call shows. */
static const char *news(bool last, struct buf *out)
{
    struct err e = {.text = ""};
    off_t before = lseek(shown_fd, 0, SEEK_CUR);
    ck_assert_msg(!echo_news(&echo, &crew, last, shown_fd, &e), "%s", e.text);
    size_t n = (size_t)(lseek(shown_fd, 0, SEEK_CUR) - before);
    buf_init(out, 8 << 20);
    ck_assert_int_eq(buf_fill(out, 0, n), 0);
    if (n)
        ck_assert_int_eq(io_pread_full(shown_fd, out->data, n, before, &e), 0);
    return buf_cstr(out);
}

static void assert_news(bool last, const char *text)
{
    buf_auto struct buf out;
    ck_assert_str_eq(news(last, &out), text);
}

START_TEST(whole_lines_without_the_agents)
{
    assert_news(false, ""); /* no log is there yet */
    print(0, STAMP "info  llmjob-agent: world formed ranks=2\nhello\n\nwor");
    print(1, "there\n" STAMP "error llmjob-agent: rank ended\n");
    assert_news(false, "[0] hello\n[0] \n[1] there\n");
    assert_news(false, "");
    print(0, "ld\n" STAMP "info  mine: 2 llmjob-agents\n");
    assert_news(false, "[0] world\n[0] " STAMP "info  mine: 2 llmjob-agents\n");
    print(0, "no end" STAMP "info  llmjob-agent: rank ended rank=0\n");
    assert_news(false, "[0] no end\n");
    print(1, "no end");
    assert_news(false, "");
    assert_news(true, "[1] no end\n");
    assert_news(true, "");
}
END_TEST

/* A line of 100,000 bytes comes in two pieces, and neither a byte nor a line behind it is lost. */
START_TEST(a_long_line)
{
    static char text[100000];
    buf_auto struct buf out;
    memset(text, 'z', sizeof text);
    print(0, "first\n");
    write_log(0, text, sizeof text);
    print(0, "\nnext\n");
    const char *all = news(false, &out);
    size_t letters = 0;
    for (const char *p = all; *p; p++)
        letters += *p == 'z';
    ck_assert_uint_eq(letters, sizeof text);
    ck_assert_int_eq(strncmp(all, "[0] first\n[0] zzz", 17), 0);
    ck_assert_str_eq(strrchr(all, 'z') + 1, "\n[0] next\n");
}
END_TEST

/* More than a call shows comes with the next ones, all of it with the last. */
START_TEST(more_than_a_call_shows)
{
    static char line[1 << 12];
    buf_auto struct buf one, rest;
    memset(line, 'y', sizeof line - 1);
    line[sizeof line - 1] = '\n';
    for (int i = 0; i < 600; i++)
        write_log(1, line, sizeof line);
    news(false, &one);
    news(true, &rest);
    ck_assert_uint_lt(one.len, 2 << 20);
    ck_assert_uint_gt(one.len, 1 << 19);
    ck_assert_uint_eq(one.len + rest.len, 600 * (sizeof line + 4));
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"echo", 0, setup, teardown},
        (const TTest *const[]){
            whole_lines_without_the_agents, a_long_line, more_than_a_call_shows, NULL});
}
