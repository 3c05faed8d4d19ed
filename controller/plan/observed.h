/*
 * observed: the snapshot of one job that a pass decides on: everything that plan may look at, the
 * time included.
 *
 * Plain data without a handle, borrowed for one pass from whoever filled it.
 */
#ifndef CONTROLLER_PLAN_OBSERVED_H
#define CONTROLLER_PLAN_OBSERVED_H

#include "api/report.h"
#include "controller/plan/decode.h"

#include <stdbool.h>
#include <stdint.h>

struct observed_pod {
    const struct pod *pod;
    bool ours;                   /* its controller is this very LLMJob */
    bool node_lost;              /* its node is not ready, or gone */
    const struct report *report; /* of a replicated job: of its agent, as below; else NULL */
    uint64_t desired_sent;       /* likewise, as below; else 0 */
};

struct observed_trial { /* of a search, that has a job */
    const struct job *job;
    int trial, rung;
};

struct observed {
    int64_t now_ms; /* wall */
    const struct job *job;
    struct observed_pod *pods; /* sorted by replica, then name */
    int pod_count;
    const char *image; /* the controller's own, for jobs that name none */

    const struct observed_trial *trials; /* sorted by rung, then trial; ours only */
    int trial_count;

    bool gangs;                         /* the API server serves PodGroups */
    const struct owned *service, *gang; /* named as the job; NULL: none */
    int64_t secret_generation;          /* of the job file in the Secret; -1: not known to exist */
    int64_t secret_age_ms;              /* since that was seen */

    /* Newest of the coordinator pod that exists now, or NULL; of a replicated job the one of the
       first pod that has one. */
    const struct report *report;
    bool report_is_current; /* fetched after the last desired state was accepted */
    /* How long that coordinator, or of a replicated job an agent whose pod is ready, has not
       answered; 0: it does. */
    int64_t unreachable_ms;
    uint64_t desired_sent; /* hash of the desired state that it is told; 0: none */

    int failures;           /* pods that failed or vanished of late */
    int64_t failure_age_ms; /* since the last of them */
    int64_t status_age_ms;  /* since status was written; INT64_MAX: not by this process */
    const char *trouble;    /* why the last pass could not be carried out, or "" */
};

/* The pod of a replica that is ours, or NULL. */
const struct observed_pod *observed_replica(const struct observed *o, int replica);
/* Whether it is ours, and its agent can be asked. */
bool observed_runs(const struct observed_pod *p);
/* The live pod of replica 0, or NULL. */
const struct observed_pod *observed_coordinator(const struct observed *o);

#endif
