/*
 * Goal: a job that is over ends in order: recorded, released, cleared away, deleted. Method: its
 * passes one after the other, with agents that go by themselves and with some that do not.
 */
#include "tests/controller/world.h"

START_TEST(an_outcome_is_recorded_before_the_pods_are_released)
{
    struct world w;
    world_init(&w, 2, "");
    world_settle(&w, 2);
    w.report.state = JOB_COMPLETE;
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_STATUS), 1);
    ck_assert_int_eq(plan_count(p, ACTION_DESIRED), 0);
    ck_assert(world_told(p, NAME_REASON_COMPLETED));
    for (int i = 0; i < p->count; i++)
        world_apply(&w, &p->actions[i]);
    world_free(p);
    p = world_plan(&w);
    ck_assert_ptr_nonnull(strstr(world_action(p, ACTION_DESIRED)->body, "\"release\":true"));
    world_apply(&w, world_action(p, ACTION_DESIRED));
    world_free(p);
    /* It has been quicker than the kubelet's word of it. */
    world_find(&w, "j-1")->pod.phase = POD_PENDING;
    p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_DELETE_POD), 0);
    world_free(p);
    world_find(&w, "j-1")->pod.blocked_reason = "ImagePullBackOff";
    p = world_plan(&w);
    ck_assert_str_eq(world_action(p, ACTION_DELETE_POD)->name, "j-1");
    world_free(p);
    world_find(&w, "j-1")->pod.blocked_reason = "";
    world_find(&w, "j-0")->pod.phase = world_find(&w, "j-1")->pod.phase = POD_SUCCEEDED;
    w.o.report = NULL;
    for (int i = 0; i < 3; i++) { /* readiness falls, then nothing more */
        p = world_plan(&w);
        ck_assert_int_eq(plan_count(p, ACTION_CREATE_POD) + plan_count(p, ACTION_DELETE_POD), 0);
        for (int k = 0; k < p->count; k++)
            world_apply(&w, &p->actions[k]);
        world_free(p);
    }
    p = world_plan(&w);
    ck_assert_int_eq(p->count, 0);
    world_free(p);
    world_done(&w);
}
END_TEST

START_TEST(a_finished_job_holds_nothing_and_goes_when_its_time_is_over)
{
    struct world w;
    world_init(&w, 2, ",\"ttlSecondsAfterFinished\":100");
    world_settle(&w, 2);
    w.report.state = JOB_FAILED;
    w.report.failure = ERR_DATA;
    w.report.failure_message = "train.jsonl line 3: no text";
    struct plan *p = world_plan(&w);
    world_apply(&w, world_action(p, ACTION_STATUS));
    world_free(p);
    const struct condition *c = status_condition(&w.job->status, NAME_COND_FAILED);
    ck_assert_str_eq(c->reason, NAME_REASON_BAD_DATA);
    ck_assert_str_eq(c->message, "train.jsonl line 3: no text");
    w.o.now_ms += 61000; /* the agents did not go by themselves */
    p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_DELETE_POD), 2);
    ck_assert_int_eq(plan_count(p, ACTION_DELETE_JOB), 0);
    ck_assert_int_eq(p->again_ms, 39000);
    world_free(p);
    w.o.now_ms += 39000;
    p = world_plan(&w);
    ck_assert_str_eq(world_action(p, ACTION_DELETE_JOB)->uid, "u1");
    world_free(p);
    world_done(&w);
}
END_TEST

UNIT_MAIN("plan_release", an_outcome_is_recorded_before_the_pods_are_released,
    a_finished_job_holds_nothing_and_goes_when_its_time_is_over)
