/*
 * train/internal: one rank's training, as the files of this folder share it: train.c is the loop,
 * open.c makes and unmakes it all, corpus.c has the text tokenised once for all ranks, gradient.c
 * computes and reduces a step's gradient, evaluate.c looks at what is held out, save.c, copies.c,
 * tell.c and generate.c are what their names say, spread.c tells of gradients, rebalance.c has the
 * shares of the batch follow measured speed. What is learnt, and what else that needs, is
 * objective_*.c's. Nobody else includes it.
 */
#ifndef RUNTIME_TRAIN_INTERNAL_H
#define RUNTIME_TRAIN_INTERNAL_H

#include "base/buf.h"
#include "runtime/ckpt/saver.h"
#include "runtime/coll/coll.h"
#include "runtime/data/data.h"
#include "runtime/door/beat.h"
#include "runtime/door/trace.h"
#include "runtime/text/tok.h"
#include "runtime/train/classes.h"
#include "runtime/train/entities.h"
#include "runtime/train/objective.h"
#include "runtime/train/optim.h"
#include "runtime/train/outer.h"
#include "runtime/train/planner.h"
#include "runtime/train/scale.h"
#include "runtime/train/several.h"
#include "runtime/train/speed.h"
#include "runtime/train/sparsity.h"
#include "runtime/train/tensorboard.h"
#include "runtime/train/train.h"

struct save_file { /* one rank's part of a checkpoint, as gathered */
    int64_t bytes;
    char hash[24]; /* 16 hex digits and NUL */
};

enum saving_phase { SAVING_NOTHING, SAVING_WRITES, SAVING_COMMITS };
struct saving {              /* the save that was begun last */
    enum saving_phase phase; /* behind the training; the same on every rank */
    struct ckpt_state state; /* as it was then */
    int64_t begun_ms, held_up_ms;
    /* (world): what each rank wrote */
    struct save_file *files;
    char (*hashes)[17];
    int64_t *sizes;
};

struct lots { /* of one step's gradient: [low, open) is ready, [open, top) is on its way */
    int64_t low, open, top;
    struct err failure;
};

struct step { /* what is known of a step once the host has looked; the same on every rank */
    double loss, grad_norm, seconds; /* grad_norm NaN: not finite, and so nothing was changed */
    double busiest_expert;           /* its share of all choices of experts; 0: there are none */
    double means[OBJECTIVE_SUMS];    /* of an objective that has more sums than the loss */
};

struct kept { /* samples that are kept for one purpose */
    const char *name;
    const struct data *from;
    int64_t start, have; /* which of `from` */
    int64_t n;           /* of them, that are looked at */
};

struct train {
    struct door *door;
    const struct orders *orders;
    struct dev *dev;
    const struct jobspec *spec;
    int64_t budget_bytes;
    struct coll *coll;     /* of the world */
    struct coll *replicas; /* of the ranks whose gradients are added: data and context axes */
    struct coll *tensor;   /* of the ranks that share its layers' matrices; or NULL */
    struct coll *pipeline; /* of the ranks that share its layers; or NULL */
    struct coll *expert;   /* of the ranks that share its layers' experts; or NULL */
    struct coll *context;  /* of the ranks that share its sequences; or NULL */
    const struct objective *objective;

    struct weights *weights, *teacher; /* the second one NULL: there is none */
    struct model_config config;
    struct tok *tok;
    struct data *data, *validation, *test;
    uint64_t tokens[3]; /* keys of their files of tokens */
    int tokens_count;
    struct data_labels names;        /* of all files, of what has labels */
    int32_t *label_from;             /* (labels) the row of each in spec.model's; NULL: none */
    int32_t *teacher_label_from;     /* the same of the teacher's */
    int64_t train_samples, held_out; /* of the training data */
    int64_t steps;
    struct planner_plan plan;
    const char *targets[LIMIT_LORA_TARGETS + 1];
    struct model *model;
    struct pass *pass;
    struct optim *optim;
    struct optim_conf optim_conf;
    struct sparsity *sparsity; /* or NULL */
    struct exchange *exchange; /* of gradients that cross in less; NULL: they do in F32 */
    struct outer *outer;       /* of local steps; or NULL */
    struct balanced *balanced; /* shares of the batch by measured speed; NULL: equal ones */
    struct shard_extra extras[EXCHANGE_PARTS + 1]; /* of both, in checkpoints */
    int extra_count;
    bool wants_stop, wants_save; /* at the next outer step */

    bool runs_ahead; /* of a device whose memory the host cannot read */
    int64_t ahead;   /* steps that there is time for between two looks; the same on every rank */
    int64_t length;  /* T of the micro-batch in hand */
    int32_t *inputs, *labels; /* (micro, train_row), host; several labels of a text: (micro, L) */
    int32_t *lengths;         /* (micro), host; told stands behind it in one piece */
    int32_t *told;            /* (micro), host; labels of each whole sequence, of a mixture of
                                 experts, else NULL */
    int32_t *first;           /* (micro, train_row), host; of packed documents, else NULL */
    int32_t *types;           /* (micro, T), host; of pairs where tokens have types, else NULL */
    float *logits;            /* (micro, T, L), of texts (micro, L), host; L labels, else NULL */
    /* What was found in what was looked at last: one of them, or, without labels, none. */
    struct entities *entities;
    struct classes *classes;
    struct several *several;
    struct buf report;   /* JSON; empty: none. Rank 0 */
    struct pairs *pairs; /* of preferences, else NULL */
    struct match *match; /* of pairs of texts, else NULL */
    int64_t host_bytes;  /* that an objective's own loop keeps, beside the plan */
    bool lots_wanted;
    struct lots lots;

    struct ckpt_state state;
    int64_t saved_step, saved_ms;
    int64_t sent_bytes;       /* when the last step was told */
    int64_t snapshot_room;    /* bytes */
    struct ckpt_saver *saver; /* NULL: the training waits for its checkpoints */
    struct saving saving;
    struct copies *copies;                /* in memory that outlives this rank; or NULL */
    char copies_told[LIMIT_REASON_BYTES]; /* of them, "": none are wanted. Rank 0 */
    struct tensorboard *board;
    struct trace *trace;       /* of spec.train.trace; or NULL */
    struct spread *spread;     /* rank 0's, of histograms; or NULL */
    struct generate *generate; /* of prompts; or NULL */
    struct buf line;           /* of the sample log, or of the metrics */
    int log_fd, metrics_fd;    /* metrics: rank 0's, else -1 */
};

static inline bool train_leads(const struct train *t)
{
    return t->orders->rank == 0;
}

static inline struct place train_place(const struct train *t)
{
    return layout_place(&t->plan.layout, t->orders->rank);
}
/* Which part of the batch is a rank's, and this one's, of how many. Those that share layers or
   their matrices see the same samples; those that share experts their own, as replicas do. */
static inline int train_part_of(const struct train *t, int rank)
{
    const struct place p = layout_place(&t->plan.layout, rank);
    return p.dp * t->plan.layout.ep + p.ep;
}
static inline int train_part(const struct train *t)
{
    return train_part_of(t, t->orders->rank);
}
static inline int train_parts(const struct train *t)
{
    return t->plan.layout.dp * t->plan.layout.ep;
}
/* Those that have the same weights, whose gradients are added. */
static inline struct layout_group train_same(const struct train *t)
{
    return layout_replicas(&t->plan.layout, t->orders->rank);
}
/* Tokens of a row: those of a sequence, or this rank's of them. */
static inline int64_t train_row(const struct train *t)
{
    return t->length / t->plan.layout.cp;
}
/* Of the ranks with the same tokens, the one whose losses count in sums over the world. */
static inline bool train_counts(const struct train *t)
{
    const struct place p = train_place(t);
    return p.tp == 0 && p.pp + 1 == t->plan.layout.pp;
}
static inline int train_stage(const struct train *t)
{
    return train_place(t).pp;
}
/* Runs of layers that a stage has. */
static inline int train_chunks(const struct train *t)
{
    return t->plan.chunks > 1 ? t->plan.chunks : 1;
}
/* Do ranks meet in each forward or backward, so that all need as many? */
static inline bool train_meets(const struct train *t)
{
    return t->plan.zero_stage > 1;
}
/* Has it only some of the layers? */
static inline bool train_is_staged(const struct train *t)
{
    return t->plan.layout.pp > 1;
}

/* Whatever train_open made, complete or not, is train_close's to free. */
int train_open(struct train *t, struct err *e);
void train_close(struct train *t);
/* What it makes of the job, for one who only plans, too: with t's configuration of the model, its
   objective, and files where they are open. in's rank and rows are the caller's to set. */
#define TRAIN_GPU_ROWS 65536 /* of a micro-batch: enough that launches and tails do not count */
struct model_conf train_model_conf(struct train *t);
/* Which shares it leaves out (dropout.c); ERR_USER or ERR_DATA: modelDropout, of a model that does
   not say. */
struct model_dropout train_dropout(const struct train *t);
int train_check_dropout(const struct train *t, struct err *e);
struct optim_conf train_optim_conf(const struct train *t);
int train_planner_input(const struct train *t, const struct model_conf *model, int world,
    int64_t budget_bytes, struct planner_input *out, struct err *e);
/* Ranks of each pod, neighbours; 1: not all pods have as many. Of a training without orders, which
   is only planned, as many as the job says. */
int train_ranks_of_pods(const struct train *t);
/* A part of it, when the plan is made: what a micro-batch is filled in. */
int train_open_batch(struct train *t, struct err *e);

/* Of a file of tokens, made of path. */
typedef int train_tokens_fn(
    const struct train *t, const char *path, const char *tokens, struct data **out, struct err *e);
/* Of running text or documents, path being a file of the user's; all ranks call. */
int train_open_corpus(
    struct train *t, const char *path, train_tokens_fn *open, struct data **out, struct err *e);
/* Rank 0's: files of tokens go that none of what is open was made of. */
void train_sweep_corpus(const struct train *t);

/* Have all ranks the same weights after the step that was taken last? */
static inline bool train_shares(const struct train *t)
{
    int64_t local = t->spec->train.communication.local_steps;
    return !t->outer || t->state.step % local == 0 || t->state.step == t->steps;
}

/* Which positions of the corpus order are this rank's in a step. */
void train_share(const struct train *t, int64_t step, int64_t *first, int64_t *count);
/* Of the global batch of a step, so the same on every rank: labels that count, and tokens. */
int64_t train_labels(const struct train *t, int64_t step);
/* The same of what one gradient is the mean of: in local steps of this rank's share. */
int64_t train_own_labels(const struct train *t, int64_t step);
int64_t train_tokens(const struct train *t, int64_t step);
/* Makes the next micro-batches as long as the longest of their sequences needs. */
void train_set_length(struct train *t, int64_t longest);
/* Tokens of a sample's longest row. */
int64_t train_longest(const struct train *t, const struct data *d, int64_t sample);
/* A sample becomes row j, or rows 2j and 2j + 1, of the micro-batch in hand. */
void train_fill(struct train *t, const struct data *d, int64_t sample, int64_t j);
/* This rank's share of the global batch, micro-batch by micro-batch: gradients and losses are added
   up on the device, and what of the gradient is complete is sent off meanwhile. */
int train_compute(struct train *t, int64_t step, struct err *e);
/* Where train_meets: goes with the micro-batches that others still have of n samples, which are
   shared out, when this rank's `count` are done. */
int train_skip_rest(struct train *t, int64_t n, int64_t count, bool backward, struct err *e);
/* The sample at a position of the training order; of hidden tokens another one in each epoch. */
int64_t train_sample_at(const struct train *t, int64_t position);
/* The same of a stage of a pipeline: forward and backward of samples [first, first + count) of the
   training order; and forward of the micro-batch in hand. */
int train_pipeline(struct train *t, int64_t first, int64_t count, float scale, struct err *e);
int train_pipeline_look(struct train *t, int64_t b, struct err *e);
/* Micro-batches that a rank has for its `count` of n samples that are shared out: as many as
   whoever has most of them, where ranks need each other in each. */
int64_t train_rounds(const struct train *t, int64_t n, int64_t count);
/* One in which this rank has no sample left: others' rows come to its experts. Nothing is learnt of
   what it shows, and no loss counts. fill: it is the micro-batch in hand, of one sequence. */
void train_fill_idle(struct train *t);
int train_idle(struct train *t, float scale, bool backward, struct err *e);
/* Of one's own loop: before the first backward of a step, and before each. last: what of the
   gradient is complete may leave. */
void train_begin_gradient(struct train *t);
void train_begin_backward(struct train *t, bool last);
/* pass_loss, as an objective's sums_fn */
int train_losses(struct train *t, double *sums, struct err *e);

/* -- shares by measured speed: rebalance.c; all ranks call -- */

/* When the plan is made. each: (world), how fast every rank was found to be. */
int train_open_balance(struct train *t, const struct speed_rank *each, struct err *e);
void train_close_balance(struct train *t);
/* As data_share. */
void train_balanced_share(const struct train *t, int64_t *first, int64_t *count);
/* Of a step's forward and backward, which began at start_ns and may still be under way on the
   device, but for what ranks of other shares are waited for. */
int train_time_step(struct train *t, int64_t start_ns, struct err *e);
/* Behind a step that counts for it: from the next one on shares are what times since the last
   decision say, where that gains enough. */
int train_rebalance(struct train *t, struct err *e);
/* Rank 0's: what it came to, to the log and as a frame. */
int train_tell_balance(struct train *t, struct err *e);

/* Sends off the rest; what is enqueued next on the device runs behind the reduction. */
int train_reduce(struct train *t, struct err *e);

/* The loss of a fixed set of held-out sequences, on all ranks; and, where entities are found, the
   report. */
int train_evaluate(struct train *t, struct err *e);
/* The same of the test's sequences, if there are any, when all is trained; makes t->report, with
   what the epochs came to. */
int train_test(struct train *t, struct err *e);

/* The usual look_fn: all that is kept goes forward, a share on each rank, and the sums become
   everybody's means. */
int train_look(struct train *t, const struct kept *h, double *means, struct err *e);
/* Sample i of those that evaluations look at, and of which data; i < 0: how many there are. */
int64_t train_looked_at(const struct train *t, int64_t i, const struct data **from);

/* -- what classifiers find: objective_labels.c, for an evaluation without a training too -- */

/* When labels are known. *out, the caller's to free: the row of each in w's classifier, which has
   the same names of the same kind; else NULL. */
int train_match_labels(const struct train *t, struct weights *w, int32_t **out, struct err *e);
/* t->names has been made. Warns of nothing. */
int train_open_labelled(struct train *t, const char *path, struct data **out, struct err *e);
/* open: when the plan is made; `most` samples are looked at, at most. judge: in the micro-batch of
   b samples, from `first` on of those that are looked at, that went forward last, whose labels
   t->labels still holds; both it and t->inputs are used up. judge_all: makes it the world's. The
   others are rank 0's. `of`: "validation" or "test". */
int train_found_open(struct train *t, int64_t most, struct err *e);
void train_found_close(struct train *t);
void train_found_clear(struct train *t);
int train_judge(struct train *t, int64_t first, int64_t b, struct err *e);
int train_judge_all(struct train *t, struct err *e);
double train_f1(const struct train *t);
void train_log_found(const struct train *t, const char *of, const double *means);
void train_write_found(const struct train *t, struct jsonw *w);

/* Makes the zeros that are due after a step, 0: before the first; all ranks call. */
int train_prune(struct train *t, int64_t step, struct err *e);
/* A checkpoint of state.step, unless that is saved already; what is on its way is waited for. All
   ranks call. SAVE_BEHIND: if there is a saver, it is written while the training goes on. */
enum save_how { SAVE_NOW, SAVE_BEHIND };
int train_save(struct train *t, enum save_how how, struct err *e);
/* Whether this rank is still busy with one; fails if that has. */
int train_saving(struct train *t, bool *busy, struct err *e);
/* Once no rank is, at the same step on all. */
int train_save_goes_on(struct train *t, struct err *e);
/* When the state is there that is saved, and all ranks call: from then on it can be. */
int train_open_saver(struct train *t, struct err *e);
void train_close_saver(struct train *t);
/* What this rank writes of a checkpoint. */
int train_put_slice(struct train *t, struct ckpt_writer *w, struct err *e);
/* Describes what is saved now. */
void train_describe(const struct train *t, struct ckpt_state *s);

/* -- copies in memory: copies.c; all ranks call -- */

/* Steps between two; 0: none are wanted. */
int64_t train_copy_period(const struct train *t);
/* When the state is there that is copied. */
int train_open_copies(struct train *t, struct err *e);
void train_close_copies(struct train *t);
int64_t train_copy_bytes(const struct train *t); /* of memory for them */
/* Of state.step, if one is due: in this pod when it returns, and on its way to another. */
int train_copy(struct train *t, struct err *e);
/* Until the last one has come there: before the next step counts. */
int train_copied(struct train *t, struct err *e);
/* The training is over, and what it came to on storage: their memory goes back. */
void train_drop_copies(struct train *t);

/* Rank 0's: the step as frame and as TensorBoard's points; and, with the ranks that share its
   model, what that says. All ranks call. */
int train_tell_step(struct train *t, const struct step *s, struct err *e);
int train_tell_metric(struct train *t, const char *name, double value, struct err *e);
/* "name/of" */
int train_tell_figure(
    struct train *t, const char *name, const char *of, double value, struct err *e);
/* A line of metrics.jsonl. */
int train_log_metrics(struct train *t, const struct door_field *fields, struct err *e);
int train_tell(
    struct train *t, enum wire_type type, const struct door_field *fields, struct err *e);
/* Of the step that is over, if they are due: rank 0's histograms, where its gradient was finite;
   and what the model says, which all ranks call. */
int train_open_spread(struct train *t, struct err *e);
int train_tell_spread(struct train *t, struct err *e);
int train_open_generate(struct train *t, struct err *e);

/* The model of spec.train.distill, if any; tokenizer and head of the own are known (teacher.c). */
int train_open_teacher(struct train *t, struct err *e);
void train_close_generate(struct train *t);
int train_generate(struct train *t, struct err *e);
/* Every rank's: a line of the samples that a step consumed, when its update has been made. */
int train_log_samples(struct train *t, int64_t step, struct err *e);

#endif
