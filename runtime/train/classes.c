/*
 * classes: three counts a label, and a score of each text where there are two.
 */
#include "runtime/train/classes.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <assert.h>
#include <string.h>

enum { KIND_TRUE, KIND_GUESSED, KIND_RIGHT, KINDS }; /* counts of a label */

struct classes {
    const char *const *names;
    int64_t label_count, scored;
    int32_t *counts;             /* (label_count, KINDS) */
    struct scores_point *points; /* (scored) */
    struct score *rows;          /* (label_count), while a report is made */
    double *column;              /* (label_count), likewise */
};

int classes_create(
    const char *const *names, int64_t count, int64_t scored, struct classes **out, struct err *e)
{
    struct classes *t = mem_zalloc(sizeof *t);
    if (!t)
        return err_set(e, ERR_MEMORY, "no memory for the report of %lld labels", (long long)count);
    assert(!scored || count == 2);
    t->names = names;
    t->label_count = count;
    t->scored = scored;
    t->counts = mem_array((size_t)(count * KINDS), sizeof *t->counts);
    t->points = mem_array((size_t)scored + 1, sizeof *t->points);
    t->rows = mem_array((size_t)count, sizeof *t->rows);
    t->column = mem_array((size_t)count, sizeof *t->column);
    if (!t->counts || !t->points || !t->rows || !t->column) {
        classes_destroy(t);
        return err_set(e, ERR_MEMORY, "no memory for the report of %lld labels", (long long)count);
    }
    *out = t;
    return 0;
}

void classes_destroy(struct classes *t)
{
    if (!t)
        return;
    mem_free(t->counts);
    mem_free(t->points);
    mem_free(t->rows);
    mem_free(t->column);
    mem_free(t);
}

/* -- counting -- */

static int64_t total_of(const struct classes *t, int kind)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < t->label_count; i++)
        sum += t->counts[i * KINDS + kind];
    return sum;
}

int classes_add(
    struct classes *t, const int32_t *truth, const int32_t *guess, int64_t n, struct err *e)
{
    if (n > INT32_MAX - total_of(t, KIND_TRUE))
        return err_set(e, ERR_DATA, "more than %d labels to report on", INT32_MAX);
    for (int64_t i = 0; i < n; i++) {
        assert(truth[i] >= 0 && truth[i] < t->label_count);
        assert(guess[i] >= 0 && guess[i] < t->label_count);
        t->counts[truth[i] * KINDS + KIND_TRUE]++;
        t->counts[guess[i] * KINDS + KIND_GUESSED]++;
        t->counts[truth[i] * KINDS + KIND_RIGHT] += truth[i] == guess[i];
    }
    return 0;
}

void classes_score(struct classes *t, int64_t i, int32_t truth, float score)
{
    if (t->scored)
        assert(i >= 0 && i < t->scored);
    if (t->scored)
        t->points[i] = (struct scores_point){score, (float)(truth + 1)};
}

int32_t *classes_counts(struct classes *t, int64_t *n)
{
    *n = t->label_count * KINDS;
    return t->counts;
}

float *classes_scores(struct classes *t, int64_t *n)
{
    _Static_assert(sizeof *t->points == 2 * sizeof(float), "points are floats");
    *n = 2 * t->scored;
    return &t->points->score;
}

void classes_clear(struct classes *t)
{
    memset(t->counts, 0, (size_t)(t->label_count * KINDS) * sizeof *t->counts);
    memset(t->points, 0, (size_t)t->scored * sizeof *t->points);
}

/* -- scores -- */

double classes_auc(struct classes *t)
{
    return scores_auc(t->points, t->scored);
}

double classes_accuracy(const struct classes *t)
{
    return scores_divide((double)total_of(t, KIND_RIGHT), (double)total_of(t, KIND_TRUE));
}

/* As scikit-learn has it since 1.3: F1 from the counts, not from precision and recall. */
static struct score class_score(const int32_t *c)
{
    double right = (double)c[KIND_RIGHT], truth = (double)c[KIND_TRUE];
    double guessed = (double)c[KIND_GUESSED];
    return (struct score){scores_divide(right, guessed), scores_divide(right, truth),
        scores_divide(2 * right, truth + guessed), c[KIND_TRUE]};
}

static bool is_met(const struct classes *t, int64_t label)
{
    const int32_t *c = t->counts + label * KINDS;
    return c[KIND_TRUE] || c[KIND_GUESSED];
}

/* Rows of the labels that were met. */
static int64_t make_rows(const struct classes *t)
{
    int64_t n = 0;
    for (int64_t i = 0; i < t->label_count; i++)
        if (is_met(t, i))
            t->rows[n++] = class_score(t->counts + i * KINDS);
    return n;
}

struct score classes_macro(const struct classes *t)
{
    return scores_average(t->rows, make_rows(t), false, t->column);
}

/* -- reports -- */

void classes_table(const struct classes *t, struct buf *out)
{
    int64_t n = make_rows(t), row = 0;
    size_t width = strlen("weighted avg");
    for (int64_t i = 0; i < t->label_count; i++)
        if (is_met(t, i) && utf8_count(t->names[i]) > width)
            width = utf8_count(t->names[i]);
    struct score macro = scores_average(t->rows, n, false, t->column),
                 weighted = scores_average(t->rows, n, true, t->column);
    scores_print_head(out, width);
    for (int64_t i = 0; i < t->label_count; i++)
        if (is_met(t, i))
            scores_print(out, width, t->names[i], &t->rows[row++]);
    buf_printf(out, "\n%*s  %9s %9s %9.4f %9lld\n", (int)width, "accuracy", "", "",
        classes_accuracy(t), (long long)macro.support);
    scores_print(out, width, "macro avg", &macro);
    scores_print(out, width, "weighted avg", &weighted);
}

void classes_json(struct classes *t, struct jsonw *w, const char *key)
{
    double accuracy = classes_accuracy(t);
    int64_t n = make_rows(t), row = 0;
    struct score macro = scores_average(t->rows, n, false, t->column),
                 weighted = scores_average(t->rows, n, true, t->column),
                 micro = {accuracy, accuracy, accuracy, macro.support};
    jsonw_open(w, key, '{');
    jsonw_num(w, "accuracy", accuracy);
    jsonw_int(w, "support", macro.support);
    jsonw_num(w, "rocAuc", classes_auc(t));
    jsonw_open(w, "labels", '{');
    for (int64_t i = 0; i < t->label_count; i++)
        if (is_met(t, i))
            scores_json(w, t->names[i], &t->rows[row++]);
    jsonw_close(w);
    scores_json(w, "micro avg", &micro);
    scores_json(w, "macro avg", &macro);
    scores_json(w, "weighted avg", &weighted);
    jsonw_close(w);
}
