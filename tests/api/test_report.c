/*
 * Goal: what crosses between controller and coordinator arrives as it was sent, and nothing
 * oversized does. Method: full and empty structs make round trips that are compared field by field
 * and by their bytes; each field is then damaged in turn (wrong type, beyond its bound) and must be
 * refused with its path; allocations fail in turn.
 * needs: faults
 */
#include "api/report.h"

#include "tests/unit.h"

#include <math.h>

static struct arena *arena;

static void setup(void)
{
    arena = arena_create(4 << 20);
    ck_assert_ptr_nonnull(arena);
}

static void teardown(void)
{
    arena_destroy(arena);
}

static struct json *parse(const char *text)
{
    struct json *v;
    struct err e = {.text = ""};
    ck_assert_msg(!json_parse(text, strlen(text), &v, &e), "%s: %s", text, e.text);
    return v;
}

static struct desired_member members[] = {
    {0, "j-0", "u0", "n0", "10.0.0.1:7070"},
    {1, "j-1", "u1", "n1", ""},
};
static struct attempt attempts[] = {
    {3, 1000, 2000, "RankFailed", 1, 1, "n1", "peer", 12, 2, "line\nline \"quoted\" \xe2\x82\xac"},
    {4, 2000, 0, "", -1, -1, "", "", 15, 0, ""},
};
static struct report_rank ranks[] = {
    {0, 0, "n0", "forward", 15, 30, 0},
    {1, 1, "n1", "allreduce", 15, 12000, 6},
};

static struct report_alert alerts[] = {
    {"burst", true, 1790000000000, 1780000000000, ""},
    {"calm", false, 0, 0, "the source does not answer"},
};

static struct report full_report(void)
{
    struct report r;
    report_init(&r);
    r.generation = 7;
    r.term = 3;
    r.incarnation = 4;
    r.state = JOB_RUNNING;
    r.world_replicas = r.connected = r.ranks = r.data_parallel = 2;
    r.tensor = r.pipeline = r.context = r.expert = r.zero_stage = 1;
    r.memory_per_rank_bytes = 9007199254740991;
    r.layout_reason = "dp2 needs 3 MiB of 2; dp1 x tp2 is taken";
    r.layout_balance = "a step's 8 sequences: 6 2";
    r.step = 15;
    r.steps = 60;
    r.tokens = 11520;
    r.held_out = 11;
    r.loss = 3.0625;
    r.first_loss = 4.1;
    r.first_validation_loss = 4.2;
    r.validation_f1 = 0.8125;
    r.validation_match = 0.6875;
    r.tokens_per_second = 1625.25;
    r.loss_scale = 32768;
    r.skipped = 2;
    r.last_step_ms = 1790000000123;
    r.eta_seconds = 90;
    r.loss_history[0] = 4.1;
    r.loss_history[1] = NAN;
    r.loss_history[2] = 3.0625;
    r.loss_history_count = 3;
    r.checkpoint_step = 10;
    r.checkpoint_ms = 1790000000000;
    r.checkpoint_path = "/data/ckpt/j/step-10";
    r.checkpoint_damaged = "step-00000012.damaged";
    r.damaged_bytes = 5LL << 30;
    r.checkpoint_in_memory = "none: they take 30 MiB";
    r.restarts = 1;
    r.verdict =
        (struct verdict){"Hang", 1, 1, "n1", "allreduce", "rank 1 is silent", 1790000000111};
    r.attempts = attempts;
    r.attempt_count = 2;
    r.rank_rows = ranks;
    r.rank_row_count = 2;
    r.failure = ERR_DATA;
    r.failure_reason = "BadData";
    r.failure_message = "/data/t.jsonl: line 3: not JSON";
    r.serve_address = "10.0.0.1:8000";
    r.alerts = alerts;
    r.alert_count = 2;
    return r;
}

static const char *encode(const struct report *r, struct buf *b)
{
    struct err e;
    buf_init(b, LIMIT_REPORT_BYTES);
    ck_assert_int_eq(report_encode(r, b, &e), 0);
    return b->data;
}

static void assert_round_trip(const struct report *in, struct report *out)
{
    struct err e = {.text = ""};
    struct buf a buf_auto, b buf_auto;
    struct json *v = parse(encode(in, &a));
    ck_assert_msg(!report_decode(v, arena, out, &e), "%s", e.text);
    json_destroy(v);
    ck_assert_str_eq(encode(out, &b), a.data);
}

START_TEST(test_layout_in_short)
{
    struct report r;
    char text[REPORT_LAYOUT_BYTES];
    report_init(&r);
    report_layout(&r, text);
    ck_assert_str_eq(text, "");
    r.ranks = 8;
    r.data_parallel = r.tensor = r.pipeline = 2;
    r.context = 1;
    report_layout(&r, text);
    ck_assert_str_eq(text, "dp2 x tp2 x pp2");
    r.tensor = r.pipeline = r.zero_stage = 1;
    report_layout(&r, text);
    ck_assert_str_eq(text, "dp2 zero1");
    r.expert = 4;
    report_layout(&r, text);
    ck_assert_str_eq(text, "dp2 x ep4 zero1");
    r.ranks = r.data_parallel = r.tensor = r.pipeline = r.context = r.zero_stage = INT32_MAX;
    r.expert = INT32_MAX;
    report_layout(&r, text);
    ck_assert_str_eq(text,
        "dp2147483647 x tp2147483647 x pp2147483647 x cp2147483647 x ep2147483647 zero2147483647");
}
END_TEST

START_TEST(test_report_round_trip)
{
    struct report in = full_report(), out;
    assert_round_trip(&in, &out);
    ck_assert_int_eq(out.state, JOB_RUNNING);
    ck_assert_int_eq(out.memory_per_rank_bytes, 9007199254740991);
    ck_assert_int_eq(out.zero_stage, 1);
    ck_assert_str_eq(out.layout_reason, in.layout_reason);
    ck_assert_str_eq(out.layout_balance, in.layout_balance);
    ck_assert(out.rank_rows[0].share == 0 && out.rank_rows[1].share == 6);
    ck_assert_double_eq(out.loss, 3.0625);
    ck_assert_int_eq(out.held_out, 11);
    ck_assert(isnan(out.validation_loss));
    ck_assert_double_eq(out.validation_f1, 0.8125);
    ck_assert_double_eq(out.validation_match, 0.6875);
    ck_assert_int_eq(out.loss_history_count, 3);
    ck_assert(isnan(out.loss_history[1]));
    ck_assert_double_eq(out.loss_history[2], 3.0625);
    ck_assert_str_eq(out.attempts[0].log_tail, attempts[0].log_tail);
    ck_assert_int_eq(out.attempts[1].replica, -1);
    ck_assert_int_eq(out.rank_rows[1].silent_ms, 12000);
    ck_assert_int_eq(out.failure, ERR_DATA);
    ck_assert_str_eq(out.verdict.message, "rank 1 is silent");
}
END_TEST

#define MOST_RANKS 1000

static const char *text_of(char c, size_t n)
{
    char *s = arena_alloc(arena, n + 1);
    memset(s, c, n);
    return s;
}

/* The bounds by which the controller refuses a report let through all that an agent may send. */
START_TEST(test_the_largest_report_is_within_its_limits)
{
    struct report r = full_report();
    struct attempt *all = arena_array(arena, LIMIT_ATTEMPTS, sizeof *all);
    struct report_rank *rows = arena_array(arena, MOST_RANKS, sizeof *rows);
    const char *node = text_of('n', 253);
    /* 0x01 is the longest in JSON: six bytes for one. */
    for (int i = 0; i < LIMIT_ATTEMPTS; i++)
        all[i] = (struct attempt){1LL << 52, 1LL << 52, 1LL << 52, text_of('c', 63), 4999, 319999,
            node, text_of('e', 31), 1LL << 52, 1LL << 52, text_of(1, LIMIT_LOG_TAIL_BYTES)};
    for (int i = 0; i < MOST_RANKS; i++)
        rows[i] = (struct report_rank){.rank = 319999,
            .replica = 4999,
            .node = node,
            .phase = text_of('p', 63),
            .step = 1LL << 52,
            .silent_ms = 1LL << 52,
            .share = 1LL << 52};
    for (int i = 0; i < LIMIT_LOSS_HISTORY; i++)
        r.loss_history[i] = -1.0 / 3e-101;
    r.loss_history_count = LIMIT_LOSS_HISTORY;
    r.attempts = all;
    r.attempt_count = LIMIT_ATTEMPTS;
    r.checkpoint_path = text_of(1, LIMIT_PATH_BYTES - 1);
    r.checkpoint_damaged = text_of(1, LIMIT_NAME_BYTES - 1);
    r.layout_reason = r.layout_balance = text_of(1, LIMIT_REASON_BYTES - 1);
    r.verdict.message = r.failure_message = text_of(1, 1024);
    r.rank_row_count = 0;
    struct report_alert most[LIMIT_ALERTS];
    for (int i = 0; i < LIMIT_ALERTS; i++)
        most[i] =
            (struct report_alert){text_of('a', 63), true, 1LL << 52, 1LL << 52, text_of('m', 63)};
    r.alerts = most;
    r.alert_count = LIMIT_ALERTS;
    struct buf facts buf_auto, whole buf_auto;
    size_t bytes = strlen(encode(&r, &facts));
    ck_assert_uint_lt(bytes, LIMIT_REPORT_FACTS_BYTES);
    struct json *v;
    struct err e = {.text = ""};
    ck_assert_msg(!json_parse_within(facts.data, bytes, LIMIT_REPORT_VALUES, &v, &e), "%s", e.text);
    json_destroy(v);
    r.rank_rows = rows;
    r.rank_row_count = MOST_RANKS;
    ck_assert_uint_lt(strlen(encode(&r, &whole)) - bytes, MOST_RANKS * LIMIT_REPORT_RANK_BYTES);
    ck_assert_uint_lt(whole.len, report_limit_bytes(MOST_RANKS));
    ck_assert_uint_eq(
        report_limit_bytes(LIMIT_REPLICAS * LIMIT_RANKS_PER_REPLICA), LIMIT_REPORT_BYTES);
}
END_TEST

/* What report_init leaves equals what decoding an otherwise empty report gives. */
START_TEST(test_empty_report)
{
    struct report in, out, least;
    struct err e = {.text = ""};
    struct buf a buf_auto, b buf_auto;
    report_init(&in);
    in.tokens_per_second = NAN; /* absent in the least report */
    assert_round_trip(&in, &out);
    ck_assert_int_eq(out.eta_seconds, -1);
    ck_assert_int_eq(out.checkpoint_step, -1);
    ck_assert_int_eq(out.verdict.rank, -1);
    ck_assert_str_eq(out.serve_address, "");
    ck_assert_int_eq(out.failure, ERR_NONE);
    struct json *v = parse("{\"state\": \"Waiting\"}");
    ck_assert_msg(!report_decode(v, arena, &least, &e), "%s", e.text);
    json_destroy(v);
    encode(&least, &a);
    ck_assert_str_eq(encode(&in, &b), a.data);
}
END_TEST

START_TEST(test_names)
{
    for (int c = 0; c < ERR_CODES; c++) {
        struct report in, out;
        report_init(&in);
        in.failure = (enum err_code)c;
        assert_round_trip(&in, &out);
        ck_assert_int_eq(out.failure, c);
        struct buf b buf_auto;
        char text[64];
        snprintf(text, sizeof text, "\"class\":\"%s\"", err_code_name((enum err_code)c));
        ck_assert_ptr_nonnull(strstr(encode(&in, &b), text));
    }
    for (int s = 0; s < JOB_STATES; s++) {
        struct report in, out;
        report_init(&in);
        in.state = (enum job_state)s;
        assert_round_trip(&in, &out);
        ck_assert_int_eq(out.state, s);
    }
    ck_assert_str_eq(job_state_name(JOB_FAILED), "Failed");
    ck_assert_str_eq(job_state_name(JOB_STATES), "Unknown");
}
END_TEST

START_TEST(test_desired_round_trip)
{
    struct desired in = {.generation = 3,
                       .term = 9007199254740991,
                       .replicas = 2,
                       .suspend = true,
                       .elastic = {.min_replicas = 2, .wait_seconds = 0},
                       .restart = {.max_restarts = 0, .window_seconds = 9},
                       .health = {.hang_seconds = 30, .straggler_factor = 1.5},
                       .members = members,
                       .member_count = 2},
                   out;
    struct err e = {.text = ""};
    struct buf a buf_auto, b buf_auto;
    buf_init(&a, LIMIT_REPORT_BYTES);
    buf_init(&b, LIMIT_REPORT_BYTES);
    ck_assert_int_eq(desired_encode(&in, &a, &e), 0);
    struct json *v = parse(a.data);
    ck_assert_msg(!desired_decode(v, arena, &out, &e), "%s", e.text);
    json_destroy(v);
    ck_assert_int_eq(out.term, 9007199254740991);
    ck_assert(out.suspend && !out.release);
    ck_assert(!memcmp(&in.elastic, &out.elastic, sizeof in.elastic));
    ck_assert(!memcmp(&in.restart, &out.restart, sizeof in.restart));
    ck_assert_int_eq(out.health.hang_seconds, 30);
    ck_assert(out.health.straggler_factor == 1.5);
    ck_assert_str_eq(out.members[0].address, "10.0.0.1:7070");
    ck_assert_str_eq(out.members[1].address, "");
    ck_assert_int_eq(desired_encode(&out, &b, &e), 0);
    ck_assert_str_eq(a.data, b.data);
}
END_TEST

/* Every bound of report.h: LIMIT_REPLICAS members fit into a report's bytes, one more is
 * refused. */
START_TEST(test_many_members)
{
    struct err e = {.text = ""};
    struct desired_member *many = mem_array(LIMIT_REPLICAS + 1, sizeof *many);
    for (int i = 0; i <= LIMIT_REPLICAS; i++)
        many[i] = (struct desired_member){i < LIMIT_REPLICAS ? i : i - 1, "job-with-a-name-0000",
            "0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a", "node", "10.0.0.1:7070"};
    for (int extra = 0; extra <= 1; extra++) {
        struct desired in = {.term = 1,
                           .replicas = LIMIT_REPLICAS,
                           .members = many,
                           .member_count = LIMIT_REPLICAS + extra},
                       out;
        struct buf b buf_auto;
        buf_init(&b, LIMIT_REPORT_BYTES);
        ck_assert_int_eq(desired_encode(&in, &b, &e), 0);
        struct json *v = parse(b.data);
        ck_assert_int_eq(desired_decode(v, arena, &out, &e), extra ? -ERR_DATA : 0);
        json_destroy(v);
    }
    ck_assert_ptr_nonnull(strstr(e.text, "members: more than 5000"));
    mem_free(many);
}
END_TEST

static const struct {
    bool desired;
    const char *text, *expect;
} bad[] = {
    {false, "[]", "must be an object"},
    {false, "{}", "state: required"},
    {false, "{\"state\": \"Dancing\"}", "state: \"Dancing\""},
    {false, "{\"state\": 3}", "state: must be a string"},
    {false, "{\"state\": \"Running\", \"generation\": -1}", "generation: -1 is outside"},
    {false, "{\"state\": \"Running\", \"generation\": 1.5}", "generation: must be an integer"},
    {false, "{\"state\": \"Running\", \"generation\": 1e17}", "generation: must be an integer"},
    {false, "{\"state\": \"Running\", \"progress\": 3}", "progress: must be an object"},
    {false, "{\"state\": \"Running\", \"progress\": {\"loss\": \"x\"}}",
        "progress.loss: must be a number"},
    {false, "{\"state\": \"Running\", \"progress\": {\"lossHistory\": [\"x\"]}}",
        "progress.lossHistory[0]"},
    {false, "{\"state\": \"Running\", \"connected\": 5001}", "connected: 5001 is outside"},
    {false, "{\"state\": \"Running\", \"ranks\": [3]}", "ranks[0]: must be an object"},
    {false, "{\"state\": \"Running\", \"ranks\": [{}, {\"step\": \"x\"}]}",
        "ranks[1].step: must be an integer"},
    {false, "{\"state\": \"Running\", \"attempts\": [{},{},{},{},{},{},{},{},{},{},{}]}",
        "attempts: more than 10"},
    {false, "{\"state\": \"Running\", \"failure\": {\"class\": \"odd\"}}",
        "failure.class: \"odd\""},
    {true, "7", "must be an object"},
    {true, "{}", "generation: required"},
    {true, "{\"generation\": 1}", "term: required"},
    {true, "{\"generation\": 1, \"term\": 0}", "term: 0 is outside"},
    {true, "{\"generation\": 1, \"term\": 1}", "replicas: required"},
    {true, "{\"generation\": 1, \"term\": 1, \"replicas\": 5001}", "replicas: 5001"},
    {true, "{\"generation\": 1, \"term\": 1, \"replicas\": 1, \"members\": {}}",
        "members: must be a list"},
    {true, "{\"generation\": 1, \"term\": 1, \"replicas\": 1, \"members\": [{}]}",
        "members[0].replica: required"},
    {true,
        "{\"generation\": 1, \"term\": 1, \"replicas\": 1, \"members\": [{\"replica\": 0, "
        "\"pod\": 4}]}",
        "members[0].pod: must"},
    {true,
        "{\"generation\": 1, \"term\": 1, \"replicas\": 2, \"members\": [{\"replica\": 1}, "
        "{\"replica\": 0}]}",
        "not sorted"},
    {true,
        "{\"generation\": 1, \"term\": 1, \"replicas\": 2, \"members\": [{\"replica\": 1}, "
        "{\"replica\": 1}]}",
        "not sorted"},
};

START_TEST(test_bad)
{
    struct err e = {.text = ""};
    struct json *v = parse(bad[_i].text);
    struct report r;
    struct desired d;
    memset(&r, 0x5a, sizeof r);
    memset(&d, 0x5a, sizeof d);
    struct report r_before = r;
    struct desired d_before = d;
    int code = bad[_i].desired ? desired_decode(v, arena, &d, &e) : report_decode(v, arena, &r, &e);
    ck_assert_int_eq(code, -ERR_DATA);
    ck_assert_msg(strstr(e.text, bad[_i].expect), "%s: \"%s\", not \"%s\"", bad[_i].text, e.text,
        bad[_i].expect);
    ck_assert(!memcmp(&r, &r_before, sizeof r) && !memcmp(&d, &d_before, sizeof d));
    json_destroy(v);
}
END_TEST

START_TEST(test_long_text)
{
    static char address[LIMIT_ADDRESS_BYTES + 1];
    struct err e = {.text = ""};
    struct report in, out;
    struct buf b buf_auto;
    report_init(&in);
    memset(address, 'a', LIMIT_ADDRESS_BYTES);
    in.serve_address = address;
    struct json *v = parse(encode(&in, &b));
    ck_assert_int_eq(report_decode(v, arena, &out, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "serveAddress: longer"));
    json_destroy(v);
}
END_TEST

static int there_and_back(void *user)
{
    struct report out;
    struct err e;
    buf_auto struct buf b;
    json_auto struct json *v = NULL;
    buf_init(&b, LIMIT_REPORT_BYTES);
    struct arena *a = arena_create(1 << 20);
    int rc = a ? report_encode(user, &b, &e) : -ERR_MEMORY;
    if (!rc && !(rc = json_parse(b.data, b.len, &v, &e)))
        rc = report_decode(v, a, &out, &e);
    ck_assert_msg(!rc || rc == -ERR_MEMORY, "%d: %s", rc, e.text);
    arena_destroy(a);
    return rc;
}

START_TEST(test_allocation_failures)
{
    struct report in = full_report();
    fault_each(FAULT_MEM, there_and_back, &in);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("report");
    TCase *t = tcase_create("report");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_report_round_trip);
    tcase_add_test(t, test_layout_in_short);
    tcase_add_test(t, test_empty_report);
    tcase_add_test(t, test_the_largest_report_is_within_its_limits);
    tcase_add_test(t, test_names);
    tcase_add_test(t, test_desired_round_trip);
    tcase_add_test(t, test_many_members);
    tcase_add_loop_test(t, test_bad, 0, (int)(sizeof bad / sizeof *bad));
    tcase_add_test(t, test_long_text);
    tcase_add_test(t, test_allocation_failures);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
