/*
 * layernorm_body: layer norm and the gradient of biases. Part of isa_body.h, after rows_body.h,
 * whose rules hold here: sums over rows are cut into chunks that depend on the number of rows
 * alone, and the chunks are added in order.
 */

/* -- layer norm -- */
ISA_INLINE void rows_layernorm(enum dtype t, const struct op_layernorm *a, int64_t i)
{
    float xs[MATH_SPAN], ws[MATH_SPAN], bs[MATH_SPAN], ys[MATH_SPAN], sum = 0, square = 0;
    ROWS_SPANS(from, n, a->c)
    {
        const float *x = math_span(t, a->x, i * a->c + from, n, xs);
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < n; j++)
            sum += x[j];
    }
    float mean = sum / (float)a->c;
    ROWS_SPANS(from, n, a->c)
    {
        const float *x = math_span(t, a->x, i * a->c + from, n, xs);
#pragma omp simd reduction(+ : square)
        for (int64_t j = 0; j < n; j++)
            square += (x[j] - mean) * (x[j] - mean);
    }
    float rstd = 1 / sqrtf(square / (float)a->c + a->eps);
    a->mean[i] = mean;
    a->rstd[i] = rstd;
    ROWS_SPANS(from, n, a->c)
    {
        const float *x = math_span(t, a->x, i * a->c + from, n, xs);
        const float *w = math_span(t, a->w, from, n, ws), *bias = bs;
        float *y = math_out(t, a->y, i * a->c + from, ys);
        if (a->bias)
            bias = math_span(t, a->bias, from, n, bs);
        else
            memset(bs, 0, sizeof bs);
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            y[j] = (x[j] - mean) * rstd * w[j] + bias[j];
        math_put(t, a->y, i * a->c + from, n, y);
    }
}
ISA_LEAVES(rows_layernorm, struct op_layernorm)

static void isa_layernorm(struct dev *d, const struct op_layernorm *a)
{
    (void)d;
    ROWS_RUN(rows_layernorm, a, a->n, a->c);
}

struct rows_layernorm_back {
    struct op_layernorm op;
    float *parts; /* (chunks, 2, c) of dw and dbias; NULL when both are frozen */
    int64_t rows; /* of a chunk */
};

/* With h = (x - mean) * rstd and g = dy * w: the sums of g and of g * (x - mean); this row's part
   of dw and dbias is added to dw (2, c). */
ISA_INLINE float rows_layernorm_sums(
    enum dtype t, const struct op_layernorm *a, int64_t i, float *dw, float *dot_out)
{
    float xs[MATH_SPAN], ws[MATH_SPAN], dys[MATH_SPAN];
    float mean = a->mean[i], rstd = a->rstd[i], sum = 0, dot = 0;
    ROWS_SPANS(from, n, a->c)
    {
        const float *x = math_span(t, a->x, i * a->c + from, n, xs);
        const float *w = math_span(t, a->w, from, n, ws),
                    *dy = math_span(t, a->dy, i * a->c + from, n, dys);
#pragma omp simd reduction(+ : sum, dot)
        for (int64_t j = 0; j < n; j++) {
            sum += dy[j] * w[j];
            dot += dy[j] * w[j] * (x[j] - mean);
        }
        if (!dw)
            continue;
        float *restrict to = dw + from, *restrict bias = dw + a->c + from;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
            to[j] += dy[j] * (x[j] - mean) * rstd;
            bias[j] += dy[j];
        }
    }
    *dot_out = dot;
    return sum;
}

ISA_INLINE void rows_layernorm_back_row(
    enum dtype t, const struct op_layernorm *a, int64_t i, float *dw)
{
    float xs[MATH_SPAN], ws[MATH_SPAN], dys[MATH_SPAN], dxs[MATH_SPAN], dot;
    float mean = a->mean[i], rstd = a->rstd[i];
    float shift = rows_layernorm_sums(t, a, i, dw, &dot) / (float)a->c;
    float fix = dot * rstd * rstd / (float)a->c;
    ROWS_SPANS(from, n, a->c)
    {
        const float *x = math_span(t, a->x, i * a->c + from, n, xs);
        const float *w = math_span(t, a->w, from, n, ws),
                    *dy = math_span(t, a->dy, i * a->c + from, n, dys);
        float *dx = math_out(t, a->dx, i * a->c + from, dxs);
        if (a->accumulate) {
            math_span(t, a->dx, i * a->c + from, n, dxs);
#pragma omp simd
            for (int64_t j = 0; j < n; j++)
                dx[j] += rstd * (dy[j] * w[j] - shift - (x[j] - mean) * fix);
        } else {
#pragma omp simd
            for (int64_t j = 0; j < n; j++)
                dx[j] = rstd * (dy[j] * w[j] - shift - (x[j] - mean) * fix);
        }
        math_put(t, a->dx, i * a->c + from, n, dx);
    }
}

ISA_INLINE void rows_layernorm_back(
    enum dtype t, const struct rows_layernorm_back *b, int64_t chunk)
{
    const struct op_layernorm *a = &b->op;
    float *dw = b->parts ? b->parts + chunk * 2 * a->c : NULL;
    int64_t from = chunk * b->rows, to = from + b->rows < a->n ? from + b->rows : a->n;
    if (dw)
        memset(dw, 0, 2 * (size_t)a->c * sizeof(float));
    for (int64_t i = from; i < to; i++)
        rows_layernorm_back_row(t, a, i, dw);
}
ISA_LEAVES(rows_layernorm_back, struct rows_layernorm_back)

/* sums (c) += the parts of `chunks` chunks, ld apart; sums may be NULL. */
static void rows_add_parts(float *sums, const float *parts, int64_t ld, int64_t c, int64_t chunks)
{
    for (int64_t chunk = 0; sums && chunk < chunks; chunk++)
        for (int64_t j = 0; j < c; j++)
            sums[j] += parts[chunk * ld + j];
}

static void isa_layernorm_back(struct dev *d, const struct op_layernorm *a)
{
    int64_t rows = rows_of_chunk(a->n), chunks = (a->n + rows - 1) / rows;
    struct rows_layernorm_back b = {.op = *a, .rows = rows};
    if (a->dw || a->dbias) {
        b.parts = cpu_scratch(d, CPU_SCRATCH_OP, (size_t)(chunks * 2 * a->c) * sizeof(float));
        if (!b.parts)
            return;
    }
#pragma omp parallel for schedule(static) if (a->n * a->c * 2 > ISA_PARALLEL_BYTES)
    for (int64_t chunk = 0; chunk < chunks; chunk++)
        ISA_TYPED(rows_layernorm_back, a->t)(&b, chunk);
    rows_add_parts(a->dw, b.parts, 2 * a->c, a->c, chunks);
    rows_add_parts(a->dbias, b.parts + a->c, 2 * a->c, a->c, chunks);
}

/* -- gradient of a bias -- */
struct rows_bias_back {
    struct op_bias_back op;
    float *parts; /* (chunks, c) */
    int64_t rows; /* of a chunk */
};

ISA_INLINE void rows_bias_back(enum dtype t, const struct rows_bias_back *b, int64_t chunk)
{
    const struct op_bias_back *a = &b->op;
    float *restrict sums = b->parts + chunk * a->c;
    int64_t from = chunk * b->rows, to = from + b->rows < a->n ? from + b->rows : a->n;
    memset(sums, 0, (size_t)a->c * sizeof(float));
    for (int64_t i = from; i < to && a->x; i++) {
#pragma omp simd
        for (int64_t j = 0; j < a->c; j++)
            sums[j] += math_load(t, a->dy, i * a->ld + j) * math_load(t, a->x, i * a->ld + j);
    }
    for (int64_t i = from; i < to && !a->x; i++) {
#pragma omp simd
        for (int64_t j = 0; j < a->c; j++)
            sums[j] += math_load(t, a->dy, i * a->ld + j);
    }
}
ISA_LEAVES(rows_bias_back, struct rows_bias_back)

static void isa_bias_back(struct dev *d, const struct op_bias_back *a)
{
    int64_t rows = rows_of_chunk(a->n), chunks = (a->n + rows - 1) / rows;
    struct rows_bias_back b = {.op = *a, .rows = rows};
    b.parts = cpu_scratch(d, CPU_SCRATCH_OP, (size_t)(chunks * a->c + 1) * sizeof(float));
    if (!b.parts)
        return;
#pragma omp parallel for schedule(static) if (a->n * a->c * 2 > ISA_PARALLEL_BYTES)
    for (int64_t chunk = 0; chunk < chunks; chunk++)
        ISA_TYPED(rows_bias_back, a->t)(&b, chunk);
    rows_add_parts(a->dbias, b.parts, a->c, a->c, chunks);
}

/* -- a number a column -- */
ISA_INLINE void rows_scale(enum dtype t, const struct op_scale *a, int64_t i)
{
    int64_t at = i * a->c;
    bool bias = a->bias, add = a->accumulate;
#pragma omp simd
    for (int64_t j = 0; j < a->c; j++) {
        float y = math_load(t, a->x, at + j) * a->w[j];
        y += bias ? math_load(t, a->bias, j) : 0;
        y += add ? math_load(t, a->y, at + j) : 0;
        math_store(t, a->y, at + j, y);
    }
}
ISA_LEAVES(rows_scale, struct op_scale)

static void isa_scale(struct dev *d, const struct op_scale *a)
{
    (void)d;
#pragma omp parallel for schedule(static) if (a->n * a->c * 2 > ISA_PARALLEL_BYTES)
    for (int64_t i = 0; i < a->n; i++)
        ISA_TYPED(rows_scale, a->t)(a, i);
}
