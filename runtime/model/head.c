/*
 * head: how many rows a chunk has is memory against how often W is read: a processor's default is a
 * bounded number of bytes, a device's is the plan's to choose (model_conf.logit_rows).
 */
#include "runtime/model/head.h"

#include "runtime/door/beat.h"
#include "runtime/model/gemm.h"

/* SmolLM2's 49,152 words: 512 rows, 96 MiB of F32. */
#define LOGIT_BYTES    (96 << 20)
#define LOGIT_ROWS_MIN 16
#define LOGIT_ROWS_MAX 512
/* In training rows are padded to a multiple of this, so that each is aligned. */
#define LOGIT_ALIGN    64

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
    rows = rows > LOGIT_ROWS_MAX ? LOGIT_ROWS_MAX : rows;
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
    return carve_times(chunk_columns(c), c->train && c->t == DTYPE_BF16 ? 6 : 4);
}

void head_bind(struct head *w, const struct model *m, float *gradient)
{
    const struct model_config *c = &m->conf.config;
    enum tensor_role role = c->tied_embeddings ? TENSOR_EMBED : TENSOR_HEAD;
    role = c->labels ? TENSOR_CLASSIFIER : role;
    w->bias = model_bind(m, role, TENSOR_BIAS, -1, gradient, &w->dbias).data;
    w->w = model_bind(m, role, TENSOR_WEIGHT, -1, gradient, &w->dw);
    w->rows = chunk_rows(&m->conf);
    w->columns = chunk_columns(&m->conf);
}

void head_carve(struct head *w, const struct batch *s, struct carve *c)
{
    w->rows = w->rows < s->n ? w->rows : s->n;
    w->logits = carve_tensor(c, w->rows, w->columns, DTYPE_F32);
    if (s->train && s->t == DTYPE_BF16)
        w->dlogits = carve_tensor(c, w->rows, w->columns, DTYPE_BF16);
}

/* The next rows of h: their logits, losses and gradients. */
static void chunk_loss(const struct batch *s, const struct head *w, int64_t row, int64_t n,
    const int32_t *targets, float *loss, float scale, bool backward)
{
    const struct model_config *c = s->config;
    const void *h = at_element(s->h, row * c->dim, s->t);
    struct gemm g = {.n = n,
        .in = c->dim,
        .out = width(c),
        .bias = w->bias,
        .ldx = c->dim,
        .ldy = w->columns,
        .t = s->t,
        .y_type = DTYPE_F32,
        .scale = 1};
    gemm_forward(s, &g, h, w->w.data, w->logits); /* (n, C) -> (n, V) */
    OP(s, xent, .n = n, .v = width(c), .ld = w->columns, .logits = w->logits,
        .target = targets + row, .loss = loss + row, .scale = scale, .backward = backward,
        .gradient16 = w->dlogits, .t = DTYPE_F32);
    if (!backward)
        return;
    const void *dlogits = w->dlogits ? (const void *)w->dlogits : w->logits;
    gemm_dx(s, &g, dlogits, w->w.data, at_element(s->dh, row * c->dim, s->t));
    if (w->dw)
        gemm_dw(s, &g, dlogits, h, w->dw);
    if (w->dbias)
        OP(s, bias_back, .n = n, .c = width(c), .ld = w->columns, .dy = dlogits, .dbias = w->dbias,
            .t = w->dlogits ? DTYPE_BF16 : DTYPE_F32);
}

void head_loss(const struct batch *s, const struct head *w, const int32_t *targets, float *loss,
    float scale, bool backward)
{
    for (int64_t row = 0, n; row < s->n; row += n) {
        n = s->n - row < w->rows ? s->n - row : w->rows;
        chunk_loss(s, w, row, n, targets, loss, scale, backward);
        beat(s->page);
    }
}

void head_logits(const struct batch *s, const struct head *w, int64_t row, int64_t n)
{
    const struct model_config *c = s->config;
    OP(s, quant_matmul, .m = n, .n = c->vocab, .k = c->dim,
        .x = at_element(s->h, row * c->dim, s->t), .w = w->w.data, .w_type = w->w.type,
        .y = w->logits);
}
