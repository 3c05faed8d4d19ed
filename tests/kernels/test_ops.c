/*
 * Goal: the fast CPU operations compute what the reference computes, on every instruction set this
 * processor has, and are repeatable bit for bit. Method: each case of op_cases.c runs on "cpu-ref"
 * and on "cpu" with equal inputs; outputs are compared within the case's tolerance. Repeatability
 * compares two runs, and runs with 1, 2 and 3 threads, of those types of a shape that
 * tests/sample.h takes. Under AddressSanitizer they would only repeat the accesses of parity, which
 * is sampled there, by an emulated processor (LLMJOB_EMULATED), and everywhere in F16, which but
 * for products is BF16 with another load and store. That the reference itself is right is shown by
 * test_gradient.c (finite differences), test_ref.c and test_quant.c (golden values).
 * needs: sample
 */
#include "tests/kernels/op_cases.h"

#include "kernels/cpu/cpu.h"
#include "tests/sample.h"

#include <check.h>
#include <math.h>

#define SEED 20260

static struct dev *open_dev(const char *kind, int threads)
{
    struct err e = {0};
    struct dev *d = NULL;
    ck_assert_msg(!dev_open(kind, 0, threads, &d, &e), "%s", e.text);
    return d;
}

static void run_case(const struct op_case *c, const int64_t *shape, enum dtype t, struct dev *d,
    struct parity_run *out)
{
    parity_begin(out, d, t, SEED);
    c->run(out, shape);
}

static void compare(const struct op_case *c, const int64_t *shape, int s, enum dtype t,
    struct dev *ref, struct dev *fast)
{
    struct parity_run want, got;
    run_case(c, shape, t, ref, &want);
    for (int i = 0; cpu_isa_usable(i); i++) {
        cpu_isa_force(cpu_isa_usable(i));
        run_case(c, shape, t, fast, &got);
        double error = parity_error(&want, &got);
        ck_assert_msg(error <= 1, "%s on %s, shape %d, %s, seed %d: error %g of the tolerance",
            c->name, cpu_isa_usable(i)->name, s, dtype_name(t), SEED, error);
        parity_end(&got);
    }
    cpu_isa_force(NULL);
    parity_end(&want);
}

static bool taken(const struct op_case *c, int s, enum dtype t)
{
    return sample_takes((uint64_t)((c - op_cases) * OP_CASE_SHAPES + s) * 3 + t);
}

static bool emulated(void)
{
    return getenv("LLMJOB_EMULATED");
}

/* As opposed to whole. */
static bool sampled(void)
{
#ifdef __SANITIZE_ADDRESS__
    return true;
#else
    return emulated();
#endif
}

START_TEST(test_parity)
{
    const struct op_case *c = &op_cases[_i];
    struct dev *ref = open_dev("cpu-ref", 1), *fast = open_dev("cpu", 2);
    for (int s = 0; c->blocks && s < OP_CASE_SHAPES && c->shapes[s][0]; s++)
        if (!sampled() || taken(c, s, DTYPE_F32))
            compare(c, c->shapes[s], s, DTYPE_Q8_0, ref, fast);
    for (int s = 0; s < OP_CASE_SHAPES && c->shapes[s][0]; s++)
        for (enum dtype t = DTYPE_F32; t <= c->last; t++)
            if (!(sampled() || (t == DTYPE_F16 && !c->by_threads)) || taken(c, s, t))
                compare(c, c->shapes[s], s, t, ref, fast);
    dev_close(ref);
    dev_close(fast);
}
END_TEST

START_TEST(test_repeatable)
{
    const struct op_case *c = &op_cases[_i];
    for (int s = 0; s < OP_CASE_SHAPES && c->shapes[s][0]; s++)
        for (enum dtype t = DTYPE_F32; t <= c->last; t++) {
            static const int threads[] = {2, 2, 1, 3};
            struct parity_run first, again;
            if (!taken(c, s, t))
                continue;
            struct dev *d = open_dev("cpu", 2);
            run_case(c, c->shapes[s], t, d, &first);
            for (int i = 1; i < (c->by_threads ? 2 : 4); i++) {
                struct dev *other = open_dev("cpu", threads[i]);
                run_case(c, c->shapes[s], t, other, &again);
                ck_assert_msg(parity_equal(&first, &again),
                    "%s, shape %d, %s, seed %d: %d threads differ", c->name, s, dtype_name(t), SEED,
                    threads[i]);
                parity_end(&again);
                dev_close(other);
            }
            parity_end(&first);
            dev_close(d);
        }
}
END_TEST

/* Shapes of matmul whose widened operands, or whose operands with a result of 16 bits, exceed a
   block, so that they are cut. */
static const int64_t cut[][OP_CASE_SIZES] = {{257, 3, 33000, 0, 1, 1, 5, 2, 3},
    {3, 257, 33000, 1, 0, 1, 0, 3, 7}, {2, 300, 33000, 0, 0, 0, 1, 0, 1},
    {500, 70, 1601, 0, 1, 1, 3, 1, 3}, {395, 83, 1000, 1, 0, 1, 0, 0, 1}};
#define CUTS (sizeof cut / sizeof *cut)

/* Products of 16 bits as on a processor for which oneDNN has none: the case's shapes, and those. */
START_TEST(test_widened)
{
    const struct op_case *c = &op_cases[0];
    struct dev *ref = open_dev("cpu-ref", 1), *fast = open_dev("cpu", 2);
    ck_assert_str_eq(c->name, "matmul");
    matmul_force_wide(fast);
    for (int s = 0; s < OP_CASE_SHAPES && c->shapes[s][0]; s++)
        for (enum dtype t = DTYPE_BF16; t <= c->last; t++)
            if (!emulated() || taken(c, s, t))
                compare(c, c->shapes[s], s, t, ref, fast);
    for (int s = 0; s < (emulated() ? 0 : (int)CUTS); s++) /* the same text for all processors */
        for (enum dtype t = DTYPE_F32; t <= c->last; t++)
            compare(c, cut[s], OP_CASE_SHAPES + s, t, ref, fast);
    dev_close(ref);
    dev_close(fast);
}
END_TEST

/* Where the instruction set has a product of its own for them, the number of threads changes
   nothing. */
START_TEST(test_widened_threads)
{
    for (int s = 0; cpu_isa_chosen()->product && s < (int)CUTS; s++) {
        struct dev *devs[3];
        struct parity_run runs[3];
        for (int i = 0; i < 3; i++) {
            devs[i] = open_dev("cpu", 1 + 2 * i);
            matmul_force_wide(devs[i]);
            run_case(&op_cases[0], cut[s], DTYPE_BF16, devs[i], &runs[i]);
            ck_assert_msg(parity_equal(&runs[0], &runs[i]), "shape %d: threads differ", s);
        }
        for (int i = 0; i < 3; i++) {
            parity_end(&runs[i]);
            dev_close(devs[i]);
        }
    }
}
END_TEST

/* The exact GELU and its derivative where parity, whose tolerance goes by all elements together,
   sees little: small results, and the left tail, which keeps its precision. */
START_TEST(test_exact_gelu)
{
    enum { COUNT = 1 << 16 };
    static float x[COUNT], y[COUNT], ones[COUNT], slope[COUNT];
    struct dev *d = open_dev("cpu", 2);
    for (int i = 0; i < COUNT; i++) {
        x[i] = (float)(i - COUNT / 2) * (28.0f / COUNT);
        ones[i] = 1;
    }
    const struct op_matmul product = {.m = 1,
        .n = COUNT,
        .k = 1,
        .a = ones,
        .b = x,
        .c = y,
        .lda = 1,
        .ldb = COUNT,
        .ldc = COUNT,
        .alpha = 1,
        .act = OP_ACT_GELU_ERF};
    const struct op_gelu_back back = {.count = COUNT, .x = x, .dy = ones, .dx = slope, .erf = true};
    for (int k = 0; cpu_isa_usable(k); k++) {
        cpu_isa_force(cpu_isa_usable(k));
        dev_ops(d)->matmul(d, &product);
        dev_ops(d)->gelu_back(d, &back);
        for (int i = 0; i < COUNT; i++) {
            double u = (double)x[i], phi = 0.5 * erfc(-u * M_SQRT1_2);
            double near = fmin(3e-7 * fabs(u), u > -12 ? 1e-5 * fabs(u * phi) : 1) + 1e-40;
            double bell = u * exp(-0.5 * u * u) / sqrt(2 * M_PI);
            ck_assert_double_eq_tol((double)y[i], u * phi, near);
            ck_assert_double_eq_tol((double)slope[i], phi + bell, 4e-7);
        }
    }
    cpu_isa_force(NULL);
    dev_close(d);
}
END_TEST

/* An unusable product (rows that overlap) must come back from dev_sync as one error, and only
   once. */
START_TEST(test_failure_sticks)
{
    struct dev *d = open_dev("cpu", 1);
    float x[16] = {0};
    struct op_matmul a = {
        .m = 2, .n = 2, .k = -1, .a = x, .b = x, .c = x, .lda = 2, .ldb = 2, .ldc = 2, .alpha = 1};
    struct err e = {0};
    dev_ops(d)->matmul(d, &a);
    a.k = 2;
    dev_ops(d)->matmul(d, &a);
    ck_assert_int_eq(dev_sync(d, &e), -ERR_DEVICE);
    ck_assert_ptr_nonnull(strstr(e.text, "2 x 2 x -1"));
    ck_assert_int_eq(dev_sync(d, &e), 0);
    dev_close(d);
}
END_TEST

int main(void)
{
    sample_print();
    Suite *s = suite_create("ops");
    TCase *parity = tcase_create("parity"), *repeat = tcase_create("repeatable"),
          *failure = tcase_create("failure");
    tcase_set_timeout(parity, 300);
    tcase_set_timeout(repeat, 300);
    tcase_add_loop_test(parity, test_parity, 0, op_case_count);
    tcase_add_test(parity, test_widened);
    tcase_add_test(parity, test_widened_threads);
    tcase_add_test(parity, test_exact_gelu);
    if (!sampled())
        tcase_add_loop_test(repeat, test_repeatable, 0, op_case_count);
    tcase_add_test(failure, test_failure_sticks);
    suite_add_tcase(s, parity);
    suite_add_tcase(s, repeat);
    suite_add_tcase(s, failure);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
