/*
 * op_cases_optim: the cases of what a step ends with: the updates of the optimizers, by the norm of
 * the gradient, and sums of two arrays. See op_cases.h.
 */
#include "tests/kernels/op_cases.h"

#include <math.h>

/* The sum of a gradient's squares, on the device; *clip_norm as `what` asks. */
static const float *gradient_sum(struct parity_run *r, int64_t what, float *clip_norm)
{
    if (!what)
        return NULL;
    float *sumsq = parity_space(r, 1, DTYPE_F32);
    float square = what & INFINITE ? INFINITY : what & NO_NUMBER ? NAN : 30;
    dev_upload(r->d, sumsq, &square, sizeof square);
    *clip_norm = what & CLIPPED ? 1 : 6;
    return sumsq;
}

/* shape: count, type of x, type of y, 1: y is overwritten, 1: divided by the root of a sum */
void op_case_axpby(struct parity_run *r, const int64_t *s)
{
    struct op_axpby a = {
        .count = s[0], .x_type = (enum dtype)s[1], .y_type = (enum dtype)s[2], .a = 0.7f};
    a.b = s[3] ? 0 : -1.3f;
    a.x = parity_input(r, a.count, a.x_type, 2);
    a.y = s[3] ? parity_space(r, a.count, a.y_type) : parity_input(r, a.count, a.y_type, 2);
    float none = 0;
    a.sumsq = s[4] ? gradient_sum(r, UNCLIPPED, &none) : NULL;
    r->ops->axpby(r->d, &a);
    parity_output(r, a.y, a.count, a.y_type, op_case_near(a.y_type, 1e-6));
}

void op_case_sumsq(struct parity_run *r, const int64_t *s)
{
    struct op_sumsq a = {.count = s[0]};
    a.x = parity_input(r, a.count, DTYPE_F32, 1);
    a.out = parity_input(r, 1, DTYPE_F32, 1);
    r->ops->sumsq(r->d, &a);
    parity_output(r, a.out, 1, DTYPE_F32, 1e-6);
}

/* What is kept of count elements: numbers of type `state`; or any codes, with scales. */
static void *kept(struct parity_run *r, int64_t count, enum dtype state, float range, float **scale)
{
    int64_t blocks = (count + OP_STATE_BLOCK - 1) / OP_STATE_BLOCK;
    *scale = state == DTYPE_U8 ? parity_space(r, blocks, DTYPE_F32) : NULL;
    for (int64_t i = 0; i < blocks && *scale; i++) {
        float of_block = range * (float)(1 + i % 3);
        dev_upload(r->d, *scale + i, &of_block, sizeof of_block);
    }
    return parity_input(r, count, state, range);
}

/* Where a number lies between two, rounding it may go either way: by one index, or one unit. */
static void kept_output(
    struct parity_run *r, const void *at, const float *scale, int64_t count, enum dtype state)
{
    parity_output(r, at, count, state,
        state == DTYPE_F32      ? 2e-6
            : state == DTYPE_U8 ? 0x1p-6
                                : 0x1p-7);
    if (scale)
        parity_output(r, scale, (count + OP_STATE_BLOCK - 1) / OP_STATE_BLOCK, DTYPE_F32, 2e-6);
}

/* shape: count, step, 1: with the BF16 copy, what else, type of the state. INFINITE and NO_NUMBER
   are sums that leave everything as it was. */
void op_case_adamw(struct parity_run *r, const int64_t *s)
{
    struct op_adamw a = {.count = s[0], .step = s[1], .lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.95f};
    a.eps = 1e-6f;
    a.weight_decay = 0.1f;
    a.grad_scale = 0.5f;
    a.w = parity_input(r, a.count, DTYPE_F32, 1);
    a.state = (enum dtype)s[4];
    a.seed = 5;
    a.m = kept(r, a.count, a.state, 0.01f, &a.m_scale);
    a.v = kept(r, a.count, a.state, a.state == DTYPE_U8 ? 1e-3f : 0, &a.v_scale);
    a.grad = parity_input(r, a.count, DTYPE_F32, 0.1f);
    a.w16 = s[2] ? parity_input(r, a.count, DTYPE_BF16, 1) : NULL;
    a.sumsq = gradient_sum(r, s[3], &a.clip_norm);
    r->ops->adamw(r->d, &a);
    a.step++;
    r->ops->adamw(r->d, &a);
    parity_output(r, a.w, a.count, DTYPE_F32, 2e-6);
    kept_output(r, a.m, a.m_scale, a.count, a.state);
    kept_output(r, a.v, a.v_scale, a.count, a.state);
    if (a.w16)
        parity_output(r, a.w16, a.count, DTYPE_BF16, 0x1p-7);
}

/* shape: count, 1: with the BF16 copy, what else, 1: with momentum, its type */
void op_case_sgd(struct parity_run *r, const int64_t *s)
{
    struct op_sgd a = {.count = s[0], .lr = 0.1f, .momentum = 0.9f, .weight_decay = 0.1f};
    a.grad_scale = 0.5f;
    a.w = parity_input(r, a.count, DTYPE_F32, 1);
    a.state = (enum dtype)s[4];
    a.seed = 6;
    a.m = s[3] ? kept(r, a.count, a.state, 0.1f, &a.m_scale) : NULL;
    a.grad = parity_input(r, a.count, DTYPE_F32, 0.1f);
    a.w16 = s[1] ? parity_input(r, a.count, DTYPE_BF16, 1) : NULL;
    a.sumsq = gradient_sum(r, s[2], &a.clip_norm);
    r->ops->sgd(r->d, &a);
    r->ops->sgd(r->d, &a);
    parity_output(r, a.w, a.count, DTYPE_F32, 2e-6);
    if (a.m)
        kept_output(r, a.m, a.m_scale, a.count, a.state);
    if (a.w16)
        parity_output(r, a.w16, a.count, DTYPE_BF16, 0x1p-7);
}

/* shape: count, 1: with the BF16 copy, what else, 1: the blend only, type of the momentum. Where
   rounding decides a sign, a weight may differ by twice the rate. */
void op_case_lion(struct parity_run *r, const int64_t *s)
{
    struct op_lion a = {.count = s[0], .lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.99f};
    a.weight_decay = 0.1f;
    a.grad_scale = 0.5f;
    a.w = s[3] ? NULL : parity_input(r, a.count, DTYPE_F32, 1);
    a.state = (enum dtype)s[4];
    a.seed = 7;
    a.m = kept(r, a.count, a.state, 0.01f, &a.m_scale);
    a.grad = parity_input(r, a.count, DTYPE_F32, 0.1f);
    a.w16 = s[1] ? parity_input(r, a.count, DTYPE_BF16, 1) : NULL;
    a.blend = s[3] ? parity_input(r, a.count, DTYPE_F32, 1) : NULL;
    a.sumsq = gradient_sum(r, s[2], &a.clip_norm);
    r->ops->lion(r->d, &a);
    r->ops->lion(r->d, &a);
    kept_output(r, a.m, a.m_scale, a.count, a.state);
    if (a.blend)
        parity_output(r, a.blend, a.count, DTYPE_F32, 2e-6);
    if (a.w)
        parity_output(r, a.w, a.count, DTYPE_F32, 2e-6);
    if (a.w16)
        parity_output(r, a.w16, a.count, DTYPE_BF16, 0x1p-7);
}

/* shape: count; every third weight is 0, or -0 */
void op_case_mask(struct parity_run *r, const int64_t *s)
{
    struct op_mask a = {.count = s[0], .x = parity_input(r, s[0], DTYPE_F32, 1)};
    float *w = parity_input(r, a.count, DTYPE_F32, 1), zero[] = {0, -0.0f};
    for (int64_t i = 0; i < a.count; i += 3)
        dev_upload(r->d, w + i, &zero[i % 2], sizeof *zero);
    a.w = w;
    r->ops->mask(r->d, &a);
    parity_output(r, a.x, a.count, DTYPE_F32, 1e-30);
}

/* shape: count, what else */
void op_case_importance(struct parity_run *r, const int64_t *s)
{
    struct op_importance a = {.count = s[0], .beta1 = 0.85f, .beta2 = 0.7f};
    a.w = parity_input(r, a.count, DTYPE_F32, 1);
    a.grad = parity_input(r, a.count, DTYPE_F32, 0.1f);
    a.mean = parity_input(r, a.count, DTYPE_F32, 0.01f);
    a.spread = parity_input(r, a.count, DTYPE_F32, 0.01f);
    a.sumsq = gradient_sum(r, s[1], &a.clip_norm);
    r->ops->importance(r->d, &a);
    r->ops->importance(r->d, &a);
    parity_output(r, a.mean, a.count, DTYPE_F32, 2e-6);
    parity_output(r, a.spread, a.count, DTYPE_F32, 2e-6);
}

/* shape: rows, cols, step, 1: with the BF16 copy, what else, 1: a vector */
void op_case_adafactor(struct parity_run *r, const int64_t *s)
{
    struct op_adafactor a = {.rows = s[0], .cols = s[1], .step = s[2], .lr = 0.02f};
    int64_t count = a.rows * a.cols;
    a.weight_decay = 0.1f;
    a.grad_scale = 0.5f;
    a.w = parity_input(r, count, DTYPE_F32, 1);
    a.row = s[5] ? NULL : parity_input(r, a.rows, DTYPE_F32, 0); /* the first step */
    a.col = parity_input(r, a.cols, DTYPE_F32, 0);
    a.grad = parity_input(r, count, DTYPE_F32, 0.1f);
    a.w16 = s[3] ? parity_input(r, count, DTYPE_BF16, 1) : NULL;
    a.sumsq = gradient_sum(r, s[4], &a.clip_norm);
    r->ops->adafactor(r->d, &a);
    a.step++;
    r->ops->adafactor(r->d, &a);
    parity_output(r, a.w, count, DTYPE_F32, 5e-6);
    parity_output(r, a.col, a.cols, DTYPE_F32, 5e-6);
    if (a.row)
        parity_output(r, a.row, a.rows, DTYPE_F32, 5e-6);
    if (a.w16)
        parity_output(r, a.w16, count, DTYPE_BF16, 0x1p-7);
}
