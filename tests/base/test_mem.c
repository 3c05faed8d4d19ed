/*
 * Goal: no overflow reaches the allocator, arenas keep their limit and alignment, and the fault
 * counter fails exactly the call it was told to, from any thread. Method: extremes, a random arena
 * workload compared byte by byte with its own record, and the counter counted.
 * needs: faults threads
 */
#include "base/mem.h"

#include "tests/unit.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

START_TEST(sizes_that_overflow_are_refused)
{
    ck_assert_ptr_null(mem_array(SIZE_MAX / 2, 3));
    void *p = mem_alloc(8);
    ck_assert_ptr_null(mem_grow(p, SIZE_MAX / 8 + 1, 8));
    mem_free(p); /* still ours */
    ck_assert_ptr_null(mem_aligned(64, SIZE_MAX - 64));
}
END_TEST

START_TEST(nothing_is_a_valid_size)
{
    void *all[] = {mem_alloc(0), mem_zalloc(0), mem_array(0, 8), mem_array(8, 0), mem_aligned(1, 0),
        mem_grow(NULL, 0, 0)};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        ck_assert_ptr_nonnull(all[i]);
        mem_free(all[i]);
    }
    mem_free(NULL);
}
END_TEST

START_TEST(zeroed_aligned_and_copied)
{
    unsigned char *z = mem_zalloc(1000);
    for (int i = 0; i < 1000; i++)
        ck_assert_uint_eq(z[i], 0);
    mem_free(z);
    for (size_t align = 1; align <= 4096; align *= 2) {
        void *p = mem_aligned(align, 100);
        ck_assert_uint_eq((uintptr_t)p % align, 0);
        mem_free(p);
    }
    mem_autofree char *a = mem_strndup("hello", 3);
    mem_autofree char *b = mem_strndup("hi", 100);
    mem_autofree char *c = mem_strdup("");
    ck_assert_str_eq(a, "hel");
    ck_assert_str_eq(b, "hi");
    ck_assert_str_eq(c, "");
}
END_TEST

START_TEST(arena_keeps_its_limit)
{
    struct arena *a = arena_create(1000);
    ck_assert_ptr_nonnull(arena_alloc(a, 900));
    ck_assert_ptr_null(arena_alloc(a, 100));
    ck_assert_ptr_nonnull(arena_alloc(a, 80));
    ck_assert_uint_eq(arena_used(a), 912 + 80);
    ck_assert_ptr_null(arena_alloc(a, SIZE_MAX));
    ck_assert_ptr_null(arena_alloc(a, SIZE_MAX - 14));
    ck_assert_ptr_null(arena_array(a, SIZE_MAX / 2, 3));
    ck_assert_ptr_null(arena_printf(a, "%0100d", 1));
    ck_assert_ptr_null(arena_strdup(a, "more than the eight bytes left"));
    arena_reset(a);
    ck_assert_uint_eq(arena_used(a), 0);
    ck_assert_str_eq(arena_printf(a, "%d-%s", 5, "x"), "5-x");
    ck_assert_ptr_nonnull(arena_array(a, 10, 8));
    ck_assert_uint_eq(arena_used(a), 96);
    arena_destroy(a);
    arena_destroy(NULL);
}
END_TEST

static bool all_are(const unsigned char *p, size_t n, int value)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != value)
            return false;
    return true;
}

START_TEST(arena_pieces_do_not_overlap)
{
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    struct arena *a = arena_create(64 << 20);
    static struct {
        unsigned char *p;
        size_t size;
    } piece[2000];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2000; i++) {
            size_t size = (size_t)rand_r(&seed) % (i % 100 ? 200 : 20000);
            unsigned char *p = arena_alloc(a, size);
            ck_assert_ptr_nonnull(p);
            ck_assert_uint_eq((uintptr_t)p % 16, 0);
            ck_assert(all_are(p, size, 0));
            memset(p, i & 255, size);
            piece[i].p = p;
            piece[i].size = size;
        }
        for (int i = 0; i < 2000; i++)
            ck_assert(all_are(piece[i].p, piece[i].size, i & 255));
        arena_reset(a);
    }
    arena_destroy(a);
}
END_TEST

static int use_arena(void *user)
{
    (void)user;
    struct arena *a = arena_create(1 << 20);
    int rc =
        a && arena_alloc(a, 100) && arena_alloc(a, 5000) && arena_strdup(a, "x") ? 0 : -ERR_MEMORY;
    arena_destroy(a);
    return rc;
}

START_TEST(arena_survives_failed_allocation)
{
    fault_each(FAULT_MEM, use_arena, NULL);
}
END_TEST

static void *allocate(void *failures)
{
    for (int i = 0; i < 1000; i++) {
        void *p = mem_alloc(16);
        if (!p)
            __atomic_fetch_add((int *)failures, 1, __ATOMIC_RELAXED);
        mem_free(p);
    }
    return NULL;
}

START_TEST(exactly_one_call_fails)
{
    pthread_t thread[4];
    int failures = 0;
    fault_arm(&mem_faults, 1234);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, allocate, &failures), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    uint64_t calls = fault_calls(&mem_faults);
    fault_arm(&mem_faults, 0);
#ifdef LLMJOB_FAULT
    ck_assert_int_eq(failures, 1);
    ck_assert_uint_eq(calls, 4000);
#else
    ck_assert_int_eq(failures, 0);
    ck_assert_uint_eq(calls, 0);
#endif
}
END_TEST

UNIT_MAIN("mem", sizes_that_overflow_are_refused, nothing_is_a_valid_size,
    zeroed_aligned_and_copied, arena_keeps_its_limit, arena_pieces_do_not_overlap,
    arena_survives_failed_allocation, exactly_one_call_fails)
