/*
 * masked: gathering rows is what a table of embeddings does, with h for a table; and so is putting
 * gradients back: each of the N rows takes that of its slot, or the row of zeros behind them all.
 */
#include "runtime/model/masked.h"

#include "runtime/model/gemm.h"

void masked_bind(struct masked *w, const struct model *m, float *gradient)
{
    w->w = model_bind(m, TENSOR_TRANSFORM, TENSOR_WEIGHT, -1, gradient, &w->dw);
    w->bias = model_bind(m, TENSOR_TRANSFORM, TENSOR_BIAS, -1, gradient, &w->dbias).data;
    norm_bind(&w->norm, m, TENSOR_NORM_TRANSFORM, -1, gradient);
}

void masked_carve(struct masked *w, const struct batch *s, struct carve *c)
{
    int64_t dim = s->config->dim;
    w->x = carve_tensor(c, s->n, dim, s->t);
    w->pre = carve_tensor(c, s->n, dim, s->t);
    w->act = carve_tensor(c, s->n, dim, s->t);
    w->y = carve_tensor(c, s->n, dim, s->t);
    w->dy = carve_tensor(c, carve_plus(s->n, 1), dim, s->t);
    norm_carve(&w->norm, s, c);
}

static struct gemm gemm_of(const struct batch *s, const struct masked *w)
{
    return (struct gemm){.n = s->chosen,
        .in = s->config->dim,
        .out = s->config->dim,
        .bias = w->bias,
        .ldx = s->config->dim,
        .ldy = s->config->dim,
        .t = s->t,
        .y_type = s->t,
        .scale = 1};
}

static bool by_erf(const struct batch *s)
{
    return s->config->activation == ACTIVATION_GELU_ERF;
}

void masked_forward(const struct batch *s, const struct masked *w)
{
    struct batch rows = *s;
    struct gemm g = gemm_of(s, w);
    if (!s->chosen)
        return;
    rows.n = s->chosen;
    g.act = by_erf(s) ? OP_ACT_GELU_ERF : OP_ACT_GELU;
    g.pre = w->pre;
    batch_take_rows(s, s->chosen, s->chosen_rows, s->h, s->n, w->x); /* (N, C) -> (M, C) */
    gemm_forward(s, &g, w->x, w->w.data, w->act);
    norm_forward(&rows, &w->norm, w->act, w->y);
}

void masked_backward(const struct batch *s, const struct masked *w)
{
    int64_t dim = s->config->dim, m = s->chosen;
    int64_t row_bytes = dim * dtype_block_bytes(s->t);
    struct batch rows = *s;
    const struct gemm g = gemm_of(s, w);
    void *d = w->y; /* the gradient of act, then of pre */
    if (!m) {
        dev_zero(s->dev, s->dh, (size_t)(s->n * row_bytes));
        return;
    }
    rows.n = m;
    norm_backward(&rows, &w->norm, w->act, w->dy, d, false);
    OP(s, gelu_back, .count = m * dim, .x = w->pre, .dy = d, .dx = d, .erf = by_erf(s), .t = s->t);
    if (w->dw)
        gemm_dw(s, &g, d, w->x, w->dw);
    if (w->dbias)
        OP(s, bias_back, .n = m, .c = dim, .ld = dim, .dy = d, .dbias = w->dbias, .t = s->t);
    gemm_dx(s, &g, d, w->w.data, w->dy);
    dev_zero(s->dev, at_element(w->dy, m * dim, s->t), (size_t)row_bytes);
    batch_take_rows(s, s->n, s->slots, w->dy, m + 1, s->dh); /* (M, C) -> (N, C) */
}
