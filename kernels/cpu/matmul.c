/*
 * matmul: matrix products by oneDNN (the only file that includes it). A product is described by
 * strides, so transposed operands are never copied by us; oneDNN's blocked kernels repack them in
 * cache-sized pieces.
 *
 * Building a primitive costs milliseconds (it generates code), running it microseconds, so
 * primitives are kept by shape, types, transposition, strides and alpha in a bounded table; the
 * least recently used one gives way. For a fixed number of threads a product is bitwise repeatable.
 * Beta = 1 is a post-operation "sum", alpha an output scale (of the bias too, so that only a
 * product with alpha = 1 takes its bias along). GELU and what else oneDNN does not do is done to
 * the result by struct cpu_isa's finish. Scratch memory of the primitives is the device's own
 * (cpu_scratch).
 *
 * oneDNN multiplies BF16 only where the processor has AVX-512 (or its like), and F16, as of 2.6,
 * nowhere; a probe of each type at the start decides it for the device. Elsewhere the product is
 * struct cpu_isa's own (product_body.h), and where that has none the operands are widened block by
 * block to F32 scratch. F32 operands with a result of 16 bits go the same way, unwidened. Thread:
 * with its device, one.
 */
#include "kernels/cpu/cpu.h"

#include "base/mem.h"

#include <oneapi/dnnl/dnnl.h>

/* A model's training step needs about 40 shapes; serving adds one set a prompt length. */
#define MATMUL_ENTRIES 256

struct matmul_key {
    int64_t m, n, k, lda, ldb, ldc;
    float alpha;
    uint8_t ta, tb, ab_type, c_type, beta, bias,
        unused[6]; /* no padding: keys are compared as bytes */
};

struct matmul_entry {
    struct matmul_key key;
    uint64_t used; /* 0: free */
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c, bias, scratch;
    size_t scratch_bytes;
};

struct matmul_cache {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    uint64_t clock;
    bool wide_bf16, wide_f16; /* multiplied as F32 */
    struct matmul_entry entries[MATMUL_ENTRIES];
};

static const char *matmul_status(dnnl_status_t s)
{
    return s == dnnl_out_of_memory ? "out of memory"
        : s == dnnl_unimplemented  ? "not implemented"
                                   : "failed";
}

static void matmul_entry_clear(struct matmul_entry *m)
{
    dnnl_memory_destroy(m->a);
    dnnl_memory_destroy(m->b);
    dnnl_memory_destroy(m->c);
    dnnl_memory_destroy(m->bias);
    dnnl_memory_destroy(m->scratch);
    dnnl_primitive_destroy(m->primitive);
    memset(m, 0, sizeof *m);
}

static dnnl_data_type_t matmul_type(uint8_t type)
{
    return type == DTYPE_BF16 ? dnnl_bf16 : type == DTYPE_F16 ? dnnl_f16 : dnnl_f32;
}

static dnnl_status_t matmul_desc(
    dnnl_memory_desc_t *out, int64_t rows, int64_t cols, int64_t ld, bool transposed, uint8_t type)
{
    dnnl_dims_t dims = {rows, cols}, strides = {transposed ? 1 : ld, transposed ? ld : 1};
    return dnnl_memory_desc_init_by_strides(out, 2, dims, matmul_type(type), strides);
}

static dnnl_status_t matmul_attr(const struct matmul_key *k, dnnl_primitive_attr_t attr)
{
    dnnl_post_ops_t post = NULL;
    dnnl_status_t s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (!s && k->alpha != 1)
        s = dnnl_primitive_attr_set_output_scales(attr, 1, 0, &k->alpha);
    if (s || !k->beta)
        return s;
    s = dnnl_post_ops_create(&post);
    if (!s)
        s = dnnl_post_ops_append_sum(post, 1);
    if (!s)
        s = dnnl_primitive_attr_set_post_ops(attr, post);
    dnnl_post_ops_destroy(post);
    return s;
}

static dnnl_status_t matmul_build(
    struct matmul_cache *c, const struct matmul_key *k, struct matmul_entry *m)
{
    dnnl_memory_desc_t a, b, dst, bias;
    const dnnl_memory_desc_t *scratch;
    dnnl_matmul_desc_t desc;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t s = matmul_desc(&a, k->m, k->k, k->lda, k->ta, k->ab_type);
    if (!s)
        s = matmul_desc(&b, k->k, k->n, k->ldb, k->tb, k->ab_type);
    if (!s)
        s = matmul_desc(&dst, k->m, k->n, k->ldc, false, k->c_type);
    if (!s)
        s = matmul_desc(&bias, 1, k->n, k->n, false, k->ab_type);
    if (!s)
        s = dnnl_matmul_desc_init(&desc, &a, &b, k->bias ? &bias : NULL, &dst);
    if (!s)
        s = dnnl_primitive_attr_create(&attr);
    if (!s)
        s = matmul_attr(k, attr);
    if (!s)
        s = dnnl_primitive_desc_create(&pd, &desc, attr, c->engine, NULL);
    if (!s)
        s = dnnl_primitive_create(&m->primitive, pd);
    if (!s)
        s = dnnl_memory_create(&m->a, &a, c->engine, DNNL_MEMORY_NONE);
    if (!s)
        s = dnnl_memory_create(&m->b, &b, c->engine, DNNL_MEMORY_NONE);
    if (!s)
        s = dnnl_memory_create(&m->c, &dst, c->engine, DNNL_MEMORY_NONE);
    if (!s && k->bias)
        s = dnnl_memory_create(&m->bias, &bias, c->engine, DNNL_MEMORY_NONE);
    if (!s) {
        scratch = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
        m->scratch_bytes = dnnl_memory_desc_get_size(scratch);
        s = dnnl_memory_create(&m->scratch, scratch, c->engine, DNNL_MEMORY_NONE);
    }
    dnnl_primitive_desc_destroy(pd);
    dnnl_primitive_attr_destroy(attr);
    return s;
}

void matmul_cache_destroy(struct matmul_cache *c)
{
    if (!c)
        return;
    for (int i = 0; i < MATMUL_ENTRIES; i++)
        if (c->entries[i].used)
            matmul_entry_clear(&c->entries[i]);
    if (c->stream)
        dnnl_stream_destroy(c->stream);
    if (c->engine)
        dnnl_engine_destroy(c->engine);
    mem_free(c);
}

/* Whether oneDNN has no product of this type for this processor. */
static bool matmul_lacks(struct matmul_cache *c, enum dtype t)
{
    const struct matmul_key key = {.m = 16,
        .n = 16,
        .k = 16,
        .lda = 16,
        .ldb = 16,
        .ldc = 16,
        .alpha = 1,
        .ab_type = (uint8_t)t,
        .c_type = (uint8_t)t};
    struct matmul_entry probe = {0};
    dnnl_status_t s = matmul_build(c, &key, &probe);
    matmul_entry_clear(&probe);
    return s == dnnl_unimplemented;
}

int matmul_cache_create(struct matmul_cache **out, struct err *e)
{
    struct matmul_cache *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(e, ERR_MEMORY, "no memory for the table of matrix products");
    dnnl_status_t s = dnnl_engine_create(&c->engine, dnnl_cpu, 0);
    if (!s)
        s = dnnl_stream_create(&c->stream, c->engine, dnnl_stream_default_flags);
    if (s) {
        matmul_cache_destroy(c);
        return err_set(e, ERR_DEVICE, "oneDNN does not start: %s", matmul_status(s));
    }
    c->wide_bf16 = matmul_lacks(c, DTYPE_BF16);
    c->wide_f16 = matmul_lacks(c, DTYPE_F16);
    *out = c;
    return 0;
}

void matmul_force_wide(struct dev *d)
{
    struct matmul_cache *c = ((struct cpu_dev *)d)->matmul;
    c->wide_bf16 = c->wide_f16 = true;
}

static struct matmul_entry *matmul_find(struct dev *d, const struct matmul_key *k)
{
    struct matmul_cache *c = ((struct cpu_dev *)d)->matmul;
    struct matmul_entry *oldest = &c->entries[0];
    for (int i = 0; i < MATMUL_ENTRIES; i++) {
        struct matmul_entry *m = &c->entries[i];
        if (m->used && !memcmp(&m->key, k, sizeof *k)) {
            m->used = ++c->clock;
            return m;
        }
        if (m->used < oldest->used)
            oldest = m;
    }
    if (oldest->used)
        matmul_entry_clear(oldest);
    dnnl_status_t s = matmul_build(c, k, oldest);
    if (s) {
        matmul_entry_clear(oldest);
        cpu_fail(d, s == dnnl_out_of_memory ? ERR_MEMORY : ERR_DEVICE,
            "matrix product %lld x %lld x %lld (%s -> %s): oneDNN %s", (long long)k->m,
            (long long)k->n, (long long)k->k, dtype_name(k->ab_type), dtype_name(k->c_type),
            matmul_status(s));
        return NULL;
    }
    oldest->key = *k;
    oldest->used = ++c->clock;
    return oldest;
}

/* The product alone, by oneDNN; bias: with the bias. */
static int matmul_product(struct dev *d, const struct op_matmul *a, bool bias)
{
    struct matmul_key key = {.m = a->m,
        .n = a->n,
        .k = a->k,
        .lda = a->lda,
        .ldb = a->ldb,
        .ldc = a->ldc,
        .alpha = a->alpha,
        .ta = a->ta,
        .tb = a->tb,
        .ab_type = (uint8_t)a->ab_type,
        .c_type = (uint8_t)a->c_type,
        .beta = a->beta != 0,
        .bias = bias};
    struct matmul_entry *m = matmul_find(d, &key);
    if (!m)
        return -1;
    void *scratch = m->scratch_bytes ? cpu_scratch(d, CPU_SCRATCH_MATMUL, m->scratch_bytes) : NULL;
    if (m->scratch_bytes && !scratch)
        return -1;
    dnnl_memory_set_data_handle(m->a, (void *)(uintptr_t)a->a);
    dnnl_memory_set_data_handle(m->b, (void *)(uintptr_t)a->b);
    dnnl_memory_set_data_handle(m->c, a->c);
    dnnl_memory_set_data_handle(m->scratch, scratch);
    if (bias)
        dnnl_memory_set_data_handle(m->bias, (void *)(uintptr_t)a->bias);
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, m->a}, {DNNL_ARG_WEIGHTS, m->b},
        {DNNL_ARG_DST, m->c}, {DNNL_ARG_SCRATCHPAD, m->scratch}, {DNNL_ARG_BIAS, m->bias}};
    dnnl_status_t s = dnnl_primitive_execute(
        m->primitive, ((struct cpu_dev *)d)->matmul->stream, bias ? 5 : 4, args);
    if (s)
        cpu_fail(d, ERR_DEVICE, "matrix product: oneDNN %s", matmul_status(s));
    return s ? -1 : 0;
}

/* -- 16 bits where oneDNN has only F32 -- */
#define MATMUL_WIDE_FLOATS ((int64_t)8 << 20) /* of one widened operand, about: 32 MiB */
#define MATMUL_WIDE_LEAST  256                /* rows of a block: fewer waste the product */

static const void *matmul_at(enum dtype t, const void *p, int64_t element)
{
    return p ? (const char *)p + element * (t == DTYPE_F32 ? 4 : 2) : NULL;
}

/* The product of rows [row, row + rows) and columns [col, col + cols) of C. */
static struct op_matmul matmul_block(
    const struct op_matmul *a, int64_t row, int64_t rows, int64_t col, int64_t cols)
{
    struct op_matmul part = *a;
    int64_t to = row * a->ldc + col;
    part.m = rows;
    part.n = cols;
    part.a = matmul_at(a->ab_type, a->a, a->ta ? row : row * a->lda);
    part.b = matmul_at(a->ab_type, a->b, a->tb ? col * a->ldb : col);
    part.bias = matmul_at(a->ab_type, a->bias, col);
    part.c = (void *)(uintptr_t)matmul_at(a->c_type, a->c, to);
    part.pre = (void *)(uintptr_t)matmul_at(a->c_type, a->pre, to);
    return part;
}

/* x (rows, cols), as it is stored, widened to scratch; NULL: only the scratch. */
static float *matmul_widened(struct dev *d, enum cpu_scratch which, enum dtype t, const void *x,
    int64_t ld, int64_t rows, int64_t cols)
{
    int64_t count = rows > 0 && cols > 0 ? rows * cols : 1;
    float *out = cpu_scratch(d, which, (size_t)count * sizeof *out);
    if (out && x)
        cpu_isa_chosen()->widen(t, x, ld, rows, cols, out);
    return out;
}

/* An operand (rows, cols) in F32: where it stands, or widened; *ld becomes the result's. */
static const float *matmul_operand(struct dev *d, enum cpu_scratch which, enum dtype t,
    const void *x, int64_t *ld, int64_t rows, int64_t cols)
{
    if (t == DTYPE_F32)
        return x;
    const float *out = matmul_widened(d, which, t, x, *ld, rows, cols);
    *ld = cols;
    return out;
}

/* One block; b: its part of B in F32, rows ldb apart. */
static int matmul_wide_block(
    struct dev *d, const struct op_matmul *part, const float *b, int64_t ldb)
{
    struct op_matmul f32 = *part;
    f32.ab_type = DTYPE_F32;
    f32.a = matmul_operand(d, CPU_SCRATCH_MATMUL_A, part->ab_type, part->a, &f32.lda,
        part->ta ? part->k : part->m, part->ta ? part->m : part->k);
    f32.b = b;
    f32.ldb = ldb;
    if (part->c_type != DTYPE_F32) {
        f32.c_type = DTYPE_F32;
        f32.ldc = part->n;
        f32.c = matmul_widened(d, CPU_SCRATCH_MATMUL_C, part->c_type,
            part->beta != 0 ? part->c : NULL, part->ldc, part->m, part->n);
    }
    if (!f32.a || !f32.c || matmul_product(d, &f32, false))
        return -1;
    if (part->c_type != DTYPE_F32)
        cpu_isa_chosen()->finish(part, f32.c);
    else if (part->bias || part->act)
        cpu_isa_chosen()->finish(part, NULL);
    return 0;
}

static int64_t matmul_limit(int64_t width, int64_t most)
{
    int64_t rows = MATMUL_WIDE_FLOATS / (width < 1 ? 1 : width);
    rows = rows < MATMUL_WIDE_LEAST ? MATMUL_WIDE_LEAST : rows;
    return rows < most ? rows : most;
}

static void matmul_wide(struct dev *d, const struct op_matmul *a)
{
    int64_t wide = matmul_limit(a->k, a->n);
    int64_t tall = matmul_limit(a->k > wide ? a->k : wide, a->m);
    for (int64_t j = 0; j < a->n; j += wide) {
        int64_t cols = a->n - j < wide ? a->n - j : wide;
        struct op_matmul part = matmul_block(a, 0, a->m, j, cols);
        int64_t ldb = a->ldb;
        const float *b = matmul_operand(d, CPU_SCRATCH_MATMUL_B, a->ab_type, part.b, &ldb,
            a->tb ? cols : a->k, a->tb ? a->k : cols);
        for (int64_t i = 0; b && i < a->m; i += tall) {
            part = matmul_block(a, i, a->m - i < tall ? a->m - i : tall, j, cols);
            if (matmul_wide_block(d, &part, b, ldb))
                return;
        }
    }
}

static bool matmul_is_wide(const struct matmul_cache *c, const struct op_matmul *a)
{
    if (a->ab_type == DTYPE_F32)
        return a->c_type != DTYPE_F32;
    return a->ab_type == DTYPE_BF16 ? c->wide_bf16 : c->wide_f16;
}

void op_cpu_matmul(struct dev *d, const struct op_matmul *a)
{
    bool bias = a->bias && a->alpha == 1;
    if (a->m == 0 || a->n == 0)
        return;
    if (matmul_is_wide(((struct cpu_dev *)d)->matmul, a)) {
        if (cpu_isa_chosen()->product && a->k > 0)
            cpu_isa_chosen()->product(d, a);
        else
            matmul_wide(d, a);
        return;
    }
    if (matmul_product(d, a, bias) || (!a->act && !(a->bias && !bias)))
        return;
    struct op_matmul rest = *a;
    rest.bias = bias ? NULL : a->bias;
    cpu_isa_chosen()->finish(&rest, NULL);
}
