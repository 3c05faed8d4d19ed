/*
 * plan_gang: the PodGroup of a training or running job, where the API server has that kind.
 *
 * minCount is the whole job while none of its pods exists: the first placement, and that after a
 * suspension, is all or nothing. While pods exist it only shrinks, with replicas: a replica that is
 * added, or made anew, joins alone (the running world goes on meanwhile), and a job made smaller is
 * never held up by a count that it cannot reach any more. Serving replicas need no gang. Pure.
 */
#include "controller/plan/plan.h"

#include "controller/plan/podspec.h"

static int make_gang(const struct observed *o, int min_count, struct plan *p, struct err *e)
{
    buf_auto struct buf body;
    buf_init(&body, PODSPEC_LIMIT);
    int rc = podspec_gang(&o->job->spec, min_count, &body, e);
    if (rc)
        return rc;
    struct action *a = plan_add(p, ACTION_GANG, e);
    if (!a)
        return -(int)ERR_BUG;
    a->name = o->job->spec.name;
    a->body = arena_strdup(p->arena, buf_cstr(&body));
    return a->body ? 0 : err_set(e, ERR_MEMORY, "no memory for a PodGroup");
}

static int resize_gang(const struct observed *o, int min_count, struct plan *p, struct err *e)
{
    struct action *a = plan_add(p, ACTION_GANG_RESIZE, e);
    if (!a)
        return -(int)ERR_BUG;
    a->name = o->job->spec.name;
    a->body = arena_printf(
        p->arena, "{\"spec\":{\"schedulingPolicy\":{\"gang\":{\"minCount\":%d}}}}", min_count);
    return a->body ? 0 : err_set(e, ERR_MEMORY, "no memory for a PodGroup");
}

int plan_gang(const struct observed *o, struct plan *p, struct err *e)
{
    const struct jobspec *s = &o->job->spec;
    if (!o->gangs || s->task == TASK_SERVE)
        return 0;
    if (!o->gang)
        return make_gang(o, s->replicas, p, e);
    if (strcmp(o->gang->owner_uid, s->uid) != 0 || o->gang->deleting)
        return 0; /* of an earlier job of this name: it must go first */
    bool shrinks_only = o->pod_count > 0;
    int is = o->gang->min_count, want = s->replicas;
    if (is == want || (shrinks_only && is < want))
        return 0;
    return resize_gang(o, want, p, e);
}
