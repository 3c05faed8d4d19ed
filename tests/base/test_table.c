/*
 * Goal: the table holds exactly what was put, and walking survives removal of the present key.
 * Method: random operations beside a plain array, with a printed seed; a walk that removes;
 * allocation faults.
 * needs: faults
 */
#include "base/table.h"

#include "tests/unit.h"

#include <stdio.h>
#include <time.h>

#define KEYS 200

START_TEST(random_operations_match_an_array)
{
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    struct table t = {0};
    struct err e;
    int values[KEYS] = {0}, slots[KEYS];
    for (int i = 0; i < 20000; i++) {
        int k = rand_r(&seed) % KEYS;
        char key[16];
        snprintf(key, sizeof key, "ns/%d", k);
        if (rand_r(&seed) % 3) {
            ck_assert_int_eq(table_put(&t, key, &slots[k], &e), 0);
            values[k] = 1;
        } else {
            ck_assert_ptr_eq(table_remove(&t, key), values[k] ? &slots[k] : NULL);
            values[k] = 0;
        }
        ck_assert_ptr_eq(table_get(&t, key), values[k] ? &slots[k] : NULL);
    }
    size_t live = 0;
    for (int k = 0; k < KEYS; k++)
        live += (size_t)values[k];
    ck_assert_uint_eq(t.count, live);
    table_done(&t);
}
END_TEST

START_TEST(walk_sees_each_key_once_and_may_remove_it)
{
    struct table t = {0};
    struct err e;
    int seen[KEYS] = {0}, at_value[KEYS];
    for (int k = 0; k < KEYS; k++) {
        char key[16];
        snprintf(key, sizeof key, "%d", k);
        ck_assert_int_eq(table_put(&t, key, &at_value[k], &e), 0);
    }
    const char *key;
    void *v;
    for (size_t at = 0; table_next(&t, &at, &key, &v);) {
        long k = (int *)v - at_value;
        seen[k]++;
        char copy[16];
        snprintf(copy, sizeof copy, "%s", key);
        if (k % 2)
            table_remove(&t, copy);
    }
    for (int k = 0; k < KEYS; k++)
        ck_assert_int_eq(seen[k], 1);
    ck_assert_uint_eq(t.count, KEYS / 2);
    table_done(&t);
}
END_TEST

static int fill(void *user)
{
    struct table t = {0};
    struct err e;
    int rc = 0;
    for (int k = 0; k < 40 && !rc; k++) {
        char key[16];
        snprintf(key, sizeof key, "%d", k);
        rc = table_put(&t, key, user, &e);
    }
    table_done(&t);
    return rc;
}

START_TEST(failed_allocation_leaves_the_table_whole)
{
    int value;
    fault_each(FAULT_MEM, fill, &value);
}
END_TEST

UNIT_MAIN("table", random_operations_match_an_array, walk_sees_each_key_once_and_may_remove_it,
    failed_allocation_leaves_the_table_whole)
