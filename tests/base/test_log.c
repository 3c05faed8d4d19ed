/*
 * Goal: every line is whole, one line, valid in its form whatever the values hold, and below the
 * level silent. Method: stderr is a pipe; lines are compared as text, and parsed as JSON; threads
 * write at once; faults.
 * needs: faults threads
 */
#include "base/log.h"

#include "base/clock.h"
#include "base/json.h"
#include "tests/unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

static int pipe_end;

static void capture(void)
{
    int fd[2];
    ck_assert_int_eq(pipe2(fd, O_CLOEXEC), 0);
    fcntl(fd[1], F_SETPIPE_SZ, 1 << 20);
    dup2(fd[1], STDERR_FILENO);
    close(fd[1]);
    pipe_end = fd[0];
    fcntl(pipe_end, F_SETFL, O_NONBLOCK);
    clock_set_fake(0, 1709210096007);
}

static const char *captured(void)
{
    static char text[1 << 20];
    ssize_t n = read(pipe_end, text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    return text;
}

START_TEST(text_form)
{
    capture();
    log_setup("agent", LOG_INFO, false);
    log_info("world formed", LOG_I("incarnation", 3), LOG_S("layout", "data 2"), LOG_S("empty", ""),
        LOG_S("null", NULL), LOG_F("loss", 2.5), LOG_S("quote", "a\"b\\c\nd"),
        LOG_S("plain", "x/y"));
    ck_assert_str_eq(captured(),
        "2024-02-29T12:34:56.007Z info  agent: world formed incarnation=3 "
        "layout=\"data 2\" empty=\"\" null=\"\" loss=2.5 quote=\"a\\\"b\\\\c\\nd\" plain=x/y\n");
    struct err e;
    err_set(&e, ERR_DATA, "bad line");
    log_error("failed", LOG_ERR(&e));
    ck_assert_str_eq(
        captured(), "2024-02-29T12:34:56.007Z error agent: failed error=\"bad line\" class=data\n");
}
END_TEST

/* A kind: what comes from outside must not act on the terminal that shows the log. */
START_TEST(nothing_acts_on_a_terminal)
{
    static const char *const acts[][2] = {
        {"\033[2J", "\\u001b[2J"},
        {"\xc2\x9b"
         "2J",
            "\\u009b2J"},
        {"a\xe2\x80\xae"
         "b",
            "a\\u202eb"},
        {"\x9b", "\xef\xbf\xbd"},
        {"a\x7f\t", "a\\u007f\\u0009"},
        {"\xe2\x80\xa8", "\\u2028"},
    };
    for (int json = 0; json <= 1; json++)
        for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
            char want[64];
            capture();
            log_setup("agent", LOG_INFO, json);
            log_info("m", LOG_S("v", acts[i][0]));
            snprintf(want, sizeof want, json ? "\"v\":\"%s\"" : "v=\"%s\"", acts[i][1]);
            ck_assert_ptr_nonnull(strstr(captured(), want));
        }
}
END_TEST

START_TEST(json_form)
{
    capture();
    log_setup("agent", LOG_DEBUG, true);
    log_warn("odd", LOG_S("s", "a\xff\x01\"\xc3\xa9"), LOG_I("i", INT64_MIN),
        LOG_F("nan", __builtin_nan("")));
    const char *text = captured();
    json_auto struct json *v = NULL;
    struct err e;
    ck_assert_msg(json_parse(text, strlen(text), &v, &e) == 0, "%s: %s", e.text, text);
    ck_assert_str_eq(json_str(v, "time", ""), "2024-02-29T12:34:56.007Z");
    ck_assert_str_eq(json_str(v, "level", ""), "warn");
    ck_assert_str_eq(json_str(v, "program", ""), "agent");
    ck_assert_str_eq(json_str(v, "message", ""), "odd");
    ck_assert_str_eq(json_str(v, "s", ""), "a\xef\xbf\xbd\x01\"\xc3\xa9");
    ck_assert(json_is_null(json_get(v, "nan")));
    ck_assert_ptr_nonnull(strstr(text, "\"i\":-9223372036854775808"));
}
END_TEST

START_TEST(level_silences)
{
    capture();
    log_setup("agent", LOG_WARN, false);
    log_debug("d");
    log_info("i", LOG_I("n", 1));
    ck_assert_str_eq(captured(), "");
    log_warn("w");
    ck_assert_str_eq(captured(), "2024-02-29T12:34:56.007Z warn  agent: w\n");
}
END_TEST

START_TEST(long_lines_are_cut_between_fields)
{
    static char big[3001], bad[4001];
    memset(big, 'x', sizeof big - 1);
    memset(bad, 1, sizeof bad - 1);
    for (int json = 0; json <= 1; json++) {
        capture();
        log_setup("agent", LOG_INFO, json);
        log_info("m", LOG_S("a", big), LOG_S("b", big), LOG_S("c", big), LOG_S("d", "later"));
        const char *text = captured();
        ck_assert_uint_eq(strcspn(text, "\n"), strlen(text) - 1);
        ck_assert_ptr_null(strstr(text, "later"));
        ck_assert_ptr_nonnull(strstr(text, json ? ",\"cut\":true}\n" : " cut=true\n"));
        log_info("m", LOG_S("first", "kept"), LOG_S("bad", bad));
        text = captured();
        ck_assert_ptr_nonnull(strstr(text, "kept"));
        ck_assert_ptr_null(strstr(text, "bad"));
        json_auto struct json *v = NULL;
        if (json)
            ck_assert_int_eq(json_parse(text, strlen(text), &v, NULL), 0);
    }
}
END_TEST

static void *write_lines(void *user)
{
    (void)user;
    for (int i = 0; i < 500; i++)
        log_info("line", LOG_S("key", "some value of middling length"), LOG_I("i", i));
    return NULL;
}

START_TEST(lines_of_threads_do_not_mix)
{
    capture();
    log_setup("agent", LOG_INFO, true);
    pthread_t thread[4];
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, write_lines, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    int lines = 0;
    for (const char *p = captured(); *p; lines++) {
        size_t n = strcspn(p, "\n");
        json_auto struct json *v = NULL;
        ck_assert_int_eq(json_parse(p, n, &v, NULL), 0);
        p += n + 1;
    }
    ck_assert_int_eq(lines, 2000);
}
END_TEST

START_TEST(nothing_is_allocated)
{
    capture();
    log_setup("agent", LOG_INFO, true);
    fault_arm(&mem_faults, 1);
    log_info("out of memory", LOG_S("where", "here"));
    ck_assert_uint_eq(fault_calls(&mem_faults), 0);
    fault_arm(&mem_faults, 0);
    ck_assert_ptr_nonnull(strstr(captured(), "\"where\":\"here\""));
}
END_TEST

START_TEST(levels_parse)
{
    enum log_level level = LOG_INFO;
    struct err e;
    ck_assert_int_eq(log_level_parse("error", &level, &e), 0);
    ck_assert_int_eq(level, LOG_ERROR);
    ck_assert_int_eq(log_level_parse("loud", &level, &e), -ERR_USER);
    ck_assert_int_eq(level, LOG_ERROR);
    ck_assert_str_eq(e.text, "log level \"loud\" is none of debug, info, warn, error");
}
END_TEST

UNIT_MAIN("log", text_form, nothing_acts_on_a_terminal, json_form, level_silences,
    long_lines_are_cut_between_fields, lines_of_threads_do_not_mix, nothing_is_allocated,
    levels_parse)
