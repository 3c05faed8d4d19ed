/*
 * Goal: the next status tells the truth, keeps what nobody reports, is stable, and is written when
 * it says something new. Method: worlds of one state each; attempts that overlap; the passes of a
 * job that starts, counted.
 */
#include "tests/controller/world.h"

static void next(struct world *w, struct status *out)
{
    struct outlook look;
    struct err e = {0};
    struct plan p = {.arena = w->arena, .again_ms = -1};
    world_observe(w);
    ck_assert_int_eq(plan_outlook(&w->o, &p, &look, &e), 0);
    ck_assert_int_eq(plan_status_next(&w->o, &look, w->arena, out, &e), 0);
}

static void encode(const struct status *s, struct buf *out)
{
    struct err e;
    buf_init(out, 1 << 18);
    ck_assert_int_eq(status_encode(s, out, &e), 0);
}

static void work(struct world *w)
{
    w->report.state = JOB_RUNNING;
    w->report.generation = 1;
    w->report.world_replicas = w->report.ranks = w->report.data_parallel = 2;
    w->report.step = 12;
    w->report.steps = 100;
    w->report.tokens = 9007199254740991;
    w->report.held_out = 11;
    w->report.loss = 2.123456789;
    w->report.tokens_per_second = 1234.5;
    w->report.loss_scale = 65536;
    w->report.last_step_ms = WORLD_NOW;
    w->report.eta_seconds = 60;
    w->report.checkpoint_step = 10;
    w->report.checkpoint_path = "/ckpt/10";
    w->report.memory_per_rank_bytes = 3LL << 30;
    w->report.zero_stage = 1;
    w->report.layout_reason = "dp2 needs 3 MiB of 2";
    w->report.layout_balance = "6 2";
    w->o.report = &w->report;
    world_run_pod(world_add(w, 0));
    world_run_pod(world_add(w, 1));
}

START_TEST(a_status_survives_its_encoding_and_stays_the_same)
{
    struct world w;
    struct status s, again;
    buf_auto struct buf a, b;
    world_init(&w, 2, "");
    work(&w);
    next(&w, &s);
    encode(&s, &a);
    ck_assert_ptr_nonnull(strstr(a.data, "\"loss\":2.1235,"));
    ck_assert_ptr_nonnull(strstr(a.data, "\"tokens\":9007199254740991,"));
    ck_assert_ptr_nonnull(strstr(a.data, "\"heldOutSequences\":11,"));
    ck_assert_ptr_nonnull(strstr(a.data, "\"summary\":\"dp2 zero1\","));
    ck_assert_ptr_nonnull(strstr(a.data, "\"zeroStage\":1,"));
    ck_assert_ptr_nonnull(strstr(a.data, "\"tokensPerSecond\":1230,"));
    ck_assert_ptr_nonnull(strstr(a.data, "\"lossScale\":65536,\"skippedSteps\":0,"));
    ck_assert_ptr_nonnull(strstr(a.data,
        "\"memoryPerRank\":\"3072Mi\",\"reason\":\"dp2 needs 3 MiB of 2\",\"balance\":\"6 2\""));
    ck_assert_ptr_nonnull(strstr(a.data, "\"ready\":\"2/2\""));
    ck_assert_ptr_null(strstr(a.data, "verdict"));
    ck_assert_ptr_nonnull(
        strstr(a.data, "\"coordinator\":{\"term\":1,\"podUID\":\"p1\",\"restarts\":0}"));
    struct json *v = NULL;
    struct err e;
    ck_assert_int_eq(json_parse(a.data, a.len, &v, &e), 0);
    status_decode(v, w.arena, &w.job->status);
    json_destroy(v);
    w.o.now_ms += 5000; /* time alone changes nothing */
    next(&w, &again);
    encode(&again, &b);
    ck_assert_str_eq(a.data, b.data);
    world_done(&w);
}
END_TEST

static const char *const measuring[][3] = {
    {"\"convert\":{\"output\":\"/d/o\"}", "Convert", NAME_REASON_CONVERTING},
    {"\"evaluate\":{\"data\":\"/d/t\",\"output\":\"/d/o\"}", "Evaluate", NAME_REASON_EVALUATING},
};

START_TEST(what_a_job_does_is_told)
{
    for (int i = 0; i < 2; i++) {
        struct world w;
        struct status s;
        char task[128];
        world_init(&w, 1, "");
        job_free(w.job);
        snprintf(task, sizeof task, "\"model\":{\"source\":\"/d/m.gguf\"},%s", measuring[i][0]);
        w.job = world_job(1, 1, task,
            ",\"storage\":[{\"name\":\"d\",\"claimName\":\"c\",\"mountPath\":\"/d\"}]", "{}");
        work(&w);
        w.report.ranks = w.report.data_parallel = w.report.world_replicas = 1;
        w.pods[1].exists = false;
        next(&w, &s);
        ck_assert_str_eq(s.task, measuring[i][1]);
        ck_assert_str_eq(s.state, measuring[i][2]);
        world_done(&w);
    }
}
END_TEST

START_TEST(what_nobody_reports_is_kept)
{
    struct world w;
    struct status s;
    world_init(&w, 2, "");
    work(&w);
    next(&w, &s);
    w.job->status = s;
    w.o.report = NULL; /* the coordinator is lost */
    w.pods[0].exists = false;
    w.o.now_ms += 60000;
    next(&w, &s);
    ck_assert_int_eq(s.progress.step, 12);
    ck_assert_int_eq(s.checkpoint.step, 10);
    ck_assert_str_eq(s.ready, "1/2");
    ck_assert_str_eq(s.state, "Pending");
    const struct condition *c = status_condition(&s, NAME_COND_READY);
    ck_assert_str_eq(c->status, "False");
    ck_assert_int_eq(c->transition_ms, w.o.now_ms / 1000 * 1000);
    ck_assert_int_eq(
        status_condition(&s, NAME_COND_PROGRESSING)->transition_ms, WORLD_NOW / 1000 * 1000);
    world_done(&w);
}
END_TEST

START_TEST(conditions_of_others_are_kept)
{
    struct world w;
    struct status s;
    world_init(&w, 1, "");
    w.job->status.conditions[0] =
        (struct condition){"QuotaReserved", "True", "Admitted", "", 1, WORLD_NOW};
    w.job->status.condition_count = 1;
    next(&w, &s);
    ck_assert_str_eq(status_condition(&s, "QuotaReserved")->reason, "Admitted");
    ck_assert_int_eq(s.condition_count, 9);
    world_done(&w);
}
END_TEST

START_TEST(attempts_are_merged_by_number_and_bounded)
{
    struct world w;
    struct status s;
    struct attempt old[10], new[3];
    world_init(&w, 1, "");
    for (int i = 0; i < 10; i++)
        old[i] = (struct attempt){.number = i + 1,
            .started_ms = WORLD_NOW + i * 1000,
            .ended_ms = i < 9 ? WORLD_NOW + i * 1000 + 500 : 0,
            .replica = -1,
            .rank = -1};
    for (int i = 0; i < 3; i++)
        new[i] = (struct attempt){.number = i + 11,
            .started_ms = WORLD_NOW + 90000,
            .ended_ms = i < 2 ? WORLD_NOW + 91000 : 0,
            .cause = "RankFailed",
            .node = "",
            .exit_class = "peer",
            .log_tail = "",
            .replica = 0,
            .rank = 0};
    w.job->status.attempts = old;
    w.job->status.attempt_count = 10;
    w.report.attempts = new;
    w.report.attempt_count = 3;
    w.report.restarts = 2;
    w.o.report = &w.report;
    next(&w, &s);
    ck_assert_int_eq(s.attempt_count, 10);
    ck_assert_int_eq(s.attempts[0].number, 4);
    ck_assert_int_eq(s.attempts[9].number, 13);
    /* number 10 was the current one of a coordinator that is gone */
    ck_assert_str_eq(s.attempts[6].cause, "CoordinatorLost");
    ck_assert_int_eq(s.attempts[6].ended_ms, WORLD_NOW + 90000);
    ck_assert_int_eq(s.attempts[9].ended_ms, 0);
    ck_assert_int_eq(s.restarts, 2);
    world_done(&w);
}
END_TEST

START_TEST(a_verdict_makes_the_job_unhealthy_until_it_is_gone)
{
    struct world w;
    struct status s;
    world_init(&w, 2, "");
    work(&w);
    w.report.verdict =
        (struct verdict){"Hang", 1, 1, "node", "allreduce", "rank 1 hangs", WORLD_NOW};
    next(&w, &s);
    ck_assert_str_eq(status_condition(&s, NAME_COND_HEALTHY)->reason, "Hang");
    ck_assert_str_eq(s.verdict.operation, "allreduce");
    w.job->status = s;
    w.report.verdict.kind = "";
    next(&w, &s);
    ck_assert_ptr_null(s.verdict.kind);
    ck_assert(status_is_true(&s, NAME_COND_HEALTHY));
    world_done(&w);
}
END_TEST

START_TEST(trouble_with_the_api_is_told)
{
    struct world w;
    struct status s;
    world_init(&w, 2, "");
    w.o.trouble = "the API server answered 403: exceeded quota";
    next(&w, &s);
    ck_assert(status_is_true(&s, NAME_COND_STALLED));
    ck_assert_str_eq(status_condition(&s, NAME_COND_STALLED)->message, w.o.trouble);
    ck_assert_str_eq(s.state, "Blocked");
    world_done(&w);
}
END_TEST

/* Whether the status is written now, after age_ms; where not, when it will be. */
static bool writes(struct world *w, int64_t age_ms, int64_t *again_ms)
{
    w->o.status_age_ms = age_ms;
    struct plan *p = world_plan(w);
    const struct action *a = world_action(p, ACTION_STATUS);
    bool now = a != NULL;
    if (now)
        world_store_status(w, a->body);
    *again_ms = p->again_ms;
    world_free(p);
    return now;
}

/* What a job costs the API server: numbers alone wait, what says something new does not. */
START_TEST(numbers_alone_are_written_now_and_then)
{
    struct world w;
    int64_t again;
    world_init(&w, 1, "");
    world_settle(&w, 1);
    w.report.steps = 100;
    w.report.step = 7;
    ck_assert(!writes(&w, 300, &again));
    ck_assert_int_eq(again, 4700);
    ck_assert(writes(&w, 5000, &again));
    w.report.checkpoint_step = 7;
    w.report.checkpoint_path = "/c/7";
    ck_assert(!writes(&w, 300, &again));
    w.report.verdict.kind = NAME_REASON_HANG;
    ck_assert(writes(&w, 300, &again));
    world_done(&w);
}
END_TEST

/* When its first pod, who gets the term, is there, and when it is ready; what stops the first pods
 * is told too. */
START_TEST(a_job_that_starts_is_written_twice)
{
    struct world w;
    int64_t again;
    int written = 0;
    world_init(&w, 8, "");
    written += writes(&w, INT64_MAX, &again);
    ck_assert_int_eq(written, 0);
    for (int i = 0; i < 8; i++) {
        world_add(&w, i);
        written += writes(&w, 100, &again);
        ck_assert_int_eq(written, 1);
    }
    for (int i = 0; i < 8; i++) {
        world_run_pod(&w.pods[i]);
        written += writes(&w, 100, &again);
        ck_assert_int_eq(written, i < 7 ? 1 : 2); /* 8/8 is news */
    }
    ck_assert_str_eq(w.job->status.ready, "8/8");
    w.pods[3].pod.ready = false;
    ck_assert(!writes(&w, 14999, &again));
    ck_assert_int_eq(again, 1);
    ck_assert(writes(&w, 15000, &again));
    /* An agent that cannot be reached is told of once, and costs nothing afterwards. */
    w.o.unreachable_ms = 4000;
    ck_assert(!writes(&w, 100, &again));
    ck_assert_int_eq(again, 6001); /* no news will come of it */
    w.o.unreachable_ms = 10001;
    ck_assert(writes(&w, 100, &again));
    ck_assert_str_eq(w.job->status.state, "Unreachable");
    for (int i = 0; i < 100; i++) {
        w.o.unreachable_ms += 60000;
        w.o.now_ms += 60000;
        ck_assert(!writes(&w, 60000, &again));
    }
    world_done(&w);
    world_init(&w, 8, "");
    w.o.trouble = "the API server answered 403: exceeded quota";
    ck_assert(writes(&w, INT64_MAX, &again));
    world_done(&w);
}
END_TEST

UNIT_MAIN("plan_status", a_status_survives_its_encoding_and_stays_the_same, what_a_job_does_is_told,
    what_nobody_reports_is_kept, conditions_of_others_are_kept,
    attempts_are_merged_by_number_and_bounded, a_verdict_makes_the_job_unhealthy_until_it_is_gone,
    trouble_with_the_api_is_told, numbers_alone_are_written_now_and_then,
    a_job_that_starts_is_written_twice)
