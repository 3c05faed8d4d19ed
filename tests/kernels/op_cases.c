/*
 * op_cases: see op_cases.h. Shapes include one element, odd sizes, sizes beside a block's, and the
 * largest dimensions in use. Tolerances: F32 results differ by the order of sums and by fused
 * rounding; BF16 and F16 results by one rounding of the result (2^-8, 2^-11) more.
 */
#include "tests/kernels/op_cases.h"

#include "base/mem.h"

#include <math.h>

double op_case_near(enum dtype t, double f32)
{
    return t == DTYPE_F32 ? f32 : t == DTYPE_BF16 ? 0x1p-7 : 0x1p-10;
}

#define BIAS 1
#define GELU 2
#define PRE  4
#define ERF  8 /* the exact GELU */
/* shape: m, n, k, ta, tb, beta, padding of each leading dimension, result (0: F32; 1: of the
   operands' type; 2, 3: likewise, but BF16, F16 of F32), what follows */
static void case_matmul(struct parity_run *r, const int64_t *s)
{
    struct op_matmul a = {
        .m = s[0], .n = s[1], .k = s[2], .ta = s[3], .tb = s[4], .beta = (float)s[5]};
    a.alpha = s[5] ? 0.5f : 1;
    a.ab_type = r->t;
    a.c_type = s[7] > 1 && r->t == DTYPE_F32 ? (enum dtype)(s[7] - 1) : s[7] ? r->t : DTYPE_F32;
    a.lda = (a.ta ? a.m : a.k) + s[6];
    a.ldb = (a.tb ? a.k : a.n) + s[6];
    a.ldc = a.n + s[6];
    a.a = parity_input(r, (a.ta ? a.k : a.m) * a.lda, r->t, 1);
    a.b = parity_input(r, (a.tb ? a.n : a.k) * a.ldb, r->t, 1);
    a.c = parity_input(r, a.m * a.ldc, a.c_type, 1);
    if (s[8] & BIAS)
        a.bias = parity_input(r, a.n, r->t, 3);
    if (s[8] & PRE)
        a.pre = parity_input(r, a.m * a.ldc, a.c_type, 1);
    a.act = s[8] & ERF ? OP_ACT_GELU_ERF : s[8] & GELU ? OP_ACT_GELU : OP_ACT_NONE;
    r->ops->matmul(r->d, &a);
    parity_output(r, a.c, a.m * a.ldc, a.c_type, op_case_near(a.c_type, 2e-5));
    if (a.pre)
        parity_output(r, a.pre, a.m * a.ldc, a.c_type, op_case_near(a.c_type, 2e-5));
}

/* shape: n, c, v, 1: adds to out, type of the table when out is F32, if not F32, a row's padding */
static void case_embed(struct parity_run *r, const int64_t *s)
{
    struct op_embed a = {.n = s[0], .c = s[1], .v = s[2], .t = r->t};
    a.ids = parity_ids(r, a.n, (int32_t)a.v);
    a.table_type = r->t == DTYPE_F32 ? (enum dtype)s[4] : r->t;
    a.ld_table = s[5] ? a.c + s[5] : 0;
    a.ld_out = s[5] ? a.c + 2 * s[5] : 0;
    a.table = parity_blocks(r, a.v * (a.c + s[5]), a.table_type);
    a.accumulate = s[3];
    a.out = parity_input(r, a.n * (a.c + 2 * s[5]), r->t, 1);
    r->ops->embed(r->d, &a);
    parity_output(r, a.out, a.n * (a.c + 2 * s[5]), r->t, 1e-30);
}

static void case_embed_back(struct parity_run *r, const int64_t *s)
{
    struct op_embed a = {.n = s[0], .c = s[1], .v = s[2], .t = r->t};
    a.ids = parity_ids(r, a.n, (int32_t)a.v);
    a.dout = parity_input(r, a.n * a.c, r->t, 1);
    a.dtable = parity_input(r, a.v * a.c, DTYPE_F32, 1);
    r->ops->embed_back(r->d, &a);
    parity_output(r, a.dtable, a.v * a.c, DTYPE_F32, 1e-6);
}

/* shape: n, c, 1: dx accumulates, 1: w is frozen, rows of a group or 0, padding of a group. What is
   between groups keeps its values. */
static struct op_rmsnorm rmsnorm_of(
    struct parity_run *r, const int64_t *s, int64_t *in, int64_t *out)
{
    struct op_rmsnorm a = {.n = s[0], .c = s[1], .eps = 1e-5f, .group = s[4], .t = r->t};
    a.ldx = a.group ? a.group * a.c + s[5] : 0;
    a.ldy = a.group ? a.group * a.c + 2 * s[5] : 0;
    *in = a.group ? a.n / a.group * a.ldx : a.n * a.c;
    *out = a.group ? a.n / a.group * a.ldy : a.n * a.c;
    return a;
}

static void case_rmsnorm(struct parity_run *r, const int64_t *s)
{
    int64_t in, out;
    struct op_rmsnorm a = rmsnorm_of(r, s, &in, &out);
    a.x = parity_input(r, in, r->t, 3);
    a.w = parity_input(r, a.c, r->t, 2);
    a.y = a.group ? parity_input(r, out, r->t, 1) : parity_space(r, out, r->t);
    a.rstd = parity_space(r, a.n, DTYPE_F32);
    r->ops->rmsnorm(r->d, &a);
    parity_output(r, a.y, out, r->t, op_case_near(r->t, 2e-6));
    parity_output(r, a.rstd, a.n, DTYPE_F32, 2e-6);
}

static void case_rmsnorm_back(struct parity_run *r, const int64_t *s)
{
    int64_t in, out;
    struct op_rmsnorm a = rmsnorm_of(r, s, &in, &out);
    a.accumulate = s[2];
    a.x = parity_input(r, in, r->t, 3);
    a.w = parity_input(r, a.c, r->t, 2);
    a.rstd = parity_input(r, a.n, DTYPE_F32, 1);
    a.dy = parity_input(r, out, r->t, 1);
    a.dx = s[2] || a.group ? parity_input(r, in, r->t, 1) : parity_space(r, in, r->t);
    a.dw = s[3] ? NULL : parity_input(r, a.c, DTYPE_F32, 1);
    r->ops->rmsnorm_back(r->d, &a);
    parity_output(r, a.dx, in, r->t, op_case_near(r->t, 1e-5));
    if (a.dw)
        parity_output(r, a.dw, a.c, DTYPE_F32, 1e-5);
}

/* shape: n, c, 1: no bias */
static void case_layernorm(struct parity_run *r, const int64_t *s)
{
    struct op_layernorm a = {.n = s[0], .c = s[1], .eps = 1e-5f, .t = r->t};
    a.x = parity_input(r, a.n * a.c, r->t, 3);
    a.w = parity_input(r, a.c, r->t, 2);
    a.bias = s[2] ? NULL : parity_input(r, a.c, r->t, 1);
    a.y = parity_space(r, a.n * a.c, r->t);
    a.mean = parity_space(r, a.n, DTYPE_F32);
    a.rstd = parity_space(r, a.n, DTYPE_F32);
    r->ops->layernorm(r->d, &a);
    parity_output(r, a.y, a.n * a.c, r->t, op_case_near(r->t, 5e-6));
    parity_output(r, a.mean, a.n, DTYPE_F32, 2e-5);
    parity_output(r, a.rstd, a.n, DTYPE_F32, 5e-6);
}

/* shape: n, c, 1: dx accumulates, 1: w is frozen, 1: bias is */
static void case_layernorm_back(struct parity_run *r, const int64_t *s)
{
    struct op_layernorm a = {.n = s[0], .c = s[1], .accumulate = s[2], .t = r->t};
    a.x = parity_input(r, a.n * a.c, r->t, 3);
    a.w = parity_input(r, a.c, r->t, 2);
    a.mean = parity_input(r, a.n, DTYPE_F32, 1);
    a.rstd = parity_input(r, a.n, DTYPE_F32, 1);
    a.dy = parity_input(r, a.n * a.c, r->t, 1);
    a.dx = s[2] ? parity_input(r, a.n * a.c, r->t, 1) : parity_space(r, a.n * a.c, r->t);
    a.dw = s[3] ? NULL : parity_input(r, a.c, DTYPE_F32, 1);
    a.dbias = s[4] ? NULL : parity_input(r, a.c, DTYPE_F32, 1);
    r->ops->layernorm_back(r->d, &a);
    parity_output(r, a.dx, a.n * a.c, r->t, op_case_near(r->t, 1e-5));
    if (a.dw)
        parity_output(r, a.dw, a.c, DTYPE_F32, 1e-5);
    if (a.dbias)
        parity_output(r, a.dbias, a.c, DTYPE_F32, 1e-5);
}

/* shape: n, c, padding of a row, 1: times x */
static void case_bias_back(struct parity_run *r, const int64_t *s)
{
    struct op_bias_back a = {.n = s[0], .c = s[1], .ld = s[1] + s[2], .t = r->t};
    a.dy = parity_input(r, a.n * a.ld, r->t, 1);
    a.x = s[3] ? parity_input(r, a.n * a.ld, r->t, 1) : NULL;
    a.dbias = parity_input(r, a.c, DTYPE_F32, 1);
    r->ops->bias_back(r->d, &a);
    parity_output(r, a.dbias, a.c, DTYPE_F32, 1e-5);
}

/* shape: n, c, 1: with bias, 1: accumulate, 1: in place */
static void case_scale(struct parity_run *r, const int64_t *s)
{
    struct op_scale a = {.n = s[0], .c = s[1], .accumulate = s[3], .t = r->t};
    void *x = parity_input(r, a.n * a.c, r->t, 2);
    a.x = x;
    a.w = parity_input(r, a.c, DTYPE_F32, 2);
    a.bias = s[2] ? parity_input(r, a.c, r->t, 1) : NULL;
    a.y = s[4] ? x : parity_input(r, a.n * a.c, r->t, 1);
    r->ops->scale(r->d, &a);
    parity_output(r, a.y, a.n * a.c, r->t, op_case_near(r->t, 1e-6));
}

/* shape: count, 1: in place, 1: the exact form */
static void case_gelu_back(struct parity_run *r, const int64_t *s)
{
    struct op_gelu_back a = {.count = s[0], .erf = s[2], .t = r->t};
    void *dy = parity_input(r, a.count, r->t, 1);
    a.x = parity_input(r, a.count, r->t, 12);
    a.dy = dy;
    a.dx = s[1] ? dy : parity_space(r, a.count, r->t);
    r->ops->gelu_back(r->d, &a);
    parity_output(r, a.dx, a.count, r->t, op_case_near(r->t, 5e-6));
}

/* shape: count */
static void case_tanh(struct parity_run *r, const int64_t *s)
{
    struct op_tanh a = {.count = s[0], .t = r->t};
    a.x = parity_input(r, a.count, r->t, 12);
    r->ops->tanh(r->d, &a);
    parity_output(r, a.x, a.count, r->t, op_case_near(r->t, 1e-6));
}

/* shape: count */
static void case_tanh_back(struct parity_run *r, const int64_t *s)
{
    struct op_tanh a = {.count = s[0], .t = r->t};
    a.x = parity_input(r, a.count, r->t, 1);
    a.dy = parity_input(r, a.count, r->t, 2);
    r->ops->tanh_back(r->d, &a);
    parity_output(r, a.dy, a.count, r->t, op_case_near(r->t, 1e-6));
}

/* shape: count, kind, 1: in place, 1: backward */
static void case_activate(struct parity_run *r, const int64_t *s)
{
    struct op_activate a = {.count = s[0], .kind = (enum op_activation)s[1], .t = r->t};
    void *x = parity_input(r, a.count, r->t, 12), *dy = parity_input(r, a.count, r->t, 1);
    void *out = s[2] ? s[3] ? dy : x : parity_space(r, a.count, r->t);
    a.x = x;
    a.dy = dy;
    a.y = a.dx = out;
    (s[3] ? r->ops->activate_back : r->ops->activate)(r->d, &a);
    parity_output(r, out, a.count, r->t, op_case_near(r->t, 5e-6));
}

/* shape: count, p in 64ths */
static void case_dropout(struct parity_run *r, const int64_t *s)
{
    struct op_dropout a = {.count = s[0], .p = (float)s[1] / 64, .seed = 1u << 31, .t = r->t};
    a.x = parity_input(r, a.count, r->t, 2);
    r->ops->dropout(r->d, &a);
    parity_output(r, a.x, a.count, r->t, op_case_near(r->t, 1e-6));
}

/* shape: n, heads, d, padding of a row, greatest position, 1: inverse, kind of scaling */
static void case_rope(struct parity_run *r, const int64_t *s)
{
    struct op_rope a = {.n = s[0], .heads = s[1], .d = s[2], .ld = s[1] * s[2] + s[3], .t = r->t};
    a.theta = 1e5f;
    a.scaling = (struct op_rope_scaling){(enum op_rope_kind)s[6], 8, 1, 4, 256};
    a.inverse = s[5];
    a.x = parity_input(r, a.n * a.ld, r->t, 2);
    a.position = parity_ids(r, a.n, (int32_t)s[4] + 1);
    r->ops->rope(r->d, &a);
    parity_output(r, a.x, a.n * a.ld, r->t, op_case_near(r->t, 2e-6));
}

/* Of t tokens: all but one, a third, all but one, ... */
static const int32_t *attention_lengths(struct parity_run *r, int64_t b, int64_t t)
{
    int32_t *length = parity_ids(r, b, 1);
    for (int64_t i = 0; i < b; i++) {
        int32_t n = (int32_t)(i % 2 ? t / 3 + 1 : t > 1 ? t - 1 : 1);
        dev_upload(r->d, length + i, &n, sizeof n);
    }
    return length;
}

/* What each of the last t of `before` + t tokens sees from: a window, and in every second sequence
   (or, without one, in all) documents of a third, and less and less of what is left. */
static const int32_t *attention_firsts(
    struct parity_run *r, int64_t b, int64_t before, int64_t t, int64_t window)
{
    int32_t *first = parity_ids(r, b * t, 1);
    for (int64_t i = 0, all = before + t; i < b; i++)
        for (int64_t j = 0, begin = 0, end = all / 3 + 1; j < all; j++) {
            if (j == end && (window < 0 || i % 2)) {
                begin = j;
                end = j + (all - j) / 3 + 1;
            }
            int32_t from = (int32_t)(window > 0 && j - window + 1 > begin ? j - window + 1 : begin);
            dev_upload(r->d, first + i * t + (j > before ? j - before : 0), &from, sizeof from);
        }
    return first;
}

/* shape: b, t, h, g, d, padding of a row, 1: bidirectional, 1: with lengths, a window (-1: none,
   but documents), keys before the queries, of probabilities left out so many 64ths */
static struct op_attention attention_inputs(struct parity_run *r, const int64_t *s)
{
    struct op_attention a = {.b = s[0], .tokens = s[1], .h = s[2], .g = s[3], .d = s[4], .t = r->t};
    a.before = s[9];
    a.drop = (struct op_attention_drop){.p = (float)s[10] / 64,
        .seed = 1u << 31,
        .heads = a.h + 1,
        .keys = a.before + a.tokens + 3};
    int64_t rows = a.b * a.tokens, keys = a.b * (a.before + a.tokens);
    a.scale = 0.2f;
    a.ldq = a.h * a.d + s[5];
    a.ldk = a.g * a.d + s[5];
    a.ldv = a.g * a.d + 2 * s[5];
    a.bidirectional = s[6];
    a.length = s[7] ? attention_lengths(r, a.b, a.tokens) : NULL;
    a.first = s[8] ? attention_firsts(r, a.b, a.before, a.tokens, s[8]) : NULL;
    a.q = parity_input(r, rows * a.ldq, r->t, 2);
    a.k = parity_input(r, keys * a.ldk, r->t, 2);
    a.v = parity_input(r, keys * a.ldv, r->t, 1);
    a.o = parity_space(r, rows * a.h * a.d, r->t);
    a.lse = parity_space(r, rows * a.h, DTYPE_F32);
    return a;
}

static void case_attention(struct parity_run *r, const int64_t *s)
{
    struct op_attention a = attention_inputs(r, s);
    r->ops->attention(r->d, &a);
    parity_output(r, a.o, a.b * a.tokens * a.h * a.d, r->t, op_case_near(r->t, 1e-5));
    parity_output(r, a.lse, a.b * a.tokens * a.h, DTYPE_F32, op_case_near(r->t, 1e-5));
}

/* The gradients are compared where they are written: rows without their padding, which keeps its
 * input values. */
static void case_attention_back(struct parity_run *r, const int64_t *s)
{
    struct op_attention a = attention_inputs(r, s);
    int64_t rows = a.b * a.tokens, keys = a.b * (a.before + a.tokens);
    a.dout = parity_input(r, rows * a.h * a.d, r->t, 1);
    a.dq = parity_input(r, rows * a.ldq, r->t, 0.1f);
    a.dk = parity_input(r, keys * a.ldk, r->t, 0.1f);
    a.dv = parity_input(r, keys * a.ldv, r->t, 0.1f);
    r->ops->attention(r->d, &a);
    r->ops->attention_back(r->d, &a);
    double tolerance =
        r->t == DTYPE_F32 ? 3e-5 : 0x1p-5; /* BF16: P and dS are rounded, and dS cancels */
    parity_output(r, a.dq, rows * a.ldq, r->t, tolerance);
    parity_output(r, a.dk, keys * a.ldk, r->t, tolerance);
    parity_output(r, a.dv, keys * a.ldv, r->t, tolerance);
}

/* shape: n, f; gate and up side by side in rows of 2 f */
static struct op_swiglu swiglu_inputs(struct parity_run *r, const int64_t *s)
{
    struct op_swiglu a = {.n = s[0], .f = s[1], .ld = 2 * s[1], .t = r->t};
    const char *both = parity_input(r, a.n * a.ld, r->t, 8);
    a.gate = both;
    a.up = both + dtype_bytes(r->t, a.f);
    return a;
}

static void case_swiglu(struct parity_run *r, const int64_t *s)
{
    struct op_swiglu a = swiglu_inputs(r, s);
    a.y = parity_space(r, a.n * a.f, r->t);
    r->ops->swiglu(r->d, &a);
    parity_output(r, a.y, a.n * a.f, r->t, op_case_near(r->t, 2e-6));
}

static void case_swiglu_back(struct parity_run *r, const int64_t *s)
{
    struct op_swiglu a = swiglu_inputs(r, s);
    char *both = parity_space(r, a.n * a.ld, r->t);
    a.dy = parity_input(r, a.n * a.f, r->t, 1);
    a.dgate = both;
    a.dup = both + dtype_bytes(r->t, a.f);
    r->ops->swiglu_back(r->d, &a);
    parity_output(r, both, a.n * a.ld, r->t, op_case_near(r->t, 3e-6));
}

/* Columns [from, from + c) of x (n, ld) t, rows one behind the other. */
static void *columns(struct parity_run *r, enum dtype t, const void *x, int64_t n, int64_t ld,
    int64_t from, int64_t c)
{
    size_t size = (size_t)dtype_bytes(t, 1);
    char *out = parity_space(r, n * c, t);
    for (int64_t i = 0; i < n; i++)
        dev_copy(r->d, out + (size_t)(i * c) * size,
            (const char *)x + (size_t)(i * ld + from) * size, (size_t)c * size);
    return out;
}

/* Logits (n, v) with rows ld apart; a logit of 1000 behind each row but the last, which ends the
   buffer. */
static void *xent_logits(struct parity_run *r, const struct op_xent *a)
{
    int64_t count = (a->n - 1) * a->ld + a->v;
    size_t size = (size_t)dtype_bytes(r->t, 1);
    char *logits = parity_input(r, count, r->t, 10);
    float high = 1000;
    uint16_t high16 = r->t == DTYPE_F16 ? f32_to_f16(high) : f32_to_bf16(high);
    for (int64_t i = 0; i + 1 < a->n; i++)
        for (int64_t j = a->v; j < a->ld; j++)
            dev_upload(r->d, logits + (size_t)(i * a->ld + j) * size,
                r->t == DTYPE_F32 ? (void *)&high : (void *)&high16, size);
    return logits;
}

/* The logits, and bit for bit what stands between their rows. */
static void xent_output(struct parity_run *r, const struct op_xent *a, double tolerance)
{
    if (a->gradient16) { /* and the logits as they were */
        enum dtype t = op_type16(a->f16);
        void *gradient = columns(r, t, a->gradient16, a->n, a->ld, 0, a->v);
        parity_output(r, gradient, a->n * a->v, t, op_case_near(t, 0));
        tolerance = 1e-30;
    }
    parity_output(
        r, columns(r, r->t, a->logits, a->n, a->ld, 0, a->v), a->n * a->v, r->t, tolerance);
    if (a->ld > a->v)
        parity_output(r, columns(r, r->t, a->logits, a->n - 1, a->ld, a->v, a->ld - a->v),
            (a->n - 1) * (a->ld - a->v), r->t, 1e-30);
}

/* shape: n, v, 1: backward (2: the gradient goes beside F32 logits, 3: and from an odd address; 4
   more: in F16), first column of ours when there are more, padding of a row; every third row has
   no target. Of more columns, as many stand after ours as before, and all share 20 and 3 v of the
   exponentials. */
static void case_xent(struct parity_run *r, const int64_t *s)
{
    struct op_xent a = {.n = s[0], .v = s[1], .backward = s[2], .scale = 0.37f, .t = r->t};
    a.first = s[3];
    a.ld = a.v + s[4];
    a.logits = xent_logits(r, &a);
    int32_t *target = parity_ids(r, a.n, (int32_t)(a.v + 2 * a.first)), none = -1;
    for (int64_t i = 2; i < a.n; i += 3)
        dev_upload(r->d, target + i, &none, sizeof none);
    a.target = target;
    a.loss = parity_space(r, a.n, DTYPE_F32);
    if (a.first) {
        float top = 20, sum = 3 * (float)a.v;
        a.stage = OP_XENT_STATS;
        a.top = parity_space(r, a.n, DTYPE_F32);
        a.sum = parity_space(r, a.n, DTYPE_F32);
        r->ops->xent(r->d, &a);
        parity_output(r, a.top, a.n, DTYPE_F32, 1e-30);
        parity_output(r, a.sum, a.n, DTYPE_F32, 3e-6);
        xent_output(r, &a, 1e-30);
        a.stage = OP_XENT_MEET;
        a.most = parity_input(r, a.n, DTYPE_F32, 10);
        r->ops->xent(r->d, &a);
        parity_output(r, a.sum, a.n, DTYPE_F32, 3e-6);
        for (int64_t i = 0; i < a.n; i++) {
            dev_upload(r->d, a.top + i, &top, sizeof top);
            dev_upload(r->d, a.sum + i, &sum, sizeof sum);
        }
        a.stage = OP_XENT_FINISH;
    }
    if (s[2] >= 2 && r->t == DTYPE_F32) {
        int64_t skip = s[2] & 1;
        a.f16 = s[2] & 4;
        a.gradient16 = (uint16_t *)parity_space(r, a.n * a.ld + skip, DTYPE_BF16) + skip;
    }
    r->ops->xent(r->d, &a);
    parity_output(r, a.loss, a.n, DTYPE_F32, 3e-6);
    xent_output(r, &a, op_case_near(r->t, 5e-6));
}

/* shape: n, v, 1, 2: the gradient goes beside the logits in BF16, F16, padding of a row; every
   third row has no target */
static void case_distill(struct parity_run *r, const int64_t *s)
{
    struct op_distill a = {
        .n = s[0], .v = s[1], .ld = s[1] + s[3], .scale = 0.37f, .weight = 0.3f, .temperature = 2};
    struct op_xent as = {.n = a.n, .v = a.v, .ld = a.ld};
    a.logits = xent_logits(r, &as);
    a.teacher = xent_logits(r, &as);
    int32_t *target = parity_ids(r, a.n, (int32_t)a.v), none = -1;
    for (int64_t i = 2; i < a.n; i += 3)
        dev_upload(r->d, target + i, &none, sizeof none);
    a.target = target;
    a.loss = parity_space(r, a.n, DTYPE_F32);
    as.logits = a.logits;
    as.f16 = a.f16 = s[2] == 2;
    as.gradient16 = a.gradient16 = s[2] ? parity_space(r, a.n * a.ld, DTYPE_BF16) : NULL;
    r->ops->distill(r->d, &a);
    parity_output(r, a.loss, a.n, DTYPE_F32, 5e-6);
    xent_output(r, &as, 1e-5);
}

/* shape: count, type of x, type of y */
static void case_convert(struct parity_run *r, const int64_t *s)
{
    struct op_convert a = {.count = s[0], .x_type = (enum dtype)s[1], .y_type = (enum dtype)s[2]};
    a.x = a.x_type == DTYPE_I32 ? parity_ids(r, a.count, INT32_MAX)
                                : parity_blocks(r, a.count, a.x_type);
    a.y = parity_space(r, a.count, a.y_type);
    r->ops->convert(r->d, &a);
    parity_output(r, a.y, a.count, a.y_type, 1e-30);
}

/* shape: n, v, 1: only 16 different logits, so that most are tied. Rows differ in their
   parameters. */
static void case_sample(struct parity_run *r, const int64_t *s)
{
    static const float temperature[] = {0.7f, 0, 1.5f, 1, 0.1f, 30},
                       top_p[] = {0.9f, 0.5f, 1, 0.3f, 0.999f};
    struct op_sample a = {.n = s[0], .v = s[1]};
    float *logits = parity_input(r, a.n * a.v, DTYPE_F32, 8), *t = parity_space(r, a.n, DTYPE_F32),
          *p = parity_space(r, a.n, DTYPE_F32);
    for (int64_t i = 0; i < a.n; i++) {
        dev_upload(r->d, t + i, &temperature[i % 6], sizeof *t);
        dev_upload(r->d, p + i, &top_p[i % 5], sizeof *p);
    }
    if (s[2]) {
        mem_autofree float *tied = mem_array((size_t)(a.n * a.v), sizeof *tied);
        for (int64_t i = 0; i < a.n * a.v; i++)
            tied[i] = (float)(op_random(7, (uint64_t)i) % 16) / 4;
        dev_upload(r->d, logits, tied, (size_t)(a.n * a.v) * sizeof *tied);
    }
    a.logits = logits;
    a.temperature = t;
    a.top_p = p;
    mem_autofree float *u = mem_array((size_t)a.n, sizeof *u);
    for (int64_t i = 0; i < a.n; i++)
        u[i] = (float)(op_random(8, (uint64_t)i) >> 8) * 0x1p-24f;
    float *on_device = parity_space(r, a.n, DTYPE_F32);
    dev_upload(r->d, on_device, u, (size_t)a.n * sizeof *u);
    a.u = on_device;
    a.token = parity_space(r, a.n, DTYPE_I32);
    r->ops->sample(r->d, &a);
    parity_output(r, a.token, a.n, DTYPE_I32, 1e-30);
}

/* An entry a operation: a new operation without one does not compile. */
#define ROWS_SHAPES \
    {1, 1}, {1, 5}, {3, 33}, {7, 64}, {130, 576}, {1025, 48}, \
    { \
        5, 2048 \
    }
/* Beside 6144 and 8192, where norms' kernels on CUDA change. */
#define LONG_ROWS_SHAPES \
    {5, 301}, {3, 6145}, {2, 6152}, {3, 8200}, \
    { \
        2, 8201 \
    }
#define ATTENTION_SHAPES \
    {1, 1, 1, 1, 32}, {1, 3, 2, 1, 5, 3}, {2, 17, 4, 2, 32}, {1, 64, 3, 3, 64, 7}, \
        {1, 65, 9, 3, 64}, {2, 130, 3, 1, 80, 16}, {1, 257, 2, 1, 128}, \
        {2, 63, 2, 1, 40, 8, 1, 1}, {2, 64, 3, 3, 64, 8, 1}, {3, 129, 4, 2, 64, 0, 1, 1}, \
        {1, 300, 1, 1, 48, 0, 0, 1}, {1, 129, 1, 1, 128, 0, 0, 1}, {1, 33, 2, 1, 96, 8, 1}, \
        {2, 5, 2, 1, 112, 0, 1, 1}, {1, 1, 1, 1, 16, 0, 1, 1}, {1, 70, 2, 1, 24}, \
        {1, 35, 2, 1, 200}, {2, 33, 1, 1, 132, 4, 1, 1}, {1, 300, 1, 1, 32, 0, 0, 0, 5}, \
        {2, 200, 2, 1, 64, 8, 0, 1, 70}, {1, 129, 1, 1, 128, 0, 0, 0, 65}, \
        {1, 200, 3, 1, 40, 0, 0, 0, -1}, {1, 70, 1, 1, 8, 0, 0, 0, 1}, \
        {2, 100, 2, 1, 33, 3, 0, 1, -1}, {2, 33, 4, 2, 32, 0, 0, 0, 0, 70}, \
        {1, 130, 2, 2, 48, 8, 0, 0, 70, 201}, {2, 70, 2, 1, 128, 0, 0, 0, -1, 90}, \
        {1, 40, 1, 1, 200, 0, 0, 0, 9, 64}, {2, 90, 2, 1, 96, 0, 0, 1, 64}, \
        {2, 130, 3, 1, 80, 16, 0, 0, 0, 0, 16}, {3, 129, 4, 2, 64, 0, 1, 1, 0, 0, 6}, \
        {1, 130, 2, 2, 48, 8, 0, 0, 70, 201, 32}, {1, 1, 1, 1, 32, 0, 0, 0, 0, 0, 48}, \
    { \
        2, 33, 2, 1, 200, 0, 0, 1, -1, 0, 40 \
    }
/* What kernels/cuda/quant_matmul.cu has a kernel for: types, rows of x (12: 8 and 4), rows of W
   that begin at a multiple of 16 bytes or not; the longest do not fit its shared memory. */
#define QUANT_SHAPES \
    {12, 5, 260, DTYPE_F32}, {10, 5, 260, DTYPE_F32}, {9, 5, 260, DTYPE_F32}, \
        {12, 5, 261, DTYPE_F32}, {10, 5, 261, DTYPE_F32}, {5, 9, 5632, DTYPE_BF16}, \
        {4, 5, 520, DTYPE_BF16}, {2, 5, 520, DTYPE_BF16}, {12, 5, 515, DTYPE_BF16}, \
        {1, 5, 515, DTYPE_BF16}, {12, 5, 520, DTYPE_F16}, {10, 5, 520, DTYPE_F16}, \
        {9, 5, 520, DTYPE_F16}, {4, 5, 515, DTYPE_F16}, {2, 5, 515, DTYPE_F16}, \
        {1, 5, 515, DTYPE_F16}, {3, 7, 5632, DTYPE_Q8_0}, {2, 5, 64, DTYPE_Q8_0}, \
        {2, 5, 64, DTYPE_Q8_0, 1}, {8, 5, 64, DTYPE_Q4_0}, {2, 5, 64, DTYPE_Q4_0}, \
        {9, 5, 64, DTYPE_Q4_0, 1}, {2, 5, 64, DTYPE_Q4_0, 1}, {4, 5, 64, DTYPE_Q4_1}, \
        {2, 5, 64, DTYPE_Q4_1}, {4, 5, 64, DTYPE_Q4_1, 1}, {2, 5, 64, DTYPE_Q4_1, 1}, \
        {1, 5, 64, DTYPE_Q4_1, 1}, {1, 5, 64, DTYPE_Q5_0}, {2, 5, 64, DTYPE_Q5_0}, \
        {4, 5, 64, DTYPE_Q5_0}, {9, 5, 64, DTYPE_Q5_0, 1}, {2, 5, 64, DTYPE_Q5_0, 1}, \
        {4, 5, 96, DTYPE_Q5_1}, {2, 5, 64, DTYPE_Q5_1}, {4, 5, 64, DTYPE_Q5_1, 1}, \
        {2, 5, 64, DTYPE_Q5_1, 1}, {1, 5, 64, DTYPE_Q5_1, 1}, {8, 5, 256, DTYPE_Q4_K}, \
        {4, 5, 256, DTYPE_Q4_K, 1}, {1, 5, 256, DTYPE_Q4_K, 1}, {8, 5, 512, DTYPE_Q5_K}, \
        {4, 5, 256, DTYPE_Q5_K, 1}, {2, 5, 256, DTYPE_Q5_K, 1}, {1, 5, 256, DTYPE_Q5_K, 1}, \
        {4, 5, 256, DTYPE_Q6_K}, {2, 5, 256, DTYPE_Q6_K}, {4, 5, 256, DTYPE_Q6_K, 1}, \
    { \
        2, 5, 256, DTYPE_Q6_K, 1 \
    }
static const struct op_case case_table[] = {
    [0] = {"matmul", case_matmul, DTYPE_F16, true,
        {{1, 1, 1}, {3, 5, 7, 0, 1, 1, 3}, {33, 65, 31, 1, 0, 1, 0}, {64, 576, 576, 0, 1, 0, 0, 1},
            {256, 192, 576, 0, 1, 0, 64, 1}, {256, 576, 192, 0, 0, 0, 0, 1},
            {192, 576, 256, 1, 0, 1}, {129, 100, 77, 1, 1, 1, 5}, {17, 8, 576, 0, 1, 0, 0, 1},
            {1, 1, 1, 0, 0, 0, 0, 0, BIAS | GELU | PRE},
            {3, 5, 7, 0, 1, 1, 3, 1, BIAS | GELU | PRE}, {33, 20, 40, 0, 0, 1, 0, 1, BIAS},
            {65, 96, 33, 0, 1, 0, 8, 0, BIAS | GELU}, {9, 1000, 16, 0, 0, 0, 0, 1, GELU | PRE},
            {64, 192, 48, 0, 1, 0, 0, 1, BIAS | GELU | PRE}, {5, 7, 9, 1, 1, 0, 1, 0, GELU},
            {3, 12, 8, 0, 0, 0, 0, 1, BIAS | GELU | PRE}, {2, 49152, 64, 0, 1, 0, 0, 1},
            {4, 64, 49152, 0, 0, 0, 0, 1}, {49152, 4, 33, 1, 0, 1},
            {1, 1, 1, 0, 0, 0, 0, 2, BIAS | GELU | PRE},
            {3, 5, 7, 0, 1, 1, 3, 3, BIAS | GELU | PRE}, {33, 64, 40, 1, 0, 1, 8, 2, GELU | PRE},
            {129, 100, 77, 1, 1, 1, 5, 3, BIAS}, {3, 1500000, 1, 0, 0, 0, 0, 3, BIAS},
            {3, 5, 7, 0, 1, 1, 3, 1, BIAS | ERF | PRE},
            {33, 96, 48, 0, 1, 0, 0, 1, BIAS | ERF | PRE}, {5, 7, 9, 1, 1, 0, 1, 0, ERF},
            {9, 1000, 16, 0, 0, 0, 0, 1, ERF | PRE}, {9, 64, 40, 1, 0, 1, 8, 2, ERF | PRE},
            {3, 5, 7, 0, 1, 1, 3, 3, BIAS | ERF}}},
    [1] = {"quant_matmul", op_case_quant_matmul, DTYPE_F32, false,
        {{1, 1, 256, DTYPE_Q4_K}, {1, 7, 512, DTYPE_Q6_K}, {1, 65, 32, DTYPE_Q8_0},
            {3, 33, 96, DTYPE_Q4_0}, {16, 64, 576, DTYPE_Q4_1}, {4, 9, 1536, DTYPE_Q4_K},
            {17, 10, 256, DTYPE_Q6_K}, {1, 5, 7, DTYPE_F32}, {2, 9, 33, DTYPE_BF16},
            {5, 12, 100, DTYPE_F16}, {1, 49152, 64, DTYPE_Q4_1}, {8, 300, 576, DTYPE_Q8_0},
            {1, 300, 1536, DTYPE_Q4_0}, {2, 100, 768, DTYPE_Q4_K}, {1, 576, 576, DTYPE_BF16},
            {1, 3, 32, DTYPE_Q8_0}, {5, 9, 4352, DTYPE_Q4_K}, {5, 9, 1536, DTYPE_Q5_K},
            {70, 9, 256, DTYPE_Q5_K}, {12, 300, 576, DTYPE_Q5_0}, {9, 33, 1504, DTYPE_Q5_1},
            {17, 10, 256, DTYPE_Q5_0}, {5, 9, 4352, DTYPE_Q5_1}, {1, 65, 1536, DTYPE_Q5_1},
            {4, 9, 96, DTYPE_Q5_0}, QUANT_SHAPES}},
    [2] = {"embed", case_embed, DTYPE_F16, false,
        {{1, 1, 1}, {7, 33, 5}, {7, 33, 5, 1, 0, 3}, {65, 100, 9, 1}, {300, 576, 1000},
            {1, 1, 1, 0, DTYPE_BF16}, {5, 40, 9, 1, DTYPE_BF16}, {3, 33, 7, 0, DTYPE_F16},
            {9, 96, 5, 0, DTYPE_Q8_0}, {1, 32, 1, 0, DTYPE_Q4_0}, {17, 64, 33, 1, DTYPE_Q4_1},
            {9, 96, 5, 1, DTYPE_Q5_0}, {5, 64, 33, 0, DTYPE_Q5_1}, {3, 32, 7, 1, DTYPE_F16},
            {3, 512, 4, 0, DTYPE_Q4_K}, {3, 512, 4, 1, DTYPE_Q5_K}, {2, 768, 3, 1, DTYPE_Q6_K},
            {9, 40, 5, 0, 0, 8}}},
    [3] = {"embed_back", case_embed_back, DTYPE_F16, false,
        {{1, 1, 1}, {7, 33, 5}, {300, 576, 100}, {2000, 70, 3}, {33, 8, 768}, {40, 5, 1500}}},
    [4] = {"rmsnorm", case_rmsnorm, DTYPE_F16, false,
        {ROWS_SHAPES, LONG_ROWS_SHAPES, {6, 8, 0, 0, 3, 5}, {70, 128, 0, 0, 7, 8},
            {8, 300, 0, 0, 2, 4}}},
    [5] = {"rmsnorm_back", case_rmsnorm_back, DTYPE_F16, false,
        {ROWS_SHAPES, {9, 65, 1}, {130, 576, 1, 1}, {33, 100, 0, 1}, {5, 301}, {3, 6145, 0, 1},
            {2, 6152}, {3, 8200, 1, 1}, {2, 8201}, {6, 8, 0, 0, 3, 5}, {70, 128, 1, 0, 7, 8},
            {8, 300, 0, 1, 2, 4}}},
    [6] = {"rope", case_rope, DTYPE_F16, false,
        {{1, 1, 2}, {5, 3, 6, 5, 10}, {65, 9, 64, 0, 2047}, {33, 3, 64, 7, 2047, 1},
            {9, 2, 256, 0, 130000}, {9, 3, 64, 8, 2047, 0, OP_ROPE_LINEAR},
            {9, 3, 64, 0, 2047, 0, OP_ROPE_LLAMA3}, {7, 2, 40, 0, 300, 1, OP_ROPE_LLAMA3}}},
    [7] = {"attention", case_attention, DTYPE_F16, false, {ATTENTION_SHAPES, {1, 700, 1, 1, 64}}},
    [8] = {"attention_back", case_attention_back, DTYPE_F16, false,
        {ATTENTION_SHAPES, {1, 700, 1, 1, 64}}},
    [9] = {"attention_decode", op_case_attention_decode, DTYPE_F16, false,
        {{1, 1, 1, 1, 5}, {3, 70, 4, 2, 33}, {1, 2048, 9, 3, 64}, {8, 300, 6, 2, 128},
            {3, 129, 8, 1, 64, 16}, {2, 65, 3, 3, 40, 64}, {2, 200, 12, 1, 80, 7},
            {5, 17, 2, 2, 256, 1}, {2, 63, 4, 2, 36}, {3, 700, 4, 2, 64, 0, 300},
            {2, 200, 2, 1, 40, 16, 7}, {1, 65, 2, 2, 32, 0, 1}, {2, 90, 2, 1, 64, 0, 90}},
        .blocks = true},
    [10] = {"swiglu", case_swiglu, DTYPE_F16, false, {ROWS_SHAPES, {65, 1536}}},
    [11] = {"swiglu_back", case_swiglu_back, DTYPE_F16, false, {ROWS_SHAPES, {65, 1536}}},
    [12] = {"xent", case_xent, DTYPE_F16, false,
        {{1, 1, 1}, {3, 5, 1}, {4, 33}, {65, 100, 1}, {9, 1000}, {1, 1, 1, 1}, {6, 33, 0, 5},
            {9, 65, 1, 64}, {7, 1000, 1, 400}, {5, 33, 1, 0, 31}, {4, 61, 0, 0, 3},
            {6, 100, 1, 50, 28}, {3, 50257, 1, 0, 47}, {5, 49152, 2}, {6, 65, 2},
            {7, 1001, 3, 400, 7}, {3, 49152}, {6, 65, 6}, {7, 1001, 7, 400, 7}}},
    [13] = {"axpby", op_case_axpby, DTYPE_F32, false,
        {{1, DTYPE_F32, DTYPE_F32}, {33, DTYPE_BF16, DTYPE_F32}, {100, DTYPE_F32, DTYPE_BF16, 1},
            {5000, DTYPE_BF16, DTYPE_BF16}, {40000, DTYPE_F16, DTYPE_F32, 1},
            {77, DTYPE_F32, DTYPE_F16}, {99, DTYPE_F16, DTYPE_BF16}, {77, DTYPE_F16, DTYPE_F16},
            {35, DTYPE_F16, DTYPE_F32}, {35, DTYPE_F32, DTYPE_BF16}, {77, DTYPE_BF16, DTYPE_F16},
            {77, DTYPE_BF16, DTYPE_BF16, 1}, {70001, DTYPE_F32, DTYPE_F32},
            {1001, DTYPE_F32, DTYPE_BF16, 1, 1}, {77, DTYPE_F32, DTYPE_F32, 0, 1}}},
    [14] = {"convert", case_convert, DTYPE_F32, false,
        {{1, DTYPE_F32, DTYPE_BF16}, {33, DTYPE_BF16, DTYPE_F32}, {100, DTYPE_F32, DTYPE_F16},
            {5000, DTYPE_F16, DTYPE_F32}, {101, DTYPE_F32, DTYPE_F16}, {103, DTYPE_F16, DTYPE_F32},
            {103, DTYPE_I32, DTYPE_F32}, {40001, DTYPE_F32, DTYPE_F32},
            {40000, DTYPE_F32, DTYPE_BF16}, {9600, DTYPE_Q8_0, DTYPE_F32},
            {32, DTYPE_Q4_0, DTYPE_F32}, {4128, DTYPE_Q4_1, DTYPE_F32}, {96, DTYPE_Q5_0, DTYPE_F32},
            {9600, DTYPE_Q5_1, DTYPE_F32}, {25600, DTYPE_Q4_K, DTYPE_F32},
            {4352, DTYPE_Q5_K, DTYPE_F32}, {4352, DTYPE_Q6_K, DTYPE_F32}}},
    [15] = {"sumsq", op_case_sumsq, DTYPE_F32, false, {{1}, {4095}, {4097}, {100003}, {3000000}}},
    [16] = {"adamw", op_case_adamw, DTYPE_F32, false,
        {{1, 1, 1}, {33, 1, 1}, {5000, 7}, {77, 3, 0, CLIPPED}, {1001, 2, 1, UNCLIPPED},
            {5001, 9, 1, CLIPPED}, {1001, 2, 1, UNCLIPPED | INFINITE},
            {77, 3, 1, CLIPPED | NO_NUMBER}, {100003, 1000, 1}, {1, 1, 1, 0, DTYPE_BF16},
            {1001, 7, 0, CLIPPED, DTYPE_BF16}, {5000, 3, 1, 0, DTYPE_BF16}, {1, 1, 0, 0, DTYPE_U8},
            {257, 9, 1, CLIPPED, DTYPE_U8}, {5001, 2, 0, 0, DTYPE_U8},
            {1001, 2, 1, UNCLIPPED | INFINITE, DTYPE_U8}}},
    [17] = {"layernorm", case_layernorm, DTYPE_F16, false,
        {{9, 65, 1}, {2, 16, 1}, {2, 8200, 1}, ROWS_SHAPES, LONG_ROWS_SHAPES}},
    [18] = {"layernorm_back", case_layernorm_back, DTYPE_F16, false,
        {{9, 65, 1}, {33, 100, 0, 1}, {33, 100, 1, 0, 1}, {65, 32, 0, 1, 1}, {3, 1000, 1, 1, 1},
            {5, 301}, {3, 6145, 0, 1, 1}, {2, 6152, 0, 1}, {3, 8200}, {2, 8201, 1, 1, 1},
            ROWS_SHAPES}},
    [19] = {"bias_back", case_bias_back, DTYPE_F16, false,
        {{9, 65, 3}, {100, 33, 1}, {600, 7, 9}, ROWS_SHAPES, {257, 3072, 0}, {9, 65, 3, 1},
            {600, 8, 0, 1}, {257, 3072, 0, 1}}},
    [20] = {"gelu_back", case_gelu_back, DTYPE_F16, false,
        {{1}, {33, 1}, {4096}, {5001, 1}, {100003}, {1, 0, 1}, {35, 1, 1}, {5001, 0, 1},
            {20001, 1, 1}}},
    [21] = {"dropout", case_dropout, DTYPE_F16, false,
        {{1, 0}, {33, 0}, {4097, 6}, {5001, 32}, {777, 63}, {100003, 1}}},
    [22] = {"kv_store", op_case_kv_store, DTYPE_F16, false,
        {{1, 1, 1, 1}, {1, 70, 3, 64}, {3, 5, 3, 5}, {4, 33, 2, 8}, {33, 40, 1, 36, 0, 1},
            {5, 21, 3, 16, 8}, {7, 20, 1, 7, 3, 1}, {256, 300, 2, 12, 16, 1}, {5, 40, 2, 32, 16, 1},
            {3, 9, 3, 128}}},
    [23] = {"sample", case_sample, DTYPE_F32, false,
        {{1, 1}, {2, 5}, {7, 33}, {6, 33, 1}, {6, 1000, 1}, {12, 1001}, {3, 49152}}},
    [24] = {"tanh", case_tanh, DTYPE_F16, false, {{1}, {33}, {4097}, {100003}}},
    [25] = {"tanh_back", case_tanh_back, DTYPE_F16, false, {{1}, {33}, {4097}, {100003}}},
    [26] = {"sgd", op_case_sgd, DTYPE_F32, false,
        {{1, 1}, {33, 1, 0, 1}, {5000, 0, CLIPPED, 1}, {1001, 1, UNCLIPPED}, {5001, 1, CLIPPED, 1},
            {1001, 1, UNCLIPPED | INFINITE, 1}, {77, 1, CLIPPED | NO_NUMBER}, {100003, 1, 0, 1},
            {5001, 1, 0, 1, DTYPE_BF16}, {4500, 0, CLIPPED, 1, DTYPE_U8}}},
    [27] = {"lion", op_case_lion, DTYPE_F32, false,
        {{1, 1}, {33, 1}, {5000, 0, CLIPPED}, {1001, 1, UNCLIPPED}, {5001, 0, CLIPPED, 1},
            {1001, 1, UNCLIPPED | INFINITE}, {77, 0, CLIPPED | NO_NUMBER, 1}, {100003, 0, 0, 1},
            {20001, 1}, {5001, 1, 0, 0, DTYPE_BF16}, {777, 0, 0, 1, DTYPE_BF16},
            {4500, 1, CLIPPED, 0, DTYPE_U8}, {600, 0, 0, 1, DTYPE_U8}}},
    [28] = {"adafactor", op_case_adafactor, DTYPE_F32, false,
        {{1, 1, 1}, {1, 33, 1, 1, 0, 1}, {3, 5, 7}, {33, 1, 2, 1, CLIPPED}, {130, 576, 1, 1},
            {1, 5001, 9, 1, CLIPPED, 1}, {257, 300, 3, 0, UNCLIPPED}, {5, 9000, 2, 1},
            {1025, 48, 1000, 1, CLIPPED}, {33, 40, 2, 1, UNCLIPPED | INFINITE},
            {1, 77, 3, 1, CLIPPED | NO_NUMBER, 1}}},
    [29] = {"distill", case_distill, DTYPE_F32, false,
        {{1, 1}, {3, 5}, {4, 33, 1, 31}, {65, 100}, {9, 1000, 0, 24}, {5, 49152, 1}, {3, 50257},
            {4, 1001, 2, 31}}},
    [30] = {"mask", op_case_mask, DTYPE_F32, false, {{1}, {33}, {4097}, {20001}}},
    [31] = {"route", op_case_route, DTYPE_F32, false,
        {{1, 1, 1, 1}, {6, 5, 2, 3, 1}, {40, 33, 4, 10, 1, 1}, {66, 128, 8, 33, 0, 1},
            {3, 1024, 17, 3, 1}, {300, 8, 2, 150, 1, 1}}},
    [32] = {"route_back", op_case_route_back, DTYPE_F16, false,
        {{1, 2, 1, 1}, {6, 5, 2, 3, 1}, {40, 33, 4, 10, 1, 1}, {66, 128, 8, 33, 0, 1},
            {3, 1024, 17, 3, 1, 0, 1}, {300, 8, 2, 150, 1, 1}}},
    [33] = {"expert_sort", op_case_expert_sort, DTYPE_F32, false,
        {{1, 1}, {7, 3}, {33, 128}, {1000, 8}, {4099, 33}, {70, 1024}}},
    [34] = {"expert_gather", op_case_expert_gather, DTYPE_F16, false,
        {{1, 1, 1, 1}, {7, 2, 33, 4}, {65, 8, 100, 9}, {3, 4, 576, 8}}},
    [35] = {"expert_sum", op_case_expert_sum, DTYPE_F16, false,
        {{1, 1, 1, 1}, {7, 2, 33, 4, 1}, {65, 8, 100, 9}, {3, 4, 576, 8, 1}}},
    [36] = {"expert_weigh", op_case_expert_weigh, DTYPE_F16, false,
        {{1, 1}, {7, 33, 1}, {130, 100, 1}, {65, 576}, {3, 1536, 1}}},
    [37] = {"expert_matmul", op_case_expert_matmul, DTYPE_F16, true,
        {{1, 1, 1, 1}, {7, 3, 5, 9, 2}, {40, 4, 33, 17}, {90, 2, 20, 35, 1}, {33, 128, 16, 24},
            {50, 8, 24, 17, 0, 2, 3}}},
    [38] = {"expert_quant_matmul", op_case_expert_quant_matmul, DTYPE_F32, false,
        {{1, 1, 7, 5, DTYPE_F32}, {2, 4, 33, 9, DTYPE_BF16, 1}, {40, 3, 100, 12, DTYPE_F16, 2},
            {8, 128, 64, 33, DTYPE_Q8_0}, {40, 4, 32, 17, DTYPE_Q4_0, 1}, {9, 5, 96, 9, DTYPE_Q4_1},
            {8, 5, 64, 33, DTYPE_Q5_0}, {8, 5, 96, 7, DTYPE_Q5_1}, {16, 8, 512, 9, DTYPE_Q4_K},
            {16, 8, 512, 9, DTYPE_Q5_K}, {70, 2, 256, 5, DTYPE_Q6_K, 1}}},
    [39] = {"scale", case_scale, DTYPE_F16, false,
        {{1, 1}, {3, 5, 1, 1}, {9, 65, 0, 1}, {33, 64, 1, 0}, {7, 576, 1, 1}, {5, 40, 1, 0, 1},
            {257, 3072}}},
    [40] = {"importance", op_case_importance, DTYPE_F32, false,
        {{1}, {33, CLIPPED}, {4097, UNCLIPPED}, {77, CLIPPED | NO_NUMBER}, {20001}}},
    [41] = {"activate", case_activate, DTYPE_F16, false,
        {{1}, {33, OP_RELU, 1}, {4097}, {20001}, {1, OP_SILU}, {35, OP_SILU, 1}, {4097, OP_SILU}}},
    [42] = {"activate_back", case_activate, DTYPE_F16, false,
        {{1, 0, 0, 1}, {33, OP_RELU, 1, 1}, {4097, 0, 0, 1}, {20001, 0, 0, 1}, {1, OP_SILU, 0, 1},
            {35, OP_SILU, 1, 1}, {4097, OP_SILU, 0, 1}}},
};

#define OP_COUNT(name, args) +1
_Static_assert(
    sizeof case_table / sizeof *case_table == 0 LLMJOB_OPS(OP_COUNT), "a case for every operation");
const struct op_case *const op_cases = case_table;
const int op_case_count = sizeof case_table / sizeof *case_table;
