/*
 * product_body: matrix products with operands of 16 bits where oneDNN has none for them, and of F32
 * with a result of 16 bits. Part of isa_body.h; matmul.c decides.
 *
 * Operands are widened to F32 while they are packed for the cache, and a result gets alpha, beta,
 * bias, GELU and its rounding while it is there, so that no operand or result ever stands in memory
 * as F32 and a product moves half of the bytes of one of F32. Blocked after Goto and van de Geijn,
 * "Anatomy of high-performance matrix multiplication" (2008): all of B that fits PRODUCT_PANELS is
 * packed once, in panels of a register block's columns; a task is a block of rows times a group of
 * panels, whose operand A and sums are its thread's own. A sum runs over k in slices in order, so
 * neither threads nor tasks change results. Sums and rounding are F32: products of 16 bits are
 * exact there.
 */
#define PRODUCT_WIDE    (TILE_NV * ISA_VECTOR) /* columns of a panel */
#define PRODUCT_MR      TILE_MR_MOST
#define PRODUCT_ROWS    72   /* of a task; its A, 90 KiB a slice, stays in an L2 cache */
#define PRODUCT_COLUMNS 768  /* of a task, at most; its sums, 216 KiB, likewise */
#define PRODUCT_SLICE   320  /* of k: a slice of a panel fills half of an L1 cache */
#define PRODUCT_DEPTH   4096 /* of k: what is longer is summed up in a buffer */
#define PRODUCT_PANELS  ((int64_t)1 << 20) /* floats of B and of that buffer, 4 MiB of L3 */
#define PRODUCT_AHEAD   16                 /* rows */
#define PRODUCT_TINY    ((int64_t)1 << 16) /* multiplications: one thread has done them sooner */

/* The columns and the part of k in hand. */
struct product {
    struct op_matmul op;
    int64_t panels, groups, per; /* of the columns; groups of `per` panels */
    int64_t from, depth, slice;  /* k in [from, from + depth), slices of it */
    bool last;                   /* from + depth is k */
    int64_t row, rows;           /* rows in [row, row + rows) */
    float *b;                    /* (panels, depth, PRODUCT_WIDE) */
    float *sums;                 /* (rows, panels * PRODUCT_WIDE), or NULL: each task's own */
    char *own;                   /* per thread: A (PRODUCT_ROWS, slice), sums */
    size_t own_bytes;
};

static inline int64_t product_parts(int64_t n, int64_t most)
{
    return n > most ? (n + most - 1) / most : 1;
}

/* Elements [at, at + n) of p as F32 in out. */
ISA_INLINE void product_widen(enum dtype t, const void *p, int64_t at, int64_t n, float *out)
{
    const float *x = math_span(t, p, at, n, out);
    if (x != out)
        memcpy(out, x, (size_t)n * sizeof *out);
}

/* Lines of row `at` that is read soon: the rows are too far from each other for the processor to
   see it coming. */
ISA_INLINE void product_ask(enum dtype t, const void *p, int64_t at, int64_t n)
{
    const int size = t == DTYPE_F32 ? 4 : 2;
    const char *from = (const char *)p + at * size;
    for (int64_t i = 0; i < n * size + 63; i += 64)
        __builtin_prefetch(from + i);
}

/* out (ISA_VECTOR, PRODUCT_WIDE apart) = x (ISA_VECTOR, ld apart) transposed, each row a register:
   halves, quarters and so on change places (Eklundh, "A fast computer method for matrix
   transposing", 1972). */
ISA_INLINE void product_transpose(const float *x, int64_t ld, float *out)
{
    typedef int32_t product_lanes __attribute__((vector_size(4 * ISA_VECTOR)));
    isa_vec v[ISA_VECTOR];
    for (int i = 0; i < ISA_VECTOR; i++)
        memcpy(&v[i], x + i * ld, sizeof v[i]);
#pragma GCC unroll 4
    for (int half = ISA_VECTOR / 2; half; half /= 2) {
        product_lanes low, high;
#pragma GCC unroll 16
        for (int j = 0; j < ISA_VECTOR; j++) {
            low[j] = j & half ? ISA_VECTOR + j - half : j;
            high[j] = j & half ? ISA_VECTOR + j : j + half;
        }
#pragma GCC unroll 16
        for (int i = 0; i < ISA_VECTOR; i++)
            if (!(i & half)) {
                isa_vec above = v[i], below = v[i + half];
                v[i] = __builtin_shuffle(above, below, low);
                v[i + half] = __builtin_shuffle(above, below, high);
            }
    }
#pragma GCC unroll 16
    for (int i = 0; i < ISA_VECTOR; i++)
        memcpy(out + i * PRODUCT_WIDE, &v[i], sizeof v[i]);
}

/* Panel p from B as it is stored, its rows and columns beyond B zero. */
ISA_INLINE void product_pack_b(enum dtype t, const struct product *r, int64_t p)
{
    enum { LENGTH = 64 }; /* of a row of a transposed B: its columns stay in an L1 cache */
    const struct op_matmul *a = &r->op;
    int64_t col = p * PRODUCT_WIDE;
    int64_t cols = a->n - col < PRODUCT_WIDE ? a->n - col : PRODUCT_WIDE;
    float *restrict out = r->b + p * r->depth * PRODUCT_WIDE;
    if (cols < PRODUCT_WIDE)
        memset(out, 0, (size_t)(r->depth * PRODUCT_WIDE) * sizeof *out);
    if (!a->tb && cols == PRODUCT_WIDE) {
        for (int64_t l = 0; l < r->depth; l++, out += PRODUCT_WIDE) {
            product_ask(t, a->b, (r->from + l + PRODUCT_AHEAD) * a->ldb + col, PRODUCT_WIDE);
            product_widen(t, a->b, (r->from + l) * a->ldb + col, PRODUCT_WIDE, out);
        }
        return;
    }
    if (!a->tb) {
        for (int64_t l = 0; l < r->depth; l++, out += PRODUCT_WIDE)
            product_widen(t, a->b, (r->from + l) * a->ldb + col, cols, out);
        return;
    }
    for (int64_t l = 0; l < r->depth; l += LENGTH, out += LENGTH * PRODUCT_WIDE) {
        int64_t n = r->depth - l < LENGTH ? r->depth - l : LENGTH, whole = n - n % ISA_VECTOR;
        for (int64_t j = 0; j < cols; j += ISA_VECTOR) {
            float rows[ISA_VECTOR][LENGTH];
            int64_t count = cols - j < ISA_VECTOR ? cols - j : ISA_VECTOR;
            if (count < ISA_VECTOR)
                memset(rows, 0, sizeof rows);
            for (int64_t i = 0; i < count; i++)
                product_widen(t, a->b, (col + j + i) * a->ldb + r->from + l, n, rows[i]);
            for (int64_t i = 0; i < whole; i += ISA_VECTOR)
                product_transpose(rows[0] + i, LENGTH, out + i * PRODUCT_WIDE + j);
            for (int64_t i = whole; i < n; i++)
                for (int64_t c = 0; c < ISA_VECTOR; c++)
                    out[i * PRODUCT_WIDE + j + c] = rows[c][i];
        }
    }
}

static void product_pack_panel(const struct product *r, int64_t p)
{
    if (r->op.ab_type == DTYPE_F32)
        product_pack_b(DTYPE_F32, r, p);
    else if (r->op.ab_type == DTYPE_BF16)
        product_pack_b(DTYPE_BF16, r, p);
    else
        product_pack_b(DTYPE_F16, r, p);
}

/* out (PRODUCT_ROWS / PRODUCT_MR, PRODUCT_MR, k) = rows [row, row + rows) of A, k in [from, from +
   k); of a transposed A (.., k, PRODUCT_MR). Rows to the next multiple of PRODUCT_MR are zero. */
ISA_INLINE void product_pack_a(enum dtype t, const struct op_matmul *a, int64_t row, int64_t rows,
    int64_t from, int64_t k, float *restrict out)
{
    int64_t up = (rows + PRODUCT_MR - 1) / PRODUCT_MR * PRODUCT_MR;
    if (!a->ta) {
        for (int64_t i = 0; i < rows; i++)
            product_widen(t, a->a, (row + i) * a->lda + from, k, out + i * k);
        memset(out + rows * k, 0, (size_t)((up - rows) * k) * sizeof *out);
        return;
    }
    float column[PRODUCT_ROWS] = {0};
    for (int64_t l = 0; l < k; l++) {
        product_ask(t, a->a, (from + l + PRODUCT_AHEAD) * a->lda + row, rows);
        product_widen(t, a->a, (from + l) * a->lda + row, rows, column);
        for (int64_t i = 0; i < up; i += PRODUCT_MR)
            memcpy(out + i * k + l * PRODUCT_MR, column + i, PRODUCT_MR * sizeof *out);
    }
}

static void product_pack_rows(const struct op_matmul *a, int64_t row, int64_t rows, int64_t from,
    int64_t k, float *restrict out)
{
    if (a->ab_type == DTYPE_F32)
        product_pack_a(DTYPE_F32, a, row, rows, from, k, out);
    else if (a->ab_type == DTYPE_BF16)
        product_pack_a(DTYPE_BF16, a, row, rows, from, k, out);
    else
        product_pack_a(DTYPE_F16, a, row, rows, from, k, out);
}

/* sums (rows, panels) = or += a slice of A times a slice of the panels, which are `next` apart.
   Each block of rows asks for a part of the next panel, which is far away. */
ISA_INLINE void product_slice(bool ta, bool add, int64_t rows, int64_t panels, int64_t k,
    const float *a, const float *b, int64_t next, float *sums, int64_t ld)
{
    int64_t part = product_parts(k * PRODUCT_WIDE, product_parts(rows, PRODUCT_MR));
    for (int64_t p = 0; p < panels; p++) {
        const float *far = b + (p + 1 < panels ? p + 1 : p) * next;
        for (int64_t i = 0; i < rows; i += PRODUCT_MR, far += part) {
            for (int64_t l = 0; l < part; l += 64 / 4)
                __builtin_prefetch(far + l);
            tile_block(false, add, PRODUCT_MR, TILE_NV, k, (const uint32_t *)(a + i * k),
                ta ? 1 : k, ta ? PRODUCT_MR : 1, (const uint32_t *)(b + p * next), PRODUCT_WIDE,
                sums + i * ld + p * PRODUCT_WIDE, ld);
        }
    }
}

static inline const void *product_at(enum dtype t, const void *p, int64_t element)
{
    return p ? (const char *)p + element * (t == DTYPE_F32 ? 4 : 2) : NULL;
}

/* C's rows [row, row + rows) and columns from col on = what becomes of their sums. */
static void product_finish(const struct op_matmul *a, int64_t row, int64_t rows, int64_t col,
    int64_t cols, const float *sums, int64_t ld)
{
    struct matmul_finish f = {.op = *a, .product = sums, .ld = ld};
    int64_t to = row * a->ldc + col;
    f.op.n = a->n - col < cols ? a->n - col : cols;
    f.op.bias = product_at(a->ab_type, a->bias, col);
    f.op.c = (void *)(uintptr_t)product_at(a->c_type, a->c, to);
    f.op.pre = (void *)(uintptr_t)product_at(a->c_type, a->pre, to);
    for (int64_t i = 0; i < rows; i++)
        matmul_finish_any(&f, i);
}

static void product_task(const struct product *r, int64_t task)
{
    int64_t first = task % r->groups * r->per, at = task / r->groups * PRODUCT_ROWS;
    int64_t panels = r->panels - first < r->per ? r->panels - first : r->per;
    int64_t rows = r->rows - at < PRODUCT_ROWS ? r->rows - at : PRODUCT_ROWS;
    int64_t ld = (r->sums ? r->panels : r->per) * PRODUCT_WIDE;
    float *a = (float *)(r->own + (size_t)omp_get_thread_num() * r->own_bytes);
    float *sums = r->sums ? r->sums + at * ld + first * PRODUCT_WIDE : a + PRODUCT_ROWS * r->slice;
    const float *b = r->b + first * r->depth * PRODUCT_WIDE;
    int64_t l = 0;
    do {
        int64_t k = r->depth - l < r->slice ? r->depth - l : r->slice;
        bool add = l > 0 || (r->sums && r->from > 0);
        product_pack_rows(&r->op, r->row + at, rows, r->from + l, k, a);
        if (r->op.ta)
            product_slice(true, add, rows, panels, k, a, b + l * PRODUCT_WIDE,
                r->depth * PRODUCT_WIDE, sums, ld);
        else
            product_slice(false, add, rows, panels, k, a, b + l * PRODUCT_WIDE,
                r->depth * PRODUCT_WIDE, sums, ld);
        l += k;
    } while (l < r->depth);
    if (r->last)
        product_finish(
            &r->op, r->row + at, rows, first * PRODUCT_WIDE, panels * PRODUCT_WIDE, sums, ld);
}

static void product_run(const struct product *r)
{
    bool many = r->op.m * r->op.n * r->op.k > PRODUCT_TINY;
    int64_t tasks = product_parts(r->rows, PRODUCT_ROWS) * r->groups;
#pragma omp parallel for schedule(static) if (many)
    for (int64_t p = 0; p < r->panels; p++)
        product_pack_panel(r, p);
#pragma omp parallel for schedule(dynamic) if (many)
    for (int64_t i = 0; i < tasks; i++)
        product_task(r, i);
}

/* Columns [col, col + cols) of C; cols is at most r->panels * PRODUCT_WIDE. */
static void product_columns(
    struct product *r, const struct op_matmul *a, int64_t col, int64_t cols, int64_t tall)
{
    int64_t depth = r->depth;
    r->op = *a;
    r->op.n = cols;
    r->op.b = product_at(a->ab_type, a->b, a->tb ? col * a->ldb : col);
    r->op.bias = product_at(a->ab_type, a->bias, col);
    r->op.c = (void *)(uintptr_t)product_at(a->c_type, a->c, col);
    r->op.pre = (void *)(uintptr_t)product_at(a->c_type, a->pre, col);
    r->panels = product_parts(cols, PRODUCT_WIDE);
    for (r->row = 0; r->row < a->m; r->row += tall) {
        r->rows = a->m - r->row < tall ? a->m - r->row : tall;
        r->from = 0;
        do {
            r->depth = a->k - r->from < depth ? a->k - r->from : depth;
            r->last = r->from + r->depth == a->k;
            product_run(r);
            r->from += r->depth;
        } while (!r->last);
    }
    r->depth = depth;
}

static void isa_product(struct dev *d, const struct op_matmul *a)
{
    struct product r = {0};
    int64_t parts = product_parts(a->k, PRODUCT_DEPTH), threads = omp_get_max_threads();
    r.depth = product_parts(a->k, parts);
    r.slice = product_parts(r.depth, product_parts(r.depth, PRODUCT_SLICE));
    r.slice += r.slice % 2; /* a thread's sums are aligned */
    int64_t wide = product_parts(a->n, product_parts(a->n * r.depth, PRODUCT_PANELS));
    r.panels = product_parts(wide, PRODUCT_WIDE);
    wide = r.panels * PRODUCT_WIDE;
    int64_t tall = parts > 1 ? product_parts(PRODUCT_PANELS, wide) : a->m;
    tall = tall < a->m ? tall : a->m;

    /* a task for each thread, and some to be even */
    int64_t blocks = product_parts(tall, PRODUCT_ROWS);
    r.groups = product_parts(wide, PRODUCT_COLUMNS);
    if (threads > 1 && blocks * r.groups < 4 * threads)
        r.groups = product_parts(4 * threads, blocks);
    r.per = product_parts(r.panels, r.groups);
    r.groups = product_parts(r.panels, r.per);

    size_t b = (size_t)(wide * r.depth) * sizeof(float);
    size_t sums = parts > 1 ? (size_t)((tall + PRODUCT_MR - 1) * wide) * sizeof(float) : 0;
    sums += (size_t)-sums % 64;
    r.own_bytes = (size_t)(PRODUCT_ROWS * (r.slice + r.per * PRODUCT_WIDE)) * sizeof(float);
    char *at = cpu_scratch(d, CPU_SCRATCH_MATMUL, b + sums + r.own_bytes * (size_t)threads + 64);
    if (!at)
        return;
    r.b = (float *)at;
    r.sums = sums ? (float *)(at + b) : NULL;
    r.own = at + b + sums;
    for (int64_t col = 0; col < a->n; col += wide)
        product_columns(&r, a, col, a->n - col < wide ? a->n - col : wide, tall);
}
