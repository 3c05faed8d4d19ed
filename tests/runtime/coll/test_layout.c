/*
 * Goal: every rank has one place and every place one rank, and a group is the ranks that differ in
 * one axis only. Method: all layouts of worlds up to 24,
 * and sizes that do not fit.
 */
#include "runtime/coll/layout.h"

#include "tests/unit.h"

static int *coordinate(struct place *p, enum layout_axis axis)
{
    int *const of[LAYOUT_AXES] = {&p->tp, &p->ep, &p->cp, &p->dp, &p->pp};
    return of[axis];
}

/* Its members are the rank's place with each value of the one coordinate, in order. */
static void check_group(const struct layout *l, int rank, enum layout_axis axis)
{
    struct place p = layout_place(l, rank);
    struct layout_group g = layout_group(l, rank, axis);
    struct place sizes = {l->dp, l->tp, l->pp, l->cp, l->ep};
    ck_assert_int_eq(g.size, *coordinate(&sizes, axis));
    ck_assert_int_eq(g.index, *coordinate(&p, axis));
    for (int i = 0; i < g.size; i++) {
        *coordinate(&p, axis) = i;
        ck_assert_int_eq(layout_rank(l, &p), g.first + i * g.stride);
    }
}

/* Those with the same weights, in order: contexts beside one another, data apart. */
static void check_replicas(const struct layout *l, int rank)
{
    struct place p = layout_place(l, rank);
    struct layout_group g = layout_replicas(l, rank);
    ck_assert_int_eq(g.size, l->dp * l->cp);
    ck_assert_int_eq(g.index, p.dp * l->cp + p.cp);
    for (int i = 0; i < g.size; i++) {
        p.dp = i / l->cp;
        p.cp = i % l->cp;
        ck_assert_int_eq(layout_rank(l, &p), g.first + i * g.stride);
    }
}

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
        for (int axis = 0; axis < LAYOUT_AXES; axis++)
            check_group(l, rank, (enum layout_axis)axis);
        check_replicas(l, rank);
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

START_TEST(axes_in_use_are_told)
{
    char text[LAYOUT_TEXT_BYTES];
    layout_text(&(struct layout){1, 1, 1, 1, 1}, text);
    ck_assert_str_eq(text, "dp1");
    layout_text(&(struct layout){2, 4, 1, 8, 1}, text);
    ck_assert_str_eq(text, "dp2 x tp4 x cp8");
    layout_text(&(struct layout){65536, 65536, 65536, 65536, 65536}, text);
    ck_assert_str_eq(text, "dp65536 x tp65536 x pp65536 x cp65536 x ep65536");
}
END_TEST

UNIT_MAIN("layout", place_and_rank_are_inverse, tensor_ranks_are_neighbours, sizes_are_checked,
    axes_in_use_are_told)
