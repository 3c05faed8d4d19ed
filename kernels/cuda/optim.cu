/*
 * optim: the optimizers' operations, bound by memory: the sum of squares for the gradient's
 * norm, and the updates, which read that sum on the device, so that clipping and refusing what
 * is not finite need no host.
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

/* -- what the updates share -- */
struct grad_gate {
    const float *sumsq;
    float grad_scale, clip_norm;

    __device__ bool refuses() const
    {
        return sumsq && !isfinite(*sumsq);
    }
    __device__ float scale() const
    {
        if (!sumsq || clip_norm <= 0)
            return grad_scale;
        float norm = sqrtf(*sumsq);
        return norm > clip_norm ? grad_scale * (clip_norm / (norm + 1e-6f)) : grad_scale;
    }
};

/* Weights and, where there is one, their copy of 16 bits. */
template <int W>
__device__ static inline void store_weights(
    float *w, uint16_t *w16, int64_t i, const pack<float, W> &value)
{
    pack<bf16, W> rounded;
#pragma unroll
    for (int k = 0; k < W; k++)
        rounded.e[k] = from_float<bf16>(value.e[k]);
    store_pack<float, W>(w + i, value);
    if (w16)
        store_pack<bf16, W>((bf16 *)w16 + i, rounded);
}

static bool packs_weights(const float *w, const float *grad, const uint16_t *w16)
{
    return aligned16(w) && aligned16(grad) && (uintptr_t)w16 % 8 == 0;
}

/* -- what is kept of elements: numbers, or a block's codes -- */
struct code {
    uint8_t index;
};

template <class K> constexpr bool in_blocks = false;
template <> constexpr bool in_blocks<code> = true;

struct moment {
    void *at;
    float *scale;
    uint64_t seed;
    bool first; /* a first moment; else a second */

    /* Codes are read by the block. */
    template <class K, int W> __device__ void read(pack<float, W> &x, int64_t i) const
    {
        if constexpr (!in_blocks<K>) {
            pack<K, W> p = load_pack<K, W>((const K *)at + i);
#pragma unroll
            for (int k = 0; k < W; k++)
                x.e[k] = to_float(p.e[k]);
        }
    }
    template <class K, int W> __device__ void write(const pack<float, W> &x, int64_t i) const
    {
        if constexpr (sizeof(K) == sizeof(float)) {
            store_pack<float, W>((float *)at + i, x);
        } else if constexpr (!in_blocks<K>) {
            pack<bf16, W> p;
#pragma unroll
            for (int k = 0; k < W; k++)
                p.e[k].bits =
                    op_round_bf16(x.e[k], op_random(seed, (uint64_t)(i + k)) >> (first ? 0 : 16));
            store_pack<bf16, W>((bf16 *)at + i, p);
        }
    }
    bool packs(enum dtype t) const
    {
        return (uintptr_t)at % (t == DTYPE_F32 ? 16 : 8) == 0;
    }
};

/* The index of the nearest of value (256) to x / top, by halves. */
__device__ static inline uint8_t code_of(const float *value, bool first, float x, float top)
{
    int at = 0;
    x = top > 0 ? x / top : 0;
    for (int half = 128; half; half /= 2)
        if (x > (value[at + half - 1] + value[at + half]) / 2)
            at += half;
    return (uint8_t)(!first && x > 0 && !at ? 1 : at);
}

/* Runs an update whose state are codes: a block of threads a block of elements. The tables are
   made anew by each, a value a thread. */
template <class Op>
__global__ void __launch_bounds__(OP_STATE_BLOCK) codes_kernel(Op op, int64_t count)
{
    __shared__ float room[WARP], value[Op::states][OP_STATE_BLOCK];
    const int64_t i = (int64_t)blockIdx.x * OP_STATE_BLOCK + threadIdx.x;
    const bool inside = i < count;
    typename Op::template regs<1> r = {};
    if (op.gate.refuses())
        return;
    for (int k = 0; k < Op::states; k++)
        value[k][threadIdx.x] = op_code_value(op.keeps[k].first, (int)threadIdx.x);
    __syncthreads();
    for (int k = 0; k < Op::states && inside; k++)
        r.state[k].e[0] =
            value[k][((const uint8_t *)op.keeps[k].at)[i]] * op.keeps[k].scale[blockIdx.x];
    if (inside) {
        op.template read<1>(r, i);
        op.template write<1>(r, i);
    }
    for (int k = 0; k < Op::states; k++) {
        float x = inside ? r.state[k].e[0] : 0, top = block_max(fabsf(x), room);
        if (inside)
            ((uint8_t *)op.keeps[k].at)[i] = code_of(value[k], op.keeps[k].first, x, top);
        if (threadIdx.x == 0)
            op.keeps[k].scale[blockIdx.x] = top;
    }
}

template <class Op> static void each_block(struct dev *d, const Op &op, int64_t count)
{
    if (count > 0)
        launch<codes_kernel<Op>>(
            d, dim3(blocks_of(count, OP_STATE_BLOCK)), OP_STATE_BLOCK, 0, op, count);
}

/* -- AdamW -- */
template <class K> struct adamw_op {
    static constexpr int width = 4, states = 2;
    struct op_adamw a;
    grad_gate gate;
    moment keeps[states];
    float fix1, fix2; /* inverses of the corrections of the bias */

    template <int W> struct regs {
        pack<float, W> w, state[states], grad;
    };
    template <int W> __device__ void read(regs<W> &r, int64_t i) const
    {
        r.w = load_pack<float, W>(a.w + i);
        keeps[0].template read<K, W>(r.state[0], i);
        keeps[1].template read<K, W>(r.state[1], i);
        r.grad = load_pack<float, W>(a.grad + i);
    }
    template <int W> __device__ void write(regs<W> &r, int64_t i) const
    {
        if (gate.refuses())
            return;
        float by = gate.scale();
#pragma unroll
        for (int k = 0; k < W; k++) {
            float g = r.grad.e[k] * by, w = r.w.e[k];
            float m = a.beta1 * r.state[0].e[k] + (1 - a.beta1) * g;
            float v = a.beta2 * r.state[1].e[k] + (1 - a.beta2) * g * g;
            float step = m * fix1 / (sqrtf(v * fix2) + a.eps);
            r.state[0].e[k] = m;
            r.state[1].e[k] = v;
            r.w.e[k] = w - a.lr * (step + a.weight_decay * w);
        }
        keeps[0].template write<K, W>(r.state[0], i);
        keeps[1].template write<K, W>(r.state[1], i);
        store_weights<W>(a.w, a.w16, i, r.w);
    }
};

template <class K> static adamw_op<K> adamw_of(const struct op_adamw *a)
{
    return {*a, {a->sumsq, a->grad_scale, a->clip_norm},
        {{a->m, a->m_scale, a->seed, true}, {a->v, a->v_scale, a->seed, false}},
        (float)(1 / (1 - pow((double)a->beta1, (double)a->step))),
        (float)(1 / (1 - pow((double)a->beta2, (double)a->step)))};
}

extern "C" void op_cuda_adamw(struct dev *d, const struct op_adamw *a)
{
    const adamw_op<float> op = adamw_of<float>(a);
    bool packed = packs_weights(a->w, a->grad, a->w16) && op.keeps[0].packs(a->state) &&
        op.keeps[1].packs(a->state);
    if (a->state == DTYPE_F32)
        each(d, op, a->count, packed);
    else if (a->state == DTYPE_BF16)
        each(d, adamw_of<bf16>(a), a->count, packed);
    else
        each_block(d, adamw_of<code>(a), a->count);
}

/* -- SGD -- */
template <class K, int momentum> struct sgd_op {
    static constexpr int width = 4, states = momentum;
    struct op_sgd a;
    grad_gate gate;
    moment keeps[1];

    template <int W> struct regs {
        pack<float, W> w, state[1], grad;
    };
    template <int W> __device__ void read(regs<W> &r, int64_t i) const
    {
        r.w = load_pack<float, W>(a.w + i);
        if (momentum)
            keeps[0].template read<K, W>(r.state[0], i);
        r.grad = load_pack<float, W>(a.grad + i);
    }
    template <int W> __device__ void write(regs<W> &r, int64_t i) const
    {
        if (gate.refuses())
            return;
        float by = gate.scale();
#pragma unroll
        for (int k = 0; k < W; k++) {
            float g = r.grad.e[k] * by + a.weight_decay * r.w.e[k];
            if (momentum)
                r.state[0].e[k] = g = a.momentum * r.state[0].e[k] + g;
            r.w.e[k] -= a.lr * g;
        }
        if (momentum)
            keeps[0].template write<K, W>(r.state[0], i);
        store_weights<W>(a.w, a.w16, i, r.w);
    }
};

extern "C" void op_cuda_sgd(struct dev *d, const struct op_sgd *a)
{
    const grad_gate gate = {a->sumsq, a->grad_scale, a->clip_norm};
    const moment m = {a->m, a->m_scale, a->seed, true};
    bool packed = packs_weights(a->w, a->grad, a->w16) && m.packs(a->state);
    if (!a->m)
        each(d, sgd_op<float, 0>{*a, gate, {m}}, a->count, packed);
    else if (a->state == DTYPE_F32)
        each(d, sgd_op<float, 1>{*a, gate, {m}}, a->count, packed);
    else if (a->state == DTYPE_BF16)
        each(d, sgd_op<bf16, 1>{*a, gate, {m}}, a->count, packed);
    else
        each_block(d, sgd_op<code, 1>{*a, gate, {m}}, a->count);
}

/* -- Lion -- */
template <class K, bool blends> struct lion_op {
    static constexpr int width = 4, states = 1;
    struct op_lion a;
    grad_gate gate;
    moment keeps[states];

    template <int W> struct regs {
        pack<float, W> w, state[states], grad;
    };
    template <int W> __device__ void read(regs<W> &r, int64_t i) const
    {
        if (!blends)
            r.w = load_pack<float, W>(a.w + i);
        keeps[0].template read<K, W>(r.state[0], i);
        r.grad = load_pack<float, W>(a.grad + i);
    }
    template <int W> __device__ void write(regs<W> &r, int64_t i) const
    {
        if (gate.refuses())
            return;
        float by = gate.scale(), keep = 1 - a.lr * a.weight_decay;
#pragma unroll
        for (int k = 0; k < W; k++) {
            float g = r.grad.e[k] * by, &m = r.state[0].e[k];
            float c = a.beta1 * m + (1 - a.beta1) * g;
            m = a.beta2 * m + (1 - a.beta2) * g;
            if (blends)
                r.w.e[k] = c;
            else
                r.w.e[k] = r.w.e[k] * keep - a.lr * (float)((c > 0) - (c < 0));
        }
        keeps[0].template write<K, W>(r.state[0], i);
        if (blends)
            store_pack<float, W>(a.blend + i, r.w);
        else
            store_weights<W>(a.w, a.w16, i, r.w);
    }
};

template <bool blends> static void lion(struct dev *d, const struct op_lion *a, bool packed)
{
    const grad_gate gate = {a->sumsq, a->grad_scale, a->clip_norm};
    const moment m = {a->m, a->m_scale, a->seed, true};
    packed = packed && m.packs(a->state);
    if (a->state == DTYPE_F32)
        each(d, lion_op<float, blends>{*a, gate, {m}}, a->count, packed);
    else if (a->state == DTYPE_BF16)
        each(d, lion_op<bf16, blends>{*a, gate, {m}}, a->count, packed);
    else
        each_block(d, lion_op<code, blends>{*a, gate, {m}}, a->count);
}

extern "C" void op_cuda_lion(struct dev *d, const struct op_lion *a)
{
    if (a->blend)
        lion<true>(d, a, aligned16(a->grad) && aligned16(a->blend));
    else
        lion<false>(d, a, packs_weights(a->w, a->grad, a->w16));
}

/* -- importance -- */
struct importance_op {
    static constexpr int width = 4;
    struct op_importance a;
    grad_gate gate;

    template <int W> struct regs {
        pack<float, W> w, grad, mean, spread;
    };
    template <int W> __device__ void read(regs<W> &r, int64_t i) const
    {
        r.w = load_pack<float, W>(a.w + i);
        r.grad = load_pack<float, W>(a.grad + i);
        r.mean = load_pack<float, W>(a.mean + i);
        r.spread = load_pack<float, W>(a.spread + i);
    }
    template <int W> __device__ void write(regs<W> &r, int64_t i) const
    {
        if (gate.refuses())
            return;
        float by = gate.scale();
#pragma unroll
        for (int k = 0; k < W; k++) {
            float s = fabsf(r.w.e[k] * (r.grad.e[k] * by));
            r.mean.e[k] = a.beta1 * r.mean.e[k] + (1 - a.beta1) * s;
            r.spread.e[k] = a.beta2 * r.spread.e[k] + (1 - a.beta2) * fabsf(s - r.mean.e[k]);
        }
        store_pack<float, W>(a.mean + i, r.mean);
        store_pack<float, W>(a.spread + i, r.spread);
    }
};

extern "C" void op_cuda_importance(struct dev *d, const struct op_importance *a)
{
    each(d, importance_op{*a, {a->sumsq, 1, a->clip_norm}}, a->count,
        aligned16(a->w) && aligned16(a->grad) && aligned16(a->mean) && aligned16(a->spread));
}

/* -- Adafactor: means of rows and columns, what follows of both as a whole, then the update -- */
#define FACTOR_THREADS 256
#define FACTOR_WARPS   (FACTOR_THREADS / WARP)
#define FACTOR_BLOCKS  1024

struct factor {
    struct op_adafactor a;
    grad_gate gate;
    float share; /* of what is new in a mean */
    float *mean; /* (1): of row, EPS1 at least */
    float *step; /* (1): what u is multiplied with */
    float *part; /* (2, FACTOR_BLOCKS): squares of w and of u */

    __device__ float square(int64_t i, float by) const
    {
        float g = a.grad[i] * by;
        return g * g;
    }
    /* at row i, column j */
    __device__ float update(float grad, int64_t i, int64_t j) const
    {
        float v = a.row ? a.row[i] / *mean * a.col[j] : a.col[j];
        return grad / sqrtf(fmaxf(v, OP_ADAFACTOR_EPS1 * OP_ADAFACTOR_EPS1));
    }
};

/* A block a row. */
__global__ void __launch_bounds__(FACTOR_THREADS) factor_rows_kernel(factor f)
{
    __shared__ float room[WARP];
    if (f.gate.refuses())
        return;
    float by = f.gate.scale(), sum = 0;
    for (int64_t j = threadIdx.x; j < f.a.cols; j += FACTOR_THREADS)
        sum += f.square((int64_t)blockIdx.x * f.a.cols + j, by);
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) {
        float *row = f.a.row + blockIdx.x;
        *row += f.share * (sum / (float)f.a.cols - *row);
    }
}

/* A lane a column; the warps take rows in turn, and their sums are added in order. */
__global__ void __launch_bounds__(FACTOR_THREADS) factor_columns_kernel(factor f)
{
    __shared__ float room[FACTOR_WARPS][WARP];
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int64_t j = (int64_t)blockIdx.x * WARP + lane;
    if (f.gate.refuses())
        return;
    float by = f.gate.scale(), sum = 0;
    if (j < f.a.cols)
        for (int64_t i = warp; i < f.a.rows; i += FACTOR_WARPS)
            sum += f.square(i * f.a.cols + j, by);
    room[warp][lane] = sum;
    __syncthreads();
    if (warp || j >= f.a.cols)
        return;
    sum = 0;
    for (int w = 0; w < FACTOR_WARPS; w++)
        sum += room[w][lane];
    f.a.col[j] += f.share * (sum / (float)f.a.rows - f.a.col[j]);
}

/* One block. */
__global__ void __launch_bounds__(FACTOR_BLOCKS) factor_mean_kernel(factor f)
{
    __shared__ float room[WARP];
    float sum = 0;
    for (int64_t i = threadIdx.x; i < f.a.rows; i += FACTOR_BLOCKS)
        sum += f.a.row[i];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0)
        *f.mean = fmaxf(sum / (float)f.a.rows, OP_ADAFACTOR_EPS1);
}

__global__ void __launch_bounds__(FACTOR_THREADS) factor_sums_kernel(factor f)
{
    __shared__ float room[WARP];
    int64_t count = f.a.rows * f.a.cols, step = (int64_t)gridDim.x * FACTOR_THREADS;
    if (f.gate.refuses())
        return;
    float by = f.gate.scale(), sum_w = 0, sum_u = 0;
    for (int64_t i = (int64_t)blockIdx.x * FACTOR_THREADS + threadIdx.x; i < count; i += step) {
        int64_t row = divide(i, f.a.cols);
        float w = f.a.w[i], u = f.update(f.a.grad[i] * by, row, i - row * f.a.cols);
        sum_w += w * w;
        sum_u += u * u;
    }
    sum_w = block_sum(sum_w, room);
    sum_u = block_sum(sum_u, room);
    if (threadIdx.x == 0) {
        f.part[blockIdx.x] = sum_w;
        f.part[FACTOR_BLOCKS + blockIdx.x] = sum_u;
    }
}

/* One block adds up n blocks' sums. */
__global__ void __launch_bounds__(FACTOR_BLOCKS) factor_step_kernel(factor f, int n, float rate)
{
    __shared__ float room[WARP];
    if (f.gate.refuses())
        return;
    bool counts = (int)threadIdx.x < n;
    float sum_w = block_sum(counts ? f.part[threadIdx.x] : 0, room);
    float sum_u = block_sum(counts ? f.part[FACTOR_BLOCKS + threadIdx.x] : 0, room);
    float count = (float)(f.a.rows * f.a.cols);
    if (threadIdx.x == 0)
        *f.step =
            rate * fmaxf(OP_ADAFACTOR_EPS2, sqrtf(sum_w / count)) / fmaxf(1, sqrtf(sum_u / count));
}

struct factor_op {
    static constexpr int width = 4;
    factor f;

    template <int W> struct regs {
        pack<float, W> w, grad;
    };
    template <int W> __device__ void read(regs<W> &r, int64_t i) const
    {
        r.w = load_pack<float, W>(f.a.w + i);
        r.grad = load_pack<float, W>(f.a.grad + i);
    }
    template <int W> __device__ void write(regs<W> &r, int64_t i) const
    {
        if (f.gate.refuses())
            return;
        float by = f.gate.scale(), step = *f.step, keep = 1 - f.a.lr * f.a.weight_decay;
        int64_t row = divide(i, f.a.cols);
#pragma unroll
        for (int k = 0; k < W; k++)
            r.w.e[k] =
                r.w.e[k] * keep - step * f.update(r.grad.e[k] * by, row, i + k - row * f.a.cols);
        store_weights<W>(f.a.w, f.a.w16, i, r.w);
    }
};

extern "C" void op_cuda_adafactor(struct dev *d, const struct op_adafactor *a)
{
    float *scratch = (float *)((struct cuda_dev *)d)->scratch;
    int64_t count = a->rows * a->cols, blocks = (count + SUMSQ_EACH - 1) / SUMSQ_EACH;
    const factor f = {*a, {a->sumsq, a->grad_scale, a->clip_norm},
        (float)pow((double)a->step, -0.8), scratch, scratch + 1, scratch + 2};
    float rate = (float)fmin((double)a->lr, 1 / sqrt((double)a->step));

    if (count <= 0)
        return;
    blocks = blocks < FACTOR_BLOCKS ? blocks : FACTOR_BLOCKS;
    if (a->row) {
        launch<factor_rows_kernel>(d, dim3((unsigned)a->rows), FACTOR_THREADS, 0, f);
        launch<factor_mean_kernel>(d, dim3(1), FACTOR_BLOCKS, 0, f);
    }
    launch<factor_columns_kernel>(d, dim3(blocks_of(a->cols, WARP)), FACTOR_THREADS, 0, f);
    launch<factor_sums_kernel>(d, dim3((unsigned)blocks), FACTOR_THREADS, 0, f);
    launch<factor_step_kernel>(d, dim3(1), FACTOR_BLOCKS, 0, f, (int)blocks, rate);
    each(d, factor_op{f}, count, a->cols % 4 == 0 && packs_weights(a->w, a->grad, a->w16));
}
