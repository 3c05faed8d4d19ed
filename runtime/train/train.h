/*
 * train: a training from first to last step, as one rank sees it. Begin reading at train_run.
 *
 * Step s (from 1) consumes positions [(s-1) G, s G) of the corpus order, G = batchSequences; a rank
 * computes its share of them in micro-batches. Losses and gradients are normalised by the tokens of
 * the global batch, so the mathematics depends neither on the world nor on the micro-batch. After
 * the reduction every rank makes the same update: all hold equal parameters and optimizer state,
 * and decide alike (stop, checkpoint) from reduced numbers only.
 */
#ifndef RUNTIME_TRAIN_TRAIN_H
#define RUNTIME_TRAIN_TRAIN_H

#include "base/err.h"
#include "runtime/door/orders.h"

struct coll;
struct dev;

struct train_conf { /* all borrowed */
    struct door *door;
    const struct orders *orders;
    struct dev *dev;
    int64_t budget_bytes; /* memory this rank may use */
    struct coll *coll;
};

/* 0: complete; -ERR_DRAINED: stopped as asked, checkpoint committed. WIRE_DONE has been sent in
 * both cases. */
int train_run(const struct train_conf *c, struct err *e);

#endif
