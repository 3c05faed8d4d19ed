/*
 * finished: the forward half of a training, of which nothing is trained. A training's loss is added
 * up on the device, micro-batch by micro-batch; here each text's is made of its logits and they are
 * added up in the file's order. Ranks take whole micro-batches, which are the same ones in any
 * world, so that no bit of what is computed depends on it.
 */
#include "runtime/train/finished.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "runtime/train/internal.h"
#include "runtime/train/world.h"

#include <math.h>

#define BUDGET_SHARE 0.9 /* as a training's */

struct finished {
    struct train t;
    struct jobspec spec; /* as of a training that ends here */
    int64_t n, done;     /* texts that are looked at; so far */
    int64_t labels, tokens;
    float *losses; /* (n) of each text; on other ranks' places 0 */
};

/* -- opening -- */

static bool has_texts(const struct finished *f)
{
    return model_config_tells_texts(&f->t.config);
}

static int open_model_files(struct finished *f, struct err *e)
{
    struct train *t = &f->t;
    int rc = weights_open(t->spec->model.source, t->spec->model.sha256, &t->weights, e);
    if (rc)
        return rc;
    t->config = *weights_config(t->weights);
    bool wanted = t->spec->evaluate.objective == EVALUATED_SEQUENCE_CLASSIFICATION;
    if (!t->config.labels || has_texts(f) != wanted)
        return err_set(e, ERR_USER,
            "spec.evaluate.objective: %s needs a model that was trained with it, and spec.model, a "
            "%s, %s",
            t->objective->name, t->config.architecture,
            !t->config.labels ? "finds no labels"
                : wanted      ? "labels words"
                              : "labels whole texts");
    if (t->spec->train.sequence_length > t->config.context)
        return err_set(e, ERR_USER,
            "spec.evaluate.sequenceLength: %d exceeds the model's context of %lld",
            t->spec->train.sequence_length, (long long)t->config.context);
    return tok_open(t->weights, &t->tok, e);
}

/* Sorted, as a training has them; a row of the model's classifier is found by its name. */
static int open_labels(struct finished *f, struct err *e)
{
    struct train *t = &f->t;
    const char *const *names = weights_labels(t->weights);
    int n = (int)t->config.labels;
    if (!names)
        return err_set(e, ERR_USER, "%s: its labels have no names", t->spec->model.source);
    int rc = data_labels_of(&t->names, names, n, !has_texts(f), e);
    if (rc)
        return err_wrap(e, "%s", t->spec->model.source);
    if (has_texts(f))
        t->names.arity = t->config.several ? DATA_ARITY_SEVERAL : DATA_ARITY_ONE;
    t->label_from = mem_array((size_t)n, sizeof *t->label_from);
    if (!t->label_from)
        return err_set(e, ERR_MEMORY, "no memory for %d labels", n);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++)
            if (!strcmp(t->names.names[i], names[k]))
                t->label_from[i] = k;
    return 0;
}

static int open_file(struct finished *f, struct err *e)
{
    struct train *t = &f->t;
    const struct jobspec_evaluate *v = &t->spec->evaluate;
    int around = tok_prefix(t->tok)->count + tok_suffix(t->tok)->count;
    if (v->sequence_length <= around)
        return err_set(e, ERR_USER,
            "spec.evaluate.sequenceLength: %d has no room for a word: the tokenizer puts %d tokens "
            "around each text",
            v->sequence_length, around);
    int rc = train_open_labelled(t, v->data, &t->test, e);
    if (rc)
        return rc;
    int64_t have = data_samples(t->test);
    f->n = v->samples && v->samples < have ? v->samples : have;
    if (data_tagged_truncated(t->test) && train_leads(t))
        log_warn("some are longer than spec.evaluate.sequenceLength: what is beyond is left out",
            LOG_S("file", v->data), LOG_I("longer", data_tagged_truncated(t->test)),
            LOG_I("of", have));
    return 0;
}

static int open_model(struct finished *f, struct err *e)
{
    struct train *t = &f->t;
    struct model_conf c = {.config = t->config,
        .t = model_type_of(t->spec->precision),
        .train = true,
        .frozen = true,
        .sequence_length = t->spec->train.sequence_length,
        .label_from = t->label_from,
        .page = t->door->page};
    struct planner_input in = {.model = c,
        .batch_sequences = f->n * t->orders->world, /* so that the world does not decide */
        .world = t->orders->world,
        .budget_bytes = (int64_t)((double)t->budget_bytes * BUDGET_SHARE)};
    const struct speed_world w = {
        .coll = t->coll, .dev = t->dev, .rank = t->orders->rank, .world = t->orders->world};
    int rc = world_plan(&w, &in, NULL, &t->plan, e);
    if (rc)
        return rc;
    c.micro_sequences = t->plan.micro_sequences;
    c.logit_rows = t->plan.logit_rows;
    if ((rc = model_create(t->dev, &c, &t->model, e)) || (rc = pass_create(t->model, &t->pass, e)))
        return rc;
    return model_load(t->model, t->weights, e);
}

static int open_host(struct finished *f, struct err *e)
{
    f->losses = mem_array((size_t)f->n, sizeof *f->losses);
    if (!f->losses)
        return err_set(e, ERR_MEMORY, "no memory for the losses of a file");
    int rc = train_open_batch(&f->t, e);
    return rc ? rc : train_found_open(&f->t, f->n, e);
}

static int tell_loaded(struct finished *f, struct err *e)
{
    struct train *t = &f->t;
    struct dev_info info;
    dev_describe(t->dev, &info);
    return door_send_fields(t->door, WIRE_LOADED,
        (struct door_field[]){{"parameters", (double)model_parameters(t->model), NULL},
            {"memory_bytes", (double)t->plan.memory.total, NULL}, {"resumed_step", 0, NULL},
            {"steps", (double)f->n, NULL}, {"device", 0, info.name}, {NULL, 0, NULL}},
        e);
}

static int open_all(struct finished *f, struct err *e)
{
    beat_phase(f->t.door->page, WIRE_PHASE_LOAD);
    int rc;
    if ((rc = open_model_files(f, e)) || (rc = open_labels(f, e)) || (rc = open_file(f, e)) ||
        (rc = open_model(f, e)) || (rc = open_host(f, e)))
        return rc;
    const struct train *t = &f->t;
    rc = world_agree(t->coll, t->orders->world, weights_digest(t->weights) ^ data_digest(t->test),
        data_samples(t->test), e);
    return rc ? rc : tell_loaded(f, e);
}

/* -- looking -- */

static int64_t sample_of(const struct finished *f, int64_t i)
{
    return i * data_samples(f->t.test) / f->n;
}

/* -ln of the probability of a label among n. */
static double loss_of(const float *logits, int64_t n, int32_t label)
{
    float most = logits[0];
    double sum = 0;
    for (int64_t i = 1; i < n; i++)
        most = logits[i] > most ? logits[i] : most;
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)(logits[i] - most));
    return log(sum) + (double)(most - logits[label]);
}

/* -ln of the probability that each label is there, or is not. */
static double loss_of_set(const float *logits, int64_t n, const int32_t *set)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = (double)(set[i] ? -logits[i] : logits[i]);
        sum += x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
    }
    return sum;
}

/* Of text i, whose labels and logits stand in row j of the micro-batch. */
static void keep_loss(struct finished *f, int64_t i, int64_t j)
{
    const struct train *t = &f->t;
    int64_t n = t->config.labels, length = t->length;
    if (t->config.several) {
        f->losses[i] = (float)loss_of_set(t->logits + j * n, n, t->labels + j * n);
        return;
    }
    const float *logits = t->logits + (has_texts(f) ? j : j * length) * n;
    double sum = 0;
    for (int64_t k = 0; k < length; k++)
        if (t->labels[j * length + k] >= 0)
            sum += loss_of(logits + (has_texts(f) ? 0 : k * n), n, t->labels[j * length + k]);
    f->losses[i] = (float)sum;
}

/* The micro-batch of texts [first, first + b) of those that are looked at. */
static int look_at(struct finished *f, int64_t first, int64_t b, struct err *e)
{
    struct train *t = &f->t;
    int64_t longest = 1;
    for (int64_t j = 0; j < b; j++) {
        int64_t n = data_tagged_length(t->test, sample_of(f, first + j));
        longest = n > longest ? n : longest;
    }
    train_set_length(t, longest);
    for (int64_t j = 0; j < b; j++)
        train_fill(t, t->test, sample_of(f, first + j), j);
    int rc = t->objective->loop->loss_fn(t, b, 0, false, e);
    if (rc || (rc = train_judge(t, first, b, e)))
        return rc;
    for (int64_t j = 0; j < b; j++) { /* judging has used the labels up */
        train_fill(t, t->test, sample_of(f, first + j), j);
        keep_loss(f, first + j, j);
    }
    return 0;
}

static int64_t lesser(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* A micro-batch on each rank; then all know whether one was asked to stop. */
static int look_together(struct finished *f, struct err *e)
{
    struct train *t = &f->t;
    int64_t micro = t->plan.micro_sequences, first = f->done + t->orders->rank * micro;
    int64_t together = lesser(micro * t->orders->world, f->n - f->done);
    beat_phase(t->door->page, WIRE_PHASE_EVALUATE);
    int rc = first < f->n ? look_at(f, first, lesser(micro, f->n - first), e) : 0;
    if (rc)
        return rc;
    int32_t stop = atomic_load(&t->door->stop);
    rc = coll_allreduce(t->coll, &stop, 1, DTYPE_I32, COLL_SUM, e);
    if (!rc && stop)
        rc = err_set(e, ERR_DRAINED, "stopped on request");
    if (rc)
        return rc;
    for (int64_t i = f->done; i < f->done + together; i++) {
        f->labels += data_tagged_labels(t->test, sample_of(f, i));
        f->tokens += data_tagged_length(t->test, sample_of(f, i));
    }
    f->done += together;
    beat_step(t->door->page, f->done);
    return 0;
}

static int tell_done(
    struct finished *f, int64_t texts, int64_t tokens, double seconds, struct err *e)
{
    return door_send_fields(f->t.door, WIRE_STEP,
        (struct door_field[]){{"step", (double)f->done, NULL}, {"loss", NAN, NULL},
            {"tokens", (double)f->tokens, NULL},
            {"tokens_per_second", seconds > 0 ? (double)tokens / seconds : 0, NULL},
            {"seconds", seconds / (double)texts, NULL}, {NULL, 0, NULL}},
        e);
}

static int look_at_all(struct finished *f, struct err *e)
{
    train_found_clear(&f->t);
    while (f->done < f->n) {
        int64_t begun = clock_ns(), done = f->done, tokens = f->tokens;
        int rc = look_together(f, e);
        double seconds = (double)(clock_ns() - begun) * 1e-9;
        if (!rc && train_leads(&f->t))
            rc = tell_done(f, f->done - done, f->tokens - tokens, seconds, e);
        if (rc)
            return rc;
    }
    int rc = train_judge_all(&f->t, e);
    return rc ? rc : coll_allreduce(f->t.coll, f->losses, f->n, DTYPE_F32, COLL_SUM, e);
}

/* -- reporting -- */

static int report(struct finished *f, struct jsonw *w, struct err *e)
{
    const struct train *t = &f->t;
    double sum = 0;
    for (int64_t i = 0; i < f->n; i++)
        sum += (double)f->losses[i];
    double loss = sum / (double)f->labels;
    jsonw_num(w, "loss", loss);
    jsonw_int(w, t->objective->samples, f->n);
    jsonw_int(w, "truncated", data_tagged_truncated(t->test));
    train_write_found(t, w);
    train_log_found(t, "evaluate", &loss);
    return door_send_fields(t->door, WIRE_EVALUATED,
        (struct door_field[]){{"step", (double)f->done, NULL}, {"loss", loss, NULL},
            {"f1", train_f1(t), NULL}, {NULL, 0, NULL}},
        e);
}

int finished_run(const struct train_conf *c, struct jsonw *w, int64_t *count, struct err *e)
{
    const struct jobspec_evaluate *v = &c->orders->spec->evaluate;
    struct finished f = {.spec = *c->orders->spec};
    f.spec.train = (struct jobspec_train){.sequence_length = v->sequence_length,
        .data.format = v->format,
        .objective = v->objective == EVALUATED_TOKEN_CLASSIFICATION
            ? OBJECTIVE_TOKEN_CLASSIFICATION
            : OBJECTIVE_SEQUENCE_CLASSIFICATION};
    f.t = (struct train){.door = c->door,
        .orders = c->orders,
        .dev = c->dev,
        .spec = &f.spec,
        .budget_bytes = c->budget_bytes,
        .coll = c->coll,
        .replicas = c->coll,
        .log_fd = -1,
        .metrics_fd = -1,
        .objective = objective_of(&f.spec.train)};
    int rc;
    if (!(rc = open_all(&f, e)) && !(rc = look_at_all(&f, e)) && train_leads(&f.t))
        rc = report(&f, w, e);
    *count = f.done;
    mem_free(f.losses);
    train_close(&f.t);
    return rc;
}
