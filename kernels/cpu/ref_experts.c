/*
 * ref_experts: the reference of a mixture of experts: routing, the order of rows by expert, and
 * each expert's products. Sums in double. A logit that is no number counts as the least, so every
 * choice is an expert's, and no two of a row are the same. The sort serves the fast kind as well:
 * it passes over a few integers a token.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/ref.h"

/* -- routing -- */

/* The greatest of those that come behind expert `last` (-1: all): less, or equal and of a higher
   index. */
static int32_t ref_next_choice(const float *logits, int64_t e, int32_t last)
{
    float before = last < 0 ? INFINITY : isnan(logits[last]) ? -INFINITY : logits[last];
    float most = -INFINITY;
    int32_t best = -1;
    for (int32_t i = 0; i < e; i++) {
        float x = isnan(logits[i]) ? -INFINITY : logits[i];
        bool behind = last < 0 || x < before || (x == before && i > last);
        if (behind && (best < 0 || x > most)) {
            best = i;
            most = x;
        }
    }
    return best;
}

static void ref_softmax(float *x, int64_t n)
{
    float top = -INFINITY;
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        top = fmaxf(top, x[i]);
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)x[i] - top);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(exp((double)x[i] - top) / sum);
}

static bool ref_exists(const struct op_route *a, int64_t i)
{
    return !a->length || i % a->tokens < a->length[i / a->tokens];
}

void op_ref_route(struct dev *d, const struct op_route *a)
{
    (void)d;
    for (int64_t i = 0; i < a->n; i++) {
        float *p = a->p + i * a->e, *weight = a->weight + i * a->k;
        int32_t *expert = a->expert + i * a->k;
        double sum = 0;
        for (int64_t j = 0; j < a->k; j++)
            expert[j] = ref_next_choice(p, a->e, j ? expert[j - 1] : -1);
        ref_softmax(p, a->e);
        for (int64_t j = 0; j < a->k; j++)
            sum += p[expert[j]];
        for (int64_t j = 0; j < a->k; j++)
            weight[j] = (float)(p[expert[j]] / (a->normalized ? sum : 1));
        for (int64_t j = 0; a->count && ref_exists(a, i) && j < a->k; j++)
            a->count[i / a->tokens * a->e + expert[j]] += 1;
    }
}

/* With S the sum of the chosen p: dp of a chosen one += (dw - sum of dw w) / S when normalized, dw
   when not. dlogits = p (dp - sum of p dp). */
void op_ref_route_back(struct dev *d, const struct op_route *a)
{
    double *dp = cpu_scratch(d, CPU_SCRATCH_OP, (size_t)a->e * sizeof *dp);
    for (int64_t i = 0; dp && i < a->n; i++) {
        const float *p = a->p + i * a->e, *w = a->weight + i * a->k, *dw = a->dweight + i * a->k;
        const int32_t *expert = a->expert + i * a->k;
        const float *count = a->count + i / a->tokens * a->e;
        double chosen = 0, inner = 0, mean = 0;
        for (int64_t j = 0; j < a->e; j++)
            dp[j] =
                a->balance && ref_exists(a, i) ? (double)a->balance[i / a->tokens] * count[j] : 0;
        for (int64_t j = 0; j < a->k; j++) {
            chosen += p[expert[j]];
            inner += (double)dw[j] * w[j];
        }
        for (int64_t j = 0; j < a->k; j++)
            dp[expert[j]] += a->normalized ? (dw[j] - inner) / chosen : dw[j];
        for (int64_t j = 0; j < a->e; j++)
            mean += p[j] * dp[j];
        for (int64_t j = 0; j < a->e; j++)
            ref_store(a->t, a->dlogits, i * a->e + j, (float)(p[j] * (dp[j] - mean)));
    }
}

/* -- the order of rows -- */

void op_ref_expert_sort(struct dev *d, const struct op_expert_sort *a)
{
    (void)d;
    memset(a->offset, 0, (size_t)(a->e + 1) * sizeof *a->offset);
    for (int64_t i = 0; i < a->n; i++)
        a->offset[a->expert[i]]++;
    for (int64_t j = 0, sum = 0, n; j <= a->e; j++, sum += n) {
        n = a->offset[j];
        a->offset[j] = (int32_t)sum;
    }
    for (int64_t i = 0; i < a->n; i++) { /* offset runs to the next one's beginning */
        a->place[i] = a->offset[a->expert[i]]++;
        a->row[a->place[i]] = (int32_t)i;
    }
    memmove(a->offset + 1, a->offset, (size_t)a->e * sizeof *a->offset);
    a->offset[0] = 0;
}

void op_ref_expert_gather(struct dev *d, const struct op_expert_rows *a)
{
    (void)d;
    for (int64_t i = 0; i < a->n * a->k; i++)
        for (int64_t j = 0; j < a->c; j++)
            ref_store(a->t, a->y, i * a->c + j, ref_load(a->t, a->x, a->row[i] / a->k * a->c + j));
}

void op_ref_expert_sum(struct dev *d, const struct op_expert_rows *a)
{
    (void)d;
    for (int64_t i = 0; i < a->n; i++)
        for (int64_t j = 0; j < a->c; j++) {
            double sum = a->accumulate ? ref_load(a->t, a->y, i * a->c + j) : 0;
            for (int64_t l = 0; l < a->k; l++)
                sum += ref_load(a->t, a->x, a->place[i * a->k + l] * a->c + j);
            ref_store(a->t, a->y, i * a->c + j, (float)sum);
        }
}

void op_ref_expert_weigh(struct dev *d, const struct op_expert_weigh *a)
{
    (void)d;
    for (int64_t i = 0; i < a->n; i++) {
        float w = a->weight[a->row[i]];
        double sum = 0;
        for (int64_t j = i * a->c; j < (i + 1) * a->c; j++) {
            float x = ref_load(a->t, a->x, j), dy = a->dy ? ref_load(a->t, a->dy, j) : 0;
            sum += (double)x * dy;
            ref_store(a->t, a->x, j, w * x);
            if (a->dy)
                ref_store(a->t, a->dy, j, w * dy);
        }
        if (a->dy)
            a->dweight[a->row[i]] = (float)sum;
    }
}

/* -- products -- */

/* Rows [from, to) of one expert, whose matrix begins at element w. */
static void ref_expert_rows(const struct op_expert_matmul *a, int64_t from, int64_t to, int64_t w)
{
    for (int64_t i = from; i < to && a->y; i++)
        for (int64_t o = 0; o < a->out; o++) {
            double sum = 0;
            for (int64_t j = 0; j < a->in; j++)
                sum += (double)ref_load(a->t, a->x, i * a->in + j) *
                    ref_load(a->t, a->w, w + o * a->in + j);
            ref_store(a->t, a->y, i * a->out + o, (float)sum);
        }
    for (int64_t i = from; i < to && a->dx; i++)
        for (int64_t j = 0; j < a->in; j++) {
            double sum = 0;
            for (int64_t o = 0; o < a->out; o++)
                sum += (double)ref_load(a->t, a->dy, i * a->out + o) *
                    ref_load(a->t, a->w, w + o * a->in + j);
            ref_store(a->t, a->dx, i * a->in + j, (float)sum);
        }
    for (int64_t o = 0; a->dw && o < a->out; o++)
        for (int64_t j = 0; j < a->in; j++) {
            double sum = a->dw[w + o * a->in + j];
            for (int64_t i = from; i < to; i++)
                sum += (double)ref_load(a->t, a->dy, i * a->out + o) *
                    ref_load(a->t, a->x, i * a->in + j);
            a->dw[w + o * a->in + j] = (float)sum;
        }
}

void op_ref_expert_matmul(struct dev *d, const struct op_expert_matmul *a)
{
    (void)d;
    for (int64_t i = 0; i < a->experts; i++)
        ref_expert_rows(a, a->offset[i], a->offset[i + 1], i * a->ldw);
}

void op_ref_expert_quant_matmul(struct dev *d, const struct op_expert_quant_matmul *a)
{
    for (int64_t i = 0; i < a->experts; i++)
        op_ref_quant_matmul(d,
            &(struct op_quant_matmul){.m = a->offset[i + 1] - a->offset[i],
                .n = a->out,
                .k = a->in,
                .x = a->x + a->offset[i] * a->in,
                .w = (const char *)a->w + i * a->stride,
                .w_type = a->w_type,
                .y = a->y + a->offset[i] * a->out});
}
