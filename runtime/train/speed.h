/*
 * speed: how fast this world is, measured: matrix products, memory, sums inside a pod and between
 * pods. A few tenths of a second, before anything is allocated. Not pure.
 */
#ifndef RUNTIME_TRAIN_SPEED_H
#define RUNTIME_TRAIN_SPEED_H

#include "kernels/dev.h"
#include "runtime/coll/coll.h"
#include "runtime/train/cost.h"

struct speed_world {
    struct coll *coll; /* of the world */
    struct dev *dev;
    int rank, world;
    int pod_ranks; /* neighbours in one pod, of every pod as many; else 1 */
};

struct speed_rank {
    double flops_per_s, memory_bytes_per_s; /* as measured */
    double link_bytes_per_s; /* of sums with one other, the better of two; 0: too few to tell */
};

/* All ranks call; t: the compute type. *out is the same on all: the slowest rank's of each figure,
 * as a power of two, so that what is chosen by it does not hang on noise. each: (world), of every
 * rank, the same on all; or NULL. */
int speed_measure(const struct speed_world *w, enum dtype t, struct speed_rank *each,
    struct cost_speed *out, struct err *e);

#endif
