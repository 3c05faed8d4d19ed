/*
 * Goal: what two pieces share, what follows what, and whether many are the whole are answered as by
 * looking at each element. Method: tables; random pieces and cuts of small matrices beside a count
 * of each element, with printed seed; numbers at the edge of 2^53.
 */
#include "runtime/ckpt/piece.h"

#include "tests/runtime/ckpt/cuts.h"
#include "tests/unit.h"

#include "base/number.h"

#include <time.h>

#define SIDE 12 /* of the matrices, at most */

static uint64_t new_seed(void)
{
    uint64_t seed = (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    return seed;
}

/* The element of the tensor that stands at `i` of a piece. */
static int64_t element(const struct ckpt_piece *p, int64_t i)
{
    return (p->row + i / p->width) * p->columns + p->column + i % p->width;
}

START_TEST(what_lies_outside_does_not_fit)
{
    static const struct ckpt_piece good[] = {{1, 1, 0, 0, 1, 1}, {3, 4, 2, 3, 1, 1},
        {3, 4, 0, 0, 3, 4}, {3, 4, 3, 4, 0, 0}, {1, NUMBER_EXACT, 0, NUMBER_EXACT - 1, 1, 1},
        {NUMBER_EXACT / 4, 4, 7, 1, NUMBER_EXACT / 4 - 7, 2}};
    static const struct ckpt_piece bad[] = {{0, 4, 0, 0, 1, 1}, {3, 0, 0, 0, 1, 1},
        {3, 4, -1, 0, 1, 1}, {3, 4, 0, -1, 1, 1}, {3, 4, 0, 0, -1, 1}, {3, 4, 0, 0, 1, -1},
        {3, 4, 2, 0, 2, 1}, {3, 4, 0, 3, 1, 2}, {3, 4, 4, 0, 0, 1},
        {INT64_C(1) << 32, INT64_C(1) << 32, 0, 0, 1, 1}, {2, NUMBER_EXACT, 0, 0, 1, 1},
        {INT64_MAX, INT64_MAX, 0, 0, INT64_MAX, INT64_MAX}, {3, 4, INT64_MAX, 0, 2, 1},
        {3, 4, 0, INT64_MAX, 1, 2}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert_msg(ckpt_piece_fits(&good[i]), "good %zu", i);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!ckpt_piece_fits(&bad[i]), "bad %zu", i);
}
END_TEST

START_TEST(what_follows_joins)
{
    static const struct {
        struct ckpt_piece a, b;
        int64_t height, width; /* of both; 0: they stay apart */
    } rows[] = {
        {{1, 20, 0, 2, 1, 3}, {1, 20, 0, 5, 1, 4}, 1, 7},
        {{1, 20, 0, 2, 1, 3}, {1, 20, 0, 6, 1, 4}, 0, 0},
        {{1, 20, 0, 2, 1, 3}, {1, 21, 0, 5, 1, 4}, 0, 0},
        {{4, 5, 0, 1, 2, 3}, {4, 5, 2, 1, 1, 3}, 3, 3},
        {{4, 5, 0, 1, 2, 3}, {4, 5, 1, 1, 1, 3}, 0, 0},
        {{4, 5, 0, 1, 2, 3}, {4, 5, 2, 2, 1, 3}, 0, 0},
        {{4, 5, 0, 1, 2, 3}, {4, 5, 2, 1, 1, 2}, 0, 0},
        {{4, 5, 0, 0, 1, 3}, {4, 5, 0, 3, 1, 2}, 0, 0}, /* beside it: not how they stand */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct ckpt_piece p = rows[i].a;
        bool joined = ckpt_piece_join(&p, &rows[i].b);
        ck_assert_msg(joined == (rows[i].height > 0), "row %zu", i);
        ck_assert_int_eq(p.height, joined ? rows[i].height : rows[i].a.height);
        ck_assert_int_eq(p.width, joined ? rows[i].width : rows[i].a.width);
    }
    const struct ckpt_piece whole = {4, 5, 1, 0, 2, 5}, simplest = ckpt_piece_simplest(&whole);
    ck_assert(simplest.rows == 1 && simplest.columns == 20 && simplest.column == 5);
    ck_assert(simplest.height == 1 && simplest.width == 10);
}
END_TEST

struct walk {
    const struct ckpt_piece *from, *to;
    int64_t last; /* end of the run before, in to */
    int64_t count;
};

static int follow_run(void *user, int64_t from, int64_t to, int64_t count, struct err *e)
{
    struct walk *w = user;
    (void)e;
    ck_assert_int_ge(to, w->last);
    ck_assert_int_gt(count, 0);
    for (int64_t i = 0; i < count; i++)
        ck_assert_int_eq(element(w->from, from + i), element(w->to, to + i));
    w->last = to + count;
    w->count += count;
    return 0;
}

START_TEST(pieces_meet_where_they_share_elements)
{
    uint64_t state = new_seed();
    for (int round = 0; round < 4000; round++) {
        int64_t rows = 1 + cuts_below(SIDE, &state), columns = 1 + cuts_below(SIDE, &state);
        const struct ckpt_piece a = cuts_any(rows, columns, &state);
        const struct ckpt_piece b = cuts_any(rows, columns, &state);
        struct walk w = {&a, &b, 0, 0};
        struct err e = {0};
        int64_t shared = 0;
        for (int64_t i = 0; i < ckpt_piece_count(&a); i++)
            for (int64_t k = 0; k < ckpt_piece_count(&b); k++)
                shared += element(&a, i) == element(&b, k);
        ck_assert_int_eq(ckpt_piece_meet(&a, &b, follow_run, &w, &e), 0);
        ck_assert_msg(w.count == shared, "round %d: %lld elements, not %lld", round,
            (long long)w.count, (long long)shared);
    }
}
END_TEST

/* -- tiling -- */

/* How often the pieces have the element that they have least, and most, often. */
static void count_elements(const struct cuts *c, int64_t total, int *least, int *most)
{
    int counts[SIDE * SIDE] = {0};
    for (int i = 0; i < c->count; i++)
        for (int64_t k = 0; k < ckpt_piece_count(&c->at[i]); k++)
            counts[element(&c->at[i], k)]++;
    *least = *most = counts[0];
    for (int64_t i = 1; i < total; i++) {
        *least = counts[i] < *least ? counts[i] : *least;
        *most = counts[i] > *most ? counts[i] : *most;
    }
}

static void check_tiling(const struct cuts *c, int64_t total, int round)
{
    struct err e = {0};
    int least, most, rc = ckpt_piece_tile(c->at, c->count, &e);
    count_elements(c, total, &least, &most);
    if (least == 1 && most == 1) {
        ck_assert_msg(rc == 0, "round %d: %s", round, e.text);
        return;
    }
    ck_assert_msg(
        rc == -ERR_CORRUPT, "round %d: %d to %d times, taken as whole", round, least, most);
    /* which of the two it says first depends on the place */
    ck_assert_msg(!strstr(e.text, "a gap") || least == 0, "round %d: %s", round, e.text);
    ck_assert_msg(!strstr(e.text, "two pieces") || most > 1, "round %d: %s", round, e.text);
}

START_TEST(a_tiling_is_told_from_holes_and_doubles)
{
    uint64_t state = new_seed();
    struct cuts c;
    for (int round = 0; round < 20000; round++) {
        int64_t rows = 1 + cuts_below(SIDE, &state), columns = 1 + cuts_below(SIDE, &state);
        cuts_draw(&c, rows, columns, &state);
        check_tiling(&c, rows * columns, round);
        int64_t i = cuts_below(c.count, &state);
        switch (cuts_below(3, &state)) {
        case 0: /* a hole */
            if (c.count == 1)
                continue;
            c.at[i] = c.at[--c.count];
            break;
        case 1: /* something twice */
            c.at[c.count++] = cuts_any(rows, columns, &state);
            break;
        default: /* either, or both */
            c.at[i] = cuts_any(rows, columns, &state);
            break;
        }
        check_tiling(&c, rows * columns, round);
    }
}
END_TEST

START_TEST(the_place_is_named)
{
    static const struct {
        struct ckpt_piece parts[3];
        int count;
        const char *said;
    } rows[] = {
        {{{1, 10, 0, 0, 1, 4}, {1, 10, 0, 6, 1, 4}}, 2, "a gap at 4"},
        {{{1, 10, 0, 0, 1, 9}}, 1, "a gap at 9"},
        {{{1, 10, 0, 1, 1, 9}}, 1, "a gap at 0"},
        {{{1, 10, 0, 0, 1, 6}, {1, 10, 0, 5, 1, 5}}, 2, "two pieces at 5"},
        {{{4, 5, 0, 0, 4, 2}, {4, 5, 0, 2, 3, 3}}, 2, "a gap at row 3, column 2"},
        {{{4, 5, 1, 0, 3, 2}, {4, 5, 0, 2, 4, 3}}, 2, "a gap at row 0, column 0"},
        {{{4, 5, 0, 0, 4, 3}, {4, 5, 2, 2, 2, 3}, {4, 5, 0, 3, 2, 2}}, 3,
            "two pieces at row 2, column 2"},
        {{{4, 5, 0, 0, 2, 3}, {4, 5, 0, 3, 2, 2}, {1, 20, 0, 11, 1, 9}}, 3,
            "a gap at row 2, column 0"},
        {{{INT64_C(1) << 26, 1 << 26, 0, 0, INT64_C(1) << 26, 1}}, 1, "a gap at row 0, column 1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err e = {0};
        ck_assert_int_eq(ckpt_piece_tile(rows[i].parts, rows[i].count, &e), -ERR_CORRUPT);
        ck_assert_str_eq(e.text, rows[i].said);
    }
}
END_TEST

UNIT_MAIN("ckpt_piece", what_lies_outside_does_not_fit, what_follows_joins,
    pieces_meet_where_they_share_elements, a_tiling_is_told_from_holes_and_doubles,
    the_place_is_named)
