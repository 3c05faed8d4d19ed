/*
 * context: rows are put in order by the operation that takes rows of a table.
 */
#include "runtime/model/context.h"

#include "base/mem.h"
#include "runtime/model/parallel.h"

int context_open(struct context *x, int size, int rank, struct err *e)
{
    *x = (struct context){.size = size > 1 ? size : 1, .rank = rank};
    if (x->size == 1)
        return 0;
    x->elements = mem_array((size_t)size, sizeof *x->elements);
    return x->elements ? 0 : err_set(e, ERR_MEMORY, "no memory for %d ranks", size);
}

void context_close(struct context *x)
{
    mem_free(x->elements);
    x->elements = NULL;
}

void context_carve(struct context *x, const struct batch *s, struct carve *c)
{
    int64_t all = carve_times(s->n, x->size);
    if (x->size == 1)
        return;
    x->order = carve_tensor(c, all, 1, DTYPE_I32);
    x->back = carve_tensor(c, all, 1, DTYPE_I32);
    x->same = carve_tensor(c, s->n, 1, DTYPE_I32);
}

/* Of a token's keys, or of its values. */
static int64_t width_of(const struct batch *s)
{
    return s->config->kv_heads * s->config->head_dim;
}

void context_carve_keys(struct context_keys *k, const struct batch *s, struct carve *scratch)
{
    if (!s->context || s->context->size == 1)
        return;
    int64_t all = carve_times(s->n, s->context->size), columns = 2 * width_of(s);
    k->gathered = carve_tensor(scratch, all, columns, s->t);
    k->whole = carve_tensor(scratch, all, columns, s->t);
    k->part = carve_tensor(scratch, carve_times(s->tokens, s->context->size) / 2, columns, s->t);
}

/* -- who has what -- */

int64_t context_chunk(int64_t size, int64_t rank, int half)
{
    return half ? 2 * size - 1 - rank : rank;
}

static int64_t place_of(const struct context *x, int64_t rank, int64_t tokens, int64_t i)
{
    int64_t length = tokens / 2;
    return x->size == 1 ? i : context_chunk(x->size, rank, i >= length) * length + i % length;
}

int64_t context_place(const struct context *x, int64_t tokens, int64_t i)
{
    return place_of(x, x->rank, tokens, i);
}

/* Of the chunk that begins at `begin`, n tokens long. */
static int64_t existing(int64_t length, int64_t begin, int64_t n)
{
    int64_t left = length - begin;
    return left < 0 ? 0 : left < n ? left : n;
}

int64_t context_length(const struct context *x, int64_t tokens, int64_t length)
{
    int64_t n = tokens / 2;
    if (x->size == 1)
        return length;
    return existing(length, context_chunk(x->size, x->rank, 0) * n, n) +
        existing(length, context_chunk(x->size, x->rank, 1) * n, n);
}

/* The row that token `place` of sequence i has as the ranks have them. */
static int64_t row_of(const struct context *x, int64_t i, int64_t place)
{
    int64_t length = x->tokens / 2, chunk = place / length;
    bool half = chunk >= x->size;
    int64_t rank = half ? 2 * x->size - 1 - chunk : chunk;
    return rank * x->b * x->tokens + i * x->tokens + half * length + place % length;
}

void context_set(struct context *x, struct dev *d, int32_t *stage, int64_t b, int64_t tokens)
{
    int64_t n = b * tokens, whole = tokens * x->size;
    if (x->size == 1 || (x->b == b && x->tokens == tokens))
        return;
    x->b = b;
    x->tokens = tokens;
    for (int64_t i = 0; i < n; i++)
        stage[i] = (int32_t)i;
    dev_upload(d, x->same, stage, (size_t)n * 4);
    for (int64_t rank = 0; rank < x->size; rank++) {
        for (int64_t i = 0; i < n; i++) {
            int64_t token = rank * n + i;
            stage[i] = (int32_t)row_of(x, token / whole, token % whole);
        }
        dev_upload(d, x->order + rank * n, stage, (size_t)n * 4);
        for (int64_t i = 0; i < n; i++)
            stage[i] = (int32_t)(i / tokens * whole + place_of(x, rank, tokens, i % tokens));
        dev_upload(d, x->back + rank * n, stage, (size_t)n * 4);
    }
}

/* -- keys and values -- */

/* to (n, G D) = from (n, G D) */
static void copy_columns(const struct batch *s, struct columns from, struct columns to)
{
    OP(s, embed, .n = s->n, .c = width_of(s), .v = s->n, .ld_table = from.ld, .ld_out = to.ld,
        .ids = s->context->same, .table = from.at, .table_type = s->t, .out = to.at, .t = s->t);
}

/* to (b T, 2 G D) = the rows of from in another order */
static void put_in_order(const struct batch *s, const int32_t *order, const void *from, void *to)
{
    int64_t rows = s->n * s->context->size;
    OP(s, embed, .n = rows, .c = 2 * width_of(s), .v = rows, .ids = order, .table = from,
        .table_type = s->t, .out = to, .t = s->t);
}

/* This rank's keys (0) or values (1) in memory as the ranks have them. */
static struct columns own_of(const struct batch *s, void *gathered, int i)
{
    int64_t width = width_of(s);
    return (struct columns){
        at_element(gathered, s->context->rank * s->n * 2 * width + i * width, s->t), 2 * width};
}

void context_gather(
    const struct batch *s, const struct context_keys *k, struct columns keys, struct columns values)
{
    copy_columns(s, keys, own_of(s, k->gathered, 0));
    copy_columns(s, values, own_of(s, k->gathered, 1));
    parallel_gather(s, k->gathered, s->n * 2 * width_of(s));
    put_in_order(s, s->context->order, k->gathered, k->whole);
}

void context_scatter(const struct batch *s, const struct context_keys *k, struct columns dkeys,
    struct columns dvalues)
{
    put_in_order(s, s->context->back, k->gathered, k->whole);
    parallel_scatter(s, k->whole, s->n * 2 * width_of(s));
    copy_columns(s, own_of(s, k->whole, 0), dkeys);
    copy_columns(s, own_of(s, k->whole, 1), dvalues);
}
