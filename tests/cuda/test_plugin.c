/*
 * Goal: the CUDA plugin that was just linked loads, and on a machine that cannot use it the error
 * is one clear sentence of the class "bad device", at once. Method: it lies beside this program, as
 * it does beside a rank, and is opened by dev_open. On a machine with a GPU it must open, move
 * bytes and multiply; what kernels compute there is the business of `make gpu-check`.
 */
#include "base/clock.h"
#include "kernels/dev.h"
#include "kernels/ops.h"

#include <check.h>
#include <unistd.h>

#define OPEN_MS 60000 /* a GPU's start takes seconds, a missing driver none */

static bool machine_has_driver(void)
{
    return !access("/dev/nvidiactl", F_OK);
}

START_TEST(test_without_driver)
{
    for (int index = 0; index < 10; index += 9) {
        struct err e = {0};
        struct dev *d = (struct dev *)&e;
        int64_t start_ms = clock_ms();
        ck_assert_int_eq(dev_open("cuda", index, 0, &d, &e), -ERR_DEVICE);
        ck_assert_int_lt(clock_ms() - start_ms, OPEN_MS);
        ck_assert_ptr_eq(d, &e); /* the output is unchanged */
        char says[64];
        snprintf(says, sizeof says, "cuda:%d: ", index);
        ck_assert_msg(!strncmp(e.text, says, strlen(says)), "%s", e.text);
        ck_assert_msg(strstr(e.text, "no NVIDIA driver"), "%s", e.text);
        ck_assert_ptr_null(strchr(e.text, '\n'));
    }
}
END_TEST

START_TEST(test_with_driver)
{
    enum { SIDE = 64, BYTES = SIDE * SIDE * 4 };
    struct err e = {0};
    struct dev *d = NULL;
    struct dev_info info;
    float host[SIDE * SIDE], back[SIDE * SIDE];
    void *a = NULL, *b = NULL, *c = NULL;
    ck_assert_msg(!dev_open("cuda", 0, 0, &d, &e), "%s", e.text);
    dev_describe(d, &info);
    ck_assert_str_eq(info.kind, "cuda");
    ck_assert(!info.host_readable);
    ck_assert(!dev_alloc(d, BYTES, &a, &e) && !dev_alloc(d, BYTES, &b, &e) &&
        !dev_alloc(d, BYTES, &c, &e));
    for (int i = 0; i < SIDE * SIDE; i++)
        host[i] = i % SIDE == i / SIDE ? 2 : 0;
    dev_upload(d, a, host, BYTES);
    for (int i = 0; i < SIDE * SIDE; i++)
        host[i] = (float)i;
    dev_upload(d, b, host, BYTES);
    dev_ops(d)->matmul(d,
        &(struct op_matmul){.m = SIDE,
            .n = SIDE,
            .k = SIDE,
            .a = a,
            .b = b,
            .c = c,
            .lda = SIDE,
            .ldb = SIDE,
            .ldc = SIDE,
            .ab_type = DTYPE_F32,
            .c_type = DTYPE_F32,
            .alpha = 1});
    dev_download(d, back, c, BYTES);
    ck_assert_msg(!dev_sync(d, &e), "%s", e.text);
    for (int i = 0; i < SIDE * SIDE; i++)
        ck_assert(back[i] == 2 * host[i]);
    dev_free(d, a);
    dev_free(d, b);
    dev_free(d, c);
    dev_close(d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plugin");
    TCase *t = tcase_create("plugin");
    if (machine_has_driver()) {
        printf("SKIP: there is an NVIDIA driver: what is said without one\n");
        tcase_add_test(t, test_with_driver);
    } else {
        printf("SKIP: there is no NVIDIA driver: the plugin on a device\n");
        tcase_add_test(t, test_without_driver);
    }
    tcase_set_timeout(t, 120);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
