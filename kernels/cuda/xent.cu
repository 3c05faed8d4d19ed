/*
 * xent: softmax cross-entropy with its gradient, in place of the logits or beside them in 16 bits,
 * whole or over a part of the vocabulary (OP_XENT_STATS and what follows it). One block a row.
 *
 * A row is read from memory once: one pass keeps a running maximum and the sum of exponentials
 * relative to it in each thread; the pass that writes the gradient goes backwards through the row,
 * so that it meets first what the caches still hold. All but the ends of a row that are not aligned
 * is read and written by 16 bytes. Sums have a fixed order.
 */
#include "kernels/cuda/kernel.cuh"

#include <float.h>

#define XENT_THREADS      256
#define XENT_THREADS_LONG 1024 /* of rows from XENT_LONG columns */
#define XENT_LONG         16384

/* Logits of 16 bits have three digits: the fast exponential is exact enough. */
__device__ static inline float exponential(float x, float)
{
    return expf(x);
}
__device__ static inline float exponential(float x, bf16)
{
    return __expf(x);
}
__device__ static inline float exponential(float x, f16)
{
    return __expf(x);
}

/* A row: `head` elements up to the first aligned address, `packs` packs, and the rest. */
template <class T> struct xent_row {
    static constexpr int W = 16 / sizeof(T);
    T *at;
    int v, head, packs;

    __device__ xent_row(T *row, int64_t columns) : at(row), v((int)columns)
    {
        int off = (int)((uintptr_t)row % 16 / sizeof(T));
        head = off ? W - off : 0;
        head = head < v ? head : v;
        packs = (v - head) / W;
    }
    /* Where the i-th element outside of the packs stands. */
    __device__ int loose(int i) const
    {
        return i < head ? i : i + packs * W;
    }
    __device__ int loose_count() const
    {
        return v - packs * W;
    }
};

/* top: the greatest logit; sum of exp(logit - top). Starts from the least finite number, so that
   rows of masked (-inf) logits give a sum of 0, not NaN. */
struct xent_stat {
    float top, sum;
};

template <class T> __device__ static inline void xent_take(xent_stat &s, float x)
{
    if (x > s.top) {
        s.sum *= exponential(s.top - x, T());
        s.top = x;
    }
    s.sum += exponential(x - s.top, T());
}

/* The statistics of a row, in every thread. */
template <class T> __device__ static xent_stat xent_stats(const xent_row<T> &row, float *room)
{
    constexpr int W = xent_row<T>::W;
    xent_stat s = {-FLT_MAX, 0};

    for (int i = threadIdx.x; i < row.loose_count(); i += blockDim.x)
        xent_take<T>(s, load(row.at, row.loose(i)));
#pragma unroll 2
    for (int i = threadIdx.x; i < row.packs; i += blockDim.x) {
        pack<T, W> p = load_pack<T, W>(row.at + row.head + i * W);
        float x[W], top = s.top, sum = 0;
#pragma unroll
        for (int k = 0; k < W; k++) {
            x[k] = to_float(p.e[k]);
            top = fmaxf(top, x[k]);
        }
#pragma unroll
        for (int k = 0; k < W; k++)
            sum += exponential(x[k] - top, T());
        s.sum = s.sum * exponential(s.top - top, T()) + sum;
        s.top = top;
    }
    float top = block_max(s.top, room);
    return {top, block_sum(s.sum * exponential(s.top - top, T()), room)};
}

/* Whether a row's packs are stored whole in out, whose rows may be aligned otherwise. */
template <class T, class G> __device__ static bool xent_packs(const xent_row<T> &row, const G *out)
{
    return (uintptr_t)(out + row.head) % (xent_row<T>::W * sizeof(G)) == 0;
}

template <class G, int W>
__device__ static inline void xent_put(G *out, const pack<G, W> &p, bool whole)
{
    if (whole) {
        store_pack<G, W>(out, p);
        return;
    }
#pragma unroll
    for (int k = 0; k < W; k++)
        out[k] = p.e[k];
}

/* out (which may be the row itself) becomes exp(x - top) * factor. */
template <class T, class G>
__device__ static void xent_gradient(const xent_row<T> &row, G *out, float top, float factor)
{
    constexpr int W = xent_row<T>::W;
    bool whole = xent_packs(row, out);

#pragma unroll 2
    for (int i = row.packs - 1 - (int)threadIdx.x; i >= 0; i -= blockDim.x) {
        pack<T, W> p = load_pack<T, W>(row.at + row.head + i * W);
        pack<G, W> q;
#pragma unroll
        for (int k = 0; k < W; k++)
            q.e[k] = from_float<G>(exponential(to_float(p.e[k]) - top, T()) * factor);
        xent_put<G, W>(out + row.head + i * W, q, whole);
    }
    for (int i = threadIdx.x; i < row.loose_count(); i += blockDim.x) {
        int j = row.loose(i);
        store(out, j, exponential(load(row.at, j) - top, T()) * factor);
    }
}

template <class T, class G> __device__ static void xent_clear(const xent_row<T> &row, G *out)
{
    constexpr int W = xent_row<T>::W;
    bool whole = xent_packs(row, out);

    for (int i = threadIdx.x; i < row.packs; i += blockDim.x)
        xent_put<G, W>(out + row.head + i * W, pack<G, W>{}, whole);
    for (int i = threadIdx.x; i < row.loose_count(); i += blockDim.x)
        store(out, row.loose(i), 0);
}

template <class T, class G>
__global__ void __launch_bounds__(XENT_THREADS_LONG) xent_kernel(struct op_xent a)
{
    __shared__ float room[WARP];
    int64_t i = blockIdx.x;
    xent_row<T> row((T *)a.logits + i * a.ld, a.v);
    G *out = (G *)(a.gradient16 ? a.gradient16 : a.logits) + i * a.ld;
    xent_stat s;

    if (a.stage == OP_XENT_STATS) {
        s = xent_stats(row, room);
        if (threadIdx.x == 0) {
            a.top[i] = s.top;
            a.sum[i] = s.sum;
        }
        return;
    }
    if (a.stage == OP_XENT_MEET) {
        if (threadIdx.x == 0)
            a.sum[i] *= expf(a.top[i] - a.most[i]);
        return;
    }
    if (a.target[i] < 0) {
        if (threadIdx.x == 0)
            a.loss[i] = 0;
        if (a.backward)
            xent_clear(row, out);
        return;
    }
    int64_t target = a.target[i] - a.first;
    bool mine = target >= 0 && target < a.v;
    float at = mine ? load(row.at, target) : 0;
    if (a.stage == OP_XENT_WHOLE) {
        s = xent_stats(row, room);
    } else {
        s = {a.top[i], a.sum[i]};
        __syncthreads(); /* the target's logit has been read */
    }
    if (threadIdx.x == 0)
        a.loss[i] = mine ? logf(s.sum) + (s.top - at) : 0;
    if (!a.backward)
        return;
    xent_gradient(row, out, s.top, a.scale / s.sum);
    __syncthreads();
    if (threadIdx.x == 0 && mine) {
        float p = exponential(at - s.top, T()) / s.sum;
        store(out, target, (p - 1) * a.scale);
    }
}

template <class T, class G> static void xent_launch(struct dev *d, const struct op_xent *a)
{
    launch<xent_kernel<T, G>>(
        d, dim3((unsigned)a->n), a->v < XENT_LONG ? XENT_THREADS : XENT_THREADS_LONG, 0, *a);
}

extern "C" void op_cuda_xent(struct dev *d, const struct op_xent *a)
{
    if (a->v > INT32_MAX / 2 || a->n > INT32_MAX) {
        cuda_refuse(
            d, "cross-entropy of %lld rows of %lld logits", (long long)a->n, (long long)a->v);
        return;
    }
    if (a->n <= 0)
        return;
    if (a->gradient16 && a->t == DTYPE_F32 && a->f16)
        xent_launch<float, f16>(d, a);
    else if (a->gradient16 && a->t == DTYPE_F32)
        xent_launch<float, bf16>(d, a);
    else if (a->gradient16)
        cuda_refuse(d, "cross-entropy: a gradient beside logits of type %s", dtype_name(a->t));
    else
        WITH_TYPE(a->t, T, xent_launch<T, T>(d, a));
}
