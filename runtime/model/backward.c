/*
 * model_backward: from the gradient of the normalised residual back to every gradient. Norm outputs
 * and SwiGLU's product are computed again rather than kept: a pass over memory costs far less than
 * the matrix products, and a layer keeps 5,760 instead of 8,448 numbers a token (SmolLM2-135M).
 * They are computed only where a weight's gradient needs them, so LoRA skips them, the frozen
 * weights' gradients, and all below its first factor. GELU's result is kept: its forward is a
 * product's epilogue.
 *
 * spec.train.recompute goes further (Korthikanti et al., arXiv:2205.05198, whose selective kind
 * drops the scores of attention, which no kernel here ever stores): Selective drops what the
 * feed-forward has between its two products, the largest part of a layer, Full all but a layer's
 * input.
 */
#include "runtime/model/internal.h"

#include "runtime/door/beat.h"

#include <math.h>

static bool needs_input(const struct linear *l)
{
    return l->dw || l->lora.count;
}

/* dx = dy W (dx NULL: not wanted); dW += dy^T x; and the adapters'. */
static void linear_backward(
    struct model *m, const struct linear *l, const void *x, const void *dy, void *dx, int64_t n)
{
    const struct linear_shape *s = &l->shape;
    struct lora_io io = model_lora_io(m, l, n, x);

    if (dx)
        m->ops->matmul(m->dev,
            &(struct op_matmul){.m = n,
                .n = s->in,
                .k = s->out,
                .a = dy,
                .b = l->w,
                .c = dx,
                .lda = s->out,
                .ldb = s->in,
                .ldc = s->in,
                .ab_type = m->act,
                .c_type = m->act,
                .alpha = 1});
    if (l->dw)
        m->ops->matmul(m->dev,
            &(struct op_matmul){.m = s->out,
                .n = s->in,
                .k = n,
                .a = dy,
                .b = x,
                .c = l->dw,
                .lda = s->out,
                .ldb = s->in,
                .ldc = s->in,
                .ta = true,
                .ab_type = m->act,
                .c_type = DTYPE_F32,
                .alpha = 1,
                .beta = 1});
    if (l->dbias)
        m->ops->bias_back(m->dev,
            &(struct op_bias_back){
                .n = n, .c = s->out, .ld = s->out, .dy = dy, .dbias = l->dbias, .t = m->act});
    io.dy = dy;
    io.dx = dx;
    io.du = m->du;
    lora_backward(m->dev, &l->lora, &io);
}

/* m->dx = or += (accumulate) the gradient of a norm's input x, from m->dh of its output. */
static void norm_backward(
    struct model *m, int64_t n, const void *x, const struct norm *w, bool accumulate)
{
    const struct model_config *c = &m->conf.config;

    if (c->norm == NORM_RMS)
        m->ops->rmsnorm_back(m->dev,
            &(struct op_rmsnorm){.n = n,
                .c = c->dim,
                .eps = c->norm_eps,
                .x = x,
                .w = w->w,
                .rstd = w->rstd,
                .dy = m->dh,
                .dx = m->dx,
                .dw = w->dw,
                .accumulate = accumulate,
                .t = m->act});
    else
        m->ops->layernorm_back(m->dev,
            &(struct op_layernorm){.n = n,
                .c = c->dim,
                .eps = c->norm_eps,
                .x = x,
                .w = w->w,
                .bias = w->bias,
                .mean = w->mean,
                .rstd = w->rstd,
                .dy = m->dh,
                .dx = m->dx,
                .dw = w->dw,
                .dbias = w->dbias,
                .accumulate = accumulate,
                .t = m->act});
}

/* Forward: l->activated; backward: m->dgu from m->dactivated. */
static struct op_swiglu swiglu(struct model *m, struct layer *l, int64_t n)
{
    int64_t f = m->conf.config.ffn_dim;

    return (struct op_swiglu){.n = n,
        .f = f,
        .ld = 2 * f,
        .gate = l->gu,
        .up = at_element(l->gu, f, m->act),
        .y = l->activated,
        .dy = m->dactivated,
        .dgate = m->dgu,
        .dup = at_element(m->dgu, f, m->act),
        .t = m->act};
}

/* again: what is computed again rather than kept has just been. */
static void ffn_backward(struct model *m, struct layer *l, int64_t n, bool again)
{
    struct linear *gate_up = &l->linear[LINEAR_GATE_UP], *down = &l->linear[LINEAR_DOWN];
    bool gated = m->conf.config.activation == ACTIVATION_SWIGLU;
    struct op_swiglu o = swiglu(m, l, n);

    if (gated && needs_input(down) && !again)
        m->ops->swiglu(m->dev, &o);
    linear_backward(m, down, l->activated, m->dx, m->dactivated, n);
    if (gated)
        m->ops->swiglu_back(m->dev, &o);
    else
        m->ops->gelu_back(m->dev,
            &(struct op_gelu_back){.count = n * m->conf.config.ffn_dim,
                .x = l->gu,
                .dy = m->dactivated,
                .dx = m->dgu,
                .t = m->act});
    if (needs_input(gate_up) && !again)
        model_norm(m, n, l->x_mid, &l->norm[1]);
    linear_backward(m, gate_up, m->h, m->dgu, m->dh, n);
    norm_backward(m, n, l->x_mid, &l->norm[1], true);
}

static void rope_backward(struct model *m, int64_t n, int64_t heads, void *dx, int64_t ld)
{
    m->ops->rope(m->dev,
        &(struct op_rope){.n = n,
            .heads = heads,
            .d = m->conf.config.head_dim,
            .ld = ld,
            .x = dx,
            .position = m->position,
            .theta = m->conf.config.rope_theta,
            .inverse = true,
            .t = m->act});
}

static void attention_backward(struct model *m, struct layer *l, const struct batch *s)
{
    const struct model_config *c = &m->conf.config;
    const struct linear_shape *shape = &l->linear[LINEAR_QKV].shape;
    int64_t n = s->b * s->tokens, ld = shape->out;
    int64_t k = shape->rows[0], v = shape->rows[0] + shape->rows[1];

    m->ops->attention_back(m->dev,
        &(struct op_attention){.b = s->b,
            .tokens = s->tokens,
            .h = c->heads,
            .g = c->kv_heads,
            .d = c->head_dim,
            .scale = 1 / sqrtf((float)c->head_dim),
            .q = l->qkv,
            .k = at_element(l->qkv, k, m->act),
            .v = at_element(l->qkv, v, m->act),
            .ldq = ld,
            .ldk = ld,
            .ldv = ld,
            .o = l->att,
            .lse = l->lse,
            .dout = m->datt,
            .dq = m->dqkv,
            .dk = at_element(m->dqkv, k, m->act),
            .dv = at_element(m->dqkv, v, m->act),
            .t = m->act});
    if (c->positions != POSITIONS_ROTARY)
        return;
    rope_backward(m, n, c->heads, m->dqkv, ld);
    rope_backward(m, n, c->kv_heads, at_element(m->dqkv, k, m->act), ld);
}

/* m->dx: the gradient of the layer's output becomes that of its input. last: nothing below is
 * trained. */
static void layer_backward(struct model *m, int64_t layer, const struct batch *s, bool last)
{
    struct layer *l = &m->layers[layer];
    struct linear *qkv = &l->linear[LINEAR_QKV];
    int64_t n = s->b * s->tokens;

    ffn_backward(m, l, n, model_recompute(m, layer, s));
    linear_backward(m, &l->linear[LINEAR_O], l->att, m->dx, m->datt, n);
    if (last && !needs_input(qkv))
        return;
    attention_backward(m, l, s);
    if (needs_input(qkv))
        model_norm(m, n, l->x_in, &l->norm[0]);
    linear_backward(m, qkv, m->h, m->dqkv, last ? NULL : m->dh, n);
    if (!last)
        norm_backward(m, n, l->x_in, &l->norm[0], true);
}

/* The matrices of a layer stand together; the small rest of it ends with the embedding. */
static void tell_ready(struct model *m, int64_t layer)
{
    const struct tensor *first = tensors_get(&m->base, TENSOR_Q, TENSOR_WEIGHT, layer, -1);
    const struct tensor *last = tensors_get(&m->base, TENSOR_DOWN, TENSOR_WEIGHT, layer, -1);
    if (m->ready_fn && !m->conf.lora_rank)
        m->ready_fn(m->ready_user, first->offset, last[1].offset - first->offset);
}

static void embed_backward(struct model *m, int64_t n)
{
    const struct model_config *c = &m->conf.config;
    struct op_embed o = {.n = n,
        .c = c->dim,
        .v = c->vocab,
        .ids = m->ids,
        .dout = m->dx,
        .dtable = m->dembed,
        .t = m->act};

    m->ops->embed_back(m->dev, &o);
    if (c->positions != POSITIONS_LEARNED)
        return;
    o.v = c->context;
    o.ids = m->position;
    o.dtable = m->dpositions;
    m->ops->embed_back(m->dev, &o);
}

void model_backward(struct model *m, const struct batch *s)
{
    const struct model_config *c = &m->conf.config;
    int64_t n = s->b * s->tokens;

    norm_backward(m, n, m->x_out, &m->final, false);
    for (int64_t i = c->layers - 1; i >= 0; i--) {
        layer_backward(m, i, s, i == 0 && !m->dembed);
        tell_ready(m, i);
        beat(m->conf.page);
    }
    if (m->dembed)
        embed_backward(m, n);
}
