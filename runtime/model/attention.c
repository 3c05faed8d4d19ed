/*
 * attention: the scores are never in memory (kernels/ops.h); backward makes them again from q, k
 * and the log-sum-exp.
 */
#include "runtime/model/attention.h"

#include "runtime/model/kvcache.h"
#include "runtime/model/sublayer.h"

#include <math.h>

static void attention_bind(struct sublayer *u, const struct model *m, float *gradient)
{
    linear_bind(&u->attention.w_qkv, m, LINEAR_QKV, u->layer, gradient);
    linear_bind(&u->attention.w_o, m, LINEAR_O, u->layer, gradient);
    norm_bind(&u->attention.norm_q, m, TENSOR_NORM_Q, u->layer, gradient);
    norm_bind(&u->attention.norm_k, m, TENSOR_NORM_K, u->layer, gradient);
    u->attention.dropout = dropout_bind(m, TENSOR_Q, u->layer);
}

static void attention_carve(
    struct sublayer *u, const struct batch *s, struct carve *kept, struct carve *scratch)
{
    struct attention *a = &u->attention;
    const struct model_config *c = s->config;
    int64_t qk = (c->heads + c->kv_heads) * c->head_dim;
    a->qkv = carve_tensor(kept, s->n, a->w_qkv.shape.out, s->t);
    if (c->qk_norm) {
        a->qk = carve_tensor(kept, s->n, qk, s->t);
        norm_carve_heads(&a->norm_q, s, c->heads, kept);
        norm_carve_heads(&a->norm_k, s, c->kv_heads, kept);
    }
    a->att = carve_tensor(kept, s->n, a->w_o.shape.in, s->t);
    a->lse = carve_tensor(kept, s->n, c->heads, DTYPE_F32);
    if (s->train) {
        a->datt = carve_tensor(scratch, s->n, a->w_o.shape.in, s->t);
        a->dqkv = carve_tensor(scratch, s->n, a->w_qkv.shape.out, s->t);
        if (c->qk_norm)
            a->dqk = carve_tensor(scratch, s->n, qk, s->t);
        context_carve_keys(&a->all, s, scratch);
    }
    linear_carve(&a->w_qkv, s, kept, scratch);
    linear_carve(&a->w_o, s, kept, scratch);
}

/* q (0), k (1) or v (2) as attention reads them, or their gradients: in a product of w_qkv, or q
   and k in what stands behind their norms. */
static struct columns piece_of(
    const struct batch *s, const struct attention *a, void *qkv, void *qk, int i)
{
    int64_t q = s->config->heads * s->config->head_dim;
    int64_t k = s->config->kv_heads * s->config->head_dim;
    if (!qk || i == 2)
        return linear_piece(s, &a->w_qkv, qkv, i);
    if (s->train)
        return (struct columns){at_element(qk, i ? q : 0, s->t), q + k};
    return (struct columns){at_element(qk, i ? s->n * q : 0, s->t), i ? k : q};
}

/* Rotates q and k in place, or turns their gradients back. */
static void rotate(const struct batch *s, struct columns q, struct columns k, bool inverse)
{
    const struct model_config *c = s->config;
    if (c->positions != POSITIONS_ROTARY)
        return;
    OP(s, rope, .n = s->n, .heads = c->heads, .d = c->head_dim, .ld = q.ld, .x = q.at,
        .position = s->position, .theta = c->rope_theta, .scaling = c->rope_scaling,
        .inverse = inverse, .t = s->t);
    OP(s, rope, .n = s->n, .heads = c->kv_heads, .d = c->head_dim, .ld = k.ld, .x = k.at,
        .position = s->position, .theta = c->rope_theta, .scaling = c->rope_scaling,
        .inverse = inverse, .t = s->t);
}

/* Forward of the queries of chunk `half` of sequence i, which backward adds to. */
static struct op_attention chunk_of(
    const struct batch *s, const struct attention *a, struct columns q, int64_t i, int half)
{
    const struct model_config *c = s->config;
    int64_t tokens = s->tokens / 2, row = i * s->tokens + half * tokens;
    int64_t width = c->kv_heads * c->head_dim, ld = 2 * width;
    void *keys = at_element(a->all.whole, i * s->tokens * s->context->size * ld, s->t);
    return (struct op_attention){.b = 1,
        .tokens = tokens,
        .before = context_chunk(s->context->size, s->context->rank, half) * tokens,
        .h = c->heads,
        .g = c->kv_heads,
        .d = c->head_dim,
        .scale = 1 / sqrtf((float)c->head_dim),
        .q = at_element(q.at, row * q.ld, s->t),
        .k = keys,
        .v = at_element(keys, width, s->t),
        .ldq = q.ld,
        .ldk = ld,
        .ldv = ld,
        .o = at_element(a->att, row * c->heads * c->head_dim, s->t),
        .lse = a->lse + row * c->heads,
        .first = s->sees_from ? s->sees_from + row : NULL,
        .drop = dropout_of_attention(s, &a->dropout, i),
        .t = s->t};
}

/* As attend, of tokens that other ranks have too. */
static void attend_chunks(const struct batch *s, const struct attention *a, struct columns q,
    struct columns k, struct columns v)
{
    context_gather(s, &a->all, k, v);
    for (int64_t i = 0; i < s->b; i++)
        for (int half = 0; half < 2; half++) {
            const struct op_attention op = chunk_of(s, a, q, i, half);
            dev_ops(s->dev)->attention(s->dev, &op);
        }
}

/* Its gradients; dk and dv of the first chunk, which are of fewer keys, are added to those of the
   second. */
static void chunks_back(const struct batch *s, const struct attention *a, struct columns q,
    struct columns k, struct columns v, struct columns dq, struct columns dk, struct columns dv)
{
    int64_t width = s->config->kv_heads * s->config->head_dim, ld = 2 * width;
    int64_t out = s->config->heads * s->config->head_dim, whole = s->tokens * s->context->size * ld;
    context_gather(s, &a->all, k, v);
    dev_zero(s->dev, a->all.gathered, (size_t)(s->b * whole * dtype_block_bytes(s->t)));
    for (int64_t i = 0; i < s->b; i++)
        for (int half = 1; half >= 0; half--) {
            void *sum = at_element(a->all.gathered, i * whole, s->t);
            void *into = half ? sum : a->all.part;
            struct op_attention op = chunk_of(s, a, q, i, half);
            int64_t row = i * s->tokens + half * op.tokens;
            op.dout = at_element(a->datt, row * out, s->t);
            op.dq = at_element(dq.at, row * dq.ld, s->t);
            op.dk = into;
            op.dv = at_element(into, width, s->t);
            dev_ops(s->dev)->attention_back(s->dev, &op);
            if (!half)
                OP(s, axpby, .count = (op.before + op.tokens) * ld, .x = into, .x_type = s->t,
                    .y = sum, .y_type = s->t, .a = 1, .b = 1);
        }
    context_scatter(s, &a->all, dk, dv);
}

/* Among the layers that this rank has; who serves has them in one run. */
static int64_t here(const struct batch *s, const struct sublayer *u)
{
    return u->layer - s->config->share.first_layer;
}

/* As attend, of texts of their own lengths, each by itself. */
static void attend_texts(const struct batch *s, const struct attention *a, struct columns q,
    struct columns k, struct columns v)
{
    const struct model_config *c = s->config;
    for (int64_t i = 0; i < s->texts; i++) {
        int64_t row = s->begins[i];
        OP(s, attention, .b = 1, .tokens = s->begins[i + 1] - row, .h = c->heads, .g = c->kv_heads,
            .d = c->head_dim, .scale = 1 / sqrtf((float)c->head_dim),
            .q = at_element(q.at, row * q.ld, s->t), .k = at_element(k.at, row * k.ld, s->t),
            .v = at_element(v.at, row * v.ld, s->t), .ldq = q.ld, .ldk = k.ld, .ldv = v.ld,
            .o = at_element(a->att, row * c->heads * c->head_dim, s->t),
            .lse = a->lse + row * c->heads, .bidirectional = c->bidirectional,
            .first = s->sees_from ? s->sees_from + row : NULL, .t = s->t);
    }
}

/* att (N, H D) = softmax(q k^T / sqrt(D)) v, by head, of the tokens that each sees. */
static void attend(const struct batch *s, const struct sublayer *u, struct columns q,
    struct columns k, struct columns v)
{
    const struct model_config *c = s->config;
    float scale = 1 / sqrtf((float)c->head_dim);
    if (u->attention.all.whole)
        attend_chunks(s, &u->attention, q, k, v);
    else if (s->begins)
        attend_texts(s, &u->attention, q, k, v);
    else if (s->cached)
        OP(s, attention_decode, .n = s->n, .h = c->heads, .g = c->kv_heads, .d = c->head_dim,
            .scale = scale, .q = q.at, .k_cache = kvcache_keys(s->cache, here(s, u)),
            .v_cache = kvcache_values(s->cache, here(s, u)), .length = s->length,
            .window = c->window, .o = u->attention.att, .pages = s->rows.pages,
            .pages_ld = s->rows.ld, .page_tokens = KVCACHE_PAGE, .kv_type = kvcache_type(s->cache));
    else
        OP(s, attention, .b = s->b, .tokens = s->tokens, .h = c->heads, .g = c->kv_heads,
            .d = c->head_dim, .scale = scale, .q = q.at, .k = k.at, .v = v.at, .ldq = q.ld,
            .ldk = k.ld, .ldv = v.ld, .o = u->attention.att, .lse = u->attention.lse,
            .bidirectional = c->bidirectional, .length = s->lengths, .first = s->sees_from,
            .drop = dropout_of_attention(s, &u->attention.dropout, 0), .t = s->t);
}

/* From qkv to qk, through the norms of heads. */
static void heads_forward(const struct batch *s, const struct attention *a)
{
    const struct norm *norms[] = {&a->norm_q, &a->norm_k};
    const int64_t heads[] = {s->config->heads, s->config->kv_heads};
    for (int i = 0; i < 2; i++)
        norm_forward_heads(s, norms[i], heads[i], linear_piece(s, &a->w_qkv, a->qkv, i),
            piece_of(s, a, a->qkv, a->qk, i));
}

static void attention_forward(const struct batch *s, const struct sublayer *u, void *y)
{
    const struct attention *a = &u->attention;
    struct columns q = piece_of(s, a, a->qkv, a->qk, 0); /* (N, H D) */
    struct columns k = piece_of(s, a, a->qkv, a->qk, 1); /* (N, G D) */
    struct columns v = piece_of(s, a, a->qkv, a->qk, 2); /* (N, G D) */
    linear_forward(s, &a->w_qkv, s->h, a->qkv);          /* (N, C) -> (N, (H + 2 G) D) */
    if (a->qk)
        heads_forward(s, a);
    rotate(s, q, k, false);
    if (s->cache)
        kvcache_store(s->cache, here(s, u), &s->rows, s->n, k.at, v.at);
    attend(s, u, q, k, v);
    if (y)
        linear_add(s, &a->w_o, a->att, y); /* (N, H D) -> (N, C) */
    else
        linear_project(s, &a->w_o, a->att);
}

/* From dqk to dqkv, through the norms of heads. */
static void heads_backward(const struct batch *s, const struct attention *a)
{
    const struct norm *norms[] = {&a->norm_q, &a->norm_k};
    const int64_t heads[] = {s->config->heads, s->config->kv_heads};
    for (int i = 0; i < 2; i++)
        norm_backward_heads(s, norms[i], heads[i], linear_piece(s, &a->w_qkv, a->qkv, i),
            piece_of(s, a, a->dqkv, a->dqk, i), linear_piece(s, &a->w_qkv, a->dqkv, i));
}

static void attend_back(const struct batch *s, const struct attention *a, struct columns q,
    struct columns k, struct columns v, struct columns dq, struct columns dk, struct columns dv)
{
    const struct model_config *c = s->config;
    if (a->all.whole) {
        chunks_back(s, a, q, k, v, dq, dk, dv);
        return;
    }
    OP(s, attention_back, .b = s->b, .tokens = s->tokens, .h = c->heads, .g = c->kv_heads,
        .d = c->head_dim, .scale = 1 / sqrtf((float)c->head_dim), .q = q.at, .k = k.at, .v = v.at,
        .ldq = q.ld, .ldk = k.ld, .ldv = v.ld, .o = a->att, .lse = a->lse, .dout = a->datt,
        .dq = dq.at, .dk = dk.at, .dv = dv.at, .bidirectional = c->bidirectional,
        .length = s->lengths, .first = s->sees_from,
        .drop = dropout_of_attention(s, &a->dropout, 0), .t = s->t);
}

static void attention_backward(
    const struct batch *s, const struct sublayer *u, bool again, bool below)
{
    const struct attention *a = &u->attention;
    struct columns q = piece_of(s, a, a->qkv, a->qk, 0);
    struct columns k = piece_of(s, a, a->qkv, a->qk, 1);
    struct columns v = piece_of(s, a, a->qkv, a->qk, 2);
    struct columns dq = piece_of(s, a, a->dqkv, a->dqk, 0);
    struct columns dk = piece_of(s, a, a->dqkv, a->dqk, 1);
    struct columns dv = piece_of(s, a, a->dqkv, a->dqk, 2);
    (void)again;                                         /* nothing of its forward is scratch */
    linear_backward(s, &a->w_o, a->att, s->dx, a->datt); /* (N, C) -> (N, H D) */
    if (!below && !linear_reads_input(&a->w_qkv))
        return;
    attend_back(s, a, q, k, v, dq, dk, dv);
    rotate(s, dq, dk, true);
    if (a->qk)
        heads_backward(s, a);
    linear_backward(s, &a->w_qkv, s->h, a->dqkv, below ? s->dh : NULL);
}

static bool attention_reads_input(const struct sublayer *u)
{
    return linear_reads_input(&u->attention.w_qkv);
}

const struct sublayer_kind attention_kind = {
    .norm = TENSOR_NORM_ATTENTION,
    .bind = attention_bind,
    .carve = attention_carve,
    .forward = attention_forward,
    .backward = attention_backward,
    .reads_input = attention_reads_input,
};
