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

/* Cuts what is not shared into pieces that the staging area holds; a rank alone in its pod cuts the
 * same way when others are not alone, because ring neighbours must agree on every message. */
static int host_all_reduce(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e)
{
    size_t element = coll_element(t);
    if (c->size == 1 || count == 0)
        return 0;
    if (c->leader_count == c->size || coll_local_holds(c, data, (size_t)count * element))
        return reduce_piece(c, data, count, t, op, e);
    int64_t most = COLL_STAGING / (int64_t)element;
    for (int64_t done = 0; done < count; done += most) {
        int64_t n = count - done < most ? count - done : most;
        int rc = reduce_piece(c, (uint8_t *)data + (size_t)done * element, n, t, op, e);
        if (rc)
            return rc;
    }
    return 0;
}

static int host_alloc(struct coll *c, size_t bytes, void **out, struct err *e)
{
    return coll_local.alloc(c, bytes, out, e);
}

const struct coll_transport coll_host = {
    .name = "host",
    .alloc = host_alloc,
    .all_reduce = host_all_reduce,
};
