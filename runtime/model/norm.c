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

void norm_carve_heads(struct norm *w, const struct batch *s, int64_t heads, struct carve *kept)
{
    w->rstd = carve_tensor(kept, s->n, heads, DTYPE_F32);
}

void norm_forward_heads(
    const struct batch *s, const struct norm *w, int64_t heads, struct columns x, struct columns y)
{
    const struct model_config *c = s->config;
    OP(s, rmsnorm, .n = s->n * heads, .c = c->head_dim, .group = heads, .ldx = x.ld, .ldy = y.ld,
        .eps = c->norm_eps, .x = x.at, .w = w->w, .y = y.at, .rstd = w->rstd, .t = s->t);
}

void norm_backward_heads(const struct batch *s, const struct norm *w, int64_t heads,
    struct columns x, struct columns dy, struct columns dx)
{
    const struct model_config *c = s->config;
    OP(s, rmsnorm_back, .n = s->n * heads, .c = c->head_dim, .group = heads, .ldx = x.ld,
        .ldy = dy.ld, .eps = c->norm_eps, .x = x.at, .w = w->w, .rstd = w->rstd, .dy = dy.at,
        .dx = dx.at, .dw = w->dw, .t = s->t);
}
