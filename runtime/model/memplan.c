/*
 * memplan: asks each owner of memory to count. Flat ranges are as long as their table.
 */
#include "runtime/model/memplan.h"

#include "runtime/model/beside.h"
#include "runtime/model/blocks.h"
#include "runtime/model/encoder.h"
#include "runtime/model/engine.h"
#include "runtime/model/internal.h"
#include "runtime/model/pass.h"
#include "runtime/model/teacher.h"

/* SmolLM2's 49,152 tokens and their merges take 16 MiB; programs, libraries and scratch 26, of two
   threads. */
#define PROGRAM_BYTES (32 << 20)
#define TOKEN_BYTES   384

int64_t memplan_programs(int64_t vocab)
{
    return carve_plus(PROGRAM_BYTES, memplan_vocabulary(vocab));
}

int64_t memplan_vocabulary(int64_t vocab)
{
    return carve_times(vocab, TOKEN_BYTES);
}

/* What of the flat ranges an owner keeps, or each rank where there are none. */
static void plan_ranges(const struct model *m, int owner, struct memplan *p)
{
    const struct tensors *t = model_trained(m);
    struct model_conf c = m->conf;
    struct carve moments = {0}; /* AdamW's, in F32 */
    int64_t base = m->base.elements, master = t->elements, gradient = t->elements;
    c.owner = owner;
    if (zero_divides_masters(&c))
        master = zero_trained(&c, t, owner).count;
    if (zero_divides_gradient(&c))
        gradient =
            carve_plus(zero_trained(&c, t, owner).count, zero_window_elements(&m->gradient_window));
    if (zero_divides_weights(&c))
        base = zero_base(&c, &m->base, owner).count;
    carve_tensor(&moments, 1, t->elements, DTYPE_F32);
    carve_tensor(&moments, 1, t->elements, DTYPE_F32);
    p->weights = model_is_frozen(&c) ? carve_times(base, dtype_block_bytes(c.t)) : 0;
    p->master = carve_times(master, 4);
    p->gradient = carve_times(gradient, 4);
    p->optimizer = c.optimizer_fn ? c.optimizer_fn(&c, t) : moments.size;
}

static int64_t sum_of(const struct memplan *p)
{
    int64_t sum = 0;
    for (const int64_t *f = &p->weights; f < &p->total; f++)
        sum = carve_plus(sum, *f);
    return sum;
}

/* Of the owner, or the one that keeps most. */
static void plan_owner(const struct model *m, struct memplan *p)
{
    const struct model_conf *c = &m->conf;
    bool all = c->owners > 1 && c->owner < 0 && c->slice_fn;
    plan_ranges(m, all ? 0 : c->owner, p);
    for (int owner = 1; all && owner < c->owners; owner++) {
        struct memplan x = {0};
        plan_ranges(m, owner, &x);
        *p = sum_of(&x) > sum_of(p) ? x : *p;
    }
}

static int plan_training(struct model *m, struct memplan *p, struct err *e)
{
    const struct model_conf *c = &m->conf;
    bool windowed = zero_divides_weights(c);
    int rc;
    plan_owner(m, p);
    if (m->stored) {
        struct carve quantized = {0};
        blocks_carve_base(m, &quantized);
        p->weights = quantized.size;
    }
    if (c->t != DTYPE_F32 && !(windowed && !model_is_frozen(c)))
        p->copy = carve_times(model_trained(m)->elements, 2);
    if (c->exchange_fn)
        p->exchange = c->exchange_fn(c, model_trained(m)->elements);
    if (c->snapshot_fn)
        p->snapshot = c->snapshot_fn(c, model_trained(m));
    if (windowed)
        p->window = carve_times(zero_window_elements(&m->weights_window), dtype_block_bytes(c->t));
    if (c->teacher && (rc = teacher_plan(c, &p->teacher, e)))
        return rc;
    return pass_plan(m, p, e);
}

static int plan_serving(struct model *m, const struct weights *w, struct memplan *p, struct err *e)
{
    struct carve stored = {0};
    int rc = w ? model_check_stored(m, w, e) : 0;
    if (rc)
        return rc;
    model_carve_stored(m, w, &stored);
    p->weights = carve_plus(stored.size, carve_times(m->added.elements, 4));
    p->beside = beside_bytes(m->conf.beside, &m->conf.config);
    p->draft = m->conf.draft_bytes;
    p->programs = m->conf.programs;
    return m->conf.encodes ? encoder_plan(m, p, e) : engine_plan(m, p, e);
}

int memplan_of(struct model *m, const struct weights *w, struct memplan *out, struct err *e)
{
    struct memplan p = {0};
    int rc = m->conf.train ? plan_training(m, &p, e) : plan_serving(m, w, &p, e);
    if (rc)
        return rc;
    p.total = sum_of(&p);
    *out = p;
    return 0;
}

int memplan_model(
    const struct model_conf *c, const struct weights *w, struct memplan *out, struct err *e)
{
    struct model m = {0};
    int rc = model_describe(&m, c, e);
    if (!rc)
        rc = memplan_of(&m, w, out, e);
    model_done(&m);
    return rc;
}

int memplan_require(const struct memplan *p, int64_t budget_bytes, struct err *e)
{
    if (p->total <= budget_bytes)
        return 0;
    if (p->cache || p->programs)
        return err_set(e, ERR_MEMORY,
            "this rank needs %lld MiB (weights %lld, cache %lld, adapters %lld, draft %lld, "
            "activations %lld, programs %lld) and may use %lld MiB",
            (long long)(p->total >> 20), (long long)(p->weights >> 20), (long long)(p->cache >> 20),
            (long long)(p->beside >> 20), (long long)(p->draft >> 20),
            (long long)(carve_plus(p->saved, carve_plus(p->scratch, p->logits)) >> 20),
            (long long)(p->programs >> 20), (long long)(budget_bytes >> 20));
    return err_set(e, ERR_MEMORY,
        "this rank needs %lld MiB (weights %lld, optimizer %lld, activations %lld) and "
        "may use %lld MiB",
        (long long)(p->total >> 20),
        (long long)((p->weights + p->master + p->copy + p->window + p->teacher) >> 20),
        (long long)((p->gradient + p->optimizer + p->exchange) >> 20),
        (long long)(carve_plus(p->saved, p->scratch) >> 20), (long long)(budget_bytes >> 20));
}
