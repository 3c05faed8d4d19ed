/*
 * Goal: each key is handed out at most once at a time, at its time, in order; failures back off;
 * nobody's keys wait for all of another namespace's. Method: a fake clock stepped by hand; a random
 * sequence, seed printed, that checks order and loses no key; allocation faults.
 * needs: faults
 */
#include "controller/kube/workq.h"

#include "base/clock.h"
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static const struct workq_conf conf = {2, 100, 60000};

static struct workq *make(int64_t now_ms)
{
    struct workq *q = NULL;
    struct err e;
    clock_set_fake(now_ms, now_ms);
    ck_assert_int_eq(workq_create(&conf, &q, &e), 0);
    return q;
}

START_TEST(a_key_waits_once_and_runs_once)
{
    struct workq *q = make(1000);
    struct err e;
    workq_add(q, "a", &e);
    workq_add(q, "a", &e);
    ck_assert_uint_eq(workq_waiting(q), 1);
    const char *key = workq_take(q);
    ck_assert_str_eq(key, "a");
    ck_assert_ptr_null(workq_take(q));
    workq_add(q, "a", &e); /* while it runs: due again afterwards, not now */
    ck_assert_ptr_null(workq_take(q));
    workq_done(q, "a", 0);
    ck_assert_str_eq(workq_take(q), "a");
    workq_done(q, "a", 0);
    ck_assert_ptr_null(workq_take(q));
    ck_assert_int_eq(workq_next_ms(q), -1);
    workq_destroy(q);
}
END_TEST

START_TEST(delays_keep_the_earlier_time)
{
    struct workq *q = make(1000);
    struct err e;
    workq_add_after(q, "a", 500, &e);
    workq_add_after(q, "b", 300, &e);
    workq_add_after(q, "a", 900, &e);
    ck_assert_int_eq(workq_next_ms(q), 1300);
    workq_add_after(q, "a", 100, &e);
    ck_assert_int_eq(workq_next_ms(q), 1100);
    ck_assert_ptr_null(workq_take(q));
    clock_set_fake(1300, 0);
    ck_assert_str_eq(workq_take(q), "a");
    ck_assert_str_eq(workq_take(q), "b");
    workq_destroy(q);
}
END_TEST

START_TEST(failures_back_off_each_key_alone)
{
    static const int64_t want[] = {
        100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000};
    struct workq *q = make(0);
    struct err e;
    int64_t now = 0;
    workq_add(q, "a", &e);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        ck_assert_str_eq(workq_take(q), "a");
        ck_assert_int_eq(workq_done(q, "a", 1), want[i]);
        workq_add(q, "a", &e); /* news does not shorten the wait */
        workq_add(q, "b", &e);
        ck_assert_str_eq(workq_take(q), "b");
        ck_assert_int_eq(workq_done(q, "b", 0), 0);
        clock_set_fake(now + want[i] - 1, 0);
        ck_assert_ptr_null(workq_take(q));
        now += want[i];
        clock_set_fake(now, 0);
    }
    ck_assert_str_eq(workq_take(q), "a");
    workq_done(q, "a", 0);
    workq_add(q, "a", &e);
    ck_assert_str_eq(workq_take(q), "a");
    ck_assert_int_eq(workq_done(q, "a", 1), 100); /* success forgets */
    workq_destroy(q);
}
END_TEST

START_TEST(random_keys_come_in_order_and_none_is_lost)
{
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    struct workq *q = make(0);
    struct err e;
    int64_t due[64];
    for (int i = 0; i < 64; i++)
        due[i] = -1;
    for (int i = 0; i < 500; i++) {
        int k = rand_r(&seed) % 64;
        int64_t d = rand_r(&seed) % 10000;
        char key[8];
        snprintf(key, sizeof key, "%d", k);
        workq_add_after(q, key, d, &e);
        due[k] = due[k] < 0 || d < due[k] ? d : due[k];
    }
    int64_t last = 0;
    clock_set_fake(10000, 0);
    for (const char *key; (key = workq_take(q));) {
        long k = strtol(key, NULL, 10);
        ck_assert_int_ge(due[k], last);
        last = due[k];
        due[k] = -1;
        workq_done(q, key, 0);
    }
    for (int i = 0; i < 64; i++)
        ck_assert_int_eq(due[i], -1);
    workq_destroy(q);
}
END_TEST

/* A thousand keys of one tenant delay another's by one turn, not by a thousand. */
START_TEST(namespaces_are_served_in_turn_and_have_a_share)
{
    struct workq *q = make(0);
    struct err e;
    char key[16];
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "many/%d", i);
        workq_add(q, key, &e);
    }
    workq_add(q, "few/0", &e);
    workq_add(q, "few/1", &e);
    ck_assert_str_eq(workq_take(q), "many/0");
    ck_assert_str_eq(workq_take(q), "few/0");
    ck_assert_str_eq(workq_take(q), "many/1");
    ck_assert_str_eq(workq_take(q), "few/1");
    ck_assert_ptr_null(workq_take(q)); /* both have their two */
    ck_assert_int_eq(workq_next_ms(q), -1);
    workq_add(q, "third/0", &e);
    ck_assert_str_eq(workq_take(q), "third/0");
    workq_done(q, "many/1", false);
    ck_assert_int_eq(workq_next_ms(q), 0);
    ck_assert_str_eq(workq_take(q), "many/2");
    ck_assert_ptr_null(workq_take(q));
    ck_assert_uint_eq(workq_waiting(q), 997);
    workq_destroy(q);
}
END_TEST

START_TEST(keys_are_forgiven_and_removed)
{
    struct workq *q = make(0);
    struct err e;
    workq_add(q, "n/a", &e);
    for (int i = 0; i < 8; i++) {
        ck_assert_str_eq(workq_take(q), "n/a");
        workq_done(q, "n/a", true);
        workq_forgive(q, "n/a");
    }
    ck_assert_str_eq(workq_take(q), "n/a");
    ck_assert_int_eq(workq_done(q, "n/a", true), 100);
    workq_remove(q, "n/a");
    ck_assert_int_eq(workq_next_ms(q), -1);
    clock_set_fake(1000, 0);
    workq_add(q, "n/a", &e);
    workq_add(q, "n/b", &e);
    workq_add(q, "n/c", &e);
    ck_assert_str_eq(workq_take(q), "n/a"); /* the others are in their namespace's list */
    workq_remove(q, "n/b");
    workq_remove(q, "n/a");
    ck_assert_str_eq(workq_take(q), "n/c");
    workq_done(q, "n/a", true);
    workq_done(q, "n/c", false);
    ck_assert_ptr_null(workq_take(q));
    ck_assert_int_eq(workq_next_ms(q), -1);
    ck_assert_uint_eq(workq_waiting(q), 0);
    workq_destroy(q);
}
END_TEST

static int use(void *user)
{
    struct workq *q = NULL;
    struct err e;
    (void)user;
    clock_set_fake(0, 0);
    int rc = workq_create(&conf, &q, &e);
    for (int i = 0; i < 100 && !rc; i++) {
        char key[8];
        snprintf(key, sizeof key, "%d", i);
        rc = workq_add(q, key, &e);
    }
    workq_destroy(q);
    return rc;
}

START_TEST(failed_allocation_is_reported)
{
    fault_each(FAULT_MEM, use, NULL);
}
END_TEST

UNIT_MAIN("workq", a_key_waits_once_and_runs_once, delays_keep_the_earlier_time,
    failures_back_off_each_key_alone, random_keys_come_in_order_and_none_is_lost,
    namespaces_are_served_in_turn_and_have_a_share, keys_are_forgiven_and_removed,
    failed_allocation_is_reported)
