/*
 * Goal: requests come out in the order they went in, none is lost, the bound holds, and a cancel
 * finds its request wherever it is; what waits is the text that was sent, and no more. Method: one
 * thread pushes and cancels, the other takes; texts prove that ownership is kept (ASAN builds).
 * needs: threads
 */
#include "runtime/serve/inbox.h"

#include "base/clock.h"
#include "base/mem.h"
#include "tests/unit.h"

#include <pthread.h>
#include <unistd.h>

#define MANY 2000

static struct err e;

static int push(struct inbox *s, uint64_t id)
{
    return inbox_push(s, id, "{\"id\":1}", 8, &e);
}

START_TEST(first_in_first_out)
{
    struct inbox *s;
    struct inbox_request *q;

    ck_assert(!inbox_create(3, &s, &e));
    for (uint64_t id = 1; id <= 3; id++)
        ck_assert(!push(s, id));
    ck_assert_int_eq(push(s, 4), -ERR_RETRY);
    for (uint64_t id = 1; id <= 3; id++) {
        q = inbox_take(s, 0);
        ck_assert_uint_eq(q->id, id);
        ck_assert_str_eq(q->text, "{\"id\":1}");
        ck_assert_uint_eq(q->len, 8);
        inbox_finish(s, q);
    }
    ck_assert_ptr_null(inbox_take(s, 10));
    ck_assert(!push(s, 5)); /* left inside: destroy frees it */
    inbox_destroy(s);
    inbox_destroy(NULL);
}
END_TEST

START_TEST(cancel_finds_waiting_and_running)
{
    struct inbox *s;
    struct inbox_request *first, *second, *third;

    ck_assert(!inbox_create(3, &s, &e));
    ck_assert(!push(s, 1) && !push(s, 2) && !push(s, 3));
    inbox_cancel(s, 2);
    inbox_cancel(s, 99);
    first = inbox_take(s, 0);
    second = inbox_take(s, 0);
    third = inbox_take(s, 0);
    ck_assert(!first->cancelled && second->cancelled && !third->cancelled);
    ck_assert_uint_eq(second->id, 2);
    inbox_finish(s, second);
    inbox_cancel(s, 1); /* the first of three that were taken */
    inbox_cancel(s, 2); /* has just ended */
    ck_assert(first->cancelled && !third->cancelled);
    inbox_finish(s, first);
    inbox_destroy(s); /* one is still with its taker */
}
END_TEST

static void *push_many(void *arg)
{
    for (uint64_t id = 1; id <= MANY; id++)
        while (inbox_push(arg, id, "{}", 2, NULL))
            ;
    return NULL;
}

START_TEST(two_threads)
{
    struct inbox *s;
    pthread_t thread;

    ck_assert(!inbox_create(8, &s, &e));
    ck_assert_int_eq(pthread_create(&thread, NULL, push_many, s), 0);
    for (uint64_t id = 1; id <= MANY; id++) {
        struct inbox_request *q = inbox_take(s, 10000);

        ck_assert_ptr_nonnull(q);
        ck_assert_uint_eq(q->id, id);
        inbox_finish(s, q);
    }
    pthread_join(thread, NULL);
    inbox_destroy(s);
}
END_TEST

static void *wake(void *arg)
{
    inbox_wake(arg);
    return NULL;
}

START_TEST(wake_ends_the_wait)
{
    struct inbox *s;
    pthread_t thread;
    int64_t start = clock_ms();

    ck_assert(!inbox_create(1, &s, &e));
    ck_assert_int_eq(pthread_create(&thread, NULL, wake, s), 0);
    ck_assert_ptr_null(inbox_take(s, 20000));
    ck_assert_int_lt(clock_ms() - start, 10000);
    pthread_join(thread, NULL);
    inbox_destroy(s);
}
END_TEST

static void *list(void *user)
{
    usleep(50000);
    ck_assert(!inbox_list(user, "{\"list\":1}", 10, &e));
    ck_assert(!inbox_list(user, "{\"list\":2}", 10, &e));
    return NULL;
}

/* It ends the wait, the newest takes the place of one before, and what is left inside is freed. */
START_TEST(a_list_waits_to_be_taken)
{
    struct inbox *s;
    pthread_t thread;
    ck_assert(!inbox_create(1, &s, &e));
    ck_assert_ptr_null(inbox_take_list(s));
    ck_assert_int_eq(pthread_create(&thread, NULL, list, s), 0);
    int64_t start = clock_ms();
    ck_assert_ptr_null(inbox_take(s, 20000));
    ck_assert_int_lt(clock_ms() - start, 10000);
    pthread_join(thread, NULL);
    char *text = inbox_take_list(s);
    ck_assert_str_eq(text, "{\"list\":2}");
    mem_free(text);
    ck_assert_ptr_null(inbox_take_list(s));
    ck_assert(!inbox_list(s, "{}", 2, &e));
    inbox_destroy(s);
}
END_TEST

UNIT_MAIN("inbox", first_in_first_out, cancel_finds_waiting_and_running, two_threads,
    wake_ends_the_wait, a_list_waits_to_be_taken)
