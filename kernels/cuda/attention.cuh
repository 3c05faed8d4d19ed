/*
 * attention: what the attention kernels share: which tile a block computes, tiles of E in shared
 * memory, and the two products they are made of. One warp owns MT times 16 rows of a block's tile;
 * what it accumulates stays in registers, and scores become the left operand of the next product
 * without leaving them (FlashAttention-2, arXiv:2307.08691). E is bf16 or f16.
 *
 * Rows in shared memory are D + 8 elements apart: an odd number of 16-byte pieces, so that the
 * eight rows of an ldmatrix lie in different banks. D is the head size rounded up to a tile's; the
 * columns in between are zeros. attention_plain.cu computes what this layout cannot hold.
 */
#ifndef KERNELS_CUDA_ATTENTION_CUH
#define KERNELS_CUDA_ATTENTION_CUH

#include "kernels/cuda/kernel.cuh"

#ifdef LLMJOB_CUDASIM
#define UNROLL
#define UNROLL_KEPT
#else
#define UNROLL      _Pragma("unroll")
#define UNROLL_KEPT _Pragma("unroll (KEEP ? 8 : 4)")
#endif

#define ATTENTION_THREADS 128
#define ATTENTION_WARPS   (ATTENTION_THREADS / WARP)
#define ATTENTION_PAD     8
#define LOG2E             1.44269504088896340736f

/* 16 bytes that move at once */
struct alignas(16) four_words {
    uint32_t v[4];
};
struct alignas(16) four_floats {
    float v[4];
};

/* Of one query, for the backward pass: p = exp2(scale2 * s - lse2), ds = p * (dp - delta). Rows
   that do not exist have lse2 = infinity: their p is 0. */
struct alignas(8) attention_stat {
    float lse2, delta;
};

/* One launch: tiles of `heads` heads, each (sequence, head) pair counted from `first`. */
struct attention_job {
    struct op_attention a;
    float scale2; /* scale * log2(e): exponentials have base 2 */
    int first, heads;
    struct attention_stat *stats; /* (heads of queries from first, stats_rows); backward */
    int64_t stats_rows;
};

/* The grid is (section, tiles, sections): section by section; in one, all heads' first tiles, then
   all second ones, in the order of decreasing work, so that the short ones fill the end. The last
   section's grid may be too wide: those blocks leave. */
__device__ inline bool attention_beyond(const struct attention_job &j)
{
    return blockIdx.z * gridDim.x + blockIdx.x >= (unsigned)j.heads;
}
__device__ inline int attention_head(const struct attention_job &j)
{
    return j.first + (int)(blockIdx.z * gridDim.x + blockIdx.x);
}
__device__ inline int attention_tile(bool last_first)
{
    return (int)(last_first ? gridDim.y - 1 - blockIdx.y : blockIdx.y);
}

/* Tokens of a sequence are counted in int: attention_check. */
__device__ inline int attention_length(const struct op_attention &a, int64_t b)
{
    int n = a.length ? a.length[b] : (int)a.tokens;
    return n < 0 ? 0 : n < a.tokens ? n : (int)a.tokens;
}

/* All keys of a sequence, those before its queries included; the ones that exist. */
__device__ inline int64_t attention_keys(const struct op_attention &a)
{
    return a.before + a.tokens;
}
__device__ inline int attention_keys_length(const struct op_attention &a, int64_t b)
{
    return (int)a.before + attention_length(a, b);
}

/* Of the queries [row, row + rows), behind the last key that one of them sees. */
__device__ inline int attention_keys_end(const struct op_attention &a, int64_t b, int row, int rows)
{
    int length = attention_length(a, b);
    int end = a.bidirectional ? length : (int)a.before + min(length, row + rows);
    return row >= length ? 0 : end;
}

/* The first query that may see a key. */
__device__ inline int attention_queries_from(const struct op_attention &a, int key)
{
    return a.bidirectional ? 0 : max(key - (int)a.before, 0);
}

/* The first key that query `row` of sequence b sees, or would see behind the end. */
__device__ inline int attention_first(const struct op_attention &a, int64_t b, int row)
{
    return a.first ? a.first[b * a.tokens + min(row, (int)a.tokens - 1)] : 0;
}

/* Behind the last of the first `length` queries that see any key up to `key`: they are one run. */
__device__ inline int attention_queries_end(
    const struct op_attention &a, int64_t b, int length, int key)
{
    int low = min(attention_queries_from(a, key), length), high = length; /* it sees itself */
    while (a.first && low < high) {
        int middle = low + (high - low) / 2;
        if (attention_first(a, b, middle) <= key)
            low = middle + 1;
        else
            high = middle;
    }
    return high;
}

#ifdef LLMJOB_CUDASIM
__device__ inline float exp2_fast(float x)
{
    return exp2f(x);
}
template <class E> __device__ inline uint32_t pack_pair(float low, float high)
{
    return from_float<E>(low).bits | (uint32_t)from_float<E>(high).bits << 16;
}
#else
__device__ inline float exp2_fast(float x) /* exp2f without its care for denormal results */
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
template <class E> __device__ inline uint32_t pack_pair(float low, float high);
template <> __device__ inline uint32_t pack_pair<bf16>(float low, float high)
{
    uint32_t y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}
template <> __device__ inline uint32_t pack_pair<f16>(float low, float high)
{
    uint32_t y;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}
#endif

template <class E> __device__ inline float pair_low(uint32_t w)
{
    return to_float(E{(uint16_t)w});
}
template <class E> __device__ inline float pair_high(uint32_t w)
{
    return to_float(E{(uint16_t)(w >> 16)});
}

__device__ inline float quad_sum(float x) /* of the four lanes that hold a row */
{
    x += __shfl_xor_sync(FULL, x, 1);
    return x + __shfl_xor_sync(FULL, x, 2);
}
__device__ inline float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(FULL, x, 1));
    return fmaxf(x, __shfl_xor_sync(FULL, x, 2));
}

/* Starts copying ROWS rows of d elements from p, ld apart, of which the first `valid` exist: a
   thread takes one column of 16-byte pieces, and every STEP-th row. */
template <int D, int ROWS, class E>
__device__ inline void tile_copy(E *tile, const E *p, int64_t ld, int valid, int64_t d)
{
    constexpr int PIECES = D <= 32 ? 4 : D <= 64 ? 8 : 16, STEP = ATTENTION_THREADS / PIECES;
    int row = (int)threadIdx.x / PIECES, c = (int)threadIdx.x % PIECES * 8;
    int rows = c < d ? (valid < ROWS ? valid : ROWS) : 0;
    if (c >= D)
        return;
    p += row * ld + c;
    tile += row * (D + ATTENTION_PAD) + c;
    UNROLL
    for (int i = 0; i < ROWS; i += STEP) {
        copy_async16(tile + i * (D + ATTENTION_PAD), p, row + i < rows);
        p += STEP * ld;
    }
}

/* Left operand of tile_product_t: MT * 16 rows of D elements in shared memory; with KEEP they are
   read once and stay in registers. */
template <class E, int D, int MT, bool KEEP> struct tile_rows {
    const E *at;
    uint32_t kept[KEEP ? D / 16 : 1][MT][4];

    __device__ inline void read(uint32_t (&x)[MT][4], int k) const
    {
        UNROLL
        for (int m = 0; m < MT; m++)
            ldmatrix_x4(x[m], at + m * 16 * (D + ATTENTION_PAD) + k * 16);
    }
    __device__ inline void set(const E *tile)
    {
        int lane = threadIdx.x % WARP;
        at = tile + lane % 16 * (D + ATTENTION_PAD) + lane / 16 * 8;
        if (KEEP) {
            UNROLL
            for (int k = 0; k < D / 16; k++)
                read(kept[KEEP ? k : 0], k);
        }
    }
};

template <int MT, int NT> __device__ inline void tile_zero(float (&acc)[MT][NT][4])
{
    UNROLL
    for (int i = 0; i < MT * NT * 4; i++)
        acc[i / 4 / NT][i / 4 % NT][i % 4] = 0;
}

/* acc (MT * 16, NT * 8) = X (MT * 16, D) * Y^T, Y (NT * 8, D) in shared memory */
template <int D, int MT, int NT, bool KEEP, class E>
__device__ inline void tile_product_t(
    float (&acc)[MT][NT][4], const tile_rows<E, D, MT, KEEP> &x, const E *y)
{
    constexpr int LD = D + ATTENTION_PAD;
    int lane = threadIdx.x % WARP;
    y += (lane % 8 + lane / 16 * 8) * LD + lane / 8 % 2 * 8;
    tile_zero(acc);
    UNROLL_KEPT /* the rest would be read too far ahead, into registers that are not there */
        for (int k = 0; k < D / 16; k++)
    {
        uint32_t left[MT][4];
        if (!KEEP)
            x.read(left, k);
        UNROLL
        for (int n = 0; n < NT; n += 2) {
            uint32_t right[4];
            ldmatrix_x4(right, y + n * 8 * LD + k * 16);
            UNROLL
            for (int m = 0; m < MT; m++) {
                const uint32_t *l = KEEP ? x.kept[KEEP ? k : 0][m] : left[m];
                mma_16816<E>(acc[m][n], l, right);
                mma_16816<E>(acc[m][n + 1], l, right + 2);
            }
        }
    }
}

/* acc (MT * 16, D) += X (MT * 16, KT * 16), as tile_pack left it, * Y (KT * 16, D) in shared
   memory */
template <int D, int MT, int KT, class E>
__device__ inline void tile_product(
    float (&acc)[MT][D / 8][4], const uint32_t (&x)[MT][KT][4], const E *y)
{
    constexpr int LD = D + ATTENTION_PAD;
    int lane = threadIdx.x % WARP;
    y += lane % 16 * LD + lane / 16 * 8;
    UNROLL
    for (int k = 0; k < KT; k++) {
        UNROLL
        for (int n = 0; n < D / 8; n += 2) {
            uint32_t right[4];
            ldmatrix_x4_trans(right, y + k * 16 * LD + n * 8);
            UNROLL
            for (int m = 0; m < MT; m++) {
                mma_16816<E>(acc[m][n], x[m][k], right);
                mma_16816<E>(acc[m][n + 1], x[m][k], right + 2);
            }
        }
    }
}

/* An accumulated product, rounded, as the left operand of the next one: the fragments coincide. */
template <class E, int MT, int NT>
__device__ inline void tile_pack(uint32_t (&x)[MT][NT / 2][4], const float (&acc)[MT][NT][4])
{
    UNROLL
    for (int m = 0; m < MT; m++) {
        UNROLL
        for (int k = 0; k < NT / 2; k++) {
            UNROLL
            for (int i = 0; i < 4; i++)
                x[m][k][i] = pack_pair<E>(
                    acc[m][2 * k + i / 2][i % 2 * 2], acc[m][2 * k + i / 2][i % 2 * 2 + 1]);
        }
    }
}

/*
 * Writes a warp's MT * 16 rows times factor[m][0, 1] (rows 16m + lane / 4, and + 8) to out, ld
 * apart: `rows` of them, zeros from `valid` on. They pass through `tile`, shared memory of the
 * warp's own, for whole 16-byte pieces in a row.
 */
template <int D, int MT, class E>
__device__ inline void tile_write(E *out, int64_t ld, int64_t rows, int64_t valid, int64_t d,
    E *tile, const float (&acc)[MT][D / 8][4], const float (&factor)[MT][2])
{
    constexpr int LD = D + ATTENTION_PAD, PIECES = D / 8;
    int lane = threadIdx.x % WARP;
    __syncwarp();
    UNROLL
    for (int m = 0; m < MT; m++) {
        UNROLL
        for (int n = 0; n < D / 8; n++) {
            UNROLL
            for (int i = 0; i < 2; i++) {
                uint32_t two = pack_pair<E>(
                    acc[m][n][2 * i] * factor[m][i], acc[m][n][2 * i + 1] * factor[m][i]);
                int row = m * 16 + i * 8 + lane / 4;
                *(uint32_t *)(tile + row * LD + n * 8 + lane % 4 * 2) = two;
            }
        }
    }
    __syncwarp();
    for (int i = lane; i < MT * 16 * PIECES; i += WARP) {
        int row = i / PIECES, c = i % PIECES * 8;
        if (row >= rows || c >= d)
            continue;
        struct four_words x = *(const struct four_words *)(tile + row * LD + c);
        if (row >= valid)
            x = {};
        *(struct four_words *)(out + row * ld + c) = x;
    }
}

/* -- host -- */

/* Whether the shape fits the tiles of tensor cores: 16-byte pieces, head size up to 128. What drops
   probabilities is computed without them: no registers are left there for what is drawn. */
static inline bool attention_fits(const struct op_attention *a, bool back)
{
    uintptr_t bits = (uintptr_t)a->q | (uintptr_t)a->k | (uintptr_t)a->v | (uintptr_t)a->o;
    if (back)
        bits |= (uintptr_t)a->dout | (uintptr_t)a->dq | (uintptr_t)a->dk | (uintptr_t)a->dv;
    return a->t != DTYPE_F32 && !(a->drop.p > 0) && bits % 16 == 0 && a->d <= 128 &&
        (a->d | a->ldq | a->ldk | a->ldv) % 8 == 0;
}

/* Refuses what no kernel computes. */
bool attention_check(struct dev *d, const struct op_attention *a);

/* The grid of a launch over `heads` heads of so many tokens in tiles of `rows`; read_bytes: what
   the tiles of one head read again and again. */
dim3 attention_grid(int64_t tokens, int64_t heads, int64_t rows, int64_t read_bytes);

/* Any type, stride and alignment, head sizes up to ATTENTION_PLAIN_D, without tensor cores. */
#define ATTENTION_PLAIN_D 256
void attention_plain(struct dev *d, const struct op_attention *a);
/* The heads of queries, and of keys, of one part of attention_back. */
void attention_plain_back(
    struct dev *d, const struct attention_job *query, const struct attention_job *key);

#endif
