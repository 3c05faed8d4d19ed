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

/* serve: what else is asked of it; items: lines to recommend from, or NULL. */
static void start_with(const char *model, struct jobspec_serve serve, const char *items)
{
    char root[PATH_MAX], path[128], listed[128];
    golden_folder(folder);
    struct jobspec s = agent_job(TASK_SERVE, "cpu", folder);
    snprintf(listed, sizeof listed, "%s/items.jsonl", folder);
    if (items) {
        ck_assert(!io_write_file(listed, items, strlen(items), 0600, &e));
        serve.recommend.items = listed;
        serve.recommend.text_weight = 1;
    }
    ck_assert_ptr_nonnull(realpath(model, root));
    snprintf(path, sizeof path, "%s/model", folder);
    ck_assert_int_eq(symlink(root, path), 0);
    s.precision = PRECISION_FP32;
    s.serve = serve;
    s.serve.model_name = "m";
    s.serve.max_sequences = REQUESTS;
    agent_spawn(&a, body);
    agent_start(&a, &s, folder);
}

static void start(const char *model)
{
    start_with(model, (struct jobspec_serve){0}, NULL);
}

static void start_recommending(const char *model)
{
    static const char items[] =
        "{\"id\":\"a\",\"text\":\"anna\"}\n{\"id\":\"b\",\"text\":\"berlin\"}\n";
    start_with(model, (struct jobspec_serve){0}, items);
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

static struct jobspec_serve watches(const char *label)
{
    return (struct jobspec_serve){
        .classify = {
            .alerts =
                {{.name = "a", .label = label, .window_seconds = 1, .share = 0.5, .min_items = 1}},
            .alert_count = 1}};
}

static struct jobspec_serve of_members(int members)
{
    return (struct jobspec_serve){.ensemble = {.members = {{.name = "first"}, {.name = "second"}},
                                      .member_count = members,
                                      .average = AVERAGE_PROBABILITIES}};
}

/* What goes with models that go on with texts; and alerts, which count labels of texts that the
 * model has. */
START_TEST(what_it_cannot_do_is_refused)
{
    const struct {
        const char *model, *says;
        struct jobspec_serve serve;
    } table[] = {
        {GOLDEN "tiny-bert-masked", "spec.serve.adapters: not beside",
            {.adapters = &(struct jobspec_served_adapter){"x", folder}, .adapter_count = 1}},
        {GOLDEN "tiny-bert-masked", "spec.serve.speculation: not of",
            {.speculation = {.method = SPECULATION_NGRAM, .tokens = 4}}},
        {GOLDEN "tiny-bert-masked", "spec.serve.kvCache: a model that reads whole texts has no",
            {.kv_cache = KV_CACHE_BF16}},
        {GOLDEN "tiny-bert-masked", "spec.serve.retrieval: a model that reads whole texts",
            {.retrieval = {.documents = folder, .encoder = {.source = folder}}}},
        {GOLDEN "tiny-bert-masked", "spec.serve.ensemble: not of a model that embeds",
            of_members(2)},
        {GOLDEN "tiny-bert-masked", "has no labels of texts to watch", watches("spam")},
        {GOLDEN "tiny-bert-texts", "alerts[0].label: \"neither\" is none of the",
            watches("neither")},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        start_with(table[i].model, table[i].serve, NULL);
        agent_expect_failed(&a, "user", table[i].says);
        agent_end(&a);
        golden_remove(folder);
    }
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
        start_with(GOLDEN "tiny-bert-texts", of_members(members), NULL);
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

/* Items beside the model: a request of ids alone has no text to be read. */
START_TEST(items_are_recommended)
{
    struct answer o[2];
    start_recommending(GOLDEN "tiny-bert-masked");
    json_destroy(agent_expect(&a, WIRE_LOADED));
    json_auto struct json *v = agent_expect(&a, WIRE_SERVING);
    ck_assert_str_eq(json_str(v, "does", ""), "recommend");
    agent_send(&a, WIRE_REQUEST, "{\"id\":1,\"read\":\"recommend\",\"history\":[\"b\"]}");
    agent_send(&a, WIRE_REQUEST,
        "{\"id\":2,\"read\":\"recommend\",\"history\":[{\"text\":\"berlin\"}],\"top\":1}");
    collect(o, 2);
    ck_assert_str_eq(o[0].reason, "stop");
    ck_assert_int_eq(o[0].items, 0);
    ck_assert_msg(!strncmp(buf_cstr(&o[0].text), "{\"id\":\"a\",", 10), "%s", o[0].text.data);
    ck_assert_ptr_null(strstr(o[0].text.data, "\"id\":\"b\""));
    ck_assert_int_eq(o[1].items, 1);
    ck_assert_msg(!strncmp(buf_cstr(&o[1].text), "{\"id\":\"b\",", 10), "%s", o[1].text.data);
    free_answers(o, 2);
    stop_serving();
}
END_TEST

START_TEST(who_embeds_nothing_recommends_nothing)
{
    static const char *const models[] = {GOLDEN "tiny-llama", GOLDEN "tiny-bert-texts"};
    for (int i = 0; i < 2; i++) {
        start_recommending(models[i]);
        agent_expect_failed(&a, "user", "does not embed texts");
        agent_end(&a);
        golden_remove(folder);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("encode");
    TCase *tc = tcase_create("encode");
    tcase_add_loop_test(tc, company_changes_no_answer, 0, 1);
    const TTest *const tests[] = {what_is_wrong_ends_alone, a_cancel_ends_one,
        a_stop_waits_for_answers, a_model_that_generates_is_not_read, what_it_cannot_do_is_refused,
        an_ensemble_labels_as_one, items_are_recommended, who_embeds_nothing_recommends_nothing};
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
