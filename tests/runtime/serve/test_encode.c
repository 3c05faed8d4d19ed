/*
 * Goal: a rank that reads texts answers each request as if it had come alone, whatever else it
 * reads in the same passes; one with many texts keeps nobody waiting to its end; what is wrong or
 * cancelled ends alone; a model that generates is left to another loop. Method: the rank in a child
 * process, this test as its agent, on tiny-bert-masked of tests/golden.
 */
#include "runtime/serve/encode.h"

#include "api/exitcode.h"
#include "api/limits.h"
#include "base/clock.h"
#include "base/random.h"
#include "runtime/model/device.h"
#include "runtime/serve/requests.h"
#include "tests/runtime/agent.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#define REQUESTS 6

static char folder[64];
static struct agent a;
static struct err e;

static int body(int fd)
{
    static struct door door;
    static struct requests requests = {.door = &door};
    struct infer_conf c = {.door = &door};
    struct orders orders;
    struct err why = {0};
    bool reads = false;
    door_init(&door, fd, NULL);
    int rc;
    if (!(rc = orders_take(&orders, &door, &why)) &&
        !(rc = inbox_create(
              orders.spec->serve.max_sequences + LIMIT_RANK_REQUESTS, &requests.inbox, &why)) &&
        !(rc = door_listen(&door, requests_take, &requests, &why)) &&
        !(rc = device_open(orders.spec->device.resource, orders.local_rank, orders.local_world,
              &c.dev, &c.budget_bytes, &why)) &&
        !(rc = encode_serves(&orders, &reads, &why))) {
        c.orders = &orders;
        c.inbox = requests.inbox;
        rc = reads ? encode_run(&c, &why) : err_set(&why, ERR_BUG, "it generates");
    }
    if (rc && rc != -ERR_DRAINED)
        door_send_failed(&door, &why);
    dev_close(c.dev);
    orders_done(&orders);
    return (int)exit_class_of(rc ? why.code : ERR_NONE);
}

/* With so many adapters beside it, or as so many members, or watched for a label, or NULL. */
static void start_with(const char *model, int adapters, int members, const char *label)
{
    char root[PATH_MAX], path[128];
    golden_folder(folder);
    struct jobspec s = agent_job(TASK_SERVE, "cpu", folder);
    ck_assert_ptr_nonnull(realpath(model, root));
    snprintf(path, sizeof path, "%s/model", folder);
    ck_assert_int_eq(symlink(root, path), 0);
    s.precision = PRECISION_FP32;
    s.serve.model_name = "m";
    s.serve.max_sequences = REQUESTS;
    s.serve.adapters[0] = (struct jobspec_served_adapter){"x", path};
    s.serve.adapter_count = adapters;
    s.serve.classify.alerts[0] = (struct jobspec_alert){
        .name = "a", .label = label, .window_seconds = 1, .share = 0.5, .min_items = 1};
    s.serve.classify.alert_count = label != NULL;
    s.serve.ensemble.members[0].name = "first";
    s.serve.ensemble.members[1].name = "second";
    s.serve.ensemble.member_count = members;
    s.serve.ensemble.average = AVERAGE_PROBABILITIES;
    agent_spawn(&a, body);
    agent_start(&a, &s, folder);
}

static void start(const char *model)
{
    start_with(model, 0, 0, NULL);
}

static void serve(void)
{
    start(GOLDEN "tiny-bert-masked");
    json_destroy(agent_expect(&a, WIRE_LOADED));
    json_auto struct json *v = agent_expect(&a, WIRE_SERVING);
    ck_assert_str_eq(json_str(v, "does", ""), "embed");
    ck_assert_int_eq(json_int(v, "context_length", 0), 48);
}

static void stop_serving(void)
{
    agent_send(&a, WIRE_STOP, "{}");
    json_destroy(agent_expect(&a, WIRE_DONE));
    ck_assert_int_eq(agent_end(&a), EXIT_CLASS_DRAINED);
    golden_remove(folder);
}

struct answer {
    struct buf text;
    char reason[16], message[256];
    int64_t tokens, items;
    int order; /* in which it was finished */
};

/* Frames until n requests, numbered from 1, are finished. */
static void collect(struct answer *o, int n)
{
    for (int i = 0; i < n; i++) {
        o[i] = (struct answer){.order = -1};
        buf_init(&o[i].text, LIMIT_ITEMS_BYTES);
    }
    for (int ended = 0; ended < n;) {
        ck_assert_msg(
            wire_wait(&a.reader, a.fd, clock_ms() + AGENT_MS, &a.frame, &e) >= 0, "%s", e.text);
        struct wire_token head;
        if (a.frame.type == WIRE_TOKEN) {
            ck_assert(wire_take_token(&a.frame, &head) && !head.count);
            ck_assert(head.request >= 1 && head.request <= (uint64_t)n);
            buf_add(&o[head.request - 1].text, a.frame.data + WIRE_TOKEN_BYTES,
                a.frame.len - WIRE_TOKEN_BYTES);
            continue;
        }
        ck_assert_int_eq(a.frame.type, WIRE_FINISHED);
        json_auto struct json *v = NULL;
        ck_assert(!json_parse(a.frame.data, a.frame.len, &v, &e));
        struct answer *of = &o[json_int(v, "id", 0) - 1];
        snprintf(of->reason, sizeof of->reason, "%s", json_str(v, "reason", ""));
        snprintf(of->message, sizeof of->message, "%s", json_str(v, "message", ""));
        of->tokens = json_int(v, "prompt_tokens", -1);
        of->items = json_int(v, "items", -1);
        of->order = ended++;
    }
}

static void free_answers(struct answer *o, int n)
{
    for (int i = 0; i < n; i++)
        buf_done(&o[i].text);
}

/* A request for so many random texts of up to 40 words. */
static void write_request(struct buf *out, int id, int texts, uint64_t *state)
{
    static const char *const words[] = {"the", "of", "anna", "berlin", "in", "x", "was", "ing"};
    buf_printf(out, "{\"id\":%d,\"read\":\"embed\",\"truncate\":-1,\"base64\":%s,\"input\":[", id,
        id % 2 ? "true" : "false");
    for (int i = 0; i < texts; i++) {
        buf_str(out, i ? ",\"" : "\"");
        for (uint64_t n = 1 + random_next(state) % 40; n; n--)
            buf_printf(out, "%s ", words[random_next(state) % 8]);
        buf_char(out, '"');
    }
    buf_str(out, "]}");
}

static void send_request(int id, int texts, uint64_t seed)
{
    buf_auto struct buf request;
    buf_init(&request, 1 << 20);
    write_request(&request, id, texts, &seed);
    agent_send(&a, WIRE_REQUEST, request.data);
}

/* The answers of requests that come together have the bytes of those that come alone; _i: seed. */
START_TEST(company_changes_no_answer)
{
    static const int texts[REQUESTS] = {1, 300, 7, 1, 40, 3};
    struct answer alone[REQUESTS], together[REQUESTS];
    uint64_t seed = sample_setting("LLMJOB_SEED") * 100 + (uint64_t)_i;
    printf("seed %llu\n", (unsigned long long)seed);
    serve();
    for (int i = 0; i < REQUESTS; i++) { /* as number 1 of 1, so each by itself */
        uint64_t state = seed + (uint64_t)i;
        buf_auto struct buf request;
        buf_init(&request, 1 << 20);
        write_request(&request, i + 1, texts[i], &state);
        memcpy(request.data, "{\"id\":1", 7);
        agent_send(&a, WIRE_REQUEST, request.data);
        collect(&alone[i], 1);
        ck_assert_str_eq(alone[i].reason, "stop");
        ck_assert_int_eq(alone[i].items, texts[i]);
    }
    for (int i = 0; i < REQUESTS; i++)
        send_request(i + 1, texts[i], seed + (uint64_t)i);
    collect(together, REQUESTS);
    for (int i = 0; i < REQUESTS; i++) {
        ck_assert_str_eq(together[i].reason, "stop");
        ck_assert_int_eq(together[i].tokens, alone[i].tokens);
        ck_assert_uint_eq(together[i].text.len, alone[i].text.len);
        ck_assert(!memcmp(together[i].text.data, alone[i].text.data, alone[i].text.len));
    }
    ck_assert_int_eq(together[1].order, REQUESTS - 1); /* none waited for the 300 */
    free_answers(alone, REQUESTS);
    free_answers(together, REQUESTS);
    stop_serving();
}
END_TEST

START_TEST(what_is_wrong_ends_alone)
{
    struct answer o[5];
    serve();
    send_request(1, 60, 1);
    agent_send(&a, WIRE_REQUEST, "{\"id\":2,\"read\":\"embed\",\"input\":[\"a\",[95,96]]}");
    agent_send(&a, WIRE_REQUEST, "{\"id\":3,\"read\":\"embed\",\"input\":");
    agent_send(
        &a, WIRE_REQUEST, "{\"id\":4,\"read\":\"embed\",\"input\":[\"a\"],\"dimensions\":99}");
    send_request(5, 2, 2);
    collect(o, 5);
    for (int i = 0; i < 5; i++)
        ck_assert_str_eq(o[i].reason, i == 0 || i == 4 ? "stop" : "error");
    ck_assert_msg(strstr(o[1].message, "text number 1"), "%s", o[1].message);
    ck_assert_msg(strstr(o[2].message, "JSON"), "%s", o[2].message);
    ck_assert_msg(strstr(o[3].message, "dimensions"), "%s", o[3].message);
    free_answers(o, 5);
    stop_serving();
}
END_TEST

/* Before it is begun or while it is read; the others are answered in whole. */
START_TEST(a_cancel_ends_one)
{
    struct answer o[3];
    serve();
    send_request(1, 1500, 1);
    agent_send(&a, WIRE_CANCEL, "{\"id\":1}");
    send_request(2, 3, 2);
    send_request(3, 1500, 3);
    agent_send(&a, WIRE_CANCEL, "{\"id\":3}");
    collect(o, 3);
    ck_assert_str_eq(o[0].reason, "cancelled");
    ck_assert_int_lt(o[0].items, 1500);
    ck_assert_str_eq(o[1].reason, "stop");
    ck_assert_str_eq(o[2].reason, "cancelled");
    ck_assert_int_lt(o[2].items, 1500);
    free_answers(o, 3);
    stop_serving();
}
END_TEST

/* What was accepted is answered before a stop counts. */
START_TEST(a_stop_waits_for_answers)
{
    struct answer o[2];
    serve();
    send_request(1, 100, 1);
    send_request(2, 5, 2);
    agent_send(&a, WIRE_STOP, "{}");
    collect(o, 2);
    ck_assert_str_eq(o[0].reason, "stop");
    ck_assert_str_eq(o[1].reason, "stop");
    free_answers(o, 2);
    json_destroy(agent_expect(&a, WIRE_DONE));
    ck_assert_int_eq(agent_end(&a), EXIT_CLASS_DRAINED);
    golden_remove(folder);
}
END_TEST

START_TEST(a_model_that_generates_is_not_read)
{
    start(GOLDEN "tiny-llama");
    agent_expect_failed(&a, "bug", "it generates");
    agent_end(&a);
    golden_remove(folder);
}
END_TEST

START_TEST(adapters_are_refused)
{
    start_with(GOLDEN "tiny-bert-masked", 1, 0, NULL);
    agent_expect_failed(&a, "user", "spec.serve.adapters: not beside");
    agent_end(&a);
    golden_remove(folder);
}
END_TEST

/* Alerts count labels of texts, and those that the model has. */
START_TEST(labels_that_are_none_are_refused)
{
    start_with(GOLDEN "tiny-bert-masked", 0, 0, "spam");
    agent_expect_failed(&a, "user", "has no labels of texts to watch");
    agent_end(&a);
    golden_remove(folder);
    start_with(GOLDEN "tiny-bert-texts", 0, 0, "neither");
    agent_expect_failed(&a, "user", "alerts[0].label: \"neither\" is none of the");
    agent_end(&a);
    golden_remove(folder);
}
END_TEST

/* The mean of twice the same is that, and is said to be of two. */
START_TEST(an_ensemble_labels_as_one)
{
    static const char ask[] =
        "{\"id\":1,\"read\":\"classify\",\"input\":[\"the\",\"anna in berlin\",\"x\"]}";
    double p[2][9];
    for (int members = 0; members <= 2; members += 2) {
        struct answer o;
        int n = 0;
        start_with(GOLDEN "tiny-bert-texts", 0, members, NULL);
        json_destroy(agent_expect(&a, WIRE_LOADED));
        json_auto struct json *v = agent_expect(&a, WIRE_SERVING), *said = NULL;
        ck_assert(json_int(v, "members", -1) == members && json_int(v, "of", -1) == members);
        agent_send(&a, WIRE_REQUEST, ask);
        collect(&o, 1);
        ck_assert_str_eq(o.reason, "stop");
        buf_auto struct buf list;
        buf_init(&list, 1 << 16);
        buf_printf(&list, "[%s]", buf_cstr(&o.text));
        ck_assert(!json_parse(list.data, list.len, &said, &e));
        json_each (item, said)
            json_each (x, json_get(item, "probs"))
                p[members / 2][n++] = json_number_value(x);
        ck_assert_int_eq(n, 9);
        free_answers(&o, 1);
        stop_serving();
    }
    for (int i = 0; i < 9; i++)
        ck_assert_double_eq_tol(p[0][i], p[1][i], 1e-6);
}
END_TEST

START_TEST(embeddings_have_no_mean)
{
    start_with(GOLDEN "tiny-bert-masked", 0, 2, NULL);
    agent_expect_failed(&a, "user", "spec.serve.ensemble: not of a model that embeds");
    agent_end(&a);
    golden_remove(folder);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("encode");
    TCase *tc = tcase_create("encode");
    tcase_add_loop_test(tc, company_changes_no_answer, 0, 1);
    const TTest *const tests[] = {what_is_wrong_ends_alone, a_cancel_ends_one,
        a_stop_waits_for_answers, a_model_that_generates_is_not_read, adapters_are_refused,
        labels_that_are_none_are_refused, an_ensemble_labels_as_one, embeddings_have_no_mean};
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(tc, tests[i]);
    tcase_set_timeout(tc, 60);
    suite_add_tcase(suite, tc);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
