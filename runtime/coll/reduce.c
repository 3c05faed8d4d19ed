/*
 * coll_reduce: the arithmetic of collectives on the host: sums and maxima of F32, BF16 and F16
 * (added in F32, rounded once) and I32. Operands are always taken in the order given, so results
 * never depend on timing or on which rank computes them. Shared-memory sums that no cache holds use
 * streaming stores: the result is not read again by this core, and fetching the line to overwrite
 * it would cost a third of the bandwidth.
 */
#include "runtime/coll/internal.h"

#include <assert.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#define STREAM_BYTES (12 << 20) /* of what is summed at once; less than that may stay in a cache */

size_t coll_element(enum dtype t)
{
    switch (t) {
    case DTYPE_F32:
    case DTYPE_I32:
        return 4;
    case DTYPE_BF16:
    case DTYPE_F16:
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

#ifdef __x86_64__
__attribute__((target("avx2"))) static int64_t add_avx2(float *x, const float *y, int64_t count)
{
    int64_t whole = count & ~(int64_t)15;
    for (int64_t i = 0; i < whole; i += 16) {
        __m256 a = _mm256_add_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i));
        __m256 b = _mm256_add_ps(_mm256_loadu_ps(x + i + 8), _mm256_loadu_ps(y + i + 8));
        _mm256_storeu_ps(x + i, a);
        _mm256_storeu_ps(x + i + 8, b);
    }
    return whole;
}
#endif

static void add_f32(float *restrict x, const float *restrict y, int64_t count)
{
    int64_t i = 0;
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2"))
        i = add_avx2(x, y, count);
#endif
    for (; i < count; i++)
        x[i] += y[i];
}

void coll_reduce_pair(
    void *into, const void *from, int64_t count, enum dtype t, enum coll_reduce op)
{
    if (t == DTYPE_F32) {
        float *restrict x = into;
        const float *restrict y = from;
        if (op == COLL_SUM) {
            add_f32(x, y, count);
        } else {
            for (int64_t i = 0; i < count; i++)
                x[i] = f32_reduce(x[i], y[i], op);
        }
    } else if (t == DTYPE_BF16) {
        uint16_t *restrict x = into;
        const uint16_t *restrict y = from;
        for (int64_t i = 0; i < count; i++)
            x[i] = f32_to_bf16(f32_reduce(bf16_to_f32(x[i]), bf16_to_f32(y[i]), op));
    } else if (t == DTYPE_F16) {
        uint16_t *restrict x = into;
        const uint16_t *restrict y = from;
        for (int64_t i = 0; i < count; i++)
            x[i] = f32_to_f16(f32_reduce(f16_to_f32(x[i]), f16_to_f32(y[i]), op));
    } else {
        assert(t == DTYPE_I32);
        int32_t *restrict x = into;
        const int32_t *restrict y = from;
        for (int64_t i = 0; i < count; i++)
            x[i] = i32_reduce(x[i], y[i], op);
    }
}

#ifdef __x86_64__
/* F32 sums, 32 at a time; the tail is the caller's. */
__attribute__((target("avx2"))) static int64_t sum_all_avx2(
    float *const *part, int n, float *const *out, int outs, int64_t count, bool stream)
{
    int64_t whole = count & ~(int64_t)31;
    for (int64_t i = 0; i < whole; i += 32) {
        __m256 s[4];
        for (int j = 0; j < 4; j++)
            s[j] = _mm256_loadu_ps(part[0] + i + 8 * j);
        for (int k = 1; k < n; k++)
            for (int j = 0; j < 4; j++)
                s[j] = _mm256_add_ps(s[j], _mm256_loadu_ps(part[k] + i + 8 * j));
        for (int k = 0; k < outs; k++)
            for (int j = 0; j < 4; j++)
                if (stream)
                    _mm256_stream_ps(out[k] + i + 8 * j, s[j]);
                else
                    _mm256_storeu_ps(out[k] + i + 8 * j, s[j]);
    }
    if (stream)
        _mm_sfence();
    return whole;
}
#endif

static void reduce_all_f32(
    float *const *part, int n, float *const *out, int outs, int64_t count, enum coll_reduce op)
{
    int64_t i = 0;
#ifdef __x86_64__
    bool stream = count * 4 > STREAM_BYTES;
    for (int k = 0; k < outs; k++)
        stream = stream && ((uintptr_t)out[k] & 31) == 0;
    if (op == COLL_SUM && __builtin_cpu_supports("avx2"))
        i = sum_all_avx2(part, n, out, outs, count, stream);
#endif
    for (; i < count; i++) {
        float s = part[0][i];
        for (int k = 1; k < n; k++)
            s = f32_reduce(s, part[k][i], op);
        for (int k = 0; k < outs; k++)
            out[k][i] = s;
    }
}

void coll_reduce_all(void *const *parts, int n, void *const *outs, int m, int64_t count,
    enum dtype t, enum coll_reduce op)
{
    assert(n <= COLL_MAX_LOCAL && m <= COLL_MAX_LOCAL);
    if (t == DTYPE_F32) {
        float *part[COLL_MAX_LOCAL], *out[COLL_MAX_LOCAL];
        for (int k = 0; k < n; k++)
            part[k] = parts[k];
        for (int k = 0; k < m; k++)
            out[k] = outs[k];
        reduce_all_f32(part, n, out, m, count, op);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        if (coll_element(t) == 2) {
            float s = half_to_f32(t, ((uint16_t *)parts[0])[i]);
            for (int k = 1; k < n; k++)
                s = f32_reduce(s, half_to_f32(t, ((uint16_t *)parts[k])[i]), op);
            uint16_t r = f32_to_half(t, s);
            for (int k = 0; k < m; k++)
                ((uint16_t *)outs[k])[i] = r;
        } else {
            assert(t == DTYPE_I32);
            int32_t s = ((int32_t *)parts[0])[i];
            for (int k = 1; k < n; k++)
                s = i32_reduce(s, ((int32_t *)parts[k])[i], op);
            for (int k = 0; k < m; k++)
                ((int32_t *)outs[k])[i] = s;
        }
    }
}
