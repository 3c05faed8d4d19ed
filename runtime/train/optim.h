/*
 * optim: AdamW (Loshchilov, Hutter 2019) over the model's flat ranges, with the learning-rate
 * schedule and clipping by the global norm of the gradient, which stays on the device: a step waits
 * for nothing. Decay applies to matrices, not to norms. m and v are device memory of this module,
 * as long as the ranges of the model; a checkpoint reads and writes them through optim_m and
 * optim_v.
 */
#ifndef RUNTIME_TRAIN_OPTIM_H
#define RUNTIME_TRAIN_OPTIM_H

#include "base/err.h"
#include "api/jobspec.h"
#include "runtime/model/pass.h"

#include <stdint.h>

struct optim_conf {
    double learning_rate, weight_decay, beta1, beta2, epsilon;
    double clip_norm; /* 0: off */
    enum lr_schedule schedule;
    int64_t warmup_steps, steps;
};

/* The rate of step s = 1 .. steps: linear warm-up to learning_rate over warmup_steps, then down to
   0 after the last step by a cosine or a line, or constant. Pure. */
double optim_rate(const struct optim_conf *c, int64_t step);

struct optim;
int optim_create(
    struct dev *d, const struct optim_conf *c, struct pass *p, struct optim **out, struct err *e);
void optim_destroy(struct optim *o);
/* Enqueues one update from the model's gradient, which must be whole. grad_norm not NULL: looks at
   the norm before (as optim_norm does; nothing is changed when it fails), and waits for the end. */
int optim_step(struct optim *o, int64_t step, double *grad_norm, struct err *e);
/* Waits for the device; the norm that the update of `step`, one of the last PASS_AHEAD, was made
   with. ERR_USER when it is not finite: then that update has changed nothing. */
int optim_norm(struct optim *o, int64_t step, double *grad_norm, struct err *e);
float *optim_m(struct optim *o); /* device, model_trainable elements */
float *optim_v(struct optim *o);

#endif
