/*
 * world_sim: pods as the world's facts show them. What the world wants is carried out at once, what
 * takes time passes with sim_advance in steps of 50 ms.
 */
#include "tests/agent/world_sim.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

struct world_sim sim;

static struct err e;
static struct arena *arena; /* of sim_report */

uint64_t sim_random(uint64_t n)
{
    sim.random ^= sim.random << 13;
    sim.random ^= sim.random >> 7;
    sim.random ^= sim.random << 17;
    return sim.random % n;
}

/* -- the simulated pods -- */

bool sim_in_world(int replica)
{
    for (int i = 0; i < world_ranks(sim.world); i++)
        if (world_place(sim.world, i).replica == replica)
            return true;
    return false;
}

static void check_no_older_ranks(int64_t incarnation)
{
    for (int i = 0; i < SIM_MEMBERS; i++)
        if (sim.pods[i].joined && sim.pods[i].live)
            ck_assert_msg(sim.pods[i].live == incarnation,
                "incarnation %lld starts while replica %d has ranks of %lld",
                (long long)incarnation, i, (long long)sim.pods[i].live);
}

void sim_exit_rank(
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
    struct sim_pod *p = &sim.pods[replica];
    int64_t live = p->live;
    for (int k = 0; k < SIM_RANKS; k++)
        if (!p->killed[k] && p->joined)
            sim_exit_rank(replica, k, p->drain ? EXIT_CLASS_DRAINED : EXIT_CLASS_PEER,
                p->drain ? 0 : 15, !p->drain, "");
    p->live = 0;
    p->end_ms = 0;
    p->started = p->loaded = false;
    if (p->joined)
        world_ended(sim.world, replica, live);
}

static void on_prepare(int replica, int64_t incarnation)
{
    struct sim_pod *p = &sim.pods[replica];
    static const uint16_t ports[SIM_RANKS] = {1000, 1001};
    if (!p->joined)
        return;
    if (incarnation <= p->greatest) {
        world_refused(sim.world, p->greatest);
        return;
    }
    if (p->live)
        ranks_gone(replica); /* it clears its older ranks first */
    *p = (struct sim_pod){.up = true,
        .joined = true,
        .leaving = p->leaving,
        .live = incarnation,
        .greatest = incarnation};
    world_prepared(sim.world, replica, incarnation, ports, SIM_RANKS);
}

static void carry_out(const struct world_action *a)
{
    switch (a->kind) {
    case WORLD_PREPARE:
        ck_assert_int_gt(a->incarnation, sim.last_incarnation);
        sim.last_incarnation = a->incarnation;
        sim.prepares++;
        for (int i = 0; i < SIM_MEMBERS; i++)
            if (sim_in_world(i))
                on_prepare(i, a->incarnation);
        break;
    case WORLD_START:
        ck_assert_int_eq(a->incarnation, sim.last_incarnation);
        check_no_older_ranks(a->incarnation);
        sim.starts++;
        for (int i = 0; i < SIM_MEMBERS; i++)
            if (sim.pods[i].joined && sim.pods[i].live == a->incarnation)
                sim.pods[i].started = true;
        break;
    case WORLD_STOP:
        sim.stops++;
        for (int i = 0; i < SIM_MEMBERS; i++) {
            struct sim_pod *p = &sim.pods[i];
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

void sim_settle(void)
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

void sim_frame(int replica, int local, enum wire_type type, const char *text)
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
    for (int k = 0; k < SIM_RANKS; k++)
        sim_frame(replica, k, WIRE_LOADED, text);
    sim.pods[replica].loaded = true;
    sim.step = sim.checkpoint;
}

/* Whether every member of the world steps: then rank 0 says so. */
static void step_world(void)
{
    int n = 0;
    for (int i = 0; i < SIM_MEMBERS; i++)
        if (sim_in_world(i)) {
            const struct sim_pod *p = &sim.pods[i];
            if (!p->loaded || p->end_ms || p->killed[0] || p->killed[1])
                return;
            n++;
        }
    if (!n)
        return;
    char text[96];
    snprintf(text, sizeof text, "{\"step\":%lld,\"loss\":1.5,\"tokens\":1,\"tokens_per_second\":2}",
        (long long)++sim.step);
    sim_frame(world_place(sim.world, 0).replica, 0, WIRE_STEP, text);
    if (sim.step % 5 == 0) {
        sim.checkpoint = sim.step;
        snprintf(text, sizeof text, "{\"step\":%lld,\"path\":\"/c\"}", (long long)sim.step);
        sim_frame(world_place(sim.world, 0).replica, 0, WIRE_SAVED, text);
    }
}

void sim_advance(int64_t ms)
{
    for (int64_t end_ms = sim.now.ms + ms; sim.now.ms < end_ms;) {
        sim.now.ms += 50;
        sim.now.wall_ms += 50;
        bool drained = false;
        for (int i = 0; i < SIM_MEMBERS; i++) {
            struct sim_pod *p = &sim.pods[i];
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
        sim_settle();
    }
}

void sim_join(int replica)
{
    struct sim_pod *p = &sim.pods[replica];
    char uid[16];
    snprintf(uid, sizeof uid, "u%d", replica);
    p->up = p->joined = true;
    world_joined(sim.world, replica, uid, p->greatest, sim.now);
    sim_settle();
}

/* The agent dies and its ranks with it. */
void sim_lose(int replica)
{
    int64_t greatest = sim.pods[replica].greatest;
    if (!sim.pods[replica].joined)
        return;
    sim.pods[replica] = (struct sim_pod){.greatest = greatest};
    world_lost(sim.world, replica, sim.now);
    sim_settle();
}

void sim_want(int replicas, bool suspend, bool release)
{
    sim.desired.generation++;
    sim.desired.replicas = replicas;
    sim.desired.suspend = suspend;
    sim.desired.release = release;
    ck_assert_int_eq(world_desired(sim.world, &sim.desired, sim.now, &e), 0);
    sim_settle();
}

void sim_begin(enum task task)
{
    static const char *const uids[] = {"u0", "u1", "u2", "u3"};
    memset(&sim, 0, sizeof sim);
    sim.random = 88172645463325252u;
    sim.now = (struct world_now){1000, 1700000000000};
    struct world_conf conf = {.task = task, .per_replica = SIM_RANKS, .incarnation = 6, .term = 1};
    sim.last_incarnation = 6;
    ck_assert_int_eq(world_create(&conf, &sim.world, &e), 0);
    for (int i = 0; i < SIM_MEMBERS; i++)
        sim.members[i] = (struct desired_member){i, "pod", uids[i], "node", "10.0.0.1:7070"};
    sim.desired.term = 2;
    sim.desired.elastic = (struct jobspec_elastic){.min_replicas = 2, .wait_seconds = 5};
    sim.desired.restart = (struct jobspec_restart){.max_restarts = 3, .window_seconds = 3600};
    sim.desired.members = sim.members;
    sim.desired.member_count = SIM_MEMBERS;
}

void sim_run_three(void)
{
    sim_begin(TASK_TRAIN);
    sim_want(3, false, false);
    for (int i = 0; i < 3; i++)
        sim_join(i);
    sim_advance(1000);
    ck_assert_int_eq(world_state(sim.world), JOB_RUNNING);
    ck_assert_int_eq(world_incarnation(sim.world), 7);
    ck_assert_int_eq(world_ranks(sim.world), 6);
}

struct report sim_report(void)
{
    struct report r;
    if (!arena)
        arena = arena_create(1 << 20);
    arena_reset(arena);
    ck_assert_int_eq(world_report(sim.world, arena, &r, &e), 0);
    return r;
}
