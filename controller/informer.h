/*
 * informer: a local copy of one kind of object: list in pages, then watch from there, for ever.
 *
 * The owner decodes each object into a small struct of its own and is told of every change; the
 * informer keeps only names and versions. It lists with limit=500, cuts pages into single objects
 * as they arrive, watches with bookmarks, resumes a broken watch from the last version seen, lists
 * again after 410, and backs off with jitter. After a relist, objects that were not in it are
 * reported as removed. Thread: one.
 */
#ifndef CONTROLLER_INFORMER_H
#define CONTROLLER_INFORMER_H

#include "base/err.h"
#include "base/json.h"
#include "controller/kube.h"

#include <stdbool.h>
#include <stdint.h>

struct informer;

struct informer_conf {
	const char *name;     /* in logs: "pods" */
	const char *path;     /* "/api/v1/pods" */
	const char *selector; /* labelSelector, not encoded further, or NULL */
	/* key: "namespace/name", or "name". object NULL: removed. Memory failures go back as -code
	   and cause a relist; anything the owner cannot decode is its own affair. */
	int (*changed_fn)(void *user, const char *key, const struct json *object, struct err *e);
	void *user;
};

int informer_create(struct kube *k, const struct informer_conf *conf, struct informer **out,
		    struct err *e);
void informer_destroy(struct informer *i); /* after kube_destroy, which ends its requests */

/* Starts what is due. Returns clock_ms of the next thing it will start, or -1 while a request runs.
 */
int64_t informer_turn(struct informer *i);
bool informer_synced(const struct informer *i);      /* the first list is complete */
uint64_t informer_version(const struct informer *i); /* resourceVersion up to which all is seen */
size_t informer_count(const struct informer *i);

#endif
