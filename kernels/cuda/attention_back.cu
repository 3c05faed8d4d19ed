/*
 * attention_back: the gradients of attention on tensor cores. Two kernels, each of which owns what
 * it writes, so that nothing is added up between blocks and results repeat bit for bit:
 *
 *   back_query  a block owns rows of queries: delta = sum(dout * o), and dq over all its keys;
 *   back_key    a block owns rows of keys: dk, dv over all queries of the heads that share them.
 *
 * Both recompute the probabilities from lse: seven products of a tile where one kernel with dq
 * added up atomically (FlashAttention-2) has five, but no result that depends on the order of
 * blocks, no F32 copy of dq, and no scores or probabilities that go through shared memory.
 */
#include "kernels/cuda/attention.cuh"

/* Row `row` of head `head` of queries, or of keys. */
__device__ inline int64_t back_at(
    const struct op_attention &a, int head, int heads, int row, int64_t ld)
{
    return ((int64_t)(head / heads) * a.tokens + row) * ld + head % heads * a.d;
}
__device__ inline int64_t back_key_at(const struct op_attention &a, int head, int row, int64_t ld)
{
    int heads = (int)a.g;
    return ((int64_t)(head / heads) * attention_keys(a) + row) * ld + head % heads * a.d;
}

template <int MT> struct back_rows { /* [m][0, 1]: of rows 16m + lane / 4, and + 8 */
    float lse2[MT][2], delta[MT][2];
};

/* delta and lse of a warp's rows, kept for back_key too. The four lanes of a row share its
   columns. */
template <class E, int MT>
__device__ inline void back_stats(
    const struct attention_job &j, struct back_rows<MT> &w, int row, int length)
{
    const struct op_attention &a = j.a;
    int head = attention_head(j), lane = threadIdx.x % WARP, heads = (int)a.h;
    int64_t base = back_at(a, head, heads, row, a.h * a.d);
    struct attention_stat *stats = j.stats + (head - j.first) * j.stats_rows + row;

    UNROLL
    for (int i = 0; i < MT * 2; i++) {
        int r = i * 8 + lane / 4;
        bool ok = row + r < length;
        int64_t at = base + r * a.h * a.d;
        float sum = 0;
        for (int c = lane % 4 * 8; ok && c < a.d; c += 32) {
            struct four_words o = *(const struct four_words *)((const E *)a.o + at + c);
            struct four_words g = *(const struct four_words *)((const E *)a.dout + at + c);
            UNROLL
            for (int e = 0; e < 4; e++)
                sum += pair_low<E>(o.v[e]) * pair_low<E>(g.v[e]) +
                    pair_high<E>(o.v[e]) * pair_high<E>(g.v[e]);
        }
        w.delta[i / 2][i % 2] = quad_sum(sum);
        w.lse2[i / 2][i % 2] = ok ? a.lse[(int64_t)head * a.tokens + row + r] * LOG2E : INFINITY;
        if (lane % 4 == 0)
            stats[r] = {w.lse2[i / 2][i % 2], w.delta[i / 2][i % 2]};
    }
}

/* Query rows against a slab of keys: s becomes p, in place. */
template <int MT, int NT>
__device__ inline void back_query_p(
    float (&s)[MT][NT][4], const struct back_rows<MT> &w, float scale2)
{
    UNROLL
    for (int m = 0; m < MT; m++) {
        UNROLL
        for (int n = 0; n < NT; n++) {
            UNROLL
            for (int i = 0; i < 4; i++)
                s[m][n][i] = exp2_fast(fmaf(s[m][n][i], scale2, -w.lse2[m][i / 2]));
        }
    }
}

/* The rows from `row` of a warp against a slab of keys from `key`, of sequence b. */
struct back_span {
    int b, row, key, keys; /* keys that exist */
};

/* No probability where a key is not seen by a row. Called where a slab has such keys: most have
   none. */
template <int MT, int NT>
__device__ inline void back_query_mask(
    const struct op_attention &a, float (&p)[MT][NT][4], const struct back_span &at, int ahead)
{
    int lane = threadIdx.x % WARP, left = at.keys - at.key;
    UNROLL
    for (int m = 0; m < MT; m++) {
        int r = m * 16 + lane / 4;
        int first[2] = {attention_first(a, at.b, at.row + r) - at.key,
            attention_first(a, at.b, at.row + r + 8) - at.key};
        UNROLL
        for (int n = 0; n < NT; n++) {
            UNROLL
            for (int i = 0; i < 4; i++) {
                int c = n * 8 + lane % 4 * 2 + i % 2;
                if (c >= left || c < first[i / 2] || c > r + i / 2 * 8 + ahead)
                    p[m][n][i] = 0;
            }
        }
    }
}

template <int D, int MT, bool KEEP, bool KEEP_DOUT, class E>
__device__ inline void back_query_slab(const struct attention_job &j, float (&dq)[MT][D / 8][4],
    const tile_rows<E, D, MT, KEEP> &q, const tile_rows<E, D, MT, KEEP_DOUT> &dout, const E *k,
    const E *v, const struct back_rows<MT> &w, const struct back_span &at)
{
    constexpr int NT = 4;
    float p[MT][NT][4], dp[MT][NT][4];
    uint32_t ds[MT][NT / 2][4];
    int ahead = j.a.bidirectional ? INT32_MAX / 2 : at.row + (int)j.a.before - at.key;

    tile_product_t<D, MT, NT, KEEP>(p, q, k);
    back_query_p<MT, NT>(p, w, j.scale2);
    if (at.keys - at.key < NT * 8 || NT * 8 - 1 > ahead ||
        at.key < attention_first(j.a, at.b, at.row + MT * 16 - 1))
        back_query_mask<MT, NT>(j.a, p, at, ahead);
    tile_product_t<D, MT, NT, KEEP_DOUT>(dp, dout, v);
    UNROLL
    for (int m = 0; m < MT; m++) {
        UNROLL
        for (int n = 0; n < NT; n++) {
            UNROLL
            for (int i = 0; i < 4; i++)
                p[m][n][i] *= dp[m][n][i] - w.delta[m][i / 2];
        }
    }
    tile_pack<E, MT, NT>(ds, p);
    tile_product<D, MT, NT / 2>(dq, ds, k);
}

/* Shared memory: Q, dout of the block; K, V of one tile, of the next. */
template <int D> struct back_query_shape {
    static constexpr int keys = D <= 64 ? 64 : 32; /* a tile: two blocks fit a processor */
    static constexpr size_t shared(int rows)
    {
        return (2 * rows + 4 * keys) * (D + ATTENTION_PAD) * 2;
    }
};

template <class E, int D, int MT>
__global__ void __launch_bounds__(ATTENTION_THREADS, 2) back_query(struct attention_job j)
{
    constexpr int ROWS = ATTENTION_WARPS * MT * 16, LD = D + ATTENTION_PAD;
    constexpr int KEYS = back_query_shape<D>::keys, SLAB = 32;
    constexpr bool KEEP = D <= 64, KEEP_DOUT = D * MT <= 64; /* as registers allow */
    if (attention_beyond(j))
        return;
    SHARED(E, shared);
    E *kv = shared + 2 * ROWS * LD;
    const struct op_attention &a = j.a;
    int head = attention_head(j), b = head / (int)a.h, g = head % (int)a.h / (int)(a.h / a.g);
    int row = attention_tile(!a.bidirectional) * ROWS, length = attention_length(a, b);
    int keys = attention_keys_end(a, b, row, ROWS), before = (int)a.before;
    int first = (int)threadIdx.x / WARP * MT * 16;
    int begin = attention_first(a, b, row) / KEYS * KEYS;
    const E *k = (const E *)a.k + (b * attention_keys(a) + begin) * a.ldk + g * a.d;
    const E *v = (const E *)a.v + (b * attention_keys(a) + begin) * a.ldv + g * a.d;
    tile_rows<E, D, MT, KEEP> q = {};
    tile_rows<E, D, MT, KEEP_DOUT> dout = {};
    float dq[MT][D / 8][4], factor[MT][2];
    struct back_rows<MT> w;

    tile_copy<D, ROWS>(
        shared, (const E *)a.q + back_at(a, head, (int)a.h, row, a.ldq), a.ldq, length - row, a.d);
    tile_copy<D, ROWS>(shared + ROWS * LD,
        (const E *)a.dout + back_at(a, head, (int)a.h, row, a.h * a.d), a.h * a.d, length - row,
        a.d);
    tile_copy<D, KEYS>(kv + (begin & KEYS) * 2 * LD, k, a.ldk, keys - begin, a.d);
    tile_copy<D, KEYS>(kv + ((begin & KEYS) * 2 + KEYS) * LD, v, a.ldv, keys - begin, a.d);
    copy_async_commit();
    back_stats<E, MT>(j, w, row + first, length);
    tile_zero(dq);
    for (int key = begin; key < keys; key += KEYS) {
        E *now = kv + (key & KEYS) * 2 * LD;
        copy_async_wait<0>();
        __syncthreads();
        if (key == begin) {
            q.set(shared + first * LD);
            dout.set(shared + (ROWS + first) * LD);
        }
        if (key + KEYS < keys) {
            E *next = kv + (~key & KEYS) * 2 * LD;
            k += KEYS * a.ldk;
            v += KEYS * a.ldv;
            tile_copy<D, KEYS>(next, k, a.ldk, keys - key - KEYS, a.d);
            tile_copy<D, KEYS>(next + KEYS * LD, v, a.ldv, keys - key - KEYS, a.d);
        }
        copy_async_commit();
        for (int i = 0; i < KEYS; i += SLAB)
            if (key + i < keys &&
                (a.bidirectional || key + i <= before + row + first + MT * 16 - 1) &&
                key + i + SLAB > attention_first(a, b, row + first))
                back_query_slab<D, MT, KEEP, KEEP_DOUT>(j, dq, q, dout, now + i * LD,
                    now + (KEYS + i) * LD, w, {b, row + first, key + i, keys});
    }
    copy_async_wait<0>();
    __syncthreads(); /* where there was no tile, the copies of other threads still land */
    for (int i = 0; i < MT * 2; i++)
        factor[i / 2][i % 2] = a.scale;
    row += first;
    tile_write<D, MT>((E *)a.dq + back_at(a, head, (int)a.h, row, a.ldq), a.ldq, a.tokens - row,
        length - row, a.d, shared + first * LD, dq, factor);
}

/* A slab of queries as columns: s, of rows of keys, becomes p in place. */
template <int MT, int NT>
__device__ inline void back_key_p(
    float (&s)[MT][NT][4], const struct attention_stat *stats, float scale2)
{
    int lane = threadIdx.x % WARP;
    UNROLL
    for (int n = 0; n < NT; n++) {
        int c = n * 8 + lane % 4 * 2;
        float lse2[2] = {stats[c].lse2, stats[c + 1].lse2};
        UNROLL
        for (int m = 0; m < MT; m++) {
            UNROLL
            for (int i = 0; i < 4; i++)
                s[m][n][i] = exp2_fast(fmaf(s[m][n][i], scale2, -lse2[i % 2]));
        }
    }
}

/* The keys from `key` of a warp, as rows, against a slab of queries from `row`, of sequence b. */
struct back_key_span {
    int b, key, row;
};

/* No probability where row r, a key, is not seen by column c. */
template <int MT, int NT>
__device__ inline void back_key_mask(
    const struct op_attention &a, float (&p)[MT][NT][4], const struct back_key_span &at)
{
    int lane = threadIdx.x % WARP, ahead = at.row + (int)a.before - at.key;
    UNROLL
    for (int n = 0; n < NT; n++) {
        UNROLL
        for (int i = 0; i < 2; i++) {
            int c = n * 8 + lane % 4 * 2 + i;
            int first = attention_first(a, at.b, at.row + c) - at.key;
            UNROLL
            for (int h = 0; h < MT * 2; h++) {
                int r = h * 8 + lane / 4;
                if (r > c + ahead || r < first)
                    p[h / 2][n][h % 2 * 2 + i] = 0;
            }
        }
    }
}

template <int D, int MT, class E>
__device__ inline void back_key_slab(const struct attention_job &j, float (&dk)[MT][D / 8][4],
    float (&dv)[MT][D / 8][4], const tile_rows<E, D, MT, false> &k,
    const tile_rows<E, D, MT, false> &v, const E *q, const E *dout,
    const struct attention_stat *stats, const struct back_key_span &at)
{
    constexpr int NT = 4;
    int lane = threadIdx.x % WARP;
    float p[MT][NT][4], dp[MT][NT][4];
    uint32_t x[MT][NT / 2][4];

    tile_product_t<D, MT, NT, false>(p, k, q);
    back_key_p<MT, NT>(p, stats, j.scale2);
    if (!j.a.bidirectional &&
        (MT * 16 - 1 > at.row + (int)j.a.before - at.key ||
            attention_first(j.a, at.b, at.row + NT * 8 - 1) > at.key))
        back_key_mask<MT, NT>(j.a, p, at);
    tile_pack<E, MT, NT>(x, p);
    tile_product<D, MT, NT / 2>(dv, x, dout);
    tile_product_t<D, MT, NT, false>(dp, v, dout);
    UNROLL
    for (int n = 0; n < NT; n++) {
        UNROLL
        for (int i = 0; i < 2; i++) {
            /* volatile: read here, not beside lse2, which would keep registers */
            float delta = *(const volatile float *)&stats[n * 8 + lane % 4 * 2 + i].delta;
            UNROLL
            for (int m = 0; m < MT; m++) {
                p[m][n][i] *= dp[m][n][i] - delta;
                p[m][n][i + 2] *= dp[m][n][i + 2] - delta;
            }
        }
    }
    tile_pack<E, MT, NT>(x, p);
    tile_product<D, MT, NT / 2>(dk, x, q);
}

/* Shared memory: K, V of the block; Q, dout of one tile of QUERIES, of the next; their stats. */
template <int D, int QUERIES> static constexpr size_t back_key_shared(int rows)
{
    return (2 * rows + 4 * QUERIES) * (D + ATTENTION_PAD) * 2 +
        2 * QUERIES * sizeof(struct attention_stat);
}

/* A tile of queries, of one of the heads that share a block's keys; the next one. */
struct back_key_tile {
    int head, row;

    template <int QUERIES> __device__ inline struct back_key_tile next(int from, int end) const
    {
        return row + QUERIES < end ? back_key_tile{head, row + QUERIES}
                                   : back_key_tile{head + 1, from};
    }
};

template <int D, int QUERIES, class E>
__device__ inline void back_key_copy(const struct attention_job &j, const struct back_key_tile &at,
    int length, E *tile, struct attention_stat *stats)
{
    const struct op_attention &a = j.a;
    int t = threadIdx.x, heads = (int)a.h, first = j.first * (int)(a.h / a.g);
    const struct attention_stat *from = j.stats + (at.head - first) * j.stats_rows + at.row;

    tile_copy<D, QUERIES>(tile, (const E *)a.q + back_at(a, at.head, heads, at.row, a.ldq), a.ldq,
        length - at.row, a.d);
    tile_copy<D, QUERIES>(tile + QUERIES * (D + ATTENTION_PAD),
        (const E *)a.dout + back_at(a, at.head, heads, at.row, a.h * a.d), a.h * a.d,
        length - at.row, a.d);
    if (t < QUERIES / 2) /* two stats are 16 bytes */
        copy_async16(stats + 2 * t, from + 2 * t, true);
}

template <class E, int D, int MT, int QUERIES>
__global__ void __launch_bounds__(ATTENTION_THREADS, 2) back_key(struct attention_job j)
{
    constexpr int ROWS = ATTENTION_WARPS * MT * 16, LD = D + ATTENTION_PAD, SLAB = 32;
    if (attention_beyond(j))
        return;
    SHARED(E, shared);
    E *tiles = shared + 2 * ROWS * LD;
    struct attention_stat *stats = (struct attention_stat *)(tiles + 4 * QUERIES * LD);
    const struct op_attention &a = j.a;
    int head = attention_head(j), b = head / (int)a.g, group = (int)(a.h / a.g);
    int row = attention_tile(false) * ROWS, length = attention_length(a, b);
    int keys = attention_keys_length(a, b), before = (int)a.before, last = (head + 1) * group;
    int from = attention_queries_from(a, row) / QUERIES * QUERIES;
    int key = (int)threadIdx.x / WARP * MT * 16, stage = 0;
    int end = attention_queries_end(a, b, length, row + ROWS - 1);
    struct back_key_tile at = {row < keys ? head * group : last, from};
    tile_rows<E, D, MT, false> k, v;
    float dk[MT][D / 8][4], dv[MT][D / 8][4], factor[MT][2], one[MT][2];

    k.set(shared + key * LD);
    v.set(shared + (ROWS + key) * LD);
    tile_copy<D, ROWS>(
        shared, (const E *)a.k + back_key_at(a, head, row, a.ldk), a.ldk, keys - row, a.d);
    tile_copy<D, ROWS>(shared + ROWS * LD, (const E *)a.v + back_key_at(a, head, row, a.ldv), a.ldv,
        keys - row, a.d);
    if (at.head < last)
        back_key_copy<D, QUERIES>(j, at, length, tiles, stats);
    copy_async_commit();
    tile_zero(dk);
    tile_zero(dv);
    key += row;
    for (; at.head < last; stage ^= 1) {
        E *now = tiles + stage * 2 * QUERIES * LD;
        struct back_key_tile next = at.next<QUERIES>(from, end);
        copy_async_wait<0>();
        __syncthreads();
        if (next.head < last)
            back_key_copy<D, QUERIES>(j, next, length, tiles + (stage ^ 1) * 2 * QUERIES * LD,
                stats + (stage ^ 1) * QUERIES);
        copy_async_commit();
        for (int s = 0; s < QUERIES; s += SLAB)
            if (at.row + s < end && (a.bidirectional || key < before + at.row + s + SLAB))
                back_key_slab<D, MT>(j, dk, dv, k, v, now + s * LD, now + (QUERIES + s) * LD,
                    stats + stage * QUERIES + s, {b, key, at.row + s});
        at = next;
    }
    copy_async_wait<0>();
    __syncthreads(); /* where there was no tile, the copies of other threads still land */
    for (int i = 0; i < MT * 2; i++) {
        factor[i / 2][i % 2] = a.scale;
        one[i / 2][i % 2] = 1;
    }
    tile_write<D, MT>((E *)a.dk + back_key_at(a, head, key, a.ldk), a.ldk, attention_keys(a) - key,
        keys - key, a.d, shared + (key - row) * LD, dk, factor);
    tile_write<D, MT>((E *)a.dv + back_key_at(a, head, key, a.ldv), a.ldv, attention_keys(a) - key,
        keys - key, a.d, shared + (ROWS + key - row) * LD, dv, one);
}

/* Queries' rows are padded to this in the stats, the longest tile of any kernel. */
#define STATS_ROWS 128

template <class E, int D, int MT>
static void back_query_launch(struct dev *d, const struct attention_job *j)
{
    constexpr int ROWS = ATTENTION_WARPS * MT * 16;
    const struct op_attention *a = &j->a;
    int64_t read = 2 * (a->before + a->tokens) * a->d * (int64_t)2 / (a->h / a->g);
    launch<back_query<E, D, MT>>(d, attention_grid(a->tokens, j->heads, ROWS, read),
        ATTENTION_THREADS, back_query_shape<D>::shared(ROWS), *j);
}

template <class E, int D, int MT, int QUERIES>
static void back_key_launch(struct dev *d, const struct attention_job *j)
{
    constexpr int ROWS = ATTENTION_WARPS * MT * 16;
    const struct op_attention *a = &j->a;
    int64_t read = 2 * a->tokens * a->d * (int64_t)2 * (a->h / a->g);
    launch<back_key<E, D, MT, QUERIES>>(d,
        attention_grid(a->before + a->tokens, j->heads, ROWS, read), ATTENTION_THREADS,
        back_key_shared<D, QUERIES>(ROWS), *j);
}

/* As in forward: tiles of 128 rows where these occupy the device and fit its shared memory. Beyond
   a head size of 64, dk and dv of 32 rows do not fit a warp's registers; beyond 96, 64 queries not
   every device's shared memory. */
template <class E, int D>
static void back_launch(
    struct dev *d, const struct attention_job *query, const struct attention_job *key)
{
    constexpr int MANY = 64, LESS = back_key_shared<D, MANY>(64) > SHARED_LEAST ? 32 : MANY;
    static_assert(back_query_shape<D>::shared(64) <= SHARED_LEAST &&
            back_key_shared<D, LESS>(64) <= SHARED_LEAST &&
            (D > 64 || back_key_shared<D, MANY>(128) <= SHARED_LEAST),
        "fits every device");
    struct cuda_dev *c = (struct cuda_dev *)d;
    int64_t tiles = blocks_of(query->a.tokens, 128);

    if (query->heads * tiles < c->sm_count || back_query_shape<D>::shared(128) > c->shared_max)
        back_query_launch<E, D, 1>(d, query);
    else
        back_query_launch<E, D, 2>(d, query);
    if (D <= 64 && key->heads * tiles >= c->sm_count)
        back_key_launch<E, D, D <= 64 ? 2 : 1, MANY>(d, key);
    else if (back_key_shared<D, MANY>(64) <= c->shared_max)
        back_key_launch<E, D, 1, MANY>(d, key);
    else
        back_key_launch<E, D, 1, LESS>(d, key);
}

template <class E>
static void back_sizes(
    struct dev *d, const struct attention_job *query, const struct attention_job *key)
{
    int64_t size = query->a.d;
    if (size <= 32)
        back_launch<E, 32>(d, query, key);
    else if (size <= 64)
        back_launch<E, 64>(d, query, key);
    else if (size <= 96)
        back_launch<E, 96>(d, query, key);
    else
        back_launch<E, 128>(d, query, key);
}

static void back_part(
    struct dev *d, const struct attention_job *query, const struct attention_job *key)
{
    if (!attention_fits(&query->a, true))
        attention_plain_back(d, query, key);
    else if (query->a.t == DTYPE_BF16)
        back_sizes<bf16>(d, query, key);
    else
        back_sizes<f16>(d, query, key);
}

/* In parts whose stats fit the scratch: a part is a number of heads of keys and their queries. */
void op_cuda_attention_back(struct dev *d, const struct op_attention *a)
{
    if (!attention_check(d, a) || a->b * a->tokens == 0)
        return;
    int64_t rows = blocks_of(a->tokens, STATS_ROWS) * (int64_t)STATS_ROWS, group = a->h / a->g;
    int64_t bytes = rows * group * (int64_t)sizeof(struct attention_stat);
    int64_t most = (int64_t)CUDA_SCRATCH_BYTES / bytes, all = a->b * a->g;
    struct attention_job query = {}, key;

    if (most < 1) {
        cuda_refuse(d, "attention: %lld tokens with %lld heads a key's: no scratch for them",
            (long long)a->tokens, (long long)group);
        return;
    }
    query.a = *a;
    query.scale2 = a->scale * LOG2E;
    query.stats = (struct attention_stat *)((struct cuda_dev *)d)->scratch;
    query.stats_rows = rows;
    key = query;
    for (int64_t i = 0; i < all; i += most) {
        key.first = (int)i;
        key.heads = (int)(all - i < most ? all - i : most);
        query.first = (int)(i * group);
        query.heads = (int)(key.heads * group);
        back_part(d, &query, &key);
    }
}
