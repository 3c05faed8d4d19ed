/*
 * Goal: people are told what they can do something about. Method: pods that cannot start, for two
 * reasons; a checkpoint that was passed over, by one report and the next.
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

UNIT_MAIN("plan_events", pods_that_cannot_start_are_told_of, a_damaged_checkpoint_is_told_of_once)
