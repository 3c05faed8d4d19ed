/*
 * masked: what stands between the last layer and the vocabulary where masked tokens are told:
 * y = norm(gelu(h W^T + b)) (Devlin et al., arXiv:1810.04805; transformers' BertLMPredictionHead).
 * Only the rows whose token is to be told, about one in seven, are gathered from h, and their
 * gradients put back to where they came from; the others' are zero. Only enqueues.
 */
#ifndef RUNTIME_MODEL_MASKED_H
#define RUNTIME_MODEL_MASKED_H

#include "runtime/model/norm.h"

struct masked {        /* M: s->chosen, N at most */
    struct stored w;   /* (C, C) */
    const void *bias;  /* (C) t */
    float *dw, *dbias; /* NULL when frozen */
    struct norm norm;
    void *x, *pre, *act; /* (M, C) t: rows of h, and what GELU and the norm read */
    void *y;             /* (M, C) t: what the vocabulary's head reads */
    void *dy;            /* (M + 1, C) t: its gradient, and in backward a row of zeros */
};

void masked_bind(struct masked *w, const struct model *m, float *gradient);
void masked_carve(struct masked *w, const struct batch *s, struct carve *c);
/* From s->h to w->y. */
void masked_forward(const struct batch *s, const struct masked *w);
/* From w->dy to s->dh (N, C) and the gradients; uses y and dy up. */
void masked_backward(const struct batch *s, const struct masked *w);

#endif
