/*
 * likelihood: -ln of the probability that a row of logits gives to a token, on the host. Ranks that
 * share the vocabulary have some columns of the row each, and what each makes of its own is put
 * together: the greatest logit, and the sum of the exponentials relative to it (the softmax of
 * Shoeybi et al., arXiv:1909.08053). Pure.
 */
#ifndef RUNTIME_MODEL_LIKELIHOOD_H
#define RUNTIME_MODEL_LIKELIHOOD_H

#include <stdint.h>

struct likelihood {
    double sum;    /* of exp(logit - top) */
    float top;     /* the greatest logit */
    float target;  /* the token's, */
    int32_t found; /* if it is of these columns; else 0 */
};

/* token: its column, which may be none of them. */
struct likelihood likelihood_of(const float *logits, int64_t columns, int64_t token);
/* all[0], all[stride], ...: `ranks` parts of one row, one of which found the token. */
double likelihood_loss(const struct likelihood *all, int ranks, int64_t stride);

#endif
