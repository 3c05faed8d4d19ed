/*
 * scores: precision, recall and F1 of what was found, their averages, and how a report is printed:
 * as classification_report of scikit-learn and of seqeval has it. Averages are summed in numpy's
 * order, for the last bit decides how a tie is printed. Where 0 is divided by 0 the result is 0.
 * Pure.
 */
#ifndef RUNTIME_TRAIN_SCORES_H
#define RUNTIME_TRAIN_SCORES_H

#include "base/buf.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

struct score { /* of a type or class, or an average */
    double precision, recall, f1;
    int64_t support;
};

double scores_divide(double a, double b);
/* Mean over n rows, by support when told so; column (n): room for what is added up. */
struct score scores_average(const struct score *rows, int64_t n, bool weighted, double *column);

struct scores_point { /* zeroes: not looked at */
    float score;
    float truth; /* 1 or 2: whether it was the positive one, plus 1 */
};
/* The area under the ROC curve of n points: the share of pairs, one of either kind, that the scores
   put in the right order, ties for a half (Hanley and McNeil 1982). NaN where one kind was not met,
   or a score is no number. Sorts them. */
double scores_auc(struct scores_point *points, int64_t n);

/* Columns' names and an empty line, and a row of a report; names are `width` characters wide. */
void scores_print_head(struct buf *out, size_t width);
void scores_print(struct buf *out, size_t width, const char *name, const struct score *s);
/* {"precision", "recall", "f1-score", "support"} */
void scores_json(struct jsonw *w, const char *key, const struct score *s);

#endif
