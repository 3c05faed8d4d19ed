/*
 * each: element-wise kernels. An operation is a structure of pointers with a width (the elements of
 * its widest access, 16 bytes), the registers of one pack of W elements, and two functions: `read`
 * fills the registers, `write` computes and stores. Each thread reads EACH_PACKS packs before it
 * writes the first, so that enough bytes are under way to cover the latency of memory, also where
 * an output is an input. Packs of neighbouring threads are neighbours: every access is coalesced.
 *
 * Where an address or a size does not allow packs, W is 1 and the same code moves elements.
 */
#ifndef KERNELS_CUDA_EACH_CUH
#define KERNELS_CUDA_EACH_CUH

#include "kernels/cuda/kernel.cuh"

#define EACH_THREADS 256
#define EACH_PACKS   2

/* The widest pack of elements of two types: 16 bytes of the larger. */
template <class A, class B = A>
static constexpr int pack_width = 16 / (int)(sizeof(A) > sizeof(B) ? sizeof(A) : sizeof(B));

static inline bool aligned16(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

/* i / by; 32 bits, which are much faster, where they do. */
__device__ inline int64_t divide(int64_t i, int64_t by)
{
    return ((uint64_t)i | (uint64_t)by) >> 32 ? i / by : (int64_t)((uint32_t)i / (uint32_t)by);
}

template <class Op, int W>
__global__ void __launch_bounds__(EACH_THREADS) each_kernel(Op op, int64_t first, int64_t packs)
{
    typename Op::template regs<W> r[EACH_PACKS];
    int64_t at = (int64_t)blockIdx.x * (EACH_THREADS * EACH_PACKS) + threadIdx.x;
#pragma unroll
    for (int u = 0; u < EACH_PACKS; u++)
        if (at + u * EACH_THREADS < packs)
            op.template read<W>(r[u], first + (at + u * EACH_THREADS) * W);
#pragma unroll
    for (int u = 0; u < EACH_PACKS; u++)
        if (at + u * EACH_THREADS < packs)
            op.template write<W>(r[u], first + (at + u * EACH_THREADS) * W);
}

/* Runs op on elements [first, first + packs * W). */
template <class Op, int W>
static void each_launch(struct dev *d, const Op &op, int64_t first, int64_t packs)
{
    if (packs > 0)
        launch<each_kernel<Op, W>>(d, dim3(blocks_of(packs, EACH_THREADS * EACH_PACKS)),
            EACH_THREADS, 0, op, first, packs);
}

/* Runs op on count elements in packs when `packed`; what is left over a multiple of the width goes
   one by one. */
template <class Op> static void each(struct dev *d, const Op &op, int64_t count, bool packed)
{
    int64_t packs = packed ? count / Op::width : 0;
    each_launch<Op, Op::width>(d, op, 0, packs);
    each_launch<Op, 1>(d, op, packs * Op::width, count - packs * Op::width);
}

#endif
