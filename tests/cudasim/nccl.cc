/*
 * nccl: NCCL's API (nccl.h) between processes of one machine, over a file of shared memory that the
 * unique id names: a slot of data for each rank and a count of the steps it has taken. Data goes in
 * chunks: a rank puts its chunk into its slot, waits until all have, takes from the slots what it
 * needs, and waits until all have taken. Sums are made in the order of ranks, so all ranks have the
 * same bits. A message goes by the box of its sender for its receiver, a chunk at a time. Nothing
 * waits in a call: work in a stream says "not ready" and is asked again. The first operation of a
 * communicator connects: it is "in progress", and not yet in the stream, until all ranks have
 * called theirs.
 *
 * A rank holds a lock on its byte of the file, which its end releases however it came: a peer that
 * is gone is an error of the communicator (ncclRemoteError), one that does nothing is none.
 * Operations of a failed communicator stay unfinished until it is aborted. ncclCommAbort may come
 * from any thread. LLMJOB_CUDASIM_NCCL holds words for what goes wrong: "refuses", no communicator
 * forms; "stuck", ncclCommAbort never comes back.
 */
#include "tests/cudasim/sim.hh"
#include "tests/cudasim/nccl.h"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <memory>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>
#include <utility>
#include <vector>

#define RANKS       64
#define CHUNK_BYTES ((size_t)256 << 10)
#define BOX_BYTES   ((size_t)16 << 10)
#define LOOKS       64 /* polls in vain between two looks whether the peers live */

struct offer { /* of a rank, for a split */
    std::atomic<uint64_t> split;
    int colour, key;
};
struct file { /* shared; zero at first */
    std::atomic<int> attached, detached;
    std::atomic<bool> connecting[RANKS];
    std::atomic<uint64_t> steps[RANKS];
    std::atomic<uint64_t> what[RANKS]; /* the operation under way, to see that all do the same */
    struct offer offers[2][RANKS];
    char data[]; /* CHUNK_BYTES a rank; then the boxes, of each sender one for each receiver */
};
struct box {
    std::atomic<uint64_t> put, taken; /* chunks */
    uint64_t bytes;                   /* of the whole message */
    char data[BOX_BYTES];
};

struct message {
    char *at;
    size_t bytes, done;
    int peer;
    bool receive;
};

enum operation_kind { REDUCE, REDUCE_TO_ROOT, GATHER, BROADCAST, EXCHANGE };
struct operation {
    enum operation_kind kind;
    const char *in = nullptr;
    char *out = nullptr;
    size_t bytes = 0, done = 0; /* of one rank */
    ncclDataType_t type = ncclInt8;
    ncclRedOp_t op = ncclSum;
    int root = 0;
    bool placed = false; /* the chunk is in the slot */
    std::vector<message> messages = {};
};
using operations = std::vector<operation>;

struct communicator {
    char name[64];
    struct file *shared = nullptr;
    int fd = -1, rank = 0, world = 0;
    std::atomic<bool> aborted{false};
    std::atomic<int> failed{ncclSuccess};
    enum { FORMING, READY, SPLITTING, CONNECTING, FINALIZING } state = FORMING;
    bool connected = false;
    uint64_t step = 0, splits = 0;
    int looks = 0, unfinished = 0;
    cudaStream_t stream = nullptr;       /* of the last operation */
    std::shared_ptr<communicator> child; /* while splitting */
    operations first;                    /* while connecting */
    ~communicator();
};
struct ncclComm {
    std::shared_ptr<communicator> c;
};
static char last_error[200];

static size_t file_bytes(int world)
{
    return sizeof(struct file) + (size_t)world * CHUNK_BYTES +
        (size_t)world * (size_t)world * sizeof(struct box);
}

communicator::~communicator()
{
    if (shared) {
        if (shared->attached < world)
            shm_unlink(name); /* it never formed */
        munmap(shared, file_bytes(world));
    }
    if (fd >= 0)
        close(fd);
}

static ncclResult_t fail(ncclResult_t r, const char *what)
{
    snprintf(last_error, sizeof(last_error), "%s", what);
    return r;
}

static bool told(const char *word)
{
    const char *words = getenv("LLMJOB_CUDASIM_NCCL");
    return words && strstr(words, word);
}

/* -- forming -- */
static ncclResult_t attach(communicator *c)
{
    if (c->world < 1 || c->world > RANKS || c->rank < 0 || c->rank >= c->world)
        return fail(ncclInvalidArgument, "a rank outside of the world");
    c->fd = shm_open(c->name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (c->fd < 0 || ftruncate(c->fd, (off_t)file_bytes(c->world)))
        return fail(ncclSystemError, "no shared memory");
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    lock.l_start = c->rank;
    lock.l_len = 1;
    if (fcntl(c->fd, F_OFD_SETLK, &lock))
        return fail(ncclInvalidUsage, "the rank is taken");
    void *p = mmap(nullptr, file_bytes(c->world), PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
    if (p == MAP_FAILED)
        return fail(ncclSystemError, "no shared memory");
    c->shared = (struct file *)p;
    if (++c->shared->attached == c->world)
        shm_unlink(c->name); /* nobody opens it any more */
    return ncclInProgress;
}

static bool alive(const communicator *c, int rank)
{
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    lock.l_start = rank;
    lock.l_len = 1;
    return rank == c->rank || fcntl(c->fd, F_OFD_GETLK, &lock) || lock.l_type != F_UNLCK;
}

/* All ranks took that many steps? Looks now and then whether those that did not are still there. */
static bool all_at(communicator *c, uint64_t step)
{
    int behind = -1;
    for (int i = 0; i < c->world && behind < 0; i++)
        if (c->shared->steps[i].load(std::memory_order_acquire) < step)
            behind = i;
    if (behind < 0)
        return true;
    if (++c->looks % LOOKS == 0 && !alive(c, behind) &&
        c->shared->steps[behind].load(std::memory_order_acquire) < step) {
        fail(ncclRemoteError, "a rank is gone");
        c->failed = ncclRemoteError;
    }
    return false;
}

/* The ranks of this one's colour, ordered by key, then rank. */
static void choose(communicator *c, const struct offer *offers)
{
    const struct offer *mine = &offers[c->rank];
    communicator *child = c->child.get();
    snprintf(child->name, sizeof(child->name), "%.40s.%llu.%d", c->name,
        (unsigned long long)c->splits, mine->colour);
    child->world = child->rank = 0;
    for (int i = 0; i < c->world; i++)
        if (offers[i].colour == mine->colour) {
            child->world++;
            child->rank += offers[i].key < mine->key || (offers[i].key == mine->key && i < c->rank);
        }
}

static ncclResult_t progress_split(communicator *c)
{
    const struct offer *offers = c->shared->offers[c->splits % 2];
    for (int i = 0; i < c->world; i++)
        if (offers[i].split.load(std::memory_order_acquire) != c->splits) {
            if (++c->looks % LOOKS == 0 && !alive(c, i))
                return fail(ncclRemoteError, "a rank is gone");
            return ncclInProgress;
        }
    choose(c, offers);
    ncclResult_t r = attach(c->child.get());
    c->child = nullptr;
    c->state = communicator::READY;
    return r == ncclInProgress ? ncclSuccess : r;
}

static cudaError_t advance(communicator *c, operation *o);

static ncclResult_t enqueue(const std::shared_ptr<communicator> &c, const operations &all)
{
    for (const operation &given : all) {
        auto o = std::make_shared<operation>(given);
        c->unfinished++;
        if (sim_enqueue(c->stream, [=] { return advance(c.get(), o.get()); }))
            return fail(ncclUnhandledCudaError, "the device failed");
    }
    return ncclSuccess;
}

static ncclResult_t progress_connect(const std::shared_ptr<communicator> &c)
{
    c->shared->connecting[c->rank] = true;
    for (int i = 0; i < c->world; i++)
        if (!c->shared->connecting[i]) {
            if (++c->looks % LOOKS == 0 && !alive(c.get(), i))
                return fail(ncclRemoteError, "a rank is gone");
            return ncclInProgress;
        }
    c->connected = true;
    c->state = communicator::READY;
    return enqueue(c, std::exchange(c->first, {}));
}

static ncclResult_t progress(const std::shared_ptr<communicator> &c)
{
    if (c->aborted)
        return ncclInvalidUsage;
    switch (c->state) {
    case communicator::FORMING:
        if (!c->shared || c->shared->attached < c->world)
            return ncclInProgress;
        c->state = communicator::READY;
        return ncclSuccess;
    case communicator::SPLITTING:
        return progress_split(c.get());
    case communicator::CONNECTING:
        return progress_connect(c);
    case communicator::FINALIZING:
        if (c->unfinished)
            sim_stream_run(c->stream);
        return c->unfinished ? ncclInProgress : ncclSuccess;
    default:
        return ncclSuccess;
    }
}

/* -- operations -- */
static size_t size_of(ncclDataType_t t)
{
    static const size_t sizes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2};
    return sizes[t];
}

static float load_one(const char *p, size_t i, ncclDataType_t t)
{
    uint16_t bits;
    float x;
    if (t == ncclFloat32) {
        memcpy(&x, p + 4 * i, 4);
        return x;
    }
    memcpy(&bits, p + 2 * i, 2);
    return t == ncclBfloat16 ? __uint_as_float((uint32_t)bits << 16) : cudasim_from_half(bits);
}

static void store_one(char *p, size_t i, ncclDataType_t t, float x)
{
    uint16_t bits =
        t == ncclFloat16 ? cudasim_to_half(x) : __bfloat16_as_ushort(__float2bfloat16_rn(x));
    if (t == ncclFloat32)
        memcpy(p + 4 * i, &x, 4);
    else
        memcpy(p + 2 * i, &bits, 2);
}

static void reduce(const communicator *c, const operation *o, size_t bytes)
{
    const char *slots = c->shared->data;
    char *out = o->out + o->done;
    for (size_t i = 0; i < bytes / size_of(o->type); i++) {
        if (o->type == ncclInt32) {
            int sum = 0, x;
            for (int r = 0; r < c->world; r++) {
                memcpy(&x, slots + (size_t)r * CHUNK_BYTES + 4 * i, 4);
                sum = r == 0 ? x : o->op == ncclMax ? max(sum, x) : sum + x;
            }
            memcpy(out + 4 * i, &sum, 4);
            continue;
        }
        float sum = load_one(slots, i, o->type);
        for (int r = 1; r < c->world; r++) {
            float x = load_one(slots + (size_t)r * CHUNK_BYTES, i, o->type);
            sum = o->op == ncclMax ? fmaxf(sum, x) : sum + x;
        }
        store_one(out, i, o->type, sum);
    }
}

static void take(const communicator *c, const operation *o, size_t bytes)
{
    const char *slots = c->shared->data;
    if (o->kind == REDUCE || (o->kind == REDUCE_TO_ROOT && c->rank == o->root))
        reduce(c, o, bytes);
    else if (o->kind == REDUCE_TO_ROOT)
        return;
    else if (o->kind == BROADCAST)
        memcpy(o->out + o->done, slots + (size_t)o->root * CHUNK_BYTES, bytes);
    else
        for (int r = 0; r < c->world; r++)
            memcpy(o->out + (size_t)r * o->bytes + o->done, slots + (size_t)r * CHUNK_BYTES, bytes);
}

static uint64_t signature(const operation *o)
{
    return (uint64_t)o->bytes << 18 | (uint64_t)o->kind << 14 | (uint64_t)o->type << 10 |
        (uint64_t)o->op << 6 | (uint64_t)o->root;
}

static bool same_everywhere(communicator *c, const operation *o)
{
    for (int i = 0; i < c->world; i++)
        if (c->shared->what[i] != signature(o)) {
            fail(ncclInvalidUsage, "the ranks call different operations");
            c->failed = ncclInvalidUsage;
            return false;
        }
    return true;
}

static struct box *box_of(const communicator *c, int from, int to)
{
    struct box *boxes = (struct box *)(c->shared->data + (size_t)c->world * CHUNK_BYTES);
    return &boxes[from * c->world + to];
}

/* One chunk further; whether there was one. */
static bool carry(communicator *c, message *m)
{
    struct box *b = m->receive ? box_of(c, m->peer, c->rank) : box_of(c, c->rank, m->peer);
    bool full = b->put.load(std::memory_order_acquire) != b->taken.load(std::memory_order_acquire);
    if (full != m->receive)
        return false;
    size_t bytes = m->bytes - m->done < BOX_BYTES ? m->bytes - m->done : BOX_BYTES;
    if (m->receive && b->bytes != m->bytes) {
        fail(ncclInvalidUsage, "a message of another size");
        c->failed = ncclInvalidUsage;
        return false;
    }
    if (m->receive) {
        memcpy(m->at + m->done, b->data, bytes);
        b->taken.fetch_add(1, std::memory_order_release);
    } else {
        b->bytes = m->bytes;
        memcpy(b->data, m->at + m->done, bytes);
        b->put.fetch_add(1, std::memory_order_release);
    }
    m->done += bytes;
    return true;
}

/* Of a pair's messages the first that is not done goes on. */
static cudaError_t advance_messages(communicator *c, operation *o)
{
    bool gone = false;
    for (bool moved = true; moved;) {
        bool begun[2][RANKS] = {};
        int waits = -1;
        moved = false;
        for (message &m : o->messages) {
            if (c->aborted)
                return cudaSuccess;
            if (c->failed)
                return cudaErrorNotReady;
            if (m.done == m.bytes || std::exchange(begun[m.receive][m.peer], true))
                continue;
            moved = carry(c, &m) || moved;
            if (m.done < m.bytes)
                waits = m.peer;
        }
        if (waits < 0 && !moved)
            return cudaSuccess;
        if (!moved && gone) {
            fail(ncclRemoteError, "a rank is gone");
            c->failed = ncclRemoteError;
        } else if (!moved && ++c->looks % LOOKS == 0 && !alive(c, waits)) {
            gone = moved = true; /* it may have sent before it went */
        }
    }
    return cudaErrorNotReady;
}

/* Goes as far as it can without waiting. Device memory is open. */
static cudaError_t advance(communicator *c, operation *o)
{
    std::atomic<uint64_t> *mine = &c->shared->steps[c->rank];
    if (o->kind == EXCHANGE) {
        cudaError_t s = advance_messages(c, o);
        c->unfinished -= s == cudaSuccess;
        return s;
    }
    while (o->done < o->bytes) {
        if (c->aborted)
            break; /* as a kernel of an aborted communicator ends */
        if (c->failed)
            return cudaErrorNotReady;
        size_t bytes = o->bytes - o->done < CHUNK_BYTES ? o->bytes - o->done : CHUNK_BYTES;
        if (!o->placed) {
            if (!all_at(c, c->step)) /* the slots are still read */
                return cudaErrorNotReady;
            c->shared->what[c->rank] = signature(o);
            if (o->kind != BROADCAST || c->rank == o->root)
                memcpy(c->shared->data + (size_t)c->rank * CHUNK_BYTES, o->in + o->done, bytes);
            mine->store(c->step + 1, std::memory_order_release);
            o->placed = true;
        }
        if (!all_at(c, c->step + 1) || !same_everywhere(c, o))
            return cudaErrorNotReady;
        take(c, o, bytes);
        o->placed = false;
        o->done += bytes;
        c->step += 2;
        mine->store(c->step, std::memory_order_release);
    }
    c->unfinished--;
    return cudaSuccess;
}

static bool holds(const communicator *c, const operation &o)
{
    for (const message &m : o.messages)
        if (!sim_memory_holds(m.at, m.bytes))
            return false;
    size_t ranks = o.kind == GATHER ? (size_t)c->world : 1;
    bool reads = o.kind != EXCHANGE && (o.kind != BROADCAST || c->rank == o.root);
    bool writes = o.kind != EXCHANGE && (o.kind != REDUCE_TO_ROOT || c->rank == o.root);
    return (!reads || sim_memory_holds(o.in, o.bytes)) &&
        (!writes || sim_memory_holds(o.out, o.bytes * ranks));
}

static ncclResult_t issue(ncclComm_t handle, cudaStream_t s, const operations &given)
{
    std::lock_guard<std::recursive_mutex> guard(sim_lock);
    std::shared_ptr<communicator> c = handle->c;
    operations all;
    if (c->state != communicator::READY || c->aborted)
        return fail(ncclInvalidUsage, "the communicator is not ready");
    for (const operation &o : given) {
        if (!o.bytes && o.messages.empty())
            continue;
        if (!holds(c.get(), o))
            return fail(ncclInvalidArgument, "not device memory of that size");
        all.push_back(o);
    }
    if (all.empty())
        return ncclSuccess;
    c->stream = s;
    if (c->connected)
        return enqueue(c, all);
    c->first = all;
    c->state = communicator::CONNECTING;
    return progress_connect(c);
}

/* -- groups -- */
/* Of the thread that issues: what is thread_local here, launches fill (cudasim.h). */
static struct {
    int depth;
    ncclComm_t comm;
    cudaStream_t stream;
    operations calls;
} group;

static ncclResult_t call(ncclComm_t c, cudaStream_t s, const operations &given)
{
    if (!group.depth)
        return issue(c, s, given);
    if (group.comm && (group.comm != c || group.stream != s))
        return fail(ncclInvalidUsage, "not a group that is simulated");
    group.comm = c;
    group.stream = s;
    for (const operation &o : given) {
        bool joins =
            o.kind == EXCHANGE && !group.calls.empty() && group.calls.back().kind == EXCHANGE;
        if (joins)
            group.calls.back().messages.push_back(o.messages[0]);
        else
            group.calls.push_back(o);
    }
    return ncclSuccess;
}

static ncclResult_t call_message(
    void *at, size_t bytes, int peer, bool receive, ncclComm_t c, cudaStream_t s)
{
    if (peer < 0 || peer >= c->c->world || peer == c->c->rank)
        return fail(ncclInvalidArgument, "not a peer that is simulated");
    operation o = {EXCHANGE};
    o.messages.push_back({(char *)at, bytes, 0, peer, receive});
    return bytes ? call(c, s, {o}) : ncclSuccess;
}

static operation collective(enum operation_kind kind, const void *in, void *out, size_t bytes,
    ncclDataType_t t, ncclRedOp_t op, int root)
{
    operation o = {kind};
    o.in = (const char *)in;
    o.out = (char *)out;
    o.bytes = bytes;
    o.type = t;
    o.op = op;
    o.root = root;
    return o;
}

static bool reduces(ncclDataType_t t, ncclRedOp_t op)
{
    bool known = t == ncclFloat32 || t == ncclFloat16 || t == ncclBfloat16 || t == ncclInt32;
    return known && (op == ncclSum || op == ncclMax);
}

extern "C" {
ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    uint64_t random[2];
    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        return fail(ncclSystemError, "no random bytes");
    memset(id, 0, sizeof(*id));
    snprintf(id->internal, sizeof(id->internal), "/cudasim-%016llx%08llx",
        (unsigned long long)random[0], (unsigned long long)random[1] & 0xffffffff);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(
    ncclComm_t *out, int world, ncclUniqueId id, int rank, ncclConfig_t *config)
{
    std::lock_guard<std::recursive_mutex> guard(sim_lock);
    if (config->blocking)
        return fail(ncclInvalidUsage, "blocking communicators are not simulated");
    auto c = std::make_shared<communicator>();
    snprintf(c->name, sizeof(c->name), "%.40s", id.internal);
    c->world = world;
    c->rank = rank;
    ncclResult_t r = attach(c.get());
    *out = new ncclComm{c};
    if (told("refuses"))
        r = fail(ncclSystemError, "told to refuse");
    if (r != ncclInProgress)
        c->failed = r;
    return r;
}

ncclResult_t ncclCommSplit(
    ncclComm_t parent, int colour, int key, ncclComm_t *out, ncclConfig_t *config)
{
    std::lock_guard<std::recursive_mutex> guard(sim_lock);
    communicator *c = parent->c.get();
    if (config->blocking || colour < 0 || c->state != communicator::READY)
        return fail(ncclInvalidUsage, "not a split that is simulated");
    c->splits++;
    c->child = std::make_shared<communicator>();
    c->state = communicator::SPLITTING;
    *out = new ncclComm{c->child};
    struct offer *mine = &c->shared->offers[c->splits % 2][c->rank];
    mine->colour = colour;
    mine->key = key;
    mine->split.store(c->splits, std::memory_order_release);
    return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t *state)
{
    std::lock_guard<std::recursive_mutex> guard(sim_lock);
    std::shared_ptr<communicator> c = handle->c;
    if (!c->failed) {
        ncclResult_t r = progress(c);
        if (r != ncclSuccess && r != ncclInProgress)
            c->failed = r;
        *state = r;
    }
    if (c->failed)
        *state = (ncclResult_t)c->failed.load();
    return ncclSuccess;
}

ncclResult_t ncclCommCount(ncclComm_t handle, int *count)
{
    *count = handle->c->world;
    return ncclSuccess;
}

ncclResult_t ncclCommUserRank(ncclComm_t handle, int *rank)
{
    *rank = handle->c->rank;
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t handle)
{
    std::lock_guard<std::recursive_mutex> guard(sim_lock);
    handle->c->state = communicator::FINALIZING;
    return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t handle)
{
    std::lock_guard<std::recursive_mutex> guard(sim_lock);
    delete handle;
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t handle)
{
    while (told("stuck"))
        pause();
    handle->c->aborted = true; /* before the lock: its holder may wait for this */
    std::lock_guard<std::recursive_mutex> guard(sim_lock);
    delete handle;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t r)
{
    static const char *const text[] = {"no error", "unhandled cuda error", "unhandled system error",
        "internal error", "invalid argument", "invalid usage",
        "remote process exited or there was a network error", "NCCL operation in progress"};
    return (unsigned)r < sizeof(text) / sizeof(*text) ? text[r] : "unknown result code";
}

const char *ncclGetLastError(ncclComm_t)
{
    return last_error;
}

ncclResult_t ncclMemAlloc(void **out, size_t bytes)
{
    return cudaMalloc(out, bytes) ? ncclUnhandledCudaError : ncclSuccess;
}

ncclResult_t ncclMemFree(void *p)
{
    return cudaFree(p) ? ncclUnhandledCudaError : ncclSuccess;
}

ncclResult_t ncclCommRegister(ncclComm_t, void *p, size_t bytes, void **handle)
{
    if (!sim_memory_holds(p, bytes))
        return fail(ncclInvalidArgument, "not device memory of that size");
    *handle = p;
    return ncclSuccess;
}

ncclResult_t ncclCommDeregister(ncclComm_t, void *)
{
    return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void *in, void *out, size_t count, ncclDataType_t t,
    ncclRedOp_t op, ncclComm_t c, cudaStream_t s)
{
    if (!reduces(t, op))
        return fail(ncclInvalidArgument, "not a reduction that is simulated");
    return call(c, s, {collective(REDUCE, in, out, count * size_of(t), t, op, 0)});
}

ncclResult_t ncclReduce(const void *in, void *out, size_t count, ncclDataType_t t, ncclRedOp_t op,
    int root, ncclComm_t c, cudaStream_t s)
{
    if (!reduces(t, op) || root < 0 || root >= c->c->world)
        return fail(ncclInvalidArgument, "not a reduction that is simulated");
    return call(c, s, {collective(REDUCE_TO_ROOT, in, out, count * size_of(t), t, op, root)});
}

/* A reduction to each rank. */
ncclResult_t ncclReduceScatter(const void *in, void *out, size_t count, ncclDataType_t t,
    ncclRedOp_t op, ncclComm_t c, cudaStream_t s)
{
    operations all;
    size_t bytes = count * size_of(t);
    if (!reduces(t, op))
        return fail(ncclInvalidArgument, "not a reduction that is simulated");
    for (int i = 0; i < c->c->world; i++)
        all.push_back(
            collective(REDUCE_TO_ROOT, (const char *)in + (size_t)i * bytes, out, bytes, t, op, i));
    return call(c, s, all);
}

ncclResult_t ncclAllGather(
    const void *in, void *out, size_t count, ncclDataType_t t, ncclComm_t c, cudaStream_t s)
{
    return call(c, s, {collective(GATHER, in, out, count * size_of(t), t, ncclSum, 0)});
}

ncclResult_t ncclBroadcast(const void *in, void *out, size_t count, ncclDataType_t t, int root,
    ncclComm_t c, cudaStream_t s)
{
    if (root < 0 || root >= c->c->world)
        return fail(ncclInvalidArgument, "a root outside of the world");
    return call(c, s, {collective(BROADCAST, in, out, count * size_of(t), t, ncclSum, root)});
}

ncclResult_t ncclSend(
    const void *in, size_t count, ncclDataType_t t, int peer, ncclComm_t c, cudaStream_t s)
{
    return call_message((void *)in, count * size_of(t), peer, false, c, s);
}

ncclResult_t ncclRecv(
    void *out, size_t count, ncclDataType_t t, int peer, ncclComm_t c, cudaStream_t s)
{
    return call_message(out, count * size_of(t), peer, true, c, s);
}

ncclResult_t ncclGroupStart(void)
{
    group.depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    if (--group.depth)
        return ncclSuccess;
    ncclComm_t c = std::exchange(group.comm, nullptr);
    operations calls = std::exchange(group.calls, {});
    return c ? issue(c, group.stream, calls) : ncclSuccess;
}
}
