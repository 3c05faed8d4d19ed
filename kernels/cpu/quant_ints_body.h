/*
 * quant_ints_body: products with weights that are stored as blocks of integers. Part of
 * isa_body.h, behind quant_body.h.
 *
 * x becomes integers, too: QUANT_GROUP values of a row are 16 bits each times a power of two. What
 * a group of weights and one of x give is then a whole number, which no order of summing changes:
 *
 *     y = sum over groups g of (scale_w[g] * scale_x[g]) * whole_g  (+ min_w[g] * sum_x[g])
 *
 * in F32, one group after the other. Where that is too coarse a row of x is two: what it is rounded
 * to, and what that leaves, which is exact; y is the sum of both. So a row has the same bits by
 * both kernels here, whatever the others are: with weights in registers for a few rows of x, and
 * with panels of INTS_LANES rows of W in a thread's cache for more. How a processor multiplies
 * stands in ints_words_body.h and ints_bytes_body.h.
 */
#define INTS_LANES 8          /* rows of W that are multiplied at once */
#define INTS_FEW   8          /* rows of x for which W is not laid out in panels */
#define INTS_ROWS  4          /* rows of x whose sums stand in registers */
#define INTS_CHUNK 64         /* rows of x that stay in a cache while a tile is multiplied */
#define INTS_TILE  (96 << 10) /* bytes of a tile's panels */
#define INTS_MOST  4          /* panels of a tile */
#define INTS_TURNS 12 /* of a thread, in which it takes tasks: processors are not all as fast */

typedef int8_t ints_bytes __attribute__((vector_size(16)));
typedef uint8_t ints_nibbles __attribute__((vector_size(16)));
typedef uint16_t ints_shorts __attribute__((vector_size(2 * INTS_LANES)));
typedef int32_t ints_wholes __attribute__((vector_size(4 * INTS_LANES)));
typedef float ints_floats __attribute__((vector_size(4 * INTS_LANES), may_alias));

/* Of INTS_ROWS rows, or what is left of them, stands a group, then their next one. */
struct ints_x {
    int64_t m;         /* rows, of x's each one or two */
    int16_t *q;        /* (blocks, groups, rows of a block, QUANT_GROUP) */
    int32_t *total;    /* (blocks, groups, rows of a block) the sum of q */
    float *scale;      /* likewise */
    float *sum;        /* likewise: scale times total */
    int64_t k, groups; /* of a row */
};

ISA_INLINE int64_t ints_block_bytes(enum dtype t)
{
    return t == DTYPE_Q8_0 ? 34
        : t == DTYPE_Q4_0  ? 18
        : t == DTYPE_Q4_1  ? 20
        : t == DTYPE_Q5_0  ? 22
                           : 24;
}

#if defined(__ARM_FEATURE_DOTPROD)
#include "kernels/cpu/ints_bytes_body.h"
#else
#include "kernels/cpu/ints_words_body.h"
#endif

struct ints_work {
    struct op_quant_matmul op;
    struct ints_x x;
    int parts;      /* rows of x's integers for one of x: 1 or 2 */
    int64_t panels; /* of a tile */
    char *memory;   /* tiles, one a thread */
    size_t tile_bytes, panel_bytes;
};

/* -- x -- */
/* Added to a group's greatest for 16 bits: on aarch64 a number that would round to 32640 or more,
   and so not be two bytes with signs, has its group take the next power of two. */
#if defined(__aarch64__)
#define INTS_CARRY 0x10100
#else
#define INTS_CARRY 0
#endif

/* 2^(bits - 2) / 2^e, where 2^e is the greatest power of two in the group: so the integers have all
   of `bits` but the one that may be lost to e. What is below 2^-113 is zero; a group with an
   infinity or a NaN is NaN. Returns the sum of q. */
ISA_INLINE int32_t ints_group_of_x(const float *x, int bits, int16_t *q, float *scale, float *sum)
{
    int32_t most = 0, total = 0, greatest = (1 << (bits - 1)) - 1;
#pragma omp simd reduction(max : most)
    for (int i = 0; i < QUANT_GROUP; i++) {
        union math_bits v = {.f = x[i]};
        int32_t magnitude = (int32_t)(v.u & 0x7fffffffu);
        most = magnitude > most ? magnitude : most;
    }
    int32_t e = (int32_t)(((uint32_t)most + (bits > 15 ? INTS_CARRY : 0)) >> 23);
    union math_bits up = {.u = e > 14 ? (uint32_t)(252 + bits - e) << 23 : 0};
    union math_bits down = {.u = e > 14 ? (uint32_t)(e + 2 - bits) << 23 : 0};
    if (most >> 23 == 255) {
        up.u = 0;
        down.f = NAN;
    }
#pragma omp simd reduction(+ : total)
    for (int i = 0; i < QUANT_GROUP; i++) {
        union math_bits v = {.f = x[i] * up.f + 12582912.0f}; /* 1.5 * 2^23: rounds to even */
        int32_t whole = (int32_t)v.u - 0x4b400000;
        whole = whole > greatest ? greatest : whole;
        q[i] = (int16_t)whole;
        total += (int16_t)whole;
    }
    *scale = down.f;
    *sum = down.f * (float)total;
    return total;
}

/* Where group g of a row stands among them. */
ISA_INLINE int64_t ints_place(const struct ints_x *x, int64_t row, int64_t g)
{
    int64_t first = row / INTS_ROWS * INTS_ROWS, left = x->m - first;
    return first * x->groups + g * (left < INTS_ROWS ? left : INTS_ROWS) + row - first;
}

/* A group's product is below 2^31: 32 times 2^7 or less times 2^15, of Q6_K 2^12 times 2^14. */
static void ints_row_of_x(const struct op_quant_matmul *a, const struct ints_x *x, int64_t i)
{
    int bits = a->w_type == DTYPE_Q6_K ? 15 : 16, parts = (int)(x->m / a->m);
    for (int64_t g = 0; g < x->groups; g++) {
        const float *from = a->x + i * x->k + g * QUANT_GROUP;
        float left[QUANT_GROUP];
        for (int64_t row = i * parts; row < (i + 1) * parts; row++, from = left) {
            int64_t at = ints_place(x, row, g);
            int16_t *q = x->q + at * QUANT_GROUP;
            float *scale = x->scale + at;
            x->total[at] = ints_group_of_x(from, bits, q, scale, x->sum + at);
            for (int l = 0; l < QUANT_GROUP && parts > 1; l++)
                left[l] = from[l] - *scale * q[l];
            ints_split(q);
        }
    }
}

/* -- a group of weights -- */
/* 16 bytes, widened. */
ISA_INLINE ints_half ints_unsigned(const uint8_t *p)
{
    ints_nibbles v;
    memcpy(&v, p, sizeof v);
#if defined(__AVX2__)
    return (ints_half)_mm256_cvtepu8_epi16((__m128i)v);
#else
    return __builtin_convertvector(v, ints_half);
#endif
}

ISA_INLINE ints_half ints_signed(const uint8_t *p)
{
    ints_bytes v;
    memcpy(&v, p, sizeof v);
#if defined(__AVX2__)
    return (ints_half)_mm256_cvtepi8_epi16((__m128i)v);
#else
    return __builtin_convertvector(v, ints_half);
#endif
}

ISA_INLINE void ints_nibbles_of(const uint8_t *p, int8_t bias, ints_half w[2])
{
    ints_half v = ints_unsigned(p);
    w[0] = (v & 15) - bias;
    w[1] = (ints_half)((ints_bits)v >> 4) - bias;
}

ISA_INLINE void ints_q5(const uint8_t *p, int8_t bias, ints_half w[2])
{
    uint32_t high;
    memcpy(&high, p, 4);
    ints_nibbles_of(p + 4, 0, w);
    w[0] = (w[0] | ints_fifth(high, 0)) - bias;
    w[1] = (w[1] | ints_fifth(high, 1)) - bias;
}

/* Two groups share 32 bytes of nibbles, all eight the 32 of fifth bits before them. */
ISA_INLINE void ints_q5_k(const uint8_t *p, int sub, ints_half w[2])
{
    for (int i = 0; i < 2; i++) {
        ints_bits v = (ints_bits)ints_unsigned(p + 48 + sub / 2 * 32 + 16 * i);
        ints_bits fifth = (ints_bits)ints_unsigned(p + 16 + 16 * i) >> sub & 1;
        w[i] = (ints_half)((sub & 1 ? v >> 4 : v & 15) | fifth << 4);
    }
}

/* Its scales are of 16 weights: where there is room they go into these, in 14 bits. */
ISA_INLINE void ints_q6_k(const uint8_t *p, int sub, ints_half w[2])
{
    int half = sub / 4, quarter = sub % 4;
    const uint8_t *low = p + 64 * half + 32 * (quarter & 1), *high = p + 128 + 32 * half;
    for (int i = 0; i < 2; i++) {
        ints_bits l = (ints_bits)ints_unsigned(low + 16 * i) >> (4 * (quarter >> 1)) & 15;
        ints_bits h = (ints_bits)ints_unsigned(high + 16 * i) >> (2 * quarter) & 3;
        w[i] = ints_scaled((ints_half)(l | h << 4) - 32, (int8_t)p[192 + 2 * sub + i]);
    }
}

/* F16 of INTS_LANES rows, which stand at one place in each. */
ISA_INLINE ints_floats ints_f16(const uint8_t *const *row, int64_t at)
{
#if defined(__F16C__)
    uint16_t one;
    ints_shorts all = {0};
#pragma GCC unroll 8
    for (int l = 0; l < INTS_LANES; l++) {
        memcpy(&one, row[l] + at, sizeof one);
        all[l] = one;
    }
    return (ints_floats)_mm256_cvtph_ps((__m128i)all);
#else
    ints_floats all;
    for (int l = 0; l < INTS_LANES; l++)
        all[l] = quant_scalar_f16(row[l] + at);
    return all;
#endif
}

/* Group g of a row: two halves, their scale and, of types that have one, a minimum. */
ISA_INLINE void ints_group(
    enum dtype t, const uint8_t *row, int64_t g, ints_half w[2], float *scale, float *min)
{
    const uint8_t *p = row + g * ints_block_bytes(t);
    uint8_t sub_scale, sub_min;
    *min = 0;
    switch (t) {
    case DTYPE_Q4_0:
        ints_nibbles_of(p + 2, 8, w);
        break;
    case DTYPE_Q4_1:
        *min = quant_scalar_f16(p + 2);
        ints_nibbles_of(p + 4, 0, w);
        break;
    case DTYPE_Q5_0:
        ints_q5(p + 2, 16, w);
        break;
    case DTYPE_Q5_1:
        *min = quant_scalar_f16(p + 2);
        ints_q5(p + 4, 0, w);
        break;
    case DTYPE_Q4_K:
        p = row + g / 8 * 144;
        quant_q4_k_scale(p + 4, (int)(g % 8), &sub_scale, &sub_min);
        for (int i = 0; i < 2; i++) {
            ints_bits v = (ints_bits)ints_unsigned(p + 16 + g % 8 / 2 * 32 + 16 * i);
            w[i] = (ints_half)(g & 1 ? v >> 4 : v & 15);
        }
        *scale = quant_scalar_f16(p) * sub_scale;
        *min = -quant_scalar_f16(p + 2) * sub_min;
        return;
    case DTYPE_Q5_K:
        p = row + g / 8 * 176;
        quant_q4_k_scale(p + 4, (int)(g % 8), &sub_scale, &sub_min);
        ints_q5_k(p, (int)(g % 8), w);
        *scale = quant_scalar_f16(p) * sub_scale;
        *min = -quant_scalar_f16(p + 2) * sub_min;
        return;
    case DTYPE_Q6_K:
        p = row + g / 8 * 210;
        ints_q6_k(p, (int)(g % 8), w);
        *scale = quant_scalar_f16(p + 208);
        return;
    default: /* Q8_0 */
        w[0] = ints_signed(p + 2);
        w[1] = ints_signed(p + 18);
        break;
    }
    *scale = quant_scalar_f16(p);
}

ISA_INLINE bool ints_have_min(enum dtype t)
{
    return t == DTYPE_Q4_1 || t == DTYPE_Q5_1 || t == DTYPE_Q4_K || t == DTYPE_Q5_K;
}

/* What ints_group has of INTS_LANES rows. */
ISA_INLINE void ints_groups(enum dtype t, const uint8_t *const *row, int64_t g, ints_half (*w)[2],
    ints_floats *scale, ints_floats *min)
{
    int64_t at = g * ints_block_bytes(t);
#pragma GCC unroll 8
    for (int l = 0; l < INTS_LANES; l++) {
        float one, least;
        ints_group(t, row[l], g, w[l], &one, &least);
        (*scale)[l] = one;
        (*min)[l] = least;
    }
    if (t != DTYPE_Q4_K && t != DTYPE_Q5_K && t != DTYPE_Q6_K)
        *scale = ints_f16(row, at);
    if (t == DTYPE_Q4_1 || t == DTYPE_Q5_1)
        *min = ints_f16(row, at + 2);
}

/* sum += a group of INTS_LANES rows of W times one of x. */
ISA_INLINE ints_floats ints_add(enum dtype t, ints_floats sum, ints_wholes whole, ints_floats scale,
    ints_floats min, float x_scale, float x_sum)
{
    sum = __builtin_convertvector(whole, ints_floats) * (scale * x_scale) + sum;
    if (ints_have_min(t))
        sum = min * x_sum + sum;
    return sum;
}

/* Row j of W; beyond the last one that of `first`, whose y is computed in vain. */
ISA_INLINE const uint8_t *ints_row(
    enum dtype t, const struct op_quant_matmul *a, int64_t first, int64_t j)
{
    int64_t bytes = t == DTYPE_Q4_K ? a->k / 256 * 144
        : t == DTYPE_Q5_K           ? a->k / 256 * 176
        : t == DTYPE_Q6_K           ? a->k / 256 * 210
                                    : a->k / QUANT_GROUP * ints_block_bytes(t);
    return (const uint8_t *)a->w + (j < a->n ? j : first) * bytes;
}

/* The sums of `rows` rows of integers from i, whole rows of x, and INTS_LANES rows of W from j. */
ISA_INLINE void ints_put(
    const struct ints_work *s, int rows, int64_t i, int64_t j, const ints_floats *sum)
{
    int64_t n = s->op.n;
    for (int r = 0; r < rows; r += s->parts) {
        ints_floats y = sum[r];
        if (s->parts > 1)
            y += sum[r + 1];
        float *to = s->op.y + (i + r) / s->parts * n + j;
        if (j + INTS_LANES <= n)
            memcpy(to, &y, sizeof y);
        else
            for (int64_t l = 0; j + l < n; l++)
                to[l] = y[l];
    }
}

/* -- few rows of x -- */
/* y of a block of `rows` rows of integers, a constant, which is row i's, and INTS_LANES rows of W
   from j. */
ISA_INLINE void ints_few(enum dtype t, int rows, const struct ints_work *s, int64_t i, int64_t j)
{
    const struct op_quant_matmul *a = &s->op;
    const struct ints_x *x = &s->x;
    int64_t at = i * x->groups;
    const uint8_t *row[INTS_LANES];
    ints_floats sum[INTS_ROWS];
    for (int r = 0; r < rows; r++)
        sum[r] = (ints_floats){0};
    for (int l = 0; l < INTS_LANES; l++)
        row[l] = ints_row(t, a, j, j + l);
    /* The rows behind these stand behind them: eight streams are more than processors foresee. */
    const int64_t bytes = INTS_LANES * (row[1] - row[0]) / x->groups;
    const uint8_t *ahead = row[0] + INTS_LANES * (row[1] - row[0]);
    for (int64_t g = 0; g < x->groups; g++, at += rows, ahead += bytes) {
        for (int64_t b = 0; b < bytes && !i; b += 64)
            __builtin_prefetch(ahead + b);
        ints_half w[INTS_LANES][2];
        ints_floats scale, min;
        ints_wholes whole[INTS_ROWS];
        ints_groups(t, row, g, w, &scale, &min);
        ints_wholes_of_rows(t, rows, row, g, w, x->q + at * QUANT_GROUP, x->total + at, whole);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            sum[r] = ints_add(t, sum[r], whole[r], scale, min, x->scale[at + r], x->sum[at + r]);
    }
    ints_put(s, rows, i, j, sum);
}

ISA_INLINE void ints_task(enum dtype t, const struct ints_work *s, int64_t task)
{
    int64_t i = 0, j = task * INTS_LANES, m = s->x.m;
    for (; i + INTS_ROWS <= m; i += INTS_ROWS)
        ints_few(t, INTS_ROWS, s, i, j);
    switch (m - i) {
    case 1:
        ints_few(t, 1, s, i, j);
        return;
    case 2:
        ints_few(t, 2, s, i, j);
        return;
    case 3:
        ints_few(t, 3, s, i, j);
        return;
    default:
        return;
    }
}

/* -- panels -- */
/* A panel: groups of (k pairs, INTS_LANES, 2) integers, then scales and minima (groups,
   INTS_LANES). Without AVX2 of (k, INTS_LANES). */
struct ints_panel {
    int16_t *w;
    ints_floats *scale, *min;
};

ISA_INLINE struct ints_panel ints_panel_at(const struct ints_work *s, int64_t panel)
{
    char *at =
        s->memory + s->tile_bytes * (size_t)omp_get_thread_num() + s->panel_bytes * (size_t)panel;
    size_t scales = (size_t)s->x.groups * sizeof(ints_floats);
    return (struct ints_panel){.scale = (ints_floats *)(void *)at,
        .min = (ints_floats *)(void *)(at + scales),
        .w = (int16_t *)(void *)(at + 2 * scales)};
}

ISA_INLINE void ints_pack(
    enum dtype t, const struct ints_work *s, int64_t j, const struct ints_panel *out)
{
    const uint8_t *row[INTS_LANES];
    for (int l = 0; l < INTS_LANES; l++)
        row[l] = ints_row(t, &s->op, j, j + l);
    for (int64_t g = 0; g < s->x.groups; g++) {
        ints_half w[INTS_LANES][2];
        ints_floats scale, min;
        ints_groups(t, row, g, w, &scale, &min);
        out->scale[g] = scale;
        out->min[g] = min;
        ints_lay_out(t, row, g, w, out->w + g * INTS_PANEL);
    }
}

/* y of a block of `rows` rows of x, which is row i's, and of `wide` panels that begin at row j of
   W; both constants. */
ISA_INLINE void ints_multiply(enum dtype t, int rows, int wide, const struct ints_work *s,
    const struct ints_panel *p, int64_t j, int64_t i)
{
    const struct ints_x *x = &s->x;
    int64_t at = i * x->groups;
    ints_floats sum[INTS_WIDE][INTS_ROWS];
    for (int c = 0; c < wide; c++)
        for (int r = 0; r < rows; r++)
            sum[c][r] = (ints_floats){0};
    for (int64_t g = 0; g < x->groups; g++, at += rows) {
        ints_wholes whole[INTS_WIDE][INTS_ROWS];
        const int16_t *w[INTS_WIDE];
        for (int c = 0; c < wide; c++)
            w[c] = p[c].w + g * INTS_PANEL;
        ints_wholes_of(t, rows, wide, w, x->q + at * QUANT_GROUP, x->total + at, whole);
#pragma GCC unroll 2
        for (int c = 0; c < wide; c++)
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++)
                sum[c][r] = ints_add(t, sum[c][r], whole[c][r], p[c].scale[g], p[c].min[g],
                    x->scale[at + r], x->sum[at + r]);
    }
    for (int c = 0; c < wide; c++)
        ints_put(s, rows, i, j + c * INTS_LANES, sum[c]);
}

/* Rows [from, to) of x times `wide` panels that begin at row j of W. */
ISA_INLINE void ints_span(enum dtype t, int wide, const struct ints_work *s,
    const struct ints_panel *p, int64_t j, int64_t from, int64_t to)
{
    int64_t i = from;
    for (; i + INTS_ROWS <= to; i += INTS_ROWS)
        ints_multiply(t, INTS_ROWS, wide, s, p, j, i);
    switch (to - i) {
    case 1:
        ints_multiply(t, 1, wide, s, p, j, i);
        return;
    case 2:
        ints_multiply(t, 2, wide, s, p, j, i);
        return;
    case 3:
        ints_multiply(t, 3, wide, s, p, j, i);
        return;
    default:
        return;
    }
}

/* Tile i of W times all of x. */
ISA_INLINE void ints_tile(enum dtype t, const struct ints_work *s, int64_t tile)
{
    int64_t first = tile * s->panels, left = (s->op.n + INTS_LANES - 1) / INTS_LANES - first;
    int64_t panels = left < s->panels ? left : s->panels, m = s->x.m;
    struct ints_panel p[INTS_MOST];
    for (int64_t k = 0; k < panels; k++) {
        p[k] = ints_panel_at(s, k);
        ints_pack(t, s, (first + k) * INTS_LANES, &p[k]);
    }
    for (int64_t from = 0; from < m; from += INTS_CHUNK) {
        int64_t to = from + INTS_CHUNK < m ? from + INTS_CHUNK : m, k = 0;
        for (; k + INTS_WIDE <= panels; k += INTS_WIDE)
            ints_span(t, INTS_WIDE, s, &p[k], (first + k) * INTS_LANES, from, to);
        for (; k < panels; k++)
            ints_span(t, 1, s, &p[k], (first + k) * INTS_LANES, from, to);
    }
}

#define INTS_TYPES(X) X(Q8_0) X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q4_K) X(Q5_K) X(Q6_K)
#define INTS_KERNELS_OF(T) \
    static void ints_task_##T(const struct ints_work *s, int64_t i) \
    { \
        struct ints_work copy = *s; \
        ints_task(DTYPE_##T, &copy, i); \
    } \
    static void ints_tile_##T(const struct ints_work *s, int64_t i) \
    { \
        struct ints_work copy = *s; \
        ints_tile(DTYPE_##T, &copy, i); \
    }
INTS_TYPES(INTS_KERNELS_OF)
#undef INTS_KERNELS_OF

static const struct {
    void (*few)(const struct ints_work *, int64_t);
    void (*many)(const struct ints_work *, int64_t);
} ints_kernels[DTYPES] = {
#define INTS_ENTRY(T) [DTYPE_##T] = {ints_task_##T, ints_tile_##T},
    INTS_TYPES(INTS_ENTRY)
#undef INTS_ENTRY
};

static size_t ints_padded(int64_t bytes)
{
    return ((size_t)bytes + 63) / 64 * 64;
}

/* Memory of x as integers and of the tiles; false after dev_fail. */
static bool ints_open(struct dev *d, struct ints_work *s)
{
    const struct op_quant_matmul *a = &s->op;
    int64_t groups = a->k / QUANT_GROUP, m = a->m * s->parts;
    size_t q = ints_padded(m * a->k * 2), scales = ints_padded(m * groups * 4);
    s->panel_bytes =
        ints_padded(groups * 2 * (int64_t)sizeof(ints_floats) + groups * INTS_PANEL * 2);
    s->panels = INTS_TILE / (int64_t)s->panel_bytes;
    s->panels = s->panels > INTS_MOST ? INTS_MOST : s->panels / INTS_WIDE * INTS_WIDE;
    s->panels = s->panels < 1 ? 1 : s->panels;
    s->tile_bytes = m > INTS_FEW ? s->panel_bytes * (size_t)s->panels : 0;
    char *memory = cpu_scratch(
        d, CPU_SCRATCH_OP, q + 3 * scales + s->tile_bytes * (size_t)omp_get_max_threads());
    s->memory = memory + q + 3 * scales;
    s->x = (struct ints_x){.m = m,
        .q = (int16_t *)(void *)memory,
        .scale = (float *)(void *)(memory + q),
        .sum = (float *)(void *)(memory + q + scales),
        .total = (int32_t *)(void *)(memory + q + 2 * scales),
        .k = a->k,
        .groups = groups};
    return memory;
}

/* What threads do of a product, each some of it. */
static void ints_divide(const struct ints_work *s, bool few)
{
    enum dtype t = s->op.w_type;
    int64_t panels = (s->op.n + INTS_LANES - 1) / INTS_LANES;
    int64_t tasks = few ? panels : (panels + s->panels - 1) / s->panels;
    int64_t turn = tasks / (INTS_TURNS * omp_get_max_threads()) + 1; /* which follow each other */
    if (few) {
#pragma omp for schedule(dynamic, turn) nowait
        for (int64_t i = 0; i < tasks; i++)
            ints_kernels[t].few(s, i);
    } else {
#pragma omp for schedule(dynamic, 1) nowait
        for (int64_t i = 0; i < tasks; i++)
            ints_kernels[t].many(s, i);
    }
}

#define INTS_TOGETHER 4 /* products of the same integers, at most */

/* How many from a on have x as the same integers; n: the sum of theirs. */
static int ints_alike(const struct op_quant_matmul *a, int64_t *n)
{
    int count = 0;
    bool large = a->w_type == DTYPE_Q6_K;
    *n = 0;
    for (; a && count < INTS_TOGETHER; a = a->next, count++) {
        if (dtype_block(a->w_type) == 1 || (a->w_type == DTYPE_Q6_K) != large)
            break;
        *n += a->n;
    }
    return count;
}

/* `count` products: one x, and one meeting of threads at the end of all. n: of them all. */
static void ints_matmul(struct dev *d, const struct op_quant_matmul *a, int count, int64_t n)
{
    struct ints_work s[INTS_TOGETHER] = {{.op = *a, .parts = a->coarse ? 1 : 2}};
    if (!ints_open(d, s))
        return;
    for (int i = 1; i < count; i++) {
        s[i] = s[0];
        s[i].op = *s[i - 1].op.next;
    }
    bool few = s->x.m <= INTS_FEW;
    if (a->m * a->k <= ISA_PARALLEL_BYTES)
        for (int64_t i = 0; i < a->m; i++)
            ints_row_of_x(a, &s->x, i);
#pragma omp parallel if (n * a->k > ISA_PARALLEL_BYTES)
    {
        if (a->m * a->k > ISA_PARALLEL_BYTES) {
#pragma omp for schedule(static)
            for (int64_t i = 0; i < a->m; i++)
                ints_row_of_x(a, &s->x, i);
        }
        for (int i = 0; i < count; i++)
            ints_divide(&s[i], few);
    }
}

static void isa_quant_matmul(struct dev *d, const struct op_quant_matmul *a)
{
    for (int64_t n; a; a = a->next) {
        int count = ints_alike(a, &n);
        if (count)
            ints_matmul(d, a, count, n);
        else
            quant_dense(d, a);
        for (; count > 1; count--)
            a = a->next;
    }
}
