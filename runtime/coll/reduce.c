/*
 * coll_reduce: the arithmetic of collectives on the host: sums and maxima of F32, BF16 (added in
 * F32, rounded once) and I32. Operands are always taken in the order given, so results never depend
 * on timing or on which rank computes them. Large shared-memory sums use streaming stores: the
 * result is not read again by this core, and fetching the line to overwrite it would cost a third
 * of the bandwidth.
 */
#include "runtime/coll/internal.h"

#include <assert.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

size_t coll_element(enum dtype t)
{
    switch (t) {
    case DTYPE_F32:
    case DTYPE_I32:
        return 4;
    case DTYPE_BF16:
        return 2;
    default:
        return 0;
    }
}

static inline float f32_reduce(float a, float b, enum coll_reduce op)
{
    return op == COLL_SUM ? a + b : (a > b ? a : b);
}

static inline int32_t i32_reduce(int32_t a, int32_t b, enum coll_reduce op)
{
    if (op == COLL_MAX)
        return a > b ? a : b;
    return (int32_t)((uint32_t)a + (uint32_t)b);
}

void coll_reduce_pair(
    void *into, const void *from, int64_t count, enum dtype t, enum coll_reduce op)
{
    if (t == DTYPE_F32) {
        float *restrict x = into;
        const float *restrict y = from;
        if (op == COLL_SUM) {
#pragma omp simd
            for (int64_t i = 0; i < count; i++)
                x[i] += y[i];
        } else {
            for (int64_t i = 0; i < count; i++)
                x[i] = f32_reduce(x[i], y[i], op);
        }
    } else if (t == DTYPE_BF16) {
        uint16_t *restrict x = into;
        const uint16_t *restrict y = from;
        for (int64_t i = 0; i < count; i++)
            x[i] = f32_to_bf16(f32_reduce(bf16_to_f32(x[i]), bf16_to_f32(y[i]), op));
    } else {
        assert(t == DTYPE_I32);
        int32_t *restrict x = into;
        const int32_t *restrict y = from;
        for (int64_t i = 0; i < count; i++)
            x[i] = i32_reduce(x[i], y[i], op);
    }
}

#ifdef __x86_64__
/* F32 sums, 16 at a time, both the common two-rank case and more. Parts are 64-byte aligned; the
 * tail is the caller's. */
__attribute__((target("avx512f"))) static int64_t sum_all_avx512(
    float *const *part, int n, int from, int to, int64_t count)
{
    int64_t whole = count & ~(int64_t)15;
    for (int64_t i = 0; i < whole; i += 16) {
        __m512 s = _mm512_load_ps(part[0] + i);
        for (int k = 1; k < n; k++)
            s = _mm512_add_ps(s, _mm512_load_ps(part[k] + i));
        for (int k = from; k < to; k++)
            _mm512_stream_ps(part[k] + i, s);
    }
    _mm_sfence();
    return whole;
}
#endif

static void reduce_all_f32(
    float *const *part, int n, int from, int to, int64_t count, enum coll_reduce op)
{
    int64_t i = 0;
#ifdef __x86_64__
    bool aligned = true;
    for (int k = 0; k < n; k++)
        aligned = aligned && ((uintptr_t)part[k] & 63) == 0;
    if (op == COLL_SUM && aligned && __builtin_cpu_supports("avx512f"))
        i = sum_all_avx512(part, n, from, to, count);
#endif
    for (; i < count; i++) {
        float s = part[0][i];
        for (int k = 1; k < n; k++)
            s = f32_reduce(s, part[k][i], op);
        for (int k = from; k < to; k++)
            part[k][i] = s;
    }
}

void coll_reduce_all(
    void *const *parts, int n, int from, int to, int64_t count, enum dtype t, enum coll_reduce op)
{
    assert(n <= COLL_MAX_LOCAL && from >= 0 && to <= n);
    if (t == DTYPE_F32) {
        float *part[COLL_MAX_LOCAL];
        for (int k = 0; k < n; k++)
            part[k] = parts[k];
        reduce_all_f32(part, n, from, to, count, op);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        if (t == DTYPE_BF16) {
            float s = bf16_to_f32(((uint16_t *)parts[0])[i]);
            for (int k = 1; k < n; k++)
                s = f32_reduce(s, bf16_to_f32(((uint16_t *)parts[k])[i]), op);
            uint16_t r = f32_to_bf16(s);
            for (int k = from; k < to; k++)
                ((uint16_t *)parts[k])[i] = r;
        } else {
            assert(t == DTYPE_I32);
            int32_t s = ((int32_t *)parts[0])[i];
            for (int k = 1; k < n; k++)
                s = i32_reduce(s, ((int32_t *)parts[k])[i], op);
            for (int k = from; k < to; k++)
                ((int32_t *)parts[k])[i] = s;
        }
    }
}
