/*
 * plan_release: the end. The outcome is recorded; the coordinator is told to release
 * (plan_desired), agents exit 0 and their pods stay, with their logs, until the time to live or the
 * deletion of the job. What does not end by itself is deleted, so that a finished job holds no
 * device. Pods are never made anew. Pure.
 */
#include "controller/plan/plan.h"

#include "api/names.h"

#define RELEASE_MS 60000 /* for agents to exit after the outcome was recorded */
#define ORPHAN_MS  10000 /* the same, when the coordinator that tells them is gone already */

/* One that waits in vain, or that nobody has placed. What has just been placed may have begun: a
 * kubelet tells of it later than the agent does. */
static bool is_idle(const struct pod *d)
{
    return d->phase == POD_PENDING && (!*d->node || *d->blocked_reason);
}

/* What has not ended by itself in grace_ms, has not begun, or ends on a lost node. */
static int delete_rest(
    const struct observed *o, int64_t age_ms, int64_t grace_ms, struct plan *p, struct err *e)
{
    bool left = false;
    for (int i = 0; i < o->pod_count; i++) {
        const struct observed_pod *pod = &o->pods[i];
        const struct pod *d = pod->pod;
        bool ending = d->deleting && !pod->node_lost;
        if (!pod->ours || ending || (plan_pod_ended(d) && !d->deleting))
            continue;
        if (!d->deleting && !is_idle(d) && age_ms <= grace_ms) {
            left = true;
            continue;
        }
        int rc = plan_delete_pod(p, pod, e);
        if (rc)
            return rc;
    }
    if (left)
        plan_again(p, grace_ms - age_ms + 1);
    int deleted = plan_count(p, ACTION_DELETE_POD);
    return deleted ? plan_event(p, false, NAME_REASON_POD_DELETED, e,
                         "deleted %d pods of a finished job", deleted)
                   : 0;
}

/* The job itself, when its time to live is over. */
static int delete_job(const struct observed *o, int64_t age_ms, struct plan *p, struct err *e)
{
    int64_t ttl_seconds = o->job->spec.ttl_seconds_after_finished;
    if (ttl_seconds < 0)
        return 0;
    if (age_ms < ttl_seconds * 1000) {
        plan_again(p, ttl_seconds * 1000 - age_ms);
        return 0;
    }
    struct action *a = plan_add(p, ACTION_DELETE_JOB, e);
    if (!a)
        return -(int)ERR_BUG;
    a->name = o->job->spec.name;
    a->uid = o->job->spec.uid;
    return 0;
}

int plan_release(const struct observed *o, struct plan *p, struct err *e)
{
    int64_t since_ms = o->now_ms;
    status_finished(&o->job->status, &since_ms);
    int64_t age_ms = o->now_ms - since_ms;
    int rc = delete_rest(o, age_ms, observed_coordinator(o) ? RELEASE_MS : ORPHAN_MS, p, e);
    return rc ? rc : delete_job(o, age_ms, p, e);
}
