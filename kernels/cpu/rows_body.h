/*
 * rows_body: the operations on rows of activations: embedding, norm, rotary positions, gated
 * feed-forward, loss. Part of isa_body.h. A row is computed by one thread; sums over rows are cut
 * into chunks whose number depends on the number of rows alone and which are added in order.
 */
/* Partial sums of dw: enough for the threads of any processor, little beside the rows. */
#define ROWS_CHUNKS 64

static inline int64_t rows_of_chunk(int64_t n)
{
    int64_t rows = (n + ROWS_CHUNKS - 1) / ROWS_CHUNKS;
    return rows < 8 ? 8 : rows;
}

/* Runs the leaves of `row` for i < n. */
#define ROWS_RUN(row, a, n, row_elements) \
    do { \
        bool rows_many_ = (n) * (row_elements)*2 > ISA_PARALLEL_BYTES; \
        _Pragma("omp parallel for schedule(static) if (rows_many_)") for (int64_t i_ = 0; \
                                                                          i_ < (n); i_++) \
        { \
            ISA_TYPED(row, (a)->t)((a), i_); \
        } \
    } while (0)

/* -- embedding -- */
#define ROWS_DECODED 256 /* weights at a time: whole blocks of every type */

static void rows_embed_decoded(const struct op_embed *a, int64_t i)
{
    float part[ROWS_DECODED], *out = (float *)a->out + i * a->c;
    const char *row = (const char *)a->table + a->ids[i] * dtype_bytes(a->table_type, a->c);
    for (int64_t from = 0, n; from < a->c; from += n) {
        n = a->c - from < ROWS_DECODED ? a->c - from : ROWS_DECODED;
        quant_decode(a->table_type, row + dtype_bytes(a->table_type, from), n, part);
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            out[from + j] = part[j] + (a->accumulate ? out[from + j] : 0);
    }
}

ISA_INLINE void rows_embed(enum dtype t, const struct op_embed *a, int64_t i)
{
    int64_t to = i * (a->ld_out ? a->ld_out : a->c);
    int64_t from = a->ids[i] * (a->ld_table ? a->ld_table : a->c);
    size_t size = t == DTYPE_F32 ? 4 : 2;
    if (a->table_type != t) {
        rows_embed_decoded(a, i);
        return;
    }
    if (!a->accumulate) {
        memcpy((char *)a->out + (size_t)to * size, (const char *)a->table + (size_t)from * size,
            (size_t)a->c * size);
        return;
    }
#pragma omp simd
    for (int64_t j = 0; j < a->c; j++)
        math_store(
            t, a->out, to + j, math_load(t, a->out, to + j) + math_load(t, a->table, from + j));
}
ISA_LEAVES(rows_embed, struct op_embed)

static void isa_embed(struct dev *d, const struct op_embed *a)
{
    if (a->table_type != a->t && a->t != DTYPE_F32) {
        cpu_fail(d, ERR_BUG, "embed: a table of %s for rows of %s", dtype_name(a->table_type),
            dtype_name(a->t));
        return;
    }
    ROWS_RUN(rows_embed, a, a->n, a->c);
}

#define ROWS_SLICE 64 /* columns */

/* Threads share the columns, not the rows: equal ids add in the order of the rows. */
ISA_INLINE void rows_embed_back(enum dtype t, const struct op_embed *a, int64_t slice)
{
    int64_t from = slice * ROWS_SLICE, to = from + ROWS_SLICE < a->c ? from + ROWS_SLICE : a->c;
    for (int64_t i = 0; i < a->n; i++) {
        float *into = a->dtable + a->ids[i] * a->c;
        int64_t row = i * a->c;
#pragma omp simd
        for (int64_t j = from; j < to; j++)
            into[j] += math_load(t, a->dout, row + j);
    }
}

ISA_LEAVES(rows_embed_back, struct op_embed)

static void isa_embed_back(struct dev *d, const struct op_embed *a)
{
    (void)d;
    int64_t slices = (a->c + ROWS_SLICE - 1) / ROWS_SLICE;
    ROWS_RUN(rows_embed_back, a, slices, a->n * ROWS_SLICE);
}

/* -- root mean square norm -- */
/* for (spans of a row of `total` elements): from, n */
#define ROWS_SPANS(from, n, total) \
    for (int64_t from = 0, n; \
         n = (total)-from < MATH_SPAN ? (total)-from : MATH_SPAN, from < (total); \
         from += MATH_SPAN)

ISA_INLINE void rows_rmsnorm(enum dtype t, const struct op_rmsnorm *a, int64_t i)
{
    float xs[MATH_SPAN], ws[MATH_SPAN], ys[MATH_SPAN], sum = 0;
    int64_t row = op_row_at(i, a->c, a->group, a->ldx), to = op_row_at(i, a->c, a->group, a->ldy);
    ROWS_SPANS(from, n, a->c)
    {
        const float *x = math_span(t, a->x, row + from, n, xs);
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < n; j++)
            sum += x[j] * x[j];
    }
    float rstd = 1 / sqrtf(sum / (float)a->c + a->eps);
    a->rstd[i] = rstd;
    ROWS_SPANS(from, n, a->c)
    {
        const float *x = math_span(t, a->x, row + from, n, xs);
        const float *w = math_span(t, a->w, from, n, ws);
        float *y = math_out(t, a->y, to + from, ys);
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            y[j] = x[j] * rstd * w[j];
        math_put(t, a->y, to + from, n, y);
    }
}
ISA_LEAVES(rows_rmsnorm, struct op_rmsnorm)

static void isa_rmsnorm(struct dev *d, const struct op_rmsnorm *a)
{
    (void)d;
    ROWS_RUN(rows_rmsnorm, a, a->n, a->c);
}

struct rows_rmsnorm_back {
    struct op_rmsnorm op;
    float *parts; /* (chunks, c) of dw; NULL when w is frozen */
    int64_t rows; /* of a chunk */
};

/* dx of row i, and this row's part of dw added to dw. */
ISA_INLINE void rows_rmsnorm_back_row(
    enum dtype t, const struct op_rmsnorm *a, int64_t i, float *dw)
{
    float xs[MATH_SPAN], ws[MATH_SPAN], dys[MATH_SPAN], dxs[MATH_SPAN], rstd = a->rstd[i], dot = 0;
    int64_t row = op_row_at(i, a->c, a->group, a->ldx);
    int64_t dy_row = op_row_at(i, a->c, a->group, a->ldy);
    ROWS_SPANS(from, n, a->c)
    {
        const float *x = math_span(t, a->x, row + from, n, xs);
        const float *w = math_span(t, a->w, from, n, ws),
                    *dy = math_span(t, a->dy, dy_row + from, n, dys);
#pragma omp simd reduction(+ : dot)
        for (int64_t j = 0; j < n; j++)
            dot += dy[j] * w[j] * x[j];
        for (int64_t j = 0; dw && j < n; j++)
            dw[from + j] += dy[j] * x[j] * rstd;
    }
    float fix = dot * rstd * rstd / (float)a->c;
    ROWS_SPANS(from, n, a->c)
    {
        const float *x = math_span(t, a->x, row + from, n, xs);
        const float *w = math_span(t, a->w, from, n, ws),
                    *dy = math_span(t, a->dy, dy_row + from, n, dys);
        float *dx = math_out(t, a->dx, row + from, dxs);
        if (a->accumulate) {
            math_span(t, a->dx, row + from, n, dxs);
#pragma omp simd
            for (int64_t j = 0; j < n; j++)
                dx[j] += rstd * (dy[j] * w[j] - x[j] * fix);
        } else {
#pragma omp simd
            for (int64_t j = 0; j < n; j++)
                dx[j] = rstd * (dy[j] * w[j] - x[j] * fix);
        }
        math_put(t, a->dx, row + from, n, dx);
    }
}

ISA_INLINE void rows_rmsnorm_back(enum dtype t, const struct rows_rmsnorm_back *b, int64_t chunk)
{
    const struct op_rmsnorm *a = &b->op;
    float *dw = b->parts ? b->parts + chunk * a->c : NULL;
    int64_t from = chunk * b->rows, to = from + b->rows < a->n ? from + b->rows : a->n;
    if (dw)
        memset(dw, 0, (size_t)a->c * sizeof(float));
    for (int64_t i = from; i < to; i++)
        rows_rmsnorm_back_row(t, a, i, dw);
}
ISA_LEAVES(rows_rmsnorm_back, struct rows_rmsnorm_back)

static void isa_rmsnorm_back(struct dev *d, const struct op_rmsnorm *a)
{
    int64_t rows = rows_of_chunk(a->n);
    int64_t chunks = (a->n + rows - 1) / rows;
    struct rows_rmsnorm_back b = {.op = *a, .rows = rows};
    if (a->dw &&
        !(b.parts = cpu_scratch(d, CPU_SCRATCH_OP, (size_t)(chunks * a->c) * sizeof(float))))
        return;
#pragma omp parallel for schedule(static) if (a->n * a->c * 2 > ISA_PARALLEL_BYTES)
    for (int64_t chunk = 0; chunk < chunks; chunk++)
        ISA_TYPED(rows_rmsnorm_back, a->t)(&b, chunk);
    for (int64_t chunk = 0; b.parts && chunk < chunks; chunk++)
        for (int64_t j = 0; j < a->c; j++)
            a->dw[j] += b.parts[chunk * a->c + j];
}

/* -- rotary positions -- */
#define ROWS_ROPE_PAIRS 64 /* angles at a time, on the stack */

struct rows_rope {
    struct op_rope op;
    double *frequency; /* (d / 2) */
};

ISA_INLINE void rows_rope(enum dtype t, const struct rows_rope *r, int64_t i)
{
    const struct op_rope *a = &r->op;
    const double *frequency = r->frequency;
    float s[ROWS_ROPE_PAIRS], c[ROWS_ROPE_PAIRS];
    int64_t half = a->d / 2;
    double position = a->inverse ? -a->position[i] : a->position[i];
    for (int64_t from = 0; from < half; from += ROWS_ROPE_PAIRS) {
        int64_t pairs = half - from < ROWS_ROPE_PAIRS ? half - from : ROWS_ROPE_PAIRS;
#pragma omp simd
        for (int64_t p = 0; p < pairs; p++)
            math_sincos(position * frequency[from + p], &s[p], &c[p]);
        for (int64_t h = 0; h < a->heads; h++) {
            int64_t lo = i * a->ld + h * a->d + from, hi = lo + half;
            float xs[ROWS_ROPE_PAIRS], ys[ROWS_ROPE_PAIRS];
            math_span(t, a->x, lo, pairs, xs);
            math_span(t, a->x, hi, pairs, ys);
            float *x = math_out(t, a->x, lo, xs), *y = math_out(t, a->x, hi, ys);
#pragma omp simd
            for (int64_t p = 0; p < pairs; p++) {
                float was = x[p];
                x[p] = was * c[p] - y[p] * s[p];
                y[p] = y[p] * c[p] + was * s[p];
            }
            math_put(t, a->x, lo, pairs, x);
            math_put(t, a->x, hi, pairs, y);
        }
    }
}
ISA_LEAVES(rows_rope, struct rows_rope)

static void isa_rope(struct dev *d, const struct op_rope *a)
{
    int64_t half = a->d / 2;
    struct rows_rope r = {
        .op = *a, .frequency = cpu_scratch(d, CPU_SCRATCH_OP, (size_t)(half + 1) * sizeof(double))};
    if (!r.frequency)
        return;
    for (int64_t p = 0; p < half; p++)
        r.frequency[p] =
            op_rope_scaled(&a->scaling, pow(a->theta, -2.0 * (double)p / (double)a->d));
#pragma omp parallel for schedule(static) if (a->n * a->heads * a->d * 2 > ISA_PARALLEL_BYTES)
    for (int64_t i = 0; i < a->n; i++)
        ISA_TYPED(rows_rope, a->t)(&r, i);
}

/* -- gated feed-forward -- */
ISA_INLINE void rows_swiglu(enum dtype t, const struct op_swiglu *a, int64_t i)
{
    float gs[MATH_SPAN], us[MATH_SPAN], ys[MATH_SPAN];
    ROWS_SPANS(from, n, a->f)
    {
        const float *g = math_span(t, a->gate, i * a->ld + from, n, gs);
        const float *u = math_span(t, a->up, i * a->ld + from, n, us);
        float *y = math_out(t, a->y, i * a->f + from, ys);
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            y[j] = g[j] / (1 + math_exp(-g[j])) * u[j];
        math_put(t, a->y, i * a->f + from, n, y);
    }
}
ISA_LEAVES(rows_swiglu, struct op_swiglu)

static void isa_swiglu(struct dev *d, const struct op_swiglu *a)
{
    (void)d;
    ROWS_RUN(rows_swiglu, a, a->n, a->f);
}

ISA_INLINE void rows_swiglu_back(enum dtype t, const struct op_swiglu *a, int64_t i)
{
    float gs[MATH_SPAN], us[MATH_SPAN], dys[MATH_SPAN], dgs[MATH_SPAN], dus[MATH_SPAN];
    ROWS_SPANS(from, n, a->f)
    {
        const float *g = math_span(t, a->gate, i * a->ld + from, n, gs);
        const float *u = math_span(t, a->up, i * a->ld + from, n, us);
        const float *dy = math_span(t, a->dy, i * a->f + from, n, dys);
        float *dg = math_out(t, a->dgate, i * a->ld + from, dgs),
              *du = math_out(t, a->dup, i * a->ld + from, dus);
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
            float s = 1 / (1 + math_exp(-g[j])), gate = g[j], d = dy[j];
            dg[j] = d * u[j] * s * (1 + gate * (1 - s));
            du[j] = d * gate * s;
        }
        math_put(t, a->dgate, i * a->ld + from, n, dg);
        math_put(t, a->dup, i * a->ld + from, n, du);
    }
}
ISA_LEAVES(rows_swiglu_back, struct op_swiglu)

static void isa_swiglu_back(struct dev *d, const struct op_swiglu *a)
{
    (void)d;
    ROWS_RUN(rows_swiglu_back, a, a->n, a->f);
}

/* -- loss -- */
/* The greatest logit of a row, and the sum of the exponentials relative to it. */
ISA_INLINE float rows_xent_stats(enum dtype t, const struct op_xent *a, int64_t row, float *total)
{
    float xs[MATH_SPAN], max = -INFINITY, sum = 0;
    ROWS_SPANS(from, n, a->v)
    {
        const float *x = math_span(t, a->logits, row + from, n, xs);
#pragma omp simd reduction(max : max)
        for (int64_t j = 0; j < n; j++)
            max = x[j] > max ? x[j] : max;
    }
    ROWS_SPANS(from, n, a->v)
    {
        const float *x = math_span(t, a->logits, row + from, n, xs);
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < n; j++)
            sum += math_exp(x[j] - max);
    }
    *total = sum;
    return max;
}

ISA_INLINE void rows_xent_finish(
    enum dtype t, const struct op_xent *a, int64_t i, float max, float sum)
{
    float xs[MATH_SPAN], each = a->scale / sum, at_target = 0;
    int64_t row = i * a->ld, target = a->target[i] - a->first;
    bool here = target >= 0 && target < a->v;
    enum dtype out_type = a->gradient16 ? op_type16(a->f16) : t;
    void *out = a->gradient16 ? a->gradient16 : a->logits;
    if (here)
        at_target = math_load(t, a->logits, row + target);
    a->loss[i] = here ? logf(sum) + max - at_target : 0;
    if (!a->backward)
        return;
    ROWS_SPANS(from, n, a->v)
    {
        const float *x = math_span(t, a->logits, row + from, n, xs);
        float *dx = math_out(out_type, out, row + from, xs);
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            dx[j] = math_exp(x[j] - max) * each;
        math_put(out_type, out, row + from, n, dx);
    }
    if (here)
        math_store(out_type, out, row + target, math_exp(at_target - max) * each - a->scale);
}

ISA_INLINE void rows_xent(enum dtype t, const struct op_xent *a, int64_t i)
{
    float sum;
    int64_t row = i * a->ld;
    if (a->stage == OP_XENT_STATS) {
        a->top[i] = rows_xent_stats(t, a, row, &a->sum[i]);
    } else if (a->stage == OP_XENT_MEET) {
        a->sum[i] *= math_exp(a->top[i] - a->most[i]);
    } else if (a->target[i] < 0) {
        a->loss[i] = 0;
        if (a->backward && a->gradient16)
            memset((uint16_t *)a->gradient16 + row, 0, (size_t)a->v * 2);
        else if (a->backward)
            memset((char *)a->logits + row * (t == DTYPE_F32 ? 4 : 2), 0,
                (size_t)a->v * (t == DTYPE_F32 ? 4 : 2));
    } else if (a->stage == OP_XENT_WHOLE) {
        float max = rows_xent_stats(t, a, row, &sum);
        rows_xent_finish(t, a, i, max, sum);
    } else {
        rows_xent_finish(t, a, i, a->top[i], a->sum[i]);
    }
}
ISA_LEAVES(rows_xent, struct op_xent)

static void isa_xent(struct dev *d, const struct op_xent *a)
{
    (void)d;
    ROWS_RUN(rows_xent, a, a->n, a->v);
}

/* -- loss with a teacher -- */
/* The sum of exp((x - max) * by), span by span: one sum of a whole vocabulary would lose digits. */
ISA_INLINE float rows_distill_sum(const float *x, int64_t v, float max, float by)
{
    float sum = 0;
    ROWS_SPANS(from, n, v)
    {
        const float *xs = x + from;
        float part = 0;
#pragma omp simd reduction(+ : part)
        for (int64_t j = 0; j < n; j++)
            part += math_exp((xs[j] - max) * by);
        sum += part;
    }
    return sum;
}

/* The greatest of a row, and its sum. */
ISA_INLINE float rows_distill_stats(const float *x, int64_t v, float by, float *total)
{
    float max = -INFINITY;
#pragma omp simd reduction(max : max)
    for (int64_t j = 0; j < v; j++)
        max = x[j] > max ? x[j] : max;
    *total = rows_distill_sum(x, v, max, by);
    return max;
}

static void rows_distill(const struct op_distill *a, int64_t i)
{
    const float *z = a->logits + i * a->ld, *u = a->teacher + i * a->ld;
    int32_t target = a->target[i];
    float by = 1 / a->temperature, ours, theirs, sum = 0, part[MATH_SPAN];
    float top = rows_distill_stats(z, a->v, by, &ours), hard = (1 - a->weight) * a->scale;
    float other = rows_distill_stats(u, a->v, by, &theirs), at_target = z[target];
    float one = rows_distill_sum(z, a->v, top, 1), soft = a->weight * a->temperature * a->scale;
    enum dtype out_type = a->gradient16 ? op_type16(a->f16) : DTYPE_F32;
    void *out = a->gradient16 ? (void *)a->gradient16 : a->logits;
    ROWS_SPANS(from, n, a->v)
    {
        const float *zs = z + from, *us = u + from;
        float *dx = math_out(out_type, out, i * a->ld + from, part), hards = hard / one;
        float p = soft / ours, q = soft / theirs, divergence = 0;
#pragma omp simd reduction(+ : divergence)
        for (int64_t j = 0; j < n; j++) {
            float x = zs[j] - top, y = us[j] - other, eq = math_exp(y * by);
            divergence += eq * (y - x);
            dx[j] = hards * math_exp(x) + p * math_exp(x * by) - q * eq;
        }
        math_put(out_type, out, i * a->ld + from, n, dx);
        sum += divergence;
    }
    float at = hard * (math_exp(at_target - top) / one - 1), eq = soft / theirs;
    at += soft / ours * math_exp((at_target - top) * by) - eq * math_exp((u[target] - other) * by);
    math_store(out_type, out, i * a->ld + target, at);
    float divergence = sum * by / theirs + logf(ours) - logf(theirs);
    a->loss[i] = (1 - a->weight) * (logf(one) + top - at_target) +
        a->weight * a->temperature * a->temperature * divergence;
}

static void rows_distill_none(const struct op_distill *a, int64_t i)
{
    a->loss[i] = 0;
    if (a->gradient16)
        memset(a->gradient16 + i * a->ld, 0, (size_t)a->v * sizeof *a->gradient16);
    else
        memset(a->logits + i * a->ld, 0, (size_t)a->v * sizeof *a->logits);
}

static void isa_distill(struct dev *d, const struct op_distill *a)
{
    (void)d;
    bool many = a->n * a->v * 8 > ISA_PARALLEL_BYTES;
#pragma omp parallel for schedule(static) if (many)
    for (int64_t i = 0; i < a->n; i++)
        if (a->target[i] < 0)
            rows_distill_none(a, i);
        else
            rows_distill(a, i);
}
