/*
 * attention_cached_body: queries against a cache of keys and values, which serving has. Part of
 * isa_body.h.
 *
 * A task is one head of keys and values, and of the rows that follow each other in a sequence some
 * that see the same tokens but for the last ones, with all their query heads: CACHED_SPAN keys and
 * values at a time are widened to F32 in the thread's cache, blocks of Q8_0 exactly, and multiplied
 * with all of them. What
 * a query adds up, and in which order, depends on nothing but its own length and window: spans
 * begin at multiples of CACHED_SPAN, keys that it does not see weigh zero. So a row has the same
 * bits whatever rows it shares a task with.
 */
#define CACHED_SPAN    64 /* keys at a time: they, values and weights fill an L2 cache by a third */
#define CACHED_QUERIES 48 /* that share them, or the heads of one row if these are more */

/* Where token j of sequence n begins in the caches, in elements. */
ISA_INLINE int64_t cached_token(const struct op_attention_decode *a, int64_t n, int64_t j)
{
    int64_t ld = a->g * a->d;
    if (!a->pages)
        return n * a->sequence_stride + j * ld;
    int64_t page = a->pages[n * a->pages_ld + j / a->page_tokens];
    return (page * a->page_tokens + j % a->page_tokens) * ld;
}

/* -- blocks of Q8_0 -- */
#define CACHED_BLOCK       32
#define CACHED_BLOCK_BYTES 34

typedef int32_t cached_ints __attribute__((vector_size(4 * ISA_VECTOR)));
typedef int8_t cached_bytes __attribute__((vector_size(ISA_VECTOR)));

/* Rounded to even; what is no int8_t has a zero in its lowest byte. A conversion, so that the
   product before it is rounded by itself on every instruction set. */
ISA_INLINE cached_ints cached_rounded(isa_vec v)
{
#if defined(__AVX512F__)
    return (cached_ints)_mm512_cvtps_epi32((__m512)v);
#elif defined(__AVX2__)
    return (cached_ints)_mm256_cvtps_epi32((__m256)v);
#elif defined(__SSE2__)
    return (cached_ints)_mm_cvtps_epi32((__m128)v);
#elif defined(__aarch64__)
    return (cached_ints)vcvtnq_s32_f32((float32x4_t)v);
#else
    cached_ints q;
    for (int i = 0; i < ISA_VECTOR; i++)
        q[i] = (int32_t)rintf(v[i]);
    return q;
#endif
}

/* Of the greatest magnitude, as bits: NaN above infinity above all numbers. */
ISA_INLINE void cached_put_block(const float *x, uint8_t *out)
{
    uint32_t most = 0;
#pragma omp simd reduction(max : most)
    for (int i = 0; i < CACHED_BLOCK; i++) {
        union math_bits v = {.f = x[i]};
        most = (v.u & 0x7fffffffu) > most ? v.u & 0x7fffffffu : most;
    }
    union math_bits greatest = {.u = most};
    float d = greatest.f / 127, inverse = d >= 0x1p-126f && d < INFINITY ? 1 / d : 0;
    uint16_t scale = math_to_f16(d);
    memcpy(out, &scale, sizeof scale);
#pragma GCC unroll 8
    for (int i = 0; i < CACHED_BLOCK; i += ISA_VECTOR) {
        isa_vec v;
        memcpy(&v, x + i, sizeof v);
        cached_bytes q = __builtin_convertvector(cached_rounded(v * inverse), cached_bytes);
        memcpy(out + 2 + i, &q, sizeof q);
    }
}

/* 32 numbers to out, which is aligned; each is exact. */
ISA_INLINE void cached_get_block(const uint8_t *block, float *out)
{
    float scale = quant_scalar_f16(block);
#pragma GCC unroll 8
    for (int i = 0; i < CACHED_BLOCK; i += ISA_VECTOR) {
        const uint8_t *p = block + 2 + i;
#if defined(__AVX512F__)
        isa_vec v = (isa_vec)_mm512_cvtepi32_ps(
            _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
#elif defined(__AVX2__)
        isa_vec v = (isa_vec)_mm256_cvtepi32_ps(
            _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
#else
        cached_bytes q;
        memcpy(&q, p, sizeof q);
        isa_vec v = __builtin_convertvector(q, isa_vec);
#endif
        *(isa_vec *)(void *)(out + i) = v * scale;
    }
}

/* Elements from `at` on, a multiple of CACHED_BLOCK. */
ISA_INLINE int64_t cached_bytes_at(int64_t at)
{
    return at / CACHED_BLOCK * CACHED_BLOCK_BYTES;
}

static void cached_put_blocks(void *cache, int64_t at, int64_t n, const float *x)
{
    uint8_t *out = (uint8_t *)cache + cached_bytes_at(at);
    for (int64_t i = 0; i < n; i += CACHED_BLOCK)
        cached_put_block(x + i, out + cached_bytes_at(i));
}

ISA_INLINE void cached_put(enum dtype t, void *cache, int64_t at, int64_t n, const float *x)
{
    if (t == DTYPE_F32)
        memcpy((float *)cache + at, x, (size_t)n * sizeof(float));
    else if (t == DTYPE_Q8_0)
        cached_put_blocks(cache, at, n, x);
    else
        math_put(t, cache, at, n, x);
}

static void isa_kv_store(struct dev *d, const struct op_kv_store *a)
{
    const struct op_attention_decode cache = {.g = a->g,
        .d = a->d,
        .sequence_stride = a->sequence_stride,
        .pages = a->pages,
        .pages_ld = a->pages_ld,
        .page_tokens = a->page_tokens};
    int64_t width = a->g * a->d;
    (void)d;
#pragma omp parallel for schedule(static) if (a->n * width > ISA_PARALLEL_BYTES)
    for (int64_t i = 0; i < a->n; i++) {
        int64_t at = cached_token(&cache, i, a->position[i]);
        cached_put(a->kv_type, a->k_cache, at, width, a->k + i * width);
        cached_put(a->kv_type, a->v_cache, at, width, a->v + i * width);
    }
}

struct cached_work {
    struct op_attention_decode op;
    int64_t heads, queries, pad; /* query heads of a key's; queries of a task at most; padded d */
    int64_t *first, runs;        /* (runs + 1): a run's first row */
    char *own;                   /* per thread */
    size_t own_bytes;
};

struct cached_own {
    float *keys, *values; /* (CACHED_SPAN, pad) */
    float *q, *o;         /* (queries, pad) */
    float *weight;        /* (queries, CACHED_SPAN) */
    float *max, *sum;     /* (queries) */
};

/* Lays a thread's buffers out in memory (NULL: only counts); returns the bytes. */
static size_t cached_layout(const struct cached_work *w, char *memory, struct cached_own *own)
{
    int64_t span = CACHED_SPAN * w->pad, all = w->queries * w->pad;
    const struct {
        float **field;
        int64_t count;
    } parts[] = {{&own->keys, span}, {&own->values, span}, {&own->q, all}, {&own->o, all},
        {&own->weight, w->queries * CACHED_SPAN}, {&own->max, w->queries}, {&own->sum, w->queries}};
    size_t at = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (memory)
            *parts[i].field = (float *)(void *)(memory + at);
        at += ((size_t)parts[i].count * sizeof(float) + 63) / 64 * 64;
    }
    return at;
}

ISA_INLINE isa_vec cached_widened(enum dtype t, const void *p, int64_t at)
{
    isa_vec v;
    if (t == DTYPE_BF16)
        return (isa_vec)(quant_halves((const uint8_t *)p + 2 * at) << 16);
    if (t == DTYPE_F16)
        return quant_from_f16((const uint8_t *)p + 2 * at);
    memcpy(&v, (const float *)p + at, sizeof v);
    return v;
}

/* out (span, pad) = what stands from `at` on in the sequence of row n, of one head; the padding
   stays. */
ISA_INLINE void cached_load(enum dtype t, const struct cached_work *w, const void *cache, int64_t n,
    int64_t head, int64_t at, int64_t span, float *out)
{
    const struct op_attention_decode *a = &w->op;
    int64_t d = a->d;
    for (int64_t j = 0; j < span; j++, out += w->pad) {
        int64_t from = cached_token(a, n, at + j) + head * d, c = 0;
        if (t == DTYPE_Q8_0) {
            const uint8_t *blocks = (const uint8_t *)cache + cached_bytes_at(from);
            for (; c < d; c += CACHED_BLOCK)
                cached_get_block(blocks + cached_bytes_at(c), out + c);
            continue;
        }
        for (; c + ISA_VECTOR <= d; c += ISA_VECTOR)
            *(isa_vec *)(void *)(out + c) = cached_widened(t, cache, from + c);
        for (; c < d; c++)
            out[c] = math_load(t, cache, from + c);
    }
}

/* The products of TILE_MR queries and two keys. */
ISA_INLINE void cached_dots(int64_t pad, const float *q, const float *key, float *weight)
{
    isa_vec sum[2][TILE_MR] = {0};
    for (int64_t c = 0; c < pad; c += ISA_VECTOR) {
        isa_vec a = *(const isa_vec *)(const void *)(key + c);
        isa_vec b = *(const isa_vec *)(const void *)(key + pad + c);
#pragma GCC unroll 8
        for (int i = 0; i < TILE_MR; i++) {
            isa_vec x = *(const isa_vec *)(const void *)(q + i * pad + c);
            sum[0][i] += x * a;
            sum[1][i] += x * b;
        }
    }
    static_assert(TILE_MR == QUANT_HIGH, "all queries' sums are added up at once");
    quant_lanes_high(sum[0], weight, CACHED_SPAN);
    quant_lanes_high(sum[1], weight + 1, CACHED_SPAN);
}

/* Products of a query with keys of which it sees [lo, hi) become weights; its maximum and sum go
   on, and what it has so far is scaled to them. */
ISA_INLINE void cached_weigh(float scale, int64_t lo, int64_t hi, int64_t pad, float *weight,
    float *max, float *sum, float *o)
{
    int64_t end = hi <= lo ? 0 : (hi + TILE_PAD - 1) / TILE_PAD * TILE_PAD;
    float top = *max, total = 0;
    memset(weight + end, 0, (size_t)(CACHED_SPAN - end) * sizeof *weight);
    if (!end)
        return;
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < end; j++) {
        weight[j] = j >= lo && j < hi ? weight[j] * scale : -INFINITY;
        top = weight[j] > top ? weight[j] : top;
    }
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < end; j++) {
        float e = math_exp(weight[j] - top);
        weight[j] = j >= lo && j < hi ? e : 0;
        total += weight[j];
    }
    float factor = math_exp(*max - top);
    *max = top;
    *sum = *sum * factor + total;
#pragma omp simd
    for (int64_t c = 0; c < pad; c++)
        o[c] *= factor;
}

/* The first token that row n sees. */
static inline int64_t cached_first(const struct op_attention_decode *a, int64_t n)
{
    return a->window && a->length[n] > a->window ? a->length[n] - a->window : 0;
}

/* o (queries, pad) += the values' part of one span, which begins at token `at`. */
ISA_INLINE void cached_span(enum dtype t, const struct cached_work *w, struct cached_own *own,
    int64_t row, int64_t rows, int64_t head, int64_t at)
{
    const struct op_attention_decode *a = &w->op;
    int64_t last = row + rows - 1, left = a->length[last] - at, pad = w->pad;
    int64_t span = left < CACHED_SPAN ? left : CACHED_SPAN, n = rows * w->heads;
    cached_load(t, w, a->k_cache, last, head, at, span, own->keys);
    cached_load(t, w, a->v_cache, last, head, at, span, own->values);
    for (int64_t i = 0; i < n; i += TILE_MR)
        for (int64_t j = 0; j < span; j += 2)
            cached_dots(
                pad, own->q + i * pad, own->keys + j * pad, own->weight + i * CACHED_SPAN + j);
    for (int64_t i = 0; i < n; i++) {
        int64_t r = row + i / w->heads, lo = cached_first(a, r) - at, hi = a->length[r] - at;
        cached_weigh(a->scale, lo < 0 ? 0 : lo, hi < CACHED_SPAN ? hi : CACHED_SPAN, pad,
            own->weight + i * CACHED_SPAN, own->max + i, own->sum + i, own->o + i * pad);
    }
    tile_product(false, true, (n + TILE_MR - 1) / TILE_MR * TILE_MR, pad, span,
        (const uint32_t *)(const void *)own->weight, CACHED_SPAN,
        (const uint32_t *)(const void *)own->values, pad, own->o, pad);
}

/* Task i of (runs, g). */
ISA_INLINE void cached_task(enum dtype t, const struct cached_work *w, int64_t i)
{
    const struct op_attention_decode *a = &w->op;
    struct cached_own own;
    int64_t head = i % a->g, row = w->first[i / a->g], rows = w->first[i / a->g + 1] - row;
    int64_t n = rows * w->heads, length = a->length[row + rows - 1];
    cached_layout(w, w->own + w->own_bytes * (size_t)omp_get_thread_num(), &own);
    if (w->pad != a->d)
        memset(own.keys, 0, w->own_bytes);
    int64_t padded = (n + TILE_MR - 1) / TILE_MR * TILE_MR;
    memset(own.q, 0, (size_t)(padded * w->pad) * sizeof(float));
    memset(own.o, 0, (size_t)(padded * w->pad) * sizeof(float));
    memset(own.sum, 0, (size_t)n * sizeof(float));
    for (int64_t k = 0; k < n; k++) {
        int64_t from = (row + k / w->heads) * a->h + head * w->heads + k % w->heads;
        memcpy(own.q + k * w->pad, a->q + from * a->d, (size_t)a->d * sizeof(float));
        own.max[k] = -FLT_MAX;
    }
    for (int64_t at = cached_first(a, row) / CACHED_SPAN * CACHED_SPAN; at < length;
         at += CACHED_SPAN)
        cached_span(t, w, &own, row, rows, head, at);
    for (int64_t k = 0; k < n; k++) {
        int64_t to = (row + k / w->heads) * a->h + head * w->heads + k % w->heads;
        for (int64_t c = 0; c < a->d; c++)
            a->o[to * a->d + c] = own.o[k * w->pad + c] / own.sum[k];
    }
}
ISA_LEAVES(cached_task, struct cached_work)
ISA_LEAF(cached_task, struct cached_work, q8_0, DTYPE_Q8_0)

/* Whether row n + 1 stands in the sequence of row n, behind it. */
static bool cached_goes_on(const struct op_attention_decode *a, int64_t n)
{
    if (a->length[n + 1] < a->length[n])
        return false;
    if (!a->pages)
        return !a->sequence_stride;
    const int32_t *pages = a->pages + n * a->pages_ld;
    int64_t count = (a->length[n] + a->page_tokens - 1) / a->page_tokens;
    return !memcmp(pages, pages + a->pages_ld, (size_t)count * sizeof *pages);
}

/* Cuts the rows into runs. */
static void cached_cut(struct cached_work *w)
{
    int64_t most = w->queries / w->heads;
    w->runs = 0;
    for (int64_t n = 0; n < w->op.n; n++)
        if (!n || n - w->first[w->runs - 1] == most || !cached_goes_on(&w->op, n - 1))
            w->first[w->runs++] = n;
    w->first[w->runs] = w->op.n;
}

static void isa_attention_decode(struct dev *d, const struct op_attention_decode *a)
{
    struct cached_work w = {.op = *a, .heads = a->h / a->g, .queries = CACHED_QUERIES};
    size_t rows = ((size_t)(a->n + 1) * sizeof *w.first + 63) / 64 * 64;
    int64_t keys = 0;
    w.pad = (a->d + TILE_PAD - 1) / TILE_PAD * TILE_PAD;
    if (w.queries > a->n * w.heads)
        w.queries = a->n * w.heads;
    if (w.queries < w.heads)
        w.queries = w.heads;
    w.queries = (w.queries + TILE_MR - 1) / TILE_MR * TILE_MR;
    w.own_bytes = cached_layout(&w, NULL, &(struct cached_own){0});
    w.first = cpu_scratch(d, CPU_SCRATCH_OP, rows + w.own_bytes * (size_t)omp_get_max_threads());
    if (!w.first)
        return;
    w.own = (char *)w.first + rows;
    cached_cut(&w);
    for (int64_t i = 0; i < a->n; i++)
        keys += a->length[i];
    bool blocks = a->kv_type == DTYPE_Q8_0;
#pragma omp parallel for schedule(dynamic, 1) if (keys * a->h * a->d > ISA_PARALLEL_BYTES)
    for (int64_t i = 0; i < w.runs * a->g; i++)
        (blocks ? cached_task_q8_0 : ISA_TYPED(cached_task, a->kv_type))(&w, i);
}
