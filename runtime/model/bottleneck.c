/*
 * bottleneck: two products with biases and what stands between them. How they meet the residual and
 * the norm is runtime/model/sublayer.c's.
 */
#include "runtime/model/bottleneck.h"

#include "runtime/model/gemm.h"
#include "runtime/model/internal.h"

/* -- tensors -- */

/* The matrix of a sub-layer behind whose output the adapter stands. */
static enum tensor_role last_matrix(enum tensor_role norm)
{
    return norm == TENSOR_NORM_ATTENTION ? TENSOR_O : TENSOR_DOWN;
}

static bool has_adapter(const struct model_conf *c, enum tensor_role norm)
{
    return c->adapter_size && (c->adapter_kind == ADAPTER_HOULSBY || norm == TENSOR_NORM_FFN);
}

static int add_one(struct tensors *t, const struct model_config *c, enum tensor_role role,
    enum tensor_part part, int layer, int64_t rows, int64_t columns, struct err *e)
{
    struct tensor x = {.role = role,
        .part = part,
        .layer = layer,
        .expert = -1,
        .dims = columns > 0 ? 2 : 1,
        .shape = {rows, columns > 0 ? columns : 1}};
    return tensors_add(t, c, &x, false, e);
}

/* The two matrices, or the two biases, of each adapter. */
static int add_parts(struct tensors *t, const struct model_conf *c, bool biases, struct err *e)
{
    static const enum tensor_role norms[] = {TENSOR_NORM_ATTENTION, TENSOR_NORM_FFN};
    int64_t r = c->adapter_size, dim = c->config.dim;
    int rc = 0;
    for (int l = 0; l < c->config.layers; l++)
        for (int i = 0; i < 2 && !rc; i++) {
            enum tensor_role role = last_matrix(norms[i]);
            if (!has_adapter(c, norms[i]))
                continue;
            if (biases)
                rc = add_one(t, &c->config, role, TENSOR_ADAPTER_DOWN_BIAS, l, r, 0, e);
            else
                rc = add_one(t, &c->config, role, TENSOR_ADAPTER_DOWN, l, r, dim, e);
            if (!rc && biases)
                rc = add_one(t, &c->config, role, TENSOR_ADAPTER_UP_BIAS, l, dim, 0, e);
            else if (!rc)
                rc = add_one(t, &c->config, role, TENSOR_ADAPTER_UP, l, dim, r, e);
        }
    return rc;
}

int bottleneck_tensors(const struct model_conf *c, struct tensors *out, struct err *e)
{
    struct tensors t = {0};
    int rc;
    if (c->config.experts)
        return err_set(e, ERR_USER,
            "spec.train.method: Adapter is not for mixtures of experts, and spec.model is a %s",
            c->config.architecture);
    if ((rc = add_parts(&t, c, false, e)) || (rc = tensors_add_classifier(&t, &c->config, e)) ||
        (rc = add_parts(&t, c, true, e)) || (rc = tensors_seal(&t, &c->config, e))) {
        tensors_done(&t);
        return rc;
    }
    *out = t;
    return 0;
}

static void bind_matrix(struct bottleneck_matrix *x, const struct model *m, enum tensor_role role,
    enum tensor_part part, int64_t layer, float *gradient)
{
    enum tensor_part bias =
        part == TENSOR_ADAPTER_DOWN ? TENSOR_ADAPTER_DOWN_BIAS : TENSOR_ADAPTER_UP_BIAS;
    x->w = model_bind(m, role, part, layer, gradient, &x->dw).data;
    x->bias = model_bind(m, role, bias, layer, gradient, &x->dbias).data;
}

void bottleneck_bind(struct bottleneck *a, const struct model *m, enum tensor_role norm,
    int64_t layer, float *gradient)
{
    const struct model_conf *c = &m->conf;
    enum tensor_role role = last_matrix(norm);
    if (!has_adapter(c, norm))
        return;
    a->r = c->adapter_size;
    a->of_sum = c->adapter_kind == ADAPTER_PFEIFFER;
    a->activation = c->adapter_activation;
    a->down.in = a->up.out = c->config.dim;
    a->down.out = a->up.in = a->r;
    bind_matrix(&a->down, m, role, TENSOR_ADAPTER_DOWN, layer, gradient);
    bind_matrix(&a->up, m, role, TENSOR_ADAPTER_UP, layer, gradient);
    norm_bind(&a->norm, m, norm, layer, NULL);
}

void bottleneck_carve(
    struct bottleneck *a, const struct batch *s, struct carve *kept, struct carve *scratch)
{
    if (!a->r)
        return;
    a->in = carve_tensor(kept, s->n, s->config->dim, s->t);
    if (a->of_sum && s->config->post_norm) {
        a->sum = carve_tensor(kept, s->n, s->config->dim, s->t);
        norm_carve(&a->norm, s, kept);
    }
    a->pre = carve_tensor(kept, s->n, a->r, s->t);
    a->act = carve_tensor(kept, s->n, a->r, s->t);
    if (!s->train || s->frozen)
        return;
    a->dact = carve_tensor(scratch, s->n, a->r, s->t);
    a->din = carve_tensor(scratch, s->n, s->config->dim, s->t);
}

/* -- products -- */

static struct gemm gemm_of(const struct batch *s, const struct bottleneck_matrix *x)
{
    return (struct gemm){.n = s->n,
        .in = x->in,
        .out = x->out,
        .ldx = x->in,
        .ldy = x->out,
        .t = s->t,
        .y_type = s->t,
        .scale = 1,
        .bias = x->bias};
}

static enum op_activation kind_of(const struct bottleneck *a)
{
    return a->activation == ADAPTER_SILU ? OP_SILU : OP_RELU;
}

void bottleneck_forward(const struct batch *s, const struct bottleneck *a, void *z)
{
    struct gemm down = gemm_of(s, &a->down), up = gemm_of(s, &a->up);
    if (a->activation == ADAPTER_GELU) {
        down.act = OP_ACT_GELU_ERF;
        down.pre = a->pre;
        gemm_forward(s, &down, a->in, a->down.w, a->act); /* (N, C) -> (N, r) */
    } else {
        gemm_forward(s, &down, a->in, a->down.w, a->pre);
        OP(s, activate, .count = s->n * a->r, .kind = kind_of(a), .x = a->pre, .y = a->act,
            .t = s->t);
    }
    up.add = true;
    if (z)
        gemm_forward(s, &up, a->act, a->up.w, z); /* (N, r) -> (N, C) */
}

/* dW and dbias of one of them, from dy (N, out) and what it read, x (N, in) */
static void learn(
    const struct batch *s, const struct bottleneck_matrix *m, const void *dy, const void *x)
{
    struct gemm g = gemm_of(s, m);
    gemm_dw(s, &g, dy, x, m->dw);
    OP(s, bias_back, .n = s->n, .c = m->out, .ld = m->out, .dy = dy, .dbias = m->dbias, .t = s->t);
}

void bottleneck_backward(const struct batch *s, const struct bottleneck *a, const void *dz)
{
    struct gemm down = gemm_of(s, &a->down), up = gemm_of(s, &a->up);
    int64_t count = s->n * a->r;
    learn(s, &a->up, dz, a->act);
    gemm_dx(s, &up, dz, a->up.w, a->dact);
    if (a->activation == ADAPTER_GELU)
        OP(s, gelu_back, .count = count, .x = a->pre, .dy = a->dact, .dx = a->dact, .erf = true,
            .t = s->t);
    else
        OP(s, activate_back, .count = count, .kind = kind_of(a), .x = a->pre, .dy = a->dact,
            .dx = a->dact, .t = s->t);
    learn(s, &a->down, a->dact, a->in);
    gemm_dx(s, &down, a->dact, a->down.w, a->din);
}
