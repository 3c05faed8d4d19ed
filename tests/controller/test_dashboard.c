/*
 * Goal: probes tell whether the loop turns and the caches are complete; metrics are printed; other
 * paths are not there; and no stranger at that port keeps the probes from being answered (the kind:
 * one connection that stops a server). Method: the real server on any port, asked by base/http, and
 * by raw connections.
 * needs: threads
 */
#include "controller/dashboard.h"

#include "base/clock.h"
#include "base/http.h"
#include "base/io.h"
#include "tests/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int get(struct dashboard *d, const char *method, const char *path, struct buf *out)
{
    char url[128];
    struct err e = {0};
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", dashboard_port(d), path);
    const struct http_conf conf = {0};
    const struct http_request r = {.method = method, .url = url, .timeout_ms = 5000};
    buf_reset(out);
    int status = http_once(&conf, &r, out, &e);
    ck_assert_msg(status > 0, "%s", e.text);
    return status;
}

START_TEST(probes_tell_the_truth)
{
    struct dashboard *d = NULL;
    struct err e = {0};
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    ck_assert_msg(!dashboard_start("127.0.0.1:0", &d, &e), "%s", e.text);
    ck_assert_int_eq(get(d, "GET", "/healthz", &out), 200);
    ck_assert_int_eq(get(d, "GET", "/readyz", &out), 503);
    dashboard_beat(d, true);
    ck_assert_int_eq(get(d, "GET", "/readyz", &out), 200);
    ck_assert_int_eq(get(d, "GET", "/metrics", &out), 200);
    ck_assert_int_eq(get(d, "GET", "/else", &out), 404);
    ck_assert_int_eq(get(d, "DELETE", "/healthz", &out), 405);
    dashboard_stop(d);
}
END_TEST

static int64_t resident_kib(void)
{
    buf_auto struct buf text;
    buf_init(&text, 65536);
    ck_assert_int_eq(io_read_file("/proc/self/status", 65536, &text, NULL), 0);
    return strtoll(strstr(buf_cstr(&text), "VmRSS:") + 6, NULL, 10);
}

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SLACK_KIB (256 << 10) /* they keep what was freed, and shadows of it */
#else
#define SLACK_KIB (4 << 10)
#endif
#define BOUND_KIB (6 << 10) /* of docs/architecture.md */
#define STRANGERS 300

/* More connections than there are slots: silent, a large half head, two requests in one write. */
START_TEST(strangers_do_not_stop_the_probes)
{
    static const char two[] = "PUT /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
                              "PUT /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
    static char half[16000];
    const char *const texts[] = {"", half, two};
    struct dashboard *d = NULL;
    struct err e = {0};
    int fds[STRANGERS];
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    memset(half, 'a', sizeof half - 1);
    ck_assert_msg(!dashboard_start("127.0.0.1:0", &d, &e), "%s", e.text);
    ck_assert_int_eq(get(d, "GET", "/healthz", &out), 200);
    int64_t before = resident_kib();
    for (int i = 0; i < STRANGERS; i++) {
        const char *text = texts[i % 3];
        fds[i] = io_connect("127.0.0.1", dashboard_port(d), clock_ms() + 5000, &e);
        ck_assert_msg(fds[i] >= 0, "%s", e.text);
        ck_assert_int_eq(io_send_full(fds[i], text, strlen(text), clock_ms() + 5000, &e), 0);
    }
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(get(d, "GET", "/healthz", &out), 200);
    int64_t grew = resident_kib() - before;
    ck_assert_msg(grew < BOUND_KIB + SLACK_KIB, "%lld KiB", (long long)grew);
    for (int i = 0; i < STRANGERS; i++)
        io_close(fds[i]);
    dashboard_stop(d);
}
END_TEST

START_TEST(addresses_that_are_none_are_refused)
{
    static const char *const bad[] = {"", "8080", "a:", "a:b", "a:70000", "a:-1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct dashboard *d = NULL;
        struct err e;
        ck_assert_int_eq(dashboard_start(bad[i], &d, &e), -ERR_USER);
        ck_assert_ptr_null(d);
    }
    dashboard_stop(NULL);
}
END_TEST

UNIT_MAIN("dashboard", probes_tell_the_truth, strangers_do_not_stop_the_probes,
    addresses_that_are_none_are_refused)
