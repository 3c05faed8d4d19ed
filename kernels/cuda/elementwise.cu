/*
 * elementwise: operations whose elements do not depend on each other: SwiGLU and its gradient, the
 * gradient of GELU, tanh, ReLU and SiLU, dropout, mask, axpby, rotary positions, and what cuBLASLt
 * leaves of a product. All but rope are structures for each.cuh, which reads and writes 16 bytes a
 * thread; they are bound by memory.
 */
#include "kernels/cuda/each.cuh"

#include <math.h>

/* Of an F32 product on its way to 16 bits: 16 MiB stay in the L2 cache of an A100 or H100. */
#define STRIP_FLOATS ((int64_t)4 << 20)

/* For results of type T. For those of 16 bits the fast exponential and division (error 2^-20) do:
   with the exact ones these kernels would be bound by instructions. */
template <class T> __device__ static inline float exponential(float x)
{
    return sizeof(T) == 4 ? expf(x) : __expf(x);
}
template <class T> __device__ static inline float sigmoid(float x)
{
    if (sizeof(T) == 4)
        return 1 / (1 + expf(-x));
    return __fdividef(1, 1 + __expf(-x));
}

/* -- gated feed-forward: gate and up in rows ld apart, y and dy contiguous -- */
template <class T> struct swiglu_op {
    static constexpr int width = pack_width<T>;
    const T *gate, *up;
    T *y;
    int64_t f, ld;

    template <int W> struct regs {
        pack<T, W> gate, up;
    };
    template <int W> __device__ void read(regs<W> &r, int64_t i) const
    {
        int64_t row = divide(i, f), at = row * ld + i - row * f;
        r.gate = load_pack<T, W>(gate + at);
        r.up = load_pack<T, W>(up + at);
    }
    template <int W> __device__ void write(regs<W> &r, int64_t i) const
    {
#pragma unroll
        for (int k = 0; k < W; k++) {
            float g = to_float(r.gate.e[k]);
            r.up.e[k] = from_float<T>(g * sigmoid<T>(g) * to_float(r.up.e[k]));
        }
        store_pack<T, W>(y + i, r.up);
    }
};

template <class T> struct swiglu_back_op {
    static constexpr int width = pack_width<T>;
    const T *gate, *up, *dy;
    T *dgate, *dup;
    int64_t f, ld;

    template <int W> struct regs {
        pack<T, W> gate, up, dy;
        int64_t at;
    };
    template <int W> __device__ void read(regs<W> &r, int64_t i) const
    {
        int64_t row = divide(i, f);
        r.at = row * ld + i - row * f;
        r.gate = load_pack<T, W>(gate + r.at);
        r.up = load_pack<T, W>(up + r.at);
        r.dy = load_pack<T, W>(dy + i);
    }
    template <int W> __device__ void write(regs<W> &r, int64_t) const
    {
#pragma unroll
        for (int k = 0; k < W; k++) {
            float g = to_float(r.gate.e[k]), s = sigmoid<T>(g), dy = to_float(r.dy.e[k]);
            float u = to_float(r.up.e[k]);
            r.gate.e[k] = from_float<T>(dy * u * s * (1 + g * (1 - s)));
            r.up.e[k] = from_float<T>(dy * g * s);
        }
        store_pack<T, W>(dgate + r.at, r.gate);
        store_pack<T, W>(dup + r.at, r.up);
    }
};

template <class T> static void swiglu(struct dev *d, const struct op_swiglu *a)
{
    swiglu_op<T> op = {(const T *)a->gate, (const T *)a->up, (T *)a->y, a->f, a->ld};
    each(d, op, a->n * a->f,
        a->f % op.width == 0 && a->ld % op.width == 0 && aligned16(a->gate) && aligned16(a->up) &&
            aligned16(a->y));
}

template <class T> static void swiglu_back(struct dev *d, const struct op_swiglu *a)
{
    swiglu_back_op<T> op = {(const T *)a->gate, (const T *)a->up, (const T *)a->dy, (T *)a->dgate,
        (T *)a->dup, a->f, a->ld};
    each(d, op, a->n * a->f,
        a->f % op.width == 0 && a->ld % op.width == 0 && aligned16(a->gate) && aligned16(a->up) &&
            aligned16(a->dy) && aligned16(a->dgate) && aligned16(a->dup));
}

extern "C" void op_cuda_swiglu(struct dev *d, const struct op_swiglu *a)
{
    WITH_TYPE(a->t, T, swiglu<T>(d, a));
}
extern "C" void op_cuda_swiglu_back(struct dev *d, const struct op_swiglu *a)
{
    WITH_TYPE(a->t, T, swiglu_back<T>(d, a));
}

/* -- GELU, tanh form: 0.5 * (1 + tanh(u)) is sigmoid(2u), u = sqrt(2/pi) * (x + 0.044715 x^3) -- */
#define GELU_TWICE 1.5957691216057308f /* 2 * sqrt(2/pi) */
#define GELU_CUBIC 0.044715f

template <class T> __device__ static inline float gelu(float x)
{
    return x * sigmoid<T>(GELU_TWICE * x * (1 + GELU_CUBIC * x * x));
}
template <class T> __device__ static inline float gelu_slope(float x)
{
    float s = sigmoid<T>(GELU_TWICE * x * (1 + GELU_CUBIC * x * x));
    return s + x * s * (1 - s) * GELU_TWICE * (1 + 3 * GELU_CUBIC * x * x);
}

/* -- GELU, exact: x Phi(x), Phi the normal distribution function, Phi' its density -- */
__device__ static inline float phi(float x)
{
    return 0.5f * (1 + erff(0.7071067811865476f * x));
}
template <class T> __device__ static inline float gelu_erf_slope(float x)
{
    return phi(x) + x * exponential<T>(-0.5f * x * x) * 0.3989422804014327f;
}

template <class T, bool ERF> struct gelu_back_op {
    static constexpr int width = pack_width<T>;
    const T *x, *dy;
    T *dx;

    template <int W> struct regs {
        pack<T, W> x, dy;
    };
    template <int W> __device__ void read(regs<W> &r, int64_t i) const
    {
        r.x = load_pack<T, W>(x + i);
        r.dy = load_pack<T, W>(dy + i);
    }
    template <int W> __device__ void write(regs<W> &r, int64_t i) const
    {
#pragma unroll
        for (int k = 0; k < W; k++) {
            float v = to_float(r.x.e[k]), slope = ERF ? gelu_erf_slope<T>(v) : gelu_slope<T>(v);
            r.dy.e[k] = from_float<T>(to_float(r.dy.e[k]) * slope);
        }
        store_pack<T, W>(dx + i, r.dy);
    }
};

template <class T, bool ERF> static void gelu_back(struct dev *d, const struct op_gelu_back *a)
{
    gelu_back_op<T, ERF> op = {(const T *)a->x, (const T *)a->dy, (T *)a->dx};
    each(d, op, a->count, aligned16(a->x) && aligned16(a->dy) && aligned16(a->dx));
}

extern "C" void op_cuda_gelu_back(struct dev *d, const struct op_gelu_back *a)
{
    if (a->erf)
        WITH_TYPE(a->t, T, gelu_back<T, true>(d, a));
    else
        WITH_TYPE(a->t, T, gelu_back<T, false>(d, a));
}

/* -- tanh and its gradient, in place: dy *= 1 - y^2 -- */
template <class T, bool BACK> struct tanh_op {
    static constexpr int width = pack_width<T>;
    T *x, *dy;

    template <int W> struct regs {
        pack<T, W> x, dy;
    };
    template <int W> __device__ void read(regs<W> &r, int64_t i) const
    {
        r.x = load_pack<T, W>(x + i);
        if (BACK)
            r.dy = load_pack<T, W>(dy + i);
    }
    template <int W> __device__ void write(regs<W> &r, int64_t i) const
    {
#pragma unroll
        for (int k = 0; k < W; k++) {
            float v = to_float(r.x.e[k]);
            if (BACK)
                r.dy.e[k] = from_float<T>(to_float(r.dy.e[k]) * (1 - v * v));
            else
                r.x.e[k] = from_float<T>(tanhf(v));
        }
        store_pack<T, W>((BACK ? dy : x) + i, BACK ? r.dy : r.x);
    }
};

template <class T, bool BACK> static void run_tanh(struct dev *d, const struct op_tanh *a)
{
    tanh_op<T, BACK> op = {(T *)a->x, (T *)a->dy};
    each(d, op, a->count, aligned16(a->x) && (!BACK || aligned16(a->dy)));
}

extern "C" void op_cuda_tanh(struct dev *d, const struct op_tanh *a)
{
    WITH_TYPE(a->t, T, run_tanh<T, false>(d, a));
}
extern "C" void op_cuda_tanh_back(struct dev *d, const struct op_tanh *a)
{
    WITH_TYPE(a->t, T, run_tanh<T, true>(d, a));
}

/* -- ReLU and SiLU, and their gradients -- */
template <class T, bool SILU, bool BACK> struct activate_op {
    static constexpr int width = pack_width<T>;
    const T *x, *dy;
    T *out;

    template <int W> struct regs {
        pack<T, W> x, dy;
    };
    template <int W> __device__ void read(regs<W> &r, int64_t i) const
    {
        r.x = load_pack<T, W>(x + i);
        if (BACK)
            r.dy = load_pack<T, W>(dy + i);
    }
    template <int W> __device__ void write(regs<W> &r, int64_t i) const
    {
#pragma unroll
        for (int k = 0; k < W; k++) {
            float v = to_float(r.x.e[k]), s = SILU ? sigmoid<T>(v) : v > 0;
            if (BACK)
                v = to_float(r.dy.e[k]) * (SILU ? s * (1 + v * (1 - s)) : s);
            else
                v = SILU ? v * s : v > 0 ? v : 0;
            r.x.e[k] = from_float<T>(v);
        }
        store_pack<T, W>(out + i, r.x);
    }
};

template <class T, bool BACK> static void activate(struct dev *d, const struct op_activate *a)
{
    const T *x = (const T *)a->x, *dy = (const T *)a->dy;
    T *out = (T *)(BACK ? a->dx : a->y);
    bool aligned = aligned16(x) && aligned16(out) && (!BACK || aligned16(dy));
    if (a->kind == OP_SILU)
        each(d, activate_op<T, true, BACK>{x, dy, out}, a->count, aligned);
    else
        each(d, activate_op<T, false, BACK>{x, dy, out}, a->count, aligned);
}

extern "C" void op_cuda_activate(struct dev *d, const struct op_activate *a)
{
    WITH_TYPE(a->t, T, activate<T, false>(d, a));
}
extern "C" void op_cuda_activate_back(struct dev *d, const struct op_activate *a)
{
    WITH_TYPE(a->t, T, activate<T, true>(d, a));
}

/* -- what is left of a product: C (m, n) = act(x + C + bias), with pre; x is the product, or C
   -- */
template <class C, class B, class X> struct finish_op {
    static constexpr int width = pack_width<C, X>;
    const X *x;
    C *c, *pre;
    const B *bias;
    int64_t n, ldx, ldc;
    bool adds; /* C, which is read for nothing else */
    enum op_act act;

    template <int W> struct regs {
        pack<X, W> x;
        pack<C, W> c;
        int64_t row;
    };
    template <int W> __device__ void read(regs<W> &r, int64_t i) const
    {
        r.row = divide(i, n);
        int64_t column = i - r.row * n;
        r.x = load_pack<X, W>(x + r.row * ldx + column);
        r.c = adds ? load_pack<C, W>(c + r.row * ldc + column) : pack<C, W>{};
    }
    template <int W> __device__ void read_bias(float (&b)[W], int64_t column) const
    {
        constexpr int each = W < pack_width<B> ? W : pack_width<B>;
#pragma unroll
        for (int k = 0; k < W; k += each) {
            pack<B, each> some = load_pack<B, each>(bias + column + k);
#pragma unroll
            for (int j = 0; j < each; j++)
                b[k + j] = to_float(some.e[j]);
        }
    }
    template <int W> __device__ void write(regs<W> &r, int64_t i) const
    {
        int64_t column = i - r.row * n, at = r.row * ldc + column;
        pack<C, W> before;
        float b[W] = {};
        if (bias)
            read_bias<W>(b, column);
#pragma unroll
        for (int k = 0; k < W; k++) {
            float v = to_float(r.x.e[k]) + to_float(r.c.e[k]) + b[k];
            before.e[k] = from_float<C>(v);
            float y = act == OP_ACT_GELU_ERF ? v * phi(v) : act == OP_ACT_GELU ? gelu<C>(v) : v;
            r.c.e[k] = from_float<C>(y);
        }
        if (pre)
            store_pack<C, W>(pre + at, before);
        store_pack<C, W>(c + at, r.c);
    }
};

template <class C, class B, class X>
static void finish(struct dev *d, const struct op_matmul *a, const X *x, int64_t ldx, bool adds)
{
    finish_op<C, B, X> op = {
        x, (C *)a->c, (C *)a->pre, (const B *)a->bias, a->n, ldx, a->ldc, adds, a->act};
    each(d, op, a->m * a->n,
        a->n % op.width == 0 && ldx % op.width == 0 && a->ldc % op.width == 0 && aligned16(x) &&
            aligned16(a->c) && aligned16(a->pre) && aligned16(a->bias));
}

extern "C" void cuda_matmul_finish(struct dev *d, const struct op_matmul *a)
{
    if (a->c_type == a->ab_type)
        WITH_TYPE(a->c_type, C, finish<C, C, C>(d, a, (const C *)a->c, a->ldc, false));
    else
        WITH_TYPE(a->ab_type, B, finish<float, B, float>(d, a, (const float *)a->c, a->ldc, false));
}

/* Rows [row, row + rows) of a product with F32 operands. */
static struct op_matmul strip_of(const struct op_matmul *a, int64_t row, int64_t rows)
{
    struct op_matmul part = *a;
    int64_t to = dtype_bytes(a->c_type, row * a->ldc);

    part.m = rows;
    part.a = (const float *)a->a + row * (a->ta ? 1 : a->lda);
    part.c = (char *)a->c + to;
    part.pre = a->pre ? (char *)a->pre + to : NULL;
    return part;
}

extern "C" void cuda_matmul_narrow(struct dev *d, const struct op_matmul *a)
{
    float *x = (float *)((struct cuda_dev *)d)->scratch;
    int64_t rows = STRIP_FLOATS / a->n;

    if (rows < 1) {
        cuda_refuse(
            d, "an F32 product with %lld columns of %s", (long long)a->n, dtype_name(a->c_type));
        return;
    }
    for (int64_t i = 0; i < a->m; i += rows) {
        struct op_matmul part = strip_of(a, i, a->m - i < rows ? a->m - i : rows);
        struct op_matmul product = part;
        product.c = x;
        product.c_type = DTYPE_F32;
        product.ldc = a->n;
        product.beta = 0;
        product.bias = product.pre = NULL;
        product.act = OP_ACT_NONE;
        op_cuda_matmul(d, &product);
        WITH_TYPE(a->c_type, C, finish<C, float, float>(d, &part, x, a->n, a->beta != 0));
    }
}

/* -- dropout -- */
template <class T> struct dropout_op {
    static constexpr int width = pack_width<T>;
    T *x;
    uint64_t seed;
    uint32_t least; /* of the random numbers that keep */
    float scale;

    template <int W> struct regs {
        pack<T, W> x;
    };
    template <int W> __device__ void read(regs<W> &r, int64_t i) const
    {
        r.x = load_pack<T, W>(x + i);
    }
    template <int W> __device__ void write(regs<W> &r, int64_t i) const
    {
#pragma unroll
        for (int k = 0; k < W; k++) {
            bool keep = op_random(seed, (uint64_t)i + k) >= least;
            r.x.e[k] = from_float<T>(keep ? to_float(r.x.e[k]) * scale : 0);
        }
        store_pack<T, W>(x + i, r.x);
    }
};

template <class T> static void dropout(struct dev *d, const struct op_dropout *a)
{
    dropout_op<T> op = {(T *)a->x, a->seed, (uint32_t)ceil((double)a->p * 0x1p32), 1 / (1 - a->p)};
    each(d, op, a->count, aligned16(a->x));
}

extern "C" void op_cuda_dropout(struct dev *d, const struct op_dropout *a)
{
    if (!(a->p >= 0 && a->p < 1))
        cuda_refuse(d, "dropout with probability %g", (double)a->p);
    else
        WITH_TYPE(a->t, T, dropout<T>(d, a));
}

/* -- x becomes 0 where w is -- */
struct mask_op {
    static constexpr int width = pack_width<float>;
    float *x;
    const float *w;

    template <int W> struct regs {
        pack<float, W> x, w;
    };
    template <int W> __device__ void read(regs<W> &r, int64_t i) const
    {
        r.x = load_pack<float, W>(x + i);
        r.w = load_pack<float, W>(w + i);
    }
    template <int W> __device__ void write(regs<W> &r, int64_t i) const
    {
#pragma unroll
        for (int k = 0; k < W; k++)
            r.x.e[k] = r.w.e[k] == 0 ? 0 : r.x.e[k];
        store_pack<float, W>(x + i, r.x);
    }
};

extern "C" void op_cuda_mask(struct dev *d, const struct op_mask *a)
{
    each(d, mask_op{a->x, a->w}, a->count, aligned16(a->x) && aligned16(a->w));
}

/* -- y = a * x + b * y; y is not read when b is 0 -- */
template <class X, class Y> struct axpby_op {
    static constexpr int width = pack_width<X, Y>;
    const X *x;
    Y *y;
    float a, b;
    const float *sumsq;

    template <int W> struct regs {
        pack<X, W> x;
        pack<Y, W> y;
    };
    template <int W> __device__ void read(regs<W> &r, int64_t i) const
    {
        r.x = load_pack<X, W>(x + i);
        if (b != 0)
            r.y = load_pack<Y, W>(y + i);
    }
    template <int W> __device__ void write(regs<W> &r, int64_t i) const
    {
        float by = sumsq ? a / fmaxf(sqrtf(*sumsq), 1e-7f) : a;
#pragma unroll
        for (int k = 0; k < W; k++) {
            float old = b != 0 ? b * to_float(r.y.e[k]) : 0;
            r.y.e[k] = from_float<Y>(by * to_float(r.x.e[k]) + old);
        }
        store_pack<Y, W>(y + i, r.y);
    }
};

template <class X, class Y> static void axpby(struct dev *d, const struct op_axpby *a)
{
    axpby_op<X, Y> op = {(const X *)a->x, (Y *)a->y, a->a, a->b, a->sumsq};
    each(d, op, a->count, aligned16(a->x) && aligned16(a->y));
}

extern "C" void op_cuda_axpby(struct dev *d, const struct op_axpby *a)
{
    WITH_TYPE(a->x_type, X, WITH_TYPE(a->y_type, Y, axpby<X, Y>(d, a)));
}

/*
 * -- rotary positions --
 * An angle is a part of a turn, in 64-bit fixed point: position times the turn of one position, and
 * whole turns fall off at the top. So it is exact to 2^-47 turns at position 131072, where a
 * product in F32 would be off by 2^-7 radians, and needs no range reduction.
 *
 * A thread turns the same pairs of up to ROPE_HEADS heads, so that their sine and cosine are
 * computed once; the heads of a thread stand `groups` apart, so that neighbouring threads read
 * neighbouring heads.
 */
#define ROPE_THREADS 256
#define ROPE_HEADS   4
#define ROPE_PAIRS   256 /* a launch: 2 KiB of arguments */

struct rope_turns {
    uint64_t step[ROPE_PAIRS]; /* of pair first + i, 2^-64 turns a position */
};

struct rope_job {
    int64_t n, heads, groups, d, ld;
    int64_t first, pairs; /* of each head */
    void *x;
    const int32_t *position;
    bool inverse;
};

/* Sine and cosine of `turn` * 2^-64 turns: the nearest quarter is taken off in integers, the rest,
   within pi/4, goes through the polynomials of Cephes' sinf and cosf (error 2^-24). */
__device__ static inline void rope_angle(uint64_t turn, float *sine, float *cosine)
{
    uint32_t quarter = (uint32_t)((turn + (1ull << 61)) >> 62);
    int32_t rest = (int32_t)((turn - ((uint64_t)quarter << 62)) >> 32);
    float x = (float)rest * (float)(2 * M_PI * 0x1p-32), xx = x * x;
    float s = x + x * xx * (-1.6666654611e-1f + xx * (8.3321608736e-3f - xx * 1.9515295891e-4f));
    float c = 1 - xx / 2 +
        xx * xx *
            (4.166664568298827e-2f + xx * (-1.388731625493765e-3f + xx * 2.443315711809948e-5f));
    float odd_s = quarter & 1 ? c : s, odd_c = quarter & 1 ? s : c;
    *sine = quarter & 2 ? -odd_s : odd_s;
    *cosine = (quarter + 1) & 2 ? -odd_c : odd_c;
}

/* x turned by the angles of W pairs: lo = lo * cos - hi * sin, hi = hi * cos + lo * sin. */
template <class T, int W>
__device__ static inline void rope_turn(
    pack<T, W> &lo, pack<T, W> &hi, const float (&sine)[W], const float (&cosine)[W])
{
#pragma unroll
    for (int k = 0; k < W; k++) {
        float x = to_float(lo.e[k]), y = to_float(hi.e[k]);
        lo.e[k] = from_float<T>(x * cosine[k] - y * sine[k]);
        hi.e[k] = from_float<T>(y * cosine[k] + x * sine[k]);
    }
}

template <class T, int W>
__global__ void __launch_bounds__(ROPE_THREADS, 2) rope_kernel(rope_job a, rope_turns turns)
{
    __shared__ uint64_t step[ROPE_PAIRS];
    for (int i = (int)threadIdx.x; i < a.pairs; i += ROPE_THREADS)
        step[i] = turns.step[i];
    __syncthreads();
    int64_t packs = a.pairs / W, i = (int64_t)blockIdx.x * ROPE_THREADS + threadIdx.x;
    int64_t rest = divide(i, packs), row = divide(rest, a.groups);
    int64_t pair = (i - rest * packs) * W, group = rest - row * a.groups, half = a.d / 2;
    if (row >= a.n)
        return;
    T *x = (T *)a.x + row * a.ld + a.first + pair;
    pack<T, W> lo[ROPE_HEADS], hi[ROPE_HEADS];
#pragma unroll
    for (int u = 0; u < ROPE_HEADS; u++)
        if (group + u * a.groups < a.heads) {
            const T *at = x + (group + u * a.groups) * a.d;
            lo[u] = load_pack<T, W>(at);
            hi[u] = load_pack<T, W>(at + half);
        }
    int64_t position = a.inverse ? -(int64_t)a.position[row] : a.position[row];
    float sine[W], cosine[W];
#pragma unroll
    for (int k = 0; k < W; k++)
        rope_angle((uint64_t)position * step[pair + k], &sine[k], &cosine[k]);
#pragma unroll
    for (int u = 0; u < ROPE_HEADS; u++)
        if (group + u * a.groups < a.heads) {
            T *at = x + (group + u * a.groups) * a.d;
            rope_turn<T, W>(lo[u], hi[u], sine, cosine);
            store_pack<T, W>(at, lo[u]);
            store_pack<T, W>(at + half, hi[u]);
        }
}

/* The turns of pairs [first, first + pairs): theta^(-2p/d) / 2 pi, scaled. One pow and a running
   product: at most 2^-44 off, where a pow a pair would cost more than the launch. */
static void rope_fill(struct rope_turns *out, const struct op_rope *a, int64_t first, int64_t pairs)
{
    double frequency = pow(a->theta, -2.0 * (double)first / (double)a->d);
    double ratio = pow(a->theta, -2.0 / (double)a->d);
    for (int64_t i = 0; i < pairs; i++, frequency *= ratio) {
        double turn = op_rope_scaled(&a->scaling, frequency) / (2 * M_PI);
        out->step[i] = (uint64_t)((turn - floor(turn)) * 0x1p64);
    }
}

template <class T> static void rope(struct dev *d, const struct op_rope *a)
{
    constexpr int W = pack_width<T>;
    struct rope_turns turns = {};
    struct rope_job job = {};
    job.n = a->n;
    job.heads = a->heads;
    job.groups = (a->heads + ROPE_HEADS - 1) / ROPE_HEADS;
    job.d = a->d;
    job.ld = a->ld;
    job.x = a->x;
    job.position = a->position;
    job.inverse = a->inverse;
    bool packed = a->d % (2 * W) == 0 && a->ld % W == 0 && aligned16(a->x);
    for (int64_t half = a->d / 2; job.first < half; job.first += ROPE_PAIRS) {
        job.pairs = half - job.first < ROPE_PAIRS ? half - job.first : ROPE_PAIRS;
        rope_fill(&turns, a, job.first, job.pairs);
        int64_t threads = job.n * job.groups * job.pairs / (packed ? W : 1);
        const dim3 grid(blocks_of(threads, ROPE_THREADS));
        if (threads > 0 && packed)
            launch<rope_kernel<T, W>>(d, grid, ROPE_THREADS, 0, job, turns);
        else if (threads > 0)
            launch<rope_kernel<T, 1>>(d, grid, ROPE_THREADS, 0, job, turns);
    }
}

extern "C" void op_cuda_rope(struct dev *d, const struct op_rope *a)
{
    WITH_TYPE(a->t, T, rope<T>(d, a));
}
