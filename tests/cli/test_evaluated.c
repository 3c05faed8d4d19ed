/*
 * Goal: a report of an evaluation is told as a table, and what it lacks is left out. Method: a
 * report of each kind, and its table.
 */
#include "cli/evaluated.h"

#include "tests/unit.h"

#include <stdlib.h>

static const char *const reports[][2] = {
    {"{\"loss\":2.5,\"perplexity\":12.1825,\"bitsPerByte\":null}",
        "loss                       2.5000\n"
        "perplexity                12.1825\n"
        "by r.json\n"},
    {"{\"accuracy\":0.75,\"accuracyStandardError\":0.125,\"accuracyNorm\":0.5,"
     "\"accuracyNormStandardError\":null,\"loss\":1}",
        "accuracy                   0.7500 +- 0.1250\n"
        "accuracy, normed           0.5000\n"
        "loss                       1.0000\n"
        "by r.json\n"},
    {"{\"loss\":0.25,\"classes\":{\"accuracy\":0.5,\"rocAuc\":null,\"support\":4,"
     "\"labels\":{\"ham\":{\"precision\":0.5,\"recall\":1,\"f1-score\":0.75,\"support\":4}},"
     "\"macro avg\":{\"precision\":0.25,\"recall\":0.5,\"f1-score\":0.375,\"support\":4}}}",
        "                        precision    recall  f1-score   support\n"
        "ham                        0.5000    1.0000    0.7500         4\n"
        "macro avg                  0.2500    0.5000    0.3750         4\n"
        "accuracy                   0.5000\n"
        "loss                       0.2500\n"
        "by r.json\n"},
    {"{\"loss\":1,\"entities\":{\"accuracy\":0.5,\"lenient\":{\"PER\":{\"precision\":0.5,"
     "\"recall\":1,\"f1-score\":0.75,\"support\":2}},\"strict\":null}}",
        "                        precision    recall  f1-score   support\n"
        "PER                        0.5000    1.0000    0.7500         2\n"
        "accuracy                   0.5000\n"
        "loss                       1.0000\n"
        "by r.json\n"},
};

START_TEST(each_report_has_its_table)
{
    struct json *v;
    struct err e;
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(to);
    ck_assert_int_eq(json_parse(reports[_i][0], strlen(reports[_i][0]), &v, &e), 0);
    evaluated_print(to, v, "r.json");
    ck_assert_int_eq(fclose(to), 0);
    ck_assert_str_eq(text, reports[_i][1]);
    json_destroy(v);
    free(text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("evaluated");
    TCase *c = tcase_create("evaluated");
    tcase_add_loop_test(c, each_report_has_its_table, 0, sizeof reports / sizeof *reports);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
