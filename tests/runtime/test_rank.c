/*
 * Goal: a rank follows its agent: it opens by prepare and start, takes stop and checkpoint as
 * flags, ends at once when the agent is gone, whatever it is doing, says why it failed, and ends
 * then too when its device or NCCL holds it. Requests that wait are text, bounded, and what exceeds
 * the bound is told at once (kind: what strangers make us hold). Method: the rank in a child
 * process, this test as its agent; the simulated NCCL's abort never comes back.
 * needs: cuda threads
 */
#include "runtime/rank.h"

#include "api/exitcode.h"
#include "api/names.h"
#include "runtime/serve/sched.h"
#include "tests/runtime/agent.h"
#include "tests/runtime/bytes.h"
#include "tests/unit.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>

static char folder[64];
static struct agent a;
static struct rank r; /* in the child */

static void setup(void)
{
    golden_folder(folder);
    bytes_model(folder);
}

static void teardown(void)
{
    golden_remove(folder);
}

static const char *resource = "cpu";

static void spec_of(struct jobspec *s, enum task task)
{
    static char text[2048];
    static struct arena *arena;
    json_auto struct json *v = NULL;
    struct err e = {0};

    arena = arena ? arena : arena_create(1 << 20);
    snprintf(text, sizeof text,
        "{\"apiVersion\":\"llmjob.dev/"
        "v1alpha1\",\"kind\":\"LLMJob\",\"metadata\":{\"name\":\"j\","
        "\"namespace\":\"n\",\"uid\":\"u\",\"generation\":1},\"spec\":{"
        "\"device\":{\"resource\":\"%s\"},\"storage\":[{"
        "\"name\":\"s\",\"scratch\":\"1Gi\","
        "\"mountPath\":\"/tmp\"}],\"model\":{\"source\":\"%s/model\"},%s}}",
        resource, folder,
        task == TASK_SERVE
            ? "\"serve\":{\"modelName\":\"m\"}"
            : "\"checkpoint\":{\"path\":\"/tmp/x\"},\"train\":{\"data\":{\"train\":\"/"
              "tmp/c\"},\"steps\":5,"
              "\"sequenceLength\":16,\"batchSequences\":4,\"output\":\"/tmp/o\"}");
    ck_assert_msg(!json_parse(text, strlen(text), &v, &e), "%s", e.text);
    ck_assert_msg(!jobspec_decode(v, arena, s, &e), "%s", e.text);
}

/* Opens, reports flags as they come, until both were seen. */
static int body_flags(int fd)
{
    struct err e = {0};

    if (rank_open(&r, fd, NULL, &e)) {
        rank_send_failed(&r, &e);
        return (int)exit_class_of(e.code);
    }
    while (!atomic_load(&r.checkpoint) || !atomic_load(&r.stop))
        usleep(500);
    rank_send_fields(&r, WIRE_STEP,
        (struct rank_field[]){{"step", 12, NULL}, {"loss", 0.5, NULL},
            {"grad_norm", (double)NAN, NULL}, {"text", 0, "a \"b\""}, {NULL, 0, NULL}},
        &e);
    rank_send_done(&r, 12, NULL, &e);
    rank_close(&r);
    return EXIT_CLASS_DRAINED;
}

/* Opens and is stuck for ever. */
static int body_stuck(int fd)
{
    struct err e = {0};

    if (rank_open(&r, fd, NULL, &e))
        return 1;
    rank_send_fields(
        &r, WIRE_LOADED, (struct rank_field[]){{"steps", 1, NULL}, {NULL, 0, NULL}}, &e);
    for (;;)
        pause();
}

/* Opens a serving rank and echoes the ids of requests as they are taken. */
static int body_requests(int fd)
{
    struct err e = {0};

    if (rank_open(&r, fd, NULL, &e))
        return 1;
    for (;;) {
        struct request *q = sched_take(r.sched, 1000);

        if (!q && atomic_load(&r.stop))
            break;
        if (!q)
            continue;
        rank_send_fields(&r, WIRE_FINISHED,
            (struct rank_field[]){{"id", (double)q->id, NULL}, {NULL, 0, NULL}}, &e);
        sched_finish(r.sched, q);
    }
    rank_send_done(&r, 0, "/out", &e);
    rank_close(&r);
    return EXIT_CLASS_DONE;
}

/* Opens a serving rank that serves nobody. */
static int body_serves_nobody(int fd)
{
    struct err e = {0};

    if (rank_open(&r, fd, NULL, &e))
        return 1;
    rank_send_fields(
        &r, WIRE_SERVING, (struct rank_field[]){{"context_length", 1, NULL}, {NULL, 0, NULL}}, &e);
    for (;;)
        pause();
}

static void log_to_file(void)
{
    char path[128];
    int fd;

    snprintf(path, sizeof path, "%s/log", folder);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0 || dup2(fd, 2) < 0)
        _exit(99);
}

static void log_says(const char *word)
{
    char path[128], text[4096];
    size_t n;
    FILE *f;

    snprintf(path, sizeof path, "%s/log", folder);
    f = fopen(path, "re");
    ck_assert_ptr_nonnull(f);
    n = fread(text, 1, sizeof text - 1, f);
    text[n] = 0;
    fclose(f);
    ck_assert_msg(strstr(text, word) != NULL, "the log lacks \"%s\": %s", word, text);
}

/* Fails, and is held by what it gives back. */
static int body_held(int fd)
{
    struct err e = {0};

    log_to_file();
    if (rank_open(&r, fd, NULL, &e))
        return 1;
    err_set(&e, ERR_DEVICE, "the first reason");
    rank_end_within(&r, 300, &e);
    err_set(&e, ERR_PEER, "the second reason");
    rank_end_within(&r, 1, &e);
    for (;;)
        pause();
}

/* Fails to open as the program does, which gives back what it has. */
static int body_opens(int fd)
{
    struct err e = {0};
    int rc;

    log_to_file();
    rc = rank_open(&r, fd, NULL, &e);
    if (rc)
        rank_send_failed(&r, &e);
    rank_close(&r);
    return rc ? (int)exit_class_of(e.code) : EXIT_CLASS_BUG;
}

START_TEST(opens_and_takes_flags)
{
    struct jobspec s;
    struct json *v;

    spec_of(&s, TASK_TRAIN);
    agent_spawn(&a, body_flags);
    agent_start(&a, &s, folder);
    agent_send(&a, WIRE_CHECKPOINT, "{}");
    agent_send(&a, WIRE_STOP, "{}");
    v = agent_expect(&a, WIRE_STEP);
    ck_assert_int_eq(json_int(v, "step", 0), 12);
    ck_assert(json_num(v, "loss", 0) == 0.5);
    ck_assert(json_is_null(json_get(v, "grad_norm")));
    ck_assert_str_eq(json_str(v, "text", ""), "a \"b\"");
    json_destroy(v);
    v = agent_expect(&a, WIRE_DONE);
    ck_assert(json_bool(v, "drained", false));
    json_destroy(v);
    ck_assert_int_eq(agent_end(&a), EXIT_CLASS_DRAINED);
}
END_TEST

START_TEST(agent_gone_ends_a_stuck_rank)
{
    struct jobspec s;
    int64_t start;

    spec_of(&s, TASK_TRAIN);
    agent_spawn(&a, body_stuck);
    agent_start(&a, &s, folder);
    json_destroy(agent_expect(&a, WIRE_LOADED));
    start = clock_ms();
    ck_assert_int_eq(agent_end(&a), EXIT_CLASS_PEER);
    ck_assert_int_lt(clock_ms() - start, 5000);
}
END_TEST

START_TEST(requests_reach_the_queue)
{
    struct jobspec s;
    struct json *v;

    spec_of(&s, TASK_SERVE);
    agent_spawn(&a, body_requests);
    agent_start(&a, &s, folder);
    for (int i = 1; i <= 3; i++) {
        char text[64];

        snprintf(text, sizeof text, "{\"id\":%d,\"prompt\":\"x\"}", i);
        agent_send(&a, WIRE_REQUEST, text);
        v = agent_expect(&a, WIRE_FINISHED);
        ck_assert_int_eq(json_int(v, "id", 0), i);
        json_destroy(v);
    }
    agent_send(&a, WIRE_CANCEL, "{\"id\":99}");
    agent_send(&a, WIRE_STOP, "{}");
    v = agent_expect(&a, WIRE_DONE);
    ck_assert_str_eq(json_str(v, "output", ""), "/out");
    json_destroy(v);
    ck_assert_int_eq(agent_end(&a), EXIT_CLASS_DONE);
}
END_TEST

static int64_t resident_kib(pid_t pid)
{
    char path[64], line[256];
    int64_t kib = -1;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    f = fopen(path, "re");
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
    struct jobspec s;
    struct json *v;
    buf_auto struct buf text;
    int64_t before;

    buf_init(&text, LIMIT_FRAME_BYTES);
    spec_of(&s, TASK_SERVE);
    agent_spawn(&a, body_serves_nobody);
    agent_start(&a, &s, folder);
    json_destroy(agent_expect(&a, WIRE_SERVING));
    before = resident_kib(a.pid);
    ck_assert_int_gt(before, 0);
    for (int i = 1; i <= 40; i++) {
        buf_reset(&text);
        buf_printf(&text, "{\"id\":%d,\"messages\":[", i);
        while (text.len < LIMIT_REQUEST_BYTES)
            buf_str(&text, "{\"a\":0},");
        buf_str(&text, "{}]}");
        agent_send(&a, WIRE_REQUEST, buf_cstr(&text));
        if (i <= LIMIT_RANK_REQUESTS)
            continue;
        v = agent_expect(&a, WIRE_FINISHED);
        ck_assert_int_eq(json_int(v, "id", 0), i);
        ck_assert_str_eq(json_str(v, "reason", ""), "error");
        json_destroy(v);
    }
#ifndef __SANITIZE_ADDRESS__ /* it keeps what was freed */
    ck_assert_int_lt(resident_kib(a.pid) - before, 16 << 10);
#endif
    ck_assert_int_eq(agent_end(&a), EXIT_CLASS_PEER);
}
END_TEST

static void expect_failed(struct agent *from, const char *class, const char *word)
{
    struct json *v = agent_expect(from, WIRE_FAILED);

    ck_assert_str_eq(json_str(v, "class", ""), class);
    ck_assert_msg(
        strstr(json_str(v, "message", ""), word) != NULL, "%s", json_str(v, "message", ""));
    json_destroy(v);
}

START_TEST(a_held_rank_ends_in_time)
{
    struct jobspec s;
    int64_t start;

    spec_of(&s, TASK_TRAIN);
    agent_spawn(&a, body_held);
    agent_start(&a, &s, folder);
    start = clock_ms();
    expect_failed(&a, "device", "the first reason");
    ck_assert_int_eq(agent_wait(&a), EXIT_CLASS_DEVICE);
    ck_assert_int_ge(clock_ms() - start, 300);
    log_says("the device does not let go");
    log_says("the first reason");
}
END_TEST

/* Of two ranks whose communicator does not form, and cannot be given up. */
START_TEST(a_rank_held_while_connecting_ends_in_time)
{
    struct jobspec s;
    struct agent both[2];
    int port[2];
    char text[512];

    setenv("LLMJOB_CUDASIM_NCCL", "refuses,stuck", 1);
    resource = "nvidia.com/gpu";
    spec_of(&s, TASK_TRAIN);
    for (int i = 0; i < 2; i++) {
        agent_spawn(&both[i], body_opens);
        port[i] = agent_prepare(&both[i], &s, folder);
    }
    for (int i = 0; i < 2; i++) {
        snprintf(text, sizeof text,
            "{\"rank\":%d,\"world\":2,\"ranks\":["
            "{\"rank\":0,\"replica\":0,\"host\":\"127.0.0.1\",\"port\":%d},"
            "{\"rank\":1,\"replica\":1,\"host\":\"127.0.0.1\",\"port\":%d}]}",
            i, port[0], port[1]);
        agent_send(&both[i], WIRE_START, text);
    }
    for (int i = 0; i < 2; i++)
        expect_failed(&both[i], "peer", "forming a communicator: NCCL: ");
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(agent_wait(&both[i]), EXIT_CLASS_PEER);
    log_says("the device does not let go");
}
END_TEST

static void refused(enum wire_type type, const char *json, const char *class)
{
    struct json *v;

    agent_spawn(&a, body_flags);
    agent_send(&a, type, json);
    v = agent_expect(&a, WIRE_FAILED);
    ck_assert_str_eq(json_str(v, "class", ""), class);
    json_destroy(v);
    ck_assert_int_eq(agent_end(&a), exit_class_of(err_code_parse(class)));
}

START_TEST(bad_openings_are_refused)
{
    refused(WIRE_START, "{}", "bug");
    refused(WIRE_PREPARE, "{\"job_file\":\"/nowhere/job.json\"}", "data");
    refused(WIRE_PREPARE, "{\"job_file\":\"/dev/null\"}", "data");
}
END_TEST

START_TEST(devices_by_resource)
{
    static const struct {
        const char *resource;
        int local;
        const char *kind;
        int index;
    } rows[] = {{"cpu", 0, "cpu", 0}, {"cpu", 3, "cpu", 0}, {"nvidia.com/gpu", 0, "cuda", 0},
        {"nvidia.com/gpu", 7, "cuda", 7}, {"nvidia.com/mig-1g.10gb", 2, "cuda", 2}};
    static const char *const others[] = {
        "amd.com/gpu", "nvidia.com/gpux", "nvidia.com/", "", "gpu"};
    const char *kind;
    struct err e = {0};
    int index;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert(!rank_device(rows[i].resource, rows[i].local, &kind, &index, &e));
        ck_assert_str_eq(kind, rows[i].kind);
        ck_assert_int_eq(index, rows[i].index);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        ck_assert_int_eq(rank_device(others[i], 0, &kind, &index, &e), -ERR_USER);
        ck_assert_ptr_nonnull(strstr(e.text, "spec.device.resource"));
        ck_assert_ptr_nonnull(strstr(e.text, others[i]));
    }
}
END_TEST

static void device_refused(const char *name, const char *class, const char *word)
{
    struct jobspec s;
    struct json *v;

    resource = name;
    spec_of(&s, TASK_TRAIN);
    agent_spawn(&a, body_flags);
    agent_start(&a, &s, folder);
    v = agent_expect(&a, WIRE_FAILED);
    ck_assert_str_eq(json_str(v, "class", ""), class);
    ck_assert_msg(
        strstr(json_str(v, "message", ""), word) != NULL, "%s", json_str(v, "message", ""));
    ck_assert_ptr_null(strchr(json_str(v, "message", ""), '\n'));
    json_destroy(v);
    ck_assert_int_eq(agent_end(&a), exit_class_of(err_code_parse(class)));
    resource = "cpu";
}

/* Never silently on the processor. */
START_TEST(a_missing_device_is_told)
{
    device_refused("amd.com/gpu", "user", "amd.com/gpu");
    setenv("LLMJOB_CUDASIM_DEVICES", "0", 1);
    device_refused("nvidia.com/gpu", "device", "GPU");
    setenv("LLMJOB_CUDASIM_DRIVER", "0", 1);
    device_refused("nvidia.com/gpu", "device", "driver");
    setenv(NAME_ENV_COLL, "magic", 1);
    device_refused("cpu", "user", NAME_ENV_COLL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rank");
    TCase *c = tcase_create("rank");
    SRunner *runner = srunner_create(s);
    int failed;

    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, opens_and_takes_flags);
    tcase_add_test(c, agent_gone_ends_a_stuck_rank);
    tcase_add_test(c, a_held_rank_ends_in_time);
    tcase_add_test(c, a_rank_held_while_connecting_ends_in_time);
    tcase_add_test(c, requests_reach_the_queue);
    tcase_add_test(c, waiting_requests_are_bounded);
    tcase_add_test(c, bad_openings_are_refused);
    tcase_add_test(c, devices_by_resource);
    tcase_add_test(c, a_missing_device_is_told);
    suite_add_tcase(s, c);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
