/*
 * ints_words_body: how quant_ints_body.h multiplies where numbers of 16 bits are multiplied: by
 * AVX2's pairs of them, and in plain C. Part of it.
 */
#define INTS_PANEL (QUANT_GROUP * INTS_LANES)

typedef int16_t ints_half __attribute__((vector_size(32))); /* half of a group */
typedef uint16_t ints_bits __attribute__((vector_size(32)));

/* A group of x stays as it is. */
ISA_INLINE void ints_split(int16_t *q)
{
    (void)q;
}

/* 16 of 32 bits, each in the fifth place of its number. */
ISA_INLINE ints_half ints_fifth(uint32_t high, int half)
{
    const ints_bits place = {
        1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
    ints_bits all = place & (uint16_t)(high >> 16 * half);
    return (ints_half)(all == place) & 16;
}

/* Weights of Q6_K and what scales them. */
ISA_INLINE ints_half ints_scaled(ints_half w, int8_t scale)
{
    return w * (int16_t)scale;
}

/* -- few rows of x -- */
/* A group's whole product, in parts that are not yet added up. */
#if defined(__AVX2__)
typedef __m256i ints_part;
#else
typedef int32_t ints_part;
#endif

ISA_INLINE ints_part ints_dot(
    enum dtype t, const uint8_t *w_row, int64_t g, const ints_half w[2], const int16_t *x)
{
    (void)t, (void)w_row, (void)g;
#if defined(__AVX2__)
    const __m256i_u *half = (const __m256i_u *)(const void *)x;
    return _mm256_add_epi32(_mm256_madd_epi16((__m256i)w[0], _mm256_loadu_si256(half)),
        _mm256_madd_epi16((__m256i)w[1], _mm256_loadu_si256(half + 1)));
#else
    int16_t row[QUANT_GROUP];
    int32_t sum = 0;
    memcpy(row, w, sizeof row);
    for (int l = 0; l < QUANT_GROUP; l++)
        sum += row[l] * x[l];
    return sum;
#endif
}

ISA_INLINE ints_wholes ints_join(const ints_part *part)
{
    ints_wholes all;
#if defined(__AVX2__)
    __m256i four[2];
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        four[i] = _mm256_hadd_epi32(_mm256_hadd_epi32(part[4 * i], part[4 * i + 1]),
            _mm256_hadd_epi32(part[4 * i + 2], part[4 * i + 3]));
    all = (ints_wholes)_mm256_add_epi32(_mm256_permute2x128_si256(four[0], four[1], 0x20),
        _mm256_permute2x128_si256(four[0], four[1], 0x31));
#else
    memcpy(&all, part, sizeof all);
#endif
    return all;
}

/* -- panels: of (k pairs, INTS_LANES, 2) integers; without AVX2 of (k, INTS_LANES) -- */
/* out = a half of a group, of INTS_LANES rows, a pair of k after the other. */
ISA_INLINE void ints_transpose(const ints_half (*w)[2], int half, int16_t *out)
{
#if defined(__AVX2__)
    __m256i a[8], b[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_epi32((__m256i)w[i][half], (__m256i)w[i + 1][half]);
        a[i + 1] = _mm256_unpackhi_epi32((__m256i)w[i][half], (__m256i)w[i + 1][half]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4)
#pragma GCC unroll 2
        for (int l = 0; l < 2; l++) {
            b[i + 2 * l] = _mm256_unpacklo_epi64(a[i + l], a[i + 2 + l]);
            b[i + 2 * l + 1] = _mm256_unpackhi_epi64(a[i + l], a[i + 2 + l]);
        }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        _mm256_store_si256(
            (__m256i *)(void *)(out + 16 * i), _mm256_permute2x128_si256(b[i], b[i + 4], 0x20));
        _mm256_store_si256((__m256i *)(void *)(out + 16 * (i + 4)),
            _mm256_permute2x128_si256(b[i], b[i + 4], 0x31));
    }
#else
    for (int l = 0; l < 16; l++)
        for (int j = 0; j < INTS_LANES; j++)
            out[l * INTS_LANES + j] = w[j][half][l];
#endif
}

/* Group g of INTS_LANES rows, as a panel has it. */
ISA_INLINE void ints_lay_out(
    enum dtype t, const uint8_t *const *row, int64_t g, const ints_half (*w)[2], int16_t *out)
{
    (void)t, (void)row, (void)g;
    ints_transpose(w, 0, out);
    ints_transpose(w, 1, out + 16 * INTS_LANES);
}

/* Whole products of a group of a panel with one of x, which has rows of k. */
ISA_INLINE void ints_wholes_of(
    enum dtype t, int rows, const int16_t *w, const int16_t *x, int64_t k, ints_wholes *whole)
{
    (void)t;
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
        whole[i] = (ints_wholes){0};
#if defined(__AVX2__)
#pragma GCC unroll 2 /* more, and sums are spilled */
    for (int l = 0; l < QUANT_GROUP / 2; l++) {
        __m256i pair = _mm256_load_si256((const __m256i *)(const void *)(w + l * 2 * INTS_LANES));
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) {
            int32_t both;
            memcpy(&both, x + i * k + 2 * l, sizeof both);
            whole[i] = (ints_wholes)_mm256_add_epi32(
                (__m256i)whole[i], _mm256_madd_epi16(pair, _mm256_set1_epi32(both)));
        }
    }
#else
    for (int l = 0; l < QUANT_GROUP; l++)
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < INTS_LANES; j++)
                whole[i][j] += w[l * INTS_LANES + j] * x[i * k + l];
#endif
}
