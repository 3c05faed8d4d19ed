/*
 * quant_body: products with stored weight blocks, y = x W^T, for decoding: few rows of x, W read
 * once from memory. Part of isa_body.h.
 *
 * Threads share the rows of W. QUANT_GROUP weights at a time are decoded into registers as F32 and
 * multiplied with up to QUANT_ROWS rows of x; x stays F32 (also where it has been rounded: memory
 * is the bound), so the result is the reference's up to the order of sums. Beyond QUANT_MANY rows
 * the decoding is the smaller part: panels of W are decoded to memory and oneDNN multiplies.
 */
#define QUANT_GROUP 32 /* weights that share a scale in every format but Q6_K, which has two */
#define QUANT_VECS  (QUANT_GROUP / ISA_VECTOR)
#define QUANT_ROWS  8 /* two sums each, 16 registers */
#define QUANT_MANY  16
#define QUANT_PANEL 512 /* rows of W decoded to memory at a time */

typedef uint32_t quant_words __attribute__((vector_size(4 * ISA_VECTOR)));
typedef int32_t quant_ints __attribute__((vector_size(4 * ISA_VECTOR)));

/* -- ISA_VECTOR small numbers from memory, widened to 32 bits -- */
#if defined(__AVX512F__)
#define QUANT_WIDEN(p, bytes, how) \
    ((quant_words)_mm512_##how(_mm_loadu_si128((const __m128i *)(p))))
#define QUANT_WIDEN_16(p) \
    ((quant_words)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p))))
#elif defined(__AVX2__)
#define QUANT_WIDEN(p, bytes, how) \
    ((quant_words)_mm256_##how(_mm_loadl_epi64((const __m128i *)(p))))
#define QUANT_WIDEN_16(p) \
    ((quant_words)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p))))
#endif

ISA_INLINE quant_words quant_bytes(const uint8_t *p)
{
#ifdef QUANT_WIDEN
    return QUANT_WIDEN(p, ISA_VECTOR, cvtepu8_epi32);
#else
    quant_words v;
    for (int i = 0; i < ISA_VECTOR; i++)
        v[i] = p[i];
    return v;
#endif
}

ISA_INLINE quant_words quant_signed_bytes(const uint8_t *p)
{
#ifdef QUANT_WIDEN
    return QUANT_WIDEN(p, ISA_VECTOR, cvtepi8_epi32);
#else
    quant_words v;
    for (int i = 0; i < ISA_VECTOR; i++)
        v[i] = (uint32_t)(int8_t)p[i];
    return v;
#endif
}

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

/* -- decoding a group -- */
/* The low four bits of each word, times scale, plus min. */
ISA_INLINE isa_vec quant_nibbles(quant_words v, float scale, float min)
{
#if defined(__AVX512F__)
    /* A permutation looks only at the low four bits: the table holds the 16 results. */
    const isa_vec values = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return (isa_vec)_mm512_permutexvar_ps((__m512i)v, (__m512)(values * scale + min));
#else
    return __builtin_convertvector((quant_ints)(v & 15), isa_vec) * scale + min;
#endif
}

/* 16 bytes of nibbles: low ones are the first half of the group. */
ISA_INLINE void quant_group_4(const uint8_t *p, float scale, float min, isa_vec *w)
{
#pragma GCC unroll 8
    for (int i = 0; i < QUANT_VECS / 2; i++) {
        quant_words v = quant_bytes(p + i * ISA_VECTOR);
        w[i] = quant_nibbles(v, scale, min);
        w[i + QUANT_VECS / 2] = quant_nibbles(v >> 4, scale, min);
    }
}

/* As quant_group_4, behind 32 fifth bits. */
ISA_INLINE void quant_group_5(const uint8_t *p, float scale, float min, isa_vec *w)
{
    uint32_t high;
    quant_words bit;
    memcpy(&high, p, 4);
    for (int i = 0; i < ISA_VECTOR; i++)
        bit[i] = (uint32_t)i;
#pragma GCC unroll 8
    for (int i = 0; i < QUANT_VECS; i++) {
        quant_words v = quant_bytes(p + 4 + i % (QUANT_VECS / 2) * ISA_VECTOR);
        v = (i < QUANT_VECS / 2 ? v : v >> 4) & 15;
        v |= ((high >> i * ISA_VECTOR) >> bit & 1) << 4;
        w[i] = __builtin_convertvector((quant_ints)v, isa_vec) * scale + min;
    }
}

ISA_INLINE void quant_group_q4_k(const uint8_t *p, int sub, isa_vec *w)
{
    uint8_t scale, min;
    quant_q4_k_scale(p + 4, sub, &scale, &min);
    float d = quant_scalar_f16(p) * scale, m = -quant_scalar_f16(p + 2) * min;
#pragma GCC unroll 8
    for (int i = 0; i < QUANT_VECS; i++) {
        quant_words v = quant_bytes(p + 16 + sub / 2 * 32 + i * ISA_VECTOR);
        w[i] = quant_nibbles(sub & 1 ? v >> 4 : v, d, m);
    }
}

ISA_INLINE void quant_group_q6_k(const uint8_t *p, int sub, isa_vec *w)
{
    int half = sub / 4, quarter = sub % 4;
    const uint8_t *low = p + 64 * half + 32 * (quarter & 1), *high = p + 128 + 32 * half;
    const uint8_t *scale = p + 192 + 2 * sub;
    float d = quant_scalar_f16(p + 208);
#pragma GCC unroll 8
    for (int i = 0; i < QUANT_VECS; i++) {
        quant_words l = (quant_bytes(low + i * ISA_VECTOR) >> (4 * (quarter >> 1))) & 15;
        quant_words h = (quant_bytes(high + i * ISA_VECTOR) >> (2 * quarter)) & 3;
        float s = d * (float)(int8_t)scale[i * ISA_VECTOR / 16];
        w[i] = __builtin_convertvector((quant_ints)(l | h << 4), isa_vec) * s - 32 * s;
    }
}

/* Group number first + sub of a row; for super-blocks first is a multiple of 8 and sub a
   constant. */
ISA_INLINE void quant_group(enum dtype t, const uint8_t *row, int64_t first, int sub, isa_vec *w)
{
    const uint8_t *p = row;
    int64_t g = first + sub;
    switch (t) {
    case DTYPE_Q4_0:
        p += g * 18;
        float d = quant_scalar_f16(p);
        quant_group_4(p + 2, d, -8 * d, w);
        return;
    case DTYPE_Q4_1:
        p += g * 20;
        quant_group_4(p + 4, quant_scalar_f16(p), quant_scalar_f16(p + 2), w);
        return;
    case DTYPE_Q5_0:
        p += g * 22;
        float d5 = quant_scalar_f16(p);
        quant_group_5(p + 2, d5, -16 * d5, w);
        return;
    case DTYPE_Q5_1:
        p += g * 24;
        quant_group_5(p + 4, quant_scalar_f16(p), quant_scalar_f16(p + 2), w);
        return;
    case DTYPE_Q4_K:
        quant_group_q4_k(p + first / 8 * 144, sub, w);
        return;
    case DTYPE_Q6_K:
        quant_group_q6_k(p + first / 8 * 210, sub, w);
        return;
    default:
        break;
    }
#pragma GCC unroll 8
    for (int i = 0; i < QUANT_VECS; i++) {
        int64_t at = g * QUANT_GROUP + i * ISA_VECTOR;
        if (t == DTYPE_Q8_0)
            w[i] = __builtin_convertvector(
                       (quant_ints)quant_signed_bytes(p + g * 34 + 2 + i * ISA_VECTOR), isa_vec) *
                quant_scalar_f16(p + g * 34);
        else if (t == DTYPE_BF16)
            w[i] = (isa_vec)(quant_halves(p + 2 * at) << 16);
        else if (t == DTYPE_F16)
            w[i] = quant_from_f16(p + 2 * at);
        else
            memcpy(&w[i], p + 4 * at, sizeof w[i]);
    }
}

/* -- products -- */
/* sum (rows, 2) += a group of a row of W times that of `rows` rows of x, k apart. */
ISA_INLINE void quant_add(enum dtype t, int rows, const uint8_t *w, const float *x, int64_t k,
    int64_t first, int sub, isa_vec (*sum)[2])
{
    isa_vec weight[QUANT_VECS], part;
    quant_group(t, w, first, sub, weight);
    x += (first + sub) * QUANT_GROUP;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < QUANT_VECS; v++) {
            memcpy(&part, x + r * k + v * ISA_VECTOR, sizeof part);
            sum[r][v & 1] += weight[v] * part;
        }
}

/* y of row j of W and `rows` rows of x from i; rows is a constant. */
ISA_INLINE void quant_row(
    enum dtype t, int rows, const struct op_quant_matmul *a, int64_t j, int64_t i)
{
    /* One row of x needs more sums in flight to hide the latency of the multiply-add. */
    isa_vec even[QUANT_ROWS][2] = {0}, odd[QUANT_ROWS][2] = {0};
    int64_t k = a->k, groups = k / QUANT_GROUP, g = 0;
    const uint8_t *w = (const uint8_t *)a->w + j * (k / dtype_block(t) * dtype_block_bytes(t));
    const float *x = a->x + i * k;
    isa_vec(*other)[2] = rows == 1 ? odd : even;
    if (t == DTYPE_Q4_K || t == DTYPE_Q6_K) {
        for (; g < groups; g += 8) { /* written out: sums chosen in a loop would live in memory */
            quant_add(t, rows, w, x, k, g, 0, even);
            quant_add(t, rows, w, x, k, g, 1, other);
            quant_add(t, rows, w, x, k, g, 2, even);
            quant_add(t, rows, w, x, k, g, 3, other);
            quant_add(t, rows, w, x, k, g, 4, even);
            quant_add(t, rows, w, x, k, g, 5, other);
            quant_add(t, rows, w, x, k, g, 6, even);
            quant_add(t, rows, w, x, k, g, 7, other);
        }
    } else {
        for (; g + 2 <= groups; g += 2) {
            quant_add(t, rows, w, x, k, g, 0, even);
            quant_add(t, rows, w, x, k, g, 1, other);
        }
        if (g < groups)
            quant_add(t, rows, w, x, k, g, 0, even);
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        isa_vec all = even[r][0] + even[r][1] + (odd[r][0] + odd[r][1]);
        float total = 0;
        for (int v = 0; v < ISA_VECTOR; v++)
            total += all[v];
        for (int64_t l = k / QUANT_GROUP * QUANT_GROUP; l < k; l++) /* types without blocks */
            total += x[r * k + l] * math_load(t, w, l);
        a->y[(i + r) * a->n + j] = total;
    }
}

#define QUANT_TASK 32 /* rows of W a thread takes at a time */

/* Rows of W from task * QUANT_TASK against all rows of x. */
ISA_INLINE void quant_task(enum dtype t, const struct op_quant_matmul *args, int64_t task)
{
    struct op_quant_matmul a = *args;
    int64_t from = task * QUANT_TASK, to = from + QUANT_TASK < a.n ? from + QUANT_TASK : a.n, i = 0;
    for (; i + 8 <= a.m; i += 8)
        for (int64_t j = from; j < to; j++)
            quant_row(t, 8, &a, j, i);
    for (; i + 4 <= a.m; i += 4)
        for (int64_t j = from; j < to; j++)
            quant_row(t, 4, &a, j, i);
    for (; i < a.m; i++)
        for (int64_t j = from; j < to; j++)
            quant_row(t, 1, &a, j, i);
}

#define QUANT_TYPES(X) X(F32) X(BF16) X(F16) X(Q8_0) X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q4_K) X(Q6_K)
#define QUANT_TASK_OF(T) \
    static void quant_task_##T(const struct op_quant_matmul *a, int64_t task) \
    { \
        quant_task(DTYPE_##T, a, task); \
    }
QUANT_TYPES(QUANT_TASK_OF)
#undef QUANT_TASK_OF

static void (*const quant_tasks[DTYPES])(const struct op_quant_matmul *, int64_t) = {
#define QUANT_ENTRY(T) [DTYPE_##T] = quant_task_##T,
    QUANT_TYPES(QUANT_ENTRY)
#undef QUANT_ENTRY
};

/* Decodes rows of W from j to memory and multiplies: y (m, rows) of stride n. */
static void quant_panel(
    struct dev *d, const struct op_quant_matmul *a, int64_t j, int64_t rows, float *panel)
{
    int64_t row_bytes = dtype_bytes(a->w_type, a->k);
    const char *w = (const char *)a->w + j * row_bytes;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++)
        quant_decode(a->w_type, w + i * row_bytes, a->k, panel + i * a->k);
    op_cpu_matmul(d,
        &(struct op_matmul){.m = a->m,
            .n = rows,
            .k = a->k,
            .a = a->x,
            .lda = a->k,
            .b = panel,
            .ldb = a->k,
            .tb = true,
            .c = a->y + j,
            .ldc = a->n,
            .ab_type = DTYPE_F32,
            .c_type = DTYPE_F32,
            .alpha = 1});
}

static void isa_quant_matmul(struct dev *d, const struct op_quant_matmul *a)
{
    if (a->m > QUANT_MANY) {
        int64_t rows = a->n < QUANT_PANEL ? a->n : QUANT_PANEL;
        float *panel = cpu_scratch(d, CPU_SCRATCH_OP, (size_t)(rows * a->k) * sizeof(float));
        for (int64_t j = 0; panel && j < a->n; j += rows)
            quant_panel(d, a, j, a->n - j < rows ? a->n - j : rows, panel);
        return;
    }
    int64_t tasks = (a->n + QUANT_TASK - 1) / QUANT_TASK;
#pragma omp parallel for schedule(static) if (a->n * a->k > ISA_PARALLEL_BYTES)
    for (int64_t i = 0; i < tasks; i++)
        quant_tasks[a->w_type](a, i);
}
