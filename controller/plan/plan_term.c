/*
 * plan_term: the term in which replica 0's agent coordinates. A number that only grows in a job, a
 * new one for every new agent: another pod, or the same pod's container started again. It stands in
 * status before it is told to anyone, so a controller that ends in between has only counted one up;
 * and it is above whatever the agent reports, so a status that somebody has emptied gives nobody an
 * old term again. Pure.
 */
#include "controller/plan/plan.h"

#define TERM_MAX 9007199254740991 /* the greatest integer that JSON carries exactly */

/* The pod that coordinates, or will when it runs. */
static const struct pod *term_holder(const struct observed *o)
{
    const struct observed_pod *p = observed_replica(o, 0);
    return p && !plan_pod_ended(p->pod) ? p->pod : NULL;
}

static int64_t recorded_term(const struct observed *o)
{
    int64_t term = o->job->status.coordinator.term;
    return term > 0 ? term : 0;
}

int64_t plan_term(const struct observed *o)
{
    const struct status *s = &o->job->status;
    const struct pod *p = term_holder(o);
    bool theirs = p && s->coordinator.pod_uid && !strcmp(s->coordinator.pod_uid, p->uid) &&
        s->coordinator.restarts == p->restarts;
    return theirs && !(o->report && o->report->term > recorded_term(o)) ? recorded_term(o) : 0;
}

void plan_term_next(const struct observed *o, struct status *next)
{
    const struct pod *p = term_holder(o);
    if (!p || plan_term(o) || jobspec_replicated(&o->job->spec))
        return;
    int64_t term = recorded_term(o);
    if (o->report && o->report->term > term)
        term = o->report->term;
    next->coordinator.term = term < TERM_MAX ? term + 1 : TERM_MAX;
    next->coordinator.pod_uid = p->uid;
    next->coordinator.restarts = p->restarts;
}
