/*
 * Goal: the right actions for every state of a job, and, whatever happens to a job, the four
 * properties of its plan: the same snapshot gives the same bytes; carrying plans out until quiet
 * converges; a converged world gives an empty plan; no replica ever has two live pods, and no pod
 * goes that the running world needs. Method: tables of one state each; then random worlds (pods
 * fail, nodes die, agents restart, users edit, passes stop half-way), seed printed.
 * LLMJOB_SIM_ROUNDS=n runs n worlds instead of the default (make sim).
 */
#include "tests/controller/world.h"

#include <time.h>

static int count(const struct plan *p, enum action_kind kind)
{
    return plan_count(p, kind);
}

static bool has_event(const struct plan *p, const char *reason)
{
    for (int i = 0; i < p->count; i++)
        if (p->actions[i].kind == ACTION_EVENT && !strcmp(p->actions[i].reason, reason))
            return true;
    return false;
}

/* Pods 0..n-1 running, the coordinator at work on all of them, everything written. */
static void settle(struct world *w, int running)
{
    for (int i = 0; i < running; i++)
        world_run_pod(world_add(w, i));
    w->report.state = JOB_RUNNING;
    w->report.world_replicas = running;
    w->report.connected = w->report.ranks = w->report.data_parallel = running;
    w->report.incarnation = 1;
    w->report.generation = w->job->spec.generation;
    w->o.report = &w->report;
    w->o.report_is_current = true;
    for (int i = 0; i < 5; i++) {
        struct plan *p = world_plan(w);
        for (int k = 0; k < p->count; k++)
            world_apply(w, &p->actions[k]);
        world_free(p);
    }
    struct plan *p = world_plan(w);
    ck_assert_int_eq(p->count, 0);
    world_free(p);
}

START_TEST(a_new_job_gets_its_objects_then_its_pods)
{
    struct world w;
    world_init(&w, 3, "");
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(count(p, ACTION_SECRET), 1);
    ck_assert_int_eq(count(p, ACTION_SERVICE), 1);
    ck_assert_int_eq(count(p, ACTION_GANG), 1);
    ck_assert_int_eq(count(p, ACTION_CREATE_POD), 3);
    ck_assert(has_event(p, NAME_REASON_POD_CREATED));
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

START_TEST(the_coordinator_is_told_of_its_members_once)
{
    struct world w;
    world_init(&w, 2, "");
    settle(&w, 2);
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
        settle(&w, 2);
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

START_TEST(scaling_down_waits_for_the_world)
{
    struct world w;
    world_init(&w, 3, "");
    settle(&w, 3);
    w.job->spec.replicas = 2;
    w.job->spec.generation = 2;
    struct plan *p = world_plan(&w);
    ck_assert_ptr_nonnull(world_action(p, ACTION_DESIRED));
    ck_assert_int_eq(count(p, ACTION_DELETE_POD), 0);
    ck_assert(has_event(p, NAME_REASON_SCALING));
    world_free(p);
    w.report.generation = 2; /* it knows, but still runs three */
    p = world_plan(&w);
    ck_assert_int_eq(count(p, ACTION_DELETE_POD), 0);
    world_free(p);
    w.report.world_replicas = 2;
    p = world_plan(&w);
    ck_assert_int_eq(count(p, ACTION_DELETE_POD), 1);
    ck_assert_str_eq(world_action(p, ACTION_DELETE_POD)->name, "j-2");
    ck_assert(!world_action(p, ACTION_DELETE_POD)->force);
    ck_assert_ptr_nonnull(world_action(p, ACTION_GANG_RESIZE));
    world_free(p);
    w.report.world_replicas = 3;
    w.o.unreachable_ms = 120000; /* a dead coordinator holds nothing up */
    p = world_plan(&w);
    ck_assert_int_eq(count(p, ACTION_DELETE_POD), 1);
    world_free(p);
    world_done(&w);
}
END_TEST

START_TEST(a_report_of_an_older_generation_frees_nothing)
{
    struct world w;
    world_init(&w, 3, "");
    settle(&w, 3);
    w.report.world_replicas = 2; /* formed before the third joined */
    w.job->spec.replicas = 2;
    w.job->spec.generation = 2;
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(count(p, ACTION_DELETE_POD), 0);
    world_free(p);
    world_done(&w);
}
END_TEST

START_TEST(ended_pods_are_replaced_by_the_same_name_when_they_are_gone)
{
    struct world w;
    world_init(&w, 2, "");
    settle(&w, 2);
    struct world_pod *pod = world_find(&w, "j-1");
    pod->pod.phase = POD_FAILED;
    pod->pod.blocked_reason = "Evicted";
    struct plan *p = world_plan(&w);
    const struct action *a = world_action(p, ACTION_DELETE_POD);
    ck_assert_str_eq(a->uid, pod->uid);
    ck_assert_int_eq(count(p, ACTION_CREATE_POD), 0);
    world_apply(&w, a);
    world_free(p);
    p = world_plan(&w);
    ck_assert_str_eq(world_action(p, ACTION_CREATE_POD)->name, "j-1");
    world_free(p);
    world_done(&w);
}
END_TEST

START_TEST(a_pod_ending_on_a_lost_node_is_removed_by_force)
{
    struct world w;
    world_init(&w, 2, "");
    settle(&w, 2);
    struct world_pod *pod = world_find(&w, "j-1");
    pod->pod.deleting = true;
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(count(p, ACTION_DELETE_POD), 0);
    world_free(p);
    pod->lost = true;
    p = world_plan(&w);
    ck_assert(world_action(p, ACTION_DELETE_POD)->force);
    world_free(p);
    world_done(&w);
}
END_TEST

START_TEST(replacements_back_off)
{
    struct world w;
    world_init(&w, 1, "");
    w.o.failures = 4;
    w.o.failure_age_ms = 1000;
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(count(p, ACTION_CREATE_POD), 0);
    ck_assert_int_eq(p->again_ms, 3000);
    world_free(p);
    w.o.failure_age_ms = 4000;
    p = world_plan(&w);
    ck_assert_int_eq(count(p, ACTION_CREATE_POD), 1);
    world_free(p);
    world_done(&w);
}
END_TEST

START_TEST(a_name_held_by_an_earlier_job_is_waited_for)
{
    struct world w;
    world_init(&w, 1, "");
    world_add(&w, 0)->pod.owner_uid = "u0";
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(count(p, ACTION_CREATE_POD), 0);
    ck_assert_int_eq(count(p, ACTION_DELETE_POD), 0);
    world_free(p);
    world_done(&w);
}
END_TEST

START_TEST(suspending_waits_for_the_checkpoint)
{
    struct world w;
    world_init(&w, 2, "");
    settle(&w, 2);
    w.job->spec.suspend = true;
    w.job->spec.generation = 2;
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(count(p, ACTION_DELETE_POD), 0);
    ck_assert_ptr_nonnull(strstr(world_action(p, ACTION_DESIRED)->body, "\"suspend\":true"));
    world_free(p);
    w.report.state = JOB_SUSPENDED;
    w.report.generation = 2;
    p = world_plan(&w);
    ck_assert_int_eq(count(p, ACTION_DELETE_POD), 2);
    ck_assert(has_event(p, NAME_REASON_SUSPENDED));
    world_free(p);
    world_done(&w);
}
END_TEST

START_TEST(an_outcome_is_recorded_before_the_pods_are_released)
{
    struct world w;
    world_init(&w, 2, "");
    settle(&w, 2);
    w.report.state = JOB_COMPLETE;
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(count(p, ACTION_STATUS), 1);
    ck_assert_int_eq(count(p, ACTION_DESIRED), 0);
    ck_assert(has_event(p, NAME_REASON_COMPLETED));
    for (int i = 0; i < p->count; i++)
        world_apply(&w, &p->actions[i]);
    world_free(p);
    p = world_plan(&w);
    ck_assert_ptr_nonnull(strstr(world_action(p, ACTION_DESIRED)->body, "\"release\":true"));
    world_apply(&w, world_action(p, ACTION_DESIRED));
    world_free(p);
    world_find(&w, "j-0")->pod.phase = world_find(&w, "j-1")->pod.phase = POD_SUCCEEDED;
    w.o.report = NULL;
    for (int i = 0; i < 3; i++) { /* readiness falls, then nothing more */
        p = world_plan(&w);
        ck_assert_int_eq(count(p, ACTION_CREATE_POD) + count(p, ACTION_DELETE_POD), 0);
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
    settle(&w, 2);
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
    ck_assert_int_eq(count(p, ACTION_DELETE_POD), 2);
    ck_assert_int_eq(count(p, ACTION_DELETE_JOB), 0);
    ck_assert_int_eq(p->again_ms, 39000);
    world_free(p);
    w.o.now_ms += 39000;
    p = world_plan(&w);
    ck_assert_str_eq(world_action(p, ACTION_DELETE_JOB)->uid, "u1");
    world_free(p);
    world_done(&w);
}
END_TEST

static void expect_failure(struct world *w, const char *reason)
{
    struct plan *p = world_plan(w);
    const struct action *a = world_action(p, ACTION_STATUS);
    ck_assert_ptr_nonnull(a);
    world_apply(w, a);
    world_free(p);
    const struct condition *c = status_condition(&w->job->status, NAME_COND_FAILED);
    ck_assert_str_eq(c->status, "True");
    ck_assert_str_eq(c->reason, reason);
}

START_TEST(agents_that_cannot_run_fail_the_job)
{
    static const struct {
        int code, restarts;
        const char *reason, *want;
    } cases[] = {
        {64, 0, "Error", NAME_REASON_USER_ERROR},
        {65, 1, "Error", NAME_REASON_BAD_DATA},
        {70, 0, "Error", NAME_REASON_OUT_OF_MEMORY},
        {137, 11, "OOMKilled", NAME_REASON_OUT_OF_MEMORY},
        {72, 11, "Error", NAME_REASON_RESTARTS},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world w;
        world_init(&w, 2, "");
        settle(&w, 2);
        struct pod *pod = &world_find(&w, "j-1")->pod;
        pod->exit_code = cases[i].code;
        pod->exit_reason = cases[i].reason;
        pod->restarts = cases[i].restarts;
        expect_failure(&w, cases[i].want);
        world_done(&w);
    }
    /* A crash or two is the restart policy's affair, and so is a kill for memory. */
    for (int i = 0; i < 2; i++) {
        struct world w;
        world_init(&w, 2, "");
        settle(&w, 2);
        struct pod *pod = &world_find(&w, "j-1")->pod;
        pod->exit_code = i ? 137 : 72;
        pod->exit_reason = i ? "OOMKilled" : "Error";
        pod->restarts = 3;
        struct plan *p = world_plan(&w);
        ck_assert_int_eq(count(p, ACTION_STATUS), 0);
        world_free(p);
        world_done(&w);
    }
}
END_TEST

START_TEST(the_deadline_counts_active_time)
{
    struct world w;
    world_init(&w, 1, ",\"activeDeadlineSeconds\":100");
    settle(&w, 1);
    w.o.now_ms = WORLD_NOW + 99000;
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(count(p, ACTION_STATUS), 0);
    ck_assert_int_eq(p->again_ms, 1000);
    world_free(p);
    w.o.now_ms = WORLD_NOW + 100000;
    expect_failure(&w, NAME_REASON_DEADLINE);
    world_done(&w);
}
END_TEST

START_TEST(pods_that_cannot_start_are_told_of)
{
    struct world w;
    world_init(&w, 2, "");
    struct world_pod *a = world_add(&w, 0), *b = world_add(&w, 1);
    a->pod.blocked_reason = NAME_REASON_UNSCHEDULABLE;
    a->pod.blocked_message = "0/3 nodes are available";
    struct plan *p = world_plan(&w);
    ck_assert(has_event(p, NAME_REASON_UNSCHEDULABLE));
    ck_assert_ptr_nonnull(
        strstr(world_action(p, ACTION_STATUS)->body, "pod j-0: 0/3 nodes are available"));
    world_free(p);
    b->pod.blocked_reason = NAME_REASON_IMAGE;
    b->pod.blocked_message = "no such image";
    p = world_plan(&w);
    ck_assert(has_event(p, NAME_REASON_IMAGE));
    world_free(p);
    world_done(&w);
}
END_TEST

/* Training meets by addresses; a program of the user may use names, and clients of a server do. */
START_TEST(a_service_is_made_where_names_are_needed)
{
    static const char *const tasks[] = {
        "\"model\":{\"source\":\"/d/m.gguf\"},\"checkpoint\":{\"path\":\"/d/"
        "c\"},\"train\":{"
        "\"data\":{\"train\":\"/d/t.txt\"},\"steps\":9,\"output\":\"/d/o\"}",
        "\"model\":{\"source\":\"/d/m.gguf\"},\"serve\":{}", WORLD_RUN};
    for (int i = 0; i < 3; i++) {
        struct world w;
        world_init(&w, 1, "");
        job_free(w.job);
        w.job = world_job(1, 1, tasks[i],
            ",\"storage\":[{\"name\":\"d\",\"claimName\":\"c\",\"mountPath\":\"/d\"}]", "{}");
        struct plan *p = world_plan(&w);
        ck_assert_int_eq(count(p, ACTION_SERVICE), i > 0);
        world_free(p);
        world_done(&w);
    }
}
END_TEST

/* Whether the status is written now, after age_ms; where not, when it will be. */
static bool writes(struct world *w, int64_t age_ms, int64_t *again_ms)
{
    w->o.status_age_ms = age_ms;
    struct plan *p = world_plan(w);
    const struct action *a = world_action(p, ACTION_STATUS);
    bool now = a != NULL;
    if (now)
        world_store_status(w, a->body);
    *again_ms = p->again_ms;
    world_free(p);
    return now;
}

/* What a job costs the API server: numbers alone wait, what says something new does not. */
START_TEST(numbers_alone_are_written_now_and_then)
{
    struct world w;
    int64_t again;
    world_init(&w, 1, "");
    settle(&w, 1);
    w.report.steps = 100;
    w.report.step = 7;
    ck_assert(!writes(&w, 300, &again));
    ck_assert_int_eq(again, 4700);
    ck_assert(writes(&w, 5000, &again));
    w.report.checkpoint_step = 7;
    w.report.checkpoint_path = "/c/7";
    ck_assert(!writes(&w, 300, &again));
    w.report.verdict.kind = NAME_REASON_HANG;
    ck_assert(writes(&w, 300, &again));
    world_done(&w);
}
END_TEST

/* When its first pod, who gets the term, is there, and when it is ready; what stops the first pods
 * is told too. */
START_TEST(a_job_that_starts_is_written_twice)
{
    struct world w;
    int64_t again;
    int written = 0;
    world_init(&w, 8, "");
    written += writes(&w, INT64_MAX, &again);
    ck_assert_int_eq(written, 0);
    for (int i = 0; i < 8; i++) {
        world_add(&w, i);
        written += writes(&w, 100, &again);
        ck_assert_int_eq(written, 1);
    }
    for (int i = 0; i < 8; i++) {
        world_run_pod(&w.pods[i]);
        written += writes(&w, 100, &again);
        ck_assert_int_eq(written, i < 7 ? 1 : 2); /* 8/8 is news */
    }
    ck_assert_str_eq(w.job->status.ready, "8/8");
    w.pods[3].pod.ready = false;
    ck_assert(!writes(&w, 14999, &again));
    ck_assert_int_eq(again, 1);
    ck_assert(writes(&w, 15000, &again));
    /* An agent that cannot be reached is told of once, and costs nothing afterwards. */
    w.o.unreachable_ms = 4000;
    ck_assert(!writes(&w, 100, &again));
    ck_assert_int_eq(again, 6001); /* no news will come of it */
    w.o.unreachable_ms = 10001;
    ck_assert(writes(&w, 100, &again));
    ck_assert_str_eq(w.job->status.state, "Unreachable");
    for (int i = 0; i < 100; i++) {
        w.o.unreachable_ms += 60000;
        w.o.now_ms += 60000;
        ck_assert(!writes(&w, 60000, &again));
    }
    world_done(&w);
    world_init(&w, 8, "");
    w.o.trouble = "the API server answered 403: exceeded quota";
    ck_assert(writes(&w, INT64_MAX, &again));
    world_done(&w);
}
END_TEST

START_TEST(the_gang_is_the_whole_job_at_first_and_then_only_shrinks)
{
    struct world w;
    world_init(&w, 3, "");
    settle(&w, 3);
    ck_assert_int_eq(w.gang.min_count, 3);
    w.job->spec.replicas = 5;
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(count(p, ACTION_GANG_RESIZE), 0);
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

/* -- the simulator -- */

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

UNIT_MAIN("plan", a_new_job_gets_its_objects_then_its_pods,
    jobs_of_others_and_jobs_that_go_are_left_alone, the_coordinator_is_told_of_its_members_once,
    a_term_is_recorded_before_it_is_told, scaling_down_waits_for_the_world,
    a_report_of_an_older_generation_frees_nothing,
    ended_pods_are_replaced_by_the_same_name_when_they_are_gone,
    a_pod_ending_on_a_lost_node_is_removed_by_force, replacements_back_off,
    a_name_held_by_an_earlier_job_is_waited_for, suspending_waits_for_the_checkpoint,
    an_outcome_is_recorded_before_the_pods_are_released,
    a_finished_job_holds_nothing_and_goes_when_its_time_is_over,
    agents_that_cannot_run_fail_the_job, the_deadline_counts_active_time,
    pods_that_cannot_start_are_told_of, a_service_is_made_where_names_are_needed,
    numbers_alone_are_written_now_and_then, a_job_that_starts_is_written_twice,
    the_gang_is_the_whole_job_at_first_and_then_only_shrinks, random_worlds_converge)
