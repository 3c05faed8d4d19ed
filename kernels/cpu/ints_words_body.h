/*
 * ints_words_body: how quant_ints_body.h multiplies where numbers of 16 bits are multiplied: by
 * AVX2's pairs of them, which VNNI adds up as well, and in plain C. Part of it.
 */
#define INTS_PANEL (QUANT_GROUP * INTS_LANES)
#if defined(__AVX2__)
#define INTS_WIDE 2 /* panels that are multiplied at once: each number of x is loaded for both */
#else
#define INTS_WIDE 1
#endif

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
/* What whole products with a group of x begin at: nibbles that are turned have no signs. */
ISA_INLINE ints_wholes ints_start(enum dtype t, int32_t total)
{
    int32_t start = 0;
#if defined(__AVX2__)
    if (t == DTYPE_Q4_0)
        start = -8 * total;
#endif
    (void)t, (void)total;
    return (ints_wholes){0} + start;
}

#if defined(__AVX2__)
/* sum += products of pairs, in each lane: the same whole numbers either way. */
ISA_INLINE __m256i ints_madd(__m256i sum, __m256i a, __m256i b)
{
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return _mm256_dpwssd_epi32(sum, a, b);
#else
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
#endif
}

/* Types whose numbers stand in bytes in their order, or in halves of them; and where in a block. */
ISA_INLINE bool ints_can_turn(enum dtype t)
{
    return t == DTYPE_Q8_0 || t == DTYPE_Q4_0 || t == DTYPE_Q4_1;
}

ISA_INLINE int64_t ints_numbers_at(enum dtype t)
{
    return t == DTYPE_Q4_1 ? 4 : 2;
}

ISA_INLINE __m256i ints_bytes_at(const uint8_t *const *row, int l, int64_t at)
{
    return _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_loadu_si128((const __m128i_u *)(const void *)(row[l] + at))),
        _mm_loadu_si128((const __m128i_u *)(const void *)(row[l + 4] + at)), 1);
}

/* 16 bytes of INTS_LANES rows: of four rows the first two bytes, then their next two; the other
   four rows in the upper half. Two such pairs in each of out. No step crosses the halves, which
   takes twice as long. */
ISA_INLINE void ints_turn(const uint8_t *const *row, int64_t at, __m256i out[4])
{
    __m256i a[4], b[4];
#pragma GCC unroll 4
    for (int l = 0; l < 4; l++)
        a[l] = ints_bytes_at(row, l, at);
#pragma GCC unroll 2
    for (int i = 0; i < 4; i += 2) {
        b[i] = _mm256_unpacklo_epi16(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_epi16(a[i], a[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        out[2 * i] = _mm256_unpacklo_epi32(b[i], b[i + 2]);
        out[2 * i + 1] = _mm256_unpackhi_epi32(b[i], b[i + 2]);
    }
}

/* Pairs i and, of nibbles, 8 + i of a group, of what ints_turn has of 16 bytes; nibbles without
   signs. */
ISA_INLINE void ints_pairs_of(enum dtype t, const __m256i *turned, int i, __m256i pair[2])
{
    __m256i v = turned[i / 2], zero = _mm256_setzero_si256();
    if (t == DTYPE_Q8_0) {
        v = i & 1 ? _mm256_unpackhi_epi8(zero, v) : _mm256_unpacklo_epi8(zero, v);
        pair[0] = _mm256_srai_epi16(v, 8);
        return;
    }
    v = i & 1 ? _mm256_unpackhi_epi8(v, zero) : _mm256_unpacklo_epi8(v, zero);
    pair[0] = _mm256_and_si256(v, _mm256_set1_epi16(15));
    pair[1] = _mm256_srli_epi16(v, 4);
}

/* sum (rows) += a pair of each lane times one of each row of x. */
ISA_INLINE void ints_add_pair(int rows, __m256i pair, const int16_t *x, ints_wholes *sum)
{
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++) {
        int32_t both;
        memcpy(&both, x + i * QUANT_GROUP, sizeof both);
        sum[i] = (ints_wholes)ints_madd((__m256i)sum[i], pair, _mm256_set1_epi32(both));
    }
}

/* Whole products of a group of a type that is turned for few rows of x, too. */
ISA_INLINE void ints_wholes_turned(enum dtype t, int rows, const uint8_t *const *row, int64_t g,
    const int16_t *x, ints_wholes *whole)
{
    __m256i turned[4], pair[2];
    ints_turn(row, g * ints_block_bytes(t) + ints_numbers_at(t), turned);
    if (rows == 1) { /* of two sums, since one would wait for its own last addition */
        ints_wholes second = {0};
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            ints_pairs_of(t, turned, i, pair);
            ints_add_pair(rows, pair[0], x + 2 * i, whole);
            ints_add_pair(rows, pair[1], x + 16 + 2 * i, &second);
        }
        whole[0] += second;
        return;
    }
#pragma GCC unroll 2 /* more, and products are spilled */
    for (int i = 0; i < 8; i++) {
        ints_pairs_of(t, turned, i, pair);
        ints_add_pair(rows, pair[0], x + 2 * i, whole);
        ints_add_pair(rows, pair[1], x + 16 + 2 * i, whole);
    }
}

/* Parts of a row's product with one of x, which are not yet added up. */
ISA_INLINE __m256i ints_dot(const ints_half w[2], const int16_t *x)
{
    const __m256i_u *half = (const __m256i_u *)(const void *)x;
    return ints_madd(_mm256_madd_epi16((__m256i)w[0], _mm256_loadu_si256(half)), (__m256i)w[1],
        _mm256_loadu_si256(half + 1));
}

ISA_INLINE ints_wholes ints_join(const __m256i *part)
{
    __m256i four[2];
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        four[i] = _mm256_hadd_epi32(_mm256_hadd_epi32(part[4 * i], part[4 * i + 1]),
            _mm256_hadd_epi32(part[4 * i + 2], part[4 * i + 3]));
    return (ints_wholes)_mm256_add_epi32(_mm256_permute2x128_si256(four[0], four[1], 0x20),
        _mm256_permute2x128_si256(four[0], four[1], 0x31));
}
#endif

/* Whole products of group g of INTS_LANES rows of W, which is w, with one of each row of x. */
ISA_INLINE void ints_wholes_of_rows(enum dtype t, int rows, const uint8_t *const *row, int64_t g,
    const ints_half (*w)[2], const int16_t *x, const int32_t *total, ints_wholes *whole)
{
    (void)t, (void)row, (void)g;
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        whole[r] = ints_start(t, total[r]);
#if defined(__AVX2__)
    if (ints_can_turn(t) && t != DTYPE_Q8_0) { /* whose products turned are no faster */
        ints_wholes_turned(t, rows, row, g, x, whole);
        return;
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        __m256i part[INTS_LANES];
#pragma GCC unroll 8
        for (int l = 0; l < INTS_LANES; l++)
            part[l] = ints_dot(w[l], x + r * QUANT_GROUP);
        whole[r] = ints_join(part);
    }
#else
    for (int l = 0; l < INTS_LANES; l++) {
        int16_t one[QUANT_GROUP];
        memcpy(one, w[l], sizeof one);
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < QUANT_GROUP; c++)
                whole[r][l] += one[c] * x[r * QUANT_GROUP + c];
    }
#endif
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
#if defined(__AVX2__)
    if (ints_can_turn(t)) {
        int64_t at = g * ints_block_bytes(t) + ints_numbers_at(t);
        for (int half = 0; half < (t == DTYPE_Q8_0 ? 2 : 1); half++) {
            __m256i turned[4], pair[2], *to = (__m256i *)(void *)out + 8 * half;
            ints_turn(row, at + 16 * half, turned);
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) {
                ints_pairs_of(t, turned, i, pair);
                _mm256_store_si256(to + i, pair[0]);
                if (t != DTYPE_Q8_0)
                    _mm256_store_si256(to + 8 + i, pair[1]);
            }
        }
        return;
    }
#endif
    ints_transpose(w, 0, out);
    ints_transpose(w, 1, out + 16 * INTS_LANES);
}

/* Whole products of a group of `wide` panels with one of each row of x. */
ISA_INLINE void ints_wholes_of(enum dtype t, int rows, int wide, const int16_t *const *w,
    const int16_t *x, const int32_t *total, ints_wholes (*whole)[INTS_ROWS])
{
    for (int c = 0; c < wide; c++)
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            whole[c][r] = ints_start(t, total[r]);
#if defined(__AVX2__)
#pragma GCC unroll 2 /* more, and products are spilled */
    for (int l = 0; l < QUANT_GROUP / 2; l++) {
        __m256i pair[INTS_WIDE];
#pragma GCC unroll 2
        for (int c = 0; c < wide; c++)
            pair[c] = _mm256_load_si256((const __m256i *)(const void *)w[c] + l);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            int32_t both;
            memcpy(&both, x + r * QUANT_GROUP + 2 * l, sizeof both);
#pragma GCC unroll 2
            for (int c = 0; c < wide; c++)
                whole[c][r] =
                    (ints_wholes)ints_madd((__m256i)whole[c][r], pair[c], _mm256_set1_epi32(both));
        }
    }
#else
    for (int l = 0; l < QUANT_GROUP; l++)
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < INTS_LANES; j++)
                whole[0][r][j] += w[0][l * INTS_LANES + j] * x[r * QUANT_GROUP + l];
#endif
}
