/*
 * parallel: what ranks that share a model owe one another.
 *
 * Of tensor parallelism (Shoeybi et al., arXiv:1909.08053) each has some heads and some columns of
 * the feed-forward (model_config_share). What attention and feed-forward add to the residual is
 * then a sum over the ranks, in forward; and so is the gradient of what they read, in backward; so
 * too the rows of the embedding, the sums of softmax and the gradient of what the head reads, of a
 * vocabulary that each has some rows of. All else, norms, positions, classifiers, every rank
 * computes alike from the same numbers, so its gradients are equal to the bit without a word. Only
 * what every rank has and yet uses for its own share, the norms of heads and one factor of each
 * adapter (tensor_is_shared), has a gradient that is to be added up when a step's backward is done.
 *
 * Of expert parallelism each has some of the experts, to which all send their tokens' rows
 * (dispatch.h), and all else, used for its own samples: of that the gradient is to be added up.
 * Where experts are cut by tensor parallelism, too, ranks that have the same columns of different
 * experts send each other rows.
 *
 * The ranks that share sequences (context.h) are others; what these gather and add up goes through
 * here too. So do the hidden states that a stage of a pipeline hands on, where they follow one
 * batch at a time (net_run); of training's micro-batches pass_stage.c has the order.
 *
 * A collective that fails is remembered: nothing is reduced from then on, and whoever ran the
 * batch asks parallel_check before it uses the numbers.
 */
#ifndef RUNTIME_MODEL_PARALLEL_H
#define RUNTIME_MODEL_PARALLEL_H

#include "base/err.h"
#include "runtime/coll/coll.h"
#include "runtime/family/tensors.h"
#include "runtime/model/batch.h"

struct parallel {
    struct coll *ranks;   /* the tensor axis; NULL: a rank alone */
    struct coll *experts; /* the expert axis; NULL likewise */
    struct coll *context; /* the context axis; NULL likewise */
    struct coll *stages;  /* the pipeline axis, connected; NULL likewise */
    int stage, stage_count;
    struct err failure;
};

/* x (count), of the batch's type, becomes its sum over the ranks; enqueued behind what made it. */
void parallel_sum(const struct batch *s, void *x, int64_t count);
/* The same of F32, or the greatest. */
void parallel_reduce(const struct batch *s, float *x, int64_t count, enum coll_reduce op);
/* Over the expert axis: coll_all_to_all_start, enqueued likewise; nothing after a failure. */
void parallel_all_to_all(const struct batch *s, const void *out, const int64_t *out_counts,
    void *in, const int64_t *in_counts, enum dtype t);
/* all (ranks, bytes) = what each rank has at mine, on the device; stage (bytes), all: host. Waits
   for the device. False: a failure. */
bool parallel_tell(const struct batch *s, const void *mine, size_t bytes, void *stage, void *all);
/* Over the context axis: x has a slice of so many elements, of the batch's type, of each rank;
   gather: each rank's own becomes everybody's; scatter: a rank's own becomes its sum. */
void parallel_gather(const struct batch *s, void *x, int64_t count);
void parallel_scatter(const struct batch *s, void *x, int64_t count);
/* x (count), F32, becomes its sum over the context axis, if there is one. */
void parallel_sum_context(struct parallel *p, float *x, int64_t count);
/* gradient: a flat range of F32 beside t. Its parts of which every rank makes some become sums. */
void parallel_sum_shared(struct parallel *p, const struct tensors *t, float *gradient);
/* x (N, C), of the batch's type, comes from the stage before, or goes to the next, where there is
   one. */
void parallel_receive(const struct batch *s, void *x);
void parallel_hand_on(const struct batch *s, const void *x);
/* Before the host waits for the device: with a deadline, for what was enqueued; but for what stages
   hand on, which has a deadline when they meet again. */
int parallel_check(struct parallel *p, struct err *e);
/* The same of all, and then waits for the device. */
int parallel_finish(struct parallel *p, struct dev *d, struct err *e);

/* Host memory, when nothing is under way. all (ranks, bytes) = what each rank of a stage has at
   mine; and what the last stage has at data becomes every stage's. Of a rank alone that is so. */
int parallel_meet(struct parallel *p, const void *mine, size_t bytes, void *all, struct err *e);
int parallel_from_last(struct parallel *p, void *data, size_t bytes, struct err *e);

#endif
