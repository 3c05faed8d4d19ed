/*
 * runtime: the runtime API of cuda_runtime.h over memory.cc and engine.cc. A stream is a queue of
 * work that runs when the host waits for it, or when another stream's work does; so a missing
 * synchronisation shows as stale data. Polling (query) runs a stream's work and says "not ready"
 * once, which is the last error then, as on a device. A failed kernel leaves its status for every
 * later call, as a real context does. All state is the process's, under sim_lock.
 */
#include "tests/cudasim/sim.hh"
#include "tests/cudasim/control.h"

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <list>
#include <memory>
#include <unistd.h>
#include <vector>

#define STAGED_BYTES ((size_t)64 << 10) /* pageable copies up to this size do not wait */
#define QUEUE_MAX    100000             /* more work waiting than this runs early */

using work = std::function<cudaError_t()>;

struct cudasim_graph {
    std::vector<work> nodes;
    bool invalid;
};
struct cudasim_graph_exec {
    std::shared_ptr<std::vector<work>> nodes;
};
struct cudasim_stream {
    std::list<work> queue;
    uint64_t enqueued, done;
    bool blocking; /* with regard to the null stream */
    struct cudasim_graph *capture;
    bool origin; /* of the capture */
};
using stream = std::shared_ptr<cudasim_stream>;
struct cudasim_event {
    stream on;
    uint64_t ticket; /* that many pieces of on's work come first */
    std::shared_ptr<double> ms;
    struct cudasim_graph *capture;
    bool timing;
};

std::recursive_mutex sim_lock;
static std::vector<stream> streams;
static stream null_stream = std::make_shared<cudasim_stream>();
static cudaError_t sticky, last;
static int device;
static int64_t replays; /* of graphs */
static bool refusing;   /* to instantiate graphs */

#define LOCKED std::lock_guard<std::recursive_mutex> guard(sim_lock)

uint64_t sim_number(const char *environment, uint64_t otherwise)
{
    const char *text = getenv(environment);
    return text && *text ? strtoull(text, nullptr, 10) : otherwise;
}

static int device_count(void)
{
    return (int)sim_number("LLMJOB_CUDASIM_DEVICES", 8);
}

/* The status of a call: what sticks comes first. */
static cudaError_t result(cudaError_t status)
{
    if (sticky)
        status = sticky;
    if (status)
        last = status;
    return status;
}

/* -- running what waits -- */
static const stream &find(cudaStream_t s)
{
    for (const stream &i : streams)
        if (i.get() == s)
            return i;
    return null_stream;
}

static cudaError_t run_until(const stream &s, uint64_t ticket)
{
    cudaError_t status = sticky;
    sim_memory_open();
    while (!status && s->done < ticket) {
        work next = std::move(s->queue.front());
        s->queue.pop_front();
        s->done++; /* first: work that waits for its own stream must not run twice */
        status = next();
        if (status == cudaErrorNotReady) { /* somebody else's turn: again later */
            s->queue.push_front(std::move(next));
            s->done--;
        }
    }
    sim_memory_close();
    if (status && status != cudaErrorNotReady)
        sticky = status;
    return status;
}

/* As run_until, until it is done. */
static cudaError_t wait_until(const stream &s, uint64_t ticket)
{
    cudaError_t status;
    while ((status = run_until(s, ticket)) == cudaErrorNotReady)
        usleep(50);
    return status;
}

static cudaError_t run_all(void)
{
    cudaError_t status = wait_until(null_stream, null_stream->enqueued);
    for (size_t i = 0; !status && i < streams.size(); i++)
        status = wait_until(streams[i], streams[i]->enqueued);
    return status;
}

/* What comes before work on the null stream: all streams but the non-blocking ones. */
static cudaError_t run_blocking(void)
{
    cudaError_t status = wait_until(null_stream, null_stream->enqueued);
    for (size_t i = 0; !status && i < streams.size(); i++)
        if (streams[i]->blocking)
            status = wait_until(streams[i], streams[i]->enqueued);
    return status;
}

static cudaError_t enqueue(cudaStream_t handle, work w)
{
    const stream &s = find(handle);
    if (sticky)
        return sticky;
    if (s->capture) {
        if (s->capture->invalid)
            return cudaErrorStreamCaptureInvalidated;
        s->capture->nodes.push_back(std::move(w));
        return cudaSuccess;
    }
    if (s == null_stream)
        for (const stream &other : streams)
            if (other->blocking && other->enqueued > other->done) {
                stream before = other;
                uint64_t ticket = other->enqueued;
                s->queue.push_back([=] { return run_until(before, ticket); });
                s->enqueued++;
            }
    if (s != null_stream && s->blocking && null_stream->enqueued > null_stream->done) {
        uint64_t ticket = null_stream->enqueued;
        s->queue.push_back([=] { return run_until(null_stream, ticket); });
        s->enqueued++;
    }
    s->queue.push_back(std::move(w));
    s->enqueued++;
    return s->enqueued - s->done > QUEUE_MAX ? wait_until(s, s->enqueued) : cudaSuccess;
}

cudaError_t sim_result(cudaError_t status)
{
    LOCKED;
    return result(status);
}

cudaError_t sim_enqueue(cudaStream_t s, std::function<cudaError_t()> w)
{
    LOCKED;
    return result(enqueue(s, std::move(w)));
}

/* A call that a capturing stream does not allow: in all of the process, as the global mode has
   it. */
static bool capturing(void)
{
    bool any = false;
    for (const stream &s : streams)
        if (s->capture)
            any = s->capture->invalid = true;
    return any;
}
#define NOT_CAPTURING \
    if (capturing()) \
    return result(cudaErrorStreamCaptureUnsupported)

/* -- devices -- */
cudaError_t cudaGetDeviceCount(int *count)
{
    LOCKED;
    if (sim_number("LLMJOB_CUDASIM_DRIVER", 13000) / 1000 < CUDART_VERSION / 1000)
        return result(cudaErrorInsufficientDriver);
    *count = device_count();
    return *count ? result(cudaSuccess) : result(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int index)
{
    LOCKED;
    if (index < 0 || index >= device_count())
        return result(cudaErrorInvalidDevice);
    device = index;
    return result(cudaSuccess);
}

cudaError_t cudaGetDevice(int *index)
{
    LOCKED;
    *index = device;
    return result(cudaSuccess);
}

cudaError_t cudaSetDeviceFlags(unsigned)
{
    return cudaSuccess;
}

cudaError_t cudaInitDevice(int index, unsigned, unsigned)
{
    return result(index < 0 || index >= device_count() ? cudaErrorInvalidDevice : cudaSuccess);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int index)
{
    LOCKED;
    if (index < 0 || index >= device_count())
        return result(cudaErrorInvalidDevice);
    memset(p, 0, sizeof(*p));
    snprintf(p->name, sizeof(p->name), "simulated GPU (cudasim)");
    memcpy(p->uuid.bytes, "llmjob-cudasim-", 15);
    p->uuid.bytes[15] = (char)index;
    p->totalGlobalMem = sim_number("LLMJOB_CUDASIM_MEMORY_MIB", 8192) << 20;
    p->sharedMemPerBlock = SIM_SHARED_UNASKED;
    p->sharedMemPerBlockOptin = sim_shared_max();
    p->sharedMemPerMultiprocessor = sim_shared_max() + 1024;
    p->reservedSharedMemPerBlock = 1024;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->warpSize = 32;
    p->maxThreadsPerBlock = p->maxThreadsDim[0] = p->maxThreadsDim[1] = SIM_THREADS;
    p->maxThreadsDim[2] = 64;
    p->maxThreadsPerMultiProcessor = 2048;
    p->maxGridSize[0] = INT32_MAX;
    p->maxGridSize[1] = p->maxGridSize[2] = UINT16_MAX;
    p->totalConstMem = 64 << 10;
    p->major = 9;
    p->multiProcessorCount = SIM_SM_COUNT;
    p->concurrentKernels = p->canMapHostMemory = p->unifiedAddressing = 1;
    p->asyncEngineCount = 1;
    p->memoryBusWidth = 64;
    p->l2CacheSize = 1 << 20;
    p->pciBusID = index + 1;
    return result(cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int index)
{
    struct cudaDeviceProp p;
    cudaError_t status = cudaGetDeviceProperties(&p, index);
    if (status)
        return status;
    switch (attr) {
    case cudaDevAttrMaxThreadsPerBlock:
        *value = p.maxThreadsPerBlock;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = (int)p.sharedMemPerBlock;
        break;
    case cudaDevAttrMultiProcessorCount:
        *value = p.multiProcessorCount;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *value = p.major;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = p.minor;
        break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = (int)p.sharedMemPerMultiprocessor;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)p.sharedMemPerBlockOptin;
        break;
    default:
        return result(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int len, int index)
{
    if (index < 0 || index >= device_count())
        return result(cudaErrorInvalidDevice);
    snprintf(id, (size_t)len, "0000:%02X:00.0", index + 1);
    return result(cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = (int)sim_number("LLMJOB_CUDASIM_DRIVER", 13000);
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    LOCKED;
    NOT_CAPTURING;
    return result(run_all());
}

cudaError_t cudaDeviceReset(void)
{
    LOCKED;
    return result(run_all());
}

cudaError_t cudaGetLastError(void)
{
    LOCKED;
    cudaError_t status = sticky ? sticky : last;
    last = cudaSuccess;
    return status;
}

cudaError_t cudaPeekAtLastError(void)
{
    LOCKED;
    return sticky ? sticky : last;
}

static const struct {
    cudaError_t status;
    const char *name, *text;
} errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
        "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
        "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
        "an illegal memory access was encountered"},
    {cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
        "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
        "operation failed due to a previous error during capture"},
};

const char *cudaGetErrorName(cudaError_t status)
{
    for (const auto &e : errors)
        if (e.status == status)
            return e.name;
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t status)
{
    if (status && status == sticky && *sim_failure_text)
        return sim_failure_text;
    for (const auto &e : errors)
        if (e.status == status)
            return e.text;
    return "unrecognized error code";
}

/* -- memory -- */
cudaError_t cudaMalloc(void **out, size_t bytes)
{
    LOCKED;
    NOT_CAPTURING;
    return result(sticky ? sticky : sim_memory_take(bytes, out));
}

cudaError_t cudaFree(void *p)
{
    LOCKED;
    NOT_CAPTURING;
    run_all(); /* a failure sticks, the memory goes all the same */
    return result(sim_memory_give(p));
}

cudaError_t cudaMallocAsync(void **out, size_t bytes, cudaStream_t)
{
    return cudaMalloc(out, bytes);
}

cudaError_t cudaFreeAsync(void *p, cudaStream_t)
{
    return cudaFree(p);
}

cudaError_t cudaMallocHost(void **out, size_t bytes)
{
    LOCKED;
    NOT_CAPTURING;
    return result(sim_pinned_take(bytes, out));
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned)
{
    return cudaMallocHost(out, bytes);
}

cudaError_t cudaFreeHost(void *p)
{
    LOCKED;
    run_all();
    return result(p ? sim_pinned_give(p) : cudaSuccess);
}

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned)
{
    LOCKED;
    sim_pinned_add(p, bytes);
    return result(cudaSuccess);
}

cudaError_t cudaHostUnregister(void *p)
{
    LOCKED;
    run_all();
    return result(sim_pinned_remove(p) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    LOCKED;
    *total = (size_t)sim_number("LLMJOB_CUDASIM_MEMORY_MIB", 8192) << 20;
    *free_bytes = *total - sim_memory_used();
    return result(cudaSuccess);
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *out, const void *p)
{
    LOCKED;
    memset(out, 0, sizeof(*out));
    out->type = sim_memory_is_device(p) ? cudaMemoryTypeDevice
        : sim_pinned_holds(p, 1)        ? cudaMemoryTypeHost
                                        : cudaMemoryTypeUnregistered;
    return result(cudaSuccess);
}

/* Is p, as the direction says, device memory that holds the bytes, or host memory? */
static bool fits(const void *p, size_t bytes, bool on_device)
{
    return on_device ? sim_memory_holds(p, bytes) : !sim_memory_is_device(p);
}

/* Rows of `width` bytes; one row is a plain copy. */
struct copy {
    char *to;
    const char *from;
    size_t to_pitch, from_pitch, width, height;
    cudaError_t run(void) const
    {
        for (size_t i = 0; i < height; i++)
            memmove(to + i * to_pitch, from + i * from_pitch, width);
        return cudaSuccess;
    }
};

static cudaError_t copy_async(copy c, enum cudaMemcpyKind kind, cudaStream_t s)
{
    size_t to_bytes = (c.height - 1) * c.to_pitch + c.width;
    size_t from_bytes = (c.height - 1) * c.from_pitch + c.width;
    if (kind == cudaMemcpyDefault)
        kind = sim_memory_is_device(c.to)
            ? sim_memory_is_device(c.from) ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice
            : sim_memory_is_device(c.from) ? cudaMemcpyDeviceToHost
                                           : cudaMemcpyHostToHost;
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (sticky)
        return sticky;
    if (!fits(c.to, to_bytes, to_device) || !fits(c.from, from_bytes, from_device))
        return cudaErrorInvalidValue;
    bool pageable = (!to_device && !sim_pinned_holds(c.to, to_bytes)) ||
        (!from_device && !sim_pinned_holds(c.from, from_bytes));
    cudaError_t status = cudaSuccess;
    if (pageable && !find(s)->capture && !to_device) {
        status = enqueue(s, [=] { return c.run(); });
        return status ? status : wait_until(find(s), find(s)->enqueued);
    }
    if (pageable && !find(s)->capture && from_bytes <= STAGED_BYTES) {
        auto staged = std::make_shared<std::vector<char>>(c.from, c.from + from_bytes);
        return enqueue(s, [=] {
            copy late = c;
            late.from = staged->data();
            return late.run();
        });
    }
    status = enqueue(s, [=] { return c.run(); });
    return status || !pageable || find(s)->capture ? status
                                                   : wait_until(find(s), find(s)->enqueued);
}

cudaError_t cudaMemcpyAsync(
    void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t s)
{
    LOCKED;
    if (!bytes)
        return result(cudaSuccess);
    return result(copy_async({(char *)dst, (const char *)src, bytes, bytes, bytes, 1}, kind, s));
}

cudaError_t cudaMemcpy2DAsync(void *dst, size_t dpitch, const void *src, size_t spitch,
    size_t width, size_t height, enum cudaMemcpyKind kind, cudaStream_t s)
{
    LOCKED;
    if (width > dpitch || width > spitch)
        return result(cudaErrorInvalidValue);
    if (!width || !height)
        return result(cudaSuccess);
    return result(
        copy_async({(char *)dst, (const char *)src, dpitch, spitch, width, height}, kind, s));
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind)
{
    LOCKED;
    NOT_CAPTURING;
    cudaError_t status = cudaMemcpyAsync(dst, src, bytes, kind, nullptr);
    return result(status ? status : run_blocking());
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s)
{
    LOCKED;
    if (!bytes)
        return result(cudaSuccess);
    if (!sim_memory_holds(p, bytes))
        return result(cudaErrorInvalidValue);
    return result(enqueue(s, [=] {
        sim_memory_set(p, value, bytes);
        return cudaSuccess;
    }));
}

cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    LOCKED;
    NOT_CAPTURING;
    cudaError_t status = cudaMemsetAsync(p, value, bytes, nullptr);
    return result(status ? status : run_blocking());
}

/* -- streams and events -- */
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    LOCKED;
    NOT_CAPTURING;
    if (sticky)
        return sticky;
    streams.push_back(std::make_shared<cudasim_stream>());
    streams.back()->blocking = !(flags & cudaStreamNonBlocking);
    *out = streams.back().get();
    return result(cudaSuccess);
}

cudaError_t cudaStreamCreate(cudaStream_t *out)
{
    return cudaStreamCreateWithFlags(out, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int)
{
    return cudaStreamCreateWithFlags(out, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    LOCKED;
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i].get() == s) {
            wait_until(streams[i], streams[i]->enqueued);
            if (streams[i]->origin)
                delete streams[i]->capture;
            streams.erase(streams.begin() + (long)i);
            return result(cudaSuccess);
        }
    return result(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    LOCKED;
    NOT_CAPTURING;
    return result(s ? wait_until(find(s), find(s)->enqueued) : run_blocking());
}

void sim_stream_run(cudaStream_t s)
{
    LOCKED;
    const stream &f = find(s);
    run_until(f, f->enqueued);
}

cudaError_t cudaStreamQuery(cudaStream_t s)
{
    LOCKED;
    NOT_CAPTURING;
    const stream &f = find(s);
    if (f->done == f->enqueued)
        return result(cudaSuccess);
    cudaError_t status = run_until(f, f->enqueued);
    return result(status ? status : cudaErrorNotReady);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t s, void (*fn)(void *), void *user)
{
    LOCKED;
    return result(enqueue(s, [=] {
        fn(user);
        return cudaSuccess;
    }));
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    LOCKED;
    if (sticky)
        return sticky;
    *out = new cudasim_event{
        null_stream, 0, std::make_shared<double>(0), nullptr, !(flags & cudaEventDisableTiming)};
    return result(cudaSuccess);
}

cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    return cudaEventCreateWithFlags(out, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    LOCKED;
    if (!e)
        return result(cudaErrorInvalidResourceHandle);
    delete e;
    return result(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    LOCKED;
    auto ms = std::make_shared<double>(0);
    const stream &f = find(s);
    e->capture = f->capture;
    if (f->capture)
        return result(cudaSuccess); /* the order of the nodes is the order of the calls */
    cudaError_t status = enqueue(s, [=] {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        *ms = (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
        return cudaSuccess;
    });
    if (status)
        return result(status);
    e->on = f;
    e->ticket = f->enqueued;
    e->ms = ms;
    return result(cudaSuccess);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    LOCKED;
    const stream &f = find(s);
    if (e->capture) { /* s joins the capture, if it is not in it */
        f->capture = e->capture;
        return result(cudaSuccess);
    }
    if (e->on == f || e->on->done >= e->ticket)
        return result(cudaSuccess);
    stream on = e->on;
    uint64_t ticket = e->ticket;
    return result(enqueue(s, [=] { return run_until(on, ticket); }));
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    LOCKED;
    return result(wait_until(e->on, e->ticket));
}

cudaError_t cudaEventQuery(cudaEvent_t e)
{
    LOCKED;
    if (e->on->done >= e->ticket)
        return result(cudaSuccess);
    cudaError_t status = run_until(e->on, e->ticket);
    return result(status ? status : cudaErrorNotReady);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    LOCKED;
    if (!from->timing || !to->timing)
        return result(cudaErrorInvalidResourceHandle);
    if (from->on->done < from->ticket || to->on->done < to->ticket)
        return result(cudaErrorNotReady);
    *ms = (float)(*to->ms - *from->ms);
    return result(cudaSuccess);
}

/* -- graphs: the captured work in the order of its calls -- */
cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode)
{
    LOCKED;
    const stream &f = find(s);
    if (sticky)
        return result(sticky);
    if (!s || f->capture)
        return result(cudaErrorStreamCaptureUnsupported);
    f->capture = new cudasim_graph{};
    f->origin = true;
    return result(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *out)
{
    LOCKED;
    const stream &f = find(s);
    struct cudasim_graph *g = f->capture;
    if (!g || !f->origin)
        return result(cudaErrorInvalidValue);
    for (const stream &i : streams)
        if (i->capture == g)
            i->capture = nullptr;
    f->origin = false;
    if (g->invalid) {
        delete g;
        *out = nullptr;
        return result(cudaErrorStreamCaptureInvalidated);
    }
    *out = g;
    return result(cudaSuccess);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t s, enum cudaStreamCaptureStatus *out)
{
    LOCKED;
    const stream &f = find(s);
    *out = !f->capture        ? cudaStreamCaptureStatusNone
        : f->capture->invalid ? cudaStreamCaptureStatusInvalidated
                              : cudaStreamCaptureStatusActive;
    return result(cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t g, unsigned long long)
{
    LOCKED;
    if (refusing)
        return result(cudaErrorMemoryAllocation);
    *out = new cudasim_graph_exec{std::make_shared<std::vector<work>>(g->nodes)};
    return result(cudaSuccess);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t g, cudaStream_t s)
{
    LOCKED;
    replays++;
    auto nodes = g->nodes;
    auto next = std::make_shared<size_t>(0); /* a node may not be ready, then it goes on there */
    return result(enqueue(s, [=] {
        cudaError_t status = cudaSuccess;
        while (!status && *next < nodes->size())
            if (!(status = (*nodes)[*next]()))
                ++*next;
        return status;
    }));
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g)
{
    LOCKED;
    delete g;
    return result(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    LOCKED;
    delete g;
    return result(cudaSuccess);
}

/* -- how tests steer it -- */
static void control_order(uint64_t seed)
{
    LOCKED;
    sim_seed = seed;
}
static const char *control_failure(void)
{
    return sim_failure_text;
}
static void control_forget(void)
{
    LOCKED;
    sticky = last = cudaSuccess;
    *sim_failure_text = 0;
    for (const stream &s : streams) {
        s->queue.clear();
        s->done = s->enqueued;
    }
}
static int64_t control_launches(void)
{
    return sim_launches;
}
static int64_t control_calls(void)
{
    return sim_calls;
}
static int64_t control_replays(void)
{
    return replays;
}
static const char *control_last_error(void)
{
    LOCKED;
    return last ? cudaGetErrorName(last) : "";
}
static void control_refuse(bool on)
{
    LOCKED;
    refusing = on;
}
static void control_epilogues(bool on)
{
    LOCKED;
    sim_epilogues = on;
}
const struct cudasim_control *llmjob_cudasim(void)
{
    static const struct cudasim_control c = {control_order, control_failure, control_forget,
        control_last_error, control_launches, control_calls, control_replays, control_refuse,
        control_epilogues, sim_kernel, cudasim_fault};
    return &c;
}
__attribute__((constructor)) static void seed_from_environment(void)
{
    sim_seed = sim_number("LLMJOB_CUDASIM_SEED", 0);
}
