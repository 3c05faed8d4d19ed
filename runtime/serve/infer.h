/*
 * infer: a serving rank: takes requests from the inbox, many at once, turns them into tokens step
 * by step, and streams the text of each. Keys and values of what was computed stay in the cache
 * until their pages are wanted: a request that begins with the same tokens (the next turn of a
 * dialogue, a system prompt that many share) computes only what is new.
 */
#ifndef RUNTIME_SERVE_INFER_H
#define RUNTIME_SERVE_INFER_H

#include "base/err.h"
#include "api/jobspec.h"
#include "runtime/door/door.h"
#include "runtime/serve/inbox.h"

struct dev;

struct infer_conf { /* all borrowed */
    struct door *door;
    const struct jobspec *spec;
    struct dev *dev;
    int64_t budget_bytes; /* memory this rank may use */
    struct inbox *inbox;
};

/* Serves until asked to stop and every request is answered: -ERR_DRAINED then. */
int infer_run(const struct infer_conf *c, struct err *e);

#endif
