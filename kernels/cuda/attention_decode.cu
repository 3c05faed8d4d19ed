/*
 * attention_decode: one new token of each sequence against its cached keys and values, which are
 * read once for all query heads that share them. Bound by memory: 16-byte loads, several tokens on
 * their way a thread, and a sequence split over blocks ("flash decoding") so that one sequence
 * occupies the device. The parts of a sequence go to scratch and are joined in their order:
 * repeatable.
 *
 * Lengths are on the device, so the number of splits depends on the shape alone, and each block
 * takes its share of the length it finds; the same launch serves every step of a recording.
 *
 * Threads: `lanes` (a power of two) lanes hold one token's row, 8 elements each; a warp has 32 /
 * lanes such teams, each with its own running softmax over the tokens it meets; they are merged at
 * the end.
 */
#include "kernels/cuda/attention.cuh"

#define EACH       8    /* elements of a row a lane */
#define CHUNK      64   /* a split is a multiple of this many tokens */
#define SPLITS     64   /* at most */
#define SPLIT_LONG 1024 /* tokens a split, where the device is full without splitting */
#define HEADS      8    /* query heads a block, at most */

struct decode_job {
    struct op_attention_decode a;
    int lanes, splits, chunks; /* chunks: blocks that the query heads of a key's head take */
    bool wide;                 /* rows are whole 16-byte pieces */
    int page_shift;            /* log2(page_tokens), or -1 */
    float *o;                  /* (n, h, splits, d), relative to the top score of the split */
    float *stats;              /* (n, h, splits, 2): the top score (base 2) and the sum */
};

/* The first token that is seen. */
__device__ inline int decode_first(const struct op_attention_decode &a, int length)
{
    return a.window && length > a.window ? length - (int)a.window : 0;
}

/* The tokens of one split, of `length` that are seen: [s * this, (s + 1) * this). */
__device__ inline int decode_share(int length, int splits)
{
    int chunks = (length + CHUNK - 1) / CHUNK;
    return (chunks + splits - 1) / splits * CHUNK;
}

/* A lane's 8 elements as they are stored. */
template <class T> struct decode_row {
    struct four_words w[EACH * sizeof(T) / 16];
};
__device__ inline float decode_element(const struct decode_row<bf16> &x, int e)
{
    return e % 2 ? pair_high<bf16>(x.w[0].v[e / 2]) : pair_low<bf16>(x.w[0].v[e / 2]);
}
__device__ inline float decode_element(const struct decode_row<f16> &x, int e)
{
    return e % 2 ? pair_high<f16>(x.w[0].v[e / 2]) : pair_low<f16>(x.w[0].v[e / 2]);
}
__device__ inline float decode_element(const struct decode_row<float> &x, int e)
{
    return __uint_as_float(x.w[e / 4].v[e % 4]);
}
/* Which element of a row is a lane's e-th: so that the lanes' 16-byte pieces are adjacent. */
template <class T> __device__ inline int decode_column(int lane, int lanes, int e)
{
    constexpr int PIECE = 16 / sizeof(T);
    return (e / PIECE * lanes + lane) * PIECE + e % PIECE;
}

template <class T>
__device__ inline struct decode_row<T> decode_load(
    const struct decode_job &j, const T *p, int lane) {
    constexpr int PIECE = 16 / sizeof(T);
    struct decode_row<T> x = {
    };
    UNROLL
    for (int i = 0; i < EACH / PIECE; i++) {
        int c = decode_column<T>(lane, j.lanes, i * PIECE);
        if (j.wide && c < j.a.d) {
            x.w[i] = *(const struct four_words *)(p + c);
        } else if (!j.wide) {
            for (int e = 0; e < PIECE && c + e < j.a.d; e++) {
                uint32_t bits = sizeof(T) == 4 ? ((const uint32_t *)(p + c))[e]
                                               : ((const uint16_t *)(p + c))[e];
                UNROLL
                for (int s = 0; s < PIECE; s++)
                    if (s == e)
                        x.w[i].v[s * sizeof(T) / 4] |= bits << s * sizeof(T) % 4 * 8;
            }
        }
    }
    return x;
}

/* Where the row of a token starts, in elements of the cache. */
__device__ inline int64_t
decode_at(const struct decode_job &j, int sequence, int g, int token)
{
    const struct op_attention_decode &a = j.a;
    if (!a.pages)
        return sequence * a.sequence_stride + (token * a.g + g) * a.d;
    int size = (int)a.page_tokens;
    int page = j.page_shift >= 0 ? token >> j.page_shift : token / size;
    int64_t row = (int64_t)a.pages[sequence * a.pages_ld + page] * size + (token - page * size);
    return (row * a.g + g) * a.d;
}

/* One team's running softmax over R heads. */
template <int R> struct decode_state {
    float q[R][EACH], o[R][EACH], top[R], sum[R];
};

/* One token each of U: s their scores, -infinity where there is none. */
template <class T, int R, int U>
__device__ inline void decode_add(
    struct decode_state<R> &w, const float (&s)[U][R], const struct decode_row<T> (&v)[U])
{
    UNROLL
    for (int r = 0; r < R; r++) {
        float top = w.top[r];
        UNROLL
        for (int u = 0; u < U; u++)
            top = fmaxf(top, s[u][r]);
        float shift = top == -INFINITY ? 0 : top, keep = exp2_fast(w.top[r] - shift);
        w.top[r] = top;
        w.sum[r] *= keep;
        UNROLL
        for (int e = 0; e < EACH; e++)
            w.o[r][e] *= keep;
        UNROLL
        for (int u = 0; u < U; u++) {
            float p = exp2_fast(s[u][r] - shift);
            w.sum[r] += p;
            UNROLL
            for (int e = 0; e < EACH; e++)
                w.o[r][e] += p * decode_element(v[u], e);
        }
    }
}

template <class T, int R, int U>
__device__ inline void decode_walk(
    const struct decode_job &j, struct decode_state<R> &w, int sequence, int g, int begin, int end)
{
    const T *keys = (const T *)j.a.k_cache, *values = (const T *)j.a.v_cache;
    int lane = (int)threadIdx.x & (j.lanes - 1), teams = ATTENTION_THREADS / j.lanes;
    int team = (int)threadIdx.x / j.lanes;
    for (int first = begin; first < end; first += teams * U) {
        struct decode_row<T> k[U], v[U];
        float s[U][R];
        UNROLL
        for (int u = 0; u < U; u++) {
            int token = first + u * teams + team;
            k[u] = v[u] = {};
            if (token < end) {
                int64_t at = decode_at(j, sequence, g, token);
                k[u] = decode_load<T>(j, keys + at, lane);
                v[u] = decode_load<T>(j, values + at, lane);
            }
        }
        UNROLL
        for (int u = 0; u < U; u++) {
            UNROLL
            for (int r = 0; r < R; r++) {
                s[u][r] = 0;
                UNROLL
                for (int e = 0; e < EACH; e++)
                    s[u][r] += w.q[r][e] * decode_element(k[u], e);
            }
        }
        for (int off = j.lanes / 2; off; off /= 2) {
            UNROLL
            for (int i = 0; i < U * R; i++)
                s[i / R][i % R] += __shfl_xor_sync(FULL, s[i / R][i % R], off);
        }
        UNROLL
        for (int i = 0; i < U * R; i++)
            if (first + i / R * teams + team >= end)
                s[i / R][i % R] = -INFINITY;
        decode_add<T, R, U>(w, s, v);
    }
}

/* Merges the teams of a warp; every lane gets the sum of its columns. */
template <int R> __device__ inline void decode_merge(struct decode_state<R> &w, int lanes)
{
    UNROLL
    for (int r = 0; r < R; r++) {
        float top = w.top[r];
        for (int off = lanes; off < WARP; off *= 2)
            top = fmaxf(top, __shfl_xor_sync(FULL, top, off));
        float keep = top == -INFINITY ? 0 : exp2_fast(w.top[r] - top);
        w.top[r] = top;
        w.sum[r] *= keep;
        UNROLL
        for (int e = 0; e < EACH; e++)
            w.o[r][e] *= keep;
        for (int off = lanes; off < WARP; off *= 2) {
            w.sum[r] += __shfl_xor_sync(FULL, w.sum[r], off);
            UNROLL
            for (int e = 0; e < EACH; e++)
                w.o[r][e] += __shfl_xor_sync(FULL, w.o[r][e], off);
        }
    }
}

/* Merges the warps and writes R heads from `head`: the result, or one split's part. room: (warps,
   R, d + 2) floats. */
template <class T, int R>
__device__ inline void decode_write(const struct decode_job &j, struct decode_state<R> &w,
    int64_t head, int heads, int split, float *room)
{
    int d = (int)j.a.d, ld = d + 2, lane = threadIdx.x % WARP;
    float *mine = room + threadIdx.x / WARP * R * ld;
    UNROLL
    for (int r = 0; r < R; r++) {
        UNROLL
        for (int e = 0; e < EACH; e++) {
            int c = decode_column<T>(lane, j.lanes, e);
            if (lane < j.lanes && c < d)
                mine[r * ld + c] = w.o[r][e];
        }
        if (lane == 0) {
            mine[r * ld + d] = w.top[r];
            mine[r * ld + d + 1] = w.sum[r];
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < heads * d; i += ATTENTION_THREADS) {
        const float *row = room + i / d * ld;
        float top = -INFINITY, sum = 0, o = 0;
        for (int k = 0; k < ATTENTION_WARPS; k++)
            top = fmaxf(top, row[k * R * ld + d]);
        for (int k = 0; k < ATTENTION_WARPS; k++) {
            float keep = exp2_fast(row[k * R * ld + d] - top);
            sum += row[k * R * ld + d + 1] * keep;
            o += row[k * R * ld + i % d] * keep;
        }
        int64_t at = (head + i / d) * j.splits + split;
        if (j.splits == 1) {
            j.a.o[at * d + i % d] = o / sum;
            continue;
        }
        j.o[at * d + i % d] = o;
        if (i % d == 0) {
            j.stats[2 * at] = top;
            j.stats[2 * at + 1] = sum;
        }
    }
}

/* Block: split, head of keys and chunk of its query heads, sequence. */
template <class T, int R, int U>
__global__ void __launch_bounds__(ATTENTION_THREADS) decode_part(struct decode_job j)
{
    SHARED(float, room);
    const struct op_attention_decode &a = j.a;
    int split = blockIdx.x, g = (int)blockIdx.y / j.chunks, sequence = blockIdx.z;
    int group = (int)(a.h / a.g), from = (int)blockIdx.y % j.chunks * R;
    int heads = min(R, group - from), lane = (int)threadIdx.x & (j.lanes - 1);
    int length = a.length[sequence], first = decode_first(a, length);
    int share = decode_share(length - first, j.splits);
    int begin = first + split * share, end = min(length, begin + share);
    int64_t head = sequence * a.h + g * group + from;
    struct decode_state<R> w;

    if (begin >= end) { /* not joined; without splits the sequence is empty */
        for (int i = threadIdx.x; j.splits == 1 && i < heads * a.d; i += ATTENTION_THREADS)
            a.o[head * a.d + i] = 0;
        return;
    }
    UNROLL
    for (int r = 0; r < R; r++) {
        UNROLL
        for (int e = 0; e < EACH; e++) {
            int c = decode_column<T>(lane, j.lanes, e);
            bool ok = r < heads && c < a.d;
            w.q[r][e] = ok ? a.q[(head + r) * a.d + c] * (a.scale * LOG2E) : 0;
            w.o[r][e] = 0;
        }
        w.top[r] = -INFINITY;
        w.sum[r] = 0;
    }
    decode_walk<T, R, U>(j, w, sequence, g, begin, end);
    decode_merge<R>(w, j.lanes);
    decode_write<T, R>(j, w, head, heads, split, room);
}

/* Block: one head of one sequence. */
__global__ void __launch_bounds__(ATTENTION_THREADS) decode_join(struct decode_job j)
{
    const struct op_attention_decode &a = j.a;
    int64_t head = blockIdx.x;
    int length = a.length[head / a.h], seen = length - decode_first(a, length);
    int share = decode_share(seen, j.splits);
    int used = seen > 0 ? (seen + share - 1) / share : 0, d = (int)a.d;
    const float *stats = j.stats + head * j.splits * 2, *o = j.o + head * j.splits * d;
    float top = -INFINITY, sum = 0;

    for (int s = 0; s < used; s++)
        top = fmaxf(top, stats[2 * s]);
    for (int s = 0; s < used; s++)
        sum += stats[2 * s + 1] * exp2_fast(stats[2 * s] - top);
    for (int c = threadIdx.x; c < d; c += ATTENTION_THREADS) {
        float x = 0;
        for (int s = 0; s < used; s++)
            x += o[s * d + c] * exp2_fast(stats[2 * s] - top);
        a.o[head * d + c] = used ? x / sum : 0;
    }
}

/* -- host -- */

/* Enough blocks to fill the device several times over; where there are, long sequences still are
   split, lest one be alone at the end. A capacity that the shape does not tell counts as long. */
static int decode_splits(struct cuda_dev *c, const struct op_attention_decode *a, int64_t blocks)
{
    int64_t want = 4 * (int64_t)c->sm_count / blocks, most = SPLITS;
    int64_t row = (a->d + 2) * (int64_t)sizeof(float), room = (int64_t)CUDA_SCRATCH_BYTES;
    int64_t capacity = a->pages ? a->pages_ld * a->page_tokens : a->sequence_stride / (a->g * a->d);

    if (a->window && (capacity <= 0 || capacity > a->window))
        capacity = a->window; /* of which more is never seen */
    want = want < capacity / SPLIT_LONG ? capacity / SPLIT_LONG : want;
    if (capacity > 0 && most > (capacity + CHUNK - 1) / CHUNK)
        most = (capacity + CHUNK - 1) / CHUNK;
    if (most > room / (a->n * a->h * row))
        most = room / (a->n * a->h * row);
    return (int)(want > most ? most : want);
}

template <class T, int R> static void decode_launch(struct dev *d, struct decode_job *j)
{
    constexpr int U = sizeof(T) == 4 || R == HEADS ? 2 : 4; /* tokens on their way a team */
    const struct op_attention_decode *a = &j->a;
    size_t shared = ATTENTION_WARPS * R * (size_t)(a->d + 2) * sizeof(float);
    int64_t rows;

    j->chunks = (int)blocks_of(a->h / a->g, R);
    j->splits = decode_splits((struct cuda_dev *)d, a, a->n * a->g * j->chunks);
    j->splits = j->splits < 1 ? 1 : j->splits;
    rows = a->n * a->h * j->splits;
    j->o = (float *)((struct cuda_dev *)d)->scratch;
    j->stats = j->o + rows * a->d;
    launch<decode_part<T, R, U>>(d,
        dim3((unsigned)j->splits, (unsigned)(a->g * j->chunks), (unsigned)a->n), ATTENTION_THREADS,
        shared, *j);
    if (j->splits > 1)
        launch<decode_join>(d, dim3((unsigned)(a->n * a->h)), ATTENTION_THREADS, 0, *j);
}

template <class T> static void decode_heads(struct dev *d, struct decode_job *j)
{
    int64_t group = j->a.h / j->a.g;
    if (group == 1)
        decode_launch<T, 1>(d, j);
    else if (group == 2)
        decode_launch<T, 2>(d, j);
    else if (group <= 4)
        decode_launch<T, 4>(d, j);
    else
        decode_launch<T, HEADS>(d, j);
}

static bool decode_check(struct dev *d, const struct op_attention_decode *a)
{
    if (a->d < 1 || a->d > EACH * WARP || a->g < 1 || a->h % a->g)
        cuda_refuse(d, "attention_decode: %lld heads over %lld of size %lld (up to %d)",
            (long long)a->h, (long long)a->g, (long long)a->d, EACH * WARP);
    else if (a->n > UINT16_MAX)
        cuda_refuse(d, "attention_decode: %lld sequences", (long long)a->n);
    else if (a->pages && (a->page_tokens < 1 || a->page_tokens > INT32_MAX))
        cuda_refuse(d, "attention_decode: pages of %lld tokens", (long long)a->page_tokens);
    else
        return a->n > 0;
    return false;
}

void op_cuda_attention_decode(struct dev *d, const struct op_attention_decode *a)
{
    struct decode_job j = {};
    if (!decode_check(d, a))
        return;
    int64_t size = dtype_block_bytes(a->kv_type), pieces = blocks_of(a->d, EACH);
    uint64_t bits = (uint64_t)(a->d * size) | (uintptr_t)a->k_cache | (uintptr_t)a->v_cache;
    if (!a->pages)
        bits |= (uint64_t)(a->sequence_stride * size);
    j.a = *a;
    j.wide = bits % 16 == 0;
    for (j.lanes = 1; j.lanes < pieces; j.lanes *= 2)
        ;
    j.page_shift = -1;
    for (int i = 0; a->pages && i < 31; i++)
        if (a->page_tokens == (int64_t)1 << i)
            j.page_shift = i;
    WITH_TYPE(a->kv_type, T, decode_heads<T>(d, &j));
}
