/*
 * share: goal: no key, however many requests it has waiting, takes from another what is its share:
 * of tokens, of places at the rank and of the queue; what is told to come again later is told when.
 * The kind: one tenant who starves the others. Method: tables of each decision; and worlds of keys
 * that always want, with costs that are guessed wrongly, beside a plain account of tokens.
 */
#include "agent/share.h"

#include "base/random.h"
#include "tests/sample.h"
#include "tests/unit.h"

static struct key_shares s;

static void start(int most, int at_rank, int more)
{
    share_init(&s,
        &(struct share_conf){.most = most,
            .most_bytes = 1000,
            .most_tokens = 5000,
            .at_rank = at_rank,
            .at_rank_more = more});
}

static void enter(int key, int answers)
{
    share_enter(&s, &(struct share_cost){.key = key, .answers = answers, .bytes = 10}, 0);
}

START_TEST(the_queue_is_bounded)
{
    static const struct {
        struct share_cost c;
        bool admitted;
    } table[] = {
        {{0, 3, 0, 0}, true},
        {{0, 4, 0, 0}, false}, /* answers */
        {{0, 1, 990, 0}, true},
        {{0, 1, 991, 0}, false},
        {{0, 1, SIZE_MAX, 0}, false},
        {{0, 1, 0, 5000}, true},
        {{0, 1, 0, 5001}, false},
    };
    start(4, 1, 0);
    ck_assert(share_admits(&s, &(struct share_cost){0, 1, 1, 1 << 20})); /* alone */
    enter(0, 1);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        ck_assert_msg(share_admits(&s, &table[i].c) == table[i].admitted, "case %zu", i);
    share_leave(&s, &(struct share_cost){.key = 0, .answers = 1, .bytes = 10});
    ck_assert(share_admits(&s, &(struct share_cost){0, 4, 1000, 5000}));
    s.conf.most_tokens = 0; /* any */
    enter(0, 1);
    ck_assert(share_admits(&s, &(struct share_cost){0, 1, 0, INT64_MAX}));
}
END_TEST

/* Of 12 places: three keys of which one weighs 2. */
START_TEST(a_full_queue_has_room_for_who_has_less)
{
    start(12, 1, 0);
    share_weigh(&s, 2, 2);
    enter(0, 12);
    ck_assert_int_eq(share_beyond(&s, &(struct share_cost){.key = 0, .answers = 1}), -1);
    ck_assert_int_eq(share_beyond(&s, &(struct share_cost){.key = 1, .answers = 6}), 0);
    ck_assert_int_eq(share_beyond(&s, &(struct share_cost){.key = 1, .answers = 7}), -1);
    share_leave(&s, &(struct share_cost){.key = 0, .answers = 8, .bytes = 80});
    enter(1, 4);
    enter(2, 4); /* 4 and 4 of 3 and 3; 4 of 6 */
    ck_assert_int_eq(share_beyond(&s, &(struct share_cost){.key = 2, .answers = 2}), 0);
    ck_assert_int_eq(share_beyond(&s, &(struct share_cost){.key = 2, .answers = 3}), -1);
    ck_assert_int_eq(share_beyond(&s, &(struct share_cost){.key = 1, .answers = 1}), -1);
    enter(1, 1);
    ck_assert_int_eq(share_beyond(&s, &(struct share_cost){.key = 2, .answers = 1}), 1);
}
END_TEST

START_TEST(a_key_without_a_place_has_one_more)
{
    start(50, 2, 2);
    share_hand(&s, 1, 0, 0, 1);
    ck_assert(share_has_place(&s, 0, 0));
    share_hand(&s, 2, 0, 0, 1);
    ck_assert(!share_has_place(&s, 0, 0) && !share_has_place(&s, 0, 1));
    ck_assert(share_has_place(&s, 1, 5));
    ck_assert(share_has_place(&s, 0, -1)); /* the most urgent of its key */
    share_hand(&s, 3, 0, -1, 1);
    ck_assert(!share_has_place(&s, 0, -1) && share_has_place(&s, 1, 0));
    share_hand(&s, 4, 1, 0, 1);
    ck_assert(!share_has_place(&s, 2, 0));
    share_end(&s, 77, 0, 0, true, 0); /* nobody's */
    ck_assert(!share_has_place(&s, 2, 0));
    share_end(&s, 1, 0, 0, true, 0);
    ck_assert(share_has_place(&s, 2, 0) && !share_has_place(&s, 1, 0));
    share_lost(&s);
    ck_assert(share_has_place(&s, 0, 0));
}
END_TEST

START_TEST(credit_then_priority_then_age)
{
    start(50, 4, 0);
    ck_assert(share_is_first(&s, 0, 0, 1, 0));
    ck_assert(!share_is_first(&s, 0, 1, 1, 0) && share_is_first(&s, 0, 0, 1, 1));
    share_hand(&s, 1, 0, 0, 1000);
    ck_assert(!share_is_first(&s, 0, -9, 1, 9));
    ck_assert(share_is_first(&s, 1, 9, 0, -9));
    share_end(&s, 1, 0, 0, false, 0); /* it cost nothing after all */
    ck_assert(share_is_first(&s, 0, -9, 1, 9));
}
END_TEST

START_TEST(answers_are_as_long_as_of_late)
{
    start(50, 4, 0);
    ck_assert_int_eq(share_usual(&s, 0, 50), 50);
    int64_t before = share_usual(&s, 0, 1000);
    for (uint64_t i = 1; i < 40; i++) {
        share_hand(&s, i, 0, 0, 1);
        share_end(&s, i, 5, 400, i % 2, 0); /* those that were cut short tell nothing */
    }
    ck_assert(before == 129 && share_usual(&s, 0, 1000) > 390);
    ck_assert_int_eq(share_usual(&s, 1, 1000), 129);
}
END_TEST

/* Eight in flight, one ends each 500 ms. */
START_TEST(half_the_queue_at_the_rate_of_late)
{
    start(50, 4, 0);
    ck_assert_int_eq(share_retry_seconds(&s, 0), 1);
    int64_t ms = 10000;
    share_enter(&s, &(struct share_cost){.answers = 8}, ms);
    for (uint64_t i = 0; i < 100; i++) {
        share_hand(&s, i, 0, 0, 1);
        ms += 500;
        share_end(&s, i, 1, 1, true, ms);
        ck_assert_int_eq(share_retry_seconds(&s, ms), 3);
    }
    ck_assert_int_eq(share_retry_seconds(&s, ms + 32 * 500), 5); /* none has ended for as long */
    ck_assert_int_eq(share_retry_seconds(&s, ms + 3600000), 60);
    share_leave(&s, &(struct share_cost){.answers = 8});
    share_enter(&s, &(struct share_cost){.answers = 8}, ms + 3600000); /* what was before is not */
    ck_assert_int_eq(share_retry_seconds(&s, ms + 3600000), 1);
}
END_TEST

static int64_t up_to(uint64_t *random, int64_t n)
{
    return 1 + (int64_t)(random_next(random) % (uint64_t)n);
}

/* Keys of which each always has requests waiting, short ones or long ones, at a rank of eight
   places; tokens are as the weights, and nobody's guess is right. */
START_TEST(tokens_follow_weights)
{
    uint64_t seed = sample_setting("LLMJOB_SEED");
    printf("LLMJOB_SEED=%llu\n", (unsigned long long)seed);
    for (uint64_t n = 0; n < 50; n++) {
        uint64_t random = random_mix(seed) + n, id = 1;
        int keys = (int)up_to(&random, 4), held = 0;
        int64_t longest[4], took[4] = {0};
        int weight[4], whose[8];
        uint64_t ids[8];
        bool wants[LIMIT_API_KEYS] = {false};
        start(50, 8, 0);
        for (int i = 0; i < keys; i++) {
            share_weigh(&s, i, weight[i] = (int)up_to(&random, 4));
            longest[i] = up_to(&random, 300);
            wants[i] = true;
        }
        for (int turn = 0; turn < 20000; turn++) {
            while (held < 8) {
                int best = 0;
                share_round(&s, wants);
                for (int i = 1; i < keys; i++)
                    best = share_is_first(&s, best, 0, i, 0) ? best : i;
                share_hand(&s, id, best, 0, 10 + share_usual(&s, best, 1000));
                whose[held] = best;
                ids[held++] = id++;
            }
            int i = (int)up_to(&random, 8) - 1;
            int64_t cost = up_to(&random, longest[whose[i]]);
            took[whose[i]] += 20 + cost;
            share_end(&s, ids[i], 20, cost, true, turn);
            whose[i] = whose[--held];
            ids[i] = ids[held];
        }
        for (int i = 1; i < keys; i++) {
            double ratio = (double)took[i] / weight[i] / ((double)took[0] / weight[0]);
            ck_assert_msg(ratio > 0.97 && ratio < 1.03, "world %llu: key %d has %f of key 0's",
                (unsigned long long)n, i, ratio);
        }
    }
}
END_TEST

UNIT_MAIN("share", the_queue_is_bounded, a_full_queue_has_room_for_who_has_less,
    a_key_without_a_place_has_one_more, credit_then_priority_then_age,
    answers_are_as_long_as_of_late, half_the_queue_at_the_rate_of_late, tokens_follow_weights)
