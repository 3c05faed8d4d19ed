/*
 * adalora: what AdaLoRA does beside a step (Zhang et al., arXiv:2303.10512, in the form of peft's
 * AdaLoraModel and RankAllocator): keeps the factors orthogonal, finds out which singular values
 * matter, and makes the others zero until those of all matrices are as many as the target.
 *
 * A regulariser, the mean over all factors of |A A^T - I| and |B^T B - I| (Frobenius), times
 * orthogonal_weight, adds its gradient to the one that all ranks have reduced. Importances follow
 * from that gradient and the weights, so every rank decides alike; they are state that a checkpoint
 * keeps, each of its own tensors. A value's score is that of E plus the means over its row of A and
 * its column of B, each element's being the product of its smoothed importance and of how that
 * varies. Enqueues, but for the steps that choose, which wait for the device.
 */
#ifndef RUNTIME_TRAIN_ADALORA_H
#define RUNTIME_TRAIN_ADALORA_H

#include "base/err.h"
#include "runtime/coll/coll.h"
#include "runtime/family/tensors.h"
#include "runtime/model/carve.h"

struct adalora_conf {
    int rank;        /* that each matrix begins with; 0: no AdaLoRA, and nothing is done */
    int target_rank; /* on average, in the end */
    int64_t initial_steps, final_steps, interval, steps; /* steps: of the whole training */
    double beta1, beta2, orthogonal_weight;
};

/* How many values of all `matrices` stay after a step, 1 .. steps; *chooses: the others become zero
   then. All until initial_steps; target_rank a matrix from final_steps before the end on; in
   between fewer by a cubic. Pure. */
int64_t adalora_budget(const struct adalora_conf *c, int64_t matrices, int64_t step, bool *chooses);

struct adalora {
    struct dev *dev;
    struct adalora_conf conf;
    const struct tensors *trained;
    int64_t matrices;
    int64_t from, values; /* the singular values' place in the flat range, gaps included */
    int64_t first, end;   /* of the flat range: what this rank keeps state of, whole tensors */
    float *mean, *spread; /* (end - first), of op_importance */
    float *kept;          /* (values) 1: stays, 0: does not; all 0: nothing was chosen yet */
    float *one;           /* (r, r): the identity */
    float *gram, *unit;   /* (r, r): scratch */
    float *sum;           /* (1): scratch */
    float *score;         /* (3, values), of E, A, B: scratch */
    float *host;          /* (4, values), host */
};

/* Counts what there is, of which [first, end) is this rank's; then carve, once to count and once to
   cut, and open. */
void adalora_describe(struct adalora *a, const struct adalora_conf *c,
    const struct tensors *trained, int64_t first, int64_t end);
void adalora_carve(struct adalora *a, struct carve *c);
int adalora_open(struct adalora *a, struct dev *d, struct err *e);
void adalora_close(struct adalora *a);

/* Adds the regulariser's gradient, once a step, before the norm is taken. */
void adalora_regularise(struct adalora *a, const float *master, float *gradient);
/* Behind the update of `step`, with what that was clipped by: importances. Enqueues. */
void adalora_weigh(struct adalora *a, const float *master, const float *gradient,
    const float *sumsq, float clip_norm, int64_t step);
/* Then: values that do not stay become zero. Waits for the device where it chooses; c: of the ranks
   that divide the state, which all call; NULL: there is this one. */
int adalora_choose(struct adalora *a, float *master, struct coll *c, int64_t step, struct err *e);

#define ADALORA_STATES 3
/* The k-th state of a tensor, (count) F32 on the device; NULL: it has none here. */
float *adalora_state(
    const struct adalora *a, const struct tensor *x, int k, const char **suffix, int64_t *count);

#endif
