/*
 * matmul_body: what stands behind a product, oneDNN's (matmul.c, which calls it by struct cpu_isa)
 * or ours (product_body.h): the result gets its bias, GELU and rounding in one pass. Part of
 * isa_body.h. A row is computed by one thread.
 */
struct matmul_finish {
    struct op_matmul op;
    const float *product; /* (m, ld) without alpha and C; NULL: C holds all but the bias */
    int64_t ld;
};

ISA_INLINE void matmul_put(enum dtype t, void *p, int64_t at, int64_t n, const float *x)
{
    if (t == DTYPE_F32)
        memcpy((float *)p + at, x, (size_t)n * sizeof *x);
    else if (t == DTYPE_BF16)
        math_narrow(x, n, (uint16_t *)p + at);
    else
        math_narrow_f16(x, n, (uint16_t *)p + at);
}

/* sums (n) = alpha * the product from `at` on + beta * c (n) */
ISA_INLINE void matmul_sums(
    const struct matmul_finish *f, int64_t at, int64_t n, const float *c, float *restrict sums)
{
    float alpha = f->op.alpha;
    if (!f->product) {
        memcpy(sums, c, (size_t)n * sizeof *sums);
        return;
    }
    const float *x = f->product + at;
    if (!c) {
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            sums[j] = alpha * x[j];
        return;
    }
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
        sums[j] = alpha * x[j] + c[j];
}

ISA_INLINE void matmul_finish_row(enum dtype t, const struct matmul_finish *f, int64_t i)
{
    const struct op_matmul *a = &f->op;
    float sums[MATH_SPAN], biases[MATH_SPAN], before[MATH_SPAN];
    ROWS_SPANS(from, n, a->n)
    {
        int64_t at = i * a->ldc + from;
        const float *c = !f->product || a->beta != 0 ? math_span(t, a->c, at, n, before) : NULL;
        matmul_sums(f, i * f->ld + from, n, c, sums);
        if (a->bias) {
            const float *bias = math_span(a->ab_type, a->bias, from, n, biases);
#pragma omp simd
            for (int64_t j = 0; j < n; j++)
                sums[j] += bias[j];
        }
        if (a->pre)
            matmul_put(t, a->pre, at, n, sums);
        if (a->act == OP_ACT_GELU) {
#pragma omp simd
            for (int64_t j = 0; j < n; j++)
                sums[j] = math_gelu(sums[j]);
        } else if (a->act == OP_ACT_GELU_ERF) {
#pragma omp simd
            for (int64_t j = 0; j < n; j++)
                sums[j] = math_gelu_erf(sums[j]);
        }
        matmul_put(t, a->c, at, n, sums);
    }
}
ISA_LEAVES(matmul_finish_row, struct matmul_finish)

static void matmul_finish_any(const struct matmul_finish *f, int64_t i)
{
    ISA_TYPED(matmul_finish_row, f->op.c_type)(f, i);
}

static void isa_matmul_finish(const struct op_matmul *a)
{
    struct matmul_finish f = {.op = *a};
#pragma omp parallel for schedule(static) if (a->m * a->n * 2 > ISA_PARALLEL_BYTES)
    for (int64_t i = 0; i < a->m; i++)
        matmul_finish_any(&f, i);
}
