/*
 * model: one configurable transformer, forward and backward written once. Every tensor lives in
 * device memory (never dereferenced here), carved from arenas that memplan sized; nothing is
 * allocated in a step.
 *
 * Training: parameters in compute type t (F32 or BF16) with F32 masters and gradients for what is
 * trainable: everything (METHOD_FULL) or the LoRA factors only. Serving: parameters in t or as
 * stored blocks, a KV cache.
 */
#ifndef RUNTIME_MODEL_MODEL_H
#define RUNTIME_MODEL_MODEL_H

#include "base/err.h"
#include "api/jobspec.h"
#include "kernels/dev.h"
#include "runtime/coll/coll.h"
#include "runtime/family/tensors.h"
#include "runtime/family/weights.h"

#include <stdbool.h>
#include <stdint.h>

struct model;

/* Steps whose losses (and, in optim, norms) the device keeps apart before the host looks. */
#define MODEL_AHEAD 4

/* How the token that follows is drawn: at a temperature (0: greedy), from the nucleus of
   probability top_p, by a number u of [0, 1). */
struct sample_draw {
    float temperature, top_p, u;
};

struct model_conf {
    struct model_config config;
    enum dtype t; /* compute type */
    bool train;
    int64_t micro_sequences; /* B of one forward, training */
    int64_t sequence_length; /* T, training */
    int lora_rank;           /* 0: full training */
    float lora_alpha, lora_dropout;
    const char *const *lora_targets; /* NULL-terminated: "q_proj", ... */
    uint64_t seed;                   /* of random weights, LoRA's A and dropout */
    enum recompute recompute;        /* what of a layer backward makes again: model/backward.c */
    int64_t logit_rows;              /* at once, at most; 0: as many as suit a processor */
    int64_t kv_capacity;             /* tokens, serving */
    struct coll *coll;               /* gradients are placed in its memory when not NULL */
    struct wire_page *page;          /* a beat a layer; or NULL */
};

int model_create(struct dev *d, const struct model_conf *c, struct model **out, struct err *e);
void model_destroy(struct model *m);
int model_load(struct model *m, struct weights *w, struct err *e);
/* normal(0, 0.02), less for projections into the residual where the configuration says so; norms 1,
   biases 0; depends on seed, name and the configuration only */
int model_init_random(struct model *m, struct err *e);
int64_t model_parameters(const struct model *m);
int64_t model_memory_bytes(const struct model *m);

/* The trainable parameters: one flat F32 master and gradient range, and what stands in it. */
const struct tensors *model_trained(const struct model *m);
int64_t model_trainable(const struct model *m); /* elements of the flat ranges */
float *model_master(struct model *m);           /* device F32 */
float *model_gradient(struct model *m);         /* device F32, coll memory */
/* The device BF16 copy of the masters, or NULL when t is F32. */
uint16_t *model_compute_copy(struct model *m);
void model_master_changed(struct model *m); /* masters were written from outside: renews the copy */

/* Forward over (b, T) ids and targets (host), then, when backward, gradients += with dlogits scaled
   by `scale`. *loss_sum: sum over tokens of -log p; NULL: nothing is waited for, and the sum is
   added on the device to what model_loss tells. */
int model_step(struct model *m, int64_t b, const int32_t *inputs, const int32_t *targets,
    float scale, bool backward, double *loss_sum, struct err *e);
/* The place, in the order of training, of the first sequence of the next model_step: LoRA's dropout
   draws by it. It leaves out in steps with backward only. */
void model_set_place(struct model *m, int64_t first);
/* From now on such sums are added up apart from those so far; MODEL_AHEAD - 1 times at most before
   model_loss. */
void model_next_loss(struct model *m);
/* Waits for the device: the sums since the last call, one more than calls of model_next_loss. */
int model_loss(struct model *m, double *sums, struct err *e);
/* From now on backward calls ready_fn whenever no more will be added to a part of the gradient,
   with the part's place in the flat range; such parts come from the end towards the start, and not
   all of the gradient is told of. NULL: no calls. */
void model_watch_gradient(
    struct model *m, void (*ready_fn)(void *user, int64_t first, int64_t count), void *user);
void model_zero_gradient(struct model *m);

/* Serving: run `count` tokens of a sequence after `past` cached ones; logits of the last (or of
   all) to the host, F32; logits NULL: none are computed. */
int model_extend(struct model *m, const int32_t *ids, int64_t count, int64_t past, bool all_logits,
    float *logits, struct err *e);

/* Serving: runs the token `id` after `past` cached ones and draws the one that follows it. The
   logits stay on the device; on one that can record, this is one launch. */
int model_next(struct model *m, int32_t id, int64_t past, const struct sample_draw *draw,
    int32_t *next, struct err *e);

/* Every tensor of the model itself, trained or not (export); offsets are of no use to others. */
const struct tensors *model_base(const struct model *m);

/* One named tensor as F32 on the host, LoRA merged in when merged (export). */
int model_read(
    struct model *m, const char *name, bool merged, float *dst, int64_t count, struct err *e);

#endif
