/*
 * Goal: the greatest of a row are found, in order, of equals the lower place. Method: random rows
 * with many equals, against sorting all of them; the seed is printed on failure.
 */
#include "runtime/serve/top.h"

#include "base/random.h"
#include "tests/unit.h"

#include <stdlib.h>

#define N 300

static float row[N];

static int compare(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return row[x] != row[y] ? (row[x] < row[y]) - (row[x] > row[y]) : x - y;
}

START_TEST(as_sorting_has_it)
{
    for (uint64_t seed = 1; seed <= 300; seed++) {
        uint64_t random = seed;
        int64_t n = 1 + (int64_t)(random_next(&random) % N);
        int64_t k = 1 + (int64_t)(random_next(&random) % (uint64_t)n);
        int32_t got[N], want[N];
        for (int32_t i = 0; i < n; i++) {
            row[i] = (float)(random_next(&random) % (seed % 2 ? 20 : 100000)) - 10;
            want[i] = i;
        }
        qsort(want, (size_t)n, sizeof *want, compare);
        top_of(row, n, k, got);
        ck_assert_msg(!memcmp(got, want, (size_t)k * sizeof *got), "seed %llu: %lld of %lld",
            (unsigned long long)seed, (long long)k, (long long)n);
    }
}
END_TEST

UNIT_MAIN("top", as_sorting_has_it)
