/*
 * world: goal: the guarantees of agent/world.h. Method: a simulated pod set answers the world's
 * actions (agents join and go, ranks load, step, fail, exit); tables pin the stories of the design,
 * and random worlds with a printed seed check the properties after every event: the incarnation
 * never falls; no rank starts while a joined member still has ranks of an older incarnation; a user
 * error never restarts; left alone, every world comes to run and to complete.
 */
#include "agent/world.h"
#include "api/names.h"
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define MEMBERS 4
#define RANKS   2 /* a member */

struct pod {
    bool up, joined, leaving;
    int64_t live; /* incarnation of its ranks, 0: none */
    int64_t greatest;
    bool started, loaded;
    bool killed[RANKS];
    int64_t end_ms; /* when ranks that were told to stop are gone, 0: not told */
    bool drain;
};

static struct {
    struct world *world;
    struct pod pods[MEMBERS];
    struct desired desired;
    struct member members[MEMBERS];
    struct world_now now;
    int64_t last_incarnation, step, checkpoint;
    int starts, prepares, stops, releases;
    bool user_error;
    uint64_t random;
} sim;
static struct err e;

static uint64_t rnd(uint64_t n)
{
    sim.random ^= sim.random << 13;
    sim.random ^= sim.random >> 7;
    sim.random ^= sim.random << 17;
    return sim.random % n;
}

/* -- the simulated pods -- */

static bool in_world(int replica)
{
    for (int i = 0; i < world_ranks(sim.world); i++)
        if (world_place(sim.world, i).replica == replica)
            return true;
    return false;
}

static void check_no_older_ranks(int64_t incarnation)
{
    for (int i = 0; i < MEMBERS; i++)
        if (sim.pods[i].joined && sim.pods[i].live)
            ck_assert_msg(sim.pods[i].live == incarnation,
                "incarnation %lld starts while replica %d has ranks of %lld",
                (long long)incarnation, i, (long long)sim.pods[i].live);
}

static void exit_rank(
    int replica, int local, enum exit_class c, int signal, bool asked, const char *message)
{
    world_exit(sim.world, replica,
        &(struct mesh_msg){.type = MESH_EXIT,
            .incarnation = sim.pods[replica].live,
            .local = local,
            .class_ = c,
            .signal = signal,
            .asked = asked,
            .message = message,
            .log_tail = "tail"},
        sim.now);
    sim.pods[replica].killed[local] = true;
}

static void ranks_gone(int replica)
{
    struct pod *p = &sim.pods[replica];
    int64_t live = p->live;
    for (int k = 0; k < RANKS; k++)
        if (!p->killed[k] && p->joined)
            exit_rank(replica, k, p->drain ? EXIT_CLASS_DRAINED : EXIT_CLASS_PEER,
                p->drain ? 0 : 15, !p->drain, "");
    p->live = 0;
    p->end_ms = 0;
    p->started = p->loaded = false;
    if (p->joined)
        world_ended(sim.world, replica, live);
}

static void on_prepare(int replica, int64_t incarnation)
{
    struct pod *p = &sim.pods[replica];
    static const uint16_t ports[RANKS] = {1000, 1001};
    if (!p->joined)
        return;
    if (incarnation <= p->greatest) {
        world_refused(sim.world, p->greatest);
        return;
    }
    if (p->live)
        ranks_gone(replica); /* it clears its older ranks first */
    *p = (struct pod){.up = true,
        .joined = true,
        .leaving = p->leaving,
        .live = incarnation,
        .greatest = incarnation};
    world_prepared(sim.world, replica, incarnation, ports, RANKS);
}

static void carry_out(const struct world_action *a)
{
    switch (a->kind) {
    case WORLD_PREPARE:
        ck_assert_int_gt(a->incarnation, sim.last_incarnation);
        sim.last_incarnation = a->incarnation;
        sim.prepares++;
        for (int i = 0; i < MEMBERS; i++)
            if (in_world(i))
                on_prepare(i, a->incarnation);
        break;
    case WORLD_START:
        ck_assert_int_eq(a->incarnation, sim.last_incarnation);
        check_no_older_ranks(a->incarnation);
        sim.starts++;
        for (int i = 0; i < MEMBERS; i++)
            if (sim.pods[i].joined && sim.pods[i].live == a->incarnation)
                sim.pods[i].started = true;
        break;
    case WORLD_STOP:
        sim.stops++;
        for (int i = 0; i < MEMBERS; i++) {
            struct pod *p = &sim.pods[i];
            if (!p->joined || p->live != a->incarnation)
                continue;
            p->drain = a->mode == MESH_DRAIN;
            p->end_ms = sim.now.ms + (p->drain ? 300 : 50);
        }
        break;
    case WORLD_DROP:
        ck_assert(sim.pods[a->replica].joined);
        break;
    case WORLD_RELEASE:
        sim.releases++;
        break;
    }
}

static void settle(void)
{
    struct world_actions actions;
    for (int i = 0; i < 32; i++) {
        enum job_state before = world_state(sim.world);
        world_decide(sim.world, sim.now, &actions);
        ck_assert_int_le(actions.count, WORLD_ACTIONS);
        for (int k = 0; k < actions.count; k++)
            carry_out(&actions.list[k]);
        ck_assert_int_ge(world_incarnation(sim.world), sim.last_incarnation);
        if (!actions.count && world_state(sim.world) == before)
            return;
    }
    ck_abort_msg("the world does not settle");
}

static void frame(int replica, int local, enum wire_type type, const char *text)
{
    json_auto struct json *v = NULL;
    ck_assert_int_eq(json_parse(text, strlen(text), &v, &e), 0);
    world_frame(sim.world, replica, sim.pods[replica].live, local, type, v, sim.now);
}

static void load(int replica)
{
    char text[96];
    snprintf(text, sizeof text, "{\"resumed_step\":%lld,\"steps\":1000,\"memory_bytes\":5}",
        (long long)sim.checkpoint);
    for (int k = 0; k < RANKS; k++)
        frame(replica, k, WIRE_LOADED, text);
    sim.pods[replica].loaded = true;
    sim.step = sim.checkpoint;
}

/* Whether every member of the world steps: then rank 0 says so. */
static void step_world(void)
{
    int n = 0;
    for (int i = 0; i < MEMBERS; i++)
        if (in_world(i)) {
            const struct pod *p = &sim.pods[i];
            if (!p->loaded || p->end_ms || p->killed[0] || p->killed[1])
                return;
            n++;
        }
    if (!n)
        return;
    char text[96];
    snprintf(text, sizeof text, "{\"step\":%lld,\"loss\":1.5,\"tokens\":1,\"tokens_per_second\":2}",
        (long long)++sim.step);
    frame(world_place(sim.world, 0).replica, 0, WIRE_STEP, text);
    if (sim.step % 5 == 0) {
        sim.checkpoint = sim.step;
        snprintf(text, sizeof text, "{\"step\":%lld,\"path\":\"/c\"}", (long long)sim.step);
        frame(world_place(sim.world, 0).replica, 0, WIRE_SAVED, text);
    }
}

static void advance(int64_t ms)
{
    for (int64_t end_ms = sim.now.ms + ms; sim.now.ms < end_ms;) {
        sim.now.ms += 50;
        sim.now.wall_ms += 50;
        bool drained = false;
        for (int i = 0; i < MEMBERS; i++) {
            struct pod *p = &sim.pods[i];
            if (p->live && p->end_ms && sim.now.ms >= p->end_ms) {
                drained |= p->drain;
                ranks_gone(i);
            } else if (p->joined && p->started && !p->loaded) {
                load(i);
            }
        }
        if (drained)
            sim.checkpoint = sim.step;
        step_world();
        settle();
    }
}

static void join(int replica)
{
    struct pod *p = &sim.pods[replica];
    char uid[16];
    snprintf(uid, sizeof uid, "u%d", replica);
    p->up = p->joined = true;
    world_joined(sim.world, replica, uid, p->greatest, sim.now);
    settle();
}

/* The agent dies and its ranks with it. */
static void lose(int replica)
{
    int64_t greatest = sim.pods[replica].greatest;
    if (!sim.pods[replica].joined)
        return;
    sim.pods[replica] = (struct pod){.greatest = greatest};
    world_lost(sim.world, replica, sim.now);
    settle();
}

static void want(int replicas, bool suspend, bool release)
{
    sim.desired.generation++;
    sim.desired.replicas = replicas;
    sim.desired.suspend = suspend;
    sim.desired.release = release;
    ck_assert_int_eq(world_desired(sim.world, &sim.desired, sim.now, &e), 0);
    settle();
}

static void begin(enum task task)
{
    static const char *const uids[] = {"u0", "u1", "u2", "u3"};
    memset(&sim, 0, sizeof sim);
    sim.random = 88172645463325252u;
    sim.now = (struct world_now){1000, 1700000000000};
    struct world_conf conf = {.task = task, .per_replica = RANKS, .incarnation = 6, .term = 1};
    sim.last_incarnation = 6;
    ck_assert_int_eq(world_create(&conf, &sim.world, &e), 0);
    for (int i = 0; i < MEMBERS; i++)
        sim.members[i] = (struct member){i, "pod", uids[i], "node", "10.0.0.1:7070"};
    sim.desired.term = 2;
    sim.desired.elastic = (struct jobspec_elastic){.min_replicas = 2, .wait_seconds = 5};
    sim.desired.restart = (struct jobspec_restart){.max_restarts = 3, .window_seconds = 3600};
    sim.desired.members = sim.members;
    sim.desired.member_count = MEMBERS;
}

static void run_three(void)
{
    begin(TASK_TRAIN);
    want(3, false, false);
    for (int i = 0; i < 3; i++)
        join(i);
    advance(1000);
    ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    ck_assert_int_eq(world_incarnation(sim.world), 7);
    ck_assert_int_eq(world_ranks(sim.world), 6);
}

static struct arena *arena;
static struct report report_now(void)
{
    struct report r;
    if (!arena)
        arena = arena_create(1 << 20);
    arena_reset(arena);
    ck_assert_int_eq(world_report(sim.world, arena, &r, &e), 0);
    return r;
}

/* -- stories -- */

START_TEST(forms_over_all_desired)
{
    begin(TASK_TRAIN);
    join(0); /* unknown yet: ignored */
    ck_assert_int_eq(world_state(sim.world), JOB_WAITING);
    want(3, false, false);
    join(0);
    join(1);
    advance(1000);
    ck_assert_int_eq(world_state(sim.world), JOB_WAITING);
    sim.pods[2].greatest = 40; /* it has seen more than the coordinator */
    join(2);
    advance(500);
    ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    ck_assert_int_eq(world_incarnation(sim.world), 41);
    world_destroy(sim.world);
}
END_TEST

START_TEST(a_rank_death_restarts_at_once)
{
    run_three();
    int64_t step = sim.step;
    exit_rank(2, 1, EXIT_CLASS_BUG, 11, false, "");
    settle();
    advance(300);
    struct report r = report_now();
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
    run_three();
    exit_rank(0, 1, EXIT_CLASS_PEER, 0, false, "a peer is gone");
    exit_rank(1, 1, EXIT_CLASS_DEVICE, 0, false, said);
    settle();
    struct report r = report_now();
    ck_assert_str_eq(r.verdict.kind, NAME_REASON_BAD_DEVICE);
    ck_assert_str_eq(r.verdict.node, "node");
    ck_assert_int_eq(r.verdict.replica, 1);
    ck_assert_int_eq(r.verdict.rank, 3);
    ck_assert_ptr_nonnull(strstr(r.verdict.message, said));
    ck_assert_ptr_nonnull(strstr(r.verdict.message, "node node:"));
    advance(300);
    r = report_now();
    ck_assert_int_eq(r.incarnation, 8);
    ck_assert_str_eq(r.attempts[0].cause, NAME_REASON_RANK_FAILED);
    ck_assert_str_eq(r.attempts[0].exit_class, "device");
    ck_assert_str_eq(r.attempts[0].node, "node");
    ck_assert_int_eq(r.attempts[0].rank, 3);
    ck_assert_int_eq(r.restarts, 1);
    advance(60000);
    ck_assert_str_eq(report_now().verdict.kind, "");
    /* Again and again: the job fails with the sentence. */
    for (int i = 0; i < 4 && world_state(sim.world) != JOB_FAILED; i++) {
        exit_rank(1, 1, EXIT_CLASS_DEVICE, 0, false, said);
        advance(120000);
    }
    r = report_now();
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
    run_three();
    exit_rank(0, 0, EXIT_CLASS_PEER, 0, false, "a peer is gone");
    settle();
    exit_rank(1, 1, EXIT_CLASS_USER, 0, false, "spec.train.steps: nonsense");
    settle();
    advance(5000);
    struct report r = report_now();
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
        exit_rank(0, 0, EXIT_CLASS_PEER, 0, false, "a peer is gone");
        break;
    case BUG_1:
        exit_rank(1, 1, EXIT_CLASS_BUG, 11, false, "");
        break;
    case LEAVING_2:
        world_leaving(sim.world, 2);
        break;
    case LOST_2:
        lose(2);
        break;
    }
    settle();
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
        run_three();
        bool lost = !strcmp(table[i].cause, NAME_REASON_LOST_PEER);
        for (int again = 0; again < 5 && world_state(sim.world) != JOB_FAILED; again++) {
            int last = report_now().attempt_count - 1, n = table[i].facts[2] ? 3 : 2;
            for (int k = 0; k < n; k++) {
                if (k == n - 1)
                    advance(table[i].pause_ms);
                happen(table[i].facts[k]);
            }
            advance(3000);
            struct report r = report_now();
            ck_assert_msg(!strcmp(r.attempts[last].cause, table[i].cause), "row %zu: %s", i,
                r.attempts[last].cause);
            ck_assert_str_eq(r.attempts[last].exit_class, table[i].class_);
            ck_assert_int_eq(r.attempts[last].replica, table[i].replica);
            if (lost)
                ck_assert_str_eq(r.verdict.kind, NAME_REASON_LOST_PEER);
            lose(2);
            join(2);
            advance(30000);
        }
        ck_assert_int_eq(world_state(sim.world), lost ? JOB_RUNNING : JOB_FAILED);
        world_destroy(sim.world);
    }
}
END_TEST

/* Without a cause to wait for nobody waits. */
START_TEST(symptoms_of_all_end_at_once)
{
    run_three();
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < RANKS; k++)
            exit_rank(i, k, EXIT_CLASS_PEER, 0, false, "a peer is gone");
    settle();
    advance(300);
    ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    ck_assert_int_eq(world_incarnation(sim.world), 8);
    world_destroy(sim.world);
}
END_TEST

/* Health sees that the others wait for it: it is gone, not stuck. */
START_TEST(who_missed_a_peer_does_not_hang)
{
    run_three();
    exit_rank(0, 0, EXIT_CLASS_PEER, 0, false, "a peer is gone");
    settle();
    world_verdict(sim.world, &(struct health_verdict){.kind = HEALTH_HANG, .rank = 0}, sim.now);
    settle();
    ck_assert_str_eq(report_now().verdict.kind, "");
    advance(1000);
    lose(2);
    advance(1000);
    ck_assert_str_eq(report_now().attempts[0].cause, NAME_REASON_LOST_PEER);
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
        run_three();
        exit_rank(1, 0, table[i].class_, 0, false, "why");
        settle();
        advance(5000);
        struct report r = report_now();
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
        begin(table[i].task);
        want(1, false, false);
        join(0);
        advance(1000);
        for (int k = 0; k < RANKS && table[i].served; k++)
            frame(0, k, WIRE_SERVING, "{}");
        int prepares = sim.prepares;
        exit_rank(0, 0, table[i].class_, table[i].killed ? 9 : 0, false, "why");
        settle();
        advance(5000);
        ck_assert_msg((world_state(sim.world) == JOB_FAILED) == table[i].final, "row %zu", i);
        ck_assert_int_eq(sim.prepares, prepares + !table[i].final);
        world_destroy(sim.world);
    }
    /* Within the budget. */
    begin(TASK_SERVE);
    want(1, false, false);
    join(0);
    for (int i = 0; i < 4; i++) {
        advance(12000);
        exit_rank(0, 0, EXIT_CLASS_MEMORY, 9, false, "");
        settle();
    }
    advance(12000);
    ck_assert_int_eq(world_state(sim.world), JOB_FAILED);
    ck_assert_str_eq(report_now().failure_reason, NAME_REASON_RESTARTS);
    world_destroy(sim.world);
}
END_TEST

START_TEST(restarts_run_out)
{
    run_three();
    for (int i = 0; i < 4; i++) {
        exit_rank(0, 0, EXIT_CLASS_BUG, 6, false, "");
        settle();
        advance(12000);
    }
    struct report r = report_now();
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
        run_three();
        sim.desired.restart.max_restarts = budgets[i];
        want(3, false, false);
        for (int k = 0; k <= budgets[i]; k++) {
            ck_assert_msg(world_state(sim.world) == JOB_RUNNING, "%d of %d", k, budgets[i]);
            exit_rank(0, 0, EXIT_CLASS_BUG, 6, false, "");
            settle();
            advance(500);
        }
        struct report r = report_now();
        ck_assert_msg(r.state == JOB_FAILED, "%d restarts never run out", budgets[i]);
        ck_assert_str_eq(r.failure_reason, NAME_REASON_RESTARTS);
        snprintf(text, sizeof text, "%d restarts within 3600 s", budgets[i]);
        ck_assert_msg(strstr(r.failure_message, text) != NULL, "%s", r.failure_message);
        ck_assert_int_eq(sim.prepares, budgets[i] + 1);
        world_destroy(sim.world);
    }
    run_three();
    sim.desired.restart = (struct jobspec_restart){.max_restarts = 129, .window_seconds = 60};
    want(3, false, false);
    for (int k = 0; k < 300; k++) { /* 120 within a window */
        exit_rank(0, 0, EXIT_CLASS_BUG, 6, false, "");
        settle();
        advance(500);
        ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    }
    world_destroy(sim.world);
}
END_TEST

START_TEST(what_is_edited_holds_at_once)
{
    run_three();
    sim.desired.restart.max_restarts = 5;
    sim.desired.elastic.wait_seconds = 20;
    want(3, false, false);
    for (int i = 0; i < 4; i++) {
        exit_rank(0, 0, EXIT_CLASS_BUG, 6, false, "");
        settle();
        advance(12000);
    }
    ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    lose(2);
    advance(15000);
    ck_assert_int_eq(world_state(sim.world), JOB_WAITING);
    sim.desired.elastic.wait_seconds = 10; /* over by now */
    want(3, false, false);
    advance(1000);
    ck_assert_int_eq(report_now().world_replicas, 2);
    world_destroy(sim.world);
}
END_TEST

START_TEST(a_lost_member_is_awaited_then_done_without)
{
    run_three();
    lose(2);
    advance(4000);
    ck_assert_int_eq(world_state(sim.world), JOB_WAITING);
    ck_assert_str_eq(report_now().verdict.kind, NAME_REASON_LOST_PEER);
    advance(2000);
    ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    ck_assert_int_eq(report_now().world_replicas, 2);
    join(2); /* back: grow at a boundary */
    advance(2000);
    ck_assert_int_eq(report_now().world_replicas, 3);
    ck_assert_int_eq(report_now().attempts[1].steps_lost, 0);
    lose(1);
    lose(2);
    advance(60000); /* below minReplicas: for ever */
    ck_assert_int_eq(world_state(sim.world), JOB_WAITING);
    ck_assert_int_eq(report_now().failure, ERR_NONE);
    world_destroy(sim.world);
}
END_TEST

START_TEST(scales_at_a_boundary)
{
    run_three();
    want(4, false, false);
    advance(500);
    ck_assert_int_eq(report_now().world_replicas, 3); /* not yet joined: go on */
    ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    join(3);
    ck_assert_int_eq(world_state(sim.world), JOB_STOPPING);
    advance(1000);
    ck_assert_int_eq(report_now().world_replicas, 4);
    want(2, false, false);
    ck_assert_int_eq(report_now().world_replicas, 4); /* surplus pods may not go yet */
    advance(1000);
    struct report r = report_now();
    ck_assert_int_eq(r.world_replicas, 2);
    ck_assert_int_eq(r.state, JOB_RUNNING);
    for (int i = 0; i < 2; i++) {
        ck_assert_str_eq(r.attempts[i].cause, "Scaled");
        ck_assert_int_eq(r.attempts[i].steps_lost, 0);
    }
    want(0, false, false);
    advance(1000);
    ck_assert_int_eq(world_state(sim.world), JOB_SUSPENDED);
    want(2, true, false);
    advance(1000);
    ck_assert_int_eq(world_state(sim.world), JOB_SUSPENDED);
    want(2, false, false);
    advance(1000);
    ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    ck_assert_int_eq(report_now().restarts, 0);
    world_destroy(sim.world);
}
END_TEST

/* A pod is deleted by force: its agent says that it goes, and is killed before its ranks end. */
START_TEST(who_leaves_and_dies_holds_nobody_up)
{
    run_three();
    world_leaving(sim.world, 2);
    settle();
    ck_assert_int_eq(world_state(sim.world), JOB_STOPPING);
    lose(2);
    advance(1000); /* the other ranks end at the boundary */
    ck_assert_int_eq(world_state(sim.world), JOB_WAITING);
    join(2);
    advance(1000);
    struct report r = report_now();
    ck_assert_int_eq(r.state, JOB_RUNNING);
    ck_assert_int_eq(r.world_replicas, 3);
    ck_assert_str_eq(r.attempts[0].cause, "Leaving");
    world_destroy(sim.world);
}
END_TEST

START_TEST(completes_and_releases)
{
    run_three();
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < RANKS; k++)
            exit_rank(i, k, EXIT_CLASS_DONE, 0, false, "");
    for (int i = 0; i < 3; i++) {
        world_ended(sim.world, i, 7);
        sim.pods[i].live = 0;
    }
    settle();
    ck_assert_int_eq(world_state(sim.world), JOB_COMPLETE);
    lose(1);
    join(1);
    want(3, false, false);
    advance(10000);
    ck_assert_int_eq(world_state(sim.world), JOB_COMPLETE);
    ck_assert_int_eq(sim.prepares, 1);
    want(3, false, true);
    want(3, false, true);
    ck_assert_int_eq(sim.releases, 1);
    world_destroy(sim.world);
}
END_TEST

START_TEST(a_hang_verdict_ends_the_incarnation)
{
    run_three();
    struct health_verdict v = {.kind = HEALTH_HANG, .rank = 4};
    snprintf(v.operation, sizeof v.operation, "allreduce");
    world_verdict(sim.world, &v, sim.now);
    settle();
    struct report r = report_now();
    ck_assert_str_eq(r.verdict.kind, "Hang");
    ck_assert_int_eq(r.verdict.replica, 2);
    ck_assert_str_eq(r.verdict.operation, "allreduce");
    advance(1000);
    ck_assert_int_eq(world_incarnation(sim.world), 8);
    ck_assert_str_eq(report_now().attempts[0].cause, "Hang");
    advance(60000);
    ck_assert_str_eq(report_now().verdict.kind, "");
    world_destroy(sim.world);
}
END_TEST

/* A member follows another's term: the ranks end, nothing is claimed any more, nothing comes
 * back. */
START_TEST(who_is_superseded_ends)
{
    run_three();
    world_superseded(sim.world, sim.desired.term - 1); /* of the past */
    settle();
    ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    world_superseded(sim.world, 9);
    settle();
    ck_assert_int_eq(sim.stops, 1);
    exit_rank(1, 0, EXIT_CLASS_USER, 0, false, "told while it ends");
    settle();
    ck_assert(!world_over(sim.world));
    advance(1000);
    ck_assert(world_over(sim.world));
    struct report r = report_now();
    ck_assert_int_ne(r.state, JOB_FAILED);
    ck_assert_int_eq(r.failure, ERR_NONE);
    ck_assert_int_eq(r.term, 9);
    sim.desired.term = 10;
    ck_assert_int_eq(world_desired(sim.world, &sim.desired, sim.now, &e), -ERR_USER);
    advance(60000);
    ck_assert_int_eq(sim.prepares, 1);
    world_destroy(sim.world);
}
END_TEST

/* The checkpoint is in another world's hands: a rank says that it drained, and nobody had asked. */
START_TEST(who_lost_the_checkpoint_ends)
{
    run_three();
    exit_rank(0, 0, EXIT_CLASS_DRAINED, 0, false, "incarnation 9 has begun, this is 7");
    settle();
    advance(1000);
    ck_assert(world_over(sim.world));
    ck_assert_int_eq(sim.prepares, 1);
    world_destroy(sim.world);
}
END_TEST

START_TEST(terms_only_grow)
{
    run_three();
    ck_assert_int_eq(world_term(sim.world), 2);
    sim.desired.term = 1;
    ck_assert_int_eq(world_desired(sim.world, &sim.desired, sim.now, &e), -ERR_USER);
    sim.desired.term = 5; /* the same process: its ranks are not disturbed */
    want(3, false, false);
    ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    ck_assert_int_eq(world_term(sim.world), 5);
    world_destroy(sim.world);
}
END_TEST

START_TEST(remembers_what_it_reported)
{
    run_three();
    exit_rank(1, 0, EXIT_CLASS_DATA, 0, false, "file:3");
    settle();
    advance(1000);
    struct report r = report_now();
    struct world *old = sim.world;
    begin(TASK_TRAIN);
    world_recover(sim.world, &r);
    ck_assert_int_eq(world_incarnation(sim.world), 7);
    struct report again = report_now();
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
    int replica = (int)rnd(MEMBERS);
    struct pod *p = &sim.pods[replica];
    switch (rnd(10)) {
    case 0:
    case 1:
        if (!p->joined)
            join(replica);
        break;
    case 2:
        if (rnd(3) == 0 && p->joined) { /* it says so, and goes some time after */
            world_leaving(sim.world, replica);
            settle();
            advance((int64_t)(50 * rnd(10)));
        }
        lose(replica);
        break;
    case 3:
        want((int)rnd(MEMBERS + 1), rnd(6) == 0, false);
        break;
    case 4: {
        static const enum exit_class classes[] = {
            EXIT_CLASS_BUG, EXIT_CLASS_PEER, EXIT_CLASS_HANG, EXIT_CLASS_DEVICE};
        int local = (int)rnd(RANKS);
        if (p->joined && p->live && !p->killed[local])
            exit_rank(replica, local, classes[rnd(4)], 0, false, "");
        break;
    }
    case 5:
        if (rnd(8) == 0 && p->joined && p->live && !p->killed[0]) {
            exit_rank(replica, 0, EXIT_CLASS_USER, 0, false, "user");
            if (in_world(replica))
                sim.user_error = true;
        }
        break;
    case 6: { /* messages of the past, and nonsense */
        world_ended(sim.world, replica, world_incarnation(sim.world) - 1 - (int64_t)rnd(3));
        world_prepared(sim.world, replica, world_incarnation(sim.world) - 1, NULL, 0);
        world_refused(sim.world, (int64_t)rnd(20));
        break;
    }
    case 7: {
        struct health_verdict v = {
            .kind = rnd(3) ? HEALTH_STRAGGLER : HEALTH_HANG, .rank = (int)rnd(MEMBERS * RANKS)};
        world_verdict(sim.world, &v, sim.now);
        break;
    }
    default:
        advance((int64_t)(50 * (1 + rnd(40))));
        break;
    }
    settle();
}

START_TEST(random_worlds_keep_their_promises)
{
    const char *text = getenv("LLMJOB_SIM_ROUNDS"), *from = getenv("LLMJOB_SIM_SEED");
    long rounds = text ? strtol(text, NULL, 10) : 180;
    uint64_t seed = from ? strtoull(from, NULL, 10) : (uint64_t)time(NULL) * 1000;
    printf("seed %llu, %ld worlds\n", (unsigned long long)seed, rounds);
    for (long round = 0; round < rounds; round++) {
        begin(TASK_TRAIN);
        sim.random = seed * 2654435761u + (uint64_t)round * 7919 + 1;
        want(1 + (int)rnd(MEMBERS), false, false);
        for (int i = 0; i < 120; i++) {
            random_event();
            struct report r = report_now();
            ck_assert_int_le(r.attempt_count, LIMIT_ATTEMPTS);
            ck_assert_int_eq(r.incarnation, world_incarnation(sim.world));
        }
        /* Left alone with all members well, it runs, or has failed for a reason. */
        int prepares = sim.prepares;
        bool failed = world_state(sim.world) == JOB_FAILED;
        for (int i = 0; i < MEMBERS; i++)
            if (!sim.pods[i].joined)
                join(i);
        want(3, false, false);
        advance(60000);
        struct report r = report_now();
        if (failed)
            ck_assert_int_eq(sim.prepares, prepares);
        if (sim.user_error)
            ck_assert_int_eq(r.state, JOB_FAILED);
        ck_assert_msg(r.state == JOB_RUNNING || r.state == JOB_FAILED, "seed %llu round %ld: %s",
            (unsigned long long)seed, round, job_state_name(r.state));
        if (r.state == JOB_RUNNING)
            ck_assert_int_eq(r.ranks, 3 * RANKS);
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
    what_is_edited_holds_at_once, a_lost_member_is_awaited_then_done_without, scales_at_a_boundary,
    who_leaves_and_dies_holds_nobody_up, completes_and_releases,
    a_hang_verdict_ends_the_incarnation, who_is_superseded_ends, who_lost_the_checkpoint_ends,
    terms_only_grow, remembers_what_it_reported, random_worlds_keep_their_promises)
