/*
 * norm: which of the two it is, is the configuration's to say; backward reads the statistics that
 * forward saved, and the norm's input.
 */
#include "runtime/model/norm.h"

void norm_bind(
    struct norm *w, const struct model *m, enum tensor_role role, int64_t layer, float *gradient)
{
    w->w = model_bind(m, role, TENSOR_WEIGHT, layer, gradient, &w->dw).data;
    w->bias = model_bind(m, role, TENSOR_BIAS, layer, gradient, &w->dbias).data;
}

void norm_carve(struct norm *w, const struct batch *s, struct carve *kept)
{
    w->rstd = carve_tensor(kept, s->n, 1, DTYPE_F32);
    if (s->config->norm == NORM_LAYER)
        w->mean = carve_tensor(kept, s->n, 1, DTYPE_F32);
}

void norm_forward(const struct batch *s, const struct norm *w, const void *x, void *y)
{
    const struct model_config *c = s->config;
    if (c->norm == NORM_RMS)
        OP(s, rmsnorm, .n = s->n, .c = c->dim, .eps = c->norm_eps, .x = x, .w = w->w, .y = y,
            .rstd = w->rstd, .t = s->t);
    else
        OP(s, layernorm, .n = s->n, .c = c->dim, .eps = c->norm_eps, .x = x, .w = w->w,
            .bias = w->bias, .y = y, .mean = w->mean, .rstd = w->rstd, .t = s->t);
}

void norm_backward(
    const struct batch *s, const struct norm *w, const void *x, const void *dy, void *dx, bool add)
{
    const struct model_config *c = s->config;
    if (c->norm == NORM_RMS)
        OP(s, rmsnorm_back, .n = s->n, .c = c->dim, .eps = c->norm_eps, .x = x, .w = w->w,
            .rstd = w->rstd, .dy = dy, .dx = dx, .dw = w->dw, .accumulate = add, .t = s->t);
    else
        OP(s, layernorm_back, .n = s->n, .c = c->dim, .eps = c->norm_eps, .x = x, .w = w->w,
            .bias = w->bias, .mean = w->mean, .rstd = w->rstd, .dy = dy, .dx = dx, .dw = w->dw,
            .dbias = w->dbias, .accumulate = add, .t = s->t);
}
