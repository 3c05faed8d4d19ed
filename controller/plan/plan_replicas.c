/*
 * plan_replicas: one live pod for each replica, none beyond. Names are <job>-<replica>, so a second
 * pod for a replica cannot even be asked for. A pod that ended is deleted first and made anew when
 * it is gone; a pod that ends on a node that is gone is removed at once, because nobody else will.
 * A surplus pod goes only when the running world does not need it any more. Suspending is the same
 * with no replicas at all. Pure.
 */
#include "controller/plan/plan.h"

#include "api/names.h"
#include "controller/plan/podspec.h"

#define BACKOFF_FIRST_MS 1000
#define BACKOFF_LAST_MS  60000

/* The first replacement is immediate; each further failure doubles the wait. */
static int64_t replacement_delay_ms(const struct observed *o)
{
    if (o->failures < 2)
        return 0;
    int shift = o->failures - 2 < 10 ? o->failures - 2 : 10;
    int64_t delay_ms = (int64_t)BACKOFF_FIRST_MS << shift;
    if (delay_ms > BACKOFF_LAST_MS)
        delay_ms = BACKOFF_LAST_MS;
    return o->failure_age_ms >= delay_ms ? 0 : delay_ms - o->failure_age_ms;
}

static int create_pod(const struct observed *o, int replica, struct plan *p, struct err *e)
{
    buf_auto struct buf body;
    buf_init(&body, PODSPEC_LIMIT);
    bool gang = o->gangs && o->job->spec.task != TASK_SERVE;
    int rc = podspec_pod(&o->job->spec, replica, o->image, gang, &body, e);
    if (rc)
        return rc;
    struct action *a = plan_add(p, ACTION_CREATE_POD, e);
    if (!a)
        return -(int)ERR_BUG;
    a->name = arena_printf(p->arena, "%s-%d", o->job->spec.name, replica);
    a->body = arena_strdup(p->arena, buf_cstr(&body));
    return a->name && a->body ? 0 : err_set(e, ERR_MEMORY, "no memory for a pod");
}

int plan_replace_ended(
    const struct outlook *look, const struct observed_pod *pod, struct plan *p, struct err *e)
{
    const struct pod *d = pod->pod;
    (void)look;
    if (d->deleting && !pod->node_lost)
        return 0; /* its kubelet is at it */
    if (!d->deleting && !plan_pod_ended(d))
        return 0;
    int rc = plan_delete_pod(p, pod, e);
    if (rc)
        return rc;
    if (d->deleting)
        return plan_event(p, true, NAME_REASON_POD_DELETED, e,
            "removed pod %s: it was ending on node %s, which is lost", d->name, d->node);
    return plan_event(p, true, NAME_REASON_POD_DELETED, e, "deleted pod %s to make it anew: %s %s",
        d->name, *d->blocked_reason ? d->blocked_reason : "it ended before the job",
        d->blocked_message);
}

/* Whether the world can do without the replicas beyond the wanted ones. */
static bool surplus_is_free(const struct observed *o)
{
    const struct report *r = o->report;
    if (!observed_coordinator(o) || o->unreachable_ms > PLAN_GIVE_UP_MS)
        return true;
    return r && r->generation >= o->job->spec.generation &&
        r->world_replicas <= o->job->spec.replicas;
}

static int delete_surplus(const struct observed *o, struct plan *p, struct err *e)
{
    bool free = surplus_is_free(o);
    int before = plan_count(p, ACTION_DELETE_POD);
    for (int i = 0; i < o->pod_count; i++) {
        const struct observed_pod *pod = &o->pods[i];
        bool needed =
            pod->ours && pod->pod->replica >= 0 && pod->pod->replica < o->job->spec.replicas;
        bool idle = pod->pod->phase == POD_PENDING || plan_pod_ended(pod->pod);
        bool ending = pod->pod->deleting && !pod->node_lost;
        if (!pod->ours || needed || ending || (!free && !idle))
            continue;
        int rc = plan_delete_pod(p, pod, e);
        if (rc)
            return rc;
    }
    int deleted = plan_count(p, ACTION_DELETE_POD) - before;
    return deleted ? plan_event(p, false, NAME_REASON_POD_DELETED, e,
                         "deleted %d pods beyond %d replicas", deleted, o->job->spec.replicas)
                   : 0;
}

/* A pod of an earlier job of this name must go first: its owner is gone. */
static bool may_create(const struct observed *o, int replica, const struct plan *p)
{
    char name[LIMIT_SUBDOMAIN_BYTES];
    if (plan_count(p, ACTION_CREATE_POD) >= PLAN_PODS)
        return false;
    snprintf(name, sizeof name, "%s-%d", o->job->spec.name, replica);
    for (int i = 0; i < o->pod_count; i++)
        if (!strcmp(o->pods[i].pod->name, name))
            return false;
    return true;
}

static int tell_created(
    const struct observed *o, int first, int last, struct plan *p, struct err *e)
{
    const char *name = o->job->spec.name;
    int created = plan_count(p, ACTION_CREATE_POD);
    if (!created)
        return 0;
    if (created == 1)
        return plan_event(p, false, NAME_REASON_POD_CREATED, e, "created pod %s-%d", name, first);
    return plan_event(p, false, NAME_REASON_POD_CREATED, e, "created %d pods, %s-%d to %s-%d",
        created, name, first, name, last);
}

int plan_fill_places(const struct observed *o, const struct outlook *look, int places,
    plan_replace_fn *replace_fn, struct plan *p, struct err *e)
{
    int64_t delay_ms = replacement_delay_ms(o);
    int rc, first = -1, last = -1;
    for (int replica = 0; replica < places; replica++) {
        const struct observed_pod *pod = observed_replica(o, replica);
        if (pod) {
            rc = replace_fn(look, pod, p, e);
            if (rc)
                return rc;
            continue;
        }
        if (delay_ms > 0) {
            plan_again(p, delay_ms);
            continue;
        }
        if (!may_create(o, replica, p))
            continue;
        rc = create_pod(o, replica, p, e);
        if (rc)
            return rc;
        first = first < 0 ? replica : first;
        last = replica;
    }
    return tell_created(o, first, last, p, e);
}

int plan_replicas(
    const struct observed *o, const struct outlook *look, struct plan *p, struct err *e)
{
    int rc = plan_fill_places(o, look, o->job->spec.replicas, plan_replace_ended, p, e);
    return rc ? rc : delete_surplus(o, p, e);
}

int plan_suspend(
    const struct observed *o, const struct outlook *look, struct plan *p, struct err *e)
{
    for (int i = 0; i < o->pod_count; i++) {
        const struct observed_pod *pod = &o->pods[i];
        bool ending = pod->pod->deleting && !pod->node_lost;
        if (!pod->ours || ending)
            continue;
        if (!look->suspended && !plan_pod_ended(pod->pod) && !pod->pod->deleting)
            continue;
        int rc = plan_delete_pod(p, pod, e);
        if (rc)
            return rc;
    }
    int deleted = plan_count(p, ACTION_DELETE_POD);
    return deleted ? plan_event(p, false, NAME_REASON_POD_DELETED, e,
                         "deleted %d pods of a suspended job", deleted)
                   : 0;
}
