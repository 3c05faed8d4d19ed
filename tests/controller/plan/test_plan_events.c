/*
 * Goal: people are told what they can do something about. Method: pods that cannot start, for two
 * reasons; a checkpoint that was passed over, by one report and the next;
 * alerts that changed, in each way.
 */
#include "tests/controller/world.h"

START_TEST(pods_that_cannot_start_are_told_of)
{
    struct world w;
    world_init(&w, 2, "");
    struct world_pod *a = world_add(&w, 0), *b = world_add(&w, 1);
    a->pod.blocked_reason = NAME_REASON_UNSCHEDULABLE;
    a->pod.blocked_message = "0/3 nodes are available";
    struct plan *p = world_plan(&w);
    ck_assert(world_told(p, NAME_REASON_UNSCHEDULABLE));
    ck_assert_ptr_nonnull(
        strstr(world_action(p, ACTION_STATUS)->body, "pod j-0: 0/3 nodes are available"));
    world_free(p);
    b->pod.blocked_reason = NAME_REASON_IMAGE;
    b->pod.blocked_message = "no such image";
    p = world_plan(&w);
    ck_assert(world_told(p, NAME_REASON_IMAGE));
    world_free(p);
    world_done(&w);
}
END_TEST

START_TEST(a_damaged_checkpoint_is_told_of_once)
{
    struct world w;
    world_init(&w, 1, "");
    world_settle(&w, 1);
    struct plan *p = world_plan(&w);
    ck_assert(!world_told(p, NAME_REASON_DAMAGED));
    world_free(p);
    w.report.checkpoint_damaged = "step-00000050.damaged";
    w.report.damaged_bytes = 7LL << 30;
    w.report.steps = 100;
    w.report.checkpoint_in_memory = "every 1 steps";
    p = world_plan(&w);
    ck_assert(world_told(p, NAME_REASON_DAMAGED));
    ck_assert_ptr_nonnull(strstr(world_action(p, ACTION_STATUS)->body,
        "\"damaged\":\"step-00000050.damaged\",\"damagedBytes\":7516192768"));
    ck_assert_ptr_nonnull(
        strstr(world_action(p, ACTION_STATUS)->body, "\"inMemory\":\"every 1 steps\""));
    world_free(p);
    w.job->status.checkpoint.damaged = "step-00000050.damaged";
    p = world_plan(&w);
    ck_assert(!world_told(p, NAME_REASON_DAMAGED));
    world_free(p);
    world_done(&w);
}
END_TEST

/* Once, whichever controller sees it; also what fired and resolved between two looks. */
START_TEST(changes_of_alerts_are_told_once)
{
    static const struct {
        int64_t was_fired, was_resolved, fired, resolved;
        bool firing, tells_firing, tells_resolved;
    } table[] = {
        {0, 0, 0, 0, false, false, false}, {0, 0, 7000, 0, true, true, false},
        {7000, 0, 7900, 0, true, false, false}, /* status has seconds */
        {7000, 0, 7000, 9000, false, false, true}, {7000, 9000, 7000, 9999, false, false, false},
        {7000, 9000, 12000, 9000, true, true, false}, {7000, 9000, 12000, 15000, false, true, true},
        {7000, 9000, 0, 0, false, false, false}, /* a pod that knows nothing of it */
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct world w;
        struct report_alert alert = {"burst", table[i].firing, table[i].fired, table[i].resolved,
            i ? "" : "the source does not answer"};
        struct status_alert was = {
            "burst", NAME_ALERT_INACTIVE, table[i].was_fired, table[i].was_resolved, NULL};
        world_init(&w, 1, "");
        world_settle(&w, 1);
        w.job->spec.serve.classify.alerts[0] = (struct jobspec_alert){
            .name = "burst", .label = "spam", .window_seconds = 60, .share = 0.5};
        w.job->spec.serve.classify.alert_count = 1;
        w.job->status.alerts = &was;
        w.job->status.alert_count = table[i].was_fired > 0;
        w.report.alerts = &alert;
        w.report.alert_count = 1;
        struct plan *p = world_plan(&w);
        ck_assert_msg(world_told(p, NAME_REASON_ALERT_FIRING) == table[i].tells_firing, "%zu", i);
        ck_assert_msg(
            world_told(p, NAME_REASON_ALERT_RESOLVED) == table[i].tells_resolved, "%zu", i);
        if (table[i].tells_firing || table[i].tells_resolved)
            ck_assert_msg(
                strstr(world_action(p, ACTION_STATUS)->body,
                    table[i].firing ? "\"name\":\"burst\",\"state\":\"Firing\",\"fired\":\""
                                    : "\"name\":\"burst\",\"state\":\"Inactive\""),
                "%s", world_action(p, ACTION_STATUS)->body);
        ck_assert_int_eq(world_action(p, ACTION_STATUS) &&
                strstr(world_action(p, ACTION_STATUS)->body,
                    "\"message\":\"the source does not answer\""),
            !i);
        world_free(p);
        w.job->status.alerts = NULL;
        w.job->status.alert_count = 0;
        w.job->spec.serve.classify.alert_count = 0;
        world_done(&w);
    }
}
END_TEST

UNIT_MAIN("plan_events", pods_that_cannot_start_are_told_of, a_damaged_checkpoint_is_told_of_once,
    changes_of_alerts_are_told_once)
