/*
 * expert_matmul: the products of experts, each with rows of its own, whose number only the device
 * knows. The grid has a tile of rows for the most that there can be, n / TILE and one an expert; a
 * block looks through the offsets for its expert, and one that finds none has nothing to do. Plain
 * tiles in shared memory, summed in F32: no tensor cores. The products with stored blocks, for
 * decoding, are a warp an element.
 */
#include "kernels/cuda/quant.cuh"

#define TILE         32
#define TILE_THREADS 256
#define TILE_ROWS    (TILE * TILE / TILE_THREADS) /* of a tile, a thread computes */
#define DOT_WARPS    8

/* Rows [first, first + count) of x and y, count at most TILE, are expert's. */
struct expert_tile {
    int64_t expert, first, count;
};

/* Tile `index` of all experts' rows in their order; count 0: there are fewer. */
__device__ static expert_tile tile_find(const int32_t *offset, int64_t experts, int64_t index)
{
    for (int64_t i = 0; i < experts; i++) {
        int64_t rows = offset[i + 1] - offset[i], tiles = (rows + TILE - 1) / TILE;
        if (index < tiles)
            return {i, offset[i] + index * TILE, min((int64_t)TILE, rows - index * TILE)};
        index -= tiles;
    }
    return {0, 0, 0};
}

/* One tile of C (m, n) = A (m, k) B (k, n) at column `column`: A at a[i * a_row + l * a_column], B
   at b[l * b_row + j * b_column]. sum[u] is of row threadIdx.x / TILE + 8 u, column threadIdx.x %
   TILE. */
template <class T> struct tile_product {
    const T *a, *b;
    int64_t a_row, a_column, b_row, b_column, m, n, k;

    __device__ void run(int64_t column, float (&sum)[TILE_ROWS]) const
    {
        __shared__ float left[TILE][TILE + 1], right[TILE][TILE + 1];
        const int x = threadIdx.x % TILE, y = threadIdx.x / TILE;
        for (int64_t from = 0; from < k; from += TILE) {
            for (int i = y; i < TILE; i += TILE_THREADS / TILE) {
                bool in_a = i < m && from + x < k, in_b = column + i < n && from + x < k;
                left[i][x] = in_a ? load(a, i * a_row + (from + x) * a_column) : 0;
                right[i][x] = in_b ? load(b, (from + x) * b_row + (column + i) * b_column) : 0;
            }
            __syncthreads();
            for (int l = 0; l < TILE; l++)
#pragma unroll
                for (int u = 0; u < TILE_ROWS; u++)
                    sum[u] = fmaf(left[y + u * (TILE_THREADS / TILE)][l], right[x][l], sum[u]);
            __syncthreads();
        }
    }
};

/* Rows of an expert times its matrix: to, of `width` columns, from `from`; forward: W^T. */
template <class T, bool forward>
__global__ void __launch_bounds__(TILE_THREADS) expert_rows_kernel(struct op_expert_matmul a)
{
    const expert_tile t = tile_find(a.offset, a.experts, blockIdx.y);
    const int64_t width = forward ? a.out : a.in, depth = forward ? a.in : a.out;
    const int64_t column = (int64_t)blockIdx.x * TILE;
    if (t.count <= 0)
        return;
    const T *from = (const T *)(forward ? a.x : a.dy) + t.first * depth;
    const T *w = (const T *)a.w + t.expert * a.ldw;
    T *to = (T *)(forward ? a.y : a.dx) + t.first * width;
    float sum[TILE_ROWS] = {};
    tile_product<T>{
        from, w, depth, 1, forward ? 1 : a.in, forward ? a.in : 1, t.count, width, depth}
        .run(column, sum);
    const int x = threadIdx.x % TILE, y = threadIdx.x / TILE;
#pragma unroll
    for (int u = 0; u < TILE_ROWS; u++) {
        int row = y + u * (TILE_THREADS / TILE);
        if (row < t.count && column + x < width)
            store(to, row * width + column + x, sum[u]);
    }
}

/* dW of one expert += dy^T x. */
template <class T>
__global__ void __launch_bounds__(TILE_THREADS) expert_dw_kernel(struct op_expert_matmul a)
{
    const int64_t e = blockIdx.z, first = a.offset[e], count = a.offset[e + 1] - first;
    const int64_t column = (int64_t)blockIdx.x * TILE, row = (int64_t)blockIdx.y * TILE;
    const T *dy = (const T *)a.dy + first * a.out + row, *x = (const T *)a.x + first * a.in;
    float sum[TILE_ROWS] = {};
    tile_product<T>{dy, x, 1, a.out, a.in, 1, a.out - row, a.in, count}.run(column, sum);
    const int64_t j = column + threadIdx.x % TILE;
#pragma unroll
    for (int u = 0; u < TILE_ROWS; u++) {
        int64_t i = row + threadIdx.x / TILE + u * (TILE_THREADS / TILE);
        if (i < a.out && j < a.in)
            a.dw[e * a.ldw + i * a.in + j] += sum[u];
    }
}

template <class T> static void expert_matmul(struct dev *d, const struct op_expert_matmul *a)
{
    unsigned tiles = blocks_of(a->n, TILE) + (unsigned)a->experts;
    if (a->y)
        launch<expert_rows_kernel<T, true>>(
            d, dim3(blocks_of(a->out, TILE), tiles), TILE_THREADS, 0, *a);
    if (a->dx)
        launch<expert_rows_kernel<T, false>>(
            d, dim3(blocks_of(a->in, TILE), tiles), TILE_THREADS, 0, *a);
    if (a->dw)
        launch<expert_dw_kernel<T>>(d,
            dim3(blocks_of(a->in, TILE), blocks_of(a->out, TILE), (unsigned)a->experts),
            TILE_THREADS, 0, *a);
}

/* Tiles of rows, or of a matrix, are the grid's second dimension. */
extern "C" void op_cuda_expert_matmul(struct dev *d, const struct op_expert_matmul *a)
{
    if (a->n / TILE + a->experts >= 65535 || a->out / TILE >= 65535) {
        cuda_refuse(d, "the product of experts with %lld rows at once", (long long)a->n);
        return;
    }
    if (a->n > 0)
        WITH_TYPE(a->t, T, expert_matmul<T>(d, a));
}

/* -- stored blocks -- */

template <class T> struct dot_dense {
    __device__ static float dot(const uint8_t *w, const float *x, int64_t k)
    {
        float sum = 0;
        for (int64_t i = threadIdx.x % WARP; i < k; i += WARP)
            sum = fmaf(load((const T *)w, i), x[i], sum);
        return sum;
    }
};

template <enum dtype t> struct dot_blocks {
    __device__ static float dot(const uint8_t *w, const float *x, int64_t k)
    {
        float sum = 0;
        for (int64_t i = threadIdx.x % WARP; i < k / 4; i += WARP) {
            pack<float, 4> four = quant_four<quant<t>>(w, i);
#pragma unroll
            for (int l = 0; l < 4; l++)
                sum = fmaf(four.e[l], x[4 * i + l], sum);
        }
        return sum;
    }
};

/* y[row, o] by a warp; the expert is the last whose rows begin at or before `row`. */
template <class D>
__global__ void __launch_bounds__(DOT_WARPS *WARP)
    expert_dot_kernel(struct op_expert_quant_matmul a, int64_t row_bytes)
{
    const int64_t row = blockIdx.y, o = (int64_t)blockIdx.x * DOT_WARPS + threadIdx.x / WARP;
    int64_t low = 0, high = a.experts;
    while (high - low > 1) {
        int64_t middle = (low + high) / 2;
        if (a.offset[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    if (o >= a.out || row < a.offset[low] || row >= a.offset[low + 1])
        return;
    const uint8_t *w = (const uint8_t *)a.w + low * a.stride + o * row_bytes;
    float sum = warp_sum(D::dot(w, a.x + row * a.in, a.in));
    if (threadIdx.x % WARP == 0)
        a.y[row * a.out + o] = sum;
}

template <class D> static void expert_dot(struct dev *d, const struct op_expert_quant_matmul *a)
{
    launch<expert_dot_kernel<D>>(d, dim3(blocks_of(a->out, DOT_WARPS), (unsigned)a->n),
        DOT_WARPS * WARP, 0, *a, dtype_bytes(a->w_type, a->in));
}

extern "C" void op_cuda_expert_quant_matmul(struct dev *d, const struct op_expert_quant_matmul *a)
{
    if (dtype_bytes(a->w_type, a->in) < 0 || a->n >= 65536) {
        cuda_refuse(d, "a product of %lld rows with experts' rows of %lld weights of %s",
            (long long)a->n, (long long)a->in, dtype_name(a->w_type));
        return;
    }
    if (a->n <= 0)
        return;
    switch (a->w_type) {
    case DTYPE_F32:
        expert_dot<dot_dense<float>>(d, a);
        return;
    case DTYPE_BF16:
        expert_dot<dot_dense<bf16>>(d, a);
        return;
    case DTYPE_F16:
        expert_dot<dot_dense<f16>>(d, a);
        return;
#define EXPERT_BLOCKS(t) \
    case t: \
        expert_dot<dot_blocks<t>>(d, a); \
        return;
        EXPERT_BLOCKS(DTYPE_Q8_0)
        EXPERT_BLOCKS(DTYPE_Q4_0)
        EXPERT_BLOCKS(DTYPE_Q4_1)
        EXPERT_BLOCKS(DTYPE_Q5_0)
        EXPERT_BLOCKS(DTYPE_Q5_1)
        EXPERT_BLOCKS(DTYPE_Q4_K)
        EXPERT_BLOCKS(DTYPE_Q5_K)
        EXPERT_BLOCKS(DTYPE_Q6_K)
#undef EXPERT_BLOCKS
    case DTYPE_I32:
    case DTYPE_U8:
    case DTYPES:
        break;
    }
    cuda_refuse(d, "no product with weights of %s", dtype_name(a->w_type));
}
