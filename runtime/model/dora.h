/*
 * dora: adapters that learn the length of a matrix' rows apart from their direction (Liu et al.,
 * arXiv:2402.09353; peft's use_dora): with z = x (W + s B A)^T, s of lora_scale, and n_o the length
 * of row o of W + s B A, y_o = m_o / n_o z_o + bias, where n counts as a constant in backward
 * (4.3). m begins as the lengths of W's rows, so y begins as x W^T. m is read from its masters:
 * in BF16 it could not follow its gradient.
 *
 * Of a joined matrix z is computed whole, and pieces without adapters have m / n = 1. Only
 * enqueues.
 */
#ifndef RUNTIME_MODEL_DORA_H
#define RUNTIME_MODEL_DORA_H

#include "runtime/model/internal.h"
#include "runtime/model/lora.h"

struct dora { /* of one joined matrix (out, in); without z: none */
    struct {
        const float *m;      /* (rows) F32 */
        float *dm;           /* (rows) F32 */
    } factor[LINEAR_PIECES]; /* as lora's */
    bool on;
    void *z;        /* (N, out) t: before lengths and bias, saved by forward */
    float *inverse; /* (out) 1 / n where there is an adapter; likewise */
    float *gain;    /* (out) m / n, or 1; likewise */
    void *dz;       /* (N, out) t: scratch */
    void *v;        /* (rows, in) t: scratch: W + s B A of a piece */
    float *sums;    /* (out): scratch */
};

/* l: the adapters of the same matrix, which are bound; shape: its own. */
void dora_bind(struct dora *d, const struct model *m, const struct linear_shape *shape,
    int64_t layer, float *gradient);
void dora_carve(struct dora *d, const struct lora *l, const struct batch *s, struct carve *kept,
    struct carve *scratch);

/* z, and what it is multiplied with, which is all that dora_backward needs of forward; w (out, in)
   t. u of the adapters is set too. */
void dora_project(const struct batch *s, const struct dora *d, const struct lora *l, const void *w,
    const void *x);
/* y (n, out) = or, with add, +=; bias (out) t or NULL */
void dora_forward(const struct batch *s, const struct dora *d, const struct lora *l, const void *w,
    const void *bias, const void *x, void *y, bool add);
/* dm; returns dz (n, out) of dy (n, out) */
const void *dora_backward(
    const struct batch *s, const struct dora *d, const struct lora *l, const void *dy);

/* Row lengths of w (rows, in), host. */
void dora_lengths(const float *w, int64_t rows, int64_t in, float *out);
/* w (rows, in), with the adapters' part added already, to what y's product reads: each row times m
   / its length; host (export). */
void dora_merge(float *w, const float *m, int64_t rows, int64_t in);

#endif
