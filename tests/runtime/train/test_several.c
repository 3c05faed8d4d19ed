/*
 * Goal: reports of texts with any number of labels each are scikit-learn's to the last digit, and
 * so are the areas under the ROC curve but for their last bits; what is kept adds up over ranks.
 * Method: random texts with their reports by scikit-learn (tests/golden/several.json), printed and
 * as numbers; the same in two halves; scores that are no numbers.
 * needs: faults
 */
#include "runtime/train/several.h"

#include "base/mem.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <math.h>

static struct err e;
static const char *names[16];

static struct several *make_of(const struct json *corpus, int64_t *texts)
{
    struct several *t = NULL;
    int64_t n = 0;
    json_each (name, json_get(corpus, "labels"))
        names[n++] = json_string_value(name);
    *texts = (int64_t)json_count(json_get(corpus, "truth")) / n;
    ck_assert_msg(!several_create(names, n, *texts + 1, &t, &e), "%s", e.text);
    return t;
}

/* Every `ranks`th text from `rank` on; the one that there is room for beside is not looked at. */
static void add(struct several *t, const struct json *corpus, int64_t rank, int64_t ranks)
{
    int64_t n, k = 0, labels = (int64_t)json_count(json_get(corpus, "labels"));
    mem_autofree int32_t *truth = golden_ids(json_get(corpus, "truth"), &n);
    mem_autofree float *scores = mem_array((size_t)n, sizeof *scores);
    json_each (score, json_get(corpus, "scores"))
        scores[k++] = (float)json_number_value(score);
    ck_assert_int_eq(k, n);
    for (int64_t i = rank; i < n / labels; i += ranks)
        several_add(t, i, truth + i * labels, scores + i * labels);
}

static void equal_row(const struct json *is, const struct json *want, const char *of)
{
    const struct json *number = json_first(is);
    ck_assert_msg(is && json_count(is) == json_count(want), "%s", of);
    json_each (n, want) {
        double a = json_number_value(number), b = json_number_value(n);
        ck_assert_msg(a == b, "%s: %s is %.17g, not %.17g", of, json_key(number), a, b);
        number = json_next(number);
    }
}

static void check_report(const struct several *t, const struct json *corpus)
{
    buf_auto struct buf out;
    json_auto struct json *report = NULL;
    struct jsonw w;
    buf_init(&out, 1 << 20);
    jsonw_init(&w, &out);
    several_json(t, &w, NULL);
    ck_assert_int_eq(jsonw_end(&w), 0);
    ck_assert(!json_parse(out.data, out.len, &report, &e));
    ck_assert(json_num(report, "accuracy", -1) == json_num(corpus, "accuracy", -2));
    json_each (row, json_get(corpus, "rows")) {
        const struct json *label = json_get(json_get(report, "labels"), json_key(row));
        equal_row(label ? label : json_get(report, json_key(row)), row, json_key(row));
    }
    const struct json *auc = json_first(json_get(report, "rocAucs"));
    double sum = 0, n = 0;
    json_each (want, json_get(corpus, "aucs")) {
        ck_assert(json_is_number(want) == json_is_number(auc));
        if (json_is_number(want)) {
            ck_assert_double_lt(fabs(json_number_value(auc) - json_number_value(want)), 1e-14);
            sum += json_number_value(want);
            n++;
        }
        auc = json_next(auc);
    }
    ck_assert(n > 0 ? fabs(several_auc(t) - sum / n) < 1e-12 : isnan(several_auc(t)));
}

START_TEST(reports_equal_scikit_learn)
{
    json_auto struct json *root = golden_json(GOLDEN "several.json");
    int compared = 0;
    json_each (corpus, root) {
        int64_t texts;
        struct several *t = make_of(corpus, &texts);
        buf_auto struct buf out;
        add(t, corpus, 0, 1);
        buf_init(&out, 1 << 20);
        several_table(t, &out);
        ck_assert_str_eq(buf_cstr(&out), json_str(corpus, "table", ""));
        check_report(t, corpus);
        ck_assert(several_accuracy(t) == json_num(corpus, "accuracy", -1));
        ck_assert(several_macro(t).f1 ==
            json_number_value(
                json_next(json_next(json_first(json_get(json_get(corpus, "rows"), "macro avg"))))));
        several_destroy(t);
        compared++;
    }
    ck_assert_int_ge(compared, 20);
}
END_TEST

START_TEST(what_is_kept_adds_up_over_ranks)
{
    json_auto struct json *root = golden_json(GOLDEN "several.json");
    json_each (corpus, root) {
        int64_t texts, n, m;
        struct several *whole = make_of(corpus, &texts), *a = make_of(corpus, &texts),
                       *b = make_of(corpus, &texts);
        add(whole, corpus, 0, 1);
        add(b, corpus, 0, 1);
        several_clear(b); /* leaves nothing */
        add(a, corpus, 0, 2);
        add(b, corpus, 1, 2);
        float *to = several_points(a, &n);
        const float *from = several_points(b, &m);
        ck_assert_int_eq(n, m);
        for (int64_t i = 0; i < n; i++)
            to[i] += from[i];
        ck_assert_mem_eq(to, several_points(whole, &m), (size_t)n * sizeof *to);
        several_destroy(whole);
        several_destroy(a);
        several_destroy(b);
    }
}
END_TEST

START_TEST(what_was_not_met_has_no_curve)
{
    static const char *const two[] = {"a", "b"};
    struct several *t = NULL;
    ck_assert(!several_create(two, 2, 2, &t, &e));
    ck_assert(several_accuracy(t) == 0 && several_macro(t).f1 == 0 && isnan(several_auc(t)));
    several_add(t, 0, (const int32_t[]){1, 0}, (const float[]){NAN, -1});
    several_add(t, 1, (const int32_t[]){0, 0}, (const float[]){-1, -2});
    ck_assert(isnan(several_auc(t)));
    ck_assert_double_eq(several_accuracy(t), 0.5); /* no number is above 0 */
    several_destroy(t);
}
END_TEST

static int create_once(void *user)
{
    static const char *const two[] = {"a", "b"};
    struct several *t = NULL;
    (void)user;
    int rc = several_create(two, 2, 10, &t, &e);
    several_destroy(t);
    return rc;
}

START_TEST(failed_calls_are_reported)
{
    fault_each(FAULT_MEM, create_once, NULL);
}
END_TEST

UNIT_MAIN("several", reports_equal_scikit_learn, what_is_kept_adds_up_over_ranks,
    what_was_not_met_has_no_curve, failed_calls_are_reported)
