/*
 * attention_plain: attention and its gradients without tensor cores, in F32 arithmetic: for F32
 * tensors, and for those of 16 bits whose strides, addresses or head size do not fit the tiles of
 * attention.cu, or whose probabilities are dropped. The same division of work: a block of 128
 * threads owns rows of queries (or of keys, for dk and dv) and walks the others in tiles of 32, or
 * fewer rows where a block's shared memory does not hold those; operands are converted to F32 as
 * they enter it.
 *
 * Thread 8r + c of a block computes rows r + 16i and, of a product of two tiles, columns c + 8j, of
 * a tile of D columns those at 32n + 4c. Rows in shared memory are D + 4 floats apart, so that the
 * eight rows that a quarter of a warp reads, 16 bytes each, lie in different banks.
 */
#include "kernels/cuda/attention.cuh"

#define SIDE 32 /* rows of a tile */
#define PAD  4  /* of a row, of scores too */

struct plain_thread {
    int r, c;
};
__device__ inline struct plain_thread plain_thread()
{
    return {(int)threadIdx.x / 8, (int)threadIdx.x % 8};
}

/* Whole rows of 8 lanes. */
__device__ inline float row_sum(float x)
{
    x = quad_sum(x);
    return x + __shfl_xor_sync(FULL, x, 4);
}
__device__ inline float row_max(float x)
{
    x = quad_max(x);
    return fmaxf(x, __shfl_xor_sync(FULL, x, 4));
}

__device__ inline float plain_load(const struct op_attention &a, const void *p, int64_t i)
{
    return a.t == DTYPE_F32 ? load((const float *)p, i)
        : a.t == DTYPE_BF16 ? load((const bf16 *)p, i)
                            : load((const f16 *)p, i);
}
__device__ inline void plain_store(const struct op_attention &a, void *p, int64_t i, float x)
{
    if (a.t == DTYPE_F32)
        store((float *)p, i, x);
    else if (a.t == DTYPE_BF16)
        store((bf16 *)p, i, x);
    else
        store((f16 *)p, i, x);
}

/* Element 0 of row `row` of head `head`, of `heads` a token, in a tensor whose rows are ld apart */
__device__ inline int64_t plain_at(
    const struct op_attention &a, int head, int heads, int row, int64_t ld)
{
    return ((int64_t)(head / heads) * a.tokens + row) * ld + head % heads * a.d;
}
__device__ inline int64_t plain_key_at(const struct op_attention &a, int head, int row, int64_t ld)
{
    int heads = (int)a.g;
    return ((int64_t)(head / heads) * attention_keys(a) + row) * ld + head % heads * a.d;
}

/* What the probability of query `row` and a key is multiplied with; head: of (sequence, head). */
__device__ inline float plain_keep(const struct op_attention &a, int head, int row, int key)
{
    int h = (int)a.h;
    if (!(a.drop.p > 0))
        return 1;
    return op_attention_keep(
        &a.drop, op_attention_draw(&a, head / h, head % h, row) + (uint64_t)key);
}

/* Rows from element `at` on, zeros from row `valid` and column a.d on. */
template <int D>
__device__ inline void plain_copy(const struct op_attention &a, float *tile, int rows,
    const void *p, int64_t at, int64_t ld, int valid)
{
    for (int i = threadIdx.x; i < rows * D; i += ATTENTION_THREADS) {
        int row = i / D, c = i % D;
        bool ok = row < valid && c < a.d;
        tile[row * (D + PAD) + c] = ok ? plain_load(a, p, at + row * ld + c) : 0;
    }
}

/* s (16 R, 8 C) = x (16 R, D) y^T, y (8 C, D) */
template <int D, int R, int C>
__device__ inline void plain_product_t(float (&s)[R][C], const float *x, const float *y)
{
    struct plain_thread t = plain_thread();
    UNROLL
    for (int i = 0; i < R * C; i++)
        s[i / C][i % C] = 0;
    for (int d = 0; d < D; d += 4) {
        struct four_floats left[R], right[C];
        UNROLL
        for (int i = 0; i < R; i++)
            left[i] = *(const struct four_floats *)(x + (t.r + 16 * i) * (D + PAD) + d);
        UNROLL
        for (int i = 0; i < C; i++)
            right[i] = *(const struct four_floats *)(y + (t.c + 8 * i) * (D + PAD) + d);
        UNROLL
        for (int i = 0; i < R * C * 4; i++)
            s[i / 4 / C][i / 4 % C] += left[i / 4 / C].v[i % 4] * right[i / 4 % C].v[i % 4];
    }
}

/* acc (16 R, D) += x (16 R, S), a tile of scores, * y (S, D) */
template <int D, int R, int S>
__device__ inline void plain_product(float (&acc)[R][D / 8], const float *x, const float *y)
{
    struct plain_thread t = plain_thread();
    for (int k = 0; k < S; k += 4) {
        struct four_floats left[R];
        UNROLL
        for (int i = 0; i < R; i++)
            left[i] = *(const struct four_floats *)(x + (t.r + 16 * i) * (S + PAD) + k);
        UNROLL
        for (int e = 0; e < 4; e++) {
            UNROLL
            for (int n = 0; n < D / 32; n++) {
                struct four_floats right =
                    *(const struct four_floats *)(y + (k + e) * (D + PAD) + 32 * n + 4 * t.c);
                UNROLL
                for (int i = 0; i < R * 4; i++)
                    acc[i / 4][4 * n + i % 4] += left[i / 4].v[e] * right.v[i % 4];
            }
        }
    }
}

/* Writes a thread's part of 16 R rows, times factor[i]; zeros from row `valid` on. */
template <int D, int R>
__device__ inline void plain_write(const struct op_attention &a, void *p, int64_t at, int64_t ld,
    int rows, int valid, const float (&acc)[R][D / 8], const float (&factor)[R])
{
    struct plain_thread t = plain_thread();
    UNROLL
    for (int i = 0; i < R; i++) {
        int row = t.r + 16 * i;
        UNROLL
        for (int e = 0; e < D / 8; e++) {
            int c = e / 4 * 32 + 4 * t.c + e % 4;
            if (row < rows && c < a.d)
                plain_store(a, p, at + row * ld + c, row < valid ? acc[i][e] * factor[i] : 0);
        }
    }
}

template <int R, int E> __device__ inline void plain_zero(float (&acc)[R][E])
{
    UNROLL
    for (int i = 0; i < R * E; i++)
        acc[i / E][i % E] = 0;
}

/* -- forward -- */

template <int D, int R> struct plain_state {
    float o[R][D / 8], top[R], sum[R]; /* sum: this thread's part */
};

/* Scores of 16 R rows from `row` against SIDE keys from `key`: the softmax goes on, and the
   probabilities go to shared memory. */
template <int D, int R>
__device__ inline void plain_softmax(const struct attention_job &j, struct plain_state<D, R> &w,
    float (&s)[R][SIDE / 8], int head, int row, int key, int keys, float *p)
{
    struct plain_thread t = plain_thread();
    int b = head / (int)j.a.h;
    UNROLL
    for (int i = 0; i < R; i++) {
        int r = row + t.r + 16 * i, first = attention_first(j.a, b, r), before = (int)j.a.before;
        float top = w.top[i];
        UNROLL
        for (int e = 0; e < SIDE / 8; e++) {
            int c = key + t.c + 8 * e;
            if (c >= keys || c < first || (!j.a.bidirectional && c > r + before))
                s[i][e] = -INFINITY;
            top = fmaxf(top, s[i][e]);
        }
        top = row_max(top);
        float base = top == -INFINITY ? 0 : top; /* no key yet that the row sees */
        float keep = exp2_fast((w.top[i] - base) * j.scale2);
        w.sum[i] *= keep;
        UNROLL
        for (int e = 0; e < SIDE / 8; e++) {
            float x = exp2_fast((s[i][e] - base) * j.scale2);
            w.sum[i] += x;
            p[(t.r + 16 * i) * (SIDE + PAD) + t.c + 8 * e] =
                x * plain_keep(j.a, head, r, key + t.c + 8 * e);
        }
        UNROLL
        for (int e = 0; e < D / 8; e++)
            w.o[i][e] *= keep;
        w.top[i] = top;
    }
}

template <int D, int R>
__device__ inline void plain_finish(
    const struct op_attention &a, struct plain_state<D, R> &w, int head, int row, int length)
{
    struct plain_thread t = plain_thread();
    float factor[R];
    for (int i = 0; i < R; i++) {
        int r = row + t.r + 16 * i;
        float sum = row_sum(w.sum[i]);
        factor[i] = 1 / sum;
        if (t.c == 0 && r < a.tokens)
            a.lse[(int64_t)head * a.tokens + r] = r < length ? w.top[i] * a.scale + logf(sum) : 0;
    }
    plain_write<D, R>(a, a.o, plain_at(a, head, (int)a.h, row, a.h * a.d), a.h * a.d,
        (int)a.tokens - row, length - row, w.o, factor);
}

template <int D, int R>
__global__ void __launch_bounds__(ATTENTION_THREADS) plain_forward(struct attention_job j)
{
    constexpr int ROWS = 16 * R;
    if (attention_beyond(j))
        return;
    SHARED(float, q);
    float *k = q + ROWS * (D + PAD), *v = k + SIDE * (D + PAD), *p = v + SIDE * (D + PAD);
    const struct op_attention &a = j.a;
    int head = attention_head(j), group = (int)(a.h / a.g), b = head / (int)a.h;
    int row = attention_tile(!a.bidirectional) * ROWS, length = attention_length(a, b);
    int keys = attention_keys_end(a, b, row, ROWS);
    struct plain_state<D, R> w;

    plain_zero(w.o);
    for (int i = 0; i < R; i++) {
        w.top[i] = -INFINITY;
        w.sum[i] = 0;
    }
    plain_copy<D>(a, q, ROWS, a.q, plain_at(a, head, (int)a.h, row, a.ldq), a.ldq, length - row);
    for (int key = attention_first(a, b, row) / SIDE * SIDE; key < keys; key += SIDE) {
        float s[R][SIDE / 8];
        __syncthreads();
        plain_copy<D>(
            a, k, SIDE, a.k, plain_key_at(a, head / group, key, a.ldk), a.ldk, keys - key);
        plain_copy<D>(
            a, v, SIDE, a.v, plain_key_at(a, head / group, key, a.ldv), a.ldv, keys - key);
        __syncthreads();
        plain_product_t<D, R, SIDE / 8>(s, q, k);
        plain_softmax<D, R>(j, w, s, head, row, key, keys, p);
        __syncwarp(); /* the rows of p that a warp reads are its own */
        plain_product<D, R, SIDE>(w.o, p, v);
    }
    plain_finish<D, R>(a, w, head, row, length);
}

/* -- backward: as in attention_back.cu -- */

/* delta and lse2 of the rows r + 16i of queries, kept for plain_back_key too */
template <int R>
__device__ inline void plain_stats(
    const struct attention_job &j, int head, int row, int length, struct attention_stat (&w)[R])
{
    const struct op_attention &a = j.a;
    struct plain_thread t = plain_thread();
    for (int i = 0; i < R; i++) {
        int r = row + t.r + 16 * i;
        int64_t at = plain_at(a, head, (int)a.h, r, a.h * a.d);
        float sum = 0;
        for (int c = t.c; r < length && c < a.d; c += 8)
            sum += plain_load(a, a.o, at + c) * plain_load(a, a.dout, at + c);
        w[i].delta = row_sum(sum);
        w[i].lse2 = r < length ? a.lse[(int64_t)head * a.tokens + r] * LOG2E : INFINITY;
        if (t.c == 0)
            j.stats[(head - j.first) * j.stats_rows + r] = w[i];
    }
}

/* S: rows of every tile. */
template <int D, int S> static constexpr size_t plain_back_shared(void)
{
    return (4 * S * (D + PAD) + 2 * S * (S + PAD)) * sizeof(float);
}

template <int D, int S>
__global__ void __launch_bounds__(ATTENTION_THREADS) plain_back_query(struct attention_job j)
{
    constexpr int R = S / 16, C = S / 8;
    if (attention_beyond(j))
        return;
    SHARED(float, q);
    float *dout = q + S * (D + PAD), *k = dout + S * (D + PAD);
    float *v = k + S * (D + PAD), *ds = v + S * (D + PAD);
    const struct op_attention &a = j.a;
    struct plain_thread t = plain_thread();
    int head = attention_head(j), heads = (int)a.h, kv = head / (int)(a.h / a.g);
    int row = attention_tile(!a.bidirectional) * S, b = head / heads;
    int length = attention_length(a, b);
    int keys = attention_keys_end(a, b, row, S), before = (int)a.before;
    float dq[R][D / 8], factor[R];
    struct attention_stat w[R];

    plain_zero(dq);
    for (int i = 0; i < R; i++)
        factor[i] = a.scale;
    plain_stats(j, head, row, length, w);
    plain_copy<D>(a, q, S, a.q, plain_at(a, head, heads, row, a.ldq), a.ldq, length - row);
    plain_copy<D>(
        a, dout, S, a.dout, plain_at(a, head, heads, row, a.h * a.d), a.h * a.d, length - row);
    for (int key = attention_first(a, b, row) / S * S; key < keys; key += S) {
        float s[R][C], dp[R][C];
        __syncthreads();
        plain_copy<D>(a, k, S, a.k, plain_key_at(a, kv, key, a.ldk), a.ldk, keys - key);
        plain_copy<D>(a, v, S, a.v, plain_key_at(a, kv, key, a.ldv), a.ldv, keys - key);
        __syncthreads();
        plain_product_t<D, R, C>(s, q, k);
        plain_product_t<D, R, C>(dp, dout, v);
        for (int i = 0; i < R * C; i++) {
            int r = t.r + i / C * 16, c = t.c + i % C * 8;
            bool seen = key + c < keys && key + c >= attention_first(a, b, row + r) &&
                (a.bidirectional || key + c <= before + row + r);
            float p = exp2_fast(s[i / C][i % C] * j.scale2 - w[i / C].lse2);
            float got = dp[i / C][i % C] * plain_keep(a, head, row + r, key + c);
            ds[r * (S + PAD) + c] = seen ? p * (got - w[i / C].delta) : 0;
        }
        __syncwarp();
        plain_product<D, R, S>(dq, ds, k);
    }
    plain_write<D, R>(a, a.dq, plain_at(a, head, heads, row, a.ldq), a.ldq, (int)a.tokens - row,
        length - row, dq, factor);
}

/* p and ds of a block's keys, as rows, against S queries from `row`, as columns */
template <int D, int S>
__device__ inline void plain_back_scores(const struct attention_job &j, const float *k,
    const float *v, const float *q, const float *dout, const struct attention_stat *stats, int head,
    int key, int row, float *p, float *ds)
{
    constexpr int R = S / 16, C = S / 8;
    int b = head / (int)j.a.h;
    struct plain_thread t = plain_thread();
    float s[R][C], dp[R][C];
    plain_product_t<D, R, C>(s, k, q);
    plain_product_t<D, R, C>(dp, v, dout);
    for (int i = 0; i < R * C; i++) {
        int r = t.r + i / C * 16, c = t.c + i % C * 8;
        struct attention_stat w = stats[row + c];
        float x = exp2_fast(s[i / C][i % C] * j.scale2 - w.lse2);
        if ((!j.a.bidirectional && key + r > (int)j.a.before + row + c) ||
            key + r < attention_first(j.a, b, row + c))
            x = 0;
        float keep = plain_keep(j.a, head, row + c, key + r);
        p[r * (S + PAD) + c] = x * keep;
        ds[r * (S + PAD) + c] = x * (dp[i / C][i % C] * keep - w.delta);
    }
}

template <int D, int S>
__global__ void __launch_bounds__(ATTENTION_THREADS) plain_back_key(struct attention_job j)
{
    constexpr int R = S / 16;
    if (attention_beyond(j))
        return;
    SHARED(float, k);
    float *v = k + S * (D + PAD), *q = v + S * (D + PAD), *dout = q + S * (D + PAD);
    float *p = dout + S * (D + PAD), *ds = p + S * (S + PAD);
    const struct op_attention &a = j.a;
    int head = attention_head(j), group = (int)(a.h / a.g), b = head / (int)a.g;
    int key = attention_tile(false) * S, length = attention_length(a, b);
    int keys = attention_keys_length(a, b), from = attention_queries_from(a, key);
    int end = attention_queries_end(a, b, length, key + S - 1);
    float dk[R][D / 8], dv[R][D / 8], factor[R], one[R];

    plain_zero(dk);
    plain_zero(dv);
    for (int i = 0; i < R; i++) {
        factor[i] = a.scale;
        one[i] = 1;
    }
    plain_copy<D>(a, k, S, a.k, plain_key_at(a, head, key, a.ldk), a.ldk, keys - key);
    plain_copy<D>(a, v, S, a.v, plain_key_at(a, head, key, a.ldv), a.ldv, keys - key);
    for (int h = head * group; key < keys && h < (head + 1) * group; h++) {
        const struct attention_stat *stats = j.stats + (h - j.first * group) * j.stats_rows;
        for (int row = from; row < end; row += S) {
            __syncthreads();
            plain_copy<D>(a, q, S, a.q, plain_at(a, h, (int)a.h, row, a.ldq), a.ldq, length - row);
            plain_copy<D>(a, dout, S, a.dout, plain_at(a, h, (int)a.h, row, a.h * a.d), a.h * a.d,
                length - row);
            __syncthreads();
            plain_back_scores<D, S>(j, k, v, q, dout, stats, h, key, row, p, ds);
            __syncwarp();
            plain_product<D, R, S>(dv, p, dout);
            plain_product<D, R, S>(dk, ds, q);
        }
    }
    int rows = (int)attention_keys(a) - key;
    plain_write<D, R>(
        a, a.dk, plain_key_at(a, head, key, a.ldk), a.ldk, rows, keys - key, dk, factor);
    plain_write<D, R>(a, a.dv, plain_key_at(a, head, key, a.ldv), a.ldv, rows, keys - key, dv, one);
}

/* -- host -- */

static int64_t plain_read_bytes(const struct op_attention *a) /* two tensors of a head */
{
    return 2 * (a->before + a->tokens) * a->d * dtype_block_bytes(a->t);
}

template <int D, int R> static constexpr size_t plain_shared(void)
{
    return ((16 * R + 2 * SIDE) * (D + PAD) + 16 * R * (SIDE + PAD)) * sizeof(float);
}

template <int D, int R> static void plain_rows(struct dev *d, const struct attention_job *j)
{
    int64_t read = plain_read_bytes(&j->a) / (j->a.h / j->a.g);
    launch<plain_forward<D, R>>(d, attention_grid(j->a.tokens, j->heads, 16 * R, read),
        ATTENTION_THREADS, plain_shared<D, R>(), *j);
}

template <int D> static void plain_launch(struct dev *d, const struct attention_job *j)
{
    constexpr int R = D <= 128 ? 4 : 2; /* 64 rows as long as they fit the registers */
    constexpr int LESS = plain_shared<D, R>() > SHARED_LEAST ? 1 : R;
    static_assert(plain_shared<D, LESS>() <= SHARED_LEAST, "fits every device");
    if (plain_shared<D, R>() > ((struct cuda_dev *)d)->shared_max)
        plain_rows<D, LESS>(d, j);
    else
        plain_rows<D, R>(d, j);
}

void attention_plain(struct dev *d, const struct op_attention *a)
{
    struct attention_job j = {};
    j.a = *a;
    j.scale2 = a->scale * LOG2E;
    j.heads = (int)(a->b * a->h);
    if (a->d <= 32)
        plain_launch<32>(d, &j);
    else if (a->d <= 64)
        plain_launch<64>(d, &j);
    else if (a->d <= 128)
        plain_launch<128>(d, &j);
    else
        plain_launch<ATTENTION_PLAIN_D>(d, &j);
}

template <int D, int S>
static void plain_back_rows(
    struct dev *d, const struct attention_job *query, const struct attention_job *key)
{
    int64_t read = plain_read_bytes(&query->a), group = query->a.h / query->a.g;
    int64_t tokens = query->a.tokens, keys = query->a.before + tokens;
    launch<plain_back_query<D, S>>(d, attention_grid(tokens, query->heads, S, read / group),
        ATTENTION_THREADS, plain_back_shared<D, S>(), *query);
    launch<plain_back_key<D, S>>(d, attention_grid(keys, key->heads, S, read * group),
        ATTENTION_THREADS, plain_back_shared<D, S>(), *key);
}

template <int D>
static void plain_back_launch(
    struct dev *d, const struct attention_job *query, const struct attention_job *key)
{
    constexpr int LESS = plain_back_shared<D, SIDE>() > SHARED_LEAST ? SIDE / 2 : SIDE;
    static_assert(plain_back_shared<D, LESS>() <= SHARED_LEAST, "fits every device");
    if (plain_back_shared<D, SIDE>() > ((struct cuda_dev *)d)->shared_max)
        plain_back_rows<D, LESS>(d, query, key);
    else
        plain_back_rows<D, SIDE>(d, query, key);
}

void attention_plain_back(
    struct dev *d, const struct attention_job *query, const struct attention_job *key)
{
    if (query->a.d <= 32)
        plain_back_launch<32>(d, query, key);
    else if (query->a.d <= 64)
        plain_back_launch<64>(d, query, key);
    else if (query->a.d <= 128)
        plain_back_launch<128>(d, query, key);
    else
        plain_back_launch<ATTENTION_PLAIN_D>(d, query, key);
}
