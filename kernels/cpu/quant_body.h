/*
 * quant_body: products with stored weights, y = x W^T, for any number of rows of x: those of types
 * without blocks here, those with in quant_ints_body.h. Part of isa_body.h.
 *
 * Each y is four sums of vectors that take turns along k (one would wait for its own multiply-add),
 * added up by quant_total; what is left of k comes last. Nothing of that depends on which other
 * rows are computed with it, nor on how many: a served token is the same alone and in any batch.
 *
 * Threads share the rows of W. Few rows of x (decoding) are multiplied with QUANT_GROUP weights at
 * a time that are widened in registers, so W is read once from memory; more rows with a tile of
 * W that a thread widens in its cache, in blocks: one of the four sums of several y after the
 * other, so a vector that is loaded is multiplied with several. x stays F32 (also where it has been
 * rounded: memory is the bound).
 */
#define QUANT_GROUP \
    32 /* weights at a time; they share a scale in every format but Q6_K, with two */
#define QUANT_VECS (QUANT_GROUP / ISA_VECTOR)
#define QUANT_SUMS 4
#define QUANT_FEW  12 /* rows of x that are multiplied with weights in registers */
#if defined(__AVX512F__) || defined(__aarch64__)
#define QUANT_ROWS 6 /* of them, as many as have their sums in registers */
#define QUANT_WIDE 5 /* rows of W of a block, by QUANT_HIGH of x: one sum of each has a register */
#else
#define QUANT_ROWS 3
#define QUANT_WIDE 3
#endif
#define QUANT_HIGH 4

typedef uint32_t quant_words __attribute__((vector_size(4 * ISA_VECTOR)));

/* -- ISA_VECTOR numbers of 16 bits from memory, widened -- */
#if defined(__AVX512F__)
#define QUANT_WIDEN_16(p) \
    ((quant_words)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p))))
#elif defined(__AVX2__)
#define QUANT_WIDEN_16(p) \
    ((quant_words)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p))))
#elif defined(__aarch64__)
#define QUANT_WIDEN_16(p) ((quant_words)vmovl_u16(vreinterpret_u16_u8(vld1_u8(p))))
#endif

ISA_INLINE quant_words quant_halves(const uint8_t *p)
{
#ifdef QUANT_WIDEN_16
    return QUANT_WIDEN_16(p);
#else
    quant_words v;
    for (int i = 0; i < ISA_VECTOR; i++)
        v[i] = (uint32_t)(p[2 * i] | p[2 * i + 1] << 8);
    return v;
#endif
}

ISA_INLINE isa_vec quant_from_f16(const uint8_t *p)
{
#if defined(__AVX512F__)
    return (isa_vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif defined(__AVX2__)
    return (isa_vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#elif defined(__aarch64__)
    return (isa_vec)vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
#else
    isa_vec v;
    for (int i = 0; i < ISA_VECTOR; i++)
        v[i] = math_from_f16((uint16_t)(p[2 * i] | p[2 * i + 1] << 8));
    return v;
#endif
}

ISA_INLINE float quant_scalar_f16(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, 2);
#if defined(__F16C__)
    return _cvtsh_ss(h);
#elif defined(__aarch64__)
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0);
#else
    return math_from_f16(h);
#endif
}

/* Group g of a row of W. */
ISA_INLINE void quant_group(enum dtype t, const uint8_t *row, int64_t g, isa_vec *w)
{
#pragma GCC unroll 8
    for (int i = 0; i < QUANT_VECS; i++) {
        int64_t at = g * QUANT_GROUP + i * ISA_VECTOR;
        if (t == DTYPE_BF16)
            w[i] = (isa_vec)(quant_halves(row + 2 * at) << 16);
        else if (t == DTYPE_F16)
            w[i] = quant_from_f16(row + 2 * at);
        else
            memcpy(&w[i], row + 4 * at, sizeof w[i]);
    }
}

/* -- products -- */
/* The lanes of v, by halves. */
ISA_INLINE float quant_lanes(isa_vec v)
{
#if defined(__AVX2__)
#if defined(__AVX512F__)
    __m256 half = _mm256_add_ps(
        _mm512_castps512_ps256((__m512)v), _mm256_castpd_ps(_mm512_extractf64x4_pd((__m512d)v, 1)));
#else
    __m256 half = (__m256)v;
#endif
    __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    quarter = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
    return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)));
#else
    for (int width = ISA_VECTOR / 2; width; width /= 2)
        for (int l = 0; l < width; l++)
            v[l] += v[l + width];
    return v[0];
#endif
}

/* All of a y's sums. */
ISA_INLINE float quant_total(const isa_vec *sum)
{
    return quant_lanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

static inline const uint8_t *quant_w(const struct op_quant_matmul *a, int64_t j)
{
    int64_t row = a->k / dtype_block(a->w_type) * dtype_block_bytes(a->w_type);
    return (const uint8_t *)a->w + j * row;
}

/* What vectors do not cover. */
ISA_INLINE float quant_rest(enum dtype t, const struct op_quant_matmul *a, const float *x,
    const uint8_t *w, const isa_vec *sum)
{
    float total = quant_total(sum);
    for (int64_t l = a->k / QUANT_GROUP * QUANT_GROUP; l < a->k; l++)
        total = fmaf(x[l], math_load(t, w, l), total);
    return total;
}

/* sum (rows) += a group of weights times that of rows of x, k apart; odd: by its number. */
ISA_INLINE void quant_multiply(
    int rows, const isa_vec *weight, const float *x, int64_t k, int odd, isa_vec (*sum)[QUANT_SUMS])
{
#pragma GCC unroll 8
    for (int v = 0; v < QUANT_VECS; v++)
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            isa_vec part;
            memcpy(&part, x + r * k + v * ISA_VECTOR, sizeof part);
            sum[r][(odd * QUANT_VECS + v) % QUANT_SUMS] += weight[v] * part;
        }
}

ISA_INLINE void quant_add(enum dtype t, int rows, const uint8_t *w, const float *x, int64_t k,
    int64_t g, int odd, isa_vec (*sum)[QUANT_SUMS])
{
    isa_vec weight[QUANT_VECS];
    quant_group(t, w, g + odd, weight);
    quant_multiply(rows, weight, x + (g + odd) * QUANT_GROUP, k, odd, sum);
}

/* y of row j of W and `rows` rows of x from i; rows is a constant. */
ISA_INLINE void quant_row(
    enum dtype t, int rows, const struct op_quant_matmul *a, int64_t j, int64_t i)
{
    isa_vec sum[QUANT_ROWS][QUANT_SUMS] = {0};
    int64_t k = a->k, groups = k / QUANT_GROUP, g = 0;
    const uint8_t *w = quant_w(a, j);
    const float *x = a->x + i * k;
    for (; g + 2 <= groups; g += 2) {
        quant_add(t, rows, w, x, k, g, 0, sum);
        quant_add(t, rows, w, x, k, g, 1, sum);
    }
    if (g < groups)
        quant_add(t, rows, w, x, k, g, 0, sum);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        a->y[(i + r) * a->n + j] = quant_rest(t, a, x + r * k, w, sum[r]);
}

#define QUANT_TASK 32 /* rows of W a thread takes at a time */

/* y of rows [from, to) of W and all rows of x. */
ISA_INLINE void quant_span(enum dtype t, const struct op_quant_matmul *a, int64_t from, int64_t to)
{
    int64_t i = 0;
    for (; i + QUANT_ROWS <= a->m; i += QUANT_ROWS)
        for (int64_t j = from; j < to; j++)
            quant_row(t, QUANT_ROWS, a, j, i);
    for (; i + 2 <= a->m; i += 2)
        for (int64_t j = from; j < to; j++)
            quant_row(t, 2, a, j, i);
    for (; i < a->m; i++)
        for (int64_t j = from; j < to; j++)
            quant_row(t, 1, a, j, i);
}

ISA_INLINE void quant_task(enum dtype t, const struct op_quant_matmul *args, int64_t task)
{
    struct op_quant_matmul a = *args;
    int64_t from = task * QUANT_TASK;
    quant_span(t, &a, from, from + QUANT_TASK < a.n ? from + QUANT_TASK : a.n);
}

/* -- tiles of W in a thread's cache, F32 -- */
#define QUANT_TILE_BYTES (96 << 10)
#define QUANT_TILE_MOST  48 /* rows of W */

struct quant_tiles {
    struct op_quant_matmul op;
    int64_t rows;  /* of a tile */
    float *memory; /* (threads, rows, k) */
};

/* Where sum s begins in a list of the vectors of k that has those of each sum together. */
ISA_INLINE int64_t quant_first(int64_t vectors, int s)
{
    int64_t left = vectors % QUANT_SUMS;
    return s * (vectors / QUANT_SUMS) + (s < left ? s : left);
}

/* Rows of W from j as a block takes them: of each sum its vectors, of one all rows' together. */
ISA_INLINE void quant_pack(enum dtype t, const struct op_quant_matmul *a, int64_t j, float *out)
{
    int64_t vectors = a->k / QUANT_GROUP * QUANT_VECS;
    for (int c = 0; c < QUANT_WIDE; c++) {
        const uint8_t *row = quant_w(a, j + c);
        for (int64_t g = 0; g < vectors / QUANT_VECS; g++) {
            isa_vec weight[QUANT_VECS];
            quant_group(t, row, g, weight);
#pragma GCC unroll 8
            for (int v = 0; v < QUANT_VECS; v++) {
                int64_t u = g * QUANT_VECS + v;
                int64_t at = quant_first(vectors, (int)(u % QUANT_SUMS)) + u / QUANT_SUMS;
                memcpy(out + (at * QUANT_WIDE + c) * ISA_VECTOR, &weight[v], sizeof *weight);
            }
        }
    }
}

/* One of the sums of a block: of `count` vectors, in x QUANT_SUMS apart. */
ISA_INLINE void quant_block_sum(
    const float *x, int64_t k, const float *w, int64_t count, isa_vec (*out)[QUANT_WIDE])
{
    isa_vec sum[QUANT_HIGH][QUANT_WIDE] = {0};
#pragma GCC unroll 4
    for (int64_t u = 0; u < count; u++) {
        isa_vec weight[QUANT_WIDE];
#pragma GCC unroll 8
        for (int c = 0; c < QUANT_WIDE; c++) /* one by one: of several together halves are copied */
            memcpy(&weight[c], w + (u * QUANT_WIDE + c) * ISA_VECTOR, sizeof *weight);
#pragma GCC unroll 8
        for (int r = 0; r < QUANT_HIGH; r++) {
            isa_vec part;
            memcpy(&part, x + r * k + u * QUANT_SUMS * ISA_VECTOR, sizeof part);
#pragma GCC unroll 8
            for (int c = 0; c < QUANT_WIDE; c++)
                sum[r][c] += weight[c] * part;
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < QUANT_HIGH; r++)
#pragma GCC unroll 8
        for (int c = 0; c < QUANT_WIDE; c++)
            out[r][c] = sum[r][c];
}

/* quant_lanes of each of QUANT_HIGH. */
ISA_INLINE void quant_lanes_high(const isa_vec *v, float *y, int64_t n)
{
#if defined(__AVX2__) && !defined(__AVX512F__)
    __m256 a = (__m256)v[0], b = (__m256)v[1], c = (__m256)v[2], d = (__m256)v[3];
    a = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
    c = _mm256_add_ps(_mm256_permute2f128_ps(c, d, 0x20), _mm256_permute2f128_ps(c, d, 0x31));
    a = _mm256_add_ps((__m256)_mm256_unpacklo_pd((__m256d)a, (__m256d)c),
        (__m256)_mm256_unpackhi_pd((__m256d)a, (__m256d)c));
    a = _mm256_add_ps(a, _mm256_movehdup_ps(a)); /* the rows 0, 2, 1, 3 in every other lane */
    for (int r = 0; r < QUANT_HIGH; r++)
        y[r * n] = a[r / 2 * 2 + r % 2 * 4];
#else
    for (int r = 0; r < QUANT_HIGH; r++)
        y[r * n] = quant_lanes(v[r]);
#endif
}

/* y of QUANT_HIGH rows of x from i and of a block's rows of W, from j; without what vectors of k do
   not cover. */
static void quant_block(const struct op_quant_matmul *a, int64_t i, int64_t j, const float *w)
{
    isa_vec sum[QUANT_SUMS][QUANT_HIGH][QUANT_WIDE];
    int64_t k = a->k, vectors = k / QUANT_GROUP * QUANT_VECS;
    for (int s = 0; s < QUANT_SUMS; s++) {
        int64_t first = quant_first(vectors, s), count = quant_first(vectors, s + 1) - first;
        quant_block_sum(
            a->x + i * k + s * ISA_VECTOR, k, w + first * QUANT_WIDE * ISA_VECTOR, count, sum[s]);
    }
#pragma GCC unroll 8
    for (int c = 0; c < QUANT_WIDE; c++) {
        isa_vec total[QUANT_HIGH];
#pragma GCC unroll 8
        for (int r = 0; r < QUANT_HIGH; r++)
            total[r] = (sum[0][r][c] + sum[1][r][c]) + (sum[2][r][c] + sum[3][r][c]);
        quant_lanes_high(total, a->y + i * a->n + j + c, a->n);
    }
}

/* What vectors of k do not cover, of the first rows of x and of rows of W from j. */
ISA_INLINE void quant_block_rest(
    enum dtype t, const struct op_quant_matmul *a, int64_t high, int64_t from, int64_t wide)
{
    for (int64_t i = 0; i < high; i++)
        for (int64_t j = from; j < from + wide; j++)
            for (int64_t l = a->k / QUANT_GROUP * QUANT_GROUP; l < a->k; l++)
                a->y[i * a->n + j] =
                    fmaf(a->x[i * a->k + l], math_load(t, quant_w(a, j), l), a->y[i * a->n + j]);
}

/* Blocks of the tile, and what they leave as quant_span has it. */
ISA_INLINE void quant_tile(enum dtype t, const struct quant_tiles *s, int64_t task)
{
    struct op_quant_matmul a = s->op, rest = s->op;
    float *tile = s->memory + omp_get_thread_num() * s->rows * a.k;
    int64_t from = task * s->rows, to = from + s->rows < a.n ? from + s->rows : a.n;
    int64_t wide = (to - from) / QUANT_WIDE * QUANT_WIDE, high = a.m / QUANT_HIGH * QUANT_HIGH;
    int64_t k = a.k / QUANT_GROUP * QUANT_GROUP;
    for (int64_t j = 0; j < wide; j += QUANT_WIDE)
        quant_pack(t, &a, from + j, tile + j * k);
    for (int64_t i = 0; i < high; i += QUANT_HIGH)
        for (int64_t j = 0; j < wide; j += QUANT_WIDE)
            quant_block(&a, i, from + j, tile + j * k);
    quant_block_rest(t, &a, high, from, wide);
    rest.m = high;
    quant_span(t, &rest, from + wide, to);
    rest.m = a.m - high;
    rest.x += high * a.k;
    rest.y += high * a.n;
    quant_span(t, &rest, from, to);
}

#define QUANT_TYPES(X) X(F32) X(BF16) X(F16)
#define QUANT_KERNELS_OF(T) \
    static void quant_task_##T(const struct op_quant_matmul *a, int64_t task) \
    { \
        quant_task(DTYPE_##T, a, task); \
    } \
    static void quant_tile_##T(const struct quant_tiles *s, int64_t task) \
    { \
        quant_tile(DTYPE_##T, s, task); \
    }
QUANT_TYPES(QUANT_KERNELS_OF)
#undef QUANT_KERNELS_OF

static const struct {
    void (*few)(const struct op_quant_matmul *, int64_t);
    void (*many)(const struct quant_tiles *, int64_t);
} quant_kernels[DTYPES] = {
#define QUANT_ENTRY(T) [DTYPE_##T] = {quant_task_##T, quant_tile_##T},
    QUANT_TYPES(QUANT_ENTRY)
#undef QUANT_ENTRY
};

static void quant_many(struct dev *d, const struct op_quant_matmul *a)
{
    struct quant_tiles s = {.op = *a, .rows = QUANT_TILE_BYTES / (a->k * 4)};
    s.rows = (s.rows > QUANT_TILE_MOST ? QUANT_TILE_MOST : s.rows) / QUANT_WIDE * QUANT_WIDE;
    s.rows = s.rows < QUANT_WIDE ? QUANT_WIDE : s.rows;
    size_t bytes = (size_t)(s.rows * a->k) * sizeof(float);
    s.memory = cpu_scratch(d, CPU_SCRATCH_OP, bytes * (size_t)omp_get_max_threads());
    int64_t tasks = (a->n + s.rows - 1) / s.rows;
#pragma omp parallel for schedule(dynamic, 1) if (a->n * a->k > ISA_PARALLEL_BYTES)
    for (int64_t i = 0; i < (s.memory ? tasks : 0); i++)
        quant_kernels[a->w_type].many(&s, i);
}

static void quant_dense(struct dev *d, const struct op_quant_matmul *a)
{
    if (a->m > QUANT_FEW) {
        quant_many(d, a);
        return;
    }
    int64_t tasks = (a->n + QUANT_TASK - 1) / QUANT_TASK;
#pragma omp parallel for schedule(static) if (a->n * a->k > ISA_PARALLEL_BYTES)
    for (int64_t i = 0; i < tasks; i++)
        quant_kernels[a->w_type].few(a, i);
}
