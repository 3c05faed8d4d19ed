/*
 * Goal: whatever happens to a job, the four properties of its plan: the same snapshot gives the
 * same bytes; carrying plans out until quiet converges; a converged world gives an empty plan; no
 * replica ever has two live pods, and no pod goes that the running world needs. Method: random
 * worlds (pods fail, nodes die, agents restart, users edit, passes stop half-way), seed printed.
 * LLMJOB_SIM_ROUNDS=n runs n worlds instead of the default (make sim).
 */
#include "tests/controller/world.h"

#include <time.h>

struct sim {
    struct world w;
    unsigned seed;
    char agent_uid[40]; /* of the coordinator process that the report comes from */
    int agent_restarts;
    int64_t failed_ms;
    int64_t term; /* greatest that an agent has taken, and which agent that was */
    char term_uid[40];
    int term_restarts;
    bool emptied; /* somebody has emptied what status says of it */
    bool told;    /* it knows the desired state ... */
    int replicas;
    bool suspend, release; /* ... which was this */
    bool finish;           /* the training is done */
    bool calm;             /* nothing goes wrong or is slow any more */
};

static int roll(struct sim *s, int sides)
{
    return rand_r(&s->seed) % sides;
}

static void agent_step(struct sim *s)
{
    struct world *w = &s->w;
    world_observe(w);
    const struct observed_pod *c = observed_coordinator(&w->o);
    w->o.report = c ? &w->report : NULL;
    w->o.report_is_current = true;
    if (!c)
        return;
    if (strcmp(s->agent_uid, c->pod->uid) != 0 || s->agent_restarts != c->pod->restarts) {
        snprintf(s->agent_uid, sizeof s->agent_uid, "%s", c->pod->uid);
        s->agent_restarts = c->pod->restarts;
        report_init(&w->report);
        s->told = false;
    }
    if (!s->told || w->report.state == JOB_COMPLETE) {
        if (s->told && s->release)
            for (int i = 0; i < WORLD_PODS; i++)
                if (w->pods[i].exists && w->pods[i].pod.phase == POD_RUNNING)
                    w->pods[i].pod.phase = POD_SUCCEEDED;
        return;
    }
    if (!s->calm && roll(s, 2))
        return; /* it takes its time to form the next world */
    int running = 0;
    for (int i = 0; i < s->replicas; i++) {
        const struct observed_pod *p = observed_replica(&w->o, i);
        running += p && p->pod->phase == POD_RUNNING && !p->pod->deleting && !p->node_lost;
    }
    bool whole = running == s->replicas && !s->suspend && s->replicas > 0;
    w->report.state = s->suspend || !s->replicas ? JOB_SUSPENDED
        : whole                                  ? JOB_RUNNING
                                                 : JOB_WAITING;
    w->report.world_replicas = whole ? s->replicas : 0;
    if (whole && s->finish)
        w->report.state = JOB_COMPLETE;
}

/* The plan as text, to compare two. */
static void print_plan(const struct plan *p, struct buf *out)
{
    for (int i = 0; i < p->count; i++) {
        const struct action *a = &p->actions[i];
        buf_printf(out, "%d %s %s %s %d %llx %s %s\n", a->kind, a->name ? a->name : "",
            a->uid ? a->uid : "", a->body ? a->body : "", a->force, (unsigned long long)a->hash,
            a->reason ? a->reason : "", a->message ? a->message : "");
    }
    buf_printf(out, "%lld", (long long)p->again_ms);
}

static struct plan *plan_twice(struct sim *s)
{
    buf_auto struct buf one, two;
    buf_init(&one, 8 << 20);
    buf_init(&two, 8 << 20);
    struct plan *p = world_plan(&s->w), *q = world_plan(&s->w);
    print_plan(p, &one);
    print_plan(q, &two);
    ck_assert_str_eq(buf_cstr(&one), buf_cstr(&two));
    world_free(q);
    return p;
}

/* Whether the agent takes the desired state: its members would refuse a term that is over. */
static bool take_term(struct sim *s, const char *body)
{
    struct world *w = &s->w;
    int64_t term = strtoll(strstr(body, "\"term\":") + 7, NULL, 10);
    ck_assert_int_eq(term, w->job->status.coordinator.term);
    bool theirs = !strcmp(s->term_uid, s->agent_uid) && s->term_restarts == s->agent_restarts;
    bool over = term < s->term || (term == s->term && !theirs);
    ck_assert_msg(!over || s->emptied, "a term was given twice");
    if (over) { /* it tells the term that it met, and ends */
        w->report.term = s->term;
        if (term == s->term)
            world_find(w, "j-0")->pod.restarts++;
        return false;
    }
    s->term = w->report.term = term;
    snprintf(s->term_uid, sizeof s->term_uid, "%s", s->agent_uid);
    s->term_restarts = s->agent_restarts;
    return true;
}

static void check_delete(struct sim *s, const struct action *a)
{
    struct world *w = &s->w;
    struct world_pod *p = world_find(w, a->name);
    bool finished = status_finished(&w->job->status, NULL);
    ck_assert_ptr_nonnull(p);
    bool needed = p->pod.phase == POD_RUNNING && !p->lost && !p->pod.deleting && w->o.report &&
        w->report.state == JOB_RUNNING && p->pod.replica < w->report.world_replicas;
    ck_assert_msg(!needed || finished, "pod %s is needed by the running world", a->name);
    ck_assert_msg(!a->force || p->lost, "force on a living node");
}

/* The first n actions of a pass; returns how many there were. */
static int pass(struct sim *s, int n)
{
    struct world *w = &s->w;
    agent_step(s);
    w->o.failure_age_ms = w->o.failures ? w->o.now_ms - s->failed_ms : INT64_MAX;
    struct plan *p = plan_twice(s);
    int all = p->count;
    for (int i = 0; i < all && i < n; i++) {
        const struct action *a = &p->actions[i];
        if (a->kind == ACTION_DELETE_POD)
            check_delete(s, a);
        ck_assert_msg(a->kind != ACTION_CREATE_POD || !status_finished(&w->job->status, NULL),
            "a pod of a finished job was made anew");
        if (a->kind == ACTION_DESIRED && !take_term(s, a->body))
            continue;
        if (a->kind == ACTION_DESIRED) {
            s->told = true;
            s->replicas = w->job->spec.replicas;
            s->suspend = w->job->spec.suspend;
            s->release = strstr(a->body, "\"release\":true") != NULL;
        }
        world_apply(w, a);
    }
    world_free(p);
    return all;
}

/* Kubelets and the scheduler do their part; some pods stay behind, unless all is set. */
static void nodes_step(struct sim *s, bool all)
{
    for (int i = 0; i < WORLD_PODS; i++) {
        struct world_pod *p = &s->w.pods[i];
        if (!p->exists || p->lost || (!all && roll(s, 2)))
            continue;
        if (p->pod.deleting)
            p->exists = false;
        else if (p->pod.phase == POD_PENDING)
            world_run_pod(p);
    }
}

static void fail_pod(struct sim *s, struct world_pod *p)
{
    p->pod.phase = POD_FAILED;
    p->pod.ready = false;
    s->w.o.failures++;
    s->failed_ms = s->w.o.now_ms;
}

static void mishap(struct sim *s)
{
    struct world *w = &s->w;
    struct world_pod *p = &w->pods[roll(s, WORLD_PODS)];
    bool live = p->exists && p->pod.phase == POD_RUNNING;
    switch (roll(s, 10)) {
    case 0:
        if (live)
            fail_pod(s, p);
        break;
    case 1:
        if (live)
            p->lost = p->pod.deleting = true;
        break;
    case 2:
        p->exists = false;
        break;
    case 3:
        if (live)
            p->pod.restarts += p->pod.restarts < 5;
        break;
    case 4:
        w->job->spec.replicas = roll(s, 9);
        w->job->spec.generation++;
        break;
    case 5:
        w->job->spec.suspend = roll(s, 3) == 0;
        w->job->spec.generation++;
        break;
    case 6: /* the controller restarts and remembers nothing */
        w->o.secret_generation = -1;
        w->o.desired_sent = 0;
        break;
    case 7:
        w->o.service = NULL; /* somebody deleted it */
        break;
    case 8: /* or emptied that */
        w->job->status.coordinator.term = w->job->status.coordinator.restarts = -1;
        w->job->status.coordinator.pod_uid = NULL;
        s->emptied = true;
        break;
    default:
        s->finish |= roll(s, 40) == 0;
    }
}

static void check_converged(struct sim *s)
{
    struct world *w = &s->w;
    const struct jobspec *spec = &w->job->spec;
    bool finished = status_finished(&w->job->status, NULL);
    int want = spec->suspend ? 0 : spec->replicas;
    world_observe(w);
    int live = 0;
    for (int i = 0; i < w->o.pod_count; i++) {
        const struct pod *p = w->list[i].pod;
        live += !plan_pod_ended(p);
        for (int k = 0; k < i; k++)
            ck_assert_int_ne(w->list[k].pod->replica, p->replica);
    }
    ck_assert_int_eq(live, finished ? 0 : want);
    if (finished)
        return;
    ck_assert_int_eq(w->job->status.generation, spec->generation);
    ck_assert_int_eq(w->job->status.replicas, want);
    ck_assert_int_eq(status_is_true(&w->job->status, NAME_COND_SUSPENDED), want == 0);
    ck_assert_int_eq(status_is_true(&w->job->status, NAME_COND_READY), want > 0);
    ck_assert(!status_is_true(&w->job->status, NAME_COND_RECONCILING));
}

static void run_world(unsigned seed)
{
    struct sim s = {.seed = seed};
    world_init(&s.w, 1 + (int)(seed % 6), "");
    for (int i = 0; i < 60; i++) {
        s.w.o.now_ms += roll(&s, 5000);
        switch (roll(&s, 3)) {
        case 0:
            mishap(&s);
            break;
        case 1:
            nodes_step(&s, false);
            break;
        default:
            pass(&s, roll(&s, 3) ? PLAN_ACTIONS : roll(&s, 6));
        }
    }
    /* Calm: lost pods stay lost, the rest goes its way. */
    int quiet = 0;
    s.calm = true;
    for (int i = 0; i < 60 && quiet < 3; i++) {
        s.w.o.now_ms += 70000;
        nodes_step(&s, true);
        quiet = pass(&s, PLAN_ACTIONS) ? 0 : quiet + 1;
    }
    if (quiet < 3)
        printf("seed %u\n", seed);
    ck_assert_int_eq(quiet, 3);
    check_converged(&s);
    world_done(&s.w);
}

START_TEST(random_worlds_converge)
{
    const char *text = getenv("LLMJOB_SIM_ROUNDS"), *from = getenv("LLMJOB_SIM_SEED");
    long rounds = text ? strtol(text, NULL, 10) : 300;
    unsigned seed = from ? (unsigned)strtoul(from, NULL, 10) : (unsigned)time(NULL);
    printf("seed %u, %ld worlds\n", seed, rounds);
    for (long i = 0; i < rounds; i++)
        run_world(seed + (unsigned)i);
}
END_TEST

UNIT_MAIN("plan_sim", random_worlds_converge)
