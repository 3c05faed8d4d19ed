/*
 * Goal: a rank computes on the device that its job names, on its share of it where ranks share one,
 * and never on another in silence. Method: the names of resources; the processor opened alone and
 * as one of two; the simulated GPU (tests/cudasim) with nothing behind it.
 * needs: cuda
 */
#include "runtime/model/device.h"

#include "tests/unit.h"

START_TEST(devices_by_resource)
{
    static const struct {
        const char *resource;
        int local;
        const char *kind;
        int index;
    } rows[] = {{"cpu", 0, "cpu", 0}, {"cpu", 3, "cpu", 0}, {"nvidia.com/gpu", 0, "cuda", 0},
        {"nvidia.com/gpu", 7, "cuda", 7}, {"nvidia.com/mig-1g.10gb", 2, "cuda", 2}};
    static const char *const others[] = {
        "amd.com/gpu", "nvidia.com/gpux", "nvidia.com/", "", "gpu"};
    const char *kind;
    struct err e = {0};
    int index;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert(!device_choose(rows[i].resource, rows[i].local, &kind, &index, &e));
        ck_assert_str_eq(kind, rows[i].kind);
        ck_assert_int_eq(index, rows[i].index);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        ck_assert_int_eq(device_choose(others[i], 0, &kind, &index, &e), -ERR_USER);
        ck_assert_ptr_nonnull(strstr(e.text, "spec.device.resource"));
        ck_assert_ptr_nonnull(strstr(e.text, others[i]));
    }
}
END_TEST

START_TEST(the_processor_is_shared_evenly)
{
    struct dev *whole, *half;
    struct dev_info all, mine;
    int64_t budget, share;
    struct err e = {0};
    ck_assert_msg(!device_open("cpu", 0, 1, &whole, &budget, &e), "%s", e.text);
    ck_assert_msg(!device_open("cpu", 1, 2, &half, &share, &e), "%s", e.text);
    dev_describe(whole, &all);
    dev_describe(half, &mine);
    ck_assert_int_gt(budget, 0);
    ck_assert_int_eq(budget, all.memory_bytes);
    ck_assert_int_eq(share, mine.memory_bytes / 2);
    ck_assert_int_eq(mine.threads, all.threads > 3 ? all.threads / 2 : 1);
    dev_close(whole);
    dev_close(half);
}
END_TEST

START_TEST(a_gpu_is_a_rank_s_own)
{
    struct dev *dev;
    struct dev_info info;
    int64_t budget;
    struct err e = {0};
    ck_assert_msg(!device_open("nvidia.com/gpu", 1, 2, &dev, &budget, &e), "%s", e.text);
    dev_describe(dev, &info);
    ck_assert(!info.host_readable);
    ck_assert_int_eq(budget, info.memory_bytes);
    dev_close(dev);
}
END_TEST

static void refused(const char *resource, enum err_code code, const char *word)
{
    struct dev *dev = NULL;
    int64_t budget = -7;
    struct err e = {0};
    ck_assert_int_eq(device_open(resource, 0, 1, &dev, &budget, &e), -(int)code);
    ck_assert_msg(strstr(e.text, word) != NULL, "%s", e.text);
    ck_assert_ptr_null(strchr(e.text, '\n'));
    ck_assert(!dev && budget == -7);
}

/* Never silently on the processor. */
START_TEST(a_missing_device_is_told)
{
    refused("amd.com/gpu", ERR_USER, "amd.com/gpu");
    setenv("LLMJOB_CUDASIM_DEVICES", "0", 1);
    refused("nvidia.com/gpu", ERR_DEVICE, "GPU");
    setenv("LLMJOB_CUDASIM_DRIVER", "0", 1);
    refused("nvidia.com/gpu", ERR_DEVICE, "driver");
}
END_TEST

UNIT_MAIN("device", devices_by_resource, the_processor_is_shared_evenly, a_gpu_is_a_rank_s_own,
    a_missing_device_is_told)
