/*
 * attention: softmax(scale * Q K^T) V on tensor cores, forward. A block computes 64 or 128 rows of
 * queries of one head; keys and values stream past in tiles of 64, the next tile on its way while
 * one is computed; the softmax is kept online in registers (FlashAttention-2, arXiv:2307.08691).
 * The backward pass is in attention_back.cu, what does not fit the tiles in attention_plain.cu.
 */
#include "kernels/cuda/attention.cuh"

#define KEYS 64 /* a tile */

/* State of a warp's rows: m[][0, 1] belong to rows 16m + lane / 4, and + 8. */
template <int D, int MT> struct forward_state {
    float o[MT][D / 8][4];
    float top[MT][2], sum[MT][2]; /* of scores; this lane's part of the sum */
};

/* The rows [row, row + MT * 16) of a warp against the keys [key, key + 64) of sequence b */
struct forward_span {
    int b, row, key, keys; /* the first ones; keys that exist */
    bool causal;
};

template <int MT>
__device__ inline void forward_mask(
    const struct op_attention &a, float (&s)[MT][KEYS / 8][4], const struct forward_span &at)
{
    int lane = threadIdx.x % WARP;
    int left = at.keys - at.key;
    int ahead = at.row + (int)a.before - at.key; /* key c is seen by row r when c <= r + ahead */
    UNROLL
    for (int m = 0; m < MT; m++) {
        int row = m * 16 + lane / 4;
        int first[2] = {attention_first(a, at.b, at.row + row) - at.key,
            attention_first(a, at.b, at.row + row + 8) - at.key};
        UNROLL
        for (int n = 0; n < KEYS / 8; n++) {
            UNROLL
            for (int i = 0; i < 4; i++) {
                int column = n * 8 + lane % 4 * 2 + i % 2;
                if (column >= left || column < first[i / 2] ||
                    (at.causal && column > row + i / 2 * 8 + ahead))
                    s[m][n][i] = -INFINITY;
            }
        }
    }
}

/* Scores become probabilities relative to the greatest score so far, which is -infinity until a row
   has met a key that it sees. */
template <int D, int MT>
__device__ inline void forward_softmax(
    struct forward_state<D, MT> &w, float (&s)[MT][KEYS / 8][4], float scale2)
{
    UNROLL
    for (int i = 0; i < MT * 2; i++) {
        int m = i / 2, h = i % 2 * 2;
        float top = w.top[m][i % 2];
        UNROLL
        for (int n = 0; n < KEYS / 8; n++)
            top = fmaxf(top, fmaxf(s[m][n][h], s[m][n][h + 1]));
        top = quad_max(top);
        float base = top == -INFINITY ? 0 : top;
        float keep = exp2_fast((w.top[m][i % 2] - base) * scale2), shift = base * scale2;
        float sum = w.sum[m][i % 2] * keep;
        UNROLL
        for (int n = 0; n < KEYS / 8; n++) {
            s[m][n][h] = exp2_fast(fmaf(s[m][n][h], scale2, -shift));
            s[m][n][h + 1] = exp2_fast(fmaf(s[m][n][h + 1], scale2, -shift));
            sum += s[m][n][h] + s[m][n][h + 1];
        }
        UNROLL
        for (int n = 0; n < D / 8; n++) {
            w.o[m][n][h] *= keep;
            w.o[m][n][h + 1] *= keep;
        }
        w.top[m][i % 2] = top;
        w.sum[m][i % 2] = sum;
    }
}

template <int D, int MT, bool KEEP, class E>
__device__ inline void forward_step(const struct attention_job &j, struct forward_state<D, MT> &w,
    const tile_rows<E, D, MT, KEEP> &q, const E *k, const E *v, const struct forward_span &at)
{
    float s[MT][KEYS / 8][4];
    uint32_t p[MT][KEYS / 16][4];
    int ahead = at.row + (int)j.a.before - at.key;

    if ((at.causal && ahead + MT * 16 - 1 < 0) ||
        at.key + KEYS <= attention_first(j.a, at.b, at.row))
        return; /* not seen by any of the warp's rows */
    tile_product_t<D, MT, KEYS / 8, KEEP>(s, q, k);
    if (at.key + KEYS > at.keys || (at.causal && KEYS - 1 > ahead) ||
        at.key < attention_first(j.a, at.b, at.row + MT * 16 - 1))
        forward_mask<MT>(j.a, s, at);
    forward_softmax<D, MT>(w, s, j.scale2);
    tile_pack<E, MT, KEYS / 8>(p, s);
    tile_product<D, MT, KEYS / 16>(w.o, p, v);
}

/* Divides by the sum and writes o and lse of the warp's rows; `tile` is the warp's part of Q. */
template <int D, int MT, class E>
__device__ inline void forward_finish(
    const struct attention_job &j, struct forward_state<D, MT> &w, int row, E *tile)
{
    const struct op_attention &a = j.a;
    int head = attention_head(j), heads = (int)a.h, lane = threadIdx.x % WARP;
    int64_t at = (head / heads * a.tokens + row) * heads + head % heads;
    int length = attention_length(a, head / heads);
    float factor[MT][2];

    UNROLL
    for (int i = 0; i < MT * 2; i++) {
        int r = row + i * 8 + lane / 4;
        float sum = quad_sum(w.sum[i / 2][i % 2]);
        factor[i / 2][i % 2] = 1 / sum;
        if (lane % 4 == 0 && r < a.tokens)
            a.lse[head * a.tokens + r] = r < length ? w.top[i / 2][i % 2] * a.scale + logf(sum) : 0;
    }
    tile_write<D, MT>(
        (E *)a.o + at * a.d, a.h * a.d, a.tokens - row, length - row, a.d, tile, w.o, factor);
}

template <class E, int D, int MT>
__global__ void __launch_bounds__(ATTENTION_THREADS, 2) attention_forward(struct attention_job j)
{
    constexpr int ROWS = ATTENTION_WARPS * MT * 16, LD = D + ATTENTION_PAD;
    constexpr bool KEEP = D <= 64; /* the fragments of Q stay in registers */
    if (attention_beyond(j))
        return;
    SHARED(E, shared);
    E *kv = shared + ROWS * LD; /* K, V of one tile, of the next */
    const struct op_attention &a = j.a;
    int head = attention_head(j), b = head / (int)a.h, h = head % (int)a.h;
    int g = h / (int)(a.h / a.g);
    int row = attention_tile(!a.bidirectional) * ROWS, length = attention_length(a, b);
    int begin = attention_first(a, b, row) / KEYS * KEYS;
    const E *k = (const E *)a.k + (b * attention_keys(a) + begin) * a.ldk + g * a.d;
    const E *v = (const E *)a.v + (b * attention_keys(a) + begin) * a.ldv + g * a.d;
    int keys = attention_keys_end(a, b, row, ROWS);
    int warp_row = (int)threadIdx.x / WARP * MT * 16;
    tile_rows<E, D, MT, KEEP> q = {};
    struct forward_state<D, MT> w;

    tile_zero(w.o);
    for (int i = 0; i < MT * 2; i++) {
        w.top[i / 2][i % 2] = -INFINITY;
        w.sum[i / 2][i % 2] = 0;
    }
    tile_copy<D, ROWS>(
        shared, (const E *)a.q + (b * a.tokens + row) * a.ldq + h * a.d, a.ldq, length - row, a.d);
    tile_copy<D, KEYS>(kv + (begin & KEYS) * 2 * LD, k, a.ldk, keys - begin, a.d);
    tile_copy<D, KEYS>(kv + ((begin & KEYS) * 2 + KEYS) * LD, v, a.ldv, keys - begin, a.d);
    copy_async_commit();
    for (int key = begin; key < keys; key += KEYS) {
        E *now = kv + (key & KEYS) * 2 * LD;
        copy_async_wait<0>();
        __syncthreads(); /* the tile is here, and nobody reads the one before */
        if (key == begin)
            q.set(shared + warp_row * LD);
        if (key + KEYS < keys) {
            E *next = kv + (~key & KEYS) * 2 * LD;
            k += KEYS * a.ldk;
            v += KEYS * a.ldv;
            tile_copy<D, KEYS>(next, k, a.ldk, keys - key - KEYS, a.d);
            tile_copy<D, KEYS>(next + KEYS * LD, v, a.ldv, keys - key - KEYS, a.d);
        }
        copy_async_commit();
        forward_step<D, MT, KEEP>(
            j, w, q, now, now + KEYS * LD, {b, row + warp_row, key, keys, !a.bidirectional});
    }
    copy_async_wait<0>();
    __syncthreads(); /* where there was no tile, the copies of other threads still land */
    forward_finish<D, MT>(j, w, row + warp_row, shared + warp_row * LD);
}

bool attention_check(struct dev *d, const struct op_attention *a)
{
    if (a->t > DTYPE_F16)
        cuda_refuse(d, "attention: elements of type %s", dtype_name(a->t));
    else if (a->d < 1 || a->d > ATTENTION_PLAIN_D || a->g < 1 || a->h % a->g)
        cuda_refuse(d, "attention: %lld heads over %lld of size %lld (up to %d)", (long long)a->h,
            (long long)a->g, (long long)a->d, ATTENTION_PLAIN_D);
    else if (a->before + a->tokens > INT32_MAX / 2 || a->b * a->h > INT32_MAX)
        cuda_refuse(d, "attention: %lld x %lld heads, %lld tokens", (long long)a->b,
            (long long)a->h, (long long)(a->before + a->tokens));
    else if (a->before && (a->bidirectional || a->length))
        cuda_refuse(d, "attention: keys before the queries, not causal or with lengths");
    else if (!(a->drop.p >= 0 && a->drop.p < 1))
        cuda_refuse(d, "attention: dropout with probability %g", (double)a->drop.p);
    else if (!(a->scale > 0))
        cuda_refuse(d, "attention: scale %g", (double)a->scale);
    else
        return true;
    return false;
}

/* What a section reads again and again shall fit the L2 cache beside what streams through it. */
#define SECTION_BYTES (16 << 20)

dim3 attention_grid(int64_t tokens, int64_t heads, int64_t rows, int64_t read_bytes)
{
    int64_t section = SECTION_BYTES / (read_bytes + 1);
    section = section > heads ? heads : section < 1 ? 1 : section;
    return dim3((unsigned)section, blocks_of(tokens, rows), blocks_of(heads, section));
}

template <int D, int MT> static constexpr size_t forward_shared(void)
{
    return (ATTENTION_WARPS * MT * 16 + 4 * KEYS) * (D + ATTENTION_PAD) * 2;
}

template <class E, int D, int MT>
static void forward_launch(struct dev *d, const struct op_attention *a)
{
    constexpr int ROWS = ATTENTION_WARPS * MT * 16;
    int64_t group = a->h / a->g, read = 2 * (a->before + a->tokens) * a->d * 2 / group;
    struct attention_job j = {};
    j.a = *a;
    j.scale2 = a->scale * LOG2E;
    j.heads = (int)(a->b * a->h);
    launch<attention_forward<E, D, MT>>(d, attention_grid(a->tokens, j.heads, ROWS, read),
        ATTENTION_THREADS, forward_shared<D, MT>(), j);
}

template <class E, int D> static void forward_rows(struct dev *d, const struct op_attention *a)
{
    struct cuda_dev *c = (struct cuda_dev *)d;
    static_assert(forward_shared<D, 1>() <= SHARED_LEAST, "fits every device");
    /* Tiles of 128 rows read K and V half as often; of 64 fill the device with few heads, and
       fit where a block has less shared memory. */
    if (a->b * a->h * blocks_of(a->tokens, 128) < c->sm_count ||
        forward_shared<D, 2>() > c->shared_max)
        forward_launch<E, D, 1>(d, a);
    else
        forward_launch<E, D, 2>(d, a);
}

template <class E> static void forward_sizes(struct dev *d, const struct op_attention *a)
{
    if (a->d <= 32)
        forward_rows<E, 32>(d, a);
    else if (a->d <= 64)
        forward_rows<E, 64>(d, a);
    else if (a->d <= 96)
        forward_rows<E, 96>(d, a);
    else
        forward_rows<E, 128>(d, a);
}

void op_cuda_attention(struct dev *d, const struct op_attention *a)
{
    if (!attention_check(d, a) || a->b * a->tokens == 0)
        return;
    if (!attention_fits(a, false))
        attention_plain(d, a);
    else if (a->t == DTYPE_BF16)
        forward_sizes<bf16>(d, a);
    else
        forward_sizes<f16>(d, a);
}
