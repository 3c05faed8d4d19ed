/*
 * linear: products in training are three matrix products and those of the adapters; in serving a
 * few rows are multiplied with the stored blocks themselves; many likewise where a row must not
 * depend on the others (batch.h), else with the decoded matrix.
 */
#include "runtime/model/linear.h"

#include "runtime/model/beside.h"
#include "runtime/model/gemm.h"
#include "runtime/model/parallel.h"

/* From this many rows on, decoding a matrix once and using the full product beats the row-wise
   kernel. */
#define DECODED_PRODUCT_ROWS 8

/* -- tensors -- */

static void bind_values(
    struct lora *a, const struct model *m, enum tensor_role role, int64_t layer, float *gradient)
{
    const struct tensor *p = tensors_get(&m->added, role, TENSOR_LORA_E, layer, -1);
    a->adaptive = p;
    a->e = p && m->master ? m->master + p->offset : NULL;
    a->de = p && gradient ? gradient + p->offset : NULL;
}

static void bind_adapters(
    struct linear *l, const struct model *m, enum linear_kind kind, int64_t layer, float *gradient)
{
    const struct linear_shape *s = &l->shape;
    struct lora a = {.in = s->in, .out = s->out, .r = m->conf.lora_rank};
    for (int64_t i = 0, row = 0; i < s->pieces; row += s->rows[i++]) {
        if (!tensors_get(&m->added, s->role[i], TENSOR_LORA_A, layer, -1))
            continue;
        if (!a.count) { /* the others' stand behind it */
            a.a = model_bind(m, s->role[i], TENSOR_LORA_A, layer, gradient, &a.da).data;
            bind_values(&a, m, s->role[i], layer, gradient);
        }
        struct lora_factor *f = &a.factor[a.count++];
        f->row = row;
        f->rows = s->rows[i];
        f->b = model_bind(m, s->role[i], TENSOR_LORA_B, layer, gradient, &f->db).data;
    }
    a.rank = a.r * a.count;
    a.scale = lora_scale(&m->conf);
    a.dropout = m->conf.lora_dropout;
    a.seed = lora_seed(m->conf.seed, layer, kind);
    l->lora = a;
    dora_bind(&l->dora, m, s, layer, gradient);
}

/* Of a sum it is the first rank's. */
static bool is_others_bias(const struct model *m, const struct linear_shape *s)
{
    return s->adds && m->conf.config.share.first_ffn;
}

void linear_bind(
    struct linear *l, const struct model *m, enum linear_kind kind, int64_t layer, float *gradient)
{
    struct linear_shape *s = &l->shape;
    linear_shape(&m->conf.config, kind, s);
    l->kind = kind;
    l->layer = layer;
    if (m->conf.train) { /* the pieces stand one behind the other */
        blocks_bind(&l->blocks, m, s->role, s->pieces, layer);
        if (!l->blocks.rows)
            l->w = model_bind(m, s->role[0], TENSOR_WEIGHT, layer, gradient, &l->dw).data;
        l->bias = model_bind(m, s->role[0], TENSOR_BIAS, layer, gradient, &l->dbias).data;
        if (is_others_bias(m, s))
            l->bias = NULL;
        if (m->conf.lora_rank)
            bind_adapters(l, m, kind, layer, gradient);
        return;
    }
    for (int i = 0; i < s->pieces; i++) {
        l->piece[i].w = model_bind(m, s->role[i], TENSOR_WEIGHT, layer, NULL, NULL);
        l->piece[i].bias = model_bind(m, s->role[i], TENSOR_BIAS, layer, NULL, NULL).data;
        if (is_others_bias(m, s))
            l->piece[i].bias = NULL;
    }
}

/* Scratch begins at the same place for each product of a sub-layer. */
void linear_carve(
    struct linear *l, const struct batch *s, struct carve *kept, struct carve *scratch)
{
    const struct linear_shape *shape = &l->shape;
    int64_t mark = scratch->used, rows = 0;
    lora_carve(&l->lora, s, kept, scratch);
    dora_carve(&l->dora, &l->lora, s, kept, scratch);
    blocks_carve(&l->blocks, s, shape->out, scratch);
    for (int i = 0; i < shape->pieces; i++)
        rows = shape->rows[i] > rows ? shape->rows[i] : rows;
    if (!s->train) {
        l->sum = carve_tensor(scratch, s->n, shape->out, DTYPE_F32);
        l->decoded = carve_tensor(scratch, rows, shape->in, DTYPE_F32);
    }
    if (!s->train && s->compute != DTYPE_F32) {
        l->x16 = carve_tensor(scratch, s->n, shape->in, s->compute);
        l->decoded16 = carve_tensor(scratch, rows, shape->in, s->compute);
    }
    scratch->used = mark;
}

int64_t linear_widest(const struct model_config *c)
{
    int64_t q = c->heads * c->head_dim, w = q > c->ffn_dim ? q : c->ffn_dim;
    return w > c->dim ? w : c->dim;
}

struct columns linear_piece(const struct batch *s, const struct linear *l, void *y, int i)
{
    int64_t row = 0;
    for (int j = 0; j < i; j++)
        row += l->shape.rows[j];
    if (s->train)
        return (struct columns){at_element(y, row, s->t), l->shape.out};
    return (struct columns){at_element(y, s->n * row, s->t), l->shape.rows[i]};
}

/* -- training -- */

static struct gemm gemm_of(const struct batch *s, const struct linear *l)
{
    const struct linear_shape *w = &l->shape;
    return (struct gemm){.n = s->n,
        .in = w->in,
        .out = w->out,
        .ldx = w->in,
        .ldy = w->out,
        .t = s->t,
        .y_type = s->t,
        .scale = 1};
}

/* W (out, in) t */
static const void *matrix_of(const struct batch *s, const struct linear *l)
{
    return l->blocks.rows ? blocks_rows(s, &l->blocks, 0, l->blocks.rows) : l->w;
}

static void forward_joined(
    const struct batch *s, const struct linear *l, const void *x, void *y, bool add)
{
    struct gemm g = gemm_of(s, l);
    if (l->dora.on) {
        dora_forward(s, &l->dora, &l->lora, matrix_of(s, l), l->bias, x, y, add);
        return;
    }
    g.add = add;
    g.bias = l->bias;
    gemm_forward(s, &g, x, matrix_of(s, l), y);
    lora_forward(s, &l->lora, x, y, false);
}

static enum op_act gelu_of(const struct batch *s)
{
    return s->config->activation == ACTIVATION_GELU_ERF ? OP_ACT_GELU_ERF : OP_ACT_GELU;
}

/* Adapters count before GELU, which comes with the matrix' product: theirs is the first. */
static void gelu_joined(
    const struct batch *s, const struct linear *l, const void *x, void *pre, void *y)
{
    struct gemm g = gemm_of(s, l);
    lora_forward(s, &l->lora, x, y, true);
    g.add = l->lora.count;
    g.bias = l->bias;
    g.act = gelu_of(s);
    g.pre = pre;
    gemm_forward(s, &g, x, matrix_of(s, l), y);
}

void linear_project(const struct batch *s, const struct linear *l, const void *x)
{
    if (l->dora.on)
        dora_project(s, &l->dora, &l->lora, matrix_of(s, l), x);
    else
        lora_project(s, &l->lora, x);
}

bool linear_reads_input(const struct linear *l)
{
    return l->dw || l->lora.count;
}

void linear_backward(
    const struct batch *s, const struct linear *l, const void *x, const void *dy, void *dx)
{
    struct gemm g = gemm_of(s, l);
    if (l->dora.on)
        dy = dora_backward(s, &l->dora, &l->lora, dy);
    if (dx)
        gemm_dx(s, &g, dy, matrix_of(s, l), dx);
    if (l->dw)
        gemm_dw(s, &g, dy, x, l->dw);
    if (l->dbias)
        OP(s, bias_back, .n = s->n, .c = l->shape.out, .ld = l->shape.out, .dy = dy,
            .dbias = l->dbias, .t = s->t);
    lora_backward(s, &l->lora, x, dy, dx);
    if (dx && l->shape.splits)
        parallel_sum(s, dx, s->n * l->shape.in);
}

/* -- serving -- */

static void convert(
    const struct batch *s, int64_t count, const void *x, enum dtype from, void *y, enum dtype to)
{
    OP(s, convert, .count = count, .x = x, .x_type = from, .y = y, .y_type = to);
}

/* The matrix (rows, in) in the type that products are computed in. */
static const void *decode(const struct batch *s, const struct linear *l, int i)
{
    const struct stored *w = &l->piece[i].w;
    int64_t count = l->shape.rows[i] * l->shape.in;
    const void *f32 = w->data;
    if (w->type == s->compute)
        return w->data;
    if (w->type != DTYPE_F32) {
        convert(s, count, w->data, w->type, l->decoded, DTYPE_F32);
        f32 = l->decoded;
    }
    if (s->compute == DTYPE_F32)
        return f32;
    convert(s, count, f32, DTYPE_F32, l->decoded16, s->compute);
    return l->decoded16;
}

/* Where each piece's columns of y (n, out) F32 stand, from x (n, in) F32: all pieces at once. */
static void multiply_rows(const struct batch *s, const struct linear *l, const float *x, float *y)
{
    struct op_quant_matmul op[LINEAR_PIECES];
    for (int i = l->shape.pieces - 1; i >= 0; i--)
        op[i] = (struct op_quant_matmul){.m = s->n,
            .n = l->shape.rows[i],
            .k = l->shape.in,
            .x = x,
            .w = l->piece[i].w.data,
            .w_type = l->piece[i].w.type,
            .coarse = batch_is_coarse(s),
            .y = linear_piece(s, l, y, i).at,
            .next = i + 1 < l->shape.pieces ? &op[i + 1] : NULL};
    dev_ops(s->dev)->quant_matmul(s->dev, op);
}

/* y (n, rows) F32 = x (n, in) F32 times the decoded piece i */
static void multiply_decoded(
    const struct batch *s, const struct linear *l, int i, const float *x, float *y)
{
    int64_t in = l->shape.in, rows = l->shape.rows[i];
    struct gemm g = {.n = s->n,
        .in = in,
        .out = rows,
        .ldx = in,
        .ldy = rows,
        .t = s->compute,
        .y_type = DTYPE_F32,
        .scale = 1};
    const void *w = decode(s, l, i);
    if (l->x16)
        convert(s, s->n * in, x, DTYPE_F32, l->x16, s->compute);
    gemm_forward(s, &g, l->x16 ? (const void *)l->x16 : x, w, y);
}

/* A product of nothing. */
void linear_finish(
    const struct batch *s, int64_t rows, const float *bias, enum op_act act, float *y)
{
    if (bias || act != OP_ACT_NONE)
        OP(s, matmul, .m = s->n, .n = rows, .k = 1, .a = s->zeros, .b = s->zeros, .c = y, .lda = 1,
            .ldb = rows, .ldc = rows, .ab_type = DTYPE_F32, .c_type = DTYPE_F32, .alpha = 1,
            .beta = 1, .bias = bias, .act = act);
}

static void forward_stored(
    const struct batch *s, const struct linear *l, const float *x, float *y, enum op_act act)
{
    if (s->watch_fn && l->kind < LINEARS)
        s->watch_fn(s->watcher, s->dev, l->kind, l->layer, x, s->n);
    bool stored = s->stored || s->n < DECODED_PRODUCT_ROWS;
    if (stored)
        multiply_rows(s, l, x, y);
    for (int i = 0; i < l->shape.pieces; i++) {
        float *piece = linear_piece(s, l, y, i).at;
        if (!stored)
            multiply_decoded(s, l, i, x, piece);
        if (s->groups && l->kind < LINEARS)
            beside_forward(s, l->kind, l->layer, i, &l->shape, x, piece);
        linear_finish(s, l->shape.rows[i], l->piece[i].bias, act, piece);
    }
}

/* -- both -- */

void linear_forward(const struct batch *s, const struct linear *l, const void *x, void *y)
{
    if (s->train)
        forward_joined(s, l, x, y, false);
    else
        forward_stored(s, l, x, y, OP_ACT_NONE);
}

void linear_add(const struct batch *s, const struct linear *l, const void *x, void *y)
{
    if (s->train && !l->shape.adds) {
        forward_joined(s, l, x, y, true);
        return;
    }
    int64_t count = s->n * l->shape.out;
    void *sum = s->train ? s->sum : l->sum;
    if (s->train)
        forward_joined(s, l, x, sum, false);
    else
        forward_stored(s, l, x, sum, OP_ACT_NONE);
    if (l->shape.adds) /* each rank has some columns of W */
        parallel_sum(s, sum, count);
    OP(s, axpby, .count = count, .x = sum, .x_type = s->t, .y = y, .y_type = s->t, .a = 1, .b = 1);
}

void linear_gelu(const struct batch *s, const struct linear *l, const void *x, void *pre, void *y)
{
    if (s->train)
        gelu_joined(s, l, x, pre, y);
    else
        forward_stored(s, l, x, y, gelu_of(s));
}
