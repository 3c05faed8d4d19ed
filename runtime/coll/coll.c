/*
 * coll: composes the transports into one world, and chooses how device memory is reduced, the same
 * way on every rank. Ranks of a replica meet in shared memory (coll_local), their leaders in a ring
 * over TCP (coll_tcp); the grouping is decided here, once, from the rank table. All-reduce is the
 * one primitive; barrier, broadcast and all-gather are all-reduces of zeros and words, exact
 * because integers add exactly: they run at start and at checkpoints, where brevity is worth more
 * than half the bytes.
 *
 * Called by the runtime's thread that owns the model; only coll_abort comes from elsewhere.
 */
#include "runtime/coll/coll.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "runtime/coll/internal.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

void coll_beat(struct coll *c, int waiting_for)
{
    struct wire_page *p = c->conf.page;
    if (!p)
        return;
    atomic_store_explicit(&p->waiting_for, waiting_for, memory_order_release);
    atomic_store_explicit(&p->beat_ms, clock_ms(), memory_order_release);
    atomic_fetch_add_explicit(&p->beats, 1, memory_order_release);
}

static void enter(struct coll *c, enum coll_op_kind kind, int64_t bytes)
{
    c->sequence++;
    struct wire_page *p = c->conf.page;
    if (!p)
        return;
    atomic_store_explicit(&p->operation, (uint32_t)kind, memory_order_release);
    atomic_store_explicit(&p->operation_bytes, bytes, memory_order_release);
    atomic_store_explicit(&p->collective, c->sequence, memory_order_release);
    atomic_store_explicit(&p->in_collective, 1, memory_order_release);
    coll_beat(c, -1);
}

static int leave(struct coll *c, int r)
{
    if (!r && c->conf.page) { /* after a failure the page keeps what it was stuck in */
        atomic_store_explicit(&c->conf.page->in_collective, 0, memory_order_release);
        coll_beat(c, -1);
    }
    return r;
}

static int check_open(int fd, int rank, struct err *e)
{
    struct pollfd p = {fd, POLLRDHUP, 0}; /* a negative fd has no events */
    if (poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)))
        return err_set(e, ERR_PEER, "rank %d closed its connection", rank);
    return 0;
}

int coll_check_wait(struct coll *c, int64_t start_ms, int waiting_for, struct err *e)
{
    if (c->conf.page)
        atomic_store_explicit(&c->conf.page->waiting_for, waiting_for, memory_order_release);
    if (atomic_load(&c->aborted))
        return err_set(e, ERR_DRAINED, "collective aborted");
    char whom[32] = "the other ranks"; /* the network knows for which */
    if (waiting_for >= 0)
        snprintf(whom, sizeof whom, "rank %d", waiting_for);
    if (clock_ms() - start_ms > c->conf.timeout_ms)
        return err_set(e, ERR_HANG, "collective %llu waited %lld ms for %s",
            (unsigned long long)c->sequence, (long long)c->conf.timeout_ms, whom);
    int r = 0;
    for (int i = 0; !r && i < c->local_count; i++)
        r = check_open(c->control[i], c->local_index == 0 ? c->local[i] : c->local[0], e);
    return r;
}

int coll_check_ring(struct coll *c, struct err *e)
{
    int n = c->leader_count, me = c->leader_index;
    if (me < 0)
        return 0;
    int r = check_open(c->next, c->leaders[(me + 1) % n], e);
    return r ? r : check_open(c->prev, c->leaders[(me + n - 1) % n], e);
}

static int group(struct coll *c, struct err *e)
{
    int here = c->peers[c->conf.rank].replica, last = -1;
    c->leader_index = -1;
    for (int r = 0; r < c->conf.world; r++) {
        const struct wire_peer *p = &c->peers[r];
        if (p->rank != r || p->replica < last)
            return err_set(e, ERR_BUG, "rank table: entry %d is rank %d of replica %d", r, p->rank,
                p->replica);
        if (p->replica > last) {
            if (r == c->conf.rank)
                c->leader_index = c->leader_count;
            c->leaders[c->leader_count++] = r;
        }
        last = p->replica;
        if (p->replica != here)
            continue;
        if (c->local_count == COLL_MAX_LOCAL)
            return err_set(
                e, ERR_BUG, "rank table: more than %d ranks in replica %d", COLL_MAX_LOCAL, here);
        if (r == c->conf.rank)
            c->local_index = c->local_count;
        c->local[c->local_count++] = r;
    }
    return 0;
}

/* NCCL only when every rank has it. */
static int choose_device(struct coll *c, struct err *e)
{
    struct dev_info info;
    if (!c->conf.dev)
        return 0;
    dev_describe(c->conf.dev, &info);
    if (info.host_readable)
        return 0;
    int32_t lacks = c->conf.staged || !coll_nccl_can(c);
    int r = coll_reduce_host(c, &lacks, 1, DTYPE_I32, COLL_MAX, e);
    if (r)
        return r;
    c->device = lacks ? COLL_STAGED : COLL_NCCL;
    if (c->conf.world == 1)
        return 0;
    return lacks ? coll_staged_open(c, e) : coll_nccl_open(c, e);
}

int coll_create(const struct coll_conf *conf, struct coll **out, struct err *e)
{
    assert(conf->world >= 1 && conf->rank >= 0 && conf->rank < conf->world);
    struct coll *c = mem_zalloc(sizeof *c);
    if (!c) {
        io_close(conf->listen_fd);
        return err_set(e, ERR_MEMORY, "no memory for a world of %d ranks", conf->world);
    }
    c->conf = *conf;
    c->next = c->prev = -1;
    for (int i = 0; i < COLL_MAX_LOCAL; i++)
        c->control[i] = -1;
    c->abort_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->peers = mem_array((size_t)conf->world, sizeof *c->peers);
    c->leaders = mem_array((size_t)conf->world, sizeof *c->leaders);
    c->segment = mem_aligned(64, COLL_RING_SEGMENT);
    int r = 0;
    if (!c->peers || !c->leaders || !c->segment || c->abort_fd < 0)
        r = err_set(e, ERR_MEMORY, "no memory for a world of %d ranks", conf->world);
    if (!r) {
        memcpy(c->peers, conf->peers, (size_t)conf->world * sizeof *c->peers);
        c->conf.peers = c->peers;
        r = group(c, e);
    }
    if (!r)
        r = coll_meet(c, e);
    if (!r && c->local_count > 1)
        r = coll_local_region(c, COLL_REGION0_HEADER + COLL_STAGING, e);
    if (!r)
        r = choose_device(c, e);
    if (r) {
        coll_destroy(c);
        return r;
    }
    c->conf.secret = NULL; /* the caller's; not needed any more */
    *out = c;
    return 0;
}

void coll_destroy(struct coll *c)
{
    if (!c)
        return;
    coll_nccl_close(c);
    for (int i = 0; i < c->block_count; i++)
        dev_free(c->conf.dev, c->block[i]);
    coll_local_done(c);
    for (int i = 0; i < COLL_MAX_LOCAL; i++)
        io_close(c->control[i]);
    io_close(c->next);
    io_close(c->prev);
    io_close(c->conf.listen_fd);
    io_close(c->abort_fd);
    mem_free(c->peers);
    mem_free(c->leaders);
    mem_free(c->segment);
    mem_free(c);
}

void coll_abort(struct coll *c)
{
    atomic_store(&c->aborted, true);
    uint64_t one = 1;
    ssize_t n = write(c->abort_fd, &one, sizeof one);
    (void)n; /* the flag alone suffices after a slice */
    coll_nccl_abort(c);
}

int coll_alloc_shared(struct coll *c, size_t bytes, void **out, struct err *e)
{
    if (c->local_count == 1 && c->region_count == 0) { /* region 0 is never the caller's */
        int r = coll_local_region(c, COLL_REGION0_HEADER, e);
        if (r)
            return r;
    }
    int r = coll_local_region(c, bytes, e);
    if (r)
        return r;
    struct coll_region *g = &c->region[c->region_count - 1];
    *out = g->base + (size_t)c->local_index * g->part_bytes;
    return 0;
}

int coll_alloc(struct coll *c, size_t bytes, void **out, struct err *e)
{
    if (c->device == COLL_HOST)
        return coll_alloc_shared(c, bytes, out, e);
    if (atomic_load(&c->comm))
        return coll_nccl_alloc(c, bytes, out, e);
    if (c->block_count == COLL_MAX_REGIONS)
        return err_set(e, ERR_BUG, "more than %d blocks", COLL_MAX_REGIONS);
    int r = dev_alloc(c->conf.dev, bytes, out, e);
    if (!r)
        c->block[c->block_count++] = *out;
    return r;
}

/* The region whose part of this rank holds [p, p + bytes), or -1. */
static int find_region(const struct coll *c, const void *p, size_t bytes, size_t *offset)
{
    for (int i = 1; i < c->region_count; i++) {
        const struct coll_region *g = &c->region[i];
        const uint8_t *part = g->base + (size_t)c->local_index * g->part_bytes;
        if ((const uint8_t *)p >= part && (const uint8_t *)p + bytes <= part + g->part_bytes) {
            *offset = (size_t)((const uint8_t *)p - part);
            return i;
        }
    }
    return -1;
}

/* data lies at `offset` of this rank's part of `region`. */
static int reduce_shared(struct coll *c, int region, size_t offset, void *data, int64_t count,
    enum dtype t, enum coll_reduce op, struct err *e)
{
    int r = coll_local_allreduce(c, region, offset, count, t, op, e);
    if (r || c->leader_count == 1)
        return r;
    if (c->leader_index >= 0)
        r = coll_tcp_allreduce(c, data, count, t, op, e);
    return r ? r : coll_local_spread(c, region, offset, (size_t)count * coll_element(t), e);
}

/* One message that fits the transports as it is: shared memory inside the pod, then the ring. */
static int reduce_piece(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e)
{
    if (c->local_count == 1)
        return coll_tcp_allreduce(c, data, count, t, op, e);
    size_t bytes = (size_t)count * coll_element(t), offset;
    int region = find_region(c, data, bytes, &offset);
    if (region > 0)
        return reduce_shared(c, region, offset, data, count, t, op, e);
    uint8_t *staging =
        c->region[0].base + (size_t)c->local_index * c->region[0].part_bytes + COLL_REGION0_HEADER;
    memcpy(staging, data, bytes);
    int r = reduce_shared(c, 0, COLL_REGION0_HEADER, staging, count, t, op, e);
    if (!r)
        memcpy(data, staging, bytes);
    return r;
}

/* Cuts what is not shared into pieces that the staging area holds; a rank alone in its pod cuts the
 * same way when others are not alone, because ring neighbours must agree on every message. */
int coll_reduce_host(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e)
{
    size_t bytes = (size_t)count * coll_element(t), offset;
    if (c->conf.world == 1 || count == 0)
        return 0;
    if (c->leader_count == c->conf.world || find_region(c, data, bytes, &offset) > 0)
        return reduce_piece(c, data, count, t, op, e);
    int64_t most = COLL_STAGING / (int64_t)coll_element(t);
    for (int64_t done = 0; done < count; done += most) {
        int64_t n = count - done < most ? count - done : most;
        int r = reduce_piece(c, (uint8_t *)data + (size_t)done * coll_element(t), n, t, op, e);
        if (r)
            return r;
    }
    return 0;
}

int coll_allreduce(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e)
{
    assert(count >= 0 && coll_element(t) && count <= INT64_MAX / 8);
    enter(c, COLL_ALLREDUCE, count * (int64_t)coll_element(t));
    return leave(c, coll_reduce_host(c, data, count, t, op, e));
}

int coll_allgather(struct coll *c, const void *mine, size_t bytes, void *all, struct err *e)
{
    enter(c, COLL_ALLGATHER, (int64_t)bytes);
    size_t words = (bytes + 3) / 4;
    mem_autofree int32_t *w = mem_array(words * (size_t)c->conf.world, 4);
    if (!w && words)
        return err_set(
            e, ERR_MEMORY, "no memory to gather %zu bytes from %d ranks", bytes, c->conf.world);
    if (bytes)
        memcpy(w + words * (size_t)c->conf.rank, mine, bytes);
    int r = coll_reduce_host(c, w, (int64_t)words * c->conf.world, DTYPE_I32, COLL_SUM, e);
    for (int i = 0; !r && bytes && i < c->conf.world; i++)
        memcpy((uint8_t *)all + bytes * (size_t)i, w + words * (size_t)i, bytes);
    return leave(c, r);
}

int coll_broadcast(struct coll *c, void *data, size_t bytes, int root, struct err *e)
{
    enter(c, COLL_BROADCAST, (int64_t)bytes);
    int32_t piece[4096];
    int r = 0;
    for (size_t done = 0; !r && done < bytes; done += sizeof piece) {
        size_t n = bytes - done < sizeof piece ? bytes - done : sizeof piece;
        memset(piece, 0, sizeof piece);
        if (c->conf.rank == root)
            memcpy(piece, (uint8_t *)data + done, n);
        r = coll_reduce_host(c, piece, (int64_t)(n + 3) / 4, DTYPE_I32, COLL_SUM, e);
        if (!r)
            memcpy((uint8_t *)data + done, piece, n);
    }
    return leave(c, r);
}

int coll_barrier(struct coll *c, struct err *e)
{
    enter(c, COLL_BARRIER, 0);
    int32_t one = 1;
    return leave(c, coll_reduce_host(c, &one, 1, DTYPE_I32, COLL_SUM, e));
}

/* -- device memory -- */

int coll_reduce_start(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e)
{
    if (c->device == COLL_HOST)
        return coll_allreduce(c, data, count, t, op, e);
    assert(count >= 0 && coll_element(t) && count <= INT64_MAX / 8);
    int64_t bytes = count * (int64_t)coll_element(t);
    if (atomic_load(&c->comm)) { /* the page hears of it when the host waits */
        c->started_bytes += bytes;
        return count ? coll_nccl_start(c, data, count, t, op, e) : 0;
    }
    enter(c, COLL_ALLREDUCE, bytes);
    return leave(c, c->conf.world == 1 ? 0 : coll_staged_allreduce(c, data, count, t, op, e));
}

void coll_reduce_join(struct coll *c)
{
    if (c->started_bytes)
        coll_nccl_join(c);
}

int coll_reduce_wait(struct coll *c, struct err *e)
{
    if (!c->started_bytes)
        return 0;
    enter(c, COLL_ALLREDUCE, c->started_bytes);
    c->started_bytes = 0;
    return leave(c, coll_nccl_wait(c, e));
}

bool coll_overlaps(const struct coll *c)
{
    return atomic_load(&c->comm) != NULL;
}

const char *coll_transport(const struct coll *c)
{
    static const char *const names[] = {"host", "staged", "nccl"};
    return names[c->device];
}
