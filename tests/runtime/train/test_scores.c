/*
 * Goal: averages and rows of a report by hand. That both are seqeval's and scikit-learn's to the
 * last bit, in numpy's order of summing, is what test_entities and test_classes show.
 */
#include "runtime/train/scores.h"

#include "tests/unit.h"

static const struct score rows[] = {{1, 0.5, 0.75, 3}, {0.5, 0, 0, 1}, {0, 0.25, 0.375, 0}};

START_TEST(averages)
{
    double column[3];
    struct score macro = scores_average(rows, 3, false, column);
    struct score weighted = scores_average(rows, 3, true, column);
    ck_assert(macro.precision == 0.5 && macro.recall == 0.25 && macro.f1 == 0.375);
    ck_assert(weighted.precision == 0.875 && weighted.recall == 0.375);
    ck_assert(weighted.f1 == 0.5625);
    ck_assert(macro.support == 4 && weighted.support == 4);
}
END_TEST

START_TEST(nothing_divided_by_nothing_is_nothing)
{
    double column[1];
    ck_assert(scores_divide(3, 0) == 0 && scores_divide(0, 0) == 0 && scores_divide(1, 4) == 0.25);
    ck_assert(scores_average(rows, 0, false, column).f1 == 0);
    ck_assert(scores_average(rows + 2, 1, true, column).f1 == 0);
}
END_TEST

START_TEST(rows_are_as_wide_as_the_longest_name)
{
    buf_auto struct buf out;
    struct jsonw w;
    buf_init(&out, 1 << 10);
    scores_print_head(&out, 4);
    scores_print(&out, 4, "a\xc3\xa4", &rows[0]);
    ck_assert_str_eq(buf_cstr(&out),
        "      precision    recall  f1-score   support\n\n"
        "  a\xc3\xa4     1.0000    0.5000    0.7500         3\n");
    buf_reset(&out);
    jsonw_init(&w, &out);
    scores_json(&w, NULL, &rows[0]);
    ck_assert_int_eq(jsonw_end(&w), 0);
    ck_assert_str_eq(
        buf_cstr(&out), "{\"precision\":1,\"recall\":0.5,\"f1-score\":0.75,\"support\":3}");
}
END_TEST

UNIT_MAIN(
    "scores", averages, nothing_divided_by_nothing_is_nothing, rows_are_as_wide_as_the_longest_name)
