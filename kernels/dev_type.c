/*
 * dev_type: the element types of dev.h: names, block sizes, and conversions of single numbers.
 *
 * Apart from the registry because plugins carry a copy of it: it depends on nothing.
 */
#include "kernels/dev.h"

#include <assert.h>

static const struct {
    const char *name;
    int16_t block, bytes;
} dtypes[DTYPES] = {
    [DTYPE_F32] = {"f32", 1, 4},
    [DTYPE_BF16] = {"bf16", 1, 2},
    [DTYPE_F16] = {"f16", 1, 2},
    [DTYPE_I32] = {"i32", 1, 4},
    [DTYPE_Q8_0] = {"q8_0", 32, 34},
    [DTYPE_Q4_0] = {"q4_0", 32, 18},
    [DTYPE_Q4_1] = {"q4_1", 32, 20},
    [DTYPE_Q5_0] = {"q5_0", 32, 22},
    [DTYPE_Q5_1] = {"q5_1", 32, 24},
    [DTYPE_Q4_K] = {"q4_k", 256, 144},
    [DTYPE_Q5_K] = {"q5_k", 256, 176},
    [DTYPE_Q6_K] = {"q6_k", 256, 210},
    [DTYPE_U8] = {"u8", 1, 1},
};

const char *dtype_name(enum dtype t)
{
    return (unsigned)t < DTYPES ? dtypes[t].name : "?";
}

int64_t dtype_block(enum dtype t)
{
    assert((unsigned)t < DTYPES);
    return dtypes[t].block;
}

int64_t dtype_block_bytes(enum dtype t)
{
    assert((unsigned)t < DTYPES);
    return dtypes[t].bytes;
}

int64_t dtype_bytes(enum dtype t, int64_t count)
{
    int64_t bytes;
    if ((unsigned)t >= DTYPES || count < 0 || count % dtypes[t].block)
        return -1;
    if (__builtin_mul_overflow(count / dtypes[t].block, (int64_t)dtypes[t].bytes, &bytes))
        return -1;
    return bytes;
}

float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, mantissa = h & 1023u;
    union {
        uint32_t u;
        float f;
    } v;
    if (exponent == 31) {
        v.u = sign | 0x7f800000u | (mantissa << 13);
    } else if (exponent) {
        v.u = sign | ((exponent + 112) << 23) | (mantissa << 13);
    } else { /* zero or subnormal: mantissa * 2^-24 */
        v.f = (float)mantissa * 0x1p-24f;
        v.u |= sign;
    }
    return v.f;
}

uint16_t f32_to_f16(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = f};
    uint16_t sign = (uint16_t)((v.u >> 16) & 0x8000u);
    v.u &= 0x7fffffffu;
    if (v.u >= 0x7f800000u) /* infinity; NaN keeps its high bits and stays one */
        return (
            uint16_t)(sign | 0x7c00u | (v.u > 0x7f800000u ? 0x200u | ((v.u >> 13) & 0x3ffu) : 0));
    if (v.u >= 0x477ff000u) /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7c00u);
    if (v.u <
        0x38800000u) { /* subnormal: adding 0.5 rounds to multiples of 2^-24, in the low bits */
        v.f += 0.5f;
        return (uint16_t)(sign | (v.u - 0x3f000000u));
    }
    v.u += 0xfffu + ((v.u >> 13) & 1u);
    return (uint16_t)(sign | ((v.u - 0x38000000u) >> 13));
}
