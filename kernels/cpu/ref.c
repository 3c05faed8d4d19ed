/*
 * ref: the reference implementation of the row operations of kernels/ops.h: plain loops, one
 * thread, sums in double. It defines what every other implementation must compute
 * (tests/kernels/test_ops.c), and is the device kind "cpu-ref". Attention, the products and the
 * drawing of tokens stand in ref_attention.c, ref_matmul.c and ref_sample.c. Nothing here is tuned,
 * and the fast operations must not call it except through cpu/table.c.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/ref.h"

#include <math.h>

/* -- embedding -- */
void op_ref_embed(struct dev *d, const struct op_embed *a)
{
    int64_t row_bytes = dtype_bytes(a->table_type, a->ld_table ? a->ld_table : a->c);
    float *row = cpu_scratch(d, CPU_SCRATCH_OP, (size_t)a->c * sizeof *row);
    for (int64_t i = 0; row && i < a->n; i++) {
        quant_decode(a->table_type, (const char *)a->table + a->ids[i] * row_bytes, a->c, row);
        for (int64_t j = 0; j < a->c; j++) {
            int64_t at = i * (a->ld_out ? a->ld_out : a->c) + j;
            ref_store(a->t, a->out, at, row[j] + (a->accumulate ? ref_load(a->t, a->out, at) : 0));
        }
    }
}

void op_ref_embed_back(struct dev *d, const struct op_embed *a)
{
    (void)d;
    for (int64_t i = 0; i < a->n; i++)
        for (int64_t j = 0; j < a->c; j++)
            a->dtable[a->ids[i] * a->c + j] += ref_load(a->t, a->dout, i * a->c + j);
}

/* -- root mean square norm -- */
void op_ref_rmsnorm(struct dev *d, const struct op_rmsnorm *a)
{
    (void)d;
    for (int64_t i = 0; i < a->n; i++) {
        double sum = 0;
        int64_t from = op_row_at(i, a->c, a->group, a->ldx);
        int64_t to = op_row_at(i, a->c, a->group, a->ldy);
        for (int64_t j = 0; j < a->c; j++) {
            double x = ref_load(a->t, a->x, from + j);
            sum += x * x;
        }
        float rstd = (float)(1 / sqrt(sum / (double)a->c + a->eps));
        a->rstd[i] = rstd;
        for (int64_t j = 0; j < a->c; j++)
            ref_store(a->t, a->y, to + j,
                ref_load(a->t, a->x, from + j) * rstd * ref_load(a->t, a->w, j));
    }
}

/* With h = x * rstd and g = dy * w: dx = rstd * (g - h * mean(g * h)), dw = sum over rows of dy *
 * h. */
void op_ref_rmsnorm_back(struct dev *d, const struct op_rmsnorm *a)
{
    (void)d;
    for (int64_t i = 0; i < a->n; i++) {
        double mean = 0, rstd = a->rstd[i];
        int64_t x = op_row_at(i, a->c, a->group, a->ldx);
        int64_t dy = op_row_at(i, a->c, a->group, a->ldy);
        for (int64_t j = 0; j < a->c; j++)
            mean += (double)ref_load(a->t, a->dy, dy + j) * ref_load(a->t, a->w, j) *
                ref_load(a->t, a->x, x + j) * rstd;
        mean /= (double)a->c;
        for (int64_t j = 0; j < a->c; j++) {
            double g = (double)ref_load(a->t, a->dy, dy + j) * ref_load(a->t, a->w, j);
            double dx = rstd * (g - ref_load(a->t, a->x, x + j) * rstd * mean);
            ref_store(
                a->t, a->dx, x + j, (float)dx + (a->accumulate ? ref_load(a->t, a->dx, x + j) : 0));
        }
    }
    for (int64_t j = 0; a->dw && j < a->c; j++) {
        double sum = 0;
        for (int64_t i = 0; i < a->n; i++)
            sum += (double)ref_load(a->t, a->dy, op_row_at(i, a->c, a->group, a->ldy) + j) *
                ref_load(a->t, a->x, op_row_at(i, a->c, a->group, a->ldx) + j) * a->rstd[i];
        a->dw[j] += (float)sum;
    }
}

/* -- layer norm -- */
void op_ref_layernorm(struct dev *d, const struct op_layernorm *a)
{
    (void)d;
    for (int64_t i = 0; i < a->n; i++) {
        double mean = 0, variance = 0;
        for (int64_t j = 0; j < a->c; j++)
            mean += ref_load(a->t, a->x, i * a->c + j);
        mean /= (double)a->c;
        for (int64_t j = 0; j < a->c; j++)
            variance += pow(ref_load(a->t, a->x, i * a->c + j) - mean, 2);
        double rstd = 1 / sqrt(variance / (double)a->c + a->eps);
        a->mean[i] = (float)mean;
        a->rstd[i] = (float)rstd;
        for (int64_t j = 0; j < a->c; j++) {
            double h = (ref_load(a->t, a->x, i * a->c + j) - mean) * rstd;
            double bias = a->bias ? ref_load(a->t, a->bias, j) : 0;
            ref_store(a->t, a->y, i * a->c + j, (float)(h * ref_load(a->t, a->w, j) + bias));
        }
    }
}

/* With h = (x - mean) * rstd and g = dy * w: dx = rstd * (g - mean(g) - h * mean(g * h)), dw = sum
 * over rows of dy * h, dbias = of dy. */
static void ref_layernorm_row_back(const struct op_layernorm *a, int64_t i)
{
    double sum = 0, dot = 0, rstd = a->rstd[i];
    for (int64_t j = 0; j < a->c; j++) {
        int64_t at = i * a->c + j;
        double g = (double)ref_load(a->t, a->dy, at) * ref_load(a->t, a->w, j);
        sum += g;
        dot += g * (ref_load(a->t, a->x, at) - (double)a->mean[i]) * rstd;
    }
    for (int64_t j = 0; j < a->c; j++) {
        int64_t at = i * a->c + j;
        double g = (double)ref_load(a->t, a->dy, at) * ref_load(a->t, a->w, j);
        double h = (ref_load(a->t, a->x, at) - (double)a->mean[i]) * rstd;
        double dx = rstd * (g - (sum + h * dot) / (double)a->c);
        ref_store(a->t, a->dx, at, (float)dx + (a->accumulate ? ref_load(a->t, a->dx, at) : 0));
    }
}

void op_ref_layernorm_back(struct dev *d, const struct op_layernorm *a)
{
    (void)d;
    for (int64_t i = 0; i < a->n; i++)
        ref_layernorm_row_back(a, i);
    for (int64_t j = 0; j < a->c; j++) {
        double dw = 0, dbias = 0;
        for (int64_t i = 0; i < a->n; i++) {
            double dy = ref_load(a->t, a->dy, i * a->c + j);
            dw += dy * (ref_load(a->t, a->x, i * a->c + j) - (double)a->mean[i]) * a->rstd[i];
            dbias += dy;
        }
        if (a->dw)
            a->dw[j] += (float)dw;
        if (a->dbias)
            a->dbias[j] += (float)dbias;
    }
}

/* -- bias, activation, dropout -- */
void op_ref_bias_back(struct dev *d, const struct op_bias_back *a)
{
    (void)d;
    for (int64_t j = 0; j < a->c; j++) {
        double sum = 0;
        for (int64_t i = 0; i < a->n; i++)
            sum += ref_load(a->t, a->dy, i * a->ld + j) *
                (a->x ? (double)ref_load(a->t, a->x, i * a->ld + j) : 1);
        a->dbias[j] += (float)sum;
    }
}

void op_ref_scale(struct dev *d, const struct op_scale *a)
{
    (void)d;
    for (int64_t i = 0; i < a->n * a->c; i++) {
        double y = (double)ref_load(a->t, a->x, i) * a->w[i % a->c];
        y += a->bias ? ref_load(a->t, a->bias, i % a->c) : 0;
        y += a->accumulate ? ref_load(a->t, a->y, i) : 0;
        ref_store(a->t, a->y, i, (float)y);
    }
}

static double ref_gelu_slope(double x)
{
    double gate = ref_gelu_gate(x);
    return gate + x * gate * (1 - gate) * 2 * sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
}

static double ref_gelu_erf_slope(double x)
{
    return ref_phi(x) + x * exp(-0.5 * x * x) / sqrt(2 * M_PI);
}

void op_ref_gelu_back(struct dev *d, const struct op_gelu_back *a)
{
    (void)d;
    for (int64_t i = 0; i < a->count; i++) {
        double x = ref_load(a->t, a->x, i);
        double slope = a->erf ? ref_gelu_erf_slope(x) : ref_gelu_slope(x);
        ref_store(a->t, a->dx, i, (float)(ref_load(a->t, a->dy, i) * slope));
    }
}

void op_ref_tanh(struct dev *d, const struct op_tanh *a)
{
    (void)d;
    for (int64_t i = 0; i < a->count; i++)
        ref_store(a->t, a->x, i, (float)tanh(ref_load(a->t, a->x, i)));
}

void op_ref_tanh_back(struct dev *d, const struct op_tanh *a)
{
    (void)d;
    for (int64_t i = 0; i < a->count; i++) {
        double y = ref_load(a->t, a->x, i);
        ref_store(a->t, a->dy, i, (float)(ref_load(a->t, a->dy, i) * (1 - y * y)));
    }
}

void op_ref_activate(struct dev *d, const struct op_activate *a)
{
    (void)d;
    for (int64_t i = 0; i < a->count; i++) {
        double x = ref_load(a->t, a->x, i), y = x > 0 ? x : 0;
        ref_store(a->t, a->y, i, (float)(a->kind == OP_SILU ? x / (1 + exp(-x)) : y));
    }
}

void op_ref_activate_back(struct dev *d, const struct op_activate *a)
{
    (void)d;
    for (int64_t i = 0; i < a->count; i++) {
        double x = ref_load(a->t, a->x, i), s = 1 / (1 + exp(-x));
        double slope = a->kind == OP_SILU ? s * (1 + x * (1 - s)) : x > 0;
        ref_store(a->t, a->dx, i, (float)(ref_load(a->t, a->dy, i) * slope));
    }
}

void op_ref_dropout(struct dev *d, const struct op_dropout *a)
{
    (void)d;
    for (int64_t i = 0; i < a->count; i++) {
        bool keep = op_random(a->seed, (uint64_t)i) >= a->p * 0x1p32;
        double x = ref_load(a->t, a->x, i) / (1 - (double)a->p);
        ref_store(a->t, a->x, i, keep ? (float)x : 0);
    }
}

/* -- rotary positions -- */
void op_ref_rope(struct dev *d, const struct op_rope *a)
{
    (void)d;
    int64_t half = a->d / 2;
    for (int64_t i = 0; i < a->n; i++) {
        for (int64_t p = 0; p < half; p++) {
            double frequency = pow(a->theta, -2.0 * (double)p / (double)a->d);
            double angle = a->position[i] * op_rope_scaled(&a->scaling, frequency);
            double c = cos(angle), s = a->inverse ? -sin(angle) : sin(angle);
            for (int64_t h = 0; h < a->heads; h++) {
                int64_t lo = i * a->ld + h * a->d + p, hi = lo + half;
                double x = ref_load(a->t, a->x, lo), y = ref_load(a->t, a->x, hi);
                ref_store(a->t, a->x, lo, (float)(x * c - y * s));
                ref_store(a->t, a->x, hi, (float)(y * c + x * s));
            }
        }
    }
}

/* -- gated feed-forward -- */
void op_ref_swiglu(struct dev *d, const struct op_swiglu *a)
{
    (void)d;
    for (int64_t i = 0; i < a->n; i++)
        for (int64_t j = 0; j < a->f; j++) {
            double g = ref_load(a->t, a->gate, i * a->ld + j);
            double u = ref_load(a->t, a->up, i * a->ld + j);
            ref_store(a->t, a->y, i * a->f + j, (float)(g / (1 + exp(-g)) * u));
        }
}

void op_ref_swiglu_back(struct dev *d, const struct op_swiglu *a)
{
    (void)d;
    for (int64_t i = 0; i < a->n; i++)
        for (int64_t j = 0; j < a->f; j++) {
            int64_t at = i * a->ld + j;
            double g = ref_load(a->t, a->gate, at), u = ref_load(a->t, a->up, at);
            double dy = ref_load(a->t, a->dy, i * a->f + j), s = 1 / (1 + exp(-g));
            ref_store(a->t, a->dgate, at, (float)(dy * u * s * (1 + g * (1 - s))));
            ref_store(a->t, a->dup, at, (float)(dy * g * s));
        }
}

/* -- loss -- */
/* The greatest logit of row i, and the sum of the exponentials relative to it. */
static void ref_xent_stats(const struct op_xent *a, int64_t i, double *top, double *sum)
{
    *top = -INFINITY;
    *sum = 0;
    for (int64_t j = 0; j < a->v; j++)
        *top = fmax(*top, ref_load(a->t, a->logits, i * a->ld + j));
    for (int64_t j = 0; j < a->v; j++)
        *sum += exp(ref_load(a->t, a->logits, i * a->ld + j) - *top);
}

static void ref_xent_finish(const struct op_xent *a, int64_t i, double top, double sum)
{
    int64_t row = i * a->ld, target = a->target[i] - a->first;
    bool counts = a->target[i] >= 0, here = counts && target >= 0 && target < a->v;
    enum dtype out_type = a->gradient16 ? op_type16(a->f16) : a->t;
    void *out = a->gradient16 ? a->gradient16 : a->logits;
    a->loss[i] = here ? (float)(log(sum) + top - ref_load(a->t, a->logits, row + target)) : 0;
    for (int64_t j = 0; a->backward && j < a->v; j++) {
        double p = exp(ref_load(a->t, a->logits, row + j) - top) / sum;
        double dx = (p - (here && j == target)) * a->scale;
        ref_store(out_type, out, row + j, counts ? (float)dx : 0);
    }
}

void op_ref_xent(struct dev *d, const struct op_xent *a)
{
    (void)d;
    for (int64_t i = 0; i < a->n; i++) {
        double top, sum;
        if (a->stage == OP_XENT_MEET) {
            a->sum[i] = (float)(a->sum[i] * exp((double)a->top[i] - a->most[i]));
            continue;
        }
        if (a->stage == OP_XENT_FINISH) {
            ref_xent_finish(a, i, a->top[i], a->sum[i]);
            continue;
        }
        ref_xent_stats(a, i, &top, &sum);
        if (a->stage == OP_XENT_WHOLE) {
            ref_xent_finish(a, i, top, sum);
        } else {
            a->top[i] = (float)top;
            a->sum[i] = (float)sum;
        }
    }
}

/* log of the sum of exp(x / T) over row i, and the greatest of it */
static double ref_log_sum(const float *x, int64_t v, double temperature)
{
    float top = -INFINITY;
    double sum = 0;
    for (int64_t j = 0; j < v; j++)
        top = fmaxf(top, x[j]);
    for (int64_t j = 0; j < v; j++)
        sum += exp(((double)x[j] - top) / temperature);
    return log(sum) + top / temperature;
}

void op_ref_distill(struct dev *d, const struct op_distill *a)
{
    (void)d;
    double w = a->weight, temperature = a->temperature;
    for (int64_t i = 0; i < a->n; i++) {
        float *z = a->logits + i * a->ld;
        const float *u = a->teacher + i * a->ld;
        int32_t target = a->target[i];
        double one = ref_log_sum(z, a->v, 1), ours = ref_log_sum(z, a->v, temperature);
        double theirs = ref_log_sum(u, a->v, temperature), divergence = 0;
        double at_target = target < 0 ? 0 : z[target];
        for (int64_t j = 0; j < a->v; j++) {
            double log_p = z[j] / temperature - ours, log_q = u[j] / temperature - theirs;
            double dx = (1 - w) * (exp(z[j] - one) - (j == target)) +
                w * temperature * (exp(log_p) - exp(log_q));
            divergence += exp(log_q) * (log_q - log_p);
            ref_store(a->gradient16 ? op_type16(a->f16) : DTYPE_F32,
                a->gradient16 ? (void *)a->gradient16 : a->logits, i * a->ld + j,
                target < 0 ? 0 : (float)(dx * a->scale));
        }
        a->loss[i] = target < 0
            ? 0
            : (float)((1 - w) * (one - at_target) + w * temperature * temperature * divergence);
    }
}

/* -- vectors -- */
void op_ref_mask(struct dev *d, const struct op_mask *a)
{
    (void)d;
    for (int64_t i = 0; i < a->count; i++)
        a->x[i] = a->w[i] == 0 ? 0 : a->x[i];
}

void op_ref_axpby(struct dev *d, const struct op_axpby *a)
{
    (void)d;
    double by = a->sumsq ? a->a / fmax(sqrt(*a->sumsq), 1e-7) : a->a;
    for (int64_t i = 0; i < a->count; i++) {
        float old = a->b != 0 ? a->b * ref_load(a->y_type, a->y, i) : 0;
        ref_store(a->y_type, a->y, i, (float)by * ref_load(a->x_type, a->x, i) + old);
    }
}

void op_ref_convert(struct dev *d, const struct op_convert *a)
{
    (void)d;
    if (a->y_type == DTYPE_F32) {
        quant_decode(a->x_type, a->x, a->count, a->y);
        return;
    }
    for (int64_t i = 0; i < a->count; i++)
        ref_store(a->y_type, a->y, i, ref_load(a->x_type, a->x, i));
}

void op_ref_sumsq(struct dev *d, const struct op_sumsq *a)
{
    (void)d;
    double sum = 0;
    for (int64_t i = 0; i < a->count; i++)
        sum += (double)a->x[i] * a->x[i];
    *a->out += (float)sum;
}

/* What a gradient is multiplied with. */
static float ref_grad_scale(float grad_scale, const float *sumsq, float clip_norm)
{
    double norm = sumsq ? sqrt(*sumsq) : 0;
    double clip = clip_norm > 0 && norm > clip_norm ? clip_norm / (norm + 1e-6) : 1;
    return (float)(grad_scale * clip);
}

/* What follows updates a block after the other: what is kept of its elements as F32, and back. */
#define EACH_BLOCK(from, n, count) \
    for (int64_t from = 0, n; \
         n = (count)-from < OP_STATE_BLOCK ? (count)-from : OP_STATE_BLOCK, from < (count); \
         from += n)

/* Loshchilov and Hutter, Decoupled Weight Decay Regularization, algorithm 2. */
void op_ref_adamw(struct dev *d, const struct op_adamw *a)
{
    (void)d;
    const struct ref_state sm = {a->state, a->m, a->m_scale, a->seed, true};
    const struct ref_state sv = {a->state, a->v, a->v_scale, a->seed, false};
    double fix1 = 1 - pow(a->beta1, (double)a->step), fix2 = 1 - pow(a->beta2, (double)a->step);
    float scale = ref_grad_scale(a->grad_scale, a->sumsq, a->clip_norm);
    if (a->sumsq && !isfinite(*a->sumsq))
        return;
    EACH_BLOCK(from, n, a->count)
    {
        float m[OP_STATE_BLOCK], v[OP_STATE_BLOCK];
        ref_state_read(&sm, from, n, m);
        ref_state_read(&sv, from, n, v);
        for (int64_t k = 0; k < n; k++) {
            int64_t i = from + k;
            float g = a->grad[i] * scale;
            m[k] = a->beta1 * m[k] + (1 - a->beta1) * g;
            v[k] = a->beta2 * v[k] + (1 - a->beta2) * g * g;
            double step = m[k] / fix1 / (sqrt(v[k] / fix2) + a->eps);
            a->w[i] = (float)(a->w[i] - a->lr * (step + a->weight_decay * a->w[i]));
            if (a->w16)
                a->w16[i] = f32_to_bf16(a->w[i]);
        }
        ref_state_write(&sm, from, n, m);
        ref_state_write(&sv, from, n, v);
    }
}

void op_ref_sgd(struct dev *d, const struct op_sgd *a)
{
    (void)d;
    const struct ref_state sm = {a->state, a->m, a->m_scale, a->seed, true};
    float scale = ref_grad_scale(a->grad_scale, a->sumsq, a->clip_norm);
    if (a->sumsq && !isfinite(*a->sumsq))
        return;
    EACH_BLOCK(from, n, a->count)
    {
        float m[OP_STATE_BLOCK];
        if (a->m)
            ref_state_read(&sm, from, n, m);
        for (int64_t k = 0; k < n; k++) {
            int64_t i = from + k;
            float g = a->grad[i] * scale + a->weight_decay * a->w[i];
            if (a->m)
                m[k] = g = a->momentum * m[k] + g;
            a->w[i] -= a->lr * g;
            if (a->w16)
                a->w16[i] = f32_to_bf16(a->w[i]);
        }
        if (a->m)
            ref_state_write(&sm, from, n, m);
    }
}

void op_ref_lion(struct dev *d, const struct op_lion *a)
{
    (void)d;
    const struct ref_state sm = {a->state, a->m, a->m_scale, a->seed, true};
    float scale = ref_grad_scale(a->grad_scale, a->sumsq, a->clip_norm);
    if (a->sumsq && !isfinite(*a->sumsq))
        return;
    EACH_BLOCK(from, n, a->count)
    {
        float m[OP_STATE_BLOCK];
        ref_state_read(&sm, from, n, m);
        for (int64_t k = 0; k < n; k++) {
            int64_t i = from + k;
            float g = a->grad[i] * scale, c = a->beta1 * m[k] + (1 - a->beta1) * g;
            m[k] = a->beta2 * m[k] + (1 - a->beta2) * g;
            if (a->blend) {
                a->blend[i] = c;
                continue;
            }
            a->w[i] = a->w[i] * (1 - a->lr * a->weight_decay) - a->lr * (float)((c > 0) - (c < 0));
            if (a->w16)
                a->w16[i] = f32_to_bf16(a->w[i]);
        }
        ref_state_write(&sm, from, n, m);
    }
}

void op_ref_importance(struct dev *d, const struct op_importance *a)
{
    (void)d;
    float scale = ref_grad_scale(1, a->sumsq, a->clip_norm);
    if (a->sumsq && !isfinite(*a->sumsq))
        return;
    for (int64_t i = 0; i < a->count; i++) {
        float s = fabsf(a->w[i] * (a->grad[i] * scale));
        a->mean[i] = a->beta1 * a->mean[i] + (1 - a->beta1) * s;
        a->spread[i] = a->beta2 * a->spread[i] + (1 - a->beta2) * fabsf(s - a->mean[i]);
    }
}

/* The running means of the squares of the gradient, along rows and columns. */
static void ref_factor_means(const struct op_adafactor *a, double scale)
{
    double share = pow((double)a->step, -0.8);
    for (int64_t i = 0; i < a->rows && a->row; i++) {
        double sum = 0;
        for (int64_t j = 0; j < a->cols; j++)
            sum += pow(scale * a->grad[i * a->cols + j], 2);
        a->row[i] += (float)(share * (sum / (double)a->cols - a->row[i]));
    }
    for (int64_t j = 0; j < a->cols; j++) {
        double sum = 0;
        for (int64_t i = 0; i < a->rows; i++)
            sum += pow(scale * a->grad[i * a->cols + j], 2);
        a->col[j] += (float)(share * (sum / (double)a->rows - a->col[j]));
    }
}

/* u at (i, j); mean: of row */
static double ref_factor_update(
    const struct op_adafactor *a, double scale, double mean, int64_t i, int64_t j)
{
    double v = a->row ? a->row[i] / fmax(mean, OP_ADAFACTOR_EPS1) * a->col[j] : a->col[j];
    double least = (double)OP_ADAFACTOR_EPS1 * OP_ADAFACTOR_EPS1;
    return scale * a->grad[i * a->cols + j] / sqrt(fmax(v, least));
}

void op_ref_adafactor(struct dev *d, const struct op_adafactor *a)
{
    (void)d;
    double scale = ref_grad_scale(a->grad_scale, a->sumsq, a->clip_norm);
    double mean = 0, sum_w = 0, sum_u = 0, count = (double)a->rows * (double)a->cols;
    if (a->sumsq && !isfinite(*a->sumsq))
        return;
    ref_factor_means(a, scale);
    for (int64_t i = 0; i < a->rows && a->row; i++)
        mean += a->row[i] / (double)a->rows;
    for (int64_t i = 0; i < a->rows; i++)
        for (int64_t j = 0; j < a->cols; j++) {
            sum_w += pow(a->w[i * a->cols + j], 2);
            sum_u += pow(ref_factor_update(a, scale, mean, i, j), 2);
        }
    double step = fmin(a->lr, 1 / sqrt((double)a->step)) *
        fmax(OP_ADAFACTOR_EPS2, sqrt(sum_w / count)) / fmax(1, sqrt(sum_u / count));
    for (int64_t i = 0; i < a->rows; i++)
        for (int64_t j = 0; j < a->cols; j++) {
            int64_t at = i * a->cols + j;
            double keep = 1 - (double)a->lr * a->weight_decay;
            a->w[at] = (float)(a->w[at] * keep - step * ref_factor_update(a, scale, mean, i, j));
            if (a->w16)
                a->w16[at] = f32_to_bf16(a->w[at]);
        }
}
