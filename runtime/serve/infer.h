/*
 * infer: a serving rank: takes requests from the queue, turns them into tokens one by one, streams
 * the text. One sequence at a time. The keys and values of the last sequence stay in the cache: a
 * request that begins with the same tokens (the next turn of a dialogue) computes only what is new.
 */
#ifndef RUNTIME_SERVE_INFER_H
#define RUNTIME_SERVE_INFER_H

#include "base/err.h"
#include "api/jobspec.h"
#include "runtime/door/door.h"
#include "runtime/serve/sched.h"

struct dev;

struct infer_conf { /* all borrowed */
    struct door *door;
    const struct jobspec *spec;
    struct dev *dev;
    int64_t budget_bytes; /* memory this rank may use */
    struct sched *queue;
};

/* Serves until asked to stop and the queue is empty: -ERR_DRAINED then. */
int infer_run(const struct infer_conf *c, struct err *e);

#endif
