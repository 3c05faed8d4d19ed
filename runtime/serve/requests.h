/*
 * requests: what the agent asks of a serving rank, on its way from the door into the inbox. Nothing
 * is computed or decoded here: it runs on the thread that reads frames.
 */
#ifndef RUNTIME_SERVE_REQUESTS_H
#define RUNTIME_SERVE_REQUESTS_H

#include "runtime/door/door.h"
#include "runtime/serve/inbox.h"

struct requests {
    struct door *door;
    struct inbox *inbox; /* NULL: a rank that does not serve, which refuses them */
};

/* A door_frame_fn; user is a struct requests. Pushes and cancels; wakes the inbox's taker when the
 * rank is to stop. Who asked is told at once when a request cannot be taken. */
bool requests_take(void *user, const struct wire_frame *f);

#endif
