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
    /* Of an evaluation; the first one is what status and samples call the loss. */
    const struct objective_metric *metrics;
    int metric_count;
};

static inline int64_t objective_rows(const struct objective *o) /* of a sample */
{
    return o->pairs ? 2 : 1;
}

/* What spec.train asks for. */
const struct objective *objective_of(const struct jobspec_train *s);

#endif
