/*
 * optim: the optimizer's two operations, bound by memory: the sum of squares for the gradient's
 * norm, and AdamW, which reads that sum on the device, so that clipping and refusing a gradient
 * that is not finite need no host.
 *
 * The sum of squares: SUMSQ_BLOCKS blocks (fewer for short vectors, never by the size of the GPU)
 * sum their elements into scratch, then one block adds these up: the same bits every time.
 * Corrections of the bias are computed in double on the host; they are the same for every element.
 */
#include "kernels/cuda/each.cuh"

#include <math.h>

/* -- sum of squares -- */
#define SUMSQ_THREADS 512
#define SUMSQ_BLOCKS  1024
/* Least elements a block: below it, a second block costs more than it saves. */
#define SUMSQ_EACH    16384

__device__ static inline float square_sum(const pack<float, 4> &p)
{
    return (p.e[0] * p.e[0] + p.e[1] * p.e[1]) + (p.e[2] * p.e[2] + p.e[3] * p.e[3]);
}

/* part (gridDim.x) = sums of squares; a lone block adds into out instead. */
__global__ void __launch_bounds__(SUMSQ_THREADS)
    sumsq_kernel(const float *x, int64_t count, bool packed, float *part, float *out)
{
    __shared__ float room[WARP];
    int64_t step = (int64_t)gridDim.x * SUMSQ_THREADS;
    int64_t first = (int64_t)blockIdx.x * SUMSQ_THREADS + threadIdx.x;
    int64_t packs = packed ? count / 4 : 0, i = first;
    float sum[4] = {};

    for (; i + 3 * step < packs; i += 4 * step) { /* four loads under way */
        pack<float, 4> p[4];
#pragma unroll
        for (int u = 0; u < 4; u++)
            p[u] = load_pack<float, 4>(x + 4 * (i + u * step));
#pragma unroll
        for (int u = 0; u < 4; u++)
            sum[u] += square_sum(p[u]);
    }
    for (; i < packs; i += step)
        sum[0] += square_sum(load_pack<float, 4>(x + 4 * i));
    for (i = 4 * packs + first; i < count; i += step)
        sum[1] += x[i] * x[i];
    float all = block_sum((sum[0] + sum[1]) + (sum[2] + sum[3]), room);
    if (threadIdx.x)
        return;
    if (gridDim.x == 1)
        *out += all;
    else
        part[blockIdx.x] = all;
}

__global__ void __launch_bounds__(SUMSQ_BLOCKS)
    sumsq_finish_kernel(const float *part, int n, float *out)
{
    __shared__ float room[WARP];
    float sum = block_sum((int)threadIdx.x < n ? part[threadIdx.x] : 0, room);

    if (threadIdx.x == 0)
        *out += sum;
}

extern "C" void op_cuda_sumsq(struct dev *d, const struct op_sumsq *a)
{
    float *part = (float *)((struct cuda_dev *)d)->scratch;
    int64_t blocks = (a->count + SUMSQ_EACH - 1) / SUMSQ_EACH;

    if (a->count <= 0)
        return;
    blocks = blocks < SUMSQ_BLOCKS ? blocks : SUMSQ_BLOCKS;
    launch<sumsq_kernel>(
        d, dim3((unsigned)blocks), SUMSQ_THREADS, 0, a->x, a->count, aligned16(a->x), part, a->out);
    if (blocks > 1)
        launch<sumsq_finish_kernel>(d, dim3(1), SUMSQ_BLOCKS, 0, part, (int)blocks, a->out);
}

/* -- AdamW -- */
struct adamw_op {
    static constexpr int width = 4;
    struct op_adamw a;
    float fix1, fix2; /* inverses of the corrections of the bias */

    template <int W> struct regs {
        pack<float, W> w, m, v, grad;
    };
    template <int W> __device__ void read(regs<W> &r, int64_t i) const
    {
        r.w = load_pack<float, W>(a.w + i);
        r.m = load_pack<float, W>(a.m + i);
        r.v = load_pack<float, W>(a.v + i);
        r.grad = load_pack<float, W>(a.grad + i);
    }
    __device__ bool refuses() const
    {
        return a.sumsq && !isfinite(*a.sumsq);
    }
    __device__ float scale() const
    {
        if (!a.sumsq || a.clip_norm <= 0)
            return a.grad_scale;
        float norm = sqrtf(*a.sumsq);
        return norm > a.clip_norm ? a.grad_scale * (a.clip_norm / (norm + 1e-6f)) : a.grad_scale;
    }
    template <int W> __device__ void write(regs<W> &r, int64_t i) const
    {
        if (refuses())
            return;
        float by = scale();
        pack<bf16, W> rounded;
#pragma unroll
        for (int k = 0; k < W; k++) {
            float g = r.grad.e[k] * by, w = r.w.e[k];
            float m = a.beta1 * r.m.e[k] + (1 - a.beta1) * g;
            float v = a.beta2 * r.v.e[k] + (1 - a.beta2) * g * g;
            float step = m * fix1 / (sqrtf(v * fix2) + a.eps);
            r.m.e[k] = m;
            r.v.e[k] = v;
            r.w.e[k] = w - a.lr * (step + a.weight_decay * w);
            rounded.e[k] = from_float<bf16>(r.w.e[k]);
        }
        store_pack<float, W>(a.w + i, r.w);
        store_pack<float, W>(a.m + i, r.m);
        store_pack<float, W>(a.v + i, r.v);
        if (a.w16)
            store_pack<bf16, W>((bf16 *)a.w16 + i, rounded);
    }
};

extern "C" void op_cuda_adamw(struct dev *d, const struct op_adamw *a)
{
    adamw_op op = {*a, (float)(1 / (1 - pow((double)a->beta1, (double)a->step))),
        (float)(1 / (1 - pow((double)a->beta2, (double)a->step)))};
    bool packed = aligned16(a->w) && aligned16(a->m) && aligned16(a->v) && aligned16(a->grad) &&
        (uintptr_t)a->w16 % 8 == 0;

    each(d, op, a->count, packed);
}
