/*
 * Goal: rankings are joined as the paper has it. Method: two short rankings whose sums were
 * computed by hand.
 */
#include "runtime/retrieval/fuse.h"

#include "tests/unit.h"

#include <math.h>

/* 7: 1/61 + 1/62; 5: 1/62; 9: 1/61; 3: 1/63. */
START_TEST(ranks_count_and_scores_do_not)
{
    const int64_t words[] = {7, 5, 3}, vectors[] = {9, 7};
    const struct fuse_ranking r[] = {{words, 3, 1}, {vectors, 2, 1}};
    struct fuse_hit out[5];
    ck_assert_int_eq(fuse_rankings(r, 2, out), 4);
    ck_assert(out[0].id == 7 && fabs(out[0].score - (1.0 / 61 + 1.0 / 62)) < 1e-12);
    ck_assert(out[1].id == 9 && fabs(out[1].score - 1.0 / 61) < 1e-12);
    ck_assert(out[2].id == 5 && out[3].id == 3);
}
END_TEST

START_TEST(weights_weigh_and_equals_go_by_id)
{
    const int64_t words[] = {8, 5}, vectors[] = {2, 5};
    struct fuse_ranking r[] = {{words, 2, 1}, {vectors, 2, 1}};
    struct fuse_hit out[4];
    ck_assert_int_eq(fuse_rankings(r, 2, out), 3);
    ck_assert(out[0].id == 5 && out[1].id == 2 && out[2].id == 8);
    r[0].weight = 3;
    ck_assert_int_eq(fuse_rankings(r, 2, out), 3);
    ck_assert(out[0].id == 5 && out[1].id == 8 && out[2].id == 2);
    r[1].weight = 0; /* as if it were not there */
    ck_assert_int_eq(fuse_rankings(r, 2, out), 2);
    ck_assert(out[0].id == 8 && out[1].id == 5);
    ck_assert_int_eq(fuse_rankings(r, 0, out), 0);
}
END_TEST

UNIT_MAIN("fuse", ranks_count_and_scores_do_not, weights_weigh_and_equals_go_by_id)
