/*
 * pass: a model in training: forward over a micro-batch, and backward to the gradient of what is
 * trained. All memory is allocated at create; a step only enqueues, but where it says that it
 * waits. The gradient is one flat F32 range beside the model's masters, in the memory of the
 * collectives when the configuration names some.
 */
#ifndef RUNTIME_MODEL_PASS_H
#define RUNTIME_MODEL_PASS_H

#include "base/err.h"
#include "runtime/model/memplan.h"
#include "runtime/model/model.h"

/* Steps whose losses (and, in optim, norms) the device keeps apart before the host looks. */
#define PASS_AHEAD 4

struct pass;

/* m is borrowed until destroy. */
int pass_create(struct model *m, struct pass **out, struct err *e);
void pass_destroy(struct pass *p);
struct model *pass_model(const struct pass *p);
/* The model to load a teacher's weights into; NULL: there is none. */
struct model *pass_teacher(const struct pass *p);
/* Device F32: of all that is trained, or, where ranks divide it, of this rank's slice; whole when
   pass_share_gradient has been called. */
float *pass_gradient(const struct pass *p);
/* The same at an element of the flat range, one that is kept. */
float *pass_gradient_at(const struct pass *p, int64_t at);
void pass_zero_gradient(struct pass *p);
/* Adds its part of the plan. */
int pass_plan(struct model *m, struct memplan *plan, struct err *e);

/* Where ranks share sequences (context.h), T is what this one has of each: its two chunks; lengths
   and told are of whole sequences. */
struct pass_input {         /* host */
    const int32_t *ids;     /* (b, T) */
    const int32_t *lengths; /* (b) only so many tokens of each sequence exist; NULL: all T */
    const int32_t *first;   /* (b, T) where in its sequence the document of each token begins;
                               NULL: at 0. Of models that see what came before, and are packed */
    const int32_t *types;   /* (b, T) of each token; NULL: 0. Of models that have types */
    const int32_t *told;    /* (b) how many targets of each sequence have a loss, where ranks share
                               it; NULL: those of targets. Of mixtures of experts */
    /* Where a label is told at the last token: the last of each sequence that is not the
       configuration's padding (transformers' rule). */
    const int32_t *targets; /* (b, T) tokens, or labels where the model has them (of a text at
                               its first token); -1: no loss. Of masked tokens, what they were.
                               Where texts have several labels, (b, labels): 1 has it, 0 not */
};

/* Forward over b sequences, then, when backward, gradient += with dlogits scaled by `scale`; with a
   teacher its predictions are then in loss and gradient (op_distill).
   Documents see nothing of each other, and their positions begin at 0.
   *loss_sum: sum over tokens of -log p; NULL: nothing is waited for, and the sum is added on the
   device to what pass_loss tells. */
int pass_step(struct pass *p, int64_t b, const struct pass_input *in, float scale, bool backward,
    double *loss_sum, struct err *e);
/* The same in two steps, for a loss that is no sum over tokens, of a model without labels.
   forward: sums (b), host: of each sequence, over its targets, -log p. drops: dropout leaves
   something out. Waits for the device. backward: of the last forward, gradient += with dlogits of
   sequence i times scales[i] (b), host; enqueues. Neither adds to what pass_loss tells. */
int pass_forward(struct pass *p, int64_t b, const struct pass_input *in, bool drops, double *sums,
    struct err *e);
void pass_backward(struct pass *p, const float *scales);
/* Of a model of next tokens, between two steps: forward over one sequence, ids (T), and the logits
   (V), host F32, of what follows its first n tokens. Changes and adds nothing, and takes no memory
   of its own. Waits for the device. Of a model that ranks share all of them call, and have the same
   logits. */
int pass_next(struct pass *p, const int32_t *ids, int64_t n, float *logits, struct err *e);
/* Of a share of the model, when a step's backward is done: what several ranks have and each used
   for its share gets the gradient that it has in the whole. Where ranks divide the gradient, what
   has not gone to its owners yet goes. */
int pass_share_gradient(struct pass *p, struct err *e);
/* Where ranks divide gradient or weights: in place of a pass_step that only others have a batch
   for. */
int pass_skip(struct pass *p, bool backward, struct err *e);

/* -- a stage of a pipeline: model_conf.stages > 1, in place of pass_step -- */
struct pass_part {
    int64_t b; /* sequences; 0: there is none */
    int64_t k; /* micro-batch */
    int chunk; /* of the stage's layers; 0 where all are one */
};
/* What goes between this stage and its neighbours, all at once; behind the last stage is the first,
   for its next chunk. What there is nobody for, below the first layer and above the last, is left
   out. */
struct pass_traffic {
    struct pass_part input;           /* what its forward begins with comes from the stage before */
    struct pass_part output;          /* what the last forward ended with goes to the next */
    struct pass_part output_gradient; /* its gradient, of a part whose backward is next, comes */
    struct pass_part input_gradient;  /* what the last backward ended with goes to the one before */
};
int pass_stage_exchange(struct pass *p, const struct pass_traffic *x, struct err *e);
/* Forward of a part: of a chunk's whose backward is still to come there are at most
   model_conf.in_flight, neighbours in k. Above the last layer its losses are added to what
   pass_loss tells, and its backward follows at once. in and scale: the same for both. */
int pass_stage_forward(struct pass *p, const struct pass_part *x, const struct pass_input *in,
    float scale, bool backward, struct err *e);
int pass_stage_backward(struct pass *p, const struct pass_part *x, const struct pass_input *in,
    float scale, struct err *e);
/* Whether tokens that do not exist would change what is learnt, though no other sees them: of a
   mixture of experts, which is to be balanced over those that do. */
bool pass_counts_tokens(const struct pass *p);
/* Logits (b * T, labels), of whole texts (b, labels), host F32, of the last pass_step, which was
   without backward; those of tokens that do not exist mean nothing. Waits for the device. Only of a
   model with labels. */
int pass_label_logits(struct pass *p, int64_t b, float *logits, struct err *e);
/* Of a headless model: forward over b sequences, and of each the mean of the hidden states of its
   tokens, means (b, C), host F32. drops: as in a step with backward. Waits for the device; means
   NULL: it does not, for they are known. */
int pass_means(struct pass *p, int64_t b, const struct pass_input *in, bool drops, float *means,
    struct err *e);
/* Backward of the last pass_means, which was of the same sequences and dropped: gradient += that of
   a loss whose gradient by the means is dmeans (b, C), host F32. losses (b): added up for
   pass_loss. Only enqueues. */
void pass_means_back(struct pass *p, int64_t b, const struct pass_input *in, const float *dmeans,
    const float *losses);
/* From now on a sequence has so many tokens, T at most: what inputs, targets and logits have a row
   of. Before the place is told. */
void pass_set_tokens(struct pass *p, int64_t tokens);
/* The place, in the order of training, of the first sequence of the next pass_step: LoRA's dropout
   draws by it. It leaves out in steps with backward only. */
void pass_set_place(struct pass *p, int64_t first);
/* From now on such sums are added up apart from those so far; PASS_AHEAD - 1 times at most before
   pass_loss. */
void pass_next_loss(struct pass *p);
/* Of a mixture of experts, before pass_loss, which forgets it: how often each was chosen in steps
   with backward, over all layers; counts (PASS_AHEAD, E) host, by the sums that pass_loss tells. */
int pass_expert_load(struct pass *p, float *counts, struct err *e);
/* Waits for the device: the sums since the last call, one more than calls of pass_next_loss. */
int pass_loss(struct pass *p, double *sums, struct err *e);
/* From now on backward calls ready_fn whenever no more will be added to a part of the gradient,
   with the part's place in the flat range; such parts come from the end towards the start, and not
   all of the gradient is told of. NULL: no calls. */
void pass_watch_gradient(
    struct pass *p, void (*ready_fn)(void *user, int64_t first, int64_t count), void *user);

#endif
