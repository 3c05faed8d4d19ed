/*
 * Goal: what the driver's management library knows of a GPU comes out as one phrase, and a library
 * that is absent, old or broken just says nothing. Method: tests/cuda/fake_nvml.c, loaded first, so
 * that the dynamic linker takes it for libnvidia-ml.so.1; it ends the program on a call out of
 * turn.
 */
#include "kernels/cuda/nvml.h"

#include <check.h>
#include <dlfcn.h>
#include <limits.h>
#include <unistd.h>

#define BUS "0000:01:00.0"

static void load_fake(void)
{
    char path[PATH_MAX + 32];
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);
    ck_assert_int_gt(n, 0);
    path[n] = 0;
    snprintf(strrchr(path, '/'), 32, "/fake/libnvidia-ml.so.1");
    ck_assert_msg(dlopen(path, RTLD_NOW | RTLD_LOCAL), "%s", dlerror());
}

static const struct {
    const char *xids, *ecc, *rows, *broken, *says;
} healths[] = {
    {"", "0", "", "", ""},
    {"79", "0", "", "", "XID 79 (fallen off the bus)"},
    {"31 31 31", "0", "", "", "XID 31 (memory page fault)"},
    {"63 48", "2", "pending", "",
        "XID 63 (row remapping), XID 48 (double-bit ECC error), 2 uncorrected memory errors, "
        "memory "
        "rows wait for a reset to be replaced"},
    {"12345", "0", "failed", "",
        "XID 12345 (see NVIDIA's list of XIDs), a memory row could not be replaced"},
    {"79", "3", "", "ecc", "XID 79 (fallen off the bus)"},
    {"79", "1", "failed", "rows", "XID 79 (fallen off the bus), 1 uncorrected memory errors"},
    {"79", "1", "", "wait", "1 uncorrected memory errors"},
    {"79", "1", "", "set", "1 uncorrected memory errors"},
    {"79", "1", "", "register", "1 uncorrected memory errors"},
};
START_TEST(test_health)
{
    char text[200] = "before", cut[9] = "before";
    load_fake();
    setenv("FAKE_NVML_XIDS", healths[_i].xids, 1);
    setenv("FAKE_NVML_ECC", healths[_i].ecc, 1);
    setenv("FAKE_NVML_ROWS", healths[_i].rows, 1);
    setenv("FAKE_NVML_BROKEN", healths[_i].broken, 1);
    struct nvml *n = nvml_open(BUS);
    ck_assert_ptr_nonnull(n);
    nvml_health(n, text, sizeof text);
    ck_assert_str_eq(text, healths[_i].says);
    nvml_close(n);
    n = nvml_open(BUS);
    nvml_health(n, cut, sizeof cut);
    ck_assert_int_eq(strncmp(cut, healths[_i].says, sizeof cut - 1), 0);
    nvml_close(n);
}
END_TEST

START_TEST(test_endless_events)
{
    char text[40];
    load_fake();
    setenv("FAKE_NVML_XIDS", "79", 1);
    setenv("FAKE_NVML_ENDLESS", "1", 1);
    struct nvml *n = nvml_open(BUS);
    nvml_health(n, text, sizeof text);
    ck_assert_str_eq(text, "XID 79 (fallen off the bus)");
    nvml_close(n);
}
END_TEST

START_TEST(test_nothing_known)
{
    static const char *const broken[] = {"init", "device"};
    char text[32] = "before";
    load_fake();
    ck_assert_ptr_null(nvml_open("0000:02:00.0")); /* no such GPU */
    for (int i = 0; i < 2; i++) {
        setenv("FAKE_NVML_BROKEN", broken[i], 1);
        ck_assert_ptr_null(nvml_open(BUS));
    }
    nvml_health(NULL, text, sizeof text);
    ck_assert_str_eq(text, "");
    nvml_close(NULL);
}
END_TEST

START_TEST(test_driver_version)
{
    char text[32] = "before";
    load_fake();
    nvml_driver_version(text, sizeof text);
    ck_assert_str_eq(text, "580.65.06");
    setenv("FAKE_NVML_BROKEN", "version", 1);
    nvml_driver_version(text, sizeof text);
    ck_assert_str_eq(text, "");
    setenv("FAKE_NVML_BROKEN", "init", 1);
    nvml_driver_version(text, sizeof text);
    ck_assert_str_eq(text, "");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("nvml");
    TCase *t = tcase_create("nvml");
    tcase_add_loop_test(t, test_health, 0, sizeof healths / sizeof *healths);
    tcase_add_test(t, test_endless_events);
    tcase_add_test(t, test_nothing_known);
    tcase_add_test(t, test_driver_version);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_FORK); /* what is loaded stays loaded */
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
