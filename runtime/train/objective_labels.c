/*
 * train/classify: what a classifier finds: the greatest logit at the first token of each word, or
 * of a text, is its label. Where labels are of entities these are counted, sentence by sentence,
 * else the labels themselves; counts are whole numbers that are added up over the ranks. Then the
 * report, to the log, to TensorBoard and as JSON.
 */
#include "runtime/train/internal.h"

#include "base/log.h"

#include <math.h>

static int32_t greatest(const float *logits, int64_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

/* -- counting -- */

int train_found_open(struct train *t, int64_t most, struct err *e)
{
    const char *const *names = (const char *const *)t->names.names;
    bool texts = t->objective->labels == OBJECTIVE_LABELS_TEXTS;
    if (t->config.several)
        return several_create(names, t->names.count, most, &t->several, e);
    if (!texts && t->names.scheme != DATA_SCHEME_PLAIN)
        return entities_create(names, t->names.count, &t->entities, e);
    if (!texts && train_leads(t))
        log_info("labels have no B-, I-, E- or S-: they are reported themselves, not as entities",
            LOG_I("labels", t->names.count));
    return classes_create(
        names, t->names.count, texts && t->names.count == 2 ? most : 0, &t->classes, e);
}

void train_found_close(struct train *t)
{
    entities_destroy(t->entities);
    classes_destroy(t->classes);
    several_destroy(t->several);
}

void train_found_clear(struct train *t)
{
    if (t->entities)
        entities_clear(t->entities);
    else if (t->several)
        several_clear(t->several);
    else
        classes_clear(t->classes);
}

/* Of one sentence; its labels are moved together, its ids, which are on the device, overwritten. */
static int judge_sentence(struct train *t, int32_t *truth, int32_t *guess,
    const float *logits /* (T, L) */, struct err *e)
{
    int64_t n = 0;
    for (int64_t i = 0; i < t->length; i++) {
        if (truth[i] < 0)
            continue;
        truth[n] = truth[i];
        guess[n++] = greatest(logits + i * t->config.labels, t->config.labels);
    }
    return t->entities ? entities_add(t->entities, truth, guess, n, e)
                       : classes_add(t->classes, truth, guess, n, e);
}

/* truth: its label, or, where it may have several, whether it has each. */
static int judge_text(
    struct train *t, int64_t at, const int32_t *truth, const float *logits /* (L) */, struct err *e)
{
    if (t->several) {
        several_add(t->several, at, truth, logits);
        return 0;
    }
    int32_t guess = greatest(logits, t->config.labels);
    classes_score(t->classes, at, *truth, logits[1] - logits[0]);
    return classes_add(t->classes, truth, &guess, 1, e);
}

int train_judge(struct train *t, int64_t first, int64_t b, struct err *e)
{
    int64_t length = t->length, labels = t->config.labels, width = t->several ? labels : length;
    int rc = pass_label_logits(t->pass, b, t->logits, e);
    for (int64_t j = 0; j < b && !rc; j++)
        rc = t->objective->labels == OBJECTIVE_LABELS_TEXTS
            ? judge_text(t, first + j, t->labels + j * width, t->logits + j * labels, e)
            : judge_sentence(t, t->labels + j * length, t->inputs + j * length,
                  t->logits + j * length * labels, e);
    return rc;
}

int train_judge_all(struct train *t, struct err *e)
{
    int64_t n;
    if (t->several) {
        float *points = several_points(t->several, &n);
        return coll_allreduce(t->coll, points, n, DTYPE_F32, COLL_SUM, e);
    }
    int32_t *counts =
        t->entities ? entities_counts(t->entities, &n) : classes_counts(t->classes, &n);
    int rc = coll_allreduce(t->coll, counts, n, DTYPE_I32, COLL_SUM, e);
    if (rc || t->entities)
        return rc;
    float *scores = classes_scores(t->classes, &n);
    return n ? coll_allreduce(t->coll, scores, n, DTYPE_F32, COLL_SUM, e) : 0;
}

/* -- reporting -- */

static struct score all_of(const struct train *t)
{
    if (t->several)
        return several_macro(t->several);
    return t->entities ? entities_micro(t->entities, ENTITIES_LENIENT) : classes_macro(t->classes);
}

static double accuracy_of(const struct train *t)
{
    if (t->several)
        return several_accuracy(t->several);
    return t->entities ? entities_accuracy(t->entities) : classes_accuracy(t->classes);
}

static double auc_of(const struct train *t)
{
    if (t->several)
        return several_auc(t->several);
    return t->classes ? classes_auc(t->classes) : NAN;
}

double train_f1(const struct train *t)
{
    return all_of(t).f1;
}

int train_tell_found(struct train *t, const char *of, struct err *e)
{
    struct score s = all_of(t);
    bool strict = t->entities && entities_has_strict(t->entities);
    const struct {
        const char *name;
        double value; /* NaN: none */
    } points[] = {{"f1", s.f1}, {"precision", s.precision}, {"recall", s.recall},
        {"accuracy", accuracy_of(t)},
        {"f1_strict", strict ? entities_micro(t->entities, ENTITIES_STRICT).f1 : NAN},
        {"roc_auc", auc_of(t)}};
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        char tag[64];
        snprintf(tag, sizeof tag, "%s/%s", points[i].name, of);
        int rc = isnan(points[i].value) ? 0 : train_tell_metric(t, tag, points[i].value, e);
        if (rc)
            return rc;
    }
    return 0;
}

/* A table is lines: each is a message, so that columns stay under one another. */
static void log_lines(char *at)
{
    for (char *end; (end = strchr(at, '\n')); at = end + 1) {
        *end = 0;
        if (*at)
            log_info(at);
    }
}

void train_log_found(const struct train *t, const char *of, double loss)
{
    buf_auto struct buf table;
    buf_init(&table, LIMIT_FRAME_BYTES);
    if (t->entities) {
        log_info("entities", LOG_S("of", of), LOG_I("step", t->state.step), LOG_F("loss", loss),
            LOG_F("f1", train_f1(t)), LOG_F("accuracy", accuracy_of(t)));
        entities_table(t->entities, ENTITIES_LENIENT, &table);
    } else {
        log_info("labels", LOG_S("of", of), LOG_I("step", t->state.step), LOG_F("loss", loss),
            LOG_F("macroF1", train_f1(t)), LOG_F("accuracy", accuracy_of(t)));
        double auc = auc_of(t);
        if (!isnan(auc))
            log_info("area under the ROC curve", LOG_S("of", of), LOG_F("rocAuc", auc));
        if (t->several)
            several_table(t->several, &table);
        else
            classes_table(t->classes, &table);
    }
    if (buf_ok(&table) && table.len)
        log_lines(table.data);
}

void train_write_found(const struct train *t, struct jsonw *w)
{
    if (t->entities)
        entities_json(t->entities, w, "entities");
    else if (t->several)
        several_json(t->several, w, "classes");
    else
        classes_json(t->classes, w, "classes");
}
