/*
 * Goal: GGUF blocks decode to what the gguf package decodes them to, and f16 and bf16 conversions
 * are exact. Method: golden blocks (tests/golden/make_quants.py) through quant_decode and through
 * the convert and quant_matmul operations of both kinds (a product with the identity gives the
 * weights back); all 65536 f16 and bf16 patterns back and forth.
 */
#include "kernels/quant.h"

#include "base/mem.h"
#include "kernels/ops.h"
#include "tests/golden/quants.h"

#include <check.h>
#include <math.h>

static const struct golden {
    enum dtype t;
    const uint8_t *blocks;
    size_t bytes;
    const uint32_t *bits;
} golden[] = {
    {DTYPE_Q8_0, quants_q8_0, sizeof quants_q8_0, quants_q8_0_f32},
    {DTYPE_Q4_0, quants_q4_0, sizeof quants_q4_0, quants_q4_0_f32},
    {DTYPE_Q4_1, quants_q4_1, sizeof quants_q4_1, quants_q4_1_f32},
    {DTYPE_Q5_0, quants_q5_0, sizeof quants_q5_0, quants_q5_0_f32},
    {DTYPE_Q5_1, quants_q5_1, sizeof quants_q5_1, quants_q5_1_f32},
    {DTYPE_Q4_K, quants_q4_k, sizeof quants_q4_k, quants_q4_k_f32},
    {DTYPE_Q6_K, quants_q6_k, sizeof quants_q6_k, quants_q6_k_f32},
};
enum { GOLDEN = sizeof golden / sizeof *golden };

/* A fused multiply-add may round differently: one part in 2^22 of the largest value that the
 * block's scales allow. */
static void check_values(const struct golden *g, const float *got, const char *how)
{
    float want[QUANTS_ELEMENTS], largest = 0;
    memcpy(want, g->bits, sizeof want);
    for (int i = 0; i < QUANTS_ELEMENTS; i++)
        largest = fmaxf(largest, fabsf(want[i]));
    for (int i = 0; i < QUANTS_ELEMENTS; i++)
        ck_assert_msg(fabsf(got[i] - want[i]) <= largest * 0x1p-22f,
            "%s by %s, element %d: %g, not %g", dtype_name(g->t), how, i, got[i], want[i]);
}

START_TEST(test_golden_decode)
{
    const struct golden *g = &golden[_i];
    float got[QUANTS_ELEMENTS];
    ck_assert_int_eq(dtype_bytes(g->t, QUANTS_ELEMENTS), g->bytes);
    quant_decode(g->t, g->blocks, QUANTS_ELEMENTS, got);
    check_values(g, got, "quant_decode");
}
END_TEST

START_TEST(test_golden_operations)
{
    static const char *const kinds[] = {"cpu", "cpu-ref"};
    const struct golden *g = &golden[_i];
    for (size_t n = 0; n < 2; n++) {
        struct err e = {0};
        struct dev *d;
        float got[QUANTS_ELEMENTS], *x, *y;
        const int64_t k = 256;
        ck_assert_int_eq(dev_open(kinds[n], 0, 1, &d, &e), 0);
        dev_ops(d)->convert(d,
            &(struct op_convert){.count = QUANTS_ELEMENTS,
                .x = g->blocks,
                .x_type = g->t,
                .y = got,
                .y_type = DTYPE_F32});
        check_values(g, got, "convert");
        ck_assert_int_eq(dev_alloc(d, k * k * sizeof(float), (void **)&x, &e), 0);
        ck_assert_int_eq(dev_alloc(d, QUANTS_ELEMENTS * sizeof(float), (void **)&y, &e), 0);
        for (int i = 0; i < k; i++)
            x[i * k + i] = 1;
        for (int from = 0; from < k; from += 16) /* 16 rows: the decoding path */
            dev_ops(d)->quant_matmul(d,
                &(struct op_quant_matmul){.m = 16,
                    .n = QUANTS_ELEMENTS / k,
                    .k = k,
                    .x = x + from * k,
                    .w = g->blocks,
                    .w_type = g->t,
                    .y = y + from * QUANTS_ELEMENTS / k});
        ck_assert_int_eq(dev_sync(d, &e), 0);
        for (int i = 0; i < QUANTS_ELEMENTS; i++) /* y (k, n) is W transposed */
            got[i] = y[i % k * (QUANTS_ELEMENTS / k) + i / k];
        check_values(g, got, "quant_matmul");
        dev_free(d, x);
        dev_free(d, y);
        dev_close(d);
    }
}
END_TEST

START_TEST(test_half_round_trip)
{
    for (uint32_t h = 0; h < 65536; h++) {
        float f = f16_to_f32((uint16_t)h), b = bf16_to_f32((uint16_t)h);
        if (isnan(f))
            ck_assert(isnan(f16_to_f32(f32_to_f16(f))));
        else
            ck_assert_uint_eq(f32_to_f16(f), h);
        if (isnan(b))
            ck_assert(isnan(bf16_to_f32(f32_to_bf16(b))));
        else
            ck_assert_uint_eq(f32_to_bf16(b), h);
    }
}
END_TEST

START_TEST(test_half_rounding)
{
    static const struct {
        float in;
        uint16_t f16, bf16;
    } table[] = {{1, 0x3c00, 0x3f80}, {1 + 0x1p-11f, 0x3c00, 0x3f80}, /* a tie goes to even */
        {1 + 3 * 0x1p-11f, 0x3c02, 0x3f80}, {1 + 0x1p-11f + 0x1p-20f, 0x3c01, 0x3f80},
        {1 + 0x1p-8f, 0x3c04, 0x3f80}, {1 + 3 * 0x1p-8f, 0x3c0c, 0x3f82}, {65504, 0x7bff, 0x4780},
        {65519.996f, 0x7bff, 0x4780}, {65520, 0x7c00, 0x4780}, {-1e30f, 0xfc00, 0xf14a},
        {0x1p-24f, 0x0001, 0x3380}, {0x1p-25f, 0x0000, 0x3300}, {3 * 0x1p-25f, 0x0002, 0x33c0},
        {-0x1p-14f, 0x8400, 0xb880}, {-0.0f, 0x8000, 0x8000}, {INFINITY, 0x7c00, 0x7f80}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        ck_assert_msg(f32_to_f16(table[i].in) == table[i].f16, "f16 of %g: %04x", table[i].in,
            f32_to_f16(table[i].in));
        ck_assert_msg(f32_to_bf16(table[i].in) == table[i].bf16, "bf16 of %g: %04x", table[i].in,
            f32_to_bf16(table[i].in));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("quant");
    TCase *t = tcase_create("quant");
    tcase_add_loop_test(t, test_golden_decode, 0, GOLDEN);
    tcase_add_loop_test(t, test_golden_operations, 0, GOLDEN);
    tcase_add_test(t, test_half_round_trip);
    tcase_add_test(t, test_half_rounding);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
