/*
 * Goal: the coordinator is told what it does not know, and nothing twice. Method: a settled job;
 * an address changes, a field is edited, an agent restarts.
 */
#include "tests/controller/world.h"

START_TEST(the_coordinator_is_told_of_its_members_once)
{
    struct world w;
    world_init(&w, 2, "");
    world_settle(&w, 2);
    world_find(&w, "j-1")->ip[5] = '9'; /* another address */
    struct plan *p = world_plan(&w);
    const struct action *a = world_action(p, ACTION_DESIRED);
    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_nonnull(strstr(a->body, "10.0.9.2:7070"));
    world_apply(&w, a);
    world_free(p);
    p = world_plan(&w);
    ck_assert_ptr_null(world_action(p, ACTION_DESIRED));
    world_free(p);
    w.job->spec.health.hang_seconds = 77; /* edited */
    p = world_plan(&w);
    a = world_action(p, ACTION_DESIRED);
    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_nonnull(strstr(a->body, "\"hangSeconds\":77"));
    world_apply(&w, a);
    world_free(p);
    /* an agent that restarted in its pod knows nothing */
    world_find(&w, "j-0")->pod.restarts++;
    p = world_plan(&w);
    world_apply(&w, world_action(p, ACTION_STATUS));
    world_free(p);
    p = world_plan(&w);
    ck_assert_ptr_nonnull(world_action(p, ACTION_DESIRED));
    world_free(p);
    world_done(&w);
}
END_TEST

UNIT_MAIN("plan_desired", the_coordinator_is_told_of_its_members_once)
