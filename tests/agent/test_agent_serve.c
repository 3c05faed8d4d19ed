/*
 * Goal: an agent that serves drains without losing a request, ends a rank that hangs in a request,
 * guards its doors, and takes from strangers no more memory than its bounds.
 * Method: one real agent as a child process (agents) with the testrank as its rank program; floods
 * of unfinished requests while its resident size is read.
 */
#include "agent/agent.h"

#include "api/names.h"
#include "base/http.h"
#include "base/io.h"
#include "tests/agent/agents.h"
#include "tests/agent/testrank.h"

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static struct err e;

/* The OpenAI port: a status and the body. */
static int chat_with(int max_tokens, const char *more, struct buf *out)
{
    char url[96], body[512];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/v1/chat/completions", agents.serve_port);
    snprintf(body, sizeof body,
        "{\"model\":\"tiny\",\"max_tokens\":%d,\"messages\":[{\"role\":\"user\","
        "\"content\":\"hi\"}]%s}",
        max_tokens, more);
    struct http_request r = {.method = "POST",
        .url = url,
        .content_type = "application/json",
        .body = body,
        .body_len = strlen(body),
        .timeout_ms = 60000};
    return http_once(&(struct http_conf){0}, &r, out, &e);
}

static int chat(int max_tokens, struct buf *out)
{
    return chat_with(max_tokens, "", out);
}

#define TOOLS \
    ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{" \
    "\"type\":\"object\",\"properties\":{}}}}]"
#define F_CALL \
    "\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":" \
    "\"{\\\"x\\\": [1, \\\"\xc3\xa9\\\"]}\"}"
#define G_CALL "\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}"

/* The rank says TESTRANK_CALLS, a byte a token. */
START_TEST(calls_tools)
{
    agents_setup("token_ms=1");
    agents_job("\"serve\":{\"modelName\":\"tiny\",\"drainSeconds\":60}");
    agents_start(0);
    agents_want((struct agents_wish){.replicas = 1, .members = 1});
    agents_until(agents.report.state == JOB_SERVING);
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    ck_assert_int_eq(chat_with(5, TOOLS, &out), 200);
    ck_assert_msg(strstr(out.data, "\"content\":\"So \xc3\xa9:\",\"tool_calls\":[{\"id\":\"") &&
            strstr(out.data, F_CALL "},{\"id\":\"") && strstr(out.data, G_CALL "}]}") &&
            strstr(out.data, "\"finish_reason\":\"tool_calls\""),
        "%s", out.data);
    buf_reset(&out);
    ck_assert_int_eq(chat_with(5, TOOLS ",\"parallel_tool_calls\":false", &out), 200);
    ck_assert_msg(strstr(out.data, F_CALL "}]}") && !strstr(out.data, G_CALL), "%s", out.data);
    buf_reset(&out);
    ck_assert_int_eq(chat_with(5, TOOLS ",\"tool_choice\":\"none\"", &out), 200);
    ck_assert_ptr_null(strstr(out.data, "tool_calls"));
    buf_reset(&out);
    ck_assert_int_eq(chat_with(5, TOOLS ",\"stream\":true", &out), 200);
    ck_assert_msg(strstr(out.data, "\"delta\":{\"content\":\" \xc3\xa9\"}") &&
            strstr(out.data, "\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"") &&
            strstr(out.data, F_CALL "}]}") &&
            strstr(out.data, "\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"") &&
            strstr(out.data, G_CALL "}]}") &&
            strstr(out.data, "\"delta\":{},\"logprobs\":null,\"finish_reason\":\"tool_calls\""),
        "%s", out.data);
    ck_assert_ptr_null(strstr(out.data, "<"));
}
END_TEST

START_TEST(serves_and_drains)
{
    agents_setup("token_ms=2");
    agents_job("\"serve\":{\"modelName\":\"tiny\",\"drainSeconds\":60}");
    agents_start(0);
    agents_want((struct agents_wish){.replicas = 1, .members = 1});
    agents_until(agents.report.state == JOB_SERVING);
    char address[32];
    snprintf(address, sizeof address, "127.0.0.1:%u", agents.serve_port);
    ck_assert_str_eq(agents.report.serve_address, address);
    buf_auto struct buf out, ready;
    buf_init(&out, 1 << 20);
    buf_init(&ready, 1 << 20);
    ck_assert_int_eq(agents_request("GET", "/readyz", NULL, NULL, &ready), 200);
    ck_assert_int_eq(chat(10, &out), 200);
    ck_assert_ptr_nonnull(strstr(out.data, "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x99\x82\"")); /* whole */
    ck_assert_ptr_nonnull(strstr(out.data, "\"completion_tokens\":10"));
    /* Its rank dies: served again, by another incarnation. */
    kill(agents_rank(agents.pid[0]), SIGKILL);
    agents_until(agents.report.state == JOB_SERVING && agents.report.incarnation == 2);
    /* A request in flight (for seconds: it must be seen) outlives the order to go. */
    fflush(NULL);
    pid_t client = fork();
    if (client == 0) {
        buf_reset(&out);
        bool whole = chat(1500, &out) == 200 && strstr(out.data, "\"completion_tokens\":1500");
        _exit(whole ? 0 : 1);
    }
    int st = 0;
    do { /* until the request is in */
        ck_assert_msg(waitpid(client, &st, WNOHANG) == 0,
            "the request ended (%#x) before it was seen in flight", st);
        buf_reset(&ready);
        ck_assert_int_eq(agents_request("GET", "/metrics", NULL, NULL, &ready), 200);
    } while (!strstr(ready.data, "llmjob_requests_in_flight 1"));
    kill(agents.pid[0], SIGTERM);
    waitpid(client, &st, 0);
    ck_assert(WIFEXITED(st) && WEXITSTATUS(st) == 0);
    ck_assert_int_eq(agents_wait(0), 0);
}
END_TEST

/* A hang while it serves has a verdict of its own, in any phase but idle, and is ended. */
START_TEST(a_rank_that_never_ends_rendering_is_named_and_ended)
{
    agents_setup("token_ms=2,fault=render,incarnation=1");
    agents_job("\"serve\":{\"modelName\":\"tiny\",\"drainSeconds\":60}");
    agents_start(0);
    agents_want((struct agents_wish){.replicas = 1, .members = 1});
    agents_until(agents.report.state == JOB_SERVING);
    fflush(NULL);
    pid_t client = fork();
    if (client == 0) {
        buf_auto struct buf out;
        buf_init(&out, 1 << 20);
        _exit(chat(10, &out) == 200);
    }
    agents_until(!strcmp(agents.report.verdict.kind, NAME_REASON_HANG));
    ck_assert_str_eq(agents.report.verdict.operation, "render");
    agents_until(agents.report.state == JOB_SERVING && agents.report.incarnation == 2);
    int st = 0;
    waitpid(client, &st, 0);
    ck_assert(WIFEXITED(st) && WEXITSTATUS(st) == 0); /* it was told that it failed */
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    ck_assert_int_eq(chat(10, &out), 200);
}
END_TEST

static int ready(void)
{
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    return agents_request("GET", "/readyz", NULL, NULL, &out);
}

/* No controller: it serves by its job file, as that was when the pod began, also when its container
 * starts anew. */
START_TEST(serves_alone_what_it_began_with)
{
    agents_setup("token_ms=2");
    agents_job("\"serve\":{\"modelName\":\"tiny\"}");
    agents.alone = true;
    agents_start(0);
    agents_until(agents.report.state == JOB_SERVING);
    ck_assert_int_eq(ready(), 200);
    kill(agents.pid[0], SIGKILL);
    ck_assert_int_eq(agents_wait(0), 128 + SIGKILL);
    agents_job("\"serve\":{\"modelName\":\"huge\"}");
    agents_start(0);
    agents_until(agents.report.state == JOB_SERVING);
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    ck_assert_int_eq(chat(10, &out), 200); /* of tiny */
}
END_TEST

static int dial(void)
{
    int fd = io_connect("127.0.0.1", agents.serve_port, clock_ms() + 1000, &e);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static void ask(int fd, int tokens, const char *stream)
{
    char head[256], body[128];
    int n = snprintf(body, sizeof body,
        "{\"model\":\"tiny\",\"prompt\":\"hi\",\"max_tokens\":%d,\"stream\":%s}", tokens, stream);
    int all = snprintf(head, sizeof head,
        "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", n, body);
    ck_assert_int_eq(write(fd, head, (size_t)all), all);
}

/* Until `last` has come, NULL: to the connection's end. */
static void hear(int fd, const char *last, struct buf *out)
{
    char text[4096];
    buf_reset(out);
    while (!last || !strstr(buf_cstr(out), last)) {
        ssize_t n = read(fd, text, sizeof text);
        if (n <= 0 && !last)
            break;
        ck_assert_int_gt(n, 0);
        ck_assert_int_eq(buf_add(out, text, (size_t)n), 0);
    }
}

/* Asked to go, it is not ready at once; but who has not heard of it is answered for a while, and
 * told to come to another: also who had begun a stream, and asks again when all others are done. */
START_TEST(lingers_for_those_who_have_not_heard)
{
    agents_setup("token_ms=2");
    agents_job("\"serve\":{\"modelName\":\"tiny\",\"drainSeconds\":60}");
    agents.alone = true;
    agents_start(0);
    agents_until(agents.report.state == JOB_SERVING);
    buf_auto struct buf out;
    buf_init(&out, 4 << 20);
    int first = dial(), second = dial();
    ask(first, 1000, "true");
    hear(first, "data: ", &out);
    int64_t began_ms = clock_ms();
    kill(agents.pid[0], SIGTERM);
    while (ready() == 200)
        ck_assert_int_lt(clock_ms() - began_ms, 900);
    ask(second, 700, "false");
    hear(second, NULL, &out);
    ck_assert_msg(!strncmp(out.data, "HTTP/1.1 200 ", 13) &&
            strstr(out.data, "Connection: close") && strstr(out.data, "\"completion_tokens\":700"),
        "%s", out.data);
    hear(first, "0\r\n\r\n", &out);
    ck_assert_int_ge(clock_ms() - began_ms, 1000); /* it drains by now */
    ask(first, 20, "false");
    hear(first, NULL, &out);
    ck_assert_msg(!strncmp(out.data, "HTTP/1.1 200 ", 13) && strstr(out.data, "Connection: close"),
        "%s", out.data);
    close(first);
    close(second);
    ck_assert_int_eq(agents_wait(0), 0);
}
END_TEST

/* A rank that never answers its agent has served nobody, and is named and ended. */
START_TEST(is_ready_when_a_token_has_come)
{
    agents_setup("token_ms=2,fault=first,incarnation=1");
    agents_job("\"serve\":{\"modelName\":\"tiny\"}");
    agents.alone = true;
    agents_start(0);
    bool early = false;
    agents_until((early |= ready() == 200 || agents.report.state == JOB_SERVING) ||
        !strcmp(agents.report.verdict.kind, NAME_REASON_HANG));
    ck_assert(!early);
    ck_assert_str_eq(agents.report.verdict.operation, "render");
    agents_until(agents.report.state == JOB_SERVING && agents.report.incarnation == 2);
    ck_assert_int_eq(ready(), 200);
}
END_TEST

/* It beats, and says that it is idle; but a request waits. */
START_TEST(a_rank_that_passes_over_requests_is_named_and_ended)
{
    agents_setup("token_ms=2,fault=deaf,incarnation=1");
    agents_job("\"serve\":{\"modelName\":\"tiny\"}");
    agents.alone = true;
    agents_start(0);
    agents_until(agents.report.state == JOB_SERVING);
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    ck_assert_int_eq(chat(10, &out), 503);
    agents_until(!strcmp(agents.report.verdict.kind, NAME_REASON_HANG));
    agents_until(agents.report.state == JOB_SERVING && agents.report.incarnation == 2);
    ck_assert_int_eq(chat(10, &out), 200);
}
END_TEST

START_TEST(guards_its_doors)
{
    agents_setup("");
    agents_start(0);
    agents_want((struct agents_wish){.replicas = 0, .members = 1});
    static const struct {
        const char *method, *path, *token; /* "": the pod's */
        int status;
    } table[] = {
        {"GET", "/v1/job", "wrong", 401},
        {"PUT", "/v1/desired", "wrong", 401},
        {"GET", "/v1/job", NULL, 401},
        {"GET", "/healthz", NULL, 200},
        {"GET", "/readyz", NULL, 503},
        {"GET", "/metrics", NULL, 200},
        {"GET", "/nowhere", "", 404},
        {"PUT", "/v1/desired", "", 400},
        {"GET", "/v1/job", "secret", 401}, /* the job's, which nobody sends */
        {"GET", "/v1/job", "", 200},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        buf_auto struct buf out;
        buf_init(&out, 1 << 20);
        const char *body = !strcmp(table[i].method, "PUT") ? "{\"replicas\":-3}" : NULL;
        const char *token = table[i].token && !*table[i].token ? agents_token(0) : table[i].token;
        int status = agents_request(table[i].method, table[i].path, token, body, &out);
        ck_assert_msg(status == table[i].status, "%s %s: %d, not %d", table[i].method,
            table[i].path, status, table[i].status);
    }
}
END_TEST

/* -- strangers -- */

static int64_t resident_kib(pid_t pid)
{
    char path[64], *at;
    buf_auto struct buf text;
    buf_init(&text, 65536);
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    ck_assert_msg(io_read_file(path, 65536, &text, &e) == 0, "%s", e.text);
    at = strstr(buf_cstr(&text), "VmRSS:");
    ck_assert_ptr_nonnull(at);
    return strtoll(at + 6, NULL, 10);
}

static int health(void)
{
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    return agents_request("GET", "/healthz", NULL, NULL, &out);
}

#define FLOOD 300

/* Writes what the socket takes of a head and then of a body that never ends; false when none. */
static bool push(int fd, const char *head, size_t *sent, size_t most)
{
    static char body[65536];
    size_t head_len = strlen(head);
    const char *from = *sent < head_len ? head + *sent : body;
    size_t n = *sent < head_len ? head_len - *sent : sizeof body;
    if (*sent >= most)
        return false;
    ssize_t k = send(fd, from, n < most - *sent ? n : most - *sent, MSG_NOSIGNAL);
    *sent += k > 0 ? (size_t)k : 0;
    return k > 0;
}

/* FLOOD connections that each send a head and `most` bytes; by how much the agent grew, in KiB. */
static int64_t flood(uint16_t port, const char *head, size_t most)
{
    static int fds[FLOOD];
    static size_t sent[FLOOD];
    int64_t before = resident_kib(agents.pid[0]), peak = 0;
    for (int i = 0; i < FLOOD; i++) {
        fds[i] = io_connect("127.0.0.1", port, clock_ms() + AGENTS_WAIT_MS, &e);
        ck_assert_msg(fds[i] >= 0, "%s", e.text);
        ck_assert_int_eq(io_set_nonblocking(fds[i], true, &e), 0);
        sent[i] = 0;
    }
    for (int quiet = 0; quiet < 3;) {
        bool more = false;
        for (int i = 0; i < FLOOD; i++)
            more = push(fds[i], head, &sent[i], most) || more;
        ck_assert_int_eq(health(), 200); /* the agent has had its turn, and answers */
        quiet = more ? 0 : quiet + 1;
        int64_t now = resident_kib(agents.pid[0]);
        peak = now > peak ? now : peak;
    }
    for (int i = 0; i < FLOOD; i++)
        io_close(fds[i]);
    return peak - before;
}

/* The bounds of docs/architecture.md, and what malloc and the sockets' code need beside. */
#ifdef __SANITIZE_ADDRESS__
#define SLACK_KIB (512 << 10) /* it keeps 256 MiB of what was freed */
#else
#define SLACK_KIB (8 << 10)
#endif
#define CONTROL_KIB (28 << 10)
#define API_KIB     (80 << 10)
#define PUT_4_MIB   "PUT /v1/desired HTTP/1.1\r\nHost: x\r\nContent-Length: 4194304\r\n"

/* Unfinished requests, with and without a credential, beyond what the agent may hold. */
START_TEST(strangers_take_no_more_than_the_bound)
{
    agents_setup("token_ms=2");
    agents_job("\"serve\":{\"modelName\":\"tiny\",\"drainSeconds\":60}");
    agents_start(0);
    agents_want((struct agents_wish){.replicas = 1, .members = 1});
    agents_until(agents.report.state == JOB_SERVING);
    int64_t grew = flood(agents.ports[0], PUT_4_MIB "\r\n", 4194304);
    ck_assert_msg(grew < SLACK_KIB, "by strangers: %lld KiB", (long long)grew);
    char head[512];
    snprintf(head, sizeof head, PUT_4_MIB "Authorization: Bearer %s\r\n\r\n", agents_token(0));
    grew = flood(agents.ports[0], head, 4194304);
    ck_assert_int_gt(grew, 8 << 10); /* they are let in */
    ck_assert_msg(grew < CONTROL_KIB + SLACK_KIB, "by friends: %lld KiB", (long long)grew);
    grew = flood(agents.serve_port,
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n", 1048576);
    ck_assert_msg(grew < API_KIB + SLACK_KIB, "by the API: %lld KiB", (long long)grew);
    agents_until(agents.report.state == JOB_SERVING);
}
END_TEST

int main(void)
{
    if (getenv("TESTRANK")) /* started by an agent: be the rank */
        return testrank_main();
    Suite *suite = suite_create("agent_serve");
    TCase *tc = tcase_create("agents");
    tcase_add_checked_fixture(tc, NULL, agents_teardown);
    tcase_set_timeout(tc, 90);
    tcase_add_test(tc, calls_tools);
    tcase_add_test(tc, serves_and_drains);
    tcase_add_test(tc, a_rank_that_never_ends_rendering_is_named_and_ended);
    tcase_add_test(tc, serves_alone_what_it_began_with);
    tcase_add_test(tc, lingers_for_those_who_have_not_heard);
    tcase_add_test(tc, is_ready_when_a_token_has_come);
    tcase_add_test(tc, a_rank_that_passes_over_requests_is_named_and_ended);
    tcase_add_test(tc, guards_its_doors);
    tcase_add_test(tc, strangers_take_no_more_than_the_bound);
    suite_add_tcase(suite, tc);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
