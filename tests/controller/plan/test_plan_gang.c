/*
 * Goal: a PodGroup asks for the whole job while it has no pod, and never for more later. Method: a
 * job settled, made larger, then without pods.
 */
#include "tests/controller/world.h"

START_TEST(the_gang_is_the_whole_job_at_first_and_then_only_shrinks)
{
    struct world w;
    world_init(&w, 3, "");
    world_settle(&w, 3);
    ck_assert_int_eq(w.gang.min_count, 3);
    w.job->spec.replicas = 5;
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_GANG_RESIZE), 0);
    world_free(p);
    for (int i = 0; i < 3; i++)
        w.pods[i].exists = false; /* as after a suspension */
    w.o.report = NULL;
    p = world_plan(&w);
    ck_assert_ptr_nonnull(strstr(world_action(p, ACTION_GANG_RESIZE)->body, "\"minCount\":5"));
    world_free(p);
    world_done(&w);
}
END_TEST

UNIT_MAIN("plan_gang", the_gang_is_the_whole_job_at_first_and_then_only_shrinks)
