/*
 * sparsity: zeros that are made while a model trains (spec.train.sparsity). Between startStep and
 * endStep the share of zeros grows by Zhu and Gupta's cubic, s = target (1 - (1 - t)^3) with t from
 * 0 to 1 (arXiv:1710.01878), every so many steps; with equal steps, at once. The least go
 * (runtime/model/prune.h), judged by the F32 masters, which are the same on every rank.
 *
 * There is no mask beside the weights: what is zero is masked. From the first pruning on the
 * gradient of a zero is zero, and so is the optimizer's state of it, under which every update
 * leaves it zero (optim_conf.masks_from). So a checkpoint of weights and states holds the masks.
 */
#ifndef RUNTIME_TRAIN_SPARSITY_H
#define RUNTIME_TRAIN_SPARSITY_H

#include "api/jobspec.h"
#include "base/err.h"
#include "runtime/train/optim.h"

/* The share of zeros to be reached after the update of a step, 0: before the first; negative:
   nothing is pruned then. Pure. */
double sparsity_share(const struct jobspec_train *s, int64_t step);
/* The first step whose update leaves zeros alone; 0: there is none. Pure. */
int64_t sparsity_masks_from(const struct jobspec_train *s);

struct sparsity;
/* All but the jobspec is borrowed until destroy. *out is NULL without spec.train.sparsity.
   ERR_USER: the model's rows are no whole groups. */
int sparsity_create(const struct jobspec_train *s, struct dev *d, struct model *m, struct optim *o,
    struct wire_page *page, struct sparsity **out, struct err *e);
void sparsity_destroy(struct sparsity *s); /* NULL is fine */
/* Prunes what is due after the update of `step`. Waits for the device then. *zeros: the share of
   zeros, -1: nothing was due. */
int sparsity_prune(struct sparsity *s, int64_t step, double *zeros, struct err *e);
/* The share of zeros that there are. */
int sparsity_measure(struct sparsity *s, double *zeros, struct err *e);

#endif
