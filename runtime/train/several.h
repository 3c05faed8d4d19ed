/*
 * several: how well texts got their labels, of which each may have any number, as scikit-learn 1.9
 * reports it: classification_report to the last digit, accuracy_score (all labels of a text right)
 * and roc_auc_score of each label. A label is found where its score is above 0, a probability of a
 * half.
 *
 * A score and the truth of each label is kept for each text where it is, so those of all ranks add
 * up. Pure; nothing is allocated after several_create.
 */
#ifndef RUNTIME_TRAIN_SEVERAL_H
#define RUNTIME_TRAIN_SEVERAL_H

#include "base/err.h"
#include "base/json.h"
#include "runtime/train/scores.h"

struct several;

/* names: of the labels 0 .. count-1, borrowed until destroy. texts: at most so many are looked
   at. */
int several_create(
    const char *const *names, int64_t count, int64_t texts, struct several **out, struct err *e);
void several_destroy(struct several *t);

/* Text i: whether it has each label (count; 0 or 1), and the scores (count). */
void several_add(struct several *t, int64_t i, const int32_t *truth, const float *scores);
/* All that is kept, for sums over ranks in place. *n depends on several_create alone. */
float *several_points(struct several *t, int64_t *n);
void several_clear(struct several *t);

double several_accuracy(const struct several *t); /* 0 of none */
struct score several_macro(const struct several *t);
/* The mean over labels that some texts have and others not; NaN: there is none. */
double several_auc(const struct several *t);
/* classification_report(digits=4): several lines, the last with its newline; names as they are. */
void several_table(const struct several *t, struct buf *out);
/* {"accuracy", "support", "rocAuc", "labels", "micro avg", "macro avg", "weighted avg", "samples
   avg", "rocAucs"}: rows as classification_report's output_dict has them; rocAucs by label, null
   where there is none. */
void several_json(const struct several *t, struct jsonw *w, const char *key);

#endif
