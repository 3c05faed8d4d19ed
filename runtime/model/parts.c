/*
 * parts: the table of a model's tensors. Order: embedding, learned positions; per layer q, k, v, o,
 * gate, up, down; head unless tied; then per layer its two norms and the biases of its matrices;
 * the final norm. The order is part of nothing on disk: checkpoints go by name. Sizes are checked
 * in 64 bits: parts_add refuses what would overflow the flat range in bytes.
 */
#include "runtime/model/parts.h"

#include "api/limits.h"
#include "base/mem.h"

void parts_linear(const struct model_config *c, enum linear_kind kind, struct linear_shape *out)
{
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim, f = c->ffn_dim;
    const struct linear_shape up = {c->dim, f, 1, {f}, {"mlp.up_proj"}, c->ffn_bias};
    const struct linear_shape gate_up = {
        c->dim, 2 * f, 2, {f, f}, {"mlp.gate_proj", "mlp.up_proj"}, c->ffn_bias};
    const struct linear_shape shapes[LINEARS] = {
        [LINEAR_QKV] = {c->dim, q + 2 * kv, 3, {q, kv, kv},
            {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}, c->qkv_bias},
        [LINEAR_O] = {q, c->dim, 1, {c->dim}, {"self_attn.o_proj"}, c->o_bias},
        [LINEAR_GATE_UP] = c->activation == ACTIVATION_SWIGLU ? gate_up : up,
        [LINEAR_DOWN] = {f, c->dim, 1, {c->dim}, {"mlp.down_proj"}, c->ffn_bias},
    };

    *out = shapes[kind];
}

void parts_done(struct parts *p)
{
    mem_free(p->at);
    *p = (struct parts){0};
}

void parts_name(char out[128], int64_t layer, const char *piece, const char *suffix)
{
    snprintf(out, 128, "model.layers.%lld.%s.%s", (long long)layer, piece, suffix);
}

int parts_add(
    struct parts *p, const char *name, int64_t rows, int64_t cols, bool joined, struct err *e)
{
    int64_t count, start = p->elements, bytes;
    struct model_part *part;

    if (!joined)
        start = (start + PARTS_ALIGN - 1) / PARTS_ALIGN * PARTS_ALIGN;
    if (rows <= 0 || cols < 0 || __builtin_mul_overflow(rows, cols ? cols : 1, &count) ||
        __builtin_add_overflow(start, count, &p->elements) ||
        __builtin_mul_overflow(p->elements, 16, &bytes))
        return err_set(e, ERR_DATA, "%s: a tensor of %lld x %lld is too large", name,
            (long long)rows, (long long)cols);
    if (p->count == p->capacity) {
        int capacity = p->capacity ? 2 * p->capacity : 64;
        void *grown = mem_grow(p->at, (size_t)capacity, sizeof *p->at);

        if (!grown || capacity > 4 * LIMIT_TENSORS)
            return err_set(e, ERR_MEMORY, "no memory for a table of %d tensors", capacity);
        p->at = grown;
        p->capacity = capacity;
    }
    part = &p->at[p->count++];
    *part = (struct model_part){.offset = start,
        .count = count,
        .dims = cols ? 2 : 1,
        .shape = {rows, cols},
        .decay = cols != 0};
    snprintf(part->name, sizeof part->name, "%s", name);
    return 0;
}

static int add_matrices(struct parts *p, const struct model_config *c, int64_t layer, struct err *e)
{
    struct linear_shape s;
    char name[128];
    int rc = 0;

    for (enum linear_kind kind = 0; kind < LINEARS; kind++) {
        parts_linear(c, kind, &s);
        for (int i = 0; i < s.pieces && !rc; i++) {
            parts_name(name, layer, s.name[i], "weight");
            rc = parts_add(p, name, s.rows[i], s.in, i > 0, e);
        }
    }
    return rc;
}

static int add_norm(struct parts *p, const struct model_config *c, const char *stem, struct err *e)
{
    char name[128];
    int rc;

    snprintf(name, sizeof name, "%s.weight", stem);
    rc = parts_add(p, name, c->dim, 0, false, e);
    if (rc || c->norm != NORM_LAYER)
        return rc;
    snprintf(name, sizeof name, "%s.bias", stem);
    return parts_add(p, name, c->dim, 0, false, e);
}

static int add_vectors(struct parts *p, const struct model_config *c, int64_t layer, struct err *e)
{
    static const char *const norms[] = {"input_layernorm", "post_attention_layernorm"};
    struct linear_shape s;
    char name[128];
    int rc = 0;

    for (int i = 0; i < 2 && !rc; i++) {
        snprintf(name, sizeof name, "model.layers.%lld.%s", (long long)layer, norms[i]);
        rc = add_norm(p, c, name, e);
    }
    for (enum linear_kind kind = 0; kind < LINEARS; kind++) {
        parts_linear(c, kind, &s);
        for (int i = 0; s.bias && i < s.pieces && !rc; i++) {
            parts_name(name, layer, s.name[i], "bias");
            rc = parts_add(p, name, s.rows[i], 0, i > 0, e);
        }
    }
    return rc;
}

int parts_base(const struct model_config *c, struct parts *out, struct err *e)
{
    struct parts p = {0};
    int rc = parts_add(&p, "model.embed_tokens.weight", c->vocab, c->dim, false, e);

    if (!rc && c->positions == POSITIONS_LEARNED)
        rc = parts_add(&p, "model.embed_positions.weight", c->context, c->dim, false, e);
    for (int64_t l = 0; l < c->layers && !rc; l++)
        rc = add_matrices(&p, c, l, e);
    if (!rc && !c->tied_embeddings)
        rc = parts_add(&p, "lm_head.weight", c->vocab, c->dim, false, e);
    for (int64_t l = 0; l < c->layers && !rc; l++)
        rc = add_vectors(&p, c, l, e);
    if (!rc)
        rc = add_norm(&p, c, "model.norm", e);
    if (rc) {
        parts_done(&p);
        return rc;
    }
    *out = p;
    return 0;
}

const struct model_part *parts_find(const struct parts *p, const char *name)
{
    for (int i = 0; i < p->count; i++)
        if (!strcmp(p->at[i].name, name))
            return &p->at[i];
    return NULL;
}

int parts_index_positions(const struct model_config *c)
{
    return c->positions == POSITIONS_LEARNED ? 1 : -1;
}

/* Of one layer: the pieces of the matrices before `kind`, or their biases. */
static int pieces_before(const struct model_config *c, enum linear_kind kind, bool biases)
{
    struct linear_shape s;
    int sum = 0;

    for (enum linear_kind k = 0; k < kind; k++) {
        parts_linear(c, k, &s);
        sum += biases && !s.bias ? 0 : s.pieces;
    }
    return sum;
}

static int matrices_before(const struct model_config *c, int64_t layer)
{
    return (c->positions == POSITIONS_LEARNED ? 2 : 1) +
        (int)layer * pieces_before(c, LINEARS, false);
}

int parts_index_linear(const struct model_config *c, int64_t layer, enum linear_kind kind)
{
    return matrices_before(c, layer) + pieces_before(c, kind, false);
}

int parts_index_head(const struct model_config *c)
{
    return c->tied_embeddings ? 0 : matrices_before(c, c->layers);
}

static int norm_parts(const struct model_config *c)
{
    return c->norm == NORM_LAYER ? 2 : 1;
}

int parts_index_norm(const struct model_config *c, int64_t layer, int which)
{
    int vectors = 2 * norm_parts(c) + pieces_before(c, LINEARS, true);

    return matrices_before(c, c->layers) + (c->tied_embeddings ? 0 : 1) + (int)layer * vectors +
        which * norm_parts(c);
}

int parts_index_bias(const struct model_config *c, int64_t layer, enum linear_kind kind)
{
    return parts_index_norm(c, layer, 2) + pieces_before(c, kind, true);
}

int parts_index_final_norm(const struct model_config *c)
{
    return parts_index_norm(c, c->layers, 0);
}
