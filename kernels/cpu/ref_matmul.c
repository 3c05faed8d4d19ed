/*
 * ref_matmul: the reference matrix products (see ref.c): three loops, sums in double, stored
 * weights decoded a row at a time.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/ref.h"

void op_ref_matmul(struct dev *d, const struct op_matmul *a)
{
    (void)d;
    int64_t ai = a->ta ? 1 : a->lda, al = a->ta ? a->lda : 1;
    int64_t bl = a->tb ? 1 : a->ldb, bj = a->tb ? a->ldb : 1;
    for (int64_t i = 0; i < a->m; i++)
        for (int64_t j = 0; j < a->n; j++) {
            double sum = 0;
            for (int64_t l = 0; l < a->k; l++)
                sum += (double)ref_load(a->ab_type, a->a, i * ai + l * al) *
                    ref_load(a->ab_type, a->b, l * bl + j * bj);
            int64_t at = i * a->ldc + j;
            double x = a->alpha * sum;
            if (a->beta != 0)
                x += a->beta * ref_load(a->c_type, a->c, at);
            if (a->bias)
                x += ref_load(a->ab_type, a->bias, j);
            if (a->pre)
                ref_store(a->c_type, a->pre, at, (float)x);
            if (a->act == OP_ACT_GELU)
                x *= ref_gelu_gate(x);
            else if (a->act == OP_ACT_GELU_ERF)
                x *= ref_phi(x);
            ref_store(a->c_type, a->c, at, (float)x);
        }
}

static void ref_quant_product(struct dev *d, const struct op_quant_matmul *a)
{
    int64_t row_bytes = dtype_bytes(a->w_type, a->k);
    float *row = cpu_scratch(d, CPU_SCRATCH_OP, (size_t)a->k * sizeof(float));
    if (!row)
        return;
    for (int64_t j = 0; j < a->n; j++) {
        quant_decode(a->w_type, (const char *)a->w + j * row_bytes, a->k, row);
        for (int64_t i = 0; i < a->m; i++) {
            double sum = 0;
            for (int64_t l = 0; l < a->k; l++)
                sum += (double)a->x[i * a->k + l] * row[l];
            a->y[i * a->n + j] = (float)sum;
        }
    }
}

void op_ref_quant_matmul(struct dev *d, const struct op_quant_matmul *a)
{
    for (; a; a = a->next)
        ref_quant_product(d, a);
}
