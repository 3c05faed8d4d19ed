/*
 * columns: sums over rows (rows.h): the gradients of biases, and of the weights of norms whose rows
 * are too long for norm.cu's registers. A warp reads up to 512 neighbouring bytes of a row, a
 * block's warps take rows in turn, COLUMN_ROWS of them under way at once; the grid is tiles of
 * columns times slices of rows, its size fixed by the shape alone. add_slices then sums the slices
 * of a column. And scale, which multiplies columns.
 */
#include "kernels/cuda/each.cuh"
#include "kernels/cuda/rows.h"

#define COLUMN_THREADS 256
#define COLUMN_WARPS   (COLUMN_THREADS / WARP)
#define COLUMN_ROWS    4    /* a warp reads at once */
#define COLUMN_BLOCKS  1024 /* about: a few for each multiprocessor */
#define SLICE_THREADS  1024
#define SLICE_WARPS    (SLICE_THREADS / WARP)

/* What one row gives to W columns. */
template <class T, int W> struct column_row {
    pack<T, W> dy, x;
    float mean, rstd;
};

template <class T, int W, bool scaled>
__device__ static inline void column_read(
    column_row<T, W> &r, const struct cuda_columns &a, int64_t row, int64_t column)
{
    r.dy = load_pack<T, W>((const T *)a.dy + row * a.ld + column);
    if (scaled) {
        r.x = load_pack<T, W>((const T *)a.x + row * a.ld + column);
        r.rstd = a.rstd ? a.rstd[row] : 1;
        if (a.mean)
            r.mean = a.mean[row];
    }
}

template <class T, int W, bool scaled>
__device__ static inline void column_add(float (&sum)[W], const column_row<T, W> &r)
{
#pragma unroll
    for (int k = 0; k < W; k++) {
        float dy = to_float(r.dy.e[k]);
        sum[k] += scaled ? dy * (to_float(r.x.e[k]) - r.mean) * r.rstd : dy;
    }
}

/* part (slices, c): block (tile, slice) sums rows [slice * rows, + rows) of W * WARP columns. */
template <class T, int W, bool scaled>
__global__ void __launch_bounds__(COLUMN_THREADS)
    columns_kernel(struct cuda_columns a, int64_t rows, float *part)
{
    __shared__ float room[COLUMN_WARPS][WARP * W];
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int64_t first = (int64_t)blockIdx.x * WARP * W, column = first + lane * W;
    const int64_t end = min((int64_t)(blockIdx.y + 1) * rows, a.n);
    float sum[W] = {};
    if (column < a.c)
        for (int64_t row = (int64_t)blockIdx.y * rows + warp; row < end;
             row += COLUMN_WARPS * COLUMN_ROWS) {
            column_row<T, W> r[COLUMN_ROWS] = {};
#pragma unroll
            for (int u = 0; u < COLUMN_ROWS; u++)
                if (row + u * COLUMN_WARPS < end)
                    column_read<T, W, scaled>(r[u], a, row + u * COLUMN_WARPS, column);
#pragma unroll
            for (int u = 0; u < COLUMN_ROWS; u++)
                column_add<T, W, scaled>(sum, r[u]);
        }
#pragma unroll
    for (int k = 0; k < W; k++)
        room[warp][lane * W + k] = sum[k];
    __syncthreads();
    for (int i = (int)threadIdx.x; i < WARP * W && first + i < a.c; i += COLUMN_THREADS) {
        float total = 0;
        for (int w = 0; w < COLUMN_WARPS; w++)
            total += room[w][i];
        part[(int64_t)blockIdx.y * a.c + first + i] = total;
    }
}

/* A lane a column: every warp sums its share of the slices, then the warps' sums are added in
 * order. */
__global__ void __launch_bounds__(SLICE_THREADS)
    slices_kernel(const float *part, int64_t slices, int64_t c, float *out)
{
    __shared__ float room[SLICE_WARPS][WARP];
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int64_t column = (int64_t)blockIdx.x * WARP + lane;
    float sum = 0;
    if (column < c)
#pragma unroll 8
        for (int64_t s = warp; s < slices; s += SLICE_WARPS)
            sum += part[s * c + column];
    room[warp][lane] = sum;
    __syncthreads();
    if (warp || column >= c)
        return;
    sum = 0;
    for (int w = 0; w < SLICE_WARPS; w++)
        sum += room[w][lane];
    out[column] += sum;
}

extern "C" void cuda_add_slices(
    struct dev *d, const float *part, int64_t slices, int64_t c, float *out)
{
    if (c > 0)
        launch<slices_kernel>(d, dim3(blocks_of(c, WARP)), SLICE_THREADS, 0, part, slices, c, out);
}

template <class T, int W> static void columns_launch(struct dev *d, const struct cuda_columns *a)
{
    float *part = (float *)((struct cuda_dev *)d)->scratch;
    int64_t tiles = blocks_of(a->c, WARP * W), slices = COLUMN_BLOCKS / tiles;
    int64_t most = blocks_of(a->n, 2 * COLUMN_WARPS * COLUMN_ROWS);
    int64_t room = (int64_t)(CUDA_SCRATCH_BYTES / sizeof(float)) / a->c;
    slices = slices < most ? slices : most;
    slices = slices < room ? slices : room;
    slices = slices > 1 ? slices : 1;
    int64_t rows = blocks_of(a->n, slices);
    slices = blocks_of(a->n, rows);
    if (a->c * (int64_t)sizeof(float) > (int64_t)CUDA_SCRATCH_BYTES) {
        cuda_refuse(d, "sums of %lld columns", (long long)a->c);
        return;
    }
    const dim3 grid((unsigned)tiles, (unsigned)slices);
    if (a->x)
        launch<columns_kernel<T, W, true>>(d, grid, COLUMN_THREADS, 0, *a, rows, part);
    else
        launch<columns_kernel<T, W, false>>(d, grid, COLUMN_THREADS, 0, *a, rows, part);
    cuda_add_slices(d, part, slices, a->c, a->out);
}

template <class T> static void columns(struct dev *d, const struct cuda_columns *a)
{
    constexpr int W = pack_width<T>;
    if (a->n <= 0 || a->c <= 0)
        return;
    if (a->c % W == 0 && a->ld % W == 0 && aligned16(a->dy) && aligned16(a->x))
        columns_launch<T, W>(d, a);
    else
        columns_launch<T, 1>(d, a);
}

extern "C" void cuda_columns(struct dev *d, const struct cuda_columns *a)
{
    WITH_TYPE(a->t, T, columns<T>(d, a));
}

extern "C" void op_cuda_bias_back(struct dev *d, const struct op_bias_back *a)
{
    struct cuda_columns sums = {};
    sums.n = a->n;
    sums.c = a->c;
    sums.ld = a->ld;
    sums.dy = a->dy;
    sums.x = a->x;
    sums.out = a->dbias;
    sums.t = a->t;
    cuda_columns(d, &sums);
}

/* -- a number a column -- */
template <class T> struct scale_op {
    static constexpr int width = pack_width<T>;
    const T *x, *bias;
    const float *w;
    T *y;
    int64_t c;
    bool accumulate;

    template <int W> struct regs {
        pack<T, W> x, y;
    };
    template <int W> __device__ void read(regs<W> &r, int64_t i) const
    {
        r.x = load_pack<T, W>(x + i);
        if (accumulate)
            r.y = load_pack<T, W>(y + i);
    }
    template <int W> __device__ void write(regs<W> &r, int64_t i) const
    {
        int64_t column = i - divide(i, c) * c; /* a pack lies within a row */
#pragma unroll
        for (int k = 0; k < W; k++) {
            float v = to_float(r.x.e[k]) * w[column + k];
            v += bias ? to_float(bias[column + k]) : 0;
            v += accumulate ? to_float(r.y.e[k]) : 0;
            r.x.e[k] = from_float<T>(v);
        }
        store_pack<T, W>(y + i, r.x);
    }
};

template <class T> static void scale(struct dev *d, const struct op_scale *a)
{
    scale_op<T> op = {(const T *)a->x, (const T *)a->bias, a->w, (T *)a->y, a->c, a->accumulate};
    each(d, op, a->n * a->c, a->c % scale_op<T>::width == 0 && aligned16(a->x) && aligned16(a->y));
}

extern "C" void op_cuda_scale(struct dev *d, const struct op_scale *a)
{
    WITH_TYPE(a->t, T, scale<T>(d, a));
}
