/*
 * coll_staged: device memory reduced and moved by the host's transports, piece by piece through one
 * buffer that the pod's ranks share, so that the sum itself copies nothing more. For devices
 * without communicators and for several ranks on one GPU, which NCCL refuses; slow, since every
 * byte crosses the bus twice and nothing overlaps. The sums, and so the results, are the host's.
 */
#include "runtime/coll/internal.h"

#define STAGE_BYTES (8 << 20)

static int staged_open(struct coll *c, struct err *e)
{
    void *p;
    int rc = c->size > 1 ? coll_host.alloc(c, STAGE_BYTES, &p, e) : 0;
    if (!rc && c->size > 1)
        c->stage = p;
    return rc;
}

int coll_staged_alloc(struct coll *c, size_t bytes, void **out, struct err *e)
{
    if (c->block_count == COLL_MAX_REGIONS)
        return err_set(e, ERR_BUG, "more than %d blocks", COLL_MAX_REGIONS);
    int rc = dev_alloc(c->conf.dev, bytes, out, e);
    if (!rc)
        c->block[c->block_count++] = *out;
    return rc;
}

void coll_staged_free(struct coll *c)
{
    for (int i = 0; i < c->block_count; i++)
        dev_free(c->conf.dev, c->block[i]);
    c->block_count = 0;
}

/* Elements [from, to) of what is staged, which are the piece at `at` of the device. */
static void upload_part(struct coll *c, uint8_t *at, int64_t from, int64_t to, size_t element)
{
    if (from < to)
        dev_upload(c->conf.dev, at + (size_t)from * element, c->stage + (size_t)from * element,
            (size_t)(to - from) * element);
}

static int staged_all_reduce(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e)
{
    size_t element = coll_element(t);
    int64_t most = STAGE_BYTES / (int64_t)element;
    for (int64_t done = 0, n; done < count; done += n) {
        uint8_t *at = (uint8_t *)data + (size_t)done * element;
        n = count - done < most ? count - done : most;
        dev_download(c->conf.dev, c->stage, at, (size_t)n * element);
        int rc = dev_sync(c->conf.dev, e); /* others must not sum what a failed device left */
        if (!rc)
            rc = coll_host.all_reduce(c, c->stage, n, t, op, e);
        if (rc)
            return rc;
        dev_upload(c->conf.dev, at, c->stage, (size_t)n * element);
    }
    return 0;
}

/* The host's all-reduce of each piece is the same sum; only this rank's slice of it comes back. */
static int staged_reduce_scatter(struct coll *c, void *data, const int64_t *first, enum dtype t,
    enum coll_reduce op, struct err *e)
{
    size_t element = coll_element(t);
    int64_t most = STAGE_BYTES / (int64_t)element, count = first[c->size];
    for (int64_t done = 0, n; done < count; done += n) {
        n = count - done < most ? count - done : most;
        const int64_t *cut = coll_cut(c, c->staged_cut, first, done, n);
        uint8_t *at = (uint8_t *)data + (size_t)done * element;
        dev_download(c->conf.dev, c->stage, at, (size_t)n * element);
        int rc = dev_sync(c->conf.dev, e);
        if (!rc)
            rc = coll_host.reduce_scatter(c, c->stage, cut, t, op, e);
        if (rc)
            return rc;
        upload_part(c, at, cut[c->index], cut[c->index + 1], element);
    }
    return 0;
}

static int staged_all_gather(
    struct coll *c, void *data, const int64_t *first, size_t element, struct err *e)
{
    int64_t most = STAGE_BYTES / (int64_t)element, count = first[c->size];
    for (int64_t done = 0, n; done < count; done += n) {
        n = count - done < most ? count - done : most;
        const int64_t *cut = coll_cut(c, c->staged_cut, first, done, n);
        uint8_t *at = (uint8_t *)data + (size_t)done * element;
        size_t from = (size_t)cut[c->index] * element, to = (size_t)cut[c->index + 1] * element;
        if (from < to)
            dev_download(c->conf.dev, c->stage + from, at + from, to - from);
        int rc = dev_sync(c->conf.dev, e);
        if (!rc)
            rc = coll_host.all_gather(c, c->stage, cut, element, e);
        if (rc)
            return rc;
        upload_part(c, at, 0, cut[c->index], element);
        upload_part(c, at, cut[c->index + 1], n, element);
    }
    return 0;
}

static int staged_exchange(
    struct coll *c, const struct coll_message *messages, int n, struct err *e)
{
    return coll_pairs_exchange(c, messages, n, c->stage, STAGE_BYTES, e);
}

static int staged_all_to_all(struct coll *c, struct coll_message *messages, int n, struct err *e)
{
    return staged_exchange(c, messages, n, e);
}

const struct coll_transport coll_staged = {
    .name = "staged",
    .open = staged_open,
    .alloc = coll_staged_alloc,
    .all_reduce = staged_all_reduce,
    .reduce_scatter = staged_reduce_scatter,
    .all_gather = staged_all_gather,
    .connect = coll_pairs_open,
    .exchange = staged_exchange,
    .all_to_all = staged_all_to_all,
    .close = coll_staged_free,
};
