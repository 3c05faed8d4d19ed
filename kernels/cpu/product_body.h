/*
 * product_body: matrix products of 16-bit operands, and into 16-bit results, for a processor on
 * which oneDNN multiplies only F32. Part of isa_body.h, where vectors have 8 floats and are 16.
 *
 * Operands are widened as they are packed for the caches, which a product of F32 does as well, and
 * sums are rounded as they leave the registers: nothing F32 is written to memory but what must be
 * added up in pieces. As in BLIS (Van Zee and van de Geijn, doi:10.1145/2764454) a block of B
 * (PRODUCT_TERMS, PRODUCT_WIDTH) is packed by all threads together, a block of A by each for
 * itself, and a tile of C (PRODUCT_ROWS, PRODUCT_COLS) is added up in twelve registers. The terms
 * of an element are added up in an order that depends on k alone, so results do not depend on the
 * number of threads.
 */
#define PRODUCT_ROWS  6
#define PRODUCT_COLS  16 /* two vectors */
#define PRODUCT_TILE  (PRODUCT_ROWS * PRODUCT_COLS)
#define PRODUCT_TERMS 768  /* few products have more, and what these add up is written twice */
#define PRODUCT_WIDTH 3072 /* columns of a block of B: 9 MiB, of a third-level cache */
#define PRODUCT_BLOCK (32 << 10) /* floats of a block of A: a quarter of a second-level cache */
#define PRODUCT_GROUP 4          /* panels of B that are packed side by side: whole cache lines */
#define PRODUCT_SUMS  ((int64_t)8 << 20) /* floats of sums that are kept, about: 32 MiB */

struct product {
    struct op_matmul op;
    float *a, *b; /* (threads, a_floats), (columns / PRODUCT_COLS, terms, PRODUCT_COLS) */
    float
        *sums; /* (columns / PRODUCT_COLS, panels, PRODUCT_TILE) of a result of 16 bits, or NULL */
    int64_t terms; /* of a block */
    int64_t columns;
    int64_t a_floats;
    int64_t panels; /* of PRODUCT_ROWS rows; */
    int64_t blocks; /* what a thread packs of them at a time, */
    int64_t cuts;   /* and multiplies with one of so many parts of the block of B */
    int64_t k, j;   /* the block of B that is multiplied: its first term and column, */
    int64_t kn, jn; /* and how many it has of both */
};

ISA_INLINE isa_vec product_load(enum dtype t, const void *p, int64_t i)
{
    const uint16_t *h = (const uint16_t *)p + i;
    if (t == DTYPE_F32)
        return (isa_vec)_mm256_loadu_ps((const float *)p + i);
    if (t == DTYPE_F16)
        return (isa_vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)h));
    return (isa_vec)_mm256_slli_epi32(
        _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)h)), 16);
}

ISA_INLINE void product_store(float *out, isa_vec v)
{
    _mm256_storeu_ps(out, (__m256)v);
}

/* out (n) = elements [at, at + n) */
ISA_INLINE void product_widen(enum dtype t, const void *p, int64_t at, int64_t n, float *out)
{
    int64_t i = 0;
    for (; i + ISA_VECTOR <= n; i += ISA_VECTOR)
        product_store(out + i, product_load(t, p, at + i));
    for (; i < n; i++)
        out[i] = math_load(t, p, at + i);
}

/* Eight elements, of which n are there, else zeros. */
ISA_INLINE isa_vec product_some(enum dtype t, const void *p, int64_t at, int64_t n)
{
    float some[ISA_VECTOR] = {0};
    if (n >= ISA_VECTOR)
        return product_load(t, p, at);
    if (n > 0)
        product_widen(t, p, at, n, some);
    return (isa_vec)_mm256_loadu_ps(some);
}

ISA_INLINE int64_t product_least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* -- packing -- */

/* r (8, 8) transposed, by exchanges of quarters, pairs and elements. */
ISA_INLINE void product_transpose(isa_vec r[ISA_VECTOR])
{
#define PRODUCT_EXCHANGE(x, y, low, high) \
    do { \
        isa_vec x_ = r[x], y_ = r[y]; \
        r[x] = __builtin_shufflevector(x_, y_, low); \
        r[y] = __builtin_shufflevector(x_, y_, high); \
    } while (0)
#define PRODUCT_LIST(...) __VA_ARGS__
#pragma GCC unroll 8
    for (int i = 0; i < 4; i++)
        PRODUCT_EXCHANGE(i, i + 4, PRODUCT_LIST(0, 1, 2, 3, 8, 9, 10, 11),
            PRODUCT_LIST(4, 5, 6, 7, 12, 13, 14, 15));
#pragma GCC unroll 8
    for (int i = 0; i < 6; i += i == 1 ? 3 : 1)
        PRODUCT_EXCHANGE(i, i + 2, PRODUCT_LIST(0, 1, 8, 9, 4, 5, 12, 13),
            PRODUCT_LIST(2, 3, 10, 11, 6, 7, 14, 15));
#pragma GCC unroll 8
    for (int i = 0; i < 8; i += 2)
        PRODUCT_EXCHANGE(i, i + 1, PRODUCT_LIST(0, 8, 2, 10, 4, 12, 6, 14),
            PRODUCT_LIST(1, 9, 3, 11, 5, 13, 7, 15));
#undef PRODUCT_LIST
#undef PRODUCT_EXCHANGE
}

/* out (kn, PRODUCT_COLS) of n columns from j on, which are stored as rows */
ISA_INLINE void product_pack_rows(
    enum dtype t, const struct product *p, int64_t j, int64_t n, float *out)
{
    int64_t whole = n == PRODUCT_COLS ? p->kn / ISA_VECTOR * ISA_VECTOR : 0;
    for (int64_t k = 0; k < p->kn; k += ISA_VECTOR)
        for (int64_t from = 0; from < PRODUCT_COLS; from += ISA_VECTOR) {
            int64_t at = (j + from) * p->op.ldb + p->k + k;
            isa_vec r[ISA_VECTOR];
            if (k < whole)
#pragma GCC unroll 8
                for (int64_t i = 0; i < ISA_VECTOR; i++)
                    r[i] = product_load(t, p->op.b, at + i * p->op.ldb);
            else
                for (int64_t i = 0; i < ISA_VECTOR; i++)
                    r[i] =
                        product_some(t, p->op.b, at + i * p->op.ldb, from + i < n ? p->kn - k : 0);
            product_transpose(r);
#pragma GCC unroll 8
            for (int64_t i = 0; i < ISA_VECTOR; i++)
                product_store(out + (k + i) * PRODUCT_COLS + from, r[i]);
        }
}

/* The panels of one group of the block of B. */
ISA_INLINE void product_pack_b(enum dtype t, const struct product *p, int64_t group)
{
    int64_t from = group * PRODUCT_GROUP * PRODUCT_COLS, step = p->terms * PRODUCT_COLS;
    int64_t n = product_least(p->jn - from, PRODUCT_GROUP * PRODUCT_COLS);
    float *out = p->b + from / PRODUCT_COLS * step;
    if (p->op.tb) {
        for (int64_t i = 0; i < n; i += PRODUCT_COLS, out += step)
            product_pack_rows(t, p, p->j + from + i, product_least(n - i, PRODUCT_COLS), out);
        return;
    }
    for (int64_t k = 0; k < p->kn; k++) {
        int64_t at = (p->k + k) * p->op.ldb + p->j + from;
        float *panel = out + k * PRODUCT_COLS;
        int64_t i = 0;
        for (; i + PRODUCT_COLS <= n; i += PRODUCT_COLS, panel += step) {
            product_store(panel, product_load(t, p->op.b, at + i));
            product_store(panel + ISA_VECTOR, product_load(t, p->op.b, at + i + ISA_VECTOR));
        }
        for (; i < n; i += ISA_VECTOR, panel += ISA_VECTOR)
            product_store(panel, product_some(t, p->op.b, at + i, n - i));
    }
}
ISA_LEAVES(product_pack_b, struct product)

/* Rows of A in the caches: as they are stored, of a stride that is no power of two; or of a
   transposed A by panels, term by term. */
ISA_INLINE int64_t product_row_floats(int64_t terms)
{
    return (terms + 31) / 16 * 16;
}

ISA_INLINE int64_t product_panel_floats(const struct product *p)
{
    return PRODUCT_ROWS * (p->op.ta ? p->kn : product_row_floats(p->kn)) + (p->op.ta ? 8 : 0);
}

ISA_INLINE float *product_own(const struct product *p)
{
    return p->a + omp_get_thread_num() * p->a_floats;
}

ISA_INLINE int64_t product_first_panel(const struct product *p, int64_t block)
{
    return block * p->panels / p->blocks;
}

/* A block of A for the thread that calls. */
ISA_INLINE void product_pack_a(enum dtype t, const struct product *p, int64_t block)
{
    int64_t first = product_first_panel(p, block) * PRODUCT_ROWS;
    int64_t rows = product_first_panel(p, block + 1) * PRODUCT_ROWS - first;
    int64_t there = product_least(rows, p->op.m - first), step = product_panel_floats(p);
    float *out = product_own(p);
    if (!p->op.ta) {
        step /= PRODUCT_ROWS;
        for (int64_t i = 0; i < there; i++)
            product_widen(t, p->op.a, (first + i) * p->op.lda + p->k, p->kn, out + i * step);
        for (int64_t i = there; i < rows; i++)
            memset(out + i * step, 0, (size_t)p->kn * sizeof *out);
        return;
    }
    for (int64_t k = 0; k < p->kn;
         k++) { /* the two floats too much are the next term's, or padding */
        int64_t at = (p->k + k) * p->op.lda + first, i = 0;
        float *panel = out + k * PRODUCT_ROWS;
        for (; i + ISA_VECTOR <= there; i += PRODUCT_ROWS, panel += step)
            product_store(panel, product_load(t, p->op.a, at + i));
        for (; i < rows; i += PRODUCT_ROWS, panel += step)
            product_store(panel, product_some(t, p->op.a, at + i, there - i));
    }
}
ISA_LEAVES(product_pack_a, struct product)

/* -- a tile -- */

/* out (PRODUCT_ROWS, PRODUCT_COLS) = a b, element (i, k) of a at i * row + k * term */
ISA_INLINE void product_tile(
    int64_t n, const float *a, int64_t row, int64_t term, const float *b, float *out)
{
    isa_vec sum[PRODUCT_ROWS][2] = {0};
#pragma GCC unroll 4
    for (int64_t k = 0; k < n; k++) {
        isa_vec left = *(const isa_vec *)(b + k * PRODUCT_COLS);
        isa_vec right = *(const isa_vec *)(b + k * PRODUCT_COLS + ISA_VECTOR);
#pragma GCC unroll 8
        for (int i = 0; i < PRODUCT_ROWS; i++) {
            float x = a[i * row + k * term];
            sum[i][0] += x * left;
            sum[i][1] += x * right;
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < PRODUCT_ROWS; i++) {
        *(isa_vec *)(out + i * PRODUCT_COLS) = sum[i][0];
        *(isa_vec *)(out + i * PRODUCT_COLS + ISA_VECTOR) = sum[i][1];
    }
}

struct product_put {
    const struct product *p;
    int64_t j, n;       /* columns of the tile */
    float *tile, *sums; /* what it adds to, or NULL */
};

/* Two vectors of C, rounded as math_narrow does. */
ISA_INLINE void product_narrow(enum dtype t, void *c, int64_t at, isa_vec left, isa_vec right)
{
    const __m256i half = _mm256_set1_epi32(0x7fff), one = _mm256_set1_epi32(1);
    const __m256i quiet = _mm256_set1_epi32(0x400000);
    __m256 x[2] = {(__m256)left, (__m256)right};
    __m256i r[2];
    if (t == DTYPE_F32) {
        product_store((float *)c + at, left);
        product_store((float *)c + at + ISA_VECTOR, right);
        return;
    }
    uint16_t *out = (uint16_t *)c + at;
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        if (t == DTYPE_F16) {
            _mm_storeu_si128((__m128i *)(out + i * ISA_VECTOR),
                _mm256_cvtps_ph(x[i], _MM_FROUND_TO_NEAREST_INT));
            continue;
        }
        __m256i u = (__m256i)x[i], odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), one);
        __m256 nan = _mm256_cmp_ps(x[i], x[i], _CMP_UNORD_Q);
        r[i] = _mm256_add_epi32(u, _mm256_add_epi32(half, odd));
        r[i] = _mm256_blendv_epi8(r[i], _mm256_or_si256(u, quiet), (__m256i)nan);
        r[i] = _mm256_srli_epi32(r[i], 16);
    }
    if (t == DTYPE_BF16)
        _mm256_storeu_si256(
            (__m256i *)out, _mm256_permute4x64_epi64(_mm256_packus_epi32(r[0], r[1]), 0xd8));
}

ISA_INLINE bool product_is_last(const struct product *p)
{
    return p->k + p->kn == p->op.k;
}

/* Whether C is what a row of the tile is added to. */
ISA_INLINE bool product_adds(enum dtype t, const struct product *p)
{
    return p->op.beta != 0 || (t == DTYPE_F32 && p->k);
}

/* Row i of C gets what a whole row of the tile has for it. */
ISA_INLINE void product_put_whole(
    enum dtype t, const struct product_put *u, int64_t i, const float *x)
{
    const struct op_matmul *a = &u->p->op;
    int64_t at = i * a->ldc + u->j;
    isa_vec left = *(const isa_vec *)x * a->alpha;
    isa_vec right = *(const isa_vec *)(x + ISA_VECTOR) * a->alpha;
    if (product_adds(t, u->p)) {
        left += product_load(t, a->c, at);
        right += product_load(t, a->c, at + ISA_VECTOR);
    }
    if (a->bias && product_is_last(u->p)) {
        left += product_load(a->ab_type, a->bias, u->j);
        right += product_load(a->ab_type, a->bias, u->j + ISA_VECTOR);
    }
    product_narrow(t, a->c, at, left, right);
}

/* The same of some columns, or with what follows. */
ISA_INLINE void product_put_some(enum dtype t, const struct product_put *u, int64_t i, float *x)
{
    const struct op_matmul *a = &u->p->op;
    int64_t at = i * a->ldc + u->j;
    for (int64_t j = 0; j < u->n; j++)
        x[j] = a->alpha * x[j] + (product_adds(t, u->p) ? math_load(t, a->c, at + j) : 0);
    if (product_is_last(u->p))
        matmul_finish_span(t, a, i, u->j, u->n, x);
    else
        matmul_put(t, a->c, at, u->n, x);
}

ISA_INLINE void product_put(enum dtype t, const struct product_put *u, int64_t i)
{
    const struct op_matmul *a = &u->p->op;
    int64_t rows = product_least(a->m - i, PRODUCT_ROWS);
    bool plain = u->n == PRODUCT_COLS && !(product_is_last(u->p) && (a->act || a->pre));
    isa_vec *tile = (isa_vec *)u->tile, *sums = (isa_vec *)u->sums;
    for (int j = 0; sums && u->p->k && j < PRODUCT_TILE / ISA_VECTOR; j++)
        tile[j] += sums[j];
    if (sums && !product_is_last(u->p)) {
        memcpy(sums, tile, PRODUCT_TILE * sizeof *u->sums);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        if (plain)
            product_put_whole(t, u, i + r, u->tile + r * PRODUCT_COLS);
        else
            product_put_some(t, u, i + r, u->tile + r * PRODUCT_COLS);
}

/* Of the panel of B that comes next (floats), its share for one of `panels` tiles. */
ISA_INLINE void product_prefetch_b(const float *b, int64_t floats, int64_t panel, int64_t panels)
{
    int64_t end = (panel + 1) * floats / panels;
    for (int64_t i = panel * floats / panels; i < end; i += 16)
        __builtin_prefetch(b + i, 0, 2);
}

/* What the tile is added to is asked for before it is computed. */
ISA_INLINE void product_prefetch(const struct product_put *u, int64_t i)
{
    const struct op_matmul *a = &u->p->op;
    int64_t size = a->c_type == DTYPE_F32 ? 4 : 2;
    for (int64_t r = 0; r < PRODUCT_ROWS; r++)
        if (u->sums)
            __builtin_prefetch(u->sums + r * PRODUCT_COLS, 1);
        else if (i + r < a->m)
            __builtin_prefetch((char *)a->c + ((i + r) * a->ldc + u->j) * size, 1);
}

/* -- blocks -- */

/* The i-th block of A, which the thread has packed, times one part of the block of B. */
ISA_INLINE void product_multiply(enum dtype t, const struct product *p, int64_t i)
{
    int64_t first = product_first_panel(p, i / p->cuts);
    int64_t end = product_first_panel(p, i / p->cuts + 1), cut = i % p->cuts;
    int64_t slivers = (p->jn + PRODUCT_COLS - 1) / PRODUCT_COLS, step = product_panel_floats(p);
    float tile[PRODUCT_TILE] __attribute__((aligned(64)));
    for (int64_t s = cut * slivers / p->cuts; s < (cut + 1) * slivers / p->cuts; s++) {
        const float *a = product_own(p), *b = p->b + s * p->terms * PRODUCT_COLS;
        for (int64_t panel = first; panel < end; panel++, a += step) {
            const struct product_put u = {.p = p,
                .j = p->j + s * PRODUCT_COLS,
                .n = product_least(p->jn - s * PRODUCT_COLS, PRODUCT_COLS),
                .tile = tile,
                .sums = p->sums ? p->sums + (s * p->panels + panel) * PRODUCT_TILE : NULL};
            product_prefetch(&u, panel * PRODUCT_ROWS);
            product_prefetch_b(
                b + p->terms * PRODUCT_COLS, p->kn * PRODUCT_COLS, panel - first, end - first);
            if (p->op.ta)
                product_tile(p->kn, a, 1, PRODUCT_ROWS, b, tile);
            else
                product_tile(p->kn, a, product_row_floats(p->kn), 1, b, tile);
            product_put(t, &u, panel * PRODUCT_ROWS);
        }
    }
}
ISA_LEAVES(product_multiply, struct product)

/* All blocks, by each thread of a team; ends with what it waits for. */
static void product_blocks(struct product p)
{
    void (*pack_a)(const struct product *, int64_t) = ISA_TYPED(product_pack_a, p.op.ab_type);
    void (*pack_b)(const struct product *, int64_t) = ISA_TYPED(product_pack_b, p.op.ab_type);
    void (*multiply)(const struct product *, int64_t) = ISA_TYPED(product_multiply, p.op.c_type);
    for (p.j = 0; p.j < p.op.n; p.j += p.columns)
        for (p.k = 0; p.k < p.op.k; p.k += p.terms) {
            p.kn = product_least(p.op.k - p.k, p.terms);
            p.jn = product_least(p.op.n - p.j, p.columns);
            int64_t group = PRODUCT_GROUP * PRODUCT_COLS, groups = (p.jn + group - 1) / group;
#pragma omp for schedule(dynamic, 4)
            for (int64_t i = 0; i < groups; i++)
                pack_b(&p, i);
#pragma omp for schedule(dynamic)
            for (int64_t i = 0; i < p.blocks * p.cuts; i++) {
                pack_a(&p, i / p.cuts);
                multiply(&p, i);
            }
        }
}

/* Into equal parts of at most `most`, in whole units. */
ISA_INLINE int64_t product_part(int64_t n, int64_t most, int64_t unit)
{
    int64_t parts = (n + most - 1) / most;
    return ((n + parts - 1) / parts + unit - 1) / unit * unit;
}

static int64_t product_shape(struct product *p, int64_t threads)
{
    int64_t width = PRODUCT_WIDTH;
    p->terms = product_part(p->op.k, PRODUCT_TERMS, ISA_VECTOR);
    p->panels = (p->op.m + PRODUCT_ROWS - 1) / PRODUCT_ROWS;
    if (p->op.c_type != DTYPE_F32 && p->op.k > p->terms)
        width = product_least(width, PRODUCT_SUMS / p->op.m);
    width = width < PRODUCT_COLS ? PRODUCT_COLS : width;
    p->columns = product_part(p->op.n, width, PRODUCT_COLS);
    int64_t panel = PRODUCT_ROWS * product_row_floats(p->terms), most = PRODUCT_BLOCK / panel;
    p->a_floats = (most + 1) * panel;
    p->blocks = (p->panels + threads * most - 1) / (threads * most) * threads;
    p->cuts = 1;
    if (p->panels <= 4 * threads && p->panels <= most) {
        p->blocks = 1;
        p->cuts = threads;
    }
    return p->op.c_type != DTYPE_F32 && p->op.k > p->terms
        ? p->columns / PRODUCT_COLS * p->panels * PRODUCT_TILE
        : 0;
}

/* m, n and k at least 1 */
static void isa_product(struct dev *d, const struct op_matmul *a)
{
    int64_t threads = a->m * a->n * a->k > ISA_PARALLEL_BYTES ? omp_get_max_threads() : 1;
    struct product p = {.op = *a};
    int64_t sums = product_shape(&p, threads);
    p.a = cpu_scratch(d, CPU_SCRATCH_MATMUL_A, (size_t)(threads * p.a_floats) * sizeof *p.a);
    p.b = cpu_scratch(d, CPU_SCRATCH_MATMUL_B, (size_t)(p.columns * p.terms) * sizeof *p.b);
    if (sums)
        p.sums = cpu_scratch(d, CPU_SCRATCH_MATMUL_C, (size_t)sums * sizeof *p.sums);
    if (!p.a || !p.b || (sums && !p.sums))
        return;
#pragma omp parallel num_threads((int)threads)
    product_blocks(p);
}
