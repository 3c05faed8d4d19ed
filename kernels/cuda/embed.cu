/*
 * embed: rows of a table by index, decoded where it is stored in another type, and the gradient of
 * the table.
 *
 * The gradient adds each row of dout to the table's row of its id. Ids repeat, some of them
 * thousands of times, and the sum must not depend on timing, so positions are first put in the
 * order of their ids, on the device, by a counting sort in one kernel: block b owns the ids with id
 * % blocks == b, counts the ids of the blocks before it, which tells where its part of the list
 * begins, and writes its positions in order. Then warps sum equal chunks of the list, whatever the
 * ids are: a run of one id that lies within a chunk goes to the table, the others' parts go to
 * scratch, and a third kernel adds up each run that crosses chunks, in order. Every table row is
 * written by one warp a column.
 */
#include "kernels/cuda/each.cuh"
#include "kernels/cuda/quant.cuh"

#define BLOCK_THREADS 256
#define PLAN_THREADS  512
#define PLAN_WARPS    (PLAN_THREADS / WARP)
#define PLAN_IDS      512        /* as many ids a block as this, ... */
#define PLAN_BLOCKS   128        /* ... until there are these blocks */
#define PLAN_SHARED   (96 << 10) /* at most, of counters */
#define PLAN_READS    8          /* ids that a thread reads at once */
#define SUM_THREADS   256
#define SUM_WARPS     (SUM_THREADS / WARP)
#define SUM_CHUNK     64 /* entries of the list that a warp sums */
#define SUM_ROWS      4  /* of them read at once, 512 bytes each where rows allow */
#define JOIN_PARTS    8  /* of a run, read at once */

/* -- forward -- */
/* A table of T, or of GGUF blocks; out of O. */
template <class T, class O> struct embed_op {
    static constexpr int width = pack_width<T, O>;
    const int32_t *ids;
    const T *table;
    O *out;
    int64_t c, ld_table, ld_out;
    bool accumulate;

    template <int W> struct regs {
        pack<T, W> row;
        pack<O, W> old;
    };
    template <int W> __device__ void read(regs<W> &r, int64_t i) const
    {
        int64_t row = divide(i, c), column = i - row * c;
        r.row = load_pack<T, W>(table + ids[row] * ld_table + column);
        if (accumulate)
            r.old = load_pack<O, W>(out + row * ld_out + column);
    }
    template <int W> __device__ void write(regs<W> &r, int64_t i) const
    {
        pack<O, W> v;
#pragma unroll
        for (int k = 0; k < W; k++) {
            float x = to_float(r.row.e[k]);
            v.e[k] = from_float<O>(accumulate ? to_float(r.old.e[k]) + x : x);
        }
        int64_t row = divide(i, c);
        store_pack<O, W>(out + row * ld_out + i - row * c, v);
    }
};

template <class T, class O> static void embed(struct dev *d, const struct op_embed *a)
{
    embed_op<T, O> op = {a->ids, (const T *)a->table, (O *)a->out, a->c,
        a->ld_table ? a->ld_table : a->c, a->ld_out ? a->ld_out : a->c, a->accumulate};
    bool packs = (a->c | op.ld_table | op.ld_out) % op.width == 0;
    each(d, op, a->n * a->c, packs && aligned16(a->table) && aligned16(a->out));
}

/* A thread decodes four weights. */
template <class Q>
__global__ void __launch_bounds__(BLOCK_THREADS)
    embed_blocks_kernel(struct op_embed a, int64_t words, bool packed)
{
    const int64_t each = a.c / 4, row_bytes = a.c / Q::columns * Q::bytes;
    const int64_t i = (int64_t)blockIdx.x * BLOCK_THREADS + threadIdx.x;
    if (i >= words)
        return;
    const int64_t row = divide(i, each);
    const uint8_t *from = (const uint8_t *)a.table + a.ids[row] * row_bytes;
    float *out = (float *)a.out + 4 * i;
    pack<float, 4> v = quant_four<Q>(from, i - row * each);
#pragma unroll
    for (int k = 0; a.accumulate && k < 4; k++)
        v.e[k] += out[k];
    if (packed)
        store_pack<float, 4>(out, v);
    else
        for (int k = 0; k < 4; k++)
            out[k] = v.e[k];
}

template <enum dtype t> static void embed_blocks(struct dev *d, const struct op_embed *a)
{
    int64_t words = a->n * a->c / 4;
    if (a->c % quant<t>::columns)
        cuda_refuse(d, "embed: rows of %lld weights of %s", (long long)a->c, dtype_name(t));
    else if (words > 0)
        launch<embed_blocks_kernel<quant<t>>>(d, dim3(blocks_of(words, BLOCK_THREADS)),
            BLOCK_THREADS, 0, *a, words, aligned16(a->out));
}

static void embed_stored(struct dev *d, const struct op_embed *a)
{
    switch (a->table_type) {
    case DTYPE_BF16:
        embed<bf16, float>(d, a);
        return;
    case DTYPE_F16:
        embed<f16, float>(d, a);
        return;
    case DTYPE_Q8_0:
        embed_blocks<DTYPE_Q8_0>(d, a);
        return;
    case DTYPE_Q4_0:
        embed_blocks<DTYPE_Q4_0>(d, a);
        return;
    case DTYPE_Q4_1:
        embed_blocks<DTYPE_Q4_1>(d, a);
        return;
    case DTYPE_Q5_0:
        embed_blocks<DTYPE_Q5_0>(d, a);
        return;
    case DTYPE_Q5_1:
        embed_blocks<DTYPE_Q5_1>(d, a);
        return;
    case DTYPE_Q4_K:
        embed_blocks<DTYPE_Q4_K>(d, a);
        return;
    case DTYPE_Q5_K:
        embed_blocks<DTYPE_Q5_K>(d, a);
        return;
    case DTYPE_Q6_K:
        embed_blocks<DTYPE_Q6_K>(d, a);
        return;
    case DTYPE_F32:
    case DTYPE_I32:
    case DTYPE_U8:
    case DTYPES:
        break;
    }
    cuda_refuse(d, "embed: a table of %s", dtype_name(a->table_type));
}

extern "C" void op_cuda_embed(struct dev *d, const struct op_embed *a)
{
    if (a->table_type == a->t)
        WITH_TYPE(a->t, T, embed<T, T>(d, a));
    else if (a->t == DTYPE_F32)
        embed_stored(d, a);
    else
        cuda_refuse(
            d, "embed: a table of %s for rows of %s", dtype_name(a->table_type), dtype_name(a->t));
}

/* -- the list of positions in the order of ids -- */
struct alignas(8) embed_entry {
    int32_t id, row;
};

/* The lanes whose key is this one's; keys below 0 are nobody's. Every lane calls. */
__device__ static inline uint32_t plan_peers(int key)
{
    uint32_t among = __ballot_sync(FULL, key >= 0), mine = 0;
    while (among) {
        int some = __shfl_sync(FULL, key, __ffs((int)among) - 1);
        uint32_t same = __ballot_sync(FULL, key == some);
        mine = key == some ? same : mine;
        among &= ~same;
    }
    return mine;
}

/* Exclusive prefix sums over the block of `count` counters in shared memory, a run of neighbours a
   thread. */
__device__ static inline void plan_scan(int *counter, int count, int *room)
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int each = (count + PLAN_THREADS - 1) / PLAN_THREADS;
    const int from = (int)threadIdx.x * each, to = min(from + each, count);
    int sum = 0;
    for (int i = from; i < to; i++)
        sum += counter[i];
    int until = sum; /* inclusive, over the warp */
    for (int by = 1; by < WARP; by *= 2) {
        int below = __shfl_up_sync(FULL, until, (unsigned)by);
        until += lane >= by ? below : 0;
    }
    if (lane == WARP - 1)
        room[warp] = until;
    __syncthreads();
    int start = until - sum;
    for (int w = 0; w < warp; w++)
        start += room[w];
    for (int i = from; i < to; i++) {
        int here = counter[i];
        counter[i] = start;
        start += here;
    }
    __syncthreads();
}

struct plan_job {
    const int32_t *ids;
    int n, shift, locals; /* 1 << shift blocks, of `locals` ids each */
    embed_entry *list;
};

/*
 * One pass of a warp over its share of the ids: counts them (counter (locals, PLAN_WARPS)), or,
 * when the counters have become places, writes the list from `base` on. Returns how many ids of
 * this lane belong to blocks before this one.
 */
template <bool place>
__device__ static inline int plan_pass(const plan_job &a, int *counter, int base)
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int share = (a.n + PLAN_THREADS - 1) / PLAN_THREADS * WARP;
    const int from = warp * share, to = min(from + share, a.n), mask = (1 << a.shift) - 1;
    int before = 0;
    for (int at = from; at < to; at += WARP * PLAN_READS) {
        int id[PLAN_READS];
#pragma unroll
        for (int u = 0; u < PLAN_READS; u++)
            id[u] = at + u * WARP + lane < to ? a.ids[at + u * WARP + lane] : -1;
#pragma unroll
        for (int u = 0; u < PLAN_READS; u++) {
            int owner = id[u] & mask, local = id[u] >> a.shift;
            bool mine = id[u] >= 0 && owner == (int)blockIdx.x;
            before += id[u] >= 0 && owner < (int)blockIdx.x;
            if (!__any_sync(FULL, mine))
                continue;
            uint32_t peers = plan_peers(mine ? local : -1);
            int rank = __popc(peers & ((1u << lane) - 1)), start = 0;
            if (mine)
                start = counter[local * PLAN_WARPS + warp];
            __syncwarp();
            if (mine && rank == 0)
                counter[local * PLAN_WARPS + warp] = start + __popc(peers);
            __syncwarp();
            if (place && mine)
                a.list[base + start + rank] = embed_entry{id[u], at + u * WARP + lane};
        }
    }
    return before;
}

__global__ void __launch_bounds__(PLAN_THREADS) plan_kernel(plan_job a)
{
    SHARED(int, counter);
    __shared__ int room[PLAN_WARPS];
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    for (int i = (int)threadIdx.x; i < a.locals * PLAN_WARPS; i += PLAN_THREADS)
        counter[i] = 0;
    __syncthreads();
    int before = plan_pass<false>(a, counter, 0);
    for (int i = WARP / 2; i; i /= 2)
        before += __shfl_xor_sync(FULL, before, i);
    if (lane == 0)
        room[warp] = before;
    __syncthreads();
    before = 0;
    for (int w = 0; w < PLAN_WARPS; w++)
        before += room[w];
    __syncthreads();
    plan_scan(counter, a.locals * PLAN_WARPS, room);
    plan_pass<true>(a, counter, before);
}

/* -- sums -- */
struct sum_job {
    const embed_entry *list;
    int n;
    int64_t c;
    const void *dout;
    float *dtable;
    float *part; /* (chunks, 2, c): of the run that enters the chunk, of the run that leaves it */
};

/* W floats in accesses of up to 16 bytes. */
template <int W> __device__ static inline void sum_load(float (&v)[W], const float *from)
{
    constexpr int each = W < 4 ? W : 4;
#pragma unroll
    for (int k = 0; k < W; k += each) {
        pack<float, each> some = load_pack<float, each>(from + k);
#pragma unroll
        for (int j = 0; j < each; j++)
            v[k + j] = some.e[j];
    }
}
template <int W>
__device__ static inline void sum_store(float *to, const float (&sum)[W], const float (&old)[W])
{
    constexpr int each = W < 4 ? W : 4;
#pragma unroll
    for (int k = 0; k < W; k += each) {
        pack<float, each> some;
#pragma unroll
        for (int j = 0; j < each; j++)
            some.e[j] = old[k + j] + sum[k + j];
        store_pack<float, each>(to + k, some);
    }
}

template <class T, int W> __global__ void __launch_bounds__(SUM_THREADS) sum_kernel(sum_job a)
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int64_t chunk = (int64_t)blockIdx.x * SUM_WARPS + warp;
    const int64_t column = ((int64_t)blockIdx.y * WARP + lane) * W;
    const int64_t from = chunk * SUM_CHUNK, to = min(from + SUM_CHUNK, (int64_t)a.n);
    if (from >= to)
        return;
    const T *dout = (const T *)a.dout + column;
    float *part = a.part + 2 * chunk * a.c + column, sum[W] = {}, none[W] = {};
    const bool inside = column < a.c;
    bool entered = from > 0 && a.list[from - 1].id == a.list[from].id;
    for (int64_t at = from; at < to; at += SUM_ROWS) {
        const int rows = (int)min(to - at, (int64_t)SUM_ROWS);
        /* lane u holds entry u, and id u + 1 tells whether a run ends with it */
        const int64_t i = at + min(lane, SUM_ROWS);
        const embed_entry e = i < a.n ? a.list[i] : embed_entry{-1, 0};
        const int follower = __shfl_down_sync(FULL, e.id, 1);
        const uint32_t ends = __ballot_sync(FULL, lane < rows && follower != e.id);
        pack<T, W> x[SUM_ROWS] = {};
        float old[SUM_ROWS][W] = {};
        int id[SUM_ROWS];
#pragma unroll
        for (int u = 0; u < SUM_ROWS; u++) {
            id[u] = __shfl_sync(FULL, e.id, u);
            int64_t row = __shfl_sync(FULL, e.row, u);
            if (inside && u < rows)
                x[u] = load_pack<T, W>(dout + row * a.c);
            if (inside && (ends >> u & 1))
                sum_load<W>(old[u], a.dtable + id[u] * a.c + column);
        }
#pragma unroll
        for (int u = 0; u < SUM_ROWS; u++) {
#pragma unroll
            for (int k = 0; k < W; k++)
                sum[k] += to_float(x[u].e[k]);
            if (!(ends >> u & 1))
                continue;
            if (inside && entered)
                sum_store<W>(part, sum, none);
            else if (inside)
                sum_store<W>(a.dtable + id[u] * a.c + column, sum, old[u]);
            entered = false;
#pragma unroll
            for (int k = 0; k < W; k++)
                sum[k] = 0;
        }
    }
    if (inside && to < a.n && a.list[to].id == a.list[to - 1].id)
        sum_store<W>(part + (entered ? 0 : a.c), sum, none);
}

/* The warp of the chunk that a run leaves, having begun there, adds the run's parts to the
   table. */
template <int W> __global__ void __launch_bounds__(SUM_THREADS) join_kernel(sum_job a)
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int64_t chunk = (int64_t)blockIdx.x * SUM_WARPS + warp;
    const int64_t column = ((int64_t)blockIdx.y * WARP + lane) * W;
    const int64_t from = chunk * SUM_CHUNK, to = from + SUM_CHUNK;
    if (to >= a.n || a.list[to - 1].id != a.list[to].id ||
        (from > 0 && a.list[from - 1].id == a.list[to].id))
        return;
    const int id = a.list[to].id;
    int64_t last = chunk + 1; /* the chunk in which the run ends */
    for (int run = WARP; run == WARP; last += run) {
        int64_t edge = (last + 1 + lane) * SUM_CHUNK;
        uint32_t on = __ballot_sync(FULL, edge < a.n && a.list[edge].id == id);
        run = on == FULL ? WARP : __ffs((int)~on) - 1;
    }
    if (column >= a.c)
        return;
    float sum[W] = {}, old[W];
    const float *part = a.part + column;
    for (int64_t j = chunk; j <= last; j += JOIN_PARTS) {
        float x[JOIN_PARTS][W];
#pragma unroll
        for (int u = 0; u < JOIN_PARTS; u++) { /* beyond the last: again, and not added */
            int64_t at = min(j + u, last);
            sum_load<W>(x[u], part + (2 * at + (at == chunk)) * a.c);
        }
#pragma unroll
        for (int u = 0; u < JOIN_PARTS; u++)
#pragma unroll
            for (int k = 0; k < W; k++)
                sum[k] += j + u <= last ? x[u][k] : 0;
    }
    sum_load<W>(old, a.dtable + id * a.c + column);
    sum_store<W>(a.dtable + id * a.c + column, sum, old);
}

/* Blocks of the plan: a power of two, more than n asks for when their counters would not hold v. */
static plan_job plan_of(struct dev *d, const struct op_embed *a, int64_t n)
{
    plan_job plan = {};
    size_t most = ((struct cuda_dev *)d)->shared_max;
    most = most < PLAN_SHARED ? most : PLAN_SHARED;
    int64_t locals = (int64_t)(most / (PLAN_WARPS * sizeof(int)));
    int64_t wanted = n / PLAN_IDS < PLAN_BLOCKS ? n / PLAN_IDS : PLAN_BLOCKS;
    while ((1 << plan.shift) < wanted || blocks_of(a->v, 1 << plan.shift) > locals)
        plan.shift++;
    plan.n = (int)n;
    plan.locals = (int)blocks_of(a->v, 1 << plan.shift);
    return plan;
}

template <class T, int W>
static void embed_back_rows(struct dev *d, const struct op_embed *a, int64_t first, int64_t rows)
{
    plan_job plan = plan_of(d, a, rows);
    sum_job sum = {};
    int64_t chunks = blocks_of(rows, SUM_CHUNK);
    constexpr int JW = W < 4 ? W : 4; /* of join_kernel */
    sum.part = (float *)((struct cuda_dev *)d)->scratch;
    sum.list = plan.list = (embed_entry *)(sum.part + 2 * chunks * a->c);
    sum.n = plan.n;
    sum.c = a->c;
    sum.dout = (const T *)a->dout + first * a->c;
    sum.dtable = a->dtable;
    plan.ids = a->ids + first;
    launch<plan_kernel>(d, dim3(1u << plan.shift), PLAN_THREADS,
        sizeof(int) * PLAN_WARPS * (size_t)plan.locals, plan);
    launch<sum_kernel<T, W>>(
        d, dim3(blocks_of(chunks, SUM_WARPS), blocks_of(a->c, WARP * W)), SUM_THREADS, 0, sum);
    launch<join_kernel<JW>>(
        d, dim3(blocks_of(chunks, SUM_WARPS), blocks_of(a->c, WARP * JW)), SUM_THREADS, 0, sum);
}

template <class T> static void embed_back(struct dev *d, const struct op_embed *a)
{
    /* as many rows at once as scratch holds the list and the parts of */
    int64_t chunk_bytes =
        SUM_CHUNK * (int64_t)sizeof(embed_entry) + 2 * a->c * (int64_t)sizeof(float);
    int64_t most = (int64_t)CUDA_SCRATCH_BYTES / chunk_bytes * SUM_CHUNK;
    constexpr int W = pack_width<T>;
    bool packed = a->c % W == 0 && aligned16(a->dout) && aligned16(a->dtable);
    if (most == 0) {
        cuda_refuse(d, "embedding of %lld channels", (long long)a->c);
        return;
    }
    for (int64_t first = 0; first < a->n && a->c > 0; first += most) {
        int64_t rows = a->n - first < most ? a->n - first : most;
        if (packed)
            embed_back_rows<T, W>(d, a, first, rows);
        else
            embed_back_rows<T, 1>(d, a, first, rows);
    }
}

extern "C" void op_cuda_embed_back(struct dev *d, const struct op_embed *a)
{
    WITH_TYPE(a->t, T, embed_back<T>(d, a));
}
