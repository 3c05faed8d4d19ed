/*
 * muon: X = G / |G|; then, with A = X X^T, five times X = a X + (b A + c A A) X. A tall matrix is
 * taken from the other side, by A = X^T X, so that A has the shorter side. Allocates nothing.
 */
#include "runtime/train/muon.h"

#include "kernels/ops.h"

#define MUON_STEPS 5
/* Of greatest slope at zero. */
#define MUON_A     3.4445f
#define MUON_B     (-4.7750f)
#define MUON_C     2.0315f

enum dtype muon_type(enum dtype model)
{
    return model == DTYPE_F32 ? DTYPE_F32 : DTYPE_BF16;
}

void muon_admit(struct muon *m, int64_t rows, int64_t cols)
{
    int64_t side = rows < cols ? rows : cols;
    m->elements = rows * cols > m->elements ? rows * cols : m->elements;
    m->side = side > m->side ? side : m->side;
}

void muon_carve(struct muon *m, struct carve *c)
{
    if (!m->elements)
        return;
    m->direction = carve_tensor(c, 1, m->elements, DTYPE_F32);
    m->x[0] = carve_tensor(c, 1, m->elements, m->t);
    m->x[1] = carve_tensor(c, 1, m->elements, m->t);
    m->gram = carve_tensor(c, m->side, m->side, m->t);
    m->poly = carve_tensor(c, m->side, m->side, m->t);
    m->sumsq = carve_tensor(c, 1, 1, DTYPE_F32);
}

/* y = a * x */
static void scale(struct muon *m, int64_t count, const void *x, void *y, float a)
{
    OP(m, axpby, .count = count, .x = x, .x_type = m->t, .y = y, .y_type = m->t, .a = a);
}

void muon_orthogonalise(struct muon *m, int64_t rows, int64_t cols)
{
    int64_t count = rows * cols, side = rows < cols ? rows : cols, other = count / side;
    bool tall = rows > cols;
    void *x = m->x[0], *next = m->x[1];
    dev_zero(m->dev, m->sumsq, sizeof *m->sumsq);
    OP(m, sumsq, .count = count, .x = m->direction, .out = m->sumsq);
    OP(m, axpby, .count = count, .x = m->direction, .x_type = DTYPE_F32, .y = x, .y_type = m->t,
        .a = 1, .sumsq = m->sumsq);
    for (int i = 0; i < MUON_STEPS; i++) {
        void *last = x;
        OP(m, matmul, .m = side, .n = side, .k = other, .a = x, .lda = cols, .ta = tall, .b = x,
            .ldb = cols, .tb = !tall, .c = m->gram, .ldc = side, .ab_type = m->t, .c_type = m->t,
            .alpha = 1);
        scale(m, side * side, m->gram, m->poly, MUON_B);
        OP(m, matmul, .m = side, .n = side, .k = side, .a = m->gram, .lda = side, .b = m->gram,
            .ldb = side, .c = m->poly, .ldc = side, .ab_type = m->t, .c_type = m->t,
            .alpha = MUON_C, .beta = 1);
        scale(m, count, x, next, MUON_A);
        OP(m, matmul, .m = rows, .n = cols, .k = side, .a = tall ? x : m->poly,
            .lda = tall ? cols : side, .b = tall ? m->poly : x, .ldb = cols, .c = next, .ldc = cols,
            .ab_type = m->t, .c_type = m->t, .alpha = 1, .beta = 1);
        x = next;
        next = last;
    }
    OP(m, convert, .count = count, .x = x, .x_type = m->t, .y = m->direction, .y_type = DTYPE_F32);
}
