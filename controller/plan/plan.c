/*
 * plan: reads top to bottom as the life of a job: not ours, malformed, finished, ending, suspended,
 * active. Each branch is a policy in a plan_<policy>.c of its own, which adds actions and returns;
 * the desired state for the coordinator, the status and the events follow for all alike. Called by
 * main with a snapshot; apply carries out the result. A plan that needs more room than it has goes
 * on in the next pass.
 */
#include "controller/plan/plan.h"

#include "api/names.h"
#include "controller/plan/podspec.h"

#include <stdarg.h>

#define SECRET_FRESH_MS   60000 /* how long a Secret once seen is taken to be there still */
/* Status is written at once when it says something new; when only numbers have changed, after: */
#define PROGRESS_EVERY_MS 5000
#define PENDING_EVERY_MS  15000
#define STATUS_BYTES      ((size_t)1 << 20)

struct action *plan_add(struct plan *p, enum action_kind kind, struct err *e)
{
    if (p->count == PLAN_ACTIONS) {
        err_set(e, ERR_BUG, "a plan of more than %d actions", PLAN_ACTIONS);
        return NULL;
    }
    /* Kept sorted by kind, which is the order of the stages; equal kinds in order of arrival.
     */
    int at = p->count++;
    for (; at > 0 && p->actions[at - 1].kind > kind; at--)
        p->actions[at] = p->actions[at - 1];
    p->actions[at] = (struct action){.kind = kind};
    return &p->actions[at];
}

int plan_event(
    struct plan *p, bool warning, const char *reason, struct err *e, const char *fmt, ...)
{
    char text[1024]; /* the API's bound on an event's message */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    struct action *a = plan_add(p, ACTION_EVENT, e);
    if (!a)
        return -(int)ERR_BUG;
    a->warning = warning;
    a->reason = reason;
    a->message = arena_strdup(p->arena, text);
    return a->message ? 0 : err_set(e, ERR_MEMORY, "no memory for an event");
}

int plan_delete_pod(struct plan *p, const struct observed_pod *pod, struct err *e)
{
    if (plan_count(p, ACTION_DELETE_POD) >= PLAN_PODS)
        return 0;
    struct action *a = plan_add(p, ACTION_DELETE_POD, e);
    if (!a)
        return -(int)ERR_BUG;
    a->name = pod->pod->name;
    a->uid = pod->pod->uid;
    /* No kubelet is left to finish an orderly end. */
    a->force = pod->node_lost;
    return 0;
}

void plan_again(struct plan *p, int64_t delay_ms)
{
    if (delay_ms < 0)
        delay_ms = 0;
    if (p->again_ms < 0 || delay_ms < p->again_ms)
        p->again_ms = delay_ms;
}

int plan_count(const struct plan *p, enum action_kind kind)
{
    int n = 0;
    for (int i = 0; i < p->count; i++)
        n += p->actions[i].kind == kind;
    return n;
}

bool plan_pod_ended(const struct pod *p)
{
    return p->phase == POD_SUCCEEDED || p->phase == POD_FAILED;
}

/* Pods cannot start without the Secret, and a coordinator cannot be asked without its token. */
static int plan_secret(const struct observed *o, struct plan *p, struct err *e)
{
    bool creating = plan_count(p, ACTION_CREATE_POD) > 0;
    bool known = o->secret_generation == o->job->spec.generation;
    bool stale = !known || (creating && o->secret_age_ms > SECRET_FRESH_MS);
    if (!stale || !(creating || observed_coordinator(o)))
        return 0;
    return plan_add(p, ACTION_SECRET, e) ? 0 : -(int)ERR_BUG;
}

/* Clients find a serving job by it, and programs of the user the pods: <job>-0.<job>. Training uses
 * addresses alone. */
static int plan_service(const struct observed *o, struct plan *p, struct err *e)
{
    struct buf body buf_auto;
    buf_init(&body, PODSPEC_LIMIT);
    if (o->service || o->job->spec.task == TASK_TRAIN)
        return 0;
    int rc = podspec_service(&o->job->spec, &body, e);
    if (rc)
        return rc;
    struct action *a = plan_add(p, ACTION_SERVICE, e);
    if (!a)
        return -(int)ERR_BUG;
    a->name = o->job->spec.name;
    a->body = arena_strdup(p->arena, buf_cstr(&body));
    return a->body ? 0 : err_set(e, ERR_MEMORY, "no memory for a Service");
}

/* Whether all that differs can wait: how far the job is, in numbers and in the words that hold
 * them. What settles the numbers is news. */
static bool can_wait(const struct observed *o, const struct status *next, uint64_t hash)
{
    struct status copy = o->job->status;
    int want = o->job->spec.replicas, live = next->replicas;
    bool settled = live == next->ready_replicas && (live == want || !live);
    copy.progress = next->progress;
    copy.checkpoint = next->checkpoint;
    if (!settled) {
        copy.replicas = next->replicas;
        copy.ready_replicas = next->ready_replicas;
        copy.ready = next->ready;
    }
    for (int i = 0; i < copy.condition_count && i < next->condition_count; i++)
        copy.conditions[i].message = next->conditions[i].message;
    return status_hash(&copy) == hash;
}

static int plan_status(
    const struct observed *o, const struct status *next, struct plan *p, struct err *e)
{
    struct buf body buf_auto;
    buf_init(&body, STATUS_BYTES);
    uint64_t hash = status_hash(next);
    if (hash == status_hash(&o->job->status))
        return 0;
    /* A job that begins: what there is to say is said when its first pods are there. */
    if (o->job->status.generation < 0 && !o->pod_count && !*o->trouble &&
        plan_count(p, ACTION_CREATE_POD))
        return 0;
    int64_t every_ms = status_is_true(next, NAME_COND_READY) ? PROGRESS_EVERY_MS : PENDING_EVERY_MS;
    if (o->status_age_ms < every_ms && can_wait(o, next, hash)) {
        plan_again(p, every_ms - o->status_age_ms);
        return 0;
    }
    int rc = status_encode(next, &body, e);
    if (rc)
        return rc;
    struct action *a = plan_add(p, ACTION_STATUS, e);
    if (!a)
        return -(int)ERR_BUG;
    /* "add" replaces the whole status: what is absent now does not linger. */
    a->body = arena_printf(
        p->arena, "[{\"op\":\"add\",\"path\":\"/status\",\"value\":%s}]", buf_cstr(&body));
    if (!a->body)
        return err_set(e, ERR_MEMORY, "no memory for a status");
    return plan_events(o, next, p, e);
}

static int plan_pods(
    const struct observed *o, const struct outlook *look, struct plan *p, struct err *e)
{
    if (look->finished)
        return plan_release(o, p, e);
    if (look->outcome != OUTCOME_NONE)
        return 0; /* recorded first: a released pod must never look like a lost one */
    if (look->suspend)
        return plan_suspend(o, look, p, e);
    int rc = plan_replicas(o, p, e);
    if (!rc)
        rc = plan_gang(o, p, e);
    if (!rc)
        rc = plan_service(o, p, e);
    return rc;
}

/* Silence makes no news: look again when there is enough of it. */
static void look_at_silence(const struct observed *o, struct plan *p)
{
    static const int64_t enough_ms[] = {PLAN_UNREACHABLE_MS, PLAN_GIVE_UP_MS};
    for (int i = 0; i < 2; i++)
        if (o->unreachable_ms > 0 && o->unreachable_ms <= enough_ms[i])
            plan_again(p, enough_ms[i] + 1 - o->unreachable_ms);
}

int plan_llmjob(const struct observed *o, struct plan *p, struct err *e)
{
    struct outlook look;
    struct status next;
    p->again_ms = -1;
    if (o->job->deleting || strcmp(o->job->spec.managed_by, NAME_CONTROLLER) != 0)
        return 0;
    look_at_silence(o, p);
    int rc = plan_outlook(o, p, &look, e);
    if (!rc && o->job->valid) {
        if ((rc = plan_pods(o, &look, p, e)) || (rc = plan_secret(o, p, e)) ||
            (rc = plan_desired(o, &look, p, e)))
            return rc;
    }
    if (!rc)
        rc = status_next(o, &look, p->arena, &next, e);
    if (!rc)
        rc = plan_status(o, &next, p, e);
    return rc;
}
