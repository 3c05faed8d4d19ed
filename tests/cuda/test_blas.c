/*
 * Goal: kernels/cuda/blas.c describes each matrix product to cuBLASLt as what it is, asks once for
 * each kind of product and keeps the answers within its table, takes bias and GELU along or has
 * them done afterwards, and fails with the right error and nothing left behind. Method: the file
 * itself over tests/cuda/fake_cublaslt.c, which multiplies by the descriptors: every result is
 * compared with the reference operation's, what lies between rows included.
 */
#include "base/mem.h"
#include "api/names.h"
#include "kernels/cuda/cuda.h"
#include "tests/cuda/fake_cublaslt.h"
#include "tests/unit.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>

#define ENTRIES 256 /* of its table */
#define BYTES   8192

static struct cuda_dev device;
static struct dev *reference;
static int finished, narrowed;

struct room { /* one operand's memory */
    _Alignas(256) char bytes[BYTES];
};
static struct room a, b, c, bias, pre, want_c, want_pre;

/* -- what blas.c needs of the plugin's other files -- */
int cuda_error(struct cuda_dev *d, cudaError_t status, const char *what, struct err *e)
{
    (void)d;
    return status == cudaSuccess ? 0 : err_set(e, ERR_MEMORY, "no %s", what);
}

int cuda_check(struct cuda_dev *d, cudaError_t status, const char *what)
{
    (void)d;
    (void)what;
    return status == cudaSuccess ? 0 : -1;
}

bool cuda_busy(cudaError_t polled)
{
    return polled == cudaErrorNotReady;
}

void cuda_refuse(struct dev *d, const char *fmt, ...)
{
    struct err e = {.code = ERR_DEVICE};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e.text, sizeof e.text, fmt, ap);
    va_end(ap);
    dev_fail(d, &e);
}

static float load(enum dtype t, const void *p, int64_t i)
{
    if (t == DTYPE_F32)
        return ((const float *)p)[i];
    return t == DTYPE_BF16 ? bf16_to_f32(((const uint16_t *)p)[i])
                           : f16_to_f32(((const uint16_t *)p)[i]);
}

static void store(enum dtype t, void *p, int64_t i, float x)
{
    if (t == DTYPE_F32)
        ((float *)p)[i] = x;
    else
        ((uint16_t *)p)[i] = t == DTYPE_BF16 ? f32_to_bf16(x) : f32_to_f16(x);
}

void cuda_matmul_finish(struct dev *d, const struct op_matmul *o)
{
    (void)d;
    finished++;
    for (int64_t i = 0; i < o->m; i++)
        for (int64_t j = 0; j < o->n; j++) {
            int64_t at = i * o->ldc + j;
            float x = load(o->c_type, o->c, at);
            x += o->bias ? load(o->ab_type, o->bias, j) : 0;
            if (o->pre)
                store(o->c_type, o->pre, at, x);
            if (o->act == OP_ACT_GELU)
                x *= 0.5f * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
            else if (o->act == OP_ACT_GELU_ERF)
                x *= 0.5f * (1 + erff(0.7071067812f * x));
            store(o->c_type, o->c, at, x);
        }
}

void cuda_matmul_narrow(struct dev *d, const struct op_matmul *o)
{
    (void)d;
    narrowed++;
    dev_ops(reference)->matmul(reference, o);
}

/* -- products -- */
static void setup(void)
{
    struct err e = {0};
    ck_assert_msg(!dev_open("cpu-ref", 0, 1, &reference, &e), "%s", e.text);
    fake_cublaslt = (struct fake_cublaslt){.failure = CUBLAS_STATUS_INTERNAL_ERROR};
    device = (struct cuda_dev){.index = 3};
    finished = narrowed = 0;
    ck_assert_msg(!blas_create(&device, &device.blas, &e), "%s", e.text);
}

static void done(void)
{
    blas_destroy(device.blas);
    ck_assert_int_eq(fake_cublaslt.alive, 0);
    dev_close(reference);
}

/* Numbers in [-1, 1) of a type, the same for the same seed. */
static void fill(struct room *r, enum dtype t, uint32_t seed)
{
    for (int64_t i = 0; i < BYTES / dtype_bytes(t, 1); i++) {
        seed = seed * 1664525u + 1013904223u;
        store(t, r->bytes, i, (float)(seed >> 8) * 0x1p-23f - 1);
    }
}

/* With bias, act and pre by bits. */
enum { BIAS = 1, GELU = 2, PRE = 4, ERF = 8 };
static struct op_matmul product(
    int64_t m, int64_t n, int64_t k, enum dtype ab, enum dtype to, int extras)
{
    return (struct op_matmul){.m = m,
        .n = n,
        .k = k,
        .a = a.bytes,
        .b = b.bytes,
        .c = c.bytes,
        .lda = k,
        .ldb = n,
        .ldc = n,
        .ab_type = ab,
        .c_type = to,
        .alpha = 1,
        .bias = extras & BIAS ? bias.bytes : NULL,
        .act = extras & ERF ? OP_ACT_GELU_ERF
            : extras & GELU ? OP_ACT_GELU
                            : OP_ACT_NONE,
        .pre = extras & PRE ? pre.bytes : NULL};
}

static void multiply(const struct op_matmul *o)
{
    op_cuda_matmul(&device.base, o);
    ck_assert_msg(device.base.failure.code == ERR_NONE, "%s", device.base.failure.text);
}

static void same(const struct room *got, const struct room *want, enum dtype t, const char *what,
    const char *which)
{
    /* A rounding to 16 bits may fall to the other side, and one of three follows another. */
    float near = t == DTYPE_F32 ? 1e-5f : t == DTYPE_BF16 ? 0x1p-6f : 0x1p-9f;
    for (int64_t i = 0; i < BYTES / dtype_bytes(t, 1); i++) {
        float x = load(t, got->bytes, i), y = load(t, want->bytes, i);
        if (!(fabsf(x - y) <= near * (fabsf(y) + 1)))
            ck_abort_msg("%s: %s, element %lld: %g, not %g", what, which, (long long)i, (double)x,
                (double)y);
    }
}

/* The product and the reference's, over all of C and pre. */
static void check_product(const struct op_matmul *o, const char *what)
{
    struct op_matmul r = *o;
    int64_t offset = (char *)o->c - c.bytes;
    fill(&a, o->ab_type, 1);
    fill(&b, o->ab_type, 2);
    fill(&bias, o->ab_type, 3);
    fill(&c, o->c_type, 4);
    fill(&want_c, o->c_type, 4);
    fill(&pre, o->c_type, 5);
    fill(&want_pre, o->c_type, 5);
    r.c = want_c.bytes + offset;
    r.pre = o->pre ? want_pre.bytes + ((char *)o->pre - pre.bytes) : NULL;
    dev_ops(reference)->matmul(reference, &r);
    multiply(o);
    same(&c, &want_c, o->c_type, what, "C");
    same(&pre, &want_pre, o->c_type, what, "pre");
}

static const struct {
    enum dtype ab, c;
} types[] = {{DTYPE_F32, DTYPE_F32}, {DTYPE_BF16, DTYPE_BF16}, {DTYPE_F16, DTYPE_F16},
    {DTYPE_BF16, DTYPE_F32}, {DTYPE_F16, DTYPE_F32}};
#define TYPES 5
static const int extras[] = {
    0, BIAS, GELU, BIAS | GELU, GELU | PRE, BIAS | GELU | PRE, ERF, BIAS | ERF | PRE};
static const int64_t shapes[][4] = {/* m, n, k, and how much longer rows are */
    {5, 7, 11, 3}, {6, 16, 9, 8}, {1, 24, 5, 0}, {9, 1, 1, 7}};

static void check_shape(int type, const int64_t *s, int variant, int extra)
{
    char what[128];
    struct op_matmul o = product(s[0], s[1], s[2], types[type].ab, types[type].c, extra);
    o.ta = variant & 1;
    o.tb = variant & 2;
    o.beta = variant & 4 ? 1.0f : 0.0f;
    o.alpha = variant & 8 ? 0.5f : 1;
    o.lda = (o.ta ? o.m : o.k) + s[3];
    o.ldb = (o.tb ? o.k : o.n) + s[3];
    o.ldc = o.n + s[3];
    snprintf(what, sizeof what, "%s -> %s, %lld x %lld x %lld, ta %d, tb %d, beta %g, extras %d",
        dtype_name(o.ab_type), dtype_name(o.c_type), (long long)o.m, (long long)o.n, (long long)o.k,
        o.ta, o.tb, (double)o.beta, extra);
    check_product(&o, what);
}

/* _i: whether it has no kernel for any epilogue. */
START_TEST(test_products)
{
    fake_cublaslt.plain = _i ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
    for (int type = 0; type < TYPES; type++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            for (int variant = 0; variant < 16; variant++)
                for (size_t x = 0; x < sizeof extras / sizeof *extras; x++)
                    check_shape(type, shapes[s], variant, extras[x]);
    ck_assert_int_eq(narrowed, 0);
}
END_TEST

/* Which epilogue goes along, and when none does. */
START_TEST(test_epilogues)
{
    static const struct {
        int extras;
        int64_t ldc, pre_offset; /* elements */
        enum dtype ab, c;
        uint32_t epilogue;
        bool finish;
    } rows[] = {
        {0, 16, 0, DTYPE_F32, DTYPE_F32, CUBLASLT_EPILOGUE_DEFAULT, false},
        {BIAS, 16, 0, DTYPE_F32, DTYPE_F32, CUBLASLT_EPILOGUE_BIAS, false},
        {GELU, 16, 0, DTYPE_BF16, DTYPE_BF16, CUBLASLT_EPILOGUE_GELU, false},
        {BIAS | GELU, 17, 0, DTYPE_F16, DTYPE_F16, CUBLASLT_EPILOGUE_GELU_BIAS, false},
        {GELU | PRE, 16, 0, DTYPE_F32, DTYPE_F32, CUBLASLT_EPILOGUE_GELU_AUX, false},
        {BIAS | GELU | PRE, 16, 0, DTYPE_BF16, DTYPE_BF16, CUBLASLT_EPILOGUE_GELU_AUX_BIAS, false},
        /* rows of the auxiliary output that are no whole vectors, or not aligned */
        {GELU | PRE, 20, 0, DTYPE_F32, DTYPE_F32, CUBLASLT_EPILOGUE_DEFAULT, true},
        {GELU | PRE, 16, 1, DTYPE_F32, DTYPE_F32, CUBLASLT_EPILOGUE_DEFAULT, true},
        /* a bias is of the operands' type, an epilogue's of the result's */
        {BIAS, 16, 0, DTYPE_BF16, DTYPE_F32, CUBLASLT_EPILOGUE_DEFAULT, true},
        {GELU, 16, 0, DTYPE_F16, DTYPE_F32, CUBLASLT_EPILOGUE_DEFAULT, true},
        /* the exact GELU has no epilogue; the bias before it goes along all the same */
        {ERF | PRE, 16, 0, DTYPE_F32, DTYPE_F32, CUBLASLT_EPILOGUE_DEFAULT, true},
        {BIAS | ERF | PRE, 20, 1, DTYPE_BF16, DTYPE_BF16, CUBLASLT_EPILOGUE_BIAS, true},
        {BIAS | ERF | PRE, 16, 0, DTYPE_BF16, DTYPE_F32, CUBLASLT_EPILOGUE_DEFAULT, true},
        /* without GELU there is nothing before it */
        {PRE, 16, 0, DTYPE_F32, DTYPE_F32, CUBLASLT_EPILOGUE_DEFAULT, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct op_matmul o = product(4, 16, 8, rows[i].ab, rows[i].c, rows[i].extras);
        finished = 0;
        o.ldc = rows[i].ldc;
        if (o.pre)
            o.pre = pre.bytes + dtype_bytes(o.c_type, rows[i].pre_offset);
        multiply(&o);
        ck_assert_msg(
            fake_cublaslt.epilogue == rows[i].epilogue, "row %zu: %u", i, fake_cublaslt.epilogue);
        ck_assert_msg(finished == rows[i].finish, "row %zu", i);
    }
}
END_TEST

/* A combination that it refuses is asked for once; a kept one is finished each time. */
START_TEST(test_refused_epilogue)
{
    static const cublasStatus_t refusals[] = {
        CUBLAS_STATUS_NOT_SUPPORTED, CUBLAS_STATUS_INVALID_VALUE};
    struct op_matmul o = product(4, 16, 8, DTYPE_F32, DTYPE_F32, BIAS | GELU | PRE);
    for (int i = 0; i < 2; i++) {
        fake_cublaslt.plain = refusals[i];
        o.m = 4 + i;
        for (int k = 0; k < 3; k++)
            check_product(&o, "refused");
        ck_assert_int_eq(fake_cublaslt.asked, 2 * (i + 1));
        ck_assert_int_eq(finished, 3 * (i + 1));
    }
    /* It knows the combination, but has no algorithm for it. */
    fake_cublaslt.plain = CUBLAS_STATUS_SUCCESS;
    fake_cublaslt.none = 1;
    o.m = 9;
    check_product(&o, "none found");
    ck_assert_int_eq(finished, 7);
    ck_assert_uint_eq(fake_cublaslt.epilogue, CUBLASLT_EPILOGUE_DEFAULT);
}
END_TEST

START_TEST(test_kept_with_other_pointers)
{
    struct op_matmul o = product(4, 16, 8, DTYPE_BF16, DTYPE_BF16, BIAS | GELU | PRE);
    check_product(&o, "first");
    o.bias = bias.bytes + 512;
    o.pre = pre.bytes + 1024;
    o.a = a.bytes + 256;
    o.c = c.bytes + 2048;
    o.alpha = 2;
    check_product(&o, "other pointers");
    ck_assert_int_eq(fake_cublaslt.asked, 1);
    ck_assert_uint_eq(fake_cublaslt.epilogue, CUBLASLT_EPILOGUE_GELU_AUX_BIAS);
}
END_TEST

/* One difference each, from a product that is kept. */
static void differ(struct op_matmul *o, int how)
{
    static const int64_t bytes = 128; /* of 256 */
    switch (how) {
    case 0:
        o->m++;
        break;
    case 1:
        o->n--;
        break;
    case 2:
        o->k--;
        break;
    case 3:
        o->lda += 8;
        break;
    case 4:
        o->ldb += 8;
        break;
    case 5:
        o->ldc += 8;
        break;
    case 6:
        o->ta = true;
        break;
    case 7:
        o->tb = true;
        break;
    case 8:
        o->ab_type = o->c_type = DTYPE_F16;
        break;
    case 9:
        o->c_type = DTYPE_F32;
        break;
    case 10:
        o->beta = 1;
        break;
    case 11:
        o->bias = NULL;
        break;
    case 12:
        o->act = OP_ACT_NONE;
        o->pre = NULL;
        break;
    case 13:
        o->pre = NULL;
        break;
    case 14:
        o->a = a.bytes + bytes;
        break;
    case 15:
        o->b = b.bytes + bytes;
        break;
    case 16:
        o->c = c.bytes + bytes;
        break;
    case 17:
        o->bias = bias.bytes + bytes;
        break;
    default:
        o->pre = pre.bytes + bytes;
        break;
    }
}
#define DIFFERENCES 19

START_TEST(test_what_is_another_product)
{
    const struct op_matmul first = product(16, 16, 16, DTYPE_BF16, DTYPE_BF16, BIAS | GELU | PRE);
    char what[32];
    check_product(&first, "first");
    for (int i = 0; i < DIFFERENCES; i++) {
        struct op_matmul o = first;
        differ(&o, i);
        snprintf(what, sizeof what, "difference %d", i);
        int64_t asked = fake_cublaslt.asked;
        check_product(&o, what);
        ck_assert_msg(fake_cublaslt.asked == asked + 1, "%s", what);
        check_product(&o, what);
        check_product(&first, "first again");
        ck_assert_msg(fake_cublaslt.asked == asked + 1, "%s", what);
    }
}
END_TEST

/* Product i of a row of different ones. */
static void nth(int64_t i, int64_t *asked)
{
    struct op_matmul o = product(1, 1 + i, 1, DTYPE_F32, DTYPE_F32, 0);
    int64_t before = fake_cublaslt.asked;
    multiply(&o);
    *asked = fake_cublaslt.asked - before;
}

START_TEST(test_the_oldest_gives_way)
{
    int64_t asked, full;
    for (int64_t i = 0; i < ENTRIES; i++) {
        nth(i, &asked);
        ck_assert_int_eq(asked, 1);
    }
    full = fake_cublaslt.alive;
    for (int64_t i = 0; i < ENTRIES; i++) {
        nth(i, &asked);
        ck_assert_int_eq(asked, 0);
    }
    nth(0, &asked); /* 1 has been unused for the longest time now */
    nth(ENTRIES, &asked);
    ck_assert_int_eq(asked, 1);
    nth(0, &asked);
    ck_assert_int_eq(asked, 0);
    nth(2, &asked);
    ck_assert_int_eq(asked, 0);
    nth(1, &asked); /* takes 3's place */
    ck_assert_int_eq(asked, 1);
    nth(3, &asked);
    ck_assert_int_eq(asked, 1);
    ck_assert_int_eq(fake_cublaslt.alive, full);
}
END_TEST

START_TEST(test_the_first_that_runs)
{
    struct op_matmul o = product(3, 5, 7, DTYPE_F32, DTYPE_F32, 0);
    fake_cublaslt.unusable = 2;
    check_product(&o, "the third");
    fake_cublaslt.unusable = 99;
    fake_cublaslt.last_error = cudaErrorNotReady; /* a poll's, which is not the reason */
    o.m = 4;
    op_cuda_matmul(&device.base, &o);
    fake_cublaslt.last_error = cudaSuccess;
    ck_assert_int_eq(device.base.failure.code, ERR_DEVICE);
    ck_assert_msg(strstr(device.base.failure.text,
                      "cuda:3: matrix product 4 x 5 x 7 (f32 -> f32): cuBLASLt: "
                      "CUBLAS_STATUS_NOT_SUPPORTED"),
        "%s", device.base.failure.text);
}
END_TEST

/* F32 only, and only when it is allowed. */
START_TEST(test_tf32)
{
    static const char *const given[] = {NULL, "0", "", "1"};
    struct op_matmul f32 = product(4, 4, 4, DTYPE_F32, DTYPE_F32, 0);
    struct op_matmul bf16 = product(4, 4, 4, DTYPE_BF16, DTYPE_F32, 0);
    for (int i = 0; i < 4; i++) {
        struct err e = {0};
        blas_destroy(device.blas);
        if (given[i])
            setenv(NAME_ENV_TF32, given[i], 1);
        ck_assert(!blas_create(&device, &device.blas, &e));
        multiply(&f32);
        ck_assert_int_eq(
            fake_cublaslt.compute, i == 3 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F);
        multiply(&bf16);
        ck_assert_int_eq(fake_cublaslt.compute, CUBLAS_COMPUTE_32F);
    }
    ck_assert_uint_ge(fake_cublaslt.workspace, (size_t)32 << 20);
}
END_TEST

START_TEST(test_what_it_does_not_multiply)
{
    static const enum dtype bad[][2] = {{DTYPE_Q8_0, DTYPE_F32}, {DTYPE_I32, DTYPE_I32},
        {DTYPE_BF16, DTYPE_F16}, {DTYPE_F32, DTYPE_I32}};
    struct op_matmul o = product(0, 4, 4, DTYPE_F32, DTYPE_F32, 0);
    multiply(&o);
    o.m = 4;
    o.n = 0;
    multiply(&o);
    ck_assert_int_eq(fake_cublaslt.multiplied, 0);
    for (int i = 0; i < 4; i++) {
        o = product(4, 4, 4, bad[i][0], bad[i][1], 0);
        op_cuda_matmul(&device.base, &o);
        ck_assert_int_eq(device.base.failure.code, ERR_DEVICE);
        device.base.failure.code = ERR_NONE;
    }
    o = product(4, 4, 0, DTYPE_F32, DTYPE_F32, 0);
    op_cuda_matmul(&device.base, &o);
    ck_assert_int_eq(device.base.failure.code, ERR_DEVICE);
    device.base.failure.code = ERR_NONE;
    /* cuBLASLt has no product of F32 with a result of 16 bits. */
    o = product(4, 4, 4, DTYPE_F32, DTYPE_BF16, BIAS);
    check_product(&o, "narrow");
    ck_assert_int_eq(narrowed, 1);
    ck_assert_int_eq(fake_cublaslt.multiplied, 0);
}
END_TEST

/* Each call that can fail does once, in turn. */
START_TEST(test_open_failures)
{
    struct err e = {0};
    blas_destroy(device.blas);
    device.blas = NULL;
    for (int64_t i = 1;; i++) {
        fake_cublaslt.calls = 0;
        fake_cublaslt.fail_nth = i;
        fake_cublaslt.failure = i % 2 ? CUBLAS_STATUS_ALLOC_FAILED : CUBLAS_STATUS_NOT_INITIALIZED;
        int r = blas_create(&device, &device.blas, &e);
        if (fake_cublaslt.calls < i) {
            ck_assert_int_eq(r, 0);
            ck_assert_int_gt(i, 5);
            break;
        }
        ck_assert_int_eq(r, i % 2 ? -ERR_MEMORY : i == 1 ? -ERR_MEMORY : -ERR_DEVICE);
        ck_assert_ptr_null(device.blas);
        ck_assert_int_eq(fake_cublaslt.alive, 0);
    }
}
END_TEST

/* A failed call is the device's failure, or there is another way; either way nothing wrong is
   kept. */
START_TEST(test_product_failures)
{
    struct op_matmul o = product(4, 16, 8, DTYPE_F32, DTYPE_F32, BIAS | GELU | PRE);
    bool alloc = _i;
    int failures = 0;
    fake_cublaslt.failure = alloc ? CUBLAS_STATUS_ALLOC_FAILED : CUBLAS_STATUS_INTERNAL_ERROR;
    for (int64_t i = 1;; i++) {
        o.m = 4 + i; /* a new one */
        fake_cublaslt.calls = 0;
        fake_cublaslt.fail_nth = i;
        finished = 0;
        op_cuda_matmul(&device.base, &o);
        fake_cublaslt.fail_nth = 0;
        if (fake_cublaslt.calls < i)
            break;
        bool failed = device.base.failure.code != ERR_NONE;
        ck_assert_msg(failed || finished, "call %lld failed unnoticed", (long long)i);
        if (failed)
            ck_assert_int_eq(device.base.failure.code, alloc ? ERR_MEMORY : ERR_DEVICE);
        failures += failed;
        device.base.failure.code = ERR_NONE;
        check_product(&o, "after a failure");
    }
    ck_assert_int_gt(failures, 8);
    /* Of a product that is kept: its pointers, the product. */
    for (int64_t i = 1; i <= 3; i++) {
        fake_cublaslt.calls = 0;
        fake_cublaslt.fail_nth = i;
        op_cuda_matmul(&device.base, &o);
        fake_cublaslt.fail_nth = 0;
        ck_assert_int_eq(device.base.failure.code, alloc ? ERR_MEMORY : ERR_DEVICE);
        device.base.failure.code = ERR_NONE;
        check_product(&o, "kept, after a failure");
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("blas");
    TCase *t = tcase_create("blas");
    tcase_add_checked_fixture(t, setup, done);
    tcase_add_loop_test(t, test_products, 0, 2);
    tcase_add_test(t, test_epilogues);
    tcase_add_test(t, test_refused_epilogue);
    tcase_add_test(t, test_kept_with_other_pointers);
    tcase_add_test(t, test_what_is_another_product);
    tcase_add_test(t, test_the_oldest_gives_way);
    tcase_add_test(t, test_the_first_that_runs);
    tcase_add_test(t, test_tf32);
    tcase_add_test(t, test_what_it_does_not_multiply);
    tcase_add_test(t, test_open_failures);
    tcase_add_loop_test(t, test_product_failures, 0, 2);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
