/*
 * apply: a run is one plan under way. Its requests are prepared when it starts, while the snapshot
 * is still valid; later it holds nothing but its own arena and the job's names, and looks the job's
 * memory up by uid, for the job may be gone or another one by then. Idempotent by construction:
 * names are deterministic, deletes carry uids, the status replaces itself. Makes no decision: what
 * to do about a failure is the next plan's affair.
 */
#include "controller/apply.h"

#include "api/names.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "base/metric.h"
#include "controller/kube/skim.h"
#include "controller/plan/podspec.h"

#include <assert.h>

/* For the caches to show what was just written: a bookmark comes each minute. */
#define WAIT_MS        90000
#define TOKEN_BYTES    32
#define RUN_REQUESTS   8 /* of one run in flight */
#define TROUBLE_PASSES 3 /* failures in a row that show in the status */

enum stage { STAGE_OBJECTS, STAGE_PODS, STAGE_DESIRED, STAGE_STATUS, STAGE_LAST, STAGES };

static const struct {
    enum stage stage;
    const char *name;
} kinds[ACTION_KINDS] = {
    [ACTION_SECRET] = {STAGE_OBJECTS, "secret"},
    [ACTION_SERVICE] = {STAGE_OBJECTS, "service"},
    [ACTION_GANG] = {STAGE_OBJECTS, "gang"},
    [ACTION_GANG_RESIZE] = {STAGE_OBJECTS, "gang-resize"},
    [ACTION_DELETE_POD] = {STAGE_PODS, "delete-pod"},
    [ACTION_CREATE_POD] = {STAGE_PODS, "create-pod"},
    [ACTION_DELETE_TRIAL] = {STAGE_PODS, "delete-trial"},
    [ACTION_CREATE_TRIAL] = {STAGE_PODS, "create-trial"},
    [ACTION_DESIRED] = {STAGE_DESIRED, "desired"},
    [ACTION_STATUS] = {STAGE_STATUS, "status"},
    [ACTION_DELETE_JOB] = {STAGE_LAST, "delete-job"},
    [ACTION_EVENT] = {STAGE_LAST, "event"},
};

struct apply {
    struct apply_conf conf;
    int running;
};

struct apply_run {
    struct apply *all;
    struct plan *plan;
    const char *key, *namespace_, *name, *uid;
    int64_t generation;
    bool is_new;                           /* its status was never written */
    const char *secret_new, *secret_patch; /* bodies, when the plan needs them */
    const char *token;                     /* in secret_new */
    struct user_secret {
        const char *field, *name, *label;
    } users[2]; /* (user_count) that the job names */
    int user_count;
    int next, pending;
    enum stage stage;   /* of what is pending */
    struct err failure; /* the first */
    enum stage failed_stage;
    int64_t again_ms;
};

struct apply_request { /* one action in flight */
    struct apply_run *run;
    const struct action *action;
    const char *path; /* of the object */
    bool looked;      /* for a Secret */
    int user;         /* of the run's: that which is looked for */
};

static struct metric actions_total = {
    .name = NAME_METRIC_ACTIONS, .help = "Actions carried out.", .kind = METRIC_COUNTER};
static struct metric failures_total = {.name = NAME_METRIC_ACTION_FAILURES,
    .help = "Actions that the API server refused or did not answer.",
    .kind = METRIC_COUNTER};

int apply_create(const struct apply_conf *conf, struct apply **out, struct err *e)
{
    static bool registered;
    struct apply *a = mem_zalloc(sizeof *a);
    if (!a)
        return err_set(e, ERR_MEMORY, "no memory for apply");
    if (!registered) {
        metric_register(&actions_total);
        metric_register(&failures_total);
        registered = true;
    }
    a->conf = *conf;
    *out = a;
    return 0;
}

void apply_destroy(struct apply *a)
{
    if (!a)
        return;
    assert(!a->running);
    mem_free(a);
}

int apply_running(const struct apply *a)
{
    return a->running;
}

/* NULL when the job that this run is about is not known any more. */
static struct memory *memory_of(const struct apply_run *r)
{
    struct cluster *c = r->all->conf.cluster;
    const struct job *j = cluster_job(c, r->key);
    return j && !strcmp(j->spec.uid, r->uid) ? cluster_memory(c, r->key) : NULL;
}

static void advance_run(struct apply_run *r);

static void note_failure(struct apply_run *r, const struct err *e)
{
    if (r->failure.code != ERR_NONE)
        return;
    r->failure = *e;
    r->failed_stage = r->stage;
}

static void finish_request(struct apply_request *q, int rc, const struct err *e)
{
    struct apply_run *r = q->run;
    metric_add(rc ? &failures_total : &actions_total, 1);
    if (rc)
        note_failure(r, e);
    r->pending--;
    advance_run(r);
}

static int send_request(struct apply_request *q, const char *method, const char *path,
    const char *body, const char *type, void (*done_fn)(void *user, const struct http_response *r),
    struct err *e)
{
    bool writes = body && strcmp(method, "DELETE") != 0;
    if (path && writes)
        path = arena_printf(q->run->plan->arena, "%s" KUBE_UNCHECKED, path);
    const struct kube_call k = {.method = method,
        .path = path,
        .body = body,
        .len = body ? strlen(body) : 0,
        .content_type = type,
        .done_fn = done_fn,
        .user = q};
    if (!path)
        return err_set(e, ERR_MEMORY, "no memory for a request");
    return kube_start(q->run->all->conf.kube, &k, e);
}

/* The next pass waits until the cache shows what was just written. */
static void expect_version(struct memory *m, enum wait which, const struct http_response *r)
{
    uint64_t version = skim_version(r->body, r->len);
    if (version > m->wait[which])
        m->wait[which] = version;
    m->wait_until_ms = clock_ms() + WAIT_MS;
}

/* -- the Secret: look, then create or renew; of a new job create, then look -- */

/* Pods may follow, unless the user's Secret is not there for this. */
static void note_secret(struct apply_run *run)
{
    struct memory *m = memory_of(run);
    if (!m)
        return;
    m->secret_generation = run->generation;
    m->secret_seen_ms = clock_ms();
}

/* A pod may be given any Secret of its namespace: only one that says so is meant for it. */
static int check_user_secret(
    const struct user_secret *u, const struct http_response *r, struct err *e)
{
    if (r->status == 404)
        return err_set(e, ERR_USER, "%s: there is no Secret %s", u->field, u->name);
    int rc = kube_check(r, e);
    if (rc)
        return rc;
    json_auto struct json *v = NULL;
    rc = json_parse(r->body, r->len, &v, e);
    if (rc)
        return rc;
    const struct json *labels = json_get(json_get(v, "metadata"), "labels");
    if (strcmp(json_str(labels, u->label, ""), "true") != 0)
        return err_set(
            e, ERR_USER, "%s: Secret %s lacks the label %s: \"true\"", u->field, u->name, u->label);
    return 0;
}

static void look_at_user_secret(struct apply_request *q);

static void user_secret_seen(void *user, const struct http_response *r)
{
    struct apply_request *q = user;
    struct err e = {0};
    int rc = check_user_secret(&q->run->users[q->user++], r, &e);
    if (rc)
        finish_request(q, rc, &e);
    else
        look_at_user_secret(q);
}

/* The job's own Secret is as it should be; now the user's, one by one. */
static void look_at_user_secret(struct apply_request *q)
{
    struct apply_run *run = q->run;
    struct err e = {0};
    if (q->user == run->user_count) {
        note_secret(run);
        finish_request(q, 0, NULL);
        return;
    }
    const char *path = arena_printf(run->plan->arena, "/api/v1/namespaces/%s/secrets/%s",
        run->namespace_, run->users[q->user].name);
    int rc = send_request(q, "GET", path, NULL, NULL, user_secret_seen, &e);
    if (rc)
        finish_request(q, rc, &e);
}

static int keep_token(struct apply_run *run, const struct http_response *r, struct err *e)
{
    struct memory *m = memory_of(run);
    int rc = kube_check(r, e);
    if (rc || !m || m->token)
        return rc;
    m->token = mem_strdup(run->token);
    return m->token ? 0 : err_set(e, ERR_MEMORY, "no memory for a token");
}

static void secret_written(void *user, const struct http_response *r)
{
    struct apply_request *q = user;
    struct err e = {0};
    int rc = keep_token(q->run, r, &e);
    if (rc)
        finish_request(q, rc, &e);
    else
        look_at_user_secret(q);
}

static int learn_secret(
    struct apply_request *q, const struct http_response *r, bool *current, struct err *e)
{
    struct apply_run *run = q->run;
    json_auto struct json *v = NULL;
    int rc = json_parse(r->body, r->len, &v, e);
    if (rc)
        return rc;
    const struct json *meta = json_get(v, "metadata");
    const char *owner = json_str(json_first(json_get(meta, "ownerReferences")), "uid", "");
    if (strcmp(owner, run->uid) != 0)
        return err_set(
            e, ERR_RETRY, "Secret %s" NAME_SECRET_SUFFIX " belongs to another owner", run->name);
    buf_auto struct buf token;
    buf_init(&token, 4096);
    rc = kube_base64(json_str(json_get(v, "data"), NAME_TOKEN_FILE, ""), &token, e);
    if (rc)
        return rc;
    if (!token.len)
        return err_set(e, ERR_RETRY, "Secret %s" NAME_SECRET_SUFFIX " has no token", run->name);
    const char *generation =
        json_str(json_get(meta, "annotations"), NAME_ANNOTATION_GENERATION, "-1");
    *current = strtoll(generation, NULL, 10) == run->generation;
    struct memory *m = memory_of(run);
    if (!m)
        return 0;
    mem_free(m->token);
    m->token = buf_take(&token);
    return 0;
}

static void secret_seen(void *user, const struct http_response *r);

static int look_for_secret(struct apply_request *q, struct err *e)
{
    q->looked = true;
    return send_request(q, "GET", q->path, NULL, NULL, secret_seen, e);
}

static void secret_created(void *user, const struct http_response *r)
{
    struct apply_request *q = user;
    struct err e = {0};
    if (r->status != 409 || q->looked)
        secret_written(user, r);
    else if (look_for_secret(q, &e))
        finish_request(q, -(int)e.code, &e);
}

static int create_secret(struct apply_request *q, struct err *e)
{
    const struct apply_run *run = q->run;
    const char *all =
        arena_printf(run->plan->arena, "/api/v1/namespaces/%s/secrets", run->namespace_);
    return send_request(q, "POST", all, run->secret_new, NULL, secret_created, e);
}

/* A job that nobody has looked at yet has none. */
static int start_secret(struct apply_request *q, struct err *e)
{
    const struct apply_run *run = q->run;
    q->path = arena_printf(run->plan->arena, "/api/v1/namespaces/%s/secrets/%s" NAME_SECRET_SUFFIX,
        run->namespace_, run->name);
    return run->is_new ? create_secret(q, e) : look_for_secret(q, e);
}

/* What follows from the Secret that is there, or is not. */
static int go_on_with_secret(struct apply_request *q, const struct http_response *r, struct err *e)
{
    if (r->status == 404)
        return create_secret(q, e);
    int rc = kube_check(r, e);
    if (rc)
        return rc;
    bool current = false;
    rc = learn_secret(q, r, &current, e);
    if (rc)
        return rc;
    if (!current)
        return send_request(
            q, "PATCH", q->path, q->run->secret_patch, KUBE_MERGE_PATCH, secret_written, e);
    look_at_user_secret(q);
    return 0;
}

static void secret_seen(void *user, const struct http_response *r)
{
    struct apply_request *q = user;
    struct err e = {0};
    int rc = go_on_with_secret(q, r, &e);
    if (rc)
        finish_request(q, rc, &e);
}

/* False: out of memory. */
static bool name_user_secrets(struct apply_run *r, const struct jobspec *s)
{
    const struct user_secret all[] = {
        {"spec.serve.apiKeySecret", s->serve.api_key_secret, NAME_LABEL_API_KEY},
        {"spec.serve.classify.webhookSecret", s->serve.classify.webhook_secret,
            NAME_LABEL_WEBHOOK}};
    for (size_t i = 0; s->task == TASK_SERVE && i < sizeof all / sizeof *all; i++) {
        struct user_secret u = all[i];
        if (!u.name)
            continue;
        if (!(u.name = arena_strdup(r->plan->arena, u.name)))
            return false;
        r->users[r->user_count++] = u;
    }
    return true;
}

static int prepare_secret(struct apply_run *r, const struct job *job, struct err *e)
{
    unsigned char bytes[TOKEN_BYTES];
    char hex[2 * TOKEN_BYTES + 1];
    int rc = io_random(bytes, sizeof bytes, e);
    if (rc)
        return rc;
    io_hex(bytes, sizeof bytes, hex);
    buf_auto struct buf new, patch;
    buf_init(&new, PODSPEC_LIMIT);
    buf_init(&patch, PODSPEC_LIMIT);
    rc = podspec_secret(&job->spec, hex, &new, e);
    if (rc)
        return rc;
    rc = podspec_secret(&job->spec, NULL, &patch, e);
    if (rc)
        return rc;
    struct arena *arena = r->plan->arena;
    r->token = arena_strdup(arena, hex);
    r->secret_new = arena_strdup(arena, buf_cstr(&new));
    r->secret_patch = arena_strdup(arena, buf_cstr(&patch));
    bool whole = r->token && r->secret_new && r->secret_patch && name_user_secrets(r, &job->spec);
    return whole ? 0 : err_set(e, ERR_MEMORY, "no memory for a Secret");
}

/* -- the other answers -- */

static void object_written(void *user, const struct http_response *r)
{
    struct apply_request *q = user;
    struct memory *m = memory_of(q->run);
    struct err e = {0};
    int rc = kube_check(r, &e);
    if (!rc && m)
        expect_version(m, q->action->kind == ACTION_SERVICE ? WAIT_SERVICES : WAIT_GANGS, r);
    finish_request(q, rc, &e);
}

static void pod_created(void *user, const struct http_response *r)
{
    struct apply_request *q = user;
    struct memory *m = memory_of(q->run);
    struct err e = {0};
    int rc = kube_check(r, &e);
    if (!rc && m)
        expect_version(m, WAIT_PODS, r);
    if (!rc)
        log_info("pod created", LOG_S("job", q->run->key), LOG_S("pod", q->action->name));
    finish_request(q, rc, &e);
}

static void pod_deleted(void *user, const struct http_response *r)
{
    struct apply_request *q = user;
    struct memory *m = memory_of(q->run);
    struct err e = {0};
    /* 409: another pod has the name by now; the next pass sees it. */
    bool gone = r->status == 404 || r->status == 409;
    int rc = gone ? 0 : kube_check(r, &e);
    if (!rc && !gone && m)
        expect_version(m, WAIT_PODS, r);
    if (!rc)
        log_info("pod deleted", LOG_S("job", q->run->key), LOG_S("pod", q->action->name));
    finish_request(q, rc, &e);
}

static void status_written(void *user, const struct http_response *r)
{
    struct apply_request *q = user;
    struct memory *m = memory_of(q->run);
    struct err e = {0};
    int rc = r->status == 404 ? 0 : kube_check(r, &e);
    if (r->status == 200 && m) {
        m->status_written_ms = clock_ms();
        expect_version(m, WAIT_JOBS, r);
    }
    finish_request(q, rc, &e);
}

static void trial_written(void *user, const struct http_response *r)
{
    struct apply_request *q = user;
    struct memory *m = memory_of(q->run);
    struct err e = {0};
    bool deletes = q->action->kind == ACTION_DELETE_TRIAL;
    bool gone = deletes && (r->status == 404 || r->status == 409);
    int rc = gone ? 0 : kube_check(r, &e);
    if (!rc && !gone && m)
        expect_version(m, WAIT_JOBS, r);
    if (!rc)
        log_info(deletes ? "trial deleted" : "trial created", LOG_S("job", q->run->key),
            LOG_S("trial", q->action->name));
    finish_request(q, rc, &e);
}

static void job_deleted(void *user, const struct http_response *r)
{
    struct apply_request *q = user;
    struct err e = {0};
    int rc = r->status == 404 || r->status == 409 ? 0 : kube_check(r, &e);
    finish_request(q, rc, &e);
}

static void event_over(void *user)
{
    finish_request(user, 0, NULL);
}

/* False: there is nothing to wait for. */
static bool start_event(struct apply_request *q)
{
    const struct apply_run *r = q->run;
    const struct action *a = q->action;
    const struct events_about o = {NAME_API_VERSION, NAME_KIND, r->namespace_, r->name, r->uid};
    return events_post(r->all->conf.events, &o, a->warning, a->reason, a->message, event_over, q);
}

/* -- starting -- */

static int start_delete_pod(struct apply_request *q, struct err *e)
{
    const struct action *a = q->action;
    const char *grace = a->force ? ",\"gracePeriodSeconds\":0" : "";
    struct arena *arena = q->run->plan->arena;
    const char *path =
        arena_printf(arena, "/api/v1/namespaces/%s/pods/%s", q->run->namespace_, a->name);
    const char *body = arena_printf(arena,
        "{\"apiVersion\":\"v1\",\"kind\":\"DeleteOptions\","
        "\"preconditions\":{\"uid\":\"%s\"}%s}",
        a->uid, grace);
    return body ? send_request(q, "DELETE", path, body, NULL, pod_deleted, e)
                : err_set(e, ERR_MEMORY, "no memory for a request");
}

/* This job, or one of its trials. */
static int start_delete_job(struct apply_request *q,
    void (*done_fn)(void *user, const struct http_response *r), struct err *e)
{
    struct arena *arena = q->run->plan->arena;
    const char *path =
        arena_printf(arena, "/apis/" NAME_API_VERSION "/namespaces/%s/" NAME_PLURAL "/%s",
            q->run->namespace_, q->action->name);
    const char *body = arena_printf(arena,
        "{\"apiVersion\":\"v1\",\"kind\":\"DeleteOptions\","
        "\"propagationPolicy\":\"Background\","
        "\"preconditions\":{\"uid\":\"%s\"}}",
        q->action->uid);
    return body ? send_request(q, "DELETE", path, body, NULL, done_fn, e)
                : err_set(e, ERR_MEMORY, "no memory for a request");
}

static int start_request(struct apply_request *q, struct err *e)
{
    const struct apply_run *r = q->run;
    const struct action *a = q->action;
    struct arena *arena = r->plan->arena;
    const char *ns = r->namespace_;
    switch (a->kind) {
    case ACTION_SECRET:
        return start_secret(q, e);
    case ACTION_SERVICE:
        return send_request(q, "POST", arena_printf(arena, "/api/v1/namespaces/%s/services", ns),
            a->body, NULL, object_written, e);
    case ACTION_GANG:
        q->path = arena_printf(arena, "/apis/" PODSPEC_GANG_API "/namespaces/%s/podgroups", ns);
        return send_request(q, "POST", q->path, a->body, NULL, object_written, e);
    case ACTION_GANG_RESIZE:
        q->path = arena_printf(
            arena, "/apis/" PODSPEC_GANG_API "/namespaces/%s/podgroups/%s", ns, a->name);
        return send_request(q, "PATCH", q->path, a->body, KUBE_MERGE_PATCH, object_written, e);
    case ACTION_CREATE_POD:
        return send_request(q, "POST", arena_printf(arena, "/api/v1/namespaces/%s/pods", ns),
            a->body, NULL, pod_created, e);
    case ACTION_DELETE_POD:
        return start_delete_pod(q, e);
    case ACTION_DESIRED:
    case ACTION_STATUS:
        q->path = arena_printf(arena,
            "/apis/" NAME_API_VERSION "/namespaces/%s/" NAME_PLURAL "/%s/status", ns, r->name);
        return send_request(
            q, "PATCH", q->path, a->body, "application/json-patch+json", status_written, e);
    case ACTION_DELETE_JOB:
        return start_delete_job(q, job_deleted, e);
    case ACTION_DELETE_TRIAL:
        return start_delete_job(q, trial_written, e);
    case ACTION_CREATE_TRIAL:
        q->path = arena_printf(arena, "/apis/" NAME_API_VERSION "/namespaces/%s/" NAME_PLURAL, ns);
        return send_request(q, "POST", q->path, a->body, NULL, trial_written, e);
    case ACTION_EVENT:
    case ACTION_KINDS:
        break;
    }
    return err_set(e, ERR_BUG, "no such action");
}

static bool is_skipped(const struct apply_run *r, const struct action *a)
{
    return r->failure.code != ERR_NONE && kinds[a->kind].stage > r->failed_stage &&
        a->kind != ACTION_STATUS;
}

/* Handed over, not waited for: an agent is no part of a pass. */
static void hand_over_desired(struct apply_run *r, const struct action *a)
{
    struct err e = {0};
    char agent[COORDINATOR_KEY_BYTES];
    coordinator_key(r->key, a->replica, agent);
    if (!coordinator_desire(r->all->conf.coordinators, agent, a->body, a->hash, &e))
        metric_add(&actions_total, 1);
    else
        note_failure(r, &e);
}

static void start_action(struct apply_run *r, const struct action *a)
{
    if (a->kind == ACTION_DESIRED) {
        hand_over_desired(r, a);
        return;
    }
    struct err e = {0};
    struct apply_request *q = arena_alloc(r->plan->arena, sizeof *q);
    if (q)
        *q = (struct apply_request){.run = r, .action = a};
    if (q && a->kind == ACTION_EVENT) {
        r->pending += start_event(q);
        return;
    }
    int rc = q ? start_request(q, &e) : err_set(&e, ERR_MEMORY, "no memory for a request");
    if (!rc) {
        r->pending++;
        return;
    }
    err_wrap(&e, "%s", kinds[a->kind].name);
    note_failure(r, &e);
}

/* -- the run -- */

static void end_run(struct apply_run *r)
{
    struct apply *all = r->all;
    struct plan *p = r->plan;
    struct memory *m = memory_of(r);
    bool failed = r->failure.code != ERR_NONE;
    if (m)
        m->failed_passes = failed ? m->failed_passes + 1 : 0;
    /* A conflict or a slow server passes; what is refused, or stays, is worth telling. */
    if (m && (!failed || r->failure.code == ERR_USER || m->failed_passes >= TROUBLE_PASSES))
        snprintf(m->trouble, sizeof m->trouble, "%s", failed ? r->failure.text : "");
    all->running--;
    all->conf.done_fn(all->conf.user, r->key, -(int)r->failure.code, &r->failure, r->again_ms);
    arena_destroy(p->arena);
    mem_free(p);
    mem_free(r);
}

/* Starts what may be: a stage begins when the one before is over, and a run has no more than its
 * share of requests in flight, for others wait behind them. */
static void advance_run(struct apply_run *r)
{
    const struct plan *p = r->plan;
    while (r->next < p->count && r->pending < RUN_REQUESTS) {
        const struct action *a = &p->actions[r->next];
        if (r->pending && kinds[a->kind].stage != r->stage)
            break;
        r->stage = kinds[a->kind].stage;
        r->next++;
        if (!is_skipped(r, a))
            start_action(r, a);
    }
    if (!r->pending)
        end_run(r);
}

/* Names may be borrowed from the snapshot, which does not outlive the start. */
static int copy_names(struct plan *p, struct err *e)
{
    for (int i = 0; i < p->count; i++) {
        struct action *a = &p->actions[i];
        const char **const strings[] = {&a->name, &a->uid, &a->reason};
        for (int k = 0; k < 3; k++) {
            if (!*strings[k])
                continue;
            *strings[k] = arena_strdup(p->arena, *strings[k]);
            if (!*strings[k])
                return err_set(e, ERR_MEMORY, "no memory for a pass");
        }
    }
    return 0;
}

static int prepare_run(struct apply_run *r, const char *key, const struct job *job, struct err *e)
{
    struct arena *arena = r->plan->arena;
    r->key = arena_strdup(arena, key);
    r->namespace_ = arena_strdup(arena, job->spec.namespace_);
    r->name = arena_strdup(arena, job->spec.name);
    r->uid = arena_strdup(arena, job->spec.uid);
    if (!r->key || !r->namespace_ || !r->name || !r->uid)
        return err_set(e, ERR_MEMORY, "no memory for a pass");
    int rc = copy_names(r->plan, e);
    if (rc)
        return rc;
    return plan_count(r->plan, ACTION_SECRET) ? prepare_secret(r, job, e) : 0;
}

void apply_start(struct apply *a, const char *key, const struct job *job, struct plan *p)
{
    struct apply_run *r = mem_zalloc(sizeof *r);
    if (!r) {
        struct err e;
        err_set(&e, ERR_MEMORY, "no memory for a pass");
        a->conf.done_fn(a->conf.user, key, -(int)e.code, &e, -1);
        arena_destroy(p->arena);
        mem_free(p);
        return;
    }
    *r = (struct apply_run){.all = a,
        .plan = p,
        .generation = job->spec.generation,
        .is_new = job->status.generation < 0,
        .again_ms = p->again_ms};
    if (prepare_run(r, key, job, &r->failure)) {
        r->next = p->count; /* nothing is started */
        r->key = r->key ? r->key : key;
        r->uid = r->uid ? r->uid : "";
    }
    a->running++;
    advance_run(r);
}
