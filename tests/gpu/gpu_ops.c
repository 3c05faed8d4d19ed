/*
 * Goal: on a real GPU the operations compute what the reference computes, and repeat bit for bit.
 * Method: each case of op_cases.c on "cpu-ref" and twice on "cuda" with equal inputs. Run by `make
 * gpu-check`. The same cases run everywhere on the simulated GPU (tests/kernels/test_cuda.c).
 *
 * Usage: gpu_ops [-s] [-x operation]; -s: small shapes only, -x: without this one.
 * LLMJOB_CUDA_CASE=name runs one operation.
 */
#include "tests/gpu/gpu.h"
#include "tests/kernels/op_cases.h"

#include <unistd.h>

#define SEED  20264
#define SMALL 200000 /* product of a shape's numbers: what compute-sanitizer slows down */

static void run(const struct op_case *c, int s, enum dtype t, struct dev *d, struct parity_run *out)
{
    struct err e = {0};
    parity_begin(out, d, t, SEED);
    c->run(out, c->shapes[s]);
    ck_assert_msg(!dev_sync(d, &e), "%s, shape %d, %s: %s", c->name, s, dtype_name(t), e.text);
}

/* Prints what is wrong: one run on a device shows all that is. */
static bool right(
    const struct op_case *c, int s, enum dtype t, struct dev *ref, struct dev *gpu, double *worst)
{
    struct parity_run want, got, again;
    run(c, s, t, ref, &want);
    run(c, s, t, gpu, &got);
    run(c, s, t, gpu, &again);
    double error = parity_error(&want, &got);
    bool same = parity_equal(&got, &again);
    if (!(error <= 1))
        printf("%s, shape %d, %s, seed %d: error %g of the tolerance\n", c->name, s, dtype_name(t),
            SEED, error);
    if (!same)
        printf("%s, shape %d, %s, seed %d: other bits when run again\n", c->name, s, dtype_name(t),
            SEED);
    *worst = error > *worst ? error : *worst;
    parity_end(&want);
    parity_end(&got);
    parity_end(&again);
    return same && error <= 1;
}

static bool is_small(const int64_t *shape)
{
    int64_t product = 1;
    for (int i = 0; i < 10; i++)
        product *= shape[i] ? shape[i] : 1;
    return product <= SMALL;
}

static bool small; /* shapes only */

START_TEST(computes_and_repeats)
{
    const struct op_case *c = &op_cases[_i];
    static struct dev *ref, *gpu; /* one start for all where tests do not fork */
    struct err e = {0};
    double worst = 0;
    int wrong = 0;

    ck_assert_msg(gpu || !dev_open("cuda", 0, 0, &gpu, &e), "%s", e.text);
    ck_assert_msg(ref || !dev_open("cpu-ref", 0, 1, &ref, &e), "%s", e.text);
    for (int s = 0; s < OP_CASE_SHAPES && c->shapes[s][0]; s++)
        for (enum dtype t = DTYPE_F32; t <= c->last; t++)
            if (!small || is_small(c->shapes[s]))
                wrong += !right(c, s, t, ref, gpu, &worst);
    printf("%-18s %s, at most %.2f of the tolerance\n", c->name, wrong ? "FAIL" : "ok", worst);
    fflush(stdout);
    ck_assert_msg(!wrong, "%s: %d runs are wrong", c->name, wrong);
}
END_TEST

int main(int argc, char **argv)
{
    const char *only = getenv("LLMJOB_CUDA_CASE"), *without = "";
    Suite *s = suite_create("gpu_ops");
    TCase *t = tcase_create("gpu_ops");
    SRunner *r = srunner_create(s);
    int failed;

    for (int o; (o = getopt(argc, argv, "sx:")) != -1;) {
        small |= o == 's';
        without = o == 'x' ? optarg : without;
    }
    gpu_open();
    tcase_set_timeout(t, 60);
    for (int i = 0; i < op_case_count; i++)
        if ((!only || !strcmp(only, op_cases[i].name)) && strcmp(without, op_cases[i].name))
            tcase_add_loop_test(t, computes_and_repeats, i, i + 1);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
