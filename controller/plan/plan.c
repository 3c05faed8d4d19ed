/*
 * plan: reads top to bottom as the life of a job: not ours, malformed, finished, ending, suspended,
 * active. Each branch is a policy in a plan_<policy>.c of its own, which adds actions and returns;
 * the desired state for the coordinator, the status and the events follow for all alike. A plan
 * that needs more room than it has goes on in the next pass. Pure.
 */
#include "controller/plan/plan.h"

#include "api/names.h"
#include "controller/plan/podspec.h"

#define SECRET_FRESH_MS 60000 /* how long a Secret once seen is taken to be there still */

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

/* Clients find a serving job by it, and programs of the user the pods: <job>-0.<job>. The ranks
 * of other tasks use addresses alone. */
static int plan_service(const struct observed *o, struct plan *p, struct err *e)
{
    enum task task = o->job->spec.task;
    if (o->service || (task != TASK_SERVE && task != TASK_RUN))
        return 0;
    buf_auto struct buf body;
    buf_init(&body, PODSPEC_LIMIT);
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

static int plan_pods(
    const struct observed *o, const struct outlook *look, struct plan *p, struct err *e)
{
    if (look->finished)
        return plan_release(o, p, e);
    if (look->outcome != OUTCOME_NONE)
        return 0; /* recorded first: a released pod must never look like a lost one */
    if (look->suspend)
        return plan_suspend(o, look, p, e);
    int rc = look->serving ? plan_serving(o, look, p, e) : plan_replicas(o, look, p, e);
    if (rc)
        return rc;
    rc = plan_gang(o, p, e);
    return rc ? rc : plan_service(o, p, e);
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
    p->again_ms = -1;
    if (o->job->deleting || strcmp(o->job->spec.managed_by, NAME_CONTROLLER) != 0)
        return 0;
    look_at_silence(o, p);
    struct outlook look;
    int rc = plan_outlook(o, p, &look, e);
    if (rc)
        return rc;
    if (o->job->valid && search_wanted(&o->job->spec)) {
        rc = plan_search(o, &look, p, e);
        if (rc)
            return rc;
    } else if (o->job->valid) {
        rc = plan_pods(o, &look, p, e);
        if (rc)
            return rc;
        rc = plan_secret(o, p, e);
        if (rc)
            return rc;
        rc = plan_desired(o, &look, p, e);
        if (rc)
            return rc;
    }
    return plan_status(o, &look, p, e);
}
