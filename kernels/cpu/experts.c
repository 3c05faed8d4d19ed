/*
 * experts: a mixture of experts on the processor. Rows are computed by one thread each and sums
 * have a fixed order; the products are those of matmul.c and of the instruction set.
 *
 * How many rows an expert has differs from step to step, and a product of a new shape costs oneDNN
 * milliseconds. So an expert's rows are multiplied in parts whose sizes are powers of two: few
 * shapes, however the rows fall.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/ref.h"

#define EXPERTS_MOST_ROWS       1024
#define EXPERTS_PARALLEL_FLOATS (1 << 14) /* below, a second thread costs more than it brings */

/* -- routing -- */

static float experts_logit(const float *p, int64_t i)
{
    return isnan(p[i]) ? -INFINITY : p[i];
}

/* As the reference chooses. */
static int32_t experts_next(const float *p, int64_t e, int32_t last)
{
    float before = last < 0 ? INFINITY : experts_logit(p, last), most = -INFINITY;
    int32_t best = -1;
    for (int32_t i = 0; i < e; i++) {
        float x = experts_logit(p, i);
        if ((best < 0 || x > most) && (last < 0 || x < before || (x == before && i > last))) {
            best = i;
            most = x;
        }
    }
    return best;
}

static void experts_route_row(const struct op_route *a, int64_t i)
{
    float *p = a->p + i * a->e, *weight = a->weight + i * a->k, sum = 0, chosen = 0;
    int32_t *expert = a->expert + i * a->k;
    for (int64_t j = 0; j < a->k; j++)
        expert[j] = experts_next(p, a->e, j ? expert[j - 1] : -1);
    float top = experts_logit(p, expert[0]);
    for (int64_t j = 0; j < a->e; j++)
        sum += p[j] = expf(p[j] - top);
    for (int64_t j = 0; j < a->e; j++)
        p[j] /= sum;
    for (int64_t j = 0; j < a->k; j++)
        chosen += p[expert[j]];
    for (int64_t j = 0; j < a->k; j++)
        weight[j] = a->normalized ? p[expert[j]] / chosen : p[expert[j]];
}

static bool experts_exists(const struct op_route *a, int64_t i)
{
    return !a->length || i % a->tokens < a->length[i / a->tokens];
}

void op_cpu_route(struct dev *d, const struct op_route *a)
{
    (void)d;
#pragma omp parallel for schedule(static) if (a->n * a->e > EXPERTS_PARALLEL_FLOATS)
    for (int64_t i = 0; i < a->n; i++)
        experts_route_row(a, i);
    for (int64_t i = 0; a->count && i < a->n; i++)
        for (int64_t j = 0; experts_exists(a, i) && j < a->k; j++)
            a->count[i / a->tokens * a->e + a->expert[i * a->k + j]] += 1;
}

/* The reference's formula, with dp = balance + what the choice adds. */
static void experts_route_back_row(const struct op_route *a, int64_t i)
{
    const float *p = a->p + i * a->e, *w = a->weight + i * a->k, *dw = a->dweight + i * a->k;
    const int32_t *expert = a->expert + i * a->k;
    const float *count = a->count + i / a->tokens * a->e;
    float balance = a->balance && experts_exists(a, i) ? a->balance[i / a->tokens] : 0;
    float chosen = 0, inner = 0, mean = 0;
    for (int64_t j = 0; balance != 0 && j < a->e; j++)
        mean += p[j] * balance * count[j];
    for (int64_t j = 0; j < a->k; j++) {
        chosen += p[expert[j]];
        inner += dw[j] * w[j];
    }
    for (int64_t j = 0; j < a->k; j++)
        mean += p[expert[j]] * (a->normalized ? (dw[j] - inner) / chosen : dw[j]);
    for (int64_t j = 0; j < a->e; j++) {
        float dp = balance != 0 ? balance * count[j] : 0;
        for (int64_t l = 0; l < a->k; l++)
            if (expert[l] == j)
                dp += a->normalized ? (dw[l] - inner) / chosen : dw[l];
        ref_store(a->t, a->dlogits, i * a->e + j, p[j] * (dp - mean));
    }
}

void op_cpu_route_back(struct dev *d, const struct op_route *a)
{
    (void)d;
#pragma omp parallel for schedule(static) if (a->n * a->e > EXPERTS_PARALLEL_FLOATS)
    for (int64_t i = 0; i < a->n; i++)
        experts_route_back_row(a, i);
}

/* -- rows -- */

void op_cpu_expert_gather(struct dev *d, const struct op_expert_rows *a)
{
    (void)d;
    size_t bytes = (size_t)(a->c * dtype_block_bytes(a->t));
#pragma omp parallel for schedule(static) if (a->n * a->k * a->c > EXPERTS_PARALLEL_FLOATS)
    for (int64_t i = 0; i < a->n * a->k; i++)
        memcpy((char *)a->y + (size_t)i * bytes,
            (const char *)a->x + (size_t)(a->row[i] / a->k) * bytes, bytes);
}

static void experts_sum_row(const struct op_expert_rows *a, int64_t i)
{
    const int32_t *place = a->place + i * a->k;
    for (int64_t j = 0; j < a->c; j++) {
        float sum = a->accumulate ? ref_load(a->t, a->y, i * a->c + j) : 0;
        for (int64_t l = 0; l < a->k; l++)
            sum += ref_load(a->t, a->x, place[l] * a->c + j);
        ref_store(a->t, a->y, i * a->c + j, sum);
    }
}

void op_cpu_expert_sum(struct dev *d, const struct op_expert_rows *a)
{
    (void)d;
#pragma omp parallel for schedule(static) if (a->n * a->k * a->c > EXPERTS_PARALLEL_FLOATS)
    for (int64_t i = 0; i < a->n; i++)
        experts_sum_row(a, i);
}

static void experts_weigh_row(const struct op_expert_weigh *a, int64_t i)
{
    float w = a->weight[a->row[i]], sum = 0;
    for (int64_t j = i * a->c; j < (i + 1) * a->c; j++) {
        float x = ref_load(a->t, a->x, j);
        ref_store(a->t, a->x, j, w * x);
        if (a->dy) {
            float dy = ref_load(a->t, a->dy, j);
            sum += x * dy;
            ref_store(a->t, a->dy, j, w * dy);
        }
    }
    if (a->dy)
        a->dweight[a->row[i]] = sum;
}

void op_cpu_expert_weigh(struct dev *d, const struct op_expert_weigh *a)
{
    (void)d;
#pragma omp parallel for schedule(static) if (a->n * a->c > EXPERTS_PARALLEL_FLOATS)
    for (int64_t i = 0; i < a->n; i++)
        experts_weigh_row(a, i);
}

/* -- products -- */

/* The largest power of two that is no more than n. */
static int64_t experts_part(int64_t n)
{
    int64_t part = EXPERTS_MOST_ROWS;
    while (part > n)
        part /= 2;
    return part;
}

static const void *experts_at(const void *p, int64_t element, enum dtype t)
{
    return (const char *)p + element * dtype_block_bytes(t);
}

/* Rows [from, from + n) of the expert whose matrix begins at element w. */
static void experts_product(
    struct dev *d, const struct op_expert_matmul *a, int64_t from, int64_t n, int64_t w)
{
    const void *matrix = experts_at(a->w, w, a->t);
    struct op_matmul m = {.m = n, .ab_type = a->t, .c_type = a->t, .alpha = 1};
    m.b = matrix;
    m.ldb = a->in;
    if (a->y) {
        m.tb = true;
        m.n = m.ldc = a->out;
        m.k = m.lda = a->in;
        m.a = experts_at(a->x, from * a->in, a->t);
        m.c = (void *)(uintptr_t)experts_at(a->y, from * a->out, a->t);
        op_cpu_matmul(d, &m);
    }
    if (a->dx) {
        m.tb = false;
        m.n = m.ldc = a->in;
        m.k = m.lda = a->out;
        m.a = experts_at(a->dy, from * a->out, a->t);
        m.c = (void *)(uintptr_t)experts_at(a->dx, from * a->in, a->t);
        op_cpu_matmul(d, &m);
    }
    if (a->dw)
        op_cpu_matmul(d,
            &(struct op_matmul){.m = a->out,
                .n = a->in,
                .k = n,
                .a = experts_at(a->dy, from * a->out, a->t),
                .b = experts_at(a->x, from * a->in, a->t),
                .c = a->dw + w,
                .lda = a->out,
                .ldb = a->in,
                .ldc = a->in,
                .ta = true,
                .ab_type = a->t,
                .c_type = DTYPE_F32,
                .alpha = 1,
                .beta = 1});
}

void op_cpu_expert_matmul(struct dev *d, const struct op_expert_matmul *a)
{
    for (int64_t i = 0; i < a->experts; i++)
        for (int64_t from = a->offset[i], end = a->offset[i + 1], n; from < end; from += n) {
            n = experts_part(end - from);
            experts_product(d, a, from, n, i * a->ldw);
        }
}

void op_cpu_expert_quant_matmul(struct dev *d, const struct op_expert_quant_matmul *a)
{
    struct op_quant_matmul m = {.n = a->out, .k = a->in, .w_type = a->w_type, .coarse = a->coarse};
    for (int64_t i = 0; i < a->experts; i++)
        for (int64_t from = a->offset[i], end = a->offset[i + 1]; from < end; from += m.m) {
            m.m = experts_part(end - from);
            m.x = a->x + from * a->in;
            m.w = (const char *)a->w + i * a->stride;
            m.y = a->y + from * a->out;
            cpu_isa_chosen()->ops.quant_matmul(d, &m);
        }
}
