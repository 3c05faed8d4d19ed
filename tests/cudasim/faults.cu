/*
 * faults: small kernels that each do one thing wrong, which the simulator must notice, and one that
 * does all of it right, about which it must not complain (tests/kernels/test_cuda.c). Part of the
 * simulated plugin only.
 */
#include "kernels/cuda/kernel.cuh"
#include "tests/cudasim/control.h"

#define BLOCK   64
#define UNASKED ((size_t)48 << 10) /* bytes of shared memory */

__global__ static void barrier_elsewhere(float *room)
{
    if (threadIdx.x < BLOCK / 2)
        __syncthreads();
    else
        __syncthreads(), room[0] = 1;
}

__global__ static void barrier_ended(float *room)
{
    if (threadIdx.x >= BLOCK / 2)
        return;
    __syncthreads();
    room[threadIdx.x] = 1;
}

__global__ static void warp_ended(float *room)
{
    if (threadIdx.x == 7)
        return;
    room[threadIdx.x] = __shfl_xor_sync(FULL, room[threadIdx.x], 1);
}

__global__ static void warp_outside(float *room)
{
    if (threadIdx.x < 16)
        room[threadIdx.x] = __shfl_sync(0xffffu, room[threadIdx.x], 20);
}

/* Adds to element `at` of room for thread 3. */
__global__ static void global_at(float *room, int64_t at, bool write)
{
    if (threadIdx.x != 3)
        return;
    if (write)
        room[at] = 1;
    else
        room[0] = room[at];
}

__global__ static void shared_bounds(float *room, int64_t at)
{
    SHARED(float, shared);
    shared[threadIdx.x] = 1;
    __syncthreads();
    room[threadIdx.x] = shared[threadIdx.x + at];
}

__global__ static void array_bounds(float *room, int64_t at)
{
    __shared__ float array[BLOCK];
    array[threadIdx.x] = 1;
    __syncthreads();
    room[threadIdx.x] = array[threadIdx.x + at];
}

template <bool barrier> __global__ static void shared_race(float *room)
{
    SHARED(float, shared);
    shared[threadIdx.x] = (float)threadIdx.x;
    if (barrier)
        __syncthreads();
    room[threadIdx.x] = shared[(threadIdx.x + 33) % BLOCK];
}

template <bool barrier> __global__ static void array_race(float *room)
{
    __shared__ float array[BLOCK];
    array[threadIdx.x] = (float)threadIdx.x;
    if (barrier)
        __syncthreads();
    room[threadIdx.x] = array[(threadIdx.x + 33) % BLOCK];
}

template <bool barrier> __global__ static void warp_race(float *room)
{
    SHARED(float, shared);
    shared[threadIdx.x] = (float)threadIdx.x;
    if (barrier)
        __syncwarp();
    room[threadIdx.x] = shared[threadIdx.x ^ 1];
}

/* Each thread copies 16 bytes, and reads what its neighbour copied. */
template <bool wait, bool barrier> __global__ static void copy(float *room, int64_t offset)
{
    SHARED(float, shared);
    copy_async16(shared + 4 * threadIdx.x, room + 4 * (threadIdx.x % 8) + offset, true);
    copy_async_commit();
    if (wait)
        copy_async_wait<0>();
    if (barrier)
        __syncthreads();
    room[64 + threadIdx.x] = shared[4 * (threadIdx.x ^ 1)];
}

__global__ static void vector_misaligned(float *room, int64_t at)
{
    *(float2 *)(room + at) = make_float2(1, 2);
}

template <bool global> __global__ static void store_elsewhere(float *room)
{
    SHARED(float, shared);
    const pack<float, 4> v = {};
    if (global)
        store_pack<float, 4>(shared + 4 * threadIdx.x, v);
    else
        store_pack_shared(shared + 4 * threadIdx.x, v);
    room[threadIdx.x] = shared[4 * threadIdx.x];
}

template <bool asked> __global__ static void shared_arrays(float *room)
{
    SHARED(float, shared);
    __shared__ float array[BLOCK];
    shared[threadIdx.x] = array[threadIdx.x] = 1;
    room[threadIdx.x] = shared[threadIdx.x] + array[threadIdx.x];
}

/* As launch(), but without asking for shared memory. */
static void launch_unasked(struct dev *d, float *room, size_t shared)
{
    struct cuda_dev *c = (struct cuda_dev *)d;
    cudaLaunchConfig_t conf = {dim3(1), dim3(BLOCK), shared, c->stream};
    cuda_check(c, launch_kernel<shared_arrays<false>>(&conf, d, room), "launch of a kernel");
}

__global__ static void uninitialised(float *room)
{
    SHARED(float, shared);
    room[threadIdx.x] = shared[threadIdx.x];
}

__global__ static void global_order(float *room)
{
    room[threadIdx.x] = (float)threadIdx.x;
    room[64 + threadIdx.x] = room[(threadIdx.x + 1) % BLOCK];
}

__global__ static void block_order(float *room)
{
    if (threadIdx.x == 0)
        room[blockIdx.x] = blockIdx.x ? room[blockIdx.x - 1] + 1 : 1;
}

/* Everything that the others do, properly. */
static void right(struct dev *d, float *room)
{
    launch<global_at>(d, dim3(1), BLOCK, 0, room, (int64_t)CUDASIM_FAULT_FLOATS - 1, true);
    launch<shared_bounds>(d, dim3(1), BLOCK, (BLOCK + 1) * sizeof(float), room, (int64_t)0);
    launch<array_bounds>(d, dim3(1), BLOCK, 0, room, (int64_t)0);
    launch<shared_race<true>>(d, dim3(1), BLOCK, BLOCK * sizeof(float), room);
    launch<array_race<true>>(d, dim3(1), BLOCK, 0, room);
    launch<warp_race<true>>(d, dim3(1), BLOCK, BLOCK * sizeof(float), room);
    launch<copy<true, true>>(d, dim3(1), BLOCK, BLOCK * 16, room, (int64_t)0);
    launch<store_elsewhere<false>>(d, dim3(1), BLOCK, BLOCK * 16, room);
    launch<vector_misaligned>(d, dim3(1), BLOCK, 0, room, (int64_t)2);
    launch<shared_arrays<true>>(d, dim3(1), BLOCK, UNASKED, room + BLOCK);
    launch<shared_arrays<true>>(d, dim3(1), BLOCK, UNASKED + 16, room + BLOCK);
    launch_unasked(d, room + BLOCK, UNASKED - BLOCK * sizeof(float));
}

static void fault_of_memory(struct dev *d, enum cudasim_fault f, float *room, float *host)
{
    const dim3 one(1);
    const size_t floats = BLOCK * sizeof(float);
    switch (f) {
    case CUDASIM_FAULT_GLOBAL_READ:
        return launch<global_at>(d, one, BLOCK, 0, room, (int64_t)CUDASIM_FAULT_FLOATS, false);
    case CUDASIM_FAULT_GLOBAL_WRITE:
        return launch<global_at>(d, one, BLOCK, 0, room, (int64_t)CUDASIM_FAULT_FLOATS, true);
    case CUDASIM_FAULT_GLOBAL_BEFORE:
        return launch<global_at>(d, one, BLOCK, 0, room, (int64_t)-1, true);
    case CUDASIM_FAULT_GLOBAL_FREED: {
        void *gone = nullptr;
        cudaMalloc(&gone, 1000);
        cudaFree(gone);
        return launch<global_at>(d, one, BLOCK, 0, (float *)gone, (int64_t)0, false);
    }
    case CUDASIM_FAULT_HOST_MEMORY:
        return launch<global_at>(d, one, BLOCK, 0, host, (int64_t)0, false);
    case CUDASIM_FAULT_SHARED_BOUNDS:
        return launch<shared_bounds>(d, one, BLOCK, floats, room, (int64_t)1);
    case CUDASIM_FAULT_SHARED_ARRAYS:
        return launch_unasked(d, room, UNASKED);
    case CUDASIM_FAULT_SHARED_UNASKED:
        return launch_unasked(d, room, UNASKED + 16);
    case CUDASIM_FAULT_ARRAY_BOUNDS:
        return launch<array_bounds>(d, one, BLOCK, 0, room, (int64_t)1);
    case CUDASIM_FAULT_COPY_MISALIGNED:
        return launch<copy<true, true>>(d, one, BLOCK, 4 * floats, room, (int64_t)1);
    case CUDASIM_FAULT_STORE_ELSEWHERE:
        return launch<store_elsewhere<true>>(d, one, BLOCK, 4 * floats, room);
    case CUDASIM_FAULT_VECTOR_MISALIGNED:
        return launch<vector_misaligned>(d, one, BLOCK, 0, room, (int64_t)1);
    default:
        cuda_refuse(d, "there is no fault %d", f);
    }
}

void cudasim_fault(struct dev *d, enum cudasim_fault f, float *room, float *host)
{
    const dim3 one(1);
    const size_t floats = BLOCK * sizeof(float);
    switch (f) {
    case CUDASIM_FAULT_NONE:
        return right(d, room);
    case CUDASIM_FAULT_BARRIER_ELSEWHERE:
        return launch<barrier_elsewhere>(d, one, BLOCK, 0, room);
    case CUDASIM_FAULT_BARRIER_ENDED:
        return launch<barrier_ended>(d, one, BLOCK, 0, room);
    case CUDASIM_FAULT_WARP_ENDED:
        return launch<warp_ended>(d, one, BLOCK, 0, room);
    case CUDASIM_FAULT_WARP_OUTSIDE:
        return launch<warp_outside>(d, one, BLOCK, 0, room);
    case CUDASIM_FAULT_SHARED_RACE:
        return launch<shared_race<false>>(d, one, BLOCK, floats, room);
    case CUDASIM_FAULT_ARRAY_RACE:
        return launch<array_race<false>>(d, one, BLOCK, 0, room);
    case CUDASIM_FAULT_WARP_RACE:
        return launch<warp_race<false>>(d, one, BLOCK, floats, room);
    case CUDASIM_FAULT_COPY_RACE:
        return launch<copy<true, false>>(d, one, BLOCK, 4 * floats, room, (int64_t)0);
    case CUDASIM_FAULT_COPY_UNWAITED:
        return launch<copy<false, true>>(d, one, BLOCK, 4 * floats, room, (int64_t)0);
    case CUDASIM_FAULT_UNINITIALISED:
        return launch<uninitialised>(d, one, BLOCK, floats, room);
    case CUDASIM_FAULT_GLOBAL_ORDER:
        return launch<global_order>(d, one, BLOCK, 0, room);
    case CUDASIM_FAULT_BLOCK_ORDER:
        return launch<block_order>(d, dim3(16), BLOCK, 0, room);
    default:
        fault_of_memory(d, f, room, host);
    }
}
