/*
 * Goal: a sequence whose guesses fail has fewer and rests ever longer, one whose guesses come true
 * has more; a step of few rows stays one. Method: what came true is told, and what follows is
 * compared.
 */
#include "runtime/serve/guess.h"

#include "tests/unit.h"

static int rest_of(struct guess *g)
{
    int n = 0;
    while (!guess_length(g))
        n++;
    return n;
}

START_TEST(those_that_fail_rest)
{
    struct guess g;
    guess_init(&g, 8);
    ck_assert_int_eq(guess_length(&g), 8);
    static const int rests[] = {1, 3, 7, 15, 31, 63, 63, 63};
    for (int i = 0; i < 8; i++) {
        guess_note(&g, i ? 1 : 8, 0);
        ck_assert_int_eq(rest_of(&g), rests[i]);
        ck_assert_int_eq(guess_length(&g), 1);
    }
    guess_note(&g, 1, 1); /* one that comes true ends it */
    ck_assert_int_eq(rest_of(&g), 0);
    guess_note(&g, 2, 0);
    ck_assert_int_eq(rest_of(&g), 1);
}
END_TEST

START_TEST(those_that_come_true_are_more)
{
    struct guess g;
    guess_init(&g, 6);
    guess_note(&g, 6, 1);
    ck_assert_int_eq(guess_length(&g), 2);
    guess_note(&g, 2, 2);
    ck_assert_int_eq(guess_length(&g), 4);
    guess_note(&g, 4, 4);
    ck_assert_int_eq(guess_length(&g), 6);
    guess_note(&g, 6, 5);
    ck_assert_int_eq(guess_length(&g), 6);
    guess_note(&g, 6, 3);
    ck_assert_int_eq(guess_length(&g), 4);
}
END_TEST

START_TEST(a_step_of_few_rows_stays_one)
{
    ck_assert_int_eq(guess_room(1, 4, 32), 3);
    ck_assert_int_eq(guess_room(4, 4, 32), 0);
    ck_assert_int_eq(guess_room(5, 4, 32), 32);
    ck_assert_int_eq(guess_room(1, 0, 32), 32);
    ck_assert_int_eq(guess_room(1, 8, 2), 2);
}
END_TEST

UNIT_MAIN(
    "guess", those_that_fail_rest, those_that_come_true_are_more, a_step_of_few_rows_stays_one)
