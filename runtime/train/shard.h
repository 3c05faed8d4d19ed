/*
 * shard: which slice of the training state a rank owns when it is written, and the way of that
 * state to and from a checkpoint. With data parallelism every rank holds all of it, or, of the
 * optimizer's state, its own slice (optim_slice): that each writes, so the writing is shared,
 * and reads what it holds. With tensor parallelism these are of a rank's shares, rectangles of
 * the whole tensors; with expert parallelism each writes its experts. Tensors go by global name
 * ("<name>", "<name>.exp_avg", "<name>.exp_avg_sq" and what else optim_state names, as it is kept;
 * scales as "<name>.exp_avg.absmax"), so any world reads what any other wrote, to the bit.
 */
#ifndef RUNTIME_TRAIN_SHARD_H
#define RUNTIME_TRAIN_SHARD_H

#include "base/err.h"
#include "runtime/ckpt/ckpt.h"
#include "runtime/model/model.h"
#include "runtime/train/optim.h"

/* [*first, *first + *count) of a range of `total` elements; slices are disjoint and cover it.
   Pure. */
void shard_range(int64_t total, int world, int rank, int64_t *first, int64_t *count);

/* What rank `rank` of `world` that hold the same writes. */
int shard_write(struct ckpt_writer *w, struct dev *d, struct model *m, struct optim *o, int world,
    int rank, struct err *e);
int shard_read(
    struct ckpt_reader *r, struct dev *d, struct model *m, struct optim *o, struct err *e);

#endif
