/*
 * Goal: numbers become blocks with as little loss as the format allows. Method: random rows of
 * several shapes; the decoded blocks' square error against bounds of rounding to nearest (Q8_0,
 * Q4_0 and Q5_0, whose bits tests/runtime/files/test_gguf_write.c compares with the gguf package's)
 * and against a plain encoder without a search (Q5_1, Q4_K, Q6_K); importance moves the error to
 * where it counts less; zeros, equal and absurd numbers. Prints its seed and the errors.
 */
#include "kernels/quant_encode.h"

#include "kernels/quant.h"
#include "tests/unit.h"

#include <math.h>
#include <stdio.h>

#define COUNT 8192

static uint64_t seed;

static double uniform(void) /* [0, 1) */
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(seed >> 11) * 0x1p-53;
}

static float normal(void)
{
    return (float)(sqrt(-2 * log(1 - uniform())) * cos(2 * M_PI * uniform()));
}

static void setup(void)
{
    seed = sample_setting("LLMJOB_SEED");
    printf("LLMJOB_SEED=%llu\n", (unsigned long long)seed);
}

static void draw(float *x, float mean)
{
    for (int i = 0; i < COUNT; i++)
        x[i] = 0.02f * normal() + mean;
}

/* Mean square error over the mean square. */
static double loss_of(enum dtype t, const float *x, const float *importance)
{
    static uint8_t blocks[COUNT * 4];
    static float got[COUNT];
    double error = 0, all = 0;
    quant_encode(t, x, COUNT, importance, blocks);
    quant_decode(t, blocks, COUNT, got);
    for (int i = 0; i < COUNT; i++) {
        error += (double)(got[i] - x[i]) * (double)(got[i] - x[i]);
        all += (double)x[i] * (double)x[i];
    }
    return error / all;
}

/* What levels 0 to `levels` between the least and the greatest of each n give, scales exact. */
static double plain_loss(const float *x, int n, int levels)
{
    double error = 0, all = 0;
    for (int i = 0; i < COUNT; i += n) {
        float low = 0, high = 0;
        for (int k = 0; k < n; k++) {
            low = fminf(low, x[i + k]);
            high = fmaxf(high, x[i + k]);
        }
        float scale = (high - low) / (float)levels;
        for (int k = 0; k < n; k++) {
            float got = roundf((x[i + k] - low) / scale) * scale + low;
            error += (double)(got - x[i + k]) * (double)(got - x[i + k]);
            all += (double)x[i + k] * (double)x[i + k];
        }
    }
    return error / all;
}

START_TEST(each_format_loses_what_its_bits_must)
{
    static const struct {
        enum dtype type;
        double most;
    } bounds[] = {{DTYPE_F32, 0}, {DTYPE_BF16, 1e-5}, {DTYPE_F16, 1e-7}, {DTYPE_Q8_0, 5e-5},
        {DTYPE_Q5_0, 3e-3}, {DTYPE_Q5_1, 1.5e-3}, {DTYPE_Q4_0, 1.2e-2}};
    static float x[COUNT];
    setup();
    draw(x, 0);
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        double loss = loss_of(bounds[i].type, x, NULL);
        printf("%s: %.3g\n", dtype_name(bounds[i].type), loss);
        ck_assert_msg(loss <= bounds[i].most, "%s: %g", dtype_name(bounds[i].type), loss);
        ck_assert(loss > 0 || bounds[i].type == DTYPE_F32);
    }
}
END_TEST

/* The plain one has exact scales, these have 6 and 8 bits: the search wins more than they cost. */
START_TEST(the_search_beats_rounding_to_nearest)
{
    static const float means[] = {0, 0.01f, 0.05f, -0.05f};
    static float x[COUNT];
    setup();
    for (int i = 0; i < 4; i++) {
        draw(x, means[i]);
        double four = loss_of(DTYPE_Q4_K, x, NULL), six = loss_of(DTYPE_Q6_K, x, NULL);
        double plain = plain_loss(x, 32, 15);
        printf("mean %g: q4_k %.4g, plain %.4g; q6_k %.4g\n", (double)means[i], four, plain, six);
        ck_assert_msg(four < 0.9 * plain, "mean %g: %g, %g", (double)means[i], four, plain);
        ck_assert_msg(six < 6e-4, "mean %g: %g", (double)means[i], six);
    }
}
END_TEST

START_TEST(importance_moves_the_error)
{
    static const enum dtype types[] = {DTYPE_Q4_K, DTYPE_Q6_K};
    static float x[COUNT], importance[COUNT];
    static uint8_t blocks[COUNT];
    static float got[2][COUNT];
    setup();
    draw(x, 0);
    for (int i = 0; i < COUNT; i++)
        importance[i] = i % 8 ? 1e-3f : 1;
    for (int t = 0; t < 2; t++) {
        double error[2] = {0};
        for (int k = 0; k < 2; k++) {
            quant_encode(types[t], x, COUNT, k ? importance : NULL, blocks);
            quant_decode(types[t], blocks, COUNT, got[k]);
            for (int i = 0; i < COUNT; i += 8)
                error[k] += (double)(got[k][i] - x[i]) * (double)(got[k][i] - x[i]);
        }
        printf("%s: where it counts %.4g, before %.4g\n", dtype_name(types[t]), error[1], error[0]);
        ck_assert_msg(error[1] < 0.8 * error[0], "%s", dtype_name(types[t]));
    }
}
END_TEST

START_TEST(odd_numbers_have_their_blocks)
{
    static float x[COUNT], got[COUNT];
    static uint8_t blocks[COUNT * 4];
    for (enum dtype t = 0; t < DTYPES; t++) {
        if (!quant_encodes(t) || dtype_block(t) == 1)
            continue;
        memset(x, 0, sizeof x);
        quant_encode(t, x, COUNT, NULL, blocks);
        quant_decode(t, blocks, COUNT, got);
        for (int i = 0; i < COUNT; i++)
            ck_assert_msg(got[i] == 0, "%s: %g", dtype_name(t), (double)got[i]);
        for (int i = 0; i < COUNT; i++)
            x[i] = i / 256 % 2 ? -0.5f : 0.5f;
        x[700] = NAN; /* becomes 0, and spoils no other block */
        quant_encode(t, x, COUNT, NULL, blocks);
        quant_decode(t, blocks, COUNT, got);
        for (int i = 0; i < COUNT; i++)
            if (i / 256 != 700 / 256)
                ck_assert_msg(
                    fabsf(got[i] - x[i]) < 0.01f, "%s: %d: %g", dtype_name(t), i, (double)got[i]);
            else
                ck_assert(isfinite(got[i]));
    }
}
END_TEST

UNIT_MAIN("quant_encode", each_format_loses_what_its_bits_must,
    the_search_beats_rounding_to_nearest, importance_moves_the_error, odd_numbers_have_their_blocks)
