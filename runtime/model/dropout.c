/*
 * dropout: seeds stand far from those of LoRA's dropout (lora_seed), which has one of its own.
 */
#include "runtime/model/dropout.h"

#include "runtime/model/context.h"

#define SEEDS_FROM ((uint64_t)1 << 48)

uint64_t dropout_seed(uint64_t seed, enum tensor_role role, int64_t layer)
{
    uint64_t i = SEEDS_FROM + 2 * ((uint64_t)(layer + 1) * TENSOR_ROLES + role);
    return (uint64_t)op_random(seed, i) << 32 | op_random(seed, i + 1);
}

static float share_of(const struct model_dropout *d, enum tensor_role role)
{
    return role == TENSOR_EMBED     ? d->embed
        : role == TENSOR_CLASSIFIER ? d->classifier
        : role == TENSOR_Q          ? d->attention
                                    : d->residual;
}

struct dropout dropout_bind(const struct model *m, enum tensor_role role, int64_t layer)
{
    bool drops = m->conf.train && !m->conf.frozen;
    return (struct dropout){.p = drops ? share_of(&m->conf.dropout, role) : 0,
        .seed = dropout_seed(m->conf.seed, role, layer)};
}

bool dropout_drops(const struct batch *s, const struct dropout *d)
{
    return s->drops && d->p > 0;
}

/* n rows of x from row `at` on, of which the first is row `place` in the order of training. */
static void drop_rows(
    const struct batch *s, const struct dropout *d, int64_t n, int64_t at, int64_t place, void *x)
{
    int64_t dim = s->config->dim;
    OP(s, dropout, .count = n * dim, .x = at_element(x, at * dim, s->t), .p = d->p,
        .seed = op_random_from(d->seed, (uint64_t)(place * dim)), .t = s->t);
}

/* Of tokens that other ranks have too: two chunks of each sequence. */
static void drop_chunks(const struct batch *s, const struct dropout *d, void *x)
{
    int64_t size = s->context->size, n = s->tokens / 2;
    for (int64_t i = 0; i < s->b; i++)
        for (int half = 0; half < 2; half++)
            drop_rows(s, d, n, i * s->tokens + half * n,
                (s->first + i * s->tokens) * size + context_chunk(size, s->context->rank, half) * n,
                x);
}

static bool is_chunked(const struct batch *s)
{
    return s->context && s->context->size > 1;
}

void dropout_apply(
    const struct batch *s, const struct dropout *d, int64_t n, int64_t every, void *x)
{
    if (!dropout_drops(s, d))
        return;
    if (is_chunked(s) && every == 1)
        drop_chunks(s, d, x);
    else
        drop_rows(s, d, n, 0, s->first / every, x);
}

struct op_attention_drop dropout_of_attention(
    const struct batch *s, const struct dropout *d, int64_t i)
{
    const struct model_config *c = s->config;
    uint64_t heads = (uint64_t)(model_config_is_share(c) ? c->share.heads : c->heads);
    uint64_t first = (uint64_t)(c->share.first_kv_head * (c->heads / c->kv_heads));
    uint64_t keys = (uint64_t)(s->tokens * (is_chunked(s) ? s->context->size : 1));
    uint64_t sequence = (uint64_t)(s->first / s->tokens + i);
    if (!dropout_drops(s, d))
        return (struct op_attention_drop){.p = 0};
    return (struct op_attention_drop){.p = d->p,
        .seed = op_random_from(d->seed, (sequence * heads + first) * keys * keys),
        .heads = (int64_t)heads,
        .keys = (int64_t)keys};
}
