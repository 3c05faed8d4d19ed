/*
 * driver: one GPU as a struct dev: opening it or saying why it cannot be opened, memory, copies,
 * recordings, errors.
 *
 * Everything is enqueued on one stream, so that operations run in the order they were called.
 * Callers' host memory is pageable; it goes through a ring of pinned memory, so that an upload
 * returns when its bytes are in the ring and a step does not wait for the device because of it. A
 * piece of the ring is in use until the event behind it has passed, first in, first out. Waiting is
 * polling: briefly without sleep (a token's latency), then with (a step's). A kernel that never
 * ends is noticed by whoever watches the rank's progress, not here; after an error that the device
 * does not recover from, every call fails at once. One device a thread: the runtime's current
 * device is set at open.
 */
#include "kernels/cuda/cuda.h"

#include "base/clock.h"
#include "base/mem.h"
#include "kernels/cuda/nvml.h"

#include <stdarg.h>
#include <time.h>

#define STAGING_BYTES ((size_t)16 << 20)
#define PIECE_BYTES   ((size_t)4 << 20) /* 80 us of a fast link: starting one costs 5 */
#define PIECES        64
#define SPIN_NS       3000000 /* of waiting without sleep: about one token */
#define SLEEP_NS      20000
#define OLDEST        80 /* the kernels are compiled for compute capability 8.0 and later */

struct piece {
    size_t begin, end; /* in the ring */
    cudaEvent_t done;
};
struct cuda_staging {
    char *memory; /* STAGING_BYTES, pinned */
    size_t head;  /* where the next piece begins, if it fits there */
    unsigned first, count;
    struct piece pieces[PIECES];
};

/* -- errors -- */
static enum err_code cuda_code(cudaError_t status)
{
    switch (status) {
    case cudaErrorMemoryAllocation:
        return ERR_MEMORY;
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
    case cudaErrorInvalidResourceHandle:
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated:
    case cudaErrorStreamCaptureUnjoined:
        return ERR_BUG;
    default:
        return ERR_DEVICE;
    }
}

int cuda_failed(
    struct cuda_dev *c, enum err_code code, const char *what, const char *why, struct err *e)
{
    char head[160], health[120] = "";
    if (code == ERR_DEVICE && !c->asked) {
        c->asked = true;
        nvml_health(c->nvml, health, sizeof(health));
    }
    snprintf(head, sizeof(head), "cuda:%d (%.40s%s%s): %s: ", c->index, c->name,
        *c->uuid ? ", " : "", c->uuid, what);
    int room = (int)sizeof(e->text) - 3; /* NVML's part comes last, and is not cut */
    room -= (int)(strlen(head) + strlen(health));
    return err_set(
        e, code, "%s%.*s%s%s", head, room > 0 ? room : 0, why, *health ? "; " : "", health);
}

int cuda_error(struct cuda_dev *c, cudaError_t status, const char *what, struct err *e)
{
    if (status == cudaSuccess)
        return 0;
    cudaGetLastError(); /* or the next call that succeeds would report it again */
    return cuda_failed(c, cuda_code(status), what, cudaGetErrorString(status), e);
}

int cuda_check(struct cuda_dev *c, cudaError_t status, const char *what)
{
    struct err e = {0};
    int r = cuda_error(c, status, what, &e);
    if (r)
        dev_fail(&c->base, &e);
    return r;
}

bool cuda_busy(cudaError_t polled)
{
    if (polled != cudaErrorNotReady)
        return false;
    cudaGetLastError();
    return true;
}

void cuda_refuse(struct dev *d, const char *fmt, ...)
{
    struct err e = {.code = ERR_DEVICE};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e.text, sizeof(e.text), fmt, ap);
    va_end(ap);
    dev_fail(d, &e);
}

/* What would wait for the device, or be replayed with host memory that is long gone. */
static bool cuda_recording(struct cuda_dev *c, const char *what)
{
    struct err e = {0};
    if (!c->recording)
        return false;
    err_set(&e, ERR_BUG, "cuda:%d: %s while operations are recorded", c->index, what);
    dev_fail(&c->base, &e);
    return true;
}

/* -- waiting -- */
/* Until the event has passed, or, without one, until the stream is empty. */
static cudaError_t cuda_until(cudaStream_t stream, cudaEvent_t event)
{
    const struct timespec pause = {.tv_nsec = SLEEP_NS};
    int64_t start = clock_ns();
    for (;;) {
        cudaError_t s = event ? cudaEventQuery(event) : cudaStreamQuery(stream);
        if (!cuda_busy(s))
            return s;
        if (clock_ns() - start > SPIN_NS)
            nanosleep(&pause, NULL);
    }
}

static void cuda_wait(struct dev *d)
{
    struct cuda_dev *c = (struct cuda_dev *)d;
    if (!cuda_recording(c, "a wait"))
        cuda_check(c, cuda_until(c->stream, NULL), "an operation");
}

/* -- staging -- */
static void staging_destroy(struct cuda_staging *s)
{
    if (!s)
        return;
    for (int i = 0; i < PIECES; i++)
        if (s->pieces[i].done)
            cudaEventDestroy(s->pieces[i].done);
    if (s->memory)
        cudaFreeHost(s->memory);
    mem_free(s);
}

static int staging_create(struct cuda_dev *c, struct err *e)
{
    struct cuda_staging *s = c->staging = mem_zalloc(sizeof(*s));
    if (!s)
        return err_set(e, ERR_MEMORY, "no memory for a device");
    int r = cuda_error(c, cudaHostAlloc((void **)&s->memory, STAGING_BYTES, cudaHostAllocDefault),
        "pinned host memory", e);
    for (int i = 0; i < PIECES && !r; i++)
        r = cuda_error(
            c, cudaEventCreateWithFlags(&s->pieces[i].done, cudaEventDisableTiming), "an event", e);
    return r;
}

static bool staging_uses(const struct cuda_staging *s, size_t begin, size_t end)
{
    for (unsigned i = 0; i < s->count; i++) {
        const struct piece *p = &s->pieces[(s->first + i) % PIECES];
        if (p->begin < end && begin < p->end)
            return true;
    }
    return false;
}

/* Room for up to PIECE_BYTES, once the pieces that hold it have passed; NULL when the device
   failed. A piece of PIECE_BYTES does not touch the one before it: the ring holds four. */
static struct piece *staging_take(struct cuda_dev *c, size_t bytes)
{
    struct cuda_staging *s = c->staging;
    size_t room = (bytes + 63) & ~(size_t)63;
    size_t begin = s->head + room <= STAGING_BYTES ? s->head : 0;
    while (s->count == PIECES || staging_uses(s, begin, begin + room)) {
        if (cuda_check(c, cuda_until(NULL, s->pieces[s->first].done), "a copy"))
            return NULL;
        s->first = (s->first + 1) % PIECES;
        s->count--;
    }
    struct piece *p = &s->pieces[(s->first + s->count) % PIECES];
    p->begin = begin;
    p->end = begin + room;
    return p;
}

/* Enqueues the copy between the piece and the device, and the event behind it.  */
static int staging_copy(struct cuda_dev *c, struct piece *p, void *to, const void *from,
    size_t bytes, enum cudaMemcpyKind kind)
{
    struct cuda_staging *s = c->staging;
    int r = cuda_check(c, cudaMemcpyAsync(to, from, bytes, kind, c->stream), "a copy");
    if (!r)
        r = cuda_check(c, cudaEventRecord(p->done, c->stream), "a copy");
    if (r)
        return r;
    s->head = p->end;
    s->count++;
    return 0;
}

static void cuda_upload(struct dev *d, void *dst, const void *host, size_t bytes)
{
    struct cuda_dev *c = (struct cuda_dev *)d;
    if (cuda_recording(c, "an upload"))
        return;
    for (size_t at = 0, n; at < bytes; at += n) {
        n = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
        struct piece *p = staging_take(c, n);
        if (!p)
            return;
        char *room = c->staging->memory + p->begin;
        memcpy(room, (const char *)host + at, n);
        if (staging_copy(c, p, (char *)dst + at, room, n, cudaMemcpyHostToDevice))
            return;
    }
}

/* Two pieces are under way: one arrives while the one before it is copied out.  */
static void cuda_download(struct dev *d, void *host, const void *src, size_t bytes)
{
    struct cuda_dev *c = (struct cuda_dev *)d;
    struct piece *before = NULL, *p = NULL;
    size_t done = 0, at = 0, n;
    if (!cuda_recording(c, "a download")) {
        while (done < bytes) {
            n = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
            p = n ? staging_take(c, n) : NULL;
            if (n &&
                (!p ||
                    staging_copy(c, p, c->staging->memory + p->begin, (const char *)src + at, n,
                        cudaMemcpyDeviceToHost)))
                break;
            if (before) {
                if (cuda_check(c, cuda_until(NULL, before->done), "a copy"))
                    break;
                size_t m = bytes - done < PIECE_BYTES ? bytes - done : PIECE_BYTES;
                memcpy((char *)host + done, c->staging->memory + before->begin, m);
                done += m;
            }
            before = p;
            at += n;
        }
    }
    memset((char *)host + done, 0, bytes - done); /* after a failure: never somebody's old bytes */
}

/* -- memory -- */
static int cuda_alloc(struct dev *d, size_t bytes, void **out, struct err *e)
{
    struct cuda_dev *c = (struct cuda_dev *)d;
    void *p = NULL;
    size_t room = 0, total = 0;
    if (c->recording)
        return err_set(
            e, ERR_BUG, "cuda:%d: an allocation while operations are recorded", c->index);
    cudaError_t s = cudaMalloc(&p, bytes ? bytes : 1);
    if (s != cudaSuccess) {
        cudaGetLastError();
        if (cudaMemGetInfo(&room, &total) == cudaSuccess &&
            (s == cudaErrorMemoryAllocation || bytes > room))
            return err_set(e, ERR_MEMORY,
                "no memory for %zu bytes on cuda:%d (%.40s): %zu of its %zu "
                "are free",
                bytes, c->index, c->name, room, total);
        return cuda_error(c, s, "memory", e);
    }
    int r = cuda_error(c, cudaMemsetAsync(p, 0, bytes ? bytes : 1, c->stream), "memory", e);
    if (r) {
        cudaFree(p);
        return r;
    }
    *out = p;
    return 0;
}

static void cuda_free(struct dev *d, void *p)
{
    struct cuda_dev *c = (struct cuda_dev *)d;
    if (!cuda_recording(c, "freeing memory"))
        cuda_check(c, cudaFree(p), "freeing memory");
}

static void cuda_zero(struct dev *d, void *dst, size_t bytes)
{
    struct cuda_dev *c = (struct cuda_dev *)d;
    cuda_check(c, cudaMemsetAsync(dst, 0, bytes, c->stream), "clearing memory");
}

static void cuda_copy(struct dev *d, void *dst, const void *src, size_t bytes)
{
    struct cuda_dev *c = (struct cuda_dev *)d;
    cuda_check(c, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, c->stream), "a copy");
}

/* -- recordings: CUDA graphs -- */
/* What is recorded should have run before: a first launch loads code, which may be refused here. */
static int cuda_record_begin(struct dev *d, struct err *e)
{
    struct cuda_dev *c = (struct cuda_dev *)d;
    if (d->failure.code != ERR_NONE) {
        if (e)
            *e = d->failure;
        return -(int)d->failure.code;
    }
    if (c->recording)
        return err_set(e, ERR_BUG, "cuda:%d records already", c->index);
    int r = cuda_error(c, cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal),
        "recording operations", e);
    c->recording = !r;
    return r;
}

static int cuda_record_end(struct dev *d, void **recording, struct err *e)
{
    struct cuda_dev *c = (struct cuda_dev *)d;
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    if (!c->recording)
        return err_set(e, ERR_BUG, "cuda:%d records nothing", c->index);
    c->recording = false;
    int r = cuda_error(c, cudaStreamEndCapture(c->stream, &graph), "recording operations", e);
    if (d->failure.code != ERR_NONE) { /* of an operation: it says more */
        if (e)
            *e = d->failure;
        r = -(int)d->failure.code;
    }
    if (!r && !(r = cuda_error(c, cudaGraphInstantiate(&exec, graph, 0), "a recording", e)))
        r = cuda_error(c, cudaGraphUpload(exec, c->stream), "a recording", e);
    if (graph)
        cudaGraphDestroy(graph);
    if (!r)
        *recording = exec;
    else if (exec)
        cudaGraphExecDestroy(exec);
    return r;
}

static void cuda_record_launch(struct dev *d, void *recording)
{
    struct cuda_dev *c = (struct cuda_dev *)d;
    cuda_check(c, cudaGraphLaunch(recording, c->stream), "launch of a recording");
}

static void cuda_record_free(struct dev *d, void *recording)
{
    if (recording)
        cuda_check((struct cuda_dev *)d, cudaGraphExecDestroy(recording), "a recording");
}

/* -- opening -- */
static int cuda_no_driver(int index, cudaError_t status, struct err *e)
{
    int have = 0, need = 0;
    char version[32];
    cudaDriverGetVersion(&have);
    cudaRuntimeGetVersion(&need);
    nvml_driver_version(version, sizeof(version));
    if (status == cudaErrorInsufficientDriver && !have)
        return err_set(
            e, ERR_DEVICE, "cuda:%d: this machine has no NVIDIA driver (no libcuda.so.1)", index);
    if (status == cudaErrorInsufficientDriver)
        return err_set(e, ERR_DEVICE,
            "cuda:%d: the NVIDIA driver %s%sknows CUDA %d.%d, this program needs "
            "%d.%d: install a newer driver",
            index, version, *version ? " " : "", have / 1000, have % 1000 / 10, need / 1000,
            need % 1000 / 10);
    if (status == cudaErrorNoDevice)
        return err_set(e, ERR_DEVICE,
            "cuda:%d: the NVIDIA driver shows no GPU to this process (does the pod "
            "ask for one? is CUDA_VISIBLE_DEVICES empty?)",
            index);
    return err_set(
        e, ERR_DEVICE, "cuda:%d: CUDA does not start: %s", index, cudaGetErrorString(status));
}

static void cuda_name(struct cuda_dev *c, const struct cudaDeviceProp *p)
{
    const unsigned char *u = (const unsigned char *)p->uuid.bytes;
    size_t n = 0;
    snprintf(c->name, sizeof(c->name), "%.*s", (int)sizeof(c->name) - 1, p->name);
    n = (size_t)snprintf(c->uuid, sizeof(c->uuid), "GPU");
    for (int i = 0; i < 16; i++) /* 8-4-4-4-12 digits, as NVIDIA's tools write it */
        n += (size_t)snprintf(c->uuid + n, sizeof(c->uuid) - n, "%s%02x",
            i == 0 || i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", u[i]);
}

static int cuda_limits(struct cuda_dev *c, struct err *e)
{
    struct cudaDeviceProp *p = mem_zalloc(sizeof(*p)); /* 1 KB */
    char bus[32] = "";
    if (!p)
        return err_set(e, ERR_MEMORY, "no memory for a device");
    int r = cuda_error(c, cudaGetDeviceProperties(p, c->index), "its properties", e);
    if (!r) {
        cuda_name(c, p);
        c->sm_count = p->multiProcessorCount;
        c->shared_max = p->sharedMemPerBlockOptin;
        c->capability = p->major * 10 + p->minor;
        if (c->capability < OLDEST)
            r = err_set(e, ERR_DEVICE,
                "cuda:%d (%.40s) has compute capability %d.%d, the kernels need "
                "%d.%d or later",
                c->index, c->name, p->major, p->minor, OLDEST / 10, OLDEST % 10);
    }
    mem_free(p);
    if (!r)
        r = cuda_error(c, cudaDeviceGetPCIBusId(bus, sizeof(bus), c->index), "its address", e);
    if (!r)
        c->nvml = nvml_open(bus);
    return r;
}

static int cuda_start(struct cuda_dev *c, struct err *e)
{
    size_t room = 0, total = 0;
    int least = 0, greatest = 0;
    int r;
    if ((r = cuda_limits(c, e)) ||
        /* makes the context: a broken or taken GPU fails here */
        (r = cuda_error(c, cudaSetDevice(c->index), "opening it", e)) ||
        (r = cuda_error(c, cudaDeviceGetStreamPriorityRange(&least, &greatest), "opening it", e)) ||
        /* collectives come first: what waits for them is longer than they are */
        (r = cuda_error(c, cudaStreamCreateWithPriority(&c->stream, cudaStreamNonBlocking, least),
             "a stream", e)) ||
        (r = staging_create(c, e)) ||
        (r = cuda_alloc(&c->base, CUDA_SCRATCH_BYTES, &c->scratch, e)) ||
        (r = blas_create(c, &c->blas, e)) ||
        (r = cuda_error(c, cudaMemGetInfo(&room, &total), "its memory", e)))
        return r;
    c->memory_bytes = (int64_t)room;
    return 0;
}

static void cuda_close(struct dev *d)
{
    struct cuda_dev *c = (struct cuda_dev *)d;
    if (c->stream)
        cuda_until(c->stream, NULL);
    blas_destroy(c->blas);
    if (c->scratch)
        cudaFree(c->scratch);
    staging_destroy(c->staging);
    if (c->stream)
        cudaStreamDestroy(c->stream);
    nvml_close(c->nvml);
    mem_free(c);
}

static int cuda_open(int index, int threads, struct dev **out, struct err *e);

static void cuda_describe(const struct dev *d, struct dev_info *out)
{
    const struct cuda_dev *c = (const struct cuda_dev *)d;
    *out = (struct dev_info){.kind = "cuda", .threads = 1, .memory_bytes = c->memory_bytes};
    snprintf(out->name, sizeof(out->name), "%.46s %s", c->name, c->uuid);
}

static const struct ops cuda_ops = {
#define CUDA_ENTRY(name, args) .name = op_cuda_##name,
    LLMJOB_OPS(CUDA_ENTRY)
#undef CUDA_ENTRY
};

static const struct driver cuda_driver = {
    .abi = DRIVER_ABI,
    .kind = "cuda",
    .open = cuda_open,
    .close = cuda_close,
    .describe = cuda_describe,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .upload = cuda_upload,
    .download = cuda_download,
    .zero = cuda_zero,
    .copy = cuda_copy,
    .comms = &nccl_comms,
    .record_begin = cuda_record_begin,
    .record_end = cuda_record_end,
    .record_launch = cuda_record_launch,
    .record_free = cuda_record_free,
    .wait = cuda_wait,
};

static int cuda_open(int index, int threads, struct dev **out, struct err *e)
{
    int count = 0;
    (void)threads;
    cudaError_t s = cudaGetDeviceCount(&count);
    if (s != cudaSuccess || count == 0)
        return cuda_no_driver(index, s == cudaSuccess ? cudaErrorNoDevice : s, e);
    if (index >= count)
        return err_set(e, ERR_DEVICE,
            "cuda:%d does not exist: this process sees %d GPU%s, numbered from 0", index, count,
            count == 1 ? "" : "s");
    struct cuda_dev *c = mem_zalloc(sizeof(*c));
    if (!c)
        return err_set(e, ERR_MEMORY, "no memory for a device");
    c->base.driver = &cuda_driver;
    c->base.ops = &cuda_ops;
    c->index = index;
    int r = cuda_start(c, e);
    if (r) {
        cuda_close(&c->base);
        return r;
    }
    *out = &c->base;
    return 0;
}

driver_plugin_fn llmjob_driver __attribute__((visibility("default")));
const struct driver *llmjob_driver(void)
{
    return &cuda_driver;
}
