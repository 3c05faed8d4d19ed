/*
 * podspec: the objects of a job as JSON: pod, Service, PodGroup, Secret, a trial's job. Pure: the
 * same spec gives the same bytes.
 *
 * A pod passes the restricted Pod Security profile; users choose only among the fields of LLMJob.
 * Every object is owned by the LLMJob, so that deleting it removes them.
 */
#ifndef CONTROLLER_PLAN_PODSPEC_H
#define CONTROLLER_PLAN_PODSPEC_H

#include "api/jobspec.h"
#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

#define PODSPEC_GANG_API       "scheduling.k8s.io/v1beta1" /* of PodGroups */
#define PODSPEC_REVISION_BYTES 17                          /* of its text: 16 hexadecimal digits */
#define PODSPEC_LIMIT          ((size_t)1 << 20)           /* bytes of any object */

/* Of a replicated job: pods of another one are to be replaced. Never 0. */
int podspec_revision(const struct jobspec *s, uint64_t *out, struct err *e);
/* image: when the spec names none; gang: the pod belongs to the job's PodGroup. */
int podspec_pod(const struct jobspec *s, int replica, const char *image, bool gang, struct buf *out,
    struct err *e);
int podspec_service(const struct jobspec *s, struct buf *out, struct err *e);
int podspec_gang(const struct jobspec *s, int min_count, struct buf *out, struct err *e);
/* The LLMJob of a search's trial: trial as search_job made it, owned by s. */
int podspec_trial(const struct jobspec *s, const struct jobspec *trial, int index, struct buf *out,
    struct err *e);
/* token NULL: a merge-patch that renews the job file only. */
int podspec_secret(const struct jobspec *s, const char *token, struct buf *out, struct err *e);

#endif
