/*
 * optim_body: the updates of SGD, Lion and Adafactor, and AdaLoRA's importances. Part of
 * isa_body.h. Work is cut by elements, rows and columns, never by threads, so the results do not
 * depend on their number.
 */

/* -- SGD -- */
struct optim_sgd {
    const struct op_sgd *op;
    float scale; /* of the gradient */
    struct state_kept m;
};

static void optim_sgd_chunk(const struct optim_sgd *s, int64_t chunk)
{
    const struct op_sgd a = *s->op;
    const float scale = s->scale;
    float buffer[VECTOR_CHUNK];
    int64_t from = chunk * VECTOR_CHUNK, n = vector_end(chunk, a.count) - from;
    const float *grad = a.grad + from;
    float *w = a.w + from;
    if (a.m) {
        float *m = state_take(&s->m, from, n, buffer);
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            m[i] = a.momentum * m[i] + (grad[i] * scale + a.weight_decay * w[i]);
            w[i] -= a.lr * m[i];
        }
        state_put(&s->m, from, n, m);
    } else {
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            w[i] -= a.lr * (grad[i] * scale + a.weight_decay * w[i]);
    }
    if (a.w16)
        math_narrow(w, n, a.w16 + from);
}

static void isa_sgd(struct dev *d, const struct op_sgd *a)
{
    (void)d;
    struct optim_sgd s = {a, vector_grad_scale(a->grad_scale, a->sumsq, a->clip_norm),
        {a->state, a->m, a->m_scale, a->seed, .first = true}};
    if (a->sumsq && !isfinite(*a->sumsq))
        return;
    state_open(&s.m);
    VECTOR_RUN(optim_sgd_chunk, &s, a->count);
}

/* -- Lion -- */
struct optim_lion {
    const struct op_lion *op;
    float scale, keep; /* of the gradient; 1 - decay */
    struct state_kept m;
};

static void optim_lion_chunk(const struct optim_lion *s, int64_t chunk)
{
    const struct op_lion a = *s->op;
    const float scale = s->scale, keep = s->keep;
    float buffer[VECTOR_CHUNK], m_buffer[VECTOR_CHUNK];
    int64_t from = chunk * VECTOR_CHUNK, n = vector_end(chunk, a.count) - from;
    float *blend = a.blend ? a.blend + from : buffer;
    float *m = state_take(&s->m, from, n, m_buffer);
    const float *grad = a.grad + from;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * scale, before = m[i];
        blend[i] = a.beta1 * before + (1 - a.beta1) * g;
        m[i] = a.beta2 * before + (1 - a.beta2) * g;
    }
    state_put(&s->m, from, n, m);
    if (a.blend)
        return;
    float *w = a.w + from;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float c = blend[i], sign = c > 0 ? 1.0f : 0.0f;
        sign = c < 0 ? -1.0f : sign;
        w[i] = w[i] * keep - a.lr * sign;
    }
    if (a.w16)
        math_narrow(w, n, a.w16 + from);
}

static void isa_lion(struct dev *d, const struct op_lion *a)
{
    (void)d;
    struct optim_lion s = {a, vector_grad_scale(a->grad_scale, a->sumsq, a->clip_norm),
        1 - a->lr * a->weight_decay, {a->state, a->m, a->m_scale, a->seed, .first = true}};
    if (a->sumsq && !isfinite(*a->sumsq))
        return;
    state_open(&s.m);
    VECTOR_RUN(optim_lion_chunk, &s, a->count);
}

/* -- importance -- */
struct optim_importance {
    const struct op_importance *op;
    float scale; /* of the gradient */
};

static void optim_importance_chunk(const struct optim_importance *s, int64_t chunk)
{
    const struct op_importance a = *s->op;
    const float scale = s->scale;
    int64_t from = chunk * VECTOR_CHUNK, to = vector_end(chunk, a.count);
#pragma omp simd
    for (int64_t i = from; i < to; i++) {
        float x = fabsf(a.w[i] * (a.grad[i] * scale));
        a.mean[i] = a.beta1 * a.mean[i] + (1 - a.beta1) * x;
        a.spread[i] = a.beta2 * a.spread[i] + (1 - a.beta2) * fabsf(x - a.mean[i]);
    }
}

static void isa_importance(struct dev *d, const struct op_importance *a)
{
    (void)d;
    struct optim_importance s = {a, vector_grad_scale(1, a->sumsq, a->clip_norm)};
    if (a->sumsq && !isfinite(*a->sumsq))
        return;
    VECTOR_RUN(optim_importance_chunk, &s, a->count);
}

/* -- Adafactor -- */
#define OPTIM_COLUMNS 128 /* summed over all rows at once */

struct optim_factor {
    const struct op_adafactor *op;
    float scale, share, keep; /* of the gradient; of what is new in a mean; 1 - decay */
    float inverse;            /* of the mean of row */
    float step;               /* what u is multiplied with */
    float *parts;             /* (rows, 2): squares of w and of u */
};

/* row's running mean of row i */
static void optim_factor_row(const struct optim_factor *s, int64_t i)
{
    const struct op_adafactor a = *s->op;
    const float *grad = a.grad + i * a.cols, scale = s->scale;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < a.cols; j++)
        sum += (grad[j] * scale) * (grad[j] * scale);
    a.row[i] += s->share * (sum / (float)a.cols - a.row[i]);
}

/* col's running means of a chunk of columns */
static void optim_factor_columns(const struct optim_factor *s, int64_t chunk)
{
    const struct op_adafactor a = *s->op;
    const float scale = s->scale, share = s->share, rows = (float)a.rows;
    float sum[OPTIM_COLUMNS];
    int64_t from = chunk * OPTIM_COLUMNS, left = a.cols - from;
    int64_t n = left < OPTIM_COLUMNS ? left : OPTIM_COLUMNS;
    memset(sum, 0, sizeof sum);
    for (int64_t i = 0; i < a.rows; i++) {
        const float *grad = a.grad + i * a.cols + from;
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            sum[j] += (grad[j] * scale) * (grad[j] * scale);
    }
    float *col = a.col + from;
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
        col[j] += share * (sum[j] / rows - col[j]);
}

/* u (n) of row i from column `from` on, n <= VECTOR_CHUNK */
static void optim_factor_update(
    const struct optim_factor *s, int64_t i, int64_t from, int64_t n, float *u)
{
    const float least = OP_ADAFACTOR_EPS1 * OP_ADAFACTOR_EPS1, scale = s->scale;
    const float *col = s->op->col + from, *grad = s->op->grad + i * s->op->cols + from;
    const float factor = s->op->row ? s->op->row[i] * s->inverse : 1;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        float v = factor * col[j];
        u[j] = v > least ? v : least;
    }
    math_sqrt(u, n);
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
        u[j] = grad[j] * scale / u[j];
}

static void optim_factor_sums(const struct optim_factor *s, int64_t i)
{
    const int64_t cols = s->op->cols;
    float u[VECTOR_CHUNK], sum_w = 0, sum_u = 0;
    for (int64_t from = 0, n; from < cols; from += n) {
        const float *w = s->op->w + i * cols + from;
        n = cols - from < VECTOR_CHUNK ? cols - from : VECTOR_CHUNK;
        optim_factor_update(s, i, from, n, u);
#pragma omp simd reduction(+ : sum_w, sum_u)
        for (int64_t j = 0; j < n; j++) {
            sum_w += w[j] * w[j];
            sum_u += u[j] * u[j];
        }
    }
    s->parts[2 * i] = sum_w;
    s->parts[2 * i + 1] = sum_u;
}

static void optim_factor_apply(const struct optim_factor *s, int64_t i)
{
    const int64_t cols = s->op->cols;
    const float keep = s->keep, step = s->step;
    float u[VECTOR_CHUNK];
    for (int64_t from = 0, n; from < cols; from += n) {
        float *w = s->op->w + i * cols + from;
        n = cols - from < VECTOR_CHUNK ? cols - from : VECTOR_CHUNK;
        optim_factor_update(s, i, from, n, u);
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            w[j] = w[j] * keep - step * u[j];
        if (s->op->w16)
            math_narrow(w, n, s->op->w16 + i * cols + from);
    }
}

/* Runs leaf(s, i) for i = 0 .. n - 1. */
#define OPTIM_RUN(leaf, s, a, n) \
    do { \
        bool many_ = (a)->rows * (a)->cols * 4 > ISA_PARALLEL_BYTES; \
        _Pragma("omp parallel for schedule(static) if (many_)") for (int64_t i_ = 0; i_ < (n); \
                                                                     i_++) leaf((s), i_); \
    } while (0)

static void isa_adafactor(struct dev *d, const struct op_adafactor *a)
{
    struct optim_factor s = {.op = a,
        .scale = vector_grad_scale(a->grad_scale, a->sumsq, a->clip_norm),
        .share = (float)pow((double)a->step, -0.8),
        .keep = 1 - a->lr * a->weight_decay,
        .parts = cpu_scratch(d, CPU_SCRATCH_OP, (size_t)a->rows * 2 * sizeof(float))};
    if (!s.parts || (a->sumsq && !isfinite(*a->sumsq)))
        return;
    if (a->row) {
        double sum = 0;
        OPTIM_RUN(optim_factor_row, &s, a, a->rows);
        for (int64_t i = 0; i < a->rows; i++)
            sum += a->row[i];
        double mean = sum / (double)a->rows;
        s.inverse = (float)(1 / (mean > OP_ADAFACTOR_EPS1 ? mean : OP_ADAFACTOR_EPS1));
    }
    OPTIM_RUN(optim_factor_columns, &s, a, (a->cols + OPTIM_COLUMNS - 1) / OPTIM_COLUMNS);
    OPTIM_RUN(optim_factor_sums, &s, a, a->rows);
    double sum_w = 0, sum_u = 0, count = (double)a->rows * (double)a->cols;
    for (int64_t i = 0; i < a->rows; i++) {
        sum_w += s.parts[2 * i];
        sum_u += s.parts[2 * i + 1];
    }
    double rate = fmin(a->lr, 1 / sqrt((double)a->step));
    s.step =
        (float)(rate * fmax(OP_ADAFACTOR_EPS2, sqrt(sum_w / count)) / fmax(1, sqrt(sum_u / count)));
    OPTIM_RUN(optim_factor_apply, &s, a, a->rows);
}
