/*
 * nccl: communicators of kernels/driver.h over NCCL (the only file that includes it).
 *
 * Communicators never block: a call returns at once and its state is polled, so that a rank whose
 * peer is gone comes back with an error in time. Each has a stream of its own, of high priority:
 * `before` orders it behind the device's work so far, `after` is what `join` waits for. abort() may
 * come from any thread while the owner is in here, and frees NCCL's communicator: every call of
 * NCCL is made under the lock, with a look whether it is still there. After a failure a
 * communicator is only ever aborted: ncclCommDestroy would wait for peers. The user's NCCL_*
 * settings are left alone; NCCL_LAUNCH_ORDER_IMPLICIT gets a value when it has none, because the
 * operations of several communicators (one a layout axis) run side by side and must not deadlock.
 */
#include "kernels/cuda/cuda.h"

#include "base/clock.h"
#include "base/mem.h"
#include "api/names.h"
#include "kernels/cuda/ras.h"

#include <nccl.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#define POLL_NS     100000
#define SPIN_NS     50000 /* of waiting without sleep: most calls are done within */
#define FINALIZE_MS 5000  /* what a healthy communicator needs to end, many times over */
#define RAS_MS      4000
#define WHY_BYTES   130 /* of what RAS says, in an error */

struct comm_memory {
    struct comm_memory *next;
    void *data, *handle; /* handle: of the registration, or NULL */
};

struct driver_comm {
    struct cuda_dev *dev;
    pthread_mutex_t lock;
    ncclComm_t comm; /* NULL once aborted */
    int rank, world;
    _Atomic bool aborted;
    struct err failure; /* the first one; the owner's */
    cudaStream_t stream;
    cudaEvent_t before, after;
    int64_t timeout_ms;
    struct comm_memory *memory;
};

struct comm_call {
    enum { ALLREDUCE, REDUCE_SCATTER, ALLGATHER, BROADCAST, EXCHANGE } kind;
    char *data;
    size_t count, element; /* element: bytes */
    const int64_t *first;  /* of slices */
    ncclDataType_t type;
    ncclRedOp_t op;
    int root;
    const struct driver_message *messages; /* count of them */
};

/* -- failures -- */
static enum err_code comm_code(ncclResult_t r)
{
    switch (r) {
    case ncclSystemError: /* a socket broke */
    case ncclRemoteError:
        return ERR_PEER;
    case ncclInvalidArgument:
        return ERR_BUG;
    default: /* ncclInvalidUsage too: two ranks on one GPU */
        return ERR_DEVICE;
    }
}

static int comm_failed(struct driver_comm *c, int r, const struct err *why, struct err *e)
{
    if (c->failure.code == ERR_NONE)
        c->failure = *why;
    if (e)
        *e = *why;
    return r;
}

static int comm_result(struct driver_comm *c, ncclResult_t r, const char *what, struct err *e)
{
    struct err why = {0};
    char reason[200];
    int code;
    if (r == ncclSuccess)
        return 0;
    snprintf(reason, sizeof(reason), "NCCL: %s: %s", ncclGetErrorString(r), ncclGetLastError(NULL));
    if (c->aborted)
        code = err_set(&why, ERR_PEER, "cuda:%d: %s was aborted", c->dev->index, what);
    else if (comm_code(r) == ERR_DEVICE)
        code = cuda_failed(c->dev, ERR_DEVICE, what, reason, &why);
    else
        code = err_set(&why, comm_code(r), "cuda:%d: %s: %s", c->dev->index, what, reason);
    return comm_failed(c, code, &why, e);
}

static int comm_cuda(struct driver_comm *c, cudaError_t s, const char *what, struct err *e)
{
    struct err why = {0};
    int r = cuda_error(c->dev, s, what, &why);
    return r ? comm_failed(c, r, &why, e) : 0;
}

static void comm_explain(char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "NCCL: ");
    ras_query(out + n, size - n, RAS_MS);
    if (!out[n])
        out[0] = 0;
}

static int comm_hung(struct driver_comm *c, const char *what, int64_t timeout_ms, struct err *e)
{
    struct err why = {0};
    char known[WHY_BYTES];
    comm_explain(known, sizeof(known));
    int r = err_set(&why, ERR_HANG, "cuda:%d: %s took more than %lld ms%s%s", c->dev->index, what,
        (long long)timeout_ms, *known ? "; " : "", known);
    return comm_failed(c, r, &why, e);
}

static int comm_refused(struct driver_comm *c, const char *what, struct err *e)
{
    if (c->dev->recording)
        return err_set(
            e, ERR_BUG, "cuda:%d: %s while operations are recorded", c->dev->index, what);
    if (c->failure.code == ERR_NONE)
        return 0;
    if (e)
        *e = c->failure;
    return -(int)c->failure.code;
}

static ncclResult_t comm_state(struct driver_comm *c)
{
    ncclResult_t state = ncclInvalidUsage;
    pthread_mutex_lock(&c->lock);
    if (c->comm) {
        ncclResult_t r = ncclCommGetAsyncError(c->comm, &state);
        state = r == ncclSuccess ? state : r;
    }
    pthread_mutex_unlock(&c->lock);
    return state;
}

/* Until what a call began is done. r: what the call returned. */
static int comm_settle(
    struct driver_comm *c, ncclResult_t r, const char *what, int64_t timeout_ms, struct err *e)
{
    const struct timespec pause = {.tv_nsec = POLL_NS};
    int64_t start_ns = clock_ns();
    if (r == ncclSuccess || r == ncclInProgress)
        r = comm_state(c);
    while (r == ncclInProgress) {
        int64_t waited_ns = clock_ns() - start_ns;
        if (waited_ns / 1000000 > timeout_ms)
            return comm_hung(c, what, timeout_ms, e);
        if (waited_ns < SPIN_NS)
            sched_yield();
        else
            nanosleep(&pause, NULL);
        r = comm_state(c);
    }
    return comm_result(c, r, what, e);
}

/* -- beginning and ending -- */
/* NCCL reads its environment at its first call. */
static void nccl_environment(void)
{
    const char *share = getenv(NAME_ENV_NCCL_SHARE);
    char host[32];
    setenv("NCCL_LAUNCH_ORDER_IMPLICIT", "1", 0);
    if (!share || strcmp(share, "1") != 0)
        return;
    /* Two ranks on one GPU are refused within a host; with this, each is a host of its own. */
    snprintf(host, sizeof(host), "llmjob-%ld", (long)getpid());
    setenv("NCCL_HOSTID", host, 0);
}

static int comm_unique_id(uint8_t id[DRIVER_COMM_ID_BYTES], struct err *e)
{
    ncclUniqueId made;
    _Static_assert(sizeof(made) == DRIVER_COMM_ID_BYTES, "NCCL's id");
    nccl_environment();
    ncclResult_t r = ncclGetUniqueId(&made);
    if (r != ncclSuccess)
        return err_set(e, comm_code(r), "NCCL makes no id: %s: %s", ncclGetErrorString(r),
            ncclGetLastError(NULL));
    memcpy(id, &made, sizeof(made));
    return 0;
}

static void comm_abort(struct driver_comm *c)
{
    pthread_mutex_lock(&c->lock);
    if (c->comm)
        ncclCommAbort(c->comm);
    c->comm = NULL;
    c->aborted = true;
    pthread_mutex_unlock(&c->lock);
}

/* True when NCCL let go of the communicator in peace. */
static bool comm_finalize(struct driver_comm *c)
{
    ncclResult_t r = ncclInvalidUsage;
    pthread_mutex_lock(&c->lock);
    for (struct comm_memory *m = c->memory; m && c->comm; m = m->next)
        if (m->handle)
            ncclCommDeregister(c->comm, m->handle);
    if (c->comm)
        r = ncclCommFinalize(c->comm);
    pthread_mutex_unlock(&c->lock);
    return !comm_settle(c, r, "the end of a communicator", FINALIZE_MS, NULL);
}

/* Whether the stream is empty; a kernel of an aborted communicator may need a moment to see it. */
static bool comm_drained(const struct driver_comm *c)
{
    const struct timespec pause = {.tv_nsec = POLL_NS};
    int64_t start_ms = clock_ms();
    while (cuda_busy(cudaStreamQuery(c->stream))) {
        if (clock_ms() - start_ms > FINALIZE_MS)
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

static void comm_destroy(struct driver_comm *c)
{
    if (!c)
        return;
    if (c->failure.code == ERR_NONE && comm_finalize(c)) {
        pthread_mutex_lock(&c->lock);
        if (c->comm)
            ncclCommDestroy(c->comm);
        c->comm = NULL;
        pthread_mutex_unlock(&c->lock);
    }
    comm_abort(c);
    /* Freeing what a stuck kernel writes to would wait for it: it stays with the process. */
    bool drained = !c->stream || comm_drained(c);
    while (c->memory) {
        struct comm_memory *m = c->memory;
        c->memory = m->next;
        if (drained)
            ncclMemFree(m->data);
        mem_free(m);
    }
    if (c->before && drained)
        cudaEventDestroy(c->before);
    if (c->after && drained)
        cudaEventDestroy(c->after);
    if (c->stream && drained)
        cudaStreamDestroy(c->stream);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
}

/* All but NCCL's communicator. */
static int comm_new(
    struct cuda_dev *dev, int64_t timeout_ms, struct driver_comm **out, struct err *e)
{
    int least = 0, greatest = 0;
    struct driver_comm *c = mem_zalloc(sizeof(*c));
    if (!c)
        return err_set(e, ERR_MEMORY, "no memory for a communicator");
    c->dev = dev;
    c->timeout_ms = timeout_ms;
    pthread_mutex_init(&c->lock, NULL);
    int r;
    if ((r = comm_cuda(c, cudaDeviceGetStreamPriorityRange(&least, &greatest), "a stream", e)) ||
        (r = comm_cuda(c, cudaStreamCreateWithPriority(&c->stream, cudaStreamNonBlocking, greatest),
             "a stream", e)) ||
        (r = comm_cuda(
             c, cudaEventCreateWithFlags(&c->before, cudaEventDisableTiming), "an event", e)) ||
        (r = comm_cuda(
             c, cudaEventCreateWithFlags(&c->after, cudaEventDisableTiming), "an event", e))) {
        comm_destroy(c);
        return r;
    }
    *out = c;
    return 0;
}

static int comm_create(struct dev *d, const uint8_t id[DRIVER_COMM_ID_BYTES], int rank, int world,
    int64_t timeout_ms, struct driver_comm **out, struct err *e)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId shared;
    struct driver_comm *c = NULL;
    nccl_environment();
    memcpy(&shared, id, sizeof(shared));
    config.blocking = 0;
    int r = comm_new((struct cuda_dev *)d, timeout_ms, &c, e);
    if (r)
        return r;
    ncclResult_t s = ncclCommInitRankConfig(&c->comm, world, shared, rank, &config);
    c->rank = rank;
    c->world = world;
    *out = c; /* in any case: what destroys it may never come back */
    return comm_settle(c, s, "forming a communicator", timeout_ms, e);
}

static int comm_split(struct driver_comm *parent, int colour, int key, int64_t timeout_ms,
    struct driver_comm **out, struct err *e)
{
    const char *what = "splitting a communicator";
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclResult_t s = ncclInvalidUsage;
    struct driver_comm *c = NULL;
    config.blocking = 0;
    int r;
    if ((r = comm_refused(parent, what, e)) || (r = comm_new(parent->dev, timeout_ms, &c, e)))
        return r;
    pthread_mutex_lock(&parent->lock);
    if (parent->comm)
        s = ncclCommSplit(parent->comm, colour, key, &c->comm, &config);
    pthread_mutex_unlock(&parent->lock);
    /* The parent says when the child is there. */
    r = comm_settle(parent, s, what, timeout_ms, e);
    if (r || (r = comm_settle(c, ncclInProgress, what, timeout_ms, e))) {
        comm_abort(parent); /* ends what would still write to the child */
        comm_destroy(c);
        return r;
    }
    s = ncclInvalidUsage;
    pthread_mutex_lock(&c->lock);
    if (c->comm && (s = ncclCommCount(c->comm, &c->world)) == ncclSuccess)
        s = ncclCommUserRank(c->comm, &c->rank);
    pthread_mutex_unlock(&c->lock);
    if ((r = comm_result(c, s, what, e))) {
        comm_destroy(c);
        return r;
    }
    *out = c;
    return 0;
}

/* -- memory -- */
static int comm_alloc(struct driver_comm *c, size_t bytes, void **out, struct err *e)
{
    const char *what = "memory of a communicator";
    size_t room = 0, total = 0;
    int r = comm_refused(c, what, e);
    if (r)
        return r;
    struct comm_memory *m = mem_zalloc(sizeof(*m));
    if (!m)
        return err_set(e, ERR_MEMORY, "no memory for a communicator");
    ncclResult_t s = ncclMemAlloc(&m->data, bytes ? bytes : 1);
    if (s != ncclSuccess) {
        mem_free(m);
        cudaGetLastError();
        if (cudaMemGetInfo(&room, &total) == cudaSuccess && bytes > room)
            return err_set(e, ERR_MEMORY,
                "no memory for %zu bytes on cuda:%d: %zu of its %zu are free", bytes, c->dev->index,
                room, total);
        return comm_result(c, s, what, e);
    }
    m->next = c->memory;
    c->memory = m; /* destroy frees it, whatever happens next */
    r = comm_cuda(c, cudaMemsetAsync(m->data, 0, bytes, c->dev->stream), what, e);
    if (r)
        return r;
    s = ncclInvalidUsage;
    pthread_mutex_lock(&c->lock);
    if (c->comm)
        s = ncclCommRegister(c->comm, m->data, bytes ? bytes : 1, &m->handle);
    pthread_mutex_unlock(&c->lock);
    r = comm_settle(c, s, what, c->timeout_ms, e);
    if (!r)
        *out = m->data;
    return r;
}

/* -- operations -- */
static bool comm_even(const struct driver_comm *c, const int64_t *first)
{
    for (int i = 0; i < c->world; i++)
        if (first[i + 1] - first[i] != first[1] - first[0])
            return false;
    return true;
}

/* Uneven slices: one reduction to each owner, or one broadcast from it. */
static ncclResult_t comm_issue_slice(struct driver_comm *c, const struct comm_call *q, int i)
{
    char *at = q->data + (size_t)q->first[i] * q->element;
    size_t count = (size_t)(q->first[i + 1] - q->first[i]);
    if (!count)
        return ncclSuccess;
    if (q->kind == REDUCE_SCATTER)
        return ncclReduce(at, at, count, q->type, q->op, i, c->comm, c->stream);
    return ncclBroadcast(at, at, count * q->element, ncclInt8, i, c->comm, c->stream);
}

static ncclResult_t comm_issue_message(struct driver_comm *c, const struct driver_message *m)
{
    if (!m->bytes)
        return ncclSuccess;
    if (m->receive)
        return ncclRecv(m->data, m->bytes, ncclInt8, m->peer, c->comm, c->stream);
    return ncclSend(m->data, m->bytes, ncclInt8, m->peer, c->comm, c->stream);
}

/* A group is ended in any case. */
static ncclResult_t comm_issue_group(struct driver_comm *c, const struct comm_call *q)
{
    int n = q->kind == EXCHANGE ? (int)q->count : c->world;
    ncclResult_t r = ncclGroupStart();
    if (r != ncclSuccess)
        return r;
    for (int i = 0; i < n && (r == ncclSuccess || r == ncclInProgress); i++)
        r = q->kind == EXCHANGE ? comm_issue_message(c, &q->messages[i])
                                : comm_issue_slice(c, q, i);
    ncclResult_t end = ncclGroupEnd();
    return r == ncclSuccess || r == ncclInProgress ? end : r;
}

static ncclResult_t comm_issue(struct driver_comm *c, const struct comm_call *q)
{
    bool slices = q->kind == REDUCE_SCATTER || q->kind == ALLGATHER;
    if (q->kind == ALLREDUCE)
        return ncclAllReduce(q->data, q->data, q->count, q->type, q->op, c->comm, c->stream);
    if (q->kind == BROADCAST)
        return ncclBroadcast(q->data, q->data, q->count, q->type, q->root, c->comm, c->stream);
    if (!slices || !comm_even(c, q->first))
        return comm_issue_group(c, q);
    size_t count = (size_t)(q->first[1] - q->first[0]);
    char *mine = q->data + (size_t)c->rank * count * q->element;
    if (q->kind == REDUCE_SCATTER)
        return ncclReduceScatter(q->data, mine, count, q->type, q->op, c->comm, c->stream);
    return ncclAllGather(mine, q->data, count * q->element, ncclInt8, c->comm, c->stream);
}

static int comm_run(
    struct driver_comm *c, const struct comm_call *q, const char *what, struct err *e)
{
    ncclResult_t s = ncclInvalidUsage;
    int r;
    if ((r = comm_refused(c, what, e)) ||
        (r = comm_cuda(c, cudaEventRecord(c->before, c->dev->stream), what, e)) ||
        (r = comm_cuda(c, cudaStreamWaitEvent(c->stream, c->before, 0), what, e)))
        return r;
    pthread_mutex_lock(&c->lock);
    if (c->comm)
        s = comm_issue(c, q);
    pthread_mutex_unlock(&c->lock);
    /* Only then it is on the stream. The first one connects, and waits for its peers to. */
    r = comm_settle(c, s, what, c->timeout_ms, e);
    return r ? r : comm_cuda(c, cudaEventRecord(c->after, c->stream), what, e);
}

/* Whether a type is reduced, and how it is called. */
static bool comm_type(enum dtype t, struct comm_call *q)
{
    switch (t) {
    case DTYPE_F32:
        q->type = ncclFloat32;
        break;
    case DTYPE_BF16:
        q->type = ncclBfloat16;
        break;
    case DTYPE_F16:
        q->type = ncclFloat16;
        break;
    case DTYPE_I32:
        q->type = ncclInt32;
        break;
    default:
        return false;
    }
    q->element = (size_t)dtype_block_bytes(t);
    return true;
}

static int comm_allreduce(struct driver_comm *c, void *data, int64_t count, enum dtype t,
    enum driver_reduce op, struct err *e)
{
    struct comm_call q = {.kind = ALLREDUCE,
        .data = data,
        .count = (size_t)count,
        .op = op == DRIVER_MAX ? ncclMax : ncclSum};
    if (!comm_type(t, &q))
        return err_set(e, ERR_BUG, "an all-reduce of %s", dtype_name(t));
    return comm_run(c, &q, "an all-reduce", e);
}

static int comm_reduce_scatter(struct driver_comm *c, void *data, const int64_t *first,
    enum dtype t, enum driver_reduce op, struct err *e)
{
    struct comm_call q = {.kind = REDUCE_SCATTER,
        .data = (char *)data,
        .first = first,
        .op = op == DRIVER_MAX ? ncclMax : ncclSum};
    if (!comm_type(t, &q))
        return err_set(e, ERR_BUG, "a reduce-scatter of %s", dtype_name(t));
    return comm_run(c, &q, "a reduce-scatter", e);
}

static int comm_allgather(
    struct driver_comm *c, void *data, const int64_t *first, size_t element, struct err *e)
{
    const struct comm_call q = {
        .kind = ALLGATHER, .data = (char *)data, .first = first, .element = element};
    return comm_run(c, &q, "an all-gather", e);
}

static int comm_broadcast(struct driver_comm *c, void *data, size_t bytes, int root, struct err *e)
{
    const struct comm_call q = {
        .kind = BROADCAST, .data = (char *)data, .count = bytes, .type = ncclInt8, .root = root};
    return comm_run(c, &q, "a broadcast", e);
}

static int comm_exchange(
    struct driver_comm *c, const struct driver_message *messages, int n, struct err *e)
{
    const struct comm_call q = {.kind = EXCHANGE, .messages = messages, .count = (size_t)n};
    return comm_run(c, &q, "an exchange", e);
}

static int comm_poll(struct driver_comm *c, struct err *e)
{
    int r = comm_refused(c, "a poll", e);
    if (r)
        return r;
    ncclResult_t state = comm_state(c);
    if (state == ncclInProgress)
        return 1;
    r = comm_result(c, state, "a collective", e);
    if (r)
        return r;
    cudaError_t s = cudaEventQuery(c->after);
    return cuda_busy(s) ? 1 : comm_cuda(c, s, "a collective", e);
}

static void comm_join(struct driver_comm *c)
{
    cuda_check(c->dev, cudaStreamWaitEvent(c->dev->stream, c->after, 0), "a collective");
}

const struct driver_comms nccl_comms = {.unique_id = comm_unique_id,
    .create = comm_create,
    .split = comm_split,
    .destroy = comm_destroy,
    .abort = comm_abort,
    .alloc = comm_alloc,
    .allreduce = comm_allreduce,
    .reduce_scatter = comm_reduce_scatter,
    .allgather = comm_allgather,
    .exchange = comm_exchange,
    .broadcast = comm_broadcast,
    .poll = comm_poll,
    .join = comm_join,
    .explain = comm_explain};
