/*
 * quant_encode: see quant_encode.h. A function a format, one block at a time. The legacy formats
 * compute in double where the reference's single-precision product and sum may or may not be fused:
 * double has room for both, which is what a fused one gives.
 */
#include "kernels/quant_encode.h"

#include "kernels/quant.h"

#include <assert.h>
#include <math.h>

#define SUPER     256 /* elements of a super-block */
#define GRID      10  /* candidates to either side of the plain scale */
#define GRID_STEP 0.1f

bool quant_encodes(enum dtype t)
{
    return t == DTYPE_F32 || t == DTYPE_BF16 || t == DTYPE_F16 || t == DTYPE_Q8_0 ||
        t == DTYPE_Q4_0 || t == DTYPE_Q5_0 || t == DTYPE_Q5_1 || t == DTYPE_Q4_K || t == DTYPE_Q6_K;
}

static void put_f16(uint8_t *p, float f)
{
    uint16_t h = f32_to_f16(f);
    memcpy(p, &h, sizeof h);
}

/* -- numbers of a block -- */

/* The number of the greatest absolute value, with its sign. */
static float greatest(int n, const float *x)
{
    float most = x[0];
    for (int i = 1; i < n; i++)
        if (fabsf(x[i]) > fabsf(most))
            most = x[i];
    return most;
}

static float bounded(float v, float low, float high)
{
    return v < low ? low : v > high ? high : v;
}

/* What the square errors of n numbers of a block count: where it is known, their importance times
   about their own size; else the size alone, above the root mean square of the n. */
static void weigh(int n, const float *x, const float *importance, float mean_square, float *w)
{
    float own = 0;
    for (int i = 0; i < n; i++)
        own += x[i] * x[i];
    own = sqrtf(own / (float)n);
    for (int i = 0; i < n; i++)
        w[i] = importance ? importance[i] * sqrtf(mean_square + x[i] * x[i]) : own + fabsf(x[i]);
}

static float mean_square_of(int n, const float *x)
{
    float sum = 0;
    for (int i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sum / (float)n;
}

/* n numbers by a scale alone and levels -half to half - 1; the scale may be negative. */
static float fit_scale(int n, float half, const float *x, const float *w)
{
    float most = greatest(n, x), best = -1, found = 0;
    for (int k = -GRID; k <= GRID && most != 0; k++) {
        float inverse = -(half + GRID_STEP * (float)k) / most, qx = 0, qq = 0;
        for (int i = 0; i < n; i++) {
            float v = bounded(x[i] * inverse, -half, half - 1) + half + 0.5f;
            float q = (float)(int)v - half;
            qx += w[i] * q * x[i];
            qq += w[i] * q * q;
        }
        /* the error is what is left of sum w x x when qx qx / qq is taken away */
        if (qq > 0 && qx * qx > best * qq) {
            best = qx * qx / qq;
            found = qx / qq;
        }
    }
    return found;
}

/* -- rounding to nearest -- */

static void encode_q8_0(const float *x, uint8_t *p)
{
    float d = fabsf(greatest(32, x)) / 127, inverse = d != 0 ? 1 / d : 0;
    put_f16(p, d);
    for (int i = 0; i < 32; i++)
        p[2 + i] = (uint8_t)(int8_t)roundf(x[i] * inverse);
}

/* x times inverse, from the middle of `levels` on; the greatest number became the lowest level. */
static unsigned level_of(float x, float inverse, int levels)
{
    double v = (double)x * (double)inverse + levels / 2 + 0.5;
    return v < 0 ? 0 : v < levels - 1 ? (unsigned)v : (unsigned)(levels - 1);
}

/* Of 32 numbers with levels -half to half - 1: nearest to them, or where it is known what each
   counts, the best of a search. */
static float scale_of(const float *x, int half, const float *importance)
{
    float w[32];
    if (!importance)
        return greatest(32, x) / (float)-half;
    weigh(32, x, importance, mean_square_of(32, x), w);
    return fit_scale(32, (float)half, x, w);
}

static void encode_q4_0(const float *x, const float *importance, uint8_t *p)
{
    float d = scale_of(x, 8, importance), inverse = d != 0 ? 1 / d : 0;
    put_f16(p, d);
    for (int i = 0; i < 16; i++)
        p[2 + i] = (uint8_t)(level_of(x[i], inverse, 16) | level_of(x[i + 16], inverse, 16) << 4);
}

static void encode_q5_0(const float *x, const float *importance, uint8_t *p)
{
    float d = scale_of(x, 16, importance), inverse = d != 0 ? 1 / d : 0;
    uint32_t high = 0;
    put_f16(p, d);
    for (int i = 0; i < 16; i++) {
        unsigned a = level_of(x[i], inverse, 32), b = level_of(x[i + 16], inverse, 32);
        p[6 + i] = (uint8_t)((a & 15) | (b & 15) << 4);
        high |= (a >> 4) << i | (b >> 4) << (i + 16);
    }
    memcpy(p + 2, &high, sizeof high);
}

/* -- searching -- */

struct affine { /* x is about scale * q + low, low <= 0 */
    float scale, low;
};

struct sums { /* of w, w x, w q, w q q, w q x */
    float w, x, q, qq, qx;
};

/* The least squares for the numbers' levels; a low above zero, which no block can say, is zero. */
static struct affine solve(const struct sums *s)
{
    float det = s->w * s->qq - s->q * s->q;
    struct affine a = {0, 0};
    if (det > 0) {
        a.scale = (s->w * s->qx - s->x * s->q) / det;
        a.low = (s->qq * s->x - s->q * s->qx) / det;
    }
    if (!(det > 0) || a.low > 0)
        a = (struct affine){s->qq > 0 ? s->qx / s->qq : 0, 0};
    return a;
}

/* 32 numbers by levels 0 to `top`. */
static struct affine fit_affine(float top, const float *x, const float *w)
{
    float low = x[0], high = x[0], best = INFINITY;
    for (int i = 1; i < 32; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    low = low > 0 ? 0 : low;
    struct affine found = {0, low};
    for (int k = -GRID; k <= GRID && high > low; k++) {
        float inverse = (top + GRID_STEP * (float)k) / (high - low), q[32], error = 0;
        struct sums s = {0};
        for (int i = 0; i < 32; i++) {
            float v = bounded((x[i] - low) * inverse, 0, top);
            q[i] = (float)(int)(v + 0.5f);
            s.w += w[i];
            s.x += w[i] * x[i];
            s.q += w[i] * q[i];
            s.qq += w[i] * q[i] * q[i];
            s.qx += w[i] * q[i] * x[i];
        }
        struct affine a = solve(&s);
        for (int i = 0; i < 32; i++) {
            float off = a.scale * q[i] + a.low - x[i];
            error += w[i] * off * off;
        }
        if (a.scale >= 0 && error < best) {
            best = error;
            found = a;
        }
    }
    return found;
}

static void encode_q5_1(const float *x, const float *importance, uint8_t *p)
{
    float w[32];
    uint32_t high = 0;
    weigh(32, x, importance, mean_square_of(32, x), w);
    struct affine fit = fit_affine(31, x, w);
    put_f16(p, fit.scale);
    put_f16(p + 2, fit.low);
    memset(p + 8, 0, 16);
    for (int i = 0; i < 32; i++) {
        float v = fit.scale > 0 ? bounded((x[i] - fit.low) / fit.scale, 0, 31) : 0;
        unsigned q = (unsigned)(v + 0.5f);
        p[8 + i % 16] |= (uint8_t)((q & 15) << (i < 16 ? 0 : 4));
        high |= q >> 4 << i;
    }
    memcpy(p + 4, &high, sizeof high);
}

/* The six bits of scale and of minimum of each of 8 sub-blocks, as quant_q4_k_scale reads them. */
static void pack_q4_k(const uint8_t scale[8], const uint8_t min[8], uint8_t *p)
{
    memset(p, 0, 12);
    for (int j = 0; j < 4; j++) {
        p[j] = (uint8_t)(scale[j] | scale[j + 4] >> 4 << 6);
        p[j + 4] = (uint8_t)(min[j] | min[j + 4] >> 4 << 6);
        p[j + 8] = (uint8_t)((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
    }
}

static void encode_q4_k(const float *x, const float *importance, uint8_t *p)
{
    struct affine fit[8];
    float scale = 0, min = 0, mean_square = mean_square_of(SUPER, x), w[32];
    for (int j = 0; j < 8; j++) {
        weigh(32, x + 32 * j, importance ? importance + 32 * j : NULL, mean_square, w);
        fit[j] = fit_affine(15, x + 32 * j, w);
        scale = fit[j].scale > scale ? fit[j].scale : scale;
        min = -fit[j].low > min ? -fit[j].low : min;
    }
    put_f16(p, scale / 63);
    put_f16(p + 2, min / 63);
    float d = quant_f16_at(p), dmin = quant_f16_at(p + 2);
    uint8_t scales[8], mins[8];
    for (int j = 0; j < 8; j++) {
        scales[j] = d > 0 ? (uint8_t)(bounded(fit[j].scale / d, 0, 63) + 0.5f) : 0;
        mins[j] = dmin > 0 ? (uint8_t)(bounded(-fit[j].low / dmin, 0, 63) + 0.5f) : 0;
    }
    pack_q4_k(scales, mins, p + 4);
    memset(p + 16, 0, 128);
    for (int j = 0; j < 8; j++) {
        float s = d * scales[j], m = dmin * mins[j];
        for (int i = 0; i < 32; i++) {
            float v = s > 0 ? bounded((x[32 * j + i] + m) / s, 0, 15) : 0;
            p[16 + j / 2 * 32 + i] |= (uint8_t)((uint8_t)(v + 0.5f) << (j & 1 ? 4 : 0));
        }
    }
}

/* Level q (0 to 63) of element i, as quant_q6_k reads it. */
static void put_q6(uint8_t *p, int i, unsigned q)
{
    int half = i / 128, quarter = i % 128 / 32, l = i % 32;
    p[64 * half + l + 32 * (quarter & 1)] |= (uint8_t)((q & 15) << (4 * (quarter >> 1)));
    p[128 + 32 * half + l] |= (uint8_t)((q >> 4) << (2 * quarter));
}

static void encode_q6_k(const float *x, const float *importance, uint8_t *p)
{
    float fit[16], w[16], most, mean_square = mean_square_of(SUPER, x);
    for (int j = 0; j < 16; j++) {
        weigh(16, x + 16 * j, importance ? importance + 16 * j : NULL, mean_square, w);
        fit[j] = fit_scale(16, 32, x + 16 * j, w);
    }
    most = greatest(16, fit);
    memset(p, 0, 208);
    put_f16(p + 208, most / -128);
    float d = quant_f16_at(p + 208);
    for (int j = 0; j < 16; j++) {
        float level = d != 0 ? bounded(fit[j] / d, -128, 127) : 0;
        int8_t scale = (int8_t)((int)(level + 128.5f) - 128);
        float s = d * scale;
        p[192 + j] = (uint8_t)scale;
        for (int i = 0; i < 16; i++) {
            float v = s != 0 ? bounded(x[16 * j + i] / s, -32, 31) : 0;
            put_q6(p, 16 * j + i, (unsigned)(v + 32.5f));
        }
    }
}

/* -- a row -- */

/* A number that is none would spoil its block. */
static const float *copy_finite(int n, const float *x, float copy[SUPER])
{
    for (int i = 0; i < n; i++)
        copy[i] = isfinite(x[i]) ? x[i] : 0;
    return copy;
}

void quant_encode(enum dtype t, const float *x, int64_t count, const float *importance, void *out)
{
    uint8_t *p = out;
    int64_t block = dtype_block(t), bytes = dtype_block_bytes(t);
    float copy[SUPER];
    assert(quant_encodes(t) && count % block == 0);
    for (int64_t i = 0; i < count; i += block, p += bytes) {
        const float *from = block > 1 ? copy_finite((int)block, x + i, copy) : x + i;
        const float *weights = importance ? importance + i : NULL;
        if (t == DTYPE_F32) {
            memcpy(p, from, 4);
        } else if (t == DTYPE_BF16) {
            uint16_t h = f32_to_bf16(*from);
            memcpy(p, &h, 2);
        } else if (t == DTYPE_F16) {
            put_f16(p, *from);
        } else if (t == DTYPE_Q8_0) {
            encode_q8_0(from, p);
        } else if (t == DTYPE_Q4_0) {
            encode_q4_0(from, weights, p);
        } else if (t == DTYPE_Q5_0) {
            encode_q5_0(from, weights, p);
        } else if (t == DTYPE_Q5_1) {
            encode_q5_1(from, weights, p);
        } else if (t == DTYPE_Q4_K) {
            encode_q4_k(from, weights, p);
        } else {
            encode_q6_k(from, weights, p);
        }
    }
}
