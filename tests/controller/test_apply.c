/*
 * Goal: a plan's actions reach the API server, stage by stage; a failure stops what follows but for
 * the status; the token is made once and read back; what is borrowed from the caches may go while
 * requests are under way. Method: a fake API server that refuses on order; plans made by hand; the
 * objects it holds afterwards. And the whole pass: informers, plan and apply together until quiet,
 * with every mutating request lost once in turn.
 * needs: threads
 */
#include "controller/apply.h"

#include "api/names.h"
#include "base/clock.h"
#include "controller/kube/informer.h"
#include "tests/controller/fakekube.h"

#define JOB "/apis/llmjob.dev/v1alpha1/namespaces/n/llmjobs/j"
#define JOB_TEXT \
    "{\"apiVersion\":\"llmjob.dev/v1alpha1\",\"kind\":\"LLMJob\",\"metadata\":{\"name\":" \
    "\"j\",\"namespace\":\"n\",\"uid\":\"uid-1\",\"generation\":1},\"spec\":{\"replicas\":2," \
    "\"run\":{\"command\":[\"x\"]}}}"
#define SERVE_TEXT \
    "{\"apiVersion\":\"llmjob.dev/v1alpha1\",\"kind\":\"LLMJob\",\"metadata\":{\"name\":" \
    "\"j\",\"namespace\":\"n\",\"uid\":\"uid-1\",\"generation\":1},\"spec\":{\"storage\":[" \
    "{\"name\":\"d\",\"claimName\":\"c\",\"mountPath\":\"/data\"}],\"model\":{\"source\":" \
    "\"/data/m\"},\"serve\":{\"modelName\":\"m\",\"apiKeySecret\":\"db\",\"classify\":{" \
    "\"webhookSecret\":\"hook\",\"alerts\":[{\"name\":\"a\",\"label\":\"x\",\"share\":1," \
    "\"webhook\":\"http://h/\",\"webhookKey\":\"k\"}]}}}}"
#define SECRET_TEXT \
    "{\"metadata\":{\"name\":\"j-job\",\"annotations\":{\"llmjob.dev/generation\":\"1\"}," \
    "\"ownerReferences\":[{\"uid\":\"uid-1\"}]},\"data\":{\"token\":\"c2VzYW1l\"}}"

#define KNOWN_JOB_TEXT \
    "{\"apiVersion\":\"llmjob.dev/v1alpha1\",\"kind\":\"LLMJob\",\"metadata\":{\"name\":" \
    "\"j\",\"namespace\":\"n\",\"uid\":\"uid-1\",\"generation\":1},\"spec\":{\"replicas\":2," \
    "\"run\":{\"command\":[\"x\"]}},\"status\":{\"observedGeneration\":1}}"

enum { JOBS, PODS, SERVICES, KINDS };

struct bench {
    struct fakekube *f;
    struct kube *k;
    struct cluster *c;
    struct coordinators *coordinators;
    struct events *events;
    struct apply *a;
    struct informer *informers[KINDS];
    int dirty, done, rc;
    int64_t again_ms;
    struct err error;
};

static void mark(void *user, const char *key)
{
    (void)key;
    ((struct bench *)user)->dirty++;
}

static void done(void *user, const char *key, int rc, const struct err *e, int64_t again_ms)
{
    struct bench *b = user;
    ck_assert_str_eq(key, "n/j");
    b->done++;
    b->rc = rc;
    b->error = *e;
    b->again_ms = again_ms;
}

static void start(struct bench *b)
{
    struct err e;
    *b = (struct bench){.f = fakekube_start()};
    b->k = fakekube_client(b->f);
    fakekube_put(b->f, JOB, JOB_TEXT);
    ck_assert_int_eq(cluster_create(mark, b, &b->c, &e), 0);
    ck_assert_int_eq(coordinators_create(b->k, false, 1, mark, b, &b->coordinators, &e), 0);
    ck_assert_int_eq(events_create(b->k, "me", &b->events, &e), 0);
    const struct apply_conf conf = {b->k, b->coordinators, b->c, b->events, done, b};
    ck_assert_int_eq(apply_create(&conf, &b->a, &e), 0);
    const struct informer_conf kinds[KINDS] = {
        {"jobs", "/apis/llmjob.dev/v1alpha1/llmjobs", NULL, cluster_job_changed, b->c, NULL},
        {"pods", "/api/v1/pods", NULL, cluster_pod_changed, b->c, NULL},
        {"services", "/api/v1/services", NULL, cluster_service_changed, b->c, NULL}};
    for (int i = 0; i < KINDS; i++)
        ck_assert_int_eq(informer_create(b->k, &kinds[i], &b->informers[i], &e), 0);
}

static void stop(struct bench *b)
{
    kube_destroy(b->k);
    for (int i = 0; i < KINDS; i++)
        informer_destroy(b->informers[i]);
    apply_destroy(b->a);
    events_destroy(b->events);
    coordinators_destroy(b->coordinators);
    cluster_destroy(b->c);
    fakekube_stop(b->f);
}

static void turn(struct bench *b)
{
    struct err e = {0};
    for (int i = 0; i < KINDS; i++)
        informer_turn(b->informers[i]);
    ck_assert_msg(!http_turn(kube_http(b->k), NULL, 0, 5, &e), "%s", e.text);
}

/* Until the caches show all that the server holds. */
static void sync_caches(struct bench *b)
{
    int64_t deadline = clock_ms() + 10000;
    for (bool same = false; !same && clock_ms() < deadline;) {
        turn(b);
        same = true;
        pthread_mutex_lock(&b->f->lock);
        for (int i = 0; i < b->f->count; i++) {
            const struct fakekube_object *o = &b->f->objects[i];
            int kind = strstr(o->path, "/llmjobs/") ? JOBS
                : strstr(o->path, "/pods/")         ? PODS
                : strstr(o->path, "/services/")     ? SERVICES
                                                    : -1;
            same &= kind < 0 || informer_version(b->informers[kind]) >= (uint64_t)o->version;
        }
        pthread_mutex_unlock(&b->f->lock);
    }
}

static struct plan *new_plan(void)
{
    struct plan *p = mem_zalloc(sizeof *p);
    p->arena = arena_create(16 << 20);
    p->again_ms = -1;
    return p;
}

static void run(struct bench *b, struct plan *p)
{
    int want = b->done + 1;
    int64_t deadline = clock_ms() + 10000;
    apply_start(b->a, "n/j", cluster_job(b->c, "n/j"), p);
    while (b->done < want && clock_ms() < deadline)
        turn(b);
    ck_assert_int_eq(b->done, want);
    ck_assert_int_eq(apply_running(b->a), 0);
}

static void add_action(struct plan *p, enum action_kind kind, const char *name, const char *body)
{
    struct err e;
    struct action *a = plan_add(p, kind, &e);
    a->name = name;
    a->uid = "uid-x";
    a->body = body;
    a->reason = "Reason";
    a->message = "what happened";
}

#define POD(n) "{\"metadata\":{\"name\":\"" n "\",\"namespace\":\"n\"}}"

static int holds(struct bench *b, const char *path)
{
    mem_autofree char *text = fakekube_get(b->f, path);
    return *text != 0;
}

START_TEST(actions_become_objects)
{
    struct bench b;
    start(&b);
    sync_caches(&b);
    struct plan *p = new_plan();
    char *name = mem_strdup("gone-0"); /* borrowed from a cache that changes meanwhile */
    add_action(p, ACTION_SECRET, NULL, NULL);
    add_action(p, ACTION_SERVICE, "j", POD("j"));
    add_action(p, ACTION_CREATE_POD, "j-0", POD("j-0"));
    add_action(p, ACTION_DELETE_POD, name, NULL);
    add_action(p, ACTION_EVENT, NULL, NULL);
    int want = b.done + 1;
    apply_start(b.a, "n/j", cluster_job(b.c, "n/j"), p);
    memset(name, 'x', strlen(name));
    mem_free(name);
    while (b.done < want)
        turn(&b);
    ck_assert_int_eq(b.rc, 0);
    ck_assert(holds(&b, "/api/v1/namespaces/n/pods/j-0"));
    struct memory *m = cluster_memory(b.c, "n/j");
    ck_assert_uint_eq(strlen(m->token), 64);
    ck_assert_int_eq(m->secret_generation, 1);
    ck_assert(m->wait[WAIT_PODS] > 0 && m->wait[WAIT_SERVICES] > 0);
    mem_autofree char *secret = fakekube_get(b.f, "/api/v1/namespaces/n/secrets/j-job");
    ck_assert_ptr_nonnull(strstr(secret, m->token));
    stop(&b);
}
END_TEST

START_TEST(trials_are_made_and_deleted)
{
    static const char all[] = "/apis/llmjob.dev/v1alpha1/namespaces/n/llmjobs";
    struct bench b;
    char path[128];
    start(&b);
    sync_caches(&b);
    struct plan *p = new_plan();
    add_action(p, ACTION_CREATE_TRIAL, "j-t0", POD("j-t0"));
    run(&b, p);
    ck_assert_int_eq(b.rc, 0);
    snprintf(path, sizeof path, "%s/j-t0", all);
    ck_assert(holds(&b, path));
    ck_assert(cluster_memory(b.c, "n/j")->wait[WAIT_JOBS] > 0);
    p = new_plan();
    add_action(p, ACTION_DELETE_TRIAL, "j-t0", NULL);
    run(&b, p);
    ck_assert_int_eq(b.rc, 0);
    ck_assert(!holds(&b, path));
    p = new_plan(); /* somebody was quicker */
    add_action(p, ACTION_DELETE_TRIAL, "j-t0", NULL);
    run(&b, p);
    ck_assert_int_eq(b.rc, 0);
    stop(&b);
}
END_TEST

START_TEST(a_failure_stops_what_follows_but_not_the_status)
{
    struct bench b;
    start(&b);
    sync_caches(&b);
    fakekube_fault(b.f, "POST /api/v1/namespaces/n/services", FAULT_STATUS, 403, 1);
    struct plan *p = new_plan();
    add_action(p, ACTION_SERVICE, "j", POD("j"));
    add_action(p, ACTION_CREATE_POD, "j-0", POD("j-0"));
    add_action(p, ACTION_STATUS, NULL,
        "[{\"op\":\"add\",\"path\":\"/status\",\"value\":{\"state\":\"Pending\"}}]");
    add_action(p, ACTION_EVENT, NULL, NULL);
    run(&b, p);
    ck_assert_int_eq(b.rc, -ERR_USER);
    ck_assert(!holds(&b, "/api/v1/namespaces/n/pods/j-0"));
    mem_autofree char *job = fakekube_get(b.f, JOB);
    ck_assert_ptr_nonnull(strstr(job, "\"state\":\"Pending\""));
    ck_assert_ptr_nonnull(strstr(cluster_memory(b.c, "n/j")->trouble, "403"));
    p = new_plan(); /* and success takes the trouble back */
    add_action(p, ACTION_SERVICE, "j", POD("j"));
    run(&b, p);
    ck_assert_int_eq(b.rc, 0);
    ck_assert_str_eq(cluster_memory(b.c, "n/j")->trouble, "");
    stop(&b);
}
END_TEST

START_TEST(the_token_is_read_back_and_a_foreign_secret_refused)
{
    struct bench b;
    start(&b);
    sync_caches(&b);
    fakekube_put(b.f, "/api/v1/namespaces/n/secrets/j-job", SECRET_TEXT);
    struct plan *p = new_plan();
    add_action(p, ACTION_SECRET, NULL, NULL);
    run(&b, p);
    ck_assert_int_eq(b.rc, 0);
    ck_assert_str_eq(cluster_memory(b.c, "n/j")->token, "sesame");
    /* A new job has none, as a rule: it was created first. One that was seen before is looked
     * at. */
    ck_assert_int_eq(atomic_load(&b.f->mutations), 1);
    fakekube_put(b.f, JOB, KNOWN_JOB_TEXT);
    sync_caches(&b);
    p = new_plan();
    add_action(p, ACTION_SECRET, NULL, NULL);
    run(&b, p);
    ck_assert_int_eq(b.rc, 0);
    ck_assert_int_eq(atomic_load(&b.f->mutations), 1);
    fakekube_put(b.f, "/api/v1/namespaces/n/secrets/j-job",
        "{\"metadata\":{\"name\":\"j-job\",\"ownerReferences\":[{\"uid\":\"uid-0\"}]},"
        "\"data\":{\"token\":\"c2VzYW1l\"}}");
    p = new_plan();
    add_action(p, ACTION_SECRET, NULL, NULL);
    add_action(p, ACTION_CREATE_POD, "j-0", POD("j-0"));
    run(&b, p);
    ck_assert_int_eq(b.rc, -ERR_RETRY);
    ck_assert_ptr_nonnull(strstr(b.error.text, "another owner"));
    ck_assert(!holds(&b, "/api/v1/namespaces/n/pods/j-0"));
    stop(&b);
}
END_TEST

/* A serving job may name a Secret of its namespace that was meant for something else: pods come
 * only when its owner has labelled it for this. */
START_TEST(only_a_labelled_secret_is_an_api_key)
{
#define AT "/api/v1/namespaces/n/secrets/"
    static const struct {
        const char *path, *secret, *says; /* secret NULL: absent */
    } cases[] = {
        {AT "db", NULL, "spec.serve.apiKeySecret: there is no Secret db"},
        {AT "db", "{\"metadata\":{\"name\":\"db\"}}", "lacks the label llmjob.dev/api-key"},
        {AT "db", "{\"metadata\":{\"name\":\"db\",\"labels\":{\"llmjob.dev/api-key\":\"false\"}}}",
            "spec.serve.apiKeySecret: Secret db lacks the label llmjob.dev/api-key"},
        {AT "db", "{\"metadata\":{\"name\":\"db\",\"labels\":{\"llmjob.dev/api-key\":\"true\"}}}",
            "spec.serve.classify.webhookSecret: there is no Secret hook"},
        {AT "hook",
            "{\"metadata\":{\"name\":\"hook\",\"labels\":{\"llmjob.dev/api-key\":\"true\"}}}",
            "spec.serve.classify.webhookSecret: Secret hook lacks the label llmjob.dev/webhook"},
        {AT "hook",
            "{\"metadata\":{\"name\":\"hook\",\"labels\":{\"llmjob.dev/webhook\":\"true\"}}}",
            NULL},
    };
#undef AT
    struct bench b;
    start(&b);
    fakekube_put(b.f, JOB, SERVE_TEXT);
    fakekube_put(b.f, "/api/v1/namespaces/n/secrets/j-job", SECRET_TEXT);
    sync_caches(&b);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (cases[i].secret)
            fakekube_put(b.f, cases[i].path, cases[i].secret);
        struct plan *p = new_plan();
        add_action(p, ACTION_SECRET, NULL, NULL);
        add_action(p, ACTION_CREATE_POD, "j-0", POD("j-0"));
        run(&b, p);
        const struct memory *m = cluster_memory(b.c, "n/j");
        ck_assert_ptr_nonnull(m->token); /* its agent can be asked all the same */
        ck_assert_int_eq(holds(&b, "/api/v1/namespaces/n/pods/j-0"), !cases[i].says);
        ck_assert_int_eq(m->secret_generation, cases[i].says ? -1 : 1);
        if (!cases[i].says) {
            ck_assert_int_eq(b.rc, 0);
            continue;
        }
        ck_assert_int_eq(b.rc, -ERR_USER);
        ck_assert_msg(strstr(m->trouble, cases[i].says), "%s", m->trouble);
    }
    stop(&b);
}
END_TEST

START_TEST(no_run_waits_for_an_agent)
{
    struct bench b;
    struct coordinator_view v;
    struct err e;
    start(&b);
    sync_caches(&b);
    /* Nothing listens there, and nobody would be waited for if it did. */
    const struct coordinator_target t = {"n", "j-0", "u", "127.0.0.1", "sesame", 0, 2, true};
    ck_assert_int_eq(coordinator_aim(b.coordinators, "n/j", &t, &e), 0);
    struct plan *p = new_plan();
    add_action(p, ACTION_DESIRED, "j-0", "{}");
    p->actions[0].hash = 77;
    apply_start(b.a, "n/j", cluster_job(b.c, "n/j"), p);
    ck_assert_int_eq(b.done, 1); /* at once */
    ck_assert_int_eq(b.rc, 0);
    coordinator_look(b.coordinators, "n/j", &v);
    ck_assert_uint_eq(v.desired, 77);
    stop(&b);
}
END_TEST

START_TEST(a_run_has_its_share_of_requests_in_flight)
{
    struct bench b;
    start(&b);
    sync_caches(&b);
    struct plan *p = new_plan();
    for (int i = 0; i < 60; i++)
        add_action(p, ACTION_CREATE_POD, "j-0", POD("j-0"));
    apply_start(b.a, "n/j", cluster_job(b.c, "n/j"), p);
    while (b.done < 1) {
        ck_assert_int_le(http_in_flight(kube_http(b.k)), 8 + KINDS);
        turn(&b);
    }
    ck_assert_int_eq(atomic_load(&b.f->mutations), 60);
    stop(&b);
}
END_TEST

/* One pass, as main makes it. Returns how many actions there were. */
static int pass(struct bench *b)
{
    struct observed o;
    struct err e = {0};
    struct plan *p = new_plan();
    sync_caches(b);
    ck_assert_int_eq(cluster_observe(b->c, "n/j", p->arena, &o, &e), 1);
    o.image = "img";
    ck_assert_msg(!plan_llmjob(&o, p, &e), "%s", e.text);
    int n = p->count;
    run(b, p);
    return n;
}

/* Passes until nothing is to do; returns the mutating requests it took. */
static int converge(struct bench *b)
{
    int quiet = 0;
    for (int i = 0; i < 30 && quiet < 2; i++)
        quiet = pass(b) ? 0 : quiet + 1;
    ck_assert_int_eq(quiet, 2);
    ck_assert(holds(b, "/api/v1/namespaces/n/pods/j-0"));
    ck_assert(holds(b, "/api/v1/namespaces/n/pods/j-1"));
    ck_assert(!holds(b, "/api/v1/namespaces/n/pods/j-2"));
    ck_assert(holds(b, "/api/v1/namespaces/n/services/j"));
    ck_assert(holds(b, "/api/v1/namespaces/n/secrets/j-job"));
    mem_autofree char *job = fakekube_get(b->f, JOB);
    ck_assert_ptr_nonnull(strstr(job, "\"ready\":\"0/2\""));
    return atomic_load(&b->f->mutations);
}

START_TEST(passes_converge_whatever_request_is_refused)
{
    static const char *const parts[] = {"POST /api/v1/namespaces/n/secrets", "services", "pods ",
        "POST /api/v1/namespaces/n/pods", "PATCH", "events", "GET /api/v1/namespaces/n/secrets"};
    static const int statuses[] = {500, 409, 429};
    struct bench b;
    start(&b);
    int undisturbed = converge(&b);
    ck_assert_int_eq(pass(&b), 0);
    ck_assert_int_eq(atomic_load(&b.f->mutations), undisturbed); /* quiet is quiet */
    stop(&b);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        start(&b);
        for (int k = 0; k < 3; k++)
            fakekube_fault(b.f, parts[i], FAULT_STATUS, statuses[k], 1);
        fakekube_fault(b.f, parts[i], FAULT_RESET, 0, 1);
        converge(&b);
        stop(&b);
    }
}
END_TEST

UNIT_MAIN("apply", actions_become_objects, trials_are_made_and_deleted,
    a_failure_stops_what_follows_but_not_the_status,
    the_token_is_read_back_and_a_foreign_secret_refused, only_a_labelled_secret_is_an_api_key,
    no_run_waits_for_an_agent, a_run_has_its_share_of_requests_in_flight,
    passes_converge_whatever_request_is_refused)
