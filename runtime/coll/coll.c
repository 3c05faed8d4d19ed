/*
 * coll: makes a collective of transports, and offers its operations. Who is local to whom and who
 * leads is decided here, once, from the rank table; so is what reduces device memory, the same way
 * on every rank. All-reduce is the one primitive of host memory; barrier, broadcast and all-gather
 * are all-reduces of zeros and words, exact because integers add exactly: they run at start and at
 * checkpoints, where brevity is worth more than half the bytes.
 *
 * Everything is the thread's that owns the model, or overlap.c's while that waits for nothing; only
 * coll_abort comes from elsewhere.
 */
#include "runtime/coll/coll.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/point.h"
#include "runtime/coll/internal.h"
#include "runtime/door/beat.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* -- what a wait looks at -- */

static int check_open(int fd, int rank, struct err *e)
{
    struct pollfd p = {fd, POLLRDHUP, 0}; /* a negative fd has no events */
    if (poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)))
        return err_set(e, ERR_PEER, "rank %d closed its connection", rank);
    return 0;
}

void coll_tell_awaited(struct coll *c, int rank)
{
    c->awaited = rank;
    beat_wait(coll_page(c), rank);
}

int coll_check_wait(struct coll *c, int64_t start_ms, int waiting_for, struct err *e)
{
    coll_tell_awaited(c, waiting_for);
    if (atomic_load(&c->aborted))
        return err_set(e, ERR_DRAINED, "collective aborted");
    char whom[32] = "the other ranks"; /* the network knows for which */
    if (waiting_for >= 0)
        snprintf(whom, sizeof whom, "rank %d", waiting_for);
    if (clock_ms() - start_ms > c->conf.timeout_ms)
        return err_set(e, ERR_HANG, "collective %llu waited %lld ms for %s",
            (unsigned long long)c->sequence, (long long)c->conf.timeout_ms, whom);
    for (int i = 0; i < c->local_count; i++) {
        int rc = check_open(c->control[i], c->local_index == 0 ? c->local[i] : c->local[0], e);
        if (rc)
            return rc;
    }
    return 0;
}

int coll_check_ring(struct coll *c, struct err *e)
{
    int n = c->leader_count, me = c->leader_index;
    if (me < 0)
        return 0;
    int rc = check_open(c->next, c->leaders[(me + 1) % n], e);
    return rc ? rc : check_open(c->prev, c->leaders[(me + n - 1) % n], e);
}

/* -- making one -- */

static int group_by_pod(struct coll *c, struct err *e)
{
    const struct wire_peer *peers = c->conf.peers;
    int here = peers[c->conf.rank].replica, last = -1;
    c->leader_index = -1;
    for (int i = 0; i < c->size; i++) {
        int rank = c->first + i * c->stride;
        const struct wire_peer *p = &peers[rank];
        if (p->rank != rank || p->replica < last)
            return err_set(e, ERR_BUG, "rank table: entry %d is rank %d of replica %d", rank,
                p->rank, p->replica);
        if (p->replica > last) {
            if (i == c->index)
                c->leader_index = c->leader_count;
            c->leaders[c->leader_count++] = rank;
        }
        last = p->replica;
        if (p->replica != here)
            continue;
        if (c->local_count == COLL_MAX_LOCAL)
            return err_set(
                e, ERR_BUG, "rank table: more than %d ranks in replica %d", COLL_MAX_LOCAL, here);
        if (i == c->index)
            c->local_index = c->local_count;
        c->local[c->local_count++] = rank;
    }
    return 0;
}

/* NCCL only when every rank has it. */
static int choose_device(struct coll *c, struct err *e)
{
    struct dev_info info;
    c->device = &coll_host;
    if (!c->conf.dev)
        return 0;
    dev_describe(c->conf.dev, &info);
    if (info.host_readable)
        return 0;
    int32_t lacks = c->conf.staged || !coll_nccl_can(c);
    int rc = coll_host.all_reduce(c, &lacks, 1, DTYPE_I32, COLL_MAX, e);
    if (rc)
        return rc;
    c->device = lacks ? &coll_staged : &coll_nccl;
    return c->device->open(c, e);
}

static int make_arrays(struct coll *c, struct err *e)
{
    size_t n = (size_t)c->size + 1;
    c->leaders = mem_array(n, sizeof *c->leaders);
    c->slices = mem_array(n, sizeof *c->slices);
    c->cut = mem_array(2 * n, sizeof *c->cut);
    c->staged_cut = mem_array(n, sizeof *c->staged_cut);
    c->messages = mem_array((size_t)coll_most_messages(c), sizeof *c->messages);
    if (!c->leaders || !c->slices || !c->cut || !c->staged_cut || !c->messages)
        return err_set(e, ERR_MEMORY, "no memory for a collective of %d ranks", c->size);
    return 0;
}

/* The caller's rank table and secret become its own. */
static int copy_conf(struct coll *c, const struct coll_conf *conf, struct err *e)
{
    struct wire_peer *peers = mem_array((size_t)conf->world, sizeof *peers);
    c->conf = *conf;
    c->conf.peers = peers;
    c->conf.secret = c->secret;
    atomic_store(&c->page, conf->page);
    c->abort_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!peers || c->abort_fd < 0)
        return err_set(e, ERR_MEMORY, "no memory for a world of %d ranks", conf->world);
    if (strlen(conf->secret) >= sizeof c->secret)
        return err_set(e, ERR_BUG, "the incarnation's secret is too long");
    memcpy(c->secret, conf->secret, strlen(conf->secret) + 1);
    memcpy(peers, conf->peers, (size_t)conf->world * sizeof *peers);
    return make_arrays(c, e);
}

static int open_all(struct coll *c, struct err *e)
{
    int rc;
    if ((rc = group_by_pod(c, e)) || (rc = coll_meet(c, e)))
        return rc;
    c->within = c->local_count > 1 ? &coll_local : NULL;
    c->between = c->leader_count > 1 ? &coll_tcp : NULL;
    rc = c->within ? c->within->open(c, e) : 0;
    if (!rc && c->between)
        rc = c->between->open(c, e);
    return rc ? rc : choose_device(c, e);
}

static int create(const struct coll_conf *conf, const struct layout_group *members,
    struct coll **out, struct err *e)
{
    struct coll *c = mem_zalloc(sizeof *c);
    if (!c) {
        io_close(conf->listen_fd);
        return err_set(e, ERR_MEMORY, "no memory for a world of %d ranks", conf->world);
    }
    c->first = members->first;
    c->stride = members->stride;
    c->size = members->size;
    c->index = members->index;
    c->next = c->prev = -1;
    for (int i = 0; i < COLL_MAX_LOCAL; i++)
        c->control[i] = -1;
    int rc = copy_conf(c, conf, e);
    if (!rc)
        rc = open_all(c, e);
    if (rc) {
        coll_destroy(c);
        return rc;
    }
    *out = c;
    return 0;
}

int coll_create(const struct coll_conf *conf, struct coll **out, struct err *e)
{
    assert(conf->world >= 1 && conf->rank >= 0 && conf->rank < conf->world);
    return create(conf, &(struct layout_group){0, 1, conf->world, conf->rank}, out, e);
}

/* All ranks meet before and so none is called by one that forms another group still. */
static int form_group(struct coll *c, const struct coll_conf *of,
    const struct layout_group *members, struct coll **out, struct err *e)
{
    assert(members->first + members->index * members->stride == c->conf.rank);
    assert(c->first == 0 && c->stride == 1 && c->size == c->conf.world);
    int rc = coll_barrier(c, e);
    if (rc)
        return rc;
    struct coll_conf conf = *of;
    conf.listen_fd = fcntl(c->conf.listen_fd, F_DUPFD_CLOEXEC, 0);
    if (conf.listen_fd < 0)
        return err_sys(e, ERR_MEMORY, errno, "no descriptor for a group");
    struct coll *g = NULL;
    rc = create(&conf, members, &g, e);
    if (rc)
        return rc;
    g->trace = c->trace;
    g->sibling = atomic_load(&c->groups);
    atomic_store(&c->groups, g);
    *out = g;
    return 0;
}

int coll_group(struct coll *c, const struct layout_group *members, struct coll **out, struct err *e)
{
    if (members->size == c->size) {
        *out = c;
        return 0;
    }
    return form_group(c, &c->conf, members, out, e);
}

int coll_group_beside(
    struct coll *c, const struct layout_group *members, struct coll **out, struct err *e)
{
    struct coll_conf conf = c->conf;
    conf.dev = NULL;
    conf.page = NULL;
    conf.failing_fn = NULL;
    int rc = form_group(c, &conf, members, out, e);
    if (rc)
        return rc;
    (*out)->beside = true;
    (*out)->trace = NULL;
    return 0;
}

void coll_destroy(struct coll *c)
{
    if (!c)
        return;
    coll_overlap_close(c);
    for (struct coll *g = atomic_load(&c->groups), *next; g; g = next) {
        next = g->sibling;
        coll_destroy(g);
    }
    if (c->device && c->device->close)
        c->device->close(c);
    coll_pairs_close(c);
    coll_tcp.close(c);
    coll_local.close(c);
    for (int i = 0; i < COLL_MAX_LOCAL; i++)
        io_close(c->control[i]);
    io_close(c->conf.listen_fd);
    io_close(c->abort_fd);
    mem_free((void *)c->conf.peers);
    mem_free(c->leaders);
    mem_free(c->slices);
    mem_free(c->cut);
    mem_free(c->staged_cut);
    mem_free(c->messages);
    mem_free(c);
}

void coll_abort(struct coll *c)
{
    for (struct coll *g = atomic_load(&c->groups); g; g = g->sibling)
        coll_abort(g);
    atomic_store(&c->aborted, true);
    uint64_t one = 1;
    ssize_t n = write(c->abort_fd, &one, sizeof one);
    (void)n; /* the flag alone suffices after a slice */
    if (c->device->abort)
        c->device->abort(c);
}

int coll_alloc(struct coll *c, size_t bytes, void **out, struct err *e)
{
    return c->device->alloc(c, bytes, out, e);
}

/* -- host memory -- */

/* Behind what is under way on another thread. */
static int enter(struct coll *c, enum wire_operation operation, int64_t bytes, struct err *e)
{
    int rc = c->overlap ? coll_reduce_wait(c, e) : 0;
    if (rc)
        return rc;
    c->sequence += operation != WIRE_EXCHANGE;
    point_pass(wire_operation_name(operation));
    c->begun = trace_begin(c->trace);
    c->inside = operation;
    c->inside_bytes = bytes;
    beat_enter(c->conf.page, operation, bytes);
    return 0;
}

/* After a failure the page keeps what it was stuck in. */
static int leave(struct coll *c, int rc)
{
    if (!rc)
        beat_leave(c->conf.page);
    trace_end(
        c->trace, c->begun, TRACE_RANK, wire_operation_name(c->inside), "bytes", c->inside_bytes);
    c->begun = 0;
    return rc;
}

int coll_allreduce(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e)
{
    assert(count >= 0 && coll_element(t) && count <= INT64_MAX / 8);
    int rc = enter(c, WIRE_ALLREDUCE, count * (int64_t)coll_element(t), e);
    return rc ? rc : leave(c, coll_host.all_reduce(c, data, count, t, op, e));
}

int coll_allgather(struct coll *c, const void *mine, size_t bytes, void *all, struct err *e)
{
    int rc = enter(c, WIRE_ALLGATHER, (int64_t)bytes, e);
    if (rc)
        return rc;
    size_t words = (bytes + 3) / 4;
    mem_autofree int32_t *w = mem_array(words * (size_t)c->size, 4);
    if (!w && words)
        return err_set(
            e, ERR_MEMORY, "no memory to gather %zu bytes from %d ranks", bytes, c->size);
    if (bytes)
        memcpy(w + words * (size_t)c->index, mine, bytes);
    rc = coll_host.all_reduce(c, w, (int64_t)words * c->size, DTYPE_I32, COLL_SUM, e);
    for (int i = 0; !rc && bytes && i < c->size; i++)
        memcpy((uint8_t *)all + bytes * (size_t)i, w + words * (size_t)i, bytes);
    return leave(c, rc);
}

int coll_broadcast(struct coll *c, void *data, size_t bytes, int root, struct err *e)
{
    int32_t piece[4096];
    int rc = enter(c, WIRE_BROADCAST, (int64_t)bytes, e);
    if (rc)
        return rc;
    for (size_t done = 0; done < bytes; done += sizeof piece) {
        size_t n = bytes - done < sizeof piece ? bytes - done : sizeof piece;
        memset(piece, 0, sizeof piece);
        if (c->index == root)
            memcpy(piece, (uint8_t *)data + done, n);
        rc = coll_host.all_reduce(c, piece, (int64_t)(n + 3) / 4, DTYPE_I32, COLL_SUM, e);
        if (rc)
            return leave(c, rc);
        memcpy((uint8_t *)data + done, piece, n);
    }
    return leave(c, 0);
}

int coll_barrier(struct coll *c, struct err *e)
{
    int32_t one = 1;
    int rc = enter(c, WIRE_BARRIER, 0, e);
    return rc ? rc : leave(c, coll_host.all_reduce(c, &one, 1, DTYPE_I32, COLL_SUM, e));
}

/* -- device memory -- */

/* Of what is under way while one computes on the page hears when the host waits. */
static void note_start(struct coll *c, enum wire_operation operation, int64_t bytes)
{
    if (!c->started_bytes || operation != WIRE_EXCHANGE)
        c->started = operation;
    c->started_bytes += bytes;
}

static int start(struct coll *c, enum wire_operation operation, int64_t bytes, struct err *e)
{
    if (!c->device->overlaps || c->size == 1)
        return enter(c, operation, bytes, e);
    c->sequence += operation != WIRE_EXCHANGE;
    note_start(c, operation, bytes);
    return 0;
}

static int started(struct coll *c, int rc)
{
    return c->device->overlaps && c->size > 1 ? rc : leave(c, rc);
}

static int add_job(struct coll *c, enum wire_operation operation, const struct coll_job *job)
{
    if (job->count > 0) {
        note_start(c, operation, job->count * (int64_t)coll_element(job->t));
        coll_overlap_add(c, job);
    }
    return 0;
}

int coll_reduce_start(
    struct coll *c, void *data, int64_t count, enum dtype t, enum coll_reduce op, struct err *e)
{
    assert(count >= 0 && coll_element(t) && count <= INT64_MAX / 8);
    if (c->overlap)
        return add_job(c, WIRE_ALLREDUCE, &(struct coll_job){data, count, NULL, t, op});
    int rc = start(c, WIRE_ALLREDUCE, count * (int64_t)coll_element(t), e);
    bool nothing = c->size == 1 || count == 0;
    return rc ? rc : started(c, nothing ? 0 : c->device->all_reduce(c, data, count, t, op, e));
}

const int64_t *coll_cut(
    const struct coll *c, int64_t *into, const int64_t *first, int64_t from, int64_t count)
{
    for (int i = 0; i <= c->size; i++) {
        int64_t at = first[i] - from;
        into[i] = at < 0 ? 0 : at > count ? count : at;
    }
    return into;
}

/* Where the slices begin; returns the count of the whole. */
static int64_t lay_out(struct coll *c, const int64_t *counts)
{
    c->slices[0] = 0;
    for (int i = 0; i < c->size; i++) {
        assert(counts[i] >= 0 && counts[i] <= INT64_MAX / 8 - c->slices[i]);
        c->slices[i + 1] = c->slices[i] + counts[i];
    }
    return c->slices[c->size];
}

int coll_reduce_scatter_start(struct coll *c, void *data, const int64_t *counts, enum dtype t,
    enum coll_reduce op, struct err *e)
{
    assert(coll_element(t));
    int64_t count = lay_out(c, counts);
    if (c->overlap)
        return add_job(c, WIRE_REDUCE_SCATTER, &(struct coll_job){data, count, c->slices, t, op});
    int rc = start(c, WIRE_REDUCE_SCATTER, count * (int64_t)coll_element(t), e);
    bool nothing = c->size == 1 || count == 0;
    return rc ? rc
              : started(c, nothing ? 0 : c->device->reduce_scatter(c, data, c->slices, t, op, e));
}

int coll_all_gather_start(
    struct coll *c, void *data, const int64_t *counts, enum dtype t, struct err *e)
{
    int64_t element = dtype_block_bytes(t), count = lay_out(c, counts);
    assert(dtype_block(t) == 1);
    int rc = start(c, WIRE_ALLGATHER, count * element, e);
    bool nothing = c->size == 1 || count == 0;
    return rc
        ? rc
        : started(c, nothing ? 0 : c->device->all_gather(c, data, c->slices, (size_t)element, e));
}

/* -- messages -- */

/* All members come from their last collective here: nobody meets anybody else at its listener. */
int coll_connect(struct coll *c, struct err *e)
{
    if (c->size == 1 || c->connected)
        return 0;
    int rc = coll_barrier(c, e);
    if (!rc)
        rc = c->device->connect(c, e);
    c->connected = !rc;
    return rc;
}

int coll_connect_host(struct coll *c, struct err *e)
{
    if (c->size == 1 || c->pair)
        return 0;
    int rc = coll_barrier(c, e);
    return rc ? rc : coll_host.connect(c, e);
}

static int64_t check_messages(const struct coll *c, const struct coll_message *messages, int n)
{
    int64_t bytes = 0;
    assert(n <= coll_most_messages(c));
    for (int i = 0; i < n; i++) {
        const struct coll_message *m = &messages[i];
        assert(m->peer >= 0 && m->peer < c->size && m->peer != c->index);
        assert(m->bytes <= (size_t)(INT64_MAX / 8 - bytes));
        bytes += (int64_t)m->bytes;
    }
    return bytes;
}

int coll_exchange_start(struct coll *c, const struct coll_message *messages, int n, struct err *e)
{
    assert(c->connected || n == 0);
    int rc = start(c, WIRE_EXCHANGE, check_messages(c, messages, n), e);
    return rc ? rc : started(c, n == 0 ? 0 : c->device->exchange(c, messages, n, e));
}

int coll_send_start(struct coll *c, const void *data, size_t bytes, int to, struct err *e)
{
    const struct coll_message m = {(void *)data, bytes, to, false};
    return coll_exchange_start(c, &m, 1, e);
}

int coll_receive_start(struct coll *c, void *data, size_t bytes, int from, struct err *e)
{
    const struct coll_message m = {data, bytes, from, true};
    return coll_exchange_start(c, &m, 1, e);
}

int coll_exchange(struct coll *c, const struct coll_message *messages, int n, struct err *e)
{
    assert(c->pair || n == 0);
    int rc = enter(c, WIRE_EXCHANGE, check_messages(c, messages, n), e);
    return rc ? rc : leave(c, n == 0 ? 0 : coll_host.exchange(c, messages, n, e));
}

/* What a member has for itself needs no way. */
static void copy_own(struct coll *c, void *to, const void *from, size_t bytes)
{
    if (bytes && c->conf.dev)
        dev_copy(c->conf.dev, to, from, bytes);
    else if (bytes)
        memcpy(to, from, bytes);
}

int coll_all_to_all_start(struct coll *c, const void *out, const int64_t *out_counts, void *in,
    const int64_t *in_counts, enum dtype t, struct err *e)
{
    assert(dtype_block(t) == 1 && out_counts[c->index] == in_counts[c->index]);
    size_t element = (size_t)dtype_block_bytes(t), from = 0, to = 0;
    int n = 0;
    for (int i = 0; i < c->size; i++) {
        assert(out_counts[i] >= 0 && in_counts[i] >= 0);
        size_t sent = (size_t)out_counts[i] * element, received = (size_t)in_counts[i] * element;
        void *at = (uint8_t *)out + from, *into = (uint8_t *)in + to;
        if (i == c->index) {
            copy_own(c, into, at, sent);
        } else {
            c->messages[n++] = (struct coll_message){at, sent, i, false};
            c->messages[n++] = (struct coll_message){into, received, i, true};
        }
        from += sent;
        to += received;
    }
    assert(c->connected || n == 0);
    int rc = start(c, WIRE_ALL_TO_ALL, check_messages(c, c->messages, n), e);
    return rc ? rc : started(c, n == 0 ? 0 : c->device->all_to_all(c, c->messages, n, e));
}

/* -- the end of what was started -- */

/* Waits for what is under way, and tells the page. */
static int wait_started(struct coll *c, struct err *e)
{
    int64_t begun = trace_begin(c->trace), bytes = c->started_bytes;
    beat_enter(c->conf.page, c->started, bytes);
    c->started_bytes = 0;
    int rc = leave(c, c->overlap ? coll_overlap_finish(c, e) : c->device->wait(c, e));
    trace_end(c->trace, begun, TRACE_RANK, "wait", "bytes", bytes);
    return rc;
}

void coll_reduce_join(struct coll *c)
{
    struct err e;
    if (c->started_bytes && c->overlap)
        (void)wait_started(c, &e); /* wait tells again */
    else if (c->started_bytes)
        c->device->join(c);
}

int coll_reduce_wait(struct coll *c, struct err *e)
{
    if (c->started_bytes)
        return wait_started(c, e);
    return c->overlap ? coll_overlap_finish(c, e) : 0;
}

bool coll_overlaps(const struct coll *c)
{
    return c->size > 1 && (c->device->overlaps || c->overlap);
}

int64_t coll_sent_bytes(const struct coll *c)
{
    int64_t bytes = c->device == &coll_nccl ? -1 : c->sent_bytes;
    for (struct coll *g = atomic_load(&c->groups); g && bytes >= 0; g = g->sibling) {
        int64_t more = coll_sent_bytes(g);
        bytes = more < 0 ? -1 : bytes + more;
    }
    return bytes;
}

void coll_trace(struct coll *c, struct trace *t)
{
    for (struct coll *g = atomic_load(&c->groups); g; g = g->sibling)
        if (!g->beside)
            coll_trace(g, t);
    if (c->overlap)
        coll_overlap_trace(c, t);
    else
        c->trace = t;
}

const char *coll_transport(const struct coll *c)
{
    return c->device->name;
}
