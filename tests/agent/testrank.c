/*
 * testrank: a rank that computes nothing: it speaks api/wire.h as the real one does (handshake,
 * heartbeat page, frames, exit classes), keeps a checkpoint, and meets the other ranks at a barrier
 * over TCP every step, so that a dead or stuck rank holds up the others as a collective would.
 * Faults come from the environment:
 *
 *   TESTRANK="steps=40,step_ms=20,every=5,fault=crash,rank=1,step=12,incarnation=1"
 *
 * fault: crash (SIGSEGV), kill (SIGKILL), hang, user, data, peer, slow, unready; it strikes rank
 * `rank` at `step` in `incarnation` (0: any). The others' network knows who hangs. A serving
 * testrank answers each request with its max_tokens tokens of a text with multi-byte characters cut
 * in the middle. With the fault "render" it never comes back from the first of a client's, with
 * "first" from its agent's own; "deaf", it passes over those of clients and says that it is idle;
 * "busy", over its agent's own, and beats as if it decoded.
 */
#include "tests/agent/testrank.h"

#include "agent/canary.h"
#include "base/buf.h"
#include "base/clock.h"
#include "api/exitcode.h"
#include "base/io.h"
#include "api/jobspec.h"
#include "base/json.h"
#include "base/mem.h"
#include "api/wire.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WAIT_MS     30000
#define MAX_WORLD   64
#define MAX_SERVING 64

static struct {
    int64_t steps, step_ms, every, fault_rank, fault_step, fault_incarnation, token_ms;
    char fault[16];
} script = {.steps = 40, .step_ms = 10, .every = 5, .fault_rank = -1, .token_ms = 2};

static struct wire_reader reader;
static struct wire_page *page;
static struct err e;
static struct jobspec spec;
static int64_t incarnation;
static int listener = -1, rank, world, peers[MAX_WORLD];
static bool stopping;

static int64_t option(const char *text, const char *key, int64_t def)
{
    char pattern[32];
    snprintf(pattern, sizeof pattern, ",%s=", key);
    const char *at = strstr(text, pattern);
    return at ? strtoll(at + strlen(pattern), NULL, 10) : def;
}

static void read_script(void)
{
    char text[512];
    const char *env = getenv("TESTRANK");
    snprintf(text, sizeof text, ",%s", env ? env : "");
    script.steps = option(text, "steps", script.steps);
    script.step_ms = option(text, "step_ms", script.step_ms);
    script.every = option(text, "every", script.every);
    script.token_ms = option(text, "token_ms", script.token_ms);
    script.fault_rank = option(text, "rank", -1);
    script.fault_step = option(text, "step", 0);
    script.fault_incarnation = option(text, "incarnation", 0);
    const char *fault = strstr(text, ",fault=");
    if (fault)
        snprintf(
            script.fault, sizeof script.fault, "%.*s", (int)strcspn(fault + 7, ","), fault + 7);
}

static void tell(enum wire_type type, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void tell(enum wire_type type, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    wire_send(WIRE_FD_SOCKET, type, text, (uint32_t)n, clock_ms() + WAIT_MS, &e);
}

static _Noreturn void fail(enum err_code code, const char *message)
{
    fprintf(stderr, "rank %d: %s\n", rank, message);
    tell(WIRE_FAILED, "{\"class\":\"%s\",\"message\":\"%s\"}", err_code_name(code), message);
    _exit((int)exit_class_of(code));
}

static void beat(enum wire_phase phase, int64_t step)
{
    atomic_store(&page->phase, phase);
    atomic_store(&page->step, step);
    atomic_store(&page->beat_ms, clock_ms());
    atomic_fetch_add(&page->beats, 1);
}

static void send_frame(enum wire_type type, const char *json)
{
    if (wire_send(WIRE_FD_SOCKET, type, json, (uint32_t)strlen(json), clock_ms() + WAIT_MS, &e))
        _exit(EXIT_CLASS_PEER);
}

static struct json *expect(enum wire_type type)
{
    struct wire_frame f;
    struct json *v = NULL;
    if (wire_wait(&reader, WIRE_FD_SOCKET, clock_ms() + WAIT_MS, &f, &e))
        _exit(EXIT_CLASS_PEER);
    if (f.type == WIRE_STOP)
        _exit(EXIT_CLASS_DRAINED);
    if (f.type != type || json_parse(f.data, f.len, &v, &e))
        fail(ERR_BUG, "an unexpected frame");
    return v;
}

static void strike(int64_t step)
{
    char note[64];
    snprintf(note, sizeof note, "NCCL: rank %d is missing", (int)script.fault_rank);
    if (rank != script.fault_rank && step == script.fault_step && !strcmp(script.fault, "hang"))
        wire_page_note(page, note);
    if (rank != script.fault_rank || step != script.fault_step ||
        (script.fault_incarnation && script.fault_incarnation != incarnation))
        return;
    fprintf(stderr, "fault %s at step %lld\n", script.fault, (long long)step);
    if (!strcmp(script.fault, "crash"))
        raise(SIGSEGV);
    if (!strcmp(script.fault, "kill"))
        raise(SIGKILL);
    if (!strcmp(script.fault, "hang"))
        for (;;)
            pause();
    if (!strcmp(script.fault, "user"))
        fail(ERR_USER, "spec.train.steps: nonsense");
    if (!strcmp(script.fault, "data"))
        fail(ERR_DATA, "/data/train.jsonl:7: invalid UTF-8");
    if (!strcmp(script.fault, "peer"))
        fail(ERR_PEER, "a peer is gone");
    if (!strcmp(script.fault, "retry"))
        fail(ERR_RETRY, "try again");
}

/* Exchanges one byte with everyone; returns whether anyone wants to stop. */
static bool barrier(int64_t step, bool stop)
{
    unsigned char mine = stop, all = stop;
    int64_t deadline_ms = clock_ms() + 10 * WAIT_MS;
    atomic_fetch_add(&page->collective, 1);
    atomic_store(&page->operation, 4);
    atomic_store(&page->in_collective, 1);
    beat(WIRE_PHASE_COLLECTIVE, step);
    for (int r = 1; rank == 0 && r < world; r++) {
        atomic_store(&page->waiting_for, r);
        if (io_recv_full(peers[r], &mine, 1, deadline_ms, &e))
            fail(ERR_PEER, "a peer is gone");
        all |= mine;
    }
    for (int r = 1; rank == 0 && r < world; r++)
        if (io_send_full(peers[r], &all, 1, deadline_ms, &e))
            fail(ERR_PEER, "a peer is gone");
    if (rank) {
        atomic_store(&page->waiting_for, 0);
        if (io_send_full(peers[0], &mine, 1, deadline_ms, &e) ||
            io_recv_full(peers[0], &all, 1, deadline_ms, &e))
            fail(ERR_PEER, "a peer is gone");
    }
    atomic_store(&page->waiting_for, -1);
    atomic_store(&page->in_collective, 0);
    return all;
}

static void connect_world(const struct json *start)
{
    rank = (int)json_int(start, "rank", -1);
    world = (int)json_int(start, "world", 0);
    if (rank < 0 || world < 1 || world > MAX_WORLD || rank >= world ||
        json_count(json_get(start, "ranks")) != (size_t)world)
        fail(ERR_BUG, "a malformed start");
    const struct json *zero = json_first(json_get(start, "ranks"));
    unsigned char id = (unsigned char)rank;
    for (int i = 1; rank == 0 && i < world; i++) {
        int fd = io_accept(listener, clock_ms() + WAIT_MS, &e);
        if (fd < 0 || io_recv_full(fd, &id, 1, clock_ms() + WAIT_MS, &e))
            fail(ERR_PEER, "a peer did not connect");
        peers[id] = fd;
    }
    if (rank == 0)
        return;
    peers[0] = io_connect(
        json_str(zero, "host", ""), (uint16_t)json_int(zero, "port", 0), clock_ms() + WAIT_MS, &e);
    if (peers[0] < 0 || io_send_full(peers[0], &id, 1, clock_ms() + WAIT_MS, &e))
        fail(ERR_PEER, "rank 0 does not accept");
}

/* -- training -- */

static void number_path(const char *name, char *out, size_t size)
{
    snprintf(out, size, "%s/%s", spec.checkpoint.path, name);
}

static int64_t read_number(const char *name)
{
    char path[LIMIT_PATH_BYTES];
    buf_auto struct buf text;
    buf_init(&text, 64);
    number_path(name, path, sizeof path);
    return io_read_file(path, 63, &text, &e) ? 0 : strtoll(buf_cstr(&text), NULL, 10);
}

static void write_number(const char *name, int64_t n)
{
    char path[LIMIT_PATH_BYTES], text[24];
    number_path(name, path, sizeof path);
    int len = snprintf(text, sizeof text, "%lld\n", (long long)n);
    if (io_write_file(path, text, (size_t)len, 0644, &e))
        fail(ERR_RETRY, e.text);
}

static void save(int64_t step)
{
    beat(WIRE_PHASE_CHECKPOINT, step);
    if (rank)
        return;
    if (read_number("incarnation") > incarnation)
        fail(ERR_DRAINED, "a newer incarnation has begun");
    write_number("step", step);
    tell(WIRE_SAVED, "{\"step\":%lld,\"path\":\"%s\"}", (long long)step, spec.checkpoint.path);
}

/* Takes what the agent sent meanwhile. */
static void poll_agent(void)
{
    struct wire_frame f;
    struct pollfd p = {.fd = WIRE_FD_SOCKET, .events = POLLIN};
    while (poll(&p, 1, 0) > 0 && wire_read(&reader, WIRE_FD_SOCKET, &e) > 0)
        ;
    while (wire_next(&reader, &f, &e) > 0)
        stopping |= f.type == WIRE_STOP;
}

static _Noreturn void finish(int64_t step, bool drained)
{
    save(step);
    barrier(step, false);
    tell(WIRE_DONE, drained ? "{\"step\":%lld,\"drained\":true}" : "{\"step\":%lld}",
        (long long)step);
    _exit(drained ? EXIT_CLASS_DRAINED : EXIT_CLASS_DONE);
}

static _Noreturn void train(void)
{
    io_mkdirs(spec.checkpoint.path, 0755, &e);
    if (rank == 0)
        write_number("incarnation", incarnation);
    int64_t step = read_number("step");
    beat(WIRE_PHASE_LOAD, step);
    tell(WIRE_LOADED,
        "{\"parameters\":1,\"memory_bytes\":1000,\"resumed_step\":%lld,\"steps\":%lld,"
        "\"device\":\"none\"}",
        (long long)step, (long long)script.steps);
    barrier(step, false);
    while (step < script.steps) {
        beat(WIRE_PHASE_FORWARD, step);
        usleep((useconds_t)script.step_ms * 1000);
        strike(step + 1);
        poll_agent();
        if (barrier(step, stopping))
            finish(step, true);
        step++;
        if (rank == 0)
            tell(WIRE_STEP,
                "{\"step\":%lld,\"loss\":%.3f,\"tokens\":%lld,\"tokens_per_second\":100}",
                (long long)step, 4.0 / (double)(step + 1), (long long)step * 100);
        if (step % script.every == 0)
            save(step);
    }
    finish(step, false);
}

/* -- serving -- */

static struct {
    uint64_t id;
    int64_t left, made;
    const char *text; /* said over and over, or once where tools are there */
    const char *reason;
} serving[MAX_SERVING];
static int serving_count;
static bool busy; /* with nothing */

static void end_request(int i, const char *reason)
{
    tell(WIRE_FINISHED,
        "{\"id\":%llu,\"reason\":\"%s\",\"prompt_tokens\":7,\"completion_tokens\":%lld}",
        (unsigned long long)serving[i].id, reason, (long long)serving[i].made);
    fprintf(stderr, "request %llu %s after %lld\n", (unsigned long long)serving[i].id, reason,
        (long long)serving[i].made);
    serving[i] = serving[--serving_count];
}

static void send_token(int i)
{
    buf_auto struct buf b;
    buf_init(&b, WIRE_TOKEN_BYTES + 1);
    wire_put_token(&b,
        &(struct wire_token){
            .request = serving[i].id, .count = (uint32_t)serving[i].made, .prompt = 7});
    buf_add(&b, serving[i].text + serving[i].made % (int64_t)strlen(serving[i].text), 1);
    wire_send(WIRE_FD_SOCKET, WIRE_TOKEN, b.data, (uint32_t)b.len, clock_ms() + WAIT_MS, &e);
    serving[i].made++;
}

static void begin_request(uint64_t id, const struct json *v)
{
    static const char text[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x99\x82"; /* 1, 2, 3 and 4 bytes */
    bool calls = json_get(v, "tools");
    serving[serving_count].id = id;
    serving[serving_count].made = 0;
    serving[serving_count].text = calls ? TESTRANK_CALLS : text;
    serving[serving_count].reason = calls ? "stop" : "length";
    serving[serving_count++].left =
        calls ? (int64_t)strlen(TESTRANK_CALLS) : json_int(v, "max_tokens", 1);
}

static void take_frames(void)
{
    struct wire_frame f;
    while (wire_next(&reader, &f, &e) > 0) {
        json_auto struct json *v = NULL;
        if (json_parse(f.data, f.len, &v, &e))
            fail(ERR_BUG, "a frame is no JSON");
        uint64_t id = (uint64_t)json_int(v, "id", 0);
        stopping |= f.type == WIRE_STOP;
        const char *fault = script.fault_incarnation == incarnation ? script.fault : "";
        if (f.type == WIRE_REQUEST && !strcmp(fault, id == CANARY_ID ? "first" : "render")) {
            beat(WIRE_PHASE_SERVE_RENDER, 0);
            for (;;)
                pause();
        }
        bool passed_over = !strcmp(fault, id == CANARY_ID ? "busy" : "deaf");
        busy |= passed_over && id == CANARY_ID;
        if (f.type == WIRE_REQUEST && serving_count < MAX_SERVING && !passed_over)
            begin_request(id, v);
        for (int i = 0; f.type == WIRE_CANCEL && i < serving_count; i++)
            if (serving[i].id == id) {
                end_request(i, "cancelled");
                break;
            }
    }
}

static _Noreturn void serve(void)
{
    send_frame(WIRE_LOADED, "{\"parameters\":1,\"memory_bytes\":1000,\"device\":\"none\"}");
    send_frame(WIRE_SERVING, "{\"model\":\"test\",\"context_length\":4096,\"calls\":\"hermes\"}");
    while (!stopping || serving_count) {
        beat(serving_count || busy ? WIRE_PHASE_SERVE_DECODE : WIRE_PHASE_SERVE_IDLE, 0);
        struct pollfd p = {.fd = WIRE_FD_SOCKET, .events = POLLIN};
        int ready = poll(&p, 1, serving_count ? (int)script.token_ms : 200);
        if (ready > 0 && wire_read(&reader, WIRE_FD_SOCKET, &e) < 0)
            _exit(EXIT_CLASS_PEER);
        take_frames();
        for (int i = serving_count - 1; i >= 0; i--) {
            send_token(i);
            if (--serving[i].left <= 0)
                end_request(i, serving[i].reason);
        }
    }
    send_frame(WIRE_DONE, "{\"step\":0,\"drained\":true}");
    _exit(EXIT_CLASS_DRAINED);
}

int testrank_main(void)
{
    read_script();
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, WIRE_FD_PAGE, 0);
    if (page == MAP_FAILED)
        return EXIT_CLASS_USER;
    atomic_store(&page->waiting_for, -1);
    atomic_store(&page->share, TESTRANK_SHARE);
    atomic_store(&page->magic, WIRE_PAGE_MAGIC);
    wire_reader_init(&reader);
    struct json *v = expect(WIRE_PREPARE), *job = NULL;
    incarnation = json_int(v, "incarnation", 0);
    struct arena *a = arena_create(1 << 20);
    if (json_read_file(json_str(v, "job_file", ""), 1 << 20, &job, &e) ||
        jobspec_decode(job, a, &spec, &e))
        fail(ERR_USER, e.text);
    uint16_t port = 0;
    listener = io_listen(json_str(v, "bind_host", "127.0.0.1"), 0, &port, &e);
    if (listener < 0)
        fail(ERR_RETRY, e.text);
    tell(WIRE_READY, "{\"port\":%u}", port);
    json_destroy(v);
    beat(WIRE_PHASE_CONNECT, 0);
    v = expect(WIRE_START);
    if (spec.task == TASK_SERVE)
        serve();
    connect_world(v);
    train();
}
