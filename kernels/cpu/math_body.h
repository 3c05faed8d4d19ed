/*
 * math_body: single elements, written so that the compiler vectorises them inside loops: loads and
 * stores by type, exp, GELU, tanh, sine and cosine. Part of isa_body.h.
 */
#ifndef KERNELS_CPU_MATH_BODY_H
#define KERNELS_CPU_MATH_BODY_H

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

union math_bits {
    float f;
    uint32_t u;
    int32_t i;
};

/* f16 by arithmetic: shifting the bits and scaling by 2^112 is exact for normal and subnormal
 * numbers. */
ISA_INLINE float math_from_f16(uint16_t h)
{
    union math_bits v = {.u = (uint32_t)(h & 0x7fffu) << 13}, scaled = {.f = v.f * 0x1p112f};
    scaled.u = (h & 0x7c00u) == 0x7c00u ? v.u | 0x7f800000u : scaled.u;
    scaled.u |= (uint32_t)(h & 0x8000u) << 16;
    return scaled.f;
}

/* As f32_to_f16, with its cases computed side by side. */
ISA_INLINE uint16_t math_to_f16(float f)
{
    union math_bits v = {.f = f};
    uint32_t sign = (v.u >> 16) & 0x8000u, a = v.u & 0x7fffffffu;
    union math_bits small = {.u = a};
    small.f += 0.5f;
    uint32_t nan = 0x7e00u | ((a >> 13) & 0x3ffu);
    uint32_t normal = (a + 0xfffu + ((a >> 13) & 1u) - 0x38000000u) >> 13;
    uint32_t r = a < 0x38800000u ? small.u - 0x3f000000u : normal;
    r = a >= 0x477ff000u ? 0x7c00u : r;
    r = a > 0x7f800000u ? nan : r;
    return (uint16_t)(sign | r);
}

ISA_INLINE uint16_t math_to_bf16(float f)
{
    union math_bits v = {.f = f};
    uint32_t rounded = (v.u + 0x7fffu + ((v.u >> 16) & 1u)) >> 16, nan = (v.u >> 16) | 0x40u;
    return (uint16_t)((v.u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

ISA_INLINE float math_load(enum dtype t, const void *p, int64_t i)
{
    if (t == DTYPE_F32)
        return ((const float *)p)[i];
    union math_bits v = {.u = (uint32_t)((const uint16_t *)p)[i] << 16};
    return t == DTYPE_BF16 ? v.f : math_from_f16(((const uint16_t *)p)[i]);
}

ISA_INLINE void math_store(enum dtype t, void *p, int64_t i, float v)
{
    if (t == DTYPE_F32)
        ((float *)p)[i] = v;
    else
        ((uint16_t *)p)[i] = t == DTYPE_BF16 ? math_to_bf16(v) : math_to_f16(v);
}

/* e^x within 2 ulp for x in [-87, 88]; beyond it saturates at about 1e-38 and 2e38. Adding 1.5 *
   2^23 rounds to an integer, which then stands in the low mantissa bits; polynomial: Cephes expf.
 */
ISA_INLINE float math_exp(float x)
{
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    union math_bits n = {.f = x * 1.44269504f + 12582912.0f};
    float k = n.f - 12582912.0f;
    float r = x - k * 0.693359375f + k * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    union math_bits scale = {.u = (n.u << 23) + 0x3f800000u};
    return p * scale.f;
}

/* GELU and its derivative, tanh form: with u = sqrt(2 / pi) (x + 0.044715 x^3),
   (1 + tanh u) / 2 = 1 / (1 + e^-2u). */
ISA_INLINE float math_gelu_gate(float x)
{
    return 1 / (1 + math_exp(x * (-1.59576912f - 0.0713548163f * x * x)));
}

ISA_INLINE float math_gelu(float x)
{
    return x * math_gelu_gate(x);
}

ISA_INLINE float math_gelu_slope(float x)
{
    float gate = math_gelu_gate(x);
    return gate + x * gate * (1 - gate) * (1.59576912f + 0.214064449f * x * x);
}

ISA_INLINE float math_tanh(float x)
{
    return 1 - 2 / (1 + math_exp(2 * x));
}

/* e^(-x^2 / 2): the normal distribution's density but for 1 / sqrt(2 pi). */
ISA_INLINE float math_bell(float x)
{
    return math_exp(-0.5f * x * x);
}

/* Its distribution function Phi(x) = erfc(-x / sqrt(2)) / 2, given math_bell(x), within 2e-7. For
   u = |x|, Phi(-u) = bell t P(t), t = 1 / (1 + 0.305 u): the form of Abramowitz and Stegun 7.1.26,
   with a minimax polynomial of degree 7 (Remez; relative error below 1e-7 for u <= 14). */
ISA_INLINE float math_phi(float x, float bell)
{
    float t = 1 / (1 + 0.305f * (x < 0 ? -x : x));
    float p = 0.0366995963f;
    p = p * t - 0.152990036f;
    p = p * t + 0.185719931f;
    p = p * t - 0.0379796659f;
    p = p * t + 0.121023202f;
    p = p * t + 0.1034204f;
    p = p * t + 0.122466892f;
    p = p * t + 0.121639728f;
    float below = bell * t * p;
    return x < 0 ? below : 1 - below;
}

/* GELU and its derivative, exact: x Phi(x). */
ISA_INLINE float math_gelu_erf(float x)
{
    return x * math_phi(x, math_bell(x));
}

ISA_INLINE float math_gelu_erf_slope(float x)
{
    float bell = math_bell(x);
    return math_phi(x, bell) + x * bell * 0.398942280f;
}

/* Sine and cosine of an angle of up to 2^29 quarter turns; the reduction is in double, the
 * polynomials are Cephes'. */
ISA_INLINE void math_sincos(double angle, float *sine, float *cosine)
{
    double turns = angle * 0.63661977236758134308; /* quarter turns: 2 / pi */
    double near = turns + 6755399441055744.0;      /* 1.5 * 2^52 rounds to an integer */
    near -= 6755399441055744.0;
    int32_t quarter = (int32_t)near;
    float x = (float)((turns - near) * 1.57079632679489661923), z = x * x;
    float s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * x + x;
    float c =
        ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z -
        0.5f * z + 1.0f;
    float swap_s = quarter & 1 ? c : s, swap_c = quarter & 1 ? s : c;
    *sine = quarter & 2 ? -swap_s : swap_s;
    *cosine = (quarter + 1) & 2 ? -swap_c : swap_c;
}

/* -- spans -- */

/* 16 bits are widened to a buffer, computed as F32 and narrowed; F32 is used where it stands. */
/* Elements: a few such buffers stay in an L1 cache, and their distance is no multiple of a page. */
#define MATH_SPAN 976

static inline void math_narrow(const float *restrict x, int64_t n, uint16_t *restrict out)
{
    int64_t i = 0;
#if defined(__AVX512BF16__)
    for (; i + 16 <= n; i += 16) {
        __m256bh h = _mm512_cvtneps_pbh(_mm512_loadu_ps(x + i));
        memcpy(out + i, &h, sizeof h);
    }
#endif
#pragma omp simd
    for (int64_t j = i; j < n; j++)
        out[j] = math_to_bf16(x[j]);
}

static inline void math_narrow_f16(const float *restrict x, int64_t n, uint16_t *restrict out)
{
    int64_t i = 0;
#if defined(__F16C__)
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(out + i),
            _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
#elif defined(__aarch64__)
    for (; i + 4 <= n; i += 4)
        vst1_u16(out + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(x + i))));
#endif
#pragma omp simd
    for (int64_t j = i; j < n; j++)
        out[j] = math_to_f16(x[j]);
}

static inline void math_widen_f16(const uint16_t *restrict h, int64_t n, float *restrict out)
{
    int64_t i = 0;
#if defined(__F16C__)
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(h + i))));
#elif defined(__aarch64__)
    for (; i + 4 <= n; i += 4)
        vst1q_f32(out + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(h + i))));
#endif
#pragma omp simd
    for (int64_t j = i; j < n; j++)
        out[j] = math_from_f16(h[j]);
}

/* Elements [at, at + n) of p as F32: in place, or in buffer (MATH_SPAN). */
ISA_INLINE const float *math_span(
    enum dtype t, const void *p, int64_t at, int64_t n, float *restrict buffer)
{
    if (t == DTYPE_F32)
        return (const float *)p + at;
    const uint16_t *restrict h = (const uint16_t *)p + at;
    union math_bits v;
    if (t == DTYPE_F16) {
        math_widen_f16(h, n, buffer);
        return buffer;
    }
#pragma omp simd private(v)
    for (int64_t i = 0; i < n; i++) {
        v.u = (uint32_t)h[i] << 16;
        buffer[i] = v.f;
    }
    return buffer;
}

/* Where to compute elements from at of p; math_put stores them. */
ISA_INLINE float *math_out(enum dtype t, void *p, int64_t at, float *buffer)
{
    return t == DTYPE_F32 ? (float *)p + at : buffer;
}

ISA_INLINE void math_put(enum dtype t, void *p, int64_t at, int64_t n, const float *buffer)
{
    if (t == DTYPE_BF16)
        math_narrow(buffer, n, (uint16_t *)p + at);
    else if (t == DTYPE_F16)
        math_narrow_f16(buffer, n, (uint16_t *)p + at);
}

/* x = square root of x, in place. sqrtf sets errno and so is never vectorised; this is the same
 * instruction. */
static inline void math_sqrt(float *x, int64_t n)
{
    int64_t i = 0;
#if defined(__AVX512F__)
    for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(x + i, _mm512_sqrt_ps(_mm512_loadu_ps(x + i)));
#elif defined(__AVX2__)
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(x + i, _mm256_sqrt_ps(_mm256_loadu_ps(x + i)));
#elif defined(__SSE2__)
    for (; i + 4 <= n; i += 4)
        _mm_storeu_ps(x + i, _mm_sqrt_ps(_mm_loadu_ps(x + i)));
#elif defined(__aarch64__)
    for (; i + 4 <= n; i += 4)
        vst1q_f32(x + i, vsqrtq_f32(vld1q_f32(x + i)));
#endif
    for (; i < n; i++)
        x[i] = sqrtf(x[i]);
}

#endif
