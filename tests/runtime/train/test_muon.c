/*
 * Goal: Muon's direction is near the orthogonal matrix nearest to what is given. Method: of random
 * matrices, wide, tall, square and a row, the product with their own transpose is near the identity
 * (the five steps leave singular values around 1), rows of unlike size included; the result does
 * not depend on the scale of what is given; a diagonal one by the scalar iteration in double; zeros
 * stay zeros; in F32 and BF16, on the processor and on the simulated GPU. (Fifty steps against
 * torch: test_optim.)
 * needs: cuda
 */
#include "runtime/train/muon.h"

#include "tests/far.h"
#include "tests/runtime/tiny.h"
#include "tests/unit.h"

#include <math.h>

static struct err e;

struct bench { /* a device with scratch */
    struct dev *d;
    struct muon muon;
    struct carve room;
};

static void bench_open(struct bench *b, const char *kind, enum dtype t, int64_t rows, int64_t cols)
{
    *b = (struct bench){.muon.t = t};
    ck_assert_msg(!dev_open(kind, 0, 1, &b->d, &e), "%s", e.text);
    b->muon.dev = b->d;
    muon_admit(&b->muon, 3, 2);
    muon_admit(&b->muon, rows, cols);
    muon_carve(&b->muon, &b->room);
    ck_assert_msg(!carve_open(&b->room, b->d, &e), "%s", e.text);
    muon_carve(&b->muon, &b->room);
}

static void bench_close(struct bench *b)
{
    carve_close(&b->room, b->d);
    dev_close(b->d);
}

/* x (rows, cols) in place */
static void orthogonalise(struct bench *b, float *x, int64_t rows, int64_t cols)
{
    size_t bytes = (size_t)(rows * cols) * 4;
    dev_upload(b->d, b->muon.direction, x, bytes);
    muon_orthogonalise(&b->muon, rows, cols);
    dev_download(b->d, x, b->muon.direction, bytes);
    ck_assert_msg(!dev_sync(b->d, &e), "%s", e.text);
}

/* The greatest distance of the shorter side's products from the identity. */
static double distance_from_orthogonal(const float *x, int64_t rows, int64_t cols)
{
    int64_t side = rows < cols ? rows : cols, other = rows < cols ? cols : rows;
    int64_t next = rows < cols ? cols : 1, along = rows < cols ? 1 : cols;
    double most = 0;
    for (int64_t i = 0; i < side; i++)
        for (int64_t j = 0; j < side; j++) {
            double sum = 0;
            for (int64_t k = 0; k < other; k++)
                sum += (double)x[i * next + k * along] * (double)x[j * next + k * along];
            most = farther(most, fabs(sum - (i == j)));
        }
    return most;
}

static void check_shape(const char *kind, enum dtype t, int64_t rows, int64_t cols)
{
    struct bench b;
    uint64_t seed = 5;
    size_t n = (size_t)(rows * cols);
    mem_autofree float *x = mem_array(n, 4), *small = mem_array(n, 4);
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)tiny_random(&seed);
        small[i] = x[i] * 0x1p-10f;
    }
    bench_open(&b, kind, t, rows, cols);
    orthogonalise(&b, x, rows, cols);
    orthogonalise(&b, small, rows, cols);
    ck_assert_double_lt(distance_from_orthogonal(x, rows, cols), 0.6);
    for (size_t i = 0; i < n; i++)
        ck_assert_double_eq_tol((double)x[i], (double)small[i], t == DTYPE_F32 ? 1e-4 : 0.02);
    bench_close(&b);
}

START_TEST(random_matrices_become_orthogonal)
{
    static const int64_t shapes[][2] = {{16, 48}, {48, 16}, {8, 100}, {1, 33}, {33, 1}, {1, 1}};
    static const char *const kinds[] = {"cpu", "cpu-ref", "cuda"};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int k = 0; k < 3; k++) {
            check_shape(kinds[k], DTYPE_F32, shapes[i][0], shapes[i][1]);
            check_shape(kinds[k], DTYPE_BF16, shapes[i][0], shapes[i][1]);
        }
}
END_TEST

/* Singular values of a diagonal matrix go their way alone. */
START_TEST(singular_values_follow_the_polynomial)
{
    enum { SIDE = 5, LONG = 7 };
    static const double values[SIDE] = {3, 1, 0.5, 0.1, 0.02};
    double norm = 0;
    struct bench b;
    bench_open(&b, "cpu", DTYPE_F32, SIDE, LONG);
    for (int i = 0; i < SIDE; i++)
        norm += values[i] * values[i];
    for (int tall = 0; tall < 2; tall++) {
        int64_t rows = tall ? LONG : SIDE, cols = tall ? SIDE : LONG;
        float x[SIDE * LONG] = {0};
        for (int i = 0; i < SIDE; i++)
            x[i * cols + i] = (float)values[i];
        orthogonalise(&b, x, rows, cols);
        for (int i = 0; i < SIDE; i++) {
            double v = values[i] / sqrt(norm);
            for (int k = 0; k < 5; k++)
                v = 3.4445 * v - 4.7750 * pow(v, 3) + 2.0315 * pow(v, 5);
            ck_assert_double_eq_tol((double)x[i * cols + i], v, 1e-5);
        }
    }
    bench_close(&b);
}
END_TEST

START_TEST(zeros_stay_zeros)
{
    float x[6] = {0};
    struct bench b;
    bench_open(&b, "cpu", DTYPE_F32, 2, 3);
    orthogonalise(&b, x, 2, 3);
    for (int i = 0; i < 6; i++)
        ck_assert(x[i] == 0);
    bench_close(&b);
}
END_TEST

UNIT_MAIN("muon", random_matrices_become_orthogonal, singular_values_follow_the_polynomial,
    zeros_stay_zeros)
