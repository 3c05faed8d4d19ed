/*
 * rank: a serving rank in a child process, over the tiny byte model, and the test as its agent. One
 * of each program.
 */
#ifndef TESTS_RUNTIME_SERVE_RANK_H
#define TESTS_RUNTIME_SERVE_RANK_H

#include "runtime/serve/infer.h"

#include "api/exitcode.h"
#include "api/limits.h"
#include "base/clock.h"
#include "runtime/door/orders.h"
#include "runtime/model/device.h"
#include "runtime/serve/requests.h"
#include "tests/runtime/agent.h"
#include "tests/runtime/bytes.h"
#include "tests/unit.h"

#include <endian.h>
#include <sys/mman.h>

static char folder[64];
static struct agent a;
static struct err e;
static const char *const resources[] = {"cpu", "nvidia.com/gpu"};
static int resource;                   /* of the rank that serves */
static struct wire_page *page;         /* its heartbeat */
static _Atomic uint64_t *cancelled_at; /* of its beats */

static inline void setup(void)
{
    golden_folder(folder);
    bytes_model(folder);
    page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(page, MAP_FAILED);
    cancelled_at = (void *)((char *)page + 4096);
}

static inline void teardown(void)
{
    golden_remove(folder);
    munmap(page, 8192);
}

/* How far the rank is when it knows of a cancel. */
static inline bool take_noting(void *user, const struct wire_frame *f)
{
    bool taken = requests_take(user, f);
    if (f->type == WIRE_CANCEL)
        *cancelled_at = page->beats;
    return taken;
}

static inline int body(int fd)
{
    static struct door door;
    static struct requests requests = {.door = &door};
    struct infer_conf c = {.door = &door};
    struct orders orders;
    struct err why = {0};
    door_init(&door, fd, page);
    int rc;
    if (!(rc = orders_take(&orders, &door, &why)) &&
        !(rc = inbox_create(
              orders.spec->serve.max_sequences + LIMIT_RANK_REQUESTS, &requests.inbox, &why)) &&
        !(rc = door_listen(&door, take_noting, &requests, &why)) &&
        !(rc = device_open(orders.spec->device.resource, orders.local_rank, orders.local_world,
              &c.dev, &c.budget_bytes, &why))) {
        c.orders = &orders;
        c.inbox = requests.inbox;
        rc = infer_run(&c, &why);
    }
    if (rc && rc != -ERR_DRAINED)
        door_send_failed(&door, &why);
    dev_close(c.dev);
    orders_done(&orders);
    return (int)exit_class_of(rc ? why.code : ERR_NONE);
}

/* A rank that serves the model under path in F32; more: of spec.serve, behind a comma. */
static inline void serve_with(const char *path, int context, const char *more)
{
    static struct jobspec s;
    static char text[2048];
    struct arena *arena = arena_create(1 << 20);
    json_auto struct json *v = NULL;
    snprintf(text, sizeof text,
        "{\"apiVersion\":\"llmjob.dev/v1alpha1\",\"kind\":\"LLMJob\",\"metadata\":{\"name\":\"j\","
        "\"namespace\":\"n\",\"uid\":\"u\",\"generation\":1},\"spec\":{\"precision\":\"FP32\","
        "\"device\":{\"resource\":\"%s\"},"
        "\"storage\":[{\"name\":\"s\",\"scratch\":\"1Gi\",\"mountPath\":\"/tmp\"}],"
        "\"model\":{\"source\":\"%s\"},\"serve\":{\"modelName\":\"m\",\"contextLength\":%d%s}}}",
        resources[resource], path, context, more);
    ck_assert_msg(!json_parse(text, strlen(text), &v, &e), "%s", e.text);
    ck_assert_msg(!jobspec_decode(v, arena, &s, &e), "%s", e.text);
    agent_spawn(&a, body);
    agent_start(&a, &s, folder);
    json_destroy(agent_expect(&a, WIRE_LOADED));
    json_destroy(v);
    v = agent_expect(&a, WIRE_SERVING);
    ck_assert_int_eq(json_int(v, "context_length", 0), context);
    arena_destroy(arena);
}

static inline void serve(const char *path, int context)
{
    serve_with(path, context, "");
}

static inline void serve_bytes(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s/model", folder);
    serve(path, 64);
}

static struct json *adapters; /* what the last WIRE_ADAPTERS says; the test's to destroy */

static inline void next_frame(void)
{
    do {
        ck_assert_msg(
            wire_wait(&a.reader, a.fd, clock_ms() + AGENT_MS, &a.frame, &e) >= 0, "%s", e.text);
        if (a.frame.type == WIRE_ADAPTERS) {
            json_destroy(adapters);
            ck_assert(!json_parse(a.frame.data, a.frame.len, &adapters, &e));
        }
    } while (a.frame.type == WIRE_ADAPTERS);
}

static inline void stop_serving(void)
{
    agent_send(&a, WIRE_STOP, "{}");
    next_frame();
    ck_assert_int_eq(a.frame.type, WIRE_DONE);
    ck_assert_int_eq(agent_end(&a), EXIT_CLASS_DRAINED);
}

struct answer {
    char text[8192];
    size_t len;
    char reason[16], message[256];
    int prompt, cached, completion, frames, status;
    int said_prompt, said_cached; /* with its text */
    int told;                     /* logprobs of so many tokens, the prompt's included */
    struct told {
        uint32_t count; /* of the answer's, at that token; 0: of the prompt */
        int n;
        struct wire_logprob of[1 + LIMIT_LOGPROBS]; /* without their bytes, but the first one */
        char first;
    } tokens[64];
};

static inline void take_logprobs(struct answer *o)
{
    struct told *t = &o->tokens[o->told++];
    uint32_t at = WIRE_TOKEN_BYTES;
    struct wire_token head;
    ck_assert(wire_take_token(&a.frame, &head) && o->told <= 64 && !head.hidden);
    t->count = head.count;
    while (wire_take_logprob(&a.frame, &at, &t->of[t->n]))
        ck_assert_int_le(++t->n, LIMIT_LOGPROBS);
    ck_assert_uint_eq(at, a.frame.len);
    ck_assert_uint_eq(t->of[0].len, 1); /* tokens are bytes */
    t->first = *t->of[0].bytes;
}

static inline void take_text(struct answer *o)
{
    struct wire_token head;
    ck_assert_uint_lt(o->len + a.frame.len, sizeof o->text);
    ck_assert(wire_take_token(&a.frame, &head));
    o->said_prompt = (int)head.prompt;
    o->said_cached = (int)head.cached;
    memcpy(o->text + o->len, a.frame.data + WIRE_TOKEN_BYTES, a.frame.len - WIRE_TOKEN_BYTES);
    o->len += a.frame.len - WIRE_TOKEN_BYTES;
    o->frames++;
}

static inline int take_end(struct answer *o)
{
    ck_assert_int_eq(a.frame.type, WIRE_FINISHED);
    json_auto struct json *v = NULL;
    ck_assert(!json_parse(a.frame.data, a.frame.len, &v, &e));
    snprintf(o->reason, sizeof o->reason, "%s", json_str(v, "reason", ""));
    snprintf(o->message, sizeof o->message, "%s", json_str(v, "message", ""));
    o->status = (int)json_int(v, "status", -1);
    o->prompt = (int)json_int(v, "prompt_tokens", -1);
    o->cached = (int)json_int(v, "cached_tokens", -1);
    o->completion = (int)json_int(v, "completion_tokens", -1);
    return (int)json_int(v, "id", 0);
}

static inline int token_of(void)
{
    uint64_t to;
    memcpy(&to, a.frame.data, 8);
    return (int)le64toh(to);
}

/* Frames of request `id` until it is finished; cancel_after: frames after which it is cancelled, 0:
 * never. */
static inline struct answer collect(int id, int cancel_after)
{
    struct answer o = {0};
    for (next_frame(); a.frame.type != WIRE_FINISHED; next_frame()) {
        ck_assert_int_eq(token_of(), id);
        if (a.frame.type == WIRE_LOGPROBS) {
            take_logprobs(&o);
            continue;
        }
        ck_assert_int_eq(a.frame.type, WIRE_TOKEN);
        take_text(&o);
        if (o.frames == cancel_after) {
            char text[64];
            snprintf(text, sizeof text, "{\"id\":%d}", id);
            agent_send(&a, WIRE_CANCEL, text);
        }
    }
    ck_assert_int_eq(take_end(&o), id);
    ck_assert(!o.frames || (o.said_prompt == o.prompt && o.said_cached == o.cached));
    return o;
}

static inline struct answer ask(int id, const char *rest)
{
    char text[1024];
    snprintf(text, sizeof text, "{\"id\":%d,%s}", id, rest);
    agent_send(&a, WIRE_REQUEST, text);
    return collect(id, 0);
}

#endif
