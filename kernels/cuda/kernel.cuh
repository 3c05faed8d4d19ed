/*
 * kernel: what every .cu file is written with: launching, element types, reductions, and one
 * wrapper each for tensor cores, ldmatrix and asynchronous copies. Compiled by nvcc, or, with
 * -DLLMJOB_CUDASIM, as C++ for the host by tests/cudasim (each wrapper then has a plain twin in
 * cudasim.h).
 *
 * Rules of the kernels: results do not depend on timing (no floating-point atomics: sums of blocks
 * go to scratch and are added in a fixed order); sizes are int64_t until a grid is computed; a
 * block is one-dimensional and a multiple of 32 threads; every thread of a block reaches every
 * barrier; shared memory is dynamic (SHARED) or a __shared__ array of constant size.
 */
#ifndef KERNELS_CUDA_KERNEL_CUH
#define KERNELS_CUDA_KERNEL_CUH

#include "kernels/cuda/cuda.h"

#ifdef LLMJOB_CUDASIM
#include <cudasim.h> /* tests/cudasim */
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#define WARP 32
#define FULL 0xffffffffu

/* -- element types: 16 bits that only load() and store() read -- */
struct bf16 {
    uint16_t bits;
};
struct f16 {
    uint16_t bits;
};

__device__ inline float to_float(float x)
{
    return x;
}
__device__ inline float to_float(bf16 x)
{
    return __uint_as_float((uint32_t)x.bits << 16);
}
__device__ inline float to_float(f16 x)
{
    return __half2float(__ushort_as_half(x.bits));
}
template <class T> __device__ inline T from_float(float x);
template <> __device__ inline float from_float<float>(float x)
{
    return x;
}
template <> __device__ inline bf16 from_float<bf16>(float x)
{
    return bf16{__bfloat16_as_ushort(__float2bfloat16_rn(x))};
}
template <> __device__ inline f16 from_float<f16>(float x)
{
    return f16{__half_as_ushort(__float2half_rn(x))};
}

#ifndef LLMJOB_CUDASIM
/* The dynamic shared memory of the block, as an array of `type`, 16-byte aligned. */
#define SHARED(type, name) \
    extern __shared__ __align__(16) unsigned char shared_dynamic[]; \
    type *name = reinterpret_cast<type *>(shared_dynamic)

/*
 * D (16, 8) F32 += A (16, 16) E row-major * B (16, 8) E column-major, one warp; E is bf16 or f16.
 * Fragments as in the PTX ISA, "Matrix fragments for mma.m16n8k16 with floating-point type": lane =
 * 4 * g + t; a[0] = A[g][2t, 2t+1], a[1] = A[g+8][2t, 2t+1], a[2] = A[g][2t+8, 2t+9], a[3] =
 * A[g+8][2t+8, 2t+9]; b[0] = B[2t, 2t+1][g], b[1] = B[2t+8, 2t+9][g]; d[0, 1] = D[g][2t, 2t+1],
 * d[2, 3] = D[g+8][2t, 2t+1]. The lower half of a word is the element of lower index.
 */
template <class E>
__device__ inline void mma_16816(float d[4], const uint32_t a[4], const uint32_t b[2]);
template <>
__device__ inline void mma_16816<bf16>(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
__device__ inline void mma_16816<f16>(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
                 "{%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Four 8x8 matrices of 16-bit elements from shared memory: lane i gives the address (16-byte
 * aligned) of row i % 8 of matrix i / 8; word j of a lane is row lane / 4, columns 2 * (lane % 4)
 * and + 1 of matrix j; _trans: of its transpose. */
__device__ inline void ldmatrix_x4(uint32_t r[4], const void *row)
{
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at));
}
__device__ inline void ldmatrix_x4_trans(uint32_t r[4], const void *row)
{
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at));
}

/* 16 bytes from global to shared memory (both 16-byte aligned) without waiting, zeros when not
 * valid (global is not read then). copy_async_wait<n>: all but the newest n committed groups have
 * arrived, for this thread; a barrier makes them visible to the block. */
__device__ inline void copy_async16(void *shared, const void *global, bool valid)
{
    uint32_t at = (uint32_t)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(at), "l"(global),
        "r"(valid ? 16 : 0));
}
__device__ inline void copy_async_commit()
{
    asm volatile("cp.async.commit_group;\n");
}
template <int n> __device__ inline void copy_async_wait()
{
    asm volatile("cp.async.wait_group %0;\n" ::"n"(n));
}

using launch_from = struct dev *; /* the simulator's knows the place in the source as well */

template <auto kernel, class... A>
inline cudaError_t launch_kernel(const cudaLaunchConfig_t *conf, launch_from, A... a)
{
    return cudaLaunchKernelEx(conf, kernel, a...);
}
#endif

/* What a block may have on every GPU of compute capability 8.0 and later; some have more. */
#define SHARED_LEAST   ((size_t)99 << 10)
/* What a kernel may have without asking is 48 KB a block, __shared__ arrays included. No kernel has
   more than 16 KB of these besides a dynamic part, so one whose dynamic part is up to this need not
   ask: the simulator fails a launch that should have. */
#define SHARED_UNASKED ((size_t)32 << 10)

/* Enqueues kernel on the device's stream; a failure sticks to the device. */
template <auto kernel, class... A>
inline void launch(launch_from d, dim3 grid, unsigned block, size_t shared, A... a)
{
    struct cuda_dev *c = (struct cuda_dev *)(struct dev *)d;
    cudaLaunchConfig_t conf = {};
    if (shared > c->shared_max) {
        cuda_refuse(d, "a kernel needs %zu bytes of shared memory a block: this GPU has %zu",
            shared, c->shared_max);
        return;
    }
    conf.gridDim = grid;
    conf.blockDim = dim3(block);
    conf.dynamicSmemBytes = shared;
    conf.stream = c->stream;
    if (shared > SHARED_UNASKED &&
        cuda_check(c,
            cudaFuncSetAttribute(
                (const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared),
            "shared memory of a kernel"))
        return;
    cuda_check(c, launch_kernel<kernel>(&conf, d, a...), "launch of a kernel");
}

template <class T> __device__ inline float load(const T *p, int64_t i = 0)
{
    return to_float(p[i]);
}
template <class T> __device__ inline void store(T *p, int64_t i, float x)
{
    p[i] = from_float<T>(x);
}

/* W neighbouring elements, at most 16 bytes: one access of a global address aligned to their
   size. */
template <class T, int W> struct alignas(sizeof(T) * W) pack {
    T e[W];
};
template <class T, int W> __device__ inline pack<T, W> load_pack(const T *p)
{
    return *reinterpret_cast<const pack<T, W> *>(p);
}
/* store_pack: to global memory, store_pack_shared: to shared memory; nothing else will do. */
#ifdef LLMJOB_CUDASIM
template <class T, int W> __device__ inline void store_pack(T *p, const pack<T, W> &v)
{
    cudasim_global(p, "store_pack");
    *reinterpret_cast<pack<T, W> *>(p) = v;
}
__device__ inline void store_pack_shared(float *p, const pack<float, 4> &v)
{
    cudasim_shared16(p, true, "store_pack_shared");
    *reinterpret_cast<pack<float, 4> *>(p) = v;
}
#else
__device__ inline uint32_t pack_bits(float x)
{
    return __float_as_uint(x);
}
__device__ inline uint32_t pack_bits(bf16 x)
{
    return x.bits;
}
__device__ inline uint32_t pack_bits(f16 x)
{
    return x.bits;
}
/* By assembly: nvcc splits the assignment of a structure, or of a vector, that it sees put
 * together. */
template <class T, int W> __device__ inline void store_pack(T *p, const pack<T, W> &v)
{
    constexpr int bytes = (int)sizeof(T) * W, each = sizeof(T) == 2 ? 2 : 1;
    if constexpr (bytes < 4) {
        p[0] = v.e[0];
    } else {
        size_t at = __cvta_generic_to_global(p);
        uint32_t word[bytes / 4];
#pragma unroll
        for (int i = 0; i < bytes / 4; i++)
            word[i] = pack_bits(v.e[i * each]) |
                (each == 2 ? pack_bits(v.e[i * each + each - 1]) << 16 : 0);
        if constexpr (bytes == 16)
            asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};\n" ::"l"(at), "r"(word[0]),
                         "r"(word[1]), "r"(word[2]), "r"(word[3])
                         : "memory");
        else if constexpr (bytes == 8)
            asm volatile("st.global.v2.b32 [%0], {%1, %2};\n" ::"l"(at), "r"(word[0]), "r"(word[1])
                         : "memory");
        else
            asm volatile("st.global.b32 [%0], %1;\n" ::"l"(at), "r"(word[0]) : "memory");
    }
}
__device__ inline void store_pack_shared(float *p, const pack<float, 4> &v)
{
    uint32_t at = (uint32_t)__cvta_generic_to_shared(p);
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};\n" ::"r"(at), "f"(v.e[0]), "f"(v.e[1]),
                 "f"(v.e[2]), "f"(v.e[3])
                 : "memory");
}
#endif

/* -- reductions; every lane, or every thread, gets the result -- */
__device__ inline float warp_sum(float x)
{
    for (int i = WARP / 2; i; i /= 2)
        x += __shfl_xor_sync(FULL, x, i);
    return x;
}
__device__ inline float warp_max(float x)
{
    for (int i = WARP / 2; i; i /= 2)
        x = fmaxf(x, __shfl_xor_sync(FULL, x, i));
    return x;
}
/* The block has `blockDim.x` threads; `room` is shared memory of 32 floats, free again after it. */
__device__ inline float block_sum(float x, float *room)
{
    x = warp_sum(x);
    if (threadIdx.x % WARP == 0)
        room[threadIdx.x / WARP] = x;
    __syncthreads();
    x = threadIdx.x % WARP < blockDim.x / WARP ? room[threadIdx.x % WARP] : 0;
    x = warp_sum(x);
    __syncthreads();
    return x;
}
__device__ inline float block_max(float x, float *room)
{
    x = warp_max(x);
    if (threadIdx.x % WARP == 0)
        room[threadIdx.x / WARP] = x;
    __syncthreads();
    x = threadIdx.x % WARP < blockDim.x / WARP ? room[threadIdx.x % WARP] : -INFINITY;
    x = warp_max(x);
    __syncthreads();
    return x;
}

/* Runs f<float>, f<bf16> or f<f16> by an element type known at run time: WITH_TYPE(a->t, T, f<T>(d,
 * a)). */
#define WITH_TYPE(t, T, ...) \
    do { \
        if ((t) == DTYPE_F32) { \
            using T = float; \
            __VA_ARGS__; \
        } else if ((t) == DTYPE_BF16) { \
            using T = bf16; \
            __VA_ARGS__; \
        } else if ((t) == DTYPE_F16) { \
            using T = f16; \
            __VA_ARGS__; \
        } else { \
            cuda_refuse(d, "%s: elements of type %s", __func__, dtype_name(t)); \
        } \
    } while (0)

static inline unsigned blocks_of(int64_t count, int64_t each)
{
    return (unsigned)((count + each - 1) / each);
}

#endif
