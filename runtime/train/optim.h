/*
 * optim: the update of the weights in one step, with the learning-rate schedule and clipping by the
 * global norm of the gradient, which stays on the device: a step waits for nothing. Decay applies
 * to matrices, not to norms and biases. The optimizers:
 *
 *     AdamW      Loshchilov, Hutter, arXiv:1711.05101, as torch.optim.AdamW
 *     SGD        with heavy-ball momentum, as torch.optim.SGD: decay is added to the gradient
 *     Lion       Chen et al., arXiv:2302.06675
 *     Adafactor  Shazeer, Stern, arXiv:1804.04235, as torch.optim.Adafactor: the rate is
 *                min(learning rate, 1 / sqrt(step)) times the weights' root mean square
 *     Muon       of the matrices inside layers, as torch.optim.Muon (runtime/train/muon.h); its
 *                rate is 0.2 sqrt(max(rows, columns)) times the learning rate, so that its updates
 *                are as large as AdamW's (arXiv:2502.16982), by which all else is trained
 *
 * State is device memory of this module, or a file that is mapped in its place (offload.h), and
 * goes by tensor: optim_state is what a checkpoint has. Numbers are F32 or BF16, or, of matrices
 * that embed nothing, of 4096 elements and more, codes of 8 bits with a scale for each
 * OP_STATE_BLOCK elements of the tensor (kernels/ops.h); never so Adafactor's.
 *
 * Where the model has owners (model_conf), state is divided (ZeRO, arXiv:1910.02054): each rank
 * updates a slice of the flat range, which it alone keeps state of and needs the gradient of, and
 * all take the others' masters, or their copy. Slices end where the optimizer can be cut: anywhere
 * where it goes by element, at the blocks of codes, else between tensors. They change no weight,
 * but for the rounding of the gradient's norm, which all get from the sums of all slices.
 */
#ifndef RUNTIME_TRAIN_OPTIM_H
#define RUNTIME_TRAIN_OPTIM_H

#include "base/err.h"
#include "api/jobspec.h"
#include "runtime/model/pass.h"
#include "runtime/train/adalora.h"

#include <stdint.h>

struct optim_conf {
    enum optimizer_name name;
    double learning_rate, weight_decay, beta1, beta2, epsilon;
    double momentum;  /* of SGD, 0: none; and of Muon */
    double clip_norm; /* 0: off */
    enum lr_schedule schedule;
    double min_learning_rate; /* of Cosine, Linear and WSD */
    int64_t warmup_steps, steps;
    int64_t decay_steps; /* of WSD; 0: a tenth of all */
    double layer_decay;  /* 1 or 0: off */
    int64_t masks_from;  /* the first step whose update leaves what is zero in the layers' matrices
                            zero (runtime/train/sparsity.h); 0: none does */
    struct adalora_conf adalora; /* of adapters whose ranks are chosen */
    enum optimizer_state state;
    const char *offload; /* a folder: state is in a file there; NULL: in memory */
    bool own_state;      /* each rank's is another's: local steps (outer.h) */
    uint64_t seed;       /* of what BF16 states are rounded by */
    /* Of those that share the model; NULL: nobody does. */
    struct coll *tensor, *expert, *pipeline;
};

/* The rate of step s = 1 .. steps: linear warm-up to learning_rate over warmup_steps, then the
   same, or down to min_learning_rate after the last step: by a cosine, a line, or, WSD, over the
   last decay_steps by 1 - sqrt (Haegele et al., arXiv:2405.18392). Pure. */
double optim_rate(const struct optim_conf *c, int64_t step);

/* What an optimizer, m->optimizer, an optim_conf, will take beside a model of m whose trained
   tensors are t, in bytes of memory; a model_conf's optimizer_fn. */
int64_t optim_bytes(const struct model_conf *m, const struct tensors *t);

/* The same of what of its state belongs to [from, to) of the flat range: at most what optim_state
   shows there. */
int64_t optim_state_bytes(
    const struct optim_conf *c, const struct tensors *t, int64_t from, int64_t to);

/* [*first, *first + *count) of the flat range of t: the slice of one of so many ranks. Slices are
   in the order of ranks, disjoint, and cover it; some may be empty. Pure. */
void optim_slice(const struct optim_conf *c, const struct tensors *t, int ranks, int rank,
    int64_t *first, int64_t *count);

/* The same of a model whose optimizer is m->optimizer; a model_conf's slice_fn. */
void optim_owns(
    const struct model_conf *m, const struct tensors *t, int owner, int64_t *first, int64_t *count);

struct optim;
int optim_create(
    struct dev *d, const struct optim_conf *c, struct pass *p, struct optim **out, struct err *e);
void optim_destroy(struct optim *o);
const struct optim_conf *optim_conf(const struct optim *o);
/* How many of the elements [first, end) of the flat range each owner updates, in their order; good
   until the next call. NULL: state is not divided, and all update all. */
const int64_t *optim_counts(struct optim *o, int64_t first, int64_t end);
/* Of FP16: the gradient has been multiplied by `scale`, and `skipped` of the steps before changed
   nothing: they are none of those that AdamW and Adafactor count. Holds from the next step on. */
void optim_set_scale(struct optim *o, double scale, int64_t skipped);
/* Enqueues one update from the model's gradient, which must be whole. grad_norm not NULL: looks at
   the norm before (as optim_norm does; nothing is changed when it fails), and waits for the end.
   With owners all ranks call, and what is started in the model's collective is joined. */
int optim_step(struct optim *o, int64_t step, double *grad_norm, struct err *e);
/* Behind the update of a step, of adapters whose ranks are chosen (runtime/train/adalora.h); waits
   for the device in the steps that choose. */
int optim_choose(struct optim *o, int64_t step, struct err *e);
/* Zeros were made in the layers' matrices: their state, F32, becomes zero, too. Adafactor's, means
   of rows and columns, stays. Enqueues. */
void optim_masters_pruned(struct optim *o);
/* Waits for the device; the norm that the update of `step`, one of the last PASS_AHEAD, was made
   with. ERR_USER when it is not finite: then that update has changed nothing. The tensor where
   backward met that first is named where the gradient still stands: `step` is the last one. */
int optim_norm(struct optim *o, int64_t step, double *grad_norm, struct err *e);

/* The same norm, also where it is not finite. */
int optim_look(struct optim *o, int64_t step, double *grad_norm, struct err *e);

#define OPTIM_STATES (2 + ADALORA_STATES)
struct optim_state {
    const char *suffix;   /* behind the tensor's name: ".exp_avg" */
    enum dtype type;      /* F32, BF16, U8 */
    void *at;             /* device */
    int64_t total;        /* elements of the tensor's; 0: none */
    int64_t first, count; /* which of them are here */
    float *scale;         /* device: of U8, of its blocks */
    int64_t total_scales, first_scale, scales;
};
/* The k-th, 0 .. OPTIM_STATES - 1, of the i-th tensor of model_trained. */
struct optim_state optim_state(const struct optim *o, int i, int k);
/* n bytes of it were read or written, and need not stay in memory. */
void optim_let_go(const struct optim *o, const void *at, int64_t n);

#endif
