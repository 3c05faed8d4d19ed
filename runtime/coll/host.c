/*
 * coll_host: host memory, and the device's where the host reads it. The pod's ranks reduce in
 * shared memory, their leaders over TCP, then the pods spread the result. Everything that the other
 * transports need of each other at their start goes this way.
 */
#include "runtime/coll/internal.h"

/* One message that fits the transports as it is. */
static int reduce_piece(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e)
{
    int rc = c->within ? c->within->all_reduce(c, data, count, t, op, e) : 0;
    if (rc || !c->between)
        return rc;
    if (c->leader_index >= 0)
        rc = c->between->all_reduce(c, data, count, t, op, e);
    if (rc || !c->within)
        return rc;
    return c->within->broadcast(c, data, (size_t)count * coll_element(t), e);
}

/* Elements at once: all, or, of what is not shared, as many as the staging area holds. A rank alone
 * in its pod cuts the same way when others are not alone, because ring neighbours must agree on
 * every message. */
static int64_t piece_of(const struct coll *c, const void *data, int64_t count, size_t element)
{
    bool whole = c->leader_count == c->size || coll_local_holds(c, data, (size_t)count * element);
    return whole ? count : COLL_STAGING / (int64_t)element;
}

static int host_all_reduce(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e)
{
    size_t element = coll_element(t);
    if (c->size == 1 || count == 0)
        return 0;
    int64_t most = piece_of(c, data, count, element);
    for (int64_t done = 0; done < count; done += most) {
        int64_t n = count - done < most ? count - done : most;
        int rc = reduce_piece(c, (uint8_t *)data + (size_t)done * element, n, t, op, e);
        if (rc)
            return rc;
    }
    return 0;
}

/* -- slices -- */

/* The slices within a piece, counted from its beginning: of this pod's ranks, of all leaders. */
struct cut {
    const int64_t *local, *pods;
};

static struct cut cut_slices(struct coll *c, const int64_t *first, int64_t from, int64_t count)
{
    const int64_t *all = coll_cut(c, c->cut, first, from, count);
    int64_t *pods = c->cut + c->size + 1;
    for (int i = 0; i < c->leader_count; i++)
        pods[i] = all[(c->leaders[i] - c->first) / c->stride];
    pods[c->leader_count] = all[c->size];
    return (struct cut){all + c->index - c->local_index, pods};
}

static int scatter_piece(struct coll *c, void *data, struct cut cut, int64_t count, enum dtype t,
    enum coll_reduce op, struct err *e)
{
    if (!c->between)
        return c->within->reduce_scatter(c, data, cut.local, t, op, e);
    int rc = c->within ? c->within->all_reduce(c, data, count, t, op, e) : 0;
    if (!rc && c->leader_index >= 0)
        rc = c->between->reduce_scatter(c, data, cut.pods, t, op, e);
    if (rc || !c->within)
        return rc;
    size_t from = (size_t)cut.local[0] * coll_element(t),
           to = (size_t)cut.local[c->local_count] * coll_element(t);
    return c->within->broadcast(c, (uint8_t *)data + from, to - from, e);
}

/* In the pieces of host_all_reduce, and so with its sums. */
static int host_reduce_scatter(struct coll *c, void *data, const int64_t *first, enum dtype t,
    enum coll_reduce op, struct err *e)
{
    size_t element = coll_element(t);
    int64_t count = first[c->size];
    if (c->size == 1 || count == 0)
        return 0;
    int64_t most = piece_of(c, data, count, element);
    for (int64_t done = 0; done < count; done += most) {
        int64_t n = count - done < most ? count - done : most;
        int rc = scatter_piece(c, (uint8_t *)data + (size_t)done * element,
            cut_slices(c, first, done, n), n, t, op, e);
        if (rc)
            return rc;
    }
    return 0;
}

static int gather_piece(struct coll *c, void *data, struct cut cut, size_t element, struct err *e)
{
    int rc = c->within ? c->within->all_gather(c, data, cut.local, element, e) : 0;
    if (rc || !c->between)
        return rc;
    if (c->leader_index >= 0)
        rc = c->between->all_gather(c, data, cut.pods, element, e);
    if (rc || !c->within)
        return rc;
    return c->within->broadcast(c, data, (size_t)cut.pods[c->leader_count] * element, e);
}

static int host_all_gather(
    struct coll *c, void *data, const int64_t *first, size_t element, struct err *e)
{
    int64_t count = first[c->size];
    if (c->size == 1 || count == 0)
        return 0;
    int64_t most = piece_of(c, data, count, element);
    for (int64_t done = 0; done < count; done += most) {
        int64_t n = count - done < most ? count - done : most;
        int rc = gather_piece(
            c, (uint8_t *)data + (size_t)done * element, cut_slices(c, first, done, n), element, e);
        if (rc)
            return rc;
    }
    return 0;
}

static int host_exchange(struct coll *c, const struct coll_message *messages, int n, struct err *e)
{
    return coll_pairs_exchange(c, messages, n, NULL, 0, e);
}

static int host_all_to_all(struct coll *c, struct coll_message *messages, int n, struct err *e)
{
    bool shared = c->within != NULL;
    for (int i = 0; i < n && shared; i++)
        shared = messages[i].receive || coll_local_holds(c, messages[i].data, messages[i].bytes);
    int rc = shared ? coll_local_all_to_all(c, messages, &n, e) : 0;
    return rc || !n ? rc : host_exchange(c, messages, n, e);
}

static int host_alloc(struct coll *c, size_t bytes, void **out, struct err *e)
{
    return coll_local.alloc(c, bytes, out, e);
}

const struct coll_transport coll_host = {
    .name = "host",
    .alloc = host_alloc,
    .all_reduce = host_all_reduce,
    .reduce_scatter = host_reduce_scatter,
    .all_gather = host_all_gather,
    .connect = coll_pairs_open,
    .exchange = host_exchange,
    .all_to_all = host_all_to_all,
};
