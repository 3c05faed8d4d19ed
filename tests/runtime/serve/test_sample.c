/*
 * Goal: tokens are drawn as often as their probability says, from the nucleus only, and the same
 * seed draws the same. Method: frequencies of 100,000 draws of the processor's operation, by the
 * numbers that a sampler gives, against softmax; supports of small nuclei; greedy on ties.
 */
#include "runtime/serve/sample.h"

#include "base/mem.h"
#include "kernels/ops.h"
#include "tests/unit.h"

#include <math.h>

#define V     6
#define DRAWS 100000

static const float logits[V] = {0.5f, 2.0f, -1.0f, 1.0f, 2.0f, -30.0f};
static struct {
    struct dev *dev;
} on;
static struct err e;

static void open_device(void)
{
    ck_assert_msg(!dev_open("cpu", 0, 1, &on.dev, &e), "%s", e.text);
}

static void close_device(void)
{
    dev_close(on.dev);
}

static int32_t next_token(struct sampler *s)
{
    const struct sample_draw draw = sampler_draw(s);
    int32_t token = -1;
    OP(&on, sample, .n = 1, .v = V, .logits = logits, .temperature = &draw.temperature,
        .top_p = &draw.top_p, .u = &draw.u, .token = &token);
    return token;
}

static void frequencies(double temperature, double top_p, double out[V])
{
    struct sampler s;
    sampler_start(&s, temperature, top_p, 1);
    memset(out, 0, V * sizeof *out);
    for (int i = 0; i < DRAWS; i++)
        out[next_token(&s)] += 1.0 / DRAWS;
}

static void softmax(double temperature, double out[V])
{
    double sum = 0;
    for (int i = 0; i < V; i++)
        sum += out[i] = exp((double)logits[i] / temperature);
    for (int i = 0; i < V; i++)
        out[i] /= sum;
}

START_TEST(frequencies_are_softmax)
{
    for (double temperature = 0.5; temperature < 3; temperature += 0.7) {
        double got[V], want[V];
        frequencies(temperature, 1, got);
        softmax(temperature, want);
        for (int i = 0; i < V; i++) /* five standard deviations */
            ck_assert_double_eq_tol(
                got[i], want[i], 5 * sqrt(want[i] * (1 - want[i]) / DRAWS) + 1e-9);
    }
}
END_TEST

START_TEST(nucleus_is_cut)
{
    double got[V], p[V];
    softmax(1, p);
    frequencies(1, p[1] * 0.9, got); /* the best alone; of equals the lower id */
    ck_assert_double_eq_tol(got[1], 1, 1e-9);
    frequencies(1, p[1] + p[4] + p[3] * 0.5, got); /* three: 1, 4, 3 */
    ck_assert_double_eq_tol(got[0] + got[2] + got[5], 0, 1e-12);
    ck_assert_double_eq_tol(got[3], p[3] / (p[1] + p[3] + p[4]), 0.01);
}
END_TEST

START_TEST(greedy_takes_the_first_best)
{
    double got[V];
    frequencies(0, 1, got);
    ck_assert_double_eq_tol(got[1], 1, 1e-9);
}
END_TEST

START_TEST(seeds_repeat)
{
    struct sampler s;
    int32_t first[50];
    int differ = 0;
    sampler_start(&s, 1, 0.95, 7);
    for (int i = 0; i < 50; i++)
        first[i] = next_token(&s);
    sampler_start(&s, 1, 0.95, 7);
    for (int i = 0; i < 50; i++)
        ck_assert_int_eq(next_token(&s), first[i]);
    sampler_start(&s, 1, 0.95, 8);
    for (int i = 0; i < 50; i++)
        differ += next_token(&s) != first[i];
    ck_assert_int_gt(differ, 5);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"sample", 0, open_device, close_device},
        (const TTest *const[]){frequencies_are_softmax, nucleus_is_cut, greedy_takes_the_first_best,
            seeds_repeat, NULL});
}
