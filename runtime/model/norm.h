/*
 * norm: root mean square (arXiv:1910.07467) or layer norm (arXiv:1607.06450) of rows, forward and
 * backward. Only enqueues.
 */
#ifndef RUNTIME_MODEL_NORM_H
#define RUNTIME_MODEL_NORM_H

#include "runtime/model/batch.h"
#include "runtime/model/carve.h"
#include "runtime/model/internal.h"

struct norm {
    const void *w, *bias; /* (C) t; bias NULL when root mean square */
    float *dw, *dbias;    /* (C); NULL when frozen */
    float *mean, *rstd;   /* (N): saved by forward; mean NULL when root mean square */
};

void norm_bind(
    struct norm *w, const struct model *m, enum tensor_role role, int64_t layer, float *gradient);
void norm_carve(struct norm *w, const struct batch *s, struct carve *kept);
/* y = norm(x), both (n, C) */
void norm_forward(const struct batch *s, const struct norm *w, const void *x, void *y);
/* dx = or += (add) the gradient of x, from dy */
void norm_backward(
    const struct batch *s, const struct norm *w, const void *x, const void *dy, void *dx, bool add);

/* The same of heads, by root mean square: w is of (head_dim), rows of `heads` heads are columns of
   x and y, and what is saved is of (N heads). */
void norm_carve_heads(struct norm *w, const struct batch *s, int64_t heads, struct carve *kept);
void norm_forward_heads(
    const struct batch *s, const struct norm *w, int64_t heads, struct columns x, struct columns y);
void norm_backward_heads(const struct batch *s, const struct norm *w, int64_t heads,
    struct columns x, struct columns dy, struct columns dx);

#endif
