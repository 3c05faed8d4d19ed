/*
 * Goal: the guarantees of agent/world.h.
 * Method: simulated pods (world_sim) answer the world's actions and check its promises after every
 * event; tables pin the stories of the design; in random worlds with a printed seed a user error
 * never restarts, and left alone every world comes to run or has failed for a reason.
 */
#include "agent/world.h"

#include "api/names.h"
#include "tests/agent/world_sim.h"
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static struct err e;

/* -- stories -- */

START_TEST(forms_over_all_desired)
{
    sim_begin(TASK_TRAIN);
    sim_join(0); /* unknown yet: ignored */
    ck_assert_int_eq(world_state(sim.world), JOB_WAITING);
    sim_want(3, false, false);
    sim_join(0);
    sim_join(1);
    sim_advance(1000);
    ck_assert_int_eq(world_state(sim.world), JOB_WAITING);
    sim.pods[2].greatest = 40; /* it has seen more than the coordinator */
    sim_join(2);
    sim_advance(500);
    ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    ck_assert_int_eq(world_incarnation(sim.world), 41);
    world_destroy(sim.world);
}
END_TEST

START_TEST(a_rank_death_restarts_at_once)
{
    sim_run_three();
    int64_t step = sim.step;
    sim_exit_rank(2, 1, EXIT_CLASS_BUG, 11, false, "");
    sim_settle();
    sim_advance(300);
    struct report r = sim_report();
    ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    ck_assert_int_eq(r.incarnation, 8);
    ck_assert_int_eq(r.attempt_count, 2);
    ck_assert_str_eq(r.attempts[0].cause, NAME_REASON_RANK_FAILED);
    ck_assert_str_eq(r.attempts[0].exit_class, "bug");
    ck_assert_str_eq(r.attempts[0].log_tail, "tail");
    ck_assert_int_eq(r.attempts[0].rank, 5);
    ck_assert_int_eq(r.attempts[0].steps_lost, step - step / 5 * 5);
    ck_assert_int_eq(r.restarts, 1);
    world_destroy(sim.world);
}
END_TEST

/* The rank's sentence names the device, the verdict adds the node; restarts are counted, and the
 * verdict goes when steps go on. */
START_TEST(a_bad_device_names_its_node)
{
    static const char *const said =
        "NVIDIA H100 (GPU-1b2c) failed: XID 79, the GPU has fallen off the bus";
    sim_run_three();
    sim_exit_rank(0, 1, EXIT_CLASS_PEER, 0, false, "a peer is gone");
    sim_exit_rank(1, 1, EXIT_CLASS_DEVICE, 0, false, said);
    sim_settle();
    struct report r = sim_report();
    ck_assert_str_eq(r.verdict.kind, NAME_REASON_BAD_DEVICE);
    ck_assert_str_eq(r.verdict.node, "node");
    ck_assert_int_eq(r.verdict.replica, 1);
    ck_assert_int_eq(r.verdict.rank, 3);
    ck_assert_ptr_nonnull(strstr(r.verdict.message, said));
    ck_assert_ptr_nonnull(strstr(r.verdict.message, "node node:"));
    sim_advance(300);
    r = sim_report();
    ck_assert_int_eq(r.incarnation, 8);
    ck_assert_str_eq(r.attempts[0].cause, NAME_REASON_RANK_FAILED);
    ck_assert_str_eq(r.attempts[0].exit_class, "device");
    ck_assert_str_eq(r.attempts[0].node, "node");
    ck_assert_int_eq(r.attempts[0].rank, 3);
    ck_assert_int_eq(r.restarts, 1);
    sim_advance(60000);
    ck_assert_str_eq(sim_report().verdict.kind, "");
    /* Again and again: the job fails with the sentence. */
    for (int i = 0; i < 4 && world_state(sim.world) != JOB_FAILED; i++) {
        sim_exit_rank(1, 1, EXIT_CLASS_DEVICE, 0, false, said);
        sim_advance(120000);
    }
    r = sim_report();
    ck_assert_int_eq(r.state, JOB_FAILED);
    ck_assert_int_eq(r.failure, ERR_DEVICE);
    ck_assert_str_eq(r.failure_reason, NAME_REASON_RESTARTS);
    ck_assert_ptr_nonnull(strstr(r.failure_message, said));
    world_destroy(sim.world);
}
END_TEST

/* Peers of a failing rank fail too, and may be heard first: the cause still decides. */
START_TEST(the_cause_decides_not_the_symptom)
{
    sim_run_three();
    sim_exit_rank(0, 0, EXIT_CLASS_PEER, 0, false, "a peer is gone");
    sim_settle();
    sim_exit_rank(1, 1, EXIT_CLASS_USER, 0, false, "spec.train.steps: nonsense");
    sim_settle();
    sim_advance(5000);
    struct report r = sim_report();
    ck_assert_int_eq(r.state, JOB_FAILED);
    ck_assert_str_eq(r.failure_reason, NAME_REASON_USER_ERROR);
    ck_assert_str_eq(r.failure_message, "spec.train.steps: nonsense");
    ck_assert_int_eq(r.failure, ERR_USER);
    ck_assert_int_eq(sim.prepares, 1);
    world_destroy(sim.world);
}
END_TEST

enum fact { NOTHING, PEER_0, BUG_1, LEAVING_2, LOST_2 };

static void happen(enum fact fact)
{
    switch (fact) {
    case NOTHING:
        return;
    case PEER_0:
        sim_exit_rank(0, 0, EXIT_CLASS_PEER, 0, false, "a peer is gone");
        break;
    case BUG_1:
        sim_exit_rank(1, 1, EXIT_CLASS_BUG, 11, false, "");
        break;
    case LEAVING_2:
        world_leaving(sim.world, 2);
        break;
    case LOST_2:
        sim_lose(2);
        break;
    }
    sim_settle();
}

/* Whatever is heard first, and however late the cause is heard: it is named while the attempt has
 * not ended, and a lost member costs no budget. */
START_TEST(the_cause_is_named_in_any_order)
{
    static const struct {
        enum fact facts[3];
        int64_t pause_ms; /* between the last two */
        const char *cause, *class_;
        int replica;
    } table[] = {
        {{PEER_0, BUG_1}, 0, NAME_REASON_RANK_FAILED, "bug", 1},
        {{PEER_0, BUG_1}, 2400, NAME_REASON_RANK_FAILED, "bug", 1},
        {{PEER_0, BUG_1}, 2500, NAME_REASON_RANK_FAILED, "bug", 1}, /* while it ends */
        {{BUG_1, PEER_0}, 0, NAME_REASON_RANK_FAILED, "bug", 1},
        {{BUG_1, LOST_2}, 0, NAME_REASON_RANK_FAILED, "bug", 1},
        {{PEER_0, LOST_2}, 0, NAME_REASON_LOST_PEER, "peer", 2},
        {{PEER_0, LOST_2}, 2400, NAME_REASON_LOST_PEER, "peer", 2},
        {{PEER_0, LOST_2}, 2500, NAME_REASON_LOST_PEER, "peer", 2},
        {{LOST_2, PEER_0}, 0, NAME_REASON_LOST_PEER, "peer", 2},
        {{LEAVING_2, LOST_2, PEER_0}, 200, NAME_REASON_LOST_PEER, "peer", 2},
        {{LEAVING_2, PEER_0, LOST_2}, 200, NAME_REASON_LOST_PEER, "peer", 2},
        {{PEER_0, NOTHING}, 0, NAME_REASON_RANK_FAILED, "peer", 0},
        {{LEAVING_2, PEER_0, NOTHING}, 0, NAME_REASON_RANK_FAILED, "peer", 0},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        sim_run_three();
        bool lost = !strcmp(table[i].cause, NAME_REASON_LOST_PEER);
        for (int again = 0; again < 5 && world_state(sim.world) != JOB_FAILED; again++) {
            int last = sim_report().attempt_count - 1, n = table[i].facts[2] ? 3 : 2;
            for (int k = 0; k < n; k++) {
                if (k == n - 1)
                    sim_advance(table[i].pause_ms);
                happen(table[i].facts[k]);
            }
            sim_advance(3000);
            struct report r = sim_report();
            ck_assert_msg(!strcmp(r.attempts[last].cause, table[i].cause), "row %zu: %s", i,
                r.attempts[last].cause);
            ck_assert_str_eq(r.attempts[last].exit_class, table[i].class_);
            ck_assert_int_eq(r.attempts[last].replica, table[i].replica);
            if (lost)
                ck_assert_str_eq(r.verdict.kind, NAME_REASON_LOST_PEER);
            sim_lose(2);
            sim_join(2);
            sim_advance(30000);
        }
        ck_assert_int_eq(world_state(sim.world), lost ? JOB_RUNNING : JOB_FAILED);
        world_destroy(sim.world);
    }
}
END_TEST

/* Without a cause to wait for nobody waits. */
START_TEST(symptoms_of_all_end_at_once)
{
    sim_run_three();
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < SIM_RANKS; k++)
            sim_exit_rank(i, k, EXIT_CLASS_PEER, 0, false, "a peer is gone");
    sim_settle();
    sim_advance(300);
    ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    ck_assert_int_eq(world_incarnation(sim.world), 8);
    world_destroy(sim.world);
}
END_TEST

/* Health sees that the others wait for it: it is gone, not stuck. */
START_TEST(who_missed_a_peer_does_not_hang)
{
    sim_run_three();
    sim_exit_rank(0, 0, EXIT_CLASS_PEER, 0, false, "a peer is gone");
    sim_settle();
    world_verdict(sim.world, &(struct health_verdict){.kind = HEALTH_HANG, .rank = 0}, sim.now);
    sim_settle();
    ck_assert_str_eq(sim_report().verdict.kind, "");
    sim_advance(1000);
    sim_lose(2);
    sim_advance(1000);
    ck_assert_str_eq(sim_report().attempts[0].cause, NAME_REASON_LOST_PEER);
    world_destroy(sim.world);
}
END_TEST

START_TEST(fatal_classes)
{
    static const struct {
        enum exit_class class_;
        const char *reason;
    } table[] = {{EXIT_CLASS_USER, NAME_REASON_USER_ERROR}, {EXIT_CLASS_DATA, NAME_REASON_BAD_DATA},
        {EXIT_CLASS_MEMORY, NAME_REASON_OUT_OF_MEMORY}, {EXIT_CLASS_DEVICE, NULL},
        {EXIT_CLASS_CORRUPT, NULL}, {EXIT_CLASS_RETRY, NULL}, {EXIT_CLASS_PEER, NULL},
        {EXIT_CLASS_HANG, NULL}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        sim_run_three();
        sim_exit_rank(1, 0, table[i].class_, 0, false, "why");
        sim_settle();
        sim_advance(5000);
        struct report r = sim_report();
        ck_assert_int_eq(r.state, table[i].reason ? JOB_FAILED : JOB_RUNNING);
        ck_assert_str_eq(r.failure_reason, table[i].reason ? table[i].reason : "");
        world_destroy(sim.world);
    }
}
END_TEST

/* Kind: a client ends the model for good. Columns: whether it is killed for memory, or served. */
START_TEST(what_may_go_better_is_not_final)
{
    static const struct {
        enum task task;
        enum exit_class class_;
        bool killed, served, final;
    } table[] = {
        {TASK_TRAIN, EXIT_CLASS_MEMORY, false, false, true},
        {TASK_TRAIN, EXIT_CLASS_MEMORY, true, false, false},
        {TASK_SERVE, EXIT_CLASS_MEMORY, false, false, false},
        {TASK_SERVE, EXIT_CLASS_MEMORY, true, true, false},
        {TASK_SERVE, EXIT_CLASS_MEMORY, false, true, false},
        {TASK_SERVE, EXIT_CLASS_USER, false, false, true},
        {TASK_SERVE, EXIT_CLASS_DATA, false, false, true},
        {TASK_SERVE, EXIT_CLASS_USER, false, true, false},
        {TASK_SERVE, EXIT_CLASS_DATA, false, true, false},
        {TASK_SERVE, EXIT_CLASS_DONE, false, true, false},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        sim_begin(table[i].task);
        sim_want(1, false, false);
        sim_join(0);
        sim_advance(1000);
        for (int k = 0; k < SIM_RANKS && table[i].served; k++)
            sim_frame(0, k, WIRE_SERVING, "{}");
        int prepares = sim.prepares;
        sim_exit_rank(0, 0, table[i].class_, table[i].killed ? 9 : 0, false, "why");
        sim_settle();
        sim_advance(5000);
        ck_assert_msg((world_state(sim.world) == JOB_FAILED) == table[i].final, "row %zu", i);
        ck_assert_int_eq(sim.prepares, prepares + !table[i].final);
        world_destroy(sim.world);
    }
    /* Within the budget. */
    sim_begin(TASK_SERVE);
    sim_want(1, false, false);
    sim_join(0);
    for (int i = 0; i < 4; i++) {
        sim_advance(12000);
        sim_exit_rank(0, 0, EXIT_CLASS_MEMORY, 9, false, "");
        sim_settle();
    }
    sim_advance(12000);
    ck_assert_int_eq(world_state(sim.world), JOB_FAILED);
    ck_assert_str_eq(sim_report().failure_reason, NAME_REASON_RESTARTS);
    world_destroy(sim.world);
}
END_TEST

START_TEST(restarts_run_out)
{
    sim_run_three();
    for (int i = 0; i < 4; i++) {
        sim_exit_rank(0, 0, EXIT_CLASS_BUG, 6, false, "");
        sim_settle();
        sim_advance(12000);
    }
    struct report r = sim_report();
    ck_assert_int_eq(r.state, JOB_FAILED);
    ck_assert_str_eq(r.failure_reason, NAME_REASON_RESTARTS);
    ck_assert_int_eq(sim.prepares, 4);
    world_destroy(sim.world);
}
END_TEST

/* A budget of any size that the API allows runs out after that many restarts, and what is older
 * than the window costs nothing. The kind: a bound that is silently smaller than what may be asked
 * for. */
START_TEST(every_budget_runs_out)
{
    static const int budgets[] = {0, 1, 128, 129, LIMIT_RESTARTS};
    char text[64];
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        sim_run_three();
        sim.desired.restart.max_restarts = budgets[i];
        sim_want(3, false, false);
        for (int k = 0; k <= budgets[i]; k++) {
            ck_assert_msg(world_state(sim.world) == JOB_RUNNING, "%d of %d", k, budgets[i]);
            sim_exit_rank(0, 0, EXIT_CLASS_BUG, 6, false, "");
            sim_settle();
            sim_advance(500);
        }
        struct report r = sim_report();
        ck_assert_msg(r.state == JOB_FAILED, "%d restarts never run out", budgets[i]);
        ck_assert_str_eq(r.failure_reason, NAME_REASON_RESTARTS);
        snprintf(text, sizeof text, "%d restarts within 3600 s", budgets[i]);
        ck_assert_msg(strstr(r.failure_message, text) != NULL, "%s", r.failure_message);
        ck_assert_int_eq(sim.prepares, budgets[i] + 1);
        world_destroy(sim.world);
    }
    sim_run_three();
    sim.desired.restart = (struct jobspec_restart){.max_restarts = 129, .window_seconds = 60};
    sim_want(3, false, false);
    for (int k = 0; k < 300; k++) { /* 120 within a window */
        sim_exit_rank(0, 0, EXIT_CLASS_BUG, 6, false, "");
        sim_settle();
        sim_advance(500);
        ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    }
    world_destroy(sim.world);
}
END_TEST

START_TEST(what_is_edited_holds_at_once)
{
    sim_run_three();
    sim.desired.restart.max_restarts = 5;
    sim.desired.elastic.wait_seconds = 20;
    sim_want(3, false, false);
    for (int i = 0; i < 4; i++) {
        sim_exit_rank(0, 0, EXIT_CLASS_BUG, 6, false, "");
        sim_settle();
        sim_advance(12000);
    }
    ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    sim_lose(2);
    sim_advance(15000);
    ck_assert_int_eq(world_state(sim.world), JOB_WAITING);
    sim.desired.elastic.wait_seconds = 10; /* over by now */
    sim_want(3, false, false);
    sim_advance(1000);
    ck_assert_int_eq(sim_report().world_replicas, 2);
    world_destroy(sim.world);
}
END_TEST

/* Of four members two and two share a model: three are as good as two. */
static void lose_one_of_two_pairs(const struct world_conf *conf)
{
    sim_begin(TASK_TRAIN);
    world_destroy(sim.world);
    ck_assert_int_eq(world_create(conf, &sim.world, &(struct err){0}), 0);
    sim_want(4, false, false);
    for (int i = 0; i < 4; i++)
        sim_join(i);
    sim_advance(1000);
    ck_assert_int_eq(sim_report().ranks, 8);
    ck_assert_int_eq(sim_report().tensor * sim_report().expert * sim_report().context, 4);
    ck_assert_int_eq(sim_report().data_parallel, 2);
    sim_lose(1);
    sim_advance(6000);
    ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    ck_assert_int_eq(sim_report().ranks, 4);
    ck_assert_int_eq(sim_report().data_parallel, 1);
    ck_assert_int_eq(sim_report().world_replicas, 3); /* the first and the third */
    sim_join(1);
    sim_advance(6000);
    ck_assert_int_eq(sim_report().ranks, 8);
    world_destroy(sim.world);
}

START_TEST(ranks_that_share_a_model_are_there_together)
{
    struct world_conf conf = {
        .task = TASK_TRAIN, .per_replica = SIM_RANKS, .tensor = 4, .incarnation = 6, .term = 1};
    lose_one_of_two_pairs(&conf);
    conf.tensor = 1;
    conf.expert = 4;
    lose_one_of_two_pairs(&conf);
    conf.expert = 1;
    conf.tensor = 2;
    conf.context = 2;
    lose_one_of_two_pairs(&conf);
}
END_TEST

/* All of two members, and nobody without the others. Rank 0 says when it serves. */
START_TEST(a_served_model_is_all_ranks_that_share_it)
{
    const struct world_conf conf = {.task = TASK_SERVE,
        .per_replica = SIM_RANKS,
        .tensor = 2,
        .pipeline = 2,
        .incarnation = 6,
        .term = 1};
    sim_begin(TASK_SERVE);
    world_destroy(sim.world);
    ck_assert_int_eq(world_create(&conf, &sim.world, &(struct err){0}), 0);
    sim.desired.elastic.min_replicas = 1;
    sim_want(2, false, false);
    sim_join(0);
    sim_advance(10000);
    ck_assert_int_eq(sim_report().ranks, 0);
    sim_join(1);
    sim_advance(1000);
    ck_assert_int_eq(sim_report().ranks, 2 * SIM_RANKS);
    ck_assert_int_eq(world_state(sim.world), JOB_FORMING);
    sim_frame(0, 0, WIRE_SERVING, "{}");
    sim_settle();
    ck_assert_int_eq(world_state(sim.world), JOB_SERVING);
    sim_exit_rank(1, 1, EXIT_CLASS_BUG, 9, false, "");
    sim_settle();
    sim_advance(1000);
    ck_assert_int_eq(sim.prepares, 2);
    ck_assert_int_eq(sim_report().ranks, 2 * SIM_RANKS);
    sim_lose(1);
    sim_advance(60000);
    ck_assert_int_eq(sim_report().ranks, 0);
    world_destroy(sim.world);
}
END_TEST

START_TEST(a_lost_member_is_awaited_then_done_without)
{
    sim_run_three();
    sim_lose(2);
    sim_advance(4000);
    ck_assert_int_eq(world_state(sim.world), JOB_WAITING);
    ck_assert_str_eq(sim_report().verdict.kind, NAME_REASON_LOST_PEER);
    sim_advance(2000);
    ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    ck_assert_int_eq(sim_report().world_replicas, 2);
    sim_join(2); /* back: grow at a boundary */
    sim_advance(2000);
    ck_assert_int_eq(sim_report().world_replicas, 3);
    ck_assert_int_eq(sim_report().attempts[1].steps_lost, 0);
    sim_lose(1);
    sim_lose(2);
    sim_advance(60000); /* below minReplicas: for ever */
    ck_assert_int_eq(world_state(sim.world), JOB_WAITING);
    ck_assert_int_eq(sim_report().failure, ERR_NONE);
    world_destroy(sim.world);
}
END_TEST

START_TEST(scales_at_a_boundary)
{
    sim_run_three();
    sim_want(4, false, false);
    sim_advance(500);
    ck_assert_int_eq(sim_report().world_replicas, 3); /* not yet joined: go on */
    ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    sim_join(3);
    ck_assert_int_eq(world_state(sim.world), JOB_STOPPING);
    sim_advance(1000);
    ck_assert_int_eq(sim_report().world_replicas, 4);
    sim_want(2, false, false);
    ck_assert_int_eq(sim_report().world_replicas, 4); /* surplus pods may not go yet */
    sim_advance(1000);
    struct report r = sim_report();
    ck_assert_int_eq(r.world_replicas, 2);
    ck_assert_int_eq(r.state, JOB_RUNNING);
    for (int i = 0; i < 2; i++) {
        ck_assert_str_eq(r.attempts[i].cause, "Scaled");
        ck_assert_int_eq(r.attempts[i].steps_lost, 0);
    }
    sim_want(0, false, false);
    sim_advance(1000);
    ck_assert_int_eq(world_state(sim.world), JOB_SUSPENDED);
    sim_want(2, true, false);
    sim_advance(1000);
    ck_assert_int_eq(world_state(sim.world), JOB_SUSPENDED);
    sim_want(2, false, false);
    sim_advance(1000);
    ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    ck_assert_int_eq(sim_report().restarts, 0);
    world_destroy(sim.world);
}
END_TEST

/* A pod is deleted by force: its agent says that it goes, and is killed before its ranks end. */
START_TEST(who_leaves_and_dies_holds_nobody_up)
{
    sim_run_three();
    world_leaving(sim.world, 2);
    sim_settle();
    ck_assert_int_eq(world_state(sim.world), JOB_STOPPING);
    sim_lose(2);
    sim_advance(1000); /* the other ranks end at the boundary */
    ck_assert_int_eq(world_state(sim.world), JOB_WAITING);
    sim_join(2);
    sim_advance(1000);
    struct report r = sim_report();
    ck_assert_int_eq(r.state, JOB_RUNNING);
    ck_assert_int_eq(r.world_replicas, 3);
    ck_assert_str_eq(r.attempts[0].cause, "Leaving");
    world_destroy(sim.world);
}
END_TEST

START_TEST(completes_and_releases)
{
    sim_run_three();
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < SIM_RANKS; k++)
            sim_exit_rank(i, k, EXIT_CLASS_DONE, 0, false, "");
    for (int i = 0; i < 3; i++) {
        world_ended(sim.world, i, 7);
        sim.pods[i].live = 0;
    }
    sim_settle();
    ck_assert_int_eq(world_state(sim.world), JOB_COMPLETE);
    sim_lose(1);
    sim_join(1);
    sim_want(3, false, false);
    sim_advance(10000);
    ck_assert_int_eq(world_state(sim.world), JOB_COMPLETE);
    ck_assert_int_eq(sim.prepares, 1);
    sim_want(3, false, true);
    sim_want(3, false, true);
    ck_assert_int_eq(sim.releases, 1);
    world_destroy(sim.world);
}
END_TEST

/* It takes no steps: its verdict goes when it has served again for a while. */
START_TEST(the_verdict_on_a_server_goes_when_it_serves_again)
{
    const struct health_verdict hang = {.kind = HEALTH_HANG, .rank = 0}, well = {.rank = -1};
    sim_begin(TASK_SERVE);
    sim_want(1, false, false);
    sim_join(0);
    sim_advance(1000);
    for (int again = 0; again < 2; again++) {
        for (int k = 0; k < SIM_RANKS; k++)
            sim_frame(0, k, WIRE_SERVING, "{}");
        sim_settle();
        ck_assert_int_eq(world_state(sim.world), JOB_SERVING);
        if (again)
            break;
        world_verdict(sim.world, &hang, sim.now);
        sim_settle();
        sim_advance(5000);
        world_verdict(sim.world, &well, sim.now);
        ck_assert_str_eq(sim_report().verdict.kind, NAME_REASON_HANG);
        sim_advance(30000); /* it loads, which says nothing */
        world_verdict(sim.world, &well, sim.now);
        ck_assert_str_eq(sim_report().verdict.kind, NAME_REASON_HANG);
    }
    world_verdict(sim.world, &well, sim.now);
    ck_assert_str_eq(sim_report().verdict.kind, "");
    world_destroy(sim.world);
}
END_TEST

START_TEST(a_hang_verdict_ends_the_incarnation)
{
    sim_run_three();
    struct health_verdict v = {.kind = HEALTH_HANG, .rank = 4};
    snprintf(v.operation, sizeof v.operation, "allreduce");
    world_verdict(sim.world, &v, sim.now);
    sim_settle();
    struct report r = sim_report();
    ck_assert_str_eq(r.verdict.kind, "Hang");
    ck_assert_int_eq(r.verdict.replica, 2);
    ck_assert_str_eq(r.verdict.operation, "allreduce");
    sim_advance(1000);
    ck_assert_int_eq(world_incarnation(sim.world), 8);
    ck_assert_str_eq(sim_report().attempts[0].cause, "Hang");
    sim_advance(60000);
    ck_assert_str_eq(sim_report().verdict.kind, "");
    world_destroy(sim.world);
}
END_TEST

/* A member follows another's term: the ranks end, nothing is claimed any more, nothing comes
 * back. */
START_TEST(who_is_superseded_ends)
{
    sim_run_three();
    world_superseded(sim.world, sim.desired.term - 1); /* of the past */
    sim_settle();
    ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    world_superseded(sim.world, 9);
    sim_settle();
    ck_assert_int_eq(sim.stops, 1);
    sim_exit_rank(1, 0, EXIT_CLASS_USER, 0, false, "told while it ends");
    sim_settle();
    ck_assert(!world_over(sim.world));
    sim_advance(1000);
    ck_assert(world_over(sim.world));
    struct report r = sim_report();
    ck_assert_int_ne(r.state, JOB_FAILED);
    ck_assert_int_eq(r.failure, ERR_NONE);
    ck_assert_int_eq(r.term, 9);
    sim.desired.term = 10;
    ck_assert_int_eq(world_desired(sim.world, &sim.desired, sim.now, &e), -ERR_USER);
    sim_advance(60000);
    ck_assert_int_eq(sim.prepares, 1);
    world_destroy(sim.world);
}
END_TEST

/* The checkpoint is in another world's hands: a rank says that it drained, and nobody had asked. */
START_TEST(who_lost_the_checkpoint_ends)
{
    sim_run_three();
    sim_exit_rank(0, 0, EXIT_CLASS_DRAINED, 0, false, "incarnation 9 has begun, this is 7");
    sim_settle();
    sim_advance(1000);
    ck_assert(world_over(sim.world));
    ck_assert_int_eq(sim.prepares, 1);
    world_destroy(sim.world);
}
END_TEST

START_TEST(terms_only_grow)
{
    sim_run_three();
    ck_assert_int_eq(world_term(sim.world), 2);
    sim.desired.term = 1;
    ck_assert_int_eq(world_desired(sim.world, &sim.desired, sim.now, &e), -ERR_USER);
    sim.desired.term = 5; /* the same process: its ranks are not disturbed */
    sim_want(3, false, false);
    ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    ck_assert_int_eq(world_term(sim.world), 5);
    world_destroy(sim.world);
}
END_TEST

START_TEST(remembers_what_it_reported)
{
    sim_run_three();
    sim_exit_rank(1, 0, EXIT_CLASS_DATA, 0, false, "file:3");
    sim_settle();
    sim_advance(1000);
    struct report r = sim_report();
    struct world *old = sim.world;
    sim_begin(TASK_TRAIN);
    world_recover(sim.world, &r);
    ck_assert_int_eq(world_incarnation(sim.world), 7);
    struct report again = sim_report();
    ck_assert_int_eq(again.state, JOB_FAILED);
    ck_assert_str_eq(again.failure_message, "file:3");
    ck_assert_int_eq(again.attempt_count, 1);
    ck_assert_int_eq(again.step, r.step);
    world_destroy(old);
    world_destroy(sim.world);
}
END_TEST

/* -- random worlds -- */

static void random_event(void)
{
    int replica = (int)sim_random(SIM_MEMBERS);
    struct sim_pod *p = &sim.pods[replica];
    switch (sim_random(10)) {
    case 0:
    case 1:
        if (!p->joined)
            sim_join(replica);
        break;
    case 2:
        if (sim_random(3) == 0 && p->joined) { /* it says so, and goes some time after */
            world_leaving(sim.world, replica);
            sim_settle();
            sim_advance((int64_t)(50 * sim_random(10)));
        }
        sim_lose(replica);
        break;
    case 3:
        sim_want((int)sim_random(SIM_MEMBERS + 1), sim_random(6) == 0, false);
        break;
    case 4: {
        static const enum exit_class classes[] = {
            EXIT_CLASS_BUG, EXIT_CLASS_PEER, EXIT_CLASS_HANG, EXIT_CLASS_DEVICE};
        int local = (int)sim_random(SIM_RANKS);
        if (p->joined && p->live && !p->killed[local])
            sim_exit_rank(replica, local, classes[sim_random(4)], 0, false, "");
        break;
    }
    case 5:
        if (sim_random(8) == 0 && p->joined && p->live && !p->killed[0]) {
            sim_exit_rank(replica, 0, EXIT_CLASS_USER, 0, false, "user");
            if (sim_in_world(replica))
                sim.user_error = true;
        }
        break;
    case 6: { /* messages of the past, and nonsense */
        world_ended(sim.world, replica, world_incarnation(sim.world) - 1 - (int64_t)sim_random(3));
        world_prepared(sim.world, replica, world_incarnation(sim.world) - 1, NULL, 0);
        world_refused(sim.world, (int64_t)sim_random(20));
        break;
    }
    case 7: {
        struct health_verdict v = {.kind = sim_random(3) ? HEALTH_STRAGGLER : HEALTH_HANG,
            .rank = (int)sim_random(SIM_MEMBERS * SIM_RANKS)};
        world_verdict(sim.world, &v, sim.now);
        break;
    }
    default:
        sim_advance((int64_t)(50 * (1 + sim_random(40))));
        break;
    }
    sim_settle();
}

START_TEST(random_worlds_keep_their_promises)
{
    const char *text = getenv("LLMJOB_SIM_ROUNDS"), *from = getenv("LLMJOB_SIM_SEED");
    long rounds = text ? strtol(text, NULL, 10) : 180;
    uint64_t seed = from ? strtoull(from, NULL, 10) : (uint64_t)time(NULL) * 1000;
    printf("seed %llu, %ld worlds\n", (unsigned long long)seed, rounds);
    for (long round = 0; round < rounds; round++) {
        sim_begin(TASK_TRAIN);
        sim.random = seed * 2654435761u + (uint64_t)round * 7919 + 1;
        sim_want(1 + (int)sim_random(SIM_MEMBERS), false, false);
        for (int i = 0; i < 120; i++) {
            random_event();
            struct report r = sim_report();
            ck_assert_int_le(r.attempt_count, LIMIT_ATTEMPTS);
            ck_assert_int_eq(r.incarnation, world_incarnation(sim.world));
        }
        /* Left alone with all members well, it runs, or has failed for a reason. */
        int prepares = sim.prepares;
        bool failed = world_state(sim.world) == JOB_FAILED;
        for (int i = 0; i < SIM_MEMBERS; i++)
            if (!sim.pods[i].joined)
                sim_join(i);
        sim_want(3, false, false);
        sim_advance(60000);
        struct report r = sim_report();
        if (failed)
            ck_assert_int_eq(sim.prepares, prepares);
        if (sim.user_error)
            ck_assert_int_eq(r.state, JOB_FAILED);
        ck_assert_msg(r.state == JOB_RUNNING || r.state == JOB_FAILED, "seed %llu round %ld: %s",
            (unsigned long long)seed, round, job_state_name(r.state));
        if (r.state == JOB_RUNNING)
            ck_assert_int_eq(r.ranks, 3 * SIM_RANKS);
        else
            ck_assert_int_ne(r.failure_reason[0], 0);
        world_destroy(sim.world);
    }
}
END_TEST

UNIT_MAIN_WITHIN("world", 60, forms_over_all_desired, a_rank_death_restarts_at_once,
    a_bad_device_names_its_node, the_cause_decides_not_the_symptom, the_cause_is_named_in_any_order,
    symptoms_of_all_end_at_once, who_missed_a_peer_does_not_hang, fatal_classes,
    what_may_go_better_is_not_final, restarts_run_out, every_budget_runs_out,
    what_is_edited_holds_at_once, ranks_that_share_a_model_are_there_together,
    a_served_model_is_all_ranks_that_share_it, a_lost_member_is_awaited_then_done_without,
    scales_at_a_boundary, who_leaves_and_dies_holds_nobody_up, completes_and_releases,
    the_verdict_on_a_server_goes_when_it_serves_again, a_hang_verdict_ends_the_incarnation,
    who_is_superseded_ends, who_lost_the_checkpoint_ends, terms_only_grow,
    remembers_what_it_reported, random_worlds_keep_their_promises)
