/*
 * sample: one token from each row of logits, as op_ref_sample draws it, without sorting a row
 * and without the host. One block a row.
 *
 * Likelihoods are exp((logit - greatest) / temperature) in F32, weighed as integers (units of
 * 2^-44): integer sums do not depend on their order, so atomics may build them and a token is the
 * same every time. Tokens are ordered by logit, the greatest first, equal ones by index.
 * `sample_select` finds the token at which the running sum in that order passes a target: three
 * histograms of weights over ever lower digits of the logit's bits give the logit, division gives
 * which of its equals. That is done twice: for the end of the nucleus, then for the draw from it.
 * At top_p 1 the order is that of the indices, and 32 segments, one a warp, are narrowed down
 * instead.
 */
#include "kernels/cuda/kernel.cuh"

#include <limits.h>

#define SAMPLE_THREADS 1024 /* 32 warps: one lane can hold what each found */
#define SAMPLE_BINS    2048
#define SAMPLE_UNIT    0x1p44f   /* what is less likely than 2^-44 of the greatest is never drawn */
#define SAMPLE_VOCAB   (1 << 19) /* sums of weights fit 63 bits */

using sample_weight = unsigned long long; /* what the integer atomics take */

/* Halves of 64-bit sums: shared memory adds 32 bits in one instruction. */
struct sample_bins {
    uint32_t low[SAMPLE_BINS], high[SAMPLE_BINS];
};
struct sample_room {
    struct sample_bins first, next; /* of the greatest digit; of the one looked at */
    sample_weight part[WARP];
    float value[WARP];
    int index[WARP];
};

struct sample_row {
    const float *logits;
    int v;
    float top, temperature;
    float least; /* tokens less likely (to the greatest's 1) are in no nucleus */

    __device__ float likelihood(float x) const
    {
        return expf((x - top) / temperature);
    }
};

/* f(logit, index) for a thread's part of a row, in the order of the indices; four loads under
   way. */
template <class F> __device__ static inline void sample_each(const sample_row &row, F f)
{
    for (int i = threadIdx.x; i < row.v; i += 4 * SAMPLE_THREADS) {
        float x[4];
#pragma unroll
        for (int k = 0; k < 4; k++)
            x[k] = i + k * SAMPLE_THREADS < row.v ? row.logits[i + k * SAMPLE_THREADS] : 0;
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (i + k * SAMPLE_THREADS < row.v)
                f(x[k], i + k * SAMPLE_THREADS);
    }
}

__device__ static inline sample_weight sample_weigh(float likelihood)
{
    return likelihood > 0 ? (sample_weight)(likelihood * SAMPLE_UNIT) : 0; /* NaN: 0 */
}

/* Bits that are ordered as the floats are; zeros of both signs are one. */
__device__ static inline uint32_t sample_key(float x)
{
    uint32_t bits = __float_as_uint(x + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ static inline float sample_unkey(uint32_t key)
{
    return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

__device__ static inline sample_weight sample_warp_sum(sample_weight x)
{
    for (int i = WARP / 2; i; i /= 2)
        x += __shfl_xor_sync(FULL, x, i);
    return x;
}

/* -- searching: a target is narrowed down to where the running sum passes it -- */
struct sample_target {
    sample_weight left;   /* the sum that is still to be passed */
    sample_weight before; /* what stands before the place found so far */
};

/* The first lane whose running sum of `value` passes the target; the last that has any where none
   does. The same in all warps that hold the same values. */
__device__ static int sample_pick(sample_weight value, sample_target &t)
{
    int lane = threadIdx.x % WARP;
    sample_weight sum = value;

    for (int by = 1; by < WARP; by *= 2) {
        sample_weight other = __shfl_up_sync(FULL, sum, by);
        sum += lane >= by ? other : 0;
    }
    sample_weight total = __shfl_sync(FULL, sum, WARP - 1);
    if (t.left >= total)
        t.left = total ? total - 1 : 0;
    unsigned passed = __ballot_sync(FULL, sum > t.left);
    int at = passed ? __ffs((int)passed) - 1 : WARP - 1;
    sample_weight skipped = __shfl_sync(FULL, sum - value, at);
    t.left -= skipped < t.left ? skipped : t.left;
    t.before += skipped;
    return at;
}

/* The warp at which the sum over warps of `mine` (the same in its lanes) passes the target. */
__device__ static int sample_pick_warp(sample_room &room, sample_weight mine, sample_target &t)
{
    if (threadIdx.x % WARP == 0)
        room.part[threadIdx.x / WARP] = mine;
    __syncthreads();
    int at = sample_pick(room.part[threadIdx.x % WARP], t);
    __syncthreads();
    return at;
}

/* The first index at which the running sum of weight(i) passes the target. */
template <class F>
__device__ static int sample_index(sample_room &room, int v, sample_target t, F weight)
{
    int from = 0, to = v;

    while (to - from > 1) {
        int each = (to - from + WARP - 1) / WARP;
        int begin = from + (int)threadIdx.x / WARP * each, end = min(begin + each, to);
        sample_weight sum = 0;
        for (int i = begin + (int)threadIdx.x % WARP; i < end; i += WARP)
            sum += weight(i);
        from += sample_pick_warp(room, sample_warp_sum(sum), t) * each;
        from = min(from, to - 1);
        to = min(from + each, to);
    }
    return from;
}

/* -- histograms of weights -- */
__device__ static void sample_bins_clear(sample_bins &b)
{
    for (int i = threadIdx.x; i < SAMPLE_BINS; i += SAMPLE_THREADS)
        b.low[i] = b.high[i] = 0;
}
__device__ static inline void sample_bins_add(sample_bins &b, uint32_t bin, sample_weight w)
{
    uint32_t low = (uint32_t)w, high = (uint32_t)(w >> 32);

    if (atomicAdd(&b.low[bin], low) > ~low)
        high++; /* a carry */
    if (high)
        atomicAdd(&b.high[bin], high);
}
__device__ static inline sample_weight sample_bins_at(const sample_bins &b, int bin)
{
    return (sample_weight)b.high[bin] << 32 | b.low[bin];
}

/* The bin, from the last down, at which the running sum passes the target. A warp sums 64 bins, a
   lane two. */
__device__ static uint32_t sample_bin(sample_room &room, const sample_bins &b, sample_target &t)
{
    int lane = threadIdx.x % WARP, last = SAMPLE_BINS - 1 - 2 * lane;
    int mine = last - 2 * WARP * (int)(threadIdx.x / WARP);
    sample_weight sum = sample_bins_at(b, mine) + sample_bins_at(b, mine - 1);
    int warp = sample_pick_warp(room, sample_warp_sum(sum), t);

    last -= 2 * WARP * warp;
    sample_weight upper = sample_bins_at(b, last);
    int at = sample_pick(upper + sample_bins_at(b, last - 1), t);
    upper = __shfl_sync(FULL, upper, at);
    int bin = SAMPLE_BINS - 1 - 2 * WARP * warp - 2 * at;
    if (t.left < upper)
        return (uint32_t)bin;
    t.left -= upper;
    t.before += upper;
    return (uint32_t)bin - 1;
}

struct sample_found {
    uint32_t key;       /* of the token's logit */
    sample_weight rank; /* among those with that logit */
    sample_weight sum;  /* of the weights up to the token and with it */
};

/* Where, in the order of logits, the running sum passes `left`. room.first holds the histogram of
   the keys' upper 11 bits. */
__device__ static sample_found sample_select(
    sample_room &room, const sample_row &row, sample_weight left)
{
    sample_target t = {left, 0};
    uint32_t key = sample_bin(room, room.first, t);

    for (int level = 0; level < 2; level++) {
        int bits = level ? 10 : 11, shift = level ? 0 : 10;
        sample_bins_clear(room.next);
        __syncthreads();
        sample_each(row, [&](float x, int) {
            uint32_t digits = sample_key(x) >> shift;
            if (digits >> bits != key)
                return;
            float p = row.likelihood(x);
            if (p >= row.least)
                sample_bins_add(room.next, digits & ((1u << bits) - 1), sample_weigh(p));
        });
        __syncthreads();
        key = key << bits | sample_bin(room, room.next, t);
        __syncthreads();
    }
    sample_weight each = sample_weigh(row.likelihood(sample_unkey(key)));
    sample_weight rank = each ? t.left / each : 0;
    return {key, rank, t.before + (rank + 1) * each};
}

/* -- a row -- */
/* The greatest logit and its first index, in every thread. */
__device__ static int sample_greatest(sample_room &room, const sample_row &row, float *top)
{
    float best = -INFINITY;
    int at = INT_MAX;

    sample_each(row, [&](float x, int i) {
        if (x > best) {
            best = x;
            at = i;
        }
    });
    for (int round = 0; round < 2; round++) { /* in the warp, then over the warps */
        for (int by = WARP / 2; by; by /= 2) {
            float other = __shfl_xor_sync(FULL, best, by);
            int where = __shfl_xor_sync(FULL, at, by);
            if (other > best || (other == best && where < at)) {
                best = other;
                at = where;
            }
        }
        if (round)
            break;
        if (threadIdx.x % WARP == 0) {
            room.value[threadIdx.x / WARP] = best;
            room.index[threadIdx.x / WARP] = at;
        }
        __syncthreads();
        best = room.value[threadIdx.x % WARP];
        at = room.index[threadIdx.x % WARP];
    }
    *top = best;
    return at == INT_MAX ? 0 : at;
}

/* The sum of all weights; with `bins`, the histogram of those that a nucleus may hold. */
__device__ static sample_weight sample_total(sample_room &room, const sample_row &row, bool bins)
{
    sample_weight sum = 0;

    if (bins)
        sample_bins_clear(room.first);
    __syncthreads();
    sample_each(row, [&](float x, int) {
        float p = row.likelihood(x);
        sample_weight w = sample_weigh(p);
        sum += w;
        if (bins && p >= row.least)
            sample_bins_add(room.first, sample_key(x) >> 21, w);
    });
    sum = sample_warp_sum(sum);
    if (threadIdx.x % WARP == 0)
        room.part[threadIdx.x / WARP] = sum;
    __syncthreads();
    sum = sample_warp_sum(room.part[threadIdx.x % WARP]);
    __syncthreads();
    return sum;
}

/* fraction of sum, less than it */
__device__ static inline sample_weight sample_part(double fraction, sample_weight sum)
{
    sample_weight part = (sample_weight)(fraction * (double)sum);
    return part < sum ? part : sum - 1;
}

__device__ static int sample_nucleus(
    sample_room &room, const sample_row &row, double top_p, double u, sample_weight total)
{
    /* Reached, not passed: one unit less. */
    double reach = ceil(top_p * (double)total) - 1;
    sample_found end = sample_select(room, row, reach > 0 ? (sample_weight)reach : 0);
    sample_found drawn = sample_select(room, row, sample_part(u, end.sum));

    return sample_index(room, row.v, {drawn.rank, 0},
        [&](int i) -> sample_weight { return sample_key(row.logits[i]) == drawn.key; });
}

__global__ void __launch_bounds__(SAMPLE_THREADS, 1) sample_kernel(struct op_sample a)
{
    __shared__ struct sample_room room;
    int64_t r = blockIdx.x;
    sample_row row = {a.logits + r * a.v, (int)a.v, 0, a.temperature[r], 0};
    int token = sample_greatest(room, row, &row.top);
    float top_p = a.top_p[r];
    sample_weight total = 0; /* stays so when the greatest logit is not finite */

    if (top_p < 1) /* together, less likely ones do not sum up to 1 - top_p */
        row.least = (1 - top_p) / (float)row.v;
    if (row.temperature > 0)
        total = sample_total(room, row, top_p < 1);
    if (total > 0 && top_p < 1)
        token = sample_nucleus(room, row, top_p, a.u[r], total);
    else if (total > 0)
        token = sample_index(room, row.v, {sample_part(a.u[r], total), 0},
            [&](int i) { return sample_weigh(row.likelihood(row.logits[i])); });
    if (threadIdx.x == 0)
        a.token[r] = token;
}

extern "C" void op_cuda_sample(struct dev *d, const struct op_sample *a)
{
    if (a->v < 1 || a->v > SAMPLE_VOCAB || a->n > INT_MAX) {
        cuda_refuse(d, "sampling from %lld rows of %lld logits", (long long)a->n, (long long)a->v);
        return;
    }
    if (a->n > 0)
        launch<sample_kernel>(d, dim3((unsigned)a->n), SAMPLE_THREADS, 0, *a);
}
