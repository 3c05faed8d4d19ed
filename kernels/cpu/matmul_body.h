/*
 * matmul_body: what stands before and after the products of oneDNN (matmul.c, which calls it by
 * struct cpu_isa): operands of 16 bits, and results, are widened where oneDNN multiplies only F32,
 * and the result gets its bias, GELU and rounding in one pass. Part of isa_body.h. A row is
 * computed by one thread.
 */
static void matmul_widen(
    enum dtype t, const void *x, int64_t ld, int64_t rows, int64_t cols, float *out)
{
#pragma omp parallel for schedule(static) if (rows * cols * 2 > ISA_PARALLEL_BYTES)
    for (int64_t i = 0; i < rows; i++)
        math_span(t, x, i * ld, cols, out + i * cols);
}

struct matmul_finish {
    struct op_matmul op;
    const float *product; /* (m, n), or NULL */
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

/* Columns [from, from + n) of row i: their sums get bias and activation, and are stored. */
ISA_INLINE void matmul_finish_span(
    enum dtype t, const struct op_matmul *a, int64_t i, int64_t from, int64_t n, float *sums)
{
    int64_t at = i * a->ldc + from;
    if (a->bias) {
        float biases[MATH_SPAN];
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

ISA_INLINE void matmul_finish_row(enum dtype t, const struct matmul_finish *f, int64_t i)
{
    const struct op_matmul *a = &f->op;
    float sums[MATH_SPAN];
    ROWS_SPANS(from, n, a->n)
    {
        const float *x = f->product ? f->product + i * a->n + from
                                    : math_span(t, a->c, i * a->ldc + from, n, sums);
        if (x != sums)
            memcpy(sums, x, (size_t)n * sizeof *sums);
        matmul_finish_span(t, a, i, from, n, sums);
    }
}
ISA_LEAVES(matmul_finish_row, struct matmul_finish)

static void isa_matmul_finish(const struct op_matmul *a, const float *product)
{
    struct matmul_finish f = {*a, product};
    void (*row)(const struct matmul_finish *, int64_t) = ISA_TYPED(matmul_finish_row, a->c_type);
#pragma omp parallel for schedule(static) if (a->m * a->n * 2 > ISA_PARALLEL_BYTES)
    for (int64_t i = 0; i < a->m; i++)
        row(&f, i);
}
