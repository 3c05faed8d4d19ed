/*
 * term: goal: of several coordinators of one job at most one gets anywhere, and the number of
 * incarnations stays small, whatever is cut off from whom. The kind: two processes that both
 * believe to be the coordinator and take the pods from each other for ever. Method: a table of the
 * rule; then a pure simulation: worlds (agent/world) of several coordinators over the same members,
 * which keep the rule, and a controller that gives every new agent of replica 0 a greater term;
 * stories first, then random cuts, deaths and returns with a printed seed.
 */
#include "agent/term.h"
#include "agent/world.h"
#include "base/io.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/unit.h"

#define MEMBERS 3 /* replica 0 is the coordinator's own pod */
#define LEADS   6
#define TICK_MS 100

static struct err e;

START_TEST(the_rule)
{
    static const struct {
        int64_t seen, comes;
        const char *seen_uid, *uid;
        bool admitted;
    } table[] = {
        {0, 1, "", "a", true},   /* the first */
        {4, 5, "a", "b", true},  /* a newer one */
        {4, 5, "a", "a", true},  /* the same pod, started again */
        {4, 4, "a", "a", true},  /* the same, after a break */
        {4, 4, "a", "b", false}, /* the same term, but another pod */
        {4, 3, "a", "b", false}, /* an older one returns */
        {4, 3, "a", "a", false}, /* the pod's own past */
        {INT64_MAX, 1, "a", "b", false},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct term t;
        term_take(&t, table[i].seen, table[i].seen_uid);
        ck_assert_msg(
            term_admits(&t, table[i].comes, table[i].uid) == table[i].admitted, "row %zu", i);
    }
}
END_TEST

START_TEST(it_is_kept)
{
    static const char *const damaged[] = {"", "x", "-4 a", "7", "7 ", "99999999999999999999 a"};
    char dir[] = "/tmp/test-term-XXXXXX", file[64];
    struct term t = {.number = 1}, back;
    ck_assert_ptr_nonnull(mkdtemp(dir));
    term_load(dir, &back);
    ck_assert_int_eq(back.number, 0);
    term_take(&t, 9007199254740991, "0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a");
    ck_assert_int_eq(term_save(dir, &t, &e), 0);
    term_load(dir, &back);
    ck_assert_int_eq(back.number, t.number);
    ck_assert_str_eq(back.uid, t.uid);
    snprintf(file, sizeof file, "%s/term", dir);
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        ck_assert_int_eq(io_write_file(file, damaged[i], strlen(damaged[i]), 0600, &e), 0);
        term_load(dir, &back);
        ck_assert_msg(back.number == 0 || back.number == INT64_MAX, "%s", damaged[i]);
    }
    io_remove_tree(dir, &e);
    ck_assert_int_lt(term_save(dir, &t, &e), 0); /* nowhere to keep it */
}
END_TEST

/* -- the simulation -- */

struct term_pod { /* a member */
    struct term term;
    int lead;       /* whose link it follows, -1: none */
    int64_t live;   /* incarnation of its ranks, 0: none */
    int64_t end_ms; /* when ranks that were told to end are gone, 0: not told */
    int64_t greatest;
    bool started;
};

struct coordinator {
    struct world *world; /* NULL: not there */
    struct term_pod own; /* replica 0's member: in the same process */
    char uid[16];
    bool linked[MEMBERS], cut[MEMBERS], over;
    int64_t lost_ms[MEMBERS]; /* since when a broken link has not been dialled again */
    int64_t steps;
};

static struct {
    struct coordinator leads[LEADS];
    int lead_count;
    struct term_pod pods[MEMBERS]; /* [0] is unused: each coordinator has its own */
    int64_t term;                  /* of the controller: recorded before it is told */
    struct world_now now;
    int incarnations;
    uint64_t random;
} sim;

static uint64_t rnd(uint64_t n)
{
    sim.random ^= sim.random << 13;
    sim.random ^= sim.random >> 7;
    sim.random ^= sim.random << 17;
    return sim.random % n;
}

static struct term_pod *pod_of(struct coordinator *c, int replica)
{
    return replica ? &sim.pods[replica] : &c->own;
}

static bool follows(struct coordinator *c, int replica)
{
    const struct term_pod *p = pod_of(c, replica);
    return p->lead >= 0 && &sim.leads[p->lead] == c;
}

static void unlink_member(struct coordinator *c, int replica)
{
    if (!c->linked[replica])
        return;
    c->linked[replica] = false;
    c->lost_ms[replica] = sim.now.ms;
    world_lost(c->world, replica, sim.now);
}

static void ranks_end(struct term_pod *p)
{
    if (p->live && !p->end_ms)
        p->end_ms = sim.now.ms + 200;
}

/* As agent/member.c: link_open. */
static void link_member(struct coordinator *c, int replica)
{
    struct term_pod *p = pod_of(c, replica);
    char uid[16];
    if (!term_admits(&p->term, world_term(c->world), c->uid)) {
        world_superseded(c->world, p->term.number);
        return;
    }
    bool another = strcmp(p->term.uid, c->uid) != 0;
    term_take(&p->term, world_term(c->world), c->uid);
    if (p->lead >= 0 && !follows(c, replica)) {
        struct coordinator *old = &sim.leads[p->lead];
        if (another && old->world && !old->cut[replica])
            world_superseded(old->world, p->term.number);
        if (old->world)
            unlink_member(old, replica);
    }
    p->lead = (int)(c - sim.leads);
    ranks_end(p);
    c->linked[replica] = true;
    snprintf(uid, sizeof uid, "m%d", replica);
    world_joined(c->world, replica, replica ? uid : c->uid, p->greatest, sim.now);
}

static void prepare(struct coordinator *c, int64_t incarnation)
{
    static const uint16_t ports[1] = {1};
    for (int r = 0; r < MEMBERS; r++) {
        struct term_pod *p = pod_of(c, r);
        if (!c->linked[r] || c->cut[r])
            continue;
        if (incarnation <= p->greatest) {
            world_refused(c->world, p->greatest);
            continue;
        }
        if (p->live) /* it ends its older ranks first; here that takes no time */
            p->end_ms = 0;
        p->live = p->greatest = incarnation;
        p->started = false;
        world_prepared(c->world, r, incarnation, ports, 1);
    }
}

static void start(struct coordinator *c, int64_t incarnation)
{
    json_auto struct json *v = NULL;
    ck_assert_int_eq(json_parse("{\"steps\":1000000}", 17, &v, &e), 0);
    for (int r = 0; r < MEMBERS; r++) {
        struct term_pod *p = pod_of(c, r);
        if (!c->linked[r] || c->cut[r] || p->live != incarnation)
            continue;
        p->started = true;
        world_frame(c->world, r, incarnation, 0, WIRE_LOADED, v, sim.now);
    }
}

static void carry_out(struct coordinator *c, const struct world_action *a)
{
    switch (a->kind) {
    case WORLD_PREPARE:
        ck_assert_msg(!c->over, "a coordinator that is over forms a world");
        sim.incarnations++;
        prepare(c, a->incarnation);
        break;
    case WORLD_START:
        start(c, a->incarnation);
        break;
    case WORLD_STOP:
        for (int r = 0; r < MEMBERS; r++)
            if (c->linked[r] && !c->cut[r] && pod_of(c, r)->live == a->incarnation)
                ranks_end(pod_of(c, r));
        break;
    case WORLD_DROP:
        unlink_member(c, a->replica);
        break;
    case WORLD_RELEASE:
        ck_abort_msg("nobody is released");
    }
}

static void settle(struct coordinator *c)
{
    struct world_actions actions;
    for (int i = 0; i < 32; i++) {
        enum job_state before = world_state(c->world);
        world_decide(c->world, sim.now, &actions);
        for (int k = 0; k < actions.count; k++)
            carry_out(c, &actions.list[k]);
        if (!actions.count && world_state(c->world) == before)
            break;
    }
    c->over = c->over || world_over(c->world);
}

static void tell(struct coordinator *c, int64_t term)
{
    struct desired_member members[MEMBERS] = {
        {0, "p", c->uid, "n", ""}, {1, "p", "m1", "n", "a:1"}, {2, "p", "m2", "n", "a:1"}};
    struct desired d = {.generation = 1,
        .term = term,
        .replicas = MEMBERS,
        .elastic = {.min_replicas = MEMBERS, .wait_seconds = 5},
        .restart = {.max_restarts = 1000, .window_seconds = 3600},
        .members = members,
        .member_count = MEMBERS};
    world_desired(c->world, &d, sim.now, &e);
}

static void destroy(struct coordinator *c)
{
    for (int r = 0; r < MEMBERS; r++)
        if (follows(c, r))
            pod_of(c, r)->lead = -1;
    world_destroy(c->world);
    c->world = NULL;
    ranks_end(&c->own);
}

/* The controller makes replica 0 anew; whether the one before is gone it cannot know. */
static struct coordinator *appoint(void)
{
    if (sim.lead_count == LEADS)
        return NULL;
    struct coordinator *c = &sim.leads[sim.lead_count++];
    *c = (struct coordinator){.own = {.lead = -1}};
    snprintf(c->uid, sizeof c->uid, "c%d", sim.lead_count);
    struct world_conf conf = {.task = TASK_TRAIN, .per_replica = 1};
    ck_assert_int_eq(world_create(&conf, &c->world, &e), 0);
    tell(c, ++sim.term);
    return c;
}

static void tick_pod(struct coordinator *c, int replica)
{
    struct term_pod *p = pod_of(c, replica);
    if (!p->live || !p->end_ms || sim.now.ms < p->end_ms)
        return;
    int64_t live = p->live;
    p->live = p->end_ms = 0;
    p->started = false;
    if (c->world && c->linked[replica] && !c->cut[replica])
        world_ended(c->world, replica, live);
}

/* Links break that are cut, and are dialled where they are not; orphans end their ranks. */
static void tick_links(struct coordinator *c)
{
    for (int r = 0; r < MEMBERS; r++) {
        if (c->linked[r] && c->cut[r])
            unlink_member(c, r);
        else if (!c->linked[r] && !c->cut[r] && !c->over && sim.now.ms - c->lost_ms[r] >= 250)
            link_member(c, r);
        if (follows(c, r) && !c->linked[r]) {
            pod_of(c, r)->lead = -1;
            ranks_end(pod_of(c, r));
        }
    }
}

/* A world gets on when all its ranks run: at most one does at any time. */
static void check_progress(void)
{
    int running = 0;
    for (int i = 0; i < sim.lead_count; i++) {
        struct coordinator *c = &sim.leads[i];
        if (!c->world || world_ranks(c->world) != MEMBERS)
            continue;
        int64_t incarnation = world_incarnation(c->world);
        bool all = true;
        for (int r = 0; r < MEMBERS; r++) {
            const struct term_pod *p = pod_of(c, r);
            all = all && p->started && !p->end_ms && p->live == incarnation;
        }
        c->steps += all;
        running += all;
    }
    ck_assert_int_le(running, 1);
}

static void advance(int64_t ms)
{
    for (int64_t end_ms = sim.now.ms + ms; sim.now.ms < end_ms;) {
        sim.now.ms += TICK_MS;
        sim.now.wall_ms += TICK_MS;
        for (int i = 0; i < sim.lead_count; i++) {
            struct coordinator *c = &sim.leads[i];
            for (int r = 0; r < MEMBERS; r++)
                if (!r || follows(c, r))
                    tick_pod(c, r);
            if (!c->world)
                continue;
            tick_links(c);
            settle(c);
            if (c->over) /* its agent ends */
                destroy(c);
        }
        for (int r = 1; r < MEMBERS; r++) /* of a pod that follows nobody */
            if (sim.pods[r].lead < 0)
                tick_pod(&sim.leads[0], r);
        check_progress();
    }
}

static void begin(void)
{
    memset(&sim, 0, sizeof sim);
    sim.random = 88172645463325252u;
    sim.now = (struct world_now){1000, 1700000000000};
    for (int r = 0; r < MEMBERS; r++)
        sim.pods[r].lead = -1;
}

static void end(void)
{
    for (int i = 0; i < sim.lead_count; i++)
        if (sim.leads[i].world)
            world_destroy(sim.leads[i].world);
}

static bool runs(const struct coordinator *c)
{
    return c->world && world_state(c->world) == JOB_RUNNING;
}

/* A node's kubelet dies and its containers live on: both reach everyone. */
START_TEST(two_that_live_do_not_fight)
{
    begin();
    struct coordinator *old = appoint();
    advance(5000);
    ck_assert(runs(old));
    struct coordinator *new = appoint();
    advance(60000);
    ck_assert(runs(new));
    ck_assert_ptr_null(old->world); /* it has ended */
    ck_assert_int_eq(sim.incarnations, 2);
    end();
}
END_TEST

/* The old one was cut off while the new one was made, and returns. */
START_TEST(an_old_one_that_returns_ends)
{
    begin();
    struct coordinator *old = appoint();
    advance(5000);
    old->cut[1] = old->cut[2] = true;
    struct coordinator *new = appoint();
    advance(30000);
    ck_assert(runs(new));
    ck_assert_ptr_nonnull(old->world);
    int before = sim.incarnations;
    int64_t steps = new->steps;
    old->cut[1] = old->cut[2] = false;
    advance(60000);
    ck_assert_ptr_null(old->world);
    ck_assert_int_eq(sim.incarnations, before); /* nobody noticed */
    ck_assert_int_eq(new->steps, steps + 60000 / TICK_MS);
    end();
}
END_TEST

/* Each reaches one of the two members: neither has a whole world; the newer one has it
 * afterwards. */
START_TEST(two_halves_wait_for_each_other)
{
    begin();
    struct coordinator *old = appoint();
    advance(5000);
    old->cut[2] = true;
    struct coordinator *new = appoint();
    new->cut[1] = true;
    int before = sim.incarnations;
    advance(120000);
    ck_assert(!runs(old) && !runs(new));
    ck_assert_int_le(sim.incarnations - before, 1);
    old->cut[2] = new->cut[1] = false;
    advance(10000);
    ck_assert(runs(new));
    ck_assert_ptr_null(old->world);
    end();
}
END_TEST

/* A status that was emptied gives an old term to a new agent: it is refused, and tells the
 * greater. */
START_TEST(an_equal_term_of_another_pod_is_refused)
{
    begin();
    struct coordinator *old = appoint();
    advance(5000);
    sim.term--;
    struct coordinator *twin = appoint();
    advance(10000);
    ck_assert_ptr_null(twin->world);
    ck_assert(runs(old));
    ck_assert_int_eq(sim.incarnations, 1);
    end();
}
END_TEST

/* The controller starts anew and tells the same process again, or a greater term for nothing. */
START_TEST(a_controller_that_restarts_changes_nothing)
{
    begin();
    struct coordinator *c = appoint();
    advance(5000);
    tell(c, sim.term);
    tell(c, ++sim.term);
    advance(5000);
    ck_assert(runs(c));
    ck_assert_int_eq(sim.incarnations, 1);
    ck_assert_int_eq(world_term(c->world), 2);
    tell(c, 1); /* another controller, of the past */
    ck_assert_int_eq(world_term(c->world), 2);
    end();
}
END_TEST

START_TEST(random_coordinators_end_up_as_one)
{
    const char *text = getenv("LLMJOB_SIM_ROUNDS"), *from = getenv("LLMJOB_SIM_SEED");
    long rounds = text ? strtol(text, NULL, 10) : 100;
    uint64_t seed = from ? strtoull(from, NULL, 10) : (uint64_t)time(NULL);
    printf("seed %llu, %ld worlds\n", (unsigned long long)seed, rounds);
    for (long round = 0; round < rounds; round++) {
        begin();
        sim.random = seed * 2654435761u + (uint64_t)round * 7919 + 1;
        appoint();
        for (int i = 0; i < 40; i++) {
            struct coordinator *c = &sim.leads[rnd((uint64_t)sim.lead_count)];
            switch (rnd(5)) {
            case 0:
                appoint();
                break;
            case 1:
                c->cut[1 + rnd(MEMBERS - 1)] = true;
                break;
            case 2:
                c->cut[1 + rnd(MEMBERS - 1)] = false;
                break;
            case 3: /* the present one cannot be told from the others by who dies */
                if (c->world && sim.lead_count < LEADS && rnd(3) == 0)
                    destroy(c);
                break;
            default:
                advance((int64_t)rnd(10) * 1000);
            }
        }
        struct coordinator *last = &sim.leads[sim.lead_count - 1];
        if (!last->world) { /* it died: the controller sees that */
            *last = (struct coordinator){.own = {.lead = -1}};
            sim.lead_count--;
            last = appoint();
        }
        for (int i = 0; i < sim.lead_count; i++)
            memset(sim.leads[i].cut, 0, sizeof sim.leads[i].cut);
        int before = sim.incarnations;
        advance(30000);
        /* Each may form one before a member tells it. */
        ck_assert_int_le(sim.incarnations - before, sim.lead_count + 1);
        before = sim.incarnations;
        advance(30000);
        ck_assert_int_eq(sim.incarnations, before);
        ck_assert_msg(runs(last), "seed %llu round %ld: the last one does not run",
            (unsigned long long)seed, round);
        for (int i = 0; i < sim.lead_count - 1; i++)
            ck_assert_msg(!sim.leads[i].world, "seed %llu round %ld: %d lives on",
                (unsigned long long)seed, round, i);
        end();
    }
}
END_TEST

UNIT_MAIN("term", the_rule, it_is_kept, two_that_live_do_not_fight, an_old_one_that_returns_ends,
    two_halves_wait_for_each_other, an_equal_term_of_another_pod_is_refused,
    a_controller_that_restarts_changes_nothing, random_coordinators_end_up_as_one)
