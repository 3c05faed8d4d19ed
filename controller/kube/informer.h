/*
 * informer: a local copy of one kind of object: list in pages, then watch from there, for ever.
 *
 * The owner decodes each object into a small struct of its own and is told of every change; the
 * informer keeps only names and versions. It lists with limit=500, cuts pages into single objects
 * as they arrive, watches with bookmarks, resumes a broken watch from the last version seen, lists
 * again after 410, and backs off with jitter. After a relist, objects that were not in it are
 * reported as removed.
 *
 * An object that cannot be taken (it does not parse, has no name, is too large, or the owner says
 * ERR_DATA) is skipped: counted, logged once a version, and kept for informer_untold. Its last good
 * copy stays with the owner until the object is deleted. Thread: one.
 */
#ifndef CONTROLLER_KUBE_INFORMER_H
#define CONTROLLER_KUBE_INFORMER_H

#include "base/err.h"
#include "base/json.h"
#include "base/metric.h"
#include "controller/kube/kube.h"
#include "controller/kube/skim.h"

#include <stdbool.h>
#include <stdint.h>

struct informer;

struct informer_conf {
    const char *name;     /* in logs: "pods" */
    const char *path;     /* "/api/v1/pods" */
    const char *selector; /* labelSelector, not encoded further, or NULL */
    /* key: "namespace/name", or "name". object NULL: removed. It lacks what skim_object
     * leaves out. -ERR_DATA: the object is skipped; any other failure causes a relist. */
    int (*changed_fn)(void *user, const char *key, const struct json *object, struct err *e);
    void *user;
    struct metric *skipped; /* counts what could not be taken, or NULL */
};

struct informer_skipped {
    struct skim object;
    char why[256];
};

int informer_create(
    struct kube *k, const struct informer_conf *conf, struct informer **out, struct err *e);
void informer_destroy(struct informer *i); /* after kube_destroy, which ends its requests */

/* Starts what is due. Returns clock_ms of the next start, or -1 while a request runs. */
int64_t informer_turn(struct informer *i);
bool informer_synced(const struct informer *i);      /* the first list is complete */
uint64_t informer_version(const struct informer *i); /* resourceVersion up to which all is seen */
size_t informer_count(const struct informer *i);
/* Of the objects that are skipped at present one that was not returned before, or NULL; valid until
 * the next http_turn. */
const struct informer_skipped *informer_untold(struct informer *i);

#endif
