/*
 * experts: a mixture of experts but for its products: routing of tokens and its gradient, the order
 * of rows by expert, and what moves rows there and back. The host knows of no choice: all counts
 * and places stay on the device, so decoding can be recorded. Sums have a fixed order, and the sort
 * is stable without atomics: a warp is an expert and walks over all choices.
 */
#include "kernels/cuda/kernel.cuh"

#define ROUTE_WARPS 4
#define ROW_THREADS 128

__device__ static inline int64_t warp_index()
{
    return (int64_t)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
}

__device__ static inline int lane_index()
{
    return threadIdx.x % WARP;
}

/* -- routing: a warp a row -- */

__device__ static inline float route_logit(const float *p, int64_t i)
{
    float x = p[i];
    return x == x ? x : -INFINITY;
}

/* x at index i comes before the other: greater, or equal and of a lower index; -1: nothing. */
__device__ static inline bool route_before(float x, int i, float other, int at)
{
    return i >= 0 && (at < 0 || x > other || (x == other && i < at));
}

/* The greatest logit of those behind expert `last`, in every lane. */
__device__ static int route_next(const float *p, int e, int last)
{
    float limit = last < 0 ? 0 : route_logit(p, last), most = 0;
    int best = -1;
    for (int i = lane_index(); i < e; i += WARP) {
        float x = route_logit(p, i);
        bool behind = last < 0 || x < limit || (x == limit && i > last);
        if (behind && route_before(x, i, most, best)) {
            most = x;
            best = i;
        }
    }
    for (int by = WARP / 2; by; by /= 2) {
        float other = __shfl_xor_sync(FULL, most, by);
        int at = __shfl_xor_sync(FULL, best, by);
        if (route_before(other, at, most, best)) {
            most = other;
            best = at;
        }
    }
    return best;
}

__global__ void __launch_bounds__(ROUTE_WARPS *WARP) route_kernel(struct op_route a)
{
    const int64_t row = warp_index();
    const int lane = lane_index(), e = (int)a.e, k = (int)a.k;
    if (row >= a.n)
        return;
    float *p = a.p + row * e, sum = 0, chosen = 0;
    int32_t *expert = a.expert + row * k;
    int first = 0;
    for (int j = 0, last = -1; j < k; j++) {
        last = route_next(p, e, last);
        first = j ? first : last;
        if (lane == 0)
            expert[j] = last;
    }
    float top = route_logit(p, first);
    __syncwarp(); /* all have read what is now replaced, and see the choices */
    for (int i = lane; i < e; i += WARP) {
        p[i] = expf(p[i] - top);
        sum += p[i];
    }
    sum = warp_sum(sum);
    for (int i = lane; i < e; i += WARP)
        p[i] /= sum;
    __syncwarp();
    for (int j = lane; j < k; j += WARP)
        chosen += p[expert[j]];
    chosen = a.normalized ? warp_sum(chosen) : 1;
    for (int j = lane; j < k; j += WARP)
        a.weight[row * k + j] = p[expert[j]] / chosen;
}

/* Tokens of sequence s that exist. */
__device__ static inline int64_t route_tokens(const struct op_route &a, int64_t s)
{
    return a.length ? a.length[s] : a.tokens;
}

/* count[s, expert] of a warp. */
__global__ void __launch_bounds__(ROUTE_WARPS *WARP) route_count_kernel(struct op_route a)
{
    const int64_t at = warp_index(), s = at / a.e;
    if (at >= a.n / a.tokens * a.e)
        return;
    const int32_t *expert = a.expert + s * a.tokens * a.k;
    int mine = 0;
    for (int64_t i = lane_index(), n = route_tokens(a, s) * a.k; i < n; i += WARP)
        mine += expert[i] == (int32_t)(at % a.e);
    mine = __reduce_add_sync(FULL, mine);
    if (lane_index() == 0)
        a.count[at] += (float)mine;
}

extern "C" void op_cuda_route(struct dev *d, const struct op_route *a)
{
    const unsigned threads = ROUTE_WARPS * WARP;
    if (a->n <= 0)
        return;
    launch<route_kernel>(d, dim3(blocks_of(a->n, ROUTE_WARPS)), threads, 0, *a);
    if (a->count)
        launch<route_count_kernel>(
            d, dim3(blocks_of(a->n / a->tokens * a->e, ROUTE_WARPS)), threads, 0, *a);
}

/* What its choice adds to the gradient of p of expert i; inner and chosen as in the reference. */
__device__ static inline float route_choice(
    const struct op_route &a, int64_t row, int i, float inner, float chosen)
{
    for (int j = 0; j < (int)a.k; j++)
        if (a.expert[row * a.k + j] == i)
            return (a.dweight[row * a.k + j] - inner) / chosen;
    return 0;
}

template <class T>
__global__ void __launch_bounds__(ROUTE_WARPS *WARP) route_back_kernel(struct op_route a)
{
    const int64_t row = warp_index(), s = row / a.tokens;
    const int lane = lane_index(), e = (int)a.e;
    if (row >= a.n)
        return;
    const float *p = a.p + row * e;
    float inner = 0, chosen = 0, mean = 0, balance = 0;
    if (a.balance && row % a.tokens < route_tokens(a, s))
        balance = a.balance[s];
    for (int j = lane; j < (int)a.k; j += WARP) {
        chosen += p[a.expert[row * a.k + j]];
        inner += a.dweight[row * a.k + j] * a.weight[row * a.k + j];
    }
    chosen = a.normalized ? warp_sum(chosen) : 1;
    inner = a.normalized ? warp_sum(inner) : 0;
    for (int i = lane; i < e; i += WARP) {
        float dp = route_choice(a, row, i, inner, chosen);
        mean += p[i] * (dp + (balance != 0 ? balance * a.count[s * e + i] : 0));
    }
    mean = warp_sum(mean);
    for (int i = lane; i < e; i += WARP) {
        float dp = route_choice(a, row, i, inner, chosen);
        dp += balance != 0 ? balance * a.count[s * e + i] : 0;
        store((T *)a.dlogits, row * e + i, p[i] * (dp - mean));
    }
}

extern "C" void op_cuda_route_back(struct dev *d, const struct op_route *a)
{
    if (a->n > 0)
        WITH_TYPE(a->t, T,
            launch<route_back_kernel<T>>(
                d, dim3(blocks_of(a->n, ROUTE_WARPS)), ROUTE_WARPS * WARP, 0, *a));
}

/* -- the order of rows: a warp an expert -- */

/* offset[e + 1] = its choices */
__global__ void __launch_bounds__(ROUTE_WARPS *WARP) sort_count_kernel(struct op_expert_sort a)
{
    const int64_t e = warp_index();
    int mine = 0;
    if (e >= a.e)
        return;
    for (int64_t i = lane_index(); i < a.n; i += WARP)
        mine += a.expert[i] == (int32_t)e;
    mine = __reduce_add_sync(FULL, mine);
    if (lane_index() == 0)
        a.offset[e + 1] = mine;
}

/* One warp: what counts are in offset becomes their sums, 32 at a time. */
__global__ void __launch_bounds__(WARP) sort_sum_kernel(struct op_expert_sort a)
{
    const int lane = lane_index();
    int before = 0;
    if (lane == 0)
        a.offset[0] = 0;
    for (int64_t first = 0; first < a.e; first += WARP) {
        int sum = first + lane < a.e ? a.offset[first + lane + 1] : 0;
        for (int by = 1; by < WARP; by *= 2) {
            int below = __shfl_up_sync(FULL, sum, (unsigned)by);
            sum += lane >= by ? below : 0;
        }
        if (first + lane < a.e)
            a.offset[first + lane + 1] = before + sum;
        before += __shfl_sync(FULL, sum, WARP - 1);
    }
}

__global__ void __launch_bounds__(ROUTE_WARPS *WARP) sort_place_kernel(struct op_expert_sort a)
{
    const int64_t e = warp_index();
    const int lane = lane_index();
    if (e >= a.e)
        return;
    int at = a.offset[e];
    for (int64_t first = 0; first < a.n; first += WARP) {
        int64_t i = first + lane;
        bool mine = i < a.n && a.expert[i] == (int32_t)e;
        unsigned all = __ballot_sync(FULL, mine);
        int place = at + __popc(all & ((1u << lane) - 1));
        if (mine) {
            a.row[place] = (int32_t)i;
            a.place[i] = place;
        }
        at += __popc(all);
    }
}

extern "C" void op_cuda_expert_sort(struct dev *d, const struct op_expert_sort *a)
{
    dim3 grid(blocks_of(a->e, ROUTE_WARPS));
    launch<sort_count_kernel>(d, grid, ROUTE_WARPS * WARP, 0, *a);
    launch<sort_sum_kernel>(d, dim3(1), WARP, 0, *a);
    launch<sort_place_kernel>(d, grid, ROUTE_WARPS * WARP, 0, *a);
}

/* -- rows: a block a row -- */

template <class T>
__global__ void __launch_bounds__(ROW_THREADS) gather_kernel(struct op_expert_rows a)
{
    const int64_t i = blockIdx.x, from = a.row[i] / a.k;
    for (int64_t j = threadIdx.x; j < a.c; j += ROW_THREADS)
        ((T *)a.y)[i * a.c + j] = ((const T *)a.x)[from * a.c + j];
}

extern "C" void op_cuda_expert_gather(struct dev *d, const struct op_expert_rows *a)
{
    if (a->n > 0)
        WITH_TYPE(a->t, T,
            launch<gather_kernel<T>>(d, dim3((unsigned)(a->n * a->k)), ROW_THREADS, 0, *a));
}

template <class T>
__global__ void __launch_bounds__(ROW_THREADS) sum_kernel(struct op_expert_rows a)
{
    const int64_t i = blockIdx.x;
    const int32_t *place = a.place + i * a.k;
    for (int64_t j = threadIdx.x; j < a.c; j += ROW_THREADS) {
        float sum = a.accumulate ? load((const T *)a.y, i * a.c + j) : 0;
        for (int64_t l = 0; l < a.k; l++)
            sum += load((const T *)a.x, place[l] * a.c + j);
        store((T *)a.y, i * a.c + j, sum);
    }
}

extern "C" void op_cuda_expert_sum(struct dev *d, const struct op_expert_rows *a)
{
    if (a->n > 0)
        WITH_TYPE(a->t, T, launch<sum_kernel<T>>(d, dim3((unsigned)a->n), ROW_THREADS, 0, *a));
}

template <class T>
__global__ void __launch_bounds__(ROW_THREADS) weigh_kernel(struct op_expert_weigh a)
{
    __shared__ float room[WARP];
    const int64_t i = blockIdx.x;
    const float w = a.weight[a.row[i]];
    float sum = 0;
    for (int64_t j = i * a.c + threadIdx.x; j < (i + 1) * a.c; j += ROW_THREADS) {
        float x = load((const T *)a.x, j);
        store((T *)a.x, j, w * x);
        if (a.dy) {
            float dy = load((const T *)a.dy, j);
            sum += x * dy;
            store((T *)a.dy, j, w * dy);
        }
    }
    sum = block_sum(sum, room);
    if (a.dy && threadIdx.x == 0)
        a.dweight[a.row[i]] = sum;
}

extern "C" void op_cuda_expert_weigh(struct dev *d, const struct op_expert_weigh *a)
{
    if (a->n > 0)
        WITH_TYPE(a->t, T, launch<weigh_kernel<T>>(d, dim3((unsigned)a->n), ROW_THREADS, 0, *a));
}
