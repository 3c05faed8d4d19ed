/*
 * Goal: what is counted is what is cut, tensors are aligned and do not overlap unless `used` was
 * set back, and no size wraps. Method: one walk with and without a base; sizes at the edge of 64
 * bits.
 */
#include "runtime/model/carve.h"

#include "tests/unit.h"

#include <signal.h>

static struct err e;

static void walk(struct carve *c, char *at[4])
{
    at[0] = carve_take(c, 1);
    at[1] = carve_tensor(c, 3, 7, DTYPE_BF16);
    int64_t mark = c->used;
    at[2] = carve_tensor(c, 100, 1, DTYPE_F32);
    c->used = mark; /* what follows shares the memory of what came before */
    at[3] = carve_take(c, 64);
}

START_TEST(counting_and_cutting_agree)
{
    struct carve c = {0};
    char *at[4];
    struct dev *d;
    walk(&c, at);
    for (int i = 0; i < 4; i++)
        ck_assert_ptr_null(at[i]);
    ck_assert_int_eq(c.size, 64 + 64 + 448);
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    ck_assert_msg(!carve_open(&c, d, &e), "%s", e.text);
    walk(&c, at);
    ck_assert_ptr_eq(at[0], c.base);
    ck_assert_ptr_eq(at[1], c.base + 64);
    ck_assert_ptr_eq(at[2], c.base + 128);
    ck_assert_ptr_eq(at[3], at[2]);
    ck_assert_int_eq(c.size, 64 + 64 + 448);
    carve_close(&c, d);
    ck_assert(!c.base && !c.size);
    ck_assert(!carve_open(&c, d, &e) && !c.base); /* nothing was counted */
    carve_close(&c, d);
    dev_close(d);
}
END_TEST

START_TEST(sizes_saturate)
{
    ck_assert_int_eq(carve_times(1LL << 62, 4), INT64_MAX);
    ck_assert_int_eq(carve_times(3, 4), 12);
    ck_assert_int_eq(carve_plus(INT64_MAX, 1), INT64_MAX);
    ck_assert_int_eq(carve_plus(3, 4), 7);
    for (int i = 0; i < 3; i++) {
        static const int64_t bytes[] = {INT64_MAX, INT64_MAX - 63, INT64_MAX - 64};
        struct carve c = {0};
        carve_take(&c, bytes[i]);
        carve_take(&c, 64);
        ck_assert_int_eq(c.used, INT64_MAX);
        carve_tensor(&c, 1LL << 40, 1LL << 40, DTYPE_F32);
        ck_assert_int_eq(c.size, INT64_MAX);
    }
}
END_TEST

START_TEST(what_was_not_counted_is_not_there)
{
    struct carve c = {0};
    struct dev *d;
    carve_take(&c, 64);
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    ck_assert_msg(!carve_open(&c, d, &e), "%s", e.text);
    carve_take(&c, 64);
    carve_take(&c, 1); /* stops */
}
END_TEST

START_TEST(a_size_that_no_device_has_is_an_error)
{
    struct carve c = {0};
    struct dev *d;
    carve_take(&c, INT64_MAX);
    ck_assert(!dev_open("cpu", 0, 1, &d, &e));
    ck_assert_int_eq(carve_open(&c, d, &e), -ERR_MEMORY);
    carve_close(&c, d);
    dev_close(d);
}
END_TEST
int main(void)
{
    Suite *s = suite_create("carve");
    TCase *c = tcase_create("carve");
    tcase_add_test(c, counting_and_cutting_agree);
    tcase_add_test(c, sizes_saturate);
    tcase_add_test_raise_signal(c, what_was_not_counted_is_not_there, SIGABRT);
    tcase_add_test(c, a_size_that_no_device_has_is_an_error);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
