/*
 * Goal: what optimizers keep in 8 and in 16 bits is what ops.h says. Method: codes and what they
 * make of numbers beside a golden file by numpy (tests/golden/make_codes.py), through updates that
 * keep just what they are given, of the reference and of every instruction set; rounding at random
 * is repeatable, goes to both neighbours and is right on average, so that a mean that moves by less
 * than half a unit a step arrives, and an element is rounded alike however a vector is cut.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/ops.h"
#include "tests/golden/codes.h"
#include "tests/unit.h"

#include <math.h>

#define SCALES ((CODES_ELEMENTS + OP_STATE_BLOCK - 1) / OP_STATE_BLOCK)
#define MANY   4096

static struct dev *open_dev(const char *kind)
{
    struct err e = {0};
    struct dev *d = NULL;
    ck_assert_msg(!dev_open(kind, 0, 1, &d, &e), "%s", e.text);
    return d;
}

/* Runs check on the reference and on every instruction set of the processor. */
static void everywhere(void (*check_fn)(struct dev *))
{
    struct dev *ref = open_dev("cpu-ref"), *fast = open_dev("cpu");
    check_fn(ref);
    for (int i = 0; cpu_isa_usable(i); i++) {
        cpu_isa_force(cpu_isa_usable(i));
        check_fn(fast);
    }
    cpu_isa_force(NULL);
    dev_close(ref);
    dev_close(fast);
}

/* -- codes -- */

static float number(const uint32_t *bits, int i)
{
    float x;
    memcpy(&x, &bits[i], sizeof x);
    return x;
}

START_TEST(values_are_the_papers)
{
    for (int i = 0; i < 256; i++) {
        const float of_first = number(codes_signed_map, i),
                    of_second = number(codes_unsigned_map, i);
        ck_assert_msg(op_code_value(true, i) == of_first, "%d: %g, not %g", i,
            (double)op_code_value(true, i), (double)of_first);
        ck_assert_msg(op_code_value(false, i) == of_second, "%d: %g, not %g", i,
            (double)op_code_value(false, i), (double)of_second);
    }
}
END_TEST

/* Momentum 0 keeps the gradient itself, beta2 0 its square: of a root, what was meant but for
   rounding, which no number of the golden file is near enough to a border for. A second moment
   above zero keeps the least code where the nearest would be 0. */
static void check_codes(struct dev *d)
{
    float w[CODES_ELEMENTS] = {0}, g[CODES_ELEMENTS], root[CODES_ELEMENTS];
    float m_scale[SCALES], v_scale[SCALES];
    uint8_t m[CODES_ELEMENTS], v[CODES_ELEMENTS];
    for (int i = 0; i < CODES_ELEMENTS; i++) {
        g[i] = number(codes_signed_x, i);
        root[i] = sqrtf(number(codes_unsigned_x, i));
        m[i] = v[i] = 0;
    }
    memset(m_scale, 0, sizeof m_scale);
    memset(v_scale, 0, sizeof v_scale);
    dev_ops(d)->sgd(d,
        &(struct op_sgd){.count = CODES_ELEMENTS,
            .w = w,
            .m = m,
            .grad = g,
            .grad_scale = 1,
            .state = DTYPE_U8,
            .m_scale = m_scale});
    for (int i = 0; i < CODES_ELEMENTS; i++)
        ck_assert_msg(m[i] == codes_signed_index[i], "element %d: %d, not %d", i, m[i],
            codes_signed_index[i]);
    dev_ops(d)->adamw(d,
        &(struct op_adamw){.count = CODES_ELEMENTS,
            .w = w,
            .m = m,
            .v = v,
            .grad = root,
            .eps = 1,
            .grad_scale = 1,
            .step = 1,
            .state = DTYPE_U8,
            .m_scale = m_scale,
            .v_scale = v_scale});
    for (int i = 0; i < CODES_ELEMENTS; i++) {
        int want = root[i] > 0 && !codes_unsigned_index[i] ? 1 : codes_unsigned_index[i];
        ck_assert_msg(v[i] == want, "second moment, element %d: %d, not %d", i, v[i], want);
    }
    for (int i = 0; i < SCALES; i++)
        ck_assert_double_eq_tol((double)(v_scale[i] / number(codes_unsigned_scale, i)), 1, 1e-6);
}

START_TEST(numbers_get_the_nearest_code)
{
    everywhere(check_codes);
}
END_TEST

/* -- rounding at random -- */

/* What a first moment x is kept as, from element `first` of a vector on. */
static void keep(struct dev *d, float x, uint64_t seed, int64_t first, int64_t n, uint16_t *out)
{
    float w[MANY] = {0}, g[MANY];
    for (int i = 0; i < n; i++)
        g[i] = x;
    dev_ops(d)->sgd(d,
        &(struct op_sgd){.count = n,
            .w = w,
            .m = out,
            .grad = g,
            .grad_scale = 1,
            .state = DTYPE_BF16,
            .seed = op_random_from(seed, (uint64_t)first)});
}

static double mean(const uint16_t *x)
{
    double sum = 0;
    for (int i = 0; i < MANY; i++)
        sum += (double)bf16_to_f32(x[i]);
    return sum / MANY;
}

/* 0.3 of the way from 1 to the next, 1 + 2^-7: the mean of 4096 is off by 2^-7 * 0.0072 (one
   standard deviation). */
static void check_rounding(struct dev *d)
{
    const float x = 1 + 0.3f * 0x1p-7f;
    uint16_t a[MANY] = {0}, b[MANY] = {0};
    keep(d, x, 1, 0, MANY, a);
    for (int i = 0; i < MANY; i++)
        ck_assert(a[i] == 0x3f80 || a[i] == 0x3f81);
    ck_assert_double_eq_tol(mean(a), (double)x, 4 * 0.0072 * 0x1p-7);
    keep(d, x, 1, 0, 1000, b);
    keep(d, x, 1, 1000, MANY - 1000, b + 1000);
    ck_assert_mem_eq(a, b, sizeof a);
    keep(d, x, 2, 0, MANY, b);
    ck_assert(memcmp(a, b, sizeof a) != 0);
    keep(d, -0x1.8p-3f, 2, 0, MANY, b); /* what BF16 holds stays what it is */
    for (int i = 0; i < MANY; i++)
        ck_assert_uint_eq(b[i], 0xbe40);
}

/* 0.999 of a number is nearest to that number itself in BF16: by the nearest it never fell. */
static void check_slow(struct dev *d)
{
    float w[MANY] = {0}, g[MANY] = {0};
    uint16_t m[MANY] = {0}, v[MANY];
    for (int i = 0; i < MANY; i++)
        v[i] = 0x3f80;
    for (int64_t step = 1; step <= 300; step++)
        dev_ops(d)->adamw(d,
            &(struct op_adamw){.count = MANY,
                .w = w,
                .m = m,
                .v = v,
                .grad = g,
                .beta1 = 0.9f,
                .beta2 = 0.999f,
                .eps = 1,
                .grad_scale = 1,
                .step = step,
                .state = DTYPE_BF16,
                .seed = (uint64_t)step});
    ck_assert_double_eq_tol(mean(v), pow(0.999, 300), 3e-3);
}

START_TEST(rounding_is_right_on_average)
{
    everywhere(check_rounding);
    everywhere(check_slow);
}
END_TEST

UNIT_MAIN(
    "state", values_are_the_papers, numbers_get_the_nearest_code, rounding_is_right_on_average)
