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
#include "runtime/rank.h"

/* 0: complete; -ERR_DRAINED: stopped as asked, checkpoint committed. WIRE_DONE has been sent in
 * both cases. */
int train_run(struct rank *r, struct err *e);

#endif
