/*
 * tile_body: small matrix products in cache, and the packing that feeds them, for attention. Part
 * of isa_body.h.
 *
 * Operands are words of 32 bits: one F32, or a pair of BF16 that the processor multiplies and adds
 * at once (words_bf16: only where it has such an instruction; elsewhere BF16 is widened to F32 when
 * it is packed). Blocks have TILE rows, the row length is padded with zeros to a multiple of
 * TILE_PAD, so loops have no remainders. All buffers are 64-byte aligned.
 *
 *   rows         (TILE, words)      A operand, as stored; words: padded d, or half of it for pairs
 *   transposed   (words, TILE)      B operand, sums over d
 *   interleaved  (TILE words, pad)  B operand, sums over tokens; a word holds rows 2i and 2i + 1
 *   columns      (pad, TILE words)  A operand, sums over tokens
 */
#define TILE     64 /* queries or keys of a block: their scores fill a third of an L1 cache */
#define TILE_PAD 16 /* floats: the widest vector */
/* Rows of a register block: with TILE_NV vectors it hides the latency of the multiply-add. */
#define TILE_MR  4
#if defined(__AVX512F__) || defined(__aarch64__)
#define TILE_NV 4
#else
#define TILE_NV 2
#endif

#if defined(__AVX512BF16__)
#define TILE_HAS_PAIRS true
#else
#define TILE_HAS_PAIRS false
#endif

ISA_INLINE isa_vec tile_dot(bool pairs, isa_vec sum, const uint32_t *a, isa_vec b)
{
#if defined(__AVX512BF16__)
    if (pairs)
        return (isa_vec)_mm512_dpbf16_ps(
            (__m512)sum, (__m512bh)_mm512_set1_epi32((int)*a), (__m512bh)b);
#endif
    (void)pairs;
    union math_bits v = {.u = *a};
    return sum + v.f * b;
}

/* c (mr, nv vectors) = or += a (mr, k) * b (k, nv vectors); the block stays in registers. */
ISA_INLINE void tile_block(bool pairs, bool add, int mr, int nv, int64_t k, const uint32_t *a,
    int64_t lda, const uint32_t *b, int64_t ldb, float *c, int64_t ldc)
{
    isa_vec sum[TILE_MR][TILE_NV];
#pragma GCC unroll 8
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 8
        for (int j = 0; j < nv; j++)
            sum[i][j] = add ? *(const isa_vec *)(c + i * ldc + j * ISA_VECTOR) : (isa_vec){0};
    for (int64_t l = 0; l < k; l++) {
        isa_vec row[TILE_NV];
#pragma GCC unroll 8
        for (int j = 0; j < nv; j++)
            row[j] = *(const isa_vec *)(b + l * ldb + j * ISA_VECTOR);
#pragma GCC unroll 8
        for (int i = 0; i < mr; i++)
#pragma GCC unroll 8
            for (int j = 0; j < nv; j++)
                sum[i][j] = tile_dot(pairs, sum[i][j], a + i * lda + l, row[j]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 8
        for (int j = 0; j < nv; j++)
            *(isa_vec *)(c + i * ldc + j * ISA_VECTOR) = sum[i][j];
}

/* c (m, n) = or += a (m, k words) * b (k words, n); m a multiple of TILE_MR, n of ISA_VECTOR. */
ISA_INLINE void tile_product(bool pairs, bool add, int64_t m, int64_t n, int64_t k,
    const uint32_t *a, int64_t lda, const uint32_t *b, int64_t ldb, float *c, int64_t ldc)
{
    const int64_t wide = TILE_NV * ISA_VECTOR;
    int64_t j = 0;
    for (; j + wide <= n; j += wide)
        for (int64_t i = 0; i < m; i += TILE_MR)
            tile_block(pairs, add, TILE_MR, TILE_NV, k, a + i * lda, lda, b + j, ldb,
                c + i * ldc + j, ldc);
    for (; j < n; j += ISA_VECTOR)
        for (int64_t i = 0; i < m; i += TILE_MR)
            tile_block(
                pairs, add, TILE_MR, 1, k, a + i * lda, lda, b + j, ldb, c + i * ldc + j, ldc);
}

static inline int64_t tile_words(bool pairs, int64_t elements)
{
    return pairs ? elements / 2 : elements;
}

/* -- packing; src has `valid` rows of d elements, type t, ld apart -- */
ISA_INLINE void tile_rows(enum dtype t, bool pairs, const void *src, int64_t ld, int64_t valid,
    int64_t d, int64_t pad, uint32_t *restrict out)
{
    memset(out, 0, (size_t)(TILE * tile_words(pairs, pad)) * sizeof *out);
    for (int64_t i = 0; i < valid; i++) {
        if (pairs) {
            memcpy((uint16_t *)out + i * pad, (const uint16_t *)src + i * ld, (size_t)d * 2);
            continue;
        }
        float *to = (float *)out + i * pad;
#pragma omp simd
        for (int64_t c = 0; c < d; c++)
            to[c] = math_load(t, src, i * ld + c);
    }
}

static inline void tile_transposed(
    const uint32_t *restrict rows, int64_t words, uint32_t *restrict out)
{
    for (int64_t i = 0; i < TILE; i++)
        for (int64_t w = 0; w < words; w++)
            out[w * TILE + i] = rows[i * words + w];
}

/* Pairs only: of F32 the rows are the B operand already. */
static inline void tile_interleaved(
    const uint32_t *restrict rows, int64_t pad, uint32_t *restrict out)
{
    const uint16_t *h = (const uint16_t *)rows;
    for (int64_t i = 0; i < TILE / 2; i++)
#pragma omp simd
        for (int64_t c = 0; c < pad; c++)
            out[i * pad + c] = h[2 * i * pad + c] | (uint32_t)h[(2 * i + 1) * pad + c] << 16;
}

/* Pairs only: of F32 the transposed block is the A operand already. */
static inline void tile_columns(
    const uint32_t *restrict transposed, int64_t words, uint32_t *restrict out)
{
    uint16_t *h = (uint16_t *)out;
    for (int64_t w = 0; w < words; w++)
#pragma omp simd
        for (int64_t i = 0; i < TILE; i++) {
            h[2 * w * TILE + i] = (uint16_t)transposed[w * TILE + i];
            h[(2 * w + 1) * TILE + i] = (uint16_t)(transposed[w * TILE + i] >> 16);
        }
}

/* (TILE, TILE) F32 to BF16, rows 2i and 2i + 1 interleaved. */
static inline void tile_pairs(const float *restrict x, uint32_t *restrict out)
{
    for (int64_t i = 0; i < TILE / 2; i++)
#pragma omp simd
        for (int64_t c = 0; c < TILE; c++)
            out[i * TILE + c] = math_to_bf16(x[2 * i * TILE + c]) |
                (uint32_t)math_to_bf16(x[(2 * i + 1) * TILE + c]) << 16;
}
