/*
 * Goal: terms only grow, and stand in status before anybody hears of them. Method: a table of what
 * status and the report say before; a pass, then another.
 */
#include "tests/controller/world.h"

/* Every new agent of replica 0 gets a new term, which stands in status before it is told; the kind:
 * two processes that both believe to be the coordinator. */
START_TEST(a_term_is_recorded_before_it_is_told)
{
    static const struct {
        int64_t recorded, reported; /* before; 0: nothing */
        bool another_pod, restarted;
        int64_t term; /* afterwards */
    } table[] = {
        {3, 3, false, false, 3}, {3, 0, false, false, 3}, {3, 2, false, false, 3},
        {3, 0, true, false, 4}, {3, 3, false, true, 4}, {3, 7, false, false, 8},
        {3, 7, true, false, 8}, {0, 0, false, false, 1}, {0, 7, false, false, 8},
        {0x1p53 - 1, 0, true, false, 0x1p53 - 1}, /* no room: the same, never a lower one */
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct world w;
        char term[40];
        world_init(&w, 2, "");
        world_settle(&w, 2);
        ck_assert_int_eq(w.job->status.coordinator.term, 1);
        w.job->status.coordinator.term = table[i].recorded ? table[i].recorded : -1;
        if (!table[i].recorded)
            w.job->status.coordinator.pod_uid = NULL;
        w.report.term = table[i].reported;
        w.o.desired_sent = 0;
        struct world_pod *pod = world_find(&w, "j-0");
        if (table[i].another_pod)
            snprintf(pod->uid, sizeof pod->uid, "another");
        pod->pod.restarts += table[i].restarted;
        struct plan *p = world_plan(&w);
        bool issued = table[i].term != table[i].recorded || table[i].another_pod;
        snprintf(term, sizeof term, "\"term\":%lld,", (long long)table[i].term);
        ck_assert_msg(!world_action(p, ACTION_DESIRED) == issued, "row %zu", i);
        if (issued) {
            ck_assert_msg(strstr(world_action(p, ACTION_STATUS)->body, term) != NULL, "row %zu", i);
            world_apply(&w, world_action(p, ACTION_STATUS));
            w.report.term = 0;
            world_free(p); /* a controller that ends here has told nobody */
            p = world_plan(&w);
        }
        ck_assert_msg(strstr(world_action(p, ACTION_DESIRED)->body, term) != NULL, "row %zu", i);
        world_free(p);
        world_done(&w);
    }
}
END_TEST

UNIT_MAIN("plan_term", a_term_is_recorded_before_it_is_told)
