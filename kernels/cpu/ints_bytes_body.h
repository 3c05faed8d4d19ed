/*
 * ints_bytes_body: how quant_ints_body.h multiplies where a processor adds up products of bytes:
 * aarch64 with dot products (SDOT), and with products of matrices besides (SMMLA). Part of it.
 *
 * A number of x is two bytes, 256 high + low, both with a sign; eight of the one stand before eight
 * of the other. Weights are bytes as they are: what scales those of Q6_K is multiplied with the
 * products of 16 of them. So a whole product is the same number as that of ints_words_body.h.
 */
#define INTS_WIDE  1 /* panels that are multiplied at once */
#define INTS_STEP  8 /* numbers of x that stand together */
#define INTS_PANEL (QUANT_GROUP * INTS_LANES / 2 + 2 * 2 * INTS_LANES) /* as two bytes each */

typedef int8_t ints_half __attribute__((vector_size(16))); /* half of a group */
typedef uint8_t ints_bits __attribute__((vector_size(16)));

/* A group of x, as high and low bytes. */
ISA_INLINE void ints_split(int16_t *q)
{
    for (int i = 0; i < QUANT_GROUP; i += INTS_STEP) {
        int16x8_t v = vld1q_s16(q + i);
        int8x8_t low = vmovn_s16(v), high = vshrn_n_s16(vsubq_s16(v, vmovl_s8(low)), 8);
        vst1q_s8((int8_t *)(q + i), vcombine_s8(high, low));
    }
}

/* 16 of 32 bits, each in the fifth place of its number. */
ISA_INLINE ints_half ints_fifth(uint32_t high, int half)
{
    const ints_bits place = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint32_t bits = high >> 16 * half;
    uint8x16_t all = vcombine_u8(vdup_n_u8((uint8_t)bits), vdup_n_u8((uint8_t)(bits >> 8)));
    return (ints_half)vtstq_u8(all, (uint8x16_t)place) & 16;
}

/* Weights of Q6_K stay bytes; */
ISA_INLINE ints_half ints_scaled(ints_half w, int8_t scale)
{
    (void)scale;
    return w;
}

/* what the products of either half of group g are multiplied with. */
ISA_INLINE const int8_t *ints_scales(const uint8_t *row, int64_t g)
{
    return (const int8_t *)row + g / 8 * 210 + 192 + g % 8 * 2;
}

/* -- few rows of x -- */
/* A group's whole product, in parts that are not yet added up. */
typedef int32x4_t ints_part;

ISA_INLINE ints_part ints_dot(
    enum dtype t, const uint8_t *row, int64_t g, const ints_half w[2], const int16_t *x)
{
    int32x4_t high[2], low[2], none = vdupq_n_s32(0);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        int64x2_t a = (int64x2_t)vld1q_s16(x + 16 * i), b = (int64x2_t)vld1q_s16(x + 16 * i + 8);
        high[i] = vdotq_s32(none, (int8x16_t)w[i], (int8x16_t)vzip1q_s64(a, b));
        low[i] = vdotq_s32(none, (int8x16_t)w[i], (int8x16_t)vzip2q_s64(a, b));
        high[i] = vaddq_s32(vshlq_n_s32(high[i], 8), low[i]);
    }
    if (t != DTYPE_Q6_K)
        return vaddq_s32(high[0], high[1]);
    const int8_t *scale = ints_scales(row, g);
    return vmlaq_n_s32(vmulq_n_s32(high[0], scale[0]), high[1], scale[1]);
}

ISA_INLINE ints_wholes ints_join(const ints_part *part)
{
    int32x4_t all[2];
    ints_wholes out;
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        all[i] = vpaddq_s32(
            vpaddq_s32(part[4 * i], part[4 * i + 1]), vpaddq_s32(part[4 * i + 2], part[4 * i + 3]));
    memcpy(&out, all, sizeof out);
    return out;
}

/* Whole products of group g of INTS_LANES rows of W, which is w, with one of each row of x. */
ISA_INLINE void ints_wholes_of_rows(enum dtype t, int rows, const uint8_t *const *row, int64_t g,
    const ints_half (*w)[2], const int16_t *x, const int32_t *total, ints_wholes *whole)
{
    (void)total;
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        ints_part part[INTS_LANES];
#pragma GCC unroll 8
        for (int l = 0; l < INTS_LANES; l++)
            part[l] = ints_dot(t, row[l], g, w[l], x + r * QUANT_GROUP);
        whole[r] = ints_join(part);
    }
}

/* -- panels -- */
#if defined(__ARM_FEATURE_MATMUL_INT8)
/* out = a half of a group, of INTS_LANES rows: eight numbers of each of two rows (SMMLA's matrix),
   then of the next two. */
ISA_INLINE void ints_transpose(const ints_half (*w)[2], int half, int8_t *out)
{
#pragma GCC unroll 4
    for (int p = 0; p < INTS_LANES / 2; p++) {
        int64x2_t a = (int64x2_t)w[2 * p][half], b = (int64x2_t)w[2 * p + 1][half];
        vst1q_s8(out + 16 * p, (int8x16_t)vzip1q_s64(a, b));
        vst1q_s8(out + 16 * (p + INTS_LANES / 2), (int8x16_t)vzip2q_s64(a, b));
    }
}

/* The products of `steps` of the panel's with those of x. */
ISA_INLINE void ints_steps(
    int rows, int steps, const int8_t *w, const int16_t *x, int32x4_t (*whole)[INTS_LANES / 4])
{
    int32x4_t sum[INTS_ROWS][INTS_LANES / 2]; /* high by two rows of W, low by both */
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int p = 0; p < INTS_LANES / 2; p++)
            sum[i][p] = vdupq_n_s32(0);
    for (int s = 0; s < steps; s++, w += INTS_STEP * INTS_LANES, x += INTS_STEP) {
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) {
            int8x16_t both = (int8x16_t)vld1q_s16(x + i * QUANT_GROUP);
#pragma GCC unroll 4
            for (int p = 0; p < INTS_LANES / 2; p++)
                sum[i][p] = vmmlaq_s32(sum[i][p], both, vld1q_s8(w + 16 * p));
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int p = 0; p < 2; p++) {
            int64x2_t a = (int64x2_t)sum[i][2 * p], b = (int64x2_t)sum[i][2 * p + 1];
            whole[i][p] =
                vaddq_s32(vshlq_n_s32((int32x4_t)vzip1q_s64(a, b), 8), (int32x4_t)vzip2q_s64(a, b));
        }
}
#else
/* out = a half of a group, of INTS_LANES rows: four numbers of each row (SDOT's), then the next
   four. */
ISA_INLINE void ints_transpose(const ints_half (*w)[2], int half, int8_t *out)
{
#pragma GCC unroll 2
    for (int j = 0; j < INTS_LANES; j += 4, out += 16) {
        int32x4_t r[4];
        int64x2_t a[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            r[i] = (int32x4_t)w[j + i][half];
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            a[2 * i] = (int64x2_t)vtrn1q_s32(r[2 * i], r[2 * i + 1]);
            a[2 * i + 1] = (int64x2_t)vtrn2q_s32(r[2 * i], r[2 * i + 1]);
        }
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            vst1q_s8(out + 4 * INTS_LANES * i, (int8x16_t)vzip1q_s64(a[i], a[i + 2]));
            vst1q_s8(out + 4 * INTS_LANES * (i + 2), (int8x16_t)vzip2q_s64(a[i], a[i + 2]));
        }
    }
}

/* The products of `steps` of the panel's with those of x. */
ISA_INLINE void ints_steps(
    int rows, int steps, const int8_t *w, const int16_t *x, int32x4_t (*whole)[INTS_LANES / 4])
{
    int32x4_t high[INTS_ROWS][INTS_LANES / 4];
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int p = 0; p < INTS_LANES / 4; p++)
            high[i][p] = whole[i][p] = vdupq_n_s32(0);
    for (int s = 0; s < steps; s++, w += INTS_STEP * INTS_LANES, x += INTS_STEP) {
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) {
            int8x16_t both = (int8x16_t)vld1q_s16(x + i * QUANT_GROUP);
#pragma GCC unroll 2
            for (int p = 0; p < INTS_LANES / 4; p++) {
                int8x16_t a = vld1q_s8(w + 16 * p), b = vld1q_s8(w + 16 * p + 4 * INTS_LANES);
                high[i][p] = vdotq_laneq_s32(high[i][p], a, both, 0);
                high[i][p] = vdotq_laneq_s32(high[i][p], b, both, 1);
                whole[i][p] = vdotq_laneq_s32(whole[i][p], a, both, 2);
                whole[i][p] = vdotq_laneq_s32(whole[i][p], b, both, 3);
            }
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int p = 0; p < INTS_LANES / 4; p++)
            whole[i][p] = vaddq_s32(vshlq_n_s32(high[i][p], 8), whole[i][p]);
}
#endif

/* Group g of INTS_LANES rows, as a panel has it: of Q6_K with the scales of either half behind. */
ISA_INLINE void ints_lay_out(
    enum dtype t, const uint8_t *const *row, int64_t g, const ints_half (*w)[2], int16_t *out)
{
    int8_t *to = (int8_t *)out;
    ints_transpose(w, 0, to);
    ints_transpose(w, 1, to + 16 * INTS_LANES);
    if (t != DTYPE_Q6_K)
        return;
    int32_t *scale = (int32_t *)(void *)(to + QUANT_GROUP * INTS_LANES);
    for (int l = 0; l < INTS_LANES; l++) {
        scale[l] = ints_scales(row[l], g)[0];
        scale[INTS_LANES + l] = ints_scales(row[l], g)[1];
    }
}

/* Whole products of a group of a panel with one of each row of x. */
ISA_INLINE void ints_wholes_of(enum dtype t, int rows, int wide, const int16_t *const *panel,
    const int16_t *x, const int32_t *total, ints_wholes (*whole)[INTS_ROWS])
{
    const int8_t *w = (const int8_t *)*panel;
    (void)wide, (void)total;
    int32x4_t sum[INTS_ROWS][INTS_LANES / 4], second[INTS_ROWS][INTS_LANES / 4];
    if (t == DTYPE_Q6_K) {
        const int32_t *scale = (const int32_t *)(const void *)(w + QUANT_GROUP * INTS_LANES);
        ints_steps(rows, 2, w, x, sum);
        ints_steps(rows, 2, w + 16 * INTS_LANES, x + 16, second);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int p = 0; p < INTS_LANES / 4; p++)
                sum[r][p] = vmlaq_s32(vmulq_s32(sum[r][p], vld1q_s32(scale + 4 * p)), second[r][p],
                    vld1q_s32(scale + INTS_LANES + 4 * p));
    } else {
        ints_steps(rows, 4, w, x, sum);
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        memcpy(&whole[0][r], sum[r], sizeof **whole);
}
