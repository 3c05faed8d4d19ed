/*
 * embed: one operation a table; each adds to those before it.
 */
#include "runtime/model/embed.h"

#include "runtime/model/parallel.h"

void embed_bind(struct embed *w, const struct model *m, float *gradient)
{
    w->table = model_bind(m, TENSOR_EMBED, TENSOR_WEIGHT, -1, gradient, &w->dtable);
    w->positions = model_bind(m, TENSOR_POSITIONS, TENSOR_WEIGHT, -1, gradient, &w->dpositions);
    w->types = model_bind(m, TENSOR_TYPES, TENSOR_WEIGHT, -1, gradient, &w->dtypes);
    norm_bind(&w->norm, m, TENSOR_NORM_EMBED, -1, gradient);
    w->dropout = dropout_bind(m, TENSOR_EMBED, -1);
}

#define WIDE_ROWS 256 /* on their way to 16 bits, at once */

void embed_carve(struct embed *w, const struct batch *s, struct carve *kept)
{
    if (s->t != DTYPE_F32 && dtype_block(w->table.type) > 1)
        w->wide =
            carve_tensor(kept, s->n < WIDE_ROWS ? s->n : WIDE_ROWS, s->config->dim, DTYPE_F32);
    if (model_config_is_cut(s->config))
        w->own = carve_tensor(kept, carve_plus(s->n, 1), s->config->dim, s->t);
    if (!s->config->embed_norm)
        return;
    w->sum = carve_tensor(kept, s->n, s->config->dim, s->t);
    norm_carve(&w->norm, s, kept);
}

/* x (N, C) += the rows of a table of v rows */
static void add_rows(const struct batch *s, const struct stored *table, int64_t v,
    const int32_t *ids, bool add, void *x)
{
    if (table->data)
        OP(s, embed, .n = s->n, .c = s->config->dim, .v = v, .ids = ids, .table = table->data,
            .table_type = table->type, .out = x, .accumulate = add, .t = s->t);
}

/* x (N, C) = the rows of the table; blocks are decoded in F32. */
static void take_rows(const struct batch *s, const struct embed *w, void *x)
{
    int64_t dim = s->config->dim;
    if (!w->wide) {
        add_rows(s, &w->table, s->config->vocab, s->ids, false, x);
        return;
    }
    for (int64_t row = 0; row < s->n; row += WIDE_ROWS) {
        struct batch part = *s;
        part.t = DTYPE_F32;
        part.n = s->n - row < WIDE_ROWS ? s->n - row : WIDE_ROWS;
        add_rows(&part, &w->table, s->config->vocab, s->ids + row, false, w->wide);
        OP(s, convert, .count = part.n * dim, .x = w->wide, .x_type = DTYPE_F32,
            .y = at_element(x, row * dim, s->t), .y_type = s->t);
    }
}

static bool is_own(const struct batch *s, int32_t id)
{
    int64_t first = s->config->share.first_token;
    return id >= first && id < first + s->config->vocab;
}

void embed_find_own(struct batch *s, const int32_t *ids, int32_t *stage)
{
    int32_t first = (int32_t)s->config->share.first_token, slot = 0;
    const int32_t *const to[] = {s->own_ids, s->own_rows};
    for (int which = 0; which < 2; which++) {
        s->own = 0;
        for (int64_t i = 0; i < s->n; i++)
            if (is_own(s, ids[i]))
                stage[s->own++] = which ? (int32_t)i : ids[i] - first;
        if (to[which])
            dev_upload(s->dev, (void *)to[which], stage, (size_t)s->own * 4);
    }
    for (int64_t i = 0; i < s->n; i++)
        stage[i] = is_own(s, ids[i]) ? slot++ : (int32_t)s->own;
    dev_upload(s->dev, (void *)s->own_slots, stage, (size_t)s->n * 4);
}

/* The same from the rows that this share has, and a row of zeros for each token that it has not. */
static void take_own_rows(const struct batch *s, const struct embed *w, void *x)
{
    int64_t dim = s->config->dim;
    struct batch own = *s;
    own.n = s->own;
    if (s->own)
        add_rows(&own, &w->table, s->config->vocab, s->own_ids, false, w->own);
    dev_zero(
        s->dev, at_element(w->own, s->own * dim, s->t), (size_t)(dim * dtype_block_bytes(s->t)));
    batch_take_rows(s, s->n, s->own_slots, w->own, s->own + 1, x); /* (own + 1, C) -> (N, C) */
    parallel_sum(s, x, s->n * dim);
}

void embed_forward(const struct batch *s, const struct embed *w, void *x)
{
    const struct model_config *c = s->config;
    void *sum = c->embed_norm ? w->sum : x;
    if (w->own)
        take_own_rows(s, w, sum);
    else
        take_rows(s, w, sum);
    add_rows(s, &w->positions, c->context, s->position, true, sum);
    add_rows(s, &w->types, c->types, s->types, true, sum);
    if (c->embed_norm)
        norm_forward(s, &w->norm, sum, x);
    dropout_apply(s, &w->dropout, s->n, 1, x);
}

static void rows_back(
    const struct batch *s, float *dtable, int64_t v, const int32_t *ids, const void *dout)
{
    if (dtable)
        OP(s, embed_back, .n = s->n, .c = s->config->dim, .v = v, .ids = ids, .dout = dout,
            .dtable = dtable, .t = s->t);
}

static void own_rows_back(const struct batch *s, const struct embed *w, const void *dsum)
{
    struct batch own = *s;
    own.n = s->own;
    if (!w->dtable || !s->own)
        return;
    batch_take_rows(s, s->own, s->own_rows, dsum, s->n, w->own); /* (N, C) -> (own, C) */
    rows_back(&own, w->dtable, s->config->vocab, s->own_ids, w->own);
}

void embed_backward(const struct batch *s, const struct embed *w)
{
    const struct model_config *c = s->config;
    void *dsum = s->dx;
    dropout_apply(s, &w->dropout, s->n, 1, dsum);
    if (c->embed_norm && w->dtable) {
        dsum = s->dh;
        norm_backward(s, &w->norm, w->sum, s->dx, dsum, false);
    }
    if (w->own)
        own_rows_back(s, w, dsum);
    else
        rows_back(s, w->dtable, c->vocab, s->ids, dsum);
    rows_back(s, w->dpositions, c->context, s->position, dsum);
    if (s->typed)
        rows_back(s, w->dtypes, c->types, s->types, dsum);
    else if (w->dtypes) /* of the one row that counts */
        OP(s, bias_back, .n = s->n, .c = c->dim, .ld = c->dim, .dy = dsum, .dbias = w->dtypes,
            .t = s->t);
}
