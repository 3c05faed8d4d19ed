/*
 * fair: goal: of classes that always want a turn each gets its share by weight, whatever a turn
 * costs, and one that wants little never waits for more than the others' turns of a round. Method:
 * random worlds of classes, weights and costs, with the bounds of deficit round robin; and tables
 * of its edges: a class that comes, debts, what is given back.
 */
#include "base/fair.h"

#include "base/random.h"
#include "tests/sample.h"
#include "tests/unit.h"

#define MANY 6

static int64_t up_to(uint64_t *random, int64_t n)
{
    return 1 + (int64_t)(random_next(random) % (uint64_t)n);
}

/* Of classes that all want, one with credit takes a turn, whichever is first: shares are within
   what a class may be ahead or behind: a quantum, and a turn. */
START_TEST(shares_follow_weights)
{
    uint64_t seed = sample_setting("LLMJOB_SEED");
    printf("LLMJOB_SEED=%llu\n", (unsigned long long)seed);
    for (uint64_t n = 0; n < 200; n++) {
        uint64_t random = random_mix(seed) + n;
        int64_t quantum = up_to(&random, 500), cost = up_to(&random, 1000), took[MANY] = {0};
        int classes = (int)up_to(&random, MANY);
        bool wants[FAIR_CLASSES] = {false};
        struct fair f;
        fair_init(&f, quantum, INT32_MAX);
        for (int i = 0; i < classes; i++) {
            fair_weigh(&f, i, (int)up_to(&random, 5));
            wants[i] = true;
        }
        for (int turn = 0; turn < 2000; turn++) {
            int i = (int)up_to(&random, classes) - 1, tries = 0;
            fair_round(&f, wants);
            for (; !fair_has(&f, i); i = (i + 1) % classes)
                ck_assert_int_lt(tries++, classes);
            int64_t costs = up_to(&random, cost);
            fair_spend(&f, i, costs);
            took[i] += costs;
        }
        for (int i = 1; i < classes; i++) {
            double apart = (double)took[i] / f.of[i].weight - (double)took[0] / f.of[0].weight;
            ck_assert_msg(
                apart <= (double)(2 * (quantum + cost)) && apart >= (double)(-2 * (quantum + cost)),
                "world %llu: %d is %.0f apart", (unsigned long long)n, i, apart);
        }
    }
}
END_TEST

START_TEST(who_comes_has_credit)
{
    bool wants[FAIR_CLASSES] = {true};
    struct fair f;
    fair_init(&f, 10, 100);
    for (int i = 0; i < 50; i++) { /* alone: a round whenever it has spent one */
        fair_round(&f, wants);
        ck_assert(fair_has(&f, 0));
        fair_spend(&f, 0, 7);
    }
    ck_assert(fair_has(&f, 1));
    fair_spend(&f, 1, 9);
    ck_assert(fair_has(&f, 1)); /* a whole quantum, and no more than that */
    fair_spend(&f, 1, 1);
    ck_assert(!fair_has(&f, 1));
}
END_TEST

START_TEST(debts_are_paid_and_bounded)
{
    bool wants[FAIR_CLASSES] = {true, true};
    struct fair f;
    fair_init(&f, 10, 30);
    fair_spend(&f, 0, 1000);
    ck_assert_int_eq(f.of[0].credit, -30);
    for (int i = 0; i < 3; i++) { /* the other one's rounds pay for it */
        fair_spend(&f, 1, 10);
        fair_round(&f, wants);
        ck_assert(!fair_has(&f, 0) && fair_has(&f, 1));
    }
    fair_spend(&f, 1, 10);
    fair_round(&f, wants);
    ck_assert(fair_has(&f, 0) && fair_has(&f, 1));
    fair_spend(&f, 0, 1000);
    wants[1] = false;
    fair_round(&f, wants); /* as many at once as it takes, and the others do not grow by them */
    ck_assert(fair_has(&f, 0));
    ck_assert_int_eq(f.of[1].credit, 10);
    fair_spend(&f, 1, -5);
    fair_round(&f, wants);
    ck_assert_int_eq(f.of[1].credit, 15); /* what is given back is kept */
    wants[0] = false;
    fair_spend(&f, 0, 1000);
    fair_round(&f, wants); /* nobody wants */
    ck_assert_int_eq(f.of[0].credit, -30);
    fair_weigh(&f, 2, FAIR_WEIGHT);
    fair_spend(&f, 2, INT64_C(1) << 40);
    ck_assert_int_eq(f.of[2].credit, -30 * FAIR_WEIGHT);
}
END_TEST

UNIT_MAIN("fair", shares_follow_weights, who_comes_has_credit, debts_are_paid_and_bounded)
