/*
 * quant: see quant.h. Blocks are read bytewise, so no alignment is needed and any little-endian
 * machine agrees. Each decoder follows the order in which ggml lays the elements out; nothing here
 * is tuned.
 */
#include "kernels/quant.h"

#include <assert.h>
#include <math.h>

static void quant_q8_0(const uint8_t *p, float *out)
{
    float scale = quant_f16_at(p);
    for (int i = 0; i < 32; i++)
        out[i] = scale * (float)(int8_t)p[2 + i];
}

static void quant_q4_0(const uint8_t *p, float *out)
{
    float scale = quant_f16_at(p);
    for (int i = 0; i < 16; i++) { /* low nibbles are the first half */
        out[i] = scale * (float)((p[2 + i] & 15) - 8);
        out[i + 16] = scale * (float)((p[2 + i] >> 4) - 8);
    }
}

static void quant_q4_1(const uint8_t *p, float *out)
{
    float scale = quant_f16_at(p), min = quant_f16_at(p + 2);
    for (int i = 0; i < 16; i++) {
        out[i] = scale * (float)(p[4 + i] & 15) + min;
        out[i + 16] = scale * (float)(p[4 + i] >> 4) + min;
    }
}

/* The numbers of Q5_0 and Q5_1: bit i of the first four bytes is the fifth of element i. */
static void quant_q5(const uint8_t *p, float scale, int bias, float min, float *out)
{
    uint32_t high = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    for (int i = 0; i < 32; i++) {
        uint32_t low = i < 16 ? p[4 + i] & 15u : p[4 + i - 16] >> 4;
        out[i] = scale * (float)((int)(low | (high >> i & 1) << 4) - bias) + min;
    }
}

/* f16 scale of scales, f16 scale of minima, 8 x (6-bit scale, 6-bit min) in 12 bytes, 128 bytes of
   nibbles: 64 elements share 32 bytes, the first 32 in the low nibbles. */
static void quant_q4_k(const uint8_t *p, float *out)
{
    float d = quant_f16_at(p), dmin = quant_f16_at(p + 2);
    for (int j = 0; j < 8; j++) {
        uint8_t scale, min;
        quant_q4_k_scale(p + 4, j, &scale, &min);
        const uint8_t *q = p + 16 + j / 2 * 32;
        for (int i = 0; i < 32; i++)
            out[32 * j + i] = d * scale * (float)(j & 1 ? q[i] >> 4 : q[i] & 15) - dmin * min;
    }
}

/* As Q4_K, and before the nibbles 32 bytes of fifth bits: bit j of byte i is that of element i of
   sub-block j. */
static void quant_q5_k(const uint8_t *p, float *out)
{
    float d = quant_f16_at(p), dmin = quant_f16_at(p + 2);
    for (int j = 0; j < 8; j++) {
        uint8_t scale, min;
        quant_q4_k_scale(p + 4, j, &scale, &min);
        const uint8_t *high = p + 16, *q = p + 48 + j / 2 * 32;
        for (int i = 0; i < 32; i++) {
            int low = j & 1 ? q[i] >> 4 : q[i] & 15;
            out[32 * j + i] = d * scale * (float)(low | (high[i] >> j & 1) << 4) - dmin * min;
        }
    }
}

/* 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 x i8 scale (of 16 elements), f16 scale
 * of scales. */
static void quant_q6_k(const uint8_t *p, float *out)
{
    float d = quant_f16_at(p + 208);
    for (int half = 0; half < 2; half++) {
        const uint8_t *low = p + 64 * half, *high = p + 128 + 32 * half;
        const uint8_t *scale = p + 192 + 8 * half;
        for (int i = 0; i < 128; i++) {
            int quarter = i / 32, l = i % 32;
            int nibble = (low[l + 32 * (quarter & 1)] >> (4 * (quarter >> 1))) & 15;
            int q = (nibble | ((high[l] >> (2 * quarter)) & 3) << 4) - 32;
            out[128 * half + i] = d * (float)(int8_t)scale[i / 16] * (float)q;
        }
    }
}

void quant_decode(enum dtype t, const void *src, int64_t count, float *out)
{
    const uint8_t *p = src;
    int64_t block = dtype_block(t), bytes = dtype_block_bytes(t);
    assert(count % block == 0);
    for (int64_t i = 0; i < count; i += block, p += bytes, out += block) {
        switch (t) {
        case DTYPE_F32:
            memcpy(out, p, 4);
            break;
        case DTYPE_BF16: {
            uint16_t h;
            memcpy(&h, p, 2);
            *out = bf16_to_f32(h);
            break;
        }
        case DTYPE_F16:
            *out = quant_f16_at(p);
            break;
        case DTYPE_I32: {
            int32_t v;
            memcpy(&v, p, 4);
            *out = (float)v;
            break;
        }
        case DTYPE_Q8_0:
            quant_q8_0(p, out);
            break;
        case DTYPE_Q4_0:
            quant_q4_0(p, out);
            break;
        case DTYPE_Q4_1:
            quant_q4_1(p, out);
            break;
        case DTYPE_Q5_0:
            quant_q5(p + 2, quant_f16_at(p), 16, 0, out);
            break;
        case DTYPE_Q5_1:
            quant_q5(p + 4, quant_f16_at(p), 0, quant_f16_at(p + 2), out);
            break;
        case DTYPE_Q4_K:
            quant_q4_k(p, out);
            break;
        case DTYPE_Q5_K:
            quant_q5_k(p, out);
            break;
        case DTYPE_Q6_K:
            quant_q6_k(p, out);
            break;
        case DTYPE_U8:
            *out = (float)*p;
            break;
        case DTYPES:
            break;
        }
    }
}
