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
 * W that a thread widens in its cache. x stays F32 (also where it has been rounded: memory is the
 * bound).
 */
#define QUANT_GROUP \
    32 /* weights at a time; they share a scale in every format but Q6_K, with two */
#define QUANT_VECS (QUANT_GROUP / ISA_VECTOR)
#define QUANT_SUMS 4
#define QUANT_FEW  12 /* rows of x that are multiplied with weights in registers */
#if defined(__AVX512F__) || defined(__aarch64__)
#define QUANT_ROWS 6 /* of them, as many as have their sums in registers */
#else
#define QUANT_ROWS 3
#endif

typedef uint32_t quant_words __attribute__((vector_size(4 * ISA_VECTOR)));

/* -- ISA_VECTOR numbers of 16 bits from memory, widened -- */
#if defined(__AVX512F__)
#define QUANT_WIDEN_16(p) \
    ((quant_words)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p))))
#elif defined(__AVX2__)
#define QUANT_WIDEN_16(p) \
    ((quant_words)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p))))
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

ISA_INLINE void quant_tile_row(enum dtype t, const uint8_t *w, int64_t k, float *out)
{
    int64_t groups = k / QUANT_GROUP;
    for (int64_t g = 0; g < groups; g++) {
        isa_vec weight[QUANT_VECS];
        quant_group(t, w, g, weight);
        memcpy(out + g * QUANT_GROUP, weight, sizeof weight);
    }
    for (int64_t l = groups * QUANT_GROUP; l < k; l++)
        out[l] = math_load(t, w, l);
}

static void quant_tile_product(const struct op_quant_matmul *a, int64_t rows)
{
    struct op_quant_matmul copy = *a;
    quant_span(DTYPE_F32, &copy, 0, rows);
}

ISA_INLINE void quant_tile(enum dtype t, const struct quant_tiles *s, int64_t task)
{
    struct op_quant_matmul a = s->op;
    float *tile = s->memory + omp_get_thread_num() * s->rows * a.k;
    int64_t from = task * s->rows, rows = a.n - from < s->rows ? a.n - from : s->rows;
    for (int64_t j = 0; j < rows; j++)
        quant_tile_row(t, quant_w(&a, from + j), a.k, tile + j * a.k);
    a.w = tile;
    a.w_type = DTYPE_F32;
    a.y += from;
    quant_tile_product(&a, rows);
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
    s.rows = s.rows < 1 ? 1 : s.rows > QUANT_TILE_MOST ? QUANT_TILE_MOST : s.rows;
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
