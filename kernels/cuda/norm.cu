/*
 * norm: RMSNorm and LayerNorm with their gradients, one family of kernels for both.
 *
 * A row of up to NORM_ROW elements is held in registers, NORM_EACH a thread, by a team of threads:
 * a power of two up to a warp for short rows (several rows a block), else a whole block. A thread
 * keeps its columns for every row that its block visits, so weights are read once, and the
 * gradients of weights are summed in registers; a block leaves them in scratch as one slice for
 * cuda_add_slices. The next row is read ahead of the reductions of the current one, which keeps
 * memory busy across their barriers. The grid is what the device holds at once, so gradients of
 * weights are repeatable on one kind of device. Longer rows are read from memory again for each
 * pass, a block a row.
 */
#include "kernels/cuda/each.cuh"
#include "kernels/cuda/rows.h"

#define NORM_EACH    8
#define NORM_BLOCK   1024 /* most threads of a block */
#define NORM_ROW     (NORM_EACH * NORM_BLOCK)
#define NORM_NARROW  256 /* threads of a block of several rows, and the longest such row */
/* Threads that a multiprocessor holds: 64 registers each forward, 80 backward. */
#define NORM_FORWARD 1024
#define NORM_BACK    768

struct norm_job {
    int64_t n, c;
    int64_t group, ldx, ldy; /* of x and dx; of y and dy */
    float eps;
    const void *x, *w, *bias, *dy; /* bias may be NULL */
    void *out;                     /* y, or dx */
    float *mean, *rstd;
    float *part_w, *part_bias; /* (blocks, c) of scratch; NULL when frozen */
    bool accumulate;
    int team; /* threads of a row */
};

/* Where a thread stands: columns (p * team + lane) * W, + W, for p below NORM_EACH / W. */
struct norm_seat {
    int team, lane, row, rows; /* row: of the `rows` that the block works on at once */
};

template <bool narrow> __device__ static inline norm_seat norm_sit(const norm_job &a)
{
    norm_seat s = {(int)blockDim.x, (int)threadIdx.x, 0, 1};
    if (narrow) {
        s.team = a.team;
        s.lane = (int)threadIdx.x & (a.team - 1);
        s.row = (int)threadIdx.x / a.team;
        s.rows = (int)blockDim.x / a.team;
    }
    return s;
}

template <class T, int W> struct norm_packs {
    pack<T, W> p[NORM_EACH / W];
    __device__ float operator[](int k) const
    {
        return to_float(p[k / W].e[k % W]);
    }
};

template <int W> __device__ static inline int norm_column(const norm_seat &s, int k)
{
    return (k / W * s.team + s.lane) * W + k % W;
}

/* Row `row` of x, zeros beyond the row's end and beyond row n. ld: of its groups. */
template <class T, int W>
__device__ static inline void norm_read(norm_packs<T, W> &v, const void *x, int64_t row, int64_t ld,
    const norm_job &a, const norm_seat &s)
{
    const T *from = (const T *)x + op_row_at(row, a.c, a.group, ld);
#pragma unroll
    for (int p = 0; p < NORM_EACH / W; p++) {
        int at = norm_column<W>(s, p * W);
        v.p[p] = pack<T, W>{};
        if (x && row < a.n && at < a.c)
            v.p[p] = load_pack<T, W>(from + at);
    }
}

template <class T, int W>
__device__ static inline void norm_write(void *y, const float (&v)[NORM_EACH], int64_t row,
    int64_t ld, const norm_job &a, const norm_seat &s)
{
    T *to = (T *)y + op_row_at(row, a.c, a.group, ld);
#pragma unroll
    for (int p = 0; p < NORM_EACH / W; p++) {
        int at = norm_column<W>(s, p * W);
        pack<T, W> some;
#pragma unroll
        for (int k = 0; k < W; k++)
            some.e[k] = from_float<T>(v[p * W + k]);
        if (row < a.n && at < a.c)
            store_pack<T, W>(to + at, some);
    }
}

/* The sum over the team of a thread; `room` is shared memory of WARP floats. */
template <bool narrow>
__device__ static inline float norm_sum(float x, const norm_seat &s, float *room)
{
    if constexpr (!narrow)
        return block_sum(x, room);
    else
        for (int i = s.team / 2; i; i /= 2)
            x += __shfl_xor_sync(FULL, x, i);
    return x;
}

/* The sums of both x and y by one pair of barriers; `room` is of 2 * WARP floats. */
template <bool narrow>
__device__ static inline void norm_sums(float &x, float &y, const norm_seat &s, float *room)
{
    if constexpr (narrow) {
        x = norm_sum<narrow>(x, s, room);
        y = norm_sum<narrow>(y, s, room);
    } else {
        const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
        x = warp_sum(x);
        y = warp_sum(y);
        if (lane == 0) {
            room[warp] = x;
            room[WARP + warp] = y;
        }
        __syncthreads();
        const bool used = lane < (int)blockDim.x / WARP;
        x = warp_sum(used ? room[lane] : 0);
        y = warp_sum(used ? room[WARP + lane] : 0);
        __syncthreads();
    }
}

/* -- forward -- */
template <class T, int W, bool layer, bool narrow>
__global__ void __launch_bounds__(NORM_BLOCK) norm_kernel(norm_job a)
{
    __shared__ float room[WARP];
    const norm_seat s = norm_sit<narrow>(a);
    const int64_t step = (int64_t)gridDim.x * s.rows;
    const float inverse = 1 / (float)a.c;
    norm_packs<T, W> next, w, bias;
    norm_read<T, W>(next, a.x, (int64_t)blockIdx.x * s.rows + s.row, a.ldx, a, s);
    norm_read<T, W>(w, a.w, 0, 0, a, s);
    if (layer)
        norm_read<T, W>(bias, a.bias, 0, 0, a, s);
    for (int64_t first = (int64_t)blockIdx.x * s.rows; first < a.n; first += step) {
        const int64_t row = first + s.row;
        float x[NORM_EACH], sum = 0, mean = 0;
#pragma unroll
        for (int k = 0; k < NORM_EACH; k++)
            x[k] = next[k];
        norm_read<T, W>(next, a.x, row + step, a.ldx, a, s);
        if (layer) {
#pragma unroll
            for (int k = 0; k < NORM_EACH; k++)
                sum += x[k];
            mean = norm_sum<narrow>(sum, s, room) * inverse;
            sum = 0;
#pragma unroll
            for (int k = 0; k < NORM_EACH; k++)
                x[k] = norm_column<W>(s, k) < a.c ? x[k] - mean : 0;
        }
#pragma unroll
        for (int k = 0; k < NORM_EACH; k++)
            sum += x[k] * x[k];
        const float rstd = rsqrtf(norm_sum<narrow>(sum, s, room) * inverse + a.eps);
#pragma unroll
        for (int k = 0; k < NORM_EACH; k++) {
            x[k] *= rstd * w[k];
            if (layer)
                x[k] += bias[k];
        }
        norm_write<T, W>(a.out, x, row, a.ldy, a, s);
        if (s.lane == 0 && row < a.n) {
            a.rstd[row] = rstd;
            if (layer)
                a.mean[row] = mean;
        }
    }
}

/* -- backward: h = (x - mean) * rstd, g = dy * w, dx = rstd * (g - mean(g) - h * mean(g * h)), dw =
   sum of dy * h, dbias = sum of dy; RMS norm has no mean -- */

template <class T, int W> struct norm_row {
    norm_packs<T, W> x, dy;
    float mean, rstd;
};

template <class T, int W, bool layer>
__device__ static inline void norm_read_row(
    norm_row<T, W> &r, int64_t row, const norm_job &a, const norm_seat &s)
{
    norm_read<T, W>(r.x, a.x, row, a.ldx, a, s);
    norm_read<T, W>(r.dy, a.dy, row, a.ldy, a, s);
    r.rstd = row < a.n ? a.rstd[row] : 0;
    r.mean = layer && row < a.n ? a.mean[row] : 0;
}

/* The block's slice of a weight's gradient: with several rows at once, their threads' sums in
 * order. */
template <int W, bool narrow>
__device__ static inline void norm_slice(
    float *part, const float (&v)[NORM_EACH], const norm_job &a, const norm_seat &s, float *room)
{
    float *to = part + (int64_t)blockIdx.x * a.c;
    if (!narrow) {
        constexpr int each = W < 4 ? W : 4;
#pragma unroll
        for (int k = 0; k < NORM_EACH; k += each) {
            pack<float, each> some;
#pragma unroll
            for (int j = 0; j < each; j++)
                some.e[j] = v[k + j];
            if (norm_column<W>(s, k) < a.c)
                store_pack<float, each>(to + norm_column<W>(s, k), some);
        }
        return;
    }
    const int width = s.team * NORM_EACH;
#pragma unroll
    for (int k = 0; k < NORM_EACH; k++)
        room[s.row * width + norm_column<W>(s, k)] = v[k];
    __syncthreads();
    for (int i = (int)threadIdx.x; i < a.c; i += (int)blockDim.x) {
        float sum = 0;
        for (int r = 0; r < s.rows; r++)
            sum += room[r * width + i];
        to[i] = sum;
    }
    __syncthreads();
}

/* most: threads of a block; NORM_NARROW: with several rows. */
template <class T, int W, bool layer, int most>
__global__ void __launch_bounds__(most, most < NORM_BACK ? NORM_BACK / most : 1)
    norm_back_kernel(norm_job a)
{
    constexpr bool narrow = most == NORM_NARROW;
    __shared__ float room[narrow ? NORM_NARROW * NORM_EACH : 2 * WARP];
    const norm_seat s = norm_sit<narrow>(a);
    const int64_t step = (int64_t)gridDim.x * s.rows;
    const float inverse = 1 / (float)a.c;
    float dw[NORM_EACH] = {}, dbias[NORM_EACH] = {};
    norm_packs<T, W> w, old = {};
    norm_row<T, W> next;
    norm_read_row<T, W, layer>(next, (int64_t)blockIdx.x * s.rows + s.row, a, s);
    norm_read<T, W>(w, a.w, 0, 0, a, s);
    for (int64_t first = (int64_t)blockIdx.x * s.rows; first < a.n; first += step) {
        const int64_t row = first + s.row;
        const float rstd = next.rstd;
        float h[NORM_EACH], g[NORM_EACH], sum = 0, product = 0;
        if (a.accumulate)
            norm_read<T, W>(old, a.out, row, a.ldx, a, s);
#pragma unroll
        for (int k = 0; k < NORM_EACH; k++) {
            h[k] = (next.x[k] - next.mean) * rstd;
            g[k] = next.dy[k] * w[k];
            product += g[k] * h[k];
            dw[k] += next.dy[k] * h[k];
            if (layer) {
                sum += g[k];
                dbias[k] += next.dy[k];
            }
        }
        norm_read_row<T, W, layer>(next, row + step, a, s);
        if (layer)
            norm_sums<narrow>(product, sum, s, room);
        else
            product = norm_sum<narrow>(product, s, room);
        product *= inverse;
        sum *= inverse;
#pragma unroll
        for (int k = 0; k < NORM_EACH; k++)
            g[k] = rstd * (g[k] - sum - h[k] * product) + old[k];
        norm_write<T, W>(a.out, g, row, a.ldx, a, s);
    }
    if (a.part_w)
        norm_slice<W, narrow>(a.part_w, dw, a, s, room);
    if (a.part_bias)
        norm_slice<W, narrow>(a.part_bias, dbias, a, s, room);
}

/* -- rows beyond the registers: a block a row -- */
template <class T, int W, bool layer>
__global__ void __launch_bounds__(NORM_BLOCK) norm_long_kernel(norm_job a)
{
    __shared__ float room[WARP];
    const T *x = (const T *)a.x + blockIdx.x * a.c, *w = (const T *)a.w, *b = (const T *)a.bias;
    T *y = (T *)a.out + blockIdx.x * a.c;
    const int64_t from = (int64_t)threadIdx.x * W, step = (int64_t)NORM_BLOCK * W;
    float mean = 0, sum = 0;
    for (int64_t j = from; layer && j < a.c; j += step) {
        pack<T, W> v = load_pack<T, W>(x + j);
        for (int k = 0; k < W; k++)
            sum += to_float(v.e[k]);
    }
    if (layer)
        mean = block_sum(sum, room) / (float)a.c;
    sum = 0;
    for (int64_t j = from; j < a.c; j += step) {
        pack<T, W> v = load_pack<T, W>(x + j);
        for (int k = 0; k < W; k++)
            sum += (to_float(v.e[k]) - mean) * (to_float(v.e[k]) - mean);
    }
    const float rstd = 1 / sqrtf(block_sum(sum, room) / (float)a.c + a.eps);
    for (int64_t j = from; j < a.c; j += step) {
        pack<T, W> v = load_pack<T, W>(x + j), scale = load_pack<T, W>(w + j), shift = {};
        if (layer && b)
            shift = load_pack<T, W>(b + j);
        for (int k = 0; k < W; k++)
            v.e[k] = from_float<T>(
                (to_float(v.e[k]) - mean) * rstd * to_float(scale.e[k]) + to_float(shift.e[k]));
        store_pack<T, W>(y + j, v);
    }
    if (threadIdx.x == 0) {
        a.rstd[blockIdx.x] = rstd;
        if (layer)
            a.mean[blockIdx.x] = mean;
    }
}

template <class T, int W, bool layer>
__global__ void __launch_bounds__(NORM_BLOCK) norm_long_back_kernel(norm_job a)
{
    __shared__ float room[WARP];
    const T *x = (const T *)a.x + blockIdx.x * a.c, *dy = (const T *)a.dy + blockIdx.x * a.c;
    const T *w = (const T *)a.w;
    T *dx = (T *)a.out + blockIdx.x * a.c;
    const int64_t from = (int64_t)threadIdx.x * W, step = (int64_t)NORM_BLOCK * W;
    const float rstd = a.rstd[blockIdx.x], mean = layer ? a.mean[blockIdx.x] : 0;
    float sum = 0, product = 0;
    for (int64_t j = from; j < a.c; j += step) {
        pack<T, W> v = load_pack<T, W>(x + j), u = load_pack<T, W>(dy + j);
        pack<T, W> scale = load_pack<T, W>(w + j);
        for (int k = 0; k < W; k++) {
            float g = to_float(u.e[k]) * to_float(scale.e[k]);
            sum += g;
            product += g * (to_float(v.e[k]) - mean) * rstd;
        }
    }
    sum = layer ? block_sum(sum, room) / (float)a.c : 0;
    product = block_sum(product, room) / (float)a.c;
    for (int64_t j = from; j < a.c; j += step) {
        pack<T, W> v = load_pack<T, W>(x + j), u = load_pack<T, W>(dy + j);
        pack<T, W> scale = load_pack<T, W>(w + j), old = {};
        if (a.accumulate)
            old = load_pack<T, W>(dx + j);
        for (int k = 0; k < W; k++) {
            float g = to_float(u.e[k]) * to_float(scale.e[k]);
            float h = (to_float(v.e[k]) - mean) * rstd;
            u.e[k] = from_float<T>(rstd * (g - sum - h * product) + to_float(old.e[k]));
        }
        store_pack<T, W>(dx + j, u);
    }
}

/* -- launching -- */
template <class T, int W, bool layer>
static void norm_forward(struct dev *d, const norm_job &a, unsigned blocks, unsigned threads)
{
    if (a.c > NORM_ROW)
        launch<norm_long_kernel<T, W, layer>>(d, dim3(blocks), threads, 0, a);
    else if (a.team)
        launch<norm_kernel<T, W, layer, true>>(d, dim3(blocks), threads, 0, a);
    else
        launch<norm_kernel<T, W, layer, false>>(d, dim3(blocks), threads, 0, a);
}

template <class T, int W, bool layer>
static void norm_backward(struct dev *d, const norm_job &a, unsigned blocks, unsigned threads)
{
    if (a.c > NORM_ROW)
        launch<norm_long_back_kernel<T, W, layer>>(d, dim3(blocks), threads, 0, a);
    else if (a.team)
        launch<norm_back_kernel<T, W, layer, NORM_NARROW>>(d, dim3(blocks), threads, 0, a);
    else if (threads <= NORM_BACK)
        launch<norm_back_kernel<T, W, layer, NORM_BACK>>(d, dim3(blocks), threads, 0, a);
    else
        launch<norm_back_kernel<T, W, layer, NORM_BLOCK>>(d, dim3(blocks), threads, 0, a);
}

/* Chooses team, threads and grid. A multiprocessor holds `resident` threads; a block should see
   `least` rows. */
static unsigned norm_plan(
    struct dev *d, norm_job &a, unsigned resident, int64_t least, unsigned *threads)
{
    int64_t rows = 1, most = ((struct cuda_dev *)d)->sm_count;
    *threads = NORM_BLOCK;
    if (a.c > NORM_ROW)
        return (unsigned)a.n;
    if (a.c <= NORM_NARROW) {
        for (a.team = 1; a.team * NORM_EACH < a.c;)
            a.team *= 2;
        *threads = NORM_NARROW;
        rows = NORM_NARROW / a.team;
    } else {
        *threads = blocks_of(a.c, NORM_EACH * WARP) * WARP;
    }
    most *= resident > *threads ? resident / *threads : 1;
    int64_t blocks = blocks_of(a.n, rows * least);
    return (unsigned)(blocks < most ? blocks : most);
}

template <class T, bool layer> static void norm(struct dev *d, norm_job a)
{
    constexpr int W = pack_width<T>;
    unsigned threads, blocks = norm_plan(d, a, NORM_FORWARD, 1, &threads);
    if (a.n <= 0)
        return;
    if ((a.c | a.ldx | a.ldy) % W == 0 && aligned16(a.x) && aligned16(a.w) && aligned16(a.bias) &&
        aligned16(a.out))
        norm_forward<T, W, layer>(d, a, blocks, threads);
    else
        norm_forward<T, 1, layer>(d, a, blocks, threads);
}

/* Gradients of weights of long rows: sums of columns, after dx is enqueued. */
static void norm_long_columns(
    struct dev *d, const norm_job &a, float *dw, float *dbias, enum dtype t)
{
    struct cuda_columns sums = {};
    sums.n = a.n;
    sums.c = sums.ld = a.c;
    sums.dy = a.dy;
    sums.t = t;
    sums.out = dbias;
    if (dbias)
        cuda_columns(d, &sums);
    sums.x = a.x;
    sums.mean = a.mean;
    sums.rstd = a.rstd;
    sums.out = dw;
    if (dw)
        cuda_columns(d, &sums);
}

template <class T, bool layer>
static void norm_back(struct dev *d, norm_job a, float *dw, float *dbias, enum dtype t)
{
    constexpr int W = pack_width<T>;
    float *part = (float *)((struct cuda_dev *)d)->scratch;
    unsigned threads, blocks = norm_plan(d, a, NORM_BACK, 2, &threads);
    if (a.n <= 0)
        return;
    if (a.c <= NORM_ROW) {
        /* at most 1024 threads a multiprocessor with 8 columns each: twice 32 KiB of sums */
        a.part_w = dw ? part : NULL;
        a.part_bias = dbias ? part + (int64_t)blocks * a.c : NULL;
    } else {
        /* before dx, which may stand where dy does */
        norm_long_columns(d, a, dw, dbias, t);
    }
    if ((a.c | a.ldx | a.ldy) % W == 0 && aligned16(a.x) && aligned16(a.w) && aligned16(a.dy) &&
        aligned16(a.out))
        norm_backward<T, W, layer>(d, a, blocks, threads);
    else
        norm_backward<T, 1, layer>(d, a, blocks, threads);
    if (a.part_w)
        cuda_add_slices(d, a.part_w, blocks, a.c, dw);
    if (a.part_bias)
        cuda_add_slices(d, a.part_bias, blocks, a.c, dbias);
}

/* What both operations' arguments have in common. */
template <class A> static norm_job norm_job_of(const A *a, void *out)
{
    norm_job job = {};
    job.n = a->n;
    job.c = a->c;
    job.eps = a->eps;
    job.x = a->x;
    job.w = a->w;
    job.dy = a->dy;
    job.out = out;
    job.rstd = a->rstd;
    job.accumulate = a->accumulate;
    return job;
}

/* False: rows in groups that are too long. */
static bool norm_groups(struct dev *d, const struct op_rmsnorm *a, norm_job &job)
{
    job.group = a->group;
    job.ldx = a->group ? a->ldx : 0;
    job.ldy = a->group ? a->ldy : 0;
    if (a->group && a->c > NORM_ROW)
        cuda_refuse(d, "rmsnorm: rows of %lld in groups (up to %d)", (long long)a->c, NORM_ROW);
    return !a->group || a->c <= NORM_ROW;
}

extern "C" void op_cuda_rmsnorm(struct dev *d, const struct op_rmsnorm *a)
{
    norm_job job = norm_job_of(a, a->y);
    if (norm_groups(d, a, job))
        WITH_TYPE(a->t, T, norm<T, false>(d, job));
}

extern "C" void op_cuda_rmsnorm_back(struct dev *d, const struct op_rmsnorm *a)
{
    norm_job job = norm_job_of(a, a->dx);
    if (norm_groups(d, a, job))
        WITH_TYPE(a->t, T, norm_back<T, false>(d, job, a->dw, NULL, a->t));
}

extern "C" void op_cuda_layernorm(struct dev *d, const struct op_layernorm *a)
{
    norm_job job = norm_job_of(a, a->y);
    job.bias = a->bias;
    job.mean = a->mean;
    WITH_TYPE(a->t, T, norm<T, true>(d, job));
}

extern "C" void op_cuda_layernorm_back(struct dev *d, const struct op_layernorm *a)
{
    norm_job job = norm_job_of(a, a->dx);
    job.mean = a->mean;
    WITH_TYPE(a->t, T, norm_back<T, true>(d, job, a->dw, a->dbias, a->t));
}
