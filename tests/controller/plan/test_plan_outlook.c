/*
 * Goal: a job fails for what cannot get better, and for nothing else. Method: a settled job whose
 * agent has ended in each way; one around its deadline.
 */
#include "tests/controller/world.h"

static void expect_failure(struct world *w, const char *reason)
{
    struct plan *p = world_plan(w);
    const struct action *a = world_action(p, ACTION_STATUS);
    ck_assert_ptr_nonnull(a);
    world_apply(w, a);
    world_free(p);
    const struct condition *c = status_condition(&w->job->status, NAME_COND_FAILED);
    ck_assert_str_eq(c->status, "True");
    ck_assert_str_eq(c->reason, reason);
}

START_TEST(agents_that_cannot_run_fail_the_job)
{
    static const struct {
        int code, restarts;
        const char *reason, *want;
    } cases[] = {
        {64, 0, "Error", NAME_REASON_USER_ERROR},
        {65, 1, "Error", NAME_REASON_BAD_DATA},
        {70, 0, "Error", NAME_REASON_OUT_OF_MEMORY},
        {137, 11, "OOMKilled", NAME_REASON_OUT_OF_MEMORY},
        {72, 11, "Error", NAME_REASON_RESTARTS},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world w;
        world_init(&w, 2, "");
        world_settle(&w, 2);
        struct pod *pod = &world_find(&w, "j-1")->pod;
        pod->exit_code = cases[i].code;
        pod->exit_reason = cases[i].reason;
        pod->restarts = cases[i].restarts;
        expect_failure(&w, cases[i].want);
        world_done(&w);
    }
    /* A crash or two is the restart policy's affair, and so is a kill for memory. */
    for (int i = 0; i < 2; i++) {
        struct world w;
        world_init(&w, 2, "");
        world_settle(&w, 2);
        struct pod *pod = &world_find(&w, "j-1")->pod;
        pod->exit_code = i ? 137 : 72;
        pod->exit_reason = i ? "OOMKilled" : "Error";
        pod->restarts = 3;
        struct plan *p = world_plan(&w);
        ck_assert_int_eq(plan_count(p, ACTION_STATUS), 0);
        world_free(p);
        world_done(&w);
    }
}
END_TEST

START_TEST(the_deadline_counts_active_time)
{
    struct world w;
    world_init(&w, 1, ",\"activeDeadlineSeconds\":100");
    world_settle(&w, 1);
    w.o.now_ms = WORLD_NOW + 99000;
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_STATUS), 0);
    ck_assert_int_eq(p->again_ms, 1000);
    world_free(p);
    w.o.now_ms = WORLD_NOW + 100000;
    expect_failure(&w, NAME_REASON_DEADLINE);
    world_done(&w);
}
END_TEST

UNIT_MAIN("plan_outlook", agents_that_cannot_run_fail_the_job, the_deadline_counts_active_time)
