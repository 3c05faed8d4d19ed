/*
 * dropout: seeds stand far from those of LoRA's dropout (lora_seed), which has one of its own.
 */
#include "runtime/model/dropout.h"

#define SEEDS_FROM ((uint64_t)1 << 48)

uint64_t dropout_seed(uint64_t seed, enum tensor_role role, int64_t layer)
{
    uint64_t i = SEEDS_FROM + 2 * ((uint64_t)(layer + 1) * TENSOR_ROLES + role);
    return (uint64_t)op_random(seed, i) << 32 | op_random(seed, i + 1);
}

struct dropout dropout_bind(const struct model *m, enum tensor_role role, int64_t layer)
{
    return (struct dropout){.p = m->conf.train && !m->conf.frozen ? m->conf.dropout : 0,
        .seed = dropout_seed(m->conf.seed, role, layer)};
}

bool dropout_drops(const struct batch *s, const struct dropout *d)
{
    return s->drops && d->p > 0;
}

void dropout_apply(
    const struct batch *s, const struct dropout *d, int64_t n, int64_t every, void *x)
{
    int64_t dim = s->config->dim;
    if (dropout_drops(s, d))
        OP(s, dropout, .count = n * dim, .x = x, .p = d->p,
            .seed = op_random_from(d->seed, (uint64_t)(s->first / every * dim)), .t = s->t);
}
