/*
 * distill: cross-entropy with a teacher and its gradient, in place of the student's logits or
 * beside them in 16 bits. One block a row, which it reads twice: for the greatest of both rows and
 * the sums of exponentials relative to these, kept while they run as in xent.cu, and for
 * divergence and gradient. Sums have a fixed order.
 */
#include "kernels/cuda/kernel.cuh"

#include <float.h>

#define DISTILL_THREADS 512

struct distill_stat { /* top: the greatest; sum, one: of exp((x - top) * by) and exp(x - top) */
    float top, sum, one;
};

__device__ static distill_stat distill_stats(const float *x, int64_t v, float by, float *room)
{
    distill_stat s = {-FLT_MAX, 0, 0};
    for (int64_t j = threadIdx.x; j < v; j += blockDim.x) {
        float top = fmaxf(s.top, x[j]), back = s.top - top;
        s.sum = s.sum * expf(back * by) + expf((x[j] - top) * by);
        s.one = s.one * expf(back) + expf(x[j] - top);
        s.top = top;
    }
    float top = block_max(s.top, room);
    float sum = block_sum(s.sum * expf((s.top - top) * by), room);
    return {top, sum, block_sum(s.one * expf(s.top - top), room)};
}

template <class G>
__global__ void __launch_bounds__(DISTILL_THREADS) distill_kernel(struct op_distill a)
{
    __shared__ float room[WARP];
    int64_t i = blockIdx.x;
    const float *z = a.logits + i * a.ld, *u = a.teacher + i * a.ld;
    G *out = (a.gradient16 ? (G *)a.gradient16 : (G *)a.logits) + i * a.ld;
    int32_t target = a.target[i];
    float by = 1 / a.temperature, hard = (1 - a.weight) * a.scale, divergence = 0;
    float soft = a.weight * a.temperature * a.scale;

    if (target < 0) {
        for (int64_t j = threadIdx.x; j < a.v; j += blockDim.x)
            store(out, j, 0);
        if (threadIdx.x == 0)
            a.loss[i] = 0;
        return;
    }
    float at_target = z[target];
    distill_stat s = distill_stats(z, a.v, by, room), t = distill_stats(u, a.v, by, room);
    for (int64_t j = threadIdx.x; j < a.v; j += blockDim.x) {
        float x = z[j] - s.top, y = u[j] - t.top, q = expf(y * by) / t.sum;
        divergence += q * (y - x);
        store(out, j, hard * (expf(x) / s.one - (j == target)) + soft * (expf(x * by) / s.sum - q));
    }
    divergence = block_sum(divergence, room) * by + logf(s.sum) - logf(t.sum);
    if (threadIdx.x == 0)
        a.loss[i] = (1 - a.weight) * (logf(s.one) + s.top - at_target) +
            a.weight * a.temperature * a.temperature * divergence;
}

extern "C" void op_cuda_distill(struct dev *d, const struct op_distill *a)
{
    if (a->n > INT32_MAX) {
        cuda_refuse(d, "distillation of %lld rows", (long long)a->n);
        return;
    }
    if (a->n <= 0)
        return;
    if (a->gradient16 && a->f16)
        launch<distill_kernel<f16>>(d, dim3((unsigned)a->n), DISTILL_THREADS, 0, *a);
    else if (a->gradient16)
        launch<distill_kernel<bf16>>(d, dim3((unsigned)a->n), DISTILL_THREADS, 0, *a);
    else
        launch<distill_kernel<float>>(d, dim3((unsigned)a->n), DISTILL_THREADS, 0, *a);
}
