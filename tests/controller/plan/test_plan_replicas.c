/*
 * Goal: each replica has one pod; none is made or deleted before its time. Method: a settled job,
 * one thing changed, the plan of that snapshot.
 */
#include "tests/controller/world.h"

START_TEST(scaling_down_waits_for_the_world)
{
    struct world w;
    world_init(&w, 3, "");
    world_settle(&w, 3);
    w.job->spec.replicas = 2;
    w.job->spec.generation = 2;
    struct plan *p = world_plan(&w);
    ck_assert_ptr_nonnull(world_action(p, ACTION_DESIRED));
    ck_assert_int_eq(plan_count(p, ACTION_DELETE_POD), 0);
    ck_assert(world_told(p, NAME_REASON_SCALING));
    world_free(p);
    w.report.generation = 2; /* it knows, but still runs three */
    p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_DELETE_POD), 0);
    world_free(p);
    w.report.world_replicas = 2;
    p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_DELETE_POD), 1);
    ck_assert_str_eq(world_action(p, ACTION_DELETE_POD)->name, "j-2");
    ck_assert(!world_action(p, ACTION_DELETE_POD)->force);
    ck_assert_ptr_nonnull(world_action(p, ACTION_GANG_RESIZE));
    world_free(p);
    w.report.world_replicas = 3;
    w.o.unreachable_ms = 120000; /* a dead coordinator holds nothing up */
    p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_DELETE_POD), 1);
    world_free(p);
    world_done(&w);
}
END_TEST

START_TEST(a_report_of_an_older_generation_frees_nothing)
{
    struct world w;
    world_init(&w, 3, "");
    world_settle(&w, 3);
    w.report.world_replicas = 2; /* formed before the third joined */
    w.job->spec.replicas = 2;
    w.job->spec.generation = 2;
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_DELETE_POD), 0);
    world_free(p);
    world_done(&w);
}
END_TEST

START_TEST(ended_pods_are_replaced_by_the_same_name_when_they_are_gone)
{
    struct world w;
    world_init(&w, 2, "");
    world_settle(&w, 2);
    struct world_pod *pod = world_find(&w, "j-1");
    pod->pod.phase = POD_FAILED;
    pod->pod.blocked_reason = "Evicted";
    struct plan *p = world_plan(&w);
    const struct action *a = world_action(p, ACTION_DELETE_POD);
    ck_assert_str_eq(a->uid, pod->uid);
    ck_assert_int_eq(plan_count(p, ACTION_CREATE_POD), 0);
    world_apply(&w, a);
    world_free(p);
    p = world_plan(&w);
    ck_assert_str_eq(world_action(p, ACTION_CREATE_POD)->name, "j-1");
    world_free(p);
    world_done(&w);
}
END_TEST

START_TEST(a_pod_ending_on_a_lost_node_is_removed_by_force)
{
    struct world w;
    world_init(&w, 2, "");
    world_settle(&w, 2);
    struct world_pod *pod = world_find(&w, "j-1");
    pod->pod.deleting = true;
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_DELETE_POD), 0);
    world_free(p);
    pod->lost = true;
    p = world_plan(&w);
    ck_assert(world_action(p, ACTION_DELETE_POD)->force);
    world_free(p);
    world_done(&w);
}
END_TEST

START_TEST(replacements_back_off)
{
    struct world w;
    world_init(&w, 1, "");
    w.o.failures = 4;
    w.o.failure_age_ms = 1000;
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_CREATE_POD), 0);
    ck_assert_int_eq(p->again_ms, 3000);
    world_free(p);
    w.o.failure_age_ms = 4000;
    p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_CREATE_POD), 1);
    world_free(p);
    world_done(&w);
}
END_TEST

START_TEST(a_name_held_by_an_earlier_job_is_waited_for)
{
    struct world w;
    world_init(&w, 1, "");
    world_add(&w, 0)->pod.owner_uid = "u0";
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_CREATE_POD), 0);
    ck_assert_int_eq(plan_count(p, ACTION_DELETE_POD), 0);
    world_free(p);
    world_done(&w);
}
END_TEST

START_TEST(suspending_waits_for_the_checkpoint)
{
    struct world w;
    world_init(&w, 2, "");
    world_settle(&w, 2);
    w.job->spec.suspend = true;
    w.job->spec.generation = 2;
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_DELETE_POD), 0);
    ck_assert_ptr_nonnull(strstr(world_action(p, ACTION_DESIRED)->body, "\"suspend\":true"));
    world_free(p);
    w.report.state = JOB_SUSPENDED;
    w.report.generation = 2;
    p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_DELETE_POD), 2);
    ck_assert(world_told(p, NAME_REASON_SUSPENDED));
    world_free(p);
    world_done(&w);
}
END_TEST

UNIT_MAIN("plan_replicas", scaling_down_waits_for_the_world,
    a_report_of_an_older_generation_frees_nothing,
    ended_pods_are_replaced_by_the_same_name_when_they_are_gone,
    a_pod_ending_on_a_lost_node_is_removed_by_force, replacements_back_off,
    a_name_held_by_an_earlier_job_is_waited_for, suspending_waits_for_the_checkpoint)
