/*
 * several: all is counted from what is kept when a report is made.
 */
#include "runtime/train/several.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <assert.h>
#include <math.h>
#include <string.h>

struct several {
    const char *const *names;
    int64_t labels, texts;
    struct scores_point *points; /* (texts, labels) */
    /* while a report is made */
    struct scores_point *sorted; /* (texts) of one label */
    struct score *rows;          /* (labels or texts) */
    double *column;              /* likewise */
};

struct several_count { /* of a label, a text, or all */
    int64_t truth, guessed, right;
};

int several_create(
    const char *const *names, int64_t count, int64_t texts, struct several **out, struct err *e)
{
    struct several *t = mem_zalloc(sizeof *t);
    int64_t most = count > texts ? count : texts, points;
    if (!t || __builtin_mul_overflow(count, texts, &points)) {
        mem_free(t);
        return err_set(e, ERR_MEMORY, "no memory for the report of %lld labels", (long long)count);
    }
    t->names = names;
    t->labels = count;
    t->texts = texts;
    t->points = mem_array((size_t)points + 1, sizeof *t->points);
    t->sorted = mem_array((size_t)texts + 1, sizeof *t->sorted);
    t->rows = mem_array((size_t)most + 1, sizeof *t->rows);
    t->column = mem_array((size_t)most + 1, sizeof *t->column);
    if (!t->points || !t->sorted || !t->rows || !t->column) {
        several_destroy(t);
        return err_set(e, ERR_MEMORY, "no memory for the report of %lld texts with %lld labels",
            (long long)texts, (long long)count);
    }
    *out = t;
    return 0;
}

void several_destroy(struct several *t)
{
    if (!t)
        return;
    mem_free(t->points);
    mem_free(t->sorted);
    mem_free(t->rows);
    mem_free(t->column);
    mem_free(t);
}

/* -- keeping -- */

void several_add(struct several *t, int64_t i, const int32_t *truth, const float *scores)
{
    assert(i >= 0 && i < t->texts);
    for (int64_t k = 0; k < t->labels; k++)
        t->points[i * t->labels + k] = (struct scores_point){scores[k], (float)(truth[k] + 1)};
}

float *several_points(struct several *t, int64_t *n)
{
    _Static_assert(sizeof *t->points == 2 * sizeof(float), "points are floats");
    *n = 2 * t->texts * t->labels;
    return &t->points->score;
}

void several_clear(struct several *t)
{
    memset(t->points, 0, (size_t)(t->texts * t->labels) * sizeof *t->points);
}

/* -- counting -- */

static void count_point(struct several_count *c, const struct scores_point *p)
{
    bool truth = p->truth > 1, guessed = p->truth > 0 && p->score > 0;
    c->truth += truth;
    c->guessed += guessed;
    c->right += truth && guessed;
}

/* n points `step` apart. */
static struct several_count count_points(const struct scores_point *p, int64_t n, int64_t step)
{
    struct several_count c = {0};
    for (int64_t i = 0; i < n; i++)
        count_point(&c, p + i * step);
    return c;
}

static struct score score_of(const struct several_count *c)
{
    double right = (double)c->right, truth = (double)c->truth, guessed = (double)c->guessed;
    return (struct score){scores_divide(right, guessed), scores_divide(right, truth),
        scores_divide(2 * right, truth + guessed), c->truth};
}

static bool was_looked_at(const struct several *t, int64_t text)
{
    return t->points[text * t->labels].truth > 0;
}

static void label_rows(const struct several *t)
{
    for (int64_t k = 0; k < t->labels; k++) {
        const struct several_count c = count_points(t->points + k, t->texts, t->labels);
        t->rows[k] = score_of(&c);
    }
}

static struct score label_average(const struct several *t, bool weighted)
{
    return scores_average(t->rows, t->labels, weighted, t->column);
}

static struct score micro(const struct several *t)
{
    const struct several_count c = count_points(t->points, t->texts * t->labels, 1);
    return score_of(&c);
}

/* Uses the rows up. */
static struct score samples_average(const struct several *t)
{
    int64_t n = 0;
    for (int64_t i = 0; i < t->texts; i++) {
        const struct several_count c = count_points(t->points + i * t->labels, t->labels, 1);
        if (was_looked_at(t, i))
            t->rows[n++] = score_of(&c);
    }
    return scores_average(t->rows, n, false, t->column);
}

double several_accuracy(const struct several *t)
{
    int64_t n = 0, right = 0;
    for (int64_t i = 0; i < t->texts; i++) {
        const struct several_count c = count_points(t->points + i * t->labels, t->labels, 1);
        n += was_looked_at(t, i);
        right += was_looked_at(t, i) && c.truth == c.right && c.guessed == c.right;
    }
    return scores_divide((double)right, (double)n);
}

struct score several_macro(const struct several *t)
{
    label_rows(t);
    return label_average(t, false);
}

static double label_auc(const struct several *t, int64_t label)
{
    for (int64_t i = 0; i < t->texts; i++)
        t->sorted[i] = t->points[i * t->labels + label];
    return scores_auc(t->sorted, t->texts);
}

double several_auc(const struct several *t)
{
    double sum = 0;
    int64_t n = 0;
    for (int64_t k = 0; k < t->labels; k++) {
        double auc = label_auc(t, k);
        n += !isnan(auc);
        sum += isnan(auc) ? 0 : auc;
    }
    return n ? sum / (double)n : NAN;
}

/* -- reports -- */

void several_table(const struct several *t, struct buf *out)
{
    size_t width = strlen("weighted avg");
    for (int64_t k = 0; k < t->labels; k++)
        if (utf8_count(t->names[k]) > width)
            width = utf8_count(t->names[k]);
    label_rows(t);
    scores_print_head(out, width);
    for (int64_t k = 0; k < t->labels; k++)
        scores_print(out, width, t->names[k], &t->rows[k]);
    const struct score macro = label_average(t, false), weighted = label_average(t, true),
                       all = micro(t), samples = samples_average(t);
    buf_char(out, '\n');
    scores_print(out, width, "micro avg", &all);
    scores_print(out, width, "macro avg", &macro);
    scores_print(out, width, "weighted avg", &weighted);
    scores_print(out, width, "samples avg", &samples);
}

void several_json(const struct several *t, struct jsonw *w, const char *key)
{
    label_rows(t);
    const struct score macro = label_average(t, false), weighted = label_average(t, true),
                       all = micro(t);
    jsonw_open(w, key, '{');
    jsonw_num(w, "accuracy", several_accuracy(t));
    jsonw_int(w, "support", all.support);
    jsonw_num(w, "rocAuc", several_auc(t));
    jsonw_open(w, "labels", '{');
    for (int64_t k = 0; k < t->labels; k++)
        scores_json(w, t->names[k], &t->rows[k]);
    jsonw_close(w);
    scores_json(w, "micro avg", &all);
    scores_json(w, "macro avg", &macro);
    scores_json(w, "weighted avg", &weighted);
    const struct score samples = samples_average(t);
    scores_json(w, "samples avg", &samples);
    jsonw_open(w, "rocAucs", '{');
    for (int64_t k = 0; k < t->labels; k++)
        jsonw_num(w, t->names[k], label_auc(t, k));
    jsonw_close(w);
    jsonw_close(w);
}
