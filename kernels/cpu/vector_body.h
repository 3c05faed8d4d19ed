/*
 * vector_body: the operations on flat vectors: axpby, convert, the gradient of GELU, dropout, sum
 * of squares, AdamW. Part of isa_body.h. Vectors are cut into chunks of a fixed length, so the
 * results do not depend on the number of threads.
 */
#define VECTOR_CHUNK 4096 /* elements: 16 KiB of F32, half an L1 cache */

/* Runs leaf(a, chunk) for all chunks of count elements. */
#define VECTOR_RUN(leaf, a, count) \
    do { \
        int64_t chunks_ = ((count) + VECTOR_CHUNK - 1) / VECTOR_CHUNK; \
        _Pragma("omp parallel for schedule(static) if (chunks_ > 4)") for (int64_t chunk_ = 0; \
                                                                           chunk_ < chunks_; \
                                                                           chunk_++) \
            leaf((a), chunk_); \
    } while (0)

ISA_INLINE int64_t vector_end(int64_t chunk, int64_t count)
{
    int64_t end = (chunk + 1) * VECTOR_CHUNK;
    return end < count ? end : count;
}

/* -- y = a x + b y -- */
ISA_INLINE void vector_axpby(
    enum dtype xt, enum dtype yt, const struct op_axpby *a, int64_t from, int64_t to)
{
    float fy = a->b, fx = a->sumsq ? a->a / fmaxf(sqrtf(*a->sumsq), 1e-7f) : a->a;
    if (fy == 0) { /* y may be uninitialised */
#pragma omp simd
        for (int64_t i = from; i < to; i++)
            math_store(yt, a->y, i, fx * math_load(xt, a->x, i));
        return;
    }
#pragma omp simd
    for (int64_t i = from; i < to; i++)
        math_store(yt, a->y, i, fx * math_load(xt, a->x, i) + fy * math_load(yt, a->y, i));
}

ISA_INLINE void vector_axpby_from(enum dtype xt, const struct op_axpby *a, int64_t from, int64_t to)
{
    if (a->y_type == DTYPE_F32)
        vector_axpby(xt, DTYPE_F32, a, from, to);
    else if (a->y_type == DTYPE_BF16)
        vector_axpby(xt, DTYPE_BF16, a, from, to);
    else
        vector_axpby(xt, DTYPE_F16, a, from, to);
}

static void vector_axpby_chunk(const struct op_axpby *args, int64_t chunk)
{
    struct op_axpby copy = *args, *a = &copy;
    int64_t from = chunk * VECTOR_CHUNK, to = vector_end(chunk, a->count);
    if (a->x_type == DTYPE_F32)
        vector_axpby_from(DTYPE_F32, a, from, to);
    else if (a->x_type == DTYPE_BF16)
        vector_axpby_from(DTYPE_BF16, a, from, to);
    else
        vector_axpby_from(DTYPE_F16, a, from, to);
}

static void isa_axpby(struct dev *d, const struct op_axpby *a)
{
    (void)d;
    VECTOR_RUN(vector_axpby_chunk, a, a->count);
}

/* -- zeros where another vector has them -- */
static void vector_mask_chunk(const struct op_mask *args, int64_t chunk)
{
    const struct op_mask a = *args;
    int64_t to = vector_end(chunk, a.count);
#pragma omp simd
    for (int64_t i = chunk * VECTOR_CHUNK; i < to; i++)
        a.x[i] = a.w[i] == 0 ? 0 : a.x[i];
}

static void isa_mask(struct dev *d, const struct op_mask *a)
{
    (void)d;
    VECTOR_RUN(vector_mask_chunk, a, a->count);
}

/* -- conversion -- */
ISA_INLINE void vector_convert(
    enum dtype xt, enum dtype yt, const struct op_convert *a, int64_t from, int64_t to)
{
#pragma omp simd
    for (int64_t i = from; i < to; i++)
        math_store(yt, a->y, i, math_load(xt, a->x, i));
}

static void vector_convert_chunk(const struct op_convert *args, int64_t chunk)
{
    struct op_convert copy = *args, *a = &copy;
    int64_t from = chunk * VECTOR_CHUNK, to = vector_end(chunk, a->count);
    if (a->y_type == DTYPE_BF16)
        math_narrow((const float *)a->x + from, to - from, (uint16_t *)a->y + from);
    else if (a->y_type == DTYPE_F16)
        math_narrow_f16((const float *)a->x + from, to - from, (uint16_t *)a->y + from);
    else if (a->x_type == DTYPE_F32)
        vector_convert(DTYPE_F32, DTYPE_F32, a, from, to);
    else if (a->x_type == DTYPE_BF16)
        vector_convert(DTYPE_BF16, DTYPE_F32, a, from, to);
    else if (a->x_type == DTYPE_F16)
        vector_convert(DTYPE_F16, DTYPE_F32, a, from, to);
    else
        quant_decode(a->x_type,
            (const char *)a->x + from / dtype_block(a->x_type) * dtype_block_bytes(a->x_type),
            to - from, (float *)a->y + from);
}

static void isa_convert(struct dev *d, const struct op_convert *a)
{
    (void)d;
    VECTOR_RUN(vector_convert_chunk, a, a->count);
}

/* -- gradient of GELU -- */
ISA_INLINE void vector_gelu_back(enum dtype t, const struct op_gelu_back *a, int64_t chunk)
{
    int64_t to = vector_end(chunk, a->count);
    if (a->erf) {
#pragma omp simd
        for (int64_t i = chunk * VECTOR_CHUNK; i < to; i++) {
            float slope = math_gelu_erf_slope(math_load(t, a->x, i));
            math_store(t, a->dx, i, math_load(t, a->dy, i) * slope);
        }
        return;
    }
#pragma omp simd
    for (int64_t i = chunk * VECTOR_CHUNK; i < to; i++) {
        float slope = math_gelu_slope(math_load(t, a->x, i));
        math_store(t, a->dx, i, math_load(t, a->dy, i) * slope);
    }
}
ISA_LEAVES(vector_gelu_back, struct op_gelu_back)

static void isa_gelu_back(struct dev *d, const struct op_gelu_back *a)
{
    (void)d;
    VECTOR_RUN(ISA_TYPED(vector_gelu_back, a->t), a, a->count);
}

/* -- tanh and its gradient -- */
ISA_INLINE void vector_tanh(enum dtype t, const struct op_tanh *a, int64_t chunk)
{
    int64_t to = vector_end(chunk, a->count);
#pragma omp simd
    for (int64_t i = chunk * VECTOR_CHUNK; i < to; i++)
        math_store(t, a->x, i, math_tanh(math_load(t, a->x, i)));
}
ISA_LEAVES(vector_tanh, struct op_tanh)

static void isa_tanh(struct dev *d, const struct op_tanh *a)
{
    (void)d;
    VECTOR_RUN(ISA_TYPED(vector_tanh, a->t), a, a->count);
}

ISA_INLINE void vector_tanh_back(enum dtype t, const struct op_tanh *a, int64_t chunk)
{
    int64_t to = vector_end(chunk, a->count);
#pragma omp simd
    for (int64_t i = chunk * VECTOR_CHUNK; i < to; i++) {
        float y = math_load(t, a->x, i);
        math_store(t, a->dy, i, math_load(t, a->dy, i) * (1 - y * y));
    }
}
ISA_LEAVES(vector_tanh_back, struct op_tanh)

static void isa_tanh_back(struct dev *d, const struct op_tanh *a)
{
    (void)d;
    VECTOR_RUN(ISA_TYPED(vector_tanh_back, a->t), a, a->count);
}

/* -- ReLU and SiLU, and their gradients -- */
ISA_INLINE void vector_activate(enum dtype t, const struct op_activate *a, int64_t chunk)
{
    int64_t from = chunk * VECTOR_CHUNK, to = vector_end(chunk, a->count);
    if (a->kind == OP_SILU) {
#pragma omp simd
        for (int64_t i = from; i < to; i++) {
            float x = math_load(t, a->x, i);
            math_store(t, a->y, i, x / (1 + math_exp(-x)));
        }
        return;
    }
#pragma omp simd
    for (int64_t i = from; i < to; i++) {
        float x = math_load(t, a->x, i);
        math_store(t, a->y, i, x > 0 ? x : 0);
    }
}
ISA_LEAVES(vector_activate, struct op_activate)

static void isa_activate(struct dev *d, const struct op_activate *a)
{
    (void)d;
    VECTOR_RUN(ISA_TYPED(vector_activate, a->t), a, a->count);
}

ISA_INLINE void vector_activate_back(enum dtype t, const struct op_activate *a, int64_t chunk)
{
    int64_t from = chunk * VECTOR_CHUNK, to = vector_end(chunk, a->count);
    if (a->kind == OP_SILU) {
#pragma omp simd
        for (int64_t i = from; i < to; i++) {
            float x = math_load(t, a->x, i), s = 1 / (1 + math_exp(-x));
            math_store(t, a->dx, i, math_load(t, a->dy, i) * s * (1 + x * (1 - s)));
        }
        return;
    }
#pragma omp simd
    for (int64_t i = from; i < to; i++) {
        float dy = math_load(t, a->dy, i);
        math_store(t, a->dx, i, math_load(t, a->x, i) > 0 ? dy : 0);
    }
}
ISA_LEAVES(vector_activate_back, struct op_activate)

static void isa_activate_back(struct dev *d, const struct op_activate *a)
{
    (void)d;
    VECTOR_RUN(ISA_TYPED(vector_activate_back, a->t), a, a->count);
}

/* -- dropout -- */
ISA_INLINE void vector_dropout(enum dtype t, const struct op_dropout *a, int64_t chunk)
{
    int64_t to = vector_end(chunk, a->count);
    uint32_t least = (uint32_t)ceil(a->p * 0x1p32);
    float scale = 1 / (1 - a->p);
#pragma omp simd
    for (int64_t i = chunk * VECTOR_CHUNK; i < to; i++) {
        float x = math_load(t, a->x, i) * scale;
        math_store(t, a->x, i, op_random(a->seed, (uint64_t)i) >= least ? x : 0);
    }
}
ISA_LEAVES(vector_dropout, struct op_dropout)

static void isa_dropout(struct dev *d, const struct op_dropout *a)
{
    (void)d;
    VECTOR_RUN(ISA_TYPED(vector_dropout, a->t), a, a->count);
}

/* -- sum of squares -- */
struct vector_sumsq {
    const struct op_sumsq *op;
    float *parts; /* (chunks) */
};

static void vector_sumsq_chunk(const struct vector_sumsq *s, int64_t chunk)
{
    const float *x = s->op->x;
    int64_t to = vector_end(chunk, s->op->count);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = chunk * VECTOR_CHUNK; i < to; i++)
        sum += x[i] * x[i];
    s->parts[chunk] = sum;
}

static void isa_sumsq(struct dev *d, const struct op_sumsq *a)
{
    int64_t chunks = (a->count + VECTOR_CHUNK - 1) / VECTOR_CHUNK;
    struct vector_sumsq s = {
        .op = a, .parts = cpu_scratch(d, CPU_SCRATCH_OP, (size_t)(chunks + 1) * sizeof(float))};
    if (!s.parts)
        return;
    VECTOR_RUN(vector_sumsq_chunk, &s, a->count);
    double total = 0;
    for (int64_t chunk = 0; chunk < chunks; chunk++)
        total += s.parts[chunk];
    *a->out += (float)total;
}

/* What a gradient is multiplied with: grad_scale, less where its norm is above clip_norm. */
ISA_INLINE float vector_grad_scale(float grad_scale, const float *sumsq, float clip_norm)
{
    double norm = sumsq ? sqrt(*sumsq) : 0;
    double clip = clip_norm > 0 && norm > clip_norm ? clip_norm / (norm + 1e-6) : 1;
    return (float)(grad_scale * clip);
}

/* -- AdamW -- */
struct vector_adamw {
    const struct op_adamw *op;
    float lr, keep,
        fix2;    /* rate over the first bias correction, 1 - decay, inverse of the second */
    float scale; /* of the gradient */
    struct state_kept m, v;
};

static void vector_adamw_chunk(const struct vector_adamw *s, int64_t chunk)
{
    const struct op_adamw a = *s->op;
    const float lr = s->lr, keep = s->keep, fix2 = s->fix2, scale = s->scale;
    float root[VECTOR_CHUNK], m_buffer[VECTOR_CHUNK], v_buffer[VECTOR_CHUNK];
    int64_t from = chunk * VECTOR_CHUNK, n = vector_end(chunk, a.count) - from;
    float *m = state_take(&s->m, from, n, m_buffer), *v = state_take(&s->v, from, n, v_buffer);
    const float *grad = a.grad + from;
    float *w = a.w + from;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * scale;
        m[i] = a.beta1 * m[i] + (1 - a.beta1) * g;
        v[i] = a.beta2 * v[i] + (1 - a.beta2) * g * g;
        root[i] = v[i] * fix2;
    }
    math_sqrt(root, n);
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        w[i] = w[i] * keep - lr * (m[i] / (root[i] + a.eps));
    if (a.w16)
        math_narrow(w, n, a.w16 + from);
    state_put(&s->m, from, n, m);
    state_put(&s->v, from, n, v);
}

static void isa_adamw(struct dev *d, const struct op_adamw *a)
{
    (void)d;
    double fix1 = 1 - pow(a->beta1, (double)a->step), fix2 = 1 - pow(a->beta2, (double)a->step);
    struct vector_adamw s = {.op = a,
        .scale = vector_grad_scale(a->grad_scale, a->sumsq, a->clip_norm),
        .lr = (float)(a->lr / fix1),
        .keep = 1 - a->lr * a->weight_decay,
        .fix2 = (float)(1 / fix2),
        .m = {a->state, a->m, a->m_scale, a->seed, .first = true},
        .v = {a->state, a->v, a->v_scale, a->seed, .first = false}};
    if (a->sumsq && !isfinite(*a->sumsq))
        return;
    state_open(&s.m);
    state_open(&s.v);
    VECTOR_RUN(vector_adamw_chunk, &s, a->count);
}
