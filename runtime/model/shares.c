/*
 * shares: a question is a broadcast, an answer a sum over the world of tensors that are zero where
 * another rank has the numbers, or speaks for them: of their bits, so that it is exact.
 */
#include "runtime/model/shares.h"

#include "base/mem.h"
#include "runtime/model/internal.h"

#define PIECE (1 << 20) /* elements */

struct share_question {
    char name[sizeof((struct tensor *)0)->name]; /* "": no more */
    int64_t count;                               /* of the whole */
    bool merged;
};

/* whole = what this rank has of it, among zeros. */
static int place_own(struct model *m, const struct share_question *q, const struct tensor *p,
    float *whole, struct err *e)
{
    int64_t columns = p->shape[1];
    mem_autofree float *own = mem_array((size_t)p->count, sizeof *own);
    if (!own)
        return err_set(e, ERR_MEMORY, "no memory to read %s", p->name);
    if (p->whole[0] * p->whole[1] != q->count)
        return err_set(e, ERR_BUG, "no tensor %s of %lld numbers", p->name, (long long)q->count);
    int rc = model_read(m, p->name, q->merged, own, p->count, e);
    for (int64_t row = 0; row < p->shape[0] && !rc; row++)
        memcpy(whole + (p->begin[0] + row) * p->whole[1] + p->begin[1], own + row * columns,
            (size_t)columns * sizeof *own);
    return rc;
}

static int put_together(
    struct model *m, const struct share_question *q, float *whole, struct err *e)
{
    const struct tensor *trained = tensors_find(model_trained(m), q->name);
    const struct tensor *p = trained ? trained : tensors_find(&m->base, q->name);
    memset(whole, 0, (size_t)q->count * sizeof *whole);
    bool answers = m->conf.answers || (trained && zero_divides_masters(&m->conf));
    int rc = answers && p && !model_is_copy(m, p) ? place_own(m, q, p, whole, e) : 0;
    return rc ? rc : coll_allreduce(m->conf.world, whole, q->count, DTYPE_I32, COLL_SUM, e);
}

/* Of a model of which ranks have slices, piece by piece; whole NULL: another one asked. */
static int add_slices(struct model *m, const struct share_question *q, float *whole, struct err *e)
{
    const struct tensor *trained = tensors_find(model_trained(m), q->name);
    const struct tensor *p = trained ? trained : tensors_find(&m->base, q->name);
    bool divided = trained ? zero_divides_masters(&m->conf) : zero_divides_weights(&m->conf);
    mem_autofree float *piece = mem_array(PIECE, sizeof *piece);
    if (!piece)
        return err_set(e, ERR_MEMORY, "no memory to read %s", q->name);
    if (!p || p->count != q->count)
        return err_set(e, ERR_BUG, "no tensor %s of %lld numbers", q->name, (long long)q->count);
    if (!divided)
        return whole ? model_read(m, q->name, q->merged, whole, q->count, e) : 0;
    for (int64_t first = 0, n; first < p->count; first += n) {
        int rc;
        n = p->count - first < PIECE ? p->count - first : PIECE;
        float *at = whole ? whole + first : piece;
        model_read_here(m, p, first, n, at);
        if ((rc = dev_sync(m->dev, e)) ||
            (rc = coll_allreduce(m->conf.world, at, n, DTYPE_I32, COLL_SUM, e)))
            return rc;
    }
    return whole && q->merged && !trained ? model_merge(m, p, whole, e) : 0;
}

int shares_read(
    struct model *m, const char *name, bool merged, float *dst, int64_t count, struct err *e)
{
    struct share_question q = {.count = count, .merged = merged};
    if (!model_is_divided(m))
        return model_read(m, name, merged, dst, count, e);
    snprintf(q.name, sizeof q.name, "%s", name);
    int rc = coll_broadcast(m->conf.world, &q, sizeof q, 0, e);
    if (rc)
        return rc;
    return model_config_is_share(&m->conf.config) ? put_together(m, &q, dst, e)
                                                  : add_slices(m, &q, dst, e);
}

static int answer(struct model *m, const struct share_question *q, struct err *e)
{
    if (!model_config_is_share(&m->conf.config))
        return add_slices(m, q, NULL, e);
    mem_autofree float *whole = mem_array((size_t)q->count, sizeof *whole);
    if (!whole)
        return err_set(e, ERR_MEMORY, "no memory to read %s", q->name);
    return put_together(m, q, whole, e);
}

int shares_answer(struct model *m, struct err *e)
{
    for (;;) {
        struct share_question q = {.name = ""};
        int rc = coll_broadcast(m->conf.world, &q, sizeof q, 0, e);
        q.name[sizeof q.name - 1] = 0;
        if (rc || !*q.name || (rc = answer(m, &q, e)))
            return rc;
    }
}

int shares_end(struct model *m, struct err *e)
{
    struct share_question q = {.name = ""};
    if (!model_is_divided(m))
        return 0;
    return coll_broadcast(m->conf.world, &q, sizeof q, 0, e);
}
