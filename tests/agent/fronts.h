/*
 * fronts: the front on a real socket, its clients, and the test in the rank's place: it reads the
 * frames that the front sends, and answers with tokens of its choice.
 */
#ifndef TESTS_AGENT_FRONTS_H
#define TESTS_AGENT_FRONTS_H

#include "agent/front.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/json.h"
#include "api/limits.h"
#include "api/names.h"
#include "base/mem.h"
#include "base/metric.h"
#include "tests/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define DEADLINE_MS 10000

static struct web *w;
static struct front *f;
static struct err e;
static enum wire_type last_type;
static char last_json[65536];
static int sent;

static inline int rank_takes(void *user, enum wire_type type, const char *json)
{
    (void)user;
    last_type = type;
    snprintf(last_json, sizeof last_json, "%s", json);
    sent++;
    return 0;
}

struct front_client {
    int fd;
    bool closed;
    struct buf in;
};

static inline void client_open(struct front_client *c)
{
    *c = (struct front_client){
        .fd = io_connect("127.0.0.1", front_port(f), clock_ms() + DEADLINE_MS, &e)};
    ck_assert_msg(c->fd >= 0, "%s", e.text);
    ck_assert_int_eq(io_set_nonblocking(c->fd, true, &e), 0);
    buf_init(&c->in, 8 << 20);
}

static inline void client_close(struct front_client *c)
{
    io_close(c->fd);
    c->fd = -1;
    buf_done(&c->in);
}

static inline void turn(struct front_client *c)
{
    ck_assert_int_eq(web_turn(w, 5, &e), 0);
    char piece[65536];
    while (c && c->fd >= 0 && !c->closed) {
        ssize_t n = recv(c->fd, piece, sizeof piece, 0);
        if (n > 0)
            buf_add(&c->in, piece, (size_t)n);
        else if (n == 0 || errno != EAGAIN)
            c->closed = true;
        else
            break;
    }
}

static inline const char *c_in(struct front_client *c)
{
    return c ? buf_cstr(&c->in) : "";
}

#define until(c, condition) \
    do { \
        int64_t until_ms = clock_ms() + DEADLINE_MS; \
        while (!(condition)) { \
            ck_assert_msg(clock_ms() < until_ms, "timed out: %s: %s", #condition, c_in(c)); \
            turn(c); \
        } \
    } while (0)

static inline bool has(struct front_client *c, const char *text)
{
    return strstr(buf_cstr(&c->in), text) != NULL;
}

static const char *as_key = "key";

static inline void ask(struct front_client *c, const char *path, const char *body)
{
    buf_auto struct buf text;
    buf_init(&text, 4 << 20);
    buf_printf(&text,
        "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
        "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
        path, as_key, strlen(body));
    buf_str(&text, body);
    for (size_t at = 0; at < text.len;) { /* a large body needs turns of the loop to drain */
        ssize_t n = send(c->fd, text.data + at, text.len - at, MSG_NOSIGNAL);
        if (n > 0)
            at += (size_t)n;
        else if (errno != EAGAIN)
            return; /* refused while sending */
        turn(c);
    }
}

static inline uint64_t last_id(void)
{
    ck_assert_int_eq(strncmp(last_json, "{\"id\":", 6), 0);
    return strtoull(last_json + 6, NULL, 10);
}

static inline void say(uint64_t id, const char *text, size_t len)
{
    buf_auto struct buf b;
    buf_init(&b, 4096);
    wire_put_token(&b, &(struct wire_token){.request = id, .count = 1, .prompt = 7, .cached = 2});
    ck_assert_int_eq(buf_add(&b, text, len), 0);
    front_frame(f, &(struct wire_frame){WIRE_TOKEN, b.data, (uint32_t)b.len});
}

static inline void tell_logprob(uint64_t id, const char *text, float logprob)
{
    buf_auto struct buf b;
    buf_init(&b, 4096);
    wire_put_token(&b, &(struct wire_token){.request = id, .count = 1});
    wire_put_logprob(&b, &(struct wire_logprob){3, logprob, text, (uint32_t)strlen(text)});
    ck_assert(buf_ok(&b));
    front_frame(f, &(struct wire_frame){WIRE_LOGPROBS, b.data, (uint32_t)b.len});
}

static inline void finish(uint64_t id, const char *reason, const char *message)
{
    char json[256];
    int n = snprintf(json, sizeof json,
        "{\"id\":%llu,\"reason\":\"%s\",\"message\":\"%s\",\"param\":\"%s\","
        "\"prompt_tokens\":7,\"cached_tokens\":2,\"completion_tokens\":%d}",
        (unsigned long long)id, reason, message, *message ? "messages" : "", *message ? 0 : 3);
    struct wire_frame frame = {WIRE_FINISHED, json, (uint32_t)n};
    front_frame(f, &frame);
}

static int max_at_rank = 1, max_turns, max_tokens;
static struct monitor *watch; /* or NULL */
static struct roster *listed; /* or NULL */
static struct api_keys keys;

static inline void serve(const char *model, int max_queue)
{
    static const char lines[] = "key\nother weight=2\n";
    ck_assert_int_eq(keys_read(lines, sizeof lines - 1, &keys, &e), 0);
    ck_assert_int_eq(web_create(&(struct web_conf){.body_limit = 4 << 20}, &w, &e), 0);
    struct front_conf conf = {.web = w,
        .listen_host = "127.0.0.1",
        .model = model,
        .keys = &keys,
        .monitor = watch,
        .roster = listed,
        .max_queue = max_queue,
        .max_at_rank = max_at_rank,
        .max_turns = max_turns,
        .max_queue_tokens = max_tokens,
        .send_fn = rank_takes};
    ck_assert_int_eq(front_create(&conf, &f, &e), 0);
    ck_assert_msg(front_ready(f, 100, WIRE_CALLS_NONE, &e) == 0, "%s", e.text);
    sent = 0;
}

static inline void setup(void)
{
    serve("tiny", 2);
}

static inline void teardown(void)
{
    web_destroy(w);
    front_destroy(f);
}

static inline void serve_again(const char *model, int max_queue)
{
    teardown();
    serve(model, max_queue);
}

static inline void send_head(struct front_client *c, const char *line, const char *header)
{
    char text[512];
    int n = snprintf(text, sizeof text, "%s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", line, header);
    ck_assert_int_eq(io_send_full(c->fd, text, (size_t)n, clock_ms() + 1000, &e), 0);
}

static inline bool metric_is(const char *name_and_value)
{
    buf_auto struct buf text;
    char line[64];
    buf_init(&text, 65536);
    front_measure(f);
    metric_print(&text);
    snprintf(line, sizeof line, "\n%s\n", name_and_value);
    return strstr(buf_cstr(&text), line);
}

#define CHAT "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

#endif
