/*
 * status: goal: the agent's port answers as status.h says, with and without a coordinator. Method:
 * a real loop with a lead and a member but no ranks; requests go over a socket and are read to
 * their end. The whole agent's doors are tested in test_agent.c.
 */
#include "agent/status.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"

#include <check.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/unit.h"

static struct web *w;
static struct err e;
static uint16_t port;
static struct agent_status status;
static struct procs *procs;
static struct member *member;
static struct lead *lead;
static char dir[64];

static const struct jobspec spec = {.task = TASK_TRAIN, .device = {.per_replica = 1}};

static void begin(bool coordinator)
{
    snprintf(dir, sizeof dir, "/tmp/test-status-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(web_create(NULL, &w, &e), 0);
    ck_assert_int_eq(procs_create(w, &procs, &e), 0);
    struct member_conf mc = {.procs = procs, .spec = &spec, .run_dir = dir, .incarnation = 4};
    ck_assert_int_eq(member_create(&mc, &member, &e), 0);
    struct web_door door = {.host = "127.0.0.1",
        .request_fn = status_request,
        .admit_fn = status_admit,
        .user = &status};
    ck_assert_int_eq(web_open(w, &door, &port, &e), 0);
    struct lead_conf lc = {.web = w,
        .spec = &spec,
        .of = {"secret", "job"},
        .uid = "u",
        .run_dir = dir,
        .self_host = "127.0.0.1",
        .self_port = port,
        .incarnation = 4};
    lead = NULL;
    if (coordinator)
        ck_assert_int_eq(lead_create(&lc, &lead, &e), 0);
    status = (struct agent_status){.token = "secret", .lead = lead, .member = member};
    status_register();
}

static void end(void)
{
    procs_destroy(procs);
    web_destroy(w);
    lead_destroy(lead);
    member_destroy(member);
    io_remove_tree(dir, &e);
}

static size_t claimed_bytes; /* beyond the text, never sent */

/* One request on a connection of its own; the answer's body in *body. */
static int ask(
    const char *method, const char *path, const char *header, const char *text, struct buf *body)
{
    char head[512];
    int n = snprintf(head, sizeof head,
        "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n%s", method,
        path, header, strlen(text) + claimed_bytes, text);
    int fd = io_connect("127.0.0.1", port, clock_ms() + 5000, &e);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(io_send_full(fd, head, (size_t)n, clock_ms() + 5000, &e), 0);
    buf_auto struct buf in;
    buf_init(&in, 1 << 20);
    int64_t until_ms = clock_ms() + 5000;
    for (;;) {
        char piece[4096];
        ssize_t got = recv(fd, piece, sizeof piece, MSG_DONTWAIT);
        if (got > 0)
            buf_add(&in, piece, (size_t)got);
        else if (got == 0 || errno != EAGAIN)
            break;
        ck_assert_int_lt(clock_ms(), until_ms);
        ck_assert_int_eq(web_turn(w, 5, &e), 0);
    }
    io_close(fd);
    const char *at = strstr(buf_cstr(&in), "\r\n\r\n");
    ck_assert_ptr_nonnull(at);
    buf_init(body, 1 << 20);
    buf_str(body, at + 4);
    return (int)strtol(buf_cstr(&in) + 9, NULL, 10);
}

#define BEARER "Authorization: Bearer secret\r\n"
#define DESIRED \
    "{\"generation\":8,\"term\":1,\"replicas\":2,\"suspend\":false,\"release\":false," \
    "\"members\":[]}"

START_TEST(routes)
{
    static const struct {
        const char *method, *path, *header, *text;
        int lead_status, other_status;
    } table[] = {
        {"GET", "/healthz", "", "", 200, 200},
        {"GET", "/readyz", "", "", 503, 503},
        {"GET", "/metrics", "", "", 200, 200},
        {"GET", "/v1/job", "", "", 401, 401},
        {"GET", "/v1/job", "Authorization: Bearer secre\r\n", "", 401, 401},
        {"GET", "/v1/job", "Authorization: Basic secret\r\n", "", 401, 401},
        {"GET", "/v1/job", BEARER, "", 200, 409},
        {"GET", "/v1/job", "X-Llmjob-Token: secret\r\n", "", 200, 409},
        {"PUT", "/v1/desired", "X-Llmjob-Token: no\r\n", DESIRED, 401, 401},
        {"PUT", "/v1/desired", BEARER, "{", 400, 409},
        {"PUT", "/v1/desired", BEARER, "{\"replicas\":\"two\"}", 400, 409},
        {"PUT", "/v1/desired", BEARER, DESIRED, 204, 409},
        {"GET", "/v1/desired", BEARER, "", 404, 404},
        {"GET", "/", BEARER, "", 404, 404},
    };
    for (int coordinator = 0; coordinator < 2; coordinator++) {
        begin(coordinator);
        for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
            buf_auto struct buf body;
            int want = coordinator ? table[i].lead_status : table[i].other_status;
            int got = ask(table[i].method, table[i].path, table[i].header, table[i].text, &body);
            ck_assert_msg(
                got == want, "case %zu, coordinator %d: %d, not %d", i, coordinator, got, want);
        }
        end();
    }
}
END_TEST

/* The answer comes for the head alone: nothing of 4 MiB is awaited, let alone kept. */
START_TEST(a_body_is_not_awaited_without_the_token)
{
    static const struct {
        const char *method, *path, *header;
        int status;
    } table[] = {
        {"PUT", "/v1/desired", "", 401},
        {"PUT", "/v1/desired", "Authorization: Bearer secre\r\n", 401},
        {"PUT", "/v1/desired", "Expect: 100-continue\r\n", 401},
        {"PUT", "/v1/job", BEARER, 404},
        {"POST", "/healthz", "", 404},
    };
    begin(true);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        buf_auto struct buf body;
        claimed_bytes = 4 << 20;
        int got = ask(table[i].method, table[i].path, table[i].header, "", &body);
        claimed_bytes = 0;
        ck_assert_msg(got == table[i].status, "case %zu: %d", i, got);
    }
    end();
}
END_TEST

START_TEST(the_report_follows_the_wish)
{
    begin(true);
    buf_auto struct buf nothing, body;
    ck_assert_int_eq(ask("PUT", "/v1/desired", BEARER, DESIRED, &nothing), 204);
    ck_assert_int_eq(ask("GET", "/v1/job", BEARER, "", &body), 200);
    json_auto struct json *v = NULL;
    struct report r;
    struct arena *a = arena_create(1 << 20);
    ck_assert_int_eq(json_parse(body.data, body.len, &v, &e), 0);
    ck_assert_msg(report_decode(v, a, &r, &e) == 0, "%s", e.text);
    ck_assert_int_eq(r.generation, 8);
    ck_assert_int_eq(r.incarnation, 4);
    ck_assert_int_eq(r.state, JOB_WAITING);
    ck_assert_int_eq(r.connected, 0);
    arena_destroy(a);
    end();
}
END_TEST

START_TEST(metrics_have_their_values)
{
    begin(true);
    buf_auto struct buf body;
    ck_assert_int_eq(ask("GET", "/metrics", "", "", &body), 200);
    ck_assert_ptr_nonnull(strstr(buf_cstr(&body), "llmjob_incarnation 4"));
    ck_assert_ptr_nonnull(strstr(buf_cstr(&body), "llmjob_in_world 0"));
    ck_assert_ptr_nonnull(strstr(buf_cstr(&body), "llmjob_step_sequences 0"));
    end();
}
END_TEST

UNIT_MAIN("status", routes, a_body_is_not_awaited_without_the_token, the_report_follows_the_wish,
    metrics_have_their_values)
