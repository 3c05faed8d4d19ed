/*
 * Goal: every rank has one place and every place one rank. Method: all layouts of worlds up to 24,
 * and sizes that do not fit.
 */
#include "runtime/coll/layout.h"

#include "tests/unit.h"

static int check_one(const struct layout *l, int world)
{
    struct err e = {0};

    if (layout_check(l, world, &e)) {
        ck_assert_int_eq(e.code, ERR_USER);
        return 0;
    }
    for (int rank = 0; rank < world; rank++) {
        struct place p = layout_place(l, rank);

        ck_assert(p.dp >= 0 && p.dp < l->dp && p.tp >= 0 && p.tp < l->tp && p.pp >= 0 &&
            p.pp < l->pp && p.cp >= 0 && p.cp < l->cp && p.ep >= 0 && p.ep < l->ep);
        ck_assert_int_eq(layout_rank(l, &p), rank);
    }
    return 1;
}

START_TEST(place_and_rank_are_inverse)
{
    int fitting = 0;

    for (int world = 1; world <= 24; world++)
        for (int code = 0; code < 4 * 4 * 4 * 4; code++)
            for (int dp = 1; dp <= world; dp++) {
                struct layout l = {
                    dp, 1 + code % 4, 1 + code / 4 % 4, 1 + code / 16 % 4, 1 + code / 64};

                fitting += check_one(&l, world);
            }
    ck_assert_int_gt(fitting, 300);
}
END_TEST

START_TEST(tensor_ranks_are_neighbours)
{
    struct layout l = {.dp = 2, .tp = 2, .pp = 2, .cp = 1, .ep = 1};

    ck_assert_int_eq(layout_rank(&l, &(struct place){.tp = 1}), 1);
    ck_assert_int_eq(layout_rank(&l, &(struct place){.dp = 1}), 2);
    ck_assert_int_eq(layout_rank(&l, &(struct place){.pp = 1}), 4);
}
END_TEST

START_TEST(sizes_are_checked)
{
    struct err e = {0};

    ck_assert_int_eq(layout_check(&(struct layout){0, 1, 1, 1, 1}, 1, &e), -ERR_USER);
    ck_assert_int_eq(layout_check(&(struct layout){-2, -1, 1, 1, 1}, 2, &e), -ERR_USER);
    ck_assert_int_eq(layout_check(&(struct layout){2, 2, 1, 1, 1}, 2, &e), -ERR_USER);
    ck_assert_int_eq(layout_check(&(struct layout){65536, 65536, 1, 1, 1}, 65536, &e), -ERR_USER);
    ck_assert_int_eq(layout_check(&(struct layout){2, 1, 1, 1, 1}, 2, &e), 0);
}
END_TEST

UNIT_MAIN("layout", place_and_rank_are_inverse, tensor_ranks_are_neighbours, sizes_are_checked)
