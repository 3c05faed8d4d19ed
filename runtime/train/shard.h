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

/* F32 beside weights and optimizer, a number each of elements [first, first + count) of the flat
   range, as "<name><suffix>". among > 0: there are so many of it, each another's, of which this is
   the of-th, "<name><suffix>.<of>". */
struct shard_extra {
    const char *suffix;
    float *at; /* device */
    int64_t first, count;
    int of, among;
    bool shared; /* all ranks have all of it; else there may be none in a checkpoint: zeros */
};

/* Bytes that shard_write will put of a model whose trained tensors are t, at most. */
int64_t shard_bytes(const struct optim_conf *c, const struct tensors *t, int world, int rank);
/* What rank `rank` of `world` that hold the same writes. Where ranks have optimizer state of their
   own (optim_conf), each writes its own whole, as "<name>.exp_avg.<rank>". */
int shard_write(struct ckpt_writer *w, struct dev *d, struct model *m, struct optim *o, int world,
    int rank, struct err *e);
/* of: the rank whose own state is read, where they have such. */
int shard_read(
    struct ckpt_reader *r, struct dev *d, struct model *m, struct optim *o, int of, struct err *e);
int shard_write_extra(struct ckpt_writer *w, struct dev *d, struct model *m,
    const struct shard_extra *x, int world, int rank, struct err *e);
/* Of several the of-th becomes the sum of those that were the of-th, of + among and so on: what all
   have together stays the same. */
int shard_read_extra(struct ckpt_reader *r, struct dev *d, struct model *m,
    const struct shard_extra *x, struct err *e);

#endif
