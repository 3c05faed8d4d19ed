/*
 * convert: any type to F32, and F32 to BF16 or F16, with the bits that kernels/quant.c gives. Bound
 * by memory; a thread writes 16 bytes at a time.
 */
#include "kernels/cuda/each.cuh"
#include "kernels/cuda/quant.cuh"

#define CONVERT_THREADS 256

__device__ static inline float to_float(int32_t x)
{
    return (float)x;
}

template <class X, class Y> struct convert_op {
    static constexpr int width = pack_width<X, Y>;
    const X *x;
    Y *y;

    template <int W> struct regs {
        pack<X, W> x;
    };
    template <int W> __device__ void read(regs<W> &r, int64_t i) const
    {
        r.x = load_pack<X, W>(x + i);
    }
    template <int W> __device__ void write(regs<W> &r, int64_t i) const
    {
        pack<Y, W> v;
#pragma unroll
        for (int k = 0; k < W; k++)
            v.e[k] = from_float<Y>(to_float(r.x.e[k]));
        store_pack<Y, W>(y + i, v);
    }
};

template <class X, class Y> static void convert_flat(struct dev *d, const struct op_convert *a)
{
    convert_op<X, Y> op = {(const X *)a->x, (Y *)a->y};

    each(d, op, a->count, aligned16(a->x) && aligned16(a->y));
}

template <class X> static void convert_from(struct dev *d, const struct op_convert *a)
{
    if (a->y_type == DTYPE_F32)
        convert_flat<X, float>(d, a);
    else
        cuda_refuse(d, "no conversion of %s to %s", dtype_name(a->x_type), dtype_name(a->y_type));
}

static void convert_f32(struct dev *d, const struct op_convert *a)
{
    if (a->y_type == DTYPE_BF16)
        convert_flat<float, bf16>(d, a);
    else if (a->y_type == DTYPE_F16)
        convert_flat<float, f16>(d, a);
    else
        convert_from<float>(d, a);
}

/* A thread decodes one word: four weights of a group. */
template <class Q>
__global__ void __launch_bounds__(CONVERT_THREADS)
    convert_blocks_kernel(const uint8_t *x, int64_t words, bool packed, float *y)
{
    int64_t i = (int64_t)blockIdx.x * CONVERT_THREADS + threadIdx.x;

    if (i >= words)
        return;
    pack<float, 4> v = quant_four<Q>(x, i);
    if (packed)
        store_pack<float, 4>(y + 4 * i, v);
    else
        for (int k = 0; k < 4; k++)
            y[4 * i + k] = v.e[k];
}

template <enum dtype t> static void convert_blocks(struct dev *d, const struct op_convert *a)
{
    int64_t words = a->count / 4;

    if (a->y_type != DTYPE_F32 || a->count % quant<t>::columns)
        cuda_refuse(d, "no conversion of %lld weights of %s to %s", (long long)a->count,
            dtype_name(t), dtype_name(a->y_type));
    else if (words > 0)
        launch<convert_blocks_kernel<quant<t>>>(d, dim3(blocks_of(words, CONVERT_THREADS)),
            CONVERT_THREADS, 0, (const uint8_t *)a->x, words, aligned16(a->y), (float *)a->y);
}

extern "C" void op_cuda_convert(struct dev *d, const struct op_convert *a)
{
    switch (a->x_type) {
    case DTYPE_F32:
        convert_f32(d, a);
        return;
    case DTYPE_BF16:
        convert_from<bf16>(d, a);
        return;
    case DTYPE_F16:
        convert_from<f16>(d, a);
        return;
    case DTYPE_I32:
        convert_from<int32_t>(d, a);
        return;
    case DTYPE_Q8_0:
        convert_blocks<DTYPE_Q8_0>(d, a);
        return;
    case DTYPE_Q4_0:
        convert_blocks<DTYPE_Q4_0>(d, a);
        return;
    case DTYPE_Q4_1:
        convert_blocks<DTYPE_Q4_1>(d, a);
        return;
    case DTYPE_Q5_0:
        convert_blocks<DTYPE_Q5_0>(d, a);
        return;
    case DTYPE_Q5_1:
        convert_blocks<DTYPE_Q5_1>(d, a);
        return;
    case DTYPE_Q4_K:
        convert_blocks<DTYPE_Q4_K>(d, a);
        return;
    case DTYPE_Q5_K:
        convert_blocks<DTYPE_Q5_K>(d, a);
        return;
    case DTYPE_Q6_K:
        convert_blocks<DTYPE_Q6_K>(d, a);
        return;
    case DTYPE_U8:
    case DTYPES:
        break;
    }
    cuda_refuse(d, "no conversion from type %d", (int)a->x_type);
}
