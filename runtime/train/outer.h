/*
 * outer: local steps (Douillard et al., DiLoCo, arXiv:2311.08105). Each rank takes steps of its own
 * from weights that all share, by the gradient of its share of the batch, with optimizer state of
 * its own; then all take an outer step from the shared weights: what the ranks changed, on average,
 * is the gradient of an SGD with Nesterov's momentum (as torch.optim.SGD), and all go on from what
 * that makes. With local_steps 1 there are no outer steps.
 */
#ifndef RUNTIME_TRAIN_OUTER_H
#define RUNTIME_TRAIN_OUTER_H

#include "base/err.h"
#include "runtime/coll/coll.h"
#include "runtime/model/pass.h"
#include "runtime/train/exchange.h"

struct outer_conf {
    double learning_rate, momentum;
    int ranks;
    struct coll *coll;         /* of them */
    struct exchange *exchange; /* what the changes are summed up by; NULL: coll, in F32 */
};

struct outer;

/* What it takes of memory, beside a range of so many elements. */
int64_t outer_bytes(int64_t elements);

/* From the masters that p's model has now. */
int outer_create(
    struct dev *d, const struct outer_conf *c, struct pass *p, struct outer **out, struct err *e);
void outer_destroy(struct outer *o);
/* The masters were read from a checkpoint: they are what all share. */
void outer_begin(struct outer *o);
/* The outer step; the model's gradient is used up. All ranks call; waits for the device. */
int outer_step(struct outer *o, struct err *e);

/* What a checkpoint, which is of an outer step, holds of it. */
struct shard_extra outer_part(const struct outer *o);

#endif
