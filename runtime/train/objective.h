/*
 * objective: what a training learns from its data: how a sample becomes inputs and labels, through
 * which head the loss comes, by what number of labels sums are divided, and which metrics a sum of
 * losses makes. The seam between data and loop: the loop knows no task, an objective knows no
 * world, no step and no micro-batch. Sums are over labels, so what is learnt depends on neither.
 */
#ifndef RUNTIME_TRAIN_OBJECTIVE_H
#define RUNTIME_TRAIN_OBJECTIVE_H

#include "api/jobspec.h"
#include "base/err.h"
#include "runtime/data/data.h"
#include "runtime/model/pass.h"

struct train; /* runtime/train/internal.h */
struct jsonw;

/* Of an objective where the loss of a sample depends on the others of its batch, and what an
   evaluation finds is no labels. All ranks call open, compute and look; the others are rank 0's. */
struct objective_loop {
    int sequences;       /* of a sample */
    const char *samples; /* "pairs" */
    int (*file_fn)(struct train *t, const char *path, struct data **out, struct err *e);
    /* When files are open: makes what is kept for a step and an evaluation, t->host_bytes of it. */
    int (*open_fn)(struct train *t, struct err *e);
    void (*close_fn)(struct train *t);
    int (*compute_fn)(struct train *t, int64_t step, struct err *e); /* train_compute's contract */
    /* Of samples [start, start + n); *loss: their mean, the same on every rank. */
    int (*look_fn)(struct train *t, const struct data *from, int64_t start, int64_t n, double *loss,
        struct err *e);
    /* What was found last. of: "validation" or "test". */
    double (*match_fn)(const struct train *t);
    int (*tell_fn)(struct train *t, const char *of, struct err *e);
    void (*log_fn)(const struct train *t, const char *of, double loss);
    void (*write_fn)(const struct train *t, struct jsonw *w);
};

struct objective_metric {
    const char *name;                /* TensorBoard's tag, but for "/validation" or "/test" */
    double (*value_fn)(double loss); /* from the mean loss of a label */
};

struct objective {
    const char *name;   /* "CausalLM" */
    bool bidirectional; /* needs a model that sees the whole of a text; else what came before */
    /* What has the labels that a classifier learns; each epoch is evaluated by what it finds. */
    enum objective_labels {
        OBJECTIVE_LABELS_NONE,
        OBJECTIVE_LABELS_WORDS,
        OBJECTIVE_LABELS_TEXTS
    } labels;
    /* A sample is two rows, whose loss (runtime/train/preference.h) is no sum over tokens: batch_fn
       writes both rows and both lengths, and there is no loss_fn. */
    bool pairs;
    bool
        masked; /* tokens are hidden, others in each epoch: a sample is data_masked_sample's draw */
    int evaluated; /* sequences that an evaluation looks at, at most; 0: all there are */
    /* One sample as inputs and labels (room each: all of its tokens at least); a label of -1 counts
       for nothing. *length: its tokens. */
    void (*batch_fn)(const struct data *d, int64_t sample, int64_t room, int32_t *inputs,
        int32_t *labels, int32_t *length);
    /* Labels that count in a sample, and its tokens; NULL: sequence_length of either. */
    int64_t (*labels_fn)(const struct data *d, int64_t sample);
    int64_t (*tokens_fn)(const struct data *d, int64_t sample);
    /* Tokens of a sample's longest row; NULL: tokens_fn. */
    int64_t (*longest_fn)(const struct data *d, int64_t sample);
    /* Forward through the objective's head, and back when told so: pass_step's contract. */
    int (*loss_fn)(struct pass *p, int64_t b, const struct pass_input *in, float scale,
        bool backward, struct err *e);
    const struct objective_loop *loop; /* NULL: the usual one; batch_fn and loss_fn are its own */
    /* Of an evaluation; the first one is what status and samples call the loss. */
    const struct objective_metric *metrics;
    int metric_count;
};

static inline int64_t objective_rows(const struct objective *o) /* of a sample */
{
    return o->pairs ? 2 : 1;
}

/* Whether each epoch is evaluated, and told of in a report at the end. */
static inline bool objective_reports(const struct objective *o)
{
    return o->labels || o->loop;
}

/* What spec.train asks for. */
const struct objective *objective_of(const struct jobspec_train *s);

#endif
