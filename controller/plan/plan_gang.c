/*
 * plan_gang: the PodGroup of a training or running job, where the API server has that kind.
 *
 * minCount is the whole job while none of its pods exists: the first placement, and that after a
 * suspension, is all or nothing. While pods exist it only shrinks, with replicas: a replica that is
 * added, or made anew, joins alone (the running world goes on meanwhile), and a job made smaller is
 * never held up by a count that it cannot reach any more. Serving replicas need no gang. Pure;
 * called by plan after plan_replicas.
 */
#include "controller/plan/plan.h"

#include "controller/plan/podspec.h"

int plan_gang(const struct observed *o, struct plan *p, struct err *e)
{
    const struct jobspec *s = &o->job->spec;
    struct buf body buf_auto;
    buf_init(&body, PODSPEC_LIMIT);
    if (!o->gangs || s->task == TASK_SERVE)
        return 0;
    bool exists = o->gang && !strcmp(o->gang->owner_uid, s->uid) && !o->gang->deleting;
    int want = s->replicas;
    if (exists && o->pod_count && o->gang->min_count < want)
        want = o->gang->min_count;
    if (o->gang && (!exists || o->gang->min_count == want))
        return 0;
    int rc = exists ? 0 : podspec_gang(s, want, &body, e);
    if (rc)
        return rc;
    struct action *a = plan_add(p, exists ? ACTION_GANG_RESIZE : ACTION_GANG, e);
    if (!a)
        return -(int)ERR_BUG;
    a->name = s->name;
    a->body = exists ? arena_printf(p->arena,
                           "{\"spec\":{\"schedulingPolicy\":{\"gang\":{\"minCount\":"
                           "%d}}}}",
                           want)
                     : arena_strdup(p->arena, buf_cstr(&body));
    return a->body ? 0 : err_set(e, ERR_MEMORY, "no memory for a PodGroup");
}
