/*
 * Goal: tables find exactly what was put. Method: many random names and pairs beside plain arrays;
 * near misses.
 */
#include "runtime/text/tok_table.h"

#include "tests/unit.h"

#include <time.h>

#define NAMES 5000

START_TEST(names_are_found)
{
    struct tok_names t;
    struct err e = {0};
    char bytes[NAMES * 6];
    uint32_t start[NAMES + 1] = {0};
    for (int i = 0; i < NAMES; i++) { /* every text twice: the first id counts */
        int n = snprintf(bytes + start[i], 6, "%d", i / 2);
        start[i + 1] = start[i] + (uint32_t)n;
    }
    ck_assert_int_eq(tok_names_init(&t, NAMES, bytes, start, &e), 0);
    for (int i = 0; i < NAMES; i++)
        tok_names_add(&t, i);
    for (int i = 0; i < NAMES; i++)
        ck_assert_int_eq(tok_names_find(&t, bytes + start[i], start[i + 1] - start[i]), i / 2 * 2);
    ck_assert_int_eq(tok_names_find(&t, "", 0), -1);
    ck_assert_int_eq(tok_names_find(&t, "2500", 4), -1);
    ck_assert_int_eq(tok_names_find(&t, "x", 1), -1);
    tok_names_done(&t);
}
END_TEST

START_TEST(pairs_are_found)
{
    unsigned int seed = (unsigned int)time(NULL);
    printf("seed %u\n", seed);
    enum { SIDE = 60 };
    struct tok_pairs t;
    struct err e = {0};
    int32_t want[SIDE][SIDE];
    memset(want, 0xff, sizeof want);
    ck_assert_int_eq(tok_pairs_init(&t, 2000, &e), 0);
    for (int32_t i = 0; i < 2000; i++) { /* the last of equal pairs counts */
        int32_t left = rand_r(&seed) % SIDE, right = rand_r(&seed) % SIDE;
        tok_pairs_put(&t, (struct tok_pair){left, right, i, i + 7});
        want[left][right] = i;
    }
    for (int32_t left = 0; left < SIDE; left++)
        for (int32_t right = 0; right < SIDE; right++) {
            const struct tok_pair *p = tok_pairs_find(&t, left, right);
            ck_assert_int_eq(p ? p->rank : -1, want[left][right]);
            if (p)
                ck_assert_int_eq(p->merged, p->rank + 7);
        }
    tok_pairs_done(&t);
}
END_TEST

UNIT_MAIN("tok_table", names_are_found, pairs_are_found)
