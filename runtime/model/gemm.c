/*
 * gemm: from W, x and y to the matmul operation's m, n, k and leading dimensions; the one place
 * where those appear.
 */
#include "runtime/model/gemm.h"

void gemm_forward(
    const struct batch *s, const struct gemm *g, const void *x, const void *w, void *y)
{
    OP(s, matmul, .m = g->n, .n = g->out, .k = g->in, .a = x, .b = w, .c = y, .lda = g->ldx,
        .ldb = g->in, .ldc = g->ldy, .tb = true, .ab_type = g->t, .c_type = g->y_type,
        .alpha = g->scale, .beta = g->add, .bias = g->bias, .act = g->act, .pre = g->pre);
}

static void dx_into(const struct batch *s, const struct gemm *g, const void *dy, const void *w,
    void *dx, enum dtype type)
{
    OP(s, matmul, .m = g->n, .n = g->in, .k = g->out, .a = dy, .b = w, .c = dx, .lda = g->ldy,
        .ldb = g->in, .ldc = g->ldx, .ab_type = g->t, .c_type = type, .alpha = g->scale,
        .beta = g->add);
}

void gemm_dx(const struct batch *s, const struct gemm *g, const void *dy, const void *w, void *dx)
{
    dx_into(s, g, dy, w, dx, g->t);
}

void gemm_dx_f32(
    const struct batch *s, const struct gemm *g, const void *dy, const void *w, float *dx)
{
    dx_into(s, g, dy, w, dx, DTYPE_F32);
}

void gemm_dw(const struct batch *s, const struct gemm *g, const void *dy, const void *x, float *dw)
{
    OP(s, matmul, .m = g->out, .n = g->in, .k = g->n, .a = dy, .b = x, .c = dw, .lda = g->ldy,
        .ldb = g->ldx, .ldc = g->in, .ta = true, .ab_type = g->t, .c_type = DTYPE_F32,
        .alpha = g->scale, .beta = 1);
}
