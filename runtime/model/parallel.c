/*
 * parallel: sums in the order of the ranks, so that all have the same bits.
 */
#include "runtime/model/parallel.h"

#include "runtime/model/context.h"

static void reduce_over(
    struct parallel *p, struct coll *c, void *x, int64_t count, enum dtype t, enum coll_reduce op)
{
    if (p->failure.code == ERR_NONE && !coll_reduce_start(c, x, count, t, op, &p->failure))
        coll_reduce_join(c);
}

static void reduce(struct parallel *p, void *x, int64_t count, enum dtype t, enum coll_reduce op)
{
    reduce_over(p, p->ranks, x, count, t, op);
}

void parallel_sum(const struct batch *s, void *x, int64_t count)
{
    reduce(s->parallel, x, count, s->t, COLL_SUM);
}

void parallel_reduce(const struct batch *s, float *x, int64_t count, enum coll_reduce op)
{
    reduce(s->parallel, x, count, DTYPE_F32, op);
}

void parallel_all_to_all(const struct batch *s, const void *out, const int64_t *out_counts,
    void *in, const int64_t *in_counts, enum dtype t)
{
    struct parallel *p = s->parallel;
    if (p->failure.code == ERR_NONE &&
        !coll_all_to_all_start(p->experts, out, out_counts, in, in_counts, t, &p->failure))
        coll_reduce_join(p->experts);
}

bool parallel_tell(const struct batch *s, const void *mine, size_t bytes, void *stage, void *all)
{
    struct parallel *p = s->parallel;
    if (parallel_check(p, &p->failure) || (p->stages && coll_reduce_wait(p->stages, &p->failure)))
        return false;
    dev_download(s->dev, stage, mine, bytes);
    return !dev_sync(s->dev, &p->failure) &&
        !coll_allgather(p->experts, stage, bytes, all, &p->failure);
}

static const int64_t *slices_of(const struct batch *s, int64_t count)
{
    for (int i = 0; i < s->context->size; i++)
        s->context->elements[i] = count;
    return s->context->elements;
}

void parallel_gather(const struct batch *s, void *x, int64_t count)
{
    struct parallel *p = s->parallel;
    if (p->failure.code == ERR_NONE &&
        !coll_all_gather_start(p->context, x, slices_of(s, count), s->t, &p->failure))
        coll_reduce_join(p->context);
}

void parallel_scatter(const struct batch *s, void *x, int64_t count)
{
    struct parallel *p = s->parallel;
    if (p->failure.code == ERR_NONE &&
        !coll_reduce_scatter_start(p->context, x, slices_of(s, count), s->t, COLL_SUM, &p->failure))
        coll_reduce_join(p->context);
}

void parallel_sum_context(struct parallel *p, float *x, int64_t count)
{
    if (p->context)
        reduce_over(p, p->context, x, count, DTYPE_F32, COLL_SUM);
}

static bool is_of_no_expert(const struct tensor *t)
{
    return !tensor_of_expert(t->role);
}

static void sum_those(struct parallel *p, struct coll *c, bool (*are_fn)(const struct tensor *t),
    const struct tensors *t, float *gradient)
{
    for (int i = 0, end; c && i < t->count; i = end) {
        end = i + 1;
        if (!are_fn(&t->at[i]))
            continue;
        while (end < t->count && are_fn(&t->at[end]))
            end++;
        const struct tensor *first = &t->at[i], *last = &t->at[end - 1];
        reduce_over(p, c, gradient + first->offset, last->offset + last->count - first->offset,
            DTYPE_F32, COLL_SUM);
    }
}

void parallel_sum_shared(struct parallel *p, const struct tensors *t, float *gradient)
{
    sum_those(p, p->ranks, tensor_is_shared, t, gradient);
    sum_those(p, p->experts, is_of_no_expert, t, gradient);
}

/* -- stages -- */

/* Behind the last stage is the first, where layers are in chunks. */
static void exchange(const struct batch *s, void *x, int step, bool receive)
{
    struct parallel *p = s->parallel;
    const struct coll_message m = {.data = x,
        .bytes = (size_t)(s->n * s->config->dim * dtype_block_bytes(s->t)),
        .peer = (p->stage + step + p->stage_count) % p->stage_count,
        .receive = receive};
    if (p->failure.code == ERR_NONE && !coll_exchange_start(p->stages, &m, 1, &p->failure))
        coll_reduce_join(p->stages);
}

void parallel_receive(const struct batch *s, void *x)
{
    if (s->parallel->stages && !model_config_chunk_is_first(s->config, s->chunk))
        exchange(s, x, -1, true);
}

void parallel_hand_on(const struct batch *s, const void *x)
{
    if (s->parallel->stages && !model_config_chunk_is_last(s->config, s->chunk))
        exchange(s, (void *)x, 1, false);
}

/* -- ends -- */

int parallel_check(struct parallel *p, struct err *e)
{
    struct coll *const all[] = {p->ranks, p->experts, p->context};
    int rc = 0;
    for (int i = 0; i < 3 && p->failure.code == ERR_NONE && !rc; i++)
        rc = all[i] ? coll_reduce_wait(all[i], e) : 0;
    if (p->failure.code == ERR_NONE)
        return rc;
    *e = p->failure;
    return -(int)e->code;
}

int parallel_finish(struct parallel *p, struct dev *d, struct err *e)
{
    int rc = parallel_check(p, e);
    if (rc || (p->stages && (rc = coll_reduce_wait(p->stages, e))))
        return rc;
    return dev_sync(d, e);
}

int parallel_meet(struct parallel *p, const void *mine, size_t bytes, void *all, struct err *e)
{
    if (p->ranks)
        return coll_allgather(p->ranks, mine, bytes, all, e);
    memcpy(all, mine, bytes);
    return 0;
}

int parallel_from_last(struct parallel *p, void *data, size_t bytes, struct err *e)
{
    return p->stages ? coll_broadcast(p->stages, data, bytes, p->stage_count - 1, e) : 0;
}
