/*
 * head: how many rows a chunk has is memory against how often W is read: a processor's default is a
 * bounded number of bytes, a device's is the plan's to choose (model_conf.logit_rows).
 */
#include "runtime/model/head.h"

#include "base/mem.h"
#include "runtime/door/beat.h"
#include "runtime/door/trace.h"
#include "runtime/model/gemm.h"
#include "runtime/model/linear.h"
#include "runtime/model/parallel.h"

/* SmolLM2's 49,152 words: 512 rows, 96 MiB of F32. */
#define LOGIT_BYTES       (96 << 20)
#define LOGIT_ROWS_MIN    16
#define LOGIT_ROWS_MAX    512
/* Serving, where what is drawn in a step is a row each: a product's chunk on a processor. */
#define LOGIT_ROWS_SERVED 64
/* Of a quantized matrix so many rows are decoded at a time. */
#define PANEL_ROWS        4096
/* In training rows are padded to a multiple of this, so that each is aligned. */
#define LOGIT_ALIGN       64

/* V: what there is a logit for. */
static int64_t width(const struct model_config *c)
{
    return c->labels ? c->labels : c->vocab;
}

static int64_t chunk_rows(const struct model_conf *c)
{
    if (c->config.labels)
        return INT64_MAX;
    int64_t rows = LOGIT_BYTES / carve_times(c->config.vocab, 4);
    int64_t most = c->train ? LOGIT_ROWS_MAX : LOGIT_ROWS_SERVED;
    rows = rows > most ? most : rows;
    rows = c->logit_rows ? c->logit_rows : rows;
    return rows < LOGIT_ROWS_MIN ? LOGIT_ROWS_MIN : rows;
}

static int64_t chunk_columns(const struct model_conf *c)
{
    int64_t v = width(&c->config);
    return c->train ? carve_times((v - 1) / LOGIT_ALIGN + 1, LOGIT_ALIGN) : v;
}

int64_t head_row_bytes(const struct model_conf *c)
{
    return carve_times(chunk_columns(c), c->train && c->t != DTYPE_F32 ? 6 : 4);
}

void head_bind(struct head *w, const struct model *m, float *gradient)
{
    const struct model_config *c = &m->conf.config;
    w->none = m->conf.headless || !model_config_is_last(c);
    if (w->none)
        return;
    enum tensor_role role = c->tied_embeddings ? TENSOR_EMBED : TENSOR_HEAD;
    role = c->labels ? TENSOR_CLASSIFIER : role;
    w->bias =
        model_bind(m, c->masked ? TENSOR_HEAD : role, TENSOR_BIAS, -1, gradient, &w->dbias).data;
    w->w = model_bind(m, role, TENSOR_WEIGHT, -1, gradient, &w->dw);
    blocks_bind(&w->blocks, m, &role, 1, -1);
    w->pooler = model_bind(m, TENSOR_POOLER, TENSOR_WEIGHT, -1, gradient, &w->dpooler);
    w->pooler_bias = model_bind(m, TENSOR_POOLER, TENSOR_BIAS, -1, gradient, &w->dpooler_bias).data;
    masked_bind(&w->masked, m, gradient);
    if (c->labels)
        w->dropout = dropout_bind(m, TENSOR_CLASSIFIER, -1);
    w->rows = chunk_rows(&m->conf);
    w->columns = chunk_columns(&m->conf);
}

/* Are the columns of logits some of the vocabulary's? */
static bool is_cut(const struct batch *s)
{
    return model_config_is_cut(s->config) && !s->config->labels;
}

static void carve_panel(struct head *w, const struct batch *s, struct carve *c)
{
    blocks_carve(&w->blocks, s, PANEL_ROWS, c);
    if (s->t != DTYPE_F32)
        w->sum = carve_tensor(c, w->rows, s->config->dim, DTYPE_F32);
}

void head_carve(struct head *w, const struct batch *s, struct carve *c)
{
    if (w->none)
        return;
    int64_t rows = model_config_tells_texts(s->config) ? s->b : s->n;
    w->rows = w->rows < rows ? w->rows : rows;
    w->logits = carve_tensor(c, w->rows, w->columns, DTYPE_F32);
    if (s->train && !s->frozen && s->t != DTYPE_F32)
        w->dlogits = carve_tensor(c, w->rows, w->columns, s->t);
    if (is_cut(s)) {
        w->top = carve_tensor(c, w->rows, 1, DTYPE_F32);
        w->total = carve_tensor(c, w->rows, 1, DTYPE_F32);
        w->most = carve_tensor(c, w->rows, 1, DTYPE_F32);
        w->whole = carve_tensor(c, s->config->share.vocab, 1, DTYPE_F32);
    }
    if (w->blocks.rows)
        carve_panel(w, s, c);
    if (s->config->masked)
        masked_carve(&w->masked, s, c);
    if (!model_config_tells_texts(s->config))
        return;
    w->pooled = carve_tensor(c, rows, s->config->dim, s->t);
    w->dpooled = carve_tensor(c, carve_plus(rows, s->config->last), s->config->dim, s->t);
    if (w->dropout.p > 0)
        w->dropped = carve_tensor(c, rows, s->config->dim, s->t);
    if (!s->config->several)
        return;
    w->pair = carve_tensor(c, 2, 1, DTYPE_F32);
    w->ones = carve_tensor(c, w->columns, 1, DTYPE_F32);
    w->pairs = carve_tensor(c, carve_times(rows, w->columns), 2, DTYPE_F32);
    w->losses = carve_tensor(c, rows, w->columns, DTYPE_F32);
}

int head_begin(const struct head *w, struct dev *d, struct err *e)
{
    static const float pair[] = {0, 1};
    mem_autofree float *ones = w->pair ? mem_array((size_t)w->columns, sizeof *ones) : NULL;
    if (!w->pair)
        return 0;
    if (!ones)
        return err_set(e, ERR_MEMORY, "no memory for %lld labels", (long long)w->columns);
    for (int64_t i = 0; i < w->columns; i++)
        ones[i] = 1;
    dev_upload(d, w->pair, pair, sizeof pair);
    dev_upload(d, w->ones, ones, (size_t)w->columns * sizeof *ones);
    return dev_sync(d, e);
}

/* c (m, n) = a (m, k) b (k, n), contiguous */
static void multiply(const struct batch *s, int64_t m, int64_t n, int64_t k, const float *a,
    const float *b, void *c, enum dtype c_type)
{
    OP(s, matmul, .m = m, .n = n, .k = k, .a = a, .b = b, .c = c, .lda = k, .ldb = n, .ldc = n,
        .ab_type = DTYPE_F32, .c_type = c_type, .alpha = 1);
}

/* Of n texts: each logit becomes a pair with 0 before it; the gradient is that of the second. */
static void several_xent(const struct batch *s, const struct head *w, int64_t n,
    const int32_t *targets, float *loss, float scale, bool backward)
{
    int64_t each = n * w->columns;
    bool narrow = w->dlogits;
    multiply(s, each, 2, 1, w->logits, w->pair, w->pairs, DTYPE_F32);
    OP(s, xent, .n = each, .v = 2, .ld = 2, .logits = w->pairs, .target = targets,
        .loss = w->losses, .scale = scale, .backward = backward, .t = DTYPE_F32);
    multiply(s, n, 1, w->columns, w->losses, w->ones, loss, DTYPE_F32);
    if (backward)
        multiply(s, each, 1, 2, w->pairs, w->pair, narrow ? (void *)w->dlogits : w->logits,
            narrow ? s->t : DTYPE_F32);
}

struct scaling {       /* of gradients */
    float all;         /* of every row */
    const float *each; /* of each sequence's rows; NULL: all */
    int64_t row;       /* the first of the chunk in hand */
    bool backward;
};

/* Of the whole vocabulary, from the columns that each rank has: the greatest logit of each of n
   rows to w->most, and the sum of the exponentials relative to it to w->total. */
static void rows_meet(const struct batch *s, const struct head *w, int64_t n)
{
    OP(s, xent, .n = n, .v = width(s->config), .ld = w->columns, .logits = w->logits,
        .stage = OP_XENT_STATS, .top = w->top, .sum = w->total, .t = DTYPE_F32);
    dev_copy(s->dev, w->most, w->top, (size_t)n * sizeof *w->top);
    parallel_reduce(s, w->most, n, COLL_MAX);
    OP(s, xent, .n = n, .v = width(s->config), .ld = w->columns, .logits = w->logits,
        .stage = OP_XENT_MEET, .top = w->top, .sum = w->total, .most = w->most, .t = DTYPE_F32);
    parallel_reduce(s, w->total, n, COLL_SUM);
}

/* logits (n, V) become gradients, if told so. */
static void rows_xent(const struct batch *s, const struct head *w, int64_t n,
    const int32_t *targets, float *loss, const struct scaling *g)
{
    bool share = is_cut(s);
    if (share)
        rows_meet(s, w, n);
    for (int64_t i = 0, part; i < n; i += part) {
        int64_t left = s->tokens - (g->row + i) % s->tokens;
        part = g->each && left < n - i ? left : n - i;
        OP(s, xent, .n = part, .v = width(s->config), .ld = w->columns,
            .logits = w->logits + i * w->columns, .target = targets + i, .loss = loss + i,
            .scale = g->each ? g->each[(g->row + i) / s->tokens] : g->all, .backward = g->backward,
            .gradient16 = w->dlogits ? w->dlogits + i * w->columns : NULL, .f16 = s->t == DTYPE_F16,
            .stage = share ? OP_XENT_FINISH : OP_XENT_WHOLE,

            .first = share ? s->config->share.first_token : 0, .top = share ? w->most + i : NULL,
            .sum = share ? w->total + i : NULL, .t = DTYPE_F32);
    }
    if (share)
        parallel_reduce(s, loss, n, COLL_SUM);
}

/* logits (n, V) of h (n, C) */
static struct gemm product_of(const struct batch *s, const struct head *w, int64_t n)
{
    return (struct gemm){.n = n,
        .in = s->config->dim,
        .out = width(s->config),
        .bias = w->bias,
        .ldx = s->config->dim,
        .ldy = w->columns,
        .t = s->t,
        .y_type = DTYPE_F32,
        .scale = 1};
}

/* The same rows' logits by the teacher, and loss and gradient of both. Of whole texts what its own
   pooler made of them, or their last tokens, is there already. */
static void rows_teach(const struct batch *s, const struct head *w, int64_t n,
    const int32_t *targets, float *loss, const struct scaling *g)
{
    const struct head_teacher *x = w->teacher;
    const void *h = model_config_tells_texts(x->s->config)
        ? x->head->pooled
        : at_element(x->s->h, g->row * x->s->config->dim, x->s->t);
    const struct gemm product = product_of(x->s, x->head, n);
    gemm_forward(
        x->s, &product, h, x->head->w.data, x->head->logits); /* (n, C of its own) -> (n, V) */
    OP(s, distill, .n = n, .v = width(s->config), .ld = w->columns, .logits = w->logits,
        .teacher = x->head->logits, .target = targets, .loss = loss, .scale = g->all,
        .weight = x->weight, .temperature = x->temperature, .gradient16 = w->dlogits,
        .f16 = s->t == DTYPE_F16);
}

/* -- products with W, as a whole or panel by panel -- */

/* The same product with rows [row, row + part.out) of W. */
static struct gemm panel_of(const struct head *w, const struct gemm *g, int64_t row)
{
    struct gemm part = *g;
    part.out = g->out - row < w->blocks.most ? g->out - row : w->blocks.most;
    part.bias = g->bias ? at_element(g->bias, row, g->t) : NULL;
    return part;
}

/* logits (n, V) of h (n, C) */
static void rows_forward(
    const struct batch *s, const struct head *w, const struct gemm *g, const void *h)
{
    if (!w->blocks.rows) {
        gemm_forward(s, g, h, w->w.data, w->logits);
        return;
    }
    for (int64_t row = 0; row < g->out; row += w->blocks.most) {
        const struct gemm part = panel_of(w, g, row);
        gemm_forward(s, &part, h, blocks_rows(s, &w->blocks, row, part.out), w->logits + row);
    }
}

/* dh (n, C) of dlogits (n, V); sums over panels are F32. */
static void rows_backward(const struct batch *s, const struct head *w, const struct gemm *g,
    const void *dlogits, void *dh)
{
    float *sum = w->sum ? w->sum : dh;
    if (!w->blocks.rows) {
        gemm_dx(s, g, dlogits, w->w.data, dh);
        return;
    }
    for (int64_t row = 0; row < g->out; row += w->blocks.most) {
        struct gemm part = panel_of(w, g, row);
        part.add = row;
        gemm_dx_f32(s, &part, at_element(dlogits, row, g->t),
            blocks_rows(s, &w->blocks, row, part.out), sum);
    }
    if (w->sum)
        OP(s, convert, .count = g->n * g->in, .x = sum, .x_type = DTYPE_F32, .y = dh,
            .y_type = s->t);
}

/* Logits, losses and gradients of n rows h (n, C); dh (n, C). */
static void rows_loss(const struct batch *s, const struct head *w, int64_t n, const void *h,
    void *dh, const int32_t *targets, float *loss, const struct scaling *scaling)
{
    const struct model_config *c = s->config;
    const struct gemm g = product_of(s, w, n);
    rows_forward(s, w, &g, h); /* (n, C) -> (n, V) */
    if (c->several)
        several_xent(s, w, n, targets, loss, scaling->all, scaling->backward);
    else if (scaling->backward && w->teacher)
        rows_teach(s, w, n, targets, loss, scaling);
    else
        rows_xent(s, w, n, targets, loss, scaling);
    if (!scaling->backward)
        return;
    const void *dlogits = w->dlogits ? (const void *)w->dlogits : w->logits;
    rows_backward(s, w, &g, dlogits, dh);
    if (is_cut(s))
        parallel_sum(s, dh, n * c->dim);
    if (w->dw)
        gemm_dw(s, &g, dlogits, h, w->dw);
    if (w->dbias)
        OP(s, bias_back, .n = n, .c = width(c), .ld = w->columns, .dy = dlogits, .dbias = w->dbias,
            .t = w->dlogits ? s->t : DTYPE_F32);
}

/* Of each sequence (T, C) the first row is read: rows of h and dh are T * C apart. */
static struct gemm pooler_of(const struct batch *s, const struct head *w)
{
    int64_t dim = s->config->dim;
    return (struct gemm){.n = s->b,
        .in = dim,
        .out = dim,
        .bias = w->pooler_bias,
        .ldx = s->tokens * dim,
        .ldy = dim,
        .t = s->t,
        .y_type = s->t,
        .scale = 1};
}

static void pool(const struct batch *s, const struct head *w, const struct gemm *g)
{
    gemm_forward(s, g, s->h, w->pooler.data, w->pooled); /* (B, C) */
    OP(s, tanh, .count = s->b * s->config->dim, .x = w->pooled, .t = s->t);
}

/* Loss and gradients of a row for each text, w->pooled (B, C), to w->dpooled. */
static void pooled_loss(const struct batch *s, const struct head *w, const int32_t *targets,
    float *loss, float scale, bool backward)
{
    const struct scaling scaling = {.all = scale, .backward = backward};
    void *h = w->pooled;
    if (dropout_drops(s, &w->dropout)) {
        h = w->dropped; /* tanh's gradient reads all of pooled */
        dev_copy(s->dev, h, w->pooled, (size_t)(s->b * s->config->dim * dtype_block_bytes(s->t)));
        dropout_apply(s, &w->dropout, s->b, s->tokens, h);
    }
    rows_loss(s, w, s->b, h, w->dpooled, targets, loss, &scaling);
    if (backward)
        dropout_apply(s, &w->dropout, s->b, s->tokens, w->dpooled);
}

static void texts_loss(const struct batch *s, const struct head *w, const int32_t *targets,
    float *loss, float scale, bool backward)
{
    int64_t b = s->b, dim = s->config->dim;
    const struct gemm g = pooler_of(s, w);
    pool(s, w, &g);
    if (backward && w->teacher) {
        const struct gemm of_teacher = pooler_of(w->teacher->s, w->teacher->head);
        pool(w->teacher->s, w->teacher->head, &of_teacher);
    }
    pooled_loss(s, w, targets, loss, scale, backward);
    if (!backward)
        return;
    OP(s, tanh_back, .count = b * dim, .x = w->pooled, .dy = w->dpooled, .t = s->t);
    dev_zero(s->dev, s->dh, (size_t)(s->n * dim * dtype_block_bytes(s->t)));
    gemm_dx(s, &g, w->dpooled, w->pooler.data, s->dh);
    if (w->dpooler)
        gemm_dw(s, &g, w->dpooled, s->h, w->dpooler);
    if (w->dpooler_bias)
        OP(s, bias_back, .n = b, .c = dim, .ld = dim, .dy = w->dpooled, .dbias = w->dpooler_bias,
            .t = s->t);
}

/* Of each sequence the row of its last token is read. */
static void last_loss(const struct batch *s, const struct head *w, const int32_t *targets,
    float *loss, float scale, bool backward)
{
    int64_t b = s->b, dim = s->config->dim;
    batch_take_rows(s, b, s->chosen_rows, s->h, s->n, w->pooled); /* (N, C) -> (B, C) */
    const struct head_teacher *x = backward ? w->teacher : NULL;
    if (x)
        batch_take_rows(x->s, b, s->chosen_rows, x->s->h, s->n, x->head->pooled);
    pooled_loss(s, w, targets, loss, scale, backward);
    if (!backward)
        return;
    dev_zero(
        s->dev, at_element(w->dpooled, b * dim, s->t), (size_t)(dim * dtype_block_bytes(s->t)));
    batch_take_rows(s, s->n, s->slots, w->dpooled, b + 1, s->dh); /* (B + 1, C) -> (N, C) */
}

/* The same of any number of rows h (rows, C); dh likewise. */
static void chunks_loss(const struct batch *s, const struct head *w, int64_t rows, const void *h,
    void *dh, const int32_t *targets, float *loss, struct scaling scaling)
{
    int64_t dim = s->config->dim;
    for (int64_t row = 0, n; row < rows; row += n) {
        n = rows - row < w->rows ? rows - row : w->rows;
        scaling.row = row;
        rows_loss(s, w, n, at_element(h, row * dim, s->t),
            scaling.backward ? at_element(dh, row * dim, s->t) : NULL, targets + row, loss + row,
            &scaling);
        beat(s->page);
    }
}

static void masked_loss(const struct batch *s, const struct head *w, const int32_t *targets,
    float *loss, float scale, bool backward)
{
    const struct masked *x = &w->masked;
    masked_forward(s, x);
    chunks_loss(s, w, s->chosen, x->y, x->dy, targets, loss,
        (struct scaling){.all = scale, .backward = backward});
    if (backward)
        masked_backward(s, x);
}

/* Of every token; dropout is a classifier's alone. */
static void tokens_loss(const struct batch *s, const struct head *w, const int32_t *targets,
    float *loss, float scale, bool backward)
{
    dropout_apply(s, &w->dropout, s->n, 1, s->h);
    chunks_loss(s, w, s->n, s->h, s->dh, targets, loss,
        (struct scaling){.all = scale, .backward = backward});
    if (backward)
        dropout_apply(s, &w->dropout, s->n, 1, s->dh);
}

void head_loss(const struct batch *s, const struct head *w, const int32_t *targets, float *loss,
    float scale, bool backward)
{
    int64_t begun = trace_begin(s->trace);
    if (s->config->last)
        last_loss(s, w, targets, loss, scale, backward);
    else if (s->config->pooled)
        texts_loss(s, w, targets, loss, scale, backward);
    else if (s->config->masked)
        masked_loss(s, w, targets, loss, scale, backward);
    else
        tokens_loss(s, w, targets, loss, scale, backward);
    trace_end(s->trace, begun, TRACE_RANK, "head", "rows", s->n);
}

void head_backward(const struct batch *s, const struct head *w, const int32_t *targets, float *loss,
    const float *scales)
{
    chunks_loss(
        s, w, s->n, s->h, s->dh, targets, loss, (struct scaling){.each = scales, .backward = true});
}

void head_next(const struct batch *s, const struct head *w, int64_t row)
{
    const struct gemm g = product_of(s, w, 1);
    rows_forward(s, w, &g, at_element(s->h, row * s->config->dim, s->t));
}

void head_logits(const struct batch *s, const struct head *w, int64_t row, int64_t n)
{
    const struct model_config *c = s->config;
    OP(s, quant_matmul, .m = n, .n = c->vocab, .k = c->dim,
        .x = at_element(s->h, row * c->dim, s->t), .w = w->w.data, .w_type = w->w.type,
        .coarse = batch_is_coarse(s), .y = w->logits);
}

/* y (n, rows) = x (n, C) W^T + bias, with the stored blocks */
static void multiply_stored(const struct batch *s, int64_t n, int64_t rows, const float *x,
    const struct stored *w, const float *bias, float *y)
{
    struct batch own = *s;
    own.n = n;
    OP(s, quant_matmul, .m = n, .n = rows, .k = s->config->dim, .x = x, .w = w->data,
        .w_type = w->type, .coarse = batch_is_coarse(s), .y = y);
    linear_finish(&own, rows, bias, OP_ACT_NONE, y);
}

void head_labels(const struct batch *s, const struct head *w, int64_t n)
{
    const struct model_config *c = s->config;
    const float *h = s->h;
    if (model_config_tells_texts(c)) {
        batch_take_rows(s, n, s->chosen_rows, s->h, s->n, w->pooled); /* (N, C) -> (n, C) */
        h = w->pooled;
    }
    if (c->pooled) { /* what it makes takes the place of gradients */
        multiply_stored(s, n, c->dim, h, &w->pooler, w->pooler_bias, w->dpooled);
        OP(s, tanh, .count = n * c->dim, .x = w->dpooled, .t = s->t);
        h = w->dpooled;
    }
    multiply_stored(s, n, c->labels, h, &w->w, w->bias, w->logits);
}

/* A sum with zeros, which changes no number. */
const float *head_whole(const struct batch *s, const struct head *w, int64_t i)
{
    const struct model_share *share = &s->config->share;
    const float *row = w->logits + i * w->columns;
    if (!is_cut(s))
        return row;
    dev_zero(s->dev, w->whole, (size_t)share->vocab * sizeof *row);
    dev_copy(s->dev, w->whole + share->first_token, row, (size_t)s->config->vocab * sizeof *row);
    parallel_reduce(s, w->whole, share->vocab, COLL_SUM);
    return w->whole;
}
