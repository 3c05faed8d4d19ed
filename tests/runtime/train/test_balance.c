/*
 * Goal: shares come to the batch, none is empty, faster ones have no fewer, and no others would be
 * done earlier; they change only where that gains enough, and noise changes nothing for long.
 * Method: tables by hand, and random worlds beside what data_share and every other division have.
 */
#include "runtime/train/balance.h"

#include "base/random.h"
#include "runtime/data/data.h"
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>

#define PARTS  6
#define WORLDS 2000

static uint64_t seed = 1;

static int64_t below(int64_t n)
{
    seed = random_mix(seed + 1);
    return (int64_t)(seed % (uint64_t)n);
}

static void divides(int64_t batch, int parts, const int64_t *ns, const int64_t *want)
{
    int64_t counts[PARTS];
    balance_divide(batch, parts, ns, counts);
    for (int i = 0; i < parts; i++)
        ck_assert_msg(counts[i] == want[i], "share %d of %d: %lld, not %lld", i, parts,
            (long long)counts[i], (long long)want[i]);
}
#define DIVIDES(batch, ns, want) divides(batch, sizeof(ns) / sizeof(int64_t), ns, want)
#define L                        (const int64_t[])

START_TEST(shares_follow_speed)
{
    DIVIDES(8, (L{1, 1}), (L{4, 4}));
    DIVIDES(8, (L{100, 300}), (L{6, 2}));
    DIVIDES(8, (L{300, 100}), (L{2, 6}));
    DIVIDES(10, (L{7, 7, 7, 7}), (L{3, 3, 2, 2}));
    DIVIDES(2, (L{1, 1000000}), (L{1, 1})); /* none is empty */
    DIVIDES(7, (L{1, 1000000}), (L{6, 1}));
    DIVIDES(5, (L{9}), (L{5}));
    DIVIDES(6, (L{0, -3, 1}), (L{2, 2, 2})); /* a clock that stood still */
    DIVIDES(1048576, (L{INT64_MAX, INT64_MAX}), (L{524288, 524288}));
    DIVIDES(1048576, (L{INT64_MAX, 1}), (L{1, 1048575}));
}
END_TEST

/* The least time in which the last is done, of all ways to share out what is left. */
static int64_t earliest(int64_t left, int parts, const int64_t *ns)
{
    if (parts == 1)
        return left * ns[0];
    int64_t best = INT64_MAX;
    for (int64_t n = 1; n <= left - (parts - 1); n++) {
        int64_t rest = earliest(left - n, parts - 1, ns + 1), own = n * ns[0];
        int64_t both = own > rest ? own : rest;
        best = both < best ? both : best;
    }
    return best;
}

START_TEST(none_is_done_earlier)
{
    printf("seed %llu\n", (unsigned long long)seed);
    for (int k = 0; k < WORLDS; k++) {
        int parts = 1 + (int)below(4);
        int64_t batch = parts + below(12), ns[PARTS], counts[PARTS], sum = 0;
        for (int i = 0; i < parts; i++)
            ns[i] = 1 + below(k % 2 ? 5 : 1000);
        balance_divide(batch, parts, ns, counts);
        for (int i = 0; i < parts; i++) {
            ck_assert_int_ge(counts[i], 1);
            sum += counts[i];
            for (int j = 0; j < parts; j++)
                ck_assert(ns[i] > ns[j] || (ns[i] == ns[j] && i > j) || counts[i] >= counts[j]);
        }
        ck_assert_int_eq(sum, batch);
        ck_assert_int_eq(balance_slowest(parts, ns, counts), earliest(batch, parts, ns));
    }
}
END_TEST

START_TEST(equal_ones_have_what_they_had)
{
    for (int k = 0; k < WORLDS; k++) {
        int parts = 1 + (int)below(PARTS);
        int64_t batch = parts + below(1000), ns[PARTS], counts[PARTS], first, count;
        for (int i = 0; i < parts; i++)
            ns[i] = 12345 + k;
        balance_divide(batch, parts, ns, counts);
        for (int i = 0; i < parts; i++) {
            data_share(batch, parts, i, &first, &count);
            ck_assert_int_eq(counts[i], count);
        }
    }
}
END_TEST

static bool changes(int64_t batch, const int64_t ns[2], int gain, int64_t counts[2])
{
    int64_t spare[2];
    return balance_change(batch, 2, ns, gain, counts, spare);
}

START_TEST(little_changes_nothing)
{
    int64_t counts[2] = {50, 50};
    ck_assert(!changes(100, L{100, 100}, 5, counts));
    ck_assert(!changes(100, L{100, 110}, 5, counts)); /* 53 48 would gain less */
    ck_assert(counts[0] == 50 && counts[1] == 50);
    ck_assert(changes(100, L{100, 120}, 5, counts));
    ck_assert(counts[0] == 55 && counts[1] == 45);
    ck_assert(!changes(100, L{100, 120}, 25, counts));
    counts[0] = counts[1] = 50;
    ck_assert(!changes(100, L{100, 120}, BALANCE_GUESS, counts));
    ck_assert(changes(100, L{100, 300}, BALANCE_GUESS, counts));
}
END_TEST

/* Speeds that differ, and times within 1 % of them: what is reached stays. */
START_TEST(noise_changes_nothing_for_long)
{
    printf("seed %llu\n", (unsigned long long)seed);
    for (int k = 0; k < 100; k++) {
        int64_t ns[PARTS], seen[PARTS], counts[PARTS], spare[PARTS], batch = 240;
        int late = 0;
        for (int i = 0; i < PARTS; i++) {
            ns[i] = 1000 * (500 + below(3000));
            counts[i] = batch / PARTS;
        }
        for (int round = 0; round < 50; round++) {
            for (int i = 0; i < PARTS; i++)
                seen[i] = ns[i] * (990 + below(21)) / 1000;
            bool changed = balance_change(batch, PARTS, seen, BALANCE_GAIN, counts, spare);
            late += changed && round > 1;
        }
        ck_assert_int_eq(late, 0);
        balance_divide(batch, PARTS, ns, spare);
        ck_assert_int_le(balance_slowest(PARTS, ns, counts) * 100,
            balance_slowest(PARTS, ns, spare) * (100 + 2 * BALANCE_GAIN));
    }
}
END_TEST

/* A step's own time beside that of its sequences: fewer and fewer changes, not to and fro. */
START_TEST(a_fixed_part_settles)
{
    const int64_t each[] = {1000, 3000}, fixed = 4000, batch = 32;
    int64_t counts[2] = {16, 16}, seen[2];
    int changed = 0;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 2; i++)
            seen[i] = (fixed + each[i] * counts[i]) / counts[i];
        changed += changes(batch, seen, BALANCE_GAIN, counts);
    }
    ck_assert_int_le(changed, 3);
    ck_assert_int_ge(counts[0], 23);
    ck_assert_int_le(counts[0], 25);
}
END_TEST

START_TEST(who_stands_out)
{
    double spare[PARTS], median;
    ck_assert_int_eq(balance_odd(3, (const double[]){1, 1.2, 1.1}, spare, &median), -1);
    ck_assert(median == 1.1);
    ck_assert_int_eq(balance_odd(4, (const double[]){1, 3, 1, 2}, spare, &median), 1);
    ck_assert(median == 1);
    ck_assert_int_eq(balance_odd(2, (const double[]){9, 3}, spare, &median), 0);
    ck_assert(median == 3);
    ck_assert_int_eq(balance_odd(1, (const double[]){9}, spare, &median), -1);
    ck_assert_int_eq(balance_median((int64_t[]){5, 1, 9, 7}, 4), 5);
    ck_assert_int_eq(balance_median((int64_t[]){3}, 1), 3);
}
END_TEST

UNIT_MAIN("balance", shares_follow_speed, none_is_done_earlier, equal_ones_have_what_they_had,
    little_changes_nothing, noise_changes_nothing_for_long, a_fixed_part_settles, who_stands_out)
