/*
 * plan_serving: the pods of a model that each of them serves whole. Names are <job>-<replica>, and
 * a pod carries the revision of the spec that it was made of. While one of 0..replicas-1 is of an
 * earlier revision there is a pod more, <job>-<replicas>: so one of the present revision is ready
 * before one of the old is asked to go, and the number of those that answer never falls below
 * replicas by what is decided here. What answers nobody is replaced at once. Each pod coordinates
 * itself, and needs no word of ours to serve. Pure.
 */
#include "controller/plan/plan.h"

#include "api/names.h"
#include "controller/plan/podspec.h"

bool plan_pod_answers(const struct observed_pod *p)
{
    const struct pod *d = p->pod;
    return p->ours && d->ready && !d->deleting && !p->node_lost && !plan_pod_ended(d);
}

static bool pod_is_live(const struct observed_pod *p)
{
    return p->ours && !p->pod->deleting && !p->node_lost && !plan_pod_ended(p->pod);
}

/* Its agent has tried as often as it may, or the same again would end the same. */
static bool pod_gave_up(const struct observed_pod *p)
{
    return pod_is_live(p) && p->report && p->report->state == JOB_FAILED;
}

static bool gave_up_for_good(const struct observed_pod *p)
{
    return p->report->failure == ERR_USER || p->report->failure == ERR_DATA;
}

static bool has_place(const struct observed_pod *p, int places)
{
    return p->pod->replica >= 0 && p->pod->replica < places;
}

int plan_serving_look(const struct observed *o, struct serving *out, struct err *e)
{
    struct serving s = {0};
    int rc = podspec_revision(&o->job->spec, &s.revision, e);
    if (rc)
        return rc;
    for (int i = 0; i < o->pod_count; i++) {
        const struct observed_pod *p = &o->pods[i];
        bool present = p->pod->revision == s.revision;
        bool placed = has_place(p, o->job->spec.replicas);
        if (!pod_is_live(p))
            continue;
        s.live++;
        s.ready += plan_pod_answers(p);
        s.updated += plan_pod_answers(p) && present && placed;
        s.stale |= !present && placed;
        if (!present || !pod_gave_up(p))
            continue;
        s.failed = s.failed ? s.failed : p;
        s.failed_count++;
    }
    *out = s;
    return 0;
}

/* A plan_replace_fn: what answers nobody goes, too, if it would not were it waited for. */
static int replace_useless(
    const struct outlook *look, const struct observed_pod *pod, struct plan *p, struct err *e)
{
    const struct serving *s = look->serving;
    const struct pod *d = pod->pod;
    bool of_old = d->revision != s->revision;
    bool spent = pod_gave_up(pod) && !gave_up_for_good(pod) && s->ready > 0;
    if (!pod_is_live(pod) || plan_pod_answers(pod) || (!of_old && !spent))
        return plan_replace_ended(look, pod, p, e);
    int rc = plan_delete_pod(p, pod, e);
    if (rc)
        return rc;
    return of_old
        ? plan_event(p, false, NAME_REASON_ROLLING_OUT, e,
              "deleted pod %s: it is of an earlier version, and does not answer", d->name)
        : plan_event(p, true, NAME_REASON_POD_DELETED, e, "deleted pod %s to make it anew: %s",
              d->name, pod->report->failure_message);
}

/* Those without a place: what answers only while enough others do, *ready being all of them. */
static int retire_surplus(
    const struct observed *o, int places, int *ready, struct plan *p, struct err *e)
{
    int want = o->job->spec.replicas, before = plan_count(p, ACTION_DELETE_POD);
    for (int i = o->pod_count - 1; i >= 0; i--) {
        const struct observed_pod *pod = &o->pods[i];
        bool ending = pod->pod->deleting && !pod->node_lost;
        if (!pod->ours || ending || has_place(pod, places) ||
            (plan_pod_answers(pod) && *ready <= want))
            continue;
        *ready -= plan_pod_answers(pod);
        int rc = plan_delete_pod(p, pod, e);
        if (rc)
            return rc;
    }
    int deleted = plan_count(p, ACTION_DELETE_POD) - before;
    return deleted ? plan_event(p, false, NAME_REASON_POD_DELETED, e,
                         "deleted %d pods beyond %d replicas", deleted, want)
                   : 0;
}

/* Of those of an earlier revision as many as others answer in their stead. */
static int retire_old(const struct observed *o, const struct serving *s, int places, int ready,
    struct plan *p, struct err *e)
{
    for (int i = 0; i < o->pod_count && ready > o->job->spec.replicas; i++) {
        const struct observed_pod *pod = &o->pods[i];
        if (!plan_pod_answers(pod) || !has_place(pod, places) || pod->pod->revision == s->revision)
            continue;
        ready--;
        int rc = plan_delete_pod(p, pod, e);
        if (!rc)
            rc = plan_event(p, false, NAME_REASON_ROLLING_OUT, e,
                "pod %s is of an earlier version and was asked to go: enough others are ready",
                pod->pod->name);
        if (rc)
            return rc;
    }
    return 0;
}

int plan_serving(
    const struct observed *o, const struct outlook *look, struct plan *p, struct err *e)
{
    const struct serving *s = look->serving;
    int places = o->job->spec.replicas + s->stale, ready = s->ready;
    int rc = plan_fill_places(o, look, places, replace_useless, p, e);
    if (!rc)
        rc = retire_surplus(o, places, &ready, p, e);
    return rc ? rc : retire_old(o, s, places, ready, p, e);
}
