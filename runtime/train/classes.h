/*
 * classes: how well labels were told apart, as scikit-learn 1.9 reports it: classification_report
 * to the last digit (but that prints a support as "1.0" where nothing at all is right), and of two
 * labels roc_auc_score, of which the second by name is the positive one. Each label is a class of
 * its own; one that neither was nor was guessed has no row.
 *
 * Counts are whole numbers that add up over texts and ranks; a score of each text is kept where it
 * is, so those of all ranks add up too. Pure; nothing is allocated after classes_create.
 */
#ifndef RUNTIME_TRAIN_CLASSES_H
#define RUNTIME_TRAIN_CLASSES_H

#include "base/err.h"
#include "base/json.h"
#include "runtime/train/scores.h"

#include <stdint.h>

struct classes;

/* names: of the labels 0 .. count-1, borrowed until destroy. scored: of how many texts a score is
   kept, at most; 0 unless there are two labels. */
int classes_create(
    const char *const *names, int64_t count, int64_t scored, struct classes **out, struct err *e);
void classes_destroy(struct classes *t);

/* n labels. -ERR_DATA beyond 2^31 - 1. */
int classes_add(
    struct classes *t, const int32_t *truth, const int32_t *guess, int64_t n, struct err *e);
/* The score of text i, the greater the likelier the second label; nothing where none are kept. */
void classes_score(struct classes *t, int64_t i, int32_t truth, float score);
/* All that was counted and kept, for sums over ranks in place (of counts exact while all ranks
   together have fewer than 2^31). *n depends on what classes_create was given alone. */
int32_t *classes_counts(struct classes *t, int64_t *n);
float *classes_scores(struct classes *t, int64_t *n); /* *n 0: none */
void classes_clear(struct classes *t);

double classes_accuracy(const struct classes *t); /* 0 of none */
struct score classes_macro(const struct classes *t);
/* The area under the ROC curve; NaN where no score is kept, one of the labels was not met, or a
   score is no number. Sorts the scores. */
double classes_auc(struct classes *t);
/* classification_report(digits=4): several lines, the last with its newline; names as they are. */
void classes_table(const struct classes *t, struct buf *out);
/* {"accuracy", "support", "rocAuc", "labels", "micro avg", "macro avg", "weighted avg"}: rows as
   classification_report's output_dict has them; the micro average is the accuracy. */
void classes_json(struct classes *t, struct jsonw *w, const char *key);

#endif
