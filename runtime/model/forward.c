/*
 * model_forward: ids to the normalised residual and to logits, for training and serving alike, as
 * the configuration describes the model. Training and serving differ in how a product is made (one
 * joined matrix, or stored blocks) and in attention (a whole batch, or against the cache). Pre-norm
 * residuals; RoFormer's rotary positions in half layout and SwiGLU (Llama, arXiv:2302.13971), or
 * learned positions and GELU (GPT-2). Only enqueues device work: no allocation, no wait, no host
 * access to device memory.
 */
#include "runtime/model/internal.h"

#include "runtime/door/beat.h"

#include <math.h>

/* From this many rows on, decoding a matrix once and using the full product beats the row-wise
 * kernel. */
#define DECODED_PRODUCT_ROWS 8

void model_norm(struct model *m, int64_t n, const void *x, const struct norm *w)
{
    const struct model_config *c = &m->conf.config;

    if (c->norm == NORM_RMS)
        m->ops->rmsnorm(m->dev,
            &(struct op_rmsnorm){.n = n,
                .c = c->dim,
                .eps = c->norm_eps,
                .x = x,
                .w = w->w,
                .y = m->h,
                .rstd = w->rstd,
                .t = m->act});
    else
        m->ops->layernorm(m->dev,
            &(struct op_layernorm){.n = n,
                .c = c->dim,
                .eps = c->norm_eps,
                .x = x,
                .w = w->w,
                .bias = w->bias,
                .y = m->h,
                .mean = w->mean,
                .rstd = w->rstd,
                .t = m->act});
}

static void convert(
    struct model *m, int64_t count, const void *x, enum dtype from, void *y, enum dtype to)
{
    m->ops->convert(m->dev, &(struct op_convert){count, x, from, y, to});
}

void model_stored_product(struct model *m, const struct stored *w, const float *x, float *y,
    int64_t n, int64_t in, int64_t out)
{
    struct op_matmul o = {.m = n,
        .n = out,
        .k = in,
        .a = x,
        .b = w->data,
        .c = y,
        .lda = in,
        .ldb = in,
        .ldc = out,
        .tb = true,
        .ab_type = DTYPE_F32,
        .c_type = DTYPE_F32,
        .alpha = 1};

    if (n < DECODED_PRODUCT_ROWS || !m->decoded) {
        m->ops->quant_matmul(m->dev,
            &(struct op_quant_matmul){
                .m = n, .n = out, .k = in, .x = x, .w = w->data, .w_type = w->type, .y = y});
        return;
    }
    if (w->type != DTYPE_F32 && w->type != DTYPE_BF16) {
        convert(m, out * in, w->data, w->type, m->decoded, DTYPE_F32);
        o.b = m->decoded;
    }
    if (m->conf.t == DTYPE_BF16) {
        if (w->type != DTYPE_BF16) {
            convert(m, out * in, o.b, DTYPE_F32, m->decoded16, DTYPE_BF16);
            o.b = m->decoded16;
        }
        convert(m, n * in, x, DTYPE_F32, m->x16, DTYPE_BF16);
        o.a = m->x16;
        o.ab_type = DTYPE_BF16;
    } else if (w->type == DTYPE_BF16) {
        convert(m, out * in, w->data, DTYPE_BF16, m->decoded, DTYPE_F32);
        o.b = m->decoded;
    }
    m->ops->matmul(m->dev, &o);
}

/* y (n, out) = act(y + bias): a product of nothing, for what comes with no epilogue of its own. */
static void finish(
    struct model *m, int64_t n, int64_t out, const void *bias, enum op_act act, float *y)
{
    if (bias || act != OP_ACT_NONE)
        m->ops->matmul(m->dev,
            &(struct op_matmul){.m = n,
                .n = out,
                .k = 1,
                .a = m->zeros,
                .b = m->zeros,
                .c = y,
                .lda = 1,
                .ldb = out,
                .ldc = out,
                .ab_type = DTYPE_F32,
                .c_type = DTYPE_F32,
                .alpha = 1,
                .beta = 1,
                .bias = bias,
                .act = act});
}

static void linear_serve(struct model *m, const struct linear *l, const float *x, float *y,
    int64_t n, bool add, enum op_act act)
{
    const struct linear_shape *s = &l->shape;
    float *to = add ? m->sum : y;
    int64_t row = 0;

    for (int i = 0; i < s->pieces; row += s->rows[i++]) {
        model_stored_product(m, &l->stored[i], x, to + n * row, n, s->in, s->rows[i]);
        finish(m, n, s->rows[i], l->bias[i], act, to + n * row);
    }
    if (add)
        m->ops->axpby(m->dev,
            &(struct op_axpby){.count = n * s->out,
                .x = to,
                .x_type = DTYPE_F32,
                .y = y,
                .y_type = DTYPE_F32,
                .a = 1,
                .b = 1});
}

/* y = x W^T + bias, or y += when add. pre not NULL: y = GELU of that, and pre receives it (in
   training); adapters count before GELU, so theirs is the first product then. */
static void linear_forward(
    struct model *m, const struct linear *l, const void *x, void *y, int64_t n, bool add, void *pre)
{
    const struct linear_shape *s = &l->shape;
    struct lora_io io = model_lora_io(m, l, n, x);

    io.y = y;
    io.set = pre;
    if (pre)
        lora_forward(m->dev, &l->lora, &io);
    m->ops->matmul(m->dev,
        &(struct op_matmul){.m = n,
            .n = s->out,
            .k = s->in,
            .a = x,
            .b = l->w,
            .c = y,
            .lda = s->in,
            .ldb = s->in,
            .ldc = s->out,
            .tb = true,
            .ab_type = m->act,
            .c_type = m->act,
            .alpha = 1,
            .beta = add || (pre && l->lora.count) ? 1 : 0,
            .bias = l->bias[0],
            .act = pre ? OP_ACT_GELU : OP_ACT_NONE,
            .pre = pre});
    if (!pre)
        lora_forward(m->dev, &l->lora, &io);
}

static void linear(
    struct model *m, const struct linear *l, const void *x, void *y, int64_t n, bool add)
{
    if (m->conf.train)
        linear_forward(m, l, x, y, n, add, NULL);
    else
        linear_serve(m, l, x, y, n, add, OP_ACT_NONE);
}

/* Piece i of a product of n rows: where its first row starts; *ld elements to the next. */
static void *piece(
    const struct model *m, const struct linear_shape *s, void *y, int64_t n, int i, int64_t *ld)
{
    int64_t row = 0;

    for (int j = 0; j < i; j++)
        row += s->rows[j];
    *ld = m->conf.train ? s->out : s->rows[i];
    return at_element(y, m->conf.train ? row : n * row, m->act);
}

static void attention_cached(struct model *m, int64_t layer, const struct batch *s, const void *q)
{
    const struct model_config *c = &m->conf.config;

    m->ops->attention_decode(m->dev,
        &(struct op_attention_decode){.n = s->tokens,
            .h = c->heads,
            .g = c->kv_heads,
            .d = c->head_dim,
            .scale = 1 / sqrtf((float)c->head_dim),
            .q = q,
            .k_cache = kvcache_keys(m->cache, layer),
            .v_cache = kvcache_values(m->cache, layer),
            .sequence_stride = 0, /* one sequence */
            .length = s->length,
            .o = m->layers[layer].att,
            .kv_type = kvcache_type(m->cache)});
}

static void rope(struct model *m, const struct batch *s, int64_t heads, void *x, int64_t ld)
{
    const struct model_config *c = &m->conf.config;

    m->ops->rope(m->dev,
        &(struct op_rope){.n = s->b * s->tokens,
            .heads = heads,
            .d = c->head_dim,
            .ld = ld,
            .x = x,
            .position = s->position,
            .theta = c->rope_theta,
            .t = m->act});
}

static void attention(struct model *m, int64_t layer, const struct batch *s)
{
    const struct model_config *c = &m->conf.config;
    struct layer *l = &m->layers[layer];
    const struct linear_shape *shape = &l->linear[LINEAR_QKV].shape;
    int64_t n = s->b * s->tokens, ldq, ldk, ldv;
    void *q = piece(m, shape, l->qkv, n, 0, &ldq);
    void *k = piece(m, shape, l->qkv, n, 1, &ldk);
    void *v = piece(m, shape, l->qkv, n, 2, &ldv);

    if (c->positions == POSITIONS_ROTARY) {
        rope(m, s, c->heads, q, ldq);
        rope(m, s, c->kv_heads, k, ldk);
    }
    if (!m->conf.train) {
        kvcache_store(m->cache, layer, s->position, n, k, v);
        if (s->cached) {
            attention_cached(m, layer, s, q);
            return;
        }
    }
    m->ops->attention(m->dev,
        &(struct op_attention){.b = s->b,
            .tokens = s->tokens,
            .h = c->heads,
            .g = c->kv_heads,
            .d = c->head_dim,
            .scale = 1 / sqrtf((float)c->head_dim),
            .q = q,
            .k = k,
            .v = v,
            .ldq = ldq,
            .ldk = ldk,
            .ldv = ldv,
            .o = l->att,
            .lse = l->lse,
            .t = m->act});
}

static void copy_rows(struct model *m, void *to, const void *from, int64_t n)
{
    if (to != from)
        dev_copy(m->dev, to, from, (size_t)(n * m->conf.config.dim * dtype_block_bytes(m->act)));
}

/* m->h -> l->activated */
static void activate(struct model *m, struct layer *l, int64_t n)
{
    const struct linear *gate_up = &l->linear[LINEAR_GATE_UP];
    int64_t ldg, ldu;

    if (m->conf.config.activation == ACTIVATION_GELU) {
        if (m->conf.train)
            linear_forward(m, gate_up, m->h, l->activated, n, false, l->gu);
        else
            linear_serve(m, gate_up, m->h, l->activated, n, false, OP_ACT_GELU);
        return;
    }
    void *gate = piece(m, &gate_up->shape, l->gu, n, 0, &ldg);
    void *up = piece(m, &gate_up->shape, l->gu, n, 1, &ldu);
    linear(m, gate_up, m->h, l->gu, n, false);
    m->ops->swiglu(m->dev,
        &(struct op_swiglu){.n = n,
            .f = m->conf.config.ffn_dim,
            .ld = ldg,
            .gate = gate,
            .up = up,
            .y = l->activated,
            .t = m->act});
}

/* x_in -> qkv, att, x_mid */
static void attention_half(struct model *m, int64_t layer, const struct batch *s)
{
    struct layer *l = &m->layers[layer];
    int64_t n = s->b * s->tokens;

    model_norm(m, n, l->x_in, &l->norm[0]);
    linear(m, &l->linear[LINEAR_QKV], m->h, l->qkv, n, false);
    attention(m, layer, s);
    copy_rows(m, l->x_mid, l->x_in, n);
    linear(m, &l->linear[LINEAR_O], l->att, l->x_mid, n, true);
}

/* x_mid -> gu, activated */
static void feed_forward_half(struct model *m, struct layer *l, int64_t n)
{
    model_norm(m, n, l->x_mid, &l->norm[1]);
    activate(m, l, n);
}

static void layer_forward(struct model *m, int64_t layer, const struct batch *s, void *x_out)
{
    struct layer *l = &m->layers[layer];
    int64_t n = s->b * s->tokens;

    attention_half(m, layer, s);
    feed_forward_half(m, l, n);
    copy_rows(m, x_out, l->x_mid, n);
    linear(m, &l->linear[LINEAR_DOWN], l->activated, x_out, n, true);
    beat(m->conf.page);
}

bool model_recompute(struct model *m, int64_t layer, const struct batch *s)
{
    struct layer *l = &m->layers[layer];
    const struct linear *down = &l->linear[LINEAR_DOWN];
    int64_t n = s->b * s->tokens;

    /* The last layer's still stand in the blocks that all share. */
    if (m->conf.recompute == RECOMPUTE_NONE || layer == m->conf.config.layers - 1)
        return false;
    if (m->conf.recompute == RECOMPUTE_FULL)
        attention_half(m, layer, s);
    feed_forward_half(m, l, n);
    if (m->conf.recompute == RECOMPUTE_FULL) { /* of the last product only this */
        struct lora_io io = model_lora_io(m, down, n, l->activated);

        lora_project(m->dev, &down->lora, &io);
    }
    return true;
}

static void embed(struct model *m, const struct batch *s)
{
    const struct model_config *c = &m->conf.config;
    int64_t n = s->b * s->tokens;
    struct op_embed o = {.n = n,
        .c = c->dim,
        .v = c->vocab,
        .ids = s->ids,
        .table = m->embed,
        .table_type = m->act,
        .out = m->layers[0].x_in,
        .t = m->act};

    if (!m->conf.train) {
        o.table = m->stored_embed.data;
        o.table_type = m->stored_embed.type;
    }
    m->ops->embed(m->dev, &o);
    if (c->positions != POSITIONS_LEARNED)
        return;
    o.v = c->context;
    o.ids = s->position;
    o.table = m->positions;
    o.table_type = m->act;
    o.accumulate = true;
    m->ops->embed(m->dev, &o);
}

void model_forward(struct model *m, const struct batch *s)
{
    const struct model_config *c = &m->conf.config;

    embed(m, s);
    for (int64_t i = 0; i < c->layers; i++)
        layer_forward(m, i, s, i + 1 < c->layers ? m->layers[i + 1].x_in : m->x_out);
    model_norm(m, s->b * s->tokens, m->x_out, &m->final);
}

void model_logits(struct model *m, int64_t row, int64_t n)
{
    const struct model_config *c = &m->conf.config;

    m->ops->quant_matmul(m->dev,
        &(struct op_quant_matmul){.m = n,
            .n = c->vocab,
            .k = c->dim,
            .x = at_element(m->h, row * c->dim, m->act),
            .w = m->stored_head.data,
            .w_type = m->stored_head.type,
            .y = m->logits});
}

static void logits_backward(struct model *m, int64_t row, int64_t n)
{
    const struct model_config *c = &m->conf.config;
    const void *dlogits = m->act == DTYPE_BF16 ? m->logits16 : (void *)m->logits;

    m->ops->matmul(m->dev,
        &(struct op_matmul){.m = n,
            .n = c->dim,
            .k = c->vocab,
            .a = dlogits,
            .b = m->head,
            .c = at_element(m->dh, row * c->dim, m->act),
            .lda = m->logit_columns,
            .ldb = c->dim,
            .ldc = c->dim,
            .ab_type = m->act,
            .c_type = m->act,
            .alpha = 1});
    if (!m->dhead)
        return;
    m->ops->matmul(m->dev,
        &(struct op_matmul){.m = c->vocab,
            .n = c->dim,
            .k = n,
            .a = dlogits,
            .b = at_element(m->h, row * c->dim, m->act),
            .c = m->dhead,
            .lda = m->logit_columns,
            .ldb = c->dim,
            .ldc = c->dim,
            .ta = true,
            .ab_type = m->act,
            .c_type = DTYPE_F32,
            .alpha = 1,
            .beta = 1});
}

void model_head(struct model *m, int64_t n, float scale, bool backward)
{
    const struct model_config *c = &m->conf.config;

    for (int64_t row = 0; row < n; row += m->logit_rows) {
        int64_t rows = n - row < m->logit_rows ? n - row : m->logit_rows;

        /* Logits in F32 whatever the compute type: 8 bits of BF16 would be lost in the
         * loss. */
        m->ops->matmul(m->dev,
            &(struct op_matmul){.m = rows,
                .n = c->vocab,
                .k = c->dim,
                .a = at_element(m->h, row * c->dim, m->act),
                .b = m->head,
                .c = m->logits,
                .lda = c->dim,
                .ldb = c->dim,
                .ldc = m->logit_columns,
                .tb = true,
                .ab_type = m->act,
                .c_type = DTYPE_F32,
                .alpha = 1});
        m->ops->xent(m->dev,
            &(struct op_xent){.n = rows,
                .v = c->vocab,
                .ld = m->logit_columns,
                .logits = m->logits,
                .target = m->targets + row,
                .loss = m->loss + row,
                .scale = scale,
                .backward = backward,
                .gradient16 = m->logits16,
                .t = DTYPE_F32});
        if (backward)
            logits_backward(m, row, rows);
        beat(m->conf.page);
    }
}
