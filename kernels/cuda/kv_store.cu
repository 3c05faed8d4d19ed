/*
 * kv_store: keys and values of new tokens to where attention_decode reads them. Positions and pages
 * are read on the device, so that a recording serves every token.
 */
#include "kernels/cuda/each.cuh"

template <class T> struct kv_store_op {
    static constexpr int width = pack_width<float, T>;
    struct op_kv_store a;
    int64_t row; /* elements: g * d */

    template <int W> struct regs {
        pack<float, W> k, v;
        int64_t at; /* in the caches */
    };
    template <int W> __device__ void read(regs<W> &r, int64_t i) const
    {
        int64_t n = divide(i, row), token = a.position[n];
        r.k = load_pack<float, W>(a.k + i);
        r.v = load_pack<float, W>(a.v + i);
        r.at = n * a.sequence_stride + token * row;
        if (a.pages) {
            int64_t page = divide(token, a.page_tokens);
            int64_t first = a.pages[n * a.pages_ld + page] * a.page_tokens;
            r.at = (first + token - page * a.page_tokens) * row;
        }
        r.at += i - n * row;
    }
    template <int W> __device__ static void narrow(void *cache, int64_t at, const pack<float, W> &x)
    {
        pack<T, W> to;
#pragma unroll
        for (int k = 0; k < W; k++)
            to.e[k] = from_float<T>(x.e[k]);
        store_pack<T, W>((T *)cache + at, to);
    }
    template <int W> __device__ void write(regs<W> &r, int64_t) const
    {
        narrow<W>(a.k_cache, r.at, r.k);
        narrow<W>(a.v_cache, r.at, r.v);
    }
};

template <class T> static void kv_store(struct dev *d, const struct op_kv_store *a)
{
    kv_store_op<T> op = {*a, a->g * a->d};
    bool packed = op.row % op.width == 0 && aligned16(a->k) && aligned16(a->v) &&
        aligned16(a->k_cache) && aligned16(a->v_cache) &&
        (a->pages || a->sequence_stride % op.width == 0);

    each(d, op, a->n * op.row, packed);
}

extern "C" void op_cuda_kv_store(struct dev *d, const struct op_kv_store *a)
{
    WITH_TYPE(a->kv_type, T, kv_store<T>(d, a));
}
