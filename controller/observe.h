/*
 * observe: what the controller knows of the cluster, and from it the snapshot of one job.
 *
 * The caches (jobs, pods by job, nodes, Services, PodGroups) are filled by informers; each change
 * names the jobs concerned, which need a pass. Thread: one.
 */
#ifndef CONTROLLER_OBSERVE_H
#define CONTROLLER_OBSERVE_H

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "controller/plan/observed.h"

#include <stdbool.h>
#include <stdint.h>

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

enum wait { WAIT_JOBS, WAIT_PODS, WAIT_SERVICES, WAIT_GANGS, WAITS };

/* What one process remembers of a job between passes; lost on restart without harm. */
struct memory {
    char *token;               /* of its coordinator, or NULL; never logged */
    int64_t secret_generation; /* -1: unknown */
    int64_t secret_seen_ms, status_written_ms, failure_ms; /* clock_ms; 0: never */
    int failures, failed_passes;
    int agents;           /* of a replicated job: of replicas below it some may be asked */
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

#endif
