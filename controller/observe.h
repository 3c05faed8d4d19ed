/*
 * observe: what the controller knows of the cluster, and the snapshot of one job that a pass
 * decides on.
 *
 * The caches (jobs, pods by job, nodes, Services, PodGroups) are filled by informers; a change adds
 * the keys of the jobs concerned to the queue. struct observed is sorted, borrowed from the caches
 * for one pass, and holds no handle: everything that plan may look at, the time included.
 */
#ifndef CONTROLLER_OBSERVE_H
#define CONTROLLER_OBSERVE_H

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "api/report.h"
#include "controller/decode.h"

#include <stdbool.h>
#include <stdint.h>

struct observed_pod {
    const struct pod *pod;
    bool ours;      /* its controller is this very LLMJob */
    bool node_lost; /* its node is not ready, or gone */
};

struct observed {
    int64_t now_ms; /* wall */
    const struct job *job;
    const struct observed_pod *pods; /* sorted by replica, then name */
    int pod_count;
    const char *image; /* the controller's own, for jobs that name none */

    bool gangs;                         /* the API server serves PodGroups */
    const struct owned *service, *gang; /* named as the job; NULL: none */
    int64_t secret_generation;          /* of the job file in the Secret; -1: not known to exist */
    int64_t secret_age_ms;              /* since that was seen */

    const struct report *report; /* newest of the coordinator pod that exists now, or NULL */
    bool report_is_current;      /* fetched after the last desired state was accepted */
    int64_t unreachable_ms;      /* how long that coordinator has not answered; 0: it does */
    uint64_t desired_sent;       /* hash of the desired state that it is told; 0: none */

    int failures;           /* pods that failed or vanished of late */
    int64_t failure_age_ms; /* since the last of them */
    int64_t status_age_ms;  /* since status was written; INT64_MAX: not by this process */
    const char *trouble;    /* why the last pass could not be carried out, or "" */
};

/* -- caches -- */

struct cluster;
typedef void cluster_dirty_fn(void *user, const char *key); /* "namespace/name" needs a pass */

int cluster_create(cluster_dirty_fn *fn, void *user, struct cluster **out, struct err *e);
void cluster_destroy(struct cluster *c);
void cluster_without_nodes(struct cluster *c); /* none will be told of: none is taken for lost */

/* As informer_conf.changed_fn; user is the cluster. */
int cluster_job_changed(void *user, const char *key, const struct json *object, struct err *e);
int cluster_pod_changed(void *user, const char *key, const struct json *object, struct err *e);
int cluster_node_changed(void *user, const char *key, const struct json *object, struct err *e);
int cluster_service_changed(void *user, const char *key, const struct json *object, struct err *e);
int cluster_gang_changed(void *user, const char *key, const struct json *object, struct err *e);

const struct job *cluster_job(const struct cluster *c, const char *key); /* or NULL */
size_t cluster_jobs(const struct cluster *c);
bool cluster_next_job(
    const struct cluster *c, size_t *at, const char **key, const struct job **job);

enum wait { WAIT_JOBS, WAIT_PODS, WAIT_SERVICES, WAIT_GANGS, WAITS };

/* What one process remembers of a job between passes; lost on restart without harm. */
struct memory {
    char *token;               /* of its coordinator, or NULL; never logged */
    int64_t secret_generation; /* -1: unknown */
    int64_t secret_seen_ms, status_written_ms, failure_ms; /* clock_ms; 0: never */
    int failures, failed_passes;
    uint64_t wait[WAITS]; /* versions that the caches must have reached before the next pass */
    int64_t wait_until_ms;
    char trouble[256];
};
struct memory *cluster_memory(
    struct cluster *c, const char *key); /* NULL when the job is not known */

/*
 * The caches' part of a snapshot, for `key`; arena: of the pass. Returns 1, or 0 when there is no
 * such job. The caller adds what is not in the caches: image, gangs, report.
 */
int cluster_observe(
    struct cluster *c, const char *key, struct arena *a, struct observed *out, struct err *e);
/* The live pod of replica 0, or NULL. */
const struct observed_pod *observed_coordinator(const struct observed *o);
const struct observed_pod *observed_replica(
    const struct observed *o, int replica); /* ours, or NULL */

#endif
