/*
 * train/objective_labels: classifiers. TokenClassification predicts the label of each word at its
 * first token (Devlin et al. 2019, 5.3), SequenceClassification that of a text at its first token,
 * [CLS], through the pooler (4.1), or at its last one; padding is not attended to. What is found:
 * the greatest logit is the label. Where labels are of entities these are counted, sentence by
 * sentence, else the labels themselves; counts are whole numbers that are added up over the ranks.
 * Then the report, to the log, to TensorBoard and as JSON.
 */
#include "runtime/train/internal.h"

#include "base/log.h"
#include "base/mem.h"
#include "runtime/family/family.h"

#include <math.h>

#define TRUNCATED_TEXTS \
    "texts are longer than spec.train.sequenceLength: what is beyond is left out"
#define TRUNCATED_SENTENCES \
    "sentences are longer than spec.train.sequenceLength: what is beyond is left out, with its " \
    "labels"

/* -- labels and files -- */

static int row_of(const char *const *labels, int64_t count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(labels[i], name))
            return i;
    return -1;
}

/* A classifier of the same names is gone on with, whatever their order; one of others means
   something else. */
int train_match_labels(const struct train *t, struct weights *w, int32_t **out, struct err *e)
{
    const struct model_config *has = weights_config(w);
    const char *const *labels = weights_labels(w);
    int n = t->names.count;
    *out = NULL;
    if (!labels || !model_config_same_labels(has, &t->config))
        return 0;
    mem_autofree int32_t *from = mem_array((size_t)n, sizeof *from);
    if (!from)
        return err_set(e, ERR_MEMORY, "no memory for %d labels", n);
    for (int i = 0; i < n; i++)
        if ((from[i] = row_of(labels, n, t->names.names[i])) < 0)
            return 0;
    *out = from;
    from = NULL;
    return 0;
}

/* Of all files: what stands in a later one alone has a number, too, though nothing learns it. */
static int learn_labels(struct train *t, bool texts, struct err *e)
{
    const struct jobspec_train *s = &t->spec->train;
    const char *const files[] = {s->data.train, s->data.validation, s->data.test};
    int trained = 0;
    for (int i = 0; i < 3; i++) {
        int rc = !files[i] ? 0
            : texts        ? data_labels_learn_texts(&t->names, files[i], s->data.format, e)
                           : data_labels_learn_words(&t->names, files[i], e);
        if (rc)
            return rc;
        trained = i ? trained : t->names.count;
    }
    if (t->names.count > trained && train_leads(t))
        log_warn("some labels stand in no text that is trained on",
            LOG_I("labels", t->names.count - trained), LOG_I("of", t->names.count));
    t->config.labels = t->names.count;
    t->config.several = t->names.arity == DATA_ARITY_SEVERAL;
    t->config.pooled = texts && t->config.bidirectional;
    t->config.last = texts && !t->config.bidirectional;
    return train_match_labels(t, t->weights, &t->label_from, e);
}

static int words_head(struct train *t, struct err *e)
{
    return learn_labels(t, false, e);
}

static int texts_head(struct train *t, struct err *e)
{
    return learn_labels(t, true, e);
}

int train_open_labelled(struct train *t, const char *path, struct data **out, struct err *e)
{
    const struct jobspec_train *s = &t->spec->train;
    return model_config_tells_texts(&t->config)
        ? data_open_texts(path, s->data.format, t->tok, s->sequence_length, &t->names, out, e)
        : data_open_tagged(path, t->tok, s->sequence_length, &t->names, out, e);
}

static int labels_file(struct train *t, const char *path, struct data **out, struct err *e)
{
    bool texts = model_config_tells_texts(&t->config);
    int rc = train_open_labelled(t, path, out, e);
    if (rc)
        return rc;
    if (data_tagged_truncated(*out) && train_leads(t))
        log_warn(texts ? TRUNCATED_TEXTS : TRUNCATED_SENTENCES, LOG_S("file", path),
            LOG_I(t->objective->samples, data_tagged_truncated(*out)),
            LOG_I("of", data_samples(*out)));
    return 0;
}

/* -- what is found -- */

static int32_t greatest(const float *logits, int64_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

int train_found_open(struct train *t, int64_t most, struct err *e)
{
    const char *const *names = (const char *const *)t->names.names;
    bool texts = model_config_tells_texts(&t->config);
    int64_t rows = t->plan.micro_sequences * (texts ? 1 : t->spec->train.sequence_length);
    t->logits = mem_array((size_t)rows * (size_t)t->config.labels, sizeof *t->logits);
    if (!t->logits)
        return err_set(e, ERR_MEMORY, "no memory for the labels of a micro-batch");
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
    mem_free(t->logits);
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
        rc = model_config_tells_texts(&t->config)
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
        return coll_allreduce(t->replicas, points, n, DTYPE_F32, COLL_SUM, e);
    }
    int32_t *counts =
        t->entities ? entities_counts(t->entities, &n) : classes_counts(t->classes, &n);
    int rc = coll_allreduce(t->replicas, counts, n, DTYPE_I32, COLL_SUM, e);
    if (rc || t->entities)
        return rc;
    float *scores = classes_scores(t->classes, &n);
    return n ? coll_allreduce(t->replicas, scores, n, DTYPE_F32, COLL_SUM, e) : 0;
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

static int labels_tell(struct train *t, const char *of, const double *means, struct err *e)
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
    (void)means;
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        double value = points[i].value;
        int rc = isnan(value) ? 0 : train_tell_figure(t, points[i].name, of, value, e);
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

void train_log_found(const struct train *t, const char *of, const double *means)
{
    buf_auto struct buf table;
    buf_init(&table, LIMIT_FRAME_BYTES);
    if (t->entities) {
        log_info("entities", LOG_S("of", of), LOG_I("step", t->state.step), LOG_F("loss", means[0]),
            LOG_F("f1", train_f1(t)), LOG_F("accuracy", accuracy_of(t)));
        entities_table(t->entities, ENTITIES_LENIENT, &table);
    } else {
        log_info("labels", LOG_S("of", of), LOG_I("step", t->state.step), LOG_F("loss", means[0]),
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

/* -- the loop -- */

static int64_t most_looked_at(const struct train *t)
{
    int64_t validation = t->validation ? data_samples(t->validation) : t->held_out;
    int64_t test = t->test ? data_samples(t->test) : 0;
    return validation > test ? validation : test;
}

static int labels_host(struct train *t, struct err *e)
{
    return train_found_open(t, most_looked_at(t), e);
}

static int labels_loss(struct train *t, int64_t b, float scale, bool backward, struct err *e)
{
    const struct pass_input in = {
        .ids = t->inputs, .lengths = t->lengths, .types = t->types, .targets = t->labels};
    return pass_step(t->pass, b, &in, scale, backward, NULL, e);
}

static int labels_look(struct train *t, const struct kept *h, double *means, struct err *e)
{
    train_found_clear(t);
    int rc = train_look(t, h, means, e);
    return rc ? rc : train_judge_all(t, e);
}

static const struct objective_score f1 = {"f1", "validationF1", CKPT_SCORE_F1, train_f1};

static const struct objective_loop loop = {
    .host_fn = labels_host,
    .close_fn = train_found_close,
    .compute_fn = train_compute,
    .loss_fn = labels_loss,
    .sums_fn = train_losses,
    .sums = 1,
    .look_fn = labels_look,
    .seen_fn = train_judge,
    .tell_fn = labels_tell,
    .log_fn = train_log_found,
    .score = &f1,
    .write_fn = train_write_found,
};

/* Samples of labelled words and texts are of one form. */
#define LABELS \
    .rows = 1, .parts = 1, .file_fn = labels_file, .batch_fn = data_tagged_sample, \
    .labels_fn = data_tagged_labels, .tokens_fn = data_tagged_length, .loop = &loop

const struct objective objective_words = {.name = "TokenClassification",
    .samples = "sentences",
    .model = &objective_whole,
    .head_fn = words_head,
    LABELS};

static bool tells_texts(const struct model_config *c)
{
    return c->bidirectional || family_of(c)->text_class;
}

static const struct objective_model text_models = {
    "bert, llama, qwen2, qwen3 or mistral model", tells_texts};

const struct objective objective_texts = {.name = "SequenceClassification",
    .samples = "texts",
    .model = &text_models,
    .head_fn = texts_head,
    LABELS};
