/*
 * Goal: the loss of a row of logits is -log softmax, and parts of the row, of ranks that share a
 * vocabulary, give what the whole gives. Method: random rows, huge logits among them, cut at random
 * places; the whole against long double arithmetic.
 */
#include "runtime/model/likelihood.h"

#include "base/random.h"
#include "tests/unit.h"

#include <math.h>

#define COLUMNS 97
#define RANKS   5
#define ROWS    3 /* all[] of several rows, as engine_losses has them */

static float number(uint64_t *state)
{
    *state = random_mix(*state + 1);
    return (float)((double)(*state >> 11) * 0x1p-53 * 60 - 30);
}

static double softmax_loss(const float *logits, int64_t token)
{
    long double most = (long double)logits[0], sum = 0;
    for (int i = 1; i < COLUMNS; i++)
        most = fmaxl(most, (long double)logits[i]);
    for (int i = 0; i < COLUMNS; i++)
        sum += expl((long double)logits[i] - most);
    return (double)(logl(sum) + most - (long double)logits[token]);
}

START_TEST(a_row_is_its_softmax)
{
    uint64_t state = 7;
    for (int k = 0; k < 200; k++) {
        float logits[COLUMNS];
        for (int i = 0; i < COLUMNS; i++)
            logits[i] = number(&state) * (k % 3 ? 1 : 1e30f);
        int64_t token = k % COLUMNS;
        const struct likelihood x = likelihood_of(logits, COLUMNS, token);
        double is = likelihood_loss(&x, 1, 1), want = softmax_loss(logits, token);
        ck_assert_msg(fabs(is - want) <= 1e-6 * (1 + fabs(want)), "%.9g, not %.9g", is, want);
    }
}
END_TEST

START_TEST(parts_give_what_the_whole_gives)
{
    uint64_t state = 11;
    for (int k = 0; k < 200; k++) {
        float logits[COLUMNS];
        struct likelihood parts[RANKS * ROWS] = {{0}};
        int64_t token = k % COLUMNS, ranks = 2 + k % (RANKS - 1), row = k % ROWS;
        for (int i = 0; i < COLUMNS; i++)
            logits[i] = number(&state);
        for (int64_t r = 0, from = 0; r < ranks; r++) {
            int64_t n = r + 1 < ranks ? 1 + (k * 7 + r) % (COLUMNS / RANKS) : COLUMNS - from;
            parts[r * ROWS + row] = likelihood_of(logits + from, n, token - from);
            from += n;
        }
        const struct likelihood whole = likelihood_of(logits, COLUMNS, token);
        double is = likelihood_loss(parts + row, (int)ranks, ROWS);
        double want = likelihood_loss(&whole, 1, 1);
        ck_assert_msg(fabs(is - want) <= 1e-6 * (1 + fabs(want)), "%.9g, not %.9g", is, want);
    }
}
END_TEST

UNIT_MAIN("likelihood", a_row_is_its_softmax, parts_give_what_the_whole_gives)
