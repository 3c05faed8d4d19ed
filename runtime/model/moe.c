/*
 * moe: what backward reads of forward is what the router chose, and gate and up of each row; the
 * products of experts are never kept: the gradient of a weight is <dy, y> = <dy W_down, activated>,
 * which backward has at hand. The router computes in F32 from what the layer computes in.
 *
 * Rows go to the order of experts and back by permutations that the device makes (expert_sort), and
 * a token's k rows are added up in the order of its choices: no sum depends on how rows fell.
 */
#include "runtime/model/moe.h"

#include "runtime/model/gemm.h"
#include "runtime/model/sublayer.h"

/* -- tensors -- */

static void bind_training(struct expert_matrix *x, const struct model *m, enum tensor_role role,
    int64_t layer, int64_t first, float *gradient)
{
    const struct tensor *here = tensors_get(&m->base, role, TENSOR_WEIGHT, layer, first);
    const struct tensor *next = tensors_get(&m->base, role, TENSOR_WEIGHT, layer, first + 1);
    x->w = model_bind_expert(m, role, layer, first, gradient, &x->dw).data;
    x->ld = next ? next->offset - here->offset : x->in * x->out;
}

static void bind_matrix(struct expert_matrix *x, const struct model *m, enum linear_kind kind,
    int64_t layer, int64_t first, float *gradient)
{
    struct linear_shape s;
    linear_shape(&m->conf.config, kind, &s);
    x->in = s.in;
    x->out = s.out;
    x->pieces = s.pieces;
    if (m->conf.train) {
        bind_training(x, m, s.role[0], layer, first, gradient);
        return;
    }
    for (int i = 0; i < s.pieces; i++)
        x->piece[i] = model_bind_expert(m, s.role[i], layer, first, NULL, NULL);
    const char *next = model_bind_expert(m, s.role[0], layer, first + 1, NULL, NULL).data;
    x->stride = next ? next - (const char *)x->piece[0].data : 0;
}

static void moe_bind(struct sublayer *u, const struct model *m, float *gradient)
{
    struct moe *f = &u->moe;
    f->first = 0;
    f->count = m->conf.config.experts;
    linear_bind(&f->router, m, LINEAR_ROUTER, u->layer, gradient);
    bind_matrix(&f->up, m, LINEAR_EXPERT_GATE_UP, u->layer, f->first, gradient);
    bind_matrix(&f->down, m, LINEAR_EXPERT_DOWN, u->layer, f->first, gradient);
}

static void moe_carve(
    struct sublayer *u, const struct batch *s, struct carve *kept, struct carve *scratch)
{
    struct moe *f = &u->moe;
    int64_t e = s->config->experts, k = s->config->experts_per_token;
    int64_t n = s->n, rows = carve_times(n, k), hidden = s->config->expert_ffn_dim;
    f->p = carve_tensor(kept, n, e, DTYPE_F32);
    f->expert = carve_tensor(kept, n, k, DTYPE_I32);
    f->weight = carve_tensor(kept, n, k, DTYPE_F32);
    f->row = carve_tensor(kept, rows, 1, DTYPE_I32);
    f->place = carve_tensor(kept, rows, 1, DTYPE_I32);
    f->offset = carve_tensor(kept, e + 1, 1, DTYPE_I32);
    f->gate_up = carve_tensor(kept, rows, 2 * hidden, s->t);
    f->rows = carve_tensor(scratch, rows, s->config->dim, s->t);
    f->activated = carve_tensor(scratch, rows, hidden, s->t);
    if (s->train) {
        f->drows = carve_tensor(scratch, rows, s->config->dim, s->t);
        f->dactivated = carve_tensor(scratch, rows, hidden, s->t);
        f->dgate_up = carve_tensor(scratch, rows, 2 * hidden, s->t);
        f->dweight = carve_tensor(scratch, n, k, DTYPE_F32);
        f->dlogits = carve_tensor(scratch, n, e, s->t);
    }
    linear_carve(&f->router, s, kept, scratch);
}

/* -- rows -- */

static int64_t rows_of(const struct batch *s)
{
    return s->n * s->config->experts_per_token;
}

/* to (R, C) = each row's token of x (N, C) */
static void gather(const struct batch *s, const struct moe *f, const void *x, void *to)
{
    OP(s, expert_gather, .n = s->n, .k = s->config->experts_per_token, .c = s->config->dim, .x = x,
        .row = f->row, .y = to, .t = s->t);
}

/* y (N, C) += or = the sum of each token's rows of x (R, C) */
static void add_up(const struct batch *s, const struct moe *f, const void *x, void *y, bool add)
{
    OP(s, expert_sum, .n = s->n, .k = s->config->experts_per_token, .c = s->config->dim, .x = x,
        .place = f->place, .y = y, .accumulate = add, .t = s->t);
}

/* Where gate and up of all rows stand. */
static struct columns half(const struct batch *s, void *gate_up, int i)
{
    int64_t hidden = s->config->expert_ffn_dim;
    if (s->train)
        return (struct columns){at_element(gate_up, i * hidden, s->t), 2 * hidden};
    return (struct columns){at_element(gate_up, i * rows_of(s) * hidden, s->t), hidden};
}

/* activated (R, F) = silu(gate) * up */
static void activate(const struct batch *s, const struct moe *f)
{
    struct columns gate = half(s, f->gate_up, 0), up = half(s, f->gate_up, 1);
    OP(s, swiglu, .n = rows_of(s), .f = s->config->expert_ffn_dim, .ld = gate.ld, .gate = gate.at,
        .up = up.at, .y = f->activated, .t = s->t);
}

/* -- forward -- */

/* y (R, out) = each row times its expert's matrix */
static void multiply(const struct batch *s, const struct moe *f, const struct expert_matrix *x,
    const void *rows, void *y)
{
    if (s->train) {
        OP(s, expert_matmul, .n = rows_of(s), .experts = f->count, .in = x->in, .out = x->out,
            .ldw = x->ld, .offset = f->offset + f->first, .w = x->w, .x = rows, .y = y, .t = s->t);
        return;
    }
    for (int i = 0; i < x->pieces; i++)
        OP(s, expert_quant_matmul, .n = rows_of(s), .experts = f->count, .in = x->in,
            .out = x->out / x->pieces, .stride = x->stride, .offset = f->offset + f->first,
            .x = rows, .w = x->piece[i].data, .w_type = x->piece[i].type,
            .y = (float *)y + i * rows_of(s) * (x->out / x->pieces));
}

/* Logits (N, E), F32 whatever the layer computes in. */
static void ask_router(const struct batch *s, const struct moe *f)
{
    const struct linear_shape *w = &f->router.shape;
    struct gemm g = {.n = s->n,
        .in = w->in,
        .out = w->out,
        .ldx = w->in,
        .ldy = w->out,
        .t = s->t,
        .y_type = DTYPE_F32,
        .scale = 1};
    if (s->train)
        gemm_forward(s, &g, s->h, f->router.w, f->p);
    else
        linear_forward(s, &f->router, s->h, f->p);
}

/* Chooses, and orders the choices by expert. count: choices are counted for the balance. */
static void route(const struct batch *s, const struct moe *f, bool count)
{
    const struct model_config *c = s->config;
    ask_router(s, f);
    OP(s, route, .n = s->n, .e = c->experts, .k = c->experts_per_token,
        .tokens = s->train ? s->tokens : s->n, .normalized = c->norm_topk, .p = f->p,
        .expert = f->expert, .weight = f->weight, .length = s->lengths,
        .count = count ? s->expert_count : NULL);
    OP(s, expert_sort, .n = rows_of(s), .e = c->experts, .expert = f->expert, .row = f->row,
        .place = f->place, .offset = f->offset);
}

static void moe_forward(const struct batch *s, const struct sublayer *u, void *y)
{
    const struct moe *f = &u->moe;
    route(s, f, y);
    gather(s, f, s->h, f->rows);
    multiply(s, f, &f->up, f->rows, f->gate_up); /* (R, C) -> (R, 2 F) */
    if (!y)
        return;
    activate(s, f);
    OP(s, expert_weigh, .n = rows_of(s), .c = s->config->expert_ffn_dim, .row = f->row,
        .weight = f->weight, .x = f->activated, .t = s->t);
    multiply(s, f, &f->down, f->activated, f->rows); /* (R, F) -> (R, C) */
    add_up(s, f, f->rows, y, true);
}

/* -- backward -- */

/* dx (R, in), unless NULL, from dy (R, out); dW += dy^T x, unless frozen */
static void multiply_back(const struct batch *s, const struct moe *f, const struct expert_matrix *m,
    const void *x, const void *dy, void *dx)
{
    OP(s, expert_matmul, .n = rows_of(s), .experts = f->count, .in = m->in, .out = m->out,
        .ldw = m->ld, .offset = f->offset + f->first, .w = m->w, .x = x, .dy = dy, .dx = dx,
        .dw = x ? m->dw : NULL, .t = s->t);
}

static void activate_back(const struct batch *s, const struct moe *f)
{
    struct columns gate = half(s, f->gate_up, 0), up = half(s, f->gate_up, 1);
    struct columns dgate = half(s, f->dgate_up, 0), dup = half(s, f->dgate_up, 1);
    OP(s, swiglu_back, .n = rows_of(s), .f = s->config->expert_ffn_dim, .ld = gate.ld,
        .gate = gate.at, .up = up.at, .dy = f->dactivated, .dgate = dgate.at, .dup = dup.at,
        .t = s->t);
}

/* To the router: dh = its part of the gradient. */
static void route_back(const struct batch *s, const struct moe *f, void *dh)
{
    const struct model_config *c = s->config;
    OP(s, route_back, .n = s->n, .e = c->experts, .k = c->experts_per_token, .tokens = s->tokens,
        .normalized = c->norm_topk, .p = f->p, .expert = f->expert, .weight = f->weight,
        .length = s->lengths, .count = s->expert_count, .dweight = f->dweight,
        .balance = s->balance, .dlogits = f->dlogits, .t = s->t);
    linear_backward(s, &f->router, s->h, f->dlogits, dh); /* (N, E) -> (N, C) */
}

static void moe_backward(const struct batch *s, const struct sublayer *u, bool again, bool below)
{
    const struct moe *f = &u->moe;
    (void)again; /* what forward leaves in activated is weighed already */
    activate(s, f);
    gather(s, f, s->dx, f->drows);
    multiply_back(s, f, &f->down, NULL, f->drows, f->dactivated); /* (R, C) -> (R, F) */
    OP(s, expert_weigh, .n = rows_of(s), .c = s->config->expert_ffn_dim, .row = f->row,
        .weight = f->weight, .x = f->activated, .dy = f->dactivated, .dweight = f->dweight,
        .t = s->t);
    multiply_back(s, f, &f->down, f->activated, f->drows, NULL);
    activate_back(s, f); /* (R, F) -> (R, 2 F) */
    if (f->up.dw)
        gather(s, f, s->h, f->rows);
    multiply_back(s, f, &f->up, f->rows, f->dgate_up, below ? f->drows : NULL); /* -> (R, C) */
    route_back(s, f, below ? s->dh : NULL);
    if (below)
        add_up(s, f, f->drows, s->dh, true);
}

static bool moe_reads_input(const struct sublayer *u)
{
    return u->moe.up.dw || linear_reads_input(&u->moe.router);
}

const struct sublayer_kind moe_kind = {
    .norm = TENSOR_NORM_FFN,
    .selective = true,
    .bind = moe_bind,
    .carve = moe_carve,
    .forward = moe_forward,
    .backward = moe_backward,
    .reads_input = moe_reads_input,
};
