/*
 * Goal: of a model that each pod serves whole, as many as are wanted answer throughout a roll-out
 * and any scaling, whatever happens; each place has one pod of the present version in the end; and
 * what gave up is made anew or told of. Method: a job in memory, one thing changed, the plan of
 * that snapshot; then random worlds (edits, scaling, pods that fail, are slow, or never get ready),
 * seed printed, with what the plan itself takes away counted.
 */
#include "controller/plan/podspec.h"
#include "tests/controller/world.h"

#include <time.h>

#define SERVE \
    "\"model\":{\"source\":\"/d/m.gguf\"},\"storage\":[{\"name\":\"d\",\"claimName\":\"c\"," \
    "\"mountPath\":\"/d\"}],\"serve\":{\"maxQueue\":"

static const char *serve(int queue)
{
    static char text[256];
    snprintf(text, sizeof text, SERVE "%d}", queue);
    return text;
}

static struct world w;

static void begin(int replicas)
{
    world_init(&w, replicas, "");
    job_free(w.job);
    w.job = world_job(1, replicas, serve(8), "", "{}");
}

static uint64_t revision(void)
{
    uint64_t r = 0;
    struct err e;
    ck_assert_int_eq(podspec_revision(&w.job->spec, &r, &e), 0);
    return r;
}

/* Another version, which queue is all of. */
static void edit(int queue)
{
    struct jobspec *s = &w.job->spec;
    s->serve.max_queue = queue;
    s->generation++;
}

static void scale(int replicas)
{
    w.job->spec.replicas = replicas;
    w.job->spec.generation++;
}

/* As world_apply; a pod gets the label that its body has. */
static void carry_out(const struct plan *p)
{
    for (int i = 0; i < p->count; i++) {
        const struct action *a = &p->actions[i];
        world_apply(&w, a);
        if (a->kind != ACTION_CREATE_POD)
            continue;
        const char *label = strstr(a->body, NAME_LABEL_REVISION "\":\"");
        ck_assert_ptr_nonnull(label);
        world_find(&w, a->name)->pod.revision =
            strtoull(label + strlen(NAME_LABEL_REVISION) + 3, NULL, 16);
    }
}

static bool answers(const struct world_pod *p)
{
    return p->exists && p->pod.ready && !p->pod.deleting && !p->lost && p->pod.phase == POD_RUNNING;
}

static int answering(void)
{
    int n = 0;
    for (int i = 0; i < WORLD_PODS; i++)
        n += answers(&w.pods[i]);
    return n;
}

/* One pass; the number of actions that are no events. */
static int pass(void)
{
    struct plan *p = world_plan(&w);
    carry_out(p);
    int n = p->count - plan_count(p, ACTION_EVENT);
    world_free(p);
    return n;
}

/* Kubelets: who begins gets ready, who ends is gone. */
static void kubelets(void)
{
    for (int i = 0; i < WORLD_PODS; i++) {
        struct world_pod *p = &w.pods[i];
        if (p->exists && p->pod.deleting)
            p->exists = false;
        else if (p->exists && p->pod.phase == POD_PENDING)
            world_run_pod(p);
    }
}

/* Until nothing is to be done. */
static void settle(void)
{
    int quiet = 0;
    for (int i = 0; i < 100 && quiet < 2; i++) {
        w.o.now_ms += 70000;
        kubelets();
        quiet = pass() ? 0 : quiet + 1;
    }
    ck_assert_int_eq(quiet, 2);
}

static void check_settled(void)
{
    const struct status *s = &w.job->status;
    int want = w.job->spec.replicas;
    ck_assert_int_eq(answering(), want);
    ck_assert_int_eq(s->ready_replicas, want);
    ck_assert_int_eq(s->updated_replicas, want);
    ck_assert_int_eq(s->replicas, want);
    for (int i = 0; i < want; i++) {
        char name[16];
        snprintf(name, sizeof name, "j-%d", i);
        ck_assert_ptr_nonnull(world_find(&w, name));
        ck_assert_uint_eq(world_find(&w, name)->pod.revision, revision());
    }
    ck_assert_int_eq(status_is_true(s, NAME_COND_READY), want > 0);
    ck_assert(!status_is_true(s, NAME_COND_RECONCILING));
    ck_assert(!status_is_true(s, NAME_COND_STALLED));
}

START_TEST(each_place_has_a_pod_that_coordinates_itself)
{
    begin(3);
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_CREATE_POD), 3);
    ck_assert_ptr_nonnull(world_action(p, ACTION_SERVICE));
    ck_assert_ptr_null(strstr(world_action(p, ACTION_SERVICE)->body, NAME_LABEL_REPLICA));
    ck_assert_ptr_nonnull(strstr(world_action(p, ACTION_CREATE_POD)->body,
        "\"name\":\"" NAME_ENV_ALONE "\",\"value\":\"true\""));
    world_free(p);
    settle();
    check_settled();
    ck_assert_ptr_null(w.o.report); /* and was told nothing */
    ck_assert_uint_eq(w.o.desired_sent, 0);
    ck_assert_str_eq(w.job->status.ready, "3/3");
    ck_assert_str_eq(w.job->status.address, "j.n.svc:8000");
    ck_assert_str_eq(
        status_condition(&w.job->status, NAME_COND_READY)->message, "3 of 3 replicas answer");
    world_done(&w);
}
END_TEST

START_TEST(a_new_pod_is_ready_before_an_old_one_goes)
{
    begin(2);
    settle();
    edit(9);
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_DELETE_POD), 0);
    ck_assert_str_eq(world_action(p, ACTION_CREATE_POD)->name, "j-2");
    carry_out(p);
    world_free(p);
    ck_assert(status_is_true(&w.job->status, NAME_COND_RECONCILING));
    p = world_plan(&w); /* it is not ready yet */
    ck_assert_int_eq(plan_count(p, ACTION_DELETE_POD), 0);
    world_free(p);
    world_run_pod(world_find(&w, "j-2"));
    p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_DELETE_POD), 1);
    ck_assert_str_eq(world_action(p, ACTION_DELETE_POD)->name, "j-0");
    ck_assert(world_told(p, NAME_REASON_ROLLING_OUT));
    carry_out(p);
    world_free(p);
    ck_assert_int_eq(w.job->status.ready_replicas, 2);
    ck_assert_int_eq(w.job->status.updated_replicas, 0); /* none of them has its place */
    p = world_plan(&w);                                  /* it drains: one at a time */
    ck_assert_int_eq(plan_count(p, ACTION_DELETE_POD), 0);
    world_free(p);
    settle();
    check_settled();
    ck_assert_ptr_null(world_find(&w, "j-2"));
    world_done(&w);
}
END_TEST

START_TEST(what_may_change_alone_changes_no_pod)
{
    begin(2);
    settle();
    uint64_t before = revision();
    w.job->spec.suspend = true;
    w.job->spec.elastic.wait_seconds++;
    scale(3);
    ck_assert_uint_eq(revision(), before);
    w.job->spec.suspend = false;
    settle();
    check_settled();
    w.job->spec.image = "other";
    ck_assert_uint_ne(revision(), before);
    world_done(&w);
}
END_TEST

/* A version that does not get ready: nothing is taken for it; another one makes it go at once. */
START_TEST(a_version_that_fails_takes_nothing_away)
{
    begin(2);
    settle();
    edit(9);
    pass();
    struct world_pod *surge = world_find(&w, "j-2");
    struct report failed;
    report_init(&failed);
    failed.state = JOB_FAILED;
    failed.failure = ERR_USER;
    failed.failure_reason = NAME_REASON_USER_ERROR;
    failed.failure_message = "there is no /d/m.gguf";
    surge->pod.phase = POD_RUNNING;
    surge->report = &failed;
    for (int i = 0; i < 3; i++)
        pass();
    ck_assert_int_eq(answering(), 2);
    const struct condition *c = status_condition(&w.job->status, NAME_COND_STALLED);
    ck_assert_str_eq(c->status, "True");
    ck_assert_str_eq(c->message,
        "2 of 2 replicas answer, 0 of the present version; pod j-2 gave up: there is no /d/m.gguf");
    ck_assert(status_is_true(&w.job->status, NAME_COND_READY));
    ck_assert(!status_finished(&w.job->status, NULL));
    edit(10);
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_DELETE_POD), 1);
    ck_assert_str_eq(world_action(p, ACTION_DELETE_POD)->name, "j-2");
    carry_out(p);
    world_free(p);
    settle();
    check_settled();
    world_done(&w);
}
END_TEST

/* The job has failed, as `message` says: its one pod is told so, once, and not taken away. */
static void check_released(const char *message)
{
    ck_assert_str_eq(status_condition(&w.job->status, NAME_COND_FAILED)->message, message);
    struct plan *p = world_plan(&w);
    ck_assert_str_eq(world_action(p, ACTION_DESIRED)->name, "j-0");
    ck_assert_ptr_nonnull(strstr(world_action(p, ACTION_DESIRED)->body, "\"release\":true"));
    ck_assert_int_eq(plan_count(p, ACTION_DELETE_POD), 0);
    carry_out(p);
    world_free(p);
    p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_DESIRED), 0);
    world_free(p);
}

/* Beside others one that gave up is made anew, unless it would end the same; alone it is the job's
 * end. */
START_TEST(who_gave_up_is_made_anew_or_ends_the_job)
{
    static const struct {
        enum err_code class_;
        bool alone, anew, ends;
    } table[] = {{ERR_HANG, false, true, false}, {ERR_DATA, false, false, false},
        {ERR_HANG, true, false, true}, {ERR_DATA, true, false, true}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        begin(table[i].alone ? 1 : 2);
        settle();
        struct report failed;
        report_init(&failed);
        failed.state = JOB_FAILED;
        failed.failure = table[i].class_;
        failed.failure_message = "2 restarts within 600 s";
        w.pods[0].report = &failed;
        w.pods[0].pod.ready = false;
        struct plan *p = world_plan(&w);
        ck_assert_int_eq(plan_count(p, ACTION_DELETE_POD), table[i].anew);
        carry_out(p);
        world_free(p);
        ck_assert_int_eq(status_is_true(&w.job->status, NAME_COND_FAILED), table[i].ends);
        if (table[i].ends)
            check_released("pod j-0: 2 restarts within 600 s");
        world_done(&w);
    }
}
END_TEST

/* Which of the pods a plan tells, and of whom; a space behind each. */
static void told(const struct plan *p, const char *whom, const char *of_whom)
{
    char names[64] = "";
    for (int i = 0; i < p->count; i++) {
        const struct action *a = &p->actions[i];
        if (a->kind != ACTION_DESIRED)
            continue;
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s ", a->name);
        ck_assert_ptr_null(strstr(a->body, "\"release\":true"));
        for (int pod = 0; pod < 4; pod++) {
            char name[8], at[24];
            snprintf(name, sizeof name, "j-%d", pod);
            snprintf(at, sizeof at, "\"10.0.0.%d:8000\"", pod + 1);
            ck_assert_msg(
                !strstr(a->body, at) == !strstr(of_whom, name), "%s: %s", a->name, a->body);
        }
    }
    ck_assert_str_eq(names, whom);
}

static void told_in_a_pass(const char *whom, const char *of_whom)
{
    struct plan *p = world_plan(&w);
    told(p, whom, of_whom);
    carry_out(p);
    world_free(p);
}

/* Pods of another version may not know what that is, and may be of another model. */
START_TEST(where_requests_are_routed_pods_hear_who_is_ready)
{
    begin(3);
    w.job->spec.serve.routing.prefix_affinity = true;
    w.job->spec.serve.routing.max_ahead = 2;
    told_in_a_pass("", "");
    kubelets();
    world_find(&w, "j-1")->pod.ready = false;
    told_in_a_pass("j-0 j-1 j-2 ", "j-0 j-2");
    told_in_a_pass("", "");
    world_find(&w, "j-1")->pod.ready = true;
    told_in_a_pass("j-0 j-1 j-2 ", "j-0 j-1 j-2");
    world_find(&w, "j-2")->pod.restarts++; /* who begins anew has heard of nobody */
    told_in_a_pass("j-2 ", "j-0 j-1 j-2");
    edit(9);
    told_in_a_pass("", "");
    kubelets();
    told_in_a_pass("j-3 ", "j-3");
    settle();
    check_settled();
    told_in_a_pass("", "");
    world_done(&w);
}
END_TEST

static struct report reports[3];

/* What the pods say: that they have the spec's list, those whose letter is in `have`. */
static void pods_say(const char *have, const char *wrong)
{
    const struct jobspec_serve *v = &w.job->spec.serve;
    for (int i = 0; i < 3; i++) {
        char name[] = {'j', '-', (char)('0' + i), 0};
        report_init(&reports[i]);
        reports[i].state = JOB_SERVING;
        if (strchr(have, name[2]))
            reports[i].adapters_list = report_adapters(v->adapters, v->adapter_count);
        if (i == 1)
            reports[i].adapters_wrong = wrong;
        world_find(&w, name)->report = &reports[i];
    }
}

/* One pass: what the condition says, and of how many Events with that reason. */
static void adapters_are(const char *status, const char *reason, const char *message, int events)
{
    struct plan *p = world_plan(&w);
    ck_assert_int_eq(plan_count(p, ACTION_CREATE_POD) + plan_count(p, ACTION_DELETE_POD), 0);
    for (int i = 0; i < p->count; i++)
        events -= p->actions[i].kind == ACTION_EVENT && !strcmp(p->actions[i].reason, reason);
    ck_assert_int_eq(events, 0);
    carry_out(p);
    world_free(p);
    const struct condition *c = status_condition(&w.job->status, NAME_COND_ADAPTERS);
    ck_assert_str_eq(c->status, status);
    ck_assert_str_eq(c->reason, reason);
    ck_assert_str_eq(c->message, message);
}

static void list_adapters(struct jobspec_served_adapter *adapters, int count)
{
    w.job->spec.serve.adapters = adapters;
    w.job->spec.serve.adapter_count = count;
    w.job->spec.generation++;
}

START_TEST(adapters_that_come_and_go_change_no_pod)
{
    struct jobspec_served_adapter list[] = {{"a", "/d/a"}, {"b", "/d/b"}};
    begin(3);
    w.job->spec.serve.adapter_memory = 1 << 20;
    list_adapters(list, 1);
    settle();
    uint64_t before = revision();
    pods_say("012", "");
    adapters_are("True", NAME_REASON_LISTED, "1 adapters, in each of 3 replicas", 1);
    told_in_a_pass("", "");
    list_adapters(list, 2);
    ck_assert_uint_eq(revision(), before);
    struct plan *p = world_plan(&w);
    told(p, "j-0 j-1 j-2 ", "");
    for (int i = 0; i < p->count; i++)
        ck_assert(p->actions[i].kind != ACTION_DESIRED ||
            strstr(p->actions[i].body, "{\"name\":\"b\",\"path\":\"/d/b\"}"));
    carry_out(p);
    world_free(p);
    told_in_a_pass("", "");
    pods_say("0", "");
    adapters_are("False", NAME_REASON_LISTING, "1 of 3 replicas have the 2 adapters", 0);
    pods_say("012", "b: /d/b: no such folder");
    adapters_are("False", NAME_REASON_ADAPTER, "pod j-1: b: /d/b: no such folder", 1);
    adapters_are("False", NAME_REASON_ADAPTER, "pod j-1: b: /d/b: no such folder", 0);
    pods_say("012", "");
    adapters_are("True", NAME_REASON_LISTED, "2 adapters, in each of 3 replicas", 1);
    world_find(&w, "j-2")->pod.restarts++; /* its container's job file may be of an earlier list */
    told_in_a_pass("j-2 ", "");
    w.job->spec.serve.adapter_memory = 0; /* all are loaded before it serves, and no more */
    ck_assert_uint_ne(revision(), before);
    before = revision();
    list_adapters(list, 1);
    ck_assert_uint_ne(revision(), before);
    pass();
    ck_assert_ptr_null(status_condition(&w.job->status, NAME_COND_ADAPTERS));
    list_adapters(NULL, 0);
    world_done(&w);
}
END_TEST

/* Its verdict is the pod's that has one. */
START_TEST(a_replica_that_hangs_is_named)
{
    begin(3);
    settle();
    struct report well, hangs;
    report_init(&well);
    report_init(&hangs);
    well.restarts = 1;
    hangs.restarts = 2;
    hangs.state = JOB_FORMING;
    hangs.verdict = (struct verdict){.kind = NAME_REASON_HANG,
        .replica = 0,
        .rank = 0,
        .node = "b",
        .operation = "decode",
        .message = "rank 0 is silent in decode"};
    w.pods[0].report = &well;
    w.pods[2].report = &hangs;
    w.pods[2].pod.ready = false;
    w.o.report = &well;
    pass();
    const struct status *s = &w.job->status;
    ck_assert_int_eq(s->verdict.replica, 2);
    ck_assert_str_eq(s->verdict.message, "pod j-2: rank 0 is silent in decode");
    ck_assert_str_eq(status_condition(s, NAME_COND_HEALTHY)->reason, NAME_REASON_HANG);
    ck_assert_str_eq(status_condition(s, NAME_COND_READY)->message, "2 of 3 replicas answer");
    ck_assert_int_eq(s->restarts, 3);
    ck_assert_int_eq(s->ready_replicas, 2);
    w.o.report = NULL;
    world_done(&w);
}
END_TEST

START_TEST(suspended_and_scaled_to_none_they_go_at_once)
{
    for (int i = 0; i < 2; i++) {
        begin(3);
        settle();
        if (i)
            scale(0);
        w.job->spec.suspend = !i;
        struct plan *p = world_plan(&w);
        ck_assert_int_eq(plan_count(p, ACTION_DELETE_POD), 3);
        carry_out(p);
        world_free(p);
        settle();
        ck_assert(status_is_true(&w.job->status, NAME_COND_SUSPENDED));
        ck_assert_int_eq(answering(), 0);
        w.job->spec.suspend = false;
        scale(2);
        settle();
        check_settled();
        world_done(&w);
    }
}
END_TEST

/* -- random worlds -- */

static unsigned dice;

static int roll(int sides)
{
    return rand_r(&dice) % sides;
}

static void mishap(void)
{
    struct world_pod *p = &w.pods[roll(WORLD_PODS)];
    switch (roll(8)) {
    case 0:
        edit(1 + roll(4));
        break;
    case 1:
        scale(1 + roll(6));
        break;
    case 2: /* its rank has died, and comes again */
        if (p->exists && p->pod.phase == POD_RUNNING)
            p->pod.ready = !p->pod.ready;
        break;
    case 3:
        if (p->exists && p->pod.phase == POD_RUNNING) {
            p->pod.phase = POD_FAILED;
            p->pod.ready = false;
        }
        break;
    case 4: /* somebody deletes it */
        if (p->exists)
            p->pod.deleting = true;
        break;
    case 5:
        if (p->exists)
            p->lost = p->pod.deleting = true;
        break;
    default:
        break;
    }
}

/* The plan takes away one that answers only where enough others do. */
static void watched_pass(void)
{
    int before = answering(), want = w.job->spec.replicas;
    pass();
    int after = answering();
    ck_assert_msg(
        after == before || after >= want, "%d of %d answered, now %d", before, want, after);
}

static void run_world(unsigned seed)
{
    dice = seed;
    begin(1 + roll(5));
    for (int i = 0; i < 80; i++) {
        w.o.now_ms += roll(5000);
        switch (roll(3)) {
        case 0:
            mishap();
            break;
        case 1: /* some kubelets get something done */
            for (int k = 0; k < WORLD_PODS; k++) {
                struct world_pod *p = &w.pods[k];
                if (p->exists && !p->lost && roll(2)) {
                    if (p->pod.deleting)
                        p->exists = false;
                    else if (p->pod.phase == POD_PENDING)
                        world_run_pod(p);
                }
            }
            break;
        default:
            watched_pass();
        }
    }
    for (int k = 0; k < WORLD_PODS; k++)
        if (w.pods[k].exists && w.pods[k].pod.phase == POD_RUNNING)
            w.pods[k].pod.ready = true;
    settle();
    check_settled();
    world_done(&w);
}

START_TEST(enough_answer_in_random_worlds)
{
    const char *text = getenv("LLMJOB_SIM_ROUNDS"), *from = getenv("LLMJOB_SIM_SEED");
    long rounds = text ? strtol(text, NULL, 10) : 300;
    unsigned seed = from ? (unsigned)strtoul(from, NULL, 10) : (unsigned)time(NULL);
    printf("seed %u, %ld worlds\n", seed, rounds);
    for (long i = 0; i < rounds; i++)
        run_world(seed + (unsigned)i);
}
END_TEST

UNIT_MAIN("plan_serving", each_place_has_a_pod_that_coordinates_itself,
    a_new_pod_is_ready_before_an_old_one_goes, what_may_change_alone_changes_no_pod,
    a_version_that_fails_takes_nothing_away, who_gave_up_is_made_anew_or_ends_the_job,
    where_requests_are_routed_pods_hear_who_is_ready, adapters_that_come_and_go_change_no_pod,
    a_replica_that_hangs_is_named, suspended_and_scaled_to_none_they_go_at_once,
    enough_answer_in_random_worlds)
