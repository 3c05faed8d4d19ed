/*
 * cudasim: what a kernel sees when it is compiled for the host: CUDA's qualifiers, coordinates,
 * barriers, warp operations, integer atomics and intrinsics, and the plain twins of the wrappers in
 * kernels/cuda/kernel.cuh, which includes this. engine.cc runs each thread of a block as a fibre;
 * here a thread only calls it.
 *
 * What a GPU leaves undefined is an error here, named with kernel, block and thread: see README.md.
 * Missing on purpose: floating-point atomics, __activemask and the shuffles without a mask.
 */
#ifndef TESTS_CUDASIM_CUDASIM_H
#define TESTS_CUDASIM_CUDASIM_H

#include <cuda_runtime.h>

#include <cmath>
#include <cstring>
#include <tuple>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n)        __attribute__((aligned(n)))
#define __shared__          static thread_local /* a segment of its own, which the engine fills */
#define __builtin_assume(x) ((void)0)
#define CUDASIM_UNCHECKED   __attribute__((noinline, no_sanitize("thread", "alignment")))

/* -- vector types -- */
#define CUDASIM_VECTOR(type, name, align) \
    struct __attribute__((aligned((align) / 2 > 0 ? (align) / 2 : 1))) name##2 \
    { \
        type x, y; \
    }; \
    struct name##3 \
    { \
        type x, y, z; \
    }; \
    struct __attribute__((aligned(align))) name##4 \
    { \
        type x, y, z, w; \
    }; \
    static inline name##2 make_##name##2(type x, type y) \
    { \
        return name##2 {x, y}; \
    } \
    static inline name##4 make_##name##4(type x, type y, type z, type w) \
    { \
        return name##4 {x, y, z, w}; \
    }
CUDASIM_VECTOR(float, float, 16)
CUDASIM_VECTOR(int, int, 16)
CUDASIM_VECTOR(short, short, 8)
CUDASIM_VECTOR(unsigned short, ushort, 8)
CUDASIM_VECTOR(signed char, char, 4)
CUDASIM_VECTOR(unsigned char, uchar, 4)
struct __attribute__((aligned(8))) uint2 {
    unsigned x, y;
};
struct __attribute__((aligned(16))) uint4 {
    unsigned x, y, z, w;
};
static inline uint2 make_uint2(unsigned x, unsigned y)
{
    return uint2{x, y};
}
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return uint4{x, y, z, w};
}

/* -- the engine -- */
struct cudasim_coordinates {
    uint3 thread, block;
    dim3 block_dim, grid_dim;
};
/* Written by the engine at every switch; constant as far as one thread can tell. */
extern "C" const struct cudasim_coordinates cudasim_at;
static constexpr const uint3 &threadIdx = cudasim_at.thread, &blockIdx = cudasim_at.block;
static constexpr const dim3 &blockDim = cudasim_at.block_dim, &gridDim = cudasim_at.grid_dim;
static const int warpSize = 32;

/* Where an operation stands in the source: default arguments that the call site fills. */
#define CUDASIM_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

extern "C" {
/* The dynamic shared memory of the block, its last byte beside a guard page. */
void *cudasim_shared(void);
void cudasim_barrier(const char *file, int line);
/* Ends the launch: cudaErrorLaunchFailure, with this text. */
[[noreturn]] void cudasim_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* p must be 16 bytes of shared memory, 16-byte aligned, that this thread may read or write now. */
void cudasim_shared16(const void *p, bool write, const char *what);
/* p must be global memory. */
void cudasim_global(const void *p, const char *what);
void cudasim_atomic(void *p, size_t bytes);
void cudasim_copy_async(void *shared, const void *global, bool valid);
void cudasim_copy_commit(void);
void cudasim_copy_wait(int newest);
}

/* A warp operation: every lane of mask arrives with the same combine, the last one runs it over all
   and every lane goes on. lane[i] is NULL outside the mask. */
struct cudasim_warp {
    uint32_t mask;
    void (*combine)(struct cudasim_warp *const lane[32], uint32_t mask);
    const char *name, *file;
    int line;
    int from;         /* shuffles: the lane read */
    uint64_t in, out; /* of scalar operations */
    uint32_t row[4];  /* ldmatrix: the row that this lane read */
    uint32_t *words;  /* ldmatrix: result */
    float *d;         /* mma */
    const uint32_t *a, *b;
};
extern "C" void cudasim_warp(struct cudasim_warp *op);
extern "C" {
void cudasim_combine_sync(struct cudasim_warp *const lane[32], uint32_t mask);
void cudasim_combine_shuffle(struct cudasim_warp *const lane[32], uint32_t mask);
void cudasim_combine_ballot(struct cudasim_warp *const lane[32], uint32_t mask);
void cudasim_combine_add(struct cudasim_warp *const lane[32], uint32_t mask);
void cudasim_combine_max(struct cudasim_warp *const lane[32], uint32_t mask);
void cudasim_combine_min(struct cudasim_warp *const lane[32], uint32_t mask);
void cudasim_combine_mma_bf16(struct cudasim_warp *const lane[32], uint32_t mask);
void cudasim_combine_mma_f16(struct cudasim_warp *const lane[32], uint32_t mask);
void cudasim_combine_ldmatrix(struct cudasim_warp *const lane[32], uint32_t mask);
void cudasim_combine_ldmatrix_trans(struct cudasim_warp *const lane[32], uint32_t mask);
}

/* -- barriers and warp operations -- */
static inline void __syncthreads(CUDASIM_SITE)
{
    cudasim_barrier(file, line);
}
static inline void __syncwarp(uint32_t mask = 0xffffffffu, CUDASIM_SITE)
{
    struct cudasim_warp op = {};
    op = {mask, cudasim_combine_sync, "__syncwarp", file, line, 0, 0, 0, {}, nullptr, nullptr,
        nullptr, nullptr};
    cudasim_warp(&op);
}
static inline void __threadfence(void)
{
}
static inline void __threadfence_block(void)
{
}
[[noreturn]] static inline void __trap(void)
{
    cudasim_fail("__trap");
}
static inline uint64_t cudasim_scalar(uint32_t mask, uint64_t in, int from,
    void (*combine)(struct cudasim_warp *const *, uint32_t), const char *name, const char *file,
    int line)
{
    struct cudasim_warp op = {};
    op.mask = mask;
    op.combine = combine;
    op.name = name;
    op.file = file;
    op.line = line;
    op.from = from;
    op.in = in;
    cudasim_warp(&op);
    return op.out;
}
template <class T>
static inline T cudasim_shuffle(
    uint32_t mask, T x, int from, const char *name, const char *file, int line)
{
    static_assert(sizeof(T) <= 8, "a shuffle moves up to 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &x, sizeof(x));
    bits = cudasim_scalar(mask, bits, from, cudasim_combine_shuffle, name, file, line);
    memcpy(&x, &bits, sizeof(x));
    return x;
}
static inline int cudasim_lane(void)
{
    return (int)(threadIdx.x & 31);
}
template <class T>
static inline T __shfl_sync(uint32_t mask, T x, int from, int width = 32, CUDASIM_SITE)
{
    int base = cudasim_lane() & ~(width - 1);
    return cudasim_shuffle(mask, x, base | (from & (width - 1)), "__shfl_sync", file, line);
}
template <class T>
static inline T __shfl_xor_sync(uint32_t mask, T x, int bits, int width = 32, CUDASIM_SITE)
{
    int lane = cudasim_lane(), from = lane ^ bits;
    return cudasim_shuffle(
        mask, x, from < (lane | (width - 1)) + 1 ? from : lane, "__shfl_xor_sync", file, line);
}
template <class T>
static inline T __shfl_up_sync(uint32_t mask, T x, unsigned by, int width = 32, CUDASIM_SITE)
{
    int lane = cudasim_lane(), from = lane - (int)by;
    return cudasim_shuffle(
        mask, x, from < (lane & ~(width - 1)) ? lane : from, "__shfl_up_sync", file, line);
}
template <class T>
static inline T __shfl_down_sync(uint32_t mask, T x, unsigned by, int width = 32, CUDASIM_SITE)
{
    int lane = cudasim_lane(), from = lane + (int)by;
    return cudasim_shuffle(
        mask, x, from > (lane | (width - 1)) ? lane : from, "__shfl_down_sync", file, line);
}
static inline unsigned __ballot_sync(uint32_t mask, int yes, CUDASIM_SITE)
{
    return (unsigned)cudasim_scalar(
        mask, yes != 0, 0, cudasim_combine_ballot, "__ballot_sync", file, line);
}
static inline int __any_sync(uint32_t mask, int yes, CUDASIM_SITE)
{
    return cudasim_scalar(mask, yes != 0, 0, cudasim_combine_ballot, "__any_sync", file, line) != 0;
}
static inline int __all_sync(uint32_t mask, int yes, CUDASIM_SITE)
{
    return cudasim_scalar(mask, yes != 0, 0, cudasim_combine_ballot, "__all_sync", file, line) ==
        mask;
}
static inline int __reduce_add_sync(uint32_t mask, int x, CUDASIM_SITE)
{
    return (int)cudasim_scalar(
        mask, (uint64_t)(int64_t)x, 0, cudasim_combine_add, "__reduce_add_sync", file, line);
}
static inline int __reduce_max_sync(uint32_t mask, int x, CUDASIM_SITE)
{
    return (int)cudasim_scalar(
        mask, (uint64_t)(int64_t)x, 0, cudasim_combine_max, "__reduce_max_sync", file, line);
}
static inline int __reduce_min_sync(uint32_t mask, int x, CUDASIM_SITE)
{
    return (int)cudasim_scalar(
        mask, (uint64_t)(int64_t)x, 0, cudasim_combine_min, "__reduce_min_sync", file, line);
}

/* -- atomics: integers only -- */
#define CUDASIM_ATOMIC(name, type, result) \
    CUDASIM_UNCHECKED static inline __attribute__((unused)) type name(type *p, type x) \
    { \
        cudasim_atomic(p, sizeof(*p)); \
        type old = *p; \
        *p = (result); \
        return old; \
    }
#define CUDASIM_ATOMICS(type) \
    CUDASIM_ATOMIC(atomicAdd, type, old + x) \
    CUDASIM_ATOMIC(atomicMax, type, old > x ? old : x) \
    CUDASIM_ATOMIC(atomicMin, type, old < x ? old : x) \
    CUDASIM_ATOMIC(atomicExch, type, x) \
    CUDASIM_ATOMIC(atomicOr, type, old | x) \
    CUDASIM_ATOMIC(atomicAnd, type, old &x) \
    CUDASIM_UNCHECKED static inline __attribute__((unused)) type atomicCAS( \
        type *p, type want, type x) \
    { \
        cudasim_atomic(p, sizeof(*p)); \
        type old = *p; \
        if (old == want) \
            *p = x; \
        return old; \
    }
CUDASIM_ATOMICS(int)
CUDASIM_ATOMICS(unsigned)
CUDASIM_ATOMICS(unsigned long long)
CUDASIM_UNCHECKED static inline __attribute__((unused)) unsigned atomicInc(
    unsigned *p, unsigned top)
{
    cudasim_atomic(p, sizeof(*p));
    unsigned old = *p;
    *p = old >= top ? 0 : old + 1;
    return old;
}

/* -- intrinsics; the fast ones are exact here -- */
template <class T, class F> static inline T cudasim_bits(F from)
{
    static_assert(sizeof(T) == sizeof(F), "a cast of bits");
    T to;
    memcpy(&to, &from, sizeof(to));
    return to;
}
static inline uint32_t __float_as_uint(float x)
{
    return cudasim_bits<uint32_t>(x);
}
static inline int __float_as_int(float x)
{
    return cudasim_bits<int>(x);
}
static inline float __uint_as_float(uint32_t x)
{
    return cudasim_bits<float>(x);
}
static inline float __int_as_float(int x)
{
    return cudasim_bits<float>(x);
}
/* Macros: the C library has functions of these names, which it only declares. */
#define __expf(x)    expf(x)
#define __exp10f(x)  powf(10, x)
#define __logf(x)    logf(x)
#define __log2f(x)   log2f(x)
#define __powf(x, y) powf(x, y)
#define __sinf(x)    sinf(x)
#define __cosf(x)    cosf(x)
#define __tanhf(x)   tanhf(x)
#define rsqrtf(x)    cudasim_rsqrtf(x)
static inline float __fdividef(float x, float y)
{
    return x / y;
}
static inline float __fdiv_rn(float x, float y)
{
    return x / y;
}
static inline float __frcp_rn(float x)
{
    return 1 / x;
}
static inline float __fsqrt_rn(float x)
{
    return sqrtf(x);
}
static inline float cudasim_rsqrtf(float x)
{
    return (float)(1 / sqrt((double)x));
}
static inline float __frsqrt_rn(float x)
{
    return rsqrtf(x);
}
static inline float __fmaf_rn(float x, float y, float z)
{
    return fmaf(x, y, z);
}
static inline float __fadd_rn(float x, float y)
{
    return x + y;
}
static inline float __fsub_rn(float x, float y)
{
    return x - y;
}
/* Apart from a sum: the compiler must not fuse it, which -ffp-contract=off sees to. */
static inline float __fmul_rn(float x, float y)
{
    return x * y;
}
static inline float __saturatef(float x)
{
    return x > 1 ? 1 : x > 0 ? x : 0;
}
static inline int __float2int_rn(float x)
{
    return (int)lrintf(x);
}
static inline int __float2int_rd(float x)
{
    return (int)floorf(x);
}
static inline int __float2int_rz(float x)
{
    return (int)x;
}
static inline float __int2float_rn(int x)
{
    return (float)x;
}
static inline float __uint2float_rn(unsigned x)
{
    return (float)x;
}
/* Half and bfloat16, as kernel.cuh takes them: bits in, bits out. */
struct __half {
    uint16_t bits;
};
struct __nv_bfloat16 {
    uint16_t bits;
};
extern "C" float cudasim_from_half(uint16_t bits);
extern "C" uint16_t cudasim_to_half(float x);
static inline __half __ushort_as_half(unsigned short bits)
{
    return __half{bits};
}
static inline unsigned short __half_as_ushort(__half x)
{
    return x.bits;
}
static inline float __half2float(__half x)
{
    return cudasim_from_half(x.bits);
}
static inline __half __float2half_rn(float x)
{
    return __half{cudasim_to_half(x)};
}
static inline __nv_bfloat16 __float2bfloat16_rn(float x)
{
    uint32_t u = __float_as_uint(x);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return __nv_bfloat16{0x7fff};
    return __nv_bfloat16{(uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16)};
}
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x)
{
    return x.bits;
}
static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
static inline int __clz(int x)
{
    return x ? __builtin_clz((unsigned)x) : 32;
}
static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
static inline unsigned __umulhi(unsigned x, unsigned y)
{
    return (unsigned)((uint64_t)x * y >> 32);
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by)
{
    return (unsigned)(((uint64_t)high << 32 | low) >> (by & 31));
}
/* Byte i of the result is byte (selector >> 4 i) & 7 of the eight bytes y:x; bit 3 of a nibble
   repeats that byte's sign. */
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector)
{
    uint64_t both = (uint64_t)y << 32 | x;
    unsigned out = 0;
    for (int i = 0; i < 4; i++) {
        unsigned pick = selector >> (4 * i) & 15;
        unsigned byte = (unsigned)(both >> (8 * (pick & 7))) & 255;
        if (pick & 8)
            byte = byte & 128 ? 255 : 0;
        out |= byte << (8 * i);
    }
    return out;
}
static inline int __dp4a(int x, int y, int sum) /* four signed products of bytes */
{
    for (int i = 0; i < 32; i += 8)
        sum += (int)(int8_t)(x >> i) * (int8_t)(y >> i);
    return sum;
}
template <class T> static inline T __ldg(const T *p)
{
    return *p;
}
template <class T> static inline T __ldcs(const T *p)
{
    return *p;
}
template <class T> static inline T __ldcg(const T *p)
{
    return *p;
}
template <class T> static inline void __stcs(T *p, T x)
{
    *p = x;
}
template <class T> static inline void __stcg(T *p, T x)
{
    *p = x;
}
#define CUDASIM_MIN_MAX(type) \
    static inline type min(type x, type y) \
    { \
        return x < y ? x : y; \
    } \
    static inline type max(type x, type y) \
    { \
        return x > y ? x : y; \
    }
CUDASIM_MIN_MAX(int)
CUDASIM_MIN_MAX(unsigned)
CUDASIM_MIN_MAX(long)
CUDASIM_MIN_MAX(unsigned long)
CUDASIM_MIN_MAX(long long)
CUDASIM_MIN_MAX(unsigned long long)
static inline float min(float x, float y)
{
    return fminf(x, y);
}
static inline float max(float x, float y)
{
    return fmaxf(x, y);
}

/* -- the twins of kernel.cuh: memory, tensor cores, launching -- */
#define SHARED(type, name) type *name = reinterpret_cast<type *>(cudasim_shared())

struct bf16; /* kernel.cuh */
struct f16;
template <class E> struct cudasim_mma;
template <> struct cudasim_mma<bf16> {
    static constexpr auto combine = cudasim_combine_mma_bf16;
};
template <> struct cudasim_mma<f16> {
    static constexpr auto combine = cudasim_combine_mma_f16;
};

template <class E>
static inline void mma_16816(float d[4], const uint32_t a[4], const uint32_t b[2], CUDASIM_SITE)
{
    struct cudasim_warp op = {};
    op.mask = 0xffffffffu;
    op.combine = cudasim_mma<E>::combine;
    op.name = "mma_16816";
    op.file = file;
    op.line = line;
    op.d = d;
    op.a = a;
    op.b = b;
    cudasim_warp(&op);
}
static inline void cudasim_ldmatrix(uint32_t r[4], const void *row, const char *name,
    void (*combine)(struct cudasim_warp *const *, uint32_t), const char *file, int line)
{
    struct cudasim_warp op = {};
    cudasim_shared16(row, false, name);
    op.mask = 0xffffffffu;
    op.combine = combine;
    op.name = name;
    op.file = file;
    op.line = line;
    memcpy(op.row, row, sizeof(op.row));
    op.words = r;
    cudasim_warp(&op);
}
static inline void ldmatrix_x4(uint32_t r[4], const void *row, CUDASIM_SITE)
{
    cudasim_ldmatrix(r, row, "ldmatrix_x4", cudasim_combine_ldmatrix, file, line);
}
static inline void ldmatrix_x4_trans(uint32_t r[4], const void *row, CUDASIM_SITE)
{
    cudasim_ldmatrix(r, row, "ldmatrix_x4_trans", cudasim_combine_ldmatrix_trans, file, line);
}
static inline void copy_async16(void *shared, const void *global, bool valid)
{
    cudasim_copy_async(shared, global, valid);
}
static inline void copy_async_commit(void)
{
    cudasim_copy_commit();
}
template <int n> static inline void copy_async_wait(void)
{
    cudasim_copy_wait(n);
}

/* The device of a launch, and where the launch stands in the source. */
struct launch_from {
    struct dev *d;
    const char *file;
    int line;
    launch_from(struct dev *d_, const char *file_ = __builtin_FILE(), int line_ = __builtin_LINE())
        : d(d_), file(file_), line(line_)
    {
    }
    operator struct dev *() const
    {
        return d;
    }
};

/* A kernel's number, given when the library is loaded, wherever a launch of it was compiled. text:
   of a function with a template parameter `kernel`, as the compiler writes it. */
extern "C" int cudasim_register(const void *kernel, const char *text);
template <auto kernel> static const char *cudasim_text(void)
{
    return __PRETTY_FUNCTION__;
}
template <auto kernel>
inline const int cudasim_number = cudasim_register((const void *)kernel, cudasim_text<kernel>());

struct cudasim_launch {
    dim3 grid;
    unsigned block;
    size_t shared, shared_most; /* dynamic; what the kernel may have, __shared__ arrays included */
    int kernel;                 /* its number */
    const char *file;           /* of the launch */
    int line;
    void *arguments; /* freed by drop */
    size_t arguments_bytes;
    void (*enter)(void *arguments); /* calls the kernel */
    void (*drop)(void *arguments);
};
extern "C" cudaError_t cudasim_enqueue(const struct cudasim_launch *l, cudaStream_t s);

template <class... P> struct cudasim_arguments {
    void (*kernel)(P...);
    std::tuple<P...> values;
    static void enter(void *p)
    {
        auto *a = static_cast<cudasim_arguments *>(p);
        std::apply(a->kernel, a->values);
    }
    static void drop(void *p)
    {
        delete static_cast<cudasim_arguments *>(p);
    }
};
template <class... P, class... A>
static inline cudaError_t cudasim_launch_kernel(void (*kernel)(P...), int number,
    const cudaLaunchConfig_t *conf, const launch_from &from, A... a)
{
    using arguments = cudasim_arguments<P...>;
    auto *p = new arguments{kernel, std::tuple<P...>((P)a...)};
    struct cudasim_launch l = {};
    l.grid = conf->gridDim;
    l.block = conf->blockDim.x;
    l.shared = conf->dynamicSmemBytes;
    l.kernel = number;
    l.file = from.file;
    l.line = from.line;
    l.arguments = p;
    l.arguments_bytes = sizeof(*p);
    l.enter = arguments::enter;
    l.drop = arguments::drop;
    return cudasim_enqueue(&l, conf->stream);
}
template <auto kernel, class... A>
static inline cudaError_t launch_kernel(const cudaLaunchConfig_t *conf, launch_from from, A... a)
{
    return cudasim_launch_kernel(kernel, cudasim_number<kernel>, conf, from, a...);
}

#endif
