/*
 * Goal: requests reach the queue as text, bounded, and what exceeds the bound is told at once
 * (kind: what strangers make us hold); a cancel reaches who waits, a stop wakes who takes. Method:
 * the rank in a child process, this test as its agent.
 * needs: threads
 */
#include "runtime/serve/requests.h"

#include "api/exitcode.h"
#include "api/limits.h"
#include "tests/runtime/agent.h"
#include "tests/unit.h"

#include <unistd.h>

static struct agent a;
static struct door d; /* in the child */
static struct requests requests = {.door = &d};

static void listen_with(int fd, bool serves)
{
    struct err e = {0};
    door_init(&d, fd, NULL);
    if ((serves && inbox_create(LIMIT_RANK_REQUESTS, &requests.inbox, &e)) ||
        door_listen(&d, requests_take, &requests, &e))
        _exit(99);
}

static void say_serving(void)
{
    struct err e = {0};
    door_send_fields(
        &d, WIRE_SERVING, (struct door_field[]){{"context_length", 1, NULL}, {NULL, 0, NULL}}, &e);
}

/* Answers requests by their id and whether they were cancelled, once it is told to begin. */
static int body_echoes(int fd)
{
    struct err e = {0};
    listen_with(fd, true);
    while (!atomic_load(&d.checkpoint))
        usleep(500);
    for (;;) {
        struct inbox_request *q = inbox_take(requests.inbox, AGENT_MS);
        if (!q)
            break;
        door_send_fields(&d, WIRE_FINISHED,
            (struct door_field[]){{"id", (double)q->id, NULL}, {"text", 0, q->text},
                {"cancelled", atomic_load(&q->cancelled), NULL}, {NULL, 0, NULL}},
            &e);
        inbox_finish(requests.inbox, q);
    }
    door_send_done(&d, 0, "/out", &e);
    return atomic_load(&d.stop) ? EXIT_CLASS_DONE : EXIT_CLASS_BUG;
}

static int body_serves_nobody(int fd)
{
    listen_with(fd, true);
    say_serving();
    pause();
    return 99; /* never: it is ended */
}

static int body_trains(int fd)
{
    listen_with(fd, false);
    say_serving();
    pause();
    return 99; /* never: it is ended */
}

static void expect_finished(int id, const char *text, bool cancelled)
{
    json_auto struct json *v = agent_expect(&a, WIRE_FINISHED);
    ck_assert_int_eq(json_int(v, "id", 0), id);
    ck_assert_str_eq(json_str(v, "text", ""), text);
    ck_assert_int_eq(json_int(v, "cancelled", -1), cancelled);
}

static void expect_refused(int id, const char *word)
{
    json_auto struct json *v = agent_expect(&a, WIRE_FINISHED);
    ck_assert_int_eq(json_int(v, "id", -1), id);
    ck_assert_str_eq(json_str(v, "reason", ""), "error");
    ck_assert_msg(strstr(json_str(v, "message", ""), word), "%s", json_str(v, "message", ""));
}

START_TEST(requests_reach_the_queue)
{
    agent_spawn(&a, body_echoes);
    agent_send(&a, WIRE_REQUEST, "{\"id\":1,\"prompt\":\"x\"}");
    agent_send(&a, WIRE_CANCEL, "{\"id\":99}");
    agent_send(&a, WIRE_CANCEL, "{\"id\":1}");
    agent_send(&a, WIRE_CANCEL, "{");
    agent_send(&a, WIRE_CHECKPOINT, "{}");
    expect_finished(1, "{\"id\":1,\"prompt\":\"x\"}", true);
    agent_send(&a, WIRE_REQUEST, "{\"id\":2}");
    expect_finished(2, "{\"id\":2}", false);
    agent_send(&a, WIRE_STOP, "{}"); /* wakes it: it would wait as long as this test does */
    json_destroy(agent_expect(&a, WIRE_DONE));
    ck_assert_int_eq(agent_end(&a), EXIT_CLASS_DONE);
}
END_TEST

static int64_t resident_kib(pid_t pid)
{
    char path[64], line[256];
    int64_t kib = -1;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, "VmRSS:", 6))
            kib = strtoll(line + 6, NULL, 10);
    fclose(f);
    return kib;
}

/* 40 requests of 1 MiB whose decoded form would be 40 MB each. */
START_TEST(waiting_requests_are_bounded)
{
    buf_auto struct buf text;
    buf_init(&text, LIMIT_FRAME_BYTES);
    agent_spawn(&a, body_serves_nobody);
    json_destroy(agent_expect(&a, WIRE_SERVING));
    int64_t before = resident_kib(a.pid);
    ck_assert_int_gt(before, 0);
    for (int i = 1; i <= 40; i++) {
        buf_reset(&text);
        buf_printf(&text, "{\"id\":%d,\"messages\":[", i);
        while (text.len < LIMIT_REQUEST_BYTES)
            buf_str(&text, "{\"a\":0},");
        buf_str(&text, "{}]}");
        agent_send(&a, WIRE_REQUEST, buf_cstr(&text));
        if (i > LIMIT_RANK_REQUESTS)
            expect_refused(i, "waiting");
    }
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they keep more */
    ck_assert_int_lt(resident_kib(a.pid) - before, 16 << 10);
#endif
    ck_assert_int_eq(agent_end(&a), EXIT_CLASS_PEER);
}
END_TEST

START_TEST(what_cannot_be_taken_is_answered)
{
    agent_spawn(&a, body_trains);
    json_destroy(agent_expect(&a, WIRE_SERVING));
    agent_send(&a, WIRE_CANCEL, "{\"id\":1}");
    agent_send(&a, WIRE_REQUEST, "{\"id\":5}");
    expect_refused(5, "does not serve");
    agent_send(&a, WIRE_REQUEST, "{\"prompt\":\"x\",\"id\":5}");
    expect_refused(0, "does not begin with an id");
    ck_assert_int_eq(agent_end(&a), EXIT_CLASS_PEER);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"requests", 60, NULL, NULL},
        (const TTest *const[]){requests_reach_the_queue, waiting_requests_are_bounded,
            what_cannot_be_taken_is_answered, NULL});
}
