/*
 * observed: finding a pod in a snapshot. The first of those that claim a replica counts: the list
 * is sorted, so it is the same one for every policy. No I/O, no decision.
 */
#include "controller/plan/observed.h"

#include <stddef.h>

const struct observed_pod *observed_replica(const struct observed *o, int replica)
{
    for (int i = 0; i < o->pod_count; i++)
        if (o->pods[i].ours && o->pods[i].pod->replica == replica)
            return &o->pods[i];
    return NULL;
}

bool observed_runs(const struct observed_pod *p)
{
    return p->ours && p->pod->phase == POD_RUNNING && !p->node_lost && *p->pod->ip;
}

const struct observed_pod *observed_coordinator(const struct observed *o)
{
    const struct observed_pod *p = observed_replica(o, 0);
    return p && observed_runs(p) ? p : NULL;
}
