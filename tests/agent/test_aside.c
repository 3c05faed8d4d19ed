/*
 * aside: goal: a thread that comes back in time is waited for, one that does not is left behind and
 * frees what it shares when it does come back; how long it is away is told. Method: threads that
 * wait at pipes, as at a disk, until the test writes. needs: threads
 */
#include "agent/aside.h"
#include "base/clock.h"
#include "base/mem.h"

#include <semaphore.h>
#include <unistd.h>

#include "tests/unit.h"

static struct err e;
static sem_t freed;

struct counter {
    struct aside aside;
    int disk[2];
    int asked, done;
};

static void counter_free(struct aside *a)
{
    struct counter *c = (struct counter *)a;
    io_close(c->disk[0]);
    io_close(c->disk[1]);
    mem_free(c);
    sem_post(&freed);
}

/* Each that was asked for is a byte of the disk. */
static void count(struct aside *a)
{
    struct counter *c = (struct counter *)a;
    char byte;
    while (c->done < c->asked || !a->ends) {
        if (c->done == c->asked) {
            aside_wait(a, -1);
            continue;
        }
        aside_work(a);
        ck_assert_int_eq(read(c->disk[0], &byte, 1), 1);
        aside_back(a);
        c->done++;
        aside_tell(a);
    }
}

static struct counter *begin(void)
{
    struct counter *c = mem_zalloc(sizeof *c);
    ck_assert_ptr_nonnull(c);
    sem_init(&freed, 0, 0);
    ck_assert_int_eq(pipe(c->disk), 0);
    ck_assert_int_eq(aside_start(&c->aside, "a test", count, counter_free, &e), 0);
    return c;
}

static void ask(struct counter *c, int n)
{
    aside_lock(&c->aside);
    c->asked += n;
    aside_tell(&c->aside);
    aside_unlock(&c->aside);
}

static void wait_freed(void)
{
    const struct timespec until = clock_after(20000);
    ck_assert_int_eq(sem_clockwait(&freed, CLOCK_MONOTONIC, &until), 0);
}

START_TEST(what_was_asked_is_done_before_the_end)
{
    struct counter *c = begin();
    ask(c, 3);
    ck_assert_int_eq(write(c->disk[1], "abc", 3), 3);
    aside_lock(&c->aside);
    for (int64_t until_ms = clock_ms() + 10000; c->done < 3 && clock_ms() < until_ms;)
        aside_wait(&c->aside, 1000); /* it tells */
    ck_assert_int_eq(c->done, 3);
    aside_unlock(&c->aside);
    ask(c, 1);
    ck_assert_int_eq(write(c->disk[1], "d", 1), 1);
    ck_assert(aside_end(&c->aside, 20000));
    wait_freed();
}
END_TEST

START_TEST(a_wait_has_an_end)
{
    struct counter *c = begin();
    int64_t began_ms = clock_ms();
    aside_lock(&c->aside);
    while (clock_ms() < began_ms + 20)
        aside_wait(&c->aside, 20);
    aside_unlock(&c->aside);
    ck_assert_int_eq(aside_late_ms(&c->aside), 0);
    ck_assert(aside_end(&c->aside, 20000));
}
END_TEST

START_TEST(one_that_is_stuck_is_left_behind)
{
    struct counter *c = begin();
    int disk = dup(c->disk[1]);
    ask(c, 1);
    aside_lock(&c->aside);
    bool there = false; /* it is at the disk */
    for (int64_t until_ms = clock_ms() + 10000; !there && clock_ms() < until_ms;) {
        there = c->aside.since_ms > 0;
        aside_unlock(&c->aside);
        aside_lock(&c->aside);
    }
    ck_assert(there);
    c->aside.since_ms -= ASIDE_LATE_MS; /* as if it were there for long */
    aside_unlock(&c->aside);
    ck_assert_int_ge(aside_late_ms(&c->aside), ASIDE_LATE_MS);
    ck_assert(!aside_end(&c->aside, 20));
    ck_assert_int_ne(sem_trywait(&freed), 0); /* it has what it needs still */
    ck_assert_int_eq(write(disk, "a", 1), 1);
    wait_freed();
    io_close(disk);
}
END_TEST

UNIT_MAIN("aside", what_was_asked_is_done_before_the_end, a_wait_has_an_end,
    one_that_is_stuck_is_left_behind)
