/*
 * train/classify: what a classifier of words finds, as entities: the greatest logit at the first
 * token of each word is its label, a sentence is judged by its words, and counts are whole numbers
 * that are added up over the ranks. Then the report, to the log, to TensorBoard and as JSON.
 */
#include "runtime/train/internal.h"

#include "base/log.h"

static int32_t greatest(const float *logits, int64_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
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
    return entities_add(t->found, truth, guess, n, e);
}

int train_judge(struct train *t, int64_t b, struct err *e)
{
    int64_t length = t->length;
    int rc = pass_label_logits(t->pass, b, t->logits, e);
    for (int64_t j = 0; j < b && !rc; j++)
        rc = judge_sentence(t, t->labels + j * length, t->inputs + j * length,
            t->logits + j * length * t->config.labels, e);
    return rc;
}

int train_judge_all(struct train *t, struct err *e)
{
    int64_t n;
    int32_t *counts = entities_counts(t->found, &n);
    return coll_allreduce(t->coll, counts, n, DTYPE_I32, COLL_SUM, e);
}

double train_f1(const struct train *t)
{
    return entities_micro(t->found, ENTITIES_LENIENT).f1;
}

int train_tell_found(struct train *t, const char *of, struct err *e)
{
    struct entities_score s = entities_micro(t->found, ENTITIES_LENIENT);
    const struct {
        const char *name;
        double value;
    } points[] = {{"f1", s.f1}, {"precision", s.precision}, {"recall", s.recall},
        {"accuracy", entities_accuracy(t->found)},
        {"f1_strict", entities_micro(t->found, ENTITIES_STRICT).f1}};
    for (int i = 0; i < (entities_has_strict(t->found) ? 5 : 4); i++) {
        char tag[64];
        snprintf(tag, sizeof tag, "%s/%s", points[i].name, of);
        int rc = train_tell_metric(t, tag, points[i].value, e);
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
    struct entities_score s = entities_micro(t->found, ENTITIES_LENIENT);
    log_info("entities", LOG_S("of", of), LOG_I("step", t->state.step), LOG_F("loss", loss),
        LOG_F("f1", s.f1), LOG_F("accuracy", entities_accuracy(t->found)));
    buf_auto struct buf table;
    buf_init(&table, LIMIT_FRAME_BYTES);
    entities_table(t->found, ENTITIES_LENIENT, &table);
    if (buf_ok(&table) && table.len)
        log_lines(table.data);
}

int train_write_found(
    struct train *t, const char *of, double loss, int64_t sentences, struct err *e)
{
    struct jsonw w;
    buf_reset(&t->report);
    jsonw_init(&w, &t->report);
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "objective", t->objective->name);
    jsonw_int(&w, "step", t->state.step);
    jsonw_open(&w, of, '{');
    jsonw_num(&w, "loss", loss);
    jsonw_int(&w, "sentences", sentences);
    entities_json(t->found, &w, "entities");
    jsonw_close(&w);
    jsonw_close(&w);
    return jsonw_end(&w) ? err_set(e, ERR_MEMORY, "no memory for a report") : 0;
}
