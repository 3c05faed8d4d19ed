/*
 * Goal: the registry opens what exists and says clearly what does not; element types, memory and
 * threads behave. Method: direct calls; tables for the element types.
 * needs: cuda faults
 */
#include "kernels/dev.h"

#include "api/names.h"
#include "base/mem.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/name.h"
#include "kernels/driver.h"
#include "kernels/ops.h"

#include <check.h>
#include <omp.h>
#include <string.h>
#include <unistd.h>

START_TEST(test_kinds)
{
    static const char *const kinds[] = {"cpu", "cpu-ref"};
    for (size_t i = 0; i < 2; i++) {
        struct err e = {0};
        struct dev *d = NULL;
        struct dev_info info;
        ck_assert_msg(!dev_open(kinds[i], 0, 3, &d, &e), "%s", e.text);
        dev_describe(d, &info);
        ck_assert_str_eq(info.kind, kinds[i]);
        ck_assert_int_eq(info.threads, 3);
        ck_assert_int_eq(omp_get_max_threads(), 3);
        ck_assert_int_gt(info.memory_bytes, 1 << 20);
        ck_assert(info.host_readable);
        ck_assert_int_gt(strlen(info.name), 0);
#define CHECK_OP(name, args) ck_assert_ptr_nonnull(dev_ops(d)->name);
        LLMJOB_OPS(CHECK_OP)
#undef CHECK_OP
        ck_assert(!dev_can_record(d));
        ck_assert_int_eq(dev_record_begin(d, &e), -ERR_BUG);
        ck_assert_ptr_nonnull(strstr(e.text, "records nothing"));
        ck_assert_int_eq(dev_record_end(d, NULL, NULL), -ERR_BUG);
        dev_record_free(d, NULL);
        dev_close(d);
    }
}
END_TEST

START_TEST(test_default_threads)
{
    struct err e = {0};
    struct dev *d;
    struct dev_info info;
    ck_assert_int_eq(dev_open("cpu", 0, 0, &d, &e), 0);
    dev_describe(d, &info);
    ck_assert_int_ge(info.threads, 1);
    ck_assert_int_le(info.threads, omp_get_num_procs());
    dev_close(d);
}
END_TEST

START_TEST(test_refusals)
{
    static const struct {
        const char *kind;
        int index, threads;
        enum err_code code;
        const char *says;
    } table[] = {{"tpu", 0, 0, ERR_USER, "unknown device kind \"tpu\""},
        {"", 0, 0, ERR_USER, "unknown device kind"},
        {"../cpu", 0, 0, ERR_USER, "unknown device kind"},
        {"cpu", 1, 0, ERR_USER, "does not exist"}, {"cpu", -1, 0, ERR_USER, "negative"},
        {"cpu", 0, -2, ERR_USER, "negative"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct err e = {0};
        struct dev *d = (struct dev *)&e;
        ck_assert_int_eq(
            dev_open(table[i].kind, table[i].index, table[i].threads, &d, &e), -(int)table[i].code);
        ck_assert_ptr_eq(d, &e); /* the output is unchanged */
        ck_assert_msg(strstr(e.text, table[i].says), "%s", e.text);
    }
}
END_TEST

/* Without the plugin beside the test program, or with one but no GPU, the error names the plugin or
 * the device. */
START_TEST(test_plugin_absent)
{
    struct err e = {0};
    struct dev *d = NULL;
    int rc = dev_open("cuda", 0, 0, &d, &e);
    if (!rc) { /* a machine with a GPU and the plugin installed */
        dev_close(d);
        return;
    }
    ck_assert_int_eq(rc, -ERR_DEVICE);
    ck_assert_msg(strstr(e.text, "cuda"), "%s", e.text);
}
END_TEST

START_TEST(test_dtypes)
{
    static const struct {
        enum dtype t;
        const char *name;
        int64_t count, bytes;
    } table[] = {{DTYPE_F32, "f32", 3, 12}, {DTYPE_BF16, "bf16", 3, 6}, {DTYPE_F16, "f16", 5, 10},
        {DTYPE_I32, "i32", 2, 8}, {DTYPE_Q8_0, "q8_0", 64, 68}, {DTYPE_Q4_0, "q4_0", 32, 18},
        {DTYPE_Q4_1, "q4_1", 32, 20}, {DTYPE_Q5_0, "q5_0", 64, 44}, {DTYPE_Q5_1, "q5_1", 64, 48},
        {DTYPE_Q4_K, "q4_k", 512, 288}, {DTYPE_Q5_K, "q5_k", 256, 176},
        {DTYPE_Q6_K, "q6_k", 256, 210}, {DTYPE_Q8_0, "q8_0", 33, -1}, {DTYPE_Q4_K, "q4_k", 32, -1},
        {DTYPE_F32, "f32", -1, -1}, {DTYPE_F32, "f32", 0, 0}, {DTYPE_F32, "f32", INT64_MAX, -1},
        {DTYPES, "?", 1, -1}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        ck_assert_str_eq(dtype_name(table[i].t), table[i].name);
        ck_assert_int_eq(dtype_bytes(table[i].t, table[i].count), table[i].bytes);
    }
}
END_TEST

static int64_t resident_bytes(void)
{
    long long size, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    ck_assert(f && fscanf(f, "%lld %lld", &size, &resident) == 2);
    fclose(f);
    return resident * sysconf(_SC_PAGESIZE);
}

START_TEST(test_memory)
{
    struct err e = {0};
    struct dev *d;
    char *p, *q, host[100], back[100];
    ck_assert_int_eq(dev_open("cpu", 0, 1, &d, &e), 0);
    for (size_t bytes = 1; bytes < (size_t)8 << 20; bytes = bytes * 7 + 3) {
        ck_assert_int_eq(dev_alloc(d, bytes, (void **)&p, &e), 0);
        ck_assert_uint_eq((uintptr_t)p % 64, 0);
        for (size_t i = 0; i < bytes; i++)
            ck_assert_int_eq(p[i], 0);
        dev_free(d, p);
    }
    for (size_t i = 0; i < sizeof host; i++)
        host[i] = (char)(i * 7);
    ck_assert_int_eq(dev_alloc(d, sizeof host, (void **)&p, &e), 0);
    ck_assert_int_eq(dev_alloc(d, sizeof host, (void **)&q, &e), 0);
    dev_upload(d, p, host, sizeof host);
    dev_copy(d, q, p, sizeof host);
    dev_zero(d, p, sizeof host);
    dev_download(d, back, q, sizeof host);
    ck_assert_int_eq(memcmp(back, host, sizeof host), 0);
    dev_download(d, back, p, sizeof host);
    for (size_t i = 0; i < sizeof back; i++)
        ck_assert_int_eq(back[i], 0);
    dev_free(d, p);
    dev_free(d, q);
    dev_free(d, NULL);
    ck_assert_int_eq(dev_alloc(d, SIZE_MAX - 5, (void **)&p, &e), -ERR_MEMORY);
    ck_assert_msg(strstr(e.text, "18446744073709551610"), "%s", e.text);
    dev_close(d);
    dev_close(NULL);
}
END_TEST

/* What others had is zero again; what is reserved takes memory where it is written. */
START_TEST(test_memory_that_was_used)
{
    static int (*const take[])(struct dev *, size_t, void **, struct err *) = {
        dev_alloc, dev_reserve};
    const size_t bytes = (size_t)4 << 20, large = (size_t)256 << 20;
    struct err e = {0};
    struct dev *d;
    char *p;
    ck_assert_int_eq(dev_open("cpu", 0, 1, &d, &e), 0);
    for (int i = 0; i < 8; i++) {
        ck_assert_msg(!take[i % 2](d, bytes, (void **)&p, &e), "%s", e.text);
        for (size_t at = 0; at < bytes; at += 64)
            ck_assert_msg(!p[at], "round %d: byte %zu is %d", i, at, p[at]);
        memset(p, 0xff, bytes);
        dev_free(d, p);
    }
    int64_t before = resident_bytes();
    ck_assert_msg(!dev_reserve(d, large, (void **)&p, &e), "%s", e.text);
    for (size_t at = 0; at < large; at += large / 4)
        p[at] = 1;
    ck_assert_int_lt(resident_bytes() - before, (int64_t)large / 4);
    dev_free(d, p);
    ck_assert_int_eq(dev_reserve(d, SIZE_MAX - 5, (void **)&p, &e), -ERR_MEMORY);
    dev_close(d);
}
END_TEST

/* The first failure of an operation stays until dev_sync, which clears it. */
START_TEST(test_first_failure_stays)
{
    struct err e = {0}, first = {.code = ERR_DEVICE, .text = "first"},
               second = {.code = ERR_MEMORY, .text = "second"};
    struct dev *d;
    ck_assert_int_eq(dev_open("cpu", 0, 1, &d, &e), 0);
    ck_assert_int_eq(dev_sync(d, &e), 0);
    dev_fail(d, &first);
    dev_fail(d, &second);
    ck_assert_int_eq(dev_sync(d, &e), -ERR_DEVICE);
    ck_assert_str_eq(e.text, "first");
    ck_assert_int_eq(dev_sync(d, NULL), 0);
    dev_close(d);
}
END_TEST

#ifdef LLMJOB_FAULT
/* Every allocation of opening a device fails once: an error, no leak (under ASAN), and the output
 * unchanged. */
START_TEST(test_open_without_memory)
{
    for (uint64_t n = 1;; n++) {
        struct err e = {0};
        struct dev *d = NULL;
        fault_arm(&mem_faults, n);
        int rc = dev_open("cpu", 0, 1, &d, &e);
        uint64_t used = fault_calls(&mem_faults);
        fault_arm(&mem_faults, 0);
        if (!rc) {
            ck_assert_uint_lt(used, n);
            ck_assert_uint_gt(n, 1);
            dev_close(d);
            return;
        }
        ck_assert_int_eq(rc, -ERR_MEMORY);
        ck_assert_ptr_null(d);
    }
}
END_TEST
#endif

/* A build for this processor alone says so on another, as of a machine that is not of use. */
START_TEST(a_processor_that_no_set_is_for_is_told)
{
    struct err e = {.text = ""};
    unsetenv(NAME_ENV_ISA);
    ck_assert_int_eq(cpu_isa_require(NULL, &e), -ERR_DEVICE);
    ck_assert_msg(strstr(e.text, "NATIVE=1"), "%s", e.text);
    ck_assert_int_eq(cpu_isa_require(cpu_isa_usable(0), &e), 0);
}
END_TEST

/* Each set that this processor has can be named; another is refused, and an empty name is none. */
START_TEST(a_named_set_computes)
{
    struct err e = {.text = ""};
    struct dev *d = NULL;
    for (int i = 0; cpu_isa_usable(i); i++) {
        setenv(NAME_ENV_ISA, cpu_isa_usable(i)->name, 1);
        cpu_isa_force(NULL);
        ck_assert_str_eq(cpu_isa_chosen()->name, cpu_isa_usable(i)->name);
    }
    setenv(NAME_ENV_ISA, "mmx", 1);
    cpu_isa_force(NULL);
    ck_assert_int_eq(dev_open("cpu", 0, 1, &d, &e), -ERR_DEVICE);
    ck_assert_msg(strstr(e.text, NAME_ENV_ISA) && strstr(e.text, "mmx"), "%s", e.text);
    setenv(NAME_ENV_ISA, "", 1);
    ck_assert_str_eq(cpu_isa_chosen()->name, cpu_isa_usable(0)->name);
    unsetenv(NAME_ENV_ISA);
}
END_TEST

/* What x86-64, aarch64 and a kernel that says nothing have in /proc/cpuinfo. */
START_TEST(processors_have_names)
{
    static const char *const table[][2] = {
        {"processor\t: 0\nmodel name\t: EPYC 9\ncpu MHz\t: 1\nmodel name\t: other\n", "EPYC 9"},
        {"processor\t: 0\nBogoMIPS\t: 50.00\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
         "CPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n",
            "aarch64 (implementer 0x41, part 0xd0c)"},
        {"model name\t:\nCPU part\t: 0xd0c\n", "unknown processor"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char name[64];
        FILE *f = fmemopen((void *)(uintptr_t)table[i][0], strlen(table[i][0]), "r");
        ck_assert_ptr_nonnull(f);
        cpu_name_of(f, name, sizeof name);
        ck_assert_str_eq(name, table[i][1]);
        fclose(f);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dev");
    TCase *t = tcase_create("dev");
    tcase_add_test(t, test_kinds);
    tcase_add_test(t, test_default_threads);
    tcase_add_test(t, test_refusals);
    tcase_add_test(t, a_processor_that_no_set_is_for_is_told);
    tcase_add_test(t, a_named_set_computes);
    tcase_add_test(t, processors_have_names);
    tcase_add_test(t, test_plugin_absent);
    tcase_add_test(t, test_dtypes);
    tcase_add_test(t, test_memory);
    tcase_add_test(t, test_memory_that_was_used);
    tcase_add_test(t, test_first_failure_stays);
#ifdef LLMJOB_FAULT
    tcase_add_test(t, test_open_without_memory);
#endif
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
