/*
 * Goal: requests come out in the order they went in, none is lost, the bound holds, and a cancel
 * finds its request wherever it is; what waits is the text that was sent, and no more. Method: one
 * thread pushes and cancels, the other takes; texts prove that ownership is kept (ASAN builds).
 * needs: threads
 */
#include "runtime/serve/sched.h"

#include "base/clock.h"
#include "tests/unit.h"

#include <pthread.h>

#define MANY 2000

static struct err e;

static int push(struct sched *s, uint64_t id)
{
    return sched_push(s, id, "{\"id\":1}", 8, &e);
}

START_TEST(first_in_first_out)
{
    struct sched *s;
    struct sched_request *q;

    ck_assert(!sched_create(3, &s, &e));
    for (uint64_t id = 1; id <= 3; id++)
        ck_assert(!push(s, id));
    ck_assert_int_eq(push(s, 4), -ERR_RETRY);
    for (uint64_t id = 1; id <= 3; id++) {
        q = sched_take(s, 0);
        ck_assert_uint_eq(q->id, id);
        ck_assert_str_eq(q->text, "{\"id\":1}");
        ck_assert_uint_eq(q->len, 8);
        sched_finish(s, q);
    }
    ck_assert_ptr_null(sched_take(s, 10));
    ck_assert(!push(s, 5)); /* left inside: destroy frees it */
    sched_destroy(s);
    sched_destroy(NULL);
}
END_TEST

START_TEST(cancel_finds_waiting_and_running)
{
    struct sched *s;
    struct sched_request *q;

    ck_assert(!sched_create(3, &s, &e));
    ck_assert(!push(s, 1) && !push(s, 2));
    sched_cancel(s, 2);
    sched_cancel(s, 99);
    q = sched_take(s, 0);
    ck_assert(!q->cancelled);
    sched_cancel(s, 1);
    ck_assert(q->cancelled);
    sched_finish(s, q);
    q = sched_take(s, 0);
    ck_assert_uint_eq(q->id, 2);
    ck_assert(q->cancelled);
    sched_finish(s, q);
    sched_cancel(s, 2); /* has just ended */
    sched_destroy(s);
}
END_TEST

static void *push_many(void *arg)
{
    for (uint64_t id = 1; id <= MANY; id++)
        while (sched_push(arg, id, "{}", 2, NULL))
            ;
    return NULL;
}

START_TEST(two_threads)
{
    struct sched *s;
    pthread_t thread;

    ck_assert(!sched_create(8, &s, &e));
    ck_assert_int_eq(pthread_create(&thread, NULL, push_many, s), 0);
    for (uint64_t id = 1; id <= MANY; id++) {
        struct sched_request *q = sched_take(s, 10000);

        ck_assert_ptr_nonnull(q);
        ck_assert_uint_eq(q->id, id);
        sched_finish(s, q);
    }
    pthread_join(thread, NULL);
    sched_destroy(s);
}
END_TEST

static void *wake(void *arg)
{
    sched_wake(arg);
    return NULL;
}

START_TEST(wake_ends_the_wait)
{
    struct sched *s;
    pthread_t thread;
    int64_t start = clock_ms();

    ck_assert(!sched_create(1, &s, &e));
    ck_assert_int_eq(pthread_create(&thread, NULL, wake, s), 0);
    ck_assert_ptr_null(sched_take(s, 20000));
    ck_assert_int_lt(clock_ms() - start, 10000);
    pthread_join(thread, NULL);
    sched_destroy(s);
}
END_TEST

UNIT_MAIN(
    "sched", first_in_first_out, cancel_finds_waiting_and_running, two_threads, wake_ends_the_wait)
