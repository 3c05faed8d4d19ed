/*
 * blocks: which tensors stay in blocks, and their rows decoded. Vectors, positions and what few
 * rows are read of are in the compute type, as without.
 */
#include "runtime/model/blocks.h"

#include "runtime/family/family.h"
#include "runtime/family/mix.h"

#define WIDE_ELEMENTS (1 << 20) /* on their way to 16 bits, at once */

/* -- which -- */

static bool may_be(const struct tensor *p)
{
    switch (p->role) {
    case TENSOR_EMBED:
    case TENSOR_HEAD:
    case TENSOR_Q:
    case TENSOR_K:
    case TENSOR_V:
    case TENSOR_O:
    case TENSOR_GATE:
    case TENSOR_UP:
    case TENSOR_DOWN:
        return p->part == TENSOR_WEIGHT;
    default:
        return false;
    }
}

enum dtype blocks_type(
    const struct model_conf *c, const struct tensors *base, const struct tensor *p)
{
    const struct weights_tensor *from = c->stored ? weights_find(c->stored, p->name) : NULL;
    if (!may_be(p) || (c->stored && !from))
        return c->t;
    struct family_place place;
    family_place(&c->config, base, p, FAMILY_GGUF, &place);
    enum dtype type = mix_type(
        &c->config, c->quantize, p, place.shape[0] != p->shape[0], from ? from->type : c->t);
    return dtype_block(type) > 1 ? type : c->t;
}

/* Behind the tensors from i on that are in the compute type and stand together; i: it is in
   blocks. */
static int end_of_run(const struct model *m, int i)
{
    const struct tensor *at = m->base.at;
    int end = i;
    while (end < m->base.count && blocks_type(&m->conf, &m->base, &at[end]) == m->conf.t &&
        (end == i || at[end].offset == at[end - 1].offset + at[end - 1].count))
        end++;
    return end;
}

void blocks_carve_base(struct model *m, struct carve *c)
{
    const struct tensor *at = m->base.at;
    enum dtype t = m->conf.t;
    for (int i = 0, end; i < m->base.count; i = end) {
        end = end_of_run(m, i);
        if (end == i) {
            enum dtype type = blocks_type(&m->conf, &m->base, &at[i]);
            m->stored[end++] = (struct stored){type, carve_take(c, dtype_bytes(type, at[i].count))};
            continue;
        }
        char *run = carve_tensor(c, at[end - 1].offset + at[end - 1].count - at[i].offset, 1, t);
        for (int k = i; k < end; k++)
            m->stored[k] =
                (struct stored){t, run ? at_element(run, at[k].offset - at[i].offset, t) : NULL};
    }
}

int blocks_check(const struct model *m, struct err *e)
{
    if (m->conf.config.experts)
        return err_set(e, ERR_USER,
            "spec.train.lora.quantizedBase: a mixture of experts is not supported; use None");
    for (int i = 0; i < m->base.count; i++)
        if (m->stored[i].type != m->conf.t)
            return 0;
    if (m->conf.quantize == QUANTIZE_NONE)
        return err_set(e, ERR_USER,
            "spec.train.lora.quantizedBase: Stored, but spec.model.source has no quantized matrix; "
            "Q8_0, Q4_0 and Q4_K_M quantize those of any source");
    return err_set(e, ERR_USER,
        "spec.train.lora.quantizedBase: no matrix of this model has rows of whole blocks of %s",
        quantize_name(m->conf.quantize));
}

/* -- tensors -- */

void blocks_bind(struct blocks *b, const struct model *m, const enum tensor_role *roles, int pieces,
    int64_t layer)
{
    bool any = false;
    *b = (struct blocks){.rows = 0};
    for (int i = 0; i < pieces && model_is_quantized(&m->conf); i++) {
        const struct tensor *p = tensors_get(&m->base, roles[i], TENSOR_WEIGHT, layer, -1);
        if (!p)
            continue;
        const struct stored w = m->stored[p - m->base.at];
        any = any || w.type != m->conf.t;
        b->piece[b->pieces] = w;
        b->piece_rows[b->pieces++] = p->shape[0];
        b->rows += p->shape[0];
        b->in = p->shape[1];
    }
    b->rows = any ? b->rows : 0;
}

static int64_t wide_rows(const struct blocks *b)
{
    int64_t rows = WIDE_ELEMENTS / b->in;
    rows = rows ? rows : 1;
    return rows < b->most ? rows : b->most;
}

void blocks_carve(struct blocks *b, const struct batch *s, int64_t most, struct carve *scratch)
{
    if (!b->rows)
        return;
    b->most = most < b->rows ? most : b->rows;
    b->panel = carve_tensor(scratch, b->most, b->in, s->t);
    if (s->t != DTYPE_F32)
        b->wide = carve_tensor(scratch, wide_rows(b), b->in, DTYPE_F32);
}

/* -- decoding -- */

/* n rows of one piece from `row` on, to `to` (n, in) t */
static void decode_rows(const struct batch *s, const struct blocks *b, const struct stored *w,
    int64_t row, int64_t n, void *to)
{
    int64_t row_bytes = dtype_bytes(w->type, b->in), step = s->t != DTYPE_F32 ? wide_rows(b) : n;
    const char *from = (const char *)w->data + row * row_bytes;
    if (w->type == s->t) {
        dev_copy(s->dev, to, from, (size_t)(n * row_bytes));
        return;
    }
    for (int64_t i = 0, part; i < n; i += part) {
        void *out = at_element(to, i * b->in, s->t);
        part = n - i < step ? n - i : step;
        OP(s, convert, .count = part * b->in, .x = from + i * row_bytes, .x_type = w->type,
            .y = s->t != DTYPE_F32 ? b->wide : out, .y_type = DTYPE_F32);
        if (s->t != DTYPE_F32)
            OP(s, convert, .count = part * b->in, .x = b->wide, .x_type = DTYPE_F32, .y = out,
                .y_type = s->t);
    }
}

const void *blocks_rows(const struct batch *s, const struct blocks *b, int64_t row, int64_t n)
{
    int64_t first = 0, end = row + n;
    for (int i = 0; i < b->pieces; first += b->piece_rows[i++]) {
        int64_t from = row > first ? row : first, to = first + b->piece_rows[i];
        to = to < end ? to : end;
        if (from < to)
            decode_rows(s, b, &b->piece[i], from - first, to - from,
                at_element(b->panel, (from - row) * b->in, s->t));
    }
    return b->panel;
}
