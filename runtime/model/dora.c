/*
 * dora: lengths are computed anew in each forward, as the root mean square that a norm of the rows
 * of W + s B A finds.
 */
#include "runtime/model/dora.h"

#include "runtime/model/gemm.h"

#include <math.h>

#define LEAST 1e-30f /* so that a row of zeros has a length */

void dora_bind(struct dora *d, const struct model *m, const struct linear_shape *shape,
    int64_t layer, float *gradient)
{
    int count = 0;
    *d = (struct dora){.on = false};
    for (int i = 0; i < shape->pieces; i++) {
        const struct tensor *p = tensors_get(&m->added, shape->role[i], TENSOR_LORA_M, layer, -1);
        if (!p)
            continue;
        d->factor[count].m = m->master ? m->master + p->offset : NULL;
        d->factor[count++].dm = gradient ? gradient + p->offset : NULL;
        d->on = true;
    }
}

void dora_carve(struct dora *d, const struct lora *l, const struct batch *s, struct carve *kept,
    struct carve *scratch)
{
    int64_t rows = 0;
    if (!d->on)
        return;
    for (int i = 0; i < l->count; i++)
        rows = l->factor[i].rows > rows ? l->factor[i].rows : rows;
    d->z = carve_tensor(kept, s->n, l->out, s->t);
    d->inverse = carve_tensor(kept, l->out, 1, DTYPE_F32);
    d->gain = carve_tensor(kept, l->out, 1, DTYPE_F32);
    d->dz = carve_tensor(scratch, s->n, l->out, s->t);
    d->v = carve_tensor(scratch, rows, l->in, s->t);
    d->sums = carve_tensor(scratch, l->out, 1, DTYPE_F32);
}

/* -- lengths -- */

static void set_ones(const struct batch *s, float *to, int64_t n)
{
    static const float ones[1024] = {[0 ... 1023] = 1};
    const int64_t most = sizeof ones / sizeof *ones;
    for (int64_t i = 0; i < n; i += most)
        dev_upload(s->dev, to + i, ones, (size_t)(n - i < most ? n - i : most) * sizeof *ones);
}

/* Of a norm its statistic is wanted: any weights will do. */
static void measure_piece(
    const struct batch *s, const struct dora *d, const struct lora *l, const void *w, int i)
{
    const struct lora_factor *f = &l->factor[i];
    float *inverse = d->inverse + f->row;
    dev_copy(s->dev, d->v, at_element(w, f->row * l->in, s->t),
        (size_t)(f->rows * l->in * dtype_block_bytes(s->t)));
    OP(s, matmul, .m = f->rows, .n = l->in, .k = l->r, .a = f->b,
        .b = at_element(l->a, i * l->r * l->in, s->t), .c = d->v, .lda = l->r, .ldb = l->in,
        .ldc = l->in, .ab_type = s->t, .c_type = s->t, .alpha = l->scale, .beta = 1);
    OP(s, rmsnorm, .n = f->rows, .c = l->in, .eps = LEAST, .x = d->v, .w = l->a, .y = d->v,
        .rstd = inverse, .t = s->t);
    OP(s, axpby, .count = f->rows, .x = inverse, .x_type = DTYPE_F32, .y = inverse,
        .y_type = DTYPE_F32, .a = 1 / sqrtf((float)l->in));
    OP(s, scale, .n = 1, .c = f->rows, .x = d->factor[i].m, .w = inverse, .y = d->gain + f->row,
        .t = DTYPE_F32);
}

static void measure(
    const struct batch *s, const struct dora *d, const struct lora *l, const void *w)
{
    int64_t row = 0;
    for (int i = 0; i < l->count; i++) {
        const struct lora_factor *f = &l->factor[i];
        set_ones(s, d->gain + row, f->row - row);
        measure_piece(s, d, l, w, i);
        row = f->row + f->rows;
    }
    set_ones(s, d->gain + row, l->out - row);
}

/* -- products -- */

void dora_project(
    const struct batch *s, const struct dora *d, const struct lora *l, const void *w, const void *x)
{
    const struct gemm g = {.n = s->n,
        .in = l->in,
        .out = l->out,
        .ldx = l->in,
        .ldy = l->out,
        .t = s->t,
        .y_type = s->t,
        .scale = 1};
    measure(s, d, l, w);
    gemm_forward(s, &g, x, w, d->z);
    lora_forward(s, l, x, d->z, false);
}

void dora_forward(const struct batch *s, const struct dora *d, const struct lora *l, const void *w,
    const void *bias, const void *x, void *y, bool add)
{
    dora_project(s, d, l, w, x);
    OP(s, scale, .n = s->n, .c = l->out, .x = d->z, .w = d->gain, .bias = bias, .y = y,
        .accumulate = add, .t = s->t);
}

const void *dora_backward(
    const struct batch *s, const struct dora *d, const struct lora *l, const void *dy)
{
    dev_zero(s->dev, d->sums, (size_t)l->out * sizeof *d->sums);
    OP(s, bias_back, .n = s->n, .c = l->out, .ld = l->out, .dy = dy, .x = d->z, .dbias = d->sums,
        .t = s->t);
    for (int i = 0; i < l->count; i++) {
        const struct lora_factor *f = &l->factor[i];
        OP(s, scale, .n = 1, .c = f->rows, .x = d->sums + f->row, .w = d->inverse + f->row,
            .y = d->factor[i].dm, .accumulate = true, .t = DTYPE_F32);
    }
    OP(s, scale, .n = s->n, .c = l->out, .x = dy, .w = d->gain, .y = d->dz, .t = s->t);
    return d->dz;
}

/* -- on the host -- */

void dora_lengths(const float *w, int64_t rows, int64_t in, float *out)
{
    for (int64_t o = 0; o < rows; o++) {
        double sum = 0;
        for (int64_t i = 0; i < in; i++)
            sum += (double)w[o * in + i] * (double)w[o * in + i];
        out[o] = (float)sqrt(sum);
    }
}

void dora_merge(float *w, const float *m, int64_t rows, int64_t in)
{
    for (int64_t o = 0; o < rows; o++) {
        float length;
        dora_lengths(w + o * in, 1, in, &length);
        for (int64_t i = 0; i < in && length > 0; i++)
            w[o * in + i] *= m[o] / length;
    }
}
