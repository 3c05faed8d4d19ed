/*
 * coll_staged: device memory reduced by the host's transports, piece by piece through one buffer
 * that the pod's ranks share, so that the sum itself copies nothing more. For devices without
 * communicators and for several ranks on one GPU, which NCCL refuses; slow, since every byte
 * crosses the bus twice and nothing overlaps. The sums, and so the results, are the host's.
 */
#include "runtime/coll/internal.h"

#define COLL_STAGE_BYTES (8 << 20)

int coll_staged_open(struct coll *c, struct err *e)
{
    void *p;
    int r = coll_alloc_shared(c, COLL_STAGE_BYTES, &p, e);
    if (!r)
        c->stage = p;
    return r;
}

int coll_staged_allreduce(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e)
{
    size_t element = coll_element(t);
    int64_t most = COLL_STAGE_BYTES / (int64_t)element;
    for (int64_t done = 0, n; done < count; done += n) {
        uint8_t *at = (uint8_t *)data + (size_t)done * element;
        n = count - done < most ? count - done : most;
        dev_download(c->conf.dev, c->stage, at, (size_t)n * element);
        int r = dev_sync(c->conf.dev, e); /* others must not sum what a failed device left */
        if (!r)
            r = coll_reduce_host(c, c->stage, n, t, op, e);
        if (r)
            return r;
        dev_upload(c->conf.dev, at, c->stage, (size_t)n * element);
    }
    return 0;
}
