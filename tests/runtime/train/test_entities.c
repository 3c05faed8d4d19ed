/*
 * Goal: the report is seqeval's, whatever labels and sentences there are, and counts add up.
 * Method: the tables of seqeval byte for byte and its numbers to the last bit, over random and
 * hand-made sentences (golden); sums of two halves; what seqeval refuses; allocations that fail.
 * needs: faults
 */
#include "runtime/train/entities.h"

#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <string.h>

static struct err e;

static struct entities *make(const char *const *names, int64_t count)
{
    struct entities *t = NULL;
    ck_assert_msg(!entities_create(names, count, &t, &e), "%s", e.text);
    return t;
}

static struct entities *make_of(const struct json *corpus)
{
    const char *names[400];
    int64_t count = 0;
    json_each (name, json_get(corpus, "labels"))
        names[count++] = json_string_value(name);
    return make(names, count);
}

/* Sentences first, first + stride, ... of a golden corpus. */
static void add(struct entities *t, const struct json *corpus, int64_t first, int64_t stride)
{
    const struct json *guess = json_first(json_get(corpus, "guess"));
    int64_t at = 0;
    json_each (truth, json_get(corpus, "truth")) {
        int64_t n, m;
        int32_t *a = golden_ids(truth, &n), *b = golden_ids(guess, &m);
        ck_assert_int_eq(n, m);
        if (at++ % stride == first)
            ck_assert_msg(!entities_add(t, a, b, n, &e), "%s", e.text);
        guess = json_next(guess);
        mem_free(a);
        mem_free(b);
    }
}

static struct json *report_of(const struct entities *t)
{
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    struct jsonw w;
    jsonw_init(&w, &out);
    entities_json(t, &w, NULL);
    ck_assert_int_eq(jsonw_end(&w), 0);
    struct json *root = NULL;
    ck_assert_msg(!json_parse(out.data, out.len, &root, &e), "%s", e.text);
    return root;
}

static void equal_numbers(const struct json *is, const struct json *want, const char *corpus)
{
    ck_assert_uint_eq(json_count(is), json_count(want));
    const struct json *row = json_first(is);
    json_each (w, want) {
        ck_assert_str_eq(json_key(row), json_key(w));
        const struct json *number = json_first(row);
        json_each (n, w) {
            double a = json_number_value(number), b = json_number_value(n);
            ck_assert_msg(a == b, "%s: %s of %s is %.17g, not %.17g", corpus, json_key(number),
                json_key(w), a, b);
            number = json_next(number);
        }
        ck_assert_ptr_null(number);
        row = json_next(row);
    }
}

static void equal_table(
    const struct entities *t, enum entities_mode m, const struct json *want, const char *corpus)
{
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    entities_table(t, m, &out);
    ck_assert(buf_ok(&out));
    const char *table = json_str(want, "table", "");
    ck_assert_msg(!strcmp(out.data, table), "%s:\n%s\nis not\n%s", corpus, out.data, table);
}

START_TEST(reports_are_seqevals)
{
    static const char *const modes[] = {"lenient", "strict"};
    json_auto struct json *root = golden_json(GOLDEN "entities.json");
    int compared[ENTITIES_MODES] = {0};
    json_each (corpus, root) {
        const char *name = json_str(corpus, "name", "");
        struct entities *t = make_of(corpus);
        add(t, corpus, 0, 1);
        ck_assert(entities_accuracy(t) == json_num(corpus, "accuracy", -1));
        json_auto struct json *report = report_of(t);
        ck_assert(json_num(report, "accuracy", -1) == json_num(corpus, "accuracy", -1));
        ck_assert_str_eq(json_str(report, "scheme", "none"), json_str(corpus, "scheme", "none"));
        ck_assert_int_eq(entities_has_strict(t), json_is_string(json_get(corpus, "scheme")));
        for (enum entities_mode m = 0; m < ENTITIES_MODES; m++) {
            const struct json *want = json_get(corpus, modes[m]);
            if (!json_is_object(want)) /* there is nothing that seqeval could report on */
                continue;
            equal_table(t, m, want, name);
            equal_numbers(json_get(report, modes[m]), json_get(want, "rows"), name);
            struct score micro = entities_micro(t, m);
            const struct json *average = json_path(want, "rows.micro avg");
            ck_assert(micro.precision == json_number_value(json_first(average)));
            ck_assert(micro.f1 == json_number_value(json_next(json_next(json_first(average)))));
            compared[m]++;
        }
        entities_destroy(t);
    }
    ck_assert_int_gt(compared[ENTITIES_LENIENT], 60);
    ck_assert_int_gt(compared[ENTITIES_STRICT], 40);
}
END_TEST

START_TEST(counts_add_up_over_ranks)
{
    json_auto struct json *root = golden_json(GOLDEN "entities.json");
    json_each (corpus, root) {
        struct entities *whole = make_of(corpus), *a = make_of(corpus), *b = make_of(corpus);
        add(whole, corpus, 0, 1);
        add(a, corpus, 0, 2);
        add(b, corpus, 1, 2);
        int64_t n, m, k;
        const int32_t *all = entities_counts(whole, &n), *other = entities_counts(b, &m);
        int32_t *sum = entities_counts(a, &k);
        ck_assert(n == m && n == k);
        for (int64_t i = 0; i < n; i++)
            ck_assert_int_eq(sum[i] += other[i], all[i]);
        entities_clear(whole);
        for (int64_t i = 0; i < n; i++)
            ck_assert_int_eq(all[i], 0);
        entities_destroy(whole);
        entities_destroy(a);
        entities_destroy(b);
    }
}
END_TEST

START_TEST(no_entity_leaves_the_averages)
{
    static const char *const names[] = {"B-A", "I-A", "O"};
    static const char zeros[] = "              precision    recall  f1-score   support\n\n\n"
                                "   micro avg     0.0000    0.0000    0.0000         0\n"
                                "   macro avg     0.0000    0.0000    0.0000         0\n"
                                "weighted avg     0.0000    0.0000    0.0000         0\n";
    struct entities *t = make(names, 3);
    buf_auto struct buf out;
    buf_init(&out, 1 << 16);
    for (int tokens = 0; tokens <= 2; tokens += 2) {
        ck_assert(!entities_add(t, (const int32_t[]){2, 2}, (const int32_t[]){2, 2}, tokens, &e));
        ck_assert(entities_accuracy(t) == (tokens ? 1 : 0));
        for (enum entities_mode m = 0; m < ENTITIES_MODES; m++) {
            buf_reset(&out);
            entities_table(t, m, &out);
            ck_assert_str_eq(buf_cstr(&out), zeros);
        }
    }
    entities_destroy(t);
    t = make(NULL, 0);
    ck_assert(!entities_has_strict(t));
    ck_assert(entities_micro(t, ENTITIES_STRICT).f1 == 0);
    json_auto struct json *report = report_of(t);
    ck_assert(json_is_null(json_get(report, "strict")) && json_is_null(json_get(report, "scheme")));
    entities_destroy(t);
}
END_TEST

START_TEST(bad_input_is_refused)
{
    struct entities *t = NULL;
    ck_assert_int_eq(entities_create((const char *const[]){"O", ""}, 2, &t, &e), -ERR_DATA);
    ck_assert_str_eq(e.text, "label 1 has an empty name");
    ck_assert_ptr_null(t);

    t = make((const char *const[]){"O"}, 1);
    int64_t n;
    entities_counts(t, &n)[0] = INT32_MAX - 2; /* tokens so far */
    const int32_t labels[3] = {0};
    ck_assert_int_eq(entities_add(t, labels, labels, 3, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, "2147483647"));
    ck_assert_int_eq(entities_counts(t, &n)[0], INT32_MAX - 2);
    ck_assert_int_eq(entities_add(t, labels, labels, 2, &e), 0);
    entities_destroy(t);
}
END_TEST

static int create_and_destroy(void *user)
{
    static const char *const names[] = {"B-A", "I-A", "O"};
    struct entities *t = NULL;
    int rc = entities_create(names, 3, &t, &e);
    (void)user;
    ck_assert(!t == !!rc);
    entities_destroy(t);
    return rc;
}

START_TEST(allocations_that_fail)
{
    fault_each(FAULT_MEM, create_and_destroy, NULL);
}
END_TEST

UNIT_MAIN("entities", reports_are_seqevals, counts_add_up_over_ranks, no_entity_leaves_the_averages,
    bad_input_is_refused, allocations_that_fail)
