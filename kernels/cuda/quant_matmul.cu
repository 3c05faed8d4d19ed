/*
 * quant_matmul: y = x W^T for few rows of x: decoding. Bound by the memory that W comes from, so W
 * is read once for up to 8 rows of x, in 16-byte asynchronous copies that are several chunks ahead
 * of what is being multiplied. W is F32, BF16, F16 or GGUF blocks. The result is the reference's up
 * to the order of sums, which is fixed.
 *
 * A block walks over groups of rows of W; each of its warps owns R rows of a group and has its own
 * ring of STAGES chunks in shared memory, filled and emptied by that warp alone. x stands in shared
 * memory for the whole block: all of it where it fits, else a slice of its columns at a time, in
 * groups of 32 columns (x_floats).
 */
#include "kernels/cuda/quant.cuh"

#define STAGES   4
#define WARPS    8     /* at most, a block */
#define BATCH    8     /* rows of x that one reading of W serves */
#define X_FLOATS 16384 /* at most, in shared memory, rows times columns */
#define ROOM(bytes) \
    (((bytes) + 15) / 16 * 16 + 32) /* of a chunk: misalignment, quant_near's word */

struct quant_product {
    int64_t k, row_bytes;
    const uint8_t *w, *w_end;
    const float *x;
    float *y;
    int n, m;         /* m: at most M */
    int chunks;       /* of a row of W */
    int slice_chunks; /* whose columns of x are in shared memory at a time */
};

__device__ static inline float dot4(float sum, const float w[4], const pack<float, 4> &x)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        sum = fmaf(w[i], x.e[i], sum);
    return sum;
}

/* -- 32 columns of a row of x in shared memory: `words` of it, a multiple of 4 but not of 8, so
   that lanes that read neighbouring groups hit different banks. `store` puts v at `column`, a warp
   at a time; `sum` is that of all 32 (where stored with SUMS); `dots` are the products of part s of
   a group of R rows of W, as words of numbers, with M groups of x, x_ld apart. -- */
struct x_floats {
    static constexpr int words = 36; /* the columns, their sum, 3 unused */

    template <bool SUMS>
    __device__ static void store(float *group, int column, const pack<float, 4> &v)
    {
        store_pack_shared(group + column, v);
        if (!SUMS)
            return;
        float all = (v.e[0] + v.e[1]) + (v.e[2] + v.e[3]);
        for (int j = 4; j; j /= 2)
            all += __shfl_xor_sync(FULL, all, j);
        if (column == 0)
            group[QUANT_GROUP] = all;
    }
    __device__ static float sum(const float *group)
    {
        return group[QUANT_GROUP];
    }
    template <class Q, int M, int R>
    __device__ static void dots(
        const uint32_t word[R][Q::words], const float *x, int x_ld, int s, float dot[M][R])
    {
#pragma unroll
        for (int j = 0; j < Q::words; j++) {
            float w[R][4];
#pragma unroll
            for (int r = 0; r < R; r++)
                quant_numbers<Q::bias>(word[r][j], w[r]);
#pragma unroll
            for (int m = 0; m < M; m++) {
                pack<float, 4> v = load_pack<float, 4>(x + m * x_ld + 4 * (Q::words * s + j));
#pragma unroll
                for (int r = 0; r < R; r++)
                    dot[m][r] = dot4(dot[m][r], w[r], v);
            }
        }
    }
};

/* -- chunks of W: `add` multiplies the chunk of each of R rows, at p in shared memory, with M rows
   of x, x_ld apart; `left` columns of the row are valid. `whole`: every row of W begins at a
   multiple of 16 bytes and ends at one. -- */

/* Elements without blocks. Lanes take four neighbouring columns at a time. */
template <class T, bool WHOLE> struct quant_dense {
    static constexpr bool whole = WHOLE;
    static constexpr int columns = 1024 / sizeof(T), bytes = 1024;
    static constexpr bool has_min = false;
    static constexpr int rows_of(int m)
    {
        return m == BATCH ? 4 : 2;
    }

    __device__ static void quad(const uint8_t *p, int column, int left, float out[4])
    {
        if constexpr (whole) {
            pack<T, 4> v = load_pack<T, 4>((const T *)p + column);
#pragma unroll
            for (int i = 0; i < 4; i++)
                out[i] = to_float(v.e[i]);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++)
                out[i] = column + i < left ? load((const T *)p, column + i) : 0;
        }
    }
    template <int M, int R>
    __device__ static void add(
        const uint8_t *const p[R], const float *x, int x_ld, int left, float sum[M][R])
    {
#pragma unroll
        for (int i = 0; i < columns / (4 * WARP); i++) {
            int column = 4 * WARP * i + 4 * (int)(threadIdx.x % WARP);
            int at = column / QUANT_GROUP * x_floats::words + column % QUANT_GROUP;
            float w[R][4];
            if (column >= left)
                return;
#pragma unroll
            for (int r = 0; r < R; r++)
                quad(p[r], column, left, w[r]);
#pragma unroll
            for (int m = 0; m < M; m++) {
                pack<float, 4> v = load_pack<float, 4>(x + m * x_ld + at);
#pragma unroll
                for (int r = 0; r < R; r++)
                    sum[m][r] = dot4(sum[m][r], w[r], v);
            }
        }
    }
};

/* Blocks. A lane takes a group of 32 columns; the scale is applied to the group's sum. */
template <enum dtype t> struct quant_blocks {
    using Q = quant<t>;
    static constexpr int columns = QUANT_GROUP * WARP, bytes = columns / Q::columns * Q::bytes;
    static constexpr bool whole = false;
    static constexpr bool has_min = Q::has_min;
    static constexpr int rows_of(int)
    {
        return 4;
    }

    /* Part s of group `sub` of the block at p + at. */
    template <int M, int R>
    __device__ static void add_part(const uint8_t *const p[R], int at, int sub, int s,
        const float *x, int x_ld, float sum[M][R])
    {
        using part = typename Q::template part<quant_near>;
        uint32_t word[R][Q::words];
        float dot[M][R] = {};
#pragma unroll
        for (int r = 0; r < R; r++) {
            part numbers(p[r] + at, sub, s);
#pragma unroll
            for (int j = 0; j < Q::words; j++)
                word[r][j] = numbers.word(j);
        }
        x_floats::dots<Q, M, R>(word, x, x_ld, s, dot);
#pragma unroll
        for (int r = 0; r < R; r++) {
            float scale = Q::scale(p[r] + at, sub, s);
#pragma unroll
            for (int m = 0; m < M; m++)
                sum[m][r] = fmaf(scale, dot[m][r], sum[m][r]);
        }
    }
    template <int M, int R>
    __device__ static void add(
        const uint8_t *const p[R], const float *x, int x_ld, int left, float sum[M][R])
    {
        constexpr int groups = Q::columns / QUANT_GROUP;
        int lane = threadIdx.x % WARP, sub = lane % groups;
        int at = lane / groups * Q::bytes;
        if (QUANT_GROUP * lane >= left)
            return;
        x += x_floats::words * lane;
#pragma unroll
        for (int s = 0; s < Q::parts; s++)
            add_part<M, R>(p, at, sub, s, x, x_ld, sum);
#pragma unroll
        for (int r = 0; has_min && r < R; r++) {
            float min = Q::min(p[r] + at, sub);
#pragma unroll
            for (int m = 0; m < M; m++)
                sum[m][r] = fmaf(min, x_floats::sum(x + m * x_ld), sum[m][r]);
        }
    }
};

/* -- moving -- */
/* Columns [column, column + 4) of row m of x (m, k), with zeros beyond k and m. */
__device__ static inline pack<float, 4> load_x(const quant_product &a, int m, int64_t column)
{
    const float *p = a.x + m * a.k + column;
    int64_t left = m < a.m ? a.k - column : 0;
    pack<float, 4> v = {};
    if (left >= 4 && a.k % 4 == 0 && (uintptr_t)a.x % 16 == 0)
        return load_pack<float, 4>(p);
    for (int j = 0; j < 4 && j < left; j++)
        v.e[j] = p[j];
    return v;
}

/* Copies columns [from, from + columns) of x to x_room, rows x_ld words apart; columns is a
   multiple of what a warp copies at a time. */
template <class S, int M>
__device__ static void copy_x(
    const quant_product &a, int64_t from, int columns, float *x_room, int x_ld)
{
    for (int i = 4 * (int)threadIdx.x; i < M * columns; i += 4 * blockDim.x) {
        int m = i / columns, column = i % columns;
        float *row = x_room + m * x_ld;
        x_floats::store<S::has_min>(row + column / QUANT_GROUP * x_floats::words,
            column % QUANT_GROUP, load_x(a, m, from + column));
    }
}

/* 16 bytes at `from`, of which those in [a.w, a.w_end) exist. */
__device__ static void copy_w_end(const quant_product &a, uint8_t *to, const uint8_t *from)
{
#pragma unroll 1
    for (int i = 0; i < 16; i++)
        to[i] = from + i >= a.w && from + i < a.w_end ? from[i] : 0;
}

/* Where a warp is: at a chunk of its rows of W. */
struct quant_place {
    const uint8_t *first; /* of that chunk of the first row */
    int row, chunk;

    /* rows: to the first of its next rows */
    template <class S> __device__ void advance(const quant_product &a, int rows)
    {
        first += S::bytes;
        if (++chunk < a.chunks)
            return;
        first += rows * a.row_bytes - (int64_t)a.chunks * S::bytes;
        row += rows;
        chunk = 0;
    }
    /* The chunk of row + r; of the last row instead of those that do not exist. */
    __device__ const uint8_t *source(const quant_product &a, int r) const
    {
        return first + min(r, a.n - 1 - row) * a.row_bytes;
    }
};

/* Begins to copy a chunk of R rows to `stage`, one behind the other, each from the multiple of 16
   bytes before its first. */
template <class S, int R>
__device__ static inline void copy_w(const quant_product &a, const quant_place &at, uint8_t *stage)
{
    if (at.row < a.n) {
        int64_t rest = a.row_bytes - (int64_t)at.chunk * S::bytes;
        int bytes = rest < S::bytes ? (int)rest : S::bytes;
#pragma unroll
        for (int r = 0; r < R; r++) {
            const uint8_t *from = at.source(a, r);
            int off = S::whole ? 0 : (int)((uintptr_t)from % 16);
            uint8_t *to = stage + r * ROOM(S::bytes);
            from -= off;
            for (int i = 16 * (int)(threadIdx.x % WARP); i < off + bytes; i += 16 * WARP) {
                if (S::whole || (from + i >= a.w && from + i + 16 <= a.w_end))
                    copy_async16(to + i, from + i, true);
                else
                    copy_w_end(a, to + i, from + i);
            }
        }
    }
    copy_async_commit();
}

/* -- the product -- */
/* Adds the lanes' sums up, in a fixed order, and writes them. */
template <int M, int R>
__device__ static inline void write_y(const quant_product &a, int row, float sum[M][R])
{
    int lane = threadIdx.x % WARP, m = lane / R, r = lane % R;
    float mine = 0;

#pragma unroll
    for (int i = 0; i < M * R; i++) {
        float all = warp_sum(sum[i / R][i % R]);
        mine = lane == i ? all : mine;
        sum[i / R][i % R] = 0;
    }
    if (m < M && m < a.m && row + r < a.n)
        a.y[(int64_t)m * a.n + row + r] = mine;
}

template <class S, int M, int R>
__global__ void __launch_bounds__(WARP *WARPS) quant_matmul_kernel(quant_product a)
{
    constexpr int stage_bytes = R * ROOM(S::bytes);
    SHARED(float, x_room);
    int warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    constexpr int x_chunk = S::columns / QUANT_GROUP * x_floats::words;
    int x_ld = a.slice_chunks * x_chunk;
    uint8_t *ring = (uint8_t *)(x_room + M * x_ld) + warp * STAGES * stage_bytes;
    int block_rows = warps * R, rows = (int)gridDim.x * block_rows;
    int first = (int)blockIdx.x * block_rows; /* below n */
    int64_t steps = (int64_t)((a.n - 1 - first) / rows + 1) * a.chunks;
    int row = first + warp * R, in_slice = 0;
    quant_place at = {a.w + row * a.row_bytes, row, 0}, ahead = at;
    float sum[M][R] = {};

#pragma unroll 1
    for (int i = 0; i < STAGES - 1; i++) {
        copy_w<S, R>(a, ahead, ring + i * stage_bytes);
        ahead.advance<S>(a, rows);
    }
    for (int64_t step = 0; step < steps; step++) {
        if (in_slice == 0 && (step == 0 || a.slice_chunks < a.chunks)) {
            int columns = min(a.chunks - at.chunk, a.slice_chunks) * S::columns;
            __syncthreads(); /* the last slice has been used */
            copy_x<S, M>(a, (int64_t)at.chunk * S::columns, columns, x_room, x_ld);
            __syncthreads();
        }
        copy_async_wait<STAGES - 2>();
        __syncwarp(); /* this chunk has arrived, and the one before has been used */
        copy_w<S, R>(a, ahead, ring + (int)(step + STAGES - 1) % STAGES * stage_bytes);
        ahead.advance<S>(a, rows);

        const uint8_t *stage = ring + (int)step % STAGES * stage_bytes, *p[R];
        int64_t left = a.k - (int64_t)at.chunk * S::columns;
#pragma unroll
        for (int r = 0; r < R; r++)
            p[r] = stage + r * ROOM(S::bytes) + (S::whole ? 0 : (uintptr_t)at.source(a, r) % 16);
        if (at.row < a.n)
            S::template add<M, R>(p, x_room + in_slice * x_chunk, x_ld,
                left < S::columns ? (int)left : S::columns, sum);
        if (at.chunk == a.chunks - 1)
            write_y<M, R>(a, at.row, sum);
        at.advance<S>(a, rows);
        in_slice = at.chunk == 0 || in_slice + 1 == a.slice_chunks ? 0 : in_slice + 1;
    }
}

/* -- launching -- */
template <class S, int M> static void launch_rows(struct dev *d, quant_product a)
{
    constexpr int R = S::rows_of(M);
    constexpr size_t ring = STAGES * R * ROOM(S::bytes);
    struct cuda_dev *c = (struct cuda_dev *)d;
    int slice = X_FLOATS / M / S::columns, warps = WARPS;

    a.slice_chunks = slice < a.chunks ? slice : a.chunks;
    size_t x =
        sizeof(float) * M * (size_t)a.slice_chunks * S::columns / QUANT_GROUP * x_floats::words;
    /* Fewer warps a block where the rows would not reach every multiprocessor, or the memory
       does not suffice. */
    while (warps > 1 &&
        (2 * blocks_of(a.n, warps * R) <= (unsigned)c->sm_count ||
            x + warps * ring > c->shared_max))
        warps /= 2;
    size_t shared = x + (size_t)warps * ring;
    int64_t blocks = blocks_of(a.n, warps * R);
    int64_t resident = (int64_t)(c->shared_max / shared); /* blocks a multiprocessor */
    resident = c->sm_count * (resident < 1 ? 1 : resident > 4 ? 4 : resident);
    launch<quant_matmul_kernel<S, M, R>>(d, dim3((unsigned)(blocks < resident ? blocks : resident)),
        (unsigned)(warps * WARP), shared, a);
}

template <class S> static void quant_matmul(struct dev *d, const struct op_quant_matmul *a)
{
    quant_product p = {};

    p.n = (int)a->n;
    p.k = a->k;
    p.row_bytes = dtype_bytes(a->w_type, a->k);
    p.w = (const uint8_t *)a->w;
    p.w_end = p.w + a->n * p.row_bytes;
    p.chunks = (int)((a->k + S::columns - 1) / S::columns);
    for (int64_t i = 0; i < a->m; i += BATCH) {
        int64_t rows = a->m - i;
        p.m = rows < BATCH ? (int)rows : BATCH;
        p.x = a->x + i * a->k;
        p.y = a->y + i * a->n;
        if (p.m > 4)
            launch_rows<S, BATCH>(d, p);
        else if (p.m > 2)
            launch_rows<S, 4>(d, p);
        else if (p.m == 2)
            launch_rows<S, 2>(d, p);
        else
            launch_rows<S, 1>(d, p);
    }
}

template <class T> static void dense_matmul(struct dev *d, const struct op_quant_matmul *a)
{
    if ((uintptr_t)a->w % 16 == 0 && a->k * sizeof(T) % 16 == 0)
        quant_matmul<quant_dense<T, true>>(d, a);
    else
        quant_matmul<quant_dense<T, false>>(d, a);
}

template <enum dtype t> static void blocks_matmul(struct dev *d, const struct op_quant_matmul *a)
{
    quant_matmul<quant_blocks<t>>(d, a);
}

static void one_matmul(struct dev *d, const struct op_quant_matmul *a)
{
    if (a->k <= 0 || a->k > INT32_MAX || a->n > INT32_MAX / 2 || dtype_bytes(a->w_type, a->k) < 0) {
        cuda_refuse(d, "a product with %lld rows of %lld weights of %s", (long long)a->n,
            (long long)a->k, dtype_name(a->w_type));
        return;
    }
    if (a->n <= 0)
        return;
    switch (a->w_type) {
    case DTYPE_F32:
        dense_matmul<float>(d, a);
        return;
    case DTYPE_BF16:
        dense_matmul<bf16>(d, a);
        return;
    case DTYPE_F16:
        dense_matmul<f16>(d, a);
        return;
    case DTYPE_Q8_0:
        blocks_matmul<DTYPE_Q8_0>(d, a);
        return;
    case DTYPE_Q4_0:
        blocks_matmul<DTYPE_Q4_0>(d, a);
        return;
    case DTYPE_Q4_1:
        blocks_matmul<DTYPE_Q4_1>(d, a);
        return;
    case DTYPE_Q5_0:
        blocks_matmul<DTYPE_Q5_0>(d, a);
        return;
    case DTYPE_Q5_1:
        blocks_matmul<DTYPE_Q5_1>(d, a);
        return;
    case DTYPE_Q4_K:
        blocks_matmul<DTYPE_Q4_K>(d, a);
        return;
    case DTYPE_Q5_K:
        blocks_matmul<DTYPE_Q5_K>(d, a);
        return;
    case DTYPE_Q6_K:
        blocks_matmul<DTYPE_Q6_K>(d, a);
        return;
    case DTYPE_I32:
    case DTYPE_U8:
    case DTYPES:
        break;
    }
    cuda_refuse(d, "no product with weights of %s", dtype_name(a->w_type));
}

extern "C" void op_cuda_quant_matmul(struct dev *d, const struct op_quant_matmul *a)
{
    for (; a; a = a->next)
        one_matmul(d, a);
}
