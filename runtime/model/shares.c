/*
 * shares: a question is a broadcast, an answer a sum of tensors that are zero where another rank has
 * the numbers.
 */
#include "runtime/model/shares.h"

#include "base/mem.h"
#include "runtime/model/internal.h"

struct question {
    char name[sizeof((struct tensor *)0)->name]; /* "": no more */
    bool merged;
};

/* whole (rows, columns) = what this rank has of it, and zeros. */
static int place_own(struct model *m, const struct tensor *p, bool merged, float *whole, struct err *e)
{
    int64_t columns = p->shape[1];
    mem_autofree float *own = mem_array((size_t)p->count, sizeof *own);
    if (!own)
        return err_set(e, ERR_MEMORY, "no memory to read %s", p->name);
    int rc = model_read(m, p->name, merged, own, p->count, e);
    memset(whole, 0, (size_t)(p->whole[0] * p->whole[1]) * sizeof *whole);
    for (int64_t row = 0; row < p->shape[0] && !rc; row++)
        memcpy(whole + (p->begin[0] + row) * p->whole[1] + p->begin[1], own + row * columns,
            (size_t)columns * sizeof *own);
    return rc;
}

static const struct tensor *find(const struct model *m, const char *name)
{
    const struct tensor *p = tensors_find(model_trained(m), name);
    return p ? p : tensors_find(&m->base, name);
}

static int put_together(
    struct model *m, const struct question *q, const struct tensor *p, float *whole, struct err *e)
{
    int rc = place_own(m, p, q->merged, whole, e);
    return rc ? rc
              : coll_allreduce(
                    m->conf.tensor, whole, p->whole[0] * p->whole[1], DTYPE_F32, COLL_SUM, e);
}

int shares_read(
    struct model *m, const char *name, bool merged, float *dst, int64_t count, struct err *e)
{
    const struct tensor *p = find(m, name);
    if (!p || !tensor_is_cut(p))
        return model_read(m, name, merged, dst, count, e);
    if (p->whole[0] * p->whole[1] != count)
        return err_set(e, ERR_BUG, "no tensor %s of %lld numbers", name, (long long)count);
    struct question q = {.merged = merged};
    snprintf(q.name, sizeof q.name, "%s", name);
    int rc = coll_broadcast(m->conf.tensor, &q, sizeof q, 0, e);
    return rc ? rc : put_together(m, &q, p, dst, e);
}

static int answer(struct model *m, const struct question *q, struct err *e)
{
    const struct tensor *p = find(m, q->name);
    if (!p)
        return err_set(e, ERR_BUG, "no tensor %s", q->name);
    mem_autofree float *whole = mem_array((size_t)(p->whole[0] * p->whole[1]), sizeof *whole);
    if (!whole)
        return err_set(e, ERR_MEMORY, "no memory to read %s", p->name);
    return put_together(m, q, p, whole, e);
}

int shares_answer(struct model *m, struct err *e)
{
    for (;;) {
        struct question q = {.name = ""};
        int rc = coll_broadcast(m->conf.tensor, &q, sizeof q, 0, e);
        q.name[sizeof q.name - 1] = 0;
        if (rc || !*q.name || (rc = answer(m, &q, e)))
            return rc;
    }
}

int shares_end(struct model *m, struct err *e)
{
    struct question q = {.name = ""};
    return coll_broadcast(m->conf.tensor, &q, sizeof q, 0, e);
}
