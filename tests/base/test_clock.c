/*
 * Goal: times print and read back as Kubernetes writes them, in every year that matters; fakes
 * stand still. Method: the C library's gmtime_r as reference over random times, tables of good and
 * malformed texts.
 */
#include "base/clock.h"

#include "tests/unit.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

START_TEST(format_equals_the_c_library)
{
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    for (int i = 0; i < 200000; i++) {
        int64_t s =
            ((int64_t)rand_r(&seed) << 6 ^ rand_r(&seed)) % 253402300800 - (i % 7 ? 0 : 2000000000);
        time_t t = s;
        struct tm tm;
        gmtime_r(&t, &tm);
        char want[40], got[40];
        strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%SZ", &tm);
        clock_format(s * 1000 + i % 1000, got, sizeof got);
        ck_assert_str_eq(got, want);
        if (s >= 0)
            ck_assert_int_eq(clock_parse(got), s * 1000);
    }
}
END_TEST

START_TEST(what_kubernetes_prints_is_read)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2024-02-29T12:34:56Z", 1709210096000},
        {"2024-02-29T12:34:56.5Z", 1709210096500},
        {"2024-02-29T12:34:56.123456Z", 1709210096123},
        {"2024-02-29T14:34:56.000001+02:00", 1709210096000},
        {"2024-02-29T07:04:56-05:30", 1709210096000},
        {"2016-12-31T23:59:60Z", 1483228800000},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert_int_eq(clock_parse(good[i].text), good[i].ms);
}
END_TEST

START_TEST(malformed_times_are_refused)
{
    static const char *const bad[] = {
        "",
        "2024",
        "2024-02-29",
        "2024-02-29T12:34:56",
        "2024-02-29T12:34:56z",
        "2024-02-30T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "2024-13-01T00:00:00Z",
        "2024-00-01T00:00:00Z",
        "2024-01-00T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:60:00Z",
        "2024-01-01T00:00:61Z",
        "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00:00Zx",
        "2024-01-01 00:00:00Z",
        "2024-1-01T00:00:00Z",
        "-024-01-01T00:00:00Z",
        "2024-01-01T00:00:00+0200",
        "2024-01-01T00:00:00+24:00",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(clock_parse(bad[i]) == -1, "\"%s\" was taken", bad[i]);
}
END_TEST

START_TEST(fake_clocks_stand_still)
{
    clock_set_fake(1234, 5678);
    ck_assert_int_eq(clock_ms(), 1234);
    ck_assert_int_eq(clock_ns(), 1234000000);
    ck_assert_int_eq(clock_wall_ms(), 5678);
    clock_set_real();
    int64_t a = clock_ns(), b = clock_ns();
    ck_assert(a > 1234000000 && b >= a);
    ck_assert(clock_wall_ms() > 1600000000000);
}
END_TEST

START_TEST(a_threads_time_is_what_it_computes)
{
    int64_t from = clock_thread_ms();
    while (clock_thread_ms() == from)
        ;
    ck_assert_int_gt(clock_thread_ms(), from);
}
END_TEST

static void *end_with(void *sem)
{
    sem_wait(sem);
    return NULL;
}

/* As long as was said, by the clock that is never set nor faked. */
START_TEST(waits_end_in_their_time)
{
    pthread_t thread;
    sem_t sem;
    sem_init(&sem, 0, 0);
    int64_t from_ns = clock_ns();
    clock_set_fake(5, 6);
    const struct timespec until = clock_after(1999), past = clock_after(-7);
    clock_set_real();
    int64_t ns = (int64_t)until.tv_sec * 1000000000 + until.tv_nsec, now_ns = clock_ns();
    ck_assert(until.tv_nsec >= 0 && until.tv_nsec < 1000000000);
    ck_assert(ns >= from_ns + 1999000000 && ns <= now_ns + 1999000000);
    ck_assert_int_eq(sem_clockwait(&sem, CLOCK_MONOTONIC, &past), -1);
    ck_assert_int_eq(errno, ETIMEDOUT);
    ck_assert_int_eq(pthread_create(&thread, NULL, end_with, &sem), 0);
    from_ns = clock_ns();
    ck_assert_int_eq(clock_join(thread, 20), ETIMEDOUT);
    ck_assert(clock_ns() - from_ns >= 20000000);
    sem_post(&sem);
    ck_assert_int_eq(clock_join(thread, 20000), 0);
    sem_destroy(&sem);
}
END_TEST

UNIT_MAIN("clock", waits_end_in_their_time, a_threads_time_is_what_it_computes,
    format_equals_the_c_library, what_kubernetes_prints_is_read, malformed_times_are_refused,
    fake_clocks_stand_still)
