/*
 * Goal: the CUDA kernels compute what the reference computes, without races and without an access
 * out of bounds, and their results do not depend on the order in which threads run; and the
 * simulator that shows it notices what it claims to. Method: each case of op_cases.c runs on
 * "cpu-ref" and on "cuda", which is the plugin of tests/cudasim, within the case's tolerance; then
 * again with threads and blocks reversed and shuffled, and must give the same bits (a shape that
 * takes long, in one order only, and so does F16, which is BF16 with another load and store; of the
 * others those types that tests/sample.h takes). In a sample a long shape is of one type, chosen by
 * LLMJOB_SEED. In the end each kernel of the plugin must have run at least once.
 * tests/cudasim/faults.cu has a kernel for each thing that must be noticed.
 *
 * LLMJOB_CUDA_CASE=name runs one operation, LLMJOB_CUDASIM_SEED sets the shuffled order.
 * needs: cuda sample
 */
#include "tests/kernels/op_cases.h"

#include "base/clock.h"
#include "base/mem.h"
#include "kernels/driver.h"
#include "tests/cudasim/control.h"
#include "tests/sample.h"

#include <check.h>
#include <dlfcn.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#define SEED        20264
#define LONG_TOKENS 700 /* attention back over so many takes seconds in each type */
#define CASE_MS_MAX \
    2500 /* of a shape in order: one that takes longer is not run again, and said so */

static uint64_t shuffle;          /* printed by main */
static _Atomic int *in_one_order; /* shapes; shared by the processes of the tests */

static struct dev *open_dev(const char *kind)
{
    struct err e = {0};
    struct dev *d = NULL;
    ck_assert_msg(!dev_open(kind, 0, 1, &d, &e), "%s", e.text);
    return d;
}

static const struct cudasim_control *control_of(const struct dev *d)
{
    cudasim_control_fn *f;
    *(void **)&f = dlsym(d->plugin, CUDASIM_CONTROL);
    ck_assert_msg(f, "the plugin beside this program is not the simulated one");
    return f();
}

static int64_t processor_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* s: the shape's number, for what is said of it. */
static void run_case(const struct op_case *c, const int64_t *shape, int s, enum dtype t,
    struct dev *d, struct parity_run *out)
{
    struct err e = {0};
    parity_begin(out, d, t, SEED);
    c->run(out, shape);
    ck_assert_msg(!dev_sync(d, &e), "%s, shape %d, %s: %s", c->name, s, dtype_name(t), e.text);
}

/* s: -1 where the shape is none of the case's own. */
static void compare(const struct op_case *c, const int64_t *shape, int s, enum dtype t,
    struct dev *ref, struct dev *cuda)
{
    const struct cudasim_control *control = control_of(cuda);
    struct parity_run want, got, again;
    run_case(c, shape, s, t, ref, &want);
    control->order(0);
    int64_t start_ms = processor_ms();
    run_case(c, shape, s, t, cuda, &got);
    int64_t took_ms = processor_ms() - start_ms;
    double error = parity_error(&want, &got);
    ck_assert_msg(error <= 1, "%s, shape %d, %s, seed %d: error %g of the tolerance", c->name, s,
        dtype_name(t), SEED, error);
    const uint64_t orders[] = {1, shuffle};
    bool others = t != DTYPE_F16 &&
        (s < 0 || sample_takes((uint64_t)((c - op_cases) * OP_CASE_SHAPES + s) * 3 + t));
    for (size_t i = 0; i < 2 && others && took_ms <= CASE_MS_MAX; i++) {
        control->order(orders[i]);
        run_case(c, shape, s, t, cuda, &again);
        ck_assert_msg(parity_equal(&got, &again),
            "%s, shape %d, %s: other bits with LLMJOB_CUDASIM_SEED=%llu", c->name, s, dtype_name(t),
            (unsigned long long)orders[i]);
        parity_end(&again);
    }
    if (took_ms > CASE_MS_MAX) {
        printf("%s, shape %d, %s: %lld ms, run in one order only\n", c->name, s, dtype_name(t),
            (long long)took_ms);
        atomic_fetch_add(in_one_order, 1);
    }
    parity_end(&got);
    parity_end(&want);
}

static bool takes_long(const struct op_case *c, const int64_t *shape)
{
    return (!strcmp(c->name, "attention") || !strcmp(c->name, "attention_back")) &&
        shape[1] >= LONG_TOKENS;
}

static void compare_types(const struct op_case *c, int s, struct dev *ref, struct dev *cuda)
{
    uint64_t types = (uint64_t)c->last + 1, chosen = sample_setting("LLMJOB_SEED") % types;
    bool one = takes_long(c, c->shapes[s]) && sample_setting("LLMJOB_SAMPLE") > 1;
    for (uint64_t t = 0; t < types; t++)
        if (!one || t == chosen)
            compare(c, c->shapes[s], s, (enum dtype)t, ref, cuda);
}

START_TEST(test_parity)
{
    const struct op_case *c = &op_cases[_i];
    const char *only = getenv("LLMJOB_CUDA_CASE");
    if (only && strcmp(only, c->name))
        return;
    struct dev *ref = open_dev("cpu-ref"), *cuda = open_dev("cuda");
    int64_t before = control_of(cuda)->launches(), start_ms = processor_ms();
    for (int s = 0; s < OP_CASE_SHAPES && c->shapes[s][0]; s++)
        compare_types(c, s, ref, cuda);
    if (strcmp(c->name, "matmul")) /* cuBLASLt's, not ours */
        ck_assert_int_gt(control_of(cuda)->launches(), before);
    printf("%-18s %6lld launches %6lld ms\n", c->name,
        (long long)(control_of(cuda)->launches() - before), (long long)(processor_ms() - start_ms));
    dev_close(ref);
    dev_close(cuda);
}
END_TEST

/* A GPU of compute capability 8.6, 8.9 or 12.0 has less shared memory a block: smaller tiles of
   attention, fewer counters, fewer warps. */
START_TEST(test_less_shared)
{
    static const struct less {
        const char *name;
        int64_t shape[OP_CASE_SIZES];
    } cases[] = {
        {"attention", {1, 70, 4, 1, 128}},
        {"attention", {1, 35, 1, 1, 200}},
        {"attention_back", {1, 70, 4, 2, 128}},
        {"attention_back", {1, 35, 2, 1, 200}},
        {"attention_back", {2, 33, 1, 1, 132, 4, 1, 1}},
        {"attention_decode", {5, 17, 2, 2, 256, 1}},
        {"embed_back", {40, 5, 1600}},
        {"quant_matmul", {5, 9, 5632, DTYPE_BF16}},
        {"quant_matmul", {8, 40, 576, DTYPE_Q8_0}},
    };
    const struct less *c = &cases[_i];
    setenv("LLMJOB_CUDASIM_SHARED_KIB", "99", 1);
    struct dev *ref = open_dev("cpu-ref"), *cuda = open_dev("cuda");
    for (int i = 0; i < op_case_count; i++)
        for (enum dtype t = DTYPE_F32; t <= op_cases[i].last; t++)
            if (!strcmp(op_cases[i].name, c->name))
                compare(&op_cases[i], c->shape, -1, t, ref, cuda);
    dev_close(ref);
    dev_close(cuda);
    unsetenv("LLMJOB_CUDASIM_SHARED_KIB");
}
END_TEST
#define LESS_CASES 9

/* There is no such GPU; what does not fit is refused all the same. */
START_TEST(test_too_little_shared)
{
    struct err e = {0};
    struct parity_run r;
    struct op_attention a = {.b = 2, .tokens = 70, .h = 2, .g = 2, .d = 128, .t = DTYPE_BF16};
    setenv("LLMJOB_CUDASIM_SHARED_KIB", "64", 1);
    struct dev *d = open_dev("cuda");
    parity_begin(&r, d, DTYPE_BF16, SEED);
    a.scale = 1;
    a.ldq = a.ldk = a.ldv = a.h * a.d;
    a.q = a.k = a.v = parity_input(&r, a.b * a.tokens * a.ldq, DTYPE_BF16, 1);
    a.o = parity_space(&r, a.b * a.tokens * a.ldq, DTYPE_BF16);
    a.lse = parity_space(&r, a.b * a.tokens * a.h, DTYPE_F32);
    dev_ops(d)->attention(d, &a);
    ck_assert_int_eq(dev_sync(d, &e), -ERR_DEVICE);
    ck_assert_msg(strstr(e.text,
                      "needs 87040 bytes of shared memory a block: this GPU has "
                      "65536"),
        "%s", e.text);
    parity_end(&r);
    dev_close(d);
    unsetenv("LLMJOB_CUDASIM_SHARED_KIB");
}
END_TEST

/* Bias and GELU of products by our kernel, also where cuBLASLt is expected to take them along. */
START_TEST(test_no_epilogues)
{
    const struct op_case *c = &op_cases[0];
    struct dev *ref = open_dev("cpu-ref"), *cuda = open_dev("cuda");
    struct parity_run want, got;
    ck_assert_str_eq(c->name, "matmul");
    control_of(cuda)->epilogues(false);
    for (int s = 0; s < OP_CASE_SHAPES && c->shapes[s][0]; s++)
        for (enum dtype t = DTYPE_F32; t <= c->last && c->shapes[s][8]; t++) {
            run_case(c, c->shapes[s], s, t, ref, &want);
            run_case(c, c->shapes[s], s, t, cuda, &got);
            ck_assert_msg(parity_error(&want, &got) <= 1, "shape %d, %s", s, dtype_name(t));
            parity_end(&want);
            parity_end(&got);
        }
    control_of(cuda)->epilogues(true);
    dev_close(ref);
    dev_close(cuda);
}
END_TEST

/* -- what the simulator must notice -- */
static const struct fault_case {
    enum cudasim_fault fault;
    const char *says; /* part of the error that dev_sync gives */
} faults[] = {
    {CUDASIM_FAULT_BARRIER_ELSEWHERE, "barrier divergence"},
    {CUDASIM_FAULT_BARRIER_ENDED, "has ended"},
    {CUDASIM_FAULT_WARP_ENDED, "waits for lane 7, which has ended"},
    {CUDASIM_FAULT_WARP_OUTSIDE, "reads lane 20, which is not in the mask"},
    {CUDASIM_FAULT_GLOBAL_READ, "reads 4 bytes at offset 1000 of the 1000"},
    {CUDASIM_FAULT_GLOBAL_WRITE, "writes 4 bytes at offset 1000 of the 1000"},
    {CUDASIM_FAULT_GLOBAL_BEFORE, "4 bytes, 4 before the 1000 bytes"},
    {CUDASIM_FAULT_GLOBAL_FREED, "out of bounds in global memory"},
    {CUDASIM_FAULT_HOST_MEMORY, "host memory"},
    {CUDASIM_FAULT_SHARED_BOUNDS, "reads 4 bytes at offset 256 of 256"},
    {CUDASIM_FAULT_ARRAY_BOUNDS, "index 64 is out of the array"},
    {CUDASIM_FAULT_SHARED_RACE, "race in shared memory"},
    {CUDASIM_FAULT_ARRAY_RACE, "race in shared memory"},
    {CUDASIM_FAULT_WARP_RACE, "race in shared memory"},
    {CUDASIM_FAULT_COPY_RACE, "race in shared memory"},
    {CUDASIM_FAULT_COPY_MISALIGNED, "not aligned to 16"},
    {CUDASIM_FAULT_VECTOR_MISALIGNED, "misaligned access"},
    {CUDASIM_FAULT_STORE_ELSEWHERE, "store_pack: 0x"},
    {CUDASIM_FAULT_SHARED_ARRAYS, "49152 bytes of shared memory and 256 of __shared__ arrays"},
};
#define FAULT_CASES (sizeof faults / sizeof *faults)

/* Runs the kernel of a fault with an order; its memory comes back in values. text: how it
   failed. */
static int run_fault(
    struct dev *d, enum cudasim_fault f, uint64_t order, float *values, char text[512])
{
    struct err e = {0};
    void *room;
    float host[CUDASIM_FAULT_FLOATS];
    const size_t bytes = sizeof host;
    for (int i = 0; i < CUDASIM_FAULT_FLOATS; i++)
        host[i] = (float)(1000 + i);
    ck_assert_msg(!dev_alloc(d, bytes, &room, &e), "%s", e.text);
    dev_upload(d, room, host, bytes);
    control_of(d)->order(order);
    control_of(d)->fault(d, f, room, host);
    int rc = dev_sync(d, &e);
    snprintf(text, 512, "%s", control_of(d)->failure());
    ck_assert_msg(!rc || strstr(e.text, "kernel "), "%s", e.text);
    if (rc) /* a failed device stays one; this one was made to fail */
        control_of(d)->forget();
    dev_download(d, values, room, bytes);
    dev_free(d, room);
    return rc;
}

START_TEST(test_fault)
{
    const struct fault_case *c = &faults[_i / 3];
    const uint64_t orders[] = {0, 1, shuffle}, order = orders[_i % 3];
    float values[CUDASIM_FAULT_FLOATS];
    char text[512];
    struct dev *d = open_dev("cuda");
    ck_assert_msg(run_fault(d, c->fault, order, values, text) == -ERR_DEVICE,
        "fault %d, order %llu: not noticed", c->fault, (unsigned long long)order);
    ck_assert_str_eq(control_of(d)->failure(), ""); /* forgotten */
    ck_assert_msg(
        strstr(text, c->says), "fault %d: \"%s\" does not say \"%s\"", c->fault, text, c->says);
    ck_assert_msg(strstr(text, "faults.cu") && strstr(text, "thread"), "%s", text);
    dev_close(d);
}
END_TEST

/* The same things done properly are no faults, and a device works on after one was forgotten. */
START_TEST(test_no_fault)
{
    const uint64_t orders[] = {0, 1, shuffle};
    float values[CUDASIM_FAULT_FLOATS];
    char text[512];
    struct dev *d = open_dev("cuda");
    run_fault(d, CUDASIM_FAULT_SHARED_RACE, 0, values, text);
    for (int i = 0; i < 3; i++) {
        ck_assert_msg(!run_fault(d, CUDASIM_FAULT_NONE, orders[i], values, text), "%s", text);
        ck_assert(values[CUDASIM_FAULT_FLOATS - 1] == 1);
        ck_assert(values[2] == 1 && values[3] == 2);
    }
    dev_close(d);
}
END_TEST

/* A launch that asks too much is refused, without harm to the device. */
START_TEST(test_shared_unasked)
{
    struct err e = {0};
    void *room;
    struct dev *d = open_dev("cuda");
    ck_assert_int_eq(dev_alloc(d, 1000, &room, &e), 0);
    for (int i = 0; i < 2; i++) {
        control_of(d)->fault(d, CUDASIM_FAULT_SHARED_UNASKED, room, NULL);
        ck_assert_int_eq(dev_sync(d, &e), -ERR_BUG);
        ck_assert_msg(strstr(e.text, "launch of a kernel"), "%s", e.text);
        control_of(d)->fault(d, CUDASIM_FAULT_NONE, room, NULL);
        ck_assert_int_eq(dev_sync(d, &e), 0);
    }
    dev_free(d, room);
    dev_close(d);
}
END_TEST

/* Shared memory that was not written, and a copy that was not waited for, read as NaN. */
START_TEST(test_poison)
{
    float values[CUDASIM_FAULT_FLOATS];
    char text[512];
    struct dev *d = open_dev("cuda");
    ck_assert_msg(!run_fault(d, CUDASIM_FAULT_UNINITIALISED, 0, values, text), "%s", text);
    ck_assert(values[0] != values[0]);
    ck_assert_msg(!run_fault(d, CUDASIM_FAULT_COPY_UNWAITED, 0, values, text), "%s", text);
    ck_assert(values[64] != values[64]);
    dev_close(d);
}
END_TEST

/* What threads or blocks exchange through global memory without order differs between orders. */
START_TEST(test_orders_differ)
{
    static const enum cudasim_fault kinds[] = {
        CUDASIM_FAULT_GLOBAL_ORDER, CUDASIM_FAULT_BLOCK_ORDER};
    const uint64_t orders[] = {1, shuffle};
    float first[CUDASIM_FAULT_FLOATS], other[CUDASIM_FAULT_FLOATS];
    char text[512];
    struct dev *d = open_dev("cuda");
    for (int k = 0; k < 2; k++) {
        ck_assert_msg(!run_fault(d, kinds[k], 0, first, text), "%s", text);
        ck_assert_msg(!run_fault(d, kinds[k], 0, other, text), "%s", text);
        ck_assert(!memcmp(first, other, sizeof first));
        for (int i = 0; i < 2; i++) {
            ck_assert_msg(!run_fault(d, kinds[k], orders[i], other, text), "%s", text);
            ck_assert(memcmp(first, other, sizeof first));
        }
    }
    dev_close(d);
}
END_TEST

/* A failed kernel: every later operation fails, as on a device, and nothing hangs. */
START_TEST(test_failure_sticks)
{
    struct err e = {0};
    void *room;
    struct dev *d = open_dev("cuda");
    ck_assert_int_eq(dev_alloc(d, 1000, &room, &e), 0);
    control_of(d)->fault(d, CUDASIM_FAULT_BARRIER_ENDED, room, NULL);
    ck_assert_int_eq(dev_sync(d, &e), -ERR_DEVICE);
    ck_assert_ptr_nonnull(strstr(e.text, "barrier_ended"));
    dev_zero(d, room, 1000);
    ck_assert_int_eq(dev_sync(d, &e), -ERR_DEVICE);
    ck_assert_int_ne(dev_alloc(d, 1000, &room, &e), 0);
    dev_close(d);
}
END_TEST

/* The host reads a device pointer: a signal, not a value. */
START_TEST(test_host_reads)
{
    struct err e = {0};
    void *room;
    struct dev *d = open_dev("cuda");
    ck_assert_int_eq(dev_alloc(d, 1000, &room, &e), 0);
    ck_assert_int_eq(dev_sync(d, &e), 0);
    signal(SIGSEGV, SIG_DFL); /* a sanitizer would exit instead */
    exit(*(volatile char *)room + 1);
}
END_TEST

/* The last test. Kernels of other template arguments are other kernels. */
START_TEST(test_every_kernel)
{
    struct dev *d = open_dev("cuda");
    const char *name;
    int without = 0;
    int64_t times;
    for (int i = 0; (times = control_of(d)->kernel(i, &name)) >= 0; i++)
        if (!times) {
            fprintf(stderr, "no test launches %s\n", name);
            without++;
        }
    ck_assert_msg(!without, "no test launches %d kernels", without);
    dev_close(d);
}
END_TEST

/* Before the tests fork: what each of them launches counts for all. */
static bool loads_plugin(void)
{
    struct err e = {0};
    struct dev *d = NULL;
    if (dev_open("cuda", 0, 1, &d, &e)) {
        printf("%s\n", e.text);
        return false;
    }
    dev_close(d);
    return true;
}

static bool known_case(const char *name)
{
    for (int i = 0; i < op_case_count; i++)
        if (!name || !strcmp(name, op_cases[i].name))
            return true;
    return false;
}

int main(void)
{
    if (!known_case(getenv("LLMJOB_CUDA_CASE"))) {
        printf("LLMJOB_CUDA_CASE names no operation\n");
        return 2;
    }
    const char *given = getenv("LLMJOB_CUDASIM_SEED");
    shuffle = given ? strtoull(given, NULL, 10) : (uint64_t)clock_ns();
    if (shuffle < 2)
        shuffle = 2;
    printf("LLMJOB_CUDASIM_SEED=%llu\n", (unsigned long long)shuffle);
    sample_print();
    in_one_order =
        mmap(NULL, sizeof *in_one_order, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (in_one_order == MAP_FAILED || !loads_plugin())
        return 1;
    Suite *s = suite_create("cuda");
    TCase *parity = tcase_create("parity"), *self = tcase_create("simulator"),
          *every = tcase_create("every kernel");
    tcase_set_timeout(parity, 300);
    tcase_set_timeout(self, 60);
    tcase_add_loop_test(parity, test_parity, 0, op_case_count);
    tcase_add_loop_test(parity, test_less_shared, 0, LESS_CASES);
    tcase_add_test(parity, test_too_little_shared);
    tcase_add_test(parity, test_no_epilogues);
    tcase_add_loop_test(self, test_fault, 0, 3 * (int)FAULT_CASES);
    tcase_add_test(self, test_no_fault);
    tcase_add_test(self, test_shared_unasked);
    tcase_add_test(self, test_poison);
    tcase_add_test(self, test_orders_differ);
    tcase_add_test(self, test_failure_sticks);
    tcase_add_test_raise_signal(self, test_host_reads, SIGSEGV);
    suite_add_tcase(s, self);
    suite_add_tcase(s, parity);
    if (!getenv("LLMJOB_CUDA_CASE")) {
        tcase_add_test(every, test_every_kernel);
        suite_add_tcase(s, every);
    }
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    printf("NOTE: simulated on the host, nothing ran on a device; operations: %d\n",
        getenv("LLMJOB_CUDA_CASE") ? 1 : op_case_count);
    if (*in_one_order)
        printf("NOTE: %d shapes took over %d ms each and ran in one order of threads, not "
               "three\n",
            *in_one_order, CASE_MS_MAX);
    return failed ? 1 : 0;
}
