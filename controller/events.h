/*
 * events: writes Events, best effort: an Event is never the only sign of anything.
 *
 * The same sentence about the same object is counted up, not written again. An object has a bucket
 * of 25 Events, refilled by one every 5 seconds; what is beyond is counted and dropped, so that one
 * object cannot fill the API server's store. Thread: one.
 */
#ifndef CONTROLLER_EVENTS_H
#define CONTROLLER_EVENTS_H

#include "base/err.h"
#include "controller/kube/kube.h"

#include <stdbool.h>

struct events;

struct events_about { /* borrowed for the call */
    const char *api_version, *kind, *namespace_, *name, *uid;
};

typedef void events_done_fn(void *user);

/* identity: of this process. */
int events_create(struct kube *k, const char *identity, struct events **out, struct err *e);
void events_destroy(struct events *ev); /* after kube_destroy */

/* True: under way, and done_fn (or NULL) is called when it is over, however it ended. */
bool events_post(struct events *ev, const struct events_about *o, bool warning, const char *reason,
    const char *message, events_done_fn *done_fn, void *user);

#endif
