/*
 * moe: what backward reads of forward is what the router chose, and gate and up of each row; the
 * products of experts are never kept: the gradient of a weight is <dy, y> = <dy W_down, activated>,
 * which backward has at hand. The router computes in F32 from what the layer computes in.
 *
 * Rows go to the order of experts and back by permutations that the device makes (expert_sort), and
 * a token's k rows are added up in the order of its choices: no sum depends on how rows fell.
 *
 * Of a share by tensor parallelism a rank has some of the columns of every expert. All ranks choose
 * alike, from the same numbers; what experts give is added up over them, and so are the gradients
 * of what these read and of the weights, so that of the router is every rank's.
 */
#include "runtime/model/moe.h"

#include "runtime/model/dispatch.h"
#include "runtime/model/gemm.h"
#include "runtime/model/parallel.h"
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
    f->layer = u->layer;
    f->first = m->conf.config.share.first_expert;
    f->count = m->conf.config.experts;
    linear_bind(&f->router, m, LINEAR_ROUTER, u->layer, gradient);
    bind_matrix(&f->up, m, LINEAR_EXPERT_GATE_UP, u->layer, f->first, gradient);
    bind_matrix(&f->down, m, LINEAR_EXPERT_DOWN, u->layer, f->first, gradient);
}

static struct moe_order carve_order(struct carve *c, int64_t rows, int64_t experts)
{
    struct moe_order o = {.row = carve_tensor(c, rows, 1, DTYPE_I32)};
    o.place = carve_tensor(c, rows, 1, DTYPE_I32);
    o.offset = carve_tensor(c, experts + 1, 1, DTYPE_I32);
    return o;
}

/* What rows to and from other ranks stand in; most: that may be here. */
static void carve_ways(
    struct moe *f, const struct batch *s, int64_t most, struct carve *kept, struct carve *scratch)
{
    int64_t rows = carve_times(s->n, s->config->experts_per_token);
    f->here = carve_order(kept, most, s->config->experts);
    f->weight_here = carve_tensor(kept, most, 1, DTYPE_F32);
    f->dweight_here = carve_tensor(scratch, most, 1, DTYPE_F32);
    f->sent = carve_tensor(scratch, rows, s->config->dim, s->t);
    f->arrived = carve_tensor(scratch, most, s->config->dim, s->t);
    f->weight_sent = carve_tensor(scratch, rows, 1, DTYPE_F32);
    f->expert_arrived = carve_tensor(scratch, most, 1, DTYPE_I32);
}

static void moe_carve(
    struct sublayer *u, const struct batch *s, struct carve *kept, struct carve *scratch)
{
    struct moe *f = &u->moe;
    int64_t e = model_config_experts(s->config), k = s->config->experts_per_token;
    int64_t n = s->n, hidden = s->config->expert_ffn_dim, rows = dispatch_most(s->config, n);
    f->p = carve_tensor(kept, n, e, DTYPE_F32);
    f->expert = carve_tensor(kept, n, k, DTYPE_I32);
    f->weight = f->weight_here = carve_tensor(kept, n, k, DTYPE_F32);
    f->order = f->here = carve_order(kept, carve_times(n, k), e);
    f->gate_up = carve_tensor(kept, rows, 2 * hidden, s->t);
    f->rows = carve_tensor(scratch, rows, s->config->dim, s->t);
    f->activated = carve_tensor(scratch, rows, hidden, s->t);
    if (s->train) {
        f->drows = carve_tensor(scratch, rows, s->config->dim, s->t);
        f->dactivated = carve_tensor(scratch, rows, hidden, s->t);
        f->dgate_up = carve_tensor(scratch, rows, 2 * hidden, s->t);
        f->dweight = f->dweight_here = carve_tensor(scratch, n, k, DTYPE_F32);
        f->dlogits = carve_tensor(scratch, n, e, s->t);
    }
    if (model_config_is_dealt(s->config))
        carve_ways(f, s, rows, kept, scratch);
    if (model_config_is_cut(s->config))
        f->sum = s->train ? s->sum : carve_tensor(scratch, n, s->config->dim, s->t);
    linear_carve(&f->router, s, kept, scratch);
}

/* -- rows -- */

/* R */
static int64_t rows_of(const struct batch *s)
{
    return s->n * s->config->experts_per_token;
}

/* M */
static int64_t rows_here(const struct batch *s, const struct moe *f)
{
    return s->dispatch ? dispatch_rows(s, f->layer) : rows_of(s);
}

/* y (n * k, c) t = x (n, c) in that order */
static void take_rows(const struct batch *s, const struct moe_order *o, int64_t n, int64_t k,
    int64_t c, const void *x, void *y, enum dtype t)
{
    OP(s, expert_gather, .n = n, .k = k, .c = c, .x = x, .row = o->row, .y = y, .t = t);
}

/* y (n, c) t, += where add, the k rows of each of x (n * k, c), which is in that order */
static void put_rows(const struct batch *s, const struct moe_order *o, int64_t n, int64_t k,
    int64_t c, const void *x, void *y, bool add, enum dtype t)
{
    OP(s, expert_sum, .n = n, .k = k, .c = c, .x = x, .place = o->place, .y = y, .accumulate = add,
        .t = t);
}

/* to (M, C) = each row's token of x (N, C) */
static void gather(const struct batch *s, const struct moe *f, const void *x, void *to)
{
    int64_t k = s->config->experts_per_token, c = s->config->dim;
    take_rows(s, &f->order, s->n, k, c, x, s->dispatch ? f->sent : to, s->t);
    if (!s->dispatch)
        return;
    dispatch_send(s, f->layer, f->sent, f->arrived, c, s->t);
    if (rows_here(s, f))
        take_rows(s, &f->here, rows_here(s, f), 1, c, f->arrived, to, s->t);
}

/* y (N, C) += the sum of each token's rows of x (M, C) */
static void add_up(const struct batch *s, const struct moe *f, const void *x, void *y)
{
    int64_t k = s->config->experts_per_token, c = s->config->dim;
    if (s->dispatch) {
        if (rows_here(s, f))
            put_rows(s, &f->here, rows_here(s, f), 1, c, x, f->arrived, false, s->t);
        dispatch_return(s, f->layer, f->arrived, f->sent, c, s->t);
        x = f->sent;
    }
    put_rows(s, &f->order, s->n, k, c, x, f->sum ? f->sum : y, !f->sum, s->t);
    if (!f->sum)
        return;
    parallel_sum(s, f->sum, s->n * c);
    OP(s, axpby, .count = s->n * c, .x = f->sum, .x_type = s->t, .y = y, .y_type = s->t, .a = 1,
        .b = 1);
}

/* Once a forward: which rows come here, in which order, and what they weigh. */
static void find_ways(const struct batch *s, const struct moe *f)
{
    dispatch_tell(s, f->layer, f->order.offset, f->expert_arrived);
    if (rows_here(s, f))
        OP(s, expert_sort, .n = rows_here(s, f), .e = f->count, .expert = f->expert_arrived,
            .row = f->here.row, .place = f->here.place, .offset = f->here.offset);
    take_rows(s, &f->order, rows_of(s), 1, 1, f->weight, f->weight_sent, DTYPE_F32);
    dispatch_send(s, f->layer, f->weight_sent, f->weight_here, 1, DTYPE_F32);
}

/* dweight (N, k) from what is known of each row where its expert is, or a part of that. */
static void gather_dweight(const struct batch *s, const struct moe *f)
{
    if (s->dispatch) {
        dispatch_return(s, f->layer, f->dweight_here, f->weight_sent, 1, DTYPE_F32);
        put_rows(s, &f->order, rows_of(s), 1, 1, f->weight_sent, f->dweight, false, DTYPE_F32);
    }
    if (f->sum)
        parallel_reduce(s, f->dweight, rows_of(s), COLL_SUM);
}

/* Where gate and up of all rows stand. */
static struct columns half(const struct batch *s, void *gate_up, int i)
{
    int64_t hidden = s->config->expert_ffn_dim;
    if (s->train)
        return (struct columns){at_element(gate_up, i * hidden, s->t), 2 * hidden};
    return (struct columns){at_element(gate_up, i * rows_of(s) * hidden, s->t), hidden};
}

/* activated (M, F) = silu(gate) * up */
static void activate(const struct batch *s, const struct moe *f)
{
    struct columns gate = half(s, f->gate_up, 0), up = half(s, f->gate_up, 1);
    OP(s, swiglu, .n = rows_here(s, f), .f = s->config->expert_ffn_dim, .ld = gate.ld,
        .gate = gate.at, .up = up.at, .y = f->activated, .t = s->t);
}

/* activated *= weights. dweight, of the rows, and d are backward's: the gradient of activated. */
static void weigh(const struct batch *s, const struct moe *f, void *d, float *dweight)
{
    OP(s, expert_weigh, .n = rows_here(s, f), .c = s->config->expert_ffn_dim, .row = f->here.row,
        .weight = f->weight_here, .x = f->activated, .dy = d, .dweight = dweight, .t = s->t);
}

/* -- forward -- */

/* y (M, out) = each row times its expert's matrix */
static void multiply(const struct batch *s, const struct moe *f, const struct expert_matrix *x,
    const void *rows, void *y)
{
    int64_t n = rows_here(s, f);
    if (s->train) {
        OP(s, expert_matmul, .n = n, .experts = f->count, .in = x->in, .out = x->out, .ldw = x->ld,
            .offset = f->here.offset, .w = x->w, .x = rows, .y = y, .t = s->t);
        return;
    }
    for (int i = 0; i < x->pieces; i++)
        OP(s, expert_quant_matmul, .n = n, .experts = f->count, .in = x->in,
            .out = x->out / x->pieces, .stride = x->stride, .offset = f->here.offset, .x = rows,
            .w = x->piece[i].data, .w_type = x->piece[i].type, .coarse = batch_is_coarse(s),
            .y = (float *)y + i * n * (x->out / x->pieces));
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
    int64_t experts = model_config_experts(c);
    ask_router(s, f);
    OP(s, route, .n = s->n, .e = experts, .k = c->experts_per_token,
        .tokens = s->train ? s->tokens : s->n, .normalized = c->norm_topk, .p = f->p,
        .expert = f->expert, .weight = f->weight, .length = s->lengths,
        .count = count ? s->expert_count : NULL);
    OP(s, expert_sort, .n = rows_of(s), .e = experts, .expert = f->expert, .row = f->order.row,
        .place = f->order.place, .offset = f->order.offset);
}

/* rows (M, C) = what the experts here make of gate_up (M, 2 F) */
static void give(const struct batch *s, const struct moe *f)
{
    activate(s, f);
    weigh(s, f, NULL, NULL);
    multiply(s, f, &f->down, f->activated, f->rows); /* (M, F) -> (M, C) */
}

static void moe_forward(const struct batch *s, const struct sublayer *u, void *y)
{
    const struct moe *f = &u->moe;
    route(s, f, y);
    if (s->dispatch)
        find_ways(s, f);
    gather(s, f, s->h, f->rows);
    if (rows_here(s, f))
        multiply(s, f, &f->up, f->rows, f->gate_up); /* (M, C) -> (M, 2 F) */
    if (!y)
        return;
    if (rows_here(s, f))
        give(s, f);
    add_up(s, f, f->rows, y);
}

/* -- backward -- */

/* dx (M, in), unless NULL, from dy (M, out); dW += dy^T x, unless frozen */
static void multiply_back(const struct batch *s, const struct moe *f, const struct expert_matrix *m,
    const void *x, const void *dy, void *dx)
{
    OP(s, expert_matmul, .n = rows_here(s, f), .experts = f->count, .in = m->in, .out = m->out,
        .ldw = m->ld, .offset = f->here.offset, .w = m->w, .x = x, .dy = dy, .dx = dx,
        .dw = x ? m->dw : NULL, .t = s->t);
}

static void activate_back(const struct batch *s, const struct moe *f)
{
    struct columns gate = half(s, f->gate_up, 0), up = half(s, f->gate_up, 1);
    struct columns dgate = half(s, f->dgate_up, 0), dup = half(s, f->dgate_up, 1);
    OP(s, swiglu_back, .n = rows_here(s, f), .f = s->config->expert_ffn_dim, .ld = gate.ld,
        .gate = gate.at, .up = up.at, .dy = f->dactivated, .dgate = dgate.at, .dup = dup.at,
        .t = s->t);
}

/* To the router: dh = its part of the gradient. */
static void route_back(const struct batch *s, const struct moe *f, void *dh)
{
    const struct model_config *c = s->config;
    OP(s, route_back, .n = s->n, .e = model_config_experts(c), .k = c->experts_per_token,
        .tokens = s->tokens, .normalized = c->norm_topk, .p = f->p, .expert = f->expert,
        .weight = f->weight, .length = s->lengths, .count = s->expert_count, .dweight = f->dweight,
        .balance = s->balance, .dlogits = f->dlogits, .t = s->t);
    linear_backward(s, &f->router, s->h, f->dlogits, dh); /* (N, E) -> (N, C) */
}

/* drows (M, C) to dgate_up (M, 2 F). What forward leaves in activated is weighed already. */
static void give_back(const struct batch *s, const struct moe *f)
{
    activate(s, f);
    multiply_back(s, f, &f->down, NULL, f->drows, f->dactivated); /* (M, C) -> (M, F) */
    weigh(s, f, f->dactivated, f->dweight_here);
    multiply_back(s, f, &f->down, f->activated, f->drows, NULL);
    activate_back(s, f); /* (M, F) -> (M, 2 F) */
}

static void moe_backward(const struct batch *s, const struct sublayer *u, bool again, bool below)
{
    const struct moe *f = &u->moe;
    (void)again;
    gather(s, f, s->dx, f->drows);
    if (rows_here(s, f))
        give_back(s, f);
    if (f->up.dw)
        gather(s, f, s->h, f->rows);
    if (rows_here(s, f))
        multiply_back(s, f, &f->up, f->rows, f->dgate_up, below ? f->drows : NULL); /* (M, C) */
    gather_dweight(s, f);
    route_back(s, f, below ? s->dh : NULL);
    if (below)
        add_up(s, f, f->drows, s->dh);
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
