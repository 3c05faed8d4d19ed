/*
 * Goal: reports of labels are scikit-learn's to the last digit, and so is the area under the ROC
 * curve but for its last bits; counts and scores add up over ranks. Method: random labels with
 * their reports by scikit-learn (tests/golden/classes.json), printed and as numbers; the same
 * corpora in two halves; scores that are no numbers.
 * needs: faults
 */
#include "runtime/train/classes.h"

#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <math.h>

#define NAMES 512

static struct err e;
static const char *names[NAMES];

static struct classes *make_of(const struct json *corpus)
{
    struct classes *t = NULL;
    int64_t n = 0, texts = 0;
    json_each (name, json_get(corpus, "labels"))
        names[n++] = json_string_value(name);
    texts = (int64_t)json_count(json_get(corpus, "scores"));
    ck_assert_msg(!classes_create(names, n, n == 2 ? texts : 0, &t, &e), "%s", e.text);
    return t;
}

/* Every `ranks`th text from `rank` on. */
static void add(struct classes *t, const struct json *corpus, int64_t rank, int64_t ranks)
{
    int64_t n, m, k = 0;
    mem_autofree int32_t *truth = golden_ids(json_get(corpus, "truth"), &n);
    mem_autofree int32_t *guess = golden_ids(json_get(corpus, "guess"), &m);
    ck_assert_int_eq(n, m);
    for (int64_t i = rank; i < n; i += ranks)
        ck_assert(!classes_add(t, truth + i, guess + i, 1, &e));
    json_each (score, json_get(corpus, "scores")) {
        if (k % ranks == rank)
            classes_score(t, k, truth[k], (float)json_number_value(score));
        k++;
    }
}

static struct json *report_of(struct classes *t)
{
    buf_auto struct buf out;
    struct jsonw w;
    buf_init(&out, 1 << 20);
    jsonw_init(&w, &out);
    classes_json(t, &w, NULL);
    ck_assert_int_eq(jsonw_end(&w), 0);
    struct json *root = NULL;
    ck_assert_msg(!json_parse(out.data, out.len, &root, &e), "%s", e.text);
    return root;
}

static void equal_row(const struct json *is, const struct json *want, const char *of)
{
    const struct json *number = json_first(is);
    ck_assert_msg(is != NULL, "%s", of);
    ck_assert_uint_eq(json_count(is), json_count(want));
    json_each (n, want) {
        double a = json_number_value(number), b = json_number_value(n);
        ck_assert_msg(a == b, "%s: %s is %.17g, not %.17g", of, json_key(number), a, b);
        number = json_next(number);
    }
}

static void equal_auc(double is, const struct json *corpus, const char *name)
{
    const struct json *want = json_get(corpus, "auc");
    if (!json_is_number(want))
        ck_assert_msg(isnan(is), "%s", name);
    else
        ck_assert_msg(fabs(is - json_number_value(want)) < 1e-14, "%s: auc %.17g", name, is);
}

START_TEST(reports_are_scikit_learns)
{
    json_auto struct json *root = golden_json(GOLDEN "classes.json");
    int compared = 0, curves = 0;
    json_each (corpus, root) {
        const char *name = json_str(corpus, "name", "");
        struct classes *t = make_of(corpus);
        buf_auto struct buf out;
        add(t, corpus, 0, 1);
        ck_assert(classes_accuracy(t) == json_num(corpus, "accuracy", -1));
        buf_init(&out, 1 << 20);
        classes_table(t, &out);
        const char *table = json_str(corpus, "table", NULL);
        ck_assert_msg(
            !table || !strcmp(buf_cstr(&out), table), "%s:\n%s\nis not\n%s", name, out.data, table);
        json_auto struct json *report = report_of(t);
        const struct json *rows = json_get(corpus, "rows");
        const struct json *labels = json_get(report, "labels");
        ck_assert_uint_eq(json_count(labels), json_count(rows) - 2);
        json_each (row, rows) {
            const char *key = json_key(row);
            const struct json *label = json_get(labels, key);
            equal_row(label ? label : json_get(report, key), row, name);
        }
        ck_assert(classes_macro(t).f1 ==
            json_number_value(json_next(json_next(json_first(json_get(rows, "macro avg"))))));
        ck_assert(json_num(json_get(report, "micro avg"), "f1-score", -1) == classes_accuracy(t));
        equal_auc(classes_auc(t), corpus, name);
        equal_auc(json_num(report, "rocAuc", NAN), corpus, name);
        curves += json_is_number(json_get(corpus, "auc"));
        compared++;
        classes_destroy(t);
    }
    ck_assert_int_gt(compared, 60);
    ck_assert_int_gt(curves, 8);
}
END_TEST

START_TEST(counts_and_scores_add_up_over_ranks)
{
    json_auto struct json *root = golden_json(GOLDEN "classes.json");
    json_each (corpus, root) {
        struct classes *whole = make_of(corpus), *a = make_of(corpus), *b = make_of(corpus);
        int64_t n, m, k;
        add(whole, corpus, 0, 1);
        add(b, corpus, 0, 1);
        classes_clear(b); /* leaves nothing */
        add(a, corpus, 0, 2);
        add(b, corpus, 1, 2);
        int32_t *to = classes_counts(a, &n), *from = classes_counts(b, &m);
        ck_assert_int_eq(n, m);
        for (int64_t i = 0; i < n; i++)
            to[i] += from[i];
        ck_assert_mem_eq(to, classes_counts(whole, &k), (size_t)n * sizeof *to);
        float *scores = classes_scores(a, &n), *others = classes_scores(b, &m);
        ck_assert_int_eq(n, m);
        for (int64_t i = 0; i < n; i++)
            scores[i] += others[i];
        const float *all = classes_scores(whole, &k);
        for (int64_t i = 0; i < n; i++)
            ck_assert(scores[i] == all[i]);
        double x = classes_auc(a), y = classes_auc(whole);
        ck_assert(x == y || (isnan(x) && isnan(y)));
        classes_destroy(whole);
        classes_destroy(a);
        classes_destroy(b);
    }
}
END_TEST

START_TEST(curves_by_hand)
{
    static const char *const two[] = {"a", "b"};
    struct classes *t;
    ck_assert(!classes_create(two, 2, 4, &t, &e));
    ck_assert(isnan(classes_auc(t))); /* of nothing */
    classes_score(t, 0, 0, 0.5f);
    classes_score(t, 1, 1, 0.5f);
    ck_assert(classes_auc(t) == 0.5); /* fewer than there is room for */
    classes_clear(t);
    classes_score(t, 0, 0, -1);
    classes_score(t, 1, 1, 1);
    classes_score(t, 2, 1, -2);
    ck_assert(classes_auc(t) == 0.5);
    classes_score(t, 3, 0, NAN);
    ck_assert(isnan(classes_auc(t)));
    classes_destroy(t);
    ck_assert(!classes_create(two, 2, 0, &t, &e));
    classes_score(t, 7, 1, 1); /* kept nowhere */
    ck_assert(isnan(classes_auc(t)) && classes_accuracy(t) == 0 && classes_macro(t).f1 == 0);
    classes_destroy(t);
}
END_TEST

static int create_once(void *user)
{
    static const char *const two[] = {"a", "b"};
    struct classes *t = NULL;
    int rc = classes_create(two, 2, 3, &t, &e);
    (void)user;
    ck_assert(!rc || !t);
    classes_destroy(t);
    return rc;
}

START_TEST(failed_calls_are_reported)
{
    fault_each(FAULT_MEM, create_once, NULL);
}
END_TEST

UNIT_MAIN("classes", reports_are_scikit_learns, counts_and_scores_add_up_over_ranks, curves_by_hand,
    failed_calls_are_reported)
