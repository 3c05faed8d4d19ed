/*
 * gemm: the products of a matrix W (out, in) with n rows: y = x W^T, and backwards dx = dy W and
 * dW += dy^T x. The rows of x and dx (n, in) begin ldx elements apart, those of y and dy (n, out)
 * ldy. Only enqueues.
 */
#ifndef RUNTIME_MODEL_GEMM_H
#define RUNTIME_MODEL_GEMM_H

#include "runtime/model/batch.h"

struct gemm {
    int64_t n, in, out, ldx, ldy;
    enum dtype t, y_type; /* of x, W, dx and dy; of y */
    float scale;          /* of every result */
    bool add;             /* y or dx: += */
    const void *bias;     /* (out), forward: + bias; or NULL */
    enum op_act act;      /* forward: y becomes act(y) */
    void *pre;            /* (n, out) as y: receives what act is applied to; or NULL */
};

/* y = scale * x W^T + bias */
void gemm_forward(
    const struct batch *s, const struct gemm *g, const void *x, const void *w, void *y);
/* dx = scale * dy W */
void gemm_dx(const struct batch *s, const struct gemm *g, const void *dy, const void *w, void *dx);
/* The same in F32, which some parts of W may be added up in. */
void gemm_dx_f32(
    const struct batch *s, const struct gemm *g, const void *dy, const void *w, float *dx);
/* dW (out, in) F32 += scale * dy^T x */
void gemm_dw(const struct batch *s, const struct gemm *g, const void *dy, const void *x, float *dw);

#endif
