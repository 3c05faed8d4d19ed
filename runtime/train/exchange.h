/*
 * exchange: the sum of a gradient over ranks, of which less crosses between pods than F32. The
 * ranks of a pod first add up among themselves, in F32, a slice of the range each. Then those that
 * have the same slice in their pods, the members, divide it among them: each sends every other one
 * what that one adds up (all-to-all), in the small form, adds up its own part in the order of pods,
 * in F32, and sends the sum to all (all-gather), in the small form again; everyone, the adder too,
 * takes what crossed. So all ranks get the same bits, and the same in every run.
 *
 *     BF16  rounded to nearest (as torch's bf16_compress_hook)
 *     Int8  codes of 8 bits with a scale for each OP_STATE_BLOCK elements, those of op_sgd's
 *           momentum (Dettmers, arXiv:1511.04561, has sent gradients so)
 *
 * Int8 feeds errors back (Seide et al., Interspeech 2014; Karimireddy et al., arXiv:1901.09847):
 * what rounding loses of a pod's gradient is added to its next one, and what it loses of a sum to
 * the next sum. Both are the training's state. A gradient that is not finite comes out as one that
 * is not.
 */
#ifndef RUNTIME_TRAIN_EXCHANGE_H
#define RUNTIME_TRAIN_EXCHANGE_H

#include "base/err.h"
#include "api/jobspec.h"
#include "runtime/coll/coll.h"
#include "runtime/train/shard.h"

struct exchange;

struct exchange_conf {
    enum gradients type;
    int64_t elements; /* of the range */
    int ranks, rank;  /* of the world */
    int per_pod;      /* neighbours that add up in F32 first; divides ranks */
};

/* What it takes of a rank, at most; nothing within one pod, or in FP32. */
int64_t exchange_bytes(const struct exchange_conf *c);
/* Of several pods; type is not FP32. Makes groups of the world: all its ranks call. */
int exchange_create(struct dev *d, struct coll *world, const struct exchange_conf *c,
    struct exchange **out, struct err *e);
void exchange_destroy(struct exchange *x);

/* Enqueues: g (elements), device F32, becomes its sum over the ranks. All ranks call. */
int exchange_reduce(struct exchange *x, float *g, struct err *e);
/* Waits for what that has started, as coll_reduce_wait does. */
int exchange_wait(struct exchange *x, struct err *e);

/* What a checkpoint holds of it; returns how many, at most EXCHANGE_PARTS. */
#define EXCHANGE_PARTS 2
int exchange_parts(const struct exchange *x, struct shard_extra parts[EXCHANGE_PARTS]);

#endif
