/*
 * Goal: which branch of a job's life its snapshot takes, and that actions stand in the order of
 * their stages. Method: snapshots of one state each; what a policy does in its branch is shown by
 * the test of that policy, and all of them together by test_plan_sim.
 */
#include "tests/controller/world.h"

START_TEST(a_new_job_gets_its_objects_then_its_pods)
{
    struct world w;
    world_init(&w, 3, "");
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_SECRET), 1);
    ck_assert_int_eq(plan_count(p, ACTION_SERVICE), 1);
    ck_assert_int_eq(plan_count(p, ACTION_GANG), 1);
    ck_assert_int_eq(plan_count(p, ACTION_CREATE_POD), 3);
    ck_assert(world_told(p, NAME_REASON_POD_CREATED));
    ck_assert_ptr_nonnull(strstr(world_action(p, ACTION_GANG)->body, "\"minCount\":3"));
    for (int i = 1; i < p->count; i++)
        ck_assert_int_le(p->actions[i - 1].kind, p->actions[i].kind);
    world_free(p);
    world_done(&w);
}
END_TEST

START_TEST(jobs_of_others_and_jobs_that_go_are_left_alone)
{
    struct world w;
    world_init(&w, 2, ",\"managedBy\":\"kueue.x-k8s.io/multikueue\"");
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(p->count, 0);
    world_free(p);
    world_done(&w);
    world_init(&w, 2, "");
    w.job->deleting = true;
    p = world_plan(&w);
    ck_assert_int_eq(p->count, 0);
    world_free(p);
    world_done(&w);
}
END_TEST

/* Training and evaluating ranks meet by addresses, those of a conversion nobody; a program of the
   user may use names, and clients of a server do. */
START_TEST(a_service_is_made_where_names_are_needed)
{
    static const char *const tasks[] = {
        "\"model\":{\"source\":\"/d/m.gguf\"},\"checkpoint\":{\"path\":\"/d/"
        "c\"},\"train\":{"
        "\"data\":{\"train\":\"/d/t.txt\"},\"steps\":9,\"output\":\"/d/o\"}",
        "\"model\":{\"source\":\"/d/m.gguf\"},\"convert\":{\"output\":\"/d/o\"}",
        "\"model\":{\"source\":\"/d/m.gguf\"},\"evaluate\":{\"data\":\"/d/"
        "t\",\"output\":\"/d/o\"}",
        "\"model\":{\"source\":\"/d/m.gguf\"},\"serve\":{}", WORLD_RUN};
    for (int i = 0; i < 5; i++) {
        struct world w;
        world_init(&w, 1, "");
        job_free(w.job);
        w.job = world_job(1, 1, tasks[i],
            ",\"storage\":[{\"name\":\"d\",\"claimName\":\"c\",\"mountPath\":\"/d\"}]", "{}");
        struct plan *p = world_plan(&w);
        ck_assert_int_eq(plan_count(p, ACTION_SERVICE), i > 2);
        world_free(p);
        world_done(&w);
    }
}
END_TEST

UNIT_MAIN("plan", a_new_job_gets_its_objects_then_its_pods,
    jobs_of_others_and_jobs_that_go_are_left_alone, a_service_is_made_where_names_are_needed)
