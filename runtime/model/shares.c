/*
 * shares: a question is a broadcast, an answer a sum over the world of tensors that are zero where
 * another rank has the numbers, or speaks for them.
 */
#include "runtime/model/shares.h"

#include "base/mem.h"
#include "runtime/model/internal.h"

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
    const struct tensor *p = tensors_find(model_trained(m), q->name);
    p = p ? p : tensors_find(&m->base, q->name);
    memset(whole, 0, (size_t)q->count * sizeof *whole);
    bool speaks = m->conf.answers && p && !model_is_copy(m, p);
    int rc = speaks ? place_own(m, q, p, whole, e) : 0;
    return rc ? rc : coll_allreduce(m->conf.world, whole, q->count, DTYPE_F32, COLL_SUM, e);
}

int shares_read(
    struct model *m, const char *name, bool merged, float *dst, int64_t count, struct err *e)
{
    struct share_question q = {.count = count, .merged = merged};
    if (!model_config_is_share(&m->conf.config))
        return model_read(m, name, merged, dst, count, e);
    snprintf(q.name, sizeof q.name, "%s", name);
    int rc = coll_broadcast(m->conf.world, &q, sizeof q, 0, e);
    return rc ? rc : put_together(m, &q, dst, e);
}

static int answer(struct model *m, const struct share_question *q, struct err *e)
{
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
    if (!model_config_is_share(&m->conf.config))
        return 0;
    return coll_broadcast(m->conf.world, &q, sizeof q, 0, e);
}
