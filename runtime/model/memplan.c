/*
 * memplan: asks each owner of memory to count. Flat ranges are as long as their table.
 */
#include "runtime/model/memplan.h"

#include "runtime/model/blocks.h"
#include "runtime/model/engine.h"
#include "runtime/model/internal.h"
#include "runtime/model/pass.h"
#include "runtime/model/teacher.h"

static int plan_training(struct model *m, struct memplan *p, struct err *e)
{
    const struct tensors *t = model_trained(m);
    struct carve quantized = {0}, moments = {0}; /* AdamW's, in F32 */
    int rc;
    if (m->stored)
        blocks_carve_base(m, &quantized);
    carve_tensor(&moments, 1, t->elements, DTYPE_F32);
    carve_tensor(&moments, 1, t->elements, DTYPE_F32);
    if (model_is_frozen(&m->conf))
        p->weights = m->stored ? quantized.size
                               : carve_times(m->base.elements, dtype_block_bytes(m->conf.t));
    p->master = p->gradient = carve_times(t->elements, 4);
    p->optimizer = m->conf.optimizer_fn ? m->conf.optimizer_fn(&m->conf, t) : moments.size;
    if (m->conf.t != DTYPE_F32)
        p->copy = carve_times(t->elements, 2);
    if (m->conf.teacher && (rc = teacher_plan(&m->conf, &p->teacher, e)))
        return rc;
    return pass_plan(m, p, e);
}

static int plan_serving(struct model *m, const struct weights *w, struct memplan *p, struct err *e)
{
    struct carve stored = {0};
    model_carve_stored(m, w, &stored);
    p->weights = carve_plus(stored.size, carve_times(m->added.elements, 4));
    return engine_plan(m, p, e);
}

int memplan_of(struct model *m, const struct weights *w, struct memplan *out, struct err *e)
{
    struct memplan p = {0};
    int rc = m->conf.train ? plan_training(m, &p, e) : plan_serving(m, w, &p, e);
    if (rc)
        return rc;
    for (const int64_t *f = &p.weights; f < &p.total; f++)
        p.total = carve_plus(p.total, *f);
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
    return err_set(e, ERR_MEMORY,
        "this rank needs %lld MiB (weights %lld, optimizer %lld, activations %lld) and "
        "may use %lld MiB",
        (long long)(p->total >> 20),
        (long long)((p->weights + p->master + p->copy + p->teacher) >> 20),
        (long long)((p->gradient + p->optimizer) >> 20),
        (long long)(carve_plus(p->saved, p->scratch) >> 20), (long long)(budget_bytes >> 20));
}
