/*
 * average: what several models say of one thing becomes one model's logits: y = 1/K sum y_k over
 * the logits, or over the probabilities that these come to. Of those the logits are the logarithm,
 * so that whoever makes probabilities of logits gets the mean. Each is summed in F64 in the order
 * of the models, whatever the threads. Pure.
 */
#ifndef RUNTIME_SERVE_AVERAGE_H
#define RUNTIME_SERVE_AVERAGE_H

#include "api/jobspec.h"

struct average_of {
    enum average what;
    bool apart; /* the probability of each is by itself, 1 / (1 + e^-x); else among all */
    int count;  /* K, 1 to LIMIT_MEMBERS */
    const float *const *x; /* (K, n) */
    int64_t n;
};

void average_logits(const struct average_of *a, float *y /* (n) */);

#endif
