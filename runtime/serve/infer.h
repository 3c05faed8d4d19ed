/*
 * infer: a serving rank: takes requests from the inbox, many at once, turns them into tokens step
 * by step, and streams the text of each. Keys and values of what was computed stay in the cache
 * until their pages are wanted: a request that begins with the same tokens (the next turn of a
 * dialogue, a system prompt that many share) computes only what is new. Ranks that share the model
 * run the same steps; rank 0 alone has the requests (team.h).
 */
#ifndef RUNTIME_SERVE_INFER_H
#define RUNTIME_SERVE_INFER_H

#include "base/err.h"
#include "runtime/door/orders.h"
#include "runtime/serve/inbox.h"

struct dev;
struct coll;

struct infer_conf { /* all borrowed */
    struct door *door;
    const struct orders *orders;
    struct coll *coll; /* of the ranks that serve the model together; NULL: this one alone */
    struct dev *dev;
    int64_t budget_bytes; /* memory this rank may use */
    struct inbox *inbox;  /* rank 0's has the requests */
};

/* Serves until rank 0 is asked to stop and every request is answered: -ERR_DRAINED then. */
int infer_run(const struct infer_conf *c, struct err *e);

#endif
