/*
 * adalora: all sums are made by the device's own operations; of the scores, a few numbers a matrix,
 * the host finds the least that stays. Singular values stand together in the flat range, and what
 * goes by value here is laid out as they are. Allocates at open only.
 */
#include "runtime/train/adalora.h"

#include "base/mem.h"
#include "kernels/ops.h"

#include <stdlib.h>

/* -- the schedule -- */

int64_t adalora_budget(const struct adalora_conf *c, int64_t matrices, int64_t step, bool *chooses)
{
    int64_t all = matrices * c->rank, target = matrices * c->target_rank;
    int64_t last = c->steps - c->final_steps;
    *chooses = step == last || (step > c->initial_steps && step < last && step % c->interval == 0);
    if (step <= c->initial_steps)
        return all;
    if (step >= last)
        return target;
    double left = 1 - (double)(step - c->initial_steps) / (double)(last - c->initial_steps);
    return (int64_t)((double)(all - target) * (left * left * left) + (double)target);
}

/* -- life -- */

static const struct tensor *factor_of(
    const struct adalora *a, const struct tensor *e, enum tensor_part part)
{
    return tensors_get(a->trained, e->role, part, e->layer, e->expert);
}

void adalora_describe(struct adalora *a, const struct adalora_conf *c,
    const struct tensors *trained, int64_t first, int64_t end)
{
    *a = (struct adalora){.conf = *c, .trained = trained, .first = first, .end = end};
    for (int i = 0; i < trained->count && c->rank; i++) {
        const struct tensor *x = &trained->at[i];
        if (x->part != TENSOR_LORA_E)
            continue;
        a->from = a->matrices++ ? a->from : x->offset;
        a->values = x->offset + x->count - a->from;
    }
}

void adalora_carve(struct adalora *a, struct carve *c)
{
    int64_t r = a->conf.rank;
    if (!a->matrices)
        return;
    a->mean = carve_tensor(c, 1, a->end - a->first, DTYPE_F32);
    a->spread = carve_tensor(c, 1, a->end - a->first, DTYPE_F32);
    a->kept = carve_tensor(c, 1, a->values, DTYPE_F32);
    a->one = carve_tensor(c, r, r, DTYPE_F32);
    a->gram = carve_tensor(c, r, r, DTYPE_F32);
    a->unit = carve_tensor(c, r, r, DTYPE_F32);
    a->sum = carve_tensor(c, 1, 1, DTYPE_F32);
    a->score = carve_tensor(c, 3, a->values, DTYPE_F32);
}

int adalora_open(struct adalora *a, struct dev *d, struct err *e)
{
    static const float one = 1;
    a->dev = d;
    if (!a->matrices)
        return 0;
    a->host = mem_array((size_t)(4 * a->values), sizeof *a->host);
    if (!a->host)
        return err_set(e, ERR_MEMORY, "no memory for the ranks of adapters");
    for (int64_t j = 0; j < a->conf.rank; j++)
        dev_upload(d, a->one + j * (a->conf.rank + 1), &one, sizeof one);
    return dev_sync(d, e);
}

void adalora_close(struct adalora *a)
{
    mem_free(a->host);
}

static bool is_own(const struct adalora *a, const struct tensor *x)
{
    return x->offset >= a->first && x->offset < a->end;
}

float *adalora_state(
    const struct adalora *a, const struct tensor *x, int k, const char **suffix, int64_t *count)
{
    static const char *const suffixes[ADALORA_STATES] = {".importance", ".spread", ".kept"};
    bool value = x->part == TENSOR_LORA_E;
    if (!a->matrices || x->part < TENSOR_LORA_A || (k == 2 ? !value : !is_own(a, x)))
        return NULL;
    *suffix = suffixes[k];
    *count = x->count;
    if (k == 2)
        return a->kept + (x->offset - a->from);
    return (k ? a->spread : a->mean) + (x->offset - a->first);
}

/* -- orthogonality -- */

/* to (r, r) = beta * to + alpha * A B^T of (r, columns), or A^T B of (columns, r) */
static void multiply_factors(struct adalora *a, const struct tensor *x, const float *left,
    const float *right, float *to, float alpha, float beta)
{
    int64_t r = a->conf.rank;
    bool is_a = x->part == TENSOR_LORA_A;
    OP(a, matmul, .m = r, .n = r, .k = x->count / r, .a = left, .b = right, .c = to,
        .lda = x->shape[1], .ldb = x->shape[1], .ldc = r, .ta = !is_a, .tb = is_a,
        .ab_type = DTYPE_F32, .c_type = DTYPE_F32, .alpha = alpha, .beta = beta);
}

/* Of w |G|, G = A A^T - I: w 2 G A / |G|; of B^T B likewise. gram holds -G. */
static void regularise_factor(
    struct adalora *a, const struct tensor *x, const float *master, float *gradient)
{
    int64_t r = a->conf.rank;
    const float *w = master + x->offset;
    float *dw = gradient + x->offset, by = (float)(a->conf.orthogonal_weight / (double)a->matrices);
    bool is_a = x->part == TENSOR_LORA_A;
    dev_copy(a->dev, a->gram, a->one, (size_t)(r * r) * sizeof *a->one);
    multiply_factors(a, x, w, w, a->gram, -1, 1);
    dev_zero(a->dev, a->sum, sizeof *a->sum);
    OP(a, sumsq, .count = r * r, .x = a->gram, .out = a->sum);
    OP(a, axpby, .count = r * r, .x = a->gram, .x_type = DTYPE_F32, .y = a->unit,
        .y_type = DTYPE_F32, .a = -by, .sumsq = a->sum);
    OP(a, matmul, .m = x->shape[0], .n = x->shape[1], .k = r, .a = is_a ? a->unit : w,
        .b = is_a ? w : a->unit, .c = dw, .lda = r, .ldb = x->shape[1], .ldc = x->shape[1],
        .ab_type = DTYPE_F32, .c_type = DTYPE_F32, .alpha = 1, .beta = 1);
}

void adalora_regularise(struct adalora *a, const float *master, float *gradient)
{
    for (int i = 0; i < a->trained->count && a->matrices && a->conf.orthogonal_weight > 0; i++) {
        const struct tensor *x = &a->trained->at[i];
        if (is_own(a, x) && (x->part == TENSOR_LORA_A || x->part == TENSOR_LORA_B))
            regularise_factor(a, x, master, gradient);
    }
}

/* -- choosing -- */

/* The sums over the elements of a factor that belong to a value, at its place in score: what is on
   the diagonal of a product. */
static void score_factor(struct adalora *a, const struct tensor *x, float *score)
{
    int64_t r = a->conf.rank;
    int64_t at = x->offset - a->first;
    if (!is_own(a, x))
        return;
    multiply_factors(a, x, a->mean + at, a->spread + at, a->gram, 1, 0);
    OP(a, bias_back, .n = r, .c = r, .ld = r, .dy = a->gram, .x = a->one, .dbias = score,
        .t = DTYPE_F32);
}

/* score (3, values): of what this rank keeps state of; the rest stays zero. */
static void score_own(struct adalora *a)
{
    dev_zero(a->dev, a->score, (size_t)(3 * a->values) * sizeof *a->score);
    for (int i = 0; i < a->trained->count; i++) {
        const struct tensor *x = &a->trained->at[i];
        float *score = a->score + (x->offset - a->from);
        if (x->part != TENSOR_LORA_E)
            continue;
        if (is_own(a, x))
            OP(a, scale, .n = 1, .c = x->count, .x = a->mean + (x->offset - a->first),
                .w = a->spread + (x->offset - a->first), .y = score, .t = DTYPE_F32);
        score_factor(a, factor_of(a, x, TENSOR_LORA_A), score + a->values);
        score_factor(a, factor_of(a, x, TENSOR_LORA_B), score + 2 * a->values);
    }
}

/* host (values) = the score of each. */
static int score_values(struct adalora *a, struct coll *c, struct err *e)
{
    float *of_e = a->host, *of_a = of_e + a->values, *of_b = of_a + a->values;
    score_own(a);
    dev_download(a->dev, a->host, a->score, (size_t)(3 * a->values) * sizeof *a->score);
    int rc = dev_sync(a->dev, e);
    if (!rc && c)
        rc = coll_allreduce(c, a->host, 3 * a->values, DTYPE_F32, COLL_SUM, e);
    for (int i = 0; i < a->trained->count && !rc; i++) {
        const struct tensor *x = &a->trained->at[i];
        if (x->part != TENSOR_LORA_E)
            continue;
        int64_t first = x->offset - a->from;
        float columns = (float)factor_of(a, x, TENSOR_LORA_A)->shape[1];
        float rows = (float)factor_of(a, x, TENSOR_LORA_B)->shape[0];
        for (int64_t j = first; j < first + x->count; j++)
            of_e[j] += of_a[j] / columns + of_b[j] / rows;
    }
    return rc;
}

static int compare_scores(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The greatest score that goes when `budget` of the values stay: with its equals. */
static float threshold_of(struct adalora *a, int64_t budget)
{
    float *sorted = a->host + 3 * a->values;
    int64_t n = 0;
    for (int i = 0; i < a->trained->count; i++) {
        const struct tensor *x = &a->trained->at[i];
        for (int64_t j = 0; j < x->count && x->part == TENSOR_LORA_E; j++)
            sorted[n++] = a->host[x->offset - a->from + j];
    }
    qsort(sorted, (size_t)n, sizeof *sorted, compare_scores);
    return budget < n ? sorted[n - budget - 1] : -1;
}

static int choose(struct adalora *a, struct coll *c, int64_t budget, struct err *e)
{
    int rc = score_values(a, c, e);
    if (rc)
        return rc;
    float least = threshold_of(a, budget), *kept = a->host + 3 * a->values;
    for (int64_t j = 0; j < a->values; j++)
        kept[j] = a->host[j] > least ? 1 : 0;
    dev_upload(a->dev, a->kept, kept, (size_t)a->values * sizeof *kept);
    return dev_sync(a->dev, e);
}

void adalora_weigh(struct adalora *a, const float *master, const float *gradient,
    const float *sumsq, float clip_norm, int64_t step)
{
    const struct adalora_conf *c = &a->conf;
    if (a->matrices && a->end > a->first && step < c->steps - c->final_steps)
        OP(a, importance, .count = a->end - a->first, .w = master + a->first,
            .grad = gradient + a->first, .mean = a->mean, .spread = a->spread,
            .beta1 = (float)c->beta1, .beta2 = (float)c->beta2, .sumsq = sumsq,
            .clip_norm = clip_norm);
}

int adalora_choose(struct adalora *a, float *master, struct coll *c, int64_t step, struct err *e)
{
    bool chooses;
    if (!a->matrices)
        return 0;
    int64_t budget = adalora_budget(&a->conf, a->matrices, step, &chooses);
    int rc = chooses ? choose(a, c, budget, e) : 0;
    if (!rc && (chooses || step > a->conf.steps - a->conf.final_steps))
        OP(a, mask, .count = a->values, .x = master + a->from, .w = a->kept);
    return rc;
}
