/*
 * objective: what a training learns from its data, a row of data and functions each: which model it
 * takes and what stands above the model's last layer, how files become samples and samples inputs
 * and labels, by what number of labels sums are divided; and its loop: a step's gradient, an
 * evaluation, and what that found. The seam between training and task: open.c, train.c, evaluate.c
 * and tell.c ask for no objective by name, and each stands whole in a file of its own. Sums are
 * over labels, so what is learnt depends on neither world nor micro-batch.
 */
#ifndef RUNTIME_TRAIN_OBJECTIVE_H
#define RUNTIME_TRAIN_OBJECTIVE_H

#include "api/jobspec.h"
#include "base/err.h"
#include "runtime/ckpt/ckpt.h"
#include "runtime/data/data.h"
#include "runtime/family/config.h"

struct train; /* runtime/train/internal.h */
struct kept;
struct jsonw;

#define OBJECTIVE_SUMS 8 /* numbers that add up, of a step or an evaluation, at most */

/* By what each epoch is judged. */
struct objective_score {
    const char *name;       /* in frames: "f1" */
    const char *validation; /* in metrics.jsonl, and in the report of each epoch */
    enum ckpt_score kept;
    double (*value_fn)(const struct train *t); /* as it was found last */
};

/* All ranks call all of it, but for tell, log and write, which are rank 0's. */
struct objective_loop {
    /* When files are open, before the plan: what is kept beside it, t->host_bytes of it; and when
       the plan is made. NULL: nothing. close_fn frees both, complete or not. */
    int (*open_fn)(struct train *t, struct err *e);
    int (*host_fn)(struct train *t, struct err *e);
    void (*close_fn)(struct train *t);
    /* struct resume's; NULL: nothing */
    int (*begin_fn)(void *train, const char *identity, struct err *e);

    int (*compute_fn)(struct train *t, int64_t step, struct err *e); /* train_compute's contract */
    /* Of train_compute and train_look. fill: more of a sample than its tokens, for row j of the
       micro-batch in hand; NULL: there is no more. loss: forward of the micro-batch, b samples,
       through the objective's head, and back when told so: gradient += that of its losses times
       scale. */
    void (*fill_fn)(struct train *t, const struct data *d, int64_t sample, int64_t j);
    int (*loss_fn)(struct train *t, int64_t b, float scale, bool backward, struct err *e);
    /* Takes what came together since the last call. sums 1: losses alone, one of each step that was
       enqueued, so that steps may run ahead of the host. More: of the one step, the loss first;
       each step is told with all of them (tell_fn). */
    int (*sums_fn)(struct train *t, double *sums, struct err *e);
    int sums;

    /* means: the world's means of a label, as many as sums, the loss first. seen_fn: of train_look,
       when b samples from `first` on have gone forward; NULL: nothing. */
    int (*look_fn)(struct train *t, const struct kept *h, double *means, struct err *e);
    int (*seen_fn)(struct train *t, int64_t first, int64_t b, struct err *e);
    /* What was found last: to TensorBoard, and to the log. of: "train", "validation" or "test".
       NULL: the loss is all. */
    int (*tell_fn)(struct train *t, const char *of, const double *means, struct err *e);
    void (*log_fn)(const struct train *t, const char *of, const double *means);
    /* NULL: there is no report at the end, and no evaluation of each epoch. */
    const struct objective_score *score;
    void (*write_fn)(const struct train *t, struct jsonw *w);
};

struct objective_model { /* what must be under the head */
    const char *name;    /* "model that goes from left to right" */
    bool (*takes_fn)(const struct model_config *c);
};

struct objective {
    const char *name;    /* "CausalLM" */
    const char *samples; /* "pairs"; NULL: sequences of so many tokens */
    const struct objective_model *model;
    bool headless; /* what is learnt is of hidden states (struct model_conf) */
    bool drawn;    /* a sample is another one in each epoch: a draw (data_masked_sample) */
    int rows;      /* of a sample, which stand in one micro-batch */
    int parts;     /* of a sample, which stand anywhere */
    int evaluated; /* samples that an evaluation looks at, at most; 0: all there are */

    /* Sets what stands above the last layer in t->config, where that is nothing at first; NULL: the
       head of the next token, or none. */
    int (*head_fn)(struct train *t, struct err *e);
    int (*file_fn)(struct train *t, const char *path, struct data **out, struct err *e);
    /* One sample as inputs and labels (room each: all tokens of a row at least; `rows` of them); a
       label of -1 counts for nothing. *length: its tokens. Of train_compute and train_look. */
    void (*batch_fn)(const struct data *d, int64_t sample, int64_t room, int32_t *inputs,
        int32_t *labels, int32_t *length);
    /* Labels that count in a sample, and its tokens; NULL: sequence_length of either. */
    int64_t (*labels_fn)(const struct data *d, int64_t sample);
    int64_t (*tokens_fn)(const struct data *d, int64_t sample);
    /* Tokens of a sample's longest row; NULL: tokens_fn. */
    int64_t (*longest_fn)(const struct data *d, int64_t sample);
    const struct objective_loop *loop;
};

/* Whether each epoch is evaluated, and told of in a report at the end. */
static inline bool objective_reports(const struct objective *o)
{
    return o->loop->score;
}

/* What spec.train asks for. */
const struct objective *objective_of(const struct jobspec_train *s);

/* -- parts of several -- */

extern const struct objective_model objective_left_to_right, objective_whole;

/* -- the rows -- */

extern const struct objective objective_causal_lm, objective_masked_lm; /* objective_tokens.c */
extern const struct objective objective_words, objective_texts;         /* objective_labels.c */
extern const struct objective objective_dpo;                            /* objective_dpo.c */
extern const struct objective objective_match;                          /* objective_match.c */

#endif
