/*
 * Goal: every document is in one sample, whole, samples are not fuller than they can be, and little
 * is padding. Method: small cases by hand; random sizes, whose sums and order are checked.
 * needs: faults
 */
#include "runtime/data/packing.h"

#include "base/mem.h"
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static struct err e;

START_TEST(documents_go_where_there_is_room)
{
    static const int32_t sizes[] = {6, 5, 3, -1, 4, 10, 1};
    static const int64_t rows[] = {0, 2, 6, 1, 4, 5}, begin[] = {0, 3, 5, 6};
    struct packing p;
    ck_assert(!packing_create(sizes, 7, 10, &p, &e));
    ck_assert_int_eq(p.samples, 3);
    ck_assert_mem_eq(p.rows, rows, sizeof rows);
    ck_assert_mem_eq(p.begin, begin, sizeof begin);
    packing_done(&p);
    ck_assert(!packing_create(sizes, 0, 10, &p, &e) && p.samples == 0 && p.begin[0] == 0);
    packing_done(&p);
}
END_TEST

START_TEST(each_is_in_one_sample_and_little_is_padding)
{
    unsigned int seed = (unsigned int)time(NULL);
    printf("seed %u\n", seed);
    for (int round = 0; round < 50; round++) {
        enum { ROOM = 512 };
        int64_t count = 1 + rand_r(&seed) % 5000, tokens = 0, seen = 0;
        mem_autofree int32_t *sizes = mem_array((size_t)count, sizeof *sizes);
        for (int64_t i = 0; i < count; i++) {
            sizes[i] = rand_r(&seed) % 10 ? 1 + rand_r(&seed) % (ROOM / 2) : -1;
            tokens += sizes[i] > 0 ? sizes[i] : 0;
        }
        struct packing p;
        ck_assert(!packing_create(sizes, count, ROOM, &p, &e));
        mem_autofree char *taken = mem_zalloc((size_t)count);
        for (int64_t s = 0; s < p.samples; s++) {
            int64_t sum = 0;
            ck_assert_int_lt(p.begin[s], p.begin[s + 1]);
            for (int64_t i = p.begin[s]; i < p.begin[s + 1]; i++) {
                ck_assert(i == p.begin[s] || p.rows[i] > p.rows[i - 1]);
                ck_assert(!taken[p.rows[i]]++ && sizes[p.rows[i]] > 0);
                sum += sizes[p.rows[i]];
            }
            ck_assert_int_le(sum, ROOM);
            seen += p.begin[s + 1] - p.begin[s];
        }
        for (int64_t i = 0; i < count; i++)
            ck_assert_int_eq(taken[i], sizes[i] > 0);
        ck_assert_int_eq(seen, p.begin[p.samples]);
        if (count > 2000)
            ck_assert_double_gt((double)tokens / (double)(p.samples * ROOM), 0.9);
        packing_done(&p);
    }
}
END_TEST

static int pack(void *user)
{
    static const int32_t sizes[] = {3, 2};
    struct packing p;
    struct err why = {0};
    (void)user;
    int rc = packing_create(sizes, 2, 4, &p, &why);
    if (!rc)
        packing_done(&p);
    return rc;
}

START_TEST(failed_allocations_are_reported)
{
    fault_each(FAULT_MEM, pack, NULL);
}
END_TEST

UNIT_MAIN("packing", documents_go_where_there_is_room, each_is_in_one_sample_and_little_is_padding,
    failed_allocations_are_reported)
