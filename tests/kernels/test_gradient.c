/*
 * Goal: the backward operations of the reference are the derivatives of its forward operations.
 * Method: for a scalar loss = sum(weights * output) and a random direction u of one input, the
 * central difference (loss(x + h u) - loss(x - h u)) / 2h, summed in double, equals <gradient, u>
 * within 1e-3 of the size of its terms.
 */
#include "tests/kernels/parity.h"

#include <check.h>
#include <math.h>

#define SEED 77

static struct dev *ref;
static struct parity_run run;

static void setup(void)
{
    struct err e = {0};
    ck_assert_int_eq(dev_open("cpu-ref", 0, 1, &ref, &e), 0);
    parity_begin(&run, ref, DTYPE_F32, SEED);
}

static void teardown(void)
{
    parity_end(&run);
    dev_close(ref);
}

/* A loss of the tensors that loss_fn knows: its forward operation, then a weighted sum. */
typedef double loss_fn(void *user);

/* Compares <gradient, u> with the difference along u of the input x (count). */
static void check_gradient(
    const char *what, loss_fn *loss, void *user, float *x, const float *gradient, int64_t count)
{
    const float h = 1e-2f;
    float *u = parity_input(&run, count, DTYPE_F32, 1), *was = parity_space(&run, count, DTYPE_F32);
    double want = 0, size = 0, at[2];
    memcpy(was, x, (size_t)count * sizeof *x);
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < count; i++)
            x[i] = was[i] + (side ? -h : h) * u[i];
        at[side] = loss(user);
    }
    memcpy(x, was, (size_t)count * sizeof *x);
    for (int64_t i = 0; i < count; i++) {
        want += (double)gradient[i] * u[i];
        size += pow((double)gradient[i] * u[i], 2);
    }
    double got = (at[0] - at[1]) / (2 * h), off = fabs(got - want) / (sqrt(size) + 1e-3);
    ck_assert_msg(off < 1e-3, "%s: difference %g, gradient %g, off by %g, seed %d", what, got, want,
        off, SEED);
    ck_assert_msg(size > 0, "%s: no gradient", what);
}

static double weighted(const float *x, const float *w, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (double)x[i] * w[i];
    return sum;
}

static double rmsnorm_loss(void *user)
{
    struct op_rmsnorm *a = user;
    op_ref_rmsnorm(ref, a);
    return weighted(a->y, a->dy, a->n * a->c);
}

START_TEST(test_rmsnorm)
{
    struct op_rmsnorm a = {.n = 5, .c = 33, .eps = 1e-5f, .t = DTYPE_F32};
    a.x = parity_input(&run, a.n * a.c, DTYPE_F32, 2);
    a.w = parity_input(&run, a.c, DTYPE_F32, 2);
    a.y = parity_space(&run, a.n * a.c, DTYPE_F32);
    a.rstd = parity_space(&run, a.n, DTYPE_F32);
    a.dy = parity_input(&run, a.n * a.c, DTYPE_F32, 1);
    a.dx = parity_space(&run, a.n * a.c, DTYPE_F32);
    a.dw = parity_input(&run, a.c, DTYPE_F32, 0);
    op_ref_rmsnorm(ref, &a);
    op_ref_rmsnorm_back(ref, &a);
    check_gradient("dx", rmsnorm_loss, &a, (float *)(uintptr_t)a.x, a.dx, a.n * a.c);
    check_gradient("dw", rmsnorm_loss, &a, (float *)(uintptr_t)a.w, a.dw, a.c);
}
END_TEST

static double layernorm_loss(void *user)
{
    struct op_layernorm *a = user;
    op_ref_layernorm(ref, a);
    return weighted(a->y, a->dy, a->n * a->c);
}

START_TEST(test_layernorm)
{
    struct op_layernorm a = {.n = 5, .c = 33, .eps = 1e-5f, .t = DTYPE_F32};
    float *x = parity_input(&run, a.n * a.c, DTYPE_F32, 2);
    for (int64_t i = 0; i < a.n * a.c; i++)
        x[i] += 3; /* a mean that counts */
    a.x = x;
    a.w = parity_input(&run, a.c, DTYPE_F32, 2);
    a.bias = parity_input(&run, a.c, DTYPE_F32, 1);
    a.y = parity_space(&run, a.n * a.c, DTYPE_F32);
    a.mean = parity_space(&run, a.n, DTYPE_F32);
    a.rstd = parity_space(&run, a.n, DTYPE_F32);
    a.dy = parity_input(&run, a.n * a.c, DTYPE_F32, 1);
    a.dx = parity_space(&run, a.n * a.c, DTYPE_F32);
    a.dw = parity_input(&run, a.c, DTYPE_F32, 0);
    a.dbias = parity_input(&run, a.c, DTYPE_F32, 0);
    op_ref_layernorm(ref, &a);
    op_ref_layernorm_back(ref, &a);
    check_gradient("dx", layernorm_loss, &a, x, a.dx, a.n * a.c);
    check_gradient("dw", layernorm_loss, &a, (float *)(uintptr_t)a.w, a.dw, a.c);
    check_gradient("dbias", layernorm_loss, &a, (float *)(uintptr_t)a.bias, a.dbias, a.c);
}
END_TEST

/* The product's bias and GELU (either form), whose backward operations are bias_back and
   gelu_back. */
struct dense {
    struct op_matmul op;
    const float *dy;
};

static double dense_loss(void *user)
{
    struct dense *f = user;
    op_ref_matmul(ref, &f->op);
    return weighted(f->op.c, f->dy, f->op.m * f->op.n);
}

START_TEST(test_bias_and_gelu)
{
    struct dense f = {.op = {.m = 6, .n = 11, .k = 4, .alpha = 1, .act = OP_ACT_GELU}};
    if (_i)
        f.op.act = OP_ACT_GELU_ERF;
    int64_t count = f.op.m * f.op.n;
    float *dpre = parity_space(&run, count, DTYPE_F32),
          *dbias = parity_input(&run, f.op.n, DTYPE_F32, 0);
    float *one = parity_input(&run, f.op.m * f.op.m, DTYPE_F32, 0);
    f.op.lda = f.op.k;
    f.op.ldb = f.op.ldc = f.op.n;
    f.op.a = parity_input(&run, f.op.m * f.op.k, DTYPE_F32, 1);
    f.op.b = parity_input(&run, f.op.k * f.op.n, DTYPE_F32, 2);
    f.op.bias = parity_input(&run, f.op.n, DTYPE_F32, 1);
    f.op.c = parity_space(&run, count, DTYPE_F32);
    f.op.pre = parity_space(&run, count, DTYPE_F32);
    f.dy = parity_input(&run, count, DTYPE_F32, 1);
    op_ref_matmul(ref, &f.op);
    op_ref_gelu_back(ref,
        &(struct op_gelu_back){.count = count, .x = f.op.pre, .dy = f.dy, .dx = dpre, .erf = _i});
    op_ref_bias_back(ref,
        &(struct op_bias_back){.n = f.op.m, .c = f.op.n, .ld = f.op.n, .dy = dpre, .dbias = dbias});
    check_gradient("dbias", dense_loss, &f, (float *)(uintptr_t)f.op.bias, dbias, f.op.n);

    /* GELU alone: of one times what it was applied to (which the differences have moved). */
    op_ref_matmul(ref, &f.op);
    for (int64_t i = 0; i < f.op.m; i++)
        one[i * (f.op.m + 1)] = 1;
    f.op.a = one;
    f.op.lda = f.op.k = f.op.m;
    f.op.b = f.op.pre;
    f.op.bias = f.op.pre = NULL;
    check_gradient("dx of gelu", dense_loss, &f, (float *)(uintptr_t)f.op.b, dpre, count);
}
END_TEST

struct scale_of {
    struct op_scale op;
    const float *dy;
};

static double scale_loss(void *user)
{
    const struct scale_of *f = user;
    op_ref_scale(ref, &f->op);
    return weighted(f->op.y, f->dy, f->op.n * f->op.c);
}

/* Backward is scale itself, and the column sums of dy * x. */
START_TEST(test_scale)
{
    struct scale_of f = {.op = {.n = 5, .c = 7}};
    int64_t count = f.op.n * f.op.c;
    float *x = parity_input(&run, count, DTYPE_F32, 2),
          *w = parity_input(&run, f.op.c, DTYPE_F32, 2);
    float *dx = parity_space(&run, count, DTYPE_F32), *dw = parity_space(&run, f.op.c, DTYPE_F32);
    f.op.x = x;
    f.op.w = w;
    f.op.bias = parity_input(&run, f.op.c, DTYPE_F32, 1);
    f.op.y = parity_space(&run, count, DTYPE_F32);
    f.dy = parity_input(&run, count, DTYPE_F32, 1);
    op_ref_scale(ref, &(struct op_scale){.n = f.op.n, .c = f.op.c, .x = f.dy, .w = w, .y = dx});
    memset(dw, 0, (size_t)f.op.c * sizeof *dw);
    op_ref_bias_back(ref,
        &(struct op_bias_back){
            .n = f.op.n, .c = f.op.c, .ld = f.op.c, .dy = f.dy, .x = x, .dbias = dw});
    check_gradient("dx", scale_loss, &f, x, dx, count);
    check_gradient("dw", scale_loss, &f, w, dw, f.op.c);
}
END_TEST

struct tanh_of {
    int64_t count;
    const float *x, *dy;
    float *y;
};

static double tanh_loss(void *user)
{
    const struct tanh_of *f = user;
    memcpy(f->y, f->x, (size_t)f->count * sizeof *f->y);
    op_ref_tanh(ref, &(struct op_tanh){.count = f->count, .x = f->y});
    return weighted(f->y, f->dy, f->count);
}

START_TEST(test_tanh)
{
    struct tanh_of f = {.count = 33};
    float *x = parity_input(&run, f.count, DTYPE_F32, 2);
    float *dy = parity_input(&run, f.count, DTYPE_F32, 1);
    float *dx = parity_space(&run, f.count, DTYPE_F32);
    f.x = x;
    f.dy = dy;
    f.y = parity_space(&run, f.count, DTYPE_F32);
    tanh_loss(&f);
    memcpy(dx, dy, (size_t)f.count * sizeof *dx);
    op_ref_tanh_back(ref, &(struct op_tanh){.count = f.count, .x = f.y, .dy = dx});
    check_gradient("dx", tanh_loss, &f, x, dx, f.count);
}
END_TEST

struct activation_of {
    struct op_activate op;
    const float *dy;
};

static double activation_loss(void *user)
{
    const struct activation_of *f = user;
    op_ref_activate(ref, &f->op);
    return weighted(f->op.y, f->dy, f->op.count);
}

/* No input is so near to 0 that a difference would reach over ReLU's corner. */
START_TEST(test_activate)
{
    struct activation_of f = {.op = {.count = 33, .kind = (enum op_activation)_i}};
    float *x = parity_input(&run, f.op.count, DTYPE_F32, 2);
    float *dy = parity_input(&run, f.op.count, DTYPE_F32, 1);
    float *dx = parity_space(&run, f.op.count, DTYPE_F32);
    for (int64_t i = 0; i < f.op.count; i++)
        x[i] += x[i] < 0 ? -0.1f : 0.1f;
    f.op.x = x;
    f.op.y = parity_space(&run, f.op.count, DTYPE_F32);
    f.dy = dy;
    op_ref_activate_back(ref,
        &(struct op_activate){.count = f.op.count, .kind = f.op.kind, .x = x, .dy = dy, .dx = dx});
    check_gradient("dx", activation_loss, &f, x, dx, f.op.count);
}
END_TEST

static double attention_loss(void *user)
{
    struct op_attention *a = user;
    op_ref_attention(ref, a);
    return weighted(a->o, a->dout, a->b * a->tokens * a->h * a->d);
}

/* What stands after the end of a sequence must not count: it is no number where nothing may read
 * it.
 */
static void past_end(const struct op_attention *a, const void *x, int64_t ld, float value)
{
    for (int64_t row = 0; a->length && row < a->b * a->tokens; row++)
        for (int64_t c = 0; row % a->tokens >= a->length[row / a->tokens] && c < ld; c++)
            ((float *)(uintptr_t)x)[row * ld + c] = value;
}

static struct op_attention_drop dropped; /* of what is checked; p 0: none */

static void check_queries(
    bool bidirectional, const int32_t *length, const int32_t *first, int64_t before)
{
    struct op_attention a = {
        .b = 2, .tokens = 9, .h = 4, .g = 2, .d = 6, .scale = 0.4f, .t = DTYPE_F32};
    int64_t rows = a.b * a.tokens, q = rows * a.h * a.d;
    int64_t k = a.b * (before + a.tokens) * a.g * a.d;
    a.before = before;
    a.bidirectional = bidirectional;
    a.length = length;
    a.first = first;
    a.drop = dropped;
    a.ldq = a.h * a.d;
    a.ldk = a.ldv = a.g * a.d;
    a.q = parity_input(&run, q, DTYPE_F32, 1);
    a.k = parity_input(&run, k, DTYPE_F32, 1);
    a.v = parity_input(&run, k, DTYPE_F32, 1);
    a.o = parity_space(&run, q, DTYPE_F32);
    a.lse = parity_space(&run, rows * a.h, DTYPE_F32);
    a.dout = parity_input(&run, q, DTYPE_F32, 1);
    a.dq = parity_space(&run, q, DTYPE_F32);
    a.dk = parity_space(&run, k, DTYPE_F32);
    a.dv = parity_space(&run, k, DTYPE_F32);
    past_end(&a, a.k, a.ldk, NAN);
    past_end(&a, a.v, a.ldv, NAN);
    op_ref_attention(ref, &a);
    op_ref_attention_back(ref, &a);
    past_end(&a, a.k, a.ldk, 0.5f); /* so that it can be moved */
    past_end(&a, a.v, a.ldv, 0.5f);
    check_gradient("dq", attention_loss, &a, (float *)(uintptr_t)a.q, a.dq, q);
    check_gradient("dk", attention_loss, &a, (float *)(uintptr_t)a.k, a.dk, k);
    check_gradient("dv", attention_loss, &a, (float *)(uintptr_t)a.v, a.dv, k);
    for (int64_t i = 0; length && i < q; i++) {
        int64_t row = i / a.ldq;
        if (row % a.tokens >= length[row / a.tokens])
            ck_assert(((float *)a.o)[i] == 0 && ((float *)a.dq)[i] == 0);
    }
}

static void check_attention(bool bidirectional, const int32_t *length, const int32_t *first)
{
    check_queries(bidirectional, length, first, 0);
}

START_TEST(test_attention)
{
    check_attention(false, NULL, NULL);
}
END_TEST

START_TEST(test_attention_lengths)
{
    check_attention(false, (const int32_t[]){4, 9}, NULL);
}
END_TEST

START_TEST(test_attention_bidirectional)
{
    check_attention(true, NULL, NULL);
}
END_TEST

START_TEST(test_attention_bidirectional_lengths)
{
    check_attention(true, (const int32_t[]){9, 1}, NULL);
}
END_TEST

/* A window of three; documents of 1, 4 and 4 tokens, of which five exist. */
static const int32_t firsts[2][9] = {{0, 0, 0, 1, 2, 3, 4, 5, 6}, {0, 1, 1, 1, 1, 5, 5, 5, 5}};

START_TEST(test_attention_first)
{
    check_attention(false, NULL, firsts[0]);
}
END_TEST

START_TEST(test_attention_first_lengths)
{
    check_attention(false, (const int32_t[]){9, 6}, firsts[0]);
}
END_TEST

START_TEST(test_attention_before)
{
    check_queries(false, NULL, NULL, 4);
}
END_TEST

START_TEST(test_attention_before_first)
{
    check_queries(false, NULL, firsts[0], 4);
}
END_TEST

/* With what is left out fixed. */
static const struct op_attention_drop some_dropped = {.p = 0.3f, .seed = 7, .heads = 6, .keys = 13};

START_TEST(test_attention_before_dropout)
{
    dropped = some_dropped;
    check_queries(false, NULL, firsts[0], 4);
    dropped.p = 0;
}
END_TEST

START_TEST(test_attention_bidirectional_dropout)
{
    dropped = some_dropped;
    check_attention(true, (const int32_t[]){9, 5}, NULL);
    dropped.p = 0;
}
END_TEST

/* Some of the queries of a sequence, beside all keys up to the last of them, get what they get
   among all. */
START_TEST(test_before_is_attention_of_some)
{
    struct op_attention a = {
        .b = 1, .tokens = 13, .h = 4, .g = 2, .d = 6, .scale = 0.4f, .t = DTYPE_F32};
    int64_t width = a.h * a.d;
    a.ldq = width;
    a.ldk = a.ldv = a.g * a.d;
    a.q = parity_input(&run, a.tokens * a.ldq, DTYPE_F32, 1);
    a.k = parity_input(&run, a.tokens * a.ldk, DTYPE_F32, 1);
    a.v = parity_input(&run, a.tokens * a.ldv, DTYPE_F32, 1);
    a.o = parity_space(&run, a.tokens * width, DTYPE_F32);
    a.lse = parity_space(&run, a.tokens * a.h, DTYPE_F32);
    op_ref_attention(ref, &a);
    struct op_attention some = a;
    some.before = 5;
    some.tokens = 4;
    some.q = (const float *)a.q + some.before * a.ldq;
    some.o = parity_space(&run, some.tokens * width, DTYPE_F32);
    some.lse = parity_space(&run, some.tokens * a.h, DTYPE_F32);
    op_ref_attention(ref, &some);
    for (int64_t i = 0; i < some.tokens * width; i++)
        ck_assert_float_eq(((float *)some.o)[i], ((float *)a.o)[some.before * width + i]);
    for (int64_t h = 0; h < a.h; h++)
        for (int64_t i = 0; i < some.tokens; i++)
            ck_assert_float_eq(
                some.lse[h * some.tokens + i], a.lse[h * a.tokens + some.before + i]);
}
END_TEST

/* What is not seen moves nothing: a row is that of its own keys alone. */
START_TEST(test_first_is_attention_of_fewer)
{
    struct op_attention a = {
        .b = 2, .tokens = 9, .h = 4, .g = 2, .d = 6, .scale = 0.4f, .t = DTYPE_F32};
    int64_t rows = a.b * a.tokens, width = a.h * a.d;
    a.ldq = width;
    a.ldk = a.ldv = a.g * a.d;
    a.q = parity_input(&run, rows * a.ldq, DTYPE_F32, 1);
    a.k = parity_input(&run, rows * a.ldk, DTYPE_F32, 1);
    a.v = parity_input(&run, rows * a.ldv, DTYPE_F32, 1);
    a.o = parity_space(&run, rows * width, DTYPE_F32);
    a.lse = parity_space(&run, rows * a.h, DTYPE_F32);
    a.first = firsts[0];
    op_ref_attention(ref, &a);
    const float *o = a.o;
    float *own_o = parity_space(&run, a.tokens * width, DTYPE_F32);
    float *own_lse = parity_space(&run, a.tokens * a.h, DTYPE_F32);
    for (int64_t row = 0; row < rows; row++) { /* one row each, from its first key on */
        int64_t b = row / a.tokens, from = firsts[b][row % a.tokens], at = b * a.tokens + from;
        struct op_attention own = a;
        own.first = NULL;
        own.b = 1;
        own.tokens = row - at + 1;
        own.q = (const float *)a.q + at * a.ldq;
        own.k = (const float *)a.k + at * a.ldk;
        own.v = (const float *)a.v + at * a.ldv;
        own.o = own_o;
        own.lse = own_lse;
        op_ref_attention(ref, &own);
        const float *last = own_o + (own.tokens - 1) * width;
        for (int64_t i = 0; i < width; i++)
            ck_assert_float_eq_tol(o[row * width + i], last[i], 1e-6f);
    }
}
END_TEST

static double swiglu_loss(void *user)
{
    struct op_swiglu *a = user;
    op_ref_swiglu(ref, a);
    return weighted(a->y, a->dy, a->n * a->f);
}

START_TEST(test_swiglu)
{
    struct op_swiglu a = {.n = 7, .f = 19, .ld = 19, .t = DTYPE_F32};
    int64_t count = a.n * a.f;
    a.gate = parity_input(&run, count, DTYPE_F32, 3);
    a.up = parity_input(&run, count, DTYPE_F32, 2);
    a.y = parity_space(&run, count, DTYPE_F32);
    a.dy = parity_input(&run, count, DTYPE_F32, 1);
    a.dgate = parity_space(&run, count, DTYPE_F32);
    a.dup = parity_space(&run, count, DTYPE_F32);
    op_ref_swiglu_back(ref, &a);
    check_gradient("dgate", swiglu_loss, &a, (float *)(uintptr_t)a.gate, a.dgate, count);
    check_gradient("dup", swiglu_loss, &a, (float *)(uintptr_t)a.up, a.dup, count);
}
END_TEST

static double xent_loss(void *user)
{
    struct op_xent *a = user;
    double sum = 0;
    op_ref_xent(ref, a);
    for (int64_t i = 0; i < a->n; i++)
        sum += a->loss[i] * (double)a->scale;
    return sum;
}

START_TEST(test_xent)
{
    struct op_xent a = {.n = 6, .v = 37, .ld = 37, .scale = 0.3f, .t = DTYPE_F32};
    int32_t *target = parity_ids(&run, a.n, (int32_t)a.v);
    float *gradient = parity_space(&run, a.n * a.v, DTYPE_F32);
    target[2] = -1;
    a.target = target;
    a.logits = parity_input(&run, a.n * a.v, DTYPE_F32, 2);
    a.loss = parity_space(&run, a.n, DTYPE_F32);
    struct op_xent back = a;
    back.logits = gradient;
    back.backward = true;
    memcpy(gradient, a.logits, (size_t)(a.n * a.v) * sizeof(float));
    op_ref_xent(ref, &back);
    check_gradient("dlogits", xent_loss, &a, a.logits, gradient, a.n * a.v);
}
END_TEST

/* The loss alone: the gradient goes where nobody looks. */
static double distill_loss(void *user)
{
    const struct op_distill *a = user;
    static uint16_t unread[6 * 37];
    struct op_distill forward = *a;
    double sum = 0;
    forward.gradient16 = unread;
    op_ref_distill(ref, &forward);
    for (int64_t i = 0; i < a->n; i++)
        sum += a->loss[i] * (double)a->scale;
    return sum;
}

START_TEST(test_distill)
{
    struct op_distill a = {
        .n = 6, .v = 37, .ld = 37, .scale = 0.3f, .weight = 0.7f, .temperature = 3};
    int32_t *target = parity_ids(&run, a.n, (int32_t)a.v);
    float *gradient = parity_space(&run, a.n * a.v, DTYPE_F32);
    target[2] = -1;
    a.target = target;
    a.logits = parity_input(&run, a.n * a.v, DTYPE_F32, 2);
    a.teacher = parity_input(&run, a.n * a.v, DTYPE_F32, 2);
    a.loss = parity_space(&run, a.n, DTYPE_F32);
    struct op_distill back = a;
    back.logits = gradient;
    memcpy(gradient, a.logits, (size_t)(a.n * a.v) * sizeof(float));
    op_ref_distill(ref, &back);
    check_gradient("dlogits", distill_loss, &a, a.logits, gradient, a.n * a.v);
}
END_TEST

/* rope is linear and orthogonal: its derivative is its inverse, <rope x, y> = <x, inverse y>; and
 * it undoes itself. */
START_TEST(test_rope)
{
    struct op_rope a = {.n = 6, .heads = 3, .d = 8, .ld = 26, .theta = 100, .t = DTYPE_F32};
    int64_t count = a.n * a.ld;
    float *x = parity_input(&run, count, DTYPE_F32, 1),
          *y = parity_input(&run, count, DTYPE_F32, 1);
    float *x0 = parity_space(&run, count, DTYPE_F32), *y0 = parity_space(&run, count, DTYPE_F32);
    memcpy(x0, x, (size_t)count * sizeof(float));
    memcpy(y0, y, (size_t)count * sizeof(float));
    a.position = parity_ids(&run, a.n, 500);
    a.x = x;
    op_ref_rope(ref, &a);
    ck_assert_int_ne(memcmp(x, x0, (size_t)count * sizeof(float)), 0);
    a.x = y;
    a.inverse = true;
    op_ref_rope(ref, &a);
    ck_assert_double_eq_tol(weighted(x, y0, count), weighted(x0, y, count), 1e-5);
    a.x = x;
    op_ref_rope(ref, &a);
    for (int64_t i = 0; i < count; i++)
        ck_assert_float_eq_tol(x[i], x0[i], 1e-6f);
}
END_TEST

static double embed_loss(void *user)
{
    struct op_embed *a = user;
    op_ref_embed(ref, a);
    return weighted(a->out, a->dout, a->n * a->c);
}

START_TEST(test_embed)
{
    struct op_embed a = {.n = 20, .c = 7, .v = 5, .t = DTYPE_F32};
    a.ids = parity_ids(&run, a.n, (int32_t)a.v);
    a.table_type = a.t;
    a.table = parity_input(&run, a.v * a.c, DTYPE_F32, 1);
    a.out = parity_space(&run, a.n * a.c, DTYPE_F32);
    a.dout = parity_input(&run, a.n * a.c, DTYPE_F32, 1);
    a.dtable = parity_input(&run, a.v * a.c, DTYPE_F32, 0);
    op_ref_embed_back(ref, &a);
    check_gradient("dtable", embed_loss, &a, (float *)(uintptr_t)a.table, a.dtable, a.v * a.c);
}
END_TEST

/* Decoding with a cache gives the last row of attention over the same tokens: all, or a window. */
START_TEST(test_decode_is_attention)
{
    static const int32_t window_of_four[18] = {
        0, 0, 0, 0, 1, 2, 3, 4, 5, 0, 0, 0, 0, 1, 2, 3, 4, 5};
    struct op_attention a = {
        .b = 2, .tokens = 9, .h = 4, .g = 2, .d = 6, .scale = 0.4f, .t = DTYPE_F32};
    int64_t rows = a.b * a.tokens, width = a.h * a.d;
    a.ldq = width;
    a.ldk = a.ldv = a.g * a.d;
    a.q = parity_input(&run, rows * width, DTYPE_F32, 1);
    a.k = parity_input(&run, rows * a.ldk, DTYPE_F32, 1);
    a.v = parity_input(&run, rows * a.ldv, DTYPE_F32, 1);
    a.o = parity_space(&run, rows * width, DTYPE_F32);
    a.lse = parity_space(&run, rows * a.h, DTYPE_F32);
    a.first = _i ? window_of_four : NULL;
    op_ref_attention(ref, &a);
    int32_t length[] = {9, 9};
    float q[48], o[48];
    struct op_attention_decode one = {
        .n = 2, .h = 4, .g = 2, .d = 6, .scale = 0.4f, .kv_type = DTYPE_F32};
    for (int64_t i = 0; i < 2; i++)
        memcpy(
            q + i * width, (const float *)a.q + (i * 9 + 8) * width, (size_t)width * sizeof(float));
    one.q = q;
    one.o = o;
    one.k_cache = a.k;
    one.v_cache = a.v;
    one.sequence_stride = a.tokens * a.ldk;
    one.length = length;
    one.window = _i ? 4 : 0;
    op_ref_attention_decode(ref, &one);
    for (int64_t i = 0; i < 2 * width; i++)
        ck_assert_float_eq_tol(
            o[i], ((float *)a.o)[(i / width * 9 + 8) * width + i % width], 1e-6f);
}
END_TEST

/* -- experts -- */

struct routed {
    struct op_route op;
    float *logits, *p, *chosen; /* what op.p is made of; the loss' own; counts of the first run */
};

/* The weights and, as far as the choice stays, the balance: count * p. */
static double route_loss(void *user)
{
    struct routed *r = user;
    struct op_route a = r->op;
    double loss = 0;
    memcpy(r->p, r->logits, (size_t)(a.n * a.e) * sizeof *r->p);
    a.p = r->p;
    a.count = NULL;
    op_ref_route(ref, &a);
    for (int64_t i = 0; i < a.n; i++)
        for (int64_t j = 0; a.balance && i % a.tokens < a.length[i / a.tokens] && j < a.e; j++)
            loss += (double)a.balance[i / a.tokens] * r->chosen[i / a.tokens * a.e + j] *
                r->p[i * a.e + j];
    return loss + weighted(a.weight, a.dweight, a.n * a.k);
}

START_TEST(test_route)
{
    struct routed r = {.op = {.n = 10, .e = 6, .k = 3, .tokens = 5, .t = DTYPE_F32}};
    struct op_route *a = &r.op;
    int32_t length[] = {5, 3};
    a->normalized = _i % 2;
    r.logits = parity_input(&run, a->n * a->e, DTYPE_F32, 3);
    r.p = parity_space(&run, a->n * a->e, DTYPE_F32);
    a->p = parity_space(&run, a->n * a->e, DTYPE_F32);
    memcpy(a->p, r.logits, (size_t)(a->n * a->e) * sizeof(float));
    a->expert = parity_ids(&run, a->n * a->k, 1);
    a->weight = parity_space(&run, a->n * a->k, DTYPE_F32);
    a->length = length;
    a->count = r.chosen = parity_input(&run, 2 * a->e, DTYPE_F32, 0);
    op_ref_route(ref, a);
    a->dweight = parity_input(&run, a->n * a->k, DTYPE_F32, 1);
    a->balance = _i / 2 ? parity_input(&run, 2, DTYPE_F32, 0.5f) : NULL;
    a->dlogits = parity_space(&run, a->n * a->e, DTYPE_F32);
    op_ref_route_back(ref, a);
    check_gradient("dlogits", route_loss, &r, r.logits, a->dlogits, a->n * a->e);
}
END_TEST

/* Of a row the k greatest, the greatest first, of equals the first; no number comes last. */
START_TEST(test_route_chooses)
{
    float p[] = {1, 3, 3, 2, NAN, INFINITY, NAN, NAN, -INFINITY, 2, 2, 2};
    static const int32_t want[] = {1, 2, 3, 1, 0, 2, 1, 2, 3};
    int32_t expert[9];
    float weight[9];
    struct op_route a = {.n = 3, .e = 4, .k = 3, .tokens = 3, .normalized = true, .p = p};
    a.expert = expert;
    a.weight = weight;
    op_ref_route(ref, &a);
    ck_assert_mem_eq(expert, want, sizeof want);
    ck_assert_float_eq_tol(weight[0] + weight[1] + weight[2], 1, 1e-6f);
}
END_TEST

struct weighed {
    struct op_expert_weigh op;
    float *x, *dy, *out; /* before it; the weights of the loss; its result */
};

static double weigh_loss(void *user)
{
    struct weighed *w = user;
    struct op_expert_weigh a = w->op;
    memcpy(w->out, w->x, (size_t)(a.n * a.c) * sizeof *w->out);
    a.x = w->out;
    a.dy = NULL;
    op_ref_expert_weigh(ref, &a);
    return weighted(w->out, w->dy, a.n * a.c);
}

START_TEST(test_expert_weigh)
{
    static const int32_t row[] = {3, 0, 4, 1, 2};
    struct weighed w = {.op = {.n = 5, .c = 7, .row = row, .t = DTYPE_F32}};
    struct op_expert_weigh *a = &w.op;
    size_t bytes = (size_t)(a->n * a->c) * sizeof(float);
    w.x = parity_input(&run, a->n * a->c, DTYPE_F32, 1);
    w.dy = parity_input(&run, a->n * a->c, DTYPE_F32, 1);
    w.out = parity_space(&run, a->n * a->c, DTYPE_F32);
    a->weight = parity_input(&run, a->n, DTYPE_F32, 1);
    a->x = memcpy(parity_space(&run, a->n * a->c, DTYPE_F32), w.x, bytes);
    a->dy = memcpy(parity_space(&run, a->n * a->c, DTYPE_F32), w.dy, bytes);
    a->dweight = parity_space(&run, a->n, DTYPE_F32);
    op_ref_expert_weigh(ref, a);
    check_gradient("dx", weigh_loss, &w, w.x, a->dy, a->n * a->c);
    check_gradient("dweight", weigh_loss, &w, (float *)(uintptr_t)a->weight, a->dweight, a->n);
}
END_TEST

static double experts_loss(void *user)
{
    struct op_expert_matmul a = *(struct op_expert_matmul *)user;
    a.dx = NULL;
    a.dw = NULL;
    op_ref_expert_matmul(ref, &a);
    return weighted(a.y, a.dy, a.n * a.out);
}

START_TEST(test_expert_matmul)
{
    static const int32_t offset[] = {0, 4, 4, 9};
    struct op_expert_matmul a = {
        .n = 9, .experts = 3, .in = 7, .out = 5, .ldw = 35, .offset = offset, .t = DTYPE_F32};
    float *x = parity_input(&run, a.n * a.in, DTYPE_F32, 1);
    float *w = parity_input(&run, a.experts * a.ldw, DTYPE_F32, 1);
    a.x = x;
    a.w = w;
    a.dy = parity_input(&run, a.n * a.out, DTYPE_F32, 1);
    a.y = parity_space(&run, a.n * a.out, DTYPE_F32);
    a.dx = parity_space(&run, a.n * a.in, DTYPE_F32);
    a.dw = parity_input(&run, a.experts * a.ldw, DTYPE_F32, 0);
    op_ref_expert_matmul(ref, &a);
    check_gradient("dx", experts_loss, &a, x, a.dx, a.n * a.in);
    check_gradient("dw", experts_loss, &a, w, a.dw, a.experts * a.ldw);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("gradient");
    TCase *t = tcase_create("gradient");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_rmsnorm);
    tcase_add_test(t, test_layernorm);
    tcase_add_loop_test(t, test_bias_and_gelu, 0, 2);
    tcase_add_test(t, test_scale);
    tcase_add_test(t, test_tanh);
    tcase_add_loop_test(t, test_activate, OP_RELU, OP_SILU + 1);
    tcase_add_test(t, test_attention);
    tcase_add_test(t, test_attention_lengths);
    tcase_add_test(t, test_attention_bidirectional);
    tcase_add_test(t, test_attention_bidirectional_lengths);
    tcase_add_test(t, test_attention_first);
    tcase_add_test(t, test_attention_first_lengths);
    tcase_add_test(t, test_attention_before);
    tcase_add_test(t, test_attention_before_first);
    tcase_add_test(t, test_attention_before_dropout);
    tcase_add_test(t, test_attention_bidirectional_dropout);
    tcase_add_test(t, test_before_is_attention_of_some);
    tcase_add_test(t, test_first_is_attention_of_fewer);
    tcase_add_test(t, test_swiglu);
    tcase_add_test(t, test_xent);
    tcase_add_test(t, test_distill);
    tcase_add_loop_test(t, test_route, 0, 4);
    tcase_add_test(t, test_route_chooses);
    tcase_add_test(t, test_expert_weigh);
    tcase_add_test(t, test_expert_matmul);
    tcase_add_test(t, test_rope);
    tcase_add_test(t, test_embed);
    tcase_add_loop_test(t, test_decode_is_attention, 0, 2);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
