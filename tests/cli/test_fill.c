/*
 * Goal: what the API server, the coordinator and kubectl say lands on the screen where it belongs.
 * Method: an object with every status field, a report and event lists are filled in and compared;
 * then objects with nothing, or with wrong types, which must fill without harm.
 */
#include "cli/fill.h"

#include <check.h>
#include <math.h>

#define NOW 1790000000000

static struct arena *arena;
static struct screen s;
static struct json *tree;

static void setup(void)
{
    arena = arena_create(1 << 20);
    fill_init(&s, NOW);
    tree = NULL;
}

static void teardown(void)
{
    json_destroy(tree);
    arena_destroy(arena);
}

static const struct json *parse(const char *text)
{
    struct err e = {.text = ""};
    json_destroy(tree);
    ck_assert_msg(!json_parse(text, strlen(text), &tree, &e), "%s", e.text);
    return tree;
}

static const char object[] =
    "{\"kind\": \"LLMJob\", \"metadata\": {\"name\": \"kjv\", \"namespace\": \"lab\"}, "
    "\"spec\": {\"replicas\": 3, \"train\": {}}, \"status\": {\"task\": \"Train\", \"state\": "
    "\"Training\", "
    "\"readyReplicas\": 2, \"replicas\": 3, \"restarts\": 4, \"address\": \"a:1\", "
    "\"conditions\": [{\"type\": \"Ready\", \"status\": \"False\", \"message\": \"one pod is "
    "missing\"}], "
    "\"layout\": {\"summary\": \"dp2\", \"ranks\": 2, \"reason\": \"why\", \"balance\": \"6 2\"}, "
    "\"progress\": {\"step\": 5, \"steps\": 9, \"tokens\": 77, \"loss\": 3.5, \"firstLoss\": "
    "4, \"validationF1\": 0.75, \"validationMatch\": 0.5, \"tokensPerSecond\": 10, "
    "\"lossScale\": 512, \"skippedSteps\": 7, "
    "\"eta\": \"2026-09-21T14:14:20Z\"}, "
    "\"checkpoint\": {\"step\": 4, \"path\": \"/c\", \"time\": \"2026-09-21T14:13:00Z\"}, "
    "\"verdict\": {\"kind\": \"Hang\", \"rank\": 1, \"message\": \"m\", \"since\": "
    "\"2026-09-21T14:13:10Z\"}, "
    "\"attempts\": [{\"number\": 2, \"cause\": \"LostPeer\", \"ended\": "
    "\"2026-09-21T14:13:00Z\", \"replica\": 1}]}}";

START_TEST(test_object)
{
    struct err e = {.text = ""};
    ck_assert_msg(!fill_object(&s, parse(object), arena, &e), "%s", e.text);
    ck_assert_str_eq(s.name, "kjv");
    ck_assert_str_eq(s.namespace_, "lab");
    ck_assert_str_eq(s.state, "Training");
    ck_assert_str_eq(s.why, "one pod is missing");
    ck_assert_str_eq(s.layout, "dp2");
    ck_assert_str_eq(s.report.layout_reason, "why");
    ck_assert_str_eq(s.report.layout_balance, "6 2");
    ck_assert_int_eq(s.ready, 2);
    ck_assert_int_eq(s.replicas, 3);
    ck_assert_int_eq(s.report.restarts, 4);
    ck_assert_int_eq(s.report.step, 5);
    ck_assert_double_eq(s.report.loss, 3.5);
    ck_assert(isnan(s.report.validation_loss));
    ck_assert_double_eq(s.report.validation_f1, 0.75);
    ck_assert_double_eq(s.report.validation_match, 0.5);
    ck_assert_double_eq(s.report.loss_scale, 512);
    ck_assert_int_eq(s.report.skipped, 7);
    ck_assert_int_eq(s.report.eta_seconds, 60);
    ck_assert_int_eq(s.report.checkpoint_step, 4);
    ck_assert_int_eq(s.report.checkpoint_ms, NOW - 20000);
    ck_assert_str_eq(s.report.verdict.kind, "Hang");
    ck_assert_int_eq(s.report.verdict.replica, -1);
    ck_assert_int_eq(s.report.attempt_count, 1);
    ck_assert_str_eq(s.report.attempts[0].cause, "LostPeer");
    ck_assert_int_eq(s.report.attempts[0].rank, -1);
    ck_assert_str_eq(s.report.serve_address, "a:1");
}
END_TEST

START_TEST(test_new_object)
{
    struct err e = {.text = ""};
    const struct json *v = parse("{\"kind\": \"LLMJob\", \"metadata\": {\"name\": \"a\"}, "
                                 "\"spec\": {\"serve\": {}}}");
    ck_assert_int_eq(fill_object(&s, v, arena, &e), 0);
    ck_assert_str_eq(s.state, "Pending");
    ck_assert_str_eq(s.task, "Serve");
    ck_assert_int_eq(s.replicas, 1);
    ck_assert_int_eq(s.report.checkpoint_step, -1);
    ck_assert_int_eq(s.report.state, JOB_WAITING);
}
END_TEST

START_TEST(test_wrong_types)
{
    struct err e = {.text = ""};
    const struct json *v =
        parse("{\"kind\": \"LLMJob\", \"metadata\": 4, \"spec\": [], \"status\": "
              "{\"conditions\": {}, "
              "\"progress\": 7, \"attempts\": [1, {}], \"verdict\": \"x\", \"task\": 9}}");
    ck_assert_int_eq(fill_object(&s, v, arena, &e), 0);
    ck_assert_str_eq(s.name, "");
    ck_assert_int_eq(s.report.attempt_count, 2);
    ck_assert_int_eq(fill_object(&s, parse("{\"kind\": \"Pod\"}"), arena, &e), -ERR_DATA);
}
END_TEST

static const struct {
    const char *conditions;
    enum job_state state;
    const char *why;
} ends[] = {
    {"{\"type\": \"Complete\", \"status\": \"True\"}", JOB_COMPLETE, ""},
    {"{\"type\": \"Complete\", \"status\": \"False\"}", JOB_WAITING, ""},
    {"{\"type\": \"Ready\", \"status\": \"False\", \"message\": \"no\"}, "
     "{\"type\": \"Failed\", \"status\": \"True\", \"message\": \"bad line 3\"}",
        JOB_FAILED, "bad line 3"},
};

START_TEST(test_ends)
{
    struct err e;
    char text[512];
    snprintf(text, sizeof text, "{\"kind\": \"LLMJob\", \"status\": {\"conditions\": [%s]}}",
        ends[_i].conditions);
    ck_assert_int_eq(fill_object(&s, parse(text), arena, &e), 0);
    ck_assert_int_eq(s.report.state, ends[_i].state);
    ck_assert_str_eq(s.why, ends[_i].why);
}
END_TEST

START_TEST(test_report_wins)
{
    struct err e;
    struct report r;
    fill_object(&s, parse(object), arena, &e);
    report_init(&r);
    r.step = 6;
    fill_report(&s, &r);
    ck_assert_int_eq(s.report.step, 6);
    ck_assert_str_eq(
        s.report.serve_address, "a:1"); /* the cluster's address, not the pod's own none */
}
END_TEST

START_TEST(test_events)
{
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    buf_str(&b, "{\"items\": [");
    /* Newest first, more than there is room for. */
    for (int i = SCREEN_EVENTS + 20; i-- > 0;)
        buf_printf(&b,
            "{\"reason\": \"R%d\", \"type\": \"%s\", \"count\": %d, "
            "\"lastTimestamp\": \"2026-09-21T14:%02d:%02dZ\"}%s",
            i, i % 2 ? "Warning" : "Normal", i, i / 60, i % 60, i ? ", " : "]}");
    fill_events(&s, parse(b.data));
    ck_assert_int_eq(s.event_count, SCREEN_EVENTS);
    ck_assert_str_eq(s.events[0].reason, "R20");
    ck_assert_str_eq(s.events[SCREEN_EVENTS - 1].reason, "R83");
    ck_assert(s.events[1].warning && !s.events[0].warning);
    for (int i = 1; i < s.event_count; i++)
        ck_assert_int_gt(s.events[i].ms, s.events[i - 1].ms);
    fill_events(&s,
        parse("{\"items\": [{\"eventTime\": \"2026-09-21T14:13:20.5Z\", "
              "\"series\": {\"count\": 7}}, {}, 5]}"));
    ck_assert_int_eq(s.event_count, 3);
    ck_assert_int_eq(s.events[2].count, 7);
    fill_events(&s, NULL);
    ck_assert_int_eq(s.event_count, 0);
}
END_TEST

START_TEST(test_trials)
{
    struct err e = {.text = ""};
    ck_assert_msg(
        !fill_object(&s,
            parse("{\"kind\": \"LLMJob\", \"spec\": {\"train\": {}, \"search\": {}}, "
                  "\"status\": {\"trials\": {\"total\": 12, \"running\": 1, \"succeeded\": 2, "
                  "\"failed\": 1, \"best\": {\"index\": 1}, \"table\": [{\"index\": 1, "
                  "\"rung\": 0, \"state\": \"Succeeded\", \"value\": 2.5, \"parameters\": "
                  "\"seed 3\"}, {\"index\": 4, \"state\": \"Running\"}]}}}"),
            arena, &e),
        "%s", e.text);
    ck_assert(s.searches);
    ck_assert_int_eq(s.ready, 3);
    ck_assert_int_eq(s.replicas, 12);
    ck_assert_int_eq(s.trial_count, 2);
    ck_assert_int_eq(s.trial_best, 1);
    ck_assert_str_eq(s.trials[0].parameters, "seed 3");
    ck_assert(s.trials[0].value == 2.5 && isnan(s.trials[1].value));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fill");
    TCase *t = tcase_create("fill");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_object);
    tcase_add_test(t, test_new_object);
    tcase_add_test(t, test_wrong_types);
    tcase_add_loop_test(t, test_ends, 0, (int)(sizeof ends / sizeof *ends));
    tcase_add_test(t, test_report_wins);
    tcase_add_test(t, test_events);
    tcase_add_test(t, test_trials);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
