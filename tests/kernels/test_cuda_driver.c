/*
 * Goal: the CUDA driver moves bytes of any size in the order of the calls, records and replays,
 * refuses what a recording cannot hold, and says in one sentence with the right class why a device
 * cannot be opened, has no memory left, or has failed; after a failure nothing hangs. Method: the
 * plugin beside this program: a GPU's (make gpu-check), or that of tests/cudasim, whose driver
 * version and memory the environment sets, and which can be made to fault. Each test is a process
 * of its own (Check forks).
 * needs: cuda gpu
 */
#include "kernels/driver.h"

#include "base/clock.h"
#include "base/mem.h"
#include "tests/cudasim/control.h"
#include "tests/gpu/gpu.h"
#include "tests/unit.h"

#include <dlfcn.h>

#define MIB        ((size_t)1 << 20)
#define STAGING    (16 * MIB) /* of kernels/cuda/driver.c */
#define PIECE      (4 * MIB)
#define FAILING_MS 5000 /* for calls of a device that is lost; each should take none */

static uint64_t seed;

static struct dev *open_dev(void)
{
    struct err e = {0};
    struct dev *d = NULL;
    ck_assert_msg(!dev_open("cuda", 0, 0, &d, &e), "%s", e.text);
    return d;
}

static void *alloc(struct dev *d, size_t bytes)
{
    struct err e = {0};
    void *p = NULL;
    ck_assert_msg(!dev_alloc(d, bytes, &p, &e), "%s", e.text);
    return p;
}

static void sync_ok(struct dev *d)
{
    struct err e = {0};
    ck_assert_msg(!dev_sync(d, &e), "%s", e.text);
}

static void sync_fails(struct dev *d, enum err_code code, const char *says)
{
    struct err e = {0};
    ck_assert_int_eq(dev_sync(d, &e), -(int)code);
    ck_assert_msg(strstr(e.text, says), "%s", e.text);
}

static char *noise(size_t bytes, uint64_t which)
{
    char *p = mem_alloc(bytes);
    ck_assert_ptr_nonnull(p);
    for (size_t i = 0; i < bytes; i++)
        p[i] = (char)op_random(seed + which, i);
    return p;
}

static bool zeros(const char *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (p[i])
            return false;
    return true;
}

START_TEST(test_describe)
{
    struct dev *d = open_dev();
    struct dev_info info;
    dev_describe(d, &info);
    ck_assert_str_eq(info.kind, "cuda");
    ck_assert(!info.host_readable);
    ck_assert_int_gt(info.memory_bytes, 1 << 20);
    /* the simulated one: "llmjob-cudasim-" and a zero, in digits */
    ck_assert_msg(
        strstr(info.name, gpu()->simulated ? "GPU-6c6c6d6a-6f62-2d63-7564-6173696d2d00" : " GPU-"),
        "%s", info.name);
    dev_close(d);
}
END_TEST

START_TEST(test_sizes)
{
    static const size_t sizes[] = {0, 1, 3, 63, 64, 65, 4095, 4097, PIECE - 1, PIECE, PIECE + 1,
        3 * PIECE + 7, STAGING - 1, STAGING, STAGING + 1, 2 * STAGING + PIECE + 5};
    struct dev *d = open_dev();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        char *host = noise(n + 1, i), *sent = mem_alloc(n + 1), *back = noise(n + 1, 99);
        char *p = alloc(d, n), *q = alloc(d, n + 3);
        ck_assert_uint_eq((uintptr_t)p % 64, 0);
        dev_download(d, back, p, n);
        sync_ok(d);
        ck_assert_msg(zeros(back, n), "%zu bytes", n);
        memcpy(sent, host, n);
        dev_upload(d, p, sent, n);
        memset(sent, 0x55, n); /* the bytes are taken when the call returns */
        dev_copy(d, q + 3, p, n);
        dev_zero(d, p, n);
        back[n] = 17;
        dev_download(d, back, q + 3, n);
        sync_ok(d);
        ck_assert_msg(!memcmp(back, host, n), "%zu bytes", n);
        ck_assert_int_eq(back[n], 17);
        dev_download(d, back, p, n);
        sync_ok(d);
        ck_assert_msg(zeros(back, n), "%zu bytes", n);
        dev_free(d, p);
        dev_free(d, q);
        mem_free(host);
        mem_free(sent);
        mem_free(back);
    }
    dev_close(d);
}
END_TEST

/* More uploads than the ring has pieces and bytes, into one place from which each is copied
   away. */
START_TEST(test_order)
{
    enum { UPLOADS = 300 };
    struct dev *d = open_dev();
    size_t size[UPLOADS], total = 0, most = MIB;
    for (uint32_t i = 0; i < UPLOADS; i++) {
        size[i] = op_random(seed, i) % (i % 5 ? 4096 : most) + 1;
        total += size[i];
    }
    char *host = noise(total, 1), *back = mem_alloc(total);
    char *place = alloc(d, most), *all = alloc(d, total);
    for (size_t i = 0, at = 0; i < UPLOADS; at += size[i++]) {
        dev_upload(d, place, host + at, size[i]);
        dev_copy(d, all + at, place, size[i]);
    }
    dev_download(d, back, all, total);
    sync_ok(d);
    ck_assert_int_eq(memcmp(back, host, total), 0);
    mem_free(host);
    mem_free(back);
    dev_free(d, place);
    dev_free(d, all);
    dev_close(d);
}
END_TEST

static void add(struct dev *d, const void *x, void *y, int64_t count)
{
    dev_ops(d)->axpby(d,
        &(struct op_axpby){.count = count,
            .x = x,
            .x_type = DTYPE_F32,
            .y = y,
            .y_type = DTYPE_F32,
            .a = 1,
            .b = 1});
}

START_TEST(test_record)
{
    enum { COUNT = 1000, TIMES = 5 };
    struct dev *d = open_dev();
    struct err e = {0};
    void *recording = NULL;
    float x[COUNT], y[COUNT];
    float *dx = alloc(d, sizeof x), *dy = alloc(d, sizeof y), *copy = alloc(d, sizeof y);
    for (int i = 0; i < COUNT; i++)
        x[i] = (float)i;
    dev_upload(d, dx, x, sizeof x);
    ck_assert(dev_can_record(d));
    ck_assert_int_eq(dev_record_end(d, &recording, &e), -ERR_BUG);
    ck_assert_int_eq(dev_record_begin(d, &e), 0);
    ck_assert_int_eq(dev_record_begin(d, &e), -ERR_BUG);
    add(d, dx, dy, COUNT);
    dev_copy(d, copy, dy, sizeof y);
    ck_assert_msg(!dev_record_end(d, &recording, &e), "%s", e.text);
    dev_download(d, y, copy, sizeof y);
    sync_ok(d);
    ck_assert(zeros((const char *)y, sizeof y)); /* recorded, not run */
    for (int k = 0; k < TIMES; k++)
        dev_record_launch(d, recording);
    for (int i = 0; i < COUNT; i++)
        x[i] = -1;
    dev_upload(d, dx, x, sizeof x); /* behind the launches, and read by the next */
    dev_download(d, y, copy, sizeof y);
    for (int i = 0; i < COUNT; i++)
        ck_assert(y[i] == (float)(TIMES * i));
    dev_record_launch(d, recording);
    dev_download(d, y, copy, sizeof y);
    sync_ok(d);
    for (int i = 0; i < COUNT; i++)
        ck_assert(y[i] == (float)(TIMES * i - 1));
    dev_record_free(d, recording);
    dev_record_free(d, NULL);
    dev_free(d, dx);
    dev_free(d, dy);
    dev_free(d, copy);
    dev_close(d);
}
END_TEST

/* What would wait, or read the host's memory later, spoils a recording, not the device. */
START_TEST(test_record_refuses)
{
    static const char *const says[] = {
        "an upload", "a download", "a wait", "freeing memory", "an allocation"};
    struct dev *d = open_dev();
    char host[8] = "seven", *p = alloc(d, 8);
    for (int which = 0; which < 5; which++) {
        struct err e = {0};
        void *recording = NULL, *q = NULL;
        ck_assert_msg(!dev_record_begin(d, &e), "%s", e.text);
        dev_zero(d, p, 8);
        if (which == 0)
            dev_upload(d, p, host, 8);
        else if (which == 1)
            dev_download(d, host, p, 8);
        else if (which == 2)
            d->driver->wait(d);
        else if (which == 3)
            dev_free(d, p);
        else
            ck_assert_int_eq(dev_alloc(d, 8, &q, &e), -ERR_BUG);
        int r = dev_record_end(d, &recording, which == 4 ? NULL : &e);
        ck_assert_msg(strstr(e.text, says[which]), "%s", e.text);
        ck_assert_int_eq(r, which == 4 ? 0 : -ERR_BUG);
        if (which == 4) {
            dev_record_free(d, recording);
        } else {
            ck_assert_ptr_null(recording);
            /* until it was reported, no other recording begins */
            ck_assert_int_eq(dev_record_begin(d, NULL), -ERR_BUG);
            sync_fails(d, ERR_BUG, says[which]);
        }
    }
    dev_upload(d, p, "intact", 7);
    dev_download(d, host, p, 7);
    sync_ok(d);
    ck_assert_str_eq(host, "intact");
    dev_free(d, p);
    dev_close(d);
}
END_TEST

START_TEST(test_no_memory)
{
    struct err e = {0};
    void *p = NULL;
    setenv("LLMJOB_CUDASIM_MEMORY_MIB", "300", 1);
    struct dev *d = open_dev();
    struct dev_info info;
    dev_describe(d, &info);
    ck_assert_int_lt(info.memory_bytes, (int64_t)(300 * MIB));
    size_t room = (size_t)info.memory_bytes;
    ck_assert_int_eq(dev_alloc(d, room + 1, &p, &e), -ERR_MEMORY);
    char figures[96];
    snprintf(figures, sizeof figures, "%zu bytes on cuda:0 ", room + 1);
    ck_assert_msg(strstr(e.text, figures), "%s", e.text);
    snprintf(figures, sizeof figures, "%zu of its %zu are free", room, 300 * MIB);
    ck_assert_msg(strstr(e.text, figures), "%s", e.text);
    ck_assert_ptr_null(p);
    ck_assert_int_eq(dev_alloc(d, SIZE_MAX - 5, &p, &e), -ERR_MEMORY);
    sync_ok(d); /* it is the caller's news, not the device's */
    dev_free(d, alloc(d, MIB));
    dev_close(d);
    setenv("LLMJOB_CUDASIM_MEMORY_MIB", "40", 1); /* less than scratch */
    d = NULL;
    ck_assert_int_eq(dev_open("cuda", 0, 0, &d, &e), -ERR_MEMORY);
    ck_assert_msg(strstr(e.text, "67108864 bytes"), "%s", e.text);
    ck_assert_ptr_null(d);
}
END_TEST

static void refused(int index, const char *says)
{
    struct err e = {0};
    struct dev *d = (struct dev *)&e;
    ck_assert_int_eq(dev_open("cuda", index, 0, &d, &e), -ERR_DEVICE);
    ck_assert_msg(strstr(e.text, says), "%s", e.text);
    ck_assert_ptr_eq(d, &e); /* the output is unchanged */
}

START_TEST(test_no_driver)
{
    setenv("LLMJOB_CUDASIM_DRIVER", "0", 1);
    refused(0, "cuda:0: this machine has no NVIDIA driver");
}
END_TEST

START_TEST(test_old_driver)
{
    setenv("LLMJOB_CUDASIM_DRIVER", "12080", 1);
    refused(0, "knows CUDA 12.8, this program needs 13.0");
}
END_TEST

START_TEST(test_no_device)
{
    gpu_show(0);
    refused(3, "cuda:3: the NVIDIA driver shows no GPU");
}
END_TEST

START_TEST(test_one_device)
{
    gpu_show(1);
    refused(1, "cuda:1 does not exist: this process sees 1 GPU,");
}
END_TEST

START_TEST(test_eight_devices)
{
    gpu_show(8);
    refused(8, "cuda:8 does not exist: this process sees 8 GPUs,");
}
END_TEST

static const struct cudasim_control *control_of(const struct dev *d)
{
    cudasim_control_fn *f;
    *(void **)&f = dlsym(d->plugin, CUDASIM_CONTROL);
    ck_assert_msg(f, "the plugin beside this program is not the simulated one");
    return f();
}

/* Waiting polls; that a poll found the device busy is not kept as an error. */
START_TEST(test_polling)
{
    struct dev *d = open_dev();
    char *host = noise(2 * STAGING, 1), *p = alloc(d, 2 * STAGING);
    dev_upload(d, p, host, 2 * STAGING); /* waits for room in the ring */
    ck_assert_str_eq(control_of(d)->last_error(), "");
    dev_download(d, host, p, 2 * STAGING);
    ck_assert_str_eq(control_of(d)->last_error(), "");
    dev_zero(d, p, 1);
    sync_ok(d);
    ck_assert_str_eq(control_of(d)->last_error(), "");
    mem_free(host);
    dev_free(d, p);
    dev_close(d);
}
END_TEST

/* A kernel's fault: the class, the device and its UUID; then everything fails, at once. */
START_TEST(test_fault)
{
    struct dev *d = open_dev();
    struct err e = {0};
    float host[CUDASIM_FAULT_FLOATS] = {0}, *room = alloc(d, sizeof host);
    void *p = NULL;
    char back[5] = "5555";
    sync_ok(d);
    control_of(d)->fault(d, CUDASIM_FAULT_GLOBAL_WRITE, room, host);
    ck_assert_int_eq(dev_sync(d, &e), -ERR_DEVICE);
    ck_assert_msg(strstr(e.text, "cuda:0 (") && strstr(e.text, "GPU-6c6c6d6a-"), "%s", e.text);
    int64_t start_ms = clock_ms();
    dev_upload(d, room, host, sizeof host);
    dev_zero(d, room, sizeof host);
    add(d, room, room, CUDASIM_FAULT_FLOATS);
    sync_fails(d, ERR_DEVICE, "cuda:0 (");
    dev_download(d, back, room, sizeof back);
    ck_assert(zeros(back, sizeof back));
    sync_fails(d, ERR_DEVICE, "cuda:0 (");
    ck_assert_int_eq(dev_alloc(d, 64, &p, &e), -ERR_DEVICE);
    ck_assert_int_eq(dev_record_begin(d, &e), -ERR_DEVICE);
    dev_close(d);
    ck_assert_int_lt(clock_ms() - start_ms, FAILING_MS);
}
END_TEST

/* A bad argument sticks until it is reported; the device goes on. */
START_TEST(test_bad_argument)
{
    struct dev *d = open_dev();
    float *p = alloc(d, 64);
    dev_ops(d)->axpby(d,
        &(struct op_axpby){
            .count = 4, .x = p, .x_type = DTYPE_Q4_K, .y = p, .y_type = DTYPE_F32, .a = 1});
    add(d, p, p, 4);
    sync_fails(d, ERR_DEVICE, "q4_k");
    add(d, p, p, 4);
    sync_ok(d);
    dev_free(d, p);
    dev_close(d);
}
END_TEST

int main(void)
{
    const char *given = getenv("LLMJOB_TEST_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)clock_wall_ms();
    printf("LLMJOB_TEST_SEED=%llu\n", (unsigned long long)seed);
    gpu_open();
    return unit_run_with(&(struct unit){.name = "cuda_driver", .timeout_s = 120},
        GPU_TESTS(GPU_ANY(test_describe), GPU_ANY(test_sizes), GPU_ANY(test_order),
            GPU_ANY(test_record), GPU_ANY(test_record_refuses), GPU_SIMULATED(test_no_memory),
            GPU_SIMULATED(test_no_driver), GPU_SIMULATED(test_old_driver), GPU_ANY(test_no_device),
            GPU_ANY(test_one_device), GPU_SIMULATED(test_eight_devices),
            GPU_SIMULATED(test_polling), GPU_SIMULATED(test_fault), GPU_ANY(test_bad_argument)));
}
